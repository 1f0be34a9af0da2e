/*
 * kernels/simt.cuh - the words in which a kernel is written, so that the same source runs on a GPU
 * (nvcc) and, thread by thread, in the emulation that tests use (OCT_EMU, tests/cuda/emu).
 *
 *     OCT_KERNEL(NAME, PARAMS, MAX_THREADS) { ... p ... }   the kernel oct_NAME, arguments in p
 *     OCT_KERNEL_BLOCKS(NAME, PARAMS, MAX_THREADS, BLOCKS)  the same, so many of them on an SM
 *     OCT_SHARED(float, sums, 32);                          static shared memory, float sums[32]
 *     OCT_SHARED_DYNAMIC(room);                             unsigned char *room, 1024-aligned
 *     OCT_DEVICE                                            before every function of a kernel
 *     OCT_UNROLL                                            before a loop over registers
 *
 * Everything else is plain CUDA C++: threadIdx, blockIdx, blockDim, gridDim, __syncthreads,
 * __syncwarp, __shfl_sync and its kin, __ballot_sync, __any_sync, __all_sync, __reduce_*_sync on
 * 32-bit integers, atomicAdd, atomicMax, atomicCAS, atomicExch, __threadfence, fmaf, sqrtf, rintf,
 * __ldg, int2, int4, uint2, uint4, float2, float4. PTX stands in ptx.cuh alone.
 *
 * Rules: blocks of a multiple of 32 threads in x alone; a lane mask names exactly the lanes that
 * arrive; a block waits for blocks of lower index at most; every thread calls oct_grid_wait() once
 * before it reads or writes what another kernel may have touched.
 */
#ifndef OCT_CUDA_SIMT_CUH
#define OCT_CUDA_SIMT_CUH

#include <stdint.h>

#ifndef OCT_EMU
#define OCT_EMU 0
#endif

#if OCT_EMU

#include "emu.h" /* tests/cuda/emu */
#define OCT_UNROLL

#else

#define OCT_DEVICE static __device__ __forceinline__
#define OCT_UNROLL _Pragma("unroll")
#define OCT_KERNEL(name, params_t, max_threads)               \
    extern "C" __global__ void __launch_bounds__(max_threads) \
        oct_##name(const __grid_constant__ params_t p)
#define OCT_KERNEL_BLOCKS(name, params_t, max_threads, blocks)        \
    extern "C" __global__ void __launch_bounds__(max_threads, blocks) \
        oct_##name(const __grid_constant__ params_t p)
#define OCT_SHARED(type, name, n) __shared__ type name[n]
#define OCT_SHARED_DYNAMIC(name)                                          \
    extern __shared__ __align__(1024) unsigned char oct_dynamic_shared[]; \
    unsigned char *const name = oct_dynamic_shared

#endif

#include "params.h"

/* The device pointer behind an address among a kernel's arguments. */
template <typename T> OCT_DEVICE T *oct_ptr(oct_addr at) { return reinterpret_cast<T *>(at); }

#endif
