/* harness.h - an engine over the scripted model, and a collector for what a request is told. */
#ifndef OCT_TESTS_ENGINE_HARNESS_H
#define OCT_TESTS_ENGINE_HARNESS_H

#include "engine/backend.h"
#include "fake_backend.h"
#include "text/tokenizer.h"

/* Everything that one request was told. Written on the engine thread. */
typedef struct got {
    int32_t tokens[FAKE_MAX_LEN];
    uint32_t n_tokens;
    char text[4096];
    size_t text_len;
    float logprobs[FAKE_MAX_LEN];
    int32_t top_first[FAKE_MAX_LEN];
    uint32_t n_prompt_lp;
    float prompt_lp[FAKE_MAX_LEN];
    uint32_t n_outputs;
    atomic_uint n_finals;
    oct_finish finish;
    oct_stop_kind stop_kind;
    int32_t stop_id;
    char stop_text[64], error[256];
    oct_status status;
    uint32_t n_prompt, n_completion, n_cached, n_preemptions;
    oct_request_times times;
    oct_request *cancel_at_first; /* when set: cancelled from inside the first callback */
} got;

typedef struct harness {
    fake_backend fake;
    oct_fault_alloc mem;
    oct_tokenizer *tok;
    oct_engine *engine;
} harness;

/* A SentencePiece-style vocabulary of FAKE_VOCAB tokens: <unk>, <s>, </s>, 256 bytes, words. */
oct_tokenizer *new_tokenizer(void);

/* The engines of harness_init overlap their steps unless this is set. */
extern bool harness_no_overlap;
/* Rows of a step with logits that the model allows; 0: one for each sequence. */
extern uint32_t harness_max_logits;

/* options NULL: EOS is FAKE_EOS, the rest default. n_blocks of the options is filled in. */
void harness_init(harness *h, uint32_t n_blocks, uint32_t max_rows, uint32_t max_seqs,
                  const oct_engine_options *options);
/* Destroys all and requires that every block and every byte came back. */
void harness_fini(harness *h);
/* Submits without a handle; a refusal fails the test. */
void harness_submit(const harness *h, const oct_request_spec *spec);
oct_engine_stats harness_stats(const harness *h);
/* Turns until nobody is left. */
void harness_run(harness *h);

void on_got(void *user, const oct_output *out); /* user: got */

/* A spec with n_prompt tokens that depend on key, greedy, max_tokens, collected in g. The prompt
 * lies in prompt[n_prompt], the caller's. */
oct_request_spec new_spec(got *g, int32_t *prompt, uint32_t n_prompt, uint32_t max_tokens,
                          uint64_t key);

/* Requires that g is what fake_expect says. */
void assert_expected(harness *h, const oct_request_spec *spec, const got *g);

#endif
