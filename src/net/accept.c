/*
 * net/accept.c - new connections: taken on loop 0, dealt to the loops in turn, turned away when
 * there are too many or no descriptor is left (bad-input HT11).
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/log.h"
#include "net/internal.h"

enum {
    ACCEPTS_A_TURN = 64,  /* then the other connections have their turn */
    TURNED_AWAY_MAX = 64, /* connections beyond the limit that get their 503 in peace */
    PAUSE_MS = 100,
};

static void pause_accepting(oct_http_server *s) {
    for (uint32_t i = 0; i < s->n_listen; i++)
        if (s->listen_events[i]) (void)event_del(s->listen_events[i]);
    s->loops[0].accept_again_ms = s->loops[0].now_ms + PAUSE_MS;
}

void oct_http_accept_resume(oct_http_server *s) {
    for (uint32_t i = 0; i < s->n_listen; i++)
        if (s->listen_events[i]) (void)event_add(s->listen_events[i], NULL);
}

void oct_http_accept_stop(oct_http_server *s) {
    for (uint32_t i = 0; i < s->n_listen; i++) {
        if (s->listen_events[i]) event_free(s->listen_events[i]);
        s->listen_events[i] = NULL;
    }
    oct_http_listen_close(s);
}

/* Says 503 without waiting; what does not fit into the socket is lost. */
static void turn_away_now(oct_http_server *s, int fd) {
    oct_buf out;
    oct_buf_init(&out, s->mem, 0);
    /* Within TLS it cannot be said without a handshake. */
    if (!s->tls) oct_http_error_bytes(&out, 503, "too many connections");
    if (out.len > 0) (void)!send(fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    oct_buf_fini(&out);
    (void)shutdown(fd, SHUT_WR);
    close(fd);
    oct_http_count(&s->shared->connections_refused, 1);
}

/* No descriptor is left. The reserved one is given up for a moment, so that the client hears 503
 * and the backlog moves on. EAGAIN: nobody was waiting (the system looks for a descriptor first);
 * 0: one was turned away; else nothing could be done. */
static int turn_away_from_reserve(oct_http_server *s, int listen_fd) {
    if (s->reserve_fd < 0) s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (s->reserve_fd < 0) return EMFILE;
    close(s->reserve_fd);
    s->reserve_fd = -1;
    const int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    const int why = fd >= 0 ? 0 : errno;
    if (fd >= 0) turn_away_now(s, fd);
    s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return why;
}

static void set_options(int fd, const struct sockaddr_storage *addr) {
    const int on = 1;
    if (addr->ss_family == AF_UNIX) return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

static void take(oct_http_server *s, int fd, const struct sockaddr_storage *addr, socklen_t len) {
    oct_http_shared *shared = s->shared;
    const uint64_t n_open = atomic_load(&shared->connections_open);
    const bool refused = n_open >= shared->limits.connections;
    if (refused && (s->tls || n_open >= (uint64_t)shared->limits.connections + TURNED_AWAY_MAX)) {
        turn_away_now(s, fd);
        return;
    }
    char peer[OCT_HTTP_PEER_TEXT];
    oct_http_peer_text((const struct sockaddr *)addr, len, peer);
    set_options(fd, addr);
    oct_http_loop *l = &s->loops[s->next_loop++ % s->n_loops];
    oct_http_conn *c = oct_http_conn_create(l, fd, peer, refused);
    if (!c) {
        turn_away_now(s, fd);
        return;
    }
    oct_http_count(refused ? &shared->connections_refused : &shared->connections, 1);
    if (refused) oct_http_count(&shared->answers[5], 1);
    if (l == &s->loops[0])
        oct_http_conn_attach(c);
    else
        oct_http_loop_post_conn(l, c);
}

static void on_listener(evutil_socket_t listen_fd, short what, void *arg) {
    (void)what;
    oct_http_server *s = arg;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage addr = {0};
        socklen_t len = sizeof addr;
        const int fd =
            accept4((int)listen_fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(s, fd, &addr, len);
            continue;
        }
        int why = errno;
        if (why == EMFILE || why == ENFILE) why = turn_away_from_reserve(s, (int)listen_fd);
        if (why == EAGAIN || why == EWOULDBLOCK) return;
        if (why != EMFILE && why != ENFILE && why != ENOBUFS && why != ENOMEM)
            continue; /* turned away, or that client is gone already, or EINTR */
        oct_warn("http: cannot accept: %s; pausing", strerror(why));
        pause_accepting(s);
        return;
    }
}

oct_status oct_http_accept_start(oct_http_server *s, oct_err *err) {
    for (uint32_t i = 0; i < s->n_listen; i++) {
        s->listen_events[i] =
            event_new(s->loops[0].base, s->listen_fds[i], EV_READ | EV_PERSIST, on_listener, s);
        if (!s->listen_events[i] || event_add(s->listen_events[i], NULL) != 0)
            return OCT_FAIL(err, OCT_E_NOMEM, "http: no memory to accept connections");
    }
    return OCT_OK;
}
