/*
 * tests/support/spoken.h - the events of an answer gathered into one line that tests compare:
 *
 *     R(reasoning) C(content) F(name)(arguments)
 *
 * Text of one kind is one entry however it was cut.
 */
#ifndef OCT_TESTS_SPOKEN_H
#define OCT_TESTS_SPOKEN_H

#include "base/buf.h"
#include "speak/speak.h"

typedef struct spoken {
    oct_buf line;
    int last;   /* kind of the open entry; -1: none */
    bool wrong; /* an order of events that must not be */
} spoken;

static inline void spoken_note(void *ctx, oct_speak_kind kind, oct_str text) {
    spoken *s = ctx;
    static const char *const begin[] = {"C(", "R(", "F(", ")("};
    const bool in_call = s->last == OCT_SPEAK_CALL || s->last == OCT_SPEAK_ARGUMENTS;
    if (in_call != (kind == OCT_SPEAK_ARGUMENTS || kind == OCT_SPEAK_CALL_END)) s->wrong = true;
    if (text.len == 0 && kind != OCT_SPEAK_CALL_END && kind != OCT_SPEAK_ARGUMENTS) s->wrong = true;
    if (kind == OCT_SPEAK_CALL_END) {
        oct_buf_cstr(&s->line, s->last == OCT_SPEAK_CALL ? ")()" : ")");
        s->last = -1;
        return;
    }
    if ((int)kind != s->last) {
        if (s->last == OCT_SPEAK_CONTENT || s->last == OCT_SPEAK_REASONING)
            oct_buf_char(&s->line, ')');
        oct_buf_cstr(&s->line, begin[kind]);
    }
    oct_buf_str(&s->line, text);
    s->last = (int)kind;
}

/* Feeds text in pieces of at most step bytes (cut between characters); false: no memory. */
static inline bool spoken_run(const oct_allocator *mem, const oct_speak_setup *setup, oct_str text,
                              size_t step, spoken *out) {
    oct_speak *s = NULL;
    *out = (spoken){.last = -1};
    oct_buf_init(&out->line, oct_system_allocator(), 0);
    oct_status st = oct_speak_create(mem, setup, spoken_note, out, &s);
    for (size_t at = 0; st == OCT_OK && at < text.len;) {
        size_t n = text.len - at < step ? text.len - at : step;
        while (at + n < text.len && (text.ptr[at + n] & 0xC0) == 0x80) n++;
        st = oct_speak_feed(s, (oct_str){text.ptr + at, n});
        at += n;
    }
    if (st == OCT_OK) st = oct_speak_end(s);
    if (out->last >= 0) oct_buf_char(&out->line, ')');
    oct_speak_destroy(s);
    return st == OCT_OK;
}

#endif
