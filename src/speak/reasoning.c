/*
 * speak/reasoning.c - the table of reasoning parsers, and the machine that they are rows of.
 *
 * BEFORE  nothing but blanks has come: an opening tag here is dropped, with the blanks
 * INSIDE  reasoning, until the closing tag (or a tag of `also`, which stays)
 * AFTER   all is handed on
 *
 * Newlines around tags stay with the text that they stand in.
 */
#include "base/attr.h"
#include "speak/parts.h"

typedef enum rule {
    THINKS,          /* unless the prompt or the variables say no */
    THINKS_IF_ASKED, /* only when the variables say so */
    THINKS_IF_OPENED /* when the answer begins with the opening tag */
} rule;

struct oct_speak_reasoning {
    const char *name;
    const char *open, *close;
    rule rule;
    const char *also; /* ends reasoning too, and belongs to what follows; NULL: nothing */
    bool keeps_tags;  /* everything is content, the opening tag of the prompt included */
};

static const oct_speak_reasoning table[] = {
    {"deepseek_r1", "<think>", "</think>", THINKS, NULL, false},
    {"deepseek_v3", "<think>", "</think>", THINKS_IF_ASKED, NULL, false},
    {"glm45", "<think>", "</think>", THINKS_IF_OPENED, NULL, false},
    {"minimax_m2", "<think>", "</think>", THINKS, NULL, false},
    {"minimax_m2_append_think", "<think>", "</think>", THINKS, NULL, true},
    {"mistral", "[THINK]", "[/THINK]", THINKS_IF_OPENED, NULL, false},
    {"qwen3", "<think>", "</think>", THINKS, "<tool_call>", false},
};

const oct_speak_reasoning *oct_speak_find_reasoning(const char *name) {
    for (size_t i = 0; i < OCT_COUNT(table); i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

const char *oct_speak_reasoning_names(void) {
    return "deepseek_r1|deepseek_v3|glm45|minimax_m2|minimax_m2_append_think|mistral|qwen3";
}

oct_str oct_speak_open_tag(const oct_speak_reasoning *r) { return oct_str_of(r->open); }
oct_str oct_speak_close_tag(const oct_speak_reasoning *r) { return oct_str_of(r->close); }

/* Where the opening tag may or may not come, only those who were asked to think are waited for. */
bool oct_speak_reasons_first(const oct_speak_reasoning *r, oct_speak_start start, int thinking) {
    if (r->rule == THINKS_IF_ASKED && thinking != 1) return false;
    if (start != OCT_SPEAK_UNSAID) return start == OCT_SPEAK_OPEN;
    return r->rule == THINKS ? thinking != 0 : thinking == 1;
}

static bool thinks(const oct_speak_setup *s) {
    if (s->reasoning->rule == THINKS_IF_OPENED && s->start == OCT_SPEAK_UNSAID) return false;
    return oct_speak_reasons_first(s->reasoning, s->start, s->thinking);
}

void oct_speak_thoughts_init(oct_speak_thoughts *t, const oct_allocator *mem,
                             const oct_speak_setup *setup, oct_speak_fn *fn, void *ctx) {
    *t = (oct_speak_thoughts){.parser = setup->reasoning, .fn = fn, .ctx = ctx};
    oct_buf_init(&t->held, mem, 0);
    t->state = THOUGHTS_AFTER;
    if (!t->parser) return;
    const bool may_open = t->parser->rule == THINKS_IF_OPENED && setup->start == OCT_SPEAK_UNSAID &&
                          setup->thinking != 0;
    t->opens_only = may_open;
    if (t->parser->keeps_tags) {
        if (thinks(setup)) oct_buf_cstr(&t->held, t->parser->open);
    } else if (thinks(setup) || may_open) {
        t->state = THOUGHTS_BEFORE;
    }
}

static void tell(oct_speak_thoughts *t, oct_speak_kind kind, size_t n) {
    if (n > 0) t->fn(t->ctx, kind, (oct_str){oct_buf_cs(&t->held), n});
    oct_buf_consume(&t->held, n);
}

/* False: more text is needed. */
static bool before(oct_speak_thoughts *t, bool last) {
    const oct_str text = oct_buf_view(&t->held), open = oct_str_of(t->parser->open);
    const size_t blanks = oct_speak_blanks(text);
    const oct_str rest = {text.ptr + blanks, text.len - blanks};
    if (oct_str_starts(rest, open)) {
        oct_buf_consume(&t->held, blanks + open.len);
        t->state = THOUGHTS_INSIDE;
        return true;
    }
    if (!last && oct_str_starts(open, rest)) return false; /* blanks alone too */
    t->state = t->opens_only ? THOUGHTS_AFTER : THOUGHTS_INSIDE;
    return true;
}

static bool inside(oct_speak_thoughts *t, bool last) {
    const oct_str tags[] = {oct_str_of(t->parser->close), oct_str_of(t->parser->also)};
    const oct_speak_hit hit =
        oct_speak_find_tag(oct_buf_view(&t->held), tags, t->parser->also ? 2 : 1);
    tell(t, OCT_SPEAK_REASONING, last && hit.tag < 0 ? t->held.len : hit.at);
    if (hit.tag < 0) return false;
    if (hit.tag == 0) oct_buf_consume(&t->held, tags[0].len);
    t->state = THOUGHTS_AFTER;
    return true;
}

void oct_speak_thoughts_feed(oct_speak_thoughts *t, oct_str text, bool last) {
    if (t->state == THOUGHTS_AFTER && t->held.len == 0) { /* the usual case, without a copy */
        if (text.len > 0) t->fn(t->ctx, OCT_SPEAK_CONTENT, text);
        return;
    }
    oct_buf_str(&t->held, text);
    if (t->held.failed) return;
    if (t->state == THOUGHTS_BEFORE && !before(t, last)) return;
    if (t->state == THOUGHTS_INSIDE && !inside(t, last)) return;
    tell(t, OCT_SPEAK_CONTENT, t->held.len);
}
