/* text/template_call.c - calls: binding arguments, global functions, methods, macros. */
#include <time.h>

#include "text/template_priv.h"

enum {
    MAX_RANGE = 100000, /* as the reference's sandbox */
    MAX_TIME_TEXT = 1024,
};

/* ---- arguments ---- */

static bool next_name(const char **spec, oct_str *name) {
    if (!**spec) return false;
    const size_t len = strcspn(*spec, ",");
    *name = (oct_str){*spec, len};
    *spec += len + ((*spec)[len] == ',');
    return true;
}

static bool bind_kw(tmpl_ctx *c, const tmpl_args *a, uint32_t kw, const char *what,
                    const char *spec, tmpl_val *vals) {
    oct_str name;
    const oct_str given = a->kw_names[kw];
    for (uint32_t i = 0; next_name(&spec, &name); i++) {
        if (!oct_str_eq(name, given)) continue;
        if (vals[i].kind != TMPL_ABSENT)
            return oct_tmpl_fail_type(c, "%s() got multiple values for argument '%.*s'", what,
                                      (int)name.len, name.ptr);
        vals[i] = a->kw[kw];
        return true;
    }
    return oct_tmpl_fail_type(c, "%s() got an unexpected keyword argument '%.*s'", what,
                              (int)(given.len < 60 ? given.len : 60), given.ptr);
}

bool oct_tmpl_bind(tmpl_ctx *c, const tmpl_args *a, const char *what, const char *spec,
                   uint32_t n_must, tmpl_val *vals) {
    uint32_t n = 0;
    oct_str name;
    for (const char *s = spec; next_name(&s, &name); n++)
        vals[n] = n < a->n_pos ? a->pos[n] : (tmpl_val){.kind = TMPL_ABSENT};
    if (a->n_pos > n)
        return oct_tmpl_fail_type(c, "%s() takes at most %u arguments (%u given)", what, n,
                                  a->n_pos);
    for (uint32_t i = 0; i < a->n_kw; i++)
        if (!bind_kw(c, a, i, what, spec, vals)) return false;
    for (uint32_t i = 0; i < n_must; i++)
        if (vals[i].kind == TMPL_ABSENT)
            return oct_tmpl_fail_type(c, "%s() misses an argument", what);
    return true;
}

/* ---- global functions ---- */

static bool fn_raise(tmpl_ctx *c, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v;
    if (!oct_tmpl_bind(c, a, "raise_exception", "message", 1, &v) || !oct_tmpl_to_str(c, v, out))
        return false;
    return oct_tmpl_raise(c, tmpl_strv(*out));
}

static bool fn_strftime(tmpl_ctx *c, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v;
    char format[256], text[MAX_TIME_TEXT];
    struct tm tm;
    if (!oct_tmpl_bind(c, a, "strftime_now", "format", 1, &v)) return false;
    if (v.kind != TMPL_STR) return oct_tmpl_fail_type(c, "strftime_now() wants a string");
    if (v.len >= sizeof format) return oct_tmpl_limit(c);
    memcpy(format, v.u.s, v.len);
    format[v.len] = '\0';

    const time_t now = c->in->now ? c->in->now : time(NULL);
    if (!localtime_r(&now, &tm)) return oct_tmpl_fail(c, "the time cannot be shown");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const size_t n = strftime(text, sizeof text, format, &tm);
#pragma GCC diagnostic pop
    if (n == 0 && v.len > 0 && strcmp(format, "%p") != 0) return oct_tmpl_limit(c);
    return oct_tmpl_str_copy(c, (oct_str){text, n}, out);
}

static bool fn_range(tmpl_ctx *c, const tmpl_args *a, tmpl_val *out) {
    int64_t part[3] = {0, 0, 1};
    if (a->n_kw || a->n_pos < 1 || a->n_pos > 3)
        return oct_tmpl_fail_type(c, "range() takes 1 to 3 arguments (%u given)", a->n_pos);
    for (uint32_t i = 0; i < a->n_pos; i++) {
        int64_t *to = &part[a->n_pos == 1 ? 1 : i];
        if (a->pos[i].kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, a->pos[i]);
        if (!tmpl_as_int(a->pos[i], to))
            return oct_tmpl_fail_type(c, "'%s' object cannot be interpreted as an integer",
                                      oct_tmpl_type_name(a->pos[i]));
    }
    if (part[2] == 0) return oct_tmpl_fail(c, "range() step must not be zero");
    const bool up = part[2] > 0;
    const uint64_t span =
        up ? (uint64_t)part[1] - (uint64_t)part[0] : (uint64_t)part[0] - (uint64_t)part[1];
    const uint64_t stride = up ? (uint64_t)part[2] : -(uint64_t)part[2];
    const bool empty = up ? part[0] >= part[1] : part[0] <= part[1];
    const uint64_t n = empty ? 0 : (span - 1) / stride + 1;
    if (n > MAX_RANGE || !oct_tmpl_step(c, n / 16)) return oct_tmpl_limit(c);
    if (!oct_tmpl_list_new(c, (uint32_t)n, TMPL_LIST, out)) return false;
    for (uint64_t i = 0; i < n; i++)
        out->u.list->at[i] = tmpl_int((int64_t)((uint64_t)part[0] + i * (uint64_t)part[2]));
    out->u.list->n = (uint32_t)n;
    return true;
}

/* A mapping or a list of pairs, then keywords, into a new dict. */
static bool fill_dict(tmpl_ctx *c, const tmpl_args *a, const char *what, tmpl_dict *d) {
    if (a->n_pos > 1)
        return oct_tmpl_fail_type(c, "%s() takes at most 1 argument (%u given)", what, a->n_pos);
    if (a->n_pos && a->pos[0].kind == TMPL_DICT) {
        const tmpl_dict *from = a->pos[0].u.dict;
        for (uint32_t i = 0; i < from->n; i++)
            if (!oct_tmpl_dict_set(c, d, from->keys[i], from->vals[i])) return false;
        if (!oct_tmpl_step(c, from->n)) return false;
    } else if (a->n_pos) {
        tmpl_list pairs, pair;
        if (a->pos[0].kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, a->pos[0]);
        if (!oct_tmpl_iterate(c, a->pos[0], &pairs)) return false;
        for (uint32_t i = 0; i < pairs.n; i++) {
            if (!oct_tmpl_iterate(c, pairs.at[i], &pair)) return false;
            if (pair.n != 2) return oct_tmpl_fail(c, "%s() wants pairs", what);
            if (!oct_tmpl_dict_set(c, d, pair.at[0], pair.at[1])) return false;
        }
    }
    for (uint32_t i = 0; i < a->n_kw; i++)
        if (!oct_tmpl_dict_set(c, d, oct_tmpl_str(a->kw_names[i]), a->kw[i])) return false;
    return true;
}

static bool fn_dict(tmpl_ctx *c, const tmpl_args *a, tmpl_val *out) {
    return oct_tmpl_dict_new(c, TMPL_DICT, out) && fill_dict(c, a, "dict", out->u.dict);
}

static bool fn_namespace(tmpl_ctx *c, const tmpl_args *a, tmpl_val *out) {
    return oct_tmpl_dict_new(c, TMPL_NS, out) && fill_dict(c, a, "namespace", out->u.dict);
}

static bool make_cycler(tmpl_ctx *c, tmpl_kind kind, const tmpl_val *items, uint32_t n,
                        tmpl_val *out) {
    tmpl_val l;
    tmpl_cycler *cy = oct_tmpl_alloc(c, 1, sizeof *cy);
    if (!cy || !oct_tmpl_list_new(c, n, TMPL_LIST, &l)) return false;
    memcpy(l.u.list->at, items, n * sizeof *items);
    l.u.list->n = n;
    cy->items = l.u.list;
    *out = (tmpl_val){.kind = (uint8_t)kind, .u.cycler = cy};
    return true;
}

static bool fn_cycler(tmpl_ctx *c, const tmpl_args *a, tmpl_val *out) {
    if (a->n_kw || a->n_pos == 0) return oct_tmpl_fail_type(c, "cycler() wants items");
    return make_cycler(c, TMPL_CYCLER, a->pos, a->n_pos, out);
}

static bool fn_joiner(tmpl_ctx *c, const tmpl_args *a, tmpl_val *out) {
    tmpl_val sep;
    if (!oct_tmpl_bind(c, a, "joiner", "sep", 0, &sep)) return false;
    if (sep.kind == TMPL_ABSENT) sep = oct_tmpl_cstr(", ");
    return make_cycler(c, TMPL_JOINER, &sep, 1, out);
}

const tmpl_func *oct_tmpl_find_func(oct_str name) {
    static const tmpl_func funcs[] = {
        {"raise_exception", fn_raise}, {"strftime_now", fn_strftime},
        {"range", fn_range},           {"dict", fn_dict},
        {"namespace", fn_namespace},   {"cycler", fn_cycler},
        {"joiner", fn_joiner},
    };
    for (size_t i = 0; i < OCT_COUNT(funcs); i++)
        if (oct_str_is(name, funcs[i].name)) return &funcs[i];
    return NULL;
}

/* ---- calling ---- */

/* A joiner is empty the first time it is asked. */
static bool call_joiner(tmpl_cycler *j, tmpl_val *out) {
    *out = j->at ? j->items->at[0] : oct_tmpl_cstr("");
    j->at = 1;
    return true;
}

bool oct_tmpl_call(tmpl_ctx *c, tmpl_val fn, const tmpl_args *a, tmpl_val *out) {
    switch (fn.kind) {
    case TMPL_FUNC:
        return fn.u.func->fn(c, a, out);
    case TMPL_METHOD:
        return fn.u.method->fn->fn(c, fn.u.method->self, a, out);
    case TMPL_MACRO:
        return oct_tmpl_call_macro(c, fn.u.macro, a, out);
    case TMPL_JOINER:
        return oct_tmpl_bind(c, a, "joiner", "", 0, NULL) && call_joiner(fn.u.cycler, out);
    case TMPL_UNDEF:
        return oct_tmpl_fail_undef(c, fn);
    default:
        return oct_tmpl_fail_type(c, "'%s' object is not callable", oct_tmpl_type_name(fn));
    }
}
