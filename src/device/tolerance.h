/*
 * device/tolerance.h - how far a float result of a device may lie from the reference, derived from
 * the roundings on the way. A difference is allowed when
 *
 *     |got - want| <= abs + rel * |want|
 *
 * u is half a unit in the last place of 1: 2^-24 for float32, 2^-9 for bfloat16 (8 bits of
 * significand). Both sides compute; each may be off by the bound, so every term is doubled.
 *
 *   stored   the result is rounded once to the device's row type: rel = 2 u_row.
 *   sum      n terms of size at most t, added in any order in float32: each partial sum is at most
 *            n t, each of the n additions and products rounds it by u32: abs = 2 n u32 * n t in the
 *            worst case. Rounding errors of random sign grow with the root: abs = 2 * 4 sqrt(n) u32
 *            * sqrt(n) t, four standard deviations, is what is used (n >= 16; the worst case
 * below). operand  a device with bfloat16 rows may multiply bfloat16 operands where the reference
 * has float32: each term moves by up to 2 u_row t, again of random sign: abs = 4 sqrt(n) * 2 u_row
 * t. function exp, tanh, erf, sqrt, division: a few roundings of float32, rel = 8 u32.
 *
 *   model    the logits of a whole model, as relative RMS. A stored row moves each element by up to
 *            u_row of itself, u_row^2 / 3 in the mean square, and about 10 rows a layer and 4 at
 *            the ends are stored. Where a layer's 4 inputs and its new K and V become int8, two
 *            roundings of elements that are no longer the same differ by step^2 / 6 in the mean
 *            square, a step being 4 / 127 of the row's RMS (its largest element is four of these).
 *            Experts: scores of neighbours among E lie about 3 / E deviations apart, so one moved
 *            by d swaps two with a chance of d E / 3, and a row whose expert was swapped is off by
 *            a third of itself, 0.1 in the mean square. Twice the root of the sum: part of what is
 *            added is one draw, not a mean.
 *
 * An int8 result of float input (norm with quantisation) may differ by one where the value lay
 * within the tolerance of a half: abs = 1, rel = 0, for at most the share of places that such
 * values have; its row scale has the tolerance of the float result.
 */
#ifndef OCT_DEVICE_TOLERANCE_H
#define OCT_DEVICE_TOLERANCE_H

#include <octet/device.h>

#include <math.h>

typedef struct oct_tolerance {
    double abs, rel;
} oct_tolerance;

#define OCT_U32 0x1p-24

static inline double oct_row_unit(uint32_t act_dtype) {
    return act_dtype == OCTET_BF16 ? 0x1p-9 : OCT_U32;
}

/* A value computed with a few float32 roundings and stored once as a row element. */
static inline oct_tolerance oct_tolerance_stored(uint32_t act_dtype) {
    return (oct_tolerance){0, 2 * oct_row_unit(act_dtype) + 8 * OCT_U32};
}

/* The same for a float32 result, whatever the row type. */
static inline oct_tolerance oct_tolerance_f32(void) { return (oct_tolerance){0, 8 * OCT_U32}; }

/* Plus the order of a sum of n terms of at most t each. */
static inline oct_tolerance oct_tolerance_sum(oct_tolerance of, double n, double t) {
    of.abs += 2 * OCT_U32 * t * n * (n < 16 ? n : 4);
    return of;
}

/* Plus operands in the row type. */
static inline oct_tolerance oct_tolerance_operand(oct_tolerance of, uint32_t act_dtype, double n,
                                                  double t) {
    if (act_dtype == OCTET_BF16) of.abs += 4 * sqrt(n) * 2 * oct_row_unit(act_dtype) * t;
    return of;
}

/* Of a whole model; n_experts 0: dense. */
static inline double oct_tolerance_model(uint32_t act_dtype, uint32_t n_layers, uint32_t n_experts,
                                         int i8) {
    const double u = oct_row_unit(act_dtype), n = n_layers, step = 4.0 / 127;
    const double stored = (10 * n + 4) * u * u / 3, steps = i8 ? 6 * n * step * step / 6 : 0;
    return 2 * sqrt(stored + steps + n * sqrt(stored) * n_experts / 3 * 0.1);
}

static inline int oct_within(oct_tolerance of, double want, double got, double *part_out) {
    const double allowed = of.abs + of.rel * fabs(want);
    const double difference = fabs(got - want);
    *part_out = difference == 0 ? 0 : allowed > 0 ? difference / allowed : INFINITY;
    return *part_out <= 1;
}

#endif
