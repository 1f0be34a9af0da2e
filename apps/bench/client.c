/*
 * apps/bench/client.c - see client.h.
 *
 * libcurl is opened when it is needed (dlopen): it brings thirty libraries along, which a server
 * should neither load nor depend on.
 */
#include "client.h"

#define CURL_DISABLE_TYPECHECK /* its macros would stand in the way of the table below */
#include <curl/curl.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "codec/json.h"
#include "codec/sse.h"

enum { POLL_MS = 100, MAX_EVENT = 64 << 20, CONNECT_S = 60 };
static const long request_s = 6 * 3600; /* of one request */
static const oct_json_limits event_limits = {.max_bytes = MAX_EVENT, .max_depth = 64};

/* ---- the library ---- */

/* clang-format off */
#define CURL_FUNCTIONS(X) \
    X(easy_init) X(easy_setopt) X(easy_getinfo) X(easy_perform) X(easy_cleanup) X(easy_strerror) \
    X(global_init) X(slist_append) X(slist_free_all) \
    X(multi_init) X(multi_setopt) X(multi_add_handle) X(multi_remove_handle) \
    X(multi_perform) X(multi_info_read) X(multi_poll) X(multi_cleanup)
/* clang-format on */

static struct {
#define CURL_MEMBER(name) __typeof__(&curl_##name) name;
    CURL_FUNCTIONS(CURL_MEMBER)
#undef CURL_MEMBER
} curl;

static oct_status open_library(oct_err *err) {
    static void *library;
    if (library) return OCT_OK;
    void *so = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!so)
        return OCT_FAIL(err, OCT_E_IO, "bench: libcurl is not there (package libcurl4): %s",
                        dlerror());
    const struct {
        const char *name;
        void *to;
    } all[] = {
#define CURL_ROW(name) {"curl_" #name, &curl.name},
        CURL_FUNCTIONS(CURL_ROW)
#undef CURL_ROW
    };
    for (size_t i = 0; i < OCT_COUNT(all); i++) {
        void *at = dlsym(so, all[i].name);
        if (!at) return OCT_FAIL(err, OCT_E_IO, "bench: libcurl has no %s", all[i].name);
        memcpy(all[i].to, &at, sizeof at);
    }
    if (curl.global_init(CURL_GLOBAL_DEFAULT) != 0)
        return OCT_FAIL(err, OCT_E_IO, "bench: libcurl does not start");
    library = so; /* for as long as the process lives */
    return OCT_OK;
}

/* ---- a run ---- */

typedef struct call {
    struct run *run;
    struct call *next; /* of those that are free */
    CURL *easy;
    struct curl_slist *headers;
    client_result *to;
    oct_buf body, plain; /* plain: what came instead of events */
    oct_sse_parser events;
    bool stream, began;
} call;

typedef struct run {
    const client_plan *p;
    client_result *out;
    CURLM *multi;
    struct curl_slist *common;
    call *calls; /* [n_calls] */
    uint32_t n_calls, n_open, n_done;
    call *free;
    uint64_t t0, n_events;
    oct_err *err;
} run;

static double now_s(const run *r) { return (double)(oct_now_ns() - r->t0) / 1e9; }

/* ---- what comes ---- */

static void add_gap(client_result *to, double gap) {
    if (to->n_gaps == to->cap_gaps) {
        const uint32_t cap = to->cap_gaps ? 2 * to->cap_gaps : 64;
        double *gaps = oct_grow(oct_system_allocator(), to->gaps, to->cap_gaps, cap, sizeof *gaps);
        if (!gaps) return;
        to->gaps = gaps;
        to->cap_gaps = cap;
    }
    to->gaps[to->n_gaps++] = gap;
}

static void set_error(client_result *to, oct_str text) {
    size_t n = 0;
    if (to->error[0]) return;
    for (size_t i = 0; i < text.len && n + 1 < sizeof to->error; i++)
        to->error[n++] = text.ptr[i] >= ' ' ? text.ptr[i] : ' ';
    to->error[n] = '\0';
}

static void take_usage(client_result *to, const json_t *usage) {
    const json_t *prompt = json_object_get(usage, "prompt_tokens");
    const json_t *output = json_object_get(usage, "completion_tokens");
    if (json_is_integer(prompt)) to->n_prompt = json_integer_value(prompt);
    if (json_is_integer(output)) to->n_output = json_integer_value(output);
}

static void take_text(client_result *to, const json_t *choice) {
    const json_t *delta = json_object_get(choice, "delta");
    const char *const keys[] = {"reasoning", "reasoning_content", "content"};
    const oct_str text = oct_json_str(json_object_get(choice, "text"));
    if (text.ptr) oct_buf_str(&to->text, text);
    for (size_t i = 0; i < 3; i++) {
        const oct_str piece = oct_json_str(json_object_get(delta, keys[i]));
        if (piece.ptr) oct_buf_str(&to->text, piece);
        if (i < 2 && piece.ptr) i = 1; /* two names of one text */
    }
}

static void take_choices(call *c, const json_t *choices) {
    client_result *to = c->to;
    const double now = now_s(c->run);
    if (!c->began)
        to->first = now;
    else
        add_gap(to, now - to->last);
    c->began = true;
    to->last = now;
    c->run->n_events++;
    if (c->run->p->keep_texts) take_text(to, json_array_get(choices, 0));
}

static oct_status on_event(void *ctx, oct_str name, oct_str data) {
    call *c = ctx;
    json_t *v = NULL;
    oct_err err = {0};
    (void)name;
    if (oct_str_is(data, "[DONE]")) return OCT_OK;
    if (oct_json_parse(data, "event", &event_limits, &v, &err) != OCT_OK) {
        set_error(c->to, oct_str_of(err.text));
        return OCT_OK;
    }
    const json_t *choices = json_object_get(v, "choices"), *error = json_object_get(v, "error");
    if (error) set_error(c->to, data);
    if (json_array_size(choices) > 0)
        take_choices(c, choices);
    else if (c->began && c->run->p->usage_ends)
        c->to->last = now_s(c->run);
    take_usage(c->to, json_object_get(v, "usage"));
    json_decref(v);
    return OCT_OK;
}

static size_t on_bytes(char *data, size_t size, size_t n, void *ctx) {
    call *c = ctx;
    oct_err err = {0};
    const oct_str bytes = {data, size * n};
    if (!c->stream) {
        const char *type = NULL;
        long status = 0;
        curl.easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
        curl.easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
        c->stream = status == 200 && type && strstr(type, "text/event-stream");
    }
    if (!c->stream) {
        oct_buf_str(&c->plain, bytes);
    } else if (oct_sse_parser_feed(&c->events, bytes, &err) != OCT_OK) {
        set_error(c->to, oct_str_of(err.text));
        return 0;
    }
    return bytes.len;
}

/* ---- a request ---- */

static void set_common(CURL *easy, const client_server *s) {
    if (s->unix_socket) curl.easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, s->unix_socket);
    if (s->insecure) {
        curl.easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl.easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    curl.easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl.easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl.easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl.easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl.easy_setopt(easy, CURLOPT_USERAGENT, "octet-bench/" OCT_VERSION);
}

static struct curl_slist *common_fields(const client_server *s) {
    struct curl_slist *list = curl.slist_append(NULL, "Content-Type: application/json");
    char line[4096];
    list = curl.slist_append(list, "Expect:"); /* no wait for a 100 */
    if (s->key) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", s->key);
        list = curl.slist_append(list, line);
    }
    for (unsigned i = 0; s->fields && i < s->fields->n; i++) {
        const char *at = s->fields->at[i], *eq = strchr(at, '=');
        if (!eq) continue;
        snprintf(line, sizeof line, "%.*s: %s", (int)(eq - at), at, eq + 1);
        list = curl.slist_append(list, line);
    }
    return list;
}

static void url_of(const client_server *s, const char *path, char *url, size_t bytes) {
    size_t n = strlen(s->url);
    while (n > 0 && s->url[n - 1] == '/') n--;
    snprintf(url, bytes, "%.*s%s%s", (int)n, s->url, path[0] == '/' ? "" : "/", path);
}

static oct_status open_call(run *r, call *c) {
    char url[4096];
    const oct_allocator *mem = oct_system_allocator();
    c->run = r;
    c->easy = curl.easy_init();
    oct_buf_init(&c->body, mem, 0);
    oct_buf_init(&c->plain, mem, MAX_EVENT);
    oct_sse_parser_init(&c->events, mem, MAX_EVENT, on_event, c);
    if (!c->easy) return OCT_FAIL(r->err, OCT_E_NOMEM, "bench: no memory");
    url_of(&r->p->server, r->p->server.endpoint, url, sizeof url);
    set_common(c->easy, &r->p->server);
    curl.easy_setopt(c->easy, CURLOPT_URL, url);
    curl.easy_setopt(c->easy, CURLOPT_TIMEOUT, request_s);
    curl.easy_setopt(c->easy, CURLOPT_PRIVATE, c);
    curl.easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl.easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    return OCT_OK;
}

static void close_call(call *c) {
    if (c->easy) {
        if (c->to) curl.multi_remove_handle(c->run->multi, c->easy);
        curl.easy_cleanup(c->easy);
        oct_sse_parser_fini(&c->events);
    }
    curl.slist_free_all(c->headers);
    oct_buf_fini(&c->body);
    oct_buf_fini(&c->plain);
}

static void set_fields(call *c, uint32_t i) {
    const run *r = c->run;
    char line[256];
    curl.slist_free_all(c->headers);
    c->headers = NULL;
    for (const struct curl_slist *l = r->common; l; l = l->next)
        c->headers = curl.slist_append(c->headers, l->data);
    snprintf(line, sizeof line, "X-Request-Id: %s%" PRIu32, r->p->id_prefix, i);
    c->headers = curl.slist_append(c->headers, line);
    curl.easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
}

static oct_status send_one(run *r, uint32_t i) {
    const oct_allocator *mem = oct_system_allocator();
    call *c = r->free;
    r->free = c->next;
    c->to = &r->out[i];
    c->to->n_prompt = c->to->n_output = -1;
    oct_buf_init(&c->to->text, mem, 0);
    c->stream = c->began = false;
    oct_buf_clear(&c->body);
    oct_buf_clear(&c->plain);
    oct_sse_parser_fini(&c->events);
    oct_sse_parser_init(&c->events, mem, MAX_EVENT, on_event, c);
    r->p->body(r->p->ctx, i, &c->body);
    if (c->body.failed) return OCT_FAIL(r->err, OCT_E_NOMEM, "bench: no memory");
    set_fields(c, i);
    curl.easy_setopt(c->easy, CURLOPT_POSTFIELDS, oct_buf_cs(&c->body));
    curl.easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.len);
    c->to->sent = now_s(r);
    r->n_open++;
    if (curl.multi_add_handle(r->multi, c->easy) != CURLM_OK)
        return OCT_FAIL(r->err, OCT_E_NOMEM, "bench: no memory");
    return OCT_OK;
}

static void end_one(run *r, CURL *easy, CURLcode code) {
    call *c = NULL;
    long status = 0;
    curl.easy_getinfo(easy, CURLINFO_PRIVATE, &c);
    curl.easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    client_result *to = c->to;
    if (code != CURLE_OK) {
        set_error(to, oct_str_of(curl.easy_strerror(code)));
    } else if (status != 200) {
        char line[CLIENT_ERROR_BYTES];
        const oct_str body = oct_buf_view(&c->plain);
        snprintf(line, sizeof line, "HTTP %ld: %.*s", status,
                 (int)(body.len < 160 ? body.len : 160), body.ptr);
        set_error(to, oct_str_of(line));
    } else if (!c->began) {
        set_error(to, OCT_STR("an answer without events that have choices"));
    }
    to->ok = to->error[0] == '\0';
    curl.multi_remove_handle(r->multi, easy);
    c->to = NULL;
    c->next = r->free;
    r->free = c;
    r->n_open--;
    r->n_done++;
}

/* ---- the run ---- */

static oct_status loop(run *r) {
    const client_plan *p = r->p;
    uint32_t n_sent = 0;
    double told = 0;
    while (r->n_done < p->n) {
        int running, left;
        const double now = now_s(r);
        while (n_sent < p->n && r->free && p->due[n_sent] <= now) OCT_TRY(send_one(r, n_sent++));
        if (curl.multi_perform(r->multi, &running) != CURLM_OK)
            return OCT_FAIL(r->err, OCT_E_IO, "bench: the HTTP library failed");
        for (CURLMsg *m; (m = curl.multi_info_read(r->multi, &left));)
            if (m->msg == CURLMSG_DONE) end_one(r, m->easy_handle, m->data.result);
        if (p->progress && now - told > 0.2) {
            told = now;
            p->progress(p->progress_ctx, r->n_done, r->n_events, now);
        }
        if (r->n_done == p->n) break;
        int wait = POLL_MS;
        if (n_sent < p->n && r->free) {
            const double ms = (p->due[n_sent] - now_s(r)) * 1e3;
            wait = ms <= 0 ? 0 : ms < POLL_MS ? (int)ms + 1 : POLL_MS;
        }
        if (wait > 0) curl.multi_poll(r->multi, NULL, 0, wait, NULL);
    }
    return OCT_OK;
}

oct_status client_run(const client_plan *p, client_result *out, double *seconds, oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    run r = {.p = p, .out = out, .err = err};
    oct_status st = OCT_OK;
    *seconds = 0;
    OCT_TRY(open_library(err));
    r.n_calls = p->at_a_time && p->at_a_time < p->n ? p->at_a_time : p->n;
    r.multi = curl.multi_init();
    r.common = common_fields(&p->server);
    r.calls = oct_calloc(mem, r.n_calls, sizeof *r.calls);
    if (!r.multi || !r.calls) st = OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    if (r.multi) curl.multi_setopt(r.multi, CURLMOPT_MAXCONNECTS, (long)r.n_calls);
    for (uint32_t i = r.n_calls; st == OCT_OK && i-- > 0;) {
        st = open_call(&r, &r.calls[i]);
        r.calls[i].next = r.free;
        r.free = &r.calls[i];
    }
    r.t0 = oct_now_ns();
    if (st == OCT_OK) st = loop(&r);
    *seconds = now_s(&r) - (p->n > 0 ? out[0].sent : 0);
    for (uint32_t i = 0; r.calls && i < r.n_calls; i++) close_call(&r.calls[i]);
    oct_free(mem, r.calls, r.n_calls, sizeof *r.calls);
    curl.slist_free_all(r.common);
    if (r.multi) curl.multi_cleanup(r.multi);
    return st;
}

void client_results_free(client_result *r, uint32_t n) {
    for (uint32_t i = 0; r && i < n; i++) {
        oct_free(oct_system_allocator(), r[i].gaps, r[i].cap_gaps, sizeof *r[i].gaps);
        oct_buf_fini(&r[i].text);
    }
    oct_free(oct_system_allocator(), r, n, sizeof *r);
}

static size_t on_get(char *data, size_t size, size_t n, void *ctx) {
    oct_buf *out = ctx;
    oct_buf_add(out, data, size * n);
    return out->failed ? 0 : size * n;
}

long client_get(const client_server *s, const char *path, oct_buf *out, oct_err *err) {
    char url[4096];
    long status = 0;
    oct_buf_clear(out);
    if (open_library(err) != OCT_OK) return 0;
    CURL *easy = curl.easy_init();
    struct curl_slist *fields = common_fields(s);
    if (!easy) return 0;
    url_of(s, path, url, sizeof url);
    set_common(easy, s);
    curl.easy_setopt(easy, CURLOPT_URL, url);
    curl.easy_setopt(easy, CURLOPT_TIMEOUT, (long)CONNECT_S);
    curl.easy_setopt(easy, CURLOPT_HTTPHEADER, fields);
    curl.easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_get);
    curl.easy_setopt(easy, CURLOPT_WRITEDATA, out);
    const CURLcode code = curl.easy_perform(easy);
    if (code == CURLE_OK)
        curl.easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    else
        (void)OCT_FAIL(err, OCT_E_IO, "%s: %s", url, curl.easy_strerror(code));
    curl.slist_free_all(fields);
    curl.easy_cleanup(easy);
    return status;
}
