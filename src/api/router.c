/*
 * api/router.c - which path leads where. guard (before the body) asks for the key, answers what
 * needs no body and refuses what has no route; handle runs the rest.
 */
#include <stdio.h>

#include "api/parts.h"
#include "base/alloc.h"

typedef struct route {
    const char *path;
    oct_api_route_id id;
    unsigned methods; /* bits 1 << oct_http_method; BARE: POST whose body may have any type */
    void (*run)(oct_api *api, oct_http_exchange *x);
} route;

enum {
    GET = 1 << OCT_HTTP_GET | 1 << OCT_HTTP_HEAD,
    POST = 1 << OCT_HTTP_POST,
    DEV = 1 << 30,  /* only with cfg.dev_mode */
    BARE = 1 << 29, /* POST whose body, if any, may be of any type */
    METHODS = BARE - 1,
};

static const route routes[] = {
    {"/v1/chat/completions", OCT_API_ROUTE_CHAT, POST, oct_api_route_chat},
    {"/v1/completions", OCT_API_ROUTE_COMPLETIONS, POST, oct_api_route_completions},
    {"/v1/models", OCT_API_ROUTE_MODELS, GET, oct_api_route_models},
    {"/tokenize", OCT_API_ROUTE_TOKENIZE, POST, oct_api_route_tokenize},
    {"/detokenize", OCT_API_ROUTE_DETOKENIZE, POST, oct_api_route_detokenize},
    {"/health", OCT_API_ROUTE_HEALTH, GET, oct_api_route_health},
    {"/ping", OCT_API_ROUTE_PING, GET | POST, oct_api_route_health},
    {"/version", OCT_API_ROUTE_VERSION, GET, oct_api_route_version},
    {"/load", OCT_API_ROUTE_LOAD, GET, oct_api_route_load},
    {"/metrics", OCT_API_ROUTE_METRICS, GET, oct_api_route_metrics},
    {"/v1/health", OCT_API_ROUTE_V1_HEALTH, GET, oct_api_route_health},
    {"/v1/chat/completions/render", OCT_API_ROUTE_CHAT_RENDER, POST, oct_api_route_chat_render},
    {"/v1/completions/render", OCT_API_ROUTE_COMPLETIONS_RENDER, POST,
     oct_api_route_completions_render},
    {"/apply-template", OCT_API_ROUTE_APPLY_TEMPLATE, POST, oct_api_route_apply_template},
    {"/v1/chat/completions/batch", OCT_API_ROUTE_CHAT_BATCH, POST, oct_api_route_chat_batch},
    {"/invocations", OCT_API_ROUTE_INVOCATIONS, POST, oct_api_route_invocations},
    {"/tokenizer_info", OCT_API_ROUTE_TOKENIZER_INFO, GET, oct_api_route_tokenizer_info},
    {"/inference/v1/generate", OCT_API_ROUTE_GENERATE, POST, oct_api_route_generate},
    {"/v1/responses", OCT_API_ROUTE_RESPONSES, POST, oct_api_route_responses},
    {"/v1/messages", OCT_API_ROUTE_MESSAGES, POST, oct_api_route_messages},
    {"/v1/messages/count_tokens", OCT_API_ROUTE_COUNT_TOKENS, POST, oct_api_route_count_tokens},
    {"/reset_prefix_cache", OCT_API_ROUTE_RESET_PREFIX, POST | BARE | DEV,
     oct_api_route_reset_prefix},
    {"/pause", OCT_API_ROUTE_PAUSE, POST | BARE | DEV, oct_api_route_pause},
    {"/resume", OCT_API_ROUTE_RESUME, POST | BARE | DEV, oct_api_route_resume},
    {"/is_paused", OCT_API_ROUTE_IS_PAUSED, GET | DEV, oct_api_route_is_paused},
    {"/abort_requests", OCT_API_ROUTE_ABORT, POST | BARE | DEV, oct_api_route_abort},
    {"/server_info", OCT_API_ROUTE_SERVER_INFO, GET | DEV, oct_api_route_server_info},
    {"/", OCT_API_ROUTE_PAGE, GET, oct_api_route_page},
    {"/page.css", OCT_API_ROUTE_PAGE, GET, oct_api_route_page},
    {"/page.js", OCT_API_ROUTE_PAGE, GET, oct_api_route_page},
    {"/page_markdown.js", OCT_API_ROUTE_PAGE, GET, oct_api_route_page},
};

oct_str oct_api_path(const oct_api *api, const oct_http_exchange *x) {
    oct_str path = oct_http_request_path(x);
    size_t len = api->cfg.root_path ? strlen(api->cfg.root_path) : 0;
    while (len > 0 && api->cfg.root_path[len - 1] == '/') len--;
    if (len == 0 || path.len < len || memcmp(path.ptr, api->cfg.root_path, len) != 0) return path;
    if (path.len == len) return OCT_STR("/");
    return path.ptr[len] == '/' ? (oct_str){path.ptr + len, path.len - len} : path;
}

oct_str oct_api_query(const oct_http_exchange *x, const char *name) {
    oct_str q = oct_http_request_query(x);
    const size_t len = strlen(name);
    while (q.len > 0) {
        const char *amp = memchr(q.ptr, '&', q.len);
        const size_t n = amp ? (size_t)(amp - q.ptr) : q.len;
        if (n > len && q.ptr[len] == '=' && memcmp(q.ptr, name, len) == 0)
            return (oct_str){q.ptr + len + 1, n - len - 1};
        q.ptr += n + (amp != NULL);
        q.len -= n + (amp != NULL);
    }
    return (oct_str){NULL, 0};
}

static const route *find(const oct_api *api, const oct_http_exchange *x) {
    const oct_str path = oct_api_path(api, x);
    for (size_t i = 0; i < OCT_COUNT(routes); i++)
        if (oct_str_is(path, routes[i].path))
            return (routes[i].methods & DEV) && !api->cfg.dev_mode ? NULL : &routes[i];
    return NULL;
}

const char *oct_api_route_label(oct_api_route_id id, unsigned *methods) {
    static const oct_api_route_id uncounted[] = {OCT_API_ROUTE_V1_HEALTH,  OCT_API_ROUTE_METRICS,
                                                 OCT_API_ROUTE_HEALTH,     OCT_API_ROUTE_LOAD,
                                                 OCT_API_ROUTE_PING,       OCT_API_ROUTE_VERSION,
                                                 OCT_API_ROUTE_SERVER_INFO};
    for (size_t i = 0; i < OCT_COUNT(uncounted); i++)
        if (id == uncounted[i]) return NULL;
    for (size_t i = 0; i < OCT_COUNT(routes); i++) {
        if (routes[i].id != id) continue;
        *methods = routes[i].methods & METHODS;
        return routes[i].path;
    }
    *methods = GET | POST;
    return "none";
}

oct_api_route_id oct_api_route_of(const oct_api *api, const oct_http_exchange *x) {
    const route *r = find(api, x);
    return r ? r->id : OCT_API_ROUTE_OTHER;
}

/* ---- answers ---- */

void oct_api_answer(oct_api *api, oct_http_exchange *x, int status, const oct_buf *json) {
    oct_api_error e;
    if (!json->failed) {
        (void)oct_http_respond(x, status, "application/json", oct_buf_view(json));
        return;
    }
    oct_api_no_memory(&e);
    oct_api_answer_error(api, x, &e);
}

/* Whether refusals have the shape of Anthropic's messages here. */
static bool is_messages(const oct_api *api, const oct_http_exchange *x) {
    const oct_api_route_id id = oct_api_route_of(api, x);
    return id == OCT_API_ROUTE_MESSAGES || id == OCT_API_ROUTE_COUNT_TOKENS;
}

void oct_api_answer_error(oct_api *api, oct_http_exchange *x, const oct_api_error *e) {
    oct_buf body;
    oct_buf_init(&body, api->mem, 0);
    if (is_messages(api, x))
        oct_api_messages_error_body(oct_api_error_status(e), e->message, &body);
    else
        oct_api_error_body(e, &body);
    const int status = body.failed ? 503 : oct_api_error_status(e);
    if (status == 503) oct_http_set_header(x, "Retry-After", OCT_STR("1"));
    (void)oct_http_respond(x, status, "application/json",
                           body.failed ? OCT_STR(OCT_API_NO_MEMORY) : oct_buf_view(&body));
    oct_buf_fini(&body);
}

static void refuse_method(oct_api *api, oct_http_exchange *x, const route *r) {
    char allow[64] = "OPTIONS";
    oct_api_error e;
    for (int m = OCT_HTTP_GET; m <= OCT_HTTP_OPTIONS; m++) {
        const size_t len = strlen(allow);
        if (r->methods & METHODS & 1u << m)
            snprintf(allow + len, sizeof allow - len, ", %s",
                     oct_http_method_name((oct_http_method)m));
    }
    oct_http_set_header(x, "Allow", oct_str_of(allow));
    oct_api_refuse(&e, OCT_API_METHOD, NULL, "method not allowed (got %s, want %s)",
                   oct_http_method_name(oct_http_request_method(x)), allow);
    oct_api_answer_error(api, x, &e);
}

static void answer_options(const oct_api *api, oct_http_exchange *x) {
    const oct_str wanted = oct_http_request_header(x, "Access-Control-Request-Headers");
    const char *methods = api->cfg.allowed_methods, *fields = api->cfg.allowed_headers;
    oct_http_set_header(x, "Access-Control-Allow-Methods",
                        methods ? oct_str_of(methods)
                                : OCT_STR("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"));
    oct_http_set_header(x, "Access-Control-Allow-Headers",
                        fields       ? oct_str_of(fields)
                        : wanted.ptr ? wanted
                                     : OCT_STR("*"));
    oct_http_set_header(x, "Access-Control-Max-Age", OCT_STR("600"));
    (void)oct_http_respond(x, 200, "text/plain; charset=utf-8", OCT_STR("OK"));
}

/* application/json, whatever follows a semicolon. */
static bool is_json(const oct_http_exchange *x) {
    oct_str type = oct_http_request_header(x, "Content-Type");
    const char *semicolon = type.len ? memchr(type.ptr, ';', type.len) : NULL;
    if (semicolon) type.len = (size_t)(semicolon - type.ptr);
    while (type.len > 0 && (type.ptr[type.len - 1] == ' ' || type.ptr[type.len - 1] == '\t'))
        type.len--;
    return type.len == 16 && strncasecmp(type.ptr, "application/json", 16) == 0;
}

static void refuse_key(const oct_api *api, oct_http_exchange *x) {
    oct_buf body;
    oct_buf_init(&body, api->mem, 0);
    if (is_messages(api, x))
        oct_api_messages_error_body(401, "invalid x-api-key", &body);
    else
        oct_buf_cstr(&body, "{\"error\":\"Unauthorized\"}");
    (void)oct_http_respond(x, 401, "application/json", oct_buf_view(&body));
    oct_buf_fini(&body);
}

/* ---- callbacks ---- */

void oct_api_guard(void *ctx, oct_http_exchange *x) {
    oct_api *api = ((oct_api_slot *)ctx)->api;
    const oct_http_method method = oct_http_request_method(x);
    oct_api_error e = {0};
    if (!api) {
        (void)oct_http_respond_error(x, 503, "Loading model", false);
        return;
    }
    if (method == OCT_HTTP_OPTIONS) {
        answer_options(api, x);
        return;
    }
    if (!oct_api_admits(api, x)) {
        refuse_key(api, x);
        return;
    }
    const route *r = find(api, x);
    oct_status st = OCT_OK;
    if (!r)
        st = oct_api_refuse(&e, OCT_API_NOT_FOUND, NULL, "no such path");
    else if (!(r->methods & METHODS & 1u << method))
        refuse_method(api, x, r);
    else if ((r->methods & (METHODS | BARE)) == POST && !is_json(x))
        st = oct_api_refuse(&e, OCT_API_MALFORMED, NULL,
                            "Content-Type: only application/json is allowed");
    if (st != OCT_OK) oct_api_answer_error(api, x, &e);
}

void oct_api_over(void *ctx, const oct_http_exchange *x, const oct_http_outcome *outcome) {
    oct_api *api = ((oct_api_slot *)ctx)->api;
    unsigned methods;
    if (!api || outcome->status == 0) return;
    const oct_api_route_id id = oct_api_route_of(api, x);
    if (!oct_api_route_label(id, &methods)) return;
    oct_api_metrics_http(api->metrics, id, oct_http_request_method(x), oct_http_request_body(x).len,
                         outcome);
}

void oct_api_handle(void *ctx, oct_http_exchange *x) {
    oct_api *api = ((oct_api_slot *)ctx)->api;
    const route *r = find(api, x);
    const size_t large = 1u << 20;
    if (!r) return;
    r->run(api, x);
    if (oct_http_request_body(x).len > large) oct_memory_trim();
}
