/*
 * check_elem.c - row operations: floats of a fixed order, so bit for bit (NaN equals NaN).
 *
 * Fills: ordinary sizes, the driver's extremes, and raw bit patterns, which hold NaN, infinities,
 * subnormals and every exponent.
 */
#include <math.h>
#include <string.h>

#include "cases.h"
#include "checks.h"
#include "quant/contract.h"

enum { WILD = KC_N_FILL, N_HOW };

static const uint32_t sizes[] = {1,  2,  7,  8,  15, 16,  17,  31,  32,
                                 33, 64, 65, 80, 96, 100, 576, 1537};

static void fill(kcheck *t, float *x, size_t n, float scale, int how) {
    if (how < KC_N_FILL) {
        kc_fill_f32(t, x, n, scale, (kc_fill_kind)how);
        return;
    }
    for (size_t i = 0; i < n; i++) x[i] = oct_f32_from_bits(kc_random(t));
}

static float *row(kcheck *t, unsigned slot, size_t n) {
    return kc_tail(t, slot, n * sizeof(float));
}

static void check_exp(kcheck *t, oct_exp_fn ref, oct_exp_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "exp")) return;
    /* Every 251st float, which is every exponent, and the neighbourhood of both ends. */
    enum { N = 4096 };
    float *x = row(t, 0, N), *want = row(t, 1, N), *got = row(t, 2, N);
    for (uint64_t u = 0; u < UINT64_C(0x100000000); u += (uint64_t)N * 2048) {
        for (uint32_t i = 0; i < N; i++)
            x[i] = oct_f32_from_bits((uint32_t)(u + (uint64_t)i * 2048 + kc_random(t) % 2048));
        kc_case(t, "bits from %llx", (unsigned long long)u);
        ref(want, x, N);
        fn(got, x, N);
        kc_same_f32(t, want, got, N);
    }
    static const float ends[] = {88.0f, -87.0f, 0.0f};
    for (size_t e = 0; e < KC_COUNT(ends); e++) {
        for (int i = 0; i < N; i++)
            x[i] = ends[e] + (float)i * 0x1p-12f * (ends[e] < 0 ? -1.0f : 1.0f);
        kc_case(t, "around %g", (double)ends[e]);
        ref(want, x, N);
        fn(got, x, N);
        kc_same_f32(t, want, got, N);
    }
    double a, b;
    if (!t->bench) return;
    kc_fill_f32(t, x, N, 10.0f, KC_RANDOM);
    KC_TIME(a, ref(want, x, N));
    KC_TIME(b, fn(got, x, N));
    kc_report(t, "4096 values", N, a, b);
}

static void check_act(kcheck *t, const char *name, oct_act_fn ref, oct_act_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, name)) return;
    for (size_t s = 0; s < KC_COUNT(sizes); s++)
        for (int how = 0; how < N_HOW; how++)
            for (int gated = 0; gated < 2; gated++) {
                const uint32_t n = sizes[s];
                float *x = row(t, 0, n), *mul = row(t, 1, n), *want = row(t, 2, n),
                      *got = row(t, 3, n);
                fill(t, x, n, 12.0f, how);
                fill(t, mul, n, 3.0f, how);
                kc_case(t, "n=%u fill=%d gated=%d", n, how, gated);
                ref(want, x, gated ? mul : NULL, n);
                fn(got, x, gated ? mul : NULL, n);
                kc_same_f32(t, want, got, n);
                fn(x, x, gated ? mul : NULL, n); /* in place */
                kc_same_f32(t, want, x, n);
            }
    double a, b;
    enum { N = 4096 };
    float *x = row(t, 0, N), *mul = row(t, 1, N), *y = row(t, 2, N);
    if (!t->bench) return;
    kc_fill_f32(t, x, N, 8.0f, KC_RANDOM);
    kc_fill_f32(t, mul, N, 8.0f, KC_RANDOM);
    KC_TIME(a, ref(y, x, mul, N));
    KC_TIME(b, fn(y, x, mul, N));
    kc_report(t, "4096 values, gated", N, a, b);
}

static void check_norm(kcheck *t, const char *name, oct_norm_fn ref, oct_norm_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, name)) return;
    for (size_t s = 0; s < KC_COUNT(sizes); s++)
        for (int how = 0; how < N_HOW; how++)
            for (int with = 0; with < 4; with++) {
                const uint32_t n = sizes[s];
                float *x = row(t, 0, n), *x2 = row(t, 1, n), *add = row(t, 2, n), *w = row(t, 3, n);
                float *b = row(t, 4, n), *want = row(t, 5, n), *got = row(t, 6, n);
                fill(t, x, n, 2.0f, how);
                memcpy(x2, x, n * sizeof *x);
                fill(t, add, n, 1.0f, how == WILD ? KC_RANDOM : how);
                fill(t, w, n, 1.0f, KC_RANDOM);
                fill(t, b, n, 1.0f, KC_RANDOM);
                kc_case(t, "n=%u fill=%d add=%d bias=%d", n, how, with & 1, with >> 1);
                ref(want, x, with & 1 ? add : NULL, w, with & 2 ? b : NULL, n, 1e-5f);
                fn(got, x2, with & 1 ? add : NULL, w, with & 2 ? b : NULL, n, 1e-5f);
                kc_same_f32(t, want, got, n);
                kc_same_f32(t, x, x2, n);
            }
    double a, b;
    enum { N = 2048 };
    float *x = row(t, 0, N), *w = row(t, 1, N), *y = row(t, 2, N);
    if (!t->bench) return;
    kc_fill_f32(t, x, N, 1.0f, KC_RANDOM);
    kc_fill_f32(t, w, N, 1.0f, KC_RANDOM);
    KC_TIME(a, ref(y, x, NULL, w, NULL, N, 1e-5f));
    KC_TIME(b, fn(y, x, NULL, w, NULL, N, 1e-5f));
    kc_report(t, "2048 values", N, a, b);
}

static void check_quant_row(kcheck *t, oct_quant_row_fn ref, oct_quant_row_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "quant_row")) return;
    static const oct_row_quant rules[] = {
        {OCT_ROW_QUANT_DYNAMIC, 0, 0},
        {OCT_ROW_QUANT_STATIC_BEFORE, 30.0f, 0.0f},
        {OCT_ROW_QUANT_STATIC_BEFORE, 61.7f, -17.3f},
        {OCT_ROW_QUANT_STATIC_AFTER, 61.7f, -17.0f},
        {OCT_ROW_QUANT_STATIC_AFTER, 128.0f, 127.0f},
        {OCT_ROW_QUANT_STATIC_BEFORE, INFINITY, 3.0f},
    };
    for (size_t s = 0; s < KC_COUNT(sizes); s++)
        for (int how = 0; how < N_HOW + 2; how++)
            for (size_t r = 0; r < KC_COUNT(rules) * 2; r++) {
                const uint32_t n = sizes[s];
                float *x = row(t, 0, n), *mul = row(t, 1, n);
                int8_t *want = kc_tail(t, 2, n), *got = kc_tail(t, 3, n);
                float *scale_want = row(t, 4, 1), *scale_got = row(t, 5, 1);
                fill(t, x, n, 2.0f, how < N_HOW ? how : KC_RANDOM);
                /* exact halves, where ties to even shows, and one lost value */
                if (how == N_HOW)
                    for (uint32_t i = 0; i < n; i++) x[i] = rintf(x[i] * 64.0f) * 0.5f / 61.0f;
                if (how == N_HOW + 1) x[kc_random(t) % n] = NAN;
                fill(t, mul, n, 1.5f, KC_RANDOM);
                const float *m = r & 1 ? mul : NULL;
                kc_case(t, "n=%u fill=%d rule=%zu", n, how, r);
                *scale_want = ref(want, x, m, n, &rules[r / 2]);
                *scale_got = fn(got, x, m, n, &rules[r / 2]);
                kc_same_bytes(t, want, got, n);
                kc_same_f32(t, scale_want, scale_got, 1);
            }
    /* The threshold below which a row counts as zero. */
    for (int i = -2; i <= 2; i++) {
        float *x = row(t, 0, 5);
        int8_t *want = kc_tail(t, 2, 5), *got = kc_tail(t, 3, 5);
        float *scale = row(t, 4, 2);
        for (int j = 0; j < 5; j++)
            x[j] = oct_f32_from_bits(OCT_ROW_ABSMAX_MIN_BITS + (uint32_t)(i * (j & 1)));
        kc_case(t, "2^-100 %+d", i);
        scale[0] = ref(want, x, NULL, 5, &rules[0]);
        scale[1] = fn(got, x, NULL, 5, &rules[0]);
        kc_same_bytes(t, want, got, 5);
        kc_same_f32(t, scale, scale + 1, 1);
    }
    double a, b;
    enum { N = 2048 };
    float *x = row(t, 0, N);
    int8_t *q = kc_tail(t, 2, N);
    if (!t->bench) return;
    kc_fill_f32(t, x, N, 1.0f, KC_RANDOM);
    KC_TIME(a, ref(q, x, NULL, N, &rules[0]));
    KC_TIME(b, fn(q, x, NULL, N, &rules[0]));
    kc_report(t, "2048 values, dynamic", N, a, b);
    KC_TIME(a, ref(q, x, NULL, N, &rules[1]));
    KC_TIME(b, fn(q, x, NULL, N, &rules[1]));
    kc_report(t, "2048 values, static", N, a, b);
}

static void check_quant_channels(kcheck *t, oct_quant_channels_fn ref, oct_quant_channels_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "quant_channels")) return;
    for (size_t s = 0; s < KC_COUNT(sizes); s++)
        for (int how = 0; how < N_HOW; how++)
            for (int with = 0; with < 2; with++) {
                const uint32_t n = sizes[s];
                float *x = row(t, 0, n), *inv = row(t, 1, n), *off = row(t, 2, n);
                int8_t *want = kc_tail(t, 3, n), *got = kc_tail(t, 4, n);
                fill(t, x, n, 2.0f, how);
                fill(t, inv, n, 80.0f, KC_RANDOM);
                fill(t, off, n, 20.0f, KC_RANDOM);
                kc_case(t, "n=%u fill=%d off=%d", n, how, with);
                ref(want, x, inv, with ? off : NULL, n);
                fn(got, x, inv, with ? off : NULL, n);
                kc_same_bytes(t, want, got, n);
            }
}

static void check_rope(kcheck *t, oct_rope_fn ref, oct_rope_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "rope")) return;
    for (size_t s = 0; s < KC_COUNT(sizes); s++)
        for (int how = 0; how < N_HOW; how++) {
            const uint32_t half = sizes[s];
            float *x = row(t, 0, 2 * half), *c = row(t, 1, half), *sn = row(t, 2, half);
            float *want = row(t, 3, 2 * half), *got = row(t, 4, 2 * half);
            fill(t, x, 2 * half, 5.0f, how);
            fill(t, c, half, 1.0f, KC_RANDOM);
            fill(t, sn, half, 1.0f, KC_RANDOM);
            kc_case(t, "half=%u fill=%d", half, how);
            ref(want, x, c, sn, half);
            fn(got, x, c, sn, half);
            kc_same_f32(t, want, got, 2 * half);
            fn(x, x, c, sn, half);
            kc_same_f32(t, want, x, 2 * half);
        }
}

static void check_row_max(kcheck *t, oct_row_max_fn ref, oct_row_max_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "row_max")) return;
    for (size_t s = 0; s < KC_COUNT(sizes); s++)
        for (int how = 0; how < N_HOW + 2; how++) {
            const uint32_t n = sizes[s];
            float *x = row(t, 0, n), *m = row(t, 1, 2);
            fill(t, x, n, 5.0f, how < N_HOW ? how : KC_RANDOM);
            for (uint32_t i = 0; how == N_HOW && i < n; i++) x[i] = i & 1 ? -0.0f : -INFINITY;
            if (how == N_HOW + 1) x[kc_random(t) % n] = NAN;
            kc_case(t, "n=%u fill=%d", n, how);
            const oct_row_max want = ref(x, n), got = fn(x, n);
            m[0] = want.max;
            m[1] = got.max;
            kc_same_f32(t, m, m + 1, 1);
            kc_same_i32(t, &want.has_nan, &got.has_nan, 1);
        }
}

/* Up to a row of 8 experts and a shared one; in place of nothing and on top of what is there. */
static void check_weighted_sum(kcheck *t, oct_weighted_sum_fn ref, oct_weighted_sum_fn fn) {
    enum { MOST = 9 };
    static const uint32_t counts[] = {1, 2, 3, MOST};
    const float *x[MOST];
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "weighted_sum")) return;
    for (size_t s = 0; s < KC_COUNT(sizes); s++)
        for (size_t c = 0; c < KC_COUNT(counts); c++)
            for (int how = 0; how < 2 * N_HOW; how++) {
                const uint32_t n = sizes[s], n_x = counts[c];
                const int add = how & 1;
                float *w = row(t, 0, n_x), *want = row(t, 1, n), *got = row(t, 2, n);
                for (uint32_t i = 0; i < n_x; i++) {
                    float *xi = row(t, 3 + i, n);
                    fill(t, xi, n, 2.0f, how / 2);
                    x[i] = xi;
                }
                fill(t, w, n_x, 1.0f, KC_RANDOM);
                fill(t, want, n, 1.0f, KC_RANDOM);
                memcpy(got, want, n * sizeof *got);
                kc_case(t, "n=%u rows=%u fill=%d add=%d", n, n_x, how / 2, add);
                ref(want, x, w, n_x, n, add);
                fn(got, x, w, n_x, n, add);
                kc_same_f32(t, want, got, n);
            }
    double a, b;
    enum { N = 2048 };
    float *w = row(t, 0, MOST), *y = row(t, 1, N);
    if (!t->bench) return;
    kc_fill_f32(t, w, MOST, 1.0f, KC_RANDOM);
    for (uint32_t i = 0; i < MOST; i++) {
        float *xi = row(t, 3 + i, N);
        kc_fill_f32(t, xi, N, 1.0f, KC_RANDOM);
        x[i] = xi;
    }
    KC_TIME(a, ref(y, x, w, MOST, N, 0));
    KC_TIME(b, fn(y, x, w, MOST, N, 0));
    kc_report(t, "9 rows of 2048", MOST * N, a, b);
}

static void check_soft_sum(kcheck *t, oct_soft_sum_fn ref, oct_soft_sum_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "soft_sum")) return;
    for (size_t s = 0; s < KC_COUNT(sizes); s++)
        for (int how = 0; how < N_HOW; how++) {
            const uint32_t n = sizes[s];
            float *x = row(t, 0, n), *want = row(t, 1, n), *got = row(t, 2, n);
            fill(t, x, n, 20.0f, how);
            kc_case(t, "n=%u fill=%d", n, how);
            const double a = ref(want, x, n, 19.5f, 0.7f), b = fn(got, x, n, 19.5f, 0.7f);
            kc_same_f32(t, want, got, n);
            if (a == a || b == b) kc_same_bytes(t, &a, &b, sizeof a);
        }
}

static void check_softcap(kcheck *t, oct_softcap_fn ref, oct_softcap_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "softcap")) return;
    for (size_t s = 0; s < KC_COUNT(sizes); s++)
        for (int how = 0; how < N_HOW; how++) {
            const uint32_t n = sizes[s];
            float *want = row(t, 0, n), *got = row(t, 1, n);
            fill(t, want, n, 40.0f, how);
            memcpy(got, want, n * sizeof *got);
            kc_case(t, "n=%u fill=%d", n, how);
            ref(want, n, 15.0f);
            fn(got, n, 15.0f);
            kc_same_f32(t, want, got, n);
        }
}

void check_elem(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    check_exp(t, ref->elem.exp, k->elem.exp);
    check_act(t, "act_silu", ref->elem.act_silu, k->elem.act_silu);
    check_act(t, "act_gelu", ref->elem.act_gelu, k->elem.act_gelu);
    check_act(t, "act_gelu_tanh", ref->elem.act_gelu_tanh, k->elem.act_gelu_tanh);
    check_act(t, "act_relu", ref->elem.act_relu, k->elem.act_relu);
    check_norm(t, "rms_norm", ref->elem.rms_norm, k->elem.rms_norm);
    check_norm(t, "layer_norm", ref->elem.layer_norm, k->elem.layer_norm);
    check_quant_row(t, ref->elem.quant_row, k->elem.quant_row);
    check_quant_channels(t, ref->elem.quant_channels, k->elem.quant_channels);
    check_rope(t, ref->elem.rope, k->elem.rope);
    check_row_max(t, ref->elem.row_max, k->elem.row_max);
    check_soft_sum(t, ref->elem.soft_sum, k->elem.soft_sum);
    check_weighted_sum(t, ref->elem.weighted_sum, k->elem.weighted_sum);
    check_softcap(t, ref->elem.softcap, k->elem.softcap);
}
