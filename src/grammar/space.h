/*
 * grammar/space.h - where a matcher can be, explored as far as it has been.
 *
 * A place is a state of the program and what is to be done behind it: a list of states to come back
 * to, kept as a chain of nodes that are shared. A matcher is in a set of places, because a rule may
 * go on, call and end at once. Sets are numbered; which set a byte leads to is found once and kept.
 *
 * Two chains are special: OCT_CHAIN_END, behind which the grammar ends, and OCT_CHAIN_UNKNOWN,
 * behind which anything may come: with it a state's own share of a mask is found, whoever calls it.
 *
 * Ownership  The space owns all of it; it only grows, up to a limit. Threads: one at a time.
 */
#ifndef OCT_GRAMMAR_SPACE_H
#define OCT_GRAMMAR_SPACE_H

#include "base/arena.h"
#include "grammar/program.h"

enum {
    OCT_CHAIN_END = 0,
    OCT_CHAIN_UNKNOWN = 1,
    OCT_CHAIN_MAX_DEPTH = 256, /* what nests deeper is not accepted */
    OCT_SET_MAX_PLACES = 256,  /* more ways at once: the grammar is too ambiguous */
    OCT_SET_NONE = 0,          /* no way leads here */
};

/* Set when a call failed; what it returned is then OCT_SET_NONE. */
typedef struct oct_place {
    uint32_t state, chain;
} oct_place;

typedef struct oct_set {
    const oct_place *places; /* [n] that read a byte, ascending */
    uint32_t n;
    bool at_end;     /* the text so far is complete */
    bool at_unknown; /* ... as far as the unknown caller is concerned */
    uint32_t *next;  /* [n_classes] set + 1, 0: not known yet; or NULL */
} oct_set;

typedef struct oct_chain {
    uint32_t back, below, depth;
} oct_chain;

typedef struct oct_space {
    const oct_allocator *mem;
    const oct_program *program;
    oct_arena arena; /* places, tables of next */
    oct_set *sets;   /* [n_sets] */
    size_t n_sets, cap_sets;
    oct_chain *chains; /* [n_chains] */
    size_t n_chains, cap_chains;
    uint32_t *set_slots, *chain_slots; /* hashes: number + 1 */
    size_t n_set_slots, n_chain_slots;
    oct_place *scratch; /* [OCT_SET_MAX_PLACES * 4] */
    uint32_t n_scratch;
    size_t limit_bytes;
    oct_status status; /* of the first failure: OCT_E_NOMEM, or OCT_E_FULL: too ambiguous, or more
                          places than the limit */
} oct_space;

OCT_MUST_CHECK oct_status oct_space_create(const oct_allocator *mem, const oct_program *program,
                                           size_t limit_bytes, oct_space **out);
void oct_space_destroy(oct_space *s); /* accepts NULL */
size_t oct_space_bytes(const oct_space *s);

/* Before the first byte of a text. */
uint32_t oct_space_start(oct_space *s);
/* Behind one more byte. */
uint32_t oct_space_step(oct_space *s, uint32_t set, uint8_t c);
/* The set of one place, without what it may call or return to. */
uint32_t oct_space_at(oct_space *s, uint32_t state, uint32_t chain);
/* The set that a rule's end leads to when it was called with this chain. */
uint32_t oct_space_return(oct_space *s, uint32_t chain);
/* A set of another space over the same program. */
uint32_t oct_space_adopt(oct_space *s, const oct_space *from, uint32_t set);

static inline const oct_set *oct_space_set(const oct_space *s, uint32_t set) {
    return &s->sets[set];
}

#endif
