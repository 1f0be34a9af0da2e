/*
 * kernels/weight.h - how a matrix lies in device memory; shared by the host and all kernels.
 *
 * W[n][k] is cut into tiles of 128 outputs by 128 bytes of k (128 int8 or 64 bf16). A tile is
 * 16 KiB without gaps: output row r of it is 128 bytes, in which the 16-byte piece c lies at place
 * c ^ (r & 7), the 128-byte swizzle of tensor core loads. The tiles of one block of 128 outputs lie
 * one behind the other by ascending k, then comes the next block of outputs: a tile, or a run of
 * them along k, is one piece of memory. Outside the matrix there are zeros.
 *
 * Float matrices are bf16 in planes, each packed as above, one behind the other: a value is the sum
 * of its planes, the first 8 bits of its significand, the next 8, the last 8. So float32 (three
 * planes) and half (two) are kept exactly and multiplied by the same instruction as bf16 (one).
 * A word of flags says which planes hold anything but zeros: the others need not be read.
 *
 * Matrices of experts follow one another whole. Behind all tiles: col_scale, int_bias (int8 only),
 * bias, each of n numbers an expert, zeros where nothing was written.
 */
#ifndef OCT_CUDA_WEIGHT_H
#define OCT_CUDA_WEIGHT_H

#include "params.h"

enum { OCT_TILE_OUTPUTS = 128, OCT_TILE_K_BYTES = 128, OCT_TILE_BYTES = 16384 };

/* What a kernel is told of a matrix (of all experts alike). */
typedef struct oct_p_weight {
    oct_addr tiles;     /* of expert 0, plane 0 */
    oct_addr col_scale; /* float [n_experts][n]; int8 only */
    oct_addr int_bias;  /* int32 [n_experts][n]; int8 only; 0: none was ever given */
    oct_addr bias;      /* float [n_experts][n]; 0: none was ever given */
    oct_addr planes;    /* uint32: bit i is set if plane i holds anything; 0: there is one plane */
    uint64_t expert_bytes, plane_bytes;
    uint32_t n, k;
    uint32_t k_tiles; /* tiles along k, of a plane */
    uint32_t dtype;   /* OCTET_..., of the rows that were given */
} oct_p_weight;

#ifdef __CUDACC__
#define OCT_WEIGHT_FN static inline __host__ __device__
#else
#define OCT_WEIGHT_FN static inline
#endif

/* Byte offset in a plane of byte `kb` of output `n`; kb a multiple of 16 keeps 16 bytes
 * together. */
OCT_WEIGHT_FN uint64_t oct_tile_offset(uint64_t k_tiles, uint64_t n, uint64_t kb) {
    const uint64_t tile = n / OCT_TILE_OUTPUTS * k_tiles + kb / OCT_TILE_K_BYTES;
    const uint64_t r = n % OCT_TILE_OUTPUTS, c = kb % OCT_TILE_K_BYTES / 16;
    return tile * OCT_TILE_BYTES + r * OCT_TILE_K_BYTES + ((c ^ (r & 7)) * 16 + kb % 16);
}

/* Planes that must be read for a word of flags. */
OCT_WEIGHT_FN uint32_t oct_weight_planes(uint32_t flags) {
    return flags & 4 ? 3 : flags & 2 ? 2 : 1;
}

/* ---- packing (pack.cu) ----------------------------------------------------------------------- */

/* Rows as the host gave them become tiles, with the numbers of their outputs. */
typedef struct oct_pack_params {
    oct_addr fault;
    oct_p_weight weight; /* all addresses, also where nothing was given before */
    oct_addr rows;       /* [n_rows][k] in weight.dtype, at a multiple of 16 */
    oct_addr scale;      /* float [n_rows], int8 only */
    oct_addr int_bias;   /* int32 [n_rows], int8 only */
    oct_addr bias;       /* float [n_rows] */
    uint64_t row;        /* first row: expert * n + output */
    uint64_t n_rows;
} oct_pack_params;

#endif
