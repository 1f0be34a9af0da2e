/*
 * store/scheme_parts.h - what the schemes share; internal to the room.
 *
 * A scheme either reads a projection itself (ModelSlim: a set of tensors of its own) or gives a
 * rule for it (all others): which storage, how fine the scales, how the input is quantised. The
 * rule is then carried out by scheme_linear.c, against what the file really holds.
 *
 * "own" is a projection's or attention's name as the file spells it, without ".weight".
 */
#ifndef OCT_STORE_SCHEME_PARTS_H
#define OCT_STORE_SCHEME_PARTS_H

#include "store/checkpoint_parts.h"
#include "store/scheme.h"
#include "store/scheme_match.h"

enum { OCT_SCHEME_NAME = OCT_CHECKPOINT_NAME }; /* room for a tensor name that the model asks for */

typedef enum oct_grain {
    OCT_GRAIN_TENSOR,  /* one scale */
    OCT_GRAIN_CHANNEL, /* one a row */
    OCT_GRAIN_BLOCK,   /* one for block_n rows and block_k columns */
} oct_grain;

typedef enum oct_input_rule {
    OCT_INPUT_FLOAT,
    OCT_INPUT_TOKEN,  /* dynamic, by row */
    OCT_INPUT_STATIC, /* input_scale */
} oct_input_rule;

typedef struct oct_linear_rule {
    oct_linear_kind kind; /* FLOAT, INT8, FP8 or W8A16 */
    const char *label;
    const char *why;        /* the key that decided, for messages */
    const char *scale_tail; /* ".weight_scale" */
    oct_grain grain;
    uint32_t block_n, block_k;
    oct_input_rule input;
    bool input_offset; /* STATIC: an input_zero_point other than 0 is allowed */
    bool packed;       /* weight_packed I32 instead of weight */
    float act_max;     /* FP8 by token: bound of absmax, or 0 */
} oct_linear_rule;

/* One kind of checkpoint. */
typedef struct oct_scheme_ops {
    const char *name;
    /* Checks what can be checked once. On failure close is called. */
    oct_status (*open)(oct_scheme *s, oct_err *err);
    void (*close)(oct_scheme *s); /* NULL: nothing to do */
    /* Exactly one of these two. */
    oct_status (*rule)(oct_scheme *s, const char *own, oct_linear_rule *out, oct_err *err);
    oct_status (*linear)(oct_scheme *s, oct_arena *arena, const char *own, bool need_bias,
                         oct_linear_source *io, oct_err *err); /* n and k are set */
    /* With linear: the name of the storage, static or borrowed from the checkpoint, or NULL. */
    const char *(*label)(oct_scheme *s, const char *own);
    /* NULL: the cache is never quantised. */
    oct_status (*kv)(oct_scheme *s, oct_arena *arena, const char *attn, uint32_t n_kv_heads,
                     uint32_t head_dim, oct_kv_source *out, oct_err *err);
} oct_scheme_ops;

/* Input scales of the experts of one layer that share their rows, brought to one. */
typedef struct oct_expert_input {
    char head[OCT_SCHEME_NAME]; /* "model.layers.0.mlp.experts." and "gate" or "down" */
    float scale, offset;
} oct_expert_input;

struct oct_scheme {
    const oct_allocator *mem;
    const oct_scheme_ops *ops;
    oct_checkpoint *ckpt;
    void *state; /* of the scheme */
    bool mix_static, strict;
    bool has_kv;
    bool warned_unlisted, warned_inputs, warned_asym;
    size_t n_zero_scales;
    oct_expert_input experts[2]; /* the last ones asked: gate and up; down */
};

extern const oct_scheme_ops oct_scheme_float, oct_scheme_modelslim, oct_scheme_quark,
    oct_scheme_compressed, oct_scheme_fp8, oct_scheme_w8a8_int8, oct_scheme_blockwise_int8;

/* out = prefix + tail; false when it does not fit: the prefix is made from a stranger's name. */
bool oct_scheme_join(char out[OCT_SCHEME_NAME], const char *prefix, const char *tail);
/* The same for a projection or an attention that the model asked for, whose names fit. */
void oct_scheme_name_of(char out[OCT_SCHEME_NAME], const char *prefix, const char *tail);
/* The tensor prefix + tail, or NULL. */
const oct_tensor *oct_scheme_find(const oct_scheme *s, const char *prefix, const char *tail);
/* The weight of a projection under any of its names (.weight, .weight_packed), or NULL. */
const oct_tensor *oct_scheme_weight(const oct_scheme *s, const char *prefix);

/* "FILE: tensor NAME: REASON". */
oct_status oct_scheme_fail(const oct_scheme *s, const oct_tensor *t, oct_status code, oct_err *err,
                           const char *fmt, ...) OCT_PRINTF(5, 6);

/* ---- scheme_values.c ------------------------------------------------------------------------- */

typedef enum oct_value_rule {
    OCT_VALUE_FINITE,
    OCT_VALUE_SCALE,  /* finite and above 0 */
    OCT_VALUE_COLUMN, /* a weight scale: finite, not negative; 0 is counted for a warning */
    OCT_VALUE_OFFSET, /* a whole number in -128..127; integer types are read too */
} oct_value_rule;

/* The n values of tensor prefix + tail, whose dimensions other than 1 are n, as float32 in the
 * arena. *out is NULL when the tensor is absent or misshapen: noted unless it is absent and
 * optional. */
oct_status oct_scheme_values(oct_scheme *s, oct_arena *arena, const char *prefix, const char *tail,
                             uint64_t n, oct_value_rule rule, bool optional, const float **out,
                             oct_err *err);
/* The same for n values or a single one, which is repeated. */
oct_status oct_scheme_values_spread(oct_scheme *s, oct_arena *arena, const char *prefix,
                                    const char *tail, uint64_t n, oct_value_rule rule,
                                    bool optional, const float **out, oct_err *err);
/* NULL when all n are 0 (or v is NULL). */
const float *oct_scheme_null_if_zero(const float *v, uint64_t n);
/* Checks an optional tensor of zero points or offsets that must be 0; its size is not judged. */
oct_status oct_scheme_check_zero(oct_scheme *s, const char *prefix, const char *tail, oct_err *err);

/* ---- scheme_linear.c ------------------------------------------------------------------------- */

/* Float weight and bias: what every scheme has for the projections it leaves alone. */
oct_status oct_scheme_float_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                   bool need_bias, oct_linear_source *io, oct_err *err);
/* kind and label of INT8 or FP8 weights, from them and r->input. */
void oct_scheme_name_rule(oct_linear_rule *r, bool is_fp8);
/* Carries out a rule. */
oct_status oct_scheme_rule_linear(oct_scheme *s, oct_arena *arena, const char *own,
                                  const oct_linear_rule *rule, bool need_bias,
                                  oct_linear_source *io, oct_err *err);

/* ---- scheme_modelslim_linear.c --------------------------------------------------------------- */

/* The description's value for a projection's weight, or NULL. */
const json_t *oct_scheme_described(const oct_scheme *s, const char *own);
oct_status oct_scheme_modelslim_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                       bool need_bias, oct_linear_source *io, oct_err *err);

/* ---- scheme_kv.c ----------------------------------------------------------------------------- */

typedef struct oct_kv_rule {
    oct_kv_kind kind; /* I8 or FP8 */
    oct_kv_grain grain;
    bool any_grain;  /* grain is not known */
    bool need;       /* missing scales are an error, else the layer stays float */
    bool offer_only; /* not asked for by the checkpoint */
} oct_kv_rule;

/* The scales of an attention layer, under the names of any writer. */
oct_status oct_scheme_kv_scales(oct_scheme *s, oct_arena *arena, const char *attn,
                                const oct_kv_rule *rule, uint32_t n_kv_heads, uint32_t head_dim,
                                oct_kv_source *out, oct_err *err);
/* True when any tensor of the checkpoint is a scale of K. */
bool oct_scheme_any_kv_scale(const oct_scheme *s);

#endif
