/* api/metrics.h - the histograms and counters that this room keeps; between metrics.c and
 * metrics_write.c. */
#ifndef OCT_API_METRICS_H
#define OCT_API_METRICS_H

#include "api/parts.h"

enum { OCT_API_MAX_BOUNDS = 24, OCT_API_N_METHODS = OCT_HTTP_OPTIONS + 1 };

typedef enum oct_api_hist_id {
    OCT_API_TTFT,
    OCT_API_ITL,
    OCT_API_TPOT,
    OCT_API_E2E,
    OCT_API_QUEUE,
    OCT_API_PREFILL,
    OCT_API_DECODE,
    OCT_API_INFERENCE,
    OCT_API_PROMPT,
    OCT_API_GENERATION,
    OCT_API_MOST_GENERATED,
    OCT_API_MAX_TOKENS,
    OCT_API_COMPUTED,
    OCT_API_N,
    OCT_API_N_HISTS
} oct_api_hist_id;

typedef struct oct_api_hist {
    const char *name, *help;
    uint32_t n_bounds;
    double bounds[OCT_API_MAX_BOUNDS];
    uint64_t counts[OCT_API_MAX_BOUNDS + 1]; /* not cumulative; the last is open */
    double sum;
} oct_api_hist;

struct oct_api_metrics {
    const oct_allocator *mem;
    double created; /* unix seconds */
    pthread_mutex_t lock;
    oct_api_hist hists[OCT_API_N_HISTS];
    uint64_t http[OCT_API_N_ROUTES][OCT_API_N_METHODS][6]; /* by status class */
};

#endif
