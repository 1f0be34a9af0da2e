/*
 * store/synthetic.h - a checkpoint that lies in no file: a configuration, and tensors whose values
 * are made when they are read. For measuring models that are not at hand.
 *
 * A value depends on the seed, the tensor's name and its place in the tensor alone, so any cut into
 * pieces and any number of threads give the same model. Nothing is kept: memory is the table.
 *
 * Threads    As checkpoint.h.
 * Elsewhere  Which tensors a family has: model/dummy.h.
 */
#ifndef OCT_STORE_SYNTHETIC_H
#define OCT_STORE_SYNTHETIC_H

#include "store/checkpoint.h"
#include "store/presets.h"

typedef enum oct_fill_kind {
    OCT_FILL_UNIFORM, /* evenly in -value..value; I8: all bytes, whatever value is */
    OCT_FILL_SPREAD,  /* evenly in 0.75..1.25 times value */
} oct_fill_kind;

typedef struct oct_fill {
    oct_fill_kind kind;
    float value;
} oct_fill;

/*
 * Begins one. source: "preset:NAME", or a folder of which only config.json is read; overrides: as
 * oct_checkpoint_open_with, may be NULL. A quantization_config is left out with a warning: what is
 * stored how is the caller's choice. *storage is what a preset's name says, else BF16.
 */
OCT_MUST_CHECK oct_status oct_synthetic_begin(const oct_allocator *mem, const char *source,
                                              const char *overrides, uint64_t seed,
                                              oct_checkpoint **out, oct_preset_storage *storage,
                                              oct_err *err);
/* The float type that the configuration names: BF16 (default), F16 or F32. */
oct_dtype oct_synthetic_float(const oct_checkpoint *c);

/* One tensor; dtype F32, F16, BF16 or I8. */
OCT_MUST_CHECK oct_status oct_synthetic_add(oct_checkpoint *c, const char *name, oct_dtype dtype,
                                            uint32_t rank, const uint64_t *shape, oct_fill fill,
                                            oct_err *err);
/* An entry of quant_model_description.json, which exists from the first one on. */
OCT_MUST_CHECK oct_status oct_synthetic_describe(oct_checkpoint *c, const char *key,
                                                 const char *value, oct_err *err);
/* After the last tensor: now it can be used. On failure the caller closes it. */
OCT_MUST_CHECK oct_status oct_synthetic_end(oct_checkpoint *c, oct_err *err);

#endif
