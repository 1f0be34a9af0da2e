/*
 * What follows a product, for AVX2: eight columns at a time, the tail under a mask. Element by
 * element and in the contract's order, so there is nothing to choose but the loads.
 */
#include <immintrin.h>

#include "kern/x86/kern_x86.h"

/* Ones in the first n of eight lanes. */
static inline __m256i lanes(uint32_t n) {
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n < 8 ? n : 8)), index);
}

OCT_DECL_EPILOGUE_I8(oct_epilogue_i8_avx2) {
    for (uint32_t i = 0; i < m; i++) {
        const __m256 rs = _mm256_set1_ps(e->rs ? e->rs[i] : 1.0f);
        const int32_t *from = c + i * ldc;
        float *to = y + i * ldy;
        for (uint32_t j = 0; j < n; j += 8) {
            const __m256i mask = lanes(n - j);
            __m256i acc = _mm256_maskload_epi32(from + j, mask);
            if (e->ibias) acc = _mm256_add_epi32(acc, _mm256_maskload_epi32(e->ibias + j, mask));
            __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), rs);
            v = _mm256_mul_ps(v, _mm256_maskload_ps(e->cs + j, mask));
            if (e->fbias) v = _mm256_add_ps(v, _mm256_maskload_ps(e->fbias + j, mask));
            if (e->add) v = _mm256_add_ps(_mm256_maskload_ps(to + j, mask), v);
            if (n - j >= 8)
                _mm256_storeu_ps(to + j, v);
            else
                _mm256_maskstore_ps(to + j, mask, v);
        }
    }
}

OCT_DECL_EPILOGUE_F32(oct_epilogue_f32_avx2) {
    for (uint32_t i = 0; i < m; i++) {
        const float *from = c + i * ldc;
        float *to = y + i * ldy;
        for (uint32_t j = 0; j < n; j += 8) {
            const __m256i mask = lanes(n - j);
            __m256 v = _mm256_maskload_ps(from + j, mask);
            if (fbias) v = _mm256_add_ps(v, _mm256_maskload_ps(fbias + j, mask));
            if (add) v = _mm256_add_ps(_mm256_maskload_ps(to + j, mask), v);
            if (n - j >= 8)
                _mm256_storeu_ps(to + j, v);
            else
                _mm256_maskstore_ps(to + j, mask, v);
        }
    }
}
