/*
 * apps/bench/offline.h - a model behind an engine without HTTP, for `bench throughput` and
 * `bench latency`: the same queue, scheduler and steps as `octet serve`, fed with random ids.
 *
 * Threads    One thread calls these; what the engine's thread tells is kept under a lock.
 */
#ifndef OCT_APPS_BENCH_OFFLINE_H
#define OCT_APPS_BENCH_OFFLINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "engine/engine.h"
#include "open.h"
#include "tuning.h"

/* ---- flags ----------------------------------------------------------------------------------- */

typedef struct offline_options {
    open_options open;
    tuning tuning;
    uint64_t max_num_seqs, max_num_batched_tokens, chunk_tokens, n_blocks;
    uint64_t long_partials, partial_prefills;
    double decode_wait_ms;
    bool prefix_caching, skip_text;
    bool json;
    const char *output; /* a file for the JSON, or NULL */
} offline_options;

/* As serve's. */
void offline_defaults(offline_options *o);

enum { OFFLINE_N_REPORT_FLAGS = 3, OFFLINE_N_ENGINE_FLAGS = 8 + KEEP_N_FLAGS + TUNING_N_FLAGS };
void offline_report_flags(offline_options *o, cli_flag flags[OFFLINE_N_REPORT_FLAGS]);
void offline_engine_flags(offline_options *o, cli_flag flags[OFFLINE_N_ENGINE_FLAGS]);

/* ---- what is asked --------------------------------------------------------------------------- */

typedef struct offline_job {
    uint32_t at, n_prompt; /* its prompt is ids[at .. at + n_prompt) */
    uint32_t n_output;     /* exactly so many tokens are drawn */
} offline_job;

typedef struct offline_work {
    offline_job *jobs; /* [n_jobs] */
    uint32_t n_jobs, n_choices;
    int32_t *ids; /* [n_ids] */
    uint64_t n_ids;
    uint32_t longest;         /* prompt and output of a job */
    uint64_t n_prompt_tokens; /* of all jobs, once each */
    uint64_t n_output_tokens; /* of all jobs and choices */
} offline_work;

typedef struct offline_lengths {
    uint64_t n_jobs, n_choices, input, output, prefix; /* prefix: ids before them */
    double range; /* [0, 1): lengths are uniform within this share of input and output */
} offline_lengths;

/* Chooses the lengths; the ids follow when the vocabulary is known. OCT_E_INVALID: too many. */
OCT_MUST_CHECK oct_status offline_plan(const offline_lengths *l, uint64_t seed, offline_work *out,
                                       oct_err *err);
void offline_work_free(offline_work *w); /* accepts a zeroed one */

/* ---- the engine ------------------------------------------------------------------------------ */

typedef struct offline {
    opened m;
    oct_kvstore *kvstore; /* or NULL */
    oct_engine *engine;
    bool text; /* answers become text too */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t n_ended;
    oct_status failed; /* of the first request that ended badly */
    char why[OCT_ERR_TEXT];
    _Atomic uint64_t n_drawn;
} offline;

/* Opens path with a cache for as much of w as can run at a time. -1, or the exit status. */
int offline_open(offline_options *o, const char *path, const offline_work *w, offline *b);
void offline_close(offline *b);

/* Random ids below limit (0: the vocabulary), none of them special; the first `prefix` of all
 * prompts are the same. */
void offline_fill(const offline *b, offline_work *w, uint32_t limit, uint32_t prefix,
                  uint64_t seed);

/* Submits everything and waits for its end; the seconds of that. shown NULL: no bar. */
OCT_MUST_CHECK oct_status offline_run(offline *b, const offline_work *w, uint64_t seed, bar *shown,
                                      double *seconds, oct_err *err);

/* What both reports add to the keys that other tools know: version, device, scheme, threads. */
void offline_json_tail(FILE *to, const offline *b);

/* What a command says of its figures. */
typedef struct offline_report {
    void (*print)(const void *ctx); /* for people */
    void (*json)(const void *ctx, FILE *to);
    const void *ctx;
} offline_report;

/* Says them on stdout (--json: as JSON) and in the file of --output-json. An exit status. */
int offline_tell(const offline_options *o, const offline_report *r);

/* ---- the commands: exit statuses ------------------------------------------------------------- */

int throughput_run(int argc, char **argv);
int latency_run(int argc, char **argv);

#endif
