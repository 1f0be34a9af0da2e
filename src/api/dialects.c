/* api/dialects.c - small parts of the two dialects: making a chat's body, sending named events. */
#include "api/dialects.h"

const json_t *oct_api_given(const json_t *body, const char *name) {
    const json_t *v = json_object_get(body, name);
    return json_is_null(v) ? NULL : v;
}

json_t *oct_api_chat_of(const json_t *body, const char *const *not_here, size_t n) {
    static const char *const nowhere[] = {"n",
                                          "echo",
                                          "logprobs",
                                          "top_logprobs",
                                          "messages",
                                          "stream_options",
                                          "tools",
                                          "prompt_logprobs",
                                          "documents",
                                          "return_token_ids",
                                          "continue_final_message",
                                          "add_generation_prompt",
                                          "max_completion_tokens"};
    json_t *chat = json_copy((json_t *)(uintptr_t)body);
    if (!chat) return NULL;
    for (size_t i = 0; i < OCT_COUNT(nowhere); i++) json_object_del(chat, nowhere[i]);
    for (size_t i = 0; i < n; i++) json_object_del(chat, not_here[i]);
    return chat;
}

bool oct_api_put(json_t *to, const char *key, const json_t *v) {
    return !v || json_object_set(to, key, (json_t *)(uintptr_t)v) == 0;
}

bool oct_api_put_new(json_t *to, const char *key, json_t *v) {
    return json_object_set_new(to, key, v) == 0;
}

json_t *oct_api_add_message(json_t *list, const char *role, const json_t *content) {
    json_t *m = json_object();
    const bool ok =
        oct_api_put_new(m, "role", json_string(role)) && oct_api_put(m, "content", content);
    if (!ok) {
        json_decref(m);
        return NULL;
    }
    return json_array_append_new(list, m) == 0 ? m : NULL;
}

json_t *oct_api_last_assistant(json_t *list) {
    const size_t n = json_array_size(list);
    json_t *last = json_array_get(list, n ? n - 1 : 0);
    if (oct_str_is(oct_json_str(json_object_get(last, "role")), "assistant")) return last;
    return oct_api_add_message(list, "assistant", NULL);
}

bool oct_api_add_tool_call(json_t *message, const json_t *id, const json_t *name,
                           const json_t *args) {
    json_t *calls = json_object_get(message, "tool_calls");
    if (!calls) {
        calls = json_array();
        if (!oct_api_put_new(message, "tool_calls", calls)) return false;
    }
    json_t *call = json_object(), *fn = json_object();
    if (json_array_append_new(calls, call) != 0 || !oct_api_put(call, "id", id) ||
        !oct_api_put_new(call, "type", json_string("function"))) {
        json_decref(fn);
        return false;
    }
    return oct_api_put_new(call, "function", fn) && oct_api_put(fn, "name", name) &&
           oct_api_put(fn, "arguments", args);
}

bool oct_api_add_tool(json_t *list, const json_t *name, const json_t *description,
                      const json_t *parameters, const json_t *strict) {
    json_t *tool = json_object(), *fn = json_object();
    if (json_array_append_new(list, tool) != 0 ||
        !oct_api_put_new(tool, "type", json_string("function"))) {
        json_decref(fn);
        return false;
    }
    return oct_api_put_new(tool, "function", fn) && oct_api_put(fn, "name", name) &&
           oct_api_put(fn, "description", description) &&
           oct_api_put(fn, "parameters", parameters) && oct_api_put(fn, "strict", strict);
}

oct_status oct_api_wrong_item(const char *where, size_t i, const char *name, const char *want,
                              const json_t *got, oct_api_error *e) {
    char shown[OCT_JSON_SHOWN];
    return oct_api_refuse(e, OCT_API_MALFORMED, where, "%s[%zu]%s: %s (got %s)", where, i, name,
                          want, oct_json_show(got, shown));
}

/* ---- named events ---- */

void oct_api_begin_named(oct_api_job *job, const char *name) {
    if (!job->streaming) oct_api_stream_begin(job);
    oct_buf_clear(&job->out);
    oct_buf_printf(&job->out, "event: %s\ndata: {\"type\":\"%s\"", name, name);
}

void oct_api_send_named(oct_api_job *job) {
    oct_api_error e;
    oct_buf *b = &job->out;
    if (job->over && job->n_open > 0) return; /* given up by an event before this one */
    oct_buf_cstr(b, "}\n\n");
    if (OCT_FAULT(JOB_EVENT, oct_api_who(job))) b->failed = true;
    if (!b->failed) {
        if (job->x) (void)oct_http_stream_write(job->x, oct_buf_view(b));
        return;
    }
    oct_api_no_memory(&e);
    job->over = true;
    job->voice->error(job, &e);
}

void oct_api_end_named(oct_api_job *job, bool close_after) {
    if (job->x) (void)oct_http_stream_end(job->x, close_after);
}
