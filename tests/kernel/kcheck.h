/*
 * tests/kernel/kcheck.h - a small driver that judges the kernel table against its reference.
 *
 * The driver rebuilds the table for a mask that grows by one instruction set a step and calls every
 * check of checks.h once a step. kc_begin answers true only when the step put a new function in the
 * slot. Buffers end at an unreadable page; fills hold the extremes; a mismatch prints function,
 * set, case and seed, and a fault prints the same before it dies.
 *
 * Threads: one.
 */
#ifndef OCT_TESTS_KCHECK_H
#define OCT_TESTS_KCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "kern/kern.h"

enum { KC_MAX_BUFFERS = 24, KC_MAX_SLOTS = 96 };

typedef void (*kc_fn)(void);

typedef enum kc_fill_kind {
    KC_RANDOM,
    KC_MIN,         /* the least value: -128, -32767, -max float */
    KC_MAX,         /* the greatest */
    KC_ALTERNATING, /* least, greatest, least, ... */
    KC_ZERO,
    KC_LAST, /* zero but for the last element */
    KC_N_FILL,
} kc_fill_kind;

typedef struct kc_buffer {
    char *map;
    size_t map_bytes;
} kc_buffer;

typedef struct kcheck {
    uint64_t seed, state;
    bool bench;
    const char *only; /* run only slots whose name holds this; NULL: all */
    uint32_t mask;    /* of this step */
    const char *slot; /* under judgement */
    char where[160];  /* the case, set by kc_case */
    uint64_t n_cases, n_failed, n_failed_slot;
    kc_buffer buffers[KC_MAX_BUFFERS];
    struct {
        const char *name;
        kc_fn fn;
    } seen[KC_MAX_SLOTS];
    unsigned n_seen;
} kcheck;

/* True when fn is new in this slot: judge it now. ref is taken as seen from the start. */
bool kc_begin(kcheck *t, kc_fn ref, kc_fn fn, const char *slot);

/* Names the case that follows, for the message of a mismatch or a fault. */
void kc_case(kcheck *t, const char *fmt, ...) OCT_PRINTF(2, 3);

/* bytes of memory that end at an unreadable page, so aligned to 64 when bytes is a multiple of 64.
 * Each slot number (below KC_MAX_BUFFERS) is one buffer: asking again gives up the former one. */
void *kc_tail(kcheck *t, unsigned slot, size_t bytes);

uint32_t kc_random(kcheck *t); /* 32 random bits */
float kc_uniform(kcheck *t);   /* in [-1, 1) */
void kc_fill_i8(kcheck *t, int8_t *v, size_t n, kc_fill_kind how);
void kc_fill_i16(kcheck *t, int16_t *v, size_t n, kc_fill_kind how); /* within +-32767 */
/* Random: normal sizes around scale. Extremes are +-3e38, which overflow to infinity in sums. */
void kc_fill_f32(kcheck *t, float *v, size_t n, float scale, kc_fill_kind how);

/* Count a mismatch unless all n values are the same bits (floats: or both NaN). */
void kc_same_i32(kcheck *t, const int32_t *want, const int32_t *got, size_t n);
void kc_same_f32(kcheck *t, const float *want, const float *got, size_t n);
void kc_same_bytes(kcheck *t, const void *want, const void *got, size_t n);

/* Seconds of one run of the statement, the best of several rounds of at least some milliseconds. */
#define KC_TIME(out_seconds, ...)                                                                 \
    do {                                                                                          \
        double best_ = 1e9;                                                                       \
        for (int round_ = 0; round_ < 3; round_++) {                                              \
            uint64_t reps_ = 0;                                                                   \
            const double begin_ = kc_seconds();                                                   \
            double now_;                                                                          \
            do {                                                                                  \
                __VA_ARGS__;                                                                      \
                reps_++;                                                                          \
                now_ = kc_seconds();                                                              \
            } while (now_ - begin_ < 0.02);                                                       \
            if ((now_ - begin_) / (double)reps_ < best_) best_ = (now_ - begin_) / (double)reps_; \
        }                                                                                         \
        (out_seconds) = best_;                                                                    \
    } while (0)
double kc_seconds(void);

/* With --bench: prints what the reference and the variant took for the same work. ops: what is
 * counted (multiply-adds, elements). */
void kc_report(kcheck *t, const char *what, double ops, double ref_seconds, double seconds);

#endif
