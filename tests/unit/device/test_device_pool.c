/* tests/unit/device/test_device_pool.c - every thread once, nothing lost, sleep and wake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "device/cpu/pool.h"

enum { MAX = 8 };

typedef struct counts {
    unsigned seen[MAX]; /* plain on purpose: the pool orders them */
    unsigned sum;
} counts;

static void count(void *ctx, oct_share s) {
    counts *c = ctx;
    c->seen[s.index]++;
    assert_true(s.index < s.n_threads);
}

static oct_pool *make(unsigned n, unsigned bind) {
    oct_err err = {.code = OCT_OK};
    oct_pool *pool = NULL;
    if (oct_pool_create(oct_system_allocator(), n, bind, &pool, &err) != OCT_OK)
        fail_msg("%s", err.text);
    return pool;
}

static void every_thread_once_a_job(void **s) {
    (void)s;
    for (unsigned n = 1; n <= MAX; n++) {
        oct_pool *pool = make(n, n % 3);
        counts c = {{0}, 0};
        assert_int_equal(oct_pool_n_threads(pool), n);
        for (unsigned job = 1; job <= 200; job++) {
            oct_pool_run(pool, count, &c);
            for (unsigned i = 0; i < n; i++) assert_int_equal(c.seen[i], job);
        }
        oct_pool_destroy(pool);
    }
}

/* Between the jobs workers fall asleep, or are just about to. */
static void wakes_after_any_pause(void **s) {
    (void)s;
    oct_pool *pool = make(3, 2);
    counts c = {{0}, 0};
    for (unsigned job = 1; job <= 60; job++) {
        oct_sleep_ns((uint64_t)(job % 6) * OCT_POOL_SPIN_NS / 3);
        oct_pool_run(pool, count, &c);
        for (unsigned i = 0; i < 3; i++) assert_int_equal(c.seen[i], job);
    }
    oct_pool_destroy(pool);
}

static uint64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void idle_threads_cost_nothing(void **s) {
    (void)s;
    oct_pool *pool = make(4, 2);
    counts c = {{0}, 0};
    oct_pool_run(pool, count, &c);
    const uint64_t before = cpu_ns();
    oct_sleep_ns(100 * 1000 * 1000);
    const uint64_t used = cpu_ns() - before;
    /* Three workers, each at most its spin: far below what 100 ms of spinning would be. */
    if (used > 20 * 1000 * 1000) fail_msg("idle for 100 ms used %u us", (unsigned)(used / 1000));
    oct_pool_destroy(pool);
}

static void shares_cover_everything_once(void **s) {
    (void)s;
    for (unsigned n_threads = 1; n_threads <= 7; n_threads++)
        for (size_t n = 0; n < 100; n++)
            for (size_t unit = 1; unit <= 16; unit *= 4) {
                size_t at = 0;
                for (unsigned i = 0; i < n_threads; i++) {
                    size_t begin, end;
                    oct_share_of((oct_share){i, n_threads}, n, unit, &begin, &end);
                    assert_int_equal(begin, at);
                    assert_true(end >= begin && end <= n);
                    assert_true(begin % unit == 0 || begin == n);
                    at = end;
                }
                assert_int_equal(at, n);
            }
}

static void too_many_threads_refused(void **s) {
    (void)s;
    oct_err err = {.code = OCT_OK};
    oct_pool *pool = NULL;
    assert_int_equal(oct_pool_create(oct_system_allocator(), 5000, 0, &pool, &err), OCT_E_INVALID);
    assert_string_equal(err.text, "threads: too many (got 5000, want at most 1024)");
    assert_null(pool);
}

static void default_count_obeys_the_environment(void **s) {
    (void)s;
    setenv("OMP_NUM_THREADS", "1", 1);
    oct_pool *pool = make(0, 0);
    assert_int_equal(oct_pool_n_threads(pool), 1);
    assert_int_equal(oct_pool_count(0), 1);
    assert_int_equal(oct_pool_count(3), 3);
    oct_pool_destroy(pool);
    unsetenv("OMP_NUM_THREADS");
    pool = make(0, 0);
    assert_int_equal(oct_pool_n_threads(pool), oct_pool_count(0));
    oct_pool_destroy(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_once_a_job),
        cmocka_unit_test(wakes_after_any_pause),
        cmocka_unit_test(idle_threads_cost_nothing),
        cmocka_unit_test(shares_cover_everything_once),
        cmocka_unit_test(too_many_threads_refused),
        cmocka_unit_test(default_count_obeys_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
