/* apps/bench/bench.h - what the measurements share. */
#ifndef OCT_APPS_BENCH_BENCH_H
#define OCT_APPS_BENCH_BENCH_H

#include "open.h"

/* Sorts v[n]; n is at least 1. */
double bench_median(double *v, unsigned n);
/* The sets that --cpu-mask leaves, as the CPU device reads it: -1, or the exit status. */
int bench_read_mask(const open_options *o, uint32_t *mask);
/* Nothing but the CPU was asked for: what is measured is held against what it can do at most. */
bool bench_on_cpu(const open_options *o);

#endif
