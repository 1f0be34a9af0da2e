/*
 * text/chat.h - from the messages of a chat request to the prompt text.
 *
 * Shapes messages and tools the way templates expect them, renders, and applies the two rules that
 * templates cannot: an open last message, and tool-call arguments for templates that were written
 * for strings.
 *
 * Ownership  Inputs are borrowed and never changed; json_t results belong to the caller
 *            (json_decref).
 * Threads    Any. What is learnt about a template is kept in it atomically.
 */
#ifndef OCT_TEXT_CHAT_H
#define OCT_TEXT_CHAT_H

#include "text/template.h"

typedef enum oct_chat_args {
    OCT_CHAT_ARGS_OBJECT, /* tool-call arguments as objects */
    OCT_CHAT_ARGS_TEXT,   /* as compact JSON text */
} oct_chat_args;

typedef struct oct_chat_request {
    const json_t *messages;  /* array of message objects as they came */
    const json_t *tools;     /* array, or NULL */
    const json_t *documents; /* array, or NULL */
    bool add_generation_prompt;
    bool continue_final_message; /* leaves the last message open; no generation prompt then */
    const json_t *kwargs;        /* chat_template_kwargs, defaults already merged; object or NULL */
    const char *reasoning_effort; /* or NULL; also sets enable_thinking unless kwargs has it */
    const oct_template_var *vars; /* [n_vars] special tokens */
    size_t n_vars;
    time_t now; /* for strftime_now; 0: the present */
} oct_chat_request;

/* Messages for a template: content as one string (parts joined by newlines) or as parts, null
 * content as "" or [], arguments of tool calls parsed, empty tool_calls removed, reasoning under
 * both of its names. OCT_E_INVALID: a shape that is not a message; the sentence begins with the
 * path
 * ("messages[2].content"). OCT_E_UNSUPPORTED: a part that is not text (images, audio, video). */
OCT_MUST_CHECK oct_status oct_chat_messages(const oct_template *t, const json_t *messages,
                                            oct_chat_args args, json_t **out, oct_err *err);

/* The whole way: appends the prompt to *out, which on failure is as it was. Besides the errors of
 * the above and of oct_template_render, OCT_E_INVALID for kwargs that name messages, tools,
 * chat_template or tokenize, that are more than 256 or nested too deeply, and when the text of a
 * message to be continued is not found in the rendering. */
OCT_MUST_CHECK oct_status oct_chat_render(const oct_template *t, const oct_chat_request *req,
                                          const oct_template_limits *limits, oct_buf *out,
                                          oct_err *err);

#endif
