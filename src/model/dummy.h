/*
 * model/dummy.h - a model of random weights in the shapes of a configuration, without any file of
 * weights: for measuring how fast a model of that shape is, and how much room it takes.
 *
 * Values are such that activations stay near 1: matrices are scaled by 1 / sqrt(k), norms are about
 * 1, scales of the cache fit what then enters it. The same seed gives the same model, on any device
 * and with any number of threads.
 */
#ifndef OCT_MODEL_DUMMY_H
#define OCT_MODEL_DUMMY_H

#include "store/checkpoint.h"

/* source: "preset:NAME" (store/presets.h), which also says how projections are stored, or a folder
 * with config.json, whose projections are of its float type. overrides: keys of config.json as a
 * JSON object, or NULL. The result is a checkpoint like any other; nothing is in memory but its
 * table. */
OCT_MUST_CHECK oct_status oct_dummy_open(const oct_allocator *mem, const char *source,
                                         const char *overrides, uint64_t seed, oct_checkpoint **out,
                                         oct_err *err);

#endif
