/*
 * sched/sched.h - who computes how many tokens in the next step.
 *
 * Pure policy: sequences are numbers (tokens known, tokens computed), time does not exist, and the
 * only thing touched is the block pool. So the same traffic always gives the same plans, and a
 * day of it can be simulated in seconds (tests/sim).
 *
 * Order: by priority, lower numbers first, where the policy asks for it, and by arrival. In a step
 *   - sequences that need one token (decodes) go first, then prompts that were begun, then new
 * ones, each in that order, under a budget of tokens, of sequences and of logits;
 *   - prompts get no more rows beside decodes than can be computed while a decode may wait;
 *   - a prompt is computed in chunks. One that does not fit into half of what a step has for
 * prompts is long: long ones get one half, and of the other what no short one wants;
 *   - when the pool runs out, the last running sequence gives all its blocks back and waits; what
 * it had computed is computed again (preemption), as far as nobody took its blocks meanwhile. The
 *     first one is never preempted for another of its priority and takes part in every step, so
 *     everything ends;
 *   - a sequence that is let in starts behind what the prefix index knows of its tokens; at least
 *     one token is always computed, because its logits are wanted;
 *   - a new sequence is let in only if afterwards the running ones still find the blocks for what
 *     they know and for one token more. It is passed by those behind it only while it waits for a
 *     place among the long prompts or for the prompt of its own group;
 *   - a waiting sequence of better priority takes the place and the blocks of the last running
 *     ones, if it can be let in then: nobody is preempted in vain.
 *
 * Ownership  The scheduler borrows the pool for life and each sequence from add to remove.
 * Threads    One: the engine thread.
 * Elsewhere  What a sequence's tokens are, when it ends: engine/. Blocks: kv/.
 */
#ifndef OCT_SCHED_SCHED_H
#define OCT_SCHED_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"
#include "kv/block_pool.h"
#include "kv/block_table.h"
#include "kv/prefix_index.h"

typedef enum oct_sched_state {
    OCT_SCHED_OUT, /* not with the scheduler */
    OCT_SCHED_WAITING,
    OCT_SCHED_RUNNING,
} oct_sched_state;

/* A sequence. The owner embeds it, zeroed, and fills the first part before add. */
typedef struct oct_sched_seq {
    uint32_t n_prompt;
    uint32_t n_tokens;   /* known: prompt and drawn ones; the owner adds each drawn token */
    uint32_t max_tokens; /* n_tokens never exceeds this; oct_sched_fits must hold for it */
    /* Rows whose logits are wanted though nothing is drawn from them (prompt_logprobs); the owner
     * moves the begin up as it gets them. Empty when begin >= end; end < n_prompt. */
    uint32_t extra_logits_begin, extra_logits_end;
    /* Tokens guessed to follow n_tokens: where seq decodes, as many of them as there is room for
     * become rows of the same item. They are not counted as computed; the owner adds those that
     * turn out to be right to n_tokens and to n_computed. n_tokens + n_draft < max_tokens. */
    uint32_t n_draft;
    oct_kv_table table;    /* initialised by the owner, room for max_tokens */
    const int32_t *tokens; /* [n_tokens]; read only where there is a prefix index; NULL: the
                              sequence neither finds nor leaves anything there */
    int64_t priority;      /* lower goes first; 0 unless the options say by_priority */
    uint64_t group; /* sequences with one prompt have one number: only one of them computes it,
                       the others wait until it can be found; 0: none */
    uint64_t root;  /* of its texts in the index (oct_kv_prefix_root); 0: no salt */

    /* The scheduler's; the owner reads. */
    oct_sched_state state;
    bool is_long;         /* it was when it was let in */
    uint32_t n_long_rows; /* rows of this plan that it has as a long one */
    uint32_t n_computed;  /* tokens whose K/V are in the cache once the planned step has run */
    uint32_t n_cached;    /* prompt tokens that the first admission found in the index, */
    uint32_t n_fetched;   /* and of these: which came back from a shelf */
    oct_kv_chain chain;
    uint32_t n_preemptions;
    uint32_t item;     /* index in the plan of this step, or OCT_SCHED_NO_ITEM */
    uint64_t arrival;  /* order of add */
    uint64_t lost_in;  /* the plan that preempted it last */
    uint64_t begun_in; /* the one that let it in */
    struct oct_sched_seq *prev, *next;
} oct_sched_seq;

#define OCT_SCHED_NO_ITEM UINT32_MAX

typedef struct oct_sched_options {
    uint32_t max_num_seqs;           /* >= 1 */
    uint32_t max_num_batched_tokens; /* >= max_num_seqs */
    uint32_t max_logits;             /* rows whose logits are wanted; >= max_num_seqs */
    uint32_t max_chunk_tokens;       /* of one sequence in one step; 0: no limit. A prompt that
                                        lacks more is long, too */
    uint32_t max_partial_prefills;   /* prompts that are begun and not done; 0: no limit */
    uint32_t max_long_partials;      /* of these, long ones; 0: no limit */
    bool by_priority;                /* else arrival alone counts */
    uint64_t max_decode_wait_ns;     /* see oct_sched_set_cost; 0: no limit */
    oct_kv_prefix *prefix;           /* over the same pool; borrowed for life; NULL: none */
} oct_sched_options;

/* This step computes the tokens [first, first + n_rows) of seq. Blocks for them are in its table.
 */
typedef struct oct_sched_item {
    oct_sched_seq *seq;
    uint32_t first, n_rows;
    uint32_t n_logits; /* rows whose logits are wanted, the sampled one included */
    bool samples;      /* the last row is the last known token: its logits give the next one */
    bool is_decode;    /* one row, and its token is a drawn one; else a chunk of a prompt or of what
                          is computed again */
    uint32_t n_draft;  /* of n_rows: rows of guessed tokens behind that one, each with its logits */
} oct_sched_item;

typedef struct oct_sched_plan {
    const oct_sched_item *items; /* [n_items] */
    uint32_t n_items, n_rows, n_logits;
    uint32_t n_decodes; /* items that are one */
    uint32_t n_admitted, n_preempted;
    uint32_t n_starved; /* beside: sequences left out that would have cost others their blocks */
} oct_sched_plan;

typedef struct oct_sched oct_sched;

/* OCT_E_INVALID: the options contradict each other. */
OCT_MUST_CHECK oct_status oct_sched_create(const oct_allocator *mem,
                                           const oct_sched_options *options, oct_kv_pool *pool,
                                           uint32_t block_tokens, oct_sched **out, oct_err *err);
/* Accepts NULL. Every sequence must have been removed. */
void oct_sched_destroy(oct_sched *s);

/* Could a sequence of n_tokens run if it were alone? What does not fit must not be added. */
bool oct_sched_fits(const oct_sched *s, uint32_t n_tokens);
/* Puts seq at the end of the waiting ones. */
void oct_sched_add(oct_sched *s, oct_sched_seq *seq);
/* Takes seq out, whatever its state, and gives its blocks back. Blocks that a step on its way
 * writes to are held before (oct_sched_hold). */
void oct_sched_remove(oct_sched *s, oct_sched_seq *seq);

/*
 * Plans a step: takes blocks, preempts, admits, and counts what it planned as computed. The plan is
 * valid until the next call of this header. An empty plan means that nobody is there: while a
 * sequence is waiting or running, every plan has at least one item.
 */
const oct_sched_plan *oct_sched_next(oct_sched *s);
/*
 * The same beside a step that was planned before and is not collected: nobody is preempted, since
 * that step writes to blocks of those it has. A sequence whose newest token is still to come has
 * nothing to compute and is left out. So the plan may be empty, and when n_starved is not 0 the
 * next one must be made by oct_sched_next, with everything collected.
 */
const oct_sched_plan *oct_sched_next_beside(oct_sched *s);

/* The plan made last is not run: what it would have computed is not, and whom it let in waits
 * again. Those that it preempted have lost what they had. The plan is empty afterwards. */
void oct_sched_take_back(oct_sched *s);

/* A block that a step not collected writes to stays held, whoever gives it back, until let_go. */
void oct_sched_hold(oct_sched *s, oct_kv_block block);
void oct_sched_let_go(oct_sched *s, oct_kv_block block);

/*
 * A step was collected, and a value that was drawn from seq after n_done tokens was finite: the
 * full blocks of these tokens are good and can be found from now on. Before the drawn token is
 * added or seq removed. Ignored unless seq is running and n_done of its tokens are computed. (A
 * part of a prompt that draws nothing proves nothing: one token whose K/V are not finite would
 * poison everybody who found its block.)
 */
void oct_sched_collected(oct_sched *s, oct_sched_seq *seq, uint32_t n_done);

/* What steps cost here, as the owner measured: decodes alone, and each row of a prompt beside them.
 * A step with decodes has as many rows of prompts as make it take max_decode_wait_ns, but a block's
 * tokens at least. 0: not known, no limit. */
void oct_sched_set_cost(oct_sched *s, uint64_t decodes_ns, uint64_t row_ns);

uint32_t oct_sched_n_waiting(const oct_sched *s);
uint32_t oct_sched_n_running(const oct_sched *s);

/* Walks the invariants (sched.c) in OCT_DEBUG builds. */
void oct_sched_check(const oct_sched *s);

#endif
