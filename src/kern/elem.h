/*
 * kern/elem.h - row operations that are not matrix products: norms, activations, quantisation,
 * rotary embedding. Types of slots of the table (kern/kern.h includes this file).
 *
 * The expressions are docs/numerics.md's; in C they are kern/elem_ref.c over kern/elem_math.h. All
 * work on one row of n floats; a result depends on nothing but that row. Threads: any.
 *
 * There are no slots that fuse a norm or an activation with the quantiser: a row that was just
 * written is still in the nearest cache, and quant_row reads it from there at about the speed of
 * a pass over registers. Callers put the float row into scratch and quantise it from there.
 */
#ifndef OCT_KERN_ELEM_H
#define OCT_KERN_ELEM_H

#include <stddef.h>
#include <stdint.h>

/* y[i] = exp(x[i]); below 2^-126 zero. y may be x. */
#define OCT_DECL_EXP(name) void(name)(float *y, const float *x, size_t n)

/* y[i] = act(x[i]) * mul[i]; mul NULL: act(x[i]) alone. y may be x or mul. */
#define OCT_DECL_ACT(name) void(name)(float *y, const float *x, const float *mul, size_t n)

/* If add: x[i] += add[i], stored. Then y = norm(x) * w (+ b unless NULL). y may be x, and then the
 * sum is not kept. Without add x is only read. RMSNorm of one head is this with n = head_dim. */
#define OCT_DECL_NORM(name)                                                                    \
    void(name)(float *y, float *x, const float *add, const float *w, const float *b, size_t n, \
               float eps)

typedef enum oct_row_quant_mode {
    OCT_ROW_QUANT_DYNAMIC,       /* scale = absmax / 127 of the row */
    OCT_ROW_QUANT_STATIC_BEFORE, /* sat8(rne(x * inv + offset)) */
    OCT_ROW_QUANT_STATIC_AFTER,  /* sat8(rne(x * inv) + offset) */
} oct_row_quant_mode;

typedef struct oct_row_quant {
    oct_row_quant_mode mode;
    float inv;    /* static: 1.0f / scale */
    float offset; /* static; an integer for STATIC_AFTER */
} oct_row_quant;

/* q = x (times mul[i] first, unless NULL) under the rule; returns the row scale of the epilogue:
 * dynamic the scale, static 1.0f. A row that cannot be represented (NaN; for dynamic infinity too)
 * gets q = 0 and NaN. */
#define OCT_DECL_QUANT_ROW(name) \
    float(name)(int8_t * q, const float *x, const float *mul, size_t n, const oct_row_quant *rule)

/* q[i] = sat8(rne(x[i] * inv[i] + off[i])); off NULL: nothing is added. NaN gives 0. The KV cache's
 * form: one scale a channel. */
#define OCT_DECL_QUANT_CHANNELS(name) \
    void(name)(int8_t * q, const float *x, const float *inv, const float *off, size_t n)

/* Rotates the pairs (x[i], x[i + half]), i < half. o may be x. cos, sin: [half]. */
#define OCT_DECL_ROPE(name) \
    void(name)(float *o, const float *x, const float *cos, const float *sin, size_t half)

/* The largest x[i] (-infinity for none) and whether one is NaN, for the head of sampling. */
typedef struct oct_row_max {
    float max; /* over what is not NaN; -0 counts as +0 */
    int has_nan;
} oct_row_max;
#define OCT_DECL_ROW_MAX(name) oct_row_max(name)(const float *x, size_t n)

/* p[i] = exp((x[i] - max) * inv_t), stored unless p is NULL; returns their sum, in 16 double lanes.
 * p may be x. */
#define OCT_DECL_SOFT_SUM(name) \
    double(name)(float *p, const float *x, size_t n, float max, float inv_t)

/* s = w[0] * x[0][i]; s = fmaf(w[t], x[t][i], s) for t = 1 .. n_x-1; y[i] = add ? y[i] + s : s.
 * n_x >= 1. */
#define OCT_DECL_WEIGHTED_SUM(name) \
    void(name)(float *y, const float *const *x, const float *w, uint32_t n_x, size_t n, int add)

/* x[i] = cap * tanh(x[i] / cap), in place. */
#define OCT_DECL_SOFTCAP(name) void(name)(float *x, size_t n, float cap)

typedef OCT_DECL_EXP(*oct_exp_fn);
typedef OCT_DECL_ACT(*oct_act_fn);
typedef OCT_DECL_NORM(*oct_norm_fn);
typedef OCT_DECL_QUANT_ROW(*oct_quant_row_fn);
typedef OCT_DECL_QUANT_CHANNELS(*oct_quant_channels_fn);
typedef OCT_DECL_ROPE(*oct_rope_fn);
typedef OCT_DECL_ROW_MAX(*oct_row_max_fn);
typedef OCT_DECL_SOFT_SUM(*oct_soft_sum_fn);
typedef OCT_DECL_WEIGHTED_SUM(*oct_weighted_sum_fn);
typedef OCT_DECL_SOFTCAP(*oct_softcap_fn);

typedef struct oct_kern_elem {
    oct_exp_fn exp;
    oct_act_fn act_silu;
    oct_act_fn act_gelu;      /* x * Phi(x) */
    oct_act_fn act_gelu_tanh; /* the tanh approximation, written with a sigmoid */
    oct_act_fn act_relu;
    oct_norm_fn rms_norm;
    oct_norm_fn layer_norm;
    oct_quant_row_fn quant_row;
    oct_quant_channels_fn quant_channels;
    oct_rope_fn rope;
    oct_row_max_fn row_max;
    oct_soft_sum_fn soft_sum;
    oct_weighted_sum_fn weighted_sum;
    oct_softcap_fn softcap;
} oct_kern_elem;

#endif
