/*
 * net/tls.h - TLS between a connection and its socket, by OpenSSL; for the files of this room.
 *
 * A session reads and writes like the socket itself: -1 with EAGAIN when it would have to wait, 0
 * at the client's end, -1 with another errno when the connection is of no use any more. The
 * handshake happens inside of the first reads.
 *
 * Threads    A context may be shared; a session belongs to its connection's loop.
 */
#ifndef OCT_NET_TLS_H
#define OCT_NET_TLS_H

#include <sys/types.h>

#include "net/server.h"

typedef struct oct_tls_context oct_tls_context;
typedef struct oct_tls_session oct_tls_session;

/* Reads certificates and key. OCT_E_INVALID: one of the files cannot be used, the sentence says
 * which. Memory is OpenSSL's own. */
OCT_MUST_CHECK oct_status oct_tls_context_create(const oct_http_tls *options, oct_tls_context **out,
                                                 oct_err *err);
void oct_tls_context_destroy(oct_tls_context *t); /* accepts NULL */

/* The server's side of a session over a connected, non-blocking socket, which stays the caller's.
 * NULL: no memory. */
oct_tls_session *oct_tls_session_create(oct_tls_context *t, int fd);
void oct_tls_session_destroy(oct_tls_session *s); /* accepts NULL */

/* As recv and send. *wants_write: reading waits until the socket takes bytes. */
ssize_t oct_tls_read(oct_tls_session *s, void *bytes, size_t n, bool *wants_write);
ssize_t oct_tls_write(oct_tls_session *s, const void *bytes, size_t n);
/* Tells the client that no more comes, as far as the socket takes it. */
void oct_tls_bye(oct_tls_session *s);

#endif
