/*
 * grammar/schema_parts.h - what the files of the JSON Schema front end share.
 *
 * Each schema that is met becomes a rule, found again by its place in memory, so that a $ref may
 * lead back to one that is not finished. Rules are compiled from a list, one after the other:
 * schemas may nest and refer as they like, and nothing here calls itself.
 */
#ifndef OCT_GRAMMAR_SCHEMA_PARTS_H
#define OCT_GRAMMAR_SCHEMA_PARTS_H

#include "codec/json.h"
#include "grammar/json_rules.h"

enum {
    OCT_SCHEMA_MAX_ITEMS = 20000, /* schemas that become rules */
    OCT_SCHEMA_MAX_PARTS = 256,   /* schemas that are joined into one: allOf, $ref */
    OCT_SCHEMA_MAX_DEPTH = 64,    /* steps from the root, references counted */
    OCT_SCHEMA_PATH = 64,
    OCT_SCHEMA_MAX_COUNT = 4096, /* elements of an array whose length is bounded */
};

typedef struct oct_schema_item {
    const json_t *schema;
    uint32_t rule, depth;
    char path[OCT_SCHEMA_PATH]; /* for messages: its end */
} oct_schema_item;

typedef struct oct_string_rule {
    uint32_t min, max, rule;
} oct_string_rule;

typedef struct oct_schema {
    oct_build *b;
    oct_json_rules *j;
    const json_t *root;
    oct_schema_item *items; /* [n_items] */
    uint32_t n_items, cap_items;
    uint32_t *slots; /* hash by place: item + 1 */
    uint32_t n_slots;
    json_t *made;             /* array: schemas that were joined */
    oct_string_rule *strings; /* [n_strings] bounded strings by their bounds */
    uint32_t n_strings, cap_strings;
    const oct_schema_item *now; /* being compiled; a copy */
} oct_schema;

/* The place and the reason: "schema: KEYWORD: REASON (at PATH)". */
void oct_schema_fail(oct_schema *s, const char *keyword, const char *fmt, ...) OCT_PRINTF(3, 4);

/* The rule of a schema, compiled now or later; name: the step that leads there. */
uint32_t oct_schema_rule(oct_schema *s, const json_t *schema, const char *name);
oct_piece oct_schema_call(oct_schema *s, const json_t *schema, const char *name);
/* Keeps a value of our own for as long as the schema is compiled; takes the reference. NULL after
 * a failure. */
const json_t *oct_schema_keep(oct_schema *s, json_t *value);

/* A count; false: absent, or a failure. */
bool oct_schema_count(oct_schema *s, const json_t *schema, const char *keyword, uint64_t *out);
/* A keyword that is known and refused. */
bool oct_schema_is_unsupported(const char *keyword);

/* ---- schema_join.c ---- */

/* schema with its $ref and allOf worked in; itself when it has none. NULL: a failure. */
const json_t *oct_schema_join(oct_schema *s, const json_t *schema);
/* Whether a keyword restricts anything here. */
bool oct_schema_asserts(const char *keyword);
/* {"allOf": [a, b]}. */
json_t *oct_schema_both(const json_t *a, const json_t *b);

/* ---- pieces of one type ---- */

oct_piece oct_schema_object(oct_schema *s, const json_t *schema);
oct_piece oct_schema_array(oct_schema *s, const json_t *schema);
oct_piece oct_schema_string(oct_schema *s, const json_t *schema);
oct_piece oct_schema_number(oct_schema *s, const json_t *schema, bool whole);

#endif
