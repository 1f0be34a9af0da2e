/*
 * api/chat_completions.c - POST /v1/chat/completions: from a body to a job. And its two kin:
 * several conversations in one request, and a body that is one of either kind.
 */
#include "api/parts.h"

/* The last message's text, shown before the answer when its role is the answer's. */
static oct_status read_echo(oct_api_job *job, oct_api_error *e) {
    const json_t *messages = json_object_get(job->body, "messages");
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const json_t *content = json_object_get(last, "content"), *part;
    size_t i;
    if (!job->fields.echo ||
        !oct_str_is(oct_json_str(json_object_get(last, "role")), job->api->cfg.response_role))
        return OCT_OK;
    oct_buf_str(&job->echo_text, oct_json_str(content));
    json_array_foreach(content, i, part) {
        if (i > 0) oct_buf_char(&job->echo_text, '\n');
        oct_buf_str(&job->echo_text,
                    oct_json_str(json_is_string(part) ? part : json_object_get(part, "text")));
    }
    return job->echo_text.failed ? oct_api_no_memory(e) : OCT_OK;
}

oct_status oct_api_read_messages(oct_api_job *job, const json_t *body, oct_api_prompt *p,
                                 oct_api_error *e) {
    oct_api *api = job->api;
    const oct_api_fields *f = &job->fields;
    const uint64_t reserve = f->max_tokens > 0 && f->truncate == 0 ? (uint64_t)f->max_tokens : 0;
    OCT_TRY(oct_api_render(api, body, f, &p->text, &job->how, e));
    OCT_TRY(
        oct_api_encode(api, oct_buf_view(&p->text), f->add_special_tokens, reserve, &p->ids, e));
    return oct_api_fit(api, f, &p->ids, api->cfg.defaults.max_tokens, "messages", &p->max_tokens,
                       e);
}

oct_status oct_api_read_chat(oct_api_job *job, oct_api_error *e) {
    oct_api *api = job->api;
    OCT_TRY(oct_api_check_model(api, job->body, e));
    OCT_TRY(oct_api_read_fields(api, OCT_API_CHAT, job->body, &job->arena, &job->fields, e));
    OCT_TRY(oct_api_job_set_prompts(job, 1, e));
    OCT_TRY(oct_api_read_messages(job, job->body, &job->prompts[0], e));
    OCT_TRY(oct_api_read_structured(job, job->body, e));
    OCT_TRY(read_echo(job, e));
    OCT_TRY(oct_api_job_set_choices(job, e));
    return oct_api_speech_begin(job, e);
}

void oct_api_route_chat(oct_api *api, oct_http_exchange *x) {
    oct_api_start(api, x, OCT_API_CHAT, oct_api_read_chat);
}

/* ---- several conversations ---- */

static oct_status refuse_with_batch(const oct_api_job *job, oct_api_error *e) {
    static const char *const not_here[] = {"tools", "tool_choice"};
    if (job->fields.stream)
        return oct_api_refuse(e, OCT_API_REFUSED, "stream",
                              "stream: not with several conversations");
    if (job->fields.n != 1)
        return oct_api_refuse(e, OCT_API_REFUSED, "n", "n: must be 1 with several conversations");
    if (job->fields.echo)
        return oct_api_refuse(e, OCT_API_REFUSED, "echo", "echo: not with several conversations");
    for (size_t i = 0; i < OCT_COUNT(not_here); i++) {
        const json_t *v = json_object_get(job->body, not_here[i]);
        if (v && !json_is_null(v))
            return oct_api_refuse(e, OCT_API_REFUSED, not_here[i],
                                  "%s: not with several conversations", not_here[i]);
    }
    return OCT_OK;
}

/* The body with one of its conversations. */
static oct_status read_conversation(oct_api_job *job, json_t *body, size_t i, oct_api_error *e) {
    json_t *one = json_array_get(json_object_get(job->body, "messages"), i);
    char shown[OCT_JSON_SHOWN];
    if (!json_is_array(one))
        return oct_api_refuse(e, OCT_API_MALFORMED, "messages",
                              "messages[%zu]: must be an array of messages (got %s)", i,
                              oct_json_show(one, shown));
    if (json_object_set(body, "messages", one) != 0) return oct_api_no_memory(e);
    return oct_api_read_messages(job, body, &job->prompts[i], e);
}

static oct_status read_batch(oct_api_job *job, oct_api_error *e) {
    oct_api *api = job->api;
    const json_t *all = json_object_get(job->body, "messages");
    const size_t n = json_array_size(all);
    char shown[OCT_JSON_SHOWN];
    OCT_TRY(oct_api_check_model(api, job->body, e));
    OCT_TRY(oct_api_read_fields(api, OCT_API_CHAT, job->body, &job->arena, &job->fields, e));
    OCT_TRY(refuse_with_batch(job, e));
    if (!json_is_array(all) || n == 0)
        return oct_api_refuse(e, OCT_API_MALFORMED, "messages",
                              "messages: must be an array of conversations (got %s)",
                              oct_json_show(all, shown));
    if (n > api->cfg.limits.prompts)
        return oct_api_refuse(e, OCT_API_REFUSED, "messages",
                              "messages: too many (got %zu, want at most %u)", n,
                              api->cfg.limits.prompts);
    OCT_TRY(oct_api_job_set_prompts(job, (uint32_t)n, e));
    json_t *body = json_copy(job->body);
    if (!body) return oct_api_no_memory(e);
    oct_status st = OCT_OK;
    for (size_t i = 0; st == OCT_OK && i < n; i++) st = read_conversation(job, body, i, e);
    json_decref(body);
    OCT_TRY(st);
    OCT_TRY(oct_api_read_structured(job, job->body, e));
    OCT_TRY(oct_api_job_set_choices(job, e));
    return oct_api_speech_begin(job, e);
}

void oct_api_route_chat_batch(oct_api *api, oct_http_exchange *x) {
    oct_api_start(api, x, OCT_API_CHAT, read_batch);
}

/* ---- either ---- */

static oct_status read_either(oct_api_job *job, oct_api_error *e) {
    if (json_object_get(job->body, "messages")) return oct_api_read_chat(job, e);
    if (!json_object_get(job->body, "prompt"))
        return oct_api_refuse(e, OCT_API_MALFORMED, NULL,
                              "body: neither messages nor prompt is there");
    job->shape = OCT_API_COMPLETION;
    return oct_api_read_completion(job, e);
}

void oct_api_route_invocations(oct_api *api, oct_http_exchange *x) {
    oct_api_start(api, x, OCT_API_CHAT, read_either);
}
