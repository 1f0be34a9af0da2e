/*
 * check_kv.c - the element types of the cache, bit for bit: every code that can be read, and floats
 * of every exponent, around every rounding border, that can be written.
 */
#include <math.h>
#include <string.h>

#include "cases.h"
#include "checks.h"
#include "quant/float_types.h"

static const uint32_t widths[] = {1, 8, 15, 16, 17, 31, 64, 80, 96, 128, 200, 256};

static void check_quant_token(kcheck *t, oct_kv_quant_token_fn ref, oct_kv_quant_token_fn fn) {
    static const float sizes[] = {1.0f, 1e-4f, 1.26e-4f, 1e-30f, 1e36f};
    static const float odd[] = {0, NAN, INFINITY, -INFINITY, 1e-40f};
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "kv_quant_token")) return;
    for (size_t w = 0; w < KC_COUNT(widths); w++)
        for (size_t s = 0; s < KC_COUNT(sizes); s++)
            for (int how = 0; how < KC_N_FILL; how++)
                for (size_t o = 0; o < KC_COUNT(odd); o++) {
                    const uint32_t n = widths[w];
                    float *x = kc_tail(t, 0, n * sizeof *x), *scale = kc_tail(t, 1, 8);
                    int8_t *want = kc_tail(t, 2, n), *got = kc_tail(t, 3, n);
                    kc_fill_f32(t, x, n, sizes[s], (kc_fill_kind)how);
                    if (o > 0) x[kc_random(t) % n] = odd[o];
                    kc_case(t, "n=%u size=%g fill=%d odd=%zu", n, (double)sizes[s], how, o);
                    scale[0] = ref(want, x, n);
                    scale[1] = fn(got, x, n);
                    kc_same_bytes(t, want, got, n);
                    kc_same_f32(t, scale, scale + 1, 1);
                }
}

/* Sixteen bits of exponent and mantissa, and what lies just below, on and above a border. */
static float pattern(uint32_t high, uint32_t i) {
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0xffff};
    return oct_f32_from_bits(high << 16 | low[i % KC_COUNT(low)]);
}

static void check_narrow_e4m3(kcheck *t, oct_kv_narrow_e4m3_fn ref, oct_kv_narrow_e4m3_fn fn) {
    enum { N = 64 };
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "kv_narrow_e4m3")) return;
    float *x = kc_tail(t, 0, N * sizeof *x), *scale = kc_tail(t, 1, N * sizeof *scale);
    uint8_t *want = kc_tail(t, 2, N), *got = kc_tail(t, 3, N);
    for (uint32_t high = 0; high < 65536; high += N)
        for (uint32_t low = 0; low < 5; low++) {
            for (uint32_t i = 0; i < N; i++) x[i] = pattern(high + i, low), scale[i] = 1.0f;
            kc_case(t, "floats %#x0000, low bits %u", high, low);
            ref(want, x, scale, N);
            fn(got, x, scale, N);
            kc_same_bytes(t, want, got, N);
        }
    for (size_t w = 0; w < KC_COUNT(widths); w++)
        for (int round = 0; round < 20; round++) {
            const uint32_t n = widths[w];
            x = kc_tail(t, 0, n * sizeof *x);
            scale = kc_tail(t, 1, n * sizeof *scale);
            want = kc_tail(t, 2, n);
            got = kc_tail(t, 3, n);
            kc_fill_f32(t, x, n, 40.0f, KC_RANDOM);
            for (uint32_t i = 0; i < n; i++) scale[i] = 0.05f + fabsf(kc_uniform(t));
            kc_case(t, "n=%u round=%d", n, round);
            ref(want, x, scale, n);
            fn(got, x, scale, n);
            kc_same_bytes(t, want, got, n);
        }
}

static void check_narrow_f16(kcheck *t, oct_kv_narrow_f16_fn ref, oct_kv_narrow_f16_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "kv_narrow_f16")) return;
    for (uint32_t high = 0, w = 0; high < 65536; w++) {
        const uint32_t n = widths[w % KC_COUNT(widths)];
        float *x = kc_tail(t, 0, n * sizeof *x);
        uint16_t *want = kc_tail(t, 2, n * 2), *got = kc_tail(t, 3, n * 2);
        for (uint32_t i = 0; i < n; i++) {
            x[i] = pattern(high + i < 65536 ? high + i : 0, w);
            if (isnan(x[i])) x[i] = copysignf(NAN, x[i]); /* a payload may go either way */
        }
        kc_case(t, "floats %#x0000", high);
        ref(want, x, n);
        fn(got, x, n);
        kc_same_bytes(t, want, got, n * sizeof *want);
        high += w % 5 == 4 ? n : 0;
    }
}

static void check_widen_e4m3(kcheck *t, oct_kv_widen_e4m3_fn ref, oct_kv_widen_e4m3_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "kv_widen_e4m3")) return;
    uint8_t *x = kc_tail(t, 0, 256);
    float *want = kc_tail(t, 1, 256 * 4), *got = kc_tail(t, 2, 256 * 4);
    for (int i = 0; i < 256; i++) x[i] = (uint8_t)i;
    kc_case(t, "all codes");
    ref(want, x, 256);
    fn(got, x, 256);
    kc_same_f32(t, want, got, 256);
    double a, b;
    if (!t->bench) return;
    KC_TIME(a, ref(want, x, 256));
    KC_TIME(b, fn(got, x, 256));
    kc_report(t, "256 codes", 256, a, b);
}

static void check_widen_f16(kcheck *t, oct_kv_widen_f16_fn ref, oct_kv_widen_f16_fn fn) {
    enum { N = 65536 };
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "kv_widen_f16")) return;
    uint16_t *x = kc_tail(t, 0, N * sizeof *x);
    float *want = kc_tail(t, 1, N * 4), *got = kc_tail(t, 2, N * 4);
    for (int i = 0; i < N; i++) x[i] = (uint16_t)i;
    kc_case(t, "all codes");
    ref(want, x, N);
    fn(got, x, N);
    kc_same_f32(t, want, got, N);
}

void check_kv(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    check_quant_token(t, ref->kv.quant_token, k->kv.quant_token);
    check_narrow_e4m3(t, ref->kv.narrow_e4m3, k->kv.narrow_e4m3);
    check_narrow_f16(t, ref->kv.narrow_f16, k->kv.narrow_f16);
    check_widen_e4m3(t, ref->kv.widen_e4m3, k->kv.widen_e4m3);
    check_widen_f16(t, ref->kv.widen_f16, k->kv.widen_f16);
}
