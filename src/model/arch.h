/*
 * model/arch.h - what distinguishes one family of decoders from another, as data. What varies from
 * checkpoint to checkpoint of a family is oct_model_config; what is fixed for the family is here. A
 * new family is a row of the table in arch.c, and code only where its mathematics is new.
 *
 * Source of the facts: the published configurations and model definitions of each family (Hugging
 * Face transformers), see docs/numerics.md for the expressions.
 */
#ifndef OCT_MODEL_ARCH_H
#define OCT_MODEL_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "store/config.h"

/* Names of tensors are what follows "model.layers.L.", without ".weight". */
typedef struct oct_arch {
    oct_family family;
    uint32_t act;     /* OCTET_ACT_... between gate and up */
    uint32_t qk_norm; /* OCTET_QK_NORM_... where the configuration asks for one */
    /* Of the input of attention and MLP, and of what they give before it is added to the residual
     * stream. NULL: there is no such norm. */
    const char *attn_norm, *attn_post_norm, *mlp_norm, *mlp_post_norm;
    bool fused_qkv;     /* q, k and v are one projection, self_attn.qkv_proj */
    bool fused_gate_up; /* gate and up are one, mlp.gate_up_proj */
    /* Layers with experts: MOE.gate is the router, MOE.experts.E.GATE and so on the projections. */
    const char *moe, *expert_gate, *expert_up, *expert_down;
} oct_arch;

/* Never NULL for a family that the configuration reader accepts. */
const oct_arch *oct_arch_of(oct_family family);

/* One projection of a layer as the checkpoint names it. */
typedef struct oct_arch_projection {
    const char *suffix; /* after "model.layers.L." */
    uint64_t n, k;
    bool need_bias;
} oct_arch_projection;

enum { OCT_ARCH_MAX_GROUP = 3 };

/* Projections with one input, in the order of their results' columns; each function gives how many
 * there are. gate_up and down are a dense layer's, or the shared expert's of a layer with experts
 * (0 when it has none). */
uint32_t oct_arch_qkv(const oct_model_config *c, oct_arch_projection out[OCT_ARCH_MAX_GROUP]);
uint32_t oct_arch_o(const oct_model_config *c, oct_arch_projection out[OCT_ARCH_MAX_GROUP]);
uint32_t oct_arch_gate_up(const oct_model_config *c, uint32_t layer,
                          oct_arch_projection out[OCT_ARCH_MAX_GROUP]);
uint32_t oct_arch_down(const oct_model_config *c, uint32_t layer,
                       oct_arch_projection out[OCT_ARCH_MAX_GROUP]);

/* The projections of an expert of a layer with some; suffix: what follows "experts.E.". */
enum { OCT_ARCH_GATE, OCT_ARCH_UP, OCT_ARCH_DOWN, OCT_ARCH_N_EXPERT };
void oct_arch_expert(const oct_model_config *c, oct_arch_projection out[OCT_ARCH_N_EXPERT]);

/* The norms of a layer; name NULL: there is no such norm. */
typedef struct oct_arch_norm {
    const char *name;
    uint64_t n;
} oct_arch_norm;
enum {
    OCT_ARCH_ATTN,
    OCT_ARCH_ATTN_POST,
    OCT_ARCH_MLP,
    OCT_ARCH_MLP_POST,
    OCT_ARCH_Q,
    OCT_ARCH_K,
    OCT_ARCH_N_NORMS
};
void oct_arch_norms(const oct_model_config *c, oct_arch_norm out[OCT_ARCH_N_NORMS]);

/* Inner width of a layer's own MLP: that of a dense layer, or of the shared expert (0: none). */
uint32_t oct_arch_mlp_width(const oct_model_config *c, uint32_t layer);

/* Tokens that a row of this layer sees, itself included; 0: all. */
uint32_t oct_arch_window(const oct_model_config *c, uint32_t layer);

#endif
