/*
 * kern/pack.c - a transpose of 4-byte groups (int8) or of elements (float) in blocks of 16 rows.
 *
 * Whole panels are written front to back, 1 KiB at a time, and the row sums are taken in the same
 * visit. That runs at about the speed of memory; outputs that do not fill a panel go one by one.
 */
#include "kern/pack.h"

#include <string.h>

enum {
    J = OCT_PANEL_OUTPUTS,
    STRIP =
        1024, /* k values of 16 rows: 16 KiB read and 16 KiB written stay in a first level cache */
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

/* The sum of 64 signed bytes: made unsigned, added eight at a time in four lanes of 16 bits. */
static int32_t sum_line(const uint32_t line[OCT_PANEL_K_UNIT / 4]) {
    const uint64_t low = 0x00ff00ff00ff00ffu, flip = 0x8080808080808080u;
    uint64_t lanes = 0;
    for (unsigned t = 0; t < OCT_PANEL_K_UNIT / 4; t += 2) {
        uint64_t w;
        memcpy(&w, line + t, 8);
        w ^= flip;
        lanes += (w & low) + (w >> 8 & low);
    }
    lanes = (lanes & 0x0000ffff0000ffffu) + (lanes >> 16 & 0x0000ffff0000ffffu);
    return (int32_t)((lanes & 0xffffffffu) + (lanes >> 32)) - 128 * OCT_PANEL_K_UNIT;
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

/* 16 rows x 64 k, which is 1 KiB of a panel. Lines are copied in first: rows of a matrix often lie
 * a power of two apart, and sixteen of them would evict each other from a set of the cache. */
static void pack_block(int8_t *to, int32_t *sums, const int8_t *src, size_t ld, uint32_t n) {
    uint32_t block[J][OCT_PANEL_K_UNIT / 4];
    for (unsigned j = 0; j < J; j++) {
        if (n == OCT_PANEL_K_UNIT) {
            memcpy(block[j], src + j * ld, OCT_PANEL_K_UNIT);
        } else {
            memset(block[j], 0, sizeof block[j]);
            memcpy(block[j], src + j * ld, n);
        }
        sums[j] += sum_line(block[j]);
    }
    for (unsigned t = 0; t < OCT_PANEL_K_UNIT / 4; t++)
        for (unsigned j = 0; j < J; j++) memcpy(to + (t * J + j) * 4, &block[j][t], 4);
}

/* Sixteen rows that fill a panel. */
static void pack_panel(int8_t *panel, int32_t *colsum, const int8_t *src, size_t ld, uint32_t k) {
    int32_t sums[J] = {0};
    for (uint32_t k0 = 0; k0 < k; k0 += OCT_PANEL_K_UNIT)
        pack_block(panel + (size_t)k0 * J, sums, src + k0, ld,
                   k - k0 < OCT_PANEL_K_UNIT ? k - k0 : OCT_PANEL_K_UNIT);
    if (colsum) memcpy(colsum, sums, sizeof sums);
}

void oct_pack_i8(int8_t *panels, int32_t *colsum, const int8_t *src, size_t ld_src, uint32_t n,
                 uint32_t k, uint32_t n0) {
    const size_t panel_bytes = oct_pack_panel_bytes_i8(k);
    uint32_t i = 0;
    while (i < n) {
        const uint32_t at = n0 + i;
        const int8_t *row = src + i * ld_src;
        if (at % J == 0 && n - i >= J) {
            pack_panel(panels + at / J * panel_bytes, colsum ? colsum + at : NULL, row, ld_src, k);
            i += J;
        } else {
            pack_row(panels, row, k, at);
            if (colsum) colsum[at] = sum_i8(row, k);
            i++;
        }
    }
}

void oct_pack_i8_finish(int8_t *panels, int32_t *colsum, uint32_t n, uint32_t k) {
    const size_t panel_bytes = oct_pack_panel_bytes_i8(k);
    for (; n % J != 0; n++) {
        for (uint32_t t = 0; t < oct_pack_kpad(k) / 4; t++)
            memset(group_at(panels, panel_bytes, n, t), 0, 4);
        if (colsum) colsum[n] = 0;
    }
}

void oct_unpack_i8(int8_t *dst, const int8_t *panels, uint32_t n, uint32_t k) {
    const size_t panel_bytes = oct_pack_panel_bytes_i8(k);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t t = 0; t < k; t++)
            dst[(size_t)i * k + t] =
                panels[i / J * panel_bytes + ((size_t)(t / 4) * J + i % J) * 4 + t % 4];
}

/* Element (output n, k t) of a packed float matrix, in elements from its start. */
static inline size_t float_at(uint32_t n, uint32_t t, uint32_t k) {
    return ((size_t)(n / J) * k + t) * J + n % J;
}

/* Sixteen rows that fill a panel, for one element size. */
static void panel_16(uint16_t *to, const uint16_t *src, size_t ld, uint32_t k) {
    for (uint32_t t = 0; t < k; t++)
        for (unsigned j = 0; j < J; j++) to[(size_t)t * J + j] = src[j * ld + t];
}
static void panel_32(uint32_t *to, const uint32_t *src, size_t ld, uint32_t k) {
    for (uint32_t t = 0; t < k; t++)
        for (unsigned j = 0; j < J; j++) to[(size_t)t * J + j] = src[j * ld + t];
}

void oct_pack_float(void *panels, oct_pack_type type, const void *src, size_t ld_src, uint32_t n,
                    uint32_t k, uint32_t n0) {
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
                panel_32(to32 + float_at(at, 0, k), row32, ld_src, k);
            else
                panel_16(to16 + float_at(at, 0, k), row16, ld_src, k);
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

void oct_pack_float_finish(void *panels, oct_pack_type type, uint32_t n, uint32_t k) {
    const size_t elem = oct_pack_elem_bytes(type);
    for (; n % J != 0; n++)
        for (uint32_t t = 0; t < k; t++) memset((char *)panels + float_at(n, t, k) * elem, 0, elem);
}

void oct_unpack_float(void *dst, oct_pack_type type, const void *panels, uint32_t n, uint32_t k) {
    const size_t elem = oct_pack_elem_bytes(type);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t t = 0; t < k; t++)
            memcpy((char *)dst + ((size_t)i * k + t) * elem,
                   (const char *)panels + float_at(i, t, k) * elem, elem);
}
