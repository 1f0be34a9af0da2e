/*
 * apps/bench/bench_startup.c - `octet bench startup MODEL`: how long a server takes from exec to
 * readiness and to the first token of an answer. Cold: the model's files are put out of the page
 * cache before; warm: they lie there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/bench_online.h"
#include "bench/client.h"
#include "bench/figures.h"
#include "open.h"

extern char **environ;

enum { MAX_ARGS = 64, MAX_ITERS = 1000, N_PERCENTS = 6 };
static const double percents[N_PERCENTS] = {10, 25, 50, 75, 90, 99};

typedef struct startup {
    const char *model, *output;
    const char *args[MAX_ARGS]; /* of octet serve, behind the model */
    unsigned n_args;
    uint64_t n_cold, n_warmups, n_warm, timeout_s;
    bool json, quiet;
    char self[1024], uds[128];
} startup;

typedef struct times {
    double ready[MAX_ITERS], first[MAX_ITERS];
    uint32_t n;
} times;

/* ---- caches ---- */

static void forget_file(int folder, const char *name) {
    const int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return;
    (void)fdatasync(fd);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static void forget_model(const char *path) {
    DIR *d = opendir(path);
    if (!d) {
        forget_file(AT_FDCWD, path);
        return;
    }
    for (const struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') forget_file(dirfd(d), e->d_name);
    closedir(d);
}

/* ---- one start ---- */

static int start_server(const startup *s, pid_t *pid) {
    const char *argv[MAX_ARGS + 8] = {s->self, "serve",       s->model, "--uds",
                                      s->uds,  "--log-level", "error"};
    posix_spawn_file_actions_t files;
    unsigned n = 7;
    for (unsigned i = 0; i < s->n_args; i++) argv[n++] = s->args[i];
    argv[n] = NULL;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    const int code = posix_spawn(pid, s->self, &files, NULL, (char **)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return code == 0 ? -1 : cli_fail(EXIT_SYSTEM, "%s: %s", s->self, strerror(code));
}

static void end_server(pid_t pid) {
    kill(pid, SIGTERM);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

static void write_body(const void *ctx, uint32_t i, oct_buf *out) {
    (void)ctx;
    (void)i;
    oct_buf_cstr(
        out, "{\"prompt\": \"Hi\", \"max_tokens\": 1, \"ignore_eos\": true, \"temperature\": 0, "
             "\"stream\": true}");
}

/* Seconds since t0 at which an answer's first token came; below 0: why is told. */
static double first_token(const client_server *server, uint64_t t0) {
    const double due = 0;
    double seconds, at = -1;
    oct_err err = {0};
    client_result *r = oct_calloc(oct_system_allocator(), 1, sizeof *r);
    const client_plan p = {
        .server = *server, .id_prefix = "startup-", .n = 1, .due = &due, .body = write_body};
    if (r && client_run(&p, r, &seconds, &err) == OCT_OK && r->ok)
        at = (double)(oct_now_ns() - t0) / 1e9;
    else
        (void)cli_fail(EXIT_SYSTEM, "no first token: %s", r && r->error[0] ? r->error : err.text);
    client_results_free(r, r ? 1 : 0);
    return at;
}

static int measure_one(const startup *s, double *ready, double *first) {
    const client_server server = {
        .url = "http://localhost", .endpoint = "/v1/completions", .unix_socket = s->uds};
    const struct timespec nap = {.tv_nsec = 1000000};
    const uint64_t t0 = oct_now_ns();
    pid_t pid;
    oct_buf answer;
    oct_err err = {0};
    int status = start_server(s, &pid), how;
    if (status >= 0) return status;
    oct_buf_init(&answer, oct_system_allocator(), 1 << 20);
    while (client_get(&server, "/health", &answer, &err) != 200) {
        if (waitpid(pid, &how, WNOHANG) == pid) {
            oct_buf_fini(&answer);
            return cli_fail(WIFEXITED(how) ? WEXITSTATUS(how) : EXIT_INTERNAL,
                            "octet serve ended before it was ready");
        }
        if ((oct_now_ns() - t0) / 1000000000 > s->timeout_s) {
            status = cli_fail(EXIT_SYSTEM, "octet serve was not ready after %" PRIu64 " s",
                              s->timeout_s);
            break;
        }
        nanosleep(&nap, NULL);
    }
    *ready = (double)(oct_now_ns() - t0) / 1e9;
    *first = status < 0 ? first_token(&server, t0) : -1;
    end_server(pid);
    oct_buf_fini(&answer);
    (void)unlink(s->uds);
    return status >= 0 ? status : *first < 0 ? EXIT_SYSTEM : -1;
}

static int measure(const startup *s, bool cold, uint64_t n, uint64_t n_warmups, times *t) {
    bar shown = {cold ? "cold starts" : "warm starts", -1};
    for (uint64_t i = 0; i < n + n_warmups; i++) {
        double ready, first;
        if (cold) forget_model(s->model);
        const int status = measure_one(s, &ready, &first);
        if (status >= 0) return status;
        if (!s->quiet) bar_show(&shown, i + 1, n + n_warmups);
        if (i < n_warmups) continue;
        t->ready[t->n] = ready;
        t->first[t->n++] = first;
    }
    bar_end(&shown);
    return -1;
}

/* ---- the report ---- */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double mean_of(const double *v, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += v[i];
    return n ? sum / n : 0;
}

static void print_times(const char *what, double *v, uint32_t n) {
    const figures_values sorted = {v, n, n};
    if (n == 0) return;
    qsort(v, n, sizeof *v, by_value);
    printf("Avg %s time: %.3f seconds\n", what, mean_of(v, n));
    for (int i = 0; i < N_PERCENTS; i++)
        printf("%g%% percentile %s time: %.3f seconds\n", percents[i], what,
               figures_percentile(&sorted, percents[i]));
}

static void add_times(json_t *to, const char *what, double *v, uint32_t n) {
    char key[64], p[16];
    json_t *list = json_array(), *table = json_object();
    for (uint32_t i = 0; i < n; i++) json_array_append_new(list, json_real(v[i]));
    qsort(v, n, sizeof *v, by_value);
    const figures_values sorted = {v, n, n};
    for (int i = 0; i < N_PERCENTS; i++) {
        snprintf(p, sizeof p, "%g", percents[i]);
        json_object_set_new(table, p, json_real(figures_percentile(&sorted, percents[i])));
    }
    snprintf(key, sizeof key, "avg_%s_time", what);
    json_object_set_new(to, key, json_real(mean_of(v, n)));
    snprintf(key, sizeof key, "%s_times", what);
    json_object_set_new(to, key, list);
    snprintf(key, sizeof key, "%s_percentiles", what);
    json_object_set_new(to, key, table);
}

static int tell(const startup *s, times *cold, times *warm) {
    int status = -1;
    if (s->json || s->output) {
        json_t *to = json_object();
        add_times(to, "cold_startup", cold->ready, cold->n);
        add_times(to, "cold_first_token", cold->first, cold->n);
        add_times(to, "warm_startup", warm->ready, warm->n);
        add_times(to, "warm_first_token", warm->first, warm->n);
        json_object_set_new(to, "avg_cold_compilation_time",
                            json_real(0)); /* nothing is compiled */
        json_object_set_new(to, "avg_warm_compilation_time", json_real(0));
        json_object_set_new(to, "octet", json_string(OCT_VERSION));
        if (s->output && json_dump_file(to, s->output, JSON_COMPACT) != 0)
            status = cli_fail(EXIT_SYSTEM, "--output-json: %s: cannot be written", s->output);
        if (s->json) {
            json_dumpf(to, stdout, JSON_COMPACT);
            putchar('\n');
        }
        json_decref(to);
    }
    if (!s->json) {
        print_times("cold startup", cold->ready, cold->n);
        print_times("cold first token", cold->first, cold->n);
        print_times("warm startup", warm->ready, warm->n);
        print_times("warm first token", warm->first, warm->n);
    }
    return status < 0 ? EXIT_CLEAN : status;
}

/* ---- the command ---- */

static const cli_command startup_command = {
    .name = "bench startup",
    .summary = "seconds from exec until a server is ready, and until its first token",
    .usage = "MODEL [-- FLAGS OF octet serve]",
    .examples =
        "  octet bench startup model-w8a8c8\n"
        "  octet bench startup model-w8a8c8 --num-iters-warm 10 --json -- --max-model-len 4096\n",
    .notes = "Cold: the model's files are put out of the page cache before each start.",
};

static cli_flag iterations(const char *name, uint64_t *out, const char *help) {
    return (cli_flag){
        .name = name, .type = CLI_COUNT, .out = out, .value = "N", .max = MAX_ITERS, .help = help};
}

int bench_startup_run(int argc, char **argv) {
    static times cold, warm;
    startup s = {.n_cold = 3, .n_warmups = 1, .n_warm = 3, .timeout_s = 600};
    const cli_flag flags[] = {
        iterations("num-iters-cold", &s.n_cold, "counted starts with nothing in the page cache"),
        iterations("num-iters-warmup", &s.n_warmups, "starts before the warm ones"),
        iterations("num-iters-warm", &s.n_warm, "counted starts with the files in memory"),
        cli_count("timeout", &s.timeout_s, 1, 86400, "seconds that a start may take"),
        cli_switch("json", &s.json, "a JSON object on stdout"),
        cli_string("output-json", &s.output, "FILE", "the same in FILE"),
        cli_switch("quiet", &s.quiet, "no progress"),
    };
    const cli_group groups[] = {{"Measurement", flags, OCT_COUNT(flags)}};
    const char *pos[MAX_ARGS];
    unsigned n_pos;
    int status =
        cli_parse(&startup_command, groups, OCT_COUNT(groups), argc, argv, pos, MAX_ARGS, &n_pos);
    if (status >= 0) return status;
    if (n_pos == 0)
        return cli_fail(EXIT_USAGE, "bench startup: want a MODEL; see octet bench startup --help");
    const ssize_t len = readlink("/proc/self/exe", s.self, sizeof s.self - 1);
    if (len < 0) return cli_fail(EXIT_SYSTEM, "/proc/self/exe: %s", strerror(errno));
    s.self[len] = '\0';
    snprintf(s.uds, sizeof s.uds, "/tmp/octet-startup-%ld.sock", (long)getpid());
    s.model = pos[0];
    s.n_args = n_pos - 1;
    memcpy(s.args, pos + 1, s.n_args * sizeof *pos);
    status = measure(&s, true, s.n_cold, 0, &cold);
    if (status < 0) status = measure(&s, false, s.n_warm, s.n_warmups, &warm);
    return status < 0 ? tell(&s, &cold, &warm) : status;
}
