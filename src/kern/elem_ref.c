/*
 * kern/elem_ref.c - the row operations of kern/elem.h as docs/numerics.md words them, in C.
 */
#include "kern/elem_math.h"
#include "kern/kern_ref.h"

enum { LANES = OCT_NUMERICS_LANES };

static void exp_ref(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = oct_exp_f32(x[i]);
}

#define ACT_REF(name)                                                                    \
    static void act_##name##_ref(float *y, const float *x, const float *mul, size_t n) { \
        for (size_t i = 0; i < n; i++) {                                                 \
            const float a = oct_##name##_f32(x[i]);                                      \
            y[i] = mul ? a * mul[i] : a;                                                 \
        }                                                                                \
    }
ACT_REF(silu)
ACT_REF(gelu)
ACT_REF(gelu_tanh)
ACT_REF(relu)

static void add_residual(float *x, const float *add, size_t n) {
    if (!add) return;
    for (size_t i = 0; i < n; i++) x[i] += add[i];
}

static void rms_norm_ref(float *y, float *x, const float *add, const float *w, const float *b,
                         size_t n, float eps) {
    float lane[LANES] = {0};
    add_residual(x, add, n);
    for (size_t i = 0; i < n; i++) lane[i % LANES] = fmaf(x[i], x[i], lane[i % LANES]);
    const float r = 1.0f / sqrtf(oct_fold16_f32(lane) / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        const float v = (x[i] * r) * w[i];
        y[i] = b ? v + b[i] : v;
    }
}

static void layer_norm_ref(float *y, float *x, const float *add, const float *w, const float *b,
                           size_t n, float eps) {
    float lane[LANES] = {0};
    add_residual(x, add, n);
    for (size_t i = 0; i < n; i++) lane[i % LANES] += x[i];
    const float mean = oct_fold16_f32(lane) / (float)n;
    float square[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        const float d = x[i] - mean;
        square[i % LANES] = fmaf(d, d, square[i % LANES]);
    }
    const float r = 1.0f / sqrtf(oct_fold16_f32(square) / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        const float v = ((x[i] - mean) * r) * w[i];
        y[i] = b ? v + b[i] : v;
    }
}

static float quant_dynamic(int8_t *q, const float *x, const float *mul, size_t n) {
    uint32_t absmax = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t a = oct_f32_abs_bits(mul ? x[i] * mul[i] : x[i]);
        if (a > absmax) absmax = a;
    }
    const oct_row_scale s = oct_row_scale_of(absmax);
    for (size_t i = 0; i < n; i++) q[i] = oct_quant_dynamic(mul ? x[i] * mul[i] : x[i], s.inv);
    return s.scale;
}

static float quant_row_ref(int8_t *q, const float *x, const float *mul, size_t n,
                           const oct_row_quant *rule) {
    if (rule->mode == OCT_ROW_QUANT_DYNAMIC) return quant_dynamic(q, x, mul, n);
    int has_nan = 0;
    for (size_t i = 0; i < n; i++) {
        const float v = mul ? x[i] * mul[i] : x[i];
        has_nan |= v != v;
        q[i] = rule->mode == OCT_ROW_QUANT_STATIC_BEFORE
                   ? oct_quant_static_before(v, rule->inv, rule->offset)
                   : oct_quant_static_after(v, rule->inv, rule->offset);
    }
    if (!has_nan) return 1.0f;
    memset(q, 0, n);
    return NAN;
}

static void quant_channels_ref(int8_t *q, const float *x, const float *inv, const float *off,
                               size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float v = x[i] * inv[i];
        q[i] = oct_sat8_rne(off ? v + off[i] : v);
    }
}

static void rope_ref(float *o, const float *x, const float *cos, const float *sin, size_t half) {
    for (size_t i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        o[i] = fmaf(a, cos[i], -(b * sin[i]));
        o[i + half] = fmaf(b, cos[i], a * sin[i]);
    }
}

static oct_row_max row_max_ref(const float *x, size_t n) {
    oct_row_max m = {-INFINITY, 0};
    for (size_t i = 0; i < n; i++) {
        if (x[i] > m.max) m.max = x[i];
        m.has_nan |= x[i] != x[i];
    }
    m.max += 0.0f;
    return m;
}

static double soft_sum_ref(float *p, const float *x, size_t n, float max, float inv_t) {
    double lane[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        const float e = oct_exp_f32((x[i] - max) * inv_t);
        if (p) p[i] = e;
        lane[i % LANES] += (double)e;
    }
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++) lane[l] += lane[l + width];
    return lane[0];
}

static void weighted_sum_ref(float *y, const float *const *x, const float *w, uint32_t n_x,
                             size_t n, int add) {
    for (size_t i = 0; i < n; i++) {
        float s = w[0] * x[0][i];
        for (uint32_t t = 1; t < n_x; t++) s = fmaf(w[t], x[t][i], s);
        y[i] = add ? y[i] + s : s;
    }
}

static void softcap_ref(float *x, size_t n, float cap) {
    const float inv = 1.0f / cap;
    for (size_t i = 0; i < n; i++) x[i] = oct_softcap_f32(x[i], cap, inv);
}

void oct_kern_init_elem_ref(oct_kern *k) {
    k->elem = (oct_kern_elem){
        .exp = exp_ref,
        .act_silu = act_silu_ref,
        .act_gelu = act_gelu_ref,
        .act_gelu_tanh = act_gelu_tanh_ref,
        .act_relu = act_relu_ref,
        .rms_norm = rms_norm_ref,
        .layer_norm = layer_norm_ref,
        .quant_row = quant_row_ref,
        .quant_channels = quant_channels_ref,
        .rope = rope_ref,
        .row_max = row_max_ref,
        .soft_sum = soft_sum_ref,
        .weighted_sum = weighted_sum_ref,
        .softcap = softcap_ref,
    };
}
