/* kv.h - the KV cache of one layer and the batch, checked and found, as kernels are given them. */
#ifndef OCT_CUDA_KV_H
#define OCT_CUDA_KV_H

#include "kernels/attn.h"
#include "plugin.h"

/* Checks the shape and finds the memory. `what` names the operation. */
int32_t oct_cuda_kv(octet_device *dev, const octet_kv_desc *kv, const char *what, oct_p_kv *out);

/* row_slot is found where `slots` is 1. */
int32_t oct_cuda_batch(octet_device *dev, const octet_batch *batch, int slots, const char *what,
                       oct_p_batch *out);

#endif
