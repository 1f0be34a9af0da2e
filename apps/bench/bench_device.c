/*
 * apps/bench/bench_device.c - products on a device: every shape of layers that are served, from one
 * row to thousands.
 *
 * Random numbers everywhere: zeros hide what was not written, and run faster. So many copies of a
 * weight take turns that none of them is still in a cache; bytes are those of the weight, the rows
 * and the result, each once.
 */
#include "bench_device.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "bench.h"

enum { MAX_COPIES = 64, MAX_CALLS = 400, MAX_ROUNDS = 99 };

/* Beyond any cache; and what a recorded step should last, so that starting it does not count. */
#define COLD_BYTES ((uint64_t)300 << 20)
#define STEP_US 4000.0

/* ---- shared with bench_device_attention.c -----------------------------------------------------
 */

oct_status device_bench_check(const device_bench *b, int32_t code, const char *what, oct_err *err) {
    return oct_device_check(b->d, code, what, err);
}

oct_status device_bench_room(const device_bench *b, uint64_t bytes, octet_ref *out, oct_err *err) {
    *out = (octet_ref){0, 0};
    return device_bench_check(b, b->d->ops->buffer_create(b->d->dev, bytes, &out->buffer),
                              "buffer_create", err);
}

void device_bench_free(const device_bench *b, octet_ref *at) {
    b->d->ops->buffer_destroy(b->d->dev, at->buffer);
    *at = (octet_ref){0, 0};
}

static oct_status put_bytes(const device_bench *b, octet_ref at, const void *from, uint64_t bytes,
                            oct_err *err) {
    OCT_TRY(device_bench_check(b, b->d->ops->write(b->s, at, from, bytes), "write", err));
    return device_bench_check(b, b->d->ops->stream_wait(b->s), "write", err);
}

oct_status device_bench_put(const device_bench *b, const void *words, uint64_t n, octet_ref *out,
                            oct_err *err) {
    OCT_TRY(device_bench_room(b, n * 4, out, err));
    return put_bytes(b, *out, words, n * 4, err);
}

/* A first piece comes from the host, the device doubles it. */
oct_status device_bench_fill(const device_bench *b, octet_ref at, uint64_t bytes, unsigned low,
                             unsigned high, oct_err *err) {
    const uint64_t first = bytes < DEVICE_BENCH_RANDOM ? bytes : DEVICE_BENCH_RANDOM;
    unsigned char *piece = oct_alloc(oct_system_allocator(), first, 1);
    if (!piece) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    for (uint64_t i = 0; i < first; i++)
        piece[i] = (unsigned char)(low + b->random[i] * (high - low + 1) / 256);
    oct_status st = put_bytes(b, at, piece, first, err);
    oct_free(oct_system_allocator(), piece, first, 1);
    for (uint64_t done = first; st == OCT_OK && done < bytes;) {
        const uint64_t n = done < bytes - done ? done : bytes - done;
        const octet_ref to = {at.buffer, at.offset + done};
        st = device_bench_check(b, b->d->ops->copy(b->s, to, at, n), "copy", err);
        done += n;
    }
    if (st != OCT_OK) return st;
    return device_bench_check(b, b->d->ops->stream_wait(b->s), "copy", err);
}

oct_status device_bench_rows(const device_bench *b, uint64_t n, uint64_t width, octet_rows *out,
                             oct_err *err) {
    const uint64_t element = b->d->info.act_dtype == OCTET_F32 ? 4 : 2;
    out->stride = width;
    OCT_TRY(device_bench_room(b, n * width * element, &out->data, err));
    return device_bench_fill(b, out->data, n * width * element, 0x3c, 0x3f, err);
}

static oct_status wait(const device_bench *b, oct_err *err) {
    return device_bench_check(b, b->d->ops->stream_wait(b->s), "stream_wait", err);
}

static oct_status calls(const device_bench *b, device_bench_fn *fn, void *ctx, unsigned n,
                        oct_err *err) {
    for (unsigned i = 0; i < n; i++) OCT_TRY(fn(b, ctx, i, err));
    return OCT_OK;
}

/* Records n calls; *out NULL where the device cannot. */
static oct_status record(const device_bench *b, device_bench_fn *fn, void *ctx, unsigned n,
                         octet_graph **out, oct_err *err) {
    *out = NULL;
    if (!oct_device_can_capture(b->d)) return OCT_OK;
    OCT_TRY(device_bench_check(b, b->d->ops->capture_begin(b->s), "capture_begin", err));
    const oct_status st = calls(b, fn, ctx, n, err);
    const int32_t ended = b->d->ops->capture_end(b->s, out);
    if (st != OCT_OK) return st;
    return device_bench_check(b, ended, "capture_end", err);
}

oct_status device_bench_time(const device_bench *b, device_bench_fn *fn, void *ctx, double *us,
                             oct_err *err) {
    double rounds[MAX_ROUNDS];
    octet_graph *g = NULL;
    OCT_TRY(calls(b, fn, ctx, 2, err)); /* what is made at first use is made now */
    OCT_TRY(wait(b, err));
    const uint64_t begin = oct_now_ns();
    OCT_TRY(calls(b, fn, ctx, 4, err));
    OCT_TRY(wait(b, err));
    const double one = (double)(oct_now_ns() - begin) / 4000;
    const double fit = STEP_US / (one > 1 ? one : 1);
    const unsigned n = fit < 4 ? 4 : fit > MAX_CALLS ? MAX_CALLS : (unsigned)fit;
    OCT_TRY(record(b, fn, ctx, n, &g, err));
    oct_status st = OCT_OK;
    for (uint64_t r = 0; st == OCT_OK && r <= b->o->repeats; r++) {
        const uint64_t from = oct_now_ns();
        st = g ? device_bench_check(b, b->d->ops->replay(b->s, g), "replay", err)
               : calls(b, fn, ctx, n, err);
        if (st == OCT_OK) st = wait(b, err);
        if (r) rounds[r - 1] = (double)(oct_now_ns() - from) / 1000 / n;
    }
    if (g) b->d->ops->graph_destroy(g);
    if (st == OCT_OK) *us = bench_median(rounds, (unsigned)b->o->repeats);
    return st;
}

bool device_bench_wants(const device_bench *b, const char *name) {
    return !b->o->only || strncmp(name, b->o->only, strlen(b->o->only)) == 0;
}

void device_bench_line(const device_bench *b, const char *name, uint64_t m, uint64_t k, uint64_t n,
                       double us, double ops, double bytes) {
    if (b->o->csv)
        printf("%s,%llu,%llu,%llu,%.3f,%.2f,%.4f\n", name, (unsigned long long)m,
               (unsigned long long)k, (unsigned long long)n, us, ops / us * 1e-6,
               bytes / us * 1e-6);
    else
        printf("%-22s %7llu x %6llu x %6llu %10.2f us %8.1f TOPS %7.3f TB/s\n", name,
               (unsigned long long)m, (unsigned long long)k, (unsigned long long)n, us,
               ops / us * 1e-6, bytes / us * 1e-6);
    fflush(stdout);
}

/* ---- memory ------------------------------------------------------------------------------------
 */

typedef struct copying {
    octet_ref from, to;
    uint64_t bytes;
} copying;

static oct_status copy_once(const device_bench *b, void *ctx, unsigned i, oct_err *err) {
    const copying *c = ctx;
    return device_bench_check(
        b, b->d->ops->copy(b->s, i % 2 ? c->from : c->to, i % 2 ? c->to : c->from, c->bytes),
        "copy", err);
}

static oct_status bench_copy(const device_bench *b, oct_err *err) {
    copying c = {.bytes = b->memory / 8 < (1u << 30) ? b->memory / 8 : 1u << 30};
    double us = 0;
    OCT_TRY(device_bench_room(b, c.bytes, &c.from, err));
    oct_status st = device_bench_room(b, c.bytes, &c.to, err);
    if (st == OCT_OK) st = device_bench_fill(b, c.from, c.bytes, 0, 255, err);
    if (st == OCT_OK) st = device_bench_time(b, copy_once, &c, &us, err);
    if (st == OCT_OK) device_bench_line(b, "copy", c.bytes, 1, 1, us, 0, 2.0 * (double)c.bytes);
    device_bench_free(b, &c.from);
    device_bench_free(b, &c.to);
    return st;
}

/* ---- products ----------------------------------------------------------------------------------
 */

typedef struct shape {
    uint32_t dtype;
    uint32_t k, n, n_experts; /* 0: one matrix */
    uint32_t top_k;
} shape;

static const shape shapes[] = {
    {OCTET_I8, 4096, 4096, 0, 0},  {OCTET_I8, 4096, 6144, 0, 0},   {OCTET_I8, 4096, 24576, 0, 0},
    {OCTET_I8, 12288, 4096, 0, 0}, {OCTET_I8, 5120, 10240, 0, 0},  {OCTET_I8, 5120, 51200, 0, 0},
    {OCTET_I8, 25600, 5120, 0, 0}, {OCTET_I8, 8192, 8192, 0, 0},   {OCTET_BF16, 4096, 151936, 0, 0},
    {OCTET_BF16, 2048, 128, 0, 0}, {OCTET_I8, 2048, 1536, 128, 8}, {OCTET_I8, 768, 2048, 128, 8},
};

static const uint32_t row_counts[] = {1, 8, 16, 32, 64, 128, 256, 1024, 4096, 8192};
enum { MOST_ROWS = 8192, HEAD_ROWS = 256 };

typedef struct product {
    const shape *h;
    uint32_t m;
    octet_weight weights[MAX_COPIES];
    unsigned n_weights;
    octet_rows x, out;
    octet_qrows q;
    octet_ref first, row;
} product;

static oct_status make_weight(const device_bench *b, const shape *h, octet_weight *out,
                              oct_err *err) {
    const octet_weight_desc desc = {.struct_bytes = sizeof desc,
                                    .dtype = h->dtype,
                                    .n = h->n,
                                    .k = h->k,
                                    .n_experts = h->n_experts};
    const uint64_t row_bytes = (uint64_t)h->k * (h->dtype == OCTET_I8 ? 1 : 2);
    const uint64_t n_all = (uint64_t)h->n * (h->n_experts ? h->n_experts : 1);
    const uint64_t most = DEVICE_BENCH_RANDOM / 2 / row_bytes;
    float *scale = oct_alloc(oct_system_allocator(), most, sizeof *scale);
    if (!scale) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    for (uint64_t i = 0; i < most; i++) scale[i] = 1e-4f;
    oct_status st = device_bench_check(b, b->d->ops->weight_create(b->d->dev, &desc, out),
                                       "weight_create", err);
    for (uint64_t at = 0; st == OCT_OK && at < n_all; at += most) {
        /* Bytes of bf16 in the upper half, whose exponents are small. */
        const unsigned char *data = b->random + (h->dtype == OCTET_I8 ? 0 : DEVICE_BENCH_RANDOM);
        const octet_weight_rows rows = {.struct_bytes = sizeof rows,
                                        .row = at,
                                        .n_rows = n_all - at < most ? n_all - at : most,
                                        .data = data,
                                        .col_scale = h->dtype == OCTET_I8 ? scale : NULL};
        st = device_bench_check(b, b->d->ops->weight_write(b->d->dev, *out, &rows), "weight_write",
                                err);
    }
    oct_free(oct_system_allocator(), scale, most, sizeof *scale);
    return st;
}

/* Every expert equally often, rows in an order without order. */
static oct_status make_groups(const device_bench *b, product *p, uint32_t m, oct_err *err) {
    const uint32_t n = m * p->h->top_k, e = p->h->n_experts;
    int32_t *words = oct_alloc(oct_system_allocator(), (size_t)e + 1 + n, sizeof *words);
    if (!words) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    for (uint32_t i = 0; i <= e; i++) words[i] = (int32_t)((uint64_t)i * n / e);
    if (n < e) /* few rows: of as many experts, evenly apart */
        for (uint32_t i = 0; i <= e; i++) words[i] = (int32_t)(((uint64_t)i * n + e - 1) / e);
    for (uint32_t i = 0; i < n; i++) words[e + 1 + i] = (int32_t)((uint64_t)i * 2654435761u % m);
    oct_status st = device_bench_put(b, words, (uint64_t)e + 1, &p->first, err);
    if (st == OCT_OK) st = device_bench_put(b, words + e + 1, n, &p->row, err);
    oct_free(oct_system_allocator(), words, (size_t)e + 1 + n, sizeof *words);
    return st;
}

static oct_status multiply(const device_bench *b, void *ctx, unsigned i, oct_err *err) {
    const product *p = ctx;
    const octet_weight w = p->weights[i % p->n_weights];
    if (p->h->n_experts) {
        const octet_linear_grouped_op op = {.struct_bytes = sizeof op,
                                            .n_rows = p->m * p->h->top_k,
                                            .n_in = p->m,
                                            .weight = w,
                                            .first = p->first,
                                            .row = p->row,
                                            .qx = p->q,
                                            .out = p->out};
        return device_bench_check(b, b->d->ops->linear_grouped(b->s, &op), "linear_grouped", err);
    }
    const octet_linear_op op = {.struct_bytes = sizeof op,
                                .n_rows = p->m,
                                .weight = w,
                                .x = p->x,
                                .qx = p->q,
                                .out = p->out,
                                .out_dtype = p->h->dtype == OCTET_I8 ? 0 : OCTET_F32};
    return device_bench_check(b, b->d->ops->linear(b->s, &op), "linear", err);
}

/* What a product of m rows reads and writes at least. */
static double bytes_of(const device_bench *b, const shape *h, uint32_t m) {
    const double element = h->dtype == OCTET_I8 ? 1 : 2,
                 rows = (double)m * (h->top_k ? h->top_k : 1);
    const double act = b->d->info.act_dtype == OCTET_F32 ? 4 : 2;
    double used = 1;
    if (h->n_experts) used = rows < h->n_experts ? rows : h->n_experts;
    return used * h->k * h->n * element + (double)m * h->k * element +
           rows * h->n * (h->dtype == OCTET_I8 ? act : 4);
}

static const char *name_of(const shape *h) {
    return h->n_experts ? "experts int8" : h->dtype == OCTET_I8 ? "linear int8" : "linear bf16";
}

static oct_status run_rows(const device_bench *b, product *p, oct_err *err) {
    const shape *h = p->h;
    const double rows = (double)p->m * (h->top_k ? h->top_k : 1);
    double us = 0;
    if (h->n_experts) OCT_TRY(make_groups(b, p, p->m, err));
    const oct_status st = device_bench_time(b, multiply, p, &us, err);
    device_bench_free(b, &p->first);
    device_bench_free(b, &p->row);
    if (st != OCT_OK) return st;
    device_bench_line(b, name_of(h), p->m, h->k, h->n, us, 2 * rows * h->k * h->n,
                      bytes_of(b, h, p->m));
    return OCT_OK;
}

static oct_status make_rows(const device_bench *b, product *p, uint32_t most, oct_err *err) {
    const shape *h = p->h;
    const uint64_t n_out = (uint64_t)most * (h->top_k ? h->top_k : 1);
    p->q.stride = h->k;
    p->out.stride = h->n;
    OCT_TRY(device_bench_room(b, n_out * h->n * 4, &p->out.data, err));
    if (h->dtype != OCTET_I8) return device_bench_rows(b, most, h->k, &p->x, err);
    OCT_TRY(device_bench_room(b, (uint64_t)most * h->k, &p->q.data, err));
    OCT_TRY(device_bench_fill(b, p->q.data, (uint64_t)most * h->k, 0, 255, err));
    OCT_TRY(device_bench_room(b, (uint64_t)most * 4, &p->q.scale, err));
    return device_bench_fill(b, p->q.scale, (uint64_t)most * 4, 0x3c, 0x3f, err);
}

static oct_status bench_shape(const device_bench *b, const shape *h, product *p, oct_err *err) {
    const uint64_t bytes =
        (uint64_t)h->k * h->n * (h->dtype == OCTET_I8 ? 1 : 2) * (h->n_experts ? h->n_experts : 1);
    const uint32_t most = h->dtype == OCTET_I8 ? MOST_ROWS : HEAD_ROWS;
    uint64_t copies = COLD_BYTES / bytes + 2;
    if (bytes * 3 > b->memory) return OCT_OK; /* a small device */
    if (copies * bytes > b->memory / 2) copies = 1;
    if (copies > MAX_COPIES) copies = MAX_COPIES;
    *p = (product){.h = h};
    OCT_TRY(make_rows(b, p, most, err));
    for (; p->n_weights < copies; p->n_weights++)
        OCT_TRY(make_weight(b, h, &p->weights[p->n_weights], err));
    for (size_t i = 0; i < OCT_COUNT(row_counts) && row_counts[i] <= most; i++) {
        p->m = row_counts[i];
        OCT_TRY(run_rows(b, p, err));
    }
    return OCT_OK;
}

static void free_product(const device_bench *b, product *p) {
    for (unsigned i = 0; i < MAX_COPIES; i++) b->d->ops->weight_destroy(b->d->dev, p->weights[i]);
    device_bench_free(b, &p->x.data);
    device_bench_free(b, &p->q.data);
    device_bench_free(b, &p->q.scale);
    device_bench_free(b, &p->out.data);
}

static oct_status bench_products(const device_bench *b, oct_err *err) {
    for (size_t i = 0; i < OCT_COUNT(shapes); i++) {
        product p = {0};
        if (!device_bench_wants(b, name_of(&shapes[i]))) continue;
        if (shapes[i].n_experts && !oct_device_has_experts(b->d)) continue;
        const oct_status st = bench_shape(b, &shapes[i], &p, err);
        free_product(b, &p);
        if (st != OCT_OK) return st;
    }
    return OCT_OK;
}

/* ---- the measurement ---------------------------------------------------------------------------
 */

/* The lower half any bytes; the upper halves between 2^-7 and 2 of either sign, as bf16. */
static unsigned char *make_random(void) {
    unsigned char *v = oct_alloc(oct_system_allocator(), 2 * (size_t)DEVICE_BENCH_RANDOM, 1);
    uint64_t state = 1;
    for (size_t i = 0; v && i < 2 * (size_t)DEVICE_BENCH_RANDOM; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        v[i] = (unsigned char)(state >> 56);
        if (i >= DEVICE_BENCH_RANDOM && i % 2) v[i] = (unsigned char)((v[i] & 0x83) | 0x3c);
    }
    return v;
}

int device_bench_run(opened *m, const device_bench_options *o) {
    oct_err err = {0};
    device_bench b = {.d = m->device, .o = o, .random = make_random()};
    if (!b.random) return cli_fail(EXIT_SYSTEM, "bench: no memory");
    b.memory = b.d->info.mem_free_bytes;
    if (o->csv)
        puts("name,m,k,n,us,tops,tbs");
    else
        printf("%s\n", b.d->info.name);
    oct_status st =
        device_bench_check(&b, b.d->ops->stream_create(b.d->dev, &b.s), "stream_create", &err);
    if (st == OCT_OK && device_bench_wants(&b, "copy")) st = bench_copy(&b, &err);
    if (st == OCT_OK) st = bench_products(&b, &err);
    if (st == OCT_OK) st = device_bench_attention(&b, &err);
    if (b.s) b.d->ops->stream_destroy(b.s);
    oct_free(oct_system_allocator(), b.random, 2 * (size_t)DEVICE_BENCH_RANDOM, 1);
    return st == OCT_OK ? EXIT_CLEAN : cli_fail(cli_status_of(st), "%s", err.text);
}
