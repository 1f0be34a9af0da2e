/* apps/serve/serve.h - the parts of `octet serve`: flow in serve.c, flags in flags.c, limits
 * in limits.c, what is chosen from model and machine in setup.c, signals in signals.c. */
#ifndef OCT_APPS_SERVE_H
#define OCT_APPS_SERVE_H

#include <stdatomic.h>

#include "api/api.h"
#include "kvstore/kvstore.h"
#include "open.h"
#include "tuning.h"

enum { SERVE_N_LIMIT_FLAGS = 22 };

typedef struct serve_options {
    open_options open;
    tuning tuning;
    const char *model; /* the argument */

    const char *host, *uds;
    uint64_t port, http_workers;
    cli_strings names, keys, origins;
    oct_http_tls tls; /* certfile NULL: plain */
    uint64_t tls_cert_reqs;
    const char *root_path, *allowed_methods, *allowed_headers;
    bool allow_credentials, dev_mode, request_metrics;
    uint64_t stream_interval;
    const char *fingerprint_mode, *fingerprint_value;
    json_t *settings; /* all flags and their values, but for keys */
    double shutdown_timeout;

    /* limits.c: what connections and requests may cost, a value a row of its table */
    union {
        uint64_t count;
        double seconds;
    } limit[SERVE_N_LIMIT_FLAGS];
    double stuck_s, device_s;

    uint64_t max_num_seqs, max_num_batched_tokens, max_num_queued_reqs, chunk_tokens;
    uint64_t max_num_queued_tokens, partial_prefills, long_partials; /* 0: no limit */
    double decode_wait_ms, request_s;                                /* 0: no limit */
    const char *policy, *performance_mode;
    uint64_t optimization_level;
    bool skip_tokenizer, seqs_given, tokens_given;
    uint64_t n_blocks;
    double memory_share; /* 0: not given */

    const char *generation_config, *override_generation_config;
    const char *chat_template, *template_kwargs, *response_role;
    uint64_t max_logprobs;
    const char *logprobs_mode;
    const char *reasoning_parser, *tool_parser; /* NULL: none */
    bool trust_template, exclude_tools, auto_tools, tokenizer_info;
    bool force_usage, prompt_details, tokens_as_ids, request_id_headers, track_load;
    bool disable_log_stats, log_requests, prefix_caching;
    uint64_t log_every_ns; /* the throughput line */
} serve_options;

typedef struct server {
    serve_options o;
    opened m;
    oct_http_server *http;
    oct_engine *engine;
    oct_kvstore *kvstore; /* NULL: none */
    oct_api_slot slot;
    oct_template *template, *tool_template;
    char template_error[OCT_ERR_TEXT];
    json_t *template_kwargs;
    oct_api_defaults defaults;
    char fingerprint[64];
    oct_buf tokenizer_info; /* JSON; empty: not told */
    json_t *info[3];        /* of GET /server_info */
    uint32_t n_blocks, n_shelves;
    atomic_bool lost; /* the device; why says what it said */
    char why[OCT_ERR_TEXT];
} server;

/* ---- flags.c ---- */

/* -1 to go on, else the exit status. more: flags beside those of serve, or NULL. */
int serve_read_flags(const cli_command *self, const cli_group *more, int argc, char **argv,
                     serve_options *o);

/* ---- serve.c: for run-batch, which serves itself ---- */

/* Flags are read; -1 when requests are answered, else the exit status after having said why. */
int serve_come_up(server *s);
/* Until *done (NULL: never), a signal (EXIT_CLEAN), or the device is lost (EXIT_DEVICE); -1: done.
 */
int serve_watch(server *s, const atomic_bool *done);
/* Also after a come_up that failed. */
void serve_go_down(server *s);

/* ---- limits.c ---- */

void serve_default_limits(serve_options *o);
/* What the environment says where no flag does. -1, or the exit status. */
int serve_env_limits(serve_options *o);
void serve_limit_flags(serve_options *o, cli_flag flags[SERVE_N_LIMIT_FLAGS]);
oct_http_limits serve_http_limits(const serve_options *o);
oct_api_limits serve_api_limits(const serve_options *o);

/* ---- setup.c: each returns -1, or the exit status after having said why ---- */

/* How many cache blocks: what the flags say, else what the free memory gives. */
int serve_choose_blocks(server *s);

/* Sampling defaults from generation_config.json and the flags. */
int serve_choose_defaults(server *s);
/* Compiles the chat templates. A model's own that cannot be compiled is only warned of. */
int serve_open_templates(server *s);
/* Settings of the cache for the metric that tells them; the values live as long as s. */
enum { SERVE_N_CACHE_LABELS = 10, SERVE_LABEL_BYTES = 32 };
uint32_t serve_cache_labels(server *s, oct_api_label out[SERVE_N_CACHE_LABELS]);
/* Changes with the version, the device's kind, scheme, cache type and weights (as far as
 * oct_checkpoint_fingerprint sees them). */
int serve_fingerprint(server *s);
/* What --fingerprint-mode makes of it; NULL: none. */
const char *serve_shown_fingerprint(const server *s);

/* ---- info.c ---- */

/* The flags and their values as an object; keys are left out. NULL: no memory. */
json_t *serve_settings(const cli_group *groups, size_t n);
/* What GET /server_info tells. */
int serve_make_info(server *s);

/* ---- tokenizer_info.c ---- */

/* With --enable-tokenizer-info-endpoint what that endpoint tells. */
int serve_tokenizer_info(server *s);

/* ---- signals.c ---- */

/* Blocks SIGINT, SIGTERM and SIGHUP in all threads made from now on and starts the one that takes
 * them. Until serve_signals_ready a signal ends the process. */
int serve_signals_start(void);
void serve_signals_ready(void);
/* Waits for the first signal after that (a second one ends the process), at most ms. 0: none came,
 * or serve_signals_wake was called, which any thread may. */
int serve_signals_wait(uint32_t ms);
void serve_signals_wake(void);

/* ---- notify.c ---- */

/* A line for systemd (or who else set NOTIFY_SOCKET): "READY=1". */
void serve_notify(const char *words);
/* "WATCHDOG=1" when it is due and the engine makes progress; call it every half second. */
void serve_notify_alive(const server *s);

/* ---- crash.c ---- */

/* From here on a crash tells its signal and the build, in one line. */
void serve_crash_start(void);

#endif
