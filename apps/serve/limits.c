/*
 * apps/serve/limits.c - what connections and requests may cost: one flag each. 0 never means "no
 * limit". The defaults are those of net and api.
 */
#include <string.h>

#include "codec/json.h"
#include "serve.h"

static double seconds(uint32_t ms) { return ms / 1000.0; }

void serve_default_limits(serve_options *o) {
    const oct_http_limits *h = &oct_http_limits_default;
    const oct_api_limits *a = &oct_api_limits_default;
    o->max_connections = h->connections;
    o->line_bytes = h->request_line_bytes;
    o->header_bytes = h->header_bytes;
    o->header_fields = h->header_fields;
    o->body_bytes = h->body_bytes;
    o->unsent_bytes = h->stream_unsent_bytes;
    o->header_s = seconds(h->header_ms);
    o->body_idle_s = seconds(h->body_idle_ms);
    o->body_s = seconds(h->body_ms);
    o->keep_alive_s = seconds(h->keep_alive_ms);
    o->stall_s = seconds(h->stall_ms);
    o->stuck_s = 10;
    o->device_s = 300;
    o->json_depth = a->json_depth;
    o->prompts = a->prompts;
    o->n = a->n;
    o->choices = a->choices;
    o->stop_strings = a->stop_strings;
    o->stop_bytes = a->stop_bytes;
    o->logit_bias = a->logit_bias;
    o->bad_words = a->bad_words;
    o->tools = a->tools;
}

static cli_flag time_flag(const char *name, double *out, const char *help) {
    return cli_number(name, out, "S", 0.1, 86400, help);
}

void serve_limit_flags(serve_options *o, cli_flag flags[SERVE_N_LIMIT_FLAGS]) {
    const double kib = 1024, mib = 1048576;
    const cli_flag all[SERVE_N_LIMIT_FLAGS] = {
        cli_count("max-connections", &o->max_connections, 1, 65536, "connections at a time"),
        cli_count("max-request-line-bytes", &o->line_bytes, 64, mib, "first line of a request"),
        cli_count("max-header-bytes", &o->header_bytes, kib, 16 * mib, "all fields of a request"),
        cli_count("max-header-fields", &o->header_fields, 8, 256, "fields of a request"),
        cli_count("max-body-bytes", &o->body_bytes, kib, 1024 * mib, "body of a request"),
        cli_count("max-unsent-bytes", &o->unsent_bytes, 4 * kib, 1024 * mib,
                  "of a stream that its client does not read"),
        time_flag("header-timeout", &o->header_s, "seconds to send the head of a request"),
        time_flag("body-idle-timeout", &o->body_idle_s, "seconds without a byte of the body"),
        time_flag("body-timeout", &o->body_s, "seconds to send the body"),
        time_flag("keep-alive-timeout", &o->keep_alive_s, "seconds between requests"),
        time_flag("stall-timeout", &o->stall_s, "seconds in which a client takes no byte"),
        time_flag("stuck-timeout", &o->stuck_s,
                  "seconds with work and no finished step until /health says 503"),
        time_flag("device-timeout", &o->device_s,
                  "and until the device is given up and the process ends"),
        cli_count("max-json-depth", &o->json_depth, 8, OCT_JSON_DEPTH_MAX, "nesting of a body"),
        cli_count("max-prompts", &o->prompts, 1, 65536, "prompts of a request"),
        cli_count("max-n", &o->n, 1, 65536, "n of a request"),
        cli_count("max-choices", &o->choices, 1, 65536, "n times prompts of a request"),
        cli_count("max-stop-strings", &o->stop_strings, 1, 1024, "stop strings of a request"),
        cli_count("max-stop-bytes", &o->stop_bytes, 1, 65536, "a stop string or a bad word"),
        cli_count("max-logit-bias", &o->logit_bias, 1, 1 << 20, "entries of logit_bias"),
        cli_count("max-bad-words", &o->bad_words, 1, 65536, "entries of bad_words"),
        cli_count("max-tools", &o->tools, 1, 65536, "tools of a request"),
    };
    memcpy(flags, all, sizeof all);
}

static uint32_t ms(double s) { return (uint32_t)(s * 1000); }

oct_http_limits serve_http_limits(const serve_options *o) {
    oct_http_limits l = oct_http_limits_default;
    l.connections = (uint32_t)o->max_connections;
    l.request_line_bytes = o->line_bytes;
    l.header_bytes = o->header_bytes;
    l.header_fields = (uint32_t)o->header_fields;
    l.body_bytes = o->body_bytes;
    l.stream_unsent_bytes = o->unsent_bytes;
    l.header_ms = ms(o->header_s);
    l.body_idle_ms = ms(o->body_idle_s);
    l.body_ms = ms(o->body_s);
    l.keep_alive_ms = ms(o->keep_alive_s);
    l.stall_ms = ms(o->stall_s);
    return l;
}

oct_api_limits serve_api_limits(const serve_options *o) {
    return (oct_api_limits){
        .body_bytes = o->body_bytes,
        .json_depth = (uint32_t)o->json_depth,
        .prompts = (uint32_t)o->prompts,
        .n = (uint32_t)o->n,
        .choices = (uint32_t)o->choices,
        .stop_strings = (uint32_t)o->stop_strings,
        .stop_bytes = (uint32_t)o->stop_bytes,
        .logit_bias = (uint32_t)o->logit_bias,
        .bad_words = (uint32_t)o->bad_words,
        .tools = (uint32_t)o->tools,
    };
}
