/*
 * kernels/linear.h - what the kernels of linear and linear_grouped are given. Shared by host code
 * and kernels. How rows, tiles and k are shared out: linear_walk.cuh.
 */
#ifndef OCT_CUDA_KERNELS_LINEAR_H
#define OCT_CUDA_KERNELS_LINEAR_H

#include "params.h"
#include "weight.h"

/* More than any model has; bounds the shared memory for them. */
#define OCT_LINEAR_MAX_EXPERTS 1024u

/* Float sums: k in chunks of 256 (docs/numerics.md, section 5), four tiles of bfloat16. */
#define OCT_LINEAR_CHUNK_TILES 4u

#define OCT_LINEAR_OUT_F32 1u    /* results are float32, else bfloat16 */
#define OCT_LINEAR_ACCUMULATE 2u /* added to what is there */
#define OCT_LINEAR_ALIGNED 4u    /* rows begin at multiples of 16 bytes */
#define OCT_LINEAR_SPLIT 8u      /* blocks may share a tile of the result */

enum { OCT_LINEAR_THREADS = 256 };

/* Shared memory for the tiles of experts: linear_walk.cuh. */
static inline uint32_t oct_linear_group_bytes(uint32_t n_experts) {
    return (2 * (n_experts + 1) + 32) * 4;
}

typedef struct oct_linear_params {
    oct_addr fault;
    oct_p_weight weight;
    oct_addr rows;      /* int8 or bfloat16 */
    uint64_t row_bytes; /* from a row to the next */
    oct_addr row_scale; /* float32; int8 only */
    oct_addr first;     /* int32 [n_experts + 1]; 0: one matrix */
    oct_addr map;       /* int32 [n_rows]: the row of x behind a grouped row; 0: itself */
    oct_addr out;
    uint64_t out_stride; /* elements */
    oct_addr slots;      /* partial sums: int32, zero between launches; or float32 */
    oct_addr counters;   /* uint32, zero between launches */
    uint32_t n_rows;
    uint32_t k_bytes;   /* of a row */
    uint32_t n_experts; /* 1: one matrix */
    uint32_t n_stages;
    uint32_t flags;
    uint32_t n_in; /* rows of x */
} oct_linear_params;

#endif
