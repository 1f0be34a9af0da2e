/*
 * apps/bench/bench_experts.c - a layer of experts as the model runs it: quantise, router, route,
 * permute, gate and up, activation, down, combine; W8A8 with a dynamic scale a row.
 *
 * The weights are random and so is the routing: every step reads other experts, and what a step
 * reads lies far apart in a layer that is much larger than the caches. The dense layer has as many
 * inner columns as a row's experts together, so both do the same multiply-adds for a row.
 *
 * Rounds of (read bandwidth, decoding, dense, prefill, dense) are repeated; medians are told, and
 * of decoding and its ceiling also the best, because other programs only make both slower.
 */
#include "bench_experts.h"

#include <sched.h>
#include <stdio.h>

#include "base/clock.h"
#include "bench.h"
#include "device/cpu/pool.h"
#include "kern/peak.h"

enum {
    MAX_ROUNDS = 99,
    READ_BYTES = 256 << 20,
    DECODE_STEPS = 48, /* of a round */
    DECODE_ROWS = 256, /* different rows that are decoded in turn */
    PREFILL_RUNS = 3,  /* of a round; the best counts */
};

typedef struct layer {
    cpu_set_t processors; /* of this process, before the device bound this thread */
    oct_device *d;
    octet_stream *s;
    uint32_t n_threads;
    const experts_options *o;
    octet_weight router, gate_up, down, dense_gate_up, dense_down;
    octet_rows x, logits, grouped_inner, grouped_out, inner, out;
    octet_qrows q, grouped_q, dense_q;
    octet_ref expert, weight, first, row, place;
} layer;

/* ---- making it ------------------------------------------------------------------------------- */

static oct_status check(const layer *l, int32_t code, const char *what, oct_err *err) {
    return oct_device_check(l->d, code, what, err);
}

static oct_status room(layer *l, uint64_t bytes, octet_ref *out, oct_err *err) {
    *out = (octet_ref){0, 0};
    return check(l, l->d->ops->buffer_create(l->d->dev, bytes, &out->buffer), "buffer_create", err);
}

static oct_status float_rows(layer *l, uint64_t n, uint64_t width, octet_rows *out, oct_err *err) {
    out->stride = width;
    return room(l, n * width * sizeof(float), &out->data, err);
}

static oct_status int8_rows(layer *l, uint64_t n, uint64_t width, octet_qrows *out, oct_err *err) {
    out->stride = width;
    OCT_TRY(room(l, n * width, &out->data, err));
    return room(l, n * sizeof(float), &out->scale, err);
}

static uint32_t next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* n_experts matrices (0: one) of the same random rows; only where they lie differs. */
static oct_status matrix(layer *l, uint32_t dtype, uint64_t n, uint64_t k, uint64_t n_experts,
                         octet_weight *out, oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    const octet_weight_desc desc = {.struct_bytes = sizeof desc,
                                    .dtype = dtype,
                                    .n = n,
                                    .k = k,
                                    .n_experts = (uint32_t)n_experts};
    const size_t element = dtype == OCTET_I8 ? 1 : sizeof(float);
    uint64_t state = n * 31 + k;
    OCT_TRY(check(l, l->d->ops->weight_create(l->d->dev, &desc, out), "weight_create", err));
    char *data = oct_alloc(mem, n * k, element);
    float *scale = oct_alloc(mem, n, sizeof *scale);
    oct_status st =
        data && scale ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory for a matrix");
    for (uint64_t i = 0; st == OCT_OK && i < n * k; i++)
        if (dtype == OCTET_I8)
            ((int8_t *)data)[i] = (int8_t)next(&state);
        else
            ((float *)(void *)data)[i] = (float)next(&state) * 0x1p-30f - 1.0f;
    for (uint64_t i = 0; st == OCT_OK && i < n; i++) scale[i] = 1e-4f;
    for (uint64_t e = 0; st == OCT_OK && e < (n_experts ? n_experts : 1); e++) {
        const octet_weight_rows rows = {.struct_bytes = sizeof rows,
                                        .row = e * n,
                                        .n_rows = n,
                                        .data = data,
                                        .col_scale = dtype == OCTET_I8 ? scale : NULL};
        st = check(l, l->d->ops->weight_write(l->d->dev, *out, &rows), "weight_write", err);
    }
    if (data) oct_free(mem, data, n * k, element);
    if (scale) oct_free(mem, scale, n, sizeof *scale);
    return st;
}

static oct_status fill_x(layer *l, uint64_t n, oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    const uint64_t width = l->o->hidden;
    uint64_t state = 7;
    float *x = oct_alloc(mem, n * width, sizeof *x);
    if (!x) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory for rows");
    for (uint64_t i = 0; i < n * width; i++) x[i] = (float)next(&state) * 0x1p-30f - 1.0f;
    oct_status st =
        check(l, l->d->ops->write(l->s, l->x.data, x, n * width * sizeof *x), "write", err);
    if (st == OCT_OK) st = check(l, l->d->ops->stream_wait(l->s), "write", err);
    oct_free(mem, x, n * width, sizeof *x);
    return st;
}

static oct_status make(layer *l, oct_err *err) {
    const experts_options *o = l->o;
    const uint64_t n = o->rows > DECODE_ROWS ? o->rows : DECODE_ROWS, grouped = n * o->n_used;
    const uint64_t wide = o->n_used * o->inner; /* inner columns of the dense layer */
    OCT_TRY(check(l, l->d->ops->stream_create(l->d->dev, &l->s), "stream_create", err));
    OCT_TRY(float_rows(l, n, o->hidden, &l->x, err));
    OCT_TRY(float_rows(l, n, o->hidden, &l->out, err));
    OCT_TRY(float_rows(l, n, o->n_experts, &l->logits, err));
    OCT_TRY(float_rows(l, n, 2 * wide, &l->inner, err));
    OCT_TRY(float_rows(l, grouped, 2 * o->inner, &l->grouped_inner, err));
    OCT_TRY(float_rows(l, grouped, o->hidden, &l->grouped_out, err));
    OCT_TRY(int8_rows(l, n, o->hidden, &l->q, err));
    OCT_TRY(int8_rows(l, n, wide, &l->dense_q, err));
    OCT_TRY(int8_rows(l, grouped, o->inner, &l->grouped_q, err));
    OCT_TRY(room(l, grouped * 4, &l->expert, err));
    OCT_TRY(room(l, grouped * 4, &l->weight, err));
    OCT_TRY(room(l, grouped * 4, &l->row, err));
    OCT_TRY(room(l, grouped * 4, &l->place, err));
    OCT_TRY(room(l, (o->n_experts + 1) * 4, &l->first, err));
    OCT_TRY(matrix(l, OCTET_F32, o->n_experts, o->hidden, 0, &l->router, err));
    OCT_TRY(matrix(l, OCTET_I8, 2 * o->inner, o->hidden, o->n_experts, &l->gate_up, err));
    OCT_TRY(matrix(l, OCTET_I8, o->hidden, o->inner, o->n_experts, &l->down, err));
    OCT_TRY(matrix(l, OCTET_I8, 2 * wide, o->hidden, 0, &l->dense_gate_up, err));
    OCT_TRY(matrix(l, OCTET_I8, o->hidden, wide, 0, &l->dense_down, err));
    return fill_x(l, n, err);
}

/* ---- running it ------------------------------------------------------------------------------ */

#define RUN(call, what) OCT_TRY(check(l, l->d->ops->call, (what), err))

static octet_rows rows_from(octet_rows rows, uint64_t row) {
    rows.data.offset += row * rows.stride * sizeof(float);
    return rows;
}

static oct_status run_experts(layer *l, uint32_t row, uint32_t n, oct_err *err) {
    const experts_options *o = l->o;
    const uint32_t top_k = (uint32_t)o->n_used, n_experts = (uint32_t)o->n_experts;
    const octet_rows x = rows_from(l->x, row);
    const octet_quantize_op quantize = {.struct_bytes = sizeof quantize,
                                        .n_rows = n,
                                        .width = (uint32_t)o->hidden,
                                        .x = x,
                                        .quant = {.mode = OCTET_QUANT_DYNAMIC, .out = l->q}};
    const octet_linear_op router = {.struct_bytes = sizeof router,
                                    .n_rows = n,
                                    .weight = l->router,
                                    .x = x,
                                    .out = l->logits,
                                    .out_dtype = OCTET_F32};
    const octet_route_op route = {.struct_bytes = sizeof route,
                                  .kind = OCTET_ROUTE_SOFTMAX,
                                  .n_rows = n,
                                  .n_experts = n_experts,
                                  .top_k = top_k,
                                  .renormalise = 1,
                                  .scale = 1,
                                  .logits = l->logits,
                                  .expert = l->expert,
                                  .weight = l->weight};
    const octet_permute_op permute = {.struct_bytes = sizeof permute,
                                      .n_rows = n,
                                      .n_experts = n_experts,
                                      .top_k = top_k,
                                      .expert = l->expert,
                                      .first = l->first,
                                      .row = l->row,
                                      .place = l->place};
    const octet_linear_grouped_op gate_up = {.struct_bytes = sizeof gate_up,
                                             .n_rows = n * top_k,
                                             .n_in = n,
                                             .weight = l->gate_up,
                                             .first = l->first,
                                             .row = l->row,
                                             .qx = l->q,
                                             .out = l->grouped_inner};
    const octet_act_op act = {.struct_bytes = sizeof act,
                              .kind = OCTET_ACT_SILU,
                              .gated = 1,
                              .n_rows = n * top_k,
                              .width = (uint32_t)o->inner,
                              .x = l->grouped_inner,
                              .quant = {.mode = OCTET_QUANT_DYNAMIC, .out = l->grouped_q}};
    const octet_linear_grouped_op down = {.struct_bytes = sizeof down,
                                          .n_rows = n * top_k,
                                          .n_in = n * top_k,
                                          .weight = l->down,
                                          .first = l->first,
                                          .qx = l->grouped_q,
                                          .out = l->grouped_out};
    const octet_combine_op combine = {.struct_bytes = sizeof combine,
                                      .n_rows = n,
                                      .width = (uint32_t)o->hidden,
                                      .top_k = top_k,
                                      .x = l->grouped_out,
                                      .place = l->place,
                                      .weight = l->weight,
                                      .out = l->out};
    RUN(quantize(l->s, &quantize), "quantize");
    RUN(linear(l->s, &router), "linear");
    RUN(route(l->s, &route), "route");
    RUN(permute(l->s, &permute), "permute");
    RUN(linear_grouped(l->s, &gate_up), "linear_grouped");
    RUN(act(l->s, &act), "act");
    RUN(linear_grouped(l->s, &down), "linear_grouped");
    RUN(combine(l->s, &combine), "combine");
    RUN(stream_wait(l->s), "stream_wait");
    return OCT_OK;
}

static oct_status run_dense(layer *l, uint32_t row, uint32_t n, oct_err *err) {
    const experts_options *o = l->o;
    const uint32_t wide = (uint32_t)(o->n_used * o->inner);
    const octet_quantize_op quantize = {.struct_bytes = sizeof quantize,
                                        .n_rows = n,
                                        .width = (uint32_t)o->hidden,
                                        .x = rows_from(l->x, row),
                                        .quant = {.mode = OCTET_QUANT_DYNAMIC, .out = l->q}};
    const octet_linear_op gate_up = {.struct_bytes = sizeof gate_up,
                                     .n_rows = n,
                                     .weight = l->dense_gate_up,
                                     .qx = l->q,
                                     .out = l->inner};
    const octet_act_op act = {.struct_bytes = sizeof act,
                              .kind = OCTET_ACT_SILU,
                              .gated = 1,
                              .n_rows = n,
                              .width = wide,
                              .x = l->inner,
                              .quant = {.mode = OCTET_QUANT_DYNAMIC, .out = l->dense_q}};
    const octet_linear_op down = {.struct_bytes = sizeof down,
                                  .n_rows = n,
                                  .weight = l->dense_down,
                                  .qx = l->dense_q,
                                  .out = l->out};
    RUN(quantize(l->s, &quantize), "quantize");
    RUN(linear(l->s, &gate_up), "linear");
    RUN(act(l->s, &act), "act");
    RUN(linear(l->s, &down), "linear");
    RUN(stream_wait(l->s), "stream_wait");
    return OCT_OK;
}

typedef oct_status layer_fn(layer *l, uint32_t row, uint32_t n, oct_err *err);

/* One thread is timed by the time it ran, as its read ceiling is; more by the clock on the wall. */
static uint64_t clock_ns(const layer *l) {
    return l->n_threads == 1 ? oct_peak_thread_ns() : oct_now_ns();
}

/* Seconds of each of n_runs runs, each on other rows. */
static oct_status measure(layer *l, layer_fn *fn, uint32_t n_rows, unsigned n_runs, unsigned from,
                          double *seconds, oct_err *err) {
    for (unsigned i = 0; i < n_runs; i++) {
        const uint32_t row = n_rows > 1 ? 0 : (from + i) % DECODE_ROWS;
        const uint64_t begin = clock_ns(l);
        OCT_TRY(fn(l, row, n_rows, err));
        seconds[i] = (double)(clock_ns(l) - begin) * 1e-9;
    }
    return OCT_OK;
}

/* ---- telling --------------------------------------------------------------------------------- */

/* One entry a round; best: over all steps of all rounds. */
typedef struct figures {
    double read[MAX_ROUNDS], decode[MAX_ROUNDS], dense_decode[MAX_ROUNDS];
    double prefill[MAX_ROUNDS], dense_prefill[MAX_ROUNDS], of_dense[MAX_ROUNDS];
    double best_read, best_decode;
    unsigned n;
} figures;

/* Readers inherit what this thread is bound to, so it is set free for them. */
static oct_status read_rate(const layer *l, double *out, oct_err *err) {
    cpu_set_t bound;
    const int known = sched_getaffinity(0, sizeof bound, &bound);
    sched_setaffinity(0, sizeof l->processors, &l->processors);
    const oct_status st = oct_peak_read(oct_system_allocator(), l->n_threads, READ_BYTES, out, err);
    if (known == 0) sched_setaffinity(0, sizeof bound, &bound);
    return st;
}

static oct_status one_round(layer *l, figures *f, oct_err *err) {
    double t[DECODE_STEPS];
    const unsigned r = f->n, from = r * DECODE_STEPS;
    const uint32_t rows = (uint32_t)l->o->rows;
    OCT_TRY(read_rate(l, &f->read[r], err));
    OCT_TRY(measure(l, run_experts, 1, DECODE_STEPS, from, t, err));
    f->decode[r] = bench_median(t, DECODE_STEPS); /* sorted now */
    if (f->read[r] > f->best_read) f->best_read = f->read[r];
    if (r == 0 || t[0] < f->best_decode) f->best_decode = t[0];
    OCT_TRY(measure(l, run_dense, 1, DECODE_STEPS, from, t, err));
    f->dense_decode[r] = bench_median(t, DECODE_STEPS);
    OCT_TRY(measure(l, run_experts, rows, PREFILL_RUNS, 0, t, err));
    bench_median(t, PREFILL_RUNS);
    f->prefill[r] = t[0];
    OCT_TRY(measure(l, run_dense, rows, PREFILL_RUNS, 0, t, err));
    bench_median(t, PREFILL_RUNS);
    f->dense_prefill[r] = t[0];
    f->of_dense[r] = f->dense_prefill[r] / f->prefill[r];
    f->n++;
    return OCT_OK;
}

static void print_figures(const layer *l, figures *f) {
    const experts_options *o = l->o;
    const double macs = 3.0 * (double)(o->n_used * o->hidden * o->inner), bytes = macs;
    const double read = bench_median(f->read, f->n), decode = bench_median(f->decode, f->n);
    const double dense_decode = bench_median(f->dense_decode, f->n);
    const double prefill = bench_median(f->prefill, f->n),
                 dense = bench_median(f->dense_prefill, f->n);
    const double of_dense = bench_median(f->of_dense, f->n), rows = (double)o->rows;
    const double of_read = bytes / decode / read;
    const double best_of_read = bytes / f->best_decode / f->best_read;
    if (o->json) {
        printf("{\"device\": \"%s\", \"threads\": %u, \"hidden\": %llu, \"inner\": %llu, "
               "\"experts\": %llu, \"used\": %llu, \"read_gb_per_s\": %.3f, \"decode_us\": %.1f, "
               "\"decode_of_read\": %.4f, \"best_decode_of_read\": %.4f, "
               "\"dense_decode_us\": %.1f, \"rows\": %llu, \"prefill_ms\": %.2f, "
               "\"dense_prefill_ms\": %.2f, \"prefill_of_dense\": %.4f}\n",
               l->d->info.name, l->n_threads, (unsigned long long)o->hidden,
               (unsigned long long)o->inner, (unsigned long long)o->n_experts,
               (unsigned long long)o->n_used, read / 1e9, decode * 1e6, of_read, best_of_read,
               dense_decode * 1e6, (unsigned long long)o->rows, prefill * 1e3, dense * 1e3,
               of_dense);
        return;
    }
    printf("%s; %llu experts of %llu x %llu, %llu used, %.1f MB a row\n", l->d->info.name,
           (unsigned long long)o->n_experts, (unsigned long long)o->hidden,
           (unsigned long long)o->inner, (unsigned long long)o->n_used, bytes / 1e6);
    printf("  read %.1f GB/s (best %.1f)\n", read / 1e9, f->best_read / 1e9);
    printf("  decode 1 row: %.0f us, %.1f GB/s, %.1f %% of read (best against best: %.1f %%)\n",
           decode * 1e6, bytes / decode / 1e9, 100 * of_read, 100 * best_of_read);
    printf("  dense layer of equal work, 1 row: %.0f us, %.1f GB/s\n", dense_decode * 1e6,
           bytes / dense_decode / 1e9);
    printf("  prefill %llu rows: %.1f ms, %.3f TOPS\n", (unsigned long long)o->rows, prefill * 1e3,
           2 * rows * macs / prefill / 1e12);
    printf("  dense layer of equal work, %llu rows: %.1f ms, %.3f TOPS; experts at %.1f %% of it\n",
           (unsigned long long)o->rows, dense * 1e3, 2 * rows * macs / dense / 1e12,
           100 * of_dense);
}

int experts_run(const open_options *open, const experts_options *o) {
    opened m = {0};
    oct_err err = {0};
    figures f = {0};
    layer l = {.o = o, .n_threads = oct_pool_count((unsigned)open->threads)};
    if (o->n_used > o->n_experts || o->n_used > OCTET_MAX_TOP_K)
        return cli_fail(
            EXIT_USAGE, "--used: want at most %llu",
            (unsigned long long)(o->n_experts < OCTET_MAX_TOP_K ? o->n_experts : OCTET_MAX_TOP_K));
    sched_getaffinity(0, sizeof l.processors, &l.processors);
    int status = open_device(open, &m);
    if (status >= 0) return status;
    l.d = m.device;
    oct_status st = OCT_OK;
    if (!oct_device_has_experts(l.d))
        st = OCT_FAIL(&err, OCT_E_UNSUPPORTED, "device %s has no operations for experts",
                      l.d->info.name);
    else if (l.d->info.act_dtype != OCTET_F32)
        st = OCT_FAIL(&err, OCT_E_UNSUPPORTED, "bench experts: only for devices of float32 rows");
    if (st == OCT_OK) st = make(&l, &err);
    /* Once without being counted. */
    if (st == OCT_OK) st = run_experts(&l, 0, (uint32_t)o->rows, &err);
    if (st == OCT_OK) st = run_dense(&l, 0, (uint32_t)o->rows, &err);
    while (st == OCT_OK && f.n < o->repeats) st = one_round(&l, &f, &err);
    if (st == OCT_OK) print_figures(&l, &f);
    l.d->ops->stream_destroy(l.s);
    opened_close(&m);
    return st == OCT_OK ? EXIT_CLEAN : cli_fail(cli_status_of(st), "%s", err.text);
}
