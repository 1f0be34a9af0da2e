/*
 * text/template_value.c - values of a template: making, comparing, looking up.
 *
 * A dict keeps insertion order in two arrays; from INDEX_FROM keys on an open-addressing index
 * finds them. Keys that are equal in Python (1, 1.0, True) hash alike here.
 *
 * Comparing walks nested values by recursion: oct_tmpl_deep bounds it.
 */
#include <math.h>

#include "base/assert.h"
#include "codec/utf8.h"
#include "text/template_priv.h"

enum { INDEX_FROM = 9 };

/* ---- making ---- */

tmpl_val oct_tmpl_str(oct_str s) {
    return (tmpl_val){.kind = TMPL_STR, .len = (uint32_t)s.len, .u.s = s.ptr ? s.ptr : ""};
}

tmpl_val oct_tmpl_cstr(const char *s) { return oct_tmpl_str(oct_str_of(s)); }

bool oct_tmpl_str_copy(tmpl_ctx *c, oct_str s, tmpl_val *out) {
    if (s.len > UINT32_MAX / 2) return oct_tmpl_limit(c);
    char *p = oct_tmpl_alloc(c, s.len + 1, 1);
    if (!p || !oct_tmpl_work(c, s.len)) return false;
    if (s.len) memcpy(p, s.ptr, s.len);
    *out = oct_tmpl_str((oct_str){p, s.len});
    return true;
}

static bool make_undef(tmpl_ctx *c, tmpl_undef u, tmpl_val *out) {
    tmpl_undef *p = oct_tmpl_alloc(c, 1, sizeof *p);
    if (!p) return false;
    *p = u;
    *out = (tmpl_val){.kind = TMPL_UNDEF, .u.undef = p};
    return true;
}

bool oct_tmpl_undef(tmpl_ctx *c, oct_str name, tmpl_val owner, tmpl_val *out) {
    return make_undef(c, (tmpl_undef){.name = name, .owner = owner.kind}, out);
}

bool oct_tmpl_undef_why(tmpl_ctx *c, const char *why, tmpl_val *out) {
    return make_undef(c, (tmpl_undef){.why = why}, out);
}

bool oct_tmpl_list_new(tmpl_ctx *c, uint32_t cap, tmpl_kind kind, tmpl_val *out) {
    tmpl_list *l = oct_tmpl_alloc(c, 1, sizeof *l);
    if (!l) return false;
    if (cap) {
        l->at = oct_tmpl_alloc(c, cap, sizeof *l->at);
        if (!l->at) return false;
        l->cap = cap;
    }
    *out = (tmpl_val){.kind = (uint8_t)kind, .u.list = l};
    return true;
}

bool oct_tmpl_list_add(tmpl_ctx *c, tmpl_list *l, tmpl_val v) {
    if (l->n == l->cap) {
        if (l->cap > UINT32_MAX / 4) return oct_tmpl_limit(c);
        const uint32_t cap = l->cap ? l->cap * 2 : 8;
        tmpl_val *at = oct_tmpl_alloc(c, cap, sizeof *at);
        if (!at) return false;
        if (l->n) memcpy(at, l->at, l->n * sizeof *at);
        l->at = at;
        l->cap = cap;
    }
    l->at[l->n++] = v;
    return true;
}

bool oct_tmpl_pair(tmpl_ctx *c, tmpl_val a, tmpl_val b, tmpl_val *out) {
    if (!oct_tmpl_list_new(c, 2, TMPL_TUPLE, out)) return false;
    out->u.list->at[0] = a;
    out->u.list->at[1] = b;
    out->u.list->n = 2;
    return true;
}

bool oct_tmpl_dict_new(tmpl_ctx *c, tmpl_kind kind, tmpl_val *out) {
    tmpl_dict *d = oct_tmpl_alloc(c, 1, sizeof *d);
    if (!d) return false;
    *out = (tmpl_val){.kind = (uint8_t)kind, .u.dict = d};
    return true;
}

/* ---- dicts ---- */

static uint64_t mix(uint64_t h) {
    h ^= h >> 31;
    h *= 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t hash(tmpl_val v) {
    uint64_t h = v.kind;
    switch (v.kind) {
    case TMPL_STR:
        h = 0xCBF29CE484222325u;
        for (uint32_t i = 0; i < v.len; i++) h = (h ^ (unsigned char)v.u.s[i]) * 0x100000001B3u;
        return mix(h);
    case TMPL_BOOL:
    case TMPL_INT:
    case TMPL_FLOAT: {
        const double f = tmpl_as_f64(v);
        if (fabs(f) < 9e15 && f == floor(f)) return mix((uint64_t)(int64_t)f);
        memcpy(&h, &f, sizeof h);
        return mix(h);
    }
    default:
        return mix(h); /* tuples share a chain; they are rare as keys */
    }
}

bool oct_tmpl_hashable(tmpl_val key) {
    if (key.kind == TMPL_TUPLE) {
        for (uint32_t i = 0; i < key.u.list->n; i++)
            if (key.u.list->at[i].kind == TMPL_TUPLE || !oct_tmpl_hashable(key.u.list->at[i]))
                return false;
        return true;
    }
    return key.kind == TMPL_STR || key.kind == TMPL_NONE || tmpl_is_num(key);
}

static bool num_equal(tmpl_val a, tmpl_val b) {
    int64_t x, y;
    if (tmpl_as_int(a, &x) && tmpl_as_int(b, &y)) return x == y;
    return tmpl_as_f64(a) == tmpl_as_f64(b);
}

static bool str_equal(tmpl_val a, tmpl_val b) {
    return a.len == b.len && memcmp(a.u.s, b.u.s, a.len) == 0;
}

static bool key_equal(tmpl_val a, tmpl_val b) {
    if (a.kind == TMPL_STR && b.kind == TMPL_STR) return str_equal(a, b);
    if (tmpl_is_num(a) && tmpl_is_num(b)) return num_equal(a, b);
    if (a.kind != b.kind) return false;
    if (a.kind == TMPL_NONE) return true;
    OCT_ASSERT(a.kind == TMPL_TUPLE); /* a is a key, and holds no tuple: oct_tmpl_hashable */
    if (a.u.list->n != b.u.list->n) return false;
    for (uint32_t i = 0; i < a.u.list->n; i++)
        if (!key_equal(a.u.list->at[i], b.u.list->at[i])) return false;
    return true;
}

tmpl_val *oct_tmpl_dict_get(const tmpl_dict *d, tmpl_val key) {
    if (!d->index) {
        for (uint32_t i = 0; i < d->n; i++)
            if (key_equal(d->keys[i], key)) return &d->vals[i];
        return NULL;
    }
    const uint32_t mask = d->index_cap - 1;
    for (uint32_t at = (uint32_t)hash(key) & mask; d->index[at]; at = (at + 1) & mask)
        if (key_equal(d->keys[d->index[at] - 1], key)) return &d->vals[d->index[at] - 1];
    return NULL;
}

static void index_add(tmpl_dict *d, uint32_t slot) {
    const uint32_t mask = d->index_cap - 1;
    uint32_t at = (uint32_t)hash(d->keys[slot]) & mask;
    while (d->index[at]) at = (at + 1) & mask;
    d->index[at] = slot + 1;
}

static bool dict_grow(tmpl_ctx *c, tmpl_dict *d) {
    if (d->cap > UINT32_MAX / 16) return oct_tmpl_limit(c);
    const uint32_t cap = d->cap ? d->cap * 2 : INDEX_FROM - 1;
    tmpl_val *keys = oct_tmpl_alloc(c, cap, sizeof *keys);
    tmpl_val *vals = oct_tmpl_alloc(c, cap, sizeof *vals);
    if (!keys || !vals) return false;
    if (d->n) {
        memcpy(keys, d->keys, d->n * sizeof *keys);
        memcpy(vals, d->vals, d->n * sizeof *vals);
    }
    d->keys = keys;
    d->vals = vals;
    d->cap = cap;
    if (cap < INDEX_FROM) return true;

    d->index = oct_tmpl_alloc(c, (size_t)cap * 2, sizeof *d->index); /* at most half full */
    if (!d->index) return false;
    d->index_cap = cap * 2;
    for (uint32_t i = 0; i < d->n; i++) index_add(d, i);
    return true;
}

bool oct_tmpl_dict_set(tmpl_ctx *c, tmpl_dict *d, tmpl_val key, tmpl_val v) {
    if (!oct_tmpl_hashable(key))
        return oct_tmpl_fail_type(c, "unhashable type: '%s'", oct_tmpl_type_name(key));
    tmpl_val *old = oct_tmpl_dict_get(d, key);
    if (old) return (*old = v), true;
    if (d->n == d->cap && !dict_grow(c, d)) return false;
    OCT_ASSERT(d->keys && d->vals);
    d->keys[d->n] = key;
    d->vals[d->n++] = v;
    if (d->index) index_add(d, d->n - 1);
    return true;
}

/* ---- asking ---- */

bool oct_tmpl_truth(tmpl_val v) {
    switch (v.kind) {
    case TMPL_ABSENT:
    case TMPL_UNDEF:
    case TMPL_NONE:
        return false;
    case TMPL_BOOL:
        return v.u.b;
    case TMPL_INT:
        return v.u.i != 0;
    case TMPL_FLOAT:
        return v.u.f != 0;
    case TMPL_STR:
        return v.len > 0;
    case TMPL_LIST:
    case TMPL_TUPLE:
        return v.u.list->n > 0;
    case TMPL_DICT:
        return v.u.dict->n > 0;
    default:
        return true;
    }
}

const char *oct_tmpl_type_name(tmpl_val v) {
    static const char *const names[] = {
        [TMPL_ABSENT] = "NoneType",  [TMPL_UNDEF] = "Undefined",
        [TMPL_NONE] = "NoneType",    [TMPL_BOOL] = "bool",
        [TMPL_INT] = "int",          [TMPL_FLOAT] = "float",
        [TMPL_STR] = "str",          [TMPL_LIST] = "list",
        [TMPL_TUPLE] = "tuple",      [TMPL_DICT] = "dict",
        [TMPL_NS] = "Namespace",     [TMPL_MACRO] = "Macro",
        [TMPL_FUNC] = "function",    [TMPL_METHOD] = "builtin_function_or_method",
        [TMPL_LOOP] = "LoopContext", [TMPL_CYCLER] = "Cycler",
        [TMPL_JOINER] = "Joiner"};
    return names[v.kind];
}

static bool seq_equal(tmpl_ctx *c, const tmpl_list *a, const tmpl_list *b, bool *out) {
    *out = a->n == b->n;
    for (uint32_t i = 0; *out && i < a->n; i++)
        if (!oct_tmpl_equal(c, a->at[i], b->at[i], out)) return false;
    return true;
}

static bool dict_equal(tmpl_ctx *c, const tmpl_dict *a, const tmpl_dict *b, bool *out) {
    *out = a->n == b->n;
    for (uint32_t i = 0; *out && i < a->n; i++) {
        const tmpl_val *other = oct_tmpl_dict_get(b, a->keys[i]);
        *out = other != NULL;
        if (other && !oct_tmpl_equal(c, a->vals[i], *other, out)) return false;
    }
    return true;
}

bool oct_tmpl_equal(tmpl_ctx *c, tmpl_val a, tmpl_val b, bool *out) {
    if (!oct_tmpl_step(c, 1)) return false;
    if (tmpl_is_num(a) && tmpl_is_num(b)) return (*out = num_equal(a, b)), true;
    *out = false;
    if (a.kind != b.kind) return true;
    switch (a.kind) {
    case TMPL_UNDEF:
    case TMPL_NONE:
        return (*out = true), true;
    case TMPL_STR:
        return (*out = str_equal(a, b)), oct_tmpl_work(c, *out ? a.len : 0);
    case TMPL_LIST:
    case TMPL_TUPLE:
        return oct_tmpl_deep(c) && seq_equal(c, a.u.list, b.u.list, out);
    case TMPL_DICT:
        return oct_tmpl_deep(c) && dict_equal(c, a.u.dict, b.u.dict, out);
    case TMPL_METHOD:
        return true;
    default:
        return (*out = a.u.macro == b.u.macro), true; /* the same object */
    }
}

static bool str_less(tmpl_val a, tmpl_val b) {
    /* UTF-8 sorts as its code points do */
    const int cmp = memcmp(a.u.s, b.u.s, a.len < b.len ? a.len : b.len);
    return cmp ? cmp < 0 : a.len < b.len;
}

static bool seq_less(tmpl_ctx *c, const tmpl_list *a, const tmpl_list *b, const char *sign,
                     bool *out) {
    for (uint32_t i = 0; i < a->n && i < b->n; i++) {
        bool same;
        if (!oct_tmpl_equal(c, a->at[i], b->at[i], &same)) return false;
        if (!same) return oct_tmpl_less(c, a->at[i], b->at[i], sign, out);
    }
    *out = a->n < b->n;
    return true;
}

bool oct_tmpl_less(tmpl_ctx *c, tmpl_val a, tmpl_val b, const char *sign, bool *out) {
    int64_t x, y;
    if (!oct_tmpl_step(c, 1)) return false;
    if (tmpl_as_int(a, &x) && tmpl_as_int(b, &y)) return (*out = x < y), true;
    if (tmpl_is_num(a) && tmpl_is_num(b)) return (*out = tmpl_as_f64(a) < tmpl_as_f64(b)), true;
    if (a.kind == TMPL_STR && b.kind == TMPL_STR)
        return (*out = str_less(a, b)), oct_tmpl_work(c, a.len < b.len ? a.len : b.len);
    if (tmpl_is_seq(a) && a.kind == b.kind)
        return oct_tmpl_deep(c) && seq_less(c, a.u.list, b.u.list, sign, out);
    if (a.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, a);
    if (b.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, b);
    return oct_tmpl_fail_type(c, "'%s' not supported between instances of '%s' and '%s'", sign,
                              oct_tmpl_type_name(a), oct_tmpl_type_name(b));
}

/* ---- iterating ---- */

static bool iterate_str(tmpl_ctx *c, tmpl_val s, tmpl_list *out) {
    uint32_t point;
    size_t len;
    if (!oct_tmpl_step(c, s.len / 16)) return false;
    for (size_t at = 0; at < s.len; at += len) {
        oct_utf8_next((oct_str){s.u.s + at, s.len - at}, &point, &len);
        if (!oct_tmpl_list_add(c, out, oct_tmpl_str((oct_str){s.u.s + at, len}))) return false;
    }
    return true;
}

bool oct_tmpl_iterate(tmpl_ctx *c, tmpl_val v, tmpl_list *out) {
    *out = (tmpl_list){.n = 0};
    switch (v.kind) {
    case TMPL_UNDEF:
        return true;
    case TMPL_LIST:
    case TMPL_TUPLE: /* a borrowed view: appending later must not write into it, so cap is n */
        *out = *v.u.list;
        out->cap = out->n;
        return true;
    case TMPL_DICT:
        *out = (tmpl_list){.at = v.u.dict->keys, .n = v.u.dict->n};
        return true;
    case TMPL_STR:
        return iterate_str(c, v, out);
    default:
        return oct_tmpl_fail_type(c, "'%s' object is not iterable", oct_tmpl_type_name(v));
    }
}

/* ---- from JSON ---- */

static bool from_array(tmpl_ctx *c, const json_t *j, uint32_t depth, tmpl_val *out) {
    const size_t n = json_array_size(j);
    if (n > UINT32_MAX / 4) return oct_tmpl_limit(c);
    if (!oct_tmpl_list_new(c, (uint32_t)n, TMPL_LIST, out)) return false;
    for (size_t i = 0; i < n; i++)
        if (!oct_tmpl_from_json(c, json_array_get(j, i), depth + 1, &out->u.list->at[i]))
            return false;
    out->u.list->n = (uint32_t)n;
    out->u.list->frozen = true;
    return true;
}

static bool from_object(tmpl_ctx *c, const json_t *j, uint32_t depth, tmpl_val *out) {
    if (!oct_tmpl_dict_new(c, TMPL_DICT, out)) return false;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)j, key, value) {
        tmpl_val k, v;
        if (!oct_tmpl_str_copy(c, oct_str_of(key), &k) ||
            !oct_tmpl_from_json(c, value, depth + 1, &v) ||
            !oct_tmpl_dict_set(c, out->u.dict, k, v))
            return false;
    }
    return true;
}

bool oct_tmpl_from_json(tmpl_ctx *c, const json_t *j, uint32_t depth, tmpl_val *out) {
    if (depth > OCT_TEMPLATE_MAX_NESTING || !oct_tmpl_deep(c)) return oct_tmpl_limit(c);
    switch (j ? json_typeof(j) : JSON_NULL) {
    case JSON_OBJECT:
        return from_object(c, j, depth, out);
    case JSON_ARRAY:
        return from_array(c, j, depth, out);
    case JSON_STRING:
        return oct_tmpl_str_copy(c, (oct_str){json_string_value(j), json_string_length(j)}, out);
    case JSON_INTEGER:
        return (*out = tmpl_int(json_integer_value(j))), true;
    case JSON_REAL:
        return (*out = tmpl_float(json_real_value(j))), true;
    case JSON_TRUE:
    case JSON_FALSE:
        return (*out = tmpl_bool(json_is_true(j))), true;
    default:
        return (*out = tmpl_none()), true;
    }
}
