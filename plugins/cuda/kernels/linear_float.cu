/* kernels/linear_float.cu - products of bfloat16 rows with float weights, by rows of a tile of the
 * result: how, is told in linear_body.cuh. */
#include "linear_body.cuh"

#define OCT_LINEAR_FLOAT(rows)                                               \
    OCT_KERNEL(linear_float_##rows, oct_linear_params, OCT_LINEAR_THREADS) { \
        OCT_SHARED_DYNAMIC(room);                                            \
        oct_linear_run<rows, oct_linear_bf16>(p, room);                      \
    }

OCT_LINEAR_FLOAT(8)
OCT_LINEAR_FLOAT(16)
OCT_LINEAR_FLOAT(32)
OCT_LINEAR_FLOAT(64)
OCT_LINEAR_FLOAT(128)
