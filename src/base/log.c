/* base/log.c - format, escape, one write that nobody waits for. */
#include "base/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024 };

static atomic_int min_level = OCT_LOG_INFO;

void oct_log_set_level(oct_log_level level) { min_level = (int)level; }

/* Date, time and level; the bytes written. */
static size_t begin_line(char *line, size_t cap, const char *level) {
    const time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    const size_t n = strftime(line, cap, "%Y-%m-%dT%H:%M:%SZ ", &tm);
    return n + (size_t)snprintf(line + n, cap - n, "%s ", level);
}

/* Nobody waits for the log: where a line would have to, it is dropped and counted, and the next one
 * that can be written says how many were. A pipe that polls writable takes PIPE_BUF bytes. */
static void put(const char *line, size_t n) {
    static atomic_uint n_dropped;
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    char told[128];
    const int can = poll(&p, 1, 0);
    if (can == 0 || (can > 0 && !(p.revents & POLLOUT)) || write(STDERR_FILENO, line, n) < 0) {
        atomic_fetch_add(&n_dropped, 1);
        return;
    }
    const unsigned dropped = atomic_exchange(&n_dropped, 0);
    if (dropped == 0) return;
    size_t len = begin_line(told, sizeof told, "WARN");
    len += (size_t)snprintf(told + len, sizeof told - len, "%u lines of the log were dropped\n",
                            dropped);
    if (write(STDERR_FILENO, told, len) < 0) atomic_fetch_add(&n_dropped, dropped);
}

void oct_log(oct_log_level level, const char *fmt, ...) {
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    if ((int)level < min_level || level >= OCT_LOG_OFF) return;

    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 64];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);

    size_t n = begin_line(line, sizeof line, names[level]);
    for (const char *p = text; *p && n + 5 < sizeof line; p++) {
        const unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c == 0x7f)
            n += (size_t)snprintf(line + n, sizeof line - n, "\\x%02x", c);
        else
            line[n++] = (char)c;
    }
    line[n++] = '\n';
    put(line, n);
}
