/*
 * apps/bench/bench_latency.c - `octet bench latency MODEL`: one batch of requests, again and again,
 * offline. Options, report and JSON keys are those of vLLM's command of that name.
 */
#include <stdlib.h>
#include <string.h>

#include "offline.h"

enum { N_PERCENTILES = 6, ID_LIMIT = 10000, MAX_ITERS = 100000 };
static const unsigned percents[N_PERCENTILES] = {10, 25, 50, 75, 90, 99};

typedef struct latency {
    offline_options o;
    offline_lengths lengths;
    uint64_t n_warmups, n_iters;
    /* figures */
    const offline *b;
    double *seconds, *sorted; /* [n_iters] in order of time, of size */
    double mean;
} latency;

/* Linear between order statistics. */
static double percentile(const double *sorted, uint64_t n, double p) {
    const double at = p / 100 * (double)(n - 1);
    const uint64_t lo = (uint64_t)at, hi = lo + 1 < n ? lo + 1 : lo;
    return sorted[lo] + (sorted[hi] - sorted[lo]) * (at - (double)lo);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void write_json(const void *ctx, FILE *to) {
    const latency *l = ctx;
    fprintf(to, "{\"avg_latency\": %.9f, \"latencies\": [", l->mean);
    for (uint64_t i = 0; i < l->n_iters; i++) fprintf(to, "%s%.9f", i ? ", " : "", l->seconds[i]);
    fputs("], \"percentiles\": {", to);
    for (int i = 0; i < N_PERCENTILES; i++)
        fprintf(to, "%s\"%u\": %.9f", i ? ", " : "", percents[i],
                percentile(l->sorted, l->n_iters, percents[i]));
    fputs("}, ", to);
    offline_json_tail(to, l->b);
    fputs("}\n", to);
}

static void print(const void *ctx) {
    const latency *l = ctx;
    printf("Avg latency: %.6f seconds\n", l->mean);
    for (int i = 0; i < N_PERCENTILES; i++)
        printf("%u%% percentile latency: %.6f seconds\n", percents[i],
               percentile(l->sorted, l->n_iters, percents[i]));
}

static oct_status iterate(latency *l, offline *b, const offline_work *w, oct_err *err) {
    bar shown = {"latency", -1};
    const uint64_t all = l->n_warmups + l->n_iters;
    double sum = 0, s;
    oct_status st = OCT_OK;
    for (uint64_t i = 0; st == OCT_OK && i < all; i++) {
        st = offline_run(b, w, l->o.open.seed + i, NULL, &s, err);
        if (!l->o.open.quiet) bar_show(&shown, i + 1, all);
        if (i < l->n_warmups) continue;
        sum += l->seconds[i - l->n_warmups] = s;
    }
    bar_end(&shown);
    l->mean = sum / (double)l->n_iters;
    memcpy(l->sorted, l->seconds, l->n_iters * sizeof *l->sorted);
    qsort(l->sorted, l->n_iters, sizeof *l->sorted, by_value);
    return st;
}

static int measure(latency *l, const char *path) {
    const oct_allocator *mem = oct_system_allocator();
    offline b = {0};
    offline_work w;
    oct_err err = {0};
    int status = -1;
    l->seconds = oct_calloc(mem, 2 * l->n_iters, sizeof *l->seconds);
    oct_status st = offline_plan(&l->lengths, l->o.open.seed, &w, &err);
    if (st == OCT_OK && !l->seconds) st = OCT_FAIL(&err, OCT_E_NOMEM, "bench: no memory");
    if (st == OCT_OK) status = offline_open(&l->o, path, &w, &b);
    if (st == OCT_OK && status < 0) {
        l->sorted = l->seconds + l->n_iters;
        offline_fill(&b, &w, ID_LIMIT, 0, l->o.open.seed);
        st = iterate(l, &b, &w, &err);
    }
    if (st != OCT_OK) status = cli_fail(cli_status_of(st), "%s", err.text);
    if (status < 0) {
        l->b = &b;
        status = offline_tell(&l->o, &(offline_report){print, write_json, l});
    }
    offline_close(&b);
    offline_work_free(&w);
    oct_free(mem, l->seconds, 2 * l->n_iters, sizeof *l->seconds);
    return status;
}

static const cli_command latency_command = {
    .name = "bench latency",
    .foreign = vllm_flags,
    .summary = "time of one batch of requests, offline",
    .usage = "MODEL",
    .examples = "  octet bench latency model-w8a8c8 --batch-size 1 --num-iters 10\n"
                "  octet bench latency preset:qwen3-0.6b-w8a8c8 --load-format dummy --json",
    .notes =
        "Prompts are random ids below 10000 (--seed), every answer is exactly as long as asked.\n"
        "Cached beginnings are off unless --enable-prefix-caching.",
};

int latency_run(int argc, char **argv) {
    latency l = {.lengths = {.n_jobs = 8, .n_choices = 1, .input = 32, .output = 128},
                 .n_warmups = 10,
                 .n_iters = 30};
    cli_flag report[OFFLINE_N_REPORT_FLAGS], engine[OFFLINE_N_ENGINE_FLAGS], model[OPEN_N_FLAGS];
    const char *path = NULL;
    offline_defaults(&l.o);
    const cli_flag flags[] = {
        cli_count("input-len", &l.lengths.input, 1, 1 << 20, "tokens of a prompt"),
        cli_count("output-len", &l.lengths.output, 1, 1 << 20, "tokens of an answer"),
        cli_count("batch-size", &l.lengths.n_jobs, 1, 65536, "requests at a time"),
        cli_count("n", &l.lengths.n_choices, 1, 1024, "answers of a prompt"),
        {.name = "num-iters-warmup",
         .type = CLI_COUNT,
         .out = &l.n_warmups,
         .value = "N",
         .max = MAX_ITERS,
         .help = "batches before those that are counted"},
        cli_count("num-iters", &l.n_iters, 1, MAX_ITERS, "counted batches"),
    };
    offline_report_flags(&l.o, report);
    offline_engine_flags(&l.o, engine);
    open_flags(&l.o.open, model);
    const cli_flag other[] = {model_flag(&path)};
    const cli_group groups[] = {{"Measurement", flags, OCT_COUNT(flags)},
                                {"Report", report, OFFLINE_N_REPORT_FLAGS},
                                {"Engine", engine, OFFLINE_N_ENGINE_FLAGS},
                                {"Model", model, OPEN_N_FLAGS},
                                {"vLLM", other, 1}};
    const char *pos[1];
    unsigned n_pos;
    const int status =
        cli_parse(&latency_command, groups, OCT_COUNT(groups), argc, argv, pos, 1, &n_pos);
    if (status >= 0) return status;
    const int named = pick_model("bench latency", n_pos == 1 ? pos[0] : NULL, &path);
    return named < 0 ? measure(&l, path) : named;
}
