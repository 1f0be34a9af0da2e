/* quant/weights.c - the dynamic row rule of docs/numerics.md, applied to weights. */
#include "quant/weights.h"

#include "quant/contract.h"

float oct_quant_row(const float *row, size_t k, int8_t *q) {
    uint32_t absmax = 0;
    for (size_t i = 0; i < k; i++) {
        const uint32_t bits = oct_f32_abs_bits(row[i]);
        absmax = bits > absmax ? bits : absmax;
    }
    const oct_row_scale s = oct_row_scale_of(absmax);
    for (size_t i = 0; i < k; i++) q[i] = oct_quant_dynamic(row[i], s.inv);
    return s.scale;
}
