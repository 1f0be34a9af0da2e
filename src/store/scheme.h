/*
 * store/scheme.h - how the numbers of one projection are read: which tensors belong together, and
 * what their values mean. One small file each: scheme_float.c, scheme_modelslim.c, scheme_quark.c,
 * scheme_compressed.c, scheme_fp8.c; a new scheme is a file and a line in scheme.c.
 *
 * Experts of a layer are stored alike or refused. Static input scales of the experts that share
 * their rows come out equal.
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
    OCT_LINEAR_FLOAT,  /* weight is of a float type */
    OCT_LINEAR_INT8,   /* int8 rows with a scale each, int8 activations */
    OCT_LINEAR_FP8,    /* e4m3 with scales; a device without FP8 reads it as float */
    OCT_LINEAR_W8A16,  /* int8 with scales, float activations: always read as float */
} oct_linear_kind;

/* Numbered as OCTET_QUANT_* in octet/device.h. */
typedef enum oct_act_quant {
    OCT_ACT_NONE = 0,
    OCT_ACT_DYNAMIC = 1,       /* scale of the row = absmax / 127 */
    OCT_ACT_STATIC_BEFORE = 2, /* q = sat8(rne(x / s + o)) */
    OCT_ACT_STATIC_AFTER = 3,  /* q = sat8(rne(x / s) + o) */
} oct_act_quant;

/* How an FP8 projection's input was meant to be quantised, for a device that does so. */
typedef enum oct_fp8_act {
    OCT_FP8_ACT_NONE,   /* float activations */
    OCT_FP8_ACT_TOKEN,  /* scale of the row = min(absmax, fp8_act_max) / 448 */
    OCT_FP8_ACT_BLOCK,  /* the same for each block_k columns of a row */
    OCT_FP8_ACT_STATIC, /* x / input_scale */
} oct_fp8_act;

/*
 * y = (sum_k q[k] * W[n][k] + int_bias[n]) * row_scale * col_scale[n] + bias[n]
 * where row_scale is 1 for static activations; a FLOAT source has weight and bias only.
 *
 * FP8 and W8A16: the value of a weight is (W[n][k] - offset) * scale, where scale and offset are
 * those of the row (col_scale) or, when block_scale is there, of the block of block_n rows and
 * block_k columns: block_scale[n / block_n][k / block_k], with ceil(k / block_k) blocks a row.
 * oct_scheme_read_rows gives these values.
 */
typedef struct oct_linear_source {
    oct_linear_kind kind;
    oct_act_quant act;
    uint64_t n, k;
    const oct_tensor *weight; /* [n, k]; see oct_scheme_read_rows and oct_scheme_read_i8 */
    const float *col_scale;   /* [n] INT8: deq_scale (static) or weight_scale (dynamic) */
    const int32_t *int_bias;  /* [n] INT8 static; NULL: zeros */
    const float *bias;        /* [n] or NULL */
    const float *input_mul;   /* [k] multiplies the input before it is quantised; NULL: ones */
    float input_scale;        /* static */
    float input_offset;       /* static; a whole number in -128..127 */
    const char *label;        /* "FLOAT", "W8A8", ...: static storage, for `inspect` */
    oct_fp8_act fp8_act;
    float fp8_act_max;         /* TOKEN: bound of absmax; 0: none */
    uint32_t block_n, block_k; /* 0: one scale a row */
    const float *block_scale;  /* NULL: col_scale holds */
    const float *block_offset; /* W8A16, shaped like the scales; NULL: zeros */
    bool packed;               /* bytes are the value + 128, rows padded to 4 bytes */
} oct_linear_source;

/* What the checkpoint says of a layer's cache. */
typedef enum oct_kv_kind {
    OCT_KV_KIND_FLOAT,   /* nothing: K and V stay float */
    OCT_KV_KIND_I8,      /* int8 with static scales: x ~ (q - offset) * scale */
    OCT_KV_KIND_I8_HEAD, /* int8, a scale for each token and head made at run time: none here */
    OCT_KV_KIND_FP8,     /* e4m3 with static scales, no offsets: x ~ q * scale */
} oct_kv_kind;

/* How fine the stored scales were; they are always expanded to one a channel. */
typedef enum oct_kv_grain {
    OCT_KV_GRAIN_TENSOR,
    OCT_KV_GRAIN_HEAD,
    OCT_KV_GRAIN_CHANNEL
} oct_kv_grain;

/*
 * Scales of one layer's cache, expanded to [n_kv_heads * head_dim]. A scale that the kind needs and
 * the checkpoint lacks is an error, never 1.
 *
 * A checkpoint may also hold scales without asking for a quantised cache: then kind is FLOAT and
 * `offered` says what the scales below are for, should the user ask for it.
 */
typedef struct oct_kv_source {
    oct_kv_kind kind;
    oct_kv_kind offered;              /* FLOAT: no scales below; else equal to kind, or see above */
    oct_kv_grain grain;               /* the finer one of K's and V's */
    const float *k_scale, *v_scale;   /* finite, above 0; NULL for FLOAT (none offered), I8_HEAD */
    const float *k_offset, *v_offset; /* NULL when all are 0 */
} oct_kv_source;

typedef struct oct_scheme_options {
    /* --quantization: NULL, "" or "auto" detects; "none" reads floats only; "ascend" or a
     * quant_method of config.json must be what the checkpoint has */
    const char *forced;
    bool mix_static; /* W8A8_MIX read as static W8A8 instead of dynamic */
    bool strict;     /* refuse what is read with a warning otherwise: projections that other engines
                        fuse and that are stored differently, tensors that nobody used */
} oct_scheme_options;

/* Picks and checks the scheme of a checkpoint. OCT_E_UNSUPPORTED names a format or scheme string
 * this build does not read; OCT_E_CORRUPT: the description contradicts itself or the tensors. opts
 * may be NULL. */
OCT_MUST_CHECK oct_status oct_scheme_open(const oct_allocator *mem, oct_checkpoint *ckpt,
                                          const oct_scheme_options *opts, oct_scheme **out,
                                          oct_err *err);
void oct_scheme_close(oct_scheme *s); /* accepts NULL; before the checkpoint is closed */

const char *oct_scheme_name(const oct_scheme *s); /* "float", "ascend", "quark", ... */

/* After everything was asked for: a warning that counts the tensors nobody used, or OCT_E_CORRUPT
 * when strict. */
OCT_MUST_CHECK oct_status oct_scheme_check_unused(const oct_scheme *s, oct_err *err);

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
/* In place of oct_scheme_kv where the user wants another cache: its tensors count as used. */
void oct_scheme_kv_leave(oct_scheme *s, const char *attn);

/* ---- the weights of a source ----------------------------------------------------------------- */

/* Rows row0 .. row0 + n_rows - 1 as float32 [n_rows][k], scales applied; kind FLOAT, FP8 or W8A16.
 * Uses no memory but dst. */
OCT_MUST_CHECK oct_status oct_scheme_read_rows(const oct_checkpoint *c,
                                               const oct_linear_source *src, uint64_t row0,
                                               uint64_t n_rows, float *dst, oct_err *err);
/* The same of kind INT8: int8 [n_rows][k] without scales. */
OCT_MUST_CHECK oct_status oct_scheme_read_i8(const oct_checkpoint *c, const oct_linear_source *src,
                                             uint64_t row0, uint64_t n_rows, int8_t *dst,
                                             oct_err *err);

#endif
