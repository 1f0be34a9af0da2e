/*
 * gemm_i8 and gemm_i16 for AVX2: widen the weights to 16 bits, multiply, add pairs into 32.
 *
 * Rows are 16-bit here (prep_rows_i8 widens them once per layer), so both slots are one product.
 * Four k of a row are broadcast as 64 bits against four outputs x 4 k of the panel; VPMADDWD leaves
 * two partial sums an output, which one VPHADDD joins at the end.
 *
 * Not VPMADDUBSW with the sign trick, which would skip the widening: the trick needs -b, int8 has
 * no +128, and -128 is legal. Its pair sums saturate at 16 bits besides.
 *
 * Tiles of 6 rows x 8 outputs, 12 sums in 16 registers. The weights are widened anew for every
 * tile: two loads that convert, beside 24 instructions that multiply and add. A buffer of widened
 * panels was tried and was not faster, for it doubles what the first level cache must hold.
 *
 * VPMADDWD does not accumulate, and its companion VPADDD competes for the same pipes: a loop of the
 * two from registers reaches three quarters of VPMADDWD alone, and that is the ceiling here
 * (`octet bench kernels` measures both).
 */
#include <immintrin.h>
#include <string.h>

#include "kern/pack.h"
#include "kern/x86/kern_x86.h"

#define INLINE static inline __attribute__((always_inline))

/* Says that a sum lives in one register across the loop. Without it gcc 12 gives every sum two and
 * copies and spills between them, which halves the speed of the tiles below. */
#define KEEP(sum) __asm__("" : "+x"(sum))

enum {
    J = OCT_PANEL_OUTPUTS,
    ROWS = 6,         /* of a tile */
    CHUNK = 512,      /* k: 8 KiB of packed bytes and 6 KiB of rows, while many rows pass */
    FEW_CHUNK = 1024, /* k: 16 KiB of packed bytes, passed twice for every tile */
    FEW = 48,         /* rows up to which a panel is read once from front to back */
    PREFETCH = 2048,  /* bytes ahead in the packed stream: beyond the page the hardware stops at */
};

OCT_DECL_ROW_BYTES_I8(oct_row_bytes_i8_avx2) {
    /* An odd number of cache lines, so that rows do not fall on the same sets. */
    return (size_t)oct_pack_kpad(k) * 2 | 64;
}

OCT_DECL_PREP_ROWS_I8(oct_prep_rows_i8_avx2) {
    const size_t row_bytes = oct_row_bytes_i8_avx2(k);
    const uint32_t kpad = oct_pack_kpad(k);
    for (uint32_t i = 0; i < m; i++) {
        const int8_t *from = q + i * ldq;
        int16_t *to = (int16_t *)((char *)out + i * row_bytes);
        uint32_t t = 0;
        for (; t + 16 <= k; t += 16) {
            const __m128i v = _mm_loadu_si128((const __m128i *)(from + t));
            _mm256_store_si256((__m256i *)(to + t), _mm256_cvtepi8_epi16(v));
        }
        for (; t < k; t++) to[t] = from[t];
        memset(to + k, 0, (kpad - k) * sizeof *to);
    }
}

INLINE __m256i row_group(const int16_t *a) {
    long long four;
    memcpy(&four, a, 8);
    return _mm256_set1_epi64x(four);
}

/* Joins the pairs of 8 outputs and stores them, or adds them to what is there. */
INLINE void put8(int32_t *c, __m256i lo, __m256i hi, int accumulate) {
    __m256i v = _mm256_permute4x64_epi64(_mm256_hadd_epi32(lo, hi), 0xd8);
    if (accumulate) v = _mm256_add_epi32(v, _mm256_loadu_si256((const __m256i *)c));
    _mm256_storeu_si256((__m256i *)c, v);
}

/* n rows x 8 outputs straight from a panel; b is the panel's group plus 0 or 32 bytes. */
INLINE void tile(const int n, const int16_t *a, size_t lda, const int8_t *b, uint32_t groups,
                 int32_t *c, size_t ldc, int accumulate) {
    __m256i s0[ROWS], s1[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < n; r++) s0[r] = s1[r] = _mm256_setzero_si256();
    for (uint32_t g = 0; g < groups; g++) {
        const int8_t *from = b + (size_t)g * 64;
        _mm_prefetch(from + PREFETCH, _MM_HINT_T0);
        const __m256i b0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from));
        const __m256i b1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(from + 16)));
#pragma GCC unroll 8
        for (int r = 0; r < n; r++) {
            const __m256i x = row_group(a + (size_t)r * lda + (size_t)g * 4);
            s0[r] = _mm256_add_epi32(s0[r], _mm256_madd_epi16(x, b0));
            s1[r] = _mm256_add_epi32(s1[r], _mm256_madd_epi16(x, b1));
            KEEP(s0[r]);
            KEEP(s1[r]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n; r++) put8(c + (size_t)r * ldc, s0[r], s1[r], accumulate);
}

/* One or two rows x 16 outputs: the panel is read once. */
INLINE void tile_pair(const int n, const int16_t *a, size_t lda, const int8_t *b, uint32_t groups,
                      int32_t *c, size_t ldc) {
    __m256i s[2][4];
#pragma GCC unroll 8
    for (int r = 0; r < n; r++)
#pragma GCC unroll 8
        for (int v = 0; v < 4; v++) s[r][v] = _mm256_setzero_si256();
    for (uint32_t g = 0; g < groups; g++) {
        const int8_t *from = b + (size_t)g * 64;
        _mm_prefetch(from + PREFETCH, _MM_HINT_T0);
        __m256i x[2];
#pragma GCC unroll 8
        for (int r = 0; r < n; r++) x[r] = row_group(a + (size_t)r * lda + (size_t)g * 4);
#pragma GCC unroll 8
        for (int v = 0; v < 4; v++) {
            const __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from + v));
#pragma GCC unroll 8
            for (int r = 0; r < n; r++) {
                s[r][v] = _mm256_add_epi32(s[r][v], _mm256_madd_epi16(x[r], w));
                KEEP(s[r][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n; r++) {
        put8(c + (size_t)r * ldc, s[r][0], s[r][1], 0);
        put8(c + (size_t)r * ldc + 8, s[r][2], s[r][3], 0);
    }
}

/* Rows of the next tile when left remain: tiles of about equal height, because a low one costs
 * nearly as much as a full one (16 rows: 6 5 5, not 6 6 4). */
static inline uint32_t next_rows(uint32_t left) {
    const uint32_t tiles = (left + ROWS - 1) / ROWS;
    return (left + tiles - 1) / tiles;
}

/* 1 to 6 rows, each number with its own unrolled body. */
#define BY_ROWS(tile, n, ...) \
    switch (n) {              \
    case 1:                   \
        tile(1, __VA_ARGS__); \
        break;                \
    case 2:                   \
        tile(2, __VA_ARGS__); \
        break;                \
    case 3:                   \
        tile(3, __VA_ARGS__); \
        break;                \
    case 4:                   \
        tile(4, __VA_ARGS__); \
        break;                \
    case 5:                   \
        tile(5, __VA_ARGS__); \
        break;                \
    default:                  \
        tile(6, __VA_ARGS__); \
        break;                \
    }

static void few_rows(const int16_t *a, size_t lda, uint32_t m, const int8_t *panels, uint32_t k,
                     size_t panel_bytes, uint32_t n_panels, int32_t *c, size_t ldc) {
    for (uint32_t p = 0; p < n_panels; p++) {
        const int8_t *panel = panels + p * panel_bytes;
        int32_t *to = c + (size_t)p * J;
        if (m == 1) {
            tile_pair(1, a, lda, panel, k / 4, to, ldc);
            continue;
        }
        if (m == 2) {
            tile_pair(2, a, lda, panel, k / 4, to, ldc);
            continue;
        }
        for (uint32_t k0 = 0; k0 < k; k0 += FEW_CHUNK) {
            const uint32_t groups = (k - k0 < FEW_CHUNK ? k - k0 : FEW_CHUNK) / 4;
            for (uint32_t i = 0, rows; i < m; i += rows) {
                rows = next_rows(m - i);
                for (unsigned half = 0; half < 2; half++)
                    BY_ROWS(tile, rows, a + i * lda + k0, lda, panel + (size_t)k0 * J + half * 32,
                            groups, to + i * ldc + half * 8, ldc, k0 != 0);
            }
        }
    }
}

static void many_rows(const int16_t *a, size_t lda, uint32_t m, const int8_t *panels, uint32_t k,
                      size_t panel_bytes, uint32_t n_panels, int32_t *c, size_t ldc) {
    for (uint32_t k0 = 0; k0 < k; k0 += CHUNK) {
        const uint32_t groups = (k - k0 < CHUNK ? k - k0 : CHUNK) / 4;
        for (uint32_t p = 0; p < n_panels; p++) {
            const int8_t *b = panels + p * panel_bytes + (size_t)k0 * J;
            for (uint32_t i = 0, rows; i < m; i += rows) {
                rows = next_rows(m - i);
                for (unsigned half = 0; half < 2; half++)
                    BY_ROWS(tile, rows, a + i * lda + k0, lda, b + half * 32, groups,
                            c + i * ldc + (size_t)p * J + half * 8, ldc, k0 != 0);
            }
        }
    }
}

OCT_DECL_GEMM_I16(oct_gemm_i16_avx2) {
    (m <= FEW ? few_rows : many_rows)(a, lda, m, panels, k, panel_bytes, n_panels, c, ldc);
}

OCT_DECL_GEMM_I8(oct_gemm_i8_avx2) {
    (void)colsum;
    oct_gemm_i16_avx2(rows, row_bytes / sizeof(int16_t), m, panels, kpad, panel_bytes, n_panels, c,
                      ldc);
}
