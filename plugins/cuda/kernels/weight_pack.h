/* kernels/weight_pack.h - arguments of weight.cu. */
#ifndef OCT_CUDA_WEIGHT_PACK_H
#define OCT_CUDA_WEIGHT_PACK_H

#include "params.h"

typedef struct oct_weight_pack_params {
    oct_addr fault;
    oct_addr rows; /* [n_rows][row_bytes], as they came */
    oct_addr tiles;
    uint64_t first, n_rows; /* which rows of all experts */
    uint64_t row_bytes, expert_bytes;
    uint32_t n, k_tiles;
} oct_weight_pack_params;

#endif
