/*
 * apps/run/run.c - `octet run MODEL [PROMPT]`: one answer, or a chat in the terminal.
 *
 * A user of the library's door (octet/octet.h) like any other program. This thread reads lines,
 * polls and prints. Ctrl-C stops the answer that is being given; at the prompt it clears the line,
 * and Ctrl-D leaves.
 */
#include <editline/readline.h>
#include <errno.h>
#include <octet/octet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "open.h"

enum { MAX_HISTORY = 1000, TICK_MS = 20, SENTENCE_BYTES = 512 };

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
    octet_engine *engine;
    octet_engine_info info;
    octet_message *messages; /* [n]; role static, content its own */
    size_t n, cap;
    oct_buf answer;
    char sentence[SENTENCE_BYTES]; /* of the last failure */
} chat;

static volatile sig_atomic_t interrupted;
static void on_interrupt(int sig) {
    (void)sig;
    interrupted = 1;
}

static void print_stats(const chat *c, const octet_output *out) {
    const double first = (double)(out->first_token_ns - out->arrival_ns) / 1e9;
    const double rest = (double)(out->last_token_ns - out->first_token_ns) / 1e9;
    if (!c->o->stats || !out->first_token_ns) return;
    char cached[32] = "";
    if (out->n_cached) snprintf(cached, sizeof cached, " (%u cached)", out->n_cached);
    fprintf(stderr, "%s[%u tokens in%s, first after %.0f ms; %u out, %.1f tokens/s]%s\n",
            isatty(STDERR_FILENO) ? "\033[2m" : "", out->n_prompt, cached, first * 1e3,
            out->n_completion, rest > 0 ? (out->n_completion - 1) / rest : 0.0,
            isatty(STDERR_FILENO) ? "\033[0m" : "");
}

/* Prints the answer while it is made. A code of octet/status.h. */
static int32_t print_answer(chat *c, octet_request *r) {
    octet_output out = {.struct_bytes = sizeof out};
    while (out.finish == OCTET_RUNNING) {
        const int32_t code = octet_poll(r, TICK_MS, &out);
        if (code != OCTET_OK) return code;
        fwrite(out.text, 1, out.text_bytes, stdout);
        fflush(stdout);
        oct_buf_add(&c->answer, out.text, out.text_bytes);
        if (interrupted) octet_cancel(r);
    }
    putchar('\n');
    fflush(stdout);
    print_stats(c, &out);
    if (out.finish != OCTET_FINISH_ERROR) return OCTET_OK;
    snprintf(c->sentence, sizeof c->sentence, "%s", out.error);
    return OCTET_E_DEVICE;
}

/* Continues the conversation, or the text of its last message where there is no template. */
static int32_t ask(chat *c) {
    const run_options *o = c->o;
    octet_request_spec spec = {.struct_bytes = sizeof spec};
    octet_request *r;
    int32_t code = octet_request_defaults(c->engine, &spec);
    if (c->info.has_chat_template && !o->raw) {
        spec.messages = c->messages;
        spec.n_messages = (uint32_t)c->n;
    } else {
        spec.text = c->messages[c->n - 1].content;
    }
    spec.max_tokens = (uint32_t)o->max_tokens;
    if (o->temperature >= 0) spec.temperature = (float)o->temperature;
    spec.top_p = (float)o->top_p;
    spec.top_k = (int32_t)o->top_k;
    spec.min_p = (float)o->min_p;
    if (o->open.seed_given) spec.flags |= OCTET_REQUEST_SEEDED;
    spec.seed = o->open.seed;

    interrupted = 0;
    oct_buf_clear(&c->answer);
    if (code == OCTET_OK) code = octet_submit(c->engine, &spec, &r, c->sentence, SENTENCE_BYTES);
    if (code == OCTET_OK) {
        code = print_answer(c, r);
        octet_request_release(r);
    }
    interrupted = 0;
    return code;
}

static void drop_last(chat *c) { free((char *)c->messages[--c->n].content); }

/* False: no memory. */
static bool say_as(chat *c, const char *role, const char *text) {
    if (c->n == c->cap) {
        const size_t cap = c->cap ? 2 * c->cap : 16;
        octet_message *more = realloc(c->messages, cap * sizeof *more);
        if (!more) return false;
        c->messages = more;
        c->cap = cap;
    }
    char *kept = strdup(text);
    if (!kept) return false;
    c->messages[c->n++] = (octet_message){role, kept};
    return true;
}

static void begin_anew(chat *c) {
    while (c->n > 0) drop_last(c);
    if (c->o->system) say_as(c, "system", c->o->system);
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
            const bool said = say_as(c, "user", line);
            const int32_t code = said ? ask(c) : OCTET_E_NOMEM;
            if (code == OCTET_OK) {
                say_as(c, "assistant", oct_buf_cs(&c->answer));
            } else {
                if (said) drop_last(c);
                fprintf(stderr, "octet: %s%s\n", c->sentence,
                        code == OCTET_E_INVALID ? " (/clear begins anew)" : "");
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

static int open_chat(chat *c, const char *path) {
    octet_engine_options eo = {
        .struct_bytes = sizeof eo, .max_num_seqs = 1, .max_num_batched_tokens = 512};
    const int status = open_engine(&c->o->open, path, &eo, &c->engine);
    if (status >= 0) return status;
    c->info.struct_bytes = sizeof c->info;
    if (octet_engine_get_info(c->engine, &c->info) != OCTET_OK)
        return cli_fail(EXIT_INTERNAL, "run: no word from the engine");
    if (!c->info.has_tokenizer)
        return cli_fail(EXIT_MODEL, "%s: tokenizer.json: missing; a chat needs it", path);
    if (c->info.template_error[0] && !c->o->raw)
        return cli_fail(EXIT_MODEL, "%s (--raw continues text without one)",
                        c->info.template_error);
    return -1;
}

static int answer_once(chat *c, const char *prompt) {
    const int32_t code = say_as(c, "user", prompt) ? ask(c) : OCTET_E_NOMEM;
    if (code == OCTET_OK) return EXIT_CLEAN;
    return cli_fail(code == OCTET_E_INVALID ? EXIT_USAGE : EXIT_INTERNAL, "%s", c->sentence);
}

static int run_chat(const run_options *o, const char *path, const char *prompt) {
    chat c = {.o = o, .sentence = "no memory"};
    oct_buf_init(&c.answer, oct_system_allocator(), 0);
    int status = open_chat(&c, path);
    if (status < 0) {
        const struct sigaction act = {.sa_handler = on_interrupt}; /* reads end with EINTR */
        sigaction(SIGINT, &act, NULL);
        begin_anew(&c);
        status = prompt ? answer_once(&c, prompt) : converse(&c);
    }
    octet_engine_close(c.engine);
    while (c.n > 0) drop_last(&c);
    free(c.messages);
    oct_buf_fini(&c.answer);
    return status;
}

static int run_run(const cli_command *self, int argc, char **argv) {
    run_options o = {
        .open = OPEN_OPTIONS_DEFAULT, .temperature = -1, .top_p = 0.95, .stats = false};
    cli_flag model_flags[OPEN_N_FLAGS], kept[KEEP_N_FLAGS];
    o.open.log_level = "warn";
    open_flags(&o.open, model_flags);
    keep_flags(&o.open, kept);
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
                                {"Cache", kept, KEEP_N_FLAGS},
                                {"Model", model_flags, OPEN_N_FLAGS}};
    const char *pos[2] = {NULL, NULL};
    unsigned n_pos;
    const int status = cli_parse(self, groups, OCT_COUNT(groups), argc, argv, pos, 2, &n_pos);
    if (status >= 0) return status;
    if (n_pos == 0) return cli_fail(EXIT_USAGE, "run: want a MODEL; see octet run --help");
    const int keep = keep_check(&o.open, true);
    if (keep >= 0) return keep;
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
