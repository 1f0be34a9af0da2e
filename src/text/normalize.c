/*
 * text/normalize.c - normal forms in linear time.
 *
 * Most text is in normal form already. Characters of the ranges below neither change nor combine
 * with what stands before them, so a stretch of them is copied, and only a stretch that holds
 * others, with the one character before it, is decomposed, ordered and composed.
 *
 * The order of marks is ours (a counting sort): the library's own exchanges neighbours, which is
 * quadratic in a run of marks of alternating classes, and such a run can be sent by anybody.
 */
#include "text/normalize.h"

#include <string.h>
#include <utf8proc.h>

#include "base/assert.h"
#include "base/checked.h"
#include "codec/utf8.h"
#include "text/unicode.h"

typedef struct points {
    const oct_allocator *mem;
    utf8proc_int32_t *at, *tmp; /* [cap] each */
    size_t len, cap;
} points;

/* Begins a stretch: starter, never the second half of a composition, unchanged by NFC. */
static bool is_safe(oct_norm_kind kind, uint32_t c) {
    if (c < 0x80) return true;
    if (kind != OCT_NORM_NFC) return false;
    return c < 0x300 || (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3) ||
           (c >= 0x400 && c <= 0x482) || (c >= 0x48A && c <= 0x52F) ||
           (c >= 0x2010 && c <= 0x2027) || (c >= 0x3041 && c <= 0x3096) ||
           (c >= 0x30A1 && c <= 0x30FA) || (c >= 0x3000 && c <= 0x3020) ||
           (c >= 0xFF01 && c <= 0xFF60) || (c >= 0x1F000 && c <= 0x1FAFF);
}

static bool points_room(points *p, size_t n) {
    if (n <= p->cap - p->len) return true;
    /* No sum here overflows: cap elements of four bytes lie in memory. */
    const size_t want = oct_max_size(p->len + n, oct_max_size(256, p->cap + p->cap / 2));
    utf8proc_int32_t *at = oct_grow(p->mem, p->at, p->cap, want, sizeof *at);
    if (!at) return false;
    p->at = at;
    oct_free(p->mem, p->tmp, p->cap, sizeof *p->tmp);
    p->cap = want;
    p->tmp = oct_alloc(p->mem, want, sizeof *p->tmp);
    return p->tmp != NULL;
}

static void points_fini(points *p) {
    oct_free(p->mem, p->at, p->cap, sizeof *p->at);
    oct_free(p->mem, p->tmp, p->cap, sizeof *p->tmp);
}

static bool decompose(points *p, oct_str s, int options) {
    const uint8_t *bytes = (const uint8_t *)s.ptr;
    unsigned n;
    for (size_t i = 0; i < s.len; i += n) {
        const uint32_t cp = oct_unicode_at(bytes, i, &n);
        int bound = 0;
        if (!points_room(p, 32)) return false; /* the longest decomposition has 18 */
        const utf8proc_ssize_t got =
            utf8proc_decompose_char((utf8proc_int32_t)cp, p->at + p->len,
                                    (utf8proc_ssize_t)(p->cap - p->len), options, &bound);
        OCT_ASSERT(got >= 0 && (size_t)got <= p->cap - p->len); /* cp is a scalar value */
        p->len += (size_t)got;
    }
    return true;
}

static unsigned mark_class(utf8proc_int32_t c) {
    return c < 0x300 ? 0 : (unsigned)utf8proc_get_property(c)->combining_class;
}

/* Stable, by combining class, of a run in which every class is above zero. */
static void order_run(utf8proc_int32_t *run, utf8proc_int32_t *tmp, size_t n) {
    size_t count[257] = {0};
    for (size_t i = 0; i < n; i++) count[mark_class(run[i]) + 1]++;
    for (size_t c = 1; c < 257; c++) count[c] += count[c - 1];
    for (size_t i = 0; i < n; i++) tmp[count[mark_class(run[i])]++] = run[i];
    memcpy(run, tmp, n * sizeof *run);
}

static void order_marks(points *p) {
    for (size_t i = 0; i < p->len;) {
        if (mark_class(p->at[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < p->len && mark_class(p->at[end]) != 0) end++;
        if (end - i > 1) order_run(p->at + i, p->tmp, end - i);
        i = end;
    }
}

static bool normal_stretch(points *p, oct_norm_kind kind, oct_str s, oct_buf *out) {
    const bool compat = kind == OCT_NORM_NFKC || kind == OCT_NORM_NFKD;
    const bool compose = kind == OCT_NORM_NFC || kind == OCT_NORM_NFKC;
    const int options =
        UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : UTF8PROC_STABLE);
    p->len = 0;
    if (!decompose(p, s, options)) return false;
    order_marks(p);
    if (compose) {
        const utf8proc_ssize_t n = utf8proc_normalize_utf32(p->at, (utf8proc_ssize_t)p->len,
                                                            UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        OCT_ASSERT(n >= 0); /* it refuses only options that contradict each other */
        p->len = (size_t)n;
    }
    for (size_t i = 0; i < p->len; i++) {
        char bytes[4];
        oct_buf_add(out, bytes, oct_utf8_encode((uint32_t)p->at[i], bytes));
    }
    return true;
}

static bool is_ascii(oct_str s) {
    size_t i = 0;
    for (; i + 8 <= s.len; i += 8) {
        uint64_t w;
        memcpy(&w, s.ptr + i, 8);
        if (w & UINT64_C(0x8080808080808080)) return false;
    }
    for (; i < s.len; i++)
        if ((uint8_t)s.ptr[i] & 0x80) return false;
    return true;
}

/* Appends to *out only when something had to be looked at closely; then *changed. */
static bool normal_form(oct_norm_kind kind, oct_str in, oct_buf *out, bool *changed) {
    const uint8_t *s = (const uint8_t *)in.ptr;
    points p = {.mem = out->mem};
    size_t copied = 0, safe = 0, i = 0;
    unsigned n;
    bool ok = true;
    *changed = false;
    while (ok && i < in.len) {
        if (is_safe(kind, oct_unicode_at(s, i, &n))) {
            safe = i;
            i += n;
            continue;
        }
        while (i < in.len && !is_safe(kind, oct_unicode_at(s, i, &n))) i += n;
        oct_buf_add(out, in.ptr + copied, safe - copied);
        ok = normal_stretch(&p, kind, (oct_str){in.ptr + safe, i - safe}, out);
        copied = safe = i;
        *changed = true;
    }
    if (ok && *changed) oct_buf_add(out, in.ptr + copied, in.len - copied);
    points_fini(&p);
    return ok && !out->failed;
}

/* The first pattern at from or later; NULL: none. One byte, the usual case, has its own way. */
static const char *find(oct_str in, size_t from, oct_str pattern) {
    if (in.len - from < pattern.len) return NULL;
    if (pattern.len == 1) return memchr(in.ptr + from, pattern.ptr[0], in.len - from);
    return memmem(in.ptr + from, in.len - from, pattern.ptr, pattern.len);
}

void oct_replace_all(oct_str in, oct_str pattern, oct_str content, oct_buf *out) {
    size_t from = 0;
    for (const char *hit; (hit = find(in, from, pattern)) != NULL;) {
        const size_t at = (size_t)(hit - in.ptr);
        oct_buf_add(out, in.ptr + from, at - from);
        oct_buf_str(out, content);
        from = at + pattern.len;
    }
    if (in.len > from) oct_buf_add(out, in.ptr + from, in.len - from);
}

static bool step_apply(const oct_norm_step *step, oct_str in, oct_buf *out, bool *changed) {
    *changed = true;
    switch (step->kind) {
    case OCT_NORM_PREPEND:
        oct_buf_str(out, step->content);
        oct_buf_str(out, in);
        return !out->failed;
    case OCT_NORM_REPLACE:
        *changed = find(in, 0, step->pattern) != NULL;
        if (*changed) oct_replace_all(in, step->pattern, step->content, out);
        return !out->failed;
    default:
        return normal_form(step->kind, in, out, changed);
    }
}

oct_status oct_normalize(const oct_norm_step *steps, size_t n, oct_str in,
                         oct_norm_scratch *scratch, oct_str *out, oct_err *err) {
    *out = in;
    if (in.len == 0) return OCT_OK;
    for (size_t i = 0; i < n; i++) {
        const bool form = steps[i].kind <= OCT_NORM_NFKD;
        if (form && is_ascii(*out)) continue;
        /* The buffer that *out does not point into. */
        oct_buf *to = out->ptr == scratch->a.data ? &scratch->b : &scratch->a;
        bool changed = false;
        oct_buf_clear(to);
        if (!step_apply(&steps[i], *out, to, &changed))
            return OCT_FAIL(err, OCT_E_NOMEM, "text: no memory to normalise %zu bytes", in.len);
        if (changed) *out = oct_buf_view(to);
    }
    return OCT_OK;
}
