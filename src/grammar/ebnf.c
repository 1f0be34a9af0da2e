/* grammar/ebnf.c - one pass over the text, groups on a stack, rules made when they are first named.
 */
#include "grammar/ebnf.h"

#include <stdio.h>
#include <string.h>

#include "codec/utf8.h"
#include "grammar/grammar.h"

enum { END = 0x110000, MAX_NAMES = 2048 };

typedef struct level {
    oct_piece mark;
    oct_piece alternatives, sequence, atom;
    bool has_alternatives, has_sequence, has_atom;
} level;

typedef struct name {
    oct_str text;
    uint32_t rule;
} name;

typedef struct reader {
    oct_build *b;
    oct_str text;
    size_t at;
    level stack[OCT_EBNF_MAX_DEPTH + 1];
    uint32_t depth;
    name names[MAX_NAMES];
    size_t n_names;
    oct_char_range set[OCT_BUILD_MAX_RANGES + 2], other[OCT_BUILD_MAX_RANGES + 2];
} reader;

#define REFUSE(r, ...)                                                                        \
    do {                                                                                      \
        char reason_[160];                                                                    \
        snprintf(reason_, sizeof reason_, __VA_ARGS__);                                       \
        OCT_BUILD_FAIL((r)->b, OCT_E_INVALID, "grammar: %s (at byte %zu)", reason_, (r)->at); \
    } while (0)

static bool ok(const reader *r) { return r->b->status == OCT_OK; }

/* ---- text ---- */

static int look(const reader *r, size_t ahead) {
    return r->at + ahead < r->text.len ? (unsigned char)r->text.ptr[r->at + ahead] : -1;
}

static bool take(reader *r, char c) {
    if (look(r, 0) != c) return false;
    r->at++;
    return true;
}

static uint32_t next(reader *r) {
    uint32_t c;
    size_t n;
    const oct_str rest = {r->text.ptr + r->at, r->text.len - r->at};
    if (rest.len == 0) return END;
    (void)oct_utf8_next(rest, &c, &n); /* the text is UTF-8 */
    r->at += n;
    return c;
}

static void skip_blanks(reader *r) {
    for (int c; (c = look(r, 0)) >= 0;) {
        if (c == '#')
            while (look(r, 0) >= 0 && look(r, 0) != '\n') r->at++;
        else if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            r->at++;
        else
            return;
    }
}

static bool in_name(int c, bool first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && ((c >= '0' && c <= '9') || c == '-'));
}

static oct_str read_name(reader *r) {
    const size_t begin = r->at;
    while (in_name(look(r, 0), r->at == begin)) r->at++;
    return (oct_str){r->text.ptr + begin, r->at - begin};
}

static uint32_t read_hex(reader *r, uint32_t n) {
    uint32_t v = 0;
    for (uint32_t i = 0; i < n; i++) {
        const int c = look(r, 0), low = c | 0x20;
        if (c >= '0' && c <= '9')
            v = v * 16 + (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            v = v * 16 + (uint32_t)(low - 'a') + 10;
        else
            REFUSE(r, "an escape without its %u digits", n);
        r->at++;
    }
    if (v <= 0x10FFFF && (v < 0xD800 || v > 0xDFFF)) return v;
    REFUSE(r, "an escape that is no character");
    return 0;
}

static uint32_t read_char(reader *r) {
    const uint32_t c = next(r);
    if (c != '\\') return c;
    const uint32_t e = next(r);
    switch (e) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'x':
        return read_hex(r, 2);
    case 'u':
        return read_hex(r, 4);
    case 'U':
        return read_hex(r, 8);
    case '\\':
    case '"':
    case '\'':
    case '[':
    case ']':
    case '^':
    case '-':
    case '/':
        return e;
    default:
        REFUSE(r, "no such escape");
        return 0;
    }
}

/* ---- rules ---- */

static uint32_t rule_of(reader *r, oct_str text) {
    for (size_t i = 0; i < r->n_names; i++)
        if (oct_str_eq(r->names[i].text, text)) return r->names[i].rule;
    if (r->n_names == MAX_NAMES) {
        REFUSE(r, "too many rules (want at most %d)", MAX_NAMES);
        return UINT32_MAX;
    }
    const uint32_t rule = oct_build_rule(r->b, text);
    r->names[r->n_names++] = (name){text, rule};
    return rule;
}

/* At a name: is it one that is defined here ("name ::=")? */
static bool is_definition(const reader *r) {
    size_t i = 0;
    while (in_name(look(r, i), i == 0)) i++;
    while (look(r, i) == ' ' || look(r, i) == '\t') i++;
    return look(r, i) == ':' && look(r, i + 1) == ':' && look(r, i + 2) == '=';
}

/* ---- pieces ---- */

static level *top(reader *r) { return &r->stack[r->depth]; }

static void flush(reader *r) {
    level *l = top(r);
    if (!l->has_atom) return;
    l->sequence = l->has_sequence ? oct_build_cat(r->b, l->sequence, l->atom) : l->atom;
    l->has_sequence = true;
    l->has_atom = false;
}

static void set_atom(reader *r, oct_piece p) {
    top(r)->atom = p;
    top(r)->has_atom = true;
}

static void end_alternative(reader *r) {
    level *l = top(r);
    flush(r);
    if (!l->has_sequence) l->sequence = oct_build_empty(r->b);
    l->alternatives =
        l->has_alternatives ? oct_build_or(r->b, l->alternatives, l->sequence) : l->sequence;
    l->has_alternatives = true;
    l->has_sequence = false;
}

static oct_piece read_literal(reader *r, char quote) {
    oct_piece p = oct_build_empty(r->b);
    while (ok(r)) {
        if (look(r, 0) < 0 || look(r, 0) == '\n') {
            REFUSE(r, "a literal without its end");
            break;
        }
        if (take(r, quote)) break;
        const uint32_t c = read_char(r);
        const oct_char_range one = {c, c};
        p = oct_build_cat(r->b, p, oct_build_chars(r->b, &one, 1));
    }
    return p;
}

static oct_piece read_class(reader *r) {
    const bool inverted = take(r, '^');
    size_t n = 0;
    while (ok(r) && !take(r, ']')) {
        if (look(r, 0) < 0) {
            REFUSE(r, "a class without its end");
            break;
        }
        oct_char_range x;
        x.lo = x.hi = read_char(r);
        if (look(r, 0) == '-' && look(r, 1) != ']') {
            r->at++;
            x.hi = read_char(r);
        }
        if (x.hi < x.lo || x.hi >= END) REFUSE(r, "a range of characters that goes backwards");
        if (n == OCT_BUILD_MAX_RANGES) n = oct_char_ranges_merge(r->set, n);
        if (n == OCT_BUILD_MAX_RANGES) {
            REFUSE(r, "a class of more than %d ranges", OCT_BUILD_MAX_RANGES);
            break;
        }
        r->set[n++] = x;
    }
    n = oct_char_ranges_merge(r->set, n);
    if (!inverted) return oct_build_chars(r->b, r->set, n);
    n = oct_char_ranges_invert(r->set, n, r->other);
    return oct_build_chars(r->b, r->other, n);
}

static bool read_count(reader *r, uint32_t *out) {
    uint64_t v = 0;
    const size_t begin = r->at;
    for (; look(r, 0) >= '0' && look(r, 0) <= '9'; r->at++) {
        v = v * 10 + (uint64_t)(look(r, 0) - '0');
        if (v > OCT_BUILD_MAX_STATES) v = OCT_BUILD_MAX_STATES; /* refused when written out */
    }
    *out = (uint32_t)v;
    return r->at > begin;
}

static void repeat(reader *r, uint32_t min, uint32_t max) {
    if (!top(r)->has_atom)
        REFUSE(r, "nothing to repeat");
    else if (max < min)
        REFUSE(r, "counts that go backwards");
    else
        set_atom(r, oct_build_repeat(r->b, top(r)->atom, min, max));
}

static void read_braces(reader *r) {
    uint32_t min = 0, max;
    const bool has_min = read_count(r, &min);
    max = min;
    const bool comma = take(r, ',');
    if (comma && !read_count(r, &max)) max = OCT_BUILD_NO_LIMIT;
    if (!has_min || !take(r, '}'))
        REFUSE(r, "counts must be {n}, {n,} or {n,m}");
    else
        repeat(r, min, max);
}

static void open_group(reader *r) {
    if (r->depth == OCT_EBNF_MAX_DEPTH) {
        REFUSE(r, "groups nest too deep (want at most %d)", OCT_EBNF_MAX_DEPTH);
        return;
    }
    flush(r);
    r->depth++;
    *top(r) = (level){.mark = oct_build_mark(r->b)};
}

static void close_group(reader *r) {
    if (r->depth == 0) {
        REFUSE(r, "a parenthesis that nothing opened");
        return;
    }
    end_alternative(r);
    const oct_piece p = oct_build_since(top(r)->mark, top(r)->alternatives);
    r->depth--;
    set_atom(r, p);
}

static void read_one(reader *r) {
    static const oct_char_range all = {0, 0x10FFFF};
    const int c = look(r, 0);
    if (in_name(c, true)) {
        const uint32_t rule = rule_of(r, read_name(r));
        flush(r);
        set_atom(r, oct_build_call(r->b, rule));
        return;
    }
    r->at++;
    switch (c) {
    case '"':
    case '\'':
        flush(r);
        set_atom(r, read_literal(r, (char)c));
        return;
    case '[':
        flush(r);
        set_atom(r, read_class(r));
        return;
    case '.':
        flush(r);
        set_atom(r, oct_build_chars(r->b, &all, 1));
        return;
    case '(':
        open_group(r);
        return;
    case ')':
        close_group(r);
        return;
    case '|':
        end_alternative(r);
        return;
    case '*':
        repeat(r, 0, OCT_BUILD_NO_LIMIT);
        return;
    case '+':
        repeat(r, 1, OCT_BUILD_NO_LIMIT);
        return;
    case '?':
        repeat(r, 0, 1);
        return;
    case '{':
        read_braces(r);
        return;
    default:
        r->at--;
        REFUSE(r, "not understood");
    }
}

static void read_rule(reader *r) {
    if (!is_definition(r)) {
        REFUSE(r, "want a rule: name ::= ...");
        return;
    }
    const uint32_t rule = rule_of(r, read_name(r));
    if (!ok(r)) return;
    if (r->b->rules[rule].defined) REFUSE(r, "rule %s is defined twice", r->b->rules[rule].name);
    while (!take(r, '=')) r->at++; /* is_definition saw it */
    r->depth = 0;
    *top(r) = (level){.mark = oct_build_mark(r->b)};
    for (skip_blanks(r); ok(r) && look(r, 0) >= 0; skip_blanks(r)) {
        if (r->depth == 0 && in_name(look(r, 0), true) && is_definition(r)) break;
        read_one(r);
    }
    if (ok(r) && r->depth > 0) REFUSE(r, "a group without its end");
    if (!ok(r)) return;
    end_alternative(r);
    oct_build_define(r->b, rule, top(r)->alternatives);
}

uint32_t oct_ebnf_rules(oct_build *b, oct_str text) {
    uint32_t root = UINT32_MAX;
    if (text.len > OCT_GRAMMAR_MAX_TEXT)
        OCT_BUILD_FAIL(b, OCT_E_INVALID, "grammar: too long (got %zu bytes, want at most %d)",
                       text.len, OCT_GRAMMAR_MAX_TEXT);
    else if (!oct_utf8_valid(text, NULL))
        OCT_BUILD_FAIL(b, OCT_E_INVALID, "grammar: not UTF-8");
    if (b->status != OCT_OK) return root;
    reader *r = oct_calloc(b->mem, 1, sizeof *r);
    if (!r) {
        OCT_BUILD_FAIL(b, OCT_E_NOMEM, "no memory for a grammar");
        return root;
    }
    r->b = b;
    r->text = text;
    root = rule_of(r, OCT_STR("root"));
    for (skip_blanks(r); ok(r) && r->at < text.len; skip_blanks(r)) read_rule(r);
    if (ok(r) && !b->rules[root].defined) REFUSE(r, "there is no rule root");
    oct_free(b->mem, r, 1, sizeof *r);
    return root;
}
