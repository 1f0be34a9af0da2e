/*
 * kv/block_table.h - the cache blocks of one sequence: token at position p lies in block
 * blocks[p / block_tokens], at place p % block_tokens.
 *
 * Ownership  The table holds one reference to each of its blocks. Its array is the caller's.
 * Threads    One: the engine thread.
 */
#ifndef OCT_KV_BLOCK_TABLE_H
#define OCT_KV_BLOCK_TABLE_H

#include <stdint.h>

#include "base/status.h"
#include "kv/block_pool.h"

typedef struct oct_kv_table {
    oct_kv_block *blocks; /* [cap_blocks], the first n_blocks of them held */
    uint32_t n_blocks, cap_blocks;
    uint32_t block_tokens;
} oct_kv_table;

/* Blocks that n_tokens tokens take. */
static inline uint32_t oct_kv_blocks_for(uint32_t n_tokens, uint32_t block_tokens) {
    return n_tokens / block_tokens + (n_tokens % block_tokens != 0);
}

/* storage[cap_blocks] must outlive the table. */
void oct_kv_table_init(oct_kv_table *t, oct_kv_block *storage, uint32_t cap_blocks,
                       uint32_t block_tokens);
/* Makes room for n_tokens tokens in all (fewer than there is room for: nothing happens). All or
 * nothing: OCT_E_FULL when the pool has too few free blocks. n_tokens must fit cap_blocks. */
OCT_MUST_CHECK oct_status oct_kv_table_grow(oct_kv_table *t, oct_kv_pool *pool, uint32_t n_tokens);
/* An empty table gets its first n blocks, whose ids stand in blocks[n] already, and with them a
 * reference to each (oct_kv_prefix_take). */
void oct_kv_table_adopt(oct_kv_table *t, uint32_t n);
/* Gives every block back, the last one first. May be called twice. */
void oct_kv_table_release(oct_kv_table *t, oct_kv_pool *pool);

/* Tokens there is room for. */
static inline uint32_t oct_kv_table_cap_tokens(const oct_kv_table *t) {
    return t->n_blocks * t->block_tokens;
}
/* Where the K/V of position pos go: block * block_tokens + place. There must be room for pos. */
int32_t oct_kv_table_slot(const oct_kv_table *t, uint32_t pos);

/* Walks the table in OCT_DEBUG builds: every block is held, none twice. */
void oct_kv_table_check(const oct_kv_table *t, const oct_kv_pool *pool);

#endif
