/*
 * apps/bench/client.h - many requests to an OpenAI-compatible server at given times, and when each
 * part of each answer came. HTTP is libcurl's.
 *
 * Times are seconds since the run began, on the monotonic clock. What counts as what follows
 * `vllm bench serve`: an answer begins with the first event that has choices, even without text;
 * every later one is one interval; usage events are no tokens.
 *
 * Threads    client_run blocks its caller and does all on that thread.
 * Ownership  The caller owns results (client_results_free).
 */
#ifndef OCT_APPS_BENCH_CLIENT_H
#define OCT_APPS_BENCH_CLIENT_H

#include "base/buf.h"
#include "base/status.h"
#include "cli.h"

typedef struct client_server {
    const char *url;           /* of the server, without the endpoint */
    const char *endpoint;      /* "/v1/completions" */
    const char *unix_socket;   /* or NULL */
    const char *key;           /* bearer token, or NULL */
    const cli_strings *fields; /* "Name=value" */
    bool insecure;             /* certificates are not checked */
} client_server;

typedef struct client_plan {
    client_server server;
    const char *id_prefix; /* X-Request-Id: this and the request's number */
    uint32_t n;
    const double *due;  /* [n] ascending: when each may be sent */
    uint32_t at_a_time; /* most requests on their way; 0: no limit */
    bool keep_texts;
    bool usage_ends; /* an event of usage alone moves the answer's end: as vLLM counts chats */
    /* Appends the body of request i. */
    void (*body)(const void *ctx, uint32_t i, oct_buf *out);
    /* Called several times a second, or NULL. */
    void (*progress)(void *ctx, uint32_t n_done, uint64_t n_events, double seconds);
    const void *ctx;
    void *progress_ctx;
} client_plan;

enum { CLIENT_ERROR_BYTES = 200 };

typedef struct client_result {
    bool ok;
    double sent, first, last; /* the POST; the first event with choices; the end */
    double *gaps;             /* [n_gaps] between events with choices */
    uint32_t n_gaps, cap_gaps;
    int64_t n_prompt, n_output; /* what the server counted, or -1 */
    oct_buf text;
    char error[CLIENT_ERROR_BYTES];
} client_result;

/* out[n] is zeroed by the caller. OCT_OK also when requests failed. *seconds: from the first
 * request sent to the last one's end. OCT_E_NOMEM, OCT_E_INVALID (an address). */
OCT_MUST_CHECK oct_status client_run(const client_plan *p, client_result *out, double *seconds,
                                     oct_err *err);
void client_results_free(client_result *r, uint32_t n);

/* One GET, whole answer into *out (initialised, emptied). The HTTP status, or 0 and why in err. */
long client_get(const client_server *s, const char *path, oct_buf *out, oct_err *err);

#endif
