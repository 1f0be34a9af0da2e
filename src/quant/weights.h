/*
 * quant/weights.h - a row of weights as int8 with one scale, offline or while a float checkpoint is
 * loaded. Symmetric, scale = absmax/127, ties to even; a zero row has scale 0. Pure; any thread.
 */
#ifndef OCT_QUANT_WEIGHTS_H
#define OCT_QUANT_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

/* Quantises row[k] into q[k] and returns the scale: row ~ q * scale. NaN for a row that holds a NaN
 * or an infinity (q is then 0). */
float oct_quant_row(const float *row, size_t k, int8_t *q);

#endif
