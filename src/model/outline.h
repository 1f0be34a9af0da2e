/*
 * model/outline.h - what a model of a configuration is made of: every tensor that the forward pass
 * asks for, by the names of its family, without a checkpoint at hand.
 *
 * Elsewhere  Names and shapes of one projection: model/arch.h. Reading them: model/bind_layer.c,
 *            which asks for the same.
 */
#ifndef OCT_MODEL_OUTLINE_H
#define OCT_MODEL_OUTLINE_H

#include "base/status.h"
#include "model/arch.h"

typedef enum oct_outline_kind {
    OCT_OUTLINE_EMBED,  /* NAME.weight [n, k], always float */
    OCT_OUTLINE_LINEAR, /* NAME.weight [n, k] in any scheme, NAME.bias [n] where bias is set */
    OCT_OUTLINE_EXPERT, /* the same, of one expert of a layer */
    OCT_OUTLINE_ROUTER, /* the same; small and decisive: never quantised on load */
    OCT_OUTLINE_HEAD,   /* the same; absent where the embedding serves */
    OCT_OUTLINE_NORM,   /* NAME.weight [n] */
    OCT_OUTLINE_VECTOR, /* NAME [n] */
} oct_outline_kind;

typedef struct oct_outline_item {
    oct_outline_kind kind;
    const char *name; /* whole: "model.layers.0.self_attn.q_proj"; borrowed for the call */
    uint32_t layer;   /* n_layers: outside of the layers */
    uint32_t expert;
    uint64_t n, k; /* k 0: a vector */
    bool bias;
} oct_outline_item;

/* A status other than OCT_OK ends the walk and is its result. */
typedef oct_status oct_outline_fn(void *ctx, const oct_outline_item *item, oct_err *err);

/* All items of one layer: norms, attention, then router, experts and MLP where they exist. */
OCT_MUST_CHECK oct_status oct_outline_layer(const oct_model_config *c, uint32_t layer,
                                            oct_outline_fn *fn, void *ctx, oct_err *err);
/* Embedding, last norm and, when own_head, the head. */
OCT_MUST_CHECK oct_status oct_outline_ends(const oct_model_config *c, bool own_head,
                                           oct_outline_fn *fn, void *ctx, oct_err *err);

#endif
