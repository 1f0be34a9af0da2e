/*
 * kv/prefix_index.c - one possible entry a block, in arrays beside it, and a table of chains.
 *
 * Invariants, true between calls:
 *   X1  serial[b] != 0 exactly when b is in one chain of the table, and in that of its hash; the
 *       pool keeps exactly these blocks.
 *   X2  no two entries have the same (before, ids).
 *   X3  serials of entries and salts come from one counter that only grows.
 *
 * X3 is what makes an entry mean a whole text: the number of what stands before it belonged to one
 * text alone, for ever. An entry whose predecessor was forgotten is never found again and ages out
 * of the pool's queue. That is rare, because a sequence gives its last blocks back first.
 *
 * Rejected: a tree of nodes (allocations in the step, and the same comparisons); trusting a long
 * hash (one collision in 2^64 is too often for another client's text).
 */
#include "kv/prefix_index.h"

#include <string.h>

#include "base/assert.h"
#include "base/fault.h"

#define NO_BLOCK OCT_KV_NO_BLOCK

typedef struct salt {
    uint64_t root, hash, used;
    uint32_t len;
    char bytes[OCT_KV_SALT_BYTES];
} salt;

struct oct_kv_prefix {
    const oct_allocator *mem;
    oct_kv_pool *pool;
    uint32_t n_blocks, block_tokens, n_buckets; /* a power of two */
    uint32_t epoch;
    uint64_t seed, hash_mask, last_serial, n_salt_uses;
    uint32_t n_salts;
    uint64_t *serial, *before, *hash; /* [n_blocks] */
    uint32_t *next;                   /* [n_blocks] in the chain */
    uint32_t *bucket;                 /* [n_buckets] first of the chain */
    int32_t *ids;                     /* [n_blocks][block_tokens] */
    salt *salts;                      /* [OCT_KV_N_SALTS] */
    oct_kv_prefix_stats stats;
};

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

/* ---- the table ---- */

static uint32_t bucket_of(const oct_kv_prefix *p, uint64_t hash) {
    return (uint32_t)hash & (p->n_buckets - 1);
}

static const int32_t *ids_of(const oct_kv_prefix *p, oct_kv_block b) {
    return p->ids + (size_t)b * p->block_tokens;
}

static oct_kv_block find_entry(const oct_kv_prefix *p, uint64_t hash, uint64_t before,
                               const int32_t *ids) {
    const size_t bytes = p->block_tokens * sizeof *ids;
    oct_kv_block b = p->bucket[bucket_of(p, hash)];
    while (b != NO_BLOCK &&
           (p->hash[b] != hash || p->before[b] != before || memcmp(ids_of(p, b), ids, bytes) != 0))
        b = p->next[b];
    return b;
}

static void put(oct_kv_prefix *p, oct_kv_block b, uint64_t serial, uint64_t hash, uint64_t before,
                const int32_t *ids) {
    uint32_t *first = &p->bucket[bucket_of(p, hash)];
    p->serial[b] = serial;
    p->before[b] = before;
    p->hash[b] = hash;
    memcpy(p->ids + (size_t)b * p->block_tokens, ids, p->block_tokens * sizeof *ids);
    p->next[b] = *first;
    *first = b;
    p->stats.n_entries++;
}

static void drop(oct_kv_prefix *p, oct_kv_block b) {
    uint32_t *at = &p->bucket[bucket_of(p, p->hash[b])];
    OCT_ASSERT(p->serial[b] != 0);
    while (*at != b) at = &p->next[*at];
    *at = p->next[b];
    p->serial[b] = 0;
    p->stats.n_entries--;
}

static void on_reuse(void *keeper, oct_kv_block b) {
    oct_kv_prefix *p = keeper;
    drop(p, b);
    p->stats.n_evicted++;
}

/* ---- life ---- */

static uint32_t buckets_for(uint32_t n_blocks) {
    uint32_t n = 16;
    while (n < n_blocks) n *= 2; /* n_blocks <= 2^30 */
    return n;
}

static void free_arrays(oct_kv_prefix *p) {
    oct_free(p->mem, p->serial, p->n_blocks, sizeof *p->serial);
    oct_free(p->mem, p->before, p->n_blocks, sizeof *p->before);
    oct_free(p->mem, p->hash, p->n_blocks, sizeof *p->hash);
    oct_free(p->mem, p->next, p->n_blocks, sizeof *p->next);
    oct_free(p->mem, p->bucket, p->n_buckets, sizeof *p->bucket);
    oct_free(p->mem, p->ids, (size_t)p->n_blocks * p->block_tokens, sizeof *p->ids);
    oct_free(p->mem, p->salts, OCT_KV_N_SALTS, sizeof *p->salts);
    oct_free(p->mem, p, 1, sizeof *p);
}

oct_status oct_kv_prefix_create(const oct_allocator *mem, oct_kv_pool *pool,
                                const oct_kv_prefix_options *options, oct_kv_prefix **out,
                                oct_err *err) {
    const uint32_t n_blocks = oct_kv_pool_n_blocks(pool);
    *out = NULL;
    OCT_ASSERT(options->block_tokens > 0);
    oct_kv_prefix *p = oct_calloc(mem, 1, sizeof *p);
    if (!p) return OCT_FAIL(err, OCT_E_NOMEM, "kv: no memory for a prefix index");
    p->mem = mem;
    p->pool = pool;
    p->n_blocks = n_blocks;
    p->block_tokens = options->block_tokens;
    p->n_buckets = buckets_for(n_blocks);
    p->seed = options->seed;
    p->hash_mask = options->hash_bits == 0 || options->hash_bits > 63
                       ? UINT64_MAX
                       : (UINT64_C(1) << options->hash_bits) - 1;
    p->serial = oct_calloc(mem, n_blocks, sizeof *p->serial);
    p->before = oct_alloc(mem, n_blocks, sizeof *p->before);
    p->hash = oct_alloc(mem, n_blocks, sizeof *p->hash);
    p->next = oct_alloc(mem, n_blocks, sizeof *p->next);
    p->bucket = oct_alloc(mem, p->n_buckets, sizeof *p->bucket);
    p->ids = oct_alloc(mem, (size_t)n_blocks * p->block_tokens, sizeof *p->ids);
    p->salts = oct_alloc(mem, OCT_KV_N_SALTS, sizeof *p->salts);
    if (!p->serial || !p->before || !p->hash || !p->next || !p->bucket || !p->ids || !p->salts) {
        free_arrays(p);
        return OCT_FAIL(err, OCT_E_NOMEM, "kv: no memory for a prefix index of %u blocks",
                        n_blocks);
    }
    memset(p->bucket, 0xff, p->n_buckets * sizeof *p->bucket); /* NO_BLOCK */
    oct_kv_pool_set_keeper(pool, on_reuse, p);
    *out = p;
    return OCT_OK;
}

void oct_kv_prefix_destroy(oct_kv_prefix *p) {
    if (!p) return;
    oct_kv_prefix_reset(p);
    oct_kv_pool_set_keeper(p->pool, NULL, NULL);
    free_arrays(p);
}

void oct_kv_prefix_reset(oct_kv_prefix *p) {
    for (oct_kv_block b = 0; b < p->n_blocks; b++) {
        if (p->serial[b] == 0) continue;
        drop(p, b);
        oct_kv_pool_keep(p->pool, b, false);
    }
    p->epoch++;
}

uint32_t oct_kv_prefix_epoch(const oct_kv_prefix *p) { return p->epoch; }

/* ---- salts ---- */

uint64_t oct_kv_prefix_root(oct_kv_prefix *p, oct_str bytes) {
    if (bytes.len == 0) return 0;
    OCT_ASSERT(bytes.len <= OCT_KV_SALT_BYTES);
    uint64_t h = mix(p->seed, bytes.len);
    for (size_t i = 0; i < bytes.len; i++) h = mix(h, (unsigned char)bytes.ptr[i]);
    salt *oldest = p->salts;
    for (uint32_t i = 0; i < p->n_salts; i++) {
        salt *s = &p->salts[i];
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
    uint32_t n = 0;
    *chain = (oct_kv_chain){.serial = root, .epoch = p->epoch};
    for (; n < n_blocks; n++) {
        const int32_t *ids = tokens + (size_t)n * p->block_tokens;
        const oct_kv_block b = find_entry(p, hash_of(p, chain->serial, ids), chain->serial, ids);
        if (b == NO_BLOCK || OCT_FAULT(PREFIX_LOST, 0)) break;
        out[n] = b;
        chain->serial = p->serial[b];
    }
    chain->n_blocks = n;
    return n;
}

static void enter_one(oct_kv_prefix *p, oct_kv_chain *chain, const int32_t *ids, oct_kv_block b) {
    const uint64_t hash = hash_of(p, chain->serial, ids);
    const oct_kv_block other = find_entry(p, hash, chain->serial, ids);
    uint64_t serial;
    OCT_ASSERT(oct_kv_pool_n_refs(p->pool, b) > 0 && p->serial[b] == 0);
    if (other != NO_BLOCK && oct_kv_pool_n_refs(p->pool, other) > 0) {
        p->stats.n_duplicates++;
        chain->serial = p->serial[other];
        return;
    }
    if (other != NO_BLOCK) {
        serial = p->serial[other]; /* what stands behind it stays findable */
        drop(p, other);
        oct_kv_pool_keep(p->pool, other, false);
        p->stats.n_moved++;
    } else {
        serial = ++p->last_serial;
        p->stats.n_entered++;
    }
    put(p, b, serial, hash, chain->serial, ids);
    oct_kv_pool_keep(p->pool, b, true);
    chain->serial = serial;
}

void oct_kv_prefix_enter(oct_kv_prefix *p, oct_kv_chain *chain, const int32_t *tokens,
                         const oct_kv_block *blocks, uint32_t n_full) {
    if (chain->epoch != p->epoch) return;
    for (; chain->n_blocks < n_full; chain->n_blocks++)
        enter_one(p, chain, tokens + (size_t)chain->n_blocks * p->block_tokens,
                  blocks[chain->n_blocks]);
}

/* ---- questions ---- */

void oct_kv_prefix_get_stats(const oct_kv_prefix *p, oct_kv_prefix_stats *out) { *out = p->stats; }

bool oct_kv_prefix_entry(const oct_kv_prefix *p, oct_kv_block block, uint64_t *serial,
                         uint64_t *before, const int32_t **tokens) {
    if (p->serial[block] == 0) return false;
    *serial = p->serial[block];
    *before = p->before[block];
    *tokens = ids_of(p, block);
    return true;
}

void oct_kv_prefix_check(const oct_kv_prefix *p) {
#ifdef OCT_DEBUG
    uint32_t n_chained = 0, n = 0;
    for (uint32_t i = 0; i < p->n_buckets; i++)
        for (oct_kv_block b = p->bucket[i]; b != NO_BLOCK; b = p->next[b]) {
            OCT_ASSERT(n_chained++ < p->n_blocks && p->serial[b] != 0);
            OCT_ASSERT(bucket_of(p, p->hash[b]) == i);
            OCT_ASSERT(p->hash[b] == hash_of(p, p->before[b], ids_of(p, b)));
            OCT_ASSERT(find_entry(p, p->hash[b], p->before[b], ids_of(p, b)) == b); /* X2 */
        }
    for (oct_kv_block b = 0; b < p->n_blocks; b++) {
        OCT_ASSERT(oct_kv_pool_is_kept(p->pool, b) == (p->serial[b] != 0)); /* X1 */
        OCT_ASSERT(p->serial[b] <= p->last_serial);
        n += p->serial[b] != 0;
    }
    OCT_ASSERT(n == n_chained && n == p->stats.n_entries);
#else
    (void)p;
#endif
}
