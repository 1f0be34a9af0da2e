/*
 * api/job.c - the life of one HTTP request that generates.
 *
 * References: the worker that makes the job, every engine request (until its last output), and the
 * exchange (until it is over). Whoever comes last frees. What the engine thread, the worker that
 * still submits and the loop thread that tells of a vanished client share is behind job->lock; no
 * callback of another room runs with it held.
 */
#include <stdio.h>
#include <sys/random.h>

#include "api/parts.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

const oct_api_voice oct_api_voice_openai = {.output = oct_api_stream_output,
                                            .end = oct_api_stream_end,
                                            .error = oct_api_stream_error,
                                            .respond = oct_api_respond};

/* ---- making ---- */

static const char *id_prefix(const oct_api_job *job) {
    if (job->voice->id_prefix) return job->voice->id_prefix;
    return job->shape == OCT_API_CHAT ? "chatcmpl-" : "cmpl-";
}

/* X-Request-Id, the body's request_id, or 32 random hex digits. A label only. False: no memory. */
static bool make_id(oct_api_job *job) {
    oct_str id = job->x ? oct_http_request_header(job->x, "X-Request-Id") : OCT_STR("");
    oct_buf_cstr(&job->id, id_prefix(job));
    if (id.len == 0) id = oct_json_str(json_object_get(job->body, "request_id"));
    if (id.len > OCT_API_MAX_LABEL) id.len = OCT_API_MAX_LABEL;
    if (id.len > 0) {
        oct_buf_str(&job->id, id);
        return !job->id.failed && !OCT_FAULT(JOB_ID, oct_api_who(job));
    }
    uint64_t bits[2];
    if (getrandom(bits, sizeof bits, 0) != sizeof bits) {
        bits[0] = oct_now_ns();
        bits[1] = job->x ? oct_http_request_serial(job->x) : 0;
    }
    oct_buf_printf(&job->id, "%016llx%016llx", (unsigned long long)bits[0],
                   (unsigned long long)bits[1]);
    return !job->id.failed;
}

static void list_job(oct_api_job *job) {
    oct_api *api = job->api;
    pthread_mutex_lock(&api->jobs_lock);
    job->next = api->jobs;
    if (job->next) job->next->prev = job;
    api->jobs = job;
    pthread_mutex_unlock(&api->jobs_lock);
    atomic_fetch_add(&api->n_jobs, 1);
}

static void unlist_job(oct_api_job *job) {
    oct_api *api = job->api;
    pthread_mutex_lock(&api->jobs_lock);
    if (job->prev)
        job->prev->next = job->next;
    else
        api->jobs = job->next;
    if (job->next) job->next->prev = job->prev;
    pthread_mutex_unlock(&api->jobs_lock);
}

oct_status oct_api_job_create(oct_api *api, oct_http_exchange *x, oct_api_shape shape,
                              oct_api_job **out) {
    oct_api_job *job = OCT_FAULT(JOB, 0) ? NULL : oct_calloc(api->mem, 1, sizeof *job);
    *out = job;
    if (!job) return OCT_E_NOMEM;
    job->api = api;
    job->x = x;
    job->shape = shape;
    job->voice = &oct_api_voice_openai;
    job->created = oct_unix_seconds();
    job->begun_ns = x ? oct_http_request_arrived_ns(x) : oct_now_ns();
    oct_arena_init(&job->arena, api->mem, 0);
    oct_buf_init(&job->id, api->mem, 0);
    oct_buf_init(&job->echo_text, api->mem, 0);
    oct_buf_init(&job->asked, api->mem, 0);
    oct_buf_init(&job->out, api->mem, 0);
    pthread_mutex_init(&job->lock, NULL);
    atomic_init(&job->n_refs, 1);
    list_job(job);
    if (x) oct_http_acquire(x);
    return OCT_OK;
}

oct_status oct_api_job_set_prompts(oct_api_job *job, uint32_t n, oct_api_error *e) {
    job->prompts = oct_arena_alloc(&job->arena, n, sizeof *job->prompts);
    if (!job->prompts || OCT_FAULT(JOB_PROMPTS, oct_api_who(job))) return oct_api_no_memory(e);
    job->n_prompts = n;
    for (uint32_t i = 0; i < n; i++) {
        oct_ids_init(&job->prompts[i].ids, job->api->mem);
        oct_buf_init(&job->prompts[i].text, job->api->mem, 0);
    }
    return OCT_OK;
}

enum { N_BUFS = 9 }; /* of a choice */

static void choice_bufs(oct_api_choice *c, oct_buf *out[N_BUFS]) {
    oct_buf *const all[N_BUFS] = {&c->text,
                                  &c->held,
                                  &c->logprobs,
                                  &c->prompt_logprobs,
                                  &c->stop_text,
                                  &c->lists.tokens,
                                  &c->lists.token_logprobs,
                                  &c->lists.top_logprobs,
                                  &c->lists.text_offset};
    for (int i = 0; i < N_BUFS; i++) out[i] = all[i];
}

static void choice_init(oct_api_choice *c, const oct_allocator *mem) {
    oct_buf *bufs[N_BUFS];
    choice_bufs(c, bufs);
    for (int i = 0; i < N_BUFS; i++) oct_buf_init(bufs[i], mem, 0);
    oct_ids_init(&c->tokens, mem);
    oct_api_speech_init(&c->speech, mem);
}

static void choice_fini(oct_api_choice *c, const oct_allocator *mem) {
    oct_buf *bufs[N_BUFS];
    choice_bufs(c, bufs);
    for (int i = 0; i < N_BUFS; i++) oct_buf_fini(bufs[i]);
    oct_ids_fini(&c->tokens);
    oct_api_speech_fini(&c->speech, mem);
    oct_request_release(c->handle);
}

oct_status oct_api_job_set_choices(oct_api_job *job, oct_api_error *e) {
    const uint64_t n = (uint64_t)job->n_prompts * (uint64_t)job->fields.n;
    const uint32_t most = job->api->cfg.limits.choices;
    if (n > most)
        return oct_api_refuse(e, OCT_API_REFUSED, "n",
                              "n: too many answers (got %lld for each of %u prompts, want at most "
                              "%u in all)",
                              (long long)job->fields.n, job->n_prompts, most);
    job->choices = oct_arena_alloc(&job->arena, n, sizeof *job->choices);
    if (!job->choices || OCT_FAULT(JOB_CHOICES, oct_api_who(job))) return oct_api_no_memory(e);
    job->n_choices = job->n_open = (uint32_t)n;
    for (uint32_t i = 0; i < job->n_choices; i++) {
        oct_api_choice *c = &job->choices[i];
        choice_init(c, job->api->mem);
        c->job = job;
        c->index = i;
        c->prompt = &job->prompts[i / (uint32_t)job->fields.n];
    }
    return OCT_OK;
}

void oct_api_job_unref(oct_api_job *job) {
    if (!job || atomic_fetch_sub(&job->n_refs, 1) != 1) return;
    oct_api *api = job->api;
    unlist_job(job);
    for (uint32_t i = 0; i < job->n_choices; i++) choice_fini(&job->choices[i], api->mem);
    for (uint32_t i = 0; i < job->n_prompts; i++) {
        oct_ids_fini(&job->prompts[i].ids);
        oct_buf_fini(&job->prompts[i].text);
    }
    json_decref(job->body);
    json_decref(job->tools);
    oct_grammar_unref(job->grammar);
    oct_buf_fini(&job->id);
    oct_buf_fini(&job->echo_text);
    oct_buf_fini(&job->asked);
    oct_buf_fini(&job->out);
    oct_arena_fini(&job->arena);
    pthread_mutex_destroy(&job->lock);
    oct_http_release(job->x);
    oct_free(api->mem, job, 1, sizeof *job);
    atomic_fetch_sub(&api->n_jobs, 1);
}

/* ---- ends ---- */

/* With the lock held. */
static void cancel_all(oct_api_job *job) {
    for (uint32_t i = 0; i < job->n_choices; i++)
        if (job->choices[i].handle) oct_request_cancel(job->choices[i].handle);
}

/* With the lock held: the answer becomes this refusal, whatever was sent of it. */
static void fail_job(oct_api_job *job, const oct_api_error *e) {
    if (job->over) return;
    job->over = true;
    if (job->streaming)
        job->voice->error(job, e);
    else if (job->x)
        oct_api_answer_error(job->api, job->x, e);
    cancel_all(job);
}

bool oct_api_job_is(const oct_api_job *job, oct_str id) {
    const oct_str own = oct_buf_view(&job->id);
    const size_t prefix = strlen(id_prefix(job));
    const oct_str bare = {own.ptr + prefix, own.len - prefix};
    return oct_str_eq(own, id) || oct_str_eq(bare, id);
}

bool oct_api_job_cancel(oct_api_job *job) {
    if (!job->running || job->over || job->gone || job->cancelled) return false;
    job->cancelled = true;
    cancel_all(job);
    return true;
}

/* A job stays whole until it has left the list, so its lock may be taken here even when nobody
 * holds it any more. */
void oct_api_fail_all(oct_api *api, const char *sentence) {
    oct_api_error e = {0};
    (void)oct_api_refuse(&e, OCT_API_FAILED, NULL, "%.*s", OCT_API_REASON, sentence);
    pthread_mutex_lock(&api->jobs_lock);
    for (oct_api_job *job = api->jobs; job; job = job->next) {
        pthread_mutex_lock(&job->lock);
        if (job->running) fail_job(job, &e);
        pthread_mutex_unlock(&job->lock);
    }
    pthread_mutex_unlock(&api->jobs_lock);
}

static void on_close(void *ctx, oct_http_end how) {
    oct_api_job *job = ctx;
    pthread_mutex_lock(&job->lock);
    if (how == OCT_HTTP_GONE) job->gone = true;
    cancel_all(job);
    pthread_mutex_unlock(&job->lock);
    oct_api_job_unref(job);
}

/* ---- the engine's news ---- */

static void observe(oct_api_choice *c, const oct_output *out) {
    oct_api_metrics *m = c->job->api->metrics;
    const uint64_t now = out->times.last_token_ns;
    if (out->n_tokens > 0) {
        if (c->last_token_ns == 0)
            oct_api_metrics_first_token(m, c->job->begun_ns, now);
        else
            oct_api_metrics_next_token(m, now - c->last_token_ns);
        c->last_token_ns = now;
    }
    c->n_completion = c->job->fields.echo_only ? 0 : out->n_completion;
    c->n_cached = out->n_cached;
    c->times = out->times;
    if (out->finish == OCT_FINISH_STOP || out->finish == OCT_FINISH_LENGTH) {
        const oct_api_finished f = {.begun_ns = c->job->begun_ns,
                                    .times = out->times,
                                    .n_prompt = out->n_prompt,
                                    .n_completion = out->n_completion,
                                    .n_cached = out->n_cached,
                                    .max_tokens = c->prompt->max_tokens};
        oct_api_metrics_finished(m, &f);
    }
}

/* What a failed request tells its client. The engine's sentences about requests hold no paths and
 * no addresses; those of a device may, and stay in the log. */
static void describe_failure(const oct_output *out, oct_api_error *e) {
    if (out->finish == OCT_FINISH_ABORT)
        oct_api_refuse(e, OCT_API_BUSY, NULL, "the server is stopping");
    else if (out->status == OCT_E_CANCELLED)
        oct_api_refuse(e, OCT_API_BUSY, NULL, "%.*s", OCT_API_REASON, out->error);
    else if (out->status == OCT_E_NOMEM)
        oct_api_no_memory(e);
    else if (out->status == OCT_E_INVALID)
        oct_api_refuse(e, OCT_API_FAILED, NULL, "%.*s", OCT_API_REASON, out->error);
    else
        oct_api_refuse(e, OCT_API_FAILED, NULL, "the engine failed to answer this request");
    if (out->finish == OCT_FINISH_ERROR) oct_error("request failed: %s", out->error);
}

static void log_finished(const oct_api_job *job) {
    uint32_t n_prompt, n_completion, n_cached;
    if (!job->api->cfg.log_requests) return;
    oct_api_job_usage(job, &n_prompt, &n_completion, &n_cached);
    oct_info("%s from %s: %u prompt tokens, %u output tokens, %.3f s%s", oct_buf_cs(&job->id),
             job->x ? oct_http_request_peer(job->x) : "-", n_prompt, n_completion,
             (double)(oct_now_ns() - job->begun_ns) / 1e9, job->gone ? ", client gone" : "");
}

/* With the lock held: the last choice has ended. */
static void finish_job(oct_api_job *job) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < job->n_choices; i++)
        if (job->choices[i].n_completion > most) most = job->choices[i].n_completion;
    log_finished(job);
    if (job->over) return;
    job->over = true;
    oct_api_metrics_job(job->api->metrics, (uint32_t)job->fields.n, most);
    if (job->fields.stream)
        job->voice->end(job);
    else
        job->voice->respond(job);
}

static void on_output(void *user, const oct_output *out) {
    oct_api_choice *c = user;
    oct_api_job *job = c->job;
    const bool last = out->finish != OCT_FINISH_NONE;
    oct_api_error e = {0};

    pthread_mutex_lock(&job->lock);
    observe(c, out);
    /* Aborted by an operator, a request gives what it has; by the end of the server, it fails. */
    const bool stopped = out->finish == OCT_FINISH_ABORT &&
                         (job->over || job->gone || atomic_load(&job->api->draining));
    if (out->finish == OCT_FINISH_ERROR || stopped) {
        if (!job->over) describe_failure(out, &e);
        if (job->gone) job->over = true; /* nobody is there to be told */
        fail_job(job, &e);
    } else if (!job->over && !job->gone) {
        if (job->fields.stream)
            job->voice->output(c, out);
        else
            oct_api_collect_output(c, out);
        if (job->over) cancel_all(job);
    }
    if (last) {
        c->done = true;
        oct_request_release(c->handle);
        c->handle = NULL;
        if (--job->n_open == 0) finish_job(job);
    }
    pthread_mutex_unlock(&job->lock);
    if (last) oct_api_job_unref(job);
}

/* ---- submitting ---- */

void oct_api_job_spec(const oct_api_choice *c, oct_request_spec *out) {
    const oct_api_fields *f = &c->job->fields;
    *out = OCT_REQUEST_SPEC_DEFAULT;
    out->prompt = c->prompt->ids.data;
    out->n_prompt = (uint32_t)c->prompt->ids.len;
    out->max_tokens = c->prompt->max_tokens;
    out->min_tokens = (uint32_t)f->min_tokens;
    out->sampling = (oct_sampling){.temperature = (float)f->temperature,
                                   .top_p = (float)f->top_p,
                                   .top_k = (int32_t)f->top_k,
                                   .min_p = (float)f->min_p,
                                   .repetition_penalty = (float)f->repetition_penalty,
                                   .frequency_penalty = (float)f->frequency_penalty,
                                   .presence_penalty = (float)f->presence_penalty,
                                   .has_seed = f->has_seed,
                                   .seed = (uint64_t)f->seed,
                                   .choice = c->index % (uint32_t)f->n};
    out->stop = f->stop;
    out->n_stop = f->n_stop;
    out->stop_ids = f->stop_ids;
    out->n_stop_ids = f->n_stop_ids;
    out->ignore_eos = f->ignore_eos;
    out->include_stop = f->include_stop;
    out->detokenize = c->job->api->cfg.tokenizer != NULL;
    out->skip_special = f->skip_special;
    out->n_logprobs = (int32_t)f->logprobs;
    out->prompt_logprobs = (int32_t)f->prompt_logprobs;
    if (f->echo && f->logprobs > out->prompt_logprobs && c->job->shape == OCT_API_COMPLETION)
        out->prompt_logprobs = (int32_t)f->logprobs;
    out->logit_bias = f->bias;
    out->n_logit_bias = f->n_bias;
    out->allowed_ids = f->allowed;
    out->n_allowed_ids = f->n_allowed;
    out->bad_words = f->bad_words;
    out->n_bad_words = f->n_bad_words;
    out->cache_salt = f->salt;
    out->priority = f->priority;
    out->grammar = c->job->grammar;
    if (f->thinking_budget >= 0 && oct_api_speech_after(c->job, &c->prompt->ids).len > 0) {
        out->close_ids = c->job->api->close_tag.data;
        out->n_close_ids = (uint32_t)c->job->api->close_tag.len;
        out->close_by = f->thinking_budget < UINT32_MAX ? (uint32_t)f->thinking_budget : UINT32_MAX;
    }
    if (out->grammar) out->grammar_after = oct_api_speech_after(c->job, &c->prompt->ids);
    out->group = c->prompt->group;
    if (c->job->api->cfg.request_timeout_ns > 0)
        out->deadline_ns = c->job->begun_ns + c->job->api->cfg.request_timeout_ns;
}

static void refused(oct_api_job *job, oct_status st, const char *sentence) {
    oct_api_error e;
    if (st == OCT_E_FULL)
        oct_api_refuse(&e, OCT_API_BUSY, NULL, "too many requests are waiting; try later");
    else if (st == OCT_E_CANCELLED)
        oct_api_refuse(&e, OCT_API_BUSY, NULL, "the server is stopping");
    else if (st == OCT_E_NOMEM)
        oct_api_no_memory(&e);
    else if (st == OCT_E_INVALID)
        oct_api_refuse(&e, OCT_API_REFUSED, NULL, "%.*s", OCT_API_REASON, sentence);
    else
        oct_api_refuse(&e, OCT_API_FAILED, NULL, "the engine did not take this request");
    pthread_mutex_lock(&job->lock);
    fail_job(job, &e);
    pthread_mutex_unlock(&job->lock);
}

/* False when no more choices are to be submitted. */
static bool submit(oct_api_job *job, oct_api_choice *c) {
    oct_request_spec spec;
    oct_request *handle = NULL;
    oct_err err = {0};
    oct_api_job_spec(c, &spec);
    spec.on_output = on_output;
    spec.user = c;
    pthread_mutex_lock(&job->lock);
    const bool stop = job->over || job->gone;
    pthread_mutex_unlock(&job->lock);
    if (stop) return false;

    atomic_fetch_add(&job->n_refs, 1);
    const oct_status st = oct_engine_submit(job->api->cfg.engine, &spec, &handle, &err);
    if (st != OCT_OK) {
        oct_api_job_unref(job);
        refused(job, st, err.text);
        return false;
    }
    pthread_mutex_lock(&job->lock);
    if (job->gone || job->over || job->cancelled) oct_request_cancel(handle);
    if (!c->done) {
        c->handle = handle;
        handle = NULL;
    }
    pthread_mutex_unlock(&job->lock);
    oct_request_release(handle);
    return true;
}

void oct_api_job_run(oct_api_job *job) {
    atomic_fetch_add(&job->n_refs, 1);
    pthread_mutex_lock(&job->lock);
    job->running = true;
    pthread_mutex_unlock(&job->lock);
    oct_http_on_close(job->x, on_close, job);
    for (uint32_t i = 0; i < job->n_prompts && job->fields.n > 1; i++)
        job->prompts[i].group = oct_engine_new_group(job->api->cfg.engine);
    for (uint32_t i = 0; i < job->n_choices; i++)
        if (!submit(job, &job->choices[i])) break;
    json_decref(job->body); /* the engine has copies */
    job->body = NULL;
    oct_api_job_unref(job);
}

/* ---- from exchange to job ---- */

static oct_status check_queue(const oct_api *api, oct_api_error *e) {
    oct_engine_stats stats;
    if (atomic_load(&api->draining))
        return oct_api_refuse(e, OCT_API_BUSY, NULL, "the server is stopping");
    oct_engine_get_stats(api->cfg.engine, &stats);
    const uint64_t most_tokens = api->info.max_num_queued_tokens;
    if (stats.n_accepted >= api->info.max_num_queued_reqs ||
        (most_tokens > 0 && stats.n_queued_tokens >= most_tokens))
        return oct_api_refuse(e, OCT_API_BUSY, NULL, "too many requests are waiting; try later");
    return OCT_OK;
}

void oct_api_start(oct_api *api, oct_http_exchange *x, oct_api_shape shape,
                   oct_status (*read)(oct_api_job *job, oct_api_error *e)) {
    oct_api_start_as(api, x, shape, &oct_api_voice_openai, read);
}

void oct_api_start_as(oct_api *api, oct_http_exchange *x, oct_api_shape shape,
                      const oct_api_voice *voice,
                      oct_status (*read)(oct_api_job *job, oct_api_error *e)) {
    oct_api_job *job = NULL;
    oct_api_error e;
    oct_status st = check_queue(api, &e);
    if (st == OCT_OK && oct_api_job_create(api, x, shape, &job) != OCT_OK)
        st = oct_api_no_memory(&e);
    if (job) job->voice = voice;
    if (st == OCT_OK) st = oct_api_parse_body(api, oct_http_request_body(x), &job->body, &e);
    if (st == OCT_OK) st = read(job, &e);
    if (st == OCT_OK && !make_id(job)) st = oct_api_no_memory(&e);
    if (st == OCT_OK) {
        oct_api_job_run(job);
        return;
    }
    oct_api_answer_error(api, x, &e);
    oct_api_job_unref(job);
}
