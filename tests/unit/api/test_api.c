/* test_api.c - what the end-to-end tests cannot reach: refused memory at every point of reading a
 * request, and the size of refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/dialects.h"
#include "base/log.h"
#include "support/byte_tokenizer.h"

enum { CONTEXT = 256, MAX_BODY = 4096 };

typedef struct fixture {
    oct_tokenizer *tokenizer;
    oct_template *template;
} fixture;

static oct_status make_api(const fixture *f, const oct_allocator *mem, oct_api **out,
                           oct_err *err) {
    static const char *const names[] = {"m", "other"};
    static const char *const keys[] = {"k"};
    const oct_api_config c = {.tokenizer = f->tokenizer,
                              .template = f->template,
                              .names = names,
                              .n_names = 2,
                              .keys = keys,
                              .n_keys = 1,
                              .defaults = OCT_API_DEFAULTS,
                              .reasoning_parser = oct_speak_find_reasoning("qwen3"),
                              .tool_parser = oct_speak_find_tools("hermes"),
                              .auto_tools = true};
    const oct_status st = oct_api_create(mem, &c, out, err);
    if (st == OCT_OK)
        (*out)->info =
            (oct_engine_info){.max_model_len = CONTEXT, .n_vocab = BYTE_TOKENS, .max_logprobs = 20};
    return st;
}

typedef oct_status translate_fn(oct_api_job *job, oct_api_error *e);

static oct_status read_job(oct_api *api, oct_api_shape shape, translate_fn *translate,
                           const char *body, oct_api_error *e) {
    oct_api_job *job = NULL;
    if (oct_api_job_create(api, NULL, shape, &job) != OCT_OK) return oct_api_no_memory(e);
    oct_status st = oct_api_parse_body(api, oct_str_of(body), &job->body, e);
    if (st == OCT_OK && translate) st = translate(job, e);
    if (st == OCT_OK)
        st = shape == OCT_API_CHAT ? oct_api_read_chat(job, e) : oct_api_read_completion(job, e);
    for (uint32_t i = 0; st == OCT_OK && i < job->n_choices; i++) {
        oct_request_spec spec;
        oct_api_job_spec(&job->choices[i], &spec);
        assert_true(spec.n_prompt > 0);
    }
    oct_api_job_unref(job);
    return st;
}

/* OS5: whichever request for memory is refused, the answer is a 503 and nothing is lost. */
static void OS5_refused_memory(void **state) {
    const fixture *f = *state;
    static const struct {
        oct_api_shape shape;
        translate_fn *translate;
        const char *body;
    } cases[] = {
        {OCT_API_CHAT, NULL,
         "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"n\":3,"
         "\"temperature\":1,\"stop\":[\"a\",\"b\"],\"logit_bias\":{\"3\":1},"
         "\"echo\":true,\"chat_template_kwargs\":{\"a\":1}}"},
        {OCT_API_CHAT, oct_api_responses_translate,
         "{\"instructions\":\"Be\",\"input\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"type\":"
         "\"reasoning\",\"content\":[{\"text\":\"h\"}]},{\"type\":\"function_call\",\"call_id\":"
         "\"c\",\"name\":\"f\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_"
         "id\":"
         "\"c\",\"output\":\"x\"}],\"tools\":[{\"type\":\"function\",\"name\":\"f\"}],"
         "\"text\":{\"format\":{\"type\":\"text\"}}}"},
        {OCT_API_CHAT, oct_api_messages_translate,
         "{\"system\":\"Be\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":"
         "\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"tool_use\","
         "\"id\":"
         "\"c\",\"name\":\"f\",\"input\":{}}]},{\"role\":\"user\",\"content\":[{\"type\":"
         "\"tool_result\",\"tool_use_id\":\"c\",\"content\":\"x\"}]}],\"tools\":[{\"name\":\"f\"}],"
         "\"thinking\":{\"type\":\"enabled\"},\"stop_sequences\":[\"a\"]}"},
        {OCT_API_COMPLETION, NULL,
         "{\"prompt\":[\"ab\",\"cd\"],\"bad_words\":[\"x\"],\"echo\":true,"
         "\"allowed_token_ids\":[1,2],\"stop_token_ids\":[3]}"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        oct_status st = OCT_E_NOMEM;
        for (size_t n = 0; st != OCT_OK; n++) {
            oct_fault_alloc fault;
            oct_api *api = NULL;
            oct_api_error e = {0};
            assert_true(n < 1000);
            oct_fault_alloc_init(&fault, n, 0);
            st = make_api(f, &fault.allocator, &api, NULL);
            if (st == OCT_OK) {
                st = read_job(api, cases[c].shape, cases[c].translate, cases[c].body, &e);
                if (st != OCT_OK) assert_int_equal(oct_api_error_status(&e), 503);
                assert_int_equal(oct_api_n_jobs(api), 0);
                oct_api_destroy(api);
            } else {
                assert_int_equal(st, OCT_E_NOMEM);
            }
            assert_int_equal(fault.live_bytes, 0);
        }
    }
}

static void refusals_are_small(void **state) {
    oct_api_error e;
    oct_buf body;
    json_t *v;
    char bad[2000];
    (void)state;
    memset(bad, 1, sizeof bad - 1);
    bad[sizeof bad - 1] = '\0';
    oct_buf_init(&body, oct_system_allocator(), 0);
    assert_int_equal(oct_api_refuse(&e, OCT_API_REFUSED, "p", "%s", bad), OCT_E_INVALID);
    oct_api_error_body(&e, &body);
    assert_true(body.len <= MAX_BODY);
    /* A cut in the middle of a character leaves none of it. */
    for (size_t i = 0; i + 1 < sizeof bad; i += 2) memcpy(bad + i, "\xc3\xa9", 2);
    bad[sizeof bad - 2] = '\0';
    oct_buf_clear(&body);
    assert_int_equal(oct_api_refuse(&e, OCT_API_REFUSED, NULL, "%s", bad), OCT_E_INVALID);
    oct_api_error_body(&e, &body);
    assert_int_equal(oct_json_parse(oct_buf_view(&body), "e", &oct_json_request_limits, &v, NULL),
                     OCT_OK);
    assert_null(strstr(oct_buf_cs(&body), "\xef\xbf\xbd"));
    json_decref(v);
    oct_buf_fini(&body);
}

static void CL4_empty_keys_are_refused(void **state) {
    static const char *const names[] = {"m"};
    static const char *const keys[] = {"good", " \t"};
    const oct_api_config c = {.names = names, .n_names = 1, .keys = keys, .n_keys = 2};
    oct_api *api;
    (void)state;
    assert_int_equal(oct_api_create(oct_system_allocator(), &c, &api, NULL), OCT_E_INVALID);
    assert_null(api);
}

static int set_up(void **state) {
    static fixture f;
    static const char source[] = "{% for m in messages %}{{ m.content }}{% endfor %}";
    f.tokenizer = byte_tokenizer();
    *state = &f;
    return oct_template_create(oct_system_allocator(), source, sizeof source - 1, &f.template,
                               NULL) != OCT_OK;
}

static int tear_down(void **state) {
    fixture *f = *state;
    oct_template_release(f->template);
    oct_tokenizer_destroy(f->tokenizer);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(OS5_refused_memory),
        cmocka_unit_test(refusals_are_small),
        cmocka_unit_test(CL4_empty_keys_are_refused),
    };
    oct_log_set_level(OCT_LOG_OFF);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
