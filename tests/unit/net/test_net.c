/* The server over real sockets: one test a row of bad-input section 6, each followed by a good
 * request on the same server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "net_client.h"

static test_server T;

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static int start(void **state) {
    (void)state;
    test_start(&T, NULL);
    return 0;
}

static int stop(void **state) {
    (void)state;
    test_stop(&T);
    return 0;
}

/* Sends bytes; wants that status with the error body of bad-input section 0, and the end of the
 * connection. */
static void refused(const void *bytes, size_t len, int status, const char *type, const char *word) {
    const int fd = client_connect(T.port);
    client_send(fd, bytes, len);
    const answer a = client_read(fd, false);
    char want[64];
    assert_int_equal(a.status, status);
    snprintf(want, sizeof want, "\"type\":\"%s\",\"param\":null,\"code\":%d}}", type, status);
    assert_non_null(strstr(a.body, want));
    assert_non_null(strstr(a.body, word));
    assert_non_null(strstr(a.head, "Connection: close\n"));
    assert_true(client_sees_close(fd, 5000));
    close(fd);
}

static void refused_cs(const char *text, int status, const char *word) {
    refused(text, strlen(text), status, "Bad Request", word);
}

static void answers(void **state) {
    (void)state;
    const int fd = client_connect(T.port);
    for (int i = 0; i < 3; i++) { /* kept alive */
        client_send_cs(fd, GET("/now"));
        const answer a = client_read(fd, false);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, "now");
        assert_non_null(strstr(a.head, "Access-Control-Allow-Origin: *\n"));
        assert_non_null(strstr(a.head, "Date: "));
        assert_null(strstr(a.head, "Connection: "));
    }
    client_send_cs(fd, "HEAD /now HTTP/1.1\r\nHost: x\r\n\r\n");
    answer a = client_read(fd, true);
    assert_non_null(strstr(a.head, "Content-Length: 3\n"));
    client_send_cs(fd, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
    a = client_read(fd, false);
    assert_string_equal(a.body, "OPTIONS *  ");
    client_send_cs(fd, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n" GET("/stream"));
    a = client_read(fd, true);
    assert_non_null(strstr(a.head, "Transfer-Encoding: chunked\n"));
    a = client_read(fd, false);
    assert_string_equal(a.body, "data: 1\n\ndata: 2\n\ndata: [DONE]\n\n");
    client_send_cs(fd, GET("/headers"));
    a = client_read(fd, true);
    assert_int_equal(a.status, 204);
    assert_non_null(strstr(a.head, "X-Echo: a??Evil: b\n"));
    assert_null(strstr(a.head, "Content-Length"));
    client_send_cs(fd, GET("/forget"));
    a = client_read(fd, false);
    assert_int_equal(a.status, 500);
    assert_non_null(strstr(a.body, "\"type\":\"InternalServerError\""));
    client_send_cs(fd, GET("/nowhere"));
    a = client_read(fd, false);
    assert_int_equal(a.status, 404);
    assert_string_equal(a.body, "{\"error\":{\"message\":\"no such \\\"path\\\"\",\"type\":"
                                "\"NotFoundError\",\"param\":null,\"code\":404}}");
    client_send_cs(fd, GET("/big"));
    a = client_read(fd, false);
    assert_int_equal(a.body_len, 1 << 20);
    client_send_cs(fd, GET("/stream?close"));
    a = client_read(fd, false);
    assert_int_equal(a.status, 200);
    assert_true(client_sees_close(fd, 2000));
    close(fd);
    test_good(&T);
    oct_http_stats stats;
    oct_http_server_stats(T.server, &stats);
    assert_int_equal(stats.requests, 13);
    assert_int_equal(stats.answers[2], 11);
    assert_int_equal(stats.answers[4], 1);
    assert_int_equal(stats.answers[5], 1);
    assert_int_equal(stats.aborted, 0);
    assert_int_equal(stats.connections, 2);
}

static void http_1_0(void **state) {
    (void)state;
    int fd = client_connect(T.port);
    client_send_cs(fd, "GET /now HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    answer a = client_read(fd, false);
    assert_non_null(strstr(a.head, "Connection: keep-alive\n"));
    client_send_cs(fd, "GET /stream HTTP/1.0\r\n\r\n"); /* pieces until the end of the connection */
    a = client_read(fd, true);
    assert_null(strstr(a.head, "Transfer-Encoding"));
    assert_non_null(strstr(a.head, "Connection: close\n"));
    char rest[64] = {0};
    size_t n = 0;
    for (ssize_t got; (got = recv(fd, rest + n, sizeof rest - 1 - n, 0)) > 0;) n += (size_t)got;
    assert_string_equal(rest, "data: 1\n\ndata: 2\n\ndata: [DONE]\n\n");
    close(fd);
    test_good(&T);
}

static void HT1_request_line(void **state) {
    (void)state;
    char line[9000];
    memset(line, 'a', sizeof line);
    memcpy(line, "GET /", 5);
    refused(line, sizeof line, 414, "Bad Request", "request line too long");
    refused_cs("GET /\r\n\r\n", 400, "malformed request line");
    refused_cs("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501, "unknown method");
    refused_cs("GET / HTTP/3.0\r\n\r\n", 505, "HTTP/1.1");
    refused_cs("\x16\x03\x01\x02", 400, "malformed request line"); /* TLS hello */
    refused_cs("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "HTTP/2");
    test_good(&T);
}

static void HT2_header_bomb(void **state) {
    (void)state;
    const size_t n = 4u << 20;
    char *bomb = malloc(n);
    assert_non_null(bomb);
    memset(bomb, 'x', n);
    const char head[] = "GET / HTTP/1.1\r\nHost: x\r\nA: ";
    memcpy(bomb, head, sizeof head - 1);
    refused(bomb, n, 431, "Bad Request", "header fields too large");
    size_t at = sizeof "GET / HTTP/1.1\r\n" - 1;
    while (at + 7 <= n) at += (size_t)snprintf(bomb + at, 7, "A: b\r\n");
    refused(bomb, at, 431, "Bad Request", "too many header fields");
    free(bomb);
    test_good(&T);
    oct_http_stats stats;
    oct_http_server_stats(T.server, &stats);
    assert_true(stats.bytes_in < 600u
                                     << 10); /* two limits, what was in the socket, the lingering */
}

/* What follows a refused head is not parsed: /now would be counted. */
static void HT3_smuggling(void **state) {
    (void)state;
    const unsigned before = atomic_load(&T.n_handled);
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: "
               "chunked\r\n\r\n0\r\n\r\n" GET("/now"),
               400, "Content-Length together with Transfer-Encoding");
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n"
               "abcd" GET("/now"),
               400, "given twice");
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc" GET("/now"), 400,
               "malformed header field");
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n" GET("/now"), 400, "folded");
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n" GET("/now"), 400, "bare");
    assert_int_equal(atomic_load(&T.n_handled), before);
    test_good(&T);
}

#define CHUNKED "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

static void HT4_chunked_bodies(void **state) {
    (void)state;
    answer a = client_ask(T.port, CHUNKED "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: t\r\n\r\n");
    assert_string_equal(a.body, "POST /echo  abcde");
    refused_cs(CHUNKED "fffffffffffffffff\r\nabc", 400, "chunk size");
    refused_cs(CHUNKED "ffffffffffffffff\r\nabc", 413, "too large");
    refused_cs(CHUNKED "5g\r\nabcde\r\n", 400, "chunk size");
    refused_cs(CHUNKED "3\r\nabcde\r\n" GET("/now"), 400, "longer than its size");
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_buf_cstr(&b, CHUNKED);
    for (int i = 0; i < 100000; i++) oct_buf_cstr(&b, "1\r\nx\r\n");
    refused(b.data, b.len, 400, "Bad Request", "framing");
    oct_buf_clear(&b);
    oct_buf_cstr(&b, CHUNKED "0\r\n");
    for (int i = 0; i < 100000; i++) oct_buf_cstr(&b, "A: b\r\n");
    refused(b.data, b.len, 400, "Bad Request", "trailers");
    oct_buf_fini(&b);
    refused_cs(CHUNKED "3\r\nabc\r\n", 408, "body took too long"); /* no last chunk */
    test_good(&T);
}

static void HT5_body_too_large(void **state) {
    (void)state;
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 262145\r\n\r\n", 413,
               "too large");
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\n",
               413, "too large");
    const unsigned before = atomic_load(&T.n_handled);
    const int fd = client_connect(T.port);
    char block[4096 + 8];
    memset(block, 'x', sizeof block);
    memcpy(block, "1000\r\n", 6);
    memcpy(block + sizeof block - 2, "\r\n", 2);
    client_send_cs(fd, CHUNKED);
    for (int i = 0; i < 70; i++) { /* found out at the 65th */
        memcpy(block, "1000\r\n", 6);
        client_send(fd, block, 6);
        client_send(fd, block + 6, 4096);
        client_send(fd, "\r\n", 2);
    }
    assert_int_equal(client_read(fd, false).status, 413);
    assert_int_equal(recv(fd, block, sizeof block, 0), 0); /* an end, not a reset */
    close(fd);
    assert_int_equal(atomic_load(&T.n_handled), before);
    test_good(&T);
}

static void HT6_codings(void **state) {
    (void)state;
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: "
               "3\r\n\r\nabc",
               415, "Content-Encoding");
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "coding");
    test_good(&T);
}

static void HT7_expect(void **state) {
    (void)state;
    const char head[] = "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                        "Content-Length: 3\r\n\r\n";
    int fd = client_connect(T.port);
    client_send_cs(fd, head);
    assert_int_equal(client_read(fd, false).status, 100);
    client_send_cs(fd, "abc");
    assert_string_equal(client_read(fd, false).body, "POST /echo  abc");
    close(fd);
    /* No 100 without the key, nor for what is too large. */
    answer a = client_ask(T.port, "POST /secret HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                                  "Content-Length: 3\r\n\r\n");
    assert_int_equal(a.status, 401);
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
               "Content-Length: 99999999\r\n\r\n",
               413, "too large");
    refused_cs("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", 417, "Expect");
    a = client_ask(T.port, "POST /echo HTTP/1.1\r\nHost: x\r\n\r\n"); /* no body is empty */
    assert_string_equal(a.body, "POST /echo  ");
    test_good(&T);
}

/* Deadlines that a client of a busy machine can keep. */
static void patient(oct_http_config *config) {
    config->limits.header_ms = 2000;
    config->limits.body_idle_ms = 2000;
    config->limits.body_ms = 4000;
    config->limits.keep_alive_ms = 2500;
}

static void HT9_slow_loris(void **state) {
    (void)state;
    test_server t;
    int silent[300];
    test_start(&t, patient);
    const int head = client_connect(t.port), body = client_connect(t.port);
    const int drip = client_connect(t.port), idle = client_connect(t.port);
    client_send_cs(idle, GET("/now"));
    assert_int_equal(client_read(idle, false).status, 200);
    client_send_cs(head, "GET / HT");
    client_send_cs(body, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab");
    client_send_cs(drip, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n");
    for (size_t i = 0; i < OCT_COUNT(silent); i++) silent[i] = client_connect(t.port);
    for (int i = 0; i < 24; i++) { /* a byte now and then: stopped by the total, not by idleness */
        client_send_cs(drip, "x");
        oct_sleep_ns(200000000);
        if (i % 2 == 0) client_send_cs(head, "a"); /* likewise */
    }
    answer a = client_read(drip, false);
    assert_int_equal(a.status, 408);
    a = client_read(head, false);
    assert_int_equal(a.status, 408);
    assert_non_null(strstr(a.body, "\"code\":408"));
    assert_int_equal(client_read(body, false).status, 408);
    assert_true(client_sees_close(idle, 10000)); /* keep-alive ends without a word */
    for (size_t i = 0; i < OCT_COUNT(silent); i++) {
        assert_int_equal(client_read(silent[i], false).status, 0);
        close(silent[i]);
    }
    close(head), close(body), close(drip), close(idle);
    test_good(&t);
    test_stop(&t);
}

static void small_unsent(oct_http_config *config) { config->limits.stream_unsent_bytes = 1 << 20; }

static void HT10_client_that_stops_reading(void **state) {
    (void)state;
    test_server t;
    test_start(&t, small_unsent);
    int fds[2];
    for (int i = 0; i < 2; i++) fds[i] = client_connect(t.port);
    client_send_cs(fds[0], GET("/flood")); /* over the limit: dropped at once */
    test_await(&t.n_gone, 1);
    client_send_cs(fds[1], "GET /holdstream HTTP/1.1\r\nHost: x\r\n\r\n");
    test_await_held(&t, 1);
    static char block[900 << 10]; /* under the limit, but more than sockets hold: stalls */
    oct_status status = OCT_OK;
    for (int i = 0; i < 200 && status == OCT_OK; i++) {
        status = oct_http_stream_write(t.held[0], (oct_str){block, 64 << 10});
        oct_sleep_ns(1000000);
        oct_http_stats stats;
        oct_http_server_stats(t.server, &stats);
    }
    if (status == OCT_OK) test_await(&t.n_gone, 2);
    test_await(&t.n_gone, 2);
    assert_true(oct_http_is_closed(t.held[0]));
    assert_int_equal(oct_http_stream_write(t.held[0], OCT_STR("x")), OCT_E_CANCELLED);
    test_finish_held(&t);
    close(fds[0]), close(fds[1]);
    test_good(&t);
    /* An answer that nobody takes, larger than the sockets: only the stall timer ends it. */
    const int fd = client_connect(t.port);
    const int small = 4096;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    for (int i = 0; i < 8; i++) client_send_cs(fd, GET("/big"));
    const unsigned sent = atomic_load(&t.n_sent);
    test_await(&t.n_gone, 3);
    assert_true(atomic_load(&t.n_sent) - sent < 8);
    close(fd);
    test_good(&t);
    test_stop(&t);
}

static void four_connections(oct_http_config *config) { config->limits.connections = 4; }

static void HT11_too_many_connections(void **state) {
    (void)state;
    test_server t;
    test_start(&t, four_connections);
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = client_connect(t.port);
        client_send_cs(fds[i], GET("/hold"));
    }
    test_await_held(&t, 4);
    for (int i = 0; i < 80; i++) { /* more than may wait for their 503 in peace */
        const int fd = client_connect(t.port);
        const answer a = client_read(fd, false);
        assert_int_equal(a.status, 503);
        assert_non_null(strstr(a.head, "Retry-After: 1\n"));
        assert_non_null(strstr(a.body, "\"type\":\"ServiceUnavailableError\""));
        close(fd);
    }
    test_finish_held(&t);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(client_read(fds[i], false).body, "done");
        close(fds[i]);
    }
    test_good(&t);
    test_stop(&t);
}

static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void HT11_no_descriptors(void **state) {
    (void)state;
    struct rlimit old, tight;
    int spare[3], taken[1024], n = 0;
    for (int i = 0; i < 3; i++) spare[i] = client_connect(T.port);
    getrlimit(RLIMIT_NOFILE, &old);
    tight = old;
    tight.rlim_cur = 512;
    setrlimit(RLIMIT_NOFILE, &tight);
    while (n < 1024 && (taken[n] = dup(0)) >= 0) n++;
    close(taken[--n]); /* one for the client, none for the server */
    const int fd = client_connect(T.port);
    const double before = cpu_seconds();
    answer a = client_read(fd, false);
    assert_int_equal(a.status, 503);
    oct_sleep_ns(300000000);
    assert_true(cpu_seconds() - before < 0.25); /* no busy loop */
    close(fd);
    while (n > 0) close(taken[--n]);
    setrlimit(RLIMIT_NOFILE, &old);
    for (int i = 0; i < 3; i++) close(spare[i]);
    test_good(&T);
}

static void HT12_pipelined_and_split(void **state) {
    (void)state;
    static const char two[] =
        "POST /echo?1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        "POST /echo?2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\n" GET("/stream") GET("/echo?4");
    for (size_t cut = 0; cut < sizeof two; cut++) {
        const int fd = client_connect(T.port);
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        client_send(fd, two, cut);
        if (cut % 8 == 0) oct_sleep_ns(300000);
        client_send(fd, two + cut, sizeof two - 1 - cut);
        assert_string_equal(client_read(fd, false).body, "POST /echo 1 hello");
        assert_string_equal(client_read(fd, false).body, "POST /echo 2 abc");
        assert_string_equal(client_read(fd, false).body, "data: 1\n\ndata: 2\n\ndata: [DONE]\n\n");
        assert_string_equal(client_read(fd, false).body, "GET /echo 4 ");
        close(fd);
    }
    const int fd = client_connect(T.port);
    for (size_t i = 0; i < sizeof two - 1; i++) client_send(fd, two + i, 1);
    assert_string_equal(client_read(fd, false).body, "POST /echo 1 hello");
    assert_string_equal(client_read(fd, false).body, "POST /echo 2 abc");
    client_read(fd, false);
    assert_string_equal(client_read(fd, false).body, "GET /echo 4 ");
    /* Far more requests than are read ahead: all answered, in order. */
    char request[64], want[32];
    for (int i = 0; i < 2000; i++) {
        snprintf(request, sizeof request, "GET /echo?%d HTTP/1.1\r\nHost: x\r\n\r\n", i);
        client_send_cs(fd, request);
    }
    for (int i = 0; i < 2000; i++) {
        snprintf(want, sizeof want, "GET /echo %d ", i);
        assert_string_equal(client_read(fd, false).body, want);
    }
    close(fd);
    test_good(&T);
}

enum { LEAVE_CLOSE, LEAVE_RESET, LEAVE_HALF, N_LEAVES };

static void leave(int fd, int how) {
    const struct linger hard = {.l_onoff = 1};
    if (how == LEAVE_HALF) {
        shutdown(fd, SHUT_WR);
        assert_true(client_sees_close(fd, 10000));
    }
    if (how == LEAVE_RESET) setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

static void HT13_disconnects(void **state) {
    (void)state;
    for (int how = 0; how < N_LEAVES; how++) {
        /* in the head, in the body: nothing reaches the handler */
        const unsigned handled = atomic_load(&T.n_handled);
        int fd = client_connect(T.port);
        client_send_cs(fd, "GET /now HT");
        leave(fd, how);
        fd = client_connect(T.port);
        client_send_cs(fd, "POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab");
        leave(fd, how);
        test_await_idle(&T);
        assert_int_equal(atomic_load(&T.n_handled), handled);
        /* while it waits for its answer; in its stream; with a second request already sent */
        static const char *const busy[] = {
            GET("/hold"), GET("/holdstream"), GET("/hold") GET("/now"),
            "POST /holdstream HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"};
        for (size_t i = 0; i < OCT_COUNT(busy); i++) {
            const unsigned gone = atomic_load(&T.n_gone);
            fd = client_connect(T.port);
            client_send_cs(fd, busy[i]);
            test_await_held(&T, 1);
            leave(fd, how);
            test_await(&T.n_gone, gone + 1);
            assert_true(oct_http_is_closed(T.held[0]));
            assert_int_equal(oct_http_respond(T.held[0], 200, NULL, OCT_STR("late")),
                             OCT_E_CANCELLED);
            test_finish_held(&T);
        }
        test_good(&T);
    }
}

/* Reading is paused behind a full read-ahead; even then a close or reset is seen. */
static void HT13_disconnect_behind_pipelined_bytes(void **state) {
    (void)state;
    static char junk[40 << 10]; /* less than the socket holds: the end arrives behind it */
    memset(junk, 'x', sizeof junk);
    for (int how = 0; how < N_LEAVES; how++) {
        const unsigned gone = atomic_load(&T.n_gone);
        const int fd = client_connect(T.port);
        client_send_cs(fd, GET("/hold"));
        test_await_held(&T, 1);
        for (int i = 0; i < 2; i++) {
            client_send(fd, junk, sizeof junk);
            oct_sleep_ns(20000000);
        }
        leave(fd, how);
        test_await(&T.n_gone, gone + 1);
        test_finish_held(&T);
        test_good(&T);
    }
}

/* Clients that leave at random bytes of a stream: everything is given back. */
static void SM2_random_disconnects(void **state) {
    (void)state;
    static const char request[] = GET("/stream");
    uint32_t seed = 1;
    for (int i = 0; i < 300; i++) {
        seed = seed * 1664525u + 1013904223u;
        const int fd = client_connect(T.port);
        client_send(fd, request, 1 + (seed >> 8) % (sizeof request - 1));
        if (seed >> 31) {
            char some[256];
            (void)!recv(fd, some, (seed >> 16) % sizeof some, MSG_DONTWAIT);
        }
        leave(fd, seed >> 20 & 1);
    }
    test_good(&T);
}

static void HT14_paths(void **state) {
    (void)state;
    static const char *const guarded[] = {"/secret",     "//secret",   "/./secret",
                                          "/%73ecret",   "/secret/",   "http://h/secret",
                                          "/secret;x?y", "/secret%2fx"};
    char request[256];
    for (size_t i = 0; i < OCT_COUNT(guarded); i++) {
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", guarded[i]);
        const answer a = client_ask(T.port, request);
        assert_int_equal(a.status, 401);
        assert_string_equal(a.body, "{\"error\":\"Unauthorized\"}");
    }
    refused_cs(GET("/v1/../secret"), 400, "'..'");
    refused_cs(GET("/%2e%2e/secret"), 400, "'..'");
    refused_cs(GET("/a%00b"), 400, "control character");
    refused_cs("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "Host");
    refused_cs("GET / HTTP/1.1\r\n\r\n", 400, "no Host");
    assert_string_equal(client_ask(T.port, GET("//echo/?a=%20")).body, "GET /echo a=%20 ");
    assert_int_equal(client_ask(T.port, GET("/Echo")).status, 404);
    test_good(&T);
}

static void AU4_upload_without_a_key(void **state) {
    (void)state;
    const int fd = client_connect(T.port);
    static char block[64 << 10];
    client_send_cs(fd, "POST /secret HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n");
    const answer a = client_read(fd, false); /* before any of the body */
    assert_int_equal(a.status, 401);
    assert_non_null(strstr(a.head, "Connection: close\n"));
    for (int i = 0; i < 3; i++) client_send(fd, block, sizeof block);
    assert_true(client_sees_close(fd, 3000));
    close(fd);
    oct_http_stats stats;
    oct_http_server_stats(T.server, &stats);
    assert_true(stats.bytes_in < 140u << 10);
    test_good(&T);
}

static void two_loops(oct_http_config *config) { config->n_loops = 2; }

typedef struct writer {
    test_server *t;
    uint32_t i;
} writer;

static void *write_stream(void *arg) {
    const writer *w = arg;
    char text[32];
    for (int i = 0; i < 500; i++) {
        const int n = snprintf(text, sizeof text, "%u:%d;", w->i, i);
        (void)oct_http_stream_write(w->t->held[w->i], (oct_str){text, (size_t)n});
    }
    (void)oct_http_stream_end(w->t->held[w->i], false);
    return NULL;
}

/* Streams written by other threads, several at once, on two loops: each client gets its own, whole.
 */
static void SM5_streams_do_not_mix(void **state) {
    (void)state;
    enum { N = 16 };
    test_server t;
    test_start(&t, two_loops);
    int fds[N];
    pthread_t threads[N];
    writer writers[N];
    for (uint32_t i = 0; i < N; i++) {
        fds[i] = client_connect(t.port);
        client_send_cs(fds[i], GET("/holdstream"));
        test_await_held(&t, i + 1);
    }
    for (uint32_t i = 0; i < N; i++) {
        writers[i] = (writer){&t, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_stream, &writers[i]), 0);
    }
    for (uint32_t i = 0; i < N; i++) {
        char want[8192] = "begun";
        size_t n = 5;
        for (int k = 0; k < 500; k++)
            n += (size_t)snprintf(want + n, sizeof want - n, "%u:%d;", i, k);
        const answer a = client_read(fds[i], false);
        assert_string_equal(a.body, want);
        close(fds[i]);
    }
    for (uint32_t i = 0; i < N; i++) pthread_join(threads[i], NULL);
    test_finish_held(&t);
    test_good(&t);
    test_stop(&t);
}

static void drain_and_stop(void **state) {
    (void)state;
    test_server t;
    test_start(&t, NULL);
    const int held = client_connect(t.port), idle = client_connect(t.port);
    client_send_cs(idle, GET("/now"));
    assert_int_equal(client_read(idle, false).status, 200);
    client_send_cs(held, GET("/hold"));
    test_await_held(&t, 1);
    assert_int_equal(oct_http_server_drain(t.server, 50), OCT_E_CANCELLED);
    client_send_cs(idle, GET("/now")); /* existing connections are still answered, once */
    const answer a = client_read(idle, false);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.head, "Connection: close\n"));
    test_finish_held(&t);
    assert_string_equal(client_read(held, false).body, "done");
    assert_int_equal(oct_http_server_drain(t.server, 5000), OCT_OK);
    close(held), close(idle);
    test_stop(&t);
    /* Stopped with a request open: its client sees the end, its holder that it is closed. */
    test_start(&t, NULL);
    const int fd = client_connect(t.port);
    client_send_cs(fd, GET("/hold"));
    test_await_held(&t, 1);
    oct_http_server_stop(t.server);
    assert_true(client_sees_close(fd, 2000));
    assert_true(oct_http_is_closed(t.held[0]));
    assert_int_equal(atomic_load(&t.n_gone), 1);
    close(fd);
    oct_http_server_destroy(t.server);
    t.server = NULL;
    assert_int_equal(oct_http_respond(t.held[0], 200, NULL, OCT_STR("late")), OCT_E_CANCELLED);
    assert_true(oct_str_is(oct_http_request_path(t.held[0]), "/hold"));
    test_stop(&t);
}

/* The server in a process of its own that is stopped past every deadline: none fires. */
static void OS3_stopped_process(void **state) {
    (void)state;
    int report[2];
    uint32_t port = 0;
    assert_int_equal(pipe(report), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        test_server t;
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing behind */
        test_start(&t, patient);
        (void)!write(report[1], &t.port, sizeof t.port);
        for (;;) pause();
    }
    assert_int_equal(read(report[0], &port, sizeof port), sizeof port);
    const int half = client_connect(port), kept = client_connect(port);
    client_send_cs(kept, GET("/now"));
    assert_int_equal(client_read(kept, false).status, 200);
    client_send_cs(half, "GET /now HT");
    oct_sleep_ns(50000000);
    assert_int_equal(kill(child, SIGSTOP), 0);
    oct_sleep_ns(3000000000);
    assert_int_equal(kill(child, SIGCONT), 0);
    oct_sleep_ns(20000000);
    client_send_cs(half, "TP/1.1\r\nHost: x\r\n\r\n");
    client_send_cs(kept, GET("/now"));
    assert_int_equal(client_read(half, false).status, 200);
    assert_int_equal(client_read(kept, false).status, 200);
    close(half), close(kept), close(report[0]), close(report[1]);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* Refuses every so-many-th request for memory. */
typedef struct flaky {
    oct_allocator allocator;
    atomic_uint n, every;
    atomic_long live;
} flaky;

static void *flaky_alloc(void *ctx, size_t bytes, size_t align) {
    flaky *f = ctx;
    const unsigned every = atomic_load(&f->every);
    if (every > 0 && atomic_fetch_add(&f->n, 1) % every == every - 1) return NULL;
    const oct_allocator *mem = oct_system_allocator();
    void *p = mem->alloc(mem->ctx, bytes, align);
    if (p) atomic_fetch_add(&f->live, 1);
    return p;
}

static void flaky_free(void *ctx, void *ptr, size_t bytes) {
    flaky *f = ctx;
    const oct_allocator *mem = oct_system_allocator();
    if (ptr) atomic_fetch_sub(&f->live, 1);
    mem->free(mem->ctx, ptr, bytes);
}

/* Memory refused anywhere in a request: it gets 503, 500 or a close; the next one is well. */
static void OS5_no_memory_in_requests(void **state) {
    (void)state;
    flaky f = {.allocator = {&f, flaky_alloc, flaky_free}};
    test_server t;
    test_start_with(&t, &f.allocator, NULL);
    unsigned n_ok = 0, n_refused = 0;
    for (unsigned every = 2; every < 40; every++) {
        static const char *const requests[] = {
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", GET("/stream"),
            GET("/big"), GET("/a%00"), "BAD\r\n"};
        atomic_store(&f.every, every);
        for (size_t i = 0; i < OCT_COUNT(requests); i++) {
            const int fd = client_connect(t.port);
            client_send_cs(fd, requests[i]);
            char scratch[64] = {0};
            const ssize_t got = recv(fd, scratch, sizeof scratch - 1, 0);
            if (got > 12 && strncmp(scratch, "HTTP/1.1 200", 12) == 0)
                n_ok++;
            else
                n_refused++;
            close(fd);
        }
        atomic_store(&f.every, 0);
        test_good(&t);
    }
    assert_true(n_ok > 10 && n_refused > 10);
    test_stop(&t);
    assert_int_equal(atomic_load(&f.live), 0);
}

#define ROW(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        ROW(answers),
        ROW(http_1_0),
        ROW(HT1_request_line),
        ROW(HT2_header_bomb),
        ROW(HT3_smuggling),
        ROW(HT4_chunked_bodies),
        ROW(HT5_body_too_large),
        ROW(HT6_codings),
        ROW(HT7_expect),
        cmocka_unit_test(HT9_slow_loris),
        cmocka_unit_test(HT10_client_that_stops_reading),
        cmocka_unit_test(HT11_too_many_connections),
        ROW(HT11_no_descriptors),
        ROW(HT12_pipelined_and_split),
        ROW(HT13_disconnects),
        ROW(HT13_disconnect_behind_pipelined_bytes),
        ROW(SM2_random_disconnects),
        ROW(HT14_paths),
        ROW(AU4_upload_without_a_key),
        cmocka_unit_test(SM5_streams_do_not_mix),
        cmocka_unit_test(drain_and_stop),
        cmocka_unit_test(OS3_stopped_process),
        cmocka_unit_test(OS5_no_memory_in_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
