/*
 * kv/prefix_index.c - one possible entry a block and a shelf, in arrays beside them, and two tables
 * of chains. Shelves and what is copied are shelves.c.
 *
 * Invariants, true between calls:
 *   X1  serial[at] != 0 exactly when the place is in one chain of each table, those of its hash and
 *       of its serial; the pool keeps exactly the blocks among these places.
 *   X2  no two entries have the same (before, ids).
 *   X3  serials of entries and salts come from one counter that only grows.
 *
 * X3 is what makes an entry mean a whole text: the number of what stands before it belonged to one
 * text alone, for ever. An entry keeps its number wherever it goes. One whose predecessor was
 * forgotten is never found again and ages out of the pool's queue, or of its shelf. That is rare,
 * because a sequence gives its last blocks back first.
 *
 * Rejected: a tree of nodes (allocations in the step, and the same comparisons); trusting a long
 * hash (one collision in 2^64 is too often for another client's text).
 */
#include <string.h>

#include "base/assert.h"
#include "base/fault.h"
#include "kv/parts.h"

#define NO_BLOCK OCT_KV_NO_BLOCK
#define NO_PLACE OCT_KV_NO_PLACE

/* ---- hashes ---- */

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 32);
}

static uint64_t hash_of(const oct_kv_prefix *p, uint64_t before, const int32_t *ids) {
    uint64_t h = mix(p->seed, before), pair;
    uint32_t i = 0;
    for (; i + 2 <= p->block_tokens; i += 2) {
        memcpy(&pair, ids + i, sizeof pair);
        h = mix(h, pair);
    }
    if (i < p->block_tokens) h = mix(h, (uint64_t)(uint32_t)ids[i]);
    return mix(h, p->seed) & p->hash_mask;
}

/* ---- the tables ---- */

static uint32_t bucket_of(const oct_kv_prefix *p, uint64_t hash) {
    return (uint32_t)hash & (p->n_buckets - 1);
}

static oct_kv_place find_entry(const oct_kv_prefix *p, uint64_t hash, uint64_t before,
                               const int32_t *ids) {
    const size_t bytes = p->block_tokens * sizeof *ids;
    oct_kv_place at = p->bucket[bucket_of(p, hash)];
    while (at != NO_PLACE && (p->hash[at] != hash || p->before[at] != before ||
                              memcmp(oct_kv_ids_of(p, at), ids, bytes) != 0))
        at = p->next[at];
    return at;
}

oct_kv_place oct_kv_entry_find(const oct_kv_prefix *p, uint64_t before, const int32_t *ids) {
    return find_entry(p, hash_of(p, before, ids), before, ids);
}

oct_kv_place oct_kv_entry_numbered(const oct_kv_prefix *p, uint64_t serial) {
    oct_kv_place at = p->bucket_serial[bucket_of(p, serial)];
    while (at != NO_PLACE && p->serial[at] != serial) at = p->next_serial[at];
    return at;
}

static void link_entry(oct_kv_prefix *p, oct_kv_place at) {
    oct_kv_place *first = &p->bucket[bucket_of(p, p->hash[at])];
    oct_kv_place *numbered = &p->bucket_serial[bucket_of(p, p->serial[at])];
    p->next[at] = *first;
    *first = at;
    p->next_serial[at] = *numbered;
    *numbered = at;
    p->stats.n_entries++;
    p->stats.n_on_shelves += oct_kv_is_shelf(p, at);
}

static void unlink_entry(oct_kv_prefix *p, oct_kv_place at) {
    oct_kv_place *link = &p->bucket[bucket_of(p, p->hash[at])];
    OCT_ASSERT(p->serial[at] != 0);
    while (*link != at) link = &p->next[*link];
    *link = p->next[at];
    link = &p->bucket_serial[bucket_of(p, p->serial[at])];
    while (*link != at) link = &p->next_serial[*link];
    *link = p->next_serial[at];
    p->serial[at] = 0;
    p->stats.n_entries--;
    p->stats.n_on_shelves -= oct_kv_is_shelf(p, at);
}

void oct_kv_entry_put(oct_kv_prefix *p, oct_kv_place at, uint64_t serial, uint64_t before,
                      const int32_t *ids) {
    OCT_ASSERT(p->serial[at] == 0);
    p->serial[at] = serial;
    p->before[at] = before;
    p->hash[at] = hash_of(p, before, ids);
    p->saved[at] = 0;
    memcpy(p->ids + (size_t)at * p->block_tokens, ids, p->block_tokens * sizeof *ids);
    link_entry(p, at);
}

void oct_kv_entry_drop(oct_kv_prefix *p, oct_kv_place at) { unlink_entry(p, at); }

void oct_kv_entry_move(oct_kv_prefix *p, oct_kv_place from, oct_kv_place to) {
    const uint64_t serial = p->serial[from];
    OCT_ASSERT(p->serial[to] == 0);
    unlink_entry(p, from);
    p->serial[to] = serial;
    p->before[to] = p->before[from];
    p->hash[to] = p->hash[from];
    p->saved[to] = p->saved[from];
    memcpy(p->ids + (size_t)to * p->block_tokens, oct_kv_ids_of(p, from),
           p->block_tokens * sizeof *p->ids);
    link_entry(p, to);
}

static void on_reuse(void *keeper, oct_kv_block b) {
    oct_kv_prefix *p = keeper;
    p->stats.n_evicted++;
    if (p->n_shelves == 0 || !oct_kv_shelve(p, b)) unlink_entry(p, b);
}

/* ---- life ---- */

static uint32_t buckets_for(uint32_t n_places) {
    uint32_t n = 16;
    while (n < n_places) n *= 2; /* n_places <= 2^31 */
    return n;
}

static void free_arrays(oct_kv_prefix *p) {
    oct_kv_shelves_fini(p);
    oct_free(p->mem, p->serial, p->n_places, sizeof *p->serial);
    oct_free(p->mem, p->before, p->n_places, sizeof *p->before);
    oct_free(p->mem, p->hash, p->n_places, sizeof *p->hash);
    oct_free(p->mem, p->next, p->n_places, sizeof *p->next);
    oct_free(p->mem, p->next_serial, p->n_places, sizeof *p->next_serial);
    oct_free(p->mem, p->bucket, p->n_buckets, sizeof *p->bucket);
    oct_free(p->mem, p->bucket_serial, p->n_buckets, sizeof *p->bucket_serial);
    oct_free(p->mem, p->ids, (size_t)p->n_places * p->block_tokens, sizeof *p->ids);
    oct_free(p->mem, p->saved, p->n_places, sizeof *p->saved);
    oct_free(p->mem, p->salts, OCT_KV_N_SALTS, sizeof *p->salts);
    oct_free(p->mem, p, 1, sizeof *p);
}

static oct_status make_arrays(oct_kv_prefix *p, oct_err *err) {
    const oct_allocator *mem = p->mem;
    const uint32_t n = p->n_places;
    p->serial = oct_calloc(mem, n, sizeof *p->serial);
    p->before = oct_alloc(mem, n, sizeof *p->before);
    p->hash = oct_alloc(mem, n, sizeof *p->hash);
    p->next = oct_alloc(mem, n, sizeof *p->next);
    p->next_serial = oct_alloc(mem, n, sizeof *p->next_serial);
    p->bucket = oct_alloc(mem, p->n_buckets, sizeof *p->bucket);
    p->bucket_serial = oct_alloc(mem, p->n_buckets, sizeof *p->bucket_serial);
    p->ids = oct_alloc(mem, (size_t)n * p->block_tokens, sizeof *p->ids);
    p->saved = oct_calloc(mem, n, sizeof *p->saved);
    p->salts = oct_alloc(mem, OCT_KV_N_SALTS, sizeof *p->salts);
    if (!p->serial || !p->before || !p->hash || !p->next || !p->next_serial || !p->bucket ||
        !p->bucket_serial || !p->ids || !p->saved || !p->salts)
        return OCT_FAIL(err, OCT_E_NOMEM, "kv: no memory for a prefix index of %u blocks", n);
    memset(p->bucket, 0xff, p->n_buckets * sizeof *p->bucket); /* NO_PLACE */
    memset(p->bucket_serial, 0xff, p->n_buckets * sizeof *p->bucket_serial);
    return oct_kv_shelves_init(p, err);
}

oct_status oct_kv_prefix_create(const oct_allocator *mem, oct_kv_pool *pool,
                                const oct_kv_prefix_options *options, oct_kv_prefix **out,
                                oct_err *err) {
    *out = NULL;
    OCT_ASSERT(options->block_tokens > 0);
    if (options->n_shelves > OCT_KV_MAX_BLOCKS)
        return OCT_FAIL(err, OCT_E_INVALID, "kv: %u shelves (want at most %u)", options->n_shelves,
                        OCT_KV_MAX_BLOCKS);
    oct_kv_prefix *p = oct_calloc(mem, 1, sizeof *p);
    if (!p) return OCT_FAIL(err, OCT_E_NOMEM, "kv: no memory for a prefix index");
    p->mem = mem;
    p->pool = pool;
    p->n_blocks = oct_kv_pool_n_blocks(pool);
    p->n_shelves = options->n_shelves;
    p->n_places = p->n_blocks + p->n_shelves;
    p->block_tokens = options->block_tokens;
    p->n_buckets = buckets_for(p->n_places);
    p->seed = options->seed;
    p->hash_mask = options->hash_bits == 0 || options->hash_bits > 63
                       ? UINT64_MAX
                       : (UINT64_C(1) << options->hash_bits) - 1;
    const oct_status st = make_arrays(p, err);
    if (st != OCT_OK) {
        free_arrays(p);
        return st;
    }
    oct_kv_pool_set_keeper(pool, on_reuse, p);
    *out = p;
    return OCT_OK;
}

void oct_kv_prefix_destroy(oct_kv_prefix *p) {
    if (!p) return;
    p->n_moves = p->n_stores = p->n_loads = 0;
    oct_kv_prefix_reset(p);
    oct_kv_pool_set_keeper(p->pool, NULL, NULL);
    free_arrays(p);
}

void oct_kv_prefix_reset(oct_kv_prefix *p) {
    OCT_ASSERT(p->n_moves == 0);
    for (oct_kv_place at = 0; at < p->n_places; at++) {
        if (p->serial[at] == 0) continue;
        unlink_entry(p, at);
        if (!oct_kv_is_shelf(p, at)) oct_kv_pool_keep(p->pool, at, false);
    }
    oct_kv_shelves_reset(p);
    p->epoch++;
}

uint32_t oct_kv_prefix_epoch(const oct_kv_prefix *p) { return p->epoch; }

/* ---- salts ---- */

uint64_t oct_kv_prefix_root(oct_kv_prefix *p, oct_str bytes) {
    if (bytes.len == 0) return 0;
    OCT_ASSERT(bytes.len <= OCT_KV_SALT_BYTES);
    uint64_t h = mix(p->seed, bytes.len);
    for (size_t i = 0; i < bytes.len; i++) h = mix(h, (unsigned char)bytes.ptr[i]);
    oct_kv_salt *oldest = p->salts;
    for (uint32_t i = 0; i < p->n_salts; i++) {
        oct_kv_salt *s = &p->salts[i];
        if (s->hash == h && s->len == bytes.len && memcmp(s->bytes, bytes.ptr, bytes.len) == 0 &&
            !OCT_FAULT(SALT_LOST, 0)) {
            s->used = ++p->n_salt_uses;
            return s->root;
        }
        if (s->used < oldest->used) oldest = s;
    }
    if (p->n_salts < OCT_KV_N_SALTS) oldest = &p->salts[p->n_salts++];
    oldest->root = ++p->last_serial;
    oldest->hash = h;
    oldest->used = ++p->n_salt_uses;
    oldest->len = (uint32_t)bytes.len;
    memcpy(oldest->bytes, bytes.ptr, bytes.len);
    return oldest->root;
}

/* ---- finding and entering ---- */

uint32_t oct_kv_prefix_find(const oct_kv_prefix *p, uint64_t root, const int32_t *tokens,
                            uint32_t n_blocks, oct_kv_block *out, oct_kv_chain *chain) {
    uint32_t n = 0, n_loads = p->n_loads;
    *chain = (oct_kv_chain){.serial = root, .epoch = p->epoch};
    for (; n < n_blocks; n++) {
        const int32_t *ids = tokens + (size_t)n * p->block_tokens;
        const oct_kv_place at = oct_kv_entry_find(p, chain->serial, ids);
        if (at == NO_PLACE || OCT_FAULT(PREFIX_LOST, 0)) break;
        if (oct_kv_is_shelf(p, at) && n_loads++ >= p->n_blocks) break; /* no room in the list */
        out[n] = oct_kv_is_shelf(p, at) ? OCT_KV_ON_SHELF | (at - p->n_blocks) : at;
        chain->serial = p->serial[at];
    }
    chain->n_blocks = n;
    return n;
}

/* The entry of the same text comes to b. What stands behind it stays findable. */
static void move_here(oct_kv_prefix *p, oct_kv_place other, oct_kv_block b) {
    oct_kv_entry_move(p, other, b);
    if (oct_kv_is_shelf(p, other)) {
        oct_kv_shelf_is_copy(p, other - p->n_blocks, b);
    } else {
        oct_kv_pool_keep(p->pool, other, false);
        oct_kv_copy_follow(p, other, b);
    }
    p->stats.n_moved++;
}

static void enter_one(oct_kv_prefix *p, oct_kv_chain *chain, const int32_t *ids, oct_kv_block b) {
    const oct_kv_place other = oct_kv_entry_find(p, chain->serial, ids);
    OCT_ASSERT(oct_kv_pool_n_refs(p->pool, b) > 0 && p->serial[b] == 0);
    if (other != NO_PLACE && !oct_kv_is_shelf(p, other) && oct_kv_pool_n_refs(p->pool, other) > 0) {
        p->stats.n_duplicates++;
        chain->serial = p->serial[other];
        return;
    }
    if (other != NO_PLACE) {
        move_here(p, other, b);
    } else {
        oct_kv_entry_put(p, b, ++p->last_serial, chain->serial, ids);
        p->stats.n_entered++;
    }
    oct_kv_pool_keep(p->pool, b, true);
    chain->serial = p->serial[b];
}

void oct_kv_prefix_enter(oct_kv_prefix *p, oct_kv_chain *chain, const int32_t *tokens,
                         const oct_kv_block *blocks, uint32_t n_full) {
    if (chain->epoch != p->epoch || OCT_FAULT(ENTRY_STALE, 0)) return;
    for (; chain->n_blocks < n_full; chain->n_blocks++)
        enter_one(p, chain, tokens + (size_t)chain->n_blocks * p->block_tokens,
                  blocks[chain->n_blocks]);
}

/* ---- questions ---- */

void oct_kv_prefix_get_stats(const oct_kv_prefix *p, oct_kv_prefix_stats *out) { *out = p->stats; }

bool oct_kv_prefix_entry(const oct_kv_prefix *p, uint32_t at, uint64_t *serial, uint64_t *before,
                         const int32_t **tokens) {
    const oct_kv_place place = at & OCT_KV_ON_SHELF ? p->n_blocks + (at ^ OCT_KV_ON_SHELF) : at;
    if (p->serial[place] == 0) return false;
    *serial = p->serial[place];
    *before = p->before[place];
    *tokens = oct_kv_ids_of(p, place);
    return true;
}

void oct_kv_prefix_check(const oct_kv_prefix *p) {
#ifdef OCT_DEBUG
    uint32_t n_chained = 0, n = 0, n_on_shelves = 0;
    for (uint32_t i = 0; i < p->n_buckets; i++)
        for (oct_kv_place at = p->bucket[i]; at != NO_PLACE; at = p->next[at]) {
            OCT_ASSERT(n_chained++ < p->n_places && p->serial[at] != 0);
            OCT_ASSERT(bucket_of(p, p->hash[at]) == i);
            OCT_ASSERT(p->hash[at] == hash_of(p, p->before[at], oct_kv_ids_of(p, at)));
            OCT_ASSERT(find_entry(p, p->hash[at], p->before[at], oct_kv_ids_of(p, at)) ==
                       at); /* X2 */
        }
    for (oct_kv_place at = 0; at < p->n_places; at++) {
        const bool has = p->serial[at] != 0;
        if (!oct_kv_is_shelf(p, at)) OCT_ASSERT(oct_kv_pool_is_kept(p->pool, at) == has); /* X1 */
        OCT_ASSERT(!has || oct_kv_entry_numbered(p, p->serial[at]) == at);
        OCT_ASSERT(p->serial[at] <= p->last_serial);
        n += has;
        n_on_shelves += has && oct_kv_is_shelf(p, at);
    }
    OCT_ASSERT(n == n_chained && n == p->stats.n_entries && n_on_shelves == p->stats.n_on_shelves);
    oct_kv_shelves_check(p);
#else
    (void)p;
#endif
}
