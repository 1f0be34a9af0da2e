/* store/scheme_match.c - see scheme_match.h. */
#include "store/scheme_match.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "codec/json.h"

enum {
    MAX_PATTERNS = 4096, /* of a list; exact names are not counted */
    MAX_LENGTH = 1024,
    MAX_GROUPS = 32,
    FIRST_STEPS = 128, /* of one match, free */
    LAST_STEPS = 1 << 20,
    HEAP_KIB = 4096,
};
static const uint64_t budget_steps = UINT64_C(100000000); /* of a list, beyond the free ones */

typedef struct name_pattern {
    const char *text;
    pcre2_code *code; /* NULL: a wildcard, or a part of a name */
    bool part;
} name_pattern;

struct oct_name_list {
    const oct_allocator *mem;
    const char *where;
    const char **exact; /* [cap], sorted */
    name_pattern *patterns;
    size_t cap, n_exact, n_patterns;
    pcre2_match_data *data;
    pcre2_match_context *context;
    uint64_t steps;
};

/* ---- wildcards ------------------------------------------------------------------------------- */

/* One [...] of the pattern against a character. *end is behind it, or NULL when it is no class. */
static bool class_matches(const char *p, unsigned char c, const char **end) {
    const bool no = p[1] == '!';
    const char *at = p + 1 + no, *from = at;
    bool hit = false;
    for (; *at && (*at != ']' || at == from); at++) {
        const unsigned char lo = (unsigned char)at[0];
        unsigned char hi = lo;
        if (at[1] == '-' && at[2] && at[2] != ']') {
            hi = (unsigned char)at[2];
            at += 2;
        }
        hit |= c >= lo && c <= hi;
    }
    *end = *at ? at + 1 : NULL;
    return hit != no;
}

/* One item of the pattern, not a star, against a character. *next is behind the item. */
static bool item_matches(const char *p, unsigned char c, const char **next) {
    *next = p + 1;
    if (*p == '?') return true;
    if (*p == '[') {
        const char *end;
        const bool hit = class_matches(p, c, &end);
        if (end) {
            *next = end;
            return hit;
        }
    }
    return (unsigned char)*p == c;
}

/* Only the last star is ever tried again: what the earlier ones took cannot matter any more. */
bool oct_glob_matches(const char *pattern, const char *name) {
    const char *p = pattern, *s = name, *star = NULL, *retry = NULL;
    while (*s) {
        const char *next;
        if (*p == '*') {
            star = ++p;
            retry = s;
        } else if (*p && item_matches(p, (unsigned char)*s, &next)) {
            p = next;
            s++;
        } else if (star) {
            p = star;
            s = ++retry;
        } else {
            return false;
        }
    }
    while (*p == '*') p++;
    return *p == '\0';
}

/* Whether part stands in name between dots or ends: "gate" in "mlp.gate", not in "mlp.gate_proj".
 */
static bool part_matches(const char *part, const char *name) {
    const size_t n = strlen(part);
    if (n == 0) return false;
    for (const char *at = name; (at = strstr(at, part)); at++)
        if ((at == name || at[-1] == '.') && (at[n] == '\0' || at[n] == '.')) return true;
    return false;
}

/* ---- Python's patterns ----------------------------------------------------------------------- */

/* What PCRE2 would read differently or Python does not have, or NULL. */
static const char *not_python(const char *p) {
    static const char *const groups[] = {
        ":", "=", "!", "<=", "<!", "P<", "P=", "i:", "#", "i)", "s)", "m)", "x)", "a)"};
    for (; *p; p++) {
        if (p[0] == '\\') {
            if (!p[1]) return "a \\ at its end";
            if (strchr("QEKRXNhHGgkClLuUoVzpPyY", p[1])) return "an escape that is not Python's";
            p++;
        } else if (p[0] == '(' && p[1] == '*') {
            return "a verb";
        } else if (p[0] == '(' && p[1] == '?') {
            bool known = false;
            for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
                known |= strncmp(p + 2, groups[i], strlen(groups[i])) == 0;
            if (!known) return "a group of an unknown kind";
        } else if (p[0] == '[' && (p[1] == ':' || p[1] == '[')) {
            return "a class inside a class";
        }
    }
    return NULL;
}

static oct_status refuse_pattern(const oct_name_list *l, const char *text, const char *why,
                                 oct_err *err) {
    return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: pattern \"%.128s\" %s", l->where, text, why);
}

static oct_status no_memory(const oct_name_list *l, oct_err *err) {
    return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory for a pattern", l->where);
}

static oct_status compile(const oct_name_list *l, const char *text, pcre2_code **out,
                          oct_err *err) {
    const char *pattern = text + 3; /* behind "re:" */
    char why[160];
    int code = 0;
    PCRE2_SIZE at = 0;
    *out = NULL;
    const char *bad = not_python(pattern);
    if (bad) {
        snprintf(why, sizeof why, "has %s", bad);
        return refuse_pattern(l, text, why, err);
    }
    pcre2_compile_context *cc = pcre2_compile_context_create(NULL);
    if (!cc) return no_memory(l, err);
    (void)pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    (void)pcre2_set_parens_nest_limit(cc, MAX_GROUPS);
    *out = pcre2_compile((PCRE2_SPTR)pattern, strlen(pattern),
                         PCRE2_ANCHORED | PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (*out) return OCT_OK;
    if (code == PCRE2_ERROR_HEAP_FAILED) return no_memory(l, err);
    char said[96] = "";
    (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)said, sizeof said);
    snprintf(why, sizeof why, "is invalid (%s at byte %zu)", said, (size_t)at);
    return refuse_pattern(l, text, why, err);
}

/* The limit of steps doubles from a small one, so that each match is charged about what it used. */
static oct_status run(oct_name_list *l, const name_pattern *p, const char *name, bool *hit,
                      oct_err *err) {
    for (uint32_t steps = FIRST_STEPS;; steps *= 2) {
        (void)pcre2_set_match_limit(l->context, steps);
        const int rc = pcre2_match(p->code, (PCRE2_SPTR)name, strlen(name), 0, PCRE2_NO_UTF_CHECK,
                                   l->data, l->context);
        *hit = rc >= 0;
        if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return OCT_OK;
        if (rc == PCRE2_ERROR_NOMEMORY) return no_memory(l, err);
        l->steps += steps;
        if (rc != PCRE2_ERROR_MATCHLIMIT || steps >= LAST_STEPS || l->steps > budget_steps)
            return refuse_pattern(l, p->text, "takes too many steps", err);
    }
}

/* ---- lists ----------------------------------------------------------------------------------- */

static int by_text(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static oct_status add(oct_name_list *l, const char *text, unsigned dialect, oct_err *err) {
    const bool re = (dialect & OCT_NAMES_RE) && strncmp(text, "re:", 3) == 0;
    const bool glob = (dialect & OCT_NAMES_GLOB) && strpbrk(text, "*?[");
    const bool part = (dialect & OCT_NAMES_PART) && !re && !glob;
    if (!re) l->exact[l->n_exact++] = text;
    if (!re && !glob && !part) return OCT_OK;
    if (strlen(text) > MAX_LENGTH) return refuse_pattern(l, text, "is too long", err);
    if (l->n_patterns == MAX_PATTERNS)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: more than %d patterns", l->where,
                        MAX_PATTERNS);
    name_pattern *p = &l->patterns[l->n_patterns++];
    *p = (name_pattern){.text = text, .part = part};
    return re ? compile(l, text, &p->code, err) : OCT_OK;
}

static oct_status fill(oct_name_list *l, const json_t *list, unsigned dialect, oct_err *err) {
    l->exact = oct_calloc(l->mem, l->cap, sizeof *l->exact);
    l->patterns = oct_calloc(l->mem, l->cap, sizeof *l->patterns);
    l->data = pcre2_match_data_create(1, NULL);
    l->context = pcre2_match_context_create(NULL);
    if (!l->exact || !l->patterns || !l->data || !l->context)
        return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", l->where);
    (void)pcre2_set_heap_limit(l->context, HEAP_KIB);
    for (size_t i = 0; i < l->cap; i++) {
        const json_t *v = json_array_get(list, i);
        char shown[OCT_JSON_SHOWN];
        if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: entry %zu is no name (got %s)", l->where, i,
                            oct_json_show(v, shown));
        OCT_TRY(add(l, json_string_value(v), dialect, err));
    }
    if (l->n_exact > 1) qsort(l->exact, l->n_exact, sizeof *l->exact, by_text);
    return OCT_OK;
}

oct_status oct_name_list_create(const oct_allocator *mem, const json_t *list, unsigned dialect,
                                const char *where, oct_name_list **out, oct_err *err) {
    char shown[OCT_JSON_SHOWN];
    *out = NULL;
    if (list && !json_is_null(list) && !json_is_array(list))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: not a list (got %s)", where,
                        oct_json_show(list, shown));
    oct_name_list *l = oct_calloc(mem, 1, sizeof *l);
    if (!l) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", where);
    *l = (oct_name_list){.mem = mem, .where = where, .cap = json_array_size(list)};
    const oct_status st = fill(l, list, dialect, err);
    if (st == OCT_OK)
        *out = l;
    else
        oct_name_list_destroy(l);
    return st;
}

void oct_name_list_destroy(oct_name_list *l) {
    if (!l) return;
    for (size_t i = 0; i < l->n_patterns; i++) pcre2_code_free(l->patterns[i].code);
    pcre2_match_data_free(l->data);
    pcre2_match_context_free(l->context);
    oct_free(l->mem, l->exact, l->cap, sizeof *l->exact);
    oct_free(l->mem, l->patterns, l->cap, sizeof *l->patterns);
    oct_free(l->mem, l, 1, sizeof *l);
}

static bool has_exact(const oct_name_list *l, const char *name) {
    return l->n_exact && bsearch(&name, l->exact, l->n_exact, sizeof *l->exact, by_text);
}

static oct_status matches(oct_name_list *l, const name_pattern *p, const char *name, bool *hit,
                          oct_err *err) {
    if (p->code) return run(l, p, name, hit, err);
    *hit = p->part ? part_matches(p->text, name) : oct_glob_matches(p->text, name);
    return OCT_OK;
}

oct_status oct_name_list_has(oct_name_list *l, const char *name, bool *hit, oct_err *err) {
    *hit = has_exact(l, name);
    for (size_t i = 0; !*hit && i < l->n_patterns; i++)
        OCT_TRY(matches(l, &l->patterns[i], name, hit, err));
    return OCT_OK;
}

oct_status oct_name_list_has_word(oct_name_list *l, const char *name, const char *word, bool *hit,
                                  oct_err *err) {
    *hit = has_exact(l, name);
    for (size_t i = 0; !*hit && i < l->n_patterns; i++)
        if (strstr(l->patterns[i].text, word)) OCT_TRY(matches(l, &l->patterns[i], name, hit, err));
    return OCT_OK;
}

bool oct_name_list_spells(const oct_name_list *l, const char *name) {
    for (size_t i = 0; i < l->n_exact; i++)
        if (strcasecmp(l->exact[i], name) == 0) return true;
    return false;
}
