/*
 * engine/parts.h - the inside of the engine, shared by its source files only.
 *
 * Who writes what: a request's first half is written by submit and only read afterwards; its second
 * half, the step and the scheduler belong to the engine thread. What other threads write or read
 * while the engine runs is atomic and says so.
 */
#ifndef OCT_ENGINE_PARTS_H
#define OCT_ENGINE_PARTS_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/queue.h"
#include "base/thread.h"
#include "engine/backend.h"
#include "engine/engine.h"
#include "grammar/grammar.h"
#include "kvstore/kvstore.h"
#include "sched/sched.h"
#include "text/detokenizer.h"
#include "text/stop.h"
#include "text/tokenizer.h"

/* What an answer must look like (constraint.c). */
typedef struct oct_constraint {
    oct_grammar_run *run; /* NULL: anything */
    oct_str after;        /* the grammar begins behind it */
    size_t n_seen;        /* bytes of it that the answer ends with */
    bool open;            /* the grammar has begun */
} oct_constraint;

/* A sequence that must be drawn by some token (constraint.c). */
typedef struct oct_closing {
    int32_t *ids; /* [n] */
    uint32_t n, by;
    uint32_t n_drawn; /* tokens of the answer so far */
    uint32_t n_seen;  /* of ids, which the answer ends with; n: it is closed */
} oct_closing;

/* A list stands beside its length, whatever padding that costs. */
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct oct_request {
    oct_sched_seq seq; /* first, so that a sequence is its request; the engine thread's */

    /* Any thread. */
    atomic_uint n_refs; /* the caller's and the engine's */
    atomic_bool cancelled;

    /* Fixed by submit. */
    const oct_allocator *mem;
    oct_arena arena; /* the small lists below */
    void *big;       /* tokens, block table, seen: not touched before they are used */
    size_t big_bytes;
    oct_engine *engine;
    oct_output_fn *on_output;
    void *user;
    uint32_t max_tokens, min_tokens;
    oct_sampling sampling; /* seed always set */
    bool greedy, penalised, ignore_eos, include_stop, detokenize;
    bool one_by_one; /* what a row may draw depends on the token before it: no step has a row of it
                        while that is on its way */
    int32_t n_logprobs, n_prompt_logprobs; /* -1: none */
    int32_t *stop_ids;                     /* [n_stop_ids] ascending */
    uint32_t n_stop_ids;
    int32_t *bans; /* [n_bans] ascending: what may not be drawn before min_tokens */
    uint32_t n_bans;
    octet_bias *bias; /* [n_bias] ascending id */
    uint32_t n_bias;
    oct_token_seq *bad_words; /* [n_bad_words] */
    uint32_t n_bad_words;
    uint32_t *mask; /* [mask_words], or NULL */
    oct_str salt;
    uint64_t deadline_ns; /* 0: none */
    oct_stop_set *stop_set;
    oct_str *stop_strings;       /* [n], for the output that names one */
    oct_top_logprob *prompt_top; /* [n_prompt][n_prompt_logprobs] */

    /* The engine thread's. */
    oct_request *prev, *next; /* among the live ones */
    oct_kvstore_job *load;    /* what it waits for, before the scheduler knows of it */
    oct_kvstore_key load_key; /* of the first block of that */
    oct_kv_chain load_chain;  /* in front of it */
    uint64_t load_begin_ns;
    bool parked;            /* it waits for another's load of the same */
    bool held;              /* it came while the engine is paused */
    bool queued;            /* counted in n_queued */
    bool in_prompt;         /* counted in n_queued_tokens: its first token was not drawn */
    int32_t *tokens;        /* [seq.max_tokens] prompt, then drawn ones */
    uint32_t n_flying;      /* of seq.n_tokens: drawn by a step that is not collected; not known */
    uint32_t flying_row;    /* where the newest submitted step leaves the last of them */
    octet_seen_token *seen; /* [n_seen] ascending id; penalised only */
    uint32_t n_seen;
    oct_token_logprob *prompt_lp; /* [n_prompt]; NULL: not wanted or delivered */
    oct_constraint constraint;
    oct_closing closing;
    oct_detokenizer detok;
    oct_stop stop;
    oct_request_times times;
};

static inline oct_request *oct_request_of(oct_sched_seq *seq) { return (oct_request *)seq; }
static inline uint32_t oct_request_n_known(const oct_request *r) {
    return r->seq.n_tokens - r->n_flying;
}
/* Tokens drawn that are known. */
static inline uint32_t oct_request_n_drawn(const oct_request *r) {
    return oct_request_n_known(r) - r->seq.n_prompt;
}

/* ---- request.c ---- */

/* Checks and copies a spec. One reference. */
OCT_MUST_CHECK oct_status oct_request_create(oct_engine *e, const oct_request_spec *spec,
                                             oct_request **out, oct_err *err);
/* Counts a drawn token for the penalties. */
void oct_request_see(oct_request *r, int32_t id);

/* ---- constraint.c ---- */

OCT_MUST_CHECK oct_status oct_constraint_copy(oct_request *r, const oct_engine *e,
                                              const oct_request_spec *s, oct_err *err);
void oct_constraint_fini(oct_request *r);
/* The tokens that may be drawn next, of those that the request allows: [n_words]. Only when the
 * constraint is open. OCT_E_NOMEM, OCT_E_FULL: too many ways at once. */
OCT_MUST_CHECK oct_status oct_constraint_mask(const oct_engine *e, const oct_request *r,
                                              uint32_t *words, size_t n_words);
/* A token was drawn. */
OCT_MUST_CHECK oct_status oct_constraint_take(const oct_engine *e, oct_request *r, int32_t id,
                                              bool *fits);
bool oct_constraint_complete(const oct_request *r);
/* The ids that must be drawn by some token: copied, noted as they are drawn, and the one that has
 * to come now, or -1. */
OCT_MUST_CHECK oct_status oct_closing_copy(oct_request *r, const oct_engine *e,
                                           const oct_request_spec *s, oct_err *err);
void oct_closing_take(oct_request *r, int32_t id);
int32_t oct_closing_due(const oct_request *r);
bool oct_constraint_may_end(const oct_request *r);
/* Whether some request decodes under a constraint: then a step is planned when the one before it
 * has been collected. */
bool oct_constraint_waits(const oct_engine *e);

/* ---- sampling.c: the lists that rows of a step point into ---- */

typedef struct oct_row_lists {
    octet_seen_token *seen;
    octet_bias *bias;
    uint32_t *masks; /* [cap_masks][mask_words] */
    size_t n_seen, cap_seen, n_bias, cap_bias, n_masks, cap_masks;
    size_t mask_words;
} oct_row_lists;

void oct_row_lists_fini(oct_row_lists *l, const oct_allocator *mem);
/* Fills the row that draws the next token of r, or the n_ahead-th behind it, with its entries in l.
 * OCT_E_NOMEM, OCT_E_FULL (a constraint went too far): the lists are as before. */
OCT_MUST_CHECK oct_status oct_sample_row_fill(oct_engine *e, oct_row_lists *l, const oct_request *r,
                                              uint32_t n_ahead, octet_sample_row *row);
/* Fills a row that only asks how likely the known token `forced` was. */
void oct_sample_row_force(const oct_engine *e, const oct_request *r, int32_t forced,
                          octet_sample_row *row);

/* ---- step.c ---- */

/* What one request has in a step. */
typedef struct oct_step_part {
    oct_request *r;       /* NULL: it has ended meanwhile, what comes of it is dropped */
    bool holds;           /* r NULL: the blocks that its rows write to are held for the step */
    uint32_t first_logit; /* its rows of the result: n_extra for the prompt, then the drawn one */
    uint32_t n_extra;
    uint32_t n_draft;   /* drawn ones behind the first, should the guesses be right */
    uint32_t extra_pos; /* position of the first extra row */
    uint32_t end;       /* tokens of the request that are computed with this step */
    bool samples;
} oct_step_part;

/* One step on its way: the batch, and whom its results belong to. */
typedef struct oct_step {
    oct_model_batch batch; /* points into the arrays below */
    oct_row_lists lists;
    oct_step_part *parts; /* [n_parts], cap max_num_seqs */
    uint32_t n_parts;
    uint32_t n_chunk_rows; /* rows of parts that are no decodes */
    uint32_t n_decodes;
    bool open;                                   /* between build and finish or fail */
    uint64_t begin_ns;                           /* when it was planned */
    int32_t *tokens, *row_pos, *row_slot;        /* [max_num_batched_tokens] */
    int32_t *token_from;                         /* the same; see oct_model_batch */
    int32_t *seq_row, *seq_kv_len, *block_table; /* [max_num_seqs + 1], [..], [..][stride] */
    int32_t *logits_row;                         /* [max_logits] */
    octet_sample_row *sample;                    /* [max_logits] */
} oct_step;

OCT_MUST_CHECK oct_status oct_step_init(oct_engine *e, oct_step *s, oct_err *err);
void oct_step_fini(oct_engine *e, oct_step *s); /* accepts a zeroed one */
/* Turns the plan into the batch and opens the step. Requests for which memory was refused end here.
 */
void oct_step_build(oct_engine *e, oct_step *s, const oct_sched_plan *plan);
/* The step was submitted, and the next one may be planned before it is collected: counts the tokens
 * that it will draw, where the row behind them can be computed without anybody knowing them. */
void oct_step_fly(oct_step *s);
/* r ends: steps that are open forget it and hold the blocks that its rows write to. */
void oct_step_forget(oct_engine *e, const oct_request *r);
/* Hands the result to the requests and closes the step. */
void oct_step_finish(oct_engine *e, oct_step *s, const oct_model_result *result);
/* The step failed: ends its requests and closes it. */
void oct_step_fail(oct_engine *e, oct_step *s, const oct_err *err);

/* ---- draft.c ---- */

/* Guesses what follows tokens[n], n >= 1: at most `most` ids to out, which may be tokens + n. */
uint32_t oct_draft_find(const int32_t *tokens, uint32_t n, uint32_t lookup_min, uint32_t lookup_max,
                        uint32_t most, int32_t *out);
/* Guesses for every request that may have some in the next plan; behind its tokens. */
void oct_drafts_guess(oct_engine *e);

/* ---- output.c ---- */

/* Row i of the result is a drawn token: decides whether r ends, releases text, calls back. False: r
 * has ended and is gone. */
bool oct_request_take_token(oct_engine *e, oct_request *r, const oct_model_result *res, uint32_t i);
/* Row i of the result tells how likely the prompt's token at pos was. */
void oct_request_take_prompt_logprob(oct_engine *e, oct_request *r, uint32_t pos,
                                     const oct_model_result *res, uint32_t i);
/* Ends r: nothing may be drawn, and the text is complete as it is. */
void oct_request_complete(oct_engine *e, oct_request *r);
/* Ends r with the last output. code OCT_OK for an abort. r is gone afterwards. */
void oct_request_abort(oct_engine *e, oct_request *r);
void oct_request_fail(oct_engine *e, oct_request *r, oct_status code, const char *sentence);

/* ---- cache.c: cached beginnings, on blocks and on shelves ---- */

OCT_MUST_CHECK oct_status oct_cache_init(oct_engine *e, oct_err *err);
void oct_cache_fini(oct_engine *e); /* accepts one that was not made */
/* Queues the copies that the plan asked for, before its step. */
OCT_MUST_CHECK oct_status oct_cache_move(oct_engine *e, oct_err *err);
bool oct_cache_has_moves(const oct_engine *e);
/* Forgets every beginning. */
void oct_cache_reset(oct_engine *e);
/* A step failed, and copies that were queued with it may not have been made: what they were to
 * bring is forgotten, and all else, too. */
void oct_cache_distrust(oct_engine *e);
/* The same because a copy was refused before it was queued; says so now and then. */
void oct_cache_refused(oct_engine *e, const oct_err *why);

/* ---- saved.c: beginnings in a folder ---- */

OCT_MUST_CHECK oct_status oct_saved_init(oct_engine *e, oct_err *err);
void oct_saved_fini(oct_engine *e); /* waits for what is on its way */
/* r came in: true where a part of its prompt is being read, and the scheduler gets it later. */
bool oct_saved_load(oct_engine *e, oct_request *r);
/* Takes back what was read and written; with nothing else to do waits a little for it. */
void oct_saved_collect(oct_engine *e);
/* Leaves a few blocks to be written; what has to be copied for that only while nobody is there. */
void oct_saved_save(oct_engine *e);
/* The engine ends: leaves everything, for some seconds at most. */
void oct_saved_flush(oct_engine *e);
/* r ends. */
void oct_saved_forget(oct_engine *e, oct_request *r);

/* ---- pause.c ---- */

enum { OCT_ENGINE_MAX_PAUSERS = 16 };

typedef struct oct_engine_pause_state {
    /* Any thread, under lock; wanted is read without it. */
    pthread_mutex_t lock;
    atomic_int wanted; /* 0: no pause; else 1 + oct_pause_mode */
    struct {
        oct_paused_fn *fn;
        void *user;
    } pausers[OCT_ENGINE_MAX_PAUSERS];
    uint32_t n_pausers;
    bool abort; /* those that are in are still to be aborted */
    bool ended; /* nobody will look at pausers again */
    /* The engine thread's. */
    uint32_t n_held;
    bool holds; /* no step until resume */
} oct_engine_pause_state;

void oct_pause_init(oct_engine *e);
void oct_pause_fini(oct_engine *e);
/* Once a turn, after messages: does what pausing and resuming asks for. True: no step now. */
bool oct_pause_turn(oct_engine *e);
/* r came while no request is begun: it is held, and given to oct_engine_begin later. */
bool oct_pause_hold(oct_engine *e, oct_request *r);
void oct_pause_forget(oct_engine *e, oct_request *r);
/* The engine ends: whoever still waits for a pause is told. */
void oct_pause_end(oct_engine *e);
/* r may be computed from now on. */
void oct_engine_begin(oct_engine *e, oct_request *r);
/* Waits for all steps that are on their way. */
void oct_engine_settle(oct_engine *e);

/* ---- stats.c ---- */

/* Written by the engine thread alone, so an increment is a load and a store. */
typedef struct oct_engine_counters {
    atomic_uint n_running, n_waiting, n_deferred, n_blocks_used;
    _Atomic uint64_t prompt_tokens, computed_prompt_tokens, generation_tokens, n_preemptions;
    _Atomic uint64_t cached_tokens, fetched_tokens, prefix_queries, prefix_evictions;
    _Atomic uint64_t n_shelved, n_fetched;
    atomic_uint prefix_blocks, n_shelves_used;
    _Atomic uint64_t finished[OCT_N_FINISH], n_not_finite;
    _Atomic uint64_t n_drafts, n_draft_tokens, n_accepted_tokens;
    _Atomic uint64_t accepted_at[OCT_MAX_DRAFT_TOKENS];
    _Atomic uint64_t n_steps, n_failed_steps, n_shared_steps, n_mixed_steps;
    _Atomic uint64_t step_tokens[OCT_ENGINE_N_STEP_BUCKETS], step_tokens_sum, step_ns_sum;
} oct_engine_counters;

static inline void oct_count(_Atomic uint64_t *c, uint64_t n) {
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
/* Sets the gauges from the scheduler and the pool. */
void oct_engine_gauge(oct_engine *e);
void oct_engine_count_step(oct_engine *e, const oct_step *s, uint64_t step_ns, bool failed);
/* Tells the scheduler what a step cost, so that it can bound what prompts add to the next. */
void oct_engine_learn_cost(oct_engine *e, const oct_step *s, uint64_t step_ns);
/* The throughput line when it is due. */
void oct_engine_log_line(oct_engine *e, uint64_t now_ns);
/* No line is due while nothing happens. */
bool oct_engine_log_is_quiet(const oct_engine *e);

/* How much of the prompts of the last requests was found: what the line tells. */
enum { OCT_ENGINE_HIT_WINDOW = 1000 };
typedef struct oct_engine_hits {
    uint32_t n_looked_up[OCT_ENGINE_HIT_WINDOW], n_found[OCT_ENGINE_HIT_WINDOW]; /* tokens */
    uint64_t looked_up, found;                                                   /* their sums */
    uint32_t at; /* where the next goes: over the oldest */
} oct_engine_hits;
/* A request looked up n tokens of its prompt and found n_found of them. */
void oct_engine_note_hits(oct_engine_hits *h, uint32_t n, uint32_t n_found);

typedef struct oct_engine_log_state {
    uint64_t last_ns, prompt_tokens, generation_tokens, n_preemptions;
    bool was_idle;
    oct_engine_hits hits;
} oct_engine_log_state;

/* ---- the engine ---- */

typedef enum oct_engine_life { OCT_ENGINE_NEW, OCT_ENGINE_RUNS, OCT_ENGINE_ENDED } oct_engine_life;

enum {
    OCT_ENGINE_FAILED_STEPS = 3, /* in a row: then health says no */
    OCT_ENGINE_STEPS = 2,        /* one computes, one is built; or waits behind it */
};

struct oct_engine {
    /* Fixed by create. */
    const oct_allocator *mem;
    oct_engine_backend backend;
    const oct_tokenizer *tokenizer;
    oct_engine_options opt; /* zeros resolved */
    oct_engine_info info;
    int32_t *eos_ids; /* [opt.n_eos] as given: the first is the model's own */
    oct_queue *inbox; /* of oct_request, the engine's reference inside */
    oct_thread thread;

    /* Any thread. */
    atomic_uint n_queued;             /* accepted and not ended; bounded */
    _Atomic uint64_t n_queued_tokens; /* prompts of those without a first token; bounded */
    _Atomic uint64_t n_groups;
    atomic_uint n_live; /* accepted and not ended */
    atomic_bool stopping;
    _Atomic uint64_t stop_at_ns;       /* stopping: when to abort what is left */
    _Atomic uint64_t last_progress_ns; /* a step ended, or work came to an idle engine */
    atomic_uint n_failed_in_a_row;
    atomic_bool lost;         /* the device takes no work any more */
    atomic_int life;          /* oct_engine_life */
    atomic_bool reset_prefix; /* before the next plan */
    oct_engine_counters count;
    oct_engine_pause_state pause;

    /* The engine thread's. */
    oct_kv_pool *pool;
    oct_kv_prefix *prefix; /* NULL: no prefix caching */
    /* saved.c, where there is a store. */
    oct_kvstore_key *keys; /* [blocks of the longest text] scratch */
    uint64_t n_refused_copies;
    uint64_t *shelf_step; /* [n_shelves] no copy of it is on its way when so many were collected */
    uint64_t n_sent, n_back; /* steps submitted and collected so far */
    uint64_t n_swept;        /* entries that there had been when the last sweep began */
    uint32_t cursor, n_looked;
    uint32_t n_loading; /* live requests with load, or parked */
    bool sweeping;      /* there may be unsaved blocks */
    oct_sched *sched;
    oct_request *live_head, *live_tail; /* taken from the inbox, not ended */
    oct_step steps[OCT_ENGINE_STEPS];
    uint32_t n_steps;       /* submitted and not collected */
    uint32_t newest;        /* the one submitted last */
    uint64_t last_end_ns;   /* when one was collected last */
    oct_buf raw_text, text; /* scratch of one output */
    oct_top_logprob *top;   /* [max_logprobs] scratch of one output */
    oct_engine_log_state log;
    uint64_t decodes_ns,
        row_ns; /* running means of what a step of decodes and a prompt's row cost */
};

/* The prompt is computed, or never will be: its tokens leave the count. */
void oct_engine_leave_prompt(oct_engine *e, oct_request *r);
/* It has ended, and no longer counts among those accepted. */
void oct_engine_leave_queue(oct_engine *e, oct_request *r);
/* Takes r out of everything and drops the engine's reference; the last output has been sent. */
void oct_engine_forget(oct_engine *e, oct_request *r);

#endif
