/*
 * api/metrics.c - what happened, as histograms. Observed on the engine thread, read by whoever asks
 * for /metrics; the lock is held for a few additions or one copy.
 */
#include "api/metrics.h"
#include "base/assert.h"
#include "base/clock.h"

static const double ttft_bounds[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                     1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
static const double itl_bounds[] = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                    .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
static const double request_bounds[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                        30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
static const double n_bounds[] = {1, 2, 5, 10, 20};
static const double http_bounds[] = {.01, .025, .05, .075, .1,  .25, .5,  .75, 1,  1.5, 2,
                                     2.5, 3,    3.5, 4,    4.5, 5,   7.5, 10,  30, 60};
const double oct_api_http_bounds[OCT_API_N_LOW - 1] = {.1, .5, 1};

typedef struct hist_desc {
    const char *name, *help;
    const double *bounds; /* NULL: 1 2 5 10 ... up to the longest sequence */
    uint32_t n;
} hist_desc;

#define BOUNDS(array) array, OCT_COUNT(array)
static const hist_desc descs[OCT_API_N_HISTS] = {
    [OCT_API_TTFT] = {"vllm:time_to_first_token_seconds", "Time from arrival to the first token.",
                      BOUNDS(ttft_bounds)},
    [OCT_API_ITL] = {"vllm:inter_token_latency_seconds", "Time between two tokens of a request.",
                     BOUNDS(itl_bounds)},
    [OCT_API_TPOT] = {"vllm:request_time_per_output_token_seconds",
                      "Mean time between the tokens of a request.", BOUNDS(itl_bounds)},
    [OCT_API_E2E] = {"vllm:e2e_request_latency_seconds", "Time from arrival to the last token.",
                     BOUNDS(request_bounds)},
    [OCT_API_QUEUE] = {"vllm:request_queue_time_seconds", "Time in the queue.",
                       BOUNDS(request_bounds)},
    [OCT_API_PREFILL] = {"vllm:request_prefill_time_seconds",
                         "Time from the first step to the first token.", BOUNDS(request_bounds)},
    [OCT_API_DECODE] = {"vllm:request_decode_time_seconds",
                        "Time from the first to the last token.", BOUNDS(request_bounds)},
    [OCT_API_INFERENCE] = {"vllm:request_inference_time_seconds",
                           "Time from the first step to the last token.", BOUNDS(request_bounds)},
    [OCT_API_PROMPT] = {"vllm:request_prompt_tokens", "Prompt tokens of a request.", NULL, 0},
    [OCT_API_GENERATION] = {"vllm:request_generation_tokens", "Output tokens of a request.", NULL,
                            0},
    [OCT_API_MOST_GENERATED] = {"vllm:request_max_num_generation_tokens",
                                "Output tokens of the longest choice.", NULL, 0},
    [OCT_API_MAX_TOKENS] = {"vllm:request_params_max_tokens", "Most output tokens allowed.", NULL,
                            0},
    [OCT_API_COMPUTED] = {"vllm:request_prefill_kv_computed_tokens",
                          "Prompt tokens that were computed, not found in the cache.", NULL, 0},
    [OCT_API_N] = {"vllm:request_params_n", "Choices asked for.", BOUNDS(n_bounds)},
    [OCT_API_HTTP] = {"http_request_duration_highr_seconds",
                      "Time from a request's head to its last byte of answer, fine.",
                      BOUNDS(http_bounds)},
};
#undef BOUNDS

/* 1 2 5 10 20 50 ... up to most. */
static void token_bounds(oct_api_hist *h, uint32_t most) {
    static const double steps[] = {1, 2, 5};
    for (double ten = 1; h->n_bounds < OCT_API_MAX_BOUNDS; ten *= 10)
        for (size_t i = 0; i < OCT_COUNT(steps); i++) {
            if (steps[i] * ten > (double)most || h->n_bounds == OCT_API_MAX_BOUNDS) return;
            h->bounds[h->n_bounds++] = steps[i] * ten;
        }
}

oct_status oct_api_metrics_create(const oct_allocator *mem, uint32_t max_model_len,
                                  oct_api_metrics **out) {
    oct_api_metrics *m = oct_calloc(mem, 1, sizeof *m);
    *out = m;
    if (!m) return OCT_E_NOMEM;
    m->mem = mem;
    m->created = (double)oct_unix_seconds();
    pthread_mutex_init(&m->lock, NULL);
    for (size_t i = 0; i < OCT_API_N_HISTS; i++) {
        oct_api_hist *h = &m->hists[i];
        h->name = descs[i].name;
        h->help = descs[i].help;
        OCT_ASSERT(descs[i].n <= OCT_API_MAX_BOUNDS);
        for (uint32_t k = 0; k < descs[i].n; k++) h->bounds[h->n_bounds++] = descs[i].bounds[k];
        if (!descs[i].bounds) token_bounds(h, max_model_len);
    }
    return OCT_OK;
}

void oct_api_metrics_destroy(oct_api_metrics *m) {
    if (!m) return;
    pthread_mutex_destroy(&m->lock);
    oct_free(m->mem, m, 1, sizeof *m);
}

static void observe(oct_api_metrics *m, oct_api_hist_id id, double v) {
    oct_api_hist *h = &m->hists[id];
    uint32_t k = 0;
    while (k < h->n_bounds && v > h->bounds[k]) k++;
    h->counts[k]++;
    h->sum += v;
}

/* 0 when one of the two has not happened. */
static double seconds(uint64_t from_ns, uint64_t to_ns) {
    return from_ns != 0 && to_ns > from_ns ? (double)(to_ns - from_ns) / 1e9 : 0.0;
}

void oct_api_metrics_first_token(oct_api_metrics *m, uint64_t begun_ns, uint64_t now_ns) {
    pthread_mutex_lock(&m->lock);
    observe(m, OCT_API_TTFT, seconds(begun_ns, now_ns));
    pthread_mutex_unlock(&m->lock);
}

void oct_api_metrics_next_token(oct_api_metrics *m, uint64_t gap_ns) {
    pthread_mutex_lock(&m->lock);
    observe(m, OCT_API_ITL, (double)gap_ns / 1e9);
    pthread_mutex_unlock(&m->lock);
}

void oct_api_metrics_finished(oct_api_metrics *m, const oct_api_finished *f) {
    const oct_request_times *t = &f->times;
    const double decode = seconds(t->first_token_ns, t->last_token_ns);
    pthread_mutex_lock(&m->lock);
    observe(m, OCT_API_TPOT, f->n_completion > 1 ? decode / (f->n_completion - 1) : 0.0);
    observe(m, OCT_API_E2E, seconds(f->begun_ns, t->last_token_ns));
    observe(m, OCT_API_QUEUE, seconds(t->arrival_ns, t->first_scheduled_ns));
    observe(m, OCT_API_PREFILL, seconds(t->first_scheduled_ns, t->first_token_ns));
    observe(m, OCT_API_DECODE, decode);
    observe(m, OCT_API_INFERENCE, seconds(t->first_scheduled_ns, t->last_token_ns));
    observe(m, OCT_API_PROMPT, f->n_prompt);
    observe(m, OCT_API_GENERATION, f->n_completion);
    observe(m, OCT_API_MAX_TOKENS, f->max_tokens);
    observe(m, OCT_API_COMPUTED, f->n_prompt - f->n_cached);
    pthread_mutex_unlock(&m->lock);
}

void oct_api_metrics_job(oct_api_metrics *m, uint32_t n, uint32_t most_generated) {
    pthread_mutex_lock(&m->lock);
    observe(m, OCT_API_N, n);
    observe(m, OCT_API_MOST_GENERATED, most_generated);
    pthread_mutex_unlock(&m->lock);
}

void oct_api_metrics_http(oct_api_metrics *m, oct_api_route_id route, oct_http_method method,
                          uint64_t request_bytes, const oct_http_outcome *o) {
    const double seconds = (double)o->duration_ns / 1e9;
    uint32_t k = 0;
    while (k < OCT_API_N_LOW - 1 && seconds > oct_api_http_bounds[k]) k++;
    OCT_ASSERT(o->status >= 100 && o->status < 600);
    pthread_mutex_lock(&m->lock);
    oct_api_http_route *r = &m->http[route];
    r->n++;
    r->request_bytes += request_bytes;
    r->response_bytes += o->body_bytes;
    r->methods[method].by_class[o->status / 100]++;
    r->methods[method].counts[k]++;
    r->methods[method].seconds += seconds;
    observe(m, OCT_API_HTTP, seconds);
    pthread_mutex_unlock(&m->lock);
}
