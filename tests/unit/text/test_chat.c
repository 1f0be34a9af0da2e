/*
 * text/chat.h: message shapes, tools, open last messages, arguments as text, kwargs (row TP8).
 */
#include "template_check.h"

#include "text/chat.h"

static const char by_string[] = "{% for m in messages %}{{ m|tojson }}\n{% endfor %}";
static const char by_parts[] =
    "{% for m in messages %}{% for p in m.content %}{% endfor %}{{ m|tojson }}\n{% endfor %}";

static oct_template *compiled(const char *source) {
    oct_template *t;
    oct_err err = {.code = OCT_OK};
    if (oct_template_create(oct_system_allocator(), source, strlen(source), &t, &err) != OCT_OK)
        fail_msg("%s", err.text);
    return t;
}

static rendered run(const oct_template *t, const char *messages, const oct_chat_request *like) {
    rendered r = {.status = OCT_OK};
    json_t *m = json_of(messages);
    oct_chat_request req = like ? *like : (oct_chat_request){.n_vars = 0};
    req.messages = m;
    oct_buf_init(&r.text, oct_system_allocator(), 0);
    oct_buf_cstr(&r.text, ">");
    r.status = oct_chat_render(t, &req, NULL, &r.text, &r.err);
    json_decref(m);
    return r;
}

static void gives(const char *source, const char *messages, const oct_chat_request *like,
                  const char *want) {
    oct_template *t = compiled(source);
    rendered r = run(t, messages, like);
    if (r.status != OCT_OK) fail_msg("%s", r.err.text);
    assert_string_equal(oct_buf_cs(&r.text) + 1, want);
    oct_buf_fini(&r.text);
    oct_template_release(t);
}

static void refuses(const char *source, const char *messages, const oct_chat_request *like,
                    oct_status code, const char *word) {
    oct_template *t = compiled(source);
    rendered r = run(t, messages, like);
    assert_int_equal(r.status, code);
    if (!strstr(r.err.text, word)) fail_msg("said: %s\nwant: %s", r.err.text, word);
    assert_string_equal(oct_buf_cs(&r.text), ">");
    oct_buf_fini(&r.text);
    oct_template_release(t);
}

/* ---- shapes ---- */

static void content_for_strings(void **state) {
    (void)state;
    gives(by_string, "[{\"role\": \"user\", \"content\": \"a\", \"name\": \"N\"}]", NULL,
          "{\"role\": \"user\", \"content\": \"a\", \"name\": \"N\"}\n");
    gives(by_string,
          "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, \"b\"]}]",
          NULL, "{\"role\": \"user\", \"content\": \"a\\nb\"}\n");
    gives(by_string, "[{\"role\": \"assistant\", \"content\": null}, {\"role\": \"assistant\"}]",
          NULL,
          "{\"role\": \"assistant\", \"content\": \"\"}\n{\"role\": \"assistant\", \"content\": "
          "\"\"}\n");
    gives(by_string, "[{\"role\": \"developer\", \"content\": \"d\"}]", NULL,
          "{\"role\": \"developer\", \"content\": \"d\"}\n");
}

/* Parts as the Responses API and the models' own answers name them. */
static void kinds_of_text_parts(void **state) {
    (void)state;
    gives("{{ messages[0].content }}",
          "[{\"role\": \"user\", \"content\": [{\"type\": \"input_text\", \"text\": \"a\"},"
          " {\"type\": \"output_text\", \"text\": \"b\"},"
          " {\"type\": \"refusal\", \"refusal\": \"c\"}]}]",
          NULL, "a\nb\nc");
    refuses("x", "[{\"role\": \"user\", \"content\": [{\"type\": \"refusal\", \"text\": \"c\"}]}]",
            NULL, OCT_E_INVALID, "messages[0].content: the text must be a string (got nothing)");
    refuses("x", "[{\"role\": \"user\", \"content\": [{\"type\": \"input_audio\"}]}]", NULL,
            OCT_E_UNSUPPORTED, "only text parts are supported (got \"input_audio\")");
}

static void content_for_parts(void **state) {
    (void)state;
    gives(by_parts, "[{\"role\": \"user\", \"content\": \"a\"}]", NULL,
          "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}]}\n");
    gives(by_parts, "[{\"role\": \"user\", \"content\": [\"a\"]}, {\"role\": \"user\"}]", NULL,
          "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}]}\n"
          "{\"role\": \"user\", \"content\": []}\n");
    gives(by_parts,
          "[{\"role\": \"tool\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, \"b\"]}]",
          NULL, "{\"role\": \"tool\", \"content\": \"a\\nb\"}\n");
}

static void reasoning_has_two_names(void **state) {
    (void)state;
    const char *source =
        "{% for m in messages %}{{ m.reasoning }}|{{ m.reasoning_content }};{% endfor %}";
    gives(source,
          "[{\"role\": \"assistant\", \"reasoning\": \"r\"},"
          " {\"role\": \"assistant\", \"reasoning_content\": \"c\"},"
          " {\"role\": \"assistant\", \"reasoning\": null, \"reasoning_content\": \"c\"},"
          " {\"role\": \"assistant\", \"reasoning\": null}]",
          NULL, "r|r;c|c;c|c;|;");
}

static void tool_calls_are_parsed(void **state) {
    (void)state;
    const char *source =
        "{% for m in messages %}{% for c in m.tool_calls %}{{ c.id }}{{ c.function.arguments }}"
        "{% endfor %}{{ m.tool_calls is defined }};{% endfor %}";
    gives(source,
          "[{\"role\": \"assistant\", \"tool_calls\": []},"
          " {\"role\": \"assistant\", \"tool_calls\": null},"
          " {\"role\": \"assistant\", \"tool_calls\": [{\"id\": \"a\", \"function\": {\"name\": "
          "\"f\", "
          "\"arguments\": \"{\\\"x\\\": 1.0}\"}}, {\"id\": \"b\", \"type\": \"function\", "
          "\"function\": "
          "{\"name\": \"f\", \"arguments\": \"\"}}, {\"function\": {\"name\": \"f\"}}, "
          "{\"function\": "
          "{\"name\": \"f\", \"arguments\": {\"k\": [true]}}}]}]",
          NULL, "False;False;a{'x': 1.0}b{}{}{'k': [True]}True;");
}

static void bad_messages_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *messages, *word;
    } rows[] = {
        {"[]", "messages: must be a non-empty array"},
        {"{}", "messages: must be a non-empty array"},
        {"[1]", "messages[0]: must be an object (got 1)"},
        {"[{\"role\": \"user\", \"content\": \"x\"}, {\"content\": \"x\"}]", "messages[1].role"},
        {"[{\"role\": 5}]", "messages[0].role: must be a string (got 5)"},
        {"[{\"role\": \"user\", \"content\": 5}]", "messages[0].content"},
        {"[{\"role\": \"user\", \"content\": {}}]", "messages[0].content"},
        {"[{\"role\": \"user\", \"content\": [5]}]", "a part must be an object"},
        {"[{\"role\": \"user\", \"content\": [{}]}]", "a part must have a type"},
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]",
         "the text must be a string"},
        {"[{\"role\": \"a\", \"tool_calls\": 1}]", "messages[0].tool_calls: must be an array"},
        {"[{\"role\": \"a\", \"tool_calls\": [1]}]", "a call must be an object"},
        {"[{\"role\": \"a\", \"tool_calls\": [{}]}]", "a call must have a function"},
        {"[{\"role\": \"a\", \"tool_calls\": [{\"function\": {}}]}]", "must have a name"},
        {"[{\"role\": \"a\", \"tool_calls\": [{\"type\": \"custom\"}]}]",
         "only calls of type function"},
        {"[{\"role\": \"a\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": "
         "\"{\"}}]}]",
         "messages[0].tool_calls"},
        {"[{\"role\": \"a\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": "
         "\"[1]\"}}]}]",
         "must be a JSON object"},
        {"[{\"role\": \"a\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": "
         "5}}]}]",
         "must be JSON text or an object"},
        {"[{\"role\": \"a\", \"reasoning\": 5}]", "messages[0].reasoning"},
        {"[{\"role\": \"a\", \"tool_calls\": [{\"type\": null, \"function\": {\"name\": 5}}]}]",
         "a function must have a name (got 5)"},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        refuses(by_string, rows[i].messages, NULL, OCT_E_INVALID, rows[i].word);
        refuses(by_parts, rows[i].messages, NULL, OCT_E_INVALID, rows[i].word);
    }
    refuses(
        by_string,
        "[{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": "
        "\"x\"}}]}]",
        NULL, OCT_E_UNSUPPORTED, "only text parts are supported (got \"image_url\")");
}

static void requests_are_not_changed(void **state) {
    (void)state;
    const char *text =
        "[{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": "
        "\"call_0123456789\", \"function\": {\"name\": \"f\", \"arguments\": \"{}\"}}]}]";
    oct_template *t = compiled("{% for m in messages %}{% if m.tool_calls[0].id|length != 9 %}"
                               "{{ raise_exception('ids') }}{% endif %}{% endfor %}");
    json_t *m = json_of(text), *same = json_of(text), *shaped;
    assert_int_equal(oct_chat_messages(t, m, OCT_CHAT_ARGS_TEXT, &shaped, NULL), OCT_OK);
    assert_true(json_equal(m, same));
    json_decref(shaped);
    json_decref(same);
    json_decref(m);
    oct_template_release(t);
}

/* ---- tools ---- */

static void tools_have_one_order(void **state) {
    (void)state;
    json_t *tools =
        json_of("[{\"function\": {\"strict\": true, \"name\": \"f\"}, \"x\": 1, \"type\": "
                "\"function\"}]");
    const oct_chat_request req = {.tools = tools};
    gives("{{ tools|tojson }}", "[{\"role\": \"user\"}]", &req,
          "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": null, "
          "\"parameters\": null, \"strict\": true}, \"x\": 1}]");
    json_decref(tools);

    tools = json_of("[]");
    const oct_chat_request none = {.tools = tools};
    gives("{{ tools }}", "[{\"role\": \"user\"}]", &none, "None");
    json_decref(tools);

    tools = json_null();
    const oct_chat_request null = {.tools = tools};
    gives("{{ tools }}", "[{\"role\": \"user\"}]", &null, "None");
}

static void bad_tools_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *tools, *word;
    } rows[] = {
        {"{}", "tools: must be an array"},
        {"[1]", "tools[0]: must be an object with a function"},
        {"[{\"type\": \"function\"}]", "tools[0]: must be an object with a function"},
        {"[{\"function\": {\"name\": \"f\"}}, {\"function\": {\"name\": null}}]",
         "tools[1].function.name: must be a string"},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        json_t *tools = json_of(rows[i].tools);
        const oct_chat_request req = {.tools = tools};
        refuses("x", "[{\"role\": \"user\"}]", &req, OCT_E_INVALID, rows[i].word);
        json_decref(tools);
    }
}

static void mistral_ids_are_nine_long(void **state) {
    (void)state;
    const char *source =
        "{% for m in messages %}{% for c in m.tool_calls or [] %}"
        "{% if c.id is not defined or c.id|length != 9 %}{{ raise_exception('id') }}"
        "{% endif %}{{ c.id }} {% endfor %}{{ m.tool_call_id }}{% endfor %}";
    gives(
        source,
        "[{\"role\": \"assistant\", \"tool_calls\": [{\"id\": \"chatcmpl-tool-0123-456789abcdef\", "
        "\"function\": {\"name\": \"f\"}}, {\"id\": \"a_1\", \"function\": {\"name\": \"f\"}}]},"
        " {\"role\": \"tool\", \"tool_call_id\": \"chatcmpl-tool-0123-456789abcdef\"}]",
        NULL, "789abcdef 0000000a1 789abcdef");
    gives(
        source,
        "[{\"role\": \"assistant\", \"tool_calls\": [{\"id\": \"f:1-Z\", \"function\": {\"name\": "
        "\"f\"}}, {\"id\": \"{x}\", \"function\": {\"name\": \"f\"}}]}]",
        NULL, "000000f1Z 00000000x ");
    oct_template *plain = compiled(by_string);
    assert_false(oct_template_wants_short_ids(plain));
    oct_template_release(plain);
}

/* ---- arguments as text ---- */

static void arguments_as_text_when_needed(void **state) {
    (void)state;
    const char *messages = "[{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": "
                           "\"f\", \"arguments\": "
                           "\"{\\\"city\\\": \\\"Zürich\\\", \\\"n\\\": [1, 2]}\"}}]}]";
    oct_template *t = compiled("{% for m in messages %}{% for c in m.tool_calls %}"
                               "{{ '<' + c.function.arguments + '>' }}{% endfor %}{% endfor %}");
    for (int i = 0; i < 2; i++) { /* the second time it is known at once */
        rendered r = run(t, messages, NULL);
        assert_int_equal(r.status, OCT_OK);
        assert_string_equal(oct_buf_cs(&r.text), "><{\"city\":\"Zürich\",\"n\":[1,2]}>");
        oct_buf_fini(&r.text);
    }
    oct_template_release(t);
    /* other failures are not tried again, and the first reason is the one that is told */
    refuses("{% for m in messages %}{{ m.tool_calls + 1 }}{% endfor %}", messages, NULL,
            OCT_E_INVALID, "unsupported operand type(s) for +: 'list' and 'int'");
    refuses("{{ raise_exception('no tools') }}", messages, NULL, OCT_E_INVALID, "no tools");
    /* without calls there is nothing to give in another form */
    refuses("{{ 1 + messages }}", "[{\"role\": \"user\"}]", NULL, OCT_E_INVALID,
            "'int' and 'list'");
    refuses("{{ 1 + messages }}", "[{\"role\": \"user\"}, {\"role\": \"a\", \"tool_calls\": []}]",
            NULL, OCT_E_INVALID, "'int' and 'list'");
}

/* The depth of arguments counts in both forms. */
static void TP8_arguments_that_are_too_deep(void **state) {
    (void)state;
    json_t *deep = json_object();
    for (int i = 0; i < 1000; i++) deep = json_pack("{s:o}", "k", deep);
    json_t *m = json_pack("[{s:s, s:[{s:{s:s, s:o}}]}]", "role", "assistant", "tool_calls",
                          "function", "name", "f", "arguments", deep);
    oct_template *t = compiled("x");
    json_t *out;
    oct_err err = {.code = OCT_OK};
    assert_int_equal(oct_chat_messages(t, m, OCT_CHAT_ARGS_TEXT, &out, &err), OCT_E_INVALID);
    assert_string_equal(err.text, "template limit exceeded");
    assert_null(out);
    oct_buf text;
    oct_buf_init(&text, oct_system_allocator(), 0);
    const oct_chat_request req = {.messages = m};
    assert_int_equal(oct_chat_render(t, &req, NULL, &text, NULL), OCT_E_INVALID);
    /* what the caller's sentence says already stays */
    oct_err first = {.code = OCT_E_IO, .text = "first"};
    assert_int_equal(oct_chat_render(t, &req, NULL, &text, &first), OCT_E_INVALID);
    assert_string_equal(first.text, "first");
    oct_buf_fini(&text);
    oct_template_release(t);
    json_decref(m);
}

/* ---- continue_final_message ---- */

static const char chatml[] =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";
static const char chatml_trimmed[] =
    "{% for m in messages %}<{{ m.role }}>{{ m.content|trim }}<end>\n{% endfor %}";

static void last_message_stays_open(void **state) {
    (void)state;
    const oct_chat_request open = {.continue_final_message = true, .add_generation_prompt = true};
    gives(chatml,
          "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"a "
          "b\"}]",
          &open, "<user>a<end>\n<assistant>a b");
    gives(chatml,
          "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \" x "
          "\"}]",
          &open, "<user>a<end>\n<assistant> x ");
    gives(chatml_trimmed, "[{\"role\": \"assistant\", \"content\": \" x \\n\"}]", &open,
          "<assistant>x");
    gives(chatml,
          "[{\"role\": \"assistant\", \"content\": [{\"type\": \"text\", \"text\": \"p\"}]}]",
          &open, "<assistant>p");
    /* the last place that holds the text, not one that begins like it */
    gives("{{ messages[0].content }}, abx {{ messages[0].role }}",
          "[{\"role\": \"aby\", \"content\": \"abc\"}]", &open, "abc");
    gives(
        by_parts, "[{\"role\": \"assistant\", \"content\": [\"p\", \"q\"]}]", &open,
        "{\"role\": \"assistant\", \"content\": [{\"type\": \"text\", \"text\": \"p\"}, {\"type\": "
        "\"text\", \"text\": \"q");
    refuses(by_parts, "[{\"role\": \"assistant\", \"content\": []}]", &open, OCT_E_INVALID,
            "no text to continue");
    refuses(chatml, "[{\"role\": \"assistant\", \"content\": \"  \"}]", &open, OCT_E_INVALID,
            "no text to continue");
    refuses("", "[{\"role\": \"assistant\", \"content\": \"x\"}]", &open, OCT_E_INVALID,
            "changed the text of the last message");
    refuses("{% for m in messages %}{{ m.content|upper }}{% endfor %}",
            "[{\"role\": \"assistant\", \"content\": \"x\"}]", &open, OCT_E_INVALID,
            "changed the text of the last message");
}

/* ---- kwargs ---- */

static void TP8_kwargs(void **state) {
    (void)state;
    static const char *const rows[] = {"{\"chat_template\": \"x\"}", "{\"tokenize\": true}",
                                       "{\"messages\": []}", "{\"tools\": []}"};
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        json_t *kwargs = json_of(rows[i]);
        const oct_chat_request req = {.kwargs = kwargs};
        refuses("x", "[{\"role\": \"user\"}]", &req, OCT_E_INVALID, "is not allowed");
        json_decref(kwargs);
    }
    json_t *many = json_object(), *deep = json_object(), *list = json_of("[1]");
    for (int i = 0; i < 100000; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        json_object_set_new(many, key, json_integer(i));
    }
    json_t *in = json_object();
    for (int i = 0; i < 1000; i++) in = json_pack("{s:o}", "k", in);
    json_object_set_new(deep, "k", in);
    const oct_chat_request too_many = {.kwargs = many}, too_deep = {.kwargs = deep},
                           wrong = {.kwargs = list};
    refuses("x", "[{\"role\": \"user\"}]", &too_many, OCT_E_INVALID, "too many (got 100000");
    refuses("x", "[{\"role\": \"user\"}]", &too_deep, OCT_E_INVALID, "template limit exceeded");
    refuses("x", "[{\"role\": \"user\"}]", &wrong, OCT_E_INVALID, "must be an object");
    json_decref(many);
    json_decref(deep);
    json_decref(list);
}

static void reasoning_effort_sets_thinking(void **state) {
    (void)state;
    const char *source = "{{ reasoning_effort }} {{ enable_thinking }}";
    const char *messages = "[{\"role\": \"user\"}]";
    const oct_chat_request low = {.reasoning_effort = "low"}, off = {.reasoning_effort = "none"};
    gives(source, messages, &low, "low True");
    gives(source, messages, &off, "none False");
    gives(source, messages, NULL, " ");
    json_t *kwargs = json_of("{\"enable_thinking\": true}");
    const oct_chat_request own = {.reasoning_effort = "none", .kwargs = kwargs};
    gives(source, messages, &own, "none True");
    json_decref(kwargs);
    kwargs = json_of("{\"reasoning_effort\": \"max\"}");
    const oct_chat_request both = {.reasoning_effort = "none", .kwargs = kwargs};
    gives(source, messages, &both, "max False");
    json_decref(kwargs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_for_strings),
        cmocka_unit_test(kinds_of_text_parts),
        cmocka_unit_test(content_for_parts),
        cmocka_unit_test(reasoning_has_two_names),
        cmocka_unit_test(tool_calls_are_parsed),
        cmocka_unit_test(bad_messages_are_refused),
        cmocka_unit_test(requests_are_not_changed),
        cmocka_unit_test(tools_have_one_order),
        cmocka_unit_test(bad_tools_are_refused),
        cmocka_unit_test(mistral_ids_are_nine_long),
        cmocka_unit_test(arguments_as_text_when_needed),
        cmocka_unit_test(TP8_arguments_that_are_too_deep),
        cmocka_unit_test(last_message_stays_open),
        cmocka_unit_test(TP8_kwargs),
        cmocka_unit_test(reasoning_effort_sets_thinking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
