/*
 * model/rope.h - rotary position embedding: inverse frequencies of each published kind, and the
 * table of cosines and sines that the device reads.
 *
 * Formulas: linear interpolation (Chen et al. 2023), llama3 (Llama 3.1 model card and
 * transformers), YaRN (Peng et al. 2023), dynamic NTK (as transformers has it); all in double,
 * rounded to float32 once (docs/numerics.md).
 */
#ifndef OCT_MODEL_ROPE_H
#define OCT_MODEL_ROPE_H

#include <stdint.h>

#include "store/config.h"

/* Makes OCT_ROPE_LONG an OCT_ROPE_FACTORS: the long factors where contexts of max_len tokens are
 * beyond the original length, else the short ones; and OCT_ROPE_DYNAMIC an OCT_ROPE_DEFAULT with
 * the base for max_len tokens. Other types stay as they are. */
void oct_rope_settle(oct_rope_config *rope, uint32_t max_len);

/* out[rotary_dim / 2], radians a position; not of OCT_ROPE_LONG or OCT_ROPE_DYNAMIC. */
void oct_rope_frequencies(const oct_rope_config *rope, double *out);

/* One table row: cosines then sines of `position`, times the attention factor; out[rotary_dim]. */
void oct_rope_row(const oct_rope_config *rope, const double *frequencies, uint32_t position,
                  float *out);

#endif
