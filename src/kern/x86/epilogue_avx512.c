/*
 * What follows an int8 product, for AVX-512: sixteen columns at a time, the tail under a mask.
 */
#include <immintrin.h>

#include "kern/x86/kern_x86.h"

OCT_DECL_EPILOGUE_I8(oct_epilogue_i8_avx512) {
    for (uint32_t i = 0; i < m; i++) {
        const __m512 rs = _mm512_set1_ps(e->rs ? e->rs[i] : 1.0f);
        const int32_t *from = c + i * ldc;
        float *to = y + i * ldy;
        for (uint32_t j = 0; j < n; j += 16) {
            const __mmask16 there = n - j >= 16 ? 0xffff : (__mmask16)((1u << (n - j)) - 1);
            __m512i acc = _mm512_maskz_loadu_epi32(there, from + j);
            if (e->ibias)
                acc = _mm512_add_epi32(acc, _mm512_maskz_loadu_epi32(there, e->ibias + j));
            __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), rs);
            v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(there, e->cs + j));
            if (e->fbias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(there, e->fbias + j));
            if (e->add) v = _mm512_add_ps(_mm512_maskz_loadu_ps(there, to + j), v);
            _mm512_mask_storeu_ps(to + j, there, v);
        }
    }
}
