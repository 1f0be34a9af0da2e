/*
 * api/metrics_write.c - GET /metrics: Prometheus' text form, with the names, labels and buckets
 * that dashboards for vLLM know; octet's own series begin with "octet:".
 *
 * Every label comes from a fixed set, so no client can make the answer grow.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/metrics.h"
#include "base/num.h"

typedef struct writer {
    oct_buf *b;
    const char *labels; /* engine="0",model_name="..." */
    double created;
} writer;

static void add_number(oct_buf *b, double v) {
    char text[32];
    oct_format_f64(v, text);
    oct_buf_cstr(b, text);
}

static void head(const writer *w, const char *name, const char *suffix, const char *type,
                 const char *help) {
    oct_buf_printf(w->b, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, suffix, help, name, suffix,
                   type);
}

/* extra: further labels with a comma in front, or "". */
static void sample(const writer *w, const char *name, const char *suffix, const char *extra,
                   double v) {
    oct_buf_printf(w->b, "%s%s{%s%s} ", name, suffix, w->labels, extra);
    add_number(w->b, v);
    oct_buf_char(w->b, '\n');
}

static void gauge(const writer *w, const char *name, const char *help, double v) {
    head(w, name, "", "gauge", help);
    sample(w, name, "", "", v);
}

/* A counter for each of n label values (extra NULL: one without). */
static void counters(const writer *w, const char *name, const char *help, const char *const *extra,
                     const uint64_t *v, size_t n) {
    head(w, name, "_total", "counter", help);
    for (size_t i = 0; i < n; i++) sample(w, name, "_total", extra ? extra[i] : "", (double)v[i]);
    head(w, name, "_created", "gauge", help);
    for (size_t i = 0; i < n; i++) sample(w, name, "_created", extra ? extra[i] : "", w->created);
}

static void counter(const writer *w, const char *name, const char *help, uint64_t v) {
    counters(w, name, help, NULL, &v, 1);
}

static void histogram(const writer *w, const char *name, const char *help, const double *bounds,
                      const uint64_t *counts, size_t n_bounds, double sum) {
    uint64_t total = 0;
    head(w, name, "", "histogram", help);
    for (size_t i = 0; i <= n_bounds; i++) {
        char le[32] = "+Inf";
        if (i < n_bounds) oct_format_f64(bounds[i], le);
        total += counts[i];
        oct_buf_printf(w->b, "%s_bucket{%s,le=\"%s\"} ", name, w->labels, le);
        add_number(w->b, (double)total);
        oct_buf_char(w->b, '\n');
    }
    sample(w, name, "_count", "", (double)total);
    sample(w, name, "_sum", "", sum);
    head(w, name, "_created", "gauge", help);
    sample(w, name, "_created", "", w->created);
}

/* ---- parts ---- */

static void write_gauges(const oct_api *api, const writer *w, const oct_engine_stats *s) {
    static const char *const sleep[] = {",sleep_state=\"awake\"",
                                        ",sleep_state=\"weights_offloaded\"",
                                        ",sleep_state=\"discard_all\""};
    gauge(w, "vllm:num_requests_running", "Sequences in the running batch.", s->n_running);
    gauge(w, "vllm:num_requests_waiting", "Sequences that wait.", s->n_waiting);
    head(w, "vllm:num_requests_waiting_by_reason", "", "gauge", "Sequences that wait, by reason.");
    sample(w, "vllm:num_requests_waiting_by_reason", "", ",reason=\"capacity\"", s->n_waiting);
    sample(w, "vllm:num_requests_waiting_by_reason", "", ",reason=\"deferred\"", 0);
    gauge(w, "vllm:kv_cache_usage_perc", "Share of the cache blocks that is used, 0 to 1.",
          s->n_blocks ? (double)s->n_blocks_used / s->n_blocks : 0.0);
    head(w, "vllm:engine_sleep_state", "", "gauge", "1 for the state that the engine is in.");
    for (size_t i = 0; i < OCT_COUNT(sleep); i++)
        sample(w, "vllm:engine_sleep_state", "", sleep[i], i == 0);
    head(w, "vllm:cache_config_info", "", "gauge", "Settings of the cache.");
    oct_buf_printf(w->b,
                   "vllm:cache_config_info{block_size=\"%u\",cache_dtype=\"%s\","
                   "enable_prefix_caching=\"%s\",engine=\"0\",num_gpu_blocks=\"%u\"} 1.0\n",
                   api->info.block_tokens, api->cfg.kv_dtype,
                   api->info.prefix_caching ? "True" : "False", s->n_blocks);
}

static void write_counters(const writer *w, const oct_engine_stats *s) {
    static const char *const sources[] = {",source=\"local_compute\"",
                                          ",source=\"local_cache_hit\"",
                                          ",source=\"external_kv_transfer\""};
    static const char *const reasons[] = {
        ",finished_reason=\"stop\"", ",finished_reason=\"length\"", ",finished_reason=\"abort\"",
        ",finished_reason=\"error\"", ",finished_reason=\"repetition\""};
    const uint64_t local = s->cached_tokens - s->fetched_tokens;
    const uint64_t by_source[] = {s->prompt_tokens - s->cached_tokens, local, s->fetched_tokens};
    const uint64_t by_reason[] = {s->finished[OCT_FINISH_STOP], s->finished[OCT_FINISH_LENGTH],
                                  s->finished[OCT_FINISH_ABORT], s->finished[OCT_FINISH_ERROR], 0};
    counter(w, "vllm:prompt_tokens", "Prompt tokens processed.", s->prompt_tokens);
    counters(w, "vllm:prompt_tokens_by_source", "Prompt tokens by where their cache came from.",
             sources, by_source, OCT_COUNT(by_source));
    counter(w, "vllm:prompt_tokens_cached", "Prompt tokens found in a cache.", s->cached_tokens);
    counter(w, "vllm:generation_tokens", "Tokens generated.", s->generation_tokens);
    counters(w, "vllm:request_success", "Finished requests by reason.", reasons, by_reason,
             OCT_COUNT(by_reason));
    counter(w, "vllm:num_preemptions", "Preemptions.", s->n_preemptions);
    counter(w, "vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.",
            s->prefix_queries);
    counter(w, "vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache.", local);
    if (s->n_shelves > 0) {
        counter(w, "vllm:external_prefix_cache_queries",
                "Prompt tokens looked up beyond the prefix cache.", s->prefix_queries - local);
        counter(w, "vllm:external_prefix_cache_hits",
                "Prompt tokens that came back from host memory or disk.", s->fetched_tokens);
    }
    counter(w, "vllm:corrupted_requests", "Requests that met logits that are not finite.",
            s->n_not_finite);
}

/* Only where tokens are guessed. */
static void write_drafts(const writer *w, const oct_engine_stats *s, uint32_t n_draft) {
    if (n_draft == 0) return;
    counter(w, "vllm:spec_decode_num_drafts", "Steps of a sequence with guessed tokens.",
            s->n_drafts);
    counter(w, "vllm:spec_decode_num_draft_tokens", "Tokens guessed.", s->n_draft_tokens);
    counter(w, "vllm:spec_decode_num_accepted_tokens", "Guesses that were right.",
            s->n_accepted_tokens);
    char at[OCT_MAX_DRAFT_TOKENS][24];
    const char *labels[OCT_MAX_DRAFT_TOKENS];
    for (uint32_t i = 0; i < n_draft; i++) {
        snprintf(at[i], sizeof at[i], ",position=\"%u\"", i);
        labels[i] = at[i];
    }
    counters(w, "vllm:spec_decode_num_accepted_tokens_per_pos", "Right guesses by their place.",
             labels, s->accepted_at, n_draft);
}

static void write_steps(const writer *w, const oct_engine_stats *s) {
    double bounds[OCT_ENGINE_N_STEP_BUCKETS - 1];
    for (size_t i = 0; i < OCT_COUNT(bounds); i++) bounds[i] = oct_engine_step_bounds[i];
    histogram(w, "vllm:iteration_tokens_total", "Tokens of a step.", bounds, s->step_tokens,
              OCT_COUNT(bounds), (double)s->step_tokens_sum);
    counter(w, "octet:steps", "Steps of the engine.", s->n_steps);
    counter(w, "octet:shared_steps", "Steps of more than one sequence.", s->n_shared_steps);
    counter(w, "octet:mixed_steps", "Steps with both decodes and parts of prompts.",
            s->n_mixed_steps);
    gauge(w, "octet:queued_prompt_tokens", "Tokens of prompts without a first token.",
          (double)s->n_queued_tokens);
    gauge(w, "octet:prefix_cache_blocks", "Blocks whose content can be found.", s->prefix_blocks);
    counter(w, "octet:prefix_cache_evictions", "Blocks whose content was given up for another.",
            s->prefix_evictions);
    if (s->n_shelves > 0) {
        gauge(w, "octet:kv_offload_blocks", "Blocks kept in host memory alone.", s->n_shelves_used);
        gauge(w, "octet:kv_offload_capacity_blocks", "Blocks that host memory has room for.",
              s->n_shelves);
        counter(w, "octet:kv_offload_stores", "Blocks that went to host memory.", s->n_shelved);
        counter(w, "octet:kv_offload_loads", "Blocks that came back from there.", s->n_fetched);
    }
    if (s->has_kvstore) {
        gauge(w, "octet:kv_store_blocks", "Blocks in the folder that this model can use.",
              (double)s->kvstore_blocks);
        gauge(w, "octet:kv_store_bytes", "Bytes of all block files in the folder.",
              (double)s->kvstore_bytes);
        counter(w, "octet:kv_store_writes", "Blocks written to the folder.", s->kvstore_written);
        counter(w, "octet:kv_store_reads", "Blocks read from it.", s->kvstore_read);
        counter(w, "octet:kv_store_ignored", "Files that were damaged or foreign.",
                s->kvstore_ignored);
        counter(w, "octet:kv_store_failures", "Writes that the system refused.", s->kvstore_failed);
        counter(w, "octet:kv_store_deletions", "Files deleted to make room.", s->kvstore_deleted);
    }
    counter(w, "octet:failed_steps", "Steps that the device refused.", s->n_failed_steps);
    counter(w, "octet:computed_prompt_tokens",
            "Rows that were no decodes, those computed again included.", s->computed_prompt_tokens);
}

static void write_http(oct_buf *b, const oct_api_metrics *m) {
    static const char *const handlers[OCT_API_N_ROUTES] = {
        [OCT_API_ROUTE_CHAT] = "/v1/chat/completions",
        [OCT_API_ROUTE_COMPLETIONS] = "/v1/completions",
        [OCT_API_ROUTE_TOKENIZE] = "/tokenize",
        [OCT_API_ROUTE_DETOKENIZE] = "/detokenize",
        [OCT_API_ROUTE_MODELS] = "/v1/models",
        [OCT_API_ROUTE_OTHER] = "other",
    };
    oct_buf_cstr(b, "# HELP http_requests_total Answers by handler, method and status.\n"
                    "# TYPE http_requests_total counter\n");
    for (int r = 0; r < OCT_API_N_ROUTES; r++)
        for (int k = 0; handlers[r] && k < OCT_API_N_METHODS; k++)
            for (int c = 1; c < 6; c++)
                if (m->http[r][k][c] > 0)
                    oct_buf_printf(b,
                                   "http_requests_total{handler=\"%s\",method=\"%s\",status=\"%"
                                   "dxx\"} %llu.0\n",
                                   handlers[r], oct_http_method_name((oct_http_method)k), c,
                                   (unsigned long long)m->http[r][k][c]);
}

static void plain(oct_buf *b, const char *name, const char *type, const char *help, double v) {
    oct_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s ", name, help, name, type, name);
    add_number(b, v);
    oct_buf_char(b, '\n');
}

/* The second number of statm, in pages. */
static double resident_bytes(void) {
    char line[128] = "";
    uint64_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return 0;
    const bool ok = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    const char *at = strchr(line, ' ');
    if (!ok || !at) return 0;
    const oct_str number = {at + 1, strcspn(at + 1, " ")};
    return oct_parse_u64(number, &pages) ? (double)pages * (double)sysconf(_SC_PAGESIZE) : 0;
}

static double open_fds(void) {
    double n = -3; /* ".", ".." and the folder itself */
    DIR *d = opendir("/proc/self/fd");
    if (!d) return 0;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void write_process(oct_buf *b, double created) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    const double cpu = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    plain(b, "process_resident_memory_bytes", "gauge", "Resident memory in bytes.",
          resident_bytes());
    plain(b, "process_cpu_seconds_total", "counter", "Processor time used, in seconds.", cpu);
    plain(b, "process_open_fds", "gauge", "Open file descriptors.", open_fds());
    plain(b, "process_start_time_seconds", "gauge", "Start, in unix seconds.", created);
}

/* ---- all ---- */

/* A label's value with the three escapes of the text form. */
static void add_label(oct_buf *b, const char *s) {
    for (; *s; s++) {
        if (*s == '\\' || *s == '"') oct_buf_char(b, '\\');
        if (*s == '\n')
            oct_buf_cstr(b, "\\n");
        else
            oct_buf_char(b, *s);
    }
}

void oct_api_metrics_write(oct_api *api, oct_buf *out) {
    oct_engine_stats stats = {0};
    oct_buf labels;
    oct_api_metrics *copy = oct_alloc(api->mem, 1, sizeof *copy);
    if (!copy) {
        out->failed = true;
        return;
    }
    pthread_mutex_lock(&api->metrics->lock);
    memcpy(copy->hists, api->metrics->hists, sizeof copy->hists);
    memcpy(copy->http, api->metrics->http, sizeof copy->http);
    pthread_mutex_unlock(&api->metrics->lock);
    oct_engine_get_stats(api->cfg.engine, &stats);

    oct_buf_init(&labels, api->mem, 0);
    oct_buf_cstr(&labels, "engine=\"0\",model_name=\"");
    add_label(&labels, api->cfg.names[0]);
    oct_buf_char(&labels, '"');
    const writer w = {out, oct_buf_cs(&labels), api->metrics->created};
    write_gauges(api, &w, &stats);
    write_counters(&w, &stats);
    for (size_t i = 0; i < OCT_API_N_HISTS; i++) {
        const oct_api_hist *h = &copy->hists[i];
        histogram(&w, h->name, h->help, h->bounds, h->counts, h->n_bounds, h->sum);
    }
    write_drafts(&w, &stats, api->info.n_draft_tokens);
    write_steps(&w, &stats);
    write_http(out, copy);
    write_process(out, api->metrics->created);
    if (labels.failed) out->failed = true;
    oct_buf_fini(&labels);
    oct_free(api->mem, copy, 1, sizeof *copy);
}

void oct_api_route_metrics(oct_api *api, oct_http_exchange *x) {
    oct_buf b;
    oct_buf_init(&b, api->mem, 0);
    oct_api_metrics_write(api, &b);
    if (!b.failed)
        (void)oct_http_respond(x, 200, "text/plain; version=0.0.4; charset=utf-8",
                               oct_buf_view(&b));
    else
        oct_api_answer(api, x, 503, &b);
    oct_buf_fini(&b);
}
