/* api/response.c - answers that are sent whole, and the parts that streams share with them. */
#include <stdio.h>

#include "api/parts.h"

/* ---- parts ---- */

void oct_api_write_string(oct_buf *b, const char *s) {
    if (s)
        oct_json_quote(b, oct_str_of(s));
    else
        oct_buf_cstr(b, "null");
}

void oct_api_write_ids(oct_buf *b, const int32_t *ids, size_t n) {
    oct_buf_char(b, '[');
    for (size_t i = 0; i < n; i++) oct_buf_printf(b, "%s%d", i ? "," : "", ids[i]);
    oct_buf_char(b, ']');
}

const char *oct_api_finish_name(oct_finish f) {
    switch (f) {
    case OCT_FINISH_STOP:
        return "stop";
    case OCT_FINISH_LENGTH:
        return "length";
    case OCT_FINISH_ABORT:
        return "abort";
    case OCT_FINISH_NONE:
    case OCT_FINISH_ERROR:
    case OCT_N_FINISH:
        break;
    }
    return "error";
}

void oct_api_write_stop_reason(oct_buf *b, oct_finish f, oct_stop_kind kind, int32_t id,
                               oct_str text) {
    if (f == OCT_FINISH_STOP && kind == OCT_STOP_STRING)
        oct_json_quote(b, text);
    else if (f == OCT_FINISH_STOP && kind == OCT_STOP_ID)
        oct_buf_printf(b, "%d", id);
    else
        oct_buf_cstr(b, "null");
}

void oct_api_write_usage(const oct_api_job *job, uint32_t n_prompt, uint32_t n_completion,
                         uint32_t n_cached, oct_buf *b) {
    oct_buf_printf(b, "{\"prompt_tokens\":%u,\"total_tokens\":%u,\"completion_tokens\":%u",
                   n_prompt, n_prompt + n_completion, n_completion);
    if (job->api->cfg.prompt_tokens_details && n_cached > 0)
        oct_buf_printf(b, ",\"prompt_tokens_details\":{\"cached_tokens\":%u}}", n_cached);
    else if (job->streaming) /* nulls are left out of events */
        oct_buf_char(b, '}');
    else
        oct_buf_cstr(b, ",\"prompt_tokens_details\":null}");
}

void oct_api_job_usage(const oct_api_job *job, uint32_t *n_prompt, uint32_t *n_completion,
                       uint32_t *n_cached) {
    *n_prompt = *n_completion = *n_cached = 0;
    for (uint32_t i = 0; i < job->n_prompts; i++) *n_prompt += (uint32_t)job->prompts[i].ids.len;
    for (uint32_t i = 0; i < job->n_choices; i++) {
        *n_completion += job->choices[i].n_completion;
        if (i % (uint32_t)job->fields.n == 0) *n_cached += job->choices[i].n_cached;
    }
}

/* ---- what a request cost ---- */

static double ms(uint64_t from_ns, uint64_t to_ns) {
    return from_ns != 0 && to_ns > from_ns ? (double)(to_ns - from_ns) / 1e6 : 0.0;
}

static double per_second(uint32_t n, double ms_all) { return ms_all > 0 ? n * 1e3 / ms_all : 0.0; }

/* llama-server's form of the same. */
static void write_timings(const oct_api_choice *c, double prefill, double decode, oct_buf *b) {
    const uint32_t n_prompt = (uint32_t)c->prompt->ids.len - c->n_cached, n = c->n_completion;
    oct_buf_printf(b, ",\"timings\":{\"cache_n\":%u,\"prompt_n\":%u,\"prompt_ms\":", c->n_cached,
                   n_prompt);
    oct_json_f64(b, prefill);
    oct_buf_cstr(b, ",\"prompt_per_token_ms\":");
    oct_json_f64(b, n_prompt > 0 ? prefill / n_prompt : 0.0);
    oct_buf_cstr(b, ",\"prompt_per_second\":");
    oct_json_f64(b, per_second(n_prompt, prefill));
    oct_buf_printf(b, ",\"predicted_n\":%u,\"predicted_ms\":", n);
    oct_json_f64(b, decode);
    oct_buf_cstr(b, ",\"predicted_per_token_ms\":");
    oct_json_f64(b, n > 0 ? decode / n : 0.0);
    oct_buf_cstr(b, ",\"predicted_per_second\":");
    oct_json_f64(b, per_second(n, decode));
    oct_buf_char(b, '}');
}

void oct_api_write_metrics(const oct_api_job *job, oct_buf *b) {
    const oct_api_choice *c = &job->choices[0];
    const oct_request_times *t = &c->times;
    if (!job->api->cfg.per_request_metrics) return;
    if (job->n_choices != 1) {
        oct_buf_cstr(b, ",\"metrics\":null");
        return;
    }
    const double prefill = ms(t->first_scheduled_ns, t->first_token_ns);
    const double decode = ms(t->first_token_ns, t->last_token_ns);
    const uint32_t n = c->n_completion;
    oct_buf_cstr(b, ",\"metrics\":{\"time_to_first_token_ms\":");
    oct_json_f64(b, prefill);
    oct_buf_cstr(b, ",\"generation_time_ms\":");
    oct_json_f64(b, decode);
    oct_buf_cstr(b, ",\"queue_time_ms\":");
    oct_json_f64(b, ms(t->arrival_ns, t->first_scheduled_ns));
    oct_buf_cstr(b, ",\"mean_itl_ms\":");
    oct_json_f64(b, n > 1 ? decode / (n - 1) : 0.0);
    oct_buf_cstr(b, ",\"tokens_per_second\":");
    oct_json_f64(b, per_second(n, prefill + decode));
    oct_buf_char(b, '}');
    write_timings(c, prefill, decode, b);
}

/* ---- collecting ---- */

/* Calls stay in the choice's speech. */
static void gather(oct_api_choice *c, const oct_output *out) {
    oct_api_speech *s = &c->speech;
    oct_api_hear(c, out);
    for (uint32_t i = 0; i < s->n_events; i++) {
        const oct_api_event *ev = &s->events[i];
        if (c->job->voice->items) {
            oct_api_itemize(c, ev, NULL);
            continue;
        }
        if (ev->kind == OCT_SPEAK_CONTENT) oct_buf_str(&c->text, oct_api_event_text(c, ev));
        if (ev->kind == OCT_SPEAK_REASONING) oct_buf_str(&s->reasoning, oct_api_event_text(c, ev));
    }
    if (s->failed || s->reasoning.failed) c->text.failed = true;
}

void oct_api_collect_output(oct_api_choice *c, const oct_output *out) {
    const oct_api_fields *f = &c->job->fields;
    oct_api_take_logprobs(c, out);
    if (!f->echo_only) {
        if (c->job->shape == OCT_API_CHAT)
            gather(c, out);
        else
            oct_buf_str(&c->text, out->text);
        if (OCT_FAULT(JOB_TEXT, oct_api_who(c->job))) c->text.failed = true;
        if (f->return_token_ids)
            for (uint32_t i = 0; i < out->n_tokens; i++) oct_ids_push(&c->tokens, out->tokens[i]);
    }
    c->begun = true;
    if (out->finish == OCT_FINISH_NONE) return;
    c->finish = out->finish;
    c->stop_kind = out->stop_kind;
    c->stop_id = out->stop_id;
    if (f->echo_only) c->finish = OCT_FINISH_LENGTH; /* whatever the hidden token was */
    oct_buf_str(&c->stop_text, out->stop_text);
}

/* ---- writing ---- */

static void write_finish(const oct_api_choice *c, oct_buf *b) {
    oct_buf_printf(
        b, ",\"finish_reason\":\"%s\",\"stop_reason\":", oct_api_choice_finish(c, c->finish));
    oct_api_write_stop_reason(b, c->finish, c->stop_kind, c->stop_id, oct_buf_view(&c->stop_text));
    oct_buf_cstr(b, ",\"token_ids\":");
    if (c->job->fields.return_token_ids)
        oct_api_write_ids(b, c->tokens.data, c->tokens.len);
    else
        oct_buf_cstr(b, "null");
}

void oct_api_write_prompt_logprobs(const oct_api_choice *c, oct_buf *b) {
    oct_buf_cstr(b, ",\"prompt_logprobs\":");
    if (c->prompt_logprobs.len > 0)
        oct_buf_str(b, oct_buf_view(&c->prompt_logprobs));
    else
        oct_buf_cstr(b, "null");
    if (c->prompt_logprobs.failed) b->failed = true;
}

static void write_prompt_ids(const oct_api_choice *c, oct_buf *b) {
    oct_buf_cstr(b, ",\"prompt_token_ids\":");
    if (c->job->fields.return_token_ids)
        oct_api_write_ids(b, c->prompt->ids.data, c->prompt->ids.len);
    else
        oct_buf_cstr(b, "null");
}

static void write_calls(const oct_api_choice *c, oct_buf *b) {
    if (c->speech.n_calls == 0) return;
    oct_buf_cstr(b, ",\"tool_calls\":");
    for (uint32_t i = 0; i < c->speech.n_calls; i++) {
        oct_buf_cstr(b, i ? ",{\"id\":" : "[{\"id\":");
        oct_api_write_string(b, c->speech.calls[i].id);
        oct_buf_cstr(b, ",\"type\":\"function\",\"function\":{\"name\":");
        oct_json_quote(b, oct_api_call_name(c, i));
        oct_buf_cstr(b, ",\"arguments\":");
        oct_json_quote(b, oct_api_call_arguments(c, i));
        oct_buf_cstr(b, "}}");
    }
    oct_buf_char(b, ']');
}

static void write_reasoning(const oct_api_choice *c, oct_buf *b) {
    static const char *const names[] = {"reasoning", "reasoning_content"};
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        oct_buf_printf(b, ",\"%s\":", names[i]);
        if (c->speech.reasoning.len > 0)
            oct_json_quote(b, oct_buf_view(&c->speech.reasoning));
        else
            oct_buf_cstr(b, "null");
    }
}

/* Nothing said is null where calls or reasoning are looked for, unless a call was demanded. */
static bool has_no_content(const oct_api_choice *c) {
    return c->speech.speak && c->job->how.mode == OCT_SPEAK_AUTO;
}

static void write_chat_choice(const oct_api_choice *c, oct_buf *b) {
    oct_buf text;
    oct_buf_init(&text, c->job->api->mem, 0);
    oct_buf_str(&text, oct_buf_view(&c->job->echo_text));
    oct_buf_str(&text, oct_buf_view(&c->text));
    oct_buf_printf(b, "{\"index\":%u,\"message\":{\"role\":", c->index);
    oct_json_quote(b, oct_str_of(c->job->api->cfg.response_role));
    oct_buf_cstr(b, ",\"content\":");
    if (text.len == 0 && has_no_content(c))
        oct_buf_cstr(b, "null");
    else
        oct_json_quote(b, oct_buf_view(&text));
    oct_buf_cstr(b, ",\"refusal\":null,\"annotations\":null,\"audio\":null,\"function_call\":null");
    write_calls(c, b);
    write_reasoning(c, b);
    oct_buf_cstr(b, "},\"logprobs\":");
    oct_api_write_logprobs(c, b);
    write_finish(c, b);
    oct_buf_char(b, '}');
    if (text.failed) b->failed = true;
    oct_buf_fini(&text);
}

static void write_completion_choice(const oct_api_choice *c, oct_buf *b) {
    oct_buf text;
    oct_buf_init(&text, c->job->api->mem, 0);
    if (c->job->fields.echo) oct_buf_str(&text, oct_buf_view(&c->prompt->text));
    oct_buf_str(&text, oct_buf_view(&c->text));
    oct_buf_printf(b, "{\"index\":%u,\"text\":", c->index);
    oct_json_quote(b, oct_buf_view(&text));
    oct_buf_cstr(b, ",\"logprobs\":");
    oct_api_write_logprobs(c, b);
    write_finish(c, b);
    oct_api_write_prompt_logprobs(c, b);
    write_prompt_ids(c, b);
    oct_buf_char(b, '}');
    if (text.failed) b->failed = true;
    oct_buf_fini(&text);
}

static void write_tail(const oct_api_job *job, oct_buf *b) {
    uint32_t n_prompt, n_completion, n_cached;
    oct_api_job_usage(job, &n_prompt, &n_completion, &n_cached);
    oct_buf_cstr(b, "],\"service_tier\":null,\"system_fingerprint\":");
    oct_api_write_string(b, job->api->cfg.fingerprint);
    oct_buf_cstr(b, ",\"usage\":");
    oct_api_write_usage(job, n_prompt, n_completion, n_cached, b);
    if (job->shape == OCT_API_CHAT) {
        oct_api_write_prompt_logprobs(&job->choices[0], b);
        write_prompt_ids(&job->choices[0], b);
        oct_buf_cstr(b, ",\"prompt_text\":");
        if (job->fields.return_prompt_text)
            oct_json_quote(b, oct_buf_view(&job->prompts[0].text));
        else
            oct_buf_cstr(b, "null");
    }
    oct_buf_cstr(b, ",\"kv_transfer_params\":null");
    oct_api_write_metrics(job, b);
    oct_buf_char(b, '}');
}

bool oct_api_any_failed(const oct_api_job *job) {
    for (uint32_t i = 0; i < job->n_choices; i++) {
        const oct_api_choice *c = &job->choices[i];
        if (c->text.failed || c->tokens.failed || c->stop_text.failed) return true;
    }
    return job->echo_text.failed;
}

void oct_api_respond(oct_api_job *job) {
    const bool chat = job->shape == OCT_API_CHAT;
    oct_buf b;
    oct_buf_init(&b, job->api->mem, 0);
    oct_buf_cstr(&b, "{\"id\":");
    oct_json_quote(&b, oct_buf_view(&job->id));
    oct_buf_printf(&b, ",\"object\":\"%s\",\"created\":%lld,\"model\":",
                   chat ? "chat.completion" : "text_completion", (long long)job->created);
    oct_json_quote(&b, oct_str_of(job->api->cfg.names[0]));
    oct_buf_cstr(&b, ",\"choices\":[");
    for (uint32_t i = 0; i < job->n_choices; i++) {
        if (i > 0) oct_buf_char(&b, ',');
        if (chat)
            write_chat_choice(&job->choices[i], &b);
        else
            write_completion_choice(&job->choices[i], &b);
    }
    write_tail(job, &b);
    if (oct_api_any_failed(job) || OCT_FAULT(JOB_ANSWER, oct_api_who(job))) b.failed = true;
    if (job->x) oct_api_answer(job->api, job->x, 200, &b);
    oct_buf_fini(&b);
}
