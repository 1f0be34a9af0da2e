/*
 * grammar/build.h - rules under construction: pieces of automata over bytes that may call rules.
 *
 * A front end (regex.c, ebnf.c, schema.c) makes pieces and puts them together; no tree is kept, so
 * there is nothing to descend. A piece is two states and everything that was made since it was
 * begun; therefore the piece that was made last can be copied, which is how counts are written out.
 * Failures stick: after the first every call does nothing, and the builder's status is asked once.
 *
 * Ownership  The builder owns states, edges, rules. Threads: one at a time.
 * Elsewhere  What becomes of it: grammar/program.h.
 */
#ifndef OCT_GRAMMAR_BUILD_H
#define OCT_GRAMMAR_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/str.h"

enum {
    OCT_BUILD_MAX_STATES = 400000, /* before they are made deterministic */
    OCT_BUILD_MAX_RULES = 20000,
    OCT_BUILD_MAX_NAME = 48,     /* bytes of a rule's name that a message shows */
    OCT_BUILD_MAX_RANGES = 1024, /* of one class of characters */
};

typedef enum oct_edge_kind { OCT_EDGE_EMPTY, OCT_EDGE_BYTES, OCT_EDGE_CALL } oct_edge_kind;

typedef struct oct_edge {
    uint32_t from, to;
    uint32_t rule;  /* OCT_EDGE_CALL */
    uint8_t kind;   /* oct_edge_kind */
    uint8_t lo, hi; /* OCT_EDGE_BYTES, inclusive */
} oct_edge;

typedef struct oct_rule {
    uint32_t from, to;
    bool defined;
    char name[OCT_BUILD_MAX_NAME + 1]; /* for messages; cut */
} oct_rule;

typedef struct oct_build {
    const oct_allocator *mem;
    oct_edge *edges; /* [n_edges] */
    size_t n_edges, cap_edges;
    oct_rule *rules; /* [n_rules] */
    size_t n_rules, cap_rules;
    uint32_t n_states;
    oct_status status; /* of the first failure */
    oct_err err;
} oct_build;

/* From `from` to `to`; state0 and edge0: what had been made before it was begun. */
typedef struct oct_piece {
    uint32_t from, to;
    uint32_t state0;
    size_t edge0;
} oct_piece;

void oct_build_init(oct_build *b, const oct_allocator *mem);
void oct_build_fini(oct_build *b);
/* Notes a failure unless there is one. Use through OCT_BUILD_FAIL. */
#define OCT_BUILD_FAIL(b, code, ...)                                                       \
    do {                                                                                   \
        if ((b)->status == OCT_OK) (b)->status = OCT_FAIL(&(b)->err, (code), __VA_ARGS__); \
    } while (0)

/* A rule without a body yet; the number is UINT32_MAX after a failure. */
uint32_t oct_build_rule(oct_build *b, oct_str name);
/* Gives it one. */
void oct_build_define(oct_build *b, uint32_t rule, oct_piece body);

/* Where the piece that is begun now begins; end it with oct_build_since. */
oct_piece oct_build_mark(const oct_build *b);
/* p as a piece that holds everything made since mark. */
oct_piece oct_build_since(oct_piece mark, oct_piece p);

uint32_t oct_build_state(oct_build *b);
void oct_build_edge(oct_build *b, uint32_t from, uint32_t to, oct_edge_kind kind, uint8_t lo,
                    uint8_t hi, uint32_t rule);

oct_piece oct_build_empty(oct_build *b);   /* the empty text */
oct_piece oct_build_nothing(oct_build *b); /* no text at all */
oct_piece oct_build_text(oct_build *b, oct_str text);
oct_piece oct_build_range(oct_build *b, uint8_t lo, uint8_t hi); /* one byte */
oct_piece oct_build_call(oct_build *b, uint32_t rule);
/* One character of the ranges, as UTF-8. */
typedef struct oct_char_range {
    uint32_t lo, hi; /* code points, inclusive */
} oct_char_range;
oct_piece oct_build_chars(oct_build *b, const oct_char_range *ranges, size_t n);

/* a then b; b was made after a. */
oct_piece oct_build_cat(oct_build *b, oct_piece x, oct_piece y);
/* a or b. */
oct_piece oct_build_or(oct_build *b, oct_piece x, oct_piece y);
/* Makes x one of the ways from all.from to all.to, which began as oct_build_nothing. */
void oct_build_join(oct_build *b, oct_piece all, oct_piece x);
#define OCT_BUILD_NO_LIMIT UINT32_MAX
/* x, min to max times; x is what was made last. what: names it in a refusal. */
oct_piece oct_build_repeat(oct_build *b, oct_piece x, uint32_t min, uint32_t max);

/* Sorts and merges; returns how many are left. */
size_t oct_char_ranges_merge(oct_char_range *ranges, size_t n);
/* What the n merged ranges leave of all code points but surrogates; out has room for n + 2. */
size_t oct_char_ranges_invert(const oct_char_range *ranges, size_t n, oct_char_range *out);

#endif
