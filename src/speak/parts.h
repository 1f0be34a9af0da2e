/* speak/parts.h - what the files of this room share; not for others. */
#ifndef OCT_SPEAK_PARTS_H
#define OCT_SPEAK_PARTS_H

#include "base/buf.h"
#include "codec/json.h"
#include "speak/speak.h"

/* ---- tags.c ---- */

enum { OCT_SPEAK_MAX_TAGS = 4 };

typedef struct oct_speak_hit {
    size_t at; /* where a tag begins, or may begin: text before is no part of any */
    int tag;   /* index of the whole tag there; -1: none yet */
} oct_speak_hit;

/* The first whole tag in text, or where its tail could begin one. */
oct_speak_hit oct_speak_find_tag(oct_str text, const oct_str *tags, int n);
/* Length of the blanks at the beginning. */
size_t oct_speak_blanks(oct_str text);

/* Where one JSON value (or Python literal) ends that comes in pieces; brackets and quotes only. */
typedef struct oct_speak_balance {
    size_t at; /* bytes that were looked at */
    size_t depth;
    char quote; /* inside a string: how it ends */
    bool escaped, begun, named;
} oct_speak_balance;

/* True when text, of which the first b->at bytes were seen by earlier calls, holds the whole value;
 * b->at is then its end. */
bool oct_speak_balanced(oct_speak_balance *b, oct_str text);

/* ---- reasoning.c: tells reasoning, and hands the rest on ---- */

typedef struct oct_speak_thoughts {
    const oct_speak_reasoning *parser;
    enum { THOUGHTS_BEFORE, THOUGHTS_INSIDE, THOUGHTS_AFTER } state;
    bool opens_only; /* without an opening tag there is no reasoning */
    oct_buf held;
    oct_speak_fn *fn; /* gets CONTENT for what is no reasoning */
    void *ctx;
} oct_speak_thoughts;

void oct_speak_thoughts_init(oct_speak_thoughts *t, const oct_allocator *mem,
                             const oct_speak_setup *setup, oct_speak_fn *fn, void *ctx);
void oct_speak_thoughts_feed(oct_speak_thoughts *t, oct_str text, bool last);

/* ---- tools.c: tells calls and content ---- */

/* A call that was read and not yet told: spans of texts. */
typedef struct oct_speak_pending {
    size_t name_at, name_len, args_at, args_len;
} oct_speak_pending;

typedef struct oct_speak_calls {
    const oct_allocator *mem;
    const oct_speak_tools *parser; /* NULL: all is content */
    oct_speak_mode mode;
    oct_str name;
    const json_t *functions;
    bool one_call;

    oct_speak_fn *fn;
    void *ctx;

    oct_buf text;   /* from past_at on: held back, or the block that was begun */
    size_t past_at; /* what is before has been told; it goes when the feed is over */
    oct_buf blanks; /* at the beginning or behind a call: told with what follows, or not at all */
    int opening;    /* of the block; -1: outside */
    size_t body_at; /* where it begins, behind past_at */
    size_t seen;    /* for a closing tag: bytes that were looked at */
    oct_speak_balance balance;
    bool told_text; /* content that was not blank */
    uint32_t n_calls;
    bool named_begun;

    oct_buf spoken; /* of pending */
    oct_speak_pending *pending;
    size_t n_pending, cap_pending;
    bool failed; /* refused memory */
} oct_speak_calls;

void oct_speak_calls_init(oct_speak_calls *c, const oct_allocator *mem,
                          const oct_speak_setup *setup, oct_speak_fn *fn, void *ctx);
void oct_speak_calls_fini(oct_speak_calls *c);
void oct_speak_calls_feed(oct_speak_calls *c, oct_str text, bool last);

/* Reads the body of a block into pending calls; false: it is none. */
typedef bool oct_speak_decode(oct_speak_calls *c, oct_str body);
oct_speak_decode oct_speak_decode_hermes, oct_speak_decode_llama, oct_speak_decode_mistral,
    oct_speak_decode_deepseek, oct_speak_decode_qwen, oct_speak_decode_minimax,
    oct_speak_decode_python, oct_speak_decode_required;

/* A call with these arguments: an object, or NULL for none; borrowed. */
bool oct_speak_add_call(oct_speak_calls *c, oct_str name, const json_t *args);
/* Reads text as JSON; NULL: it is none (or there was no memory: c->failed). */
json_t *oct_speak_read_json(oct_speak_calls *c, oct_str text);
/* Text of a parameter as its schema wants it; takes nothing; NULL: no memory. */
json_t *oct_speak_typed(oct_speak_calls *c, oct_str function, oct_str parameter, oct_str text);

#endif
