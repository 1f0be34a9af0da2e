/*
 * quantize/quantize.h - from a float or GGUF checkpoint to W8A8 with an INT8 cache, in a layout
 * that other engines read (quantize/layout.h, docs/quantize.md). Four phases:
 *
 *   calibrate   run the float model over a text; watch inputs of projections, K and V
 *
 *   smooth      move outliers of activations into weights (SmoothQuant, Xiao et al. 2022), folded
 *               into norms and neighbouring projections: nothing is left to do at run time
 *
 *   plan        static scale and offset of each input, by least squared error; inputs whose error
 *               stays high keep a dynamic scale
 *
 *   write       int8 rows, scales, biases, configuration, tokenizer
 *
 * Experts of a mixture are dynamic and not smoothed; their router stays float.
 *
 * Ownership  Everything is borrowed for the call. Threads: one.
 * Elsewhere  Rounding rules: quant/. Reading the result: store/scheme_*.c.
 */
#ifndef OCT_QUANTIZE_QUANTIZE_H
#define OCT_QUANTIZE_QUANTIZE_H

#include "device/device.h"
#include "quantize/layout.h"
#include "store/checkpoint.h"
#include "text/tokenizer.h"

typedef enum oct_quantize_scheme {
    OCT_QUANTIZE_W8A8,
    OCT_QUANTIZE_W8A8_DYNAMIC
} oct_quantize_scheme;

/* Scales of an INT8 cache that are written. */
typedef enum oct_quantize_kv {
    OCT_QUANTIZE_KV_AUTO, /* CHANNEL in ModelSlim's layout; none in those whose engines refuse it */
    OCT_QUANTIZE_KV_NONE,
    OCT_QUANTIZE_KV_CHANNEL,
    OCT_QUANTIZE_KV_HEAD,
    OCT_QUANTIZE_KV_TENSOR
} oct_quantize_kv;

typedef struct oct_quantize_options {
    const oct_layout *layout; /* NULL: ModelSlim's */
    oct_quantize_scheme scheme;
    oct_quantize_kv kv;
    uint64_t max_shard_bytes; /* of tensors in one file; 0: no bound */
    bool head_int8;           /* lm_head becomes W8A8_DYNAMIC instead of staying float */
    oct_str calib_text;       /* .ptr NULL: the built-in text */
    uint32_t calib_tokens;    /* most tokens of it that are used */
    float smooth_alpha;       /* 0: no smoothing; 0.5 shares the burden evenly */
    float dynamic_error;      /* relative squared error above which a projection stays dynamic */
    float min_static;         /* share of projection bytes that must be static all the same */
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
    uint32_t n_files; /* of weights */
    double seconds;
} oct_quantize_report;

/* out_folder is made if need be; the weights appear there only when they are complete. tokenizer
 * may be NULL only with OCT_QUANTIZE_W8A8_DYNAMIC, without smoothing and cache scales (nothing is
 * calibrated then). OCT_E_UNSUPPORTED: the checkpoint is quantised already, or the layout has no
 * such cache scales. OCT_E_INVALID: the folder holds other weights. OCT_E_IO: the result cannot be
 * written, or the disk does not give what the checkpoint had when it was opened. */
OCT_MUST_CHECK oct_status oct_quantize(const oct_allocator *mem, oct_device *device,
                                       oct_checkpoint *ckpt, const oct_tokenizer *tokenizer,
                                       const char *out_folder, const oct_quantize_options *options,
                                       oct_quantize_report *report, oct_err *err);

#endif
