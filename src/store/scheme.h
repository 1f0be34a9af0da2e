/*
 * store/scheme.h - how the numbers of one projection are read: which tensors belong together, and
 * what their values mean. One small file each: scheme_float.c, scheme_modelslim.c; a new scheme is
 * a file and a line in the table of scheme.c.
 *
 * Ownership  The scheme borrows the checkpoint. Loaded vectors live in the caller's arena.
 * Threads    One at a time.
 */
#ifndef OCT_STORE_SCHEME_H
#define OCT_STORE_SCHEME_H

#include "store/checkpoint.h"

typedef struct oct_scheme oct_scheme;

typedef enum oct_linear_kind {
    OCT_LINEAR_ABSENT, /* something is missing; it was noted in the checkpoint */
    OCT_LINEAR_FLOAT,
    OCT_LINEAR_INT8,
} oct_linear_kind;

/* Numbered as OCTET_QUANT_* in octet/device.h. */
typedef enum oct_act_quant {
    OCT_ACT_NONE = 0,
    OCT_ACT_DYNAMIC = 1,       /* scale of the row = absmax / 127 */
    OCT_ACT_STATIC_BEFORE = 2, /* q = sat8(rne(x / s + o)) */
    OCT_ACT_STATIC_AFTER = 3,  /* q = sat8(rne(x / s) + o) */
} oct_act_quant;

/*
 * y = (sum_k q[k] * W[n][k] + int_bias[n]) * row_scale * col_scale[n] + bias[n]
 * where row_scale is 1 for static activations; a FLOAT source has weight and bias only.
 */
typedef struct oct_linear_source {
    oct_linear_kind kind;
    oct_act_quant act;
    uint64_t n, k;
    const oct_tensor *weight; /* [n, k]; I8, or any type that oct_checkpoint_read_rows reads */
    const float *col_scale;   /* [n] INT8: deq_scale (static) or weight_scale (dynamic) */
    const int32_t *int_bias;  /* [n] INT8 static; NULL: zeros */
    const float *bias;        /* [n] or NULL */
    const float *input_mul;   /* [k] multiplies the input before it is quantised; NULL: ones */
    float input_scale;        /* static */
    float input_offset;       /* static; a whole number in -128..127 */
    const char *label;        /* "FLOAT", "W8A8", ...: static storage, for `inspect` */
} oct_linear_source;

/* Per-channel scales of one layer's cache, expanded to [n_kv_heads * head_dim]. */
typedef struct oct_kv_source {
    bool int8;                        /* false: this layer keeps float K and V */
    const float *k_scale, *v_scale;   /* finite, above 0 */
    const float *k_offset, *v_offset; /* NULL when all are 0 */
} oct_kv_source;

typedef struct oct_scheme_options {
    const char *forced; /* --quantization: NULL or "" detects; "ascend", "none"; others refused */
    bool mix_static;    /* W8A8_MIX read as static W8A8 instead of dynamic */
} oct_scheme_options;

/* Picks and checks the scheme of a checkpoint. OCT_E_UNSUPPORTED names a format or scheme string
 * this build does not read; OCT_E_CORRUPT: the description contradicts itself or the tensors. opts
 * may be NULL. */
OCT_MUST_CHECK oct_status oct_scheme_open(const oct_allocator *mem, oct_checkpoint *ckpt,
                                          const oct_scheme_options *opts, oct_scheme **out,
                                          oct_err *err);
void oct_scheme_close(oct_scheme *s); /* accepts NULL; before the checkpoint is closed */

const char *oct_scheme_name(const oct_scheme *s); /* "float", "ascend" */
/* True when at least one layer has an INT8 cache in the checkpoint. */
bool oct_scheme_has_kv(const oct_scheme *s);

/*
 * The projection whose tensors are named prefix.weight and so on; n outputs, k inputs as the model
 * expects them; need_bias: a missing prefix.bias is noted. Missing or misshapen tensors are noted
 * in the checkpoint (oct_checkpoint_check_needs) and give OCT_LINEAR_ABSENT; bad values fail at
 * once.
 */
OCT_MUST_CHECK oct_status oct_scheme_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                            uint64_t n, uint64_t k, bool need_bias,
                                            oct_linear_source *out, oct_err *err);

/* attn: "model.layers.3.self_attn". */
OCT_MUST_CHECK oct_status oct_scheme_kv(oct_scheme *s, oct_arena *arena, const char *attn,
                                        uint32_t n_kv_heads, uint32_t head_dim, oct_kv_source *out,
                                        oct_err *err);

#endif
