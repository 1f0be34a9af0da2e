/*
 * engine/cache.c - cached beginnings: the index over the blocks, and the copies between blocks and
 * shelves that plans ask for. What is kept in a folder is saved.c.
 *
 * Copies are queued on the model's stream between two steps, in the order of the plan's list. So
 * nobody waits for one on the host, a step finds done what it needs, and what it writes over has
 * been copied before. The price is that a copy takes its time from the device's.
 *
 * Failures are rare and dear: what a copy was to bring is in the index before it is made. All is
 * forgotten when one fails (oct_cache_distrust). One that is refused when it is queued costs no
 * more than that, because the plan that wanted it is taken back; one that fails later is told with
 * a step, and fails that.
 */
#include <sys/random.h>

#include "base/fault.h"
#include "base/log.h"
#include "engine/parts.h"

/* The hashes are seeded so that nobody outside can make them collide. */
oct_status oct_cache_init(oct_engine *e, oct_err *err) {
    oct_kv_prefix_options po = {.block_tokens = e->info.block_tokens,
                                .hash_bits = e->opt.prefix_hash_bits,
                                .n_shelves = e->opt.n_shelves};
    OCT_TRY(oct_kv_pool_create(e->mem, e->opt.n_blocks, &e->pool, err));
    if (e->opt.n_shelves > 0 && (e->opt.no_prefix_caching || !e->backend.move))
        return OCT_FAIL(err, OCT_E_INVALID, "engine: %u shelves without %s", e->opt.n_shelves,
                        e->backend.move ? "prefix caching" : "a way to them");
    if (e->opt.kvstore && e->opt.n_shelves == 0)
        return OCT_FAIL(err, OCT_E_INVALID, "engine: a store of blocks without shelves");
    if (e->opt.no_prefix_caching) return OCT_OK;
    if (getrandom(&po.seed, sizeof po.seed, 0) != sizeof po.seed)
        return OCT_FAIL(err, OCT_E_IO, "engine: the system gave no random seed");
    OCT_TRY(oct_kv_prefix_create(e->mem, e->pool, &po, &e->prefix, err));
    return oct_saved_init(e, err);
}

void oct_cache_fini(oct_engine *e) {
    oct_saved_fini(e);
    oct_kv_prefix_destroy(e->prefix);
    oct_kv_pool_destroy(e->pool);
}

bool oct_cache_has_moves(const oct_engine *e) {
    uint32_t n = 0;
    if (e->prefix) (void)oct_kv_prefix_moves(e->prefix, &n);
    return n > 0;
}

oct_status oct_cache_move(oct_engine *e, oct_err *err) {
    uint32_t n;
    oct_status st = OCT_OK;
    if (e->info.n_shelves == 0) return OCT_OK;
    const oct_kv_move *moves = oct_kv_prefix_moves(e->prefix, &n);
    for (uint32_t i = 0; st == OCT_OK && i < n; i++) {
        st = OCT_FAULT(SHELF_COPY, 0) ? OCT_FAIL(err, OCT_E_DEVICE, "engine: a copy was refused")
                                      : e->backend.move(e->backend.ctx, moves[i].block,
                                                        moves[i].shelf, moves[i].to_shelf, err);
        if (e->shelf_step) e->shelf_step[moves[i].shelf] = e->n_sent + 1;
    }
    oct_kv_prefix_moves_made(e->prefix);
    return st;
}

void oct_cache_reset(oct_engine *e) {
    if (e->prefix) oct_kv_prefix_reset(e->prefix);
    if (e->opt.kvstore) oct_kvstore_reset(e->opt.kvstore);
}

void oct_cache_refused(oct_engine *e, const oct_err *why) {
    const uint64_t n = ++e->n_refused_copies;
    if ((n & (n - 1)) == 0)
        oct_warn("engine: a cached block could not be copied: %s; nothing cached is used any more "
                 "(%llu so far)",
                 why->text, (unsigned long long)n);
    oct_cache_distrust(e);
}

void oct_cache_distrust(oct_engine *e) {
    if (e->info.n_shelves > 0) oct_kv_prefix_reset(e->prefix);
}
