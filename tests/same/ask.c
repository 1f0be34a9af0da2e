/* tests/same/ask.c - random requests. */
#include <stdio.h>

#include "pair.h"

enum { VOCAB = 256 };

static int32_t a_token(rng *r) { return 3 + (int32_t)rng_below(r, VOCAB - 3); }
static float a_float(rng *r, float from, float to) {
    return from + (to - from) * (float)rng_below(r, 1000) / 1000.0f;
}

void text_fill(rng *r, text *t) {
    for (int i = 0; i < SAME_MAX_LEN; i++) t->ids[i] = a_token(r);
}

void ask_fill(rng *r, const text *t, uint32_t n, uint32_t n_common, uint32_t max_tokens, ask *a) {
    *a = (ask){.spec = OCT_REQUEST_SPEC_DEFAULT};
    for (uint32_t i = 0; i < n; i++) a->prompt[i] = i < n_common ? t->ids[i] : a_token(r);
    a->spec.prompt = a->prompt;
    a->spec.n_prompt = n;
    a->spec.max_tokens = max_tokens;
    a->spec.detokenize = false;
}

static void fill_sampling(rng *r, oct_sampling *s) {
    s->has_seed = true;
    s->seed = rng_next(r);
    s->choice = rng_one_in(r, 3) ? rng_below(r, 4) : 0;
    s->temperature = rng_one_in(r, 3) ? 0.0f : a_float(r, 0.3f, 1.6f);
    if (rng_one_in(r, 3)) s->top_k = 1 + (int32_t)rng_below(r, 60);
    if (rng_one_in(r, 3)) s->top_p = a_float(r, 0.3f, 1.0f);
    if (rng_one_in(r, 4)) s->min_p = a_float(r, 0.0f, 0.2f);
    if (rng_one_in(r, 4)) s->repetition_penalty = a_float(r, 0.8f, 1.5f);
    if (rng_one_in(r, 4)) s->frequency_penalty = a_float(r, -0.5f, 1.0f);
    if (rng_one_in(r, 4)) s->presence_penalty = a_float(r, -0.5f, 1.0f);
}

static void fill_lists(rng *r, ask *a) {
    oct_request_spec *s = &a->spec;
    if (rng_one_in(r, 4)) {
        for (int i = 0; i < 4; i++)
            a->bias[i] = (oct_token_bias){a_token(r), a_float(r, -5.0f, 5.0f)};
        s->logit_bias = a->bias;
        s->n_logit_bias = 4;
    }
    if (rng_one_in(r, 6)) {
        for (int i = 0; i < 100; i++) a->allowed[i] = a_token(r);
        s->allowed_ids = a->allowed;
        s->n_allowed_ids = 100;
    }
    if (rng_one_in(r, 6)) {
        for (int i = 0; i < 3; i++) a->bad[i] = a_token(r);
        a->bad_words[0] = (oct_token_seq){a->bad, 1};
        a->bad_words[1] = (oct_token_seq){a->bad + 1, 2};
        s->bad_words = a->bad_words;
        s->n_bad_words = 2;
    }
    if (rng_one_in(r, 3)) {
        for (int i = 0; i < 12; i++) a->stop_ids[i] = a_token(r);
        s->stop_ids = a->stop_ids;
        s->n_stop_ids = 12;
    }
}

void ask_fill_fields(rng *r, ask *a) {
    fill_sampling(r, &a->spec.sampling);
    fill_lists(r, a);
    a->spec.ignore_eos = rng_one_in(r, 2);
    if (rng_one_in(r, 4)) a->spec.min_tokens = rng_below(r, a->spec.max_tokens + 1);
    if (!rng_one_in(r, 4)) a->spec.n_logprobs = (int32_t)rng_below(r, 6);
    if (rng_one_in(r, 8)) a->spec.prompt_logprobs = (int32_t)rng_below(r, 3);
    if (rng_one_in(r, 6)) a->spec.cache_salt = OCT_STR("a tenant");
}

void ask_print(const ask *a) {
    const oct_request_spec *s = &a->spec;
    const oct_sampling *p = &s->sampling;
    printf("  request: %u prompt, max %u, min %u; seed %llu choice %u, temperature %g, top_k %d, "
           "top_p %g, min_p %g; penalties %g %g %g;\n"
           "           logprobs %d, of the prompt %d; %u stop ids, %u biases, %u allowed, %u bad "
           "words, ignore_eos %d, salt \"%.*s\"\n",
           s->n_prompt, s->max_tokens, s->min_tokens, (unsigned long long)p->seed, p->choice,
           (double)p->temperature, p->top_k, (double)p->top_p, (double)p->min_p,
           (double)p->repetition_penalty, (double)p->frequency_penalty, (double)p->presence_penalty,
           s->n_logprobs, s->prompt_logprobs, s->n_stop_ids, s->n_logit_bias, s->n_allowed_ids,
           s->n_bad_words, s->ignore_eos, (int)s->cache_salt.len,
           s->cache_salt.ptr ? s->cache_salt.ptr : "");
}
