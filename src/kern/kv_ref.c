/*
 * kern/kv_ref.c - the element types of the cache (kern/kv_kern.h) as docs/numerics.md words them.
 */
#include "kern/elem_math.h"
#include "kern/kern_ref.h"
#include "quant/contract.h"
#include "quant/float_types.h"

static float kv_quant_token_ref(int8_t *q, const float *x, size_t n) {
    uint32_t absmax = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t a = oct_f32_abs_bits(x[i]);
        if (a > absmax) absmax = a;
    }
    if (!oct_abs_bits_finite(absmax)) {
        memset(q, 0, n);
        return NAN;
    }
    const float of_row = oct_f32_from_bits(absmax) / 127.0f;
    const float scale = of_row > OCT_KV_TOKEN_SCALE_MIN ? of_row : OCT_KV_TOKEN_SCALE_MIN;
    const float inv = 1.0f / scale;
    for (size_t i = 0; i < n; i++) q[i] = oct_sat8_rne(x[i] * inv);
    return scale;
}

static void kv_narrow_e4m3_ref(uint8_t *y, const float *x, const float *scale, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = oct_f32_to_e4m3(x[i] / scale[i]);
}

static void kv_narrow_f16_ref(uint16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = oct_f32_to_f16(x[i]);
}

static void kv_widen_e4m3_ref(float *y, const uint8_t *x, size_t n) {
    oct_e4m3_row_to_f32(x, n, y);
}

static void kv_widen_f16_ref(float *y, const uint16_t *x, size_t n) { oct_f16_row_to_f32(x, n, y); }

void oct_kern_init_kv_ref(oct_kern *k) {
    k->kv = (oct_kern_kv_slots){
        .quant_token = kv_quant_token_ref,
        .narrow_e4m3 = kv_narrow_e4m3_ref,
        .narrow_f16 = kv_narrow_f16_ref,
        .widen_e4m3 = kv_widen_e4m3_ref,
        .widen_f16 = kv_widen_f16_ref,
    };
}
