/*
 * kern/attn.c - attention put together from the slots of the table: which tokens a row sees, tiles
 * of query vectors, spans, and their combination.
 *
 * A tile is some rows times the heads of the group, at most about TILE vectors, so that a sub-block
 * of K and V read once serves them all: for prompts the cache is then read from L1, for decoding
 * the group shares one pass. Everything about a vector is computed by the same calls whatever the
 * tile, which is why the tile does not show in the result.
 */
#include "kern/attn.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "kern/elem_math.h"
#include "kern/pack.h"

enum {
    TILE = 24, /* vectors; a group larger than that is a tile of its own */
    SUBS = OCT_ATTN_SPAN / OCT_ATTN_SUB,
};

/* What a span says of one vector, and what the spans so far say together. */
typedef struct span_part {
    float m; /* largest score; not finite: the row is lost */
    float l; /* sum of the probabilities; 0: no visible token */
    float w; /* what the span's values are to be multiplied by; 1 but for a scale a token */
} span_part;

typedef struct tile {
    const oct_attn_args *a;
    const oct_kern *k;
    uint32_t row0, n_rows, n_vec;
    uint32_t q_pad;  /* head_dim padded for K's panels */
    uint32_t o_pad;  /* head_dim padded to whole panels */
    uint32_t lo, hi; /* tokens that some row of the tile sees */

    /* scratch; [n_vec] or [n_vec][...] */
    float *q_factor;  /* int8: q scale * softmax scale */
    span_part *part;  /* of the current span */
    span_part *total; /* of the spans so far */
    float *acc;       /* [o_pad] of the spans so far */
    /* Two rows a vector in int8 mode, high and low parts; of the float rows the first is used. */
    void *out;    /* [2][o_pad] of the current span: int32 or float */
    int16_t *q24; /* [2][q_pad]; E4M3: float [q_pad], times the scales of K */
    void *score;  /* [2][SPAN] int32 or float */
    int16_t *p24; /* [2][SPAN] */
    void *step;   /* int8: V of the span; else a sub-block as floats, where it is not stored so */
} tile;

/* The scales of K's channels where tokens have scales. */
#define ONES_16 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1
#define ONES_64 ONES_16, ONES_16, ONES_16, ONES_16
static const float ones[OCT_ATTN_MAX_HEAD] = {ONES_64, ONES_64, ONES_64, ONES_64};

static bool is_i8(oct_attn_cache cache) {
    return cache == OCT_ATTN_I8 || cache == OCT_ATTN_I8_TOKEN;
}

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
static bool finite_f32(float x) { return oct_abs_bits_finite(oct_f32_abs_bits(x)); }
static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

static uint32_t tile_rows(uint32_t group) { return group >= TILE ? 1 : TILE / group; }

/* ---- which tokens --------------------------------------------------------------------------- */

static void visible(const oct_attn_args *a, uint32_t row, uint32_t *lo, uint32_t *hi) {
    const uint64_t pos = (uint64_t)a->pos0 + row;
    uint64_t end = a->kv_len, begin = 0;
    if (a->causal && pos + 1 < end) end = pos + 1;
    if (a->window) {
        if (pos + 1 > a->window) begin = pos + 1 - a->window;
        if (!a->causal && pos + a->window < end) end = pos + a->window;
    }
    *hi = (uint32_t)end;
    *lo = begin < end ? (uint32_t)begin : (uint32_t)end;
}

/* Rows are at consecutive positions: the first sees the earliest token, the last the latest. */
static void visible_rows(const oct_attn_args *a, uint32_t row0, uint32_t n, uint32_t *lo,
                         uint32_t *hi) {
    uint32_t ignored;
    *lo = *hi = 0;
    if (n == 0) return;
    visible(a, row0, lo, &ignored);
    visible(a, row0 + n - 1, &ignored, hi);
}

/* The part of [lo, hi) inside the span, relative to it; false when there is none. */
static bool clip(uint32_t lo, uint32_t hi, uint64_t span_start, uint32_t *from, uint32_t *to) {
    if (hi <= span_start || lo >= span_start + OCT_ATTN_SPAN || lo >= hi) return false;
    *from = lo > span_start ? (uint32_t)(lo - span_start) : 0;
    *to = min_u32((uint32_t)(hi - span_start), OCT_ATTN_SPAN);
    return true;
}

/* ---- where things lie ----------------------------------------------------------------------- */

static const char *sub_block(const oct_attn_args *a, uint32_t token) {
    const size_t block = (size_t)a->blocks[token / a->block_tokens];
    return (const char *)a->kv + block * a->block_bytes +
           (size_t)(token % a->block_tokens / OCT_ATTN_SUB) * a->sub_bytes;
}

static const float *query(const tile *t, uint32_t vec) {
    const oct_attn_args *a = t->a;
    return a->q + (size_t)(t->row0 + vec / a->group) * a->q_stride +
           (size_t)(vec % a->group) * a->head_dim;
}

static float *scaled_query(const tile *t, uint32_t vec) {
    return (float *)(void *)(t->q24 + (size_t)vec * 2 * t->q_pad);
}

/* base NULL: only the size is wanted. */
static void *take(char *base, size_t *at, size_t bytes) {
    void *p = base ? base + *at : NULL;
    *at += round_up(bytes, 64);
    return p;
}

static size_t lay_out(tile *t, char *base, uint32_t n_vec, uint32_t head_dim) {
    size_t at = 0;
    t->q_pad = oct_pack_kpad(head_dim);
    t->o_pad = (uint32_t)round_up(head_dim, OCT_PANEL_OUTPUTS);
    t->q_factor = take(base, &at, n_vec * sizeof(float));
    t->part = take(base, &at, n_vec * sizeof(span_part));
    t->total = take(base, &at, n_vec * sizeof(span_part));
    t->acc = take(base, &at, (size_t)n_vec * t->o_pad * sizeof(float));
    t->out = take(base, &at, (size_t)n_vec * 2 * t->o_pad * sizeof(int32_t));
    t->q24 = take(base, &at, (size_t)n_vec * 2 * t->q_pad * sizeof(int16_t));
    t->score = take(base, &at, (size_t)n_vec * 2 * OCT_ATTN_SPAN * sizeof(int32_t));
    t->p24 = take(base, &at, (size_t)n_vec * 2 * OCT_ATTN_SPAN * sizeof(int16_t));
    t->step = take(base, &at, (size_t)OCT_ATTN_SPAN * t->o_pad);
    return at;
}

size_t oct_kern_attn_scratch_bytes(uint32_t group, uint32_t head_dim) {
    tile t;
    return lay_out(&t, NULL, tile_rows(group) * group, head_dim);
}

static void tile_begin(tile *t, const oct_kern *k, const oct_attn_args *a, uint32_t row0,
                       void *scratch) {
    OCT_ASSERT(a->head_dim >= 1 && a->head_dim <= OCT_ATTN_MAX_HEAD && a->group >= 1);
    t->k = k;
    t->a = a;
    t->row0 = row0;
    t->n_rows = min_u32(tile_rows(a->group), a->n_rows - row0);
    t->n_vec = t->n_rows * a->group;
    lay_out(t, scratch, t->n_vec, a->head_dim);
    visible_rows(a, row0, t->n_rows, &t->lo, &t->hi);
    if (a->cache == OCT_ATTN_FP8) {
        for (uint32_t v = 0; v < t->n_vec; v++)
            for (uint32_t d = 0; d < a->head_dim; d++)
                scaled_query(t, v)[d] = query(t, v)[d] * a->k_scale[d];
    } else if (is_i8(a->cache)) {
        const float *k_scale = a->cache == OCT_ATTN_I8 ? a->k_scale : ones;
        for (uint32_t v = 0; v < t->n_vec; v++)
            t->q_factor[v] = k->attn.q24(t->q24 + (size_t)v * 2 * t->q_pad, query(t, v), k_scale,
                                         a->head_dim, t->q_pad) *
                             a->scale;
    }
}

/* ---- one span, int8 cache ------------------------------------------------------------------- */

/* The V panels of sub-blocks [sub0, sub_end) as panels of a span: a panel's K runs over tokens, so
 * its pieces are laid end to end. One long product is worth the copy, for a single vector too. */
static void gather_values(tile *t, const char *const *sub_at, uint32_t sub0, uint32_t sub_end) {
    enum { PIECE = OCT_ATTN_SUB * OCT_PANEL_OUTPUTS };
    const size_t v = oct_kern_kv_v_offset(OCT_ATTN_I8, t->a->head_dim);
    const size_t panel_bytes = (size_t)(sub_end - sub0) * PIECE;
    char *to = t->step;
    for (uint32_t s = sub0; s < sub_end; s++, to += PIECE)
        for (uint32_t p = 0; p < t->o_pad / OCT_PANEL_OUTPUTS; p++)
            memcpy(to + p * panel_bytes, sub_at[s] + v + (size_t)p * PIECE, PIECE);
}

/* The scales of a span's tokens, K's and V's, where sub_at is not NULL. */
static void gather_scales(const tile *t, const char *const *sub_at, float (*k)[OCT_ATTN_SUB],
                          float (*v)[OCT_ATTN_SUB]) {
    const size_t at = oct_kern_kv_scale_offset(t->a->head_dim);
    for (uint32_t s = 0; s < SUBS; s++) {
        if (!sub_at[s]) continue;
        memcpy(k[s], sub_at[s] + at, sizeof k[s]);
        memcpy(v[s], sub_at[s] + at + sizeof k[s], sizeof v[s]);
    }
}

static void span_i8(tile *t, uint64_t start, uint32_t from, uint32_t to) {
    const oct_attn_args *a = t->a;
    int32_t *score = t->score;
    const uint32_t sub0 = from / OCT_ATTN_SUB, sub_end = (to - 1) / OCT_ATTN_SUB + 1;
    const char *sub_at[SUBS] = {0};
    const bool by_token = a->cache == OCT_ATTN_I8_TOKEN;
    float k_scale[SUBS][OCT_ATTN_SUB], v_scale[SUBS][OCT_ATTN_SUB];

    for (uint32_t s = sub0; s < sub_end; s++) {
        sub_at[s] = sub_block(a, (uint32_t)start + s * OCT_ATTN_SUB);
        t->k->gemm_i16(t->q24, t->q_pad, 2 * t->n_vec, (const int8_t *)sub_at[s], t->q_pad,
                       (size_t)t->q_pad * OCT_PANEL_OUTPUTS, OCT_ATTN_SUB / OCT_PANEL_OUTPUTS,
                       score + s * OCT_ATTN_SUB, OCT_ATTN_SPAN);
    }
    if (by_token) gather_scales(t, sub_at, k_scale, v_scale);
    oct_attn_score how = {.cap = a->softcap, .inv_cap = a->softcap != 0 ? 1.0f / a->softcap : 0};
    for (uint32_t v = 0; v < t->n_vec; v++) {
        int16_t *p24 = t->p24 + (size_t)v * 2 * OCT_ATTN_SPAN;
        uint32_t lo, hi;
        int32_t l = 0;
        visible(a, t->row0 + v / a->group, &lo, &hi);
        t->part[v] = (span_part){.w = 1.0f};
        how.factor = t->q_factor[v];
        if (!clip(lo, hi, start, &lo, &hi)) {
            /* sees nothing here */
        } else if (!finite_f32(how.factor)) {
            t->part[v].m = NAN;
        } else if (by_token) {
            t->k->attn.softmax_i8_token(p24, score + (size_t)v * 2 * OCT_ATTN_SPAN, lo, hi, &how,
                                        k_scale[0], v_scale[0], &t->part[v].m, &l, &t->part[v].w);
        } else {
            t->k->attn.softmax_i8(p24, score + (size_t)v * 2 * OCT_ATTN_SPAN, lo, hi, &how,
                                  &t->part[v].m, &l);
        }
        t->part[v].l = (float)l;
        if (l == 0) memset(p24, 0, 2 * (size_t)OCT_ATTN_SPAN * sizeof *p24);
    }
    gather_values(t, sub_at, sub0, sub_end);
    const uint32_t n_tokens = (sub_end - sub0) * OCT_ATTN_SUB;
    t->k->gemm_i16(t->p24 + sub0 * OCT_ATTN_SUB, OCT_ATTN_SPAN, 2 * t->n_vec, t->step, n_tokens,
                   (size_t)n_tokens * OCT_PANEL_OUTPUTS, t->o_pad / OCT_PANEL_OUTPUTS, t->out,
                   t->o_pad);
}

/* ---- one span, float ------------------------------------------------------------------------ */

/* A sub-block of K rows as [head_dim][32]; tokens that are not there are zeros. */
static const void *transposed(tile *t, uint32_t token) {
    const oct_attn_args *a = t->a;
    float *kt = t->step;
    const uint32_t n = min_u32(a->kv_len - token, OCT_ATTN_SUB);
    if (n < OCT_ATTN_SUB) memset(kt, 0, (size_t)a->head_dim * OCT_ATTN_SUB * sizeof *kt);
    for (uint32_t i = 0; i < n; i++) {
        const float *row = a->k_rows + (size_t)(token + i) * a->kv_stride;
        for (uint32_t d = 0; d < a->head_dim; d++) kt[d * OCT_ATTN_SUB + i] = row[d];
    }
    return kt;
}

/* The K (or V) part of a sub-block of the cache in a type that the slots multiply: where it lies,
 * or made float. */
static const void *readable(tile *t, const char *part) {
    const size_t n = (size_t)t->a->head_dim * OCT_ATTN_SUB;
    if (t->a->cache == OCT_ATTN_FP8)
        t->k->kv.widen_e4m3(t->step, (const uint8_t *)part, n);
    else if (t->a->cache == OCT_ATTN_F16)
        t->k->kv.widen_f16(t->step, (const uint16_t *)(const void *)part, n);
    else
        return part;
    return t->step;
}

/* Adds sub-block s of the span to o of every vector that sees some of it. */
static void add_values_f32(tile *t, uint64_t start, uint32_t s) {
    const oct_attn_args *a = t->a;
    const uint32_t first = s * OCT_ATTN_SUB, token = (uint32_t)start + first;
    const oct_attn_pv_fn pv = a->cache == OCT_ATTN_BF16 ? t->k->attn.pv_bf16 : t->k->attn.pv_f32;
    const bool rows = a->cache == OCT_ATTN_ROWS;
    const size_t ldv = rows ? a->kv_stride : a->head_dim;
    const void *values =
        rows ? (const void *)(a->v_rows + (size_t)token * a->kv_stride)
             : readable(t, sub_block(a, token) + oct_kern_kv_v_offset(a->cache, a->head_dim));
    for (uint32_t v = 0; v < t->n_vec; v++) {
        uint32_t lo, hi;
        visible(a, t->row0 + v / a->group, &lo, &hi);
        if (!clip(lo, hi, start, &lo, &hi) || lo >= first + OCT_ATTN_SUB || hi <= first) continue;
        pv((float *)t->out + (size_t)v * t->o_pad,
           (const float *)t->score + (size_t)v * OCT_ATTN_SPAN + first, max_u32(lo, first) - first,
           min_u32(hi - first, OCT_ATTN_SUB), values, ldv, a->head_dim);
    }
}

static void scores_f32(tile *t, uint32_t token, float *score) {
    const oct_attn_args *a = t->a;
    const void *k =
        a->cache == OCT_ATTN_ROWS ? transposed(t, token) : readable(t, sub_block(a, token));
    const oct_attn_qk_fn qk = a->cache == OCT_ATTN_BF16 ? t->k->attn.qk_bf16 : t->k->attn.qk_f32;
    if (a->cache == OCT_ATTN_FP8) {
        qk(score, OCT_ATTN_SPAN, scaled_query(t, 0), t->q_pad, t->n_vec, k, a->head_dim);
        return;
    }
    for (uint32_t r = 0; r < t->n_rows; r++)
        qk(score + (size_t)r * a->group * OCT_ATTN_SPAN, OCT_ATTN_SPAN, query(t, r * a->group),
           a->head_dim, a->group, k, a->head_dim);
}

static void span_f32(tile *t, uint64_t start, uint32_t from, uint32_t to) {
    const oct_attn_args *a = t->a;
    float *score = t->score, *out = t->out;

    for (uint32_t s = from / OCT_ATTN_SUB; s * OCT_ATTN_SUB < to; s++)
        scores_f32(t, (uint32_t)start + s * OCT_ATTN_SUB, score + s * OCT_ATTN_SUB);

    const oct_attn_score how = {
        .factor = a->scale, .cap = a->softcap, .inv_cap = a->softcap != 0 ? 1.0f / a->softcap : 0};
    for (uint32_t v = 0; v < t->n_vec; v++) {
        float *p = score + (size_t)v * OCT_ATTN_SPAN, *o = out + (size_t)v * t->o_pad;
        uint32_t lo, hi;
        visible(a, t->row0 + v / a->group, &lo, &hi);
        t->part[v] = (span_part){.w = 1.0f};
        memset(o, 0, t->o_pad * sizeof *o);
        if (!clip(lo, hi, start, &lo, &hi)) continue;
        t->k->attn.softmax_f32(p, lo, hi, &how, &t->part[v].m, &t->part[v].l);
    }
    for (uint32_t s = from / OCT_ATTN_SUB; s * OCT_ATTN_SUB < to; s++) add_values_f32(t, start, s);
}

/* Fills part and out of every vector; false when no row of the tile sees anything of the span. */
static bool tile_span(tile *t, uint32_t span) {
    const uint64_t start = (uint64_t)span * OCT_ATTN_SPAN;
    uint32_t from, to;
    if (!clip(t->lo, t->hi, start, &from, &to)) return false;
    if (is_i8(t->a->cache))
        span_i8(t, start, from, to);
    else
        span_f32(t, start, from, to);
    return true;
}

/* ---- combination ---------------------------------------------------------------------------- */

/* Weighs what is there (a) and what comes (b). False: nothing comes, or the row is lost. */
static bool merge_weights(const oct_kern *k, span_part *total, span_part part, float *a, float *b) {
    if (!finite_f32(total->m)) return false;
    if (!finite_f32(part.m)) {
        total->m = NAN;
        return false;
    }
    if (part.l == 0.0f) return false;
    if (total->l == 0.0f) {
        *total = part;
        *a = 0.0f; /* first span: taken as it is */
        *b = part.w;
        return true;
    }
    const float m = part.m > total->m ? part.m : total->m;
    const float below[2] = {total->m - m, part.m - m};
    float weight[2];
    k->elem.exp(weight, below, 2);
    *a = weight[0];
    *b = weight[1] * part.w;
    total->l = fmaf(total->l, *a, part.l * weight[1]);
    total->m = m;
    return true;
}

static void finish(const oct_kern *k, const oct_attn_args *a, span_part total, const float *acc,
                   float *out) {
    const uint32_t hd = a->head_dim;
    if (!finite_f32(total.m) || total.l == 0.0f) {
        for (uint32_t d = 0; d < hd; d++) out[d] = total.l == 0.0f && total.m == 0.0f ? 0.0f : NAN;
        return;
    }
    const bool offset = a->cache == OCT_ATTN_I8, scale = offset || a->cache == OCT_ATTN_FP8;
    k->attn.finish(out, acc, 1.0f / total.l, offset ? a->v_offset : NULL, scale ? a->v_scale : NULL,
                   hd);
}

/* A span's values times w, from the sums of its parts. */
static void join(const tile *t, const int32_t *o, float w, float *values) {
    memset(values, 0, t->a->head_dim * sizeof *values);
    t->k->attn.merge_i32(values, o, t->o_pad, 0.0f, w, t->a->head_dim);
}

static float *out_row(const oct_attn_args *a, uint32_t vec) {
    return a->out + (size_t)(vec / a->group) * a->out_stride +
           (size_t)(vec % a->group) * a->head_dim;
}

static void tile_merge(tile *t) {
    const uint32_t hd = t->a->head_dim;
    for (uint32_t v = 0; v < t->n_vec; v++) {
        float *acc = t->acc + (size_t)v * t->o_pad, a, b;
        const bool first = t->total[v].l == 0.0f;
        if (!merge_weights(t->k, &t->total[v], t->part[v], &a, &b)) continue;
        if (is_i8(t->a->cache)) {
            const int32_t *o = (const int32_t *)t->out + (size_t)v * 2 * t->o_pad;
            if (!first)
                t->k->attn.merge_i32(acc, o, t->o_pad, a, b, hd);
            else
                join(t, o, b, acc);
        } else {
            const float *o = (const float *)t->out + (size_t)v * t->o_pad;
            if (!first)
                t->k->attn.merge_f32(acc, o, a, b, hd);
            else
                memcpy(acc, o, hd * sizeof *acc);
        }
    }
}

void oct_kern_attn(const oct_kern *k, const oct_attn_args *a, void *scratch) {
    for (uint32_t row = 0; row < a->n_rows; row += tile_rows(a->group)) {
        tile t;
        tile_begin(&t, k, a, row, scratch);
        memset(t.total, 0, t.n_vec * sizeof *t.total);
        const uint32_t end = (uint32_t)round_up(t.hi, OCT_ATTN_SPAN) / OCT_ATTN_SPAN;
        for (uint32_t span = t.lo / OCT_ATTN_SPAN; span < end; span++)
            if (tile_span(&t, span)) tile_merge(&t);
        for (uint32_t v = 0; v < t.n_vec; v++)
            finish(k, a, t.total[v], t.acc + (size_t)v * t.o_pad, out_row(a, row * a->group + v));
    }
}

/* ---- in two steps --------------------------------------------------------------------------- */

void oct_kern_attn_span_range(const oct_attn_args *a, uint32_t *begin, uint32_t *end) {
    uint32_t lo, hi;
    visible_rows(a, 0, a->n_rows, &lo, &hi);
    *begin = lo / OCT_ATTN_SPAN;
    *end = lo < hi ? (hi - 1) / OCT_ATTN_SPAN + 1 : *begin;
}

/* A partial result: m, l, w and o[head_dim] of every vector. */
enum { PART_FLOATS = 3 };
size_t oct_kern_attn_partial_floats(const oct_attn_args *a) {
    return (size_t)a->n_rows * a->group * (a->head_dim + PART_FLOATS);
}

static void store_partial(const tile *t, bool seen, float *at) {
    const uint32_t hd = t->a->head_dim;
    for (uint32_t v = 0; v < t->n_vec; v++, at += hd + PART_FLOATS) {
        const span_part part = seen ? t->part[v] : (span_part){0};
        at[0] = part.m;
        at[1] = part.l;
        at[2] = part.w;
        if (part.l == 0.0f) continue;
        if (is_i8(t->a->cache))
            join(t, (const int32_t *)t->out + (size_t)v * 2 * t->o_pad, 1.0f, at + PART_FLOATS);
        else
            memcpy(at + PART_FLOATS, (const float *)t->out + (size_t)v * t->o_pad, hd * sizeof *at);
    }
}

void oct_kern_attn_spans(const oct_kern *k, const oct_attn_args *a, uint32_t span_begin,
                         uint32_t span_end, float *partials, void *scratch) {
    const size_t per_span = oct_kern_attn_partial_floats(a);
    const size_t per_row = (size_t)a->group * (a->head_dim + PART_FLOATS);
    for (uint32_t row = 0; row < a->n_rows; row += tile_rows(a->group)) {
        tile t;
        tile_begin(&t, k, a, row, scratch);
        for (uint32_t span = span_begin; span < span_end; span++) {
            const bool seen = tile_span(&t, span);
            store_partial(&t, seen, partials + (span - span_begin) * per_span + row * per_row);
        }
    }
}

void oct_kern_attn_combine(const oct_kern *k, const oct_attn_args *a, const float *partials) {
    const size_t per_span = oct_kern_attn_partial_floats(a);
    const uint32_t n_vec = a->n_rows * a->group;
    uint32_t begin, end;
    oct_kern_attn_span_range(a, &begin, &end);
    for (uint32_t v = 0; v < n_vec; v++) {
        float acc[OCT_ATTN_MAX_HEAD] = {0}, wa, wb;
        span_part total = {0};
        const float *at = partials + (size_t)v * (a->head_dim + PART_FLOATS);
        for (uint32_t span = begin; span < end; span++, at += per_span) {
            const bool first = total.l == 0.0f;
            const span_part part = {at[0], at[1], at[2]};
            if (!merge_weights(k, &total, part, &wa, &wb)) continue;
            if (first && !is_i8(a->cache)) /* as it is: it may hold -0 */
                memcpy(acc, at + PART_FLOATS, a->head_dim * sizeof *acc);
            else
                k->attn.merge_f32(acc, at + PART_FLOATS, wa, wb, a->head_dim);
        }
        finish(k, a, total, acc, out_row(a, v));
    }
}
