/*
 * text/template_expr.c - expressions of a template, by precedence climbing.
 *
 * Operators of one precedence that follow each other become one node with many kids, and so do
 * subscripts, calls and filters behind a value: a long chain costs no depth, only brackets,
 * "not", "-" and "else" do, and their depth is limited.
 */
#include "text/template_priv.h"

/* Binding strength of binary operators; "not" stands between AND and CMP. */
enum { PREC_OR = 1, PREC_AND, PREC_NOT, PREC_CMP, PREC_ADD, PREC_CONCAT, PREC_MUL, PREC_POW };

static tmpl_node *parse_binary(tmpl_compiler *k, int min);

/* ---- tokens and nodes ---- */

static const tmpl_tok *peek(const tmpl_compiler *k, uint32_t ahead) {
    const tmpl_tok *t = &k->toks[k->at];
    while (ahead-- > 0 && t->kind != TMPL_TOK_EOF) t++;
    return t;
}

bool oct_tmpl_is_op(const tmpl_compiler *k, uint8_t op) {
    return k->toks[k->at].kind == TMPL_TOK_OP && k->toks[k->at].op == op;
}

static bool name_is(const tmpl_tok *t, const char *name) {
    return t->kind == TMPL_TOK_NAME && oct_str_is(t->text, name);
}

bool oct_tmpl_is_name(const tmpl_compiler *k, const char *name) {
    return name_is(&k->toks[k->at], name);
}

bool oct_tmpl_skip_op(tmpl_compiler *k, uint8_t op) {
    const bool is = oct_tmpl_is_op(k, op);
    k->at += is;
    return is;
}

bool oct_tmpl_skip_name(tmpl_compiler *k, const char *name) {
    const bool is = oct_tmpl_is_name(k, name);
    k->at += is;
    return is;
}

void *oct_tmpl_unexpected(tmpl_compiler *k, const char *want) {
    static const char *const kinds[] = {
        "end of template", "text",   "'{{'",   "end of print", "'{%'", "end of tag", "name",
        "string",          "number", "number", "operator"};
    const tmpl_tok *t = &k->toks[k->at];
    if (t->kind == TMPL_TOK_NAME || t->kind == TMPL_TOK_OP)
        return oct_tmpl_syntax(k, t->line, "unexpected '%.*s' (want %s)",
                               (int)(t->text.len < 40 ? t->text.len : 40), t->text.ptr, want);
    return oct_tmpl_syntax(k, t->line, "unexpected %s (want %s)", kinds[t->kind], want);
}

bool oct_tmpl_expect_op(tmpl_compiler *k, uint8_t op) {
    if (oct_tmpl_skip_op(k, op)) return true;
    const char want[] = {'\'', (char)op, '\'', '\0'};
    return oct_tmpl_unexpected(k, want) != NULL;
}

bool oct_tmpl_enter(tmpl_compiler *k) {
    const char *here = __builtin_frame_address(0);
    if (++k->nesting <= OCT_TEMPLATE_MAX_NESTING &&
        (size_t)(k->stack_base - here) < OCT_TEMPLATE_STACK_BYTES)
        return true;
    return oct_tmpl_syntax(k, k->toks[k->at].line, "nested too deeply (at most %d)",
                           OCT_TEMPLATE_MAX_NESTING) != NULL;
}

tmpl_node *oct_tmpl_node(tmpl_compiler *k, tmpl_node_kind kind, uint32_t line) {
    tmpl_node *n = oct_tmpl_compile_alloc(k, 1, sizeof *n);
    if (!n) return NULL;
    n->kind = (uint8_t)kind;
    n->line = line;
    return n;
}

/* Arrays double when n reaches a power of two, so no capacity is stored. */
static bool grow_kids(tmpl_compiler *k, tmpl_node *n) {
    if (n->n & (n->n - 1)) return true;
    const size_t cap = n->n ? (size_t)n->n * 2 : 1;
    tmpl_node **kids = oct_tmpl_compile_alloc(k, cap, sizeof(tmpl_node *));
    oct_str *names = oct_tmpl_compile_alloc(k, cap, sizeof *names);
    uint8_t *ops = oct_tmpl_compile_alloc(k, cap, 1);
    if (!kids || !names || !ops) return false;
    if (n->n) {
        memcpy(kids, n->kids, n->n * sizeof(tmpl_node *));
        memcpy(names, n->names, n->n * sizeof *names);
        memcpy(ops, n->ops, n->n);
    }
    n->kids = kids;
    n->names = names;
    n->ops = ops;
    return true;
}

bool oct_tmpl_node_add(tmpl_compiler *k, tmpl_node *n, tmpl_node *kid, uint8_t op, oct_str name) {
    if (!grow_kids(k, n)) return false;
    n->kids[n->n] = kid;
    n->names[n->n] = name;
    n->ops[n->n++] = op;
    return true;
}

static const oct_str no_name;

static bool add(tmpl_compiler *k, tmpl_node *n, tmpl_node *kid) {
    return kid && oct_tmpl_node_add(k, n, kid, 0, no_name);
}

static tmpl_node *literal(tmpl_compiler *k, tmpl_val v) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_LIT, k->toks[k->at].line);
    if (n) n->lit = v;
    return n;
}

/* ---- primaries ---- */

static tmpl_node *parse_name(tmpl_compiler *k) {
    static const struct {
        const char *word;
        tmpl_val v;
    } words[] = {{"true", {.kind = TMPL_BOOL, .u.b = true}},
                 {"True", {.kind = TMPL_BOOL, .u.b = true}},
                 {"false", {.kind = TMPL_BOOL}},
                 {"False", {.kind = TMPL_BOOL}},
                 {"none", {.kind = TMPL_NONE}},
                 {"None", {.kind = TMPL_NONE}}};
    const tmpl_tok *t = &k->toks[k->at++];
    for (size_t i = 0; i < OCT_COUNT(words); i++)
        if (oct_str_is(t->text, words[i].word)) return literal(k, words[i].v);
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_NAME, t->line);
    if (n) n->name = t->text;
    return n;
}

/* "a" "b" is "ab". */
static tmpl_node *parse_string(tmpl_compiler *k) {
    const tmpl_tok *first = &k->toks[k->at++];
    oct_str s = first->text;
    if (k->toks[k->at].kind == TMPL_TOK_STRING) {
        size_t len = s.len;
        for (uint32_t i = k->at; k->toks[i].kind == TMPL_TOK_STRING; i++)
            len += k->toks[i].text.len;
        char *all = oct_tmpl_compile_alloc(k, len + 1, 1);
        if (!all) return NULL;
        memcpy(all, s.ptr, s.len);
        size_t at = s.len;
        for (; k->toks[k->at].kind == TMPL_TOK_STRING; k->at++) {
            memcpy(all + at, k->toks[k->at].text.ptr, k->toks[k->at].text.len);
            at += k->toks[k->at].text.len;
        }
        s = (oct_str){all, len};
    }
    return literal(k, oct_tmpl_str(s));
}

static tmpl_node *parse_list(tmpl_compiler *k) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_LIST, k->toks[k->at++].line);
    if (!n) return NULL;
    while (!oct_tmpl_is_op(k, ']')) {
        if (n->n && !oct_tmpl_expect_op(k, ',')) return NULL;
        if (oct_tmpl_is_op(k, ']')) break;
        if (!add(k, n, oct_tmpl_parse_expr(k, true))) return NULL;
    }
    k->at++;
    return n;
}

static tmpl_node *parse_dict(tmpl_compiler *k) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_DICT, k->toks[k->at++].line);
    if (!n) return NULL;
    while (!oct_tmpl_is_op(k, '}')) {
        if (n->n && !oct_tmpl_expect_op(k, ',')) return NULL;
        if (oct_tmpl_is_op(k, '}')) break;
        if (!add(k, n, oct_tmpl_parse_expr(k, true)) || !oct_tmpl_expect_op(k, ':') ||
            !add(k, n, oct_tmpl_parse_expr(k, true)))
            return NULL;
    }
    k->at++;
    return n;
}

static tmpl_node *parse_primary(tmpl_compiler *k) {
    const tmpl_tok *t = &k->toks[k->at];
    switch (t->kind) {
    case TMPL_TOK_NAME:
        return parse_name(k);
    case TMPL_TOK_STRING:
        return parse_string(k);
    case TMPL_TOK_INT:
        return k->at++, literal(k, tmpl_int(t->num.i));
    case TMPL_TOK_FLOAT:
        return k->at++, literal(k, tmpl_float(t->num.f));
    case TMPL_TOK_OP:
        if (t->op == '[') return parse_list(k);
        if (t->op == '{') return parse_dict(k);
        if (t->op == '(') {
            k->at++;
            tmpl_node *n = oct_tmpl_parse_tuple(k, true, true);
            return n && oct_tmpl_expect_op(k, ')') ? n : NULL;
        }
        break;
    default:
        break;
    }
    return oct_tmpl_unexpected(k, "an expression");
}

/* ---- what follows a value ---- */

/* Arguments in parentheses, added to n. Positional ones come first. */
static bool parse_args(tmpl_compiler *k, tmpl_node *n) {
    uint8_t last = TMPL_ARG_PLAIN;
    bool named = false;
    k->at++;
    while (!oct_tmpl_is_op(k, ')')) {
        if (n->n && !oct_tmpl_expect_op(k, ',')) return false;
        if (oct_tmpl_is_op(k, ')')) break;
        uint8_t op = TMPL_ARG_PLAIN;
        oct_str name = no_name;
        if (oct_tmpl_skip_op(k, '*'))
            op = TMPL_ARG_STAR;
        else if (oct_tmpl_skip_op(k, TMPL_OP_POW))
            op = TMPL_ARG_STARSTAR;
        else if (k->toks[k->at].kind == TMPL_TOK_NAME && peek(k, 1)->kind == TMPL_TOK_OP &&
                 peek(k, 1)->op == '=') {
            name = k->toks[k->at].text;
            k->at += 2;
        }
        if (last == TMPL_ARG_STARSTAR || (op == TMPL_ARG_STAR && last != TMPL_ARG_PLAIN) ||
            (op == TMPL_ARG_PLAIN && !name.ptr && (named || last != TMPL_ARG_PLAIN))) {
            oct_tmpl_syntax(k, k->toks[k->at].line, "arguments in a wrong order");
            return false;
        }
        named |= name.ptr != NULL;
        if (op != TMPL_ARG_PLAIN) last = op;
        tmpl_node *v = oct_tmpl_parse_expr(k, true);
        if (!v || !oct_tmpl_node_add(k, n, v, op, name)) return false;
    }
    k->at++;
    return true;
}

/* name or name.name; no filter of ours has a dot, so a dotted one is unknown. */
static const tmpl_tok *parse_dotted(tmpl_compiler *k, bool *dotted) {
    const tmpl_tok *t = &k->toks[k->at];
    *dotted = false;
    if (t->kind != TMPL_TOK_NAME) return oct_tmpl_unexpected(k, "a name");
    k->at++;
    while (oct_tmpl_skip_op(k, '.')) {
        *dotted = true;
        if (k->toks[k->at++].kind != TMPL_TOK_NAME) {
            k->at--;
            return oct_tmpl_unexpected(k, "a name");
        }
    }
    return t;
}

static tmpl_node *parse_filter(tmpl_compiler *k) {
    bool dotted;
    const tmpl_tok *t = parse_dotted(k, &dotted);
    tmpl_node *n = t ? oct_tmpl_node(k, TMPL_N_FILTER, t->line) : NULL;
    if (!n) return NULL;
    n->name = t->text;
    const tmpl_filter *f = dotted ? NULL : oct_tmpl_find_filter(t->text);
    if (f)
        n->fn.filter = f->fn;
    else if (!k->soft && !k->unknown)
        k->unknown = t;
    return !oct_tmpl_is_op(k, '(') || parse_args(k, n) ? n : NULL;
}

static tmpl_node *parse_postfix(tmpl_compiler *k, tmpl_node *base);

/* The argument of "x is divisibleby 3", when one stands there. */
static bool parse_test_arg(tmpl_compiler *k, tmpl_node *test) {
    const tmpl_tok *t = &k->toks[k->at];
    const bool starts = t->kind == TMPL_TOK_NAME || t->kind == TMPL_TOK_STRING ||
                        t->kind == TMPL_TOK_INT || t->kind == TMPL_TOK_FLOAT ||
                        oct_tmpl_is_op(k, '[') || oct_tmpl_is_op(k, '{');
    if (!starts || name_is(t, "else") || name_is(t, "or") || name_is(t, "and")) return true;
    if (name_is(t, "is")) return oct_tmpl_syntax(k, t->line, "tests cannot be chained") != NULL;
    tmpl_node *arg = parse_primary(k);
    return arg && add(k, test, parse_postfix(k, arg));
}

static tmpl_node *parse_test(tmpl_compiler *k) {
    const bool negated = oct_tmpl_skip_name(k, "not");
    bool dotted;
    const tmpl_tok *t = parse_dotted(k, &dotted);
    tmpl_node *n = t ? oct_tmpl_node(k, TMPL_N_TEST, t->line) : NULL;
    if (!n) return NULL;
    n->name = t->text;
    n->flag = negated;
    const tmpl_test *test = dotted ? NULL : oct_tmpl_find_test(t->text);
    if (test)
        n->fn.test = test->fn;
    else if (!k->soft && !k->unknown)
        k->unknown = t;
    const bool ok = oct_tmpl_is_op(k, '(') ? parse_args(k, n) : parse_test_arg(k, n);
    return ok ? n : NULL;
}

/* One of the subscripts within brackets: i or a:b:c. */
static tmpl_node *parse_subscribed(tmpl_compiler *k) {
    tmpl_node *parts[3] = {NULL, NULL, NULL};
    const uint32_t line = k->toks[k->at].line;
    if (!oct_tmpl_is_op(k, ':')) {
        parts[0] = oct_tmpl_parse_expr(k, true);
        if (!parts[0] || !oct_tmpl_is_op(k, ':')) return parts[0];
    }
    for (int i = 1; i < 3 && oct_tmpl_skip_op(k, ':'); i++) {
        if (oct_tmpl_is_op(k, ':') || oct_tmpl_is_op(k, ']') || oct_tmpl_is_op(k, ',')) continue;
        parts[i] = oct_tmpl_parse_expr(k, true);
        if (!parts[i]) return NULL;
    }
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_SLICE, line);
    for (int i = 0; n && i < 3; i++)
        if (!oct_tmpl_node_add(k, n, parts[i], 0, no_name)) return NULL;
    return n;
}

static tmpl_node *parse_brackets(tmpl_compiler *k) {
    const uint32_t line = k->toks[k->at++].line;
    tmpl_node *first = NULL, *tuple = NULL;
    while (!oct_tmpl_is_op(k, ']')) {
        if (first && !oct_tmpl_expect_op(k, ',')) return NULL;
        tmpl_node *sub = parse_subscribed(k);
        if (!sub) return NULL;
        if (first && !tuple) {
            tuple = oct_tmpl_node(k, TMPL_N_TUPLE, line);
            if (!tuple || !add(k, tuple, first)) return NULL;
        }
        if (tuple && !add(k, tuple, sub)) return NULL;
        if (!first) first = sub;
        if (tuple && (sub->kind == TMPL_N_SLICE || first->kind == TMPL_N_SLICE))
            return oct_tmpl_syntax(k, line, "a slice cannot be part of a tuple");
    }
    k->at++;
    if (!first) return oct_tmpl_syntax(k, line, "empty subscript");
    if (first->kind == TMPL_N_SLICE) return first;
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_ITEM, line);
    return n && add(k, n, tuple ? tuple : first) ? n : NULL;
}

static tmpl_node *parse_dot(tmpl_compiler *k) {
    k->at++;
    const tmpl_tok *t = &k->toks[k->at];
    if (t->kind == TMPL_TOK_NAME) {
        k->at++;
        tmpl_node *n = oct_tmpl_node(k, TMPL_N_ATTR, t->line);
        if (n) n->name = t->text;
        return n;
    }
    if (t->kind != TMPL_TOK_INT) return oct_tmpl_unexpected(k, "a name or number");
    k->at++;
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_ITEM, t->line);
    return n && add(k, n, literal(k, tmpl_int(t->num.i))) ? n : NULL;
}

static tmpl_node *parse_call(tmpl_compiler *k) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_CALL, k->toks[k->at].line);
    return n && parse_args(k, n) ? n : NULL;
}

/* Puts a step behind base, which becomes a postfix when it is none yet. */
static tmpl_node *with_step(tmpl_compiler *k, tmpl_node *base, tmpl_node *step) {
    if (!step) return NULL;
    if (base->kind != TMPL_N_POSTFIX) {
        tmpl_node *n = oct_tmpl_node(k, TMPL_N_POSTFIX, step->line);
        if (!n || !add(k, n, base)) return NULL;
        base = n;
    }
    return add(k, base, step) ? base : NULL;
}

static tmpl_node *parse_postfix(tmpl_compiler *k, tmpl_node *base) {
    while (base) {
        if (oct_tmpl_is_op(k, '.'))
            base = with_step(k, base, parse_dot(k));
        else if (oct_tmpl_is_op(k, '['))
            base = with_step(k, base, parse_brackets(k));
        else if (oct_tmpl_is_op(k, '('))
            base = with_step(k, base, parse_call(k));
        else
            break;
    }
    return base;
}

static tmpl_node *parse_filter_expr(tmpl_compiler *k, tmpl_node *base) {
    while (base) {
        if (oct_tmpl_skip_op(k, '|'))
            base = with_step(k, base, parse_filter(k));
        else if (oct_tmpl_skip_name(k, "is"))
            base = with_step(k, base, parse_test(k));
        else if (oct_tmpl_is_op(k, '('))
            base = with_step(k, base, parse_call(k));
        else
            break;
    }
    return base;
}

tmpl_node *oct_tmpl_parse_filters(tmpl_compiler *k, bool piped) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_POSTFIX, k->toks[k->at].line);
    if (!n || !oct_tmpl_node_add(k, n, NULL, 0, no_name)) return NULL;
    while (!piped || oct_tmpl_skip_op(k, '|')) {
        if (!add(k, n, parse_filter(k))) return NULL;
        piped = true;
    }
    return n;
}

/* ---- operators ---- */

static tmpl_node *parse_unary(tmpl_compiler *k, bool with_filter) {
    tmpl_node *n;
    if (oct_tmpl_is_op(k, '-') || oct_tmpl_is_op(k, '+')) {
        const tmpl_tok *t = &k->toks[k->at++];
        if (!oct_tmpl_enter(k)) return NULL;
        n = oct_tmpl_node(k, t->op == '-' ? TMPL_N_NEG : TMPL_N_POS, t->line);
        if (!n || !add(k, n, parse_unary(k, false))) return NULL;
        k->nesting--;
    } else {
        n = parse_primary(k);
    }
    n = parse_postfix(k, n);
    return with_filter ? parse_filter_expr(k, n) : n;
}

static int prec_of_op(uint8_t op) {
    switch (op) {
    case TMPL_OP_EQ:
    case TMPL_OP_NE:
    case TMPL_OP_LE:
    case TMPL_OP_GE:
    case '<':
    case '>':
        return PREC_CMP;
    case '+':
    case '-':
        return PREC_ADD;
    case '~':
        return PREC_CONCAT;
    case '*':
    case '/':
    case '%':
    case TMPL_OP_FLOORDIV:
        return PREC_MUL;
    case TMPL_OP_POW:
        return PREC_POW;
    default:
        return 0;
    }
}

/* The binary operator at the current token: its strength (0: none), code and length in tokens. */
static int binary_at(const tmpl_compiler *k, uint8_t *op, uint32_t *len) {
    const tmpl_tok *t = &k->toks[k->at];
    *len = 1;
    *op = t->op;
    if (t->kind == TMPL_TOK_OP) return prec_of_op(t->op);
    if (name_is(t, "or")) return PREC_OR;
    if (name_is(t, "and")) return PREC_AND;
    if (name_is(t, "in")) return *op = TMPL_OP_IN, PREC_CMP;
    if (name_is(t, "not") && name_is(peek(k, 1), "in"))
        return *op = TMPL_OP_NOTIN, *len = 2, PREC_CMP;
    return 0;
}

static tmpl_node *parse_not(tmpl_compiler *k) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_NOT, k->toks[k->at++].line);
    if (!n || !oct_tmpl_enter(k) || !add(k, n, parse_binary(k, PREC_NOT))) return NULL;
    k->nesting--;
    return n;
}

static tmpl_node *parse_binary(tmpl_compiler *k, int min) {
    static const uint8_t kinds[] = {
        [PREC_OR] = TMPL_N_OR,     [PREC_AND] = TMPL_N_AND,       [PREC_CMP] = TMPL_N_CMP,
        [PREC_ADD] = TMPL_N_CHAIN, [PREC_CONCAT] = TMPL_N_CONCAT, [PREC_MUL] = TMPL_N_CHAIN,
        [PREC_POW] = TMPL_N_CHAIN,
    };
    tmpl_node *left =
        min <= PREC_NOT && oct_tmpl_is_name(k, "not") ? parse_not(k) : parse_unary(k, true);
    uint8_t op;
    uint32_t len;
    for (int prec; left && (prec = binary_at(k, &op, &len)) >= min && prec > 0;) {
        tmpl_node *n = oct_tmpl_node(k, kinds[prec], k->toks[k->at].line);
        if (!n || !add(k, n, left)) return NULL;
        do {
            k->at += len;
            tmpl_node *right = parse_binary(k, prec + 1);
            if (!right || !oct_tmpl_node_add(k, n, right, op, no_name)) return NULL;
        } while (binary_at(k, &op, &len) == prec);
        left = n;
    }
    return left;
}

static tmpl_node *parse_cond(tmpl_compiler *k, tmpl_node *then) {
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_COND, k->toks[k->at].line);
    if (!n || !add(k, n, parse_binary(k, PREC_OR)) || !add(k, n, then)) return NULL;
    if (oct_tmpl_skip_name(k, "else") && !add(k, n, oct_tmpl_parse_expr(k, true))) return NULL;
    return n;
}

tmpl_node *oct_tmpl_parse_expr(tmpl_compiler *k, bool with_cond) {
    const uint32_t nesting = k->nesting;
    if (!oct_tmpl_enter(k)) return NULL;
    const tmpl_tok *unknown = k->unknown;
    tmpl_node *n = parse_binary(k, PREC_OR);
    while (n && with_cond && oct_tmpl_skip_name(k, "if")) {
        if (!oct_tmpl_enter(k)) return NULL; /* a if b if c nests to the left */
        n = parse_cond(k, n);
        k->unknown = unknown; /* its parts are branches */
    }
    k->nesting = nesting;
    return n;
}

static bool tuple_ends(const tmpl_compiler *k) {
    const tmpl_tok *t = &k->toks[k->at];
    return t->kind == TMPL_TOK_VAR_END || t->kind == TMPL_TOK_BLOCK_END || oct_tmpl_is_op(k, ')');
}

tmpl_node *oct_tmpl_parse_tuple(tmpl_compiler *k, bool with_cond, bool explicit_parens) {
    const uint32_t line = k->toks[k->at].line;
    if (tuple_ends(k)) {
        if (explicit_parens) return oct_tmpl_node(k, TMPL_N_TUPLE, line);
        return oct_tmpl_unexpected(k, "an expression");
    }
    tmpl_node *first = oct_tmpl_parse_expr(k, with_cond);
    if (!first || !oct_tmpl_is_op(k, ',')) return first;
    tmpl_node *n = oct_tmpl_node(k, TMPL_N_TUPLE, line);
    if (!n || !add(k, n, first)) return NULL;
    while (oct_tmpl_skip_op(k, ',') && !tuple_ends(k))
        if (!add(k, n, oct_tmpl_parse_expr(k, with_cond))) return NULL;
    return n;
}
