/*
 * kv/prefix_index.h - full cache blocks by what they hold, so that a sequence whose beginning was
 * computed before starts behind it.
 *
 * An entry is a block, its token ids, and which entry stands before it. Each entry has a serial
 * number that is never used twice; "before" is that number, so that a chain of entries is a text
 * from its first token on. A block is found only if the number of what stands before it and every
 * one of its ids are equal: the hash merely finds candidates, and a collision can serve nothing
 * foreign.
 *
 * The first block of a text stands behind a root: 0, or the number of a salt. Texts with different
 * salts have no block in common.
 *
 * Life of an entry: enter (the block is full and its holder's step is known to be good), found any
 * number of times, forgotten when the pool hands the block out for something else or by reset.
 *
 * Ownership  Holds no references: a block that is free is still found, until it is handed out. The
 *            index is the pool's keeper and must be destroyed before it.
 * Threads    One: the engine thread.
 * Elsewhere  Which free block is handed out first: kv/block_pool.h. When to look and when to enter:
 *            sched/.
 */
#ifndef OCT_KV_PREFIX_INDEX_H
#define OCT_KV_PREFIX_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/str.h"
#include "kv/block_pool.h"

enum {
    OCT_KV_SALT_BYTES = 128, /* longest salt */
    OCT_KV_N_SALTS = 1024,   /* salts that are known at once; the one not used longest goes */
};

typedef struct oct_kv_prefix oct_kv_prefix;

typedef struct oct_kv_prefix_options {
    uint32_t block_tokens;
    uint64_t seed;      /* of the hashes: unknown to strangers, so that they cannot aim at it */
    uint32_t hash_bits; /* tests: only so many bits of the hash count; 0: all */
} oct_kv_prefix_options;

/* Where a sequence stands in the index: the entry of its last block that is known there. */
typedef struct oct_kv_chain {
    uint64_t serial;   /* what the next block stands behind */
    uint32_t n_blocks; /* blocks of the sequence that it covers */
    uint32_t epoch;    /* resets before it began; stale chains enter nothing */
} oct_kv_chain;

/* Counters since create. */
typedef struct oct_kv_prefix_stats {
    uint64_t n_entered, n_evicted, n_moved, n_duplicates;
    uint32_t n_entries; /* now */
} oct_kv_prefix_stats;

OCT_MUST_CHECK oct_status oct_kv_prefix_create(const oct_allocator *mem, oct_kv_pool *pool,
                                               const oct_kv_prefix_options *options,
                                               oct_kv_prefix **out, oct_err *err);
/* Accepts NULL. Forgets everything first. */
void oct_kv_prefix_destroy(oct_kv_prefix *p);

/* The root of a salt's texts; 0 for an empty one. salt.len <= OCT_KV_SALT_BYTES. A salt that has
 * been forgotten comes back with another number, and finds nothing. */
uint64_t oct_kv_prefix_root(oct_kv_prefix *p, oct_str salt);

/*
 * Finds the longest known beginning of tokens[n_blocks * block_tokens] behind root: the blocks go
 * to out[n_blocks], their number is returned, and *chain stands behind the last of them. Nothing is
 * taken: the caller takes each with oct_kv_pool_take before it acquires any other.
 */
uint32_t oct_kv_prefix_find(const oct_kv_prefix *p, uint64_t root, const int32_t *tokens,
                            uint32_t n_blocks, oct_kv_block *out, oct_kv_chain *chain);
/*
 * Makes blocks [chain->n_blocks, n_full) of a sequence known: blocks[i] holds
 * tokens[i * block_tokens ..], is held by the caller and full. Where the same text is known already
 * the other block stays the one that is found, unless it is free: then the entry moves here.
 * Nothing happens when the index was reset after the chain began.
 */
void oct_kv_prefix_enter(oct_kv_prefix *p, oct_kv_chain *chain, const int32_t *tokens,
                         const oct_kv_block *blocks, uint32_t n_full);
/* Forgets all entries: what the blocks hold is not what a fresh computation would give (the weights
 * changed), or somebody asked for it. Sequences keep their blocks. */
void oct_kv_prefix_reset(oct_kv_prefix *p);
/* How often it was reset. */
uint32_t oct_kv_prefix_epoch(const oct_kv_prefix *p);

void oct_kv_prefix_get_stats(const oct_kv_prefix *p, oct_kv_prefix_stats *out);

/* What is known of a block, for tests and for saving it: false when it has no entry. tokens is
 * [block_tokens], borrowed. */
bool oct_kv_prefix_entry(const oct_kv_prefix *p, oct_kv_block block, uint64_t *serial,
                         uint64_t *before, const int32_t **tokens);
/* Walks the invariants (prefix_index.c) in OCT_DEBUG builds; time O(n_blocks). */
void oct_kv_prefix_check(const oct_kv_prefix *p);

#endif
