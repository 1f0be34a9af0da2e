/* model/dummy.c - see dummy.h. */
#include "model/dummy.h"

#include <math.h>
#include <stdio.h>

#include "base/attr.h"
#include "model/outline.h"
#include "store/synthetic.h"

enum { NAME = 256 };

/* Keys and values are about 1 in size; this many times that is still in reach of the cache. */
static const float cache_reach = 4;

typedef struct maker {
    oct_checkpoint *ckpt;
    const oct_model_config *c;
    oct_preset_storage storage;
    oct_dtype dtype; /* of what is float */
} maker;

static oct_status add(const maker *m, const char *name, const char *tail, oct_dtype dtype,
                      uint64_t n, uint64_t k, oct_fill fill, oct_err *err) {
    const uint64_t shape[2] = {n, k};
    char full[NAME];
    snprintf(full, sizeof full, "%s%s", name, tail);
    return oct_synthetic_add(m->ckpt, full, dtype, k ? 2 : 1, shape, fill, err);
}

static oct_status describe(const maker *m, const char *name, const char *tail, const char *scheme,
                           oct_err *err) {
    char key[NAME];
    snprintf(key, sizeof key, "%s%s", name, tail);
    return oct_synthetic_describe(m->ckpt, key, scheme, err);
}

static oct_fill uniform(double reach) { return (oct_fill){OCT_FILL_UNIFORM, (float)reach}; }
static oct_fill spread(double value) { return (oct_fill){OCT_FILL_SPREAD, (float)value}; }

/* A matrix whose products with rows of size 1 are of size 1. */
static oct_status add_float(const maker *m, const oct_outline_item *item, double size,
                            oct_err *err) {
    return add(m, item->name, ".weight", m->dtype, item->n, item->k,
               uniform(size * sqrt(3.0 / (double)item->k)), err);
}

/* The same in bytes of all values, whose root mean square is 128 / sqrt(3), with a scale a row. */
static oct_status add_int8(const maker *m, const oct_outline_item *item, oct_err *err) {
    const double scale = sqrt(3.0 / (double)item->k) / 128;
    OCT_TRY(add(m, item->name, ".weight", OCT_DTYPE_I8, item->n, item->k, uniform(1), err));
    OCT_TRY(add(m, item->name, ".weight_scale", OCT_DTYPE_F32, item->n, 1, spread(scale), err));
    return describe(m, item->name, ".weight", "W8A8_DYNAMIC", err);
}

static oct_status add_linear(const maker *m, const oct_outline_item *item, oct_err *err) {
    const bool can = item->kind == OCT_OUTLINE_LINEAR || item->kind == OCT_OUTLINE_EXPERT;
    if (m->storage == OCT_PRESET_BF16) {
        OCT_TRY(add_float(m, item, 1, err));
    } else if (can) {
        OCT_TRY(add_int8(m, item, err));
    } else {
        OCT_TRY(add_float(m, item, 1, err));
        OCT_TRY(describe(m, item->name, ".weight", "FLOAT", err));
    }
    return item->bias ? add(m, item->name, ".bias", m->dtype, item->n, 0, uniform(0.1), err)
                      : OCT_OK;
}

static oct_status add_item(void *ctx, const oct_outline_item *item, oct_err *err) {
    const maker *m = ctx;
    switch (item->kind) {
    case OCT_OUTLINE_EMBED: /* rows of size 1, or logits of size 1 where it is the head as well */
        return add_float(m, item, m->c->tie_word_embeddings ? 1 : sqrt((double)item->k), err);
    case OCT_OUTLINE_NORM:
        return add(m, item->name, ".weight", m->dtype, item->n, 0,
                   m->c->norm_plus_one ? uniform(0.25) : spread(1), err);
    case OCT_OUTLINE_VECTOR:
        return add(m, item->name, "", OCT_DTYPE_F32, item->n, 0, uniform(0.1), err);
    default:
        return add_linear(m, item, err);
    }
}

/* Scales of the layer's cache. */
static oct_status add_cache(const maker *m, uint32_t layer, oct_err *err) {
    const uint64_t n = (uint64_t)m->c->n_kv_heads * m->c->head_dim;
    static const char *const sides[] = {"k_proj", "v_proj"};
    char name[64];
    for (size_t i = 0; i < OCT_COUNT(sides); i++) {
        snprintf(name, sizeof name, "model.layers.%u.self_attn.%s", layer, sides[i]);
        OCT_TRY(
            add(m, name, ".kv_cache_scale", OCT_DTYPE_F32, n, 0, spread(cache_reach / 127), err));
        OCT_TRY(describe(m, name, ".kv_cache_scale", "C8", err));
    }
    return OCT_OK;
}

static oct_status add_all(maker *m, oct_err *err) {
    if (m->storage != OCT_PRESET_BF16)
        OCT_TRY(describe(m, "model_quant_type", "", "W8A8_DYNAMIC", err));
    if (m->storage == OCT_PRESET_W8A8C8) OCT_TRY(describe(m, "kv_cache_type", "", "C8", err));
    for (uint32_t l = 0; l < m->c->n_layers; l++) {
        OCT_TRY(oct_outline_layer(m->c, l, add_item, m, err));
        if (m->storage == OCT_PRESET_W8A8C8) OCT_TRY(add_cache(m, l, err));
    }
    OCT_TRY(oct_outline_ends(m->c, !m->c->tie_word_embeddings, add_item, m, err));
    return oct_synthetic_end(m->ckpt, err);
}

oct_status oct_dummy_open(const oct_allocator *mem, const char *source, const char *overrides,
                          uint64_t seed, oct_checkpoint **out, oct_err *err) {
    maker m = {0};
    *out = NULL;
    OCT_TRY(oct_synthetic_begin(mem, source, overrides, seed, &m.ckpt, &m.storage, err));
    m.c = oct_checkpoint_config(m.ckpt);
    m.dtype = oct_synthetic_float(m.ckpt);
    const oct_status st = add_all(&m, err);
    if (st == OCT_OK)
        *out = m.ckpt;
    else
        oct_checkpoint_close(m.ckpt);
    return st;
}
