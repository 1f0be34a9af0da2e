/*
 * text/template_unicode.c - strings of a template as code points: counting, blanks, case.
 *
 * Case mapping is one code point to one (utf8proc), except that the sharp s becomes "SS" in upper
 * case as in Python; other special casings are not made.
 */
#include <utf8proc.h>

#include "codec/utf8.h"
#include "text/template_priv.h"

static bool all_ascii(tmpl_val s) {
    for (uint32_t i = 0; i < s.len; i++)
        if ((unsigned char)s.u.s[i] >= 0x80) return false;
    return true;
}

uint32_t oct_tmpl_count(tmpl_val s) { return (uint32_t)oct_utf8_count((oct_str){s.u.s, s.len}); }

static size_t next(tmpl_val s, size_t at, uint32_t *point) {
    size_t len;
    oct_utf8_next((oct_str){s.u.s + at, s.len - at}, point, &len);
    return len;
}

uint32_t oct_tmpl_offset(tmpl_val s, uint32_t point) {
    size_t at = 0;
    for (uint32_t ch; point > 0 && at < s.len; point--) at += next(s, at, &ch);
    return (uint32_t)at;
}

bool oct_tmpl_is_space(uint32_t p) {
    if (p < 0x80) return (p >= 9 && p <= 13) || (p >= 28 && p <= 32);
    return p == 0x85 || p == 0xA0 || p == 0x1680 || (p >= 0x2000 && p <= 0x200A) || p == 0x2028 ||
           p == 0x2029 || p == 0x202F || p == 0x205F || p == 0x3000;
}

bool oct_tmpl_in_name(uint32_t point, bool first) {
    switch (utf8proc_category((utf8proc_int32_t)point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
        return true;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
        return !first;
    default:
        return false;
    }
}

static bool stripped(oct_str one, uint32_t point, const oct_str *chars) {
    if (!chars) return oct_tmpl_is_space(point);
    return one.len <= chars->len && memmem(chars->ptr, chars->len, one.ptr, one.len) != NULL;
}

static size_t last_len(oct_str s) {
    size_t n = 1;
    while (n < 4 && n < s.len && ((unsigned char)s.ptr[s.len - n] & 0xC0) == 0x80) n++;
    return n;
}

oct_str oct_tmpl_strip(oct_str s, const oct_str *chars, bool left, bool right) {
    uint32_t point;
    size_t len;
    while (left && s.len) {
        oct_utf8_next(s, &point, &len);
        if (!stripped((oct_str){s.ptr, len}, point, chars)) break;
        s.ptr += len;
        s.len -= len;
    }
    while (right && s.len) {
        const size_t n = last_len(s);
        const oct_str one = {s.ptr + s.len - n, n};
        oct_utf8_next(one, &point, &len);
        if (!stripped(one, point, chars)) break;
        s.len -= n;
    }
    return s;
}

bool oct_tmpl_printable(uint32_t point) {
    switch (utf8proc_category((utf8proc_int32_t)point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return point == ' ';
    default:
        return true;
    }
}

static bool is_cased(uint32_t p) {
    const utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)p);
    return cat == UTF8PROC_CATEGORY_LU || cat == UTF8PROC_CATEGORY_LL ||
           cat == UTF8PROC_CATEGORY_LT;
}

/* The characters that begin a word for the filter `title`, as against the method. */
static bool splits_word(uint32_t p) {
    return oct_tmpl_is_space(p) || p == '-' || p == '(' || p == '{' || p == '[' || p == '<';
}

static uint32_t recase(uint32_t p, tmpl_case how, bool *start) {
    const utf8proc_int32_t point = (utf8proc_int32_t)p;
    bool up = how == TMPL_UPPER;
    if (how != TMPL_UPPER && how != TMPL_LOWER) {
        up = *start;
        *start = how == TMPL_TITLE         ? !is_cased(p)
                 : how == TMPL_TITLE_WORDS ? splits_word(p)
                                           : false;
    }
    if (!up) return (uint32_t)utf8proc_tolower(point);
    return (uint32_t)(how == TMPL_UPPER ? utf8proc_toupper(point) : utf8proc_totitle(point));
}

bool oct_tmpl_recase(tmpl_ctx *c, tmpl_val s, tmpl_case how, tmpl_val *out) {
    enum { SHARP_S = 0xDF };
    /* a mapped code point takes at most one byte more than it had; sharp s keeps its two */
    char *to = oct_tmpl_alloc(c, (size_t)s.len * 2 + 4, 1);
    if (!to || !oct_tmpl_work(c, (uint64_t)s.len * 16)) return false;
    const bool ascii = all_ascii(s);
    size_t n = 0;
    bool start = true;
    uint32_t point;
    for (size_t at = 0, len; at < s.len; at += len) {
        len = next(s, at, &point);
        if (point == SHARP_S && (how == TMPL_UPPER || (how != TMPL_LOWER && start))) {
            to[n++] = 'S';
            to[n++] = how == TMPL_TITLE || how == TMPL_CAPITALIZE ? 's' : 'S';
            start = false;
            continue;
        }
        if (ascii)
            to[n++] = (char)recase(point, how, &start);
        else
            n += oct_utf8_encode(recase(point, how, &start), to + n);
    }
    *out = oct_tmpl_str((oct_str){to, n});
    out->flags = s.flags & TMPL_SAFE;
    return true;
}
