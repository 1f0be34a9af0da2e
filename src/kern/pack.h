/*
 * kern/pack.h - the one layout of packed matrices, for every instruction set.
 *
 * An int8 matrix W[n][k] (row = output) is cut into panels of 16 outputs. Panel p holds outputs
 * 16p .. 16p+15, K padded to a multiple of 64 and missing outputs filled with zeros:
 *
 *     byte ((k / 4) * 16 + j) * 4 + k % 4 of panel p  =  W[16p + j][k]        Kpad * 16 bytes
 *
 * 64 bytes are thus 16 outputs x 4 k: one row of an AMX tile, one operand of a VNNI instruction,
 * and four AVX2 loads to widen.
 *
 * A float matrix (f32, bf16, f16) is cut the same way, [n / 16][k][16], K as it is.
 *
 * Panels are addressed 64-byte aligned. Packing writes rows n0 .. n0+n-1 of a matrix, so several
 * matrices can be packed one under the other (q, k and v) and by several threads, as long as these
 * split at multiples of 16. What is behind the last row in its panel, and the sums there, must be
 * zero before: nothing writes it. Any thread.
 */
#ifndef OCT_KERN_PACK_H
#define OCT_KERN_PACK_H

#include <stddef.h>
#include <stdint.h>

enum {
    OCT_PANEL_OUTPUTS = 16,
    OCT_PANEL_K_UNIT = 64,
};

/* How the elements of a packed matrix are stored. */
typedef enum oct_pack_type {
    OCT_PACK_I8 = 0,
    OCT_PACK_F32 = 1,
    OCT_PACK_BF16 = 2,
    OCT_PACK_F16 = 3,
} oct_pack_type;

static inline uint32_t oct_pack_n_panels(uint32_t n) {
    return n / OCT_PANEL_OUTPUTS + (n % OCT_PANEL_OUTPUTS != 0);
}
/* k up to OCT_KERN_MAX_K. */
static inline uint32_t oct_pack_kpad(uint32_t k) {
    return (k + OCT_PANEL_K_UNIT - 1) / OCT_PANEL_K_UNIT * OCT_PANEL_K_UNIT;
}
static inline size_t oct_pack_panel_bytes_i8(uint32_t k) {
    return (size_t)oct_pack_kpad(k) * OCT_PANEL_OUTPUTS;
}
/* Bytes of one element; I8: 1. */
static inline size_t oct_pack_elem_bytes(oct_pack_type type) {
    return type == OCT_PACK_I8 ? 1 : type == OCT_PACK_F32 ? 4 : 2;
}
static inline size_t oct_pack_panel_bytes(oct_pack_type type, uint32_t k) {
    return type == OCT_PACK_I8 ? oct_pack_panel_bytes_i8(k)
                               : oct_pack_elem_bytes(type) * k * OCT_PANEL_OUTPUTS;
}
/* Bytes of a whole packed matrix. n and k below 2^31 and 2^17: no overflow in 64 bits. */
static inline size_t oct_pack_bytes(oct_pack_type type, uint32_t n, uint32_t k) {
    return oct_pack_panel_bytes(type, k) * oct_pack_n_panels(n);
}

/*
 * What whole panels are made of: n_blocks pieces of 16 rows x 64 bytes, side by side in rows that
 * lie ld_bytes apart, become pieces of 1 KiB of a panel, one behind the other at `to`. Nothing
 * needs to be aligned.
 *
 * words    A block is 16 x 16 words of 4 bytes, turned over: int8 in groups of four, and f32. sums
 *          (NULL: not wanted): sums[j] grows by the 64 * n_blocks signed bytes of row j.
 * halves   A block is 16 x 32 halves of 2 bytes, turned over: bf16 and f16.
 */
#define OCT_DECL_PACK_WORDS(name) \
    void(name)(void *to, int32_t *sums, const void *src, size_t ld_bytes, size_t n_blocks)
#define OCT_DECL_PACK_HALVES(name) \
    void(name)(void *to, const void *src, size_t ld_bytes, size_t n_blocks)

typedef OCT_DECL_PACK_WORDS(*oct_pack_words_fn);
typedef OCT_DECL_PACK_HALVES(*oct_pack_halves_fn);

/* The member pack of a kernel table (kern/kern.h). */
typedef struct oct_kern_pack_slots {
    oct_pack_words_fn words;
    oct_pack_halves_fn halves;
} oct_kern_pack_slots;

/* Packs src[n][ld_src] as outputs n0 .. n0+n-1 and writes their sums over k to colsum[n0 ..] (NULL:
 * not wanted). Every byte of those outputs is written, the K padding included. */
void oct_pack_i8(const oct_kern_pack_slots *with, int8_t *panels, int32_t *colsum,
                 const int8_t *src, size_t ld_src, uint32_t n, uint32_t k, uint32_t n0);

/* The same for floats; src rows lie ld_src elements apart. */
void oct_pack_float(const oct_kern_pack_slots *with, void *panels, oct_pack_type type,
                    const void *src, size_t ld_src, uint32_t n, uint32_t k, uint32_t n0);

#endif
