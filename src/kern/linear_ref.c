/*
 * kern/linear_ref.c - the matrix products of docs/numerics.md in plain C. Product code: it fills
 * the table on a CPU without vector units, and judges every other variant and every device.
 *
 * Written to be read, one output at a time in the words of the contract; the panels are walked in
 * place, so the layout is judged too.
 */
#include <math.h>
#include <string.h>

#include "kern/kern_ref.h"
#include "kern/pack.h"
#include "quant/contract.h"
#include "quant/float_types.h"

static OCT_DECL_ROW_BYTES_I8(row_bytes_i8_ref) { return oct_pack_kpad(k); }

static OCT_DECL_PREP_ROWS_I8(prep_rows_i8_ref) {
    const size_t row_bytes = row_bytes_i8_ref(k);
    for (uint32_t i = 0; i < m; i++) {
        int8_t *row = (int8_t *)out + i * row_bytes;
        memcpy(row, q + i * ldq, k);
        memset(row + k, 0, row_bytes - k);
    }
}

static OCT_DECL_GEMM_I8(gemm_i8_ref) {
    (void)colsum;
    for (uint32_t i = 0; i < m; i++) {
        const int8_t *row = (const int8_t *)rows + i * row_bytes;
        for (uint32_t p = 0; p < n_panels; p++) {
            const int8_t *w = panels + p * panel_bytes;
            int32_t acc[OCT_PANEL_OUTPUTS] = {0};
            for (uint32_t t = 0; t < kpad; t += 4, w += 4 * OCT_PANEL_OUTPUTS)
                for (unsigned j = 0; j < OCT_PANEL_OUTPUTS; j++)
                    for (unsigned r = 0; r < 4; r++) acc[j] += row[t + r] * w[4 * j + r];
            memcpy(c + i * ldc + (size_t)p * OCT_PANEL_OUTPUTS, acc, sizeof acc);
        }
    }
}

static OCT_DECL_GEMM_I16(gemm_i16_ref) {
    for (uint32_t i = 0; i < m; i++) {
        const int16_t *row = a + i * lda;
        for (uint32_t p = 0; p < n_panels; p++) {
            const int8_t *w = panels + p * panel_bytes;
            int32_t acc[OCT_PANEL_OUTPUTS] = {0};
            for (uint32_t t = 0; t < k; t += 4, w += 4 * OCT_PANEL_OUTPUTS)
                for (unsigned j = 0; j < OCT_PANEL_OUTPUTS; j++)
                    for (unsigned r = 0; r < 4; r++) acc[j] += row[t + r] * w[4 * j + r];
            memcpy(c + i * ldc + (size_t)p * OCT_PANEL_OUTPUTS, acc, sizeof acc);
        }
    }
}

static OCT_DECL_EPILOGUE_I8(epilogue_i8_ref) {
    for (uint32_t i = 0; i < m; i++) {
        const float rs = e->rs ? e->rs[i] : 1.0f;
        for (uint32_t j = 0; j < n; j++) {
            const int32_t acc = c[i * ldc + j] + (e->ibias ? e->ibias[j] : 0);
            float v = ((float)acc * rs) * e->cs[j];
            if (e->fbias) v = v + e->fbias[j];
            float *to = y + i * ldy + j;
            *to = e->add ? *to + v : v;
        }
    }
}

/* The epilogue from column col on. */
static oct_epilogue_i8 from_column(const oct_epilogue_i8 *e, uint32_t col) {
    oct_epilogue_i8 part = *e;
    part.cs += col;
    if (part.ibias) part.ibias += col;
    if (part.fbias) part.fbias += col;
    return part;
}

static OCT_DECL_PRODUCT_I8(product_i8_ref) {
    for (uint32_t col = 0; col < n; col += OCT_PANEL_OUTPUTS) {
        const oct_epilogue_i8 part = from_column(e, col);
        const uint32_t left = n - col < OCT_PANEL_OUTPUTS ? n - col : OCT_PANEL_OUTPUTS;
        gemm_i8_ref(rows, row_bytes, m, panels + col / OCT_PANEL_OUTPUTS * panel_bytes, kpad,
                    panel_bytes, 1, colsum + col, c, OCT_PANEL_OUTPUTS);
        epilogue_i8_ref(c, OCT_PANEL_OUTPUTS, m, left, &part, y + col, ldy);
    }
}

/* Element e of packed storage, widened; exact for every type. */
static inline float widen(oct_pack_type type, const void *panel, size_t e) {
    switch (type) {
    case OCT_PACK_BF16:
        return oct_bf16_to_f32(((const uint16_t *)panel)[e]);
    case OCT_PACK_F16:
        return oct_f16_to_f32(((const uint16_t *)panel)[e]);
    default:
        return ((const float *)panel)[e];
    }
}

static inline void gemm_float(oct_pack_type type, const float *a, size_t lda, uint32_t m,
                              const void *panels, uint32_t k, size_t panel_bytes, uint32_t n_panels,
                              float *c, size_t ldc) {
    for (uint32_t i = 0; i < m; i++) {
        const float *row = a + i * lda;
        for (uint32_t col = 0; col < n_panels * OCT_PANEL_OUTPUTS; col++) {
            const void *panel = (const char *)panels + col / OCT_PANEL_OUTPUTS * panel_bytes;
            const size_t j = col % OCT_PANEL_OUTPUTS;
            float total = 0.0f;
            for (uint32_t t0 = 0; t0 < k; t0 += OCT_NUMERICS_CHUNK) {
                const uint32_t left = k - t0;
                const uint32_t t1 = t0 + (left < OCT_NUMERICS_CHUNK ? left : OCT_NUMERICS_CHUNK);
                float acc = 0.0f;
                for (uint32_t t = t0; t < t1; t++)
                    acc = fmaf(row[t], widen(type, panel, t * (size_t)OCT_PANEL_OUTPUTS + j), acc);
                total = t0 == 0 ? acc : total + acc;
            }
            c[i * ldc + col] = total;
        }
    }
}

static OCT_DECL_GEMM_FLOAT(gemm_f32_ref) {
    gemm_float(OCT_PACK_F32, a, lda, m, panels, k, panel_bytes, n_panels, c, ldc);
}
static OCT_DECL_GEMM_FLOAT(gemm_bf16_ref) {
    gemm_float(OCT_PACK_BF16, a, lda, m, panels, k, panel_bytes, n_panels, c, ldc);
}
static OCT_DECL_GEMM_FLOAT(gemm_f16_ref) {
    gemm_float(OCT_PACK_F16, a, lda, m, panels, k, panel_bytes, n_panels, c, ldc);
}

static OCT_DECL_EPILOGUE_F32(epilogue_f32_ref) {
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < n; j++) {
            const float v = fbias ? c[i * ldc + j] + fbias[j] : c[i * ldc + j];
            float *to = y + i * ldy + j;
            *to = add ? *to + v : v;
        }
}

void oct_kern_init_linear_ref(oct_kern *k) {
    k->row_unit = 1;
    k->row_bytes_i8 = row_bytes_i8_ref;
    k->prep_rows_i8 = prep_rows_i8_ref;
    k->gemm_i8 = gemm_i8_ref;
    k->gemm_i16 = gemm_i16_ref;
    k->epilogue_i8 = epilogue_i8_ref;
    k->product_i8 = product_i8_ref;
    k->gemm_f32 = gemm_f32_ref;
    k->gemm_bf16 = gemm_bf16_ref;
    k->gemm_f16 = gemm_f16_ref;
    k->epilogue_f32 = epilogue_f32_ref;
}
