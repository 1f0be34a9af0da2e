/* apps/serve/flags.c - the command line of `octet serve`, and what it must agree with. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "serve.h"

enum { MAX_FLAGS = 32 }; /* of one group */
_Static_assert((int)MAX_FLAGS >= (int)SERVE_N_LIMIT_FLAGS, "room for every group");

/* ---- checks ---- */

static bool is_blank(const char *s) { return s[strspn(s, " \t\r\n")] == '\0'; }

static int check_keys(serve_options *o) {
    const char *env = getenv("VLLM_API_KEY");
    if (o->keys.n == 0 && env) o->keys.at[o->keys.n++] = env;
    for (unsigned i = 0; i < o->keys.n; i++)
        if (is_blank(o->keys.at[i]))
            return cli_fail(EXIT_USAGE, "%s: the key is empty",
                            o->keys.at[i] == env ? "VLLM_API_KEY" : "--api-key");
    return -1;
}

/* VLLM_LOG_STATS_INTERVAL: seconds between throughput lines. */
static int read_log_interval(serve_options *o) {
    const char *env = getenv("VLLM_LOG_STATS_INTERVAL");
    double s = 10;
    if (env && (!oct_parse_f64(oct_str_of(env), &s) || s > 86400))
        return cli_fail(EXIT_USAGE,
                        "VLLM_LOG_STATS_INTERVAL: want seconds, at most 86400 (got %.64s)", env);
    if (s < 0.001) s = 10; /* as vLLM takes what is no interval */
    o->log_every_ns = (uint64_t)(s * 1e9);
    return -1;
}

static int check_flags(serve_options *o) {
    if (o->max_num_batched_tokens < o->max_num_seqs)
        return cli_fail(
            EXIT_USAGE, "--max-num-batched-tokens: less than --max-num-seqs (got %llu and %llu)",
            (unsigned long long)o->max_num_batched_tokens, (unsigned long long)o->max_num_seqs);
    if (o->n_blocks > 0 && o->open.kv_cache_memory > 0)
        return cli_fail(EXIT_USAGE, "--num-gpu-blocks-override and --kv-cache-memory-bytes: only "
                                    "one of them can be given");
    if (o->auto_tools && !o->tool_parser)
        return cli_fail(EXIT_USAGE, "--enable-auto-tool-choice: needs --tool-call-parser");
    if (o->device_s < o->stuck_s)
        return cli_fail(EXIT_USAGE, "--device-timeout: less than --stuck-timeout (got %g and %g)",
                        o->device_s, o->stuck_s);
    for (unsigned i = 0; i < o->names.n; i++)
        if (is_blank(o->names.at[i]))
            return cli_fail(EXIT_USAGE, "--served-model-name: the name is empty");
    if (!o->tls.certfile && (o->tls.keyfile || o->tls.ca_certs || o->tls_cert_reqs > 0))
        return cli_fail(EXIT_USAGE, "--%s: wants --ssl-certfile beside it",
                        o->tls.keyfile    ? "ssl-keyfile"
                        : o->tls.ca_certs ? "ssl-ca-certs"
                                          : "ssl-cert-reqs");
    o->tls.cert_reqs = (uint32_t)o->tls_cert_reqs;
    if (strcmp(o->fingerprint_mode, "custom") == 0 && !o->fingerprint_value)
        return cli_fail(EXIT_USAGE, "--fingerprint-mode: custom wants --fingerprint-value");
    if (o->root_path && (o->root_path[0] != '/' || is_blank(o->root_path + 1)))
        return cli_fail(EXIT_USAGE, "--root-path: must begin with / and name something (got %.64s)",
                        o->root_path);
    const char *dev = getenv("VLLM_SERVER_DEV_MODE");
    o->dev_mode = dev && strcmp(dev, "0") != 0 && dev[0];
    int status = keep_check(&o->open, o->prefix_caching);
    if (status < 0) status = read_log_interval(o);
    return status >= 0 ? status : check_keys(o);
}

/* ---- tables ---- */

static unsigned server_flags(serve_options *o, cli_flag *out) {
    const cli_flag all[] = {
        cli_string("host", &o->host, "HOST", "name or address; all interfaces unless given"),
        cli_count("port", &o->port, 0, 65535, "0: one that is free"),
        cli_string("uds", &o->uds, "PATH", "a UNIX socket instead of host and port"),
        cli_string("ssl-certfile", &o->tls.certfile, "FILE",
                   "HTTPS with this certificate (PEM, the chain behind it)"),
        cli_string("ssl-keyfile", &o->tls.keyfile, "FILE",
                   "its key (PEM, no password); in the certificate's file unless given"),
        cli_string("ssl-ca-certs", &o->tls.ca_certs, "FILE",
                   "whom certificates of clients are from (PEM)"),
        cli_count("ssl-cert-reqs", &o->tls_cert_reqs, 0, 2,
                  "certificates of clients: 0 none, 1 if they have one, 2 wanted"),
        cli_string("ssl-ciphers", &o->tls.ciphers, "LIST", "for TLS 1.2, as OpenSSL names them"),
        cli_many("api-key", &o->keys, "KEY",
                 "wanted from clients, except for health, ping, version and metrics;\nmay be given "
                 "several times; VLLM_API_KEY when absent"),
        cli_many("served-model-name", &o->names, "NAME",
                 "the model's name in requests; may be given several times, the first is\nshown"),
        cli_many("allowed-origins", &o->origins, "ORIGIN",
                 "CORS; all unless given; a JSON array of strings is taken, too"),
        cli_string("allowed-methods", &o->allowed_methods, "METHODS",
                   "CORS; all unless given: \"GET, POST\", or a JSON array"),
        cli_string("allowed-headers", &o->allowed_headers, "FIELDS",
                   "CORS; all unless given: \"Authorization, Content-Type\", or a JSON array"),
        cli_switch("allow-credentials", &o->allow_credentials, "CORS: with credentials"),
        cli_string("root-path", &o->root_path, "PATH",
                   "a prefix that a proxy leaves in front of every path"),
        cli_number("shutdown-timeout", &o->shutdown_timeout, "S", 0, 86400,
                   "seconds that running requests have to finish after SIGTERM"),
        cli_count("http-workers", &o->http_workers, 1, 256,
                  "threads that read requests, render and tokenize"),
        cli_switch("enable-request-id-headers", &o->request_id_headers,
                   "answers carry X-Request-Id"),
        cli_switch("enable-server-load-tracking", &o->track_load, "/load counts running requests"),
        cli_switch("enable-tokenizer-info-endpoint", &o->tokenizer_info,
                   "/tokenizer_info tells the tokenizer's configuration"),
        cli_choice("fingerprint-mode", &o->fingerprint_mode, "full|hash|custom|none",
                   "system_fingerprint: version and a hash of what makes the answer\n(full, hash), "
                   "the text of --fingerprint-value, or null"),
        cli_string("fingerprint-value", &o->fingerprint_value, "TEXT", "with custom"),
        cli_count("stream-interval", &o->stream_interval, 1, 1 << 20,
                  "tokens of an event of a stream, but for the first and the last"),
        cli_switch("enable-per-request-metrics", &o->request_metrics,
                   "answers carry metrics and timings"),
    };
    memcpy(out, all, sizeof all);
    return OCT_COUNT(all);
}

static unsigned engine_flags(serve_options *o, cli_flag *out) {
    const cli_flag all[] = {
        {.name = "max-num-seqs",
         .type = CLI_COUNT,
         .out = &o->max_num_seqs,
         .value = "N",
         .min = 1,
         .max = 65536,
         .given = &o->seqs_given,
         .help = "most sequences of one step"},
        {.name = "max-num-batched-tokens",
         .type = CLI_COUNT,
         .out = &o->max_num_batched_tokens,
         .value = "N",
         .min = 1,
         .max = 1 << 20,
         .given = &o->tokens_given,
         .help = "most tokens of one step"},
        cli_count("num-gpu-blocks-override", &o->n_blocks, 1, 1 << 30, "blocks of the KV cache"),
        cli_number(
            "gpu-memory-utilization", &o->memory_share, "F", 0.01, 1,
            "CPU: share of the free memory for the KV cache, 0.4 unless\ngiven; a device with "
            "memory of its own: share of it that may\nbe used, weights included, 0.92"),
        cli_switch("enable-prefix-caching", &o->prefix_caching,
                   "a prompt that begins like an earlier one starts behind what is cached\nof it; "
                   "on unless --no-enable-prefix-caching"),
        {.name = "max-logprobs",
         .type = CLI_COUNT,
         .out = &o->max_logprobs,
         .value = "N",
         .min = 1,
         .max = OCT_MODEL_MAX_TOP,
         .unset = "-1",
         .help = "most likely tokens that a request may ask for; -1: as many as there can be"},
        cli_choice("logprobs-mode", &o->logprobs_mode,
                   "raw_logprobs|processed_logprobs|raw_logits|processed_logits",
                   "what logprobs show"),
        cli_switch("disable-log-stats", &o->disable_log_stats, "no throughput line every 10 s"),
        cli_switch("enable-log-requests", &o->log_requests, "one line a request, without its text"),
    };
    memcpy(out, all, sizeof all);
    keep_flags(&o->open, out + OCT_COUNT(all));
    return OCT_COUNT(all) + KEEP_N_FLAGS;
}

static unsigned sched_flags(serve_options *o, cli_flag *out) {
    const cli_flag all[] = {
        cli_choice("scheduling-policy", &o->policy, "fcfs|priority",
                   "who goes first: who came first, or the lowest number in a request's priority"),
        cli_count(
            "max-num-queued-reqs", &o->max_num_queued_reqs, 1, 1 << 20,
            "most requests that wait or run, each of n as one; more are answered 503;\n1024 more "
            "than --max-num-seqs unless given"),
        cli_count("max-num-queued-tokens", &o->max_num_queued_tokens, 0, 1e12,
                  "most prompt tokens of requests without a first token; more are answered\n503; "
                  "0: no limit"),
        cli_number("request-timeout", &o->request_s, "S", 0, 1e6,
                   "seconds after which a request is ended with 503, waiting or running; 0: never"),
        cli_number(
            "max-decode-wait-ms", &o->decode_wait_ms, "MS", 0, 1e6,
            "milliseconds that a step of running answers may take because of prompts;\n0: no "
            "limit"),
        cli_count("long-prefill-token-threshold", &o->chunk_tokens, 0, 1 << 20,
                  "most prompt tokens of one sequence in one step, longer prompts are long;\n0: no "
                  "limit"),
        cli_count("max-long-partial-prefills", &o->long_partials, 0, 65536,
                  "most long prompts that are begun at once; 0: no limit"),
        cli_count("max-num-partial-prefills", &o->partial_prefills, 0, 65536,
                  "most prompts that are begun at once and take several steps; 0: no limit"),
    };
    memcpy(out, all, sizeof all);
    return OCT_COUNT(all);
}

static unsigned chat_flags(serve_options *o, cli_flag *out) {
    const cli_flag all[] = {
        cli_string(
            "generation-config", &o->generation_config, "auto|none|FOLDER",
            "where the sampling defaults come from: the model (auto), nowhere (none, or\nvllm), a "
            "folder"),
        cli_json("override-generation-config", &o->override_generation_config,
                 "sampling defaults that win over it"),
        cli_string("chat-template", &o->chat_template, "FILE", "instead of the model's own"),
        cli_json("default-chat-template-kwargs", &o->template_kwargs,
                 "variables for the template, for instance {\"enable_thinking\": false}"),
        cli_switch("trust-request-chat-template", &o->trust_template,
                   "requests may bring a template of their own"),
        cli_switch("exclude-tools-when-tool-choice-none", &o->exclude_tools,
                   "tool_choice \"none\" hides the tools from the model"),
        cli_string("response-role", &o->response_role, "ROLE", "role of the answers"),
        cli_choice("reasoning-parser", &o->reasoning_parser, oct_speak_reasoning_names(),
                   "what of an answer is reasoning; all is content unless given"),
        cli_choice("tool-call-parser", &o->tool_parser, oct_speak_tools_names(),
                   "how the model writes tool calls"),
        cli_switch("enable-auto-tool-choice", &o->auto_tools,
                   "the model may call tools (tool_choice \"auto\"); needs --tool-call-parser"),
        cli_switch("enable-force-include-usage", &o->force_usage, "every stream carries usage"),
        cli_switch("enable-prompt-tokens-details", &o->prompt_details, "usage tells cached tokens"),
        cli_switch("return-tokens-as-token-ids", &o->tokens_as_ids, "logprobs show token_id:N"),
    };
    memcpy(out, all, sizeof all);
    return OCT_COUNT(all);
}

/* What vLLM calls otherwise, or gathers under one name. */
static unsigned other_flags(serve_options *o, cli_flag *out) {
    cli_flag level = cli_count("optimization-level", &o->optimization_level, 0, 3,
                               "0: as --enforce-eager; 1 to 3 are one here");
    level.alias = "-O";
    const cli_flag all[] = {
        model_flag(&o->model),
        level,
        cli_choice("performance-mode", &o->performance_mode, "balanced|interactivity|throughput",
                   "throughput doubles --max-num-seqs and --max-num-batched-tokens where they are\n"
                   "not given"),
        cli_switch("skip-tokenizer-init", &o->skip_tokenizer,
                   "prompts and answers are token ids only"),
    };
    memcpy(out, all, sizeof all);
    return OCT_COUNT(all);
}

/* ---- all ---- */

/* What one flag says of others. */
static void settle(serve_options *o) {
    if (o->max_logprobs == 0) o->max_logprobs = OCT_MODEL_MAX_TOP;
    if (o->optimization_level == 0) o->tuning.eager = true;
    if (strcmp(o->performance_mode, "throughput") == 0) {
        if (!o->seqs_given) o->max_num_seqs *= 2;
        if (!o->tokens_given) o->max_num_batched_tokens *= 2;
    }
    open_log_level(&o->open); /* what follows may warn */
}

int serve_read_flags(const cli_command *self, const cli_group *more, int argc, char **argv,
                     serve_options *o) {
    *o = (serve_options){.open = OPEN_OPTIONS_DEFAULT,
                         .port = 8000,
                         .http_workers = 2,
                         .shutdown_timeout = 30,
                         .max_num_seqs = 128,
                         .max_num_batched_tokens = 2048,
                         .prefix_caching = true,
                         .policy = "fcfs",
                         .decode_wait_ms = 500,
                         .long_partials = 1,
                         .generation_config = "auto",
                         .response_role = "assistant",
                         .max_logprobs = 20,
                         .logprobs_mode = "raw_logprobs",
                         .fingerprint_mode = "full",
                         .stream_interval = 1,
                         .performance_mode = "balanced",
                         .optimization_level = 2};
    tuning_defaults(&o->tuning, &o->open);
    serve_default_limits(o);
    const int env = serve_env_limits(o);
    if (env >= 0) return env;
    cli_flag http[MAX_FLAGS], engine[MAX_FLAGS], chat[MAX_FLAGS], vllm[MAX_FLAGS];
    cli_flag sched[MAX_FLAGS];
    cli_flag limits[SERVE_N_LIMIT_FLAGS];
    cli_flag model[OPEN_N_FLAGS], steps[TUNING_N_FLAGS];
    const char *pos[1];
    unsigned n_pos;
    open_flags(&o->open, model);
    serve_limit_flags(o, limits);
    tuning_flags(&o->tuning, &o->open, steps);
    const cli_group groups[] = {{"Server", http, server_flags(o, http)},
                                {"Engine", engine, engine_flags(o, engine)},
                                {"Scheduling", sched, sched_flags(o, sched)},
                                {"Steps", steps, TUNING_N_FLAGS},
                                {"Chat", chat, chat_flags(o, chat)},
                                {"Limits", limits, SERVE_N_LIMIT_FLAGS},
                                {"Model", model, OPEN_N_FLAGS},
                                {"vLLM", vllm, other_flags(o, vllm)},
                                more ? *more : (cli_group){.name = ""}};
    const size_t n_groups = OCT_COUNT(groups) - (more == NULL);
    const int status = cli_parse(self, groups, n_groups, argc, argv, pos, 1, &n_pos);
    if (status >= 0) return status;
    settle(o);
    const int named = pick_model(self->name, n_pos == 1 ? pos[0] : NULL, &o->model);
    if (named >= 0) return named;
    const tuning_sched numbers = {.max_num_seqs = &o->max_num_seqs,
                                  .max_num_batched_tokens = &o->max_num_batched_tokens,
                                  .chunk_tokens = &o->chunk_tokens,
                                  .long_partials = &o->long_partials};
    o->settings = serve_settings(groups, n_groups);
    const int read = tuning_read(&o->tuning, &o->open, &numbers);
    return read < 0 ? check_flags(o) : read;
}
