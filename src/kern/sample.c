/*
 * kern/sample.c - one token from one row of logits.
 *
 * Nothing is sorted. Top-k and top-p need one number each, the least value that stays and how many
 * ties at it; a radix search over histograms finds it in a few passes over the vocabulary. Sums
 * that decide (top-p) are integers of 2^-40, so their order does not matter.
 */
#include "kern/sample.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "kern/elem_math.h"
#include "kern/philox.h"

enum { BINS = 2048 };

typedef struct candidates {
    float *p;      /* by id: exp((l - max) / T), 0 for what was dropped */
    uint32_t *ids; /* the n that are left, ascending */
    uint32_t n;
} candidates;

/* Greater floats have greater keys (there are no NaN here; -0 counts as +0). */
static uint32_t key_of(float x) {
    const uint32_t u = oct_f32_bits(x + 0.0f);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

size_t oct_kern_sample_scratch_bytes(uint32_t n_vocab) {
    return BINS * sizeof(uint64_t) + (size_t)n_vocab * (2 * sizeof(float) + sizeof(uint32_t));
}

/* ---- what is done to the logits ---------------------------------------------------------------
 */

static void apply_mask(float *x, uint32_t n, const uint32_t *mask) {
    if (!mask) return;
    for (uint32_t i = 0; i < n; i += 32) {
        const uint32_t word = mask[i / 32];
        if (word == UINT32_MAX) continue;
        for (uint32_t j = i; j < n && j < i + 32; j++)
            if (!(word >> (j % 32) & 1u)) x[j] = -INFINITY;
    }
}

static void apply_bias(const oct_sample_args *a) {
    for (uint32_t i = 0; i < a->n_bias; i++) {
        const octet_bias *b = &a->bias[i];
        if (b->id >= 0 && (uint32_t)b->id < a->n_vocab) a->logits[b->id] += b->value;
    }
}

static void apply_penalties(const oct_sample_args *a) {
    const octet_sample_row *r = a->row;
    for (uint32_t i = 0; i < a->n_seen; i++) {
        const octet_seen_token *s = &a->seen[i];
        if (s->id < 0 || (uint32_t)s->id >= a->n_vocab) continue;
        float x = a->logits[s->id];
        if (r->repetition_penalty != 1.0f && (s->n_output || s->in_prompt))
            x = x > 0.0f ? x / r->repetition_penalty : x * r->repetition_penalty;
        if (s->n_output) {
            x = x - r->frequency_penalty * (float)s->n_output;
            x = x - r->presence_penalty;
        }
        a->logits[s->id] = x;
    }
}

/* ---- choosing the threshold -------------------------------------------------------------------
 */

/* Elements from `key` up stay, of those equal to it only the first n_ties by id. */
typedef struct threshold {
    uint32_t key;
    uint64_t n_ties;
} threshold;

static uint64_t weight_of(float p) { return (uint64_t)((double)p * 0x1p40); }

/* The threshold at which the total of what stays reaches target (> 0, at most the sum of all).
 * Values are counted as one each, or weighed by weight_of(value). */
static threshold find_threshold(const float *x, const candidates *c, bool weigh, uint64_t target,
                                uint64_t *bins) {
    static const int shifts[3] = {21, 10, 0}, widths[3] = {11, 11, 10};
    threshold t = {0, 0};
    for (int level = 0; level < 3; level++) {
        const int shift = shifts[level];
        const uint32_t n_bins = 1u << widths[level];
        const uint32_t known = level == 0 ? 0 : ~0u << (shift + widths[level]);
        memset(bins, 0, n_bins * sizeof *bins);
        for (uint32_t i = 0; i < c->n; i++) {
            const float v = x[c->ids[i]];
            const uint32_t key = key_of(v);
            if ((key & known) != t.key) continue;
            bins[key >> shift & (n_bins - 1)] += weigh ? weight_of(v) : 1;
        }
        uint32_t b = n_bins - 1;
        for (; b > 0 && bins[b] < target; b--) target -= bins[b];
        t.key |= b << shift;
    }
    /* What is still missing comes from elements equal to the key. */
    t.n_ties = target;
    return t;
}

/* Drops what is below the threshold. */
static void keep(const float *x, candidates *c, threshold t) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        const uint32_t id = c->ids[i], key = key_of(x[id]);
        const bool stays = key > t.key || (key == t.key && t.n_ties > 0);
        if (key == t.key && t.n_ties > 0) t.n_ties--;
        if (stays)
            c->ids[n++] = id;
        else
            c->p[id] = 0.0f;
    }
    c->n = n;
}

static void keep_top_p(candidates *c, float top_p, uint64_t *bins) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < c->n; i++) total += weight_of(c->p[c->ids[i]]);
    const double want = ceil((double)top_p * (double)total);
    uint64_t target = want < 1.0 ? 1 : (uint64_t)want;
    if (target > total) target = total;
    threshold t = find_threshold(c->p, c, true, target, bins);
    /* The missing weight as a number of equal elements. */
    const uint64_t each = weight_of(oct_f32_from_bits(t.key & 0x7fffffffu));
    t.n_ties = each ? (t.n_ties + each - 1) / each : 1;
    keep(c->p, c, t);
}

/* min-p, top-k, top-p: p and ids of what is left. */
static void choose_candidates(const oct_sample_args *a, candidates *c, uint64_t *bins) {
    const octet_sample_row *r = a->row;
    c->n = 0;
    for (uint32_t i = 0; i < a->n_vocab; i++) {
        if (c->p[i] >= r->min_p && a->logits[i] != -INFINITY)
            c->ids[c->n++] = i;
        else
            c->p[i] = 0.0f;
    }
    if (r->top_k > 0 && (uint32_t)r->top_k < c->n)
        keep(a->logits, c, find_threshold(a->logits, c, false, (uint64_t)r->top_k, bins));
    if (r->top_p < 1.0f) keep_top_p(c, r->top_p, bins);
}

static uint32_t draw(const oct_sample_args *a, const candidates *c) {
    double total = 0.0, sum = 0.0;
    for (uint32_t i = 0; i < c->n; i++) total += (double)c->p[c->ids[i]];
    const double u = (double)oct_philox_uniform(a->row->seed, a->row->choice, a->row->position);
    const double mark = u * total;
    for (uint32_t i = 0; i < c->n; i++) {
        sum += (double)c->p[c->ids[i]];
        if (sum > mark) return c->ids[i];
    }
    return c->ids[c->n - 1];
}

static uint32_t argmax(const float *x, uint32_t n, float max) {
    for (uint32_t i = 0; i < n; i++)
        if (x[i] == max) return i;
    return 0;
}

/* ---- log probabilities ------------------------------------------------------------------------
 */

/* What is subtracted from x[i] to report it: 0 for bare logits. -infinity stays what it is. */
static float reported(float x, double shift) { return (float)((double)x - shift); }

static double log_shift(const oct_kern *k, const float *x, uint32_t n, uint32_t flags) {
    if (flags & OCTET_SAMPLE_RAW_LOGITS) return 0.0;
    const float max = k->elem.row_max(x, n).max;
    if (max == -INFINITY) return 0.0;
    return (double)max + log(k->elem.soft_sum(NULL, x, n, max, 1.0f));
}

/* The n_top largest by (value, lower id first), kept sorted: candidates below the last are rare. */
static void report_top(const oct_sample_args *a, const float *x, double shift) {
    const uint32_t want =
        (uint32_t)oct_min_size(oct_min_size(a->row->n_top, a->max_top), a->n_vocab);
    uint32_t n = 0;
    if (want == 0) return;
    for (uint32_t i = 0; i < a->n_vocab; i++) {
        if (n == want && !(x[i] > a->top_logprob[n - 1])) continue;
        uint32_t at = n < want ? n++ : n - 1;
        for (; at > 0 && x[i] > a->top_logprob[at - 1]; at--) {
            a->top_logprob[at] = a->top_logprob[at - 1];
            a->top_id[at] = a->top_id[at - 1];
        }
        a->top_logprob[at] = x[i];
        a->top_id[at] = (int32_t)i;
    }
    for (uint32_t i = 0; i < n; i++) a->top_logprob[i] = reported(a->top_logprob[i], shift);
}

static uint32_t rank_of(const float *x, uint32_t n, uint32_t id) {
    uint32_t rank = 1;
    for (uint32_t i = 0; i < n; i++) rank += x[i] > x[id] || (x[i] == x[id] && i < id);
    return rank;
}

/* ---- the operation ----------------------------------------------------------------------------
 */

static void clear_out(const oct_sample_args *a) {
    *a->out = (octet_sample_out){.token = -1, .logprob = -INFINITY};
    for (uint32_t i = 0; i < a->max_top; i++) {
        a->top_id[i] = -1;
        a->top_logprob[i] = -INFINITY;
    }
}

static bool is_greedy(const octet_sample_row *r) {
    return (r->flags & OCTET_SAMPLE_GREEDY) || r->temperature < 1e-5f;
}

/* Draws the token; leaves processed logits behind when those are wanted. */
static int32_t choose(const oct_kern *k, const oct_sample_args *a, float max, candidates *c,
                      uint64_t *bins) {
    const octet_sample_row *r = a->row;
    const bool forced = (r->flags & OCTET_SAMPLE_FORCED) != 0;
    if (is_greedy(r)) return forced ? r->forced : (int32_t)argmax(a->logits, a->n_vocab, max);
    if (forced && !(r->flags & OCTET_SAMPLE_PROCESSED)) return r->forced;

    const float inv_t = 1.0f / r->temperature;
    k->elem.soft_sum(c->p, a->logits, a->n_vocab, max, inv_t);
    choose_candidates(a, c, bins);
    const int32_t token = forced ? r->forced : (int32_t)draw(a, c);
    if (r->flags & OCTET_SAMPLE_PROCESSED) {
        uint32_t next = 0;
        for (uint32_t i = 0; i < a->n_vocab; i++) {
            const bool left = next < c->n && c->ids[next] == i;
            a->logits[i] = left ? a->logits[i] * inv_t : -INFINITY;
            next += left;
        }
    }
    return token;
}

/* Log probability, rank and the likeliest tokens, from the logits that are to be reported. */
static void report(const oct_kern *k, const oct_sample_args *a, const float *x) {
    const double shift = log_shift(k, x, a->n_vocab, a->row->flags);
    const uint32_t id = (uint32_t)a->out->token;
    a->out->logprob = reported(x[id], shift);
    a->out->rank = rank_of(x, a->n_vocab, id);
    report_top(a, x, shift);
}

static bool modifies(const oct_sample_args *a) { return a->mask || a->n_bias || a->n_seen; }

void oct_kern_sample(const oct_kern *k, const oct_sample_args *a, void *scratch) {
    const uint32_t n = a->n_vocab;
    uint64_t *bins = scratch;
    candidates c = {.p = (float *)(void *)(bins + BINS)};
    float *copy = c.p + n;
    const float *reported_row = a->logits;
    c.ids = (uint32_t *)(void *)(copy + n);
    clear_out(a);

    oct_row_max max = k->elem.row_max(a->logits, n);
    if (modifies(a) && !max.has_nan && max.max != INFINITY) {
        if (!(a->row->flags & OCTET_SAMPLE_PROCESSED))
            reported_row = memcpy(copy, a->logits, n * sizeof *copy);
        apply_mask(a->logits, n, a->mask);
        apply_bias(a);
        apply_penalties(a);
        max = k->elem.row_max(a->logits, n);
    }
    if (max.has_nan || max.max == INFINITY) {
        a->out->status = OCTET_SAMPLE_NOT_FINITE;
        return;
    }
    if (max.max == -INFINITY) {
        a->out->status = OCTET_SAMPLE_NONE_ALLOWED;
        return;
    }
    a->out->token = choose(k, a, max.max, &c, bins);
    OCT_ASSERT(a->out->token >= 0 && (uint32_t)a->out->token < n);
    report(k, a, reported_row);
}
