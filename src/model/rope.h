/*
 * model/rope.h - rotary position embedding: inverse frequencies of each published kind, and the
 * table of cosines and sines that the device reads.
 *
 * Formulas: linear interpolation (Chen et al. 2023), llama3 (Llama 3.1 model card and
 * transformers), YaRN (Peng et al. 2023); all in double, rounded to float32 once
 * (docs/numerics.md).
 */
#ifndef OCT_MODEL_ROPE_H
#define OCT_MODEL_ROPE_H

#include <stdint.h>

#include "store/config.h"

/* out[rotary_dim / 2], radians a position. */
void oct_rope_frequencies(const oct_rope_config *rope, double *out);

/* One table row: cosines then sines of `position`, times the attention factor; out[rotary_dim]. */
void oct_rope_row(const oct_rope_config *rope, const double *frequencies, uint32_t position,
                  float *out);

#endif
