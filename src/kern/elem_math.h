/*
 * kern/elem_math.h - exp and the functions made from it, one value at a time: the reference of
 * docs/numerics.md. Every vector variant performs these operations in this order, so results agree
 * to the bit; that is why they are ours and not the C library's, which differs between machines.
 *
 * Relative error of exp at most 1.1 units in the last place over its range. Pure; any thread.
 */
#ifndef OCT_KERN_ELEM_MATH_H
#define OCT_KERN_ELEM_MATH_H

#include <math.h>

#include "quant/contract.h"

/* exp(x) = 2^n exp(r), n = rne(x / ln 2), |r| <= ln(2)/2. ln 2 in two parts, the first short enough
 * for n * HI to be exact. exp(r) = 1 + (r + r^2 q(r)), q of degree 4: relative error 3e-9. */
#define OCT_EXP_LOG2E 0x1.715476p+0f
#define OCT_EXP_LN2_HI 0x1.62e4p-1f
#define OCT_EXP_LN2_LO 0x1.7f7d1cp-20f
#define OCT_EXP_C0 0x1.fffffcp-2f
#define OCT_EXP_C1 0x1.555492p-3f
#define OCT_EXP_C2 0x1.5558f2p-5f
#define OCT_EXP_C3 0x1.1239d8p-7f
#define OCT_EXP_C4 0x1.6a2444p-10f
/* Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits. */
#define OCT_EXP_ROUND 0x1.8p+23f
/* The largest x with a finite result; the smallest with a result of 2^-126 or more. */
#define OCT_EXP_MAX 0x1.62e42ep+6f
#define OCT_EXP_MIN (-0x1.5d589ep+6f)

static inline float oct_exp_f32(float x) {
    if (x != x) return x;
    if (x > OCT_EXP_MAX) return INFINITY;
    if (x < OCT_EXP_MIN) return 0.0f;
    const float t = fmaf(x, OCT_EXP_LOG2E, OCT_EXP_ROUND);
    const float n = t - OCT_EXP_ROUND;
    const float r = fmaf(n, -OCT_EXP_LN2_LO, fmaf(n, -OCT_EXP_LN2_HI, x));
    float q = OCT_EXP_C4;
    q = fmaf(q, r, OCT_EXP_C3);
    q = fmaf(q, r, OCT_EXP_C2);
    q = fmaf(q, r, OCT_EXP_C1);
    q = fmaf(q, r, OCT_EXP_C0);
    const float p = fmaf(q, r * r, r) + 1.0f;
    return oct_f32_from_bits(oct_f32_bits(p) + (oct_f32_bits(t) << 23));
}

static inline float oct_silu_f32(float x) { return x / (1.0f + oct_exp_f32(-x)); }

/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3). */
#define OCT_GELU_T0 0x1.988454p+0f /* 2 sqrt(2/pi) */
#define OCT_GELU_T1 0x1.2444f2p-4f /* that times 0.044715 */

static inline float oct_gelu_tanh_f32(float x) {
    const float u2 = x * fmaf(OCT_GELU_T1, x * x, OCT_GELU_T0);
    return x / (1.0f + oct_exp_f32(-u2));
}

/* x * Phi(x). With z = |x|/sqrt(2), erfc(z) = exp(-z^2) * t g(t), t = 1/(1 + 0.4 z), g of degree 8:
 * relative error 6e-8 for z up to 10, beyond which exp gives zero. */
#define OCT_GELU_SQRT_HALF 0x1.6a09e6p-1f
#define OCT_GELU_P 0.4f
#define OCT_GELU_G0 0x1.ce1952p-3f
#define OCT_GELU_G1 0x1.cfc15cp-3f
#define OCT_GELU_G2 0x1.9d7792p-3f
#define OCT_GELU_G3 0x1.8c1064p-3f
#define OCT_GELU_G4 0x1.46b550p-4f
#define OCT_GELU_G5 0x1.684380p-4f
#define OCT_GELU_G6 0x1.580bd6p-4f
#define OCT_GELU_G7 (-0x1.1f61dcp-3f)
#define OCT_GELU_G8 0x1.51f3b6p-5f

static inline float oct_gelu_f32(float x) {
    const float z = oct_f32_from_bits(oct_f32_abs_bits(x)) * OCT_GELU_SQRT_HALF;
    const float t = 1.0f / fmaf(OCT_GELU_P, z, 1.0f);
    float g = OCT_GELU_G8;
    g = fmaf(g, t, OCT_GELU_G7);
    g = fmaf(g, t, OCT_GELU_G6);
    g = fmaf(g, t, OCT_GELU_G5);
    g = fmaf(g, t, OCT_GELU_G4);
    g = fmaf(g, t, OCT_GELU_G3);
    g = fmaf(g, t, OCT_GELU_G2);
    g = fmaf(g, t, OCT_GELU_G1);
    g = fmaf(g, t, OCT_GELU_G0);
    const float half = 0.5f * ((g * t) * oct_exp_f32(-(z * z)));
    return x * (x < 0.0f ? half : 1.0f - half);
}

static inline float oct_relu_f32(float x) { return x < 0.0f ? 0.0f : x; }

/* c * tanh(s / c), inv_c = 1.0f / c. */
static inline float oct_softcap_f32(float s, float c, float inv_c) {
    const float x = s * inv_c;
    const float e = oct_exp_f32(-2.0f * oct_f32_from_bits(oct_f32_abs_bits(x)));
    const float t = (1.0f - e) / (1.0f + e);
    return c * oct_f32_from_bits(oct_f32_bits(t) | (oct_f32_bits(x) & 0x80000000u));
}

/* The fixed tree over the 16 lanes of a row reduction; s is spent. */
static inline float oct_fold16_f32(float s[16]) {
    for (int width = 8; width > 0; width /= 2)
        for (int l = 0; l < width; l++) s[l] += s[l + width];
    return s[0];
}

#endif
