/*
 * test_engine_sched.c - what of the scheduler's policy a caller of the engine sees: priorities,
 * groups, deadlines, and how much may wait.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "harness.h"

static harness h;
static got g[64];
static int32_t prompts[64][FAKE_MAX_LEN];

static oct_request_spec spec(int i, uint32_t n_prompt, uint32_t max_tokens) {
    oct_request_spec s = new_spec(&g[i], prompts[i], n_prompt, max_tokens, (uint64_t)i + 1);
    s.ignore_eos = true;
    return s;
}

static void lower_numbers_end_first_and_all_are_right(void **st) {
    (void)st;
    oct_request_spec s[12];
    for (int async = 0; async < 2; async++) {
        harness_init(&h, 40, 24, 3,
                     &(oct_engine_options){.by_priority = true, .no_async_scheduling = !async});
        assert_true(oct_engine_get_info(h.engine)->by_priority);
        for (int i = 0; i < 12; i++) {
            s[i] = spec(i, 10, 30);
            s[i].priority = 12 - i; /* the later, the better: each throws others out */
            harness_submit(&h, &s[i]);
            oct_engine_turn(h.engine, 0);
        }
        harness_run(&h);
        for (int i = 0; i < 12; i++) assert_expected(&h, &s[i], &g[i]);
        for (int i = 4; i < 12; i++) /* three run at once */
            assert_true(g[i].times.last_token_ns <= g[i - 4].times.last_token_ns);
        assert_true(harness_stats(&h).n_preemptions >= 4);
        assert_int_equal(g[11].n_preemptions, 0);
        harness_fini(&h);
    }
}

/* n answers to one prompt: it is computed once, and each answer is its own. */
static void choices_of_a_prompt_share_its_blocks(void **st) {
    (void)st;
    oct_request_spec s[8];
    harness_init(&h, 300, 64, 16, &(oct_engine_options){.no_async_scheduling = true});
    const uint64_t group = oct_engine_new_group(h.engine);
    assert_true(oct_engine_new_group(h.engine) != group);
    for (int i = 0; i < 8; i++) {
        s[i] = new_spec(&g[i], prompts[i], 41, 20, 3);
        s[i].ignore_eos = true;
        s[i].group = group;
        s[i].sampling.temperature = 0.9f;
        s[i].sampling.has_seed = true;
        s[i].sampling.seed = 5;
        s[i].sampling.choice = (uint32_t)i;
        harness_submit(&h, &s[i]);
    }
    oct_engine_turn(h.engine, 0);
    oct_engine_turn(h.engine, 0);
    assert_int_equal(harness_stats(&h).n_running, 8);
    /* ten blocks of the prompt for all, and each its own last ones */
    assert_true(harness_stats(&h).n_blocks_used <= 10 + 8 * 2);
    harness_run(&h);
    for (int i = 0; i < 8; i++) {
        assert_expected(&h, &s[i], &g[i]);
        assert_int_equal(g[i].n_cached, i == 0 ? 0 : 40);
    }
    assert_int_equal(harness_stats(&h).computed_prompt_tokens, 41 + 7);
    harness_fini(&h);
}

static void a_cancelled_leader_does_not_stop_its_group(void **st) {
    (void)st;
    oct_request *leader;
    oct_request_spec s[3];
    harness_init(&h, 300, 16, 16, NULL); /* the prompt takes three steps */
    for (int i = 0; i < 3; i++) {
        s[i] = new_spec(&g[i], prompts[i], 41, 8, 3);
        s[i].group = 9;
        assert_int_equal(oct_engine_submit(h.engine, &s[i], i ? NULL : &leader, NULL), OCT_OK);
    }
    oct_engine_turn(h.engine, 0);
    oct_request_cancel(leader);
    oct_request_release(leader);
    harness_run(&h);
    assert_int_equal(g[0].finish, OCT_FINISH_ABORT);
    for (int i = 1; i < 3; i++) assert_expected(&h, &s[i], &g[i]);
    assert_int_equal(g[2].n_cached, 40);
    harness_fini(&h);
}

static void a_request_whose_time_is_up_ends(void **st) {
    (void)st;
    oct_request_spec s[3];
    harness_init(&h, 100, 16, 1, &(oct_engine_options){.no_async_scheduling = true});
    for (int i = 0; i < 3; i++) s[i] = spec(i, 10, 20);
    s[0].deadline_ns = oct_now_ns() + UINT64_C(3600000000000); /* an hour */
    s[1].deadline_ns = 1;                                      /* long ago, and it waits */
    for (int i = 0; i < 3; i++) harness_submit(&h, &s[i]);
    harness_run(&h);
    assert_expected(&h, &s[0], &g[0]);
    assert_expected(&h, &s[2], &g[2]);
    assert_int_equal(g[1].finish, OCT_FINISH_ERROR);
    assert_int_equal(g[1].status, OCT_E_CANCELLED);
    assert_int_equal(g[1].n_tokens, 0);
    s[1] = spec(1, 10, 20); /* while it runs */
    s[1].deadline_ns = oct_now_ns() + 20000000;
    harness_submit(&h, &s[1]);
    oct_engine_turn(h.engine, 0);
    oct_sleep_ns(25000000);
    harness_run(&h);
    assert_int_equal(g[1].status, OCT_E_CANCELLED);
    assert_int_equal(g[1].n_tokens, 1);
    assert_int_equal(atomic_load(&g[1].n_finals), 1);
    harness_fini(&h);
}

/* ---- how much may wait ---- */

static oct_status try(const oct_request_spec *s) {
    oct_err err = {0};
    return oct_engine_submit(h.engine, s, NULL, &err);
}

static void KV3_queued_tokens_are_bounded_exactly(void **st) {
    (void)st;
    oct_request_spec s[6];
    harness_init(&h, 100, 16, 4,
                 &(oct_engine_options){.max_num_queued_tokens = 100, .no_async_scheduling = true});
    assert_int_equal(oct_engine_get_info(h.engine)->max_num_queued_tokens, 100);
    for (int i = 0; i < 6; i++) s[i] = spec(i, i < 2 ? 50 : 1, 4);
    oct_request_spec longer = spec(6, 101, 4);
    assert_int_equal(try(&longer), OCT_E_INVALID); /* never, not later */
    assert_int_equal(try(&s[0]), OCT_OK);
    assert_int_equal(try(&s[1]), OCT_OK);
    assert_int_equal(harness_stats(&h).n_queued_tokens, 100);
    assert_int_equal(try(&s[2]), OCT_E_FULL);
    for (int k = 0; k < 3; k++) oct_engine_turn(h.engine, 0); /* 48 tokens: nobody has answered */
    assert_int_equal(try(&s[2]), OCT_E_FULL);
    oct_engine_turn(h.engine, 0);
    assert_int_equal(g[0].n_tokens, 1);
    assert_int_equal(harness_stats(&h).n_queued_tokens, 50);
    assert_int_equal(try(&s[2]), OCT_OK);
    longer = spec(6, 50, 4);
    assert_int_equal(try(&longer), OCT_E_FULL);
    longer = spec(6, 49, 4);
    assert_int_equal(try(&longer), OCT_OK);
    longer = spec(7, 49, 0); /* refused for another reason: leaves nothing behind */
    assert_int_equal(try(&longer), OCT_E_FULL);
    harness_run(&h);
    assert_int_equal(harness_stats(&h).n_queued_tokens, 0);
    assert_int_equal(try(&longer), OCT_E_INVALID);
    assert_int_equal(harness_stats(&h).n_queued_tokens, 0);
    harness_fini(&h);
}

static void KV3_tokens_of_those_that_fail_are_given_back(void **st) {
    (void)st;
    oct_request *r;
    harness_init(&h, 100, 16, 4, &(oct_engine_options){.max_num_queued_tokens = 100});
    const oct_request_spec s = spec(0, 60, 4);
    assert_int_equal(oct_engine_submit(h.engine, &s, &r, NULL), OCT_OK);
    oct_engine_turn(h.engine, 0);
    oct_request_cancel(r);
    oct_request_release(r);
    harness_run(&h);
    assert_int_equal(harness_stats(&h).n_queued_tokens, 0);
    oct_request_spec bad = spec(1, 60, 4);
    prompts[1][0] = FAKE_POISON;
    assert_int_equal(try(&bad), OCT_OK);
    harness_run(&h);
    assert_int_equal(g[1].finish, OCT_FINISH_ERROR);
    assert_int_equal(harness_stats(&h).n_queued_tokens, 0);
    harness_fini(&h);
}

enum { THREADS = 4, EACH = 400 };
static atomic_uint n_full, n_more;
static got many[THREADS][EACH];
static int32_t many_prompts[THREADS][EACH][16];

static void *flood(void *arg) {
    const int t = (int)(intptr_t)arg;
    for (int i = 0; i < EACH; i++) {
        const oct_request_spec s = new_spec(&many[t][i], many_prompts[t][i], 7, 3, (uint64_t)i);
        const oct_status st = try(&s);
        atomic_fetch_add(&n_full, st == OCT_E_FULL);
        atomic_fetch_add(&n_more, harness_stats(&h).n_queued_tokens > 50);
        if (st == OCT_E_FULL) oct_sleep_ns(100000);
    }
    return NULL;
}

static void KV3_a_flood_never_exceeds_the_bound(void **st) {
    (void)st;
    pthread_t threads[THREADS];
    harness_init(&h, 100, 16, 4, &(oct_engine_options){.max_num_queued_tokens = 50});
    assert_int_equal(oct_engine_start(h.engine, NULL), OCT_OK);
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, flood, (void *)(intptr_t)t), 0);
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    oct_engine_stop(h.engine, UINT64_C(10000000000));
    uint32_t n_ended = 0;
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < EACH; i++) n_ended += atomic_load(&many[t][i].n_finals);
    assert_int_equal(n_ended + atomic_load(&n_full), THREADS * EACH);
    assert_int_equal(atomic_load(&n_more), 0);
    assert_int_equal(harness_stats(&h).n_queued_tokens, 0);
    harness_fini(&h);
}

/* Prompts beside an answer are cut to what the measured cost allows. */
static void slow(void *arg) {
    (void)arg;
    oct_sleep_ns(4000000); /* decodes alone take longer than they may: a block at a time */
}
static void decodes_do_not_wait_for_a_long_prompt(void **st) {
    (void)st;
    oct_request_spec s[2];
    harness_init(&h, 120, 128, 4, &(oct_engine_options){.max_decode_wait_ns = 3000000});
    h.fake.hook = slow;
    s[0] = spec(0, 64, 40);
    harness_submit(&h, &s[0]);
    for (int k = 0; k < 5; k++) oct_engine_turn(h.engine, 0);
    s[1] = spec(1, 300, 4);
    harness_submit(&h, &s[1]);
    const uint64_t before = harness_stats(&h).n_steps;
    while (g[1].n_tokens == 0) oct_engine_turn(h.engine, 0);
    assert_true(harness_stats(&h).n_steps - before > 4); /* without the bound it takes three */
    harness_run(&h);
    for (int i = 0; i < 2; i++) assert_expected(&h, &s[i], &g[i]);
    harness_fini(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lower_numbers_end_first_and_all_are_right),
        cmocka_unit_test(choices_of_a_prompt_share_its_blocks),
        cmocka_unit_test(a_cancelled_leader_does_not_stop_its_group),
        cmocka_unit_test(a_request_whose_time_is_up_ends),
        cmocka_unit_test(KV3_queued_tokens_are_bounded_exactly),
        cmocka_unit_test(KV3_tokens_of_those_that_fail_are_given_back),
        cmocka_unit_test(KV3_a_flood_never_exceeds_the_bound),
        cmocka_unit_test(decodes_do_not_wait_for_a_long_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
