/*
 * kern/x86/pack_avx2.c - the pieces of packing for AVX2.
 *
 * Rows are taken eight at a time: as many lines as the ways of a small first level cache, for rows
 * of a matrix often lie a power of two apart. A register holds the same 16 bytes of rows j and
 * j + 4, which the load brings together, so words are turned over within its halves by two steps of
 * unpacking. Sums are taken from the columns, where a register holds eight rows: taken from the
 * rows they would need sixteen registers of their own.
 *
 * Halves are read 32 bytes of a row at a time and turned over within 16, in three steps.
 */
#include <immintrin.h>
#include <stdbool.h>

#include "kern/x86/kern_x86.h"

enum {
    J = OCT_PANEL_OUTPUTS,
    LINE = 64,              /* bytes of a row in a block */
    BLOCK_BYTES = LINE * J, /* of a panel */
    WORD_COLUMN = 4 * J,
    HALF_COLUMN = 2 * J,
};

static inline __m256i two_rows(const char *low, const char *high) {
    const __m128i a = _mm_loadu_si128((const __m128i *)low);
    const __m128i b = _mm_loadu_si128((const __m128i *)high);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

/* Eight rows of a block; to is the first word of the first of them. Answers the sums of the bytes,
 * or zeros. */
static inline __attribute__((always_inline)) __m256i eight_lines(char *to, const char *src,
                                                                 size_t ld, bool sums) {
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i pairs = _mm256_setzero_si256(); /* of 16 columns: at most 16 * 256 */
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        const char *at = src + (size_t)16 * c;
        const __m256i r0 = two_rows(at, at + 4 * ld), r1 = two_rows(at + ld, at + 5 * ld);
        const __m256i r2 = two_rows(at + 2 * ld, at + 6 * ld);
        const __m256i r3 = two_rows(at + 3 * ld, at + 7 * ld);
        const __m256i lo01 = _mm256_unpacklo_epi32(r0, r1), hi01 = _mm256_unpackhi_epi32(r0, r1);
        const __m256i lo23 = _mm256_unpacklo_epi32(r2, r3), hi23 = _mm256_unpackhi_epi32(r2, r3);
        const __m256i columns[4] = {
            _mm256_unpacklo_epi64(lo01, lo23), _mm256_unpackhi_epi64(lo01, lo23),
            _mm256_unpacklo_epi64(hi01, hi23), _mm256_unpackhi_epi64(hi01, hi23)};
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++) {
            _mm256_storeu_si256((__m256i *)(to + (size_t)(4 * c + t) * WORD_COLUMN), columns[t]);
            if (sums) pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(ones, columns[t]));
        }
    }
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

static inline __attribute__((always_inline)) void words(char *to, int32_t *sums, const char *src,
                                                        size_t ld, size_t n_blocks) {
    __m256i low = _mm256_setzero_si256(), high = low;
    for (size_t i = 0; i < n_blocks; i++, to += BLOCK_BYTES, src += LINE) {
        low = _mm256_add_epi32(low, eight_lines(to, src, ld, sums != NULL));
        high = _mm256_add_epi32(high, eight_lines(to + 32, src + 8 * ld, ld, sums != NULL));
    }
    if (!sums) return;
    __m256i *out = (__m256i *)(void *)sums;
    _mm256_storeu_si256(out, _mm256_add_epi32(_mm256_loadu_si256(out), low));
    _mm256_storeu_si256(out + 1, _mm256_add_epi32(_mm256_loadu_si256(out + 1), high));
}

OCT_DECL_PACK_WORDS(oct_pack_words_avx2) {
    if (sums)
        words(to, sums, src, ld_bytes, n_blocks);
    else
        words(to, NULL, src, ld_bytes, n_blocks);
}

/* One of three steps: what lies in the lower 8 bytes of rows j and j + 4, then in the upper. */
static inline void interleave(__m256i to[8], const __m256i from[8]) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        to[2 * j] = _mm256_unpacklo_epi16(from[j], from[j + 4]);
        to[2 * j + 1] = _mm256_unpackhi_epi16(from[j], from[j + 4]);
    }
}

/* Sixteen halves of each of eight rows; to is the first half of the first of them. */
static inline void eight_rows(char *to, const char *src, size_t ld) {
    __m256i a[8], b[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) a[j] = _mm256_loadu_si256((const __m256i *)(src + j * ld));
    interleave(b, a);
    interleave(a, b);
    interleave(b, a);
#pragma GCC unroll 8
    for (int t = 0; t < 8; t++) {
        char *column = to + (size_t)t * HALF_COLUMN;
        _mm_storeu_si128((__m128i *)column, _mm256_castsi256_si128(b[t]));
        _mm_storeu_si128((__m128i *)(column + (size_t)8 * HALF_COLUMN),
                         _mm256_extracti128_si256(b[t], 1));
    }
}

OCT_DECL_PACK_HALVES(oct_pack_halves_avx2) {
    char *block = to;
    const char *line = src;
    for (size_t i = 0; i < n_blocks; i++, block += BLOCK_BYTES, line += LINE)
        for (unsigned j = 0; j < J; j += 8) {
            const char *rows = line + j * ld_bytes;
            eight_rows(block + (size_t)2 * j, rows, ld_bytes);
            eight_rows(block + (size_t)2 * j + (size_t)16 * HALF_COLUMN, rows + 32, ld_bytes);
        }
}
