/*
 * gemm_i8, product_i8 and gemm_i16 for AVX-512 with VNNI.
 *
 * VPDPBUSD multiplies unsigned by signed bytes and adds four products into each of 16 sums without
 * saturating. Rows become unsigned by q ^ 0x80 = q + 128; what that adds, 128 times the sum of the
 * weights, is taken off where the sums start (colsum comes with the packed matrix). On the way a
 * sum may pass the range of int32; it wraps, and the true result, which fits, comes out.
 *
 * Tiles of 6 rows x 4 panels: 24 sums, 4 weights, one broadcast. The row is broadcast by a load of
 * its own, because the instruction takes a broadcast from memory only on the signed side. The sums
 * leave the registers as outputs where an epilogue is named.
 *
 * gemm_i16 widens 8 outputs x 4 k to 16 bits and uses VPDPWSSD; two partial sums of an output stand
 * side by side and are joined at the end. Its matrices are those of attention, small enough to stay
 * in the first level cache, so nothing is cut.
 */
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "kern/pack.h"
#include "kern/x86/kern_x86.h"

#define INLINE static inline __attribute__((always_inline))

/* Says that a sum lives in one register across the loop (see gemm_i8_avx2.c). */
#define KEEP(sum) __asm__("" : "+v"(sum))

enum {
    J = OCT_PANEL_OUTPUTS,
    ROWS = 6,
    SIDE = 4,        /* panels of a tile */
    CHUNK = 640,     /* k at most: 40 KiB of weights under a sweep of rows */
    FEW = 12,        /* rows up to which the weights are read once from front to back */
    PREFETCH = 2048, /* bytes ahead in a panel */
};

OCT_DECL_ROW_BYTES_I8(oct_row_bytes_i8_avx512) {
    return (size_t)oct_pack_kpad(k) | 64; /* an odd number of cache lines: rows spread over sets */
}

OCT_DECL_PREP_ROWS_I8(oct_prep_rows_i8_avx512) {
    const size_t row_bytes = oct_row_bytes_i8_avx512(k);
    const uint32_t kpad = oct_pack_kpad(k);
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    for (uint32_t i = 0; i < m; i++) {
        const int8_t *from = q + i * ldq;
        char *to = (char *)out + i * row_bytes;
        for (uint32_t t = 0; t < kpad; t += 64) {
            const __mmask64 in = k - t >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (k - t)) - 1;
            const __m512i v = _mm512_maskz_loadu_epi8(in, from + t);
            _mm512_storeu_si512(to + t, _mm512_xor_si512(v, flip));
        }
    }
}

INLINE __m512i four_bytes(const uint8_t *a) {
    int32_t four;
    memcpy(&four, a, 4);
    return _mm512_set1_epi32(four);
}

/* Where the sums of some rows and panels go: to c, or, when that was the last of k, through the
 * epilogue to y. */
typedef struct dest {
    int32_t *c;
    size_t ldc;
    const int32_t *colsum;
    int first;                /* the sums start here, less what the sign cost */
    const oct_epilogue_i8 *e; /* NULL: the sums stay as they are. Else from the first output on: */
    const int32_t *ibias;
    const float *rs, *cs, *fbias;
    float *y;
    size_t ldy;
    __mmask16 last; /* outputs of the last panel that are there */
} dest;

/* The destination moved by rows and outputs. */
INLINE dest moved(const dest *d, uint32_t row, uint32_t col) {
    dest to = *d;
    to.c = d->c + row * d->ldc + col;
    to.colsum += col;
    if (!d->e) return to;
    if (d->ibias) to.ibias += col;
    if (d->rs) to.rs += row;
    to.cs += col;
    if (d->fbias) to.fbias += col;
    to.y += row * d->ldy + col;
    return to;
}

/* Row r of panel p. */
INLINE void put16(const dest *d, int r, int p, __mmask16 there, __m512i sum) {
    if (!d->e) {
        _mm512_storeu_si512(d->c + (size_t)r * d->ldc + p * J, sum);
        return;
    }
    float *y = d->y + (size_t)r * d->ldy + p * J;
    if (d->ibias) sum = _mm512_add_epi32(sum, _mm512_maskz_loadu_epi32(there, d->ibias + p * J));
    __m512 v = _mm512_cvtepi32_ps(sum);
    if (d->rs) v = _mm512_mul_ps(v, _mm512_set1_ps(d->rs[r]));
    v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(there, d->cs + p * J));
    if (d->fbias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(there, d->fbias + p * J));
    if (d->e->add) v = _mm512_add_ps(_mm512_maskz_loadu_ps(there, y), v);
    _mm512_mask_storeu_ps(y, there, v);
}

/* n rows x np panels over groups of four k. */
INLINE void tile(const int n, const int np, const uint8_t *a, size_t row_bytes, const int8_t *b,
                 size_t panel_bytes, uint32_t groups, const dest *d) {
    __m512i s[ROWS][SIDE];
#pragma GCC unroll 8
    for (int p = 0; p < np; p++) {
        const __m512i sign = _mm512_slli_epi32(_mm512_loadu_si512(d->colsum + p * J), 7);
        const __m512i start = _mm512_sub_epi32(_mm512_setzero_si512(), sign);
#pragma GCC unroll 8
        for (int r = 0; r < n; r++)
            s[r][p] = d->first ? start : _mm512_loadu_si512(d->c + (size_t)r * d->ldc + p * J);
    }
    for (uint32_t g = 0; g < groups; g++) {
        __m512i w[SIDE];
#pragma GCC unroll 8
        for (int p = 0; p < np; p++) {
            const int8_t *from = b + (size_t)p * panel_bytes + (size_t)g * 64;
            w[p] = _mm512_loadu_si512(from);
            _mm_prefetch(from + PREFETCH, _MM_HINT_T0);
        }
#pragma GCC unroll 8
        for (int r = 0; r < n; r++) {
            const __m512i x = four_bytes(a + (size_t)r * row_bytes + (size_t)g * 4);
#pragma GCC unroll 8
            for (int p = 0; p < np; p++) {
                s[r][p] = _mm512_dpbusd_epi32(s[r][p], x, w[p]);
                KEEP(s[r][p]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n; r++)
#pragma GCC unroll 8
        for (int p = 0; p < np; p++)
            put16(d, r, p, p == np - 1 ? d->last : (__mmask16)0xffff, s[r][p]);
}

#define BY_ROWS(tile, n, np, ...) \
    switch (n) {                  \
    case 1:                       \
        tile(1, np, __VA_ARGS__); \
        break;                    \
    case 2:                       \
        tile(2, np, __VA_ARGS__); \
        break;                    \
    case 3:                       \
        tile(3, np, __VA_ARGS__); \
        break;                    \
    case 4:                       \
        tile(4, np, __VA_ARGS__); \
        break;                    \
    case 5:                       \
        tile(5, np, __VA_ARGS__); \
        break;                    \
    default:                      \
        tile(6, np, __VA_ARGS__); \
        break;                    \
    }

/* All rows over np panels, k in pieces of about equal length. */
INLINE void sweep(const int np, const uint8_t *a, size_t row_bytes, uint32_t m, const int8_t *b,
                  size_t panel_bytes, uint32_t kpad, const dest *d) {
    const uint32_t chunk = m <= FEW ? kpad : CHUNK, n_pieces = (kpad + chunk - 1) / chunk;
    const uint32_t piece = ((kpad + n_pieces - 1) / n_pieces + 63) / 64 * 64;
    for (uint32_t k0 = 0; k0 < kpad; k0 += piece) {
        const uint32_t groups = (kpad - k0 < piece ? kpad - k0 : piece) / 4;
        for (uint32_t i = 0; i < m; i += ROWS) {
            dest to = moved(d, i, 0);
            to.first = k0 == 0;
            if (kpad - k0 > piece) to.e = NULL;
            BY_ROWS(tile, m - i, np, a + i * row_bytes + k0, row_bytes, b + (size_t)k0 * J,
                    panel_bytes, groups, &to);
        }
    }
}

/* As many panels from output col on as a tile takes; returns how many. */
static uint32_t some_panels(const void *rows, size_t row_bytes, uint32_t m, const int8_t *b,
                            size_t panel_bytes, uint32_t kpad, uint32_t left, const dest *d) {
    if (left >= SIDE) {
        sweep(SIDE, rows, row_bytes, m, b, panel_bytes, kpad, d);
        return SIDE;
    }
    if (left == 3) {
        sweep(3, rows, row_bytes, m, b, panel_bytes, kpad, d);
        return 3;
    }
    if (left == 2) {
        sweep(2, rows, row_bytes, m, b, panel_bytes, kpad, d);
        return 2;
    }
    sweep(1, rows, row_bytes, m, b, panel_bytes, kpad, d);
    return 1;
}

OCT_DECL_GEMM_I8(oct_gemm_i8_avx512) {
    const dest d = {.c = c, .ldc = ldc, .colsum = colsum};
    for (uint32_t p = 0; p < n_panels;) {
        const dest to = moved(&d, 0, p * J);
        p += some_panels(rows, row_bytes, m, panels + p * panel_bytes, panel_bytes, kpad,
                         n_panels - p, &to);
    }
}

OCT_DECL_PRODUCT_I8(oct_product_i8_avx512) {
    const uint32_t n_panels = (n + J - 1) / J;
    const dest d = {.c = c,
                    .ldc = SIDE * J,
                    .colsum = colsum,
                    .e = e,
                    .ibias = e->ibias,
                    .rs = e->rs,
                    .cs = e->cs,
                    .fbias = e->fbias,
                    .y = y,
                    .ldy = ldy};
    for (uint32_t p = 0; p < n_panels;) {
        dest to = moved(&d, 0, p * J);
        const bool ends = n_panels - p <= SIDE;
        to.c = c;
        to.last = ends ? (__mmask16)(0xffffu >> (n_panels * J - n)) : (__mmask16)0xffff;
        p += some_panels(rows, row_bytes, m, panels + p * panel_bytes, panel_bytes, kpad,
                         n_panels - p, &to);
    }
}

INLINE __m512i row_group(const int16_t *a) {
    long long four;
    memcpy(&four, a, 8);
    return _mm512_set1_epi64(four);
}

/* Joins the two partial sums of 16 outputs. */
INLINE void put_pairs(int32_t *c, __m512i lo, __m512i hi) {
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    _mm512_storeu_si512(c, _mm512_add_epi32(_mm512_permutex2var_epi32(lo, even, hi),
                                            _mm512_permutex2var_epi32(lo, odd, hi)));
}

/* n rows x np panels, np at most 2; two vectors of sums a row and panel. */
INLINE void tile16(const int n, const int np, const int16_t *a, size_t lda, const int8_t *b,
                   size_t panel_bytes, uint32_t groups, int32_t *c, size_t ldc) {
    __m512i s[ROWS][4];
#pragma GCC unroll 8
    for (int r = 0; r < n; r++)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * np; v++) s[r][v] = _mm512_setzero_si512();
    for (uint32_t g = 0; g < groups; g++) {
        __m512i w[4];
#pragma GCC unroll 8
        for (int v = 0; v < 2 * np; v++) {
            const int8_t *from = b + (size_t)(v / 2) * panel_bytes + (size_t)g * 64 + v % 2 * 32;
            w[v] = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)from));
        }
#pragma GCC unroll 8
        for (int r = 0; r < n; r++) {
            const __m512i x = row_group(a + (size_t)r * lda + (size_t)g * 4);
#pragma GCC unroll 8
            for (int v = 0; v < 2 * np; v++) {
                s[r][v] = _mm512_dpwssd_epi32(s[r][v], x, w[v]);
                KEEP(s[r][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n; r++)
#pragma GCC unroll 8
        for (int p = 0; p < np; p++)
            put_pairs(c + (size_t)r * ldc + p * J, s[r][2 * p], s[r][2 * p + 1]);
}

OCT_DECL_GEMM_I16(oct_gemm_i16_avx512) {
    uint32_t p = 0;
    for (; p + 2 <= n_panels; p += 2)
        for (uint32_t i = 0; i < m; i += ROWS)
            BY_ROWS(tile16, m - i, 2, a + i * lda, lda, panels + p * panel_bytes, panel_bytes,
                    k / 4, c + i * ldc + (size_t)p * J, ldc);
    for (uint32_t i = 0; p < n_panels && i < m; i += ROWS)
        BY_ROWS(tile16, m - i, 1, a + i * lda, lda, panels + p * panel_bytes, panel_bytes, k / 4,
                c + i * ldc + (size_t)p * J, ldc);
}
