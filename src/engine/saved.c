/*
 * engine/saved.c - beginnings in a folder: what a request finds there is read before the scheduler
 * knows of it, and what the index knows is left there when there is time.
 *
 * Reading: blocks come to shelves on the store's thread, and from there like everything that lies
 * on shelves. Meanwhile the request waits, and nobody else does. Requests for the same beginning
 * wait for the first of them.
 *
 * Writing: a shelf is pinned and its bytes handed over. While requests are there only what lies on
 * shelves anyway is left, a block a turn; blocks of the device are copied to a shelf for it when
 * the engine has nothing else to do, and when it ends.
 *
 * Nothing here can fail a request: without memory, room, jobs or files its prompt is computed.
 */
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/parts.h"

enum { LOOKS_BUSY = 64, SAVES_IDLE = 8 };
static const uint64_t load_wait_ns = 1000000, flush_ns = 5000000000u, flush_wait_ns = 10000000;
static const uint64_t patience_ns = 1000000000u; /* a disk that does not answer holds nobody up */

static uint32_t longest_text(const oct_engine *e) {
    return oct_kv_blocks_for(e->info.max_model_len, e->info.block_tokens);
}

oct_status oct_saved_init(oct_engine *e, oct_err *err) {
    if (!e->opt.kvstore) return OCT_OK;
    if (oct_kvstore_block_bytes(e->opt.kvstore) != e->backend.shelf_bytes)
        return OCT_FAIL(err, OCT_E_INVALID, "engine: the store is of other blocks");
    e->keys = oct_alloc(e->mem, longest_text(e), sizeof *e->keys);
    e->shelf_step = oct_calloc(e->mem, e->opt.n_shelves, sizeof *e->shelf_step);
    if (!e->keys || !e->shelf_step)
        return OCT_FAIL(err, OCT_E_NOMEM, "engine: no memory for a store of blocks");
    return OCT_OK;
}

/* ---- reading ---- */

/* What was found on shelves is used now: it is not given up for what is read. */
static void touch(oct_engine *e, const oct_kv_block *found, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (!(found[i] & OCT_KV_ON_SHELF)) continue;
        oct_kv_shelf_pin(e->prefix, found[i] ^ OCT_KV_ON_SHELF);
        oct_kv_shelf_unpin(e->prefix, found[i] ^ OCT_KV_ON_SHELF);
    }
}

static bool is_being_read(const oct_engine *e, oct_kvstore_key key) {
    for (const oct_request *r = e->live_head; r; r = r->next)
        if (r->load && r->load_key.h[0] == key.h[0] && r->load_key.h[1] == key.h[1]) return true;
    return false;
}

/* No copy to or from the shelf is on its way any more. Copies go in the order of the stream, which
 * the store's thread knows nothing of. */
static bool is_quiet(const oct_engine *e, uint32_t shelf) {
    return e->shelf_step[shelf] <= e->n_back;
}

/* Shelves for n blocks behind the first ones of r, as far as there are some. */
static uint32_t fill_job(oct_engine *e, oct_request *r, oct_kvstore_job *job, uint32_t first,
                         uint32_t n) {
    uint32_t shelf;
    job->n = 0;
    while (job->n < n && oct_kv_shelf_reserve(e->prefix, &shelf)) {
        if (!is_quiet(e, shelf)) {
            oct_kv_shelf_unpin(e->prefix, shelf);
            break;
        }
        job->bytes[job->n++] = e->backend.shelf(e->backend.ctx, shelf);
    }
    job->user = r;
    job->salt = r->salt;
    job->ids = r->tokens;
    job->first = first;
    return job->n;
}

bool oct_saved_load(oct_engine *e, oct_request *r) {
    oct_kvstore *store = e->opt.kvstore;
    const uint32_t most = (r->seq.n_prompt - 1) / e->info.block_tokens;
    if (!store || most == 0 || r->seq.extra_logits_begin < r->seq.extra_logits_end) return false;
    const uint32_t n = oct_kv_prefix_find(e->prefix, r->seq.root, r->tokens, most,
                                          r->seq.table.blocks, &r->load_chain);
    if (n == most) return false;
    const uint32_t k = oct_kvstore_count(store, r->salt, r->tokens, n, most - n, e->keys);
    if (k == 0) return false;
    touch(e, r->seq.table.blocks, n);
    if (r->load_begin_ns == 0) r->load_begin_ns = oct_now_ns();
    if (is_being_read(e, e->keys[n])) {
        r->parked = true;
        e->n_loading++;
        return true;
    }
    oct_kvstore_job *job = oct_kvstore_take(store, false);
    if (!job) return false;
    if (fill_job(e, r, job, n, k) == 0) {
        oct_kvstore_drop(store, job);
        return false;
    }
    r->load = job;
    r->load_key = e->keys[n];
    e->n_loading++;
    atomic_fetch_add(&r->n_refs, 1); /* the job's */
    oct_kvstore_put(store, job);
    return true;
}

static void stop_waiting(oct_engine *e, oct_request *r) {
    r->load = NULL; /* where the job goes on it keeps the request's memory */
    r->parked = false;
    e->n_loading--;
    oct_sched_add(e->sched, &r->seq);
}

static void lose_patience(oct_engine *e) {
    const uint64_t now = e->n_loading > 0 ? oct_now_ns() : 0;
    for (oct_request *r = e->live_head; r && e->n_loading > 0; r = r->next)
        if ((r->load || r->parked) && now - r->load_begin_ns > patience_ns) stop_waiting(e, r);
}

static void let_parked_in(oct_engine *e) {
    for (oct_request *r = e->live_head; r; r = r->next) {
        if (!r->parked) continue;
        r->parked = false;
        e->n_loading--;
        if (!oct_saved_load(e, r)) oct_sched_add(e->sched, &r->seq);
    }
}

static void end_read(oct_engine *e, oct_kvstore_job *job) {
    oct_request *r = job->user;
    const unsigned char *shelves = e->backend.shelf(e->backend.ctx, 0);
    for (uint32_t i = 0; i < job->n; i++) {
        const size_t at = (size_t)((unsigned char *)job->bytes[i] - shelves);
        const uint32_t shelf = (uint32_t)(at / e->backend.shelf_bytes);
        const int32_t *ids = r->tokens + (size_t)(job->first + i) * e->info.block_tokens;
        if (i < job->n_good)
            oct_kv_shelf_enter(e->prefix, &r->load_chain, ids, shelf);
        else
            oct_kv_shelf_unpin(e->prefix, shelf);
    }
    if (r->load == job) stop_waiting(e, r);
    oct_request_release(r);
}

void oct_saved_forget(oct_engine *e, oct_request *r) {
    if (r->load || r->parked) e->n_loading--;
    r->load = NULL; /* the job goes on, and keeps the request's memory */
    r->parked = false;
}

/* ---- taking back ---- */

static bool take_back(oct_engine *e, uint64_t wait_ns) {
    oct_kvstore_job *job = oct_kvstore_done(e->opt.kvstore, wait_ns);
    if (!job) return false;
    const bool reads = !job->writes;
    if (reads)
        end_read(e, job);
    else
        oct_kv_shelf_unpin(e->prefix, job->shelf);
    oct_kvstore_drop(e->opt.kvstore, job);
    if (reads) let_parked_in(e);
    return true;
}

void oct_saved_collect(oct_engine *e) {
    if (!e->opt.kvstore || oct_kvstore_n_out(e->opt.kvstore) == 0) return;
    lose_patience(e);
    const bool idle = e->n_steps == 0 && e->n_loading > 0 &&
                      oct_sched_n_running(e->sched) + oct_sched_n_waiting(e->sched) == 0;
    if (!take_back(e, idle ? load_wait_ns : 0)) return;
    while (take_back(e, 0)) {
    }
}

/* ---- writing ---- */

/* The bytes are there: they were copied before a step that was collected. */
static bool is_filled(const oct_engine *e, uint32_t at) {
    return (at & OCT_KV_ON_SHELF) && is_quiet(e, at ^ OCT_KV_ON_SHELF);
}

/* Pins a shelf with what the entry holds; copies it now where that has to be. */
static bool bring(oct_engine *e, uint32_t at, uint32_t *shelf) {
    oct_err err = {0};
    if (!oct_kv_prefix_pin_copy(e->prefix, at, shelf)) return false;
    oct_status st = oct_cache_move(e, &err);
    if (st == OCT_OK && is_quiet(e, *shelf)) return true;
    OCT_ASSERT(e->n_steps == 0);
    if (st == OCT_OK && OCT_FAULT(SAVE_COPY, 0))
        st = OCT_FAIL(&err, OCT_E_DEVICE, "engine: a copy failed");
    if (st == OCT_OK) st = e->backend.moves_wait(e->backend.ctx, &err);
    if (st == OCT_OK) {
        e->shelf_step[*shelf] = 0;
        return true;
    }
    oct_kv_shelf_unpin(e->prefix, *shelf);
    oct_cache_refused(e, &err);
    return false;
}

/* Hands the block of one entry over. False: not now. */
static bool save_one(oct_engine *e, uint32_t at) {
    oct_kvstore *store = e->opt.kvstore;
    oct_kvstore_job *job = oct_kvstore_take(store, true);
    oct_kvstore_text text = {0};
    if (!job) return false;
    text.ids = job->own_ids;
    text.n_blocks = oct_kv_prefix_text(e->prefix, at, job->own_ids, longest_text(e), &text.salt);
    if (text.n_blocks == 0 || oct_kvstore_has(store, &text)) {
        oct_kv_prefix_set_saved(e->prefix, at); /* nobody finds it, or it is there */
        oct_kvstore_drop(store, job);
        return true;
    }
    if (!bring(e, at, &job->shelf)) {
        oct_kvstore_drop(store, job);
        return false;
    }
    oct_kv_prefix_set_saved(e->prefix, at);
    memcpy(job->salt_bytes, text.salt.len ? text.salt.ptr : "", text.salt.len);
    job->salt = (oct_str){job->salt_bytes, text.salt.len};
    job->ids = job->own_ids;
    job->first = text.n_blocks - 1;
    job->n = 1;
    job->bytes[0] = e->backend.shelf(e->backend.ctx, job->shelf);
    oct_kvstore_put(store, job);
    return true;
}

/* True when entries were made since the last sweep, or that is not at its end. */
static bool wants_sweep(oct_engine *e) {
    oct_kv_prefix_stats ps;
    oct_kv_prefix_get_stats(e->prefix, &ps);
    if (e->sweeping) return true;
    if (ps.n_entered == e->n_swept) return false;
    e->n_swept = ps.n_entered;
    e->n_looked = 0;
    return e->sweeping = true;
}

/* Up to n_saves of the entries behind the cursor, looking at n_looks places. */
static bool sweep(oct_engine *e, uint32_t n_looks, uint32_t n_saves, bool copies) {
    const uint32_t n_places = e->info.n_blocks + e->info.n_shelves;
    uint32_t at;
    while (n_looks > 0 && n_saves > 0) {
        const uint32_t before = e->cursor;
        const bool found = oct_kv_prefix_unsaved(e->prefix, &e->cursor, n_looks, &at);
        uint32_t n = e->cursor > before ? e->cursor - before : e->cursor + n_places - before;
        if (!found || n > n_looks) n = n_looks;
        n_looks -= n;
        e->n_looked += n;
        if (!found) break;
        if (!copies && !is_filled(e, at)) continue;
        if (!save_one(e, at)) {
            e->cursor--; /* this one again */
            e->n_looked--;
            return false;
        }
        n_saves--;
    }
    return true;
}

void oct_saved_save(oct_engine *e) {
    const bool idle = !e->live_head && e->n_steps == 0;
    if (!e->opt.kvstore || atomic_load(&e->lost) || !wants_sweep(e)) return;
    if (!idle) {
        (void)sweep(e, LOOKS_BUSY, 1, false);
        e->n_looked = 0; /* what was passed over is looked at when there is time */
        return;
    }
    const uint32_t n_places = e->info.n_blocks + e->info.n_shelves;
    const bool goes_on = sweep(e, n_places, SAVES_IDLE, true);
    if (goes_on && e->n_looked < n_places) return;
    /* At the end; or nobody takes any: then when there is more to save. What is on its way has to
     * be taken back before this engine sleeps. */
    if (goes_on || oct_kvstore_n_out(e->opt.kvstore) == 0) e->n_looked = 0;
    e->sweeping = oct_kvstore_n_out(e->opt.kvstore) > 0;
}

void oct_saved_flush(oct_engine *e) {
    if (!e->opt.kvstore || atomic_load(&e->lost)) return;
    const uint64_t until = oct_now_ns() + flush_ns;
    e->sweeping = true;
    e->n_looked = 0;
    while (e->sweeping && oct_now_ns() < until) {
        oct_saved_save(e);
        (void)take_back(e, flush_wait_ns);
    }
    while (oct_now_ns() < until && take_back(e, flush_wait_ns)) {
    }
}

void oct_saved_fini(oct_engine *e) {
    if (!e->opt.kvstore) return;
    while (e->prefix && oct_kvstore_n_out(e->opt.kvstore) > 0) (void)take_back(e, flush_ns);
    oct_free(e->mem, e->keys, longest_text(e), sizeof *e->keys);
    oct_free(e->mem, e->shelf_step, e->opt.n_shelves, sizeof *e->shelf_step);
}
