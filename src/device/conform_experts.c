/*
 * device/conform_experts.c - cases of the operations for mixtures of experts, and a whole layer.
 *
 * The operations after permute get an order made here, so that each is judged alone: experts
 * without rows, one with nearly all, rows in no order. Logits are bfloat16 numbers: two of them are
 * equal or far enough apart for every device to choose alike.
 */
#include <math.h>
#include <string.h>

#include "device/conform_side.h"

/* ---- route ----------------------------------------------------------------------------------- */

static const struct {
    uint32_t n_experts, top_k;
} choices[] = {{1, 1}, {2, 1}, {4, 2}, {8, 2}, {17, 17}, {60, 4}, {128, 8}, {256, 8}};
enum { N_CHOICES = sizeof choices / sizeof *choices };

static void case_route(oct_cf_side *s, unsigned index) {
    const uint32_t n = choices[index % N_CHOICES].n_experts, k = choices[index % N_CHOICES].top_k;
    const unsigned way = index / N_CHOICES; /* 0..5 */
    const uint32_t n_rows = index % 3 ? 5 : 70;
    const bool sigmoid = way & 1;
    oct_cf_case(s, "%s, %u of %u, %u rows, way %u", sigmoid ? "sigmoid" : "softmax", k, n, n_rows,
                way);
    float *x = oct_cf_floats(s, (size_t)n_rows * n, way == 4 ? 8 : 1);
    for (uint32_t i = 0; i < n; i++) {
        x[i] = 0.5f;                                    /* all equal: the lowest ids */
        if (i % 2) x[n + i] = x[n];                     /* many equal */
        x[2 * n + i] = way == 5 ? -1000 : x[2 * n + i]; /* all scores zero, for the sigmoid */
    }
    if (way >= 4) x[3 * n + n / 2] = NAN;
    if (way == 2) x[3 * n] = INFINITY;
    octet_route_op op = {
        .struct_bytes = sizeof op,
        .kind = sigmoid ? OCTET_ROUTE_SIGMOID : OCTET_ROUTE_SOFTMAX,
        .n_rows = n_rows,
        .n_experts = n,
        .top_k = k,
        .renormalise = way >= 2,
        .scale = way == 3 ? 2.5f : 1,
        .logits = {oct_cf_put(s, x, (size_t)n_rows * n * sizeof *x), n},
        .expert = oct_cf_room(s, (size_t)n_rows * k * 4),
        .weight = oct_cf_room(s, (size_t)n_rows * k * 4),
    };
    if (way == 3 || way == 4) op.bias = oct_cf_put(s, oct_cf_floats(s, n, 0.25f), n * 4);
    OCT_CF_OP(s, route, &op);
    oct_tolerance tol = oct_tolerance_f32();
    tol.rel += 256 * OCT_U32; /* an exponential of up to -64, a sum of up to 256, two divisions */
    tol.abs = 0x1p-120;
    oct_cf_out_i32(s, "expert", op.expert, (size_t)n_rows * k, k);
    oct_cf_out_f32(s, "weight", op.weight, (size_t)n_rows * k, k, tol);
}

/* ---- an order of rows ------------------------------------------------------------------------ */

typedef struct order {
    uint32_t n_rows, n_experts, top_k, n; /* n: grouped rows */
    int32_t *expert, *first, *row, *place;
} order;

/* How rows fall on the experts. */
enum { SPREAD, CROWDED, ALONE, N_FALLS };

/* Slot t of row r goes to another expert than the slots before it. */
static int32_t pick(oct_cf_side *s, const order *o, const int32_t *taken, uint32_t t,
                    unsigned how) {
    for (;;) {
        int32_t e = (int32_t)oct_cf_below(s, o->n_experts);
        if (how == CROWDED && oct_cf_below(s, 4)) e = (int32_t)o->n_experts / 2 + (int32_t)t / 2;
        if (how == ALONE) e = (int32_t)((t + 1) % o->n_experts);
        e %= (int32_t)o->n_experts;
        bool is_taken = false;
        for (uint32_t i = 0; i < t; i++) is_taken |= taken[i] == e;
        if (!is_taken || how == ALONE) return e;
    }
}

static order make_order(oct_cf_side *s, uint32_t n_rows, uint32_t n_experts, uint32_t top_k,
                        unsigned how) {
    order o = {.n_rows = n_rows, .n_experts = n_experts, .top_k = top_k, .n = n_rows * top_k};
    o.expert = oct_cf_mem(s, o.n, sizeof *o.expert);
    o.first = oct_cf_mem(s, n_experts + 1, sizeof *o.first);
    o.row = oct_cf_mem(s, o.n, sizeof *o.row);
    o.place = oct_cf_mem(s, o.n, sizeof *o.place);
    for (uint32_t i = 0; i < o.n; i++)
        o.expert[i] = pick(s, &o, o.expert + i / top_k * top_k, i % top_k, how);
    int32_t at = 0;
    for (uint32_t e = 0; e < n_experts; e++) {
        o.first[e] = at;
        for (uint32_t i = 0; i < o.n; i++)
            if (o.expert[i] == (int32_t)e) {
                o.row[at] = (int32_t)(i / top_k);
                o.place[i] = at++;
            }
    }
    o.first[n_experts] = at;
    return o;
}

static octet_ref put_ints(oct_cf_side *s, const int32_t *v, size_t n) {
    return oct_cf_put(s, v, n * sizeof *v);
}

static void case_permute(oct_cf_side *s, unsigned index) {
    static const uint32_t rows[] = {1, 2, 9, 130};
    const uint32_t n = choices[index % N_CHOICES].n_experts, k = choices[index % N_CHOICES].top_k;
    const unsigned how = index / N_CHOICES % 2;
    const order o = make_order(s, rows[index / N_CHOICES % 4], n, k, how ? CROWDED : SPREAD);
    oct_cf_case(s, "%u rows, %u of %u, fall %u", o.n_rows, k, n, how);
    const octet_permute_op op = {.struct_bytes = sizeof op,
                                 .n_rows = o.n_rows,
                                 .n_experts = n,
                                 .top_k = k,
                                 .expert = put_ints(s, o.expert, o.n),
                                 .first = oct_cf_room(s, (n + 1) * 4),
                                 .row = oct_cf_room(s, o.n * 4),
                                 .place = oct_cf_room(s, o.n * 4)};
    OCT_CF_OP(s, permute, &op);
    oct_cf_out_i32(s, "first", op.first, n + 1, n + 1);
    oct_cf_out_i32(s, "row", op.row, o.n, o.n);
    oct_cf_out_i32(s, "place", op.place, o.n, k);
}

/* ---- on grouped rows ------------------------------------------------------------------------- */

static const struct {
    uint32_t rows, n_experts, top_k, n, k;
} layers[] = {{1, 8, 2, 33, 64},   {3, 4, 2, 16, 65},     {40, 8, 2, 48, 70},
              {7, 16, 4, 17, 128}, {1, 128, 8, 40, 1000}, {70, 6, 3, 20, 257}};
enum { N_LAYERS = sizeof layers / sizeof *layers };

static void case_quantize_grouped(oct_cf_side *s, unsigned index) {
    const uint32_t width = layers[index % N_LAYERS].k,
                   n_experts = layers[index % N_LAYERS].n_experts;
    const unsigned mode = 1 + index / N_LAYERS % 3;
    const bool gathered = index % 2 == 0, factors = index % 3 == 0;
    const order o = make_order(s, layers[index % N_LAYERS].rows, n_experts,
                               layers[index % N_LAYERS].top_k, index % N_FALLS);
    const uint32_t n_in = gathered ? o.n_rows : o.n;
    oct_cf_case(s, "mode %u, %u rows, %u experts, width %u%s", mode, o.n, n_experts, width,
                gathered ? "" : ", grouped already");
    float *param = oct_cf_mem(s, n_experts, 2 * sizeof *param);
    for (uint32_t e = 0; e < n_experts; e++) {
        param[2 * e] = oct_cf_uniform(s, 0.01f, 0.03f);
        param[2 * e + 1] =
            (float)oct_cf_below(s, 20) - (mode == OCTET_QUANT_STATIC_BEFORE ? 9.5f : 10);
    }
    float *x = oct_cf_floats(s, (size_t)n_in * width, 1);
    if (index % 5 == 1) x[(size_t)(n_in - 1) * width + width / 2] = NAN;
    octet_quantize_grouped_op op = {.struct_bytes = sizeof op,
                                    .n_rows = o.n,
                                    .n_in = n_in,
                                    .width = width,
                                    .n_experts = n_experts,
                                    .first = put_ints(s, o.first, n_experts + 1),
                                    .x = oct_cf_put_rows(s, x, n_in, width, width + 3)};
    if (gathered) op.row = put_ints(s, o.row, o.n);
    if (factors)
        op.mul = oct_cf_put(s, oct_cf_floats(s, (size_t)n_experts * width, 1),
                            (size_t)n_experts * width * 4);
    op.quant = oct_cf_quant_room(s, mode, o.n, width, 1, 0);
    op.quant.param = oct_cf_put(s, param, (size_t)n_experts * 2 * sizeof *param);
    OCT_CF_OP(s, quantize_grouped, &op);
    oct_cf_out_quant(s, &op.quant, o.n, width, 0, (oct_tolerance){0, 0});
}

static void case_grouped_i8(oct_cf_side *s, unsigned index) {
    const uint32_t n = layers[index % N_LAYERS].n, k = layers[index % N_LAYERS].k;
    const uint32_t n_experts = layers[index % N_LAYERS].n_experts, act = s->d->info.act_dtype;
    const unsigned way = index / N_LAYERS; /* 0..3 */
    const bool gathered = way != 1, accumulate = way == 2;
    const order o = make_order(s, layers[index % N_LAYERS].rows, n_experts,
                               layers[index % N_LAYERS].top_k, index % N_FALLS);
    const uint32_t n_in = gathered ? o.n_rows : o.n;
    const oct_cf_matrix matrix = {.dtype = OCTET_I8,
                                  .n = n,
                                  .k = k,
                                  .n_experts = n_experts,
                                  .size = 1.0f / (128 * (float)k),
                                  .fill = way == 3 ? 3 : 0,
                                  .int_bias = way >= 2,
                                  .bias = way == 2};
    oct_cf_case(s, "%u rows x %u x %u, %u experts, way %u", o.n, n, k, n_experts, way);
    float *scale = oct_cf_mem(s, n_in, sizeof *scale);
    for (uint32_t i = 0; i < n_in; i++) scale[i] = oct_cf_uniform(s, 0.5f, 1.5f);
    if (way == 3) scale[n_in - 1] = NAN;
    octet_linear_grouped_op op = {.struct_bytes = sizeof op,
                                  .n_rows = o.n,
                                  .n_in = n_in,
                                  .accumulate = accumulate,
                                  .weight = oct_cf_weight(s, &matrix),
                                  .first = put_ints(s, o.first, n_experts + 1)};
    if (gathered) op.row = put_ints(s, o.row, o.n);
    op.qx.data =
        oct_cf_put(s, oct_cf_bytes(s, (size_t)n_in * (k + 5), way == 3), (size_t)n_in * (k + 5));
    op.qx.scale = oct_cf_put(s, scale, n_in * sizeof *scale);
    op.qx.stride = k + 5;
    op.out = accumulate ? oct_cf_put_rows(s, oct_cf_floats(s, (size_t)o.n * n, 1), o.n, n, n)
                        : oct_cf_rows_room(s, o.n, n + 2);
    OCT_CF_OP(s, linear_grouped, &op);
    oct_tolerance tol = oct_tolerance_stored(act);
    if (way >= 2) tol.abs = 8 * oct_row_unit(act) * (accumulate ? 8 : 1);
    oct_cf_out_rows(s, "out", op.out, o.n, n, tol);
}

static void case_grouped_float(oct_cf_side *s, unsigned index) {
    static const uint32_t dtypes[] = {OCTET_F32, OCTET_BF16, OCTET_F16};
    const uint32_t n = layers[index % N_LAYERS].n, k = layers[index % N_LAYERS].k;
    const uint32_t n_experts = layers[index % N_LAYERS].n_experts, act = s->d->info.act_dtype;
    const unsigned way = index / N_LAYERS; /* 0..2 */
    const bool gathered = index % 2 == 0;
    const order o = make_order(s, layers[index % N_LAYERS].rows, n_experts,
                               layers[index % N_LAYERS].top_k, index % N_FALLS);
    const uint32_t n_in = gathered ? o.n_rows : o.n;
    const oct_cf_matrix matrix = {.dtype = dtypes[way],
                                  .n = n,
                                  .k = k,
                                  .n_experts = n_experts,
                                  .size = 0.5f,
                                  .bias = way == 2};
    oct_cf_case(s, "type %u, %u rows x %u x %u, %u experts", matrix.dtype, o.n, n, k, n_experts);
    octet_linear_grouped_op op = {
        .struct_bytes = sizeof op,
        .n_rows = o.n,
        .n_in = n_in,
        .weight = oct_cf_weight(s, &matrix),
        .first = put_ints(s, o.first, n_experts + 1),
        .x = oct_cf_put_rows(s, oct_cf_floats(s, (size_t)n_in * k, 1), n_in, k, k + 1),
        .out = oct_cf_rows_room(s, o.n, n)};
    if (gathered) op.row = put_ints(s, o.row, o.n);
    OCT_CF_OP(s, linear_grouped, &op);
    const oct_tolerance tol = oct_tolerance_sum(oct_tolerance_stored(act), k, 1);
    oct_cf_out_rows(s, "out", op.out, o.n, n, oct_tolerance_operand(tol, act, k, 1));
}

/* ---- combine --------------------------------------------------------------------------------- */

static void case_combine(oct_cf_side *s, unsigned index) {
    static const uint32_t widths[] = {1, 17, 64, 577};
    const uint32_t width = widths[index % 4], act = s->d->info.act_dtype;
    const uint32_t n = index % 3 ? 3 : 40, k = 1 + index / 4 % 3 * 4; /* 1, 5, 9 */
    const unsigned way = index / 12;                                  /* 0..2: shared rows */
    const bool accumulate = index % 2;
    const order o = make_order(s, n, 16, k, SPREAD);
    oct_cf_case(s, "%u rows of %u, %u slots, way %u", n, width, k, way);
    float *weight = oct_cf_mem(s, o.n, sizeof *weight), *gate = oct_cf_mem(s, n, sizeof *gate);
    for (uint32_t i = 0; i < o.n; i++) weight[i] = oct_cf_uniform(s, 0, 1);
    for (uint32_t i = 0; i < n; i++) gate[i] = oct_cf_uniform(s, -4, 4);
    if (index % 5 == 2) weight[0] = NAN;
    octet_combine_op op = {
        .struct_bytes = sizeof op,
        .n_rows = n,
        .width = width,
        .top_k = k,
        .accumulate = accumulate,
        .x = oct_cf_put_rows(s, oct_cf_floats(s, (size_t)o.n * width, 1), o.n, width, width + 1),
        .place = put_ints(s, o.place, o.n),
        .weight = oct_cf_put(s, weight, o.n * sizeof *weight)};
    if (way)
        op.shared = oct_cf_put_rows(s, oct_cf_floats(s, (size_t)n * width, 1), n, width, width);
    if (way == 2) op.shared_gate = oct_cf_put(s, gate, n * sizeof *gate);
    op.out = accumulate
                 ? oct_cf_put_rows(s, oct_cf_floats(s, (size_t)n * width, 1), n, width, width)
                 : oct_cf_rows_room(s, n, width + 2);
    OCT_CF_OP(s, combine, &op);
    oct_tolerance tol = oct_tolerance_sum(oct_tolerance_stored(act), k + 2, 4);
    tol.abs += 4 * oct_row_unit(act); /* the old value and the sum, each rounded */
    oct_cf_out_rows(s, "out", op.out, n, width, tol);
}

/* ---- a layer --------------------------------------------------------------------------------- */

/* Quantise, router, route, permute, gate and up, activation, down, combine onto the residual. */
static void case_layer(oct_cf_side *s, unsigned index) {
    const uint32_t h = 96, inner = 48, n_experts = index % 2 ? 8 : 32, k = index % 2 ? 2 : 6;
    const uint32_t n = index % 3 ? 5 : 60, grouped = n * k, act = s->d->info.act_dtype;
    const bool sigmoid = index >= 3;
    const oct_cf_matrix router = {.dtype = OCTET_F32, .n = n_experts, .k = h, .size = 0.25f};
    const oct_cf_matrix up = {
        .dtype = OCTET_I8, .n = 2 * inner, .k = h, .n_experts = n_experts, .size = 2e-3f};
    const oct_cf_matrix dn = {
        .dtype = OCTET_I8, .n = h, .k = inner, .n_experts = n_experts, .size = 2e-3f};
    oct_cf_case(s, "%u rows, %u of %u experts, %s", n, k, n_experts,
                sigmoid ? "sigmoid" : "softmax");
    const octet_rows x = oct_cf_put_rows(s, oct_cf_floats(s, (size_t)n * h, 0.5f), n, h, h);
    const octet_rows out = oct_cf_put_rows(s, oct_cf_floats(s, (size_t)n * h, 1), n, h, h);
    const octet_quantize_op quantize = {.struct_bytes = sizeof quantize,
                                        .n_rows = n,
                                        .width = h,
                                        .x = x,
                                        .quant =
                                            oct_cf_quant_room(s, OCTET_QUANT_DYNAMIC, n, h, 1, 0)};
    const octet_linear_op logits = {.struct_bytes = sizeof logits,
                                    .n_rows = n,
                                    .weight = oct_cf_weight(s, &router),
                                    .x = x,
                                    .out = {oct_cf_room(s, (size_t)n * n_experts * 4), n_experts},
                                    .out_dtype = OCTET_F32};
    const octet_route_op route = {.struct_bytes = sizeof route,
                                  .kind = sigmoid ? OCTET_ROUTE_SIGMOID : OCTET_ROUTE_SOFTMAX,
                                  .n_rows = n,
                                  .n_experts = n_experts,
                                  .top_k = k,
                                  .renormalise = 1,
                                  .scale = 1,
                                  .logits = logits.out,
                                  .expert = oct_cf_room(s, grouped * 4),
                                  .weight = oct_cf_room(s, grouped * 4)};
    const octet_permute_op permute = {.struct_bytes = sizeof permute,
                                      .n_rows = n,
                                      .n_experts = n_experts,
                                      .top_k = k,
                                      .expert = route.expert,
                                      .first = oct_cf_room(s, (n_experts + 1) * 4),
                                      .row = oct_cf_room(s, grouped * 4),
                                      .place = oct_cf_room(s, grouped * 4)};
    const octet_linear_grouped_op gate_up = {.struct_bytes = sizeof gate_up,
                                             .n_rows = grouped,
                                             .n_in = n,
                                             .weight = oct_cf_weight(s, &up),
                                             .first = permute.first,
                                             .row = permute.row,
                                             .qx = quantize.quant.out,
                                             .out = oct_cf_rows_room(s, grouped, 2 * inner)};
    const octet_act_op silu = {.struct_bytes = sizeof silu,
                               .kind = OCTET_ACT_SILU,
                               .gated = 1,
                               .n_rows = grouped,
                               .width = inner,
                               .x = gate_up.out,
                               .quant =
                                   oct_cf_quant_room(s, OCTET_QUANT_DYNAMIC, grouped, inner, 1, 0)};
    const octet_linear_grouped_op down = {.struct_bytes = sizeof down,
                                          .n_rows = grouped,
                                          .n_in = grouped,
                                          .weight = oct_cf_weight(s, &dn),
                                          .first = permute.first,
                                          .qx = silu.quant.out,
                                          .out = oct_cf_rows_room(s, grouped, h)};
    const octet_combine_op combine = {.struct_bytes = sizeof combine,
                                      .n_rows = n,
                                      .width = h,
                                      .top_k = k,
                                      .accumulate = 1,
                                      .x = down.out,
                                      .place = permute.place,
                                      .weight = route.weight,
                                      .out = out};
    OCT_CF_OP(s, quantize, &quantize);
    OCT_CF_OP(s, linear, &logits);
    OCT_CF_OP(s, route, &route);
    OCT_CF_OP(s, permute, &permute);
    OCT_CF_OP(s, linear_grouped, &gate_up);
    OCT_CF_OP(s, act, &silu);
    OCT_CF_OP(s, linear_grouped, &down);
    OCT_CF_OP(s, combine, &combine);
    /* An int8 of the second quantisation may fall the other way: a step of 1/127 of the row times a
     * weight of the down projection. */
    oct_tolerance tol = oct_tolerance_stored(act);
    tol.abs = 0.05 + 16 * oct_row_unit(act);
    oct_cf_out_i32(s, "expert", route.expert, grouped, k);
    oct_cf_out_rows(s, "out", out, n, h, tol);
}

const oct_cf_group oct_cf_expert_groups[] = {
    {"route", 6 * N_CHOICES, case_route},
    {"permute", 4 * N_CHOICES, case_permute},
    {"quantize grouped", 3 * N_LAYERS, case_quantize_grouped},
    {"grouped int8", 4 * N_LAYERS, case_grouped_i8},
    {"grouped float", 3 * N_LAYERS, case_grouped_float},
    {"combine", 36, case_combine},
    {"experts", 6, case_layer},
    {NULL, 0, NULL},
};
