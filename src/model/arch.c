/* model/arch.c - the table of families. */
#include "model/arch.h"

#include <octet/device.h>

#include "base/attr.h"

#define PRE_NORMS .attn_norm = "input_layernorm", .mlp_norm = "post_attention_layernorm"
#define GEMMA_NORMS                                                               \
    .attn_norm = "input_layernorm", .attn_post_norm = "post_attention_layernorm", \
    .mlp_norm = "pre_feedforward_layernorm", .mlp_post_norm = "post_feedforward_layernorm"
#define NAMED_EXPERTS \
    .moe = "mlp", .expert_gate = "gate_proj", .expert_up = "up_proj", .expert_down = "down_proj"
#define NUMBERED_EXPERTS \
    .moe = "block_sparse_moe", .expert_gate = "w1", .expert_up = "w3", .expert_down = "w2"

static const oct_arch archs[OCT_FAMILY_COUNT] = {
    {OCT_FAMILY_LLAMA, OCTET_ACT_SILU, OCTET_QK_NORM_NONE, PRE_NORMS},
    {OCT_FAMILY_QWEN2, OCTET_ACT_SILU, OCTET_QK_NORM_NONE, PRE_NORMS},
    {OCT_FAMILY_QWEN3, OCTET_ACT_SILU, OCTET_QK_NORM_HEAD, PRE_NORMS},
    {OCT_FAMILY_MISTRAL, OCTET_ACT_SILU, OCTET_QK_NORM_NONE, PRE_NORMS},
    {OCT_FAMILY_PHI3, OCTET_ACT_SILU, OCTET_QK_NORM_NONE, PRE_NORMS, .fused_qkv = true,
     .fused_gate_up = true},
    {OCT_FAMILY_GEMMA2, OCTET_ACT_GELU_TANH, OCTET_QK_NORM_NONE, GEMMA_NORMS},
    {OCT_FAMILY_GEMMA3, OCTET_ACT_GELU_TANH, OCTET_QK_NORM_HEAD, GEMMA_NORMS},
    {OCT_FAMILY_GLM4, OCTET_ACT_SILU, OCTET_QK_NORM_NONE, PRE_NORMS,
     .attn_post_norm = "post_self_attn_layernorm", .mlp_post_norm = "post_mlp_layernorm",
     .fused_gate_up = true},
    {OCT_FAMILY_OLMO2, OCTET_ACT_SILU, OCTET_QK_NORM_FULL,
     .attn_post_norm = "post_attention_layernorm", .mlp_post_norm = "post_feedforward_layernorm"},
    {OCT_FAMILY_GRANITE, OCTET_ACT_SILU, OCTET_QK_NORM_NONE, PRE_NORMS},
    {OCT_FAMILY_MIXTRAL, OCTET_ACT_SILU, OCTET_QK_NORM_NONE, PRE_NORMS, NUMBERED_EXPERTS},
    {OCT_FAMILY_QWEN2_MOE, OCTET_ACT_SILU, OCTET_QK_NORM_NONE, PRE_NORMS, NAMED_EXPERTS},
    {OCT_FAMILY_QWEN3_MOE, OCTET_ACT_SILU, OCTET_QK_NORM_HEAD, PRE_NORMS, NAMED_EXPERTS},
    {OCT_FAMILY_MINIMAX_M2, OCTET_ACT_SILU, OCTET_QK_NORM_FULL, PRE_NORMS, NUMBERED_EXPERTS},
};

const oct_arch *oct_arch_of(oct_family family) {
    for (unsigned i = 0; i < OCT_COUNT(archs); i++)
        if (archs[i].family == family && archs[i].act) return &archs[i];
    return 0;
}

uint32_t oct_arch_qkv(const oct_model_config *c, oct_arch_projection out[OCT_ARCH_MAX_GROUP]) {
    const uint64_t q = (uint64_t)c->n_heads * c->head_dim,
                   kv = (uint64_t)c->n_kv_heads * c->head_dim;
    if (oct_arch_of(c->family)->fused_qkv) {
        out[0] = (oct_arch_projection){"self_attn.qkv_proj", q + 2 * kv, c->hidden, c->qkv_bias};
        return 1;
    }
    out[0] = (oct_arch_projection){"self_attn.q_proj", q, c->hidden, c->qkv_bias};
    out[1] = (oct_arch_projection){"self_attn.k_proj", kv, c->hidden, c->qkv_bias};
    out[2] = (oct_arch_projection){"self_attn.v_proj", kv, c->hidden, c->qkv_bias};
    return 3;
}

uint32_t oct_arch_o(const oct_model_config *c, oct_arch_projection out[OCT_ARCH_MAX_GROUP]) {
    const uint64_t q = (uint64_t)c->n_heads * c->head_dim;
    out[0] = (oct_arch_projection){"self_attn.o_proj", c->hidden, q, c->o_bias};
    return 1;
}

uint32_t oct_arch_mlp_width(const oct_model_config *c, uint32_t layer) {
    return c->layer_is_moe[layer] ? c->shared_intermediate : c->intermediate;
}

uint32_t oct_arch_gate_up(const oct_model_config *c, uint32_t layer,
                          oct_arch_projection out[OCT_ARCH_MAX_GROUP]) {
    const uint64_t inner = oct_arch_mlp_width(c, layer), h = c->hidden;
    if (inner == 0) return 0;
    if (c->layer_is_moe[layer]) {
        out[0] = (oct_arch_projection){"mlp.shared_expert.gate_proj", inner, h, false};
        out[1] = (oct_arch_projection){"mlp.shared_expert.up_proj", inner, h, false};
        return 2;
    }
    if (oct_arch_of(c->family)->fused_gate_up) {
        out[0] = (oct_arch_projection){"mlp.gate_up_proj", 2 * inner, h, c->mlp_bias};
        return 1;
    }
    out[0] = (oct_arch_projection){"mlp.gate_proj", inner, h, c->mlp_bias};
    out[1] = (oct_arch_projection){"mlp.up_proj", inner, h, c->mlp_bias};
    return 2;
}

uint32_t oct_arch_down(const oct_model_config *c, uint32_t layer,
                       oct_arch_projection out[OCT_ARCH_MAX_GROUP]) {
    const uint64_t inner = oct_arch_mlp_width(c, layer);
    if (inner == 0) return 0;
    out[0] = c->layer_is_moe[layer]
                 ? (oct_arch_projection){"mlp.shared_expert.down_proj", c->hidden, inner, false}
                 : (oct_arch_projection){"mlp.down_proj", c->hidden, inner, c->mlp_bias};
    return 1;
}

void oct_arch_expert(const oct_model_config *c, oct_arch_projection out[OCT_ARCH_N_EXPERT]) {
    const oct_arch *arch = oct_arch_of(c->family);
    const uint64_t inner = c->moe_intermediate, h = c->hidden;
    out[OCT_ARCH_GATE] = (oct_arch_projection){arch->expert_gate, inner, h, false};
    out[OCT_ARCH_UP] = (oct_arch_projection){arch->expert_up, inner, h, false};
    out[OCT_ARCH_DOWN] = (oct_arch_projection){arch->expert_down, h, inner, false};
}

void oct_arch_norms(const oct_model_config *c, oct_arch_norm out[OCT_ARCH_N_NORMS]) {
    const oct_arch *arch = oct_arch_of(c->family);
    const uint64_t h = c->hidden, dim = c->head_dim;
    const bool full = arch->qk_norm == OCTET_QK_NORM_FULL;
    out[OCT_ARCH_ATTN] = (oct_arch_norm){arch->attn_norm, h};
    out[OCT_ARCH_ATTN_POST] = (oct_arch_norm){arch->attn_post_norm, h};
    out[OCT_ARCH_MLP] = (oct_arch_norm){arch->mlp_norm, h};
    out[OCT_ARCH_MLP_POST] = (oct_arch_norm){arch->mlp_post_norm, h};
    out[OCT_ARCH_Q] =
        (oct_arch_norm){c->qk_norm ? "self_attn.q_norm" : 0, full ? c->n_heads * dim : dim};
    out[OCT_ARCH_K] =
        (oct_arch_norm){c->qk_norm ? "self_attn.k_norm" : 0, full ? c->n_kv_heads * dim : dim};
}

uint32_t oct_arch_window(const oct_model_config *c, uint32_t layer) {
    return c->layer_slides[layer] ? c->sliding_window : 0;
}
