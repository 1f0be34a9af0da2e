/*
 * kernels/fault.h - what a kernel can find wrong with the numbers it is given. It cannot refuse:
 * the call has returned. It writes one word, (what << 32 | the number it saw), goes on with a
 * harmless value, and the next wait of the host says the sentence.
 */
#ifndef OCT_CUDA_FAULT_H
#define OCT_CUDA_FAULT_H

#include <stdint.h>

/* name, sentence with one %d for the number */
#define OCT_CUDA_FAULTS(X)                                                                   \
    X(EMBED_ID, "embed: id outside the table (got %d)")                                      \
    X(GATHER_ROW, "gather: row outside x (got %d)")                                          \
    X(FEED_FROM, "feed: nothing was drawn there (got %d)")                                   \
    X(QUANT_PARAM, "quantisation: bad static scale or offset, want > 0 and finite (row %d)") \
    X(ROW_POS, "attn_input: position without a rotation (got %d)")                           \
    X(ROW_SLOT, "attn_input: slot outside the cache (got %d)")                               \
    X(BLOCK_ID, "attention: block outside the cache (got %d)")                               \
    X(KV_LEN, "attention: more tokens than the block table has (got %d)")                    \
    X(EXPERT_ID, "permute: expert that is not there (got %d)")                               \
    X(GROUPED_ROW, "grouped rows: row outside the batch (got %d)")                           \
    X(SAMPLE_ROW, "sample: numbers of a row are out of range (row %d)")

typedef enum oct_cuda_fault {
    OCT_FAULT_NONE = 0,
#define OCT_FAULT_ENUM(name, text) OCT_FAULT_##name,
    OCT_CUDA_FAULTS(OCT_FAULT_ENUM)
#undef OCT_FAULT_ENUM
} oct_cuda_fault;

#endif
