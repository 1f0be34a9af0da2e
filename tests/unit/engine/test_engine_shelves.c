/*
 * test_engine_shelves.c - what blocks held goes to host memory when they are handed out and comes
 * back when it is found: the answers are those of an engine without, over the scripted model, whose
 * cache notices a wrong block.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"

static harness h;
static got g[64];
static int32_t prompts[64][FAKE_MAX_LEN];

static oct_request_spec spec(int i, uint32_t n_prompt, uint32_t max_tokens) {
    oct_request_spec s = new_spec(&g[i], prompts[i], n_prompt, max_tokens, (uint64_t)i + 1);
    s.ignore_eos = true;
    s.n_logprobs = 0;
    return s;
}

static void answer(const oct_request_spec *s, int i) {
    harness_submit(&h, s);
    harness_run(&h);
    assert_expected(&h, s, &g[i]);
}

/* Request i again, from the same memory. */
static uint32_t ask(int i, uint32_t n_prompt, uint32_t max_tokens) {
    const oct_request_spec s = spec(i, n_prompt, max_tokens);
    answer(&s, i);
    return g[i].n_cached;
}

static void what_was_handed_out_comes_back(void **st) {
    (void)st;
    harness_init(&h, 12, 64, 4, &(oct_engine_options){.n_shelves = 64});
    assert_int_equal(ask(0, 40, 4), 0); /* 11 of 12 blocks */
    assert_int_equal(ask(1, 40, 4), 0); /* takes them */
    oct_engine_stats n = harness_stats(&h);
    assert_true(n.n_shelved >= 9 && n.n_shelves_used >= 9 && n.n_fetched == 0);
    assert_int_equal(ask(0, 40, 4), 36);
    n = harness_stats(&h);
    assert_int_equal(n.fetched_tokens, 32); /* the first block was never handed out */
    assert_int_equal(n.n_fetched, 8);
    assert_int_equal(h.fake.n_loads, 8);
    harness_fini(&h);
}

static void what_has_a_copy_is_not_copied_again(void **st) {
    (void)st;
    harness_init(&h, 12, 64, 4, &(oct_engine_options){.n_shelves = 64});
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < 4; i++) assert_int_equal(ask(i, 40, 1), round > 0 ? 36 : 0);
    const uint64_t n_stores = h.fake.n_stores, n_loads = h.fake.n_loads;
    for (int i = 0; i < 4; i++) assert_int_equal(ask(i, 40, 1), 36);
    assert_true(h.fake.n_loads >= n_loads + 27);
    assert_true(h.fake.n_stores - n_stores < 12); /* ends of prompts that are computed each time */
    harness_fini(&h);
}

static void few_shelves_keep_the_beginning_that_was_used_last(void **st) {
    (void)st;
    harness_init(&h, 12, 64, 4, &(oct_engine_options){.n_shelves = 10});
    for (int i = 0; i < 4; i++) assert_int_equal(ask(i, 40, 1), 0);
    assert_int_equal(ask(2, 40, 1), 36); /* on shelves since 3 came */
    assert_int_equal(ask(0, 40, 1), 0);  /* long gone */
    assert_true(harness_stats(&h).n_shelves_used <= 10);
    harness_fini(&h);
}

static void one_beginning_from_blocks_and_shelves(void **st) {
    (void)st;
    for (uint32_t n_other = 4; n_other <= 44; n_other += 4) {
        harness_init(&h, 12, 64, 4, &(oct_engine_options){.n_shelves = 64});
        assert_int_equal(ask(0, 40, 1), 0);
        assert_int_equal(ask(1, n_other, 1), 0); /* takes ends first */
        assert_int_equal(ask(0, 40, 1), 36);
        harness_fini(&h);
    }
}

static void KV2_preempted_ones_find_their_blocks_on_shelves(void **st) {
    (void)st;
    for (int overlap = 0; overlap < 2; overlap++) {
        oct_request_spec s[12];
        harness_no_overlap = overlap == 0;
        harness_init(&h, 24, 64, 12, &(oct_engine_options){.n_shelves = 100});
        for (int i = 0; i < 12; i++) {
            s[i] = spec(i, 9 + 2 * (uint32_t)i, 50);
            harness_submit(&h, &s[i]);
        }
        harness_run(&h);
        for (int i = 0; i < 12; i++) assert_expected(&h, &s[i], &g[i]);
        const oct_engine_stats n = harness_stats(&h);
        assert_true(n.n_preemptions > 0 && n.n_fetched > 0);
        harness_fini(&h);
    }
    harness_no_overlap = false;
}

static void KV5_tenants_share_no_shelf(void **st) {
    (void)st;
    harness_init(&h, 12, 64, 4, &(oct_engine_options){.n_shelves = 64});
    oct_request_spec s = spec(0, 40, 1);
    s.cache_salt = OCT_STR("a");
    answer(&s, 0);
    assert_int_equal(ask(1, 40, 1), 0);
    assert_int_equal(ask(0, 40, 1), 0); /* no salt */
    s = spec(0, 40, 1);
    s.cache_salt = OCT_STR("b");
    answer(&s, 0);
    assert_int_equal(g[0].n_cached, 0);
    s = spec(0, 40, 1);
    s.cache_salt = OCT_STR("a");
    answer(&s, 0);
    assert_int_equal(g[0].n_cached, 36);
    harness_fini(&h);
}

static void KV4_colliding_hashes_find_nothing_foreign(void **st) {
    (void)st;
    harness_init(&h, 12, 64, 4, &(oct_engine_options){.n_shelves = 100, .prefix_hash_bits = 1});
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 8; i++) assert_int_equal(ask(i, 40, 1), round > 0 ? 36 : 0);
    harness_fini(&h);
}

static void reset_forgets_shelves(void **st) {
    (void)st;
    harness_init(&h, 12, 64, 4, &(oct_engine_options){.n_shelves = 64});
    for (int i = 0; i < 3; i++) (void)ask(i, 40, 1);
    assert_true(harness_stats(&h).n_shelves_used > 0);
    oct_engine_reset_prefix_cache(h.engine);
    for (int i = 0; i < 3; i++) assert_int_equal(ask(i, 40, 1), 0);
    harness_fini(&h);
}

/* A copy that is refused costs what was cached, and nobody an answer. */
static void KV10_a_copy_that_is_refused_is_a_miss(void **st) {
    (void)st;
    for (int n = 1; n < 4; n++) {
        harness_init(&h, 12, 64, 4, &(oct_engine_options){.n_shelves = 64});
        for (int i = 0; i < 3; i++) (void)ask(i, 40, 1);
        atomic_store(&h.fake.fail_moves, n);
        assert_int_equal(ask(0, 40, 1), 0);
        for (int i = 0; i < 3; i++) (void)ask(i, 40, 1); /* more are refused while blocks go */
        assert_int_equal(atomic_load(&h.fake.fail_moves), 0);
        for (int i = 0; i < 3; i++) (void)ask(i, 40, 1);
        assert_int_equal(ask(0, 40, 1), 36);
        assert_int_equal(harness_stats(&h).n_failed_steps, 0);
        harness_fini(&h);
    }
}

/* The step behind the copies fails: nobody knows whether they were made. */
static void a_step_that_fails_takes_its_copies_along(void **st) {
    (void)st;
    for (int late = 0; late < 2; late++) {
        harness_init(&h, 12, 64, 4, &(oct_engine_options){.n_shelves = 64});
        for (int i = 0; i < 3; i++) (void)ask(i, 40, 1);
        atomic_store(late ? &h.fake.fail_collects : &h.fake.fail_steps, 1);
        oct_request_spec s = spec(0, 40, 1);
        harness_submit(&h, &s);
        harness_run(&h);
        assert_int_equal(g[0].finish, OCT_FINISH_ERROR);
        for (int i = 0; i < 3; i++) assert_int_equal(ask(i, 40, 1), 0);
        harness_fini(&h);
    }
}

static void shelves_need_the_index_and_a_way(void **st) {
    (void)st;
    fake_backend f;
    oct_engine *e;
    oct_err err = {0};
    fake_init(&f, 12, 64, 4);
    oct_engine_options o = {.n_blocks = 12, .n_shelves = 3, .no_prefix_caching = true};
    assert_int_equal(oct_engine_create_on(oct_system_allocator(), &f.backend, NULL, &o, &e, &err),
                     OCT_E_INVALID);
    o.no_prefix_caching = false;
    f.backend.move = NULL;
    assert_int_equal(oct_engine_create_on(oct_system_allocator(), &f.backend, NULL, &o, &e, &err),
                     OCT_E_INVALID);
    fake_fini(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_handed_out_comes_back),
        cmocka_unit_test(what_has_a_copy_is_not_copied_again),
        cmocka_unit_test(few_shelves_keep_the_beginning_that_was_used_last),
        cmocka_unit_test(one_beginning_from_blocks_and_shelves),
        cmocka_unit_test(KV2_preempted_ones_find_their_blocks_on_shelves),
        cmocka_unit_test(KV5_tenants_share_no_shelf),
        cmocka_unit_test(KV4_colliding_hashes_find_nothing_foreign),
        cmocka_unit_test(reset_forgets_shelves),
        cmocka_unit_test(KV10_a_copy_that_is_refused_is_a_miss),
        cmocka_unit_test(a_step_that_fails_takes_its_copies_along),
        cmocka_unit_test(shelves_need_the_index_and_a_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
