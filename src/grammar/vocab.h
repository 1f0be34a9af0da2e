/*
 * grammar/vocab.h - the tokens of a model as a tree of their bytes, in the order in which it is
 * walked: a node's children follow it, and skip leads past all of them.
 *
 * Special tokens and those without text are not in it: no grammar accepts them.
 *
 * Ownership  Counted: create gives one reference. Threads: immutable.
 */
#ifndef OCT_GRAMMAR_VOCAB_H
#define OCT_GRAMMAR_VOCAB_H

#include <stdatomic.h>

#include "text/tokenizer.h"

typedef struct oct_grammar_vocab {
    const oct_allocator *mem;
    atomic_uint n_refs;
    const oct_tokenizer *tokenizer;
    uint32_t n_ids;   /* of the model's logits */
    uint32_t n_nodes; /* node 0 is the root, which has no byte */
    uint32_t max_depth;
    uint8_t *byte;      /* [n_nodes] */
    uint16_t *depth;    /* [n_nodes] bytes from the root */
    uint16_t *reach;    /* [n_nodes] depth of the deepest node below, itself included */
    uint32_t *skip;     /* [n_nodes] */
    uint32_t *token_at; /* [n_nodes + 1] */
    int32_t *tokens;    /* [n_tokens] by node */
    uint32_t n_tokens;
} oct_grammar_vocab;

/* Of ids below n_ids. The tokenizer is borrowed for the vocabulary's life. */
OCT_MUST_CHECK oct_status oct_grammar_vocab_create(const oct_allocator *mem,
                                                   const oct_tokenizer *tokenizer, uint32_t n_ids,
                                                   oct_grammar_vocab **out, oct_err *err);
oct_grammar_vocab *oct_grammar_vocab_ref(oct_grammar_vocab *v);
void oct_grammar_vocab_unref(oct_grammar_vocab *v); /* accepts NULL */

#endif
