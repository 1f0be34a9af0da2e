/*
 * embed/keep.c - shelves, the folder, and which model's blocks it holds.
 *
 * The fingerprint must differ wherever a bit of a block could. Said outright: all weights, the
 * configuration, the cache's types and sizes, the arithmetic, the version. And tried: a fixed text
 * is computed, and what the device left in its block is hashed, so that another layout, another
 * kernel or another device that rounds differently shows by itself.
 */
#include "embed/keep.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "model/runner.h"

enum { N_WRITES = 8, N_READS = 16, MAX_PROBE = 1024 };

/* ---- shelves ---- */

/* Where only the folder is asked for it has shelves for the longest sequence, but no more than
 * this. */
static const uint64_t store_shelves_bytes = UINT64_C(256) << 20;

static uint64_t shelves_of_store(const oct_model_info *i, uint32_t n_blocks) {
    const uint64_t least = 4, per_seq = (i->max_model_len - 1) / i->block_tokens + 1;
    uint64_t n = store_shelves_bytes / i->kv_bytes_per_block;
    if (n > per_seq) n = per_seq;
    if (n > n_blocks) n = n_blocks;
    return n > least ? n : least;
}

oct_status oct_keep_shelves(oct_model *m, const oct_keep_options *o, uint32_t n_blocks,
                            uint32_t *n_out, oct_err *err) {
    const oct_model_info *i = oct_model_get_info(m);
    const uint64_t block = i->kv_bytes_per_block, most = UINT64_C(1) << 28;
    const double gib = (double)(UINT64_C(1) << 30);
    *n_out = 0;
    if (o->offload_bytes == 0 && !o->store) return OCT_OK;
    if (o->offload_bytes > 0 && o->offload_bytes < block)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "--kv-offloading-size: less than a block (got %g GiB, want at least %g)",
                        (double)o->offload_bytes / gib, (double)block / gib);
    const uint64_t n =
        o->offload_bytes > 0 ? o->offload_bytes / block : shelves_of_store(i, n_blocks);
    const uint32_t n_shelves = (uint32_t)(n < most ? n : most);
    oct_info("KV cache: %u more blocks in host memory (%.2f GB)", n_shelves,
             (double)n_shelves * (double)block / 1e9);
    OCT_TRY(oct_model_shelves_create(m, n_shelves, err));
    *n_out = n_shelves;
    return OCT_OK;
}

/* ---- the folder ---- */

/* The bytes of the block that the fixed text leaves, where a sequence can be so long. */
static oct_status probe(oct_model *m, uint64_t out[2], oct_err *err) {
    const oct_model_info *i = oct_model_get_info(m);
    int32_t ids[MAX_PROBE];
    oct_runner *runner;
    if (i->block_tokens > MAX_PROBE || i->max_model_len < i->block_tokens) return OCT_OK;
    for (uint32_t k = 0; k < i->block_tokens; k++)
        ids[k] = (int32_t)((k * 7919u + 13) % i->n_vocab);
    OCT_TRY(oct_runner_create(oct_system_allocator(), m, &runner, err));
    oct_status st = oct_runner_feed(runner, ids, i->block_tokens, err);
    oct_runner_destroy(runner);
    if (st == OCT_OK) st = oct_model_move(m, 0, 0, true, err);
    if (st == OCT_OK) st = oct_model_moves_wait(m, err);
    if (st != OCT_OK) return st;
    const XXH128_hash_t h = XXH3_128bits(oct_model_shelf(m, 0), (size_t)i->kv_bytes_per_block);
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

static oct_status fill(said *all, oct_model *m, const oct_checkpoint *ckpt, const oct_device *d,
                       oct_err *err) {
    const oct_model_info *i = oct_model_get_info(m);
    memset(all, 0, sizeof *all);
    snprintf(all->version, sizeof all->version, "%s", OCT_VERSION);
    snprintf(all->scheme, sizeof all->scheme, "%s", i->scheme);
    snprintf(all->plugin, sizeof all->plugin, "%s", d->ops->plugin_name);
    OCT_TRY(oct_checkpoint_digest(ckpt, all->weights, err));
    OCT_TRY(probe(m, all->probe, err));
    all->numerics = OCTET_NUMERICS_REV;
    all->act_dtype = d->info.act_dtype;
    all->block_bytes = i->kv_bytes_per_block;
    all->block_tokens = i->block_tokens;
    all->max_model_len = i->max_model_len;
    all->kv_kind = i->kv_kind;
    memcpy(&all->config, i->config, sizeof all->config);
    all->config.quantization_config = NULL; /* a pointer; it decides nothing here */
    return OCT_OK;
}

static oct_status fingerprint(oct_model *m, const oct_checkpoint *ckpt, const oct_device *d,
                              uint64_t out[2], oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    said *all = oct_calloc(mem, 1, sizeof *all); /* large */
    if (!all) return OCT_FAIL(err, OCT_E_NOMEM, "--kv-store: no memory");
    const oct_status st = fill(all, m, ckpt, d, err);
    const XXH128_hash_t h = XXH3_128bits(all, sizeof *all);
    oct_free(mem, all, 1, sizeof *all);
    out[0] = h.low64;
    out[1] = h.high64;
    return st;
}

oct_status oct_keep_open(oct_model *m, const oct_checkpoint *ckpt, const oct_device *device,
                         const oct_keep_options *o, uint32_t n_blocks, oct_kvstore **out,
                         oct_err *err) {
    const oct_model_info *i = oct_model_get_info(m);
    const uint64_t begun = oct_now_ns();
    const uint64_t cache_tokens = (uint64_t)n_blocks * i->block_tokens;
    const uint64_t longest = i->max_model_len < cache_tokens ? i->max_model_len : cache_tokens;
    oct_kvstore_stats n;
    *out = NULL;
    if (!o->store) return OCT_OK;
    oct_kvstore_options so = {
        .path = o->store,
        .shape = {.block_bytes = i->kv_bytes_per_block, .block_tokens = i->block_tokens},
        .max_bytes = o->store_bytes,
        .max_blocks = (uint32_t)((longest - 1) / i->block_tokens + 1),
        .n_writes = N_WRITES,
        .n_reads = N_READS};
    OCT_TRY(fingerprint(m, ckpt, device, so.shape.fingerprint, err));
    OCT_TRY(oct_kvstore_open(oct_system_allocator(), &so, out, err));
    oct_kvstore_get_stats(*out, &n);
    oct_info("--kv-store: %s holds %llu blocks of this model (%.2f of %.2f GB; opened in %.2f s)",
             o->store, (unsigned long long)n.n_blocks, (double)n.bytes / 1e9,
             (double)so.max_bytes / 1e9, (double)(oct_now_ns() - begun) / 1e9);
    return OCT_OK;
}
