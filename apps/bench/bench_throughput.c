/*
 * apps/bench/bench_throughput.c - `octet bench throughput MODEL`: all requests at once, offline.
 * Options, report and JSON keys are those of vLLM's command of that name, so that figures can be
 * laid side by side.
 */
#include <string.h>

#include "offline.h"

typedef struct throughput {
    offline_options o;
    offline_lengths lengths;
    const char *backend, *dataset;
    uint64_t n_warmups;
    bool async_engine;
    /* figures */
    const offline *b;
    const offline_work *w;
    double seconds;
} throughput;

static void write_json(const void *ctx, FILE *to) {
    const throughput *t = ctx;
    const uint64_t total = t->w->n_prompt_tokens + t->w->n_output_tokens;
    fprintf(to,
            "{\"elapsed_time\": %.6f, \"num_requests\": %u, \"total_num_tokens\": %llu, "
            "\"requests_per_second\": %.6f, \"tokens_per_second\": %.6f, "
            "\"output_tokens_per_second\": %.6f, \"total_num_prompt_tokens\": %llu, "
            "\"total_num_output_tokens\": %llu, ",
            t->seconds, t->w->n_jobs, (unsigned long long)total, t->w->n_jobs / t->seconds,
            (double)total / t->seconds, (double)t->w->n_output_tokens / t->seconds,
            (unsigned long long)t->w->n_prompt_tokens, (unsigned long long)t->w->n_output_tokens);
    offline_json_tail(to, t->b);
    fputs("}\n", to);
}

static void print(const void *ctx) {
    const throughput *t = ctx;
    const double total = (double)(t->w->n_prompt_tokens + t->w->n_output_tokens);
    printf("Throughput: %.2f requests/s, %.2f total tokens/s, %.2f output tokens/s\n",
           t->w->n_jobs / t->seconds, total / t->seconds,
           (double)t->w->n_output_tokens / t->seconds);
    printf("Total num prompt tokens:  %llu\n", (unsigned long long)t->w->n_prompt_tokens);
    printf("Total num output tokens:  %llu\n", (unsigned long long)t->w->n_output_tokens);
}

/* Other ids each time, so that nothing of a warm-up is in the cache of prefixes. */
static oct_status warm_up(const throughput *t, offline *b, offline_work *w, oct_err *err) {
    const uint64_t seed = t->o.open.seed;
    offline_work first = *w;
    double seconds;
    first.n_output_tokens = 0;
    first.n_jobs = (uint32_t)(t->n_warmups < w->n_jobs ? t->n_warmups : w->n_jobs);
    if (first.n_jobs == 0) return OCT_OK;
    offline_fill(b, w, 0, (uint32_t)t->lengths.prefix, seed + 1);
    return offline_run(b, &first, seed + 1, NULL, &seconds, err);
}

static int measure(throughput *t, const char *path) {
    bar shown = {"throughput", -1};
    offline b;
    offline_work w;
    oct_err err = {0};
    const uint64_t seed = t->o.open.seed;
    oct_status st = offline_plan(&t->lengths, seed, &w, &err);
    if (st != OCT_OK) {
        offline_work_free(&w);
        return cli_fail(cli_status_of(st), "%s", err.text);
    }
    int status = offline_open(&t->o, path, &w, &b);
    if (status < 0) {
        st = warm_up(t, &b, &w, &err);
        offline_fill(&b, &w, 0, (uint32_t)t->lengths.prefix, seed);
        if (st == OCT_OK)
            st = offline_run(&b, &w, seed, t->o.open.quiet ? NULL : &shown, &t->seconds, &err);
        status = st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
    }
    if (status < 0) {
        t->b = &b;
        t->w = &w;
        status = offline_tell(&t->o, &(offline_report){print, write_json, t});
    }
    offline_close(&b);
    offline_work_free(&w);
    return status;
}

static const cli_command throughput_command = {
    .name = "bench throughput",
    .foreign = vllm_flags,
    .summary = "requests and tokens a second of a model, offline",
    .usage = "MODEL",
    .examples = "  octet bench throughput model-w8a8c8 --num-prompts 64 --input-len 512\n"
                "  octet bench throughput preset:qwen3-0.6b-w8a8c8 --load-format dummy --json",
    .notes =
        "Prompts are random ids of the given lengths (--seed), every answer is exactly as long\n"
        "as asked, temperature 1. Loading is not counted.",
};

int throughput_run(int argc, char **argv) {
    throughput t = {.lengths = {.n_jobs = 1000, .n_choices = 1, .input = 1024, .output = 128},
                    .backend = "vllm",
                    .dataset = "random"};
    cli_flag report[OFFLINE_N_REPORT_FLAGS], engine[OFFLINE_N_ENGINE_FLAGS], model[OPEN_N_FLAGS];
    const char *path = NULL;
    offline_defaults(&t.o);
    t.o.prefix_caching = true;
    const cli_flag flags[] = {
        cli_choice("backend", &t.backend, "vllm", "the engine itself, whose flags are vLLM's"),
        cli_choice("dataset-name", &t.dataset, "random", "where prompts come from"),
        cli_count("input-len", &t.lengths.input, 1, 1 << 20, "tokens of a prompt"),
        cli_count("output-len", &t.lengths.output, 1, 1 << 20, "tokens of an answer"),
        {.name = "random-input-len",
         .type = CLI_COUNT,
         .out = &t.lengths.input,
         .value = "N",
         .min = 1,
         .max = 1 << 20,
         .help = "another name of --input-len"},
        {.name = "random-output-len",
         .type = CLI_COUNT,
         .out = &t.lengths.output,
         .value = "N",
         .min = 1,
         .max = 1 << 20,
         .help = "another name of --output-len"},
        cli_number("random-range-ratio", &t.lengths.range, "R", 0, 0.999,
                   "lengths are uniform within this share of them"),
        {.name = "random-prefix-len",
         .type = CLI_COUNT,
         .out = &t.lengths.prefix,
         .value = "N",
         .max = 1 << 20,
         .help = "tokens before each prompt, the same for all"},
        cli_count("n", &t.lengths.n_choices, 1, 1024, "answers of a prompt"),
        cli_count("num-prompts", &t.lengths.n_jobs, 1, 1 << 20, "requests"),
        {.name = "num-warmups",
         .type = CLI_COUNT,
         .out = &t.n_warmups,
         .value = "N",
         .max = 1 << 20,
         .help = "requests before that which are not counted"},
        cli_switch("async-engine", &t.async_engine, "no effect: the engine always is"),
    };
    offline_report_flags(&t.o, report);
    offline_engine_flags(&t.o, engine);
    open_flags(&t.o.open, model);
    const cli_flag other[] = {model_flag(&path)};
    const cli_group groups[] = {{"Measurement", flags, OCT_COUNT(flags)},
                                {"Report", report, OFFLINE_N_REPORT_FLAGS},
                                {"Engine", engine, OFFLINE_N_ENGINE_FLAGS},
                                {"Model", model, OPEN_N_FLAGS},
                                {"vLLM", other, 1}};
    const char *pos[1];
    unsigned n_pos;
    const int status =
        cli_parse(&throughput_command, groups, OCT_COUNT(groups), argc, argv, pos, 1, &n_pos);
    if (status >= 0) return status;
    const int named = pick_model("bench throughput", n_pos == 1 ? pos[0] : NULL, &path);
    return named < 0 ? measure(&t, path) : named;
}
