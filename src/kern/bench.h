/*
 * kern/bench.h - the kernels of this machine as fractions of its measured ceilings, taken in the
 * same run: `octet bench kernels`.
 *
 * A row is one measurement. Weights are rotated through more copies than the last level cache
 * holds, so a product of one row reads memory as decoding does.
 *
 * Threads: runs on the calling thread; the read ceilings start their own.
 */
#ifndef OCT_KERN_BENCH_H
#define OCT_KERN_BENCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"
#include "kern/kern.h"

typedef struct oct_kern_bench_shape {
    uint32_t m, k, n; /* rows, inputs, outputs */
} oct_kern_bench_shape;

typedef struct oct_kern_bench_options {
    uint32_t cpu_mask;                  /* a subset of oct_cpu_mask() */
    uint32_t n_threads;                 /* read ceilings for 1, 2, 4 ... and this many; 0: none */
    size_t cold_bytes;                  /* several times the last level cache; 0: 256 MiB */
    const oct_kern_bench_shape *shapes; /* NULL: a choice of real projections */
    size_t n_shapes;
} oct_kern_bench_options;

typedef enum oct_kern_bench_kind {
    OCT_KERN_BENCH_CLOCK,         /* value: cycles/s */
    OCT_KERN_BENCH_PEAK_INT8,     /* value: multiply-adds/s of one core from registers */
    OCT_KERN_BENCH_PEAK_INT8_SUM, /* the same, accumulating (kern/peak.h) */
    OCT_KERN_BENCH_PEAK_F32,
    OCT_KERN_BENCH_READ,        /* value: bytes/s of n_threads threads */
    OCT_KERN_BENCH_LINEAR_I8,   /* value: multiply-adds/s of one thread, row preparation included */
    OCT_KERN_BENCH_LINEAR_BF16, /* likewise */
    OCT_KERN_BENCH_PACK_I8,     /* value: bytes/s of the source */
} oct_kern_bench_kind;

typedef struct oct_kern_bench_row {
    oct_kern_bench_kind kind;
    const char
        *name; /* "clock", "peak-int8", "peak-int8-sum", "peak-f32", "read", "linear-i8", ... */
    uint32_t n_threads;
    uint32_t m, k, n; /* of a product or a packing, else 0 */
    double value;     /* see the kind */
    double of_peak;   /* products: fraction of peak-int8 or peak-f32; 0: no such ceiling */
    double of_read;   /* products: weight bytes/s as a fraction of one thread's read ceiling */
    double seconds;   /* one product */
} oct_kern_bench_row;

typedef void (*oct_kern_bench_row_fn)(void *ctx, const oct_kern_bench_row *row);

/* Calls on_row as each figure is there. OCT_E_NOMEM, or OCT_E_IO when a thread does not start. */
OCT_MUST_CHECK oct_status oct_kern_bench_run(const oct_allocator *mem,
                                             const oct_kern_bench_options *options,
                                             oct_kern_bench_row_fn on_row, void *ctx, oct_err *err);

#endif
