/* grammar/schema.h - JSON Schema to rules. What is read of it: docs/structured-output.md. */
#ifndef OCT_GRAMMAR_SCHEMA_H
#define OCT_GRAMMAR_SCHEMA_H

#include <jansson.h>

#include "grammar/json_rules.h"

/* The rule of a whole schema; a failure is the builder's. */
uint32_t oct_schema_compile(oct_json_rules *j, const json_t *schema);

#endif
