/*
 * kern/peak.c - time around the register loops, and threads around the reader.
 */
#include "kern/peak.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"

#if defined(__x86_64__)
#include "kern/x86/peak_x86.h"
#endif

enum { PAGE_BYTES = 4096 };
enum { TRIES = 60, TRY_NS = 1000 * 1000, MAX_THREADS = 1024, READ_PASSES = 8 };

typedef uint64_t (*loop_fn)(uint64_t rounds);

uint64_t oct_peak_thread_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Operations a second of the best of several short tries. */
static double best_rate(loop_fn loop) {
    uint64_t rounds = 1024, ns;
    do { /* find a length that fills a try; this also brings the clock up */
        rounds *= 2;
        const uint64_t begin = oct_peak_thread_ns();
        loop(rounds);
        ns = oct_peak_thread_ns() - begin;
    } while (ns < TRY_NS);
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        const uint64_t begin = oct_peak_thread_ns();
        const uint64_t ops = loop(rounds);
        ns = oct_peak_thread_ns() - begin;
        const double rate = (double)ops * 1e9 / (double)ns;
        if (rate > best) best = rate;
    }
    return best;
}

double oct_peak_int8_macs(uint32_t mask) {
#if defined(__x86_64__)
    if (mask & OCT_CPU_AMX_INT8) return best_rate(oct_peak_int8_amx);
    if (mask & OCT_CPU_AVX512_VNNI) return best_rate(oct_peak_int8_avx512);
    if (mask & OCT_CPU_AVX2) return best_rate(oct_peak_int8_avx2);
#endif
    (void)mask;
    return 0;
}

double oct_peak_int8_sum_macs(uint32_t mask) {
#if defined(__x86_64__)
    if (oct_cpu_mask_normal(mask) == OCT_CPU_AVX2) return best_rate(oct_peak_int8_sum_avx2);
#endif
    return oct_peak_int8_macs(mask);
}

double oct_peak_f32_macs(uint32_t mask) {
#if defined(__x86_64__)
    if (mask & OCT_CPU_AVX512_VNNI) return best_rate(oct_peak_f32_avx512);
    if (mask & OCT_CPU_AVX2) return best_rate(oct_peak_f32_avx2);
#endif
    (void)mask;
    return 0;
}

/* Every addition needs the one before it; the empty statements keep the compiler from summing up.
 */
static uint64_t add_chain(uint64_t rounds) {
    uint64_t v = rounds;
    for (uint64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 32
        for (int step = 0; step < 32; step++) {
            v += i;
            __asm__ volatile("" : "+r"(v));
        }
    }
    return rounds * 32;
}

double oct_peak_clock_hz(void) { return best_rate(add_chain); }

static uint64_t read_plain(const void *from, size_t bytes) {
    const uint64_t *v = from;
    uint64_t sum[4] = {0};
    for (size_t i = 0; i < bytes / 8; i += 4)
        for (unsigned l = 0; l < 4; l++) sum[l] ^= v[i + l];
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}

/* Where readers wait for each other before every pass. A barrier of the system would wait for ever
 * for a thread that could not be started; this one can be called off. */
typedef struct read_gate {
    uint32_t n;
    _Atomic uint64_t arrived;
    atomic_bool off;
} read_gate;

static bool gate_pass(read_gate *g, uint64_t pass) {
    atomic_fetch_add(&g->arrived, 1);
    while (atomic_load(&g->arrived) < (pass + 1) * g->n)
        if (atomic_load(&g->off))
            return false;
        else
            sched_yield();
    return true;
}

typedef struct reader {
    oct_thread thread;
    read_gate *gate;
    uint64_t *part;
    size_t bytes;
    uint64_t (*read)(const void *, size_t);
    uint64_t begin_ns[READ_PASSES], end_ns[READ_PASSES];
    uint64_t sum;
} reader;

static void *reader_run(void *arg) {
    reader *r = arg;
    const bool alone = r->gate->n == 1;
    for (size_t i = 0; i < r->bytes / 8; i++) r->part[i] = i;
    for (int pass = 0; pass < READ_PASSES; pass++) {
        if (!gate_pass(r->gate, (uint64_t)pass)) break;
        r->begin_ns[pass] = alone ? oct_peak_thread_ns() : oct_now_ns();
        /* With and without asking for lines ahead, in turn: which is faster depends on the CPU. */
        r->sum ^= (pass % 2 ? read_plain : r->read)(r->part, r->bytes);
        r->end_ns[pass] = alone ? oct_peak_thread_ns() : oct_now_ns();
    }
    return NULL;
}

/* Huge pages where the system gives them on request, as the matrices of the CPU device have. */
static void ask_for_huge_pages(char *buffer, size_t bytes) {
    const size_t skip = (PAGE_BYTES - (uintptr_t)buffer % PAGE_BYTES) % PAGE_BYTES;
    if (bytes > skip)
        madvise(buffer + skip, (bytes - skip) / PAGE_BYTES * PAGE_BYTES, MADV_HUGEPAGE);
}

/* Bytes a second of the best pass: all bytes over first start to last end. */
static double best_pass(const reader *r, uint32_t n) {
    double best = 0;
    for (int pass = 0; pass < READ_PASSES; pass++) {
        uint64_t begin = r[0].begin_ns[pass], end = r[0].end_ns[pass];
        for (uint32_t i = 1; i < n; i++) {
            if (r[i].begin_ns[pass] < begin) begin = r[i].begin_ns[pass];
            if (r[i].end_ns[pass] > end) end = r[i].end_ns[pass];
        }
        const double rate = (double)n * (double)r[0].bytes * 1e9 / (double)(end - begin + 1);
        if (rate > best) best = rate;
    }
    return best;
}

oct_status oct_peak_read(const oct_allocator *mem, uint32_t n_threads, size_t bytes,
                         double *bytes_per_second_out, oct_err *err) {
    if (n_threads == 0 || n_threads > MAX_THREADS)
        return OCT_FAIL(err, OCT_E_INVALID, "read bandwidth: %u threads (want 1 to %d)", n_threads,
                        MAX_THREADS);
    const size_t part = bytes / n_threads / 4096 * 4096;
    if (part == 0)
        return OCT_FAIL(err, OCT_E_INVALID, "read bandwidth: %zu bytes are too few", bytes);
    uint64_t (*read)(const void *, size_t) = read_plain;
#if defined(__x86_64__)
    if (oct_cpu_mask() & OCT_CPU_AVX2) read = oct_read_avx2;
#endif
    oct_status status = OCT_OK;
    read_gate gate = {.n = n_threads};
    reader *readers = oct_calloc(mem, n_threads, sizeof *readers);
    char *buffer = oct_alloc(mem, n_threads, part);
    if (!readers || !buffer) {
        status = OCT_FAIL(err, OCT_E_NOMEM, "read bandwidth: no memory for %zu bytes", bytes);
        goto out;
    }
    ask_for_huge_pages(buffer, n_threads * part);
    uint32_t started = 0;
    while (started < n_threads && status == OCT_OK) {
        reader *r = &readers[started];
        *r = (reader){.gate = &gate,
                      .part = (uint64_t *)(buffer + started * part),
                      .bytes = part,
                      .read = read};
        if (started + 1 == n_threads)
            reader_run(r); /* this thread is the last of them */
        else
            status = oct_thread_start(&r->thread, "peak-read", reader_run, r, err);
        started++;
    }
    if (status != OCT_OK) atomic_store(&gate.off, true);
    for (uint32_t i = 0; i < started; i++) oct_thread_join(&readers[i].thread);
    if (status == OCT_OK) *bytes_per_second_out = best_pass(readers, n_threads);
out:
    oct_free(mem, buffer, n_threads, part);
    oct_free(mem, readers, n_threads, sizeof *readers);
    return status;
}
