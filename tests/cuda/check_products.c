/*
 * tests/cuda/check_products.c - products of the CUDA device beside plain C, bit for bit, and the
 * kernels that have a twin beside that twin.
 *
 *     check_products PLUGIN|NAME [large]
 *
 * int8: sums are exact and the epilogue is a few roundings in a fixed order, so every bit of the
 * result is known; each case runs with "wgmma=0" and "wgmma=1" (the same kernel twice where the
 * chip has no wgmma). Float: rows in batches of every size must give the bits they give alone.
 * large: shapes as models have them, which only a GPU computes in time; there the twins are held
 * against each other and a sample of the results against C.
 *
 * Exit status 0: all equal.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "device/device.h"
#include "quant/float_types.h"

typedef struct product {
    uint32_t m, n, k;
    uint32_t n_experts, n_in; /* experts 0: one matrix; rows of x */
    uint32_t pad;             /* behind a row of x and of the result */
    bool gathered, int_bias, bias, accumulate, f32;
} product;

static const product small[] = {
    {1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0},         {3, 17, 65, 0, 3, 15, 0, 1, 1, 0, 0},
    {9, 129, 257, 0, 9, 0, 0, 1, 0, 1, 0},     {33, 300, 400, 0, 33, 0, 0, 0, 1, 0, 1},
    {64, 260, 128, 0, 64, 0, 0, 0, 0, 0, 0},   {130, 257, 272, 0, 130, 0, 0, 1, 1, 1, 0},
    {200, 40, 640, 0, 200, 16, 0, 0, 0, 0, 0}, {14, 130, 144, 5, 7, 0, 1, 1, 1, 0, 0},
    {40, 96, 65, 3, 40, 7, 0, 0, 0, 1, 0},     {150, 200, 128, 7, 30, 0, 1, 0, 1, 0, 0},
    {260, 270, 304, 2, 130, 0, 1, 1, 0, 1, 0}, {129, 513, 160, 0, 129, 0, 0, 1, 1, 0, 1},
};
static const product large[] = {
    {1, 4096, 4096, 0, 1, 0, 0, 1, 1, 0, 0},         {16, 6144, 4096, 0, 16, 0, 0, 0, 0, 0, 0},
    {64, 4096, 12288, 0, 64, 0, 0, 0, 0, 1, 0},      {100, 24576, 4096, 0, 100, 0, 0, 0, 0, 0, 0},
    {1000, 1030, 4112, 0, 1000, 0, 0, 1, 1, 1, 0},   {4096, 4096, 4096, 0, 4096, 0, 0, 0, 0, 0, 0},
    {5000, 6144, 4096, 0, 5000, 0, 0, 1, 1, 0, 0},   {4096, 4096, 12288, 0, 4096, 0, 0, 0, 0, 1, 0},
    {8192, 1536, 2048, 128, 1024, 0, 1, 0, 0, 0, 0}, {8192, 2048, 768, 128, 8192, 0, 0, 0, 0, 0, 0},
    {512, 1536, 2048, 128, 64, 0, 1, 1, 1, 0, 0},    {8, 1536, 2048, 128, 1, 0, 1, 0, 0, 0, 0},
    {300, 250, 131056, 0, 300, 0, 0, 0, 0, 0, 1},
};

/* What both kernels and C are given. */
typedef struct data {
    int8_t *w, *q;
    float *cs, *rs, *bias, *out;
    int32_t *ib, *first, *row;
    uint32_t ldq, ldo;
} data;

typedef struct side {
    oct_device *d;
    octet_stream *s;
    octet_buffer buffers[16];
    unsigned n_buffers;
} side;

static uint64_t state;
static uint32_t next(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "check_products: %s: %s\n", what, why);
    exit(1);
}

static void *mem(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) fail("memory", "refused");
    return p;
}

static void check(const side *s, int32_t code, const char *what) {
    oct_err err = {.code = OCT_OK};
    if (oct_device_check(s->d, code, what, &err) != OCT_OK) fail(what, err.text);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

static uint32_t n_matrices(const product *p) { return p->n_experts ? p->n_experts : 1; }

static void make_groups(const product *p, data *d) {
    d->first = mem(p->n_experts + 1, sizeof *d->first);
    d->row = mem(p->m, sizeof *d->row);
    for (uint32_t i = 0; i < p->m; i++) d->row[i] = (int32_t)(next() % p->n_in);
    /* Unevenly: half of the rows to one expert, some to none. */
    for (uint32_t i = 0; i < p->m; i++) {
        const uint32_t e = next() % 2 ? p->n_experts / 2 : next() % p->n_experts;
        d->first[e + 1]++;
    }
    for (uint32_t e = 0; e < p->n_experts; e++) d->first[e + 1] += d->first[e];
}

static data make_data(const product *p, uint64_t seed) {
    data d = {.ldq = p->k + p->pad, .ldo = p->n + p->pad};
    const size_t rows = (size_t)p->n * n_matrices(p);
    state = seed;
    d.w = mem(rows * p->k, 1);
    d.q = mem((size_t)p->n_in * d.ldq, 1);
    d.cs = mem(rows, sizeof *d.cs);
    d.bias = mem(rows, sizeof *d.bias);
    d.ib = mem(rows, sizeof *d.ib);
    d.rs = mem(p->n_in, sizeof *d.rs);
    d.out = mem((size_t)p->m * d.ldo, sizeof *d.out);
    for (size_t i = 0; i < rows * p->k; i++) d.w[i] = (int8_t)next();
    for (size_t i = 0; i < (size_t)p->n_in * d.ldq; i++) d.q[i] = (int8_t)next();
    for (size_t i = 0; i < rows; i++) {
        d.cs[i] = (float)(1 + next() % 1000) * 0x1p-20f;
        d.bias[i] = (float)(int32_t)next() * 0x1p-30f;
        d.ib[i] = (int32_t)(next() % 100000) - 50000;
    }
    for (uint32_t i = 0; i < p->n_in; i++) d.rs[i] = (float)(1 + next() % 1000) * 0x1p-10f;
    for (size_t i = 0; i < (size_t)p->m * d.ldo; i++)
        d.out[i] = oct_bf16_to_f32(oct_f32_to_bf16((float)(int32_t)next() * 0x1p-30f));
    if (p->n_experts) make_groups(p, &d);
    return d;
}

static void free_data(data *d) {
    void *const all[] = {d->w, d->q, d->cs, d->rs, d->bias, d->out, d->ib, d->first, d->row};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* ---- the device ------------------------------------------------------------------------------ */

static octet_ref put(side *s, const void *from, size_t bytes) {
    octet_ref at = {0, 0};
    check(s, s->d->ops->buffer_create(s->d->dev, bytes, &at.buffer), "buffer_create");
    check(s, s->d->ops->write(s->s, at, from, bytes), "write");
    check(s, s->d->ops->stream_wait(s->s), "write");
    s->buffers[s->n_buffers++] = at.buffer;
    return at;
}

static void drop(side *s) {
    while (s->n_buffers) s->d->ops->buffer_destroy(s->d->dev, s->buffers[--s->n_buffers]);
}

static side open_side(const char *name, const char *settings) {
    const oct_device_options o = {.settings = settings};
    oct_err err = {.code = OCT_OK};
    side s = {0};
    if (oct_device_open(oct_system_allocator(), name, &o, &s.d, &err) != OCT_OK)
        fail("open", err.text);
    check(&s, s.d->ops->stream_create(s.d->dev, &s.s), "stream_create");
    return s;
}

static void close_side(side *s) {
    s->d->ops->stream_destroy(s->s);
    oct_device_close(s->d);
}

static octet_weight make_weight(side *s, uint32_t dtype, const product *p, const void *w,
                                const data *d) {
    const octet_weight_desc desc = {.struct_bytes = sizeof desc,
                                    .dtype = dtype,
                                    .n = p->n,
                                    .k = p->k,
                                    .n_experts = p->n_experts};
    const octet_weight_rows rows = {.struct_bytes = sizeof rows,
                                    .n_rows = (uint64_t)p->n * n_matrices(p),
                                    .data = w,
                                    .col_scale = d ? d->cs : NULL,
                                    .int_bias = d && p->int_bias ? d->ib : NULL,
                                    .bias = d && p->bias ? d->bias : NULL};
    octet_weight out = 0;
    check(s, s->d->ops->weight_create(s->d->dev, &desc, &out), "weight_create");
    check(s, s->d->ops->weight_write(s->d->dev, out, &rows), "weight_write");
    return out;
}

/* The result as the device leaves it: uint16 or float [m][ldo]. */
static void *multiply(side *s, const product *p, const data *d) {
    const size_t n_out = (size_t)p->m * d->ldo, element = p->f32 ? 4 : 2;
    uint16_t *narrow = mem(n_out, 4);
    for (size_t i = 0; i < n_out && !p->f32; i++) narrow[i] = oct_f32_to_bf16(d->out[i]);
    if (p->f32) memcpy(narrow, d->out, n_out * 4);
    const octet_weight w = make_weight(s, OCTET_I8, p, d->w, d);
    const octet_qrows qx = {put(s, d->q, (size_t)p->n_in * d->ldq), put(s, d->rs, p->n_in * 4ull),
                            d->ldq};
    const octet_rows out = {put(s, narrow, n_out * element), d->ldo};
    if (p->n_experts) {
        octet_linear_grouped_op op = {.struct_bytes = sizeof op,
                                      .n_rows = p->m,
                                      .n_in = p->n_in,
                                      .out_dtype = p->f32 ? OCTET_F32 : 0,
                                      .accumulate = p->accumulate,
                                      .weight = w,
                                      .first = put(s, d->first, (p->n_experts + 1) * 4ull),
                                      .qx = qx,
                                      .out = out};
        if (p->gathered) op.row = put(s, d->row, p->m * 4ull);
        check(s, s->d->ops->linear_grouped(s->s, &op), "linear_grouped");
    } else {
        const octet_linear_op op = {.struct_bytes = sizeof op,
                                    .n_rows = p->m,
                                    .weight = w,
                                    .qx = qx,
                                    .out = out,
                                    .out_dtype = p->f32 ? OCTET_F32 : 0,
                                    .accumulate = p->accumulate};
        check(s, s->d->ops->linear(s->s, &op), "linear");
    }
    check(s, s->d->ops->stream_wait(s->s), "stream_wait");
    check(s, s->d->ops->read(s->s, narrow, out.data, n_out * element), "read");
    check(s, s->d->ops->stream_wait(s->s), "read");
    s->d->ops->weight_destroy(s->d->dev, w);
    drop(s);
    return narrow;
}

/* ---- plain C --------------------------------------------------------------------------------- */

static float reference(const product *p, const data *d, uint32_t row, uint32_t n) {
    uint32_t e = 0, from = row;
    if (p->n_experts)
        while ((uint32_t)d->first[e + 1] <= row) e++;
    if (p->gathered) from = (uint32_t)d->row[row];
    const size_t at = (size_t)e * p->n + n;
    const int8_t *w = d->w + at * p->k, *q = d->q + (size_t)from * d->ldq;
    int32_t sum = 0;
    for (uint32_t k = 0; k < p->k; k++) sum += w[k] * q[k];
    float y = (float)(sum + (p->int_bias ? d->ib[at] : 0)) * d->rs[from];
    y = y * d->cs[at];
    if (p->bias) y = y + d->bias[at];
    return p->accumulate ? d->out[(size_t)row * d->ldo + n] + y : y;
}

static size_t wrong_places(const product *p, const data *d, const void *got, size_t every) {
    size_t wrong = 0;
    for (size_t i = 0; i < (size_t)p->m * d->ldo; i++) {
        const uint32_t row = (uint32_t)(i / d->ldo), n = (uint32_t)(i % d->ldo);
        if (n < p->n && i % every) continue;
        const float want = n < p->n ? reference(p, d, row, n) : d->out[i]; /* padding stays */
        const uint32_t w = p->f32 ? oct_f32_bits(want) : oct_f32_to_bf16(want);
        const uint32_t g = p->f32 ? ((const uint32_t *)got)[i] : ((const uint16_t *)got)[i];
        if (w != g && wrong++ == 0)
            fprintf(stderr, "  first: row %u, output %u: got %08x, want %08x\n", row, n, g, w);
    }
    return wrong;
}

static size_t run_case(side *mma, side *wgmma, const product *p, uint64_t seed, bool is_large) {
    data d = make_data(p, seed);
    const size_t bytes = (size_t)p->m * d.ldo * (p->f32 ? 4 : 2);
    void *one = multiply(mma, p, &d), *other = multiply(wgmma, p, &d);
    const uint64_t work = (uint64_t)p->m * p->n * p->k;
    const size_t every = is_large && work > 100000000 ? (size_t)(work / 100000000) | 1 : 1;
    const size_t wrong = wrong_places(p, &d, one, every);
    const size_t differ = memcmp(one, other, bytes) != 0;
    const size_t wrong_too = differ ? wrong_places(p, &d, other, every) : 0;
    printf("%s int8 %5u x %5u x %6u experts %3u%s: %zu wrong, wgmma %s (%zu wrong)\n",
           wrong || differ ? "BAD" : "ok ", p->m, p->n, p->k, p->n_experts,
           p->gathered ? " gathered" : "", wrong, differ ? "differs" : "equal", wrong_too);
    fflush(stdout);
    free(one);
    free(other);
    free_data(&d);
    return wrong + differ;
}

/* ---- float rows, alone and among others ------------------------------------------------------ */

static void float_rows(side *s, octet_weight w, const product *p, octet_ref x, uint32_t first,
                       uint32_t m, float *out) {
    const octet_ref room = put(s, out, (size_t)m * p->n * 4);
    const octet_linear_op op = {
        .struct_bytes = sizeof op,
        .n_rows = m,
        .weight = w,
        .x = {{x.buffer, (uint64_t)first * (p->k + p->pad) * 2}, p->k + p->pad},
        .out = {room, p->n},
        .out_dtype = OCTET_F32};
    check(s, s->d->ops->linear(s->s, &op), "linear");
    check(s, s->d->ops->stream_wait(s->s), "linear");
    check(s, s->d->ops->read(s->s, out, room, (size_t)m * p->n * 4), "read");
    check(s, s->d->ops->stream_wait(s->s), "read");
    s->n_buffers--;
    s->d->ops->buffer_destroy(s->d->dev, room.buffer);
}

static size_t run_float(side *s, uint32_t dtype, const product *p, uint64_t seed) {
    static const uint32_t batches[] = {1, 7, 16, 30, 64, 100};
    const size_t n_w = (size_t)p->n * p->k, n_out = (size_t)p->m * p->n;
    float *w = mem(n_w, 4), *all = mem(n_out, 4), *part = mem(n_out, 4);
    uint16_t *x = mem((size_t)p->m * (p->k + p->pad), 2);
    size_t wrong = 0;
    state = seed;
    for (size_t i = 0; i < n_w; i++) w[i] = (float)(int32_t)next() * 0x1p-32f;
    for (size_t i = 0; i < n_w && dtype != OCTET_F32; i++)
        ((uint16_t *)w)[i] = dtype == OCTET_BF16 ? oct_f32_to_bf16(w[i]) : oct_f32_to_f16(w[i]);
    for (size_t i = 0; i < (size_t)p->m * (p->k + p->pad); i++)
        x[i] = oct_f32_to_bf16((float)(int32_t)next() * 0x1p-31f);
    const octet_weight weight = make_weight(s, dtype, p, w, NULL);
    const octet_ref rows = put(s, x, (size_t)p->m * (p->k + p->pad) * 2);
    float_rows(s, weight, p, rows, 0, p->m, all);
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
        for (uint32_t at = 0; at < p->m && at < 4 * batches[b]; at += batches[b]) {
            const uint32_t m = p->m - at < batches[b] ? p->m - at : batches[b];
            float_rows(s, weight, p, rows, at, m, part);
            wrong += memcmp(part, all + (size_t)at * p->n, (size_t)m * p->n * 4) != 0;
        }
    /* And near the sum in double, which is what the split must not lose. */
    double worst = 0;
    for (uint32_t r = 0; r < p->m; r += 13)
        for (uint32_t n = 0; n < p->n; n += 1 + p->n / 50) {
            double sum = 0;
            for (uint32_t k = 0; k < p->k; k++) {
                const size_t i = (size_t)n * p->k + k;
                const float v = dtype == OCTET_F32    ? w[i]
                                : dtype == OCTET_BF16 ? oct_bf16_to_f32(((uint16_t *)w)[i])
                                                      : oct_f16_to_f32(((uint16_t *)w)[i]);
                sum += (double)v * oct_bf16_to_f32(x[(size_t)r * (p->k + p->pad) + k]);
            }
            worst = fmax(worst, fabs(sum - all[(size_t)r * p->n + n]));
        }
    /* Terms of at most 1/2: 8 units in the last place of the largest partial sum, with room. */
    const double allowed = 8 * 0x1p-23 * sqrt((double)p->k) * 8;
    const bool off = !(worst <= allowed);
    printf("%s float %u: %u x %u x %u: %zu batches differ, off by %.2g (of %.2g)\n",
           wrong || off ? "BAD" : "ok ", dtype, p->m, p->n, p->k, wrong, worst, allowed);
    fflush(stdout);
    s->d->ops->weight_destroy(s->d->dev, weight);
    drop(s);
    free(w);
    free(all);
    free(part);
    free(x);
    return wrong + off;
}

static const product floats_small[] = {{70, 130, 600, 0, 0, 0, 0, 0, 0, 0, 0},
                                       {33, 20, 1025, 0, 0, 3, 0, 0, 0, 0, 0}};
static const product floats_large[] = {{300, 128, 4096, 0, 0, 0, 0, 0, 0, 0, 0},
                                       {200, 30000, 4096, 0, 0, 0, 0, 0, 0, 0, 0}};

int main(int argc, char **argv) {
    static const uint32_t dtypes[] = {OCTET_F32, OCTET_BF16, OCTET_F16};
    const bool is_large = argc > 2 && strcmp(argv[2], "large") == 0;
    size_t wrong = 0;
    if (argc < 2) fail("usage", "check_products PLUGIN|NAME [large]");
    side mma = open_side(argv[1], "wgmma=0"), wgmma = open_side(argv[1], "wgmma=1");
    printf("%s\n", mma.d->info.name);
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        wrong += run_case(&mma, &wgmma, &small[i], i + 1, false);
    for (size_t i = 0; is_large && i < sizeof large / sizeof *large; i++)
        wrong += run_case(&mma, &wgmma, &large[i], i + 100, true);
    const product *floats = is_large ? floats_large : floats_small;
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 2; i++) wrong += run_float(&mma, dtypes[t], &floats[i], 7);
    close_side(&wgmma);
    close_side(&mma);
    printf("%s\n", wrong ? "NOT EQUAL" : "all equal");
    return wrong != 0;
}
