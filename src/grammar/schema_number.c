/*
 * grammar/schema_number.c - numbers between bounds, digit by digit, exactly.
 *
 * A number is read against both bounds at once. As long as its digits are those of a bound it is
 * tight to it; a digit on the inner side makes it free of it for good, one on the outer side is no
 * way. Whole parts are told apart by their length, so that digits stand under each other.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "grammar/schema_parts.h"

enum { MAX_DIGITS = 40 };

/* A bound's magnitude: digits before and behind the point. */
typedef struct decimal {
    bool set, negative, open; /* open: the bound itself is out */
    char whole[MAX_DIGITS], fraction[MAX_DIGITS];
    uint32_t n_whole, n_fraction;
} decimal;

static bool is_zero(const decimal *d) {
    return d->n_fraction == 0 && d->n_whole == 1 && d->whole[0] == '0';
}

/* "[-]digits[.digits][e[+-]digits]" spelled out; false: too long. */
static bool spell(const char *text, decimal *d) {
    char digits[64];
    uint32_t n = 0;
    long point = -1;
    d->negative = *text == '-';
    if (d->negative) text++;
    for (; *text && *text != 'e'; text++) {
        if (*text == '.')
            point = (long)n;
        else if (n < sizeof digits)
            digits[n++] = *text;
    }
    if (point < 0) point = (long)n;
    if (*text == 'e') point += strtol(text + 1, NULL, 10);
    if (point > MAX_DIGITS || point < -MAX_DIGITS) return false;
    for (long i = 0; i < point || i < (long)n; i++) {
        const char c = i < (long)n ? digits[i] : '0';
        char *to = i < point ? d->whole : d->fraction;
        uint32_t *len = i < point ? &d->n_whole : &d->n_fraction;
        if (i == 0)
            for (long k = point; k < 0 && d->n_fraction < MAX_DIGITS; k++)
                d->fraction[d->n_fraction++] = '0';
        if (*len == MAX_DIGITS) return false;
        to[(*len)++] = c;
    }
    while (d->n_fraction > 0 && d->fraction[d->n_fraction - 1] == '0') d->n_fraction--;
    uint32_t zeros = 0;
    while (zeros < d->n_whole && d->whole[zeros] == '0') zeros++;
    memmove(d->whole, d->whole + zeros, d->n_whole - zeros);
    d->n_whole -= zeros;
    if (d->n_whole == 0) d->whole[d->n_whole++] = '0';
    return true;
}

static void read_bound(oct_schema *s, const json_t *schema, const char *keyword, bool open,
                       decimal *d) {
    char text[40];
    const json_t *v = json_object_get(schema, keyword);
    if (!v) return;
    if (json_is_integer(v))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        (void)oct_format_f64(json_real_value(v), text);
    *d = (decimal){.set = true, .open = open};
    if (!json_is_number(v) || !spell(text, d)) {
        char shown[OCT_JSON_SHOWN];
        oct_schema_fail(s, keyword, "must be a number of at most %d digits (got %s)", MAX_DIGITS,
                        oct_json_show(v, shown));
    }
}

/* ---- magnitudes ---- */

typedef struct emit {
    oct_build *b;
    const decimal *lo, *hi; /* lo is always set */
    bool whole;
    uint32_t to;
    uint32_t point[2][2];                                /* [tight to lo][to hi] */
    uint32_t behind[OCT_JSON_FRACTION_DIGITS + 1][2][2]; /* so many digits of the fraction */
} emit;

#define NOT_MADE UINT32_MAX

static char digit_at(const char *digits, uint32_t n, uint32_t i) { return i < n ? digits[i] : '0'; }

static void link(emit *e, uint32_t from, uint32_t to) {
    oct_build_edge(e->b, from, to, OCT_EDGE_EMPTY, 0, 0, 0);
}

/* May the number end when j digits of its fraction were read? */
static bool may_end(const emit *e, uint32_t j, bool lo, bool hi) {
    const bool lo_over = j >= e->lo->n_fraction; /* what is left of it is zeros */
    const bool hi_over = j >= e->hi->n_fraction;
    if (lo && (!lo_over || e->lo->open)) return false;
    return !(hi && hi_over && e->hi->open);
}

/* Calls go for each digit that is a way on. */
static uint32_t state_behind(emit *e, uint32_t j, bool lo, bool hi) {
    uint32_t *at = &e->behind[j][lo][hi];
    if (*at == NOT_MADE) *at = oct_build_state(e->b);
    return *at;
}

static void add_digits(emit *e, uint32_t from, char lo_digit, bool lo, char hi_digit, bool hi,
                       char first, uint32_t (*to)(emit *, uint32_t, bool, bool), uint32_t arg) {
    for (char d = first; d <= '9' && e->b->status == OCT_OK; d++) {
        if ((lo && d < lo_digit) || (hi && d > hi_digit)) continue;
        const uint32_t next = to(e, arg, lo && d == lo_digit, hi && d == hi_digit);
        oct_build_edge(e->b, from, next, OCT_EDGE_BYTES, (uint8_t)d, (uint8_t)d, 0);
    }
}

static void make_fraction(emit *e) {
    for (int lo = 0; lo < 2; lo++)
        for (int hi = 0; hi < 2; hi++) {
            if (e->point[lo][hi] == NOT_MADE) continue;
            if (may_end(e, 0, lo, hi)) link(e, e->point[lo][hi], e->to);
            if (!e->whole)
                oct_build_edge(e->b, e->point[lo][hi], state_behind(e, 0, lo, hi), OCT_EDGE_BYTES,
                               '.', '.', 0);
        }
    for (uint32_t j = 0; j <= OCT_JSON_FRACTION_DIGITS; j++)
        for (int lo = 0; lo < 2; lo++)
            for (int hi = 0; hi < 2; hi++) {
                const uint32_t at = e->behind[j][lo][hi];
                if (at == NOT_MADE) continue;
                if (j > 0 && may_end(e, j, lo, hi)) link(e, at, e->to);
                if (j == OCT_JSON_FRACTION_DIGITS) continue;
                add_digits(e, at, digit_at(e->lo->fraction, e->lo->n_fraction, j), lo,
                           digit_at(e->hi->fraction, e->hi->n_fraction, j), hi, '0', state_behind,
                           j + 1);
            }
}

/* ---- whole parts of one length ---- */

typedef struct row {
    uint32_t at[2][2];
} row;

static uint32_t point_of(emit *e, uint32_t arg, bool lo, bool hi) {
    (void)arg;
    uint32_t *at = &e->point[lo][hi];
    if (*at == NOT_MADE) *at = oct_build_state(e->b);
    return *at;
}

static void make_whole(emit *e, uint32_t from, uint32_t n) {
    const bool lo = n == e->lo->n_whole, hi = e->hi->set && n == e->hi->n_whole;
    row now, next;
    memset(&now, 0xFF, sizeof now);
    now.at[lo][hi] = from;
    for (uint32_t i = 0; i < n; i++) {
        memset(&next, 0xFF, sizeof next);
        for (int l = 0; l < 2; l++)
            for (int h = 0; h < 2; h++) {
                if (now.at[l][h] == NOT_MADE) continue;
                for (char d = i == 0 && n > 1 ? '1' : '0'; d <= '9'; d++) {
                    if (l && d < e->lo->whole[i]) continue;
                    if (h && d > e->hi->whole[i]) continue;
                    const bool tl = l && d == e->lo->whole[i], th = h && d == e->hi->whole[i];
                    uint32_t to;
                    if (i + 1 == n) {
                        to = point_of(e, 0, tl, th);
                    } else {
                        if (next.at[tl][th] == NOT_MADE) next.at[tl][th] = oct_build_state(e->b);
                        to = next.at[tl][th];
                    }
                    oct_build_edge(e->b, now.at[l][h], to, OCT_EDGE_BYTES, (uint8_t)d, (uint8_t)d,
                                   0);
                }
            }
        now = next;
    }
}

/* Numbers without a sign from *lo to *hi (unset: no end). */
static oct_piece magnitudes(oct_schema *s, const decimal *lo, const decimal *hi, bool whole) {
    const oct_piece p = oct_build_nothing(s->b);
    emit *e = oct_calloc(s->b->mem, 1, sizeof *e);
    if (!e) {
        OCT_BUILD_FAIL(s->b, OCT_E_NOMEM, "no memory for a grammar");
        return p;
    }
    *e = (emit){.b = s->b, .lo = lo, .hi = hi, .whole = whole, .to = p.to};
    memset(e->point, 0xFF, sizeof e->point);
    memset(e->behind, 0xFF, sizeof e->behind);
    for (uint32_t n = lo->n_whole; n <= OCT_JSON_INT_DIGITS; n++)
        if (!hi->set || n <= hi->n_whole) make_whole(e, p.from, n);
    make_fraction(e);
    oct_free(s->b->mem, e, 1, sizeof *e);
    return p;
}

/* ---- multiples ---- */

/* Whole numbers that m divides. */
static oct_piece multiples(oct_schema *s, uint32_t m) {
    oct_build *b = s->b;
    const oct_piece p = oct_build_nothing(b);
    const uint32_t begin = oct_build_state(b);
    oct_build_edge(b, p.from, begin, OCT_EDGE_EMPTY, 0, 0, 0);
    oct_build_edge(b, p.from, begin, OCT_EDGE_BYTES, '-', '-', 0);
    oct_build_edge(b, p.from, p.to, OCT_EDGE_BYTES, '0', '0', 0);
    uint32_t first =
        b->n_states; /* state of remainder r behind n digits: first + (n - 1) * m + r */
    for (uint32_t i = 0; i < OCT_JSON_INT_DIGITS * m && b->status == OCT_OK; i++)
        (void)oct_build_state(b);
    for (uint32_t d = 1; d <= 9; d++)
        oct_build_edge(b, begin, first + d % m, OCT_EDGE_BYTES, (uint8_t)('0' + d),
                       (uint8_t)('0' + d), 0);
    for (uint32_t n = 1; n <= OCT_JSON_INT_DIGITS && b->status == OCT_OK; n++) {
        oct_build_edge(b, first, p.to, OCT_EDGE_EMPTY, 0, 0, 0);
        for (uint32_t r = 0; r < m && n < OCT_JSON_INT_DIGITS; r++)
            for (uint32_t d = 0; d <= 9; d++)
                oct_build_edge(b, first + r, first + m + (r * 10 + d) % m, OCT_EDGE_BYTES,
                               (uint8_t)('0' + d), (uint8_t)('0' + d), 0);
        first += m;
    }
    return p;
}

static bool is_bounded(const json_t *schema) {
    return json_object_get(schema, "minimum") || json_object_get(schema, "maximum") ||
           json_object_get(schema, "exclusiveMinimum") ||
           json_object_get(schema, "exclusiveMaximum");
}

/* 0: none, or one that says nothing more; 1 makes numbers whole. */
static uint32_t read_multiple(oct_schema *s, const json_t *schema) {
    enum { MOST = 1000 };
    const json_t *v = json_object_get(schema, "multipleOf");
    const double d = json_number_value(v);
    char shown[OCT_JSON_SHOWN];
    if (!v) return 0;
    if (!json_is_number(v) || d < 1 || d > MOST || d != (double)(uint32_t)d)
        oct_schema_fail(s, "multipleOf", "is only supported for whole numbers up to %d (got %s)",
                        MOST, oct_json_show(v, shown));
    else if (d > 1 && is_bounded(schema))
        oct_schema_fail(s, "multipleOf", "is not supported beside bounds");
    return s->b->status == OCT_OK ? (uint32_t)d : 0;
}

/* ---- both signs ---- */

static int compare_whole(const decimal *a, const decimal *b) {
    if (a->n_whole != b->n_whole) return a->n_whole < b->n_whole ? -1 : 1;
    return memcmp(a->whole, b->whole, a->n_whole);
}

static int compare(const decimal *a, const decimal *b) {
    const int whole = compare_whole(a, b);
    if (whole != 0) return whole;
    for (uint32_t i = 0; i < a->n_fraction || i < b->n_fraction; i++) {
        const int d =
            digit_at(a->fraction, a->n_fraction, i) - digit_at(b->fraction, b->n_fraction, i);
        if (d != 0) return d;
    }
    return 0;
}

static const decimal zero = {.set = true, .whole = "0", .n_whole = 1};

/* The tighter of an inclusive and an exclusive bound; sign -1: of upper ones. */
static decimal tighter(const decimal *in, const decimal *out, int sign) {
    if (!in->set) return *out;
    if (!out->set) return *in;
    int order;
    if (in->negative != out->negative)
        order = in->negative ? -1 : 1;
    else
        order = in->negative ? compare(out, in) : compare(in, out);
    return order * sign > 0 ? *in : *out; /* equal: the exclusive one */
}

oct_piece oct_schema_number(oct_schema *s, const json_t *schema, bool whole) {
    decimal min = {0}, max = {0}, over = {0}, under = {0};
    const uint32_t multiple = read_multiple(s, schema);
    if (multiple > 1) return multiples(s, multiple);
    whole = whole || multiple == 1;
    if (!is_bounded(schema)) return oct_json_call(s->j, whole ? OCT_JSON_INTEGER : OCT_JSON_NUMBER);
    /* Before 2019 the exclusive ones were switches. */
    const bool open_min = json_is_true(json_object_get(schema, "exclusiveMinimum"));
    const bool open_max = json_is_true(json_object_get(schema, "exclusiveMaximum"));
    read_bound(s, schema, "minimum", open_min, &min);
    read_bound(s, schema, "maximum", open_max, &max);
    if (!json_is_boolean(json_object_get(schema, "exclusiveMinimum")))
        read_bound(s, schema, "exclusiveMinimum", true, &over);
    if (!json_is_boolean(json_object_get(schema, "exclusiveMaximum")))
        read_bound(s, schema, "exclusiveMaximum", true, &under);
    const oct_piece all = oct_build_nothing(s->b);
    if (s->b->status != OCT_OK) return all;
    decimal lo = tighter(&min, &over, 1), hi = tighter(&max, &under, -1);
    if (lo.negative && is_zero(&lo)) lo.negative = false;
    if (hi.negative && is_zero(&hi)) hi.negative = false;
    if (!hi.set || !hi.negative) { /* from zero or lo up to hi */
        const decimal from = lo.set && !lo.negative ? lo : zero;
        oct_build_join(s->b, all, magnitudes(s, &from, &hi, whole));
    }
    if (!lo.set || lo.negative) { /* "-" and what lies between hi and lo without their signs */
        decimal from = hi.set && hi.negative ? hi : zero;
        if (!(hi.set && hi.negative)) from.open = true;
        const oct_piece sign = oct_build_text(s->b, OCT_STR("-"));
        oct_build_join(s->b, all, oct_build_cat(s->b, sign, magnitudes(s, &from, &lo, whole)));
    }
    return all;
}
