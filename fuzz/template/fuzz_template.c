/*
 * Any text as a chat template, rendered over one conversation with tools: refused with a sentence,
 * or rendered within small limits.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "codec/json.h"
#include "text/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char messages[] =
    "[{\"role\": \"system\", \"content\": \"S \"},"
    " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"Hi é\"}]},"
    " {\"role\": \"assistant\", \"content\": null, \"reasoning\": \"r\", \"tool_calls\": [{\"id\": "
    "\"call_1\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": "
    "\"{\\\"x\\\": "
    "[1, 2.5, null]}\"}}]},"
    " {\"role\": \"tool\", \"tool_call_id\": \"call_1\", \"content\": \"t\"},"
    " {\"role\": \"user\", \"content\": \"Bye\"}]";
static const char tools[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"<d> & 'e'\", "
    "\"parameters\": {\"type\": \"object\", \"properties\": {\"x\": {\"type\": \"array\"}}}}}]";

static json_t *parsed(const char *text) {
    json_t *v = NULL;
    if (oct_json_parse(oct_str_of(text), "fuzz", &oct_json_file_limits, &v, NULL) != OCT_OK)
        __builtin_trap();
    return v;
}

static void render(const oct_template *t, bool open) {
    static const oct_template_limits limits = {
        .max_steps = 20000, .max_output_bytes = 1 << 16, .max_memory_bytes = 1 << 22};
    static const oct_template_var vars[] = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    static json_t *m, *tl; /* kept for all inputs: a render only reads them */
    if (!m) m = parsed(messages);
    if (!tl) tl = parsed(tools);
    const oct_chat_request req = {.messages = m,
                                  .tools = tl,
                                  .add_generation_prompt = true,
                                  .continue_final_message = open,
                                  .reasoning_effort = open ? "low" : NULL,
                                  .vars = vars,
                                  .n_vars = 2,
                                  .now = 1700000000};
    oct_err err = {.code = OCT_OK};
    oct_buf out;
    oct_buf_init(&out, oct_system_allocator(), 0);
    const oct_status st = oct_chat_render(t, &req, &limits, &out, &err);
    if ((st == OCT_OK) != (err.code == OCT_OK) || out.len > limits.max_output_bytes ||
        (st != OCT_OK && out.len != 0))
        __builtin_trap();
    oct_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    oct_template *t;
    oct_err err = {.code = OCT_OK};
    oct_log_set_level(OCT_LOG_OFF);
    if (oct_template_create(oct_system_allocator(), (const char *)data, size, &t, &err) != OCT_OK) {
        if (err.code == OCT_OK || !*err.text) __builtin_trap();
        return 0;
    }
    render(t, false);
    render(t, true);
    oct_template_release(t);
    return 0;
}
