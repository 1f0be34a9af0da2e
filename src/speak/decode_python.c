/*
 * speak/decode_python.c - calls as a list of Python calls: [f(a=1, b="x"), g()].
 *
 * Each argument's literal is written again as JSON, token by token, and the result read as JSON:
 * that checks nesting and commas, so that nothing here has to.
 */
#include <stdio.h>

#include "codec/utf8.h"
#include "speak/parts.h"

typedef struct reader {
    oct_str left;
    oct_buf *out;
} reader;

static void next(reader *r, size_t n) { r->left = (oct_str){r->left.ptr + n, r->left.len - n}; }

static void skip(reader *r) { next(r, oct_speak_blanks(r->left)); }

static char peek(const reader *r) { return r->left.len > 0 ? r->left.ptr[0] : '\0'; }

static bool accept(reader *r, char ch) {
    skip(r);
    if (peek(r) != ch || r->left.len == 0) return false;
    next(r, 1);
    return true;
}

static bool is_word(char ch, bool first) {
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_' ||
           (!first && ((ch >= '0' && ch <= '9') || ch == '.' || ch == '-'));
}

static oct_str word(reader *r) {
    skip(r);
    oct_str w = {r->left.ptr, 0};
    while (w.len < r->left.len && is_word(w.ptr[w.len], w.len == 0)) w.len++;
    next(r, w.len);
    return w;
}

static int hex(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    if ((ch | 32) >= 'a' && (ch | 32) <= 'f') return (ch | 32) - 'a' + 10;
    return -1;
}

/* n hex digits behind \x, \u or \U as a character. */
static bool numbered(reader *r, size_t n, oct_buf *text) {
    uint32_t point = 0;
    char utf8[4];
    if (r->left.len < n) return false;
    for (size_t i = 0; i < n; i++) {
        const int h = hex(r->left.ptr[i]);
        if (h < 0 || point > 0x10FFFF) return false;
        point = point * 16 + (uint32_t)h;
    }
    if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) return false;
    next(r, n);
    oct_buf_add(text, utf8, oct_utf8_encode(point, utf8));
    return true;
}

static bool escape(reader *r, oct_buf *text) {
    static const char from[] = "nrtbfav0", to[] = "\n\r\t\b\f\a\v\0";
    const char ch = peek(r);
    if (r->left.len == 0) return false;
    next(r, 1);
    if (ch == 'x') return numbered(r, 2, text);
    if (ch == 'u') return numbered(r, 4, text);
    if (ch == 'U') return numbered(r, 8, text);
    const char *at = ch ? strchr(from, ch) : NULL;
    if (ch == '\n') return true; /* a line that goes on */
    if (!at && ch != '\\' && ch != '\'' && ch != '"') oct_buf_char(text, '\\');
    oct_buf_char(text, at ? to[at - from] : ch);
    return true;
}

/* A string in either quotes, as JSON. */
static bool string(reader *r) {
    const char quote = peek(r);
    bool good = true;
    oct_buf text;
    oct_buf_init(&text, r->out->mem, 0);
    next(r, 1);
    while (good && r->left.len > 0 && peek(r) != quote) {
        const char ch = peek(r);
        next(r, 1);
        if (ch == '\\')
            good = escape(r, &text);
        else
            oct_buf_char(&text, ch);
    }
    good = good && r->left.len > 0;
    if (good) next(r, 1);
    if (text.failed) r->out->failed = true;
    oct_json_quote(r->out, oct_buf_view(&text));
    oct_buf_fini(&text);
    return good;
}

static bool name_of_value(reader *r) {
    const oct_str w = word(r);
    if (oct_str_is(w, "True") || oct_str_is(w, "true"))
        oct_buf_cstr(r->out, "true");
    else if (oct_str_is(w, "False") || oct_str_is(w, "false"))
        oct_buf_cstr(r->out, "false");
    else if (oct_str_is(w, "None") || oct_str_is(w, "null"))
        oct_buf_cstr(r->out, "null");
    else
        return false;
    return true;
}

/* Whether it is one is seen when it is read as JSON. */
static bool number(reader *r) {
    while (r->left.len > 0 && memchr("0123456789eE+-.", peek(r), 15)) {
        oct_buf_char(r->out, peek(r));
        next(r, 1);
    }
    return true;
}

/* A comma before a closing bracket is Python's and not JSON's. */
static void comma(reader *r) {
    skip(r);
    if (!memchr("]})", peek(r), 3) || r->left.len == 0) oct_buf_char(r->out, ',');
}

/* One token of a literal; false: it is none. */
static bool token(reader *r) {
    const char ch = peek(r);
    if (ch == '"' || ch == '\'') return string(r);
    if (is_word(ch, true)) return name_of_value(r);
    if ((ch >= '0' && ch <= '9') || ch == '-' || ch == '.') return number(r);
    next(r, 1);
    if (ch == ',')
        comma(r);
    else
        oct_buf_char(r->out, ch == '(' ? '[' : ch == ')' ? ']' : ch);
    return memchr("[]{}():,", ch, 8);
}

/* The literal up to a comma or the parenthesis that closes the call. */
static bool literal(reader *r) {
    size_t depth = 0;
    for (;;) {
        skip(r);
        const char ch = peek(r);
        if (r->left.len == 0) return false;
        if (depth == 0 && (ch == ',' || ch == ')')) return true;
        if (ch == '[' || ch == '{' || ch == '(') depth++;
        if (ch == ']' || ch == '}' || ch == ')') {
            if (depth == 0) return false;
            depth--;
        }
        if (!token(r)) return false;
    }
}

/* f(a=1, ...) with the arguments as the text of a JSON object. */
static bool call(reader *r, oct_str *name) {
    *name = word(r);
    if (name->len == 0 || !accept(r, '(')) return false;
    oct_buf_char(r->out, '{');
    while (!accept(r, ')')) {
        const oct_str key = word(r);
        if (key.len == 0 || !accept(r, '=')) return false;
        if (r->out->data[r->out->len - 1] != '{') oct_buf_char(r->out, ',');
        oct_json_quote(r->out, key);
        oct_buf_char(r->out, ':');
        if (!literal(r)) return false;
        if (!accept(r, ',') && peek(r) != ')') return false;
        if (r->out->failed) return false;
    }
    oct_buf_char(r->out, '}');
    return true;
}

static bool list(oct_speak_calls *c, reader *r) {
    if (!accept(r, '[')) return false;
    while (!accept(r, ']')) {
        oct_str name;
        oct_buf_clear(r->out);
        if (!call(r, &name) || r->out->failed) return false;
        json_t *args = oct_speak_read_json(c, oct_buf_view(r->out));
        const bool good = json_is_object(args) && oct_speak_add_call(c, name, args);
        json_decref(args);
        if (!good) return false;
        if (!accept(r, ',') && peek(r) != ']') return false;
    }
    skip(r);
    return r->left.len == 0;
}

bool oct_speak_decode_python(oct_speak_calls *c, oct_str body) {
    oct_buf text;
    oct_buf_init(&text, c->mem, 0);
    reader r = {body, &text};
    const bool good = list(c, &r);
    if (text.failed) c->failed = true;
    oct_buf_fini(&text);
    return good;
}
