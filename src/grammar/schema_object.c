/*
 * grammar/schema_object.c - objects and arrays: their members come in the order of the schema.
 *
 * An object is a chain of places between its properties, twice: nothing was written yet, or
 * something, so that a comma is wanted. A property that may be missing has a way around it.
 */
#include <stdio.h>
#include <string.h>

#include "codec/utf8.h"
#include "grammar/regex.h"
#include "grammar/schema_parts.h"

/* ---- keys ---- */

static oct_piece quoted_key(oct_schema *s, const char *name) {
    oct_buf text;
    oct_buf_init(&text, s->b->mem, 0);
    oct_json_quote(&text, oct_str_of(name));
    if (text.failed) OCT_BUILD_FAIL(s->b, OCT_E_NOMEM, "no memory for a grammar");
    const oct_piece p = oct_build_text(s->b, oct_buf_view(&text));
    oct_buf_fini(&text);
    return p;
}

static const oct_char_range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}};

static bool is_plain(const char *name) {
    for (; *name; name++)
        if ((unsigned char)*name < 0x20 || *name == '"' || *name == '\\') return false;
    return true;
}

/* The names as a tree of characters: node k was reached from above[k] by c[k]. */
typedef struct name_tree {
    uint32_t *above, *c, *state;
    bool *is_name;
    size_t n, cap;
} name_tree;

static size_t find_node(const name_tree *t, size_t above, uint32_t c) {
    for (size_t k = above + 1; k < t->n; k++) /* names are short and few; nodes come after theirs */
        if (t->above[k] == above && t->c[k] == c) return k;
    return 0;
}

static void add_name(oct_schema *s, name_tree *t, const char *name) {
    oct_str rest = oct_str_of(name);
    size_t at = 0;
    while (rest.len > 0) {
        uint32_t c;
        size_t len, k;
        (void)oct_utf8_next(rest, &c, &len);
        rest.ptr += len;
        rest.len -= len;
        k = find_node(t, at, c);
        if (k == 0) {
            k = t->n++; /* <= cap: bytes of all names */
            t->above[k] = (uint32_t)at;
            t->c[k] = c;
            t->state[k] = oct_build_state(s->b);
        }
        at = k;
    }
    t->is_name[at] = true;
}

/* From node k: to its children by their characters, by any other away from all names. */
static void spread_node(oct_schema *s, const name_tree *t, size_t k, uint32_t away) {
    oct_char_range own[OCT_BUILD_MAX_RANGES], rest[OCT_BUILD_MAX_RANGES + 2];
    oct_build *b = s->b;
    size_t n = 0;
    own[n++] = (oct_char_range){0, 0x1F}; /* what is not plain is no way out either */
    own[n++] = (oct_char_range){'"', '"'};
    own[n++] = (oct_char_range){'\\', '\\'};
    for (size_t i = k + 1; i < t->n && b->status == OCT_OK; i++) {
        if (t->above[i] != k) continue;
        if (n == OCT_BUILD_MAX_RANGES) {
            oct_schema_fail(s, "properties", "too many names beside additionalProperties");
            return;
        }
        own[n] = (oct_char_range){t->c[i], t->c[i]};
        const oct_piece one = oct_build_chars(b, &own[n++], 1);
        oct_build_edge(b, t->state[k], one.from, OCT_EDGE_EMPTY, 0, 0, 0);
        oct_build_edge(b, one.to, t->state[i], OCT_EDGE_EMPTY, 0, 0, 0);
    }
    n = oct_char_ranges_merge(own, n);
    n = oct_char_ranges_invert(own, n, rest);
    const oct_piece others = oct_build_chars(b, rest, n);
    oct_build_edge(b, t->state[k], others.from, OCT_EDGE_EMPTY, 0, 0, 0);
    oct_build_edge(b, others.to, away, OCT_EDGE_EMPTY, 0, 0, 0);
}

/* A key that is spelled without escapes and is none of the properties: their names as a tree, which
 * is left by any other character. */
static oct_piece other_key(oct_schema *s, const json_t *properties) {
    enum { MOST = 4096 }; /* characters of all names: the tree is searched in order */
    oct_build *b = s->b;
    const char *name;
    json_t *v;
    name_tree t = {.cap = 1};
    if (json_object_size(properties) == 0) return oct_json_call(s->j, OCT_JSON_STRING);
    json_object_foreach((json_t *)(uintptr_t)properties, name, v) t.cap += strlen(name);
    if (t.cap > MOST)
        oct_schema_fail(s, "additionalProperties",
                        "too many names beside it (want at most %d bytes)", MOST);
    const oct_piece p = oct_build_nothing(b);
    const uint32_t away = oct_build_state(b);
    if (b->status != OCT_OK) return p;
    uint32_t *words = oct_calloc(b->mem, t.cap, 3 * sizeof *words);
    t.is_name = oct_calloc(b->mem, t.cap, sizeof *t.is_name);
    if (words && t.is_name) {
        t.above = words;
        t.c = words + t.cap;
        t.state = words + 2 * t.cap;
        t.state[t.n++] = oct_build_state(b);
        json_object_foreach((json_t *)(uintptr_t)properties, name, v) {
            if (is_plain(name)) add_name(s, &t, name);
        }
        oct_build_edge(b, p.from, t.state[0], OCT_EDGE_BYTES, '"', '"', 0);
        for (size_t k = 0; k < t.n && b->status == OCT_OK; k++) {
            spread_node(s, &t, k, away);
            if (!t.is_name[k]) oct_build_edge(b, t.state[k], p.to, OCT_EDGE_BYTES, '"', '"', 0);
        }
        const oct_piece any = oct_build_chars(b, plain, 3);
        oct_build_edge(b, away, any.from, OCT_EDGE_EMPTY, 0, 0, 0);
        oct_build_edge(b, any.to, away, OCT_EDGE_EMPTY, 0, 0, 0);
        oct_build_edge(b, away, p.to, OCT_EDGE_BYTES, '"', '"', 0);
    } else {
        OCT_BUILD_FAIL(b, OCT_E_NOMEM, "no memory for a grammar");
    }
    oct_free(b->mem, words, words ? t.cap : 0, 3 * sizeof *words);
    oct_free(b->mem, t.is_name, t.is_name ? t.cap : 0, sizeof *t.is_name);
    return p;
}

/* ---- members ---- */

typedef struct chain {
    uint32_t none, some;     /* places: no member was written yet, or some */
    bool may_none, may_some; /* whether they can be reached */
} chain;

static void go(oct_build *b, uint32_t from, uint32_t to) {
    oct_build_edge(b, from, to, OCT_EDGE_EMPTY, 0, 0, 0);
}

/* A member between the places of c and the place `to`. */
static void add_member(oct_schema *s, const chain *c, oct_piece member, uint32_t to) {
    if (c->may_none) go(s->b, c->none, member.from);
    if (c->may_some) {
        const oct_piece comma = oct_json_spaced(s->j, ",");
        go(s->b, c->some, comma.from);
        go(s->b, comma.to, member.from);
    }
    go(s->b, member.to, to);
}

static oct_piece member_of(oct_schema *s, oct_piece key, const json_t *schema, const char *name) {
    const oct_piece p = oct_build_cat(s->b, key, oct_json_spaced(s->j, ":"));
    return oct_build_cat(s->b, p, oct_schema_call(s, schema, name));
}

static bool is_required(const json_t *required, const char *name) {
    const json_t *v;
    size_t i;
    json_array_foreach(required, i, v) {
        if (oct_str_is(oct_json_str(v), name)) return true;
    }
    return false;
}

static void check_members(oct_schema *s, const json_t *properties, const json_t *required) {
    const json_t *v;
    size_t i;
    if (properties && !json_is_object(properties))
        oct_schema_fail(s, "properties", "must be an object");
    if (required && !json_is_array(required)) oct_schema_fail(s, "required", "must be an array");
    if (json_array_size(required) > 0 && json_object_size(properties) > 0 &&
        json_array_size(required) * json_object_size(properties) > 4000000)
        oct_schema_fail(s, "required", "too many names");
    json_array_foreach(required, i, v) {
        if (!json_is_string(v)) oct_schema_fail(s, "required", "must be names");
    }
}

/* One property: a way through it, and one around it where it may be missing. */
static void add_property(oct_schema *s, chain *c, const char *name, const json_t *schema,
                         bool required) {
    oct_build *b = s->b;
    if (json_is_false(schema)) {
        if (required) c->may_none = c->may_some = false;
        return;
    }
    const oct_piece member = member_of(s, quoted_key(s, name), schema, name);
    chain after = {oct_build_state(b), oct_build_state(b), false, true};
    add_member(s, c, member, after.some);
    if (!required) {
        if (c->may_none) go(b, c->none, after.none);
        if (c->may_some) go(b, c->some, after.some);
        after.may_none = c->may_none;
    }
    *c = after;
}

/* ---- objects ---- */

typedef struct object {
    const json_t *properties, *required;
    const json_t *extra;   /* schema of other properties; NULL: there are none */
    const json_t *pattern; /* their names match this; NULL: any */
    uint64_t min, max;
} object;

static void read_patterns(oct_schema *s, const json_t *schema, object *o) {
    json_t *patterns = json_object_get(schema, "patternProperties"), *v;
    const char *key;
    if (!patterns) return;
    if (!json_is_object(patterns)) {
        oct_schema_fail(s, "patternProperties", "must be an object");
        return;
    }
    if (json_object_size(patterns) == 0) return;
    if (json_object_size(patterns) > 1 || json_object_size(o->properties) > 0) {
        oct_schema_fail(s, "patternProperties",
                        "is only supported as one pattern without properties");
        return;
    }
    json_object_foreach(patterns, key, v) {
        o->extra = v;
        o->pattern = oct_schema_keep(s, json_string(key));
    }
}

/* Properties that are required and not named are named here. */
static void name_required(oct_schema *s, object *o) {
    const json_t *v;
    json_t *all = NULL;
    size_t i;
    json_array_foreach(o->required, i, v) {
        if (json_object_get(o->properties, json_string_value(v))) continue;
        if (!all)
            all = o->properties ? json_copy((json_t *)(uintptr_t)o->properties) : json_object();
        if (!all) break;
        (void)json_object_set_new(all, json_string_value(v),
                                  o->extra ? json_incref((json_t *)(uintptr_t)o->extra)
                                           : json_false());
    }
    if (all) o->properties = oct_schema_keep(s, all);
}

static void check_counts(oct_schema *s, const object *o, uint64_t n_required) {
    const uint64_t n = json_object_size(o->properties);
    const bool map = o->extra && n == 0;
    if (o->min > n_required && !(map && o->min <= 1))
        oct_schema_fail(s, "minProperties", "more than the required ones is not supported");
    if (o->max < n_required) oct_schema_fail(s, "maxProperties", "less than the required ones");
    if (!map && o->max < (o->extra ? UINT64_MAX : n))
        oct_schema_fail(s, "maxProperties", "less than the named ones is not supported");
    if (map && o->max != UINT64_MAX && o->max > OCT_SCHEMA_MAX_COUNT)
        oct_schema_fail(s, "maxProperties", "too many (want at most %d)", OCT_SCHEMA_MAX_COUNT);
}

static void read_object(oct_schema *s, const json_t *schema, object *o) {
    const json_t *extra = json_object_get(schema, "additionalProperties");
    const json_t *strict = json_object_get(schema, "unevaluatedProperties");
    *o = (object){.properties = json_object_get(schema, "properties"),
                  .required = json_object_get(schema, "required"),
                  .max = UINT64_MAX};
    check_members(s, o->properties, o->required);
    if (s->b->status != OCT_OK) return;
    (void)oct_schema_count(s, schema, "minProperties", &o->min);
    (void)oct_schema_count(s, schema, "maxProperties", &o->max);
    /* Without a word about others there are others only where none is named. */
    o->extra = extra;
    if (!extra && !json_is_false(strict)) o->extra = json_true();
    uint64_t n_required = json_array_size(o->required);
    const bool named = json_object_size(o->properties) > 0;
    if (json_is_false(o->extra)) o->extra = NULL;
    read_patterns(s, schema, o);
    if (!o->pattern)
        name_required(s, o);
    else if (n_required > 0)
        oct_schema_fail(s, "required", "is not supported beside patternProperties");
    if ((!extra && named) || (s->j->style->no_additional && json_object_size(o->properties) > 0))
        o->extra = NULL;
    check_counts(s, o, n_required);
}

static oct_piece extra_member(oct_schema *s, const object *o) {
    oct_piece key;
    if (o->pattern) {
        key = oct_build_text(s->b, OCT_STR("\""));
        key = oct_build_cat(s->b, key,
                            oct_regex_piece(s->b, oct_json_str(o->pattern), OCT_REGEX_JSON_SEARCH,
                                            "patternProperties"));
        key = oct_build_cat(s->b, key, oct_build_text(s->b, OCT_STR("\"")));
    } else {
        key = other_key(s, o->properties);
    }
    return member_of(s, key, o->extra, o->pattern ? "patternProperties" : "additionalProperties");
}

static void add_extras(oct_schema *s, const object *o, chain *c) {
    oct_build *b = s->b;
    if (o->max == UINT64_MAX) {
        const oct_piece member = extra_member(s, o);
        const uint32_t some = oct_build_state(b);
        if (c->may_some) go(b, c->some, some);
        const chain from = {c->none, some, c->may_none, true};
        add_member(s, &from, member, some);
        c->some = some;
        c->may_some = true;
    } else { /* a map: so many members, each after another but the first */
        for (uint64_t i = 0; i < o->max && b->status == OCT_OK; i++) {
            const oct_piece member = extra_member(s, o);
            chain after = {c->none, oct_build_state(b), c->may_none, true};
            const chain from = {c->none, c->some, i == 0 && c->may_none, i > 0};
            add_member(s, &from, member, after.some);
            if (i > 0) go(b, c->some, after.some);
            *c = after;
        }
    }
    if (o->min == 1 && json_object_size(o->properties) == 0) c->may_none = false;
}

oct_piece oct_schema_object(oct_schema *s, const json_t *schema) {
    oct_build *b = s->b;
    object o;
    const char *name;
    json_t *v;
    oct_piece p = oct_build_nothing(b);
    read_object(s, schema, &o);
    if (b->status != OCT_OK) return p;
    oct_piece open = oct_build_text(b, OCT_STR("{"));
    open = oct_build_cat(b, open, oct_json_blanks(s->j));
    chain c = {oct_build_state(b), oct_build_state(b), true, false};
    go(b, p.from, open.from);
    go(b, open.to, c.none);
    json_object_foreach((json_t *)(uintptr_t)o.properties, name, v) {
        add_property(s, &c, name, v, is_required(o.required, name));
        if (b->status != OCT_OK) return p;
    }
    if (o.extra && o.max > 0) add_extras(s, &o, &c);
    const oct_piece close = oct_build_text(b, OCT_STR("}"));
    const oct_piece blanks = oct_json_blanks(s->j);
    if (c.may_none) go(b, c.none, close.from);
    if (c.may_some) go(b, c.some, blanks.from);
    go(b, blanks.to, close.from);
    go(b, close.to, p.to);
    return p;
}

/* ---- arrays ---- */

typedef struct array {
    const json_t *first; /* array of schemas, or NULL */
    const json_t *rest;  /* NULL: nothing behind them */
    uint64_t min, max;
} array;

static void read_array(oct_schema *s, const json_t *schema, array *a) {
    const json_t *items = json_object_get(schema, "items");
    const json_t *first = json_object_get(schema, "prefixItems");
    const json_t *rest = items;
    *a = (array){.max = UINT64_MAX};
    if (json_is_array(items)) { /* as it was before 2020 */
        first = items;
        rest = json_object_get(schema, "additionalItems");
    }
    if (first && !json_is_array(first)) oct_schema_fail(s, "prefixItems", "must be an array");
    a->first = first;
    a->rest = !rest ? json_true() : json_is_false(rest) ? NULL : rest;
    (void)oct_schema_count(s, schema, "minItems", &a->min);
    (void)oct_schema_count(s, schema, "maxItems", &a->max);
    if (!a->rest && a->max > json_array_size(a->first)) a->max = json_array_size(a->first);
    if (a->min > a->max) oct_schema_fail(s, "minItems", "more than there can be");
    if (a->min > OCT_SCHEMA_MAX_COUNT)
        oct_schema_fail(s, "minItems", "too many (want at most %d)", OCT_SCHEMA_MAX_COUNT);
    if (a->max != UINT64_MAX && a->max > OCT_SCHEMA_MAX_COUNT) a->max = OCT_SCHEMA_MAX_COUNT;
}

oct_piece oct_schema_array(oct_schema *s, const json_t *schema) {
    oct_build *b = s->b;
    array a;
    char name[32];
    const oct_piece p = oct_build_nothing(b);
    read_array(s, schema, &a);
    if (b->status != OCT_OK) return p;
    const size_t n_first = json_array_size(a.first);
    uint64_t n = a.max; /* places that are told apart */
    if (n == UINT64_MAX) n = (a.min > n_first ? a.min : n_first) + (a.rest ? 1 : 0);
    oct_piece open = oct_build_text(b, OCT_STR("["));
    const oct_piece close = oct_build_text(b, OCT_STR("]")), blanks = oct_json_blanks(s->j);
    open = oct_build_cat(b, open, oct_json_blanks(s->j));
    go(b, p.from, open.from);
    go(b, blanks.to, close.from);
    go(b, close.to, p.to);
    if (a.min == 0) go(b, open.to, close.from);
    uint32_t at = open.to;
    for (uint64_t i = 0; i < n && b->status == OCT_OK; i++) {
        const json_t *each = i < n_first ? json_array_get(a.first, i) : a.rest;
        snprintf(name, sizeof name, "prefixItems/%u", (unsigned)i);
        const oct_piece element = oct_schema_call(s, each, i < n_first ? name : "items");
        if (i > 0) {
            const oct_piece comma = oct_json_spaced(s->j, ",");
            go(b, at, comma.from);
            go(b, comma.to, element.from);
        } else {
            go(b, at, element.from);
        }
        at = element.to;
        if (i + 1 >= a.min) go(b, at, blanks.from);
        if (i + 1 == n && a.max == UINT64_MAX && a.rest) { /* any number of them */
            const oct_piece comma = oct_json_spaced(s->j, ",");
            go(b, at, comma.from);
            go(b, comma.to, element.from);
        }
    }
    return p;
}
