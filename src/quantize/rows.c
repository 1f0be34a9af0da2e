/* quantize/rows.c - a float32 scale follows quant/weights.h; any other is rounded up first, and
 * the row is then quantised with what a reader will find. */
#include "quantize/rows.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>

#include "quant/contract.h"
#include "quant/float_types.h"
#include "quant/weights.h"

float oct_quantize_round_up(float x, oct_dtype type) {
    if (type != OCT_DTYPE_BF16) return x;
    const uint16_t b = oct_f32_to_bf16(x);
    return oct_bf16_to_f32(oct_bf16_to_f32(b) < x ? (uint16_t)(b + 1) : b);
}

static float absmax(const float *v, uint64_t n) {
    float most = 0;
    for (uint64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(v[i]));
    return most;
}

static bool all_finite(const float *v, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        if (!isfinite(v[i])) return false;
    return true;
}

static void with_scale(const float *row, uint64_t k, float scale, int8_t *q) {
    for (uint64_t i = 0; i < k; i++) q[i] = oct_sat8_rne(row[i] / scale);
}

oct_status oct_quantize_rows(const float *w, uint64_t n, uint64_t k, oct_dtype type, bool one_scale,
                             int8_t *q, float *scale, const char *name, oct_err *err) {
    const float least = FLT_EPSILON; /* exact in every type */
    for (uint64_t r = 0; r < n; r++)
        if (!all_finite(w + r * k, k))
            return OCT_FAIL(err, OCT_E_CORRUPT, "tensor %s.weight: row %" PRIu64 " is not finite",
                            name, r);
    const float all = one_scale ? absmax(w, n * k) : 0;
    for (uint64_t r = 0; r < n; r++) {
        const float *row = w + r * k;
        if (!one_scale && type == OCT_DTYPE_F32) {
            scale[r] = oct_quant_row(row, k, q + r * k);
            if (scale[r] == 0) scale[r] = least;
            continue;
        }
        const float most = one_scale ? all : absmax(row, k);
        scale[r] = fmaxf(oct_quantize_round_up(most / 127.0f, type), least);
        with_scale(row, k, scale[r], q + r * k);
    }
    return OCT_OK;
}
