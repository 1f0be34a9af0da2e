/*
 * kern/x86/elem_attn_x86.h - private to kern.c: the x86 variants of kern/elem.h and
 * kern/attn_kern.h, all slots of a set at once.
 */
#ifndef OCT_KERN_X86_ELEM_ATTN_X86_H
#define OCT_KERN_X86_ELEM_ATTN_X86_H

#include "kern/kern.h"

/* clang-format off */
#define OCT_DECL_ELEM_ATTN(set)                          \
    OCT_DECL_EXP(oct_exp_##set);                         \
    OCT_DECL_ACT(oct_act_silu_##set);                    \
    OCT_DECL_ACT(oct_act_gelu_##set);                    \
    OCT_DECL_ACT(oct_act_gelu_tanh_##set);               \
    OCT_DECL_ACT(oct_act_relu_##set);                    \
    OCT_DECL_NORM(oct_rms_norm_##set);                   \
    OCT_DECL_NORM(oct_layer_norm_##set);                 \
    OCT_DECL_QUANT_ROW(oct_quant_row_##set);             \
    OCT_DECL_QUANT_CHANNELS(oct_quant_channels_##set);   \
    OCT_DECL_ROPE(oct_rope_##set);                       \
    OCT_DECL_ROW_MAX(oct_row_max_##set);                 \
    OCT_DECL_SOFT_SUM(oct_soft_sum_##set);               \
    OCT_DECL_WEIGHTED_SUM(oct_weighted_sum_##set);       \
    OCT_DECL_SOFTCAP(oct_softcap_##set);                 \
    OCT_DECL_ATTN_Q24(oct_attn_q24_##set);               \
    OCT_DECL_ATTN_SOFTMAX_I8(oct_attn_softmax_i8_##set); \
    OCT_DECL_ATTN_SOFTMAX_I8_TOKEN(oct_attn_softmax_i8_token_##set); \
    OCT_DECL_ATTN_SOFTMAX_F32(oct_attn_softmax_f32_##set); \
    OCT_DECL_ATTN_QK(oct_attn_qk_f32_##set);             \
    OCT_DECL_ATTN_QK(oct_attn_qk_bf16_##set);            \
    OCT_DECL_ATTN_PV(oct_attn_pv_f32_##set);             \
    OCT_DECL_ATTN_PV(oct_attn_pv_bf16_##set);            \
    OCT_DECL_ATTN_MERGE_F32(oct_attn_merge_f32_##set);   \
    OCT_DECL_ATTN_MERGE_I32(oct_attn_merge_i32_##set);   \
    OCT_DECL_ATTN_FINISH(oct_attn_finish_##set)

#define OCT_ELEM_SLOTS(set)                                                                   \
    (oct_kern_elem){                                                                          \
        .exp = oct_exp_##set, .act_silu = oct_act_silu_##set, .act_gelu = oct_act_gelu_##set, \
        .act_gelu_tanh = oct_act_gelu_tanh_##set, .act_relu = oct_act_relu_##set,             \
        .rms_norm = oct_rms_norm_##set, .layer_norm = oct_layer_norm_##set,                   \
        .quant_row = oct_quant_row_##set, .quant_channels = oct_quant_channels_##set,         \
        .rope = oct_rope_##set, .row_max = oct_row_max_##set, .soft_sum = oct_soft_sum_##set,  \
        .weighted_sum = oct_weighted_sum_##set, .softcap = oct_softcap_##set}

#define OCT_ATTN_SLOTS(set)                                                                  \
    (oct_kern_attn_slots){                                                                   \
        .q24 = oct_attn_q24_##set, .softmax_i8 = oct_attn_softmax_i8_##set,                  \
        .softmax_i8_token = oct_attn_softmax_i8_token_##set,                                 \
        .softmax_f32 = oct_attn_softmax_f32_##set, .qk_f32 = oct_attn_qk_f32_##set,          \
        .qk_bf16 = oct_attn_qk_bf16_##set, .pv_f32 = oct_attn_pv_f32_##set,                  \
        .pv_bf16 = oct_attn_pv_bf16_##set, .merge_f32 = oct_attn_merge_f32_##set,            \
        .merge_i32 = oct_attn_merge_i32_##set, .finish = oct_attn_finish_##set}
/* clang-format on */

OCT_DECL_ELEM_ATTN(avx2);
OCT_DECL_ELEM_ATTN(avx512);

static inline void oct_kern_init_elem_attn_x86(oct_kern *k, uint32_t cpu_mask) {
    if (!(cpu_mask & OCT_CPU_AVX2)) return;
    k->elem = OCT_ELEM_SLOTS(avx2);
    k->attn = OCT_ATTN_SLOTS(avx2);
    if (!(cpu_mask & OCT_CPU_AVX512_VNNI)) return;
    k->elem = OCT_ELEM_SLOTS(avx512);
    k->attn = OCT_ATTN_SLOTS(avx512);
}

#endif
