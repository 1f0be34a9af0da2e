/*
 * grammar/schema_join.c - $ref and allOf: several schemas that all hold become one.
 *
 * The parts are gathered in a list until none refers to another, then joined keyword by keyword.
 * Where two parts say something about the same property or element, that becomes an allOf of its
 * own and is joined when it is compiled.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/schema_parts.h"

bool oct_schema_asserts(const char *keyword) {
    static const char *const all[] = {"type",
                                      "properties",
                                      "required",
                                      "additionalProperties",
                                      "items",
                                      "patternProperties",
                                      "minProperties",
                                      "maxProperties",
                                      "prefixItems",
                                      "additionalItems",
                                      "minItems",
                                      "maxItems",
                                      "enum",
                                      "const",
                                      "anyOf",
                                      "oneOf",
                                      "allOf",
                                      "$ref",
                                      "minLength",
                                      "maxLength",
                                      "pattern",
                                      "format",
                                      "minimum",
                                      "maximum",
                                      "exclusiveMinimum",
                                      "exclusiveMaximum",
                                      "multipleOf",
                                      "nullable",
                                      "uniqueItems",
                                      "unevaluatedProperties"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i], keyword) == 0) return true;
    return oct_schema_is_unsupported(keyword);
}

json_t *oct_schema_both(const json_t *a, const json_t *b) {
    return json_pack("{s:[OO]}", "allOf", a, b);
}

/* ---- references ---- */

/* One step of a pointer, its escapes undone, into out; false: it does not end in time. */
static bool read_step(const char **at, char *out, size_t size) {
    size_t n = 0;
    const char *p = *at;
    for (; *p && *p != '/'; p++) {
        char c = *p;
        if (c == '~' && (p[1] == '0' || p[1] == '1')) {
            c = p[1] == '0' ? '~' : '/';
            p++;
        } else if (c == '%' && p[1] && p[2]) {
            const char hex[3] = {p[1], p[2], 0};
            char *end;
            const long v = strtol(hex, &end, 16);
            if (*end == 0) {
                c = (char)v;
                p += 2;
            }
        }
        if (n + 1 == size) return false;
        out[n++] = c;
    }
    out[n] = 0;
    *at = p;
    return true;
}

static const json_t *step_into(const json_t *at, const char *step) {
    if (json_is_object(at)) return json_object_get(at, step);
    if (!json_is_array(at) || !*step) return NULL;
    char *end;
    const unsigned long i = strtoul(step, &end, 10);
    return *end ? NULL : json_array_get(at, i);
}

/* Only places in this schema; nothing is fetched. */
static const json_t *find_ref(oct_schema *s, const json_t *ref) {
    const char *text = json_string_value(ref), *p = text;
    const json_t *at = s->root;
    char step[256], shown[OCT_JSON_SHOWN];
    if (!text || *p++ != '#') {
        oct_schema_fail(s, "$ref",
                        "only places in the schema itself (#/...) are supported (got %s)",
                        oct_json_show(ref, shown));
        return NULL;
    }
    while (at && *p == '/') {
        p++;
        at = read_step(&p, step, sizeof step) ? step_into(at, step) : NULL;
    }
    if (!at || *p) {
        oct_schema_fail(s, "$ref", "no such place (got %s)", oct_json_show(ref, shown));
        return NULL;
    }
    return at;
}

/* ---- gathering ---- */

typedef struct parts {
    const json_t *todo[OCT_SCHEMA_MAX_PARTS], *done[OCT_SCHEMA_MAX_PARTS];
    const json_t *seen[OCT_SCHEMA_MAX_PARTS]; /* references that were followed */
    size_t n_todo, n_done, n_seen;
    bool impossible;
} parts;

static bool put(oct_schema *s, const json_t **list, size_t *n, const json_t *schema) {
    if (*n == OCT_SCHEMA_MAX_PARTS) {
        oct_schema_fail(s, "allOf", "too many schemas in one (want at most %d)",
                        OCT_SCHEMA_MAX_PARTS);
        return false;
    }
    list[(*n)++] = schema;
    return true;
}

/* schema without a keyword; NULL when nothing is left that restricts. */
static const json_t *rest_of(oct_schema *s, const json_t *schema, const char *without) {
    const char *key;
    json_t *v;
    bool any = false;
    json_object_foreach((json_t *)(uintptr_t)schema, key, v) {
        any = any || (strcmp(key, without) != 0 && oct_schema_asserts(key));
    }
    if (!any) return NULL;
    json_t *copy = json_copy((json_t *)(uintptr_t)schema);
    if (copy) (void)json_object_del(copy, without);
    return oct_schema_keep(s, copy);
}

static void follow_ref(oct_schema *s, parts *p, const json_t *schema) {
    const json_t *target = find_ref(s, json_object_get(schema, "$ref"));
    const json_t *rest = rest_of(s, schema, "$ref");
    if (rest) (void)put(s, p->todo, &p->n_todo, rest);
    for (size_t i = 0; i < p->n_seen; i++)
        if (p->seen[i] == target) {
            oct_schema_fail(s, "$ref", "leads back to itself");
            return;
        }
    if (target && put(s, p->seen, &p->n_seen, target)) (void)put(s, p->todo, &p->n_todo, target);
}

static void open_all(oct_schema *s, parts *p, const json_t *schema) {
    const json_t *list = json_object_get(schema, "allOf"), *one;
    const json_t *rest = rest_of(s, schema, "allOf");
    size_t i;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        oct_schema_fail(s, "allOf", "must be an array of schemas");
        return;
    }
    if (rest) (void)put(s, p->todo, &p->n_todo, rest);
    for (i = json_array_size(list); i-- > 0;) { /* the first is taken first */
        one = json_array_get(list, i);
        if (!put(s, p->todo, &p->n_todo, one)) return;
    }
}

static void gather(oct_schema *s, parts *p, const json_t *schema) {
    (void)put(s, p->todo, &p->n_todo, schema);
    while (p->n_todo > 0 && s->b->status == OCT_OK) {
        const json_t *at = p->todo[--p->n_todo];
        if (json_is_true(at)) continue;
        if (json_is_false(at)) {
            p->impossible = true;
        } else if (!json_is_object(at)) {
            oct_schema_fail(s, "allOf", "must be schemas");
        } else if (json_object_get(at, "$ref")) {
            follow_ref(s, p, at);
        } else if (json_object_get(at, "allOf")) {
            open_all(s, p, at);
        } else {
            (void)put(s, p->done, &p->n_done, at);
        }
    }
}

/* ---- joining ---- */

static bool set_new(json_t *into, const char *key, json_t *value) {
    return json_object_set_new(into, key, value) == 0;
}

static json_t *type_list(const json_t *schema) {
    const json_t *v = json_object_get(schema, "type");
    json_t *list = json_is_array(v) ? json_copy((json_t *)(uintptr_t)v) : json_pack("[O]", v);
    if (list && json_is_true(json_object_get(schema, "nullable")))
        (void)json_array_append_new(list, json_string("null"));
    return list;
}

/* Types of both lists; a whole number is a number. */
static json_t *join_types(const json_t *a, const json_t *b) {
    json_t *out = json_array();
    const json_t *x, *y;
    size_t i, k;
    json_array_foreach(a, i, x) {
        json_array_foreach(b, k, y) {
            const oct_str s = oct_json_str(x), t = oct_json_str(y);
            const json_t *less = NULL;
            if (oct_str_eq(s, t)) less = x;
            if (oct_str_is(s, "integer") && oct_str_is(t, "number")) less = x;
            if (oct_str_is(s, "number") && oct_str_is(t, "integer")) less = y;
            if (less && out) (void)json_array_append(out, (json_t *)(uintptr_t)less);
        }
    }
    return out;
}

static bool holds(const json_t *list, const json_t *value) {
    const json_t *one;
    size_t i;
    json_array_foreach(list, i, one) {
        if (json_equal(one, value)) return true;
    }
    return false;
}

static json_t *join_lists(const json_t *a, const json_t *b, bool both) {
    json_t *out = json_array();
    json_t *v;
    size_t i;
    json_array_foreach(a, i, v) {
        if (out && (!both || holds(b, v))) (void)json_array_append(out, v);
    }
    json_array_foreach(b, i, v) {
        if (out && !both && !holds(a, v)) (void)json_array_append(out, v);
    }
    return out;
}

/* What a's additionalProperties says about the property `name`, which only b names. */
static void restrict_other(json_t *properties, const char *name, const json_t *extra) {
    json_t *v = json_object_get(properties, name);
    if (!extra || json_is_true(extra) || !v) return;
    (void)set_new(properties, name,
                  json_is_false(extra) ? json_false() : oct_schema_both(v, extra));
}

static void join_properties(json_t *into, const json_t *part) {
    const json_t *a = json_object_get(into, "properties"), *b = json_object_get(part, "properties");
    const json_t *extra_a = json_object_get(into, "additionalProperties");
    const json_t *extra_b = json_object_get(part, "additionalProperties");
    json_t *all = a ? json_copy((json_t *)(uintptr_t)a) : json_object();
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)b, key, v) {
        const json_t *old = json_object_get(a, key);
        if (!all) break;
        (void)set_new(all, key, old && old != v ? oct_schema_both(old, v) : json_incref(v));
        if (!old) restrict_other(all, key, extra_a);
    }
    json_object_foreach((json_t *)(uintptr_t)a, key, v) {
        if (all && !json_object_get(b, key)) restrict_other(all, key, extra_b);
    }
    if (a || b)
        (void)set_new(into, "properties", all);
    else
        json_decref(all);
    if (!extra_b || json_is_true(extra_b)) {
        if (extra_b && !extra_a) (void)set_new(into, "additionalProperties", json_true());
        return;
    }
    json_t *extra = json_incref((json_t *)(uintptr_t)extra_b);
    if (json_is_false(extra_a)) {
        json_decref(extra);
        extra = json_false();
    } else if (json_is_object(extra_a) && !json_is_false(extra_b) && extra_a != extra_b) {
        json_decref(extra);
        extra = oct_schema_both(extra_a, extra_b);
    }
    (void)set_new(into, "additionalProperties", extra);
}

static bool is_one_of(const char *key, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], key) == 0) return true;
    return false;
}
#define IS_ONE_OF(key, list) is_one_of((key), (list), sizeof(list) / sizeof *(list))

static void join_keyword(oct_schema *s, json_t *into, const char *key, json_t *v) {
    static const char *const least[] = {"minLength", "minItems", "minProperties", "minimum",
                                        "exclusiveMinimum"};
    static const char *const most[] = {"maxLength", "maxItems", "maxProperties", "maximum",
                                       "exclusiveMaximum"};
    static const char *const elements[] = {"items", "additionalItems"};
    json_t *old = json_object_get(into, key);
    if (!old) {
        (void)json_object_set(into, key, v);
    } else if (json_equal(old, v)) {
        return;
    } else if (strcmp(key, "enum") == 0) {
        (void)set_new(into, key, join_lists(old, v, true));
        if (json_array_size(json_object_get(into, key)) == 0)
            oct_schema_fail(s, key, "allOf leaves no value");
    } else if (strcmp(key, "required") == 0) {
        (void)set_new(into, key, join_lists(old, v, false));
    } else if (json_is_number(old) && json_is_number(v) && IS_ONE_OF(key, least)) {
        if (json_number_value(v) > json_number_value(old)) (void)json_object_set(into, key, v);
    } else if (json_is_number(old) && json_is_number(v) && IS_ONE_OF(key, most)) {
        if (json_number_value(v) < json_number_value(old)) (void)json_object_set(into, key, v);
    } else if (IS_ONE_OF(key, elements)) {
        (void)set_new(into, key, oct_schema_both(old, v));
    } else if (strcmp(key, "uniqueItems") == 0) {
        (void)set_new(into, key, json_true());
    } else if (strcmp(key, "unevaluatedProperties") == 0) {
        (void)set_new(into, key, json_false());
    } else {
        oct_schema_fail(s, key,
                        "two different ones hold at once (allOf or $ref), which is not supported");
    }
}

static void join_part(oct_schema *s, json_t *into, const json_t *part) {
    const char *key;
    json_t *v;
    join_properties(into, part);
    json_object_foreach((json_t *)(uintptr_t)part, key, v) {
        if (!oct_schema_asserts(key) || strcmp(key, "properties") == 0 ||
            strcmp(key, "additionalProperties") == 0 || strcmp(key, "type") == 0 ||
            strcmp(key, "nullable") == 0)
            continue;
        join_keyword(s, into, key, v);
    }
    if (!json_object_get(part, "type")) return;
    json_t *types = type_list(part);
    const json_t *old = json_object_get(into, "type");
    if (old) {
        json_t *both = join_types(old, types);
        json_decref(types);
        types = both;
    }
    (void)set_new(into, "type", types);
}

const json_t *oct_schema_join(oct_schema *s, const json_t *schema) {
    if (!json_object_get(schema, "$ref") && !json_object_get(schema, "allOf")) return schema;
    parts *p = oct_calloc(s->b->mem, 1, sizeof *p);
    if (!p) {
        OCT_BUILD_FAIL(s->b, OCT_E_NOMEM, "no memory for a grammar");
        return NULL;
    }
    gather(s, p, schema);
    const json_t *out = NULL;
    if (s->b->status == OCT_OK && p->impossible) {
        out = json_false();
    } else if (s->b->status == OCT_OK && p->n_done == 0) {
        out = json_true();
    } else if (s->b->status == OCT_OK && p->n_done == 1) {
        out = p->done[0];
    } else if (s->b->status == OCT_OK) {
        json_t *all = json_object();
        for (size_t i = 0; i < p->n_done && all; i++) join_part(s, all, p->done[i]);
        const json_t *types = json_object_get(all, "type");
        const bool none = types && json_array_size(types) == 0;
        out = oct_schema_keep(s, all);
        if (none) out = json_false();
    }
    oct_free(s->b->mem, p, 1, sizeof *p);
    return s->b->status == OCT_OK ? out : NULL;
}
