/*
 * kern/sample.c - one token from one row of logits.
 *
 * Nothing is sorted, and the vocabulary is walked as seldom as possible. Most questions (largest,
 * rank, the n likeliest, top-k) are first asked of the maxima of blocks of 64 logits, and then only
 * of the blocks that can matter. Top-k and top-p need one number each, the least value that stays
 * and how many ties at it; a radix search over histograms finds it. Sums that decide top-p are
 * integers, so their order does not matter.
 */
#include "kern/sample.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "kern/elem_math.h"
#include "kern/philox.h"

enum { BINS = 2048, BLOCK = 64 };

/* Logits with the maxima of their blocks. */
typedef struct vocab {
    const float *x;
    uint32_t n, n_blocks;
    float *block_max;
    float max;
    bool finite; /* no NaN, no +infinity */
} vocab;

/* The tokens that may be drawn, ascending. */
typedef struct candidates {
    uint32_t *ids; /* [n], unless `everything` */
    float *p;      /* [n] exp((l - max) / T) */
    uint32_t n;
    bool everything; /* candidate j is token j */
} candidates;

typedef struct space { /* the caller's scratch */
    uint64_t *bins;    /* [BINS] */
    float *p;          /* [n_vocab] */
    float *raw;        /* [n_vocab] logits as they came, when they are reported but changed */
    uint32_t *ids;     /* [n_vocab] */
    float *block_max;  /* [n_blocks] */
} space;

static uint32_t blocks_of(uint32_t n) { return n / BLOCK + (n % BLOCK != 0); }

size_t oct_kern_sample_scratch_bytes(uint32_t n_vocab) {
    return BINS * sizeof(uint64_t) + (size_t)n_vocab * (2 * sizeof(float) + sizeof(uint32_t)) +
           (size_t)blocks_of(n_vocab) * sizeof(float);
}

static space space_of(void *scratch, uint32_t n) {
    space s = {.bins = scratch};
    s.p = (float *)(void *)(s.bins + BINS);
    s.raw = s.p + n;
    s.block_max = s.raw + n;
    s.ids = (uint32_t *)(void *)(s.block_max + blocks_of(n));
    return s;
}

static vocab look(const oct_kern *k, const float *x, uint32_t n, float *block_max) {
    vocab v = {x, n, blocks_of(n), block_max, -INFINITY, true};
    for (uint32_t b = 0; b < v.n_blocks; b++) {
        const uint32_t first = b * BLOCK;
        const oct_row_max m = k->elem.row_max(x + first, oct_min_size(n - first, BLOCK));
        block_max[b] = m.max;
        if (m.has_nan || m.max == INFINITY) v.finite = false;
        if (m.max > v.max) v.max = m.max;
    }
    return v;
}

static uint32_t block_end(const vocab *v, uint32_t b) {
    return (uint32_t)oct_min_size(v->n, (size_t)(b + 1) * BLOCK);
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

/* ---- thresholds -------------------------------------------------------------------------------
 */

/* Values with a greater key stay, of those with this key only the first n_ties. */
typedef struct threshold {
    uint32_t key;
    uint64_t n_ties;
} threshold;

/* Greater floats have greater keys (there are no NaN here; -0 counts as +0). */
static uint32_t key_of(float x) {
    const uint32_t u = oct_f32_bits(x + 0.0f);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* What top-p adds up: an integer, so exactly. p <= 1 and n_vocab < 2^23 keep sums in 63 bits. (By
 * way of a signed number, which is one instruction.) */
static uint64_t weight_of(float p) { return (uint64_t)(int64_t)((double)p * 0x1p40); }

/* The threshold at which what stays reaches target (1 .. the sum of all), counting every value as
 * one, or as its weight. n_ties is then what is still missing at the key, in the same unit. */
static threshold find_threshold(const float *x, uint32_t n, bool weigh, uint64_t target,
                                uint64_t *bins) {
    static const int shifts[3] = {21, 10, 0}, widths[3] = {11, 11, 10};
    threshold t = {0, 0};
    for (int level = 0; level < 3; level++) {
        const int shift = shifts[level];
        const uint32_t n_bins = 1u << widths[level];
        const uint32_t known = level == 0 ? 0 : ~0u << (shift + widths[level]);
        memset(bins, 0, n_bins * sizeof *bins);
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t key = key_of(x[i]);
            if ((key & known) == t.key)
                bins[key >> shift & (n_bins - 1)] += weigh ? weight_of(x[i]) : 1;
        }
        uint32_t b = n_bins - 1;
        for (; b > 0 && bins[b] < target; b--) target -= bins[b];
        t.key |= b << shift;
    }
    t.n_ties = target;
    return t;
}

/* Drops what is below the threshold; by are the n values it was found for. */
static void keep(candidates *c, const float *by, threshold t) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        const uint32_t key = key_of(by[i]);
        if (key < t.key || (key == t.key && t.n_ties == 0)) continue;
        if (key == t.key) t.n_ties--;
        c->ids[n] = c->everything ? i : c->ids[i];
        c->p[n++] = c->p[i];
    }
    c->n = n;
    c->everything = false;
}

/* ---- the candidates ---------------------------------------------------------------------------
 */

/* The top_k largest logits. Top_k blocks hold one as large as the top_k-th largest block maximum,
 * so nothing below that can be among them. */
static void keep_top_k(const vocab *v, candidates *c, uint32_t top_k, uint64_t *bins) {
    uint32_t least = 0;
    if (top_k <= v->n_blocks)
        least = find_threshold(v->block_max, v->n_blocks, false, top_k, bins).key;
    c->n = 0;
    c->everything = false;
    for (uint32_t b = 0; b < v->n_blocks; b++) {
        if (key_of(v->block_max[b]) < least) continue;
        for (uint32_t i = b * BLOCK; i < block_end(v, b); i++)
            if (key_of(v->x[i]) >= least) {
                c->ids[c->n] = i;
                c->p[c->n++] = v->x[i];
            }
    }
    if (top_k < c->n) keep(c, c->p, find_threshold(c->p, c->n, false, top_k, bins));
}

/* Drops p < least. */
static void keep_from(candidates *c, float least) {
    keep(c, c->p, (threshold){key_of(least), UINT64_MAX});
}

static uint64_t weight_from(const candidates *c, float least) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->n; i++) sum += weight_of(c->p[i]) & -(uint64_t)(c->p[i] >= least);
    return sum;
}

/* The smallest set, likeliest first, that holds top_p of the weight. */
static void keep_top_p(candidates *c, float top_p, uint64_t *bins) {
    const uint64_t total = weight_from(c, 0.0f);
    const double want = ceil((double)top_p * (double)total);
    uint64_t target = want < 1.0 ? 1 : (uint64_t)want;
    if (target > total) target = total;

    /* Values so small that all of them together could not be missed. */
    const float small = (float)((1.0 - (double)top_p) * 0.99 * ((double)total * 0x1p-40) / c->n);
    if (weight_from(c, small) >= target) keep_from(c, small);

    threshold t = find_threshold(c->p, c->n, true, target, bins);
    const uint64_t each = weight_of(oct_f32_from_bits(t.key & 0x7fffffffu));
    t.n_ties = each ? (t.n_ties + each - 1) / each : 1;
    keep(c, c->p, t);
}

static void choose_candidates(const oct_kern *k, const vocab *v, const octet_sample_row *r,
                              candidates *c, uint64_t *bins) {
    const float inv_t = 1.0f / r->temperature;
    const float *from = v->x;
    c->n = v->n;
    c->everything = true;
    if (r->top_k > 0 && (uint32_t)r->top_k < v->n) {
        keep_top_k(v, c, (uint32_t)r->top_k, bins);
        from = c->p;
    }
    k->elem.soft_sum(c->p, from, c->n, v->max, inv_t);
    if (r->min_p > 0.0f) keep_from(c, r->min_p);
    if (r->top_p < 1.0f) keep_top_p(c, r->top_p, bins);
}

static uint32_t draw(const octet_sample_row *r, const candidates *c) {
    double total = 0.0, sum = 0.0;
    for (uint32_t i = 0; i < c->n; i++) total += (double)c->p[i];
    const double mark = (double)oct_philox_uniform(r->seed, r->choice, r->position) * total;
    uint32_t i = 0;
    for (; i + 1 < c->n; i++) {
        sum += (double)c->p[i];
        if (sum > mark) break;
    }
    return c->everything ? i : c->ids[i];
}

static uint32_t argmax(const vocab *v) {
    uint32_t b = 0;
    while (b + 1 < v->n_blocks && v->block_max[b] != v->max) b++;
    uint32_t i = b * BLOCK;
    while (i + 1 < v->n && v->x[i] != v->max) i++;
    return i;
}

/* ---- log probabilities ------------------------------------------------------------------------
 */

/* What is subtracted from a logit to report it; 0 for bare logits. */
static double log_shift(const oct_kern *k, const vocab *v, uint32_t flags) {
    if (flags & OCTET_SAMPLE_RAW_LOGITS || v->max == -INFINITY) return 0.0;
    return (double)v->max + log(k->elem.soft_sum(NULL, v->x, v->n, v->max, 1.0f));
}

/* The likeliest by (value, lower id first), kept sorted while the vocabulary passes. */
static void report_top(const oct_sample_args *a, const vocab *v, double shift) {
    const uint32_t want = (uint32_t)oct_min_size(oct_min_size(a->row->n_top, a->max_top), v->n);
    uint32_t n = 0;
    for (uint32_t b = 0; b < v->n_blocks && want > 0; b++) {
        if (n == want && !(v->block_max[b] > a->top_logprob[n - 1])) continue;
        for (uint32_t i = b * BLOCK; i < block_end(v, b); i++) {
            const float x = v->x[i];
            if (n == want && !(x > a->top_logprob[n - 1])) continue;
            uint32_t at = n < want ? n++ : n - 1;
            for (; at > 0 && x > a->top_logprob[at - 1]; at--) {
                a->top_logprob[at] = a->top_logprob[at - 1];
                a->top_id[at] = a->top_id[at - 1];
            }
            a->top_logprob[at] = x;
            a->top_id[at] = (int32_t)i;
        }
    }
    for (uint32_t i = 0; i < n; i++) a->top_logprob[i] = (float)((double)a->top_logprob[i] - shift);
}

static uint32_t rank_of(const vocab *v, uint32_t id) {
    uint32_t rank = 1;
    const float x = v->x[id];
    for (uint32_t b = 0; b < v->n_blocks; b++) {
        if (v->block_max[b] < x) continue;
        for (uint32_t i = b * BLOCK; i < block_end(v, b); i++)
            rank += v->x[i] > x || (v->x[i] == x && i < id);
    }
    return rank;
}

static void report(const oct_kern *k, const oct_sample_args *a, const vocab *v) {
    const double shift = log_shift(k, v, a->row->flags);
    const uint32_t id = (uint32_t)a->out->token;
    a->out->logprob = (float)((double)v->x[id] - shift);
    a->out->rank = rank_of(v, id);
    report_top(a, v, shift);
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

/* Tempered logits of the candidates, minus infinity elsewhere. */
static void process(float *x, uint32_t n, const candidates *c, float inv_t) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < n; i++) {
        const bool left = c->everything || (next < c->n && c->ids[next] == i);
        x[i] = left ? x[i] * inv_t : -INFINITY;
        next += left;
    }
}

static int32_t choose(const oct_kern *k, const oct_sample_args *a, const vocab *v, const space *s) {
    const octet_sample_row *r = a->row;
    const bool forced = (r->flags & OCTET_SAMPLE_FORCED) != 0;
    if (is_greedy(r)) return forced ? r->forced : (int32_t)argmax(v);
    if (forced && !(r->flags & OCTET_SAMPLE_PROCESSED)) return r->forced;

    candidates c = {.ids = s->ids, .p = s->p};
    choose_candidates(k, v, r, &c, s->bins);
    const int32_t token = forced ? r->forced : (int32_t)draw(r, &c);
    if (r->flags & OCTET_SAMPLE_PROCESSED) process(a->logits, v->n, &c, 1.0f / r->temperature);
    return token;
}

static bool changes(const oct_sample_args *a) { return a->mask || a->n_bias || a->n_seen; }

void oct_kern_sample(const oct_kern *k, const oct_sample_args *a, void *scratch) {
    const uint32_t n = a->n_vocab;
    const space s = space_of(scratch, n);
    const bool processed = (a->row->flags & OCTET_SAMPLE_PROCESSED) != 0;
    const float *reported = a->logits;
    clear_out(a);

    vocab v = look(k, a->logits, n, s.block_max);
    if (v.finite && changes(a)) {
        if (!processed) reported = memcpy(s.raw, a->logits, n * sizeof *s.raw);
        apply_mask(a->logits, n, a->mask);
        apply_bias(a);
        apply_penalties(a);
        v = look(k, a->logits, n, s.block_max);
    }
    if (!v.finite || v.max == -INFINITY) {
        a->out->status = v.finite ? OCTET_SAMPLE_NONE_ALLOWED : OCTET_SAMPLE_NOT_FINITE;
        return;
    }
    a->out->token = choose(k, a, &v, &s);
    OCT_ASSERT(a->out->token >= 0 && (uint32_t)a->out->token < n);
    if (reported != a->logits || processed) v = look(k, reported, n, s.block_max);
    report(k, a, &v);
}
