/*
 * device/cpu/pool.c - a generation counter that workers watch, and parts of a job that are claimed.
 *
 * A job has as many parts as there are threads. oct_pool_run writes the job, then moves
 * `generation` to g. Thread i claims part i by moving claim[i] from g-1 to g, runs it and takes one
 * from n_left; then it claims what nobody has begun. So on a quiet machine thread i always does
 * part i, and a worker that sleeps or lost its processor holds nobody up with work it did not
 * begin. The job is read only after a claim, and cannot end before the claimed part is done: a
 * worker that comes too late finds no part of its generation and touches nothing.
 *
 * Sleeping is the slow path of both waits and follows one pattern: announce the sleeper, look
 * again, then wait on the condition; the other side changes the value first and then asks for
 * sleepers. Both sides use sequentially consistent operations there, so one of the two always sees
 * the other.
 *
 * Rejected: a futex wake for each job (about 5 us for the caller and 50 us for the worker, against
 * jobs of 20 us); small chunks from a shared counter for every job (rows of a matrix would move
 * between threads and their caches from step to step).
 */
#include "device/cpu/pool.h"

#include <hwloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/thread.h"

#if defined(__x86_64__) || defined(__i386__)
#define CPU_RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define CPU_RELAX() __asm__ volatile("yield")
#else
#define CPU_RELAX() ((void)0)
#endif

enum { YIELD_NS = 30 * 1000 };

typedef struct worker {
    oct_thread thread;
    oct_pool *pool;
    unsigned index;
} worker;

struct oct_pool {
    const oct_allocator *mem;
    unsigned n_threads;
    bool yield;       /* more threads than processors: do not spin */
    bool bind_caller; /* once, at the first job */
    hwloc_topology_t topology;
    bool have_topology;
    hwloc_bitmap_t *core; /* [n_cores] where a thread may be pinned, or NULL */
    unsigned n_cores;

    /* Written by the caller before a job. */
    oct_pool_fn *fn;
    void *ctx;
    atomic_bool stop;

    _Alignas(64) atomic_uint generation;
    atomic_uint n_sleeping;          /* workers that wait on `wake` */
    _Alignas(64) atomic_uint n_left; /* parts not done */
    atomic_bool caller_sleeps;
    atomic_uint *claim; /* [n_threads] generation for which the part was last taken */

    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    worker workers[]; /* [n_threads - 1]: threads 1 .. n_threads-1 */
};

/* ---- waiting --------------------------------------------------------------------------------- */

/* Spins until *value != from (or == to, when until is set); false when the time was up first. */
static bool spin(const oct_pool *pool, atomic_uint *value, unsigned old, bool until_zero) {
    uint64_t give_up = 0;
    for (unsigned n = 1;; n++) {
        const unsigned v = atomic_load_explicit(value, memory_order_acquire);
        if (until_zero ? v == 0 : v != old) return true;
        if (pool->yield) {
            if (n > 16) return false;
            sched_yield();
            continue;
        }
        CPU_RELAX();
        if (n % 64) continue;
        const uint64_t now = oct_now_ns();
        if (!give_up) give_up = now + OCT_POOL_SPIN_NS;
        if (now >= give_up) return false;
        /* On a busy machine whom we wait for may wait for our processor. */
        if (now + OCT_POOL_SPIN_NS > give_up + YIELD_NS) sched_yield();
    }
}

/* The generation after `seen`, or a later one. */
static unsigned wait_for_job(oct_pool *pool, unsigned seen) {
    if (!spin(pool, &pool->generation, seen, false)) {
        pthread_mutex_lock(&pool->lock);
        atomic_fetch_add(&pool->n_sleeping, 1);
        while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
        atomic_fetch_sub(&pool->n_sleeping, 1);
        pthread_mutex_unlock(&pool->lock);
    }
    return atomic_load_explicit(&pool->generation, memory_order_acquire);
}

static void wait_for_workers(oct_pool *pool) {
    if (spin(pool, &pool->n_left, 0, true)) return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_sleeps, true);
    while (atomic_load(&pool->n_left) != 0) pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->lock);
}

static void part_done(oct_pool *pool) {
    if (atomic_fetch_sub(&pool->n_left, 1) != 1) return;
    if (!atomic_load(&pool->caller_sleeps)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->done);
    pthread_mutex_unlock(&pool->lock);
}

/* Returns the job's generation. */
static unsigned announce(oct_pool *pool) {
    atomic_store(&pool->n_left, pool->n_threads);
    const unsigned g = atomic_fetch_add(&pool->generation, 1) + 1;
    if (atomic_load(&pool->n_sleeping) == 0) return g;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    return g;
}

/* Own part first, then whatever nobody has begun. */
static void work(oct_pool *pool, unsigned self, unsigned g) {
    for (unsigned n = 0; n < pool->n_threads; n++) {
        const unsigned part = self + n < pool->n_threads ? self + n : self + n - pool->n_threads;
        unsigned before = g - 1;
        if (atomic_load_explicit(&pool->claim[part], memory_order_relaxed) != before) continue;
        if (!atomic_compare_exchange_strong(&pool->claim[part], &before, g)) continue;
        pool->fn(pool->ctx, (oct_share){part, pool->n_threads});
        part_done(pool);
    }
}

/* ---- threads --------------------------------------------------------------------------------- */

static void pin(const oct_pool *pool, unsigned index) {
    if (pool->core && pool->n_cores)
        hwloc_set_cpubind(pool->topology, pool->core[index % pool->n_cores], HWLOC_CPUBIND_THREAD);
}

static void *worker_run(void *arg) {
    worker *w = arg;
    oct_pool *pool = w->pool;
    pin(pool, w->index);
    for (unsigned seen = 0;;) {
        seen = wait_for_job(pool, seen);
        if (atomic_load(&pool->stop)) return NULL;
        work(pool, w->index, seen);
    }
}

void oct_pool_run(oct_pool *pool, oct_pool_fn *fn, void *ctx) {
    if (pool->bind_caller) {
        pool->bind_caller = false;
        pin(pool, 0);
    }
    if (pool->n_threads == 1) {
        fn(ctx, (oct_share){0, 1});
        return;
    }
    pool->fn = fn;
    pool->ctx = ctx;
    work(pool, 0, announce(pool));
    wait_for_workers(pool);
}

void oct_pool_adopt(oct_pool *pool) {
    pool->bind_caller = false;
    pin(pool, 0);
}

unsigned oct_pool_n_threads(const oct_pool *pool) { return pool->n_threads; }

/* ---- how many, and where --------------------------------------------------------------------- */

/* One bitmap for each core of which the process may use a hardware thread. */
static unsigned find_cores(hwloc_topology_t t, hwloc_bitmap_t *core, unsigned cap) {
    hwloc_bitmap_t may = hwloc_bitmap_alloc();
    if (!may) return 0;
    if (hwloc_get_cpubind(t, may, HWLOC_CPUBIND_PROCESS) != 0 || hwloc_bitmap_iszero(may))
        hwloc_bitmap_copy(may, hwloc_topology_get_allowed_cpuset(t));
    const int depth = hwloc_get_type_or_below_depth(t, HWLOC_OBJ_CORE);
    const unsigned n = hwloc_get_nbobjs_by_depth(t, depth);
    unsigned n_found = 0;
    for (unsigned i = 0; i < n && n_found < cap; i++) {
        hwloc_obj_t obj = hwloc_get_obj_by_depth(t, depth, i);
        if (!hwloc_bitmap_intersects(obj->cpuset, may)) continue;
        if (core) {
            core[n_found] = hwloc_bitmap_alloc();
            if (!core[n_found]) break;
            hwloc_bitmap_and(core[n_found], obj->cpuset, may);
            hwloc_bitmap_singlify(core[n_found]);
        }
        n_found++;
    }
    hwloc_bitmap_free(may);
    return n_found;
}

/* A container may be given the time of fewer processors than it sees; 0: no limit found. */
static unsigned quota_cores(void) {
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re"); /* "max 100000" or "150000 100000" */
    char line[64] = "";
    uint64_t quota, period;
    if (!f) return 0;
    line[fread(line, 1, sizeof line - 1, f)] = '\0';
    fclose(f);
    const size_t n = strcspn(line, " ");
    const char *rest = line + n + (line[n] == ' ');
    if (!oct_parse_u64((oct_str){line, n}, &quota) ||
        !oct_parse_u64((oct_str){rest, strcspn(rest, "\n")}, &period) || period == 0)
        return 0;
    return (unsigned)(quota / period + (quota % period != 0));
}

static unsigned env_threads(void) {
    const char *s = getenv("OMP_NUM_THREADS");
    uint64_t n = 0;
    return s && oct_parse_u64(oct_str_of(s), &n) && n <= OCT_POOL_MAX_THREADS ? (unsigned)n : 0;
}

static bool load_topology(hwloc_topology_t *t) {
    if (hwloc_topology_init(t) != 0) return false;
    if (hwloc_topology_load(*t) == 0) return true;
    hwloc_topology_destroy(*t);
    return false;
}

static unsigned count_cores(hwloc_topology_t *t) {
    unsigned n = t ? find_cores(*t, NULL, OCT_POOL_MAX_THREADS) : 1;
    const unsigned quota = quota_cores();
    if (quota && quota < n) n = quota;
    return n ? n : 1;
}

/* n as oct_pool_create was given it. */
static unsigned choose_count(unsigned n, unsigned n_cores) {
    const unsigned capped = env_threads();
    if (n == 0) n = capped && capped < n_cores ? capped : n_cores;
    return n;
}

unsigned oct_pool_count(unsigned n_threads) {
    hwloc_topology_t t;
    const bool have = load_topology(&t);
    const unsigned n_cores = count_cores(have ? &t : NULL);
    if (have) hwloc_topology_destroy(t);
    return choose_count(n_threads, n_cores);
}

static void choose_cores(oct_pool *pool, unsigned bind, unsigned n_cores) {
    const bool wanted = bind == 1 || (bind == 0 && pool->n_threads == n_cores);
    if (!wanted || !pool->have_topology || pool->n_threads == 1) return;
    pool->core = oct_calloc(pool->mem, pool->n_threads, sizeof(hwloc_bitmap_t));
    if (!pool->core) return; /* pinning is a favour, not a need */
    pool->n_cores = find_cores(pool->topology, pool->core, pool->n_threads);
    pool->bind_caller = bind == 1;
}

static void free_cores(oct_pool *pool) {
    for (unsigned i = 0; pool->core && i < pool->n_cores; i++) hwloc_bitmap_free(pool->core[i]);
    oct_free(pool->mem, pool->core, pool->n_threads, sizeof(hwloc_bitmap_t));
    if (pool->have_topology) hwloc_topology_destroy(pool->topology);
}

/* ---- life ------------------------------------------------------------------------------------ */

static size_t pool_bytes(unsigned n_threads) {
    const size_t bytes = sizeof(oct_pool) + (n_threads - 1) * sizeof(worker);
    return (bytes + 63) / 64 * 64;
}

static oct_status start_workers(oct_pool *pool, oct_err *err) {
    for (unsigned i = 1; i < pool->n_threads; i++) {
        worker *w = &pool->workers[i - 1];
        char name[16];
        w->pool = pool;
        w->index = i;
        snprintf(name, sizeof name, "oct-cpu-%u", i % 10000u);
        OCT_TRY(oct_thread_start(&w->thread, name, worker_run, w, err));
    }
    return OCT_OK;
}

oct_status oct_pool_create(const oct_allocator *mem, unsigned n_threads, unsigned bind,
                           oct_pool **out, oct_err *err) {
    *out = NULL;
    if (n_threads > OCT_POOL_MAX_THREADS)
        return OCT_FAIL(err, OCT_E_INVALID, "threads: too many (got %u, want at most %d)",
                        n_threads, OCT_POOL_MAX_THREADS);
    hwloc_topology_t topology;
    const bool have = load_topology(&topology);
    const unsigned n_cores = count_cores(have ? &topology : NULL);
    const unsigned n = choose_count(n_threads, n_cores);

    oct_pool *pool = oct_calloc(mem, pool_bytes(n), 1);
    if (!pool) {
        if (have) hwloc_topology_destroy(topology);
        return OCT_FAIL(err, OCT_E_NOMEM, "threads: no memory for %u", n);
    }
    pool->mem = mem;
    pool->n_threads = n;
    pool->yield = n > n_cores;
    pool->have_topology = have;
    if (have) pool->topology = topology;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    choose_cores(pool, bind, n_cores);

    pool->claim = oct_calloc(mem, n, sizeof *pool->claim);
    const oct_status st = pool->claim ? start_workers(pool, err)
                                      : OCT_FAIL(err, OCT_E_NOMEM, "threads: no memory for %u", n);
    if (st != OCT_OK) {
        oct_pool_destroy(pool);
        return st;
    }
    *out = pool;
    return OCT_OK;
}

void oct_pool_destroy(oct_pool *pool) {
    if (!pool) return;
    atomic_store(&pool->stop, true);
    (void)announce(pool);
    for (unsigned i = 1; i < pool->n_threads; i++) oct_thread_join(&pool->workers[i - 1].thread);
    free_cores(pool);
    oct_free(pool->mem, pool->claim, pool->n_threads, sizeof *pool->claim);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    oct_free(pool->mem, pool, pool_bytes(pool->n_threads), 1);
}
