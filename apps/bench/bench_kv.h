/*
 * apps/bench/bench_kv.h - `octet bench kv`: writing to and decoding from a cache of each type that
 * the device has, beside int8_per_channel in the same run.
 */
#ifndef OCT_APPS_BENCH_BENCH_KV_H
#define OCT_APPS_BENCH_BENCH_KV_H

#include "open.h"

typedef struct kv_options {
    uint64_t context, repeats;
    bool json;
} kv_options;

/* An exit status. */
int kv_run(const open_options *open, const kv_options *o);

#endif
