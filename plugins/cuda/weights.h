/* weights.h - packed matrices behind handles. Layout: kernels/weight.h. */
#ifndef OCT_CUDA_WEIGHTS_H
#define OCT_CUDA_WEIGHTS_H

#include "kernels/weight.h"
#include "plugin.h"

struct oct_cuda_weight {
    octet_weight_desc desc;
    CUdeviceptr data;    /* tiles, then the vectors */
    uint64_t bytes;      /* of data */
    oct_p_weight params; /* ready for a kernel's arguments; bias 0 until one is given */
    oct_addr bias;       /* where a bias goes when one is given */
};

/* The weight behind a handle, or NULL having left a sentence that begins with `what`. */
oct_cuda_weight *oct_cuda_weight_get(octet_device *dev, octet_weight w, const char *what);

#endif
