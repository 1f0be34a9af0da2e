/*
 * gemm_f32, gemm_bf16 and gemm_f16 for AVX-512: one FMA chain per output in the contract's order,
 * one vector a panel. Tiles of up to 6 rows x 4 panels; a lone row walks four panels side by side,
 * enough chains to keep ahead of memory.
 */
#include <immintrin.h>

#include "kern/pack.h"
#include "kern/x86/kern_x86.h"
#include "quant/contract.h"

#define INLINE static inline __attribute__((always_inline))
#define KEEP(sum) __asm__("" : "+v"(sum)) /* see gemm_i8_avx2.c */

enum {
    J = OCT_PANEL_OUTPUTS,
    ROWS = 6,
    SIDE = 4,
    PREFETCH = 2048, /* bytes ahead in a panel */
};

/* Sixteen weights: value t of a panel. */
INLINE __m512 load16(const int type, const void *panel, size_t t) {
    if (type == OCT_PACK_F32) return _mm512_loadu_ps((const float *)panel + t * J);
    const __m256i h = _mm256_loadu_si256((const __m256i *)((const uint16_t *)panel + t * J));
    if (type == OCT_PACK_F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* n rows x np panels over one chunk of k; its sums are added to c, or stored when it is the first.
 */
INLINE void tile(const int n, const int np, const int type, const float *a, size_t lda,
                 const char *b, size_t panel_bytes, uint32_t k, float *c, size_t ldc, int first) {
    const size_t step = (size_t)J * (type == OCT_PACK_F32 ? 4 : 2);
    __m512 s[ROWS][SIDE];
#pragma GCC unroll 8
    for (int r = 0; r < n; r++)
#pragma GCC unroll 8
        for (int p = 0; p < np; p++) s[r][p] = _mm512_setzero_ps();
    for (uint32_t t = 0; t < k; t++) {
        __m512 w[SIDE];
#pragma GCC unroll 8
        for (int p = 0; p < np; p++) {
            w[p] = load16(type, b + (size_t)p * panel_bytes, t);
            _mm_prefetch(b + (size_t)p * panel_bytes + t * step + PREFETCH, _MM_HINT_T0);
        }
#pragma GCC unroll 8
        for (int r = 0; r < n; r++) {
            const __m512 x = _mm512_set1_ps(a[(size_t)r * lda + t]);
#pragma GCC unroll 8
            for (int p = 0; p < np; p++) {
                s[r][p] = _mm512_fmadd_ps(x, w[p], s[r][p]);
                KEEP(s[r][p]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n; r++)
#pragma GCC unroll 8
        for (int p = 0; p < np; p++) {
            float *to = c + (size_t)r * ldc + p * J;
            _mm512_storeu_ps(to, first ? s[r][p] : _mm512_add_ps(_mm512_loadu_ps(to), s[r][p]));
        }
}

INLINE void rows_tile(uint32_t n, const int np, const int type, const float *a, size_t lda,
                      const char *b, size_t panel_bytes, uint32_t k, float *c, size_t ldc,
                      int first) {
    switch (n) {
    case 1:
        tile(1, np, type, a, lda, b, panel_bytes, k, c, ldc, first);
        break;
    case 2:
        tile(2, np, type, a, lda, b, panel_bytes, k, c, ldc, first);
        break;
    case 3:
        tile(3, np, type, a, lda, b, panel_bytes, k, c, ldc, first);
        break;
    case 4:
        tile(4, np, type, a, lda, b, panel_bytes, k, c, ldc, first);
        break;
    case 5:
        tile(5, np, type, a, lda, b, panel_bytes, k, c, ldc, first);
        break;
    default:
        tile(6, np, type, a, lda, b, panel_bytes, k, c, ldc, first);
        break;
    }
}

/* All rows and all of k over np panels. */
INLINE void sweep(const int np, const int type, const float *a, size_t lda, uint32_t m,
                  const char *b, size_t panel_bytes, uint32_t k, float *c, size_t ldc) {
    const size_t step = (size_t)J * (type == OCT_PACK_F32 ? 4 : 2);
    for (uint32_t t = 0; t < k; t += OCT_NUMERICS_CHUNK)
        for (uint32_t i = 0; i < m; i += ROWS)
            rows_tile(m - i, np, type, a + i * lda + t, lda, b + t * step, panel_bytes,
                      k - t < OCT_NUMERICS_CHUNK ? k - t : OCT_NUMERICS_CHUNK, c + i * ldc, ldc,
                      t == 0);
}

INLINE void gemm(const int type, const float *a, size_t lda, uint32_t m, const char *panels,
                 uint32_t k, size_t panel_bytes, uint32_t n_panels, float *c, size_t ldc) {
    uint32_t p = 0;
    for (; p + SIDE <= n_panels; p += SIDE)
        sweep(SIDE, type, a, lda, m, panels + p * panel_bytes, panel_bytes, k, c + (size_t)p * J,
              ldc);
    for (; p < n_panels; p++)
        sweep(1, type, a, lda, m, panels + p * panel_bytes, panel_bytes, k, c + (size_t)p * J, ldc);
}

OCT_DECL_GEMM_FLOAT(oct_gemm_f32_avx512) {
    gemm(OCT_PACK_F32, a, lda, m, panels, k, panel_bytes, n_panels, c, ldc);
}
OCT_DECL_GEMM_FLOAT(oct_gemm_bf16_avx512) {
    gemm(OCT_PACK_BF16, a, lda, m, panels, k, panel_bytes, n_panels, c, ldc);
}
OCT_DECL_GEMM_FLOAT(oct_gemm_f16_avx512) {
    gemm(OCT_PACK_F16, a, lda, m, panels, k, panel_bytes, n_panels, c, ldc);
}
