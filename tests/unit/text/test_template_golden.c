/*
 * Renderings that other programs made: golden/tokenizers (the chats of expected.json), and the
 * conversation C1 of the serving specification through templates of our own in the shape of
 * the families it names.
 */
#include "template_check.h"

#include "support/golden.h"
#include "text/chat.h"

/* ---- golden/tokenizers ---- */

static json_t *load(const char *path) {
    char piece[4096];
    json_t *v = NULL;
    oct_err err = {.code = OCT_OK};
    oct_buf all;
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("cannot read %s", path);
    oct_buf_init(&all, oct_system_allocator(), 0);
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;) oct_buf_add(&all, piece, n);
    fclose(f);
    if (oct_json_parse(oct_buf_view(&all), path, &oct_json_file_limits, &v, &err) != OCT_OK)
        fail_msg("%s", err.text);
    oct_buf_fini(&all);
    return v;
}

static const char *token_text(const json_t *config, const char *name) {
    const json_t *v = json_object_get(config, name);
    if (json_is_object(v)) v = json_object_get(v, "content");
    return json_string_value(v);
}

static size_t check_chat(const oct_template *t, const json_t *config, const json_t *chat) {
    const oct_template_var vars[] = {{"bos_token", token_text(config, "bos_token")},
                                     {"eos_token", token_text(config, "eos_token")},
                                     {"pad_token", token_text(config, "pad_token")},
                                     {"unk_token", token_text(config, "unk_token")}};
    const oct_chat_request req = {
        .messages = json_object_get(chat, "messages"),
        .tools = json_object_get(chat, "tools"),
        .add_generation_prompt = json_is_true(json_object_get(chat, "add_generation_prompt")),
        .kwargs = json_object_get(chat, "kwargs"),
        .vars = vars,
        .n_vars = OCT_COUNT(vars),
    };
    oct_err err = {.code = OCT_OK};
    oct_buf out;
    oct_buf_init(&out, oct_system_allocator(), 0);
    const oct_status st = oct_chat_render(t, &req, NULL, &out, &err);
    const char *want = json_string_value(json_object_get(chat, "rendered"));
    const bool ok = st == OCT_OK && strcmp(oct_buf_cs(&out), want) == 0;
    if (!ok)
        print_error("%s: %s\n got: %s\nwant: %s\n",
                    json_string_value(json_object_get(chat, "name")), err.text, oct_buf_cs(&out),
                    want);
    oct_buf_fini(&out);
    return !ok;
}

static void golden_chats(void **state) {
    (void)state;
    static const char *const names[] = {"llama3_1", "qwen3"};
    const char *root = golden_root();
    if (!root) skip();
    size_t n = 0, n_bad = 0;
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/tokenizers/%s/expected.json", root, names[i]);
        json_t *expected = load(path);
        snprintf(path, sizeof path, "%s/tokenizers/%s/tokenizer_config.json", root, names[i]);
        json_t *config = load(path);
        const oct_str source = oct_json_str(json_object_get(config, "chat_template"));
        oct_template *t;
        assert_int_equal(
            oct_template_create(oct_system_allocator(), source.ptr, source.len, &t, NULL), OCT_OK);
        const json_t *chats = json_object_get(expected, "chat");
        for (size_t j = 0; j < json_array_size(chats); j++, n++)
            n_bad += check_chat(t, config, json_array_get(chats, j));
        oct_template_release(t);
        json_decref(expected);
        json_decref(config);
    }
    print_message("%zu golden chats, %zu wrong\n", n, n_bad);
    assert_true(n > 0);
    assert_int_equal(n_bad, 0);
}

/* ---- conversation C1 ---- */

static const char c1[] =
    "[{\"role\": \"user\", \"content\": \"Hi é\"},"
    " {\"role\": \"assistant\", \"content\": \"<think>\\nx\\n</think>\\n\\nHello\"},"
    " {\"role\": \"user\", \"content\": \"Bye\"}]";

static void chat_renders(const char *source, const char *messages, const char *tools,
                         const char *kwargs, const char *want) {
    const oct_template_var vars[] = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    json_t *m = json_of(messages), *tl = tools ? json_of(tools) : NULL,
           *k = kwargs ? json_of(kwargs) : NULL;
    oct_err err = {.code = OCT_OK};
    oct_template *t;
    oct_buf out;
    oct_buf_init(&out, oct_system_allocator(), 0);
    if (oct_template_create(oct_system_allocator(), source, strlen(source), &t, &err) != OCT_OK)
        fail_msg("%s", err.text);
    const oct_chat_request req = {.messages = m,
                                  .tools = tl,
                                  .kwargs = k,
                                  .add_generation_prompt = true,
                                  .vars = vars,
                                  .n_vars = OCT_COUNT(vars)};
    if (oct_chat_render(t, &req, NULL, &out, &err) != OCT_OK) fail_msg("%s", err.text);
    assert_string_equal(oct_buf_cs(&out), want);
    oct_buf_fini(&out);
    oct_template_release(t);
    json_decref(m);
    json_decref(tl);
    json_decref(k);
}

/* One line, a default system turn, everything in expressions: the shape of SmolLM2's. */
static const char chatml_with_default[] =
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
    "Face<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}";

static void C1_default_system_turn(void **state) {
    (void)state;
    chat_renders(chatml_with_default, c1, NULL, NULL,
                 "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                 "Hugging Face<|im_end|>\n<|im_start|>user\nHi é<|im_end|>\n<|im_start|>assistant\n"
                 "<think>\nx\n</think>\n\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
                 "<|im_start|>assistant\n");
}

/* Many lines with marks on both sides, tools, grouped tool answers: the shape of Qwen2.5's. */
static const char chatml_with_tools[] =
    "{%- set first = messages[0] %}\n"
    "{%- if tools %}\n"
    "    {{- '<|im_start|>system\\n' }}\n"
    "    {%- if first.role == 'system' %}\n"
    "        {{- first.content }}\n"
    "    {%- else %}\n"
    "        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}\n"
    "    {%- endif %}\n"
    "    {{- \"\\n\\n<tools>\" }}\n"
    "    {%- for tool in tools %}\n"
    "        {{- \"\\n\" }}\n"
    "        {{- tool | tojson }}\n"
    "    {%- endfor %}\n"
    "    {{- \"\\n</tools><|im_end|>\\n\" }}\n"
    "{%- elif first.role != 'system' %}\n"
    "    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
    "assistant.<|im_end|>\\n' }}\n"
    "{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {%- if message.role in ['user', 'system'] or (message.role == 'assistant' and not "
    "message.tool_calls) %}\n"
    "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' "
    "}}\n"
    "    {%- elif message.role == \"assistant\" %}\n"
    "        {{- '<|im_start|>' + message.role }}\n"
    "        {%- if message.content %}\n"
    "            {{- '\\n' + message.content }}\n"
    "        {%- endif %}\n"
    "        {%- for call in message.tool_calls %}\n"
    "            {%- if call.function is defined %}\n"
    "                {%- set call = call.function %}\n"
    "            {%- endif %}\n"
    "            {{- '\\n<tool_call>\\n{\"name\": \"' }}\n"
    "            {{- call.name }}\n"
    "            {{- '\", \"arguments\": ' }}\n"
    "            {{- call.arguments | tojson }}\n"
    "            {{- '}\\n</tool_call>' }}\n"
    "        {%- endfor %}\n"
    "        {{- '<|im_end|>\\n' }}\n"
    "    {%- elif message.role == \"tool\" %}\n"
    "        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != \"tool\") %}\n"
    "            {{- '<|im_start|>user' }}\n"
    "        {%- endif %}\n"
    "        {{- '\\n<tool_response>\\n' }}\n"
    "        {{- message.content }}\n"
    "        {{- '\\n</tool_response>' }}\n"
    "        {%- if loop.last or (messages[loop.index0 + 1].role != \"tool\") %}\n"
    "            {{- '<|im_end|>\\n' }}\n"
    "        {%- endif %}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n";

static void C1_chatml_with_tools(void **state) {
    (void)state;
    chat_renders(chatml_with_tools, c1, NULL, NULL,
                 "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
                 "assistant.<|im_end|>\n<|im_start|>user\nHi é<|im_end|>\n<|im_start|>assistant\n"
                 "<think>\nx\n</think>\n\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
                 "<|im_start|>assistant\n");
}

static void tool_lines(void **state) {
    (void)state;
    chat_renders(
        chatml_with_tools,
        "[{\"role\": \"user\", \"content\": \"w?\"},"
        " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"1\", \"type\": "
        "\"function\", \"function\": {\"name\": \"get_weather\", \"arguments\": "
        "\"{\\\"city\\\":\\\"Zürich\\\"}\"}}]},"
        " {\"role\": \"tool\", \"tool_call_id\": \"1\", \"content\": \"sun\"},"
        " {\"role\": \"tool\", \"tool_call_id\": \"2\", \"content\": [{\"type\": \"text\", "
        "\"text\": \"a\"}, {\"type\": \"text\", \"text\": \"b\"}]}]",
        "[{\"function\": {\"parameters\": {\"type\": \"object\", \"properties\": {\"city\": "
        "{\"type\": \"string\"}}, \"required\": [\"city\"]}, \"description\": \"Weather in <city> "
        "& more\", \"name\": \"get_weather\"}, \"type\": \"function\"}]",
        NULL,
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "\n\n<tools>\n{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", "
        "\"description\": \"Weather in <city> & more\", \"parameters\": {\"type\": \"object\", "
        "\"properties\": {\"city\": {\"type\": \"string\"}}, \"required\": [\"city\"]}}}\n</tools>"
        "<|im_end|>\n<|im_start|>user\nw?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\"}}\n</tool_call>"
        "<|im_end|>\n<|im_start|>user\n<tool_response>\nsun\n</tool_response>\n<tool_response>\n"
        "a\nb\n</tool_response><|im_end|>\n<|im_start|>assistant\n");
}

/* Thinking is cut out of earlier turns by splitting, as Qwen3 and MiniMax-M2 do. */
static const char thinking_removed[] =
    "{%- macro visible(content) -%}\n"
    "{%- if content is string -%}{{ content }}\n"
    "{%- elif content is iterable and content is not mapping -%}\n"
    "{%- for item in content -%}{{- item.text if item is mapping else item }}{%- endfor -%}\n"
    "{%- else -%}{{ content }}{%- endif -%}\n"
    "{%- endmacro -%}\n"
    "{%- set ns = namespace(last=-1) %}\n"
    "{%- for m in messages %}\n"
    "  {%- if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}\n"
    "{%- endfor %}\n"
    "{%- for m in messages -%}\n"
    "  {%- set content = visible(m.content) -%}\n"
    "  {%- if m.role == 'assistant' and '</think>' in content and loop.index0 < ns.last -%}\n"
    "    {%- set content = content.split('</think>')[-1].strip('\\n') -%}\n"
    "  {%- endif -%}\n"
    "  {{- ']~b]' ~ {'assistant': 'ai'}.get(m.role, m.role) ~ '\\n' ~ content ~ '[e~[\\n' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- ']~b]ai\\n' }}{% if enable_thinking is not defined or enable_thinking %}{{ "
    "'<think>\\n' }}{% endif -%}\n"
    "{%- endif -%}\n";

static void C1_thinking_removed(void **state) {
    (void)state;
    chat_renders(thinking_removed, c1, NULL, NULL,
                 "]~b]user\nHi é[e~[\n]~b]ai\nHello[e~[\n]~b]user\nBye[e~[\n]~b]ai\n<think>\n");
    chat_renders(thinking_removed, c1, NULL, "{\"enable_thinking\": false}",
                 "]~b]user\nHi é[e~[\n]~b]ai\nHello[e~[\n]~b]user\nBye[e~[\n]~b]ai\n");
}

/* Strict alternation and tokens from the caller: the shape of Mistral's. */
static void C1_inst_turns(void **state) {
    (void)state;
    chat_renders("{{- bos_token }}\n"
                 "{%- for m in messages|rejectattr('role', 'equalto', 'system') %}\n"
                 "    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\n"
                 "        {{- raise_exception('Roles must alternate') }}\n"
                 "    {%- endif %}\n"
                 "    {%- if m.role == 'user' %}\n"
                 "        {{- '[INST]' + m.content + '[/INST]' }}\n"
                 "    {%- else %}\n"
                 "        {{- m['content'] + eos_token }}\n"
                 "    {%- endif %}\n"
                 "{%- endfor %}\n",
                 c1, NULL, NULL,
                 "<s>[INST]Hi é[/INST]<think>\nx\n</think>\n\nHello</s>[INST]Bye[/INST]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_chats),         cmocka_unit_test(C1_default_system_turn),
        cmocka_unit_test(C1_chatml_with_tools), cmocka_unit_test(tool_lines),
        cmocka_unit_test(C1_thinking_removed),  cmocka_unit_test(C1_inst_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
