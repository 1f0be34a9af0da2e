/*
 * api/render_routes.c - what a request would be computed from, without computing it:
 * /v1/chat/completions/render and /v1/completions/render give token ids and sampling parameters in
 * the shape that /inference/v1/generate takes; /apply-template gives the text. /tokenizer_info
 * gives what the server was told to tell.
 */
#include "api/parts.h"

/* ---- requests for /inference/v1/generate ---- */

static void write_number(oct_buf *b, const char *name, double v) {
    oct_buf_printf(b, ",\"%s\":", name);
    oct_json_f64(b, v);
}

/* Lists are handed on as they came. */
static void write_given(const json_t *body, const char *name, oct_buf *b) {
    const json_t *v = json_object_get(body, name);
    if (!v || json_is_null(v)) return;
    oct_buf_printf(b, ",\"%s\":", name);
    oct_json_dump(b, v, JSON_COMPACT);
}

static void write_sampling(const oct_api_job *job, const oct_api_prompt *p, oct_buf *b) {
    static const char *const lists[] = {"stop", "stop_token_ids", "logit_bias", "allowed_token_ids",
                                        "bad_words"};
    static const char *const yes_no[] = {"false", "true"};
    const oct_api_fields *f = &job->fields;
    oct_buf_printf(b, "{\"n\":%lld", (long long)f->n);
    write_number(b, "temperature", f->temperature);
    write_number(b, "top_p", f->top_p);
    oct_buf_printf(b, ",\"top_k\":%lld", (long long)f->top_k);
    write_number(b, "min_p", f->min_p);
    write_number(b, "presence_penalty", f->presence_penalty);
    write_number(b, "frequency_penalty", f->frequency_penalty);
    write_number(b, "repetition_penalty", f->repetition_penalty);
    oct_buf_printf(b, ",\"max_tokens\":%u,\"min_tokens\":%lld", p->max_tokens,
                   (long long)f->min_tokens);
    if (f->has_seed) oct_buf_printf(b, ",\"seed\":%lld", (long long)f->seed);
    if (f->logprobs >= 0) oct_buf_printf(b, ",\"logprobs\":%lld", (long long)f->logprobs);
    if (f->prompt_logprobs >= 0)
        oct_buf_printf(b, ",\"prompt_logprobs\":%lld", (long long)f->prompt_logprobs);
    oct_buf_printf(
        b, ",\"ignore_eos\":%s,\"include_stop_str_in_output\":%s,\"skip_special_tokens\":%s",
        yes_no[f->ignore_eos], yes_no[f->include_stop], yes_no[f->skip_special]);
    for (size_t i = 0; i < OCT_COUNT(lists); i++) write_given(job->body, lists[i], b);
    oct_buf_char(b, '}');
}

static void write_request(const oct_api_job *job, const oct_api_prompt *p, oct_buf *b) {
    oct_buf_cstr(b, "{\"model\":");
    oct_json_quote(b, oct_str_of(job->api->cfg.names[0]));
    oct_buf_cstr(b, ",\"token_ids\":");
    oct_api_write_ids(b, p->ids.data, p->ids.len);
    oct_buf_cstr(b, ",\"features\":null,\"sampling_params\":");
    write_sampling(job, p, b);
    oct_buf_printf(b, ",\"stream\":%s", job->fields.stream ? "true" : "false");
    write_given(job->body, "cache_salt", b);
    write_given(job->body, "priority", b);
    if (job->fields.return_prompt_text) {
        oct_buf_cstr(b, ",\"prompt_text\":");
        oct_json_quote(b, oct_buf_view(&p->text));
    }
    oct_buf_char(b, '}');
}

static oct_status render(oct_api_job *job, oct_str text, oct_buf *b, oct_api_error *e) {
    const bool chat = job->shape == OCT_API_CHAT;
    OCT_TRY(oct_api_parse_body(job->api, text, &job->body, e));
    OCT_TRY(chat ? oct_api_read_chat(job, e) : oct_api_read_completion(job, e));
    if (!chat) oct_buf_char(b, '[');
    for (uint32_t i = 0; i < job->n_prompts; i++) {
        if (i > 0) oct_buf_char(b, ',');
        write_request(job, &job->prompts[i], b);
    }
    if (!chat) oct_buf_char(b, ']');
    return OCT_OK;
}

void oct_api_answer_job(oct_api *api, oct_http_exchange *x, oct_api_shape shape,
                        oct_status (*write)(oct_api_job *, oct_str, oct_buf *, oct_api_error *)) {
    oct_api_job *job = NULL;
    oct_api_error e;
    oct_buf b;
    oct_buf_init(&b, api->mem, 0);
    oct_status st = OCT_OK;
    if (oct_api_job_create(api, NULL, shape, &job) != OCT_OK) st = oct_api_no_memory(&e);
    if (st == OCT_OK) st = write(job, oct_http_request_body(x), &b, &e);
    if (st == OCT_OK)
        oct_api_answer(api, x, 200, &b);
    else
        oct_api_answer_error(api, x, &e);
    oct_api_job_unref(job);
    oct_buf_fini(&b);
}

void oct_api_route_chat_render(oct_api *api, oct_http_exchange *x) {
    oct_api_answer_job(api, x, OCT_API_CHAT, render);
}

void oct_api_route_completions_render(oct_api *api, oct_http_exchange *x) {
    oct_api_answer_job(api, x, OCT_API_COMPLETION, render);
}

/* ---- the text ---- */

static oct_status apply(oct_api_job *job, oct_str text, oct_buf *b, oct_api_error *e) {
    oct_api_fields f = {.add_generation_prompt = true};
    oct_buf prompt;
    OCT_TRY(oct_api_parse_body(job->api, text, &job->body, e));
    OCT_TRY(oct_api_check_model(job->api, job->body, e));
    OCT_TRY(oct_api_read_bool(job->body, "add_generation_prompt", &f.add_generation_prompt, e));
    OCT_TRY(oct_api_read_bool(job->body, "continue_final_message", &f.continue_final_message, e));
    oct_buf_init(&prompt, job->api->mem, 0);
    const oct_status st = oct_api_render(job->api, job->body, &f, &prompt, NULL, e);
    if (st == OCT_OK) {
        oct_buf_cstr(b, "{\"prompt\":");
        oct_json_quote(b, oct_buf_view(&prompt));
        oct_buf_char(b, '}');
    }
    oct_buf_fini(&prompt);
    return st;
}

void oct_api_route_apply_template(oct_api *api, oct_http_exchange *x) {
    oct_api_answer_job(api, x, OCT_API_CHAT, apply);
}

void oct_api_route_tokenizer_info(oct_api *api, oct_http_exchange *x) {
    oct_api_error e = {0};
    oct_buf b;
    if (!api->cfg.tokenizer_info) {
        oct_api_refuse(&e, OCT_API_NOT_FOUND, NULL, "no such path");
        oct_api_answer_error(api, x, &e);
        return;
    }
    oct_buf_init(&b, api->mem, 0);
    oct_buf_cstr(&b, api->cfg.tokenizer_info);
    oct_api_answer(api, x, 200, &b);
    oct_buf_fini(&b);
}
