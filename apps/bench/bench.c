/*
 * apps/bench/bench.c - `octet bench kernels`: kernels as fractions of this machine's ceilings;
 * `octet bench step MODEL`: prompt and decode speed of a model, as fractions of the same ceilings
 * measured in the same run; `octet bench experts`: bench_experts.c;
 * `octet bench kv`: bench_kv.c; `octet bench load MODEL`: bench_load.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "bench.h"
#include "bench_experts.h"
#include "bench_kv.h"
#include "bench_load.h"
#include "commands.h"
#include "device/cpu/pool.h"
#include "kern/bench.h"
#include "kern/cpu.h"
#include "kern/peak.h"
#include "model/runner.h"
#include "open.h"

enum { MAX_REPEATS = 99, READ_BYTES = 256 << 20 };

/* ---- shared ---------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *v, unsigned n) {
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* ---- kernels -------------------------------------------------------------------------------- */

typedef struct table {
    bool csv;
    double clock; /* the first row */
} table;

/* Beside the rate what it comes to in a cycle, which tells how near to its units a loop is. */
static void print_peak(const table *t, const char *what, const char *unit, double macs_per_s) {
    printf("%s %.3f %s, %.1f a cycle\n", what, 2 * macs_per_s / 1e12, unit,
           t->clock > 0 ? 2 * macs_per_s / t->clock : 0);
}

static void print_row(void *ctx, const oct_kern_bench_row *r) {
    table *t = ctx;
    if (t->csv) {
        printf("%s,%u,%u,%u,%u,%.6g,%.4f,%.4f\n", r->name, r->n_threads, r->m, r->k, r->n, r->value,
               r->of_peak, r->of_read);
        fflush(stdout);
        return;
    }
    switch (r->kind) {
    case OCT_KERN_BENCH_CLOCK:
        t->clock = r->value;
        printf("clock %.2f GHz\n", r->value / 1e9);
        break;
    case OCT_KERN_BENCH_PEAK_INT8:
        print_peak(t, "int8 peak of a core", "TOPS", r->value);
        break;
    case OCT_KERN_BENCH_PEAK_INT8_SUM:
        print_peak(t, "int8 peak of a core, sums kept", "TOPS", r->value);
        break;
    case OCT_KERN_BENCH_PEAK_F32:
        print_peak(t, "float32 peak of a core", "TFLOPS", r->value);
        break;
    case OCT_KERN_BENCH_READ:
        printf("read, %u threads %.1f GB/s\n", r->n_threads, r->value / 1e9);
        break;
    case OCT_KERN_BENCH_PACK_I8:
        printf("pack %.1f GB/s\n", r->value / 1e9);
        break;
    case OCT_KERN_BENCH_LINEAR_I8:
    case OCT_KERN_BENCH_LINEAR_BF16:
        printf("%-12s M %5u  K %6u  N %6u  %8.3f T%s  %5.1f %% of peak  %5.1f %% of read\n",
               r->name, r->m, r->k, r->n, 2 * r->value / 1e12,
               r->kind == OCT_KERN_BENCH_LINEAR_I8 ? "OPS" : "FLOPS", 100 * r->of_peak,
               100 * r->of_read);
        break;
    }
    fflush(stdout);
}

/* The sets that --cpu-mask leaves, as the CPU device reads it: -1, or the exit status. */
static int read_mask(const open_options *o, uint32_t *mask) {
    uint64_t allowed = UINT32_MAX;
    if (o->cpu_mask && !oct_parse_hex(oct_str_of(o->cpu_mask), &allowed))
        return cli_fail(EXIT_USAGE, "--cpu-mask: not a hexadecimal number (got %.64s)",
                        o->cpu_mask);
    *mask = oct_cpu_mask_normal(oct_cpu_mask() & (uint32_t)allowed);
    return -1;
}

static int run_kernels(const open_options *o, bool csv) {
    oct_err err = {0};
    table t = {.csv = csv};
    oct_kern_bench_options bo = {.n_threads = oct_pool_count((unsigned)o->threads)};
    const int status = read_mask(o, &bo.cpu_mask);
    if (status >= 0) return status;
    if (csv) puts("name,threads,m,k,n,value,of_peak,of_read");
    const oct_status st = oct_kern_bench_run(oct_system_allocator(), &bo, print_row, &t, &err);
    return st == OCT_OK ? EXIT_CLEAN : cli_fail(cli_status_of(st), "%s", err.text);
}

/* ---- step ----------------------------------------------------------------------------------- */

typedef struct step_options {
    open_options open;
    uint64_t prefill, decode, context, repeats;
    bool json;
} step_options;

typedef struct step_result {
    double prefill_s, decode_s; /* medians: of a prompt, of a token */
    double int8_peak, read;     /* multiply-adds/s of all threads, bytes/s */
} step_result;

static oct_status measure(const step_options *o, const opened *m, step_result *out, oct_err *err) {
    const oct_model_info *info = oct_model_get_info(m->model);
    const oct_allocator *mem = oct_system_allocator();
    const uint32_t n = (uint32_t)(o->prefill > o->context ? o->prefill : o->context);
    double prefill[MAX_REPEATS], decode[MAX_REPEATS];
    oct_runner *r = NULL;

    int32_t *ids = oct_alloc(mem, n + 1, sizeof *ids),
            *drawn = oct_alloc(mem, o->decode, sizeof *drawn);
    oct_status st = ids && drawn ? oct_runner_create(mem, m->model, &r, err)
                                 : OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    for (uint32_t i = 0; st == OCT_OK && i <= n; i++)
        ids[i] = (int32_t)((i * 2654435761u >> 7) % info->n_vocab);
    /* One run that is not counted, then the counted ones. */
    for (unsigned k = 0; st == OCT_OK && k <= o->repeats; k++) {
        oct_runner_reset(r);
        uint64_t t = oct_now_ns();
        st = oct_runner_feed(r, ids, (uint32_t)o->prefill, err);
        if (k) prefill[k - 1] = (double)(oct_now_ns() - t) / 1e9;
        if (st != OCT_OK) break;
        oct_runner_reset(r);
        if (o->context > 1) st = oct_runner_feed(r, ids, (uint32_t)o->context - 1, err);
        t = oct_now_ns();
        if (st == OCT_OK)
            st = oct_runner_greedy(r, ids + o->context, 1, drawn, (uint32_t)o->decode, err);
        if (k) decode[k - 1] = (double)(oct_now_ns() - t) / 1e9 / (double)o->decode;
    }
    if (st == OCT_OK) {
        out->prefill_s = bench_median(prefill, (unsigned)o->repeats);
        out->decode_s = bench_median(decode, (unsigned)o->repeats);
    }
    oct_runner_destroy(r);
    if (ids) oct_free(mem, ids, n + 1, sizeof *ids);
    if (drawn) oct_free(mem, drawn, o->decode, sizeof *drawn);
    return st;
}

static void print_step(const step_options *o, const opened *m, uint32_t n_threads,
                       const step_result *r) {
    const oct_model_info *info = oct_model_get_info(m->model);
    const double prefill = (double)o->prefill / r->prefill_s, decode = 1 / r->decode_s;
    const double kv_token = (double)info->kv_bytes_per_block / info->block_tokens;
    const double context = (double)o->context + (double)o->decode / 2;
    const double bytes = (double)info->step_weight_bytes + kv_token * context;
    const double of_peak =
        r->int8_peak > 0 ? prefill * (double)info->linear_macs / r->int8_peak : 0;
    const double of_read = bytes * decode / r->read;
    if (o->json) {
        printf("{\"device\": \"%s\", \"threads\": %u, \"scheme\": \"%s\", \"prefill\": %llu, "
               "\"prefill_tokens_per_s\": %.2f, "
               "\"prefill_of_int8_peak\": %.4f, \"context\": %llu, \"decode_tokens_per_s\": %.2f, "
               "\"decode_of_read\": %.4f, \"step_bytes\": %.0f, \"int8_peak_tops\": %.4f, "
               "\"read_gb_per_s\": %.3f}\n",
               m->device->info.name, n_threads, info->scheme, (unsigned long long)o->prefill,
               prefill, of_peak, (unsigned long long)o->context, decode, of_read, bytes,
               2 * r->int8_peak / 1e12, r->read / 1e9);
        return;
    }
    printf("%s, %s\n", m->device->info.name, info->scheme);
    printf("  prefill %llu tokens: %.1f tokens/s, %.1f %% of the int8 peak (%.3f TOPS)\n",
           (unsigned long long)o->prefill, prefill, 100 * of_peak, 2 * r->int8_peak / 1e12);
    printf("  decode at %llu tokens: %.1f tokens/s, %.1f MB a step, %.1f %% of the read bandwidth "
           "(%.1f GB/s)\n",
           (unsigned long long)o->context, decode, bytes / 1e6, 100 * of_read, r->read / 1e9);
}

static int run_step(step_options *o, const char *path) {
    opened m = {0};
    oct_err err = {0};
    step_result r = {0};
    const uint64_t longest =
        o->context + o->decode > o->prefill ? o->context + o->decode : o->prefill;
    const uint32_t n_threads = oct_pool_count((unsigned)o->open.threads);
    oct_model_options mo = {
        .max_rows = 512, .max_seqs = 1, .max_logits = 1, .max_model_len = (uint32_t)longest + 1};
    /* The ceilings first: an open device may have bound this thread, and new ones inherit that. */
    uint32_t mask;
    int status = read_mask(&o->open, &mask);
    if (status >= 0) return status;
    r.int8_peak = oct_peak_int8_macs(mask) * n_threads;
    oct_status st = oct_peak_read(oct_system_allocator(), n_threads, READ_BYTES, &r.read, &err);
    if (st != OCT_OK) return cli_fail(cli_status_of(st), "%s", err.text);
    status = open_model(&o->open, path, &mo, &m);
    if (status < 0) {
        st = measure(o, &m, &r, &err);
        status = st == OCT_OK ? EXIT_CLEAN : cli_fail(cli_status_of(st), "%s", err.text);
        if (st == OCT_OK) print_step(o, &m, n_threads, &r);
    }
    opened_close(&m);
    return status;
}

static int bench_run(const cli_command *self, int argc, char **argv) {
    step_options o = {.open = OPEN_OPTIONS_DEFAULT, .prefill = 512, .decode = 64, .repeats = 5};
    experts_options e = EXPERTS_OPTIONS_DEFAULT;
    kv_options kv;
    bool csv = false;
    o.open.log_level = "warn";
    cli_flag model_flags[OPEN_N_FLAGS];
    const unsigned n_model = open_flags_without(&o.open, "kv-cache-memory-bytes", model_flags);
    const cli_flag flags[] = {
        cli_switch("csv", &csv, "kernels: comma-separated rows"),
        cli_switch("json", &o.json, "step, load, experts, kv: JSON objects"),
        cli_count("prefill", &o.prefill, 1, 1 << 20, "step: tokens of a prompt"),
        cli_count("context", &o.context, 1, 1 << 20,
                  "step, kv: tokens in the cache when decoding begins; 128 and 4096 unless given"),
        cli_count("decode", &o.decode, 1, 65536, "step: tokens decoded"),
        cli_count("repeats", &o.repeats, 1, MAX_REPEATS,
                  "step, load, experts, kv: counted runs, after one that is not"),
        cli_count("hidden", &e.hidden, 16, 65536, "experts: width of a row"),
        cli_count("inner", &e.inner, 16, 65536, "experts: inner width of an expert"),
        cli_count("experts", &e.n_experts, 1, 4096, "experts: how many there are"),
        cli_count("used", &e.n_used, 1, OCTET_MAX_TOP_K, "experts: how many a row uses"),
        cli_count("rows", &e.rows, 1, 65536, "experts: rows of a prefill"),
    };
    const cli_group groups[] = {
        {"Measurement", flags, OCT_COUNT(flags)},
        {"Device", model_flags, OPEN_N_DEVICE_FLAGS},
        {"Model", model_flags + OPEN_N_DEVICE_FLAGS, n_model - OPEN_N_DEVICE_FLAGS}};
    const char *pos[2];
    unsigned n_pos;
    const int status = cli_parse(self, groups, OCT_COUNT(groups), argc, argv, pos, 2, &n_pos);
    if (status >= 0) return status;
    if (n_pos == 1 && strcmp(pos[0], "kernels") == 0) return run_kernels(&o.open, csv);
    kv.context = o.context ? o.context : 4096;
    if (o.context == 0) o.context = 128;
    if (n_pos == 2 && strcmp(pos[0], "step") == 0) return run_step(&o, pos[1]);
    if (n_pos == 2 && strcmp(pos[0], "load") == 0) {
        const load_options l = {.repeats = o.repeats, .json = o.json};
        return load_run(&o.open, &l, pos[1]);
    }
    e.json = o.json;
    e.repeats = o.repeats;
    if (n_pos == 1 && strcmp(pos[0], "experts") == 0) return experts_run(&o.open, &e);
    kv.json = o.json;
    kv.repeats = o.repeats;
    if (n_pos == 1 && strcmp(pos[0], "kv") == 0) return kv_run(&o.open, &kv);
    return cli_fail(EXIT_USAGE, "bench: want `kernels`, `step MODEL`, `load MODEL`, `experts` or "
                                "`kv`; see octet bench --help");
}

const cli_command bench_command = {
    .name = "bench",
    .summary = "speed of kernels, steps, loading and caches beside this machine's limits",
    .usage = "kernels | step MODEL | load MODEL | experts | kv",
    .examples = "  octet bench kernels\n  octet bench step model-w8a8c8 --threads 1 --prefill 512\n"
                "  octet bench load model-w8a8 --threads 2 --json\n"
                "  octet bench experts --threads 2\n  octet bench kv --threads 1 --context 4096",
    .notes = "kernels measures the CPU: of the device's flags --threads and --cpu-mask count.\n"
             "The model's flags are for step and load.",
    .run = bench_run,
};
