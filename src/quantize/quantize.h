/*
 * quantize/quantize.h - from a float or GGUF checkpoint to W8A8 with an INT8 cache, in the layout
 * that ModelSlim writes and other engines read (formats: docs/quantize.md). Four phases:
 *
 *   calibrate   run the float model over a text; watch inputs of projections, K and V
 *
 *   smooth      move outliers of activations into weights (SmoothQuant, Xiao et al. 2022), folded
 *               into norms and neighbouring projections: nothing is left to do at run time
 *
 *   plan        static scale and offset of each input, by least squared error; inputs whose error
 *               stays high keep a dynamic scale
 *
 *   write       int8 rows, scales, biases, description, configuration, tokenizer
 *
 * Ownership  Everything is borrowed for the call. Threads: one.
 * Elsewhere  Rounding rules: quant/. Reading the result: store/scheme_modelslim.c.
 */
#ifndef OCT_QUANTIZE_QUANTIZE_H
#define OCT_QUANTIZE_QUANTIZE_H

#include "device/device.h"
#include "store/checkpoint.h"
#include "text/tokenizer.h"

typedef enum oct_quantize_scheme {
    OCT_QUANTIZE_W8A8,
    OCT_QUANTIZE_W8A8_DYNAMIC
} oct_quantize_scheme;

typedef struct oct_quantize_options {
    oct_quantize_scheme scheme;
    bool kv_c8;            /* write per-channel scales for an INT8 cache */
    bool head_int8;        /* lm_head becomes W8A8_DYNAMIC instead of staying float */
    oct_str calib_text;    /* .ptr NULL: the built-in text */
    uint32_t calib_tokens; /* most tokens of it that are used */
    float smooth_alpha;    /* 0: no smoothing; 0.5 shares the burden evenly */
    float dynamic_error;   /* relative squared error above which a projection stays dynamic */
    float min_static;      /* share of projection bytes that must be static all the same */
    /* phase: "calibrating", "writing"; may be NULL */
    void (*progress)(void *ctx, const char *phase, uint64_t done, uint64_t total);
    /* a line about a decision, for people; may be NULL */
    void (*note)(void *ctx, const char *line);
    void *ctx;
} oct_quantize_options;

extern const oct_quantize_options oct_quantize_defaults;

typedef struct oct_quantize_report {
    uint32_t n_static, n_dynamic, n_float; /* projections */
    uint64_t static_bytes, int8_bytes, total_bytes;
    double seconds;
} oct_quantize_report;

/* out_folder is made if need be; the weights appear there only when they are complete. tokenizer
 * may be NULL only with OCT_QUANTIZE_W8A8_DYNAMIC and without kv_c8 (nothing is calibrated then).
 * OCT_E_UNSUPPORTED: the checkpoint is quantised already. */
OCT_MUST_CHECK oct_status oct_quantize(const oct_allocator *mem, oct_device *device,
                                       oct_checkpoint *ckpt, const oct_tokenizer *tokenizer,
                                       const char *out_folder, const oct_quantize_options *options,
                                       oct_quantize_report *report, oct_err *err);

#endif
