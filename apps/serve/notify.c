/*
 * apps/serve/notify.c - words for the service manager: a datagram to $NOTIFY_SOCKET says when the
 * server is ready, that it lives, and that it stops. Without the variable nothing is said, and
 * nothing here can fail the server.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "serve.h"

void serve_notify(const char *words) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const size_t len = path ? strlen(path) : 0;
    if (len < 2 || len >= sizeof addr.sun_path || (path[0] != '/' && path[0] != '@')) return;
    memcpy(addr.sun_path, path, len);
    if (path[0] == '@') addr.sun_path[0] = '\0'; /* a name without a file */
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    (void)!sendto(fd, words, strlen(words), MSG_NOSIGNAL | MSG_DONTWAIT,
                  (const struct sockaddr *)&addr,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}

/* Half of what the manager lets pass; 0: it does not watch this process. */
static uint64_t watchdog_ns(void) {
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t us, id;
    if (!usec || !oct_parse_u64(oct_str_of(usec), &us) || us > UINT64_MAX / 1000) return 0;
    if (pid && (!oct_parse_u64(oct_str_of(pid), &id) || id != (uint64_t)getpid())) return 0;
    return us * 1000 / 2;
}

void serve_notify_alive(const server *s) {
    static uint64_t last_ns;
    const uint64_t every = watchdog_ns(), now = oct_now_ns();
    oct_err err = {0};
    if (every == 0 || (last_ns != 0 && now - last_ns < every)) return;
    if (!oct_engine_health(s->engine, &err)) return; /* then the manager is to act */
    last_ns = now;
    serve_notify("WATCHDOG=1");
}
