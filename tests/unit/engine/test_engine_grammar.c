/*
 * test_engine_grammar.c - requests under a grammar: what they may draw, where they end, and that
 * nobody beside them is told anything else, with and without overlap, preemption and guesses.
 */
#include <math.h>
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

enum { N = 10 };

static harness h;
static oct_grammars *maker;
static got g[N], alone[N];
static int32_t prompts[N][64];
static oct_request_spec specs[N];

static void begin(uint32_t n_blocks, const oct_engine_options *options) {
    harness_init(&h, n_blocks, 64, 8, options);
    assert_int_equal(oct_grammars_create(oct_system_allocator(), h.tok, FAKE_VOCAB, &maker, NULL),
                     OCT_OK);
}

static void end(void) {
    oct_grammars_destroy(maker);
    harness_fini(&h);
}

static oct_grammar *regex(const char *text) {
    oct_grammar *x = NULL;
    oct_err err = {0};
    if (oct_grammar_of_regex(maker, oct_str_of(text), &x, &err) != OCT_OK) fail_msg("%s", err.text);
    return x;
}

static oct_request_spec drawn(got *to, int i, uint32_t n_prompt, uint32_t n) {
    oct_request_spec spec = new_spec(to, prompts[i], n_prompt, n, 500 + (uint64_t)i);
    spec.sampling.temperature = 1;
    spec.sampling.has_seed = true;
    spec.sampling.seed = 40 + (uint64_t)i;
    return spec;
}

/* ---- */

static void an_answer_keeps_to_its_grammar_and_ends(void **st) {
    (void)st;
    begin(64, NULL);
    oct_grammar *x = regex("[a-c]{3}x");
    specs[0] = drawn(&g[0], 0, 5, 40);
    specs[0].grammar = x;
    specs[1] = drawn(&g[1], 1, 5, 2); /* cut */
    specs[1].grammar = x;
    specs[2] = drawn(&g[2], 2, 5, 40); /* min_tokens: nothing could follow */
    specs[2].grammar = x;
    specs[2].min_tokens = 30;
    for (int i = 0; i < 3; i++) harness_submit(&h, &specs[i]);
    oct_grammar_unref(x); /* the requests have their own */
    harness_run(&h);
    for (int i = 0; i < 3; i += 2) {
        assert_int_equal(g[i].finish, OCT_FINISH_STOP);
        assert_int_equal(g[i].stop_kind, OCT_STOP_GRAMMAR);
        assert_int_equal(g[i].text_len, 4);
        assert_int_equal(strspn(g[i].text, "abc"), 3);
        assert_int_equal(g[i].text[3], 'x');
        assert_int_equal(g[i].n_completion, 4);
    }
    assert_int_equal(g[1].finish, OCT_FINISH_LENGTH);
    assert_int_equal(g[1].text_len, 2);
    end();
}

static void EOS_only_where_the_text_is_complete(void **st) {
    (void)st;
    begin(64, NULL);
    oct_grammar *x = regex("(ab)*");
    specs[0] = drawn(&g[0], 0, 5, 40);
    specs[0].grammar = x;
    specs[0].logit_bias = &(oct_token_bias){FAKE_BYTE_0 + 'a', -INFINITY};
    specs[0].n_logit_bias = 1; /* so that EOS is all there is */
    harness_submit(&h, &specs[0]);
    specs[1] = drawn(&g[1], 1, 5, 40);
    specs[1].grammar = x;
    specs[1].logit_bias = &(oct_token_bias){FAKE_BYTE_0 + 'b', -INFINITY};
    specs[1].n_logit_bias = 1; /* behind a there is nothing: SO6 */
    harness_submit(&h, &specs[1]);
    specs[2] = drawn(&g[2], 2, 5, 40);
    specs[2].grammar = x;
    specs[2].ignore_eos = true; /* then nothing is left, and the text is complete: RQ10 */
    specs[2].logit_bias = specs[0].logit_bias;
    specs[2].n_logit_bias = 1;
    harness_submit(&h, &specs[2]);
    harness_run(&h);
    assert_int_equal(g[0].stop_kind, OCT_STOP_EOS);
    assert_int_equal(g[0].text_len, 0);
    assert_int_equal(g[2].finish, OCT_FINISH_STOP);
    assert_int_equal(g[2].stop_kind, OCT_STOP_GRAMMAR);
    assert_int_equal(g[2].n_completion, 0);
    if (g[1].finish != OCT_FINISH_STOP) { /* EOS came first, or a did */
        assert_int_equal(g[1].finish, OCT_FINISH_ERROR);
        assert_string_equal(g[1].error, "no token allowed");
    }
    oct_grammar_unref(x);
    end();
}

static void a_grammar_begins_behind_a_text(void **st) {
    (void)st;
    begin(64, NULL);
    oct_grammar *x = regex("[0-9]{6}");
    fake_script *s = &h.fake.scripts[0];
    specs[0] = drawn(&g[0], 0, 5, 40);
    specs[0].sampling.seed = FAKE_SCRIPT_SEED;
    specs[0].grammar = x;
    specs[0].grammar_after = OCT_STR("aab");
    s->n_prompt = 5;
    const char *said = "xaaab";
    for (s->n = 0; said[s->n]; s->n++) s->ids[s->n] = FAKE_BYTE_0 + said[s->n];
    harness_submit(&h, &specs[0]);
    oct_grammar_unref(x);
    harness_run(&h);
    assert_int_equal(g[0].stop_kind, OCT_STOP_GRAMMAR);
    assert_int_equal(g[0].text_len, 11);
    assert_memory_equal(g[0].text, "xaaab", 5);
    assert_int_equal(strspn(g[0].text + 5, "0123456789"), 6);
    end();
}

/* Half of them under a grammar; the free ones must be what they are alone, by the naive way. */
static void mixed(uint32_t n_blocks, const oct_engine_options *options, bool among) {
    begin(n_blocks, options);
    oct_grammar *x = regex("([a-f ]{20,30}x)+");
    for (int i = 0; i < N; i++) {
        got *to = among ? &g[i] : &alone[i];
        memset(to, 0, sizeof *to);
        specs[i] = drawn(to, i, 4 + (uint32_t)i, 60);
        if (i % 2) specs[i].grammar = x;
        if (i == 3) specs[i].sampling.repetition_penalty = 1.5f;
        if (i % 2 == 0) specs[i].ignore_eos = true;
        harness_submit(&h, &specs[i]);
        if (!among) harness_run(&h);
    }
    if (among) harness_run(&h);
    for (int i = 0; i < N; i++) {
        const got *to = among ? &g[i] : &alone[i];
        if (i % 2 == 0)
            assert_expected(&h, &specs[i], to);
        else
            assert_int_equal(strspn(to->text, "abcdef x"), to->text_len);
        if (among) assert_memory_equal(g[i].tokens, alone[i].tokens, sizeof g[i].tokens);
    }
    oct_grammar_unref(x);
}

static void answers_do_not_depend_on_who_else_is_there(void **st) {
    (void)st;
    const oct_engine_options guesses = {.draft = {.n_tokens = 3, .lookup_min = 1, .lookup_max = 3}};
    mixed(200, NULL, false);
    end();
    mixed(200, NULL, true);
    assert_int_equal(h.fake.n_beside > 0, true); /* overlap is back when they have ended */
    end();
    mixed(40, NULL, true); /* too few blocks: preemption */
    uint32_t n = 0;
    for (int i = 0; i < N; i++) n += g[i].n_preemptions;
    assert_true(n > 0);
    end();
    mixed(200, &guesses, true);
    end();
    harness_no_overlap = true;
    mixed(200, NULL, true);
    harness_no_overlap = false;
    end();
}

static void a_grammar_of_another_vocabulary_is_refused(void **st) {
    (void)st;
    oct_err err = {0};
    harness_init(&h, 64, 64, 8, NULL);
    assert_int_equal(
        oct_grammars_create(oct_system_allocator(), h.tok, FAKE_VOCAB - 1, &maker, NULL), OCT_OK);
    specs[0] = drawn(&g[0], 0, 5, 4);
    specs[0].grammar = regex("a");
    assert_int_equal(oct_engine_submit(h.engine, &specs[0], NULL, &err), OCT_E_INVALID);
    assert_non_null(strstr(err.text, "grammar"));
    oct_grammar_unref(specs[0].grammar);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_keeps_to_its_grammar_and_ends),
        cmocka_unit_test(EOS_only_where_the_text_is_complete),
        cmocka_unit_test(a_grammar_begins_behind_a_text),
        cmocka_unit_test(answers_do_not_depend_on_who_else_is_there),
        cmocka_unit_test(a_grammar_of_another_vocabulary_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
