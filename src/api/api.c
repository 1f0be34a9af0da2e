/* api/api.c - an api from its config, and who may use it: keys, origins, request ids. */
#include <stdio.h>
#include <sys/random.h>

#include "api/parts.h"
#include "base/clock.h"
#include "base/log.h"

const oct_api_limits oct_api_limits_default = {
    .body_bytes = 32u << 20,
    .json_depth = 64,
    .prompts = 1024,
    .n = 128,
    .choices = 1024,
    .stop_strings = 16,
    .stop_bytes = 1024,
    .logit_bias = 1024,
    .bad_words = 256,
    .tools = 128,
};

/* ---- life ---- */

static void set_limits(oct_api_limits *l) {
    const oct_api_limits *d = &oct_api_limits_default;
    if (l->body_bytes == 0) l->body_bytes = d->body_bytes;
    if (l->json_depth == 0) l->json_depth = d->json_depth;
    if (l->json_depth > OCT_JSON_DEPTH_MAX) l->json_depth = OCT_JSON_DEPTH_MAX;
    if (l->prompts == 0) l->prompts = d->prompts;
    if (l->n == 0) l->n = d->n;
    if (l->choices == 0) l->choices = d->choices;
    if (l->stop_strings == 0) l->stop_strings = d->stop_strings;
    if (l->stop_bytes == 0) l->stop_bytes = d->stop_bytes;
    if (l->logit_bias == 0) l->logit_bias = d->logit_bias;
    if (l->bad_words == 0) l->bad_words = d->bad_words;
    if (l->tools == 0) l->tools = d->tools;
}

static const char *copy(oct_api *api, const char *s, bool *ok) {
    if (!s) return NULL;
    const char *c = oct_arena_strndup(&api->arena, s, strlen(s));
    if (!c) *ok = false;
    return c;
}

static const char *const *copy_list(oct_api *api, const char *const *list, uint32_t n, bool *ok) {
    const char **out = oct_arena_alloc(&api->arena, n, sizeof *out);
    if (!out) return *ok = false, NULL;
    for (uint32_t i = 0; i < n; i++) out[i] = copy(api, list[i], ok);
    return out;
}

static bool copy_labels(oct_api *api, const oct_api_config *c) {
    bool ok = true;
    oct_api_label *out = oct_arena_alloc(&api->arena, c->n_cache_labels, sizeof *out);
    if (!out) return false;
    for (uint32_t i = 0; i < c->n_cache_labels; i++)
        out[i] = (oct_api_label){copy(api, c->cache_labels[i].name, &ok),
                                 copy(api, c->cache_labels[i].value, &ok)};
    api->cfg.cache_labels = out;
    return ok;
}

static bool copy_config(oct_api *api, const oct_api_config *c) {
    bool ok = true;
    oct_api_config *own = &api->cfg;
    *own = *c;
    set_limits(&own->limits);
    own->template_error =
        copy(api, c->template_error ? c->template_error : "the model has no chat template", &ok);
    own->response_role = copy(api, c->response_role ? c->response_role : "assistant", &ok);
    own->root = copy(api, c->root ? c->root : c->names[0], &ok);
    own->version = copy(api, c->version ? c->version : "unknown", &ok);
    own->fingerprint = copy(api, c->fingerprint, &ok);
    own->tokenizer_info = copy(api, c->tokenizer_info, &ok);
    ok = copy_labels(api, c) && ok;
    own->names = copy_list(api, c->names, c->n_names, &ok);
    own->keys = copy_list(api, c->keys, c->n_keys, &ok);
    own->origins = copy_list(api, c->origins, c->n_origins, &ok);
    if (c->template_kwargs) {
        api->template_kwargs = json_deep_copy(c->template_kwargs);
        ok = ok &&
             json_equal(api->template_kwargs, c->template_kwargs); /* whole: see codec/json.h */
    }
    own->template_kwargs = api->template_kwargs;
    own->root_path = copy(api, c->root_path, &ok);
    own->allowed_methods = copy(api, c->allowed_methods, &ok);
    own->allowed_headers = copy(api, c->allowed_headers, &ok);
    for (size_t i = 0; i < OCT_COUNT(own->server_info); i++) {
        own->server_info[i] = c->server_info[i] ? json_deep_copy(c->server_info[i]) : json_object();
        ok = ok && own->server_info[i];
    }
    if (own->stream_interval == 0) own->stream_interval = 1;
    if (c->template) oct_template_retain(c->template);
    if (c->tool_template) oct_template_retain(c->tool_template);
    return ok;
}

/* Special tokens that a template may name; an absent one is not passed at all. */
static void set_vars(oct_api *api) {
    const oct_tokenizer *t = api->cfg.tokenizer;
    if (!t) return;
    const oct_template_var all[] = {{"bos_token", oct_tokenizer_bos_text(t).ptr},
                                    {"eos_token", oct_tokenizer_eos_text(t).ptr},
                                    {"pad_token", oct_tokenizer_pad_text(t).ptr},
                                    {"unk_token", oct_tokenizer_unk_text(t).ptr}};
    for (size_t i = 0; i < OCT_COUNT(all); i++)
        if (all[i].value && all[i].value[0]) api->vars[api->n_vars++] = all[i];
}

static bool is_blank(const char *s) { return s[strspn(s, " \t\r\n")] == '\0'; }

oct_status oct_api_create(const oct_allocator *mem, const oct_api_config *config, oct_api **out,
                          oct_err *err) {
    *out = NULL;
    if (config->n_names == 0) return OCT_FAIL(err, OCT_E_INVALID, "api: the model has no name");
    for (uint32_t i = 0; i < config->n_keys; i++)
        if (is_blank(config->keys[i]))
            return OCT_FAIL(err, OCT_E_INVALID, "api: key %u is empty", i);
    oct_api *api = oct_calloc(mem, 1, sizeof *api);
    if (!api) return OCT_FAIL(err, OCT_E_NOMEM, "api: no memory");
    api->mem = mem;
    api->created = oct_unix_seconds();
    if (config->engine) api->info = *oct_engine_get_info(config->engine);
    oct_arena_init(&api->arena, mem, 0);
    pthread_mutex_init(&api->jobs_lock, NULL);
    pthread_mutex_init(&api->grammars_lock, NULL);
    if (!copy_config(api, config) ||
        oct_api_metrics_create(mem, api->info.max_model_len, &api->metrics) != OCT_OK ||
        oct_api_speech_prepare(api, err) != OCT_OK) {
        oct_api_destroy(api);
        return OCT_FAIL(err, OCT_E_NOMEM, "api: no memory");
    }
    set_vars(api);
    *out = api;
    return OCT_OK;
}

void oct_api_destroy(oct_api *api) {
    if (!api) return;
    oct_template_release(api->cfg.template);
    oct_template_release(api->cfg.tool_template);
    json_decref(api->template_kwargs);
    oct_grammars_destroy(api->grammars);
    oct_ids_fini(&api->open_tag);
    oct_ids_fini(&api->close_tag);
    for (size_t i = 0; i < OCT_COUNT(api->cfg.server_info); i++)
        json_decref((json_t *)(uintptr_t)api->cfg.server_info[i]);
    oct_api_metrics_destroy(api->metrics);
    oct_arena_fini(&api->arena);
    pthread_mutex_destroy(&api->jobs_lock);
    pthread_mutex_destroy(&api->grammars_lock);
    oct_free(api->mem, api, 1, sizeof *api);
}

void oct_api_begin_drain(oct_api *api) { atomic_store(&api->draining, true); }
uint32_t oct_api_n_jobs(const oct_api *api) { return atomic_load(&api->n_jobs); }

void oct_api_say_raised(oct_api *api, double given) {
    const unsigned long long now = oct_now_ns(), second = 1000000000;
    unsigned long long last = atomic_load(&api->last_warning_ns);
    if (last != 0 && now - last < second) {
        atomic_fetch_add(&api->n_unsaid, 1);
        return;
    }
    if (!atomic_compare_exchange_strong(&api->last_warning_ns, &last, now)) return;
    const unsigned unsaid = atomic_exchange(&api->n_unsaid, 0);
    if (unsaid > 0)
        oct_warn("temperature %g raised to 0.01 (and %u more)", given, unsaid);
    else
        oct_warn("temperature %g raised to 0.01", given);
}

/* ---- keys ---- */

/* The paths that need no key; every other one does, also those that do not exist. */
static bool is_open(oct_str path) {
    static const char *const paths[] = {"/health",   "/v1/health", "/ping",
                                        "/version",  "/metrics",   "/",
                                        "/page.css", "/page.js",   "/page_markdown.js"};
    for (size_t i = 0; i < OCT_COUNT(paths); i++)
        if (oct_str_is(path, paths[i])) return true;
    return false;
}

/* The time depends on what was sent and on how many keys there are, not on their content. */
static bool same_key(oct_str sent, const char *key) {
    const size_t len = strlen(key);
    unsigned diff = sent.len != len;
    for (size_t i = 0, k = 0; i < sent.len; i++) {
        diff |= (unsigned char)sent.ptr[i] ^ (unsigned char)key[k];
        k = k + 1 == len ? 0 : k + 1;
    }
    return diff == 0;
}

static bool has_bare_key(const oct_api *api, oct_str sent) {
    bool match = false;
    for (uint32_t i = 0; i < api->cfg.n_keys; i++) match |= same_key(sent, api->cfg.keys[i]);
    return match;
}

static bool has_key(const oct_api *api, const oct_http_exchange *x) {
    oct_str sent = oct_http_request_header(x, "Authorization");
    const oct_str bare = oct_http_request_header(x, "X-Api-Key"); /* clients of Anthropic's API */
    bool match = false;
    if (sent.len == 0 && bare.len > 0) return has_bare_key(api, bare);
    if (sent.len < 7 || strncasecmp(sent.ptr, "bearer ", 7) != 0) sent.len = 0;
    if (sent.len > 0) sent.ptr += 7, sent.len -= 7;
    while (sent.len > 0 && sent.ptr[0] == ' ') sent.ptr++, sent.len--;
    for (uint32_t i = 0; i < api->cfg.n_keys; i++) match |= same_key(sent, api->cfg.keys[i]);
    return match && sent.len > 0;
}

bool oct_api_admits(const oct_api *api, const oct_http_exchange *x) {
    return api->cfg.n_keys == 0 || is_open(oct_api_path(api, x)) || has_key(api, x);
}

/* ---- fields of every answer ---- */

static void set_origin(const oct_api *api, oct_http_exchange *x) {
    const oct_str origin = oct_http_request_header(x, "Origin");
    if (!origin.ptr) return;
    for (uint32_t i = 0; i < api->cfg.n_origins; i++) {
        const bool star = strcmp(api->cfg.origins[i], "*") == 0;
        /* A browser takes no "*" beside credentials. */
        const bool any = star && !api->cfg.allow_credentials;
        if (!star && !oct_str_is(origin, api->cfg.origins[i])) continue;
        oct_http_set_header(x, "Access-Control-Allow-Origin", any ? OCT_STR("*") : origin);
        if (!any) oct_http_set_header(x, "Vary", OCT_STR("Origin"));
        if (api->cfg.allow_credentials)
            oct_http_set_header(x, "Access-Control-Allow-Credentials", OCT_STR("true"));
        return;
    }
}

static void set_request_id(oct_http_exchange *x) {
    oct_str id = oct_http_request_header(x, "X-Request-Id");
    unsigned char bits[16] = {0};
    char hex[33];
    if (id.len > OCT_API_MAX_LABEL) id.len = OCT_API_MAX_LABEL;
    if (id.len == 0) {
        if (getrandom(bits, sizeof bits, 0) != sizeof bits) return;
        for (size_t i = 0; i < sizeof bits; i++) snprintf(hex + 2 * i, 3, "%02x", bits[i]);
        id = oct_str_of(hex);
    }
    oct_http_set_header(x, "X-Request-Id", id);
}

void oct_api_decorate(void *ctx, oct_http_exchange *x) {
    const oct_api *api = ((oct_api_slot *)ctx)->api;
    if (!api) return;
    set_origin(api, x);
    if (api->cfg.request_id_headers) set_request_id(x);
}
