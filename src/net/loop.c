/* net/loop.c - an event loop: its thread, its mailbox, its tick; see net/internal.h. */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "net/internal.h"

enum { TICK_MAX_MS = 250, TICK_MIN_MS = 5, LATE_TICKS = 4 };

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Fine enough for the shortest deadline. */
static uint32_t tick_of(const oct_http_limits *limits) {
    uint32_t ms = least(limits->header_ms, limits->body_idle_ms);
    ms = least(ms, least(limits->body_ms, limits->keep_alive_ms));
    ms = least(ms, limits->stall_ms) / 8;
    if (ms < TICK_MIN_MS) return TICK_MIN_MS;
    return least(ms, TICK_MAX_MS);
}

static void on_tick(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    oct_http_loop *l = arg;
    const uint64_t now_ns = oct_now_ns();
    const uint64_t passed_ms = (now_ns - l->tick_seen_ns) / 1000000;
    l->tick_seen_ns += passed_ms * 1000000;
    const uint64_t counts_ms = (uint64_t)l->tick_ms * LATE_TICKS;
    l->now_ms += passed_ms < counts_ms ? passed_ms : counts_ms;
    for (oct_http_conn *c = l->conns, *next; c; c = next) {
        next = c->next; /* only c itself can be freed by its own check */
        oct_http_conn_check_deadline(c);
    }
    if (l->accept_again_ms != 0 && l->now_ms >= l->accept_again_ms) {
        l->accept_again_ms = 0;
        oct_http_accept_resume(l->server);
    }
}

static void run_posted(oct_http_exchange *first) {
    while (first) {
        oct_http_exchange *x = first;
        first = x->next_post;
        pthread_mutex_lock(&x->lock);
        x->posted = false;
        oct_http_conn *c = x->conn;
        pthread_mutex_unlock(&x->lock);
        if (c) oct_http_conn_run(c);
        oct_http_exchange_unref(x);
    }
}

static void on_mail(evutil_socket_t fd, short what, void *arg) {
    (void)what;
    oct_http_loop *l = arg;
    uint64_t n;
    while (read((int)fd, &n, sizeof n) < 0 && errno == EINTR) {
    }
    pthread_mutex_lock(&l->lock);
    oct_http_exchange *posted = l->mail_first;
    oct_http_conn *conns = l->mail_conns;
    const bool stop = l->stop, stop_accepting = l->stop_accepting;
    l->mail_first = l->mail_last = NULL;
    l->mail_conns = NULL;
    pthread_mutex_unlock(&l->lock);
    if ((stop || stop_accepting) && l == &l->server->loops[0]) oct_http_accept_stop(l->server);
    while (conns) {
        oct_http_conn *c = conns;
        conns = c->next;
        c->next = NULL;
        oct_http_conn_attach(c);
    }
    run_posted(posted);
    if (stop) (void)event_base_loopbreak(l->base);
}

static void wake(const oct_http_loop *l) {
    const uint64_t one = 1;
    while (write(l->mail_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

void oct_http_loop_post(oct_http_loop *l, oct_http_exchange *x) {
    OCT_ASSERT(x->conn);
    if (x->posted) return;
    x->posted = true;
    x->next_post = NULL;
    atomic_fetch_add(&x->refs, 1);
    pthread_mutex_lock(&l->lock);
    const bool first = l->mail_first == NULL;
    if (first)
        l->mail_first = x;
    else
        l->mail_last->next_post = x;
    l->mail_last = x;
    pthread_mutex_unlock(&l->lock);
    if (first) wake(l); /* one wake-up for all that is posted until the loop looks */
}

void oct_http_loop_post_conn(oct_http_loop *l, oct_http_conn *c) {
    pthread_mutex_lock(&l->lock);
    c->next = l->mail_conns;
    l->mail_conns = c;
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

void oct_http_loop_command(oct_http_loop *l, bool *flag) {
    pthread_mutex_lock(&l->lock);
    *flag = true;
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

/* Whether the process may open what an event base needs: libevent ends the process when it cannot
 * make its pair of sockets for signals. */
static bool has_descriptors(void) {
    int fds[8];
    size_t n = 0;
    while (n < OCT_COUNT(fds) && (fds[n] = eventfd(0, EFD_CLOEXEC)) >= 0) n++;
    const bool enough = n == OCT_COUNT(fds);
    const int why = errno;
    while (n > 0) close(fds[--n]);
    errno = why;
    return enough;
}

static struct event_base *new_base(void) {
    struct event_config *cfg = event_config_new();
    if (!cfg) return NULL;
    /* Early close is how a client's going is seen while its bytes are left unread. */
    struct event_base *base = NULL;
    if (event_config_require_features(cfg, EV_FEATURE_EARLY_CLOSE) == 0 &&
        event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK) == 0)
        base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    return base;
}

oct_status oct_http_loop_init(oct_http_loop *l, oct_http_server *s, oct_err *err) {
    l->server = s;
    l->shared = s->shared;
    l->mail_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&l->lock, NULL);
    if (l->mail_fd < 0)
        return OCT_FAIL(err, OCT_E_IO, "http: cannot make an event descriptor: %s",
                        strerror(errno));
    if (!has_descriptors())
        return OCT_FAIL(err, OCT_E_IO, "http: too few descriptors (RLIMIT_NOFILE): %s",
                        strerror(errno));
    l->base = new_base();
    if (!l->base) return OCT_FAIL(err, OCT_E_IO, "http: cannot make an event loop");
    l->scratch = oct_alloc(s->mem, OCT_HTTP_SCRATCH_BYTES, 1);
    l->mail_event = event_new(l->base, l->mail_fd, EV_READ | EV_PERSIST, on_mail, l);
    l->tick_event = event_new(l->base, -1, EV_PERSIST, on_tick, l);
    l->tick_ms = tick_of(&s->shared->limits);
    l->tick_seen_ns = oct_now_ns();
    l->now_ms = 1;
    const struct timeval tick = {.tv_usec = (suseconds_t)l->tick_ms * 1000};
    if (!l->scratch || !l->mail_event || !l->tick_event || event_add(l->mail_event, NULL) != 0 ||
        event_add(l->tick_event, &tick) != 0)
        return OCT_FAIL(err, OCT_E_NOMEM, "http: no memory for an event loop");
    return OCT_OK;
}

void *oct_http_loop_run(void *loop) {
    oct_http_loop *l = loop;
    (void)event_base_dispatch(l->base);
    while (l->conns) oct_http_conn_free(l->conns);
    return NULL;
}

void oct_http_loop_fini(oct_http_loop *l) {
    if (!l->server) return;
    while (l->mail_first) {
        oct_http_exchange *x = l->mail_first;
        l->mail_first = x->next_post;
        oct_http_exchange_unref(x);
    }
    while (l->mail_conns) {
        oct_http_conn *c = l->mail_conns;
        l->mail_conns = c->next;
        c->next = NULL;
        oct_http_conn_free(c);
    }
    if (l->mail_event) event_free(l->mail_event);
    if (l->tick_event) event_free(l->tick_event);
    if (l->base) event_base_free(l->base);
    if (l->mail_fd >= 0) close(l->mail_fd);
    oct_free(l->server->mem, l->scratch, OCT_HTTP_SCRATCH_BYTES, 1);
    pthread_mutex_destroy(&l->lock);
    *l = (oct_http_loop){0};
}
