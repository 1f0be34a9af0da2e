/*
 * kern/pack.c - a transpose of 4-byte groups (int8) or of elements (float) in blocks of 16 rows.
 *
 * Whole panels are written front to back, 1 KiB at a time, and the row sums are taken in the same
 * visit, by the slots of a table. The reference of these is here, in vectors of 16 bytes that every
 * instruction set has. Outputs that do not fill a panel go one by one.
 */
#include "kern/pack.h"

#include <string.h>

#include "kern/kern_ref.h"

enum {
    J = OCT_PANEL_OUTPUTS,
    LINE = 64, /* bytes of a row in a block */
};

/* Where the 4-byte group t of output n stands. */
static inline int8_t *group_at(int8_t *panels, size_t panel_bytes, uint32_t n, uint32_t t) {
    return panels + n / J * panel_bytes + ((size_t)t * J + n % J) * 4;
}

static int32_t sum_i8(const int8_t *v, uint32_t n) {
    int32_t sum = 0;
    for (uint32_t t = 0; t < n; t++) sum += v[t];
    return sum;
}

/* One row, any position: the edges of a range that does not fill its panels. */
static void pack_row(int8_t *panels, const int8_t *src, uint32_t k, uint32_t n) {
    const size_t panel_bytes = oct_pack_panel_bytes_i8(k);
    const uint32_t groups = oct_pack_kpad(k) / 4;
    int8_t *dst = group_at(panels, panel_bytes, n, 0);
    for (uint32_t t = 0; t < groups; t++, dst += J * 4) {
        const uint32_t at = t * 4;
        if (at + 4 <= k) {
            memcpy(dst, src + at, 4);
        } else {
            memset(dst, 0, 4);
            if (at < k) memcpy(dst, src + at, k - at);
        }
    }
}

/* ---- the reference of the slots -------------------------------------------------------------- */

/* Sixteen bytes as the compiler knows them on any machine. The loops over them are unrolled by
 * hand: what gcc leaves rolled at -O2 keeps its arrays in memory, at a third of the speed. */
typedef uint32_t v4u32 __attribute__((vector_size(16)));
typedef int32_t v4i32 __attribute__((vector_size(16)));
typedef int16_t v8i16 __attribute__((vector_size(16)));
typedef uint16_t v8u16 __attribute__((vector_size(16)));

static inline v4u32 load(const void *at) {
    v4u32 v;
    memcpy(&v, at, sizeof v);
    return v;
}
static inline void store(void *at, v4u32 v) { memcpy(at, &v, sizeof v); }

/* Four words of each of four rows become four columns. */
static inline void transpose_4x4(v4u32 v[4]) {
    const v4u32 a = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5);
    const v4u32 b = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
    const v4u32 c = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
    const v4u32 d = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
    v[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    v[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    v[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    v[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

/* Sums of two neighbours of 16 signed bytes. */
static inline v8i16 pair_sums(v4u32 v) {
    const v8u16 w = (v8u16)v;
    return ((v8i16)(w << 8) >> 8) + ((v8i16)w >> 8);
}

/* Words 4c .. 4c + 3 of rows at src, 16 words (a cache line) of each, to the same words of four
 * columns of a panel; sums (NULL: none) grow by those of the bytes. A row's line is read at once:
 * rows of a matrix often lie a power of two apart and evict each other from the cache. */
static inline void pack_lines(char *to, int32_t *sums, const char *src, size_t ld_bytes) {
    v4u32 v[4][4];
    v8i16 pairs = {0};
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) v[c][j] = load(src + j * ld_bytes + 16 * c);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        transpose_4x4(v[c]);
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++) {
            store(to + (size_t)(4 * c + t) * J * 4, v[c][t]);
            if (sums) pairs += pair_sums(v[c][t]); /* 16 of them: at most 4096 */
        }
    }
    if (!sums) return;
    const v4i32 all = ((v4i32)((v4u32)pairs << 16) >> 16) + ((v4i32)pairs >> 16);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) sums[j] += all[j];
}

static OCT_DECL_PACK_WORDS(pack_words_ref) {
    char *block = to;
    const char *line = src;
    for (size_t i = 0; i < n_blocks; i++, block += (size_t)LINE * J, line += LINE)
        for (unsigned j = 0; j < J; j += 4)
            pack_lines(block + (size_t)j * 4, sums ? sums + j : NULL, line + j * ld_bytes,
                       ld_bytes);
}

/* Eight halves of each of eight rows become eight columns, which lie J halves apart. */
static inline void pack_halves(uint16_t *to, const char *src, size_t ld_bytes) {
    v8u16 a[8], b[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) a[j] = (v8u16)load(src + j * ld_bytes);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) { /* rows j and j + 4, then j and j + 2 of those, ... */
        b[2 * j] = __builtin_shufflevector(a[j], a[j + 4], 0, 8, 1, 9, 2, 10, 3, 11);
        b[2 * j + 1] = __builtin_shufflevector(a[j], a[j + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        a[2 * j] = __builtin_shufflevector(b[j], b[j + 4], 0, 8, 1, 9, 2, 10, 3, 11);
        a[2 * j + 1] = __builtin_shufflevector(b[j], b[j + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        b[2 * j] = __builtin_shufflevector(a[j], a[j + 4], 0, 8, 1, 9, 2, 10, 3, 11);
        b[2 * j + 1] = __builtin_shufflevector(a[j], a[j + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
#pragma GCC unroll 8
    for (int t = 0; t < 8; t++) store(to + (size_t)t * J, (v4u32)b[t]);
}

static OCT_DECL_PACK_HALVES(pack_halves_ref) {
    uint16_t *block = to;
    const char *line = src;
    for (size_t i = 0; i < n_blocks; i++, block += (size_t)LINE / 2 * J, line += LINE)
        for (unsigned j = 0; j < J; j += 8) /* a line of each of eight rows */
            for (unsigned t = 0; t < LINE / 2; t += 8)
                pack_halves(block + (size_t)t * J + j, line + j * ld_bytes + (size_t)2 * t,
                            ld_bytes);
}

void oct_kern_init_pack_ref(oct_kern *k) {
    k->pack = (oct_kern_pack_slots){.words = pack_words_ref, .halves = pack_halves_ref};
}

/* ---- matrices -------------------------------------------------------------------------------- */

/* Sixteen rows that fill a panel. What is left of k by 64 goes through a block padded with zeros.
 */
static void panel_i8(const oct_kern_pack_slots *with, int8_t *panel, int32_t *colsum,
                     const int8_t *src, size_t ld, uint32_t k) {
    int32_t sums[J] = {0}, *wanted = colsum ? sums : NULL;
    const uint32_t whole = k / LINE * LINE;
    with->words(panel, wanted, src, ld, k / LINE);
    if (whole < k) {
        int8_t block[J][LINE] = {{0}};
        for (unsigned j = 0; j < J; j++) memcpy(block[j], src + j * ld + whole, k - whole);
        with->words(panel + (size_t)whole * J, wanted, block, LINE, 1);
    }
    if (colsum) memcpy(colsum, sums, sizeof sums);
}

void oct_pack_i8(const oct_kern_pack_slots *with, int8_t *panels, int32_t *colsum,
                 const int8_t *src, size_t ld_src, uint32_t n, uint32_t k, uint32_t n0) {
    const size_t panel_bytes = oct_pack_panel_bytes_i8(k);
    uint32_t i = 0;
    while (i < n) {
        const uint32_t at = n0 + i;
        const int8_t *row = src + i * ld_src;
        if (at % J == 0 && n - i >= J) {
            panel_i8(with, panels + at / J * panel_bytes, colsum ? colsum + at : NULL, row, ld_src,
                     k);
            i += J;
        } else {
            pack_row(panels, row, k, at);
            if (colsum) colsum[at] = sum_i8(row, k);
            i++;
        }
    }
}

/* Element (output n, k t) of a packed float matrix, in elements from its start. */
static inline size_t float_at(uint32_t n, uint32_t t, uint32_t k) {
    return ((size_t)(n / J) * k + t) * J + n % J;
}

/* Sixteen rows that fill a panel, for one element size; what is left of k goes one by one. */
static void panel_16(const oct_kern_pack_slots *with, uint16_t *to, const uint16_t *src, size_t ld,
                     uint32_t k) {
    enum { N = LINE / 2 };
    with->halves(to, src, ld * sizeof *src, k / N);
    for (uint32_t t = k / N * N; t < k; t++)
        for (unsigned j = 0; j < J; j++) to[(size_t)t * J + j] = src[j * ld + t];
}
static void panel_32(const oct_kern_pack_slots *with, uint32_t *to, const uint32_t *src, size_t ld,
                     uint32_t k) {
    enum { N = LINE / 4 };
    with->words(to, NULL, src, ld * sizeof *src, k / N);
    for (uint32_t t = k / N * N; t < k; t++)
        for (unsigned j = 0; j < J; j++) to[(size_t)t * J + j] = src[j * ld + t];
}

void oct_pack_float(const oct_kern_pack_slots *with, void *panels, oct_pack_type type,
                    const void *src, size_t ld_src, uint32_t n, uint32_t k, uint32_t n0) {
    const int wide = type == OCT_PACK_F32;
    uint32_t i = 0;
    while (i < n) {
        const uint32_t at = n0 + i;
        const uint32_t *row32 = (const uint32_t *)src + (wide ? i * ld_src : 0);
        const uint16_t *row16 = (const uint16_t *)src + (wide ? 0 : i * ld_src);
        uint32_t *to32 = panels;
        uint16_t *to16 = panels;
        if (at % J == 0 && n - i >= J) {
            if (wide)
                panel_32(with, to32 + float_at(at, 0, k), row32, ld_src, k);
            else
                panel_16(with, to16 + float_at(at, 0, k), row16, ld_src, k);
            i += J;
            continue;
        }
        for (uint32_t t = 0; t < k; t++) {
            if (wide)
                to32[float_at(at, t, k)] = row32[t];
            else
                to16[float_at(at, t, k)] = row16[t];
        }
        i++;
    }
}
