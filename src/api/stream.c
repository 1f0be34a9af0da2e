/*
 * api/stream.c - answers as server-sent events.
 *
 * The head of the stream leaves with the first output of the engine, never before: clients measure
 * the time to the first token by it. Keys that were never set are absent from events.
 */
#include "api/parts.h"
#include "codec/sse.h"

/* ---- one event ---- */

/* {"id":..., ..., "choices":[ */
static void begin_event(oct_api_job *job) {
    oct_buf *b = &job->out;
    oct_buf_clear(b);
    oct_buf_cstr(b, "data: {\"id\":");
    oct_json_quote(b, oct_buf_view(&job->id));
    oct_buf_printf(b, ",\"object\":\"%s\",\"created\":%lld,\"model\":",
                   job->shape == OCT_API_CHAT ? "chat.completion.chunk" : "text_completion",
                   (long long)job->created);
    oct_json_quote(b, oct_str_of(job->api->cfg.names[0]));
    oct_buf_cstr(b, ",\"choices\":[");
}

/* A failed buffer ends the stream as an error does. */
static void send(oct_api_job *job) {
    oct_api_error e;
    oct_buf *b = &job->out;
    oct_buf_cstr(b, "}\n\n");
    if (OCT_FAULT(JOB_EVENT, oct_api_who(job))) b->failed = true;
    if (!b->failed) {
        if (job->x) (void)oct_http_stream_write(job->x, oct_buf_view(b));
        return;
    }
    oct_api_no_memory(&e);
    job->over = true;
    job->voice->error(job, &e);
}

/* What the first event of a chat choice says about its prompt. */
static void write_prompt(const oct_api_choice *c) {
    oct_buf *b = &c->job->out;
    if (c->job->fields.return_token_ids) {
        oct_buf_cstr(b, ",\"prompt_token_ids\":");
        oct_api_write_ids(b, c->prompt->ids.data, c->prompt->ids.len);
    }
    if (c->job->fields.return_prompt_text) {
        oct_buf_cstr(b, ",\"prompt_text\":");
        oct_json_quote(b, oct_buf_view(&c->prompt->text));
    }
}

/* Usage so far, and the fingerprint in the last event of all that has choices. */
static void end_chunk(oct_api_choice *c, bool last) {
    oct_api_job *job = c->job;
    oct_buf *b = &job->out;
    oct_buf_char(b, ']');
    if (!c->begun && job->shape == OCT_API_CHAT) write_prompt(c);
    if (job->fields.continuous_usage) {
        oct_buf_cstr(b, ",\"usage\":");
        oct_api_write_usage(job, (uint32_t)c->prompt->ids.len, c->n_completion, c->n_cached, b);
    }
    if (last && !job->fields.include_usage && job->api->cfg.fingerprint) {
        oct_buf_cstr(b, ",\"system_fingerprint\":");
        oct_api_write_string(b, job->api->cfg.fingerprint);
    }
    if (last && !job->fields.include_usage) oct_api_write_metrics(job, b);
    send(job);
}

/* ---- chat ---- */

static void write_content(oct_api_choice *c, oct_str text) {
    oct_buf_cstr(&c->job->out, "\"content\":");
    oct_json_quote(&c->job->out, text);
}

/* What an event adds to the answer; NULL: nothing. */
static void write_delta(oct_api_choice *c, const oct_api_event *ev) {
    oct_buf *b = &c->job->out;
    oct_buf_printf(b, "{\"index\":%u,\"delta\":{", c->index);
    const oct_str text = ev ? oct_api_event_text(c, ev) : OCT_STR("");
    if (ev && ev->kind == OCT_SPEAK_CONTENT) {
        write_content(c, text);
    } else if (ev && ev->kind == OCT_SPEAK_REASONING) {
        oct_buf_cstr(b, "\"reasoning\":");
        oct_json_quote(b, text);
        oct_buf_cstr(b, ",\"reasoning_content\":");
        oct_json_quote(b, text);
    } else if (ev && ev->kind == OCT_SPEAK_CALL) {
        oct_buf_cstr(b, "\"tool_calls\":[{\"id\":");
        oct_api_write_string(b, c->speech.calls[ev->call].id);
        oct_buf_printf(b, ",\"type\":\"function\",\"index\":%u,\"function\":{\"name\":", ev->call);
        oct_json_quote(b, text);
        oct_buf_cstr(b, ",\"arguments\":\"\"}}]");
    } else if (ev) {
        oct_buf_printf(b, "\"tool_calls\":[{\"index\":%u,\"function\":{\"arguments\":", ev->call);
        oct_json_quote(b, text);
        oct_buf_cstr(b, "}}]");
    }
    oct_buf_cstr(b, "},\"logprobs\":");
}

static void send_role(oct_api_choice *c) {
    oct_api_job *job = c->job;
    oct_buf *b = &job->out;
    begin_event(job);
    oct_buf_printf(b, "{\"index\":%u,\"delta\":{\"role\":", c->index);
    oct_json_quote(b, oct_str_of(job->api->cfg.response_role));
    oct_buf_cstr(b, ",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}");
    end_chunk(c, false);
}

static void send_echo(oct_api_choice *c) {
    begin_event(c->job);
    oct_buf_printf(&c->job->out, "{\"index\":%u,\"delta\":{", c->index);
    write_content(c, oct_buf_view(&c->job->echo_text));
    oct_buf_cstr(&c->job->out, "},\"logprobs\":null,\"finish_reason\":null}");
    end_chunk(c, false);
}

/* ---- both ---- */

/* last: nothing of this choice follows. first: of this output. */
static void write_finish(oct_api_choice *c, const oct_output *out, bool first, bool last) {
    oct_buf *b = &c->job->out;
    if (!last) {
        oct_buf_cstr(b, ",\"finish_reason\":null");
    } else {
        const bool hidden = c->job->fields.echo_only;
        const oct_finish f = hidden ? OCT_FINISH_LENGTH : out->finish;
        oct_buf_printf(b,
                       ",\"finish_reason\":\"%s\",\"stop_reason\":", oct_api_choice_finish(c, f));
        oct_api_write_stop_reason(b, f, out->stop_kind, out->stop_id, out->stop_text);
    }
    if (c->job->fields.return_token_ids && first) {
        oct_buf_cstr(b, ",\"token_ids\":");
        oct_api_write_ids(b, c->tokens.data, c->job->fields.echo_only ? 0 : c->tokens.len);
        if (c->tokens.failed) b->failed = true;
    }
}

static void write_completion(oct_api_choice *c, const oct_output *out) {
    oct_api_job *job = c->job;
    oct_buf *b = &job->out, text;
    const bool first = !c->begun;
    oct_buf_init(&text, job->api->mem, 0);
    if (first && job->fields.echo) oct_buf_str(&text, oct_buf_view(&c->prompt->text));
    if (!job->fields.echo_only) oct_buf_str(&text, out->text);
    oct_buf_printf(b, "{\"index\":%u,\"text\":", c->index);
    oct_json_quote(b, oct_buf_view(&text));
    oct_buf_cstr(b, ",\"logprobs\":");
    oct_api_write_logprobs(c, b);
    write_finish(c, out, true, out->finish != OCT_FINISH_NONE);
    if (first && job->fields.return_token_ids) {
        oct_buf_cstr(b, ",\"prompt_token_ids\":");
        oct_api_write_ids(b, c->prompt->ids.data, c->prompt->ids.len);
    }
    if (text.failed) b->failed = true;
    oct_buf_fini(&text);
}

void oct_api_stream_begin(oct_api_job *job) {
    job->streaming = true;
    if (!job->x) return;
    oct_http_set_header(job->x, "Cache-Control", OCT_STR("no-cache"));
    (void)oct_http_stream_begin(job->x, 200, "text/event-stream; charset=utf-8");
}

/* One chunk; what was collected since the last one goes with the first of an output. */
static void send_delta(oct_api_choice *c, const oct_output *out, const oct_api_event *ev,
                       bool first, bool last) {
    oct_api_job *job = c->job;
    if (job->over) return;
    begin_event(job);
    write_delta(c, ev);
    if (first)
        oct_api_write_logprobs(c, &job->out);
    else
        oct_buf_cstr(&job->out, "null");
    write_finish(c, out, first, last);
    oct_buf_char(&job->out, '}');
    end_chunk(c, last);
    if (first) {
        oct_api_clear_logprobs(c);
        oct_ids_clear(&c->tokens);
    }
}

/* A chunk for each event. An output that says nothing yet sends nothing; the last chunk of a choice
 * is always sent, and says something only where that is text. */
static void send_events(oct_api_choice *c, const oct_output *out) {
    const oct_api_speech *s = &c->speech;
    const bool ended = out->finish != OCT_FINISH_NONE;
    bool first = true;
    oct_api_hear(c, out);
    if (s->failed || c->held.failed) c->job->out.failed = true;
    for (uint32_t i = 0; i < s->n_events && !c->job->out.failed; i++) {
        const oct_api_event *ev = &s->events[i];
        const bool is_text = ev->kind == OCT_SPEAK_CONTENT || ev->kind == OCT_SPEAK_REASONING;
        if (ev->kind == OCT_SPEAK_CALL_END) continue;
        const bool last = ended && is_text && i + 1 == s->n_events;
        send_delta(c, out, ev, first, last);
        first = false;
        if (last) return;
    }
    if (c->job->out.failed)
        send(c->job);
    else if (ended)
        send_delta(c, out, NULL, first, true);
}

/* Whether this output waits for later ones (stream_interval); then its text is kept. */
static bool hold_back(oct_api_choice *c, const oct_output *out) {
    const int64_t interval = c->job->fields.stream_interval;
    if (interval <= 1 || !c->begun || out->finish != OCT_FINISH_NONE) return false;
    if (c->n_held + out->n_tokens >= interval) return false;
    c->n_held += out->n_tokens;
    oct_buf_str(&c->held, out->text);
    return true;
}

/* The output with the text that was held back before it. */
static oct_output with_held(oct_api_choice *c, const oct_output *out) {
    oct_output all = *out;
    if (c->n_held == 0) return all;
    oct_buf_str(&c->held, out->text);
    all.text = oct_buf_view(&c->held);
    return all;
}

static void forget_held(oct_api_choice *c) {
    if (c->n_held == 0) return;
    c->n_held = 0;
    oct_buf_clear(&c->held);
}

void oct_api_stream_output(oct_api_choice *c, const oct_output *given) {
    oct_api_job *job = c->job;
    if (!job->streaming) oct_api_stream_begin(job);
    oct_api_take_logprobs(c, given);
    if (job->fields.return_token_ids)
        for (uint32_t i = 0; i < given->n_tokens; i++) oct_ids_push(&c->tokens, given->tokens[i]);
    if (hold_back(c, given)) return;
    const oct_output all = with_held(c, given), *const out = &all;
    if (job->shape == OCT_API_CHAT && !c->begun) {
        send_role(c);
        c->begun = true;
        if (job->echo_text.len > 0) send_echo(c);
    }
    if (job->over) return;
    if (job->shape == OCT_API_CHAT) {
        send_events(c, out);
        forget_held(c);
        return;
    }
    begin_event(job);
    write_completion(c, out);
    oct_buf_char(&job->out, '}');
    c->begun = true;
    if (c->held.failed || c->tokens.failed) job->out.failed = true;
    end_chunk(c, out->finish != OCT_FINISH_NONE);
    oct_api_clear_logprobs(c);
    oct_ids_clear(&c->tokens);
    forget_held(c);
}

/* ---- ends ---- */

void oct_api_stream_end(oct_api_job *job) {
    uint32_t n_prompt, n_completion, n_cached;
    if (job->fields.include_usage) {
        oct_api_job_usage(job, &n_prompt, &n_completion, &n_cached);
        begin_event(job);
        oct_buf_cstr(&job->out, "],\"usage\":");
        oct_api_write_usage(job, n_prompt, n_completion, n_cached, &job->out);
        if (OCT_FAULT(JOB_USAGE, oct_api_who(job))) job->out.failed = true;
        if (job->api->cfg.fingerprint) {
            oct_buf_cstr(&job->out, ",\"system_fingerprint\":");
            oct_api_write_string(&job->out, job->api->cfg.fingerprint);
        }
        oct_api_write_metrics(job, &job->out);
        send(job);
    }
    if (!job->x) return;
    (void)oct_http_stream_write(job->x, OCT_STR("data: [DONE]\n\n"));
    (void)oct_http_stream_end(job->x, false);
}

void oct_api_stream_error(oct_api_job *job, const oct_api_error *e) {
    const oct_str no_memory = OCT_STR("data: " OCT_API_NO_MEMORY "\n\ndata: [DONE]\n\n");
    oct_buf body, event;
    oct_buf_init(&body, job->api->mem, 0);
    oct_buf_init(&event, job->api->mem, 0);
    oct_api_error_body(e, &body);
    oct_sse_write(&event, oct_buf_view(&body));
    oct_sse_write(&event, OCT_STR("[DONE]"));
    if (job->x) {
        /* A stream must not end as if all were well: without memory for this one it is cut off. */
        const bool failed = body.failed || event.failed;
        (void)oct_http_stream_write(job->x, failed ? no_memory : oct_buf_view(&event));
        (void)oct_http_stream_end(job->x, true);
    }
    oct_buf_fini(&body);
    oct_buf_fini(&event);
}
