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
 * With shelves (places in host memory, one block's content each) an entry whose block is handed out
 * goes to a shelf instead, the one not used longest, and comes back into another block when it is
 * found. The index only counts: what has to be copied stands in a list of moves, to be made in that
 * order and before anything that is computed after they were listed.
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
    uint32_t n_shelves; /* 0: none */
} oct_kv_prefix_options;

/* A copy between a block and a shelf. */
typedef struct oct_kv_move {
    oct_kv_block block;
    uint32_t shelf;
    bool to_shelf;
} oct_kv_move;

/* What find tells: a block, or a shelf with this bit. */
#define OCT_KV_ON_SHELF (UINT32_C(1) << 31)

/* Where a sequence stands in the index: the entry of its last block that is known there. */
typedef struct oct_kv_chain {
    uint64_t serial;   /* what the next block stands behind */
    uint32_t n_blocks; /* blocks of the sequence that it covers */
    uint32_t epoch;    /* resets before it began; stale chains enter nothing */
} oct_kv_chain;

/* Counters since create. */
typedef struct oct_kv_prefix_stats {
    uint64_t n_entered, n_evicted, n_moved, n_duplicates; /* n_evicted: blocks that lost theirs */
    uint64_t n_shelved, n_fetched; /* entries that went to a shelf, and came back */
    uint64_t n_dropped;            /* entries that were forgotten on a shelf */
    uint32_t n_entries;            /* now, on blocks and shelves */
    uint32_t n_on_shelves;         /* of these */
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
 * to out[n_blocks], or the shelves, with OCT_KV_ON_SHELF; their number is returned, and *chain
 * stands behind the last of them. Nothing is taken: the caller takes all with oct_kv_prefix_take
 * before it acquires any other.
 */
uint32_t oct_kv_prefix_find(const oct_kv_prefix *p, uint64_t root, const int32_t *tokens,
                            uint32_t n_blocks, oct_kv_block *out, oct_kv_chain *chain);
/* One reference to each of found[n], in place: blocks as they are, and for each shelf a free block
 * (the pool must have that many, besides those found), to which a move is listed. */
void oct_kv_prefix_take(oct_kv_prefix *p, oct_kv_block *found, uint32_t n);
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

/* ---- shelves ---- */

/* The moves that are to be made, oldest first; the pointer holds until the next call of this
 * header. `made` empties the list. Evictions beyond a bound of moves between two calls of `made`
 * forget the entry. */
const oct_kv_move *oct_kv_prefix_moves(const oct_kv_prefix *p, uint32_t *n_out);
void oct_kv_prefix_moves_made(oct_kv_prefix *p);

/* An empty shelf, which is the caller's until it is entered or unpinned. False: all are pinned. */
bool oct_kv_shelf_reserve(oct_kv_prefix *p, uint32_t *shelf_out);
/* The caller filled a shelf that it had reserved with the block behind the chain, from where it was
 * saved: its entry. The shelf is not the caller's any more, and is empty again where the text is
 * known by now or the index was reset. The chain goes on in all cases but the last. */
void oct_kv_shelf_enter(oct_kv_prefix *p, oct_kv_chain *chain, const int32_t *ids, uint32_t shelf);
/* While it is pinned a shelf keeps its bytes; unpinned as often as pinned. */
void oct_kv_shelf_pin(oct_kv_prefix *p, uint32_t shelf);
void oct_kv_shelf_unpin(oct_kv_prefix *p, uint32_t shelf);

/* An entry that is not marked as saved, looking at the next n_looks places behind *cursor; *at is a
 * block, or a shelf with OCT_KV_ON_SHELF. */
bool oct_kv_prefix_unsaved(const oct_kv_prefix *p, uint32_t *cursor, uint32_t n_looks,
                           uint32_t *at);
void oct_kv_prefix_set_saved(oct_kv_prefix *p, uint32_t at);
/* Pins a shelf that holds what `at` of an entry holds, copying it there (a move) if that is a block
 * without a copy. False: no shelf is to be had. */
bool oct_kv_prefix_pin_copy(oct_kv_prefix *p, uint32_t at, uint32_t *shelf_out);
/* The whole text that an entry stands for: how many blocks it has, its salt, and the ids from the
 * first on to out[cap_blocks * block_tokens]. 0: a part of it was forgotten, or there is no room.
 */
uint32_t oct_kv_prefix_text(const oct_kv_prefix *p, uint32_t at, int32_t *out, uint32_t cap_blocks,
                            oct_str *salt_out);

/* ---- questions ---- */

void oct_kv_prefix_get_stats(const oct_kv_prefix *p, oct_kv_prefix_stats *out);

/* What is known of a block, or of a shelf with OCT_KV_ON_SHELF: false when it has no entry. tokens
 * is [block_tokens], borrowed. */
bool oct_kv_prefix_entry(const oct_kv_prefix *p, uint32_t at, uint64_t *serial, uint64_t *before,
                         const int32_t **tokens);
/* Walks the invariants (prefix_index.c) in OCT_DEBUG builds; time O(n_blocks). */
void oct_kv_prefix_check(const oct_kv_prefix *p);

#endif
