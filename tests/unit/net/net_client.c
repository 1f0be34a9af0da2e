/* tests/unit/net/net_client.c - see net_client.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net_client.h"

int client_connect(uint32_t port) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval wait = {.tv_sec = 30}; /* a busy machine is slow */
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

void client_send(int fd, const void *data, size_t len) {
    const char *p = data;
    while (len > 0) {
        const ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0) return;
        p += n;
        len -= (size_t)n;
    }
}

void client_send_cs(int fd, const char *text) { client_send(fd, text, strlen(text)); }

/* One byte, or -1 at the end or when time ran out. */
static int next_byte(int fd) {
    unsigned char c;
    const ssize_t n = recv(fd, &c, 1, 0);
    return n == 1 ? c : -1;
}

static bool read_line(int fd, char *line, size_t cap) {
    size_t n = 0;
    for (int c; (c = next_byte(fd)) >= 0;) {
        if (c == '\n') {
            line[n > 0 ? n - 1 : 0] = '\0';
            return true;
        }
        assert_true(n + 1 < cap);
        line[n++] = (char)c;
    }
    return false;
}

static void add_body(int fd, answer *a, size_t n) {
    char block[4096];
    while (n > 0) {
        const ssize_t got = recv(fd, block, n < sizeof block ? n : sizeof block, 0);
        assert_true(got > 0);
        for (ssize_t i = 0; i < got; i++, a->body_len++)
            if (a->body_len + 1 < sizeof a->body) a->body[a->body_len] = block[i];
        n -= (size_t)got;
    }
}

static void read_chunks(int fd, answer *a) {
    char line[64];
    for (;;) {
        assert_true(read_line(fd, line, sizeof line));
        const size_t n = strtoul(line, NULL, 16);
        add_body(fd, a, n);
        assert_true(read_line(fd, line, sizeof line));
        assert_string_equal(line, "");
        if (n == 0) return;
    }
}

answer client_read(int fd, bool no_body) {
    answer a = {0};
    char line[1024];
    size_t length = 0, head = 0;
    bool chunked = false;
    if (!read_line(fd, line, sizeof line)) return a;
    assert_int_equal(strncmp(line, "HTTP/1.1 ", 9), 0);
    a.status = atoi(line + 9);
    for (;;) {
        assert_true(read_line(fd, line, sizeof line));
        if (line[0] == '\0') break;
        if (strncmp(line, "Content-Length: ", 16) == 0) length = strtoul(line + 16, NULL, 10);
        if (strcmp(line, "Transfer-Encoding: chunked") == 0) chunked = true;
        head += (size_t)snprintf(a.head + head, sizeof a.head - head, "%s\n", line);
        assert_true(head < sizeof a.head);
    }
    if (no_body || a.status < 200) return a;
    if (chunked)
        read_chunks(fd, &a);
    else
        add_body(fd, &a, length);
    return a;
}

bool client_sees_close(int fd, int ms) {
    const uint64_t end = oct_now_ns() + (uint64_t)ms * 1000000;
    char scratch[65536];
    for (;;) {
        const uint64_t now = oct_now_ns();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= end || poll(&p, 1, (int)((end - now) / 1000000) + 1) <= 0) return false;
        if (recv(fd, scratch, sizeof scratch, 0) <= 0) return true;
    }
}

answer client_ask(uint32_t port, const char *request) {
    const int fd = client_connect(port);
    client_send_cs(fd, request);
    const answer a = client_read(fd, strncmp(request, "HEAD ", 5) == 0);
    close(fd);
    return a;
}

/* --- the server --- */

static void count_end(void *ctx, oct_http_end how) {
    test_server *t = ctx;
    atomic_fetch_add(how == OCT_HTTP_SENT ? &t->n_sent : &t->n_gone, 1);
}

static void echo(oct_http_exchange *x) {
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_buf_cstr(&b, oct_http_method_name(oct_http_request_method(x)));
    oct_buf_char(&b, ' ');
    oct_buf_str(&b, oct_http_request_path(x));
    oct_buf_char(&b, ' ');
    oct_buf_str(&b, oct_http_request_query(x));
    oct_buf_char(&b, ' ');
    oct_buf_str(&b, oct_http_request_body(x));
    (void)oct_http_respond(x, 200, "text/plain", oct_buf_view(&b));
    oct_buf_fini(&b);
}

static void big(oct_http_exchange *x) {
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    for (int i = 0; i < 1 << 20; i++) oct_buf_char(&b, (char)('a' + i % 26));
    (void)oct_http_respond(x, 200, "text/plain", oct_buf_view(&b));
    oct_buf_fini(&b);
}

static void stream(oct_http_exchange *x) {
    (void)oct_http_stream_begin(x, 200, "text/event-stream; charset=utf-8");
    (void)oct_http_stream_write(x, OCT_STR("data: 1\n\n"));
    oct_sleep_ns(2000000);
    (void)oct_http_stream_write(x, OCT_STR("data: 2\n\n"));
    (void)oct_http_stream_write(x, OCT_STR("data: [DONE]\n\n"));
    (void)oct_http_stream_end(x, oct_str_is(oct_http_request_query(x), "close"));
}

static void flood(oct_http_exchange *x) {
    static char block[8192];
    memset(block, 'x', sizeof block);
    (void)oct_http_stream_begin(x, 200, "text/plain");
    oct_status status = OCT_OK;
    while (status == OCT_OK) status = oct_http_stream_write(x, (oct_str){block, sizeof block});
    assert_int_equal(status, OCT_E_CANCELLED);
}

static void hold(test_server *t, oct_http_exchange *x, bool begin) {
    oct_http_acquire(x);
    if (begin) {
        (void)oct_http_stream_begin(x, 200, "text/plain");
        (void)oct_http_stream_write(x, OCT_STR("begun"));
    }
    pthread_mutex_lock(&t->lock);
    assert_true(t->n_held < 64);
    t->held[t->n_held++] = x;
    pthread_mutex_unlock(&t->lock);
}

static void handle(void *ctx, oct_http_exchange *x) {
    test_server *t = ctx;
    const oct_str path = oct_http_request_path(x);
    atomic_fetch_add(&t->n_handled, 1);
    oct_http_on_close(x, count_end, t);
    if (oct_str_is(path, "/echo") || oct_str_is(path, "*"))
        echo(x);
    else if (oct_str_is(path, "/now"))
        (void)oct_http_respond(x, 200, "text/plain", OCT_STR("now"));
    else if (oct_str_is(path, "/big"))
        big(x);
    else if (oct_str_is(path, "/hold"))
        hold(t, x, false);
    else if (oct_str_is(path, "/holdstream"))
        hold(t, x, true);
    else if (oct_str_is(path, "/stream"))
        stream(x);
    else if (oct_str_is(path, "/flood"))
        flood(x);
    else if (oct_str_is(path, "/forget"))
        return;
    else if (oct_str_is(path, "/headers")) {
        oct_http_set_header(x, "X-Echo", OCT_STR("a\r\nEvil: b"));
        (void)oct_http_respond(x, 204, NULL, OCT_STR(""));
    } else
        (void)oct_http_respond_error(x, 404, "no such \"path\"", false);
}

static void guard(void *ctx, oct_http_exchange *x) {
    (void)ctx;
    if (oct_str_starts(oct_http_request_path(x), OCT_STR("/secret")))
        (void)oct_http_respond(x, 401, "application/json", OCT_STR("{\"error\":\"Unauthorized\"}"));
}

static void decorate(void *ctx, oct_http_exchange *x) {
    (void)ctx;
    oct_http_set_header(x, "Access-Control-Allow-Origin", OCT_STR("*"));
}

void test_start(test_server *t, void (*adjust)(oct_http_config *config)) {
    test_start_with(t, oct_system_allocator(), adjust);
}

void test_start_with(test_server *t, const oct_allocator *mem,
                     void (*adjust)(oct_http_config *config)) {
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    oct_http_config config = {.host = "127.0.0.1",
                              .limits = oct_http_limits_default,
                              .n_workers = 3,
                              .ctx = t,
                              .guard = guard,
                              .handle = handle,
                              .decorate = decorate};
    config.limits.header_ms = 400;
    config.limits.body_idle_ms = 400;
    config.limits.body_ms = 1500;
    config.limits.keep_alive_ms = 700;
    config.limits.stall_ms = 500;
    config.limits.body_bytes = 256 << 10;
    if (adjust) adjust(&config);
    oct_err err = {0};
    assert_int_equal(oct_http_server_bind(mem, &config, &t->server, &t->port, &err), OCT_OK);
    assert_int_equal(oct_http_server_start(t->server, &err), OCT_OK);
}

void test_stop(test_server *t) {
    oct_http_server_destroy(t->server);
    for (uint32_t i = 0; i < t->n_held; i++) oct_http_release(t->held[i]);
    assert_int_equal(atomic_load(&t->n_sent) + atomic_load(&t->n_gone), atomic_load(&t->n_handled));
    pthread_mutex_destroy(&t->lock);
}

void test_await(atomic_uint *what, uint32_t want) {
    for (int i = 0; i < 10000 && atomic_load(what) != want; i++) oct_sleep_ns(1000000);
    assert_int_equal(atomic_load(what), want);
}

void test_await_held(test_server *t, uint32_t n) {
    uint32_t got = 0;
    for (int i = 0; i < 10000 && got != n; i++) {
        pthread_mutex_lock(&t->lock);
        got = t->n_held;
        pthread_mutex_unlock(&t->lock);
        oct_sleep_ns(1000000);
    }
    assert_int_equal(got, n);
}

void test_finish_held(test_server *t) {
    pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < t->n_held; i++) {
        if (oct_http_respond(t->held[i], 200, "text/plain", OCT_STR("done")) == OCT_E_INVALID)
            (void)oct_http_stream_end(t->held[i], false);
        oct_http_release(t->held[i]);
    }
    t->n_held = 0;
    pthread_mutex_unlock(&t->lock);
}

void test_good(test_server *t) {
    const answer a =
        client_ask(t->port, "POST /echo?q HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "POST /echo q abc");
    test_await_idle(t);
}

void test_await_idle(test_server *t) {
    oct_http_stats stats = {.exchanges_open = 1};
    for (int i = 0; i < 10000 && (stats.exchanges_open || stats.connections_open); i++) {
        oct_sleep_ns(1000000);
        oct_http_server_stats(t->server, &stats);
    }
    assert_int_equal(stats.exchanges_open, 0);
    assert_int_equal(stats.connections_open, 0);
}
