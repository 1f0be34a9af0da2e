/*
 * text/template_ops.c - operators of a template on values: arithmetic, comparison, subscripts.
 *
 * Integers are int64; a result that does not fit is an error, never a wrapped number.
 */
#include <math.h>

#include "codec/utf8.h"
#include "text/template_priv.h"

/* ---- arithmetic ---- */

static bool overflow(tmpl_ctx *c) { return oct_tmpl_fail(c, "integer too large"); }

static bool bad_types(tmpl_ctx *c, const char *sign, tmpl_val a, tmpl_val b) {
    if (a.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, a);
    if (b.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, b);
    if (a.kind == TMPL_STR && *sign == '+')
        return oct_tmpl_fail_type(c, "can only concatenate str (not \"%s\") to str",
                                  oct_tmpl_type_name(b));
    return oct_tmpl_fail_type(c, "unsupported operand type(s) for %s: '%s' and '%s'", sign,
                              oct_tmpl_type_name(a), oct_tmpl_type_name(b));
}

static bool pow_int(tmpl_ctx *c, int64_t base, int64_t exp, int64_t *out) {
    int64_t v = 1;
    for (;; exp >>= 1) {
        if ((exp & 1) && __builtin_mul_overflow(v, base, &v)) return overflow(c);
        if (exp <= 1) break;
        if (__builtin_mul_overflow(base, base, &base)) return overflow(c);
    }
    *out = v;
    return true;
}

static bool floor_div(tmpl_ctx *c, uint8_t op, int64_t x, int64_t y, tmpl_val *out) {
    if (y == 0) return oct_tmpl_fail(c, "division by zero");
    if (x == INT64_MIN && y == -1) return op == '%' ? (*out = tmpl_int(0), true) : overflow(c);
    int64_t q = x / y, r = x % y;
    if (r != 0 && (r < 0) != (y < 0)) { /* Python rounds down */
        q--;
        r += y;
    }
    *out = tmpl_int(op == '%' ? r : q);
    return true;
}

static bool arith_int(tmpl_ctx *c, uint8_t op, int64_t x, int64_t y, tmpl_val *out) {
    int64_t v = 0;
    switch (op) {
    case '+':
        if (__builtin_add_overflow(x, y, &v)) return overflow(c);
        break;
    case '-':
        if (__builtin_sub_overflow(x, y, &v)) return overflow(c);
        break;
    case '*':
        if (__builtin_mul_overflow(x, y, &v)) return overflow(c);
        break;
    default:
        if (!pow_int(c, x, y, &v)) return false;
    }
    *out = tmpl_int(v);
    return true;
}

/* x // y and x % y, rounded in the order Python rounds. */
static double float_floor(uint8_t op, double x, double y) {
    double rest = fmod(x, y), quotient = (x - rest) / y;
    if (rest != 0 && (rest < 0) != (y < 0)) {
        rest += y;
        quotient -= 1;
    }
    if (op == '%') return rest == 0 ? copysign(0.0, y) : rest;
    if (quotient == 0) return copysign(0.0, x / y);
    const double down = floor(quotient);
    return quotient - down > 0.5 ? down + 1 : down;
}

static bool arith_float(tmpl_ctx *c, uint8_t op, double x, double y, tmpl_val *out) {
    double v;
    if ((op == '/' || op == '%' || op == TMPL_OP_FLOORDIV) && y == 0)
        return oct_tmpl_fail(c, "division by zero");
    switch (op) {
    case '+':
        v = x + y;
        break;
    case '-':
        v = x - y;
        break;
    case '*':
        v = x * y;
        break;
    case '/':
        v = x / y;
        break;
    case TMPL_OP_POW:
        if (x == 0 && y < 0) return oct_tmpl_fail(c, "0.0 cannot be raised to a negative power");
        v = pow(x, y);
        if (isnan(v) && !isnan(x) && !isnan(y))
            return oct_tmpl_fail(c, "a negative number cannot be raised to a fractional power");
        if (isinf(v) && !isinf(x) && !isinf(y)) return oct_tmpl_fail(c, "float too large");
        break;
    default:
        v = float_floor(op, x, y);
    }
    *out = tmpl_float(v);
    return true;
}

static bool arith_num(tmpl_ctx *c, uint8_t op, tmpl_val a, tmpl_val b, tmpl_val *out) {
    int64_t x, y;
    if (!tmpl_as_int(a, &x) || !tmpl_as_int(b, &y) || op == '/' || (op == TMPL_OP_POW && y < 0))
        return arith_float(c, op, tmpl_as_f64(a), tmpl_as_f64(b), out);
    if (op == '%' || op == TMPL_OP_FLOORDIV) return floor_div(c, op, x, y, out);
    return arith_int(c, op, x, y, out);
}

/* Text and marked-up text: what is not marked is escaped. */
static bool concat(tmpl_ctx *c, tmpl_val a, tmpl_val b, tmpl_val *out) {
    const uint8_t safe = (a.flags | b.flags) & TMPL_SAFE;
    if (safe && (!oct_tmpl_escape(c, a, &a) || !oct_tmpl_escape(c, b, &b))) return false;
    tmpl_text t = {.c = c};
    if ((uint64_t)a.len + b.len > UINT32_MAX / 2) return oct_tmpl_limit(c);
    char *p = oct_tmpl_alloc(c, (size_t)a.len + b.len + 1, 1);
    if (!p) return false;
    t.data = p;
    t.cap = (size_t)a.len + b.len;
    oct_tmpl_text_add(&t, tmpl_strv(a));
    oct_tmpl_text_add(&t, tmpl_strv(b));
    if (!oct_tmpl_text_done(&t, out)) return false;
    out->flags |= safe;
    return true;
}

static bool join_lists(tmpl_ctx *c, tmpl_val a, tmpl_val b, tmpl_val *out) {
    const tmpl_list *x = a.u.list, *y = b.u.list;
    if ((uint64_t)x->n + y->n > UINT32_MAX / 4) return oct_tmpl_limit(c);
    if (!oct_tmpl_step(c, ((uint64_t)x->n + y->n) / 16) ||
        !oct_tmpl_list_new(c, x->n + y->n, (tmpl_kind)a.kind, out))
        return false;
    tmpl_list *to = out->u.list;
    if (x->n) memcpy(to->at, x->at, x->n * sizeof *x->at);
    if (y->n) memcpy(to->at + x->n, y->at, y->n * sizeof *y->at);
    to->n = x->n + y->n;
    return true;
}

static bool repeat(tmpl_ctx *c, tmpl_val v, int64_t times, tmpl_val *out) {
    const uint64_t one = v.kind == TMPL_STR ? v.len : v.u.list->n,
                   n = times > 0 ? (uint64_t)times : 0;
    uint64_t total;
    if (__builtin_mul_overflow(one, n, &total) || total > UINT32_MAX / 4) return oct_tmpl_limit(c);
    if (v.kind != TMPL_STR) {
        if (!oct_tmpl_step(c, total / 16) ||
            !oct_tmpl_list_new(c, (uint32_t)total, (tmpl_kind)v.kind, out))
            return false;
        for (uint64_t i = 0; i < total; i++) out->u.list->at[i] = v.u.list->at[i % one];
        out->u.list->n = (uint32_t)total;
        return true;
    }
    char *p = oct_tmpl_alloc(c, total + 1, 1);
    if (!p || !oct_tmpl_work(c, total)) return false;
    for (uint64_t i = 0; total && i < n; i++) memcpy(p + i * one, v.u.s, one);
    *out = oct_tmpl_str((oct_str){p, total});
    out->flags = v.flags;
    return true;
}

bool oct_tmpl_arith(tmpl_ctx *c, uint8_t op, tmpl_val a, tmpl_val b, tmpl_val *out) {
    int64_t n;
    if (tmpl_is_num(a) && tmpl_is_num(b)) return arith_num(c, op, a, b, out);
    if (op == '+') {
        if (a.kind == TMPL_STR && b.kind == TMPL_STR) return concat(c, a, b, out);
        if (tmpl_is_seq(a) && a.kind == b.kind) return join_lists(c, a, b, out);
    } else if (op == '*') {
        if ((a.kind == TMPL_STR || tmpl_is_seq(a)) && tmpl_as_int(b, &n))
            return repeat(c, a, n, out);
        if ((b.kind == TMPL_STR || tmpl_is_seq(b)) && tmpl_as_int(a, &n))
            return repeat(c, b, n, out);
    } else if (op == '%' && a.kind == TMPL_STR) {
        return oct_tmpl_percent(c, a, b, out);
    }
    const char sign[] = {(char)op, '\0'};
    return bad_types(c, op == TMPL_OP_FLOORDIV ? "//" : op == TMPL_OP_POW ? "**" : sign, a, b);
}

/* ---- comparison ---- */

static bool contains_item(tmpl_ctx *c, tmpl_val a, const tmpl_list *l, bool *out) {
    *out = false;
    for (uint32_t i = 0; !*out && i < l->n; i++)
        if (!oct_tmpl_equal(c, l->at[i], a, out)) return false;
    return true;
}

static bool contains(tmpl_ctx *c, tmpl_val a, tmpl_val in, bool *out) {
    *out = false;
    switch (in.kind) {
    case TMPL_UNDEF:
        return true;
    case TMPL_STR:
        if (a.kind != TMPL_STR)
            return oct_tmpl_fail_type(c, "'in <string>' requires string as left operand, not %s",
                                      oct_tmpl_type_name(a));
        *out = a.len == 0 || (a.len <= in.len && memmem(in.u.s, in.len, a.u.s, a.len));
        return oct_tmpl_work(c, (uint64_t)in.len * 4);
    case TMPL_LIST:
    case TMPL_TUPLE:
        return contains_item(c, a, in.u.list, out);
    case TMPL_DICT:
        if (!oct_tmpl_hashable(a) && a.kind != TMPL_UNDEF)
            return oct_tmpl_fail_type(c, "unhashable type: '%s'", oct_tmpl_type_name(a));
        *out = oct_tmpl_dict_get(in.u.dict, a) != NULL;
        return true;
    default:
        return oct_tmpl_fail_type(c, "argument of type '%s' is not iterable",
                                  oct_tmpl_type_name(in));
    }
}

bool oct_tmpl_compare_op(tmpl_ctx *c, uint8_t op, tmpl_val a, tmpl_val b, bool *out) {
    bool ok;
    *out = false;
    switch (op) {
    case TMPL_OP_EQ:
        return oct_tmpl_equal(c, a, b, out);
    case TMPL_OP_NE:
        ok = oct_tmpl_equal(c, a, b, out);
        break;
    case '<':
        return oct_tmpl_less(c, a, b, "<", out);
    case '>':
        return oct_tmpl_less(c, b, a, ">", out);
    case TMPL_OP_IN:
        return contains(c, a, b, out);
    case TMPL_OP_NOTIN:
        ok = contains(c, a, b, out);
        break;
    default: /* <= and >=: not greater, but false for NaN */
        if (tmpl_is_num(a) && tmpl_is_num(b) && (isnan(tmpl_as_f64(a)) || isnan(tmpl_as_f64(b))))
            return (*out = false), true;
        ok = op == TMPL_OP_LE ? oct_tmpl_less(c, b, a, "<=", out)
                              : oct_tmpl_less(c, a, b, ">=", out);
    }
    *out = !*out;
    return ok;
}

/* ---- subscripts ---- */

static bool loop_attr(tmpl_ctx *c, const tmpl_loop *l, oct_str name, tmpl_val *out) {
    const struct {
        const char *name;
        tmpl_val v;
    } attrs[] = {
        {"index", tmpl_int((int64_t)l->index0 + 1)},
        {"index0", tmpl_int(l->index0)},
        {"revindex", tmpl_int((int64_t)l->n - l->index0)},
        {"revindex0", tmpl_int((int64_t)l->n - l->index0 - 1)},
        {"first", tmpl_bool(l->index0 == 0)},
        {"last", tmpl_bool(l->index0 + 1 == l->n)},
        {"length", tmpl_int(l->n)},
        {"depth", tmpl_int(1)},
        {"depth0", tmpl_int(0)}, /* counts recursive loops only */
    };
    for (size_t i = 0; i < OCT_COUNT(attrs); i++)
        if (oct_str_is(name, attrs[i].name)) return (*out = attrs[i].v), true;
    if (oct_str_is(name, "previtem") && l->index0 > 0)
        return (*out = l->items[l->index0 - 1]), true;
    if (oct_str_is(name, "nextitem") && l->index0 + 1 < l->n)
        return (*out = l->items[l->index0 + 1]), true;
    if (oct_str_is(name, "previtem") || oct_str_is(name, "nextitem"))
        return oct_tmpl_undef_why(
            c, *name.ptr == 'p' ? "there is no previous item" : "there is no next item", out);
    return (out->kind = TMPL_ABSENT), true;
}

/* What Python's getattr would find; absent when nothing. */
static bool own_attr(tmpl_ctx *c, tmpl_val obj, oct_str name, tmpl_val *out) {
    out->kind = TMPL_ABSENT;
    if (obj.kind == TMPL_NS) {
        const tmpl_val *v = oct_tmpl_dict_get(obj.u.dict, oct_tmpl_str(name));
        if (v) *out = *v;
        return true;
    }
    if (obj.kind == TMPL_LOOP && !loop_attr(c, obj.u.loop, name, out)) return false;
    if (obj.kind == TMPL_MACRO && oct_str_is(name, "name"))
        *out = oct_tmpl_str(obj.u.macro->node->name);
    if (obj.kind == TMPL_CYCLER && oct_str_is(name, "current"))
        *out = obj.u.cycler->items->at[obj.u.cycler->at];
    if (out->kind != TMPL_ABSENT) return true;

    const tmpl_filter *method = oct_tmpl_find_method((tmpl_kind)obj.kind, name);
    if (!method) return true;
    tmpl_method *m = oct_tmpl_alloc(c, 1, sizeof *m);
    if (!m) return false;
    *m = (tmpl_method){.self = obj, .fn = method};
    *out = (tmpl_val){.kind = TMPL_METHOD, .u.method = m};
    return true;
}

bool oct_tmpl_attr(tmpl_ctx *c, tmpl_val obj, oct_str name, tmpl_val *out) {
    if (obj.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, obj);
    if (!own_attr(c, obj, name, out)) return false;
    if (out->kind != TMPL_ABSENT) return true;
    if (obj.kind == TMPL_DICT) {
        const tmpl_val *v = oct_tmpl_dict_get(obj.u.dict, oct_tmpl_str(name));
        if (v) return (*out = *v), true;
    }
    return oct_tmpl_undef(c, name, obj, out);
}

static bool str_item(tmpl_ctx *c, tmpl_val s, int64_t i, tmpl_val *out, bool *found) {
    uint32_t point = 0;
    size_t len = 0;
    const int64_t n = oct_tmpl_count(s);
    if (!oct_tmpl_work(c, (uint64_t)s.len * 4)) return false;
    if (i < 0) i += n;
    *found = i >= 0 && i < n;
    if (!*found) return true;
    const uint32_t at = oct_tmpl_offset(s, (uint32_t)i);
    oct_utf8_next((oct_str){s.u.s + at, s.len - at}, &point, &len);
    *out = oct_tmpl_str((oct_str){s.u.s + at, len});
    out->flags = s.flags & TMPL_SAFE;
    return true;
}

bool oct_tmpl_item(tmpl_ctx *c, tmpl_val obj, tmpl_val key, tmpl_val *out) {
    int64_t i;
    bool found = false;
    if (obj.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, obj);
    if (obj.kind == TMPL_DICT) {
        const tmpl_val *v = oct_tmpl_dict_get(obj.u.dict, key);
        if (v) return (*out = *v), true;
    } else if (tmpl_is_seq(obj) && tmpl_as_int(key, &i)) {
        if (i < 0) i += obj.u.list->n;
        if (i >= 0 && i < obj.u.list->n) return (*out = obj.u.list->at[i]), true;
    } else if (obj.kind == TMPL_STR && tmpl_as_int(key, &i)) {
        if (!str_item(c, obj, i, out, &found)) return false;
        if (found) return true;
    }
    if (key.kind != TMPL_STR) {
        tmpl_val name;
        return oct_tmpl_to_str(c, key, &name) && oct_tmpl_undef(c, tmpl_strv(name), obj, out);
    }
    if (!own_attr(c, obj, tmpl_strv(key), out)) return false;
    return out->kind != TMPL_ABSENT || oct_tmpl_undef(c, tmpl_strv(key), obj, out);
}

static bool bad_bound(tmpl_ctx *c) {
    return oct_tmpl_fail_type(c, "slice indices must be integers or None");
}

/* The bounds of a slice over n items as Python computes them; *count items from *from by *step. */
static bool slice_bounds(tmpl_ctx *c, const tmpl_val part[3], int64_t n, int64_t *from,
                         int64_t *step, int64_t *count) {
    int64_t bound[2];
    *step = 1;
    if (part[2].kind != TMPL_NONE && !tmpl_as_int(part[2], step)) return bad_bound(c);
    if (*step == 0) return oct_tmpl_fail(c, "slice step cannot be zero");
    if (*step == INT64_MIN) ++*step;
    for (int i = 0; i < 2; i++) {
        const int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? n - 1 : n;
        if (part[i].kind == TMPL_NONE) {
            bound[i] = (*step < 0) == (i == 0) ? high : low;
            continue;
        }
        int64_t v = 0;
        if (!tmpl_as_int(part[i], &v)) return bad_bound(c);
        if (v < 0) v = v < -n ? low : v + n;
        bound[i] = v < low ? low : v > high ? high : v;
    }
    *from = bound[0];
    const int64_t span = *step > 0 ? bound[1] - bound[0] : bound[0] - bound[1];
    const uint64_t stride = *step > 0 ? (uint64_t)*step : (uint64_t) - *step;
    *count = span <= 0 ? 0 : (int64_t)(((uint64_t)span - 1) / stride + 1);
    return true;
}

static bool slice_str(tmpl_ctx *c, tmpl_val s, int64_t from, int64_t step, int64_t count,
                      tmpl_val *out) {
    if (!oct_tmpl_work(c, (uint64_t)s.len * 4)) return false;
    if (step == 1) {
        const uint32_t a = oct_tmpl_offset(s, (uint32_t)from);
        const tmpl_val rest = {
            .kind = TMPL_STR, .flags = s.flags, .len = s.len - a, .u.s = s.u.s + a};
        *out = rest;
        out->len = oct_tmpl_offset(rest, (uint32_t)count);
        return true;
    }
    tmpl_list chars = {.n = 0};
    tmpl_text t = {.c = c};
    if (!oct_tmpl_iterate(c, s, &chars)) return false;
    for (int64_t i = 0; i < count; i++) oct_tmpl_text_str(&t, chars.at[from + i * step]);
    if (!oct_tmpl_text_done(&t, out)) return false;
    out->flags = s.flags & TMPL_SAFE;
    return true;
}

bool oct_tmpl_slice(tmpl_ctx *c, tmpl_val obj, const tmpl_val part[3], tmpl_val *out) {
    int64_t from = 0, step = 1, count = 0;
    if (obj.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, obj);
    if (obj.kind != TMPL_STR && !tmpl_is_seq(obj))
        return oct_tmpl_fail_type(c, "'%s' object cannot be sliced", oct_tmpl_type_name(obj));
    const int64_t n = obj.kind == TMPL_STR ? oct_tmpl_count(obj) : obj.u.list->n;
    if (!slice_bounds(c, part, n, &from, &step, &count)) return false;
    if (obj.kind == TMPL_STR) return slice_str(c, obj, from, step, count, out);

    if (!oct_tmpl_step(c, (uint64_t)count / 16) ||
        !oct_tmpl_list_new(c, (uint32_t)count, (tmpl_kind)obj.kind, out))
        return false;
    for (int64_t i = 0; i < count; i++) out->u.list->at[i] = obj.u.list->at[from + i * step];
    out->u.list->n = (uint32_t)count;
    return true;
}
