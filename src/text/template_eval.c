/*
 * text/template_eval.c - evaluates the expressions of a template.
 *
 * Recursion follows the tree, whose depth the parser limited, and macro calls, whose depth is
 * limited here; oct_tmpl_deep watches the stack besides. Each kind of node has a small function of
 * its own so that a level costs little of it.
 */
#include "text/template_priv.h"

#define NOINLINE __attribute__((noinline))

static tmpl_val *find_var(tmpl_scope *s, tmpl_val name) {
    for (; s; s = s->up) {
        tmpl_val *v = oct_tmpl_dict_get(&s->vars, name);
        if (v) return v;
    }
    return NULL;
}

static NOINLINE bool eval_name(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    const tmpl_val *v = find_var(c->scope, oct_tmpl_str(n->name));
    if (v) return (*out = *v), true;
    const tmpl_func *f = oct_tmpl_find_func(n->name);
    if (f) return (*out = (tmpl_val){.kind = TMPL_FUNC, .u.func = f}), true;
    return oct_tmpl_undef(c, n->name, (tmpl_val){.kind = TMPL_ABSENT}, out);
}

static NOINLINE bool eval_seq(tmpl_ctx *c, const tmpl_node *n, tmpl_kind kind, tmpl_val *out) {
    if (!oct_tmpl_list_new(c, n->n, kind, out)) return false;
    tmpl_list *l = out->u.list;
    for (; l->n < n->n; l->n++)
        if (!oct_tmpl_eval(c, n->kids[l->n], &l->at[l->n])) return false;
    return true;
}

static NOINLINE bool eval_dict(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    if (!oct_tmpl_dict_new(c, TMPL_DICT, out)) return false;
    for (uint32_t i = 0; i < n->n; i += 2) {
        tmpl_val key, v;
        if (!oct_tmpl_eval(c, n->kids[i], &key) || !oct_tmpl_eval(c, n->kids[i + 1], &v) ||
            !oct_tmpl_dict_set(c, out->u.dict, key, v))
            return false;
    }
    return true;
}

static NOINLINE bool eval_cond(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    if (!oct_tmpl_eval(c, n->kids[0], out)) return false;
    if (oct_tmpl_truth(*out)) return oct_tmpl_eval(c, n->kids[1], out);
    if (n->n > 2) return oct_tmpl_eval(c, n->kids[2], out);
    return oct_tmpl_undef_why(c, "the condition is false and there is no else", out);
}

static NOINLINE bool eval_logic(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    const bool stop = n->kind == TMPL_N_OR;
    for (uint32_t i = 0; i < n->n; i++) {
        if (!oct_tmpl_eval(c, n->kids[i], out)) return false;
        if (oct_tmpl_truth(*out) == stop) break;
    }
    return true;
}

static NOINLINE bool eval_sign(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    if (!oct_tmpl_eval(c, n->kids[0], out)) return false;
    if (n->kind == TMPL_N_NOT) return (*out = tmpl_bool(!oct_tmpl_truth(*out))), true;
    if (out->kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, *out);
    if (!tmpl_is_num(*out))
        return oct_tmpl_fail_type(c, "bad operand type for unary %s: '%s'",
                                  n->kind == TMPL_N_NEG ? "-" : "+", oct_tmpl_type_name(*out));
    if (out->kind == TMPL_FLOAT) {
        if (n->kind == TMPL_N_NEG) out->u.f = -out->u.f;
        return true;
    }
    return oct_tmpl_arith(c, n->kind == TMPL_N_NEG ? '-' : '+', tmpl_int(0), *out, out);
}

/* a < b < c compares each neighbour and stops at the first false. */
static NOINLINE bool eval_cmp(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    tmpl_val left, right;
    bool is = true;
    if (!oct_tmpl_eval(c, n->kids[0], &left)) return false;
    for (uint32_t i = 1; is && i < n->n; i++) {
        if (!oct_tmpl_eval(c, n->kids[i], &right) ||
            !oct_tmpl_compare_op(c, n->ops[i], left, right, &is))
            return false;
        left = right;
    }
    *out = tmpl_bool(is);
    return true;
}

static NOINLINE bool eval_chain(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    tmpl_val right;
    if (!oct_tmpl_eval(c, n->kids[0], out)) return false;
    for (uint32_t i = 1; i < n->n; i++)
        if (!oct_tmpl_eval(c, n->kids[i], &right) ||
            !oct_tmpl_arith(c, n->ops[i], *out, right, out))
            return false;
    return true;
}

static NOINLINE bool eval_concat(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    tmpl_text t = {.c = c};
    for (uint32_t i = 0; i < n->n && !t.failed; i++) {
        tmpl_val v;
        if (!oct_tmpl_eval(c, n->kids[i], &v)) return false;
        oct_tmpl_text_str(&t, v);
    }
    return oct_tmpl_text_done(&t, out);
}

/* ---- steps behind a value ---- */

static bool add_star(tmpl_ctx *c, tmpl_list *pos, tmpl_val v) {
    tmpl_list items;
    if (!oct_tmpl_iterate(c, v, &items)) return false;
    for (uint32_t i = 0; i < items.n; i++)
        if (!oct_tmpl_list_add(c, pos, items.at[i])) return false;
    return oct_tmpl_step(c, items.n);
}

/* Named arguments go into a list of values and an array of names beside it. */
typedef struct kw_list {
    tmpl_list vals;
    oct_str *names;
    uint32_t cap;
} kw_list;

static bool add_kw(tmpl_ctx *c, kw_list *kw, oct_str name, tmpl_val v) {
    if (kw->vals.n == kw->cap) {
        const uint32_t cap = kw->cap ? kw->cap * 2 : 4;
        oct_str *names = oct_tmpl_alloc(c, cap, sizeof *names);
        if (!names) return false;
        if (kw->cap) memcpy(names, kw->names, kw->cap * sizeof *names);
        kw->names = names;
        kw->cap = cap;
    }
    kw->names[kw->vals.n] = name;
    return oct_tmpl_list_add(c, &kw->vals, v);
}

static bool add_starstar(tmpl_ctx *c, kw_list *kw, tmpl_val v) {
    if (v.kind != TMPL_DICT) return oct_tmpl_fail_type(c, "argument after ** must be a mapping");
    for (uint32_t i = 0; i < v.u.dict->n; i++) {
        if (v.u.dict->keys[i].kind != TMPL_STR)
            return oct_tmpl_fail_type(c, "keywords must be strings");
        if (!add_kw(c, kw, tmpl_strv(v.u.dict->keys[i]), v.u.dict->vals[i])) return false;
    }
    return oct_tmpl_step(c, v.u.dict->n);
}

bool oct_tmpl_args(tmpl_ctx *c, const tmpl_node *n, tmpl_args *out) {
    tmpl_list pos = {.n = 0};
    kw_list kw = {.cap = 0};
    for (uint32_t i = 0; i < n->n; i++) {
        tmpl_val v;
        bool ok;
        if (!oct_tmpl_eval(c, n->kids[i], &v)) return false;
        if (n->ops[i] == TMPL_ARG_STAR)
            ok = add_star(c, &pos, v);
        else if (n->ops[i] == TMPL_ARG_STARSTAR)
            ok = add_starstar(c, &kw, v);
        else
            ok = n->names[i].ptr ? add_kw(c, &kw, n->names[i], v) : oct_tmpl_list_add(c, &pos, v);
        if (!ok) return false;
    }
    *out = (tmpl_args){
        .pos = pos.at, .n_pos = pos.n, .kw = kw.vals.at, .n_kw = kw.vals.n, .kw_names = kw.names};
    return true;
}

static NOINLINE bool step_slice(tmpl_ctx *c, const tmpl_node *n, tmpl_val *v) {
    tmpl_val part[3];
    for (int i = 0; i < 3; i++) {
        part[i] = tmpl_none();
        if (n->kids[i] && !oct_tmpl_eval(c, n->kids[i], &part[i])) return false;
    }
    return oct_tmpl_slice(c, *v, part, v);
}

static NOINLINE bool step_item(tmpl_ctx *c, const tmpl_node *n, tmpl_val *v) {
    tmpl_val key;
    return oct_tmpl_eval(c, n->kids[0], &key) && oct_tmpl_item(c, *v, key, v);
}

static bool unknown(tmpl_ctx *c, const char *what, oct_str name) {
    return oct_tmpl_fail(c, "no %s named '%.*s'", what, (int)(name.len < 40 ? name.len : 40),
                         name.ptr);
}

static NOINLINE bool step_filter(tmpl_ctx *c, const tmpl_node *n, tmpl_val *v) {
    tmpl_args a;
    tmpl_val in = *v;
    if (!n->fn.filter) return unknown(c, "filter", n->name);
    return oct_tmpl_args(c, n, &a) && n->fn.filter(c, in, &a, v);
}

static NOINLINE bool step_test(tmpl_ctx *c, const tmpl_node *n, tmpl_val *v) {
    tmpl_args a;
    bool is;
    if (!n->fn.test) return unknown(c, "test", n->name);
    if (!oct_tmpl_args(c, n, &a) || !n->fn.test(c, *v, &a, &is)) return false;
    *v = tmpl_bool(is != n->flag);
    return true;
}

static NOINLINE bool step_call(tmpl_ctx *c, const tmpl_node *n, tmpl_val *v) {
    tmpl_args a;
    const tmpl_val fn = *v;
    return oct_tmpl_args(c, n, &a) && oct_tmpl_call(c, fn, &a, v);
}

bool oct_tmpl_postfix(tmpl_ctx *c, const tmpl_node *n, uint32_t from, tmpl_val *v) {
    for (uint32_t i = from; i < n->n; i++) {
        const tmpl_node *step = n->kids[i];
        bool ok = oct_tmpl_step(c, 1);
        if (!ok) return false;
        switch (step->kind) {
        case TMPL_N_ATTR:
            ok = oct_tmpl_attr(c, *v, step->name, v);
            break;
        case TMPL_N_ITEM:
            ok = step_item(c, step, v);
            break;
        case TMPL_N_SLICE:
            ok = step_slice(c, step, v);
            break;
        case TMPL_N_CALL:
            ok = step_call(c, step, v);
            break;
        case TMPL_N_FILTER:
            ok = step_filter(c, step, v);
            break;
        default:
            ok = step_test(c, step, v);
            break;
        }
        if (!ok) return false;
    }
    return true;
}

static NOINLINE bool eval_postfix(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    return oct_tmpl_eval(c, n->kids[0], out) && oct_tmpl_postfix(c, n, 1, out);
}

bool oct_tmpl_eval(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    *out = tmpl_none();
    if (!oct_tmpl_step(c, 1) || !oct_tmpl_deep(c)) return false;
    switch (n->kind) {
    case TMPL_N_LIT:
        return (*out = n->lit), true;
    case TMPL_N_NAME:
        return eval_name(c, n, out);
    case TMPL_N_LIST:
        return eval_seq(c, n, TMPL_LIST, out);
    case TMPL_N_TUPLE:
        return eval_seq(c, n, TMPL_TUPLE, out);
    case TMPL_N_DICT:
        return eval_dict(c, n, out);
    case TMPL_N_COND:
        return eval_cond(c, n, out);
    case TMPL_N_OR:
    case TMPL_N_AND:
        return eval_logic(c, n, out);
    case TMPL_N_NOT:
    case TMPL_N_NEG:
    case TMPL_N_POS:
        return eval_sign(c, n, out);
    case TMPL_N_CMP:
        return eval_cmp(c, n, out);
    case TMPL_N_CHAIN:
        return eval_chain(c, n, out);
    case TMPL_N_CONCAT:
        return eval_concat(c, n, out);
    default:
        return eval_postfix(c, n, out);
    }
}
