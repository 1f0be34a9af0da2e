/*
 * api/dialects.h - what the dialects share that ask for a chat in other words: the Responses API
 * (responses_read.c, responses.c) and Anthropic's messages (messages_read.c, messages.c).
 *
 * Each reads a body, makes the body of a chat of it, and lets the chat read that; the same job
 * runs. Its answer is told as items: reasoning, text, calls, in the order in which they were said.
 */
#ifndef OCT_API_DIALECTS_H
#define OCT_API_DIALECTS_H

#include "api/parts.h"

/* ---- reading (dialects.c); what fails is no memory ---- */

/* The value, or NULL when absent or null. */
const json_t *oct_api_given(const json_t *body, const char *name);
/* A copy of body without the chat's fields that no dialect has or means as the chat does, and
 * without those of not_here[n]; NULL: no memory. */
json_t *oct_api_chat_of(const json_t *body, const char *const *not_here, size_t n);
/* Borrows v; NULL is left out. */
bool oct_api_put(json_t *to, const char *key, const json_t *v);
/* Takes v; false when it is NULL. */
bool oct_api_put_new(json_t *to, const char *key, json_t *v);
/* {"role": role, "content": content} behind list, which is borrowed; NULL: no memory. */
json_t *oct_api_add_message(json_t *list, const char *role, const json_t *content);
/* The last message of list if it is the assistant's, else a new one without content. */
json_t *oct_api_last_assistant(json_t *list);
/* {"id", "type", "function": {"name", "arguments"}} behind the message's tool_calls. */
bool oct_api_add_tool_call(json_t *message, const json_t *id, const json_t *name,
                           const json_t *args);
/* {"type": "function", "function": {"name", "description", "parameters", "strict"}} behind list. */
bool oct_api_add_tool(json_t *list, const json_t *name, const json_t *description,
                      const json_t *parameters, const json_t *strict);
/* "WHERE[i]NAME: WANT (got X)", malformed. */
oct_status oct_api_wrong_item(const char *where, size_t i, const char *name, const char *want,
                              const json_t *got, oct_api_error *e);

/* ---- streams with named events (dialects.c); with job->lock held ---- */

/* Empties job->out and begins an event: event: NAME, data: {"type":"NAME" */
void oct_api_begin_named(oct_api_job *job, const char *name);
/* Ends and sends it. */
void oct_api_send_named(oct_api_job *job);
/* Ends the stream. */
void oct_api_end_named(oct_api_job *job, bool close_after);

/* ---- items (items.c) ---- */

/* What a dialect sends as items come; called in this order, with job->lock held. */
typedef struct oct_api_item_voice {
    void (*begin)(oct_api_choice *c, uint32_t item);
    void (*delta)(oct_api_choice *c, uint32_t item, oct_str text);
    void (*end)(oct_api_choice *c, uint32_t item);
} oct_api_item_voice;

/* Takes an output's events into the choice's items and tells v of them. */
void oct_api_stream_items(oct_api_choice *c, const oct_output *out, const oct_api_item_voice *v);
/* The text of an item: reasoning, content, or a call's arguments. */
oct_str oct_api_item_text(const oct_api_choice *c, uint32_t item);

/* ---- the dialects' own ---- */

extern const oct_api_voice oct_api_voice_responses, oct_api_voice_messages;
/* From the body of job to that of a chat, which takes its place. */
OCT_MUST_CHECK oct_status oct_api_responses_translate(oct_api_job *job, oct_api_error *e);
OCT_MUST_CHECK oct_status oct_api_messages_translate(oct_api_job *job, oct_api_error *e);

#endif
