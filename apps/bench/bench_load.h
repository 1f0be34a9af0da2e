/*
 * apps/bench/bench_load.h - `octet bench load MODEL`: how fast a model's files become weights on
 * the device, beside reading the same bytes and nothing else.
 */
#ifndef OCT_APPS_BENCH_BENCH_LOAD_H
#define OCT_APPS_BENCH_BENCH_LOAD_H

#include "open.h"

typedef struct load_options {
    uint64_t repeats;
    bool json;
} load_options;

/* An exit status. */
int load_run(const open_options *open, const load_options *o, const char *path);

#endif
