/* codec/utf8.c - see codec/utf8.h. */
#include "codec/utf8.h"

enum { REPLACEMENT = 0xFFFD, LAST_CODE_POINT = 0x10FFFF };

/* What a first byte says: how many bytes follow, and the range the second byte must be in. The
 * narrowed ranges of E0, ED, F0 and F4 exclude overlong forms, surrogates and values too large. */
typedef struct lead_rule {
    uint8_t n_more, lo, hi, bits;
} lead_rule;

static lead_rule rule_of(uint8_t b) {
    if (b >= 0xC2 && b <= 0xDF) return (lead_rule){1, 0x80, 0xBF, b & 0x1F};
    if (b == 0xE0) return (lead_rule){2, 0xA0, 0xBF, 0};
    if (b == 0xED) return (lead_rule){2, 0x80, 0x9F, 0x0D};
    if (b >= 0xE1 && b <= 0xEF) return (lead_rule){2, 0x80, 0xBF, b & 0x0F};
    if (b == 0xF0) return (lead_rule){3, 0x90, 0xBF, 0};
    if (b == 0xF4) return (lead_rule){3, 0x80, 0x8F, 4};
    if (b >= 0xF1 && b <= 0xF3) return (lead_rule){3, 0x80, 0xBF, b & 0x07};
    return (lead_rule){0, 0, 0, 0};
}

oct_utf8_step oct_utf8_next(oct_str s, uint32_t *cp, size_t *len) {
    *cp = REPLACEMENT;
    *len = 0;
    if (s.len == 0) return OCT_UTF8_CUT;
    const uint8_t *p = (const uint8_t *)s.ptr;
    *len = 1;
    if (p[0] < 0x80) {
        *cp = p[0];
        return OCT_UTF8_OK;
    }
    const lead_rule rule = rule_of(p[0]);
    if (rule.n_more == 0) return OCT_UTF8_BAD;
    uint32_t value = rule.bits;
    for (size_t i = 1; i <= rule.n_more; i++) {
        if (i >= s.len) return OCT_UTF8_CUT;
        const uint8_t lo = i == 1 ? rule.lo : 0x80, hi = i == 1 ? rule.hi : 0xBF;
        if (p[i] < lo || p[i] > hi) return OCT_UTF8_BAD;
        value = value << 6 | (p[i] & 0x3Fu);
        *len = i + 1;
    }
    *cp = value;
    return OCT_UTF8_OK;
}

/* Where the first byte from `at` on lies that is not ASCII; eight at a time. */
static size_t ascii_run(oct_str s, size_t at) {
    for (uint64_t eight; s.len - at >= sizeof eight; at += sizeof eight) {
        memcpy(&eight, s.ptr + at, sizeof eight);
        if (eight & 0x8080808080808080u) break;
    }
    while (at < s.len && (uint8_t)s.ptr[at] < 0x80) at++;
    return at;
}

static oct_str tail_of(oct_str s, size_t at) { return (oct_str){s.ptr + at, s.len - at}; }

bool oct_utf8_valid(oct_str s, size_t *bad_at) {
    for (size_t at = ascii_run(s, 0); at < s.len; at = ascii_run(s, at)) {
        uint32_t cp;
        size_t len;
        if (oct_utf8_next(tail_of(s, at), &cp, &len) != OCT_UTF8_OK) {
            if (bad_at) *bad_at = at;
            return false;
        }
        at += len;
    }
    return true;
}

size_t oct_utf8_encode(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp >= 0xD800 && cp <= 0xDFFF) return 0;
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    if (cp > LAST_CODE_POINT) return 0;
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

size_t oct_utf8_count(oct_str s) {
    size_t n = 0;
    for (size_t at = 0; at < s.len; n++) {
        uint32_t cp;
        size_t len;
        (void)oct_utf8_next(tail_of(s, at), &cp, &len);
        at += len;
    }
    return n;
}

size_t oct_utf8_complete_len(oct_str s) {
    /* A cut sequence is at most three bytes, so only the last three can start one. */
    for (size_t back = 1; back <= 3 && back <= s.len; back++) {
        const size_t at = s.len - back;
        if (((uint8_t)s.ptr[at] & 0xC0) == 0x80) continue;
        uint32_t cp;
        size_t len;
        return oct_utf8_next(tail_of(s, at), &cp, &len) == OCT_UTF8_CUT ? at : s.len;
    }
    return s.len;
}

void oct_utf8_repair(oct_buf *b, oct_str s) {
    size_t good_from = 0;
    for (size_t at = ascii_run(s, 0); at < s.len; at = ascii_run(s, at)) {
        uint32_t cp;
        size_t len;
        const bool ok = oct_utf8_next(tail_of(s, at), &cp, &len) == OCT_UTF8_OK;
        if (!ok) {
            oct_buf_add(b, s.ptr + good_from, at - good_from);
            oct_buf_cstr(b, "\xEF\xBF\xBD");
            good_from = at + len;
        }
        at += len;
    }
    if (good_from < s.len) oct_buf_add(b, s.ptr + good_from, s.len - good_from);
}
