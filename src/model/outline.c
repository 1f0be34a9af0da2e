/* model/outline.c - see outline.h. */
#include "model/outline.h"

#include <stdio.h>

#include <octet/device.h>

#include "base/attr.h"

enum { NAME = 192 };

typedef struct walk {
    const oct_model_config *c;
    oct_outline_fn *fn;
    void *ctx;
    uint32_t layer;
    char prefix[32]; /* "model.layers.0." */
} walk;

static oct_status give(const walk *w, oct_outline_kind kind, const char *tail, uint64_t n,
                       uint64_t k, bool bias, oct_err *err) {
    char name[NAME];
    snprintf(name, sizeof name, "%s%s", w->prefix, tail);
    const oct_outline_item item = {
        .kind = kind, .name = name, .layer = w->layer, .n = n, .k = k, .bias = bias};
    return w->fn(w->ctx, &item, err);
}

static oct_status give_projections(const walk *w, const oct_arch_projection *p, uint32_t n,
                                   oct_err *err) {
    for (uint32_t i = 0; i < n; i++)
        OCT_TRY(give(w, OCT_OUTLINE_LINEAR, p[i].suffix, p[i].n, p[i].k, p[i].need_bias, err));
    return OCT_OK;
}

static oct_status give_norms(const walk *w, oct_err *err) {
    oct_arch_norm norms[OCT_ARCH_N_NORMS];
    oct_arch_norms(w->c, norms);
    for (size_t i = 0; i < OCT_COUNT(norms); i++)
        if (norms[i].name)
            OCT_TRY(give(w, OCT_OUTLINE_NORM, norms[i].name, norms[i].n, 0, false, err));
    return OCT_OK;
}

static oct_status give_expert(const walk *w, const oct_arch *arch, uint32_t e, oct_err *err) {
    oct_arch_projection parts[OCT_ARCH_N_EXPERT];
    char name[NAME];
    oct_arch_expert(w->c, parts);
    for (size_t i = 0; i < OCT_COUNT(parts); i++) {
        snprintf(name, sizeof name, "%s%s.experts.%u.%s", w->prefix, arch->moe, e, parts[i].suffix);
        const oct_outline_item item = {.kind = OCT_OUTLINE_EXPERT,
                                       .name = name,
                                       .layer = w->layer,
                                       .expert = e,
                                       .n = parts[i].n,
                                       .k = parts[i].k};
        OCT_TRY(w->fn(w->ctx, &item, err));
    }
    return OCT_OK;
}

static oct_status give_experts(const walk *w, const oct_arch *arch, oct_err *err) {
    const oct_model_config *c = w->c;
    char name[NAME];
    snprintf(name, sizeof name, "%s.gate", arch->moe);
    OCT_TRY(give(w, OCT_OUTLINE_ROUTER, name, c->n_experts, c->hidden, false, err));
    if (c->router_bias) {
        snprintf(name, sizeof name, "%s.e_score_correction_bias", arch->moe);
        OCT_TRY(give(w, OCT_OUTLINE_VECTOR, name, c->n_experts, 0, false, err));
    }
    if (c->shared_gate)
        OCT_TRY(give(w, OCT_OUTLINE_ROUTER, "mlp.shared_expert_gate", 1, c->hidden, false, err));
    for (uint32_t e = 0; e < c->n_experts; e++) OCT_TRY(give_expert(w, arch, e, err));
    return OCT_OK;
}

oct_status oct_outline_layer(const oct_model_config *c, uint32_t layer, oct_outline_fn *fn,
                             void *ctx, oct_err *err) {
    const oct_arch *arch = oct_arch_of(c->family);
    oct_arch_projection p[OCT_ARCH_MAX_GROUP];
    walk w = {.c = c, .fn = fn, .ctx = ctx, .layer = layer};
    snprintf(w.prefix, sizeof w.prefix, "model.layers.%u.", layer);
    OCT_TRY(give_norms(&w, err));
    OCT_TRY(give_projections(&w, p, oct_arch_qkv(c, p), err));
    OCT_TRY(give_projections(&w, p, oct_arch_o(c, p), err));
    if (c->layer_is_moe[layer]) OCT_TRY(give_experts(&w, arch, err));
    OCT_TRY(give_projections(&w, p, oct_arch_gate_up(c, layer, p), err));
    return give_projections(&w, p, oct_arch_down(c, layer, p), err);
}

oct_status oct_outline_ends(const oct_model_config *c, bool own_head, oct_outline_fn *fn, void *ctx,
                            oct_err *err) {
    const walk w = {.c = c, .fn = fn, .ctx = ctx, .layer = c->n_layers};
    OCT_TRY(give(&w, OCT_OUTLINE_EMBED, "model.embed_tokens", c->vocab, c->hidden, false, err));
    OCT_TRY(give(&w, OCT_OUTLINE_NORM, "model.norm", c->hidden, 0, false, err));
    if (!own_head) return OCT_OK;
    return give(&w, OCT_OUTLINE_HEAD, "lm_head", c->vocab, c->hidden, false, err);
}
