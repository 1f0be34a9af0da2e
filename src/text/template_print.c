/* text/template_print.c - values as text, the way Python's str() and repr() write them. */
#include "base/num.h"
#include "codec/utf8.h"
#include "text/template_priv.h"

#include <stdio.h>

static bool reserve(tmpl_text *t, size_t n) {
    if (t->failed) return false;
    if (n <= t->cap - t->len) return true;
    size_t cap = t->cap ? t->cap : 64;
    while (cap - t->len < n) cap *= 2;
    char *p = cap > UINT32_MAX / 2 ? (oct_tmpl_limit(t->c), NULL) : oct_tmpl_alloc(t->c, cap, 1);
    if (!p) return !(t->failed = true);
    if (t->len) memcpy(p, t->data, t->len);
    t->data = p;
    t->cap = cap;
    return true;
}

void oct_tmpl_text_add(tmpl_text *t, oct_str s) {
    if (!s.len || s.len > UINT32_MAX || !reserve(t, s.len)) return;
    memcpy(t->data + t->len, s.ptr, s.len);
    t->len += s.len;
}

void oct_tmpl_text_cstr(tmpl_text *t, const char *s) { oct_tmpl_text_add(t, oct_str_of(s)); }

void oct_tmpl_text_pad(tmpl_text *t, char ch, size_t n) {
    if (n > UINT32_MAX / 2) {
        if (!t->failed) oct_tmpl_limit(t->c);
        t->failed = true;
    }
    if (!n || !reserve(t, n)) return;
    memset(t->data + t->len, ch, n);
    t->len += n;
}

bool oct_tmpl_text_done(tmpl_text *t, tmpl_val *out) {
    if (t->failed || !oct_tmpl_work(t->c, t->len)) return false;
    *out = oct_tmpl_str((oct_str){t->data, t->len});
    return true;
}

/* ---- repr ---- */

/* ASCII that stands for itself between these quotes. */
static bool is_plain(char ch, char quote) {
    return ch >= ' ' && ch < 0x7F && ch != quote && ch != '\\';
}

static void repr_str(tmpl_text *t, oct_str s) {
    enum { PIECE = 256, LONGEST = sizeof "\\U0010ffff" };
    static const char controls[] = "\n\r\t", letters[] = "nrt";
    const bool single = s.len && memchr(s.ptr, '\'', s.len),
               twice = s.len && memchr(s.ptr, '"', s.len);
    const char quote = single && !twice ? '"' : '\'';
    char piece[PIECE]; /* goes to the text when it is nearly full */
    size_t n = 0, len = 1;
    piece[n++] = quote;
    for (size_t at = 0; at < s.len && !t->failed; at += len, len = 1) {
        const char ch = s.ptr[at], *control = memchr(controls, ch, 3);
        if (n > PIECE - LONGEST) {
            oct_tmpl_text_add(t, (oct_str){piece, n});
            n = 0;
        }
        if (is_plain(ch, quote)) {
            piece[n++] = ch;
        } else if (ch == quote || ch == '\\' || control) {
            piece[n++] = '\\';
            piece[n++] = control ? letters[control - controls] : ch;
        } else {
            uint32_t p;
            oct_utf8_next((oct_str){s.ptr + at, s.len - at}, &p, &len);
            if (p < 0x80 || !oct_tmpl_printable(p)) {
                n += (size_t)snprintf(piece + n, LONGEST,
                                      p < 0x100     ? "\\x%02x"
                                      : p < 0x10000 ? "\\u%04x"
                                                    : "\\U%08x",
                                      p);
            } else {
                memcpy(piece + n, s.ptr + at, len);
                n += len;
            }
        }
    }
    piece[n++] = quote;
    oct_tmpl_text_add(t, (oct_str){piece, n});
}

static void repr_seq(tmpl_text *t, const tmpl_list *l, bool tuple, uint32_t depth) {
    oct_tmpl_text_pad(t, tuple ? '(' : '[', 1);
    for (uint32_t i = 0; i < l->n && !t->failed; i++) {
        if (i) oct_tmpl_text_cstr(t, ", ");
        oct_tmpl_text_repr(t, l->at[i], depth + 1);
    }
    oct_tmpl_text_cstr(t, tuple ? (l->n == 1 ? ",)" : ")") : "]");
}

static void repr_dict(tmpl_text *t, const tmpl_dict *d, uint32_t depth) {
    oct_tmpl_text_pad(t, '{', 1);
    for (uint32_t i = 0; i < d->n && !t->failed; i++) {
        if (i) oct_tmpl_text_cstr(t, ", ");
        oct_tmpl_text_repr(t, d->keys[i], depth + 1);
        oct_tmpl_text_cstr(t, ": ");
        oct_tmpl_text_repr(t, d->vals[i], depth + 1);
    }
    oct_tmpl_text_pad(t, '}', 1);
}

static void number(tmpl_text *t, tmpl_val v) {
    char text[32];
    if (v.kind == TMPL_INT)
        snprintf(text, sizeof text, "%lld", (long long)v.u.i);
    else
        oct_format_f64(v.u.f, text);
    oct_tmpl_text_cstr(t, text);
}

/* Lists nest and, through append, may even hold themselves: depth ends it. */
void oct_tmpl_text_repr(tmpl_text *t, tmpl_val v, uint32_t depth) {
    if (t->failed) return;
    if (depth > OCT_TEMPLATE_MAX_NESTING || !oct_tmpl_deep(t->c)) {
        t->failed = !oct_tmpl_limit(t->c);
        return;
    }
    if (!oct_tmpl_step(t->c, 1)) {
        t->failed = true;
        return;
    }
    switch (v.kind) {
    case TMPL_UNDEF:
        oct_tmpl_text_cstr(t, "Undefined");
        break;
    case TMPL_NONE:
        oct_tmpl_text_cstr(t, "None");
        break;
    case TMPL_BOOL:
        oct_tmpl_text_cstr(t, v.u.b ? "True" : "False");
        break;
    case TMPL_INT:
    case TMPL_FLOAT:
        number(t, v);
        break;
    case TMPL_STR:
        repr_str(t, tmpl_strv(v));
        break;
    case TMPL_LIST:
        repr_seq(t, v.u.list, false, depth);
        break;
    case TMPL_TUPLE:
        repr_seq(t, v.u.list, true, depth);
        break;
    case TMPL_DICT:
        repr_dict(t, v.u.dict, depth);
        break;
    case TMPL_NS:
        oct_tmpl_text_cstr(t, "<Namespace ");
        repr_dict(t, v.u.dict, depth);
        oct_tmpl_text_cstr(t, ">");
        break;
    case TMPL_LOOP: {
        char text[64];
        snprintf(text, sizeof text, "<LoopContext %u/%u>", v.u.loop->index0 + 1, v.u.loop->n);
        oct_tmpl_text_cstr(t, text);
        break;
    }
    default:
        oct_tmpl_text_cstr(t, "<");
        oct_tmpl_text_cstr(t, oct_tmpl_type_name(v));
        oct_tmpl_text_cstr(t, ">");
    }
}

void oct_tmpl_text_str(tmpl_text *t, tmpl_val v) {
    if (v.kind == TMPL_STR)
        oct_tmpl_text_add(t, tmpl_strv(v));
    else if (v.kind != TMPL_UNDEF)
        oct_tmpl_text_repr(t, v, 0);
}

bool oct_tmpl_to_str(tmpl_ctx *c, tmpl_val v, tmpl_val *out) {
    if (v.kind == TMPL_STR) return (*out = v), true;
    tmpl_text t = {.c = c};
    oct_tmpl_text_str(&t, v);
    return oct_tmpl_text_done(&t, out);
}

bool oct_tmpl_escape(tmpl_ctx *c, tmpl_val v, tmpl_val *out) {
    if (v.kind == TMPL_STR && (v.flags & TMPL_SAFE)) return (*out = v), true;
    tmpl_val s;
    if (!oct_tmpl_to_str(c, v, &s)) return false;
    tmpl_text t = {.c = c};
    for (uint32_t i = 0, from = 0; i <= s.len; i++) {
        static const char marks[] = "&<>'\"";
        static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
        const char *mark = i < s.len && s.u.s[i] ? strchr(marks, s.u.s[i]) : NULL;
        if (!mark && i < s.len) continue;
        oct_tmpl_text_add(&t, (oct_str){s.u.s + from, i - from});
        if (mark) oct_tmpl_text_cstr(&t, names[mark - marks]);
        from = i + 1;
    }
    if (!oct_tmpl_text_done(&t, out)) return false;
    out->flags |= TMPL_SAFE;
    return true;
}
