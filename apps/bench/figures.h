/*
 * apps/bench/figures.h - what a run against a server comes to: the figures, the report and the JSON
 * object of `vllm bench serve`, by its definitions.
 *
 *   TTFT   first event - sent                       TPOT  (latency - TTFT) / (tokens - 1)
 *   ITL    gaps between events, of all requests     E2EL  end - sent
 *
 * A percentile interpolates between order statistics (place p / 100 * (n - 1)); a standard
 * deviation is of the population; nothing at all counts as 0.
 */
#ifndef OCT_APPS_BENCH_FIGURES_H
#define OCT_APPS_BENCH_FIGURES_H

#include <jansson.h>

#include "bench/client.h"
#include "bench/dataset.h"

enum { FIGURES_MAX_PERCENTILES = 16 };

typedef enum figures_metric {
    FIGURES_TTFT,
    FIGURES_TPOT,
    FIGURES_ITL,
    FIGURES_E2EL,
    FIGURES_N
} figures_metric;

/* Milliseconds, ascending. */
typedef struct figures_values {
    double *at; /* [n] */
    uint64_t n, cap;
} figures_values;

typedef struct figures_options {
    bool shown[FIGURES_N];
    double percentiles[FIGURES_MAX_PERCENTILES];
    uint32_t n_percentiles;
    double goodput_ms[FIGURES_N]; /* 0: not asked */
    bool goodput;
    double request_rate; /* 0: all at once */
    uint32_t max_concurrency;
} figures_options;

typedef struct figures {
    double seconds;
    uint32_t n_ok, n_failed, n_good;
    uint64_t n_input, n_output;
    double peak_tokens, peak_requests;
    uint32_t *tokens_in, *open_in; /* [n_bins] of a second each */
    uint32_t n_bins;
    figures_values values[FIGURES_N];
} figures;

/* n_output of a result is the server's count, else the tokenizer's of its text. OCT_E_NOMEM. */
OCT_MUST_CHECK oct_status figures_make(const figures_options *o, const dataset *d,
                                       const client_result *r, uint32_t n, double seconds,
                                       const oct_tokenizer *tok, figures *out, oct_err *err);
void figures_free(figures *f);

double figures_percentile(const figures_values *v, double percent);
void figures_print(const figures_options *o, const figures *f);
/* Adds the figures' keys to a JSON object. */
void figures_json(const figures_options *o, const figures *f, json_t *to);

/* "ttft,tpot": which are shown; "50,99". -1, or the exit status. */
int figures_read_metrics(const char *list, figures_options *o);
int figures_read_percentiles(const char *list, figures_options *o);
/* "ttft:200" */
int figures_read_goodput(const char *item, figures_options *o);

/* Draws percentiles of latencies, and tokens and requests over time, into a file .svg or .png
 * through gnuplot. -1, or the exit status. */
int figures_plot(const figures *f, const char *title, const char *path);

#endif
