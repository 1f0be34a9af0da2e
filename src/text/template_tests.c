/* text/template_tests.c - what may stand behind `is`. */
#include "text/template_priv.h"

static bool kind_test(tmpl_ctx *c, const tmpl_args *a, bool is, bool *out) {
    if (a->n_pos || a->n_kw) return oct_tmpl_fail_type(c, "the test takes no argument");
    *out = is;
    return true;
}

static bool t_defined(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind != TMPL_UNDEF, out);
}
static bool t_undefined(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_UNDEF, out);
}
static bool t_none(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_NONE, out);
}
static bool t_string(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_STR, out);
}
static bool t_number(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, tmpl_is_num(v), out);
}
static bool t_integer(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_INT, out);
}
static bool t_float(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_FLOAT, out);
}
static bool t_boolean(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_BOOL, out);
}
static bool t_true(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_BOOL && v.u.b, out);
}
static bool t_false(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_BOOL && !v.u.b, out);
}
static bool t_mapping(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_DICT, out);
}
/* Undefined can be iterated over (it is empty), and has a length. */
static bool t_iterable(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(
        c, a, v.kind == TMPL_STR || tmpl_is_seq(v) || v.kind == TMPL_DICT || v.kind == TMPL_UNDEF,
        out);
}
static bool t_callable(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a,
                     v.kind == TMPL_FUNC || v.kind == TMPL_METHOD || v.kind == TMPL_MACRO ||
                         v.kind == TMPL_JOINER || v.kind == TMPL_UNDEF,
                     out);
}
static bool case_test(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool upper, bool *out) {
    tmpl_val s, up, low;
    bool same, other;
    if (!oct_tmpl_to_str(c, v, &s) || !oct_tmpl_recase(c, s, TMPL_UPPER, &up) ||
        !oct_tmpl_recase(c, s, TMPL_LOWER, &low) ||
        !oct_tmpl_equal(c, s, upper ? up : low, &same) || !oct_tmpl_equal(c, up, low, &other))
        return false;
    return kind_test(c, a, same && !other, out);
}
static bool t_upper(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return case_test(c, v, a, true, out);
}
static bool t_lower(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return case_test(c, v, a, false, out);
}

static bool remainder_of(tmpl_ctx *c, tmpl_val v, tmpl_val by, int64_t want, bool *out) {
    tmpl_val rest;
    return oct_tmpl_arith(c, '%', v, by, &rest) && oct_tmpl_equal(c, rest, tmpl_int(want), out);
}

static bool t_odd(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, false, out) && remainder_of(c, v, tmpl_int(2), 1, out);
}
static bool t_even(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, false, out) && remainder_of(c, v, tmpl_int(2), 0, out);
}
static bool t_divisible(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    tmpl_val by;
    return oct_tmpl_bind(c, a, "divisibleby", "num", 1, &by) && remainder_of(c, v, by, 0, out);
}

static bool compare(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, uint8_t op, bool *out) {
    tmpl_val other;
    return oct_tmpl_bind(c, a, "the test", "other", 1, &other) &&
           oct_tmpl_compare_op(c, op, v, other, out);
}
static bool t_eq(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return compare(c, v, a, TMPL_OP_EQ, out);
}
static bool t_ne(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return compare(c, v, a, TMPL_OP_NE, out);
}
static bool t_lt(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return compare(c, v, a, '<', out);
}
static bool t_le(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return compare(c, v, a, TMPL_OP_LE, out);
}
static bool t_gt(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return compare(c, v, a, '>', out);
}
static bool t_ge(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return compare(c, v, a, TMPL_OP_GE, out);
}
static bool t_in(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return compare(c, v, a, TMPL_OP_IN, out);
}
/* Python's `is`: the same object; small values are their own object here. */
static bool t_sameas(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    tmpl_val other;
    if (!oct_tmpl_bind(c, a, "sameas", "other", 1, &other)) return false;
    if (v.kind == TMPL_LIST || v.kind == TMPL_TUPLE || v.kind == TMPL_DICT)
        return (*out = v.kind == other.kind && v.u.list == other.u.list), true;
    return v.kind == other.kind ? oct_tmpl_equal(c, v, other, out) : (*out = false, true);
}

static bool t_filter(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_STR && oct_tmpl_find_filter(tmpl_strv(v)), out);
}
static bool t_test(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_STR && oct_tmpl_find_test(tmpl_strv(v)), out);
}
static bool t_escaped(tmpl_ctx *c, tmpl_val v, const tmpl_args *a, bool *out) {
    return kind_test(c, a, v.kind == TMPL_STR && (v.flags & TMPL_SAFE), out);
}

const tmpl_test *oct_tmpl_find_test(oct_str name) {
    static const tmpl_test tests[] = {
        {"defined", t_defined},
        {"undefined", t_undefined},
        {"none", t_none},
        {"string", t_string},
        {"number", t_number},
        {"integer", t_integer},
        {"float", t_float},
        {"boolean", t_boolean},
        {"true", t_true},
        {"false", t_false},
        {"mapping", t_mapping},
        {"iterable", t_iterable},
        {"sequence", t_iterable}, /* the same kinds have a length */
        {"callable", t_callable},
        {"upper", t_upper},
        {"lower", t_lower},
        {"odd", t_odd},
        {"even", t_even},
        {"divisibleby", t_divisible},
        {"equalto", t_eq},
        {"eq", t_eq},
        {"==", t_eq},
        {"ne", t_ne},
        {"!=", t_ne},
        {"lt", t_lt},
        {"lessthan", t_lt},
        {"<", t_lt},
        {"le", t_le},
        {"<=", t_le},
        {"gt", t_gt},
        {"greaterthan", t_gt},
        {">", t_gt},
        {"ge", t_ge},
        {">=", t_ge},
        {"in", t_in},
        {"sameas", t_sameas},
        {"filter", t_filter},
        {"test", t_test},
        {"escaped", t_escaped},
    };
    for (size_t i = 0; i < OCT_COUNT(tests); i++)
        if (oct_str_is(name, tests[i].name)) return &tests[i];
    return NULL;
}
