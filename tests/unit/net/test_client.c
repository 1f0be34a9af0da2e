/* net/client.h against our own server, and against answers that break off or are not HTTP. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/client.h"
#include "net_client.h"

static oct_http_client *connect_to(uint32_t port, const char *prefix, uint32_t timeout_ms) {
    char address[64];
    oct_http_client *c = NULL;
    snprintf(address, sizeof address, "http://127.0.0.1:%u%s", port, prefix);
    assert_int_equal(oct_http_client_create(oct_system_allocator(), address, timeout_ms, &c, NULL),
                     OCT_OK);
    return c;
}

static oct_status count(void *ctx, oct_str bytes) {
    oct_buf *b = ctx;
    oct_buf_str(b, bytes);
    return b->len > 10 && b->limit_bytes ? OCT_E_CANCELLED : OCT_OK;
}

static void our_server(void **state) {
    (void)state;
    test_server t;
    test_start(&t, NULL);
    oct_http_client *c = connect_to(t.port, "/", 0);
    oct_http_reply r;
    oct_buf seen;
    oct_http_reply_init(&r, oct_system_allocator());
    oct_buf_init(&seen, oct_system_allocator(), 0);
    const oct_http_call post = {.method = "POST",
                                .path = "/echo?a",
                                .content_type = "application/json",
                                .body = OCT_STR("{}")};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(oct_http_client_call(c, &post, &r, NULL), OCT_OK);
        assert_int_equal(r.status, 200);
        assert_string_equal(oct_buf_cs(&r.body), "POST /echo a {}");
        assert_true(oct_str_is(oct_http_reply_header(&r, "content-type"), "text/plain"));
    }
    const oct_http_call stream = {
        .method = "GET", .path = "/stream", .on_data = count, .ctx = &seen};
    assert_int_equal(oct_http_client_call(c, &stream, &r, NULL), OCT_OK);
    assert_string_equal(oct_buf_cs(&seen), "data: 1\n\ndata: 2\n\ndata: [DONE]\n\n");
    const oct_http_call missing = {
        .method = "GET", .path = "/nowhere", .on_data = count, .ctx = &seen};
    oct_buf_clear(&seen);
    assert_int_equal(oct_http_client_call(c, &missing, &r, NULL), OCT_OK);
    assert_int_equal(r.status, 404);
    assert_int_equal(seen.len, 0);
    assert_non_null(strstr(oct_buf_cs(&r.body), "NotFoundError"));
    oct_http_stats stats;
    oct_http_server_stats(t.server, &stats);
    assert_int_equal(stats.connections, 1); /* all over one connection */
    oct_sleep_ns(1200000000); /* the server closes it for idleness; the next call makes a new one */
    assert_int_equal(oct_http_client_call(c, &post, &r, NULL), OCT_OK);
    assert_int_equal(r.status, 200);
    const oct_http_call head = {.method = "HEAD", .path = "/now"};
    assert_int_equal(oct_http_client_call(c, &head, &r, NULL), OCT_OK);
    assert_int_equal(r.body.len, 0);
    const oct_http_call empty = {.method = "GET", .path = "/headers"};
    assert_int_equal(oct_http_client_call(c, &empty, &r, NULL), OCT_OK);
    assert_int_equal(r.status, 204);
    /* the callback ends the request, and the server hears of it */
    seen.limit_bytes = 1 << 20;
    oct_buf_clear(&seen);
    const oct_http_call flood = {.method = "GET", .path = "/flood", .on_data = count, .ctx = &seen};
    assert_int_equal(oct_http_client_call(c, &flood, &r, NULL), OCT_E_CANCELLED);
    test_await(&t.n_gone, 1);
    oct_http_client_destroy(c);
    c = connect_to(t.port, "/echo/", 0);
    const oct_http_call inner = {.method = "GET", .path = "/.?x"};
    assert_int_equal(oct_http_client_call(c, &inner, &r, NULL), OCT_OK);
    assert_string_equal(oct_buf_cs(&r.body), "GET /echo x ");
    oct_http_client_destroy(c);
    oct_http_reply_fini(&r);
    oct_buf_fini(&seen);
    test_stop(&t);
}

/* A server that takes one connection, reads a little, says text and closes. */
typedef struct canned {
    int listen_fd;
    const char *text;
    bool stall;
} canned;

static void *say(void *arg) {
    const canned *s = arg;
    char scratch[1024];
    const int fd = accept(s->listen_fd, NULL, NULL);
    (void)!recv(fd, scratch, sizeof scratch, 0);
    client_send_cs(fd, s->text);
    if (s->stall) (void)!recv(fd, scratch, sizeof scratch, 0);
    shutdown(fd, SHUT_WR);
    (void)!recv(fd, scratch, sizeof scratch, 0);
    close(fd);
    return NULL;
}

static oct_status ask_canned(const char *text, bool stall, oct_http_reply *r, oct_err *err) {
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t len = sizeof addr;
    pthread_t thread;
    canned s = {socket(AF_INET, SOCK_STREAM, 0), text, stall};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(s.listen_fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(s.listen_fd, 4), 0);
    assert_int_equal(getsockname(s.listen_fd, (struct sockaddr *)&addr, &len), 0);
    assert_int_equal(pthread_create(&thread, NULL, say, &s), 0);
    oct_http_client *c = connect_to(ntohs(addr.sin_port), "", 300);
    const oct_http_call get = {.method = "GET", .path = "/"};
    *err = (oct_err){0};
    const oct_status status = oct_http_client_call(c, &get, r, err);
    oct_http_client_destroy(c);
    pthread_join(thread, NULL);
    close(s.listen_fd);
    return status;
}

static void other_answers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool stall;
        oct_status want;
        const char *body;
    } rows[] = {
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil the end", false, OCT_OK,
         "until the end"},
        {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", false, OCT_OK, "ab"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", false, OCT_E_IO, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false, OCT_E_IO,
         NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, OCT_E_INVALID, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, OCT_E_INVALID, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", false, OCT_E_INVALID, NULL},
        {"SSH-2.0-x\r\n\r\n", false, OCT_E_INVALID, NULL},
        {"HTTP/1.1 2", false, OCT_E_IO, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", true, OCT_E_IO, NULL},
    };
    oct_http_reply r;
    oct_err err;
    oct_http_reply_init(&r, oct_system_allocator());
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        const oct_status got = ask_canned(rows[i].text, rows[i].stall, &r, &err);
        if (got != rows[i].want) print_error("row %zu: %s\n", i, err.text);
        assert_int_equal(got, rows[i].want);
        if (rows[i].body) assert_string_equal(oct_buf_cs(&r.body), rows[i].body);
        if (got != OCT_OK) assert_true(err.text[0] != '\0');
    }
    oct_http_reply_fini(&r);
}

static void addresses(void **state) {
    (void)state;
    static const char *const bad[] = {"",           "ftp://x",        "http://", "http://:80",
                                      "http://x:",  "http://x:70000", "unix:",   "x:80",
                                      "http://x:y", "https://x:443"};
    oct_http_client *c = NULL;
    oct_err err = {0};
    for (size_t i = 0; i < OCT_COUNT(bad); i++)
        assert_int_equal(oct_http_client_create(oct_system_allocator(), bad[i], 0, &c, NULL),
                         OCT_E_INVALID);
    assert_int_equal(
        oct_http_client_create(oct_system_allocator(), "unix:/nowhere/at/all", 0, &c, NULL),
        OCT_OK);
    oct_http_reply r;
    oct_http_reply_init(&r, oct_system_allocator());
    const oct_http_call get = {.method = "GET", .path = "/"};
    assert_int_equal(oct_http_client_call(c, &get, &r, &err), OCT_E_IO);
    assert_non_null(strstr(err.text, "/nowhere/at/all"));
    oct_http_client_destroy(c);
    oct_http_reply_fini(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(our_server),
        cmocka_unit_test(other_answers),
        cmocka_unit_test(addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
