/*
 * test_engine_draft.c - guessed tokens: where they come from, that wrong ones leave no trace, that
 * right ones save steps, and that every answer is that of one token a step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/parts.h"
#include "harness.h"

enum { N = 16 };

static harness h;
static got g[N];
static int32_t prompts[N][128];
static oct_request_spec specs[N];

static const oct_engine_options guesses = {
    .draft = {.n_tokens = 4, .lookup_min = 2, .lookup_max = 3}};

static uint64_t rnd(uint64_t *x) {
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 33;
}

/* ---- the guesses ---- */

static void find(const int32_t *tokens, uint32_t n, uint32_t lo, uint32_t hi, uint32_t most,
                 const int32_t *want, uint32_t n_want) {
    int32_t out[8] = {0};
    assert_int_equal(oct_draft_find(tokens, n, lo, hi, most, out), n_want);
    assert_memory_equal(out, want, n_want * sizeof *want);
}

static void what_followed_before_is_guessed(void **st) {
    (void)st;
    const int32_t t[] = {1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3};
    const int32_t long_one[] = {4, 9, 2}, short_one[] = {5, 1, 2, 3, 5, 1, 2, 3};
    find(t, 11, 2, 3, 3, long_one, 3);  /* 1 2 3 is longer than the later 2 3 */
    find(t, 11, 2, 2, 8, short_one, 8); /* the latest, again and again */
    find(t, 11, 4, 5, 3, NULL, 0);      /* nothing that long occurred before */
    find(t, 11, 1, 1, 1, short_one, 1);
    find(t, 1, 1, 3, 4, NULL, 0);
    find(t, 5, 1, 3, 4, NULL, 0); /* 9 is new */
    find(t, 11, 2, 3, 0, NULL, 0);
    const int32_t same[] = {7, 7, 7, 7, 7};
    find(same, 4, 1, 3, 5, same, 5);
}

/* ---- the engine ---- */

/* A text that repeats itself: ids of script k, after a prompt of n_prompt. */
static oct_request_spec repeating(int k, uint32_t n_prompt, uint32_t n, uint32_t period) {
    fake_script *s = &h.fake.scripts[k];
    oct_request_spec spec = new_spec(&g[k], prompts[k], n_prompt, n, 77 + (uint64_t)k);
    s->n_prompt = n_prompt;
    s->n = n;
    for (uint32_t i = 0; i < n; i++) s->ids[i] = 20 + (int32_t)(i % period);
    spec.sampling.temperature = 1;
    spec.sampling.has_seed = true;
    spec.sampling.seed = FAKE_SCRIPT_SEED + (uint64_t)k;
    spec.ignore_eos = true;
    return spec;
}

static void right_guesses_save_steps(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 8, &guesses);
    specs[0] = repeating(0, 5, 60, 6);
    specs[0].n_logprobs = 2;
    harness_submit(&h, &specs[0]);
    harness_run(&h);
    assert_expected(&h, &specs[0], &g[0]);
    const oct_engine_stats s = harness_stats(&h);
    /* 8 tokens until the period shows, then 5 a step. */
    assert_true(h.fake.n_steps <= 8 + 52 / 5 + 2);
    assert_int_equal(s.generation_tokens, 60);
    assert_int_equal(s.n_accepted_tokens + h.fake.n_steps, 60);
    assert_true(s.n_drafts > 8 && s.n_accepted_tokens > 40 &&
                s.n_draft_tokens >= s.n_accepted_tokens);
    uint64_t sum = 0;
    for (int i = 0; i < OCT_MAX_DRAFT_TOKENS; i++) {
        sum += s.accepted_at[i];
        if (i > 0) assert_true(s.accepted_at[i] <= s.accepted_at[i - 1]);
    }
    assert_int_equal(sum, s.n_accepted_tokens);
    for (uint32_t i = 0; i < 60; i++) { /* logprobs are those of their own row */
        int32_t all[128];
        memcpy(all, prompts[0], 5 * sizeof *all);
        memcpy(all + 5, g[0].tokens, i * sizeof *all);
        assert_true(g[0].logprobs[i] == fake_logprob(fake_hash(all, 5 + i), g[0].tokens[i]));
    }
    harness_fini(&h);
}

static void wrong_guesses_leave_no_trace(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 8, &guesses);
    specs[0] = repeating(0, 5, 60, 6);
    for (int i = 0; i < 60; i++) /* every second period goes another way in its middle */
        if (i % 12 == 9) h.fake.scripts[0].ids[i] = 100 + i;
    harness_submit(&h, &specs[0]);
    harness_run(&h);
    assert_expected(&h, &specs[0], &g[0]);
    assert_true(harness_stats(&h).n_accepted_tokens > 10);
    assert_true(harness_stats(&h).n_draft_tokens > harness_stats(&h).n_accepted_tokens + 10);
    harness_fini(&h);
}

static void an_end_among_the_guesses_ends_it(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 8, &guesses);
    specs[0] = repeating(0, 5, 60, 4);
    const int32_t stop = 22; /* the third of each period */
    specs[0].stop_ids = &stop;
    specs[0].n_stop_ids = 1;
    specs[0].min_tokens = 30;
    h.fake.scripts[0].ids[2] = h.fake.scripts[0].ids[6] = 23; /* so that it is banned early on */
    harness_submit(&h, &specs[0]);
    harness_run(&h);
    assert_int_equal(g[0].finish, OCT_FINISH_STOP);
    assert_expected(&h, &specs[0], &g[0]);
    harness_fini(&h);
}

static void a_stop_string_among_the_guesses_ends_it(void **st) {
    (void)st;
    const oct_str stop[] = {OCT_STR("cdabcdab")};
    harness_init(&h, 64, 64, 8, &guesses);
    specs[0] = repeating(0, 5, 40, 4);
    for (int i = 0; i < 40; i++) h.fake.scripts[0].ids[i] = FAKE_BYTE_0 + 'a' + i % 4;
    specs[0].stop = stop;
    specs[0].n_stop = 1;
    harness_submit(&h, &specs[0]);
    harness_run(&h);
    assert_int_equal(g[0].finish, OCT_FINISH_STOP);
    assert_string_equal(g[0].text, "ab");
    assert_int_equal(g[0].n_tokens, 10);
    assert_true(harness_stats(&h).n_accepted_tokens > 0);
    harness_fini(&h);
}

/* Few tokens are allowed, so that what is drawn repeats itself by chance; all fields, few blocks.
 */
static void random_traffic_gives_what_each_gives_alone(void **st) {
    (void)st;
    static const int32_t few[] = {5, 6, 7};
    uint64_t n_right = 0, n_wrong = 0, n_preempted = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        uint64_t x = seed;
        oct_engine_options o = {.max_chunk_tokens = (uint32_t)(rnd(&x) % 3) * 7,
                                .draft = {.n_tokens = 1 + (uint32_t)rnd(&x) % 5,
                                          .lookup_min = 1,
                                          .lookup_max = 1 + (uint32_t)rnd(&x) % 3}};
        harness_init(&h, 24 + (uint32_t)rnd(&x) % 60, 8 + (uint32_t)rnd(&x) % 40,
                     1 + (uint32_t)rnd(&x) % 8, &o);
        for (int i = 0; i < N; i++) {
            specs[i] = new_spec(&g[i], prompts[i], 1 + (uint32_t)rnd(&x) % 40,
                                1 + (uint32_t)rnd(&x) % 60, rnd(&x));
            if (rnd(&x) % 2) {
                specs[i].sampling.temperature = 0.8f;
                specs[i].sampling.has_seed = true;
                specs[i].sampling.seed = rnd(&x);
            }
            specs[i].allowed_ids = few;
            specs[i].n_allowed_ids = 1 + (uint32_t)rnd(&x) % 3;
            if (rnd(&x) % 4 == 0) specs[i].sampling.presence_penalty = 0.5f;
            if (rnd(&x) % 4 == 0) specs[i].prompt_logprobs = 1;
            if (rnd(&x) % 4 == 0) specs[i].n_logprobs = 2;
            specs[i].ignore_eos = rnd(&x) % 2;
            harness_submit(&h, &specs[i]);
            for (uint64_t k = rnd(&x) % 6; k > 0; k--) oct_engine_turn(h.engine, 0);
        }
        harness_run(&h);
        for (int i = 0; i < N; i++) assert_expected(&h, &specs[i], &g[i]);
        const oct_engine_stats s = harness_stats(&h);
        n_right += s.n_accepted_tokens;
        n_wrong += s.n_draft_tokens - s.n_accepted_tokens;
        n_preempted += s.n_preemptions;
        harness_fini(&h);
    }
    print_message("%u guesses right, %u wrong, %u preemptions\n", (unsigned)n_right,
                  (unsigned)n_wrong, (unsigned)n_preempted);
    assert_true(n_right > 1000 && n_wrong > 1000 && n_preempted > 100);
}

static void settings_that_make_no_sense_are_refused(void **st) {
    (void)st;
    const oct_draft_options bad[] = {{OCT_MAX_DRAFT_TOKENS + 1, 1, 2}, {3, 0, 2}, {3, 4, 2}};
    fake_init(&h.fake, 64, 64, 8);
    for (int i = 0; i < 3; i++) {
        oct_engine *e;
        assert_int_equal(
            oct_engine_create_on(oct_system_allocator(), &h.fake.backend, NULL,
                                 &(oct_engine_options){.n_blocks = 64, .draft = bad[i]}, &e, NULL),
            OCT_E_INVALID);
    }
    fake_fini(&h.fake);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_followed_before_is_guessed),
        cmocka_unit_test(right_guesses_save_steps),
        cmocka_unit_test(wrong_guesses_leave_no_trace),
        cmocka_unit_test(an_end_among_the_guesses_ends_it),
        cmocka_unit_test(a_stop_string_among_the_guesses_ends_it),
        cmocka_unit_test(random_traffic_gives_what_each_gives_alone),
        cmocka_unit_test(settings_that_make_no_sense_are_refused),
    };
    harness_max_logits = 32;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
