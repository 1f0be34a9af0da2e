/*
 * device/cpu/batch.h - a checked octet_batch and KV cache: what attn_input and attention both need.
 * After oct_cpu_batch_open every position, slot and block id that will be used is known to lie
 * where it should. Borrowed for the operation.
 */
#ifndef OCT_DEVICE_CPU_BATCH_H
#define OCT_DEVICE_CPU_BATCH_H

#include "device/cpu/cpu.h"
#include "kern/attn.h"

typedef struct oct_cpu_batch {
    uint32_t n_seqs, n_rows;
    const int32_t *row_pos, *row_slot;
    const int32_t *seq_row, *seq_kv_len;
    const int32_t *block_table;
    uint32_t table_stride;
} oct_cpu_batch;

typedef struct oct_cpu_kv {
    oct_attn_cache cache;
    uint32_t n_kv_heads, head_dim, block_tokens;
    size_t block_bytes, head_bytes;
    char *base;
    uint64_t n_blocks; /* that fit behind base */
    const float *k_scale, *k_offset, *v_scale, *v_offset;
} oct_cpu_kv;

int32_t oct_cpu_batch_open(octet_device *dev, const octet_batch *b, oct_cpu_batch *out);
int32_t oct_cpu_kv_open(octet_device *dev, const octet_kv_desc *d, oct_cpu_kv *out);

#endif
