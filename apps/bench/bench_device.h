/*
 * apps/bench/bench_device.h - `octet bench kernels --device NAME`: products and attention of any
 * device through the contract, beside what its memory gives.
 */
#ifndef OCT_APPS_BENCH_BENCH_DEVICE_H
#define OCT_APPS_BENCH_BENCH_DEVICE_H

#include "open.h"

typedef struct device_bench_options {
    const char *only; /* cases whose name begins so; NULL: all */
    uint64_t repeats;
    bool csv;
} device_bench_options;

/* On the device of *m, which stays the caller's. An exit status. */
int device_bench_run(opened *m, const device_bench_options *o);

/* ---- between bench_device.c and bench_device_attention.c --------------------------------------
 */

typedef struct device_bench {
    oct_device *d;
    octet_stream *s;
    const device_bench_options *o;
    unsigned char *random; /* [DEVICE_BENCH_RANDOM] bytes of the host */
    uint64_t memory;       /* bytes that a case may take */
} device_bench;

enum { DEVICE_BENCH_RANDOM = 32 << 20 };

/* One operation, the i-th in a row: other weights or rows than the one before. */
typedef oct_status device_bench_fn(const device_bench *b, void *ctx, unsigned i, oct_err *err);

OCT_MUST_CHECK oct_status device_bench_check(const device_bench *b, int32_t code, const char *what,
                                             oct_err *err);
OCT_MUST_CHECK oct_status device_bench_room(const device_bench *b, uint64_t bytes, octet_ref *out,
                                            oct_err *err);
void device_bench_free(const device_bench *b, octet_ref *at);
/* Fills memory with random bytes, each low <= byte <= high. */
OCT_MUST_CHECK oct_status device_bench_fill(const device_bench *b, octet_ref at, uint64_t bytes,
                                            unsigned low, unsigned high, oct_err *err);
/* n words of 32 bits into memory. */
OCT_MUST_CHECK oct_status device_bench_put(const device_bench *b, const void *words, uint64_t n,
                                           octet_ref *out, oct_err *err);
/* Float rows of numbers around 1, of the device's type. */
OCT_MUST_CHECK oct_status device_bench_rows(const device_bench *b, uint64_t n, uint64_t width,
                                            octet_rows *out, oct_err *err);
/* Microseconds of one operation: many recorded behind each other where the device can record, the
 * median of the repeats. */
OCT_MUST_CHECK oct_status device_bench_time(const device_bench *b, device_bench_fn *fn, void *ctx,
                                            double *us, oct_err *err);
/* Whether the case is wanted. */
bool device_bench_wants(const device_bench *b, const char *name);
/* One line: what it was, its time, operations and bytes of it. */
void device_bench_line(const device_bench *b, const char *name, uint64_t m, uint64_t k, uint64_t n,
                       double us, double ops, double bytes);

/* bench_device_attention.c */
OCT_MUST_CHECK oct_status device_bench_attention(const device_bench *b, oct_err *err);

#endif
