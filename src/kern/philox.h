/*
 * kern/philox.h - Philox4x32-10, a counter-based generator: random bits as a pure function of a
 * key and a counter (Salmon, Moraes, Dror, Shaw: Parallel random numbers, as easy as 1, 2, 3).
 */
#ifndef OCT_KERN_PHILOX_H
#define OCT_KERN_PHILOX_H

#include <stdint.h>

static inline void oct_philox4x32(const uint32_t counter[4], const uint32_t key[2],
                                  uint32_t out[4]) {
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        const uint32_t c1 = c[1], c3 = c[3];
        c[0] = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c[1] = (uint32_t)p1;
        c[2] = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++) out[i] = c[i];
}

/* Uniform in [0, 1), 24 bits: what one sampled position of one choice of a request uses. */
static inline float oct_philox_uniform(uint64_t seed, uint32_t choice, uint64_t position) {
    const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), choice, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t bits[4];
    oct_philox4x32(counter, key, bits);
    return (float)(bits[0] >> 8) * 0x1p-24f;
}

#endif
