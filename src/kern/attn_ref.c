/*
 * kern/attn_ref.c - the pieces of attention (kern/attn_kern.h) as docs/numerics.md words them.
 */
#include <stdbool.h>

#include "kern/elem_math.h"
#include "kern/kern_ref.h"
#include "quant/float_types.h"

static float attn_q24_ref(int16_t *q24, const float *q, const float *k_scale, uint32_t head_dim,
                          uint32_t pad) {
    uint32_t absmax = 0;
    memset(q24, 0, 2 * (size_t)pad * sizeof *q24);
    for (uint32_t d = 0; d < head_dim; d++) {
        const uint32_t a = oct_f32_abs_bits(q[d] * k_scale[d]);
        if (a > absmax) absmax = a;
    }
    if (!oct_abs_bits_finite(absmax)) return NAN;
    if (absmax < OCT_ROW_ABSMAX_MIN_BITS) return 0.0f;
    const float inv = OCT_ATTN_Q24_MAX / oct_f32_from_bits(absmax);
    for (uint32_t d = 0; d < head_dim; d++) {
        const int32_t x = (int32_t)oct_rne((q[d] * k_scale[d]) * inv);
        q24[d] = (int16_t)oct_attn_high(x);
        q24[pad + d] = (int16_t)(x - 256 * oct_attn_high(x));
    }
    return oct_f32_from_bits(absmax) / OCT_ATTN_Q24_MAX;
}

static float capped(float s, const oct_attn_score *score) {
    return score->cap != 0.0f ? oct_softcap_f32(s, score->cap, score->inv_cap) : s;
}

static float score_of(float raw, const oct_attn_score *score) {
    return capped(raw * score->factor, score);
}

static void attn_softmax_i8_ref(int16_t *p24, const int32_t *c, uint32_t lo, uint32_t hi,
                                const oct_attn_score *score, float *m, int32_t *l) {
    float s[OCT_ATTN_SPAN], max = -INFINITY;
    int32_t sum = 0;
    for (uint32_t t = lo; t < hi; t++) {
        s[t] = score_of(fmaf((float)c[t], 256.0f, (float)c[OCT_ATTN_SPAN + t]), score);
        if (s[t] > max) max = s[t];
    }
    *m = max = max + 0.0f; /* -0 would show in a partial result, though not in the end */
    *l = 0;
    if (!oct_abs_bits_finite(oct_f32_abs_bits(max))) return;
    memset(p24, 0, 2 * (size_t)OCT_ATTN_SPAN * sizeof *p24);
    for (uint32_t t = lo; t < hi; t++) {
        const int32_t x = (int32_t)oct_rne(oct_exp_f32(s[t] - max) * OCT_ATTN_P24_ONE);
        p24[t] = (int16_t)oct_attn_high(x);
        p24[OCT_ATTN_SPAN + t] = (int16_t)(x - 256 * oct_attn_high(x));
        sum += x;
    }
    *l = sum;
}

static bool finite_f32(float x) { return oct_abs_bits_finite(oct_f32_abs_bits(x)); }

static void attn_softmax_i8_token_ref(int16_t *p24, const int32_t *c, uint32_t lo, uint32_t hi,
                                      const oct_attn_score *score, const float *k_scale,
                                      const float *v_scale, float *m, int32_t *l, float *w) {
    float s[OCT_ATTN_SPAN], max = -INFINITY, most = 0.0f;
    bool lost = false;
    int32_t sum = 0;
    *l = 0;
    *w = 0.0f;
    for (uint32_t t = lo; t < hi; t++) {
        const float raw = fmaf((float)c[t], 256.0f, (float)c[OCT_ATTN_SPAN + t]) * score->factor;
        s[t] = capped(raw * k_scale[t], score);
        if (s[t] > max) max = s[t];
        lost |= !finite_f32(k_scale[t]) || !finite_f32(v_scale[t]);
    }
    *m = max = lost ? NAN : max + 0.0f;
    if (!finite_f32(max)) return;
    memset(p24, 0, 2 * (size_t)OCT_ATTN_SPAN * sizeof *p24);
    for (uint32_t t = lo; t < hi; t++) {
        const float p = oct_exp_f32(s[t] - max);
        sum += (int32_t)oct_rne(p * OCT_ATTN_P24_ONE);
        s[t] = p * v_scale[t];
        if (s[t] > most) most = s[t];
    }
    *l = sum;
    if (oct_f32_bits(most) < OCT_ROW_ABSMAX_MIN_BITS) return;
    const float inv = OCT_ATTN_P24_ONE / most;
    for (uint32_t t = lo; t < hi; t++) {
        const int32_t x = (int32_t)oct_rne(s[t] * inv);
        p24[t] = (int16_t)oct_attn_high(x);
        p24[OCT_ATTN_SPAN + t] = (int16_t)(x - 256 * oct_attn_high(x));
    }
    *w = most;
}

static void attn_softmax_f32_ref(float *p, uint32_t lo, uint32_t hi, const oct_attn_score *score,
                                 float *m, float *l) {
    float max = -INFINITY, sum = 0.0f;
    for (uint32_t t = lo; t < hi; t++) {
        p[t] = score_of(p[t], score);
        if (p[t] > max) max = p[t];
    }
    *m = max = max + 0.0f;
    for (uint32_t t = lo; t < hi; t++) {
        p[t] = oct_exp_f32(p[t] - max);
        sum += p[t];
    }
    *l = sum;
}

static float load_f32(const void *at, size_t i) { return ((const float *)at)[i]; }
static float load_bf16(const void *at, size_t i) {
    return oct_bf16_to_f32(((const uint16_t *)at)[i]);
}

#define QK_REF(type)                                                                               \
    static void attn_qk_##type##_ref(float *s, size_t lds, const float *q, size_t ldq, uint32_t m, \
                                     const void *k, uint32_t head_dim) {                           \
        for (uint32_t i = 0; i < m; i++)                                                           \
            for (uint32_t t = 0; t < OCT_ATTN_SUB; t++) {                                          \
                float acc = 0.0f;                                                                  \
                for (uint32_t d = 0; d < head_dim; d++)                                            \
                    acc = fmaf(q[i * ldq + d], load_##type(k, d * OCT_ATTN_SUB + t), acc);         \
                s[i * lds + t] = acc;                                                              \
            }                                                                                      \
    }
QK_REF(f32)
QK_REF(bf16)

#define PV_REF(type)                                                                     \
    static void attn_pv_##type##_ref(float *o, const float *p, uint32_t lo, uint32_t hi, \
                                     const void *v, size_t ldv, uint32_t head_dim) {     \
        for (uint32_t t = lo; t < hi; t++)                                               \
            for (uint32_t d = 0; d < head_dim; d++)                                      \
                o[d] = fmaf(p[t], load_##type(v, t * ldv + d), o[d]);                    \
    }
PV_REF(f32)
PV_REF(bf16)

static void attn_merge_f32_ref(float *acc, const float *o, float a, float b, uint32_t head_dim) {
    for (uint32_t d = 0; d < head_dim; d++) acc[d] = fmaf(acc[d], a, o[d] * b);
}

static void attn_merge_i32_ref(float *acc, const int32_t *o, size_t ldo, float a, float b,
                               uint32_t head_dim) {
    for (uint32_t d = 0; d < head_dim; d++)
        acc[d] = fmaf(acc[d], a, fmaf((float)o[d], 256.0f, (float)o[ldo + d]) * b);
}

static void attn_finish_ref(float *out, const float *acc, float r, const float *v_offset,
                            const float *v_scale, uint32_t head_dim) {
    for (uint32_t d = 0; d < head_dim; d++) {
        const float o = acc[d] * r;
        out[d] = v_scale ? (o - (v_offset ? v_offset[d] : 0.0f)) * v_scale[d] : o;
    }
}

void oct_kern_init_attn_ref(oct_kern *k) {
    k->attn = (oct_kern_attn_slots){
        .q24 = attn_q24_ref,
        .softmax_i8 = attn_softmax_i8_ref,
        .softmax_i8_token = attn_softmax_i8_token_ref,
        .softmax_f32 = attn_softmax_f32_ref,
        .qk_f32 = attn_qk_f32_ref,
        .qk_bf16 = attn_qk_bf16_ref,
        .pv_f32 = attn_pv_f32_ref,
        .pv_bf16 = attn_pv_bf16_ref,
        .merge_f32 = attn_merge_f32_ref,
        .merge_i32 = attn_merge_i32_ref,
        .finish = attn_finish_ref,
    };
}
