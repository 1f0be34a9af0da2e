/*
 * test_engine_prefix.c - cached beginnings, through a whole engine: whatever the cache holds, and
 * whoever left it there, does not show in the answer. Over the scripted model, whose cache notices
 * a wrong block, and at the end over a real one, bit for bit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "model/model.h"
#include "support/golden.h"

static harness h;
static got g[64];
static int32_t prompts[64][FAKE_MAX_LEN];

/* Request i: its prompt begins with n_same tokens of the common text and goes on as its own. */
static oct_request_spec spec(int i, uint32_t n_prompt, uint32_t n_same, uint32_t max_tokens) {
    static int32_t common[FAKE_MAX_LEN];
    got unused;
    (void)new_spec(&unused, common, FAKE_MAX_LEN, 1, 99);
    oct_request_spec s = new_spec(&g[i], prompts[i], n_prompt, max_tokens, (uint64_t)i + 1);
    memcpy(prompts[i], common, (n_same < n_prompt ? n_same : n_prompt) * sizeof *common);
    s.ignore_eos = true;
    s.n_logprobs = 0;
    return s;
}

static void same_logprobs(const oct_request_spec *s, const got *a) {
    int32_t all[FAKE_MAX_LEN];
    memcpy(all, s->prompt, s->n_prompt * sizeof *all);
    memcpy(all + s->n_prompt, a->tokens, a->n_tokens * sizeof *all);
    for (uint32_t k = 0; k < a->n_tokens; k++)
        assert_true(a->logprobs[k] == fake_logprob(fake_hash(all, s->n_prompt + k), a->tokens[k]));
}

static void KV6_a_hit_of_every_length(void **st) {
    (void)st;
    const uint32_t chunks[] = {0, 1, 3, 5}, n_prompts[] = {1, 3, 4, 5, 8, 21, 40};
    for (int c = 0; c < 4; c++)
        for (int k = 0; k < 7; k++) {
            const uint32_t n_prompt = n_prompts[k];
            harness_init(&h, 600, 64, 4, &(oct_engine_options){.max_chunk_tokens = chunks[c]});
            const oct_request_spec first = spec(0, 40, 40, 3);
            harness_submit(&h, &first);
            harness_run(&h);
            assert_int_equal(g[0].n_cached, 0);
            for (uint32_t same = 0; same <= n_prompt; same++) {
                const oct_request_spec s = spec(1, n_prompt, same, 6);
                harness_submit(&h, &s);
                harness_run(&h);
                assert_expected(&h, &s, &g[1]);
                same_logprobs(&s, &g[1]);
                /* Whole blocks, and a row is left to compute. The same prompt was seen with fewer
                 * common tokens before: what it left may be longer than what is common. */
                const uint32_t most = (n_prompt - 1) / FAKE_BLOCK * FAKE_BLOCK;
                const uint32_t least = same / FAKE_BLOCK * FAKE_BLOCK;
                assert_int_equal(g[1].n_cached % FAKE_BLOCK, 0);
                assert_true(g[1].n_cached >= (least < most ? least : most));
                assert_true(g[1].n_cached <= most);
            }
            harness_fini(&h);
        }
}

static void the_whole_prompt_again_computes_one_block_at_most(void **st) {
    (void)st;
    harness_init(&h, 100, 64, 4, NULL);
    for (int i = 0; i < 2; i++) {
        const oct_request_spec s = spec(i, 30, 30, 4);
        harness_submit(&h, &s);
        harness_run(&h);
        assert_expected(&h, &s, &g[i]);
    }
    assert_int_equal(g[1].n_cached, 28);
    const oct_engine_stats n = harness_stats(&h);
    assert_int_equal(n.prompt_tokens, 60);
    assert_int_equal(n.cached_tokens, 28);
    assert_int_equal(n.prefix_queries, 60);
    assert_int_equal(n.computed_prompt_tokens, 32);
    assert_true(n.prefix_blocks >= 7);
    harness_fini(&h);
}

static void an_answer_is_found_by_the_next_turn(void **st) {
    (void)st;
    harness_init(&h, 100, 64, 4, NULL);
    oct_request_spec s = spec(0, 10, 10, 30);
    harness_submit(&h, &s);
    harness_run(&h);
    int32_t turn[60];
    memcpy(turn, prompts[0], 10 * sizeof *turn);
    memcpy(turn + 10, g[0].tokens, 30 * sizeof *turn);
    for (int i = 40; i < 60; i++) turn[i] = i;
    s = spec(1, 60, 0, 5);
    s.prompt = turn;
    harness_submit(&h, &s);
    harness_run(&h);
    assert_expected(&h, &s, &g[1]);
    /* The last token of an answer is never computed: 39 were, and of these the whole blocks. */
    assert_int_equal(g[1].n_cached, 36);
    harness_fini(&h);
}

static void off_means_off(void **st) {
    (void)st;
    harness_init(&h, 100, 64, 4, &(oct_engine_options){.no_prefix_caching = true});
    assert_false(oct_engine_get_info(h.engine)->prefix_caching);
    for (int i = 0; i < 2; i++) {
        const oct_request_spec s = spec(i, 30, 30, 4);
        harness_submit(&h, &s);
        harness_run(&h);
        assert_expected(&h, &s, &g[i]);
        assert_int_equal(g[i].n_cached, 0);
    }
    assert_int_equal(harness_stats(&h).prefix_queries, 0);
    oct_engine_reset_prefix_cache(h.engine); /* nothing to forget */
    harness_fini(&h);
}

static void KV4_colliding_hashes_serve_nothing_foreign(void **st) {
    (void)st;
    const uint32_t bits[] = {1, 2, 64};
    for (int b = 0; b < 3; b++) {
        harness_init(&h, 300, 64, 12, &(oct_engine_options){.prefix_hash_bits = bits[b]});
        uint64_t n_cached[3] = {0};
        for (int round = 0; round < 3; round++) {
            oct_request_spec s[24];
            for (int i = 0; i < 24; i++) {
                s[i] = spec(i, 20 + (uint32_t)i, (uint32_t)i % 5 * 4, 5 + (uint32_t)i % 7);
                if (i % 3 == 1) s[i].cache_salt = OCT_STR("a tenant");
                harness_submit(&h, &s[i]);
            }
            harness_run(&h);
            for (int i = 0; i < 24; i++) {
                assert_expected(&h, &s[i], &g[i]);
                same_logprobs(&s[i], &g[i]);
                n_cached[round] += g[i].n_cached;
            }
        }
        assert_true(n_cached[1] > 24 * 12 && n_cached[1] == n_cached[2]);
        harness_fini(&h);
    }
}

static void KV5_salts_share_nothing(void **st) {
    (void)st;
    const char *const salts[] = {"", "one", "two", "one", "two", "", "on"};
    const uint32_t found[] = {0, 0, 0, 28, 28, 28, 0};
    harness_init(&h, 300, 64, 4, NULL);
    for (int i = 0; i < 7; i++) {
        char salt[8]; /* not there any more when the request runs */
        oct_request_spec s = spec(0, 30, 30, 4);
        snprintf(salt, sizeof salt, "%s", salts[i]);
        s.cache_salt = oct_str_of(salt);
        harness_submit(&h, &s);
        memset(salt, 'x', sizeof salt);
        harness_run(&h);
        assert_expected(&h, &s, &g[0]);
        assert_int_equal(g[0].n_cached, found[i]);
    }
    char longest[130];
    oct_err err = {0};
    memset(longest, 'a', sizeof longest);
    oct_request_spec s = spec(0, 30, 30, 4);
    s.cache_salt = (oct_str){longest, 128};
    harness_submit(&h, &s);
    s.cache_salt.len = 129;
    assert_int_equal(oct_engine_submit(h.engine, &s, NULL, &err), OCT_E_INVALID);
    assert_non_null(strstr(err.text, "cache_salt"));
    harness_run(&h);
    harness_fini(&h);
}

static void RL6_reset_forgets_everything(void **st) {
    (void)st;
    harness_init(&h, 300, 64, 4, NULL);
    const oct_request_spec s = spec(0, 30, 30, 4), longer = spec(1, 30, 30, 60);
    harness_submit(&h, &s);
    harness_run(&h);
    harness_submit(&h, &longer); /* runs over the reset, and goes on */
    for (int i = 0; i < 9; i++) oct_engine_turn(h.engine, 0);
    oct_engine_reset_prefix_cache(h.engine);
    oct_engine_turn(h.engine, 0);
    assert_int_equal(harness_stats(&h).prefix_blocks, 0);
    harness_run(&h);
    assert_int_equal(harness_stats(&h).prefix_blocks, 0); /* what began before enters nothing */
    assert_expected(&h, &longer, &g[1]);
    assert_int_equal(g[1].n_cached, 28);
    const oct_request_spec again = spec(2, 30, 30, 4);
    harness_submit(&h, &again);
    harness_run(&h);
    assert_expected(&h, &again, &g[2]);
    assert_int_equal(g[2].n_cached, 0);
    harness_fini(&h);
}

static void KV8_what_is_not_finite_is_not_found(void **st) {
    (void)st;
    /* In one step and in pieces, of which the first ones draw nothing. */
    const uint32_t chunks[] = {0, 4};
    for (int c = 0; c < 2; c++) {
        harness_init(&h, 300, 64, 4, &(oct_engine_options){.max_chunk_tokens = chunks[c]});
        oct_request_spec s = spec(0, 30, 30, 4);
        prompts[0][2] = FAKE_POISON;
        harness_submit(&h, &s);
        harness_run(&h);
        assert_int_equal(g[0].finish, OCT_FINISH_ERROR);
        assert_int_equal(harness_stats(&h).prefix_blocks, 0);
        harness_fini(&h);
    }
}

static void KV7_a_failed_step_leaves_nothing(void **st) {
    (void)st;
    harness_init(&h, 300, 64, 4, NULL);
    const oct_request_spec s = spec(0, 30, 30, 4);
    atomic_store(&h.fake.fail_steps, 1);
    harness_submit(&h, &s);
    harness_run(&h);
    assert_int_equal(g[0].finish, OCT_FINISH_ERROR);
    assert_int_equal(harness_stats(&h).prefix_blocks, 0);
    memset(&g[0], 0, sizeof g[0]);
    harness_submit(&h, &s);
    harness_run(&h);
    assert_expected(&h, &s, &g[0]);
    assert_int_equal(g[0].n_cached, 0);
    harness_fini(&h);
}

static void prompt_logprobs_are_computed_and_leave_entries(void **st) {
    (void)st;
    harness_init(&h, 300, 64, 64, NULL);
    for (int i = 0; i < 3; i++) {
        oct_request_spec s = spec(i, 30, 30, 4);
        if (i < 2) s.prompt_logprobs = 0;
        harness_submit(&h, &s);
        harness_run(&h);
        assert_expected(&h, &s, &g[i]);
        assert_int_equal(g[i].n_prompt_lp, i < 2 ? 30 : 0);
        assert_int_equal(g[i].n_cached, i < 2 ? 0 : 28);
    }
    harness_fini(&h);
}

/* Few blocks: preemption, eviction and hits at once, with every kind of request. */
static void KV2_preemption_and_hits_together(void **st) {
    (void)st;
    uint64_t n_preempted = 0, n_cached = 0, n_evicted = 0;
    for (uint32_t round = 0; round < 20; round++) {
        oct_request_spec s[40];
        harness_init(&h, 30 + round, 40, 8,
                     &(oct_engine_options){.max_chunk_tokens = round % 4,
                                           .prefix_hash_bits = round % 3 == 0 ? 2 : 0});
        for (int i = 0; i < 40; i++) {
            s[i] = spec(i, 5 + ((uint32_t)i * 7 + round) % 40, (uint32_t)i % 4 * 9,
                        10 + (uint32_t)i % 50);
            if (i % 5 == 0) s[i].cache_salt = OCT_STR("five");
            if (i % 7 == 0) s[i].prompt_logprobs = 0;
            if (i % 2) s[i].sampling.temperature = 0.7f;
            s[i].sampling.has_seed = true;
            s[i].sampling.seed = (uint64_t)i;
            harness_submit(&h, &s[i]);
        }
        harness_run(&h);
        for (int i = 0; i < 40; i++) {
            assert_expected(&h, &s[i], &g[i]);
            same_logprobs(&s[i], &g[i]);
            assert_int_equal(g[i].n_outputs, g[i].n_tokens); /* none sent twice */
        }
        n_preempted += harness_stats(&h).n_preemptions;
        n_cached += harness_stats(&h).cached_tokens;
        n_evicted += harness_stats(&h).prefix_evictions;
        harness_fini(&h);
    }
    assert_true(n_preempted > 20 && n_cached > 2000 && n_evicted > 200);
}

/* ---- a real model ---- */

enum { N = 24, COMMON = 110, MAX_PROMPT = 130, MAX_DRAWN = 24, BLOCK = 32 };

typedef struct answer {
    int32_t tokens[MAX_DRAWN];
    float logprobs[MAX_DRAWN];
    uint32_t n, n_finals, n_cached;
} answer;

static void on_answer(void *user, const oct_output *out) {
    answer *a = user;
    for (uint32_t i = 0; i < out->n_tokens; i++) {
        a->logprobs[a->n] = out->logprobs[i].logprob;
        a->tokens[a->n++] = out->tokens[i];
    }
    a->n_cached = out->n_cached;
    a->n_finals += out->finish == OCT_FINISH_LENGTH;
}

/* Prompts of 1, block and all but block tokens, with beginnings of each number of blocks. */
static oct_request_spec real_spec(int i, answer *a) {
    static int32_t ids[N][MAX_PROMPT];
    const uint32_t lengths[] = {BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1, 100, 128, 1};
    oct_request_spec s = OCT_REQUEST_SPEC_DEFAULT;
    const uint32_t n_same = (uint32_t)i % 4 * BLOCK + (uint32_t)i % 3;
    for (int k = 0; k < MAX_PROMPT; k++)
        ids[i][k] = 3 + ((uint32_t)k < n_same ? k * 17 + k * k : (i + 1) * 131 + k * 19) % 250;
    s.prompt = ids[i];
    s.n_prompt = i == 0 ? COMMON : lengths[i % 8];
    s.max_tokens = MAX_DRAWN;
    s.ignore_eos = true;
    s.detokenize = false;
    s.n_logprobs = 0;
    s.sampling.temperature = i % 2 ? 0.9f : 0.0f;
    s.sampling.has_seed = true;
    s.sampling.seed = (uint64_t)i;
    s.user = a;
    s.on_output = on_answer;
    return s;
}

static void need(oct_status st, const oct_err *err) {
    if (st != OCT_OK) fail_msg("%s", err->text);
}

/* All requests twice, one after the other or together. Prompt tokens found are counted. */
static uint64_t run_real(oct_model *model, const oct_engine_options *eo, bool together,
                         answer out[2 * N]) {
    oct_engine *e;
    oct_engine_stats n;
    oct_err err = {0};
    memset(out, 0, 2 * N * sizeof *out);
    need(oct_engine_create(oct_system_allocator(), model, NULL, eo, &e, &err), &err);
    for (int i = 0; i < 2 * N; i++) {
        const oct_request_spec s = real_spec(i % N, &out[i]);
        need(oct_engine_submit(e, &s, NULL, &err), &err);
        while (!together && out[i].n_finals == 0) oct_engine_turn(e, 0);
    }
    do {
        assert_true(oct_engine_turn(e, 0));
        oct_engine_get_stats(e, &n);
    } while (n.n_running + n.n_waiting > 0);
    oct_engine_get_stats(e, &n);
    oct_engine_destroy(e);
    return n.cached_tokens;
}

static void compare(const answer *a, const answer *b) {
    for (int i = 0; i < 2 * N; i++) {
        assert_int_equal(a[i].n, MAX_DRAWN);
        assert_int_equal(b[i].n, MAX_DRAWN);
        assert_memory_equal(a[i].tokens, b[i].tokens, sizeof a[i].tokens);
        assert_memory_equal(a[i].logprobs, b[i].logprobs, sizeof a[i].logprobs);
    }
}

static void real_model(const char *folder) {
    static answer off[2 * N], on[2 * N];
    const oct_allocator *mem = oct_system_allocator();
    const oct_device_options od = {.n_threads = 1};
    const oct_model_options mo = {.max_rows = 256, .max_seqs = 8, .quiet = true};
    oct_checkpoint *ckpt;
    oct_device *device;
    oct_model *model;
    oct_err err = {0};
    need(oct_checkpoint_open(mem, folder, &ckpt, &err), &err);
    need(oct_device_open(mem, "cpu", &od, &device, &err), &err);
    need(oct_model_load(mem, device, ckpt, &mo, &model, &err), &err);
    need(oct_model_kv_create(model, 64, &err), &err);
    assert_int_equal(oct_model_get_info(model)->block_tokens, BLOCK);
    oct_engine_options eo = {.n_blocks = 64, .no_prefix_caching = true};
    assert_int_equal(run_real(model, &eo, false, off), 0);
    for (int k = 0; k < 4; k++) {
        eo = (oct_engine_options){.n_blocks = k == 3 ? 12 : 64,
                                  .max_chunk_tokens = k == 2 ? 7 : 0,
                                  .prefix_hash_bits = k == 2 ? 1 : 0};
        const uint64_t n_cached = run_real(model, &eo, k > 0, on);
        print_message("%u prompt tokens found\n", (unsigned)n_cached);
        assert_true(n_cached >= (k == 0 ? 1000 : 200));
        compare(off, on);
        if (k > 0) continue;
        bool found[5] = {0};
        for (int i = 0; i < 2 * N; i++) found[on[i].n_cached / BLOCK] = true;
        for (int i = 0; i < 4; i++) assert_true(found[i]); /* hits of each length */
    }
    oct_model_destroy(model);
    oct_device_close(device);
    oct_checkpoint_close(ckpt);
}

static void KV6_same_bits_with_a_real_model(void **st) {
    (void)st;
    const char *cases[] = {"qwen3-modelslim-w8a8c8", "qwen3-modelslim-w8a8-dynamic", "llama-mha"};
    const char *root = golden_root();
    if (!root) skip();
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char folder[4096];
        snprintf(folder, sizeof folder, "%s/cases/%s", root, cases[c]);
        real_model(folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(KV6_a_hit_of_every_length),
        cmocka_unit_test(the_whole_prompt_again_computes_one_block_at_most),
        cmocka_unit_test(an_answer_is_found_by_the_next_turn),
        cmocka_unit_test(off_means_off),
        cmocka_unit_test(KV4_colliding_hashes_serve_nothing_foreign),
        cmocka_unit_test(KV5_salts_share_nothing),
        cmocka_unit_test(RL6_reset_forgets_everything),
        cmocka_unit_test(KV8_what_is_not_finite_is_not_found),
        cmocka_unit_test(KV7_a_failed_step_leaves_nothing),
        cmocka_unit_test(prompt_logprobs_are_computed_and_leave_entries),
        cmocka_unit_test(KV2_preemption_and_hits_together),
        cmocka_unit_test(KV6_same_bits_with_a_real_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
