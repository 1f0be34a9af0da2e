/*
 * net/conn.c - one connection on its loop: bytes in, requests out, answers back, deadlines.
 *
 * The state machine is oct_http_conn_run: it goes on until it would have to wait. Every way out
 * sets c->dead, and the outermost call frees; so nothing below holds a freed connection.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fault.h"
#include "base/log.h"
#include "net/internal.h"

enum {
    READ_AHEAD = 16 << 10, /* of pipelined bytes while an answer is under way */
    LINGER_BYTES = 64 << 10,
    LINGER_MS = 1000,
    KEEP_BYTES = 64 << 10, /* a buffer larger than this is given back when empty */
    SENDS_A_TURN = 16,     /* then the other connections have their turn */
};

static void on_readable(evutil_socket_t fd, short what, void *arg);
static void on_writable(evutil_socket_t fd, short what, void *arg);
static void on_hung_up(evutil_socket_t fd, short what, void *arg);

oct_http_conn *oct_http_conn_create(oct_http_loop *l, int fd, const char *peer, bool refused) {
    oct_http_conn *c =
        OCT_FAULT(NET_CONNECTION, 0) ? NULL : oct_calloc(l->shared->mem, 1, sizeof *c);
    if (!c) return NULL;
    c->loop = l;
    c->fd = fd;
    memcpy(c->peer, peer, sizeof c->peer);
    oct_buf_init(&c->in, l->shared->mem, 0);
    oct_buf_init(&c->out, l->shared->mem, 0);
    oct_http_parser_init(&c->parser, &l->shared->limits);
    c->readable = event_new(l->base, fd, EV_READ | EV_PERSIST, on_readable, c);
    c->writable = event_new(l->base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
    c->hung_up = event_new(l->base, fd, EV_CLOSED | EV_PERSIST, on_hung_up, c);
    if (l->server->tls) c->tls = oct_tls_session_create(l->server->tls, fd);
    if (!c->readable || !c->writable || !c->hung_up || (l->server->tls && !c->tls)) {
        oct_tls_session_destroy(c->tls);
        if (c->readable) event_free(c->readable);
        if (c->writable) event_free(c->writable);
        if (c->hung_up) event_free(c->hung_up);
        oct_free(l->shared->mem, c, 1, sizeof *c);
        return NULL;
    }
    if (refused) {
        oct_http_error_bytes(&c->out, 503, "too many connections");
        c->state = CONN_REFUSE;
    }
    atomic_fetch_add(&l->shared->connections_open, 1);
    return c;
}

static void want_read(oct_http_conn *c, bool on) {
    if (c->reading == on) return;
    c->reading = on;
    if ((on ? event_add(c->readable, NULL) : event_del(c->readable)) != 0) c->dead = true;
}

static void want_write(oct_http_conn *c, bool on) {
    if (c->writing == on) return;
    c->writing = on;
    if ((on ? event_add(c->writable, NULL) : event_del(c->writable)) != 0) c->dead = true;
}

void oct_http_conn_attach(oct_http_conn *c) {
    oct_http_loop *l = c->loop;
    c->next = l->conns;
    if (c->next) c->next->prev = c;
    l->conns = c;
    c->since_ms = c->progress_ms = l->now_ms;
    if (event_add(c->hung_up, NULL) != 0) c->dead = true;
    want_read(c, c->state == CONN_HEAD);
    oct_http_conn_run(c);
}

/* The exchange is over; the connection lets go of it. */
static void end_exchange(oct_http_conn *c, oct_http_end how) {
    oct_http_exchange *x = c->x;
    c->x = NULL;
    oct_http_exchange_over(x, how);
    oct_http_exchange_unref(x);
}

void oct_http_conn_free(oct_http_conn *c) {
    oct_http_loop *l = c->loop;
    if (c->x) {
        /* In CONN_BODY nobody else knows the exchange yet: the user's reference is ours. */
        oct_http_exchange *unshown = c->state == CONN_BODY ? c->x : NULL;
        end_exchange(c, OCT_HTTP_GONE);
        oct_http_release(unshown);
    }
    if (c->prev)
        c->prev->next = c->next;
    else if (l->conns == c)
        l->conns = c->next;
    if (c->next) c->next->prev = c->prev;
    event_free(c->readable);
    event_free(c->writable);
    event_free(c->hung_up);
    if (c->tls && !c->dead && c->state != CONN_LINGER) oct_tls_bye(c->tls);
    oct_tls_session_destroy(c->tls);
    close(c->fd);
    oct_buf_fini(&c->in);
    oct_buf_fini(&c->out);
    atomic_fetch_sub(&l->shared->connections_open, 1);
    oct_free(l->shared->mem, c, 1, sizeof *c);
}

/* --- writing --- */

static ssize_t put_bytes(const oct_http_conn *c, const char *bytes, size_t n) {
    return c->tls ? oct_tls_write(c->tls, bytes, n) : send(c->fd, bytes, n, MSG_NOSIGNAL);
}

/* In CONN_LINGER what comes is thrown away and may as well stay enciphered. */
static ssize_t take_bytes(oct_http_conn *c, char *bytes, size_t n) {
    if (!c->tls || c->state == CONN_LINGER) return recv(c->fd, bytes, n, 0);
    const ssize_t got = oct_tls_read(c->tls, bytes, n, &c->tls_wants_write);
    if (got < 0 && c->tls_wants_write) want_write(c, true);
    return got;
}

/* Sends what is in out. True when all of it left; false when the socket is full or broken. */
static bool flush(oct_http_conn *c) {
    while (c->sent < c->out.len) {
        if (OCT_FAULT(NET_SEND, 0)) {
            c->dead = true;
            return false;
        }
        const ssize_t n = put_bytes(c, c->out.data + c->sent, c->out.len - c->sent);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!c->writing) c->progress_ms = c->loop->now_ms;
            want_write(c, true);
            return false;
        }
        if (n <= 0) {
            c->dead = true;
            return false;
        }
        c->sent += (size_t)n;
        c->progress_ms = c->loop->now_ms;
        oct_http_count(&c->loop->shared->bytes_out, (uint64_t)n);
    }
    c->sent = 0;
    if (c->out.cap > KEEP_BYTES)
        oct_buf_fini(&c->out);
    else
        oct_buf_clear(&c->out);
    want_write(c, false);
    return true;
}

/* Takes what x has pending into out. True when there is something to send. */
static bool take_pending(oct_http_conn *c, bool *ended, bool *dropped) {
    oct_http_exchange *x = c->x;
    pthread_mutex_lock(&x->lock);
    if (c->sent == c->out.len && x->pending.len > 0) {
        const oct_buf taken = x->pending;
        x->pending = c->out;
        oct_buf_clear(&x->pending);
        c->out = taken;
        c->sent = 0;
    }
    x->in_flight = c->out.len - c->sent;
    *ended = x->phase == PHASE_ENDED && x->pending.len == 0;
    *dropped = x->dropped;
    pthread_mutex_unlock(&x->lock);
    return c->sent < c->out.len;
}

/* No more is sent; the end of our side is told, and what the client still sends is thrown away for
 * a moment, because closing with unread bytes would reset the connection under our last words. */
static void start_linger(oct_http_conn *c) {
    c->state = CONN_LINGER;
    c->since_ms = c->loop->now_ms;
    c->n_thrown = c->in.len;
    oct_buf_fini(&c->in);
    if (c->tls) oct_tls_bye(c->tls);
    if (shutdown(c->fd, SHUT_WR) != 0) c->dead = true;
    want_read(c, true);
}

/* A writer that is as fast as its client would keep the loop here for ever. */
static void go_on_later(oct_http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    oct_http_loop_post(x->loop, x);
    pthread_mutex_unlock(&x->lock);
}

/* Sends x's answer as far as it exists. True when it is finished and the connection moved on. */
static bool run_answer(oct_http_conn *c) {
    bool ended = false, dropped = false;
    for (int i = 0; take_pending(c, &ended, &dropped) && !dropped; i++) {
        if (i == SENDS_A_TURN) {
            go_on_later(c->x);
            return false;
        }
        const bool all = flush(c);
        if (!all) {
            (void)take_pending(c, &ended, &dropped); /* tells x how much is still in flight */
            if (dropped) c->dead = true;
            return false;
        }
    }
    if (dropped) c->dead = true;
    if (dropped || !ended) return false;
    const bool close_after = c->x->close_after;
    end_exchange(c, OCT_HTTP_SENT);
    c->since_ms = c->loop->now_ms;
    if (close_after) {
        start_linger(c);
        return true;
    }
    c->state = CONN_HEAD;
    oct_http_parser_init(&c->parser, &c->loop->shared->limits);
    want_read(c, true);
    return true;
}

/* --- reading --- */

static void refuse_head(oct_http_conn *c, int status, const char *reason) {
    oct_debug("%s: refused with %d: %s", c->peer, status, reason);
    oct_http_error_bytes(&c->out, status, reason);
    oct_http_count(&c->loop->shared->answers[status / 100], 1);
    c->state = CONN_REFUSE;
}

/* The body (or the answer to a refused one) is the exchange's from here. */
static void answer_error(oct_http_conn *c, int status, const char *reason) {
    oct_http_exchange *x = c->x;
    c->state = CONN_ANSWER;
    (void)oct_http_respond_error(x, status, reason, true);
    oct_http_release(x);
}

/* False when memory for the request was refused. */
static bool fill_request(oct_http_exchange *x, oct_http_conn *c, oct_http_refusal *refusal) {
    const size_t n = c->parser.head.head_bytes;
    x->head = c->parser.head;
    oct_buf_add(&x->head_bytes, c->in.data, n);
    *refusal = (oct_http_refusal){503, "no memory for the request"};
    if (x->head_bytes.failed || OCT_FAULT(NET_HEAD, 0)) {
        x->head.n_fields = 0; /* they lie in those bytes */
        return false;
    }
    const oct_http_span t = x->head.target;
    const oct_str target = {x->head_bytes.data + t.at, t.len};
    if (!oct_http_target_split(target, x->head.method, &x->path, &x->query, refusal)) return false;
    return !x->path.failed;
}

/* Counts the body's memory against the server's total as it grows. */
static bool count_body(oct_http_exchange *x) {
    const size_t now = x->body.cap;
    if (now <= x->body_counted) return true;
    const uint64_t more = now - x->body_counted;
    const uint64_t total = atomic_fetch_add(&x->shared->body_bytes, more) + more;
    x->body_counted = now;
    return total <= x->shared->limits.body_total_bytes;
}

/* The caller's guard has seen the head. Returns false when it answered. */
static bool pass_guard(oct_http_conn *c, bool with_body) {
    oct_http_server *s = c->loop->server;
    oct_http_exchange *x = c->x;
    x->body_unread = with_body;
    if (s->guard) s->guard(s->ctx, x);
    pthread_mutex_lock(&x->lock);
    const bool fresh = x->phase == PHASE_FRESH;
    if (fresh) x->body_unread = false;
    pthread_mutex_unlock(&x->lock);
    return fresh;
}

/* A whole head is at the start of in. */
static void begin_exchange(oct_http_conn *c) {
    oct_http_shared *shared = c->loop->shared;
    oct_http_refusal refusal;
    oct_http_exchange *x = oct_http_exchange_create(c);
    if (!x) {
        refuse_head(c, 503, "no memory for the request");
        return;
    }
    c->x = x;
    c->n_requests++;
    c->state = CONN_BODY;
    c->since_ms = c->progress_ms = c->loop->now_ms;
    const bool whole = fill_request(x, c, &refusal);
    oct_buf_consume(&c->in, c->parser.head.head_bytes);
    if (!whole) {
        answer_error(c, refusal.status, refusal.reason);
        return;
    }
    const bool with_body = x->head.chunked || x->head.length > 0;
    if (!pass_guard(c, with_body)) {
        c->state = CONN_ANSWER;
        oct_http_release(x);
    } else if (x->head.length > shared->limits.body_bytes) {
        answer_error(c, 413, "body too large");
    } else {
        oct_http_chunked_init(&c->chunked, shared->limits.body_bytes);
        if (with_body && x->head.expect_continue && c->in.len == 0) {
            oct_buf_cstr(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
            (void)flush(c);
        }
    }
}

static void hand_to_workers(oct_http_conn *c) {
    oct_http_exchange *x = c->x;
    c->state = CONN_ANSWER;
    c->since_ms = c->loop->now_ms;
    if (!OCT_FAULT(NET_WORKERS, 0) && oct_queue_push(c->loop->server->queue, x) == OCT_OK)
        return; /* the user's reference went */
    (void)oct_http_respond_error(x, 503, "the server is busy or stopping", true);
    oct_http_release(x);
}

/* Moves what belongs to the body out of in. True when the state changed. */
static bool run_body(oct_http_conn *c) {
    oct_http_exchange *x = c->x;
    oct_http_progress got = OCT_HTTP_MORE;
    size_t used = 0;
    if (x->head.chunked) {
        got = oct_http_chunked_feed(&c->chunked, oct_buf_view(&c->in), &used, &x->body);
    } else {
        used = oct_min_size(c->in.len, (size_t)x->head.length - x->body.len);
        oct_buf_add(&x->body, oct_buf_cs(&c->in), used);
        if (x->body.failed || x->body.len == x->head.length) got = OCT_HTTP_WHOLE;
    }
    oct_buf_consume(&c->in, used);
    if (used > 0) c->progress_ms = c->loop->now_ms;
    if (got == OCT_HTTP_BAD) {
        answer_error(c, c->chunked.refusal.status, c->chunked.refusal.reason);
    } else if (x->body.failed || !count_body(x) || OCT_FAULT(NET_BODY, 0)) {
        answer_error(c, 503, "no memory for the request body");
    } else if (got == OCT_HTTP_WHOLE) {
        hand_to_workers(c);
    } else {
        return false;
    }
    return true;
}

static bool run_head(oct_http_conn *c) {
    if (c->in.len == 0) return false;
    switch (oct_http_parser_feed(&c->parser, oct_buf_view(&c->in))) {
    case OCT_HTTP_MORE:
        return false;
    case OCT_HTTP_BAD:
        refuse_head(c, c->parser.refusal.status, c->parser.refusal.reason);
        return true;
    case OCT_HTTP_WHOLE:
        begin_exchange(c);
        return true;
    }
    return false;
}

static void run(oct_http_conn *c) {
    bool moved = true;
    while (moved && !c->dead) {
        switch (c->state) {
        case CONN_HEAD:
            moved = run_head(c);
            break;
        case CONN_BODY:
            moved = run_body(c);
            break;
        case CONN_ANSWER:
            moved = run_answer(c);
            break;
        case CONN_REFUSE:
            moved = flush(c);
            if (moved) start_linger(c);
            break;
        case CONN_LINGER:
            moved = false;
            break;
        }
    }
    if (c->state == CONN_ANSWER || c->state == CONN_REFUSE)
        want_read(c, c->state == CONN_ANSWER && c->in.len < READ_AHEAD);
}

void oct_http_conn_run(oct_http_conn *c) {
    if (!c->dead) run(c);
    if (c->dead) oct_http_conn_free(c);
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    oct_http_conn *c = arg;
    char *scratch = c->loop->scratch;
    const ssize_t n = take_bytes(c, scratch, OCT_HTTP_SCRATCH_BYTES);
    if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (n <= 0 || OCT_FAULT(NET_RECEIVE, 0)) {
        oct_http_conn_free(c); /* a half-closed client counts as gone */
        return;
    }
    oct_http_count(&c->loop->shared->bytes_in, (uint64_t)n);
    if (c->state == CONN_LINGER) {
        c->n_thrown += (uint64_t)n;
        if (c->n_thrown > LINGER_BYTES) oct_http_conn_free(c);
        return;
    }
    if (c->state == CONN_HEAD && c->in.len == 0) c->since_ms = c->loop->now_ms;
    oct_buf_add(&c->in, scratch, (size_t)n);
    if (c->in.failed) c->dead = true;
    oct_http_conn_run(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    oct_http_conn *c = arg;
    if (c->tls_wants_write) {
        want_write(c, c->sent < c->out.len);
        on_readable(fd, what, arg);
        return;
    }
    if (c->state == CONN_BODY) (void)flush(c); /* a late 100 */
    oct_http_conn_run(c);
}

static void on_hung_up(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    oct_http_conn_free(arg);
}

/* --- deadlines --- */

static bool past(const oct_http_conn *c, uint64_t since_ms, uint32_t allowed_ms) {
    return c->loop->now_ms - since_ms > allowed_ms;
}

static void time_out(oct_http_conn *c) {
    switch (c->state) {
    case CONN_HEAD:
        if (c->in.len > 0)
            refuse_head(c, 408, "the request head took too long");
        else
            c->dead = true;
        break;
    case CONN_BODY:
        answer_error(c, 408, "the request body took too long");
        break;
    default:
        c->dead = true;
        break;
    }
    oct_http_conn_run(c);
}

/* libevent reports a reset as readable, never as closed; while reading is paused nobody hears it.
 */
static bool was_reset(const oct_http_conn *c) {
    struct pollfd p = {.fd = c->fd};
    return !c->reading && poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP)) != 0;
}

void oct_http_conn_check_deadline(oct_http_conn *c) {
    const oct_http_limits *limits = &c->loop->shared->limits;
    bool late = false;
    if (was_reset(c)) {
        oct_http_conn_free(c);
        return;
    }
    switch (c->state) {
    case CONN_HEAD:
        late =
            past(c, c->since_ms,
                 c->in.len == 0 && c->n_requests > 0 ? limits->keep_alive_ms : limits->header_ms);
        break;
    case CONN_BODY:
        late =
            past(c, c->since_ms, limits->body_ms) || past(c, c->progress_ms, limits->body_idle_ms);
        break;
    case CONN_ANSWER:
    case CONN_REFUSE:
        late = c->writing && past(c, c->progress_ms, limits->stall_ms);
        break;
    case CONN_LINGER:
        late = past(c, c->since_ms, LINGER_MS);
        break;
    }
    if (late) time_out(c);
}
