/* weights.h - packed matrices behind handles. Layout: kernels/weight.h. */
#ifndef OCT_CUDA_WEIGHTS_H
#define OCT_CUDA_WEIGHTS_H

#include "kernels/weight.h"
#include "plugin.h"

struct oct_cuda_weight {
    octet_weight_desc desc;
    CUdeviceptr data;    /* tiles, then the numbers of the outputs */
    uint64_t bytes;      /* of data */
    oct_p_weight params; /* ready for a kernel's arguments; biases 0 until one is given */
    oct_p_weight all;    /* the same with every address, for who writes */
};

/* The weight behind a handle, or NULL having left a sentence that begins with `what`. */
oct_cuda_weight *oct_cuda_weight_get(octet_device *dev, octet_weight w, const char *what);

/* ---- between weights.c and weights_write.c --------------------------------------------------- */

uint32_t oct_cuda_weight_element(uint32_t dtype); /* bytes of one; 0: unknown */
/* Rows of all matrices of a handle. */
static inline uint64_t oct_cuda_weight_rows(const oct_cuda_weight *w) {
    return w->desc.n * (w->desc.n_experts ? w->desc.n_experts : 1);
}
/* Frees what writing uses. */
void oct_cuda_stages_destroy(octet_device *dev);

#endif
