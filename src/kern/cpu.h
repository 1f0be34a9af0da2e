/*
 * kern/cpu.h - what this CPU and operating system let the kernels use.
 *
 * Threads: any. The AMX permission that oct_cpu_detect asks for belongs to the process; threads
 * started before or after it have it alike.
 */
#ifndef OCT_KERN_CPU_H
#define OCT_KERN_CPU_H

#include <stddef.h>
#include <stdint.h>

/* Weakest to strongest; a stronger one is only used together with all weaker ones. */
enum {
    OCT_CPU_AVX2 = 1u << 0,        /* with FMA and F16C */
    OCT_CPU_AVX512_VNNI = 1u << 1, /* AVX-512 F, BW, VL, DQ and VNNI */
    OCT_CPU_AMX_INT8 = 1u << 2,    /* tiles and int8 tile products, permission granted */
    OCT_CPU_ALL = (1u << 3) - 1,
};

/* What the hardware has and the operating system saves across a context switch. */
uint32_t oct_cpu_detect(void);

/* oct_cpu_detect() lowered by the environment variable OCTET_CPU_MASK, which holds a number (any
 * base strtoul takes) or one of "ref", "avx2", "vnni", "amx": that set and the weaker ones. A value
 * that is neither changes nothing. */
uint32_t oct_cpu_mask(void);

/* "reference", "avx2", "avx512-vnni", "amx-int8": the strongest set of a mask. */
const char *oct_cpu_mask_name(uint32_t mask);

/* mask without every bit that lacks a weaker one. */
uint32_t oct_cpu_mask_normal(uint32_t mask);

#endif
