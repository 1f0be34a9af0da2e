/*
 * text/template_lex.c - template source to tokens.
 *
 * Between tags there is data; the rules for its blanks are Jinja's with trim_blocks and
 * lstrip_blocks on:
 *
 *   `-` at a tag's side       drops all white space on that side, newlines included
 *   `+`                       keeps it, against the two rules below
 *   block, comment, at its end      one newline right behind is dropped
 *   block, comment, at its start    blanks before it are dropped if they fill the line so far
 *
 * One newline at the end of the source is dropped; \r\n and \r count as \n.
 */
#include <stdlib.h>

#include "base/num.h"
#include "codec/utf8.h"
#include "text/template_priv.h"

enum { MAX_OPEN = OCT_TEMPLATE_MAX_NESTING * 2 }; /* brackets; the parser counts more exactly */

typedef struct lexer {
    tmpl_compiler *k;
    oct_str src;
    size_t at;
    uint32_t line;
    bool line_start; /* what came before ended with a newline, or nothing came */
    tmpl_tok *toks;
    uint32_t n, cap;
    uint32_t n_open;
    char open[MAX_OPEN]; /* closing brackets that are awaited in this tag */
} lexer;

static bool has(const lexer *x, size_t at, const char *word) {
    const size_t len = strlen(word);
    return x->src.len - at >= len && memcmp(x->src.ptr + at, word, len) == 0;
}

static char peek(const lexer *x, size_t at) { return at < x->src.len ? x->src.ptr[at] : '\0'; }

static tmpl_tok *push(lexer *x, tmpl_tok_kind kind, oct_str text) {
    if (x->n == x->cap) {
        const uint32_t cap = x->cap ? x->cap * 2 : 64;
        tmpl_tok *more = oct_tmpl_compile_alloc(x->k, cap, sizeof *more);
        if (!more) return NULL;
        if (x->n) memcpy(more, x->toks, x->n * sizeof *more);
        x->toks = more;
        x->cap = cap;
    }
    x->toks[x->n] = (tmpl_tok){.kind = (uint8_t)kind, .line = x->line, .text = text};
    return &x->toks[x->n++];
}

static void count_lines(lexer *x, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) x->line += x->src.ptr[i] == '\n';
}

/* Byte length of the white space at `at`, 0 when there is none. */
static size_t space_at(const lexer *x, size_t at) {
    uint32_t point;
    size_t len;
    if (at >= x->src.len) return 0;
    const oct_str rest = {x->src.ptr + at, x->src.len - at};
    if (oct_utf8_next(rest, &point, &len) != OCT_UTF8_OK) return 0;
    return oct_tmpl_is_space(point) ? len : 0;
}

static size_t skip_space(const lexer *x, size_t at) {
    for (size_t n; (n = space_at(x, at)) > 0;) at += n;
    return at;
}

/* Moves behind the end of a tag: "-" eats white space, a plain end of a block one newline. */
static void tag_end(lexer *x, size_t at, char sign, bool trims) {
    const size_t from = x->at;
    if (sign == '-')
        at = skip_space(x, at);
    else if (sign != '+' && trims && peek(x, at) == '\n')
        at++;
    x->at = at;
    x->line_start = peek(x, at - 1) == '\n';
    count_lines(x, from, at);
}

/* ---- data ---- */

/* The data before a tag whose start mark carries sign. */
static bool push_data(lexer *x, size_t end, char sign, bool strips) {
    oct_str text = {x->src.ptr + x->at, end - x->at};
    if (sign == '-') {
        text = oct_tmpl_strip(text, NULL, false, true);
    } else if (sign != '+' && strips) {
        size_t start = text.len;
        while (start > 0 && text.ptr[start - 1] != '\n') start--;
        const oct_str tail = {text.ptr + start, text.len - start};
        if ((start > 0 || x->line_start) && oct_tmpl_strip(tail, NULL, true, false).len == 0)
            text.len = start;
    }
    if (text.len && !push(x, TMPL_TOK_DATA, text)) return false;
    count_lines(x, x->at, end);
    return true;
}

static char sign_at(const lexer *x, size_t at) {
    const char ch = peek(x, at);
    return ch == '-' || ch == '+' ? ch : '\0';
}

/* One that opens at the very end is nothing, as in Jinja. */
static bool lex_comment(lexer *x, size_t at) {
    if (at == x->src.len) {
        x->at = at;
        return true;
    }
    for (; at + 2 <= x->src.len; at++) {
        const char sign = sign_at(x, at);
        const size_t end = sign ? at + 1 : at;
        if (!has(x, end, "#}")) continue;
        tag_end(x, end + 2, sign, true);
        return true;
    }
    oct_tmpl_syntax(x->k, x->line, "missing end of comment");
    return false;
}

/* When the tag at `at` (behind "{%" and its sign) is the word, where it ends; else 0. */
static size_t word_tag(const lexer *x, size_t at, const char *word, char *sign) {
    at = skip_space(x, at);
    if (!has(x, at, word)) return 0;
    at = skip_space(x, at + strlen(word));
    *sign = sign_at(x, at);
    if (*sign) at++;
    return has(x, at, "%}") ? at + 2 : 0;
}

static bool lex_raw(lexer *x, size_t body, char sign) {
    tag_end(x, body, sign, false); /* the newline behind {% raw %} stays */
    for (size_t at = x->at; at + 2 <= x->src.len; at++) {
        if (!has(x, at, "{%")) continue;
        const char before = sign_at(x, at + 2);
        char after;
        const size_t end = word_tag(x, at + 2 + (before != '\0'), "endraw", &after);
        if (!end) continue;
        if (!push_data(x, at, before, true)) return false;
        x->at = at;
        tag_end(x, end, after, true);
        return true;
    }
    oct_tmpl_syntax(x->k, x->line, "missing end of raw block");
    return false;
}

/* ---- strings ---- */

static bool hex_escape(oct_str s, size_t *at, uint32_t digits, uint32_t *out) {
    if (s.len - *at < digits) return false;
    uint32_t v = 0;
    for (uint32_t i = 0; i < digits; i++) {
        const char ch = s.ptr[*at + i];
        uint32_t d;
        if (ch >= '0' && ch <= '9')
            d = (uint32_t)(ch - '0');
        else if (ch >= 'a' && ch <= 'f')
            d = (uint32_t)(ch - 'a') + 10;
        else if (ch >= 'A' && ch <= 'F')
            d = (uint32_t)(ch - 'A') + 10;
        else
            return false;
        v = v << 4 | d;
    }
    *at += digits;
    *out = v;
    return true;
}

/* Decodes \x, \u, \U and octal at *at (behind the backslash). */
static bool number_escape(oct_str s, size_t *at, uint32_t *point) {
    const char kind = s.ptr[*at];
    if (kind >= '0' && kind <= '7') {
        *point = 0;
        for (int i = 0; i < 3 && *at < s.len && s.ptr[*at] >= '0' && s.ptr[*at] <= '7'; i++)
            *point = *point * 8 + (uint32_t)(s.ptr[(*at)++] - '0');
        return true;
    }
    ++*at;
    if (!hex_escape(s, at, kind == 'x' ? 2 : kind == 'u' ? 4 : 8, point)) return false;
    uint32_t low;
    size_t after = *at + 2;
    if (*point >= 0xD800 && *point < 0xDC00 && s.len - *at >= 6 && s.ptr[*at] == '\\' &&
        s.ptr[*at + 1] == 'u' && hex_escape(s, &after, 4, &low) && low >= 0xDC00 && low < 0xE000) {
        *point = 0x10000 + ((*point - 0xD800) << 10) + (low - 0xDC00);
        *at = after;
    }
    return true;
}

/* The text between the quotes with Python's escapes decoded; an unknown one keeps its backslash. */
static bool unescape(lexer *x, oct_str s, oct_str *out) {
    *out = s;
    if (!memchr(s.ptr, '\\', s.len)) return true;
    char *to = oct_tmpl_compile_alloc(x->k, s.len + 1, 1);
    if (!to) return false;

    size_t n = 0;
    for (size_t i = 0; i < s.len;) {
        if (s.ptr[i] != '\\' || i + 1 == s.len) {
            to[n++] = s.ptr[i++];
            continue;
        }
        static const char from_list[] = "ntr\\'\"abfv", to_list[] = "\n\t\r\\'\"\a\b\f\v";
        const char ch = s.ptr[++i];
        const char *known = ch ? strchr(from_list, ch) : NULL;
        uint32_t point;
        if (known) {
            to[n++] = to_list[known - from_list];
            i++;
        } else if (ch == '\n') {
            i++;
        } else if ((ch >= '0' && ch <= '7') || ch == 'x' || ch == 'u' || ch == 'U') {
            char utf8[4];
            const size_t len = number_escape(s, &i, &point) ? oct_utf8_encode(point, utf8) : 0;
            if (!len) return oct_tmpl_syntax(x->k, x->line, "invalid escape in a string"), false;
            memcpy(to + n, utf8, len); /* an escape is never shorter than what it stands for */
            n += len;
        } else {
            to[n++] = '\\';
        }
    }
    *out = (oct_str){to, n};
    return true;
}

static bool lex_string(lexer *x) {
    const char quote = x->src.ptr[x->at];
    size_t end = x->at + 1;
    while (end < x->src.len && x->src.ptr[end] != quote) end += x->src.ptr[end] == '\\' ? 2 : 1;
    if (end >= x->src.len) return oct_tmpl_syntax(x->k, x->line, "unterminated string"), false;

    oct_str text;
    if (!unescape(x, (oct_str){x->src.ptr + x->at + 1, end - x->at - 1}, &text)) return false;
    if (!push(x, TMPL_TOK_STRING, text)) return false;
    count_lines(x, x->at, end);
    x->at = end + 1;
    return true;
}

/* ---- numbers, names, operators ---- */

static bool digit(char ch) { return ch >= '0' && ch <= '9'; }

/* Digits with single underscores between them, from `at`. */
static size_t digits(const lexer *x, size_t at) {
    while (digit(peek(x, at)) || (peek(x, at) == '_' && digit(peek(x, at + 1)))) at++;
    return at;
}

/* Where a float that begins at x->at ends, 0 when it is none. */
static size_t float_end(const lexer *x) {
    if (x->at > 0 && x->src.ptr[x->at - 1] == '.') return 0; /* a.0.1 is two subscripts */
    size_t end = digits(x, x->at);
    bool is_float = false;
    if (peek(x, end) == '.' && digit(peek(x, end + 1))) {
        end = digits(x, end + 1);
        is_float = true;
    }
    size_t exp = end + 1;
    if ((peek(x, end) | 32) == 'e') {
        if (peek(x, exp) == '+' || peek(x, exp) == '-') exp++;
        if (digit(peek(x, exp))) {
            end = digits(x, exp);
            is_float = true;
        }
    }
    return is_float ? end : 0;
}

static int digit_of(char ch, int base) {
    const int d = digit(ch)                ? ch - '0'
                  : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10
                  : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10
                                           : 99;
    return d < base ? d : -1;
}

/* An integer with prefix 0b, 0o, 0x or none. A leading zero stands alone, as in Python. */
static bool lex_int(lexer *x) {
    size_t at = x->at;
    const char mark = (char)(peek(x, at + 1) | 32);
    int base = 10;
    if (peek(x, at) == '0') base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    if (base != 10 && digit_of(peek(x, at + 2), base) < 0) base = 10;
    if (base != 10) at += 2;
    const bool zeros = base == 10 && peek(x, at) == '0';

    int64_t v = 0;
    for (;; at++) {
        if (peek(x, at) == '_' && digit_of(peek(x, at + 1), base) >= 0) continue;
        const int d = digit_of(peek(x, at), base);
        if (d < 0 || (zeros && d != 0)) break;
        if (__builtin_mul_overflow(v, (int64_t)base, &v) ||
            __builtin_add_overflow(v, (int64_t)d, &v))
            return oct_tmpl_syntax(x->k, x->line, "integer too large"), false;
    }
    tmpl_tok *t = push(x, TMPL_TOK_INT, (oct_str){x->src.ptr + x->at, at - x->at});
    if (!t) return false;
    t->num.i = v;
    x->at = at;
    return true;
}

static bool lex_number(lexer *x) {
    const size_t end = float_end(x);
    if (!end) return lex_int(x);

    char text[64];
    size_t n = 0;
    for (size_t i = x->at; i < end; i++) {
        if (x->src.ptr[i] == '_') continue;
        if (n == sizeof text - 1) return oct_tmpl_syntax(x->k, x->line, "number too long"), false;
        text[n++] = x->src.ptr[i];
    }
    text[n] = '\0';
    tmpl_tok *t = push(x, TMPL_TOK_FLOAT, (oct_str){x->src.ptr + x->at, end - x->at});
    if (!t) return false;
    t->num.f = strtod(text, NULL);
    x->at = end;
    return true;
}

static bool name_byte(char ch) {
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_' || digit(ch) ||
           (unsigned char)ch >= 0x80;
}

/* Names are those of Python: letters, marks and digits of any script. */
static bool lex_name(lexer *x) {
    size_t end = x->at;
    while (name_byte(peek(x, end))) end++;
    const oct_str name = {x->src.ptr + x->at, end - x->at};
    size_t len;
    for (oct_str s = name; s.len; s = (oct_str){s.ptr + len, s.len - len}) {
        uint32_t point;
        oct_utf8_next(s, &point, &len);
        if (point >= 0x80 && !oct_tmpl_in_name(point, s.ptr == name.ptr)) {
            oct_tmpl_syntax(x->k, x->line, "unexpected character '%.*s'", (int)len, s.ptr);
            return false;
        }
    }
    x->at = end;
    return push(x, TMPL_TOK_NAME, name) != NULL;
}

static bool lex_op(lexer *x) {
    static const struct {
        char text[3];
        uint8_t op;
    } twos[] = {{"==", TMPL_OP_EQ}, {"!=", TMPL_OP_NE},       {"<=", TMPL_OP_LE},
                {">=", TMPL_OP_GE}, {"//", TMPL_OP_FLOORDIV}, {"**", TMPL_OP_POW}};
    const char ch = x->src.ptr[x->at];
    uint8_t op = (uint8_t)ch;
    size_t len = 1;
    for (size_t i = 0; i < OCT_COUNT(twos); i++)
        if (has(x, x->at, twos[i].text)) op = twos[i].op, len = 2;
    if (len == 1 && (ch == '\0' || !strchr("+-/*%~[](){}><=.:|,;", ch))) {
        oct_tmpl_syntax(x->k, x->line, "unexpected character '%c'", ch < ' ' ? '?' : ch);
        return false;
    }

    const char *const pairs = "()[]{}", *side = len == 1 ? strchr(pairs, ch) : NULL;
    if (side && (side - pairs) % 2 == 0) {
        if (x->n_open == MAX_OPEN)
            return oct_tmpl_syntax(x->k, x->line, "brackets are nested too deeply"), false;
        x->open[x->n_open++] = side[1];
    } else if (side) {
        if (x->n_open == 0 || x->open[x->n_open - 1] != ch)
            return oct_tmpl_syntax(x->k, x->line, "unexpected '%c'", ch), false;
        x->n_open--;
    }
    tmpl_tok *t = push(x, TMPL_TOK_OP, (oct_str){x->src.ptr + x->at, len});
    if (!t) return false;
    t->op = op;
    x->at += len;
    return true;
}

/* The end of the tag at x->at, when it is there and no bracket is open. */
static bool at_tag_end(lexer *x, const char *mark, bool block, bool *done) {
    char sign = sign_at(x, x->at);
    if (sign == '+' && !block) sign = '\0';
    const size_t end = x->at + (sign != '\0');
    if (!has(x, end, mark)) return true;
    if (!push(x, block ? TMPL_TOK_BLOCK_END : TMPL_TOK_VAR_END, (oct_str){NULL, 0})) return false;
    tag_end(x, end + 2, sign, block);
    *done = true;
    return true;
}

/* From behind the start mark to behind the end mark. */
static bool lex_tag(lexer *x, bool block) {
    const uint32_t line = x->line;
    x->n_open = 0;
    for (bool done = false; !done;) {
        if (x->at >= x->src.len)
            return oct_tmpl_syntax(x->k, line, "the tag that begins here has no end"), false;
        if (x->n_open == 0 && !at_tag_end(x, block ? "%}" : "}}", block, &done)) return false;
        if (done) break;

        const char ch = x->src.ptr[x->at];
        const size_t space = space_at(x, x->at);
        bool ok = true;
        if (space) {
            count_lines(x, x->at, x->at + space);
            x->at += space;
        } else if (digit(ch)) {
            ok = lex_number(x);
        } else if (name_byte(ch)) {
            ok = lex_name(x);
        } else if (ch == '\'' || ch == '"') {
            ok = lex_string(x);
        } else {
            ok = lex_op(x);
        }
        if (!ok) return false;
    }
    return true;
}

/* One stretch of data and the tag behind it. */
static bool lex_next(lexer *x) {
    size_t tag = x->at;
    for (;; tag++) {
        const char *brace = memchr(x->src.ptr + tag, '{', x->src.len - tag);
        tag = brace ? (size_t)(brace - x->src.ptr) : x->src.len;
        const char next = peek(x, tag + 1);
        if (!brace || next == '{' || next == '%' || next == '#') break;
    }
    if (tag == x->src.len) {
        const oct_str rest = {x->src.ptr + x->at, tag - x->at};
        x->at = tag;
        return !rest.len || push(x, TMPL_TOK_DATA, rest) != NULL;
    }

    const char kind = x->src.ptr[tag + 1], sign = sign_at(x, tag + 2);
    const size_t inside = tag + 2 + (sign != '\0');
    if (!push_data(x, tag, sign, kind != '{')) return false;
    x->at = inside;
    char raw_sign;
    const size_t raw = kind == '%' ? word_tag(x, inside, "raw", &raw_sign) : 0;
    if (raw && raw_sign != '+') return lex_raw(x, raw, raw_sign);
    if (kind == '#') return lex_comment(x, inside);
    if (!push(x, kind == '%' ? TMPL_TOK_BLOCK_BEGIN : TMPL_TOK_VAR_BEGIN, (oct_str){NULL, 0}))
        return false;
    return lex_tag(x, kind == '%');
}

/* \r\n and \r to \n, one newline at the end away. */
static bool normalise(tmpl_compiler *k, oct_str *s) {
    char *to = oct_tmpl_compile_alloc(k, s->len + 1, 1);
    if (!to) return false;
    size_t n = 0;
    for (size_t i = 0; i < s->len; i++) { /* a stretch without \r and what ends it */
        const char *stop = memchr(s->ptr + i, '\r', s->len - i);
        const size_t run = stop ? (size_t)(stop - s->ptr) - i : s->len - i;
        memcpy(to + n, s->ptr + i, run);
        n += run;
        i += run;
        if (i < s->len && (i + 1 == s->len || s->ptr[i + 1] != '\n')) to[n++] = '\n';
    }
    if (n > 0 && to[n - 1] == '\n') n--;
    *s = (oct_str){to, n};
    return true;
}

const tmpl_tok *oct_tmpl_lex(tmpl_compiler *k, oct_str source) {
    if (!normalise(k, &source)) return NULL;
    lexer x = {.k = k, .src = source, .line = 1, .line_start = true};
    bool ok = true;
    while (ok && x.at < x.src.len) ok = lex_next(&x);
    return ok && push(&x, TMPL_TOK_EOF, (oct_str){NULL, 0}) ? x.toks : NULL;
}
