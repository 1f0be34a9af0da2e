/* apps/serve/setup.c - what `octet serve` chooses from model, machine and flags. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/num.h"
#include "codec/json.h"
#include "serve.h"

/* ---- cache ---- */

static uint64_t read_number(const char *path) {
    char line[64] = "";
    uint64_t v;
    FILE *f = fopen(path, "re");
    if (!f) return UINT64_MAX;
    const bool ok = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    line[strcspn(line, "\n")] = '\0';
    return ok && oct_parse_u64(oct_str_of(line), &v) ? v : UINT64_MAX;
}

/* What the container that this process lives in leaves of `bytes`. */
static uint64_t in_container(uint64_t bytes) {
    const uint64_t limit = read_number("/sys/fs/cgroup/memory.max");
    const uint64_t used = read_number("/sys/fs/cgroup/memory.current");
    if (limit == UINT64_MAX || used == UINT64_MAX) return bytes;
    const uint64_t left = used < limit ? limit - used : 0;
    return left < bytes ? left : bytes;
}

/* A share of what the machine still has, beside what requests, templates and sockets need. */
static uint64_t room_in_machine(const octet_device_info *info, double share) {
    const uint64_t have = in_container(info->mem_free_bytes), reserve = 256u << 20;
    return (uint64_t)((double)(have > reserve ? have - reserve : 0) * share);
}

/* Memory that is the device's own: of all of it a share may be used, by whoever. Kept free beside
 * the cache: what the device makes at first use, and its recorded steps. */
static uint64_t room_on_device(const octet_device_info *info, double share) {
    const uint64_t total = info->mem_total_bytes, least = 128u << 20, most = 2048u << 20;
    const uint64_t part = total / 64;
    const uint64_t work = part < least ? least : part > most ? most : part;
    const uint64_t taken = total > info->mem_free_bytes ? total - info->mem_free_bytes : 0;
    const uint64_t usable = (uint64_t)((double)total * share);
    const uint64_t room = usable > taken + work ? usable - taken - work : 0;
    oct_info(
        "memory: %.2f GB on the device, of which %.0f%% may be used: %.2f GB are taken (weights, "
        "buffers), %.2f GB kept for working memory, %.2f GB left for the KV cache",
        (double)total / 1e9, 100 * share, (double)taken / 1e9, (double)work / 1e9,
        (double)room / 1e9);
    return room;
}

/* Bytes that the KV cache may take when nobody said how many. share 0: the default. */
static uint64_t cache_room(server *s, double share) {
    oct_device *d = s->m.device;
    oct_err err = {0};
    if (oct_device_refresh(d, &err) != OCT_OK) return 0;
    if (oct_device_has_memory(d)) return room_on_device(&d->info, share > 0 ? share : 0.92);
    return room_in_machine(&d->info, share > 0 ? share : 0.4);
}

static void print_cache(const server *s, uint64_t blocks) {
    const oct_model_info *i = oct_model_get_info(s->m.model);
    const double bytes = (double)blocks * (double)i->kv_bytes_per_block;
    oct_info("KV cache: a token costs %llu bytes; %llu tokens fit, in %llu blocks of %u (%.2f GB)",
             (unsigned long long)i->kv_bytes_per_block / i->block_tokens,
             (unsigned long long)blocks * i->block_tokens, (unsigned long long)blocks,
             i->block_tokens, bytes / 1e9);
}

int serve_choose_blocks(server *s) {
    const serve_options *o = &s->o;
    const oct_model_info *i = oct_model_get_info(s->m.model);
    const uint64_t per_seq = (i->max_model_len - 1) / i->block_tokens + 1;
    const uint64_t most = INT32_MAX / i->block_tokens;
    uint64_t blocks;
    if (o->n_blocks > 0) {
        blocks = o->n_blocks;
    } else if (o->open.kv_cache_memory > 0) {
        blocks = o->open.kv_cache_memory / i->kv_bytes_per_block;
    } else {
        blocks = cache_room(s, o->memory_share) / i->kv_bytes_per_block;
        /* More than all sequences at once can use is not asked of the machine. A device's memory
         * has no other use: it keeps beginnings. */
        if (!oct_device_has_memory(s->m.device) && blocks > per_seq * i->max_seqs)
            blocks = per_seq * i->max_seqs;
    }
    if (blocks > most) blocks = most;
    if (blocks == 0 || (o->open.max_model_len > 0 && blocks < per_seq))
        return cli_fail(EXIT_SYSTEM,
                        "--max-model-len: the KV cache cannot hold one sequence (got %u tokens, "
                        "want at most %llu)",
                        i->max_model_len, (unsigned long long)blocks * i->block_tokens);
    print_cache(s, blocks);
    if (blocks < per_seq)
        oct_warn("max_model_len: %u of the model is cut to what the KV cache holds",
                 i->max_model_len);
    s->n_blocks = (uint32_t)blocks;
    return -1;
}

/* ---- what a metric tells of the cache ---- */

uint32_t serve_cache_labels(server *s, oct_api_label out[SERVE_N_CACHE_LABELS]) {
    static char text[4][SERVE_LABEL_BYTES];
    const serve_options *o = &s->o;
    const oct_model_info *i = oct_model_get_info(s->m.model);
    const bool own = oct_device_has_memory(s->m.device);
    oct_format_f64(o->memory_share > 0 ? o->memory_share : own ? 0.92 : 0.4, text[0]);
    oct_format_f64(o->open.offload_gib, text[1]);
    if (o->open.kv_cache_memory > 0)
        snprintf(text[2], sizeof text[2], "%llu", (unsigned long long)o->open.kv_cache_memory);
    if (o->n_blocks > 0) snprintf(text[3], sizeof text[3], "%llu", (unsigned long long)o->n_blocks);
    const oct_api_label all[SERVE_N_CACHE_LABELS] = {
        {"cache_dtype", oct_kv_kind_name(i->kv_kind)},
        {"calculate_kv_scales", "False"},
        {"cpu_offload_gb", "0"},
        {"gpu_memory_utilization", text[0]},
        {"kv_cache_memory_bytes", text[2][0] ? text[2] : "None"},
        {"kv_offloading_backend", "native"},
        {"kv_offloading_size", o->open.offload_gib > 0 ? text[1] : "None"},
        {"kv_store", o->open.kv_store ? "True" : "False"},
        {"num_gpu_blocks_override", text[3][0] ? text[3] : "None"},
        {"prefix_caching_hash_algo", "tokens"},
    };
    memcpy(out, all, sizeof all);
    return OCT_COUNT(all);
}

/* ---- sampling defaults ---- */

static void take_defaults(const oct_generation_config *g, oct_api_defaults *d) {
    if (g->has_temperature) d->temperature = g->temperature;
    if (g->has_top_p) d->top_p = g->top_p;
    if (g->has_top_k) d->top_k = g->top_k;
    if (g->has_min_p) d->min_p = g->min_p;
    if (g->has_repetition_penalty) d->repetition_penalty = g->repetition_penalty;
    if (g->has_max_new) d->max_tokens = g->max_new_tokens;
}

static int defaults_from_folder(const server *s, const char *folder, oct_api_defaults *d) {
    const uint32_t vocab = oct_model_get_info(s->m.model)->n_vocab;
    char path[4096];
    oct_generation_config g;
    oct_err err = {0};
    oct_buf text;
    int status = -1;
    oct_buf_init(&text, oct_system_allocator(), 0);
    if (snprintf(path, sizeof path, "%s/generation_config.json", folder) >= (int)sizeof path)
        status = cli_fail(EXIT_USAGE, "--generation-config: path too long");
    else if (oct_file_read_small(oct_system_allocator(), path, oct_json_file_limits.max_bytes,
                                 &text, &err) != OCT_OK)
        status = cli_fail(EXIT_USAGE, "--generation-config: %s", err.text);
    if (status < 0) {
        oct_generation_config_parse(oct_buf_view(&text), path, vocab, &g);
        take_defaults(&g, d);
    }
    oct_buf_fini(&text);
    return status;
}

int serve_choose_defaults(server *s) {
    const char *from = s->o.generation_config;
    oct_api_defaults *d = &s->defaults;
    *d = OCT_API_DEFAULTS;
    if (strcmp(from, "auto") == 0) {
        take_defaults(oct_checkpoint_generation(s->m.ckpt), d);
    } else if (strcmp(from, "vllm") != 0 && strcmp(from, "none") != 0) {
        const int status = defaults_from_folder(s, from, d);
        if (status >= 0) return status;
    }
    if (s->o.override_generation_config) {
        oct_generation_config g;
        oct_generation_config_parse(oct_str_of(s->o.override_generation_config),
                                    "--override-generation-config",
                                    oct_model_get_info(s->m.model)->n_vocab, &g);
        if (g.n_warnings > 0)
            return cli_fail(EXIT_USAGE, "--override-generation-config: not usable (got %.64s)",
                            s->o.override_generation_config);
        take_defaults(&g, d);
    }
    char most[32] = "as fits";
    if (d->max_tokens) snprintf(most, sizeof most, "%u", d->max_tokens);
    oct_info("sampling defaults: temperature %g, top_p %g, top_k %lld, min_p %g, "
             "repetition_penalty %g, max_tokens %s (--generation-config %s)",
             d->temperature, d->top_p, (long long)d->top_k, d->min_p, d->repetition_penalty, most,
             from);
    return -1;
}

/* ---- templates ---- */

/* The text of --chat-template: a file's, or the argument itself when it can be no file name. */
static int read_template(const char *arg, oct_buf *text) {
    oct_err err = {0};
    struct stat st;
    if (stat(arg, &st) != 0 && (strchr(arg, '{') || strchr(arg, '\n'))) {
        oct_buf_cstr(text, arg);
        return -1;
    }
    if (oct_file_read_small(oct_system_allocator(), arg, OCT_TEMPLATE_MAX_BYTES, text, &err) ==
        OCT_OK)
        return -1;
    return cli_fail(EXIT_USAGE, "--chat-template: %s", err.text);
}

static int open_given_template(server *s) {
    oct_err err = {0};
    oct_buf text;
    oct_buf_init(&text, oct_system_allocator(), 0);
    int status = read_template(s->o.chat_template, &text);
    if (status < 0 && oct_template_create(oct_system_allocator(), oct_buf_cs(&text), text.len,
                                          &s->template, &err) != OCT_OK)
        status = cli_fail(EXIT_USAGE, "--chat-template: %s", err.text);
    oct_buf_fini(&text);
    return status;
}

static void open_own_template(server *s, const char *name, oct_template **out) {
    const oct_str source = oct_tokenizer_chat_template(s->m.tokenizer, name);
    oct_err err = {0};
    if (!source.ptr) return;
    if (oct_template_create(oct_system_allocator(), source.ptr, source.len, out, &err) == OCT_OK)
        return;
    oct_warn("chat template: %s; chat requests that need it are refused", err.text);
    if (!name)
        snprintf(s->template_error, sizeof s->template_error, "the chat template: %.200s",
                 err.text);
}

int serve_open_templates(server *s) {
    oct_err err = {0};
    if (s->o.template_kwargs &&
        (oct_json_parse(oct_str_of(s->o.template_kwargs), "--default-chat-template-kwargs",
                        &oct_json_file_limits, &s->template_kwargs, &err) != OCT_OK ||
         !json_is_object(s->template_kwargs)))
        return cli_fail(EXIT_USAGE, "%s",
                        err.text[0] ? err.text
                                    : "--default-chat-template-kwargs: not a JSON object");
    if (s->o.chat_template) return open_given_template(s);
    if (!s->m.tokenizer) return -1;
    open_own_template(s, NULL, &s->template);
    open_own_template(s, "tool_use", &s->tool_template);
    return -1;
}

/* ---- fingerprint ---- */

const char *serve_shown_fingerprint(const server *s) {
    const char *mode = s->o.fingerprint_mode;
    if (strcmp(mode, "none") == 0) return NULL;
    return strcmp(mode, "custom") == 0 ? s->o.fingerprint_value : s->fingerprint;
}

int serve_fingerprint(server *s) {
    const oct_model_info *i = oct_model_get_info(s->m.model);
    const char *device = s->m.device->info.name;
    oct_err err = {0};
    uint64_t weights;
    const oct_status st = oct_checkpoint_fingerprint(s->m.ckpt, &weights, &err);
    if (st != OCT_OK) return cli_fail(cli_status_of(st), "%s", err.text);
    uint64_t hash = XXH3_64bits_withSeed(i->scheme, strlen(i->scheme), weights + i->kv_kind);
    hash = XXH3_64bits_withSeed(device, strcspn(device, ":"), hash);
    snprintf(s->fingerprint, sizeof s->fingerprint, "octet-%s-%08llx", OCT_VERSION,
             (unsigned long long)(hash & 0xffffffff));
    return -1;
}
