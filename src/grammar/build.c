/* grammar/build.c - pieces of automata. */
#include "grammar/build.h"

#include <stdlib.h>
#include <string.h>

void oct_build_init(oct_build *b, const oct_allocator *mem) { *b = (oct_build){.mem = mem}; }

void oct_build_fini(oct_build *b) {
    oct_free(b->mem, b->edges, b->cap_edges, sizeof *b->edges);
    oct_free(b->mem, b->rules, b->cap_rules, sizeof *b->rules);
    b->edges = NULL;
    b->rules = NULL;
}

static bool grow(oct_build *b, void **data, size_t *cap, size_t want, size_t size) {
    if (want <= *cap) return true;
    size_t n = *cap ? *cap : 64;
    while (n < want) n *= 2; /* want is bounded by the limits: far from overflow */
    void *p = oct_grow(b->mem, *data, *cap, n, size);
    if (!p) {
        OCT_BUILD_FAIL(b, OCT_E_NOMEM, "no memory for a grammar");
        return false;
    }
    *data = p;
    *cap = n;
    return true;
}

/* ---- rules ---- */

uint32_t oct_build_rule(oct_build *b, oct_str name) {
    void *rules = b->rules;
    if (b->n_rules >= OCT_BUILD_MAX_RULES)
        OCT_BUILD_FAIL(b, OCT_E_INVALID, "too many rules (want at most %d)", OCT_BUILD_MAX_RULES);
    if (b->status != OCT_OK) return UINT32_MAX;
    const bool ok = grow(b, &rules, &b->cap_rules, b->n_rules + 1, sizeof *b->rules);
    b->rules = rules;
    if (!ok) return UINT32_MAX;
    oct_rule *r = &b->rules[b->n_rules];
    *r = (oct_rule){0};
    if (name.len > OCT_BUILD_MAX_NAME) name.len = OCT_BUILD_MAX_NAME;
    if (name.len > 0) memcpy(r->name, name.ptr, name.len);
    return (uint32_t)b->n_rules++;
}

void oct_build_define(oct_build *b, uint32_t rule, oct_piece body) {
    if (b->status != OCT_OK) return;
    b->rules[rule].from = body.from;
    b->rules[rule].to = body.to;
    b->rules[rule].defined = true;
}

/* ---- states and edges ---- */

oct_piece oct_build_mark(const oct_build *b) {
    return (oct_piece){.state0 = b->n_states, .edge0 = b->n_edges};
}

oct_piece oct_build_since(oct_piece mark, oct_piece p) {
    p.state0 = mark.state0;
    p.edge0 = mark.edge0;
    return p;
}

uint32_t oct_build_state(oct_build *b) {
    if (b->n_states >= OCT_BUILD_MAX_STATES)
        OCT_BUILD_FAIL(b, OCT_E_INVALID, "too large (want at most %d states)",
                       OCT_BUILD_MAX_STATES);
    if (b->status != OCT_OK) return 0;
    return b->n_states++;
}

void oct_build_edge(oct_build *b, uint32_t from, uint32_t to, oct_edge_kind kind, uint8_t lo,
                    uint8_t hi, uint32_t rule) {
    void *edges = b->edges;
    if (b->status != OCT_OK) return;
    const bool ok = grow(b, &edges, &b->cap_edges, b->n_edges + 1, sizeof *b->edges);
    b->edges = edges;
    if (!ok) return;
    b->edges[b->n_edges++] = (oct_edge){from, to, rule, (uint8_t)kind, lo, hi};
}

static void link_empty(oct_build *b, uint32_t from, uint32_t to) {
    oct_build_edge(b, from, to, OCT_EDGE_EMPTY, 0, 0, 0);
}

oct_piece oct_build_nothing(oct_build *b) {
    oct_piece p = oct_build_mark(b);
    p.from = oct_build_state(b);
    p.to = oct_build_state(b);
    return p;
}

oct_piece oct_build_empty(oct_build *b) {
    const oct_piece p = oct_build_nothing(b);
    link_empty(b, p.from, p.to);
    return p;
}

oct_piece oct_build_text(oct_build *b, oct_str text) {
    oct_piece p = oct_build_mark(b);
    p.from = p.to = oct_build_state(b);
    for (size_t i = 0; i < text.len && b->status == OCT_OK; i++) {
        const uint32_t next = oct_build_state(b);
        const uint8_t c = (uint8_t)text.ptr[i];
        oct_build_edge(b, p.to, next, OCT_EDGE_BYTES, c, c, 0);
        p.to = next;
    }
    return p;
}

oct_piece oct_build_range(oct_build *b, uint8_t lo, uint8_t hi) {
    const oct_piece p = oct_build_nothing(b);
    oct_build_edge(b, p.from, p.to, OCT_EDGE_BYTES, lo, hi, 0);
    return p;
}

oct_piece oct_build_call(oct_build *b, uint32_t rule) {
    const oct_piece p = oct_build_nothing(b);
    oct_build_edge(b, p.from, p.to, OCT_EDGE_CALL, 0, 0, rule);
    return p;
}

/* ---- characters ---- */

typedef struct byte_seq {
    uint32_t n;
    uint8_t lo[4], hi[4];
} byte_seq;

static uint32_t utf8_put(uint32_t c, uint8_t out[4]) {
    if (c < 0x80) return out[0] = (uint8_t)c, 1;
    if (c < 0x800) {
        out[0] = (uint8_t)(0xC0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xE0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

/* The largest c' in [c, hi] such that [c, c'] is one product of byte ranges. */
static uint32_t product_end(uint32_t c, uint32_t hi) {
    static const uint32_t last_of_length[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
    uint32_t n = 0;
    while (c > last_of_length[n]) n++;
    if (hi > last_of_length[n]) hi = last_of_length[n];
    for (uint32_t k = n; k > 0; k--) { /* k low bytes run over everything */
        const uint32_t low = (UINT32_C(1) << (6 * k)) - 1;
        if ((c & low) == 0 && (c | low) <= hi) {
            /* ... and the byte above them as far as it goes */
            const uint32_t above = k < n ? (UINT32_C(1) << (6 * (k + 1))) - 1 : 0x1FFFFF;
            uint32_t end = c | above;
            if (end > hi) end = ((hi + 1) & ~low) - 1;
            return end;
        }
    }
    if (n == 0) return hi;
    return (c | 0x3F) <= hi ? c | 0x3F : hi; /* only the last byte varies */
}

/* The states behind which so many continuation bytes follow, shared within one piece. */
typedef struct tails {
    uint32_t state[4];
    bool made[4];
} tails;

static uint32_t tail_state(oct_build *b, tails *t, uint32_t n, uint32_t to) {
    t->state[0] = to;
    for (uint32_t k = 1; k <= n; k++) {
        if (t->made[k]) continue;
        t->state[k] = oct_build_state(b);
        t->made[k] = true;
        oct_build_edge(b, t->state[k], t->state[k - 1], OCT_EDGE_BYTES, 0x80, 0xBF, 0);
    }
    return t->state[n];
}

static void add_seq(oct_build *b, tails *t, const byte_seq *s, uint32_t from, uint32_t to) {
    uint32_t n_full = 0, at = from;
    while (n_full + 1 < s->n && s->lo[s->n - 1 - n_full] == 0x80 &&
           s->hi[s->n - 1 - n_full] == 0xBF)
        n_full++;
    for (uint32_t i = 0; i < s->n - n_full; i++) {
        const bool last = i + 1 == s->n - n_full;
        const uint32_t next = last ? tail_state(b, t, n_full, to) : oct_build_state(b);
        oct_build_edge(b, at, next, OCT_EDGE_BYTES, s->lo[i], s->hi[i], 0);
        at = next;
    }
}

oct_piece oct_build_chars(oct_build *b, const oct_char_range *ranges, size_t n) {
    const oct_piece p = oct_build_nothing(b);
    tails t = {.made = {true}};
    for (size_t i = 0; i < n; i++) {
        uint32_t c = ranges[i].lo;
        while (c <= ranges[i].hi && c <= 0x10FFFF && b->status == OCT_OK) {
            if (c >= 0xD800 && c <= 0xDFFF) {
                c = 0xE000;
                continue;
            }
            const bool below = c < 0xD800 && ranges[i].hi >= 0xD800; /* surrogates are left out */
            const uint32_t end = product_end(c, below ? 0xD7FF : ranges[i].hi);
            byte_seq s = {0};
            s.n = utf8_put(c, s.lo);
            (void)utf8_put(end, s.hi);
            add_seq(b, &t, &s, p.from, p.to);
            c = end + 1;
        }
    }
    return p;
}

static int by_lo(const void *a, const void *b) {
    const oct_char_range *x = a, *y = b;
    if (x->lo != y->lo) return x->lo < y->lo ? -1 : 1;
    return (x->hi > y->hi) - (x->hi < y->hi);
}

size_t oct_char_ranges_merge(oct_char_range *ranges, size_t n) {
    if (n == 0) return 0;
    qsort(ranges, n, sizeof *ranges, by_lo);
    size_t k = 0;
    for (size_t i = 1; i < n; i++) {
        if (ranges[i].lo <= ranges[k].hi + 1) {
            if (ranges[i].hi > ranges[k].hi) ranges[k].hi = ranges[i].hi;
        } else {
            ranges[++k] = ranges[i];
        }
    }
    return k + 1;
}

size_t oct_char_ranges_invert(const oct_char_range *ranges, size_t n, oct_char_range *out) {
    uint32_t next = 0;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].lo > next) out[k++] = (oct_char_range){next, ranges[i].lo - 1};
        next = ranges[i].hi + 1;
    }
    if (next <= 0x10FFFF) out[k++] = (oct_char_range){next, 0x10FFFF};
    return k; /* surrogates are left out where it is spelled */
}

/* ---- putting together ---- */

oct_piece oct_build_cat(oct_build *b, oct_piece x, oct_piece y) {
    link_empty(b, x.to, y.from);
    x.to = y.to;
    return x;
}

oct_piece oct_build_or(oct_build *b, oct_piece x, oct_piece y) {
    oct_piece p = x;
    p.from = oct_build_state(b);
    p.to = oct_build_state(b);
    if (y.state0 < p.state0) p.state0 = y.state0;
    if (y.edge0 < p.edge0) p.edge0 = y.edge0;
    link_empty(b, p.from, x.from);
    link_empty(b, p.from, y.from);
    link_empty(b, x.to, p.to);
    link_empty(b, y.to, p.to);
    return p;
}

void oct_build_join(oct_build *b, oct_piece all, oct_piece x) {
    link_empty(b, all.from, x.from);
    link_empty(b, x.to, all.to);
}

/* A second x, made of the states [x.state0, n_states) and edges [x.edge0, n_edges). */
static oct_piece copy(oct_build *b, oct_piece x, uint32_t n_states, size_t n_edges) {
    oct_piece p = oct_build_mark(b);
    const uint32_t by = b->n_states - x.state0;
    const uint32_t n_more = n_states - x.state0;
    if (n_more > OCT_BUILD_MAX_STATES - b->n_states)
        OCT_BUILD_FAIL(b, OCT_E_INVALID,
                       "too large when its counts are written out (want at most %d states)",
                       OCT_BUILD_MAX_STATES);
    if (b->status != OCT_OK) return p;
    b->n_states += n_more;
    for (size_t i = x.edge0; i < n_edges && b->status == OCT_OK; i++) {
        const oct_edge e = b->edges[i];
        oct_build_edge(b, e.from + by, e.to + by, (oct_edge_kind)e.kind, e.lo, e.hi, e.rule);
    }
    p.from = x.from + by;
    p.to = x.to + by;
    return p;
}

oct_piece oct_build_repeat(oct_build *b, oct_piece x, uint32_t min, uint32_t max) {
    if (b->status != OCT_OK) return x;
    const uint32_t n_states = b->n_states;
    const size_t n_edges = b->n_edges;
    const bool open = max == OCT_BUILD_NO_LIMIT;
    const uint32_t n = open ? (min > 0 ? min : 1) : max; /* how often x is written */
    oct_piece p = x;
    if (max == 0) return oct_build_since(x, oct_build_empty(b));
    const uint64_t total = (uint64_t)(n_states - x.state0) * (n - 1) + b->n_states;
    if (total > OCT_BUILD_MAX_STATES) {
        OCT_BUILD_FAIL(b, OCT_E_INVALID,
                       "too large when its counts are written out (want at most %d states)",
                       OCT_BUILD_MAX_STATES);
        return x;
    }
    p.from = oct_build_state(b);
    p.to = oct_build_state(b);
    link_empty(b, p.from, x.from);
    if (min == 0) link_empty(b, p.from, p.to);
    oct_piece last = x;
    for (uint32_t i = 1; i < n && b->status == OCT_OK; i++) {
        if (i >= min) link_empty(b, last.to, p.to);
        const oct_piece next = copy(b, x, n_states, n_edges);
        link_empty(b, last.to, next.from);
        last = next;
    }
    link_empty(b, last.to, p.to);
    if (open) link_empty(b, last.to, last.from);
    return p;
}
