/*
 * gemm_f32, gemm_bf16 and gemm_f16 for AVX2: one FMA chain per output, as the contract wants it.
 *
 * The chain is what limits few rows: one FMA has a latency of four, so a lone row walks four panels
 * side by side (8 chains) and the others tiles of up to 6 rows x 16 outputs (12 chains). A chunk of
 * 256 k starts a new chain from zero; its sum is added to the total in c, which costs one addition
 * an output for 256 products. Widening bf16 or half happens in the loop: it is two instructions for
 * 8 weights, hidden behind the rows and, for one row, behind memory.
 */
#include <immintrin.h>

#include "kern/pack.h"
#include "kern/x86/kern_x86.h"
#include "quant/contract.h"

#define INLINE static inline __attribute__((always_inline))
#define KEEP(sum) __asm__("" : "+x"(sum)) /* see gemm_i8_avx2.c */

enum {
    J = OCT_PANEL_OUTPUTS,
    ROWS = 6,
    SIDE = 4,        /* panels side by side for one row */
    PREFETCH = 2048, /* bytes ahead */
};

/* Eight weights, element e of a panel onwards. */
INLINE __m256 load8(const int type, const void *panel, size_t e) {
    if (type == OCT_PACK_F32) return _mm256_loadu_ps((const float *)panel + e);
    const __m128i h = _mm_loadu_si128((const __m128i *)((const uint16_t *)panel + e));
    if (type == OCT_PACK_F16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE void put8(float *c, __m256 v, int accumulate) {
    if (accumulate) v = _mm256_add_ps(_mm256_loadu_ps(c), v);
    _mm256_storeu_ps(c, v);
}

/* n rows x 16 outputs over k values. */
INLINE void tile(const int n, const int type, const float *a, size_t lda, const void *b, uint32_t k,
                 float *c, size_t ldc, int accumulate) {
    __m256 s0[ROWS], s1[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < n; r++) s0[r] = s1[r] = _mm256_setzero_ps();
    for (uint32_t t = 0; t < k; t++) {
        const __m256 w0 = load8(type, b, (size_t)t * J), w1 = load8(type, b, (size_t)t * J + 8);
#pragma GCC unroll 8
        for (int r = 0; r < n; r++) {
            const __m256 x = _mm256_broadcast_ss(a + (size_t)r * lda + t);
            s0[r] = _mm256_fmadd_ps(x, w0, s0[r]);
            s1[r] = _mm256_fmadd_ps(x, w1, s1[r]);
            KEEP(s0[r]);
            KEEP(s1[r]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n; r++) {
        put8(c + (size_t)r * ldc, s0[r], accumulate);
        put8(c + (size_t)r * ldc + 8, s1[r], accumulate);
    }
}

/* One row x SIDE panels over k values. */
INLINE void tile_side(const int type, const float *a, const void *b, size_t panel_bytes, uint32_t k,
                      float *c, int accumulate) {
    const size_t elem = type == OCT_PACK_F32 ? 4 : 2;
    __m256 s[SIDE][2];
#pragma GCC unroll 8
    for (int p = 0; p < SIDE; p++) s[p][0] = s[p][1] = _mm256_setzero_ps();
    for (uint32_t t = 0; t < k; t++) {
        const __m256 x = _mm256_broadcast_ss(a + t);
#pragma GCC unroll 8
        for (int p = 0; p < SIDE; p++) {
            const char *panel = (const char *)b + p * panel_bytes;
            _mm_prefetch(panel + (size_t)t * J * elem + PREFETCH, _MM_HINT_T0);
            s[p][0] = _mm256_fmadd_ps(x, load8(type, panel, (size_t)t * J), s[p][0]);
            s[p][1] = _mm256_fmadd_ps(x, load8(type, panel, (size_t)t * J + 8), s[p][1]);
            KEEP(s[p][0]);
            KEEP(s[p][1]);
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < SIDE; p++) {
        put8(c + p * J, s[p][0], accumulate);
        put8(c + p * J + 8, s[p][1], accumulate);
    }
}

INLINE void rows_tile(const int type, uint32_t n, const float *a, size_t lda, const void *b,
                      uint32_t k, float *c, size_t ldc, int accumulate) {
    switch (n) {
    case 1:
        tile(1, type, a, lda, b, k, c, ldc, accumulate);
        break;
    case 2:
        tile(2, type, a, lda, b, k, c, ldc, accumulate);
        break;
    case 3:
        tile(3, type, a, lda, b, k, c, ldc, accumulate);
        break;
    case 4:
        tile(4, type, a, lda, b, k, c, ldc, accumulate);
        break;
    case 5:
        tile(5, type, a, lda, b, k, c, ldc, accumulate);
        break;
    default:
        tile(6, type, a, lda, b, k, c, ldc, accumulate);
        break;
    }
}

INLINE void gemm(const int type, const float *a, size_t lda, uint32_t m, const void *panels,
                 uint32_t k, size_t panel_bytes, uint32_t n_panels, float *c, size_t ldc) {
    const size_t elem = type == OCT_PACK_F32 ? 4 : 2;
    uint32_t p = 0;
    for (; m == 1 && p + SIDE <= n_panels; p += SIDE)
        for (uint32_t t = 0; t < k; t += OCT_NUMERICS_CHUNK)
            tile_side(type, a + t, (const char *)panels + p * panel_bytes + t * J * elem,
                      panel_bytes, k - t < OCT_NUMERICS_CHUNK ? k - t : OCT_NUMERICS_CHUNK,
                      c + (size_t)p * J, t != 0);
    for (; p < n_panels; p++) {
        const char *panel = (const char *)panels + p * panel_bytes;
        for (uint32_t t = 0; t < k; t += OCT_NUMERICS_CHUNK)
            for (uint32_t i = 0; i < m; i += ROWS)
                rows_tile(type, m - i, a + i * lda + t, lda, panel + t * J * elem,
                          k - t < OCT_NUMERICS_CHUNK ? k - t : OCT_NUMERICS_CHUNK,
                          c + i * ldc + (size_t)p * J, ldc, t != 0);
    }
}

OCT_DECL_GEMM_FLOAT(oct_gemm_f32_avx2) {
    gemm(OCT_PACK_F32, a, lda, m, panels, k, panel_bytes, n_panels, c, ldc);
}
OCT_DECL_GEMM_FLOAT(oct_gemm_bf16_avx2) {
    gemm(OCT_PACK_BF16, a, lda, m, panels, k, panel_bytes, n_panels, c, ldc);
}
OCT_DECL_GEMM_FLOAT(oct_gemm_f16_avx2) {
    gemm(OCT_PACK_F16, a, lda, m, panels, k, panel_bytes, n_panels, c, ldc);
}
