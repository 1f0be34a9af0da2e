/*
 * api/messages_read.c - from the body of POST /v1/messages to that of a chat: blocks become
 * messages of the chat's roles, tools and stop sequences take its shape, thinking switches the
 * template's enable_thinking.
 */
#include "api/dialects.h"

/* ---- blocks ---- */

static oct_status wrong_block(size_t i, const char *name, const char *want, const json_t *got,
                              oct_api_error *e) {
    return oct_api_wrong_item("messages", i, name, want, got, e);
}

static oct_status unsupported(size_t i, const json_t *type, oct_api_error *e) {
    char shown[OCT_JSON_SHOWN];
    return oct_api_refuse(e, OCT_API_REFUSED, "messages",
                          "messages[%zu].content: a block of type %s is not supported", i,
                          oct_json_show(type, shown));
}

static bool type_is(const json_t *block, const char *type) {
    return oct_str_is(oct_json_str(json_object_get(block, "type")), type);
}

/* A text block behind the parts of a message's content. */
static oct_status add_text(json_t *message, const json_t *block, size_t i, oct_api_error *e) {
    const json_t *text = json_object_get(block, "text");
    json_t *parts = json_object_get(message, "content"), *part;
    if (!json_is_string(text)) return wrong_block(i, ".content.text", "must be a string", text, e);
    if (!parts) {
        parts = json_array();
        if (!oct_api_put_new(message, "content", parts)) return oct_api_no_memory(e);
    }
    part = json_object();
    if (json_array_append_new(parts, part) != 0 ||
        !oct_api_put_new(part, "type", json_string("text")) || !oct_api_put(part, "text", text))
        return oct_api_no_memory(e);
    return OCT_OK;
}

/* {"type": "tool_result", "tool_use_id", "content"} becomes a message of the role tool. */
static oct_status add_result(json_t *list, const json_t *block, size_t i, oct_api_error *e) {
    const json_t *content = oct_api_given(block, "content");
    const json_t *id = oct_api_given(block, "tool_use_id");
    if (content && !json_is_string(content) && !json_is_array(content))
        return wrong_block(i, ".content.content", "must be a string or an array", content, e);
    json_t *m = oct_api_add_message(list, "tool", content);
    return m && oct_api_put(m, "tool_call_id", id) ? OCT_OK : oct_api_no_memory(e);
}

/* Results come first as messages of their own; the text around them stays one message. */
static oct_status read_user(json_t *list, const json_t *blocks, size_t i, oct_api_error *e) {
    const json_t *block;
    json_t *message = NULL;
    size_t k;
    json_array_foreach(blocks, k, block) {
        if (type_is(block, "tool_result")) {
            message = NULL;
            OCT_TRY(add_result(list, block, i, e));
            continue;
        }
        if (!type_is(block, "text")) return unsupported(i, json_object_get(block, "type"), e);
        if (!message) message = oct_api_add_message(list, "user", NULL);
        if (!message) return oct_api_no_memory(e);
        OCT_TRY(add_text(message, block, i, e));
    }
    return OCT_OK;
}

static oct_status add_use(json_t *message, const json_t *block, size_t i, oct_api_error *e) {
    const json_t *name = json_object_get(block, "name"), *input = oct_api_given(block, "input");
    if (!json_is_string(name)) return wrong_block(i, ".content.name", "must be a string", name, e);
    if (input && !json_is_object(input))
        return wrong_block(i, ".content.input", "must be an object", input, e);
    if (oct_api_add_tool_call(message, oct_api_given(block, "id"), name, input)) return OCT_OK;
    return oct_api_no_memory(e);
}

static oct_status read_assistant(json_t *list, const json_t *blocks, size_t i, oct_api_error *e) {
    json_t *message = oct_api_add_message(list, "assistant", NULL);
    const json_t *block;
    size_t k;
    if (!message) return oct_api_no_memory(e);
    json_array_foreach(blocks, k, block) {
        if (type_is(block, "text")) {
            OCT_TRY(add_text(message, block, i, e));
        } else if (type_is(block, "tool_use")) {
            OCT_TRY(add_use(message, block, i, e));
        } else if (type_is(block, "thinking")) {
            if (!oct_api_put(message, "reasoning", oct_api_given(block, "thinking")))
                return oct_api_no_memory(e);
        } else if (!type_is(block, "redacted_thinking")) {
            return unsupported(i, json_object_get(block, "type"), e);
        }
    }
    return OCT_OK;
}

static oct_status read_message(json_t *list, const json_t *m, size_t i, oct_api_error *e) {
    const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
    const bool user = oct_str_is(oct_json_str(role), "user");
    if (!user && !oct_str_is(oct_json_str(role), "assistant"))
        return wrong_block(i, ".role", "must be user or assistant", role, e);
    if (json_is_string(content))
        return oct_api_add_message(list, user ? "user" : "assistant", content)
                   ? OCT_OK
                   : oct_api_no_memory(e);
    if (!json_is_array(content))
        return wrong_block(i, ".content", "must be a string or an array of blocks", content, e);
    return user ? read_user(list, content, i, e) : read_assistant(list, content, i, e);
}

static oct_status put_messages(json_t *chat, const json_t *body, oct_api_error *e) {
    const json_t *messages = oct_api_given(body, "messages"), *m;
    const json_t *system = oct_api_given(body, "system");
    char shown[OCT_JSON_SHOWN];
    size_t i;
    json_t *list = json_array();
    if (!oct_api_put_new(chat, "messages", list)) return oct_api_no_memory(e);
    if (system && !json_is_string(system) && !json_is_array(system))
        return oct_api_refuse(e, OCT_API_MALFORMED, "system",
                              "system: must be a string or an array of blocks (got %s)",
                              oct_json_show(system, shown));
    if (system && !oct_api_add_message(list, "system", system)) return oct_api_no_memory(e);
    if (!json_is_array(messages))
        return oct_api_refuse(e, OCT_API_MALFORMED, "messages",
                              "messages: must be an array (got %s)",
                              oct_json_show(messages, shown));
    if (json_array_size(messages) == 0)
        return oct_api_refuse(e, OCT_API_REFUSED, "messages",
                              "messages: the prompt cannot be empty");
    json_array_foreach(messages, i, m) OCT_TRY(read_message(list, m, i, e));
    return OCT_OK;
}

/* ---- tools ---- */

static oct_status put_tools(json_t *chat, const json_t *body, oct_api_error *e) {
    const json_t *tools = oct_api_given(body, "tools"), *tool;
    char shown[OCT_JSON_SHOWN];
    size_t i;
    if (!tools) return OCT_OK;
    if (!json_is_array(tools))
        return oct_api_refuse(e, OCT_API_MALFORMED, "tools", "tools: must be an array");
    json_t *list = json_array();
    if (!oct_api_put_new(chat, "tools", list)) return oct_api_no_memory(e);
    json_array_foreach(tools, i, tool) {
        const json_t *type = oct_api_given(tool, "type"), *name = json_object_get(tool, "name");
        if (type && !type_is(tool, "custom"))
            return oct_api_refuse(e, OCT_API_REFUSED, "tools",
                                  "tools[%zu]: type %s is not supported (only custom is)", i,
                                  oct_json_show(type, shown));
        if (!json_is_string(name))
            return oct_api_wrong_item("tools", i, ".name", "must be a string", name, e);
        if (!oct_api_add_tool(list, name, oct_api_given(tool, "description"),
                              oct_api_given(tool, "input_schema"), NULL))
            return oct_api_no_memory(e);
    }
    return OCT_OK;
}

static oct_status put_named_choice(json_t *chat, const json_t *name, oct_api_error *e) {
    json_t *to = json_object(), *fn = json_object();
    const bool ok = oct_api_put_new(chat, "tool_choice", to) &&
                    oct_api_put_new(to, "type", json_string("function")) &&
                    oct_api_put_new(to, "function", json_incref(fn)) &&
                    oct_api_put(fn, "name", name);
    json_decref(fn);
    return ok ? OCT_OK : oct_api_no_memory(e);
}

static oct_status put_tool_choice(json_t *chat, const json_t *body, oct_api_error *e) {
    static const char *const words[][2] = {{"auto", "auto"}, {"any", "required"}, {"none", "none"}};
    const json_t *choice = oct_api_given(body, "tool_choice");
    bool one = false;
    char shown[OCT_JSON_SHOWN];
    if (!choice) return OCT_OK;
    OCT_TRY(oct_api_read_bool(choice, "disable_parallel_tool_use", &one, e));
    if (one && !oct_api_put_new(chat, "parallel_tool_calls", json_false()))
        return oct_api_no_memory(e);
    if (type_is(choice, "tool")) return put_named_choice(chat, json_object_get(choice, "name"), e);
    for (size_t i = 0; i < OCT_COUNT(words); i++) {
        if (!type_is(choice, words[i][0])) continue;
        return oct_api_put_new(chat, "tool_choice", json_string(words[i][1]))
                   ? OCT_OK
                   : oct_api_no_memory(e);
    }
    return oct_api_refuse(e, OCT_API_MALFORMED, "tool_choice",
                          "tool_choice: must be an object of type auto, any, tool or none (got %s)",
                          oct_json_show(choice, shown));
}

/* ---- the rest ---- */

static oct_status put_thinking(json_t *chat, const json_t *body, oct_api_error *e) {
    const json_t *thinking = oct_api_given(body, "thinking");
    json_t *kwargs = json_object_get(chat, "chat_template_kwargs");
    char shown[OCT_JSON_SHOWN];
    if (!thinking) return OCT_OK;
    const bool on = type_is(thinking, "enabled") || type_is(thinking, "adaptive");
    if (!on && !type_is(thinking, "disabled"))
        return oct_api_refuse(e, OCT_API_MALFORMED, "thinking",
                              "thinking: must be an object of type enabled or disabled (got %s)",
                              oct_json_show(thinking, shown));
    kwargs = json_is_object(kwargs) ? json_copy(kwargs) : json_object();
    if (!oct_api_put_new(chat, "chat_template_kwargs", kwargs) ||
        !oct_api_put_new(kwargs, "enable_thinking", json_boolean(on)))
        return oct_api_no_memory(e);
    return OCT_OK;
}

oct_status oct_api_messages_translate(oct_api_job *job, oct_api_error *e) {
    static const char *const not_here[] = {"tool_choice", "service_tier"};
    const json_t *body = job->body;
    json_t *chat = oct_api_chat_of(body, not_here, OCT_COUNT(not_here));
    if (!chat) return oct_api_no_memory(e);
    oct_status st = put_messages(chat, body, e);
    if (st == OCT_OK) st = put_tools(chat, body, e);
    if (st == OCT_OK) st = put_tool_choice(chat, body, e);
    if (st == OCT_OK) st = put_thinking(chat, body, e);
    if (st == OCT_OK && !oct_api_put(chat, "stop", oct_api_given(body, "stop_sequences")))
        st = oct_api_no_memory(e);
    if (st == OCT_OK) {
        json_decref(job->body);
        job->body = chat;
    } else {
        json_decref(chat);
    }
    return st;
}
