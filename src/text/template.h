/*
 * text/template.h - chat templates: the Jinja subset that model folders use, compiled once and
 * rendered with limits.
 *
 * Behaves as Jinja2 3.1 with trim_blocks and lstrip_blocks on, autoescape off and loop controls;
 * tojson is Python's json.dumps. Outside the subset (include, import, extends, recursive loops) a
 * template is refused when it is compiled. A template reaches the variables it is given and nothing
 * else: no file, no environment, no attribute beyond those listed in the room's README.
 *
 * Ownership  A template is counted: create gives one reference, retain adds one, release drops one.
 *            Input values are borrowed for the call.
 * Threads    A compiled template never changes; any number of threads may render it at once. A
 *            render needs at most OCT_TEMPLATE_STACK_BYTES of stack plus a few KiB.
 * Elsewhere  Shaping a request's messages for a template: text/chat.h.
 */
#ifndef OCT_TEXT_TEMPLATE_H
#define OCT_TEXT_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/buf.h"
#include "base/status.h"

enum {
    OCT_TEMPLATE_MAX_BYTES = 256 * 1024,   /* source text */
    OCT_TEMPLATE_MAX_NESTING = 64,         /* blocks and parentheses; macro calls in each other */
    OCT_TEMPLATE_STACK_BYTES = 144 * 1024, /* beyond it: "template limit exceeded" */
};

/* What one render may use. A member that is 0 stands for its default. */
typedef struct oct_template_limits {
    uint64_t max_steps;      /* nodes evaluated plus 512-byte pieces worked on; default 10^6 */
    size_t max_output_bytes; /* default 16 MiB */
    size_t max_memory_bytes; /* values made on the way, inputs included; default 256 MiB */
} oct_template_limits;

/* A special token ("bos_token", "<s>"). An absent value is not passed to the template at all. */
typedef struct oct_template_var {
    const char *name;
    const char *value; /* NULL: absent */
} oct_template_var;

typedef struct oct_template_input {
    const json_t *messages;  /* array */
    const json_t *tools;     /* array, or NULL for none */
    const json_t *documents; /* array, or NULL for none */
    bool add_generation_prompt;
    bool continue_final_message;
    const oct_template_var *vars; /* [n_vars] */
    size_t n_vars;
    const json_t *kwargs; /* object or NULL: further variables; win over vars, not over the above */
    time_t now;           /* what strftime_now formats, in local time; 0: the present */
} oct_template_input;

typedef struct oct_template oct_template;

typedef enum oct_template_content {
    OCT_TEMPLATE_CONTENT_STRING, /* message content is wanted as one string */
    OCT_TEMPLATE_CONTENT_PARTS,  /* the template loops over message content */
} oct_template_content;

/* Keeps a copy of the source. OCT_E_INVALID: syntax error, unknown filter, too long or too deeply
 * nested; the sentence names the line. OCT_E_UNSUPPORTED: a tag outside the subset. */
OCT_MUST_CHECK oct_status oct_template_create(const oct_allocator *mem, const char *source,
                                              size_t len, oct_template **out, oct_err *err);

oct_template *oct_template_retain(oct_template *t);
void oct_template_release(oct_template *t); /* accepts NULL */

/* Appends the rendering to *out; on failure *out is as it was. limits may be NULL.
 * OCT_E_INVALID: the template failed; err->text is raise_exception's message as given, "template
 * limit exceeded", or "template line N: reason". OCT_E_NOMEM: memory refused. */
OCT_MUST_CHECK oct_status oct_template_render(const oct_template *t, const oct_template_input *in,
                                              const oct_template_limits *limits, oct_buf *out,
                                              oct_err *err);

/* The form of message content that the template is written for, found in its syntax tree. */
oct_template_content oct_template_content_form(const oct_template *t);

/* True when the template insists on tool-call ids of nine characters (Mistral's do). */
bool oct_template_wants_short_ids(const oct_template *t);

/* Appends v as Python's json.dumps(v, ensure_ascii=False) does, without the blanks; key order is
 * kept. OCT_E_INVALID: deeper than OCT_TEMPLATE_MAX_NESTING or text that is too long. */
OCT_MUST_CHECK oct_status oct_template_dump_json(const json_t *v, oct_buf *out, oct_err *err);
/* With them: ", " and ": ". */
OCT_MUST_CHECK oct_status oct_template_dump_json_spaced(const json_t *v, oct_buf *out,
                                                        oct_err *err);

#endif
