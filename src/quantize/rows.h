/* quantize/rows.h - float rows to int8 rows whose scales are values of the type they are stored in.
 * Pure; any thread. */
#ifndef OCT_QUANTIZE_ROWS_H
#define OCT_QUANTIZE_ROWS_H

#include <stdbool.h>

#include "base/status.h"
#include "store/tensor.h"

/* w[n][k] to q[n][k] and scale[n]; type: F32 or BF16; one_scale: the same for all rows. A row of
 * zeros has the least scale, which other engines do not refuse. OCT_E_CORRUPT names a row that is
 * not finite; name: the tensor. */
OCT_MUST_CHECK oct_status oct_quantize_rows(const float *w, uint64_t n, uint64_t k, oct_dtype type,
                                            bool one_scale, int8_t *q, float *scale,
                                            const char *name, oct_err *err);

/* The least value of the type that is not below x. x >= 0. */
float oct_quantize_round_up(float x, oct_dtype type);

#endif
