/* api/metrics.h - the histograms and counters that this room keeps; between metrics.c and
 * metrics_write.c. */
#ifndef OCT_API_METRICS_H
#define OCT_API_METRICS_H

#include "api/parts.h"

enum { OCT_API_MAX_BOUNDS = 24, OCT_API_N_METHODS = OCT_HTTP_OPTIONS + 1, OCT_API_N_LOW = 4 };

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
    OCT_API_HTTP, /* the last: it has no labels */
    OCT_API_N_HISTS
} oct_api_hist_id;

typedef struct oct_api_hist {
    const char *name, *help;
    uint32_t n_bounds;
    double bounds[OCT_API_MAX_BOUNDS];
    uint64_t counts[OCT_API_MAX_BOUNDS + 1]; /* not cumulative; the last is open */
    double sum;
} oct_api_hist;

/* Answers of one route to one method. */
typedef struct oct_api_http_method {
    uint64_t by_class[6];           /* by status / 100 */
    uint64_t counts[OCT_API_N_LOW]; /* by oct_api_http_bounds, not cumulative */
    double seconds;
} oct_api_http_method;

typedef struct oct_api_http_route {
    oct_api_http_method methods[OCT_API_N_METHODS];
    uint64_t n, request_bytes, response_bytes;
} oct_api_http_route;

extern const double oct_api_http_bounds[OCT_API_N_LOW - 1];

struct oct_api_metrics {
    const oct_allocator *mem;
    double created; /* unix seconds */
    pthread_mutex_t lock;
    oct_api_hist hists[OCT_API_N_HISTS];
    oct_api_http_route http[OCT_API_N_ROUTES];
};

#endif
