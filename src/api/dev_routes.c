/*
 * api/dev_routes.c - routes for whoever develops or trains: they exist only with
 * VLLM_SERVER_DEV_MODE=1, and are guarded by the keys like all that are not open.
 */
#include "api/parts.h"

static void answer_text(oct_api *api, oct_http_exchange *x, const char *json) {
    oct_buf b;
    oct_buf_init(&b, api->mem, 0);
    oct_buf_cstr(&b, json);
    oct_api_answer(api, x, 200, &b);
    oct_buf_fini(&b);
}

static oct_status bad_query(oct_api_error *e, const char *name, const char *want) {
    return oct_api_refuse(e, OCT_API_REFUSED, name, "%s: unknown value (want %s)", name, want);
}

/* "true", "1", ... as the query of a URL spells them; absent: *out stays. */
static oct_status query_bool(const oct_http_exchange *x, const char *name, bool *out,
                             oct_api_error *e) {
    const oct_str v = oct_api_query(x, name);
    if (!v.ptr) return OCT_OK;
    const bool yes = oct_str_is(v, "true") || oct_str_is(v, "True") || oct_str_is(v, "1");
    if (!yes && !oct_str_is(v, "false") && !oct_str_is(v, "False") && !oct_str_is(v, "0"))
        return bad_query(e, name, "true or false");
    *out = yes;
    return OCT_OK;
}

/* ---- pausing ---- */

typedef struct pauser {
    oct_api *api;
    oct_http_exchange *x;
} pauser;

/* On the engine thread: the answer is small and made at once. */
static void on_paused(void *user, bool paused) {
    const pauser p = *(pauser *)user;
    oct_api_error e;
    oct_free(p.api->mem, user, 1, sizeof p);
    if (paused) {
        answer_text(p.api, p.x, "{\"status\":\"paused\"}");
    } else {
        oct_api_refuse(&e, OCT_API_CONFLICT, NULL, "resumed, or stopping, before the pause held");
        oct_api_answer_error(p.api, p.x, &e);
    }
    oct_http_release(p.x);
}

static oct_status read_mode(const oct_http_exchange *x, oct_pause_mode *mode, oct_api_error *e) {
    const oct_str v = oct_api_query(x, "mode");
    *mode = OCT_PAUSE_ABORT;
    if (!v.ptr || oct_str_is(v, "abort")) return OCT_OK;
    if (oct_str_is(v, "wait"))
        *mode = OCT_PAUSE_WAIT;
    else if (oct_str_is(v, "keep"))
        *mode = OCT_PAUSE_KEEP;
    else
        return bad_query(e, "mode", "abort, wait or keep");
    return OCT_OK;
}

void oct_api_route_pause(oct_api *api, oct_http_exchange *x) {
    oct_pause_mode mode;
    bool clear = true;
    oct_api_error e;
    oct_status st = read_mode(x, &mode, &e);
    if (st == OCT_OK) st = query_bool(x, "clear_cache", &clear, &e);
    pauser *p = st == OCT_OK ? oct_alloc(api->mem, 1, sizeof *p) : NULL;
    if (st == OCT_OK && !p) st = oct_api_no_memory(&e);
    if (st == OCT_OK) {
        *p = (pauser){api, x};
        oct_http_acquire(x);
        if (clear) oct_engine_reset_prefix_cache(api->cfg.engine);
        st = oct_engine_pause(api->cfg.engine, mode, on_paused, p);
        if (st == OCT_OK) return;
        oct_http_release(x);
        oct_free(api->mem, p, 1, sizeof *p);
        oct_api_refuse(&e, st == OCT_E_FULL ? OCT_API_CONFLICT : OCT_API_BUSY, NULL, "%s",
                       st == OCT_E_FULL ? "too many wait for a pause" : "the server is stopping");
    }
    oct_api_answer_error(api, x, &e);
}

void oct_api_route_resume(oct_api *api, oct_http_exchange *x) {
    oct_engine_resume(api->cfg.engine);
    answer_text(api, x, "{\"status\":\"resumed\"}");
}

void oct_api_route_is_paused(oct_api *api, oct_http_exchange *x) {
    answer_text(api, x,
                oct_engine_is_paused(api->cfg.engine) ? "{\"is_paused\":true}"
                                                      : "{\"is_paused\":false}");
}

/* ---- aborting ---- */

static bool is_wanted(const json_t *ids, const oct_api_job *job) {
    size_t i;
    json_t *id;
    if (json_array_size(ids) == 0) return true;
    json_array_foreach(ids, i, id) if (oct_api_job_is(job, oct_json_str(id))) return true;
    return false;
}

static oct_status read_ids(const json_t *body, const json_t **ids, oct_api_error *e) {
    size_t i;
    json_t *id;
    *ids = json_object_get(body, "request_ids");
    if (!*ids || json_is_null(*ids)) return OCT_OK;
    if (!json_is_array(*ids))
        return oct_api_refuse(e, OCT_API_MALFORMED, "request_ids",
                              "request_ids: must be an array of strings");
    json_array_foreach(*ids, i, id) if (!json_is_string(id)) return oct_api_refuse(
        e, OCT_API_MALFORMED, "request_ids", "request_ids: must be an array of strings");
    return OCT_OK;
}

void oct_api_route_abort(oct_api *api, oct_http_exchange *x) {
    json_t *body = NULL;
    const json_t *ids = NULL;
    oct_api_error e;
    oct_status st = OCT_OK;
    uint32_t n = 0;
    oct_buf b;
    if (oct_http_request_body(x).len > 0)
        st = oct_api_parse_body(api, oct_http_request_body(x), &body, &e);
    if (st == OCT_OK) st = read_ids(body, &ids, &e);
    if (st != OCT_OK) {
        oct_api_answer_error(api, x, &e);
        json_decref(body);
        return;
    }
    pthread_mutex_lock(&api->jobs_lock);
    for (oct_api_job *job = api->jobs; job; job = job->next) {
        pthread_mutex_lock(&job->lock);
        if (is_wanted(ids, job)) n += oct_api_job_cancel(job);
        pthread_mutex_unlock(&job->lock);
    }
    pthread_mutex_unlock(&api->jobs_lock);
    json_decref(body);
    oct_buf_init(&b, api->mem, 0);
    oct_buf_printf(&b, "{\"status\":\"aborted\",\"aborted\":%u}", n);
    oct_api_answer(api, x, 200, &b);
    oct_buf_fini(&b);
}

/* ---- cache, server ---- */

/* The query of other servers (which running requests to preempt first) changes nothing: entries are
 * forgotten whether or not somebody holds their blocks. */
void oct_api_route_reset_prefix(oct_api *api, oct_http_exchange *x) {
    oct_engine_reset_prefix_cache(api->cfg.engine);
    answer_text(api, x, "");
}

/* key='value', key=1: one line, as a program would print its settings. */
static void write_settings_text(const json_t *settings, oct_buf *b) {
    oct_buf line;
    const char *key;
    json_t *v;
    bool first = true;
    oct_buf_init(&line, b->mem, 0);
    json_object_foreach((json_t *)settings, key, v) {
        oct_buf_printf(&line, "%s%s=", first ? "" : ", ", key);
        if (json_is_string(v))
            oct_buf_printf(&line, "'%s'", json_string_value(v));
        else
            oct_json_dump(&line, v, JSON_COMPACT);
        first = false;
    }
    oct_json_quote(b, oct_buf_view(&line));
    if (line.failed) b->failed = true;
    oct_buf_fini(&line);
}

void oct_api_route_server_info(oct_api *api, oct_http_exchange *x) {
    const oct_str format = oct_api_query(x, "config_format");
    const bool json = oct_str_is(format, "json");
    oct_api_error e;
    oct_buf b;
    if (format.ptr && !json && !oct_str_is(format, "text")) {
        (void)bad_query(&e, "config_format", "text or json");
        oct_api_answer_error(api, x, &e);
        return;
    }
    oct_buf_init(&b, api->mem, 0);
    oct_buf_cstr(&b, "{\"vllm_config\":");
    if (json)
        oct_json_dump(&b, api->cfg.server_info[0], JSON_COMPACT);
    else
        write_settings_text(api->cfg.server_info[0], &b);
    oct_buf_cstr(&b, ",\"vllm_env\":");
    oct_json_dump(&b, api->cfg.server_info[1], JSON_COMPACT);
    oct_buf_cstr(&b, ",\"system_env\":");
    oct_json_dump(&b, api->cfg.server_info[2], JSON_COMPACT);
    oct_buf_char(&b, '}');
    oct_api_answer(api, x, 200, &b);
    oct_buf_fini(&b);
}
