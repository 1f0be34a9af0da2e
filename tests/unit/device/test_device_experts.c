/*
 * tests/unit/device/test_device_experts.c - layers of experts on the CPU device against plain C:
 * the choice, the order, products that read only the experts in use, the sum, and what is refused.
 */
#include <math.h>

#include "cpu_fixture.h"

/* ---- route ----------------------------------------------------------------------------------- */

typedef struct routed {
    int32_t expert[8];
    float weight[8];
} routed;

static octet_route_op route_op(const fixture *f, uint32_t kind, const float *logits, uint32_t n,
                               const float *bias, uint32_t top_k) {
    return (octet_route_op){.struct_bytes = sizeof(octet_route_op),
                            .kind = kind,
                            .n_rows = 1,
                            .n_experts = n,
                            .top_k = top_k,
                            .scale = 1,
                            .logits = {put(f, logits, n * sizeof *logits), n},
                            .bias = bias ? put(f, bias, n * sizeof *bias) : (octet_ref){0, 0},
                            .expert = put(f, NULL, 8 * 4),
                            .weight = put(f, NULL, 8 * 4)};
}

static routed run_route(const fixture *f, const octet_route_op *op) {
    routed r;
    good(f, f->d->ops->route(f->s, op));
    get(f, r.expert, op->expert, sizeof r.expert);
    get(f, r.weight, op->weight, sizeof r.weight);
    return r;
}

/* The numbers of the published models' rules, worked out by hand. */
static void route_softmax_and_sigmoid(void **st) {
    (void)st;
    static const float logits[4] = {1, 2, 0.5f, -1}, bias[4] = {0, -0.3f, 0.4f, 0.1f};
    fixture f = open_with(1);
    octet_route_op op = route_op(&f, OCTET_ROUTE_SOFTMAX, logits, 4, NULL, 2);
    routed r = run_route(&f, &op);
    assert_int_equal(r.expert[0], 1);
    assert_int_equal(r.expert[1], 0);
    assert_float_equal(r.weight[0], 0.609460038, 1e-7);
    assert_float_equal(r.weight[1], 0.224207818, 1e-7);
    op.renormalise = 1;
    r = run_route(&f, &op);
    assert_float_equal(r.weight[0], 0.731058579, 2e-7);
    assert_float_equal(r.weight[1], 0.268941421, 2e-7);
    op.scale = 2.5f;
    r = run_route(&f, &op);
    assert_float_equal(r.weight[0], 2.5 * 0.731058579, 5e-7);

    op = route_op(&f, OCTET_ROUTE_SIGMOID, logits, 4, bias, 2);
    op.renormalise = 1;
    r = run_route(&f, &op);
    assert_int_equal(r.expert[0], 2); /* chosen with the bias, weighted without it */
    assert_int_equal(r.expert[1], 0);
    assert_float_equal(r.weight[0], 0.459882597, 2e-7);
    assert_float_equal(r.weight[1], 0.540117403, 2e-7);
    finish(&f);
}

static void route_ties_go_to_the_lower_expert(void **st) {
    (void)st;
    static const float logits[6] = {0, 3, 1, 3, 1, 3}, none[3] = {-200, -200, -200};
    static const float out[6] = {0, -INFINITY, 0, -INFINITY, -INFINITY, -INFINITY};
    fixture f = open_with(1);
    octet_route_op op = route_op(&f, OCTET_ROUTE_SOFTMAX, logits, 6, NULL, 5);
    routed r = run_route(&f, &op);
    static const int32_t want[5] = {1, 3, 5, 2, 4};
    assert_memory_equal(r.expert, want, sizeof want);
    assert_true(r.weight[0] == r.weight[1] && r.weight[1] == r.weight[2]);
    /* Experts that the bias rules out come last, and only when nothing else is left. */
    op = route_op(&f, OCTET_ROUTE_SIGMOID, logits, 6, out, 4);
    r = run_route(&f, &op);
    static const int32_t left[4] = {2, 0, 1, 3};
    assert_memory_equal(r.expert, left, sizeof left);
    /* All scores zero: weights are zero, not NaN. */
    op = route_op(&f, OCTET_ROUTE_SIGMOID, none, 3, NULL, 2);
    op.renormalise = 1;
    r = run_route(&f, &op);
    assert_true(r.weight[0] == 0 && r.weight[1] == 0);
    finish(&f);
}

static void route_nan_loses_the_row(void **st) {
    (void)st;
    static const float with_nan[4] = {1, NAN, 0, 2}, with_inf[4] = {1, INFINITY, 0, 2};
    fixture f = open_with(1);
    for (int i = 0; i < 2; i++) {
        const octet_route_op op =
            route_op(&f, OCTET_ROUTE_SOFTMAX, i ? with_inf : with_nan, 4, NULL, 3);
        const routed r = run_route(&f, &op);
        for (int t = 0; t < 3; t++) {
            assert_int_equal(r.expert[t], t);
            assert_true(isnan(r.weight[t]));
        }
    }
    const octet_route_op op = route_op(&f, OCTET_ROUTE_SIGMOID, with_inf, 4, NULL, 1);
    const routed r = run_route(&f, &op);
    assert_int_equal(r.expert[0], 1);
    assert_true(r.weight[0] == 1);
    finish(&f);
}

static void route_out_of_contract_is_refused(void **st) {
    (void)st;
    static const float logits[4] = {0};
    fixture f = open_with(1);
    octet_route_op op = route_op(&f, 3, logits, 4, NULL, 2);
    bad(&f, f.d->ops->route(f.s, &op), OCT_E_UNSUPPORTED, "unknown kind (got 3)");
    op.kind = OCTET_ROUTE_SOFTMAX;
    op.top_k = 5;
    bad(&f, f.d->ops->route(f.s, &op), OCT_E_UNSUPPORTED, "bad choice of experts (got 5 of 4");
    op.top_k = 0;
    bad(&f, f.d->ops->route(f.s, &op), OCT_E_UNSUPPORTED, "bad choice");
    op.top_k = 2;
    op.n_rows = 2;
    bad(&f, f.d->ops->route(f.s, &op), OCT_E_INVALID, "outside its buffer");
    op.n_rows = 1;
    op.struct_bytes = 16;
    bad(&f, f.d->ops->route(f.s, &op), OCT_E_INVALID, "struct too small");
    finish(&f);
}

/* ---- permute --------------------------------------------------------------------------------- */

static void permute_is_stable(void **st) {
    (void)st;
    static const int32_t expert[4][2] = {{4, 1}, {0, 4}, {4, 0}, {1, 1}};
    static const int32_t want_first[6] = {0, 2, 5, 5, 5, 8}, want_row[8] = {1, 2, 0, 3, 3, 0, 1, 2};
    static const int32_t want_place[4][2] = {{5, 2}, {0, 6}, {7, 1}, {3, 4}};
    int32_t first[6], row[8], place[4][2];
    fixture f = open_with(2);
    octet_permute_op op = {.struct_bytes = sizeof op,
                           .n_rows = 4,
                           .n_experts = 5,
                           .top_k = 2,
                           .expert = put(&f, expert, sizeof expert),
                           .first = put(&f, NULL, sizeof first),
                           .row = put(&f, NULL, sizeof row),
                           .place = put(&f, NULL, sizeof place)};
    good(&f, f.d->ops->permute(f.s, &op));
    get(&f, first, op.first, sizeof first);
    get(&f, row, op.row, sizeof row);
    get(&f, place, op.place, sizeof place);
    assert_memory_equal(first, want_first, sizeof first);
    assert_memory_equal(row, want_row, sizeof row);
    assert_memory_equal(place, want_place, sizeof place);
    op.n_experts = 4;
    bad(&f, f.d->ops->permute(f.s, &op), OCT_E_INVALID, "no such expert (got 4, want < 4)");
    op.n_rows = 0;
    good(&f, f.d->ops->permute(f.s, &op));
    get(&f, first, op.first, 5 * 4);
    for (int e = 0; e < 5; e++) assert_int_equal(first[e], 0);
    finish(&f);
}

/* ---- products -------------------------------------------------------------------------------- */

enum { IN = 5, E = 6, N = 37, K = 70, R = 9 };

typedef struct product {
    int8_t q[IN][K], w[E][N][K];
    float x[IN][K], wf[E][N][K];
    float rs[IN], cs[E][N], bias[E][N];
    int32_t int_bias[E][N];
    float want[R][N], got[R][N];
} product;

/* Experts 1, 2 and 5 have rows; the others' weights are never written. */
static const int32_t product_first[E + 1] = {0, 0, 4, 5, 5, 5, 9};
static const int32_t product_row[R] = {0, 2, 3, 4, 1, 0, 1, 3, 4};

static int expert_of(int row) {
    int e = 0;
    while (product_first[e + 1] <= row) e++;
    return e;
}

static octet_weight make_experts(const fixture *f, uint32_t dtype) {
    const octet_weight_desc d = {
        .struct_bytes = sizeof d, .dtype = dtype, .n = N, .k = K, .n_experts = E};
    octet_weight w = 0;
    good(f, f->d->ops->weight_create(f->d->dev, &d, &w));
    assert_true(f->d->ops->weight_bytes(f->d->dev, &d) >= (uint64_t)E * N * K);
    return w;
}

static octet_linear_grouped_op grouped_op(const fixture *f, octet_weight w) {
    return (octet_linear_grouped_op){.struct_bytes = sizeof(octet_linear_grouped_op),
                                     .n_rows = R,
                                     .n_in = IN,
                                     .weight = w,
                                     .first = put(f, product_first, sizeof product_first),
                                     .row = put(f, product_row, sizeof product_row),
                                     .out = {put(f, NULL, (R * N) * 4), N}};
}

static void grouped_int8_is_the_plain_sum(void **st) {
    (void)st;
    static product p;
    for (int i = 0; i < IN * K; i++) p.q[i / K][i % K] = (int8_t)(rnd() % 256 - 128);
    for (int i = 0; i < E * N * K; i++)
        p.w[i / (N * K)][i / K % N][i % K] = (int8_t)(rnd() % 8 ? (int)(rnd() % 256) - 128 : -128);
    for (int i = 0; i < IN; i++) p.rs[i] = rndf() + 1.5f;
    for (int i = 0; i < E * N; i++) {
        p.cs[i / N][i % N] = rndf() + 1.5f;
        p.bias[i / N][i % N] = rndf();
        p.int_bias[i / N][i % N] = (int32_t)(rnd() % 2000) - 1000;
    }
    for (int i = 0; i < R; i++)
        for (int j = 0; j < N; j++) {
            const int e = expert_of(i), from = product_row[i];
            int32_t sum = 0;
            for (int k = 0; k < K; k++) sum += p.q[from][k] * p.w[e][j][k];
            p.want[i][j] =
                ((float)(sum + p.int_bias[e][j]) * p.rs[from]) * p.cs[e][j] + p.bias[e][j];
        }
    for (unsigned n_threads = 1; n_threads <= 5; n_threads++) {
        fixture f = open_with(n_threads);
        const octet_weight w = make_experts(&f, OCTET_I8);
        /* In pieces that begin and end inside experts and cross from one to the next. */
        static const int cut[] = {0, 20, N + 5, 3 * N, 3 * N + 16, E * N};
        for (int c = 0; c + 1 < (int)(sizeof cut / sizeof *cut); c++) {
            const int at = cut[c];
            const octet_weight_rows rows = {.struct_bytes = sizeof rows,
                                            .row = (uint64_t)at,
                                            .n_rows = (uint64_t)(cut[c + 1] - at),
                                            .data = p.w[0][0] + (size_t)at * K,
                                            .col_scale = p.cs[0] + at,
                                            .int_bias = p.int_bias[0] + at,
                                            .bias = p.bias[0] + at};
            good(&f, f.d->ops->weight_write(f.d->dev, w, &rows));
        }
        octet_linear_grouped_op op = grouped_op(&f, w);
        op.qx = (octet_qrows){put(&f, p.q, sizeof p.q), put(&f, p.rs, sizeof p.rs), K};
        good(&f, f.d->ops->linear_grouped(f.s, &op));
        get(&f, p.got, op.out.data, sizeof p.got);
        assert_memory_equal(p.got, p.want, sizeof p.got);
        op.accumulate = 1;
        good(&f, f.d->ops->linear_grouped(f.s, &op));
        get(&f, p.got, op.out.data, sizeof p.got);
        for (int i = 0; i < R * N; i++)
            assert_true(p.got[i / N][i % N] == 2 * p.want[i / N][i % N]);
        finish(&f);
    }
}

/* A prompt's rows are handed out in pieces: an expert of more than a block of rows, experts of a
 * hundred, and one without any. */
enum { PE = 18, PN = 21, PK = 67, P_IN = 200, P_LONG = 701, P_EACH = 98 };
enum { P_ROWS = P_LONG + (PE - 2) * P_EACH };

typedef struct prompt {
    int8_t q[P_IN][PK], w[PE][PN][PK];
    float rs[P_IN], cs[PE][PN];
    int32_t first[PE + 1], row[P_ROWS];
    float want[P_ROWS][PN], got[P_ROWS][PN];
} prompt;

static void fill_prompt(prompt *p) {
    for (int i = 0; i < P_IN * PK; i++) p->q[i / PK][i % PK] = (int8_t)(rnd() % 256 - 128);
    for (int i = 0; i < PE * PN * PK; i++)
        p->w[i / (PN * PK)][i / PK % PN][i % PK] = (int8_t)(rnd() % 256 - 128);
    for (int i = 0; i < P_IN; i++) p->rs[i] = rndf() + 1.5f;
    for (int i = 0; i < PE * PN; i++) p->cs[i / PN][i % PN] = rndf() + 1.5f;
    for (int i = 0; i < P_ROWS; i++) p->row[i] = (int32_t)(rnd() % P_IN);
    for (int e = 0; e < PE; e++)
        p->first[e + 1] = p->first[e] + (e == 1 ? 0 : e == 2 ? P_LONG : P_EACH);
    for (int e = 0; e < PE; e++)
        for (int i = p->first[e]; i < p->first[e + 1]; i++)
            for (int j = 0; j < PN; j++) {
                int32_t sum = 0;
                for (int k = 0; k < PK; k++) sum += p->q[p->row[i]][k] * p->w[e][j][k];
                p->want[i][j] = ((float)sum * p->rs[p->row[i]]) * p->cs[e][j];
            }
}

static void grouped_int8_of_a_prompt(void **st) {
    (void)st;
    static prompt p;
    fill_prompt(&p);
    for (unsigned n_threads = 1; n_threads <= 5; n_threads++) { /* five have too few pieces */
        fixture f = open_with(n_threads);
        const octet_weight_desc d = {
            .struct_bytes = sizeof d, .dtype = OCTET_I8, .n = PN, .k = PK, .n_experts = PE};
        const octet_weight_rows rows = {.struct_bytes = sizeof rows,
                                        .n_rows = (uint64_t)PE * PN,
                                        .data = p.w,
                                        .col_scale = p.cs[0]};
        octet_weight w = 0;
        good(&f, f.d->ops->weight_create(f.d->dev, &d, &w));
        good(&f, f.d->ops->weight_write(f.d->dev, w, &rows));
        const octet_linear_grouped_op op = {
            .struct_bytes = sizeof op,
            .n_rows = P_ROWS,
            .n_in = P_IN,
            .weight = w,
            .first = put(&f, p.first, sizeof p.first),
            .row = put(&f, p.row, sizeof p.row),
            .qx = {put(&f, p.q, sizeof p.q), put(&f, p.rs, sizeof p.rs), PK},
            .out = {put(&f, NULL, sizeof p.got), PN}};
        good(&f, f.d->ops->linear_grouped(f.s, &op));
        get(&f, p.got, op.out.data, sizeof p.got);
        assert_memory_equal(p.got, p.want, sizeof p.got);
        finish(&f);
    }
}

/* Rows that are grouped already: no index. */
static void grouped_float_is_the_plain_sum(void **st) {
    (void)st;
    static product p;
    for (int i = 0; i < IN * K; i++) p.x[i / K][i % K] = rndf();
    for (int i = 0; i < E * N * K; i++) p.wf[i / (N * K)][i / K % N][i % K] = rndf();
    for (int i = 0; i < R; i++)
        for (int j = 0; j < N; j++) {
            float sum = 0;
            for (int k = 0; k < K; k++)
                sum = fmaf(p.x[product_row[i]][k], p.wf[expert_of(i)][j][k], sum);
            p.want[i][j] = sum; /* K is one chunk: one chain */
        }
    for (unsigned n_threads = 1; n_threads <= 3; n_threads++) {
        fixture f = open_with(n_threads);
        const octet_weight w = make_experts(&f, OCTET_F32);
        const octet_weight_rows rows = {
            .struct_bytes = sizeof rows, .n_rows = (uint64_t)E * N, .data = p.wf};
        good(&f, f.d->ops->weight_write(f.d->dev, w, &rows));
        octet_linear_grouped_op op = grouped_op(&f, w);
        op.x = (octet_rows){put(&f, p.x, sizeof p.x), K};
        good(&f, f.d->ops->linear_grouped(f.s, &op));
        get(&f, p.got, op.out.data, sizeof p.got);
        assert_memory_equal(p.got, p.want, sizeof p.got);

        static float x[R][K];
        for (int i = 0; i < R; i++) memcpy(x[i], p.x[product_row[i]], sizeof x[i]);
        op.x = (octet_rows){put(&f, x, sizeof x), K};
        op.row = (octet_ref){0, 0};
        op.n_in = R;
        good(&f, f.d->ops->fill(f.s, op.out.data, 0xff, sizeof p.got));
        good(&f, f.d->ops->linear_grouped(f.s, &op));
        get(&f, p.got, op.out.data, sizeof p.got);
        assert_memory_equal(p.got, p.want, sizeof p.got);
        finish(&f);
    }
}

static void grouped_out_of_contract_is_refused(void **st) {
    (void)st;
    static const int8_t q[IN][K];
    static const float rs[IN];
    static const int32_t back[E + 1] = {0, 3, 2, 5, 5, 5, 9}, outside[R] = {IN};
    fixture f = open_with(2);
    const octet_weight w = make_experts(&f, OCTET_I8);
    octet_linear_grouped_op op = grouped_op(&f, w);
    op.qx = (octet_qrows){put(&f, q, sizeof q), put(&f, rs, sizeof rs), K};
    good(&f, f.d->ops->linear_grouped(f.s, &op));
    const octet_linear_grouped_op sound = op;

    op.first = put(&f, back, sizeof back);
    bad(&f, f.d->ops->linear_grouped(f.s, &op), OCT_E_INVALID, "do not ascend from 0 to 9");
    op = sound;
    op.n_rows = R - 1;
    bad(&f, f.d->ops->linear_grouped(f.s, &op), OCT_E_INVALID, "do not ascend from 0 to 8");
    op = sound;
    op.row = put(&f, outside, sizeof outside);
    bad(&f, f.d->ops->linear_grouped(f.s, &op), OCT_E_INVALID, "row outside its input (got 5");
    op = sound;
    op.row.buffer = 0;
    bad(&f, f.d->ops->linear_grouped(f.s, &op), OCT_E_INVALID, "want as many");
    op = sound;
    op.n_in = IN + 1;
    bad(&f, f.d->ops->linear_grouped(f.s, &op), OCT_E_INVALID, "outside its buffer");
    op.n_in = 0;
    bad(&f, f.d->ops->linear_grouped(f.s, &op), OCT_E_INVALID, "no rows of input");
    op = sound;
    op.out_dtype = OCTET_BF16;
    bad(&f, f.d->ops->linear_grouped(f.s, &op), OCT_E_UNSUPPORTED, "unknown type of result");

    const octet_linear_op dense = {
        .struct_bytes = sizeof dense, .n_rows = IN, .weight = w, .qx = op.qx, .out = op.out};
    bad(&f, f.d->ops->linear(f.s, &dense), OCT_E_INVALID, "a weight of 6 experts");
    octet_weight_desc d = {.struct_bytes = sizeof d, .dtype = OCTET_I8, .n = N, .k = K};
    op = sound;
    good(&f, f.d->ops->weight_create(f.d->dev, &d, &op.weight));
    bad(&f, f.d->ops->linear_grouped(f.s, &op), OCT_E_INVALID, "one matrix");
    d.n_experts = 65537;
    octet_weight none = 0;
    bad(&f, f.d->ops->weight_create(f.d->dev, &d, &none), OCT_E_UNSUPPORTED, "too many experts");
    /* An older host's struct ends before the member. */
    d.struct_bytes = offsetof(octet_weight_desc, n_experts);
    good(&f, f.d->ops->weight_create(f.d->dev, &d, &none));
    finish(&f);
}

/* ---- quantize_grouped ------------------------------------------------------------------------ */

static void each_expert_has_its_own_scale(void **st) {
    (void)st;
    enum { W = 33 };
    static float x[IN][W], mul[E][W], param[E][2], scale[R];
    static int8_t got[R][W];
    for (int i = 0; i < IN * W; i++) x[i / W][i % W] = rndf();
    for (int i = 0; i < E * W; i++) mul[i / W][i % W] = rndf() + 1.5f;
    for (int e = 0; e < E; e++) {
        param[e][0] = 0.01f + 0.002f * (float)e;
        param[e][1] = (float)(e - 3);
    }
    param[0][0] = -1; /* an expert without rows: nobody looks */
    fixture f = open_with(3);
    octet_quantize_grouped_op op = {.struct_bytes = sizeof op,
                                    .n_rows = R,
                                    .n_in = IN,
                                    .width = W,
                                    .n_experts = E,
                                    .first = put(&f, product_first, sizeof product_first),
                                    .row = put(&f, product_row, sizeof product_row),
                                    .x = {put(&f, x, sizeof x), W},
                                    .mul = put(&f, mul, sizeof mul)};
    op.quant = (octet_quant){.mode = OCTET_QUANT_STATIC_AFTER,
                             .param = put(&f, param, sizeof param),
                             .out = {put(&f, NULL, sizeof got), put(&f, NULL, sizeof scale), W}};
    good(&f, f.d->ops->quantize_grouped(f.s, &op));
    get(&f, got, op.quant.out.data, sizeof got);
    get(&f, scale, op.quant.out.scale, sizeof scale);
    for (int i = 0; i < R; i++) {
        const int e = expert_of(i);
        assert_true(scale[i] == 1);
        for (int c = 0; c < W; c++) {
            const float v = x[product_row[i]][c] * mul[e][c];
            const float q = nearbyintf(v * (1.0f / param[e][0])) + param[e][1];
            assert_int_equal(got[i][c], (int)fmaxf(-128, fminf(127, q)));
        }
    }
    op.quant.mode = OCTET_QUANT_DYNAMIC;
    op.mul.buffer = 0;
    good(&f, f.d->ops->quantize_grouped(f.s, &op));
    get(&f, scale, op.quant.out.scale, sizeof scale);
    assert_true(scale[0] == scale[5] && scale[0] != scale[1]); /* row 0 twice, then row 2 */

    param[5][0] = 0;
    op.quant.mode = OCTET_QUANT_STATIC_BEFORE;
    op.quant.param = put(&f, param, sizeof param);
    bad(&f, f.d->ops->quantize_grouped(f.s, &op), OCT_E_INVALID, "bad static scale or offset");
    op.quant.mode = 4;
    bad(&f, f.d->ops->quantize_grouped(f.s, &op), OCT_E_UNSUPPORTED, "unknown quantisation");
    op.quant.mode = OCTET_QUANT_NONE;
    bad(&f, f.d->ops->quantize_grouped(f.s, &op), OCT_E_INVALID, "no quantisation named");
    finish(&f);
}

/* ---- combine --------------------------------------------------------------------------------- */

static void combine_adds_in_the_order_of_slots(void **st) {
    (void)st;
    enum { ROWS = 7, TOP = 3, W = 45 };
    static float x[ROWS * TOP][W], shared[ROWS][W], out[ROWS][W], got[ROWS][W];
    float weight[ROWS][TOP], gate[ROWS];
    int32_t place[ROWS][TOP];
    for (int i = 0; i < ROWS * TOP * W; i++) x[i / W][i % W] = rndf();
    for (int i = 0; i < ROWS * W; i++) {
        shared[i / W][i % W] = rndf();
        out[i / W][i % W] = rndf();
    }
    for (int i = 0; i < ROWS * TOP; i++) {
        weight[i / TOP][i % TOP] = rndf();
        place[i / TOP][i % TOP] = i * 5 % (ROWS * TOP); /* 5 and 21: a permutation */
    }
    for (int r = 0; r < ROWS; r++) gate[r] = 3 * rndf();
    for (unsigned how = 0; how < 6; how++) { /* no shared rows, shared, shared with a gate */
        fixture f = open_with(1 + how % 3);
        octet_combine_op op = {.struct_bytes = sizeof op,
                               .n_rows = ROWS,
                               .width = W,
                               .top_k = TOP,
                               .accumulate = how & 1,
                               .x = {put(&f, x, sizeof x), W},
                               .place = put(&f, place, sizeof place),
                               .weight = put(&f, weight, sizeof weight),
                               .out = {put(&f, out, sizeof out), W}};
        if (how >= 2) op.shared = (octet_rows){put(&f, shared, sizeof shared), W};
        if (how >= 4) op.shared_gate = put(&f, gate, sizeof gate);
        good(&f, f.d->ops->combine(f.s, &op));
        get(&f, got, op.out.data, sizeof got);
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < W; c++) {
                float s = weight[r][0] * x[place[r][0]][c];
                for (int t = 1; t < TOP; t++) s = fmaf(weight[r][t], x[place[r][t]][c], s);
                if (how / 2 == 1) s = s + shared[r][c];
                if (how < 4) {
                    if (how & 1) s = out[r][c] + s;
                    assert_true(got[r][c] == s);
                    continue;
                }
                const double g = 1 / (1 + exp(-(double)gate[r]));
                const double want = s + g * shared[r][c] + (how & 1 ? out[r][c] : 0);
                assert_float_equal(got[r][c], want, 1e-6);
            }
        place[6][2]++; /* 20 * 5 % 21 is 16: now 17 stands twice, which is allowed */
        op.place = put(&f, place, sizeof place);
        good(&f, f.d->ops->combine(f.s, &op));
        place[6][2] = ROWS * TOP;
        op.place = put(&f, place, sizeof place);
        bad(&f, f.d->ops->combine(f.s, &op), OCT_E_INVALID, "place outside x (got 21, want < 21)");
        place[6][2] = 16;
        op.top_k = OCTET_MAX_TOP_K + 1;
        bad(&f, f.d->ops->combine(f.s, &op), OCT_E_UNSUPPORTED, "bad choice of experts");
        finish(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(route_softmax_and_sigmoid),
        cmocka_unit_test(route_ties_go_to_the_lower_expert),
        cmocka_unit_test(route_nan_loses_the_row),
        cmocka_unit_test(route_out_of_contract_is_refused),
        cmocka_unit_test(permute_is_stable),
        cmocka_unit_test(grouped_int8_is_the_plain_sum),
        cmocka_unit_test(grouped_int8_of_a_prompt),
        cmocka_unit_test(grouped_float_is_the_plain_sum),
        cmocka_unit_test(grouped_out_of_contract_is_refused),
        cmocka_unit_test(each_expert_has_its_own_scale),
        cmocka_unit_test(combine_adds_in_the_order_of_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
