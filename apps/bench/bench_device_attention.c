/*
 * apps/bench/bench_device_attention.c - attention on a device: decoding over long caches of every
 * type, and the prompt of one sequence.
 *
 * The cache is filled with bytes that are numbers of every type (between 0x30 and 0x3f: small
 * positive bf16, E4M3, half and float32; int8 of any sign). Bytes are those of the cache, once;
 * operations two for each multiply-add of both products, of a prompt half of the square.
 */
#include "bench_device.h"

#include <math.h>
#include <stdio.h>

#include "model/model.h"

enum { BLOCK = 32, HEAD_DIM = 128, N_KINDS = 5 };

static const uint32_t kinds[N_KINDS] = {OCTET_KV_I8_CHANNEL, OCTET_KV_I8_TOKEN,
                                        OCTET_KV_FP8_CHANNEL, OCTET_KV_BF16, OCTET_KV_F16};

typedef struct shape {
    uint32_t n_heads, n_kv_heads, n_seqs, context, n_rows; /* rows of each sequence */
} shape;

static const shape shapes[] = {
    {32, 8, 1, 1024, 1},  {32, 8, 1, 16384, 1},   {32, 8, 64, 1024, 1},   {64, 8, 64, 12288, 1},
    {64, 8, 16, 8192, 1}, {32, 8, 1, 8192, 8192}, {64, 8, 1, 8192, 8192}, {32, 8, 8, 1024, 1024},
};

typedef struct attention {
    const shape *h;
    octet_kv_desc kv;
    octet_rows q, out;
    octet_ref scale, row_pos, row_slot, seq_row, seq_kv_len, table;
} attention;

static oct_status attend(const device_bench *b, void *ctx, unsigned i, oct_err *err) {
    const attention *a = ctx;
    const shape *h = a->h;
    (void)i;
    const octet_attention_op op = {.struct_bytes = sizeof op,
                                   .n_heads = h->n_heads,
                                   .q = a->q,
                                   .kv = a->kv,
                                   .batch = {.struct_bytes = sizeof op.batch,
                                             .n_seqs = h->n_seqs,
                                             .n_rows = h->n_seqs * h->n_rows,
                                             .max_seq_rows = h->n_rows,
                                             .max_kv_len = h->context,
                                             .table_stride = h->context / BLOCK,
                                             .row_pos = a->row_pos,
                                             .row_slot = a->row_slot,
                                             .seq_row = a->seq_row,
                                             .seq_kv_len = a->seq_kv_len,
                                             .block_table = a->table},
                                   .scale = 1.0f / sqrtf((float)HEAD_DIM),
                                   .out = a->out};
    return device_bench_check(b, b->d->ops->attention(b->s, &op), "attention", err);
}

/* The arrays of the batch: sequences take turns with the blocks, so that no run of them is one
 * piece of memory. */
static oct_status make_batch(const device_bench *b, attention *a, oct_err *err) {
    const shape *h = a->h;
    const uint32_t n_rows = h->n_seqs * h->n_rows, n_blocks = h->context / BLOCK;
    const size_t n = 2 * (size_t)n_rows + 2 * h->n_seqs + 1 + (size_t)h->n_seqs * n_blocks;
    int32_t *words = oct_alloc(oct_system_allocator(), n, sizeof *words), *at = words;
    if (!words) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    for (uint32_t i = 0; i < n_rows; i++) *at++ = (int32_t)(h->context - h->n_rows + i % h->n_rows);
    for (uint32_t i = 0; i < n_rows; i++) *at++ = -1;
    for (uint32_t s = 0; s <= h->n_seqs; s++) *at++ = (int32_t)(s * h->n_rows);
    for (uint32_t s = 0; s < h->n_seqs; s++) *at++ = (int32_t)h->context;
    for (uint32_t s = 0; s < h->n_seqs; s++)
        for (uint32_t i = 0; i < n_blocks; i++) *at++ = (int32_t)(i * h->n_seqs + s);
    at = words;
    oct_status st = device_bench_put(b, at, n_rows, &a->row_pos, err);
    if (st == OCT_OK) st = device_bench_put(b, at += n_rows, n_rows, &a->row_slot, err);
    if (st == OCT_OK) st = device_bench_put(b, at += n_rows, h->n_seqs + 1, &a->seq_row, err);
    if (st == OCT_OK) st = device_bench_put(b, at += h->n_seqs + 1, h->n_seqs, &a->seq_kv_len, err);
    if (st == OCT_OK)
        st = device_bench_put(b, at += h->n_seqs, (uint64_t)h->n_seqs * n_blocks, &a->table, err);
    oct_free(oct_system_allocator(), words, n, sizeof *words);
    return st;
}

static oct_status run_kind(const device_bench *b, attention *a, uint32_t kind, oct_err *err) {
    const shape *h = a->h;
    const uint64_t n_blocks = (uint64_t)h->n_seqs * h->context / BLOCK;
    double us = 0;
    char name[32];
    snprintf(name, sizeof name, "attention %s", oct_kv_kind_name(kind));
    if (!device_bench_wants(b, name)) return OCT_OK;
    a->kv = (octet_kv_desc){.struct_bytes = sizeof a->kv,
                            .kind = kind,
                            .n_kv_heads = h->n_kv_heads,
                            .head_dim = HEAD_DIM,
                            .block_tokens = BLOCK};
    a->kv.block_bytes = b->d->ops->kv_block_bytes(b->d->dev, &a->kv);
    const uint64_t bytes = n_blocks * a->kv.block_bytes;
    if (bytes == 0 || bytes > b->memory / 2) return OCT_OK;
    if (kind == OCTET_KV_I8_CHANNEL || kind == OCTET_KV_FP8_CHANNEL)
        a->kv.k_scale = a->kv.v_scale = a->scale;
    OCT_TRY(device_bench_room(b, bytes, &a->kv.base, err));
    oct_status st = device_bench_fill(b, a->kv.base, bytes, kind == OCTET_KV_I8_CHANNEL ? 0 : 0x30,
                                      kind == OCTET_KV_I8_CHANNEL ? 255 : 0x3f, err);
    if (st == OCT_OK) st = device_bench_time(b, attend, a, &us, err);
    device_bench_free(b, &a->kv.base);
    if (st != OCT_OK) return st;
    const double rows = (double)h->n_seqs * h->n_rows;
    const double seen = h->n_rows > 1 ? h->context / 2.0 : h->context;
    device_bench_line(b, name, h->n_seqs * h->n_rows, h->context, h->n_heads, us,
                      4 * rows * seen * HEAD_DIM * h->n_heads, (double)bytes);
    return OCT_OK;
}

static oct_status bench_attention(const device_bench *b, attention *a, oct_err *err) {
    const shape *h = a->h;
    const uint64_t rows = (uint64_t)h->n_seqs * h->n_rows;
    const uint64_t n_scales = (uint64_t)h->n_kv_heads * HEAD_DIM * 4;
    OCT_TRY(make_batch(b, a, err));
    OCT_TRY(device_bench_room(b, n_scales, &a->scale, err));
    OCT_TRY(device_bench_fill(b, a->scale, n_scales, 0x3c, 0x3c, err));
    OCT_TRY(device_bench_rows(b, rows, (h->n_heads + 2ull * h->n_kv_heads) * HEAD_DIM, &a->q, err));
    OCT_TRY(device_bench_rows(b, rows, (uint64_t)h->n_heads * HEAD_DIM, &a->out, err));
    for (int i = 0; i < N_KINDS; i++) OCT_TRY(run_kind(b, a, kinds[i], err));
    return OCT_OK;
}

oct_status device_bench_attention(const device_bench *b, oct_err *err) {
    for (size_t i = 0; i < OCT_COUNT(shapes); i++) {
        attention a = {.h = &shapes[i]};
        const oct_status st = bench_attention(b, &a, err);
        octet_ref *const all[] = {&a.q.data,   &a.out.data, &a.scale,      &a.row_pos,
                                  &a.row_slot, &a.seq_row,  &a.seq_kv_len, &a.table};
        for (size_t j = 0; j < OCT_COUNT(all); j++) device_bench_free(b, all[j]);
        if (st != OCT_OK) return st;
    }
    return OCT_OK;
}
