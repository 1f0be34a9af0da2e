/*
 * net/internal.h - what the files of this room share: the structs behind server.h.
 *
 * Who touches what
 *   conn, loop        only the loop's thread, except loop.mail_* (loop.lock)
 *   exchange          request part: written by the loop thread before guard, then constant;
 *                     answer part: under exchange.lock
 *   shared            atomics; lives until the last exchange is gone
 * Lock order: exchange.lock before loop.lock. No callback runs under a lock.
 */
#ifndef OCT_NET_INTERNAL_H
#define OCT_NET_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include <event2/event.h>

#include "base/queue.h"
#include "base/thread.h"
#include "net/http.h"
#include "net/tls.h"

typedef struct oct_http_conn oct_http_conn;
typedef struct oct_http_loop oct_http_loop;

enum { OCT_HTTP_PEER_TEXT = 64, OCT_HTTP_LISTENERS_MAX = 8 };

/* What exchanges need of the server, counted, because an exchange may outlive it. */
typedef struct oct_http_shared {
    const oct_allocator *mem;
    atomic_uint refs;
    atomic_bool draining;
    oct_http_limits limits;
    void *ctx;
    void (*decorate)(void *ctx, oct_http_exchange *x);
    void (*over)(void *ctx, const oct_http_exchange *x, const oct_http_outcome *outcome);
    atomic_ullong connections, connections_refused, connections_open, exchanges_open, requests,
        answers[6], aborted, bytes_in, bytes_out;
    atomic_ullong body_bytes; /* held by all exchanges */
} oct_http_shared;

typedef enum oct_http_phase { PHASE_FRESH, PHASE_STREAM, PHASE_ENDED } oct_http_phase;

struct oct_http_exchange {
    oct_http_shared *shared;
    atomic_uint refs;  /* memory: users, the connection, the mailbox, on_close */
    atomic_uint users; /* who may still answer */
    atomic_bool closed;

    oct_buf head_bytes, path, body;
    oct_http_head head;
    oct_str query;
    char peer[OCT_HTTP_PEER_TEXT];
    uint64_t arrived_ns, serial;
    size_t body_counted; /* of shared->body_bytes */

    pthread_mutex_t lock; /* all below */
    oct_http_conn *conn;  /* NULL once the exchange is over */
    oct_http_loop *loop;  /* valid while conn is set */
    oct_http_phase phase;
    oct_buf extra;       /* header lines of set_header */
    oct_buf pending;     /* answer bytes that the connection did not take yet */
    size_t in_flight;    /* taken, not yet sent */
    uint64_t body_bytes; /* of the answer, so far */
    int status;
    bool decorated, body_unread, close_after, dropped, posted;
    oct_http_exchange *next_post;
    void (*on_close)(void *ctx, oct_http_end how);
    void *on_close_ctx;
    oct_http_end how;
};

typedef enum oct_http_conn_state {
    CONN_HEAD,   /* reading a head, or idle between requests */
    CONN_BODY,   /* reading the body of x */
    CONN_ANSWER, /* x is being handled or answered */
    CONN_REFUSE, /* sending out, then closing; no exchange */
    CONN_LINGER, /* sent and shut down; what still comes is thrown away for a moment */
} oct_http_conn_state;

struct oct_http_conn {
    oct_http_loop *loop;
    oct_http_conn *prev, *next;
    int fd;
    oct_tls_session *tls; /* NULL: plain */
    bool tls_wants_write; /* reading goes on when the socket takes bytes */
    struct event *readable, *writable, *hung_up;
    bool reading, writing, dead;
    oct_http_conn_state state;
    oct_http_parser parser;
    oct_http_chunked chunked;
    oct_buf in, out;
    size_t sent; /* of out */
    oct_http_exchange *x;
    uint64_t n_requests, n_thrown;
    uint64_t since_ms;    /* when the state began; in CONN_HEAD when its first byte came */
    uint64_t progress_ms; /* last byte read in CONN_BODY, or sent while output waits */
    char peer[OCT_HTTP_PEER_TEXT];
};

struct oct_http_loop {
    oct_http_server *server;
    oct_http_shared *shared;
    struct event_base *base;
    struct event *mail_event, *tick_event;
    int mail_fd;
    oct_thread thread;
    oct_http_conn *conns;
    char *scratch; /* SCRATCH_BYTES, for recv */
    /* Time that only passes while the process runs: a tick never counts for more than four, so
     * that neither a stop of the process nor a stalled machine fires every deadline at once. */
    uint64_t now_ms, tick_seen_ns;
    uint32_t tick_ms;
    uint64_t accept_again_ms; /* 0: accepting */

    pthread_mutex_t lock;
    oct_http_exchange *mail_first, *mail_last;
    oct_http_conn *mail_conns;
    bool stop, stop_accepting;
};

enum { OCT_HTTP_SCRATCH_BYTES = 64 << 10 };

struct oct_http_server {
    const oct_allocator *mem;
    oct_tls_context *tls; /* NULL: plain */
    oct_http_shared *shared;
    void *ctx;
    void (*guard)(void *ctx, oct_http_exchange *x);
    void (*handle)(void *ctx, oct_http_exchange *x);
    char address[300];
    char *uds_path; /* bound by us: unlinked when the listeners close */
    uint64_t uds_inode;
    int listen_fds[OCT_HTTP_LISTENERS_MAX];
    struct event *listen_events[OCT_HTTP_LISTENERS_MAX];
    uint32_t n_listen;
    int reserve_fd; /* given up for a moment to turn a client away when descriptors run out */
    oct_http_loop *loops;
    uint32_t n_loops, next_loop;
    oct_thread *workers;
    uint32_t n_workers;
    oct_queue *queue;
    bool started, stopped;
};

/* listen.c */
OCT_MUST_CHECK oct_status oct_http_listen(oct_http_server *s, const oct_http_config *config,
                                          uint32_t *port, oct_err *err);
/* Closes what is open and removes our own socket path. */
void oct_http_listen_close(oct_http_server *s);
void oct_http_peer_text(const struct sockaddr *addr, socklen_t len, char out[OCT_HTTP_PEER_TEXT]);

/* accept.c */
OCT_MUST_CHECK oct_status oct_http_accept_start(oct_http_server *s, oct_err *err);
/* On loop 0's thread: after a pause; and for good (events freed, sockets closed). */
void oct_http_accept_resume(oct_http_server *s);
void oct_http_accept_stop(oct_http_server *s);

/* loop.c */
OCT_MUST_CHECK oct_status oct_http_loop_init(oct_http_loop *l, oct_http_server *s, oct_err *err);
void oct_http_loop_fini(oct_http_loop *l); /* the thread has ended; accepts a zeroed loop */
void *oct_http_loop_run(void *loop);
/* With x->lock held and x->conn set: the loop will look at x. */
void oct_http_loop_post(oct_http_loop *l, oct_http_exchange *x);
void oct_http_loop_post_conn(oct_http_loop *l, oct_http_conn *c);
/* Sets *flag (stop or stop_accepting) and wakes the loop. */
void oct_http_loop_command(oct_http_loop *l, bool *flag);

/* conn.c */
/* fd becomes the connection's; refused: it gets 503 and is closed (plain connections only). NULL
 * when memory is refused (fd stays the caller's). Call attach on the loop's thread. */
oct_http_conn *oct_http_conn_create(oct_http_loop *l, int fd, const char *peer, bool refused);
void oct_http_conn_attach(oct_http_conn *c);
/* Goes on as far as it can without waiting; c may be freed. */
void oct_http_conn_run(oct_http_conn *c);
void oct_http_conn_check_deadline(oct_http_conn *c);
void oct_http_conn_free(oct_http_conn *c); /* ends its exchange as gone */

/* exchange.c */
oct_http_exchange *oct_http_exchange_create(oct_http_conn *c); /* one user; NULL: no memory */
void oct_http_exchange_unref(oct_http_exchange *x);
/* The loop's end of an exchange, exactly once: counts, frees waiting output, calls on_close. */
void oct_http_exchange_over(oct_http_exchange *x, oct_http_end how);
void oct_http_shared_unref(oct_http_shared *shared);
/* A whole 4xx/5xx answer that closes the connection, for where there is no exchange. */
void oct_http_error_bytes(oct_buf *out, int status, const char *message);

static inline void oct_http_count(atomic_ullong *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
