/*
 * tests/unit/kern/tables.h - every kernel table this CPU can run, the reference first, and a small
 * generator for test data.
 */
#ifndef OCT_TESTS_UNIT_KERN_TABLES_H
#define OCT_TESTS_UNIT_KERN_TABLES_H

#include <stdint.h>

#include "kern/kern.h"

enum { MAX_TABLES = 4 };

typedef struct tables {
    oct_kern k[MAX_TABLES];
    int n;
} tables;

static inline void tables_init(tables *t) {
    static const uint32_t masks[MAX_TABLES] = {0, 1, 3, 7};
    const uint32_t can = oct_cpu_mask();
    t->n = 0;
    for (int i = 0; i < MAX_TABLES; i++)
        if ((can & masks[i]) == masks[i]) oct_kern_init(&t->k[t->n++], masks[i]);
}

static inline uint32_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32 ^ z);
}
static inline float next_uniform(uint64_t *state) { /* [-1, 1) */
    return (float)(int32_t)next_random(state) * 0x1p-31f;
}

#endif
