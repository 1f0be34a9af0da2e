/*
 * text/template_strings.c - methods of strings. What can be long (the text, and what is looked for
 * in it) is counted in steps before it is read.
 */
#include "codec/utf8.h"
#include "text/template_priv.h"

static bool want_str(tmpl_ctx *c, tmpl_val v, const char *what) {
    if (v.kind == TMPL_STR) return true;
    if (v.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, v);
    return oct_tmpl_fail_type(c, "%s() wants a string (got %s)", what, oct_tmpl_type_name(v));
}

/* A piece of a string that keeps its marks. */
static tmpl_val piece(tmpl_val of, oct_str s) {
    tmpl_val v = oct_tmpl_str(s);
    v.flags = of.flags;
    return v;
}

static bool strip(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, const char *what, int sides,
                  tmpl_val *out) {
    tmpl_val chars;
    if (!oct_tmpl_bind(c, a, what, "chars", 0, &chars)) return false;
    const bool blanks = chars.kind == TMPL_ABSENT || chars.kind == TMPL_NONE;
    if (!blanks && !want_str(c, chars, what)) return false;
    const oct_str set = blanks ? (oct_str){NULL, 0} : tmpl_strv(chars);
    if (!oct_tmpl_work(c, (uint64_t)s.len * 16) ||
        (!blanks && !oct_tmpl_step(c, (uint64_t)s.len * set.len / 4096)))
        return false;
    *out = piece(s, oct_tmpl_strip(tmpl_strv(s), blanks ? NULL : &set, sides & 1, sides & 2));
    return true;
}
static bool m_strip(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return strip(c, s, a, "strip", 3, out);
}
static bool m_lstrip(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return strip(c, s, a, "lstrip", 1, out);
}
static bool m_rstrip(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return strip(c, s, a, "rstrip", 2, out);
}

static bool recase(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, const char *what, tmpl_case how,
                   tmpl_val *out) {
    tmpl_val none;
    return oct_tmpl_bind(c, a, what, "", 0, &none) && oct_tmpl_recase(c, s, how, out);
}
static bool m_upper(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return recase(c, s, a, "upper", TMPL_UPPER, out);
}
static bool m_lower(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return recase(c, s, a, "lower", TMPL_LOWER, out);
}
static bool m_title(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return recase(c, s, a, "title", TMPL_TITLE, out);
}
static bool m_capitalize(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return recase(c, s, a, "capitalize", TMPL_CAPITALIZE, out);
}

/* The head of s up to the next blank run, which is skipped; false at the end. */
static bool next_word(oct_str *s, oct_str *word) {
    *s = oct_tmpl_strip(*s, NULL, true, false);
    if (s->len == 0) return false;
    size_t at = 0, len;
    uint32_t point;
    for (; at < s->len; at += len) {
        oct_utf8_next((oct_str){s->ptr + at, s->len - at}, &point, &len);
        if (oct_tmpl_is_space(point)) break;
    }
    *word = (oct_str){s->ptr, at};
    *s = (oct_str){s->ptr + at, s->len - at};
    return true;
}

static bool split_blanks(tmpl_ctx *c, tmpl_val s, int64_t max, tmpl_list *to) {
    oct_str rest = tmpl_strv(s), word;
    while (max != 0 && next_word(&rest, &word)) {
        if (!oct_tmpl_list_add(c, to, piece(s, word))) return false;
        if (max > 0) max--;
    }
    rest = oct_tmpl_strip(rest, NULL, true, false);
    return rest.len == 0 || oct_tmpl_list_add(c, to, piece(s, rest));
}

static bool split_by(tmpl_ctx *c, tmpl_val s, oct_str sep, int64_t max, tmpl_list *to) {
    oct_str rest = tmpl_strv(s);
    for (; max != 0; max -= max > 0) {
        const char *at = sep.len <= rest.len ? memmem(rest.ptr, rest.len, sep.ptr, sep.len) : NULL;
        if (!at) break;
        const size_t head = (size_t)(at - rest.ptr);
        if (!oct_tmpl_list_add(c, to, piece(s, (oct_str){rest.ptr, head}))) return false;
        rest = (oct_str){at + sep.len, rest.len - head - sep.len};
    }
    return oct_tmpl_list_add(c, to, piece(s, rest));
}

static void reverse(tmpl_list *l) {
    for (uint32_t i = 0; i < l->n / 2; i++) {
        const tmpl_val v = l->at[i];
        l->at[i] = l->at[l->n - 1 - i];
        l->at[l->n - 1 - i] = v;
    }
}

/* From the right: pieces are gathered in reverse, then turned round. */
static bool rsplit_by(tmpl_ctx *c, tmpl_val s, oct_str sep, int64_t max, tmpl_list *to) {
    oct_str rest = tmpl_strv(s);
    for (; max != 0; max -= max > 0) {
        size_t at = rest.len < sep.len ? SIZE_MAX : rest.len - sep.len;
        while (at != SIZE_MAX && memcmp(rest.ptr + at, sep.ptr, sep.len) != 0) at--;
        if (at == SIZE_MAX) break;
        const oct_str tail = {rest.ptr + at + sep.len, rest.len - at - sep.len};
        if (!oct_tmpl_list_add(c, to, piece(s, tail))) return false;
        rest.len = at;
    }
    if (!oct_tmpl_list_add(c, to, piece(s, rest))) return false;
    reverse(to);
    return true;
}

static bool split_args(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, const char *what, tmpl_val v[2],
                       int64_t *max) {
    *max = -1;
    if (!oct_tmpl_bind(c, a, what, "sep,maxsplit", 0, v) || !oct_tmpl_work(c, (uint64_t)s.len * 4))
        return false;
    if (v[1].kind != TMPL_ABSENT && !tmpl_as_int(v[1], max))
        return oct_tmpl_fail_type(c, "%s() wants an integer for maxsplit", what);
    if (v[0].kind == TMPL_ABSENT || v[0].kind == TMPL_NONE) return true;
    if (!want_str(c, v[0], what)) return false;
    return v[0].len > 0 || oct_tmpl_fail(c, "empty separator");
}

static bool m_split(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[2];
    int64_t max;
    if (!split_args(c, s, a, "split", v, &max) || !oct_tmpl_list_new(c, 0, TMPL_LIST, out))
        return false;
    if (v[0].kind != TMPL_STR) return split_blanks(c, s, max, out->u.list);
    return split_by(c, s, tmpl_strv(v[0]), max, out->u.list);
}

static bool m_rsplit(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[2];
    int64_t max;
    if (!split_args(c, s, a, "rsplit", v, &max) || !oct_tmpl_list_new(c, 0, TMPL_LIST, out))
        return false;
    if (v[0].kind == TMPL_STR) {
        if (!oct_tmpl_step(c, (uint64_t)s.len * v[0].len / 4096)) return false;
        return rsplit_by(c, s, tmpl_strv(v[0]), max, out->u.list);
    }
    if (max >= 0) return oct_tmpl_fail(c, "rsplit() by blanks with a limit is not supported");
    return split_blanks(c, s, max, out->u.list);
}

/* Where a line ends: the bytes of the line break at `at`, 0 when there is none. */
static size_t line_break(oct_str s, size_t at) {
    uint32_t p;
    size_t len;
    oct_utf8_next((oct_str){s.ptr + at, s.len - at}, &p, &len);
    if (p == '\r' && at + 1 < s.len && s.ptr[at + 1] == '\n') return 2;
    const bool is = (p >= '\n' && p <= '\r') || (p >= 0x1C && p <= 0x1E) || p == 0x85 ||
                    p == 0x2028 || p == 0x2029;
    return is ? len : 0;
}

bool oct_tmpl_splitlines(tmpl_ctx *c, tmpl_val s, bool keep, tmpl_list *to) {
    const oct_str all = tmpl_strv(s);
    size_t from = 0;
    if (!oct_tmpl_work(c, (uint64_t)s.len * 4)) return false;
    for (size_t at = 0; at < all.len;) {
        const size_t end = line_break(all, at);
        if (!end) {
            at++;
            continue;
        }
        const oct_str line = {all.ptr + from, at - from + (keep ? end : 0)};
        if (!oct_tmpl_list_add(c, to, piece(s, line))) return false;
        at += end;
        from = at;
    }
    return from == all.len ||
           oct_tmpl_list_add(c, to, piece(s, (oct_str){all.ptr + from, all.len - from}));
}

static bool m_splitlines(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    tmpl_val keep;
    bool kept;
    return oct_tmpl_bind(c, a, "splitlines", "keepends", 0, &keep) &&
           oct_tmpl_flag(c, keep, &kept) && oct_tmpl_list_new(c, 0, TMPL_LIST, out) &&
           oct_tmpl_splitlines(c, s, kept, out->u.list);
}

/* startswith and endswith take a string or a tuple of them. */
static bool affix(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, bool tail, tmpl_val *out) {
    const char *what = tail ? "endswith" : "startswith";
    tmpl_val v;
    bool is = false;
    if (!oct_tmpl_bind(c, a, what, "affix", 1, &v)) return false;
    const bool many = v.kind == TMPL_TUPLE;
    for (uint32_t i = 0; i < (many ? v.u.list->n : 1); i++) {
        const tmpl_val one = many ? v.u.list->at[i] : v;
        if (!want_str(c, one, what) || !oct_tmpl_work(c, one.len)) return false;
        is |= tail ? oct_str_ends(tmpl_strv(s), tmpl_strv(one))
                   : oct_str_starts(tmpl_strv(s), tmpl_strv(one));
    }
    *out = tmpl_bool(is);
    return true;
}
static bool m_startswith(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return affix(c, s, a, false, out);
}
static bool m_endswith(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return affix(c, s, a, true, out);
}

static bool m_removeprefix(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v;
    if (!oct_tmpl_bind(c, a, "removeprefix", "prefix", 1, &v) || !want_str(c, v, "removeprefix"))
        return false;
    const bool is = oct_str_starts(tmpl_strv(s), tmpl_strv(v));
    *out = is ? piece(s, (oct_str){s.u.s + v.len, s.len - v.len}) : s;
    return true;
}
static bool m_removesuffix(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v;
    if (!oct_tmpl_bind(c, a, "removesuffix", "suffix", 1, &v) || !want_str(c, v, "removesuffix"))
        return false;
    const bool is = oct_str_ends(tmpl_strv(s), tmpl_strv(v));
    *out = is ? piece(s, (oct_str){s.u.s, s.len - v.len}) : s;
    return true;
}

/* An empty `from` stands before every character and at the end. */
static void replace_empty(tmpl_text *t, oct_str s, oct_str to, int64_t max) {
    size_t len;
    uint32_t point;
    while (s.len && max != 0) {
        oct_tmpl_text_add(t, to);
        oct_utf8_next(s, &point, &len);
        oct_tmpl_text_add(t, (oct_str){s.ptr, len});
        s = (oct_str){s.ptr + len, s.len - len};
        max -= max > 0;
    }
    oct_tmpl_text_add(t, s);
    if (max != 0) oct_tmpl_text_add(t, to);
}

bool oct_tmpl_str_replace(tmpl_ctx *c, tmpl_val s, oct_str from, oct_str to, int64_t max,
                          tmpl_val *out) {
    tmpl_text t = {.c = c};
    oct_str rest = tmpl_strv(s);
    if (!oct_tmpl_work(c, s.len)) return false;
    if (from.len == 0) {
        replace_empty(&t, rest, to, max);
        return oct_tmpl_text_done(&t, out);
    }
    for (; max != 0 && from.len <= rest.len; max -= max > 0) {
        const char *at = memmem(rest.ptr, rest.len, from.ptr, from.len);
        if (!at) break;
        const size_t head = (size_t)(at - rest.ptr);
        oct_tmpl_text_add(&t, (oct_str){rest.ptr, head});
        oct_tmpl_text_add(&t, to);
        if (t.failed) return false;
        rest = (oct_str){at + from.len, rest.len - head - from.len};
    }
    oct_tmpl_text_add(&t, rest);
    if (!oct_tmpl_text_done(&t, out)) return false;
    out->flags = s.flags & TMPL_SAFE;
    return true;
}

static bool m_replace(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[3];
    int64_t max = -1;
    if (!oct_tmpl_bind(c, a, "replace", "old,new,count", 2, v) || !want_str(c, v[0], "replace") ||
        !want_str(c, v[1], "replace"))
        return false;
    if (v[2].kind != TMPL_ABSENT && !tmpl_as_int(v[2], &max))
        return oct_tmpl_fail_type(c, "replace() wants an integer for count");
    if ((s.flags & TMPL_SAFE) &&
        (!oct_tmpl_escape(c, v[0], &v[0]) || !oct_tmpl_escape(c, v[1], &v[1])))
        return false;
    return oct_tmpl_str_replace(c, s, tmpl_strv(v[0]), tmpl_strv(v[1]), max, out);
}

/* The part of s that [start, end) in code points names; *base is where it begins. */
static bool window(tmpl_ctx *c, tmpl_val s, const tmpl_val bound[2], oct_str *part, int64_t *base,
                   bool *beyond) {
    const int64_t n = oct_tmpl_count(s);
    int64_t at[2] = {0, n};
    for (int i = 0; i < 2; i++) {
        if (bound[i].kind == TMPL_ABSENT || bound[i].kind == TMPL_NONE) continue;
        if (!tmpl_as_int(bound[i], &at[i]))
            return oct_tmpl_fail_type(c, "slice indices must be integers or None");
        if (at[i] < 0) at[i] = at[i] < -n ? 0 : at[i] + n;
    }
    *beyond = at[0] > n;
    if (at[1] > n) at[1] = n;
    if (at[0] > at[1]) *beyond = true;
    *base = *beyond ? 0 : at[0];
    const uint32_t from = oct_tmpl_offset(s, (uint32_t)*base);
    const uint32_t to = *beyond ? from : oct_tmpl_offset(s, (uint32_t)at[1]);
    *part = (oct_str){s.u.s + from, to - from};
    return oct_tmpl_work(c, (uint64_t)s.len * 4);
}

static const char *find_last(oct_str s, oct_str what) {
    for (size_t at = s.len - what.len + 1; at-- > 0;)
        if (memcmp(s.ptr + at, what.ptr, what.len) == 0) return s.ptr + at;
    return NULL;
}

static bool find(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, const char *name, bool last,
                 int64_t *out) {
    tmpl_val v[3];
    oct_str part = {"", 0};
    int64_t base = 0;
    bool beyond = false;
    *out = -1;
    if (!oct_tmpl_bind(c, a, name, "sub,start,end", 1, v) || !want_str(c, v[0], name) ||
        !window(c, s, v + 1, &part, &base, &beyond))
        return false;
    const oct_str what = tmpl_strv(v[0]);
    if (beyond || what.len > part.len) return true;
    if (last && !oct_tmpl_step(c, (uint64_t)part.len * what.len / 4096)) return false;
    const char *at = last ? find_last(part, what)
                          : (what.len ? memmem(part.ptr, part.len, what.ptr, what.len) : part.ptr);
    if (at)
        *out = base + oct_tmpl_count(oct_tmpl_str((oct_str){part.ptr, (size_t)(at - part.ptr)}));
    return true;
}

static bool m_find(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    int64_t at;
    if (!find(c, s, a, "find", false, &at)) return false;
    *out = tmpl_int(at);
    return true;
}
static bool m_rfind(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    int64_t at;
    if (!find(c, s, a, "rfind", true, &at)) return false;
    *out = tmpl_int(at);
    return true;
}
static bool m_index(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    int64_t at;
    if (!find(c, s, a, "index", false, &at)) return false;
    *out = tmpl_int(at);
    return at >= 0 || oct_tmpl_fail(c, "substring not found");
}

static bool m_count(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v[3];
    oct_str part = {"", 0};
    int64_t base = 0, n = 0;
    bool beyond = false;
    if (!oct_tmpl_bind(c, a, "count", "sub,start,end", 1, v) || !want_str(c, v[0], "count") ||
        !window(c, s, v + 1, &part, &base, &beyond))
        return false;
    const oct_str what = tmpl_strv(v[0]);
    if (what.len == 0 && !beyond) n = (int64_t)oct_utf8_count(part) + 1;
    while (what.len && what.len <= part.len) {
        const char *at = memmem(part.ptr, part.len, what.ptr, what.len);
        if (!at) break;
        n++;
        part = (oct_str){at + what.len, part.len - (size_t)(at - part.ptr) - what.len};
    }
    *out = tmpl_int(n);
    return true;
}

static bool m_join(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    tmpl_val v;
    tmpl_list items;
    tmpl_text t = {.c = c};
    if (!oct_tmpl_bind(c, a, "join", "iterable", 1, &v) || !oct_tmpl_iterate(c, v, &items))
        return false;
    for (uint32_t i = 0; i < items.n && !t.failed; i++) {
        if (items.at[i].kind != TMPL_STR)
            return oct_tmpl_fail_type(c, "sequence item %u: expected str instance, %s found", i,
                                      oct_tmpl_type_name(items.at[i]));
        if (i) oct_tmpl_text_str(&t, s);
        oct_tmpl_text_str(&t, items.at[i]);
    }
    return oct_tmpl_step(c, items.n) && oct_tmpl_text_done(&t, out);
}

/* isdigit and its like, for ASCII rules that templates use; other characters count as letters. */
static bool all_of(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, bool letters, bool digits,
                   bool blanks, tmpl_val *out) {
    tmpl_val none;
    bool all = s.len > 0;
    if (!oct_tmpl_bind(c, a, "the method", "", 0, &none) || !oct_tmpl_work(c, (uint64_t)s.len * 4))
        return false;
    for (uint32_t i = 0; all && i < s.len; i++) {
        const unsigned char ch = (unsigned char)s.u.s[i];
        const bool digit = ch >= '0' && ch <= '9';
        const bool letter = (ch | 32) >= 'a' && ((ch | 32) <= 'z' || ch >= 0x80);
        all = (digits && digit) || (letters && letter) ||
              (blanks && ch < 0x80 && oct_tmpl_is_space(ch));
    }
    *out = tmpl_bool(all);
    return true;
}
static bool m_isdigit(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return all_of(c, s, a, false, true, false, out);
}
static bool m_isalpha(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return all_of(c, s, a, true, false, false, out);
}
static bool m_isalnum(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return all_of(c, s, a, true, true, false, out);
}
static bool m_isspace(tmpl_ctx *c, tmpl_val s, const tmpl_args *a, tmpl_val *out) {
    return all_of(c, s, a, false, false, true, out);
}

const tmpl_filter oct_tmpl_str_methods[] = {
    {"split", m_split},
    {"rsplit", m_rsplit},
    {"splitlines", m_splitlines},
    {"strip", m_strip},
    {"lstrip", m_lstrip},
    {"rstrip", m_rstrip},
    {"startswith", m_startswith},
    {"endswith", m_endswith},
    {"replace", m_replace},
    {"upper", m_upper},
    {"lower", m_lower},
    {"title", m_title},
    {"capitalize", m_capitalize},
    {"find", m_find},
    {"rfind", m_rfind},
    {"index", m_index},
    {"count", m_count},
    {"format", oct_tmpl_format},
    {"join", m_join},
    {"removeprefix", m_removeprefix},
    {"isdigit", m_isdigit},
    {"removesuffix", m_removesuffix},
    {"isalpha", m_isalpha},
    {"isalnum", m_isalnum},
    {"isspace", m_isspace},
    {NULL, NULL},
};
