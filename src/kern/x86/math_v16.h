/*
 * kern/x86/math_v16.h - kern/elem_math.h over v16, operation by operation the same.
 */
#ifndef OCT_KERN_X86_MATH_V16_H
#define OCT_KERN_X86_MATH_V16_H

#include "kern/elem_math.h"

/* A whole v16, or what is left of a row (left >= 1). */
V16_INLINE v16 get(const float *p, size_t left) {
    return left >= 16 ? v16_load(p) : v16_load_n(p, left);
}
V16_INLINE void put(float *p, v16 x, size_t left) {
    if (left >= 16)
        v16_store(p, x);
    else
        v16_store_n(p, x, left);
}

V16_INLINE v16 v16_neg(v16 x) { return v16_from_bits(v16i_xor(v16_bits(x), v16i_set1(INT32_MIN))); }
V16_INLINE v16 v16_abs(v16 x) { return v16_from_bits(v16i_and(v16_bits(x), v16i_set1(INT32_MAX))); }

/* exp where x is a number of at most OCT_EXP_MAX, or -infinity. */
V16_INLINE v16 v16_exp_small(v16 x) {
    const v16 round = v16_set1(OCT_EXP_ROUND);
    const v16 t = v16_fma(x, v16_set1(OCT_EXP_LOG2E), round);
    const v16 n = v16_sub(t, round);
    v16 r = v16_fma(n, v16_set1(-OCT_EXP_LN2_HI), x);
    r = v16_fma(n, v16_set1(-OCT_EXP_LN2_LO), r);
    v16 q = v16_set1(OCT_EXP_C4);
    q = v16_fma(q, r, v16_set1(OCT_EXP_C3));
    q = v16_fma(q, r, v16_set1(OCT_EXP_C2));
    q = v16_fma(q, r, v16_set1(OCT_EXP_C1));
    q = v16_fma(q, r, v16_set1(OCT_EXP_C0));
    const v16 p = v16_add(v16_fma(q, v16_mul(r, r), r), v16_set1(1.0f));
    const v16 y = v16_from_bits(v16i_add(v16_bits(p), v16i_shl23(v16_bits(t))));
    return v16_select(v16_lt(x, v16_set1(OCT_EXP_MIN)), v16_zero(), y);
}

V16_INLINE v16 v16_exp(v16 x) {
    v16 y = v16_exp_small(x);
    y = v16_select(v16_lt(v16_set1(OCT_EXP_MAX), x), v16_set1(INFINITY), y);
    return v16_select(v16_nan(x), x, y);
}

V16_INLINE v16 v16_silu(v16 x) { return v16_div(x, v16_add(v16_set1(1.0f), v16_exp(v16_neg(x)))); }

V16_INLINE v16 v16_gelu_tanh(v16 x) {
    const v16 inner = v16_fma(v16_set1(OCT_GELU_T1), v16_mul(x, x), v16_set1(OCT_GELU_T0));
    return v16_div(x, v16_add(v16_set1(1.0f), v16_exp(v16_neg(v16_mul(x, inner)))));
}

V16_INLINE v16 v16_gelu(v16 x) {
    const v16 one = v16_set1(1.0f);
    const v16 z = v16_mul(v16_abs(x), v16_set1(OCT_GELU_SQRT_HALF));
    const v16 t = v16_div(one, v16_fma(v16_set1(OCT_GELU_P), z, one));
    v16 g = v16_set1(OCT_GELU_G8);
    g = v16_fma(g, t, v16_set1(OCT_GELU_G7));
    g = v16_fma(g, t, v16_set1(OCT_GELU_G6));
    g = v16_fma(g, t, v16_set1(OCT_GELU_G5));
    g = v16_fma(g, t, v16_set1(OCT_GELU_G4));
    g = v16_fma(g, t, v16_set1(OCT_GELU_G3));
    g = v16_fma(g, t, v16_set1(OCT_GELU_G2));
    g = v16_fma(g, t, v16_set1(OCT_GELU_G1));
    g = v16_fma(g, t, v16_set1(OCT_GELU_G0));
    const v16 tail = v16_mul(v16_mul(g, t), v16_exp(v16_neg(v16_mul(z, z))));
    const v16 half = v16_mul(v16_set1(0.5f), tail);
    return v16_mul(x, v16_select(v16_lt(x, v16_zero()), half, v16_sub(one, half)));
}

V16_INLINE v16 v16_relu(v16 x) { return v16_select(v16_lt(x, v16_zero()), v16_zero(), x); }

V16_INLINE v16 v16_softcap(v16 s, v16 c, v16 inv_c) {
    const v16 one = v16_set1(1.0f);
    const v16 x = v16_mul(s, inv_c);
    const v16 e = v16_exp(v16_mul(v16_set1(-2.0f), v16_abs(x)));
    const v16 t = v16_div(v16_sub(one, e), v16_add(one, e));
    const v16i sign = v16i_and(v16_bits(x), v16i_set1(INT32_MIN));
    return v16_mul(c, v16_from_bits(v16i_or(v16_bits(t), sign)));
}

#endif
