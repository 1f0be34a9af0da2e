/* net/server.c - the life of the server: bind, start, drain, stop; see net/server.h. */
#include <fcntl.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "net/internal.h"

const oct_http_limits oct_http_limits_default = {
    .request_line_bytes = 8u << 10,
    .header_bytes = 64u << 10,
    .header_fields = 128,
    .body_bytes = 32u << 20,
    .body_total_bytes = 1u << 30,
    .connections = 1024,
    .header_ms = 10000,
    .body_idle_ms = 10000,
    .body_ms = 120000,
    .keep_alive_ms = 5000,
    .stream_unsent_bytes = 4u << 20,
    .stall_ms = 30000,
};

static oct_status check_config(const oct_http_config *c, oct_err *err) {
    const oct_http_limits *l = &c->limits;
    if (l->request_line_bytes == 0 || l->header_bytes == 0 || l->header_fields == 0 ||
        l->body_bytes == 0 || l->body_total_bytes == 0 || l->connections == 0 ||
        l->stream_unsent_bytes == 0)
        return OCT_FAIL(err, OCT_E_INVALID, "http: a limit of 0 would let nothing in");
    if (l->header_ms == 0 || l->body_idle_ms == 0 || l->body_ms == 0 || l->keep_alive_ms == 0 ||
        l->stall_ms == 0)
        return OCT_FAIL(err, OCT_E_INVALID, "http: a deadline must be at least 1 ms");
    if (l->header_fields > OCT_HTTP_FIELDS_MAX)
        return OCT_FAIL(err, OCT_E_INVALID, "http: header fields must be at most %d (got %u)",
                        OCT_HTTP_FIELDS_MAX, l->header_fields);
    if (c->n_loops > 64 || c->n_workers > 256)
        return OCT_FAIL(err, OCT_E_INVALID, "http: at most 64 loops and 256 workers");
    return OCT_OK;
}

static oct_status fill(oct_http_server *s, const oct_http_config *config, oct_err *err) {
    s->ctx = config->ctx;
    s->guard = config->guard;
    s->handle = config->handle;
    s->n_loops = config->n_loops ? config->n_loops : 1;
    s->n_workers = config->n_workers ? config->n_workers : 2;
    s->shared = oct_calloc(s->mem, 1, sizeof *s->shared);
    if (!s->shared) return OCT_FAIL(err, OCT_E_NOMEM, "http: no memory for the server");
    s->shared->mem = s->mem;
    atomic_init(&s->shared->refs, 1);
    s->shared->limits = config->limits;
    s->shared->ctx = config->ctx;
    s->shared->decorate = config->decorate;
    s->shared->over = config->over;
    s->loops = oct_calloc(s->mem, s->n_loops, sizeof *s->loops);
    s->workers = oct_calloc(s->mem, s->n_workers, sizeof *s->workers);
    if (!s->loops || !s->workers)
        return OCT_FAIL(err, OCT_E_NOMEM, "http: no memory for the server");
    /* Each connection has at most one request waiting, so the queue never refuses one. */
    return oct_queue_create(s->mem, (size_t)config->limits.connections + 64, &s->queue);
}

oct_status oct_http_server_bind(const oct_allocator *mem, const oct_http_config *config,
                                oct_http_server **out, uint32_t *port, oct_err *err) {
    *out = NULL;
    OCT_TRY(check_config(config, err));
    oct_http_server *s = oct_calloc(mem, 1, sizeof *s);
    if (!s) return OCT_FAIL(err, OCT_E_NOMEM, "http: no memory for the server");
    s->mem = mem;
    s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    oct_status status = fill(s, config, err);
    if (status == OCT_OK && config->tls) status = oct_tls_context_create(config->tls, &s->tls, err);
    if (status == OCT_OK) status = oct_http_listen(s, config, port, err);
    if (status != OCT_OK) {
        oct_http_server_destroy(s);
        return status;
    }
    *out = s;
    return OCT_OK;
}

const char *oct_http_server_address(const oct_http_server *s) { return s->address; }

static void *work(void *server) {
    oct_http_server *s = server;
    for (oct_http_exchange *x; (x = oct_queue_pop(s->queue, UINT64_MAX));) {
        /* A client that left while its request waited costs nothing more. */
        if (!oct_http_is_closed(x)) s->handle(s->ctx, x);
        oct_http_release(x);
    }
    return NULL;
}

oct_status oct_http_server_start(oct_http_server *s, oct_err *err) {
    OCT_ASSERT(!s->started && s->handle);
    s->started = true;
    for (uint32_t i = 0; i < s->n_loops; i++) OCT_TRY(oct_http_loop_init(&s->loops[i], s, err));
    OCT_TRY(oct_http_accept_start(s, err));
    for (uint32_t i = 0; i < s->n_workers; i++)
        OCT_TRY(oct_thread_start(&s->workers[i], "http-worker", work, s, err));
    for (uint32_t i = s->n_loops; i-- > 0;) /* loop 0, which accepts, comes last */
        OCT_TRY(oct_thread_start(&s->loops[i].thread, "http-loop", oct_http_loop_run, &s->loops[i],
                                 err));
    return OCT_OK;
}

void oct_http_server_begin_drain(oct_http_server *s) { atomic_store(&s->shared->draining, true); }

oct_status oct_http_server_drain(oct_http_server *s, uint32_t wait_ms) {
    atomic_store(&s->shared->draining, true);
    if (s->loops[0].thread.running)
        oct_http_loop_command(&s->loops[0], &s->loops[0].stop_accepting);
    const uint64_t start = oct_now_ns();
    while (atomic_load(&s->shared->exchanges_open) > 0) {
        if ((oct_now_ns() - start) / 1000000 >= wait_ms) return OCT_E_CANCELLED;
        oct_sleep_ns(2000000);
    }
    return OCT_OK;
}

void oct_http_server_stop(oct_http_server *s) {
    if (s->stopped) return;
    s->stopped = true;
    atomic_store(&s->shared->draining, true);
    oct_queue_close(s->queue);
    /* Loops first: they end every exchange, so that a worker which waits for one goes on. */
    for (uint32_t i = 0; i < s->n_loops; i++) {
        oct_http_loop *l = &s->loops[i];
        if (!l->thread.running) continue;
        oct_http_loop_command(l, &l->stop);
        oct_thread_join(&l->thread);
    }
    for (uint32_t i = 0; i < s->n_workers; i++) oct_thread_join(&s->workers[i]);
    oct_http_accept_stop(s);
    for (uint32_t i = 0; i < s->n_loops; i++) oct_http_loop_fini(&s->loops[i]);
}

void oct_http_server_destroy(oct_http_server *s) {
    if (!s) return;
    if (s->queue && s->loops && s->workers) oct_http_server_stop(s);
    oct_http_listen_close(s);
    oct_queue_destroy(s->queue);
    oct_free(s->mem, s->loops, s->n_loops, sizeof *s->loops);
    oct_free(s->mem, s->workers, s->n_workers, sizeof *s->workers);
    if (s->reserve_fd >= 0) close(s->reserve_fd);
    oct_tls_context_destroy(s->tls);
    if (s->shared) oct_http_shared_unref(s->shared);
    oct_free(s->mem, s, 1, sizeof *s);
}

void oct_http_server_stats(const oct_http_server *s, oct_http_stats *out) {
    const oct_http_shared *h = s->shared;
    *out = (oct_http_stats){
        .connections = atomic_load(&h->connections),
        .connections_refused = atomic_load(&h->connections_refused),
        .connections_open = atomic_load(&h->connections_open),
        .exchanges_open = atomic_load(&h->exchanges_open),
        .requests = atomic_load(&h->requests),
        .aborted = atomic_load(&h->aborted),
        .bytes_in = atomic_load(&h->bytes_in),
        .bytes_out = atomic_load(&h->bytes_out),
    };
    for (size_t i = 0; i < OCT_COUNT(out->answers); i++)
        out->answers[i] = atomic_load(&h->answers[i]);
}
