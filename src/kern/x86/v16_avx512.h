/*
 * kern/x86/v16_avx512.h - sixteen floats as one AVX-512 register: the list of v16_avx2.h, which
 * explains it.
 */
#ifndef OCT_KERN_X86_V16_H
#define OCT_KERN_X86_V16_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define V16_NAME(op) oct_##op##_avx512
#define V16_INLINE static inline __attribute__((always_inline))

enum { V16_QK_ROWS = 4 };

typedef __m512 v16;
typedef __m512i v16i;
typedef __mmask16 v16m;
typedef struct v16d {
    __m512d a, b;
} v16d;

V16_INLINE v16 v16_set1(float x) { return _mm512_set1_ps(x); }
V16_INLINE v16 v16_zero(void) { return _mm512_setzero_ps(); }
V16_INLINE v16 v16_add(v16 x, v16 y) { return _mm512_add_ps(x, y); }
V16_INLINE v16 v16_sub(v16 x, v16 y) { return _mm512_sub_ps(x, y); }
V16_INLINE v16 v16_mul(v16 x, v16 y) { return _mm512_mul_ps(x, y); }
V16_INLINE v16 v16_div(v16 x, v16 y) { return _mm512_div_ps(x, y); }
V16_INLINE v16 v16_fma(v16 x, v16 y, v16 z) { return _mm512_fmadd_ps(x, y, z); }
V16_INLINE v16 v16_max(v16 x, v16 y) { return _mm512_max_ps(x, y); }
V16_INLINE v16 v16_min(v16 x, v16 y) { return _mm512_min_ps(x, y); }
V16_INLINE v16 v16_rne(v16 x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* ---- bits ---- */

V16_INLINE v16i v16_bits(v16 x) { return _mm512_castps_si512(x); }
V16_INLINE v16 v16_from_bits(v16i x) { return _mm512_castsi512_ps(x); }
V16_INLINE v16i v16i_set1(int32_t x) { return _mm512_set1_epi32(x); }
V16_INLINE v16i v16i_add(v16i x, v16i y) { return _mm512_add_epi32(x, y); }
V16_INLINE v16i v16i_sub(v16i x, v16i y) { return _mm512_sub_epi32(x, y); }
V16_INLINE v16i v16i_sra8(v16i x) { return _mm512_srai_epi32(x, 8); }
V16_INLINE v16i v16i_sra20(v16i x) { return _mm512_srai_epi32(x, 20); }
V16_INLINE v16i v16i_sra31(v16i x) { return _mm512_srai_epi32(x, 31); }
V16_INLINE v16i v16i_shl8(v16i x) { return _mm512_slli_epi32(x, 8); }
V16_INLINE v16i v16i_and(v16i x, v16i y) { return _mm512_and_si512(x, y); }
V16_INLINE v16i v16i_or(v16i x, v16i y) { return _mm512_or_si512(x, y); }
V16_INLINE v16i v16i_xor(v16i x, v16i y) { return _mm512_xor_si512(x, y); }
V16_INLINE v16i v16i_max(v16i x, v16i y) { return _mm512_max_epi32(x, y); }
V16_INLINE v16i v16i_min(v16i x, v16i y) { return _mm512_min_epi32(x, y); }
V16_INLINE v16i v16i_shl23(v16i x) { return _mm512_slli_epi32(x, 23); }

/* ---- masks ---- */

V16_INLINE v16m v16_lt(v16 x, v16 y) { return _mm512_cmp_ps_mask(x, y, _CMP_LT_OQ); }
V16_INLINE v16m v16_nan(v16 x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q); }
V16_INLINE v16 v16_select(v16m m, v16 yes, v16 no) { return _mm512_mask_blend_ps(m, no, yes); }
V16_INLINE v16i v16i_keep(v16m m, v16i x) { return _mm512_maskz_mov_epi32(m, x); }
V16_INLINE v16i v16i_select(v16m m, v16i yes, v16i no) {
    return _mm512_mask_blend_epi32(m, no, yes);
}
V16_INLINE v16m v16m_none(void) { return 0; }
V16_INLINE v16m v16m_or(v16m x, v16m y) { return (v16m)(x | y); }
V16_INLINE int v16m_any(v16m m) { return m != 0; }
V16_INLINE uint32_t v16m_below(int32_t n) {
    return n <= 0 ? 0u : n >= 16 ? 0xffffu : (1u << n) - 1u;
}
V16_INLINE v16m v16m_range(int32_t lo, int32_t hi) {
    return (v16m)(v16m_below(hi) & ~v16m_below(lo));
}

/* ---- memory ---- */

V16_INLINE v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
V16_INLINE void v16_store(float *p, v16 x) { _mm512_storeu_ps(p, x); }
V16_INLINE v16 v16_load_n(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps(v16m_range(0, (int32_t)n), p);
}
V16_INLINE void v16_store_n(float *p, v16 x, size_t n) {
    _mm512_mask_storeu_ps(p, v16m_range(0, (int32_t)n), x);
}
V16_INLINE v16 v16_widen_bf16(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
V16_INLINE v16 v16_load_bf16(const uint16_t *p) {
    return v16_widen_bf16(_mm256_loadu_si256((const __m256i *)p));
}
V16_INLINE v16 v16_load_bf16_n(const uint16_t *p, size_t n) {
    return v16_widen_bf16(_mm256_maskz_loadu_epi16(v16m_range(0, (int32_t)n), p));
}
V16_INLINE v16 v16_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
V16_INLINE v16 v16_load_half_of_e4m3(const uint8_t *p) {
    const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
    return _mm512_cvtph_ps(
        _mm256_and_si256(_mm256_slli_epi16(b, 7), _mm256_set1_epi16((int16_t)0xBFFF)));
}
V16_INLINE void v16_store_f16_n(uint16_t *p, v16 x, size_t n) {
    _mm256_mask_storeu_epi16(p, v16m_range(0, n < 16 ? (int32_t)n : 16),
                             _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
V16_INLINE v16 v16_load_i32(const int32_t *p) { return _mm512_cvtepi32_ps(_mm512_loadu_si512(p)); }
V16_INLINE v16 v16_load_i32_n(const int32_t *p, size_t n) {
    return _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(v16m_range(0, (int32_t)n), p));
}
V16_INLINE v16i v16_to_i32(v16 x) { return _mm512_cvtps_epi32(x); }
V16_INLINE void v16i_store_i16(int16_t *p, v16i x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtsepi32_epi16(x));
}
V16_INLINE void v16i_store_i8_n(int8_t *p, v16i x, size_t n) {
    _mm_mask_storeu_epi8(p, v16m_range(0, n >= 16 ? 16 : (int32_t)n), _mm512_cvtsepi32_epi8(x));
}

/* ---- across lanes ---- */

V16_INLINE float v16_fold(v16 x) {
    const __m256 e = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 f = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    f = _mm_add_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_add_ss(f, _mm_movehdup_ps(f)));
}
V16_INLINE float v16_max_of(v16 x) { return _mm512_reduce_max_ps(x); }
V16_INLINE int32_t v16i_max_of(v16i x) { return _mm512_reduce_max_epi32(x); }
V16_INLINE int32_t v16i_sum_of(v16i x) { return _mm512_reduce_add_epi32(x); }

/* ---- sixteen doubles ---- */

V16_INLINE v16d v16d_zero(void) { return (v16d){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
V16_INLINE v16d v16d_add_f32(v16d s, v16 x) {
    return (v16d){_mm512_add_pd(s.a, _mm512_cvtps_pd(_mm512_castps512_ps256(x))),
                  _mm512_add_pd(s.b, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)))};
}
V16_INLINE double v16d_fold(v16d s) {
    const __m512d d = _mm512_add_pd(s.a, s.b);
    const __m256d e = _mm256_add_pd(_mm512_castpd512_pd256(d), _mm512_extractf64x4_pd(d, 1));
    const __m128d f = _mm_add_pd(_mm256_castpd256_pd128(e), _mm256_extractf128_pd(e, 1));
    return _mm_cvtsd_f64(_mm_add_sd(f, _mm_unpackhi_pd(f, f)));
}

#endif
