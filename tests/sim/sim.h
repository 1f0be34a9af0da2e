/*
 * sim.h - a world without a model: sequences arrive, are computed, fail, are aborted and end, all
 * from a seed, while a second, naive bookkeeping follows every block.
 *
 * The world remembers for every place of every block which token of which text was written there,
 * under which weights, and whether a good result has been drawn from it. From this it can say of
 * each block that a new sequence is given whether it holds what the sequence would have computed.
 */
#ifndef OCT_TESTS_SIM_H
#define OCT_TESTS_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "sched/sched.h"

enum {
    SIM_SEQS = 64,
    SIM_BLOCKS = 256,
    SIM_TABLE = 48, /* most blocks of one sequence */
    SIM_SHELVES = 96,
    SIM_BLOCK_TOKENS = 8 /* most */
};

typedef struct sim_counts {
    uint64_t n_steps, n_finished, n_aborted, n_failed, n_preempted, n_mixed;
    uint64_t n_passed, n_beside, n_hits, n_hit_blocks, n_evicted, n_resets;
    uint64_t n_shelved, n_fetched, n_taken_back;
} sim_counts;

typedef struct sim_seq {
    oct_sched_seq q;   /* first */
    bool live, ran;    /* ran: since it came or was preempted */
    uint32_t n_lost;   /* preemptions that the world has seen */
    uint32_t n_had;    /* blocks, before the plan; */
    bool lacked;       /* and then there was no room in them for its next row */
    uint32_t salt;     /* 0: none */
    uint32_t n_cached; /* rows that really are in the cache, as far as the world knows */
    uint64_t family;
    uint32_t n_common; /* tokens of the family's text */
    oct_kv_block storage[SIM_TABLE];
    bool one_by_one;   /* its next row waits until the token before it is known */
    uint32_t n_flying; /* of q.n_tokens: not known yet, and -1 in tokens */
    int32_t tokens[SIM_TABLE * SIM_BLOCK_TOKENS];
    int32_t drawn[SIM_TABLE * SIM_BLOCK_TOKENS]; /* as the device knows them */
    uint64_t text[SIM_TABLE * SIM_BLOCK_TOKENS]; /* of tokens [0, i], salt included */
} sim_seq;

/* What was written to one place of a block. */
typedef struct sim_place {
    uint64_t text;
    int32_t token;
    uint32_t weights;
} sim_place;

typedef struct sim_block {
    sim_place at[SIM_BLOCK_TOKENS];
    bool good;      /* a finite value was drawn behind it */
    uint32_t freed; /* the step in which it was seen free first, since it was held */
    bool was_free;
    uint64_t serial; /* its entry when last seen; 0: none */
} sim_block;

/* A step that was submitted and is not collected. */
typedef struct sim_flight {
    bool fails;
    uint32_t n_moves; /* made before it */
    oct_kv_move moves[2 * SIM_BLOCKS];
    uint32_t n;
    struct sim_part {
        sim_seq *s; /* NULL: it left, and the blocks that its rows write to are held */
        uint32_t first, n_rows;
        bool samples;
        uint32_t n_held;
        oct_kv_block held[SIM_TABLE];
    } parts[SIM_SEQS];
} sim_flight;

typedef struct sim_world {
    uint64_t seed, rng, n_groups;
    uint32_t step, block_tokens, n_blocks, weights, n_salts, n_families;
    oct_sched_options opt;
    oct_kv_pool *pool;
    oct_kv_prefix *prefix;
    oct_sched *sched;
    sim_seq seqs[SIM_SEQS];
    sim_block blocks[SIM_BLOCKS];
    sim_block shelves[SIM_SHELVES]; /* what was copied there */
    uint32_t n_shelves;
    bool overlap; /* a step is planned while one is on its way */
    uint32_t n_flights;
    sim_flight flights[2];    /* the older one first */
    uint8_t held[SIM_BLOCKS]; /* for steps on their way */
    sim_counts n;
    char failed[256]; /* the first promise that was broken; "": none so far */
} sim_world;

/* Runs one seed: n_steps with arrivals, then until all have ended. False: a promise was broken;
 * w->failed says which, and in which step. */
bool sim_run(sim_world *w, uint64_t seed, uint32_t n_steps);

#endif
