/*
 * grammar/json_rules.h - the parts of JSON text as pieces of a grammar: blanks, strings, numbers,
 * any value. Rules are made when they are first asked for.
 *
 * What is made keeps to less than JSON allows where more would help nobody: numbers have at most 18
 * digits before the point and 17 behind it and exponents of two digits, strings spell characters as
 * themselves unless they must be escaped (any value: also with escapes), blanks are few.
 *
 * Ownership  Borrows the builder. Threads: one at a time.
 */
#ifndef OCT_GRAMMAR_JSON_RULES_H
#define OCT_GRAMMAR_JSON_RULES_H

#include <jansson.h>

#include "grammar/build.h"
#include "grammar/grammar.h"

typedef enum oct_json_rule {
    OCT_JSON_BLANKS,
    OCT_JSON_INDENT,
    OCT_JSON_STRING,
    OCT_JSON_NUMBER,
    OCT_JSON_INTEGER,
    OCT_JSON_VALUE,
    OCT_JSON_OBJECT,
    OCT_JSON_ARRAY,
    OCT_JSON_N_RULES
} oct_json_rule;

enum {
    OCT_JSON_INT_DIGITS = 18,
    OCT_JSON_FRACTION_DIGITS = 17,
    OCT_JSON_MAX_CHARS = 2000, /* of a string whose length is bounded */
};

typedef struct oct_json_rules {
    oct_build *b;
    const oct_grammar_style *style;
    uint32_t rules[OCT_JSON_N_RULES]; /* UINT32_MAX: not made */
} oct_json_rules;

void oct_json_rules_init(oct_json_rules *j, oct_build *b, const oct_grammar_style *style);
/* The rule, made with all that it needs. */
uint32_t oct_json_rule_of(oct_json_rules *j, oct_json_rule which);
oct_piece oct_json_call(oct_json_rules *j, oct_json_rule which);

/* What may stand between two parts. */
oct_piece oct_json_blanks(oct_json_rules *j);
/* text with blanks on both sides. */
oct_piece oct_json_spaced(oct_json_rules *j, const char *text);
/* One character inside a string, with the escapes that JSON knows. */
oct_piece oct_json_char(oct_build *b);
/* A character of these ranges as it stands inside a string: itself, or its short escape where JSON
 * wants one. */
oct_piece oct_json_char_of(oct_build *b, const oct_char_range *ranges, size_t n);
/* The literal of a value, blanks between its parts. */
oct_piece oct_json_literal(oct_json_rules *j, const json_t *value);

#endif
