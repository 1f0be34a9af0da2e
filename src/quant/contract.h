/*
 * quant/contract.h - the arithmetic of docs/numerics.md, one value at a time, as the reference
 * kernels and the offline quantiser use it. Pure functions; any thread.
 *
 * OCT_NUMERICS_REV is the revision of that page. It changes whenever any result bit may change, and
 * host and plug-ins must agree on it.
 */
#ifndef OCT_QUANT_CONTRACT_H
#define OCT_QUANT_CONTRACT_H

#include <math.h>
#include <stdint.h>

#include "quant/float_types.h"

#define OCT_NUMERICS_REV 1u

/*
 * Where the order of a sum is the contract's to choose. A build with other numbers keeps none of
 * the promises; bench/fixed_order.py makes such builds to measure what the order costs.
 */
#ifndef OCT_ORDER_CHUNK
#define OCT_ORDER_CHUNK 256
#endif
#ifndef OCT_ORDER_SPAN
#define OCT_ORDER_SPAN 128
#endif
#ifndef OCT_ORDER_CHAINS
#define OCT_ORDER_CHAINS 1
#endif

/* How many k a float product adds up in one chain before the chunk goes into the total. */
enum { OCT_NUMERICS_CHUNK = OCT_ORDER_CHUNK };

/* Tokens of a sequence, from a multiple of it on, whose softmax is computed together. */
enum { OCT_NUMERICS_SPAN = OCT_ORDER_SPAN };

/* Lanes of a float reduction over a row. */
enum { OCT_NUMERICS_LANES = 16 };

/* Magnitude as an ordered integer: NaN above infinity above every number. */
static inline uint32_t oct_f32_abs_bits(float x) { return oct_f32_bits(x) & 0x7fffffffu; }

#define OCT_F32_INF_BITS 0x7f800000u

static inline int oct_abs_bits_finite(uint32_t abs_bits) { return abs_bits < OCT_F32_INF_BITS; }

/* Nearest integer, ties to even. The rounding mode is the default one, which octet never changes.
 */
static inline float oct_rne(float x) { return nearbyintf(x); }

/* rne, then clamped to -128 .. 127. A NaN gives 0; callers mark the row instead (contract 4). */
static inline int8_t oct_sat8_rne(float x) {
    if (x != x) return 0;
    const float r = oct_rne(x);
    return (int8_t)(r < -128.0f ? -128.0f : r > 127.0f ? 127.0f : r);
}

/* A row's dynamic scale and its reciprocal from the row's largest magnitude (as bits). */
typedef struct oct_row_scale {
    float scale; /* goes to the epilogue; NaN: the row holds a NaN or infinity; 0: nothing in it */
    float inv;   /* q = sat8(rne(x * inv)); 0 in both special cases, and then q is 0 */
} oct_row_scale;

/* 2^-100: below it 127 / absmax would near the end of the float range. */
#define OCT_ROW_ABSMAX_MIN_BITS 0x0d800000u

static inline oct_row_scale oct_row_scale_of(uint32_t absmax_bits) {
    if (!oct_abs_bits_finite(absmax_bits)) return (oct_row_scale){NAN, 0.0f};
    if (absmax_bits < OCT_ROW_ABSMAX_MIN_BITS) return (oct_row_scale){0.0f, 0.0f};
    const float absmax = oct_f32_from_bits(absmax_bits);
    return (oct_row_scale){absmax / 127.0f, 127.0f / absmax};
}

/* One value under a row scale; inv 0 gives 0 also for infinite and NaN x. */
static inline int8_t oct_quant_dynamic(float x, float inv) {
    return inv == 0.0f ? 0 : oct_sat8_rne(x * inv);
}

/* Static, offset added before rounding: two roundings, no FMA. */
static inline int8_t oct_quant_static_before(float x, float inv, float offset) {
    const float scaled = x * inv;
    return oct_sat8_rne(scaled + offset);
}

/* Static, integer offset added to the rounded value. */
static inline int8_t oct_quant_static_after(float x, float inv, float offset) {
    return oct_sat8_rne(oct_rne(x * inv) + offset);
}

/* The widest integer bias that no sum of k products can push out of int32. */
static inline int64_t oct_ibias_limit(uint32_t k) {
    return (int64_t)INT32_MAX - (int64_t)k * 16384;
}

#endif
