/*
 * net/server.h - an HTTP/1.1 server that knows nothing of what it serves.
 *
 * One request and its answer is an oct_http_exchange. Its life:
 *
 *   head complete -> guard (loop thread, may answer; the body is then not read)
 *   body complete -> handle (worker thread) -> one whole answer, or begin / write ... / end
 *                                              now, or later from any thread that holds a reference
 *   over          -> on_close, exactly once: the answer has left, or the client has
 *
 * A connection has one exchange at a time; pipelined requests wait their turn. A client that
 * closes, resets or half-closes is gone in every state, queued ones included.
 *
 * What cannot be read as HTTP is answered here: 400, 408, 413, 414, 415, 417, 431, 501, 503, 505
 * with the body {"error":{"message","type","param":null,"code"}}; the rows are HT1-HT14 of the
 * bad-input table. Paths, keys, JSON and routing are the caller's.
 *
 * Ownership  The server owns connections; exchanges are counted. Threads: every function on an
 * exchange may be called from any thread, at any time; functions on the server say theirs.
 * Elsewhere: the parser is net/http.h (pure functions), the blocking client net/client.h.
 */
#ifndef OCT_NET_SERVER_H
#define OCT_NET_SERVER_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"

typedef struct oct_http_server oct_http_server;
typedef struct oct_http_exchange oct_http_exchange;

typedef enum oct_http_method {
    OCT_HTTP_GET,
    OCT_HTTP_HEAD,
    OCT_HTTP_POST,
    OCT_HTTP_PUT,
    OCT_HTTP_DELETE,
    OCT_HTTP_PATCH,
    OCT_HTTP_OPTIONS,
} oct_http_method;

/* "GET", ...; for Allow fields and messages. */
const char *oct_http_method_name(oct_http_method m);

/* Every field must be set; oct_http_limits_default gives the table's values. */
typedef struct oct_http_limits {
    size_t request_line_bytes;  /* 8 KiB -> 414 */
    size_t header_bytes;        /* 64 KiB, all fields together -> 431 */
    uint32_t header_fields;     /* 128 -> 431 */
    size_t body_bytes;          /* 32 MiB -> 413 */
    size_t body_total_bytes;    /* 1 GiB, bodies of all exchanges together -> 503 */
    uint32_t connections;       /* 1024 -> 503 */
    uint32_t header_ms;         /* 10 s from the first byte (or from accept) -> 408 or close */
    uint32_t body_idle_ms;      /* 10 s without a byte -> 408 */
    uint32_t body_ms;           /* 120 s in all -> 408 */
    uint32_t keep_alive_ms;     /* 5 s between requests -> close */
    size_t stream_unsent_bytes; /* 4 MiB not yet taken by the client -> dropped */
    uint32_t stall_ms;          /* 30 s in which the client takes nothing -> dropped */
} oct_http_limits;

extern const oct_http_limits oct_http_limits_default;

/* Files in PEM form. */
typedef struct oct_http_tls {
    const char *certfile; /* the server's certificate and what it was signed with */
    const char *keyfile;  /* NULL: the key is in certfile */
    const char *ca_certs; /* whom clients' certificates are from; NULL: none are asked for */
    uint32_t cert_reqs;   /* of clients: 0 none, 1 if they have one, 2 wanted */
    const char *ciphers;  /* for TLS 1.2; NULL: OpenSSL's own choice */
} oct_http_tls;

/* What became of an exchange. */
typedef struct oct_http_outcome {
    int status;           /* of the answer; 0: none was begun */
    bool gone;            /* the client left, or was dropped, before all of it was sent */
    uint64_t body_bytes;  /* of the answer, chunk framing not counted */
    uint64_t duration_ns; /* since the head of the request was complete */
} oct_http_outcome;

typedef struct oct_http_config {
    const char *host;        /* name or literal, IPv6 too; NULL or "": all interfaces */
    uint32_t port;           /* 0: chosen by the system */
    const char *uds_path;    /* not NULL: a UNIX socket instead of host and port */
    const oct_http_tls *tls; /* NULL: plain HTTP; read by bind */
    oct_http_limits limits;
    uint32_t n_loops;   /* event loop threads; 0: 1 */
    uint32_t n_workers; /* threads that call handle; 0: 2 */
    void *ctx;          /* passed to the three below */
    /* Called when the head of a request is complete, on a loop thread: must not block. It may
     * answer with oct_http_respond; else it does nothing and the body is read. May be NULL. */
    void (*guard)(void *ctx, oct_http_exchange *x);
    /* Called with the whole request on a worker thread. x is borrowed for the call: to answer later
     * take oct_http_acquire. An exchange whose last reference goes without an answer gets 500. */
    void (*handle)(void *ctx, oct_http_exchange *x);
    /* Adds header fields (oct_http_set_header) to an answer that is about to begin: CORS. Called
     * from any thread, for the built-in answers too, except where no head could be read. May be
     * NULL. */
    void (*decorate)(void *ctx, oct_http_exchange *x);
    /* Called once for every exchange, on a loop thread, when it is over: for counts. Must not
     * block. May be NULL. */
    void (*over)(void *ctx, const oct_http_exchange *x, const oct_http_outcome *outcome);
} oct_http_config;

/* --- server; these are called by one owning thread, never from guard or handle --- */

/* Binds and listens, so that an occupied address fails before anything slow is done. *port: the one
 * in use (0 for a UNIX socket). OCT_E_INVALID: configuration (port beyond 65535, name that does not
 * resolve, socket path too long); OCT_E_IO: the system refused (in use, no right, path held by a
 * plain file or by a live server; a stale socket is replaced). The config is copied, its strings
 * included. */
OCT_MUST_CHECK oct_status oct_http_server_bind(const oct_allocator *mem,
                                               const oct_http_config *config, oct_http_server **out,
                                               uint32_t *port, oct_err *err);
/* "http://127.0.0.1:8000", "https://..." or "unix:PATH": for the log. Valid until destroy. */
const char *oct_http_server_address(const oct_http_server *s);
/* Starts the threads. Until then connections wait in the backlog. */
OCT_MUST_CHECK oct_status oct_http_server_start(oct_http_server *s, oct_err *err);
/* Answers carry "Connection: close" from now on; connections are still taken, so that whoever asks
 * can be told. */
void oct_http_server_begin_drain(oct_http_server *s);
/* Stops accepting; answers carry "Connection: close"; waits until no exchange is open or for
 * wait_ms. OCT_E_CANCELLED: some were still open. Requests on connections that exist are still
 * handled, so that the caller can say 503. */
OCT_MUST_CHECK oct_status oct_http_server_drain(oct_http_server *s, uint32_t wait_ms);
/* Closes every connection (open exchanges become closed), ends and joins the threads. A handle call
 * that runs is waited for. May be called twice. */
void oct_http_server_stop(oct_http_server *s);
/* Stops and frees; accepts NULL. Exchanges still held stay valid and are closed. */
void oct_http_server_destroy(oct_http_server *s);

typedef struct oct_http_stats {
    uint64_t connections, connections_refused; /* accepted; turned away at the limit */
    uint64_t connections_open, exchanges_open; /* now */
    uint64_t requests;                         /* heads read whole */
    uint64_t answers[6];                       /* by status class: [2] is 2xx; [0]: none was sent */
    uint64_t aborted;                          /* exchanges whose client went first, or stalled */
    uint64_t bytes_in, bytes_out;
} oct_http_stats;

/* From any thread. */
void oct_http_server_stats(const oct_http_server *s, oct_http_stats *out);

/* --- the request; constant once guard or handle sees it; spans live as long as the exchange --- */

void oct_http_acquire(oct_http_exchange *x);
/* Accepts NULL. */
void oct_http_release(oct_http_exchange *x);

oct_http_method oct_http_request_method(const oct_http_exchange *x);
/* Normalised: percent-decoded once, valid UTF-8, one slash between segments, none at the end, no
 * "." or ".." segments; "/" at least ("*" for OPTIONS *). The only path there is: for routing and
 * for key checks. */
oct_str oct_http_request_path(const oct_http_exchange *x);
/* As sent, without '?'; empty when absent. */
oct_str oct_http_request_query(const oct_http_exchange *x);
/* The first field of that name (case-insensitive), trimmed; {NULL, 0} when absent. Host,
 * Content-Type, Content-Length and Authorization never occur twice (that is a 400). */
oct_str oct_http_request_header(const oct_http_exchange *x, const char *name);
/* Empty in guard. */
oct_str oct_http_request_body(const oct_http_exchange *x);
/* "127.0.0.1:40000", "[::1]:40000" or "unix". */
const char *oct_http_request_peer(const oct_http_exchange *x);
/* oct_now_ns when the head was complete. */
uint64_t oct_http_request_arrived_ns(const oct_http_exchange *x);
/* A number of its own for each exchange of the process, from 1; for logs. */
uint64_t oct_http_request_serial(const oct_http_exchange *x);

/* --- the answer --- */

/* Before respond or stream_begin. Control characters in value become '?', so a value from outside
 * cannot make a second field. Content-Type, Content-Length, Connection, Date and Transfer-Encoding
 * are the server's. */
void oct_http_set_header(oct_http_exchange *x, const char *name, oct_str value);

/* The whole answer. body is copied; HEAD sends its length only. status 200-599; 204 and 304 have no
 * body. content_type may be NULL. OCT_E_CANCELLED: the client is gone; OCT_E_INVALID: an answer was
 * already begun; OCT_E_NOMEM: the client is dropped. A caller may ignore the status: on_close tells
 * the end in every case. */
oct_status oct_http_respond(oct_http_exchange *x, int status, const char *content_type,
                            oct_str body);

/* An answer in pieces (chunked; to an HTTP/1.0 client until close). begin sends the head at once.
 */
oct_status oct_http_stream_begin(oct_http_exchange *x, int status, const char *content_type);
/* Never blocks. OCT_E_CANCELLED: the client is gone, stalled, or holds limits.stream_unsent_bytes
 * unread (it is dropped then). An empty span writes nothing. */
oct_status oct_http_stream_write(oct_http_exchange *x, oct_str bytes);
/* close_after: the connection ends with the stream (after an error event). */
oct_status oct_http_stream_end(oct_http_exchange *x, bool close_after);

/* {"error":{"message":...,"type":...,"param":null,"code":status}} with the usual type of status
 * ("Bad Request" for 4xx, "InternalServerError", "ServiceUnavailableError" for 503, which also
 * gets Retry-After: 1). close_after as above. */
oct_status oct_http_respond_error(oct_http_exchange *x, int status, const char *message,
                                  bool close_after);

/* --- the end --- */

typedef enum oct_http_end {
    OCT_HTTP_SENT, /* the whole answer was taken by the system's socket */
    OCT_HTTP_GONE, /* client gone or dropped, or server stopped, before that */
} oct_http_end;

/* True as soon as the exchange is over, either way. Cheap: one atomic read. */
bool oct_http_is_closed(const oct_http_exchange *x);
/* fn is called exactly once: when the exchange is over, on a loop thread; at once, on this thread,
 * if it already is. It must not block; it may call functions on x. Set it once an exchange. x must
 * be held by the caller; it is held for fn until it was called. */
void oct_http_on_close(oct_http_exchange *x, void (*fn)(void *ctx, oct_http_end how), void *ctx);

#endif
