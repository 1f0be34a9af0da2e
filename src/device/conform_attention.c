/*
 * device/conform_attention.c - cases of attn_input and attention: every cache, prompts, chunks and
 * decodes side by side, block tables out of order, windows, soft caps, heads of odd sizes.
 *
 * The cache's memory is full of NaN patterns before the first token, so a slot that nobody wrote
 * must not be looked at. The layout of a block is the device's own: what attn_input wrote is seen
 * through attention.
 */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "device/conform_side.h"

enum { MAX_SEQS = 5 };

/* Sequences of a batch: tokens in the cache before this step, rows of this step. */
typedef struct scenario {
    const char *name;
    uint32_t n_seqs;
    uint32_t before[MAX_SEQS], rows[MAX_SEQS];
} scenario;

static const scenario scenarios[] = {
    {"one prompt", 1, {0}, {37}},
    {"one decode", 1, {130}, {1}},
    {"mixed", 5, {0, 40, 200, 127, 0}, {33, 1, 7, 2, 1}},
    {"decodes", 4, {31, 32, 255, 63}, {1, 1, 1, 1}},
    {"long decode", 1, {1400}, {1}},
    {"span edges", 3, {126, 120, 0}, {3, 9, 129}},
};

typedef struct shape {
    uint32_t n_heads, n_kv_heads, head_dim, block_tokens;
} shape;

static const shape head_shapes[] = {
    {4, 2, 64, 32}, {3, 3, 16, 32}, {9, 3, 64, 64}, {2, 1, 80, 32}, {8, 1, 128, 96},
};

/* The last three a device may lack. */
static const uint32_t kinds[] = {OCTET_KV_F32,      OCTET_KV_BF16,        OCTET_KV_I8_CHANNEL,
                                 OCTET_KV_I8_TOKEN, OCTET_KV_FP8_CHANNEL, OCTET_KV_F16};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

/* ---- a cache and its batches ----------------------------------------------------------------- */

typedef struct world {
    const shape *heads;
    uint32_t n_seqs, stride; /* blocks a sequence may have */
    octet_kv_desc kv;
    int32_t *table; /* [n_seqs][stride], a permutation: no order, no neighbours */
} world;

static octet_ref channel_numbers(oct_cf_side *s, size_t n, float low, float high) {
    float *v = oct_cf_mem(s, n, sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = oct_cf_uniform(s, low, high);
    return oct_cf_put(s, v, n * sizeof *v);
}

static world make_world(oct_cf_side *s, const shape *heads, uint32_t kind, uint32_t n_seqs,
                        uint32_t max_tokens, bool offsets) {
    world w = {.heads = heads, .n_seqs = n_seqs};
    w.stride = (max_tokens + heads->block_tokens - 1) / heads->block_tokens;
    const uint32_t n = n_seqs * w.stride;
    const size_t channels = (size_t)heads->n_kv_heads * heads->head_dim;
    w.table = oct_cf_mem(s, n, sizeof *w.table);
    for (uint32_t i = 0; i < n; i++) w.table[i] = (int32_t)i;
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t other = oct_cf_below(s, i);
        const int32_t swap = w.table[i - 1];
        w.table[i - 1] = w.table[other];
        w.table[other] = swap;
    }
    w.kv = (octet_kv_desc){.struct_bytes = sizeof w.kv,
                           .kind = kind,
                           .n_kv_heads = heads->n_kv_heads,
                           .head_dim = heads->head_dim,
                           .block_tokens = heads->block_tokens};
    if (!oct_cf_kv_bytes(s, &w.kv)) return w;
    w.kv.base = oct_cf_room(s, n * w.kv.block_bytes);
    if (kind != OCTET_KV_I8_CHANNEL && kind != OCTET_KV_FP8_CHANNEL) return w;
    w.kv.k_scale = channel_numbers(s, channels, 0.01f, 0.03f);
    w.kv.v_scale = channel_numbers(s, channels, 0.01f, 0.03f);
    if (!offsets || kind == OCTET_KV_FP8_CHANNEL) return w;
    w.kv.k_offset = channel_numbers(s, channels, -20, 20);
    w.kv.v_offset = channel_numbers(s, channels, -20, 20);
    return w;
}

/* Rows rows[i] of each sequence, behind its first before[i] tokens. */
static octet_batch make_batch(oct_cf_side *s, const world *w, const uint32_t *before,
                              const uint32_t *rows) {
    octet_batch b = {.struct_bytes = sizeof b, .n_seqs = w->n_seqs, .table_stride = w->stride};
    const uint32_t bt = w->heads->block_tokens;
    int32_t seq_row[MAX_SEQS + 1] = {0}, kv_len[MAX_SEQS];
    OCT_ASSERT(w->n_seqs <= MAX_SEQS);
    for (uint32_t i = 0; i < w->n_seqs; i++) {
        b.n_rows += rows[i];
        if (rows[i] > b.max_seq_rows) b.max_seq_rows = rows[i];
        if (before[i] + rows[i] > b.max_kv_len) b.max_kv_len = before[i] + rows[i];
        seq_row[i + 1] = (int32_t)b.n_rows;
        kv_len[i] = (int32_t)(before[i] + rows[i]);
    }
    int32_t *pos = oct_cf_mem(s, b.n_rows, sizeof *pos), *slot = oct_cf_mem(s, b.n_rows, 4);
    for (uint32_t i = 0, r = 0; i < w->n_seqs; i++)
        for (uint32_t t = 0; t < rows[i]; t++, r++) {
            const uint32_t at = before[i] + t;
            pos[r] = (int32_t)at;
            slot[r] = w->table[i * w->stride + at / bt] * (int32_t)bt + (int32_t)(at % bt);
        }
    b.row_pos = oct_cf_put(s, pos, b.n_rows * 4);
    b.row_slot = oct_cf_put(s, slot, b.n_rows * 4);
    b.seq_row = oct_cf_put(s, seq_row, (w->n_seqs + 1) * 4);
    b.seq_kv_len = oct_cf_put(s, kv_len, w->n_seqs * 4);
    b.block_table = oct_cf_put(s, w->table, (size_t)w->n_seqs * w->stride * 4);
    return b;
}

/* Random q, k, v rows of a batch, written to the cache as they are: no norm, no rotation, so that
 * every device's cache holds the same. */
static octet_rows write_rows(oct_cf_side *s, const world *w, const octet_batch *b) {
    const size_t width =
        ((size_t)w->heads->n_heads + 2 * w->heads->n_kv_heads) * w->heads->head_dim;
    const octet_attn_input_op op = {
        .struct_bytes = sizeof op,
        .n_heads = w->heads->n_heads,
        .qkv =
            oct_cf_put_rows(s, oct_cf_floats(s, b->n_rows * width, 0.5f), b->n_rows, width, width),
        .kv = w->kv,
        .batch = *b};
    OCT_CF_OP(s, attn_input, &op);
    return op.qkv;
}

/* ---- attn_input ------------------------------------------------------------------------------ */

enum { N_ROPE = 64 };

static void case_attn_input(oct_cf_side *s, unsigned index) {
    static const uint32_t before[MAX_SEQS] = {0, 20, 5}, rows[MAX_SEQS] = {17, 1, 3};
    const shape *h = &head_shapes[index % 5];
    const uint32_t kind = kinds[index / 5 % N_KINDS], qk_norm = index / 2 % 3,
                   act = s->d->info.act_dtype;
    const uint32_t rotary = index % 4 == 0 ? 0 : index % 4 == 1 ? h->head_dim / 2 : h->head_dim;
    const uint32_t dim = h->head_dim, n_all = h->n_heads + 2 * h->n_kv_heads;
    const size_t width = (size_t)n_all * dim;
    oct_cf_case(s, "cache %u, heads %u/%u of %u, norm %u, rotary %u", kind, h->n_heads,
                h->n_kv_heads, dim, qk_norm, rotary);
    world w = make_world(s, h, kind, 3, 40, index % 2);
    octet_batch b = make_batch(s, &w, before, rows);
    int32_t *slot = oct_cf_mem(s, b.n_rows, 4);
    for (uint32_t r = 0; r < b.n_rows; r++) slot[r] = r % 6 == 5 ? -1 : (int32_t)r;
    b.row_slot = oct_cf_put(s, slot, b.n_rows * 4);
    float *x = oct_cf_floats(s, b.n_rows * width, 1);
    if (index % 3 == 1) x[width + 3] = NAN;
    octet_attn_input_op op = {
        .struct_bytes = sizeof op,
        .n_heads = h->n_heads,
        .qk_norm = qk_norm,
        .rotary_dim = rotary,
        .qkv = oct_cf_put_rows(s, x, b.n_rows, width, width + 7),
        .q_norm = oct_cf_put(s, oct_cf_floats(s, h->n_heads * dim, 1), h->n_heads * dim * 4),
        .k_norm = oct_cf_put(s, oct_cf_floats(s, h->n_kv_heads * dim, 1), h->n_kv_heads * dim * 4),
        .norm_eps = 1e-6f,
        .n_rope_rows = N_ROPE,
        .rope = rotary ? oct_cf_put_rope(s, N_ROPE, rotary) : (octet_ref){0, 0},
        .kv = w.kv,
        .batch = b};
    if (qk_norm && index % 4 == 2) { /* outlier suppression leaves a bias behind */
        op.q_norm_bias = oct_cf_put(s, oct_cf_floats(s, h->n_heads * dim, 1), h->n_heads * dim * 4);
        op.k_norm_bias =
            oct_cf_put(s, oct_cf_floats(s, h->n_kv_heads * dim, 1), h->n_kv_heads * dim * 4);
    }
    OCT_CF_OP(s, attn_input, &op);
    /* Normed, then turned: a turn adds two products of up to 8 (four deviations of x times w). */
    oct_tolerance tol = oct_tolerance_stored(act);
    tol.rel = 2 * tol.rel + 64 * OCT_U32;
    tol.abs = rotary ? 16 * oct_row_unit(act) : 0;
    oct_cf_out_rows(s, "qkv", op.qkv, b.n_rows, width, tol);
}

/* ---- attention ------------------------------------------------------------------------------- */

typedef struct manner {
    float softcap;
    uint32_t window, mask;
    bool fresh, quantised;
} manner;

static const manner hows[] = {
    {0, 0, OCTET_MASK_CAUSAL, false, false},  {0, 0, OCTET_MASK_CAUSAL, false, true},
    {0, 50, OCTET_MASK_CAUSAL, false, false}, {20, 0, OCTET_MASK_CAUSAL, false, false},
    {0, 0, OCTET_MASK_NONE, false, false},    {0, 0, OCTET_MASK_CAUSAL, true, false},
    {5, 130, OCTET_MASK_CAUSAL, false, true}, {0, 1, OCTET_MASK_CAUSAL, false, false},
};

/* A score is a sum of head_dim products of |q| and |k| up to 2; the part that rounding its operands
 * (or the 16-bit query) moves it by, moves a probability by as much, and the result by that times
 * |v| <= 4. */
static oct_tolerance attention_tolerance(uint32_t act, const shape *h, float scale) {
    const double u = fmax(oct_row_unit(act), 0x1p-15);
    const double score = 4 * sqrt(h->head_dim) * 2 * u * 1.5 * scale;
    oct_tolerance tol = oct_tolerance_stored(act);
    tol.abs = 4 * (2 * score + 4 * u);
    return tol;
}

static void attend(oct_cf_side *s, const world *w, const octet_batch *b, octet_rows qkv,
                   const manner *how) {
    const shape *h = w->heads;
    const size_t width = (size_t)h->n_heads * h->head_dim;
    const uint32_t act = s->d->info.act_dtype;
    octet_attention_op op = {.struct_bytes = sizeof op,
                             .n_heads = h->n_heads,
                             .q = qkv,
                             .kv = w->kv,
                             .batch = *b,
                             .scale = 1.0f / sqrtf((float)h->head_dim),
                             .softcap = how->softcap,
                             .window = how->window,
                             .mask = how->mask};
    if (how->fresh) op.fresh = qkv;
    if (!how->quantised || how->softcap > 0) op.out = oct_cf_rows_room(s, b->n_rows, width + 3);
    op.quant = oct_cf_quant_room(s, how->quantised, b->n_rows, width, 0, 0);
    OCT_CF_OP(s, attention, &op);
    const oct_tolerance tol = attention_tolerance(act, h, op.scale);
    if (op.out.data.buffer) oct_cf_out_rows(s, "out", op.out, b->n_rows, width, tol);
    /* Result rows are about 1 wide in 127 steps. */
    oct_cf_out_quant(s, &op.quant, b->n_rows, width, 1 + ceil(127 * tol.abs), tol);
}

static void case_attention(oct_cf_side *s, unsigned index) {
    const unsigned n_scenarios = sizeof scenarios / sizeof *scenarios;
    const scenario *sc = &scenarios[index % n_scenarios];
    const uint32_t kind = kinds[index / n_scenarios % N_KINDS];
    const manner *how =
        &hows[(index / n_scenarios / N_KINDS + index) % (sizeof hows / sizeof *hows)];
    const shape *h = &head_shapes[(index / 2) % 5];
    uint32_t none[MAX_SEQS] = {0}, longest = 0;
    for (uint32_t i = 0; i < sc->n_seqs; i++)
        longest = sc->before[i] + sc->rows[i] > longest ? sc->before[i] + sc->rows[i] : longest;
    oct_cf_case(s, "%s, cache %u, heads %u/%u of %u, window %u, cap %g, mask %u%s%s", sc->name,
                kind, h->n_heads, h->n_kv_heads, h->head_dim, how->window, (double)how->softcap,
                how->mask, how->fresh ? ", fresh" : "", how->quantised ? ", quantised" : "");
    const world w = make_world(s, h, kind, sc->n_seqs, longest, index % 2);
    const octet_batch earlier = make_batch(s, &w, none, sc->before);
    const octet_batch now = make_batch(s, &w, sc->before, sc->rows);
    if (earlier.n_rows) write_rows(s, &w, &earlier);
    const octet_rows qkv = write_rows(s, &w, &now);
    attend(s, &w, &now, qkv, how);
}

/* Rows that can only give NaN, zero queries, extremes of the int8 range, and a sequence without a
 * row: neighbours must not notice. */
static void case_attention_edges(oct_cf_side *s, unsigned index) {
    static const uint32_t before[MAX_SEQS] = {0, 3, 0}, rows[MAX_SEQS] = {5, 0, 40};
    const uint32_t kind = kinds[index % N_KINDS];
    const shape *h = &head_shapes[index / N_KINDS % 5];
    const size_t width = ((size_t)h->n_heads + 2 * h->n_kv_heads) * h->head_dim;
    oct_cf_case(s, "cache %u, heads %u/%u of %u", kind, h->n_heads, h->n_kv_heads, h->head_dim);
    const world w = make_world(s, h, kind, 3, 64, true);
    const octet_batch b = make_batch(s, &w, before, rows);
    float *x = oct_cf_floats(s, b.n_rows * width, 1);
    const size_t q_width = (size_t)h->n_heads * h->head_dim;
    x[2 * width] = NAN; /* one head of one row */
    x[6 * width + q_width - 1] = INFINITY;
    memset(x + 7 * width, 0, q_width * sizeof *x); /* a zero query */
    for (size_t c = q_width; kind == OCTET_KV_I8_CHANNEL && c < width; c++)
        x[8 * width + c] = c % 2 ? 1e6f : -1e6f; /* saturates */
    const octet_attn_input_op op = {.struct_bytes = sizeof op,
                                    .n_heads = h->n_heads,
                                    .qkv = oct_cf_put_rows(s, x, b.n_rows, width, width),
                                    .kv = w.kv,
                                    .batch = b};
    OCT_CF_OP(s, attn_input, &op);
    attend(s, &w, &b, op.qkv, &hows[0]);
}

const oct_cf_group oct_cf_attention_groups[] = {
    {"attention input", 30, case_attn_input},
    {"attention", 144, case_attention},
    {"attention edges", 30, case_attention_edges},
    {NULL, 0, NULL},
};
