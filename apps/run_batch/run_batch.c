/*
 * apps/run_batch/run_batch.c - `octet run-batch -i IN -o OUT MODEL`: an OpenAI batch file, without
 * a server that others could reach.
 *
 * The model is served as `octet serve` does, on a socket in a folder of our own; as many threads as
 * sequences fit into a step each take a line, send it, and write the answer, in the order of the
 * lines. So a line means what the same request means to a server, on every route there is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "codec/json.h"
#include "commands.h"
#include "net/client.h"
#include "serve/serve.h"

enum {
    MAX_THREADS = 256,
    AHEAD = 4, /* lines that may be done before an earlier one, for each thread */
    DAY_MS = 24 * 3600 * 1000,
    BUSY_NS = 200000000,
};

typedef struct batch {
    const char *in_path, *out_path;
    FILE *in, *out;
    uint64_t in_bytes; /* 0: unknown */
    bool quiet;
    size_t line_limit;

    server *server;
    char folder[64], socket[96], address[112];

    pthread_mutex_t lock; /* the rest */
    pthread_cond_t moved; /* n_written grew, or stop */
    uint64_t n_taken, n_written, n_failed, read_bytes, stamp;
    bool at_end, stop, write_failed;
    uint32_t n_threads;
    atomic_bool done;
    bar bar;
} batch;

/* ---- one line ---- */

/* What its answer line holds. */
typedef struct answered {
    json_t *line; /* of the input; NULL: it is none */
    oct_http_reply reply;
    const char *refusal; /* why nothing was sent; NULL: reply counts */
    char words[200];
} answered;

static const char *check_line(answered *a) {
    const json_t *url = json_object_get(a->line, "url"), *body = json_object_get(a->line, "body");
    const json_t *method = json_object_get(a->line, "method");
    if (!json_is_object(a->line)) return "the line must be a JSON object";
    if (!json_is_string(json_object_get(a->line, "custom_id"))) return "custom_id must be a string";
    if (method && !oct_str_is(oct_json_str(method), "POST")) return "method must be POST";
    if (!json_is_string(url) || json_string_value(url)[0] != '/' ||
        strpbrk(json_string_value(url), " \t\r\n"))
        return "url must be a path, for instance /v1/chat/completions";
    if (!json_is_object(body)) return "body must be an object";
    if (json_is_true(json_object_get(body, "stream"))) return "stream is not possible in a batch";
    return NULL;
}

static void parse_line(oct_str text, answered *a) {
    oct_err err = {0};
    if (oct_json_parse(text, "line", &oct_json_request_limits, &a->line, &err) == OCT_OK) {
        a->refusal = check_line(a);
        return;
    }
    snprintf(a->words, sizeof a->words, "%.199s", err.text);
    a->refusal = a->words;
}

static bool stopped(batch *b) {
    pthread_mutex_lock(&b->lock);
    const bool stop = b->stop;
    pthread_mutex_unlock(&b->lock);
    return stop;
}

/* A full queue is waited for. */
static void send_line(batch *b, oct_http_client *client, answered *a) {
    oct_err err = {0};
    oct_buf body;
    oct_buf_init(&body, oct_system_allocator(), 0);
    oct_json_dump(&body, json_object_get(a->line, "body"), JSON_COMPACT);
    const oct_http_call call = {.method = "POST",
                                .path = json_string_value(json_object_get(a->line, "url")),
                                .content_type = "application/json",
                                .body = oct_buf_view(&body)};
    oct_status st = body.failed ? OCT_E_NOMEM : OCT_OK;
    do {
        if (st == OCT_OK) st = oct_http_client_call(client, &call, &a->reply, &err);
        if (st != OCT_OK || a->reply.status != 503 || stopped(b)) break;
        oct_sleep_ns(BUSY_NS);
    } while (!stopped(b));
    oct_buf_fini(&body);
    if (st == OCT_OK) return;
    snprintf(a->words, sizeof a->words, "%.199s",
             err.text[0] ? err.text : "no memory for the request");
    a->refusal = a->words;
}

/* ---- its answer ---- */

static void write_error(const char *code, const char *message, oct_buf *out) {
    oct_buf_printf(out, "null,\"error\":{\"code\":\"%s\",\"message\":", code);
    oct_json_quote(out, oct_str_of(message));
    oct_buf_cstr(out, "}}\n");
}

static void write_answer(const batch *b, uint64_t i, const answered *a, oct_buf *out) {
    const json_t *id = json_object_get(a->line, "custom_id");
    oct_buf_printf(out,
                   "{\"id\":\"vllm-%016llx%08llx\",\"custom_id\":", (unsigned long long)b->stamp,
                   (unsigned long long)i);
    if (json_is_string(id))
        oct_json_quote(out, oct_json_str(id));
    else
        oct_buf_cstr(out, "null");
    oct_buf_cstr(out, ",\"response\":");
    if (a->refusal) {
        write_error("invalid_request", a->refusal, out);
        return;
    }
    oct_buf_printf(out, "{\"status_code\":%d,\"request_id\":\"vllm-batch-%016llx%08llx\",\"body\":",
                   a->reply.status, (unsigned long long)b->stamp, (unsigned long long)i);
    if (a->reply.body.len > 0)
        oct_buf_str(out, oct_buf_view(&a->reply.body));
    else
        oct_buf_cstr(out, "null");
    oct_buf_cstr(out, "},\"error\":null}\n");
}

/* In the order of the lines: waits for those before. */
static void put_answer(batch *b, uint64_t i, const answered *a) {
    oct_buf out;
    oct_buf_init(&out, oct_system_allocator(), 0);
    write_answer(b, i, a, &out);
    pthread_mutex_lock(&b->lock);
    while (b->n_written != i && !b->stop) pthread_cond_wait(&b->moved, &b->lock);
    if (!b->stop) {
        if (out.failed || fwrite(out.data, 1, out.len, b->out) != out.len || fflush(b->out) != 0)
            b->write_failed = b->stop = true;
        b->n_failed += a->refusal || a->reply.status >= 400;
        b->n_written++;
        if (b->in_bytes > 0 && !b->quiet) bar_show(&b->bar, b->read_bytes, b->in_bytes);
    }
    pthread_cond_broadcast(&b->moved);
    pthread_mutex_unlock(&b->lock);
    oct_buf_fini(&out);
}

/* ---- the threads ---- */

/* The next line that is not blank; its number in *i. False: there is none, or no more are wanted.
 */
static bool take_line(batch *b, char **line, size_t *cap, size_t *len, uint64_t *i) {
    bool got = false;
    pthread_mutex_lock(&b->lock);
    while (!b->stop && b->n_taken - b->n_written >= (uint64_t)AHEAD * b->n_threads)
        pthread_cond_wait(&b->moved, &b->lock);
    while (!got && !b->stop && !b->at_end) {
        const ssize_t n = getline(line, cap, b->in);
        b->at_end = n < 0;
        if (n < 0) break;
        b->read_bytes += (uint64_t)n;
        *len = (size_t)n;
        got = strspn(*line, " \t\r\n") < *len;
    }
    if (got) *i = b->n_taken++;
    pthread_mutex_unlock(&b->lock);
    return got;
}

static void answer_line(batch *b, oct_http_client *client, oct_str text, uint64_t i) {
    answered a = {0};
    oct_http_reply_init(&a.reply, oct_system_allocator());
    if (text.len > b->line_limit)
        a.refusal = "the line is longer than --max-body-bytes";
    else
        parse_line(text, &a);
    if (!a.refusal) send_line(b, client, &a);
    put_answer(b, i, &a);
    oct_http_reply_fini(&a.reply);
    json_decref(a.line);
}

static void *work(void *arg) {
    batch *b = arg;
    oct_http_client *client = NULL;
    oct_err err = {0};
    char *line = NULL;
    size_t cap = 0, len = 0;
    uint64_t i;
    if (oct_http_client_create(oct_system_allocator(), b->address, DAY_MS, &client, &err) == OCT_OK)
        while (take_line(b, &line, &cap, &len, &i)) answer_line(b, client, (oct_str){line, len}, i);
    else
        oct_error("%s", err.text);
    oct_http_client_destroy(client);
    free(line);
    return NULL;
}

/* Joins the workers, then says so. */
typedef struct crew {
    batch *b;
    oct_thread threads[MAX_THREADS];
    uint32_t n;
} crew;

static void *lead(void *arg) {
    crew *c = arg;
    for (uint32_t i = 0; i < c->n; i++) oct_thread_join(&c->threads[i]);
    atomic_store(&c->b->done, true);
    serve_signals_wake();
    return NULL;
}

static int run_lines(batch *b) {
    static crew c;
    oct_thread leader = {0};
    oct_err err = {0};
    c.b = b;
    for (; c.n < b->n_threads; c.n++)
        if (oct_thread_start(&c.threads[c.n], "oct-batch", work, b, &err) != OCT_OK) break;
    if (c.n == 0 || oct_thread_start(&leader, "oct-batch-lead", lead, &c, &err) != OCT_OK)
        return cli_fail(EXIT_SYSTEM, "%s", err.text);
    const int status = serve_watch(b->server, &b->done);
    pthread_mutex_lock(&b->lock);
    if (status >= 0) b->stop = true;
    pthread_cond_broadcast(&b->moved);
    pthread_mutex_unlock(&b->lock);
    if (status == EXIT_DEVICE) (void)cli_fail(status, "--device: lost (%s)", b->server->why);
    serve_go_down(b->server); /* whoever still waits for an answer hears of it */
    oct_thread_join(&leader);
    bar_end(&b->bar);
    return status;
}

/* ---- files and the socket ---- */

static int open_files(batch *b) {
    struct stat st;
    b->in = strcmp(b->in_path, "-") == 0 ? stdin : fopen(b->in_path, "r");
    if (!b->in) return cli_fail(EXIT_USAGE, "--input-file: %s: %s", b->in_path, strerror(errno));
    if (fstat(fileno(b->in), &st) == 0 && S_ISREG(st.st_mode)) b->in_bytes = (uint64_t)st.st_size;
    if (fstat(fileno(b->in), &st) == 0 && S_ISDIR(st.st_mode))
        return cli_fail(EXIT_USAGE, "--input-file: %s: is a directory", b->in_path);
    b->out = strcmp(b->out_path, "-") == 0 ? stdout : fopen(b->out_path, "w");
    if (!b->out)
        return cli_fail(EXIT_SYSTEM, "--output-file: %s: %s", b->out_path, strerror(errno));
    return -1;
}

static int make_socket(batch *b) {
    serve_options *o = &b->server->o;
    snprintf(b->folder, sizeof b->folder, "/tmp/octet-batch-XXXXXX");
    if (!mkdtemp(b->folder))
        return cli_fail(EXIT_SYSTEM, "run-batch: %s: %s", b->folder, strerror(errno));
    snprintf(b->socket, sizeof b->socket, "%s/socket", b->folder);
    snprintf(b->address, sizeof b->address, "unix:%s", b->socket);
    o->host = NULL;
    o->uds = b->socket;
    o->keys.n = 0; /* nobody else can come in */
    o->shutdown_timeout = 0;
    const oct_http_limits limits = serve_http_limits(o);
    b->n_threads = limits.connections > 1 ? limits.connections - 1 : 1;
    if (b->n_threads > o->max_num_seqs) b->n_threads = (uint32_t)o->max_num_seqs;
    if (b->n_threads > MAX_THREADS) b->n_threads = MAX_THREADS;
    b->quiet = o->open.quiet;
    b->line_limit = limits.body_bytes;
    return -1;
}

static int finish(batch *b, int status, double seconds) {
    if (b->write_failed || (b->out && b->out != stdout && fclose(b->out) != 0))
        status = cli_fail(EXIT_SYSTEM, "--output-file: %s: cannot be written", b->out_path);
    else if (status == EXIT_CLEAN)
        status = cli_fail(EXIT_SYSTEM, "run-batch: interrupted after %llu lines",
                          (unsigned long long)b->n_written);
    if (b->in && b->in != stdin) fclose(b->in);
    if (b->folder[0]) {
        unlink(b->socket);
        rmdir(b->folder);
    }
    if (status >= 0) return status;
    fprintf(stderr, "%llu requests in %.1f s, %llu of them refused or failed\n",
            (unsigned long long)b->n_written, seconds, (unsigned long long)b->n_failed);
    return EXIT_CLEAN;
}

static int run_batch(const cli_command *self, int argc, char **argv) {
    static server s;
    static batch b = {.server = &s, .bar = {.label = "requests", .last = -1}};
    cli_flag flags[] = {
        cli_string("input-file", &b.in_path, "FILE", "a request a line; -: standard input"),
        cli_string("output-file", &b.out_path, "FILE", "an answer a line; -: standard output"),
    };
    flags[0].alias = "-i";
    flags[1].alias = "-o";
    const cli_group group = {"Batch", flags, OCT_COUNT(flags)};
    int status = serve_read_flags(self, &group, argc, argv, &s.o);
    if (status >= 0) return status;
    if (!b.in_path || !b.out_path)
        return cli_fail(EXIT_USAGE, "run-batch: want -i FILE and -o FILE");
    serve_crash_start();
    pthread_mutex_init(&b.lock, NULL);
    pthread_cond_init(&b.moved, NULL);
    b.stamp = oct_now_ns();
    status = open_files(&b);
    if (status < 0) status = make_socket(&b);
    const uint64_t begun = oct_now_ns();
    if (status < 0 && b.folder[0]) {
        status = serve_come_up(&s);
        if (status < 0) {
            serve_signals_ready();
            status = run_lines(&b);
        } else {
            serve_go_down(&s);
        }
    }
    return finish(&b, status, (double)(oct_now_ns() - begun) / 1e9);
}

const cli_command run_batch_command = {
    .name = "run-batch",
    .summary = "answers a file of requests (OpenAI batch format)",
    .usage = "-i IN.jsonl -o OUT.jsonl MODEL",
    .examples = "  octet run-batch -i requests.jsonl -o answers.jsonl model-w8a8c8",
    .notes = "A line of IN is {\"custom_id\": \"a\", \"method\": \"POST\", \"url\": "
             "\"/v1/chat/completions\",\n\"body\": {...}}; OUT has an answer for each, in the same "
             "order. All flags of octet serve\nmean what they mean there.",
    .run = run_batch,
};
