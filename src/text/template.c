/*
 * text/template.c - a template's life: compiled once, rendered under limits.
 *
 * One render has an arena, a count of steps and the output buffer; whatever happens they are given
 * back at one place. Work that a single step could make large (text, lists) is counted in steps as
 * well, so that a million steps stay well under a second.
 */
#include "text/template.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "codec/utf8.h"
#include "text/template_priv.h"

enum {
    DEFAULT_STEPS = 1000000,
    DEFAULT_OUTPUT = 16 << 20,
    DEFAULT_MEMORY = 256 << 20,
    TREE_BYTES = 96 << 20, /* a tree takes about 300 bytes per byte of the densest source */
    BYTES_PER_STEP = 512,
};

/* ---- failures ---- */

/* The first failure is the one that is told. */
OCT_PRINTF(3, 0) static bool fail_text(tmpl_ctx *c, bool type, const char *fmt, va_list args) {
    char text[OCT_ERR_TEXT / 2];
    if (c->status != OCT_OK) return false;
    vsnprintf(text, sizeof text, fmt, args);
    c->status = OCT_FAIL(c->err, OCT_E_INVALID, "template line %u: %s", c->line, text);
    c->type_error = type;
    return false;
}

bool oct_tmpl_fail(tmpl_ctx *c, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fail_text(c, false, fmt, args);
    va_end(args);
    return false;
}

bool oct_tmpl_fail_type(tmpl_ctx *c, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fail_text(c, true, fmt, args);
    va_end(args);
    return false;
}

bool oct_tmpl_fail_undef(tmpl_ctx *c, tmpl_val undef) {
    const tmpl_undef *u = undef.u.undef;
    const int len = (int)(u->name.len < 60 ? u->name.len : 60);
    if (u->why) return oct_tmpl_fail(c, "%s", u->why);
    if (u->owner == TMPL_ABSENT) return oct_tmpl_fail(c, "'%.*s' is undefined", len, u->name.ptr);
    const tmpl_val owner = {.kind = u->owner};
    return oct_tmpl_fail(c, "'%s object' has no attribute '%.*s'", oct_tmpl_type_name(owner), len,
                         u->name.ptr);
}

bool oct_tmpl_raise(tmpl_ctx *c, oct_str text) {
    if (text.len == 0) text = oct_str_of("the template refuses and does not say why");
    OCT_ASSERT(c->status == OCT_OK);
    c->status = OCT_FAIL(c->err, OCT_E_INVALID, "%.*s", OCT_STR_ARG(text));
    return false;
}

bool oct_tmpl_limit(tmpl_ctx *c) {
    if (c->status == OCT_OK) c->status = OCT_FAIL(c->err, OCT_E_INVALID, "template limit exceeded");
    return false;
}

bool oct_tmpl_step(tmpl_ctx *c, uint64_t n) {
    if (OCT_UNLIKELY(n > c->steps_left)) return oct_tmpl_limit(c);
    c->steps_left -= n;
    return true;
}

bool oct_tmpl_work(tmpl_ctx *c, uint64_t bytes) {
    return bytes < BYTES_PER_STEP || oct_tmpl_step(c, bytes / BYTES_PER_STEP);
}

bool oct_tmpl_deep(tmpl_ctx *c) {
    const char *here = __builtin_frame_address(0);
    if (OCT_LIKELY((size_t)(c->stack_base - here) < OCT_TEMPLATE_STACK_BYTES)) return true;
    return oct_tmpl_limit(c);
}

void *oct_tmpl_alloc(tmpl_ctx *c, size_t n, size_t size) {
    void *p = oct_arena_alloc(&c->arena, n, size);
    if (OCT_LIKELY(p != NULL)) return p;
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) ||
        bytes + 64 > c->arena.limit_bytes - c->arena.used_bytes)
        oct_tmpl_limit(c);
    else if (c->status == OCT_OK)
        c->status = OCT_FAIL(c->err, OCT_E_NOMEM, "template: no memory for its values");
    return NULL;
}

/* ---- compiling ---- */

static oct_status compile(oct_template *t, oct_str source, oct_err *err) {
    tmpl_compiler k = {.arena = &t->arena, .err = err, .stack_base = __builtin_frame_address(0)};
    k.toks = oct_tmpl_lex(&k, source);
    if (k.toks) t->root = oct_tmpl_parse(&k);
    if (!t->root) return k.status;
    t->content = oct_tmpl_scan_content(t->root);
    t->short_ids = oct_tmpl_scan_short_ids(t->root);
    return OCT_OK;
}

oct_status oct_template_create(const oct_allocator *mem, const char *source, size_t len,
                               oct_template **out, oct_err *err) {
    size_t bad_at;
    *out = NULL;
    if (len > OCT_TEMPLATE_MAX_BYTES)
        return OCT_FAIL(err, OCT_E_INVALID, "template: too long (got %zu bytes, want at most %d)",
                        len, OCT_TEMPLATE_MAX_BYTES);
    const oct_str text = {len ? source : "", len};
    if (!oct_utf8_valid(text, &bad_at))
        return OCT_FAIL(err, OCT_E_INVALID, "template: not UTF-8 (at byte %zu)", bad_at);

    oct_template *t = oct_calloc(mem, 1, sizeof *t);
    if (!t) return OCT_FAIL(err, OCT_E_NOMEM, "template: no memory");
    t->mem = mem;
    atomic_init(&t->refs, 1);
    atomic_init(&t->args_as_text, false);
    oct_arena_init(&t->arena, mem, TREE_BYTES);
    const oct_status st = compile(t, text, err);
    if (st != OCT_OK) {
        oct_template_release(t);
        return st;
    }
    *out = t;
    return OCT_OK;
}

oct_template *oct_template_retain(oct_template *t) {
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void oct_template_release(oct_template *t) {
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1) return;
    oct_arena_fini(&t->arena);
    oct_free(t->mem, t, 1, sizeof *t);
}

oct_template_content oct_template_content_form(const oct_template *t) { return t->content; }
bool oct_template_wants_short_ids(const oct_template *t) { return t->short_ids; }

/* ---- rendering ---- */

static bool set_var(tmpl_ctx *c, const char *name, tmpl_val v) {
    return oct_tmpl_dict_set(c, &c->scope->vars, oct_tmpl_cstr(name), v);
}

static bool set_json(tmpl_ctx *c, const char *name, const json_t *j) {
    tmpl_val v;
    return oct_tmpl_from_json(c, j, 0, &v) && set_var(c, name, v);
}

static bool set_vars(tmpl_ctx *c) {
    const oct_template_input *in = c->in;
    const char *key;
    json_t *value;
    for (size_t i = 0; i < in->n_vars; i++)
        if (in->vars[i].value && !set_var(c, in->vars[i].name, oct_tmpl_cstr(in->vars[i].value)))
            return false;
    if (json_is_object(in->kwargs))
        json_object_foreach((json_t *)(uintptr_t)in->kwargs, key,
                            value) if (!set_json(c, key, value)) return false;
    return set_json(c, "messages", in->messages) && set_json(c, "tools", in->tools) &&
           set_json(c, "documents", in->documents) &&
           set_var(c, "add_generation_prompt", tmpl_bool(in->add_generation_prompt)) &&
           set_var(c, "continue_final_message", tmpl_bool(in->continue_final_message));
}

/* Apart from its caller so that the frame it measures from lies above everything it runs. */
static __attribute__((noinline)) bool run(tmpl_ctx *c) {
    tmpl_scope top = {.captured = true};
    c->stack_base = __builtin_frame_address(0);
    c->scope = &top;
    return set_vars(c) && oct_tmpl_exec(c, c->t->root);
}

oct_status oct_tmpl_render(const oct_template *t, const oct_template_input *in,
                           const oct_template_limits *limits, oct_buf *out, bool *type_error,
                           oct_err *err) {
    const oct_template_limits none = {0}, *l = limits ? limits : &none;
    tmpl_ctx c = {
        .t = t,
        .in = in,
        .steps_left = l->max_steps ? l->max_steps : DEFAULT_STEPS,
        .max_output_bytes = l->max_output_bytes ? l->max_output_bytes : DEFAULT_OUTPUT,
        .out = out,
        .out_start = out->len,
        .line = 1,
        .err = err,
    };
    if (out->failed) return OCT_FAIL(err, OCT_E_NOMEM, "template: the output buffer has failed");
    oct_arena_init(&c.arena, t->mem, l->max_memory_bytes ? l->max_memory_bytes : DEFAULT_MEMORY);
    const bool ok = run(&c);
    oct_arena_fini(&c.arena);
    *type_error = c.type_error;
    if (ok) return OCT_OK;
    out->len = c.out_start;
    if (out->data) out->data[out->len] = '\0';
    out->failed = false;
    return c.status;
}

oct_status oct_template_render(const oct_template *t, const oct_template_input *in,
                               const oct_template_limits *limits, oct_buf *out, oct_err *err) {
    bool type_error;
    return oct_tmpl_render(t, in, limits, out, &type_error, err);
}
