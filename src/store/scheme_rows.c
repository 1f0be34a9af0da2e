/*
 * store/scheme_rows.c - the weights of a projection as numbers.
 *
 * Narrow weights are read into the far end of the caller's float buffer and widened from its start:
 * a float written never reaches a byte that is still to be read, because each byte lies at least
 * three bytes further for each one that is left. So no second buffer is needed.
 */
#include "base/assert.h"
#include "quant/float_types.h"
#include "store/scheme_parts.h"

/* The value of each byte before scale and offset. */
static void fill_values(const oct_linear_source *src, float values[256]) {
    for (unsigned b = 0; b < 256; b++)
        values[b] = src->kind == OCT_LINEAR_FP8 ? oct_e4m3_to_f32((uint8_t)b)
                    : src->packed               ? (float)b - 128
                                                : (float)(int8_t)b;
}

/* Columns col..end-1 of a row share scale and offset. */
static void widen(const float values[256], const unsigned char *raw, uint64_t n, float scale,
                  float offset, float *dst) {
    for (uint64_t i = 0; i < n; i++) dst[i] = (values[raw[i]] - offset) * scale;
}

static void widen_row(const oct_linear_source *src, const float values[256], uint64_t row,
                      const unsigned char *raw, float *dst) {
    if (!src->block_scale) {
        const float offset = src->block_offset ? src->block_offset[row] : 0;
        widen(values, raw, src->k, src->col_scale[row], offset, dst);
        return;
    }
    const uint64_t per_row = (src->k + src->block_k - 1) / src->block_k;
    const uint64_t first = row / src->block_n * per_row;
    for (uint64_t at = 0, b = first; at < src->k; at += src->block_k, b++) {
        const uint64_t left = src->k - at;
        widen(values, raw + at, left < src->block_k ? left : src->block_k, src->block_scale[b],
              src->block_offset ? src->block_offset[b] : 0, dst + at);
    }
}

oct_status oct_scheme_read_rows(const oct_checkpoint *c, const oct_linear_source *src,
                                uint64_t row0, uint64_t n_rows, float *dst, oct_err *err) {
    OCT_ASSERT(src->kind != OCT_LINEAR_ABSENT);
    if (src->kind == OCT_LINEAR_FLOAT)
        return oct_checkpoint_read_rows(c, src->weight, row0, n_rows, dst, err);
    const uint64_t row_bytes = src->weight->row_bytes;
    float values[256];
    unsigned char *raw = (unsigned char *)dst + n_rows * (src->k * sizeof *dst - row_bytes);
    OCT_TRY(oct_checkpoint_read_raw_rows(c, src->weight, row0, n_rows, raw, err));
    fill_values(src, values);
    for (uint64_t r = 0; r < n_rows; r++)
        widen_row(src, values, row0 + r, raw + r * row_bytes, dst + r * src->k);
    return OCT_OK;
}

oct_status oct_scheme_read_i8(const oct_checkpoint *c, const oct_linear_source *src, uint64_t row0,
                              uint64_t n_rows, int8_t *dst, oct_err *err) {
    OCT_ASSERT(src->kind == OCT_LINEAR_INT8);
    if (!src->packed) return oct_checkpoint_read_raw_rows(c, src->weight, row0, n_rows, dst, err);
    const uint64_t row_bytes = src->weight->row_bytes;
    unsigned char *raw = oct_alloc(c->mem, row_bytes, 1);
    if (!raw) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", src->weight->name.ptr);
    oct_status st = OCT_OK;
    for (uint64_t r = 0; st == OCT_OK && r < n_rows; r++) {
        st = oct_checkpoint_read_raw_rows(c, src->weight, row0 + r, 1, raw, err);
        for (uint64_t i = 0; st == OCT_OK && i < src->k; i++)
            dst[r * src->k + i] = (int8_t)(raw[i] ^ 0x80);
    }
    oct_free(c->mem, raw, row_bytes, 1);
    return st;
}
