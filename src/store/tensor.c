/* store/tensor.c - element types as a table, and sizes by checked products. */
#include "store/tensor.h"

#include <inttypes.h>

#include "base/assert.h"
#include "base/checked.h"

static const struct {
    const char *name;
    uint16_t elems, bytes; /* of one block */
    bool real;
} dtypes[OCT_DTYPE_COUNT] = {
    [OCT_DTYPE_BOOL] = {"BOOL", 1, 1, false},
    [OCT_DTYPE_U8] = {"U8", 1, 1, false},
    [OCT_DTYPE_I8] = {"I8", 1, 1, false},
    [OCT_DTYPE_I16] = {"I16", 1, 2, false},
    [OCT_DTYPE_U16] = {"U16", 1, 2, false},
    [OCT_DTYPE_I32] = {"I32", 1, 4, false},
    [OCT_DTYPE_U32] = {"U32", 1, 4, false},
    [OCT_DTYPE_I64] = {"I64", 1, 8, false},
    [OCT_DTYPE_U64] = {"U64", 1, 8, false},
    [OCT_DTYPE_F16] = {"F16", 1, 2, true},
    [OCT_DTYPE_BF16] = {"BF16", 1, 2, true},
    [OCT_DTYPE_F32] = {"F32", 1, 4, true},
    [OCT_DTYPE_F64] = {"F64", 1, 8, true},
    [OCT_DTYPE_C64] = {"C64", 1, 8, false},
    [OCT_DTYPE_F8_E4M3] = {"F8_E4M3", 1, 1, false},
    [OCT_DTYPE_F8_E5M2] = {"F8_E5M2", 1, 1, false},
    [OCT_DTYPE_F8_E8M0] = {"F8_E8M0", 1, 1, false},
    [OCT_DTYPE_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 1, 1, false},
    [OCT_DTYPE_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 1, 1, false},
    [OCT_DTYPE_Q4_0] = {"Q4_0", 32, 18, true},
    [OCT_DTYPE_Q4_1] = {"Q4_1", 32, 20, true},
    [OCT_DTYPE_Q5_0] = {"Q5_0", 32, 22, true},
    [OCT_DTYPE_Q5_1] = {"Q5_1", 32, 24, true},
    [OCT_DTYPE_Q8_0] = {"Q8_0", 32, 34, true},
    [OCT_DTYPE_Q4_K] = {"Q4_K", 256, 144, true},
    [OCT_DTYPE_Q5_K] = {"Q5_K", 256, 176, true},
    [OCT_DTYPE_Q6_K] = {"Q6_K", 256, 210, true},
};

const char *oct_dtype_name(oct_dtype t) { return dtypes[t].name; }
uint32_t oct_dtype_block_elems(oct_dtype t) { return dtypes[t].elems; }
uint32_t oct_dtype_block_bytes(oct_dtype t) { return dtypes[t].bytes; }
bool oct_dtype_is_real(oct_dtype t) { return dtypes[t].real; }

bool oct_tensor_measure(oct_tensor *t) {
    const uint64_t elems = dtypes[t->dtype].elems, bytes = dtypes[t->dtype].bytes;
    uint64_t all = 1;
    t->n_rows = 1;
    t->row_elems = t->rank ? t->shape[t->rank - 1] : 1;
    for (uint32_t d = 0; d < t->rank; d++) {
        t->n_rows = all;
        if (!oct_mul_u64(all, t->shape[d], &all)) return false;
    }
    if (t->row_elems % elems != 0) return false;
    return oct_mul_u64(t->row_elems / elems, bytes, &t->row_bytes) &&
           oct_mul_u64(t->row_bytes, t->n_rows, &t->bytes);
}

void oct_tensor_measure_part(oct_tensor *t) {
    const bool fits = oct_tensor_measure(t);
    OCT_ASSERT(fits);
    (void)fits;
}

bool oct_tensor_has_shape(const oct_tensor *t, uint32_t rank, const uint64_t *shape) {
    if (t->rank != rank) return false;
    for (uint32_t d = 0; d < rank; d++)
        if (t->shape[d] != shape[d]) return false;
    return true;
}

void oct_tensor_describe(const oct_tensor *t, oct_buf *out) {
    oct_buf_printf(out, "%s [", dtypes[t->dtype].name);
    for (uint32_t d = 0; d < t->rank; d++)
        oct_buf_printf(out, "%s%" PRIu64, d ? ", " : "", t->shape[d]);
    oct_buf_char(out, ']');
}
