/* apps/bench/random.c - see random.h. */
#include "random.h"

#include <math.h>

/* ---- the seed: a pool of four words that each word of entropy reaches ---- */

enum { POOL = 4 };

static uint32_t hashed(uint32_t value, uint32_t *constant, uint32_t factor) {
    value ^= *constant;
    *constant *= factor;
    value *= *constant;
    return value ^ value >> 16;
}

static uint32_t mixed(uint32_t x, uint32_t y) {
    const uint32_t r = 0xca01f9ddu * x - 0x4973f715u * y;
    return r ^ r >> 16;
}

static void fill_pool(uint64_t seed, uint32_t pool[POOL]) {
    uint32_t constant = 0x43b0d7e5u;
    const uint32_t factor = 0x931e8875u, words[POOL] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int i = 0; i < POOL; i++) pool[i] = hashed(words[i], &constant, factor);
    for (int from = 0; from < POOL; from++)
        for (int to = 0; to < POOL; to++)
            if (from != to) pool[to] = mixed(pool[to], hashed(pool[from], &constant, factor));
}

static bench_u128 wide(uint64_t high, uint64_t low) { return (bench_u128)high << 64 | low; }

static void advance(bench_random *r) {
    r->state = r->state * wide(0x2360ed051fc65da4u, 0x4385df649fccf645u) + r->step;
}

void bench_random_seed(bench_random *r, uint64_t seed) {
    uint32_t pool[POOL], constant = 0x8b51f9ddu;
    uint64_t words[4];
    fill_pool(seed, pool);
    for (int i = 0; i < 4; i++) {
        const uint64_t low = hashed(pool[2 * i % POOL], &constant, 0x58f38dedu);
        words[i] = low | (uint64_t)hashed(pool[(2 * i + 1) % POOL], &constant, 0x58f38dedu) << 32;
    }
    *r = (bench_random){.step = wide(words[2], words[3]) << 1 | 1};
    advance(r);
    r->state += wide(words[0], words[1]);
    advance(r);
}

/* ---- numbers ---- */

uint64_t bench_random_u64(bench_random *r) {
    advance(r);
    const uint64_t high = (uint64_t)(r->state >> 64), x = high ^ (uint64_t)r->state;
    const unsigned turn = (unsigned)(high >> 58);
    return x >> turn | x << (-turn & 63);
}

static uint32_t next_u32(bench_random *r) {
    if (r->has_half) {
        r->has_half = false;
        return r->half;
    }
    const uint64_t x = bench_random_u64(r);
    r->has_half = true;
    r->half = (uint32_t)(x >> 32);
    return (uint32_t)x;
}

int64_t bench_random_in(bench_random *r, int64_t lo, int64_t hi) {
    const uint32_t n = (uint32_t)(hi - lo) + 1;
    if (hi <= lo) return lo;
    uint64_t m = (uint64_t)next_u32(r) * n;
    if ((uint32_t)m < n) {
        const uint32_t threshold = (UINT32_MAX - (n - 1)) % n;
        while ((uint32_t)m < threshold) m = (uint64_t)next_u32(r) * n;
    }
    return lo + (int64_t)(m >> 32);
}

double bench_random_unit(bench_random *r) { return (double)(bench_random_u64(r) >> 11) * 0x1p-53; }

static double normal(bench_random *r) {
    double u, v, s;
    do {
        u = 2 * bench_random_unit(r) - 1;
        v = 2 * bench_random_unit(r) - 1;
        s = u * u + v * v;
    } while (s >= 1 || s == 0);
    return u * sqrt(-2 * log(s) / s);
}

double bench_random_gamma(bench_random *r, double shape, double scale) {
    if (shape < 1) {
        const double u = 1 - bench_random_unit(r);
        return bench_random_gamma(r, shape + 1, scale) * pow(u, 1 / shape);
    }
    const double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        const double x = normal(r), t = 1 + c * x, v = t * t * t;
        if (t <= 0) continue;
        if (log(1 - bench_random_unit(r)) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v * scale;
    }
}
