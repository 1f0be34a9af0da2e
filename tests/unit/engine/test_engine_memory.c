/*
 * test_engine_memory.c - row KV9 over a whole life of the engine: made, given requests of every
 * kind, some cancelled, its cache forgotten, stopped in the middle and destroyed, while its n-th
 * request for memory is refused, once or from there on. Every n, steps overlapping and in turn,
 * with guesses and without; with a thread of its own a sample, from a seed (first argument).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "harness.h"

enum { N = 10, N_BLOCKS = 30, ROUNDS = 2, THREAD_RUNS = 60 };

typedef struct way {
    bool in_turn, guesses, thread;
} way;

static harness h;
static got g[ROUNDS][N];
static int32_t prompts[N][64];
static oct_request_spec specs[ROUNDS][N];
static unsigned the_seed;

/* Requests 0 to 2 are choices of one prompt; each of the others has a list of its own. */
static oct_request_spec spec_of(int round, int i, uint64_t group) {
    static const oct_token_bias bias[] = {{3, 1}, {9, -2}};
    static const int32_t allowed[] = {FAKE_EOS, 4, 5, 6, 7}, stops[] = {200, 201}, word[] = {5, 6};
    static const oct_str strings[] = {{"never", 5}, {"ever", 4}};
    static const oct_token_seq words[] = {{word, 2}, {word, 1}};
    oct_request_spec s =
        new_spec(&g[round][i], prompts[i], 9 + (uint32_t)i, 12, i < 3 ? 77 : (uint64_t)i);
    if (i < 3) s = new_spec(&g[round][i], prompts[i], 13, 12, 77);
    s.sampling.seed = 5;
    s.sampling.choice = i < 3 ? (uint32_t)i : 0;
    s.sampling.temperature = i < 3 ? 0.8f : 0.0f;
    s.sampling.has_seed = true;
    s.group = i < 3 ? group : 0;
    s.ignore_eos = i != 7;
    s.n_logprobs = i % 3 == 0 ? 2 : -1;
    s.prompt_logprobs = i == 3 ? 1 : -1;
    if (i == 4) s.sampling.repetition_penalty = 1.2f;
    if (i == 5) s.logit_bias = bias, s.n_logit_bias = 2;
    if (i == 6) s.allowed_ids = allowed, s.n_allowed_ids = 5;
    if (i == 7)
        s.stop = strings, s.n_stop = 2, s.stop_ids = stops, s.n_stop_ids = 2, s.min_tokens = 3;
    if (i == 8) s.bad_words = words, s.n_bad_words = 2;
    if (i == 9) s.cache_salt = OCT_STR("tenant");
    return s;
}

/* Submits all; true for those that were taken. Request 8 is cancelled at once, 9 later. */
static void submit_all(int round, bool taken[N], oct_request **later) {
    const uint64_t group = oct_engine_new_group(h.engine);
    *later = NULL;
    for (int i = 0; i < N; i++) {
        oct_request *r = NULL;
        specs[round][i] = spec_of(round, i, group);
        const oct_status st = oct_engine_submit(h.engine, &specs[round][i], &r, NULL);
        assert_true(st == OCT_OK || st == OCT_E_NOMEM);
        assert_true((st == OCT_OK) == (r != NULL));
        taken[i] = st == OCT_OK;
        if (i == 8 && r) oct_request_cancel(r);
        if (i == N - 1)
            *later = r;
        else
            oct_request_release(r);
    }
}

static void turn(const way *w, int n) {
    if (w->thread)
        oct_sleep_ns(300000);
    else
        for (int i = 0; i < n; i++) oct_engine_turn(h.engine, 0);
}

static bool all_ended(int round, const bool taken[N]) {
    for (int i = 0; i < N; i++)
        if (taken[i] && atomic_load(&g[round][i].n_finals) == 0) return false;
    return true;
}

/* Until all have ended and the steps behind them have given their blocks back. */
static void wait_until_idle(const way *w, int round, const bool taken[N]) {
    const uint64_t begin = oct_now_ns();
    while (!all_ended(round, taken) || harness_stats(&h).n_blocks_used > 0) {
        turn(w, 1);
        if (oct_now_ns() - begin > 60000000000u) fail_msg("requests are left after a minute");
    }
}

/* Every one that was taken ended once: as alone, aborted, or for want of memory. */
static bool check_ends(int round, const bool taken[N], bool may_abort) {
    bool all_well = true;
    for (int i = 0; i < N; i++) {
        const got *one = &g[round][i];
        assert_int_equal(atomic_load(&one->n_finals), taken[i]);
        if (!taken[i]) {
            all_well = false;
        } else if (one->finish == OCT_FINISH_ERROR) {
            assert_int_equal(one->status, OCT_E_NOMEM);
            all_well = false;
        } else if (one->finish == OCT_FINISH_ABORT) {
            assert_true(may_abort || i >= 8);
        } else {
            assert_expected(&h, &specs[round][i], one);
        }
    }
    return all_well;
}

static oct_status make_engine(const way *w) {
    static const int32_t eos[] = {FAKE_EOS};
    const oct_engine_options o = {.n_blocks = N_BLOCKS,
                                  .max_logprobs = 8,
                                  .eos_ids = eos,
                                  .n_eos = 1,
                                  .no_async_scheduling = w->in_turn,
                                  .draft = {w->guesses ? 3 : 0, 1, 3}};
    return oct_engine_create_on(&h.mem.allocator, &h.fake.backend, h.tok, &o, &h.engine, NULL);
}

static bool run_life(const way *w) {
    bool taken[ROUNDS][N], all_well;
    oct_request *later;
    if (w->thread) assert_int_equal(oct_engine_start(h.engine, NULL), OCT_OK);
    submit_all(0, taken[0], &later);
    turn(w, 3);
    if (later) oct_request_cancel(later);
    wait_until_idle(w, 0, taken[0]);
    oct_request_release(later);
    /* The same once more, partly out of the cache, which is forgotten on the way; then the end. */
    submit_all(1, taken[1], &later);
    turn(w, 2);
    oct_engine_reset_prefix_cache(h.engine);
    turn(w, 3);
    oct_engine_stop(h.engine, 0);
    oct_request_release(later);
    all_well = check_ends(0, taken[0], false);
    return check_ends(1, taken[1], true) && all_well;
}

/* True when nothing was refused that mattered. */
static bool live(const way *w, size_t fail_at, int for_ever) {
    bool well = false;
    fake_init(&h.fake, N_BLOCKS, 24, 6);
    h.tok = new_tokenizer();
    oct_fault_alloc_init(&h.mem, fail_at, for_ever);
    const oct_status st = make_engine(w);
    assert_true(st == OCT_OK || st == OCT_E_NOMEM);
    if (st == OCT_OK) well = run_life(w);
    oct_engine_destroy(h.engine);
    h.engine = NULL;
    assert_int_equal(h.mem.live_blocks, 0);
    assert_int_equal(h.mem.live_bytes, 0);
    oct_tokenizer_destroy(h.tok);
    fake_fini(&h.fake);
    return well;
}

static void every_request(bool in_turn, bool guesses) {
    const way w = {.in_turn = in_turn, .guesses = guesses};
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        size_t n = 0, n_well = 0;
        do {
            n_well += live(&w, n, for_ever);
        } while (n++ < h.mem.n_requests);
        assert_true(n > 100 && n_well > 0 && n_well < n);
        if (for_ever) print_message("%zu requests for memory\n", n - 1);
    }
}

static void KV9_every_request_for_memory(void **st) {
    (void)st;
    every_request(false, false);
    every_request(true, false);
    every_request(true, true);
}

static void KV9_beside_a_thread(void **st) {
    (void)st;
    const way none = {.thread = true};
    assert_true(live(&none, SIZE_MAX, 0));
    const size_t n_all = h.mem.n_requests;
    unsigned x = the_seed;
    for (int i = 0; i < THREAD_RUNS; i++) {
        const way w = {.thread = true, .in_turn = i % 2, .guesses = i % 4 == 3};
        x = x * 1664525u + 1013904223u;
        (void)live(&w, (x >> 8) % n_all, i % 3 == 0);
    }
}

int main(int argc, char **argv) {
    the_seed = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : (unsigned)time(NULL);
    print_message("seed %u\n", the_seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(KV9_every_request_for_memory),
        cmocka_unit_test(KV9_beside_a_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
