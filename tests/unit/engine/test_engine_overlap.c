/*
 * test_engine_overlap.c - two steps on their way: the same tokens as one after the other, whatever
 * ends, fails or is cancelled in between, and a device that does not wait for the host.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "harness.h"

enum { N = 24, BIG = 256 };

static harness h;
static got g[BIG];
static int32_t prompts[BIG][128];
static oct_request_spec specs[BIG];

static uint64_t rnd(uint64_t *x) {
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 33;
}

/* ---- the same answer ---- */

static const int32_t word_a[] = {7}, word_b[] = {9, 11};
static const oct_token_seq words[] = {{word_a, 1}, {word_b, 2}};
static const oct_token_bias bias[] = {{3, 1.5f}, {40, -INFINITY}};
static int32_t allowed[100];

/* A request with whatever fields the numbers say. */
static oct_request_spec random_spec(int i, uint64_t *x) {
    oct_request_spec s =
        new_spec(&g[i], prompts[i], 1 + (uint32_t)rnd(x) % 40, 1 + (uint32_t)rnd(x) % 40, rnd(x));
    if (rnd(x) % 2) {
        s.sampling.temperature = 0.8f;
        s.sampling.has_seed = true;
        s.sampling.seed = rnd(x);
    }
    switch (rnd(x) % 8) {
    case 0:
        s.sampling.repetition_penalty = 1.2f;
        break;
    case 1:
        s.bad_words = words;
        s.n_bad_words = 2;
        break;
    case 2:
        s.logit_bias = bias;
        s.n_logit_bias = 2;
        s.bad_words = words;
        s.n_bad_words = 1;
        break;
    case 3:
        s.allowed_ids = allowed;
        s.n_allowed_ids = 100;
        break;
    default:
        break;
    }
    if (rnd(x) % 3 == 0) s.min_tokens = s.max_tokens / 2;
    if (rnd(x) % 4 == 0) s.prompt_logprobs = 1;
    if (rnd(x) % 4 == 0) s.n_logprobs = 2;
    s.ignore_eos = rnd(x) % 2;
    return s;
}

/* Traffic of one seed: arrivals between turns, few blocks, small budgets. */
static void run_seed(uint64_t seed) {
    uint64_t x = seed;
    const oct_engine_options o = {.max_chunk_tokens = (uint32_t)(rnd(&x) % 3) * 7};
    const uint32_t n_blocks = 24 + (uint32_t)rnd(&x) % 60;
    harness_init(&h, n_blocks, 8 + (uint32_t)rnd(&x) % 40, 1 + (uint32_t)rnd(&x) % 8, &o);
    for (int i = 0; i < N; i++) {
        specs[i] = random_spec(i, &x);
        harness_submit(&h, &specs[i]);
        for (uint64_t k = rnd(&x) % 6; k > 0; k--) oct_engine_turn(h.engine, 0);
    }
    harness_run(&h);
    for (int i = 0; i < N; i++) assert_expected(&h, &specs[i], &g[i]);
}

static void random_traffic_gives_what_each_gives_alone(void **st) {
    (void)st;
    uint64_t n_beside = 0, n_unknown = 0, n_preempted = 0;
    for (int i = 0; i < 100; i++) allowed[i] = i + 100;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        run_seed(seed);
        n_beside += h.fake.n_beside;
        n_unknown += h.fake.n_unknown;
        n_preempted += harness_stats(&h).n_preemptions;
        harness_fini(&h);
    }
    print_message("%u steps beside another, %u rows of tokens not known yet, %u preemptions\n",
                  (unsigned)n_beside, (unsigned)n_unknown, (unsigned)n_preempted);
    assert_true(n_beside > 1000 && n_unknown > 1000 && n_preempted > 100);
}

static void without_overlap_no_step_is_beside_another(void **st) {
    (void)st;
    harness_no_overlap = true;
    run_seed(1);
    harness_no_overlap = false;
    assert_int_equal(h.fake.n_beside, 0);
    assert_int_equal(h.fake.n_unknown, 0);
    assert_false(oct_engine_get_info(h.engine)->async_scheduling);
    harness_fini(&h);
}

static void rows_that_depend_on_the_last_token_wait_for_it(void **st) {
    (void)st;
    harness_init(&h, 200, 64, 8, NULL);
    for (int i = 0; i < 3; i++) {
        specs[i] = new_spec(&g[i], prompts[i], 5, 30, (uint64_t)i);
        specs[i].ignore_eos = true;
        specs[i].sampling.frequency_penalty = i == 0 ? 0.3f : 0.0f;
        specs[i].bad_words = words;
        specs[i].n_bad_words = i == 1 ? 2 : 0;
    }
    for (int i = 0; i < 2; i++) harness_submit(&h, &specs[i]);
    harness_run(&h);
    assert_int_equal(h.fake.n_unknown, 0);
    for (int i = 0; i < 2; i++) assert_expected(&h, &specs[i], &g[i]);
    harness_submit(&h, &specs[2]); /* everybody else overlaps */
    harness_run(&h);
    assert_int_equal(h.fake.n_unknown, 29);
    assert_expected(&h, &specs[2], &g[2]);
    harness_fini(&h);
}

/* ---- ends ---- */

/* Turns until the request has n tokens; a step is on its way then. */
static void until_tokens(const got *who, uint32_t n) {
    while (who->n_tokens < n) assert_true(oct_engine_turn(h.engine, 0));
}

static void what_was_computed_past_the_end_is_dropped(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 8, NULL);
    h.fake.scripts[0] = (fake_script){.n_prompt = 4, .n = 4, .ids = {50, 51, FAKE_EOS, 52}};
    specs[0] = new_spec(&g[0], prompts[0], 4, 20, 3);
    specs[0].sampling.temperature = 0.5f;
    specs[0].sampling.has_seed = true;
    specs[0].sampling.seed = FAKE_SCRIPT_SEED;
    harness_submit(&h, &specs[0]);
    harness_run(&h);
    assert_int_equal(g[0].finish, OCT_FINISH_STOP);
    assert_int_equal(g[0].n_tokens, 3); /* the end too; what came behind it was never told */
    /* The step behind it is on its way and holds what it writes, though nobody is running. */
    assert_int_equal(harness_stats(&h).n_running, 0);
    assert_int_equal(harness_stats(&h).n_blocks_used, 1);
    assert_int_equal(h.fake.n_pending, 1);
    oct_engine_turn(h.engine, 0);
    assert_int_equal(harness_stats(&h).n_blocks_used, 0);
    assert_int_equal(h.fake.n_pending, 0);
    harness_fini(&h);
}

static void the_last_token_of_the_length_is_the_last_row(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 8, NULL);
    specs[0] = new_spec(&g[0], prompts[0], 4, 10, 3);
    specs[0].ignore_eos = true;
    harness_submit(&h, &specs[0]);
    harness_run(&h);
    assert_int_equal(h.fake.n_steps, 10); /* and none more: the length is no surprise */
    assert_expected(&h, &specs[0], &g[0]);
    harness_fini(&h);
}

static void a_cancelled_one_keeps_its_blocks_until_its_step_is_collected(void **st) {
    (void)st;
    oct_request *r;
    harness_init(&h, 64, 64, 8, NULL);
    specs[0] = new_spec(&g[0], prompts[0], 9, 60, 3);
    specs[1] = new_spec(&g[1], prompts[1], 6, 40, 4);
    specs[0].ignore_eos = specs[1].ignore_eos = true;
    assert_int_equal(oct_engine_submit(h.engine, &specs[0], &r, NULL), OCT_OK);
    harness_submit(&h, &specs[1]);
    until_tokens(&g[0], 5);
    assert_int_equal(h.fake.n_pending, 1);
    oct_request_cancel(r);
    oct_request_release(r);
    harness_run(&h); /* the fake would notice a block that is given out too early */
    assert_int_equal(g[0].finish, OCT_FINISH_ABORT);
    assert_expected(&h, &specs[1], &g[1]);
    harness_fini(&h);
}

static void a_full_cache_preempts_only_with_nothing_on_its_way(void **st) {
    (void)st;
    harness_init(&h, 14, 32, 6, NULL);
    for (int i = 0; i < 6; i++) {
        specs[i] = new_spec(&g[i], prompts[i], 6, 40, (uint64_t)i);
        specs[i].ignore_eos = true;
        harness_submit(&h, &specs[i]);
    }
    harness_run(&h);
    assert_true(harness_stats(&h).n_preemptions > 3 && h.fake.n_beside > 50);
    for (int i = 0; i < 6; i++) assert_expected(&h, &specs[i], &g[i]);
    harness_fini(&h);
}

/* ---- faults ---- */

static void make_three(void) { /* two run, the third waits */
    harness_init(&h, 64, 64, 2, NULL);
    for (int i = 0; i < 3; i++) {
        specs[i] = new_spec(&g[i], prompts[i], 9, 12, (uint64_t)i);
        specs[i].ignore_eos = true;
        harness_submit(&h, &specs[i]);
    }
}

static void a_step_that_fails_takes_the_one_behind_it_along(void **st) {
    (void)st;
    make_three();
    until_tokens(&g[0], 3);
    assert_int_equal(h.fake.n_pending, 1);
    atomic_store(&h.fake.fail_collects, 1); /* the next says that it is well, and is not believed */
    harness_run(&h);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(g[i].finish, OCT_FINISH_ERROR);
        assert_string_equal(g[i].error, "fake: the device failed");
        assert_int_equal(g[i].n_tokens, 3);
    }
    assert_expected(&h, &specs[2], &g[2]);
    assert_int_equal(harness_stats(&h).n_failed_steps, 1);
    harness_fini(&h);
}

static void a_step_that_is_refused_leaves_the_one_before_it_alone(void **st) {
    (void)st;
    make_three();
    until_tokens(&g[0], 3);
    atomic_store(&h.fake.fail_steps, 1);
    harness_run(&h);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(g[i].finish, OCT_FINISH_ERROR);
        assert_string_equal(g[i].error, "fake: the device refused");
        assert_int_equal(g[i].n_tokens, 4); /* what was on its way came */
    }
    assert_expected(&h, &specs[2], &g[2]);
    harness_fini(&h);
}

static void note_lost(void *user, const char *sentence) {
    assert_non_null(strstr(sentence, "fake"));
    ++*(int *)user;
}

static void a_lost_device_ends_everybody_once(void **st) {
    (void)st;
    for (int refused = 0; refused < 2; refused++) {
        int n_lost = 0;
        harness_init(&h, 64, 64, 2,
                     &(oct_engine_options){.on_lost = note_lost, .on_lost_user = &n_lost});
        for (int i = 0; i < 5; i++) {
            specs[i] = new_spec(&g[i], prompts[i], 9, 12, (uint64_t)i);
            specs[i].ignore_eos = true;
            harness_submit(&h, &specs[i]);
        }
        until_tokens(&g[0], 3);
        h.fake.lost = true;
        atomic_store(refused ? &h.fake.fail_steps : &h.fake.fail_collects, 1000);
        if (refused) atomic_store(&h.fake.fail_collects, 1000);
        harness_run(&h);
        assert_int_equal(n_lost, 1);
        for (int i = 0; i < 5; i++) {
            assert_int_equal(atomic_load(&g[i].n_finals), 1);
            assert_int_equal(g[i].finish, OCT_FINISH_ERROR);
        }
        assert_int_equal(oct_engine_submit(h.engine, &specs[0], NULL, NULL), OCT_E_DEVICE);
        harness_fini(&h);
    }
}

static void values_that_are_not_finite_reach_nobody_else(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 8, NULL);
    for (int i = 0; i < 3; i++) {
        specs[i] = new_spec(&g[i], prompts[i], 9, 20, (uint64_t)i);
        specs[i].ignore_eos = true;
    }
    prompts[1][4] = FAKE_POISON;
    for (int i = 0; i < 3; i++) harness_submit(&h, &specs[i]);
    harness_run(&h);
    assert_int_equal(g[1].finish, OCT_FINISH_ERROR);
    assert_int_equal(g[1].n_tokens, 0);
    assert_expected(&h, &specs[0], &g[0]);
    assert_expected(&h, &specs[2], &g[2]);
    harness_fini(&h);
}

/* ---- a device whose step takes 5 ms ---- */

enum { STEP_NS = 5000000, N_STEPS = 120 };

/* Time is what the engine thread computes, and what it would have slept waiting for the device: so
 * that others on the machine do not show. */
typedef struct slow_device {
    oct_engine_backend inner;
    uint64_t free_at[2]; /* when the steps on their way are done */
    uint64_t last_end, idle_ns, busy_ns, slept_ns;
    uint32_t n, newest;
} slow_device;

static uint64_t time_of(const slow_device *d) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + d->slept_ns;
}

static oct_status slow_submit(void *ctx, const oct_model_batch *b, oct_err *err) {
    slow_device *d = ctx;
    const oct_status st = d->inner.submit(d->inner.ctx, b, err);
    const uint64_t now = time_of(d);
    const uint64_t begin = d->last_end > now ? d->last_end : now;
    if (d->last_end > 0) d->idle_ns += begin - d->last_end;
    d->newest = (d->newest + 1) % 2;
    d->free_at[d->newest] = d->last_end = begin + STEP_NS;
    d->busy_ns += STEP_NS;
    d->n++;
    return st;
}

static oct_status slow_collect(void *ctx, oct_model_result *res, oct_err *err) {
    slow_device *d = ctx;
    const uint64_t end = d->free_at[(d->newest + 3 - d->n) % 2], now = time_of(d);
    if (end > now) d->slept_ns += end - now;
    d->n--;
    return d->inner.collect(d->inner.ctx, res, err);
}

/* Share of the time that the device waits for the host, 256 sequences decoding. */
static double idle_share(bool overlap) {
    const uint32_t n_blocks = BIG * (8 + N_STEPS) / FAKE_BLOCK + BIG;
    slow_device d = {0};
    fake_init(&h.fake, n_blocks, 2048, BIG);
    oct_fault_alloc_init(&h.mem, SIZE_MAX, 0);
    d.inner = h.fake.backend;
    oct_engine_backend b = d.inner;
    b.ctx = &d;
    b.submit = slow_submit;
    b.collect = slow_collect;
    b.probe = NULL;
    h.tok = new_tokenizer();
    assert_int_equal(oct_engine_create_on(&h.mem.allocator, &b, h.tok,
                                          &(oct_engine_options){.n_blocks = n_blocks,
                                                                .no_async_scheduling = !overlap},
                                          &h.engine, NULL),
                     OCT_OK);
    for (int i = 0; i < BIG; i++) {
        specs[i] = new_spec(&g[i], prompts[i], 8, N_STEPS, (uint64_t)i);
        specs[i].ignore_eos = true;
        harness_submit(&h, &specs[i]);
    }
    harness_run(&h);
    for (int i = 0; i < BIG; i++) assert_int_equal(g[i].n_tokens, N_STEPS);
    harness_fini(&h);
    return (double)d.idle_ns / (double)(d.idle_ns + d.busy_ns);
}

static void a_device_does_not_wait_for_the_host(void **st) {
    (void)st;
    const double alone = idle_share(false), together = idle_share(true);
    print_message("256 sequences, steps of 5 ms: the device idles %.3f %% of the time; without "
                  "overlap %.2f %%\n",
                  100 * together, 100 * alone);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) && !defined(OCT_DEBUG)
    assert_true(together < 0.01);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_traffic_gives_what_each_gives_alone),
        cmocka_unit_test(without_overlap_no_step_is_beside_another),
        cmocka_unit_test(rows_that_depend_on_the_last_token_wait_for_it),
        cmocka_unit_test(what_was_computed_past_the_end_is_dropped),
        cmocka_unit_test(the_last_token_of_the_length_is_the_last_row),
        cmocka_unit_test(a_cancelled_one_keeps_its_blocks_until_its_step_is_collected),
        cmocka_unit_test(a_full_cache_preempts_only_with_nothing_on_its_way),
        cmocka_unit_test(a_step_that_fails_takes_the_one_behind_it_along),
        cmocka_unit_test(a_step_that_is_refused_leaves_the_one_before_it_alone),
        cmocka_unit_test(a_lost_device_ends_everybody_once),
        cmocka_unit_test(values_that_are_not_finite_reach_nobody_else),
        cmocka_unit_test(a_device_does_not_wait_for_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
