/*
 * test_engine.c - the engine, turned by hand over a scripted model: what a request is told, how it
 * ends, and that whatever shares its steps does not show.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/parts.h"
#include "harness.h"

static harness h;
static got g[64];
static int32_t prompts[64][FAKE_MAX_LEN];

static void refused(const oct_request_spec *s, const char *word) {
    oct_err err = {0};
    oct_request *r = (oct_request *)&err; /* must be cleared */
    assert_int_equal(oct_engine_submit(h.engine, s, &r, &err), OCT_E_INVALID);
    assert_null(r);
    if (!strstr(err.text, word)) fail_msg("'%s' does not say '%s'", err.text, word);
}

/* A spec that draws exactly these ids, whatever the model says. */
static oct_request_spec script(int k, uint32_t max_tokens, const int32_t *ids, uint32_t n) {
    oct_request_spec s = new_spec(&g[k], prompts[k], 5, max_tokens, (uint64_t)k + 77);
    h.fake.scripts[k].n_prompt = 5;
    h.fake.scripts[k].n = n;
    memcpy(h.fake.scripts[k].ids, ids, n * sizeof *ids);
    s.sampling.has_seed = true;
    s.sampling.seed = FAKE_SCRIPT_SEED + (uint64_t)k;
    return s;
}

enum { W = FAKE_WORD_0, B = FAKE_BYTE_0 };
#define IDS(...) \
    (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

/* ---- the same answer ---- */

static void a_request_alone(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 8, NULL);
    const oct_request_spec s = new_spec(&g[0], prompts[0], 11, 20, 1);
    harness_submit(&h, &s);
    harness_run(&h);
    assert_expected(&h, &s, &g[0]);
    assert_int_equal(g[0].finish, OCT_FINISH_LENGTH);
    assert_int_equal(g[0].n_outputs, 20);
    assert_true(g[0].times.arrival_ns <= g[0].times.first_scheduled_ns);
    assert_true(g[0].times.first_scheduled_ns <= g[0].times.first_token_ns);
    assert_true(g[0].times.first_token_ns <= g[0].times.last_token_ns);
    oct_engine_stats stats;
    oct_engine_get_stats(h.engine, &stats);
    assert_int_equal(stats.prompt_tokens, 11);
    assert_int_equal(stats.computed_prompt_tokens, 11);
    assert_int_equal(stats.generation_tokens, 20);
    assert_int_equal(stats.n_steps, 20);
    assert_int_equal(stats.step_tokens_sum, 11 + 20);
    assert_int_equal(stats.finished[OCT_FINISH_LENGTH], 1);
    harness_fini(&h);
}

static void mixed_batches_give_what_each_gives_alone(void **st) {
    (void)st;
    const uint32_t chunks[] = {1, 3, 4, 5, 0};
    for (int c = 0; c < 5; c++) {
        oct_request_spec s[24];
        harness_init(&h, 400, 40, 16, &(oct_engine_options){.max_chunk_tokens = chunks[c]});
        for (int i = 0; i < 24; i++) {
            s[i] = new_spec(&g[i], prompts[i], 1 + (uint32_t)i * 3 % 50, 5 + (uint32_t)i % 17,
                            (uint64_t)i);
            harness_submit(&h, &s[i]);
        }
        harness_run(&h);
        for (int i = 0; i < 24; i++) assert_expected(&h, &s[i], &g[i]);
        oct_engine_stats stats;
        oct_engine_get_stats(h.engine, &stats);
        assert_true(stats.n_shared_steps > 10);
        assert_true(stats.n_mixed_steps > 3);
        assert_int_equal(stats.n_preemptions, 0);
        harness_fini(&h);
    }
}

static void KV2_preemption_gives_the_same_tokens(void **st) {
    (void)st;
    oct_request_spec s[12];
    harness_init(&h, 30, 64, 12, NULL);
    for (int i = 0; i < 12; i++) {
        s[i] = new_spec(&g[i], prompts[i], 4 + (uint32_t)i, 60, (uint64_t)i + 500);
        s[i].ignore_eos = true;
        s[i].n_logprobs = 2;
        harness_submit(&h, &s[i]);
    }
    harness_run(&h);
    uint32_t n_preempted = 0;
    for (int i = 0; i < 12; i++) {
        assert_expected(&h, &s[i], &g[i]);
        assert_int_equal(g[i].n_outputs, 60); /* none sent twice */
        n_preempted += g[i].n_preemptions;
        for (uint32_t k = 0; k < 60; k++) { /* and the same logprobs */
            int32_t all[FAKE_MAX_LEN];
            memcpy(all, s[i].prompt, s[i].n_prompt * sizeof *all);
            memcpy(all + s[i].n_prompt, g[i].tokens, k * sizeof *all);
            const uint64_t hash = fake_hash(all, s[i].n_prompt + k);
            assert_true(g[i].logprobs[k] == fake_logprob(hash, g[i].tokens[k]));
            assert_int_equal(g[i].top_first[k], hash % FAKE_VOCAB);
        }
    }
    assert_int_equal(g[0].n_preemptions, 0); /* the oldest */
    oct_engine_stats stats;
    oct_engine_get_stats(h.engine, &stats);
    assert_true(n_preempted > 0 && stats.n_preemptions == n_preempted);
    harness_fini(&h);
}

static void seeds_and_choices_give_their_own_tokens(void **st) {
    (void)st;
    oct_request_spec s[6];
    harness_init(&h, 200, 64, 8, NULL);
    for (int i = 0; i < 6; i++) {
        s[i] = new_spec(&g[i], prompts[i], 7, 30, 9);
        s[i].sampling = (oct_sampling){.temperature = 0.8f,
                                       .top_p = 0.9f,
                                       .top_k = 40,
                                       .min_p = 0.01f,
                                       .repetition_penalty = 1.0f,
                                       .has_seed = true,
                                       .seed = i < 4 ? 5 : 6,
                                       .choice = i < 2 ? 0 : 1};
        harness_submit(&h, &s[i]);
    }
    harness_run(&h);
    for (int i = 0; i < 6; i++) assert_expected(&h, &s[i], &g[i]);
    assert_memory_equal(g[0].tokens, g[1].tokens, g[0].n_tokens * sizeof(int32_t));
    assert_memory_not_equal(g[0].tokens, g[2].tokens, 5 * sizeof(int32_t));
    assert_memory_not_equal(g[2].tokens, g[4].tokens, 5 * sizeof(int32_t));
    harness_fini(&h);
}

static void without_a_seed_each_has_its_own(void **st) {
    (void)st;
    harness_init(&h, 200, 64, 8, NULL);
    for (int i = 0; i < 2; i++) {
        oct_request_spec s = new_spec(&g[i], prompts[i], 7, 30, 9);
        s.sampling.temperature = 1.0f;
        s.ignore_eos = true;
        harness_submit(&h, &s);
    }
    harness_run(&h);
    assert_memory_not_equal(g[0].tokens, g[1].tokens, 30 * sizeof(int32_t));
    harness_fini(&h);
}

static void penalties_bias_masks_and_bad_words_are_of_their_row(void **st) {
    (void)st;
    oct_request_spec s[16];
    int32_t allowed[40], bad_a[] = {W + 1}, bad_b[8][3];
    oct_token_bias bias[] = {{9, -INFINITY}, {5, 2.5f}, {9, 1.0f}, {7, -INFINITY}, {280, -3.0f}};
    oct_token_seq bad[8][3];
    harness_init(&h, 400, 64, 16, NULL);
    for (int i = 0; i < 40; i++) allowed[i] = 290 - i * 5;
    for (int i = 0; i < 16; i++) {
        s[i] = new_spec(&g[i], prompts[i], 6 + (uint32_t)i, 40, (uint64_t)i % 8);
        s[i].ignore_eos = true;
        if (i & 1) s[i].sampling.repetition_penalty = 1.25f;
        if (i & 2) s[i].sampling.frequency_penalty = 0.5f;
        if (i & 4) {
            s[i].logit_bias = bias;
            s[i].n_logit_bias = 5;
        }
        if (i & 8) {
            s[i].allowed_ids = allowed;
            s[i].n_allowed_ids = 40;
        }
    }
    /* First free, then again with words banned that the first answer held. */
    for (int i = 0; i < 16; i++) harness_submit(&h, &s[i]);
    harness_run(&h);
    for (int i = 0; i < 16; i++) assert_expected(&h, &s[i], &g[i]);
    for (int i = 0; i < 8; i++) {
        memcpy(bad_b[i], g[i].tokens + 10, sizeof bad_b[i]);
        bad[i][0] = (oct_token_seq){bad_a, 1};
        bad[i][1] = (oct_token_seq){bad_b[i], 3};
        bad[i][2] = (oct_token_seq){bad_b[i] + 1, 2};
        memset(&g[i + 32], 0, sizeof g[0]);
        s[i].user = &g[i + 32];
        s[i].bad_words = bad[i];
        s[i].n_bad_words = 3;
        harness_submit(&h, &s[i]);
    }
    harness_run(&h);
    for (int i = 0; i < 8; i++) {
        assert_expected(&h, &s[i], &g[i + 32]);
        assert_memory_not_equal(g[i].tokens, g[i + 32].tokens, 40 * sizeof(int32_t));
    }
    harness_fini(&h);
}

static void prompt_logprobs_come_once_and_whole(void **st) {
    (void)st;
    oct_request_spec s[4];
    harness_init(&h, 300, 16, 6, NULL); /* logits of 6 rows a step: prompts in small chunks */
    for (int i = 0; i < 4; i++) {
        s[i] = new_spec(&g[i], prompts[i], 23, 10, (uint64_t)i);
        s[i].prompt_logprobs = i == 3 ? -1 : i;
        harness_submit(&h, &s[i]);
    }
    harness_run(&h);
    for (int i = 0; i < 4; i++) {
        assert_expected(&h, &s[i], &g[i]);
        assert_int_equal(g[i].n_prompt_lp, i == 3 ? 0 : 23);
        for (uint32_t k = 1; k < g[i].n_prompt_lp; k++)
            assert_true(g[i].prompt_lp[k] ==
                        fake_logprob(fake_hash(s[i].prompt, k), s[i].prompt[k]));
    }
    harness_fini(&h);
}

/* ---- ends ---- */

static void eos_and_stop_ids_end_it(void **st) {
    (void)st;
    const int32_t stop_ids[] = {W + 3, W + 3, 5};
    harness_init(&h, 64, 64, 8,
                 &(oct_engine_options){.eos_ids = (const int32_t[]){FAKE_EOS, W + 9}, .n_eos = 2});
    oct_request_spec s[4];
    s[0] = script(0, 20, IDS(W, W + 1, FAKE_EOS, W + 2));
    s[1] = script(1, 20, IDS(W, W + 9, W + 1));
    s[2] = script(2, 20, IDS(W, W + 3, W + 1));
    s[2].stop_ids = stop_ids;
    s[2].n_stop_ids = 3;
    s[3] = s[2];
    s[3] = script(3, 20, IDS(W, W + 3, W + 1));
    s[3].stop_ids = stop_ids;
    s[3].n_stop_ids = 3;
    s[3].include_stop = true;
    for (int i = 0; i < 4; i++) harness_submit(&h, &s[i]);
    harness_run(&h);
    assert_string_equal(g[0].text, " w0 w1");
    assert_int_equal(g[0].n_tokens, 3); /* the EOS counts */
    assert_int_equal(g[0].finish, OCT_FINISH_STOP);
    assert_int_equal(g[0].stop_kind, OCT_STOP_EOS);
    assert_string_equal(g[1].text, " w0");
    assert_int_equal(g[1].stop_kind, OCT_STOP_EOS);
    assert_string_equal(g[2].text, " w0");
    assert_int_equal(g[2].stop_kind, OCT_STOP_ID);
    assert_int_equal(g[2].stop_id, W + 3);
    assert_string_equal(g[3].text, " w0 w3");
    harness_fini(&h);
}

static void ignore_eos_goes_on_to_the_length(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 8, NULL);
    oct_request_spec s = script(0, 4, IDS(W, FAKE_EOS, W + 1, FAKE_EOS));
    s.ignore_eos = true;
    harness_submit(&h, &s);
    harness_run(&h);
    assert_int_equal(g[0].n_tokens, 4);
    assert_int_equal(g[0].finish, OCT_FINISH_LENGTH);
    assert_string_equal(g[0].text, " w0 w1");
    harness_fini(&h);
}

static void min_tokens_holds_every_stop_back(void **st) {
    (void)st;
    const int32_t stop_ids[] = {W + 3};
    const oct_str stop[] = {OCT_STR("w1")};
    harness_init(&h, 64, 64, 8, NULL);
    oct_request_spec s = script(0, 20, IDS(FAKE_EOS, W + 3, W + 1, W, W + 1));
    s.min_tokens = 4;
    s.stop_ids = stop_ids;
    s.n_stop_ids = 1;
    s.stop = stop;
    s.n_stop = 1;
    harness_submit(&h, &s);
    harness_run(&h);
    assert_int_equal(g[0].n_tokens, 5);
    assert_true(g[0].tokens[0] != FAKE_EOS && g[0].tokens[1] != W + 3); /* could not be drawn */
    assert_int_equal(g[0].tokens[2], W + 1);                            /* too early to stop */
    assert_int_equal(g[0].stop_kind, OCT_STOP_STRING);
    assert_string_equal(g[0].stop_text, "w1");
    harness_fini(&h);
}

static void SM1_stop_strings_across_tokens(void **st) {
    (void)st;
    const oct_str stop[] = {OCT_STR("STOP")};
    harness_init(&h, 64, 64, 8, NULL);
    const int32_t found[] = {W, B + 'S', B + 'T', B + 'x', B + 'S', B + 'T', B + 'O', B + 'P', W};
    const int32_t begun[] = {W, B + 'S', B + 'T', B + 'O'};
    oct_request_spec s[3];
    s[0] = script(0, 20, found, 9);
    s[1] = script(1, 20, found, 9);
    s[1].include_stop = true;
    s[2] = script(2, 4, begun, 4);
    for (int i = 0; i < 3; i++) {
        s[i].stop = stop;
        s[i].n_stop = 1;
        harness_submit(&h, &s[i]);
    }
    harness_run(&h);
    assert_string_equal(g[0].text, " w0STx");
    assert_int_equal(g[0].n_tokens, 8);
    assert_int_equal(g[0].finish, OCT_FINISH_STOP);
    assert_int_equal(g[0].stop_kind, OCT_STOP_STRING);
    assert_string_equal(g[0].stop_text, "STOP");
    assert_string_equal(g[1].text, " w0STxSTOP");
    assert_string_equal(g[2].text, " w0STO"); /* a false start is released at the end */
    assert_int_equal(g[2].finish, OCT_FINISH_LENGTH);
    harness_fini(&h);
}

static void a_stop_string_wins_over_the_length(void **st) {
    (void)st;
    const oct_str stop[] = {OCT_STR("ab")};
    harness_init(&h, 64, 64, 8, NULL);
    oct_request_spec s = script(0, 2, IDS(B + 'a', B + 'b'));
    s.stop = stop;
    s.n_stop = 1;
    harness_submit(&h, &s);
    harness_run(&h);
    assert_int_equal(g[0].finish, OCT_FINISH_STOP);
    assert_int_equal(g[0].text_len, 0);
    harness_fini(&h);
}

static void SM1_characters_split_over_tokens(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 8, NULL);
    const int32_t euro[] = {B + 0xe2, B + 0x82, B + 0xac, W};
    oct_request_spec s[2];
    s[0] = script(0, 4, euro, 4);
    s[1] = script(1, 2, euro, 4); /* never completed */
    for (int i = 0; i < 2; i++) harness_submit(&h, &s[i]);
    while (g[0].n_tokens == 0) oct_engine_turn(h.engine, 0);
    assert_int_equal(g[0].n_tokens, 1);
    assert_int_equal(g[0].text_len, 0); /* held back, but the token was told */
    harness_run(&h);
    assert_string_equal(g[0].text, "\xe2\x82\xac w0");
    assert_string_equal(g[1].text, "\xef\xbf\xbd");
    harness_fini(&h);
}

static void text_is_left_out_when_declined(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 8, NULL);
    oct_request_spec s = script(0, 3, IDS(W, W, W));
    s.detokenize = false;
    harness_submit(&h, &s);
    harness_run(&h);
    assert_int_equal(g[0].text_len, 0);
    assert_int_equal(g[0].n_tokens, 3);
    harness_fini(&h);
}

static void RQ10_no_token_allowed(void **st) {
    (void)st;
    const int32_t allowed[] = {4};
    const oct_token_bias bias[] = {{4, -INFINITY}};
    harness_init(&h, 64, 64, 8, NULL);
    oct_request_spec s = new_spec(&g[0], prompts[0], 5, 5, 1);
    const oct_request_spec other = new_spec(&g[1], prompts[1], 5, 5, 2);
    s.allowed_ids = allowed;
    s.n_allowed_ids = 1;
    s.logit_bias = bias;
    s.n_logit_bias = 1;
    harness_submit(&h, &s);
    harness_submit(&h, &other);
    harness_run(&h);
    assert_int_equal(g[0].finish, OCT_FINISH_ERROR);
    assert_string_equal(g[0].error, "no token allowed");
    assert_expected(&h, &other, &g[1]);
    harness_fini(&h);
}

/* ---- a sequence that must come ---- */

/* It comes where it is due, what is before it is what it would have been, and one that came by
 * itself is not made again. */
static void closing_ids_are_drawn_by_their_token(void **st) {
    (void)st;
    const int32_t close[] = {7, 8, 7};
    harness_init(&h, 64, 64, 8, NULL);
    oct_request_spec s = new_spec(&g[0], prompts[0], 5, 12, 1);
    harness_submit(&h, &s);
    harness_run(&h);
    assert_int_equal(g[0].n_tokens, 12);
    s.close_ids = close;
    s.n_close_ids = 3;
    for (uint32_t by = 0; by < 3; by++) {
        memset(&g[1], 0, sizeof g[1]);
        s.user = &g[1];
        s.close_by = 4 * by;
        harness_submit(&h, &s);
        harness_run(&h);
        assert_int_equal(g[1].n_tokens, 12);
        assert_memory_equal(g[1].tokens, g[0].tokens, s.close_by * sizeof(int32_t));
        assert_memory_equal(g[1].tokens + s.close_by, close, sizeof close);
    }
    memset(&g[1], 0, sizeof g[1]);
    s.close_ids = g[0].tokens + 2;
    s.close_by = 5;
    harness_submit(&h, &s);
    harness_run(&h);
    assert_memory_equal(g[1].tokens, g[0].tokens, 12 * sizeof(int32_t));
    const int32_t wrong[] = {-1};
    s.close_ids = wrong;
    s.n_close_ids = 1;
    refused(&s, "close_ids[0]: no such token (got -1)");
    harness_fini(&h);
}

/* ---- refusals ---- */

static void KV1_what_can_never_fit_is_refused_at_the_door(void **st) {
    (void)st;
    harness_init(&h, 6, 64, 8, NULL); /* 24 tokens in all */
    assert_int_equal(oct_engine_get_info(h.engine)->max_model_len, 24);
    oct_request_spec s = new_spec(&g[0], prompts[0], 20, 5, 1);
    refused(&s, "maximum context length is 24 tokens");
    s.max_tokens = UINT32_MAX;
    refused(&s, "maximum context length is");
    s.max_tokens = 4;
    harness_submit(&h, &s);
    harness_run(&h);
    assert_expected(&h, &s, &g[0]);
    harness_fini(&h);
}

static void RQ_fields_out_of_range_are_refused(void **st) {
    (void)st;
    const int32_t bad_id[] = {FAKE_VOCAB}, neg_id[] = {-1};
    const oct_token_seq empty = {bad_id, 0}, foreign = {bad_id, 1};
    const oct_token_bias nan_bias = {3, NAN}, inf_bias = {3, INFINITY}, id_bias = {FAKE_VOCAB, 1};
    const oct_str stop[] = {OCT_STR("x")}, none[] = {{"", 0}};
    harness_init(&h, 64, 64, 8, NULL);
    const oct_request_spec ok = new_spec(&g[0], prompts[0], 5, 5, 1);
#define REFUSED(word, ...)       \
    do {                         \
        oct_request_spec s = ok; \
        __VA_ARGS__;             \
        refused(&s, word);       \
    } while (0)
    REFUSED("prompt cannot be empty", s.n_prompt = 0);
    REFUSED("prompt", s.prompt = bad_id, s.n_prompt = 1);
    REFUSED("max_tokens", s.max_tokens = 0);
    REFUSED("min_tokens", s.min_tokens = 6);
    REFUSED("temperature", s.sampling.temperature = NAN);
    REFUSED("temperature", s.sampling.temperature = INFINITY);
    REFUSED("temperature", s.sampling.temperature = -1);
    REFUSED("top_p", s.sampling.top_p = 0);
    REFUSED("top_p", s.sampling.top_p = NAN);
    REFUSED("top_p", s.sampling.top_p = 1.5f);
    REFUSED("top_k", s.sampling.top_k = -2);
    REFUSED("min_p", s.sampling.min_p = NAN);
    REFUSED("min_p", s.sampling.min_p = 1.1f);
    REFUSED("repetition_penalty", s.sampling.repetition_penalty = 0);
    REFUSED("repetition_penalty", s.sampling.repetition_penalty = INFINITY);
    REFUSED("penalties", s.sampling.frequency_penalty = NAN);
    REFUSED("penalties", s.sampling.presence_penalty = -INFINITY);
    REFUSED("stop_token_ids", s.stop_ids = neg_id, s.n_stop_ids = 1);
    REFUSED("allowed_token_ids", s.allowed_ids = bad_id, s.n_allowed_ids = 1);
    REFUSED("bad_words", s.bad_words = &empty, s.n_bad_words = 1);
    REFUSED("bad_words", s.bad_words = &foreign, s.n_bad_words = 1);
    REFUSED("logit_bias", s.logit_bias = &nan_bias, s.n_logit_bias = 1);
    REFUSED("logit_bias", s.logit_bias = &inf_bias, s.n_logit_bias = 1);
    REFUSED("logit_bias", s.logit_bias = &id_bias, s.n_logit_bias = 1);
    REFUSED("logprobs", s.n_logprobs = 9);
    REFUSED("logprobs", s.prompt_logprobs = -2);
    REFUSED("stop", s.stop = stop, s.n_stop = 1, s.detokenize = false);
    REFUSED("stop", s.stop = none, s.n_stop = 1);
    oct_engine_stats stats;
    oct_engine_get_stats(h.engine, &stats);
    assert_int_equal(stats.n_waiting, 0);
    harness_fini(&h); /* and nothing was leaked */
}

static void a_folder_without_tokenizer_gives_ids(void **st) {
    (void)st;
    fake_init(&h.fake, 64, 64, 8);
    oct_fault_alloc_init(&h.mem, SIZE_MAX, 0);
    h.tok = NULL;
    assert_int_equal(oct_engine_create_on(&h.mem.allocator, &h.fake.backend, NULL,
                                          &(oct_engine_options){.n_blocks = 64}, &h.engine, NULL),
                     OCT_OK);
    oct_request_spec s = new_spec(&g[0], prompts[0], 5, 5, 1);
    refused(&s, "no tokenizer");
    s.detokenize = false;
    s.n_logprobs = 1;
    harness_submit(&h, &s);
    harness_run(&h);
    assert_int_equal(g[0].n_tokens, 5);
    harness_fini(&h);
}

static void KV3_a_full_queue_refuses_and_the_rest_goes_on(void **st) {
    (void)st;
    oct_request_spec s[8];
    harness_init(&h, 64, 8, 2, &(oct_engine_options){.max_num_queued_reqs = 3});
    for (int i = 0; i < 8; i++) {
        s[i] = new_spec(&g[i], prompts[i], 6, 6, (uint64_t)i);
        const oct_status want = i < 3 ? OCT_OK : OCT_E_FULL;
        assert_int_equal(oct_engine_submit(h.engine, &s[i], NULL, NULL), want);
    }
    oct_engine_turn(h.engine, 0); /* who runs counts like who waits */
    assert_int_equal(harness_stats(&h).n_accepted, 3);
    assert_int_equal(oct_engine_submit(h.engine, &s[4], NULL, NULL), OCT_E_FULL);
    while (harness_stats(&h).n_accepted == 3) oct_engine_turn(h.engine, 0);
    const uint32_t n_left = harness_stats(&h).n_accepted;
    for (uint32_t i = n_left; i < 3; i++)
        assert_int_equal(oct_engine_submit(h.engine, &s[4 + i - n_left], NULL, NULL), OCT_OK);
    assert_int_equal(oct_engine_submit(h.engine, &s[7], NULL, NULL), OCT_E_FULL);
    harness_run(&h);
    for (int i = 0; i < 3; i++) assert_expected(&h, &s[i], &g[i]);
    assert_expected(&h, &s[4], &g[4]);
    assert_int_equal(atomic_load(&g[7].n_finals), 0);
    harness_fini(&h);
}

static oct_request_spec next_spec;
static oct_status next_status;

static void submit_next(void *user, const oct_output *out) {
    (void)user;
    if (out->finish == OCT_FINISH_NONE) return;
    next_status = oct_engine_submit(h.engine, &next_spec, NULL, NULL);
}

/* The last word of a request comes when its place is free. */
static void KV3_the_next_one_may_come_with_the_end_of_the_last(void **st) {
    (void)st;
    harness_init(&h, 64, 8, 2,
                 &(oct_engine_options){.max_num_queued_reqs = 1, .max_num_queued_tokens = 6});
    oct_request_spec s = new_spec(&g[0], prompts[0], 6, 6, 1);
    next_spec = new_spec(&g[1], prompts[1], 6, 6, 2);
    s.on_output = submit_next;
    next_status = OCT_E_FULL;
    harness_submit(&h, &s);
    harness_run(&h);
    assert_int_equal(next_status, OCT_OK);
    assert_expected(&h, &next_spec, &g[1]);
    harness_fini(&h);
}

/* ---- cancellation ---- */

static void cancel_from_hook(void *r) { oct_request_cancel(r); }

static void SM6_cancel_in_every_state(void **st) {
    (void)st;
    /* The number of turns before: 0 in the inbox, then prompt chunks, decodes, and after the end.
     * With a second request behind it whose tokens must not change. */
    for (int n_turns = 0; n_turns < 30; n_turns++) {
        for (int late = 0; late < 2; late++) {
            harness_init(&h, 12, 4, 2, NULL);
            oct_request_spec s = new_spec(&g[0], prompts[0], 10, 15, 1);
            const oct_request_spec other = new_spec(&g[1], prompts[1], 9, 20, 2);
            oct_request *r;
            s.ignore_eos = true;
            assert_int_equal(oct_engine_submit(h.engine, &s, &r, NULL), OCT_OK);
            harness_submit(&h, &other);
            for (int i = 0; i < n_turns; i++) oct_engine_turn(h.engine, 0);
            if (late) { /* while a step is running, perhaps its last one */
                h.fake.hook = cancel_from_hook;
                h.fake.hook_arg = r;
            } else {
                oct_request_cancel(r);
                oct_request_cancel(r);
            }
            harness_run(&h);
            int32_t want[FAKE_MAX_LEN];
            fake_expect(&h.fake, &s, 0, NULL, 0, want);
            assert_int_equal(atomic_load(&g[0].n_finals), 1);
            assert_true(g[0].finish == OCT_FINISH_ABORT ||
                        (g[0].finish == OCT_FINISH_LENGTH && g[0].n_tokens == 15));
            assert_memory_equal(g[0].tokens, want, g[0].n_tokens * sizeof *want);
            assert_expected(&h, &other, &g[1]);
            oct_request_release(r);
            harness_fini(&h);
        }
    }
}

static void a_callback_may_cancel_its_own_request(void **st) {
    (void)st;
    harness_init(&h, 64, 64, 4, NULL);
    oct_request_spec s = new_spec(&g[0], prompts[0], 10, 15, 1);
    s.ignore_eos = true;
    assert_int_equal(oct_engine_submit(h.engine, &s, &g[0].cancel_at_first, NULL), OCT_OK);
    harness_run(&h);
    assert_int_equal(g[0].finish, OCT_FINISH_ABORT);
    assert_int_equal(g[0].n_tokens, 1);
    oct_request_release(g[0].cancel_at_first);
    harness_fini(&h);
}

static void a_waiting_and_a_preempted_one_can_be_cancelled(void **st) {
    (void)st;
    harness_init(&h, 8, 32, 4, NULL);
    oct_request *r[3];
    oct_request_spec s[3];
    for (int i = 0; i < 3; i++) {
        s[i] = new_spec(&g[i], prompts[i], 8, 24, (uint64_t)i);
        s[i].ignore_eos = true;
        assert_int_equal(oct_engine_submit(h.engine, &s[i], &r[i], NULL), OCT_OK);
    }
    oct_engine_stats stats;
    do {
        oct_engine_turn(h.engine, 0);
        oct_engine_get_stats(h.engine, &stats);
    } while (stats.n_preemptions == 0);
    assert_true(stats.n_waiting > 0);
    oct_request_cancel(r[1]);
    oct_request_cancel(r[2]);
    harness_run(&h);
    assert_expected(&h, &s[0], &g[0]);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(atomic_load(&g[i].n_finals), 1);
        oct_request_release(r[i]);
    }
    assert_int_equal(g[1].finish, OCT_FINISH_ABORT);
    assert_int_equal(g[2].finish, OCT_FINISH_ABORT);
    harness_fini(&h);
}

/* ---- faults ---- */

static void KV8_values_that_are_not_finite_fail_their_request_only(void **st) {
    (void)st;
    oct_request_spec s[3];
    harness_init(&h, 64, 64, 8, NULL);
    for (int i = 0; i < 3; i++) s[i] = new_spec(&g[i], prompts[i], 9, 12, (uint64_t)i);
    prompts[1][4] = FAKE_POISON;
    for (int i = 0; i < 3; i++) harness_submit(&h, &s[i]);
    harness_run(&h);
    assert_expected(&h, &s[0], &g[0]);
    assert_expected(&h, &s[2], &g[2]);
    assert_int_equal(g[1].finish, OCT_FINISH_ERROR);
    assert_int_equal(g[1].status, OCT_E_DEVICE);
    assert_int_equal(g[1].n_tokens, 0);
    prompts[1][4] = 8; /* a retry works */
    memset(&g[1], 0, sizeof g[1]);
    harness_submit(&h, &s[1]);
    harness_run(&h);
    assert_expected(&h, &s[1], &g[1]);
    oct_engine_stats stats;
    oct_engine_get_stats(h.engine, &stats);
    assert_int_equal(stats.n_not_finite, 1);
    assert_int_equal(stats.finished[OCT_FINISH_ERROR], 1);
    harness_fini(&h);
}

static void a_failed_step_fails_its_requests_and_no_other(void **st) {
    (void)st;
    oct_request_spec s[3];
    harness_init(&h, 64, 64, 2, NULL);
    for (int i = 0; i < 3; i++) {
        s[i] = new_spec(&g[i], prompts[i], 9, 12, (uint64_t)i);
        harness_submit(&h, &s[i]);
    }
    oct_engine_turn(h.engine, 0);
    atomic_store(&h.fake.fail_steps, 1);
    harness_run(&h);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(g[i].finish, OCT_FINISH_ERROR);
        assert_string_equal(g[i].error, "fake: the device refused");
    }
    assert_expected(&h, &s[2], &g[2]);
    harness_fini(&h);
}

static void KV9_memory_refused_at_any_point(void **st) {
    (void)st;
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        for (size_t k = 0;; k++) {
            const oct_token_bias bias[] = {{3, 1}};
            const int32_t allowed[] = {FAKE_EOS, 4, 5, 6};
            const oct_str stop[] = {OCT_STR("never")};
            oct_request_spec s[3];
            harness_init(&h, 64, 64, 8, NULL);
            h.mem.fail_at = h.mem.n_requests + k;
            h.mem.for_ever = for_ever;
            bool accepted[3], all_well = true;
            for (int i = 0; i < 3; i++) {
                s[i] = new_spec(&g[i], prompts[i], 40, 70, (uint64_t)i);
                s[i].ignore_eos = true;
                s[i].sampling.repetition_penalty = 1.1f;
                s[i].logit_bias = bias;
                s[i].n_logit_bias = 1;
                s[i].allowed_ids = allowed;
                s[i].n_allowed_ids = i == 0 ? 0 : 4;
                s[i].stop = stop;
                s[i].n_stop = 1;
                s[i].prompt_logprobs = 1;
                const oct_status got_st = oct_engine_submit(h.engine, &s[i], NULL, NULL);
                assert_true(got_st == OCT_OK || got_st == OCT_E_NOMEM);
                accepted[i] = got_st == OCT_OK;
            }
            harness_run(&h);
            for (int i = 0; i < 3; i++) {
                if (accepted[i] && g[i].finish == OCT_FINISH_LENGTH) {
                    assert_expected(&h, &s[i], &g[i]);
                    continue;
                }
                all_well = false;
                assert_int_equal(atomic_load(&g[i].n_finals), accepted[i]);
                if (accepted[i]) assert_int_equal(g[i].status, OCT_E_NOMEM);
            }
            harness_fini(&h);
            if (all_well) break;
        }
    }
}

static void KV9_memory_refused_while_the_engine_is_made(void **st) {
    (void)st;
    fake_backend *f = &h.fake;
    fake_init(f, 64, 64, 8);
    for (size_t k = 0;; k++) {
        oct_fault_alloc mem;
        oct_engine *e;
        oct_fault_alloc_init(&mem, k, 0);
        const oct_status s = oct_engine_create_on(&mem.allocator, &f->backend, NULL,
                                                  &(oct_engine_options){.n_blocks = 64}, &e, NULL);
        oct_engine_destroy(e);
        assert_int_equal(mem.live_blocks, 0);
        if (s == OCT_OK) break;
        assert_int_equal(s, OCT_E_NOMEM);
        assert_null(e);
    }
    fake_fini(f);
}

static void options_beyond_the_model_are_refused(void **st) {
    (void)st;
    const oct_engine_options bad[] = {
        {.n_blocks = 0},
        {.n_blocks = 64, .max_num_seqs = 9},
        {.n_blocks = 64, .max_num_batched_tokens = 65},
        {.n_blocks = 64, .max_logprobs = 9},
        {.n_blocks = UINT32_MAX / 2},
        {.n_blocks = 64, .eos_ids = (const int32_t[]){-1}, .n_eos = 1}};
    fake_init(&h.fake, 64, 64, 8);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        oct_engine *e;
        oct_err err = {0};
        assert_int_equal(
            oct_engine_create_on(oct_system_allocator(), &h.fake.backend, NULL, &bad[i], &e, &err),
            OCT_E_INVALID);
        assert_null(e);
        assert_true(err.text[0] != 0);
    }
    fake_fini(&h.fake);
}

static void steps_do_not_allocate(void **st) {
    (void)st;
    harness_init(&h, 400, 64, 8, NULL);
    oct_request_spec s[8];
    for (int round = 0; round < 4;
         round++) { /* two rounds make the arrays of both steps as large as needed */
        for (int i = 0; i < 8; i++) {
            s[i] = new_spec(&g[i], prompts[i], 20, 100, (uint64_t)i);
            s[i].ignore_eos = true;
            s[i].sampling.repetition_penalty = 1.1f;
            harness_submit(&h, &s[i]);
        }
        const size_t before = h.mem.n_requests;
        harness_run(&h);
        if (round > 1) assert_int_equal(h.mem.n_requests, before);
    }
    harness_fini(&h);
}

/* The line in the log tells what the last thousand requests found, and nothing older. */
static void the_hit_rate_is_of_the_last_thousand(void **state) {
    static oct_engine_hits hits;
    (void)state;
    memset(&hits, 0, sizeof hits);
    for (uint32_t i = 0; i < OCT_ENGINE_HIT_WINDOW; i++) oct_engine_note_hits(&hits, 10, 10);
    assert_int_equal(hits.looked_up, 10000);
    assert_int_equal(hits.found, 10000);
    for (uint32_t i = 0; i < OCT_ENGINE_HIT_WINDOW / 2; i++) oct_engine_note_hits(&hits, 30, 0);
    assert_int_equal(hits.looked_up, 20000);
    assert_int_equal(hits.found, 5000);
    for (uint32_t i = 0; i < OCT_ENGINE_HIT_WINDOW; i++) oct_engine_note_hits(&hits, 1, 0);
    assert_int_equal(hits.looked_up, 1000);
    assert_int_equal(hits.found, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_alone),
        cmocka_unit_test(mixed_batches_give_what_each_gives_alone),
        cmocka_unit_test(KV2_preemption_gives_the_same_tokens),
        cmocka_unit_test(seeds_and_choices_give_their_own_tokens),
        cmocka_unit_test(without_a_seed_each_has_its_own),
        cmocka_unit_test(penalties_bias_masks_and_bad_words_are_of_their_row),
        cmocka_unit_test(prompt_logprobs_come_once_and_whole),
        cmocka_unit_test(eos_and_stop_ids_end_it),
        cmocka_unit_test(ignore_eos_goes_on_to_the_length),
        cmocka_unit_test(min_tokens_holds_every_stop_back),
        cmocka_unit_test(SM1_stop_strings_across_tokens),
        cmocka_unit_test(a_stop_string_wins_over_the_length),
        cmocka_unit_test(SM1_characters_split_over_tokens),
        cmocka_unit_test(text_is_left_out_when_declined),
        cmocka_unit_test(RQ10_no_token_allowed),
        cmocka_unit_test(closing_ids_are_drawn_by_their_token),
        cmocka_unit_test(KV1_what_can_never_fit_is_refused_at_the_door),
        cmocka_unit_test(RQ_fields_out_of_range_are_refused),
        cmocka_unit_test(a_folder_without_tokenizer_gives_ids),
        cmocka_unit_test(KV3_a_full_queue_refuses_and_the_rest_goes_on),
        cmocka_unit_test(KV3_the_next_one_may_come_with_the_end_of_the_last),
        cmocka_unit_test(SM6_cancel_in_every_state),
        cmocka_unit_test(a_callback_may_cancel_its_own_request),
        cmocka_unit_test(a_waiting_and_a_preempted_one_can_be_cancelled),
        cmocka_unit_test(KV8_values_that_are_not_finite_fail_their_request_only),
        cmocka_unit_test(a_failed_step_fails_its_requests_and_no_other),
        cmocka_unit_test(KV9_memory_refused_at_any_point),
        cmocka_unit_test(KV9_memory_refused_while_the_engine_is_made),
        cmocka_unit_test(options_beyond_the_model_are_refused),
        cmocka_unit_test(steps_do_not_allocate),
        cmocka_unit_test(the_hit_rate_is_of_the_last_thousand),
    };
    const int failed = cmocka_run_group_tests_name("steps overlap", tests, NULL, NULL);
    harness_no_overlap = true;
    return failed + cmocka_run_group_tests_name("one step after the other", tests, NULL, NULL);
}
