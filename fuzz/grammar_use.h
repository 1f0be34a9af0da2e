/*
 * What a grammar is put through, once a front end took a text: its answer is walked along allowed
 * tokens, and whatever a mask allows must fit. A tiny vocabulary: single bytes and some pairs.
 */
#ifndef FUZZ_GRAMMAR_USE_H
#define FUZZ_GRAMMAR_USE_H

#include <stdio.h>

#include "base/log.h"
#include "codec/json.h"
#include "grammar/grammar.h"
#include "text/vocab.h"

enum { FUZZ_TOKENS = 300, FUZZ_WORDS = (FUZZ_TOKENS + 31) / 32, FUZZ_STEPS = 24 };

static inline oct_grammars *fuzz_maker(void) {
    static oct_tokenizer *tok;
    oct_grammars *maker = NULL;
    oct_log_set_level(OCT_LOG_OFF);
    if (!tok) {
        static oct_buf spelled[FUZZ_TOKENS];
        oct_str tokens[FUZZ_TOKENS];
        oct_byte_level_setup();
        for (int i = 0; i < FUZZ_TOKENS; i++) {
            const char *pair = "\",{\"[]}],\":12ab\\ncdtruenu";
            const char one = (char)i;
            oct_buf_init(&spelled[i], oct_system_allocator(), 0);
            if (i < 256)
                oct_byte_level_write((oct_str){&one, 1}, &spelled[i]);
            else if (i < 279)
                oct_byte_level_write((oct_str){pair + (i - 256), 2}, &spelled[i]);
            else
                oct_buf_printf(&spelled[i], "x%d", i);
            tokens[i] = oct_buf_view(&spelled[i]);
        }
        const oct_vocab_desc desc = {.model = OCT_STR("gpt2"),
                                     .pre = OCT_STR("gpt-2"),
                                     .tokens = tokens,
                                     .n_tokens = FUZZ_TOKENS,
                                     .bos_id = -1,
                                     .eos_id = -1,
                                     .unk_id = -1,
                                     .pad_id = -1};
        if (oct_tokenizer_create(oct_system_allocator(), &desc, &tok, NULL) != OCT_OK)
            __builtin_trap();
    }
    if (oct_grammars_create(oct_system_allocator(), tok, FUZZ_TOKENS, &maker, NULL) != OCT_OK)
        __builtin_trap();
    return maker;
}

/* seed: chooses among the tokens that are allowed. */
static inline void fuzz_walk(oct_grammar *g, uint64_t seed) {
    oct_grammar_run *run = NULL;
    uint32_t mask[FUZZ_WORDS];
    oct_status st = oct_grammar_run_create(oct_system_allocator(), g, &run);
    for (int step = 0; step < FUZZ_STEPS && st == OCT_OK; step++) {
        int32_t allowed[FUZZ_TOKENS];
        uint32_t n = 0;
        bool fits = false;
        st = oct_grammar_run_mask(run, mask);
        if (st != OCT_OK) break;
        for (int32_t id = 0; id < FUZZ_TOKENS; id++)
            if (mask[id / 32] >> (id % 32) & 1) allowed[n++] = id;
        if (n == 0 && !oct_grammar_run_may_end(run)) __builtin_trap(); /* a dead end */
        if ((n == 0) != oct_grammar_run_must_end(run)) __builtin_trap();
        if (n == 0) break;
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        st = oct_grammar_run_token(run, allowed[(seed >> 33) % n], &fits);
        if (st == OCT_OK && !fits) __builtin_trap();
    }
    if (st != OCT_OK && st != OCT_E_FULL) __builtin_trap();
    oct_grammar_run_destroy(run);
}

static inline void fuzz_took(oct_status st, oct_grammar *g, const oct_err *err, uint64_t seed) {
    if ((st == OCT_OK) != (g != NULL)) __builtin_trap();
    if (st != OCT_OK && (st != OCT_E_INVALID || !err->text[0])) __builtin_trap();
    if (g) fuzz_walk(g, seed);
    oct_grammar_unref(g);
}

#endif
