/*
 * apps/serve/serve.c - `octet serve MODEL`: flags, and the order in which a server comes up and
 * goes down.
 *
 * Up: flags, signals, the socket (an occupied port fails before a model byte is read), model,
 * cache, engine, HTTP. Down: no new requests, running ones finish within --shutdown-timeout, the
 * rest is aborted and told so, everything is given back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/json.h"
#include "commands.h"
#include "serve.h"

enum { MAX_ORIGINS = 64 };

/* ---- checks of flags ---- */

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

static int check_flags(serve_options *o) {
    if (o->max_num_batched_tokens < o->max_num_seqs)
        return cli_fail(
            EXIT_USAGE, "--max-num-batched-tokens: less than --max-num-seqs (got %llu and %llu)",
            (unsigned long long)o->max_num_batched_tokens, (unsigned long long)o->max_num_seqs);
    if (o->n_blocks > 0 && o->open.kv_cache_memory > 0)
        return cli_fail(EXIT_USAGE, "--num-gpu-blocks-override and --kv-cache-memory-bytes: only "
                                    "one of them can be given");
    for (unsigned i = 0; i < o->names.n; i++)
        if (is_blank(o->names.at[i]))
            return cli_fail(EXIT_USAGE, "--served-model-name: the name is empty");
    return check_keys(o);
}

static bool is_loopback(const char *host) {
    return host && (strncmp(host, "127.", 4) == 0 || strcmp(host, "localhost") == 0 ||
                    strcmp(host, "::1") == 0 || strcmp(host, "[::1]") == 0);
}

/* --allowed-origins: a JSON array of strings, or one origin. */
static int read_origins(const serve_options *o, const char **out, uint32_t *n) {
    static json_t *kept[CLI_MAX_STRINGS]; /* until the process ends */
    *n = 0;
    if (o->origins.n == 0) out[(*n)++] = "*";
    for (unsigned i = 0; i < o->origins.n; i++) {
        const char *text = o->origins.at[i];
        oct_err err = {0};
        size_t k;
        json_t *one;
        if (text[0] != '[') {
            out[(*n)++] = text;
            continue;
        }
        if (oct_json_parse(oct_str_of(text), "--allowed-origins", &oct_json_file_limits, &kept[i],
                           &err) != OCT_OK)
            return cli_fail(EXIT_USAGE, "%s", err.text);
        json_array_foreach(kept[i], k, one) {
            if (!json_is_string(one) || *n + CLI_MAX_STRINGS >= MAX_ORIGINS)
                return cli_fail(EXIT_USAGE, "--allowed-origins: not an array of a few strings");
            out[(*n)++] = json_string_value(one);
        }
    }
    return -1;
}

/* ---- coming up ---- */

static int bind_socket(server *s) {
    const serve_options *o = &s->o;
    oct_http_config c = {.host = o->host,
                         .port = (uint32_t)o->port,
                         .uds_path = o->uds,
                         .limits = oct_http_limits_default,
                         .n_workers = (uint32_t)o->http_workers,
                         .ctx = &s->slot,
                         .guard = oct_api_guard,
                         .handle = oct_api_handle,
                         .decorate = oct_api_decorate};
    oct_err err = {0};
    uint32_t port;
    c.limits.connections = (uint32_t)o->max_connections;
    const oct_status st = oct_http_server_bind(oct_system_allocator(), &c, &s->http, &port, &err);
    oct_err_prefix(&err, "%s", o->uds ? "--uds" : "--host, --port");
    if (st != OCT_OK)
        return cli_fail(st == OCT_E_INVALID ? EXIT_USAGE : EXIT_SYSTEM, "%s", err.text);
    if (!o->uds && o->keys.n == 0 && !is_loopback(o->host))
        oct_warn("%s is open to other machines and asks for no key (--api-key sets one, --host "
                 "127.0.0.1 keeps it here)",
                 oct_http_server_address(s->http));
    return -1;
}

static int load_model(server *s) {
    oct_model_options mo = {.max_rows = (uint32_t)s->o.max_num_batched_tokens,
                            .max_seqs = (uint32_t)s->o.max_num_seqs};
    oct_err err = {0};
    int status = open_model(&s->o.open, s->o.model, &mo, &s->m);
    if (status < 0) status = serve_choose_blocks(s);
    if (status < 0 && oct_model_kv_create(s->m.model, s->n_blocks, &err) != OCT_OK)
        status = cli_fail(EXIT_SYSTEM, "%s", err.text);
    return status;
}

static oct_logprobs_mode logprobs_mode(const char *name) {
    if (strcmp(name, "processed_logprobs") == 0) return OCT_PROCESSED_LOGPROBS;
    if (strcmp(name, "raw_logits") == 0) return OCT_RAW_LOGITS;
    if (strcmp(name, "processed_logits") == 0) return OCT_PROCESSED_LOGITS;
    return OCT_RAW_LOGPROBS;
}

static int start_engine(server *s) {
    const oct_model_config *cfg = oct_checkpoint_config(s->m.ckpt);
    const oct_generation_config *g = oct_checkpoint_generation(s->m.ckpt);
    const uint64_t ten_seconds = 10000000000;
    int32_t eos[2 * OCT_MAX_EOS + 1];
    uint32_t n_eos = 0;
    oct_err err = {0};
    for (uint32_t i = 0; i < cfg->n_eos; i++) eos[n_eos++] = cfg->eos_ids[i];
    for (uint32_t i = 0; i < g->n_eos; i++) eos[n_eos++] = g->eos_ids[i];
    const int32_t own = s->m.tokenizer ? oct_tokenizer_eos(s->m.tokenizer) : -1;
    if (n_eos == 0 && own >= 0) eos[n_eos++] = own;
    const oct_engine_options eo = {.n_blocks = s->n_blocks,
                                   .max_chunk_tokens = (uint32_t)s->o.chunk_tokens,
                                   .max_num_queued_reqs = (uint32_t)s->o.max_num_queued_reqs,
                                   .max_logprobs = (uint32_t)s->o.max_logprobs,
                                   .logprobs_mode = logprobs_mode(s->o.logprobs_mode),
                                   .eos_ids = eos,
                                   .n_eos = n_eos,
                                   .log_every_ns = s->o.disable_log_stats ? 0 : ten_seconds};
    oct_status st = oct_engine_create(oct_system_allocator(), s->m.model, s->m.tokenizer, &eo,
                                      &s->engine, &err);
    if (st == OCT_OK) st = oct_engine_start(s->engine, &err);
    return st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
}

static int start_api(server *s) {
    const serve_options *o = &s->o;
    const char *origins[MAX_ORIGINS];
    uint32_t n_origins;
    oct_err err = {0};
    const int status = read_origins(o, origins, &n_origins);
    if (status >= 0) return status;
    const oct_api_config c = {
        .engine = s->engine,
        .tokenizer = s->m.tokenizer,
        .template = s->template,
        .tool_template = s->tool_template,
        .template_error = s->template_error[0] ? s->template_error : NULL,
        .template_kwargs = s->template_kwargs,
        .response_role = o->response_role,
        .names = o->names.n ? o->names.at : &o->model,
        .n_names = o->names.n ? o->names.n : 1,
        .root = o->model,
        .version = OCT_VERSION,
        .fingerprint = s->fingerprint,
        .kv_dtype = o->open.kv_cache_dtype,
        .defaults = s->defaults,
        .keys = o->keys.at,
        .n_keys = o->keys.n,
        .origins = origins,
        .n_origins = n_origins,
        .force_include_usage = o->force_usage,
        .prompt_tokens_details = o->prompt_details,
        .tokens_as_token_ids = o->tokens_as_ids,
        .trust_request_chat_template = o->trust_template,
        .exclude_tools_when_none = o->exclude_tools,
        .request_id_headers = o->request_id_headers,
        .track_server_load = o->track_load,
        .log_requests = o->log_requests,
    };
    const oct_status st = oct_api_create(oct_system_allocator(), &c, &s->slot.api, &err);
    return st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
}

static int come_up(server *s) {
    oct_err err = {0};
    int status = serve_signals_start();
    if (status < 0) status = bind_socket(s);
    if (status < 0) status = load_model(s);
    if (status < 0) status = serve_choose_defaults(s);
    if (status < 0) status = serve_open_templates(s);
    if (status < 0) status = serve_fingerprint(s);
    if (status < 0) status = start_engine(s);
    if (status < 0) status = start_api(s);
    if (status < 0 && oct_http_server_start(s->http, &err) != OCT_OK)
        status = cli_fail(EXIT_SYSTEM, "%s", err.text);
    return status;
}

/* ---- going down ---- */

static void go_down(server *s) {
    const uint32_t told_ms = 1000; /* for the last events to leave */
    const uint32_t wait_ms = (uint32_t)(s->o.shutdown_timeout * 1000);
    if (s->slot.api) oct_api_begin_drain(s->slot.api);
    if (s->slot.api && oct_http_server_drain(s->http, wait_ms) != OCT_OK)
        oct_warn("%u requests did not finish within %g s and are aborted",
                 oct_api_n_jobs(s->slot.api), s->o.shutdown_timeout);
    if (s->engine) oct_engine_stop(s->engine, 0);
    if (s->slot.api && oct_http_server_drain(s->http, told_ms) != OCT_OK)
        oct_warn("some clients did not take their last bytes");
    oct_http_server_destroy(s->http);
    oct_engine_destroy(s->engine);
    oct_api_destroy(s->slot.api);
    oct_template_release(s->template);
    oct_template_release(s->tool_template);
    json_decref(s->template_kwargs);
    opened_close(&s->m);
}

static int serve(server *s) {
    const uint64_t begun = oct_now_ns();
    int status = come_up(s);
    if (status < 0) {
        printf("serving %s on %s (ready after %.2f s)\n",
               s->o.names.n ? s->o.names.at[0] : s->o.model, oct_http_server_address(s->http),
               (double)(oct_now_ns() - begun) / 1e9);
        fflush(stdout);
        serve_signals_ready();
        const int sig = serve_signals_wait();
        oct_info("%s: finishing what runs; a second signal ends at once", strsignal(sig));
        status = EXIT_CLEAN;
    }
    go_down(s);
    return status;
}

/* ---- flags ---- */

/* Flags of vLLM that scripts carry and that change nothing here. */
typedef struct ignored_flags {
    bool chunked_prefill, prefix_caching, async, trust_code, eager, access_log, dummy;
    const char *text;
    uint64_t one, seed;
    double number;
} ignored_flags;

static int serve_run(const cli_command *self, int argc, char **argv) {
    static server s; /* large, and used until the process ends */
    serve_options *o = &s.o;
    *o = (serve_options){.open = OPEN_OPTIONS_DEFAULT,
                         .port = 8000,
                         .max_connections = 1024,
                         .http_workers = 2,
                         .shutdown_timeout = 30,
                         .max_num_seqs = 128,
                         .max_num_batched_tokens = 2048,
                         .max_num_queued_reqs = 1024,
                         .generation_config = "auto",
                         .response_role = "assistant",
                         .max_logprobs = 20,
                         .logprobs_mode = "raw_logprobs"};
    ignored_flags ignored = {.chunked_prefill = true, .async = true, .one = 1};
    const char *model = NULL, *pos[1];
    unsigned n_pos;
    cli_flag model_flags[OPEN_N_FLAGS];
    open_flags(&o->open, model_flags);
#define STRING(flag, to, val, text) \
    { .name = flag, .type = CLI_STRING, .out = to, .value = val, .help = text }
#define STRINGS(flag, to, val, text) \
    { .name = flag, .type = CLI_STRINGS, .out = to, .value = val, .help = text }
#define SWITCH(flag, to, text) \
    { .name = flag, .type = CLI_SWITCH, .out = to, .help = text }
#define COUNT(flag, to, lo, hi, text) \
    { .name = flag, .type = CLI_COUNT, .out = to, .value = "N", .min = lo, .max = hi, .help = text }
    const cli_flag http_flags[] = {
        STRING("host", &o->host, "HOST", "name or address; all interfaces unless given"),
        COUNT("port", &o->port, 0, 65535, "0: one that is free"),
        STRING("uds", &o->uds, "PATH", "a UNIX socket instead of host and port"),
        STRINGS("api-key", &o->keys, "KEY",
                "wanted from clients, except for health, ping, version and metrics;\nmay be given "
                "several times; VLLM_API_KEY when absent"),
        STRINGS("served-model-name", &o->names, "NAME",
                "the model's name in requests; may be given several times, the first is shown"),
        STRINGS("allowed-origins", &o->origins, "ORIGIN", "CORS; all unless given"),
        {.name = "shutdown-timeout",
         .type = CLI_NUMBER,
         .out = &o->shutdown_timeout,
         .value = "S",
         .min = 0,
         .max = 86400,
         .help = "seconds that running requests have to finish after SIGTERM"},
        COUNT("max-connections", &o->max_connections, 1, 65536, "most connections at a time"),
        COUNT("http-workers", &o->http_workers, 1, 256,
              "threads that read requests, render and tokenize"),
        SWITCH("enable-request-id-headers", &o->request_id_headers, "answers carry X-Request-Id"),
        SWITCH("enable-server-load-tracking", &o->track_load, "/load counts running requests"),
    };
    const cli_flag engine_flags[] = {
        COUNT("max-num-seqs", &o->max_num_seqs, 1, 65536, "most sequences of one step"),
        COUNT("max-num-batched-tokens", &o->max_num_batched_tokens, 1, 1 << 20,
              "most tokens of one step"),
        COUNT("max-num-queued-reqs", &o->max_num_queued_reqs, 1, 1 << 20,
              "most requests that wait; more are answered 503"),
        COUNT("long-prefill-token-threshold", &o->chunk_tokens, 0, 1 << 20,
              "most prompt tokens of one sequence in one step; 0: no limit"),
        COUNT("num-gpu-blocks-override", &o->n_blocks, 1, 1 << 30, "blocks of the KV cache"),
        {.name = "gpu-memory-utilization",
         .type = CLI_NUMBER,
         .out = &o->memory_share,
         .value = "F",
         .min = 0.01,
         .max = 1,
         .help = "share of the memory that is free after loading for the KV cache;\n0.4 unless "
                 "given"},
        COUNT("max-logprobs", &o->max_logprobs, 1, OCT_MODEL_MAX_TOP,
              "most likely tokens that a request may ask for"),
        {.name = "logprobs-mode",
         .type = CLI_CHOICE,
         .out = &o->logprobs_mode,
         .choices = "raw_logprobs|processed_logprobs|raw_logits|processed_logits",
         .help = "what logprobs show"},
        SWITCH("disable-log-stats", &o->disable_log_stats, "no throughput line every 10 s"),
        SWITCH("enable-log-requests", &o->log_requests, "one line a request, without its text"),
    };
    const cli_flag chat_flags[] = {
        STRING("generation-config", &o->generation_config, "auto|none|FOLDER",
               "where the sampling defaults come from (auto: the model; vllm is none)"),
        STRING("override-generation-config", &o->override_generation_config, "JSON",
               "sampling defaults that win over it"),
        STRING("chat-template", &o->chat_template, "FILE", "instead of the model's own"),
        STRING("default-chat-template-kwargs", &o->template_kwargs, "JSON",
               "variables for the template, for instance {\"enable_thinking\": false}"),
        SWITCH("trust-request-chat-template", &o->trust_template,
               "requests may bring a template of their own"),
        SWITCH("exclude-tools-when-tool-choice-none", &o->exclude_tools,
               "tool_choice \"none\" hides the tools from the model"),
        STRING("response-role", &o->response_role, "ROLE", "role of the answers"),
        SWITCH("enable-force-include-usage", &o->force_usage, "every stream carries usage"),
        SWITCH("enable-prompt-tokens-details", &o->prompt_details, "usage tells cached tokens"),
        SWITCH("return-tokens-as-token-ids", &o->tokens_as_ids, "logprobs show token_id:N"),
    };
    const cli_flag ignored_group[] = {
        STRING("model", &model, "MODEL", "another way to name the model"),
        SWITCH("enable-chunked-prefill", &ignored.chunked_prefill, "always on"),
        SWITCH("enable-prefix-caching", &ignored.prefix_caching, "not in this build"),
        SWITCH("async-scheduling", &ignored.async, "no effect"),
        SWITCH("trust-remote-code", &ignored.trust_code, "no effect: no code of a model is run"),
        SWITCH("enforce-eager", &ignored.eager, "no effect"),
        SWITCH("disable-uvicorn-access-log", &ignored.access_log, "no effect"),
        COUNT("tensor-parallel-size", &ignored.one, 1, 1, "only 1"),
        COUNT("pipeline-parallel-size", &ignored.one, 1, 1, "only 1"),
        COUNT("data-parallel-size", &ignored.one, 1, 1, "only 1"),
        COUNT("seed", &ignored.seed, 0, 0, "no effect: requests bring their seeds"),
        STRING("dtype", &ignored.text, "TYPE", "no effect: the device decides"),
        STRING("load-format", &ignored.text, "FORMAT", "no effect: found out"),
        STRING("compilation-config", &ignored.text, "JSON", "no effect"),
        STRING("additional-config", &ignored.text, "JSON", "no effect"),
    };
#undef STRING
#undef STRINGS
#undef SWITCH
#undef COUNT
    const cli_group groups[] = {{"Server", http_flags, OCT_COUNT(http_flags)},
                                {"Engine", engine_flags, OCT_COUNT(engine_flags)},
                                {"Chat", chat_flags, OCT_COUNT(chat_flags)},
                                {"Model", model_flags, OPEN_N_FLAGS},
                                {"vLLM", ignored_group, OCT_COUNT(ignored_group)}};
    int status = cli_parse(self, groups, OCT_COUNT(groups), argc, argv, pos, 1, &n_pos);
    if (status >= 0) return status;
    if (n_pos == 1 && model)
        return cli_fail(EXIT_USAGE, "--model: a MODEL was given already (got %.64s)", model);
    o->model = n_pos == 1 ? pos[0] : model;
    if (!o->model) return cli_fail(EXIT_USAGE, "serve: want a MODEL; see octet serve --help");
    status = check_flags(o);
    return status >= 0 ? status : serve(&s);
}

const cli_command serve_command = {
    .name = "serve",
    .summary = "serves a model over the OpenAI API",
    .usage = "MODEL",
    .examples = "  octet serve model-w8a8c8 --port 8000\n"
                "  octet serve model.gguf -q int8 --served-model-name small --api-key secret\n"
                "  curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json' \\\n"
                "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}'",
    .notes = "MODEL is a folder or a GGUF file. SIGTERM finishes what runs and ends with status 0.",
    .run = serve_run,
};
