/* test_engine_pause.c - an engine that stands still: what becomes of requests in each mode. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "harness.h"

static harness h;
static got g[16];
static int32_t prompts[16][FAKE_MAX_LEN];
static atomic_int n_told, last_told;

static void on_paused(void *user, bool paused) {
    (void)user;
    n_told++;
    last_told = paused;
}

static oct_request_spec spec(int i, uint32_t max_tokens) {
    oct_request_spec s = new_spec(&g[i], prompts[i], 10, max_tokens, (uint64_t)i + 1);
    s.ignore_eos = true;
    return s;
}

static void start(oct_request_spec *s, int n, uint32_t max_tokens) {
    n_told = 0;
    harness_init(&h, 60, 48, 4, &(oct_engine_options){0});
    for (int i = 0; i < n; i++) {
        s[i] = spec(i, max_tokens);
        harness_submit(&h, &s[i]);
    }
    for (int i = 0; i < 4; i++) assert_true(oct_engine_turn(h.engine, 0));
}

static void pause_it(oct_pause_mode mode) {
    assert_int_equal(oct_engine_pause(h.engine, mode, on_paused, NULL), OCT_OK);
    assert_true(oct_engine_is_paused(h.engine));
    assert_true(oct_engine_turn(h.engine, 0));
}

static void keep_goes_on_where_it_stopped(void **st) {
    (void)st;
    oct_request_spec s[5];
    start(s, 4, 30);
    pause_it(OCT_PAUSE_KEEP);
    assert_int_equal(n_told, 1);
    assert_true(last_told);
    const uint32_t n_before = g[0].n_tokens;
    const uint64_t steps = harness_stats(&h).n_steps;
    s[4] = spec(4, 30);
    harness_submit(&h, &s[4]); /* waits */
    for (int i = 0; i < 5; i++) assert_true(oct_engine_turn(h.engine, 1000));
    assert_int_equal(g[0].n_tokens, n_before);
    assert_int_equal(harness_stats(&h).n_steps, steps);
    assert_int_equal(harness_stats(&h).n_waiting, 1);
    assert_int_equal(harness_stats(&h).n_running, 4);
    assert_true(oct_engine_waiting_ns(h.engine) < UINT64_C(5000000000));
    oct_engine_resume(h.engine);
    assert_false(oct_engine_is_paused(h.engine));
    harness_run(&h);
    for (int i = 0; i < 5; i++) assert_expected(&h, &s[i], &g[i]);
    harness_fini(&h);
}

static void wait_holds_when_all_have_ended(void **st) {
    (void)st;
    oct_request_spec s[5];
    start(s, 4, 20);
    pause_it(OCT_PAUSE_WAIT);
    assert_int_equal(n_told, 0);
    s[4] = spec(4, 20);
    harness_submit(&h, &s[4]);
    for (int i = 0; i < 60; i++) assert_true(oct_engine_turn(h.engine, 1000));
    assert_int_equal(n_told, 1);
    assert_true(last_told);
    for (int i = 0; i < 4; i++) assert_expected(&h, &s[i], &g[i]);
    assert_int_equal(g[4].n_outputs, 0);
    oct_engine_resume(h.engine);
    harness_run(&h);
    assert_expected(&h, &s[4], &g[4]);
    harness_fini(&h);
}

static void abort_ends_what_is_in(void **st) {
    (void)st;
    oct_request_spec s[5];
    start(s, 4, 100);
    pause_it(OCT_PAUSE_ABORT);
    assert_int_equal(n_told, 1);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(g[i].finish, OCT_FINISH_ABORT);
        assert_true(g[i].n_tokens > 0);
    }
    s[4] = spec(4, 10);
    harness_submit(&h, &s[4]);
    assert_true(oct_engine_turn(h.engine, 0));
    assert_int_equal(g[4].n_outputs, 0);
    oct_engine_resume(h.engine);
    harness_run(&h);
    assert_expected(&h, &s[4], &g[4]);
    harness_fini(&h);
}

/* Resumed before the pause held: the one who waits for it is told so. */
static void a_resume_comes_first(void **st) {
    (void)st;
    oct_request_spec s[4];
    start(s, 4, 30);
    pause_it(OCT_PAUSE_WAIT);
    assert_int_equal(n_told, 0);
    oct_engine_resume(h.engine);
    assert_true(oct_engine_turn(h.engine, 0));
    assert_int_equal(n_told, 1);
    assert_false(last_told);
    harness_run(&h);
    for (int i = 0; i < 4; i++) assert_expected(&h, &s[i], &g[i]);
    harness_fini(&h);
}

static void held_ones_can_be_cancelled_and_run_out_of_time(void **st) {
    (void)st;
    oct_request_spec s[3];
    oct_request *r;
    oct_err err = {0};
    start(s, 0, 0);
    pause_it(OCT_PAUSE_KEEP);
    for (int i = 0; i < 3; i++) s[i] = spec(i, 10);
    s[1].deadline_ns = 1;
    assert_int_equal(oct_engine_submit(h.engine, &s[0], &r, &err), OCT_OK);
    harness_submit(&h, &s[1]);
    harness_submit(&h, &s[2]);
    oct_request_cancel(r);
    assert_true(oct_engine_turn(h.engine, 0));
    assert_int_equal(g[0].finish, OCT_FINISH_ABORT);
    assert_int_equal(g[1].finish, OCT_FINISH_ERROR);
    assert_int_equal(g[2].n_outputs, 0);
    oct_request_release(r);
    oct_engine_resume(h.engine);
    harness_run(&h);
    assert_expected(&h, &s[2], &g[2]);
    harness_fini(&h);
}

static void too_many_callers_are_refused(void **st) {
    (void)st;
    oct_request_spec s[1];
    start(s, 1, 100);
    for (int i = 0; i < 16; i++)
        assert_int_equal(oct_engine_pause(h.engine, OCT_PAUSE_WAIT, on_paused, NULL), OCT_OK);
    assert_int_equal(oct_engine_pause(h.engine, OCT_PAUSE_WAIT, on_paused, NULL), OCT_E_FULL);
    oct_engine_resume(h.engine);
    harness_run(&h);
    assert_int_equal(n_told, 16);
    harness_fini(&h);
}

/* A thread of its own, asleep, hears of a pause at once; stopping ends the pause first. */
static void a_sleeping_engine_pauses_and_a_paused_one_stops(void **st) {
    (void)st;
    oct_request_spec s[1];
    oct_err err = {0};
    n_told = 0;
    harness_init(&h, 60, 48, 4, &(oct_engine_options){0});
    assert_int_equal(oct_engine_start(h.engine, &err), OCT_OK);
    assert_int_equal(oct_engine_pause(h.engine, OCT_PAUSE_WAIT, on_paused, NULL), OCT_OK);
    for (int i = 0; i < 5000 && !atomic_load(&n_told); i++) oct_sleep_ns(1000000);
    assert_int_equal(atomic_load(&n_told), 1);
    s[0] = spec(0, 10);
    harness_submit(&h, &s[0]);
    oct_sleep_ns(5000000);
    assert_int_equal(atomic_load(&g[0].n_finals), 0);
    oct_engine_stop(h.engine, UINT64_MAX);
    assert_expected(&h, &s[0], &g[0]);
    assert_int_equal(oct_engine_pause(h.engine, OCT_PAUSE_KEEP, on_paused, NULL), OCT_E_CANCELLED);
    harness_fini(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keep_goes_on_where_it_stopped),
        cmocka_unit_test(wait_holds_when_all_have_ended),
        cmocka_unit_test(abort_ends_what_is_in),
        cmocka_unit_test(a_resume_comes_first),
        cmocka_unit_test(held_ones_can_be_cancelled_and_run_out_of_time),
        cmocka_unit_test(too_many_callers_are_refused),
        cmocka_unit_test(a_sleeping_engine_pauses_and_a_paused_one_stops),
    };
    const int failed = cmocka_run_group_tests_name("steps overlap", tests, NULL, NULL);
    harness_no_overlap = true;
    return failed + cmocka_run_group_tests_name("one step after the other", tests, NULL, NULL);
}
