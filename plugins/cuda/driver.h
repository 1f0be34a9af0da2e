/*
 * driver.h - the CUDA driver, found when it is there: one table of its functions, filled from
 * libcuda.so.1 when the first device is opened. Types come from <cuda.h> at build time; nothing is
 * linked, so that the plug-in loads on a machine that has no driver and can say so.
 *
 * A call is spelled oct_cu.cuMemAlloc(...): <cuda.h> maps the plain name to the versioned symbol,
 * here as in the list below.
 *
 * Threads: oct_cu_load from any; the table does not change afterwards.
 */
#ifndef OCT_CUDA_DRIVER_H
#define OCT_CUDA_DRIVER_H

#include <cuda.h>
#include <stddef.h>

/* clang-format off */
#define OCT_CU_FUNCTIONS(X)                                                                \
    X(cuInit) X(cuDriverGetVersion) X(cuGetErrorName) X(cuGetErrorString)                  \
    X(cuDeviceGetCount) X(cuDeviceGet) X(cuDeviceGetName) X(cuDeviceGetAttribute)          \
    X(cuDevicePrimaryCtxRetain) X(cuDevicePrimaryCtxRelease) X(cuCtxSetCurrent)            \
    X(cuCtxSynchronize) X(cuMemGetInfo)                                                    \
    X(cuModuleLoadData) X(cuModuleUnload) X(cuModuleGetFunction) X(cuFuncSetAttribute)     \
    X(cuFuncGetAttribute)                                                                  \
    X(cuMemAlloc) X(cuMemFree) X(cuMemHostAlloc) X(cuMemFreeHost)                          \
    X(cuMemcpyHtoDAsync) X(cuMemcpyDtoHAsync) X(cuMemcpyDtoDAsync) X(cuMemsetD8Async)      \
    X(cuStreamCreate) X(cuStreamDestroy) X(cuStreamSynchronize) X(cuStreamWaitEvent)       \
    X(cuEventCreate) X(cuEventDestroy) X(cuEventRecord) X(cuEventSynchronize)              \
    X(cuStreamBeginCapture) X(cuStreamEndCapture) X(cuGraphInstantiateWithFlags)           \
    X(cuGraphUpload) X(cuGraphLaunch) X(cuGraphExecDestroy) X(cuGraphDestroy)              \
    X(cuLaunchKernelEx) X(cuTensorMapEncodeTiled)
/* clang-format on */

typedef struct oct_cu_table {
#define OCT_CU_MEMBER(function) __typeof__(function) *function;
    OCT_CU_FUNCTIONS(OCT_CU_MEMBER)
#undef OCT_CU_MEMBER
} oct_cu_table;

extern oct_cu_table oct_cu;

/* Fills the table and starts the driver (cuInit), once. 0, or -1 with a sentence in `why`. A
 * failure is tried again by the next call. */
int oct_cu_load(char *why, size_t cap);

/* "CUDA_ERROR_OUT_OF_MEMORY (out of memory)" into text. */
void oct_cu_describe(CUresult result, char *text, size_t cap);

#endif
