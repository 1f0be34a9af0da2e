/* text/template_filters.c - filters on single values: text, numbers, JSON. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "codec/json.h"
#include "text/template_priv.h"

static bool no_args(tmpl_ctx *c, const tmpl_args *a, const char *what) {
    tmpl_val none;
    return oct_tmpl_bind(c, a, what, "", 0, &none);
}

/* ---- JSON ---- */

static bool indent_of(tmpl_ctx *c, tmpl_val v, tmpl_json_style *style) {
    int64_t n;
    if (v.kind == TMPL_ABSENT || v.kind == TMPL_NONE) return true;
    style->pretty = true;
    style->item_sep = OCT_STR(",");
    if (v.kind == TMPL_STR) return (style->indent = tmpl_strv(v)), true;
    if (!tmpl_as_int(v, &n)) return oct_tmpl_fail_type(c, "tojson() wants an integer indent");
    if (n > 1 << 16) return oct_tmpl_limit(c);
    tmpl_text t = {.c = c};
    tmpl_val blanks;
    oct_tmpl_text_pad(&t, ' ', n > 0 ? (size_t)n : 0);
    if (!oct_tmpl_text_done(&t, &blanks)) return false;
    style->indent = tmpl_strv(blanks);
    return true;
}

static bool separators_of(tmpl_ctx *c, tmpl_val v, tmpl_json_style *style) {
    if (v.kind == TMPL_ABSENT || v.kind == TMPL_NONE) return true;
    if (!tmpl_is_seq(v) || v.u.list->n != 2 || v.u.list->at[0].kind != TMPL_STR ||
        v.u.list->at[1].kind != TMPL_STR)
        return oct_tmpl_fail_type(c, "tojson() wants a pair of strings as separators");
    style->item_sep = tmpl_strv(v.u.list->at[0]);
    style->key_sep = tmpl_strv(v.u.list->at[1]);
    return true;
}

static bool f_tojson(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[4];
    tmpl_json_style style = {.item_sep = OCT_STR(", "), .key_sep = OCT_STR(": ")};
    if (!oct_tmpl_bind(c, a, "tojson", "ensure_ascii,indent,separators,sort_keys", 0, v) ||
        !indent_of(c, v[1], &style) || !separators_of(c, v[2], &style))
        return false;
    style.ensure_ascii = oct_tmpl_truth(v[0]);
    style.sort_keys = oct_tmpl_truth(v[3]);
    return oct_tmpl_tojson(c, in, &style, out);
}

static bool f_from_json(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    json_t *j;
    oct_err err = {.code = OCT_OK};
    if (!no_args(c, a, "from_json")) return false;
    if (in.kind != TMPL_STR)
        return oct_tmpl_fail_type(c, "from_json() wants a string (got %s)", oct_tmpl_type_name(in));
    const oct_json_limits limits = {
        .max_bytes = 1 << 24, .max_depth = OCT_TEMPLATE_MAX_NESTING, .warn_duplicates = true};
    if (!oct_tmpl_work(c, (uint64_t)in.len * 8)) return false;
    if (oct_json_parse(tmpl_strv(in), "from_json", &limits, &j, &err) != OCT_OK)
        return oct_tmpl_fail(c, "%s", err.text);
    const bool ok = oct_tmpl_from_json(c, j, 0, out);
    json_decref(j);
    return ok;
}

/* ---- text ---- */

static bool f_string(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return no_args(c, a, "string") && oct_tmpl_to_str(c, in, out);
}

static bool f_safe(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    if (!no_args(c, a, "safe") || !oct_tmpl_to_str(c, in, out)) return false;
    out->flags |= TMPL_SAFE;
    return true;
}

static bool f_escape(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return no_args(c, a, "escape") && oct_tmpl_escape(c, in, out);
}

/* What the method of this name makes of it as a string. */
static bool as_method(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, oct_str method, tmpl_val *out) {
    tmpl_val s;
    return oct_tmpl_to_str(c, in, &s) && oct_tmpl_find_method(TMPL_STR, method)->fn(c, s, a, out);
}
static bool f_trim(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return as_method(c, in, a, OCT_STR("strip"), out);
}
static bool f_upper(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return as_method(c, in, a, OCT_STR("upper"), out);
}
static bool f_lower(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return as_method(c, in, a, OCT_STR("lower"), out);
}
static bool f_capitalize(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    return as_method(c, in, a, OCT_STR("capitalize"), out);
}

/* Not the method: words begin at other characters. */
static bool f_title(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val s;
    return no_args(c, a, "title") && oct_tmpl_to_str(c, in, &s) &&
           oct_tmpl_recase(c, s, TMPL_TITLE_WORDS, out);
}

static bool f_replace(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[3], s, from, to;
    int64_t max = -1;
    if (!oct_tmpl_bind(c, a, "replace", "old,new,count", 2, v) || !oct_tmpl_to_str(c, in, &s) ||
        !oct_tmpl_to_str(c, v[0], &from) || !oct_tmpl_to_str(c, v[1], &to))
        return false;
    if (v[2].kind != TMPL_ABSENT && v[2].kind != TMPL_NONE && !tmpl_as_int(v[2], &max))
        return oct_tmpl_fail_type(c, "replace() wants an integer for count");
    s.flags &= (uint8_t)~TMPL_SAFE;
    return oct_tmpl_str_replace(c, s, tmpl_strv(from), tmpl_strv(to), max, out);
}

/* Lines after the first get the indent; empty ones only with blank, the first only with first. */
static bool f_indent(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[3], s, lines;
    int64_t n = 4;
    tmpl_text t = {.c = c}, pad = {.c = c};
    if (!oct_tmpl_bind(c, a, "indent", "width,first,blank", 0, v)) return false;
    if (in.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, in);
    if (in.kind != TMPL_STR)
        return oct_tmpl_fail_type(c, "indent() wants a string (got %s)", oct_tmpl_type_name(in));
    if (v[0].kind == TMPL_STR)
        oct_tmpl_text_str(&pad, v[0]);
    else if (v[0].kind != TMPL_ABSENT && !tmpl_as_int(v[0], &n))
        return oct_tmpl_fail_type(c, "indent() wants an integer or a string");
    else
        oct_tmpl_text_pad(&pad, ' ', n > 0 ? (size_t)n : 0);

    tmpl_val newline = oct_tmpl_cstr("\n");
    if (!oct_tmpl_arith(c, '+', in, newline, &s) || !oct_tmpl_list_new(c, 0, TMPL_LIST, &lines) ||
        !oct_tmpl_splitlines(c, s, false, lines.u.list) || pad.failed)
        return false;
    const oct_str indent = {pad.data, pad.len};
    for (uint32_t i = 0; i < lines.u.list->n && !t.failed; i++) {
        const tmpl_val line = lines.u.list->at[i];
        if (i) oct_tmpl_text_pad(&t, '\n', 1);
        if (i ? line.len || oct_tmpl_truth(v[2]) : oct_tmpl_truth(v[1]))
            oct_tmpl_text_add(&t, indent);
        oct_tmpl_text_str(&t, line);
    }
    return oct_tmpl_text_done(&t, out);
}

/* "%s" | format(x): positional arguments as a tuple, named ones as a mapping. */
static bool f_format(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val s, arg;
    if (!oct_tmpl_to_str(c, in, &s)) return false;
    if (a->n_pos && a->n_kw)
        return oct_tmpl_fail(c, "can't handle positional and keyword arguments at the same time");
    if (a->n_kw) {
        if (!oct_tmpl_dict_new(c, TMPL_DICT, &arg)) return false;
        for (uint32_t i = 0; i < a->n_kw; i++)
            if (!oct_tmpl_dict_set(c, arg.u.dict, oct_tmpl_str(a->kw_names[i]), a->kw[i]))
                return false;
        return oct_tmpl_percent(c, s, arg, out);
    }
    if (!oct_tmpl_list_new(c, a->n_pos, TMPL_TUPLE, &arg)) return false;
    for (uint32_t i = 0; i < a->n_pos; i++) arg.u.list->at[arg.u.list->n++] = a->pos[i];
    return oct_tmpl_percent(c, s, arg, out);
}

/* ---- numbers and the rest ---- */

static bool f_default(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[2];
    if (!oct_tmpl_bind(c, a, "default", "default_value,boolean", 0, v)) return false;
    const bool missing = in.kind == TMPL_UNDEF || (oct_tmpl_truth(v[1]) && !oct_tmpl_truth(in));
    *out = !missing ? in : v[0].kind == TMPL_ABSENT ? oct_tmpl_cstr("") : v[0];
    return true;
}

static bool is_digit(char ch, bool letters) {
    return (ch >= '0' && ch <= '9') || (letters && (ch | 32) >= 'a' && (ch | 32) <= 'z');
}

/* s without blanks around and single underscores between its digits, which may be letters; false
 * when it is too long or holds a NUL. */
static bool plain_number(oct_str s, bool letters, char to[64]) {
    s = oct_tmpl_strip(s, NULL, true, true);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '_' && i > 0 && i + 1 < s.len && is_digit(s.ptr[i - 1], letters) &&
            is_digit(s.ptr[i + 1], letters))
            continue;
        if (n == 63 || s.ptr[i] == '_' || s.ptr[i] == '\0') return false;
        to[n++] = s.ptr[i];
    }
    to[n] = '\0';
    return n > 0;
}

static bool float_text(oct_str s, double *out) {
    char text[64];
    if (!plain_number(s, false, text)) return false;
    if (strpbrk(text, "xXpP(")) return false; /* strtod reads more than Python does */
    char *end;
    *out = strtod(text, &end);
    return *end == '\0';
}

/* Base 0: as the prefix says, and no other number than zero begins with 0. -1: neither. */
static int base_of(const char *digits) {
    if (digits[0] != '0') return 10;
    switch (digits[1] | 32) {
    case 'x':
        return 16;
    case 'o':
        return 8;
    case 'b':
        return 2;
    default:
        return digits[strspn(digits, "0")] == '\0' ? 10 : -1;
    }
}

/* False: no integer of that base, or no base. */
static bool int_text(oct_str s, int64_t base, int64_t *out, bool *overflow) {
    char text[64];
    *overflow = false;
    if (!plain_number(s, true, text)) return false;
    const char *at = text;
    const bool minus = *at == '-';
    if (*at == '-' || *at == '+') at++;
    if (base == 0) base = base_of(at);
    if (base < 2 || base > 36) return false;
    if (at[0] == '0' && (base == 16 || base == 8 || base == 2) &&
        (at[1] | 32) == (base == 16  ? 'x'
                         : base == 8 ? 'o'
                                     : 'b'))
        at += 2;
    if (!*at) return false;
    int64_t v = 0;
    for (; *at; at++) {
        const int d = *at >= '0' && *at <= '9'                 ? *at - '0'
                      : (*at | 32) >= 'a' && (*at | 32) <= 'z' ? (*at | 32) - 'a' + 10
                                                               : 99;
        if (d >= base) return false;
        *overflow |= __builtin_mul_overflow(v, base, &v) ||
                     __builtin_sub_overflow(v, (int64_t)d, &v); /* downward: reaches INT64_MIN */
    }
    *overflow |= !minus && v == INT64_MIN;
    *out = minus || *overflow ? v : -v;
    return true;
}

static bool float_to_int(tmpl_ctx *c, double f, tmpl_val *out) {
    if (!(f >= -9223372036854775808.0 && f < 9223372036854775808.0))
        return oct_tmpl_fail(c, "integer too large");
    *out = tmpl_int((int64_t)f);
    return true;
}

static bool f_int(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[2];
    int64_t n, base = 10;
    double f;
    bool overflow;
    if (!oct_tmpl_bind(c, a, "int", "default,base", 0, v)) return false;
    if (v[1].kind != TMPL_ABSENT && !tmpl_as_int(v[1], &base)) base = -1;
    const tmpl_val fallback = v[0].kind == TMPL_ABSENT ? tmpl_int(0) : v[0];
    if (in.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, in);
    if (tmpl_as_int(in, &n)) return (*out = tmpl_int(n)), true;
    if (in.kind == TMPL_STR) {
        if (int_text(tmpl_strv(in), base, &n, &overflow))
            return overflow ? oct_tmpl_fail(c, "integer too large") : (*out = tmpl_int(n), true);
        if (!float_text(tmpl_strv(in), &f)) return (*out = fallback), true;
    } else if (in.kind == TMPL_FLOAT) {
        f = in.u.f;
    } else {
        return (*out = fallback), true;
    }
    if (!isfinite(f)) return (*out = fallback), true;
    return float_to_int(c, f, out);
}

static bool f_float(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v;
    double f;
    if (!oct_tmpl_bind(c, a, "float", "default", 0, &v)) return false;
    if (in.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, in);
    if (tmpl_is_num(in))
        *out = tmpl_float(tmpl_as_f64(in));
    else if (in.kind == TMPL_STR && float_text(tmpl_strv(in), &f))
        *out = tmpl_float(f);
    else
        *out = v.kind == TMPL_ABSENT ? tmpl_float(0) : v;
    return true;
}

static bool f_abs(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    int64_t n;
    if (!no_args(c, a, "abs")) return false;
    if (in.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, in);
    if (in.kind == TMPL_FLOAT) return (*out = tmpl_float(fabs(in.u.f))), true;
    if (!tmpl_as_int(in, &n))
        return oct_tmpl_fail_type(c, "bad operand type for abs(): '%s'", oct_tmpl_type_name(in));
    if (n == INT64_MIN) return oct_tmpl_fail(c, "integer too large");
    *out = tmpl_int(n < 0 ? -n : n);
    return true;
}

/* Rounds at a decimal place the way printf does: the exact binary value, ties to even. */
static double round_at(double f, int64_t places) {
    char text[400];
    if (places > 300 || !isfinite(f)) return f;
    if (places >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)(places < 80 ? places : 80), f);
        return strtod(text, NULL);
    }
    const double unit = pow(10, (double)(places < -308 ? 308 : -places));
    return nearbyint(f / unit) * unit;
}

static bool f_round(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[2];
    int64_t places = 0, n;
    if (!oct_tmpl_bind(c, a, "round", "precision,method", 0, v)) return false;
    if (v[0].kind != TMPL_ABSENT && !tmpl_as_int(v[0], &places))
        return oct_tmpl_fail_type(c, "round() wants an integer precision");
    const oct_str method = v[1].kind == TMPL_ABSENT ? OCT_STR("common")
                           : v[1].kind == TMPL_STR  ? tmpl_strv(v[1])
                                                    : OCT_STR("?");
    const bool ceiling = oct_str_is(method, "ceil");
    if (!ceiling && !oct_str_is(method, "floor") && !oct_str_is(method, "common"))
        return oct_tmpl_fail(c, "method must be common, ceil or floor");
    if (in.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, in);
    if (!tmpl_is_num(in))
        return oct_tmpl_fail_type(c, "round() wants a number (got %s)", oct_tmpl_type_name(in));
    if (oct_str_is(method, "common")) {
        if (tmpl_as_int(in, &n) && places >= 0) return (*out = tmpl_int(n)), true;
        const double f = round_at(tmpl_as_f64(in), places);
        if (in.kind != TMPL_FLOAT) return float_to_int(c, f, out);
        return (*out = tmpl_float(f)), true;
    }
    const double unit = pow(10, (double)places), f = tmpl_as_f64(in) * unit;
    *out = tmpl_float((ceiling ? ceil(f) : floor(f)) / unit);
    return true;
}

const tmpl_filter *oct_tmpl_find_filter(oct_str name) {
    static const tmpl_filter filters[] = {
        {"tojson", f_tojson},
        {"from_json", f_from_json},
        {"string", f_string},
        {"safe", f_safe},
        {"escape", f_escape},
        {"e", f_escape},
        {"trim", f_trim},
        {"upper", f_upper},
        {"lower", f_lower},
        {"title", f_title},
        {"capitalize", f_capitalize},
        {"replace", f_replace},
        {"indent", f_indent},
        {"format", f_format},
        {"default", f_default},
        {"d", f_default},
        {"int", f_int},
        {"float", f_float},
        {"abs", f_abs},
        {"round", f_round},
    };
    for (size_t i = 0; i < OCT_COUNT(filters); i++)
        if (oct_str_is(name, filters[i].name)) return &filters[i];
    for (const tmpl_filter *f = oct_tmpl_seq_filters; f->name; f++)
        if (oct_str_is(name, f->name)) return f;
    return NULL;
}
