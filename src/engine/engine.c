/*
 * engine/engine.c - the engine's life and its loop: take messages, plan, build, submit, collect,
 * hand out, again.
 *
 * Steps overlap: when a step is planned, the one before it is still computing, and only then that
 * one is collected. So the device never waits for the host, and the host learns each token one step
 * late. A request that turns out to have ended is in the next step already: its row there is
 * dropped, and the blocks that this row writes stay held until the step was collected. Nobody is
 * preempted while a step is on its way; when that would be needed everything is collected first.
 *
 * Messages are requests in a bounded queue and one flag in each of them. The engine thread looks at
 * the flags once a step: a scan of some hundred bytes a request costs less than waking it would.
 * With nothing to do it sleeps in the queue.
 *
 * Invariants between turns:
 *   E1  every live request is with the scheduler (waiting or running), or waits for what is read of
 *       its prompt from a folder, or for the end of a pause; no other is.
 *   E2  n_live counts those and what lies in the inbox.
 *   E3  n_queued counts the live ones and the inbox; it never exceeds max_num_queued_reqs, so the
 *       inbox never refuses.
 */
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "engine/parts.h"

enum {
    DEFAULT_QUEUED = 1024,
    DEFAULT_LOGPROBS = 20,
    DEFAULT_STUCK_S = 10,
    TEXT_BYTES = 1024, /* first size of the scratch for text; a longer token makes it grow */
};
static const uint64_t second_ns = 1000000000u;

/* ---- create and destroy ---- */

static uint32_t or_else(uint32_t v, uint32_t otherwise) { return v ? v : otherwise; }
static uint32_t at_most(uint32_t v, uint32_t most) { return v < most ? v : most; }

static oct_status resolve_options(oct_engine *e, const oct_engine_options *o, oct_err *err) {
    const oct_engine_backend *b = &e->backend;
    oct_engine_options *r = &e->opt;
    *r = *o;
    r->eos_ids = NULL; /* the copy is e->eos_ids */
    r->max_num_seqs = or_else(o->max_num_seqs, b->max_seqs);
    r->max_num_batched_tokens = or_else(o->max_num_batched_tokens, b->max_rows);
    r->max_num_queued_reqs = or_else(o->max_num_queued_reqs, DEFAULT_QUEUED + r->max_num_seqs);
    r->max_logprobs =
        at_most(or_else(o->max_logprobs, at_most(DEFAULT_LOGPROBS, b->max_top)), b->n_vocab);
    if (r->stuck_ns == 0) r->stuck_ns = DEFAULT_STUCK_S * second_ns;
    if (r->max_num_seqs > b->max_seqs || r->max_num_batched_tokens > b->max_rows)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "engine: steps of %u sequences and %u tokens (the model takes %u and %u)",
                        r->max_num_seqs, r->max_num_batched_tokens, b->max_seqs, b->max_rows);
    if (r->max_logprobs > b->max_top)
        return OCT_FAIL(err, OCT_E_INVALID, "engine: %u logprobs for a token (the model gives %u)",
                        r->max_logprobs, b->max_top);
    if (o->draft.n_tokens > OCT_MAX_DRAFT_TOKENS ||
        (o->draft.n_tokens > 0 &&
         (o->draft.lookup_min == 0 || o->draft.lookup_min > o->draft.lookup_max)))
        return OCT_FAIL(err, OCT_E_INVALID,
                        "engine: guesses of %u tokens (want at most %d) after %u to %u equal ones",
                        o->draft.n_tokens, OCT_MAX_DRAFT_TOKENS, o->draft.lookup_min,
                        o->draft.lookup_max);
    /* Every running sequence must find room for one token in a step, and for its logits. */
    r->max_num_seqs = at_most(r->max_num_seqs, at_most(r->max_num_batched_tokens, b->max_logits));
    if ((uint64_t)o->n_blocks * b->block_tokens > INT32_MAX)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "engine: a cache of %u blocks of %u tokens is too large", o->n_blocks,
                        b->block_tokens);
    for (uint32_t i = 0; i < o->n_eos; i++)
        if (o->eos_ids[i] < 0)
            return OCT_FAIL(err, OCT_E_INVALID, "engine: EOS id %d is negative", o->eos_ids[i]);
    return OCT_OK;
}

static void fill_info(oct_engine *e) {
    const uint32_t cache_tokens = e->opt.n_blocks * e->backend.block_tokens;
    e->info = (oct_engine_info){
        .max_model_len = at_most(e->backend.max_model_len, cache_tokens),
        .n_vocab = e->backend.n_vocab,
        .n_blocks = e->opt.n_blocks,
        .n_shelves = e->opt.n_shelves,
        .block_tokens = e->backend.block_tokens,
        .max_num_seqs = e->opt.max_num_seqs,
        .max_num_batched_tokens = e->opt.max_num_batched_tokens,
        .max_num_queued_reqs = e->opt.max_num_queued_reqs,
        .max_logprobs = e->opt.max_logprobs,
        .max_num_queued_tokens = e->opt.max_num_queued_tokens,
        .prefix_caching = !e->opt.no_prefix_caching,
        .n_draft_tokens = e->opt.draft.n_tokens,
        .async_scheduling = e->backend.can_overlap && !e->opt.no_async_scheduling &&
                            e->opt.draft.n_tokens == 0, /* guesses are made of known tokens */
        .by_priority = e->opt.by_priority,
    };
}

static oct_status make_scratch(oct_engine *e, const int32_t *eos_ids, oct_err *err) {
    e->eos_ids = oct_calloc(e->mem, e->opt.n_eos, sizeof *e->eos_ids);
    e->top = oct_calloc(e->mem, e->opt.max_logprobs, sizeof *e->top);
    oct_buf_init(&e->raw_text, e->mem, 0);
    oct_buf_init(&e->text, e->mem, 0);
    if (!e->eos_ids || !e->top || !oct_buf_reserve(&e->raw_text, TEXT_BYTES) ||
        !oct_buf_reserve(&e->text, TEXT_BYTES))
        return OCT_FAIL(err, OCT_E_NOMEM, "engine: no memory");
    if (e->opt.n_eos > 0) memcpy(e->eos_ids, eos_ids, e->opt.n_eos * sizeof *eos_ids);
    return OCT_OK;
}

static oct_status make_parts(oct_engine *e, const int32_t *eos_ids, oct_err *err) {
    OCT_TRY(make_scratch(e, eos_ids, err));
    OCT_TRY(oct_cache_init(e, err));
    const oct_sched_options so = {.max_num_seqs = e->opt.max_num_seqs,
                                  .max_num_batched_tokens = e->opt.max_num_batched_tokens,
                                  .max_logits = e->backend.max_logits,
                                  .max_chunk_tokens = e->opt.max_chunk_tokens,
                                  .max_partial_prefills = e->opt.max_partial_prefills,
                                  .max_long_partials = e->opt.max_long_partials,
                                  .by_priority = e->opt.by_priority,
                                  .max_decode_wait_ns = e->opt.max_decode_wait_ns,
                                  .prefix = e->prefix};
    OCT_TRY(oct_sched_create(e->mem, &so, e->pool, e->info.block_tokens, &e->sched, err));
    for (int i = 0; i < OCT_ENGINE_STEPS; i++) OCT_TRY(oct_step_init(e, &e->steps[i], err));
    if (oct_queue_create(e->mem, e->opt.max_num_queued_reqs, &e->inbox) != OCT_OK)
        return OCT_FAIL(err, OCT_E_NOMEM, "engine: no memory for a queue of %u",
                        e->opt.max_num_queued_reqs);
    return OCT_OK;
}

static void free_parts(oct_engine *e) {
    oct_queue_destroy(e->inbox);
    for (int i = 0; i < OCT_ENGINE_STEPS; i++) oct_step_fini(e, &e->steps[i]);
    oct_sched_destroy(e->sched);
    oct_cache_fini(e);
    oct_pause_fini(e);
    oct_buf_fini(&e->raw_text);
    oct_buf_fini(&e->text);
    oct_free(e->mem, e->top, e->opt.max_logprobs, sizeof *e->top);
    oct_free(e->mem, e->eos_ids, e->opt.n_eos, sizeof *e->eos_ids);
    oct_free(e->mem, e, 1, sizeof *e);
}

oct_status oct_engine_create_on(const oct_allocator *mem, const oct_engine_backend *backend,
                                const oct_tokenizer *tokenizer, const oct_engine_options *options,
                                oct_engine **out, oct_err *err) {
    *out = NULL;
    oct_engine *e = oct_calloc(mem, 1, sizeof *e);
    if (!e) return OCT_FAIL(err, OCT_E_NOMEM, "engine: no memory");
    e->mem = mem;
    e->backend = *backend;
    e->tokenizer = tokenizer;
    atomic_init(&e->life, OCT_ENGINE_NEW);
    oct_pause_init(e);
    oct_status st = resolve_options(e, options, err);
    if (st != OCT_OK) {
        oct_pause_fini(e);
        oct_free(mem, e, 1, sizeof *e);
        return st;
    }
    fill_info(e);
    e->log.was_idle = true;
    st = make_parts(e, options->eos_ids, err);
    if (st != OCT_OK) {
        free_parts(e);
        return st;
    }
    *out = e;
    return OCT_OK;
}

void oct_engine_destroy(oct_engine *e) {
    if (!e) return;
    oct_engine_stop(e, 0);
    free_parts(e);
}

const oct_engine_info *oct_engine_get_info(const oct_engine *e) { return &e->info; }

/* ---- the door: any thread ---- */

static bool enter_tokens(oct_engine *e, const oct_request_spec *spec) {
    const uint32_t n_prompt = spec->n_prompt;
    const uint64_t most = e->opt.max_num_queued_tokens;
    uint64_t n = atomic_load_explicit(&e->n_queued_tokens, memory_order_relaxed);
    if (OCT_FAULT(QUEUE_TOKENS, spec->sampling.seed)) return false;
    do {
        if (most > 0 && (n_prompt > most || n > most - n_prompt)) return false;
    } while (!atomic_compare_exchange_weak(&e->n_queued_tokens, &n, n + n_prompt));
    return true;
}

/* Counts a request in, unless the queue is full. */
static bool enter_queue(oct_engine *e, const oct_request_spec *spec) {
    uint32_t n = atomic_load_explicit(&e->n_queued, memory_order_relaxed);
    if (OCT_FAULT(QUEUE_REQUESTS, spec->sampling.seed)) return false;
    do {
        if (n >= e->opt.max_num_queued_reqs) return false;
    } while (!atomic_compare_exchange_weak(&e->n_queued, &n, n + 1));
    if (enter_tokens(e, spec)) return true;
    atomic_fetch_sub(&e->n_queued, 1);
    return false;
}

/* What is longer than all that may wait would be refused for ever. */
static oct_status check_ever(const oct_engine *e, const oct_request_spec *spec, oct_err *err) {
    const uint64_t most = e->opt.max_num_queued_tokens;
    if (most == 0 || spec->n_prompt <= most) return OCT_OK;
    return OCT_FAIL(err, OCT_E_INVALID,
                    "prompt: longer than this server lets wait (got %u tokens, want at most %llu)",
                    spec->n_prompt, (unsigned long long)most);
}

uint64_t oct_engine_new_group(oct_engine *e) { return atomic_fetch_add(&e->n_groups, 1) + 1; }

oct_status oct_engine_submit(oct_engine *e, const oct_request_spec *spec, oct_request **handle_out,
                             oct_err *err) {
    if (handle_out) *handle_out = NULL;
    if (atomic_load(&e->stopping))
        return OCT_FAIL(err, OCT_E_CANCELLED, "engine: stopping, no more requests");
    if (atomic_load(&e->lost)) return OCT_FAIL(err, OCT_E_DEVICE, "engine: the device is lost");
    OCT_TRY(check_ever(e, spec, err));
    if (!enter_queue(e, spec)) return OCT_E_FULL; /* first: a flood is to be cheap */

    oct_request *r;
    oct_status st = oct_request_create(e, spec, &r, err);
    if (st == OCT_OK) {
        r->queued = r->in_prompt = true;
        atomic_store(&r->n_refs, handle_out ? 2 : 1);
        if (handle_out) *handle_out = r;
        if (atomic_fetch_add(&e->n_live, 1) == 0) atomic_store(&e->last_progress_ns, oct_now_ns());
        st = OCT_FAULT(QUEUE_CLOSED, spec->sampling.seed) ? OCT_E_CANCELLED
                                                          : oct_queue_push(e->inbox, r);
        if (st == OCT_OK) return OCT_OK;
        OCT_ASSERT(st == OCT_E_CANCELLED); /* E3 */
        if (handle_out) *handle_out = NULL;
        atomic_store(&r->n_refs, 1);
        atomic_fetch_sub(&e->n_live, 1);
        oct_request_release(r);
        (void)OCT_FAIL(err, st, "engine: stopping, no more requests");
    }
    atomic_fetch_sub(&e->n_queued, 1);
    atomic_fetch_sub(&e->n_queued_tokens, spec->n_prompt);
    return st;
}

/* ---- the engine thread ---- */

void oct_engine_leave_queue(oct_engine *e, oct_request *r) {
    if (!r->queued) return;
    r->queued = false;
    atomic_fetch_sub(&e->n_queued, 1);
}

void oct_engine_leave_prompt(oct_engine *e, oct_request *r) {
    if (!r->in_prompt) return;
    r->in_prompt = false;
    atomic_fetch_sub(&e->n_queued_tokens, r->seq.n_prompt);
}

static void take_in(oct_engine *e, oct_request *r) {
    r->prev = e->live_tail;
    if (e->live_tail)
        e->live_tail->next = r;
    else
        e->live_head = r;
    e->live_tail = r;
    if (!oct_pause_hold(e, r)) oct_engine_begin(e, r);
}

void oct_engine_begin(oct_engine *e, oct_request *r) {
    if (e->prefix) r->seq.root = oct_kv_prefix_root(e->prefix, r->salt);
    if (!oct_saved_load(e, r)) oct_sched_add(e->sched, &r->seq);
}

void oct_engine_forget(oct_engine *e, oct_request *r) {
    OCT_ASSERT(r->seq.state == OCT_SCHED_OUT);
    oct_saved_forget(e, r);
    oct_pause_forget(e, r);
    if (r->prev)
        r->prev->next = r->next;
    else
        e->live_head = r->next;
    if (r->next)
        r->next->prev = r->prev;
    else
        e->live_tail = r->prev;
    oct_engine_leave_queue(e, r);
    oct_engine_leave_prompt(e, r);
    atomic_fetch_sub(&e->n_live, 1);
    oct_request_release(r);
}

static void abort_all(oct_engine *e) {
    while (e->live_head) oct_request_abort(e, e->live_head);
}

static void end_unwanted(oct_engine *e) {
    const uint64_t now = oct_now_ns();
    for (oct_request *r = e->live_head, *next; r; r = next) {
        next = r->next;
        if (atomic_load_explicit(&r->cancelled, memory_order_acquire))
            oct_request_abort(e, r);
        else if ((r->deadline_ns > 0 && now >= r->deadline_ns) ||
                 OCT_FAULT(DEADLINE, r->sampling.seed))
            oct_request_fail(e, r, OCT_E_CANCELLED, "the request's time is up");
    }
}

void oct_engine_reset_prefix_cache(oct_engine *e) { atomic_store(&e->reset_prefix, true); }

static void take_messages(oct_engine *e, uint64_t wait_ns) {
    const bool holds = e->pause.holds;
    const bool idle = (!e->live_head || holds) && e->n_steps == 0;
    const uint64_t saving_ns = 2000000;   /* idle, but with blocks to save */
    const uint64_t holding_ns = 20000000; /* paused, and requests may be cancelled or late */
    if (holds && e->live_head && wait_ns > holding_ns) wait_ns = holding_ns;
    if (e->sweeping && wait_ns > saving_ns) wait_ns = saving_ns;
    oct_request *r = oct_queue_pop(e->inbox, idle ? wait_ns : 0);
    if (r && idle && oct_engine_log_is_quiet(e))
        e->log.last_ns = 0; /* sleep is no part of an average */
    for (; r; r = oct_queue_pop(e->inbox, 0)) take_in(e, r);
}

static void fail_all(oct_engine *e, const char *sentence) {
    while (e->live_head) oct_request_fail(e, e->live_head, OCT_E_DEVICE, sentence);
}

/* A step failed on the device. If that takes nothing else either, every answer would fail from now
 * on: all requests end here, and whoever runs the engine is told. */
static void check_lost(oct_engine *e, const oct_err *why) {
    oct_err err = {0};
    if (why->code != OCT_E_DEVICE || !e->backend.probe || atomic_load(&e->lost)) return;
    if (e->backend.probe(e->backend.ctx, &err) == OCT_OK) return;
    oct_error("engine: the device is lost: %s", err.text);
    atomic_store(&e->lost, true);
    fail_all(e, why->text);
    if (e->opt.on_lost) e->opt.on_lost(e->opt.on_lost_user, why->text);
}

/* n steps failed, and nothing is on its way any more. */
static void fail_steps(oct_engine *e, oct_step *const *steps, uint32_t n, const oct_err *err) {
    atomic_fetch_add(&e->n_failed_in_a_row, 1);
    oct_error("engine: a step of %u requests failed: %s", steps[0]->n_parts, err->text);
    check_lost(e, err);
    for (uint32_t i = 0; i < n; i++) oct_step_fail(e, steps[i], err);
    oct_cache_distrust(e);
}

/* Waits for the oldest step. */
static oct_step *collect_one(oct_engine *e, oct_model_result *result, oct_status *st,
                             oct_err *err) {
    oct_step *s = &e->steps[(e->newest + OCT_ENGINE_STEPS + 1 - e->n_steps) % OCT_ENGINE_STEPS];
    *st = e->backend.collect(e->backend.ctx, result, err);
    e->n_steps--;
    e->n_back++;
    const uint64_t end = oct_now_ns();
    /* It began when it was submitted or when the one before it ended, whichever was later. */
    const uint64_t begin = s->begin_ns > e->last_end_ns ? s->begin_ns : e->last_end_ns;
    oct_engine_count_step(e, s, end - begin, *st != OCT_OK);
    if (*st == OCT_OK) oct_engine_learn_cost(e, s, end - begin);
    e->last_end_ns = end;
    atomic_store(&e->last_progress_ns, end);
    return s;
}

/* Collects the oldest step and hands it out. When it failed, what is behind it read what it left:
 * that fails with it, whatever it says itself. */
static void collect(oct_engine *e) {
    oct_model_result result = {0};
    oct_err err = {0}, other = {0};
    oct_step *steps[OCT_ENGINE_STEPS];
    uint32_t n = 0;
    oct_status st, ignored;
    steps[n++] = collect_one(e, &result, &st, &err);
    if (st == OCT_OK) {
        atomic_store(&e->n_failed_in_a_row, 0);
        oct_step_finish(e, steps[0], &result);
        return;
    }
    while (e->n_steps > 0) steps[n++] = collect_one(e, &result, &ignored, &other);
    fail_steps(e, steps, n, &err);
}

void oct_engine_settle(oct_engine *e) {
    while (e->n_steps > 0) collect(e);
}

static void note_begin(const oct_sched_plan *plan, uint64_t now) {
    for (uint32_t i = 0; i < plan->n_items; i++) {
        oct_request *r = oct_request_of(plan->items[i].seq);
        if (r->times.first_scheduled_ns == 0) r->times.first_scheduled_ns = now;
    }
}

static void submit(oct_engine *e, const oct_sched_plan *plan) {
    oct_err err = {0};
    const uint32_t at = (e->newest + 1) % OCT_ENGINE_STEPS;
    oct_step *s = &e->steps[at];
    s->begin_ns = oct_now_ns();
    oct_count(&e->count.n_preemptions, plan->n_preempted);
    if (oct_cache_move(e, &err) != OCT_OK) { /* a plan without hits comes next */
        oct_sched_take_back(e->sched);
        oct_cache_refused(e, &err);
        return;
    }
    note_begin(plan, s->begin_ns);
    oct_step_build(e, s, plan);
    oct_engine_gauge(e);
    if (s->n_parts == 0) { /* all were refused memory, and have ended */
        s->open = false;
        return;
    }
    oct_status st = e->backend.submit(e->backend.ctx, &s->batch, &err);
    if (st == OCT_OK) {
        e->newest = at;
        e->n_steps++;
        e->n_sent++;
        if (e->info.async_scheduling) oct_step_fly(s);
        return;
    }
    while (e->n_steps > 0) collect(e); /* the one before it has nothing to do with that */
    e->last_end_ns = oct_now_ns();
    oct_engine_count_step(e, s, e->last_end_ns - s->begin_ns, true);
    atomic_store(&e->last_progress_ns, e->last_end_ns);
    fail_steps(e, &s, 1, &err);
}

/* Plans and submits a step, then collects the one before it. */
static void run_step(oct_engine *e) {
    while (e->n_steps > 0 && oct_constraint_waits(e)) collect(e);
    const bool beside = e->n_steps > 0;
    if (e->opt.draft.n_tokens > 0) oct_drafts_guess(e);
    const oct_sched_plan *plan =
        beside ? oct_sched_next_beside(e->sched) : oct_sched_next(e->sched);
    const bool starved = plan->n_starved > 0;
    if (plan->n_items > 0 || oct_cache_has_moves(e)) submit(e, plan);
    if (beside && e->n_steps > 0) collect(e);
    while (e->n_steps > 0 && (starved || !e->info.async_scheduling)) collect(e);
}

bool oct_engine_turn(oct_engine *e, uint64_t wait_ns) {
    take_messages(e, wait_ns);
    oct_saved_collect(e);
    end_unwanted(e);
    if (atomic_load(&e->lost)) fail_all(e, "engine: the device is lost"); /* came in meanwhile */
    if (atomic_load(&e->stopping)) {
        if (e->live_head && oct_now_ns() >= atomic_load(&e->stop_at_ns)) abort_all(e);
        /* The inbox is closed before `stopping` can be seen: what it held has been taken in. */
        if (!e->live_head && e->n_steps == 0 && oct_queue_len(e->inbox) == 0) {
            oct_saved_flush(e);
            oct_pause_end(e);
            return false;
        }
    }
    if (atomic_exchange(&e->reset_prefix, false)) oct_cache_reset(e);
    if (!oct_pause_turn(e)) run_step(e);
    oct_saved_save(e);
    oct_engine_gauge(e);
    oct_engine_log_line(e, oct_now_ns());
    return true;
}

/* An idle engine wakes for the line of what it did, once more for the one that says that it is
 * idle, then sleeps until work comes. */
static uint64_t idle_wait_ns(const oct_engine *e) {
    if (oct_engine_log_is_quiet(e)) return UINT64_MAX;
    const uint64_t now = oct_now_ns(), due = e->log.last_ns + e->opt.log_every_ns;
    return due > now ? due - now : 1;
}

static void *engine_main(void *arg) {
    oct_engine *e = arg;
    while (oct_engine_turn(e, idle_wait_ns(e))) {
    }
    atomic_store(&e->life, OCT_ENGINE_ENDED);
    return NULL;
}

oct_status oct_engine_start(oct_engine *e, oct_err *err) {
    if (atomic_load(&e->life) != OCT_ENGINE_NEW)
        return OCT_FAIL(err, OCT_E_INVALID, "engine: started twice, or stopped before");
    atomic_store(&e->life, OCT_ENGINE_RUNS);
    const oct_status st = oct_thread_start(&e->thread, "octet-engine", engine_main, e, err);
    if (st != OCT_OK) atomic_store(&e->life, OCT_ENGINE_NEW);
    return st;
}

void oct_engine_stop(oct_engine *e, uint64_t drain_ns) {
    const uint64_t now = oct_now_ns();
    if (!atomic_load(&e->stopping)) {
        atomic_store(&e->stop_at_ns, drain_ns < UINT64_MAX - now ? now + drain_ns : UINT64_MAX);
        oct_queue_close(e->inbox);
        atomic_store(&e->stopping, true);
    }
    oct_thread_join(&e->thread);
    if (atomic_load(&e->life) == OCT_ENGINE_NEW) { /* no thread of its own: this one ends them */
        atomic_store(&e->stop_at_ns, 0);
        while (oct_engine_turn(e, 0)) {
        }
        atomic_store(&e->life, OCT_ENGINE_ENDED);
    }
}
