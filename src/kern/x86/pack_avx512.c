/*
 * kern/x86/pack_avx512.c - packing words for AVX-512 with VNNI.
 *
 * A register holds the same 32 bytes of rows j and j + 4, which the load brings together. Two steps
 * of unpacking turn four of them over within 16 bytes, a third picks two columns from rows 0 .. 7
 * and 8 .. 15. Whole lines are read before anything else, for rows of a matrix often lie a power of
 * two apart and evict each other from the first level cache.
 *
 * Halves would need more shuffles here than with AVX2, of which a core does two at a time.
 */
#include <immintrin.h>

#include "kern/x86/kern_x86.h"

enum {
    J = OCT_PANEL_OUTPUTS,
    LINE = 64,              /* bytes of a row in a block, and of a column of 16 words */
    BLOCK_BYTES = LINE * J, /* of a panel */
};

static inline __m512i two_rows(const char *low, const char *high) {
    const __m256i a = _mm256_loadu_si256((const __m256i *)low);
    const __m256i b = _mm256_loadu_si256((const __m256i *)high);
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

/* v[j]: 8 words of rows j and j + 4. After it v[t] is words t and t + 4 of rows 0 .. 3, then of
 * rows 4 .. 7. */
static inline void turn_quads(__m512i v[4]) {
    const __m512i lo01 = _mm512_unpacklo_epi32(v[0], v[1]);
    const __m512i hi01 = _mm512_unpackhi_epi32(v[0], v[1]);
    const __m512i lo23 = _mm512_unpacklo_epi32(v[2], v[3]);
    const __m512i hi23 = _mm512_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm512_unpacklo_epi64(lo01, lo23);
    v[1] = _mm512_unpackhi_epi64(lo01, lo23);
    v[2] = _mm512_unpacklo_epi64(hi01, hi23);
    v[3] = _mm512_unpackhi_epi64(hi01, hi23);
}

/* A column of 16 words goes to its place; sum grows by the four bytes of each. */
static inline __m512i put(char *to, int column, __m512i v, __m512i sum) {
    _mm512_storeu_si512(to + (size_t)column * LINE, v);
    return _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), v);
}

OCT_DECL_PACK_WORDS(oct_pack_words_avx512) {
    char *block = to;
    const char *line = src;
    __m512i sum[4]; /* four chains, for a link takes some clocks */
    for (int t = 0; t < 4; t++) sum[t] = _mm512_setzero_si512();
    for (size_t i = 0; i < n_blocks; i++, block += BLOCK_BYTES, line += LINE) {
        __m512i v[2][2][4]; /* [half of the line][rows 0 .. 7 or 8 .. 15] */
#pragma GCC unroll 2
        for (int r = 0; r < 2; r++)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const char *low = line + (8 * r + j) * ld_bytes, *high = low + 4 * ld_bytes;
                v[0][r][j] = two_rows(low, high);
                v[1][r][j] = two_rows(low + LINE / 2, high + LINE / 2);
            }
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            turn_quads(v[h][0]);
            turn_quads(v[h][1]);
#pragma GCC unroll 4
            for (int t = 0; t < 4; t++) {
                const __m512i a = v[h][0][t], b = v[h][1][t];
                sum[t] = put(block, 8 * h + t, _mm512_shuffle_i32x4(a, b, 0x88), sum[t]);
                sum[t] = put(block, 8 * h + 4 + t, _mm512_shuffle_i32x4(a, b, 0xdd), sum[t]);
            }
        }
    }
    if (!sums) return;
    const __m512i all =
        _mm512_add_epi32(_mm512_add_epi32(sum[0], sum[1]), _mm512_add_epi32(sum[2], sum[3]));
    _mm512_storeu_si512(sums, _mm512_add_epi32(_mm512_loadu_si512(sums), all));
}
