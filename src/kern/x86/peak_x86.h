/*
 * kern/x86/peak_x86.h - private to peak.c: the register loops. Each runs rounds times and returns
 * the multiply-adds it did; oct_read_* reads bytes (a multiple of 512) and returns their xor.
 */
#ifndef OCT_KERN_X86_PEAK_X86_H
#define OCT_KERN_X86_PEAK_X86_H

#include <stddef.h>
#include <stdint.h>

uint64_t oct_peak_int8_avx2(uint64_t rounds);
uint64_t oct_peak_int8_sum_avx2(uint64_t rounds);
uint64_t oct_peak_f32_avx2(uint64_t rounds);
uint64_t oct_peak_int8_avx512(uint64_t rounds);
uint64_t oct_peak_f32_avx512(uint64_t rounds);
uint64_t oct_peak_int8_amx(uint64_t rounds);
uint64_t oct_read_avx2(const void *from, size_t bytes);

#endif
