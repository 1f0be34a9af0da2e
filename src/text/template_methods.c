/*
 * text/template_methods.c - methods of lists, dicts, loops and cyclers, and the tables of all.
 *
 * append, pop and extend work on lists that the template made; what came from outside is frozen.
 */
#include "text/template_priv.h"

/* ---- lists ---- */

static bool mutable_list(tmpl_ctx *c, tmpl_val l, const char *what) {
    if (l.kind == TMPL_LIST && !l.u.list->frozen) return true;
    return oct_tmpl_fail(c, "%s() is not allowed on a value that came from outside", what);
}

static bool m_append(tmpl_ctx *c, tmpl_val l, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v;
    *out = tmpl_none();
    return oct_tmpl_bind(c, a, "append", "item", 1, &v) && mutable_list(c, l, "append") &&
           oct_tmpl_list_add(c, l.u.list, v);
}

static bool m_extend(tmpl_ctx *c, tmpl_val l, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v;
    tmpl_list items;
    *out = tmpl_none();
    if (!oct_tmpl_bind(c, a, "extend", "items", 1, &v) || !mutable_list(c, l, "extend") ||
        !oct_tmpl_iterate(c, v, &items) || !oct_tmpl_step(c, items.n))
        return false;
    for (uint32_t i = 0; i < items.n; i++)
        if (!oct_tmpl_list_add(c, l.u.list, items.at[i])) return false;
    return true;
}

static bool m_pop(tmpl_ctx *c, tmpl_val l, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v;
    int64_t at = -1;
    if (!oct_tmpl_bind(c, a, "pop", "index", 0, &v) || !mutable_list(c, l, "pop")) return false;
    if (v.kind != TMPL_ABSENT && !tmpl_as_int(v, &at))
        return oct_tmpl_fail_type(c, "pop() wants an integer");
    tmpl_list *list = l.u.list;
    if (at < 0) at += list->n;
    if (at < 0 || at >= list->n) return oct_tmpl_fail(c, "pop index out of range");
    *out = list->at[at];
    memmove(&list->at[at], &list->at[at + 1], (list->n - (size_t)at - 1) * sizeof *list->at);
    list->n--;
    return oct_tmpl_step(c, (list->n - (uint64_t)at) / 16);
}

static bool count_equal(tmpl_ctx *c, tmpl_val l, const tmpl_args *a, const char *what, int64_t *n,
                        int64_t *first) {
    tmpl_val v;
    *n = 0;
    *first = -1;
    if (!oct_tmpl_bind(c, a, what, "item", 1, &v)) return false;
    for (uint32_t i = 0; i < l.u.list->n; i++) {
        bool same;
        if (!oct_tmpl_equal(c, l.u.list->at[i], v, &same)) return false;
        *n += same;
        if (same && *first < 0) *first = i;
    }
    return true;
}

static bool m_list_count(tmpl_ctx *c, tmpl_val l, const tmpl_args *a, tmpl_val *out) {
    int64_t n, first;
    if (!count_equal(c, l, a, "count", &n, &first)) return false;
    *out = tmpl_int(n);
    return true;
}
static bool m_list_index(tmpl_ctx *c, tmpl_val l, const tmpl_args *a, tmpl_val *out) {
    int64_t n, first;
    if (!count_equal(c, l, a, "index", &n, &first)) return false;
    *out = tmpl_int(first);
    return first >= 0 || oct_tmpl_fail(c, "the value is not in the list");
}

/* ---- dicts ---- */

static bool m_get(tmpl_ctx *c, tmpl_val d, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[2];
    if (!oct_tmpl_bind(c, a, "get", "key,default", 1, v)) return false;
    const tmpl_val *found = oct_tmpl_dict_get(d.u.dict, v[0]);
    *out = found ? *found : v[1].kind == TMPL_ABSENT ? tmpl_none() : v[1];
    return true;
}

static bool dict_list(tmpl_ctx *c, tmpl_val d, const tmpl_args *a, const char *what,
                      tmpl_val *out) {
    tmpl_val none;
    const tmpl_dict *from = d.u.dict;
    if (!oct_tmpl_bind(c, a, what, "", 0, &none) || !oct_tmpl_step(c, from->n / 8) ||
        !oct_tmpl_list_new(c, from->n, TMPL_LIST, out))
        return false;
    for (uint32_t i = 0; i < from->n; i++) {
        tmpl_val v = *what == 'k' ? from->keys[i] : from->vals[i];
        if (*what == 'i' && !oct_tmpl_pair(c, from->keys[i], from->vals[i], &v)) return false;
        out->u.list->at[i] = v;
    }
    out->u.list->n = from->n;
    return true;
}
static bool m_keys(tmpl_ctx *c, tmpl_val d, const tmpl_args *a, tmpl_val *out) {
    return dict_list(c, d, a, "keys", out);
}
static bool m_values(tmpl_ctx *c, tmpl_val d, const tmpl_args *a, tmpl_val *out) {
    return dict_list(c, d, a, "values", out);
}
static bool m_items(tmpl_ctx *c, tmpl_val d, const tmpl_args *a, tmpl_val *out) {
    return dict_list(c, d, a, "items", out);
}

static bool m_copy(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, tmpl_val *out) {
    tmpl_val none;
    if (!oct_tmpl_bind(c, a, "copy", "", 0, &none)) return false;
    if (v.kind == TMPL_DICT) return (*out = v), true; /* dicts never change */
    const tmpl_val all[3] = {tmpl_none(), tmpl_none(), tmpl_none()};
    return oct_tmpl_slice(c, v, all, out);
}

/* ---- loops, cyclers ---- */

static bool m_cycle(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, tmpl_val *out) {
    if (a->n_pos == 0 || a->n_kw) return oct_tmpl_fail_type(c, "no items for cycling given");
    *out = a->pos[v.u.loop->index0 % a->n_pos];
    return true;
}

static bool m_changed(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, tmpl_val *out) {
    tmpl_val now;
    bool same = false;
    if (!oct_tmpl_list_new(c, a->n_pos, TMPL_TUPLE, &now)) return false;
    for (uint32_t i = 0; i < a->n_pos; i++) now.u.list->at[now.u.list->n++] = a->pos[i];
    if (v.u.loop->changed.kind != TMPL_ABSENT && !oct_tmpl_equal(c, v.u.loop->changed, now, &same))
        return false;
    v.u.loop->changed = now;
    *out = tmpl_bool(!same);
    return true;
}

static bool m_next(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, tmpl_val *out) {
    tmpl_val none;
    tmpl_cycler *cy = v.u.cycler;
    if (!oct_tmpl_bind(c, a, "next", "", 0, &none)) return false;
    *out = cy->items->at[cy->at];
    cy->at = (cy->at + 1) % cy->items->n;
    return true;
}

static bool m_reset(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, tmpl_val *out) {
    tmpl_val none;
    v.u.cycler->at = 0;
    *out = tmpl_none();
    return oct_tmpl_bind(c, a, "reset", "", 0, &none);
}

/* ---- tables ---- */

static const tmpl_filter list_methods[] = {
    {"append", m_append},    {"pop", m_pop},   {"extend", m_extend}, {"index", m_list_index},
    {"count", m_list_count}, {"copy", m_copy}, {NULL, NULL},
};
static const tmpl_filter tuple_methods[] = {
    {"index", m_list_index},
    {"count", m_list_count},
    {NULL, NULL},
};
static const tmpl_filter dict_methods[] = {
    {"get", m_get},     {"keys", m_keys}, {"values", m_values},
    {"items", m_items}, {"copy", m_copy}, {NULL, NULL},
};
static const tmpl_filter loop_methods[] = {
    {"cycle", m_cycle}, {"changed", m_changed}, {NULL, NULL}};
static const tmpl_filter cycler_methods[] = {{"next", m_next}, {"reset", m_reset}, {NULL, NULL}};

const tmpl_filter *oct_tmpl_find_method(tmpl_kind kind, oct_str name) {
    const tmpl_filter *m = kind == TMPL_STR      ? oct_tmpl_str_methods
                           : kind == TMPL_LIST   ? list_methods
                           : kind == TMPL_TUPLE  ? tuple_methods
                           : kind == TMPL_DICT   ? dict_methods
                           : kind == TMPL_LOOP   ? loop_methods
                           : kind == TMPL_CYCLER ? cycler_methods
                                                 : NULL;
    for (; m && m->name; m++)
        if (oct_str_is(name, m->name)) return m;
    return NULL;
}
