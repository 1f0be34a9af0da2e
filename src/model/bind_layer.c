/*
 * model/bind_layer.c - a layer of any family, by the names of its row in arch.c; and its experts.
 *
 * All experts of a projection are one weight on the device, so they must be stored alike; where
 * gate and up are, both are one. Static input parameters and factors may differ from expert to
 * expert: they become one vector for all.
 */
#include <stdio.h>
#include <string.h>

#include "model/bind_parts.h"

/* ---- experts --------------------------------------------------------------------------------- */

/* The sources of a layer's experts, [n_experts] of each part. */
typedef struct sources {
    oct_linear_source *of[OCT_ARCH_N_EXPERT];
    uint32_t n_experts;
} sources;

static oct_status look_up(oct_binder *b, const char *prefix, sources *src, bool *all,
                          oct_err *err) {
    oct_arch_projection parts[OCT_ARCH_N_EXPERT];
    char name[OCT_BIND_NAME];
    oct_arch_expert(&b->m->config, parts);
    *all = true;
    for (uint32_t e = 0; e < src->n_experts; e++)
        for (int p = 0; p < OCT_ARCH_N_EXPERT; p++) {
            oct_linear_source *s = &src->of[p][e];
            snprintf(name, sizeof name, "%s%s.experts.%u.%s", prefix, b->m->arch->moe, e,
                     parts[p].suffix);
            OCT_TRY(oct_scheme_linear(b->scheme, &b->arena, name, parts[p].n, parts[p].k, false, s,
                                      err));
            *all &= s->kind != OCT_LINEAR_ABSENT;
            if (s->kind != OCT_LINEAR_ABSENT) oct_bind_label(b, s->label);
        }
    return OCT_OK;
}

/* All experts of a part must be stored like the first. */
static oct_status check_alike(oct_binder *b, const char *prefix, const sources *src, int part,
                              oct_err *err) {
    const oct_linear_source *first = src->of[part];
    uint32_t quant, other;
    const uint32_t dtype = oct_bind_storage(b, first, OCT_BIND_AS_WISHED, &quant);
    for (uint32_t e = 1; e < src->n_experts; e++)
        if (oct_bind_storage(b, &first[e], OCT_BIND_AS_WISHED, &other) != dtype || other != quant)
            return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                            "%s%s: experts of a layer are stored differently (%.*s is %s, %.*s is "
                            "%s), which is not supported",
                            prefix, b->m->arch->moe, OCT_STR_ARG(first[0].weight->name),
                            first[0].label, OCT_STR_ARG(first[e].weight->name), first[e].label);
    return OCT_OK;
}

/* Static parameters and factors of all experts, one behind the other. */
static oct_status stage_inputs(oct_binder *b, const oct_linear_source *src, uint32_t n_experts,
                               oct_mat *mat, oct_err *err) {
    const uint64_t k = src->k;
    bool any_mul = false;
    for (uint32_t e = 0; e < n_experts; e++) any_mul |= src[e].input_mul != NULL;
    if (mat->quant == OCTET_QUANT_STATIC_BEFORE || mat->quant == OCTET_QUANT_STATIC_AFTER) {
        float *param = oct_arena_alloc(&b->arena, 2 * (size_t)n_experts, sizeof *param);
        if (!param) return OCT_FAIL(err, OCT_E_NOMEM, "model: no memory");
        for (uint32_t e = 0; e < n_experts; e++) {
            param[2 * e] = src[e].input_scale;
            param[2 * e + 1] = src[e].input_offset;
        }
        OCT_TRY(oct_bind_stage(b, param, 2 * (size_t)n_experts, &mat->param, err));
    }
    if (!any_mul) return OCT_OK;
    float *mul = oct_arena_alloc(&b->arena, k * n_experts, sizeof *mul);
    if (!mul) return OCT_FAIL(err, OCT_E_NOMEM, "model: no memory");
    for (uint32_t e = 0; e < n_experts; e++)
        for (uint64_t i = 0; i < k; i++)
            mul[e * k + i] = src[e].input_mul ? src[e].input_mul[i] : 1.0f;
    return oct_bind_stage(b, mul, k * n_experts, &mat->mul, err);
}

/* One weight of the parts first..last, which are joined expert by expert. */
static oct_status bind_experts_mat(oct_binder *b, const sources *src, int first, int last,
                                   uint32_t col, oct_mat *mat, oct_err *err) {
    const oct_linear_source *of = src->of[first];
    const size_t n_sources = (size_t)src->n_experts * (size_t)(last - first + 1);
    oct_bind_rows rows;
    uint32_t quant;
    const uint32_t dtype = oct_bind_storage(b, of, OCT_BIND_AS_WISHED, &quant);
    OCT_TRY(oct_bind_rows_init(b, &rows, dtype, of->k, n_sources, err));
    for (uint32_t e = 0; e < src->n_experts; e++)
        for (int p = first; p <= last; p++) oct_bind_rows_add(&rows, &src->of[p][e]);
    *mat = (oct_mat){
        .n = (uint32_t)(rows.n / src->n_experts), .k = (uint32_t)of->k, .col = col, .quant = quant};
    OCT_TRY(stage_inputs(b, of, src->n_experts, mat, err));
    return oct_bind_weight(b, &rows, src->n_experts, mat, err);
}

static oct_status bind_experts_mats(oct_binder *b, const char *prefix, const sources *src,
                                    oct_experts *x, oct_err *err) {
    bool joined = true;
    for (int p = 0; p < OCT_ARCH_N_EXPERT; p++) OCT_TRY(check_alike(b, prefix, src, p, err));
    for (uint32_t e = 0; e < src->n_experts; e++)
        joined &= oct_bind_alike(b, &src->of[OCT_ARCH_GATE][e], &src->of[OCT_ARCH_UP][e],
                                 OCT_BIND_AS_WISHED);

    oct_group *g = &x->gate_up;
    OCT_TRY(bind_experts_mat(b, src, OCT_ARCH_GATE, joined ? OCT_ARCH_UP : OCT_ARCH_GATE, 0,
                             &g->mat[0], err));
    g->n_mats = 1;
    g->width = g->mat[0].n;
    if (!joined) {
        OCT_TRY(bind_experts_mat(b, src, OCT_ARCH_UP, OCT_ARCH_UP, g->width, &g->mat[1], err));
        g->width += g->mat[g->n_mats++].n;
    }
    OCT_TRY(bind_experts_mat(b, src, OCT_ARCH_DOWN, OCT_ARCH_DOWN, 0, &x->down.mat[0], err));
    x->down.n_mats = 1;
    x->down.width = x->down.mat[0].n;
    return OCT_OK;
}

/* Router and gate of the shared expert: small and decisive, so never quantised on load. */
static oct_status bind_router(oct_binder *b, const char *prefix, oct_experts *x, oct_err *err) {
    const oct_model_config *c = &b->m->config;
    char name[OCT_BIND_NAME];
    snprintf(name, sizeof name, "%s.gate", b->m->arch->moe);
    const oct_arch_projection router = {name, c->n_experts, c->hidden, false};
    const oct_arch_projection gate = {"mlp.shared_expert_gate", 1, c->hidden, false};
    OCT_TRY(oct_bind_group(b, prefix, &router, 1, OCT_BIND_AS_STORED, &x->router, err));
    if (c->shared_gate)
        OCT_TRY(oct_bind_group(b, prefix, &gate, 1, OCT_BIND_AS_STORED, &x->shared_gate, err));
    if (!c->router_bias) return OCT_OK;
    snprintf(name, sizeof name, "%s%s.e_score_correction_bias", prefix, b->m->arch->moe);
    return oct_bind_vector(b, name, c->n_experts, false, &x->bias, err);
}

static oct_status bind_experts(oct_binder *b, const char *prefix, oct_experts *x, oct_err *err) {
    const uint32_t n = b->m->config.n_experts;
    bool all;
    OCT_TRY(bind_router(b, prefix, x, err));
    oct_linear_source *memory =
        oct_calloc(b->m->mem, (size_t)n * OCT_ARCH_N_EXPERT, sizeof *memory);
    if (!memory) return OCT_FAIL(err, OCT_E_NOMEM, "model: no memory");
    sources src = {.of = {memory, memory + n, memory + 2 * (size_t)n}, .n_experts = n};
    oct_status st = look_up(b, prefix, &src, &all, err);
    /* What is missing was noted; told after the whole model was looked at. */
    if (st == OCT_OK && all) st = bind_experts_mats(b, prefix, &src, x, err);
    oct_free(b->m->mem, memory, (size_t)n * OCT_ARCH_N_EXPERT, sizeof *memory);
    return st;
}

/* ---- the layer ------------------------------------------------------------------------------- */

static oct_status bind_norms(oct_binder *b, const char *prefix, oct_layer *layer, oct_err *err) {
    oct_norm *const out[OCT_ARCH_N_NORMS] = {
        [OCT_ARCH_ATTN] = &layer->attn_norm, [OCT_ARCH_ATTN_POST] = &layer->attn_post_norm,
        [OCT_ARCH_MLP] = &layer->mlp_norm,   [OCT_ARCH_MLP_POST] = &layer->mlp_post_norm,
        [OCT_ARCH_Q] = &layer->q_norm,       [OCT_ARCH_K] = &layer->k_norm};
    oct_arch_norm norms[OCT_ARCH_N_NORMS];
    oct_arch_norms(&b->m->config, norms);
    char name[OCT_BIND_NAME];
    for (size_t i = 0; i < OCT_COUNT(norms); i++) {
        if (!norms[i].name) continue;
        snprintf(name, sizeof name, "%s%s", prefix, norms[i].name);
        OCT_TRY(oct_bind_norm(b, name, norms[i].n, 1, out[i], err));
    }
    return OCT_OK;
}

oct_status oct_bind_layer(oct_binder *b, uint32_t l, oct_err *err) {
    const oct_model_config *c = &b->m->config;
    oct_layer *layer = &b->m->layers[l];
    oct_arch_projection p[OCT_ARCH_MAX_GROUP];
    char prefix[64];

    snprintf(prefix, sizeof prefix, "model.layers.%u.", l);
    OCT_TRY(bind_norms(b, prefix, layer, err));
    OCT_TRY(oct_bind_group(b, prefix, p, oct_arch_qkv(c, p), OCT_BIND_AS_WISHED, &layer->qkv, err));
    OCT_TRY(oct_bind_group(b, prefix, p, oct_arch_o(c, p), OCT_BIND_AS_WISHED, &layer->o, err));
    if (c->layer_is_moe[l]) OCT_TRY(bind_experts(b, prefix, &layer->experts, err));
    OCT_TRY(oct_bind_group(b, prefix, p, oct_arch_gate_up(c, l, p), OCT_BIND_AS_WISHED,
                           &layer->gate_up, err));
    OCT_TRY(oct_bind_group(b, prefix, p, oct_arch_down(c, l, p), OCT_BIND_AS_WISHED, &layer->down,
                           err));
    return oct_bind_kv(b, l, prefix, layer, err);
}
