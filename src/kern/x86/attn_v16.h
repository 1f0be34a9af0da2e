/*
 * kern/x86/attn_v16.h - the pieces of attention (kern/attn_kern.h) over v16. Included once each by
 * attn_avx2.c and attn_avx512.c, after the v16 of that set; no guard, no other user.
 *
 * Scores are vectors over tokens, outputs vectors over channels, so every chain of the contract
 * stays in its own lane. Tokens outside the visible range are masked, never multiplied by zero:
 * the cache may hold anything there.
 */
#include "kern/x86/elem_attn_x86.h"
#include "kern/x86/math_v16.h"

/* Stores the two parts of sixteen 24-bit values. */
V16_INLINE void store_parts(int16_t *high, int16_t *low, v16i x) {
    const v16i h = v16i_sra8(v16i_add(x, v16i_set1(128)));
    v16i_store_i16(high, h);
    v16i_store_i16(low, v16i_sub(x, v16i_shl8(h)));
}

/* The value of two sums of parts. */
V16_INLINE v16 join_parts(v16 high, v16 low) { return v16_fma(high, v16_set1(256.0f), low); }

float V16_NAME(attn_q24)(int16_t *q24, const float *q, const float *k_scale, uint32_t head_dim,
                         uint32_t pad) {
    v16i most = v16i_set1(0);
    for (uint32_t d = 0; d < head_dim; d += 16)
        most = v16i_max(most, v16_bits(v16_abs(v16_mul(get(q + d, head_dim - d),
                                                       get(k_scale + d, head_dim - d)))));
    const uint32_t absmax = (uint32_t)v16i_max_of(most);
    const int lost = !oct_abs_bits_finite(absmax);
    if (lost || absmax < OCT_ROW_ABSMAX_MIN_BITS) {
        memset(q24, 0, 2 * (size_t)pad * sizeof *q24);
        return lost ? NAN : 0.0f;
    }
    const float a = oct_f32_from_bits(absmax);
    const v16 inv = v16_set1(OCT_ATTN_Q24_MAX / a);
    uint32_t d = 0;
    for (; d < head_dim; d += 16) {
        const v16 v = v16_mul(get(q + d, head_dim - d), get(k_scale + d, head_dim - d));
        store_parts(q24 + d, q24 + pad + d,
                    v16_to_i32(v16_mul(v, inv))); /* pad is a multiple of 64 */
    }
    memset(q24 + d, 0, (pad - d) * sizeof *q24);
    memset(q24 + pad + d, 0, (pad - d) * sizeof *q24);
    return a / OCT_ATTN_Q24_MAX;
}

V16_INLINE v16 score_of(v16 raw, const oct_attn_score *score) {
    const v16 s = v16_mul(raw, v16_set1(score->factor));
    if (score->cap == 0.0f) return s;
    return v16_softcap(s, v16_set1(score->cap), v16_set1(score->inv_cap));
}

V16_INLINE v16 raw_score_i8(const int32_t *c, uint32_t t) {
    return join_parts(v16_load_i32(c + t), v16_load_i32(c + OCT_ATTN_SPAN + t));
}

/* The lanes of the sixteen tokens from t on that lie in [lo, hi). */
V16_INLINE v16m seen(uint32_t t, uint32_t lo, uint32_t hi) {
    return v16m_range((int32_t)lo - (int32_t)t, (int32_t)hi - (int32_t)t);
}

/* Scores into s, minus infinity where not seen; returns the largest, lane by lane. */
V16_INLINE v16 scores_i8(float *s, const int32_t *c, uint32_t lo, uint32_t hi, v16 factor) {
    const v16 low = v16_set1(-INFINITY);
    v16 most = low;
    for (uint32_t t = lo / 16 * 16; t < hi; t += 16) {
        v16 x = v16_mul(raw_score_i8(c, t), factor);
        if (t < lo || t + 16 > hi) x = v16_select(seen(t, lo, hi), x, low);
        v16_store(s + t, x);
        most = v16_max(x, most);
    }
    return most;
}

/* The same with a soft cap, apart because it is rare and long. */
static v16 capped_scores_i8(float *s, const int32_t *c, uint32_t lo, uint32_t hi,
                            const oct_attn_score *score) {
    const v16 low = v16_set1(-INFINITY), cap = v16_set1(score->cap);
    const v16 inv_cap = v16_set1(score->inv_cap), factor = v16_set1(score->factor);
    v16 most = low;
    for (uint32_t t = lo / 16 * 16; t < hi; t += 16) {
        const v16 x = v16_softcap(v16_mul(raw_score_i8(c, t), factor), cap, inv_cap);
        const v16 y = v16_select(seen(t, lo, hi), x, low);
        v16_store(s + t, y);
        most = v16_max(y, most);
    }
    return most;
}

void V16_NAME(attn_softmax_i8)(int16_t *p24, const int32_t *c, uint32_t lo, uint32_t hi,
                               const oct_attn_score *score, float *m, int32_t *l) {
    const uint32_t first = lo / 16 * 16, end = (hi + 15) / 16 * 16;
    _Alignas(64) float s[OCT_ATTN_SPAN];

    const v16 most = score->cap != 0.0f ? capped_scores_i8(s, c, lo, hi, score)
                                        : scores_i8(s, c, lo, hi, v16_set1(score->factor));
    *m = v16_max_of(most) + 0.0f;
    *l = 0;
    if (!oct_abs_bits_finite(oct_f32_abs_bits(*m))) return;

    const v16 max = v16_set1(*m), one = v16_set1(OCT_ATTN_P24_ONE);
    v16i sum = v16i_set1(0);
    for (int part = 0; part < 2; part++) {
        int16_t *at = p24 + part * OCT_ATTN_SPAN;
        if (first > 0) memset(at, 0, first * sizeof *at);
        if (end < OCT_ATTN_SPAN) memset(at + end, 0, (OCT_ATTN_SPAN - end) * sizeof *at);
    }
    for (uint32_t t = first; t < end; t += 16) {
        /* Unseen lanes are exp(-infinity) = 0. */
        const v16 p = v16_exp_small(v16_sub(v16_load(s + t), max));
        const v16i p_int = v16_to_i32(v16_mul(p, one));
        store_parts(p24 + t, p24 + OCT_ATTN_SPAN + t, p_int);
        sum = v16i_add(sum, p_int);
    }
    *l = v16i_sum_of(sum);
}

/* The scores of a cache with a scale a token; *lost: the largest magnitude among the bits of the
 * scales that are seen. */
V16_INLINE v16 scores_i8_token(float *s, const int32_t *c, uint32_t lo, uint32_t hi,
                               const oct_attn_score *score, const float *k_scale,
                               const float *v_scale, v16i *lost) {
    const v16 low = v16_set1(-INFINITY), factor = v16_set1(score->factor);
    v16 most = low;
    for (uint32_t t = lo / 16 * 16; t < hi; t += 16) {
        const v16 ks = v16_load(k_scale + t), vs = v16_load(v_scale + t);
        const v16i size = v16i_max(v16_bits(v16_abs(ks)), v16_bits(v16_abs(vs)));
        const v16m in = seen(t, lo, hi);
        v16 x = v16_mul(v16_mul(raw_score_i8(c, t), factor), ks);
        if (score->cap != 0.0f) x = v16_softcap(x, v16_set1(score->cap), v16_set1(score->inv_cap));
        x = v16_select(in, x, low);
        v16_store(s + t, x);
        most = v16_max(x, most);
        *lost = v16i_max(*lost, v16i_keep(in, size));
    }
    return most;
}

void V16_NAME(attn_softmax_i8_token)(int16_t *p24, const int32_t *c, uint32_t lo, uint32_t hi,
                                     const oct_attn_score *score, const float *k_scale,
                                     const float *v_scale, float *m, int32_t *l, float *w) {
    const uint32_t first = lo / 16 * 16, end = (hi + 15) / 16 * 16;
    _Alignas(64) float s[OCT_ATTN_SPAN];
    v16i lost = v16i_set1(0), sum = v16i_set1(0);

    const v16 best = scores_i8_token(s, c, lo, hi, score, k_scale, v_scale, &lost);
    *m = oct_abs_bits_finite((uint32_t)v16i_max_of(lost)) ? v16_max_of(best) + 0.0f : NAN;
    *l = 0;
    *w = 0.0f;
    if (!oct_abs_bits_finite(oct_f32_abs_bits(*m))) return;

    const v16 max = v16_set1(*m), one = v16_set1(OCT_ATTN_P24_ONE);
    v16 most = v16_zero();
    for (uint32_t t = first; t < end; t += 16) {
        /* Unseen lanes are exp(-infinity) = 0, and their scales may be anything. */
        const v16 p = v16_exp_small(v16_sub(v16_load(s + t), max));
        const v16 weight =
            v16_select(seen(t, lo, hi), v16_mul(p, v16_load(v_scale + t)), v16_zero());
        sum = v16i_add(sum, v16_to_i32(v16_mul(p, one)));
        most = v16_max(weight, most);
        v16_store(s + t, weight);
    }
    *l = v16i_sum_of(sum);
    memset(p24, 0, 2 * (size_t)OCT_ATTN_SPAN * sizeof *p24);
    const float largest = v16_max_of(most);
    if (oct_f32_bits(largest) < OCT_ROW_ABSMAX_MIN_BITS) return;
    const v16 inv = v16_set1(OCT_ATTN_P24_ONE / largest);
    for (uint32_t t = first; t < end; t += 16)
        store_parts(p24 + t, p24 + OCT_ATTN_SPAN + t, v16_to_i32(v16_mul(v16_load(s + t), inv)));
    *w = largest;
}

void V16_NAME(attn_softmax_f32)(float *p, uint32_t lo, uint32_t hi, const oct_attn_score *score,
                                float *m, float *l) {
    const v16 low = v16_set1(-INFINITY);
    v16 most = low;
    for (uint32_t t = lo; t < hi; t += 16) {
        const v16 s = score_of(get(p + t, hi - t), score);
        put(p + t, s, hi - t);
        most = v16_max(hi - t < 16 ? v16_select(seen(t, lo, hi), s, low) : s, most);
    }
    const float max = v16_max_of(most) + 0.0f;
    *m = max;
    for (uint32_t t = lo; t < hi; t += 16)
        put(p + t, v16_exp(v16_sub(get(p + t, hi - t), v16_set1(max))), hi - t);
    float sum = 0.0f;
    for (uint32_t t = lo; t < hi; t++) sum += p[t];
    *l = sum;
}

/* Two vectors of 16 tokens for each of `rows` rows; the chains run over d. */
#define QK(type, ctype, load)                                                                   \
    V16_INLINE void qk_rows_##type(float *s, size_t lds, const float *q, size_t ldq, int rows,  \
                                   const ctype *k, uint32_t head_dim) {                         \
        v16 sum[V16_QK_ROWS][2];                                                                \
        for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = v16_zero();                      \
        for (uint32_t d = 0; d < head_dim; d++) {                                               \
            const v16 k0 = load(k + d * OCT_ATTN_SUB), k1 = load(k + d * OCT_ATTN_SUB + 16);    \
            for (int i = 0; i < rows; i++) {                                                    \
                const v16 x = v16_set1(q[(size_t)i * ldq + d]);                                 \
                sum[i][0] = v16_fma(x, k0, sum[i][0]);                                          \
                sum[i][1] = v16_fma(x, k1, sum[i][1]);                                          \
            }                                                                                   \
        }                                                                                       \
        for (int i = 0; i < rows; i++) {                                                        \
            v16_store(s + (size_t)i * lds, sum[i][0]);                                          \
            v16_store(s + (size_t)i * lds + 16, sum[i][1]);                                     \
        }                                                                                       \
    }                                                                                           \
    void V16_NAME(attn_qk_##type)(float *s, size_t lds, const float *q, size_t ldq, uint32_t m, \
                                  const void *k, uint32_t head_dim) {                           \
        uint32_t i = 0;                                                                         \
        for (; i + V16_QK_ROWS <= m; i += V16_QK_ROWS)                                          \
            qk_rows_##type(s + i * lds, lds, q + i * ldq, ldq, V16_QK_ROWS, k, head_dim);       \
        for (; i < m; i++) qk_rows_##type(s + i * lds, lds, q + i * ldq, ldq, 1, k, head_dim);  \
    }
QK(f32, float, v16_load)
QK(bf16, uint16_t, v16_load_bf16)

/* Sixty-four channels at a time keep enough chains in flight. */
#define PV(type, ctype, load)                                                                 \
    V16_INLINE void pv_part_##type(float *o, const float *p, uint32_t lo, uint32_t hi,        \
                                   const ctype *v, size_t ldv, int n_vec) {                   \
        v16 sum[4];                                                                           \
        for (int j = 0; j < n_vec; j++) sum[j] = v16_load(o + 16 * j);                        \
        for (uint32_t t = lo; t < hi; t++) {                                                  \
            const v16 w = v16_set1(p[t]);                                                     \
            for (int j = 0; j < n_vec; j++)                                                   \
                sum[j] = v16_fma(w, load(v + t * ldv + 16 * j), sum[j]);                      \
        }                                                                                     \
        for (int j = 0; j < n_vec; j++) v16_store(o + 16 * j, sum[j]);                        \
    }                                                                                         \
    void V16_NAME(attn_pv_##type)(float *o, const float *p, uint32_t lo, uint32_t hi,         \
                                  const void *v, size_t ldv, uint32_t head_dim) {             \
        const ctype *at = v;                                                                  \
        uint32_t d = 0;                                                                       \
        for (; d + 64 <= head_dim; d += 64) pv_part_##type(o + d, p, lo, hi, at + d, ldv, 4); \
        for (; d + 16 <= head_dim; d += 16) pv_part_##type(o + d, p, lo, hi, at + d, ldv, 1); \
        if (d == head_dim) return;                                                            \
        const size_t left = head_dim - d;                                                     \
        v16 sum = v16_load_n(o + d, left);                                                    \
        for (uint32_t t = lo; t < hi; t++)                                                    \
            sum = v16_fma(v16_set1(p[t]), load##_n(at + t * ldv + d, left), sum);             \
        v16_store_n(o + d, sum, left);                                                        \
    }
PV(f32, float, v16_load)
PV(bf16, uint16_t, v16_load_bf16)

void V16_NAME(attn_merge_f32)(float *acc, const float *o, float a, float b, uint32_t head_dim) {
    for (uint32_t d = 0; d < head_dim; d += 16) {
        const size_t left = head_dim - d;
        const v16 add = v16_mul(get(o + d, left), v16_set1(b));
        put(acc + d, v16_fma(get(acc + d, left), v16_set1(a), add), left);
    }
}

void V16_NAME(attn_merge_i32)(float *acc, const int32_t *o, size_t ldo, float a, float b,
                              uint32_t head_dim) {
    for (uint32_t d = 0; d < head_dim; d += 16) {
        const size_t left = head_dim - d;
        const v16 x =
            left >= 16 ? join_parts(v16_load_i32(o + d), v16_load_i32(o + ldo + d))
                       : join_parts(v16_load_i32_n(o + d, left), v16_load_i32_n(o + ldo + d, left));
        put(acc + d, v16_fma(get(acc + d, left), v16_set1(a), v16_mul(x, v16_set1(b))), left);
    }
}

void V16_NAME(attn_finish)(float *out, const float *acc, float r, const float *v_offset,
                           const float *v_scale, uint32_t head_dim) {
    for (uint32_t d = 0; d < head_dim; d += 16) {
        const size_t left = head_dim - d;
        v16 o = v16_mul(get(acc + d, left), v16_set1(r));
        if (v_scale && v_offset) o = v16_sub(o, get(v_offset + d, left));
        if (v_scale) o = v16_mul(o, get(v_scale + d, left));
        put(out + d, o, left);
    }
}
