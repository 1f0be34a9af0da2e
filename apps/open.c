/* apps/open.c - see open.h. */
#include "open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "model/dummy.h"
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
        cli_string("hf-overrides", &o->hf_overrides, "JSON",
                   "keys that replace those of config.json: {\"num_hidden_layers\": 4}"),
        cli_string("kv-cache-dtype", &o->kv_cache_dtype, "TYPE",
                   "auto: as the checkpoint says, else the device's float\n"
                   "int8 (int8_per_channel, c8), fp8 (fp8_e4m3): with the checkpoint's scales\n"
                   "int8_per_token_head: INT8 that needs no scales\n"
                   "float16, bfloat16, float32"),
        cli_string("kv-cache-dtype-skip-layers", &o->kv_skip_layers, "LIST",
                   "layers that keep float K and V: \"0,2-5\", \"sliding_window\""),
        cli_count("max-model-len", &o->max_model_len, 1, 16777216,
                  "most tokens of a sequence; the model's own unless given"),
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

static void set_log_level(const open_options *o) {
    static const char *const names[] = {"debug", "info", "warn", "error", "off"};
    for (unsigned i = 0; i < OCT_COUNT(names); i++)
        if (strcmp(o->log_level, names[i]) == 0) oct_log_set_level((oct_log_level)i);
}

/* The vocabulary of a GGUF file as text/ wants it. */
static oct_status tokenizer_of_gguf(const oct_gguf *g, oct_tokenizer **out, oct_err *err) {
    static const struct {
        const char *key;
        size_t at;
    } ids[] = {{"tokenizer.ggml.bos_token_id", offsetof(oct_vocab_desc, bos_id)},
               {"tokenizer.ggml.eos_token_id", offsetof(oct_vocab_desc, eos_id)},
               {"tokenizer.ggml.unknown_token_id", offsetof(oct_vocab_desc, unk_id)},
               {"tokenizer.ggml.padding_token_id", offsetof(oct_vocab_desc, pad_id)}};
    static const struct {
        const char *key;
        size_t at;
    } switches[] = {
        {"tokenizer.ggml.add_bos_token", offsetof(oct_vocab_desc, add_bos)},
        {"tokenizer.ggml.add_eos_token", offsetof(oct_vocab_desc, add_eos)},
        {"tokenizer.ggml.add_space_prefix", offsetof(oct_vocab_desc, add_space_prefix)}};
    oct_vocab_desc d = {.bos_id = -1,
                        .eos_id = -1,
                        .unk_id = -1,
                        .pad_id = -1,
                        .add_bos = -1,
                        .add_eos = -1,
                        .add_space_prefix = -1};
    uint64_t n_tokens = 0, n_merges = 0, n_types = 0, n_scores = 0;

    if (!oct_gguf_str(g, "tokenizer.ggml.model", &d.model))
        return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer.ggml.model: missing");
    oct_gguf_str(g, "tokenizer.ggml.pre", &d.pre);
    oct_gguf_str(g, "tokenizer.chat_template", &d.chat_template);
    d.tokens = oct_gguf_str_array(g, "tokenizer.ggml.tokens", &n_tokens);
    d.merges = oct_gguf_str_array(g, "tokenizer.ggml.merges", &n_merges);
    d.types = oct_gguf_i32_array(g, "tokenizer.ggml.token_type", &n_types);
    d.scores = oct_gguf_f32_array(g, "tokenizer.ggml.scores", &n_scores);
    if (!d.tokens) return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer.ggml.tokens: missing");
    if ((d.types && n_types != n_tokens) || (d.scores && n_scores != n_tokens))
        return OCT_FAIL(
            err, OCT_E_CORRUPT,
            "tokenizer.ggml: lists of unlike length (got %llu tokens, %llu types, %llu scores)",
            (unsigned long long)n_tokens, (unsigned long long)n_types,
            (unsigned long long)n_scores);
    d.n_tokens = n_tokens;
    d.n_merges = n_merges;
    for (size_t i = 0; i < OCT_COUNT(ids); i++)
        oct_gguf_i64(g, ids[i].key, (int64_t *)((char *)&d + ids[i].at));
    for (size_t i = 0; i < OCT_COUNT(switches); i++) {
        bool on;
        if (oct_gguf_bool(g, switches[i].key, &on)) *(int *)((char *)&d + switches[i].at) = on;
    }
    return oct_tokenizer_create(oct_system_allocator(), &d, out, err);
}

static int fail_with(oct_status st, const oct_err *err, const char *path) {
    return cli_fail(cli_status_of(st), "%s", err->text[0] ? err->text : path);
}

static bool has_tokenizer(const char *folder) {
    char file[4096];
    struct stat st;
    return snprintf(file, sizeof file, "%s/tokenizer.json", folder) < (int)sizeof file &&
           stat(file, &st) == 0;
}

static oct_status tokenizer_of_path(const char *path, oct_tokenizer **out, oct_err *err) {
    oct_gguf *g;
    oct_status st;
    if (!oct_gguf_is(path)) {
        st = oct_tokenizer_open(oct_system_allocator(), path, out, err);
    } else if ((st = oct_gguf_open(oct_system_allocator(), path, &g, err)) == OCT_OK) {
        st = tokenizer_of_gguf(g, out, err);
        oct_gguf_close(g);
    }
    if (st != OCT_OK) oct_err_prefix(err, "%s", path);
    return st;
}

static int fail_with_file(oct_status st, const oct_err *err) {
    return cli_fail(st == OCT_E_NOMEM ? EXIT_SYSTEM : EXIT_MODEL, "%s", err->text);
}

int open_tokenizer(const open_options *o, const char *path, oct_tokenizer **out) {
    oct_err err = {0};
    *out = NULL;
    set_log_level(o);
    const oct_status st = tokenizer_of_path(o->tokenizer ? o->tokenizer : path, out, &err);
    return st == OCT_OK ? -1 : fail_with_file(st, &err);
}

oct_status open_own_tokenizer(const open_options *o, const oct_checkpoint *ckpt,
                              oct_tokenizer **out, oct_err *err) {
    const char *path = oct_checkpoint_path(ckpt);
    const oct_gguf *g = oct_checkpoint_gguf(ckpt);
    *out = NULL;
    if (o->tokenizer) return tokenizer_of_path(o->tokenizer, out, err);
    if (!g) return has_tokenizer(path) ? tokenizer_of_path(path, out, err) : OCT_OK;
    const oct_status st = tokenizer_of_gguf(g, out, err);
    if (st != OCT_OK) oct_err_prefix(err, "%s", path);
    return st;
}

oct_status open_weights(const open_options *o, const char *path, oct_checkpoint **out,
                        oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    const bool preset = oct_preset_is(path), dummy = strcmp(o->load_format, "dummy") == 0;
    *out = NULL;
    set_log_level(o);
    if (dummy) return oct_dummy_open(mem, path, o->hf_overrides, o->seed, out, err);
    if (preset)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "%s: a preset has no weights; --load-format dummy makes some up", path);
    OCT_TRY(oct_checkpoint_open_with(mem, path, o->hf_overrides, out, err));
    const bool gguf = oct_checkpoint_gguf(*out) != NULL;
    if (strcmp(o->load_format, "auto") == 0 || gguf == (strcmp(o->load_format, "gguf") == 0))
        return OCT_OK;
    oct_checkpoint_close(*out);
    *out = NULL;
    return OCT_FAIL(err, OCT_E_INVALID, "--load-format %s: %s is %s", o->load_format, path,
                    gguf ? "a GGUF file" : "a folder of safetensors");
}

int open_checkpoint(const open_options *o, const char *path, opened *out) {
    oct_err err = {0};
    oct_status st = open_weights(o, path, &out->ckpt, &err);
    if (st == OCT_E_INVALID) return cli_fail(EXIT_USAGE, "%s", err.text);
    if (st == OCT_OK) st = open_own_tokenizer(o, out->ckpt, &out->tokenizer, &err);
    return st == OCT_OK ? -1 : fail_with_file(st, &err);
}

int open_device(const open_options *o, opened *out) {
    char settings[512];
    oct_err err = {0};
    set_log_level(o);
    const char *given = o->device_settings ? o->device_settings : "";
    const char *mask = o->cpu_mask ? o->cpu_mask : "";
    if (strlen(given) > 400)
        return cli_fail(EXIT_USAGE, "--device-settings: too long (got %zu bytes, want at most 400)",
                        strlen(given));
    snprintf(settings, sizeof settings, "%s%s%s%.32s", given, given[0] && o->cpu_mask ? "," : "",
             o->cpu_mask ? "mask=" : "", mask);
    const oct_device_options od = {.n_threads = (uint32_t)o->threads,
                                   .bind_threads = o->cpu_binding ? 1 : 2,
                                   .overlap = o->overlap,
                                   .settings = settings[0] ? settings : NULL};
    const oct_status st =
        oct_device_open(oct_system_allocator(), o->device, &od, &out->device, &err);
    return st == OCT_OK ? -1 : fail_with(st, &err, o->device);
}

static void model_progress(void *ctx, uint64_t done, uint64_t total) { bar_show(ctx, done, total); }

int open_model_options(const open_options *o, oct_model_options *mo) {
    oct_err err = {0};
    if (oct_kv_choice_parse(o->kv_cache_dtype, &mo->kv, &err) != OCT_OK)
        return cli_fail(EXIT_USAGE, "%s", err.text);
    mo->kv_skip_layers = o->kv_skip_layers;
    uint64_t block = o->block_size;
    if (block % 32 != 0) {
        block = (block + 31) / 32 * 32;
        oct_warn("--block-size: rounded up to %llu, a multiple of 32", (unsigned long long)block);
    }
    const bool on_load = strstr(o->quantization, "int8") && strcmp(o->quantization, "w8a8_int8") &&
                         strcmp(o->quantization, "blockwise_int8");
    mo->quant = on_load ? OCT_QUANT_INT8 : OCT_QUANT_AS_STORED;
    mo->scheme = on_load ? NULL : o->quantization;
    mo->strict = o->strict;
    if (o->max_model_len) mo->max_model_len = (uint32_t)o->max_model_len;
    mo->block_tokens = (uint32_t)block;
    return -1;
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
