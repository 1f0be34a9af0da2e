/*
 * kern/peak.h - measured ceilings of this machine, against which the kernels are told as fractions:
 * how many multiply-adds the unit in use can do from registers alone, the clock, and how fast
 * memory can be read.
 *
 * The register loops do nothing useful; they exist to be as fast as the unit allows. All figures
 * are the best of several tries: a ceiling is what is possible, and what else runs can only lower
 * it.
 *
 * Threads    Each function measures on the calling thread; oct_peak_read starts its own.
 */
#ifndef OCT_KERN_PEAK_H
#define OCT_KERN_PEAK_H

#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"
#include "kern/cpu.h"

/* Time this thread has run. Work of one thread is timed with it, so that what else the machine does
 * counts only through the caches and the memory. */
uint64_t oct_peak_thread_ns(void);

/* Multiply-adds a second of one core from registers, for the strongest set of mask. 0: the mask is
 * empty or this is not x86, and there is no such loop. */
double oct_peak_int8_macs(uint32_t mask);
/* The same with the sums a product needs. AVX2 multiplies and adds with two instructions, and they
 * compete; the stronger sets have one for both, and the figure is that above. */
double oct_peak_int8_sum_macs(uint32_t mask);
double oct_peak_f32_macs(uint32_t mask);

/* Clock cycles a second while this thread is busy: a chain of dependent additions, one a cycle. */
double oct_peak_clock_hz(void);

/* Bytes a second that n_threads (1 .. 1024) read together from bytes of memory, which should be
 * several times the last level cache. Each thread touches its own part first. OCT_E_NOMEM; OCT_E_IO
 * if a thread cannot be started. */
OCT_MUST_CHECK oct_status oct_peak_read(const oct_allocator *mem, uint32_t n_threads, size_t bytes,
                                        double *bytes_per_second_out, oct_err *err);

#endif
