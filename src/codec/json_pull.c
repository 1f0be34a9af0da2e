/* codec/json_pull.c - see the header. Nothing here recurses. */
#include "codec/json_pull.h"

#include <string.h>

#include "base/num.h"
#include "codec/utf8.h"

enum { MAX_DEPTH = 64 };

void oct_pull_init(oct_pull *j, oct_str json, const char *where, const oct_allocator *mem,
                   oct_err *err) {
    *j = (oct_pull){json.ptr, json.ptr, json.ptr + json.len, where, {0}, err};
    oct_buf_init(&j->text, mem, 0);
}

void oct_pull_fini(oct_pull *j) { oct_buf_fini(&j->text); }

oct_status oct_pull_fail(const oct_pull *j, const char *what) {
    return OCT_FAIL(j->err, OCT_E_CORRUPT, "%s: %s (at byte %zu)", j->where, what,
                    (size_t)(j->p - j->begin));
}

char oct_pull_peek(oct_pull *j) {
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\r' || *j->p == '\t'))
        j->p++;
    return j->p < j->end ? *j->p : '\0';
}

oct_status oct_pull_expect(oct_pull *j, char c) {
    if (oct_pull_peek(j) != c) { /* c is no NUL, which is what the end gives */
        const char what[] = {'n', 'o', ' ', '\'', c, '\'', '\0'};
        return oct_pull_fail(j, what);
    }
    j->p++;
    return OCT_OK;
}

oct_status oct_pull_more(oct_pull *j, char close, bool first, bool *more) {
    const char c = oct_pull_peek(j);
    *more = c != close;
    if (!*more) {
        j->p++;
        return OCT_OK;
    }
    return first ? OCT_OK : oct_pull_expect(j, ',');
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hex digits at p. */
static int hex4(const oct_pull *j, const char *p) {
    int v = 0;
    if (j->end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        const int d = hex_digit(p[i]);
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

/* The escape whose backslash is at p; p moves behind it. */
static oct_status take_escape(oct_pull *j) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char c = j->end - j->p > 1 ? j->p[1] : '\0';
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        oct_buf_char(&j->text, to[known - from]);
        j->p += 2;
        return OCT_OK;
    }
    int v = c == 'u' ? hex4(j, j->p + 2) : -1;
    if (v < 0) return oct_pull_fail(j, "an unknown escape in a string");
    j->p += 6;
    if (v >= 0xD800 && v < 0xDC00 && j->end - j->p >= 6 && j->p[0] == '\\' && j->p[1] == 'u') {
        const int low = hex4(j, j->p + 2);
        if (low >= 0xDC00 && low < 0xE000) {
            v = 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
            j->p += 6;
        }
    }
    char utf8[4];
    const size_t n = oct_utf8_encode((uint32_t)v, utf8);
    if (n == 0) return oct_pull_fail(j, "half a surrogate pair in a string");
    oct_buf_add(&j->text, utf8, n);
    return OCT_OK;
}

oct_status oct_pull_string(oct_pull *j, oct_str *out) {
    OCT_TRY(oct_pull_expect(j, '"'));
    const char *from = j->p;
    while (j->p < j->end && *j->p != '"' && *j->p != '\\' && (unsigned char)*j->p >= 0x20) j->p++;
    if (j->p < j->end && *j->p == '"') {
        *out = (oct_str){from, (size_t)(j->p++ - from)};
        return OCT_OK;
    }
    oct_buf_clear(&j->text);
    for (;;) {
        oct_buf_add(&j->text, from, (size_t)(j->p - from));
        if (j->p == j->end) return oct_pull_fail(j, "a string without an end");
        if (*j->p == '"') break;
        if (*j->p != '\\') return oct_pull_fail(j, "a control character in a string");
        OCT_TRY(take_escape(j));
        from = j->p;
        while (j->p < j->end && *j->p != '"' && *j->p != '\\' && (unsigned char)*j->p >= 0x20)
            j->p++;
    }
    j->p++;
    if (j->text.failed) return OCT_FAIL(j->err, OCT_E_NOMEM, "%s: no memory", j->where);
    *out = oct_buf_view(&j->text);
    return OCT_OK;
}

oct_status oct_pull_key(oct_pull *j, oct_str *out) {
    OCT_TRY(oct_pull_string(j, out));
    return oct_pull_expect(j, ':');
}

oct_status oct_pull_integer(oct_pull *j, int64_t *out) {
    (void)oct_pull_peek(j);
    const char *from = j->p;
    while (j->p < j->end && (*j->p == '-' || (*j->p >= '0' && *j->p <= '9'))) j->p++;
    const bool more = j->p < j->end && memchr(".eE+", *j->p, 4) != NULL;
    if (more || !oct_parse_i64((oct_str){from, (size_t)(j->p - from)}, out))
        return oct_pull_fail(j, "no integer");
    return OCT_OK;
}

/* From the quote at p to behind the closing one. */
static oct_status skip_string(oct_pull *j) {
    for (j->p++; j->p < j->end && *j->p != '"'; j->p++)
        if (*j->p == '\\' && ++j->p == j->end) break;
    if (j->p == j->end) return oct_pull_fail(j, "a string without an end");
    j->p++;
    return OCT_OK;
}

oct_status oct_pull_skip(oct_pull *j, oct_str *span) {
    int depth = 0;
    if (oct_pull_peek(j) == '\0') return oct_pull_fail(j, "no value");
    span->ptr = j->p;
    do {
        const char c = oct_pull_peek(j);
        if (c == '"') {
            OCT_TRY(skip_string(j));
        } else if (c == '{' || c == '[') {
            if (++depth > MAX_DEPTH) return oct_pull_fail(j, "more than 64 levels");
            j->p++;
        } else if (c == '}' || c == ']') {
            if (--depth < 0) return oct_pull_fail(j, "no value");
            j->p++;
        } else if (j->p == j->end) {
            return oct_pull_fail(j, "the text ends inside a value");
        } else if (c == ',' || c == ':') {
            if (depth == 0) return oct_pull_fail(j, "no value");
            j->p++;
        } else {
            while (j->p < j->end && !strchr(" \t\r\n,:{}[]\"", *j->p)) j->p++;
            if (j->p < j->end && *j->p == '\0') return oct_pull_fail(j, "a NUL byte");
        }
    } while (depth > 0);
    span->len = (size_t)(j->p - span->ptr);
    return OCT_OK;
}
