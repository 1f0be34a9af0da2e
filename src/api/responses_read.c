/*
 * api/responses_read.c - from the body of POST /v1/responses to that of a chat: input becomes
 * messages, instructions the first of them, tools and formats take the chat's shape. Fields that
 * mean the same in both stay; what would need a memory of earlier responses is refused by name.
 */
#include "api/dialects.h"

/* ---- input ---- */

typedef struct reading {
    const oct_allocator *mem;
    json_t *messages;
    json_t *reasoning; /* of an item, for the assistant's message that follows; or NULL */
} reading;

/* {"type": "reasoning", "content": [{"type": "reasoning_text", "text"}], "summary": [...]} */
static oct_status read_reasoning(reading *r, const json_t *item, size_t i, oct_api_error *e) {
    const json_t *parts = oct_api_given(item, "content"), *part;
    oct_buf text;
    size_t k;
    if (json_array_size(parts) == 0) parts = oct_api_given(item, "summary");
    if (parts && !json_is_array(parts))
        return oct_api_wrong_item("input", i, ".content", "must be an array", parts, e);
    oct_buf_init(&text, r->mem, 0);
    json_array_foreach(parts, k, part)
        oct_buf_str(&text, oct_json_str(json_object_get(part, "text")));
    json_decref(r->reasoning);
    r->reasoning = text.failed ? NULL : json_stringn(oct_buf_cs(&text), text.len);
    oct_buf_fini(&text);
    return r->reasoning ? OCT_OK : oct_api_no_memory(e);
}

/* The assistant's message that calls and reasoning go to. */
static json_t *assistant(reading *r) {
    json_t *m = oct_api_last_assistant(r->messages);
    if (m && r->reasoning && !json_object_get(m, "reasoning")) {
        if (!oct_api_put(m, "reasoning", r->reasoning)) return NULL;
        json_decref(r->reasoning);
        r->reasoning = NULL;
    }
    return m;
}

static oct_status read_call(reading *r, const json_t *item, size_t i, oct_api_error *e) {
    const json_t *name = oct_api_given(item, "name"), *args = oct_api_given(item, "arguments");
    if (!json_is_string(name))
        return oct_api_wrong_item("input", i, ".name", "must be a string", name, e);
    if (args && !json_is_string(args))
        return oct_api_wrong_item("input", i, ".arguments", "must be JSON text", args, e);
    json_t *m = assistant(r);
    if (m && oct_api_add_tool_call(m, oct_api_given(item, "call_id"), name, args)) return OCT_OK;
    return oct_api_no_memory(e);
}

static oct_status read_output(reading *r, const json_t *item, size_t i, oct_api_error *e) {
    const json_t *output = oct_api_given(item, "output");
    if (!json_is_string(output) && !json_is_array(output))
        return oct_api_wrong_item("input", i, ".output", "must be a string or an array of parts",
                                  output, e);
    json_t *m = oct_api_add_message(r->messages, "tool", output);
    if (m && oct_api_put(m, "tool_call_id", oct_api_given(item, "call_id"))) return OCT_OK;
    return oct_api_no_memory(e);
}

static oct_status read_message(reading *r, const json_t *item, size_t i, oct_api_error *e) {
    const json_t *role = oct_api_given(item, "role");
    if (!json_is_string(role))
        return oct_api_wrong_item("input", i, ".role", "must be a string", role, e);
    json_t *m =
        oct_api_add_message(r->messages, json_string_value(role), oct_api_given(item, "content"));
    if (m && oct_str_is(oct_json_str(role), "assistant")) m = assistant(r);
    return m ? OCT_OK : oct_api_no_memory(e);
}

static oct_status read_item(reading *r, const json_t *item, size_t i, oct_api_error *e) {
    static const struct {
        const char *type;
        oct_status (*read)(reading *, const json_t *, size_t, oct_api_error *);
    } types[] = {{"message", read_message},
                 {"function_call", read_call},
                 {"function_call_output", read_output},
                 {"reasoning", read_reasoning}};
    const json_t *type = oct_api_given(item, "type");
    char shown[OCT_JSON_SHOWN];
    if (!json_is_object(item))
        return oct_api_wrong_item("input", i, "", "must be an object", item, e);
    if (!type) return read_message(r, item, i, e);
    for (size_t k = 0; k < OCT_COUNT(types); k++)
        if (oct_str_is(oct_json_str(type), types[k].type)) return types[k].read(r, item, i, e);
    return oct_api_refuse(e, OCT_API_REFUSED, "input", "input[%zu]: type %s is not supported", i,
                          oct_json_show(type, shown));
}

static oct_status read_input(reading *r, const json_t *body, oct_api_error *e) {
    const json_t *input = oct_api_given(body, "input"), *item;
    const json_t *instructions = oct_api_given(body, "instructions");
    char shown[OCT_JSON_SHOWN];
    size_t i;
    if (instructions && !json_is_string(instructions))
        return oct_api_refuse(e, OCT_API_MALFORMED, "instructions",
                              "instructions: must be a string (got %s)",
                              oct_json_show(instructions, shown));
    if (instructions && !oct_api_add_message(r->messages, "system", instructions))
        return oct_api_no_memory(e);
    if (json_is_string(input))
        return oct_api_add_message(r->messages, "user", input) ? OCT_OK : oct_api_no_memory(e);
    if (!json_is_array(input))
        return oct_api_refuse(e, OCT_API_MALFORMED, "input",
                              "input: must be a string or an array (got %s)",
                              oct_json_show(input, shown));
    if (json_array_size(input) == 0)
        return oct_api_refuse(e, OCT_API_REFUSED, "input", "input: the prompt cannot be empty");
    json_array_foreach(input, i, item) OCT_TRY(read_item(r, item, i, e));
    return OCT_OK;
}

static oct_status put_messages(const oct_allocator *mem, json_t *chat, const json_t *body,
                               oct_api_error *e) {
    reading r = {.mem = mem, .messages = json_array()};
    oct_status st = OCT_OK;
    if (!oct_api_put_new(chat, "messages", r.messages)) return oct_api_no_memory(e);
    st = read_input(&r, body, e);
    json_decref(r.reasoning);
    return st;
}

/* ---- tools ---- */

static oct_status put_tools(json_t *chat, const json_t *body, oct_api_error *e) {
    const json_t *tools = oct_api_given(body, "tools"), *tool;
    size_t i;
    if (!tools) return OCT_OK;
    if (!json_is_array(tools))
        return oct_api_refuse(e, OCT_API_MALFORMED, "tools", "tools: must be an array");
    json_t *list = json_array();
    if (!oct_api_put_new(chat, "tools", list)) return oct_api_no_memory(e);
    json_array_foreach(tools, i, tool) {
        const json_t *type = json_object_get(tool, "type"), *name = json_object_get(tool, "name");
        char shown[OCT_JSON_SHOWN];
        if (!json_is_string(type))
            return oct_api_wrong_item("tools", i, ".type", "must be a string", type, e);
        if (!oct_str_is(oct_json_str(type), "function"))
            return oct_api_refuse(e, OCT_API_REFUSED, "tools",
                                  "tools[%zu]: type %s is not supported (only function is)", i,
                                  oct_json_show(type, shown));
        if (!json_is_string(name))
            return oct_api_wrong_item("tools", i, ".name", "must be a string", name, e);
        if (!oct_api_add_tool(list, name, oct_api_given(tool, "description"),
                              oct_api_given(tool, "parameters"), oct_api_given(tool, "strict")))
            return oct_api_no_memory(e);
    }
    return OCT_OK;
}

/* {"type": "function", "name": ...} in the chat's shape; anything else stays for the chat to judge.
 */
static oct_status put_tool_choice(json_t *chat, const json_t *body, oct_api_error *e) {
    const json_t *choice = oct_api_given(body, "tool_choice"),
                 *name = oct_api_given(choice, "name");
    if (!json_is_object(choice) || !name) return OCT_OK;
    json_t *fn = json_object(), *to = json_object();
    const bool ok = oct_api_put_new(chat, "tool_choice", to) &&
                    oct_api_put_new(to, "type", json_string("function")) &&
                    oct_api_put_new(to, "function", json_incref(fn)) &&
                    oct_api_put(fn, "name", name);
    json_decref(fn);
    return ok ? OCT_OK : oct_api_no_memory(e);
}

/* ---- formats and lengths ---- */

static oct_status put_format(json_t *chat, const json_t *body, oct_api_error *e) {
    static const char *const inner[] = {"name", "description", "schema", "strict"};
    const json_t *text = oct_api_given(body, "text"), *format = oct_api_given(text, "format");
    const json_t *type = json_object_get(format, "type");
    char shown[OCT_JSON_SHOWN];
    if (text && !json_is_object(text))
        return oct_api_refuse(e, OCT_API_MALFORMED, "text", "text: must be an object (got %s)",
                              oct_json_show(text, shown));
    if (!format) return OCT_OK;
    if (!json_is_string(type))
        return oct_api_refuse(e, OCT_API_MALFORMED, "text",
                              "text.format: must be an object with a type (got %s)",
                              oct_json_show(format, shown));
    json_t *to = json_object();
    bool ok = oct_api_put_new(chat, "response_format", to) && oct_api_put(to, "type", type);
    if (ok && oct_str_is(oct_json_str(type), "json_schema")) {
        json_t *schema = json_object();
        ok = oct_api_put_new(to, "json_schema", schema);
        for (size_t i = 0; ok && i < OCT_COUNT(inner); i++)
            ok = oct_api_put(schema, inner[i], oct_api_given(format, inner[i]));
    }
    return ok ? OCT_OK : oct_api_no_memory(e);
}

static oct_status refuse_memory(const json_t *body, oct_api_error *e) {
    static const char *const names[] = {"previous_response_id", "conversation", "prompt"};
    bool background = false;
    for (size_t i = 0; i < OCT_COUNT(names); i++)
        if (oct_api_given(body, names[i]))
            return oct_api_refuse(e, OCT_API_REFUSED, names[i],
                                  "%s: not supported: no response is kept; send the whole input",
                                  names[i]);
    OCT_TRY(oct_api_read_bool(body, "background", &background, e));
    if (!background) return OCT_OK;
    return oct_api_refuse(e, OCT_API_REFUSED, "background",
                          "background: not supported: no response is kept");
}

static oct_status put_rest(json_t *chat, const json_t *body, oct_api_error *e) {
    const json_t *reasoning = oct_api_given(body, "reasoning");
    if (!oct_api_put(chat, "max_completion_tokens", oct_api_given(body, "max_output_tokens")) ||
        !oct_api_put(chat, "reasoning_effort", oct_api_given(reasoning, "effort")))
        return oct_api_no_memory(e);
    return OCT_OK;
}

oct_status oct_api_responses_translate(oct_api_job *job, oct_api_error *e) {
    static const char *const not_here[] = {"max_tokens", "response_format"};
    const json_t *body = job->body;
    OCT_TRY(refuse_memory(body, e));
    json_t *chat = oct_api_chat_of(body, not_here, OCT_COUNT(not_here));
    if (!chat) return oct_api_no_memory(e);
    oct_status st = put_messages(job->api->mem, chat, body, e);
    if (st == OCT_OK) st = put_tools(chat, body, e);
    if (st == OCT_OK) st = put_tool_choice(chat, body, e);
    if (st == OCT_OK) st = put_format(chat, body, e);
    if (st == OCT_OK) st = put_rest(chat, body, e);
    if (st == OCT_OK) {
        json_decref(job->body);
        job->body = chat;
    } else {
        json_decref(chat);
    }
    return st;
}
