/*
 * device/cpu/pool.h - the threads of the CPU device: one job at a time, cut into a share for each
 * thread; the caller is thread 0. Who is not there in time has his share done by the others.
 *
 * A decode step of a small model is some hundred jobs of 20 to 100 us each. A sleeping thread
 * takes about 50 us to wake, so between jobs the workers spin; who finds nothing for
 * OCT_POOL_SPIN_NS goes to sleep and costs nothing until the next job. With more threads than
 * processors spinning would steal the time of whom it waits for, so then waits yield at once.
 *
 * Threads    oct_pool_run from one thread at a time. The job function runs on all of them.
 */
#ifndef OCT_DEVICE_CPU_POOL_H
#define OCT_DEVICE_CPU_POOL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "base/status.h"

enum {
    OCT_POOL_MAX_THREADS = 1024,
    OCT_POOL_SPIN_NS = 500 * 1000, /* longer than the host's work between two steps' operations */
};

typedef struct oct_pool oct_pool;

/* What a job is told: which share it does and how many there are. */
typedef struct oct_share {
    unsigned index, n_threads;
} oct_share;

typedef void oct_pool_fn(void *ctx, oct_share share);

/*
 * n_threads 0: one for each core this process may use (its affinity, its processor quota), at most
 * OMP_NUM_THREADS. bind 0: workers are pinned to cores when there is a thread for each; 1: always,
 * the caller too; 2: never.
 */
OCT_MUST_CHECK oct_status oct_pool_create(const oct_allocator *mem, unsigned n_threads,
                                          unsigned bind, oct_pool **out, oct_err *err);
void oct_pool_destroy(oct_pool *pool); /* accepts NULL; no job may run */

unsigned oct_pool_n_threads(const oct_pool *pool);

/* Makes the calling thread the one that oct_pool_run will be called from: it is pinned now, if
 * threads are, and no other caller is later. */
void oct_pool_adopt(oct_pool *pool);

/* fn(ctx, share) once for each share, side by side, share i on thread i if that is awake; back when
 * all are done, with all they wrote visible. Memory set aside for share i is used by one thread at
 * a time. */
void oct_pool_run(oct_pool *pool, oct_pool_fn *fn, void *ctx);

/* The part [*begin, *end) of n things that share does: contiguous, in order, sizes differ by at
 * most one unit of `unit` things. The same for every call with the same n, so that memory first
 * touched under it lies near the thread that reads it later. */
static inline void oct_share_of(oct_share s, size_t n, size_t unit, size_t *begin, size_t *end) {
    const size_t units = (n + unit - 1) / unit;
    const size_t lo = units / s.n_threads, more = units % s.n_threads;
    const size_t first = s.index * lo + (s.index < more ? s.index : more);
    const size_t last = first + lo + (s.index < more ? 1 : 0);
    *begin = first * unit < n ? first * unit : n;
    *end = last * unit < n ? last * unit : n;
}

/* How many threads a pool made with n_threads has, without making one. */
unsigned oct_pool_count(unsigned n_threads);

#endif
