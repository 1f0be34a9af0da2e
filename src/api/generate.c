/*
 * api/generate.c - POST /inference/v1/generate: token ids in, token ids out. The sampling
 * parameters stand in an object of their own; laid flat they are a completion's fields.
 */
#include "api/parts.h"

/* ---- reading ---- */

/* The fields beside sampling_params that go with them. */
static oct_status flatten(const json_t *body, json_t **out, oct_api_error *e) {
    static const char *const beside[] = {"model", "stream", "cache_salt", "priority", "request_id"};
    const json_t *sampling = json_object_get(body, "sampling_params");
    char shown[OCT_JSON_SHOWN];
    if (sampling && !json_is_null(sampling) && !json_is_object(sampling))
        return oct_api_refuse(e, OCT_API_MALFORMED, "sampling_params",
                              "sampling_params: must be an object (got %s)",
                              oct_json_show(sampling, shown));
    *out = json_is_object(sampling) ? json_copy((json_t *)(uintptr_t)sampling) : json_object();
    bool ok = *out != NULL;
    for (size_t i = 0; ok && i < OCT_COUNT(beside); i++) {
        json_t *v = json_object_get(body, beside[i]);
        if (v) ok = json_object_set(*out, beside[i], v) == 0;
    }
    if (ok) return OCT_OK;
    json_decref(*out);
    return oct_api_no_memory(e);
}

static oct_status read_tokens(oct_api_job *job, oct_api_error *e) {
    enum { BY_DEFAULT = 16 };
    const json_t *ids = json_object_get(job->body, "token_ids");
    oct_api *api = job->api;
    char shown[OCT_JSON_SHOWN];
    if (!json_is_array(ids))
        return oct_api_refuse(e, OCT_API_MALFORMED, "token_ids",
                              "token_ids: must be an array of ids (got %s)",
                              oct_json_show(ids, shown));
    if (json_array_size(ids) > api->info.max_model_len && job->fields.truncate == 0)
        return oct_api_refuse(e, OCT_API_REFUSED, "input_tokens",
                              "maximum context length is %u tokens; the prompt holds %zu",
                              api->info.max_model_len, json_array_size(ids));
    OCT_TRY(oct_api_job_set_prompts(job, 1, e));
    oct_api_prompt *p = &job->prompts[0];
    OCT_TRY(oct_api_read_ids(api, ids, "token_ids", &p->ids, e));
    return oct_api_fit(api, &job->fields, &p->ids, BY_DEFAULT, "token_ids", &p->max_tokens, e);
}

static oct_status read_generate(oct_api_job *job, oct_api_error *e) {
    oct_api_fields *f = &job->fields;
    json_t *flat = NULL;
    OCT_TRY(flatten(job->body, &flat, e));
    oct_status st = oct_api_check_model(job->api, flat, e);
    if (st == OCT_OK)
        st = oct_api_read_fields(job->api, OCT_API_COMPLETION, flat, &job->arena, f, e);
    if (st == OCT_OK) st = oct_api_read_structured(job, flat, e);
    /* Fields' strings are borrowed from flat, whose values are the body's own. */
    json_decref(flat);
    OCT_TRY(st);
    if (f->stream)
        return oct_api_refuse(e, OCT_API_REFUSED, "stream", "stream: not supported here");
    if (f->echo) return oct_api_refuse(e, OCT_API_REFUSED, "echo", "echo: not supported here");
    f->return_token_ids = f->tokens_as_ids = true;
    OCT_TRY(read_tokens(job, e));
    return oct_api_job_set_choices(job, e);
}

/* ---- wording ---- */

static void write_choice(const oct_api_choice *c, oct_buf *b) {
    oct_buf_printf(b, "{\"index\":%u,\"logprobs\":", c->index);
    oct_api_write_logprobs(c, b);
    oct_buf_printf(b, ",\"finish_reason\":\"%s\",\"token_ids\":", oct_api_finish_name(c->finish));
    oct_api_write_ids(b, c->tokens.data, c->tokens.len);
    oct_buf_char(b, '}');
}

static void respond(oct_api_job *job) {
    oct_buf b;
    oct_buf_init(&b, job->api->mem, 0);
    oct_buf_cstr(&b, "{\"request_id\":");
    oct_json_quote(&b, oct_buf_view(&job->id));
    oct_buf_cstr(&b, ",\"choices\":[");
    for (uint32_t i = 0; i < job->n_choices; i++) {
        if (i > 0) oct_buf_char(&b, ',');
        write_choice(&job->choices[i], &b);
    }
    oct_buf_char(&b, ']');
    oct_api_write_prompt_logprobs(&job->choices[0], &b);
    oct_buf_cstr(&b, ",\"kv_transfer_params\":null}");
    if (oct_api_any_failed(job)) b.failed = true;
    if (job->x) oct_api_answer(job->api, job->x, 200, &b);
    oct_buf_fini(&b);
}

/* Nothing streams. */
static const oct_api_voice voice = {.id_prefix = "", .respond = respond};

/* The chat's form of logprobs. */
void oct_api_route_generate(oct_api *api, oct_http_exchange *x) {
    oct_api_start_as(api, x, OCT_API_CHAT, &voice, read_generate);
}
