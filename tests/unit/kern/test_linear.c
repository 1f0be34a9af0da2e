/*
 * test_linear.c - the reference products against formulas over the unpacked matrix, packing there
 * and back, and the blocking of a linear layer. That variants equal the reference is kcheck's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "kern/bench.h"
#include "kern/linear.h"
#include "kern/peak.h"
#include "quant/contract.h"

/* Packs with what this CPU does best. */
static oct_kern best;

static uint32_t state = 12345;
static uint32_t next_random(void) { return state = state * 1664525u + 1013904223u; }
static int8_t random_i8(void) { return (int8_t)(next_random() >> 24); }
static float random_f32(void) { return (float)(int32_t)next_random() * 0x1p-31f; }

static void *get(size_t n, size_t size) {
    void *p = oct_calloc(oct_system_allocator(), n, size);
    assert_non_null(p);
    return p;
}
static void put(void *p, size_t n, size_t size) { oct_free(oct_system_allocator(), p, n, size); }

/* ---- packing -------------------------------------------------------------------------------- */

/* Everything is written but what lies behind the last row. */
static void soil(void *panels, size_t bytes, size_t panel_bytes, uint32_t n) {
    memset(panels, 0x55, bytes);
    if (n % 16) memset((char *)panels + bytes - panel_bytes, 0, panel_bytes);
}

/* Back to dst[n][k], by the words of kern/pack.h. */
static void unpack_i8(int8_t *dst, const int8_t *panels, uint32_t n, uint32_t k) {
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t t = 0; t < k; t++)
            dst[(size_t)i * k + t] = panels[i / 16 * oct_pack_panel_bytes_i8(k) +
                                            ((size_t)(t / 4) * 16 + i % 16) * 4 + t % 4];
}
static void unpack_float(uint8_t *dst, size_t elem, const uint8_t *panels, uint32_t n, uint32_t k) {
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t t = 0; t < k; t++)
            memcpy(dst + ((size_t)i * k + t) * elem,
                   panels + (((size_t)(i / 16) * k + t) * 16 + i % 16) * elem, elem);
}

/* W packed in three pieces whose borders are not panels is W packed at once, and comes back. */
static void one_packing(uint32_t n, uint32_t k) {
    const size_t bytes = oct_pack_bytes(OCT_PACK_I8, n, k);
    const uint32_t n_sums = oct_pack_n_panels(n) * 16;
    int8_t *src = get(n, k), *whole = get(bytes, 1), *parts = get(bytes, 1), *back = get(n, k);
    int32_t *sums = get(n_sums, 4), *sums_parts = get(n_sums, 4);
    for (size_t i = 0; i < (size_t)n * k; i++) src[i] = random_i8();
    soil(whole, bytes, oct_pack_panel_bytes_i8(k), n);
    soil(parts, bytes, oct_pack_panel_bytes_i8(k), n);
    oct_pack_i8(&best.pack, whole, sums, src, k, n, k, 0);
    const uint32_t cuts[] = {0, n / 3, n / 3 + n / 4, n};
    for (int i = 0; i < 3; i++)
        oct_pack_i8(&best.pack, parts, sums_parts, src + (size_t)cuts[i] * k, k,
                    cuts[i + 1] - cuts[i], k, cuts[i]);
    assert_memory_equal(whole, parts, bytes);
    assert_memory_equal(sums, sums_parts, n_sums * 4);
    unpack_i8(back, whole, n, k);
    assert_memory_equal(src, back, (size_t)n * k);

    /* Padding is zero: the bytes add up to what the rows add up to. */
    int64_t packed = 0, total = 0;
    for (size_t i = 0; i < bytes; i++) packed += whole[i];
    for (uint32_t i = 0; i < n_sums; i++) {
        int32_t row = 0;
        for (uint32_t t = 0; i < n && t < k; t++) row += src[(size_t)i * k + t];
        assert_int_equal(sums[i], row);
        total += row;
    }
    assert_true(packed == total);
    put(sums_parts, n_sums, 4);
    put(sums, n_sums, 4);
    put(back, n, k);
    put(parts, bytes, 1);
    put(whole, bytes, 1);
    put(src, n, k);
}

static void packing_there_and_back(void **s) {
    (void)s;
    static const uint32_t ns[] = {1, 15, 16, 17, 48, 67}, ks[] = {1, 3, 4, 63, 64, 65, 300, 1027};
    for (size_t i = 0; i < sizeof ns / sizeof *ns; i++)
        for (size_t j = 0; j < sizeof ks / sizeof *ks; j++) one_packing(ns[i], ks[j]);
}

static void packing_places_bytes_as_documented(void **s) {
    (void)s;
    enum { N = 20, K = 70 };
    int8_t src[N * K], panels[2 * 128 * 16] = {0};
    for (int i = 0; i < N * K; i++) src[i] = random_i8();
    assert_int_equal(oct_pack_bytes(OCT_PACK_I8, N, K), sizeof panels);
    oct_pack_i8(&best.pack, panels, NULL, src, K, N, K, 0);
    for (unsigned p = 0; p < 2; p++)
        for (unsigned k = 0; k < 128; k++)
            for (unsigned j = 0; j < 16; j++) {
                const unsigned n = 16 * p + j;
                const int8_t want = n < N && k < K ? src[n * K + k] : 0;
                assert_int_equal(panels[p * 2048 + ((k / 4) * 16 + j) * 4 + k % 4], want);
            }
}

static void packing_extreme_sums(void **s) {
    (void)s;
    enum { K = 131071 };
    int8_t *src = get(16, K), *panels = get(oct_pack_bytes(OCT_PACK_I8, 16, K), 1);
    int32_t sums[16];
    memset(src, -128, 16 * (size_t)K);
    oct_pack_i8(&best.pack, panels, sums, src, K, 16, K, 0);
    for (int j = 0; j < 16; j++) assert_int_equal(sums[j], -128 * K);
    put(panels, oct_pack_bytes(OCT_PACK_I8, 16, K), 1);
    put(src, 16, K);
}

static void packing_floats(void **s) {
    (void)s;
    for (int type = OCT_PACK_F32; type <= OCT_PACK_F16; type++)
        for (uint32_t n = 1; n < 40; n += 7) {
            const uint32_t k = 3 * n + 1;
            const size_t elem = oct_pack_elem_bytes((oct_pack_type)type);
            const size_t bytes = oct_pack_bytes((oct_pack_type)type, n, k);
            uint8_t *src = get((size_t)n * k, elem), *panels = get(bytes, 1);
            uint8_t *back = get((size_t)n * k, elem);
            for (size_t i = 0; i < n * k * elem; i++) src[i] = (uint8_t)random_i8();
            soil(panels, bytes, oct_pack_panel_bytes((oct_pack_type)type, k), n);
            const uint32_t cut = n / 3;
            oct_pack_float(&best.pack, panels, (oct_pack_type)type, src, k, cut, k, 0);
            oct_pack_float(&best.pack, panels, (oct_pack_type)type, src + cut * k * elem, k,
                           n - cut, k, cut);
            unpack_float(back, elem, panels, n, k);
            assert_memory_equal(src, back, (size_t)n * k * elem);
            put(back, (size_t)n * k, elem);
            put(panels, bytes, 1);
            put(src, (size_t)n * k, elem);
        }
}

/* ---- products ------------------------------------------------------------------------------- */

/* Whole layers, cut for threads, against the words of the contract, on the table of mask. */
static void one_layer_i8(uint32_t mask, uint32_t m, uint32_t n, uint32_t k, int options) {
    oct_kern kern;
    oct_kern_init(&kern, mask);
    const size_t bytes = oct_pack_bytes(OCT_PACK_I8, n, k), row_bytes = kern.row_bytes_i8(k);
    const uint32_t n_panels = oct_pack_n_panels(n), n_sums = n_panels * 16;
    int8_t *w = get(n, k), *panels = get(bytes, 1), *q = get(m, k);
    int32_t *sums = get(n_sums, 4), *ibias = get(n, 4);
    float *rs = get(m, 4), *cs = get(n, 4), *fbias = get(n, 4), *out = get((size_t)m * n, 4);
    float *before = get((size_t)m * n, 4);
    char *rows = get(m, row_bytes), *scratch = get(OCT_KERN_LINEAR_SCRATCH, 1);
    for (size_t i = 0; i < (size_t)n * k; i++) w[i] = random_i8();
    for (size_t i = 0; i < (size_t)m * k; i++) q[i] = random_i8();
    for (uint32_t i = 0; i < m; i++) rs[i] = random_f32();
    for (uint32_t j = 0; j < n; j++) {
        cs[j] = random_f32();
        fbias[j] = random_f32();
        ibias[j] = (int32_t)next_random() >> 8;
    }
    for (size_t i = 0; i < (size_t)m * n; i++) before[i] = out[i] = random_f32();
    oct_pack_i8(&best.pack, panels, sums, w, k, n, k, 0);
    kern.prep_rows_i8(q, k, m, k, rows);

    const oct_linear_i8_weight weight = {.n = n,
                                         .k = k,
                                         .panels = panels,
                                         .colsum = sums,
                                         .cs = cs,
                                         .ibias = options & 1 ? ibias : NULL,
                                         .fbias = options & 2 ? fbias : NULL};
    const oct_linear_i8_args args = {.rows = rows,
                                     .rs = options & 4 ? rs : NULL,
                                     .m = m,
                                     .weight = &weight,
                                     .out = out,
                                     .ldo = n,
                                     .add = (options & 8) != 0};
    const uint32_t cuts[] = {0, n_panels / 3, n_panels / 3, n_panels};
    for (int i = 0; i < 3; i++) oct_kern_linear_i8(&kern, &args, cuts[i], cuts[i + 1], scratch);

    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < n; j++) {
            int64_t acc = options & 1 ? ibias[j] : 0;
            for (uint32_t t = 0; t < k; t++)
                acc += (int64_t)q[(size_t)i * k + t] * w[(size_t)j * k + t];
            float y = (float)(int32_t)acc * (options & 4 ? rs[i] : 1.0f);
            y = y * cs[j];
            if (options & 2) y = y + fbias[j];
            if (options & 8) y = before[(size_t)i * n + j] + y;
            assert_memory_equal(&y, &out[(size_t)i * n + j], 4);
        }
    put(scratch, OCT_KERN_LINEAR_SCRATCH, 1);
    put(rows, m, row_bytes);
    put(before, (size_t)m * n, 4);
    put(out, (size_t)m * n, 4);
    put(fbias, n, 4);
    put(cs, n, 4);
    put(rs, m, 4);
    put(ibias, n, 4);
    put(sums, n_sums, 4);
    put(q, m, k);
    put(panels, bytes, 1);
    put(w, n, k);
}

static void layers_i8(void **s) {
    (void)s;
    const uint32_t masks[] = {0, oct_cpu_mask()};
    for (int i = 0; i < 2; i++) {
        for (int options = 0; options < 16; options++) one_layer_i8(masks[i], 3, 37, 70, options);
        one_layer_i8(masks[i], 1, 700, 65, 7);
        one_layer_i8(masks[i], 197, 130, 33, 15); /* two blocks of rows, some groups of panels */
        one_layer_i8(masks[i], 385, 70, 20, 4);
    }
}

static void one_layer_float(uint32_t mask, uint32_t m, uint32_t n, uint32_t k, oct_pack_type type) {
    oct_kern kern;
    oct_kern_init(&kern, mask);
    const size_t elem = oct_pack_elem_bytes(type), bytes = oct_pack_bytes(type, n, k);
    char *w = get((size_t)n * k, elem), *panels = get(bytes, 1);
    float *x = get((size_t)m * k, 4), *fbias = get(n, 4), *out = get((size_t)m * n, 4);
    char *scratch = get(OCT_KERN_LINEAR_SCRATCH, 1);
    for (size_t i = 0; i < (size_t)n * k; i++) {
        const float v = random_f32();
        const uint16_t h = type == OCT_PACK_BF16 ? oct_f32_to_bf16(v) : oct_f32_to_f16(v);
        memcpy(w + i * elem, type == OCT_PACK_F32 ? (const void *)&v : (const void *)&h, elem);
    }
    for (size_t i = 0; i < (size_t)m * k; i++) x[i] = random_f32();
    for (uint32_t j = 0; j < n; j++) fbias[j] = random_f32();
    oct_pack_float(&best.pack, panels, type, w, k, n, k, 0);
    const oct_linear_float_weight weight = {
        .n = n, .k = k, .type = type, .panels = panels, .fbias = fbias};
    const oct_linear_float_args args = {
        .rows = x, .ldr = k, .m = m, .weight = &weight, .out = out, .ldo = n};
    oct_kern_linear_float(&kern, &args, 0, 1, scratch);
    oct_kern_linear_float(&kern, &args, 1, oct_pack_n_panels(n), scratch);

    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < n; j++) {
            float total = 0.0f;
            for (uint32_t t0 = 0; t0 < k; t0 += 256) {
                float acc = 0.0f;
                for (uint32_t t = t0; t < k && t < t0 + 256; t++) {
                    const char *at = w + ((size_t)j * k + t) * elem;
                    float v;
                    uint16_t h;
                    memcpy(&v, at, type == OCT_PACK_F32 ? 4 : 0);
                    memcpy(&h, at, 2);
                    if (type == OCT_PACK_BF16) v = oct_bf16_to_f32(h);
                    if (type == OCT_PACK_F16) v = oct_f16_to_f32(h);
                    acc = fmaf(x[(size_t)i * k + t], v, acc);
                }
                total = t0 == 0 ? acc : total + acc;
            }
            total = total + fbias[j];
            assert_memory_equal(&total, &out[(size_t)i * n + j], 4);
        }
    put(scratch, OCT_KERN_LINEAR_SCRATCH, 1);
    put(out, (size_t)m * n, 4);
    put(fbias, n, 4);
    put(x, (size_t)m * k, 4);
    put(panels, bytes, 1);
    put(w, (size_t)n * k, elem);
}

static void layers_float(void **s) {
    (void)s;
    const uint32_t masks[] = {0, oct_cpu_mask()};
    for (int i = 0; i < 2; i++)
        for (int type = OCT_PACK_F32; type <= OCT_PACK_F16; type++) {
            one_layer_float(masks[i], 1, 150, 300, (oct_pack_type)type);
            one_layer_float(masks[i], 9, 35, 513, (oct_pack_type)type);
            one_layer_float(masks[i], 195, 33, 20, (oct_pack_type)type);
        }
}

/* ---- the arithmetic of one value ------------------------------------------------------------ */

static void row_scale_edges(void **s) {
    (void)s;
    oct_row_scale r = oct_row_scale_of(oct_f32_abs_bits(-NAN));
    assert_true(isnan(r.scale) && r.inv == 0.0f);
    r = oct_row_scale_of(oct_f32_abs_bits(-INFINITY));
    assert_true(isnan(r.scale) && r.inv == 0.0f);
    r = oct_row_scale_of(oct_f32_abs_bits(-0.0f));
    assert_true(r.scale == 0.0f && r.inv == 0.0f);
    r = oct_row_scale_of(oct_f32_abs_bits(0x1.fffffep-101f));
    assert_true(r.scale == 0.0f && r.inv == 0.0f);
    r = oct_row_scale_of(oct_f32_abs_bits(-0x1p-100f));
    assert_true(r.scale > 0.0f && isfinite(r.inv) && oct_quant_dynamic(-0x1p-100f, r.inv) == -127);
    r = oct_row_scale_of(oct_f32_abs_bits(3.4028235e38f));
    assert_true(isfinite(r.scale) && oct_quant_dynamic(3.4028235e38f, r.inv) == 127);
}

static void rounding_edges(void **s) {
    (void)s;
    static const struct {
        float x;
        int8_t q;
    } cases[] = {{0.5f, 0},       {1.5f, 2},       {2.5f, 2},         {-0.5f, 0},
                 {-1.5f, -2},     {126.5f, 126},   {127.5f, 127},     {-128.5f, -128},
                 {-129.0f, -128}, {INFINITY, 127}, {-INFINITY, -128}, {NAN, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(oct_sat8_rne(cases[i].x), cases[i].q);
    /* The two conventions part where rounding meets the offset. */
    assert_int_equal(oct_quant_static_before(0.25f, 1.0f, 0.25f), 0);
    assert_int_equal(oct_quant_static_before(0.5f, 1.0f, 1.0f), 2);
    assert_int_equal(oct_quant_static_after(0.5f, 1.0f, 1.0f), 1);
    assert_int_equal(oct_quant_static_after(200.0f, 1.0f, -100.0f), 100);
    assert_true(oct_ibias_limit(OCT_KERN_MAX_K) >= 0);
    assert_true(oct_ibias_limit(OCT_KERN_MAX_K + 1) < 0);
}

/* ---- the CPU and the measurements ----------------------------------------------------------- */

static void masks_are_normal(void **s) {
    (void)s;
    assert_int_equal(oct_cpu_mask_normal(OCT_CPU_AMX_INT8 | OCT_CPU_AVX2), OCT_CPU_AVX2);
    assert_int_equal(oct_cpu_mask_normal(OCT_CPU_AVX512_VNNI), 0);
    assert_int_equal(oct_cpu_mask_normal(~0u), OCT_CPU_ALL);
    const char *had = getenv("OCTET_CPU_MASK");
    char keep[64] = "";
    if (had) memcpy(keep, had, oct_min_size(strlen(had), sizeof keep - 1));
    setenv("OCTET_CPU_MASK", "ref", 1);
    assert_int_equal(oct_cpu_mask(), 0);
    setenv("OCTET_CPU_MASK", "avx2", 1);
    assert_int_equal(oct_cpu_mask(), oct_cpu_detect() & OCT_CPU_AVX2);
    setenv("OCTET_CPU_MASK", "nonsense", 1);
    assert_int_equal(oct_cpu_mask(), oct_cpu_detect());
    if (had)
        setenv("OCTET_CPU_MASK", keep, 1);
    else
        unsetenv("OCTET_CPU_MASK");
}

static void count_row(void *ctx, const oct_kern_bench_row *row) {
    unsigned *n = ctx;
    assert_true(row->value > 0 || row->kind == OCT_KERN_BENCH_PEAK_INT8 ||
                row->kind == OCT_KERN_BENCH_PEAK_INT8_SUM || row->kind == OCT_KERN_BENCH_PEAK_F32);
    n[row->kind]++;
}

static void bench_gives_every_figure(void **s) {
    (void)s;
    static const oct_kern_bench_shape shape = {2, 64, 48}, bad = {1, 1u << 17, 16};
    oct_kern_bench_options o = {.cpu_mask = oct_cpu_mask(),
                                .n_threads = 2,
                                .cold_bytes = 1 << 20,
                                .shapes = &shape,
                                .n_shapes = 1};
    unsigned n[16] = {0};
    oct_err err = {0};
    assert_int_equal(oct_kern_bench_run(oct_system_allocator(), &o, count_row, n, &err), OCT_OK);
    assert_int_equal(n[OCT_KERN_BENCH_READ], 2);
    assert_int_equal(n[OCT_KERN_BENCH_LINEAR_I8], 1);
    assert_int_equal(n[OCT_KERN_BENCH_LINEAR_BF16], 1);
    assert_int_equal(n[OCT_KERN_BENCH_CLOCK], 1);
    o.shapes = &bad;
    assert_int_equal(oct_kern_bench_run(oct_system_allocator(), &o, count_row, n, &err),
                     OCT_E_INVALID);
    oct_fault_alloc refuse;
    oct_fault_alloc_init(&refuse, 1, 1);
    err = (oct_err){0};
    assert_int_equal(oct_kern_bench_run(&refuse.allocator, &o, count_row, n, &err), OCT_E_NOMEM);
    assert_int_equal(refuse.live_blocks, 0);
}

int main(void) {
    oct_kern_init(&best, oct_cpu_mask());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_there_and_back),
        cmocka_unit_test(packing_places_bytes_as_documented),
        cmocka_unit_test(packing_extreme_sums),
        cmocka_unit_test(packing_floats),
        cmocka_unit_test(layers_i8),
        cmocka_unit_test(layers_float),
        cmocka_unit_test(row_scale_edges),
        cmocka_unit_test(rounding_edges),
        cmocka_unit_test(masks_are_normal),
        cmocka_unit_test(bench_gives_every_figure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
