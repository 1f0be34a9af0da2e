/*
 * launch.c - the embedded kernels and their start.
 *
 * A file of kernels is compiled to one fatbin (machine code for each architecture, no PTX), which
 * the assembler puts between two symbols: cmake/embed in CMakeLists.txt. The driver picks the code
 * that fits; none that fits is how an unsupported chip shows.
 */
#include "launch.h"

#include <stdio.h>
#include <string.h>

_Static_assert((int)OCT_CUDA_N_KERNELS <= (int)OCT_CUDA_MAX_KERNELS,
               "plugin.h: more room for kernels");

typedef enum file_id {
#define FILE_ENUM(name) FILE_##name,
    OCT_CUDA_FILES(FILE_ENUM)
#undef FILE_ENUM
        N_FILES
} file_id;

_Static_assert((int)N_FILES <= (int)OCT_CUDA_MAX_FILES, "plugin.h: more room for files");

#define FILE_SYMBOL(name) extern const unsigned char oct_cuda_fatbin_##name[];
OCT_CUDA_FILES(FILE_SYMBOL)
#undef FILE_SYMBOL

static const unsigned char *const fatbins[] = {
#define FILE_AT(name) oct_cuda_fatbin_##name,
    OCT_CUDA_FILES(FILE_AT)
#undef FILE_AT
};

static const char *const file_names[] = {
#define FILE_NAME(name) #name,
    OCT_CUDA_FILES(FILE_NAME)
#undef FILE_NAME
};

static const struct {
    const char *name;
    file_id file;
} kernels[] = {
#define KERNEL(file, name, params) {"oct_" #name, FILE_##file},
    OCT_CUDA_KERNELS(KERNEL)
#undef KERNEL
};

static int32_t find_kernel(octet_device *dev, int k) {
    const CUresult found = oct_cu.cuModuleGetFunction(
        &dev->kernels[k], dev->modules[kernels[k].file], kernels[k].name);
    if (found == CUDA_ERROR_NOT_FOUND)
        return oct_cuda_fail(dev, OCTET_E_DEVICE, "kernel %s is not in %s.cu", kernels[k].name,
                             file_names[kernels[k].file]);
    CUDA_TRY(oct_cuda_check(dev, found, "cuModuleGetFunction"));
    int own = 0; /* static and dynamic together may be as much as the chip gives a block */
    CU_TRY(dev, cuFuncGetAttribute, &own, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, dev->kernels[k]);
    CU_TRY(dev, cuFuncSetAttribute, dev->kernels[k],
           CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, dev->shared_bytes - own);
    return OCTET_OK;
}

int32_t oct_cuda_kernels_load(octet_device *dev) {
    for (int f = 0; f < N_FILES; f++) {
        const CUresult loaded = oct_cu.cuModuleLoadData(&dev->modules[f], fatbins[f]);
        if (loaded == CUDA_ERROR_NO_BINARY_FOR_GPU)
            return oct_cuda_fail(dev, OCTET_E_DEVICE,
                                 "%s has compute capability %d.%d: no kernels for it (want 8.0 to "
                                 "8.9, 9.0, 10.x or 12.x)",
                                 dev->name, dev->sm / 10, dev->sm % 10);
        CUDA_TRY(oct_cuda_check(dev, loaded, "cuModuleLoadData"));
    }
    for (int k = 0; k < OCT_CUDA_N_KERNELS; k++) CUDA_TRY(find_kernel(dev, k));
    return OCTET_OK;
}

void oct_cuda_kernels_unload(octet_device *dev) {
    for (int f = 0; f < N_FILES; f++)
        if (dev->modules[f]) (void)oct_cu.cuModuleUnload(dev->modules[f]);
    memset(dev->modules, 0, sizeof dev->modules);
}

int32_t oct_cuda_launch(octet_stream *s, oct_cuda_kernel kernel, oct_grid grid, uint32_t block,
                        uint32_t shared_bytes, const void *params) {
    return oct_cuda_launch_clusters(s, kernel, grid, block, shared_bytes, 1, params);
}

int32_t oct_cuda_launch_clusters(octet_stream *s, oct_cuda_kernel kernel, oct_grid grid,
                                 uint32_t block, uint32_t shared_bytes, uint32_t cluster,
                                 const void *params) {
    octet_device *dev = s->dev;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return OCTET_OK;
    if (grid.x > INT32_MAX || grid.y > UINT16_MAX || grid.z > UINT16_MAX)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED,
                             "%s: too large for one launch (%llu x %llu x %llu blocks)",
                             kernels[kernel].name, (unsigned long long)grid.x,
                             (unsigned long long)grid.y, (unsigned long long)grid.z);
    CUlaunchAttribute attrs[2];
    unsigned n_attrs = 0;
    memset(attrs, 0, sizeof attrs);
    if (dev->dependent) {
        attrs[n_attrs].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attrs[n_attrs++].value.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 1) {
        attrs[n_attrs].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        attrs[n_attrs].value.clusterDim.x = cluster;
        attrs[n_attrs].value.clusterDim.y = 1;
        attrs[n_attrs++].value.clusterDim.z = 1;
    }
    const CUlaunchConfig config = {.gridDimX = (unsigned)grid.x,
                                   .gridDimY = (unsigned)grid.y,
                                   .gridDimZ = (unsigned)grid.z,
                                   .blockDimX = block,
                                   .blockDimY = 1,
                                   .blockDimZ = 1,
                                   .sharedMemBytes = shared_bytes,
                                   .hStream = s->stream,
                                   .attrs = attrs,
                                   .numAttrs = n_attrs};
    void *args[1];
    memcpy(args, &params, sizeof params); /* the driver reads it and takes no const */
    const CUresult result = oct_cu.cuLaunchKernelEx(&config, dev->kernels[kernel], args, NULL);
    if (result == CUDA_SUCCESS) return OCTET_OK;
    char what[80];
    snprintf(what, sizeof what, "cuLaunchKernelEx(%s)", kernels[kernel].name);
    return oct_cuda_check(dev, result, what);
}
