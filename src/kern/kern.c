/*
 * kern/kern.c - the table is filled from the weakest to the strongest.
 */
#include "kern/kern.h"

#include <string.h>

#include "kern/kern_ref.h"

#if defined(__x86_64__)
#include "kern/x86/elem_attn_x86.h"
#include "kern/x86/kern_x86.h"
#include "kern/x86/kv_x86.h"
#endif

void oct_kern_init(oct_kern *k, uint32_t cpu_mask) {
    cpu_mask = oct_cpu_mask_normal(cpu_mask);
    memset(k, 0, sizeof *k);
    k->cpu_mask = cpu_mask;
    oct_kern_init_linear_ref(k);
    oct_kern_init_elem_ref(k);
    oct_kern_init_attn_ref(k);
    oct_kern_init_kv_ref(k);
    oct_kern_init_pack_ref(k);
#if defined(__x86_64__)
    oct_kern_init_linear_x86(k, cpu_mask);
    oct_kern_init_elem_attn_x86(k, cpu_mask);
    oct_kern_init_kv_x86(k, cpu_mask);
    oct_kern_init_pack_x86(k, cpu_mask);
#endif
}
