/*
 * kern/x86/kv_x86.h - private to kern.c: the x86 variants of kern/kv_kern.h.
 */
#ifndef OCT_KERN_X86_KV_X86_H
#define OCT_KERN_X86_KV_X86_H

#include "kern/kern.h"

#define OCT_DECL_KV(set)                               \
    OCT_DECL_KV_QUANT_TOKEN(oct_kv_quant_token_##set); \
    OCT_DECL_KV_NARROW_E4M3(oct_kv_narrow_e4m3_##set); \
    OCT_DECL_KV_NARROW_F16(oct_kv_narrow_f16_##set);   \
    OCT_DECL_KV_WIDEN_E4M3(oct_kv_widen_e4m3_##set);   \
    OCT_DECL_KV_WIDEN_F16(oct_kv_widen_f16_##set)

#define OCT_KV_SLOTS(set)                                                                 \
    (oct_kern_kv_slots) {                                                                 \
        .quant_token = oct_kv_quant_token_##set, .narrow_e4m3 = oct_kv_narrow_e4m3_##set, \
        .narrow_f16 = oct_kv_narrow_f16_##set, .widen_e4m3 = oct_kv_widen_e4m3_##set,     \
        .widen_f16 = oct_kv_widen_f16_##set                                               \
    }

OCT_DECL_KV(avx2);
OCT_DECL_KV(avx512);

static inline void oct_kern_init_kv_x86(oct_kern *k, uint32_t cpu_mask) {
    if (!(cpu_mask & OCT_CPU_AVX2)) return;
    k->kv = OCT_KV_SLOTS(avx2);
    if (!(cpu_mask & OCT_CPU_AVX512_VNNI)) return;
    k->kv = OCT_KV_SLOTS(avx512);
}

#endif
