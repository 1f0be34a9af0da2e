/* check_epilogue.c - the epilogues are elementwise with a fixed order, so they too are compared bit
 * for bit, NaN and infinite scales included. */
#include <math.h>
#include <string.h>

#include "cases.h"
#include "checks.h"

enum { B_C, B_IBIAS, B_RS, B_CS, B_FBIAS, B_Y_REF, B_Y };

static const uint32_t widths[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 576};

static void fill_scales(kcheck *t, float *v, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) v[i] = ldexpf(kc_uniform(t), (int)(kc_random(t) % 24) - 12);
    if (n > 3) v[n / 2] = NAN;
    if (n > 5) v[n / 3] = INFINITY;
    if (n > 8) v[n - 1] = 1e-42f; /* a subnormal */
}

static void check_i8(kcheck *t, const oct_kern *ref, const oct_kern *k, uint32_t m, uint32_t n,
                     unsigned options) {
    const size_t ldc = n + m % 4, ldy = n + m % 3;
    const size_t n_c = (m - 1) * ldc + n, n_y = (m - 1) * ldy + n;
    int32_t *c = kc_tail(t, B_C, n_c * 4), *ibias = kc_tail(t, B_IBIAS, (size_t)n * 4);
    float *rs = kc_tail(t, B_RS, (size_t)m * 4), *cs = kc_tail(t, B_CS, (size_t)n * 4);
    float *fbias = kc_tail(t, B_FBIAS, (size_t)n * 4);
    float *want = kc_tail(t, B_Y_REF, n_y * 4), *got = kc_tail(t, B_Y, n_y * 4);
    for (size_t i = 0; i < n_c; i++) c[i] = (int32_t)kc_random(t) >> kc_random(t) % 24 >> 1;
    for (uint32_t j = 0; j < n; j++) ibias[j] = (int32_t)kc_random(t) >> 2;
    fill_scales(t, rs, m);
    fill_scales(t, cs, n);
    kc_fill_f32(t, fbias, n, 4.0f, KC_RANDOM);
    kc_fill_f32(t, want, n_y, 8.0f, KC_RANDOM);
    memcpy(got, want, n_y * 4);
    const oct_epilogue_i8 e = {
        .ibias = options & 1 ? ibias : NULL,
        .rs = options & 2 ? rs : NULL,
        .cs = cs,
        .fbias = options & 4 ? fbias : NULL,
        .add = (options & 8) != 0,
    };
    kc_case(t, "m=%u n=%u options=%x", m, n, options);
    ref->epilogue_i8(c, ldc, m, n, &e, want, ldy);
    k->epilogue_i8(c, ldc, m, n, &e, got, ldy);
    kc_same_f32(t, want, got, n_y);
}

static void check_f32(kcheck *t, const oct_kern *ref, const oct_kern *k, uint32_t m, uint32_t n,
                      unsigned options) {
    const size_t ldc = n + m % 4, ldy = n + m % 3;
    const size_t n_c = (m - 1) * ldc + n, n_y = (m - 1) * ldy + n;
    float *c = kc_tail(t, B_C, n_c * 4), *fbias = kc_tail(t, B_FBIAS, (size_t)n * 4);
    float *want = kc_tail(t, B_Y_REF, n_y * 4), *got = kc_tail(t, B_Y, n_y * 4);
    fill_scales(t, c, (uint32_t)n_c);
    kc_fill_f32(t, fbias, n, 4.0f, KC_RANDOM);
    kc_fill_f32(t, want, n_y, 8.0f, KC_RANDOM);
    memcpy(got, want, n_y * 4);
    kc_case(t, "m=%u n=%u options=%x", m, n, options);
    ref->epilogue_f32(c, ldc, m, n, options & 1 ? fbias : NULL, (options & 2) != 0, want, ldy);
    k->epilogue_f32(c, ldc, m, n, options & 1 ? fbias : NULL, (options & 2) != 0, got, ldy);
    kc_same_f32(t, want, got, n_y);
}

void check_epilogues(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    if (kc_begin(t, (kc_fn)ref->epilogue_i8, (kc_fn)k->epilogue_i8, "epilogue_i8"))
        for (size_t w = 0; w < KC_COUNT(widths); w++)
            for (uint32_t m = 1; m < 6; m++)
                for (unsigned o = 0; o < 16; o++) check_i8(t, ref, k, m, widths[w], o);
    if (kc_begin(t, (kc_fn)ref->epilogue_f32, (kc_fn)k->epilogue_f32, "epilogue_f32"))
        for (size_t w = 0; w < KC_COUNT(widths); w++)
            for (uint32_t m = 1; m < 6; m++)
                for (unsigned o = 0; o < 4; o++) check_f32(t, ref, k, m, widths[w], o);
}
