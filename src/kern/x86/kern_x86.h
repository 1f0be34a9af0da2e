/*
 * kern/x86/kern_x86.h - private to kern.c: which x86 variant goes into which slot.
 */
#ifndef OCT_KERN_X86_KERN_X86_H
#define OCT_KERN_X86_KERN_X86_H

#include "kern/kern.h"

static inline void oct_kern_init_linear_x86(oct_kern *k, uint32_t cpu_mask) {
    if (!(cpu_mask & OCT_CPU_AVX2)) return;
    (void)k;
}

#endif
