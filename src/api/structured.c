/*
 * api/structured.c - fields that say what an answer must look like, and the grammar that they make.
 *
 * response_format goes before structured_outputs, and this before the older guided_* names; a tool
 * choice that demands a call stands alone. Compiling happens here, on a worker thread, before
 * anything waits in the queue; what cannot be compiled is refused with the field as its param.
 */
#include <stdio.h>

#include "api/parts.h"

static const json_t *given(const json_t *body, const char *name) {
    const json_t *v = json_object_get(body, name);
    return json_is_null(v) ? NULL : v;
}

static oct_status malformed(oct_api_error *e, const char *param, const char *want,
                            const json_t *v) {
    char shown[OCT_JSON_SHOWN];
    return oct_api_refuse(e, OCT_API_MALFORMED, param, "%s: must be %s (got %s)", param, want,
                          oct_json_show(v, shown));
}

/* ---- the maker ---- */

/* Made when it is first needed: most servers are never asked. */
static oct_grammars *maker_of(oct_api *api, oct_api_error *e) {
    oct_err err = {0};
    pthread_mutex_lock(&api->grammars_lock);
    oct_status st = OCT_OK;
    if (!api->grammars)
        st = oct_grammars_create(api->mem, api->cfg.tokenizer, api->info.n_vocab, &api->grammars,
                                 &err);
    oct_grammars *maker = st == OCT_OK ? api->grammars : NULL;
    pthread_mutex_unlock(&api->grammars_lock);
    if (!maker) (void)oct_api_no_memory(e);
    return maker;
}

/* What a job's answer must look like: one of these. */
typedef struct wish {
    const char *param;
    enum { ANYTHING, OBJECT, SCHEMA, REGEX, CHOICE, GRAMMAR } kind;
    const json_t *value;
    oct_grammar_style style;
} wish;

static oct_status told(oct_status st, const char *param, const oct_err *err, oct_api_error *e) {
    if (st == OCT_OK) return OCT_OK;
    if (st == OCT_E_NOMEM) return oct_api_no_memory(e);
    return oct_api_refuse(e, OCT_API_REFUSED, param, "%s: %.400s", param, err->text);
}

static oct_status make_choice(oct_grammars *maker, const wish *w, oct_grammar **out,
                              oct_api_error *e) {
    const size_t n = json_array_size(w->value);
    const oct_allocator *mem = oct_system_allocator();
    oct_str *list = oct_alloc(mem, n, sizeof *list);
    const json_t *v;
    oct_err err = {0};
    oct_status st = OCT_OK;
    size_t i;
    if (!list) return oct_api_no_memory(e);
    json_array_foreach(w->value, i, v) {
        if (!json_is_string(v)) st = malformed(e, w->param, "an array of strings", v);
        list[i] = oct_json_str(v);
    }
    if (st == OCT_OK)
        st = told(oct_grammar_of_choice(maker, list, n, out, &err), w->param, &err, e);
    oct_free(mem, list, n, sizeof *list);
    return st;
}

static oct_status make_schema(const oct_api *api, oct_grammars *maker, const wish *w,
                              oct_grammar **out, oct_api_error *e) {
    json_t *parsed = NULL;
    oct_err err = {0};
    oct_json_limits limits = oct_json_request_limits;
    limits.max_depth = api->cfg.limits.json_depth;
    if (json_is_string(w->value)) { /* a schema may come as text */
        const oct_status st =
            oct_json_parse(oct_json_str(w->value), "schema", &limits, &parsed, &err);
        if (st != OCT_OK) return told(st, w->param, &err, e);
    }
    const oct_status st =
        oct_grammar_of_schema(maker, parsed ? parsed : w->value, &w->style, out, &err);
    json_decref(parsed);
    return told(st, w->param, &err, e);
}

static oct_status make(oct_api *api, const wish *w, oct_grammar **out, oct_api_error *e) {
    oct_err err = {0};
    *out = NULL;
    if (w->kind == ANYTHING) return OCT_OK;
    if (!api->cfg.tokenizer)
        return oct_api_refuse(e, OCT_API_REFUSED, w->param, "%s: the model has no tokenizer",
                              w->param);
    oct_grammars *maker = maker_of(api, e);
    if (!maker) return OCT_E_INVALID;
    switch (w->kind) {
    case ANYTHING:
        break;
    case OBJECT:
        return told(oct_grammar_of_object(maker, &w->style, out, &err), w->param, &err, e);
    case SCHEMA:
        return make_schema(api, maker, w, out, e);
    case REGEX:
        return told(oct_grammar_of_regex(maker, oct_json_str(w->value), out, &err), w->param, &err,
                    e);
    case GRAMMAR:
        return told(oct_grammar_of_ebnf(maker, oct_json_str(w->value), out, &err), w->param, &err,
                    e);
    case CHOICE:
        return make_choice(maker, w, out, e);
    }
    return OCT_OK;
}

/* ---- fields ---- */

static oct_status read_response_format(const json_t *body, wish *w, oct_api_error *e) {
    const json_t *v = given(body, "response_format"), *type = json_object_get(v, "type");
    const json_t *inner = given(v, "json_schema"), *schema = given(v, "schema");
    char shown[OCT_JSON_SHOWN];
    if (!v) return OCT_OK;
    if (!json_is_object(v)) return malformed(e, "response_format", "an object", v);
    if (!json_is_string(type)) return malformed(e, "response_format", "an object with a type", v);
    if (oct_str_is(oct_json_str(type), "text")) return OCT_OK;
    w->param = "response_format";
    if (oct_str_is(oct_json_str(type), "json_object")) {
        w->kind = schema ? SCHEMA : OBJECT;
        w->value = schema;
        return OCT_OK;
    }
    if (!oct_str_is(oct_json_str(type), "json_schema"))
        return oct_api_refuse(e, OCT_API_REFUSED, "response_format",
                              "response_format: must be of type text, json_object or json_schema "
                              "(got %s)",
                              oct_json_show(type, shown));
    if (inner && !json_is_object(inner))
        return malformed(e, "response_format", "an object with a json_schema that is an object", v);
    if (inner && given(inner, "schema")) schema = given(inner, "schema");
    if (!schema)
        return oct_api_refuse(e, OCT_API_REFUSED, "response_format",
                              "response_format: json_schema with a schema is missing");
    w->kind = SCHEMA;
    w->value = schema;
    return OCT_OK;
}

/* One kind of constraint under its name in an object; param as it is told. */
static oct_status take_kind(const json_t *from, const char *name, const char *param, wish *w,
                            oct_api_error *e) {
    const json_t *v = given(from, name);
    const char *kind = strncmp(name, "guided_", 7) == 0 ? name + 7 : name;
    wish found = {.param = param, .value = v, .style = w->style};
    if (!v || json_is_false(v)) return OCT_OK;
    if (strcmp(kind, "json") == 0 || strcmp(kind, "json_schema") == 0) {
        found.kind = SCHEMA;
        if (!json_is_object(v) && !json_is_string(v) && !json_is_true(v))
            return malformed(e, param, "a schema, as an object or text", v);
    } else if (strcmp(kind, "regex") == 0 || strcmp(kind, "grammar") == 0) {
        found.kind = *kind == 'r' ? REGEX : GRAMMAR;
        if (!json_is_string(v)) return malformed(e, param, "a string", v);
        if (oct_json_str(v).len == 0)
            return oct_api_refuse(e, OCT_API_REFUSED, param, "%s: %s must not be empty", param,
                                  name);
    } else if (strcmp(kind, "choice") == 0) {
        found.kind = CHOICE;
        if (!json_is_array(v)) return malformed(e, param, "an array of strings", v);
        if (json_array_size(v) == 0)
            return oct_api_refuse(e, OCT_API_REFUSED, param, "%s: choice must not be empty", param);
    } else {
        found.kind = OBJECT;
        if (!json_is_true(v)) return malformed(e, param, "true", v);
    }
    if (w->kind != ANYTHING)
        return oct_api_refuse(e, OCT_API_REFUSED, param,
                              "%s: only one kind of constraint is possible (%s is another)", param,
                              name);
    *w = found;
    return OCT_OK;
}

static oct_status read_style(const json_t *from, const char *blanks, wish *w, oct_api_error *e) {
    const json_t *v = given(from, blanks);
    OCT_TRY(oct_api_read_bool(from, "disable_any_whitespace", &w->style.no_blanks, e));
    OCT_TRY(oct_api_read_bool(from, "disable_additional_properties", &w->style.no_additional, e));
    if (v && !json_is_string(v)) return malformed(e, blanks, "a string", v);
    w->style.blanks = oct_json_str(v);
    return OCT_OK;
}

static oct_status read_structured(const json_t *body, wish *w, oct_api_error *e) {
    static const char *const kinds[] = {"json", "regex", "choice", "grammar", "json_object"};
    const char *param = "structured_outputs";
    const json_t *v = given(body, param);
    if (!v) return OCT_OK;
    if (!json_is_object(v)) return malformed(e, param, "an object", v);
    if (given(v, "structural_tag"))
        return oct_api_refuse(e, OCT_API_REFUSED, param, "%s: structural_tag is not supported",
                              param);
    OCT_TRY(read_style(v, "whitespace_pattern", w, e));
    for (size_t i = 0; i < OCT_COUNT(kinds); i++) OCT_TRY(take_kind(v, kinds[i], param, w, e));
    if (w->kind != ANYTHING) return OCT_OK;
    return oct_api_refuse(e, OCT_API_REFUSED, param,
                          "%s: one of json, regex, choice, grammar and json_object is needed",
                          param);
}

/* The names of before structured_outputs, and llama-server's. */
static oct_status read_older(const json_t *body, wish *w, oct_api_error *e) {
    static const char *const kinds[] = {"guided_json",    "guided_regex", "guided_choice",
                                        "guided_grammar", "json_schema",  "grammar"};
    const json_t *v = given(body, "guided_whitespace_pattern");
    if (v && !json_is_string(v)) return malformed(e, "guided_whitespace_pattern", "a string", v);
    w->style.blanks = oct_json_str(v);
    for (size_t i = 0; i < OCT_COUNT(kinds); i++)
        OCT_TRY(take_kind(body, kinds[i], kinds[i], w, e));
    return OCT_OK;
}

/* ---- tools ---- */

static oct_status check_tool(const json_t *tool, oct_api_error *e) {
    const json_t *f = json_object_get(tool, "function"), *name = json_object_get(f, "name");
    const json_t *parameters = json_object_get(f, "parameters");
    char shown[OCT_JSON_SHOWN];
    const oct_str s = oct_json_str(name);
    bool bad = s.len == 0 || s.len > 64;
    for (size_t i = 0; i < s.len && !bad; i++)
        bad =
            !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", s.ptr[i]);
    if (bad)
        return oct_api_refuse(e, OCT_API_REFUSED, "tools",
                              "tools: a function's name must be 1 to 64 letters, digits, _ - and . "
                              "(got %s)",
                              oct_json_show(name, shown));
    if (!parameters || json_is_object(parameters)) return OCT_OK;
    return oct_api_refuse(e, OCT_API_REFUSED, "tools",
                          "tools: parameters of %.64s must be a schema (got %s)",
                          json_string_value(name), oct_json_show(parameters, shown));
}

static json_t *parameters_of(const json_t *tool) {
    json_t *p = json_object_get(json_object_get(tool, "function"), "parameters");
    return p ? json_incref(p) : json_pack("{s:s}", "type", "object");
}

/* References in a tool's schema are to places in that schema: they are moved along with it. */
static bool move_refs(json_t *schema, const char *to) {
    json_t *todo = json_array(); /* what may hold references */
    bool ok = todo && json_array_append(todo, schema) == 0;
    while (ok && json_array_size(todo) > 0) {
        const size_t last = json_array_size(todo) - 1;
        json_t *at = json_incref(json_array_get(todo, last)), *v;
        const char *key;
        size_t i;
        (void)json_array_remove(todo, last);
        json_object_foreach(at, key, v) {
            const char *ref = strcmp(key, "$ref") == 0 ? json_string_value(v) : NULL;
            if (ref && ref[0] == '#')
                ok = ok && json_object_set_new(at, key, json_sprintf("%s%s", to, ref + 1)) == 0;
            else if (json_is_object(v) || json_is_array(v))
                ok = ok && json_array_append(todo, v) == 0;
        }
        json_array_foreach(at, i, v) {
            if (json_is_object(v) || json_is_array(v)) ok = ok && json_array_append(todo, v) == 0;
        }
        json_decref(at);
    }
    json_decref(todo);
    return ok;
}

/* An array of {"name": ..., "parameters": ...}, one at least. */
static json_t *calls_schema(const json_t *tools, bool one) {
    json_t *all = json_array();
    const json_t *tool;
    size_t i;
    json_array_foreach(tools, i, tool) {
        char to[64];
        snprintf(to, sizeof to, "#/items/anyOf/%zu/properties/parameters", i);
        json_t *borrowed = parameters_of(tool), *own = json_deep_copy(borrowed);
        json_decref(borrowed);
        json_t *call = NULL;
        if (own && move_refs(own, to))
            call = json_pack(
                "{s:s, s:{s:{s:O}, s:O}, s:[ss], s:b}", "type", "object", "properties", "name",
                "const", json_object_get(json_object_get(tool, "function"), "name"), "parameters",
                own, "required", "name", "parameters", "additionalProperties", 0);
        json_decref(own);
        if (!call || json_array_append_new(all, call) != 0) {
            json_decref(all);
            return NULL;
        }
    }
    json_t *schema =
        json_pack("{s:s, s:i, s:{s:o}}", "type", "array", "minItems", 1, "items", "anyOf", all);
    if (schema && one && json_object_set_new(schema, "maxItems", json_integer(1)) != 0) {
        json_decref(schema);
        return NULL;
    }
    return schema;
}

static oct_status demand_calls(oct_api_job *job, oct_api_error *e) {
    const oct_api_manner *how = &job->how;
    const json_t *tool;
    json_t *schema = NULL;
    size_t i;
    json_array_foreach(how->tools, i, tool) {
        OCT_TRY(check_tool(tool, e));
        const json_t *name = json_object_get(json_object_get(tool, "function"), "name");
        if (how->mode == OCT_SPEAK_NAMED && !schema &&
            oct_str_eq(oct_json_str(name), how->function))
            schema = parameters_of(tool);
    }
    if (how->mode == OCT_SPEAK_REQUIRED)
        schema = calls_schema(how->tools, !job->fields.parallel_calls);
    if (!schema) return oct_api_no_memory(e);
    const wish w = {.param = "tools", .kind = SCHEMA, .value = schema};
    const oct_status st = make(job->api, &w, &job->grammar, e);
    json_decref(schema);
    return st;
}

oct_status oct_api_read_structured(oct_api_job *job, const json_t *body, oct_api_error *e) {
    wish first = {0}, second = {0}, third = {0};
    OCT_TRY(read_response_format(body, &first, e));
    OCT_TRY(read_structured(body, &second, e));
    OCT_TRY(read_older(body, &third, e));
    const bool any = first.kind || second.kind || third.kind;
    if (job->how.mode != OCT_SPEAK_AUTO) {
        if (any)
            return oct_api_refuse(e, OCT_API_REFUSED, "tool_choice",
                                  "tool_choice: a demanded call and another constraint of the "
                                  "answer exclude each other");
        return demand_calls(job, e);
    }
    if (first.kind) first.style = second.kind ? second.style : third.style;
    return make(job->api, first.kind ? &first : second.kind ? &second : &third, &job->grammar, e);
}
