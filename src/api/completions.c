/* api/completions.c - POST /v1/completions: prompts as text or ids, one or many. */
#include "api/parts.h"

enum { DEFAULT_TOKENS = 16 };

static oct_status wrong(size_t i, const json_t *v, oct_api_error *e) {
    char shown[OCT_JSON_SHOWN];
    return oct_api_refuse(
        e, OCT_API_MALFORMED, "prompt",
        "prompt[%zu]: must be of one kind: strings, ids or arrays of ids (got %s)", i,
        oct_json_show(v, shown));
}

static oct_status read_text(oct_api_job *job, oct_api_prompt *p, oct_str text, oct_api_error *e) {
    const oct_api_fields *f = &job->fields;
    const uint64_t reserve = f->max_tokens > 0 && f->truncate == 0 ? (uint64_t)f->max_tokens : 0;
    if (text.len == 0)
        return oct_api_refuse(e, OCT_API_REFUSED, "prompt", "prompt: the prompt cannot be empty");
    if (f->echo || f->return_prompt_text) oct_buf_str(&p->text, text);
    if (p->text.failed || (p->text.len > 0 && OCT_FAULT(JOB_ECHO, oct_api_who(job))))
        return oct_api_no_memory(e);
    return oct_api_encode(job->api, text, f->add_special_tokens, reserve, &p->ids, e);
}

static oct_status read_ids(oct_api_job *job, oct_api_prompt *p, const json_t *ids,
                           oct_api_error *e) {
    const oct_api *api = job->api;
    if (json_array_size(ids) > api->info.max_model_len && job->fields.truncate == 0)
        return oct_api_refuse(e, OCT_API_REFUSED, "input_tokens",
                              "maximum context length is %u tokens; the prompt holds %zu",
                              api->info.max_model_len, json_array_size(ids));
    OCT_TRY(oct_api_read_ids(api, ids, "prompt", &p->ids, e));
    if ((job->fields.echo || job->fields.return_prompt_text) && api->cfg.tokenizer)
        oct_tokenizer_decode(api->cfg.tokenizer, p->ids.data, p->ids.len, false, &p->text);
    return p->text.failed ? oct_api_no_memory(e) : OCT_OK;
}

/* Several prompts: all strings or all arrays of ids. */
static oct_status read_many(oct_api_job *job, const json_t *prompts, oct_api_error *e) {
    const size_t n = json_array_size(prompts);
    const bool strings = json_is_string(json_array_get(prompts, 0));
    const oct_api_limits *l = &job->api->cfg.limits;
    if (n > l->prompts)
        return oct_api_refuse(e, OCT_API_REFUSED, "prompt",
                              "prompt: too many (got %zu, want at most %u)", n, l->prompts);
    if (n * (uint64_t)job->fields.n > l->choices)
        return oct_api_refuse(e, OCT_API_REFUSED, "n",
                              "n: too many answers (got %lld for each of %zu prompts, want at most "
                              "%u in all)",
                              (long long)job->fields.n, n, l->choices);
    OCT_TRY(oct_api_job_set_prompts(job, (uint32_t)n, e));
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(prompts, i);
        if (strings ? !json_is_string(one) : !json_is_array(one)) return wrong(i, one, e);
        OCT_TRY(strings ? read_text(job, &job->prompts[i], oct_json_str(one), e)
                        : read_ids(job, &job->prompts[i], one, e));
    }
    return OCT_OK;
}

static oct_status read_prompts(oct_api_job *job, oct_api_error *e) {
    const json_t *v = json_object_get(job->body, "prompt");
    const json_t *first = json_array_get(v, 0);
    if (!v || json_is_null(v))
        return oct_api_refuse(e, OCT_API_REFUSED, "prompt",
                              "prompt: missing; the prompt cannot be empty");
    if (json_is_string(v)) {
        OCT_TRY(oct_api_job_set_prompts(job, 1, e));
        return read_text(job, &job->prompts[0], oct_json_str(v), e);
    }
    if (!json_is_array(v)) {
        char shown[OCT_JSON_SHOWN];
        return oct_api_refuse(e, OCT_API_MALFORMED, "prompt",
                              "prompt: must be a string, or an array of strings or ids (got %s)",
                              oct_json_show(v, shown));
    }
    if (!first)
        return oct_api_refuse(e, OCT_API_REFUSED, "prompt", "prompt: the prompt cannot be empty");
    if (json_is_string(first) || json_is_array(first)) return read_many(job, v, e);
    if (!json_is_number(first)) return wrong(0, first, e);
    OCT_TRY(oct_api_job_set_prompts(job, 1, e));
    return read_ids(job, &job->prompts[0], v, e);
}

oct_status oct_api_read_completion(oct_api_job *job, oct_api_error *e) {
    oct_api *api = job->api;
    oct_api_fields *f = &job->fields;
    const json_t *suffix = json_object_get(job->body, "suffix");
    OCT_TRY(oct_api_check_model(api, job->body, e));
    if (suffix && !json_is_null(suffix))
        return oct_api_refuse(e, OCT_API_REFUSED, "suffix", "suffix: not supported");
    OCT_TRY(oct_api_read_fields(api, OCT_API_COMPLETION, job->body, &job->arena, f, e));
    OCT_TRY(read_prompts(job, e));
    OCT_TRY(oct_api_read_structured(job, job->body, e));
    for (uint32_t i = 0; i < job->n_prompts; i++) {
        oct_api_prompt *p = &job->prompts[i];
        OCT_TRY(oct_api_fit(api, f, &p->ids, DEFAULT_TOKENS, "prompt", &p->max_tokens, e));
    }
    return oct_api_job_set_choices(job, e);
}

void oct_api_route_completions(oct_api *api, oct_http_exchange *x) {
    oct_api_start(api, x, OCT_API_COMPLETION, oct_api_read_completion);
}
