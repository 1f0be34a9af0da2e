/*
 * store/tensor.h - what every container says of a tensor: its name, element type, shape and place.
 *
 * Shapes are in row-major order, the last dimension contiguous. A "row" is the run of the last
 * dimension: a matrix [N, K] has N rows of K elements, a vector [N] is one row of N, a scalar one
 * row of one. Block types (OCT_DTYPE_Q*) pack whole blocks along a row.
 */
#ifndef OCT_STORE_TENSOR_H
#define OCT_STORE_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

enum {
    OCT_TENSOR_MAX_RANK = 8,
    OCT_TENSOR_MAX_NAME = 4096,
    OCT_TENSOR_MAX_COUNT = 1000000, /* in one file */
};

typedef enum oct_dtype {
    OCT_DTYPE_BOOL,
    OCT_DTYPE_U8,
    OCT_DTYPE_I8,
    OCT_DTYPE_I16,
    OCT_DTYPE_U16,
    OCT_DTYPE_I32,
    OCT_DTYPE_U32,
    OCT_DTYPE_I64,
    OCT_DTYPE_U64,
    OCT_DTYPE_F16,
    OCT_DTYPE_BF16,
    OCT_DTYPE_F32,
    OCT_DTYPE_F64,
    OCT_DTYPE_C64,
    OCT_DTYPE_F8_E4M3,
    OCT_DTYPE_F8_E5M2,
    OCT_DTYPE_F8_E8M0,
    OCT_DTYPE_F8_E4M3FNUZ,
    OCT_DTYPE_F8_E5M2FNUZ,
    /* GGUF blocks, in store/gguf_quants.h */
    OCT_DTYPE_Q4_0,
    OCT_DTYPE_Q4_1,
    OCT_DTYPE_Q5_0,
    OCT_DTYPE_Q5_1,
    OCT_DTYPE_Q8_0,
    OCT_DTYPE_Q4_K,
    OCT_DTYPE_Q5_K,
    OCT_DTYPE_Q6_K,
    OCT_DTYPE_COUNT
} oct_dtype;

typedef struct oct_tensor {
    oct_str name; /* NUL-terminated behind its length */
    oct_dtype dtype;
    uint32_t rank;
    uint64_t shape[OCT_TENSOR_MAX_RANK];
    uint64_t n_rows, row_elems; /* see above; their product is the number of elements */
    uint64_t bytes;             /* as stored */
    uint64_t row_bytes;
    uint64_t offset; /* absolute, in its file; any alignment */
    uint32_t file;   /* which shard; 0 in a single file */
    /* Not 0: in each of so many heads the first pair_dims rows are in pair order (2i, 2i + 1), as
     * in GGUF's "llama" and in GLM-4; the checkpoint's readers put them into the usual half order.
     */
    uint32_t n_pair_heads;
    uint32_t pair_dims; /* even */
} oct_tensor;

/* "F32", "Q4_K", ... */
const char *oct_dtype_name(oct_dtype t);
/* Elements and bytes of the smallest unit: (1, 4) for F32, (32, 18) for Q4_0. */
uint32_t oct_dtype_block_elems(oct_dtype t);
uint32_t oct_dtype_block_bytes(oct_dtype t);
/* True for F64, F32, F16, BF16 and the GGUF blocks: oct_checkpoint_read_rows can read it. */
bool oct_dtype_is_real(oct_dtype t);

/* Fills n_rows, row_elems, row_bytes and bytes from dtype, rank and shape. False when a product
 * overflows or a row is not made of whole blocks. */
bool oct_tensor_measure(oct_tensor *t);
/* The same for whole rows of a tensor that was measured: they fit. */
void oct_tensor_measure_part(oct_tensor *t);

/* True when t has exactly these dimensions. */
bool oct_tensor_has_shape(const oct_tensor *t, uint32_t rank, const uint64_t *shape);

/* Appends "F32 [2, 3]". */
void oct_tensor_describe(const oct_tensor *t, oct_buf *out);

#endif
