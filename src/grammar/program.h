/*
 * grammar/program.h - rules made deterministic: what a matcher walks.
 *
 * Each rule is an automaton whose states read a byte, call a rule, or end it. Within a rule there
 * is one way for a byte; between reading, calling and ending a state may leave a choice, which the
 * matcher follows all at once. States from which no end can be reached are gone, and no rule can
 * call itself before a byte was read.
 *
 * Ownership  The program owns its arrays. Threads: immutable.
 * Elsewhere  How rules come to be: grammar/build.h. Walking: grammar/space.h.
 */
#ifndef OCT_GRAMMAR_PROGRAM_H
#define OCT_GRAMMAR_PROGRAM_H

#include "grammar/build.h"

enum {
    OCT_PROGRAM_MAX_STATES = 100000,
    OCT_PROGRAM_MAX_STEPS = 10000000, /* edges looked at while it is compiled */
};

typedef struct oct_move {
    uint8_t lo, hi;
    uint32_t to;
} oct_move;

typedef struct oct_call {
    uint32_t to;   /* where the rule begins */
    uint32_t back; /* where to go on behind it */
    bool is_last;  /* nothing comes behind it: nobody needs to come back */
} oct_call;

typedef struct oct_program {
    const oct_allocator *mem;
    uint32_t n_states, root;
    oct_move *moves;   /* by state, ascending lo, disjoint */
    uint32_t *move_at; /* [n_states + 1] */
    oct_call *calls;
    uint32_t *call_at;     /* [n_states + 1] */
    bool *ends;            /* [n_states] the rule may end here */
    uint8_t class_of[256]; /* bytes that no state tells apart have one class */
    uint8_t byte_of[256];  /* [n_classes] one byte of each */
    uint32_t n_classes;
    size_t bytes; /* of memory */
} oct_program;

/* OCT_E_INVALID: too large, a rule without a body, a rule that calls itself before anything was
 * read, or nothing matches. */
OCT_MUST_CHECK oct_status oct_program_create(oct_build *b, uint32_t root, oct_program **out,
                                             oct_err *err);
void oct_program_destroy(oct_program *p); /* accepts NULL */

/* Where byte c leads from a state, or UINT32_MAX. */
uint32_t oct_program_move(const oct_program *p, uint32_t state, uint8_t c);

#endif
