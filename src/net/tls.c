/*
 * net/tls.c - see tls.h. TLS 1.2 and 1.3, no renegotiation, HTTP/1.1 in ALPN. Nothing asks at a
 * terminal: a key with a password is refused.
 */
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <unistd.h>

/* The names of the header are OpenSSL's own objects. */
static SSL_CTX *ctx_of(oct_tls_context *t) { return (SSL_CTX *)(void *)t; }
static SSL *ssl_of(oct_tls_session *s) { return (SSL *)(void *)s; }

/* ---- context ---- */

static int no_password(char *out, int size, int writing, void *user) {
    (void)out, (void)size, (void)writing, (void)user;
    return 0;
}

/* Of what the client offers only HTTP/1.1 is spoken here. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *user) {
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;
    (void)ssl, (void)user;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static oct_status refuse(const char *flag, const char *file, const char *what, oct_err *err) {
    const unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_GET_LIB(code) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(code))
                                                          : ERR_reason_error_string(code);
    ERR_clear_error();
    return OCT_FAIL(err, OCT_E_INVALID, "%s: %s: %s%s%s", flag, file, what, reason ? ": " : "",
                    reason ? reason : "");
}

static oct_status load_files(SSL_CTX *ctx, const oct_http_tls *o, oct_err *err) {
    const char *key = o->keyfile ? o->keyfile : o->certfile;
    if (access(o->certfile, R_OK) != 0)
        return OCT_FAIL(err, OCT_E_INVALID, "--ssl-certfile: %s: %s", o->certfile, strerror(errno));
    if (access(key, R_OK) != 0)
        return OCT_FAIL(err, OCT_E_INVALID, "--ssl-keyfile: %s: %s", key, strerror(errno));
    if (SSL_CTX_use_certificate_chain_file(ctx, o->certfile) != 1)
        return refuse("--ssl-certfile", o->certfile, "no certificate in PEM form", err);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return refuse("--ssl-keyfile", key,
                      "no key in PEM form without a password that fits the certificate", err);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return refuse("--ssl-keyfile", key, "the key is of another certificate", err);
    return OCT_OK;
}

static oct_status load_authorities(SSL_CTX *ctx, const oct_http_tls *o, oct_err *err) {
    const int modes[] = {SSL_VERIFY_NONE, SSL_VERIFY_PEER,
                         SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT};
    if (o->cert_reqs > 0 && !o->ca_certs)
        return OCT_FAIL(err, OCT_E_INVALID, "--ssl-cert-reqs: needs --ssl-ca-certs");
    if (o->ca_certs && SSL_CTX_load_verify_file(ctx, o->ca_certs) != 1)
        return refuse("--ssl-ca-certs", o->ca_certs, "no certificates in PEM form", err);
    if (o->ca_certs) SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(o->ca_certs));
    SSL_CTX_set_verify(ctx, modes[o->cert_reqs <= 2 ? o->cert_reqs : 2], NULL);
    ERR_clear_error();
    return OCT_OK;
}

oct_status oct_tls_context_create(const oct_http_tls *o, oct_tls_context **out, oct_err *err) {
    *out = NULL;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx) return OCT_FAIL(err, OCT_E_NOMEM, "tls: no memory");
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"octet", 5);
    oct_status st = load_files(ctx, o, err);
    if (st == OCT_OK) st = load_authorities(ctx, o, err);
    if (st == OCT_OK && o->ciphers && SSL_CTX_set_cipher_list(ctx, o->ciphers) != 1)
        st = refuse("--ssl-ciphers", o->ciphers, "no cipher of these is known", err);
    if (st != OCT_OK) {
        SSL_CTX_free(ctx);
        return st;
    }
    *out = (oct_tls_context *)(void *)ctx;
    return OCT_OK;
}

void oct_tls_context_destroy(oct_tls_context *t) { SSL_CTX_free(ctx_of(t)); }

/* ---- session ---- */

oct_tls_session *oct_tls_session_create(oct_tls_context *t, int fd) {
    SSL *ssl = SSL_new(ctx_of(t));
    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_accept_state(ssl);
    return (oct_tls_session *)(void *)ssl;
}

void oct_tls_session_destroy(oct_tls_session *s) { SSL_free(ssl_of(s)); }

/* What a call that did not move bytes means. */
static ssize_t explain(SSL *ssl, int returned, bool *wants_write) {
    switch (SSL_get_error(ssl, returned)) {
    case SSL_ERROR_WANT_WRITE:
        if (wants_write) *wants_write = true;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_WANT_READ:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        /* No close_notify is to be sent over what is broken. */
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        ERR_clear_error();
        errno = EPROTO;
        return -1;
    }
}

ssize_t oct_tls_read(oct_tls_session *s, void *bytes, size_t n, bool *wants_write) {
    size_t got;
    *wants_write = false;
    ERR_clear_error();
    const int returned = SSL_read_ex(ssl_of(s), bytes, n, &got);
    return returned == 1 ? (ssize_t)got : explain(ssl_of(s), returned, wants_write);
}

ssize_t oct_tls_write(oct_tls_session *s, const void *bytes, size_t n) {
    size_t sent;
    ERR_clear_error();
    const int returned = SSL_write_ex(ssl_of(s), bytes, n, &sent);
    if (returned == 1) return (ssize_t)sent;
    return explain(ssl_of(s), returned, NULL) == 0 ? (errno = EPIPE, -1) : -1;
}

void oct_tls_bye(oct_tls_session *s) {
    ERR_clear_error();
    if (SSL_is_init_finished(ssl_of(s))) (void)SSL_shutdown(ssl_of(s));
    ERR_clear_error();
}
