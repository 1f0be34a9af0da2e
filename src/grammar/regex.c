/* grammar/regex.c - one pass over the expression, groups on a stack of their own. */
#include "grammar/regex.h"

#include <stdio.h>
#include <string.h>

#include "codec/utf8.h"
#include "grammar/grammar.h"
#include "grammar/json_rules.h"

enum { END = 0x110000 };

/* A group that is open: what was read of it. */
typedef struct level {
    oct_piece mark;
    oct_piece alternatives, sequence, atom;
    bool has_alternatives, has_sequence, has_atom;
} level;

typedef struct ranges {
    oct_char_range at[OCT_BUILD_MAX_RANGES + 2];
    size_t n;
    bool ascii; /* what it leaves out beyond ASCII is not the same everywhere */
} ranges;

typedef struct reader {
    oct_build *b;
    oct_str text;
    size_t at;
    oct_regex_mode mode;
    const char *what;
    level stack[OCT_REGEX_MAX_DEPTH + 1];
    uint32_t depth;
    bool open_end, after_end; /* this alternative begins anywhere; $ was read */
    ranges set, other;
} reader;

#define REFUSE(r, ...)                                                                    \
    do {                                                                                  \
        char reason_[160];                                                                \
        snprintf(reason_, sizeof reason_, __VA_ARGS__);                                   \
        OCT_BUILD_FAIL((r)->b, OCT_E_INVALID, "%s: %s (at byte %zu)", (r)->what, reason_, \
                       (r)->at);                                                          \
    } while (0)

static bool ok(const reader *r) { return r->b->status == OCT_OK; }

/* ---- characters of the text ---- */

static uint32_t next(reader *r) {
    uint32_t c;
    size_t n;
    const oct_str rest = {r->text.ptr + r->at, r->text.len - r->at};
    if (rest.len == 0) return END;
    (void)oct_utf8_next(rest, &c, &n); /* the text is UTF-8 */
    r->at += n;
    return c;
}

static bool take(reader *r, char c) {
    if (r->at >= r->text.len || r->text.ptr[r->at] != c) return false;
    r->at++;
    return true;
}

static bool take_text(reader *r, const char *s) {
    const oct_str rest = {r->text.ptr + r->at, r->text.len - r->at};
    if (!oct_str_starts(rest, oct_str_of(s))) return false;
    r->at += strlen(s);
    return true;
}

/* ---- sets of characters ---- */

static void add_range(reader *r, ranges *s, uint32_t lo, uint32_t hi) {
    if (s->n == OCT_BUILD_MAX_RANGES) {
        s->n = oct_char_ranges_merge(s->at, s->n);
        if (s->n == OCT_BUILD_MAX_RANGES) {
            REFUSE(r, "a class of more than %d ranges", OCT_BUILD_MAX_RANGES);
            s->n = 0;
        }
    }
    s->at[s->n++] = (oct_char_range){lo, hi};
}

static void add_ranges(reader *r, ranges *s, const oct_char_range *all, size_t n) {
    for (size_t i = 0; i < n; i++) add_range(r, s, all[i].lo, all[i].hi);
}

static const oct_char_range digits[] = {{'0', '9'}};
static const oct_char_range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const oct_char_range blanks[] = {{'\t', '\r'}, {' ', ' '}};
static const oct_char_range no_digits[] = {{0, '/'}, {':', 0x7F}};
static const oct_char_range no_words[] = {
    {0, '/'}, {':', '@'}, {'[', '^'}, {'`', '`'}, {'{', 0x7F}};
static const oct_char_range no_blanks[] = {{0, 8},           {0x0E, 0x1B},     {0x21, 0x84},
                                           {0x86, 0x9F},     {0xA1, 0x167F},   {0x1681, 0x1FFF},
                                           {0x200B, 0x2027}, {0x202A, 0x202E}, {0x2030, 0x205E},
                                           {0x2060, 0x2FFF}, {0x3001, 0xFEFE}, {0xFF00, 0x10FFFF}};
static const oct_char_range no_line_ends[] = {
    {0, 9}, {0x0B, 0x0C}, {0x0E, 0x2027}, {0x202A, 0x10FFFF}};
static const oct_char_range anything[] = {{0, 0x10FFFF}};
#define ADD(r, s, list) add_ranges((r), (s), (list), sizeof(list) / sizeof *(list))

/* \d and its like into s; false: c is no such letter. */
static bool add_shorthand(reader *r, uint32_t c, ranges *s) {
    switch (c) {
    case 'd':
        ADD(r, s, digits);
        s->ascii = true;
        return true;
    case 'w':
        ADD(r, s, words);
        s->ascii = true;
        return true;
    case 's':
        ADD(r, s, blanks);
        s->ascii = true;
        return true;
    case 'D':
        ADD(r, s, no_digits);
        return true;
    case 'W':
        ADD(r, s, no_words);
        return true;
    case 'S':
        ADD(r, s, no_blanks);
        return true;
    default:
        return false;
    }
}

static uint32_t read_hex(reader *r, uint32_t min, uint32_t max) {
    uint32_t v = 0, n = 0;
    for (; n < max && r->at < r->text.len; n++) {
        const char c = r->text.ptr[r->at];
        uint32_t d;
        if (c >= '0' && c <= '9')
            d = (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            d = (uint32_t)((c | 0x20) - 'a') + 10;
        else
            break;
        v = v * 16 + d;
        r->at++;
    }
    if (n < min || v > 0x10FFFF) REFUSE(r, "an escape that is no code point");
    return v <= 0x10FFFF ? v : 0;
}

/* Behind a backslash: the character that is meant, or END and a shorthand in s, or a refusal. */
static uint32_t read_escape(reader *r, bool in_class, ranges *s) {
    const uint32_t c = next(r);
    if (c == END) {
        REFUSE(r, "ends with a backslash");
        return END;
    }
    if (add_shorthand(r, c, s)) return END;
    switch (c) {
    case 't':
        return '\t';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 'f':
        return '\f';
    case 'v':
        return '\v';
    case '0':
        return 0;
    case 'x':
        return read_hex(r, 2, 2);
    case 'u':
        if (take(r, '{')) {
            const uint32_t v = read_hex(r, 1, 6);
            if (!take(r, '}')) REFUSE(r, "an escape without its end");
            return v;
        }
        return read_hex(r, 4, 4);
    case 'U':
        return read_hex(r, 8, 8);
    case 'b':
        if (in_class) return '\b';
        REFUSE(r, "word boundaries are not supported");
        return END;
    case 'B':
        REFUSE(r, "word boundaries are not supported");
        return END;
    case 'p':
    case 'P':
        REFUSE(r, "Unicode properties are not supported");
        return END;
    default:
        break;
    }
    if (c >= '1' && c <= '9')
        REFUSE(r, "back references are not supported");
    else if (c == 'k')
        REFUSE(r, "back references are not supported");
    else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z' && c < 0x80)
        REFUSE(r, "no such escape: \\%c", (char)c);
    return c;
}

/* One end of a range, or END with a shorthand in the set. */
static uint32_t read_member(reader *r) {
    if (take(r, '\\')) return read_escape(r, true, &r->set);
    return next(r);
}

/* Behind "[": the set in r->set. */
static void read_class(reader *r) {
    const bool inverted = take(r, '^');
    bool first = true;
    r->set.n = 0;
    r->set.ascii = false;
    while (ok(r)) {
        if (r->at >= r->text.len) {
            REFUSE(r, "a class without its end");
            return;
        }
        if (!first && take(r, ']')) break;
        if (first && r->text.ptr[r->at] == ']' && r->mode != OCT_REGEX_PLAIN) {
            REFUSE(r, "an empty class"); /* means different things in different languages */
            return;
        }
        first = false;
        const uint32_t lo = read_member(r);
        const bool is_range = lo != END && r->at + 1 < r->text.len && r->text.ptr[r->at] == '-' &&
                              r->text.ptr[r->at + 1] != ']';
        if (!is_range) {
            if (lo != END) add_range(r, &r->set, lo, lo);
            continue;
        }
        r->at++;
        const uint32_t hi = read_member(r);
        if (hi == END || hi < lo) {
            REFUSE(r, "a range of characters that goes backwards");
            return;
        }
        add_range(r, &r->set, lo, hi);
    }
    r->set.n = oct_char_ranges_merge(r->set.at, r->set.n);
    if (!inverted) return;
    r->other.n = oct_char_ranges_invert(r->set.at, r->set.n, r->other.at);
    size_t n = 0;
    for (size_t i = 0; i < r->other.n; i++) { /* [^\w]: what is a word beyond ASCII differs */
        oct_char_range x = r->other.at[i];
        if (r->set.ascii && x.lo > 0x7F) continue;
        if (r->set.ascii && x.hi > 0x7F) x.hi = 0x7F;
        r->other.at[n++] = x;
    }
    memcpy(r->set.at, r->other.at, n * sizeof *r->set.at);
    r->set.n = n;
}

static oct_piece char_piece(reader *r, const oct_char_range *all, size_t n) {
    if (r->mode == OCT_REGEX_PLAIN) return oct_build_chars(r->b, all, n);
    return oct_json_char_of(r->b, all, n);
}

/* ---- structure ---- */

static level *top(reader *r) { return &r->stack[r->depth]; }

/* The atom that was read last joins its sequence; only then may another piece be begun. */
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

static oct_piece any_text(reader *r) {
    return oct_build_repeat(r->b, char_piece(r, anything, 1), 0, OCT_BUILD_NO_LIMIT);
}

/* The alternative that was read is over. */
static void end_alternative(reader *r) {
    level *l = top(r);
    flush(r);
    if (!l->has_sequence) l->sequence = oct_build_empty(r->b);
    const bool search = r->mode == OCT_REGEX_JSON_SEARCH && r->depth == 0;
    if (search && !r->after_end) l->sequence = oct_build_cat(r->b, l->sequence, any_text(r));
    if (search && r->open_end) l->sequence = oct_build_cat(r->b, any_text(r), l->sequence);
    l->alternatives =
        l->has_alternatives ? oct_build_or(r->b, l->alternatives, l->sequence) : l->sequence;
    l->has_alternatives = true;
    l->has_sequence = false;
    if (r->depth == 0) {
        r->open_end = true;
        r->after_end = false;
    }
}

static void open_group(reader *r) {
    if (take(r, '?')) {
        if (take_text(r, "P=")) REFUSE(r, "back references are not supported");
        if (take_text(r, "<=") || take_text(r, "<!")) REFUSE(r, "look-behind is not supported");
        if (take_text(r, "=") || take_text(r, "!")) REFUSE(r, "look-ahead is not supported");
        const bool named = take_text(r, "P<") || take_text(r, "<");
        while (named && r->at < r->text.len && r->text.ptr[r->at] != '>') r->at++;
        if (!(named ? take(r, '>') : take(r, ':')))
            REFUSE(r, "this kind of group is not supported");
    }
    if (r->depth == OCT_REGEX_MAX_DEPTH)
        REFUSE(r, "groups nest too deep (want at most %d)", OCT_REGEX_MAX_DEPTH);
    if (!ok(r)) return;
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

static bool read_count(reader *r, uint32_t *out) {
    uint64_t v = 0;
    const size_t begin = r->at;
    while (r->at < r->text.len && r->text.ptr[r->at] >= '0' && r->text.ptr[r->at] <= '9') {
        v = v * 10 + (uint64_t)(r->text.ptr[r->at++] - '0');
        if (v > OCT_BUILD_MAX_STATES) v = OCT_BUILD_MAX_STATES; /* refused when written out */
    }
    *out = (uint32_t)v;
    return r->at > begin;
}

/* Behind "{": {n}, {n,}, {n,m}, {,m}. Anything else is a brace, and r is where it was. */
static bool read_braces(reader *r, uint32_t *min, uint32_t *max) {
    const size_t begin = r->at;
    const bool has_min = read_count(r, min);
    *max = *min;
    bool has_max = false;
    const bool comma = take(r, ',');
    if (comma) has_max = read_count(r, max);
    if (comma && !has_max) *max = OCT_BUILD_NO_LIMIT;
    if ((has_min || has_max) && take(r, '}')) return true;
    r->at = begin;
    return false;
}

static void repeat(reader *r, uint32_t min, uint32_t max) {
    if (!top(r)->has_atom) {
        REFUSE(r, "nothing to repeat");
        return;
    }
    if (max < min) {
        REFUSE(r, "counts that go backwards");
        return;
    }
    if (take(r, '+')) REFUSE(r, "possessive counts are not supported");
    (void)take(r, '?'); /* which match is found first does not matter */
    if (!ok(r)) return;
    set_atom(r, oct_build_repeat(r->b, top(r)->atom, min, max));
    if (r->b->status == OCT_E_INVALID && r->b->err.text[0])
        oct_err_prefix(&r->b->err, "%s", r->what);
    flush(r); /* a second count has nothing to repeat */
}

/* "^" is taken where an alternative of the whole begins, "$" where it ends. */
static void read_anchor(reader *r, bool begin) {
    const level *l = top(r);
    if (r->depth > 0 || (begin && (l->has_atom || l->has_sequence))) {
        REFUSE(r, "anchors are only supported at the ends");
        return;
    }
    if (begin)
        r->open_end = false;
    else
        r->after_end = true;
}

static void read_atom(reader *r, uint32_t c) {
    oct_char_range one = {c, c};
    flush(r);
    if (c == '\\') {
        if (take(r, 'A')) {
            read_anchor(r, true);
            return;
        }
        if (take(r, 'Z') || take(r, 'z')) {
            read_anchor(r, false);
            return;
        }
        r->set.n = 0;
        const uint32_t e = read_escape(r, false, &r->set);
        if (!ok(r)) return;
        if (e == END) {
            set_atom(r, char_piece(r, r->set.at, r->set.n));
            return;
        }
        one = (oct_char_range){e, e};
    } else if (c == '[') {
        read_class(r);
        if (ok(r)) set_atom(r, char_piece(r, r->set.at, r->set.n));
        return;
    } else if (c == '.') {
        set_atom(r, char_piece(r, no_line_ends, sizeof no_line_ends / sizeof *no_line_ends));
        return;
    }
    set_atom(r, char_piece(r, &one, 1));
}

static void read_one(reader *r) {
    uint32_t min = 0, max = 0;
    const uint32_t c = next(r);
    if (r->after_end && c != '|') {
        REFUSE(r, "anchors are only supported at the ends");
        return;
    }
    switch (c) {
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
    case '^':
        read_anchor(r, true);
        return;
    case '$':
        flush(r);
        read_anchor(r, false);
        return;
    case '{':
        if (read_braces(r, &min, &max)) {
            repeat(r, min, max);
            return;
        }
        break;
    default:
        break;
    }
    read_atom(r, c);
}

oct_piece oct_regex_piece(oct_build *b, oct_str text, oct_regex_mode mode, const char *what) {
    oct_piece p = oct_build_mark(b);
    if (text.len > OCT_GRAMMAR_MAX_TEXT) {
        OCT_BUILD_FAIL(b, OCT_E_INVALID, "%s: too long (got %zu bytes, want at most %d)", what,
                       text.len, OCT_GRAMMAR_MAX_TEXT);
        return p;
    }
    if (!oct_utf8_valid(text, NULL)) {
        OCT_BUILD_FAIL(b, OCT_E_INVALID, "%s: not UTF-8", what);
        return p;
    }
    reader *r = oct_calloc(b->mem, 1, sizeof *r);
    if (!r) {
        OCT_BUILD_FAIL(b, OCT_E_NOMEM, "no memory for a grammar");
        return p;
    }
    *r = (reader){.b = b, .text = text, .mode = mode, .what = what, .open_end = true};
    r->stack[0].mark = p;
    while (r->at < text.len && ok(r)) read_one(r);
    if (ok(r) && r->depth > 0) REFUSE(r, "a group without its end");
    if (ok(r)) {
        end_alternative(r);
        p = oct_build_since(r->stack[0].mark, r->stack[0].alternatives);
    }
    oct_free(b->mem, r, 1, sizeof *r);
    return p;
}
