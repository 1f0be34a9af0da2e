/*
 * speak/decode_json.c - bodies of blocks that hold JSON.
 *
 *   hermes      {"name": "f", "arguments": {...}}
 *   llama       {"name": "f", "parameters": {...}}
 *   mistral     [{"name": "f", "arguments": {...}}, ...]   or   f{...}   or   f[ARGS]{...}
 *   deepseek    <｜tool▁call▁begin｜>f<｜tool▁sep｜>{...}<｜tool▁call▁end｜>...   (v3.1)
 *               <｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{...}\n```<...end｜>   (v3)
 *   required    [{"name": "f", "parameters": {...}}, ...]
 */
#include "speak/parts.h"

static oct_str trim(oct_str s) {
    const size_t n = oct_speak_blanks(s);
    s = (oct_str){s.ptr + n, s.len - n};
    while (s.len > 0 && memchr(" \t\r\n", s.ptr[s.len - 1], 4)) s.len--;
    return s;
}

json_t *oct_speak_read_json(oct_speak_calls *c, oct_str text) {
    oct_json_limits limits = oct_json_request_limits;
    oct_err err = {0};
    json_t *v = NULL;
    limits.max_depth = 60; /* what is written again may not be nested deeper */
    if (oct_json_parse(text, "call", &limits, &v, &err) == OCT_E_NOMEM) c->failed = true;
    return v;
}

/* Arguments may be an object, JSON text of one, or not there. */
static bool add(oct_speak_calls *c, const json_t *name, const json_t *args) {
    if (!json_is_string(name)) return false;
    if (!args || json_is_null(args)) return oct_speak_add_call(c, oct_json_str(name), NULL);
    if (json_is_object(args)) return oct_speak_add_call(c, oct_json_str(name), args);
    if (!json_is_string(args)) return false;
    json_t *inner = oct_speak_read_json(c, oct_json_str(args));
    const bool good = json_is_object(inner) && oct_speak_add_call(c, oct_json_str(name), inner);
    json_decref(inner);
    return good;
}

/* {"name", "arguments" or "parameters"} */
static bool add_object(oct_speak_calls *c, const json_t *v) {
    const json_t *args = json_object_get(v, "arguments");
    if (!args) args = json_object_get(v, "parameters");
    return add(c, json_object_get(v, "name"), args);
}

static bool add_any(oct_speak_calls *c, const json_t *v) {
    if (!json_is_array(v)) return add_object(c, v);
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!add_object(c, json_array_get(v, i))) return false;
    return true;
}

static bool decode_any(oct_speak_calls *c, oct_str body) {
    json_t *v = oct_speak_read_json(c, trim(body));
    const bool good = v && add_any(c, v);
    json_decref(v);
    return good;
}

bool oct_speak_decode_hermes(oct_speak_calls *c, oct_str body) { return decode_any(c, body); }
bool oct_speak_decode_llama(oct_speak_calls *c, oct_str body) { return decode_any(c, body); }
bool oct_speak_decode_required(oct_speak_calls *c, oct_str body) { return decode_any(c, body); }

/* ---- a name before its arguments ---- */

static bool add_named(oct_speak_calls *c, oct_str name, oct_str args) {
    json_t *v = oct_speak_read_json(c, trim(args));
    const bool good = json_is_object(v) && oct_speak_add_call(c, trim(name), v);
    json_decref(v);
    return good;
}

/* What stands before mark; all when it is not there. */
static oct_str before(oct_str s, const char *mark) {
    const char *at = memmem(s.ptr, s.len, mark, strlen(mark));
    return at ? (oct_str){s.ptr, (size_t)(at - s.ptr)} : s;
}

bool oct_speak_decode_mistral(oct_speak_calls *c, oct_str body) {
    body = trim(body);
    if (body.len == 0 || body.ptr[0] == '[' || body.ptr[0] == '{') return decode_any(c, body);
    const oct_str head = before(body, "{");
    const oct_str args = {body.ptr + head.len, body.len - head.len};
    return add_named(c, before(before(head, "[CALL_ID]"), "[ARGS]"), args);
}

/* ---- DeepSeek ---- */

static bool decode_deepseek_call(oct_speak_calls *c, oct_str call) {
    static const char sep[] = "<｜tool▁sep｜>", fence[] = "```json";
    const oct_str head = before(call, sep);
    if (head.len == call.len) return false;
    const size_t skip = head.len + sizeof sep - 1;
    const oct_str tail = {call.ptr + skip, call.len - skip};
    const oct_str name = before(tail, fence);
    if (name.len == tail.len) return add_named(c, head, tail); /* v3.1: name, then arguments */
    const size_t at = name.len + sizeof fence - 1;
    return add_named(c, name, before((oct_str){tail.ptr + at, tail.len - at}, "\n```"));
}

bool oct_speak_decode_deepseek(oct_speak_calls *c, oct_str body) {
    static const char begin[] = "<｜tool▁call▁begin｜>", end[] = "<｜tool▁call▁end｜>";
    for (body = trim(body); body.len > 0; body = trim(body)) {
        if (!oct_str_starts(body, OCT_STR(begin))) return false;
        body = (oct_str){body.ptr + sizeof begin - 1, body.len - (sizeof begin - 1)};
        const oct_str call = before(body, end);
        if (call.len == body.len || !decode_deepseek_call(c, call)) return false;
        const size_t skip = call.len + sizeof end - 1;
        body = (oct_str){body.ptr + skip, body.len - skip};
    }
    return true;
}
