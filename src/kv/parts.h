/*
 * kv/parts.h - the inside of the prefix index, shared by its source files only.
 *
 * An entry stands at a place: block b is place b, shelf s is place n_blocks + s.
 */
#ifndef OCT_KV_PARTS_H
#define OCT_KV_PARTS_H

#include "kv/prefix_index.h"

typedef uint32_t oct_kv_place;
#define OCT_KV_NO_PLACE UINT32_MAX

typedef struct oct_kv_salt {
    uint64_t root, hash, used;
    uint32_t len;
    char bytes[OCT_KV_SALT_BYTES];
} oct_kv_salt;

struct oct_kv_prefix {
    const oct_allocator *mem;
    oct_kv_pool *pool;
    uint32_t n_blocks, n_shelves, n_places;
    uint32_t block_tokens, n_buckets; /* a power of two */
    uint32_t epoch;
    uint64_t seed, hash_mask, last_serial, n_salt_uses;
    uint32_t n_salts;
    uint64_t *serial, *before, *hash; /* [n_places] */
    oct_kv_place *next, *next_serial; /* [n_places] in the chains */
    oct_kv_place *bucket;             /* [n_buckets] first of those with a hash */
    oct_kv_place *bucket_serial;      /* [n_buckets] first of those with a serial */
    int32_t *ids;                     /* [n_places][block_tokens] */
    uint8_t *saved;                   /* [n_places] somebody has it for longer */
    oct_kv_salt *salts;               /* [OCT_KV_N_SALTS] */
    oct_kv_prefix_stats stats;

    /* shelves.c; NULL and 0 without shelves. */
    uint32_t *shelf_of;                /* [n_blocks] the shelf with a copy of the block's content */
    oct_kv_block *copy_of;             /* [n_shelves] the block whose content it holds, too */
    uint32_t *pins;                    /* [n_shelves] */
    uint32_t *shelf_next, *shelf_prev; /* [n_shelves + 1] ring of those that are not pinned */
    oct_kv_move *moves;                /* [2 * n_blocks] */
    uint32_t n_moves, n_stores, n_loads;
};

static inline bool oct_kv_is_shelf(const oct_kv_prefix *p, oct_kv_place at) {
    return at >= p->n_blocks;
}
static inline const int32_t *oct_kv_ids_of(const oct_kv_prefix *p, oct_kv_place at) {
    return p->ids + (size_t)at * p->block_tokens;
}

/* ---- prefix_index.c ---- */

oct_kv_place oct_kv_entry_find(const oct_kv_prefix *p, uint64_t before, const int32_t *ids);
/* The entry with that number; OCT_KV_NO_PLACE: it was forgotten. */
oct_kv_place oct_kv_entry_numbered(const oct_kv_prefix *p, uint64_t serial);
/* An entry with a number of its own. ids may be those of the place. */
void oct_kv_entry_put(oct_kv_prefix *p, oct_kv_place at, uint64_t serial, uint64_t before,
                      const int32_t *ids);
void oct_kv_entry_drop(oct_kv_prefix *p, oct_kv_place at);
void oct_kv_entry_move(oct_kv_prefix *p, oct_kv_place from, oct_kv_place to);

/* ---- shelves.c ---- */

OCT_MUST_CHECK oct_status oct_kv_shelves_init(oct_kv_prefix *p, oct_err *err);
void oct_kv_shelves_fini(oct_kv_prefix *p);
void oct_kv_shelves_reset(oct_kv_prefix *p);
/* Block b is about to be handed out: its entry goes to a shelf. False: there is none for it. */
bool oct_kv_shelve(oct_kv_prefix *p, oct_kv_block b);
/* The shelf's entry has gone to block b, which holds the same. */
void oct_kv_shelf_is_copy(oct_kv_prefix *p, uint32_t shelf, oct_kv_block b);
/* Whatever copies b had are copies of `to` now; OCT_KV_NO_BLOCK: of nobody. */
void oct_kv_copy_follow(oct_kv_prefix *p, oct_kv_block b, oct_kv_block to);
void oct_kv_shelves_check(const oct_kv_prefix *p);

#endif
