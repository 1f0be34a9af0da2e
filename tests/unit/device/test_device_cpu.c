/*
 * tests/unit/device/test_device_cpu.c - the CPU device through its table: memory and handles,
 * weights, operations on rows against plain C, what it refuses, capture and replay. That all
 * instruction sets and thread counts agree is conform_cpu's business. Attention:
 * test_device_attention.c; experts: test_device_experts.c.
 */
#include <malloc.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu_fixture.h"

static size_t resident_bytes(void) {
    FILE *f = fopen("/proc/self/statm", "r");
    size_t total = 0, resident = 0;
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%zu %zu", &total, &resident), 2);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void memory_reads_as_zero_and_keeps_its_bounds(void **st) {
    (void)st;
    fixture f = open_with(1);
    static char data[3 << 20];
    for (size_t bytes = 1; bytes <= sizeof data; bytes = bytes * 7 + 1) {
        const octet_ref ref = put(&f, NULL, bytes);
        memset(data, 1, bytes);
        get(&f, data, ref, bytes);
        for (size_t i = 0; i < bytes; i++) assert_int_equal(data[i], 0);
        bad(&f, f.d->ops->read(f.s, data, ref, bytes + 1), OCT_E_INVALID, "outside its buffer");
        bad(&f, f.d->ops->read(f.s, data, (octet_ref){ref.buffer, bytes}, 1), OCT_E_INVALID,
            "outside its buffer");
        bad(&f, f.d->ops->read(f.s, data, (octet_ref){ref.buffer, UINT64_MAX}, 2), OCT_E_INVALID,
            "outside its buffer");
        f.d->ops->buffer_destroy(f.d->dev, ref.buffer);
        bad(&f, f.d->ops->read(f.s, data, ref, 1), OCT_E_INVALID, "not a buffer");
    }
    finish(&f);
}

/* Large buffers share runs of pages: each is zero, keeps its own bytes while its neighbours come
 * and go, and their memory goes back to the system. */
static void buffers_side_by_side_are_apart(void **st) {
    (void)st;
    enum { N = 40, BYTES = 3000001 }; /* more than a run holds, and no multiple of a page */
    static unsigned char data[BYTES];
    fixture f = open_with(1);
    octet_ref ref[N];
    const size_t before = resident_bytes();
    for (int round = 0; round < 4; round++) {
        for (int i = round ? 1 : 0; i < N; i += round ? 2 : 1) {
            ref[i] = put(&f, NULL, BYTES);
            get(&f, data, ref[i], BYTES);
            for (size_t b = 0; b < BYTES; b++) assert_int_equal(data[b], 0);
            memset(data, i + 1, BYTES);
            good(&f, f.d->ops->write(f.s, ref[i], data, BYTES));
        }
        for (int i = 0; i < N; i++) {
            get(&f, data, ref[i], BYTES);
            assert_int_equal(data[0], i + 1);
            assert_memory_equal(data, data + 1, BYTES - 1);
        }
        for (int i = 1; i < N; i += 2) f.d->ops->buffer_destroy(f.d->dev, ref[i].buffer);
    }
    for (int i = 0; i < N; i += 2) f.d->ops->buffer_destroy(f.d->dev, ref[i].buffer);
    assert_true(resident_bytes() < before + 20 * (size_t)BYTES);
    finish(&f);
}

static void old_handles_are_noticed(void **st) {
    (void)st;
    fixture f = open_with(1);
    char c = 0;
    const octet_ref a = put(&f, "x", 1);
    f.d->ops->buffer_destroy(f.d->dev, a.buffer);
    const octet_ref b = put(&f, "y", 1); /* in the same slot */
    bad(&f, f.d->ops->read(f.s, &c, a, 1), OCT_E_INVALID, "not a buffer");
    get(&f, &c, b, 1);
    assert_int_equal(c, 'y');
    octet_buffer none = 7;
    bad(&f, f.d->ops->buffer_create(f.d->dev, 0, &none), OCT_E_INVALID, "bad size");
    assert_int_equal(none, 0);
    bad(&f, f.d->ops->buffer_create(f.d->dev, (uint64_t)1 << 60, &none), OCT_E_NOMEM, "no memory");
    f.d->ops->buffer_destroy(f.d->dev, 0);
    f.d->ops->weight_destroy(f.d->dev, 0);
    finish(&f);
}

static void settings_are_checked(void **st) {
    (void)st;
    static const char *const wrong[] = {"mask",      "mask=", "mask=zz", "mask=1x",
                                        "threads=1", ",",     "mask=0,x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const oct_device_options o = {.n_threads = 1, .settings = wrong[i]};
        oct_err err = {.code = OCT_OK};
        oct_device *d = NULL;
        assert_int_equal(oct_device_open(oct_system_allocator(), "cpu", &o, &d, &err),
                         OCT_E_INVALID);
        assert_non_null(strstr(err.text, "want mask=HEX"));
    }
    const oct_device_options o = {.n_threads = 1, .settings = "mask=0"};
    oct_device *d = NULL;
    assert_int_equal(oct_device_open(oct_system_allocator(), "cpu", &o, &d, NULL), OCT_OK);
    assert_string_equal(d->info.name, "cpu: 1 thread, reference");
    assert_int_equal(d->info.act_dtype, OCTET_F32);
    assert_true(d->info.mem_total_bytes > 1 << 20);
    oct_device_close(d);
}

/* ---- products -------------------------------------------------------------------------------- */

enum { M = 5, N = 37, K = 70 };

typedef struct product {
    int8_t q[M][K], w[N][K];
    float rs[M], cs[N], bias[N];
    int32_t int_bias[N];
    float want[M][N], got[M][N];
} product;

static octet_weight make_weight(const fixture *f, const octet_weight_rows *rows, uint32_t dtype,
                                uint64_t n, uint64_t k) {
    const octet_weight_desc d = {.struct_bytes = sizeof d, .dtype = dtype, .n = n, .k = k};
    octet_weight w = 0;
    good(f, f->d->ops->weight_create(f->d->dev, &d, &w));
    if (rows) good(f, f->d->ops->weight_write(f->d->dev, w, rows));
    return w;
}

static void linear_int8_is_the_plain_sum(void **st) {
    (void)st;
    static product p;
    int8_t *const both[2] = {&p.q[0][0], &p.w[0][0]};
    for (size_t i = 0; i < (size_t)(M + N) * K; i++)
        both[i >= M * K][i >= M * K ? i - M * K : i] =
            (int8_t)(rnd() % 8 ? (int)(rnd() % 256) - 128 : -128);
    for (int i = 0; i < M; i++) p.rs[i] = rndf() + 1.5f;
    for (int j = 0; j < N; j++) {
        p.cs[j] = rndf() + 1.5f;
        p.bias[j] = rndf();
        p.int_bias[j] = (int32_t)(rnd() % 2000) - 1000;
    }
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            int32_t sum = 0;
            for (int k = 0; k < K; k++) sum += p.q[i][k] * p.w[j][k];
            p.want[i][j] = ((float)(sum + p.int_bias[j]) * p.rs[i]) * p.cs[j] + p.bias[j];
        }
    for (unsigned n_threads = 1; n_threads <= 4; n_threads++) {
        fixture f = open_with(n_threads);
        const octet_weight w = make_weight(&f, NULL, OCTET_I8, N, K);
        /* In two pieces that meet inside a panel. */
        for (int at = 0; at < N; at = at ? N : 21) {
            const octet_weight_rows rows = {.struct_bytes = sizeof rows,
                                            .row = (uint64_t)at,
                                            .n_rows = (uint64_t)(at ? N - 21 : 21),
                                            .data = p.w[at],
                                            .col_scale = p.cs + at,
                                            .int_bias = p.int_bias + at,
                                            .bias = p.bias + at};
            good(&f, f.d->ops->weight_write(f.d->dev, w, &rows));
        }
        octet_linear_op op = {.struct_bytes = sizeof op,
                              .n_rows = M,
                              .weight = w,
                              .qx = {put(&f, p.q, sizeof p.q), put(&f, p.rs, sizeof p.rs), K},
                              .out = {put(&f, NULL, sizeof p.got), N}};
        good(&f, f.d->ops->linear(f.s, &op));
        get(&f, p.got, op.out.data, sizeof p.got);
        assert_memory_equal(p.got, p.want, sizeof p.got);
        op.accumulate = 1;
        good(&f, f.d->ops->linear(f.s, &op));
        get(&f, p.got, op.out.data, sizeof p.got);
        for (int i = 0; i < M * N; i++)
            assert_true(p.got[i / N][i % N] == 2 * p.want[i / N][i % N]);
        op.qx.stride = K - 1;
        bad(&f, f.d->ops->linear(f.s, &op), OCT_E_INVALID, "qx: bad stride");
        op.qx.stride = K;
        op.n_rows = M + 1;
        bad(&f, f.d->ops->linear(f.s, &op), OCT_E_INVALID, "outside its buffer");
        op.weight++;
        bad(&f, f.d->ops->linear(f.s, &op), OCT_E_INVALID, "not a weight");
        op.struct_bytes = 8;
        bad(&f, f.d->ops->linear(f.s, &op), OCT_E_INVALID, "struct too small");
        finish(&f);
    }
}

/* ---- loading --------------------------------------------------------------------------------- */

enum { LOAD_N = 16 * 83 + 5, LOAD_K = 1030 }; /* several parts a thread, panels that are not full */

typedef struct loaded {
    int8_t *w;
    float *cs, *bias;
    int32_t *int_bias;
    atomic_uint seen[LOAD_N]; /* how often each row was asked for */
    atomic_uint n_parts;
    unsigned fail_at; /* part that fails; 0: none */
} loaded;

static int32_t give(void *ctx, octet_weight_part *part) {
    loaded *l = ctx;
    if (atomic_fetch_add(&l->n_parts, 1) + 1 == l->fail_at) return OCTET_E_IO;
    if (part->row >= LOAD_N || part->n_rows > LOAD_N - part->row) return OCTET_E_INVALID;
    for (uint64_t i = 0; i < part->n_rows; i++) atomic_fetch_add(&l->seen[part->row + i], 1);
    memcpy(part->data, l->w + part->row * LOAD_K, part->n_rows * LOAD_K);
    for (uint64_t i = 0; i < part->n_rows; i++) {
        if (part->int_bias[i] != 0 || part->bias[i] != 0) return OCTET_E_CORRUPT;
        part->col_scale[i] = l->cs[part->row + i];
        part->int_bias[i] = l->int_bias[part->row + i];
        part->bias[i] = l->bias[part->row + i];
    }
    part->given = OCTET_GIVEN_INT_BIAS | OCTET_GIVEN_BIAS;
    return OCTET_OK;
}

static void product_of(const fixture *f, octet_weight w, float *out) {
    static int8_t q[M][LOAD_K];
    float rs[M] = {1, 2, 3, 4, 5};
    for (int i = 0; i < M * LOAD_K; i++) q[i / LOAD_K][i % LOAD_K] = (int8_t)(i * 37 % 251 - 125);
    const octet_linear_op op = {.struct_bytes = sizeof op,
                                .n_rows = M,
                                .weight = w,
                                .qx = {put(f, q, sizeof q), put(f, rs, sizeof rs), LOAD_K},
                                .out = {put(f, NULL, sizeof(float) * M * LOAD_N), LOAD_N}};
    good(f, f->d->ops->linear(f->s, &op));
    get(f, out, op.out.data, sizeof(float) * M * LOAD_N);
}

static void loading_is_writing_whatever_the_threads(void **st) {
    (void)st;
    static loaded l;
    static int8_t w[LOAD_N * LOAD_K];
    static float cs[LOAD_N], bias[LOAD_N], want[M * LOAD_N], got[M * LOAD_N];
    static int32_t int_bias[LOAD_N];
    for (size_t i = 0; i < sizeof w; i++)
        w[i] = (int8_t)(rnd() % 8 ? (int)(rnd() % 256) - 128 : -128);
    for (int i = 0; i < LOAD_N; i++) {
        cs[i] = rndf() + 1.5f;
        bias[i] = rndf();
        int_bias[i] = (int32_t)(rnd() % 2000) - 1000;
    }
    l.w = w, l.cs = cs, l.bias = bias, l.int_bias = int_bias;
    const octet_weight_rows rows = {.struct_bytes = sizeof rows,
                                    .n_rows = LOAD_N,
                                    .data = w,
                                    .col_scale = cs,
                                    .int_bias = int_bias,
                                    .bias = bias};
    const octet_weight_reader reader = {.struct_bytes = sizeof reader, .ctx = &l, .read = give};
    for (unsigned n_threads = 1; n_threads <= 4; n_threads++) {
        fixture f = open_with(n_threads);
        product_of(&f, make_weight(&f, &rows, OCTET_I8, LOAD_N, LOAD_K), want);
        const octet_weight second = make_weight(&f, NULL, OCTET_I8, LOAD_N, LOAD_K);
        for (int again = 0; again < 2; again++) { /* a reload writes in place */
            memset(l.seen, 0, sizeof l.seen);
            good(&f, f.d->ops->weight_load(f.d->dev, second, &reader));
            for (int i = 0; i < LOAD_N; i++) assert_int_equal(l.seen[i], 1);
            product_of(&f, second, got);
            assert_memory_equal(got, want, sizeof got);
        }
        finish(&f);
    }
}

static void a_load_that_fails_says_so(void **st) {
    (void)st;
    static loaded l;
    static int8_t w[LOAD_N * LOAD_K];
    static float cs[LOAD_N], bias[LOAD_N];
    static int32_t int_bias[LOAD_N];
    l.w = w, l.cs = cs, l.bias = bias, l.int_bias = int_bias;
    octet_weight_reader reader = {.struct_bytes = sizeof reader, .ctx = &l, .read = give};
    fixture f = open_with(2);
    const octet_weight to = make_weight(&f, NULL, OCTET_I8, LOAD_N, LOAD_K);
    l.fail_at = 2;
    bad(&f, f.d->ops->weight_load(f.d->dev, to, &reader), OCT_E_IO, "could not be read");
    l.fail_at = 0;
    cs[LOAD_N - 1] = NAN;
    bad(&f, f.d->ops->weight_load(f.d->dev, to, &reader), OCT_E_INVALID, "scale of row 1332 ");
    cs[LOAD_N - 1] = 1;
    int_bias[7] = INT32_MIN;
    bad(&f, f.d->ops->weight_load(f.d->dev, to, &reader), OCT_E_INVALID, "row 7 may overflow");
    int_bias[7] = 0;
    bias[8] = INFINITY;
    bad(&f, f.d->ops->weight_load(f.d->dev, to, &reader), OCT_E_INVALID, "bias of row 8 ");
    bias[8] = 0;
    good(&f, f.d->ops->weight_load(f.d->dev, to, &reader));
    bad(&f, f.d->ops->weight_load(f.d->dev, to + 1, &reader), OCT_E_INVALID, "not a weight");
    reader.read = NULL;
    bad(&f, f.d->ops->weight_load(f.d->dev, to, &reader), OCT_E_INVALID, "no reader");
    finish(&f);
}

static void weights_out_of_contract_are_refused(void **st) {
    (void)st;
    fixture f = open_with(1);
    octet_weight_desc d = {.struct_bytes = sizeof d, .dtype = OCTET_I8, .n = 1, .k = 131072};
    octet_weight w = 0;
    bad(&f, f.d->ops->weight_create(f.d->dev, &d, &w), OCT_E_UNSUPPORTED, "shape out of range");
    assert_int_equal(f.d->ops->weight_bytes(f.d->dev, &d), 0);
    d.k = 0;
    bad(&f, f.d->ops->weight_create(f.d->dev, &d, &w), OCT_E_UNSUPPORTED, "shape out of range");
    d.k = 64;
    d.dtype = OCTET_FP8_E4M3;
    bad(&f, f.d->ops->weight_create(f.d->dev, &d, &w), OCT_E_UNSUPPORTED, "unknown storage");
    d.dtype = OCTET_I8;
    assert_true(f.d->ops->weight_bytes(f.d->dev, &d) >= 64 * 16);
    good(&f, f.d->ops->weight_create(f.d->dev, &d, &w));

    int8_t data[64] = {0};
    float scale = 1, bias = 0;
    int32_t int_bias = INT32_MAX - 64 * 16384;
    octet_weight_rows rows = {.struct_bytes = sizeof rows,
                              .n_rows = 1,
                              .data = data,
                              .col_scale = &scale,
                              .int_bias = &int_bias,
                              .bias = &bias};
    good(&f, f.d->ops->weight_write(f.d->dev, w, &rows));
    int_bias++;
    bad(&f, f.d->ops->weight_write(f.d->dev, w, &rows), OCT_E_INVALID, "may overflow");
    int_bias = 0;
    scale = NAN;
    bad(&f, f.d->ops->weight_write(f.d->dev, w, &rows), OCT_E_INVALID, "scale of row 0");
    scale = 1;
    bias = INFINITY;
    bad(&f, f.d->ops->weight_write(f.d->dev, w, &rows), OCT_E_INVALID, "bias of row 0");
    bias = 0;
    rows.row = 1;
    bad(&f, f.d->ops->weight_write(f.d->dev, w, &rows), OCT_E_INVALID, "rows outside");
    rows.row = UINT64_MAX;
    bad(&f, f.d->ops->weight_write(f.d->dev, w, &rows), OCT_E_INVALID, "rows outside");
    rows.row = 0;
    rows.col_scale = NULL;
    bad(&f, f.d->ops->weight_write(f.d->dev, w, &rows), OCT_E_INVALID, "scales missing");
    finish(&f);
}

static void embed_gives_the_row(void **st) {
    (void)st;
    fixture f = open_with(2);
    static float table[33][70], got[3][70];
    for (int i = 0; i < 33 * 70; i++) table[i / 70][i % 70] = rndf();
    const octet_weight_rows rows = {.struct_bytes = sizeof rows, .n_rows = 33, .data = table};
    int32_t ids[3] = {32, 0, 17};
    octet_embed_op op = {.struct_bytes = sizeof op,
                         .n_rows = 3,
                         .table = make_weight(&f, &rows, OCTET_F32, 33, 70),
                         .ids = put(&f, ids, sizeof ids),
                         .out = {put(&f, NULL, sizeof got), 70},
                         .scale = 2};
    good(&f, f.d->ops->embed(f.s, &op));
    get(&f, got, op.out.data, sizeof got);
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 70; c++) assert_true(got[r][c] == 2 * table[ids[r]][c]);
    ids[1] = 33;
    op.ids = put(&f, ids, sizeof ids);
    bad(&f, f.d->ops->embed(f.s, &op), OCT_E_INVALID, "id outside the table (got 33, want < 33)");
    ids[1] = -1;
    op.ids = put(&f, ids, sizeof ids);
    bad(&f, f.d->ops->embed(f.s, &op), OCT_E_INVALID, "id outside the table");
    finish(&f);
}

static void norm_quantises_its_result(void **st) {
    (void)st;
    enum { W = 50 };
    fixture f = open_with(1);
    float x[W], add[W], w[W], want[W], got[W], scale = 0, absmax = 0;
    int8_t q[W];
    double sum = 0;
    for (int i = 0; i < W; i++) {
        x[i] = rndf();
        add[i] = rndf();
        w[i] = rndf();
        sum += (double)(x[i] + add[i]) * (x[i] + add[i]);
    }
    for (int i = 0; i < W; i++) {
        want[i] = (float)((x[i] + add[i]) / sqrt(sum / W + 1e-5) * w[i]);
        absmax = fmaxf(absmax, fabsf(want[i]));
    }
    octet_norm_op op = {
        .struct_bytes = sizeof op,
        .kind = OCTET_NORM_RMS,
        .n_rows = 1,
        .width = W,
        .x = {put(&f, x, sizeof x), W},
        .add = {put(&f, add, sizeof add), W},
        .weight = put(&f, w, sizeof w),
        .eps = 1e-5f,
        .quant = {.mode = OCTET_QUANT_DYNAMIC, .out = {put(&f, NULL, W), put(&f, NULL, 4), W}}};
    good(&f, f.d->ops->norm(f.s, &op));
    get(&f, got, op.x.data, sizeof got);
    for (int i = 0; i < W; i++) assert_true(got[i] == x[i] + add[i]);
    get(&f, q, op.quant.out.data, W);
    get(&f, &scale, op.quant.out.scale, 4);
    assert_float_equal(scale, absmax / 127, 1e-6);
    for (int i = 0; i < W; i++) assert_float_equal((float)q[i] * scale, want[i], scale * 0.51f);
    op.kind = 9;
    bad(&f, f.d->ops->norm(f.s, &op), OCT_E_UNSUPPORTED, "unknown kind");
    finish(&f);
}

/* ---- rows against plain C: conform cannot see a fault that its reference shares ------------- */

static void static_quantisation_places_the_offset(void **st) {
    (void)st;
    enum { W = 40 };
    fixture f = open_with(1);
    const float param[2] = {0.25f, -3.5f}, whole[2] = {0.25f, -3};
    float x[W], mul[W], scale = 0;
    int8_t q[W];
    for (int i = 0; i < W; i++) {
        x[i] = (float)(i - 20) * 1.0625f;
        mul[i] = i % 2 ? 2 : 1;
    }
    octet_quantize_op op = {.struct_bytes = sizeof op,
                            .n_rows = 1,
                            .width = W,
                            .x = {put(&f, x, sizeof x), W},
                            .mul = put(&f, mul, sizeof mul),
                            .quant = {.mode = OCTET_QUANT_STATIC_BEFORE,
                                      .param = put(&f, param, sizeof param),
                                      .out = {put(&f, NULL, W), put(&f, NULL, 4), W}}};
    for (int after = 0; after < 2; after++) {
        if (after) {
            op.quant.mode = OCTET_QUANT_STATIC_AFTER;
            op.quant.param = put(&f, whole, sizeof whole);
        }
        good(&f, f.d->ops->quantize(f.s, &op));
        get(&f, q, op.quant.out.data, W);
        get(&f, &scale, op.quant.out.scale, 4);
        assert_true(scale == 1);
        for (int i = 0; i < W; i++) {
            const float v = x[i] * mul[i] * 4;
            const float r = after ? nearbyintf(v) - 3 : nearbyintf(v - 3.5f);
            assert_int_equal(q[i], (int)(r < -128 ? -128 : r > 127 ? 127 : r));
        }
    }
    op.quant.param = put(&f, (const float[2]){0, 0}, 8);
    bad(&f, f.d->ops->quantize(f.s, &op), OCT_E_INVALID, "bad static scale");
    op.quant.mode = 7;
    bad(&f, f.d->ops->quantize(f.s, &op), OCT_E_UNSUPPORTED, "unknown quantisation");
    finish(&f);
}

static void gated_activation_takes_the_gate_first(void **st) {
    (void)st;
    fixture f = open_with(1);
    float x[8] = {1, -2, 0.5f, 3, 10, 20, 30, 40}, got[4];
    octet_act_op op = {.struct_bytes = sizeof op,
                       .kind = OCTET_ACT_SILU,
                       .gated = 1,
                       .n_rows = 1,
                       .width = 4,
                       .x = {put(&f, x, sizeof x), 8},
                       .out = {put(&f, NULL, 16), 4}};
    good(&f, f.d->ops->act(f.s, &op));
    get(&f, got, op.out.data, 16);
    for (int i = 0; i < 4; i++)
        assert_float_equal(got[i], x[i] / (1 + exp(-x[i])) * x[4 + i], 1e-4);
    op.kind = OCTET_ACT_GELU;
    good(&f, f.d->ops->act(f.s, &op));
    get(&f, got, op.out.data, 16);
    for (int i = 0; i < 4; i++)
        assert_float_equal(got[i], x[i] * 0.5 * erfc(-x[i] / sqrt(2)) * x[4 + i], 1e-4);
    finish(&f);
}

static void rotation_and_norm_of_each_head(void **st) {
    (void)st;
    enum { H = 2, D = 8, P = 5 };
    fixture f = open_with(1);
    float x[(H + 2) * D], got[(H + 2) * D], rope[P + 1][2][D / 2], w[2][D], b[2][D];
    for (int i = 0; i < (H + 2) * D; i++) x[i] = rndf();
    for (int i = 0; i < 2 * D; i++) w[i / D][i % D] = rndf(), b[i / D][i % D] = rndf();
    for (int p = 0; p <= P; p++)
        for (int i = 0; i < D / 2; i++) {
            rope[p][0][i] = (float)cos(p * pow(100, -i / 4.0));
            rope[p][1][i] = (float)sin(p * pow(100, -i / 4.0));
        }
    const int32_t pos = P, slot = 3, seq_row[2] = {0, 1}, kv_len = P + 1, table = 0;
    octet_attn_input_op op = {.struct_bytes = sizeof op,
                              .n_heads = H,
                              .qk_norm = OCTET_QK_NORM_HEAD,
                              .rotary_dim = D,
                              .qkv = {put(&f, x, sizeof x), (H + 2) * D},
                              .q_norm = put(&f, w[0], sizeof w[0]),
                              .k_norm = put(&f, w[1], sizeof w[1]),
                              .norm_eps = 1e-6f,
                              .n_rope_rows = P + 1,
                              .rope = put(&f, rope, sizeof rope),
                              .kv = {.struct_bytes = sizeof op.kv,
                                     .kind = OCTET_KV_F32,
                                     .n_kv_heads = 1,
                                     .head_dim = D,
                                     .block_tokens = 32},
                              .batch = {.struct_bytes = sizeof op.batch,
                                        .n_seqs = 1,
                                        .n_rows = 1,
                                        .max_seq_rows = 1,
                                        .max_kv_len = P + 1,
                                        .table_stride = 1,
                                        .row_pos = put(&f, &pos, 4),
                                        .row_slot = put(&f, &slot, 4),
                                        .seq_row = put(&f, seq_row, 8),
                                        .seq_kv_len = put(&f, &kv_len, 4),
                                        .block_table = put(&f, &table, 4)}};
    op.kv.block_bytes = f.d->ops->kv_block_bytes(f.d->dev, &op.kv);
    op.kv.base = put(&f, NULL, op.kv.block_bytes);
    for (int h = 0; h < 2 * (H + 1); h++) {
        const bool with_bias = h > H;
        const float *v = x + h % (H + 1) * D, *weight = w[h % (H + 1) == H],
                    *bias = b[h % (H + 1) == H];
        float *there = got + h % (H + 1) * D;
        if (h == H + 1) {
            op.q_norm_bias = put(&f, b[0], sizeof b[0]);
            op.k_norm_bias = put(&f, b[1], sizeof b[1]);
        }
        if (h % (H + 1) == 0) {
            op.qkv.data = put(&f, x, sizeof x);
            good(&f, f.d->ops->attn_input(f.s, &op));
            get(&f, got, op.qkv.data, sizeof got);
        }
        double y[D], sum = 0;
        for (int i = 0; i < D; i++) sum += (double)v[i] * v[i];
        for (int i = 0; i < D; i++)
            y[i] = v[i] / sqrt(sum / D + 1e-6) * weight[i] + (with_bias ? bias[i] : 0);
        for (int i = 0; i < D / 2; i++) {
            const double c = rope[P][0][i], s = rope[P][1][i];
            assert_float_equal(there[i], y[i] * c - y[i + D / 2] * s, 1e-5);
            assert_float_equal(there[i + D / 2], y[i + D / 2] * c + y[i] * s, 1e-5);
        }
    }
    assert_memory_equal(got + (H + 1) * D, x + (H + 1) * D, D * sizeof(float)); /* V as it was */
    op.n_rope_rows = P;
    bad(&f, f.d->ops->attn_input(f.s, &op), OCT_E_INVALID, "position without a rotation (got 5");
    finish(&f);
}

static void softcap_bends_logits_in_place(void **st) {
    (void)st;
    enum { R = 3, W = 70, S = 80 };
    fixture f = open_with(2);
    float x[R][S], got[R][S];
    for (int i = 0; i < R * S; i++) x[i / S][i % S] = 60 * rndf();
    octet_softcap_op op = {.struct_bytes = sizeof op,
                           .n_rows = R,
                           .width = W,
                           .cap = 30,
                           .x = {put(&f, x, sizeof x), S}};
    good(&f, f.d->ops->softcap(f.s, &op));
    get(&f, got, op.x.data, sizeof got);
    for (int r = 0; r < R; r++)
        for (int i = 0; i < S; i++)
            assert_float_equal(got[r][i], i < W ? 30 * tanh(x[r][i] / 30.0) : x[r][i], 1e-5);
    op.cap = 0;
    bad(&f, f.d->ops->softcap(f.s, &op), OCT_E_INVALID, "bad cap (got 0");
    finish(&f);
}

static void sampler_gets_its_tables(void **st) {
    (void)st;
    enum { V = 40 };
    fixture f = open_with(2);
    float logits[3][V];
    const octet_bias bias[2] = {{7, 100}, {9, 200}};
    const uint32_t masks[2][2] = {{0, 0}, {1u << 5, 1u << 3}}; /* tokens 5 and 35 */
    octet_sample_row rows[3] = {
        {.mask = -1}, {.mask = -1, .bias_begin = 1, .bias_end = 2}, {.mask = 1}};
    octet_sample_out out[3];
    for (int r = 0; r < 3; r++) {
        rows[r].flags = OCTET_SAMPLE_GREEDY;
        rows[r].repetition_penalty = rows[r].top_p = rows[r].temperature = 1;
        for (int i = 0; i < V; i++) logits[r][i] = i == 12 || i == 30 ? 5 : 0.01f * (float)i;
    }
    octet_sample_op op = {.struct_bytes = sizeof op,
                          .n_rows = 3,
                          .n_vocab = V,
                          .logits = {put(&f, logits, sizeof logits), V},
                          .rows = put(&f, rows, sizeof rows),
                          .bias = put(&f, bias, sizeof bias),
                          .masks = put(&f, masks, sizeof masks),
                          .out = put(&f, NULL, sizeof out)};
    good(&f, f.d->ops->sample(f.s, &op));
    get(&f, out, op.out, sizeof out);
    assert_int_equal(out[0].token, 12); /* the lower of two equals */
    assert_int_equal(out[1].token, 9);
    assert_int_equal(out[2].token, 35);
    for (int r = 0; r < 3; r++) assert_int_equal(out[r].status, OCTET_SAMPLED);

    rows[2].mask = 2;
    op.rows = put(&f, rows, sizeof rows);
    bad(&f, f.d->ops->sample(f.s, &op), OCT_E_INVALID, "row 2: mask 2 outside its array");
    rows[2].mask = -1;
    rows[1].bias_end = 3;
    op.rows = put(&f, rows, sizeof rows);
    bad(&f, f.d->ops->sample(f.s, &op), OCT_E_INVALID, "row 1: bias 1..3 outside its array");
    rows[1].bias_end = 0;
    op.rows = put(&f, rows, sizeof rows);
    bad(&f, f.d->ops->sample(f.s, &op), OCT_E_INVALID, "row 1: bias 1..0");
    rows[1].bias_begin = 0;
    rows[0].seen_end = 1;
    op.rows = put(&f, rows, sizeof rows);
    bad(&f, f.d->ops->sample(f.s, &op), OCT_E_INVALID, "row 0: seen 0..1");
    rows[0].seen_end = 0;
    rows[0].flags |= OCTET_SAMPLE_FORCED;
    rows[0].forced = V;
    op.rows = put(&f, rows, sizeof rows);
    bad(&f, f.d->ops->sample(f.s, &op), OCT_E_INVALID, "row 0: forced token 40 outside 40");
    finish(&f);
}

/* ---- capture --------------------------------------------------------------------------------- */

static void replay_sees_what_the_buffers_hold_by_then(void **st) {
    (void)st;
    fixture f = open_with(2);
    float x[4] = {1, -2, 3, -4}, got[4] = {0};
    const octet_act_op op = {.struct_bytes = sizeof op,
                             .kind = OCTET_ACT_RELU,
                             .n_rows = 1,
                             .width = 4,
                             .x = {put(&f, x, sizeof x), 4},
                             .out = {put(&f, NULL, sizeof x), 4}};
    octet_graph *g = NULL;
    good(&f, f.d->ops->capture_begin(f.s));
    good(&f, f.d->ops->act(f.s, &op));
    bad(&f, f.d->ops->read(f.s, got, op.out.data, 16), OCT_E_INVALID, "while recording");
    bad(&f, f.d->ops->capture_begin(f.s), OCT_E_INVALID, "already begun");
    good(&f, f.d->ops->capture_end(f.s, &g));
    get(&f, got, op.out.data, sizeof got);
    for (int i = 0; i < 4; i++) assert_true(got[i] == 0); /* recorded, not run */
    x[1] = 7;
    good(&f, f.d->ops->write(f.s, op.x.data, x, sizeof x));
    good(&f, f.d->ops->replay(f.s, g));
    get(&f, got, op.out.data, sizeof got);
    assert_true(got[0] == 1 && got[1] == 7 && got[2] == 3 && got[3] == 0);
    octet_graph *none = g;
    bad(&f, f.d->ops->capture_end(f.s, &none), OCT_E_INVALID, "not begun");
    f.d->ops->graph_destroy(g);
    f.d->ops->graph_destroy(NULL);
    finish(&f);
}

/* Models keep dozens of recordings. (A sanitizer's heap says 0 of itself.) */
static void a_recording_is_as_large_as_what_it_holds(void **st) {
    (void)st;
    enum { GRAPHS = 100 };
    fixture f = open_with(1);
    const octet_ref x = put(&f, NULL, 16);
    octet_graph *g[GRAPHS];
    const struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < GRAPHS; i++) {
        good(&f, f.d->ops->capture_begin(f.s));
        for (int k = 0; k < 3 * (i % 2); k++) good(&f, f.d->ops->fill(f.s, x, (uint8_t)i, 16));
        good(&f, f.d->ops->capture_end(f.s, &g[i]));
    }
    const struct mallinfo2 after = mallinfo2();
    assert_true(after.uordblks + after.hblkhd < before.uordblks + before.hblkhd + GRAPHS * 4096);
    uint8_t got[16];
    good(&f, f.d->ops->replay(f.s, g[99]));
    good(&f, f.d->ops->replay(f.s, g[0])); /* of nothing */
    get(&f, got, x, sizeof got);
    assert_int_equal(got[15], 99);
    for (int i = 0; i < GRAPHS; i++) f.d->ops->graph_destroy(g[i]);
    finish(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_reads_as_zero_and_keeps_its_bounds),
        cmocka_unit_test(buffers_side_by_side_are_apart),
        cmocka_unit_test(old_handles_are_noticed),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(linear_int8_is_the_plain_sum),
        cmocka_unit_test(loading_is_writing_whatever_the_threads),
        cmocka_unit_test(a_load_that_fails_says_so),
        cmocka_unit_test(weights_out_of_contract_are_refused),
        cmocka_unit_test(embed_gives_the_row),
        cmocka_unit_test(norm_quantises_its_result),
        cmocka_unit_test(static_quantisation_places_the_offset),
        cmocka_unit_test(gated_activation_takes_the_gate_first),
        cmocka_unit_test(rotation_and_norm_of_each_head),
        cmocka_unit_test(softcap_bends_logits_in_place),
        cmocka_unit_test(sampler_gets_its_tables),
        cmocka_unit_test(replay_sees_what_the_buffers_hold_by_then),
        cmocka_unit_test(a_recording_is_as_large_as_what_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
