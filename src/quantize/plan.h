/*
 * quantize/plan.h - what becomes of each projection: smoothing factors, static parameters, scheme.
 *
 * Ownership  fini frees what make allocated. Threads: one.
 */
#ifndef OCT_QUANTIZE_PLAN_H
#define OCT_QUANTIZE_PLAN_H

#include "quantize/calibrate.h"
#include "quantize/quantize.h"

/* Projections of a layer, and which input each reads. */
enum { OCT_P_Q, OCT_P_K, OCT_P_V, OCT_P_O, OCT_P_GATE, OCT_P_UP, OCT_P_DOWN, OCT_N_PROJECTIONS };

typedef struct oct_projection {
    const char *suffix; /* "self_attn.q_proj" */
    int in;             /* OCT_IN_... */
} oct_projection;
extern const oct_projection oct_projections[OCT_N_PROJECTIONS];

void oct_projection_shape(const oct_model_config *c, int p, uint64_t *n, uint64_t *k);

/* One input of a layer and the projections that read it: they share a scheme, because engines that
 * fuse them insist on it. */
typedef struct oct_input_plan {
    float
        *smooth; /* [width] the input is divided by it, the weight columns multiplied; NULL: ones */
    bool is_static;
    float scale, offset; /* static */
    float error;         /* static: of all rows together plus the mean of rows, each relative */
    uint64_t bytes;      /* int8 bytes of its projections */
} oct_input_plan;

typedef struct oct_layer_plan {
    oct_input_plan in[OCT_N_IN];
} oct_layer_plan;

typedef struct oct_plan {
    const oct_allocator *mem;
    const oct_model_config *config;
    oct_layer_plan *layers; /* [n_layers] */
} oct_plan;

/* cal NULL: everything dynamic, no smoothing. */
OCT_MUST_CHECK oct_status oct_plan_make(oct_plan *p, const oct_allocator *mem, oct_checkpoint *ckpt,
                                        const oct_calibration *cal,
                                        const oct_quantize_options *options, oct_err *err);
void oct_plan_fini(oct_plan *p); /* accepts a zeroed one */

/* The float rows of a projection with smoothing folded in: [n][k] into w, and its bias (or NULL)
 * into bias[n]; *has_bias tells. */
OCT_MUST_CHECK oct_status oct_plan_weight(const oct_plan *p, oct_checkpoint *ckpt, uint32_t layer,
                                          int projection, float *w, float *bias, bool *has_bias,
                                          oct_err *err);

/* The factor that v's channel c (and so its cache scale) is divided by. */
float oct_plan_v_factor(const oct_plan *p, uint32_t layer, uint32_t channel);

#endif
