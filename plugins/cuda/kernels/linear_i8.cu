/* kernels/linear_i8.cu - int8 products through mma.sync, by rows of a tile of the result: how, is
 * told in linear_body.cuh. */
#include "linear_body.cuh"

#define OCT_LINEAR_I8(rows)                                               \
    OCT_KERNEL(linear_i8_##rows, oct_linear_params, OCT_LINEAR_THREADS) { \
        OCT_SHARED_DYNAMIC(room);                                         \
        oct_linear_run<rows, oct_linear_i8>(p, room);                     \
    }

OCT_LINEAR_I8(8)
OCT_LINEAR_I8(16)
OCT_LINEAR_I8(32)
OCT_LINEAR_I8(64)
OCT_LINEAR_I8(128)
