/*
 * engine/request.c - a spec is checked whole, then copied whole; what is left cannot go wrong later
 * for a reason that was known at the door.
 *
 * Two kinds of memory: the arena for lists whose size the client sent, and one uncleared block for
 * arrays sized by the longest answer (tokens, block table, penalties), whose pages cost nothing
 * until the answer gets there.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/parts.h"

/* ---- checks ---- */

static bool in_range(float v, float lo, float hi) { return v >= lo && v <= hi; } /* not for NaN */

static oct_status check_sampling(const oct_sampling *s, oct_err *err) {
    if (!(s->temperature >= 0.0f) || isinf(s->temperature))
        return OCT_FAIL(err, OCT_E_INVALID, "temperature: out of range (got %g, want 0 or more)",
                        (double)s->temperature);
    if (!(s->top_p > 0.0f) || s->top_p > 1.0f)
        return OCT_FAIL(err, OCT_E_INVALID, "top_p: out of range (got %g, want above 0, up to 1)",
                        (double)s->top_p);
    if (s->top_k < -1)
        return OCT_FAIL(err, OCT_E_INVALID, "top_k: out of range (got %d, want -1 or more)",
                        s->top_k);
    if (!in_range(s->min_p, 0.0f, 1.0f))
        return OCT_FAIL(err, OCT_E_INVALID, "min_p: out of range (got %g, want 0 to 1)",
                        (double)s->min_p);
    if (!(s->repetition_penalty > 0.0f) || isinf(s->repetition_penalty))
        return OCT_FAIL(err, OCT_E_INVALID,
                        "repetition_penalty: out of range (got %g, want above 0)",
                        (double)s->repetition_penalty);
    if (!isfinite(s->frequency_penalty) || !isfinite(s->presence_penalty))
        return OCT_FAIL(err, OCT_E_INVALID, "penalties: not finite (got %g and %g)",
                        (double)s->frequency_penalty, (double)s->presence_penalty);
    return OCT_OK;
}

static oct_status check_ids(const oct_engine *e, const char *what, const int32_t *ids, size_t n,
                            oct_err *err) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= e->info.n_vocab)
            return OCT_FAIL(err, OCT_E_INVALID, "%s: no such token (got %d, want 0 to %u)", what,
                            ids[i], e->info.n_vocab - 1);
    return OCT_OK;
}

static oct_status check_lengths(const oct_engine *e, const oct_request_spec *s, oct_err *err) {
    if (s->n_prompt == 0) return OCT_FAIL(err, OCT_E_INVALID, "prompt cannot be empty");
    if (s->max_tokens == 0)
        return OCT_FAIL(err, OCT_E_INVALID, "max_tokens: out of range (got 0, want at least 1)");
    if (s->min_tokens > s->max_tokens)
        return OCT_FAIL(err, OCT_E_INVALID, "min_tokens: more than max_tokens (got %u and %u)",
                        s->min_tokens, s->max_tokens);
    if ((uint64_t)s->n_prompt + s->max_tokens > e->info.max_model_len)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "maximum context length is %u tokens, and %u output tokens after %u prompt "
                        "tokens were asked for",
                        e->info.max_model_len, s->max_tokens, s->n_prompt);
    return OCT_OK;
}

static oct_status check_salt(oct_str salt, oct_err *err) {
    if (salt.len > OCT_KV_SALT_BYTES)
        return OCT_FAIL(err, OCT_E_INVALID, "cache_salt: too long (got %zu bytes, want at most %d)",
                        salt.len, OCT_KV_SALT_BYTES);
    return OCT_OK;
}

static oct_status check_lists(const oct_engine *e, const oct_request_spec *s, oct_err *err) {
    OCT_TRY(check_ids(e, "stop_token_ids", s->stop_ids, s->n_stop_ids, err));
    OCT_TRY(check_ids(e, "allowed_token_ids", s->allowed_ids, s->n_allowed_ids, err));
    for (uint32_t i = 0; i < s->n_bad_words; i++) {
        if (s->bad_words[i].n == 0)
            return OCT_FAIL(err, OCT_E_INVALID, "bad_words: entry %u is empty", i);
        OCT_TRY(check_ids(e, "bad_words", s->bad_words[i].ids, s->bad_words[i].n, err));
    }
    for (uint32_t i = 0; i < s->n_logit_bias; i++) {
        OCT_TRY(check_ids(e, "logit_bias", &s->logit_bias[i].id, 1, err));
        if (isnan(s->logit_bias[i].value) || s->logit_bias[i].value == INFINITY)
            return OCT_FAIL(err, OCT_E_INVALID, "logit_bias: the value of token %d is not a number",
                            s->logit_bias[i].id);
    }
    const int32_t most = (int32_t)e->info.max_logprobs;
    if (s->n_logprobs < -1 || s->n_logprobs > most || s->prompt_logprobs < -1 ||
        s->prompt_logprobs > most)
        return OCT_FAIL(err, OCT_E_INVALID, "logprobs: out of range (got %d and %d, want -1 to %d)",
                        s->n_logprobs, s->prompt_logprobs, most);
    if ((s->detokenize || s->n_stop > 0) && !e->tokenizer)
        return OCT_FAIL(err, OCT_E_INVALID, "text was asked for, but the model has no tokenizer");
    if (s->n_stop > 0 && !s->detokenize)
        return OCT_FAIL(err, OCT_E_INVALID, "stop: strings need the text, which was declined");
    return OCT_OK;
}

static oct_status check_spec(const oct_engine *e, const oct_request_spec *s, oct_err *err) {
    OCT_TRY(check_lengths(e, s, err));
    OCT_TRY(check_ids(e, "prompt", s->prompt, s->n_prompt, err));
    OCT_TRY(check_sampling(&s->sampling, err));
    OCT_TRY(check_salt(s->cache_salt, err));
    return check_lists(e, s, err);
}

/* ---- copies ---- */

static inline uint64_t seed_of(const oct_request_spec *s) { return s->sampling.seed; }

static int by_id(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t sort_unique(int32_t *ids, uint32_t n) {
    if (n == 0) return 0;
    qsort(ids, n, sizeof *ids, by_id);
    uint32_t k = 1;
    for (uint32_t i = 1; i < n; i++)
        if (ids[i] != ids[k - 1]) ids[k++] = ids[i];
    return k;
}

static bool copy_stops(oct_request *r, const oct_engine *e, const oct_request_spec *s) {
    const uint32_t n_eos = e->opt.n_eos;
    r->stop_ids = oct_arena_alloc(&r->arena, s->n_stop_ids, sizeof(int32_t));
    r->bans = oct_arena_alloc(&r->arena, (size_t)s->n_stop_ids + n_eos, sizeof(int32_t));
    if (!r->stop_ids || !r->bans || OCT_FAULT(REQUEST_STOP_IDS, seed_of(s))) return false;
    if (s->n_stop_ids > 0) memcpy(r->stop_ids, s->stop_ids, s->n_stop_ids * sizeof(int32_t));
    r->n_stop_ids = sort_unique(r->stop_ids, s->n_stop_ids);
    if (s->min_tokens == 0) return true;
    /* The model's own EOS is held back also when it would not end the request: before min_tokens
     * nobody wants it. */
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_stop_ids; i++) r->bans[n++] = r->stop_ids[i];
    for (uint32_t i = 0; i < n_eos && (i == 0 || !s->ignore_eos); i++) r->bans[n++] = e->eos_ids[i];
    r->n_bans = sort_unique(r->bans, n);
    return true;
}

/* Ascending id; of several entries for an id the last one counts. Insertion keeps the order of
 * equal ids, and lists that come sorted cost nothing; others are sorted by (id, index). */
typedef struct bias_entry {
    octet_bias b;
    uint32_t index;
} bias_entry;

static int by_id_then_index(const void *a, const void *b) {
    const bias_entry *x = a, *y = b;
    if (x->b.id != y->b.id) return x->b.id < y->b.id ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static bool copy_stop_strings(oct_request *r, const oct_request_spec *s) {
    if (s->n_stop == 0) return true;
    r->stop_strings = oct_arena_alloc(&r->arena, s->n_stop, sizeof *r->stop_strings);
    if (!r->stop_strings || OCT_FAULT(REQUEST_STOP, seed_of(s))) return false;
    for (uint32_t i = 0; i < s->n_stop; i++) {
        const char *copy = oct_arena_strndup(&r->arena, s->stop[i].ptr, s->stop[i].len);
        if (!copy) return false;
        r->stop_strings[i] = (oct_str){copy, s->stop[i].len};
    }
    return true;
}

static bool copy_bias(oct_request *r, const oct_request_spec *s) {
    if (s->n_logit_bias == 0) return true;
    bias_entry *entries = oct_arena_alloc(&r->arena, s->n_logit_bias, sizeof *entries);
    r->bias = oct_arena_alloc(&r->arena, s->n_logit_bias, sizeof *r->bias);
    if (!entries || !r->bias || OCT_FAULT(REQUEST_BIAS, seed_of(s))) return false;
    for (uint32_t i = 0; i < s->n_logit_bias; i++)
        entries[i] = (bias_entry){{s->logit_bias[i].id, s->logit_bias[i].value}, i};
    qsort(entries, s->n_logit_bias, sizeof *entries, by_id_then_index);
    for (uint32_t i = 0; i < s->n_logit_bias; i++)
        if (i + 1 == s->n_logit_bias || entries[i + 1].b.id != entries[i].b.id)
            r->bias[r->n_bias++] = entries[i].b;
    return true;
}

static bool copy_bad_words(oct_request *r, const oct_request_spec *s) {
    if (s->n_bad_words == 0) return true;
    r->bad_words = oct_arena_alloc(&r->arena, s->n_bad_words, sizeof *r->bad_words);
    if (!r->bad_words || OCT_FAULT(REQUEST_BAD_WORDS, seed_of(s))) return false;
    for (uint32_t i = 0; i < s->n_bad_words; i++) {
        int32_t *ids = oct_arena_alloc(&r->arena, s->bad_words[i].n, sizeof *ids);
        if (!ids) return false;
        memcpy(ids, s->bad_words[i].ids, s->bad_words[i].n * sizeof *ids);
        r->bad_words[i] = (oct_token_seq){ids, s->bad_words[i].n};
    }
    r->n_bad_words = s->n_bad_words;
    for (uint32_t i = 0; i < s->n_bad_words; i++)
        if (s->bad_words[i].n > 1) r->one_by_one = true;
    return true;
}

static bool copy_mask(oct_request *r, const oct_engine *e, const oct_request_spec *s) {
    if (s->n_allowed_ids == 0) return true;
    r->mask = oct_arena_alloc(&r->arena, e->steps[0].lists.mask_words, sizeof *r->mask);
    if (!r->mask || OCT_FAULT(REQUEST_MASK, seed_of(s))) return false;
    for (uint32_t i = 0; i < s->n_allowed_ids; i++)
        r->mask[s->allowed_ids[i] / 32] |= UINT32_C(1) << (s->allowed_ids[i] % 32);
    return true;
}

static bool copy_salt(oct_request *r, const oct_request_spec *s) {
    if (s->cache_salt.len == 0) return true;
    char *bytes = oct_arena_alloc(&r->arena, s->cache_salt.len, 1);
    if (!bytes || OCT_FAULT(REQUEST_SALT, seed_of(s))) return false;
    memcpy(bytes, s->cache_salt.ptr, s->cache_salt.len);
    r->salt = (oct_str){bytes, s->cache_salt.len};
    return true;
}

static bool copy_prompt_logprobs(oct_request *r, const oct_request_spec *s) {
    if (s->prompt_logprobs < 0) return true;
    const size_t k = (size_t)s->prompt_logprobs;
    r->prompt_lp = oct_arena_alloc(&r->arena, s->n_prompt, sizeof *r->prompt_lp);
    r->prompt_top = oct_arena_alloc(&r->arena, (size_t)s->n_prompt * k, sizeof *r->prompt_top);
    if (!r->prompt_lp || !r->prompt_top || OCT_FAULT(REQUEST_LOGPROBS, seed_of(s))) return false;
    for (uint32_t i = 0; i < s->n_prompt; i++) r->prompt_lp[i] = (oct_token_logprob){.id = -1};
    r->seq.extra_logits_begin = 0;
    r->seq.extra_logits_end = s->n_prompt - 1;
    return true;
}

static void count_prompt(oct_request *r) {
    int32_t *ids = (int32_t *)(void *)r->seen; /* sorted at the far end of the array itself */
    ids += (size_t)r->seq.max_tokens * (sizeof *r->seen / sizeof *ids) - r->seq.n_prompt;
    memcpy(ids, r->tokens, r->seq.n_prompt * sizeof *ids);
    const uint32_t n = sort_unique(ids, r->seq.n_prompt);
    for (uint32_t i = 0; i < n; i++) {
        const int32_t id = ids[i]; /* read before the entry may reach it */
        r->seen[i] = (octet_seen_token){.id = id, .in_prompt = 1};
    }
    r->n_seen = n;
}

static bool copy_big(oct_request *r, const oct_engine *e, const oct_request_spec *s) {
    const size_t n = r->seq.max_tokens; /* <= max_model_len: no product below overflows */
    const size_t n_blocks = oct_kv_blocks_for(r->seq.max_tokens, e->info.block_tokens);
    r->big_bytes = n * sizeof(int32_t) + n_blocks * sizeof(oct_kv_block) +
                   (r->penalised ? n * sizeof(octet_seen_token) : 0);
    r->big = oct_alloc(r->mem, r->big_bytes, 1);
    if (!r->big || OCT_FAULT(REQUEST_TOKENS, seed_of(s))) return false;
    r->seq.tokens = r->tokens = r->big;
    memcpy(r->tokens, s->prompt, s->n_prompt * sizeof(int32_t));
    oct_kv_block *blocks = (oct_kv_block *)(void *)(r->tokens + n);
    oct_kv_table_init(&r->seq.table, blocks, (uint32_t)n_blocks, e->info.block_tokens);
    if (r->penalised) {
        r->seen = (octet_seen_token *)(void *)(blocks + n_blocks);
        if (r->sampling.repetition_penalty != 1.0f) count_prompt(r);
    }
    return true;
}

/* ---- sampling fields ---- */

static oct_status copy_sampling(oct_request *r, const oct_sampling *s, oct_err *err) {
    const float least = 0.01f, greedy_below = 1e-5f;
    r->sampling = *s;
    r->greedy = s->temperature < greedy_below;
    if (r->greedy) {
        r->sampling.temperature = r->sampling.top_p = 1.0f;
        r->sampling.top_k = 0;
        r->sampling.min_p = 0.0f;
    } else if (s->temperature < least) { /* logits / temperature must stay finite */
        r->sampling.temperature = least;
    }
    if (r->sampling.top_k < 0) r->sampling.top_k = 0;
    r->penalised = s->repetition_penalty != 1.0f || s->frequency_penalty != 0.0f ||
                   s->presence_penalty != 0.0f;
    r->one_by_one = r->penalised;
    if (!s->has_seed && !r->greedy &&
        (getrandom(&r->sampling.seed, sizeof r->sampling.seed, 0) != sizeof r->sampling.seed ||
         OCT_FAULT(REQUEST_SEED, 0)))
        return OCT_FAIL(err, OCT_E_IO, "engine: the system gave no random seed");
    return OCT_OK;
}

/* ---- life ---- */

static void request_free(oct_request *r) {
    const oct_allocator *mem = r->mem;
    oct_stop_set_destroy(r->stop_set);
    oct_constraint_fini(r);
    oct_free(mem, r->big, r->big_bytes, 1);
    oct_arena_fini(&r->arena);
    oct_free(mem, r, 1, sizeof *r);
}

static oct_status copy_spec(oct_request *r, const oct_engine *e, const oct_request_spec *s,
                            oct_err *err) {
    OCT_TRY(copy_sampling(r, &s->sampling, err));
    if (s->n_stop > 0 && OCT_FAULT(REQUEST_STOP_SET, seed_of(s)))
        return OCT_FAIL(err, OCT_E_NOMEM, "engine: no memory for stop strings");
    if (s->n_stop > 0)
        OCT_TRY(
            oct_stop_set_create(r->mem, s->stop, s->n_stop, s->include_stop, &r->stop_set, err));
    OCT_TRY(oct_constraint_copy(r, e, s, err));
    OCT_TRY(oct_closing_copy(r, e, s, err));
    if (!copy_big(r, e, s) || !copy_stops(r, e, s) || !copy_stop_strings(r, s) ||
        !copy_bias(r, s) || !copy_bad_words(r, s) || !copy_mask(r, e, s) || !copy_salt(r, s) ||
        !copy_prompt_logprobs(r, s))
        return OCT_FAIL(err, OCT_E_NOMEM, "engine: no memory for a request of %u prompt tokens",
                        s->n_prompt);
    return OCT_OK;
}

oct_status oct_request_create(oct_engine *e, const oct_request_spec *s, oct_request **out,
                              oct_err *err) {
    *out = NULL;
    OCT_ASSERT(s->on_output);
    OCT_TRY(check_spec(e, s, err));
    oct_request *r = OCT_FAULT(REQUEST, seed_of(s)) ? NULL : oct_calloc(e->mem, 1, sizeof *r);
    if (!r) return OCT_FAIL(err, OCT_E_NOMEM, "engine: no memory for a request");
    r->mem = e->mem;
    r->engine = e;
    r->on_output = s->on_output;
    r->user = s->user;
    r->max_tokens = s->max_tokens;
    r->min_tokens = s->min_tokens;
    r->ignore_eos = s->ignore_eos;
    r->include_stop = s->include_stop;
    r->detokenize = s->detokenize;
    r->n_logprobs = s->n_logprobs;
    r->n_prompt_logprobs = s->prompt_logprobs;
    r->deadline_ns = s->deadline_ns;
    r->seq = (oct_sched_seq){.n_prompt = s->n_prompt,
                             .n_tokens = s->n_prompt,
                             .max_tokens = s->n_prompt + s->max_tokens,
                             .priority = s->priority,
                             .group = s->group};
    r->times.arrival_ns = oct_now_ns();
    atomic_init(&r->n_refs, 1);
    atomic_init(&r->cancelled, false);
    oct_arena_init(&r->arena, r->mem, 0);
    const oct_status st = copy_spec(r, e, s, err);
    if (st != OCT_OK) {
        request_free(r);
        return st;
    }
    if (s->detokenize) {
        oct_detokenizer_init(&r->detok, e->tokenizer, s->skip_special);
        oct_detokenizer_prime(&r->detok);
    }
    oct_stop_init(&r->stop, r->stop_set);
    *out = r;
    return OCT_OK;
}

void oct_request_cancel(oct_request *r) {
    atomic_store_explicit(&r->cancelled, true, memory_order_release);
}

void oct_request_release(oct_request *r) {
    if (r && atomic_fetch_sub_explicit(&r->n_refs, 1, memory_order_acq_rel) == 1) request_free(r);
}

void oct_request_see(oct_request *r, int32_t id) {
    if (!r->penalised) return;
    uint32_t lo = 0, hi = r->n_seen;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (r->seen[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == r->n_seen || r->seen[lo].id != id) {
        OCT_ASSERT(r->n_seen < r->seq.max_tokens);
        memmove(r->seen + lo + 1, r->seen + lo, (r->n_seen - lo) * sizeof *r->seen);
        r->seen[lo] = (octet_seen_token){.id = id};
        r->n_seen++;
    }
    r->seen[lo].n_output++;
}
