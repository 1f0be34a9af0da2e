/* grammar/schema.c - schemas become rules from a list; what kind of value each asks for. */
#include "grammar/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "grammar/schema_parts.h"

static const char *const type_names[] = {"object",  "array",   "string", "number",
                                         "integer", "boolean", "null"};
enum {
    T_OBJECT = 1,
    T_ARRAY = 2,
    T_STRING = 4,
    T_NUMBER = 8,
    T_INTEGER = 16,
    T_BOOLEAN = 32,
    T_NULL = 64
};

void oct_schema_fail(oct_schema *s, const char *keyword, const char *fmt, ...) {
    char reason[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(reason, sizeof reason, fmt, args);
    va_end(args);
    OCT_BUILD_FAIL(s->b, OCT_E_INVALID, "schema: %.64s: %s (at %s)", keyword, reason,
                   s->now ? s->now->path : "#");
}

const json_t *oct_schema_keep(oct_schema *s, json_t *value) {
    if (value && json_array_append_new(s->made, value) == 0) return value;
    OCT_BUILD_FAIL(s->b, OCT_E_NOMEM, "no memory for a grammar");
    return NULL;
}

/* ---- the list of rules ---- */

static uint32_t slot_of(const oct_schema *s, const json_t *schema) {
    const uint64_t h = (uint64_t)(uintptr_t)schema * UINT64_C(0x9E3779B97F4A7C15);
    uint32_t i = (uint32_t)(h >> 32) & (s->n_slots - 1);
    while (s->slots[i] && s->items[s->slots[i] - 1].schema != schema)
        i = (i + 1) & (s->n_slots - 1);
    return i;
}

static bool grow_items(oct_schema *s) {
    const uint32_t cap = s->cap_items ? s->cap_items * 2 : 64;
    void *items = oct_grow(s->b->mem, s->items, s->cap_items, cap, sizeof *s->items);
    if (items) {
        s->items = items;
        s->cap_items = cap;
    }
    uint32_t *slots = items ? oct_calloc(s->b->mem, cap * 2, sizeof *slots) : NULL;
    if (!slots) {
        OCT_BUILD_FAIL(s->b, OCT_E_NOMEM, "no memory for a grammar");
        return false;
    }
    oct_free(s->b->mem, s->slots, s->n_slots, sizeof *s->slots);
    s->slots = slots;
    s->n_slots = cap * 2;
    for (uint32_t i = 0; i < s->n_items; i++) s->slots[slot_of(s, s->items[i].schema)] = i + 1;
    return true;
}

/* above/name; of a long one its end. */
static void make_path(char out[OCT_SCHEMA_PATH], const char *above, const char *name) {
    const size_t most = OCT_SCHEMA_PATH - 1, n_above = strlen(above), n_name = strlen(name);
    size_t n = 0;
    if (n_above + 1 + n_name <= most) {
        memcpy(out, above, n_above);
        n = n_above;
        if (n > 0) out[n++] = '/';
        memcpy(out + n, name, n_name);
        n += n_name;
    } else {
        const size_t kept = n_name < most - 4 ? n_name : most - 4;
        memcpy(out, ".../", 4);
        memcpy(out + 4, name + (n_name - kept), kept);
        n = 4 + kept;
    }
    out[n] = '\0';
}

uint32_t oct_schema_rule(oct_schema *s, const json_t *schema, const char *name) {
    if (s->b->status != OCT_OK) return UINT32_MAX;
    if (s->n_items == s->cap_items && !grow_items(s)) return UINT32_MAX;
    const uint32_t slot = slot_of(s, schema);
    if (s->slots[slot]) return s->items[s->slots[slot] - 1].rule;
    if (s->n_items >= OCT_SCHEMA_MAX_ITEMS) {
        oct_schema_fail(s, name, "too many schemas (want at most %d)", OCT_SCHEMA_MAX_ITEMS);
        return UINT32_MAX;
    }
    oct_schema_item *item = &s->items[s->n_items];
    *item = (oct_schema_item){.schema = schema, .depth = s->now ? s->now->depth + 1 : 0};
    make_path(item->path, s->now ? s->now->path : "", name);
    if (item->depth > OCT_SCHEMA_MAX_DEPTH) {
        oct_schema_fail(s, name, "nests too deep (want at most %d)", OCT_SCHEMA_MAX_DEPTH);
        return UINT32_MAX;
    }
    item->rule = oct_build_rule(s->b, oct_str_of(item->path));
    s->slots[slot] = ++s->n_items;
    return item->rule;
}

oct_piece oct_schema_call(oct_schema *s, const json_t *schema, const char *name) {
    return oct_build_call(s->b, oct_schema_rule(s, schema, name));
}

/* ---- keywords ---- */

bool oct_schema_count(oct_schema *s, const json_t *schema, const char *keyword, uint64_t *out) {
    const json_t *v = json_object_get(schema, keyword);
    const double d = json_number_value(v);
    if (!v) return false;
    if (!json_is_number(v) || d < 0 || d > 1e15 || d != (double)(uint64_t)d) {
        char shown[OCT_JSON_SHOWN];
        oct_schema_fail(s, keyword, "must be a count (got %s)", oct_json_show(v, shown));
        return false;
    }
    *out = (uint64_t)d;
    return true;
}

static const char *const unsupported[] = {"not",
                                          "if",
                                          "then",
                                          "else",
                                          "dependentRequired",
                                          "dependencies",
                                          "contains",
                                          "minContains",
                                          "maxContains",
                                          "dependentSchemas",
                                          "propertyNames",
                                          "$dynamicRef",
                                          "$recursiveRef",
                                          "unevaluatedItems"};

bool oct_schema_is_unsupported(const char *keyword) {
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (strcmp(unsupported[i], keyword) == 0) return true;
    return false;
}

/* What a restriction that is not kept would be; false after a failure. */
static bool check_keywords(oct_schema *s, const json_t *schema) {
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        const json_t *v = json_object_get(schema, unsupported[i]);
        if (v && !json_is_true(v)) oct_schema_fail(s, unsupported[i], "is not supported");
    }
    if (json_is_true(json_object_get(schema, "uniqueItems")))
        oct_schema_fail(s, "uniqueItems", "is not supported");
    if (json_is_object(json_object_get(schema, "unevaluatedProperties")))
        oct_schema_fail(s, "unevaluatedProperties", "is only supported as true or false");
    return s->b->status == OCT_OK;
}

static unsigned type_bit(oct_schema *s, const json_t *name) {
    const oct_str text = oct_json_str(name);
    for (unsigned i = 0; i < sizeof type_names / sizeof *type_names; i++)
        if (oct_str_is(text, type_names[i])) return 1u << i;
    char shown[OCT_JSON_SHOWN];
    oct_schema_fail(s, "type", "no such type: %s", oct_json_show(name, shown));
    return 0;
}

/* Types that keywords of one type stand for where no type is given. */
static unsigned implied_types(const json_t *schema) {
    static const struct {
        const char *keyword;
        unsigned type;
    } of[] = {{"properties", T_OBJECT},
              {"required", T_OBJECT},
              {"additionalProperties", T_OBJECT},
              {"patternProperties", T_OBJECT},
              {"minProperties", T_OBJECT},
              {"maxProperties", T_OBJECT},
              {"items", T_ARRAY},
              {"prefixItems", T_ARRAY},
              {"additionalItems", T_ARRAY},
              {"minItems", T_ARRAY},
              {"maxItems", T_ARRAY},
              {"minLength", T_STRING},
              {"maxLength", T_STRING},
              {"pattern", T_STRING},
              {"format", T_STRING},
              {"minimum", T_NUMBER},
              {"maximum", T_NUMBER},
              {"exclusiveMinimum", T_NUMBER},
              {"exclusiveMaximum", T_NUMBER},
              {"multipleOf", T_NUMBER}};
    unsigned types = 0;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (json_object_get(schema, of[i].keyword)) types |= of[i].type;
    return types;
}

/* 0: none was given and none is implied. */
static unsigned types_of(oct_schema *s, const json_t *schema) {
    const json_t *v = json_object_get(schema, "type"), *one;
    unsigned types = 0;
    size_t i;
    if (!v) {
        types = implied_types(schema);
    } else if (json_is_array(v)) {
        json_array_foreach(v, i, one) types |= type_bit(s, one);
        if (json_array_size(v) == 0) oct_schema_fail(s, "type", "must not be empty");
    } else {
        types = type_bit(s, v);
    }
    if (types && json_is_true(json_object_get(schema, "nullable"))) types |= T_NULL;
    return types;
}

/* ---- enum and const ---- */

static unsigned type_of_value(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return T_OBJECT;
    case JSON_ARRAY:
        return T_ARRAY;
    case JSON_STRING:
        return T_STRING;
    case JSON_INTEGER:
        return T_INTEGER | T_NUMBER;
    case JSON_REAL:
        return json_real_value(v) == (double)(int64_t)json_real_value(v) ? T_INTEGER | T_NUMBER
                                                                         : T_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE:
        return T_BOOLEAN;
    case JSON_NULL:
        break;
    }
    return T_NULL;
}

static bool is_beside_enum(const char *key) {
    return strcmp(key, "enum") == 0 || strcmp(key, "const") == 0 || strcmp(key, "type") == 0 ||
           strcmp(key, "nullable") == 0 || !oct_schema_asserts(key);
}

static oct_piece enum_piece(oct_schema *s, const json_t *schema) {
    const json_t *list = json_object_get(schema, "enum"), *only = json_object_get(schema, "const");
    const oct_piece all = oct_build_nothing(s->b);
    const char *key;
    json_t *v;
    size_t i;
    json_object_foreach((json_t *)(uintptr_t)schema, key, v) {
        if (!is_beside_enum(key)) oct_schema_fail(s, key, "is not supported beside enum or const");
    }
    unsigned types = json_object_get(schema, "type") ? types_of(s, schema) : ~0u;
    if (list && (!json_is_array(list) || json_array_size(list) == 0)) {
        oct_schema_fail(s, "enum", "must be an array of values");
        return all;
    }
    if (!list) {
        if (type_of_value(only) & types) oct_build_join(s->b, all, oct_json_literal(s->j, only));
        return all;
    }
    json_array_foreach(list, i, v) {
        if (!(type_of_value(v) & types) || (only && !json_equal(only, v))) continue;
        oct_build_join(s->b, all, oct_json_literal(s->j, v));
        if (s->b->status != OCT_OK) break;
    }
    return all;
}

/* ---- alternatives ---- */

static bool has_rest(const json_t *schema, const char *without) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)schema, key, v) {
        if (strcmp(key, without) != 0 && oct_schema_asserts(key)) return true;
    }
    return false;
}

static oct_piece any_of(oct_schema *s, const json_t *schema, const char *keyword) {
    const json_t *list = json_object_get(schema, keyword), *one;
    const oct_piece all = oct_build_nothing(s->b);
    const bool rest = has_rest(schema, keyword);
    const json_t *others = NULL;
    size_t i;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        oct_schema_fail(s, keyword, "must be an array of schemas");
        return all;
    }
    if (rest) {
        json_t *copy = json_copy((json_t *)(uintptr_t)schema);
        if (copy) (void)json_object_del(copy, keyword);
        others = oct_schema_keep(s, copy);
    }
    json_array_foreach(list, i, one) {
        char name[32];
        snprintf(name, sizeof name, "%s/%zu", keyword, i);
        const json_t *each = others ? oct_schema_keep(s, oct_schema_both(others, one)) : one;
        if (s->b->status != OCT_OK) break;
        oct_build_join(s->b, all, oct_schema_call(s, each, name));
    }
    return all;
}

static oct_piece typed_piece(oct_schema *s, const json_t *schema, unsigned types) {
    const oct_piece all = oct_build_nothing(s->b);
    oct_build *b = s->b;
    if (types & T_OBJECT) oct_build_join(b, all, oct_schema_object(s, schema));
    if (types & T_ARRAY) oct_build_join(b, all, oct_schema_array(s, schema));
    if (types & T_STRING) oct_build_join(b, all, oct_schema_string(s, schema));
    if (types & T_NUMBER)
        oct_build_join(b, all, oct_schema_number(s, schema, false));
    else if (types & T_INTEGER)
        oct_build_join(b, all, oct_schema_number(s, schema, true));
    if (types & T_BOOLEAN) {
        oct_build_join(b, all, oct_build_text(b, OCT_STR("true")));
        oct_build_join(b, all, oct_build_text(b, OCT_STR("false")));
    }
    if (types & T_NULL) oct_build_join(b, all, oct_build_text(b, OCT_STR("null")));
    return all;
}

static oct_piece compile_one(oct_schema *s, const json_t *schema) {
    if (json_is_true(schema)) return oct_json_call(s->j, OCT_JSON_VALUE);
    if (json_is_false(schema)) return oct_build_nothing(s->b);
    if (!json_is_object(schema)) {
        char shown[OCT_JSON_SHOWN];
        oct_schema_fail(s, "schema", "must be an object, true or false (got %s)",
                        oct_json_show(schema, shown));
        return oct_build_nothing(s->b);
    }
    const json_t *joined = oct_schema_join(s, schema);
    if (!joined) return oct_build_nothing(s->b);
    if (joined != schema) { /* what was joined may be met again: it is one rule */
        return json_is_false(joined) ? oct_build_nothing(s->b)
                                     : oct_schema_call(s, joined, "allOf");
    }
    if (!check_keywords(s, schema)) return oct_build_nothing(s->b);
    if (json_object_get(schema, "anyOf")) return any_of(s, schema, "anyOf");
    if (json_object_get(schema, "oneOf")) return any_of(s, schema, "oneOf");
    if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
        return enum_piece(s, schema);
    const unsigned types = types_of(s, schema);
    if (s->b->status != OCT_OK) return oct_build_nothing(s->b);
    return types ? typed_piece(s, schema, types) : oct_json_call(s->j, OCT_JSON_VALUE);
}

uint32_t oct_schema_compile(oct_json_rules *j, const json_t *schema) {
    oct_schema s = {.b = j->b, .j = j, .root = schema, .made = json_array()};
    if (!s.made) OCT_BUILD_FAIL(s.b, OCT_E_NOMEM, "no memory for a grammar");
    const uint32_t root = oct_schema_rule(&s, schema, "#");
    for (uint32_t i = 0; i < s.n_items && s.b->status == OCT_OK; i++) {
        const oct_schema_item item = s.items[i]; /* the list may move */
        s.now = &item;
        const oct_piece body = compile_one(&s, item.schema);
        oct_build_define(s.b, item.rule, body);
        s.now = NULL;
    }
    json_decref(s.made);
    oct_free(j->b->mem, s.items, s.cap_items, sizeof *s.items);
    oct_free(j->b->mem, s.slots, s.n_slots, sizeof *s.slots);
    oct_free(j->b->mem, s.strings, s.cap_strings, sizeof *s.strings);
    return root;
}
