/*
 * apps/bench/bench.c - `octet bench kernels`: kernels as fractions of this machine's ceilings (of
 * another device than the CPU: bench_device.c); and which measurement runs: `step MODEL`:
 * bench_step.c, `load MODEL`: bench_load.c, `experts`: bench_experts.c, `kv`: bench_kv.c.
 * `throughput MODEL` and `latency MODEL` (offline.h), `serve`, `startup MODEL` and `text MODEL
 * FILE` (bench_online.h) have flags of their own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "bench.h"
#include "bench_device.h"
#include "bench_experts.h"
#include "bench_kv.h"
#include "bench_load.h"
#include "bench_online.h"
#include "bench_step.h"
#include "commands.h"
#include "device/cpu/pool.h"
#include "kern/bench.h"
#include "kern/cpu.h"
#include "offline.h"

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

int bench_read_mask(const open_options *o, uint32_t *mask) {
    uint64_t allowed = UINT32_MAX;
    if (o->cpu_mask && !oct_parse_hex(oct_str_of(o->cpu_mask), &allowed))
        return cli_fail(EXIT_USAGE, "--cpu-mask: not a hexadecimal number (got %.64s)",
                        o->cpu_mask);
    *mask = oct_cpu_mask_normal(oct_cpu_mask() & (uint32_t)allowed);
    return -1;
}

bool bench_on_cpu(const open_options *o) {
    return strcmp(o->device, "cpu") == 0 || strcmp(o->device, "auto") == 0;
}

static int run_kernels(const open_options *o, bool csv) {
    oct_err err = {0};
    table t = {.csv = csv};
    oct_kern_bench_options bo = {.n_threads = oct_pool_count((unsigned)o->threads)};
    const int status = bench_read_mask(o, &bo.cpu_mask);
    if (status >= 0) return status;
    if (csv) puts("name,threads,m,k,n,value,of_peak,of_read");
    const oct_status st = oct_kern_bench_run(oct_system_allocator(), &bo, print_row, &t, &err);
    return st == OCT_OK ? EXIT_CLEAN : cli_fail(cli_status_of(st), "%s", err.text);
}

/* A device that is named and is not the CPU; -1: none was. */
static int run_device(const open_options *o, const device_bench_options *b) {
    opened m = {0};
    if (bench_on_cpu(o)) return -1;
    int status = open_device(o, &m);
    if (status >= 0) return status;
    status = device_bench_run(&m, b);
    opened_close(&m);
    return status;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int read_lists(const char *batch, const char *context, step_options *o) {
    int status = step_read_list("context", context ? context : "128", 1 << 20, &o->context);
    if (status < 0 && batch) status = step_read_list("batch", batch, 65536, &o->batch);
    if (status < 0 && !batch && o->context.n > 1)
        status = cli_fail(EXIT_USAGE, "--context: several lengths are for `step` with --batch");
    return status;
}

static int bench_run(const cli_command *self, int argc, char **argv) {
    if (argc > 0 && strcmp(argv[0], "throughput") == 0) return throughput_run(argc - 1, argv + 1);
    if (argc > 0 && strcmp(argv[0], "latency") == 0) return latency_run(argc - 1, argv + 1);
    if (argc > 0 && strcmp(argv[0], "serve") == 0) return bench_serve_run(argc - 1, argv + 1);
    if (argc > 0 && strcmp(argv[0], "startup") == 0) return bench_startup_run(argc - 1, argv + 1);
    if (argc > 0 && strcmp(argv[0], "text") == 0) return bench_text_run(argc - 1, argv + 1);
    step_options o = {.open = OPEN_OPTIONS_DEFAULT, .prefill = 512, .decode = 64, .repeats = 5};
    const char *batch = NULL, *context = NULL, *only = NULL;
    experts_options e = EXPERTS_OPTIONS_DEFAULT;
    kv_options kv;
    bool csv = false;
    o.open.log_level = "warn";
    cli_flag model_flags[OPEN_N_FLAGS];
    const unsigned n_model = open_flags_without(&o.open, "kv-cache-memory-bytes", model_flags);
    const cli_flag flags[] = {
        cli_switch("csv", &csv, "kernels: comma-separated rows"),
        cli_string("only", &only, "NAME", "kernels of a device: lines whose name begins so"),
        cli_switch("json", &o.json, "step, load, experts, kv: JSON objects"),
        cli_count("prefill", &o.prefill, 1, 1 << 20, "step: tokens of a prompt"),
        cli_count(
            "max-num-batched-tokens", &o.max_rows, 1, 1 << 20,
            "step: most tokens of a prompt in one step (512; 8192 on a device that is not the "
            "CPU)"),
        cli_string("batch", &batch, "N,...",
                   "step: a line for each so many sequences that decode side by side"),
        cli_string("context", &context, "N,...",
                   "step, kv: tokens in the cache when decoding begins, several with --batch;\n128 "
                   "and 4096 unless given"),
        cli_count("decode", &o.decode, 1, 65536, "step: tokens decoded"),
        cli_count("repeats", &o.repeats, 1, STEP_MAX_REPEATS,
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
    if (n_pos == 1 && strcmp(pos[0], "kernels") == 0) {
        const device_bench_options b = {.only = only, .repeats = o.repeats, .csv = csv};
        const int done = run_device(&o.open, &b);
        return done >= 0 ? done : run_kernels(&o.open, csv);
    }
    const int bad = read_lists(batch, context, &o);
    if (bad >= 0) return bad;
    kv.context = context ? o.context.at[0] : 4096;
    if (o.max_rows == 0) o.max_rows = bench_on_cpu(&o.open) ? 512 : 8192;
    if (n_pos == 2 && strcmp(pos[0], "step") == 0) return step_run(&o, pos[1]);
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
    return cli_fail(EXIT_USAGE,
                    "bench: want `kernels`, `step MODEL`, `throughput MODEL`, `latency MODEL`, "
                    "`load MODEL`, `experts` or `kv`; see octet bench --help");
}

const cli_command bench_command = {
    .name = "bench",
    .summary = "speed of servers, engines, steps, kernels, loading and caches",
    .usage = "serve | startup MODEL | throughput MODEL | latency MODEL | step MODEL | kernels |\n"
             "             load MODEL | experts | kv | text MODEL FILE",
    .examples = "  octet bench kernels\n  octet bench kernels --device cuda:0\n  octet bench step "
                "model-w8a8c8 --threads 1 --prefill 512\n"
                "  octet bench step model-w8a8c8 --batch 1,16,64 --context 1024 --prefill 8192\n"
                "  octet bench throughput model-w8a8c8 --num-prompts 64\n"
                "  octet bench load model-w8a8 --threads 2 --json\n"
                "  octet bench experts --threads 2\n  octet bench kv --threads 1 --context 4096",
    .notes =
        "kernels measures the CPU (of the device's flags --threads and --cpu-mask count) or the\n"
        "device that --device names: products and attention through its operations.\n"
        "The model's flags are for step and load.\n"
        "serve, startup, throughput, latency and text have flags of their own: octet bench serve "
        "--help.",
    .run = bench_run,
};
