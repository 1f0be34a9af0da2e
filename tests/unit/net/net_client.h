/*
 * tests/unit/net/net_client.h - a raw client for tests: sends exactly the bytes it is given, and a
 * small server behind it that answers by path.
 */
#ifndef OCT_TEST_NET_CLIENT_H
#define OCT_TEST_NET_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>

#include "net/server.h"

typedef struct answer {
    int status; /* 0: closed without one; -1: nothing came in time */
    char head[4096];
    char body[8192];
    size_t body_len; /* all of it, also when it does not fit */
} answer;

/* A connected socket with receive and send timeouts of 10 s. */
int client_connect(uint32_t port);
/* Sends all of it; a peer that closed early is no failure. */
void client_send(int fd, const void *data, size_t len);
void client_send_cs(int fd, const char *text);
/* Reads one answer, chunks removed. no_body: the request was HEAD. Passes over 100 Continue when
 * skip_100. */
answer client_read(int fd, bool no_body);
/* True when the server closes within ms (what it sends meanwhile is dropped). */
bool client_sees_close(int fd, int ms);
/* One request on a connection of its own. */
answer client_ask(uint32_t port, const char *request);

/*
 * The test server. Paths: /echo (method, path, query, body), /now, /big (1 MiB), /hold (kept until
 * test_finish_held), /holdstream (begun, then kept), /stream (three events), /flood (writes until
 * it is dropped), /forget (released unanswered), /headers (sets one with CR LF in it). The guard
 * answers 401 to paths under /secret.
 */
typedef struct test_server {
    oct_http_server *server;
    uint32_t port;
    atomic_uint n_handled, n_sent, n_gone;
    pthread_mutex_t lock;
    oct_http_exchange *held[64];
    uint32_t n_held;
} test_server;

/* Deadlines of some hundred milliseconds, 3 workers; change config before start if it is not
 * NULL. */
void test_start(test_server *t, void (*adjust)(oct_http_config *config));
void test_start_with(test_server *t, const oct_allocator *mem,
                     void (*adjust)(oct_http_config *config));
void test_stop(test_server *t);
/* Waits until n exchanges are held. */
void test_await_held(test_server *t, uint32_t n);
/* Answers all held ones with 200 "done", or ends their streams. */
void test_finish_held(test_server *t);
/* A good request is answered with the bytes it always has, and nothing is left open. */
void test_good(test_server *t);
/* Waits (10 s at most) until *what is want. */
void test_await(atomic_uint *what, uint32_t want);
void test_await_idle(test_server *t);

#endif
