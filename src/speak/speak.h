/*
 * speak/speak.h - what a model's answer says: reasoning, content, tool calls.
 *
 * A model writes one text; chat formats hide thoughts and calls in it between tags. An oct_speak
 * takes that text piece by piece and tells it apart. Which tags and which shape of a call a model
 * was trained on is a parser with a name; there is one table for reasoning (reasoning.c) and one
 * for calls (tools.c).
 *
 *     feed "<think>a", "b</th", "ink>Hi<tool_c", ...  ->  REASONING "a", "b", CONTENT "Hi", ...
 *
 * What is told does not depend on how the text was cut. A tail that could begin a tag is held back
 * until it is known. A call is told when it is whole, so that one that cannot be read is what it
 * is: text. The whole answer is the events of the stream, gathered.
 *
 * Ownership  An oct_speak owns what it holds back; it borrows the setup's json and name until
 *            destroy. Spans handed to the callback live for that call.
 * Threads    One at a time. The tables are constant.
 * Elsewhere  Words of answers and streams: api/. The other way, calls in a prompt: text/chat.h.
 */
#ifndef OCT_SPEAK_SPEAK_H
#define OCT_SPEAK_SPEAK_H

#include <jansson.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/str.h"

typedef enum oct_speak_kind {
    OCT_SPEAK_CONTENT,
    OCT_SPEAK_REASONING,
    OCT_SPEAK_CALL,      /* a call begins; the text is the function's name */
    OCT_SPEAK_ARGUMENTS, /* a piece of its arguments, JSON with ", " and ": " */
    OCT_SPEAK_CALL_END,  /* no text */
} oct_speak_kind;

typedef void oct_speak_fn(void *ctx, oct_speak_kind kind, oct_str text);

/* What the end of the prompt says: the last reasoning tag of the turn that the model goes on with.
 */
typedef enum oct_speak_start {
    OCT_SPEAK_UNSAID, /* no tag there: the parser's own rule */
    OCT_SPEAK_OPEN,
    OCT_SPEAK_CLOSED,
} oct_speak_start;

/* ---- the parsers ---- */

typedef struct oct_speak_reasoning oct_speak_reasoning;
typedef struct oct_speak_tools oct_speak_tools;

/* NULL: no parser of that name. */
const oct_speak_reasoning *oct_speak_find_reasoning(const char *name);
const oct_speak_tools *oct_speak_find_tools(const char *name);
/* All names, "|" between them. */
const char *oct_speak_reasoning_names(void);
const char *oct_speak_tools_names(void);

/* The tags around reasoning. */
oct_str oct_speak_open_tag(const oct_speak_reasoning *r);
oct_str oct_speak_close_tag(const oct_speak_reasoning *r);
/* Whether an answer goes on with reasoning, or begins with it, so that what was demanded of it
 * counts only behind the closing tag. The arguments are those of oct_speak_setup. */
bool oct_speak_reasons_first(const oct_speak_reasoning *r, oct_speak_start start, int thinking);
/* True when calls need ids of nine letters and digits (Mistral's templates). */
bool oct_speak_wants_short_ids(const oct_speak_tools *t);

/* ---- one answer ---- */

typedef enum oct_speak_mode {
    OCT_SPEAK_AUTO,     /* calls as the tool parser finds them; without one all is content */
    OCT_SPEAK_REQUIRED, /* the content is a JSON array of {"name", "parameters"} */
    OCT_SPEAK_NAMED,    /* the content is the arguments of the function `name` */
} oct_speak_mode;

typedef struct oct_speak_setup {
    const oct_speak_reasoning *reasoning; /* NULL: nothing is reasoning */
    oct_speak_start start;
    int thinking; /* what template variables say (enable_thinking, thinking): 1, 0; -1: nothing */
    const oct_speak_tools *tools; /* NULL: no calls, unless the mode says so */
    oct_speak_mode mode;
    oct_str name;            /* OCT_SPEAK_NAMED */
    const json_t *functions; /* the request's tools: types of parameters; may be NULL */
    bool one_call;           /* later calls are dropped */
} oct_speak_setup;

typedef struct oct_speak oct_speak;

/* OCT_E_NOMEM. */
OCT_MUST_CHECK oct_status oct_speak_create(const oct_allocator *mem, const oct_speak_setup *setup,
                                           oct_speak_fn *fn, void *ctx, oct_speak **out);
void oct_speak_destroy(oct_speak *s); /* accepts NULL */
/* The next piece, UTF-8, cut anywhere. OCT_E_NOMEM; nothing is told any more then. */
OCT_MUST_CHECK oct_status oct_speak_feed(oct_speak *s, oct_str text);
/* The text is over: what was held back is told. Once. */
OCT_MUST_CHECK oct_status oct_speak_end(oct_speak *s);

#endif
