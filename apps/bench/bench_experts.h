/*
 * apps/bench/bench_experts.h - `octet bench experts`: one layer of experts on a device, decoding
 * and prefill, beside the read bandwidth and a dense layer of equal work in the same run.
 */
#ifndef OCT_APPS_BENCH_BENCH_EXPERTS_H
#define OCT_APPS_BENCH_BENCH_EXPERTS_H

#include "open.h"

typedef struct experts_options {
    uint64_t hidden, inner, n_experts, n_used, rows, repeats;
    bool json;
} experts_options;

/* The layer of Qwen3-30B-A3B. */
#define EXPERTS_OPTIONS_DEFAULT \
    ((experts_options){         \
        .hidden = 2048, .inner = 768, .n_experts = 128, .n_used = 8, .rows = 512, .repeats = 5})

/* An exit status. */
int experts_run(const open_options *open, const experts_options *o);

#endif
