/* apps/bench/bench.h - what the measurements share. */
#ifndef OCT_APPS_BENCH_BENCH_H
#define OCT_APPS_BENCH_BENCH_H

/* Sorts v[n]; n is at least 1. */
double bench_median(double *v, unsigned n);

#endif
