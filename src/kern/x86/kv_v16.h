/*
 * kern/x86/kv_v16.h - the element types of the cache (kern/kv_kern.h) over v16. Included once each
 * by kv_avx2.c and kv_avx512.c, after the v16 of that set; no guard, no other user.
 */
#include "kern/kv_kern.h"
#include "kern/x86/kv_x86.h"
#include "kern/x86/math_v16.h"

float V16_NAME(kv_quant_token)(int8_t *q, const float *x, size_t n) {
    v16i most = v16i_set1(0);
    for (size_t i = 0; i < n; i += 16) most = v16i_max(most, v16_bits(v16_abs(get(x + i, n - i))));
    const uint32_t absmax = (uint32_t)v16i_max_of(most);
    if (!oct_abs_bits_finite(absmax)) {
        memset(q, 0, n);
        return NAN;
    }
    const float of_row = oct_f32_from_bits(absmax) / 127.0f;
    const float scale = of_row > OCT_KV_TOKEN_SCALE_MIN ? of_row : OCT_KV_TOKEN_SCALE_MIN;
    const v16 inv = v16_set1(1.0f / scale);
    for (size_t i = 0; i < n; i += 16) {
        const v16 v = v16_mul(get(x + i, n - i), inv);
        const v16 in_range = v16_min(v16_max(v, v16_set1(-128.0f)), v16_set1(127.0f));
        v16i_store_i8_n(q + i, v16_to_i32(in_range), n - i);
    }
    return scale;
}

/* A byte as the int8 of the same bits. Two ways to the magnitude: above 2^-6 the float's own bits
 * are rounded at bit 20; below, adding 2^14 leaves the multiple of 2^-9 in the low bits. */
V16_INLINE v16i e4m3_of(v16 x) {
    const v16 size = v16_abs(x);
    const v16i rest = v16i_add(v16_bits(size), v16i_set1(-0x3C000000));
    const v16i odd = v16i_and(v16i_sra20(rest), v16i_set1(1));
    const v16i above = v16i_sra20(v16i_add(rest, v16i_add(odd, v16i_set1(0x7FFFF))));
    const v16i below = v16i_sub(v16_bits(v16_add(size, v16_set1(0x1p14f))), v16i_set1(0x46800000));

    const v16m is_below = v16_lt(size, v16_set1(0x1p-6f));
    v16i code = v16i_select(is_below, below, v16i_min(above, v16i_set1(0x7E)));
    code = v16i_select(v16_nan(x), v16i_set1(0x7F), code);
    return v16i_or(v16i_and(v16i_sra31(v16_bits(x)), v16i_set1(-0x80)), code);
}

void V16_NAME(kv_narrow_e4m3)(uint8_t *y, const float *x, const float *scale, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        const v16 v = v16_div(get(x + i, n - i), get(scale + i, n - i));
        v16i_store_i8_n((int8_t *)y + i, e4m3_of(v), n - i);
    }
}

void V16_NAME(kv_narrow_f16)(uint16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) v16_store_f16_n(y + i, get(x + i, n - i), n - i);
}

void V16_NAME(kv_widen_e4m3)(float *y, const uint8_t *x, size_t n) {
    const v16 most = v16_set1(448.0f), nan = v16_set1(NAN);
    for (size_t i = 0; i < n; i += 16) {
        /* The byte's fields lie in a half as they are, for the value times 2^-8; the code of NaN
         * comes out as the next value, 480. */
        const v16 v = v16_mul(v16_load_half_of_e4m3(x + i), v16_set1(256.0f));
        v16_store(y + i, v16_select(v16_lt(most, v16_abs(v)), nan, v));
    }
}

void V16_NAME(kv_widen_f16)(float *y, const uint16_t *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) v16_store(y + i, v16_load_f16(x + i));
}
