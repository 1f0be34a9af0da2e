/*
 * kern/x86/v16_avx2.h - sixteen floats as two AVX2 registers: the words in which elem_v16.h and
 * attn_v16.h are written. v16_avx512.h is the same list for AVX-512.
 *
 * Sixteen is the number of lanes of the contract's reductions, so a v16 holds one step of them.
 * _n forms touch the first n lanes of memory only, 1 <= n <= 16; loaded lanes beyond are zero.
 */
#ifndef OCT_KERN_X86_V16_H
#define OCT_KERN_X86_V16_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define V16_NAME(op) oct_##op##_avx2
#define V16_INLINE static inline __attribute__((always_inline))

enum { V16_QK_ROWS = 2 }; /* rows x 4 registers of sums, and 4 of keys, in 16 */

typedef struct v16 {
    __m256 a, b;
} v16;
typedef struct v16i {
    __m256i a, b;
} v16i;
typedef struct v16m { /* all bits of a lane set, or none */
    __m256 a, b;
} v16m;
typedef struct v16d {
    __m256d a, b, c, d;
} v16d;

V16_INLINE v16 v16_set1(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
V16_INLINE v16 v16_zero(void) { return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
V16_INLINE v16 v16_add(v16 x, v16 y) {
    return (v16){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
V16_INLINE v16 v16_sub(v16 x, v16 y) {
    return (v16){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
V16_INLINE v16 v16_mul(v16 x, v16 y) {
    return (v16){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
V16_INLINE v16 v16_div(v16 x, v16 y) {
    return (v16){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
V16_INLINE v16 v16_fma(v16 x, v16 y, v16 z) {
    return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
/* Lane by lane x > y ? x : y. */
V16_INLINE v16 v16_max(v16 x, v16 y) {
    return (v16){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
/* Lane by lane x < y ? x : y. */
V16_INLINE v16 v16_min(v16 x, v16 y) {
    return (v16){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
V16_INLINE v16 v16_rne(v16 x) {
    return (v16){_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

/* ---- bits ---- */

V16_INLINE v16i v16_bits(v16 x) {
    return (v16i){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)};
}
V16_INLINE v16 v16_from_bits(v16i x) {
    return (v16){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}
V16_INLINE v16i v16i_set1(int32_t x) { return (v16i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
V16_INLINE v16i v16i_add(v16i x, v16i y) {
    return (v16i){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
V16_INLINE v16i v16i_sub(v16i x, v16i y) {
    return (v16i){_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}
V16_INLINE v16i v16i_sra8(v16i x) {
    return (v16i){_mm256_srai_epi32(x.a, 8), _mm256_srai_epi32(x.b, 8)};
}
V16_INLINE v16i v16i_sra20(v16i x) {
    return (v16i){_mm256_srai_epi32(x.a, 20), _mm256_srai_epi32(x.b, 20)};
}
V16_INLINE v16i v16i_sra31(v16i x) {
    return (v16i){_mm256_srai_epi32(x.a, 31), _mm256_srai_epi32(x.b, 31)};
}
V16_INLINE v16i v16i_shl8(v16i x) {
    return (v16i){_mm256_slli_epi32(x.a, 8), _mm256_slli_epi32(x.b, 8)};
}
V16_INLINE v16i v16i_and(v16i x, v16i y) {
    return (v16i){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}
V16_INLINE v16i v16i_or(v16i x, v16i y) {
    return (v16i){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
V16_INLINE v16i v16i_xor(v16i x, v16i y) {
    return (v16i){_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}
V16_INLINE v16i v16i_max(v16i x, v16i y) {
    return (v16i){_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)};
}
V16_INLINE v16i v16i_min(v16i x, v16i y) {
    return (v16i){_mm256_min_epi32(x.a, y.a), _mm256_min_epi32(x.b, y.b)};
}
V16_INLINE v16i v16i_shl23(v16i x) {
    return (v16i){_mm256_slli_epi32(x.a, 23), _mm256_slli_epi32(x.b, 23)};
}

/* ---- masks ---- */

V16_INLINE v16m v16_lt(v16 x, v16 y) {
    return (v16m){_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}
V16_INLINE v16m v16_nan(v16 x) {
    return (v16m){_mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q), _mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q)};
}
V16_INLINE v16 v16_select(v16m m, v16 yes, v16 no) {
    return (v16){_mm256_blendv_ps(no.a, yes.a, m.a), _mm256_blendv_ps(no.b, yes.b, m.b)};
}
V16_INLINE v16i v16i_keep(v16m m, v16i x) { /* zero where m is not set */
    return (v16i){_mm256_and_si256(x.a, _mm256_castps_si256(m.a)),
                  _mm256_and_si256(x.b, _mm256_castps_si256(m.b))};
}
V16_INLINE v16i v16i_select(v16m m, v16i yes, v16i no) {
    return v16_bits(v16_select(m, v16_from_bits(yes), v16_from_bits(no)));
}
V16_INLINE v16m v16m_none(void) { return (v16m){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
V16_INLINE v16m v16m_or(v16m x, v16m y) {
    return (v16m){_mm256_or_ps(x.a, y.a), _mm256_or_ps(x.b, y.b)};
}
V16_INLINE int v16m_any(v16m m) { return _mm256_movemask_ps(_mm256_or_ps(m.a, m.b)) != 0; }
/* Lanes lo <= l < hi. */
V16_INLINE v16m v16m_range(int32_t lo, int32_t hi) {
    const __m256i l = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i h = _mm256_add_epi32(l, _mm256_set1_epi32(8));
    const __m256i from = _mm256_set1_epi32(lo - 1), to = _mm256_set1_epi32(hi);
    return (v16m){_mm256_castsi256_ps(
                      _mm256_and_si256(_mm256_cmpgt_epi32(l, from), _mm256_cmpgt_epi32(to, l))),
                  _mm256_castsi256_ps(
                      _mm256_and_si256(_mm256_cmpgt_epi32(h, from), _mm256_cmpgt_epi32(to, h)))};
}

/* ---- memory ---- */

V16_INLINE v16 v16_load(const float *p) {
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
V16_INLINE void v16_store(float *p, v16 x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
V16_INLINE v16 v16_load_n(const float *p, size_t n) {
    const v16m m = v16m_range(0, (int32_t)n);
    return (v16){_mm256_maskload_ps(p, _mm256_castps_si256(m.a)),
                 _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.b))};
}
V16_INLINE void v16_store_n(float *p, v16 x, size_t n) {
    const v16m m = v16m_range(0, (int32_t)n);
    _mm256_maskstore_ps(p, _mm256_castps_si256(m.a), x.a);
    _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.b), x.b);
}
V16_INLINE v16 v16_load_bf16(const uint16_t *p) {
    const __m256i h = _mm256_loadu_si256((const __m256i *)p);
    const __m256i lo = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(h));
    const __m256i hi = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(h, 1));
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}
V16_INLINE v16 v16_load_bf16_n(const uint16_t *p, size_t n) {
    uint16_t whole[16] = {0};
    memcpy(whole, p, n * sizeof *p);
    return v16_load_bf16(whole);
}
V16_INLINE v16 v16_widen_f16(__m256i h) {
    return (v16){_mm256_cvtph_ps(_mm256_castsi256_si128(h)),
                 _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1))};
}
V16_INLINE v16 v16_load_f16(const uint16_t *p) {
    return v16_widen_f16(_mm256_loadu_si256((const __m256i *)p));
}
/* Sixteen E4M3 bytes as halves with the same exponent and mantissa fields. */
V16_INLINE v16 v16_load_half_of_e4m3(const uint8_t *p) {
    const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
    return v16_widen_f16(
        _mm256_and_si256(_mm256_slli_epi16(b, 7), _mm256_set1_epi16((int16_t)0xBFFF)));
}
V16_INLINE void v16_store_f16_n(uint16_t *p, v16 x, size_t n) {
    const __m128i h[2] = {_mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT),
                          _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT)};
    memcpy(p, h, (n < 16 ? n : 16) * sizeof *p);
}
V16_INLINE v16 v16_load_i32(const int32_t *p) {
    return (v16){_mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)p)),
                 _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(p + 8)))};
}
V16_INLINE v16 v16_load_i32_n(const int32_t *p, size_t n) {
    const v16m m = v16m_range(0, (int32_t)n);
    return (v16){_mm256_cvtepi32_ps(_mm256_maskload_epi32(p, _mm256_castps_si256(m.a))),
                 _mm256_cvtepi32_ps(_mm256_maskload_epi32(p + 8, _mm256_castps_si256(m.b)))};
}
/* Rounds to nearest even; in range by the caller. */
V16_INLINE v16i v16_to_i32(v16 x) {
    return (v16i){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}
V16_INLINE __m256i v16i_narrow16(v16i x) {
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
}
V16_INLINE void v16i_store_i16(int16_t *p, v16i x) {
    _mm256_storeu_si256((__m256i *)p, v16i_narrow16(x));
}
V16_INLINE __m128i v16i_narrow8(v16i x) {
    const __m256i h = v16i_narrow16(x);
    return _mm_packs_epi16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}
V16_INLINE void v16i_store_i8_n(int8_t *p, v16i x, size_t n) {
    const __m128i b = v16i_narrow8(x);
    if (n >= 16)
        _mm_storeu_si128((__m128i *)p, b);
    else
        memcpy(p, &b, n);
}

/* ---- across lanes ---- */

/* The contract's tree: s[l] += s[l + 8], + 4, + 2, + 1. */
V16_INLINE float v16_fold(v16 x) {
    const __m256 e = _mm256_add_ps(x.a, x.b);
    __m128 f = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    f = _mm_add_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_add_ss(f, _mm_movehdup_ps(f)));
}
V16_INLINE float v16_max_of(v16 x) { /* no NaN */
    const __m256 e = _mm256_max_ps(x.a, x.b);
    __m128 f = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    f = _mm_max_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_max_ss(f, _mm_movehdup_ps(f)));
}
V16_INLINE int32_t v16i_max_of(v16i x) {
    const __m256i e = _mm256_max_epi32(x.a, x.b);
    __m128i f = _mm_max_epi32(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
    f = _mm_max_epi32(f, _mm_unpackhi_epi64(f, f));
    return _mm_cvtsi128_si32(_mm_max_epi32(f, _mm_shuffle_epi32(f, 1)));
}
V16_INLINE int32_t v16i_sum_of(v16i x) {
    const __m256i e = _mm256_add_epi32(x.a, x.b);
    __m128i f = _mm_add_epi32(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
    f = _mm_add_epi32(f, _mm_unpackhi_epi64(f, f));
    return _mm_cvtsi128_si32(_mm_add_epi32(f, _mm_shuffle_epi32(f, 1)));
}

/* ---- sixteen doubles ---- */

V16_INLINE v16d v16d_zero(void) {
    const __m256d z = _mm256_setzero_pd();
    return (v16d){z, z, z, z};
}
V16_INLINE v16d v16d_add_f32(v16d s, v16 x) {
    return (v16d){_mm256_add_pd(s.a, _mm256_cvtps_pd(_mm256_castps256_ps128(x.a))),
                  _mm256_add_pd(s.b, _mm256_cvtps_pd(_mm256_extractf128_ps(x.a, 1))),
                  _mm256_add_pd(s.c, _mm256_cvtps_pd(_mm256_castps256_ps128(x.b))),
                  _mm256_add_pd(s.d, _mm256_cvtps_pd(_mm256_extractf128_ps(x.b, 1)))};
}
V16_INLINE double v16d_fold(v16d s) {
    const __m256d e = _mm256_add_pd(_mm256_add_pd(s.a, s.c), _mm256_add_pd(s.b, s.d));
    const __m128d f = _mm_add_pd(_mm256_castpd256_pd128(e), _mm256_extractf128_pd(e, 1));
    return _mm_cvtsd_f64(_mm_add_sd(f, _mm_unpackhi_pd(f, f)));
}

#endif
