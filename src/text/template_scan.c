/*
 * text/template_scan.c - questions that a template's syntax tree answers without rendering.
 *
 * The walks recurse; the depth of the tree is limited by the parser.
 */
#include "text/template_priv.h"

bool oct_tmpl_reads(const tmpl_node *n, const char *name) {
    if (!n) return false;
    if (n->kind == TMPL_N_NAME) return oct_str_is(n->name, name);
    uint32_t i = 0;
    if (n->kind == TMPL_N_SET || n->kind == TMPL_N_SETBLOCK || n->kind == TMPL_N_FOR)
        i = 1; /* a target is written, not read */
    for (; i < n->n; i++)
        if (oct_tmpl_reads(n->kids[i], name)) return true;
    return false;
}

/* ---- does the template loop over message content? ---- */

enum { MAX_ALIASES = 16 };

typedef struct content_scan {
    oct_str alias[MAX_ALIASES]; /* variables that were set to a message's content */
    uint32_t n;
} content_scan;

static bool is_content_step(const tmpl_node *step) {
    if (step->kind == TMPL_N_ATTR) return oct_str_is(step->name, "content");
    if (step->kind != TMPL_N_ITEM || step->kids[0]->kind != TMPL_N_LIT) return false;
    const tmpl_val key = step->kids[0]->lit;
    return key.kind == TMPL_STR && oct_str_is(tmpl_strv(key), "content");
}

/* message.content, message['content'], either behind filters, or a variable that holds it. */
static bool is_content(const content_scan *s, const tmpl_node *n) {
    if (n->kind == TMPL_N_NAME) {
        for (uint32_t i = 0; i < s->n; i++)
            if (oct_str_eq(s->alias[i], n->name)) return true;
        return false;
    }
    if (n->kind != TMPL_N_POSTFIX) return false;
    uint32_t last = n->n - 1;
    while (last > 0 && n->kids[last]->kind == TMPL_N_FILTER) last--;
    if (last == 0) return is_content(s, n->kids[0]);
    return is_content_step(n->kids[last]);
}

static bool loops_over_content(content_scan *s, const tmpl_node *n) {
    if (!n) return false;
    if (n->kind == TMPL_N_FOR && is_content(s, n->kids[1])) return true;
    if (n->kind == TMPL_N_SET && n->kids[0]->kind == TMPL_N_NAME && is_content(s, n->kids[1]) &&
        s->n < MAX_ALIASES)
        s->alias[s->n++] = n->kids[0]->name;
    for (uint32_t i = 0; i < n->n; i++)
        if (loops_over_content(s, n->kids[i])) return true;
    return false;
}

oct_template_content oct_tmpl_scan_content(const tmpl_node *root) {
    content_scan s = {.n = 0};
    return loops_over_content(&s, root) ? OCT_TEMPLATE_CONTENT_PARTS : OCT_TEMPLATE_CONTENT_STRING;
}

/* ---- does it insist on nine-character tool-call ids? ---- */

static bool mentions_id(const tmpl_node *n) {
    for (uint32_t i = 0; i < n->n; i++) {
        const tmpl_node *step = n->kids[i];
        if ((step->kind == TMPL_N_ATTR || step->kind == TMPL_N_NAME) &&
            (oct_str_is(step->name, "id") || oct_str_is(step->name, "tool_call_id")))
            return true;
        if (step->kind == TMPL_N_ITEM && step->kids[0]->kind == TMPL_N_LIT &&
            step->kids[0]->lit.kind == TMPL_STR &&
            (oct_str_is(tmpl_strv(step->kids[0]->lit), "id") ||
             oct_str_is(tmpl_strv(step->kids[0]->lit), "tool_call_id")))
            return true;
    }
    return false;
}

static bool is_length_of_id(const tmpl_node *n) {
    if (n->kind != TMPL_N_POSTFIX) return false;
    const tmpl_node *last = n->kids[n->n - 1];
    return last->kind == TMPL_N_FILTER &&
           (oct_str_is(last->name, "length") || oct_str_is(last->name, "count")) && mentions_id(n);
}

bool oct_tmpl_scan_short_ids(const tmpl_node *n) {
    if (!n) return false;
    if (n->kind == TMPL_N_CMP && n->n == 2 && is_length_of_id(n->kids[0]) &&
        n->kids[1]->kind == TMPL_N_LIT && n->kids[1]->lit.kind == TMPL_INT &&
        n->kids[1]->lit.u.i == 9)
        return true;
    for (uint32_t i = 0; i < n->n; i++)
        if (oct_tmpl_scan_short_ids(n->kids[i])) return true;
    return false;
}
