/*
 * text/template_exec.c - executes the statements of a template.
 *
 * Scopes follow Jinja: a loop pass, a macro call, a set block and `with` have one of their own, an
 * `if` has none. What a macro or a set block prints is taken off the end of the output.
 *
 * A pass of a loop reuses the scope of the pass before it unless a macro was defined there.
 */
#include "text/template_priv.h"

#define NOINLINE __attribute__((noinline))

typedef enum flow { FLOW_FAIL, FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } flow;

static flow exec(tmpl_ctx *c, const tmpl_node *n);

static flow after(bool ok) { return ok ? FLOW_NEXT : FLOW_FAIL; }

static bool print(tmpl_ctx *c, oct_str s) {
    if (s.len > c->max_output_bytes - (c->out->len - c->out_start)) return oct_tmpl_limit(c);
    if (!oct_tmpl_work(c, s.len)) return false;
    oct_buf_str(c->out, s);
    if (!c->out->failed) return true;
    if (c->status == OCT_OK)
        c->status = OCT_FAIL(c->err, OCT_E_NOMEM, "template: no memory for the output");
    return false;
}

/* ---- scopes and targets ---- */

static tmpl_scope *push_scope(tmpl_ctx *c, tmpl_scope *up) {
    tmpl_scope *s = oct_tmpl_alloc(c, 1, sizeof *s);
    if (!s) return NULL;
    s->up = up;
    c->scope = s;
    return s;
}

static bool set_ns(tmpl_ctx *c, const tmpl_node *target, tmpl_val v) {
    tmpl_val ns = {.kind = TMPL_ABSENT};
    for (tmpl_scope *s = c->scope; s && ns.kind == TMPL_ABSENT; s = s->up) {
        const tmpl_val *found = oct_tmpl_dict_get(&s->vars, oct_tmpl_str(target->name));
        if (found) ns = *found;
    }
    if (ns.kind != TMPL_NS)
        return oct_tmpl_fail(c, "cannot assign attribute on non-namespace object");
    return oct_tmpl_dict_set(c, ns.u.dict, oct_tmpl_str(target->names[0]), v);
}

static bool assign(tmpl_ctx *c, const tmpl_node *target, tmpl_val v) {
    if (target->kind == TMPL_N_NAME)
        return oct_tmpl_dict_set(c, &c->scope->vars, oct_tmpl_str(target->name), v);
    if (target->kind == TMPL_N_NSREF) return set_ns(c, target, v);

    tmpl_list items;
    if (!oct_tmpl_deep(c)) return false;
    if (v.kind == TMPL_UNDEF) return oct_tmpl_fail_undef(c, v);
    if (!oct_tmpl_iterate(c, v, &items)) return false;
    if (items.n != target->n)
        return oct_tmpl_fail(c, "cannot unpack %u values into %u names", items.n, target->n);
    for (uint32_t i = 0; i < items.n; i++)
        if (!assign(c, target->kids[i], items.at[i])) return false;
    return true;
}

/* ---- printing into a value ---- */

static NOINLINE flow exec_body(tmpl_ctx *c, const tmpl_node *n) {
    for (uint32_t i = 0; i < n->n; i++) {
        const flow f = exec(c, n->kids[i]);
        if (f != FLOW_NEXT) return f;
    }
    return FLOW_NEXT;
}

/* Runs body in a scope above up and gives what it printed as a string. */
static bool capture(tmpl_ctx *c, const tmpl_node *body, tmpl_val *out) {
    const size_t start = c->out->len;
    if (exec_body(c, body) == FLOW_FAIL) return false;
    const oct_str printed = {c->out->data ? c->out->data + start : "", c->out->len - start};
    if (!oct_tmpl_str_copy(c, printed, out)) return false;
    c->out->len = start;
    return true;
}

static NOINLINE flow exec_set_block(tmpl_ctx *c, const tmpl_node *n) {
    tmpl_scope *scope = c->scope;
    tmpl_val v = tmpl_none();
    if (!push_scope(c, scope) || !capture(c, n->kids[2], &v)) return FLOW_FAIL;
    if (!oct_tmpl_postfix(c, n->kids[1], 1, &v)) return FLOW_FAIL;
    c->scope = scope;
    return after(assign(c, n->kids[0], v));
}

static bool print_value(tmpl_ctx *c, tmpl_val v) {
    return oct_tmpl_to_str(c, v, &v) && print(c, tmpl_strv(v));
}

static NOINLINE flow exec_filter_block(tmpl_ctx *c, const tmpl_node *n) {
    tmpl_scope *scope = c->scope;
    tmpl_val v = tmpl_none();
    if (!push_scope(c, scope) || !capture(c, n->kids[1], &v) ||
        !oct_tmpl_postfix(c, n->kids[0], 1, &v))
        return FLOW_FAIL;
    c->scope = scope;
    return after(print_value(c, v));
}

/* ---- macros ---- */

static bool bind_extra(tmpl_ctx *c, const tmpl_node *n, const tmpl_args *a, uint32_t n_params,
                       const tmpl_val *used) {
    tmpl_val rest, named;
    if (n->op & TMPL_USES_VARARGS) {
        if (!oct_tmpl_list_new(c, 0, TMPL_TUPLE, &rest)) return false;
        for (uint32_t i = n_params; i < a->n_pos; i++)
            if (!oct_tmpl_list_add(c, rest.u.list, a->pos[i])) return false;
        if (!oct_tmpl_dict_set(c, &c->scope->vars, oct_tmpl_cstr("varargs"), rest)) return false;
    } else if (a->n_pos > n_params) {
        return oct_tmpl_fail_type(c, "macro '%.*s' takes not more than %u argument(s)",
                                  (int)(n->name.len < 60 ? n->name.len : 60), n->name.ptr,
                                  n_params);
    }
    if (!oct_tmpl_dict_new(c, TMPL_DICT, &named)) return false;
    for (uint32_t i = 0; i < a->n_kw; i++) {
        if (used[i].u.b) continue;
        if (!(n->op & TMPL_USES_KWARGS))
            return oct_tmpl_fail_type(c, "macro '%.*s' takes no keyword argument '%.*s'",
                                      (int)(n->name.len < 60 ? n->name.len : 60), n->name.ptr,
                                      (int)(a->kw_names[i].len < 60 ? a->kw_names[i].len : 60),
                                      a->kw_names[i].ptr);
        if (!oct_tmpl_dict_set(c, named.u.dict, oct_tmpl_str(a->kw_names[i]), a->kw[i]))
            return false;
    }
    return !(n->op & TMPL_USES_KWARGS) ||
           oct_tmpl_dict_set(c, &c->scope->vars, oct_tmpl_cstr("kwargs"), named);
}

/* The value of parameter i: positional, named, default, or undefined. */
static bool bind_param(tmpl_ctx *c, const tmpl_node *n, const tmpl_args *a, uint32_t i,
                       tmpl_val *used, tmpl_val *out) {
    out->kind = TMPL_ABSENT;
    if (i < a->n_pos) *out = a->pos[i];
    for (uint32_t j = 0; j < a->n_kw; j++) {
        if (!oct_str_eq(a->kw_names[j], n->names[i])) continue;
        if (out->kind != TMPL_ABSENT)
            return oct_tmpl_fail_type(c, "macro got two values for argument '%.*s'",
                                      (int)(n->names[i].len < 60 ? n->names[i].len : 60),
                                      n->names[i].ptr);
        *out = a->kw[j];
        used[j].u.b = true;
    }
    if (out->kind != TMPL_ABSENT) return true;
    if (n->kids[i]) return oct_tmpl_eval(c, n->kids[i], out);
    return oct_tmpl_undef(c, n->names[i], (tmpl_val){.kind = TMPL_ABSENT}, out);
}

static NOINLINE bool bind_macro(tmpl_ctx *c, const tmpl_macro *m, const tmpl_args *a) {
    const tmpl_node *n = m->node;
    const uint32_t n_params = n->n - 1;
    tmpl_val *used = oct_tmpl_alloc(c, (size_t)a->n_kw + 1, sizeof *used);
    if (!used) return false;
    if ((n->op & TMPL_USES_CALLER) && m->caller.kind != TMPL_ABSENT &&
        !oct_tmpl_dict_set(c, &c->scope->vars, oct_tmpl_cstr("caller"), m->caller))
        return false;
    for (uint32_t i = 0; i < n_params; i++) {
        tmpl_val v;
        if (!bind_param(c, n, a, i, used, &v) ||
            !oct_tmpl_dict_set(c, &c->scope->vars, oct_tmpl_str(n->names[i]), v))
            return false;
    }
    return bind_extra(c, n, a, n_params, used);
}

bool oct_tmpl_call_macro(tmpl_ctx *c, const tmpl_macro *m, const tmpl_args *a, tmpl_val *out) {
    if (c->macro_depth >= OCT_TEMPLATE_MAX_NESTING) return oct_tmpl_limit(c);
    tmpl_scope *scope = c->scope;
    const uint32_t line = c->line;
    c->macro_depth++;
    if (!push_scope(c, m->scope) || !bind_macro(c, m, a) ||
        !capture(c, m->node->kids[m->node->n - 1], out))
        return false;
    c->macro_depth--;
    c->line = line;
    c->scope = scope;
    return true;
}

static bool make_macro(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out) {
    tmpl_macro *m = oct_tmpl_alloc(c, 1, sizeof *m);
    if (!m) return false;
    *m = (tmpl_macro){.node = n, .scope = c->scope};
    for (tmpl_scope *s = c->scope; s && !s->captured; s = s->up) s->captured = true;
    *out = (tmpl_val){.kind = TMPL_MACRO, .u.macro = m};
    return true;
}

static NOINLINE flow exec_macro(tmpl_ctx *c, const tmpl_node *n) {
    tmpl_val v;
    return after(make_macro(c, n, &v) &&
                 oct_tmpl_dict_set(c, &c->scope->vars, oct_tmpl_str(n->name), v));
}

/* {% call f(x) %}body{% endcall %}: f with the body as its `caller`. */
static NOINLINE flow exec_call_block(tmpl_ctx *c, const tmpl_node *n) {
    const tmpl_node *call = n->kids[1];
    tmpl_val caller, fn, v = tmpl_none();
    tmpl_node head = *call; /* the call without its last step */
    head.n--;
    if (!make_macro(c, n->kids[0], &caller) || !oct_tmpl_eval(c, &head, &fn)) return FLOW_FAIL;
    tmpl_args a;
    if (!oct_tmpl_args(c, call->kids[call->n - 1], &a)) return FLOW_FAIL;
    if (fn.kind == TMPL_MACRO) {
        tmpl_macro with = *fn.u.macro;
        if (!(with.node->op & TMPL_USES_CALLER))
            return after(oct_tmpl_fail_type(c, "the macro does not use its caller"));
        with.caller = caller;
        if (!oct_tmpl_call_macro(c, &with, &a, &v)) return FLOW_FAIL;
    } else if (!oct_tmpl_call(c, fn, &a, &v)) {
        return FLOW_FAIL;
    }
    return after(print_value(c, v));
}

/* ---- loops ---- */

/* The items that pass the loop's filter, each bound in a scope of its own meanwhile. */
static NOINLINE bool filter_items(tmpl_ctx *c, const tmpl_node *n, tmpl_list *items) {
    tmpl_list kept = {.n = 0};
    tmpl_scope *scope = c->scope;
    for (uint32_t i = 0; i < items->n; i++) {
        tmpl_val v;
        if (!push_scope(c, scope) || !assign(c, n->kids[0], items->at[i]) ||
            !oct_tmpl_eval(c, n->kids[2], &v) ||
            (oct_tmpl_truth(v) && !oct_tmpl_list_add(c, &kept, items->at[i])))
            return false;
    }
    c->scope = scope;
    *items = kept;
    return true;
}

static tmpl_scope *pass_scope(tmpl_ctx *c, tmpl_scope *up, tmpl_scope *last) {
    if (!last || last->captured || last->vars.index) return push_scope(c, up);
    last->vars.n = 0;
    c->scope = last;
    return last;
}

/* One pass: *taken says whether the item was not filtered away. */
static NOINLINE flow exec_pass(tmpl_ctx *c, const tmpl_node *n, tmpl_val item, tmpl_val loop,
                               bool *taken) {
    tmpl_val v;
    *taken = true;
    if (!oct_tmpl_step(c, 1) || !assign(c, n->kids[0], item)) return FLOW_FAIL;
    if (n->kids[2] && !n->flag) { /* without `loop` in the body the filter sees what passes set */
        if (!oct_tmpl_eval(c, n->kids[2], &v)) return FLOW_FAIL;
        *taken = oct_tmpl_truth(v);
        if (!*taken) return FLOW_NEXT;
    }
    if (n->flag && !oct_tmpl_dict_set(c, &c->scope->vars, oct_tmpl_cstr("loop"), loop))
        return FLOW_FAIL;
    return exec_body(c, n->kids[3]);
}

static NOINLINE flow run_loop(tmpl_ctx *c, const tmpl_node *n, tmpl_list items, bool *any) {
    tmpl_scope *scope = c->scope, *pass = NULL;
    tmpl_loop *l = oct_tmpl_alloc(c, 1, sizeof *l);
    if (!l) return FLOW_FAIL;
    *l = (tmpl_loop){.items = items.at, .n = items.n};
    const tmpl_val loop = {.kind = TMPL_LOOP, .u.loop = l};
    for (uint32_t i = 0; i < items.n; i++) {
        bool taken;
        l->index0 = i;
        pass = pass_scope(c, scope, pass);
        const flow f = pass ? exec_pass(c, n, items.at[i], loop, &taken) : FLOW_FAIL;
        if (f == FLOW_FAIL) return f;
        *any |= taken && f == FLOW_NEXT; /* as in Jinja: a pass that was left does not count */
        if (f == FLOW_BREAK) break;
    }
    c->scope = scope;
    return FLOW_NEXT;
}

static NOINLINE flow exec_for(tmpl_ctx *c, const tmpl_node *n) {
    tmpl_val over;
    tmpl_list items;
    bool any = false;
    if (!oct_tmpl_eval(c, n->kids[1], &over) || !oct_tmpl_iterate(c, over, &items))
        return FLOW_FAIL;
    if (n->kids[2] && n->flag && !filter_items(c, n, &items)) return FLOW_FAIL;
    const flow f = run_loop(c, n, items, &any);
    if (f != FLOW_NEXT || any || !n->kids[4]) return f;
    tmpl_scope *scope = c->scope;
    if (!push_scope(c, scope)) return FLOW_FAIL;
    const flow e = exec_body(c, n->kids[4]);
    c->scope = scope;
    return e;
}

/* ---- the rest ---- */

static NOINLINE flow exec_if(tmpl_ctx *c, const tmpl_node *n) {
    for (uint32_t i = 0; i + 1 < n->n; i += 2) {
        tmpl_val v;
        if (!oct_tmpl_eval(c, n->kids[i], &v)) return FLOW_FAIL;
        if (oct_tmpl_truth(v)) return exec_body(c, n->kids[i + 1]);
    }
    return n->n % 2 ? exec_body(c, n->kids[n->n - 1]) : FLOW_NEXT;
}

static NOINLINE flow exec_output(tmpl_ctx *c, const tmpl_node *n) {
    for (uint32_t i = 0; i < n->n; i++) {
        tmpl_val v;
        if (!oct_tmpl_eval(c, n->kids[i], &v) || !print_value(c, v)) return FLOW_FAIL;
    }
    return FLOW_NEXT;
}

static NOINLINE flow exec_set(tmpl_ctx *c, const tmpl_node *n) {
    tmpl_val v;
    return after(oct_tmpl_eval(c, n->kids[1], &v) && assign(c, n->kids[0], v));
}

/* The values of `with` are computed outside its scope. */
static NOINLINE flow exec_with(tmpl_ctx *c, const tmpl_node *n) {
    tmpl_scope *scope = c->scope;
    tmpl_val vals;
    if (!oct_tmpl_list_new(c, n->n, TMPL_LIST, &vals)) return FLOW_FAIL;
    for (uint32_t i = 1; i < n->n; i += 2)
        if (!oct_tmpl_eval(c, n->kids[i], &vals.u.list->at[i])) return FLOW_FAIL;
    if (!push_scope(c, scope)) return FLOW_FAIL;
    for (uint32_t i = 1; i < n->n; i += 2)
        if (!assign(c, n->kids[i - 1], vals.u.list->at[i])) return FLOW_FAIL;
    const flow f = exec_body(c, n->kids[n->n - 1]);
    c->scope = scope;
    return f;
}

static NOINLINE flow exec_scope(tmpl_ctx *c, const tmpl_node *n) {
    tmpl_scope *scope = c->scope;
    if (!push_scope(c, scope)) return FLOW_FAIL;
    const flow f = exec_body(c, n->kids[0]);
    c->scope = scope;
    return f;
}

static flow exec(tmpl_ctx *c, const tmpl_node *n) {
    c->line = n->line;
    if (!oct_tmpl_step(c, 1) || !oct_tmpl_deep(c)) return FLOW_FAIL;
    switch (n->kind) {
    case TMPL_N_TEXT:
        return after(print(c, n->name));
    case TMPL_N_OUTPUT:
        return exec_output(c, n);
    case TMPL_N_IF:
        return exec_if(c, n);
    case TMPL_N_FOR:
        return exec_for(c, n);
    case TMPL_N_SET:
        return exec_set(c, n);
    case TMPL_N_SETBLOCK:
        return exec_set_block(c, n);
    case TMPL_N_MACRO:
        return exec_macro(c, n);
    case TMPL_N_CALLBLOCK:
        return exec_call_block(c, n);
    case TMPL_N_FILTERBLOCK:
        return exec_filter_block(c, n);
    case TMPL_N_WITH:
        return exec_with(c, n);
    case TMPL_N_SCOPE:
        return exec_scope(c, n);
    case TMPL_N_BREAK:
        return FLOW_BREAK;
    case TMPL_N_CONTINUE:
        return FLOW_CONTINUE;
    default:
        return exec_body(c, n);
    }
}

bool oct_tmpl_exec(tmpl_ctx *c, const tmpl_node *n) { return exec(c, n) != FLOW_FAIL; }
