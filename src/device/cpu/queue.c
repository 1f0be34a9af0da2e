/*
 * device/cpu/queue.c - a ring of commands, two counters, and a place to sleep for each side.
 *
 * n_pushed is the caller's, n_done the thread's; command i lies at i % SLOTS. Sleeping is the slow
 * path of both sides and follows one pattern: announce the sleeper, look again, then wait on the
 * condition; the other side changes its counter first and then asks for sleepers, both sequentially
 * consistent, so that one of the two always sees the other.
 *
 * The thread is woken by flush and not by each push: it would overtake the caller at every short
 * operation and go back to sleep.
 */
#include "device/cpu/queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/assert.h"
#include "base/thread.h"

enum {
    SLOTS = 2048,    /* more than the operations of two steps of most models */
    FLUSH_EACH = 64, /* pushes after which the thread may as well begin */
};

struct oct_cpu_queue {
    const oct_allocator *mem;
    size_t command_bytes;
    oct_cpu_run_fn *run;
    void (*begin)(void *ctx);
    void *ctx;
    oct_thread thread;
    unsigned char *slots; /* [SLOTS][command_bytes] */

    _Alignas(64) _Atomic uint64_t n_pushed;
    atomic_bool stop, caller_sleeps;
    _Atomic uint64_t wanted; /* n_done that the sleeping caller waits for */
    _Alignas(64) _Atomic uint64_t n_done;
    atomic_bool thread_sleeps;
    int32_t failed;             /* read after failed_at */
    _Atomic uint64_t failed_at; /* n_done behind the command that failed; 0: none did */

    pthread_mutex_t lock;
    pthread_cond_t work, done;
};

static void *slot_of(oct_cpu_queue *q, uint64_t i) {
    return q->slots + (size_t)(i % SLOTS) * q->command_bytes;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* False: stopped, and nothing is left. */
static bool wait_for_work(oct_cpu_queue *q, uint64_t n_done) {
    if (atomic_load_explicit(&q->n_pushed, memory_order_acquire) != n_done) return true;
    pthread_mutex_lock(&q->lock);
    atomic_store(&q->thread_sleeps, true);
    while (atomic_load(&q->n_pushed) == n_done && !atomic_load(&q->stop))
        pthread_cond_wait(&q->work, &q->lock);
    atomic_store(&q->thread_sleeps, false);
    pthread_mutex_unlock(&q->lock);
    return atomic_load(&q->n_pushed) != n_done;
}

static void tell_done(oct_cpu_queue *q, uint64_t n_done) {
    atomic_store(&q->n_done, n_done);
    if (!atomic_load(&q->caller_sleeps) || n_done < atomic_load(&q->wanted)) return;
    pthread_mutex_lock(&q->lock);
    pthread_cond_signal(&q->done);
    pthread_mutex_unlock(&q->lock);
}

static void *queue_main(void *arg) {
    oct_cpu_queue *q = arg;
    q->begin(q->ctx);
    for (uint64_t n = 0; wait_for_work(q, n);) {
        if (atomic_load_explicit(&q->failed_at, memory_order_relaxed) == 0) {
            const int32_t code = q->run(q->ctx, slot_of(q, n));
            if (code != 0) q->failed = code;
            if (code != 0) atomic_store(&q->failed_at, n + 1);
        }
        tell_done(q, ++n);
    }
    return NULL;
}

/* ---- the caller ------------------------------------------------------------------------------ */

static void wait_until(oct_cpu_queue *q, uint64_t n) {
    if (atomic_load_explicit(&q->n_done, memory_order_acquire) >= n) return;
    oct_cpu_queue_flush(q);
    pthread_mutex_lock(&q->lock);
    atomic_store(&q->wanted, n);
    atomic_store(&q->caller_sleeps, true);
    while (atomic_load(&q->n_done) < n) pthread_cond_wait(&q->done, &q->lock);
    atomic_store(&q->caller_sleeps, false);
    pthread_mutex_unlock(&q->lock);
}

uint64_t oct_cpu_queue_push(oct_cpu_queue *q, const void *command) {
    const uint64_t n = atomic_load_explicit(&q->n_pushed, memory_order_relaxed);
    if (n >= SLOTS) wait_until(q, n - SLOTS + 1);
    memcpy(slot_of(q, n), command, q->command_bytes);
    atomic_store_explicit(&q->n_pushed, n + 1, memory_order_release);
    if ((n + 1) % FLUSH_EACH == 0) oct_cpu_queue_flush(q);
    return n + 1;
}

void oct_cpu_queue_flush(oct_cpu_queue *q) {
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load(&q->thread_sleeps)) return;
    pthread_mutex_lock(&q->lock);
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
}

uint64_t oct_cpu_queue_n_pushed(const oct_cpu_queue *q) {
    return atomic_load_explicit(&q->n_pushed, memory_order_relaxed);
}

int32_t oct_cpu_queue_wait(oct_cpu_queue *q, uint64_t n) {
    wait_until(q, n);
    /* Later commands may be running: whether one of ours failed is fixed by now. */
    const uint64_t at = atomic_load(&q->failed_at);
    return at != 0 && at <= n ? q->failed : 0;
}

void oct_cpu_queue_clear(oct_cpu_queue *q) {
    OCT_ASSERT(atomic_load(&q->n_done) == atomic_load(&q->n_pushed));
    atomic_store(&q->failed_at, 0);
}

/* ---- life ------------------------------------------------------------------------------------ */

oct_status oct_cpu_queue_create(const oct_allocator *mem, size_t command_bytes, oct_cpu_run_fn *run,
                                void (*begin)(void *ctx), void *ctx, oct_cpu_queue **out,
                                oct_err *err) {
    *out = NULL;
    oct_cpu_queue *q = oct_calloc(mem, 1, sizeof *q);
    if (!q) return OCT_FAIL(err, OCT_E_NOMEM, "device cpu: no memory for a queue");
    *q = (oct_cpu_queue){.mem = mem,
                         .command_bytes = (command_bytes + 15) / 16 * 16,
                         .run = run,
                         .begin = begin,
                         .ctx = ctx};
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->work, NULL);
    pthread_cond_init(&q->done, NULL);
    q->slots = oct_calloc(mem, SLOTS, q->command_bytes);
    const oct_status st = q->slots
                              ? oct_thread_start(&q->thread, "oct-cpu-0", queue_main, q, err)
                              : OCT_FAIL(err, OCT_E_NOMEM, "device cpu: no memory for a queue");
    if (st != OCT_OK) {
        oct_cpu_queue_destroy(q);
        return st;
    }
    *out = q;
    return OCT_OK;
}

void oct_cpu_queue_destroy(oct_cpu_queue *q) {
    if (!q) return;
    if (q->thread.running) wait_until(q, oct_cpu_queue_n_pushed(q));
    atomic_store(&q->stop, true);
    oct_cpu_queue_flush(q);
    oct_thread_join(&q->thread);
    oct_free(q->mem, q->slots, SLOTS, q->command_bytes);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->work);
    pthread_cond_destroy(&q->done);
    oct_free(q->mem, q, 1, sizeof *q);
}
