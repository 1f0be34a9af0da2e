/*
 * device/conform_rows.c - cases of the operations on rows and of the matrix products.
 *
 * Sizes lie around every width a kernel may unroll by; fills bring the edges of docs/numerics.md:
 * zero rows, NaN, infinity, values whose squares leave the range, ties.
 */
#include <math.h>
#include <string.h>

#include "device/conform_side.h"

enum { FILL_NORMAL, FILL_ZERO_ROW, FILL_NAN, FILL_INF, FILL_HUGE, FILL_TINY, FILL_TIES, N_FILLS };

static float *filled(oct_cf_side *s, size_t n_rows, size_t width, unsigned fill) {
    const float size = fill == FILL_HUGE ? 1e18f : fill == FILL_TINY ? 1e-33f : 1;
    float *x = oct_cf_floats(s, n_rows * width, size);
    float *last = x + (n_rows - 1) * width; /* the special row: its neighbours must not notice */
    switch (fill) {
    case FILL_ZERO_ROW:
        memset(last, 0, width * sizeof *x);
        break;
    case FILL_NAN:
        last[width / 2] = NAN;
        break;
    case FILL_INF:
        last[width - 1] = -INFINITY;
        break;
    case FILL_TIES: /* with the largest value 127 the scale is 1 and halves are ties */
        for (size_t i = 0; i < width; i++) last[i] = (float)((int)oct_cf_below(s, 253) - 126) / 2;
        last[0] = 127;
        break;
    default:
        break;
    }
    return x;
}

/* ---- embed, gather, copy --------------------------------------------------------------------- */

static void case_embed(oct_cf_side *s, unsigned index) {
    static const uint32_t dtypes[] = {OCTET_F32, OCTET_BF16, OCTET_F16};
    static const uint32_t widths[] = {1, 17, 64, 577};
    const uint32_t dtype = dtypes[index % 3], width = widths[index / 3], vocab = 35, n = 7;
    const oct_cf_matrix table = {.dtype = dtype, .n = vocab, .k = width, .size = 1};
    oct_cf_case(s, "type %u, width %u", dtype, width);
    int32_t *ids = oct_cf_mem(s, n, sizeof *ids);
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)oct_cf_below(s, vocab);
    ids[n - 1] = (int32_t)vocab - 1;
    const octet_embed_op op = {.struct_bytes = sizeof op,
                               .n_rows = n,
                               .table = oct_cf_weight(s, &table),
                               .ids = oct_cf_put(s, ids, n * sizeof *ids),
                               .out = oct_cf_rows_room(s, n, width + 3),
                               .scale = index % 2 ? 2.5f : 1};
    OCT_CF_OP(s, embed, &op);
    oct_cf_out_rows(s, "out", op.out, n, width, oct_tolerance_stored(s->d->info.act_dtype));
}

static void case_gather(oct_cf_side *s, unsigned index) {
    static const uint32_t widths[] = {1, 33, 576};
    const uint32_t width = widths[index], n_from = 9, n = 5;
    static const int32_t rows[] = {8, 0, 3, 3, 1};
    oct_cf_case(s, "width %u", width);
    const octet_gather_op op = {.struct_bytes = sizeof op,
                                .n_rows = n,
                                .width = width,
                                .x = oct_cf_put_rows(s, oct_cf_floats(s, (size_t)n_from * width, 1),
                                                     n_from, width, width + 1),
                                .index = oct_cf_put(s, rows, sizeof rows),
                                .out = oct_cf_rows_room(s, n, width)};
    OCT_CF_OP(s, gather, &op);
    oct_cf_out_rows(s, "out", op.out, n, width, (oct_tolerance){0, 0});
}

static void case_copy(oct_cf_side *s, unsigned index) {
    const uint32_t n = index ? 100003 : 12; /* int32 */
    int32_t *data = oct_cf_mem(s, n, sizeof *data);
    oct_cf_case(s, "%u values", n);
    for (uint32_t i = 0; i < n; i++) data[i] = (int32_t)oct_cf_u32(s);
    const octet_ref from = oct_cf_put(s, data, n * sizeof *data);
    const octet_ref to = oct_cf_room(s, n * sizeof *data);
    const octet_ref part = {from.buffer, 8}, place = {to.buffer, 4};
    if (s->failed[0]) return;
    oct_cf_check(s, s->d->ops->copy(s->stream, place, part, (n - 3) * 4), "copy");
    oct_cf_check(s, s->d->ops->fill(s->stream, (octet_ref){to.buffer, 5}, 0x5a, 6), "fill");
    oct_cf_check(s, s->d->ops->copy(s->stream, (octet_ref){to.buffer, 0}, from, 0), "empty copy");
    oct_cf_out_i32(s, "copied", to, n, n);
    /* New memory reads as zero, also where old memory was. */
    octet_buffer fresh = 0;
    if (!oct_cf_check(s, s->d->ops->buffer_create(s->d->dev, n * 4, &fresh), "buffer_create"))
        return;
    s->buffers[s->n_buffers++] = fresh;
    oct_cf_out_i32(s, "new memory", (octet_ref){fresh, 0}, n, n);
}

/* ---- norm ------------------------------------------------------------------------------------ */

static const uint32_t row_widths[] = {1, 15, 16, 17, 64, 100, 576, 2049};
enum { N_WIDTHS = sizeof row_widths / sizeof *row_widths };

static void case_norm(oct_cf_side *s, unsigned index) {
    const uint32_t act = s->d->info.act_dtype;
    const uint32_t width = row_widths[index % N_WIDTHS], kind = 1 + index / N_WIDTHS % 2;
    const unsigned fill = index % N_FILLS, how = index / 3 % 4;
    const uint32_t n = index % 5 == 0 ? 33 : 1 + index % 3;
    oct_cf_case(s, "%s width %u, %u rows, fill %u, way %u",
                kind == OCTET_NORM_RMS ? "rms" : "layer", width, n, fill, how);
    octet_norm_op op = {.struct_bytes = sizeof op,
                        .kind = kind,
                        .n_rows = n,
                        .width = width,
                        .x = oct_cf_put_rows(s, filled(s, n, width, fill), n, width, width + 2),
                        .eps = 1e-5f};
    if (how & 1) op.add = oct_cf_put_rows(s, oct_cf_floats(s, n * width, 0.5f), n, width, width);
    op.weight = oct_cf_put(s, oct_cf_floats(s, width, 1), width * 4);
    if (how == 2 || kind == OCTET_NORM_LAYER)
        op.bias = oct_cf_put(s, oct_cf_floats(s, width, 1), width * 4);
    if (how != 1) op.out = oct_cf_rows_room(s, n, width + 1);
    op.quant = oct_cf_quant_room(s, how == 3 ? index / 7 % 4 : how == 1, n, width, 0.031f,
                                 index / 7 % 4 == OCTET_QUANT_STATIC_AFTER ? -5.0f : 1.5f);
    OCT_CF_OP(s, norm, &op);

    /* x was rounded once when the sum was stored, y once more. Of a layer norm the differences
     * x - mean carry the rounding of the mean, relative to the row's spread. */
    oct_tolerance tol = oct_tolerance_stored(act);
    tol.rel = 2 * tol.rel + 64 * OCT_U32;
    tol.abs = how & 1 ? 16 * oct_row_unit(act) : kind == OCTET_NORM_LAYER ? 256 * OCT_U32 : 0;
    if (how & 1) oct_cf_out_rows(s, "x", op.x, n, width, oct_tolerance_stored(act));
    if (how != 1) oct_cf_out_rows(s, "out", op.out, n, width, tol);
    oct_cf_out_quant(s, &op.quant, n, width, 1, tol);
}

/* ---- quantize -------------------------------------------------------------------------------- */

static void case_quantize(oct_cf_side *s, unsigned index) {
    static const float offsets[] = {0, 3, -128, 127};
    const uint32_t width = row_widths[index % N_WIDTHS], mode = 1 + index / N_WIDTHS % 3;
    const unsigned fill = index / 2 % N_FILLS;
    const uint32_t n = index % 4 == 0 ? 40 : 2;
    const float scale = fill == FILL_TIES ? 1 : 0.0173f;
    oct_cf_case(s, "mode %u, width %u, %u rows, fill %u", mode, width, n, fill);
    octet_quantize_op op = {.struct_bytes = sizeof op,
                            .n_rows = n,
                            .width = width,
                            .x =
                                oct_cf_put_rows(s, filled(s, n, width, fill), n, width, width + 5)};
    if (index % 3 == 2) op.mul = oct_cf_put(s, oct_cf_floats(s, width, 1), width * 4);
    op.quant =
        oct_cf_quant_room(s, mode, n, width, scale,
                          offsets[index % 4] + (mode == OCTET_QUANT_STATIC_BEFORE ? 0.25f : 0));
    OCT_CF_OP(s, quantize, &op);
    /* The same floats go in: the same integers and scales come out, on every device. */
    oct_cf_out_quant(s, &op.quant, n, width, 0, (oct_tolerance){0, 0});
}

/* ---- linear ---------------------------------------------------------------------------------- */

static const struct {
    uint32_t m, n, k;
} shapes[] = {{1, 1, 1},    {1, 16, 64},   {3, 17, 65},   {33, 48, 128}, {2, 100, 1000},
              {64, 33, 70}, {5, 200, 192}, {1, 49, 1536}, {130, 20, 64}, {17, 64, 257}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void case_linear_i8(oct_cf_side *s, unsigned index) {
    const uint32_t m = shapes[index % N_SHAPES].m, n = shapes[index % N_SHAPES].n;
    const uint32_t k = shapes[index % N_SHAPES].k, act = s->d->info.act_dtype;
    const unsigned way = index / N_SHAPES;
    const bool logits = way == 2, accumulate = way == 3;
    const oct_cf_matrix matrix = {.dtype = OCTET_I8,
                                  .n = n,
                                  .k = k,
                                  .fill = index % 4,
                                  .size = 1.0f / (128 * 128),
                                  .int_bias = way & 1,
                                  .bias = way >= 1};
    oct_cf_case(s, "%u x %u x %u, way %u", m, n, k, way);
    float *scale = oct_cf_mem(s, m, sizeof *scale);
    for (uint32_t i = 0; i < m; i++) scale[i] = oct_cf_uniform(s, 0.1f, 1);
    if (m > 2) scale[1] = 0, scale[m - 1] = NAN;
    const size_t stride = (k + 15) / 16 * 16;
    octet_linear_op op = {.struct_bytes = sizeof op,
                          .n_rows = m,
                          .weight = oct_cf_weight(s, &matrix),
                          .qx = {.stride = stride},
                          .out_dtype = logits ? OCTET_F32 : 0,
                          .accumulate = accumulate};
    op.qx.data = oct_cf_put(s, oct_cf_bytes(s, m * stride, (index + 1) % 4), m * stride);
    op.qx.scale = oct_cf_put(s, scale, m * sizeof *scale);
    op.out = accumulate ? oct_cf_put_rows(s, oct_cf_floats(s, (size_t)m * n, 1), m, n, n)
                        : oct_cf_rows_room(s, m, n + 2);
    if (logits) op.out = (octet_rows){oct_cf_room(s, (size_t)m * n * 4), n};
    OCT_CF_OP(s, linear, &op);
    /* The sum is exact; products by the scales and the additions round, relative to their terms:
     * at most k from the sum, 4 from bias and what was there. */
    oct_tolerance tol = logits ? oct_tolerance_f32() : oct_tolerance_stored(act);
    if (way) tol.abs = 8 * (logits ? OCT_U32 : oct_row_unit(act)) * (accumulate ? 4 + k : 1);
    if (logits)
        oct_cf_out_f32(s, "out", op.out.data, (size_t)m * n, n, tol);
    else
        oct_cf_out_rows(s, "out", op.out, m, n, tol);
}

static void case_linear_float(oct_cf_side *s, unsigned index) {
    static const uint32_t dtypes[] = {OCTET_F32, OCTET_BF16, OCTET_F16};
    const uint32_t m = shapes[index % N_SHAPES].m, n = shapes[index % N_SHAPES].n;
    const uint32_t k = shapes[index % N_SHAPES].k, act = s->d->info.act_dtype;
    const unsigned way = index / N_SHAPES;
    const bool logits = way == 1;
    const oct_cf_matrix matrix = {
        .dtype = dtypes[way % 3], .n = n, .k = k, .size = 0.5f, .bias = way == 2};
    oct_cf_case(s, "type %u, %u x %u x %u", matrix.dtype, m, n, k);
    octet_linear_op op = {
        .struct_bytes = sizeof op,
        .n_rows = m,
        .weight = oct_cf_weight(s, &matrix),
        .x = oct_cf_put_rows(s, filled(s, m, k, index % 4 ? FILL_NORMAL : FILL_NAN), m, k, k + 1),
        .out_dtype = logits ? OCTET_F32 : 0};
    op.out =
        logits ? (octet_rows){oct_cf_room(s, (size_t)m * n * 4), n} : oct_cf_rows_room(s, m, n);
    OCT_CF_OP(s, linear, &op);
    oct_tolerance tol = logits ? oct_tolerance_f32() : oct_tolerance_stored(act);
    tol = oct_tolerance_operand(oct_tolerance_sum(tol, k, 1), act, k, 1);
    if (logits)
        oct_cf_out_f32(s, "out", op.out.data, (size_t)m * n, n, tol);
    else
        oct_cf_out_rows(s, "out", op.out, m, n, tol);
}

/* ---- act ------------------------------------------------------------------------------------- */

static void case_act(oct_cf_side *s, unsigned index) {
    const uint32_t act = s->d->info.act_dtype, kind = 1 + index % 4;
    const uint32_t width = row_widths[index / 2 % N_WIDTHS], gated = index / 4 % 2;
    const uint32_t n = index % 5 ? 3 : 20, in = width * (1 + gated);
    const unsigned fill = index % 7 == 3 ? FILL_NAN : FILL_NORMAL;
    float *x = filled(s, n, in, fill);
    oct_cf_case(s, "kind %u, gated %u, width %u, %u rows", kind, gated, width, n);
    for (uint32_t i = 0; i < n * in; i++) x[i] *= i % 11 == 0 ? 64 : 2; /* into the flat ends */
    octet_act_op op = {.struct_bytes = sizeof op,
                       .kind = kind,
                       .gated = gated,
                       .n_rows = n,
                       .width = width,
                       .x = oct_cf_put_rows(s, x, n, in, in + 4)};
    if (index % 3) op.out = oct_cf_rows_room(s, n, width + 4);
    op.quant = oct_cf_quant_room(s, index % 3 == 1 ? 0 : 1 + index % 3, n, width, 0.05f, 2);
    OCT_CF_OP(s, act, &op);
    oct_tolerance tol = oct_tolerance_stored(act);
    tol.rel += 32 * OCT_U32;
    tol.abs = 64 * 8 * OCT_U32; /* x times a function that is nearly 0, off by roundings near 1 */
    if (index % 3) oct_cf_out_rows(s, "out", op.out, n, width, tol);
    oct_cf_out_quant(s, &op.quant, n, width, 1, tol);
}

const oct_cf_group oct_cf_row_groups[] = {
    {"memory", 2, case_copy},
    {"embed", 12, case_embed},
    {"gather", 3, case_gather},
    {"norm", 96, case_norm},
    {"quantize", 3 * N_WIDTHS * 4, case_quantize},
    {"linear int8", 4 * N_SHAPES, case_linear_i8},
    {"linear float", 3 * N_SHAPES, case_linear_float},
    {"act", 64, case_act},
    {NULL, 0, NULL},
};
