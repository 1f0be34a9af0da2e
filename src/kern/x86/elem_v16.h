/*
 * kern/x86/elem_v16.h - the row operations of kern/elem.h over v16. Included once each by
 * elem_avx2.c and elem_avx512.c, after the v16 of that set; no guard, no other user.
 *
 * One body for both sets, because a row operation is the same sixteen lanes in either. What differs
 * is under the words of v16_*.h. Rows are streamed 16 at a time with masked memory access at the
 * end, whose zero lanes leave the contract's lane sums as they are.
 */
#include "kern/x86/elem_attn_x86.h"
#include "kern/x86/math_v16.h"

void V16_NAME(exp)(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) put(y + i, v16_exp(get(x + i, n - i)), n - i);
}

#define ACT(name)                                                                     \
    void V16_NAME(act_##name)(float *y, const float *x, const float *mul, size_t n) { \
        for (size_t i = 0; i < n; i += 16) {                                          \
            v16 v = v16_##name(get(x + i, n - i));                                    \
            if (mul) v = v16_mul(v, get(mul + i, n - i));                             \
            put(y + i, v, n - i);                                                     \
        }                                                                             \
    }
ACT(silu)
ACT(gelu)
ACT(gelu_tanh)
ACT(relu)

/* x[i..] with the residual, which is stored back. */
V16_INLINE v16 get_added(float *x, const float *add, size_t left) {
    v16 v = get(x, left);
    if (!add) return v;
    v = v16_add(v, get(add, left));
    put(x, v, left);
    return v;
}

V16_INLINE void put_scaled(float *y, v16 v, const float *w, const float *b, size_t left) {
    v = v16_mul(v, get(w, left));
    put(y, b ? v16_add(v, get(b, left)) : v, left);
}

void V16_NAME(rms_norm)(float *y, float *x, const float *add, const float *w, const float *b,
                        size_t n, float eps) {
    v16 sum[OCT_ORDER_CHAINS];
    for (int c = 0; c < OCT_ORDER_CHAINS; c++) sum[c] = v16_zero();
    for (size_t i = 0; i < n;)
        for (int c = 0; c < OCT_ORDER_CHAINS && i < n; c++, i += 16) {
            const v16 v = get_added(x + i, add ? add + i : NULL, n - i);
            sum[c] = v16_fma(v, v, sum[c]);
        }
    for (int c = 1; c < OCT_ORDER_CHAINS; c++) sum[0] = v16_add(sum[0], sum[c]);
    const v16 r = v16_set1(1.0f / sqrtf(v16_fold(sum[0]) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16)
        put_scaled(y + i, v16_mul(get(x + i, n - i), r), w + i, b ? b + i : NULL, n - i);
}

void V16_NAME(layer_norm)(float *y, float *x, const float *add, const float *w, const float *b,
                          size_t n, float eps) {
    v16 sum = v16_zero(), square = v16_zero();
    for (size_t i = 0; i < n; i += 16)
        sum = v16_add(sum, get_added(x + i, add ? add + i : NULL, n - i));
    const v16 mean = v16_set1(v16_fold(sum) / (float)n);
    for (size_t i = 0; i < n; i += 16) {
        v16 d = v16_sub(get(x + i, n - i), mean);
        if (n - i < 16) d = v16_select(v16m_range(0, (int32_t)(n - i)), d, v16_zero());
        square = v16_fma(d, d, square);
    }
    const v16 r = v16_set1(1.0f / sqrtf(v16_fold(square) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16)
        put_scaled(y + i, v16_mul(v16_sub(get(x + i, n - i), mean), r), w + i, b ? b + i : NULL,
                   n - i);
}

V16_INLINE v16 get_times(const float *x, const float *mul, size_t i, size_t n) {
    const v16 v = get(x + i, n - i);
    return mul ? v16_mul(v, get(mul + i, n - i)) : v;
}

/* sat8(rne(v)). Clamped first: the bounds are integers, so the order does not matter, and only what
 * is in range may be converted. */
V16_INLINE void put_i8(int8_t *q, v16 v, size_t left) {
    v = v16_min(v16_max(v, v16_set1(-128.0f)), v16_set1(127.0f));
    v16i_store_i8_n(q, v16_to_i32(v), left);
}

V16_INLINE float quant_dynamic(int8_t *q, const float *x, const float *mul, size_t n) {
    v16i most = v16i_set1(0);
    for (size_t i = 0; i < n; i += 16)
        most = v16i_max(most, v16_bits(v16_abs(get_times(x, mul, i, n))));
    const oct_row_scale s = oct_row_scale_of((uint32_t)v16i_max_of(most));
    if (s.inv == 0.0f) {
        memset(q, 0, n);
        return s.scale;
    }
    for (size_t i = 0; i < n; i += 16)
        put_i8(q + i, v16_mul(get_times(x, mul, i, n), v16_set1(s.inv)), n - i);
    return s.scale;
}

V16_INLINE float quant_static(int8_t *q, const float *x, const float *mul, size_t n,
                              const oct_row_quant *rule) {
    const v16 inv = v16_set1(rule->inv), offset = v16_set1(rule->offset);
    const int after = rule->mode == OCT_ROW_QUANT_STATIC_AFTER;
    v16m lost = v16m_none();
    for (size_t i = 0; i < n; i += 16) {
        const v16 v = get_times(x, mul, i, n);
        const v16 scaled = v16_mul(v, inv);
        lost = v16m_or(lost, v16_nan(v));
        const v16 moved = v16_add(after ? v16_rne(scaled) : scaled, offset);
        put_i8(q + i, v16_select(v16_nan(moved), v16_zero(), moved), n - i);
    }
    if (!v16m_any(lost)) return 1.0f;
    memset(q, 0, n);
    return NAN;
}

float V16_NAME(quant_row)(int8_t *q, const float *x, const float *mul, size_t n,
                          const oct_row_quant *rule) {
    if (rule->mode == OCT_ROW_QUANT_DYNAMIC)
        return mul ? quant_dynamic(q, x, mul, n) : quant_dynamic(q, x, NULL, n);
    return mul ? quant_static(q, x, mul, n, rule) : quant_static(q, x, NULL, n, rule);
}

void V16_NAME(quant_channels)(int8_t *q, const float *x, const float *inv, const float *off,
                              size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        v16 v = v16_mul(get(x + i, n - i), get(inv + i, n - i));
        if (off) v = v16_add(v, get(off + i, n - i));
        put_i8(q + i, v16_select(v16_nan(v), v16_zero(), v), n - i);
    }
}

void V16_NAME(rope)(float *o, const float *x, const float *cos, const float *sin, size_t half) {
    for (size_t i = 0; i < half; i += 16) {
        const size_t left = half - i;
        const v16 a = get(x + i, left), b = get(x + half + i, left);
        const v16 c = get(cos + i, left), s = get(sin + i, left);
        put(o + i, v16_fma(a, c, v16_neg(v16_mul(b, s))), left);
        put(o + half + i, v16_fma(b, c, v16_mul(a, s)), left);
    }
}

oct_row_max V16_NAME(row_max)(const float *x, size_t n) {
    v16 most = v16_set1(-INFINITY);
    v16m nan = v16m_none();
    for (size_t i = 0; i < n; i += 16) {
        v16 v = get(x + i, n - i);
        if (n - i < 16) v = v16_select(v16m_range(0, (int32_t)(n - i)), v, v16_set1(-INFINITY));
        nan = v16m_or(nan, v16_nan(v));
        most = v16_max(v, most); /* keeps `most` where v is NaN */
    }
    return (oct_row_max){v16_max_of(most) + 0.0f, v16m_any(nan)};
}

double V16_NAME(soft_sum)(float *p, const float *x, size_t n, float max, float inv_t) {
    const v16 m = v16_set1(max), t = v16_set1(inv_t);
    v16d sum = v16d_zero();
    for (size_t i = 0; i < n; i += 16) {
        v16 e = v16_exp(v16_mul(v16_sub(get(x + i, n - i), m), t));
        if (n - i < 16) e = v16_select(v16m_range(0, (int32_t)(n - i)), e, v16_zero());
        if (p) put(p + i, e, n - i);
        sum = v16d_add_f32(sum, e);
    }
    return v16d_fold(sum);
}

void V16_NAME(weighted_sum)(float *y, const float *const *x, const float *w, uint32_t n_x, size_t n,
                            int add) {
    for (size_t i = 0; i < n; i += 16) {
        v16 s = v16_mul(v16_set1(w[0]), get(x[0] + i, n - i));
        for (uint32_t t = 1; t < n_x; t++) s = v16_fma(v16_set1(w[t]), get(x[t] + i, n - i), s);
        put(y + i, add ? v16_add(get(y + i, n - i), s) : s, n - i);
    }
}

void V16_NAME(softcap)(float *x, size_t n, float cap) {
    const v16 c = v16_set1(cap), inv = v16_set1(1.0f / cap);
    for (size_t i = 0; i < n; i += 16) put(x + i, v16_softcap(get(x + i, n - i), c, inv), n - i);
}
