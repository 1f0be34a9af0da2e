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
    const char *labels; /* engine="0",model_name="..."; "": none */
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
    if (w->labels[0])
        oct_buf_printf(w->b, "%s%s{%s%s} ", name, suffix, w->labels, extra);
    else
        oct_buf_printf(w->b, "%s%s ", name, suffix);
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

/* Buckets, count and sum of one child; its labels are those of the writer. */
static void buckets(const writer *w, const char *name, const double *bounds, const uint64_t *counts,
                    size_t n_bounds, double sum) {
    uint64_t total = 0;
    for (size_t i = 0; i <= n_bounds; i++) {
        char le[32] = "+Inf";
        if (i < n_bounds) oct_format_f64(bounds[i], le);
        total += counts[i];
        oct_buf_printf(w->b, "%s_bucket{%s%sle=\"%s\"} ", name, w->labels, w->labels[0] ? "," : "",
                       le);
        add_number(w->b, (double)total);
        oct_buf_char(w->b, '\n');
    }
    sample(w, name, "_count", "", (double)total);
    sample(w, name, "_sum", "", sum);
}

static void histogram(const writer *w, const char *name, const char *help, const double *bounds,
                      const uint64_t *counts, size_t n_bounds, double sum) {
    head(w, name, "", "histogram", help);
    buckets(w, name, bounds, counts, n_bounds, sum);
    head(w, name, "_created", "gauge", help);
    sample(w, name, "_created", "", w->created);
}

static void hist_of(const writer *w, const oct_api_hist *h) {
    histogram(w, h->name, h->help, h->bounds, h->counts, h->n_bounds, h->sum);
}

/* ---- parts ---- */

static void write_gauges(const writer *w, const oct_engine_stats *s) {
    static const char *const sleep[] = {",sleep_state=\"awake\"",
                                        ",sleep_state=\"weights_offloaded\"",
                                        ",sleep_state=\"discard_all\""};
    gauge(w, "vllm:num_requests_running", "Sequences in the running batch.", s->n_running);
    gauge(w, "vllm:num_requests_waiting", "Sequences that wait.", s->n_waiting);
    head(w, "vllm:num_requests_waiting_by_reason", "", "gauge", "Sequences that wait, by reason.");
    const uint32_t n_deferred = s->n_deferred < s->n_waiting ? s->n_deferred : s->n_waiting;
    sample(w, "vllm:num_requests_waiting_by_reason", "", ",reason=\"capacity\"",
           s->n_waiting - n_deferred);
    sample(w, "vllm:num_requests_waiting_by_reason", "", ",reason=\"deferred\"", n_deferred);
    gauge(w, "vllm:kv_cache_usage_perc", "Share of the cache blocks that is used, 0 to 1.",
          s->n_blocks ? (double)s->n_blocks_used / s->n_blocks : 0.0);
    head(w, "vllm:engine_sleep_state", "", "gauge", "1 for the state that the engine is in.");
    for (size_t i = 0; i < OCT_COUNT(sleep); i++)
        sample(w, "vllm:engine_sleep_state", "", sleep[i], i == 0);
}

static void add_label(oct_buf *b, const char *s);

static void write_config(const oct_api *api, const writer *w, const oct_engine_stats *s) {
    head(w, "vllm:cache_config_info", "", "gauge", "Settings of the cache.");
    oct_buf_printf(w->b,
                   "vllm:cache_config_info{block_size=\"%u\",enable_prefix_caching=\"%s\",engine="
                   "\"0\",num_gpu_blocks=\"%u\"",
                   api->info.block_tokens, api->info.prefix_caching ? "True" : "False",
                   s->n_blocks);
    for (uint32_t i = 0; i < api->cfg.n_cache_labels; i++) {
        oct_buf_printf(w->b, ",%s=\"", api->cfg.cache_labels[i].name);
        add_label(w->b, api->cfg.cache_labels[i].value);
        oct_buf_char(w->b, '"');
    }
    oct_buf_cstr(w->b, "} 1.0\n");
    head(w, "octet:build_info", "", "gauge", "The version that answers.");
    oct_buf_printf(w->b, "octet:build_info{version=\"%s\"} 1.0\n", api->cfg.version);
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
    counter(w, "vllm:external_prefix_cache_queries",
            "Prompt tokens looked up beyond the prefix cache.",
            s->n_shelves > 0 ? s->prefix_queries - local : 0);
    counter(w, "vllm:external_prefix_cache_hits",
            "Prompt tokens that came back from host memory or disk.", s->fetched_tokens);
    counter(w, "vllm:mm_cache_queries", "Images and sounds looked up: there are none.", 0);
    counter(w, "vllm:mm_cache_hits", "Images and sounds found: there are none.", 0);
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

/* What lies beyond the device: host memory, and a folder. Zeros where there is none. */
static void write_stores(const writer *w, const oct_engine_stats *s) {
    gauge(w, "octet:kv_offload_blocks", "Blocks kept in host memory alone.", s->n_shelves_used);
    gauge(w, "octet:kv_offload_capacity_blocks", "Blocks that host memory has room for.",
          s->n_shelves);
    counter(w, "octet:kv_offload_stores", "Blocks that went to host memory.", s->n_shelved);
    counter(w, "octet:kv_offload_loads", "Blocks that came back from there.", s->n_fetched);
    gauge(w, "octet:kv_store_blocks", "Blocks in the folder that this model can use.",
          (double)s->kvstore_blocks);
    gauge(w, "octet:kv_store_bytes", "Bytes of all block files in the folder.",
          (double)s->kvstore_bytes);
    counter(w, "octet:kv_store_writes", "Blocks written to the folder.", s->kvstore_written);
    counter(w, "octet:kv_store_reads", "Blocks read from it.", s->kvstore_read);
    counter(w, "octet:kv_store_ignored", "Files that were damaged or foreign.", s->kvstore_ignored);
    counter(w, "octet:kv_store_failures", "Writes that the system refused.", s->kvstore_failed);
    counter(w, "octet:kv_store_deletions", "Files deleted to make room.", s->kvstore_deleted);
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
    head(w, "octet:step_seconds", "_total", "counter", "Time in which a step was on its way.");
    sample(w, "octet:step_seconds", "_total", "", (double)s->step_ns_sum / 1e9);
    counter(w, "octet:failed_steps", "Steps that the device refused.", s->n_failed_steps);
    counter(w, "octet:computed_prompt_tokens",
            "Rows that were no decodes, those computed again included.", s->computed_prompt_tokens);
}

/* ---- HTTP: the names of the usual instrumentation of Python servers ---- */

/* Calls fn for every route and method that is told: those that there are, and others once used. */
static void each_method(const writer *w, const oct_api_metrics *m,
                        void (*fn)(const writer *w, const oct_api_http_method *h,
                                   const char *labels)) {
    char labels[192];
    unsigned methods;
    for (int r = 0; r < OCT_API_N_ROUTES; r++) {
        const char *path = oct_api_route_label((oct_api_route_id)r, &methods);
        for (int k = 0; path && k < OCT_API_N_METHODS; k++) {
            const oct_api_http_method *h = &m->http[r].methods[k];
            uint64_t n = 0;
            for (int c = 1; c < 6; c++) n += h->by_class[c];
            if (n == 0 && (k == OCT_HTTP_HEAD || !(methods >> k & 1))) continue;
            snprintf(labels, sizeof labels, "handler=\"%s\",method=\"%s\"", path,
                     oct_http_method_name((oct_http_method)k));
            fn(w, h, labels);
        }
    }
}

static void write_answers(const writer *w, const oct_api_http_method *h, const char *labels) {
    for (int c = 1; c < 6; c++)
        if (h->by_class[c] > 0 || c == 2 || c > 3)
            oct_buf_printf(w->b, "http_requests_total{%s,status=\"%dxx\"} %llu.0\n", labels, c,
                           (unsigned long long)h->by_class[c]);
}

static void write_answers_created(const writer *w, const oct_api_http_method *h,
                                  const char *labels) {
    for (int c = 1; c < 6; c++) {
        if (h->by_class[c] == 0 && c != 2 && c < 4) continue;
        oct_buf_printf(w->b, "http_requests_created{%s,status=\"%dxx\"} ", labels, c);
        add_number(w->b, w->created);
        oct_buf_char(w->b, '\n');
    }
}

static void write_duration(const writer *w, const oct_api_http_method *h, const char *labels) {
    const writer own = {w->b, labels, w->created};
    buckets(&own, "http_request_duration_seconds", oct_api_http_bounds, h->counts,
            OCT_API_N_LOW - 1, h->seconds);
}

static void write_duration_created(const writer *w, const oct_api_http_method *h,
                                   const char *labels) {
    const writer own = {w->b, labels, w->created};
    (void)h;
    sample(&own, "http_request_duration_seconds", "_created", "", w->created);
}

/* A sum and a count for each route. */
static void write_sizes(const writer *w, const oct_api_metrics *m, const char *name,
                        const char *help, bool of_answers) {
    unsigned methods;
    char labels[128];
    const writer own = {w->b, labels, w->created};
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 0)
            head(w, name, "", "summary", help);
        else
            head(w, name, "_created", "gauge", help);
        for (int r = 0; r < OCT_API_N_ROUTES; r++) {
            const oct_api_http_route *h = &m->http[r];
            const char *path = oct_api_route_label((oct_api_route_id)r, &methods);
            if (!path) continue;
            snprintf(labels, sizeof labels, "handler=\"%s\"", path);
            if (pass == 1) {
                sample(&own, name, "_created", "", w->created);
                continue;
            }
            sample(&own, name, "_count", "", (double)h->n);
            sample(&own, name, "_sum", "",
                   (double)(of_answers ? h->response_bytes : h->request_bytes));
        }
    }
}

static void write_http(oct_buf *b, const oct_api_metrics *m) {
    const writer w = {b, "", m->created};
    const char *const requests = "http_requests", *const duration = "http_request_duration_seconds";
    const char *const n_help = "Answers by handler, method and status.";
    const char *const s_help = "Time from a request's head to its last byte of answer.";
    head(&w, requests, "_total", "counter", n_help);
    each_method(&w, m, write_answers);
    head(&w, requests, "_created", "gauge", n_help);
    each_method(&w, m, write_answers_created);
    write_sizes(&w, m, "http_request_size_bytes", "Bytes of bodies that came.", false);
    write_sizes(&w, m, "http_response_size_bytes", "Bytes of bodies that were answered.", true);
    hist_of(&w, &m->hists[OCT_API_HTTP]);
    head(&w, duration, "", "histogram", s_help);
    each_method(&w, m, write_duration);
    head(&w, duration, "_created", "gauge", s_help);
    each_method(&w, m, write_duration_created);
}

/* What the server of connections knows. */
static void write_connections(oct_buf *b, const oct_api *api) {
    const writer w = {b, "", api->metrics->created};
    oct_http_stats s = {0};
    if (api->cfg.http) oct_http_server_stats(api->cfg.http, &s);
    gauge(&w, "octet:http_connections", "Open connections.", (double)s.connections_open);
    gauge(&w, "octet:http_requests_open", "Requests that are not answered to their end.",
          (double)s.exchanges_open);
    counter(&w, "octet:http_connections_accepted", "Connections taken.", s.connections);
    counter(&w, "octet:http_connections_refused", "Connections turned away at the limit.",
            s.connections_refused);
    counter(&w, "octet:http_aborted", "Requests whose client left or stalled before the end.",
            s.aborted);
    counter(&w, "octet:http_received_bytes", "Bytes that came.", s.bytes_in);
    counter(&w, "octet:http_sent_bytes", "Bytes that were sent.", s.bytes_out);
}

static void plain(oct_buf *b, const char *name, const char *type, const char *help, double v) {
    oct_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s ", name, help, name, type, name);
    add_number(b, v);
    oct_buf_char(b, '\n');
}

/* The first two numbers of statm, in pages: all of the address space, and what is in memory. */
static void memory_bytes(double *all, double *resident) {
    char line[128] = "";
    double *const out[] = {all, resident};
    const char *at = line;
    *all = *resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return;
    if (!fgets(line, sizeof line, f)) line[0] = '\0';
    fclose(f);
    for (size_t i = 0; i < OCT_COUNT(out); i++) {
        uint64_t pages = 0;
        const oct_str number = {at, strcspn(at, " ")};
        if (!oct_parse_u64(number, &pages)) return;
        *out[i] = (double)pages * (double)sysconf(_SC_PAGESIZE);
        at += number.len + (at[number.len] == ' ');
    }
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
    double all, resident;
    struct rlimit files;
    memory_bytes(&all, &resident);
    plain(b, "process_virtual_memory_bytes", "gauge", "Address space in bytes.", all);
    plain(b, "process_resident_memory_bytes", "gauge", "Resident memory in bytes.", resident);
    plain(b, "process_cpu_seconds_total", "counter", "Processor time used, in seconds.", cpu);
    plain(b, "process_open_fds", "gauge", "Open file descriptors.", open_fds());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        plain(b, "process_max_fds", "gauge", "Most open file descriptors.", (double)files.rlim_cur);
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
    copy->created = api->metrics->created;
    pthread_mutex_unlock(&api->metrics->lock);
    oct_engine_get_stats(api->cfg.engine, &stats);

    oct_buf_init(&labels, api->mem, 0);
    oct_buf_cstr(&labels, "engine=\"0\",model_name=\"");
    add_label(&labels, api->cfg.names[0]);
    oct_buf_char(&labels, '"');
    const writer w = {out, oct_buf_cs(&labels), api->metrics->created};
    write_gauges(&w, &stats);
    write_config(api, &w, &stats);
    write_counters(&w, &stats);
    for (size_t i = 0; i < OCT_API_HTTP; i++) hist_of(&w, &copy->hists[i]);
    write_drafts(&w, &stats, api->info.n_draft_tokens);
    write_steps(&w, &stats);
    write_stores(&w, &stats);
    write_http(out, copy);
    write_connections(out, api);
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
