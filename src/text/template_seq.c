/*
 * text/template_seq.c - filters on sequences: map, select, sort, unique, join and their like.
 *
 * Where Jinja gives a lazy iterator these give a list. An attribute may be a path ("function.name")
 * or an index.
 */
#include "text/template_priv.h"

/* ---- attributes ---- */

typedef struct attr_path {
    tmpl_val parts[16];
    uint32_t n;
} attr_path;

static bool parse_path(tmpl_ctx *c, tmpl_val attr, attr_path *p) {
    p->n = 0;
    if (attr.kind == TMPL_ABSENT || attr.kind == TMPL_NONE) return true;
    if (attr.kind != TMPL_STR) return (p->parts[p->n++] = attr), true;
    oct_str rest = tmpl_strv(attr);
    for (bool more = true; more;) {
        const char *dot = rest.len ? memchr(rest.ptr, '.', rest.len) : NULL;
        const oct_str one = {rest.ptr, dot ? (size_t)(dot - rest.ptr) : rest.len};
        int64_t index = 0;
        bool digits = one.len > 0 && one.len < 10;
        for (size_t i = 0; i < one.len && digits; i++) {
            digits = one.ptr[i] >= '0' && one.ptr[i] <= '9';
            index = index * 10 + (one.ptr[i] - '0');
        }
        if (p->n == OCT_COUNT(p->parts)) return oct_tmpl_fail(c, "attribute path too long");
        p->parts[p->n++] = digits ? tmpl_int(index) : oct_tmpl_str(one);
        more = dot != NULL;
        if (more) rest = (oct_str){dot + 1, rest.len - one.len - 1};
    }
    return true;
}

/* v.path; a missing last part is undefined, or `missing` where that is given. */
static bool follow(tmpl_ctx *c, const attr_path *p, tmpl_val v, tmpl_val missing, tmpl_val *out) {
    for (uint32_t i = 0; i < p->n; i++) {
        if (!oct_tmpl_step(c, 1) || !oct_tmpl_item(c, v, p->parts[i], &v)) return false;
        if (v.kind == TMPL_UNDEF && missing.kind != TMPL_ABSENT && missing.kind != TMPL_NONE)
            v = missing;
    }
    *out = v;
    return true;
}

static bool fold(tmpl_ctx *c, bool case_sensitive, tmpl_val *v) {
    return case_sensitive || v->kind != TMPL_STR || oct_tmpl_recase(c, *v, TMPL_LOWER, v);
}

/* The items of v, and for each what it is ordered by. */
typedef struct keyed {
    tmpl_val *keys, *vals;
    uint32_t n;
} keyed;

static bool make_keys(tmpl_ctx *c, tmpl_val v, tmpl_val attr, tmpl_val case_sensitive, keyed *out) {
    tmpl_list items;
    attr_path path;
    const tmpl_val none = {.kind = TMPL_ABSENT};
    if (!oct_tmpl_iterate(c, v, &items) || !parse_path(c, attr, &path)) return false;
    *out = (keyed){.keys = oct_tmpl_alloc(c, (size_t)items.n + 1, sizeof(tmpl_val)),
                   .vals = oct_tmpl_alloc(c, (size_t)items.n + 1, sizeof(tmpl_val)),
                   .n = items.n};
    if (!out->keys || !out->vals) return false;
    for (uint32_t i = 0; i < items.n; i++) {
        out->vals[i] = items.at[i];
        if (!oct_tmpl_step(c, 1) || !follow(c, &path, items.at[i], none, &out->keys[i]) ||
            !fold(c, oct_tmpl_truth(case_sensitive), &out->keys[i]))
            return false;
    }
    return true;
}

/* ---- sorting: merge sort, bottom up ---- */

typedef struct sort_pair {
    tmpl_val key, val;
} sort_pair;

static bool merge(tmpl_ctx *c, const sort_pair *from, sort_pair *to, uint32_t a, uint32_t mid,
                  uint32_t end, bool reverse) {
    uint32_t i = a, j = mid;
    for (uint32_t k = a; k < end; k++) {
        bool right = i == mid;
        if (i < mid && j < end &&
            !(from[i].key.kind == TMPL_UNDEF && from[j].key.kind == TMPL_UNDEF)) {
            const bool ok = reverse ? oct_tmpl_less(c, from[i].key, from[j].key, "<", &right)
                                    : oct_tmpl_less(c, from[j].key, from[i].key, "<", &right);
            if (!ok) return false;
        }
        to[k] = right ? from[j++] : from[i++];
    }
    return true;
}

bool oct_tmpl_sort(tmpl_ctx *c, tmpl_val *keys, tmpl_val *vals, uint32_t n, bool reverse) {
    sort_pair *from = oct_tmpl_alloc(c, (size_t)n + 1, sizeof *from);
    sort_pair *to = oct_tmpl_alloc(c, (size_t)n + 1, sizeof *to);
    if (!from || !to) return false;
    for (uint32_t i = 0; i < n; i++) from[i] = (sort_pair){keys[i], vals[i]};
    for (uint64_t width = 1; width < n; width *= 2) {
        for (uint64_t a = 0; a < n; a += 2 * width) {
            const uint64_t mid = a + width < n ? a + width : n;
            const uint64_t end = a + 2 * width < n ? a + 2 * width : n;
            if (!merge(c, from, to, (uint32_t)a, (uint32_t)mid, (uint32_t)end, reverse))
                return false;
        }
        sort_pair *swap = from;
        from = to;
        to = swap;
    }
    for (uint32_t i = 0; i < n; i++) {
        keys[i] = from[i].key;
        vals[i] = from[i].val;
    }
    return true;
}

static bool to_list(tmpl_ctx *c, const tmpl_val *at, uint32_t n, tmpl_val *out) {
    if (!oct_tmpl_list_new(c, n, TMPL_LIST, out)) return false;
    if (n) memcpy(out->u.list->at, at, n * sizeof *at);
    out->u.list->n = n;
    return oct_tmpl_step(c, n / 16);
}

bool oct_tmpl_flag(tmpl_ctx *c, tmpl_val v, bool *out) {
    int64_t n = 0;
    if (v.kind != TMPL_ABSENT && !tmpl_as_int(v, &n))
        return oct_tmpl_fail_type(c, "'%s' object cannot be interpreted as an integer",
                                  oct_tmpl_type_name(v));
    *out = n != 0;
    return true;
}

static bool f_sort(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[3];
    keyed k;
    bool reverse;
    if (!oct_tmpl_bind(c, a, "sort", "reverse,case_sensitive,attribute", 0, v)) return false;
    if (v[2].kind == TMPL_STR && memchr(v[2].u.s, ',', v[2].len))
        return oct_tmpl_fail(c, "sort() by several attributes is not supported");
    return oct_tmpl_flag(c, v[0], &reverse) && make_keys(c, in, v[2], v[1], &k) &&
           oct_tmpl_sort(c, k.keys, k.vals, k.n, reverse) && to_list(c, k.vals, k.n, out);
}

static bool f_dictsort(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[3], pairs;
    keyed k;
    bool reverse;
    if (!oct_tmpl_bind(c, a, "dictsort", "case_sensitive,by,reverse", 0, v)) return false;
    if (in.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, in);
    if (in.kind != TMPL_DICT) return oct_tmpl_fail_type(c, "dictsort() wants a mapping");
    const bool by_value = v[1].kind == TMPL_STR && oct_str_is(tmpl_strv(v[1]), "value");
    if (!by_value && v[1].kind != TMPL_ABSENT &&
        !(v[1].kind == TMPL_STR && oct_str_is(tmpl_strv(v[1]), "key")))
        return oct_tmpl_fail(c, "dictsort() sorts by \"key\" or \"value\"");
    const tmpl_dict *d = in.u.dict;
    if (!oct_tmpl_list_new(c, d->n, TMPL_LIST, &pairs)) return false;
    for (uint32_t i = 0; i < d->n; i++, pairs.u.list->n++)
        if (!oct_tmpl_pair(c, d->keys[i], d->vals[i], &pairs.u.list->at[i])) return false;
    return oct_tmpl_flag(c, v[2], &reverse) && make_keys(c, pairs, tmpl_int(by_value), v[0], &k) &&
           oct_tmpl_sort(c, k.keys, k.vals, k.n, reverse) && to_list(c, k.vals, k.n, out);
}

static bool f_unique(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[2], seen;
    keyed k;
    if (!oct_tmpl_bind(c, a, "unique", "case_sensitive,attribute", 0, v) ||
        !make_keys(c, in, v[1], v[0], &k) || !oct_tmpl_dict_new(c, TMPL_DICT, &seen) ||
        !oct_tmpl_list_new(c, 0, TMPL_LIST, out))
        return false;
    for (uint32_t i = 0; i < k.n; i++) {
        if (k.keys[i].kind == TMPL_UNDEF) k.keys[i] = tmpl_none();
        if (oct_tmpl_dict_get(seen.u.dict, k.keys[i])) continue;
        if (!oct_tmpl_dict_set(c, seen.u.dict, k.keys[i], tmpl_none()) ||
            !oct_tmpl_list_add(c, out->u.list, k.vals[i]))
            return false;
    }
    return true;
}

static bool extreme(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, bool max, tmpl_val *out) {
    tmpl_val v[2];
    keyed k;
    uint32_t best = 0;
    if (!oct_tmpl_bind(c, a, max ? "max" : "min", "case_sensitive,attribute", 0, v) ||
        !make_keys(c, in, v[1], v[0], &k))
        return false;
    if (k.n == 0) return oct_tmpl_undef_why(c, "No aggregated item, sequence was empty.", out);
    for (uint32_t i = 1; i < k.n; i++) {
        bool better;
        const bool ok = max ? oct_tmpl_less(c, k.keys[best], k.keys[i], ">", &better)
                            : oct_tmpl_less(c, k.keys[i], k.keys[best], "<", &better);
        if (!ok) return false;
        if (better) best = i;
    }
    *out = k.vals[best];
    return true;
}
static bool f_min(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return extreme(c, in, a, false, out);
}
static bool f_max(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return extreme(c, in, a, true, out);
}

static bool f_sum(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[2];
    keyed k;
    if (!oct_tmpl_bind(c, a, "sum", "attribute,start", 0, v) ||
        !make_keys(c, in, v[0], tmpl_bool(true), &k))
        return false;
    *out = v[1].kind == TMPL_ABSENT ? tmpl_int(0) : v[1];
    for (uint32_t i = 0; i < k.n; i++) {
        if (k.keys[i].kind == TMPL_STR && out->kind == TMPL_STR)
            return oct_tmpl_fail_type(c, "sum() can't sum strings");
        if (!oct_tmpl_arith(c, '+', *out, k.keys[i], out)) return false;
    }
    return true;
}

/* ---- join, first, last, list, reverse, items, length ---- */

static bool f_join(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[2], sep;
    keyed k;
    tmpl_text t = {.c = c};
    if (!oct_tmpl_bind(c, a, "join", "d,attribute", 0, v) ||
        !make_keys(c, in, v[1], tmpl_bool(true), &k) ||
        !oct_tmpl_to_str(c, v[0].kind == TMPL_ABSENT ? oct_tmpl_cstr("") : v[0], &sep))
        return false;
    for (uint32_t i = 0; i < k.n && !t.failed; i++) {
        if (i) oct_tmpl_text_str(&t, sep);
        oct_tmpl_text_str(&t, k.keys[i]);
    }
    return oct_tmpl_text_done(&t, out);
}

static bool no_args(tmpl_ctx *c, const tmpl_args *a, const char *what) {
    tmpl_val none;
    return oct_tmpl_bind(c, a, what, "", 0, &none);
}

static bool edge(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, bool last, tmpl_val *out) {
    tmpl_list items;
    if (!no_args(c, a, last ? "last" : "first") || !oct_tmpl_iterate(c, in, &items)) return false;
    if (items.n == 0)
        return oct_tmpl_undef_why(
            c, last ? "No last item, sequence was empty." : "No first item, sequence was empty.",
            out);
    *out = items.at[last ? items.n - 1 : 0];
    return true;
}
static bool f_first(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return edge(c, in, a, false, out);
}
static bool f_last(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return edge(c, in, a, true, out);
}

static bool f_list(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_list items;
    return no_args(c, a, "list") && oct_tmpl_iterate(c, in, &items) &&
           to_list(c, items.at, items.n, out);
}

static bool f_reverse(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    const tmpl_val back[3] = {tmpl_none(), tmpl_none(), tmpl_int(-1)};
    if (!no_args(c, a, "reverse")) return false;
    if (in.kind == TMPL_STR) return oct_tmpl_slice(c, in, back, out);
    tmpl_val list;
    return f_list(c, in, a, &list) && oct_tmpl_slice(c, list, back, out);
}

static bool f_items(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    if (in.kind == TMPL_UNDEF) return no_args(c, a, "items") && to_list(c, NULL, 0, out);
    if (in.kind != TMPL_DICT)
        return oct_tmpl_fail_type(c, "Can only get item pairs from a mapping.");
    return oct_tmpl_find_method(TMPL_DICT, OCT_STR("items"))->fn(c, in, a, out);
}

static bool f_length(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    if (!no_args(c, a, "length")) return false;
    switch (in.kind) {
    case TMPL_UNDEF:
        return (*out = tmpl_int(0)), true;
    case TMPL_STR:
        return (*out = tmpl_int(oct_tmpl_count(in))), oct_tmpl_work(c, in.len * 4ull);
    case TMPL_LIST:
    case TMPL_TUPLE:
        return (*out = tmpl_int(in.u.list->n)), true;
    case TMPL_DICT:
        return (*out = tmpl_int(in.u.dict->n)), true;
    default:
        return oct_tmpl_fail_type(c, "object of type '%s' has no len()", oct_tmpl_type_name(in));
    }
}

/* ---- map, select ---- */

static tmpl_args rest_args(const tmpl_args *a, uint32_t skip) {
    tmpl_args rest = *a;
    rest.pos += a->n_pos ? skip : 0;
    rest.n_pos -= skip;
    return rest;
}

static bool map_attribute(tmpl_ctx *c, const tmpl_list *items, const tmpl_args *a, tmpl_list *to) {
    tmpl_val v[2];
    attr_path path;
    if (!oct_tmpl_bind(c, a, "map", "attribute,default", 1, v) || !parse_path(c, v[0], &path))
        return false;
    for (uint32_t i = 0; i < items->n; i++) {
        tmpl_val got;
        if (!follow(c, &path, items->at[i], v[1], &got) || !oct_tmpl_list_add(c, to, got))
            return false;
    }
    return true;
}

static bool f_map(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_list items;
    if (!oct_tmpl_list_new(c, 0, TMPL_LIST, out) || !oct_tmpl_deep(c)) return false;
    if (!oct_tmpl_truth(in)) return true;
    if (!oct_tmpl_iterate(c, in, &items)) return false;
    if (a->n_pos == 0) return map_attribute(c, &items, a, out->u.list);

    const tmpl_filter *f =
        a->pos[0].kind == TMPL_STR ? oct_tmpl_find_filter(tmpl_strv(a->pos[0])) : NULL;
    if (!f) return oct_tmpl_fail(c, "map() wants the name of a filter");
    const tmpl_args rest = rest_args(a, 1);
    for (uint32_t i = 0; i < items.n; i++) {
        tmpl_val got;
        if (!oct_tmpl_step(c, 1) || !f->fn(c, items.at[i], &rest, &got) ||
            !oct_tmpl_list_add(c, out->u.list, got))
            return false;
    }
    return true;
}

typedef struct chooser {
    attr_path path;
    const tmpl_test *test; /* NULL: truth */
    tmpl_args args;
} chooser;

static bool make_chooser(tmpl_ctx *c, const tmpl_args *a, bool by_attr, chooser *ch) {
    uint32_t off = 0;
    *ch = (chooser){.test = NULL};
    if (by_attr) {
        if (a->n_pos == 0) return oct_tmpl_fail(c, "Missing parameter for attribute name");
        if (!parse_path(c, a->pos[off++], &ch->path)) return false;
    }
    if (a->n_pos <= off) return true;
    const tmpl_val name = a->pos[off];
    ch->test = name.kind == TMPL_STR ? oct_tmpl_find_test(tmpl_strv(name)) : NULL;
    if (!ch->test)
        return oct_tmpl_fail(c, "no test named '%.*s'",
                             name.kind == TMPL_STR ? (int)(name.len & 63) : 0,
                             name.kind == TMPL_STR ? name.u.s : "");
    ch->args = rest_args(a, off + 1);
    return true;
}

static bool choose(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, bool by_attr, bool keep,
                   tmpl_val *out) {
    tmpl_list items;
    chooser ch;
    const tmpl_val none = {.kind = TMPL_ABSENT};
    if (!oct_tmpl_list_new(c, 0, TMPL_LIST, out)) return false;
    if (!oct_tmpl_truth(in)) return true;
    if (!oct_tmpl_iterate(c, in, &items) || !make_chooser(c, a, by_attr, &ch)) return false;
    for (uint32_t i = 0; i < items.n; i++) {
        tmpl_val v;
        bool is;
        if (!oct_tmpl_step(c, 1) || !follow(c, &ch.path, items.at[i], none, &v)) return false;
        is = oct_tmpl_truth(v);
        if (ch.test && !ch.test->fn(c, v, &ch.args, &is)) return false;
        if (is == keep && !oct_tmpl_list_add(c, out->u.list, items.at[i])) return false;
    }
    return true;
}
static bool f_select(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return choose(c, in, a, false, true, out);
}
static bool f_reject(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return choose(c, in, a, false, false, out);
}
static bool f_selectattr(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return choose(c, in, a, true, true, out);
}
static bool f_rejectattr(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return choose(c, in, a, true, false, out);
}

const tmpl_filter oct_tmpl_seq_filters[] = {
    {"length", f_length},
    {"count", f_length},
    {"items", f_items},
    {"join", f_join},
    {"list", f_list},
    {"first", f_first},
    {"last", f_last},
    {"reverse", f_reverse},
    {"map", f_map},
    {"select", f_select},
    {"reject", f_reject},
    {"selectattr", f_selectattr},
    {"rejectattr", f_rejectattr},
    {"sort", f_sort},
    {"dictsort", f_dictsort},
    {"unique", f_unique},
    {"min", f_min},
    {"max", f_max},
    {"sum", f_sum},
    {NULL, NULL},
};
