/* apps/open.c - see open.h. */
#include "open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "embed/open.h"
#include "store/presets.h"

static const char *load_format_help(void) {
    static char text[768];
    snprintf(text, sizeof text,
             "dummy: random weights in the shapes of MODEL, which is a folder with config.json or\n"
             "preset:NAME, NAME one of\n%s,\n"
             "with -bf16, -w8a8 or -w8a8c8 behind it\n",
             oct_preset_names);
    return text;
}

void open_flags(open_options *o, cli_flag *flags) {
    const cli_flag all[OPEN_N_FLAGS] = {
        cli_string("device", &o->device, "NAME|PATH",
                   "auto, cpu, cuda:N, or a plug-in's absolute path"),
        cli_string("device-settings", &o->device_settings, "KEY=VALUE,...",
                   "what a plug-in says that it can be told"),
        cli_count("threads", &o->threads, 1, 1024,
                  "CPU threads that compute; all cores of the process unless given"),
        cli_switch("cpu-binding", &o->cpu_binding, "bind those threads to cores"),
        cli_string("cpu-mask", &o->cpu_mask, "HEX",
                   "instruction sets that may be used: 1 AVX2, 2 AVX-512 VNNI, 4 AMX, added up;\n"
                   "0: the scalar reference"),
        {.name = "quantization",
         .alias = "-q",
         .type = CLI_CHOICE,
         .out = &o->quantization,
         .choices = "auto|int8|int8_per_channel|experts_int8|none|ascend|compressed-tensors|quark|"
                    "fp8|fbgemm_fp8|w8a8_int8|blockwise_int8",
         .help = "auto: as the checkpoint says\n"
                 "int8 (int8_per_channel, experts_int8): float weights become W8A8 dynamic while\n"
                 "they load\n"
                 "none: float weights only\n"
                 "others: the checkpoint must be of this format (ascend: ModelSlim)\n"},
        cli_switch(
            "strict", &o->strict,
            "refuse a checkpoint with tensors that are not used, or with projections stored\n"
            "differently that other engines fuse"),
        cli_choice("load-format", &o->load_format, "auto|safetensors|gguf|dummy",
                   load_format_help()),
        {.name = "seed",
         .type = CLI_COUNT,
         .out = &o->seed,
         .value = "N",
         .given = &o->seed_given,
         .help = "of those weights; of `run` also of what is drawn"},
        cli_json("hf-overrides", &o->hf_overrides,
                 "keys that replace those of config.json: {\"num_hidden_layers\": 4}"),
        cli_string("kv-cache-dtype", &o->kv_cache_dtype, "TYPE",
                   "auto: as the checkpoint says, else the device's float\n"
                   "int8 (int8_per_channel, c8), fp8 (fp8_e4m3): with the checkpoint's scales\n"
                   "int8_per_token_head: INT8 that needs no scales\n"
                   "float16, bfloat16, float32"),
        cli_string("kv-cache-dtype-skip-layers", &o->kv_skip_layers, "LIST",
                   "layers that keep float K and V: \"0,2-5\", \"sliding_window\""),
        {.name = "max-model-len",
         .type = CLI_COUNT,
         .out = &o->max_model_len,
         .value = "N",
         .min = 1,
         .max = 16777216,
         .unset = "-1|auto",
         .help = "most tokens of a sequence; the model's own unless given"},
        cli_count("block-size", &o->block_size, 16, 1024,
                  "tokens of a cache block, a multiple of 32"),
        cli_count("kv-cache-memory-bytes", &o->kv_cache_memory, 1048576, 0,
                  "size of the KV cache; serve chooses one from the free memory unless given, run\n"
                  "one for the longest sequence"),
        cli_string("tokenizer", &o->tokenizer, "FOLDER",
                   "where the tokenizer's files are; the model's folder unless given"),
        cli_choice("log-level", &o->log_level, "debug|info|warn|error|off", "lines on stderr"),
        cli_switch("quiet", &o->quiet, "no progress bars"),
    };
    memcpy(flags, all, sizeof all);
}

unsigned open_flags_without(open_options *o, const char *name, cli_flag *flags) {
    unsigned n = 0;
    open_flags(o, flags);
    for (unsigned i = 0; i < OPEN_N_FLAGS; i++)
        if (strcmp(flags[i].name, name) != 0) flags[n++] = flags[i];
    return n;
}

/* ---- what is kept ---------------------------------------------------------------------------- */

void keep_flags(open_options *o, cli_flag flags[KEEP_N_FLAGS]) {
    const cli_flag all[KEEP_N_FLAGS] = {
        cli_number("kv-offloading-size", &o->offload_gib, "GIB", 0, 1 << 20,
                   "host memory in GiB for what cache blocks held that were handed out for\nother "
                   "texts; 0: none"),
        cli_string("kv-store", &o->kv_store, "FOLDER",
                   "where cache blocks are kept for the next start of the same model; what is\n"
                   "there follows from prompts"),
        cli_number("kv-store-size", &o->kv_store_gib, "GIB", 0.001, 1 << 20,
                   "most GiB of the files in that folder"),
    };
    memcpy(flags, all, sizeof all);
}

int keep_check(const open_options *o, bool prefix_caching) {
    if ((o->offload_gib > 0 || o->kv_store) && !prefix_caching)
        return cli_fail(EXIT_USAGE,
                        "--kv-%s: nothing to keep without prefix caching (got "
                        "--no-enable-prefix-caching)",
                        o->kv_store ? "store" : "offloading-size");
    if (o->kv_store && !o->kv_store[0])
        return cli_fail(EXIT_USAGE, "--kv-store: the name is empty");
    return -1;
}

oct_keep_options keep_options(const open_options *o) {
    const double gib = (double)(UINT64_C(1) << 30);
    const double bytes = o->offload_gib * gib;
    return (oct_keep_options){.offload_bytes = bytes > 0 && bytes < 1 ? 1 : (uint64_t)bytes,
                              .store = o->kv_store,
                              .store_bytes = (uint64_t)(o->kv_store_gib * gib)};
}

/* ---- vLLM ------------------------------------------------------------------------------------ */

cli_flag model_flag(const char **model) {
    return cli_string("model", model, "MODEL", "another way to name the model");
}

int pick_model(const char *command, const char *argument, const char **model) {
    cli_say_foreign();
    if (argument && *model && !cli_is_from_file(model))
        return cli_fail(EXIT_USAGE, "--model: a MODEL was given already (got %.64s)", *model);
    if (argument) *model = argument;
    if (*model) return -1;
    return cli_fail(EXIT_USAGE, "%s: want a MODEL; see octet %s --help", command, command);
}

/* ---------------------------------------------------------------------------------------------- */

void bar_show(bar *b, uint64_t done, uint64_t total) {
    enum { CELLS = 30 };
    const int percent = total ? (int)(done * 100 / total) : 100;
    if (!isatty(STDERR_FILENO) || (percent == b->last && done != 0)) return;
    b->last = percent;
    char cells[CELLS + 1];
    memset(cells, ' ', CELLS);
    memset(cells, '#', (size_t)(percent * CELLS / 100));
    cells[CELLS] = '\0';
    fprintf(stderr, "\r%-24s [%s] %3d %%", b->label, cells, percent);
    fflush(stderr);
}

void bar_end(bar *b) {
    if (b->last >= 0 && isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    b->last = -1;
}

void open_log_level(const open_options *o) {
    static const char *const names[] = {"debug", "info", "warn", "error", "off"};
    for (unsigned i = 0; i < OCT_COUNT(names); i++)
        if (strcmp(o->log_level, names[i]) == 0) oct_log_set_level((oct_log_level)i);
}

static int fail_with(oct_status st, const oct_err *err, const char *path) {
    return cli_fail(cli_status_of(st), "%s", err->text[0] ? err->text : path);
}

static int fail_with_file(oct_status st, const oct_err *err) {
    return cli_fail(st == OCT_E_NOMEM ? EXIT_SYSTEM : EXIT_MODEL, "%s", err->text);
}

static void model_progress(void *ctx, uint64_t done, uint64_t total) { bar_show(ctx, done, total); }

/* The CPU's mask is a setting of its device. settings[512] takes both. */
static int read_settings(const open_options *o, char *settings, size_t bytes) {
    const char *given = o->device_settings ? o->device_settings : "";
    const char *mask = o->cpu_mask ? o->cpu_mask : "";
    if (strlen(given) > 400)
        return cli_fail(EXIT_USAGE, "--device-settings: too long (got %zu bytes, want at most 400)",
                        strlen(given));
    snprintf(settings, bytes, "%s%s%s%.32s", given, given[0] && o->cpu_mask ? "," : "",
             o->cpu_mask ? "mask=" : "", mask);
    if (o->prefetch) {
        const size_t n = strlen(settings);
        snprintf(settings + n, bytes - n, "%sprefetch=1", n > 0 ? "," : "");
    }
    return -1;
}

static oct_open_options words_of(const open_options *o) {
    return (oct_open_options){.device = o->device,
                              .quantization = o->quantization,
                              .kv_cache_dtype = o->kv_cache_dtype,
                              .kv_skip_layers = o->kv_skip_layers,
                              .load_format = o->load_format,
                              .hf_overrides = o->hf_overrides,
                              .tokenizer = o->tokenizer,
                              .seed = o->seed,
                              .n_threads = (uint32_t)o->threads,
                              .max_model_len = (uint32_t)o->max_model_len,
                              .block_size = (uint32_t)o->block_size,
                              .unbound = !o->cpu_binding,
                              .overlap = !o->overlap        ? OCT_OVERLAP_NO
                                         : o->overlap_given ? OCT_OVERLAP_YES
                                                            : OCT_OVERLAP_AUTO,
                              .strict = o->strict};
}

int open_tokenizer(const open_options *o, const char *path, oct_tokenizer **out) {
    oct_err err = {0};
    open_log_level(o);
    const oct_status st = oct_open_tokenizer(o->tokenizer ? o->tokenizer : path, out, &err);
    return st == OCT_OK ? -1 : fail_with_file(st, &err);
}

oct_status open_own_tokenizer(const open_options *o, const oct_checkpoint *ckpt,
                              oct_tokenizer **out, oct_err *err) {
    const oct_open_options w = words_of(o);
    return oct_open_own_tokenizer(&w, ckpt, out, err);
}

oct_status open_weights(const open_options *o, const char *path, oct_checkpoint **out,
                        oct_err *err) {
    const oct_open_options w = words_of(o);
    open_log_level(o);
    return oct_open_weights(&w, path, out, err);
}

int open_checkpoint(const open_options *o, const char *path, opened *out) {
    oct_err err = {0};
    oct_status st = open_weights(o, path, &out->ckpt, &err);
    if (st == OCT_E_INVALID) return cli_fail(EXIT_USAGE, "%s", err.text);
    if (st == OCT_OK) st = open_own_tokenizer(o, out->ckpt, &out->tokenizer, &err);
    return st == OCT_OK ? -1 : fail_with(st, &err, path);
}

int open_device(const open_options *o, opened *out) {
    char settings[512];
    oct_open_options w = words_of(o);
    oct_err err = {0};
    open_log_level(o);
    const int status = read_settings(o, settings, sizeof settings);
    if (status >= 0) return status;
    w.settings = settings;
    const oct_status st = oct_open_device(&w, &out->device, &err);
    return st == OCT_OK ? -1 : fail_with(st, &err, o->device);
}

int open_model_options(const open_options *o, oct_model_options *mo) {
    const oct_open_options w = words_of(o);
    oct_err err = {0};
    const oct_status st = oct_open_model_options(&w, mo, &err);
    return st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
}

int open_engine(const open_options *o, const char *path, octet_engine_options *eo,
                octet_engine **out) {
    bar b = {"loading weights", -1};
    char settings[512], sentence[OCT_ERR_TEXT];
    open_log_level(o);
    const int status = read_settings(o, settings, sizeof settings);
    if (status >= 0) return status;
    eo->flags |= (o->cpu_binding ? 0 : OCTET_ENGINE_UNBOUND) |
                 (o->strict ? OCTET_ENGINE_STRICT : 0) | (o->overlap ? 0 : OCTET_ENGINE_NO_ASYNC);
    eo->n_threads = (uint32_t)o->threads;
    eo->max_model_len = (uint32_t)o->max_model_len;
    eo->block_size = (uint32_t)o->block_size;
    eo->kv_cache_bytes = o->kv_cache_memory;
    eo->seed = o->seed;
    eo->device = o->device;
    eo->device_settings = settings;
    eo->quantization = o->quantization;
    eo->kv_cache_dtype = o->kv_cache_dtype;
    eo->kv_cache_dtype_skip_layers = o->kv_skip_layers;
    eo->load_format = o->load_format;
    eo->hf_overrides = o->hf_overrides;
    eo->tokenizer = o->tokenizer;
    const oct_keep_options keep = keep_options(o);
    eo->kv_offload_bytes = keep.offload_bytes;
    eo->kv_store = keep.store;
    eo->kv_store_bytes = keep.store_bytes;
    eo->progress = o->quiet ? NULL : model_progress;
    eo->progress_ctx = &b;
    const int32_t code = octet_engine_open(path, eo, out, sentence, sizeof sentence);
    bar_end(&b);
    return code == OCTET_OK ? -1 : cli_fail(cli_status_of((oct_status)code), "%s", sentence);
}

int open_model(const open_options *o, const char *path, oct_model_options *mo, opened *out) {
    bar b = {"loading weights", -1};
    oct_err err = {0};
    int status = open_model_options(o, mo);
    if (status < 0) status = open_checkpoint(o, path, out);
    if (status < 0) status = open_device(o, out);
    if (status >= 0) return status;
    mo->progress = o->quiet ? NULL : model_progress;
    mo->progress_ctx = &b;
    oct_status st =
        oct_model_load(oct_system_allocator(), out->device, out->ckpt, mo, &out->model, &err);
    bar_end(&b);
    if (st == OCT_OK && out->tokenizer)
        st =
            oct_tokenizer_check_rows(out->tokenizer, oct_checkpoint_config(out->ckpt)->vocab, &err);
    return st == OCT_OK ? -1 : fail_with(st, &err, path);
}

void opened_close(opened *o) {
    oct_model_destroy(o->model);
    oct_tokenizer_destroy(o->tokenizer);
    oct_checkpoint_close(o->ckpt);
    oct_device_close(o->device);
    *o = (opened){0};
}
