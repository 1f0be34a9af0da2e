/*
 * net/exchange.c - one request and its answer, from the side of whoever answers; see net/server.h.
 * The loop's side is conn.c.
 */
#include <stdio.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fault.h"
#include "net/internal.h"

void oct_http_shared_unref(oct_http_shared *shared) {
    if (atomic_fetch_sub(&shared->refs, 1) == 1) oct_free(shared->mem, shared, 1, sizeof *shared);
}

oct_http_exchange *oct_http_exchange_create(oct_http_conn *c) {
    static atomic_ullong serials;
    oct_http_shared *shared = c->loop->shared;
    oct_http_exchange *x =
        OCT_FAULT(NET_EXCHANGE, 0) ? NULL : oct_calloc(shared->mem, 1, sizeof *x);
    if (!x) return NULL;
    atomic_fetch_add(&shared->refs, 1);
    x->shared = shared;
    atomic_init(&x->refs, 2); /* the connection, and the one user */
    atomic_init(&x->users, 1);
    oct_buf_init(&x->head_bytes, shared->mem, 0);
    oct_buf_init(&x->path, shared->mem, 0);
    oct_buf_init(&x->body, shared->mem, 0);
    oct_buf_init(&x->extra, shared->mem, 64u << 10);
    oct_buf_init(&x->pending, shared->mem, 0);
    pthread_mutex_init(&x->lock, NULL);
    memcpy(x->peer, c->peer, sizeof x->peer);
    x->arrived_ns = oct_now_ns();
    x->serial = atomic_fetch_add(&serials, 1) + 1;
    x->conn = c;
    x->loop = c->loop;
    oct_http_count(&shared->requests, 1);
    oct_http_count(&shared->exchanges_open, 1);
    return x;
}

void oct_http_exchange_unref(oct_http_exchange *x) {
    if (atomic_fetch_sub(&x->refs, 1) != 1) return;
    oct_http_shared *shared = x->shared;
    OCT_ASSERT(atomic_load(&x->closed) && !x->on_close);
    atomic_fetch_sub(&shared->body_bytes, x->body_counted);
    oct_buf_fini(&x->head_bytes);
    oct_buf_fini(&x->path);
    oct_buf_fini(&x->body);
    oct_buf_fini(&x->extra);
    oct_buf_fini(&x->pending);
    pthread_mutex_destroy(&x->lock);
    oct_free(shared->mem, x, 1, sizeof *x);
    oct_http_shared_unref(shared);
}

void oct_http_exchange_over(oct_http_exchange *x, oct_http_end how) {
    oct_http_shared *shared = x->shared;
    pthread_mutex_lock(&x->lock);
    OCT_ASSERT(x->conn);
    x->conn = NULL;
    x->how = how;
    atomic_store(&x->closed, true);
    oct_buf_fini(&x->pending);
    x->in_flight = 0;
    void (*fn)(void *, oct_http_end) = x->on_close;
    void *ctx = x->on_close_ctx;
    x->on_close = NULL;
    const oct_http_outcome outcome = {.status = x->phase == PHASE_FRESH ? 0 : x->status,
                                      .gone = how == OCT_HTTP_GONE,
                                      .body_bytes = x->body_bytes,
                                      .duration_ns = oct_now_ns() - x->arrived_ns};
    pthread_mutex_unlock(&x->lock);
    oct_http_count(&shared->answers[outcome.status / 100], 1);
    if (shared->over) shared->over(shared->ctx, x, &outcome);
    if (how == OCT_HTTP_GONE) oct_http_count(&shared->aborted, 1);
    if (fn) {
        fn(ctx, how);
        oct_http_exchange_unref(x);
    }
    atomic_fetch_sub(&shared->exchanges_open, 1);
}

/* --- the request --- */

void oct_http_acquire(oct_http_exchange *x) {
    atomic_fetch_add(&x->refs, 1);
    atomic_fetch_add(&x->users, 1);
}

/* Nobody is left who could finish the answer. */
static void give_up(oct_http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    const oct_http_phase phase = x->phase;
    if (x->conn && phase == PHASE_STREAM) {
        x->dropped = true;
        oct_http_loop_post(x->loop, x);
    }
    pthread_mutex_unlock(&x->lock);
    if (phase == PHASE_FRESH)
        (void)oct_http_respond_error(x, 500, "the request was given up without an answer", false);
}

void oct_http_release(oct_http_exchange *x) {
    if (!x) return;
    if (atomic_fetch_sub(&x->users, 1) == 1 && !atomic_load(&x->closed)) give_up(x);
    oct_http_exchange_unref(x);
}

oct_http_method oct_http_request_method(const oct_http_exchange *x) { return x->head.method; }
oct_str oct_http_request_path(const oct_http_exchange *x) { return oct_buf_view(&x->path); }
oct_str oct_http_request_query(const oct_http_exchange *x) { return x->query; }
oct_str oct_http_request_body(const oct_http_exchange *x) { return oct_buf_view(&x->body); }
const char *oct_http_request_peer(const oct_http_exchange *x) { return x->peer; }
uint64_t oct_http_request_arrived_ns(const oct_http_exchange *x) { return x->arrived_ns; }
uint64_t oct_http_request_serial(const oct_http_exchange *x) { return x->serial; }

oct_str oct_http_request_header(const oct_http_exchange *x, const char *name) {
    return oct_http_head_field(&x->head, oct_buf_view(&x->head_bytes), name);
}

/* --- the head of an answer --- */

void oct_http_set_header(oct_http_exchange *x, const char *name, oct_str value) {
    pthread_mutex_lock(&x->lock);
    if (x->phase == PHASE_FRESH) {
        oct_buf_cstr(&x->extra, name);
        oct_buf_cstr(&x->extra, ": ");
        for (size_t i = 0; i < value.len; i++) {
            const unsigned char c = (unsigned char)value.ptr[i];
            oct_buf_char(&x->extra, c < 0x20 || c == 0x7F ? '?' : (char)c);
        }
        oct_buf_cstr(&x->extra, "\r\n");
    }
    pthread_mutex_unlock(&x->lock);
}

static void decorate(oct_http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    const bool first = !x->decorated;
    x->decorated = true;
    pthread_mutex_unlock(&x->lock);
    if (first && x->shared->decorate) x->shared->decorate(x->shared->ctx, x);
}

/* Not strftime: the names of days and months must not follow a locale. */
static void add_date(oct_buf *b) {
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const time_t now = (time_t)oct_unix_seconds();
    struct tm t;
    if (!gmtime_r(&now, &t)) return;
    oct_buf_printf(b, "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n", days + 3 * t.tm_wday,
                   t.tm_mday, months + 3 * t.tm_mon, 1900 + t.tm_year, t.tm_hour, t.tm_min,
                   t.tm_sec);
}

static bool has_body(int status) { return status != 204 && status != 304; }

/* Under x->lock. length: of the whole body; negative: in pieces. */
static void write_head(oct_http_exchange *x, int status, const char *content_type,
                       long long length) {
    oct_buf *b = &x->pending;
    x->status = status;
    const bool chunked = length < 0 && x->head.minor > 0;
    if (!x->head.keep_alive || x->body_unread || (length < 0 && !chunked) ||
        atomic_load(&x->shared->draining))
        x->close_after = true;
    oct_buf_printf(b, "HTTP/1.1 %d %s\r\n", status, oct_http_reason(status));
    add_date(b);
    if (content_type && has_body(status)) oct_buf_printf(b, "Content-Type: %s\r\n", content_type);
    if (chunked)
        oct_buf_cstr(b, "Transfer-Encoding: chunked\r\n");
    else if (length >= 0 && has_body(status))
        oct_buf_printf(b, "Content-Length: %lld\r\n", length);
    if (x->close_after)
        oct_buf_cstr(b, "Connection: close\r\n");
    else if (x->head.minor == 0)
        oct_buf_cstr(b, "Connection: keep-alive\r\n");
    oct_buf_str(b, oct_buf_view(&x->extra));
    oct_buf_cstr(b, "\r\n");
    if (x->extra.failed) b->failed = true;
}

/* Under x->lock: hands what is pending to the loop, or drops the client when memory ran out. */
static oct_status hand_over(oct_http_exchange *x) {
    if (x->pending.failed || OCT_FAULT(NET_ANSWER, 0)) x->dropped = true;
    oct_http_loop_post(x->loop, x);
    return x->dropped ? OCT_E_NOMEM : OCT_OK;
}

/* Under x->lock: may an answer begin? */
static oct_status may_begin(const oct_http_exchange *x) {
    if (!x->conn || x->dropped) return OCT_E_CANCELLED;
    return x->phase == PHASE_FRESH ? OCT_OK : OCT_E_INVALID;
}

static oct_status respond(oct_http_exchange *x, int status, const char *content_type, oct_str body,
                          bool close_after) {
    OCT_ASSERT(status >= 200 && status <= 599);
    decorate(x);
    pthread_mutex_lock(&x->lock);
    oct_status got = may_begin(x);
    if (got == OCT_OK) {
        x->close_after |= close_after;
        write_head(x, status, content_type, (long long)body.len);
        if (x->head.method != OCT_HTTP_HEAD && has_body(status)) {
            oct_buf_str(&x->pending, body);
            x->body_bytes = body.len;
        }
        x->phase = PHASE_ENDED;
        got = hand_over(x);
    }
    pthread_mutex_unlock(&x->lock);
    return got;
}

oct_status oct_http_respond(oct_http_exchange *x, int status, const char *content_type,
                            oct_str body) {
    return respond(x, status, content_type, body, false);
}

/* --- an answer in pieces --- */

oct_status oct_http_stream_begin(oct_http_exchange *x, int status, const char *content_type) {
    OCT_ASSERT(status >= 200 && status <= 599 && has_body(status));
    decorate(x);
    pthread_mutex_lock(&x->lock);
    oct_status got = may_begin(x);
    if (got == OCT_OK) {
        write_head(x, status, content_type, -1);
        x->phase = PHASE_STREAM;
        got = hand_over(x);
    }
    pthread_mutex_unlock(&x->lock);
    return got;
}

/* Under x->lock: in an open stream? */
static oct_status in_stream(const oct_http_exchange *x) {
    if (!x->conn || x->dropped) return OCT_E_CANCELLED;
    return x->phase == PHASE_STREAM ? OCT_OK : OCT_E_INVALID;
}

oct_status oct_http_stream_write(oct_http_exchange *x, oct_str bytes) {
    pthread_mutex_lock(&x->lock);
    oct_status got = in_stream(x);
    if (got == OCT_OK && bytes.len > 0 && x->head.method != OCT_HTTP_HEAD) {
        const size_t limit = x->shared->limits.stream_unsent_bytes;
        const size_t unsent = x->pending.len + x->in_flight;
        if (unsent > limit || bytes.len > limit - unsent || OCT_FAULT(NET_UNREAD, 0)) {
            x->dropped = true;
        } else {
            if (x->head.minor > 0) oct_buf_printf(&x->pending, "%zx\r\n", bytes.len);
            oct_buf_str(&x->pending, bytes);
            x->body_bytes += bytes.len;
            if (x->head.minor > 0) oct_buf_cstr(&x->pending, "\r\n");
        }
        if (hand_over(x) != OCT_OK) got = OCT_E_CANCELLED;
    }
    pthread_mutex_unlock(&x->lock);
    return got;
}

oct_status oct_http_stream_end(oct_http_exchange *x, bool close_after) {
    pthread_mutex_lock(&x->lock);
    oct_status got = in_stream(x);
    if (got == OCT_OK) {
        x->close_after |= close_after;
        if (x->head.minor > 0 && x->head.method != OCT_HTTP_HEAD)
            oct_buf_cstr(&x->pending, "0\r\n\r\n");
        x->phase = PHASE_ENDED;
        got = hand_over(x);
    }
    pthread_mutex_unlock(&x->lock);
    return got;
}

/* --- errors --- */

static void add_error_body(oct_buf *b, int status, const char *message) {
    const char *type = "Bad Request";
    if (status >= 500) type = "InternalServerError";
    if (status == 503) type = "ServiceUnavailableError";
    if (status == 501 || status == 505) type = "Bad Request"; /* the client's doing */
    if (status == 404) type = "NotFoundError";
    oct_buf_cstr(b, "{\"error\":{\"message\":\"");
    for (const char *c = message; *c; c++) {
        if (*c == '"' || *c == '\\') oct_buf_char(b, '\\');
        oct_buf_char(b, (unsigned char)*c < 0x20 ? '?' : *c);
    }
    oct_buf_printf(b, "\",\"type\":\"%s\",\"param\":null,\"code\":%d}}", type, status);
}

#define NO_MEMORY                                                                                 \
    "{\"error\":{\"message\":\"no memory for the request\",\"type\":\"ServiceUnavailableError\"," \
    "\"param\":null,\"code\":503}}"

oct_status oct_http_respond_error(oct_http_exchange *x, int status, const char *message,
                                  bool close_after) {
    oct_buf body;
    oct_buf_init(&body, x->shared->mem, 4096);
    add_error_body(&body, status, message);
    if (body.failed) status = 503;
    if (status == 503) oct_http_set_header(x, "Retry-After", OCT_STR("1"));
    const oct_status got =
        respond(x, status, "application/json",
                body.failed ? OCT_STR(NO_MEMORY) : oct_buf_view(&body), close_after);
    oct_buf_fini(&body);
    return got;
}

void oct_http_error_bytes(oct_buf *out, int status, const char *message) {
    oct_buf body;
    oct_buf_init(&body, out->mem, 4096);
    add_error_body(&body, status, message);
    if (body.failed) status = 503;
    const oct_str text = body.failed ? OCT_STR(NO_MEMORY) : oct_buf_view(&body);
    oct_buf_printf(out, "HTTP/1.1 %d %s\r\n", status, oct_http_reason(status));
    add_date(out);
    oct_buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n%s%s\r\n",
                   text.len, "Connection: close\r\n", status == 503 ? "Retry-After: 1\r\n" : "");
    oct_buf_str(out, text);
    if (out->failed) out->len = 0; /* half a head is none */
    oct_buf_fini(&body);
}

/* --- the end --- */

bool oct_http_is_closed(const oct_http_exchange *x) { return atomic_load(&x->closed); }

void oct_http_on_close(oct_http_exchange *x, void (*fn)(void *ctx, oct_http_end how), void *ctx) {
    pthread_mutex_lock(&x->lock);
    OCT_ASSERT(!x->on_close);
    const bool over = x->conn == NULL;
    const oct_http_end how = x->how;
    if (!over) {
        x->on_close = fn;
        x->on_close_ctx = ctx;
        atomic_fetch_add(&x->refs, 1);
    }
    pthread_mutex_unlock(&x->lock);
    if (over) fn(ctx, how);
}
