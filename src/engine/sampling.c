/*
 * engine/sampling.c - a request's sampling fields as the row and the lists that the device reads.
 *
 * What a row holds depends on its request alone: lists are built for each row, ascending by id, and
 * nothing is shared between rows. The lists of a step lie one after the other in arrays that grow
 * to the largest step so far and then stay.
 */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/fault.h"
#include "engine/parts.h"

void oct_row_lists_fini(oct_row_lists *l, const oct_allocator *mem) {
    oct_free(mem, l->seen, l->cap_seen, sizeof *l->seen);
    oct_free(mem, l->bias, l->cap_bias, sizeof *l->bias);
    oct_free(mem, l->masks, l->cap_masks * l->mask_words, sizeof *l->masks);
    *l = (oct_row_lists){.mask_words = l->mask_words};
}

/* Room for `more` elements behind n; doubles, so that growing ends. */
static bool reserve(const oct_allocator *mem, void **data, size_t n, size_t *cap, size_t more,
                    size_t size) {
    if (more <= *cap - n) return true;
    size_t want = *cap ? *cap : 64;
    while (want - n < more) want *= 2; /* bounded by sequences x vocabulary: far from overflow */
    void *p = oct_grow(mem, *data, *cap, want, size);
    if (!p) return false;
    *data = p;
    *cap = want;
    return true;
}

static bool reserve_row(const oct_engine *e, oct_row_lists *l, const oct_request *r) {
    void *seen = l->seen, *bias = l->bias, *masks = l->masks;
    const size_t n_bias = (size_t)r->n_bias + r->n_bans + r->n_bad_words;
    const uint64_t who = r->sampling.seed;
    bool ok = !(r->n_seen > 0 && OCT_FAULT(ROW_SEEN, who)) &&
              reserve(e->mem, &seen, l->n_seen, &l->cap_seen, r->n_seen, sizeof *l->seen);
    l->seen = seen;
    ok = ok && !(n_bias > 0 && OCT_FAULT(ROW_BIAS, who)) &&
         reserve(e->mem, &bias, l->n_bias, &l->cap_bias, n_bias, sizeof *l->bias);
    l->bias = bias;
    ok = ok && (!(r->mask || r->constraint.open) ||
                (!OCT_FAULT(ROW_MASK, who) && reserve(e->mem, &masks, l->n_masks, &l->cap_masks, 1,
                                                      l->mask_words * sizeof *l->masks)));
    l->masks = masks;
    return ok;
}

/* Bans id in the row whose bias entries begin at `begin`, keeping them ascending. */
static void ban(oct_row_lists *l, size_t begin, int32_t id) {
    size_t lo = begin, hi = l->n_bias;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (l->bias[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == l->n_bias || l->bias[lo].id != id) {
        OCT_ASSERT(l->n_bias < l->cap_bias);
        memmove(l->bias + lo + 1, l->bias + lo, (l->n_bias - lo) * sizeof *l->bias);
        l->bias[lo].id = id;
        l->n_bias++;
    }
    l->bias[lo].value = -INFINITY;
}

/* True when drawing the word's last token now would complete it. */
static bool would_complete(const oct_request *r, const oct_token_seq *word) {
    const uint32_t n_before = word->n - 1;
    OCT_ASSERT(n_before == 0 || r->n_flying == 0);
    return n_before <= oct_request_n_drawn(r) &&
           memcmp(r->tokens + r->seq.n_tokens - n_before, word->ids,
                  n_before * sizeof *word->ids) == 0;
}

static void add_bias(oct_row_lists *l, const oct_request *r, uint32_t n_ahead) {
    const size_t begin = l->n_bias;
    if (r->n_bias > 0) memcpy(l->bias + begin, r->bias, r->n_bias * sizeof *l->bias);
    l->n_bias += r->n_bias;
    for (uint32_t i = 0; i < r->n_bad_words; i++)
        if (would_complete(r, &r->bad_words[i]))
            ban(l, begin, r->bad_words[i].ids[r->bad_words[i].n - 1]);
    if (r->seq.n_tokens + n_ahead - r->seq.n_prompt < r->min_tokens) /* those on their way count */
        for (uint32_t i = 0; i < r->n_bans; i++) ban(l, begin, r->bans[i]);
}

static uint32_t logprob_flags(const oct_engine *e) {
    switch (e->opt.logprobs_mode) {
    case OCT_RAW_LOGPROBS:
        return 0;
    case OCT_PROCESSED_LOGPROBS:
        return OCTET_SAMPLE_PROCESSED;
    case OCT_RAW_LOGITS:
        return OCTET_SAMPLE_RAW_LOGITS;
    case OCT_PROCESSED_LOGITS:
        return OCTET_SAMPLE_PROCESSED | OCTET_SAMPLE_RAW_LOGITS;
    }
    return 0;
}

oct_status oct_sample_row_fill(oct_engine *e, oct_row_lists *l, const oct_request *r,
                               uint32_t n_ahead, octet_sample_row *row) {
    if (!reserve_row(e, l, r)) return OCT_E_NOMEM;
    const oct_sampling *s = &r->sampling;
    const int32_t due = oct_closing_due(r);
    *row = (octet_sample_row){
        .temperature = s->temperature,
        .top_p = s->top_p,
        .min_p = s->min_p,
        .repetition_penalty = s->repetition_penalty,
        .frequency_penalty = s->frequency_penalty,
        .presence_penalty = s->presence_penalty,
        .top_k = s->top_k,
        .flags = (r->greedy ? OCTET_SAMPLE_GREEDY : 0) | logprob_flags(e) |
                 (due >= 0 ? OCTET_SAMPLE_FORCED : 0),
        .seed = s->seed,
        .choice = s->choice,
        .position = r->seq.n_tokens + n_ahead, /* of the token to be drawn */
        .n_top = r->n_logprobs > 0 ? (uint32_t)r->n_logprobs : 0,
        .forced = due,
        .seen_begin = (uint32_t)l->n_seen,
        .bias_begin = (uint32_t)l->n_bias,
        .mask = -1,
    };
    if (r->n_seen > 0) memcpy(l->seen + l->n_seen, r->seen, r->n_seen * sizeof *l->seen);
    l->n_seen += r->n_seen;
    row->seen_end = (uint32_t)l->n_seen;
    add_bias(l, r, n_ahead);
    row->bias_end = (uint32_t)l->n_bias;
    if (r->constraint.open) {
        const oct_status st =
            oct_constraint_mask(e, r, l->masks + l->n_masks * l->mask_words, l->mask_words);
        if (st != OCT_OK) {
            l->n_seen = row->seen_begin;
            l->n_bias = row->bias_begin;
            return st;
        }
        row->mask = (int32_t)l->n_masks++;
    } else if (r->mask) {
        memcpy(l->masks + l->n_masks * l->mask_words, r->mask, l->mask_words * sizeof *l->masks);
        row->mask = (int32_t)l->n_masks++;
    }
    return OCT_OK;
}

void oct_sample_row_force(const oct_engine *e, const oct_request *r, int32_t forced,
                          octet_sample_row *row) {
    *row = (octet_sample_row){
        .temperature = 1.0f,
        .top_p = 1.0f,
        .repetition_penalty = 1.0f,
        .flags = OCTET_SAMPLE_FORCED | (logprob_flags(e) & OCTET_SAMPLE_RAW_LOGITS),
        .n_top = r->n_prompt_logprobs > 0 ? (uint32_t)r->n_prompt_logprobs : 0,
        .forced = forced,
        .mask = -1,
    };
}
