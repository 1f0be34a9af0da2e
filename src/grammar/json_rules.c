/* grammar/json_rules.c - JSON's own parts. */
#include "grammar/json_rules.h"

#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "grammar/regex.h"

static const char *const names[OCT_JSON_N_RULES] = {"blanks",  "indent", "string", "number",
                                                    "integer", "value",  "object", "array"};

void oct_json_rules_init(oct_json_rules *j, oct_build *b, const oct_grammar_style *style) {
    *j = (oct_json_rules){.b = b, .style = style};
    for (int i = 0; i < OCT_JSON_N_RULES; i++) j->rules[i] = UINT32_MAX;
}

oct_piece oct_json_call(oct_json_rules *j, oct_json_rule which) {
    const uint32_t rule = oct_json_rule_of(j, which); /* before the piece begins */
    return oct_build_call(j->b, rule);
}

/* ---- blanks ---- */

static oct_piece make_indent(oct_build *b) {
    const oct_char_range blank[] = {{'\t', '\t'}, {' ', ' '}};
    return oct_build_repeat(b, oct_build_chars(b, blank, 2), 0, 20);
}

oct_piece oct_json_blanks(oct_json_rules *j) {
    oct_build *b = j->b;
    if (j->style->blanks.len > 0) return oct_json_call(j, OCT_JSON_BLANKS);
    if (j->style->no_blanks) return oct_build_empty(b);
    const uint32_t indent = oct_json_rule_of(j, OCT_JSON_INDENT);
    const oct_piece none = oct_build_empty(b);
    const oct_piece one = oct_build_or(b, none, oct_build_text(b, OCT_STR(" ")));
    oct_piece line = oct_build_text(b, OCT_STR("\n"));
    line = oct_build_cat(b, line, oct_build_call(b, indent));
    return oct_build_or(b, one, line);
}

oct_piece oct_json_spaced(oct_json_rules *j, const char *text) {
    oct_piece p = oct_json_blanks(j);
    p = oct_build_cat(j->b, p, oct_build_text(j->b, oct_str_of(text)));
    return oct_build_cat(j->b, p, oct_json_blanks(j));
}

/* ---- strings ---- */

static oct_piece hex(oct_build *b, const oct_char_range *digits, size_t n) {
    return oct_build_chars(b, digits, n);
}

static const oct_char_range any_hex[] = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};

static oct_piece cat_hex(oct_build *b, oct_piece p, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) p = oct_build_cat(b, p, hex(b, any_hex, 3));
    return p;
}

/* Four hexadecimal digits that are no half of a pair, or a pair. */
static oct_piece unicode_escape(oct_build *b) {
    const oct_char_range not_d[] = {{'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}};
    const oct_char_range d[] = {{'D', 'D'}, {'d', 'd'}};
    const oct_char_range low[] = {{'0', '7'}}, high[] = {{'8', '9'}, {'A', 'B'}, {'a', 'b'}};
    const oct_char_range last[] = {{'C', 'F'}, {'c', 'f'}};
    const oct_piece plain = cat_hex(b, hex(b, not_d, 5), 3);
    oct_piece dx = hex(b, d, 2);
    dx = cat_hex(b, oct_build_cat(b, dx, hex(b, low, 1)), 2);
    oct_piece pair = hex(b, d, 2);
    pair = cat_hex(b, oct_build_cat(b, pair, hex(b, high, 3)), 2);
    pair = oct_build_cat(b, pair, oct_build_text(b, OCT_STR("\\u")));
    pair = oct_build_cat(b, pair, hex(b, d, 2));
    pair = cat_hex(b, oct_build_cat(b, pair, hex(b, last, 2)), 2);
    oct_piece p = oct_build_text(b, OCT_STR("u"));
    const oct_piece single = oct_build_or(b, plain, dx);
    return oct_build_since(plain, oct_build_cat(b, p, oct_build_or(b, single, pair)));
}

oct_piece oct_json_char(oct_build *b) {
    const oct_char_range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}};
    const oct_char_range shorts[] = {{'"', '"'}, {'/', '/'}, {'\\', '\\'}, {'b', 'b'},
                                     {'f', 'f'}, {'n', 'n'}, {'r', 'r'},   {'t', 't'}};
    const oct_piece self = oct_build_chars(b, plain, 3);
    oct_piece escape = oct_build_text(b, OCT_STR("\\"));
    const oct_piece one = oct_build_chars(b, shorts, 8);
    escape = oct_build_cat(b, escape, oct_build_or(b, one, unicode_escape(b)));
    return oct_build_or(b, self, escape);
}

oct_piece oct_json_char_of(oct_build *b, const oct_char_range *ranges, size_t n) {
    oct_char_range plain[OCT_BUILD_MAX_RANGES + 2];
    size_t n_plain = 0;
    const oct_piece p = oct_build_nothing(b);
    for (size_t i = 0; i < n && n_plain < OCT_BUILD_MAX_RANGES; i++) {
        uint32_t lo = ranges[i].lo;
        for (uint32_t c = lo; c <= ranges[i].hi && c <= '\\'; c++) { /* below 0x20, '"' and '\' */
            if (c >= 0x20 && c != '"' && c != '\\') continue;
            char text[8];
            const char *escape = oct_json_short_escape(c);
            if (!escape) {
                snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
                escape = text;
            }
            oct_build_join(b, p, oct_build_text(b, oct_str_of(escape)));
        }
        /* What stands for itself: the range without those. */
        const oct_char_range parts[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}};
        for (size_t k = 0; k < 3 && n_plain < OCT_BUILD_MAX_RANGES; k++) {
            const uint32_t from = lo > parts[k].lo ? lo : parts[k].lo;
            const uint32_t to = ranges[i].hi < parts[k].hi ? ranges[i].hi : parts[k].hi;
            if (from <= to) plain[n_plain++] = (oct_char_range){from, to};
        }
    }
    oct_build_join(b, p, oct_build_chars(b, plain, n_plain));
    return p;
}

static oct_piece quoted(oct_build *b, oct_piece inside) {
    oct_piece p = oct_build_cat(b, inside, oct_build_text(b, OCT_STR("\"")));
    const oct_piece open = oct_build_text(b, OCT_STR("\""));
    p.from = oct_build_cat(b, open, p).from;
    return oct_build_since(inside, p);
}

static oct_piece make_string(oct_build *b) {
    return quoted(b, oct_build_repeat(b, oct_json_char(b), 0, OCT_BUILD_NO_LIMIT));
}

/* ---- numbers ---- */

static oct_piece digits(oct_build *b, uint32_t min, uint32_t max) {
    return oct_build_repeat(b, oct_build_range(b, '0', '9'), min, max);
}

static oct_piece make_integer(oct_build *b) {
    const oct_piece zero = oct_build_text(b, OCT_STR("0"));
    oct_piece more = oct_build_range(b, '1', '9');
    more = oct_build_cat(b, more, digits(b, 0, OCT_JSON_INT_DIGITS - 1));
    const oct_piece natural = oct_build_or(b, zero, more);
    oct_piece sign = oct_build_repeat(b, oct_build_text(b, OCT_STR("-")), 0, 1);
    sign = oct_build_cat(b, sign, natural);
    return oct_build_since(zero, sign);
}

static oct_piece make_number(oct_build *b) {
    const oct_char_range e[] = {{'E', 'E'}, {'e', 'e'}}, signs[] = {{'+', '+'}, {'-', '-'}};
    oct_piece p = make_integer(b);
    oct_piece fraction = oct_build_text(b, OCT_STR("."));
    fraction = oct_build_cat(b, fraction, digits(b, 1, OCT_JSON_FRACTION_DIGITS));
    p = oct_build_cat(b, p, oct_build_repeat(b, fraction, 0, 1));
    oct_piece exponent = oct_build_chars(b, e, 2);
    const oct_piece sign = oct_build_repeat(b, oct_build_chars(b, signs, 2), 0, 1);
    exponent = oct_build_cat(b, exponent, sign);
    exponent = oct_build_cat(b, exponent, digits(b, 1, 2));
    return oct_build_cat(b, p, oct_build_repeat(b, exponent, 0, 1));
}

/* ---- any value ---- */

/* open (item ("," item)*)? close */
static oct_piece listing(oct_json_rules *j, const char *open, oct_piece (*item)(oct_json_rules *),
                         const char *close) {
    oct_build *b = j->b;
    oct_piece p = oct_build_text(b, oct_str_of(open));
    p = oct_build_cat(b, p, oct_json_blanks(j));
    const oct_piece mark = oct_build_mark(b);
    oct_piece items = item(j);
    const oct_piece next_mark = oct_build_mark(b);
    oct_piece next = oct_json_spaced(j, ",");
    next = oct_build_cat(b, next, item(j));
    next = oct_build_repeat(b, oct_build_since(next_mark, next), 0, OCT_BUILD_NO_LIMIT);
    items = oct_build_cat(b, items, next);
    items = oct_build_cat(b, items, oct_json_blanks(j));
    items = oct_build_repeat(b, oct_build_since(mark, items), 0, 1);
    p = oct_build_cat(b, p, items);
    return oct_build_cat(b, p, oct_build_text(b, oct_str_of(close)));
}

static oct_piece value_item(oct_json_rules *j) { return oct_json_call(j, OCT_JSON_VALUE); }

static oct_piece member_item(oct_json_rules *j) {
    oct_piece p = oct_json_call(j, OCT_JSON_STRING);
    p = oct_build_cat(j->b, p, oct_json_spaced(j, ":"));
    return oct_build_cat(j->b, p, oct_json_call(j, OCT_JSON_VALUE));
}

static oct_piece make_value(oct_json_rules *j) {
    static const char *const words[] = {"true", "false", "null"};
    static const oct_json_rule kinds[] = {OCT_JSON_STRING, OCT_JSON_NUMBER, OCT_JSON_OBJECT,
                                          OCT_JSON_ARRAY};
    oct_build *b = j->b;
    const oct_piece p = oct_build_nothing(b);
    for (size_t i = 0; i < 3; i++) oct_build_join(b, p, oct_build_text(b, oct_str_of(words[i])));
    for (size_t i = 0; i < 4; i++) oct_build_join(b, p, oct_json_call(j, kinds[i]));
    return p;
}

static oct_piece make_blanks(oct_json_rules *j) {
    return oct_regex_piece(j->b, j->style->blanks, OCT_REGEX_PLAIN, "whitespace_pattern");
}

static oct_piece make(oct_json_rules *j, oct_json_rule which) {
    switch (which) {
    case OCT_JSON_BLANKS:
        return make_blanks(j);
    case OCT_JSON_INDENT:
        return make_indent(j->b);
    case OCT_JSON_STRING:
        return make_string(j->b);
    case OCT_JSON_NUMBER:
        return make_number(j->b);
    case OCT_JSON_INTEGER:
        return make_integer(j->b);
    case OCT_JSON_VALUE:
        return make_value(j);
    case OCT_JSON_OBJECT:
        return listing(j, "{", member_item, "}");
    case OCT_JSON_ARRAY:
        return listing(j, "[", value_item, "]");
    case OCT_JSON_N_RULES:
        break;
    }
    return oct_build_nothing(j->b);
}

/* The rule is known before its body is made: a value holds values. Rules nest in each other as far
 * as the list above goes, not as far as data does. */
uint32_t oct_json_rule_of(oct_json_rules *j, oct_json_rule which) {
    if (j->rules[which] != UINT32_MAX) return j->rules[which];
    const uint32_t rule = oct_build_rule(j->b, oct_str_of(names[which]));
    j->rules[which] = rule;
    const oct_piece body = make(j, which);
    oct_build_define(j->b, rule, body);
    return rule;
}

/* ---- literals ---- */

typedef struct level {
    const json_t *value;
    void *iter;
    size_t index;
    bool begun;
} level;

static oct_piece add_scalar(oct_json_rules *j, oct_piece p, const json_t *v) {
    oct_buf text;
    oct_buf_init(&text, j->b->mem, 0);
    oct_json_dump(&text, v, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text.failed) OCT_BUILD_FAIL(j->b, OCT_E_NOMEM, "no memory for a grammar");
    p = oct_build_cat(j->b, p, oct_build_text(j->b, oct_buf_view(&text)));
    oct_buf_fini(&text);
    return p;
}

static oct_piece add_key(oct_json_rules *j, oct_piece p, const char *key) {
    oct_buf text;
    oct_buf_init(&text, j->b->mem, 0);
    oct_json_quote(&text, oct_str_of(key));
    if (text.failed) OCT_BUILD_FAIL(j->b, OCT_E_NOMEM, "no memory for a grammar");
    p = oct_build_cat(j->b, p, oct_build_text(j->b, oct_buf_view(&text)));
    oct_buf_fini(&text);
    return oct_build_cat(j->b, p, oct_json_spaced(j, ":"));
}

oct_piece oct_json_literal(oct_json_rules *j, const json_t *value) {
    level stack[OCT_GRAMMAR_MAX_DEPTH + 1];
    uint32_t depth = 0;
    oct_build *b = j->b;
    oct_piece p;
    (void)oct_json_rule_of(j, OCT_JSON_INDENT); /* before the piece begins */
    if (j->style->blanks.len > 0) (void)oct_json_rule_of(j, OCT_JSON_BLANKS);
    p = oct_build_empty(b);
    stack[depth++] = (level){.value = value};
    while (depth > 0 && b->status == OCT_OK) {
        level *at = &stack[depth - 1];
        const json_t *next = NULL;
        const bool is_object = json_is_object(at->value);
        if (!is_object && !json_is_array(at->value)) {
            p = add_scalar(j, p, at->value);
            depth--;
            continue;
        }
        const bool first = !at->begun;
        if (first) {
            p = oct_build_cat(b, p, oct_build_text(b, oct_str_of(is_object ? "{" : "[")));
            p = oct_build_cat(b, p, oct_json_blanks(j));
            at->begun = true;
        }
        const char *key = NULL;
        if (is_object) {
            json_t *object = json_incref((json_t *)(uintptr_t)at->value);
            at->iter = first ? json_object_iter(object) : json_object_iter_next(object, at->iter);
            key = at->iter ? json_object_iter_key(at->iter) : NULL;
            next = at->iter ? json_object_iter_value(at->iter) : NULL;
            json_decref(object);
        } else {
            next = json_array_get(at->value, at->index++);
        }
        if (!next) {
            if (!first && (is_object ? json_object_size(at->value) : json_array_size(at->value)))
                p = oct_build_cat(b, p, oct_json_blanks(j));
            p = oct_build_cat(b, p, oct_build_text(b, oct_str_of(is_object ? "}" : "]")));
            depth--;
            continue;
        }
        if (!first) p = oct_build_cat(b, p, oct_json_spaced(j, ","));
        if (key) p = add_key(j, p, key);
        if (depth > OCT_GRAMMAR_MAX_DEPTH) {
            OCT_BUILD_FAIL(b, OCT_E_INVALID, "a value nests too deep (want at most %d)",
                           OCT_GRAMMAR_MAX_DEPTH);
            break;
        }
        stack[depth++] = (level){.value = next};
    }
    return p;
}
