/*
 * api/request_fields.c - the fields that chat and completions share, as a table: name, type, where
 * the value goes, its range. What is no plain number or switch has a function below.
 *
 * A wrong JSON type is "malformed", a value out of range "refused"; null is "not given"; a field
 * that nobody here knows is ignored.
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "api/parts.h"

enum { CHAT = 1, COMPLETION = 2, BOTH = CHAT | COMPLETION };

typedef enum field_type { NUMBER, INTEGER, SWITCH } field_type;

typedef struct field {
    const char *name;
    field_type type;
    unsigned shapes;
    size_t at;
    double lo, hi;
    bool above_lo;    /* lo itself is out of range */
    const char *want; /* the range in words */
} field;

#define AT(member) offsetof(oct_api_fields, member)
static const field table[] = {
    {"temperature", NUMBER, BOTH, AT(temperature), 0, 100, false, "0 to 100"},
    {"top_p", NUMBER, BOTH, AT(top_p), 0, 1, true, "above 0, up to 1"},
    {"min_p", NUMBER, BOTH, AT(min_p), 0, 1, false, "0 to 1"},
    {"top_k", INTEGER, BOTH, AT(top_k), -1, 9e18, false, "-1 or more"},
    {"frequency_penalty", NUMBER, BOTH, AT(frequency_penalty), -2, 2, false, "-2 to 2"},
    {"presence_penalty", NUMBER, BOTH, AT(presence_penalty), -2, 2, false, "-2 to 2"},
    {"repetition_penalty", NUMBER, BOTH, AT(repetition_penalty), 0, 100, true,
     "above 0, up to 100"},
    {"min_tokens", INTEGER, BOTH, AT(min_tokens), 0, 9e18, false, "0 or more"},
    {"truncate_prompt_tokens", INTEGER, BOTH, AT(truncate), -1, 9e18, false, "-1, or 1 or more"},
    {"stream_interval", INTEGER, BOTH, AT(stream_interval), 1, 9e18, false, "1 or more"},
    {"stream", SWITCH, BOTH, AT(stream), 0, 0, false, NULL},
    {"ignore_eos", SWITCH, BOTH, AT(ignore_eos), 0, 0, false, NULL},
    {"include_stop_str_in_output", SWITCH, BOTH, AT(include_stop), 0, 0, false, NULL},
    {"skip_special_tokens", SWITCH, BOTH, AT(skip_special), 0, 0, false, NULL},
    {"echo", SWITCH, BOTH, AT(echo), 0, 0, false, NULL},
    {"add_special_tokens", SWITCH, BOTH, AT(add_special_tokens), 0, 0, false, NULL},
    {"return_token_ids", SWITCH, BOTH, AT(return_token_ids), 0, 0, false, NULL},
    {"return_tokens_as_token_ids", SWITCH, BOTH, AT(tokens_as_ids), 0, 0, false, NULL},
    {"return_prompt_text", SWITCH, BOTH, AT(return_prompt_text), 0, 0, false, NULL},
    {"add_generation_prompt", SWITCH, CHAT, AT(add_generation_prompt), 0, 0, false, NULL},
    {"continue_final_message", SWITCH, CHAT, AT(continue_final_message), 0, 0, false, NULL},
    {"include_reasoning", SWITCH, CHAT, AT(include_reasoning), 0, 0, false, NULL},
    {"parallel_tool_calls", SWITCH, CHAT, AT(parallel_calls), 0, 0, false, NULL},
};
#undef AT

/* Accepted from other engines' clients only as null, or where the value changes nothing. */
static const char *const unsupported[] = {"logprob_token_ids", "prompt_embeds",
                                          "repetition_detection"};

bool oct_api_integer(const json_t *v, int64_t *out) {
    const double limit = 9007199254740992.0; /* 2^53: below it a real is exact */
    if (json_is_integer(v)) return *out = json_integer_value(v), true;
    const double d = json_real_value(v);
    if (!json_is_real(v) || d != floor(d)) return false;
    if (d > limit) return *out = INT64_MAX, true;
    if (d < -limit) return *out = INT64_MIN, true;
    return *out = (int64_t)d, true;
}

/* The value, or NULL when absent or null. */
static const json_t *given(const json_t *body, const char *name) {
    const json_t *v = json_object_get(body, name);
    return json_is_null(v) ? NULL : v;
}

static oct_status bad_type(const char *name, const char *want, const json_t *v, oct_api_error *e) {
    char shown[OCT_JSON_SHOWN];
    return oct_api_refuse(e, OCT_API_MALFORMED, name, "%s: must be %s (got %s)", name, want,
                          oct_json_show(v, shown));
}

static oct_status bad_value(const char *name, const char *want, const json_t *v, oct_api_error *e) {
    char shown[OCT_JSON_SHOWN];
    return oct_api_refuse(e, OCT_API_REFUSED, name, "%s: out of range (got %s, want %s)", name,
                          oct_json_show(v, shown), want);
}

oct_status oct_api_read_bool(const json_t *body, const char *name, bool *out, oct_api_error *e) {
    const json_t *v = given(body, name);
    if (!v) return OCT_OK;
    if (!json_is_boolean(v)) return bad_type(name, "true or false", v, e);
    *out = json_is_true(v);
    return OCT_OK;
}

static oct_status read_integer(const json_t *body, const char *name, int64_t *out,
                               oct_api_error *e) {
    const json_t *v = given(body, name);
    if (v && !oct_api_integer(v, out)) return bad_type(name, "a whole number", v, e);
    return OCT_OK;
}

static bool within(const field *row, double v) {
    return v >= row->lo && v <= row->hi && !(row->above_lo && v == row->lo);
}

static oct_status read_row(const field *row, const json_t *body, oct_api_fields *f,
                           oct_api_error *e) {
    const json_t *v = given(body, row->name);
    char *at = (char *)f + row->at;
    if (!v) return OCT_OK;
    switch (row->type) {
    case SWITCH:
        return oct_api_read_bool(body, row->name, (bool *)at, e);
    case NUMBER:
        if (!json_is_number(v)) return bad_type(row->name, "a number", v, e);
        if (!within(row, json_number_value(v))) return bad_value(row->name, row->want, v, e);
        *(double *)(void *)at = json_number_value(v) + 0.0; /* -0.0 is 0 */
        return OCT_OK;
    case INTEGER:
        OCT_TRY(read_integer(body, row->name, (int64_t *)(void *)at, e));
        if (!within(row, (double)*(int64_t *)(void *)at))
            return bad_value(row->name, row->want, v, e);
        return OCT_OK;
    }
    return OCT_OK;
}

static oct_status read_n(const oct_api *api, const json_t *body, oct_api_fields *f,
                         oct_api_error *e) {
    char want[32];
    const json_t *v = given(body, "n");
    if (!v) return OCT_OK;
    OCT_TRY(read_integer(body, "n", &f->n, e));
    if (f->n >= 1 && f->n <= api->cfg.limits.n) return OCT_OK;
    snprintf(want, sizeof want, "1 to %u", api->cfg.limits.n);
    return bad_value("n", want, v, e);
}

/* ---- lengths ---- */

static oct_status read_max_tokens(const oct_api *api, oct_api_shape shape, const json_t *body,
                                  oct_api_fields *f, oct_api_error *e) {
    const char *name = "max_tokens";
    if (shape == OCT_API_CHAT && given(body, "max_completion_tokens"))
        name = "max_completion_tokens";
    const json_t *v = given(body, name);
    f->max_tokens = -1;
    if (!v) return OCT_OK;
    OCT_TRY(read_integer(body, name, &f->max_tokens, e));
    if (f->max_tokens == 0 && shape == OCT_API_COMPLETION && f->echo) {
        f->echo_only = true;
        f->max_tokens = 1;
    }
    if (f->max_tokens < 1) return bad_value(name, "at least 1", v, e);
    char shown[OCT_JSON_SHOWN];
    if (f->max_tokens > api->info.max_model_len)
        return oct_api_refuse(e, OCT_API_REFUSED, name,
                              "%s: maximum context length is %u tokens (got %s)", name,
                              api->info.max_model_len, oct_json_show(v, shown));
    return OCT_OK;
}

/* ---- logprobs ---- */

static oct_status read_top(const oct_api *api, const json_t *body, const char *name, int64_t *out,
                           oct_api_error *e) {
    const json_t *v = given(body, name);
    if (!v) return OCT_OK;
    OCT_TRY(read_integer(body, name, out, e));
    if (*out >= 0 && *out <= api->info.max_logprobs) return OCT_OK;
    char shown[OCT_JSON_SHOWN];
    return oct_api_refuse(e, OCT_API_REFUSED, name, "%s: out of range (got %s, want 0 to %u)", name,
                          oct_json_show(v, shown), api->info.max_logprobs);
}

static oct_status read_logprobs(const oct_api *api, oct_api_shape shape, const json_t *body,
                                oct_api_fields *f, oct_api_error *e) {
    f->logprobs = f->prompt_logprobs = -1;
    OCT_TRY(read_top(api, body, "prompt_logprobs", &f->prompt_logprobs, e));
    if (f->stream && f->prompt_logprobs > 0)
        return oct_api_refuse(e, OCT_API_REFUSED, "prompt_logprobs",
                              "prompt_logprobs: not available together with stream");
    if (shape == OCT_API_COMPLETION) return read_top(api, body, "logprobs", &f->logprobs, e);

    bool wanted = false;
    int64_t top = 0;
    OCT_TRY(oct_api_read_bool(body, "logprobs", &wanted, e));
    OCT_TRY(read_top(api, body, "top_logprobs", &top, e));
    if (top > 0 && !wanted)
        return oct_api_refuse(e, OCT_API_REFUSED, "top_logprobs",
                              "top_logprobs: needs logprobs to be true");
    if (wanted) f->logprobs = top;
    return OCT_OK;
}

/* ---- the others ---- */

static oct_status read_seed(const json_t *body, oct_api_fields *f, oct_api_error *e) {
    const json_t *v = given(body, "seed");
    if (!v) return OCT_OK;
    if (!json_is_integer(v)) return bad_type("seed", "a whole number of 64 bits", v, e);
    f->seed = json_integer_value(v);
    f->has_seed = f->seed != -1;
    return OCT_OK;
}

static oct_status read_stream_options(const oct_api *api, const json_t *body, oct_api_fields *f,
                                      oct_api_error *e) {
    const json_t *v = given(body, "stream_options");
    if (v && !json_is_object(v)) return bad_type("stream_options", "an object", v, e);
    if (v && !f->stream)
        return oct_api_refuse(e, OCT_API_REFUSED, "stream_options",
                              "stream_options: only allowed when stream is true");
    if (v) {
        OCT_TRY(oct_api_read_bool(v, "include_usage", &f->include_usage, e));
        OCT_TRY(oct_api_read_bool(v, "continuous_usage_stats", &f->continuous_usage, e));
    }
    f->continuous_usage = f->continuous_usage && f->include_usage;
    if (api->cfg.force_include_usage) f->include_usage = f->continuous_usage = true;
    return OCT_OK;
}

static oct_status read_truncation(const json_t *body, oct_api_fields *f, oct_api_error *e) {
    const json_t *v = given(body, "truncate_prompt_tokens");
    if (v && f->truncate == 0) return bad_value("truncate_prompt_tokens", "-1, or 1 or more", v, e);
    v = given(body, "truncation_side");
    if (v && !json_is_string(v)) return bad_type("truncation_side", "a string", v, e);
    if (v && !oct_str_is(oct_json_str(v), "left") && !oct_str_is(oct_json_str(v), "right"))
        return bad_value("truncation_side", "left or right", v, e);
    f->truncate_right = v && oct_str_is(oct_json_str(v), "right");
    return OCT_OK;
}

static oct_status read_salt(const json_t *body, oct_api_fields *f, oct_api_error *e) {
    const json_t *v = given(body, "cache_salt");
    const oct_str s = oct_json_str(v);
    if (!v) return OCT_OK;
    if (!json_is_string(v)) return bad_type("cache_salt", "a string", v, e);
    bool bad = s.len == 0 || s.len > OCT_API_MAX_LABEL;
    for (size_t i = 0; i < s.len && !bad; i++) bad = memchr("/@\\", s.ptr[i], 4) != NULL;
    if (bad) return bad_value("cache_salt", "1 to 128 bytes without / @ \\ and NUL", v, e);
    f->salt = s;
    return OCT_OK;
}

static oct_status read_priority(const oct_api *api, const json_t *body, oct_api_fields *f,
                                oct_api_error *e) {
    OCT_TRY(read_integer(body, "priority", &f->priority, e));
    if (f->priority == 0 || api->info.by_priority) return OCT_OK;
    return oct_api_refuse(
        e, OCT_API_REFUSED, "priority",
        "priority: requests are served first come first served (got %lld, want 0)",
        (long long)f->priority);
}

static oct_status read_budget(const oct_api *api, const json_t *body, oct_api_fields *f,
                              oct_api_error *e) {
    static const char name[] = "thinking_token_budget";
    const json_t *v = given(body, name);
    f->thinking_budget = -1;
    if (!v) return OCT_OK;
    if (!json_is_integer(v)) return bad_type(name, "a whole number", v, e);
    f->thinking_budget = json_integer_value(v);
    if (f->thinking_budget < -1) return bad_value(name, "-1, or 0 or more", v, e);
    if (f->thinking_budget < 0 || api->cfg.reasoning_parser) return OCT_OK;
    return oct_api_refuse(e, OCT_API_REFUSED, name, "%s: needs --reasoning-parser", name);
}

static oct_status check_unsupported(const json_t *body, oct_api_error *e) {
    for (size_t i = 0; i < OCT_COUNT(unsupported); i++)
        if (given(body, unsupported[i]))
            return oct_api_refuse(e, OCT_API_REFUSED, unsupported[i],
                                  "%s: not supported by this build", unsupported[i]);
    bool beams = false;
    OCT_TRY(oct_api_read_bool(body, "use_beam_search", &beams, e));
    if (beams)
        return oct_api_refuse(e, OCT_API_REFUSED, "use_beam_search",
                              "use_beam_search: not supported by this build");
    const json_t *v = given(body, "request_id");
    if (v && !json_is_string(v)) return bad_type("request_id", "a string", v, e);
    return OCT_OK;
}

/* Values that float32 cannot hold or that would make a division overflow are moved to the nearest
 * that can be used. */
static void settle(oct_api *api, oct_api_fields *f) {
    const double greedy_below = 1e-5, least_temperature = 0.01;
    if (f->temperature < greedy_below) {
        f->temperature = 0;
    } else if (f->temperature < least_temperature) {
        oct_api_say_raised(api, f->temperature);
        f->temperature = least_temperature;
    }
    if (f->top_p < (double)FLT_MIN) f->top_p = (double)FLT_MIN;
    if (f->repetition_penalty < 1e-3) f->repetition_penalty = 1e-3;
    if (f->top_k > INT32_MAX) f->top_k = INT32_MAX;
}

static void set_defaults(const oct_api *api, oct_api_shape shape, oct_api_fields *f) {
    const oct_api_defaults *d = &api->cfg.defaults;
    *f = (oct_api_fields){.temperature = d->temperature,
                          .top_p = d->top_p,
                          .top_k = d->top_k,
                          .min_p = d->min_p,
                          .repetition_penalty = d->repetition_penalty,
                          .n = 1,
                          .stream_interval = api->cfg.stream_interval,
                          .skip_special = true,
                          .tokens_as_ids = api->cfg.tokens_as_token_ids,
                          .add_special_tokens = shape == OCT_API_COMPLETION,
                          .add_generation_prompt = true,
                          .include_reasoning = true,
                          .parallel_calls = true};
}

oct_status oct_api_read_fields(oct_api *api, oct_api_shape shape, const json_t *body,
                               oct_arena *arena, oct_api_fields *f, oct_api_error *e) {
    const unsigned bit = shape == OCT_API_CHAT ? CHAT : COMPLETION;
    set_defaults(api, shape, f);
    for (size_t i = 0; i < OCT_COUNT(table); i++)
        if (table[i].shapes & bit) OCT_TRY(read_row(&table[i], body, f, e));
    OCT_TRY(read_n(api, body, f, e));
    OCT_TRY(check_unsupported(body, e));
    OCT_TRY(read_priority(api, body, f, e));
    OCT_TRY(read_budget(api, body, f, e));
    OCT_TRY(read_seed(body, f, e));
    OCT_TRY(read_max_tokens(api, shape, body, f, e));
    OCT_TRY(read_stream_options(api, body, f, e));
    OCT_TRY(read_logprobs(api, shape, body, f, e));
    OCT_TRY(read_truncation(body, f, e));
    OCT_TRY(read_salt(body, f, e));
    OCT_TRY(oct_api_read_lists(api, body, arena, f, e));
    settle(api, f);
    if (f->n > 1 && f->temperature == 0)
        return oct_api_refuse(e, OCT_API_REFUSED, "n",
                              "n: greedy sampling gives one answer (got %lld with temperature 0)",
                              (long long)f->n);
    return OCT_OK;
}

/* ---- the body ---- */

static const char template_kwargs[] = "chat_template_kwargs";

oct_status oct_api_parse_body(const oct_api *api, oct_str body, json_t **out, oct_api_error *e) {
    oct_json_limits limits = oct_json_request_limits;
    oct_err err = {0};
    *out = NULL;
    limits.max_bytes = api->cfg.limits.body_bytes;
    limits.max_depth = api->cfg.limits.json_depth;
    const oct_status st = oct_json_parse(body, "body", &limits, out, &err);
    if (st == OCT_OK && OCT_FAULT(JOB_BODY, 0)) {
        json_decref(*out);
        *out = NULL;
        return oct_api_no_memory(e);
    }
    if (st == OCT_E_NOMEM) return oct_api_no_memory(e);
    /* What only the template would read is refused as a value of this field. */
    if (st != OCT_OK && oct_str_is(oct_json_deep_key(body, limits.max_depth), template_kwargs))
        return oct_api_refuse(e, OCT_API_REFUSED, template_kwargs,
                              "%s: nested too deeply (limit %u)", template_kwargs,
                              limits.max_depth);
    if (st != OCT_OK) return oct_api_refuse(e, OCT_API_MALFORMED, NULL, "%s", err.text);
    if (json_is_object(*out)) return OCT_OK;
    json_decref(*out);
    *out = NULL;
    return oct_api_refuse(e, OCT_API_MALFORMED, NULL, "body: must be a JSON object (at byte 0)");
}

oct_status oct_api_check_model(const oct_api *api, const json_t *body, oct_api_error *e) {
    const json_t *v = given(body, "model");
    if (!v) return OCT_OK;
    if (!json_is_string(v)) return bad_type("model", "a string", v, e);
    for (uint32_t i = 0; i < api->cfg.n_names; i++)
        if (oct_str_is(oct_json_str(v), api->cfg.names[i])) return OCT_OK;
    char shown[OCT_JSON_SHOWN];
    oct_json_show(v, shown);
    const int quoted = shown[0] == '"'; /* the words that clients know have marks of their own */
    const size_t len = strlen(shown);
    return oct_api_refuse(e, OCT_API_NOT_FOUND, "model", "The model `%.*s` does not exist.",
                          (int)(len - (size_t)quoted - (quoted && shown[len - 1] == '"')),
                          shown + quoted);
}
