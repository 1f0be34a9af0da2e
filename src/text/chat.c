/*
 * text/chat.c - shapes a chat request for its template and renders it.
 *
 * Messages are copied key by key, so a request may be rendered again in another shape: when a
 * template fails on types while tool-call arguments are objects, they are given once more as JSON
 * text, and the template is remembered to want them so.
 */
#include "text/chat.h"

#include <stdio.h>

#include "codec/json.h"
#include "codec/utf8.h"
#include "text/template_priv.h"

enum {
    MAX_KWARGS = 256,
    SHORT_ID = 9, /* what Mistral's templates insist on */
};

/* Where in the request something is wrong. */
typedef struct place {
    size_t message;
    const oct_allocator *mem; /* for texts on their way */
    oct_err *err;
} place;

static oct_status wrong(const place *at, const char *field, const char *want, const json_t *got) {
    char shown[OCT_JSON_SHOWN];
    return OCT_FAIL(at->err, OCT_E_INVALID, "messages[%zu]%s: %s (got %s)", at->message, field,
                    want, oct_json_show(got, shown));
}

static oct_status no_memory(oct_err *err) {
    return OCT_FAIL(err, OCT_E_NOMEM, "chat: no memory for the messages");
}

/* Takes v; NULL: there was no memory for it. */
static oct_status put(const place *at, json_t *to, const char *key, json_t *v) {
    return json_object_set_new(to, key, v) == 0 ? OCT_OK : no_memory(at->err);
}

/* Takes v; the same. */
static oct_status append(const place *at, json_t *list, json_t *v) {
    return json_array_append_new(list, v) == 0 ? OCT_OK : no_memory(at->err);
}

/* A copy of one level, of whole: the library's own tells nothing of a key it had no memory for. */
static json_t *copy_object(const json_t *from) {
    json_t *to = json_object();
    if (json_object_update(to, (json_t *)(uintptr_t)from) == 0) return to;
    json_decref(to);
    return NULL;
}

/* ---- content ---- */

/* The text of a part; NULL with OCT_OK never happens. */
static oct_status part_text(const place *at, const json_t *part, const json_t **text) {
    *text = part;
    if (json_is_string(part)) return OCT_OK;
    if (!json_is_object(part)) return wrong(at, ".content", "a part must be an object", part);
    const json_t *type = json_object_get(part, "type");
    const oct_str name = oct_json_str(type);
    if (!json_is_string(type)) return wrong(at, ".content", "a part must have a type", type);
    *text = json_object_get(part, "text");
    const bool is_text = oct_str_is(name, "text") || oct_str_is(name, "input_text") ||
                         oct_str_is(name, "output_text") || oct_str_is(name, "refusal");
    if (oct_str_is(name, "refusal")) *text = json_object_get(part, "refusal");
    if (!is_text) {
        char shown[OCT_JSON_SHOWN];
        return OCT_FAIL(at->err, OCT_E_UNSUPPORTED,
                        "messages[%zu].content: only text parts are supported (got %s)",
                        at->message, oct_json_show(type, shown));
    }
    if (!json_is_string(*text)) return wrong(at, ".content", "the text must be a string", *text);
    return OCT_OK;
}

/* The texts of all parts with newlines between. */
static oct_status join_parts(const place *at, const json_t *parts, json_t **out) {
    oct_buf text;
    oct_status st = OCT_OK;
    oct_buf_init(&text, at->mem, 0);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *one;
        st = part_text(at, json_array_get(parts, i), &one);
        if (st != OCT_OK) break;
        if (i) oct_buf_char(&text, '\n');
        oct_buf_str(&text, oct_json_str(one));
    }
    *out = st == OCT_OK && !text.failed ? json_stringn(oct_buf_cs(&text), text.len) : NULL;
    oct_buf_fini(&text);
    return st == OCT_OK && !*out ? no_memory(at->err) : st;
}

/* An array of {"type": "text", "text": ...}. */
static oct_status list_parts(const place *at, const json_t *content, json_t **out) {
    json_t *list = json_array();
    oct_status st = OCT_OK;
    const size_t n = json_is_array(content) ? json_array_size(content) : 1;
    for (size_t i = 0; st == OCT_OK && i < n; i++) {
        const json_t *text, *part = json_is_array(content) ? json_array_get(content, i) : content;
        st = part_text(at, part, &text);
        if (st == OCT_OK)
            st = append(at, list, json_pack("{s:s, s:O}", "type", "text", "text", text));
    }
    if (st == OCT_OK)
        *out = list;
    else
        json_decref(list);
    return st;
}

static oct_status shape_content(const place *at, const json_t *content, bool parts, json_t *to) {
    json_t *v = NULL;
    oct_status st = OCT_OK;
    if (!content || json_is_null(content))
        v = parts ? json_array() : json_string("");
    else if (!json_is_string(content) && !json_is_array(content))
        return wrong(at, ".content", "must be a string, an array of parts or null", content);
    else if (parts)
        st = list_parts(at, content, &v);
    else if (json_is_array(content))
        st = join_parts(at, content, &v);
    else
        v = json_incref((json_t *)(uintptr_t)content);
    OCT_TRY(st);
    return put(at, to, "content", v);
}

/* ---- tool calls ---- */

static oct_status args_object(const place *at, const json_t *args, json_t **out) {
    const oct_str text = oct_json_str(args);
    if (json_is_object(args)) return *out = json_incref((json_t *)(uintptr_t)args), OCT_OK;
    const oct_str bare = oct_tmpl_strip(text, NULL, true, true);
    if (!args || json_is_null(args) || (json_is_string(args) && bare.len == 0))
        return (*out = json_object()) ? OCT_OK : no_memory(at->err);
    if (!json_is_string(args))
        return wrong(at, ".tool_calls", "arguments must be JSON text or an object", args);
    oct_json_limits limits = oct_json_request_limits;
    limits.warn_duplicates = true;
    limits.max_depth = OCT_TEMPLATE_MAX_NESTING - 8;
    char where[64];
    snprintf(where, sizeof where, "messages[%zu].tool_calls", at->message);
    OCT_TRY(oct_json_parse(text, where, &limits, out, at->err));
    if (json_is_object(*out)) return OCT_OK;
    json_decref(*out);
    return wrong(at, ".tool_calls", "arguments must be a JSON object", args);
}

static oct_status args_text(const place *at, json_t *object, json_t **out) {
    oct_buf text;
    oct_buf_init(&text, at->mem, 0);
    const oct_status st = oct_template_dump_json(object, &text, at->err);
    *out = st == OCT_OK ? json_stringn(oct_buf_cs(&text), text.len) : NULL;
    oct_buf_fini(&text);
    json_decref(object);
    return st == OCT_OK && !*out ? no_memory(at->err) : st;
}

/* The last nine letters and digits of an id, zeros in front when it has fewer. */
static json_t *short_id(const json_t *id) {
    const oct_str s = oct_json_str(id);
    char text[SHORT_ID];
    size_t n = SHORT_ID;
    memset(text, '0', sizeof text);
    for (size_t i = s.len; i > 0 && n > 0; i--) {
        const char ch = s.ptr[i - 1];
        if ((ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z')) text[--n] = ch;
    }
    return json_stringn(text, sizeof text);
}

static oct_status shape_id(const place *at, const oct_template *t, json_t *object,
                           const char *key) {
    const json_t *id = json_object_get(object, key);
    if (!json_is_string(id) || !oct_template_wants_short_ids(t)) return OCT_OK;
    return put(at, object, key, short_id(id));
}

/* from in the template's form, into list. */
static oct_status shape_call(const place *at, const oct_template *t, const json_t *from,
                             oct_chat_args form, json_t *list) {
    const json_t *type = json_object_get(from, "type");
    if (!json_is_object(from)) return wrong(at, ".tool_calls", "a call must be an object", from);
    if (type && !json_is_null(type) && !oct_str_is(oct_json_str(type), "function"))
        return wrong(at, ".tool_calls", "only calls of type function are supported", type);
    json_t *fn = json_object_get(from, "function"), *args = NULL;
    if (!json_is_object(fn)) return wrong(at, ".tool_calls", "a call must have a function", fn);
    if (!json_is_string(json_object_get(fn, "name")))
        return wrong(at, ".tool_calls", "a function must have a name", json_object_get(fn, "name"));
    json_t *call = copy_object(from);
    OCT_TRY(append(at, list, call));
    fn = copy_object(fn);
    OCT_TRY(put(at, call, "function", fn));
    OCT_TRY(args_object(at, json_object_get(fn, "arguments"), &args));
    if (form == OCT_CHAT_ARGS_TEXT) OCT_TRY(args_text(at, args, &args));
    OCT_TRY(put(at, fn, "arguments", args));
    return shape_id(at, t, call, "id");
}

static oct_status shape_calls(const place *at, const oct_template *t, oct_chat_args form,
                              json_t *to) {
    const json_t *calls = json_object_get(to, "tool_calls");
    if (!calls) return OCT_OK;
    if (json_is_null(calls) || (json_is_array(calls) && json_array_size(calls) == 0)) {
        json_object_del(to, "tool_calls");
        return OCT_OK;
    }
    if (!json_is_array(calls)) return wrong(at, ".tool_calls", "must be an array", calls);
    json_t *list = json_array();
    oct_status st = OCT_OK;
    for (size_t i = 0; st == OCT_OK && i < json_array_size(calls); i++)
        st = shape_call(at, t, json_array_get(calls, i), form, list);
    if (st == OCT_OK) return put(at, to, "tool_calls", list);
    json_decref(list);
    return st;
}

/* ---- messages ---- */

/* reasoning and reasoning_content are two names of one text; the template sees both. */
static oct_status shape_reasoning(const place *at, json_t *to) {
    static const char *const names[] = {"reasoning", "reasoning_content"};
    for (int i = 0; i < 2; i++) {
        json_t *v = json_object_get(to, names[i]), *other = json_object_get(to, names[1 - i]);
        if (v && !json_is_null(v) && !json_is_string(v))
            return wrong(at, ".reasoning", "must be a string or null", v);
        if (json_is_null(v))
            json_object_del(to, names[i]);
        else if (v && (!other || json_is_null(other)))
            OCT_TRY(put(at, to, names[1 - i], json_incref(v)));
    }
    return OCT_OK;
}

static oct_status shape_message(const place *at, const oct_template *t, const json_t *from,
                                oct_chat_args form, json_t *to) {
    const char *key;
    json_t *value;
    if (!json_is_object(from)) return wrong(at, "", "must be an object", from);
    const json_t *role = json_object_get(from, "role");
    if (!json_is_string(role)) return wrong(at, ".role", "must be a string", role);
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
        OCT_TRY(put(at, to, key, json_incref(value)));

    const bool tool = oct_str_is(oct_json_str(role), "tool");
    const bool parts = !tool && oct_template_content_form(t) == OCT_TEMPLATE_CONTENT_PARTS;
    OCT_TRY(shape_content(at, json_object_get(from, "content"), parts, to));
    OCT_TRY(shape_reasoning(at, to));
    OCT_TRY(shape_id(at, t, to, "tool_call_id"));
    return shape_calls(at, t, form, to);
}

oct_status oct_chat_messages(const oct_template *t, const json_t *messages, oct_chat_args args,
                             json_t **out, oct_err *err) {
    *out = NULL;
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return OCT_FAIL(err, OCT_E_INVALID, "messages: must be a non-empty array");
    json_t *list = json_array();
    oct_status st = OCT_OK;
    for (size_t i = 0; st == OCT_OK && i < json_array_size(messages); i++) {
        const place at = {.message = i, .mem = t->mem, .err = err};
        json_t *to = json_object();
        st = append(&at, list, to);
        if (st == OCT_OK) st = shape_message(&at, t, json_array_get(messages, i), args, to);
    }
    if (st == OCT_OK)
        *out = list;
    else
        json_decref(list);
    return st;
}

/* ---- tools ---- */

/* A copy of `from` whose first keys are those of order[n], missing ones null where must says so. */
static json_t *ordered(const json_t *from, const char *const *order, size_t n, bool must) {
    json_t *to = json_object();
    const char *key;
    json_t *value;
    bool ok = to != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        json_t *v = json_object_get(from, order[i]);
        if (v || must)
            ok = json_object_set_new(to, order[i], v ? json_incref(v) : json_null()) == 0;
    }
    json_object_foreach((json_t *)(uintptr_t)from, key, value) if (ok && !json_object_get(to, key))
        ok = json_object_set(to, key, value) == 0;
    if (ok) return to;
    json_decref(to);
    return NULL;
}

static oct_status shape_tool(const json_t *tool, size_t i, json_t *list, oct_err *err) {
    static const char *const outer[] = {"type", "function"};
    static const char *const inner[] = {"name", "description", "parameters"};
    const json_t *fn = json_object_get(tool, "function");
    if (!json_is_object(tool) || !json_is_object(fn))
        return OCT_FAIL(err, OCT_E_INVALID, "tools[%zu]: must be an object with a function", i);
    if (!json_is_string(json_object_get(fn, "name")))
        return OCT_FAIL(err, OCT_E_INVALID, "tools[%zu].function.name: must be a string", i);
    json_t *to = ordered(tool, outer, OCT_COUNT(outer), false);
    const oct_status st =
        json_object_set_new(to, "function", ordered(fn, inner, OCT_COUNT(inner), true)) == 0 &&
                json_array_append(list, to) == 0
            ? OCT_OK
            : no_memory(err);
    json_decref(to);
    return st;
}

/* Tools with keys in the order type, function{name, description, parameters, ...}; a missing
 * description or parameters is null. NULL or an empty array gives *out NULL. */
static oct_status tools_of(const json_t *tools, json_t **out, oct_err *err) {
    *out = NULL;
    if (!tools || json_is_null(tools)) return OCT_OK;
    if (!json_is_array(tools)) return OCT_FAIL(err, OCT_E_INVALID, "tools: must be an array");
    if (json_array_size(tools) == 0) return OCT_OK;
    json_t *list = json_array();
    oct_status st = OCT_OK;
    for (size_t i = 0; st == OCT_OK && i < json_array_size(tools); i++)
        st = shape_tool(json_array_get(tools, i), i, list, err);
    if (st == OCT_OK)
        *out = list;
    else
        json_decref(list);
    return st;
}

/* ---- rendering ---- */

static oct_status check_kwargs(const json_t *kwargs, oct_err *err) {
    static const char *const refused[] = {"messages", "tools", "chat_template", "tokenize"};
    if (!kwargs || json_is_null(kwargs)) return OCT_OK;
    if (!json_is_object(kwargs))
        return OCT_FAIL(err, OCT_E_INVALID, "chat_template_kwargs: must be an object");
    if (json_object_size(kwargs) > MAX_KWARGS)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "chat_template_kwargs: too many (got %zu, want at most %d)",
                        json_object_size(kwargs), MAX_KWARGS);
    for (size_t i = 0; i < OCT_COUNT(refused); i++)
        if (json_object_get(kwargs, refused[i]))
            return OCT_FAIL(err, OCT_E_INVALID, "chat_template_kwargs: '%s' is not allowed",
                            refused[i]);
    return OCT_OK;
}

/* kwargs with reasoning_effort and what follows from it. */
static oct_status merge_kwargs(const oct_chat_request *req, json_t **out, oct_err *err) {
    OCT_TRY(check_kwargs(req->kwargs, err));
    *out = json_is_object(req->kwargs) ? copy_object(req->kwargs) : json_object();
    bool ok = *out != NULL;
    if (ok && req->reasoning_effort && !json_object_get(*out, "reasoning_effort"))
        ok = json_object_set_new(*out, "reasoning_effort", json_string(req->reasoning_effort)) == 0;
    if (ok && req->reasoning_effort && !json_object_get(*out, "enable_thinking"))
        ok = json_object_set_new(*out, "enable_thinking",
                                 json_boolean(strcmp(req->reasoning_effort, "none") != 0)) == 0;
    if (ok) return OCT_OK;
    json_decref(*out);
    return no_memory(err);
}

/* The last message as text, borrowed from the shaped messages. */
static oct_str final_text(const json_t *messages) {
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const json_t *content = json_object_get(last, "content");
    if (json_is_array(content) && json_array_size(content) > 0)
        content = json_object_get(json_array_get(content, json_array_size(content) - 1), "text");
    return oct_json_str(content);
}

static const char *find_last(oct_str s, oct_str what) {
    if (what.len > s.len) return NULL;
    for (size_t at = s.len - what.len + 1; at-- > 0;)
        if (s.ptr[at] == what.ptr[0] && memcmp(s.ptr + at, what.ptr, what.len) == 0)
            return s.ptr + at;
    return NULL;
}

/* Cuts what the template wrote behind the last message's text. Blanks at its end stay when the
 * template kept them. */
static oct_status cut_final(const json_t *messages, size_t start, oct_buf *out, oct_err *err) {
    const oct_str text = final_text(messages);
    const oct_str left = oct_tmpl_strip(text, NULL, true, false);
    const oct_str bare = oct_tmpl_strip(left, NULL, false, true);
    if (bare.len == 0)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "continue_final_message: the last message has no text to continue");
    const oct_str all = {oct_buf_cs(out) + start, out->len - start};
    const char *at = find_last(all, bare);
    if (!at)
        return OCT_FAIL(
            err, OCT_E_INVALID,
            "continue_final_message: the template changed the text of the last message");
    const size_t from = (size_t)(at - all.ptr);
    const bool kept = oct_str_starts((oct_str){at, all.len - from}, left);
    out->len = start + from + (kept ? left.len : bare.len);
    out->data[out->len] = '\0';
    return OCT_OK;
}

typedef struct job {
    const oct_template *t;
    const oct_chat_request *req;
    const oct_template_limits *limits;
    json_t *tools, *kwargs;
} job;

static oct_status render(const job *j, oct_chat_args form, oct_buf *out, bool *type_error,
                         oct_err *err) {
    json_t *messages;
    const size_t start = out->len;
    const bool open = j->req->continue_final_message;
    *type_error = false;
    OCT_TRY(oct_chat_messages(j->t, j->req->messages, form, &messages, err));
    const oct_template_input in = {
        .messages = messages,
        .tools = j->tools,
        .documents = j->req->documents,
        .add_generation_prompt = j->req->add_generation_prompt && !open,
        .continue_final_message = open,
        .vars = j->req->vars,
        .n_vars = j->req->n_vars,
        .kwargs = j->kwargs,
        .now = j->req->now,
    };
    oct_status st = oct_tmpl_render(j->t, &in, j->limits, out, type_error, err);
    if (st == OCT_OK && open) {
        st = cut_final(messages, start, out, err);
        if (st != OCT_OK) {
            out->len = start;
            if (out->data) out->data[start] = '\0'; /* nothing may have been printed at all */
        }
    }
    json_decref(messages);
    return st;
}

static bool has_calls(const json_t *messages) {
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");
        if (json_is_array(calls) && json_array_size(calls) > 0) return true;
    }
    return false;
}

/* Objects first, unless the template is known to want text; on a type error the other form. */
static oct_status render_either(const job *j, oct_buf *out, oct_err *err) {
    /* Only the learnt flag of a template changes, and it is atomic. */
    oct_template *t = (oct_template *)(uintptr_t)j->t;
    const bool text = atomic_load_explicit(&t->args_as_text, memory_order_relaxed);
    bool type_error;
    oct_err first = {.code = OCT_OK}, second = {.code = OCT_OK};
    oct_status st =
        render(j, text ? OCT_CHAT_ARGS_TEXT : OCT_CHAT_ARGS_OBJECT, out, &type_error, &first);
    if (st == OCT_E_INVALID && type_error && !text && has_calls(j->req->messages)) {
        const oct_status again = render(j, OCT_CHAT_ARGS_TEXT, out, &type_error, &second);
        if (again == OCT_OK) {
            atomic_store_explicit(&t->args_as_text, true, memory_order_relaxed);
            return OCT_OK;
        }
        if (again == OCT_E_NOMEM) st = again, first = second; /* it may well have gone */
    }
    if (st != OCT_OK && err && err->code == OCT_OK) *err = first;
    return st;
}

oct_status oct_chat_render(const oct_template *t, const oct_chat_request *req,
                           const oct_template_limits *limits, oct_buf *out, oct_err *err) {
    job j = {.t = t, .req = req, .limits = limits};
    OCT_TRY(merge_kwargs(req, &j.kwargs, err));
    oct_status st = tools_of(req->tools, &j.tools, err);
    if (st == OCT_OK) st = render_either(&j, out, err);
    json_decref(j.kwargs);
    json_decref(j.tools);
    return st;
}
