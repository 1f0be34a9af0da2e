/*
 * test_attn.c - whole attention: against double precision with a derived bound, and the promise
 * that neither tables, tiles, splits over spans nor what lies outside the visible range show.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kern/attn.h"
#include "kern/elem_math.h"
#include "quant/float_types.h"
#include "tables.h"

static tables all;

/* One sequence, one cache with two kv heads of which the second is looked at. */
typedef struct world {
    uint32_t head_dim, group, n_rows, pos0, kv_len, block_tokens, n_blocks;
    oct_attn_cache cache;
    size_t q_stride, kv_stride, block_bytes;
    float *q, *k_rows, *v_rows, *out; /* rows of both kv heads */
    float *k_scale, *k_inv, *k_off, *v_scale, *v_inv, *v_off;
    float *k_token, *v_token; /* [kv_len] of the second kv head, where tokens have scales */
    char *base;
    int32_t *blocks;
    oct_attn_args args;
} world;

enum { KV_HEADS = 2 };

static void *need(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(p);
    memset(p, 0xff, (bytes + 63) / 64 * 64); /* NaN: nothing may be read before it was written */
    return p;
}

static float *rows(uint64_t *seed, size_t n, float scale) {
    float *p = need(n * sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = next_uniform(seed) * scale;
    return p;
}

static void fill_cache(world *w, const oct_kern *k) {
    const oct_kv_cache c = {.cache = w->cache,
                            .n_kv_heads = KV_HEADS,
                            .head_dim = w->head_dim,
                            .block_tokens = w->block_tokens,
                            .base = w->base,
                            .block_bytes = w->block_bytes,
                            .k_inv = w->k_inv,
                            .k_offset = w->k_off,
                            .v_inv = w->v_inv,
                            .v_offset = w->v_off,
                            .k_scale = w->k_scale,
                            .v_scale = w->v_scale};
    for (uint32_t t = 0; t < w->kv_len; t++) {
        const uint64_t block = (uint64_t)w->blocks[t / w->block_tokens];
        oct_kern_kv_put(k, &c, block * w->block_tokens + t % w->block_tokens,
                        w->k_rows + t * w->kv_stride, w->v_rows + t * w->kv_stride);
    }
}

static float scale_of(const float *x, uint32_t n) {
    float absmax = 0;
    for (uint32_t i = 0; i < n; i++) absmax = fmaxf(absmax, fabsf(x[i]));
    return fmaxf(absmax / 127.0f, 1e-6f);
}

static void world_init(world *w, const oct_kern *k, uint64_t seed, oct_attn_cache cache,
                       uint32_t head_dim, uint32_t group, uint32_t n_rows, uint32_t kv_len,
                       uint32_t block_tokens) {
    const uint32_t n_blocks = (kv_len + block_tokens - 1) / block_tokens + 1;
    const size_t hd2 = (size_t)KV_HEADS * head_dim;
    *w = (world){.head_dim = head_dim, .group = group, .n_rows = n_rows, .kv_len = kv_len};
    w->pos0 = kv_len - n_rows;
    w->block_tokens = block_tokens;
    w->n_blocks = n_blocks;
    w->cache = cache;
    w->q_stride = (size_t)group * head_dim + 5;
    w->kv_stride = hd2 + 3;
    w->q = rows(&seed, n_rows * w->q_stride, 3.0f);
    w->k_rows = rows(&seed, kv_len * w->kv_stride, 2.0f);
    w->v_rows = rows(&seed, kv_len * w->kv_stride, 1.0f);
    w->k_scale = rows(&seed, hd2, 0.002f);
    w->v_scale = rows(&seed, hd2, 0.002f);
    w->k_off = rows(&seed, hd2, 9.0f);
    w->v_off = rows(&seed, hd2, 9.0f);
    w->k_inv = need(hd2 * sizeof(float));
    w->v_inv = need(hd2 * sizeof(float));
    for (size_t i = 0; i < hd2; i++) {
        w->k_scale[i] += 0.016f;
        w->v_scale[i] += 0.009f;
        w->k_inv[i] = 1.0f / w->k_scale[i];
        w->v_inv[i] = 1.0f / w->v_scale[i];
    }
    w->k_token = need(kv_len * sizeof(float));
    w->v_token = need(kv_len * sizeof(float));
    for (uint32_t t = 0; t < kv_len; t++) {
        w->k_token[t] = scale_of(w->k_rows + t * w->kv_stride + head_dim, head_dim);
        w->v_token[t] = scale_of(w->v_rows + t * w->kv_stride + head_dim, head_dim);
    }
    w->blocks = need(n_blocks * sizeof *w->blocks);
    for (uint32_t i = 0; i < n_blocks; i++) w->blocks[i] = (int32_t)(n_blocks - 1 - i);
    const size_t head_bytes = oct_kern_kv_head_bytes(cache, head_dim);
    w->block_bytes = block_tokens / OCT_ATTN_SUB * KV_HEADS * head_bytes;
    w->base = need(n_blocks * w->block_bytes + 64);
    w->out = need(n_rows * w->q_stride * sizeof(float));
    if (cache != OCT_ATTN_ROWS) fill_cache(w, k);
    w->args = (oct_attn_args){.q = w->q,
                              .q_stride = w->q_stride,
                              .n_rows = n_rows,
                              .group = group,
                              .head_dim = head_dim,
                              .pos0 = w->pos0,
                              .kv_len = kv_len,
                              .scale = 1.0f / sqrtf((float)head_dim),
                              .causal = true,
                              .cache = cache,
                              .kv = w->base + head_bytes,
                              .block_bytes = w->block_bytes,
                              .sub_bytes = KV_HEADS * head_bytes,
                              .blocks = w->blocks,
                              .block_tokens = block_tokens,
                              .k_scale = w->k_scale + head_dim,
                              .v_scale = w->v_scale + head_dim,
                              .v_offset = cache == OCT_ATTN_I8 ? w->v_off + head_dim : NULL,
                              .k_rows = w->k_rows + head_dim,
                              .v_rows = w->v_rows + head_dim,
                              .kv_stride = w->kv_stride,
                              .out = w->out,
                              .out_stride = w->q_stride};
}

static void world_fini(world *w) {
    void *all_of[] = {w->q,     w->k_rows, w->v_rows,  w->out,    w->k_scale,
                      w->k_inv, w->k_off,  w->v_scale, w->v_inv,  w->v_off,
                      w->base,  w->blocks, w->k_token, w->v_token};
    for (size_t i = 0; i < sizeof all_of / sizeof *all_of; i++) free(all_of[i]);
}

/* ---- what it should be ------------------------------------------------------------------------
 */

static bool sees(const oct_attn_args *a, uint32_t row, uint32_t t) {
    const int64_t p = (int64_t)a->pos0 + row;
    if (a->causal && t > p) return false;
    if (a->window && t <= p - (int64_t)a->window) return false;
    if (a->window && !a->causal && t >= p + (int64_t)a->window) return false;
    return t < a->kv_len;
}

static float token_scale(const world *w, bool value, uint32_t t) {
    return (value ? w->v_token : w->k_token)[t];
}

static int32_t token_int8(const world *w, bool value, uint32_t t, uint32_t d) {
    const float x = (value ? w->v_rows : w->k_rows)[t * w->kv_stride + w->head_dim + d];
    return oct_sat8_rne(x * (1.0f / token_scale(w, value, t)));
}

/* The value that the cache holds for channel d (of the second kv head) of token t. With a scale a
 * channel: in units of the scale, offset included. */
static double cached(const world *w, bool value, uint32_t t, uint32_t d) {
    const uint32_t c = w->head_dim + d;
    const float x = (value ? w->v_rows : w->k_rows)[t * w->kv_stride + c];
    switch (w->cache) {
    case OCT_ATTN_BF16:
        return (double)oct_bf16_to_f32(oct_f32_to_bf16(x));
    case OCT_ATTN_F16:
        return (double)oct_f16_to_f32(oct_f32_to_f16(x));
    case OCT_ATTN_FP8:
        return (double)oct_e4m3_to_f32(oct_f32_to_e4m3(x / (value ? w->v_scale : w->k_scale)[c]));
    case OCT_ATTN_I8_TOKEN:
        return token_int8(w, value, t, d) * (double)token_scale(w, value, t);
    case OCT_ATTN_I8:
        break;
    default:
        return (double)x;
    }
    const float inv = (value ? w->v_inv : w->k_inv)[c], off = (value ? w->v_off : w->k_off)[c];
    const float scaled = x * inv;
    return (double)oct_sat8_rne(scaled + off);
}

typedef struct judged {
    double worst; /* |got - want| as a part of what the bound allows */
    double worst_error;
} judged;

/*
 * The bound. A weight is exp(s - m) with s off by at most `slack`: for int8 half a unit of each
 * 24-bit q component against |k8|, for float the roundings of the chain; then a few roundings of
 * score and exp. Rounding a weight to its last bit moves it by min(p, half a unit) at most (a
 * span's own maximum is no larger than the row's, so its unit is not larger either). With v' = v -
 * out,
 *
 *     |error| <= ((e^(2 slack) - 1) sum p |v'| + sum min(p, unit/2) |v'|) / L  + roundings of o.
 *
 * With a scale a token what is rounded is p times the scale of the value, in units of the largest:
 * that and the sum of p move on their own, sum (largest scale * |v8| + |out|) * unit/2.
 */
static void judge_row(const world *w, uint32_t row, uint32_t g, judged *j) {
    const oct_attn_args *a = &w->args;
    const uint32_t hd = w->head_dim;
    const bool i8 = w->cache == OCT_ATTN_I8, token = w->cache == OCT_ATTN_I8_TOKEN;
    const bool scaled = i8 || w->cache == OCT_ATTN_FP8, whole = i8 || token;
    const float *q = a->q + row * a->q_stride + g * hd;
    double *s = calloc(w->kv_len, sizeof *s), max = -INFINITY, total = 0, absmax = 0, slack = 0;
    double most_scale = 0;

    for (uint32_t d = 0; d < hd; d++)
        absmax = fmax(absmax, fabs((double)q[d] * (scaled ? (double)a->k_scale[d] : 1.0)));
    for (uint32_t t = 0; token && t < w->kv_len; t++)
        if (sees(a, row, t)) most_scale = fmax(most_scale, (double)token_scale(w, true, t));
    for (uint32_t t = 0; t < w->kv_len; t++) {
        double sum = 0, size = 0, off = 0;
        if (!sees(a, row, t)) continue;
        for (uint32_t d = 0; d < hd; d++) {
            const double k = cached(w, false, t, d), f = scaled ? (double)a->k_scale[d] : 1.0;
            sum += (double)q[d] * f * k;
            size += fabs((double)q[d] * f * k);
            off += fabs(k) * absmax / 32512.0 * 0.5;
        }
        const double rounding = (whole ? 8.0 : (double)hd + 9.0) * 0x1p-24 * size;
        slack = fmax(slack, ((whole ? off : 0.0) + rounding) * (double)a->scale);
        s[t] = sum * (double)a->scale;
        if (a->softcap != 0) s[t] = (double)a->softcap * tanh(s[t] / (double)a->softcap);
        max = fmax(max, s[t]);
    }
    slack += 8 * 0x1p-24 * (fabs(max) + (double)a->softcap + 2);
    for (uint32_t t = 0; t < w->kv_len; t++) total += sees(a, row, t) ? exp(s[t] - max) : 0.0;
    for (uint32_t d = 0; d < hd; d++) {
        double want = 0, by_slack = 0, by_unit = 0, size = 0;
        for (uint32_t t = 0; t < w->kv_len; t++)
            if (sees(a, row, t)) {
                want += exp(s[t] - max) / total * cached(w, true, t, d);
                size += exp(s[t] - max) / total * fabs(cached(w, true, t, d));
            }
        for (uint32_t t = 0; t < w->kv_len; t++) {
            if (!sees(a, row, t)) continue;
            const double p = exp(s[t] - max), far = fabs(cached(w, true, t, d) - want);
            by_slack += p * far;
            by_unit +=
                token
                    ? (most_scale / (double)token_scale(w, true, t) * fabs(cached(w, true, t, d)) +
                       fabs(want)) *
                          (0.5 / 8388352.0)
                    : fmin(p, 0.5 / 32767.0) * far;
        }
        double bound = ((exp(2 * slack) - 1) * by_slack + (whole ? by_unit : 0.0)) / total;
        bound += (16.0 + (whole ? 0.0 : 140.0)) * 0x1p-24 * size + 1e-30;
        if (scaled) {
            want = (want - (i8 ? (double)a->v_offset[d] : 0.0)) * (double)a->v_scale[d];
            bound = (bound + 0x1p-22 * (size + 10)) * (double)a->v_scale[d];
        }
        const double error = fabs(want - (double)a->out[row * a->out_stride + g * hd + d]);
        j->worst = fmax(j->worst, error / bound);
        j->worst_error = fmax(j->worst_error, error);
        if (!(error <= bound)) j->worst = INFINITY;
    }
    free(s);
}

static void attend(const oct_kern *k, const oct_attn_args *a) {
    void *scratch = need(oct_kern_attn_scratch_bytes(a->group, a->head_dim));
    oct_kern_attn(k, a, scratch);
    free(scratch);
}

/* ---- variations that must not show ------------------------------------------------------------
 */

static float *copy_out(const world *w) {
    const size_t bytes = w->n_rows * w->q_stride * sizeof(float);
    float *p = need(bytes);
    memcpy(p, w->out, bytes);
    memset(w->out, 0xff, bytes);
    return p;
}

static void same_out(const world *w, const float *want) {
    for (uint32_t r = 0; r < w->n_rows; r++) {
        const size_t at = r * w->q_stride, n = (size_t)w->group * w->head_dim;
        assert_memory_equal(want + at, w->out + at, n * sizeof(float));
    }
}

static void in_chunks(const oct_kern *k, const world *w, uint32_t chunk) {
    for (uint32_t r = 0; r < w->n_rows; r += chunk) {
        oct_attn_args a = w->args;
        a.q += r * a.q_stride;
        a.out += r * a.out_stride;
        a.pos0 += r;
        a.n_rows = w->n_rows - r < chunk ? w->n_rows - r : chunk;
        /* Prompts run chunk by chunk: the later tokens are not there yet. */
        if (a.causal) a.kv_len = a.pos0 + a.n_rows;
        attend(k, &a);
    }
}

static void by_spans(const oct_kern *k, const world *w, uint32_t at_once) {
    const oct_attn_args *a = &w->args;
    const size_t per_span = oct_kern_attn_partial_floats(a);
    uint32_t begin, end;
    oct_kern_attn_span_range(a, &begin, &end);
    float *partials = need((end - begin) * per_span * sizeof(float));
    void *scratch = need(oct_kern_attn_scratch_bytes(a->group, a->head_dim));
    for (uint32_t left = end; left > begin;) { /* last first: the order must not matter */
        const uint32_t from = left - begin > at_once ? left - at_once : begin;
        oct_kern_attn_spans(k, a, from, left, partials + (from - begin) * per_span, scratch);
        left = from;
    }
    oct_kern_attn_combine(k, a, partials);
    free(scratch);
    free(partials);
}

static judged check_world(world *w) {
    judged j = {0};
    attend(&all.k[0], &w->args);
    for (uint32_t r = 0; r < w->n_rows; r++)
        for (uint32_t g = 0; g < w->group; g++) judge_row(w, r, g, &j);
    assert_true(j.worst <= 1.0);

    float *want = copy_out(w);
    for (int t = 0; t < all.n; t++) {
        attend(&all.k[t], &w->args);
        same_out(w, want);
        static const uint32_t chunks[] = {1, 2, 5, 19};
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
            in_chunks(&all.k[t], w, chunks[c]);
            same_out(w, want);
        }
        by_spans(&all.k[t], w, 1);
        same_out(w, want);
        by_spans(&all.k[t], w, 3);
        same_out(w, want);
    }
    free(want);
    return j;
}

/*
 * docs/numerics.md, attention over an int8 cache (either kind), once more and as plainly as it is
 * worded there: one vector, one loop over all tokens of a span, no tiles, no slots.
 */
/* sum of (high * x) * 256 + sum of (low * x), each exact, as the contract joins them. */
typedef struct parts {
    int32_t high, low;
} parts;

static void add_product(parts *sum, int32_t x24, int32_t y) {
    const int32_t high = (x24 + 128) >> 8;
    sum->high += high * y;
    sum->low += (x24 - 256 * high) * y;
}

static float join(parts sum) { return fmaf((float)sum.high, 256.0f, (float)sum.low); }

static int32_t int8_of(const world *w, bool value, uint32_t t, uint32_t d) {
    return w->cache == OCT_ATTN_I8_TOKEN ? token_int8(w, value, t, d)
                                         : (int32_t)cached(w, value, t, d);
}

static void literal_i8(const world *w, uint32_t row, uint32_t g, float *out) {
    const oct_attn_args *a = &w->args;
    const uint32_t hd = w->head_dim;
    const bool token = w->cache == OCT_ATTN_I8_TOKEN;
    const float *q = a->q + row * a->q_stride + g * hd;
    float absmax = 0, big_m = 0, big_l = 0, big_o[OCT_ATTN_MAX_HEAD];
    int32_t q24[OCT_ATTN_MAX_HEAD];
    bool first = true;

    for (uint32_t d = 0; d < hd; d++)
        absmax = fmaxf(absmax, fabsf(token ? q[d] : q[d] * a->k_scale[d]));
    for (uint32_t d = 0; d < hd; d++)
        q24[d] = (int32_t)rintf((token ? q[d] : q[d] * a->k_scale[d]) * (8323072.0f / absmax));
    const float factor = absmax / 8323072.0f * a->scale;

    for (uint32_t span = 0; span < w->kv_len; span += 128) {
        float s[128], m = -INFINITY, most = 0;
        int32_t p24[128], l = 0;
        for (uint32_t t = span; t < span + 128 && t < w->kv_len; t++) {
            parts sum = {0, 0};
            for (uint32_t d = 0; d < hd; d++) add_product(&sum, q24[d], int8_of(w, false, t, d));
            s[t - span] = join(sum) * factor;
            if (token) s[t - span] *= token_scale(w, false, t);
            if (sees(a, row, t)) m = fmaxf(m, s[t - span]);
        }
        for (uint32_t t = span; t < span + 128 && t < w->kv_len; t++) {
            const float p = sees(a, row, t) ? oct_exp_f32(s[t - span] - m) : 0;
            p24[t - span] = (int32_t)rintf(p * 8388352.0f);
            l += p24[t - span];
            s[t - span] = token ? p * token_scale(w, true, t) : p;
            most = fmaxf(most, s[t - span]);
        }
        for (uint32_t t = span; token && t < span + 128 && t < w->kv_len; t++)
            p24[t - span] = (int32_t)rintf(s[t - span] * (8388352.0f / most));
        if (!token) most = 1.0f;
        if (l == 0) continue;
        const float new_m = first ? m : fmaxf(big_m, m);
        const float wa = oct_exp_f32(big_m - new_m), wb = oct_exp_f32(m - new_m);
        big_l = first ? (float)l : fmaf(big_l, wa, (float)l * wb);
        for (uint32_t d = 0; d < hd; d++) {
            parts sum = {0, 0};
            for (uint32_t t = span; t < span + 128 && t < w->kv_len; t++)
                add_product(&sum, p24[t - span], int8_of(w, true, t, d));
            const float o = join(sum);
            big_o[d] = first ? o * most : fmaf(big_o[d], wa, o * (wb * most));
        }
        big_m = new_m;
        first = false;
    }
    const float r = 1.0f / big_l;
    for (uint32_t d = 0; d < hd; d++)
        out[d] = token ? big_o[d] * r : (big_o[d] * r - a->v_offset[d]) * a->v_scale[d];
}

/* ---- tests ------------------------------------------------------------------------------------
 */

static const oct_attn_cache caches[] = {OCT_ATTN_I8,   OCT_ATTN_F32,      OCT_ATTN_BF16,
                                        OCT_ATTN_ROWS, OCT_ATTN_I8_TOKEN, OCT_ATTN_FP8,
                                        OCT_ATTN_F16};
static const char *const names[] = {"int8", "f32", "bf16", "rows", "int8 by token", "fp8", "half"};

static void shapes(void **s) {
    (void)s;
    static const struct {
        uint32_t hd, group, rows, kv_len, block;
    } cases[] = {{16, 1, 1, 1, 32},    {16, 2, 3, 33, 32},    {32, 3, 7, 127, 64},
                 {64, 3, 40, 40, 32},  {64, 9, 5, 300, 32},   {80, 4, 9, 129, 96},
                 {96, 5, 2, 256, 32},  {128, 7, 6, 257, 128}, {64, 6, 1, 511, 32},
                 {20, 8, 11, 160, 32}, {256, 1, 3, 140, 32},  {64, 30, 2, 130, 32},
                 {128, 2, 33, 33, 32}};
    for (size_t c = 0; c < sizeof caches / sizeof *caches; c++) {
        judged all_of = {0};
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            world w;
            world_init(&w, &all.k[0], 100 + i, caches[c], cases[i].hd, cases[i].group,
                       cases[i].rows, cases[i].kv_len, cases[i].block);
            const judged j = check_world(&w);
            all_of.worst = fmax(all_of.worst, j.worst);
            all_of.worst_error = fmax(all_of.worst_error, j.worst_error);
            world_fini(&w);
        }
        printf("%s: worst error %.2e, %.2f of the bound\n", names[c], all_of.worst_error,
               all_of.worst);
    }
}

static void windows_caps_and_directions(void **s) {
    (void)s;
    static const uint32_t windows[] = {0, 1, 2, 31, 100, 128, 1000};
    for (size_t c = 0; c < sizeof caches / sizeof *caches; c++)
        for (size_t i = 0; i < sizeof windows / sizeof *windows; i++)
            for (int how = 0; how < 4; how++) {
                world w;
                world_init(&w, &all.k[0], 7 + i, caches[c], 32, 3, 21, 290, 32);
                w.args.window = windows[i];
                w.args.causal = how & 1;
                w.args.softcap = how & 2 ? 1.5f : 0.0f;
                check_world(&w);
                world_fini(&w);
            }
}

/* To the bit, also where scores of spans lie further apart than exp reaches. */
static void int8_is_what_the_contract_says(void **s) {
    (void)s;
    static const float sizes[] = {1.0f, 0.01f, 40.0f, 500.0f};
    float want[OCT_ATTN_MAX_HEAD];
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++)
        for (int t = 0; t < all.n; t++) {
            world w;
            world_init(&w, &all.k[t], 50 + i, i % 2 ? OCT_ATTN_I8_TOKEN : OCT_ATTN_I8, 64, 3, 9,
                       600, 64);
            for (size_t j = 0; j < w.n_rows * w.q_stride; j++) w.q[j] *= sizes[i / 2];
            w.args.window = i & 2 ? 300 : 0;
            attend(&all.k[t], &w.args);
            for (uint32_t r = 0; r < w.n_rows; r++)
                for (uint32_t g = 0; g < w.group; g++) {
                    literal_i8(&w, r, g, want);
                    assert_memory_equal(want, w.out + r * w.q_stride + g * 64, sizeof *want * 64);
                }
            world_fini(&w);
        }
}

static void what_is_not_seen_does_not_matter(void **s) {
    (void)s;
    for (size_t c = 0; c < sizeof caches / sizeof *caches; c++)
        for (int t = 0; t < all.n; t++) {
            world w;
            world_init(&w, &all.k[t], 77, caches[c], 64, 3, 4, 200, 32);
            w.args.window = 50;
            attend(&all.k[t], &w.args);
            float *want = copy_out(&w);
            /* Tokens 0..146 are behind every window, 199 is after all but the last row. */
            for (uint32_t i = 0; i < 146; i++)
                for (size_t d = 0; d < w.kv_stride; d++)
                    w.k_rows[i * w.kv_stride + d] = w.v_rows[i * w.kv_stride + d] = NAN;
            for (size_t d = 0; d < w.kv_stride; d++) w.v_rows[199 * w.kv_stride + d] = NAN;
            if (w.cache != OCT_ATTN_ROWS) fill_cache(&w, &all.k[t]);
            attend(&all.k[t], &w.args);
            w.n_rows--;
            same_out(&w, want);
            w.n_rows++;
            free(want);
            world_fini(&w);
        }
}

static void a_lost_row_is_nan_and_alone(void **s) {
    (void)s;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t c = 0; c < sizeof caches / sizeof *caches; c++)
        for (int t = 0; t < all.n; t++)
            for (int b = 0; b < 3; b++) {
                world w;
                world_init(&w, &all.k[t], 5, caches[c], 64, 3, 6, 150, 32);
                attend(&all.k[t], &w.args);
                float *want = copy_out(&w);
                w.q[2 * w.q_stride + 64 + 9] = bad[b]; /* row 2, head 1 */
                for (int split = 0; split < 2; split++) {
                    if (split)
                        by_spans(&all.k[t], &w, 1);
                    else
                        attend(&all.k[t], &w.args);
                    for (int d = 0; d < 64; d++) {
                        assert_true(isnan(w.out[2 * w.q_stride + 64 + d]));
                        w.out[2 * w.q_stride + 64 + d] = want[2 * w.q_stride + 64 + d];
                    }
                    same_out(&w, want);
                }
                free(want);
                world_fini(&w);
            }
}

static void a_row_that_sees_nothing_is_zero(void **s) {
    (void)s;
    for (size_t c = 0; c < sizeof caches / sizeof *caches; c++)
        for (int t = 0; t < all.n; t++) {
            world w;
            world_init(&w, &all.k[t], 5, caches[c], 32, 2, 3, 40, 32);
            w.args.pos0 = 100; /* the window lies behind the end of the cache */
            w.args.window = 10;
            attend(&all.k[t], &w.args);
            for (int r = 0; r < 3; r++)
                for (int d = 0; d < 64; d++)
                    assert_true(w.out[(size_t)r * w.q_stride + (size_t)d] == 0.0f);
            world_fini(&w);
        }
}

/* Rows of K and V are read by the arithmetic of the f32 cache. */
static void rows_equal_the_float_cache(void **s) {
    (void)s;
    world f, r;
    world_init(&f, &all.k[0], 31, OCT_ATTN_F32, 96, 4, 9, 170, 32);
    world_init(&r, &all.k[0], 31, OCT_ATTN_ROWS, 96, 4, 9, 170, 32);
    for (int t = 0; t < all.n; t++) {
        attend(&all.k[t], &f.args);
        attend(&all.k[t], &r.args);
        same_out(&r, f.out);
    }
    world_fini(&f);
    world_fini(&r);
}

/* A constant added to every value comes out again: the weights sum to one. */
static void equal_keys_give_the_mean(void **s) {
    (void)s;
    for (int t = 0; t < all.n; t++) {
        world w;
        world_init(&w, &all.k[t], 9, OCT_ATTN_I8, 64, 1, 1, 100, 32);
        memset(w.q, 0, w.q_stride * sizeof *w.q);
        attend(&all.k[t], &w.args);
        for (uint32_t d = 0; d < 64; d++) {
            double mean = 0;
            for (uint32_t i = 0; i < 100; i++) mean += cached(&w, true, i, d) / 100;
            mean = (mean - (double)w.v_off[64 + d]) * (double)w.v_scale[64 + d];
            assert_true(fabs(mean - (double)w.out[d]) < 1e-6);
        }
        world_fini(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(windows_caps_and_directions),
        cmocka_unit_test(int8_is_what_the_contract_says),
        cmocka_unit_test(what_is_not_seen_does_not_matter),
        cmocka_unit_test(a_lost_row_is_nan_and_alone),
        cmocka_unit_test(a_row_that_sees_nothing_is_zero),
        cmocka_unit_test(rows_equal_the_float_cache),
        cmocka_unit_test(equal_keys_give_the_mean),
    };
    tables_init(&all);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
