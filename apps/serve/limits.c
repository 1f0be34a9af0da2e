/*
 * apps/serve/limits.c - what connections and requests may cost: one row each says the flag, its
 * range and where the limit lives, whose default it takes. 0 never means "no limit".
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "codec/json.h"
#include "serve.h"

typedef enum place { IN_HTTP, IN_API, IN_BOTH } place; /* body_bytes is a limit of both */
typedef enum kind { SIZE, U32, MS } kind;              /* MS: a flag in seconds */

typedef struct limit {
    const char *name, *alias;
    place in;
    kind is;
    size_t at;
    double lo, hi;
    const char *help;
} limit;

#define ROW(flag, in, is, at, lo, hi, help) \
    { flag, NULL, in, is, at, lo, hi, help }
#define OF_HTTP(flag, is, m, lo, hi, help) \
    ROW(flag, IN_HTTP, is, offsetof(oct_http_limits, m), lo, hi, help)
#define OF_API(flag, m, lo, hi, help) \
    ROW(flag, IN_API, U32, offsetof(oct_api_limits, m), lo, hi, help)
#define TIME(flag, m, help) OF_HTTP(flag, MS, m, 0.1, 86400, help)
enum { KIB = 1 << 10, MIB = 1 << 20, GIB = 1 << 30 };

static const limit limits[] = {
    OF_HTTP("max-connections", U32, connections, 1, 65536, "connections at a time"),
    OF_HTTP("max-request-line-bytes", SIZE, request_line_bytes, 64, MIB, "first line of a request"),
    {"max-header-bytes", "--h11-max-incomplete-event-size", IN_HTTP, SIZE,
     offsetof(oct_http_limits, header_bytes), KIB, 16 * MIB, "all fields of a request"},
    {"max-header-fields", "--h11-max-header-count", IN_HTTP, U32,
     offsetof(oct_http_limits, header_fields), 8, 256, "fields of a request"},
    ROW("max-body-bytes", IN_BOTH, SIZE, offsetof(oct_http_limits, body_bytes), KIB, GIB,
        "body of a request"),
    OF_HTTP("max-unsent-bytes", SIZE, stream_unsent_bytes, 4 * KIB, GIB,
            "of a stream that its client does not read"),
    TIME("header-timeout", header_ms, "seconds to send the head of a request"),
    TIME("body-idle-timeout", body_idle_ms, "seconds without a byte of the body"),
    TIME("body-timeout", body_ms, "seconds to send the body"),
    TIME("keep-alive-timeout", keep_alive_ms,
         "seconds between requests; VLLM_HTTP_TIMEOUT_KEEP_ALIVE when absent"),
    TIME("stall-timeout", stall_ms, "seconds in which a client takes no byte"),
    OF_API("max-json-depth", json_depth, 8, OCT_JSON_DEPTH_MAX, "nesting of a body"),
    OF_API("max-prompts", prompts, 1, 65536, "prompts of a request"),
    OF_API("max-n", n, 1, 65536, "n of a request"),
    OF_API("max-choices", choices, 1, 65536, "n times prompts of a request"),
    OF_API("max-stop-strings", stop_strings, 1, 1024, "stop strings of a request"),
    OF_API("max-stop-bytes", stop_bytes, 1, 65536, "a stop string or a bad word"),
    OF_API("max-logit-bias", logit_bias, 1, 1 << 20, "entries of logit_bias"),
    OF_API("max-bad-words", bad_words, 1, 65536, "entries of bad_words"),
    OF_API("max-tools", tools, 1, 65536, "tools of a request"),
};
enum { N_OWN = 2 }; /* written out below */
_Static_assert(OCT_COUNT(limits) + N_OWN == SERVE_N_LIMIT_FLAGS, "one flag a limit");

/* Where the limit is in the structs of net and api, those of s or the defaults. */
static uint64_t get(const limit *l, const oct_http_limits *http, const oct_api_limits *api) {
    const char *at = (l->in == IN_API ? (const char *)api : (const char *)http) + l->at;
    uint32_t small;
    size_t large;
    if (l->is == SIZE) return memcpy(&large, at, sizeof large), large;
    return memcpy(&small, at, sizeof small), small;
}

static void set(const limit *l, char *base, uint64_t v) {
    const uint32_t small = (uint32_t)v;
    const size_t large = v;
    if (l->is == SIZE)
        memcpy(base + l->at, &large, sizeof large);
    else
        memcpy(base + l->at, &small, sizeof small);
}

void serve_default_limits(serve_options *o) {
    for (size_t i = 0; i < OCT_COUNT(limits); i++) {
        const uint64_t v = get(&limits[i], &oct_http_limits_default, &oct_api_limits_default);
        if (limits[i].is == MS)
            o->limit[i].seconds = (double)v / 1000;
        else
            o->limit[i].count = v;
    }
    o->stuck_s = 10;
    o->device_s = 300;
}

int serve_env_limits(serve_options *o) {
    const char *env = getenv("VLLM_HTTP_TIMEOUT_KEEP_ALIVE");
    for (size_t i = 0; env && i < OCT_COUNT(limits); i++) {
        double *s = &o->limit[i].seconds;
        if (strcmp(limits[i].name, "keep-alive-timeout") != 0) continue;
        if (!oct_parse_f64(oct_str_of(env), s) || *s < limits[i].lo || *s > limits[i].hi)
            return cli_fail(EXIT_USAGE,
                            "VLLM_HTTP_TIMEOUT_KEEP_ALIVE: want seconds, 0.1 to 86400 (got %.64s)",
                            env);
    }
    return -1;
}

void serve_limit_flags(serve_options *o, cli_flag flags[SERVE_N_LIMIT_FLAGS]) {
    for (size_t i = 0; i < OCT_COUNT(limits); i++) {
        const limit *l = &limits[i];
        flags[i] = l->is == MS
                       ? cli_number(l->name, &o->limit[i].seconds, "S", l->lo, l->hi, l->help)
                       : cli_count(l->name, &o->limit[i].count, l->lo, l->hi, l->help);
        flags[i].alias = l->alias;
    }
    cli_flag *own = flags + OCT_COUNT(limits);
    own[0] = cli_number("stuck-timeout", &o->stuck_s, "S", 0.1, 86400,
                        "seconds with work and no finished step until /health says 503");
    own[1] = cli_number("device-timeout", &o->device_s, "S", 0.1, 86400,
                        "and until the device is given up and the process ends");
}

static uint64_t value_of(const serve_options *o, size_t i) {
    return limits[i].is == MS ? (uint64_t)(o->limit[i].seconds * 1000) : o->limit[i].count;
}

oct_http_limits serve_http_limits(const serve_options *o) {
    oct_http_limits l = oct_http_limits_default;
    for (size_t i = 0; i < OCT_COUNT(limits); i++)
        if (limits[i].in != IN_API) set(&limits[i], (char *)&l, value_of(o, i));
    return l;
}

oct_api_limits serve_api_limits(const serve_options *o) {
    oct_api_limits l = {0};
    for (size_t i = 0; i < OCT_COUNT(limits); i++) {
        if (limits[i].in == IN_API) set(&limits[i], (char *)&l, value_of(o, i));
        if (limits[i].in == IN_BOTH) l.body_bytes = value_of(o, i);
    }
    return l;
}
