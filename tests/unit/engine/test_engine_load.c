/*
 * test_engine_load.c - the engine on its own thread: many submitters, random cancels, drain,
 * health. Meant to be run under the thread sanitizer as well.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "harness.h"

enum { N_REQUESTS = 1000, N_THREADS = 4 };

static harness h;
static got g[N_REQUESTS];
static int32_t prompts[N_REQUESTS][64];
static oct_request_spec specs[N_REQUESTS];
static bool cancelled[N_REQUESTS];

static uint64_t rnd(uint64_t *x) {
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 33;
}

static void wait_for(const got *who) {
    const uint64_t begin = oct_now_ns();
    while (atomic_load(&who->n_finals) == 0) {
        if (oct_now_ns() - begin > 60000000000u) fail_msg("no final output within a minute");
        oct_sleep_ns(200000);
    }
}

static void *submitter(void *arg) {
    const uintptr_t first = (uintptr_t)arg;
    uint64_t x = first + 99;
    oct_request *held[8] = {0};
    for (uintptr_t i = first; i < N_REQUESTS; i += N_THREADS) {
        oct_request **slot = &held[rnd(&x) % 8];
        oct_request_release(*slot);
        *slot = NULL;
        while (oct_engine_submit(h.engine, &specs[i], slot, NULL) == OCT_E_FULL)
            oct_sleep_ns(100000);
        if (rnd(&x) % 64 == 0) oct_sleep_ns(rnd(&x) % 2000000);
        if (cancelled[i]) oct_request_cancel(*slot);
    }
    for (int i = 0; i < 8; i++) oct_request_release(held[i]);
    return NULL;
}

static void make_specs(void) {
    uint64_t x = 12345;
    for (int i = 0; i < N_REQUESTS; i++) {
        oct_request_spec s = new_spec(&g[i], prompts[i], 1 + (uint32_t)rnd(&x) % 50,
                                      1 + (uint32_t)rnd(&x) % 40, rnd(&x));
        if (rnd(&x) % 2) {
            s.sampling.temperature = 0.7f;
            s.sampling.has_seed = true;
            s.sampling.seed = rnd(&x);
        }
        if (rnd(&x) % 4 == 0) s.sampling.repetition_penalty = 1.2f;
        if (rnd(&x) % 4 == 0) s.min_tokens = s.max_tokens / 2;
        if (rnd(&x) % 8 == 0) s.prompt_logprobs = 1;
        cancelled[i] = rnd(&x) % 10 == 0;
        specs[i] = s;
    }
}

static void SM5_a_thousand_requests_each_as_if_alone(void **st) {
    (void)st;
    oct_err err = {0};
    pthread_t t[N_THREADS];
    harness_init(&h, 60, 48, 12, &(oct_engine_options){.max_num_queued_reqs = 40});
    make_specs();
    assert_int_equal(oct_engine_start(h.engine, &err), OCT_OK);
    for (uintptr_t i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, submitter, (void *)i), 0);
    for (int i = 0; i < N_THREADS; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < N_REQUESTS; i++) wait_for(&g[i]);
    assert_true(oct_engine_health(h.engine, &err));

    oct_engine_stats stats;
    oct_engine_get_stats(h.engine, &stats);
    uint64_t n_finals = 0;
    for (int i = 0; i < OCT_N_FINISH; i++) n_finals += stats.finished[i];
    assert_int_equal(n_finals, N_REQUESTS);
    assert_true(stats.n_preemptions > 0 && stats.n_mixed_steps > 0);
    print_message("%u steps, %u mixed, %u preemptions, %u aborted\n", (unsigned)stats.n_steps,
                  (unsigned)stats.n_mixed_steps, (unsigned)stats.n_preemptions,
                  (unsigned)stats.finished[OCT_FINISH_ABORT]);
    oct_engine_stop(h.engine, 0); /* what the thread wrote is ours to read from here on */
    for (int i = 0; i < N_REQUESTS; i++) {
        if (g[i].finish != OCT_FINISH_ABORT)
            assert_expected(&h, &specs[i], &g[i]);
        else
            assert_true(cancelled[i]);
    }
    harness_fini(&h);
}

static void start(void) { assert_int_equal(oct_engine_start(h.engine, NULL), OCT_OK); }

static void stop_drains(void **st) {
    (void)st;
    harness_init(&h, 60, 48, 4, NULL);
    for (int i = 0; i < 20; i++) {
        specs[i] = new_spec(&g[i], prompts[i], 9, 30, (uint64_t)i);
        assert_int_equal(oct_engine_submit(h.engine, &specs[i], NULL, NULL), OCT_OK);
    }
    start();
    oct_engine_stop(h.engine, 60000000000u);
    for (int i = 0; i < 20; i++) assert_expected(&h, &specs[i], &g[i]);
    assert_int_equal(oct_engine_submit(h.engine, &specs[0], NULL, NULL), OCT_E_CANCELLED);
    oct_err err = {0};
    assert_false(oct_engine_health(h.engine, &err));
    harness_fini(&h);
}

static void block_a_little(void *arg) {
    (void)arg;
    oct_sleep_ns(5000000);
}

static void stop_aborts_what_the_deadline_leaves(void **st) {
    (void)st;
    harness_init(&h, 60, 48, 4, NULL);
    h.fake.hook = block_a_little;
    for (int i = 0; i < 20; i++) {
        specs[i] = new_spec(&g[i], prompts[i], 9, 50, (uint64_t)i);
        specs[i].ignore_eos = true;
        assert_int_equal(oct_engine_submit(h.engine, &specs[i], NULL, NULL), OCT_OK);
    }
    start();
    oct_engine_stop(h.engine, 30000000);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(atomic_load(&g[i].n_finals), 1);
        assert_int_equal(g[i].finish, OCT_FINISH_ABORT);
    }
    harness_fini(&h);
}

static void stop_before_start_ends_what_is_queued(void **st) {
    (void)st;
    harness_init(&h, 60, 48, 4, NULL);
    specs[0] = new_spec(&g[0], prompts[0], 9, 50, 1);
    assert_int_equal(oct_engine_submit(h.engine, &specs[0], NULL, NULL), OCT_OK);
    oct_engine_stop(h.engine, 1000000000);
    assert_int_equal(g[0].finish, OCT_FINISH_ABORT);
    harness_fini(&h);
}

static void health_of_a_stuck_engine(void) {
    oct_err err = {0};
    harness_init(&h, 60, 48, 4, &(oct_engine_options){.stuck_ns = 50000000});
    assert_false(oct_engine_health(h.engine, NULL)); /* not started */
    start();
    oct_sleep_ns(100000000);
    assert_true(oct_engine_health(h.engine, NULL)); /* idle for long is well */
    atomic_store(&h.fake.blocked, true);
    specs[0] = new_spec(&g[0], prompts[0], 9, 5, 1);
    assert_int_equal(oct_engine_submit(h.engine, &specs[0], NULL, NULL), OCT_OK);
    assert_true(oct_engine_health(h.engine, NULL)); /* not yet */
    oct_sleep_ns(200000000);
    assert_false(oct_engine_health(h.engine, &err));
    assert_non_null(strstr(err.text, "no step has finished"));
    atomic_store(&h.fake.blocked, false);
    wait_for(&g[0]);
    assert_true(oct_engine_health(h.engine, NULL));
    harness_fini(&h);
}

static void KV10_health_tells_a_stuck_engine(void **st) {
    (void)st;
    for (int i = 0; i < 2; i++) { /* steps overlap; and not */
        harness_no_overlap = i;
        health_of_a_stuck_engine();
    }
    harness_no_overlap = false;
}

static void health_tells_a_device_that_fails_again_and_again(void **st) {
    (void)st;
    oct_err err = {0};
    harness_init(&h, 60, 48, 4, NULL);
    start();
    atomic_store(&h.fake.fail_steps, 3);
    for (int i = 0; i < 3; i++) {
        specs[i] = new_spec(&g[i], prompts[i], 9, 5, 1);
        assert_int_equal(oct_engine_submit(h.engine, &specs[i], NULL, NULL), OCT_OK);
        wait_for(&g[i]);
    }
    assert_false(oct_engine_health(h.engine, &err));
    specs[3] = new_spec(&g[3], prompts[3], 9, 5, 1); /* it comes back */
    assert_int_equal(oct_engine_submit(h.engine, &specs[3], NULL, NULL), OCT_OK);
    wait_for(&g[3]);
    assert_true(oct_engine_health(h.engine, NULL));
    harness_fini(&h);
}

static void an_idle_engine_sleeps(void **st) {
    (void)st;
    harness_init(&h, 60, 48, 4, &(oct_engine_options){.log_every_ns = 20000000});
    start();
    specs[0] = new_spec(&g[0], prompts[0], 9, 5, 1);
    assert_int_equal(oct_engine_submit(h.engine, &specs[0], NULL, NULL), OCT_OK);
    wait_for(&g[0]);
    oct_sleep_ns(100000000);
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    oct_sleep_ns(300000000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    const int64_t used_ns = (b.tv_sec - a.tv_sec) * 1000000000 + (b.tv_nsec - a.tv_nsec);
    assert_true(used_ns < 50000000);
    harness_fini(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(SM5_a_thousand_requests_each_as_if_alone),
        cmocka_unit_test(stop_drains),
        cmocka_unit_test(stop_aborts_what_the_deadline_leaves),
        cmocka_unit_test(stop_before_start_ends_what_is_queued),
        cmocka_unit_test(KV10_health_tells_a_stuck_engine),
        cmocka_unit_test(health_tells_a_device_that_fails_again_and_again),
        cmocka_unit_test(an_idle_engine_sleeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
