/*
 * quantize/layout.h - how a quantised checkpoint is spelled: ModelSlim, Quark or
 * compressed-tensors. One file each, mostly tables: which tensors a projection and a cache have,
 * and what the configuration says about them. A new layout is a file and a line in layout.c.
 *
 * Ownership  An oct_layout_out owns its inventory (fini frees it) and borrows the rest.
 * Threads    One.
 * Elsewhere  Which numbers: plan.c. Reading the result: store/scheme_*.c.
 */
#ifndef OCT_QUANTIZE_LAYOUT_H
#define OCT_QUANTIZE_LAYOUT_H

#include <jansson.h>

#include "quantize/shards.h"
#include "store/config.h"
#include "store/scheme.h"

typedef enum oct_layout_value {
    OCT_LAYOUT_WEIGHT,
    OCT_LAYOUT_WEIGHT_SCALE,
    OCT_LAYOUT_INPUT_SCALE,
    OCT_LAYOUT_INPUT_OFFSET,
    OCT_LAYOUT_DEQ_SCALE,  /* input scale * weight scale */
    OCT_LAYOUT_QUANT_BIAS, /* rne(bias / deq_scale - input offset * sum of the row) */
    OCT_LAYOUT_BIAS,       /* left out where there is none */
    OCT_LAYOUT_K_SCALE,
    OCT_LAYOUT_V_SCALE,
    OCT_LAYOUT_ZERO,
} oct_layout_value;

/* N rows (or heads, or channels of a cache), K columns. */
typedef enum oct_layout_shape {
    OCT_LAYOUT_SCALAR, /* [] */
    OCT_LAYOUT_ONE,    /* [1] */
    OCT_LAYOUT_N,      /* [N] */
    OCT_LAYOUT_N1,     /* [N, 1] */
    OCT_LAYOUT_N11,    /* [N, 1, 1] */
    OCT_LAYOUT_NK,     /* [N, K] */
} oct_layout_shape;

/* Stands for the model's own type: BF16 of a BF16 model, else F32. */
#define OCT_LAYOUT_MODEL_TYPE OCT_DTYPE_COUNT

typedef struct oct_layout_tensor {
    const char *suffix; /* NULL ends a table */
    oct_layout_value value;
    oct_dtype dtype;
    oct_layout_shape shape;
} oct_layout_tensor;

/* How a layout spells the block of experts, where it does not keep the names of the source. */
typedef struct oct_layout_names {
    const char *block, *gate, *up, *down;
} oct_layout_names;

/* What is written, for the configuration. Each list is NULL once memory for it was refused. */
typedef struct oct_inventory {
    json_t *tensors;                          /* name: "FLOAT", "W8A8", "W8A8_DYNAMIC", "C8" */
    json_t *floats;                           /* names of matrices that stay float */
    json_t *static_modules, *dynamic_modules; /* names; experts are left out */
    bool has_experts;                         /* all dynamic */
    bool has_kv;
    oct_kv_grain kv;
} oct_inventory;

typedef struct oct_layout {
    const char *name;        /* of --format */
    const char *stem;        /* of the weight files */
    const char *description; /* a file of its own for what describe gives, or NULL */
    const oct_layout_tensor *static_tensors, *dynamic_tensors;
    const oct_layout_tensor *kv[3]; /* by oct_kv_grain, behind the attention's name; NULL: none */
    bool default_kv;                /* a cache is quantised unless the user says no */
    bool tensor_scale;              /* static: one scale for a whole weight */
    bool symmetric;                 /* static: no input offset */
    bool keeps_vectors;             /* norms and biases keep the source's type; else F32 */
    oct_layout_names mixtral;       /* block NULL: as in the source */
    /* quantization_config of config.json, or what goes to the file `description`. NULL: no
     * memory. */
    json_t *(*describe)(const oct_inventory *inv);
} oct_layout;

extern const oct_layout oct_layout_modelslim, oct_layout_quark, oct_layout_compressed;

/* "modelslim", "quark", "compressed-tensors"; NULL: no such layout. */
const oct_layout *oct_layout_find(const char *name);

/* ---- writing in a layout --------------------------------------------------------------------- */

typedef struct oct_layout_out {
    const oct_layout *layout;
    const oct_allocator *mem;
    oct_shards *shards;
    oct_family family;
    oct_dtype model_type; /* BF16 or F32 */
    oct_dtype kv_type;    /* of cache scales */
    oct_inventory inv;
} oct_layout_out;

/* An int8 projection. For declaring, the numbers are not looked at. */
typedef struct oct_layout_linear {
    const char *prefix; /* the source's name without ".weight" */
    uint64_t n, k;
    bool is_static, has_bias, is_expert;
    const int8_t *w;    /* [n][k]; NULL: the rows are written by oct_layout_put_rows */
    const float *scale; /* [n] */
    const float *bias;  /* [n] */
    float input_scale, input_offset;
} oct_layout_linear;

void oct_layout_out_init(oct_layout_out *o, const oct_layout *layout, const oct_allocator *mem);
void oct_layout_out_fini(oct_layout_out *o); /* accepts a zeroed one; destroys the shards */

/* The type in which weight scales are stored; they are rounded to it before rows are quantised. */
oct_dtype oct_layout_scale_type(const oct_layout_out *o, bool is_static);

OCT_MUST_CHECK oct_status oct_layout_declare_linear(oct_layout_out *o, const oct_layout_linear *p,
                                                    oct_err *err);
OCT_MUST_CHECK oct_status oct_layout_put_linear(oct_layout_out *o, const oct_layout_linear *p,
                                                oct_err *err);
OCT_MUST_CHECK oct_status oct_layout_put_rows(oct_layout_out *o, const char *prefix, uint64_t row0,
                                              uint64_t n_rows, uint64_t k, const int8_t *w,
                                              oct_err *err);
/* attn: "model.layers.3.self_attn"; n values of each: of the grain. */
OCT_MUST_CHECK oct_status oct_layout_declare_kv(oct_layout_out *o, const char *attn, uint64_t n,
                                                oct_err *err);
OCT_MUST_CHECK oct_status oct_layout_put_kv(oct_layout_out *o, const char *attn, uint64_t n,
                                            const float *k_scale, const float *v_scale,
                                            oct_err *err);
/* A float tensor; is_module: the weight of a projection that other engines might expect as int8. */
OCT_MUST_CHECK oct_status oct_layout_declare_float(oct_layout_out *o, const oct_tensor *t,
                                                   oct_dtype dtype, bool is_module, oct_err *err);
OCT_MUST_CHECK oct_status oct_layout_put_float(oct_layout_out *o, const oct_tensor *t,
                                               uint64_t offset, const void *data, uint64_t bytes,
                                               oct_err *err);

#endif
