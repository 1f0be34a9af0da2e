/*
 * kern/kv_kern.h - how rows of K and V become the element types of the cache and floats again:
 * slots of the table. Callers outside the room use kern/attn.h.
 *
 * The arithmetic is docs/numerics.md, "The KV cache". Threads: any.
 */
#ifndef OCT_KERN_KV_KERN_H
#define OCT_KERN_KV_KERN_H

#include <stddef.h>
#include <stdint.h>

/* The least scale of a token: a row of zeros has it too. */
#define OCT_KV_TOKEN_SCALE_MIN 1e-6f

/* q = x in units of the row's own scale, max(absmax / 127, OCT_KV_TOKEN_SCALE_MIN), which is
 * returned. A row with a NaN or an infinity gives zeros and NaN. */
#define OCT_DECL_KV_QUANT_TOKEN(name) float(name)(int8_t * q, const float *x, size_t n)

/* y[i] = E4M3 of x[i] / scale[i], to nearest even, saturating at 448; NaN stays NaN. */
#define OCT_DECL_KV_NARROW_E4M3(name) \
    void(name)(uint8_t * y, const float *x, const float *scale, size_t n)

/* y[i] = half of x[i], to nearest even; beyond 65504 infinity. */
#define OCT_DECL_KV_NARROW_F16(name) void(name)(uint16_t * y, const float *x, size_t n)

/* y[i] = x[i] as a float, exactly. n is a multiple of 32. */
#define OCT_DECL_KV_WIDEN_E4M3(name) void(name)(float *y, const uint8_t *x, size_t n)
#define OCT_DECL_KV_WIDEN_F16(name) void(name)(float *y, const uint16_t *x, size_t n)

typedef OCT_DECL_KV_QUANT_TOKEN(*oct_kv_quant_token_fn);
typedef OCT_DECL_KV_NARROW_E4M3(*oct_kv_narrow_e4m3_fn);
typedef OCT_DECL_KV_NARROW_F16(*oct_kv_narrow_f16_fn);
typedef OCT_DECL_KV_WIDEN_E4M3(*oct_kv_widen_e4m3_fn);
typedef OCT_DECL_KV_WIDEN_F16(*oct_kv_widen_f16_fn);

typedef struct oct_kern_kv_slots {
    oct_kv_quant_token_fn quant_token;
    oct_kv_narrow_e4m3_fn narrow_e4m3;
    oct_kv_narrow_f16_fn narrow_f16;
    oct_kv_widen_e4m3_fn widen_e4m3;
    oct_kv_widen_f16_fn widen_f16;
} oct_kern_kv_slots;

#endif
