/*
 * grammar/grammar.h - what an answer must look like, compiled, and the tokens that keep to it.
 *
 * A maker holds a model's vocabulary and a cache of what it compiled. A grammar is made by a worker
 * thread from a JSON Schema, a regular expression, a list of choices or EBNF, under limits: what
 * cannot be taken is OCT_E_INVALID with a sentence that names the keyword or the place. A run
 * follows one answer: it says which tokens may come next and takes the one that came.
 *
 * Every token that a mask allows leaves a text that can still be completed.
 *
 * Ownership  Grammars are counted and keep the vocabulary alive; the tokenizer is borrowed for the
 *            life of all of them.
 * Threads    A maker: any number. A grammar: any number; runs of one grammar share what they found
 *            out about it behind a lock that is held for one call. A run: one at a time.
 * Elsewhere  What is accepted of each language, and the limits: docs/structured-output.md.
 */
#ifndef OCT_GRAMMAR_GRAMMAR_H
#define OCT_GRAMMAR_GRAMMAR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/str.h"
#include "text/tokenizer.h"

typedef struct oct_grammars oct_grammars; /* the maker */
typedef struct oct_grammar oct_grammar;
typedef struct oct_grammar_run oct_grammar_run;

enum {
    OCT_GRAMMAR_MAX_TEXT = 8192,        /* bytes of a regular expression or of EBNF */
    OCT_GRAMMAR_MAX_SCHEMA = 65536,     /* bytes of a schema, written without blanks */
    OCT_GRAMMAR_MAX_DEPTH = 32,         /* of nested schemas, groups */
    OCT_GRAMMAR_CACHE_BYTES = 64 << 20, /* of compiled grammars that nobody may be using */
};

/* n_ids: of the model's logits; masks are that wide. */
OCT_MUST_CHECK oct_status oct_grammars_create(const oct_allocator *mem,
                                              const oct_tokenizer *tokenizer, uint32_t n_ids,
                                              oct_grammars **out, oct_err *err);
/* Grammars that are in use live on. Accepts NULL. */
void oct_grammars_destroy(oct_grammars *g);
/* Bytes of what the cache holds now. */
size_t oct_grammars_cache_bytes(oct_grammars *g);

/* How JSON is written. */
typedef struct oct_grammar_style {
    bool no_blanks;     /* none between the parts of objects and arrays */
    oct_str blanks;     /* a regular expression for what may stand there; empty: the default,
                           nothing, one blank, or a line end with up to 20 blanks or tabs */
    bool no_additional; /* an object that names properties has no others, whatever its schema
                           says */
} oct_grammar_style;

/* Any JSON object. */
OCT_MUST_CHECK oct_status oct_grammar_of_object(oct_grammars *g, const oct_grammar_style *style,
                                                oct_grammar **out, oct_err *err);
/* JSON that a schema describes: an object, or true. */
OCT_MUST_CHECK oct_status oct_grammar_of_schema(oct_grammars *g, const json_t *schema,
                                                const oct_grammar_style *style, oct_grammar **out,
                                                oct_err *err);
/* The whole answer matches. */
OCT_MUST_CHECK oct_status oct_grammar_of_regex(oct_grammars *g, oct_str regex, oct_grammar **out,
                                               oct_err *err);
/* One of the n strings. */
OCT_MUST_CHECK oct_status oct_grammar_of_choice(oct_grammars *g, const oct_str *choices, size_t n,
                                                oct_grammar **out, oct_err *err);
/* Rules "name ::= ..." (GBNF); the answer is `root`. */
OCT_MUST_CHECK oct_status oct_grammar_of_ebnf(oct_grammars *g, oct_str text, oct_grammar **out,
                                              oct_err *err);
oct_grammar *oct_grammar_ref(oct_grammar *g); /* accepts NULL */
void oct_grammar_unref(oct_grammar *g);       /* accepts NULL */
/* Ids of the vocabulary that it was made for. */
uint32_t oct_grammar_n_ids(const oct_grammar *g);
/* States of the program, for logs and tests. */
uint32_t oct_grammar_n_states(const oct_grammar *g);

/* ---- following an answer ---- */

/* Keeps a reference to g. */
OCT_MUST_CHECK oct_status oct_grammar_run_create(const oct_allocator *mem, oct_grammar *g,
                                                 oct_grammar_run **out);
void oct_grammar_run_destroy(oct_grammar_run *r); /* accepts NULL */
/* Back to the beginning. */
OCT_MUST_CHECK oct_status oct_grammar_run_reset(oct_grammar_run *r);

/* Takes bytes or a token. *fits false: nothing that the grammar accepts begins so, and the run is
 * where it was. OCT_E_NOMEM; OCT_E_FULL: too many ways at once. */
OCT_MUST_CHECK oct_status oct_grammar_run_bytes(oct_grammar_run *r, oct_str bytes, bool *fits);
OCT_MUST_CHECK oct_status oct_grammar_run_token(oct_grammar_run *r, int32_t id, bool *fits);

/* Sets the bits of all tokens that may come, and clears the others: words[(n_ids + 31) / 32]. No
 * special token is among them; whether the text may end is oct_grammar_run_may_end. */
OCT_MUST_CHECK oct_status oct_grammar_run_mask(oct_grammar_run *r, uint32_t *words);
/* The text so far is complete; more may follow. */
bool oct_grammar_run_may_end(const oct_grammar_run *r);
/* It is, and nothing may follow. */
bool oct_grammar_run_must_end(const oct_grammar_run *r);

#endif
