/*
 * api/api.h - the OpenAI surface: routes, request fields, streams, errors, metrics.
 *
 * An oct_api stands between an HTTP server (net/server.h), which calls its three callbacks, and an
 * engine (engine/engine.h), whose news it turns into answers. One HTTP request that generates is a
 * job: its prompts times n are as many engine requests.
 *
 * Ownership  The api copies every string of its config; it borrows engine, tokenizer and allocator
 *            until destroy and keeps a reference to the templates.
 * Threads    guard: loop threads. handle: worker threads. Answers are written on the engine thread.
 *            create and destroy: one thread; destroy when neither server nor engine runs any more.
 * Elsewhere  HTTP itself: net/. Chat templates and tokens: text/. What a request may ask of the
 *            engine: engine/engine.h.
 */
#ifndef OCT_API_API_H
#define OCT_API_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "net/server.h"
#include "speak/speak.h"
#include "text/template.h"
#include "text/tokenizer.h"

typedef struct oct_api oct_api;

/* What holds when a request does not say (the model's generation_config.json). */
typedef struct oct_api_defaults {
    double temperature;        /* 1 */
    double top_p;              /* 1 */
    int64_t top_k;             /* 0 */
    double min_p;              /* 0 */
    double repetition_penalty; /* 1 */
    uint32_t max_tokens;       /* of a chat answer; 0: as many as fit */
} oct_api_defaults;

#define OCT_API_DEFAULTS ((oct_api_defaults){.temperature = 1, .top_p = 1, .repetition_penalty = 1})

/* What one request may hold; 0: the default. Lists of ids are bounded by the vocabulary. */
typedef struct oct_api_limits {
    size_t body_bytes;     /* 32 MiB; the HTTP server's own limit comes first */
    uint32_t json_depth;   /* 64; at most OCT_JSON_DEPTH_MAX */
    uint32_t prompts;      /* 1024 */
    uint32_t n;            /* 128 answers to one prompt */
    uint32_t choices;      /* 1024, n times prompts */
    uint32_t stop_strings; /* 16 */
    uint32_t stop_bytes;   /* 1024, of a stop string or a bad word */
    uint32_t logit_bias;   /* 1024 entries */
    uint32_t bad_words;    /* 256 */
    uint32_t tools;        /* 128 */
} oct_api_limits;

extern const oct_api_limits oct_api_limits_default;

/* A label of vllm:cache_config_info beside those that the engine knows. */
typedef struct oct_api_label {
    const char *name, *value;
} oct_api_label;

typedef struct oct_api_config {
    oct_engine *engine;
    const oct_http_server *http;    /* whose connections /metrics counts; NULL: none are told */
    const oct_tokenizer *tokenizer; /* NULL: prompts as token ids only, answers without text */
    oct_template *template;         /* NULL: chat is refused with template_error */
    oct_template *tool_template;    /* for requests with tools; NULL: template serves these too */
    const char *template_error;     /* NULL: "the model has no chat template" */
    const json_t *template_kwargs;  /* --default-chat-template-kwargs: object or NULL */
    const char *response_role;      /* NULL: "assistant" */
    const oct_speak_reasoning *reasoning_parser; /* NULL: reasoning is content */
    const oct_speak_tools *tool_parser;          /* NULL: so are calls */
    bool auto_tools;                             /* tool_choice "auto"; needs the parser */

    const char *const *names; /* [n_names >= 1] served names; the first is shown */
    uint32_t n_names;
    const char *root;           /* the model as it was named; for /v1/models */
    const char *version;        /* of octet */
    const char *tokenizer_info; /* JSON that /tokenizer_info gives; NULL: there is no such path */
    const char *fingerprint;    /* system_fingerprint; NULL: null */
    const oct_api_label *cache_labels; /* [n_cache_labels] ascending by name */
    uint32_t n_cache_labels;
    oct_api_defaults defaults;

    const char *const *keys; /* [n_keys]; none: everything is open */
    uint32_t n_keys;
    const char *const *origins; /* [n_origins] CORS; "*": every one */
    uint32_t n_origins;

    oct_api_limits limits;

    const char *root_path;                         /* in front of every path, or not; NULL: none */
    const char *allowed_methods, *allowed_headers; /* CORS, "a, b"; NULL: all */
    bool allow_credentials;
    /* Development routes exist; GET /server_info tells these three objects: settings, VLLM_
     * variables, system. */
    bool dev_mode;
    const json_t *server_info[3];

    uint32_t stream_interval; /* tokens of an event unless a request says; 0: 1 */
    bool per_request_metrics;

    uint64_t request_timeout_ns; /* a request that has not ended by then is ended; 0: never */
    bool force_include_usage;
    bool prompt_tokens_details;
    bool tokens_as_token_ids;
    bool trust_request_chat_template;
    bool exclude_tools_when_none;
    bool request_id_headers;
    bool track_server_load;
    bool log_requests;
} oct_api_config;

/* OCT_E_INVALID: no name, or an empty key. */
OCT_MUST_CHECK oct_status oct_api_create(const oct_allocator *mem, const oct_api_config *config,
                                         oct_api **out, oct_err *err);
void oct_api_destroy(oct_api *api); /* accepts NULL */

/* The callbacks of oct_http_config; ctx is a slot that holds the api, so that a server can be bound
 * and answer before its model is open. */
typedef struct oct_api_slot {
    _Atomic(oct_api *) api; /* NULL: loading; every request is answered 503 */
} oct_api_slot;
void oct_api_guard(void *ctx, oct_http_exchange *x);
void oct_api_handle(void *ctx, oct_http_exchange *x);
void oct_api_decorate(void *ctx, oct_http_exchange *x);
void oct_api_over(void *ctx, const oct_http_exchange *x, const oct_http_outcome *outcome);

/* From now on generation is refused with 503 and /health says 503. Any thread. */
void oct_api_begin_drain(oct_api *api);
/* Ends every request that generates with a 500 (or the error event of a stream), whatever the
 * engine does: for one that does not come back. Any thread but the engine's. */
void oct_api_fail_all(oct_api *api, const char *sentence);
/* HTTP requests that generate and are not over. Any thread. */
uint32_t oct_api_n_jobs(const oct_api *api);

#endif
