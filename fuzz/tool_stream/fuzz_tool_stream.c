/*
 * Any answer, told apart by any pair of parsers: whole and cut into pieces it says the same, calls
 * have a name and arguments that are one JSON object, and no character of it is lost or made up
 * where there is neither reasoning nor call.
 *
 * Bytes: reasoning parser, tool parser, start and variables, then the text.
 */
#include <stddef.h>
#include <stdint.h>

#include "codec/json.h"
#include "codec/utf8.h"
#include "support/spoken.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const reasoning[] = {
    "",        "qwen3", "deepseek_r1", "deepseek_v3", "minimax_m2", "minimax_m2_append_think",
    "mistral", "glm45"};
static const char *const tools[] = {"",        "hermes",     "qwen3_coder", "llama3_json",
                                    "mistral", "minimax_m2", "deepseek_v3", "deepseek_v31",
                                    "pythonic"};
enum { N_REASONING = 8, N_TOOLS = 9 };

static void check(bool ok) {
    if (!ok) __builtin_trap();
}

typedef struct arguments {
    oct_buf text;
    bool named;
} arguments;

static void check_call(void *ctx, oct_speak_kind kind, oct_str text) {
    arguments *a = ctx;
    json_t *v = NULL;
    if (kind == OCT_SPEAK_CALL) {
        check(text.len > 0);
        oct_buf_clear(&a->text);
    } else if (kind == OCT_SPEAK_ARGUMENTS) {
        oct_buf_str(&a->text, text);
    } else if (kind == OCT_SPEAK_CALL_END && !a->named) {
        check(oct_json_parse(oct_buf_view(&a->text), "a", &oct_json_request_limits, &v, NULL) ==
              OCT_OK);
        check(json_is_object(v));
        json_decref(v);
    }
}

static json_t *functions(void) {
    static json_t *all;
    static const char text[] =
        "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{"
        "\"properties\":{\"n\":{\"type\":\"integer\"},\"l\":{\"type\":[\"array\",\"null\"]}}}}}]";
    if (!all)
        check(oct_json_parse(OCT_STR(text), "t", &oct_json_request_limits, &all, NULL) == OCT_OK);
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) return 0;
    const oct_str text = {(const char *)data + 3, size - 3};
    if (!oct_utf8_valid(text, NULL)) return 0;
    const oct_speak_setup setup = {.reasoning =
                                       oct_speak_find_reasoning(reasoning[data[0] % N_REASONING]),
                                   .tools = oct_speak_find_tools(tools[data[1] % N_TOOLS]),
                                   .start = (oct_speak_start)(data[2] % 3),
                                   .thinking = data[2] / 3 % 3 - 1,
                                   .mode = (oct_speak_mode)(data[2] / 9 % 3),
                                   .name = OCT_STR("named"),
                                   .functions = functions(),
                                   .one_call = data[2] & 128};
    const size_t steps[] = {1, 2, 7, size + 1};
    spoken first = {0};
    for (int i = 0; i < 4; i++) {
        spoken got;
        check(spoken_run(oct_system_allocator(), &setup, text, steps[i], &got) && !got.wrong);
        if (i > 0) {
            check(oct_str_eq(oct_buf_view(&got.line), oct_buf_view(&first.line)));
            oct_buf_fini(&got.line);
        } else {
            first = got;
        }
    }
    oct_buf_fini(&first.line);

    arguments a = {.named = setup.mode == OCT_SPEAK_NAMED};
    oct_speak *s = NULL;
    oct_buf_init(&a.text, oct_system_allocator(), 0);
    check(oct_speak_create(oct_system_allocator(), &setup, check_call, &a, &s) == OCT_OK);
    check(oct_speak_feed(s, text) == OCT_OK && oct_speak_end(s) == OCT_OK);
    oct_speak_destroy(s);
    oct_buf_fini(&a.text);
    return 0;
}
