/* speak/speak.c - the two machines one behind the other: reasoning first, calls in what is left. */
#include "speak/speak.h"

#include "speak/parts.h"

struct oct_speak {
    const oct_allocator *mem;
    oct_speak_fn *fn;
    void *ctx;
    oct_speak_thoughts thoughts;
    oct_speak_calls calls;
};

static void take(void *ctx, oct_speak_kind kind, oct_str text) {
    oct_speak *s = ctx;
    if (kind == OCT_SPEAK_REASONING)
        s->fn(s->ctx, kind, text);
    else
        oct_speak_calls_feed(&s->calls, text, false);
}

oct_status oct_speak_create(const oct_allocator *mem, const oct_speak_setup *setup,
                            oct_speak_fn *fn, void *ctx, oct_speak **out) {
    oct_speak *s = oct_calloc(mem, 1, sizeof *s);
    *out = NULL;
    if (!s) return OCT_E_NOMEM;
    s->mem = mem;
    s->fn = fn;
    s->ctx = ctx;
    oct_speak_thoughts_init(&s->thoughts, mem, setup, take, s);
    oct_speak_calls_init(&s->calls, mem, setup, fn, ctx);
    if (s->thoughts.held.failed) {
        oct_speak_destroy(s);
        return OCT_E_NOMEM;
    }
    *out = s;
    return OCT_OK;
}

void oct_speak_destroy(oct_speak *s) {
    if (!s) return;
    oct_buf_fini(&s->thoughts.held);
    oct_speak_calls_fini(&s->calls);
    oct_free(s->mem, s, 1, sizeof *s);
}

static oct_status state(const oct_speak *s) {
    return s->thoughts.held.failed || s->calls.failed ? OCT_E_NOMEM : OCT_OK;
}

oct_status oct_speak_feed(oct_speak *s, oct_str text) {
    OCT_TRY(state(s));
    oct_speak_thoughts_feed(&s->thoughts, text, false);
    return state(s);
}

oct_status oct_speak_end(oct_speak *s) {
    OCT_TRY(state(s));
    oct_speak_thoughts_feed(&s->thoughts, OCT_STR(""), true);
    OCT_TRY(state(s));
    oct_speak_calls_feed(&s->calls, OCT_STR(""), true);
    return state(s);
}
