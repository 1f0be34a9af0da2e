/* codec/json_scan.c - see codec/json_scan.h. */
#include "codec/json_scan.h"

#include "base/checked.h"
#include "base/num.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* By table: most bytes of a file go through one of these two. */
static const bool in_word[256] = {
    ['0'] = true, ['1'] = true, ['2'] = true, ['3'] = true, ['4'] = true, ['5'] = true,
    ['6'] = true, ['7'] = true, ['8'] = true, ['9'] = true, ['-'] = true, ['+'] = true,
    ['.'] = true, ['_'] = true, ['a'] = true, ['b'] = true, ['c'] = true, ['d'] = true,
    ['e'] = true, ['f'] = true, ['g'] = true, ['h'] = true, ['i'] = true, ['j'] = true,
    ['k'] = true, ['l'] = true, ['m'] = true, ['n'] = true, ['o'] = true, ['p'] = true,
    ['q'] = true, ['r'] = true, ['s'] = true, ['t'] = true, ['u'] = true, ['v'] = true,
    ['w'] = true, ['x'] = true, ['y'] = true, ['z'] = true, ['A'] = true, ['B'] = true,
    ['C'] = true, ['D'] = true, ['E'] = true, ['F'] = true, ['G'] = true, ['H'] = true,
    ['I'] = true, ['J'] = true, ['K'] = true, ['L'] = true, ['M'] = true, ['N'] = true,
    ['O'] = true, ['P'] = true, ['Q'] = true, ['R'] = true, ['S'] = true, ['T'] = true,
    ['U'] = true, ['V'] = true, ['W'] = true, ['X'] = true, ['Y'] = true, ['Z'] = true};
static const bool ends_run[256] = {['"'] = true, ['\\'] = true};

static bool is_word(char c) { return in_word[(uint8_t)c]; }

static int hex_value(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The value of \uXXXX that starts at text[at], or -1. */
static int unicode_escape(oct_str text, size_t at) {
    if (text.len - at < 6 || text.ptr[at] != '\\' || text.ptr[at + 1] != 'u') return -1;
    int value = 0;
    for (size_t i = 2; i < 6; i++) {
        const int h = hex_value(text.ptr[at + i]);
        if (h < 0) return -1;
        value = value << 4 | h;
    }
    return value;
}

static bool is_high(int v) { return v >= 0xD800 && v <= 0xDBFF; }
static bool is_low(int v) { return v >= 0xDC00 && v <= 0xDFFF; }

/* *at is the opening quote; on OK it is behind the closing one (or at the end, which jansson
 * refuses as an unfinished string). */
static oct_status scan_string(oct_str text, size_t *at, const char *where, oct_err *err) {
    size_t i = *at + 1;
    for (;;) {
        while (i < text.len && !ends_run[(uint8_t)text.ptr[i]]) i++;
        if (i >= text.len || text.ptr[i] == '"') break;
        const int unit = unicode_escape(text, i);
        if (unit < 0) {
            if (i + 1 < text.len && !strchr("\"\\/bfnrt", text.ptr[i + 1]))
                return OCT_FAIL(err, OCT_E_INVALID, "%s: bad escape in a string (at byte %zu)",
                                where, i);
            i += 2;
            continue;
        }
        if (is_high(unit) && i + 6 < text.len && is_low(unicode_escape(text, i + 6))) {
            i += 12;
            continue;
        }
        if (is_high(unit) || is_low(unit))
            return OCT_FAIL(err, OCT_E_INVALID, "%s: lone surrogate \\u%04x (at byte %zu)", where,
                            (unsigned)unit, i);
        i += 6;
    }
    *at = i < text.len ? i + 1 : text.len;
    return OCT_OK;
}

static oct_str word_at(oct_str text, size_t at) {
    size_t to = at;
    while (to < text.len && is_word(text.ptr[to])) to++;
    return (oct_str){text.ptr + at, to - at};
}

static bool is_nonfinite(oct_str w) {
    return oct_str_is(w, "NaN") || oct_str_is(w, "Infinity") || oct_str_is(w, "-Infinity");
}

/* A well-formed integer literal that int64 cannot hold. */
static bool is_wide_integer(oct_str w) {
    size_t i = w.len > 0 && w.ptr[0] == '-' ? 1 : 0;
    if (w.len - i < 19 || w.ptr[i] == '0') return false;
    for (; i < w.len; i++)
        if (!is_digit(w.ptr[i])) return false;
    int64_t v;
    return !oct_parse_i64(w, &v);
}

oct_status oct_json_scan(oct_str text, const char *where, const oct_json_limits *limits,
                         bool *rewrite, oct_err *err) {
    uint32_t depth = 0, n_parts = 0;
    *rewrite = false;
    for (size_t at = 0; at < text.len;) {
        const char c = text.ptr[at];
        if ((c == '"' || c == '[' || c == '{') && limits->max_parts > 0 &&
            ++n_parts > limits->max_parts)
            return OCT_FAIL(err, OCT_E_INVALID,
                            "%s: too many strings, arrays and objects (at byte %zu, limit %u)",
                            where, at, limits->max_parts);
        if (c == '"') {
            OCT_TRY(scan_string(text, &at, where, err));
        } else if (c == '[' || c == '{') {
            if (++depth > limits->max_depth)
                return OCT_FAIL(err, OCT_E_INVALID, "%s: nested too deeply (at byte %zu, limit %u)",
                                where, at, limits->max_depth);
            at++;
        } else if (c == ']' || c == '}') {
            /* More closed than opened is jansson's to refuse; only the count must not wrap. */
            if (depth > 0) depth--;
            at++;
        } else if (is_word(c)) {
            const oct_str w = word_at(text, at);
            if ((limits->allow_nonfinite && is_nonfinite(w)) || is_wide_integer(w)) *rewrite = true;
            at += w.len;
        } else {
            at++;
        }
    }
    return OCT_OK;
}

oct_str oct_json_deep_key(oct_str text, uint32_t max_depth) {
    oct_str key = {NULL, 0};
    uint32_t depth = 0;
    for (size_t at = 0; at < text.len;) {
        const char c = text.ptr[at];
        if (c == '"') {
            const size_t from = at + 1;
            if (scan_string(text, &at, "", NULL) != OCT_OK) break;
            if (depth == 1) key = (oct_str){text.ptr + from, at - from - (at < text.len)};
            continue;
        }
        if (c == '[' || c == '{') {
            if (++depth > max_depth) return key;
            if (depth == 1 && c == '[') break; /* no object: its strings are no keys */
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
        at++;
    }
    return (oct_str){NULL, 0};
}

/* Walks text as oct_json_rewrite does. With out it writes; without, it stops where the output would
 * pass out_at and returns the place in text. */
static size_t rewrite_walk(oct_str text, const oct_json_limits *limits, oct_buf *out,
                           size_t out_at) {
    size_t n_out = 0, at = 0;
    while (at < text.len) {
        size_t end = at + 1, extra = 0;
        bool quoted = false;
        if (text.ptr[at] == '"') {
            end = at;
            (void)scan_string(text, &end, "", NULL);
        } else if (is_word(text.ptr[at])) {
            const oct_str w = word_at(text, at);
            end = at + w.len;
            quoted = limits->allow_nonfinite && is_nonfinite(w);
            extra = quoted || is_wide_integer(w) ? 2 : 0;
        }
        if (out) {
            if (quoted) oct_buf_char(out, '"');
            oct_buf_add(out, text.ptr + at, end - at);
            if (quoted) oct_buf_char(out, '"');
            if (extra > 0 && !quoted) oct_buf_cstr(out, "e0");
        } else if (n_out + (end - at) + extra > out_at) {
            return at + oct_min_size(out_at - n_out, end - at);
        }
        n_out += (end - at) + extra;
        at = end;
    }
    return text.len;
}

void oct_json_rewrite(oct_str text, const oct_json_limits *limits, oct_buf *out) {
    (void)rewrite_walk(text, limits, out, 0);
}

size_t oct_json_rewrite_origin(oct_str text, const oct_json_limits *limits, size_t out_at) {
    return rewrite_walk(text, limits, NULL, out_at);
}
