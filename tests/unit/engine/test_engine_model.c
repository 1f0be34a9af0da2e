/*
 * test_engine_model.c - promise 1 with a real model on the CPU device: a request gives the same
 * tokens and the same bits of every logprob alone, among others, in chunks, and after preemption.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "model/model.h"
#include "support/golden.h"

enum { N = 16, MAX_PROMPT = 80, MAX_DRAWN = 40 };

typedef struct answer {
    int32_t tokens[MAX_DRAWN];
    float logprobs[MAX_DRAWN];
    float prompt_lp[MAX_PROMPT];
    uint32_t n, n_finals;
    oct_finish finish;
    char error[200];
} answer;

/* How a run differs from a lonely one. */
typedef struct setup {
    uint32_t n_blocks, max_chunk_tokens, n_threads;
    bool together;
    oct_capture_mode capture;
    uint32_t n_draft;  /* guesses of a sequence in a step */
    uint32_t sizes[4]; /* that decode steps are padded to */
    bool prefetch;
    bool overlap; /* steps are queued beside each other, on a device with a thread for it */
} setup;

static int32_t prompts[N][MAX_PROMPT];

static void on_output(void *user, const oct_output *out) {
    answer *a = user;
    for (uint32_t i = 0; i < out->n_tokens; i++) {
        a->logprobs[a->n] = out->logprobs[i].logprob;
        a->tokens[a->n++] = out->tokens[i];
    }
    if (out->prompt_logprobs)
        for (uint32_t i = 1; i < out->n_prompt; i++)
            a->prompt_lp[i] = out->prompt_logprobs[i].logprob;
    if (out->finish == OCT_FINISH_NONE) return;
    a->finish = out->finish;
    a->n_finals++;
    snprintf(a->error, sizeof a->error, "%s", out->error);
}

static oct_request_spec spec_of(int i, answer *a) {
    oct_request_spec s = OCT_REQUEST_SPEC_DEFAULT;
    s.prompt = prompts[i];
    s.n_prompt = 3 + (uint32_t)i * 37 % (MAX_PROMPT - 3);
    s.max_tokens = i == 4 ? 20 : MAX_DRAWN - (uint32_t)i % 5;
    s.ignore_eos = true;
    s.detokenize = false;
    s.n_logprobs = 1;
    s.prompt_logprobs = i % 4 == 0 ? 0 : -1;
    s.sampling.temperature = i % 2 ? 0.9f : 0.0f;
    s.sampling.has_seed = true;
    s.sampling.seed = 1000 + (uint64_t)i;
    s.sampling.repetition_penalty = i == 4 ? 1.1f : 1.0f;
    s.user = a;
    s.on_output = on_output;
    return s;
}

static void need(oct_status st, const oct_err *err) {
    if (st != OCT_OK) fail_msg("%s", err->text);
}

static void run_engine(oct_model *model, const setup *how, answer out[N], oct_engine_stats *stats) {
    const oct_allocator *mem = oct_system_allocator();
    const oct_engine_options eo = {.n_blocks = how->n_blocks,
                                   .max_chunk_tokens = how->max_chunk_tokens,
                                   .no_async_scheduling = !how->overlap,
                                   .draft = {how->n_draft, 1, 3}};
    oct_engine *e;
    oct_err err = {0};
    need(oct_engine_create(mem, model, NULL, &eo, &e, &err), &err);
    for (int i = 0; i < N; i++) {
        const oct_request_spec s = spec_of(i, &out[i]);
        need(oct_engine_submit(e, &s, NULL, &err), &err);
    }
    need(oct_engine_start(e, &err), &err);
    oct_engine_stop(e, UINT64_MAX);
    oct_engine_get_stats(e, stats);
    oct_engine_destroy(e);
}

static void run(const char *folder, const setup *how, answer out[N], oct_engine_stats *stats) {
    const oct_allocator *mem = oct_system_allocator();
    const oct_device_options od = {.n_threads = how->n_threads,
                                   .overlap = how->overlap,
                                   .settings = how->prefetch ? "prefetch=1" : NULL};
    const oct_model_options mo = {.max_rows = 128,
                                  .max_seqs = how->together ? 16 : 1,
                                  .max_logits = how->together ? 64 : 1,
                                  .quiet = true,
                                  .capture = {.mode = how->capture,
                                              .sizes = how->sizes,
                                              .n_sizes = how->sizes[0] ? 4 : 0,
                                              .n_warmups = 1}};
    oct_checkpoint *ckpt;
    oct_device *device;
    oct_model *model;
    oct_err err = {0};
    memset(out, 0, N * sizeof *out);
    need(oct_checkpoint_open(mem, folder, &ckpt, &err), &err);
    need(oct_device_open(mem, "cpu", &od, &device, &err), &err);
    need(oct_model_load(mem, device, ckpt, &mo, &model, &err), &err);
    need(oct_model_kv_create(model, how->n_blocks, &err), &err);
    run_engine(model, how, out, stats);
    assert_true((oct_model_n_replays(model) > 0) == (how->capture != OCT_CAPTURE_NONE));
    oct_model_destroy(model);
    oct_device_close(device);
    oct_checkpoint_close(ckpt);
    for (int i = 0; i < N; i++)
        if (out[i].n_finals != 1 || out[i].finish != OCT_FINISH_LENGTH)
            fail_msg("request %d: %s", i, out[i].error);
}

static void the_same_answer(const char *folder) {
    static answer alone[N], other[N];
    const setup lonely = {.n_blocks = 64, .n_threads = 1};
    const setup setups[] = {
        {.n_blocks = 64, .n_threads = 1, .together = true},
        {.n_blocks = 64, .n_threads = 2, .together = true, .max_chunk_tokens = 7, .overlap = true},
        {.n_blocks = 64, .n_threads = 1, .together = true, .max_chunk_tokens = 1},
        {.n_blocks = 64, .n_threads = 1, .together = true, .max_chunk_tokens = 33, .overlap = true},
        {.n_blocks = 64, .n_threads = 1, .together = true, .capture = OCT_CAPTURE_DECODE},
        {.n_blocks = 64,
         .n_threads = 2,
         .together = true,
         .overlap = true,
         .capture = OCT_CAPTURE_ALL,
         .max_chunk_tokens = 9},
        {.n_blocks = 64,
         .n_threads = 1,
         .together = true,
         .overlap = true,
         .capture = OCT_CAPTURE_DECODE,
         .sizes = {16, 2, 5, 11}},
        {.n_blocks = 64, .n_threads = 2, .together = true, .n_draft = 3, .prefetch = true},
        {.n_blocks = 64, .n_threads = 1, .together = true, .n_draft = 5, .max_chunk_tokens = 7},
        {.n_blocks = 16, .n_threads = 2, .together = true, .n_draft = 4},
        {.n_blocks = 16, .n_threads = 2, .together = true},
        {.n_blocks = 16, .n_threads = 2, .together = true, .overlap = true},
    };
    oct_engine_stats stats;
    run(folder, &lonely, alone, &stats);
    assert_int_equal(stats.n_shared_steps, 0);
    for (size_t k = 0; k < sizeof setups / sizeof *setups; k++) {
        run(folder, &setups[k], other, &stats);
        assert_true(stats.n_shared_steps > 0 && stats.n_mixed_steps > 0);
        if (setups[k].n_blocks < 64) assert_true(stats.n_preemptions > 0);
        assert_true((stats.n_accepted_tokens > 0) == (setups[k].n_draft > 0));
        print_message("%u steps, %u mixed, %u preemptions, %u of %u guesses\n",
                      (unsigned)stats.n_steps, (unsigned)stats.n_mixed_steps,
                      (unsigned)stats.n_preemptions, (unsigned)stats.n_accepted_tokens,
                      (unsigned)stats.n_draft_tokens);
        for (int i = 0; i < N; i++) {
            assert_int_equal(other[i].n, alone[i].n);
            assert_memory_equal(other[i].tokens, alone[i].tokens, sizeof alone[i].tokens);
            assert_memory_equal(other[i].logprobs, alone[i].logprobs, sizeof alone[i].logprobs);
            assert_memory_equal(other[i].prompt_lp, alone[i].prompt_lp, sizeof alone[i].prompt_lp);
        }
    }
}

static void KV2_same_bits_alone_and_among_others(void **st) {
    (void)st;
    const char *cases[] = {"qwen3-modelslim-w8a8c8", "qwen3-modelslim-w8a8-dynamic", "llama-mha"};
    const char *root = golden_root();
    if (!root) skip();
    for (int i = 0; i < N; i++)
        for (int k = 0; k < MAX_PROMPT; k++) prompts[i][k] = 3 + (i * 131 + k * 17 + k * k) % 250;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char folder[4096];
        snprintf(folder, sizeof folder, "%s/cases/%s", root, cases[c]);
        print_message("%s\n", cases[c]);
        the_same_answer(folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(KV2_same_bits_alone_and_among_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
