/* base/queue.c - a ring under one mutex; the condition uses the monotonic clock. */
#include "base/queue.h"

#include <pthread.h>
#include <time.h>

#include "base/clock.h"

struct oct_queue {
    const oct_allocator *mem;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    size_t cap, len, head;
    bool closed, woken;
    void *items[];
};

oct_status oct_queue_create(const oct_allocator *mem, size_t cap, oct_queue **out) {
    oct_queue *q = oct_calloc(mem, 1, sizeof *q + cap * sizeof q->items[0]);
    *out = q;
    if (!q) return OCT_E_NOMEM;
    q->mem = mem;
    q->cap = cap;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, &attr);
    pthread_condattr_destroy(&attr);
    return OCT_OK;
}

void oct_queue_destroy(oct_queue *q) {
    if (!q) return;
    pthread_cond_destroy(&q->filled);
    pthread_mutex_destroy(&q->lock);
    oct_free(q->mem, q, 1, sizeof *q + q->cap * sizeof q->items[0]);
}

oct_status oct_queue_push(oct_queue *q, void *item) {
    oct_status st = OCT_OK;
    pthread_mutex_lock(&q->lock);
    if (q->closed)
        st = OCT_E_CANCELLED;
    else if (q->len == q->cap)
        st = OCT_E_FULL;
    else {
        q->items[(q->head + q->len++) % q->cap] = item;
        pthread_cond_signal(&q->filled);
    }
    pthread_mutex_unlock(&q->lock);
    return st;
}

void *oct_queue_pop(oct_queue *q, uint64_t wait_ns) {
    void *item = NULL;
    struct timespec until = {0};
    if (wait_ns && wait_ns != UINT64_MAX) {
        const uint64_t t = oct_now_ns() + wait_ns;
        until = (struct timespec){(time_t)(t / 1000000000u), (long)(t % 1000000000u)};
    }
    pthread_mutex_lock(&q->lock);
    while (q->len == 0 && !q->closed && !q->woken && wait_ns) {
        if (wait_ns == UINT64_MAX)
            pthread_cond_wait(&q->filled, &q->lock);
        else if (pthread_cond_timedwait(&q->filled, &q->lock, &until) != 0)
            break;
    }
    if (wait_ns) q->woken = false;
    if (q->len > 0) {
        item = q->items[q->head];
        q->head = (q->head + 1) % q->cap;
        q->len--;
    }
    pthread_mutex_unlock(&q->lock);
    return item;
}

void oct_queue_wake(oct_queue *q) {
    pthread_mutex_lock(&q->lock);
    q->woken = true;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

void oct_queue_close(oct_queue *q) {
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

size_t oct_queue_len(oct_queue *q) {
    pthread_mutex_lock(&q->lock);
    const size_t n = q->len;
    pthread_mutex_unlock(&q->lock);
    return n;
}
