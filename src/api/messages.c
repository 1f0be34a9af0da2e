/*
 * api/messages.c - POST /v1/messages and /v1/messages/count_tokens: a chat in Anthropic's words.
 *
 * The answer is a list of blocks (thinking, text, tool_use); a stream tells each when it begins,
 * grows and ends. Refusals have that API's shape too, on these paths only.
 */
#include "api/dialects.h"
#include "codec/utf8.h"

/* ---- refusals ---- */

void oct_api_messages_error_body(int status, const char *message, oct_buf *out) {
    const char *type = "invalid_request_error";
    const oct_str all = oct_str_of(message);
    if (status == 401) type = "authentication_error";
    if (status == 404) type = "not_found_error";
    if (status == 413) type = "request_too_large";
    if (status == 500) type = "api_error";
    if (status == 503) type = "overloaded_error";
    oct_buf_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", type);
    oct_json_quote(out, (oct_str){all.ptr, oct_utf8_complete_len(all)});
    oct_buf_cstr(out, "},\"request_id\":null}");
}

/* ---- blocks ---- */

/* Arguments that a demand made and its length cut off are no JSON. */
static void write_input(oct_str arguments, oct_buf *b) {
    json_t *v = NULL;
    const bool good =
        oct_json_parse(arguments, "input", &oct_json_request_limits, &v, NULL) == OCT_OK &&
        json_is_object(v);
    if (good)
        oct_buf_str(b, arguments);
    else
        oct_buf_cstr(b, "{}");
    json_decref(v);
}

/* A block as it is when it ends; begun: as it is when it begins. */
static void write_block(const oct_api_choice *c, uint32_t i, bool begun, oct_buf *b) {
    const oct_api_item *it = &c->speech.items[i];
    const oct_str text = begun ? OCT_STR("") : oct_api_item_text(c, i);
    if (it->kind == OCT_SPEAK_CALL) {
        oct_buf_cstr(b, "{\"type\":\"tool_use\",\"id\":");
        oct_api_write_string(b, c->speech.calls[it->call].id);
        oct_buf_cstr(b, ",\"name\":");
        oct_json_quote(b, oct_api_call_name(c, it->call));
        oct_buf_cstr(b, ",\"input\":");
        write_input(text, b);
    } else if (it->kind == OCT_SPEAK_REASONING) {
        oct_buf_cstr(b, "{\"type\":\"thinking\",\"signature\":\"\",\"thinking\":");
        oct_json_quote(b, text);
    } else {
        oct_buf_cstr(b, "{\"type\":\"text\",\"text\":");
        oct_json_quote(b, text);
    }
    oct_buf_char(b, '}');
}

/* ---- the message ---- */

static void write_stop(const oct_api_choice *c, oct_buf *b) {
    const bool word = c->finish == OCT_FINISH_STOP && c->stop_kind == OCT_STOP_STRING;
    const char *reason = c->finish == OCT_FINISH_LENGTH ? "max_tokens"
                         : word                         ? "stop_sequence"
                                                        : "end_turn";
    if (c->speech.n_calls > 0 && c->finish == OCT_FINISH_STOP) reason = "tool_use";
    oct_buf_printf(b, "\"stop_reason\":\"%s\",\"stop_sequence\":", reason);
    if (word)
        oct_json_quote(b, oct_buf_view(&c->stop_text));
    else
        oct_buf_cstr(b, "null");
}

static void write_usage(const oct_api_job *job, bool begun, oct_buf *b) {
    uint32_t n_prompt, n_completion, n_cached;
    oct_api_job_usage(job, &n_prompt, &n_completion, &n_cached);
    oct_buf_printf(b,
                   "\"usage\":{\"input_tokens\":%u,\"cache_creation_input_tokens\":0,"
                   "\"cache_read_input_tokens\":%u,\"output_tokens\":%u}",
                   n_prompt - n_cached, n_cached, begun ? 0 : n_completion);
}

static void write_message(const oct_api_job *job, bool begun, oct_buf *b) {
    const oct_api_choice *c = &job->choices[0];
    oct_buf_cstr(b, "{\"id\":");
    oct_json_quote(b, oct_buf_view(&job->id));
    oct_buf_cstr(b, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    oct_json_quote(b, oct_str_of(job->api->cfg.names[0]));
    oct_buf_cstr(b, ",\"content\":[");
    for (uint32_t i = 0; !begun && i < c->speech.n_items; i++) {
        if (i > 0) oct_buf_char(b, ',');
        write_block(c, i, false, b);
    }
    oct_buf_cstr(b, "],");
    if (begun)
        oct_buf_cstr(b, "\"stop_reason\":null,\"stop_sequence\":null");
    else
        write_stop(c, b);
    oct_buf_char(b, ',');
    write_usage(job, begun, b);
    oct_buf_char(b, '}');
    if (c->speech.failed) b->failed = true;
}

static void respond(oct_api_job *job) {
    oct_buf b;
    oct_buf_init(&b, job->api->mem, 0);
    write_message(job, false, &b);
    if (oct_api_any_failed(job) || OCT_FAULT(JOB_ANSWER, oct_api_who(job))) b.failed = true;
    if (job->x) oct_api_answer(job->api, job->x, 200, &b);
    oct_buf_fini(&b);
}

/* ---- events ---- */

static void begin_block(oct_api_choice *c, uint32_t i) {
    oct_api_begin_named(c->job, "content_block_start");
    oct_buf_printf(&c->job->out, ",\"index\":%u,\"content_block\":", i);
    write_block(c, i, true, &c->job->out);
    oct_api_send_named(c->job);
}

static void grow_block(oct_api_choice *c, uint32_t i, oct_str text) {
    static const char *const kinds[][2] = {[OCT_SPEAK_CONTENT] = {"text_delta", "text"},
                                           [OCT_SPEAK_REASONING] = {"thinking_delta", "thinking"},
                                           [OCT_SPEAK_CALL] = {"input_json_delta", "partial_json"}};
    const char *const *words = kinds[c->speech.items[i].kind];
    oct_buf *b = &c->job->out;
    oct_api_begin_named(c->job, "content_block_delta");
    oct_buf_printf(b, ",\"index\":%u,\"delta\":{\"type\":\"%s\",\"%s\":", i, words[0], words[1]);
    oct_json_quote(b, text);
    oct_buf_char(b, '}');
    oct_api_send_named(c->job);
}

static void end_block(oct_api_choice *c, uint32_t i) {
    oct_api_begin_named(c->job, "content_block_stop");
    oct_buf_printf(&c->job->out, ",\"index\":%u", i);
    oct_api_send_named(c->job);
}

static void output(oct_api_choice *c, const oct_output *out) {
    static const oct_api_item_voice blocks = {begin_block, grow_block, end_block};
    oct_api_job *job = c->job;
    if (!c->begun) {
        c->begun = true;
        oct_api_begin_named(job, "message_start");
        oct_buf_cstr(&job->out, ",\"message\":");
        write_message(job, true, &job->out);
        oct_api_send_named(job);
    }
    if (job->over) return;
    oct_api_stream_items(c, out, &blocks);
    c->finish = out->finish;
    c->stop_kind = out->stop_kind;
    if (out->finish != OCT_FINISH_NONE) oct_buf_str(&c->stop_text, out->stop_text);
}

static void end(oct_api_job *job) {
    oct_buf *b = &job->out;
    oct_api_begin_named(job, "message_delta");
    oct_buf_cstr(b, ",\"delta\":{");
    write_stop(&job->choices[0], b);
    oct_buf_cstr(b, "},");
    write_usage(job, false, b);
    oct_api_send_named(job);
    oct_api_begin_named(job, "message_stop");
    oct_api_send_named(job);
    oct_api_end_named(job, false);
}

static void fail(oct_api_job *job, const oct_api_error *e) {
    oct_buf *b = &job->out;
    oct_buf_clear(b);
    oct_buf_cstr(b, "event: error\ndata: ");
    oct_api_messages_error_body(oct_api_error_status(e), e->message, b);
    oct_buf_cstr(b, "\n\n");
    if (job->x && !b->failed) (void)oct_http_stream_write(job->x, oct_buf_view(b));
    oct_api_end_named(job, true);
}

const oct_api_voice oct_api_voice_messages = {.id_prefix = "msg_",
                                              .output = output,
                                              .end = end,
                                              .error = fail,
                                              .respond = respond,
                                              .items = true};

/* ---- the routes ---- */

static oct_status read_message(oct_api_job *job, oct_api_error *e) {
    const json_t *most = oct_api_given(job->body, "max_tokens");
    if (!most) return oct_api_refuse(e, OCT_API_MALFORMED, "max_tokens", "max_tokens: missing");
    OCT_TRY(oct_api_messages_translate(job, e));
    return oct_api_read_chat(job, e);
}

void oct_api_route_messages(oct_api *api, oct_http_exchange *x) {
    oct_api_start_as(api, x, OCT_API_CHAT, &oct_api_voice_messages, read_message);
}

static oct_status count(oct_api_job *job, oct_str text, oct_buf *b, oct_api_error *e) {
    OCT_TRY(oct_api_parse_body(job->api, text, &job->body, e));
    json_object_del(job->body, "max_tokens");
    OCT_TRY(oct_api_messages_translate(job, e));
    OCT_TRY(oct_api_read_chat(job, e));
    oct_buf_printf(b, "{\"input_tokens\":%zu}", job->prompts[0].ids.len);
    return OCT_OK;
}

void oct_api_route_count_tokens(oct_api *api, oct_http_exchange *x) {
    oct_api_answer_job(api, x, OCT_API_CHAT, count);
}
