/*
 * apps/bench/random.h - the generator of numpy.random.default_rng, so that a seed names the same
 * lengths and ids here as in benchmarks that are written in Python: PCG64 (O'Neill, "PCG: A Family
 * of Simple Fast Space-Efficient Statistically Good Algorithms", 2014; XSL-RR, 128 bits of state)
 * seeded as numpy's SeedSequence does, integers by Lemire's method ("Fast Random Integer Generation
 * in an Interval", 2019). tests/unit/apps compares with recorded numbers.
 */
#ifndef OCT_APPS_BENCH_RANDOM_H
#define OCT_APPS_BENCH_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

__extension__ typedef unsigned __int128 bench_u128;

typedef struct bench_random {
    bench_u128 state, step;
    uint32_t half; /* of a number of 64 bits of which one of 32 was taken */
    bool has_half;
} bench_random;

void bench_random_seed(bench_random *r, uint64_t seed);
uint64_t bench_random_u64(bench_random *r);
/* Uniform in [lo, hi]; hi - lo is below 2^32 - 1. */
int64_t bench_random_in(bench_random *r, int64_t lo, int64_t hi);
/* Uniform in [0, 1). */
double bench_random_unit(bench_random *r);
/* Gamma distributed, mean shape * scale (Marsaglia and Tsang, "A Simple Method for Generating Gamma
 * Variables", 2000); not numpy's numbers. */
double bench_random_gamma(bench_random *r, double shape, double scale);

#endif
