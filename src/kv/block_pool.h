/*
 * kv/block_pool.h - which cache blocks are free, and how many hold each of the others.
 *
 * A block is room for the keys and values of block_tokens consecutive tokens of one sequence, all
 * layers. The pool deals in ids 0 .. n_blocks-1 and counts references; the bytes are the model's
 * (one device buffer), their layout the device's.
 *
 * A free block may be kept: what it holds can still be found by someone (kv/prefix_index.h). Free
 * blocks stand in a queue. Those that nobody keeps are handed out first; kept ones go in the order
 * in which they became free, the longest free first, and their keeper is told.
 *
 * Ownership  acquire gives a block its first reference, take and retain one more, release drops
 *            one; at zero the block is free. Only a block with one reference may be written.
 * Threads    One: the engine thread. Nothing here locks.
 * Elsewhere  Which tokens a block holds: kv/block_table.h. Whose blocks to take back: sched/.
 */
#ifndef OCT_KV_BLOCK_POOL_H
#define OCT_KV_BLOCK_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"

/* More than any cache holds, and small enough that ids fit the int32 tables of a step. */
#define OCT_KV_MAX_BLOCKS (UINT32_C(1) << 30)

typedef uint32_t oct_kv_block;
typedef struct oct_kv_pool oct_kv_pool;

/* All blocks start free and not kept. OCT_E_INVALID: n_blocks is 0 or beyond OCT_KV_MAX_BLOCKS. */
OCT_MUST_CHECK oct_status oct_kv_pool_create(const oct_allocator *mem, uint32_t n_blocks,
                                             oct_kv_pool **out, oct_err *err);
/* Accepts NULL. Every block must be free again: one still held is a leak of its holder. */
void oct_kv_pool_destroy(oct_kv_pool *pool);

/* Takes n blocks into out[n], or none: OCT_E_FULL, which is ordinary and has no sentence. What the
 * blocks held is forgotten. */
OCT_MUST_CHECK oct_status oct_kv_pool_acquire(oct_kv_pool *pool, uint32_t n, oct_kv_block *out);
/* One reference more to a block that is held. */
void oct_kv_pool_retain(oct_kv_pool *pool, oct_kv_block block);
/* One reference more to a block that is held or kept, as it is: what it holds stays. */
void oct_kv_pool_take(oct_kv_pool *pool, oct_kv_block block);
/* The last reference frees the block: behind all others when it is kept, else before them. */
void oct_kv_pool_release(oct_kv_pool *pool, oct_kv_block block);

uint32_t oct_kv_pool_n_blocks(const oct_kv_pool *pool);
uint32_t oct_kv_pool_n_free(const oct_kv_pool *pool);
/* How many hold the block; 0: it is free. */
uint32_t oct_kv_pool_n_refs(const oct_kv_pool *pool, oct_kv_block block);

/* For the one keeper of the pool. on_reuse is called for each kept block that acquire hands out,
 * before it returns; the block is not kept any more by then. NULL: no keeper. */
typedef void oct_kv_reuse_fn(void *keeper, oct_kv_block block);
void oct_kv_pool_set_keeper(oct_kv_pool *pool, oct_kv_reuse_fn *on_reuse, void *keeper);
/* Says whether the block's content can be found. A free one that cannot any more goes before all
 * others. */
void oct_kv_pool_keep(oct_kv_pool *pool, oct_kv_block block, bool keep);
bool oct_kv_pool_is_kept(const oct_kv_pool *pool, oct_kv_block block);
/* Walks the free blocks in the order in which they would be handed out: the one behind block, or
 * the first for OCT_KV_NO_BLOCK; OCT_KV_NO_BLOCK at the end. */
#define OCT_KV_NO_BLOCK UINT32_MAX
oct_kv_block oct_kv_pool_next_free(const oct_kv_pool *pool, oct_kv_block block);

/* Walks the invariants (block_pool.c) in OCT_DEBUG builds; time O(n_blocks). */
void oct_kv_pool_check(const oct_kv_pool *pool);

#endif
