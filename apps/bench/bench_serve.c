/*
 * apps/bench/bench_serve.c - `octet bench serve`: load for a server that speaks OpenAI's API, ours
 * or another, and the report. Options, data sets, arrivals, report and JSON are those of
 * `vllm bench serve`, so that figures can be laid side by side.
 *
 * Arrivals at a finite rate are gamma distributed gaps (burstiness 1: a Poisson process), stretched
 * so that the last is at n / rate; a ramp changes the rate from request to request and is not
 * stretched.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench_online.h"
#include "bench/client.h"
#include "bench/dataset.h"
#include "bench/figures.h"
#include "bench/random.h"
#include "codec/json.h"
#include "open.h"

typedef struct serve_bench {
    open_options open; /* of which only the tokenizer's */
    client_server server;
    cli_strings fields, metadata, goodput;
    const char *backend, *base_url, *host, *endpoint, *model, *served_name, *extra_body;
    uint64_t port, max_concurrency, n_warmups, ready_s;
    double rate;
    const char *rate_text, *ramp, *percentile_metrics, *percentiles;
    double burstiness, ramp_from, ramp_to;
    dataset_options data;
    bool ignore_eos, logprobs_given, json, save, detailed, append, quiet;
    uint64_t logprobs;
    double temperature, top_p, min_p, frequency_penalty, presence_penalty, repetition_penalty;
    bool temperature_given, top_p_given, min_p_given, top_k_given, frequency_given, presence_given;
    uint64_t top_k;
    const char *result_dir, *result_file, *label, *id_prefix, *plot;
    /* found out */
    char url[1024], id_room[32], model_room[512], root[1024];
    json_t *extra; /* keys of every body */
    oct_tokenizer *tok;
    dataset d;
    figures_options f;
    bool chat;
} serve_bench;

/* ---- what is sent ---- */

static json_t *message_of(oct_str text) {
    return json_pack("[{s:s, s:[{s:s, s:s%}]}]", "role", "user", "content", "type", "text", "text",
                     text.ptr ? text.ptr : "", text.len);
}

static json_t *body_of(const serve_bench *b, oct_str text, uint32_t n_output) {
    json_t *body = json_pack("{s:s, s:b, s:{s:b}}", "model", b->model, "stream", 1,
                             "stream_options", "include_usage", 1);
    if (b->chat) {
        json_object_set_new(body, "messages", message_of(text));
        json_object_set_new(body, "max_completion_tokens", json_integer(n_output));
    } else {
        json_object_set_new(body, "prompt", json_stringn(text.ptr ? text.ptr : "", text.len));
        json_object_set_new(body, "max_tokens", json_integer(n_output));
        json_object_set_new(body, "repetition_penalty", json_real(1.0));
    }
    if (b->logprobs_given)
        json_object_set_new(body, "logprobs",
                            b->chat ? json_true() : json_integer((json_int_t)b->logprobs));
    if (b->ignore_eos) json_object_set_new(body, "ignore_eos", json_true());
    json_object_update(body, b->extra);
    return body;
}

static void write_body(const void *ctx, uint32_t i, oct_buf *out) {
    const serve_bench *b = ctx;
    json_t *body = body_of(b, dataset_text(&b->d, i), b->d.items[i].n_output);
    oct_json_dump(out, body, JSON_COMPACT);
    json_decref(body);
}

/* ---- when ---- */

static double rate_at(const serve_bench *b, uint32_t i, uint32_t n) {
    const double at = n > 1 ? (double)i / (n - 1) : 0;
    if (!b->ramp) return b->rate;
    if (strcmp(b->ramp, "linear") == 0) return b->ramp_from + (b->ramp_to - b->ramp_from) * at;
    return b->ramp_from * pow(b->ramp_to / b->ramp_from, at);
}

static void arrivals(const serve_bench *b, double *due, uint32_t n) {
    bench_random random;
    double now = 0;
    if (b->rate == 0 && !b->ramp) return; /* all at 0 */
    bench_random_seed(&random, b->data.seed);
    for (uint32_t i = 0; i < n; i++) {
        const double rate = rate_at(b, i, n);
        now += bench_random_gamma(&random, b->burstiness, 1 / (rate * b->burstiness));
        due[i] = now;
    }
    const double stretch = n > 0 && now > 0 ? n / b->rate / now : 1;
    for (uint32_t i = 0; !b->ramp && i < n; i++) due[i] *= stretch;
}

/* ---- the server ---- */

static int find_server(serve_bench *b) {
    const bool v6 = strchr(b->host, ':') && b->host[0] != '[';
    if (b->base_url)
        snprintf(b->url, sizeof b->url, "%s", b->base_url);
    else
        snprintf(b->url, sizeof b->url, "http://%s%s%s:%" PRIu64, v6 ? "[" : "", b->host,
                 v6 ? "]" : "", b->port);
    b->chat = strcmp(b->backend, "openai-chat") == 0;
    if (!b->endpoint) b->endpoint = b->chat ? "/v1/chat/completions" : "/v1/completions";
    b->server.url = b->url;
    b->server.endpoint = b->endpoint;
    b->server.fields = &b->fields;
    b->server.key = getenv("OPENAI_API_KEY");
    for (unsigned i = 0; i < b->fields.n; i++)
        if (!strchr(b->fields.at[i], '='))
            return cli_fail(EXIT_USAGE, "--header: want NAME=VALUE (got %.64s)", b->fields.at[i]);
    return -1;
}

/* The model's name and folder, as the server tells them, where flags leave them open. */
static int find_model(serve_bench *b) {
    oct_buf answer;
    oct_err err = {0};
    json_t *v = NULL;
    int status = -1;
    const char *id, *root;
    if (b->served_name && !b->model) b->model = b->served_name;
    if (b->model && (b->open.tokenizer || access(b->model, F_OK) == 0)) {
        snprintf(b->root, sizeof b->root, "%s", b->model);
    } else {
        oct_buf_init(&answer, oct_system_allocator(), 16 << 20);
        const long code = client_get(&b->server, "/v1/models", &answer, &err);
        if (code != 200)
            status = code == 0 ? cli_fail(EXIT_SYSTEM, "%s", err.text)
                               : cli_fail(EXIT_SYSTEM, "%s/v1/models: HTTP %ld", b->url, code);
        else if (oct_json_parse(oct_buf_view(&answer), "/v1/models", &oct_json_file_limits, &v,
                                &err) != OCT_OK)
            status = cli_fail(EXIT_SYSTEM, "%s", err.text);
        oct_buf_fini(&answer);
        const json_t *card = json_array_get(json_object_get(v, "data"), 0);
        id = json_string_value(json_object_get(card, "id"));
        root = json_string_value(json_object_get(card, "root"));
        if (status < 0 && !id)
            status = cli_fail(EXIT_SYSTEM, "%s/v1/models: no model there; want --model", b->url);
        if (status < 0) {
            snprintf(b->model_room, sizeof b->model_room, "%s", id);
            snprintf(b->root, sizeof b->root, "%s", root ? root : id);
            if (!b->model) b->model = b->model_room;
        }
        json_decref(v);
    }
    if (b->served_name) b->model = b->served_name;
    return status;
}

static int find_tokenizer(serve_bench *b) {
    const char *path = b->open.tokenizer ? b->open.tokenizer : b->root;
    if (access(path, F_OK) != 0)
        return cli_fail(EXIT_MODEL,
                        "--tokenizer: want the model's folder or GGUF file to count tokens with "
                        "(the server's, %.200s, is not here)",
                        path);
    b->open.tokenizer = NULL;
    return open_tokenizer(&b->open, path, &b->tok);
}

static void set_given(json_t *to, const char *key, bool given, double x) {
    if (given) json_object_set_new(to, key, json_real(x));
}

static int make_extra(serve_bench *b) {
    oct_err err = {0};
    json_t *given = NULL;
    b->extra = json_object();
    set_given(b->extra, "temperature", b->temperature_given, b->temperature);
    set_given(b->extra, "top_p", b->top_p_given, b->top_p);
    set_given(b->extra, "min_p", b->min_p_given, b->min_p);
    if (b->top_k_given) json_object_set_new(b->extra, "top_k", json_integer((json_int_t)b->top_k));
    set_given(b->extra, "frequency_penalty", b->frequency_given, b->frequency_penalty);
    set_given(b->extra, "presence_penalty", b->presence_given, b->presence_penalty);
    set_given(b->extra, "repetition_penalty", b->repetition_penalty > 0, b->repetition_penalty);
    if (!b->extra_body) return -1;
    if (oct_json_parse(oct_str_of(b->extra_body), "--extra-body", &oct_json_request_limits, &given,
                       &err) != OCT_OK)
        return cli_fail(EXIT_USAGE, "%s", err.text);
    const bool object = json_is_object(given);
    if (object) json_object_update(b->extra, given);
    json_decref(given);
    return object ? -1 : cli_fail(EXIT_USAGE, "--extra-body: want a JSON object");
}

/* ---- one request before the others ---- */

static oct_status send_first(serve_bench *b, uint32_t n, client_result *r, oct_err *err) {
    double *due = oct_calloc(oct_system_allocator(), n, sizeof *due), seconds;
    if (!due) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    const client_plan p = {.server = b->server,
                           .id_prefix = b->id_prefix,
                           .n = n,
                           .due = due,
                           .at_a_time = (uint32_t)b->max_concurrency,
                           .body = write_body,
                           .ctx = b};
    const oct_status st = client_run(&p, r, &seconds, err);
    oct_free(oct_system_allocator(), due, n, sizeof *due);
    return st;
}

static int wait_ready(serve_bench *b) {
    const time_t until = time(NULL) + (time_t)b->ready_s;
    oct_err err = {0};
    while (b->ready_s > 0) {
        char why[CLIENT_ERROR_BYTES];
        client_result *r = oct_calloc(oct_system_allocator(), 1, sizeof *r);
        oct_status st =
            r ? send_first(b, 1, r, &err) : OCT_FAIL(&err, OCT_E_NOMEM, "bench: no memory");
        const bool ok = st == OCT_OK && r->ok;
        snprintf(why, sizeof why, "%s", r ? r->error : "");
        if (r) client_results_free(r, 1);
        if (ok) return -1;
        if (st != OCT_OK) return cli_fail(cli_status_of(st), "%s", err.text);
        if (time(NULL) >= until)
            return cli_fail(EXIT_SYSTEM, "no answer from %s%s within %" PRIu64 " s: %s", b->url,
                            b->endpoint, b->ready_s, why);
        sleep(until - time(NULL) < 5 ? 1 : 5);
    }
    return -1;
}

static int warm_up(serve_bench *b) {
    const uint32_t n = b->n_warmups < b->d.n ? (uint32_t)b->n_warmups : b->d.n;
    oct_err err = {0};
    if (n == 0) return -1;
    client_result *r = oct_calloc(oct_system_allocator(), n, sizeof *r);
    const oct_status st =
        r ? send_first(b, n, r, &err) : OCT_FAIL(&err, OCT_E_NOMEM, "bench: no memory");
    client_results_free(r, n);
    return st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
}

/* ---- drafts, as the server counts them ---- */

typedef struct drafts {
    double n_drafts, n_tokens, n_accepted;
} drafts;

static double metric_sum(const char *text, const char *name) {
    double sum = 0;
    const size_t len = strlen(name);
    for (const char *p = text; (p = strstr(p, name)); p += len) {
        const char *value = p + len;
        if ((p != text && p[-1] != '\n') || (*value != '{' && *value != ' ')) continue;
        if (*value == '{') value += strcspn(value, "}\n");
        value += *value == '}';
        sum += strtod(value, NULL);
    }
    return sum;
}

static drafts read_drafts(const serve_bench *b) {
    oct_buf text;
    oct_err err = {0};
    drafts d = {0};
    oct_buf_init(&text, oct_system_allocator(), 64 << 20);
    if (client_get(&b->server, "/metrics", &text, &err) == 200) {
        const char *t = oct_buf_cs(&text);
        d.n_drafts = metric_sum(t, "vllm:spec_decode_num_drafts_total");
        d.n_tokens = metric_sum(t, "vllm:spec_decode_num_draft_tokens_total");
        d.n_accepted = metric_sum(t, "vllm:spec_decode_num_accepted_tokens_total");
    }
    oct_buf_fini(&text);
    return d;
}

static drafts drafts_since(const serve_bench *b, const drafts *before) {
    const drafts now = read_drafts(b);
    return (drafts){now.n_drafts - before->n_drafts, now.n_tokens - before->n_tokens,
                    now.n_accepted - before->n_accepted};
}

/* ---- telling ---- */

static void print_drafts(const drafts *d) {
    if (d->n_drafts <= 0 || d->n_tokens <= 0) return;
    puts("---------------Speculative Decoding---------------");
    printf("%-40s %-10.2f\n", "Acceptance rate (%):", 100 * d->n_accepted / d->n_tokens);
    printf("%-40s %-10.2f\n", "Acceptance length:", 1 + d->n_accepted / d->n_drafts);
    printf("%-40s %-10.0f\n", "Drafts:", d->n_drafts);
    printf("%-40s %-10.0f\n", "Draft tokens:", d->n_tokens);
    printf("%-40s %-10.0f\n", "Accepted tokens:", d->n_accepted);
    puts("==================================================");
}

static json_t *rate_json(double rate) { return rate > 0 ? json_real(rate) : json_string("inf"); }

static void add_details(json_t *to, const serve_bench *b, const client_result *r) {
    static const char *const keys[] = {"input_lens",  "output_lens",     "ttfts", "itls",
                                       "start_times", "generated_texts", "errors"};
    json_t *lists[OCT_COUNT(keys)];
    for (size_t k = 0; k < OCT_COUNT(keys); k++)
        json_object_set_new(to, keys[k], lists[k] = json_array());
    for (uint32_t i = 0; i < b->d.n; i++) {
        json_t *gaps = json_array();
        for (uint32_t g = 0; g < r[i].n_gaps; g++)
            json_array_append_new(gaps, json_real(r[i].gaps[g]));
        json_array_append_new(
            lists[0], json_integer(r[i].n_prompt >= 0 ? r[i].n_prompt : b->d.items[i].n_prompt));
        json_array_append_new(lists[1], json_integer(r[i].n_output >= 0 ? r[i].n_output : 0));
        json_array_append_new(lists[2], json_real(r[i].ok ? r[i].first - r[i].sent : 0));
        json_array_append_new(lists[3], gaps);
        json_array_append_new(lists[4], json_real(r[i].sent));
        json_array_append_new(lists[5], json_stringn(oct_buf_cs(&r[i].text), r[i].text.len));
        json_array_append_new(lists[6], json_string(r[i].error));
    }
}

static json_t *result_json(const serve_bench *b, const figures *f, const drafts *d,
                           const client_result *r) {
    char date[32];
    const time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(date, sizeof date, "%Y%m%d-%H%M%S", &tm);
    json_t *to = json_pack("{s:s, s:s, s:s, s:s?, s:s, s:s, s:I}", "date", date, "endpoint_type",
                           b->backend, "backend", b->backend, "label", b->label, "model_id",
                           b->model, "tokenizer_id", b->root, "num_prompts", (json_int_t)b->d.n);
    for (unsigned i = 0; i < b->metadata.n; i++) {
        const char *eq = strchr(b->metadata.at[i], '=');
        char key[128];
        snprintf(key, sizeof key, "%.*s", (int)(eq - b->metadata.at[i]), b->metadata.at[i]);
        json_object_set_new(to, key, json_string(eq + 1));
    }
    json_object_set_new(to, "request_rate", rate_json(b->rate));
    json_object_set_new(to, "burstiness", json_real(b->burstiness));
    json_object_set_new(to, "max_concurrency",
                        b->max_concurrency ? json_integer((json_int_t)b->max_concurrency)
                                           : json_null());
    if (b->ramp) {
        json_object_set_new(to, "ramp_up_strategy", json_string(b->ramp));
        json_object_set_new(to, "ramp_up_start_rps", json_real(b->ramp_from));
        json_object_set_new(to, "ramp_up_end_rps", json_real(b->ramp_to));
    }
    figures_json(&b->f, f, to);
    if (d->n_tokens > 0 && d->n_drafts > 0) {
        json_object_set_new(to, "spec_decode_acceptance_rate",
                            json_real(100 * d->n_accepted / d->n_tokens));
        json_object_set_new(to, "spec_decode_acceptance_length",
                            json_real(1 + d->n_accepted / d->n_drafts));
        json_object_set_new(to, "spec_decode_num_drafts", json_integer((json_int_t)d->n_drafts));
        json_object_set_new(to, "spec_decode_draft_tokens", json_integer((json_int_t)d->n_tokens));
        json_object_set_new(to, "spec_decode_accepted_tokens",
                            json_integer((json_int_t)d->n_accepted));
    }
    if (b->detailed) add_details(to, b, r);
    return to;
}

static void default_file(const serve_bench *b, const json_t *result, char *out, size_t bytes) {
    const char *slash = strrchr(b->model, '/'), *base = slash ? slash + 1 : b->model;
    const char *date = json_string_value(json_object_get(result, "date"));
    char rate[32] = "inf", at_a_time[40] = "";
    if (b->rate > 0) snprintf(rate, sizeof rate, "%g", b->rate);
    if (b->max_concurrency)
        snprintf(at_a_time, sizeof at_a_time, "-concurrency%" PRIu64, b->max_concurrency);
    snprintf(out, bytes, "%s-%sqps%s-%s-%s.json", b->label ? b->label : b->backend, rate, at_a_time,
             base, date);
}

static int save_result(const serve_bench *b, const json_t *result) {
    char name[512], path[2048];
    if (!b->save && !b->append) return -1;
    if (b->result_file)
        snprintf(name, sizeof name, "%s", b->result_file);
    else
        default_file(b, result, name, sizeof name);
    snprintf(path, sizeof path, "%s%s%s", b->result_dir ? b->result_dir : "",
             b->result_dir ? "/" : "", name);
    FILE *f = fopen(path, b->append ? "ae" : "we");
    if (!f) return cli_fail(EXIT_SYSTEM, "--save-result: %s: %s", path, strerror(errno));
    const bool bad = json_dumpf(result, f, JSON_COMPACT) != 0 || fputc('\n', f) == EOF;
    if (fclose(f) != 0 || bad)
        return cli_fail(EXIT_SYSTEM, "--save-result: %s: %s", path, strerror(errno));
    fprintf(stderr, "result: %s\n", path);
    return -1;
}

static void tell_first_error(const client_result *r, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (r[i].ok) continue;
        fprintf(stderr, "octet: a request failed: %s\n", r[i].error);
        return;
    }
}

typedef struct live {
    uint32_t n;
    bool shown;
} live;

static void on_progress(void *ctx, uint32_t n_done, uint64_t n_events, double seconds) {
    live *l = ctx;
    fprintf(stderr, "\r\033[K%" PRIu32 " of %" PRIu32 " requests, %.0f tokens/s, %.0f s", n_done,
            l->n, (double)n_events / seconds, seconds);
    l->shown = true;
}

/* ---- the run ---- */

static int tell(serve_bench *b, const figures *f, const drafts *d, const client_result *r) {
    json_t *result = result_json(b, f, d, r);
    int status = -1;
    if (b->json) {
        json_dumpf(result, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        figures_print(&b->f, f);
        print_drafts(d);
    }
    status = save_result(b, result);
    if (status < 0 && b->plot) {
        char title[700];
        snprintf(title, sizeof title, "%s, %" PRIu32 " requests", b->model, b->d.n);
        status = figures_plot(f, title, b->plot);
    }
    json_decref(result);
    if (status < 0 && f->n_ok == 0) status = cli_fail(EXIT_SYSTEM, "no request succeeded");
    return status < 0 ? EXIT_CLEAN : status;
}

static int measure(serve_bench *b) {
    const oct_allocator *mem = oct_system_allocator();
    const uint32_t n = b->d.n;
    double *due = oct_calloc(mem, n, sizeof *due), seconds;
    client_result *r = oct_calloc(mem, n, sizeof *r);
    live l = {.n = n};
    oct_err err = {0};
    figures f = {0};
    int status;
    const bool show = !b->quiet && isatty(STDERR_FILENO);
    const client_plan p = {.server = b->server,
                           .id_prefix = b->id_prefix,
                           .n = n,
                           .due = due,
                           .at_a_time = (uint32_t)b->max_concurrency,
                           .keep_texts = true,
                           .usage_ends = b->chat,
                           .body = write_body,
                           .ctx = b,
                           .progress = show ? on_progress : NULL,
                           .progress_ctx = &l};
    oct_status st = due && r ? OCT_OK : OCT_FAIL(&err, OCT_E_NOMEM, "bench: no memory");
    const drafts before = read_drafts(b);
    if (st == OCT_OK) {
        arrivals(b, due, n);
        st = client_run(&p, r, &seconds, &err);
    }
    if (l.shown) fputs("\r\033[K", stderr);
    if (st == OCT_OK) st = figures_make(&b->f, &b->d, r, n, seconds, b->tok, &f, &err);
    if (st == OCT_OK) {
        const drafts d = drafts_since(b, &before);
        tell_first_error(r, n);
        status = tell(b, &f, &d, r);
    } else {
        status = cli_fail(cli_status_of(st), "%s", err.text);
    }
    figures_free(&f);
    client_results_free(r, n);
    oct_free(mem, due, n, sizeof *due);
    return status;
}

static int read_rate(serve_bench *b) {
    char *end;
    if (strcmp(b->rate_text, "inf") != 0) {
        b->rate = strtod(b->rate_text, &end);
        if (end == b->rate_text || *end || !(b->rate > 0) || b->rate > 1e9)
            return cli_fail(EXIT_USAGE, "--request-rate: want a positive number or inf (got %.32s)",
                            b->rate_text);
    }
    if (b->ramp && (b->rate > 0 || !(b->ramp_from > 0) || !(b->ramp_to > 0)))
        return cli_fail(EXIT_USAGE, "--ramp-up-strategy: want --ramp-up-start-rps and "
                                    "--ramp-up-end-rps, both positive, and no --request-rate");
    return -1;
}

static int read_lists(serve_bench *b) {
    int status = figures_read_metrics(b->percentile_metrics, &b->f);
    if (status < 0) status = figures_read_percentiles(b->percentiles, &b->f);
    for (unsigned i = 0; status < 0 && i < b->goodput.n; i++)
        status = figures_read_goodput(b->goodput.at[i], &b->f);
    for (unsigned i = 0; status < 0 && i < b->metadata.n; i++)
        if (!strchr(b->metadata.at[i], '='))
            status =
                cli_fail(EXIT_USAGE, "--metadata: want KEY=VALUE (got %.64s)", b->metadata.at[i]);
    b->f.request_rate = b->rate;
    b->f.max_concurrency = (uint32_t)b->max_concurrency;
    return status;
}

static int run(serve_bench *b) {
    oct_err err = {0};
    int status = read_rate(b);
    if (status < 0) status = read_lists(b);
    if (status < 0) status = find_server(b);
    if (status < 0) status = make_extra(b);
    if (status < 0) status = find_model(b);
    if (status < 0) status = find_tokenizer(b);
    if (dataset_ignores_eos(&b->data)) b->ignore_eos = true;
    if (!b->id_prefix) {
        snprintf(b->id_room, sizeof b->id_room, "bench-%08x-",
                 (unsigned)(time(NULL) * 2654435761u ^ (unsigned)getpid()));
        b->id_prefix = b->id_room;
    }
    if (status < 0 && dataset_make(&b->data, b->tok, &b->d, &err) != OCT_OK)
        status = cli_fail(EXIT_USAGE, "%s", err.text);
    if (status < 0) status = wait_ready(b);
    if (status < 0) status = warm_up(b);
    if (status < 0) status = measure(b);
    dataset_free(&b->d);
    oct_tokenizer_destroy(b->tok);
    json_decref(b->extra);
    return status;
}

/* ---- the command ---- */

static const cli_command serve_command = {
    .name = "bench serve",
    .summary = "load for a server, ours or any that speaks OpenAI's API, and a report",
    .usage = "",
    .examples = "  octet bench serve --num-prompts 200 --request-rate 10\n"
                "  octet bench serve --backend openai-chat --dataset-name sharegpt --dataset-path "
                "ShareGPT.json\n"
                "  octet bench serve --base-url http://127.0.0.1:8000 --max-concurrency 32 "
                "--random-input-len 512 "
                "--plot run.svg\n",
    .notes =
        "The model's name and folder are asked of the server unless --model and --tokenizer say "
        "them.\nOPENAI_API_KEY is sent as bearer token.",
};

enum { N_LOAD = 15, N_ANSWER = 11, N_RESULT = 13 };

static void load_flags(serve_bench *b, cli_flag flags[N_LOAD]) {
    const cli_flag all[N_LOAD] = {
        cli_choice("backend", &b->backend, "openai|vllm|openai-chat", "completions or chats"),
        cli_string("base-url", &b->base_url, "URL", "of the server, instead of host and port"),
        cli_string("host", &b->host, "NAME", "of the server"),
        cli_count("port", &b->port, 1, 65535, "of the server"),
        cli_string("uds", &b->server.unix_socket, "PATH", "a socket of this machine instead"),
        cli_string("endpoint", &b->endpoint, "PATH", "/v1/completions, or of chats"),
        cli_many("header", &b->fields, "NAME=VALUE", "sent with every request"),
        cli_switch("insecure", &b->server.insecure, "certificates are not checked"),
        cli_string("request-rate", &b->rate_text, "R", "requests a second, or inf: all at once"),
        cli_number("burstiness", &b->burstiness, "B", 1e-3, 1e6,
                   "shape of the gaps between requests; 1: a Poisson process"),
        cli_count("max-concurrency", &b->max_concurrency, 1, 65536,
                  "most requests on their way; no limit unless given"),
        cli_choice("ramp-up-strategy", &b->ramp, "linear|exponential", "the rate grows"),
        cli_number("ramp-up-start-rps", &b->ramp_from, "R", 0, 1e9, "from so many a second"),
        cli_number("ramp-up-end-rps", &b->ramp_to, "R", 0, 1e9, "to so many"),
        {.name = "num-warmups",
         .type = CLI_COUNT,
         .out = &b->n_warmups,
         .value = "N",
         .max = 1 << 20,
         .help = "requests before those that are counted"},
    };
    memcpy(flags, all, sizeof all);
}

static cli_flag given_number(const char *name, double *out, double min, double max, bool *given) {
    cli_flag f = cli_number(name, out, "X", min, max, "sent only when given");
    f.given = given;
    return f;
}

static void answer_flags(serve_bench *b, cli_flag flags[N_ANSWER]) {
    cli_flag all[N_ANSWER] = {
        cli_string("model", &b->model, "NAME", "in requests; the server's first unless given"),
        cli_string("served-model-name", &b->served_name, "NAME",
                   "in requests, when --model names a folder"),
        cli_switch("ignore-eos", &b->ignore_eos, "answers go on to their length (random: always)"),
        {.name = "logprobs",
         .type = CLI_COUNT,
         .out = &b->logprobs,
         .value = "N",
         .max = 20,
         .given = &b->logprobs_given,
         .help = "asked for with every token"},
        given_number("temperature", &b->temperature, 0, 100, &b->temperature_given),
        given_number("top-p", &b->top_p, 0, 1, &b->top_p_given),
        given_number("min-p", &b->min_p, 0, 1, &b->min_p_given),
        {.name = "top-k",
         .type = CLI_COUNT,
         .out = &b->top_k,
         .value = "N",
         .max = 1 << 20,
         .given = &b->top_k_given,
         .help = "sent only when given"},
        given_number("frequency-penalty", &b->frequency_penalty, -2, 2, &b->frequency_given),
        given_number("presence-penalty", &b->presence_penalty, -2, 2, &b->presence_given),
        cli_string("extra-body", &b->extra_body, "JSON", "keys of every request"),
    };
    memcpy(flags, all, sizeof all);
}

static void result_flags(serve_bench *b, cli_flag flags[N_RESULT]) {
    const cli_flag all[N_RESULT] = {
        cli_string("percentile-metrics", &b->percentile_metrics, "M,...",
                   "of ttft, tpot, itl, e2el: which the report has"),
        cli_string("metric-percentiles", &b->percentiles, "P,...", "of them"),
        cli_many("goodput", &b->goodput, "M:MS",
                 "requests that keep this count as good: ttft:200, tpot:50, e2el:5000"),
        cli_switch("json", &b->json, "the report as a JSON object on stdout"),
        cli_switch("save-result", &b->save, "the same into a file"),
        cli_switch("save-detailed", &b->detailed, "with times, texts and errors of each request"),
        cli_switch("append-result", &b->append, "behind what the file holds"),
        cli_string("result-dir", &b->result_dir, "FOLDER", "where the file goes"),
        cli_string("result-filename", &b->result_file, "NAME", "instead of one made of the run"),
        cli_many("metadata", &b->metadata, "KEY=VALUE", "into the result"),
        cli_string("label", &b->label, "TEXT", "of the result, instead of the backend's name"),
        cli_string("request-id-prefix", &b->id_prefix, "TEXT", "of X-Request-Id"),
        cli_string("plot", &b->plot, "FILE",
                   "latencies and throughput drawn into FILE.svg or FILE.png (by gnuplot)"),
    };
    memcpy(flags, all, sizeof all);
}

int bench_serve_run(int argc, char **argv) {
    serve_bench b = {.open = OPEN_OPTIONS_DEFAULT,
                     .backend = "openai",
                     .host = "127.0.0.1",
                     .port = 8000,
                     .rate_text = "inf",
                     .burstiness = 1,
                     .percentile_metrics = "ttft,tpot,itl",
                     .percentiles = "99",
                     .data = DATASET_OPTIONS_DEFAULT};
    cli_flag load[N_LOAD], answer[N_ANSWER], result[N_RESULT], data[DATASET_N_FLAGS];
    load_flags(&b, load);
    answer_flags(&b, answer);
    result_flags(&b, result);
    dataset_flags(&b.data, data);
    const cli_flag more[] = {
        cli_string("tokenizer", &b.open.tokenizer, "PATH", "folder or GGUF file to count with"),
        {.name = "ready-check-timeout-sec",
         .type = CLI_COUNT,
         .out = &b.ready_s,
         .value = "S",
         .max = 86400,
         .help = "how long a first request is tried before the run; 0: not at all"},
        {.name = "disable-tqdm",
         .alias = "-q",
         .type = CLI_SWITCH,
         .out = &b.quiet,
         .help = "no progress"},
    };
    const cli_group groups[] = {{"Load", load, N_LOAD},
                                {"Prompts", data, DATASET_N_FLAGS},
                                {"Answers", answer, N_ANSWER},
                                {"Report", result, N_RESULT},
                                {"Other", more, OCT_COUNT(more)}};
    const char *pos[CLI_MAX_STRINGS];
    unsigned n_pos;
    const int status = cli_parse(&serve_command, groups, OCT_COUNT(groups), argc, argv, pos,
                                 CLI_MAX_STRINGS, &n_pos);
    if (status >= 0) return status;
    /* As in `--goodput ttft:200 tpot:50`. */
    for (unsigned i = 0; i < n_pos; i++) {
        if (b.goodput.n == 0 || b.goodput.n == CLI_MAX_STRINGS)
            return cli_fail(EXIT_USAGE, "bench serve: no argument is wanted (got %.64s)", pos[i]);
        b.goodput.at[b.goodput.n++] = pos[i];
    }
    return run(&b);
}
