/*
 * net/client.h - a small blocking HTTP/1.1 client for our own commands (run-batch) and tests:
 * one kept-alive connection, requests one after another, answers whole or piece by piece.
 *
 * Not for strangers' servers: no TLS, no redirects, no compression. Sizes and times are bounded all
 * the same.
 *
 * Ownership  The client owns its connection, the caller its reply. Threads: one at a time per
 * client. Elsewhere: event streams are read with codec/sse.h from on_data.
 */
#ifndef OCT_NET_CLIENT_H
#define OCT_NET_CLIENT_H

#include "net/server.h"

typedef struct oct_http_client oct_http_client;

typedef struct oct_http_reply {
    int status;
    oct_buf head; /* the field lines, each ended by CR LF */
    oct_buf body; /* empty when on_data took it */
} oct_http_reply;

/* address: "http://HOST[:PORT][/PREFIX]" (PREFIX goes before every path) or "unix:PATH".
 * timeout_ms: without progress in connecting, sending or receiving (0: 600 s). Connects with the
 * first request. OCT_E_INVALID: an address of another form. */
OCT_MUST_CHECK oct_status oct_http_client_create(const oct_allocator *mem, const char *address,
                                                 uint32_t timeout_ms, oct_http_client **out,
                                                 oct_err *err);
void oct_http_client_destroy(oct_http_client *c); /* accepts NULL */

void oct_http_reply_init(oct_http_reply *r, const oct_allocator *mem);
void oct_http_reply_fini(oct_http_reply *r);
/* Case-insensitive; {NULL, 0} when absent. */
oct_str oct_http_reply_header(const oct_http_reply *r, const char *name);

typedef struct oct_http_call {
    const char *method;  /* "GET", "POST", ... */
    const char *path;    /* with its query, encoded already */
    const char *headers; /* "Name: value\r\n"..., or NULL */
    const char *content_type;
    oct_str body; /* sent with its length when content_type is set or len > 0 */
    /* Takes the body of a 2xx answer as it comes; other than OCT_OK ends the request (and the
     * connection) with that status. NULL: the body goes to the reply. */
    oct_status (*on_data)(void *ctx, oct_str bytes);
    void *ctx;
} oct_http_call;

/* Sends one request and reads its answer to the end; r is cleared first. OCT_OK whatever the HTTP
 * status is. OCT_E_IO: no connection, time ran out, or the answer ended early; OCT_E_INVALID: not
 * an HTTP answer. A kept-alive connection that the server had closed meanwhile is made anew, once.
 */
OCT_MUST_CHECK oct_status oct_http_client_call(oct_http_client *c, const oct_http_call *call,
                                               oct_http_reply *r, oct_err *err);

#endif
