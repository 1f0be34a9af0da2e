/*
 * quantize/plan.h - what becomes of each projection: smoothing factors, static parameters, scheme.
 *
 * Ownership  fini frees what make allocated. Threads: one.
 */
#ifndef OCT_QUANTIZE_PLAN_H
#define OCT_QUANTIZE_PLAN_H

#include "quantize/calibrate.h"
#include "quantize/layout.h"
#include "quantize/projections.h"
#include "quantize/quantize.h"

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
    const oct_projection_list *list;
    oct_layer_plan *layers; /* [n_layers] */
} oct_plan;

/* cal NULL: everything dynamic, no smoothing. list is borrowed for the plan's life. */
OCT_MUST_CHECK oct_status oct_plan_make(oct_plan *p, const oct_allocator *mem, oct_checkpoint *ckpt,
                                        const oct_projection_list *list, const oct_calibration *cal,
                                        const oct_layout *layout,
                                        const oct_quantize_options *options, oct_err *err);
void oct_plan_fini(oct_plan *p); /* accepts a zeroed one */

/* Whether a projection has a static input; *in (may be NULL) becomes its plan, or NULL. */
bool oct_plan_is_static(const oct_plan *p, const oct_projection *pr, const oct_input_plan **in);

/* The float rows of a projection with smoothing folded in: [n][k] into w, and its bias, if it has
 * one, into bias[n]. */
OCT_MUST_CHECK oct_status oct_plan_weight(const oct_plan *p, oct_checkpoint *ckpt,
                                          const oct_projection *pr, float *w, float *bias,
                                          oct_err *err);

/* The factor that v's channel c (and so its cache scale) is divided by. */
float oct_plan_v_factor(const oct_plan *p, uint32_t layer, uint32_t channel);

#endif
