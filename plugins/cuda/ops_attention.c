/* ops_attention.c - what goes into the KV cache and what is read from it. */
#include "launch.h"

uint64_t oct_cuda_kv_block_bytes(octet_device *dev, const octet_kv_desc *desc) {
    (void)dev;
    (void)desc;
    return 0;
}

int32_t oct_cuda_attn_input(octet_stream *s, const octet_attn_input_op *op) {
    CUDA_BEGIN(s, op, "attn_input");
    return oct_cuda_fail(s->dev, OCTET_E_UNSUPPORTED, "attn_input: not on this device");
}

int32_t oct_cuda_attention(octet_stream *s, const octet_attention_op *op) {
    CUDA_BEGIN(s, op, "attention");
    return oct_cuda_fail(s->dev, OCTET_E_UNSUPPORTED, "attention: not on this device");
}
