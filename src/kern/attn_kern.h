/*
 * kern/attn_kern.h - the pieces of attention that are slots of the table. Callers outside the room
 * use kern/attn.h, which puts them together.
 *
 * A span is OCT_ATTN_SPAN tokens; the tokens a query sees in it are a range [lo, hi), lo < hi.
 */
#ifndef OCT_KERN_ATTN_KERN_H
#define OCT_KERN_ATTN_KERN_H

#include <stddef.h>
#include <stdint.h>

#include "quant/contract.h"

enum {
    OCT_ATTN_SPAN = OCT_NUMERICS_SPAN,
    OCT_ATTN_SUB = 32,      /* tokens of one packed sub-block of the cache */
    OCT_ATTN_MAX_HEAD = 256 /* head_dim; keeps sums of high parts inside int32 */
};

/*
 * Queries and probabilities are whole numbers of 24 bits, x = 256 * high + low with low in
 * -128 .. 127, kept as two rows of int16: the product with int8 is then two exact int32 sums, and
 * what the split loses against float32 is less than float32 itself loses.
 *
 * The largest query value, 127 * 2^16 (three int8 parts would hold it too); the value of a
 * probability of one, 32767 * 256.
 */
#define OCT_ATTN_Q24_MAX 8323072.0f
#define OCT_ATTN_P24_ONE 8388352.0f

/* The high part of x; x - 256 * high is the low one. */
static inline int32_t oct_attn_high(int32_t x) { return (x + 128) >> 8; }

/* q24 = rne of q * k_scale in units of the result, for head_dim values, zeros up to pad: [2][pad],
 * high parts, then low parts. A q that is not finite gives zeros and NaN, one below 2^-100 zeros
 * and 0. */
#define OCT_DECL_ATTN_Q24(name)                                                         \
    float(name)(int16_t * q24, const float *q, const float *k_scale, uint32_t head_dim, \
                uint32_t pad)

/* How a raw score becomes the one that goes into exp. */
typedef struct oct_attn_score {
    float factor;       /* int8: q scale * softmax scale; float: softmax scale */
    float cap, inv_cap; /* soft cap and 1.0f / cap; cap 0: none */
} oct_attn_score;

/* m = the largest visible score, each from the sums of its parts, fmaf(high, 256, low); p24 =
 * rne(exp(s - m) * OCT_ATTN_P24_ONE), 0 outside [lo, hi); *l = their sum. c and p24:
 * [2][OCT_ATTN_SPAN], high parts, then low parts; c defined in [lo, hi) only. *m is not finite for
 * a row that is lost, and p24 is then unspecified. */
#define OCT_DECL_ATTN_SOFTMAX_I8(name)                                    \
    void(name)(int16_t * p24, const int32_t *c, uint32_t lo, uint32_t hi, \
               const oct_attn_score *score, float *m, int32_t *l)

/* The same for a cache with a scale a token, k_scale and v_scale [OCT_ATTN_SPAN], defined in
 * [lo, hi): a score is its sums times factor times k_scale[t]; the weight of a value is p =
 * exp(s - m) times v_scale[t], and p24 = rne of it times OCT_ATTN_P24_ONE over the largest of
 * them, *w (below 2^-100: all 0); *l = the sum of rne(p * OCT_ATTN_P24_ONE). A scale in [lo, hi)
 * that is not finite loses the row. */
#define OCT_DECL_ATTN_SOFTMAX_I8_TOKEN(name)                                                      \
    void(name)(int16_t * p24, const int32_t *c, uint32_t lo, uint32_t hi,                         \
               const oct_attn_score *score, const float *k_scale, const float *v_scale, float *m, \
               int32_t *l, float *w)

/* The same for float scores: p[lo..hi) = exp(s - m), in place; *l their sum in ascending order.
 * Nothing outside [lo, hi) is read or written. */
#define OCT_DECL_ATTN_SOFTMAX_F32(name) \
    void(name)(float *p, uint32_t lo, uint32_t hi, const oct_attn_score *score, float *m, float *l)

/* s[i][t] = chain of fmaf over d ascending of q[i][d] * k[d][t] for 32 tokens. k: [head_dim][32] of
 * the slot's storage type. */
#define OCT_DECL_ATTN_QK(name)                                                              \
    void(name)(float *s, size_t lds, const float *q, size_t ldq, uint32_t m, const void *k, \
               uint32_t head_dim)

/* o[d] = fmaf(p[t], v[t][d], o[d]), t = lo .. hi-1 ascending; v rows ldv elements apart. */
#define OCT_DECL_ATTN_PV(name)                                                                \
    void(name)(float *o, const float *p, uint32_t lo, uint32_t hi, const void *v, size_t ldv, \
               uint32_t head_dim)

/* acc[d] = fmaf(acc[d], a, o[d] * b). */
#define OCT_DECL_ATTN_MERGE_F32(name) \
    void(name)(float *acc, const float *o, float a, float b, uint32_t head_dim)
/* The same with the sums of the parts: fmaf(o[d], 256, o[ldo + d]) for o[d]. With acc, a = 0 and
 * b = 1 acc becomes that value itself, which is never -0. */
#define OCT_DECL_ATTN_MERGE_I32(name) \
    void(name)(float *acc, const int32_t *o, size_t ldo, float a, float b, uint32_t head_dim)

/* out[d] = (acc[d] * r - v_offset[d]) * v_scale[d]; without v_offset nothing is taken off, without
 * v_scale the product with r is the result. */
#define OCT_DECL_ATTN_FINISH(name)                                                                 \
    void(name)(float *out, const float *acc, float r, const float *v_offset, const float *v_scale, \
               uint32_t head_dim)

typedef OCT_DECL_ATTN_Q24(*oct_attn_q24_fn);
typedef OCT_DECL_ATTN_SOFTMAX_I8(*oct_attn_softmax_i8_fn);
typedef OCT_DECL_ATTN_SOFTMAX_I8_TOKEN(*oct_attn_softmax_i8_token_fn);
typedef OCT_DECL_ATTN_SOFTMAX_F32(*oct_attn_softmax_f32_fn);
typedef OCT_DECL_ATTN_QK(*oct_attn_qk_fn);
typedef OCT_DECL_ATTN_PV(*oct_attn_pv_fn);
typedef OCT_DECL_ATTN_MERGE_F32(*oct_attn_merge_f32_fn);
typedef OCT_DECL_ATTN_MERGE_I32(*oct_attn_merge_i32_fn);
typedef OCT_DECL_ATTN_FINISH(*oct_attn_finish_fn);

typedef struct oct_kern_attn_slots {
    oct_attn_q24_fn q24;
    oct_attn_softmax_i8_fn softmax_i8;
    oct_attn_softmax_i8_token_fn softmax_i8_token;
    oct_attn_softmax_f32_fn softmax_f32;
    oct_attn_qk_fn qk_f32, qk_bf16;
    oct_attn_pv_fn pv_f32, pv_bf16;
    oct_attn_merge_f32_fn merge_f32;
    oct_attn_merge_i32_fn merge_i32;
    oct_attn_finish_fn finish;
} oct_kern_attn_slots;

#endif
