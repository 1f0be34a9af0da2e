/* embed/open.c - see open.h. */
#include "embed/open.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "model/dummy.h"
#include "store/presets.h"

static const char *or_auto(const char *word) { return word ? word : "auto"; }

/* ---- tokenizer ---- */

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

static bool has_tokenizer(const char *folder) {
    char file[4096];
    struct stat st;
    return snprintf(file, sizeof file, "%s/tokenizer.json", folder) < (int)sizeof file &&
           stat(file, &st) == 0;
}

oct_status oct_open_tokenizer(const char *path, oct_tokenizer **out, oct_err *err) {
    oct_gguf *g;
    oct_status st;
    *out = NULL;
    if (!oct_gguf_is(path)) {
        st = oct_tokenizer_open(oct_system_allocator(), path, out, err);
    } else if ((st = oct_gguf_open(oct_system_allocator(), path, &g, err)) == OCT_OK) {
        st = tokenizer_of_gguf(g, out, err);
        oct_gguf_close(g);
    }
    if (st != OCT_OK) oct_err_prefix(err, "%s", path);
    return st;
}

oct_status oct_open_own_tokenizer(const oct_open_options *o, const oct_checkpoint *ckpt,
                                  oct_tokenizer **out, oct_err *err) {
    const char *path = oct_checkpoint_path(ckpt);
    const oct_gguf *g = oct_checkpoint_gguf(ckpt);
    *out = NULL;
    if (o->tokenizer) return oct_open_tokenizer(o->tokenizer, out, err);
    if (!g) return has_tokenizer(path) ? oct_open_tokenizer(path, out, err) : OCT_OK;
    const oct_status st = tokenizer_of_gguf(g, out, err);
    if (st != OCT_OK) oct_err_prefix(err, "%s", path);
    return st;
}

uint32_t oct_open_eos(const oct_checkpoint *ckpt, const oct_tokenizer *tokenizer,
                      int32_t out[OCT_OPEN_MAX_EOS]) {
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    const oct_generation_config *g = oct_checkpoint_generation(ckpt);
    const int32_t own = tokenizer ? oct_tokenizer_eos(tokenizer) : -1;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_eos; i++) out[n++] = c->eos_ids[i];
    for (uint32_t i = 0; i < g->n_eos; i++) out[n++] = g->eos_ids[i];
    if (n == 0 && own >= 0) out[n++] = own;
    return n;
}

/* ---- weights ---- */

oct_status oct_open_weights(const oct_open_options *o, const char *path, oct_checkpoint **out,
                            oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    const char *format = or_auto(o->load_format);
    const bool preset = oct_preset_is(path), dummy = strcmp(format, "dummy") == 0;
    *out = NULL;
    if (!dummy && strcmp(format, "auto") != 0 && strcmp(format, "safetensors") != 0 &&
        strcmp(format, "gguf") != 0)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "--load-format: unknown choice (got %.64s, want auto, safetensors, gguf or "
                        "dummy)",
                        format);
    if (dummy) return oct_dummy_open(mem, path, o->hf_overrides, o->seed, out, err);
    if (preset)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "%s: a preset has no weights; --load-format dummy makes some up", path);
    OCT_TRY(oct_checkpoint_open_with(mem, path, o->hf_overrides, out, err));
    const bool gguf = oct_checkpoint_gguf(*out) != NULL;
    if (strcmp(format, "auto") == 0 || gguf == (strcmp(format, "gguf") == 0)) return OCT_OK;
    oct_checkpoint_close(*out);
    *out = NULL;
    return OCT_FAIL(err, OCT_E_INVALID, "--load-format %s: %s is %s", format, path,
                    gguf ? "a GGUF file" : "a folder of safetensors");
}

/* ---- device and model ---- */

oct_status oct_open_device(const oct_open_options *o, oct_device **out, oct_err *err) {
    const oct_device_options od = {.n_threads = o->n_threads,
                                   .bind_threads = o->unbound ? 2 : 1,
                                   .overlap = o->overlap,
                                   .settings = o->settings && o->settings[0] ? o->settings : NULL};
    return oct_device_open(oct_system_allocator(), or_auto(o->device), &od, out, err);
}

oct_status oct_open_model_options(const oct_open_options *o, oct_model_options *mo, oct_err *err) {
    const char *quant = or_auto(o->quantization);
    if (oct_kv_choice_parse(or_auto(o->kv_cache_dtype), &mo->kv, err) != OCT_OK)
        return OCT_E_INVALID; /* a word that is known elsewhere is no use here either */
    mo->kv_skip_layers = o->kv_skip_layers;
    uint64_t block = o->block_size ? o->block_size : OCT_MODEL_BLOCK_TOKENS;
    if (block % 32 != 0) {
        block = (block + 31) / 32 * 32;
        oct_warn("--block-size: rounded up to %llu, a multiple of 32", (unsigned long long)block);
    }
    const bool on_load = strstr(quant, "int8") && strcmp(quant, "w8a8_int8") != 0 &&
                         strcmp(quant, "blockwise_int8") != 0;
    mo->quant = on_load ? OCT_QUANT_INT8 : OCT_QUANT_AS_STORED;
    mo->scheme = on_load ? NULL : quant;
    mo->strict = o->strict;
    if (o->max_model_len) mo->max_model_len = o->max_model_len;
    mo->block_tokens = (uint32_t)block;
    return OCT_OK;
}
