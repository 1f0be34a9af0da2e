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

enum {
    OCT_ATTN_SPAN = 128,    /* tokens whose softmax is computed together (docs/numerics.md) */
    OCT_ATTN_SUB = 32,      /* tokens of one packed sub-block of the cache */
    OCT_ATTN_MAX_HEAD = 256 /* head_dim; keeps |q16 * k8| sums inside int32 */
};

/* The largest 16-bit query value: 127 * 256, so that it splits into two int8 halves. The value of a
 * probability of one. */
#define OCT_ATTN_Q16_MAX 32512.0f
#define OCT_ATTN_P16_ONE 32767.0f

/* q16 = 16-bit q * k_scale for head_dim values, zeros up to pad; returns its scale. A q that is not
 * finite gives zeros and NaN, one below 2^-100 zeros and 0. */
#define OCT_DECL_ATTN_Q16(name)                                                         \
    float(name)(int16_t * q16, const float *q, const float *k_scale, uint32_t head_dim, \
                uint32_t pad)

/* How a raw score becomes the one that goes into exp. */
typedef struct oct_attn_score {
    float factor;       /* int8: q scale * softmax scale; float: softmax scale */
    float cap, inv_cap; /* soft cap and 1.0f / cap; cap 0: none */
} oct_attn_score;

/* m = the largest visible score; p16 = rne(exp(s - m) * 32767), 0 outside [lo, hi); *l = their sum.
 * c and p16: [OCT_ATTN_SPAN], c defined in [lo, hi) only. *m is not finite for a row that is lost,
 * and p16 is then unspecified. */
#define OCT_DECL_ATTN_SOFTMAX_I8(name)                                    \
    void(name)(int16_t * p16, const int32_t *c, uint32_t lo, uint32_t hi, \
               const oct_attn_score *score, float *m, int32_t *l)

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
/* The same with (float)o[d]. */
#define OCT_DECL_ATTN_MERGE_I32(name) \
    void(name)(float *acc, const int32_t *o, float a, float b, uint32_t head_dim)

typedef OCT_DECL_ATTN_Q16(*oct_attn_q16_fn);
typedef OCT_DECL_ATTN_SOFTMAX_I8(*oct_attn_softmax_i8_fn);
typedef OCT_DECL_ATTN_SOFTMAX_F32(*oct_attn_softmax_f32_fn);
typedef OCT_DECL_ATTN_QK(*oct_attn_qk_fn);
typedef OCT_DECL_ATTN_PV(*oct_attn_pv_fn);
typedef OCT_DECL_ATTN_MERGE_F32(*oct_attn_merge_f32_fn);
typedef OCT_DECL_ATTN_MERGE_I32(*oct_attn_merge_i32_fn);

typedef struct oct_kern_attn_slots {
    oct_attn_q16_fn q16;
    oct_attn_softmax_i8_fn softmax_i8;
    oct_attn_softmax_f32_fn softmax_f32;
    oct_attn_qk_fn qk_f32, qk_bf16;
    oct_attn_pv_fn pv_f32, pv_bf16;
    oct_attn_merge_f32_fn merge_f32;
    oct_attn_merge_i32_fn merge_i32;
} oct_kern_attn_slots;

#endif
