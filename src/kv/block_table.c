/*
 * kv/block_table.c - grow at the end, give back whole.
 *
 * Invariants: T1 n_blocks <= cap_blocks. T2 every entry below n_blocks is one reference of ours.
 */
#include "kv/block_table.h"

#include "base/assert.h"

void oct_kv_table_init(oct_kv_table *t, oct_kv_block *storage, uint32_t cap_blocks,
                       uint32_t block_tokens) {
    OCT_ASSERT(block_tokens > 0);
    *t = (oct_kv_table){.blocks = storage, .cap_blocks = cap_blocks, .block_tokens = block_tokens};
}

oct_status oct_kv_table_grow(oct_kv_table *t, oct_kv_pool *pool, uint32_t n_tokens) {
    const uint32_t want = oct_kv_blocks_for(n_tokens, t->block_tokens);
    if (want <= t->n_blocks) return OCT_OK;
    OCT_ASSERT(want <= t->cap_blocks);
    OCT_TRY(oct_kv_pool_acquire(pool, want - t->n_blocks, t->blocks + t->n_blocks));
    t->n_blocks = want;
    return OCT_OK;
}

void oct_kv_table_adopt(oct_kv_table *t, uint32_t n) {
    OCT_ASSERT(t->n_blocks == 0 && n <= t->cap_blocks);
    t->n_blocks = n;
}

void oct_kv_table_release(oct_kv_table *t, oct_kv_pool *pool) {
    while (t->n_blocks > 0) oct_kv_pool_release(pool, t->blocks[--t->n_blocks]);
}

int32_t oct_kv_table_slot(const oct_kv_table *t, uint32_t pos) {
    OCT_ASSERT(pos / t->block_tokens < t->n_blocks);
    return (int32_t)(t->blocks[pos / t->block_tokens] * t->block_tokens + pos % t->block_tokens);
}

void oct_kv_table_check(const oct_kv_table *t, const oct_kv_pool *pool) {
#ifdef OCT_DEBUG
    OCT_ASSERT(t->n_blocks <= t->cap_blocks);
    for (uint32_t i = 0; i < t->n_blocks; i++) {
        OCT_ASSERT(oct_kv_pool_n_refs(pool, t->blocks[i]) > 0);
        for (uint32_t j = 0; j < i; j++) OCT_ASSERT(t->blocks[i] != t->blocks[j]);
    }
#else
    (void)t;
    (void)pool;
#endif
}
