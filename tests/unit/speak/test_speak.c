/* test_speak.c - answers told apart: each parser, whole and cut in every way, and what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "codec/json.h"
#include "support/spoken.h"

static const char functions[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{"
    "\"n\":{\"type\":\"integer\"},\"x\":{\"type\":\"number\"},\"b\":{\"type\":\"boolean\"},"
    "\"l\":{\"type\":\"array\"},\"s\":{\"type\":\"string\"},"
    "\"o\":{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"null\"}]}}}}}]";

static json_t *tools;

static void check(const oct_speak_setup *setup, const char *text, const char *want) {
    const oct_str all = oct_str_of(text);
    for (size_t step = 1; step <= all.len + 1; step++) {
        spoken got;
        assert_true(spoken_run(oct_system_allocator(), setup, all, step, &got));
        assert_string_equal(oct_buf_cs(&got.line), want);
        assert_false(got.wrong);
        oct_buf_fini(&got.line);
    }
}

/* ---- reasoning ---- */

static void thinks(const char *parser, oct_speak_start start, int thinking, const char *text,
                   const char *want) {
    const oct_speak_setup s = {
        .reasoning = oct_speak_find_reasoning(parser), .start = start, .thinking = thinking};
    assert_non_null(s.reasoning);
    check(&s, text, want);
}

static void qwen3_reasoning(void **state) {
    (void)state;
    thinks("qwen3", OCT_SPEAK_UNSAID, -1, "<think>\na\n</think>\n\nHi", "R(\na\n)C(\n\nHi)");
    thinks("qwen3", OCT_SPEAK_UNSAID, -1, "a</think>Hi", "R(a)C(Hi)");
    thinks("qwen3", OCT_SPEAK_UNSAID, -1, " \n<think>a < b </thin", "R(a < b </thin)");
    thinks("qwen3", OCT_SPEAK_UNSAID, 1, "cut off", "R(cut off)");
    thinks("qwen3", OCT_SPEAK_UNSAID, 0, "a</think>Hi", "C(a</think>Hi)");
    thinks("qwen3", OCT_SPEAK_CLOSED, -1, "Hi", "C(Hi)");
    thinks("qwen3", OCT_SPEAK_OPEN, -1, "a</think>", "R(a)");
    thinks("qwen3", OCT_SPEAK_UNSAID, -1, "a<tool_call>b", "R(a)C(<tool_call>b)");
    thinks("qwen3", OCT_SPEAK_UNSAID, -1, "", "");
    thinks("qwen3", OCT_SPEAK_UNSAID, -1, "  ", "R(  )");
}

static void other_reasoning(void **state) {
    (void)state;
    thinks("deepseek_r1", OCT_SPEAK_UNSAID, -1, "a</think>b", "R(a)C(b)");
    thinks("deepseek_r1", OCT_SPEAK_OPEN, -1, "a", "R(a)");
    thinks("deepseek_v3", OCT_SPEAK_OPEN, -1, "a</think>b", "C(a</think>b)");
    thinks("deepseek_v3", OCT_SPEAK_OPEN, 1, "a</think>b", "R(a)C(b)");
    thinks("deepseek_v3", OCT_SPEAK_CLOSED, 1, "b", "C(b)");
    thinks("minimax_m2", OCT_SPEAK_OPEN, -1, "a</think>\n\nb", "R(a)C(\n\nb)");
    thinks("minimax_m2_append_think", OCT_SPEAK_OPEN, -1, "a</think>b", "C(<think>a</think>b)");
    thinks("minimax_m2_append_think", OCT_SPEAK_CLOSED, -1, "b", "C(b)");
    thinks("glm45", OCT_SPEAK_UNSAID, -1, "\n<think>a</think>b", "R(a)C(b)");
    thinks("glm45", OCT_SPEAK_UNSAID, -1, "b<think>", "C(b<think>)");
    thinks("mistral", OCT_SPEAK_UNSAID, -1, "[THINK]a[/THINK]b", "R(a)C(b)");
    assert_null(oct_speak_find_reasoning("qwen"));
}

static void what_is_demanded_waits_for_reasoning(void **state) {
    const oct_speak_reasoning *const qwen3 = oct_speak_find_reasoning("qwen3"),
                                     *const v3 = oct_speak_find_reasoning("deepseek_v3"),
                                     *const glm = oct_speak_find_reasoning("glm45");
    (void)state;
    assert_true(oct_speak_reasons_first(qwen3, OCT_SPEAK_UNSAID, -1));
    assert_false(oct_speak_reasons_first(qwen3, OCT_SPEAK_UNSAID, 0));
    assert_false(oct_speak_reasons_first(qwen3, OCT_SPEAK_CLOSED, -1));
    assert_true(oct_speak_reasons_first(qwen3, OCT_SPEAK_OPEN, 0));
    assert_false(oct_speak_reasons_first(v3, OCT_SPEAK_UNSAID, -1));
    assert_true(oct_speak_reasons_first(v3, OCT_SPEAK_UNSAID, 1));
    assert_false(oct_speak_reasons_first(glm, OCT_SPEAK_UNSAID, -1));
    assert_true(oct_speak_reasons_first(glm, OCT_SPEAK_UNSAID, 1));
}

static void names_are_those_of_the_tables(void **state) {
    char all[400];
    (void)state;
    strcpy(all, oct_speak_reasoning_names());
    for (char *at = strtok(all, "|"); at; at = strtok(NULL, "|"))
        assert_non_null(oct_speak_find_reasoning(at));
    strcpy(all, oct_speak_tools_names());
    for (char *at = strtok(all, "|"); at; at = strtok(NULL, "|"))
        assert_non_null(oct_speak_find_tools(at));
    assert_true(oct_speak_wants_short_ids(oct_speak_find_tools("mistral")));
    assert_false(oct_speak_wants_short_ids(oct_speak_find_tools("hermes")));
}

/* ---- calls ---- */

static void calls(const char *parser, const char *text, const char *want) {
    const oct_speak_setup s = {
        .thinking = -1, .tools = oct_speak_find_tools(parser), .functions = tools};
    assert_non_null(s.tools);
    check(&s, text, want);
}

static void hermes(void **state) {
    (void)state;
    calls("hermes", "Hi", "C(Hi)");
    calls("hermes",
          "<tool_call>\n{\"name\":\"f\",\"arguments\":{\"a\":1,\"b\":[1,2.50]}}\n</tool_call>",
          "F(f)({\"a\": 1, \"b\": [1, 2.5]})");
    calls("hermes",
          "See:\n<tool_call>{\"name\": \"f\", \"arguments\": {\"c\": "
          "\"Z\\u00fcrich\\n\\/\"}}</tool_call>\n"
          "<tool_call>{\"name\": \"g\"}</tool_call>\n",
          "C(See:\n)F(f)({\"c\": \"Zürich\\n/\"})F(g)({})");
    /* Without its end, and with the arguments as text. */
    calls("hermes", "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}",
          "F(f)({\"a\": 1})");
    /* What cannot be read is text. */
    calls("hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {</tool_call> x",
          "C(<tool_call>{\"name\": \"f\", \"arguments\": {</tool_call> x)");
    calls("hermes", "<tool_call>{\"name\": 3}</tool_call>",
          "C(<tool_call>{\"name\": 3}</tool_call>)");
    calls("hermes", "<tool_call>{\"name\": \"\"}</tool_call>",
          "C(<tool_call>{\"name\": \"\"}</tool_call>)");
    calls("hermes", "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
          "C(<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>)");
    calls("hermes", "a <tool_cal", "C(a <tool_cal)");
    calls("hermes", " \n", "C( \n)");
    calls("hermes", "\n\n<tool_call>{\"name\": \"f\"}</tool_call>", "F(f)({})");
    calls("hermes", "<tool_call>{\"name\": \"f\"}</tool_call>\n and more",
          "F(f)({})C(\n and more)");
}

static void qwen3_coder(void **state) {
    (void)state;
    calls("qwen3_coder",
          "<tool_call>\n<function=f>\n<parameter=n>\n5\n</parameter>\n<parameter=s>\n1\n2\n</"
          "parameter>\n"
          "<parameter=b>\nTrue\n</parameter>\n<parameter=l>\n[1,\"a\"]\n</parameter>\n"
          "</function>\n</tool_call>",
          "F(f)({\"n\": 5, \"s\": \"1\\n2\", \"b\": true, \"l\": [1, \"a\"]})");
    /* Wrong types stay text; an unknown parameter is text; null may stand where it is no string. */
    calls("qwen3_xml",
          "<tool_call><function=f><parameter=n>x</parameter><parameter=x>1.5</parameter>"
          "<parameter=z>3</parameter><parameter=o>null</parameter></function></tool_call>",
          "F(f)({\"n\": \"x\", \"x\": 1.5, \"z\": \"3\", \"o\": null})");
    /* The opening tag forgotten. */
    calls("qwen3_coder", "a\n<function=g>\n</function>\n</tool_call>", "C(a\n)F(g)({})");
    calls("qwen3_coder", "<tool_call><function=f><parameter=n>5",
          "C(<tool_call><function=f><parameter=n>5)");
    calls("qwen3_coder", "<tool_call><function=f>\n<parameter=s>a</parameter>",
          "F(f)({\"s\": \"a\"})");
}

static void llama3_json(void **state) {
    (void)state;
    calls("llama3_json", "{\"name\": \"f\", \"parameters\": {\"s\": \"}\"}}",
          "F(f)({\"s\": \"}\"})");
    calls("llama3_json",
          "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"arguments\": "
          "{\"a\": 1}}",
          "F(f)({})F(g)({\"a\": 1})");
    calls("llama3_json", "Use {\"name\": \"f\"}", "C(Use {\"name\": \"f\"})");
    calls("llama3_json", "{\"a\": 1}", "C({\"a\": 1})");
    calls("llama3_json", "{\"name\": \"f\"", "C({\"name\": \"f\")");
    calls("llama3_json", "<|python_tag|>print(1)", "C(<|python_tag|>print(1))");
}

static void mistral(void **state) {
    (void)state;
    calls("mistral",
          "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", "
          "\"arguments\": {}}]",
          "F(f)({\"a\": 1})F(g)({})");
    calls("mistral", "Well[TOOL_CALLS]f{\"a\": 1}[TOOL_CALLS]g[ARGS]{}",
          "C(Well)F(f)({\"a\": 1})F(g)({})");
    calls("mistral", "[TOOL_CALLS]f[CALL_ID]abc[ARGS]{\"a\": [1]}", "F(f)({\"a\": [1]})");
    /* One that is no call makes the list none. */
    calls("mistral", "[TOOL_CALLS][{\"name\": \"f\"}, 3]", "C([TOOL_CALLS][{\"name\": \"f\"}, 3])");
}

static void minimax_m2(void **state) {
    (void)state;
    calls("minimax_m2",
          "Ok\n<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"n\">5</parameter>\n"
          "<parameter name=\"s\">a > b</parameter>\n</invoke>\n<invoke "
          "name=\"g\">\n</invoke>\n</minimax:tool_call>",
          "C(Ok\n)F(f)({\"n\": 5, \"s\": \"a > b\"})F(g)({})");
    calls("minimax_m2", "<minimax:tool_call></minimax:tool_call>",
          "C(<minimax:tool_call></minimax:tool_call>)");
}

static void deepseek(void **state) {
    (void)state;
    calls("deepseek_v3",
          "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": "
          "1}\n```"
          "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<"
          "｜tool▁call▁end｜>"
          "<｜tool▁calls▁end｜>",
          "F(f)({\"a\": 1})F(g)({})");
    calls("deepseek_v31",
          "a<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": "
          "\"é\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
          "C(a)F(f)({\"a\": \"é\"})");
    calls("deepseek_v31", "<｜tool▁calls▁begin｜>x<｜tool▁calls▁end｜>",
          "C(<｜tool▁calls▁begin｜>x<｜tool▁calls▁end｜>)");
}

static void pythonic(void **state) {
    (void)state;
    calls("pythonic", "[f(n=5, s='it\\'s \"x\"', l=[1, (2, 3),], d={'a': None}), g.h()]",
          "F(f)({\"n\": 5, \"s\": \"it's \\\"x\\\"\", \"l\": [1, [2, 3]], \"d\": {\"a\": "
          "null}})F(g.h)({})");
    calls("pythonic", "[f(x=-1.5e3, b=True, s=\"\\u00e9\\x41)]\")]",
          "F(f)({\"x\": -1500.0, \"b\": true, \"s\": \"éA)]\"})");
    calls("pythonic", "[1, 2]", "C([1, 2])");
    calls("pythonic", "[f(1)]", "C([f(1)])");
    calls("pythonic", "[f(a=)]", "C([f(a=)])");
    calls("pythonic", "[]", "C([])");
}

static void one_call_only(void **state) {
    (void)state;
    const oct_speak_setup s = {
        .thinking = -1, .tools = oct_speak_find_tools("hermes"), .one_call = true};
    check(&s, "<tool_call>{\"name\": \"f\"}</tool_call><tool_call>{\"name\": \"g\"}</tool_call>",
          "F(f)({})");
}

static void required_and_named(void **state) {
    (void)state;
    oct_speak_setup s = {.thinking = -1, .mode = OCT_SPEAK_REQUIRED};
    check(&s, "[{\"name\": \"f\", \"parameters\": {\"a\":1}}, {\"name\":\"g\",\"parameters\":{}}]",
          "F(f)({\"a\": 1})F(g)({})");
    check(&s, "[{\"name\": \"f\"", "C([{\"name\": \"f\")");
    check(&s, "[ {\"name\":\"f\"} , {\"name\"", "F(f)({})");
    check(&s, "[ ", "C([ )");
    s = (oct_speak_setup){.reasoning = oct_speak_find_reasoning("qwen3"),
                          .thinking = -1,
                          .mode = OCT_SPEAK_NAMED,
                          .name = OCT_STR("f")};
    check(&s, "<think>a</think>{\"a\":1}", "R(a)F(f)({\"a\":1})");
    check(&s, "", "F(f)()");
}

static void reasoning_then_calls(void **state) {
    (void)state;
    const oct_speak_setup s = {.reasoning = oct_speak_find_reasoning("qwen3"),
                               .thinking = -1,
                               .tools = oct_speak_find_tools("hermes")};
    check(&s, "<think>a</think>\n\n<tool_call>{\"name\": \"f\"}</tool_call>", "R(a)F(f)({})");
    check(&s, "a<tool_call>{\"name\": \"f\"}</tool_call>", "R(a)F(f)({})");
}

typedef struct counts {
    size_t content, arguments, calls;
} counts;

static void count(void *ctx, oct_speak_kind kind, oct_str text) {
    counts *n = ctx;
    n->content += kind == OCT_SPEAK_CONTENT ? text.len : 0;
    n->arguments += kind == OCT_SPEAK_ARGUMENTS ? text.len : 0;
    n->calls += kind == OCT_SPEAK_CALL;
}

/* head, n times part, tail, in pieces of step bytes. */
static counts speak_much(const char *parser, const char *head, const char *part, size_t n,
                         const char *tail, size_t step) {
    const oct_speak_setup setup = {.thinking = -1, .tools = oct_speak_find_tools(parser)};
    counts seen = {0};
    oct_speak *s;
    oct_buf text;
    oct_buf_init(&text, oct_system_allocator(), 0);
    oct_buf_cstr(&text, head);
    for (size_t i = 0; i < n; i++) oct_buf_cstr(&text, part);
    oct_buf_cstr(&text, tail);
    assert_int_equal(oct_speak_create(oct_system_allocator(), &setup, count, &seen, &s), OCT_OK);
    for (size_t at = 0; at < text.len; at += step) {
        const size_t len = text.len - at < step ? text.len - at : step;
        assert_int_equal(oct_speak_feed(s, (oct_str){text.data + at, len}), OCT_OK);
    }
    assert_int_equal(oct_speak_end(s), OCT_OK);
    if (seen.calls == 0) assert_int_equal(seen.content, text.len);
    oct_speak_destroy(s);
    oct_buf_fini(&text);
    return seen;
}

/* What only looks like a call is text; all of it takes time in proportion to its length, or this
 * test would take hours. */
static void SO7_output_like_a_call(void **state) {
    static const char *const parsers[] = {"hermes",     "qwen3_coder", "llama3_json", "mistral",
                                          "minimax_m2", "deepseek_v3", "pythonic"};
    const size_t many = 100000, steps[] = {3, SIZE_MAX};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const size_t step = steps[i];
        for (size_t p = 0; p < OCT_COUNT(parsers); p++) {
            assert_int_equal(speak_much(parsers[p], "", "[{\"", many, "", step).calls, 0);
            assert_int_equal(speak_much(parsers[p], "<tool_call>[", "[", many, "", step).calls, 0);
            assert_int_equal(speak_much(parsers[p], "", "<tool_call>", many, "", step).calls, 0);
            assert_int_equal(
                speak_much(parsers[p], "", "<tool_call></tool_call>", many, "", step).calls, 0);
            assert_int_equal(
                speak_much(parsers[p], "[TOOL_CALLS]f{\"a\": ", "[", many, "", step).calls, 0);
            assert_int_equal(
                speak_much(parsers[p], "import os\n", "os.remove('x')\n", many, "", step).calls, 0);
        }
        const counts big =
            speak_much("hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"",
                       "0123456789", many, "\"}}</tool_call>", step);
        assert_int_equal(big.calls, 1);
        assert_int_equal(big.arguments, 10 * many + strlen("{\"a\": \"\"}"));
        assert_int_equal(
            speak_much("mistral", "[TOOL_CALLS]f{\"a\": \"", "0123456789", many, "\"}", step).calls,
            1);
        const counts calls = speak_much("hermes", "", "<tool_call>{\"name\": \"f\"}</tool_call>",
                                        many / 10, "", step);
        assert_int_equal(calls.calls, many / 10);
    }
}

/* Whichever request for memory is refused: a status, and nothing is lost. */
static void OS5_refused_memory(void **state) {
    const oct_speak_setup s = {.reasoning = oct_speak_find_reasoning("qwen3"),
                               .thinking = -1,
                               .tools = oct_speak_find_tools("qwen3_coder"),
                               .functions = tools};
    const oct_str text =
        OCT_STR("<think>a</think> <tool_call><function=f><parameter=n>5</parameter>"
                "</function></tool_call> b <tool_call>c");
    bool good = false;
    (void)state;
    for (size_t n = 0; !good; n++) {
        oct_fault_alloc fault;
        spoken got;
        assert_true(n < 1000);
        oct_fault_alloc_init(&fault, n, 0);
        good = spoken_run(&fault.allocator, &s, text, 3, &got);
        oct_buf_fini(&got.line);
        assert_int_equal(fault.live_bytes, 0);
    }
}

static int set_up(void **state) {
    (void)state;
    return oct_json_parse(oct_str_of(functions), "t", &oct_json_request_limits, &tools, NULL) !=
           OCT_OK;
}

static int tear_down(void **state) {
    (void)state;
    json_decref(tools);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qwen3_reasoning),
        cmocka_unit_test(other_reasoning),
        cmocka_unit_test(what_is_demanded_waits_for_reasoning),
        cmocka_unit_test(names_are_those_of_the_tables),
        cmocka_unit_test(hermes),
        cmocka_unit_test(qwen3_coder),
        cmocka_unit_test(llama3_json),
        cmocka_unit_test(mistral),
        cmocka_unit_test(minimax_m2),
        cmocka_unit_test(deepseek),
        cmocka_unit_test(pythonic),
        cmocka_unit_test(one_call_only),
        cmocka_unit_test(required_and_named),
        cmocka_unit_test(reasoning_then_calls),
        cmocka_unit_test(SO7_output_like_a_call),
        cmocka_unit_test(OS5_refused_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
