/* net/target.c - request targets and query fields; see net/http.h. */
#include "net/http.h"

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Appends s with %XX decoded (and + as a blank if asked); false on a bad escape. */
static bool decode(oct_str s, bool plus_is_blank, oct_buf *out) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '%') {
            const int hi = i + 2 < s.len ? hex_value(s.ptr[i + 1]) : -1;
            const int lo = i + 2 < s.len ? hex_value(s.ptr[i + 2]) : -1;
            if (hi < 0 || lo < 0) return false;
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        oct_buf_char(out, c);
    }
    return !out->failed;
}

/* Well-formed UTF-8 at p, n bytes left: its length, or 0. net stands beside codec, so it has this
 * small check of its own. */
static size_t utf8_len(const unsigned char *p, size_t n) {
    if (p[0] < 0x80) return 1;
    const size_t len = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || n < len) return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F)) return 0;
    if ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F)) return 0;
    return len;
}

static bool plain_text(oct_str s) {
    for (size_t i = 0; i < s.len;) {
        const unsigned char *p = (const unsigned char *)s.ptr + i;
        const size_t len = utf8_len(p, s.len - i);
        if (len == 0 || p[0] < 0x20 || p[0] == 0x7F) return false;
        i += len;
    }
    return true;
}

static bool refuse(oct_http_refusal *r, const char *reason) {
    *r = (oct_http_refusal){400, reason};
    return false;
}

/* Appends the segments of a decoded path, tidied. */
static bool join_segments(oct_str decoded, oct_buf *path, oct_http_refusal *refusal) {
    const size_t start = path->len;
    for (size_t at = 0; at < decoded.len;) {
        size_t to = at;
        while (to < decoded.len && decoded.ptr[to] != '/') to++;
        const oct_str segment = {decoded.ptr + at, to - at};
        if (oct_str_is(segment, "..")) return refuse(refusal, "'..' in the path");
        if (segment.len > 0 && !oct_str_is(segment, ".")) {
            oct_buf_char(path, '/');
            oct_buf_str(path, segment);
        }
        at = to + 1;
    }
    if (path->len == start) oct_buf_char(path, '/');
    return true;
}

/* Behind "http://authority" of an absolute target; the target itself otherwise. */
static bool drop_authority(oct_str *target) {
    if (target->ptr[0] == '/') return true;
    size_t scheme = 0;
    if (target->len > 7 && oct_http_same_name((oct_str){target->ptr, 7}, "http://")) scheme = 7;
    if (target->len > 8 && oct_http_same_name((oct_str){target->ptr, 8}, "https://")) scheme = 8;
    if (scheme == 0) return false;
    size_t at = scheme;
    while (at < target->len && target->ptr[at] != '/' && target->ptr[at] != '?') at++;
    *target = (oct_str){target->ptr + at, target->len - at};
    return at > scheme;
}

bool oct_http_target_split(oct_str target, oct_http_method method, oct_buf *path, oct_str *query,
                           oct_http_refusal *refusal) {
    *query = (oct_str){"", 0};
    if (oct_str_is(target, "*") && method == OCT_HTTP_OPTIONS) {
        oct_buf_char(path, '*');
        return true;
    }
    if (target.len == 0 || !drop_authority(&target))
        return refuse(refusal, "malformed request target");
    if (target.len > 0 && memchr(target.ptr, '#', target.len))
        return refuse(refusal, "fragment in the request target");
    const char *mark = target.len > 0 ? memchr(target.ptr, '?', target.len) : NULL;
    const oct_str raw = {target.ptr, mark ? (size_t)(mark - target.ptr) : target.len};
    if (mark) *query = (oct_str){mark + 1, target.len - raw.len - 1};
    oct_buf decoded;
    oct_buf_init(&decoded, path->mem, 0);
    bool ok = decode(raw, false, &decoded);
    if (decoded.failed) {
        path->failed = ok = true; /* no memory is no fault of the target */
    } else if (!ok) {
        (void)refuse(refusal, "bad percent escape in the path");
    } else if (!plain_text(oct_buf_view(&decoded))) {
        ok = refuse(refusal, "control character or invalid UTF-8 in the path");
    } else {
        ok = join_segments(oct_buf_view(&decoded), path, refusal);
    }
    oct_buf_fini(&decoded);
    return ok;
}

bool oct_http_query_get(oct_str query, const char *name, oct_buf *out) {
    const oct_str wanted = oct_str_of(name);
    if (wanted.len == 0) return false;
    for (size_t at = 0; at < query.len;) {
        size_t to = at;
        while (to < query.len && query.ptr[to] != '&') to++;
        const oct_str pair = {query.ptr + at, to - at};
        const char *eq = pair.len > 0 ? memchr(pair.ptr, '=', pair.len) : NULL;
        const oct_str key = {pair.ptr, eq ? (size_t)(eq - pair.ptr) : pair.len};
        if (oct_str_eq(key, wanted)) {
            const oct_str value = eq ? (oct_str){eq + 1, pair.len - key.len - 1} : (oct_str){"", 0};
            return decode(value, true, out);
        }
        at = to + 1;
    }
    return false;
}
