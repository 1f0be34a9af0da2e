/*
 * engine/output.c - what a drawn token means for its request: does it end, which text is released,
 * and the one callback that tells.
 *
 * Order of the checks: min_tokens guards everything but the length; EOS; stop ids; length; stop
 * strings last, on the text that the token released, and they win over the length.
 *
 * A request that ends is taken out of the scheduler before its callback runs, so that whoever looks
 * at the counts from there sees it gone.
 */
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/parts.h"

static oct_str token_bytes(const oct_engine *e, int32_t id) {
    return e->tokenizer ? oct_tokenizer_token_bytes(e->tokenizer, id) : OCT_STR("");
}

static bool has_id(const int32_t *ids, size_t n, int32_t id) { /* ascending */
    size_t lo = 0, hi = n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (ids[mid] == id) return true;
        if (ids[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

static bool is_eos(const oct_engine *e, int32_t id) {
    for (uint32_t i = 0; i < e->opt.n_eos; i++)
        if (e->eos_ids[i] == id) return true;
    return false;
}

/* ---- sending ---- */

static void fill_counts(oct_request *r, oct_output *out) {
    out->choice = r->sampling.choice;
    out->n_prompt = r->seq.n_prompt;
    out->n_completion = oct_request_n_drawn(r);
    out->n_cached = r->seq.n_cached;
    out->n_preemptions = r->seq.n_preemptions;
    out->times = r->times;
    if (!out->error) out->error = "";
    if (!out->text.ptr) out->text = OCT_STR("");
    if (!out->stop_text.ptr) out->stop_text = OCT_STR("");
    if (out->n_tokens > 0 || out->finish != OCT_FINISH_NONE) {
        /* A prompt that was not computed to its end has no complete list. */
        if (oct_request_n_drawn(r) > 0) out->prompt_logprobs = r->prompt_lp;
        r->prompt_lp = NULL;
    }
}

static void send_output(oct_engine *e, oct_request *r, oct_output *out) {
    fill_counts(r, out);
    if (out->finish == OCT_FINISH_NONE) {
        r->on_output(r->user, out);
        return;
    }
    oct_count(&e->count.finished[out->finish], 1);
    oct_step_forget(e, r);
    oct_sched_remove(e->sched, &r->seq);
    oct_engine_gauge(e);
    oct_engine_leave_queue(e, r); /* whoever is told may send the next one at once */
    oct_engine_leave_prompt(e, r);
    r->on_output(r->user, out);
    oct_engine_forget(e, r);
}

/* Text that was still held back: an unfinished character, the beginning of a stop string. */
static void release_rest(oct_engine *e, oct_request *r) {
    if (!r->detokenize) return;
    oct_buf_clear(&e->raw_text);
    oct_detokenizer_flush(&r->detok, &e->raw_text);
    if (oct_stop_push(&r->stop, oct_buf_view(&e->raw_text), false, &e->text) < 0)
        oct_stop_flush(&r->stop, &e->text);
}

void oct_request_abort(oct_engine *e, oct_request *r) {
    oct_buf_clear(&e->text);
    release_rest(e, r);
    oct_output out = {.finish = OCT_FINISH_ABORT, .text = oct_buf_view(&e->text)};
    send_output(e, r, &out);
}

void oct_request_fail(oct_engine *e, oct_request *r, oct_status code, const char *sentence) {
    oct_output out = {.finish = OCT_FINISH_ERROR, .status = code, .error = sentence};
    send_output(e, r, &out);
}

void oct_request_complete(oct_engine *e, oct_request *r) {
    oct_buf_clear(&e->text);
    release_rest(e, r);
    oct_output out = {
        .finish = OCT_FINISH_STOP, .stop_kind = OCT_STOP_GRAMMAR, .text = oct_buf_view(&e->text)};
    send_output(e, r, &out);
}

/* ---- logprobs ---- */

/* Row i of the result as a token's logprob; top is where its list goes. */
static void fill_logprob(const oct_engine *e, int32_t id, const oct_model_result *res, uint32_t i,
                         uint32_t n_top, oct_top_logprob *top, oct_token_logprob *out) {
    OCT_ASSERT(n_top <= res->max_top);
    for (uint32_t k = 0; k < n_top; k++) {
        const size_t at = (size_t)i * res->max_top + k;
        top[k] = (oct_top_logprob){res->top_id[at], res->top_logprob[at],
                                   token_bytes(e, res->top_id[at])};
    }
    *out = (oct_token_logprob){.id = id,
                               .logprob = res->out[i].logprob,
                               .rank = res->out[i].rank,
                               .bytes = token_bytes(e, id),
                               .n_top = n_top,
                               .top = top};
}

void oct_request_take_prompt_logprob(oct_engine *e, oct_request *r, uint32_t pos,
                                     const oct_model_result *res, uint32_t i) {
    const uint32_t n_top = (uint32_t)r->n_prompt_logprobs;
    OCT_ASSERT(pos == r->seq.extra_logits_begin + 1 && r->prompt_lp);
    fill_logprob(e, r->tokens[pos], res, i, n_top, r->prompt_top + (size_t)pos * n_top,
                 &r->prompt_lp[pos]);
    r->seq.extra_logits_begin = pos;
}

/* ---- a drawn token ---- */

static void check_ids(const oct_engine *e, const oct_request *r, int32_t id, oct_output *out) {
    const uint32_t n = oct_request_n_drawn(r);
    if (n >= r->min_tokens) {
        if (!r->ignore_eos && is_eos(e, id)) {
            out->finish = OCT_FINISH_STOP;
            out->stop_kind = OCT_STOP_EOS;
            out->stop_id = id;
            return;
        }
        if (has_id(r->stop_ids, r->n_stop_ids, id)) {
            out->finish = OCT_FINISH_STOP;
            out->stop_kind = OCT_STOP_ID;
            out->stop_id = id;
            return;
        }
    }
    if (n >= r->max_tokens) out->finish = OCT_FINISH_LENGTH;
}

/* The token under the request's constraint: false when it ended the request with an error. A text
 * that is complete ends it, whatever min_tokens says: nothing could follow. */
static bool check_constraint(oct_engine *e, oct_request *r, int32_t id, oct_output *out) {
    bool fits;
    if (!r->constraint.run || out->finish == OCT_FINISH_STOP) return true;
    const oct_status st = oct_constraint_take(e, r, id, &fits);
    if (st != OCT_OK || !fits) {
        oct_request_fail(e, r, st == OCT_E_NOMEM ? st : OCT_E_INVALID,
                         st == OCT_E_NOMEM ? "engine: no memory for a grammar"
                         : fits            ? "grammar: too many ways at once"
                                           : "grammar: a token was drawn that does not fit");
        return false;
    }
    if (!oct_constraint_complete(r)) return true;
    out->finish = OCT_FINISH_STOP;
    out->stop_kind = OCT_STOP_GRAMMAR;
    return true;
}

/* The token's text goes through detokenizer and stop strings into e->text. */
static void release_text(oct_engine *e, oct_request *r, int32_t id, oct_output *out) {
    const bool armed = oct_request_n_drawn(r) >= r->min_tokens;
    const bool hidden =
        out->finish == OCT_FINISH_STOP && !r->include_stop && out->stop_kind != OCT_STOP_GRAMMAR;
    oct_buf_clear(&e->raw_text);
    if (!hidden) oct_detokenizer_push(&r->detok, id, &e->raw_text);
    if (OCT_FAULT(TEXT_TOKEN, r->sampling.seed)) e->raw_text.failed = true;
    if (out->finish != OCT_FINISH_NONE) oct_detokenizer_flush(&r->detok, &e->raw_text);
    const int found = oct_stop_push(&r->stop, oct_buf_view(&e->raw_text), armed, &e->text);
    if (found >= 0 && out->finish != OCT_FINISH_STOP) {
        out->finish = OCT_FINISH_STOP;
        out->stop_kind = OCT_STOP_STRING;
        out->stop_text = r->stop_strings[found];
    }
    if (out->finish != OCT_FINISH_NONE) oct_stop_flush(&r->stop, &e->text);
    if (OCT_FAULT(TEXT_RELEASED, r->sampling.seed)) e->text.failed = true;
}

static void note_token(oct_engine *e, oct_request *r, int32_t id) {
    const uint64_t now = oct_now_ns();
    if (oct_request_n_drawn(r) == 0) {
        r->times.first_token_ns = now;
        oct_engine_leave_prompt(e, r);
        oct_count(&e->count.prompt_tokens, r->seq.n_prompt);
        oct_count(&e->count.cached_tokens, r->seq.n_cached);
        oct_count(&e->count.fetched_tokens, r->seq.n_fetched);
        if (e->prefix) {
            oct_count(&e->count.prefix_queries, r->seq.n_prompt);
            oct_engine_note_hits(&e->log.hits, r->seq.n_prompt, r->seq.n_cached);
        }
    }
    r->times.last_token_ns = now;
    OCT_ASSERT(oct_request_n_known(r) < r->seq.max_tokens);
    r->tokens[oct_request_n_known(r)] = id;
    if (r->n_flying > 0)
        r->n_flying--;
    else
        r->seq.n_tokens++;
    oct_request_see(r, id);
    oct_count(&e->count.generation_tokens, 1);
}

bool oct_request_take_token(oct_engine *e, oct_request *r, const oct_model_result *res,
                            uint32_t i) {
    const int32_t id = res->out[i].token;
    if (id < 0 || (uint32_t)id >= e->info.n_vocab ||
        OCT_FAULT(TOKEN_UNKNOWN, r->sampling.seed)) { /* the other side of this is a plug-in */
        oct_request_fail(e, r, OCT_E_DEVICE, "engine: the device drew a token that does not exist");
        return false;
    }
    oct_token_logprob logprob;
    oct_output out = {.tokens = &id, .n_tokens = 1};
    note_token(e, r, id);
    oct_closing_take(r, id);
    check_ids(e, r, id, &out);
    if (!check_constraint(e, r, id, &out)) return false;
    oct_buf_clear(&e->text);
    if (r->detokenize) {
        release_text(e, r, id, &out);
        if (e->raw_text.failed || e->text.failed) {
            oct_request_fail(e, r, OCT_E_NOMEM, "engine: no memory for text");
            return false;
        }
    }
    out.text = oct_buf_view(&e->text);
    if (r->n_logprobs >= 0) {
        fill_logprob(e, id, res, i, (uint32_t)r->n_logprobs, e->top, &logprob);
        out.logprobs = &logprob;
    }
    const bool lives = out.finish == OCT_FINISH_NONE;
    send_output(e, r, &out);
    return lives;
}
