/* test_speech.c - answers told apart and worded, by the voices of all dialects: refused memory at
 * every point, with nobody to send to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/dialects.h"
#include "base/log.h"
#include "support/byte_tokenizer.h"

typedef struct fixture {
    oct_tokenizer *tokenizer;
    oct_template *template;
} fixture;

static const char *const pieces[] = {
    "<think>a",           "b</th",
    "ink>Look\n<tool",    "_call>{\"name\": \"f\", \"arguments\": {\"city\": \"Z",
    "\xc3\xbcrich\"}}</", "tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>",
    "\n<tool_call>no",    " call",
};
enum { N_PIECES = sizeof pieces / sizeof *pieces };

static oct_status make_api(const fixture *f, const oct_allocator *mem, oct_api **out) {
    static const char *const names[] = {"m"};
    const oct_api_config c = {.tokenizer = f->tokenizer,
                              .template = f->template,
                              .names = names,
                              .n_names = 1,
                              .reasoning_parser = oct_speak_find_reasoning("qwen3"),
                              .tool_parser = oct_speak_find_tools("hermes"),
                              .auto_tools = true,
                              .defaults = OCT_API_DEFAULTS};
    const oct_status st = oct_api_create(mem, &c, out, NULL);
    if (st == OCT_OK)
        (*out)->info =
            (oct_engine_info){.max_model_len = 512, .n_vocab = BYTE_TOKENS, .max_logprobs = 20};
    return st;
}

static const char chat[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"tools\":[{\"type\":\"function\","
    "\"function\":{\"name\":\"f\"}}],\"return_token_ids\":true}";
static const char responses[] =
    "{\"input\":\"Hi\",\"tools\":[{\"type\":\"function\",\"name\":\"f\"}]}";
static const char messages[] =
    "{\"max_tokens\":50,\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"tools\":[{\"name\":"
    "\"f\"}]}";

static const struct dialect {
    const char *body;
    const oct_api_voice *voice;
    oct_status (*translate)(oct_api_job *job, oct_api_error *e);
} dialects[] = {{chat, &oct_api_voice_openai, NULL},
                {responses, &oct_api_voice_responses, oct_api_responses_translate},
                {messages, &oct_api_voice_messages, oct_api_messages_translate}};

/* One answer from a job to its end. True when all went well. */
static bool answer(oct_api *api, const struct dialect *d, bool stream, oct_buf *calls) {
    oct_api_job *job = NULL;
    oct_api_error e = {0};
    if (oct_api_job_create(api, NULL, OCT_API_CHAT, &job) != OCT_OK) return false;
    job->voice = d->voice;
    oct_status st = oct_api_parse_body(api, oct_str_of(d->body), &job->body, &e);
    if (st == OCT_OK && d->translate) st = d->translate(job, &e);
    if (st == OCT_OK) st = oct_api_read_chat(job, &e);
    oct_buf_cstr(&job->id, "number_0");
    if (st == OCT_OK && job->id.failed) st = oct_api_no_memory(&e);
    if (st != OCT_OK) {
        assert_int_equal(oct_api_error_status(&e), 503);
        oct_api_job_unref(job);
        return false;
    }
    oct_api_choice *c = &job->choices[0];
    const int32_t token = 'x';
    for (size_t i = 0; i < N_PIECES && !job->over; i++) {
        const bool last = i + 1 == N_PIECES;
        const oct_output out = {.text = oct_str_of(pieces[i]),
                                .tokens = &token,
                                .n_tokens = 1,
                                .finish = last ? OCT_FINISH_STOP : OCT_FINISH_NONE,
                                .stop_kind = last ? OCT_STOP_EOS : OCT_STOP_NONE,
                                .stop_text = OCT_STR(""),
                                .error = ""};
        if (stream)
            job->voice->output(c, &out);
        else
            oct_api_collect_output(c, &out);
    }
    bool good = !job->over && !c->speech.failed && !oct_api_any_failed(job);
    if (good && stream)
        job->voice->end(job);
    else if (good)
        job->voice->respond(job);
    good = good && !job->over;
    for (uint32_t i = 0; good && i < c->speech.n_calls; i++) {
        oct_buf_str(calls, oct_api_call_name(c, i));
        oct_buf_str(calls, oct_api_call_arguments(c, i));
    }
    oct_api_job_unref(job);
    return good;
}

static void the_same_calls_in_every_dialect(void **state) {
    oct_api *api = NULL;
    assert_int_equal(make_api(*state, oct_system_allocator(), &api), OCT_OK);
    for (size_t d = 0; d < OCT_COUNT(dialects); d++) {
        for (int stream = 0; stream < 2; stream++) {
            oct_buf calls;
            oct_buf_init(&calls, oct_system_allocator(), 0);
            assert_true(answer(api, &dialects[d], stream, &calls));
            assert_string_equal(oct_buf_cs(&calls), "f{\"city\": \"Z\xc3\xbcrich\"}g{}");
            oct_buf_fini(&calls);
        }
    }
    oct_api_destroy(api);
}

static void OS5_refused_memory(void **state) {
    for (size_t d = 0; d < OCT_COUNT(dialects); d++) {
        for (int stream = 0; stream < 2; stream++) {
            bool good = false;
            for (size_t n = 0; !good; n++) {
                oct_fault_alloc fault;
                oct_api *api = NULL;
                oct_buf calls;
                assert_true(n < 2000);
                oct_buf_init(&calls, oct_system_allocator(), 0);
                oct_fault_alloc_init(&fault, n, 0);
                if (make_api(*state, &fault.allocator, &api) == OCT_OK)
                    good = answer(api, &dialects[d], stream, &calls) && fault.n_requests <= n;
                oct_api_destroy(api);
                oct_buf_fini(&calls);
                assert_int_equal(fault.live_bytes, 0);
            }
        }
    }
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
        cmocka_unit_test(the_same_calls_in_every_dialect),
        cmocka_unit_test(OS5_refused_memory),
    };
    oct_log_set_level(OCT_LOG_OFF);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
