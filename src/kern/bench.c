/*
 * kern/bench.c - ceilings first, then products of real sizes beside them.
 */
#include "kern/bench.h"

#include <string.h>

#include "base/checked.h"
#include "kern/linear.h"
#include "kern/peak.h"

/* Short tries: on a busy machine some of them fall between the interruptions. */
enum { TRIES = 60, TRY_NS = 1000 * 1000 };
static const size_t COLD_BYTES = (size_t)256 << 20;

/* The projections of a small and a middle-sized model: decode, little batches, prefill. */
static const oct_kern_bench_shape usual[] = {
    {1, 576, 1536},  {4, 576, 1536},  {16, 576, 1536},  {64, 576, 1536},  {512, 576, 1536},
    {1, 1536, 8960}, {4, 1536, 8960}, {16, 1536, 8960}, {64, 1536, 8960}, {512, 1536, 8960},
    {1, 8960, 1536}, {4, 8960, 1536}, {16, 8960, 1536}, {64, 8960, 1536}, {512, 8960, 1536},
};

typedef struct bench {
    const oct_allocator *mem;
    oct_kern kern;
    oct_kern_bench_row_fn on_row;
    void *ctx;
    double peak_int8, peak_f32, read_one;
    size_t cold_bytes;
    char *weights; /* [cold_bytes] any bytes; products read copies of a matrix all over it */
    int8_t *q;     /* the operands of the shape at hand */
    char *rows;
    float *x, *out, *scales;
    int32_t *colsum;
    void *scratch;
} bench;

static void report(const bench *b, oct_kern_bench_row row) { b->on_row(b->ctx, &row); }

static oct_status ceilings(bench *b, const oct_kern_bench_options *o, oct_err *err) {
    report(b, (oct_kern_bench_row){.kind = OCT_KERN_BENCH_CLOCK,
                                   .name = "clock",
                                   .n_threads = 1,
                                   .value = oct_peak_clock_hz()});
    b->peak_int8 = oct_peak_int8_macs(b->kern.cpu_mask);
    b->peak_f32 = oct_peak_f32_macs(b->kern.cpu_mask);
    report(b, (oct_kern_bench_row){.kind = OCT_KERN_BENCH_PEAK_INT8,
                                   .name = "peak-int8",
                                   .n_threads = 1,
                                   .value = b->peak_int8});
    report(b, (oct_kern_bench_row){.kind = OCT_KERN_BENCH_PEAK_INT8_SUM,
                                   .name = "peak-int8-sum",
                                   .n_threads = 1,
                                   .value = oct_peak_int8_sum_macs(b->kern.cpu_mask)});
    report(b, (oct_kern_bench_row){.kind = OCT_KERN_BENCH_PEAK_F32,
                                   .name = "peak-f32",
                                   .n_threads = 1,
                                   .value = b->peak_f32});
    for (uint32_t n = 1; n <= o->n_threads || n == 1;) {
        double rate;
        OCT_TRY(oct_peak_read(b->mem, n, b->cold_bytes, &rate, err));
        if (n == 1) b->read_one = rate;
        report(b, (oct_kern_bench_row){
                      .kind = OCT_KERN_BENCH_READ, .name = "read", .n_threads = n, .value = rate});
        if (n == o->n_threads) break;
        n = n * 2 > o->n_threads && o->n_threads > n ? o->n_threads : n * 2;
    }
    return OCT_OK;
}

/* The call under test. n counts calls, so that the next copy of the weights is taken. */
typedef void (*run_fn)(bench *b, const oct_kern_bench_shape *s, uint64_t n);

static double best_seconds(bench *b, const oct_kern_bench_shape *s, run_fn run) {
    uint64_t n = 0;
    double best = 1e30;
    for (int i = 0; i < TRIES; i++) {
        const uint64_t begin = oct_peak_thread_ns(), n_begin = n;
        uint64_t ns;
        do {
            run(b, s, n++);
            ns = oct_peak_thread_ns() - begin;
        } while (ns < TRY_NS);
        const double seconds = (double)ns * 1e-9 / (double)(n - n_begin);
        if (seconds < best) best = seconds;
    }
    return best;
}

/* Copy number n of a matrix of bytes inside the cold region. */
static const void *cold_copy(const bench *b, size_t bytes, uint64_t n) {
    return b->weights + n % (b->cold_bytes / bytes) * bytes;
}

static void run_i8(bench *b, const oct_kern_bench_shape *s, uint64_t n) {
    const oct_linear_i8_weight w = {
        .n = s->n,
        .k = s->k,
        .panels = cold_copy(b, oct_pack_bytes(OCT_PACK_I8, s->n, s->k), n),
        .colsum = b->colsum,
        .cs = b->scales,
    };
    const oct_linear_i8_args args = {
        .rows = b->rows, .m = s->m, .weight = &w, .out = b->out, .ldo = s->n};
    b->kern.prep_rows_i8(b->q, s->k, s->m, s->k, b->rows);
    oct_kern_linear_i8(&b->kern, &args, 0, oct_pack_n_panels(s->n), b->scratch);
}

static void run_bf16(bench *b, const oct_kern_bench_shape *s, uint64_t n) {
    const oct_linear_float_weight w = {
        .n = s->n,
        .k = s->k,
        .type = OCT_PACK_BF16,
        .panels = cold_copy(b, oct_pack_bytes(OCT_PACK_BF16, s->n, s->k), n),
    };
    const oct_linear_float_args args = {
        .rows = b->x, .ldr = s->k, .m = s->m, .weight = &w, .out = b->out, .ldo = s->n};
    oct_kern_linear_float(&b->kern, &args, 0, oct_pack_n_panels(s->n), b->scratch);
}

static void product(bench *b, const oct_kern_bench_shape *s, oct_kern_bench_kind kind) {
    const int is_i8 = kind == OCT_KERN_BENCH_LINEAR_I8;
    const oct_pack_type type = is_i8 ? OCT_PACK_I8 : OCT_PACK_BF16;
    const double seconds = best_seconds(b, s, is_i8 ? run_i8 : run_bf16);
    const double macs = (double)s->m * s->k * s->n / seconds;
    const double bytes = (double)oct_pack_bytes(type, s->n, s->k) / seconds;
    const double peak = is_i8 ? b->peak_int8 : b->peak_f32;
    report(b, (oct_kern_bench_row){.kind = kind,
                                   .name = is_i8 ? "linear-i8" : "linear-bf16",
                                   .n_threads = 1,
                                   .m = s->m,
                                   .k = s->k,
                                   .n = s->n,
                                   .value = macs,
                                   .of_peak = peak > 0 ? macs / peak : 0,
                                   .of_read = b->read_one > 0 ? bytes / b->read_one : 0,
                                   .seconds = seconds});
}

/* Packs the first half of the cold region into the second. */
static void packing(bench *b) {
    const oct_kern_bench_shape s = {0, 4096, (uint32_t)(b->cold_bytes / 2 / 4096 / 16 * 16)};
    int8_t *to = (int8_t *)b->weights + b->cold_bytes / 2;
    double best = 1e30;
    for (int i = 0; i < 5 && s.n > 0; i++) {
        const uint64_t begin = oct_peak_thread_ns();
        /* 16 rows at a time, with sums, as a loader does that has no room for the whole. */
        for (uint32_t n0 = 0; n0 < s.n; n0 += 16)
            oct_pack_i8(&b->kern.pack, to + (size_t)n0 * s.k, b->colsum,
                        (int8_t *)b->weights + (size_t)n0 * s.k, s.k, 16, s.k, 0);
        const double seconds = (double)(oct_peak_thread_ns() - begin) * 1e-9;
        if (seconds < best) best = seconds;
    }
    if (s.n > 0)
        report(b, (oct_kern_bench_row){.kind = OCT_KERN_BENCH_PACK_I8,
                                       .name = "pack-i8",
                                       .n_threads = 1,
                                       .k = s.k,
                                       .n = s.n,
                                       .value = (double)s.n * s.k / best,
                                       .seconds = best});
}

/* Everything a product of this shape touches but the weights; freed at once after it. */
static oct_status one_shape(bench *b, const oct_kern_bench_shape *s, oct_err *err) {
    if (s->m == 0 || s->n == 0 || s->k == 0 || s->k > OCT_KERN_MAX_K || s->n > 1u << 24 ||
        s->m > 1u << 20 || oct_pack_bytes(OCT_PACK_BF16, s->n, s->k) > b->cold_bytes)
        return OCT_FAIL(err, OCT_E_INVALID, "bench kernels: shape %u x %u x %u is out of range",
                        s->m, s->k, s->n);
    const size_t m = s->m, row_bytes = b->kern.row_bytes_i8(s->k), n_sums = (size_t)s->n + 16;
    oct_status status = OCT_OK;
    b->q = oct_calloc(b->mem, m, s->k);
    b->rows = oct_calloc(b->mem, m, row_bytes);
    b->x = oct_calloc(b->mem, m, (size_t)s->k * 4);
    b->out = oct_calloc(b->mem, m, (size_t)s->n * 4);
    b->scales = oct_calloc(b->mem, n_sums, 4);
    b->colsum = oct_calloc(b->mem, n_sums, 4);
    if (b->q && b->rows && b->x && b->out && b->scales && b->colsum) {
        for (size_t i = 0; i < m * s->k; i++) {
            b->q[i] = (int8_t)(i * 37 % 251 - 125);
            b->x[i] = (float)b->q[i];
        }
        product(b, s, OCT_KERN_BENCH_LINEAR_I8);
        product(b, s, OCT_KERN_BENCH_LINEAR_BF16);
    } else {
        status = OCT_FAIL(err, OCT_E_NOMEM, "bench kernels: no memory for %u rows", s->m);
    }
    oct_free(b->mem, b->colsum, n_sums, 4);
    oct_free(b->mem, b->scales, n_sums, 4);
    oct_free(b->mem, b->out, m, (size_t)s->n * 4);
    oct_free(b->mem, b->x, m, (size_t)s->k * 4);
    oct_free(b->mem, b->rows, m, row_bytes);
    oct_free(b->mem, b->q, m, s->k);
    return status;
}

static oct_status run_all(bench *b, const oct_kern_bench_options *o, oct_err *err) {
    int32_t sums[OCT_PANEL_OUTPUTS];
    OCT_TRY(ceilings(b, o, err));
    b->colsum = sums;
    packing(b);
    const oct_kern_bench_shape *shapes = o->shapes ? o->shapes : usual;
    const size_t n_shapes = o->shapes ? o->n_shapes : sizeof usual / sizeof *usual;
    for (size_t i = 0; i < n_shapes; i++) OCT_TRY(one_shape(b, &shapes[i], err));
    return OCT_OK;
}

oct_status oct_kern_bench_run(const oct_allocator *mem, const oct_kern_bench_options *options,
                              oct_kern_bench_row_fn on_row, void *ctx, oct_err *err) {
    bench b = {.mem = mem, .on_row = on_row, .ctx = ctx};
    oct_kern_init(&b.kern, options->cpu_mask);
    b.cold_bytes = oct_max_size(options->cold_bytes ? options->cold_bytes : COLD_BYTES, 1u << 20);
    b.weights = oct_alloc(mem, b.cold_bytes, 1);
    b.scratch = oct_alloc(mem, OCT_KERN_LINEAR_SCRATCH, 1);
    oct_status status;
    if (b.weights && b.scratch) {
        /* Bits of ordinary numbers in bf16 (0x3c3c is 0.011), and any int8. */
        memset(b.weights, 0x3c, b.cold_bytes);
        status = run_all(&b, options, err);
    } else {
        status = OCT_FAIL(err, OCT_E_NOMEM, "bench kernels: no memory for %zu bytes", b.cold_bytes);
    }
    oct_free(mem, b.scratch, OCT_KERN_LINEAR_SCRATCH, 1);
    oct_free(mem, b.weights, b.cold_bytes, 1);
    return status;
}
