/*
 * gemm_i8, product_i8 and gemm_i16 for AVX2: widen the weights to 16 bits, multiply, add pairs
 * into 32.
 *
 * Rows are 16-bit here (prep_rows_i8 widens them once per layer), so the slots are one product. Its
 * sums leave the registers once: as they are, or as outputs of the epilogue.
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
    ROWS = 6,    /* of a tile */
    CHUNK = 768, /* k at most: 12 KiB of packed bytes and 9 KiB of rows, while many rows pass */
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

/* Where the sums of some rows and 16 outputs go: to c, or, when that was the last of k, through the
 * epilogue to y. */
typedef struct dest {
    int32_t *c;
    size_t ldc;
    int accumulate;           /* c holds the sums of the k before */
    const oct_epilogue_i8 *e; /* NULL: the sums stay as they are. Else from the first output on: */
    const int32_t *ibias;
    const float *rs, *cs, *fbias;
    float *y;
    size_t ldy;
} dest;

/* The destination moved by rows and outputs. */
INLINE dest moved(const dest *d, uint32_t row, uint32_t col) {
    dest to = *d;
    to.c = d->c + row * d->ldc + col;
    if (!d->e) return to;
    if (d->ibias) to.ibias += col;
    if (d->rs) to.rs += row;
    to.cs += col;
    if (d->fbias) to.fbias += col;
    to.y += row * d->ldy + col;
    return to;
}

INLINE __m256i load8(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* Joins the pairs of outputs 8 * half .. of row r, adds what is there and passes them on. */
INLINE void put8(const dest *d, int r, int half, __m256i lo, __m256i hi) {
    __m256i sum = _mm256_permute4x64_epi64(_mm256_hadd_epi32(lo, hi), 0xd8);
    int32_t *c = d->c + (size_t)r * d->ldc + half * 8;
    if (d->accumulate) sum = _mm256_add_epi32(sum, load8(c));
    if (!d->e) {
        _mm256_storeu_si256((__m256i *)c, sum);
        return;
    }
    float *y = d->y + (size_t)r * d->ldy + half * 8;
    if (d->ibias) sum = _mm256_add_epi32(sum, load8(d->ibias + half * 8));
    __m256 v = _mm256_cvtepi32_ps(sum);
    if (d->rs) v = _mm256_mul_ps(v, _mm256_broadcast_ss(d->rs + r));
    v = _mm256_mul_ps(v, _mm256_loadu_ps(d->cs + half * 8));
    if (d->fbias) v = _mm256_add_ps(v, _mm256_loadu_ps(d->fbias + half * 8));
    if (d->e->add) v = _mm256_add_ps(_mm256_loadu_ps(y), v);
    _mm256_storeu_ps(y, v);
}

/* n rows x outputs 8 * half .. straight from a panel. */
INLINE void tile(const int n, const int16_t *a, size_t lda, const int8_t *b, uint32_t groups,
                 int half, const dest *d) {
    __m256i s0[ROWS], s1[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < n; r++) s0[r] = s1[r] = _mm256_setzero_si256();
    for (uint32_t g = 0; g < groups; g++) {
        const int8_t *from = b + (size_t)g * 64 + half * 32;
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
    for (int r = 0; r < n; r++) put8(d, r, half, s0[r], s1[r]);
}

/* One or two rows x 16 outputs: the panel is read once. */
INLINE void tile_pair(const int n, const int16_t *a, size_t lda, const int8_t *b, uint32_t groups,
                      const dest *d) {
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
        put8(d, r, 0, s[r][0], s[r][1]);
        put8(d, r, 1, s[r][2], s[r][3]);
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

/* The 16 outputs of one panel, k in pieces of about equal length, at most chunk. */
INLINE void cut_k(const int16_t *a, size_t lda, uint32_t m, const int8_t *panel, uint32_t k,
                  uint32_t chunk, const dest *d) {
    const uint32_t n_pieces = (k + chunk - 1) / chunk;
    const uint32_t piece = ((k + n_pieces - 1) / n_pieces + 3) / 4 * 4;
    for (uint32_t k0 = 0; k0 < k; k0 += piece) {
        const uint32_t groups = (k - k0 < piece ? k - k0 : piece) / 4;
        for (uint32_t i = 0, rows; i < m; i += rows) {
            dest to = moved(d, i, 0);
            to.accumulate = k0 != 0;
            if (k - k0 > piece) to.e = NULL;
            rows = next_rows(m - i);
            for (int half = 0; half < 2; half++)
                BY_ROWS(tile, rows, a + i * lda + k0, lda, panel + (size_t)k0 * J, groups, half,
                        &to);
        }
    }
}

static void one_panel(const int16_t *a, size_t lda, uint32_t m, const int8_t *panel, uint32_t k,
                      const dest *d) {
    if (m == 1)
        tile_pair(1, a, lda, panel, k / 4, d);
    else if (m == 2)
        tile_pair(2, a, lda, panel, k / 4, d);
    else
        cut_k(a, lda, m, panel, k, m <= FEW ? FEW_CHUNK : CHUNK, d);
}

OCT_DECL_GEMM_I16(oct_gemm_i16_avx2) {
    const dest d = {.c = c, .ldc = ldc};
    for (uint32_t p = 0; p < n_panels; p++) {
        const dest to = moved(&d, 0, p * J);
        one_panel(a, lda, m, panels + p * panel_bytes, k, &to);
    }
}

OCT_DECL_GEMM_I8(oct_gemm_i8_avx2) {
    (void)colsum;
    oct_gemm_i16_avx2(rows, row_bytes / sizeof(int16_t), m, panels, kpad, panel_bytes, n_panels, c,
                      ldc);
}

OCT_DECL_PRODUCT_I8(oct_product_i8_avx2) {
    (void)colsum;
    const size_t lda = row_bytes / sizeof(int16_t);
    const dest d = {.c = c,
                    .ldc = J,
                    .e = e,
                    .ibias = e->ibias,
                    .rs = e->rs,
                    .cs = e->cs,
                    .fbias = e->fbias,
                    .y = y,
                    .ldy = ldy};
    uint32_t col = 0;
    for (; n - col >= J; col += J) {
        dest to = moved(&d, 0, col);
        to.c = c;
        one_panel(rows, lda, m, panels + col / J * panel_bytes, kpad, &to);
    }
    if (col == n) return;
    const oct_epilogue_i8 last = {.ibias = e->ibias ? e->ibias + col : NULL,
                                  .rs = e->rs,
                                  .cs = e->cs + col,
                                  .fbias = e->fbias ? e->fbias + col : NULL,
                                  .add = e->add};
    oct_gemm_i16_avx2(rows, lda, m, panels + col / J * panel_bytes, kpad, panel_bytes, 1, c, J);
    oct_epilogue_i8_avx2(c, J, m, n - col, &last, y + col, ldy);
}
