/*
 * apps/serve/kvstore.c - `--kv-store`: which model's blocks these are.
 *
 * The fingerprint must differ wherever a bit of a block could. Said outright: all weights, the
 * configuration, the cache's types and sizes, the arithmetic, the version. And tried: a fixed text
 * is computed, and what the device left in its block is hashed, so that another layout, another
 * kernel or another device that rounds differently shows by itself.
 */
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "model/runner.h"
#include "serve.h"

enum { N_WRITES = 8, N_READS = 16, MAX_PROBE = 1024 };

/* The bytes of the block that the fixed text leaves, where a sequence can be so long. */
static oct_status probe(server *s, uint64_t out[2], oct_err *err) {
    const oct_model_info *i = oct_model_get_info(s->m.model);
    int32_t ids[MAX_PROBE];
    oct_runner *runner;
    if (i->block_tokens > MAX_PROBE || i->max_model_len < i->block_tokens) return OCT_OK;
    for (uint32_t k = 0; k < i->block_tokens; k++)
        ids[k] = (int32_t)((k * 7919u + 13) % i->n_vocab);
    OCT_TRY(oct_runner_create(oct_system_allocator(), s->m.model, &runner, err));
    oct_status st = oct_runner_feed(runner, ids, i->block_tokens, err);
    oct_runner_destroy(runner);
    if (st == OCT_OK) st = oct_model_move(s->m.model, 0, 0, true, err);
    if (st == OCT_OK) st = oct_model_moves_wait(s->m.model, err);
    if (st != OCT_OK) return st;
    const XXH128_hash_t h =
        XXH3_128bits(oct_model_shelf(s->m.model, 0), (size_t)i->kv_bytes_per_block);
    out[0] = h.low64;
    out[1] = h.high64;
    return OCT_OK;
}

/* Everything in one piece of memory without holes that matter: what is not set is 0. */
typedef struct said {
    char version[32], scheme[96], plugin[64];
    uint64_t weights[2], probe[2], block_bytes;
    uint32_t numerics, act_dtype, block_tokens, max_model_len, kv_kind;
    oct_model_config config;
} said;

static oct_status fingerprint(server *s, uint64_t out[2], oct_err *err) {
    static said all; /* large */
    const oct_model_info *i = oct_model_get_info(s->m.model);
    memset(&all, 0, sizeof all);
    snprintf(all.version, sizeof all.version, "%s", OCT_VERSION);
    snprintf(all.scheme, sizeof all.scheme, "%s", i->scheme);
    snprintf(all.plugin, sizeof all.plugin, "%s", s->m.device->ops->plugin_name);
    OCT_TRY(oct_checkpoint_digest(s->m.ckpt, all.weights, err));
    OCT_TRY(probe(s, all.probe, err));
    all.numerics = OCTET_NUMERICS_REV;
    all.act_dtype = s->m.device->info.act_dtype;
    all.block_bytes = i->kv_bytes_per_block;
    all.block_tokens = i->block_tokens;
    all.max_model_len = i->max_model_len;
    all.kv_kind = i->kv_kind;
    memcpy(&all.config, i->config, sizeof all.config);
    all.config.quantization_config = NULL; /* a pointer; it decides nothing here */
    const XXH128_hash_t h = XXH3_128bits(&all, sizeof all);
    out[0] = h.low64;
    out[1] = h.high64;
    return OCT_OK;
}

int serve_open_kvstore(server *s) {
    const oct_model_info *i = oct_model_get_info(s->m.model);
    const uint64_t begun = oct_now_ns();
    const uint32_t cache_tokens = s->n_blocks * i->block_tokens;
    const uint32_t longest = i->max_model_len < cache_tokens ? i->max_model_len : cache_tokens;
    oct_err err = {0};
    oct_kvstore_stats n;
    if (!s->o.kv_store) return -1;
    oct_kvstore_options o = {
        .path = s->o.kv_store,
        .shape = {.block_bytes = i->kv_bytes_per_block, .block_tokens = i->block_tokens},
        .max_bytes = (uint64_t)(s->o.kv_store_gib * (double)(UINT64_C(1) << 30)),
        .max_blocks = (longest - 1) / i->block_tokens + 1,
        .n_writes = N_WRITES,
        .n_reads = N_READS};
    oct_status st = fingerprint(s, o.shape.fingerprint, &err);
    if (st == OCT_OK) st = oct_kvstore_open(oct_system_allocator(), &o, &s->kvstore, &err);
    if (st != OCT_OK)
        return cli_fail(st == OCT_E_INVALID ? EXIT_USAGE : cli_status_of(st), "%s", err.text);
    oct_kvstore_get_stats(s->kvstore, &n);
    oct_info("--kv-store: %s holds %llu blocks of this model (%.2f of %.2f GB; opened in %.2f s)",
             o.path, (unsigned long long)n.n_blocks, (double)n.bytes / 1e9,
             (double)o.max_bytes / 1e9, (double)(oct_now_ns() - begun) / 1e9);
    return -1;
}
