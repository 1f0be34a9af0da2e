/*
 * kern/x86/peak_x86.h - private to peak.c: the register loops. Each runs rounds times and returns
 * the multiply-adds it did; oct_read_* reads bytes (a multiple of 512) and returns their xor.
 */
#ifndef OCT_KERN_X86_PEAK_X86_H
#define OCT_KERN_X86_PEAK_X86_H

#include <stddef.h>
#include <stdint.h>

/* clear once, then body twice in each of the rounds; both are strings of assembly, and what they
 * write is named behind. Assembly, because a compiler that sees no use of a result removes it. */
#define OCT_PEAK_LOOP(rounds, clear, body, ...)                                  \
    do {                                                                         \
        uint64_t left_ = (rounds);                                               \
        __asm__ volatile(clear "1:\n" body body "dec %0\n jnz 1b\n vzeroupper\n" \
                         : "+r"(left_)                                           \
                         :                                                       \
                         : "cc", __VA_ARGS__);                                   \
    } while (0)

uint64_t oct_peak_int8_avx2(uint64_t rounds);
uint64_t oct_peak_int8_sum_avx2(uint64_t rounds);
uint64_t oct_peak_f32_avx2(uint64_t rounds);
uint64_t oct_peak_int8_avx512(uint64_t rounds);
uint64_t oct_peak_f32_avx512(uint64_t rounds);
uint64_t oct_peak_int8_amx(uint64_t rounds);
uint64_t oct_read_avx2(const void *from, size_t bytes);

#endif
