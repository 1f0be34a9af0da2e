/* apps/quantize/quantize.c - `octet quantize IN OUT`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "open.h"
#include "quantize/quantize.h"
#include "store/file.h"

enum { MAX_CALIB_BYTES = 64 << 20 };

typedef struct screen {
    bar bar;
    bool quiet;
} screen;

static void show_progress(void *ctx, const char *phase, uint64_t done, uint64_t total) {
    screen *s = ctx;
    if (s->quiet) return;
    s->bar.label = phase;
    bar_show(&s->bar, done, total);
}

static void show_note(void *ctx, const char *line) {
    screen *s = ctx;
    bar_end(&s->bar);
    if (!s->quiet) printf("  %s\n", line);
}

static void print_report(const oct_quantize_report *r, const char *out) {
    printf("%s: %u projections static, %u dynamic, %u tensors float\n", out, r->n_static,
           r->n_dynamic, r->n_float);
    if (r->n_static)
        printf("  %.1f %% of the projections' bytes are static W8A8\n",
               100.0 * (double)r->static_bytes / (double)r->int8_bytes);
    printf("  %.1f MB in %u file%s written in %.1f s\n", (double)r->total_bytes / 1e6, r->n_files,
           r->n_files == 1 ? "" : "s", r->seconds);
}

/* The decimal number that was rounded to this float: 0.1, not 0.10000000149. */
static double as_written(float x) {
    char text[32];
    snprintf(text, sizeof text, "%.6g", (double)x);
    return strtod(text, NULL);
}

static const char *const kv_names[] = {[OCT_QUANTIZE_KV_AUTO] = "auto",
                                       [OCT_QUANTIZE_KV_NONE] = "none",
                                       [OCT_QUANTIZE_KV_CHANNEL] = "c8",
                                       [OCT_QUANTIZE_KV_HEAD] = "head",
                                       [OCT_QUANTIZE_KV_TENSOR] = "tensor"};

/* As the flags say it. */
typedef struct choices {
    const char *format, *scheme, *kv, *calib, *head;
    double alpha, dynamic_error; /* of the output, in percent */
    uint64_t calib_tokens, max_shard;
} choices;

static oct_quantize_options options_of(const choices *c) {
    oct_quantize_options o = oct_quantize_defaults;
    o.scheme = strcmp(c->scheme, "w8a8") == 0 ? OCT_QUANTIZE_W8A8 : OCT_QUANTIZE_W8A8_DYNAMIC;
    o.layout = oct_layout_find(c->format);
    for (size_t i = 0; i < OCT_COUNT(kv_names); i++)
        if (strcmp(c->kv, kv_names[i]) == 0) o.kv = (oct_quantize_kv)i;
    o.max_shard_bytes = c->max_shard;
    o.head_int8 = strcmp(c->head, "int8") == 0;
    o.calib_tokens = (uint32_t)c->calib_tokens;
    o.smooth_alpha = (float)c->alpha;
    o.dynamic_error = (float)(c->dynamic_error / 100);
    return o;
}

/* An exit status. */
static int quantise(const open_options *open, const choices *c, const char *in, const char *out) {
    const oct_allocator *mem = oct_system_allocator();
    opened m = {0};
    oct_err err = {0};
    oct_buf text;
    screen s = {{"", -1}, open->quiet};
    oct_quantize_report report;
    oct_quantize_options o = options_of(c);
    int status = -1;

    oct_buf_init(&text, mem, 0);
    if (c->calib && oct_file_read_small(mem, c->calib, MAX_CALIB_BYTES, &text, &err) != OCT_OK)
        status = cli_fail(EXIT_USAGE, "--calib: %s", err.text);
    if (c->calib) o.calib_text = oct_buf_view(&text);
    o.progress = show_progress;
    o.note = show_note;
    o.ctx = &s;
    if (status < 0) status = open_checkpoint(open, in, &m);
    if (status < 0) status = open_device(open, &m);
    if (status < 0) {
        const oct_status st =
            oct_quantize(mem, m.device, m.ckpt, m.tokenizer, out, &o, &report, &err);
        bar_end(&s.bar);
        if (st == OCT_OK) print_report(&report, out);
        status = st == OCT_OK ? EXIT_CLEAN : cli_fail(cli_status_of_output(st), "%s", err.text);
    }
    oct_buf_fini(&text);
    opened_close(&m);
    return status;
}

static int quantize_run(const cli_command *self, int argc, char **argv) {
    const oct_quantize_options *d = &oct_quantize_defaults;
    open_options open = OPEN_OPTIONS_DEFAULT;
    choices c = {.format = d->layout->name,
                 .scheme = "w8a8-dynamic",
                 .kv = "auto",
                 .head = "float",
                 .alpha = as_written(d->smooth_alpha),
                 .dynamic_error = as_written(d->dynamic_error * 100),
                 .calib_tokens = d->calib_tokens,
                 .max_shard = d->max_shard_bytes};
    cli_flag model_flags[OPEN_N_FLAGS];

    open.log_level = "warn";
    open_flags(&open, model_flags);
    const cli_flag flags[] = {
        cli_choice("format", &c.format, "modelslim|quark|compressed-tensors",
                   "layout of the result"),
        cli_choice(
            "scheme", &c.scheme, "w8a8|w8a8-dynamic",
            "w8a8: static input scales from calibration\nw8a8-dynamic: a scale for each token\n"),
        cli_choice("kv", &c.kv, "auto|c8|head|tensor|none",
                   "calibrated scales for an INT8 KV cache, per channel (c8), head or tensor\n"
                   "auto: c8 with --format modelslim, else none; quark has no head, modelslim\n"
                   "neither head nor tensor"),
        {.name = "max-shard-size",
         .type = CLI_COUNT,
         .out = &c.max_shard,
         .value = "BYTES",
         .min = 1,
         .help = "weights beyond it go to further files, with an index"},
        cli_string("calib", &c.calib, "FILE",
                   "calibration text (UTF-8); a built-in one unless given"),
        cli_count("calib-tokens", &c.calib_tokens, 16, 1 << 20, "most tokens of it that are used"),
        cli_number("smooth", &c.alpha, "ALPHA", 0, 1,
                   "how much of the activations' outliers moves into weights; 0: none"),
        cli_number("dynamic-above", &c.dynamic_error, "PERCENT", 0, 100,
                   "w8a8: a projection whose static error is larger than this part of its output\n"
                   "stays W8A8_DYNAMIC"),
        cli_choice("lm-head", &c.head, "int8|float",
                   "int8: lm_head becomes W8A8_DYNAMIC, a matrix of its own"),
    };
    const cli_group groups[] = {
        {"Quantisation", flags, OCT_COUNT(flags)},
        {"Device", model_flags, OPEN_N_DEVICE_FLAGS},
        {"Files", model_flags + OPEN_N_FLAGS - OPEN_N_FILE_FLAGS, OPEN_N_FILE_FLAGS}};
    const char *pos[2];
    unsigned n_pos;
    const int status = cli_parse(self, groups, OCT_COUNT(groups), argc, argv, pos, 2, &n_pos);
    if (status >= 0) return status;
    if (n_pos != 2)
        return cli_fail(EXIT_USAGE, "quantize: want IN and OUT; see octet quantize --help");
    return quantise(&open, &c, pos[0], pos[1]);
}

const cli_command quantize_command = {
    .name = "quantize",
    .summary = "a float or GGUF model as W8A8, in the layout of ModelSlim, Quark or others",
    .usage = "IN OUT",
    .examples = "  octet quantize model.gguf model-w8a8c8\n"
                "  octet quantize llama-folder out --scheme w8a8 --calib mytext.txt\n"
                "  octet quantize mixtral-folder out --format compressed-tensors",
    .run = quantize_run,
};
