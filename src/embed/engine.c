/*
 * embed/engine.c - opening and closing, and what all functions of the door share: structs of other
 * versions, sentences.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "embed/keep.h"
#include "embed/open.h"
#include "embed/parts.h"

enum { DEFAULT_SEQS = 16, DEFAULT_ROWS = 512 };
#define DEFAULT_STORE_BYTES (UINT64_C(16) << 30)
/* Sizes of the first version's structs; a caller has at least these. */
enum { LEAST_OPTIONS = 128, LEAST_INFO = 72 };
/* No version will be longer; a size beyond is one that nobody set. */
enum { MOST_STRUCT = 4096 };

const char *octet_version(void) { return OCT_VERSION; }

void octet_log_level(int32_t level) {
    oct_log_set_level(level < 0 ? OCT_LOG_DEBUG
                                : (level > OCT_LOG_OFF ? OCT_LOG_OFF : (oct_log_level)level));
}

/* ---- versions and sentences ---- */

static uint32_t struct_bytes(const void *s) {
    uint32_t n;
    memcpy(&n, s, sizeof n);
    return n;
}

bool oct_embed_take(void *ours, size_t bytes, size_t least, const void *theirs) {
    const size_t n = theirs ? struct_bytes(theirs) : 0;
    if (n < least || n > MOST_STRUCT) return false;
    for (size_t i = bytes; i < n; i++)
        if (((const unsigned char *)theirs)[i]) return false;
    memset(ours, 0, bytes);
    memcpy(ours, theirs, n < bytes ? n : bytes);
    return true;
}

bool oct_embed_give(void *theirs, const void *ours, size_t bytes, size_t least) {
    const uint32_t n = theirs ? struct_bytes(theirs) : 0;
    if (n < least || n > MOST_STRUCT) return false;
    memset(theirs, 0, n);
    memcpy(theirs, ours, n < bytes ? n : bytes);
    memcpy(theirs, &n, sizeof n);
    return true;
}

int32_t oct_embed_answer(oct_status st, const oct_err *err, char *sentence, size_t bytes) {
    if (sentence && bytes > 0)
        snprintf(sentence, bytes, "%s",
                 st == OCT_OK ? "" : (err->text[0] ? err->text : oct_status_name(st)));
    return (int32_t)st;
}

/* ---- opening ---- */

static oct_open_options words_of(const octet_engine_options *o) {
    return (oct_open_options){.device = o->device,
                              .settings = o->device_settings,
                              .quantization = o->quantization,
                              .kv_cache_dtype = o->kv_cache_dtype,
                              .kv_skip_layers = o->kv_cache_dtype_skip_layers,
                              .load_format = o->load_format,
                              .hf_overrides = o->hf_overrides,
                              .tokenizer = o->tokenizer,
                              .seed = o->seed,
                              .n_threads = o->n_threads,
                              .max_model_len = o->max_model_len,
                              .block_size = o->block_size,
                              .unbound = (o->flags & OCTET_ENGINE_UNBOUND) != 0,
                              .strict = (o->flags & OCTET_ENGINE_STRICT) != 0,
                              .overlap = o->flags & OCTET_ENGINE_NO_ASYNC ? OCT_OVERLAP_NO
                                                                          : OCT_OVERLAP_AUTO};
}

/* A template that does not compile is told when somebody asks for it. */
static void open_template(octet_engine *e) {
    const oct_allocator *mem = oct_system_allocator();
    oct_err err = {0};
    if (!e->tokenizer) return;
    const oct_str source = oct_tokenizer_chat_template(e->tokenizer, NULL);
    if (source.ptr &&
        oct_template_create(mem, source.ptr, source.len, &e->template, &err) != OCT_OK)
        snprintf(e->template_error, sizeof e->template_error, "chat template: %.480s", err.text);
}

static oct_status open_model(octet_engine *e, const char *path, const octet_engine_options *o,
                             oct_err *err) {
    const oct_open_options words = words_of(o);
    oct_model_options mo = {.max_rows = o->max_num_batched_tokens ? o->max_num_batched_tokens
                                                                  : DEFAULT_ROWS,
                            .max_seqs = o->max_num_seqs ? o->max_num_seqs : DEFAULT_SEQS,
                            .capture = {.mode = OCT_CAPTURE_DECODE, .n_warmups = 1},
                            .quiet = !o->progress,
                            .progress = o->progress,
                            .progress_ctx = o->progress_ctx};
    OCT_TRY(oct_open_model_options(&words, &mo, err));
    OCT_TRY(oct_open_weights(&words, path, &e->ckpt, err));
    OCT_TRY(oct_open_own_tokenizer(&words, e->ckpt, &e->tokenizer, err));
    OCT_TRY(oct_open_device(&words, &e->device, err));
    OCT_TRY(oct_model_load(oct_system_allocator(), e->device, e->ckpt, &mo, &e->model, err));
    if (e->tokenizer)
        OCT_TRY(oct_tokenizer_check_rows(e->tokenizer, oct_checkpoint_config(e->ckpt)->vocab, err));
    open_template(e);
    return OCT_OK;
}

static oct_status choose_blocks(octet_engine *e, const octet_engine_options *o, uint32_t *out,
                                oct_err *err) {
    const oct_model_info *i = oct_model_get_info(e->model);
    const uint64_t most = INT32_MAX / i->block_tokens;
    uint64_t blocks = o->kv_cache_bytes / i->kv_bytes_per_block;
    if (o->kv_cache_bytes == 0) {
        blocks = ((uint64_t)(i->max_model_len - 1) / i->block_tokens + 1) * i->max_seqs;
        OCT_TRY(oct_device_refresh(e->device, err));
        const uint64_t tenths = oct_device_has_memory(e->device) ? 8 : 4;
        const uint64_t fit = e->device->info.mem_free_bytes / 10 * tenths / i->kv_bytes_per_block;
        if (blocks > fit) blocks = fit;
    }
    *out = (uint32_t)(blocks < most ? blocks : most);
    if (*out == 0)
        return OCT_FAIL(err, OCT_E_NOMEM,
                        "KV cache: not even one block fits (a block takes %llu bytes)",
                        (unsigned long long)i->kv_bytes_per_block);
    return OCT_OK;
}

static oct_status open_keep(octet_engine *e, const octet_engine_options *o, oct_engine_options *eo,
                            oct_err *err) {
    const oct_keep_options keep = {.offload_bytes = o->kv_offload_bytes,
                                   .store = o->kv_store,
                                   .store_bytes =
                                       o->kv_store_bytes ? o->kv_store_bytes : DEFAULT_STORE_BYTES};
    if ((keep.offload_bytes || keep.store) && eo->no_prefix_caching)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "octet_engine_open: blocks are kept for nobody without a prefix cache (got "
                        "OCTET_ENGINE_NO_PREFIX_CACHE)");
    if (keep.store && !keep.store[0])
        return OCT_FAIL(err, OCT_E_INVALID, "octet_engine_open: kv_store: the name is empty");
    OCT_TRY(oct_keep_shelves(e->model, &keep, eo->n_blocks, &eo->n_shelves, err));
    OCT_TRY(oct_keep_open(e->model, e->ckpt, e->device, &keep, eo->n_blocks, &e->kvstore, err));
    eo->kvstore = e->kvstore;
    return OCT_OK;
}

static oct_status start_engine(octet_engine *e, const octet_engine_options *o, oct_err *err) {
    int32_t eos[OCT_OPEN_MAX_EOS];
    oct_engine_options eo = {.max_num_queued_reqs = o->max_num_queued_reqs,
                             .no_prefix_caching = (o->flags & OCTET_ENGINE_NO_PREFIX_CACHE) != 0,
                             .eos_ids = eos,
                             .n_eos = oct_open_eos(e->ckpt, e->tokenizer, eos)};
    OCT_TRY(choose_blocks(e, o, &eo.n_blocks, err));
    OCT_TRY(oct_model_kv_create(e->model, eo.n_blocks, err));
    OCT_TRY(open_keep(e, o, &eo, err));
    OCT_TRY(
        oct_engine_create(oct_system_allocator(), e->model, e->tokenizer, &eo, &e->engine, err));
    return oct_engine_start(e->engine, err);
}

static oct_status open_all(octet_engine *e, const char *path, const octet_engine_options *o,
                           oct_err *err) {
    cpu_set_t cpus;
    /* The device binds the thread that opens it, so that the engine's inherits that. The program's
     * thread is its own: it gets back what it had. */
    const bool known = sched_getaffinity(0, sizeof cpus, &cpus) == 0;
    oct_status st = open_model(e, path, o, err);
    if (st == OCT_OK) st = start_engine(e, o, err);
    if (known) sched_setaffinity(0, sizeof cpus, &cpus);
    return st;
}

static oct_status open_checked(const char *path, const octet_engine_options *options,
                               octet_engine **out, oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    octet_engine_options o = {.struct_bytes = sizeof o};
    if (!path || !path[0])
        return OCT_FAIL(err, OCT_E_INVALID, "octet_engine_open: no model is named");
    if (options && !oct_embed_take(&o, sizeof o, LEAST_OPTIONS, options))
        return OCT_FAIL(err, OCT_E_INVALID,
                        "octet_engine_open: options of another version (got %u bytes, want %zu)",
                        options->struct_bytes, sizeof o);
    octet_engine *e = oct_calloc(mem, 1, sizeof *e);
    if (!e) return OCT_FAIL(err, OCT_E_NOMEM, "octet_engine_open: no memory");
    const oct_status st = open_all(e, path, &o, err);
    if (st == OCT_OK)
        *out = e;
    else
        octet_engine_close(e);
    return st;
}

int32_t octet_engine_open(const char *model, const octet_engine_options *options,
                          octet_engine **out, char *sentence, size_t sentence_bytes) {
    oct_err err = {0};
    oct_status st = OCT_E_INVALID;
    if (out) {
        *out = NULL;
        st = open_checked(model, options, out, &err);
    }
    return oct_embed_answer(st, &err, sentence, sentence_bytes);
}

void octet_engine_close(octet_engine *e) {
    if (!e) return;
    if (e->engine) oct_engine_stop(e->engine, 0);
    oct_engine_destroy(e->engine);
    oct_kvstore_close(e->kvstore);
    oct_template_release(e->template);
    oct_model_destroy(e->model);
    oct_tokenizer_destroy(e->tokenizer);
    oct_checkpoint_close(e->ckpt);
    oct_device_close(e->device);
    oct_free(oct_system_allocator(), e, 1, sizeof *e);
}

int32_t octet_engine_get_info(const octet_engine *e, octet_engine_info *out) {
    const oct_model_info *m = oct_model_get_info(e->model);
    const oct_engine_info *i = oct_engine_get_info(e->engine);
    const octet_engine_info ours = {.max_model_len = i->max_model_len,
                                    .n_vocab = i->n_vocab,
                                    .n_blocks = i->n_blocks,
                                    .block_tokens = i->block_tokens,
                                    .has_tokenizer = e->tokenizer != NULL,
                                    .has_chat_template = e->template != NULL,
                                    .weight_bytes = m->weight_bytes,
                                    .device = e->device->info.name,
                                    .family = m->family,
                                    .scheme = m->scheme,
                                    .template_error = e->template_error};
    return oct_embed_give(out, &ours, sizeof ours, LEAST_INFO) ? OCTET_OK : OCTET_E_INVALID;
}
