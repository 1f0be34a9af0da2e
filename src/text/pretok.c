/*
 * text/pretok.c - the walk over stages, with an explicit stack: level k cuts what level k - 1 gave.
 * Nothing is stored but one position a level, so the number of pieces does not matter.
 */
#include "text/pretok.h"

#include <string.h>

#include "base/assert.h"
#include "text/unicode.h"

oct_status oct_pretok_add_scan(oct_pretok *p, oct_scan_fn scan, oct_str pattern, oct_err *err) {
    if (p->n_stages == OCT_PRETOK_MAX_STAGES)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "pre_tokenizer: more than %d stages",
                        OCT_PRETOK_MAX_STAGES);
    p->stages[p->n_stages++] = (oct_pretok_stage){.scan = scan, .pattern = pattern};
    return OCT_OK;
}

oct_status oct_pretok_add_pattern(oct_pretok *p, oct_arena *arena, oct_str pattern, oct_err *err) {
    if (pattern.len > OCT_PATTERN_MAX_BYTES)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "pre_tokenizer: pattern is too long (got %zu bytes, want at most %d)",
                        pattern.len, OCT_PATTERN_MAX_BYTES);
    const char *copy = oct_arena_strndup(arena, pattern.ptr, pattern.len);
    if (!copy) return OCT_FAIL(err, OCT_E_NOMEM, "pre_tokenizer: no memory for a pattern");
    const oct_str kept = {copy, pattern.len};
    const oct_scan_fn scan = oct_scan_find(pattern);
    OCT_TRY(oct_pretok_add_scan(p, scan, kept, err));
    if (scan) return OCT_OK;
    const oct_status st =
        oct_regex_create(arena->mem, kept, &p->stages[p->n_stages - 1].regex, err);
    if (st != OCT_OK) p->n_stages--;
    return st;
}

void oct_pretok_fini(oct_pretok *p) {
    for (uint32_t i = 0; i < p->n_stages; i++) oct_regex_destroy(p->stages[i].regex);
    p->n_stages = 0;
}

void oct_pretok_begin(oct_pretok_cursor *c, const oct_pretok *p, oct_str text) {
    c->pretok = p;
    c->s = (const uint8_t *)text.ptr;
    c->len = text.len;
    c->done = 0;
    c->level = 0;
    /* A few steps for every byte, and enough for a pattern that is slow on a short text. */
    c->budget = (uint64_t)text.len * 64 + 1000000;
    c->match = NULL;
    c->levels[0] = (oct_pretok_level){.end = text.len};
}

void oct_pretok_end(oct_pretok_cursor *c) { oct_regex_match_destroy(c->match); }

/* The end of the piece that begins at l->pos: a match, or the gap up to the next one. */
static size_t cut_scan(oct_scan_fn scan, const uint8_t *s, const oct_pretok_level *l) {
    size_t i = l->pos;
    unsigned n;
    const size_t match = scan(s, i, l->end);
    if (match > i) return match;
    do {
        (void)oct_unicode_at(s, i, &n);
        i += n;
    } while (i < l->end && scan(s, i, l->end) == i);
    return i;
}

static oct_status cut_regex(oct_pretok_cursor *c, const oct_regex *re, oct_pretok_level *l,
                            size_t *to, oct_err *err) {
    const size_t base = l->begin;
    if (!l->hit) {
        if (!c->match) OCT_TRY(oct_regex_match_create(re, c->len, &c->match, err));
        const oct_str piece = {(const char *)c->s + base, l->end - base};
        OCT_TRY(oct_regex_find(re, c->match, piece, l->pos - base, &c->budget, &l->hit,
                               &l->hit_from, &l->hit_to, err));
        l->hit_from += base;
        l->hit_to += base;
    }
    *to = !l->hit ? l->end : l->pos < l->hit_from ? l->hit_from : l->hit_to;
    if (l->hit && *to == l->hit_to) l->hit = false;
    return OCT_OK;
}

oct_status oct_pretok_next(oct_pretok_cursor *c, oct_str *piece, bool *more, oct_err *err) {
    const oct_pretok *p = c->pretok;
    *more = c->done < c->len;
    if (!*more) return OCT_OK;
    if (p->n_stages == 0) {
        *piece = (oct_str){(const char *)c->s, c->len};
        c->done = c->len;
        return OCT_OK;
    }
    for (;;) {
        oct_pretok_level *l = &c->levels[c->level];
        if (l->pos == l->end) { /* never at level 0, because done < len */
            OCT_ASSERT(c->level > 0);
            c->level--;
            continue;
        }
        const oct_pretok_stage *stage = &p->stages[c->level];
        const size_t from = l->pos;
        size_t to = 0;
        if (stage->scan) {
            to = cut_scan(stage->scan, c->s, l);
        } else {
            OCT_TRY(cut_regex(c, stage->regex, l, &to, err));
        }
        OCT_ASSERT(to > from);
        OCT_ASSERT(to <= l->end);
        l->pos = to;
        if (c->level + 1 == p->n_stages) {
            *piece = (oct_str){(const char *)c->s + from, to - from};
            c->done = to;
            return OCT_OK;
        }
        c->levels[++c->level] = (oct_pretok_level){.begin = from, .pos = from, .end = to};
    }
}
