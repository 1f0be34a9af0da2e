/* ops_side.c - what is neither a row, a product nor attention: drawing tokens, experts. */
#include "launch.h"

int32_t oct_cuda_sample(octet_stream *s, const octet_sample_op *op) {
    CUDA_BEGIN(s, op, "sample");
    return oct_cuda_fail(s->dev, OCTET_E_UNSUPPORTED, "sample: not on this device");
}
