/*
 * kv/block_pool.c - a stack of free ids in an array, and for each id its place in that stack.
 *
 * Invariants, true between calls:
 *   P1  free_ids[0 .. n_free) are exactly the blocks with n_refs 0, each once.
 *   P2  place[b] is b's index in free_ids while b is free, and NO_PLACE while it is held.
 *
 * P2 costs four bytes a block and turns "is on the stack once" into one comparison. The prefix
 * index will need it too: taking a block that is free but still remembered out of the middle.
 * The block released last is handed out first; nothing may rely on it.
 */
#include "kv/block_pool.h"

#include "base/assert.h"

#define NO_PLACE UINT32_MAX

struct oct_kv_pool {
    const oct_allocator *mem;
    uint32_t n_blocks, n_free;
    uint32_t *free_ids; /* [n_blocks] */
    uint32_t *place;    /* [n_blocks] */
    uint32_t *n_refs;   /* [n_blocks] */
    uint32_t arrays[];  /* the three above, one after the other */
};

static size_t own_bytes(uint32_t n_blocks) {
    return sizeof(oct_kv_pool) + (size_t)n_blocks * 3 * sizeof(uint32_t);
}

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
    pool->free_ids = pool->arrays;
    pool->place = pool->free_ids + n_blocks;
    pool->n_refs = pool->place + n_blocks;
    for (uint32_t i = 0; i < n_blocks; i++) { /* block 0 on top */
        pool->free_ids[i] = n_blocks - 1 - i;
        pool->place[n_blocks - 1 - i] = i;
    }
    *out = pool;
    return OCT_OK;
}

void oct_kv_pool_destroy(oct_kv_pool *pool) {
    if (!pool) return;
    OCT_ASSERT(pool->n_free == pool->n_blocks);
    oct_free(pool->mem, pool, 1, own_bytes(pool->n_blocks));
}

oct_status oct_kv_pool_acquire(oct_kv_pool *pool, uint32_t n, oct_kv_block *out) {
    /* All or nothing: two sequences that each got half could wait for one another for ever. */
    if (n > pool->n_free) return OCT_E_FULL;
    for (uint32_t i = 0; i < n; i++) {
        const oct_kv_block b = pool->free_ids[--pool->n_free];
        pool->place[b] = NO_PLACE;
        pool->n_refs[b] = 1;
        out[i] = b;
    }
    return OCT_OK;
}

void oct_kv_pool_retain(oct_kv_pool *pool, oct_kv_block block) {
    OCT_ASSERT(block < pool->n_blocks && pool->n_refs[block] > 0);
    pool->n_refs[block]++;
}

void oct_kv_pool_release(oct_kv_pool *pool, oct_kv_block block) {
    OCT_ASSERT(block < pool->n_blocks && pool->n_refs[block] > 0);
    if (--pool->n_refs[block] > 0) return;
    pool->place[block] = pool->n_free;
    pool->free_ids[pool->n_free++] = block;
}

uint32_t oct_kv_pool_n_blocks(const oct_kv_pool *pool) { return pool->n_blocks; }
uint32_t oct_kv_pool_n_free(const oct_kv_pool *pool) { return pool->n_free; }

uint32_t oct_kv_pool_n_refs(const oct_kv_pool *pool, oct_kv_block block) {
    OCT_ASSERT(block < pool->n_blocks);
    return pool->n_refs[block];
}

void oct_kv_pool_check(const oct_kv_pool *pool) {
#ifdef OCT_DEBUG
    uint32_t n_unheld = 0;
    OCT_ASSERT(pool->n_free <= pool->n_blocks);
    for (oct_kv_block b = 0; b < pool->n_blocks; b++) {
        const bool is_free = pool->n_refs[b] == 0;
        n_unheld += is_free;
        OCT_ASSERT(is_free == (pool->place[b] != NO_PLACE));
        OCT_ASSERT(!is_free || (pool->place[b] < pool->n_free &&
                                pool->free_ids[pool->place[b]] == b)); /* P1: once */
    }
    OCT_ASSERT(n_unheld == pool->n_free);
#else
    (void)pool;
#endif
}
