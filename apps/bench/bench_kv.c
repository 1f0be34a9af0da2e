/*
 * apps/bench/bench_kv.c - one layer's cache: a text is written to it in steps of WRITE_ROWS rows
 * (attn_input without norm and rotation), then one row attends to all of it, which is what a decode
 * does. The types take turns within a round; the best of the rounds is told, because other programs
 * only make a run slower.
 */
#include "bench_kv.h"

#include <math.h>
#include <stdio.h>

#include "base/clock.h"

enum { MAX_ROUNDS = 99, WRITE_ROWS = 256, BLOCK = 32, N_KINDS = 6, DECODES = 4 };

static const uint32_t kinds[N_KINDS] = {OCTET_KV_I8_CHANNEL,  OCTET_KV_I8_TOKEN,
                                        OCTET_KV_FP8_CHANNEL, OCTET_KV_F16,
                                        OCTET_KV_BF16,        OCTET_KV_F32};

typedef struct shape {
    uint32_t n_heads, n_kv_heads, head_dim;
} shape;

static const shape shapes[] = {{32, 8, 128}, {9, 3, 64}, {16, 16, 128}};

typedef struct bench {
    oct_device *d;
    octet_stream *s;
    const shape *shape;
    uint32_t context; /* a multiple of WRITE_ROWS */
    octet_rows qkv, out;
    octet_ref scale, position, table;
    octet_ref
        seq_row; /* {0, WRITE_ROWS, context, 0, 1}: rows of a write, tokens, row of a decode */
    octet_kv_desc kv[N_KINDS];
    double write_us[N_KINDS][MAX_ROUNDS], decode_us[N_KINDS][MAX_ROUNDS];
} bench;

static oct_status check(const bench *b, int32_t code, const char *what, oct_err *err) {
    return oct_device_check(b->d, code, what, err);
}

static oct_status room(bench *b, uint64_t bytes, octet_ref *out, oct_err *err) {
    *out = (octet_ref){0, 0};
    return check(b, b->d->ops->buffer_create(b->d->dev, bytes, &out->buffer), "buffer_create", err);
}

/* Memory with n words in it. */
static oct_status put(bench *b, const void *words, uint64_t n, octet_ref *out, oct_err *err) {
    OCT_TRY(room(b, n * 4, out, err));
    OCT_TRY(check(b, b->d->ops->write(b->s, *out, words, n * 4), "write", err));
    return check(b, b->d->ops->stream_wait(b->s), "write", err);
}

static oct_status make_caches(bench *b, oct_err *err) {
    for (int k = 0; k < N_KINDS; k++) {
        octet_kv_desc *kv = &b->kv[k];
        *kv = (octet_kv_desc){.struct_bytes = sizeof *kv,
                              .kind = kinds[k],
                              .n_kv_heads = b->shape->n_kv_heads,
                              .head_dim = b->shape->head_dim,
                              .block_tokens = BLOCK};
        kv->block_bytes = b->d->ops->kv_block_bytes(b->d->dev, kv);
        if (kv->block_bytes == 0) continue;
        OCT_TRY(room(b, b->context / BLOCK * kv->block_bytes, &kv->base, err));
        if (kinds[k] != OCTET_KV_I8_CHANNEL && kinds[k] != OCTET_KV_FP8_CHANNEL) continue;
        kv->k_scale = kv->v_scale = b->scale;
    }
    return OCT_OK;
}

static oct_status make(bench *b, oct_err *err) {
    const uint64_t width =
        ((uint64_t)b->shape->n_heads + 2ull * b->shape->n_kv_heads) * b->shape->head_dim;
    const uint64_t n = width * WRITE_ROWS + b->context;
    union {
        float f;
        int32_t i;
    } *words = oct_alloc(oct_system_allocator(), n, sizeof *words);
    if (!words) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    uint32_t seed = 1;
    for (uint64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        words[i].f = (float)(seed >> 8) * 0x1p-23f - 1.0f;
    }
    oct_status st = put(b, words, width * WRITE_ROWS, &b->qkv.data, err);
    b->qkv.stride = width;
    for (uint64_t i = 0; i < n; i++) words[i].f = 1.0f / 127;
    if (st == OCT_OK) st = put(b, words, width, &b->scale, err);
    for (uint64_t i = 0; i < b->context; i++) words[i].i = (int32_t)i;
    if (st == OCT_OK) st = put(b, words, b->context, &b->position, err);
    if (st == OCT_OK) st = put(b, words, b->context / BLOCK, &b->table, err);
    words[1].i = WRITE_ROWS;
    words[2].i = (int32_t)b->context;
    words[3].i = 0;
    words[4].i = 1;
    if (st == OCT_OK) st = put(b, words, 5, &b->seq_row, err);
    oct_free(oct_system_allocator(), words, n, sizeof *words);
    OCT_TRY(st);
    b->out.stride = (uint64_t)b->shape->n_heads * b->shape->head_dim;
    OCT_TRY(room(b, b->out.stride * 4, &b->out.data, err));
    return make_caches(b, err);
}

static octet_ref word(octet_ref at, uint64_t i) {
    return (octet_ref){at.buffer, at.offset + 4 * i};
}

/* n rows (1 or WRITE_ROWS) behind the first `before` tokens. */
static octet_batch batch_of(const bench *b, uint32_t before, uint32_t n) {
    return (octet_batch){.struct_bytes = sizeof(octet_batch),
                         .n_seqs = 1,
                         .n_rows = n,
                         .max_seq_rows = n,
                         .max_kv_len = b->context,
                         .table_stride = b->context / BLOCK,
                         .row_pos = word(b->position, before),
                         .row_slot = word(b->position, before),
                         .seq_row = word(b->seq_row, n == 1 ? 3 : 0),
                         .seq_kv_len = word(b->seq_row, 2),
                         .block_table = b->table};
}

static oct_status write_text(const bench *b, int k, double *us, oct_err *err) {
    const uint64_t begin = oct_now_ns();
    for (uint32_t at = 0; at < b->context; at += WRITE_ROWS) {
        const octet_attn_input_op op = {.struct_bytes = sizeof op,
                                        .n_heads = b->shape->n_heads,
                                        .qkv = b->qkv,
                                        .kv = b->kv[k],
                                        .batch = batch_of(b, at, WRITE_ROWS)};
        OCT_TRY(check(b, b->d->ops->attn_input(b->s, &op), "attn_input", err));
    }
    OCT_TRY(check(b, b->d->ops->stream_wait(b->s), "attn_input", err));
    *us = (double)(oct_now_ns() - begin) / 1000 / b->context;
    return OCT_OK;
}

static oct_status decode(const bench *b, int k, double *us, oct_err *err) {
    const octet_attention_op op = {.struct_bytes = sizeof op,
                                   .n_heads = b->shape->n_heads,
                                   .q = b->qkv,
                                   .kv = b->kv[k],
                                   .batch = batch_of(b, b->context - 1, 1),
                                   .scale = 1.0f / sqrtf((float)b->shape->head_dim),
                                   .out = b->out};
    *us = INFINITY;
    for (int i = 0; i < DECODES; i++) {
        const uint64_t begin = oct_now_ns();
        OCT_TRY(check(b, b->d->ops->attention(b->s, &op), "attention", err));
        OCT_TRY(check(b, b->d->ops->stream_wait(b->s), "attention", err));
        *us = fmin(*us, (double)(oct_now_ns() - begin) / 1000);
    }
    return OCT_OK;
}

static double least(const double *v, uint64_t n) {
    double best = v[0];
    for (uint64_t i = 1; i < n; i++) best = fmin(best, v[i]);
    return best;
}

static void print(bench *b, const kv_options *o) {
    const shape *h = b->shape;
    const double one_decode = least(b->decode_us[0], o->repeats);
    const double one_write = least(b->write_us[0], o->repeats);
    if (!o->json)
        printf(
            "%s, %u heads over %u of %u, %u tokens\n"
            "  type                 bytes/token  decode us   of int8  write us/token   of int8\n",
            b->d->info.name, h->n_heads, h->n_kv_heads, h->head_dim, b->context);
    for (int k = 0; k < N_KINDS; k++) {
        if (b->kv[k].block_bytes == 0) continue;
        const double us = least(b->decode_us[k], o->repeats);
        const double write = least(b->write_us[k], o->repeats);
        const unsigned long long bytes = b->kv[k].block_bytes / BLOCK;
        const char *name = oct_kv_kind_name(kinds[k]);
        if (o->json)
            printf("{\"heads\": %u, \"kv_heads\": %u, \"head_dim\": %u, \"context\": %u, "
                   "\"type\": \"%s\", \"bytes_per_token\": %llu, \"decode_us\": %.1f, "
                   "\"decode_of_int8\": %.3f, \"write_us_per_token\": %.3f, "
                   "\"write_of_int8\": %.3f}\n",
                   h->n_heads, h->n_kv_heads, h->head_dim, b->context, name, bytes, us,
                   us / one_decode, write, write / one_write);
        else
            printf("  %-20s %11llu %10.1f %9.2f %14.2f %9.2f\n", name, bytes, us, us / one_decode,
                   write, write / one_write);
    }
}

static void unmake(bench *b) {
    const octet_ref all[] = {b->qkv.data, b->out.data, b->scale, b->position, b->seq_row, b->table};
    for (size_t i = 0; i < OCT_COUNT(all); i++) b->d->ops->buffer_destroy(b->d->dev, all[i].buffer);
    for (int k = 0; k < N_KINDS; k++) b->d->ops->buffer_destroy(b->d->dev, b->kv[k].base.buffer);
    *b = (bench){.d = b->d, .s = b->s, .context = b->context};
}

static oct_status run_shape(bench *b, const kv_options *o, oct_err *err) {
    OCT_TRY(make(b, err));
    for (uint64_t r = 0; r <= o->repeats; r++) /* the first round is not counted */
        for (int k = 0; k < N_KINDS; k++) {
            const uint64_t at = r ? r - 1 : 0;
            if (b->kv[k].block_bytes == 0) continue;
            OCT_TRY(write_text(b, k, &b->write_us[k][at], err));
            OCT_TRY(decode(b, k, &b->decode_us[k][at], err));
        }
    print(b, o);
    return OCT_OK;
}

int kv_run(const open_options *open, const kv_options *o) {
    opened m = {0};
    oct_err err = {0};
    const int status = open_device(open, &m);
    if (status >= 0) return status;
    bench *b = oct_calloc(oct_system_allocator(), 1, sizeof *b);
    oct_status st = b ? OCT_OK : OCT_FAIL(&err, OCT_E_NOMEM, "bench: no memory");
    if (b) {
        b->d = m.device;
        b->context = (uint32_t)((o->context + WRITE_ROWS - 1) / WRITE_ROWS * WRITE_ROWS);
        st = check(b, b->d->ops->stream_create(b->d->dev, &b->s), "stream", &err);
        for (size_t i = 0; i < OCT_COUNT(shapes) && st == OCT_OK; i++) {
            b->shape = &shapes[i];
            st = run_shape(b, o, &err);
            unmake(b);
        }
        if (b->s) b->d->ops->stream_destroy(b->s);
    }
    oct_free(oct_system_allocator(), b, 1, sizeof *b);
    opened_close(&m);
    return st == OCT_OK ? EXIT_CLEAN : cli_fail(cli_status_of(st), "%s", err.text);
}
