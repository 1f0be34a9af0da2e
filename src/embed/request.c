/*
 * embed/request.c - submit, poll, cancel, release.
 *
 * The engine's callback appends to `fresh` under the lock; a poll swaps `fresh` with `shown`, which
 * is the poller's until the next one. So nothing waits for a slow poller, and what lies there is
 * bounded by the request's own max_tokens.
 *
 * Two references: the caller's, and the engine's, which goes with the final output. The handle of
 * the engine's request is set when the submit has returned, which may be after the first output or
 * the last: a cancel before that is remembered.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "embed/parts.h"

/* Sizes of the first version's structs. */
enum { LEAST_SPEC = 136, LEAST_OUTPUT = 96 };

typedef struct news {
    oct_buf text, tokens, logprobs; /* tokens: int32_t; logprobs: float */
} news;

struct octet_request {
    atomic_uint n_refs;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    oct_request *handle; /* NULL until submit has returned */
    bool cancelled;      /* before that */
    bool no_memory;      /* for news */
    bool telling;        /* on_ready runs */
    bool released;       /* it is not called any more */
    bool wants_logprobs;
    news fresh;          /* under the lock */
    octet_output so_far; /* under the lock; its pointers are not used */
    char error[OCT_ERR_TEXT];
    void (*on_ready)(void *user, octet_request *request);
    void *user;
    news shown; /* the poller's */
};

static void news_init(news *n) {
    oct_buf_init(&n->text, oct_system_allocator(), 0);
    oct_buf_init(&n->tokens, oct_system_allocator(), 0);
    oct_buf_init(&n->logprobs, oct_system_allocator(), 0);
}

static void news_fini(news *n) {
    oct_buf_fini(&n->text);
    oct_buf_fini(&n->tokens);
    oct_buf_fini(&n->logprobs);
}

static void news_clear(news *n) {
    oct_buf_clear(&n->text);
    oct_buf_clear(&n->tokens);
    oct_buf_clear(&n->logprobs);
}

static octet_request *request_create(const octet_request_spec *s) {
    octet_request *r = oct_calloc(oct_system_allocator(), 1, sizeof *r);
    pthread_condattr_t monotonic;
    if (!r) return NULL;
    atomic_init(&r->n_refs, 2);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    news_init(&r->fresh);
    news_init(&r->shown);
    r->wants_logprobs = (s->flags & OCTET_REQUEST_LOGPROBS) != 0;
    r->on_ready = s->on_ready;
    r->user = s->user;
    return r;
}

static void request_unref(octet_request *r) {
    if (atomic_fetch_sub(&r->n_refs, 1) != 1) return;
    oct_request_release(r->handle);
    news_fini(&r->fresh);
    news_fini(&r->shown);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    oct_free(oct_system_allocator(), r, 1, sizeof *r);
}

/* ---- what the engine tells ---- */

static uint32_t finish_of(oct_finish f) {
    switch (f) {
    case OCT_FINISH_STOP:
        return OCTET_FINISH_STOP;
    case OCT_FINISH_LENGTH:
        return OCTET_FINISH_LENGTH;
    case OCT_FINISH_ABORT:
        return OCTET_FINISH_CANCELLED;
    case OCT_FINISH_ERROR:
        return OCTET_FINISH_ERROR;
    case OCT_FINISH_NONE:
    case OCT_N_FINISH:
        break;
    }
    return OCTET_RUNNING;
}

static void keep_news(octet_request *r, const oct_output *out) {
    news *n = &r->fresh;
    oct_buf_str(&n->text, out->text);
    if (out->n_tokens > 0)
        oct_buf_add(&n->tokens, out->tokens, out->n_tokens * sizeof *out->tokens);
    for (uint32_t i = 0; r->wants_logprobs && i < out->n_tokens; i++) {
        const float logprob = out->logprobs ? out->logprobs[i].logprob : 0;
        oct_buf_add(&n->logprobs, &logprob, sizeof logprob);
    }
    if (n->text.failed || n->tokens.failed || n->logprobs.failed) r->no_memory = true;
}

static void keep_state(octet_request *r, const oct_output *out) {
    octet_output *o = &r->so_far;
    o->n_prompt = out->n_prompt;
    o->n_completion = out->n_completion;
    o->n_cached = out->n_cached;
    o->arrival_ns = out->times.arrival_ns;
    o->first_token_ns = out->times.first_token_ns;
    o->last_token_ns = out->times.last_token_ns;
    if (out->finish == OCT_FINISH_NONE) return;
    o->finish = finish_of(out->finish);
    o->status = (int32_t)out->status;
    memcpy(r->error, out->error, strnlen(out->error, sizeof r->error - 1));
    if (!r->no_memory) return;
    /* Something that was drawn could not be kept, so the answer is not whole, however it ended. */
    static const char sentence[] = "the answer: no memory to keep it until it is polled";
    o->finish = OCTET_FINISH_ERROR;
    o->status = OCTET_E_NOMEM;
    memcpy(r->error, sentence, sizeof sentence);
}

/* On the engine thread. */
static void on_output(void *user, const oct_output *out) {
    octet_request *r = user;
    const bool last = out->finish != OCT_FINISH_NONE;
    pthread_mutex_lock(&r->lock);
    keep_news(r, out);
    keep_state(r, out);
    if (r->no_memory && r->handle) oct_request_cancel(r->handle);
    const bool tell = r->telling = r->on_ready && !r->released;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    if (tell) {
        r->on_ready(r->user, r);
        pthread_mutex_lock(&r->lock);
        r->telling = false;
        pthread_cond_broadcast(&r->changed);
        pthread_mutex_unlock(&r->lock);
    }
    if (last) request_unref(r);
}

/* ---- submit ---- */

int32_t octet_request_defaults(const octet_engine *e, octet_request_spec *spec) {
    const oct_generation_config *g = oct_checkpoint_generation(e->ckpt);
    octet_request_spec d = {.temperature = 0.7f, .top_p = 1, .repetition_penalty = 1};
    if (g->has_temperature) d.temperature = (float)g->temperature;
    if (g->has_top_p) d.top_p = (float)g->top_p;
    if (g->has_top_k) d.top_k = g->top_k;
    if (g->has_min_p) d.min_p = (float)g->min_p;
    if (g->has_repetition_penalty) d.repetition_penalty = (float)g->repetition_penalty;
    return oct_embed_give(spec, &d, sizeof d, LEAST_SPEC) ? OCTET_OK : OCTET_E_INVALID;
}

static oct_request_spec spec_of(const octet_engine *e, const octet_request_spec *s,
                                const oct_ids *ids, const oct_str *stop, octet_request *r) {
    const uint32_t longest = oct_engine_get_info(e->engine)->max_model_len;
    oct_request_spec out = OCT_REQUEST_SPEC_DEFAULT;
    out.prompt = ids->data;
    out.n_prompt = (uint32_t)ids->len;
    out.max_tokens = longest - (uint32_t)ids->len; /* what fits */
    if (s->max_tokens && s->max_tokens < out.max_tokens) out.max_tokens = s->max_tokens;
    out.min_tokens = s->min_tokens;
    out.sampling = (oct_sampling){.temperature = s->temperature,
                                  .top_p = s->top_p,
                                  .top_k = s->top_k,
                                  .min_p = s->min_p,
                                  .repetition_penalty = s->repetition_penalty,
                                  .frequency_penalty = s->frequency_penalty,
                                  .presence_penalty = s->presence_penalty,
                                  .has_seed = (s->flags & OCTET_REQUEST_SEEDED) != 0,
                                  .seed = s->seed,
                                  .choice = s->choice};
    out.stop = stop;
    out.n_stop = s->n_stop;
    out.stop_ids = s->stop_ids;
    out.n_stop_ids = s->n_stop_ids;
    out.ignore_eos = (s->flags & OCTET_REQUEST_IGNORE_EOS) != 0;
    out.include_stop = (s->flags & OCTET_REQUEST_KEEP_STOP) != 0;
    out.skip_special = !(s->flags & OCTET_REQUEST_KEEP_SPECIAL);
    out.detokenize = e->tokenizer && !(s->flags & OCTET_REQUEST_NO_TEXT);
    out.n_logprobs = s->flags & OCTET_REQUEST_LOGPROBS ? 0 : -1;
    if (s->cache_salt) out.cache_salt = oct_str_of(s->cache_salt);
    out.on_output = on_output;
    out.user = r;
    return out;
}

static oct_status hand_over(octet_engine *e, const octet_request_spec *s, const oct_ids *ids,
                            const oct_str *stop, octet_request **out, oct_err *err) {
    oct_request *handle = NULL;
    octet_request *r = request_create(s);
    if (!r) return OCT_FAIL(err, OCT_E_NOMEM, "octet_submit: no memory");
    const oct_request_spec spec = spec_of(e, s, ids, stop, r);
    const oct_status st = oct_engine_submit(e->engine, &spec, &handle, err);
    if (st != OCT_OK) {
        request_unref(r); /* the engine's: there is no final output */
        request_unref(r);
        return st;
    }
    pthread_mutex_lock(&r->lock);
    r->handle = handle;
    if (r->cancelled || r->no_memory) oct_request_cancel(handle);
    pthread_mutex_unlock(&r->lock);
    *out = r;
    return OCT_OK;
}

static oct_status submit(octet_engine *e, const octet_request_spec *s, octet_request **out,
                         oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    const uint32_t longest = oct_engine_get_info(e->engine)->max_model_len;
    if ((s->n_stop > 0 && !s->stop) || (s->n_stop_ids > 0 && !s->stop_ids))
        return OCT_FAIL(err, OCT_E_INVALID, "stop: a count without its list");
    oct_str *stop = oct_calloc(mem, s->n_stop, sizeof *stop);
    oct_ids ids;
    oct_ids_init(&ids, mem);
    oct_status st = stop ? oct_embed_prompt(e, s, &ids, err)
                         : OCT_FAIL(err, OCT_E_NOMEM, "octet_submit: no memory");
    for (uint32_t i = 0; st == OCT_OK && i < s->n_stop; i++) stop[i] = oct_str_of(s->stop[i]);
    if (st == OCT_OK && (ids.len == 0 || ids.len >= longest))
        st = OCT_FAIL(err, OCT_E_INVALID,
                      "prompt: too long or empty (got %zu tokens, want 1 to %u, so that one more "
                      "fits into the context)",
                      ids.len, longest - 1);
    if (st == OCT_OK) st = hand_over(e, s, &ids, stop, out, err);
    oct_ids_fini(&ids);
    oct_free(mem, stop, s->n_stop, sizeof *stop);
    return st;
}

int32_t octet_submit(octet_engine *e, const octet_request_spec *spec, octet_request **out,
                     char *sentence, size_t sentence_bytes) {
    octet_request_spec s;
    oct_err err = {0};
    oct_status st;
    if (out) *out = NULL;
    if (!e || !out)
        st = OCT_FAIL(&err, OCT_E_INVALID, "octet_submit: no engine or no place for the request");
    else if (!oct_embed_take(&s, sizeof s, LEAST_SPEC, spec))
        st = OCT_FAIL(&err, OCT_E_INVALID,
                      "octet_submit: a spec of another version (got %u bytes, want %zu)",
                      spec ? spec->struct_bytes : 0, sizeof s);
    else
        st = submit(e, &s, out, &err);
    if (st == OCT_E_FULL && !err.text[0])
        (void)OCT_FAIL(&err, st, "octet_submit: as many requests wait as may; try later");
    return oct_embed_answer(st, &err, sentence, sentence_bytes);
}

/* ---- poll ---- */

static bool has_news(const octet_request *r) {
    return r->fresh.tokens.len > 0 || r->fresh.text.len > 0 || r->so_far.finish != OCTET_RUNNING;
}

static void wait_for_news(octet_request *r, int32_t timeout_ms) {
    struct timespec until;
    if (timeout_ms == 0) return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    if (timeout_ms > 0) {
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    }
    int rc = 0;
    while (!has_news(r) && rc != ETIMEDOUT)
        rc = timeout_ms < 0 ? pthread_cond_wait(&r->changed, &r->lock)
                            : pthread_cond_timedwait(&r->changed, &r->lock, &until);
}

int32_t octet_poll(octet_request *r, int32_t timeout_ms, octet_output *out) {
    octet_output o = {0};
    if (!r || !oct_embed_give(out, &o, sizeof o, LEAST_OUTPUT)) return OCTET_E_INVALID;
    news_clear(&r->shown);
    pthread_mutex_lock(&r->lock);
    wait_for_news(r, timeout_ms);
    const news swapped = r->fresh;
    r->fresh = r->shown;
    r->shown = swapped;
    o = r->so_far;
    pthread_mutex_unlock(&r->lock);
    o.text = oct_buf_cs(&r->shown.text);
    o.text_bytes = r->shown.text.len;
    o.n_tokens = (uint32_t)(r->shown.tokens.len / sizeof *o.tokens);
    o.tokens = (const int32_t *)(const void *)r->shown.tokens.data;
    o.logprobs = r->wants_logprobs ? (const float *)(const void *)r->shown.logprobs.data : NULL;
    o.error = o.finish == OCTET_FINISH_ERROR ? r->error : "";
    return oct_embed_give(out, &o, sizeof o, LEAST_OUTPUT) ? OCTET_OK : OCTET_E_INVALID;
}

/* ---- the end ---- */

void octet_cancel(octet_request *r) {
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    r->cancelled = true;
    if (r->handle) oct_request_cancel(r->handle);
    pthread_mutex_unlock(&r->lock);
}

void octet_request_release(octet_request *r) {
    if (!r) return;
    octet_cancel(r);
    pthread_mutex_lock(&r->lock);
    r->released = true;
    while (r->telling) pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
    request_unref(r);
}
