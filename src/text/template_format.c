/*
 * text/template_format.c - "%s" % x and "{}".format(x), with Python's flags, widths and types.
 *
 * Width and precision are bounded by what a template may print at all.
 */
#include <math.h>
#include <stdio.h>

#include "codec/utf8.h"
#include "text/template_priv.h"

enum { MAX_WIDTH = 1 << 24, MAX_PRECISION = 100, NUMBER_BYTES = 512 };

typedef struct spec {
    bool left, plus, blank, zero, alt;
    bool sign;           /* of format(): any was given */
    char sep;            /* of groups of digits: ',' or '_'; '\0': none */
    char fill[4], align; /* of format(); align '\0': by kind */
    uint8_t fill_len;
    uint32_t width;
    int precision; /* -1: none */
    char type;     /* '\0': none was given */
} spec;

/* A number on its way: text[0, sign_len) is its sign and prefix, then come its digits. */
typedef struct number {
    char text[NUMBER_BYTES];
    size_t sign_len;
} number;

/* Puts a number's or string's text into its field. sign_len leading bytes stay before zeros. */
static void pad(tmpl_text *t, const spec *sp, oct_str s, size_t sign_len, bool numeric) {
    const size_t n = oct_utf8_count(s);
    const size_t gap = n < sp->width ? sp->width - n : 0;
    const char align = sp->align ? sp->align : sp->left ? '<' : numeric ? '>' : '<';
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

/* The number with its digits in groups. Zeros that fill a field are grouped with the digits, and a
 * field that would begin with a separator is one wider. */
static void put_groups(tmpl_text *t, const spec *sp, const number *v, size_t n) {
    const size_t every = sp->type && strchr("xXob", sp->type) ? 4 : 3;
    const oct_str digits = {v->text + v->sign_len, n};
    const oct_str rest = oct_str_of(digits.ptr + n);
    const size_t others = v->sign_len + rest.len;
    const size_t room = sp->width > others ? sp->width - others : 0;
    const bool zeros = sp->align == '=' && sp->fill_len == 1 && sp->fill[0] == '0';
    size_t all = n;
    if (zeros) all = n > room * every / (every + 1) ? n : room * every / (every + 1);
    while (zeros && all + (all - 1) / every < room) all++;
    tmpl_text own = {.c = t->c}, *to = zeros ? t : &own;
    oct_tmpl_text_add(to, (oct_str){v->text, v->sign_len});
    for (size_t i = 0; i < all && !to->failed; i++) {
        if (i && (all - i) % every == 0) oct_tmpl_text_pad(to, sp->sep, 1);
        oct_tmpl_text_pad(to, i < all - n ? '0' : digits.ptr[i - (all - n)], 1);
    }
    oct_tmpl_text_add(to, rest);
    if (zeros) return;
    pad(t, sp, (oct_str){own.data, own.len}, v->sign_len, true);
    t->failed |= own.failed;
}

static const char *sign_of(const spec *sp, bool negative) {
    return negative ? "-" : sp->plus ? "+" : sp->blank ? " " : "";
}

static bool put_number(tmpl_text *t, const spec *sp, const number *v) {
    spec field = *sp;
    if (sp->zero && !sp->left && !sp->align) {
        field.align = '=';
        field.fill[0] = '0';
        field.fill_len = 1;
    }
    const bool hex = sp->type == 'x' || sp->type == 'X';
    const size_t n = strspn(v->text + v->sign_len, hex ? "0123456789abcdefABCDEF" : "0123456789");
    if (sp->sep && n)
        put_groups(t, &field, v, n);
    else
        pad(t, &field, oct_str_of(v->text), v->sign_len, true);
    return true;
}

/* The digits of v in base 2^shift, which ends at end. */
static char *digits_of(uint64_t v, unsigned shift, const char *letters, char *end) {
    do *--end = letters[v & ((1u << shift) - 1)];
    while (v >>= shift);
    return end;
}

static bool put_int(tmpl_text *t, const spec *sp, int64_t value) {
    char room[72], *end = room + sizeof room - 1, *digits = end;
    const uint64_t mag = value < 0 ? -(uint64_t)value : (uint64_t)value;
    const char *prefix = "";
    *end = '\0';
    switch (sp->type) {
    case 'x':
        digits = digits_of(mag, 4, "0123456789abcdef", end);
        prefix = "0x";
        break;
    case 'X':
        digits = digits_of(mag, 4, "0123456789ABCDEF", end);
        prefix = "0X";
        break;
    case 'o':
        digits = digits_of(mag, 3, "01234567", end);
        prefix = "0o";
        break;
    case 'b':
        digits = digits_of(mag, 1, "01", end);
        prefix = "0b";
        break;
    default:
        digits = room;
        snprintf(room, sizeof room, "%llu", (unsigned long long)mag);
        break;
    }
    if (sp->precision > MAX_PRECISION) return oct_tmpl_limit(t->c);
    const int len = (int)strlen(digits), zeros = sp->precision > len ? sp->precision - len : 0;
    number v;
    v.sign_len = (size_t)snprintf(v.text, sizeof v.text, "%s%s", sign_of(sp, value < 0),
                                  sp->alt ? prefix : "");
    memset(v.text + v.sign_len, '0', (size_t)zeros);
    memcpy(v.text + v.sign_len + zeros, digits, (size_t)len + 1);
    return put_number(t, sp, &v);
}

/* What format() writes for a float with a precision and no type: as 'g', but never an integer, and
 * with an exponent where one digit more would be before the point. */
static void general(double mag, int precision, bool alt, char *out, size_t cap) {
    if (precision == 0) precision = 1;
    const int n = snprintf(out, cap, alt ? "%#.*e" : "%.*e", precision - 1, mag);
    if (!isfinite(mag)) return;
    char *e = strchr(out, 'e'), *last = e;
    if (atoi(e + 1) != precision - 1) {
        snprintf(out, cap, alt ? "%#.*g" : "%.*g", precision, mag);
        if (!strpbrk(out, ".e")) snprintf(out + strlen(out), cap - strlen(out), ".0");
        return;
    }
    if (alt) return;
    /* zeros at the end of the fraction go */
    while (memchr(out, '.', (size_t)(last - out)) && (last[-1] == '0' || last[-1] == '.')) last--;
    memmove(last, e, (size_t)(out + n - e) + 1);
}

static bool float_text(const spec *sp, double mag, tmpl_ctx *c, char *out, size_t cap) {
    const int precision = sp->precision < 0 ? 6 : sp->precision;
    const bool alt = sp->alt;
    switch (sp->type) {
    case 'e':
        return snprintf(out, cap, alt ? "%#.*e" : "%.*e", precision, mag) > 0;
    case 'E':
        return snprintf(out, cap, alt ? "%#.*E" : "%.*E", precision, mag) > 0;
    case 'g':
    case 'n':
        return snprintf(out, cap, alt ? "%#.*g" : "%.*g", precision, mag) > 0;
    case 'G':
        return snprintf(out, cap, alt ? "%#.*G" : "%.*G", precision, mag) > 0;
    case 'F':
        return snprintf(out, cap, alt ? "%#.*F" : "%.*F", precision, mag) > 0;
    case 'f':
        return snprintf(out, cap, alt ? "%#.*f" : "%.*f", precision, mag) > 0;
    case '%':
        return snprintf(out, cap, alt ? "%#.*f%%" : "%.*f%%", precision, mag * 100) > 0;
    default:
        break;
    }
    if (sp->precision >= 0) return general(mag, precision, alt, out, cap), true;
    tmpl_val s;
    if (!oct_tmpl_to_str(c, tmpl_float(mag), &s)) return false;
    const size_t digits = alt && !memchr(s.u.s, '.', s.len) ? strspn(s.u.s, "0123456789") : 0;
    snprintf(out, cap, "%.*s%s%.*s", (int)digits, s.u.s, digits ? "." : "", (int)(s.len - digits),
             s.u.s + digits);
    return true;
}

static bool put_float(tmpl_text *t, const spec *sp, double value) {
    number v;
    if (sp->precision > MAX_PRECISION) return oct_tmpl_limit(t->c);
    v.sign_len =
        (size_t)snprintf(v.text, sizeof v.text, "%s", sign_of(sp, signbit(value) && !isnan(value)));
    return float_text(sp, fabs(value), t->c, v.text + v.sign_len, sizeof v.text - v.sign_len) &&
           put_number(t, sp, &v);
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

/* s with escapes for all that is not ASCII. */
static bool ascii(tmpl_ctx *c, tmpl_val v, tmpl_val *out) {
    tmpl_text t = {.c = c};
    const oct_str s = tmpl_strv(v);
    for (size_t at = 0, len; at < s.len && !t.failed; at += len) {
        char text[16];
        uint32_t p;
        oct_utf8_next((oct_str){s.ptr + at, s.len - at}, &p, &len);
        snprintf(text, sizeof text,
                 p < 0x80      ? "%c"
                 : p < 0x100   ? "\\x%02x"
                 : p < 0x10000 ? "\\u%04x"
                               : "\\U%08x",
                 p);
        oct_tmpl_text_cstr(&t, text);
    }
    return oct_tmpl_text_done(&t, out);
}

/* v as %s, %r and %a show it; in marked-up text what they show is escaped. */
static bool shown(tmpl_ctx *c, char how, bool safe, tmpl_val v, tmpl_val *out) {
    if (!(how == 's' ? oct_tmpl_to_str(c, v, out) : repr(c, v, out))) return false;
    if (safe && !oct_tmpl_escape(c, *out, out)) return false;
    return how != 'a' || ascii(c, *out, out);
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
    bool safe; /* the format is marked up */
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

/* A width or precision; *minus: it came as an argument below 0. */
static bool count_arg(percent *p, oct_str s, size_t *at, uint32_t *out, bool *minus) {
    tmpl_val v;
    int64_t n;
    if (*at >= s.len || s.ptr[*at] != '*') return parse_count(s, at, out) || oct_tmpl_limit(p->c);
    ++*at;
    if (!next_arg(p, &v)) return false;
    if (!tmpl_as_int(v, &n)) return oct_tmpl_fail_type(p->c, "* wants int");
    if (n < -MAX_WIDTH || n > MAX_WIDTH) return oct_tmpl_limit(p->c);
    *minus = n < 0;
    *out = (uint32_t)(n < 0 ? -n : n);
    return true;
}

/* %c: a number is a code point, a string is one character. */
static bool put_char(tmpl_ctx *c, tmpl_text *t, const spec *sp, tmpl_val v) {
    int64_t n;
    char utf8[4];
    if (v.kind == TMPL_STR && v.len > 0 && oct_tmpl_offset(v, 1) == v.len)
        return pad(t, sp, tmpl_strv(v), 0, false), true;
    if (v.kind == TMPL_STR || !tmpl_as_int(v, &n))
        return oct_tmpl_fail_type(c, "%%c requires int or char");
    const size_t len = n >= 0 && n <= 0x10ffff ? oct_utf8_encode((uint32_t)n, utf8) : 0;
    if (len == 0) return oct_tmpl_fail(c, "%%c arg not a character (got %lld)", (long long)n);
    pad(t, sp, (oct_str){utf8, len}, 0, true);
    return true;
}

static bool convert(percent *p, tmpl_text *t, spec *sp, tmpl_val v) {
    int64_t n;
    tmpl_val s = tmpl_none();
    switch (sp->type) {
    case 's':
    case 'r':
    case 'a':
        return shown(p->c, sp->type, p->safe, v, &s) && put_text(t, sp, s);
    case 'c':
        if (p->safe) break;
        return put_char(p->c, t, sp, v);
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        if (p->safe && strchr("xXo", sp->type)) break;
        if (v.kind == TMPL_FLOAT && strchr("diu", sp->type) && fabs(v.u.f) < 9e18)
            return put_int(t, sp, (int64_t)v.u.f);
        if (v.kind == TMPL_FLOAT && strchr("diu", sp->type))
            return oct_tmpl_fail(p->c, "integer too large for %%%c", sp->type);
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
    return oct_tmpl_fail_type(p->c, "%%%c format: marked-up text takes no integer", sp->type);
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
    bool minus = false;
    if (*at < s.len && s.ptr[*at] == '(') {
        const char *end = memchr(s.ptr + *at, ')', s.len - *at);
        if (!end) return oct_tmpl_fail(p->c, "incomplete format key");
        const oct_str name = {s.ptr + *at + 1, (size_t)(end - s.ptr) - *at - 1};
        if (!named_arg(p, name, &v)) return false;
        *at += name.len + 2;
    }
    while (*at < s.len && flag_at(&sp, s.ptr[*at])) ++*at;
    if (!count_arg(p, s, at, &sp.width, &minus)) return false;
    sp.left |= minus;
    if (*at < s.len && s.ptr[*at] == '.') {
        ++*at;
        minus = false;
        if (!count_arg(p, s, at, &n, &minus)) return false;
        sp.precision = minus ? 0 : (int)n;
    }
    if (*at < s.len && strchr("hlL", s.ptr[*at])) ++*at; /* C's length, which means nothing here */
    if (*at >= s.len) return oct_tmpl_fail(p->c, "incomplete format");
    sp.type = s.ptr[(*at)++];
    if (sp.type == '%') return oct_tmpl_text_pad(t, '%', 1), true;
    if (sp.type && strchr("srac", sp.type)) sp.align = sp.left ? '<' : '>';
    if (v.kind == TMPL_ABSENT && !next_arg(p, &v)) return false;
    return convert(p, t, &sp, v);
}

bool oct_tmpl_percent(tmpl_ctx *c, tmpl_val fmt, tmpl_val arg, tmpl_val *out) {
    tmpl_text t = {.c = c};
    percent p = {.c = c, .arg = arg, .safe = (fmt.flags & TMPL_SAFE) != 0};
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
    if (!oct_tmpl_text_done(&t, out)) return false;
    out->flags |= fmt.flags & TMPL_SAFE;
    return true;
}

/* ---- format() ---- */

typedef struct fields {
    tmpl_ctx *c;
    const tmpl_args *args;
    uint32_t next;
    bool safe;
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

/* [[fill]align][sign][#][0][width][,_][.precision][type], in this order */
static bool parse_spec(tmpl_ctx *c, oct_str s, spec *sp) {
    size_t at = 0, len = 0;
    uint32_t n = 0, point;
    bool filled = false;
    *sp = (spec){.fill = " ", .fill_len = 1, .precision = -1};
    if (s.len) oct_utf8_next(s, &point, &len);
    if (len && len < s.len && is_align(s.ptr[len])) {
        memcpy(sp->fill, s.ptr, len);
        sp->fill_len = (uint8_t)len;
        sp->align = s.ptr[len];
        at = len + 1;
        filled = true;
    } else if (s.len && is_align(s.ptr[0])) {
        sp->align = s.ptr[at++];
    }
    if (at < s.len && memchr("+- ", s.ptr[at], 3)) sp->sign = flag_at(sp, s.ptr[at++]);
    sp->left = false; /* '-' is a sign here */
    if (at < s.len && s.ptr[at] == '#') sp->alt = true, at++;
    if (!filled && at < s.len && s.ptr[at] == '0') {
        sp->fill[0] = '0';
        sp->zero = true;
        at++;
    }
    if (!parse_count(s, &at, &sp->width)) return oct_tmpl_limit(c);
    if (at < s.len && (s.ptr[at] == ',' || s.ptr[at] == '_')) sp->sep = s.ptr[at++];
    if (at < s.len && s.ptr[at] == '.') {
        const size_t from = ++at;
        if (!parse_count(s, &at, &n)) return oct_tmpl_limit(c);
        if (at == from) return oct_tmpl_fail(c, "a format specifier lacks its precision");
        sp->precision = (int)n;
    }
    if (at < s.len) sp->type = s.ptr[at++];
    return at == s.len || oct_tmpl_fail(c, "invalid format specifier");
}

static bool does_not_fit(tmpl_ctx *c) {
    return oct_tmpl_fail(c, "the format code does not fit the value");
}

static bool put_spec(tmpl_ctx *c, tmpl_text *t, spec *sp, tmpl_val v) {
    int64_t n;
    if (v.kind == TMPL_STR) {
        if ((sp->type && sp->type != 's') || sp->sign || sp->alt || sp->sep || sp->align == '=')
            return does_not_fit(c);
        return put_text(t, sp, v);
    }
    if (tmpl_as_int(v, &n) && (!sp->type || strchr("dnxXobc", sp->type))) {
        if (sp->precision >= 0)
            return oct_tmpl_fail(c, "precision not allowed in an integer format specifier");
        if (sp->type && sp->sep && strchr(sp->sep == ',' ? "nxXobc" : "nc", sp->type))
            return does_not_fit(c);
        if (sp->type != 'c') return put_int(t, sp, n);
        return sp->sign || sp->alt ? does_not_fit(c) : put_char(c, t, sp, v);
    }
    if (sp->type && !strchr(sp->sep ? "fFeEgG%" : "fFeEgGn%", sp->type)) return does_not_fit(c);
    return put_float(t, sp, tmpl_as_f64(v));
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
    if (conversion && !strchr("sra", conversion))
        return oct_tmpl_fail(f->c, "unknown conversion '%c' in a format", conversion);
    if (conversion && !shown(f->c, conversion, false, v, &v)) return false;
    if (conversion) v.flags &= (uint8_t)~TMPL_SAFE; /* str() of marked-up text is plain */
    if (f->safe && v.kind == TMPL_STR && (v.flags & TMPL_SAFE) && rest.len)
        return oct_tmpl_fail(f->c, "a format of marked-up text takes no specifier");
    /* true is an integer only where a format says how */
    if (rest.len == 0 && (!tmpl_is_num(v) || v.kind == TMPL_BOOL))
        return shown(f->c, 's', f->safe, v, &v) && put_text(t, &sp, v);
    if (v.kind != TMPL_STR && v.kind != TMPL_BOOL && !tmpl_is_num(v))
        return oct_tmpl_fail_type(f->c, "unsupported format string passed to %s.__format__",
                                  oct_tmpl_type_name(v));
    if (!f->safe) return put_spec(f->c, t, &sp, v);
    tmpl_text own = {.c = f->c}; /* the field is escaped with what fills it */
    if (!put_spec(f->c, &own, &sp, v) || !oct_tmpl_text_done(&own, &v)) return false;
    return oct_tmpl_escape(f->c, v, &v) && (oct_tmpl_text_add(t, tmpl_strv(v)), true);
}

bool oct_tmpl_format(tmpl_ctx *c, tmpl_val fmt, const tmpl_args *a, tmpl_val *out) {
    tmpl_text t = {.c = c};
    fields f = {.c = c, .args = a, .safe = (fmt.flags & TMPL_SAFE) != 0};
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
    if (!oct_tmpl_text_done(&t, out)) return false;
    out->flags |= fmt.flags & TMPL_SAFE;
    return true;
}
