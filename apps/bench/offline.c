/*
 * apps/bench/offline.c - see offline.h.
 *
 * The clock runs from the first submit to the last final output: loading is outside, queueing and
 * the text of the answers are inside. Every request draws exactly as many tokens as were asked for
 * (ignore_eos) at temperature 1 with a seed of its own, so that a run is the same work each time.
 */
#include "offline.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

enum { TICK_NS = 100 * 1000 * 1000, MAX_IDS = 1 << 28 };

/* ---- flags ----------------------------------------------------------------------------------- */

void offline_defaults(offline_options *o) {
    *o = (offline_options){.open = OPEN_OPTIONS_DEFAULT,
                           .max_num_seqs = 128,
                           .max_num_batched_tokens = 2048,
                           .long_partials = 1,
                           .decode_wait_ms = 500};
    tuning_defaults(&o->tuning, &o->open);
    o->open.log_level = "warn";
}

void offline_report_flags(offline_options *o, cli_flag flags[OFFLINE_N_REPORT_FLAGS]) {
    const cli_flag all[OFFLINE_N_REPORT_FLAGS] = {
        cli_switch("disable-detokenize", &o->skip_text, "no text is made of the tokens"),
        cli_string("output-json", &o->output, "FILE", "the figures as a JSON object in FILE"),
        cli_switch("json", &o->json, "the same on stdout, instead of lines"),
    };
    memcpy(flags, all, sizeof all);
}

void offline_engine_flags(offline_options *o, cli_flag flags[OFFLINE_N_ENGINE_FLAGS]) {
    const cli_flag all[] = {
        cli_count("max-num-seqs", &o->max_num_seqs, 1, 65536, "most sequences of one step"),
        cli_count("max-num-batched-tokens", &o->max_num_batched_tokens, 1, 1 << 20,
                  "most tokens of one step"),
        cli_number(
            "max-decode-wait-ms", &o->decode_wait_ms, "MS", 0, 1e6,
            "milliseconds that a step of running answers may take because of prompts;\n0: no "
            "limit"),
        cli_count("long-prefill-token-threshold", &o->chunk_tokens, 0, 1 << 20,
                  "most prompt tokens of one sequence in one step; 0: no limit"),
        cli_count("max-long-partial-prefills", &o->long_partials, 0, 65536,
                  "most long prompts that are begun at once; 0: no limit"),
        cli_count("max-num-partial-prefills", &o->partial_prefills, 0, 65536,
                  "most prompts that are begun at once and take several steps; 0: no limit"),
        cli_count("num-gpu-blocks-override", &o->n_blocks, 1, 1 << 30,
                  "blocks of the KV cache; as many as the run can use unless given"),
        cli_switch("enable-prefix-caching", &o->prefix_caching,
                   "a prompt that begins like an earlier one starts behind what is cached of it"),
    };
    memcpy(flags, all, sizeof all);
    keep_flags(&o->open, flags + OCT_COUNT(all));
    tuning_flags(&o->tuning, &o->open, flags + OCT_COUNT(all) + KEEP_N_FLAGS);
}

/* ---- what is asked --------------------------------------------------------------------------- */

/* A well mixed number for each (seed, index). */
static uint64_t mix(uint64_t seed, uint64_t index) {
    uint64_t z = seed * 0xd1342543de82ef95u + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint32_t length(uint64_t mean, double range, uint64_t random) {
    const uint64_t lo = (uint64_t)floor((double)mean * (1 - range));
    const uint64_t hi = (uint64_t)ceil((double)mean * (1 + range));
    const uint64_t n = lo + random % (hi - lo + 1);
    return (uint32_t)(n > 0 ? n : 1);
}

oct_status offline_plan(const offline_lengths *l, uint64_t seed, offline_work *out, oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    *out = (offline_work){.n_jobs = (uint32_t)l->n_jobs, .n_choices = (uint32_t)l->n_choices};
    const double most = (double)l->n_jobs * (double)(l->prefix + 2 * l->input + 2);
    if (most > MAX_IDS || (double)l->n_jobs * (double)l->n_choices > MAX_IDS)
        return OCT_FAIL(
            err, OCT_E_INVALID,
            "bench: too many prompt tokens or requests (got about %.0f, want at most %d)", most,
            MAX_IDS);
    out->jobs = oct_calloc(mem, out->n_jobs, sizeof *out->jobs);
    if (!out->jobs) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    for (uint32_t i = 0; i < out->n_jobs; i++) {
        offline_job *j = &out->jobs[i];
        j->at = (uint32_t)out->n_ids;
        j->n_prompt = (uint32_t)l->prefix + length(l->input, l->range, mix(seed, 2ull * i));
        j->n_output = length(l->output, l->range, mix(seed, 2ull * i + 1));
        out->n_ids += j->n_prompt;
        out->n_output_tokens += (uint64_t)j->n_output * l->n_choices;
        if (j->n_prompt + j->n_output > out->longest) out->longest = j->n_prompt + j->n_output;
    }
    out->n_prompt_tokens = out->n_ids;
    out->ids = oct_alloc(mem, out->n_ids, sizeof *out->ids);
    if (!out->ids) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    return OCT_OK;
}

void offline_work_free(offline_work *w) {
    const oct_allocator *mem = oct_system_allocator();
    oct_free(mem, w->ids, w->n_ids, sizeof *w->ids);
    oct_free(mem, w->jobs, w->n_jobs, sizeof *w->jobs);
    *w = (offline_work){0};
}

static int32_t draw_id(const offline *b, uint32_t n, uint64_t seed, uint64_t index) {
    const oct_tokenizer *t = b->m.tokenizer;
    for (uint64_t tries = 0;; tries++) {
        const int32_t id = (int32_t)(mix(seed + tries, index) % n);
        if (tries == 64 || !t || (oct_tokenizer_has(t, id) && !oct_tokenizer_is_special(t, id)))
            return id;
    }
}

void offline_fill(const offline *b, offline_work *w, uint32_t limit, uint32_t prefix,
                  uint64_t seed) {
    const uint32_t n_vocab = oct_engine_get_info(b->engine)->n_vocab;
    const uint32_t n = limit && limit < n_vocab ? limit : n_vocab;
    for (uint32_t i = 0; i < w->n_jobs; i++)
        for (uint32_t k = 0; k < w->jobs[i].n_prompt; k++)
            w->ids[w->jobs[i].at + k] =
                k < prefix ? draw_id(b, n, seed, k) : draw_id(b, n, ~seed, w->jobs[i].at + k);
}

/* ---- the engine ------------------------------------------------------------------------------ */

static uint64_t choose_blocks(const offline_options *o, const offline_work *w, offline *b) {
    const oct_model_info *i = oct_model_get_info(b->m.model);
    const uint64_t most = INT32_MAX / i->block_tokens;
    const uint64_t asked = (uint64_t)w->n_jobs * w->n_choices;
    const uint64_t at_once = asked < i->max_seqs ? asked : i->max_seqs;
    uint64_t blocks = at_once * ((w->longest - 1) / i->block_tokens + 1);
    oct_err err = {0};
    if (o->n_blocks) {
        blocks = o->n_blocks;
    } else if (o->open.kv_cache_memory) {
        blocks = o->open.kv_cache_memory / i->kv_bytes_per_block;
    } else if (oct_device_refresh(b->m.device, &err) == OCT_OK) {
        const uint64_t fit = b->m.device->info.mem_free_bytes / 10 * 8 / i->kv_bytes_per_block;
        if (blocks > fit) blocks = fit;
    }
    return blocks < most ? blocks : most;
}

static oct_status start(const offline_options *o, const offline_work *w, offline *b, oct_err *err) {
    const uint64_t blocks = choose_blocks(o, w, b);
    const oct_keep_options keep = keep_options(&o->open);
    oct_engine_options eo = {.n_blocks = (uint32_t)blocks,
                             .max_chunk_tokens = (uint32_t)o->chunk_tokens,
                             .max_num_queued_reqs = w->n_jobs * w->n_choices,
                             .max_partial_prefills = (uint32_t)o->partial_prefills,
                             .max_long_partials = (uint32_t)o->long_partials,
                             .max_decode_wait_ns = (uint64_t)(o->decode_wait_ms * 1e6),
                             .draft = o->tuning.draft,
                             .no_prefix_caching = !o->prefix_caching};
    if (blocks == 0)
        return OCT_FAIL(err, OCT_E_NOMEM, "KV cache: not even one block fits into memory");
    OCT_TRY(oct_model_kv_create(b->m.model, (uint32_t)blocks, err));
    OCT_TRY(oct_keep_shelves(b->m.model, &keep, (uint32_t)blocks, &eo.n_shelves, err));
    OCT_TRY(oct_keep_open(b->m.model, b->m.ckpt, b->m.device, &keep, (uint32_t)blocks, &b->kvstore,
                          err));
    eo.kvstore = b->kvstore;
    OCT_TRY(oct_engine_create(oct_system_allocator(), b->m.model, b->m.tokenizer, &eo, &b->engine,
                              err));
    if (w->longest > oct_engine_get_info(b->engine)->max_model_len)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "--input-len, --output-len: too long (got %u tokens, want at most %u)",
                        w->longest, oct_engine_get_info(b->engine)->max_model_len);
    return oct_engine_start(b->engine, err);
}

int offline_open(offline_options *o, const char *path, const offline_work *w, offline *b) {
    const uint64_t asked = (uint64_t)w->n_jobs * w->n_choices;
    oct_model_options mo = {.max_rows = (uint32_t)o->max_num_batched_tokens,
                            .max_seqs =
                                (uint32_t)(asked < o->max_num_seqs ? asked : o->max_num_seqs),
                            .max_model_len = w->longest};
    oct_err err = {0};
    *b = (offline){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    const tuning_sched sched = {.max_num_seqs = &o->max_num_seqs,
                                .max_num_batched_tokens = &o->max_num_batched_tokens,
                                .chunk_tokens = &o->chunk_tokens,
                                .long_partials = &o->long_partials};
    int status = tuning_read(&o->tuning, &o->open, &sched);
    if (status < 0) status = keep_check(&o->open, o->prefix_caching);
    tuning_model(&o->tuning, &mo);
    if (status < 0) status = open_model(&o->open, path, &mo, &b->m);
    if (status >= 0) return status;
    b->text = b->m.tokenizer && !o->skip_text;
    const oct_status st = start(o, w, b, &err);
    return st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
}

void offline_close(offline *b) {
    if (b->engine) oct_engine_stop(b->engine, 0);
    oct_engine_destroy(b->engine);
    b->engine = NULL;
    oct_kvstore_close(b->kvstore);
    b->kvstore = NULL;
    opened_close(&b->m);
}

/* On the engine thread. */
static void on_output(void *user, const oct_output *out) {
    offline *b = user;
    atomic_fetch_add_explicit(&b->n_drawn, out->n_tokens, memory_order_relaxed);
    if (out->finish == OCT_FINISH_NONE) return;
    pthread_mutex_lock(&b->lock);
    b->n_ended++;
    if (out->finish != OCT_FINISH_LENGTH && b->failed == OCT_OK) {
        b->failed = out->status != OCT_OK ? out->status : OCT_E_CANCELLED;
        snprintf(b->why, sizeof b->why, "%s", out->error[0] ? out->error : "a request was ended");
    }
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

/* Requests of one job are one prompt's choices: the same seed, one number each. */
static oct_status submit(offline *b, const offline_work *w, uint32_t job, uint32_t choice,
                         uint64_t group, uint64_t seed, oct_err *err) {
    const offline_job *j = &w->jobs[job];
    oct_request_spec spec = OCT_REQUEST_SPEC_DEFAULT;
    spec.prompt = w->ids + j->at;
    spec.n_prompt = j->n_prompt;
    spec.max_tokens = j->n_output;
    spec.ignore_eos = true;
    spec.detokenize = b->text;
    spec.sampling.has_seed = true;
    spec.sampling.seed = mix(seed, job);
    spec.sampling.choice = choice;
    spec.group = group;
    spec.on_output = on_output;
    spec.user = b;
    return oct_engine_submit(b->engine, &spec, NULL, err);
}

static void wait_for(offline *b, uint32_t n, uint64_t n_tokens, bar *shown) {
    pthread_mutex_lock(&b->lock);
    while (b->n_ended < n) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_NS;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&b->changed, &b->lock, &until);
        if (shown) bar_show(shown, atomic_load(&b->n_drawn), n_tokens);
    }
    pthread_mutex_unlock(&b->lock);
}

oct_status offline_run(offline *b, const offline_work *w, uint64_t seed, bar *shown,
                       double *seconds, oct_err *err) {
    uint32_t n = 0;
    oct_status st = OCT_OK;
    b->n_ended = 0;
    b->failed = OCT_OK;
    atomic_store(&b->n_drawn, 0);
    const uint64_t began = oct_now_ns();
    for (uint32_t j = 0; st == OCT_OK && j < w->n_jobs; j++) {
        const uint64_t group = w->n_choices > 1 ? oct_engine_new_group(b->engine) : 0;
        for (uint32_t c = 0; st == OCT_OK && c < w->n_choices; c++) {
            st = submit(b, w, j, c, group, seed, err);
            if (st == OCT_OK) n++;
        }
    }
    wait_for(b, n, w->n_output_tokens, shown); /* those that are in, also after a refusal */
    *seconds = (double)(oct_now_ns() - began) / 1e9;
    if (shown) bar_end(shown);
    if (st == OCT_E_FULL) return OCT_FAIL(err, st, "bench: the engine's queue is full");
    if (st == OCT_OK && b->failed != OCT_OK) return OCT_FAIL(err, b->failed, "%s", b->why);
    return st;
}

/* ---- reports --------------------------------------------------------------------------------- */

void offline_json_tail(FILE *to, const offline *b) {
    fprintf(to, "\"octet\": \"%s\", \"device\": \"%s\", \"scheme\": \"%s\"", OCT_VERSION,
            b->m.device->info.name, oct_model_get_info(b->m.model)->scheme);
}

int offline_tell(const offline_options *o, const offline_report *r) {
    if (o->json)
        r->json(r->ctx, stdout);
    else
        r->print(r->ctx);
    if (!o->output) return EXIT_CLEAN;
    FILE *f = fopen(o->output, "we");
    if (!f) return cli_fail(EXIT_SYSTEM, "--output-json: %s: %s", o->output, strerror(errno));
    r->json(r->ctx, f);
    const bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad)
        return cli_fail(EXIT_SYSTEM, "--output-json: %s: %s", o->output, strerror(errno));
    return EXIT_CLEAN;
}
