/*
 * kern/attn_kv.c - where a token's K and V lie in the cache, and writing them.
 */
#include <string.h>

#include "base/assert.h"
#include "kern/attn.h"
#include "kern/pack.h"
#include "quant/float_types.h"

static uint32_t round_up(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit * unit; }

size_t oct_kern_kv_v_offset(oct_attn_cache cache, uint32_t head_dim) {
    switch (cache) {
    case OCT_ATTN_I8:
    case OCT_ATTN_I8_TOKEN:
        return (size_t)oct_pack_kpad(head_dim) * OCT_ATTN_SUB;
    case OCT_ATTN_F32:
        return (size_t)head_dim * OCT_ATTN_SUB * sizeof(float);
    case OCT_ATTN_BF16:
    case OCT_ATTN_F16:
        return (size_t)head_dim * OCT_ATTN_SUB * sizeof(uint16_t);
    case OCT_ATTN_FP8:
        return (size_t)head_dim * OCT_ATTN_SUB;
    case OCT_ATTN_ROWS:
        break;
    }
    return 0;
}

size_t oct_kern_kv_head_bytes(oct_attn_cache cache, uint32_t head_dim) {
    const size_t v = oct_kern_kv_v_offset(cache, head_dim);
    if (cache != OCT_ATTN_I8 && cache != OCT_ATTN_I8_TOKEN) return 2 * v;
    const size_t values = v + (size_t)round_up(head_dim, OCT_PANEL_OUTPUTS) * OCT_ATTN_SUB;
    return cache == OCT_ATTN_I8 ? values : values + 2 * OCT_ATTN_SUB * sizeof(float);
}

size_t oct_kern_kv_scale_offset(uint32_t head_dim) {
    return oct_kern_kv_head_bytes(OCT_ATTN_I8, head_dim);
}

/* Token t is output t of the K matrix: its bytes come four at a time, 64 apart. */
static void put_k_i8(int8_t *part, uint32_t t, const int8_t *row, uint32_t kpad) {
    int8_t *at = part + (size_t)(t / OCT_PANEL_OUTPUTS) * kpad * OCT_PANEL_OUTPUTS +
                 (size_t)(t % OCT_PANEL_OUTPUTS) * 4;
    for (uint32_t d = 0; d < kpad; d += 4, at += 64) memcpy(at, row + d, 4);
}

/* Token t is column t of the V matrix: every byte on its own. */
static void put_v_i8(int8_t *part, uint32_t t, const int8_t *row, uint32_t head_dim) {
    int8_t *at = part + (size_t)(t / 4) * 64 + t % 4;
    for (uint32_t d = 0; d < head_dim; d++)
        at[(size_t)(d / OCT_PANEL_OUTPUTS) * (OCT_PANEL_OUTPUTS * OCT_ATTN_SUB) +
           (size_t)(d % OCT_PANEL_OUTPUTS) * 4] = row[d];
}

static void put_head_i8(const oct_kern *k, const oct_kv_cache *c, uint32_t head, int8_t *at,
                        uint32_t t, const float *key, const float *value) {
    int8_t row[OCT_ATTN_MAX_HEAD];
    const uint32_t hd = c->head_dim, kpad = oct_pack_kpad(hd);
    const size_t first = (size_t)head * hd;

    k->elem.quant_channels(row, key, c->k_inv + first, c->k_offset ? c->k_offset + first : NULL,
                           hd);
    memset(row + hd, 0, kpad - hd);
    put_k_i8(at, t, row, kpad);
    k->elem.quant_channels(row, value, c->v_inv + first, c->v_offset ? c->v_offset + first : NULL,
                           hd);
    put_v_i8(at + oct_kern_kv_v_offset(OCT_ATTN_I8, hd), t, row, hd);
}

static void put_head_i8_token(const oct_kern *k, char *at, uint32_t t, const float *key,
                              const float *value, uint32_t hd) {
    int8_t row[OCT_ATTN_MAX_HEAD];
    const uint32_t kpad = oct_pack_kpad(hd);
    float *scale = (float *)(void *)(at + oct_kern_kv_scale_offset(hd)) + t;

    scale[0] = k->kv.quant_token(row, key, hd);
    memset(row + hd, 0, kpad - hd);
    put_k_i8((int8_t *)at, t, row, kpad);
    scale[OCT_ATTN_SUB] = k->kv.quant_token(row, value, hd);
    put_v_i8((int8_t *)at + oct_kern_kv_v_offset(OCT_ATTN_I8_TOKEN, hd), t, row, hd);
}

static void put_head_fp8(const oct_kern *k, const oct_kv_cache *c, uint32_t head, uint8_t *at,
                         uint32_t t, const float *key, const float *value) {
    uint8_t row[OCT_ATTN_MAX_HEAD];
    const uint32_t hd = c->head_dim;
    const size_t first = (size_t)head * hd;
    k->kv.narrow_e4m3(row, key, c->k_scale + first, hd);
    for (uint32_t d = 0; d < hd; d++) at[d * OCT_ATTN_SUB + t] = row[d];
    k->kv.narrow_e4m3(at + (size_t)hd * OCT_ATTN_SUB + (size_t)t * hd, value, c->v_scale + first,
                      hd);
}

static void put_head_f16(const oct_kern *k, uint16_t *at, uint32_t t, const float *key,
                         const float *value, uint32_t hd) {
    uint16_t row[OCT_ATTN_MAX_HEAD];
    k->kv.narrow_f16(row, key, hd);
    for (uint32_t d = 0; d < hd; d++) at[d * OCT_ATTN_SUB + t] = row[d];
    k->kv.narrow_f16(at + (size_t)hd * OCT_ATTN_SUB + (size_t)t * hd, value, hd);
}

static void put_head_f32(float *at, uint32_t t, const float *key, const float *value, uint32_t hd) {
    for (uint32_t d = 0; d < hd; d++) at[d * OCT_ATTN_SUB + t] = key[d];
    memcpy(at + (size_t)hd * OCT_ATTN_SUB + (size_t)t * hd, value, hd * sizeof *value);
}

static void put_head_bf16(uint16_t *at, uint32_t t, const float *key, const float *value,
                          uint32_t hd) {
    uint16_t *v = at + (size_t)hd * OCT_ATTN_SUB + (size_t)t * hd;
    for (uint32_t d = 0; d < hd; d++) at[d * OCT_ATTN_SUB + t] = oct_f32_to_bf16(key[d]);
    for (uint32_t d = 0; d < hd; d++) v[d] = oct_f32_to_bf16(value[d]);
}

static void put_head(const oct_kern *k, const oct_kv_cache *c, uint32_t head, char *at, uint32_t t,
                     const float *key, const float *value) {
    switch (c->cache) {
    case OCT_ATTN_I8:
        put_head_i8(k, c, head, (int8_t *)at, t, key, value);
        break;
    case OCT_ATTN_I8_TOKEN:
        put_head_i8_token(k, at, t, key, value, c->head_dim);
        break;
    case OCT_ATTN_FP8:
        put_head_fp8(k, c, head, (uint8_t *)at, t, key, value);
        break;
    case OCT_ATTN_F16:
        put_head_f16(k, (uint16_t *)(void *)at, t, key, value, c->head_dim);
        break;
    case OCT_ATTN_BF16:
        put_head_bf16((uint16_t *)(void *)at, t, key, value, c->head_dim);
        break;
    case OCT_ATTN_F32:
        put_head_f32((float *)(void *)at, t, key, value, c->head_dim);
        break;
    case OCT_ATTN_ROWS:
        break;
    }
}

void oct_kern_kv_put(const oct_kern *k, const oct_kv_cache *c, uint64_t slot, const float *key,
                     const float *value) {
    OCT_ASSERT(c->head_dim >= 1 && c->head_dim <= OCT_ATTN_MAX_HEAD);
    OCT_ASSERT(c->block_tokens > 0 && c->block_tokens % OCT_ATTN_SUB == 0);

    const uint32_t place = (uint32_t)(slot % c->block_tokens), t = place % OCT_ATTN_SUB;
    const size_t head_bytes = oct_kern_kv_head_bytes(c->cache, c->head_dim);
    char *at = (char *)c->base + slot / c->block_tokens * c->block_bytes +
               (size_t)(place / OCT_ATTN_SUB) * c->n_kv_heads * head_bytes;

    for (uint32_t head = 0; head < c->n_kv_heads; head++, at += head_bytes) {
        const float *k_row = key + (size_t)head * c->head_dim;
        const float *v_row = value + (size_t)head * c->head_dim;
        put_head(k, c, head, at, t, k_row, v_row);
    }
}
