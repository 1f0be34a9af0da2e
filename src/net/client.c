/* net/client.c - see net/client.h. */
#include "net/client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/num.h"
#include "net/http.h"

enum {
    HEAD_BYTES = 64 << 10,
    BODY_BYTES = 1 << 30,
    READ_BYTES = 64 << 10,
    DEFAULT_TIMEOUT_MS = 600000,
};

struct oct_http_client {
    const oct_allocator *mem;
    char host[256], port[8], prefix[256];
    char path[sizeof((struct sockaddr_un *)0)->sun_path]; /* of a UNIX socket; else empty */
    int timeout_ms, fd;
    bool used;   /* an answer came over this connection before */
    oct_buf in;  /* received, not yet used */
    oct_buf out; /* head of the request */
};

/* How the body of an answer ends. */
typedef struct framing {
    bool none, chunked, has_length, close_after;
    uint64_t length;
} framing;

/* "HOST[:PORT][/PREFIX]", HOST possibly "[v6]". */
static bool read_address(oct_http_client *c, const char *text) {
    const char *end = text + strcspn(text, "/");
    const char *colon = NULL, *host_end = end;
    for (const char *p = text[0] == '[' ? strchr(text, ']') : text; p && p < end; p++)
        if (*p == ':') colon = p;
    if (colon) host_end = colon;
    snprintf(c->prefix, sizeof c->prefix, "%s", end);
    for (size_t n = strlen(c->prefix); n > 0 && c->prefix[n - 1] == '/'; n--) c->prefix[n - 1] = 0;
    uint64_t port = 80;
    const oct_str digits = {colon ? colon + 1 : "", colon ? (size_t)(end - colon - 1) : 0};
    if (colon && (!oct_parse_u64(digits, &port) || port > 65535)) return false;
    if (text[0] == '[' && host_end - text >= 2 && host_end[-1] == ']') {
        text++;
        host_end--;
    }
    const size_t len = (size_t)(host_end - text);
    if (len == 0 || len >= sizeof c->host || strlen(end) >= sizeof c->prefix) return false;
    memcpy(c->host, text, len);
    snprintf(c->port, sizeof c->port, "%u", (unsigned)port);
    return true;
}

oct_status oct_http_client_create(const oct_allocator *mem, const char *address,
                                  uint32_t timeout_ms, oct_http_client **out, oct_err *err) {
    *out = NULL;
    oct_http_client *c = oct_calloc(mem, 1, sizeof *c);
    if (!c) return OCT_FAIL(err, OCT_E_NOMEM, "http client: no memory");
    c->mem = mem;
    c->fd = -1;
    c->timeout_ms = timeout_ms > 0 && timeout_ms < 1u << 30 ? (int)timeout_ms : DEFAULT_TIMEOUT_MS;
    oct_buf_init(&c->in, mem, 0);
    oct_buf_init(&c->out, mem, 0);
    bool ok = false;
    if (strncmp(address, "unix:", 5) == 0) {
        const size_t len = strlen(address + 5);
        ok = len > 0 && len < sizeof c->path;
        if (ok) memcpy(c->path, address + 5, len);
        snprintf(c->host, sizeof c->host, "localhost");
    } else if (strncmp(address, "http://", 7) == 0) {
        ok = read_address(c, address + 7);
    }
    if (!ok) {
        oct_http_client_destroy(c);
        return OCT_FAIL(err, OCT_E_INVALID,
                        "address must be http://HOST[:PORT] or unix:PATH (got %.200s)", address);
    }
    *out = c;
    return OCT_OK;
}

static void hang_up(oct_http_client *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->used = false;
    oct_buf_clear(&c->in);
}

void oct_http_client_destroy(oct_http_client *c) {
    if (!c) return;
    hang_up(c);
    oct_buf_fini(&c->in);
    oct_buf_fini(&c->out);
    oct_free(c->mem, c, 1, sizeof *c);
}

void oct_http_reply_init(oct_http_reply *r, const oct_allocator *mem) {
    r->status = 0;
    oct_buf_init(&r->head, mem, HEAD_BYTES);
    oct_buf_init(&r->body, mem, BODY_BYTES);
}

void oct_http_reply_fini(oct_http_reply *r) {
    oct_buf_fini(&r->head);
    oct_buf_fini(&r->body);
}

oct_str oct_http_reply_header(const oct_http_reply *r, const char *name) {
    const oct_str head = oct_buf_view(&r->head);
    for (size_t at = 0; at < head.len;) {
        const char *end = memmem(head.ptr + at, head.len - at, "\r\n", 2);
        if (!end) break;
        const oct_str line = {head.ptr + at, (size_t)(end - head.ptr) - at};
        const char *colon = line.len > 0 ? memchr(line.ptr, ':', line.len) : NULL;
        if (colon && oct_http_same_name((oct_str){line.ptr, (size_t)(colon - line.ptr)}, name)) {
            oct_str v = {colon + 1, line.len - (size_t)(colon - line.ptr) - 1};
            while (v.len > 0 && v.ptr[0] == ' ') v = (oct_str){v.ptr + 1, v.len - 1};
            while (v.len > 0 && v.ptr[v.len - 1] == ' ') v.len--;
            return v;
        }
        at += line.len + 2;
    }
    return (oct_str){NULL, 0};
}

/* --- the connection --- */

static bool wait_for(const oct_http_client *c, short events) {
    struct pollfd p = {.fd = c->fd, .events = events};
    int got;
    do got = poll(&p, 1, c->timeout_ms);
    while (got < 0 && errno == EINTR);
    if (got == 0) errno = ETIMEDOUT;
    return got > 0;
}

/* True when fd got connected within the time allowed; else errno says why not. */
static bool finish_connect(oct_http_client *c, const struct sockaddr *addr, socklen_t len) {
    int why = 0;
    socklen_t size = sizeof why;
    if (connect(c->fd, addr, len) == 0) return true;
    if (errno != EINPROGRESS && errno != EAGAIN) return false;
    if (!wait_for(c, POLLOUT)) return false;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &why, &size) != 0) return false;
    errno = why;
    return why == 0;
}

static bool try_connect(oct_http_client *c, int family, const struct sockaddr *addr,
                        socklen_t len) {
    const int on = 1;
    c->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0) return false;
    if (finish_connect(c, addr, len)) {
        if (family != AF_UNIX) (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        return true;
    }
    const int why = errno;
    hang_up(c);
    errno = why;
    return false;
}

static oct_status open_connection(oct_http_client *c, oct_err *err) {
    if (c->path[0]) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        memcpy(addr.sun_path, c->path, sizeof addr.sun_path);
        if (try_connect(c, AF_UNIX, (const struct sockaddr *)&addr, sizeof addr)) return OCT_OK;
        return OCT_FAIL(err, OCT_E_IO, "%s: cannot connect: %s", c->path, strerror(errno));
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    const int got = getaddrinfo(c->host, c->port, &hints, &list);
    if (got != 0)
        return OCT_FAIL(err, OCT_E_IO, "%s: does not resolve: %s", c->host, gai_strerror(got));
    bool ok = false;
    for (const struct addrinfo *a = list; a && !ok; a = a->ai_next)
        ok = try_connect(c, a->ai_family, a->ai_addr, a->ai_addrlen);
    const int why = errno;
    freeaddrinfo(list);
    if (ok) return OCT_OK;
    return OCT_FAIL(err, OCT_E_IO, "%s port %s: cannot connect: %s", c->host, c->port,
                    strerror(why));
}

static bool send_all(oct_http_client *c, oct_str bytes) {
    for (size_t at = 0; at < bytes.len;) {
        const ssize_t n = send(c->fd, bytes.ptr + at, bytes.len - at, MSG_NOSIGNAL);
        if (n > 0)
            at += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!wait_for(c, POLLOUT)) return false;
        } else if (errno != EINTR)
            return false;
    }
    return true;
}

/* Adds to in. 1: some bytes; 0: the end; -1: errno. */
static int receive(oct_http_client *c) {
    if (!oct_buf_reserve(&c->in, READ_BYTES)) {
        errno = ENOMEM;
        return -1;
    }
    for (;;) {
        const ssize_t n = recv(c->fd, c->in.data + c->in.len, READ_BYTES, 0);
        if (n > 0) {
            c->in.len += (size_t)n;
            c->in.data[c->in.len] = '\0';
            return 1;
        }
        if (n == 0) return 0;
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) return -1;
        if (!wait_for(c, POLLIN)) return -1;
    }
}

/* --- the request --- */

static oct_status send_call(oct_http_client *c, const oct_http_call *call, oct_err *err) {
    oct_buf *b = &c->out;
    oct_buf_clear(b);
    const bool v6 = strchr(c->host, ':') != NULL;
    oct_buf_printf(b, "%s %s%s HTTP/1.1\r\nHost: %s%s%s%s%s\r\n", call->method, c->prefix,
                   call->path, v6 ? "[" : "", c->host, v6 ? "]" : "", c->path[0] ? "" : ":",
                   c->port);
    if (call->content_type) oct_buf_printf(b, "Content-Type: %s\r\n", call->content_type);
    if (call->content_type || call->body.len > 0)
        oct_buf_printf(b, "Content-Length: %zu\r\n", call->body.len);
    if (call->headers) oct_buf_cstr(b, call->headers);
    oct_buf_cstr(b, "\r\n");
    if (b->failed) return OCT_FAIL(err, OCT_E_NOMEM, "http client: no memory");
    /* A failed send is not the last word: the server may have answered before it closed. */
    if (send_all(c, oct_buf_view(b))) (void)send_all(c, call->body);
    return OCT_OK;
}

/* --- the answer --- */

static oct_status fail_receive(const oct_http_client *c, int got, oct_err *err) {
    return OCT_FAIL(err, OCT_E_IO, "%s: %s", c->path[0] ? c->path : c->host,
                    got == 0 ? "the server closed the connection early" : strerror(errno));
}

/* Status line and fields of one answer, moved from in to r->head. */
static oct_status read_head(oct_http_client *c, oct_http_reply *r, oct_err *err) {
    const char *end;
    while (!(end = c->in.len > 0 ? memmem(c->in.data, c->in.len, "\r\n\r\n", 4) : NULL)) {
        if (c->in.len > HEAD_BYTES)
            return OCT_FAIL(err, OCT_E_INVALID, "%s: the head of the answer is too large", c->host);
        const int got = receive(c);
        if (got <= 0) return fail_receive(c, got, err);
    }
    const size_t head = (size_t)(end - c->in.data) + 4;
    const char *line_end = memmem(c->in.data, head, "\r\n", 2);
    const size_t line = (size_t)(line_end - c->in.data);
    int64_t status = 0;
    if (line < 12 || memcmp(c->in.data, "HTTP/1.", 7) != 0 ||
        !oct_parse_i64((oct_str){c->in.data + 9, 3}, &status) || status < 100 || status > 599)
        return OCT_FAIL(err, OCT_E_INVALID, "%s: the answer is not HTTP/1.1", c->host);
    r->status = (int)status;
    oct_buf_clear(&r->head);
    oct_buf_add(&r->head, line_end + 2, head - line - 4);
    oct_buf_consume(&c->in, head);
    if (r->head.failed) return OCT_FAIL(err, OCT_E_NOMEM, "http client: no memory");
    return OCT_OK;
}

static oct_status read_framing(const oct_http_call *call, const oct_http_reply *r, framing *f,
                               oct_err *err) {
    const oct_str coding = oct_http_reply_header(r, "Transfer-Encoding");
    const oct_str length = oct_http_reply_header(r, "Content-Length");
    *f = (framing){0};
    f->none = strcmp(call->method, "HEAD") == 0 || r->status == 204 || r->status == 304;
    f->chunked = coding.ptr != NULL;
    f->has_length = length.ptr != NULL;
    f->close_after = oct_http_same_name(oct_http_reply_header(r, "Connection"), "close") ||
                     (!f->none && !f->chunked && !f->has_length);
    if ((f->chunked && !oct_http_same_name(coding, "chunked")) ||
        (f->has_length && !oct_parse_u64(length, &f->length)))
        return OCT_FAIL(err, OCT_E_INVALID, "http client: the answer's framing is not understood");
    return OCT_OK;
}

static oct_status give(const oct_http_call *call, oct_http_reply *r, oct_str bytes, oct_err *err) {
    if (bytes.len == 0) return OCT_OK;
    if (call->on_data && r->status / 100 == 2) return call->on_data(call->ctx, bytes);
    oct_buf_str(&r->body, bytes);
    if (r->body.failed) return OCT_FAIL(err, OCT_E_NOMEM, "http client: the answer is too large");
    return OCT_OK;
}

static oct_status read_chunks(oct_http_client *c, const oct_http_call *call, oct_http_reply *r,
                              oct_err *err) {
    oct_http_chunked d;
    oct_buf piece;
    oct_status status = OCT_OK;
    oct_http_progress got = OCT_HTTP_MORE;
    /* The limit on framing is for strangers: a stream of tokens is nearly all framing. */
    oct_http_chunked_init(&d, BODY_BYTES);
    oct_buf_init(&piece, c->mem, 0);
    while (status == OCT_OK && got == OCT_HTTP_MORE) {
        size_t used = 0;
        d.framing_bytes = 0;
        got = oct_http_chunked_feed(&d, oct_buf_view(&c->in), &used, &piece);
        oct_buf_consume(&c->in, used);
        if (got == OCT_HTTP_BAD || piece.failed) {
            status = OCT_FAIL(err, OCT_E_INVALID, "http client: broken chunks in the answer");
            break;
        }
        status = give(call, r, oct_buf_view(&piece), err);
        oct_buf_clear(&piece);
        if (status != OCT_OK || got != OCT_HTTP_MORE) break;
        const int n = receive(c);
        if (n <= 0) status = fail_receive(c, n, err);
    }
    oct_buf_fini(&piece);
    return status;
}

static oct_status read_plain(oct_http_client *c, const framing *f, const oct_http_call *call,
                             oct_http_reply *r, oct_err *err) {
    uint64_t left = f->has_length ? f->length : UINT64_MAX;
    while (left > 0) {
        const size_t n = left < c->in.len ? (size_t)left : c->in.len;
        OCT_TRY(give(call, r, (oct_str){oct_buf_cs(&c->in), n}, err));
        oct_buf_consume(&c->in, n);
        left -= n;
        if (left == 0) break;
        const int got = receive(c);
        if (got == 0 && !f->has_length) return OCT_OK;
        if (got <= 0) return fail_receive(c, got, err);
    }
    return OCT_OK;
}

static oct_status read_answer(oct_http_client *c, const oct_http_call *call, oct_http_reply *r,
                              oct_err *err) {
    do OCT_TRY(read_head(c, r, err));
    while (r->status < 200);
    framing f;
    OCT_TRY(read_framing(call, r, &f, err));
    if (f.chunked && !f.none)
        OCT_TRY(read_chunks(c, call, r, err));
    else if (!f.none)
        OCT_TRY(read_plain(c, &f, call, r, err));
    c->used = true;
    if (f.close_after) hang_up(c);
    return OCT_OK;
}

/* One attempt; *again: the kept connection was dead before it gave a byte. */
static oct_status attempt(oct_http_client *c, const oct_http_call *call, oct_http_reply *r,
                          bool *again, oct_err *err) {
    const bool kept = c->fd >= 0 && c->used;
    *again = false;
    if (c->fd < 0) OCT_TRY(open_connection(c, err));
    OCT_TRY(send_call(c, call, err));
    if (kept && receive(c) <= 0) {
        *again = errno != ETIMEDOUT;
        return fail_receive(c, -1, *again ? NULL : err);
    }
    return read_answer(c, call, r, err);
}

oct_status oct_http_client_call(oct_http_client *c, const oct_http_call *call, oct_http_reply *r,
                                oct_err *err) {
    bool again = false;
    for (int i = 0; i < 2; i++) {
        r->status = 0;
        oct_buf_clear(&r->head);
        oct_buf_clear(&r->body);
        const oct_status status = attempt(c, call, r, &again, err);
        if (status == OCT_OK) return OCT_OK;
        hang_up(c);
        if (!again) return status;
    }
    return OCT_FAIL(err, OCT_E_IO, "%s: the server closes every connection", c->host);
}
