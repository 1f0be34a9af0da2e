/* apps/bench/figures.c - see figures.h. */
#include "figures.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static const struct {
    const char *key, *heading, *name;
} metrics[FIGURES_N] = {{"ttft", "Time to First Token", "TTFT"},
                        {"tpot", "Time per Output Token (excl. 1st token)", "TPOT"},
                        {"itl", "Inter-token Latency", "ITL"},
                        {"e2el", "End-to-end Latency", "E2EL"}};

/* ---- lists ---- */

static int metric_of(const char *name, size_t len) {
    for (int m = 0; m < FIGURES_N; m++)
        if (strlen(metrics[m].key) == len && memcmp(metrics[m].key, name, len) == 0) return m;
    return -1;
}

int figures_read_metrics(const char *list, figures_options *o) {
    for (const char *p = list; *p;) {
        const size_t len = strcspn(p, ",");
        const int m = metric_of(p, len);
        if (m < 0)
            return cli_fail(EXIT_USAGE,
                            "--percentile-metrics: want ttft, tpot, itl, e2el (got %.*s)", (int)len,
                            p);
        o->shown[m] = true;
        p += len + (p[len] == ',');
    }
    return -1;
}

int figures_read_percentiles(const char *list, figures_options *o) {
    for (const char *p = list; *p;) {
        char *end;
        const double x = strtod(p, &end);
        if (end == p || (*end && *end != ',') || !(x >= 0 && x <= 100))
            return cli_fail(EXIT_USAGE,
                            "--metric-percentiles: want numbers of 0 to 100 (got %.32s)", p);
        if (o->n_percentiles == FIGURES_MAX_PERCENTILES)
            return cli_fail(EXIT_USAGE, "--metric-percentiles: want at most %d",
                            FIGURES_MAX_PERCENTILES);
        o->percentiles[o->n_percentiles++] = x;
        p = end + (*end == ',');
    }
    return -1;
}

int figures_read_goodput(const char *item, figures_options *o) {
    const size_t len = strcspn(item, ":");
    const int m = metric_of(item, len);
    char *end = NULL;
    const double ms = item[len] ? strtod(item + len + 1, &end) : 0;
    if (m < 0 || m == FIGURES_ITL || !end || *end || !(ms > 0))
        return cli_fail(
            EXIT_USAGE,
            "--goodput: want ttft, tpot or e2el and milliseconds, as ttft:200 (got %.32s)", item);
    o->goodput_ms[m] = ms;
    o->goodput = true;
    return -1;
}

/* ---- figures ---- */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double figures_percentile(const figures_values *v, double percent) {
    if (v->n == 0) return 0;
    const double place = percent / 100 * (double)(v->n - 1);
    const uint64_t below = (uint64_t)floor(place);
    if (below + 1 >= v->n) return v->at[v->n - 1];
    return v->at[below] + (v->at[below + 1] - v->at[below]) * (place - below);
}

static double mean_of(const figures_values *v) {
    double sum = 0;
    for (uint64_t i = 0; i < v->n; i++) sum += v->at[i];
    return v->n ? sum / (double)v->n : 0;
}

static double deviation_of(const figures_values *v) {
    const double mean = mean_of(v);
    double sum = 0;
    for (uint64_t i = 0; i < v->n; i++) sum += (v->at[i] - mean) * (v->at[i] - mean);
    return v->n ? sqrt(sum / (double)v->n) : 0;
}

static uint64_t tokens_of(const client_result *r, const oct_tokenizer *tok) {
    oct_ids ids;
    oct_err err = {0};
    uint64_t n = r->n_gaps + 1u;
    if (r->n_output >= 0) return (uint64_t)r->n_output;
    oct_ids_init(&ids, oct_system_allocator());
    if (tok && oct_tokenizer_encode(tok, oct_buf_view(&r->text), OCT_ENCODE_PARSE_SPECIAL, &ids,
                                    &err) == OCT_OK)
        n = ids.len;
    oct_ids_fini(&ids);
    return n;
}

static bool is_good(const figures_options *o, const double ms[FIGURES_N]) {
    for (int m = 0; m < FIGURES_N; m++)
        if (o->goodput_ms[m] > 0 && ms[m] > o->goodput_ms[m]) return false;
    return true;
}

static void count_bins(figures *f, const client_result *r, double t0) {
    double at = r->first - t0;
    const uint32_t last = f->n_bins - 1;
    for (uint32_t i = 0; i <= r->n_gaps; at += i < r->n_gaps ? r->gaps[i] : 0, i++)
        f->tokens_in[at >= last ? last : at < 0 ? 0 : (uint32_t)at]++;
    const double from = r->sent - t0, to = r->last - t0;
    for (uint32_t b = from < 0 ? 0 : (uint32_t)from; b <= last && b <= to; b++) f->open_in[b]++;
}

static void take(const figures_options *o, const client_result *r, uint64_t n_output, figures *f) {
    const double latency = (r->last - r->sent) * 1e3, ttft = (r->first - r->sent) * 1e3;
    double ms[FIGURES_N] = {ttft, 0, 0, latency};
    if (n_output > 1) {
        ms[FIGURES_TPOT] = (latency - ttft) / (double)(n_output - 1);
        f->values[FIGURES_TPOT].at[f->values[FIGURES_TPOT].n++] = ms[FIGURES_TPOT];
    }
    f->values[FIGURES_TTFT].at[f->values[FIGURES_TTFT].n++] = ttft;
    f->values[FIGURES_E2EL].at[f->values[FIGURES_E2EL].n++] = latency;
    for (uint32_t i = 0; i < r->n_gaps; i++)
        f->values[FIGURES_ITL].at[f->values[FIGURES_ITL].n++] = r->gaps[i] * 1e3;
    f->n_good += is_good(o, ms);
}

static bool make_room(figures *f, const client_result *r, uint32_t n) {
    const oct_allocator *mem = oct_system_allocator();
    uint64_t n_gaps = 0;
    bool all = true;
    for (uint32_t i = 0; i < n; i++) n_gaps += r[i].n_gaps;
    for (int m = 0; m < FIGURES_N; m++) {
        f->values[m].cap = (m == FIGURES_ITL ? n_gaps : n) + 1;
        f->values[m].at = oct_calloc(mem, f->values[m].cap, sizeof(double));
        all = all && f->values[m].at;
    }
    f->n_bins = (uint32_t)f->seconds + 2;
    f->tokens_in = oct_calloc(mem, f->n_bins, sizeof *f->tokens_in);
    f->open_in = oct_calloc(mem, f->n_bins, sizeof *f->open_in);
    return all && f->tokens_in && f->open_in;
}

oct_status figures_make(const figures_options *o, const dataset *d, const client_result *r,
                        uint32_t n, double seconds, const oct_tokenizer *tok, figures *f,
                        oct_err *err) {
    *f = (figures){.seconds = seconds};
    if (!make_room(f, r, n)) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    for (uint32_t i = 0; i < n; i++) {
        if (!r[i].ok) {
            f->n_failed++;
            continue;
        }
        const uint64_t n_output = tokens_of(&r[i], tok);
        f->n_ok++;
        f->n_output += n_output;
        f->n_input += r[i].n_prompt >= 0 ? (uint64_t)r[i].n_prompt : d->items[i].n_prompt;
        take(o, &r[i], n_output, f);
        count_bins(f, &r[i], r[0].sent);
    }
    for (int m = 0; m < FIGURES_N; m++)
        qsort(f->values[m].at, f->values[m].n, sizeof(double), by_value);
    for (uint32_t b = 0; b < f->n_bins; b++) {
        if (f->tokens_in[b] > f->peak_tokens) f->peak_tokens = f->tokens_in[b];
        if (f->open_in[b] > f->peak_requests) f->peak_requests = f->open_in[b];
    }
    return OCT_OK;
}

void figures_free(figures *f) {
    const oct_allocator *mem = oct_system_allocator();
    for (int m = 0; m < FIGURES_N; m++)
        oct_free(mem, f->values[m].at, f->values[m].cap, sizeof(double));
    oct_free(mem, f->tokens_in, f->n_bins, sizeof *f->tokens_in);
    oct_free(mem, f->open_in, f->n_bins, sizeof *f->open_in);
    *f = (figures){0};
}

/* ---- the report ---- */

static void heading(const char *text, char fill) {
    const int n = 50, len = (int)strlen(text), left = (n - len) / 2;
    for (int i = 0; i < n; i++) putchar(i < left || i >= left + len ? fill : text[i - left]);
    putchar('\n');
}

static void line_count(const char *label, uint64_t n) {
    printf("%-40s %-10" PRIu64 "\n", label, n);
}
static void line_number(const char *label, double x) { printf("%-40s %-10.2f\n", label, x); }

static const char *percent_name(double p, char out[32]) {
    snprintf(out, 32, "%g", p);
    return out;
}

static void print_metric(const figures_options *o, const figures *f, int m) {
    const figures_values *v = &f->values[m];
    char label[80], p[32];
    heading(metrics[m].heading, '-');
    snprintf(label, sizeof label, "Mean %s (ms):", metrics[m].name);
    line_number(label, mean_of(v));
    snprintf(label, sizeof label, "Median %s (ms):", metrics[m].name);
    line_number(label, figures_percentile(v, 50));
    for (uint32_t i = 0; i < o->n_percentiles; i++) {
        snprintf(label, sizeof label, "P%s %s (ms):", percent_name(o->percentiles[i], p),
                 metrics[m].name);
        line_number(label, figures_percentile(v, o->percentiles[i]));
    }
}

void figures_print(const figures_options *o, const figures *f) {
    const double s = f->seconds > 0 ? f->seconds : 1;
    heading(" Serving Benchmark Result ", '=');
    line_count("Successful requests:", f->n_ok);
    line_count("Failed requests:", f->n_failed);
    if (o->max_concurrency) line_count("Maximum request concurrency:", o->max_concurrency);
    if (o->request_rate > 0) line_number("Request rate configured (RPS):", o->request_rate);
    line_number("Benchmark duration (s):", f->seconds);
    line_count("Total input tokens:", f->n_input);
    line_count("Total generated tokens:", f->n_output);
    line_number("Request throughput (req/s):", f->n_ok / s);
    if (o->goodput) line_number("Request goodput (req/s):", f->n_good / s);
    line_number("Output token throughput (tok/s):", (double)f->n_output / s);
    line_number("Peak output token throughput (tok/s):", f->peak_tokens);
    line_number("Peak concurrent requests:", f->peak_requests);
    line_number("Total token throughput (tok/s):", (double)(f->n_input + f->n_output) / s);
    for (int m = 0; m < FIGURES_N; m++)
        if (o->shown[m]) print_metric(o, f, m);
    heading("", '=');
}

static void set_real(json_t *to, const char *form, const char *key, double x) {
    char name[64];
    snprintf(name, sizeof name, "%s_%s_ms", form, key);
    json_object_set_new(to, name, json_real(x));
}

void figures_json(const figures_options *o, const figures *f, json_t *to) {
    const double s = f->seconds > 0 ? f->seconds : 1;
    json_object_set_new(to, "duration", json_real(f->seconds));
    json_object_set_new(to, "completed", json_integer(f->n_ok));
    json_object_set_new(to, "failed", json_integer(f->n_failed));
    json_object_set_new(to, "total_input_tokens", json_integer((json_int_t)f->n_input));
    json_object_set_new(to, "total_output_tokens", json_integer((json_int_t)f->n_output));
    json_object_set_new(to, "request_throughput", json_real(f->n_ok / s));
    json_object_set_new(to, "request_goodput", o->goodput ? json_real(f->n_good / s) : json_null());
    json_object_set_new(to, "output_throughput", json_real((double)f->n_output / s));
    json_object_set_new(to, "total_token_throughput",
                        json_real((double)(f->n_input + f->n_output) / s));
    json_object_set_new(to, "max_output_tokens_per_s", json_real(f->peak_tokens));
    json_object_set_new(to, "max_concurrent_requests", json_integer((json_int_t)f->peak_requests));
    json_object_set_new(to, "rtfx", json_real(0));
    for (int m = 0; m < FIGURES_N; m++) {
        const figures_values *v = &f->values[m];
        char form[40], p[32];
        if (!o->shown[m]) continue;
        set_real(to, "mean", metrics[m].key, mean_of(v));
        set_real(to, "median", metrics[m].key, figures_percentile(v, 50));
        set_real(to, "std", metrics[m].key, deviation_of(v));
        for (uint32_t i = 0; i < o->n_percentiles; i++) {
            snprintf(form, sizeof form, "p%s", percent_name(o->percentiles[i], p));
            set_real(to, form, metrics[m].key, figures_percentile(v, o->percentiles[i]));
        }
    }
}

/* ---- the drawing ---- */

static void send_values(FILE *to, const figures_values *v) {
    for (int p = 0; p <= 100; p++)
        fprintf(to, "%d %.6g\n", p, fmax(figures_percentile(v, p), 1e-3));
    fputs("e\n", to);
}

static void send_bins(FILE *to, const uint32_t *bins, uint32_t n) {
    for (uint32_t b = 0; b < n; b++) fprintf(to, "%.1f %" PRIu32 "\n", b + 0.5, bins[b]);
    fputs("e\n", to);
}

int figures_plot(const figures *f, const char *title, const char *path) {
    const oct_str name = oct_str_of(path);
    const bool svg = oct_str_ends(name, OCT_STR(".svg")), png = oct_str_ends(name, OCT_STR(".png"));
    if (!svg && !png)
        return cli_fail(EXIT_USAGE, "--plot: want a file that ends in .svg or .png (got %.200s)",
                        path);
    if (strpbrk(path, "'\n"))
        return cli_fail(EXIT_USAGE, "--plot: a name without ' is wanted (got %.200s)", path);
    FILE *g = popen("gnuplot", "we");
    if (!g) return cli_fail(EXIT_SYSTEM, "--plot: gnuplot does not start");
    fprintf(g, "set terminal %s size 1000,800\nset output '%s'\n", svg ? "svg" : "pngcairo", path);
    fputs("set multiplot layout 2,1 title \"", g);
    for (const char *t = title; *t; t++) fputc(strchr("\"\\`\n", *t) ? ' ' : *t, g);
    fputs("\" noenhanced\nset grid\nset key left top\n", g);
    fputs("set xlabel 'percentile'\nset ylabel 'milliseconds'\nset logscale y\n"
          "plot '-' w l lw 2 t 'TTFT', '-' w l lw 2 t 'TPOT', '-' w l lw 2 t 'ITL', "
          "'-' w l lw 2 t 'E2EL'\n",
          g);
    for (int m = 0; m < FIGURES_N; m++) send_values(g, &f->values[m]);
    fputs("unset logscale y\nset xlabel 'seconds'\nset ylabel 'tokens/s'\nset y2label 'requests'\n"
          "set ytics nomirror\nset y2tics\nset yrange [0:*]\nset y2range [0:*]\n"
          "plot '-' w l lw 2 t 'tokens/s', '-' axes x1y2 w l lw 2 t 'requests at a time'\n",
          g);
    send_bins(g, f->tokens_in, f->n_bins - 1);
    send_bins(g, f->open_in, f->n_bins - 1);
    fputs("unset multiplot\nset output\n", g);
    if (pclose(g) != 0)
        return cli_fail(EXIT_SYSTEM, "--plot: gnuplot failed, or is not installed (package "
                                     "gnuplot-nox)");
    return -1;
}
