/*
 * apps/serve/serve.c - `octet serve MODEL`: flags, and the order in which a server comes up and
 * goes down.
 *
 * Up: flags, signals, the socket (an occupied port fails before a model byte is read), HTTP, which
 * answers 503 until there is something to serve, model, cache, engine. Down: no new requests
 * (503, /health too), running ones finish within --shutdown-timeout, the rest is aborted and told
 * so, everything is given back. A device that is lost ends the process
 * with status 5.
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

/* ---- coming up ---- */

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

/* --allowed-methods, --allowed-headers: a JSON array becomes the list that the field wants; "*"
 * and nothing mean all. Lives until the process ends. */
static int read_list(const char *flag, const char **list) {
    const char *text = *list;
    oct_err err = {0};
    json_t *array, *one;
    size_t i;
    if (text && strcmp(text, "*") == 0) *list = NULL;
    if (!text || text[0] != '[') return -1;
    if (oct_json_parse(oct_str_of(text), flag, &oct_json_file_limits, &array, &err) != OCT_OK)
        return cli_fail(EXIT_USAGE, "%s", err.text);
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    bool all = false, strings = true;
    json_array_foreach(array, i, one) {
        strings = strings && json_is_string(one);
        all = all || oct_str_is(oct_json_str(one), "*");
        if (i > 0) oct_buf_cstr(&b, ", ");
        oct_buf_str(&b, oct_json_str(one));
    }
    json_decref(array);
    *list = all ? NULL : oct_buf_cs(&b);
    return strings ? -1 : cli_fail(EXIT_USAGE, "%s: not an array of strings", flag);
}

static int bind_socket(server *s) {
    const serve_options *o = &s->o;
    oct_http_config c = {.host = o->host,
                         .port = (uint32_t)o->port,
                         .uds_path = o->uds,
                         .tls = o->tls.certfile ? &o->tls : NULL,
                         .limits = serve_http_limits(o),
                         .n_workers = (uint32_t)o->http_workers,
                         .ctx = &s->slot,
                         .guard = oct_api_guard,
                         .handle = oct_api_handle,
                         .decorate = oct_api_decorate,
                         .over = oct_api_over};
    oct_err err = {0};
    uint32_t port;
    const oct_status st = oct_http_server_bind(oct_system_allocator(), &c, &s->http, &port, &err);
    if (strncmp(err.text, "--ssl", 5) != 0)
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
    tuning_model(&s->o.tuning, &mo);
    int status = open_model(&s->o.open, s->o.model, &mo, &s->m);
    if (status < 0 && s->o.skip_tokenizer) {
        oct_tokenizer_destroy(s->m.tokenizer);
        s->m.tokenizer = NULL;
    }
    if (status < 0) status = serve_choose_blocks(s);
    if (status >= 0) return status;
    const oct_keep_options keep = keep_options(&s->o.open);
    oct_status st = oct_model_kv_create(s->m.model, s->n_blocks, &err);
    if (st == OCT_OK) st = oct_keep_shelves(s->m.model, &keep, s->n_blocks, &s->n_shelves, &err);
    return st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
}

static int open_kvstore(server *s) {
    const oct_keep_options keep = keep_options(&s->o.open);
    oct_err err = {0};
    const oct_status st =
        oct_keep_open(s->m.model, s->m.ckpt, s->m.device, &keep, s->n_blocks, &s->kvstore, &err);
    return st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
}

static oct_logprobs_mode logprobs_mode(const char *name) {
    if (strcmp(name, "processed_logprobs") == 0) return OCT_PROCESSED_LOGPROBS;
    if (strcmp(name, "raw_logits") == 0) return OCT_RAW_LOGITS;
    if (strcmp(name, "processed_logits") == 0) return OCT_PROCESSED_LOGITS;
    return OCT_RAW_LOGPROBS;
}

/* On the engine thread. */
static void lose_device(void *ctx, const char *sentence) {
    server *s = ctx;
    snprintf(s->why, sizeof s->why, "%s", sentence);
    atomic_store(&s->lost, true);
    serve_signals_wake();
}

static int start_engine(server *s) {
    const oct_model_config *cfg = oct_checkpoint_config(s->m.ckpt);
    const oct_generation_config *g = oct_checkpoint_generation(s->m.ckpt);
    int32_t eos[2 * OCT_MAX_EOS + 1];
    uint32_t n_eos = 0;
    oct_err err = {0};
    for (uint32_t i = 0; i < cfg->n_eos; i++) eos[n_eos++] = cfg->eos_ids[i];
    for (uint32_t i = 0; i < g->n_eos; i++) eos[n_eos++] = g->eos_ids[i];
    const int32_t own = s->m.tokenizer ? oct_tokenizer_eos(s->m.tokenizer) : -1;
    if (n_eos == 0 && own >= 0) eos[n_eos++] = own;
    const oct_engine_options eo = {.n_blocks = s->n_blocks,
                                   .n_shelves = s->n_shelves,
                                   .kvstore = s->kvstore,
                                   .max_num_seqs = (uint32_t)s->o.max_num_seqs,
                                   .max_num_batched_tokens = (uint32_t)s->o.max_num_batched_tokens,
                                   .draft = s->o.tuning.draft,
                                   .max_chunk_tokens = (uint32_t)s->o.chunk_tokens,
                                   .max_num_queued_reqs = (uint32_t)s->o.max_num_queued_reqs,
                                   .max_partial_prefills = (uint32_t)s->o.partial_prefills,
                                   .max_long_partials = (uint32_t)s->o.long_partials,
                                   .by_priority = strcmp(s->o.policy, "priority") == 0,
                                   .max_decode_wait_ns = (uint64_t)(s->o.decode_wait_ms * 1e6),
                                   .max_num_queued_tokens = s->o.max_num_queued_tokens,
                                   .no_prefix_caching = !s->o.prefix_caching,
                                   .max_logprobs = (uint32_t)s->o.max_logprobs,
                                   .logprobs_mode = logprobs_mode(s->o.logprobs_mode),
                                   .eos_ids = eos,
                                   .n_eos = n_eos,
                                   .stuck_ns = (uint64_t)(s->o.stuck_s * 1e9),
                                   .on_lost = lose_device,
                                   .on_lost_user = s,
                                   .log_every_ns = s->o.disable_log_stats ? 0 : s->o.log_every_ns};
    oct_status st = oct_engine_create(oct_system_allocator(), s->m.model, s->m.tokenizer, &eo,
                                      &s->engine, &err);
    if (st == OCT_OK) {
        oct_info("steps %s", oct_engine_get_info(s->engine)->async_scheduling
                                 ? "overlap"
                                 : "follow each other: no asynchronous scheduling");
        st = oct_engine_start(s->engine, &err);
    }
    if (st == OCT_OK) return -1;
    return cli_fail(st == OCT_E_IO ? EXIT_INTERNAL : cli_status_of(st), "%s", err.text);
}

static int start_api(server *s) {
    const serve_options *o = &s->o;
    const char *origins[MAX_ORIGINS];
    uint32_t n_origins;
    oct_err err = {0};
    oct_api_label labels[SERVE_N_CACHE_LABELS];
    int status = read_origins(o, origins, &n_origins);
    if (status < 0) status = read_list("--allowed-methods", &s->o.allowed_methods);
    if (status < 0) status = read_list("--allowed-headers", &s->o.allowed_headers);
    if (status < 0) status = serve_make_info(s);
    if (status >= 0) return status;
    const oct_api_config c = {
        .engine = s->engine,
        .tokenizer = s->m.tokenizer,
        .template = s->template,
        .tool_template = s->tool_template,
        .template_error = s->template_error[0] ? s->template_error : NULL,
        .template_kwargs = s->template_kwargs,
        .tokenizer_info = s->tokenizer_info.len ? oct_buf_cs(&s->tokenizer_info) : NULL,
        .response_role = o->response_role,
        .reasoning_parser =
            o->reasoning_parser ? oct_speak_find_reasoning(o->reasoning_parser) : NULL,
        .tool_parser = o->tool_parser ? oct_speak_find_tools(o->tool_parser) : NULL,
        .auto_tools = o->auto_tools,
        .names = o->names.n ? o->names.at : &o->model,
        .n_names = o->names.n ? o->names.n : 1,
        .root = o->model,
        .version = OCT_VERSION,
        .fingerprint = serve_shown_fingerprint(s),
        .cache_labels = labels,
        .n_cache_labels = serve_cache_labels(s, labels),
        .http = s->http,
        .defaults = s->defaults,
        .keys = o->keys.at,
        .n_keys = o->keys.n,
        .origins = origins,
        .n_origins = n_origins,
        .limits = serve_api_limits(o),
        .root_path = o->root_path,
        .allowed_methods = o->allowed_methods,
        .allowed_headers = o->allowed_headers,
        .allow_credentials = o->allow_credentials,
        .dev_mode = o->dev_mode,
        .server_info = {s->info[0], s->info[1], s->info[2]},
        .stream_interval = (uint32_t)o->stream_interval,
        .per_request_metrics = o->request_metrics,
        .force_include_usage = o->force_usage,
        .prompt_tokens_details = o->prompt_details,
        .tokens_as_token_ids = o->tokens_as_ids,
        .trust_request_chat_template = o->trust_template,
        .exclude_tools_when_none = o->exclude_tools,
        .request_id_headers = o->request_id_headers,
        .track_server_load = o->track_load,
        .log_requests = o->log_requests,
        .request_timeout_ns = (uint64_t)(o->request_s * 1e9),
    };
    oct_api *api;
    const oct_status st = oct_api_create(oct_system_allocator(), &c, &api, &err);
    if (st == OCT_OK) s->slot.api = api; /* from here on it answers */
    return st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
}

int serve_come_up(server *s) {
    oct_err err = {0};
    oct_memory_one_heap();
    int status = serve_signals_start();
    if (status < 0) status = bind_socket(s);
    if (status < 0 && oct_http_server_start(s->http, &err) != OCT_OK)
        status = cli_fail(EXIT_SYSTEM, "%s", err.text);
    if (status < 0) status = load_model(s);
    if (status < 0) status = serve_choose_defaults(s);
    if (status < 0) status = serve_open_templates(s);
    if (status < 0) status = serve_tokenizer_info(s);
    if (status < 0) status = serve_fingerprint(s);
    if (status < 0) status = open_kvstore(s);
    if (status < 0) status = start_engine(s);
    if (status < 0) status = start_api(s);
    return status;
}

/* ---- going down ---- */

enum { TOLD_MS = 1000 }; /* for the last events to leave */

/* The device does not come back and neither will the engine's thread: nothing can be taken down in
 * order. Clients are told, and the process ends. */
static _Noreturn void give_up(server *s) {
    oct_api_begin_drain(s->slot.api);
    oct_api_fail_all(s->slot.api, "the engine failed to answer this request");
    (void)!oct_http_server_drain(s->http, TOLD_MS);
    (void)cli_fail(EXIT_DEVICE, "--device: no step has finished for %.1f s (got %s)",
                   (double)oct_engine_waiting_ns(s->engine) / 1e9, s->m.device->source);
    fflush(NULL);
    _exit(EXIT_DEVICE);
}

static bool is_stuck(const server *s, double seconds) {
    return (double)oct_engine_waiting_ns(s->engine) > seconds * 1e9;
}

/* Until no request generates any more, while whoever asks hears 503. False: some are left. */
static bool finish_jobs(server *s, double seconds) {
    const uint64_t begin = oct_now_ns();
    while (oct_api_n_jobs(s->slot.api) > 0) {
        if ((double)(oct_now_ns() - begin) >= seconds * 1e9) return false;
        oct_sleep_ns(2000000);
    }
    return true;
}

void serve_go_down(server *s) {
    serve_notify("STOPPING=1");
    const bool lost = atomic_load(&s->lost);
    if (s->slot.api) oct_api_begin_drain(s->slot.api);
    if (s->http) oct_http_server_begin_drain(s->http);
    if (s->slot.api && !finish_jobs(s, lost ? TOLD_MS / 1e3 : s->o.shutdown_timeout))
        oct_warn("%u requests did not finish within %g s and are aborted",
                 oct_api_n_jobs(s->slot.api), s->o.shutdown_timeout);
    if (s->slot.api && is_stuck(s, s->o.stuck_s)) give_up(s);
    if (s->engine) oct_engine_stop(s->engine, 0);
    if (s->slot.api && oct_http_server_drain(s->http, TOLD_MS) != OCT_OK)
        oct_warn("some clients did not take their last bytes");
    oct_http_server_destroy(s->http);
    oct_engine_destroy(s->engine);
    oct_kvstore_close(s->kvstore);
    oct_api_destroy(s->slot.api);
    oct_template_release(s->template);
    oct_template_release(s->tool_template);
    json_decref(s->template_kwargs);
    oct_buf_fini(&s->tokenizer_info);
    for (size_t i = 0; i < OCT_COUNT(s->info); i++) json_decref(s->info[i]);
    opened_close(&s->m);
}

int serve_watch(server *s, const atomic_bool *done) {
    enum { LOOK_MS = 500 };
    for (;;) {
        const int sig = serve_signals_wait(LOOK_MS);
        if (atomic_load(&s->lost)) return EXIT_DEVICE;
        if (done && atomic_load(done)) return -1;
        if (sig != 0) {
            oct_info("%s: finishing what runs; a second signal ends at once", strsignal(sig));
            return EXIT_CLEAN;
        }
        if (is_stuck(s, s->o.device_s)) give_up(s);
        serve_notify_alive(s);
    }
}

static int serve(server *s) {
    const uint64_t begun = oct_now_ns();
    int status = serve_come_up(s);
    if (status < 0) {
        serve_signals_ready(); /* before anybody can know that it may be signalled */
        printf("serving %s on %s (ready after %.2f s)\n",
               s->o.names.n ? s->o.names.at[0] : s->o.model, oct_http_server_address(s->http),
               (double)(oct_now_ns() - begun) / 1e9);
        fflush(stdout);
        serve_notify("READY=1");
        status = serve_watch(s, NULL);
    }
    serve_go_down(s);
    /* The last line, behind what the engine still has to say of steps on their way. */
    if (atomic_load(&s->lost)) return cli_fail(EXIT_DEVICE, "--device: lost (%s)", s->why);
    return status;
}

static int serve_run(const cli_command *self, int argc, char **argv) {
    static server s; /* large, and used until the process ends */
    const int status = serve_read_flags(self, NULL, argc, argv, &s.o);
    if (status >= 0) return status;
    serve_crash_start();
    return serve(&s);
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
    .foreign = vllm_flags,
    .config = true,
    .run = serve_run,
};
