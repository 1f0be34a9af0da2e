/*
 * device/conform.h - does a device compute what docs/numerics.md says?
 *
 * Every operation runs over tables of cases (odd sizes, extremes, zero and NaN rows, windows, mixed
 * batches, every cache, every sampler) on the device and on the CPU device held to its scalar
 * reference and one thread; then a fused block and a small model run end to end. Integer results
 * must be equal bit for bit. Float results must be too on the CPU device; on others they may differ
 * by what rounding explains (device/tolerance.h).
 *
 * Output memory is filled with NaN or 0x7f patterns before each operation, so that a value nobody
 * wrote shows.
 *
 * Threads: the caller's; the device must not be in use by another.
 */
#ifndef OCT_DEVICE_CONFORM_H
#define OCT_DEVICE_CONFORM_H

#include "device/device.h"

typedef struct oct_conform_options {
    const char *only;   /* run only the groups whose name starts so; NULL: all */
    uint64_t seed;      /* of the random fills */
    unsigned n_repeats; /* times an operation is run for its time; 0: no timing */
    bool quick;         /* every third case of each table; the seed says which */
} oct_conform_options;

/* One group of cases (an operation, or a way of running it) after its last case. */
typedef struct oct_conform_line {
    const char *group;
    unsigned n_cases, n_failed;
    unsigned n_absent;        /* of n_cases: of something optional that the device has not */
    double worst;             /* largest difference, as a part of what is allowed; 0: all equal */
    double mean_us;           /* of one case on the device, when timing was asked for */
    const char *first_failed; /* case, output, place, want and got of the first failure, or NULL */
} oct_conform_line;

typedef void oct_conform_report_fn(void *ctx, const oct_conform_line *line);

typedef struct oct_conform_result {
    unsigned n_cases, n_failed, n_absent;
} oct_conform_result;

/* OCT_OK when all cases could be run, whatever they showed; *out then says whether the device may
 * serve (n_failed 0). An operation that answers with a code is a failed case, not an error here.
 * report may be NULL. */
OCT_MUST_CHECK oct_status oct_conform_run(oct_device *d, const oct_conform_options *options,
                                          oct_conform_report_fn *report, void *ctx,
                                          oct_conform_result *out, oct_err *err);

#endif
