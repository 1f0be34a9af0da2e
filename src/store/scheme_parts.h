/* store/scheme_parts.h - what the schemes share; internal to the room. */
#ifndef OCT_STORE_SCHEME_PARTS_H
#define OCT_STORE_SCHEME_PARTS_H

#include "store/checkpoint_parts.h"
#include "store/scheme.h"

enum { OCT_SCHEME_NAME = 512 }; /* room for a tensor name that the model asks for */

/* One kind of checkpoint. kv may be NULL: the cache is never quantised. */
typedef struct oct_scheme_ops {
    const char *name;
    /* Checks what can be checked once. */
    oct_status (*open)(oct_scheme *s, oct_err *err);
    oct_status (*linear)(oct_scheme *s, oct_arena *arena, const char *prefix, bool need_bias,
                         oct_linear_source *io, oct_err *err); /* n and k are set */
    oct_status (*kv)(oct_scheme *s, oct_arena *arena, const char *attn, uint32_t n_channels,
                     oct_kv_source *out, oct_err *err);
} oct_scheme_ops;

struct oct_scheme {
    const oct_allocator *mem;
    const oct_scheme_ops *ops;
    oct_checkpoint *ckpt;
    bool mix_static;
    bool has_kv;
    bool warned_unlisted;
    size_t n_zero_scales;
};

extern const oct_scheme_ops oct_scheme_float, oct_scheme_modelslim;

/* out = prefix + tail; false when it does not fit (no such tensor is asked for). */
bool oct_scheme_join(char out[OCT_SCHEME_NAME], const char *prefix, const char *tail);

/* "FILE: tensor NAME: REASON". */
oct_status oct_scheme_fail(const oct_scheme *s, const oct_tensor *t, oct_status code, oct_err *err,
                           const char *fmt, ...) OCT_PRINTF(5, 6);

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

/* Float weight and bias: what every scheme has for the projections it leaves alone. */
oct_status oct_scheme_float_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                   bool need_bias, oct_linear_source *io, oct_err *err);

#endif
