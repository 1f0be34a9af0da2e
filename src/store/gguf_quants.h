/*
 * store/gguf_quants.h - the block types of GGUF, expanded to float32.
 *
 * Every value is computed as the format defines it: half-precision block scales widened exactly,
 * products and sums in float32 in the order scale * sub-scale, times the small integer, minus the
 * minimum; no fused operations.
 *
 * Threads: pure functions.
 */
#ifndef OCT_STORE_GGUF_QUANTS_H
#define OCT_STORE_GGUF_QUANTS_H

#include <stddef.h>

#include "store/tensor.h"

/* n elements, a multiple of the block of dtype, from src (any alignment). dtype is one of
 * OCT_DTYPE_Q*. */
void oct_gguf_dequantize(oct_dtype dtype, const void *src, size_t n, float *dst);

#endif
