/*
 * kv/block_pool.c - the free blocks as a ring of links in two arrays, and a count for each block.
 *
 * Invariants, true between calls:
 *   P1  the ring (through the place n_blocks, which is no block) holds exactly the blocks with
 *       n_refs 0, each once; n_free counts them.
 *   P2  next[b] is NO_PLACE while b is held.
 *   P3  in the ring, blocks that are not kept stand before those that are.
 *
 * P3 is why short requests cannot push a shared prompt out of a cache that is mostly empty: a block
 * without content costs nothing to lose, so it is lost first, and the same few are used again and
 * again. Links in arrays and not in the blocks' structs: taking one out of the middle, which a
 * prefix hit does, costs two writes, and nothing is allocated.
 */
#include "kv/block_pool.h"

#include "base/assert.h"

#define NO_PLACE UINT32_MAX

struct oct_kv_pool {
    const oct_allocator *mem;
    oct_kv_reuse_fn *on_reuse;
    void *keeper;
    uint32_t n_blocks, n_free;
    uint32_t *next, *prev; /* [n_blocks + 1]; the last one is the ring's beginning and end */
    uint32_t *n_refs;      /* [n_blocks] */
    uint8_t *kept;         /* [n_blocks] */
    uint32_t arrays[];     /* the four above, one after the other */
};

static size_t own_bytes(uint32_t n_blocks) {
    return sizeof(oct_kv_pool) + ((size_t)n_blocks * 3 + 2) * sizeof(uint32_t) + n_blocks;
}

/* ---- the ring ---- */

static void link_behind(oct_kv_pool *p, oct_kv_block b, uint32_t before) {
    const uint32_t after = p->next[before];
    p->prev[b] = before;
    p->next[b] = after;
    p->next[before] = b;
    p->prev[after] = b;
}

static void unlink_block(oct_kv_pool *p, oct_kv_block b) {
    p->next[p->prev[b]] = p->next[b];
    p->prev[p->next[b]] = p->prev[b];
    p->next[b] = p->prev[b] = NO_PLACE;
}

static void link_free(oct_kv_pool *p, oct_kv_block b) {
    link_behind(p, b, p->kept[b] ? p->prev[p->n_blocks] : p->n_blocks);
}

/* ---- life ---- */

oct_status oct_kv_pool_create(const oct_allocator *mem, uint32_t n_blocks, oct_kv_pool **out,
                              oct_err *err) {
    *out = NULL;
    if (n_blocks == 0 || n_blocks > OCT_KV_MAX_BLOCKS)
        return OCT_FAIL(err, OCT_E_INVALID, "kv: a cache of %u blocks (want 1 to %u)", n_blocks,
                        OCT_KV_MAX_BLOCKS);
    oct_kv_pool *pool = oct_calloc(mem, 1, own_bytes(n_blocks));
    if (!pool) return OCT_FAIL(err, OCT_E_NOMEM, "kv: no memory to count %u blocks", n_blocks);
    pool->mem = mem;
    pool->n_blocks = pool->n_free = n_blocks;
    pool->next = pool->arrays;
    pool->prev = pool->next + n_blocks + 1;
    pool->n_refs = pool->prev + n_blocks + 1;
    pool->kept = (uint8_t *)(pool->n_refs + n_blocks);
    for (uint32_t i = 0; i <= n_blocks; i++) { /* block 0 first */
        pool->next[i] = i < n_blocks ? i + 1 : 0;
        pool->prev[i] = i > 0 ? i - 1 : n_blocks;
    }
    *out = pool;
    return OCT_OK;
}

void oct_kv_pool_destroy(oct_kv_pool *pool) {
    if (!pool) return;
    OCT_ASSERT(pool->n_free == pool->n_blocks);
    oct_free(pool->mem, pool, 1, own_bytes(pool->n_blocks));
}

void oct_kv_pool_set_keeper(oct_kv_pool *pool, oct_kv_reuse_fn *on_reuse, void *keeper) {
    pool->on_reuse = on_reuse;
    pool->keeper = keeper;
}

/* ---- references ---- */

oct_status oct_kv_pool_acquire(oct_kv_pool *pool, uint32_t n, oct_kv_block *out) {
    /* All or nothing: two sequences that each got half could wait for one another for ever. */
    if (n > pool->n_free) return OCT_E_FULL;
    for (uint32_t i = 0; i < n; i++) {
        const oct_kv_block b = pool->next[pool->n_blocks];
        unlink_block(pool, b);
        pool->n_free--;
        pool->n_refs[b] = 1;
        if (pool->kept[b]) {
            pool->kept[b] = 0;
            pool->on_reuse(pool->keeper, b);
        }
        out[i] = b;
    }
    return OCT_OK;
}

void oct_kv_pool_retain(oct_kv_pool *pool, oct_kv_block block) {
    OCT_ASSERT(block < pool->n_blocks && pool->n_refs[block] > 0);
    pool->n_refs[block]++;
}

void oct_kv_pool_take(oct_kv_pool *pool, oct_kv_block block) {
    OCT_ASSERT(block < pool->n_blocks && (pool->n_refs[block] > 0 || pool->kept[block]));
    if (pool->n_refs[block]++ > 0) return;
    unlink_block(pool, block);
    pool->n_free--;
}

void oct_kv_pool_release(oct_kv_pool *pool, oct_kv_block block) {
    OCT_ASSERT(block < pool->n_blocks && pool->n_refs[block] > 0);
    if (--pool->n_refs[block] > 0) return;
    link_free(pool, block);
    pool->n_free++;
}

void oct_kv_pool_keep(oct_kv_pool *pool, oct_kv_block block, bool keep) {
    OCT_ASSERT(block < pool->n_blocks && (!keep || (pool->on_reuse && pool->n_refs[block] > 0)));
    if (pool->kept[block] == keep) return;
    pool->kept[block] = keep;
    if (pool->n_refs[block] > 0) return;
    unlink_block(pool, block);
    link_free(pool, block);
}

/* ---- questions ---- */

uint32_t oct_kv_pool_n_blocks(const oct_kv_pool *pool) { return pool->n_blocks; }
uint32_t oct_kv_pool_n_free(const oct_kv_pool *pool) { return pool->n_free; }

uint32_t oct_kv_pool_n_refs(const oct_kv_pool *pool, oct_kv_block block) {
    OCT_ASSERT(block < pool->n_blocks);
    return pool->n_refs[block];
}

bool oct_kv_pool_is_kept(const oct_kv_pool *pool, oct_kv_block block) {
    OCT_ASSERT(block < pool->n_blocks);
    return pool->kept[block];
}

oct_kv_block oct_kv_pool_next_free(const oct_kv_pool *pool, oct_kv_block block) {
    const uint32_t next = pool->next[block == OCT_KV_NO_BLOCK ? pool->n_blocks : block];
    return next == pool->n_blocks ? OCT_KV_NO_BLOCK : next;
}

void oct_kv_pool_check(const oct_kv_pool *pool) {
#ifdef OCT_DEBUG
    uint32_t n_unheld = 0, n_ring = 0;
    bool kept = false;
    OCT_ASSERT(pool->n_free <= pool->n_blocks);
    for (oct_kv_block b = 0; b < pool->n_blocks; b++) {
        const bool is_free = pool->n_refs[b] == 0;
        n_unheld += is_free;
        OCT_ASSERT(is_free == (pool->next[b] != NO_PLACE));
    }
    OCT_ASSERT(n_unheld == pool->n_free);
    for (uint32_t b = pool->next[pool->n_blocks]; b != pool->n_blocks; b = pool->next[b]) {
        OCT_ASSERT(n_ring++ < n_unheld && pool->n_refs[b] == 0);
        OCT_ASSERT(pool->prev[pool->next[b]] == b);
        OCT_ASSERT(pool->kept[b] || !kept); /* P3 */
        kept = kept || pool->kept[b];
    }
    OCT_ASSERT(n_ring == n_unheld);
#else
    (void)pool;
#endif
}
