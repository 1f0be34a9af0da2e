/*
 * text/template_format.c - "%s" % x and "{}".format(x), with Python's flags, widths and types.
 *
 * Width and precision are bounded by what a template may print at all.
 */
#include <math.h>
#include <stdio.h>

#include "codec/utf8.h"
#include "text/template_priv.h"

enum { MAX_WIDTH = 1 << 24, MAX_PRECISION = 100 };

typedef struct spec {
    bool left, plus, blank, zero, alt, comma;
    char fill[4], align; /* of format(); align 0: by kind */
    uint8_t fill_len;
    uint32_t width;
    int precision; /* -1: none */
    char type;
} spec;

/* Puts a number's or string's text into its field. sign_len leading bytes stay before zeros. */
static void pad(tmpl_text *t, const spec *sp, oct_str s, size_t sign_len, bool number) {
    const size_t n = oct_utf8_count(s);
    const size_t gap = n < sp->width ? sp->width - n : 0;
    const char align = sp->align ? sp->align : sp->left ? '<' : number ? '>' : '<';
    const size_t before = align == '>' ? gap : align == '^' ? gap / 2 : 0;
    if (align == '=') {
        oct_tmpl_text_add(t, (oct_str){s.ptr, sign_len});
        s = (oct_str){s.ptr + sign_len, s.len - sign_len};
    }
    const oct_str fill = {sp->fill, sp->fill_len};
    const size_t lead = align == '=' ? gap : before;
    for (size_t i = 0; i < lead && !t->failed; i++) oct_tmpl_text_add(t, fill);
    oct_tmpl_text_add(t, s);
    for (size_t i = lead; i < gap && !t->failed; i++) oct_tmpl_text_add(t, fill);
}

/* Thousands separators into the digits in front of text (a point or exponent may follow). */
static void group(char *text, size_t cap) {
    const size_t len = strlen(text), from = *text == '-' || *text == '+' || *text == ' ';
    size_t end = from;
    while (text[end] >= '0' && text[end] <= '9') end++;
    const size_t n = end - from, commas = n ? (n - 1) / 3 : 0;
    if (len + commas + 1 > cap) return;
    memmove(text + end + commas, text + end, len - end + 1);
    size_t to = end + commas;
    for (size_t i = 0; i < n; i++) {
        if (i && i % 3 == 0) text[--to] = ',';
        text[--to] = text[end - 1 - i];
    }
}

static const char *sign_of(const spec *sp, bool negative) {
    return negative ? "-" : sp->plus ? "+" : sp->blank ? " " : "";
}

static void put_number(tmpl_text *t, const spec *sp, char *text, size_t cap, size_t sign_len) {
    if (sp->comma) group(text, cap);
    spec field = *sp;
    if (sp->zero && !sp->left && !sp->align) {
        field.align = '=';
        field.fill[0] = '0';
        field.fill_len = 1;
    }
    pad(t, &field, oct_str_of(text), sign_len, true);
}

static bool put_int(tmpl_text *t, const spec *sp, int64_t v) {
    char text[128], digits[72];
    const uint64_t mag = v < 0 ? -(uint64_t)v : (uint64_t)v;
    const char *sign = sign_of(sp, v < 0), *prefix = "";
    switch (sp->type) {
    case 'x':
        snprintf(digits, sizeof digits, "%llx", (unsigned long long)mag);
        break;
    case 'X':
        snprintf(digits, sizeof digits, "%llX", (unsigned long long)mag);
        break;
    case 'o':
        snprintf(digits, sizeof digits, "%llo", (unsigned long long)mag);
        break;
    default:
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)mag);
        break;
    }
    if (sp->alt)
        prefix = sp->type == 'x' ? "0x" : sp->type == 'X' ? "0X" : sp->type == 'o' ? "0o" : "";
    const int zeros = sp->precision > (int)strlen(digits) ? sp->precision - (int)strlen(digits) : 0;
    snprintf(text, sizeof text, "%s%s%.*s%s", sign, prefix, zeros < 40 ? zeros : 40,
             "0000000000000000000000000000000000000000", digits);
    put_number(t, sp, text, sizeof text, strlen(sign) + strlen(prefix));
    return true;
}

static bool put_float(tmpl_text *t, const spec *sp, double v) {
    char text[512];
    const char *sign = sign_of(sp, signbit(v) && !isnan(v));
    int precision = sp->precision < 0 ? 6 : sp->precision;
    char type = sp->type;
    const double mag = fabs(v) * (type == '%' ? 100 : 1);
    int n = snprintf(text, sizeof text, "%s", sign);
    if (precision > MAX_PRECISION) precision = MAX_PRECISION;
    switch (type) {
    case 'e':
        n += snprintf(text + n, sizeof text - (size_t)n, "%.*e", precision, mag);
        break;
    case 'E':
        n += snprintf(text + n, sizeof text - (size_t)n, "%.*E", precision, mag);
        break;
    case 'g':
        n += snprintf(text + n, sizeof text - (size_t)n, "%.*g", precision, mag);
        break;
    case 'G':
        n += snprintf(text + n, sizeof text - (size_t)n, "%.*G", precision, mag);
        break;
    default:
        n += snprintf(text + n, sizeof text - (size_t)n, "%.*f", precision, mag);
        break;
    }
    if (type == '%') snprintf(text + n, sizeof text - (size_t)n, "%%");
    put_number(t, sp, text, sizeof text, strlen(sign));
    return true;
}

static bool put_text(tmpl_text *t, const spec *sp, tmpl_val v) {
    if (sp->precision >= 0) v.len = oct_tmpl_offset(v, (uint32_t)sp->precision);
    pad(t, sp, tmpl_strv(v), 0, false);
    return true;
}

static bool repr(tmpl_ctx *c, tmpl_val v, tmpl_val *out) {
    tmpl_text t = {.c = c};
    oct_tmpl_text_repr(&t, v, 0);
    return oct_tmpl_text_done(&t, out);
}

static bool parse_count(oct_str s, size_t *at, uint32_t *out) {
    *out = 0;
    while (*at < s.len && s.ptr[*at] >= '0' && s.ptr[*at] <= '9') {
        *out = *out * 10 + (uint32_t)(s.ptr[(*at)++] - '0');
        if (*out > MAX_WIDTH) return false;
    }
    return true;
}

/* ---- percent ---- */

typedef struct percent {
    tmpl_ctx *c;
    tmpl_val arg;
    uint32_t used;
} percent;

static bool next_arg(percent *p, tmpl_val *out) {
    const bool tuple = p->arg.kind == TMPL_TUPLE;
    if (p->used >= (tuple ? p->arg.u.list->n : 1))
        return oct_tmpl_fail_type(p->c, "not enough arguments for format string");
    *out = tuple ? p->arg.u.list->at[p->used] : p->arg;
    p->used++;
    return true;
}

static bool named_arg(percent *p, oct_str name, tmpl_val *out) {
    if (p->arg.kind != TMPL_DICT) return oct_tmpl_fail_type(p->c, "format requires a mapping");
    const tmpl_val *v = oct_tmpl_dict_get(p->arg.u.dict, oct_tmpl_str(name));
    if (!v) return oct_tmpl_fail(p->c, "format: no such key");
    *out = *v;
    return true;
}

static bool count_arg(percent *p, oct_str s, size_t *at, uint32_t *out) {
    tmpl_val v;
    int64_t n;
    if (*at >= s.len || s.ptr[*at] != '*') return parse_count(s, at, out) || oct_tmpl_limit(p->c);
    ++*at;
    if (!next_arg(p, &v)) return false;
    if (!tmpl_as_int(v, &n)) return oct_tmpl_fail_type(p->c, "* wants int");
    if (n < 0 || n > MAX_WIDTH) return oct_tmpl_limit(p->c);
    *out = (uint32_t)n;
    return true;
}

/* %c: a number is a code point, a string is one character. */
static bool put_char(percent *p, tmpl_text *t, const spec *sp, tmpl_val v) {
    int64_t n;
    char utf8[4];
    if (v.kind == TMPL_STR && v.len > 0 && oct_tmpl_offset(v, 1) == v.len)
        return put_text(t, sp, v);
    if (v.kind == TMPL_STR || !tmpl_as_int(v, &n))
        return oct_tmpl_fail_type(p->c, "%%c requires int or char");
    const size_t len = n >= 0 && n <= 0x10ffff ? oct_utf8_encode((uint32_t)n, utf8) : 0;
    if (len == 0) return oct_tmpl_fail(p->c, "%%c arg not a character (got %lld)", (long long)n);
    pad(t, sp, (oct_str){utf8, len}, 0, false);
    return true;
}

static bool convert(percent *p, tmpl_text *t, spec *sp, tmpl_val v) {
    int64_t n;
    tmpl_val s = tmpl_none();
    switch (sp->type) {
    case 's':
        return oct_tmpl_to_str(p->c, v, &s) && put_text(t, sp, s);
    case 'r':
        return repr(p->c, v, &s) && put_text(t, sp, s);
    case 'c':
        return put_char(p, t, sp, v);
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        if (v.kind == TMPL_FLOAT && strchr("diu", sp->type) && fabs(v.u.f) < 9e18)
            return put_int(t, sp, (int64_t)v.u.f);
        if (tmpl_as_int(v, &n)) return put_int(t, sp, n);
        return oct_tmpl_fail_type(p->c, "%%%c format: a real number is required, not %s", sp->type,
                                  oct_tmpl_type_name(v));
    case 'f':
    case 'F':
    case 'e':
    case 'E':
    case 'g':
    case 'G':
        if (tmpl_is_num(v)) return put_float(t, sp, tmpl_as_f64(v));
        return oct_tmpl_fail_type(p->c, "must be real number, not %s", oct_tmpl_type_name(v));
    default:
        return oct_tmpl_fail(p->c, "unsupported format character '%c'", sp->type);
    }
}

static bool flag_at(spec *sp, char ch) {
    switch (ch) {
    case '-':
        return sp->left = true;
    case '+':
        return sp->plus = true;
    case ' ':
        return sp->blank = true;
    case '0':
        return sp->zero = true;
    case '#':
        return sp->alt = true;
    default:
        return false;
    }
}

/* One conversion; *at stands behind the '%'. */
static bool percent_one(percent *p, tmpl_text *t, oct_str s, size_t *at) {
    spec sp = {.fill = " ", .fill_len = 1, .precision = -1};
    tmpl_val v = {.kind = TMPL_ABSENT};
    uint32_t n = 0;
    if (*at < s.len && s.ptr[*at] == '(') {
        const char *end = memchr(s.ptr + *at, ')', s.len - *at);
        if (!end) return oct_tmpl_fail(p->c, "incomplete format key");
        const oct_str name = {s.ptr + *at + 1, (size_t)(end - s.ptr) - *at - 1};
        if (!named_arg(p, name, &v)) return false;
        *at += name.len + 2;
    }
    while (*at < s.len && flag_at(&sp, s.ptr[*at])) ++*at;
    if (!count_arg(p, s, at, &sp.width)) return false;
    if (*at < s.len && s.ptr[*at] == '.') {
        ++*at;
        if (!count_arg(p, s, at, &n)) return false;
        sp.precision = (int)n;
    }
    if (*at < s.len && strchr("hlL", s.ptr[*at])) ++*at; /* C's length, which means nothing here */
    if (*at >= s.len) return oct_tmpl_fail(p->c, "incomplete format");
    sp.type = s.ptr[(*at)++];
    if (sp.type == '%') return oct_tmpl_text_pad(t, '%', 1), true;
    if (strchr("src", sp.type)) sp.align = sp.left ? '<' : '>';
    if (v.kind == TMPL_ABSENT && !next_arg(p, &v)) return false;
    return convert(p, t, &sp, v);
}

bool oct_tmpl_percent(tmpl_ctx *c, tmpl_val fmt, tmpl_val arg, tmpl_val *out) {
    tmpl_text t = {.c = c};
    percent p = {.c = c, .arg = arg};
    const oct_str s = tmpl_strv(fmt);
    for (size_t at = 0; at < s.len && !t.failed;) {
        const char *mark = memchr(s.ptr + at, '%', s.len - at);
        const size_t end = mark ? (size_t)(mark - s.ptr) : s.len;
        oct_tmpl_text_add(&t, (oct_str){s.ptr + at, end - at});
        at = end + (mark != NULL);
        if (mark && (!oct_tmpl_step(c, 1) || !percent_one(&p, &t, s, &at))) return false;
    }
    const bool all = arg.kind == TMPL_TUPLE ? p.used >= arg.u.list->n
                                            : p.used || arg.kind == TMPL_DICT ||
                                                  arg.kind == TMPL_UNDEF || arg.kind == TMPL_LIST;
    if (!t.failed && !all)
        return oct_tmpl_fail_type(c, "not all arguments converted during string formatting");
    return oct_tmpl_text_done(&t, out);
}

/* ---- format() ---- */

typedef struct fields {
    tmpl_ctx *c;
    const tmpl_args *args;
    uint32_t next;
} fields;

static bool field_value(fields *f, oct_str name, tmpl_val *out) {
    size_t at = 0;
    uint32_t index;
    if (!parse_count(name, &at, &index)) return oct_tmpl_limit(f->c);
    if (at == name.len) {
        if (name.len == 0) index = f->next++;
        if (index >= f->args->n_pos)
            return oct_tmpl_fail(f->c, "replacement index %u out of range", index);
        *out = f->args->pos[index];
        return true;
    }
    for (uint32_t i = 0; i < f->args->n_kw; i++)
        if (oct_str_eq(f->args->kw_names[i], name)) return (*out = f->args->kw[i]), true;
    return oct_tmpl_fail(f->c, "format: no such argument");
}

static bool is_align(char ch) { return ch == '<' || ch == '>' || ch == '^' || ch == '='; }

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static bool parse_spec(tmpl_ctx *c, oct_str s, spec *sp) {
    size_t at = 0, len = 0;
    uint32_t n = 0, point;
    *sp = (spec){.fill = " ", .fill_len = 1, .precision = -1};
    if (s.len) oct_utf8_next(s, &point, &len);
    if (len && len < s.len && is_align(s.ptr[len])) {
        memcpy(sp->fill, s.ptr, len);
        sp->fill_len = (uint8_t)len;
        sp->align = s.ptr[len];
        at = len + 1;
    } else if (s.len && is_align(s.ptr[0])) {
        sp->align = s.ptr[at++];
    }
    while (at < s.len && s.ptr[at] != '-' && flag_at(sp, s.ptr[at])) at++;
    if (!parse_count(s, &at, &sp->width)) return oct_tmpl_limit(c);
    if (at < s.len && s.ptr[at] == ',') sp->comma = true, at++;
    if (at < s.len && s.ptr[at] == '.') {
        at++;
        if (!parse_count(s, &at, &n)) return oct_tmpl_limit(c);
        sp->precision = (int)n;
    }
    if (at < s.len) sp->type = s.ptr[at++];
    return at == s.len || oct_tmpl_fail(c, "invalid format specifier");
}

static bool put_spec(tmpl_ctx *c, tmpl_text *t, spec *sp, tmpl_val v) {
    int64_t n;
    tmpl_val s = tmpl_none();
    if (v.kind == TMPL_STR || sp->type == 's') {
        if ((sp->type && sp->type != 's') || v.kind != TMPL_STR)
            return oct_tmpl_fail(c, "the format code does not fit the value");
        return put_text(t, sp, v);
    }
    if (tmpl_as_int(v, &n) && (!sp->type || strchr("dxXo", sp->type))) {
        if (sp->precision >= 0)
            return oct_tmpl_fail(c, "precision not allowed in an integer format specifier");
        return put_int(t, sp, n);
    }
    if (tmpl_is_num(v) && sp->type && strchr("fFeEgG%", sp->type))
        return put_float(t, sp, tmpl_as_f64(v));
    if (sp->type || (v.kind == TMPL_FLOAT && sp->precision >= 0))
        return oct_tmpl_fail(c, "the format code does not fit the value");
    if (!oct_tmpl_to_str(c, v, &s)) return false;
    pad(t, sp, tmpl_strv(s), 0, tmpl_is_num(v));
    return true;
}

/* "name!r:spec" between braces. */
static bool put_field(fields *f, tmpl_text *t, oct_str s) {
    const char *colon = s.len ? memchr(s.ptr, ':', s.len) : NULL;
    oct_str name = {s.ptr, colon ? (size_t)(colon - s.ptr) : s.len};
    const oct_str rest = colon ? (oct_str){colon + 1, s.len - name.len - 1} : (oct_str){s.ptr, 0};
    char conversion = '\0';
    if (name.len >= 2 && name.ptr[name.len - 2] == '!') {
        conversion = name.ptr[name.len - 1];
        name.len -= 2;
    }
    tmpl_val v = tmpl_none();
    spec sp;
    if (!field_value(f, name, &v) || !parse_spec(f->c, rest, &sp)) return false;
    if (conversion == 'r' && !repr(f->c, v, &v)) return false;
    if (conversion == 's' && !oct_tmpl_to_str(f->c, v, &v)) return false;
    if (conversion && conversion != 'r' && conversion != 's')
        return oct_tmpl_fail(f->c, "unknown conversion '%c' in a format", conversion);
    if (rest.len == 0 &&
        (!tmpl_is_num(v) ||
         v.kind == TMPL_BOOL)) /* true is an integer only where a format says how */
        return oct_tmpl_to_str(f->c, v, &v) && put_text(t, &sp, v);
    if (v.kind != TMPL_STR && v.kind != TMPL_BOOL && !tmpl_is_num(v))
        return oct_tmpl_fail_type(f->c, "unsupported format string passed to %s.__format__",
                                  oct_tmpl_type_name(v));
    return put_spec(f->c, t, &sp, v);
}

bool oct_tmpl_format(tmpl_ctx *c, tmpl_val fmt, const tmpl_args *a, tmpl_val *out) {
    tmpl_text t = {.c = c};
    fields f = {.c = c, .args = a};
    const oct_str s = tmpl_strv(fmt);
    for (size_t at = 0; at < s.len && !t.failed; at++) {
        const char ch = s.ptr[at];
        const bool twice = at + 1 < s.len && s.ptr[at + 1] == ch;
        if (ch != '{' && ch != '}') {
            oct_tmpl_text_pad(&t, ch, 1);
        } else if (twice) {
            oct_tmpl_text_pad(&t, s.ptr[at++], 1);
        } else {
            const char *end = ch == '{' ? memchr(s.ptr + at, '}', s.len - at) : NULL;
            if (!end) return oct_tmpl_fail(c, "single '%c' encountered in format string", ch);
            const oct_str inside = {s.ptr + at + 1, (size_t)(end - s.ptr) - at - 1};
            if (!oct_tmpl_step(c, 1) || !put_field(&f, &t, inside)) return false;
            at = (size_t)(end - s.ptr);
        }
    }
    return oct_tmpl_text_done(&t, out);
}
