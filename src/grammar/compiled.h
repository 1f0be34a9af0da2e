/*
 * grammar/compiled.h - a compiled grammar inside: program, vocabulary, and what runs have found out
 * about both together.
 *
 * A state's own share of a mask does not depend on who called its rule: tokens that stay within it,
 * as a bit set or a list, and the nodes of the vocabulary at which it ends and the caller's state
 * goes on. It is made once (oct_compiled_warm makes the large ones ahead of time); what follows
 * behind those nodes is looked up each time.
 *
 * A share lies in layers by the length of tokens. Two states that cannot be told apart by so many
 * bytes have the layers up to that length in common: of a string of at most a hundred characters
 * the first ninety differ in long tokens only.
 *
 * Threads    Behind lock, but program and vocab, which are immutable.
 */
#ifndef OCT_GRAMMAR_COMPILED_H
#define OCT_GRAMMAR_COMPILED_H

#include <pthread.h>
#include <stdatomic.h>

#include "grammar/grammar.h"
#include "grammar/space.h"
#include "grammar/vocab.h"

enum {
    OCT_SPACE_SOFT_BYTES = 8 << 20,  /* a space larger than this is left for a new one */
    OCT_SPACE_HARD_BYTES = 64 << 20, /* no call may make it larger */
    OCT_SHARES_MAX_BYTES = 16 << 20, /* shares kept of one grammar; then they are made again */
};

/* A space that runs are in; the grammar's newest, or an older one that ends with its last run. */
typedef struct oct_shared_space {
    oct_space *space;
    uint32_t n_users;
} oct_shared_space;

/* Tokens longer than the layer below and at most so long; the last layer is a state's own. */
enum { OCT_SHARE_LAYERS = 5 };
extern const uint32_t oct_share_bytes[OCT_SHARE_LAYERS - 1];

typedef struct oct_share_key {
    uint64_t behaviour; /* what so many bytes can show of the state; the last layer: the state */
    uint32_t layer;
} oct_share_key;

typedef struct oct_share {
    oct_share_key key;
    uint32_t *bits;  /* [n_words], or NULL: ids */
    uint32_t *ids;   /* [n_ids] */
    uint32_t *nodes; /* [n_nodes], cap_nodes allocated: where the rule ends */
    uint32_t n_ids, n_nodes, cap_nodes;
} oct_share;

struct oct_grammar {
    const oct_allocator *mem;
    atomic_uint n_refs;
    oct_program *program;
    oct_grammar_vocab *vocab;
    uint32_t n_words;

    pthread_mutex_t lock;
    oct_shared_space *space;
    uint64_t *behaviour; /* [OCT_SHARE_LAYERS - 1][program->n_states] */
    oct_share **shares;  /* [n_slots] hash by key */
    size_t n_slots, n_shares, share_bytes;
    uint32_t *path;      /* [vocab->max_depth + 1] sets above a node */
    atomic_size_t bytes; /* of all of it */

    /* The maker's, behind its lock: its cache. */
    oct_grammar *older, *newer;
    char *key; /* [n_key] what it was made of */
    size_t n_key;
    uint64_t key_hash;
};

/* Takes over program, whatever happens. */
OCT_MUST_CHECK oct_status oct_compiled_create(const oct_allocator *mem, oct_program *program,
                                              oct_grammar_vocab *vocab, oct_grammar **out);
/* Makes shares that are large, for at most so long. */
void oct_compiled_warm(oct_grammar *g, uint64_t most_ns);

#endif
