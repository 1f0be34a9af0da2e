/* api/prompt.c - from messages or text to token ids that fit into the model. */
#include "api/parts.h"
#include "text/chat.h"

static const json_t *given(const json_t *body, const char *name) {
    const json_t *v = json_object_get(body, name);
    return json_is_null(v) ? NULL : v;
}

/* ---- messages ---- */

static bool is_word(const json_t *v, const char *word) {
    return json_is_string(v) && oct_str_is(oct_json_str(v), word);
}

/* {"type": "function", "function": {"name": ...}} with the name of one of the tools. */
static oct_status read_named(const json_t *choice, const json_t *tools, oct_api_manner *how,
                             oct_api_error *e) {
    const json_t *name = json_object_get(json_object_get(choice, "function"), "name");
    const json_t *tool;
    char shown[OCT_JSON_SHOWN];
    size_t i;
    if (!json_is_string(name))
        return oct_api_refuse(e, OCT_API_MALFORMED, "tool_choice",
                              "tool_choice: an object must name a function (got %s)",
                              oct_json_show(choice, shown));
    how->function = oct_json_str(name);
    json_array_foreach(tools, i, tool) {
        const json_t *other = json_object_get(json_object_get(tool, "function"), "name");
        if (oct_str_eq(oct_json_str(other), how->function)) return OCT_OK;
    }
    return oct_api_refuse(e, OCT_API_REFUSED, "tool_choice",
                          "tool_choice: no such function in tools (got %s)",
                          oct_json_show(name, shown));
}

static oct_status check_choice(const oct_api *api, const json_t *choice, oct_api_manner *how,
                               oct_api_error *e) {
    char shown[OCT_JSON_SHOWN];
    const bool automatic = !choice || is_word(choice, "auto");
    if (automatic && json_array_size(how->tools) == 0) return OCT_OK;
    if (automatic && api->cfg.auto_tools && api->cfg.tool_parser) {
        how->calls = true;
        return OCT_OK;
    }
    if (automatic)
        return oct_api_refuse(
            e, OCT_API_REFUSED, "tool_choice",
            "tool_choice: \"auto\" requires --enable-auto-tool-choice and "
            "--tool-call-parser to be set; \"none\" shows the tools to the model");
    if (json_is_string(choice) && !is_word(choice, "required"))
        return oct_api_refuse(e, OCT_API_REFUSED, "tool_choice",
                              "tool_choice: must be none, auto, required or a function (got %s)",
                              oct_json_show(choice, shown));
    if (json_array_size(how->tools) == 0)
        return oct_api_refuse(e, OCT_API_REFUSED, "tool_choice",
                              "tool_choice: needs tools (got %s)", oct_json_show(choice, shown));
    how->calls = true;
    how->mode = json_is_object(choice) ? OCT_SPEAK_NAMED : OCT_SPEAK_REQUIRED;
    return json_is_object(choice) ? read_named(choice, how->tools, how, e) : OCT_OK;
}

/* What is shown to the template, and how its answer is to be read. */
static oct_status check_tools(const oct_api *api, const json_t *body, const json_t **shown,
                              oct_api_manner *how, oct_api_error *e) {
    const json_t *v = given(body, "tools"), *choice = given(body, "tool_choice");
    *shown = NULL;
    if (v && !json_is_array(v))
        return oct_api_refuse(e, OCT_API_MALFORMED, "tools", "tools: must be an array");
    if (json_array_size(v) > api->cfg.limits.tools)
        return oct_api_refuse(e, OCT_API_REFUSED, "tools",
                              "tools: too many entries (got %zu, want at most %u)",
                              json_array_size(v), api->cfg.limits.tools);
    if (choice && !json_is_string(choice) && !json_is_object(choice))
        return oct_api_refuse(e, OCT_API_MALFORMED, "tool_choice",
                              "tool_choice: must be a string or an object");
    const bool none = is_word(choice, "none");
    if (json_array_size(v) > 0 && !(none && api->cfg.exclude_tools_when_none)) *shown = v;
    if (none || !how) return OCT_OK;
    how->tools = v;
    return check_choice(api, choice, how, e);
}

static oct_status merge_kwargs(const oct_api *api, const json_t *body, json_t **out,
                               oct_api_error *e) {
    const json_t *own = given(body, "chat_template_kwargs");
    if (own && !json_is_object(own))
        return oct_api_refuse(e, OCT_API_MALFORMED, "chat_template_kwargs",
                              "chat_template_kwargs: must be an object");
    *out = api->template_kwargs ? json_deep_copy(api->template_kwargs) : json_object();
    const bool whole = !api->template_kwargs || json_equal(*out, api->template_kwargs);
    if (!*out || !whole || (own && json_object_update(*out, (json_t *)(uintptr_t)own) != 0)) {
        json_decref(*out);
        return oct_api_no_memory(e);
    }
    return OCT_OK;
}

static oct_status check_effort(const json_t *body, const char **out, oct_api_error *e) {
    static const char *const known[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    const json_t *v = given(body, "reasoning_effort");
    char shown[OCT_JSON_SHOWN];
    *out = NULL;
    if (!v) return OCT_OK;
    for (size_t i = 0; i < OCT_COUNT(known); i++)
        if (oct_str_is(oct_json_str(v), known[i])) *out = known[i];
    if (*out) return OCT_OK;
    return oct_api_refuse(
        e, json_is_string(v) ? OCT_API_REFUSED : OCT_API_MALFORMED, "reasoning_effort",
        "reasoning_effort: must be none, minimal, low, medium, high, xhigh or max "
        "(got %s)",
        oct_json_show(v, shown));
}

/* The template for this request, with a reference of the caller's. */
static oct_status choose_template(const oct_api *api, const json_t *body, bool tools,
                                  oct_template **out, oct_api_error *e) {
    const json_t *own = given(body, "chat_template");
    oct_template *t = tools && api->cfg.tool_template ? api->cfg.tool_template : api->cfg.template;
    oct_err err = {0};
    if (own && !api->cfg.trust_request_chat_template)
        return oct_api_refuse(e, OCT_API_REFUSED, "chat_template",
                              "chat_template: not allowed in requests "
                              "(--trust-request-chat-template allows it)");
    if (own && !json_is_string(own))
        return oct_api_refuse(e, OCT_API_MALFORMED, "chat_template",
                              "chat_template: must be a string");
    if (own) {
        const oct_str s = oct_json_str(own);
        const oct_status st = oct_template_create(api->mem, s.ptr, s.len, out, &err);
        if (st == OCT_E_NOMEM) return oct_api_no_memory(e);
        if (st != OCT_OK)
            return oct_api_refuse(e, OCT_API_REFUSED, "chat_template", "chat_template: %.*s",
                                  OCT_API_REASON, err.text);
        return OCT_OK;
    }
    if (!t)
        return oct_api_refuse(e, OCT_API_REFUSED, "messages", "chat is not possible: %.*s",
                              OCT_API_REASON, api->cfg.template_error);
    *out = oct_template_retain(t);
    return OCT_OK;
}

/* The field that a sentence of text/chat.h begins with. */
static const char *param_of(const char *sentence) {
    static const char *const params[] = {"tools", "chat_template_kwargs", "continue_final_message"};
    for (size_t i = 0; i < OCT_COUNT(params); i++)
        if (strncmp(sentence, params[i], strlen(params[i])) == 0) return params[i];
    return "messages";
}

static oct_status check_messages(const json_t *body, oct_api_error *e) {
    const json_t *v = given(body, "messages");
    char shown[OCT_JSON_SHOWN];
    if (!v) return oct_api_refuse(e, OCT_API_MALFORMED, "messages", "messages: missing");
    if (!json_is_array(v))
        return oct_api_refuse(e, OCT_API_MALFORMED, "messages",
                              "messages: must be an array (got %s)", oct_json_show(v, shown));
    if (json_array_size(v) == 0)
        return oct_api_refuse(e, OCT_API_REFUSED, "messages",
                              "messages: the prompt cannot be empty");
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *m = json_array_get(v, i);
        if (!json_is_object(m) || !json_is_string(json_object_get(m, "role")))
            return oct_api_refuse(e, OCT_API_MALFORMED, "messages",
                                  "messages[%zu]: must be an object with a role (got %s)", i,
                                  oct_json_show(m, shown));
    }
    v = given(body, "documents");
    if (v && !json_is_array(v))
        return oct_api_refuse(e, OCT_API_MALFORMED, "documents", "documents: must be an array");
    return OCT_OK;
}

static oct_status render(const oct_api *api, const json_t *body, const oct_api_fields *f,
                         oct_template *t, const json_t *tools, const json_t *kwargs,
                         const char *effort, oct_buf *out, oct_api_error *e) {
    const oct_chat_request req = {.messages = given(body, "messages"),
                                  .tools = tools,
                                  .documents = given(body, "documents"),
                                  .add_generation_prompt =
                                      f->add_generation_prompt && !f->continue_final_message,
                                  .continue_final_message = f->continue_final_message,
                                  .kwargs = kwargs,
                                  .reasoning_effort = effort,
                                  .vars = api->vars,
                                  .n_vars = api->n_vars};
    oct_err err = {0};
    const oct_status st = oct_chat_render(t, &req, NULL, out, &err);
    if (st == OCT_E_NOMEM || out->failed || OCT_FAULT(JOB_RENDER, (uint64_t)f->seed))
        return oct_api_no_memory(e);
    if (st == OCT_OK) return OCT_OK;
    return oct_api_refuse(e, OCT_API_REFUSED, param_of(err.text), "%.*s", OCT_API_REASON, err.text);
}

/* What the variables say of thinking, as text/chat.h sets them. */
static int thinking(const json_t *kwargs, const char *effort) {
    static const char *const names[] = {"enable_thinking", "thinking"};
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        const json_t *v = json_object_get(kwargs, names[i]);
        if (json_is_boolean(v)) return json_is_true(v);
    }
    return effort ? strcmp(effort, "none") != 0 : -1;
}

oct_status oct_api_render(oct_api *api, const json_t *body, const oct_api_fields *f, oct_buf *out,
                          oct_api_manner *how, oct_api_error *e) {
    const json_t *tools = NULL;
    const char *effort = NULL;
    oct_template *t = NULL;
    json_t *kwargs = NULL;
    OCT_TRY(check_messages(body, e));
    if (f->continue_final_message && f->add_generation_prompt &&
        given(body, "add_generation_prompt"))
        return oct_api_refuse(e, OCT_API_REFUSED, "continue_final_message",
                              "continue_final_message: not together with add_generation_prompt");
    if (how) *how = (oct_api_manner){.thinking = -1};
    OCT_TRY(check_tools(api, body, &tools, how, e));
    OCT_TRY(check_effort(body, &effort, e));
    OCT_TRY(choose_template(api, body, tools != NULL, &t, e));
    oct_status st = merge_kwargs(api, body, &kwargs, e);
    if (st == OCT_OK) {
        if (how) how->thinking = thinking(kwargs, effort);
        st = render(api, body, f, t, tools, kwargs, effort, out, e);
        json_decref(kwargs);
    }
    oct_template_release(t);
    return st;
}

/* ---- ids ---- */

oct_status oct_api_check_text(const oct_api *api, oct_str text, uint64_t reserve,
                              oct_api_error *e) {
    const uint64_t limit = api->info.max_model_len;
    const uint64_t room = reserve < limit ? limit - reserve : 0;
    if (text.len / oct_tokenizer_max_token_bytes(api->cfg.tokenizer) <= room) return OCT_OK;
    return oct_api_refuse(e, OCT_API_REFUSED, "input_tokens",
                          "maximum context length is %llu tokens, and a text of %zu bytes "
                          "cannot fit",
                          (unsigned long long)limit, text.len);
}

oct_status oct_api_encode(const oct_api *api, oct_str text, bool add_special, uint64_t reserve,
                          oct_ids *out, oct_api_error *e) {
    const oct_tokenizer *tok = api->cfg.tokenizer;
    oct_err err = {0};
    if (!tok)
        return oct_api_refuse(e, OCT_API_REFUSED, "prompt",
                              "prompt: the model has no tokenizer; give token ids");
    OCT_TRY(oct_api_check_text(api, text, reserve, e));
    const unsigned flags = OCT_ENCODE_PARSE_SPECIAL | (add_special ? OCT_ENCODE_ADD_SPECIAL : 0);
    const oct_status st = oct_tokenizer_encode(tok, text, flags, out, &err);
    if (st == OCT_E_NOMEM || out->failed || OCT_FAULT(JOB_ENCODE, 0)) return oct_api_no_memory(e);
    if (st != OCT_OK)
        return oct_api_refuse(e, OCT_API_REFUSED, "prompt", "prompt: %.*s", OCT_API_REASON,
                              err.text);
    return OCT_OK;
}

static void cut_prompt(const oct_api *api, const oct_api_fields *f, oct_ids *prompt) {
    const uint64_t limit = api->info.max_model_len;
    const uint64_t reserve = f->max_tokens > 0 ? (uint64_t)f->max_tokens : 1;
    uint64_t keep = f->truncate > 0 ? (uint64_t)f->truncate : limit - reserve;
    if (f->truncate == 0 || prompt->len <= keep) return;
    if (!f->truncate_right)
        memmove(prompt->data, prompt->data + (prompt->len - keep), keep * sizeof *prompt->data);
    prompt->len = keep;
}

oct_status oct_api_fit(const oct_api *api, const oct_api_fields *f, oct_ids *prompt,
                       uint32_t by_default, const char *param, uint32_t *max_tokens_out,
                       oct_api_error *e) {
    const uint64_t limit = api->info.max_model_len;
    cut_prompt(api, f, prompt);
    if (prompt->len == 0)
        return oct_api_refuse(e, OCT_API_REFUSED, param, "%s: the prompt cannot be empty", param);
    if (f->max_tokens > 0 && prompt->len + (uint64_t)f->max_tokens > limit)
        return oct_api_refuse(e, OCT_API_REFUSED, "input_tokens",
                              "maximum context length is %llu tokens; %lld output tokens were "
                              "requested and the prompt holds %zu input tokens, %llu in all: "
                              "shorten the prompt or ask for fewer",
                              (unsigned long long)limit, (long long)f->max_tokens, prompt->len,
                              (unsigned long long)prompt->len + (uint64_t)f->max_tokens);
    if (prompt->len >= limit)
        return oct_api_refuse(e, OCT_API_REFUSED, "input_tokens",
                              "maximum context length is %llu tokens; the prompt holds %zu input "
                              "tokens and leaves no room for an answer",
                              (unsigned long long)limit, prompt->len);
    uint64_t most = limit - prompt->len;
    if (f->max_tokens > 0)
        most = (uint64_t)f->max_tokens;
    else if (by_default > 0 && by_default < most)
        most = by_default;
    if ((uint64_t)f->min_tokens > most)
        return oct_api_refuse(e, OCT_API_REFUSED, "min_tokens",
                              "min_tokens: more than the answer may have (got %lld, want at most "
                              "%llu)",
                              (long long)f->min_tokens, (unsigned long long)most);
    *max_tokens_out = (uint32_t)most;
    return OCT_OK;
}
