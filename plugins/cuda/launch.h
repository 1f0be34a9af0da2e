/*
 * launch.h - the one way a kernel is started:
 *
 *     const oct_quantize_params p = {.fault = oct_cuda_fault_word(s), ...};
 *     return OCT_LAUNCH(s, quantize, (oct_grid){n_blocks, 1, 1}, n_threads, 0, &p);
 *
 * Arguments are copied by the call. Where the chip allows it a kernel begins while the one before
 * it drains; every kernel therefore calls oct_grid_wait() (kernels/ptx.cuh) before it touches what
 * an earlier one wrote. An empty grid is no launch and no error.
 */
#ifndef OCT_CUDA_LAUNCH_H
#define OCT_CUDA_LAUNCH_H

#include "kernels/list.h"
#include "plugin.h"

typedef enum oct_cuda_kernel {
#define OCT_K_ENUM(file, name, params) OCT_K_##name,
    OCT_CUDA_KERNELS(OCT_K_ENUM)
#undef OCT_K_ENUM
        OCT_CUDA_N_KERNELS
} oct_cuda_kernel;

#define OCT_K_ARGS(file, name, params) typedef params oct_k_args_##name;
OCT_CUDA_KERNELS(OCT_K_ARGS)
#undef OCT_K_ARGS

typedef struct oct_grid {
    uint64_t x, y, z; /* blocks; y and z at most 65535 */
} oct_grid;

/* The last argument must be of the struct that kernels/list.h names. */
#define OCT_LAUNCH(s, name, grid, block, shared, params)  \
    oct_cuda_launch(s, OCT_K_##name, grid, block, shared, \
                    1 ? (params) : (const oct_k_args_##name *)0)

int32_t oct_cuda_launch(octet_stream *s, oct_cuda_kernel kernel, oct_grid grid, uint32_t block,
                        uint32_t shared_bytes, const void *params);
/* The same in clusters of `cluster` blocks along x (sm_90 and newer; 1: none). */
int32_t oct_cuda_launch_clusters(octet_stream *s, oct_cuda_kernel kernel, oct_grid grid,
                                 uint32_t block, uint32_t shared_bytes, uint32_t cluster,
                                 const void *params);

/* What goes into `fault` of every struct of arguments. */
static inline oct_addr oct_cuda_fault_word(const octet_stream *s) {
    return (oct_addr)(uintptr_t)s->fault;
}

/* Blocks of `each` for n things. */
static inline uint64_t oct_blocks_of(uint64_t n, uint64_t each) { return (n + each - 1) / each; }

/* How threads share a row, from its width alone (ops_rows.c): kernels NAME_1, NAME_2, ... */
typedef struct oct_row_shape {
    uint32_t group;   /* threads that hold a row */
    uint32_t variant; /* 0 .. 3: 1, 2, 4 or 16 pieces of 8 elements a thread */
    uint32_t threads; /* of a block */
} oct_row_shape;

int32_t oct_cuda_row_shape(octet_device *dev, uint32_t width, const char *what, oct_row_shape *out);

static inline oct_grid oct_row_grid(const oct_row_shape *h, uint32_t n_rows) {
    return (oct_grid){oct_blocks_of(n_rows, h->threads / h->group), 1, 1};
}

/* Such a kernel whose folds may take any order: a wide row among few is shared by a cluster. */
int32_t oct_cuda_launch_row(octet_stream *s, oct_cuda_kernel first, oct_row_shape h,
                            uint32_t n_rows, uint32_t width, uint32_t *group, const void *params);

/* Loads the embedded kernels and finds each of the list, for open; frees them, for close. */
int32_t oct_cuda_kernels_load(octet_device *dev);
void oct_cuda_kernels_unload(octet_device *dev);

#endif
