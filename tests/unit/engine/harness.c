/* harness.c */
#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

oct_tokenizer *new_tokenizer(void) {
    static char spelled[FAKE_VOCAB][16];
    oct_str tokens[FAKE_VOCAB];
    int32_t types[FAKE_VOCAB];
    float scores[FAKE_VOCAB] = {0};
    for (int i = 0; i < FAKE_VOCAB; i++) {
        types[i] = i == 0 ? 2 : i < FAKE_BYTE_0 ? 3 : i < FAKE_WORD_0 ? 6 : 1;
        if (i < FAKE_BYTE_0)
            snprintf(spelled[i], sizeof spelled[i], "%s",
                     (const char *[]){"<unk>", "<s>", "</s>"}[i]);
        else if (i < FAKE_WORD_0)
            snprintf(spelled[i], sizeof spelled[i], "<0x%02X>", i - FAKE_BYTE_0);
        else
            snprintf(spelled[i], sizeof spelled[i], "\xe2\x96\x81w%d", i - FAKE_WORD_0);
        tokens[i] = oct_str_of(spelled[i]);
    }
    const oct_vocab_desc desc = {.model = OCT_STR("llama"),
                                 .tokens = tokens,
                                 .n_tokens = FAKE_VOCAB,
                                 .types = types,
                                 .scores = scores,
                                 .bos_id = 1,
                                 .eos_id = 2,
                                 .unk_id = 0,
                                 .pad_id = -1,
                                 .add_bos = -1,
                                 .add_eos = -1,
                                 .add_space_prefix = -1};
    oct_tokenizer *tok;
    oct_err err = {0};
    if (oct_tokenizer_create(oct_system_allocator(), &desc, &tok, &err) != OCT_OK)
        fail_msg("tokenizer: %s", err.text);
    return tok;
}

bool harness_no_overlap;
uint32_t harness_max_logits;

void harness_init(harness *h, uint32_t n_blocks, uint32_t max_rows, uint32_t max_seqs,
                  const oct_engine_options *options) {
    static const int32_t eos[] = {FAKE_EOS};
    oct_engine_options o = options ? *options : (oct_engine_options){0};
    oct_err err = {0};
    fake_init(&h->fake, n_blocks, max_rows, max_seqs);
    if (harness_max_logits > 0) h->fake.backend.max_logits = harness_max_logits;
    oct_fault_alloc_init(&h->mem, SIZE_MAX, 0);
    h->tok = new_tokenizer();
    o.n_blocks = n_blocks;
    o.no_async_scheduling |= harness_no_overlap;
    if (!o.eos_ids) {
        o.eos_ids = eos;
        o.n_eos = 1;
    }
    if (o.max_logprobs == 0) o.max_logprobs = 8;
    if (oct_engine_create_on(&h->mem.allocator, &h->fake.backend, h->tok, &o, &h->engine, &err) !=
        OCT_OK)
        fail_msg("engine: %s", err.text);
}

void harness_fini(harness *h) {
    oct_engine_stop(h->engine, 0);
    const oct_engine_stats st = harness_stats(h);
    assert_int_equal(st.n_running + st.n_waiting + st.n_blocks_used, 0);
    oct_engine_destroy(h->engine);
    assert_int_equal(h->mem.live_blocks, 0);
    assert_int_equal(h->mem.live_bytes, 0);
    oct_tokenizer_destroy(h->tok);
    fake_fini(&h->fake);
}

void harness_submit(const harness *h, const oct_request_spec *spec) {
    oct_err err = {0};
    if (oct_engine_submit(h->engine, spec, NULL, &err) != OCT_OK) fail_msg("submit: %s", err.text);
}

oct_engine_stats harness_stats(const harness *h) {
    oct_engine_stats st;
    oct_engine_get_stats(h->engine, &st);
    return st;
}

void harness_run(harness *h) {
    oct_engine_stats st;
    do {
        assert_true(oct_engine_turn(h->engine, 0));
        st = harness_stats(h);
    } while (st.n_running + st.n_waiting > 0);
}

static void note_tokens(got *g, const oct_output *out) {
    for (uint32_t i = 0; i < out->n_tokens; i++) {
        assert_true(g->n_tokens < FAKE_MAX_LEN);
        if (out->logprobs) {
            g->logprobs[g->n_tokens] = out->logprobs[i].logprob;
            g->top_first[g->n_tokens] = out->logprobs[i].n_top ? out->logprobs[i].top[0].id : -1;
            assert_int_equal(out->logprobs[i].id, out->tokens[i]);
        }
        g->tokens[g->n_tokens++] = out->tokens[i];
    }
    if (out->prompt_logprobs) {
        assert_int_equal(g->n_prompt_lp, 0); /* once */
        g->n_prompt_lp = out->n_prompt;
        for (uint32_t i = 0; i < out->n_prompt; i++)
            g->prompt_lp[i] = out->prompt_logprobs[i].logprob;
    }
}

void on_got(void *user, const oct_output *out) {
    got *g = user;
    assert_int_equal(atomic_load(&g->n_finals), 0); /* nothing comes after the last one */
    g->n_outputs++;
    note_tokens(g, out);
    assert_true(g->text_len + out->text.len < sizeof g->text);
    memcpy(g->text + g->text_len, out->text.ptr, out->text.len);
    g->text_len += out->text.len;
    g->n_prompt = out->n_prompt;
    g->n_completion = out->n_completion;
    g->n_cached = out->n_cached;
    g->n_preemptions = out->n_preemptions;
    g->times = out->times;
    if (g->cancel_at_first) oct_request_cancel(g->cancel_at_first);
    if (out->finish == OCT_FINISH_NONE) return;
    g->finish = out->finish;
    g->stop_kind = out->stop_kind;
    g->stop_id = out->stop_id;
    g->status = out->status;
    snprintf(g->stop_text, sizeof g->stop_text, "%.*s", OCT_STR_ARG(out->stop_text));
    snprintf(g->error, sizeof g->error, "%s", out->error);
    atomic_fetch_add(&g->n_finals, 1);
}

oct_request_spec new_spec(got *g, int32_t *prompt, uint32_t n_prompt, uint32_t max_tokens,
                          uint64_t key) {
    oct_request_spec s = OCT_REQUEST_SPEC_DEFAULT;
    memset(g, 0, sizeof *g);
    for (uint32_t i = 0; i < n_prompt; i++) {
        key = key * 6364136223846793005u + 1442695040888963407u;
        prompt[i] = (int32_t)((key >> 33) % (FAKE_VOCAB - 1)); /* never the poison */
    }
    s.prompt = prompt;
    s.n_prompt = n_prompt;
    s.max_tokens = max_tokens;
    s.sampling.temperature = 0;
    s.on_output = on_got;
    s.user = g;
    return s;
}

void assert_expected(harness *h, const oct_request_spec *spec, const got *g) {
    static const int32_t eos[] = {FAKE_EOS};
    int32_t want[FAKE_MAX_LEN];
    const uint32_t n = fake_expect(&h->fake, spec, spec->sampling.seed, eos, 1, want);
    assert_int_equal(atomic_load(&g->n_finals), 1);
    assert_int_equal(g->n_tokens, n);
    assert_memory_equal(g->tokens, want, n * sizeof *want);
    assert_int_equal(g->n_completion, n);
    assert_int_equal(g->n_prompt, spec->n_prompt);
}
