/*
 * Any body sent to a generating route: a refusal that is a small JSON object, or requests that the
 * engine can execute. The first byte chooses the route ('c': chat, 'r': responses, 'm': messages,
 * else completions).
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "api/dialects.h"
#include "base/log.h"
#include "support/byte_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_VOCAB = 300, CONTEXT = 512, MAX_BODY = 4096 };

static void check(bool ok) {
    if (!ok) __builtin_trap();
}

static oct_api *make_api(void) {
    static const char source[] = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
                                 "{% if tools %}{{ tools | tojson }}{% endif %}";
    static const char *const names[] = {"m"};
    oct_template *t = NULL;
    oct_api *api = NULL;
    check(oct_template_create(oct_system_allocator(), source, sizeof source - 1, &t, NULL) ==
          OCT_OK);
    oct_tokenizer *tokenizer = byte_tokenizer();
    check(tokenizer != NULL);
    const oct_api_config c = {.tokenizer = tokenizer,
                              .template = t,
                              .names = names,
                              .n_names = 1,
                              .defaults = OCT_API_DEFAULTS,
                              .reasoning_parser = oct_speak_find_reasoning("qwen3"),
                              .tool_parser = oct_speak_find_tools("hermes"),
                              .auto_tools = true,
                              .trust_request_chat_template = true};
    check(oct_api_create(oct_system_allocator(), &c, &api, NULL) == OCT_OK);
    api->info = (oct_engine_info){.max_model_len = CONTEXT, .n_vocab = N_VOCAB, .max_logprobs = 20};
    return api;
}

static void check_id(int32_t id) { check(id >= 0 && id < N_VOCAB); }

static void check_spec(const oct_request_spec *s) {
    const oct_sampling *p = &s->sampling;
    check(s->n_prompt >= 1 && s->max_tokens >= 1 && s->min_tokens <= s->max_tokens);
    check((uint64_t)s->n_prompt + s->max_tokens <= CONTEXT);
    check(p->temperature == 0.0f || (p->temperature >= 0.01f && p->temperature <= 100.0f));
    check(p->top_p > 0.0f && p->top_p <= 1.0f && p->min_p >= 0.0f && p->min_p <= 1.0f);
    check(p->top_k >= -1 && p->repetition_penalty > 0.0f && p->repetition_penalty <= 100.0f);
    check(isfinite(p->frequency_penalty) && isfinite(p->presence_penalty));
    check(s->n_logprobs >= -1 && s->n_logprobs <= 20);
    check(s->prompt_logprobs >= -1 && s->prompt_logprobs <= 20);
    for (uint32_t i = 0; i < s->n_prompt; i++) check_id(s->prompt[i]);
    for (uint32_t i = 0; i < s->n_stop; i++) check(s->stop[i].len > 0);
    for (uint32_t i = 0; i < s->n_stop_ids; i++) check_id(s->stop_ids[i]);
    for (uint32_t i = 0; i < s->n_allowed_ids; i++) check_id(s->allowed_ids[i]);
    for (uint32_t i = 0; i < s->n_logit_bias; i++) {
        check_id(s->logit_bias[i].id);
        check(fabsf(s->logit_bias[i].value) <= 100.0f);
    }
    for (uint32_t i = 0; i < s->n_bad_words; i++) {
        check(s->bad_words[i].n > 0);
        for (uint32_t k = 0; k < s->bad_words[i].n; k++) check_id(s->bad_words[i].ids[k]);
    }
}

static void check_refusal(const oct_api_error *e) {
    json_t *v = NULL;
    oct_buf body;
    oct_buf_init(&body, oct_system_allocator(), 0);
    oct_api_error_body(e, &body);
    check(!body.failed && body.len <= MAX_BODY);
    check(oct_json_parse(oct_buf_view(&body), "refusal", &oct_json_request_limits, &v, NULL) ==
          OCT_OK);
    const int status = oct_api_error_status(e);
    check(status == 400 || status == 404);
    json_decref(v);
    oct_buf_fini(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static oct_api *api;
    if (!api) {
        oct_log_set_level(OCT_LOG_OFF);
        api = make_api();
    }
    if (size == 0) return 0;
    const bool responses = data[0] == 'r', messages = data[0] == 'm';
    const bool chat = data[0] == 'c' || responses || messages;
    const oct_str body = {(const char *)data + 1, size - 1};
    oct_api_job *job = NULL;
    oct_api_error e = {0};
    check(oct_api_job_create(api, NULL, chat ? OCT_API_CHAT : OCT_API_COMPLETION, &job) == OCT_OK);
    oct_status st = oct_api_parse_body(api, body, &job->body, &e);
    if (st == OCT_OK && responses) st = oct_api_responses_translate(job, &e);
    if (st == OCT_OK && messages) st = oct_api_messages_translate(job, &e);
    if (st == OCT_OK) st = chat ? oct_api_read_chat(job, &e) : oct_api_read_completion(job, &e);
    if (st != OCT_OK) check_refusal(&e);
    for (uint32_t i = 0; st == OCT_OK && i < job->n_choices; i++) {
        oct_request_spec spec;
        oct_api_job_spec(&job->choices[i], &spec);
        check_spec(&spec);
    }
    oct_api_job_unref(job);
    return 0;
}
