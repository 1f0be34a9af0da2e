/*
 * tests/unit/device/test_device_attention.c - attention on the CPU device against plain C: softmax
 * of products through the cache, a token that was lost, fresh rows, batches out of contract.
 */
#include <math.h>
#include <stdlib.h>

#include "cpu_fixture.h"

enum { HEADS = 4, KV = 2, DIM = 16, TOKENS = 1500, BT = 32, BLOCKS = TOKENS / BT + 1 };
enum { QKV = (HEADS + 2 * KV) * DIM };

typedef struct text {
    float qkv[TOKENS][QKV];
    int32_t pos[TOKENS], slot[TOKENS], table[BLOCKS];
} text;

/* Attention of the row's head over tokens 0..row, in double. */
static void plain_attention(const text *t, int row, int head, double *out) {
    static double p[TOKENS];
    const float *q = t->qkv[row] + head * DIM;
    const int k_at = (HEADS + head / (HEADS / KV)) * DIM, v_at = k_at + KV * DIM;
    double max = -1e300, sum = 0;
    for (int i = 0; i <= row; i++) {
        p[i] = 0;
        for (int d = 0; d < DIM; d++) p[i] += (double)q[d] * t->qkv[i][k_at + d];
        p[i] *= 0.25;
        if (p[i] > max) max = p[i];
    }
    for (int d = 0; d < DIM; d++) out[d] = 0;
    for (int i = 0; i <= row; i++) {
        const double e = exp(p[i] - max);
        sum += e;
        for (int d = 0; d < DIM; d++) out[d] += e * t->qkv[i][v_at + d];
    }
    for (int d = 0; d < DIM; d++) out[d] /= sum;
}

static octet_batch batch_of(const fixture *f, const text *t, int row, int n) {
    const int32_t seq_row[2] = {0, n}, kv_len = row + n;
    return (octet_batch){.struct_bytes = sizeof(octet_batch),
                         .n_seqs = 1,
                         .n_rows = (uint32_t)n,
                         .max_seq_rows = (uint32_t)n,
                         .max_kv_len = (uint32_t)kv_len,
                         .table_stride = BLOCKS,
                         .row_pos = put(f, t->pos + row, (size_t)n * 4),
                         .row_slot = put(f, t->slot + row, (size_t)n * 4),
                         .seq_row = put(f, seq_row, sizeof seq_row),
                         .seq_kv_len = put(f, &kv_len, sizeof kv_len),
                         .block_table = put(f, t->table, sizeof t->table)};
}

/* Writes rows row..row+n-1 to the cache and attends from them; the last row's result. */
static void step(const fixture *f, const text *t, const octet_kv_desc *kv, int row, int n,
                 bool fresh, float out[HEADS * DIM]) {
    const octet_attn_input_op in = {.struct_bytes = sizeof in,
                                    .n_heads = HEADS,
                                    .qkv = {put(f, t->qkv[row], (size_t)n * QKV * 4), QKV},
                                    .kv = *kv,
                                    .batch = batch_of(f, t, row, n)};
    octet_attention_op op = {.struct_bytes = sizeof op,
                             .n_heads = HEADS,
                             .q = in.qkv,
                             .kv = *kv,
                             .batch = in.batch,
                             .scale = 0.25f,
                             .out = {put(f, NULL, (size_t)n * HEADS * DIM * 4), HEADS * DIM}};
    if (fresh) op.fresh = in.qkv;
    good(f, f->d->ops->attn_input(f->s, &in));
    good(f, f->d->ops->attention(f->s, &op));
    const octet_ref last = {op.out.data.buffer, (uint64_t)(n - 1) * HEADS * DIM * 4};
    get(f, out, last, HEADS * DIM * 4);
}

static octet_kv_desc cache(const fixture *f, uint32_t kind) {
    float scale[KV * DIM];
    for (int i = 0; i < KV * DIM; i++) scale[i] = 1.0f / 127;
    octet_kv_desc kv = {.struct_bytes = sizeof kv,
                        .kind = kind,
                        .n_kv_heads = KV,
                        .head_dim = DIM,
                        .block_tokens = BT};
    kv.block_bytes = f->d->ops->kv_block_bytes(f->d->dev, &kv);
    assert_true(kv.block_bytes > 0);
    kv.base = put(f, NULL, BLOCKS * kv.block_bytes);
    if (kind != OCTET_KV_I8_CHANNEL && kind != OCTET_KV_FP8_CHANNEL) return kv;
    kv.k_scale = put(f, scale, sizeof scale);
    kv.v_scale = put(f, scale, sizeof scale);
    return kv;
}

static text *make_text(void) {
    static text t;
    for (int i = 0; i < TOKENS * QKV; i++) t.qkv[i / QKV][i % QKV] = rndf();
    for (int i = 0; i < BLOCKS; i++) t.table[i] = (i * 7) % BLOCKS; /* 47 blocks: a permutation */
    for (int i = 0; i < TOKENS; i++) {
        t.pos[i] = i;
        t.slot[i] = t.table[i / BT] * BT + i % BT;
    }
    return &t;
}

static void attention_is_softmax_of_products(void **st) {
    (void)st;
    static const struct {
        uint32_t kind;
        float allowed;
    } kinds[] = {{OCTET_KV_F32, 1e-5f},         {OCTET_KV_BF16, 4e-3f},
                 {OCTET_KV_I8_CHANNEL, 8e-3f},  {OCTET_KV_I8_TOKEN, 8e-3f},
                 {OCTET_KV_FP8_CHANNEL, 3e-2f}, {OCTET_KV_F16, 1e-3f}};
    const text *t = make_text();
    for (size_t k = 0; k < OCT_COUNT(kinds); k++) {
        float first[HEADS * DIM] = {0}, got[HEADS * DIM];
        double want[DIM];
        for (unsigned n_threads = 1; n_threads <= 3; n_threads += 2) {
            fixture f = open_with(n_threads);
            const octet_kv_desc kv = cache(&f, kinds[k].kind);
            /* A prompt in two chunks, then one token over 1500: cut into spans with 2+ threads. */
            step(&f, t, &kv, 0, 700, false, got);
            for (int h = 0; h < HEADS; h++) {
                plain_attention(t, 699, h, want);
                for (int d = 0; d < DIM; d++)
                    assert_float_equal(got[h * DIM + d], (float)want[d], kinds[k].allowed);
            }
            step(&f, t, &kv, 700, TOKENS - 701, false, got);
            step(&f, t, &kv, TOKENS - 1, 1, false, got);
            for (int h = 0; h < HEADS; h++) {
                plain_attention(t, TOKENS - 1, h, want);
                for (int d = 0; d < DIM; d++)
                    assert_float_equal(got[h * DIM + d], (float)want[d], kinds[k].allowed);
            }
            if (n_threads == 1) memcpy(first, got, sizeof got);
            assert_memory_equal(first, got, sizeof got);
            finish(&f);
        }
    }
}

/* A token whose V cannot be represented loses the rows that see it, and no others. */
static void KV8_a_lost_token_is_seen_as_nan(void **st) {
    (void)st;
    static const uint32_t kinds[] = {OCTET_KV_F32, OCTET_KV_BF16, OCTET_KV_F16, OCTET_KV_I8_TOKEN,
                                     OCTET_KV_FP8_CHANNEL};
    static text broken;
    broken = *make_text();
    broken.qkv[40][(HEADS + KV) * DIM + 3] = NAN; /* V of the first kv head */
    fixture f = open_with(2);
    for (size_t k = 0; k < OCT_COUNT(kinds); k++) {
        float got[HEADS * DIM];
        const octet_kv_desc kv = cache(&f, kinds[k]);
        step(&f, &broken, &kv, 0, 40, false, got);
        for (int d = 0; d < HEADS * DIM; d++) assert_true(isfinite(got[d]));
        step(&f, &broken, &kv, 40, 30, false, got);
        for (int h = 0; h < HEADS; h++)
            for (int d = 0; d < DIM; d++) {
                const bool whole_head = kinds[k] == OCTET_KV_I8_TOKEN;
                const bool lost = h < HEADS / KV && (whole_head || d == 3);
                assert_true(isfinite(got[h * DIM + d]) == !lost);
            }
    }
    finish(&f);
}

static void fresh_rows_are_read_in_float(void **st) {
    (void)st;
    const text *t = make_text();
    float exact[HEADS * DIM], got[HEADS * DIM];
    fixture f = open_with(2);
    static const uint32_t kinds[] = {OCTET_KV_I8_CHANNEL, OCTET_KV_I8_TOKEN, OCTET_KV_FP8_CHANNEL,
                                     OCTET_KV_F16, OCTET_KV_BF16};
    const octet_kv_desc f32 = cache(&f, OCTET_KV_F32);
    step(&f, t, &f32, 0, 300, false, exact);
    for (size_t k = 0; k < OCT_COUNT(kinds); k++) {
        const octet_kv_desc kv = cache(&f, kinds[k]);
        step(&f, t, &kv, 0, 300, true, got);
        assert_memory_equal(exact, got, sizeof got);
        step(&f, t, &kv, 0, 300, false, got);
        assert_true(memcmp(exact, got, sizeof got) != 0);
    }
    finish(&f);
}

static void batches_out_of_contract_are_refused(void **st) {
    (void)st;
    const text *t = make_text();
    fixture f = open_with(1);
    octet_kv_desc kv = cache(&f, OCTET_KV_F32);
    octet_attn_input_op in = {.struct_bytes = sizeof in,
                              .n_heads = HEADS,
                              .qkv = {put(&f, t->qkv, 2 * QKV * 4), QKV},
                              .kv = kv,
                              .batch = batch_of(&f, t, 0, 2)};
    octet_attention_op op = {.struct_bytes = sizeof op,
                             .n_heads = HEADS,
                             .q = in.qkv,
                             .kv = kv,
                             .batch = in.batch,
                             .scale = 1,
                             .out = {put(&f, NULL, 2 * HEADS * DIM * 4), HEADS * DIM}};
    const int32_t far_slot[2] = {0, BLOCKS * BT}, gap[2] = {0, 2}, rows[2] = {0, 3};
    const int32_t table[BLOCKS] = {BLOCKS}, long_len = BLOCKS * BT + 1;
    octet_batch good_batch = in.batch;

    in.batch.row_slot = put(&f, far_slot, sizeof far_slot);
    bad(&f, f.d->ops->attn_input(f.s, &in), OCT_E_INVALID, "slot outside the cache");
    in.batch = good_batch;
    in.batch.row_pos = put(&f, gap, sizeof gap);
    bad(&f, f.d->ops->attn_input(f.s, &in), OCT_E_INVALID, "does not follow");
    in.batch = good_batch;
    in.batch.seq_row = put(&f, rows, sizeof rows);
    bad(&f, f.d->ops->attn_input(f.s, &in), OCT_E_INVALID, "rows 0..3 of sequences");
    in.batch = good_batch;
    in.rotary_dim = 3;
    bad(&f, f.d->ops->attn_input(f.s, &in), OCT_E_INVALID, "bad rotation");
    in.rotary_dim = DIM;
    bad(&f, f.d->ops->attn_input(f.s, &in), OCT_E_INVALID, "rope: not a buffer");
    op.batch.block_table = put(&f, table, sizeof table);
    bad(&f, f.d->ops->attention(f.s, &op), OCT_E_INVALID, "block outside the cache (got 47");
    op.batch = good_batch;
    op.batch.seq_kv_len = put(&f, &long_len, sizeof long_len);
    op.mask = OCTET_MASK_NONE;
    bad(&f, f.d->ops->attention(f.s, &op), OCT_E_INVALID, "more tokens than blocks");
    op.batch = good_batch;
    op.n_heads = 3;
    bad(&f, f.d->ops->attention(f.s, &op), OCT_E_INVALID, "bad heads or mask");
    kv.head_dim = 257;
    assert_int_equal(f.d->ops->kv_block_bytes(f.d->dev, &kv), 0);
    kv.head_dim = 64;
    kv.block_tokens = 16;
    assert_int_equal(f.d->ops->kv_block_bytes(f.d->dev, &kv), 0);
    finish(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_softmax_of_products),
        cmocka_unit_test(KV8_a_lost_token_is_seen_as_nan),
        cmocka_unit_test(fresh_rows_are_read_in_float),
        cmocka_unit_test(batches_out_of_contract_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
