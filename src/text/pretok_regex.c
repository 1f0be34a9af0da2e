/*
 * text/pretok_regex.c - patterns that are not among the known ones, through PCRE2.
 *
 * The files are written for Oniguruma. What the two engines read differently, and what makes a
 * backtracking engine slow (references back, repeats of repeats, huge counts), is refused by name
 * before compiling. What is left runs under a budget of steps that grows with the text, so a
 * hostile model folder can make a request fail but not hang the server.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "text/pretok.h"

enum {
    MAX_GROUPS = 32,       /* nesting */
    MAX_COUNT = 1000,      /* in {n,m} */
    FIRST_LIMIT = 64,      /* match steps that are not charged */
    HEAP_LIMIT_KIB = 65536 /* for one match */
};

struct oct_regex {
    const oct_allocator *mem;
    pcre2_general_context *memory; /* mem, in the engine's words */
    pcre2_code *code;
};

struct oct_regex_match {
    const oct_allocator *mem;
    pcre2_match_data *data;
    pcre2_match_context *context;
    uint64_t deadline_ns;
};

/* ---- memory: the engine does not say how large a block is that it gives back ---- */

typedef union block_head {
    size_t bytes;
    max_align_t aligned;
} block_head;

static void *take(size_t bytes, void *ctx) {
    block_head *b = oct_alloc(ctx, 1, sizeof *b + bytes);
    if (!b) return NULL;
    b->bytes = bytes;
    return b + 1;
}

static void give(void *p, void *ctx) {
    if (!p) return;
    block_head *b = (block_head *)p - 1;
    oct_free(ctx, b, 1, sizeof *b + b->bytes);
}

/* ---- what is refused ---- */

static oct_status refuse(oct_err *err, const char *what, oct_str pattern) {
    return OCT_FAIL(err, OCT_E_UNSUPPORTED, "pre_tokenizer: pattern has %s (got %.*s)", what,
                    (int)(pattern.len < 128 ? pattern.len : 128), pattern.ptr);
}

/* The walk over a pattern: what the groups that are open hold. */
typedef struct walk {
    oct_str p;
    size_t i;
    int depth;
    bool repeats[MAX_GROUPS]; /* the group holds a quantifier */
} walk;

static bool more(const walk *w) { return w->i < w->p.len; }
static char look(const walk *w, size_t ahead) {
    return w->i + ahead < w->p.len ? w->p.ptr[w->i + ahead] : '\0';
}

static const char *check_escape(walk *w) {
    const char c = look(w, 1);
    if (c == '\0') return "a \\ at its end";
    if (c >= '1' && c <= '9') return "a back-reference";
    if (c == 'k' || c == 'g') return "a back-reference";
    if (strchr("hHKXRNCQEGzZyYoO", c)) return "an escape that engines read differently";
    w->i += 2;
    if ((c == 'p' || c == 'P' || c == 'x') && look(w, 0) == '{')
        while (more(w) && look(w, 0) != '}') w->i++;
    if (more(w) && look(w, 0) == '}') w->i++;
    return NULL;
}

static const char *check_class(walk *w) {
    w->i++;
    if (look(w, 0) == '^') w->i++;
    if (look(w, 0) == ']') return "a ] at the start of a class";
    while (more(w) && look(w, 0) != ']') {
        const char c = look(w, 0);
        if (c == '[') return "a class inside a class";
        if (c == '&' && look(w, 1) == '&') return "an intersection of classes";
        if (c == '\\') {
            const char *bad = check_escape(w);
            if (bad) return bad;
        } else {
            w->i++;
        }
    }
    if (!more(w)) return "an unterminated class";
    w->i++;
    return NULL;
}

static const char *check_group(walk *w) {
    if (++w->depth >= MAX_GROUPS) return "too many nested groups";
    w->repeats[w->depth] = false;
    w->i++;
    if (look(w, 0) == '*') return "a verb";
    if (look(w, 0) != '?') return NULL;
    w->i++;
    const char c = look(w, 0), d = look(w, 1);
    const bool ok = c == ':' || c == '=' || c == '!' || c == '>' ||
                    (c == '<' && (d == '=' || d == '!')) || (c == 'i' && d == ':');
    if (!ok) return "a group of an unknown kind";
    w->i += c == 'i' || (c == '<' && d) ? 2 : 1;
    return NULL;
}

/* Reads "{n}", "{n,}" or "{n,m}" at i. False: not a counted repeat. "{,m}" is one to some engines
 * and text to others. */
static bool read_count(walk *w, bool *many, const char **bad) {
    size_t k = 1;
    unsigned n[2] = {0, 0};
    bool comma = false, any = false, open_end = true;
    for (; look(w, k) && look(w, k) != '}'; k++) {
        const char c = look(w, k);
        if (c == ',' && !comma) {
            comma = true;
        } else if (c >= '0' && c <= '9') {
            unsigned *v = &n[comma];
            *v = *v * 10 + (unsigned)(c - '0');
            any = true;
            if (comma) open_end = false;
            if (*v > MAX_COUNT) *v = MAX_COUNT + 1;
        } else {
            return false;
        }
    }
    if (look(w, k) != '}' || !any) return false;
    if (n[0] > MAX_COUNT || n[1] > MAX_COUNT) *bad = "a repeat count above 1000";
    if (look(w, 1) == ',') *bad = "a repeat without a lower bound";
    *many = comma ? open_end || n[1] > 1 : n[0] > 1;
    w->i += k + 1;
    return true;
}

/* The quantifier behind an item, if any; inner: the item is a group that holds one. */
static const char *check_quantifier(walk *w, bool inner) {
    const char *bad = NULL;
    bool many = true, counted = false;
    const char c = look(w, 0);
    if (c == '{') {
        if (!read_count(w, &many, &bad)) return NULL;
        counted = true;
    } else if (c == '*' || c == '+' || c == '?') {
        many = c != '?';
        w->i++;
    } else {
        return NULL;
    }
    if (bad) return bad;
    if (many && inner) return "a nested quantifier";
    w->repeats[w->depth] = true;
    const char d = look(w, 0);
    if (d == '+' && counted) return "a counted repeat that is repeated";
    if (d == '?' || d == '+') w->i++;
    if (look(w, 0) == '*' || look(w, 0) == '+' || look(w, 0) == '?' || look(w, 0) == '{')
        return "a nested quantifier";
    return NULL;
}

/* What is wrong with the pattern, or NULL. */
static const char *check_pattern(oct_str pattern) {
    walk w = {.p = pattern};
    while (more(&w)) {
        const char c = look(&w, 0);
        const char *bad = NULL;
        bool inner = false;
        switch (c) {
        case '\\':
            bad = check_escape(&w);
            break;
        case '[':
            bad = check_class(&w);
            break;
        case '(':
            bad = check_group(&w);
            break;
        case ')':
            if (w.depth == 0) return "an unmatched )";
            inner = w.repeats[w.depth--];
            if (inner) w.repeats[w.depth] = true;
            w.i++;
            break;
        default:
            w.i++;
            break;
        }
        if (bad) return bad;
        if (c == '(' || c == '|') continue;
        bad = check_quantifier(&w, inner);
        if (bad) return bad;
    }
    return w.depth ? "an unmatched (" : NULL;
}

/* ---- compiling ---- */

static oct_status no_memory(oct_err *err) {
    return OCT_FAIL(err, OCT_E_NOMEM, "pre_tokenizer: no memory for a pattern");
}

static oct_status compile(oct_str pattern, pcre2_general_context *memory, pcre2_code **out,
                          oct_err *err) {
    pcre2_compile_context *cc = pcre2_compile_context_create(memory);
    if (!cc) return no_memory(err);
    (void)pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    (void)pcre2_set_parens_nest_limit(cc, MAX_GROUPS);
    int code = 0;
    PCRE2_SIZE at = 0;
    *out = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code,
                         &at, cc);
    pcre2_compile_context_free(cc);
    if (*out) return OCT_OK;
    if (code == PCRE2_ERROR_HEAP_FAILED) return no_memory(err);
    char why[128] = "";
    (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return OCT_FAIL(err, OCT_E_UNSUPPORTED, "pre_tokenizer: pattern is invalid (%s at byte %zu)",
                    why, (size_t)at);
}

static oct_status create(oct_regex *re, oct_str pattern, oct_err *err) {
    re->memory = pcre2_general_context_create(take, give, (void *)(uintptr_t)re->mem);
    if (!re->memory) return no_memory(err);
    OCT_TRY(compile(pattern, re->memory, &re->code, err));
    uint32_t empty = 0;
    (void)pcre2_pattern_info(re->code, PCRE2_INFO_MATCHEMPTY, &empty);
    return empty ? refuse(err, "a match of nothing", pattern) : OCT_OK;
}

oct_status oct_regex_create(const oct_allocator *mem, oct_str pattern, oct_regex **out,
                            oct_err *err) {
    *out = NULL;
    const char *bad = check_pattern(pattern);
    if (bad) return refuse(err, bad, pattern);
    oct_regex *re = oct_calloc(mem, 1, sizeof *re);
    if (!re) return no_memory(err);
    re->mem = mem;
    const oct_status st = create(re, pattern, err);
    if (st == OCT_OK)
        *out = re;
    else
        oct_regex_destroy(re);
    return st;
}

void oct_regex_destroy(oct_regex *re) {
    if (!re) return;
    pcre2_code_free(re->code);
    pcre2_general_context_free(re->memory);
    oct_free(re->mem, re, 1, sizeof *re);
}

/* ---- matching ---- */

oct_status oct_regex_match_create(const oct_regex *re, size_t text_len, oct_regex_match **out,
                                  oct_err *err) {
    *out = NULL;
    oct_regex_match *m = oct_calloc(re->mem, 1, sizeof *m);
    if (m) {
        m->mem = re->mem;
        m->data = pcre2_match_data_create(1, re->memory);
        m->context = pcre2_match_context_create(re->memory);
    }
    if (!m || !m->data || !m->context) {
        oct_regex_match_destroy(m);
        return OCT_FAIL(err, OCT_E_NOMEM, "pre_tokenizer: no memory to match a pattern");
    }
    (void)pcre2_set_heap_limit(m->context, HEAP_LIMIT_KIB);
    m->deadline_ns = oct_now_ns() + UINT64_C(3000000000) + (uint64_t)text_len * 1000;
    *out = m;
    return OCT_OK;
}

void oct_regex_match_destroy(oct_regex_match *m) {
    if (!m) return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    oct_free(m->mem, m, 1, sizeof *m);
}

static oct_status over(oct_err *err) {
    return OCT_FAIL(err, OCT_E_FULL, "pre_tokenizer: the model's pattern takes too long here");
}

oct_status oct_regex_find(const oct_regex *re, oct_regex_match *m, oct_str s, size_t pos,
                          uint64_t *budget, bool *hit, size_t *from, size_t *to, oct_err *err) {
    /* The limit doubles from a small one, so that each match is charged about what it used. The
     * clock is the backstop for what steps do not count, scans over a long text in one step; as it
     * is asked between the attempts, time can pass by at most about as much again. */
    uint32_t limit = FIRST_LIMIT;
    *hit = false;
    *from = *to = 0;
    for (;;) {
        if (oct_now_ns() > m->deadline_ns) return over(err);
        (void)pcre2_set_match_limit(m->context, limit);
        const int rc = pcre2_match(re->code, (PCRE2_SPTR)s.ptr, s.len, pos, PCRE2_NO_UTF_CHECK,
                                   m->data, m->context);
        if (rc == PCRE2_ERROR_MATCHLIMIT) {
            if (*budget < limit || limit > UINT32_MAX / 2) return over(err);
            *budget -= limit;
            limit *= 2;
            continue;
        }
        if (rc == PCRE2_ERROR_NOMATCH) return OCT_OK;
        if (rc == PCRE2_ERROR_NOMEMORY)
            return OCT_FAIL(err, OCT_E_NOMEM, "pre_tokenizer: no memory to match a pattern");
        if (rc < 0) return over(err);
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m->data);
        if (v[1] <= v[0] || v[0] < pos) return over(err); /* only look-arounds give that */
        *hit = true;
        *from = v[0];
        *to = v[1];
        return OCT_OK;
    }
}
