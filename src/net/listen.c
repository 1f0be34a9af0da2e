/* net/listen.c - binding TCP and UNIX sockets before anything slow is done (bad-input CL5). */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/internal.h"

enum { BACKLOG = 1024 };

void oct_http_peer_text(const struct sockaddr *addr, socklen_t len, char out[OCT_HTTP_PEER_TEXT]) {
    char host[OCT_HTTP_PEER_TEXT - 16], port[8];
    memset(out, 0, OCT_HTTP_PEER_TEXT);
    if (addr->sa_family != AF_INET && addr->sa_family != AF_INET6) {
        snprintf(out, OCT_HTTP_PEER_TEXT, "unix");
    } else if (getnameinfo(addr, len, host, sizeof host, port, sizeof port,
                           NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        const bool v6 = addr->sa_family == AF_INET6;
        snprintf(out, OCT_HTTP_PEER_TEXT, "%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
    } else {
        snprintf(out, OCT_HTTP_PEER_TEXT, "unknown");
    }
}

void oct_http_listen_close(oct_http_server *s) {
    for (uint32_t i = 0; i < s->n_listen; i++) close(s->listen_fds[i]);
    s->n_listen = 0;
    if (!s->uds_path) return;
    struct stat st;
    if (lstat(s->uds_path, &st) == 0 && (uint64_t)st.st_ino == s->uds_inode)
        (void)unlink(s->uds_path);
    oct_free(s->mem, s->uds_path, strlen(s->uds_path) + 1, 1);
    s->uds_path = NULL;
}

static oct_status keep(oct_http_server *s, int fd, const char *where, oct_err *err) {
    if (listen(fd, BACKLOG) != 0) {
        const int why = errno;
        close(fd);
        return OCT_FAIL(err, OCT_E_IO, "%s: cannot listen: %s", where, strerror(why));
    }
    s->listen_fds[s->n_listen++] = fd;
    return OCT_OK;
}

/* --- UNIX --- */

/* Removes a socket that nobody serves any more; anything else at that path stays. */
static oct_status clear_stale(const struct sockaddr_un *addr, const char *path, oct_err *err) {
    struct stat st;
    if (lstat(path, &st) != 0) {
        if (errno == ENOENT) return OCT_OK;
        return OCT_FAIL(err, OCT_E_IO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISSOCK(st.st_mode))
        return OCT_FAIL(err, OCT_E_IO, "%s: exists and is not a socket", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return OCT_FAIL(err, OCT_E_IO, "%s: %s", path, strerror(errno));
    const int got = connect(fd, (const struct sockaddr *)addr, sizeof *addr);
    const int why = errno;
    close(fd);
    if (got == 0 || why != ECONNREFUSED)
        return OCT_FAIL(err, OCT_E_IO, "%s: a server is listening there", path);
    if (unlink(path) != 0 && errno != ENOENT)
        return OCT_FAIL(err, OCT_E_IO, "%s: cannot remove the old socket: %s", path,
                        strerror(errno));
    return OCT_OK;
}

static oct_status listen_unix(oct_http_server *s, const char *path, oct_err *err) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const size_t len = strlen(path);
    if (len == 0 || len >= sizeof addr.sun_path)
        return OCT_FAIL(err, OCT_E_INVALID, "socket path: length must be 1 to %zu (got %zu)",
                        sizeof addr.sun_path - 1, len);
    memcpy(addr.sun_path, path, len);
    OCT_TRY(clear_stale(&addr, path, err));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return OCT_FAIL(err, OCT_E_IO, "%s: %s", path, strerror(errno));
    struct stat st;
    if (bind(fd, (const struct sockaddr *)&addr, sizeof addr) != 0 || lstat(path, &st) != 0) {
        const int why = errno;
        close(fd);
        return OCT_FAIL(err, OCT_E_IO, "%s: cannot bind: %s", path, strerror(why));
    }
    s->uds_inode = (uint64_t)st.st_ino;
    s->uds_path = oct_strndup(s->mem, path, len);
    if (!s->uds_path) {
        close(fd);
        (void)unlink(path);
        return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", path);
    }
    snprintf(s->address, sizeof s->address, "unix:%s", path);
    return keep(s, fd, path, err);
}

/* --- TCP --- */

static uint32_t port_of(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } addr;
    socklen_t len = sizeof addr;
    memset(&addr, 0, sizeof addr);
    if (getsockname(fd, &addr.any, &len) != 0) return 0;
    return ntohs(addr.any.sa_family == AF_INET6 ? addr.v6.sin6_port : addr.v4.sin_port);
}

static void set_port(struct sockaddr *addr, uint32_t port) {
    if (addr->sa_family == AF_INET6)
        ((struct sockaddr_in6 *)addr)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)addr)->sin_port = htons((uint16_t)port);
}

/* A bound socket, or -1 with errno. */
static int bind_one(const struct addrinfo *a, bool both_families) {
    const int on = 1, off = 0;
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    /* Only the address: with the port shared too, a second server would start without a word. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, both_families ? &off : &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0) return fd;
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static bool is_family_missing(int why) {
    return why == EAFNOSUPPORT || why == EADDRNOTAVAIL || why == EPROTONOSUPPORT;
}

/* Binds every address of the list to one port. An address of a family that this machine lacks is
 * passed over while another one works. */
static oct_status bind_all(oct_http_server *s, struct addrinfo *list, const char *where,
                           bool any_host, uint32_t *port, oct_err *err) {
    int why = EADDRNOTAVAIL;
    for (struct addrinfo *a = list; a && s->n_listen < OCT_HTTP_LISTENERS_MAX; a = a->ai_next) {
        if (a->ai_family != AF_INET && a->ai_family != AF_INET6) continue;
        if (any_host && s->n_listen > 0) break; /* one socket serves both families */
        set_port(a->ai_addr, *port);
        const int fd = bind_one(a, any_host);
        if (fd < 0) {
            why = errno;
            if (is_family_missing(why)) continue;
            return OCT_FAIL(err, OCT_E_IO, "%s: cannot bind: %s", where, strerror(why));
        }
        OCT_TRY(keep(s, fd, where, err));
        if (*port == 0) *port = port_of(fd);
    }
    if (s->n_listen > 0) return OCT_OK;
    return OCT_FAIL(err, OCT_E_IO, "%s: cannot bind: %s", where, strerror(why));
}

static oct_status listen_tcp(oct_http_server *s, const oct_http_config *config, uint32_t *port,
                             oct_err *err) {
    if (config->port > 65535)
        return OCT_FAIL(err, OCT_E_INVALID, "port must be from 0 to 65535 (got %u)", config->port);
    const bool any_host = !config->host || config->host[0] == '\0';
    char host[256], where[300];
    const size_t len = any_host ? 0 : strlen(config->host);
    if (len >= sizeof host)
        return OCT_FAIL(err, OCT_E_INVALID, "host: longer than %zu bytes", sizeof host - 1);
    memcpy(host, any_host ? "" : config->host, len + 1);
    if (len > 2 && host[0] == '[' && host[len - 1] == ']') { /* "[::1]" is "::1" */
        memmove(host, host + 1, len - 2);
        host[len - 2] = '\0';
    }
    const bool literal6 = strchr(host, ':') != NULL;
    struct addrinfo *list = NULL;
    const struct addrinfo hints = {.ai_family = any_host ? AF_INET6 : AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE};
    const int got = getaddrinfo(any_host ? "::" : host, "0", &hints, &list);
    if (got != 0)
        return OCT_FAIL(err, got == EAI_MEMORY ? OCT_E_NOMEM : OCT_E_INVALID,
                        "host %s: does not resolve: %s", host, gai_strerror(got));
    snprintf(where, sizeof where, "%s%s%s port %u", literal6 ? "[" : "", any_host ? "*" : host,
             literal6 ? "]" : "", config->port);
    *port = config->port;
    oct_status status = bind_all(s, list, where, any_host, port, err);
    freeaddrinfo(list);
    if (status == OCT_OK)
        snprintf(s->address, sizeof s->address, "http%s://%s%s%s:%u", s->tls ? "s" : "",
                 literal6 ? "[" : "", any_host ? "0.0.0.0" : host, literal6 ? "]" : "", *port);
    return status;
}

/* All interfaces of a machine without IPv6. */
static oct_status listen_any4(oct_http_server *s, const oct_http_config *config, uint32_t *port,
                              oct_err *err) {
    oct_http_config v4 = *config;
    v4.host = "0.0.0.0";
    return listen_tcp(s, &v4, port, err);
}

oct_status oct_http_listen(oct_http_server *s, const oct_http_config *config, uint32_t *port,
                           oct_err *err) {
    *port = 0;
    if (config->uds_path) return listen_unix(s, config->uds_path, err);
    const bool any_host = !config->host || config->host[0] == '\0';
    if (any_host) {
        const int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (probe < 0) return listen_any4(s, config, port, err);
        close(probe);
    }
    return listen_tcp(s, config, port, err);
}
