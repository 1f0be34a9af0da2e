/* api/chat_completions.c - POST /v1/chat/completions: from a body to a job. */
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

oct_status oct_api_read_chat(oct_api_job *job, oct_api_error *e) {
    oct_api *api = job->api;
    oct_api_fields *f = &job->fields;
    OCT_TRY(oct_api_check_model(api, job->body, e));
    OCT_TRY(oct_api_read_fields(api, OCT_API_CHAT, job->body, &job->arena, f, e));
    OCT_TRY(oct_api_job_set_prompts(job, 1, e));
    oct_api_prompt *p = &job->prompts[0];
    const uint64_t reserve = f->max_tokens > 0 && f->truncate == 0 ? (uint64_t)f->max_tokens : 0;
    OCT_TRY(oct_api_render(api, job->body, f, &p->text, &job->how, e));
    OCT_TRY(
        oct_api_encode(api, oct_buf_view(&p->text), f->add_special_tokens, reserve, &p->ids, e));
    OCT_TRY(
        oct_api_fit(api, f, &p->ids, api->cfg.defaults.max_tokens, "messages", &p->max_tokens, e));
    OCT_TRY(read_echo(job, e));
    OCT_TRY(oct_api_job_set_choices(job, e));
    return oct_api_speech_begin(job, e);
}

void oct_api_route_chat(oct_api *api, oct_http_exchange *x) {
    oct_api_start(api, x, OCT_API_CHAT, oct_api_read_chat);
}
