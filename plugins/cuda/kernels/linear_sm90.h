/* kernels/linear_sm90.h - what the wgmma product is given (linear_sm90.cu). */
#ifndef OCT_CUDA_LINEAR_SM90_H
#define OCT_CUDA_LINEAR_SM90_H

#include "linear.h"

/* Rows and outputs of a tile of the result; stages of 128 bytes of k. */
enum { OCT_SM90_ROWS = 128, OCT_SM90_OUTPUTS = 256, OCT_SM90_STAGES = 4, OCT_SM90_THREADS = 384 };
#define OCT_SM90_STAGE_BYTES (OCT_SM90_ROWS * OCT_TILE_K_BYTES + 2 * OCT_TILE_BYTES)

typedef struct oct_linear_sm90_params {
    oct_addr fault;
    uint64_t reserved[7]; /* the map lies at a multiple of 64 */
    /* A tensor map of the rows: boxes of 128 bytes of one row (where there is linear.map) or of
     * OCT_SM90_ROWS rows, 128-byte swizzle, zeros outside. */
    uint64_t x_map[16] __attribute__((aligned(64)));
    oct_linear_params linear;
} oct_linear_sm90_params;

/* Shared memory of a block. */
static inline uint32_t oct_linear_sm90_bytes(uint32_t n_experts, int grouped) {
    return OCT_SM90_STAGES * (OCT_SM90_STAGE_BYTES + 16) +
           (grouped ? oct_linear_group_bytes(n_experts) : 0);
}

/* ---- few rows (linear_few_sm90.cu) ----------------------------------------------------------- */

enum { OCT_LINEAR_FEW_THREADS = 288 };

typedef struct oct_linear_few_params {
    oct_addr fault;
    uint64_t reserved[7];
    uint64_t x_map[16] __attribute__((aligned(64))); /* boxes of 128 bytes of ROWS rows */
    oct_linear_params linear;
    uint32_t n_ranks; /* blocks that share a tile: a cluster */
    uint32_t reserved2;
} oct_linear_few_params;

/* Shared memory of the stages, which is enough for the sums too; of a block. */
OCT_WEIGHT_FN uint32_t oct_linear_few_stages(uint32_t rows, uint32_t n_stages) {
    const uint32_t stages = n_stages * (OCT_TILE_BYTES + rows * OCT_TILE_K_BYTES);
    const uint32_t sums = rows * (OCT_TILE_OUTPUTS + 4) * 4;
    return stages > sums ? stages : sums;
}
static inline uint32_t oct_linear_few_bytes(uint32_t rows, uint32_t n_stages) {
    return oct_linear_few_stages(rows, n_stages) + n_stages * 16;
}

#endif
