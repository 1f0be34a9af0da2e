/*
 * text/template_parse.c - statements of a template to a tree.
 *
 * A body ends at a tag that its opener waits for ("endif", "elif", ...); the body leaves that
 * word as the current token. Depth of bodies counts into the same limit as that of brackets.
 */
#include <stdarg.h>
#include <stdio.h>

#include "text/template_priv.h"

static const oct_str no_name;

static tmpl_node *parse_body(tmpl_compiler *k, uint32_t line, const char *ends);

static bool add(tmpl_compiler *k, tmpl_node *n, tmpl_node *kid) {
    return kid && oct_tmpl_node_add(k, n, kid, 0, no_name);
}

static bool add_null(tmpl_compiler *k, tmpl_node *n) {
    return oct_tmpl_node_add(k, n, NULL, 0, no_name);
}

void *oct_tmpl_syntax(tmpl_compiler *k, uint32_t line, const char *fmt, ...) {
    char text[OCT_ERR_TEXT / 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (k->status == OCT_OK)
        k->status = OCT_FAIL(k->err, OCT_E_INVALID, "template line %u: %s", line, text);
    return NULL;
}

void *oct_tmpl_compile_alloc(tmpl_compiler *k, size_t n, size_t size) {
    void *p = oct_arena_alloc(k->arena, n, size);
    if (!p && k->status == OCT_OK)
        k->status = OCT_FAIL(k->err, OCT_E_NOMEM, "template: no memory for the syntax tree");
    return p;
}

static uint32_t line_of(const tmpl_compiler *k) { return k->toks[k->at].line; }

static bool expect_end(tmpl_compiler *k) {
    if (k->toks[k->at].kind != TMPL_TOK_BLOCK_END)
        return oct_tmpl_unexpected(k, "the end of the tag") != NULL;
    k->at++;
    return true;
}

static const tmpl_tok *expect_name(tmpl_compiler *k) {
    const tmpl_tok *t = &k->toks[k->at];
    if (t->kind != TMPL_TOK_NAME) return oct_tmpl_unexpected(k, "a name");
    k->at++;
    return t;
}

/* A body up to one of the words in ends ("elif else endif"); the word is then current. */
static tmpl_node *block_body(tmpl_compiler *k, const char *ends) {
    const uint32_t line = line_of(k);
    oct_tmpl_skip_op(k, ':');
    if (!expect_end(k) || !oct_tmpl_enter(k)) return NULL;
    tmpl_node *body = parse_body(k, line, ends);
    k->nesting--;
    return body;
}

/* The same up to one word, which is consumed. */
static tmpl_node *last_body(tmpl_compiler *k, const char *end) {
    tmpl_node *body = block_body(k, end);
    if (body) k->at++;
    return body;
}

/* The body of a block with a scope of its own: it is no branch, even inside one. */
static tmpl_node *scope_body(tmpl_compiler *k, const char *end) {
    const bool soft = k->soft;
    k->soft = false;
    tmpl_node *body = last_body(k, end);
    k->soft = soft;
    return body;
}

/* ---- targets ---- */

static bool reserved(oct_str name) {
    static const char *const words[] = {"true", "True", "false", "False", "none", "None"};
    for (size_t i = 0; i < OCT_COUNT(words); i++)
        if (oct_str_is(name, words[i])) return true;
    return false;
}

static tmpl_node *parse_target_one(tmpl_compiler *k, bool with_ns) {
    const tmpl_tok *t = expect_name(k);
    if (!t) return NULL;
    if (reserved(t->text)) return oct_tmpl_syntax(k, t->line, "a constant cannot be set");
    const bool ns = with_ns && oct_tmpl_skip_op(k, '.');
    tmpl_node *n = oct_tmpl_node(k, ns ? TMPL_N_NSREF : TMPL_N_NAME, t->line);
    if (!n) return NULL;
    n->name = t->text;
    if (!ns) return n;
    const tmpl_tok *attr = expect_name(k);
    return attr && oct_tmpl_node_add(k, n, NULL, 0, attr->text) ? n : NULL;
}

static tmpl_node *parse_target(tmpl_compiler *k, bool with_ns);

static tmpl_node *parse_target_part(tmpl_compiler *k, bool with_ns) {
    if (!oct_tmpl_skip_op(k, '(')) return parse_target_one(k, with_ns);
    if (!oct_tmpl_enter(k)) return NULL;
    tmpl_node *n = parse_target(k, with_ns);
    k->nesting--;
    return n && oct_tmpl_expect_op(k, ')') ? n : NULL;
}

/* a | a, b | (a, b) | ns.a */
static tmpl_node *parse_target(tmpl_compiler *k, bool with_ns) {
    tmpl_node *first = parse_target_part(k, with_ns);
    if (!first || !oct_tmpl_is_op(k, ',')) return first;
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_TUPLE, first->line);
    if (!n || !add(k, n, first)) return NULL;
    while (oct_tmpl_skip_op(k, ',')) {
        if (k->toks[k->at].kind != TMPL_TOK_NAME && !oct_tmpl_is_op(k, '(')) break;
        if (oct_tmpl_is_name(k, "in")) break;
        if (!add(k, n, parse_target_part(k, with_ns))) return NULL;
    }
    return n;
}

/* ---- statements ---- */

static tmpl_node *parse_for(tmpl_compiler *k) {
    const bool soft = k->soft;
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_FOR, line_of(k));
    if (!n || !add(k, n, parse_target(k, false))) return NULL;
    if (!oct_tmpl_skip_name(k, "in")) return oct_tmpl_unexpected(k, "'in'");
    if (!add(k, n, oct_tmpl_parse_tuple(k, false, false))) return NULL;
    k->soft = false;
    const bool filtered = oct_tmpl_skip_name(k, "if");
    if (!(filtered ? add(k, n, oct_tmpl_parse_expr(k, true)) : add_null(k, n))) return NULL;
    if (oct_tmpl_is_name(k, "recursive"))
        return oct_tmpl_syntax(k, line_of(k), "recursive loops are not supported");

    k->loops++;
    tmpl_node *body = block_body(k, "endfor else");
    k->loops--;
    if (!body || !add(k, n, body)) return NULL;
    const bool more = oct_tmpl_is_name(k, "else");
    k->at++;
    if (!(more ? add(k, n, last_body(k, "endfor")) : add_null(k, n))) return NULL;
    n->flag = oct_tmpl_reads(body, "loop");
    k->soft = soft;
    return n;
}

static tmpl_node *parse_if(tmpl_compiler *k) {
    const bool soft = k->soft;
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_IF, line_of(k));
    k->soft = true;
    for (bool more = n != NULL; more;) {
        if (!add(k, n, oct_tmpl_parse_tuple(k, false, false)) ||
            !add(k, n, block_body(k, "elif else endif")))
            return NULL;
        more = oct_tmpl_is_name(k, "elif");
        const bool last = oct_tmpl_is_name(k, "else");
        k->at++;
        if (last && !add(k, n, last_body(k, "endif"))) return NULL;
    }
    k->soft = soft;
    return n;
}

static tmpl_node *parse_set(tmpl_compiler *k) {
    const uint32_t line = line_of(k);
    tmpl_node *target = parse_target(k, true);
    if (!target) return NULL;
    const bool plain = oct_tmpl_skip_op(k, '=');
    tmpl_node *n = oct_tmpl_node(k, plain ? TMPL_N_SET : TMPL_N_SETBLOCK, line);
    if (!n || !add(k, n, target)) return NULL;
    if (plain) return add(k, n, oct_tmpl_parse_tuple(k, true, false)) ? n : NULL;
    if (!add(k, n, oct_tmpl_parse_filters(k, true)) || !add(k, n, scope_body(k, "endset")))
        return NULL;
    return n;
}

/* (a, b=1): a name and its default or NULL for each. */
static bool parse_signature(tmpl_compiler *k, tmpl_node *n) {
    bool defaults = false;
    if (!oct_tmpl_expect_op(k, '(')) return false;
    while (!oct_tmpl_is_op(k, ')')) {
        if (n->n && !oct_tmpl_expect_op(k, ',')) return false;
        const tmpl_tok *t = expect_name(k);
        if (!t) return false;
        tmpl_node *value = NULL;
        if (oct_tmpl_skip_op(k, '=')) {
            value = oct_tmpl_parse_expr(k, true);
            if (!value) return false;
            defaults = true;
        } else if (defaults) {
            oct_tmpl_syntax(k, t->line, "a parameter without default follows one that has it");
            return false;
        }
        if (!oct_tmpl_node_add(k, n, value, 0, t->text)) return false;
    }
    k->at++;
    return true;
}

static bool macro_body(tmpl_compiler *k, tmpl_node *n, const char *end) {
    const bool soft = k->soft;
    const uint32_t loops = k->loops;
    k->soft = false;
    k->loops = 0; /* break inside a macro cannot leave a loop around it */
    tmpl_node *body = last_body(k, end);
    k->soft = soft;
    k->loops = loops;
    if (!body || !add(k, n, body)) return false;
    n->op = (uint8_t)((oct_tmpl_reads(body, "varargs") ? TMPL_USES_VARARGS : 0) |
                      (oct_tmpl_reads(body, "kwargs") ? TMPL_USES_KWARGS : 0) |
                      (oct_tmpl_reads(body, "caller") ? TMPL_USES_CALLER : 0));
    return true;
}

static tmpl_node *parse_macro(tmpl_compiler *k) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_MACRO, line_of(k));
    const tmpl_tok *t = n ? expect_name(k) : NULL;
    if (!t) return NULL;
    n->name = t->text;
    return parse_signature(k, n) && macro_body(k, n, "endmacro") ? n : NULL;
}

static tmpl_node *parse_call_block(tmpl_compiler *k) {
    const uint32_t line = line_of(k);
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_CALLBLOCK, line);
    tmpl_node *body = n ? oct_tmpl_node(k, TMPL_N_MACRO, line) : NULL;
    if (!body) return NULL;
    body->name = OCT_STR("caller");
    if (oct_tmpl_is_op(k, '(') && !parse_signature(k, body)) return NULL;
    tmpl_node *call = oct_tmpl_parse_expr(k, true);
    if (!call) return NULL;
    if (call->kind != TMPL_N_POSTFIX || call->kids[call->n - 1]->kind != TMPL_N_CALL)
        return oct_tmpl_syntax(k, line, "a call block needs a call");
    return macro_body(k, body, "endcall") && add(k, n, body) && add(k, n, call) ? n : NULL;
}

static tmpl_node *parse_filter_block(tmpl_compiler *k) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_FILTERBLOCK, line_of(k));
    if (!n || !add(k, n, oct_tmpl_parse_filters(k, false)) ||
        !add(k, n, scope_body(k, "endfilter")))
        return NULL;
    return n;
}

static tmpl_node *parse_with(tmpl_compiler *k) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_WITH, line_of(k));
    if (!n) return NULL;
    while (k->toks[k->at].kind != TMPL_TOK_BLOCK_END) {
        if (n->n && !oct_tmpl_expect_op(k, ',')) return NULL;
        if (!add(k, n, parse_target_part(k, false)) || !oct_tmpl_expect_op(k, '=') ||
            !add(k, n, oct_tmpl_parse_expr(k, true)))
            return NULL;
    }
    return add(k, n, scope_body(k, "endwith")) ? n : NULL;
}

static tmpl_node *parse_generation(tmpl_compiler *k) {
    const uint32_t loops = k->loops;
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_SCOPE, line_of(k));
    k->loops = 0;
    const bool ok = n && add(k, n, scope_body(k, "endgeneration"));
    k->loops = loops;
    return ok ? n : NULL;
}

static tmpl_node *parse_leave(tmpl_compiler *k, tmpl_node_kind kind) {
    if (k->loops == 0) return oct_tmpl_syntax(k, line_of(k), "break or continue outside a loop");
    return oct_tmpl_node(k, kind, line_of(k));
}

static tmpl_node *parse_break(tmpl_compiler *k) { return parse_leave(k, TMPL_N_BREAK); }
static tmpl_node *parse_continue(tmpl_compiler *k) { return parse_leave(k, TMPL_N_CONTINUE); }

static tmpl_node *parse_print(tmpl_compiler *k) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_OUTPUT, line_of(k));
    while (n && k->toks[k->at].kind != TMPL_TOK_BLOCK_END) {
        if (n->n && !oct_tmpl_expect_op(k, ',')) return NULL;
        if (!add(k, n, oct_tmpl_parse_expr(k, true))) return NULL;
    }
    return n;
}

static tmpl_node *unknown_tag(tmpl_compiler *k, const tmpl_tok *t, const char *ends) {
    static const char *const refused[] = {"include",    "import", "from", "extends", "block",
                                          "autoescape", "trans",  "do",   "debug"};
    const int len = (int)(t->text.len < 40 ? t->text.len : 40);
    for (size_t i = 0; i < OCT_COUNT(refused); i++)
        if (oct_str_is(t->text, refused[i]))
            k->status =
                OCT_FAIL(k->err, OCT_E_UNSUPPORTED,
                         "template line %u: the tag '%s' is not supported", t->line, refused[i]);
    return oct_tmpl_syntax(k, t->line, "unknown tag '%.*s'%s%s", len, t->text.ptr,
                           *ends ? " (want " : "", ends);
}

static tmpl_node *parse_statement(tmpl_compiler *k, const char *ends) {
    static const struct {
        const char *word;
        tmpl_node *(*parse)(tmpl_compiler *k);
    } tags[] = {{"if", parse_if},
                {"for", parse_for},
                {"set", parse_set},
                {"macro", parse_macro},
                {"break", parse_break},
                {"continue", parse_continue},
                {"with", parse_with},
                {"call", parse_call_block},
                {"print", parse_print},
                {"filter", parse_filter_block},
                {"generation", parse_generation}};
    const tmpl_tok *t = expect_name(k);
    if (!t) return NULL;
    for (size_t i = 0; i < OCT_COUNT(tags); i++) {
        if (!oct_str_is(t->text, tags[i].word)) continue;
        tmpl_node *n = tags[i].parse(k);
        return n && expect_end(k) ? n : NULL;
    }
    return unknown_tag(k, t, ends);
}

/* ---- bodies ---- */

static bool word_in(oct_str word, const char *list) {
    while (*list) {
        const size_t len = strcspn(list, " ");
        if (oct_str_eq(word, (oct_str){list, len})) return true;
        list += len + (list[len] == ' ');
    }
    return false;
}

static tmpl_node *parse_output(tmpl_compiler *k) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_OUTPUT, k->toks[k->at++].line);
    if (!n || !add(k, n, oct_tmpl_parse_tuple(k, true, false))) return NULL;
    if (k->toks[k->at].kind != TMPL_TOK_VAR_END) return oct_tmpl_unexpected(k, "'}}'");
    k->at++;
    return n;
}

static tmpl_node *parse_text(tmpl_compiler *k) {
    const tmpl_tok *t = &k->toks[k->at++];
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_TEXT, t->line);
    if (n) n->name = t->text;
    return n;
}

/* Statements up to "{%" and a word of ends (the word is then current), or to the end of the
 * template when ends is empty. line: of the tag that began it. */
static tmpl_node *parse_body(tmpl_compiler *k, uint32_t line, const char *ends) {
    tmpl_node *body = oct_tmpl_node(k, TMPL_N_BODY, line);
    while (body) {
        const tmpl_tok *t = &k->toks[k->at];
        tmpl_node *n;
        if (t->kind == TMPL_TOK_EOF) {
            if (!*ends) return body;
            return oct_tmpl_syntax(k, body->line, "the block that begins here has no end (want %s)",
                                   ends);
        }
        if (t->kind == TMPL_TOK_DATA) {
            n = parse_text(k);
        } else if (t->kind == TMPL_TOK_VAR_BEGIN) {
            n = parse_output(k);
        } else {
            k->at++;
            if (k->toks[k->at].kind == TMPL_TOK_NAME && word_in(k->toks[k->at].text, ends))
                return body;
            n = parse_statement(k, ends);
        }
        if (!n || !add(k, body, n)) return NULL;
        if (k->unknown)
            return oct_tmpl_syntax(k, k->unknown->line, "no filter or test named '%.*s'",
                                   (int)(k->unknown->text.len < 40 ? k->unknown->text.len : 40),
                                   k->unknown->text.ptr);
    }
    return NULL;
}

tmpl_node *oct_tmpl_parse(tmpl_compiler *k) { return parse_body(k, 1, ""); }
