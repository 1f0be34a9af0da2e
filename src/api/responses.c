/*
 * api/responses.c - POST /v1/responses: a chat in the words of the Responses API.
 *
 * The answer is a list of items (reasoning, message, function_call); a stream tells each when it
 * begins, grows and ends, in numbered events with names, and ends without [DONE].
 */
#include "api/dialects.h"

/* ---- what the answer repeats of the request ---- */

static void repeat(const json_t *body, const char *name, const char *otherwise, oct_buf *b) {
    const json_t *v = json_object_get(body, name);
    oct_buf_printf(b, ",\"%s\":", name);
    if (v)
        oct_json_dump(b, v, JSON_COMPACT);
    else
        oct_buf_cstr(b, otherwise);
}

static void note_request(const json_t *body, oct_buf *b) {
    static const struct {
        const char *name, *otherwise;
    } all[] = {{"instructions", "null"},
               {"max_output_tokens", "null"},
               {"max_tool_calls", "null"},
               {"metadata", "{}"},
               {"parallel_tool_calls", "true"},
               {"reasoning", "null"},
               {"text", "{\"format\":{\"type\":\"text\"}}"},
               {"tool_choice", "\"auto\""},
               {"tools", "[]"},
               {"user", "null"}};
    for (size_t i = 0; i < OCT_COUNT(all); i++) repeat(body, all[i].name, all[i].otherwise, b);
}

/* ---- items ---- */

static const char *prefix_of(oct_speak_kind kind) {
    return kind == OCT_SPEAK_REASONING ? "rs_" : kind == OCT_SPEAK_CALL ? "fc_" : "msg_";
}

/* "msg_" and the response's own number, then the item's. */
static void write_item_id(const oct_api_choice *c, uint32_t i, oct_buf *b) {
    oct_buf id;
    oct_buf_init(&id, c->job->api->mem, 0);
    oct_buf_cstr(&id, prefix_of(c->speech.items[i].kind));
    const size_t skip = strlen(c->job->voice->id_prefix);
    oct_buf_cstr(&id, oct_buf_cs(&c->job->id) + skip);
    oct_buf_printf(&id, "_%u", i);
    oct_json_quote(b, oct_buf_view(&id));
    if (id.failed) b->failed = true;
    oct_buf_fini(&id);
}

static void write_text_part(oct_str text, oct_buf *b) {
    oct_buf_cstr(b, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
    oct_json_quote(b, text);
    oct_buf_char(b, '}');
}

static void write_reasoning_part(oct_str text, oct_buf *b) {
    oct_buf_cstr(b, "{\"type\":\"reasoning_text\",\"text\":");
    oct_json_quote(b, text);
    oct_buf_char(b, '}');
}

static void write_part(oct_speak_kind kind, oct_str text, oct_buf *b) {
    if (kind == OCT_SPEAK_REASONING)
        write_reasoning_part(text, b);
    else
        write_text_part(text, b);
}

/* An item as it is when it ends; begun: as it is when it begins. */
static void write_item(const oct_api_choice *c, uint32_t i, bool begun, oct_buf *b) {
    const oct_api_item *it = &c->speech.items[i];
    const oct_str text = begun ? OCT_STR("") : oct_api_item_text(c, i);
    const char *status = begun ? "in_progress" : "completed";
    oct_buf_cstr(b, "{\"id\":");
    write_item_id(c, i, b);
    if (it->kind == OCT_SPEAK_CALL) {
        oct_buf_printf(b, ",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":", status);
        oct_api_write_string(b, c->speech.calls[it->call].id);
        oct_buf_cstr(b, ",\"name\":");
        oct_json_quote(b, oct_api_call_name(c, it->call));
        oct_buf_cstr(b, ",\"arguments\":");
        oct_json_quote(b, text);
    } else {
        if (it->kind == OCT_SPEAK_REASONING)
            oct_buf_printf(b, ",\"type\":\"reasoning\",\"status\":\"%s\",\"summary\":[]", status);
        else
            oct_buf_printf(b, ",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\"",
                           status);
        oct_buf_cstr(b, ",\"content\":[");
        if (!begun) write_part(it->kind, text, b);
        oct_buf_char(b, ']');
    }
    oct_buf_char(b, '}');
}

/* ---- the response ---- */

static void write_usage(const oct_api_job *job, oct_buf *b) {
    uint32_t n_prompt, n_completion, n_cached;
    oct_api_job_usage(job, &n_prompt, &n_completion, &n_cached);
    oct_buf_printf(
        b,
        ",\"usage\":{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":%u},"
        "\"output_tokens\":%u,\"output_tokens_details\":{\"reasoning_tokens\":%u},"
        "\"total_tokens\":%u}",
        n_prompt, n_cached, n_completion, job->choices[0].speech.n_reasoning,
        n_prompt + n_completion);
}

/* The response: as it begins, or as it ended. */
static void write_response(const oct_api_job *job, bool begun, oct_buf *b) {
    const oct_api_choice *c = &job->choices[0];
    const bool cut = !begun && c->finish == OCT_FINISH_LENGTH;
    oct_buf_cstr(b, "{\"id\":");
    oct_json_quote(b, oct_buf_view(&job->id));
    oct_buf_printf(b,
                   ",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"background\":"
                   "false,\"error\":null,\"incomplete_details\":%s,\"model\":",
                   (long long)job->created,
                   begun ? "in_progress"
                   : cut ? "incomplete"
                         : "completed",
                   cut ? "{\"reason\":\"max_output_tokens\"}" : "null");
    oct_json_quote(b, oct_str_of(job->api->cfg.names[0]));
    oct_buf_cstr(b, ",\"output\":[");
    for (uint32_t i = 0; !begun && i < c->speech.n_items; i++) {
        if (i > 0) oct_buf_char(b, ',');
        write_item(c, i, false, b);
    }
    oct_buf_cstr(b,
                 "],\"previous_response_id\":null,\"service_tier\":\"default\",\"temperature\":");
    oct_json_f64(b, job->fields.temperature);
    oct_buf_cstr(b, ",\"top_p\":");
    oct_json_f64(b, job->fields.top_p);
    oct_buf_cstr(b, ",\"truncation\":\"disabled\"");
    oct_buf_str(b, oct_buf_view(&job->asked));
    if (begun)
        oct_buf_cstr(b, ",\"usage\":null");
    else
        write_usage(job, b);
    oct_buf_char(b, '}');
    if (c->speech.failed) b->failed = true;
}

static void respond(oct_api_job *job) {
    oct_buf b;
    oct_buf_init(&b, job->api->mem, 0);
    write_response(job, false, &b);
    if (oct_api_any_failed(job) || OCT_FAULT(JOB_ANSWER, oct_api_who(job))) b.failed = true;
    if (job->x) oct_api_answer(job->api, job->x, 200, &b);
    oct_buf_fini(&b);
}

/* ---- events ---- */

static void begin(oct_api_job *job, const char *name) {
    oct_api_begin_named(job, name);
    oct_buf_printf(&job->out, ",\"sequence_number\":%u", job->n_events++);
}

static void send_response(oct_api_job *job, const char *name, bool begun) {
    if (job->over && begun) return;
    begin(job, name);
    oct_buf_cstr(&job->out, ",\"response\":");
    write_response(job, begun, &job->out);
    oct_api_send_named(job);
}

static void send_item(oct_api_choice *c, uint32_t i, const char *name, bool begun) {
    begin(c->job, name);
    oct_buf_printf(&c->job->out, ",\"output_index\":%u,\"item\":", i);
    write_item(c, i, begun, &c->job->out);
    oct_api_send_named(c->job);
}

/* An event about the part of an item: what, and with a key its text. */
static void send_part(oct_api_choice *c, uint32_t i, const char *name, const char *key,
                      oct_str text) {
    oct_buf *b = &c->job->out;
    const oct_speak_kind kind = c->speech.items[i].kind;
    begin(c->job, name);
    oct_buf_cstr(b, ",\"item_id\":");
    write_item_id(c, i, b);
    oct_buf_printf(b, ",\"output_index\":%u", i);
    if (kind != OCT_SPEAK_CALL) oct_buf_cstr(b, ",\"content_index\":0");
    if (kind == OCT_SPEAK_CONTENT && key) oct_buf_cstr(b, ",\"logprobs\":[]");
    oct_buf_printf(b, ",\"%s\":", key ? key : "part");
    if (key)
        oct_json_quote(b, text);
    else
        write_part(kind, text, b);
    oct_api_send_named(c->job);
}

static void begin_item(oct_api_choice *c, uint32_t i) {
    send_item(c, i, "response.output_item.added", true);
    if (c->speech.items[i].kind != OCT_SPEAK_CALL)
        send_part(c, i, "response.content_part.added", NULL, OCT_STR(""));
}

static void grow_item(oct_api_choice *c, uint32_t i, oct_str text) {
    const oct_speak_kind kind = c->speech.items[i].kind;
    send_part(c, i,
              kind == OCT_SPEAK_CALL        ? "response.function_call_arguments.delta"
              : kind == OCT_SPEAK_REASONING ? "response.reasoning_text.delta"
                                            : "response.output_text.delta",
              "delta", text);
}

static void end_item(oct_api_choice *c, uint32_t i) {
    const oct_speak_kind kind = c->speech.items[i].kind;
    const oct_str text = oct_api_item_text(c, i);
    if (kind == OCT_SPEAK_CALL) {
        send_part(c, i, "response.function_call_arguments.done", "arguments", text);
    } else {
        send_part(c, i,
                  kind == OCT_SPEAK_REASONING ? "response.reasoning_text.done"
                                              : "response.output_text.done",
                  "text", text);
        send_part(c, i, "response.content_part.done", NULL, text);
    }
    send_item(c, i, "response.output_item.done", false);
}

static void output(oct_api_choice *c, const oct_output *out) {
    static const oct_api_item_voice items = {begin_item, grow_item, end_item};
    if (!c->begun) {
        c->begun = true;
        send_response(c->job, "response.created", true);
        send_response(c->job, "response.in_progress", true);
    }
    if (c->job->over) return;
    oct_api_stream_items(c, out, &items);
    c->finish = out->finish;
}

static void end(oct_api_job *job) {
    const bool cut = job->choices[0].finish == OCT_FINISH_LENGTH;
    send_response(job, cut ? "response.incomplete" : "response.completed", false);
    oct_api_end_named(job, false);
}

static void fail(oct_api_job *job, const oct_api_error *e) {
    oct_buf *b = &job->out;
    begin(job, "error");
    oct_buf_printf(b, ",\"code\":\"%d\",\"message\":", oct_api_error_status(e));
    oct_json_quote(b, oct_str_of(e->message));
    oct_buf_cstr(b, ",\"param\":null}\n\n");
    if (job->x && !b->failed) (void)oct_http_stream_write(job->x, oct_buf_view(b));
    oct_api_end_named(job, true);
}

const oct_api_voice oct_api_voice_responses = {.id_prefix = "resp_",
                                               .output = output,
                                               .end = end,
                                               .error = fail,
                                               .respond = respond,
                                               .items = true};

/* ---- the route ---- */

/* The chat's names for what has another one here. */
static void rename_param(oct_api_error *e) {
    static const char *const names[][2] = {{"messages", "input"},
                                           {"max_completion_tokens", "max_output_tokens"},
                                           {"response_format", "text"},
                                           {"reasoning_effort", "reasoning"}};
    for (size_t i = 0; i < OCT_COUNT(names); i++)
        if (strcmp(e->param, names[i][0]) == 0) strcpy(e->param, names[i][1]);
}

static oct_status read_response(oct_api_job *job, oct_api_error *e) {
    note_request(job->body, &job->asked);
    if (job->asked.failed) return oct_api_no_memory(e);
    OCT_TRY(oct_api_responses_translate(job, e));
    const oct_status st = oct_api_read_chat(job, e);
    if (st != OCT_OK) rename_param(e);
    return st;
}

void oct_api_route_responses(oct_api *api, oct_http_exchange *x) {
    oct_api_start_as(api, x, OCT_API_CHAT, &oct_api_voice_responses, read_response);
}
