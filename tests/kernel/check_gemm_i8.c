/* check_gemm_i8.c - int8 and int16 products are exact in int32: variants are compared bit for bit.
 */
#include <string.h>

#include "cases.h"
#include "checks.h"
#include "kern/pack.h"

enum {
    B_Q,
    B_SRC,
    B_ROWS_REF,
    B_ROWS,
    B_PANELS,
    B_SUMS,
    B_C_REF,
    B_C,
    B_IBIAS,
    B_RS,
    B_CS,
    B_FBIAS,
    B_CELLS
};

/* Pairs of fills: all against random, and the extremes against each other. */
static const struct {
    kc_fill_kind q, w;
} fills[] = {
    {KC_RANDOM, KC_RANDOM}, {KC_MIN, KC_MIN},     {KC_MIN, KC_MAX},
    {KC_MAX, KC_MIN},       {KC_MAX, KC_MAX},     {KC_ALTERNATING, KC_MIN},
    {KC_RANDOM, KC_MIN},    {KC_LAST, KC_RANDOM}, {KC_ZERO, KC_MAX},
};

static int8_t *packed(kcheck *t, const oct_kern *ref, uint32_t n, uint32_t k, kc_fill_kind how,
                      int32_t **sums) {
    const uint32_t n_panels = oct_pack_n_panels(n);
    int8_t *src = kc_tail(t, B_SRC, (size_t)n * k);
    int8_t *panels = kc_tail(t, B_PANELS, oct_pack_bytes(OCT_PACK_I8, n, k));
    *sums = kc_tail(t, B_SUMS, (size_t)n_panels * 64);
    kc_fill_i8(t, src, (size_t)n * k, how);
    memset(panels, 0, oct_pack_bytes(OCT_PACK_I8, n, k));
    memset(*sums, 0, (size_t)n_panels * 64);
    oct_pack_i8(&ref->pack, panels, *sums, src, k, n, k, 0);
    return panels;
}

static void one_shape(kcheck *t, const oct_kern *ref, const oct_kern *k, kc_gemm_shape s,
                      unsigned fill) {
    const uint32_t n_panels = oct_pack_n_panels(s.n), kpad = oct_pack_kpad(s.k);
    const size_t panel_bytes = oct_pack_panel_bytes_i8(s.k);
    const size_t ref_bytes = ref->row_bytes_i8(s.k), bytes = k->row_bytes_i8(s.k);
    const size_t ldq = s.k + s.m % 3, ldc = (size_t)n_panels * 16 + (s.m % 2) * 5;
    const size_t cells = (s.m - 1) * ldc + (size_t)n_panels * 16;
    kc_case(t, "m=%u n=%u k=%u fill=%u", s.m, s.n, s.k, fill);

    int32_t *sums;
    const int8_t *panels = packed(t, ref, s.n, s.k, fills[fill].w, &sums);
    int8_t *q = kc_tail(t, B_Q, (s.m - 1) * ldq + s.k);
    kc_fill_i8(t, q, (s.m - 1) * ldq + s.k, fills[fill].q);
    void *rows_ref = kc_tail(t, B_ROWS_REF, s.m * ref_bytes);
    void *rows = kc_tail(t, B_ROWS, s.m * bytes);
    int32_t *want = kc_tail(t, B_C_REF, cells * 4), *got = kc_tail(t, B_C, cells * 4);
    memset(want, 0x5a, cells * 4);
    memset(got, 0x5a, cells * 4);
    memset(rows, 0x77, s.m * bytes); /* what the padding must not inherit */

    ref->prep_rows_i8(q, ldq, s.m, s.k, rows_ref);
    k->prep_rows_i8(q, ldq, s.m, s.k, rows);
    ref->gemm_i8(rows_ref, ref_bytes, s.m, panels, kpad, panel_bytes, n_panels, sums, want, ldc);
    k->gemm_i8(rows, bytes, s.m, panels, kpad, panel_bytes, n_panels, sums, got, ldc);
    kc_same_i32(t, want, got, cells);

    if (t->bench && s.m * (uint64_t)s.n * s.k > 1u << 20 && fill == 0) {
        double before, after;
        KC_TIME(before, ref->gemm_i8(rows_ref, ref_bytes, s.m, panels, kpad, panel_bytes, n_panels,
                                     sums, want, ldc));
        KC_TIME(after,
                k->gemm_i8(rows, bytes, s.m, panels, kpad, panel_bytes, n_panels, sums, got, ldc));
        kc_report(t, t->where, (double)s.m * s.n * s.k, before, after);
    }
}

/* The product with its epilogue: option bits as in check_epilogue.c. */
static void one_product(kcheck *t, const oct_kern *ref, const oct_kern *k, kc_gemm_shape s,
                        unsigned fill, unsigned options) {
    const uint32_t kpad = oct_pack_kpad(s.k), n_pad = oct_pack_n_panels(s.n) * 16;
    const size_t panel_bytes = oct_pack_panel_bytes_i8(s.k);
    const size_t ref_bytes = ref->row_bytes_i8(s.k), bytes = k->row_bytes_i8(s.k);
    const size_t ldy = s.n + s.m % 3, n_y = (s.m - 1) * ldy + s.n;
    kc_case(t, "m=%u n=%u k=%u fill=%u options=%x", s.m, s.n, s.k, fill, options);

    int32_t *sums;
    const int8_t *panels = packed(t, ref, s.n, s.k, fills[fill].w, &sums);
    int8_t *q = kc_tail(t, B_Q, (size_t)s.m * s.k);
    void *rows_ref = kc_tail(t, B_ROWS_REF, s.m * ref_bytes);
    void *rows = kc_tail(t, B_ROWS, s.m * bytes);
    int32_t *cells = kc_tail(t, B_CELLS, OCT_KERN_PRODUCT_CELLS(s.m) * 4);
    int32_t *ibias = kc_tail(t, B_IBIAS, n_pad * sizeof *ibias);
    float *rs = kc_tail(t, B_RS, s.m * sizeof *rs), *cs = kc_tail(t, B_CS, s.n * sizeof *cs);
    float *fbias = kc_tail(t, B_FBIAS, s.n * sizeof *fbias);
    float *want = kc_tail(t, B_C_REF, n_y * 4), *got = kc_tail(t, B_C, n_y * 4);
    kc_fill_i8(t, q, (size_t)s.m * s.k, fills[fill].q);
    for (uint32_t j = 0; j < n_pad; j++) ibias[j] = (int32_t)kc_random(t) >> 8;
    kc_fill_f32(t, rs, s.m, 0.1f, KC_RANDOM);
    kc_fill_f32(t, cs, s.n, 0.1f, KC_RANDOM);
    kc_fill_f32(t, fbias, s.n, 4.0f, KC_RANDOM);
    kc_fill_f32(t, want, n_y, 8.0f, KC_RANDOM);
    memcpy(got, want, n_y * 4);
    const oct_epilogue_i8 e = {.ibias = options & 1 ? ibias + (n_pad - s.n) : NULL,
                               .rs = options & 2 ? rs : NULL,
                               .cs = cs,
                               .fbias = options & 4 ? fbias : NULL,
                               .add = (options & 8) != 0};

    ref->prep_rows_i8(q, s.k, s.m, s.k, rows_ref);
    k->prep_rows_i8(q, s.k, s.m, s.k, rows);
    ref->product_i8(rows_ref, ref_bytes, s.m, panels, kpad, panel_bytes, s.n, sums, &e, want, ldy,
                    cells);
    k->product_i8(rows, bytes, s.m, panels, kpad, panel_bytes, s.n, sums, &e, got, ldy, cells);
    kc_same_f32(t, want, got, n_y);
}

void check_product_i8(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    if (!kc_begin(t, (kc_fn)ref->product_i8, (kc_fn)k->product_i8, "product_i8")) return;
    unsigned turn = 0; /* every option and fill meets every size, but not every combination */
    for (size_t a = 0; a < KC_COUNT(kc_ms); a++)
        for (size_t b = 0; b < KC_COUNT(kc_ns); b++)
            for (size_t c = 0; c < KC_COUNT(kc_ks); c++, turn++)
                one_product(t, ref, k, (kc_gemm_shape){kc_ms[a], kc_ns[b], kc_ks[c]},
                            turn % KC_COUNT(fills), turn % 16);
    for (size_t i = 0; i < KC_COUNT(kc_gemm_shapes); i++)
        for (unsigned o = 0; o < 16; o += 3)
            one_product(t, ref, k, kc_gemm_shapes[i], o % KC_COUNT(fills), o);
}

void check_gemm_i8(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    if (!kc_begin(t, (kc_fn)ref->gemm_i8, (kc_fn)k->gemm_i8, "gemm_i8")) return;
    for (size_t a = 0; a < KC_COUNT(kc_ms); a++)
        for (size_t b = 0; b < KC_COUNT(kc_ns); b++)
            for (size_t c = 0; c < KC_COUNT(kc_ks); c++) {
                const kc_gemm_shape s = {kc_ms[a], kc_ns[b], kc_ks[c]};
                /* Every fill meets every size, but not every combination of three. */
                for (unsigned f = 0; f < 3; f++)
                    one_shape(t, ref, k, s, (unsigned)((a + b + c + 3 * f) % KC_COUNT(fills)));
            }
    for (size_t i = 0; i < KC_COUNT(kc_gemm_shapes); i++)
        for (unsigned f = 0; f < 3; f++) one_shape(t, ref, k, kc_gemm_shapes[i], f);
}

void check_gemm_i16(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    if (!kc_begin(t, (kc_fn)ref->gemm_i16, (kc_fn)k->gemm_i16, "gemm_i16")) return;
    for (size_t i = 0; i < KC_COUNT(kc_attention_shapes); i++)
        for (unsigned f = 0; f < KC_COUNT(fills); f++) {
            const kc_gemm_shape s = kc_attention_shapes[i];
            const uint32_t n_panels = s.n / 16;
            const size_t panel_bytes = (size_t)s.k * 16 + (f & 1) * 64;
            const size_t lda = s.k + s.m % 3, ldc = s.n + s.m % 2 * 5;
            const size_t cells = (s.m - 1) * ldc + s.n;
            const size_t weights = (n_panels - 1) * panel_bytes + (size_t)s.k * 16;
            kc_case(t, "m=%u n=%u k=%u fill=%u", s.m, s.n, s.k, f);
            int16_t *a = kc_tail(t, B_Q, ((s.m - 1) * lda + s.k) * 2);
            int8_t *panels = kc_tail(t, B_PANELS, weights);
            int32_t *want = kc_tail(t, B_C_REF, cells * 4), *got = kc_tail(t, B_C, cells * 4);
            kc_fill_i16(t, a, (s.m - 1) * lda + s.k, fills[f].q);
            kc_fill_i8(t, panels, weights, fills[f].w);
            memset(want, 0x5a, cells * 4);
            memset(got, 0x5a, cells * 4);
            ref->gemm_i16(a, lda, s.m, panels, s.k, panel_bytes, n_panels, want, ldc);
            k->gemm_i16(a, lda, s.m, panels, s.k, panel_bytes, n_panels, got, ldc);
            kc_same_i32(t, want, got, cells);
            if (t->bench && f == 0 && s.k >= 32) {
                double before, after;
                KC_TIME(before,
                        ref->gemm_i16(a, lda, s.m, panels, s.k, panel_bytes, n_panels, want, ldc));
                KC_TIME(after,
                        k->gemm_i16(a, lda, s.m, panels, s.k, panel_bytes, n_panels, got, ldc));
                kc_report(t, t->where, (double)s.m * s.n * s.k, before, after);
            }
        }
}
