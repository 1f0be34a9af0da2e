/*
 * quantize/calibrate.h - what the float model's projections see on a text.
 *
 * Ownership  fini frees what run allocated. Threads: one.
 */
#ifndef OCT_QUANTIZE_CALIBRATE_H
#define OCT_QUANTIZE_CALIBRATE_H

#include "model/model.h"

/* Inputs that are watched; gate and up share one, as do q, k and v. */
enum { OCT_IN_QKV, OCT_IN_O, OCT_IN_MLP, OCT_IN_DOWN, OCT_N_IN };

typedef struct oct_input_stats {
    uint32_t width; /* 0: not watched, what only experts read */
    float *absmax;  /* [width] over all rows */
    float *sample;  /* [n_rows][width] rows kept for measuring errors */
    uint32_t n_rows, cap_rows;
} oct_input_stats;

typedef struct oct_layer_stats {
    oct_input_stats in[OCT_N_IN];
    float *k_absmax, *v_absmax; /* [n_kv_heads * head_dim] */
} oct_layer_stats;

typedef struct oct_calibration {
    const oct_allocator *mem;
    const oct_model_config *config;
    oct_layer_stats *layers; /* [n_layers] */
    uint32_t row_in_window;  /* while running */
} oct_calibration;

/* Runs windows of the ids through the model. */
OCT_MUST_CHECK oct_status oct_calibrate(oct_calibration *c, const oct_allocator *mem,
                                        oct_model *model, const int32_t *ids, size_t n,
                                        void (*progress)(void *ctx, uint64_t done, uint64_t total),
                                        void *ctx, oct_err *err);
void oct_calibration_fini(oct_calibration *c); /* accepts a zeroed one */

#endif
