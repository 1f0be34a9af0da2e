/*
 * apps/run/run.c - `octet run MODEL [PROMPT]`: one answer, or a chat in the terminal.
 *
 * The engine's callback prints; this thread reads lines and waits. Ctrl-C stops the answer that is
 * being given; at the prompt it clears the line, and Ctrl-D leaves.
 */
#include <editline/readline.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "engine/engine.h"
#include "open.h"
#include "text/chat.h"

enum { MAX_HISTORY = 1000, TICK_NS = 20 * 1000 * 1000 };

typedef struct run_options {
    open_options open;
    const char *system;
    uint64_t max_tokens;
    double temperature, top_p, min_p; /* temperature below 0: not given */
    uint64_t top_k;
    bool raw, stats;
} run_options;

typedef struct chat {
    const run_options *o;
    opened m;
    oct_template *template; /* NULL: plain continuation */
    oct_engine *engine;
    json_t *messages;
    oct_buf answer; /* written by the engine thread until finished */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool finished;
    oct_finish finish;
    char error[OCT_ERR_TEXT];
    uint32_t n_prompt, n_completion;
    oct_request_times times;
} chat;

static volatile sig_atomic_t interrupted;
static void on_interrupt(int sig) {
    (void)sig;
    interrupted = 1;
}

/* On the engine thread. A terminal that takes nothing slows nobody else here. */
static void on_output(void *user, const oct_output *out) {
    chat *c = user;
    if (out->text.len) {
        fwrite(out->text.ptr, 1, out->text.len, stdout);
        fflush(stdout);
        oct_buf_str(&c->answer, out->text);
    }
    if (out->finish == OCT_FINISH_NONE) return;
    pthread_mutex_lock(&c->lock);
    c->finished = true;
    c->finish = out->finish;
    snprintf(c->error, sizeof c->error, "%s", out->error);
    c->n_prompt = out->n_prompt;
    c->n_completion = out->n_completion;
    c->times = out->times;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void wait_for_answer(chat *c, oct_request *r) {
    pthread_mutex_lock(&c->lock);
    while (!c->finished) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_NS;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&c->changed, &c->lock, &until);
        if (interrupted) oct_request_cancel(r);
    }
    pthread_mutex_unlock(&c->lock);
}

static void print_stats(const chat *c) {
    const double first = (double)(c->times.first_token_ns - c->times.arrival_ns) / 1e9;
    const double rest = (double)(c->times.last_token_ns - c->times.first_token_ns) / 1e9;
    if (!c->o->stats || !c->times.first_token_ns) return;
    fprintf(stderr, "%s[%u tokens in, first after %.0f ms; %u out, %.1f tokens/s]%s\n",
            isatty(STDERR_FILENO) ? "\033[2m" : "", c->n_prompt, first * 1e3, c->n_completion,
            rest > 0 ? (c->n_completion - 1) / rest : 0.0, isatty(STDERR_FILENO) ? "\033[0m" : "");
}

static oct_status render(chat *c, const char *prompt, oct_buf *text, oct_err *err) {
    const oct_tokenizer *t = c->m.tokenizer;
    const oct_template_var vars[] = {{"bos_token", oct_tokenizer_bos_text(t).ptr},
                                     {"eos_token", oct_tokenizer_eos_text(t).ptr}};
    oct_template_var set[OCT_COUNT(vars)];
    size_t n_set = 0;
    if (!c->template) {
        oct_buf_cstr(text, prompt);
        return OCT_OK;
    }
    for (size_t i = 0; i < OCT_COUNT(vars); i++)
        if (vars[i].value && vars[i].value[0]) set[n_set++] = vars[i];
    const oct_chat_request req = {
        .messages = c->messages, .add_generation_prompt = true, .vars = set, .n_vars = n_set};
    return oct_chat_render(c->template, &req, NULL, text, err);
}

/* Asks, and prints the answer while it is made. */
static oct_status ask(chat *c, const char *prompt, oct_err *err) {
    const run_options *o = c->o;
    const oct_generation_config *g = oct_checkpoint_generation(c->m.ckpt);
    const uint32_t longest = oct_engine_get_info(c->engine)->max_model_len;
    oct_request *handle = NULL;
    oct_buf text;
    oct_ids ids;

    oct_buf_init(&text, oct_system_allocator(), 0);
    oct_ids_init(&ids, oct_system_allocator());
    oct_status st = render(c, prompt, &text, err);
    if (st == OCT_OK)
        st = oct_tokenizer_encode(
            c->m.tokenizer, oct_buf_view(&text),
            OCT_ENCODE_PARSE_SPECIAL | (c->template ? 0 : OCT_ENCODE_ADD_SPECIAL), &ids, err);
    if (st == OCT_OK && (ids.len == 0 || ids.len >= longest))
        st = OCT_FAIL(err, OCT_E_INVALID,
                      "the conversation has %zu tokens; the maximum context length is %u (/clear "
                      "begins anew)",
                      ids.len, longest);
    oct_request_spec spec = OCT_REQUEST_SPEC_DEFAULT;
    spec.prompt = ids.data;
    spec.n_prompt = (uint32_t)ids.len;
    const uint64_t room = longest - ids.len;
    spec.max_tokens = (uint32_t)(o->max_tokens && o->max_tokens < room ? o->max_tokens : room);
    spec.sampling.temperature = (float)(o->temperature >= 0  ? o->temperature
                                        : g->has_temperature ? g->temperature
                                                             : 0.7);
    spec.sampling.top_p = (float)o->top_p;
    spec.sampling.top_k = (int32_t)o->top_k;
    spec.sampling.min_p = (float)o->min_p;
    if (g->has_repetition_penalty) spec.sampling.repetition_penalty = (float)g->repetition_penalty;
    spec.sampling.has_seed = o->open.seed_given;
    spec.sampling.seed = o->open.seed;
    spec.on_output = on_output;
    spec.user = c;

    interrupted = 0;
    c->finished = false;
    oct_buf_clear(&c->answer);
    if (st == OCT_OK) st = oct_engine_submit(c->engine, &spec, &handle, err);
    if (st == OCT_OK) {
        wait_for_answer(c, handle);
        putchar('\n');
        fflush(stdout);
        print_stats(c);
        if (c->finish == OCT_FINISH_ERROR) st = OCT_FAIL(err, OCT_E_DEVICE, "%s", c->error);
    }
    interrupted = 0;
    oct_request_release(handle);
    oct_buf_fini(&text);
    oct_ids_fini(&ids);
    return st;
}

static void say_as(chat *c, const char *role, oct_str text) {
    json_array_append_new(c->messages, json_pack("{s:s, s:s%}", "role", role, "content",
                                                 text.ptr ? text.ptr : "", text.len));
}

static void begin_anew(chat *c) {
    json_array_clear(c->messages);
    if (c->o->system) say_as(c, "system", oct_str_of(c->o->system));
}

/* ---- the terminal --------------------------------------------------------------------------- */

static bool history_path(char *out, size_t bytes) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;
    if (state && state[0])
        n = snprintf(out, bytes, "%s/octet", state);
    else
        n = snprintf(out, bytes, "%s/.local/state/octet", home ? home : "/tmp");
    if (n < 0 || (size_t)n + 16 >= bytes) return false;
    for (char *p = out + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            mkdir(out, 0700);
            *p = '/';
        }
    mkdir(out, 0700);
    snprintf(out + n, bytes - (size_t)n, "/history");
    return true;
}

/* The next line without its end, to be freed; NULL at the end of input. */
static char *next_line(void) {
    if (isatty(STDIN_FILENO)) return readline("> ");
    char *line = NULL;
    size_t cap = 0;
    const ssize_t n = getline(&line, &cap, stdin);
    if (n < 0) {
        free(line);
        return NULL;
    }
    if (n > 0 && line[n - 1] == '\n') line[n - 1] = '\0';
    return line;
}

static int converse(chat *c) {
    char path[4096];
    const bool keep = isatty(STDIN_FILENO) && history_path(path, sizeof path);
    if (keep) read_history(path);
    if (isatty(STDIN_FILENO))
        fprintf(stderr, "/clear begins anew, Ctrl-C stops an answer, Ctrl-D leaves\n");
    for (char *line; (line = next_line()) || interrupted;) {
        oct_err err = {0};
        if (!line) { /* Ctrl-C at the prompt */
            interrupted = 0;
            putchar('\n');
            continue;
        }
        if (line[0] && isatty(STDIN_FILENO)) add_history(line);
        if (strcmp(line, "/clear") == 0) {
            begin_anew(c);
        } else if (strcmp(line, "/exit") == 0) {
            free(line);
            break;
        } else if (line[0]) {
            say_as(c, "user", oct_str_of(line));
            if (ask(c, line, &err) == OCT_OK) {
                say_as(c, "assistant", oct_buf_view(&c->answer));
            } else {
                json_array_remove(c->messages, json_array_size(c->messages) - 1);
                fprintf(stderr, "octet: %s\n", err.text);
            }
        }
        free(line);
    }
    if (isatty(STDIN_FILENO)) putchar('\n'); /* the shell's prompt gets a line of its own */
    if (keep) {
        stifle_history(MAX_HISTORY);
        write_history(path);
    }
    return EXIT_CLEAN;
}

/* ---- the command ---------------------------------------------------------------------------- */

static int start_engine(chat *c) {
    const oct_model_info *info = oct_model_get_info(c->m.model);
    const oct_model_config *cfg = oct_checkpoint_config(c->m.ckpt);
    const oct_generation_config *g = oct_checkpoint_generation(c->m.ckpt);
    static int32_t eos[2 * OCT_MAX_EOS];
    uint32_t n_eos = 0;
    oct_err err = {0};
    uint64_t blocks = (info->max_model_len - 1) / info->block_tokens + 1;
    if (c->o->open.kv_cache_memory &&
        c->o->open.kv_cache_memory / info->kv_bytes_per_block < blocks)
        blocks = c->o->open.kv_cache_memory / info->kv_bytes_per_block;

    for (uint32_t i = 0; i < cfg->n_eos; i++) eos[n_eos++] = cfg->eos_ids[i];
    for (uint32_t i = 0; i < g->n_eos; i++) eos[n_eos++] = g->eos_ids[i];
    const int32_t own = oct_tokenizer_eos(c->m.tokenizer);
    if (n_eos == 0 && own >= 0) eos[n_eos++] = own;
    const oct_engine_options eo = {
        .n_blocks = (uint32_t)blocks, .max_num_seqs = 1, .eos_ids = eos, .n_eos = n_eos};
    oct_status st = oct_model_kv_create(c->m.model, (uint32_t)blocks, &err);
    if (st == OCT_OK)
        st = oct_engine_create(oct_system_allocator(), c->m.model, c->m.tokenizer, &eo, &c->engine,
                               &err);
    if (st == OCT_OK) st = oct_engine_start(c->engine, &err);
    return st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
}

static int open_template(chat *c) {
    const oct_str source = oct_tokenizer_chat_template(c->m.tokenizer, NULL);
    oct_err err = {0};
    if (c->o->raw || !source.ptr) return -1;
    if (oct_template_create(oct_system_allocator(), source.ptr, source.len, &c->template, &err) ==
        OCT_OK)
        return -1;
    return cli_fail(EXIT_MODEL, "chat template: %s (--raw continues text without one)", err.text);
}

static int run_chat(const run_options *o, const char *path, const char *prompt) {
    chat c = {.o = o,
              .messages = json_array(),
              .lock = PTHREAD_MUTEX_INITIALIZER,
              .changed = PTHREAD_COND_INITIALIZER};
    oct_model_options mo = {.max_rows = 512, .max_seqs = 1, .max_logits = 1};
    oct_err err = {0};

    oct_buf_init(&c.answer, oct_system_allocator(), 0);
    int status = open_model(&o->open, path, &mo, &c.m);
    if (status < 0 && !c.m.tokenizer)
        status = cli_fail(EXIT_MODEL, "%s: tokenizer.json: missing; a chat needs it", path);
    if (status < 0) status = open_template(&c);
    if (status < 0) status = start_engine(&c);
    if (status < 0) {
        const struct sigaction act = {.sa_handler = on_interrupt}; /* reads end with EINTR */
        sigaction(SIGINT, &act, NULL);
        begin_anew(&c);
        if (!prompt) {
            status = converse(&c);
        } else {
            say_as(&c, "user", oct_str_of(prompt));
            const oct_status st = ask(&c, prompt, &err);
            status = st == OCT_OK ? EXIT_CLEAN
                                  : cli_fail(st == OCT_E_INVALID ? EXIT_USAGE : EXIT_INTERNAL, "%s",
                                             err.text);
        }
    }
    if (c.engine) oct_engine_stop(c.engine, 0);
    oct_engine_destroy(c.engine);
    oct_template_release(c.template);
    json_decref(c.messages);
    oct_buf_fini(&c.answer);
    opened_close(&c.m);
    return status;
}

static int run_run(const cli_command *self, int argc, char **argv) {
    run_options o = {
        .open = OPEN_OPTIONS_DEFAULT, .temperature = -1, .top_p = 0.95, .stats = false};
    cli_flag model_flags[OPEN_N_FLAGS];
    o.open.log_level = "warn";
    open_flags(&o.open, model_flags);
    const cli_flag flags[] = {
        cli_string("system", &o.system, "TEXT", "system message"),
        cli_count("max-tokens", &o.max_tokens, 1, 16777216, "most tokens of an answer"),
        cli_number(
            "temperature", &o.temperature, "T", 0, 2,
            "0: always the likeliest token; the model's own unless given, 0.7 if it has none"),
        cli_number("top-p", &o.top_p, "P", 1e-6, 1,
                   "draw from the likeliest tokens that make up P"),
        {.name = "top-k",
         .type = CLI_COUNT,
         .out = &o.top_k,
         .value = "K",
         .max = 1 << 24,
         .help = "draw from the K likeliest"},
        cli_number("min-p", &o.min_p, "P", 0, 1,
                   "leave out tokens less likely than P times the likeliest"),
        cli_switch("raw", &o.raw, "continue the text; no chat template"),
        cli_switch("stats", &o.stats, "tokens and speed after each answer"),
    };
    const cli_group groups[] = {{"Answer", flags, OCT_COUNT(flags)},
                                {"Model", model_flags, OPEN_N_FLAGS}};
    const char *pos[2] = {NULL, NULL};
    unsigned n_pos;
    const int status = cli_parse(self, groups, OCT_COUNT(groups), argc, argv, pos, 2, &n_pos);
    if (status >= 0) return status;
    if (n_pos == 0) return cli_fail(EXIT_USAGE, "run: want a MODEL; see octet run --help");
    return run_chat(&o, pos[0], pos[1]);
}

const cli_command run_command = {
    .name = "run",
    .summary = "chat with a model in the terminal, or one answer",
    .usage = "MODEL [PROMPT]",
    .examples = "  octet run model-w8a8c8\n  octet run model.gguf -q int8 \"Why is the sky blue?\" "
                "--temperature 0 --stats",
    .run = run_run,
};
