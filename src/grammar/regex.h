/*
 * grammar/regex.h - regular expressions of the kind that JSON Schema, Python and JavaScript share.
 *
 * There is no backtracking: what becomes of an expression is an automaton. Look-around, back
 * references, word boundaries, Unicode properties and inline flags are refused by name, anchors
 * anywhere but at the ends too. Shorthand classes are the ASCII ones, so that what is made matches
 * in either language.
 */
#ifndef OCT_GRAMMAR_REGEX_H
#define OCT_GRAMMAR_REGEX_H

#include "grammar/build.h"

typedef enum oct_regex_mode {
    OCT_REGEX_PLAIN, /* the text matches as a whole */
    OCT_REGEX_JSON,  /* the value of a JSON string does, as it is spelled between the quotes */
    OCT_REGEX_JSON_SEARCH, /* some part of that value does: a schema's pattern */
} oct_regex_mode;

enum { OCT_REGEX_MAX_DEPTH = 100 }; /* of groups */

/* what: the field or keyword, for messages. */
oct_piece oct_regex_piece(oct_build *b, oct_str text, oct_regex_mode mode, const char *what);

#endif
