/*
 * tests/same/spy.h - the CPU device behind a table of our own: it notices where the cache lies, so
 * that a sequence's K/V can be read back token by token, and can be told to compute one operation
 * wrongly (plants.c).
 *
 * How a block is laid out is the device's affair. It is found out through the contract: attn_input
 * writes one token into a block filled with 0x00, then into one filled with 0xff; the bytes that
 * agree afterwards are that token's.
 *
 * One at a time, on one thread: attach after the device was opened, detach before it is closed.
 */
#ifndef OCT_TESTS_SAME_SPY_H
#define OCT_TESTS_SAME_SPY_H

#include "device/device.h"
#include "engine/backend.h"

enum { SAME_MAX_LEN = 256 };

/* Faults that promise 1 forbids, for the test of the test. */
typedef enum spy_plant {
    PLANT_NONE,
    PLANT_TENSOR_SCALE, /* one scale for all rows of an int8 product */
    PLANT_SPLIT_COUNT,  /* attention over four equal parts of a sequence, however long it is */
    PLANT_THREAD_SUM,   /* a norm's sum in as many parts as there are threads */
    PLANT_KV_BIT,       /* one bit of the last layer's cache, after the last step */
    N_PLANTS
} spy_plant;

void spy_attach(oct_device *d, spy_plant plant);
void spy_detach(void);

/* The model as a backend that follows one request, known by its seed and choice. */
oct_engine_backend spy_backend(oct_model *m, uint64_t seed, uint32_t choice);
/* Inside the last callback of that request: a hash of the K/V of each of its first n positions,
 * through all layers. False: its last step did not hold so many. */
bool spy_read_kv(uint32_t n, uint64_t out[SAME_MAX_LEN]);

/* plants.c: replaces operations of *table; d's streams compute at once or are waited for. */
void plant_install(octet_device_ops *table, octet_device *dev, spy_plant plant);

#endif
