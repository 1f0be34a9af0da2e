/* apps/inspect/inspect.c - `octet inspect MODEL [OTHER]`: what a checkpoint holds, what serving it
 * costs and what would be refused; or how two differ. */
#include "inspect.h"

#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "commands.h"
#include "store/presets.h"

/* Of the flags that every command has, those that bear on what is told. */
static unsigned shared_flags(open_options *o, cli_flag *out) {
    static const char *const wanted[] = {
        "device",      "quantization",  "kv-cache-dtype", "kv-cache-dtype-skip-layers",
        "strict",      "max-model-len", "block-size",     "tokenizer",
        "load-format", "seed",          "hf-overrides"};
    cli_flag all[OPEN_N_FLAGS];
    unsigned n = 0;
    open_flags(o, all);
    for (unsigned i = 0; i < OPEN_N_FLAGS; i++)
        for (size_t k = 0; k < OCT_COUNT(wanted); k++)
            if (strcmp(all[i].name, wanted[k]) == 0) out[n++] = all[i];
    return n;
}

int inspect_dump(json_t *value) {
    oct_buf text;
    oct_buf_init(&text, oct_system_allocator(), 0);
    if (value) oct_json_dump(&text, value, JSON_INDENT(1));
    const bool ok = value && !text.failed;
    if (ok) puts(oct_buf_cs(&text));
    oct_buf_fini(&text);
    json_decref(value);
    return ok ? EXIT_CLEAN : cli_fail(EXIT_SYSTEM, "inspect: no memory");
}

/* The tokenizer is only looked at: what is wrong with it is one more refusal. */
static void check_tokenizer(const open_options *o, inspected *x) {
    oct_err err = {0};
    oct_status st = open_own_tokenizer(o, x->m.ckpt, &x->m.tokenizer, &err);
    if (st == OCT_OK && x->m.tokenizer)
        st =
            oct_tokenizer_check_rows(x->m.tokenizer, oct_checkpoint_config(x->m.ckpt)->vocab, &err);
    if (st != OCT_OK) oct_survey_refuse(x->survey, st, err.text);
}

/* A preset has shapes only, which is what is asked for. A folder whose weights cannot be read has
 * at least a configuration: then that is told, and why. */
static oct_status open_any(const inspect_options *o, inspected *x, oct_err *err) {
    open_options made = o->open;
    oct_err ignored = {0};
    made.load_format = "dummy";
    if (oct_preset_is(x->path)) return open_weights(&made, x->path, &x->m.ckpt, err);
    const oct_status st = open_weights(&o->open, x->path, &x->m.ckpt, err);
    if (st == OCT_OK || st == OCT_E_NOMEM || st == OCT_E_INVALID) return st;
    if (open_weights(&made, x->path, &x->m.ckpt, &ignored) != OCT_OK) return st;
    x->why_shape_only = st;
    return OCT_OK;
}

static int open_one(const inspect_options *o, const char *path, inspected *x) {
    oct_model_options mo = {0};
    oct_err why = {0}, err = {0};
    x->path = path;
    int status = open_model_options(&o->open, &mo);
    if (status < 0) status = open_device(&o->open, &x->m);
    if (status >= 0) return status;
    oct_status st = open_any(o, x, &why);
    if (st != OCT_OK) return cli_fail(cli_status_of(st), "%s", why.text);
    st = oct_survey_create(oct_system_allocator(), x->m.device, x->m.ckpt, &mo, &x->survey, &err);
    if (st != OCT_OK) return cli_fail(cli_status_of(st), "%s", err.text);
    if (x->why_shape_only != OCT_OK) {
        x->survey->n_refused = 0; /* of what is not there */
        x->survey->scheme = "unknown";
        oct_survey_refuse(x->survey, x->why_shape_only, why.text);
    }
    check_tokenizer(&o->open, x);
    return x->survey->no_memory ? cli_fail(EXIT_SYSTEM, "%s: no memory", path) : -1;
}

static void close_one(inspected *x) {
    oct_survey_destroy(x->survey);
    opened_close(&x->m);
}

/* What was shown, and in the end why it could not be served. */
static int report(const inspected *x, const inspect_options *o) {
    const oct_survey *s = x->survey;
    if (o->json) {
        const int status = inspect_dump(inspect_to_json(x, o));
        if (status != EXIT_CLEAN) return status;
    } else {
        inspect_print(x, o);
    }
    fflush(stdout);
    if (s->n_refused == 0) return EXIT_CLEAN;
    return cli_fail(cli_status_of(s->refused[0].status), "%s", s->refused[0].text);
}

static int inspect_run(const cli_command *self, int argc, char **argv) {
    inspect_options o = {.open = OPEN_OPTIONS_DEFAULT};
    o.open.log_level = "warn";
    o.open.threads = 1;
    o.open.cpu_binding = false;
    const cli_flag flags[] = {
        {.name = "memory",
         .type = CLI_COUNT,
         .out = &o.memory,
         .value = "BYTES",
         .min = 1,
         .help = "say how much cache fits beside the weights (16GiB, 24g)"},
        cli_switch("json", &o.json, "one JSON object"),
        cli_switch("tensors", &o.tensors, "list all tensors: type, shape, bytes, file"),
        cli_switch("values", &o.values,
                   "of two models: compare the values too, which reads all of both"),
    };
    cli_flag model[OPEN_N_FLAGS];
    const cli_group groups[] = {{"Flags", flags, OCT_COUNT(flags)},
                                {"Model", model, shared_flags(&o.open, model)}};
    const char *path[2];
    unsigned n_pos;
    int status = cli_parse(self, groups, OCT_COUNT(groups), argc, argv, path, 2, &n_pos);
    if (status >= 0) return status;
    if (n_pos == 0) return cli_fail(EXIT_USAGE, "inspect: want a MODEL");

    inspected x[2] = {0};
    for (unsigned i = 0; i < n_pos && status < 0; i++) status = open_one(&o, path[i], &x[i]);
    if (status < 0) status = n_pos == 1 ? report(&x[0], &o) : inspect_compare(&x[0], &x[1], &o);
    for (unsigned i = 0; i < n_pos; i++) close_one(&x[i]);
    return status;
}

const cli_command inspect_command = {
    .name = "inspect",
    .summary = "what a checkpoint holds and what serving it costs; how two differ",
    .usage = "MODEL [OTHER]",
    .notes = "Reads and checks the whole description and all small values; weights are read with\n"
             "--values only. What would be refused is listed, and the exit status is that of the\n"
             "first refusal.",
    .examples = "  octet inspect model-w8a8c8\n"
                "  octet inspect model.gguf -q int8 --memory 24g --max-model-len 8192\n"
                "  octet inspect model --tensors --json\n"
                "  octet inspect model model-w8a8c8 --values\n"
                "  octet inspect preset:qwen3-32b-w8a8c8 --memory 64GiB",
    .run = inspect_run,
};
