/*
 * apps/bench/bench_step.h - `octet bench step MODEL`: prompts and decode steps as fractions of what
 * this machine can do at most, measured in the same run.
 */
#ifndef OCT_APPS_BENCH_BENCH_STEP_H
#define OCT_APPS_BENCH_BENCH_STEP_H

#include "open.h"

enum { STEP_MAX_LIST = 16, STEP_MAX_REPEATS = 99 };

typedef struct step_list {
    uint32_t at[STEP_MAX_LIST];
    unsigned n;
} step_list;

typedef struct step_options {
    open_options open;
    uint64_t prefill, decode, repeats;
    uint64_t max_rows; /* of a step of a prompt */
    step_list context; /* one and more */
    step_list batch;   /* none: the short report of one sequence */
    bool json;
} step_options;

/* "1,16,64" or "4k": numbers from 1 to most, at most STEP_MAX_LIST of them. flag is its name. -1,
 * or the exit status. */
int step_read_list(const char *flag, const char *text, uint32_t most, step_list *out);

/* An exit status. */
int step_run(const step_options *o, const char *path);

#endif
