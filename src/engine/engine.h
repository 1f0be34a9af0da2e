/*
 * engine/engine.h - the one owner of everything that changes: queue, batch, cache blocks, model.
 *
 * A caller submits requests from any thread; the engine thread runs steps over all of them and
 * tells each request's news through its callback. One request is one sequence: n choices of a
 * prompt are n requests with the same seed and choice 0 .. n-1.
 *
 * Every request that oct_engine_submit accepted gets exactly one final output (finish is not
 * OCT_FINISH_NONE), whatever happens, and none after it. A request that was refused gets none.
 *
 * Ownership  The engine borrows allocator, model and tokenizer until destroy. Requests are counted:
 *            the caller holds one reference from submit to oct_request_release, the engine its own.
 *            Everything in an oct_output is borrowed for the duration of the callback.
 * Threads    create, start, stop and destroy: one thread. submit, cancel, release, stats and
 * health: any thread, also from inside a callback. Callbacks run on the engine thread and must not
 *            block: whatever they wait for, every request waits for.
 * Elsewhere  Who is in a step: sched/. Which blocks: kv/. The step itself: model/. Fields' ranges
 * and the words a client sees: api/.
 */
#ifndef OCT_ENGINE_ENGINE_H
#define OCT_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/str.h"

typedef struct oct_model oct_model;         /* model/model.h */
typedef struct oct_tokenizer oct_tokenizer; /* text/tokenizer.h */
typedef struct oct_kvstore oct_kvstore;     /* kvstore/kvstore.h */
typedef struct oct_grammar oct_grammar;     /* grammar/grammar.h */
typedef struct oct_engine oct_engine;
typedef struct oct_request oct_request;

/* ---- the engine ---------------------------------------------------------------------------- */

/* What the numbers in oct_token_logprob are. */
typedef enum oct_logprobs_mode {
    OCT_RAW_LOGPROBS,       /* of the model's logits as they are */
    OCT_PROCESSED_LOGPROBS, /* after penalties, masks and temperature */
    OCT_RAW_LOGITS,
    OCT_PROCESSED_LOGITS,
} oct_logprobs_mode;

enum { OCT_MAX_DRAFT_TOKENS = 32, OCT_MAX_GRAMMAR_AFTER = 256 };

/* Speculation without a model: what followed the last lookup_min to lookup_max tokens of a sequence
 * when they were there before is computed as guesses (engine/draft.c). Answers are the same. */
typedef struct oct_draft_options {
    uint32_t n_tokens; /* most guesses of a sequence in a step, <= OCT_MAX_DRAFT_TOKENS; 0: none */
    uint32_t lookup_min, lookup_max; /* 1 <= min <= max */
} oct_draft_options;

typedef struct oct_engine_options {
    uint32_t n_blocks;               /* cache blocks that the model has (oct_model_kv_create) */
    uint32_t n_shelves;              /* shelves that it has (oct_model_shelves_create); what blocks
                                        held goes there when they are handed out; 0: none */
    oct_kvstore *kvstore;            /* where beginnings are found that an earlier process computed,
                                        and left for the next; needs shelves. Of this model's blocks;
                                        borrowed until destroy. NULL: none */
    uint32_t max_num_seqs;           /* most sequences of one step; 0: what the model takes */
    uint32_t max_num_batched_tokens; /* most rows of one step; 0: what the model takes */
    uint32_t max_chunk_tokens;     /* most prompt tokens of one sequence in one step; 0: no limit */
    uint32_t max_partial_prefills; /* most prompts that are begun and not done; 0: no limit */
    uint32_t max_long_partials;    /* of these, most long ones (sched/sched.h); 0: no limit */
    bool by_priority;              /* requests with lower priority numbers first */
    uint64_t max_decode_wait_ns; /* most time that prompts add to a step of running answers, as far
                                    as a step's time can be foretold; 0: no limit */
    uint64_t max_num_queued_tokens; /* most tokens of prompts without a first token; 0: no limit */
    uint32_t max_num_queued_reqs;   /* most that wait or run; 0: 1024 more than max_num_seqs */
    uint32_t max_logprobs;          /* most top tokens a request may ask for; 0: 20 */
    oct_logprobs_mode logprobs_mode;
    bool no_async_scheduling;  /* a step is planned only when the one before was collected */
    bool no_prefix_caching;    /* every prompt is computed from its first token */
    uint32_t prefix_hash_bits; /* tests: only so many bits of the index' hashes count; 0: all */
    oct_draft_options draft;   /* steps of a request that guesses do not overlap */
    const int32_t *eos_ids; /* [n_eos], copied; the model's own first, then generation_config's */
    uint32_t n_eos;
    uint64_t stuck_ns; /* see oct_engine_health; 0: 10 s */
    /* Called once, on the engine thread, when the device is lost: a step failed and the device
     * takes no other work either. Every request has ended by then and none is taken any more. NULL:
     * nobody is told. */
    void (*on_lost)(void *user, const char *sentence);
    void *on_lost_user;
    uint64_t log_every_ns; /* the throughput line in the log; 0: none */
} oct_engine_options;

/* Fixed after create; valid as long as the engine. */
typedef struct oct_engine_info {
    uint32_t max_model_len; /* most tokens of one sequence, prompt and answer: the model's limit or
                               what the whole cache holds, whichever is less */
    uint32_t n_vocab;
    uint32_t n_blocks, n_shelves, block_tokens;
    uint32_t max_num_seqs, max_num_batched_tokens, max_num_queued_reqs, max_logprobs;
    uint64_t max_num_queued_tokens; /* 0: no limit */
    bool prefix_caching, by_priority;
    bool async_scheduling;   /* steps overlap: wanted, and the device can */
    uint32_t n_draft_tokens; /* as the options say */
} oct_engine_info;

/* tokenizer NULL: requests get token ids and no text; stop strings are refused. OCT_E_INVALID: the
 * options contradict each other or the model's limits. */
OCT_MUST_CHECK oct_status oct_engine_create(const oct_allocator *mem, oct_model *model,
                                            const oct_tokenizer *tokenizer,
                                            const oct_engine_options *options, oct_engine **out,
                                            oct_err *err);
OCT_MUST_CHECK oct_status oct_engine_start(oct_engine *e, oct_err *err);
/* Takes no more requests (submit answers OCT_E_CANCELLED), goes on for at most drain_ns until those
 * that are in have finished, aborts the rest, and returns when the engine thread has ended. Every
 * request has had its final output by then. May be called twice, and before start. */
void oct_engine_stop(oct_engine *e, uint64_t drain_ns);
/* Stops without drain if that has not happened. Accepts NULL. Handles stay valid until released. */
void oct_engine_destroy(oct_engine *e);

const oct_engine_info *oct_engine_get_info(const oct_engine *e);

/* ---- a request ----------------------------------------------------------------------------- */

typedef struct oct_sampling {
    float temperature;        /* below 1e-5: greedy, and top_p, top_k, min_p do nothing */
    float top_p;              /* (0, 1]; 1: off */
    int32_t top_k;            /* 0 and -1: off */
    float min_p;              /* [0, 1]; 0: off */
    float repetition_penalty; /* > 0; 1: off */
    float frequency_penalty, presence_penalty; /* 0: off */
    bool has_seed; /* else one is taken from the system's random source */
    uint64_t seed;
    uint32_t choice; /* with the seed and a token's position: the key of its random number */
} oct_sampling;

/* Everything off, temperature 1. */
#define OCT_SAMPLING_DEFAULT \
    ((oct_sampling){.temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f})

typedef struct oct_token_bias {
    int32_t id;
    float value; /* added to the logit; -INFINITY bans the token */
} oct_token_bias;

/* A sequence of ids. */
typedef struct oct_token_seq {
    const int32_t *ids; /* [n] */
    uint32_t n;
} oct_token_seq;

typedef struct oct_output oct_output;
typedef void oct_output_fn(void *user, const oct_output *output);

/* What to do. Submit copies all of it. */
typedef struct oct_request_spec {
    const int32_t *prompt; /* [n_prompt], n_prompt >= 1 */
    uint32_t n_prompt;
    uint32_t max_tokens; /* >= 1; n_prompt + max_tokens <= max_model_len */
    uint32_t min_tokens; /* <= max_tokens; until then nothing stops the request but its length */
    oct_sampling sampling;

    const oct_str *stop; /* [n_stop], none empty */
    uint32_t n_stop;
    const int32_t *stop_ids; /* [n_stop_ids], any order, duplicates allowed */
    uint32_t n_stop_ids;
    bool ignore_eos;
    bool include_stop; /* the stop string or the stop token's text stays in the answer */
    bool detokenize;   /* text is wanted; needs a tokenizer */
    bool skip_special; /* special tokens leave no text */

    int32_t n_logprobs;      /* -1: none; 0: of the drawn token only; k: and of the k most likely */
    int32_t prompt_logprobs; /* -1: none; else for every prompt token but the first, as above */

    const oct_token_bias
        *logit_bias; /* [n_logit_bias], any order; a later entry replaces an earlier */
    uint32_t n_logit_bias;
    const int32_t *allowed_ids; /* [n_allowed_ids]; 0 of them: every token is allowed */
    uint32_t n_allowed_ids;
    const oct_token_seq *bad_words; /* [n_bad_words], none empty: never generated in full */
    uint32_t n_bad_words;

    oct_grammar *grammar; /* the answer keeps to it and ends when it is complete; of a maker for
                             n_vocab ids; submit takes a reference of its own; NULL: none */
    oct_str
        grammar_after; /* the grammar begins behind this text of the answer (a token's text is
                          one: "</think>"); at most OCT_MAX_GRAMMAR_AFTER bytes; empty: at once */

    /* Reasoning with a budget: unless the answer's first close_by tokens hold these ids one after
     * the other, they are drawn then, whatever the model would have said. 0 of them: no budget. */
    const int32_t *close_ids; /* [n_close_ids] */
    uint32_t n_close_ids, close_by;

    int64_t priority; /* lower goes first; 0 unless the engine goes by priority */
    uint64_t group;   /* requests with one prompt may have a number in common: one computes it, the
                         others wait for that; 0: none. Of oct_engine_new_group */
    uint64_t deadline_ns; /* of oct_now_ns: not ended by then, the request fails with
                             OCT_E_CANCELLED; 0: none */
    oct_str cache_salt; /* at most 128 bytes: cached beginnings are shared only among requests with
                           equal salts; empty: among those without */

    oct_output_fn *on_output;
    void *user; /* handed to on_output */
} oct_request_spec;

/* Defaults: sampling off, text wanted, special tokens skipped, no logprobs. The caller fills in
 * prompt, max_tokens and on_output. */
#define OCT_REQUEST_SPEC_DEFAULT                          \
    ((oct_request_spec){.sampling = OCT_SAMPLING_DEFAULT, \
                        .detokenize = true,               \
                        .skip_special = true,             \
                        .n_logprobs = -1,                 \
                        .prompt_logprobs = -1})

/*
 * Puts the request in the queue. The first output may come before this returns. On success
 * *handle_out is the caller's reference (NULL declines it: the request then cannot be cancelled).
 *
 * OCT_E_FULL       the queue is full, by requests or by tokens; try later (no sentence)
 * OCT_E_INVALID    the request contradicts itself or can never fit
 * OCT_E_CANCELLED  the engine is stopping
 * OCT_E_DEVICE     the device is lost
 * OCT_E_NOMEM
 */
OCT_MUST_CHECK oct_status oct_engine_submit(oct_engine *e, const oct_request_spec *spec,
                                            oct_request **handle_out, oct_err *err);
/* The request ends with OCT_FINISH_ABORT at the next step boundary unless it has ended by then. */
void oct_request_cancel(oct_request *r);
/* A number that no other group of this engine has. Any thread. */
uint64_t oct_engine_new_group(oct_engine *e);
/* Forgets every cached beginning before the next step is planned. Any thread. */
void oct_engine_reset_prefix_cache(oct_engine *e);

/* What becomes of the requests that are in when the engine is paused; later ones wait in any case.
 */
typedef enum oct_pause_mode {
    OCT_PAUSE_ABORT, /* they end with OCT_FINISH_ABORT and what they have */
    OCT_PAUSE_WAIT,  /* they go on to their ends */
    OCT_PAUSE_KEEP,  /* they stop between two steps, and go on from there */
} oct_pause_mode;

typedef void oct_paused_fn(void *user, bool paused);
/* No step is computed from now on, or from when mode lets it be so, until oct_engine_resume.
 * on_paused is called once, on the engine thread: true when the pause holds, false when the engine
 * was resumed or stopped before that. A pause of a paused engine changes its mode. Any thread.
 * OCT_E_FULL: too many callers wait for a pause already; OCT_E_CANCELLED: the engine is stopping;
 * on_paused is not called then. */
OCT_MUST_CHECK oct_status oct_engine_pause(oct_engine *e, oct_pause_mode mode,
                                           oct_paused_fn *on_paused, void *user);
void oct_engine_resume(oct_engine *e);
/* From oct_engine_pause to oct_engine_resume, whether or not the pause holds already. */
bool oct_engine_is_paused(const oct_engine *e);

/* Drops the caller's reference; does not cancel. Accepts NULL. */
void oct_request_release(oct_request *r);

/* ---- what a callback sees ------------------------------------------------------------------ */

typedef enum oct_finish {
    OCT_FINISH_NONE,   /* more will come */
    OCT_FINISH_STOP,   /* EOS, a stop id, a stop string or a grammar: see stop_kind */
    OCT_FINISH_LENGTH, /* max_tokens */
    OCT_FINISH_ABORT,  /* cancelled, or the engine was stopped */
    OCT_FINISH_ERROR,  /* see status and error */
    OCT_N_FINISH
} oct_finish;

typedef enum oct_stop_kind {
    OCT_STOP_NONE,
    OCT_STOP_EOS,
    OCT_STOP_ID,      /* stop_id */
    OCT_STOP_STRING,  /* stop_text */
    OCT_STOP_GRAMMAR, /* the grammar allows nothing more */
} oct_stop_kind;

typedef struct oct_top_logprob {
    int32_t id;
    float logprob;
    oct_str bytes; /* of the token alone; may be part of a character; empty without a tokenizer */
} oct_top_logprob;

typedef struct oct_token_logprob {
    int32_t id; /* -1: none (the first token of a prompt) */
    float logprob;
    uint32_t rank; /* 1: the most likely */
    oct_str bytes;
    uint32_t n_top;
    const oct_top_logprob *top; /* [n_top] most likely first; the drawn token may be among them */
} oct_token_logprob;

/* Times of oct_now_ns; 0: has not happened. */
typedef struct oct_request_times {
    uint64_t arrival_ns, first_scheduled_ns, first_token_ns, last_token_ns;
} oct_request_times;

struct oct_output {
    uint32_t choice; /* of the sampling */

    oct_str text; /* newly released text, whole UTF-8 characters; may be empty although there are
                     tokens: held back */
    const int32_t *tokens; /* [n_tokens] drawn in this step, the stopping one included */
    uint32_t n_tokens;
    const oct_token_logprob *logprobs; /* [n_tokens], or NULL */

    /* With the first output that carries a token (or an end), once; NULL otherwise. */
    const oct_token_logprob *prompt_logprobs; /* [n_prompt] */

    oct_finish finish;
    oct_stop_kind stop_kind;
    int32_t stop_id;
    oct_str stop_text;

    oct_status status; /* OCT_FINISH_ERROR: why; else OCT_OK */
    const char *error; /* OCT_FINISH_ERROR: a sentence for the operator; else "" */

    /* So far. */
    uint32_t n_prompt, n_completion, n_cached; /* n_cached: prompt tokens found in the cache */
    uint32_t n_preemptions;
    oct_request_times times;
};

/* ---- how it goes --------------------------------------------------------------------------- */

enum { OCT_ENGINE_N_STEP_BUCKETS = 14 };
/* Upper bounds of the buckets of step_tokens, the last one open. */
extern const uint32_t oct_engine_step_bounds[OCT_ENGINE_N_STEP_BUCKETS - 1];

/* Gauges, and counters since create. Each is exact; together they may be a step apart. */
typedef struct oct_engine_stats {
    uint32_t n_accepted;           /* and not ended */
    uint32_t n_running, n_waiting; /* waiting: queued and preempted ones */
    uint32_t n_deferred;           /* of n_waiting: for what is read of their beginning */
    uint64_t n_queued_tokens;      /* of prompts without a first token */
    uint32_t n_blocks, n_blocks_used;
    uint64_t prompt_tokens;          /* of requests whose prompt was computed for the first time */
    uint64_t computed_prompt_tokens; /* rows that were not decodes, recomputation included */
    uint64_t cached_tokens;          /* of prompt_tokens: found in the cache */
    uint64_t prefix_queries;         /* of prompt_tokens: looked up there */
    uint64_t prefix_evictions;       /* blocks whose content was given up for another */
    uint32_t prefix_blocks;          /* whose content can be found */
    uint64_t fetched_tokens;         /* of cached_tokens: came back from shelves */
    uint64_t n_shelved, n_fetched;   /* blocks that went to a shelf, and came back */
    uint32_t n_shelves, n_shelves_used;
    bool has_kvstore; /* the next are its own (oct_kvstore_stats) */
    uint64_t kvstore_written, kvstore_read, kvstore_ignored, kvstore_failed, kvstore_deleted;
    uint64_t kvstore_blocks, kvstore_bytes;
    uint64_t generation_tokens;
    uint64_t n_preemptions;
    uint64_t finished[OCT_N_FINISH]; /* by reason */
    uint64_t n_not_finite;           /* requests that failed on NaN or infinite logits */
    uint64_t n_drafts, n_draft_tokens, n_accepted_tokens; /* steps of requests with guesses, ... */
    uint64_t accepted_at[OCT_MAX_DRAFT_TOKENS];           /* ... by the guess' place */
    uint64_t n_steps, n_failed_steps;
    uint64_t n_shared_steps;                         /* more than one sequence in the batch */
    uint64_t n_mixed_steps;                          /* decodes and prompt chunks in one batch */
    uint64_t step_tokens[OCT_ENGINE_N_STEP_BUCKETS]; /* steps by their number of rows */
    uint64_t step_tokens_sum;
    uint64_t step_ns_sum; /* time spent in steps */
} oct_engine_stats;

void oct_engine_get_stats(const oct_engine *e, oct_engine_stats *out);

/* True while the engine makes progress: its thread runs, the device is not lost, no step has been
 * failing again and again, and with work at hand a step has finished within stuck_ns. The sentence
 * says what is wrong. */
bool oct_engine_health(const oct_engine *e, oct_err *err);
/* For how long there has been work and no step has finished; 0: all is well. Any thread. */
uint64_t oct_engine_waiting_ns(const oct_engine *e);

#endif
