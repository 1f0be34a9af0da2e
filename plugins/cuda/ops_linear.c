/* ops_linear.c - matrix products. */
#include "launch.h"
#include "weights.h"

int32_t oct_cuda_linear(octet_stream *s, const octet_linear_op *op) {
    CUDA_BEGIN(s, op, "linear");
    return oct_cuda_fail(s->dev, OCTET_E_UNSUPPORTED, "linear: not on this device");
}
