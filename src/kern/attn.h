/*
 * kern/attn.h - attention of some rows of one sequence over one kv head, and the KV cache it reads.
 *
 * The cache. A block holds block_tokens tokens (a multiple of 32) of one layer as sub-blocks of 32
 * tokens one after the other; a sub-block holds every kv head in turn; a kv head holds a K part and
 * a V part:
 *
 *     int8   K: 32 outputs x head_dim (padded to 64), V: head_dim (padded to 16) outputs x 32
 *            tokens, both in the panel layout of kern/pack.h (V's K unit is 32)
 *            with a scale a token: then 32 float32 scales of K, 32 of V
 *     float  K: [head_dim][32], V: [32][head_dim]: float32, bfloat16, half or E4M3
 *
 * Slots of a block that were never written are never looked at, whatever they hold.
 *
 * The arithmetic is docs/numerics.md, "Attention": spans of 128 tokens at absolute positions,
 * combined in ascending order. The rows of a call, its tiles and who computes which span do not
 * show in the result.
 *
 * Ownership  Everything is borrowed for the call; outputs do not overlap inputs.
 * Threads    Calls that write different rows, partials or cache slots may run side by side, each
 *            with scratch of its own.
 * Elsewhere  The vector pieces: kern/attn_kern.h. Which block belongs to whom: kv.
 */
#ifndef OCT_KERN_ATTN_H
#define OCT_KERN_ATTN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kern/attn_kern.h"
#include "kern/kern.h"

typedef enum oct_attn_cache {
    OCT_ATTN_I8, /* one scale a channel */
    OCT_ATTN_F32,
    OCT_ATTN_BF16,
    OCT_ATTN_ROWS,     /* no cache: float32 rows of K and V, arithmetic of OCT_ATTN_F32 */
    OCT_ATTN_I8_TOKEN, /* int8, one scale a token and head */
    OCT_ATTN_FP8,      /* E4M3, one scale a channel */
    OCT_ATTN_F16,
} oct_attn_cache;

/* ---- layout of the cache -------------------------------------------------------------------- */

/* Bytes of one kv head in one sub-block, and where its V part starts. Not for OCT_ATTN_ROWS.
 * head_dim 1 .. OCT_ATTN_MAX_HEAD. Multiples of 64 whenever head_dim is a multiple of 16. */
size_t oct_kern_kv_head_bytes(oct_attn_cache cache, uint32_t head_dim);
size_t oct_kern_kv_v_offset(oct_attn_cache cache, uint32_t head_dim);
size_t oct_kern_kv_scale_offset(uint32_t head_dim); /* OCT_ATTN_I8_TOKEN */

/* One cache of one layer, for writing. */
typedef struct oct_kv_cache {
    oct_attn_cache cache;
    uint32_t n_kv_heads, head_dim, block_tokens;
    void *base;         /* 64-byte aligned */
    size_t block_bytes; /* from one block to the next, at least
                           block_tokens / 32 * n_kv_heads * oct_kern_kv_head_bytes() */
    /* int8: [n_kv_heads * head_dim] each; 1.0f / scale, and offsets or NULL */
    const float *k_inv, *k_offset;
    const float *v_inv, *v_offset;
    const float *k_scale, *v_scale; /* E4M3: [n_kv_heads * head_dim] each */
} oct_kv_cache;

/* Writes the K and V of one token, all kv heads ([n_kv_heads][head_dim] each), to slot
 * block * block_tokens + place. int8 with a scale a channel: sat8(rne(x * inv + offset)). */
void oct_kern_kv_put(const oct_kern *k, const oct_kv_cache *c, uint64_t slot, const float *key,
                     const float *value);

/* ---- attention ------------------------------------------------------------------------------ */

typedef struct oct_attn_args {
    /* the queries: row r, head g of the group at q + r * q_stride + g * head_dim */
    const float *q;
    size_t q_stride; /* floats */
    uint32_t n_rows;
    uint32_t group; /* query heads of this kv head, 1 .. */
    uint32_t head_dim;
    uint32_t pos0;   /* absolute position of row 0; row r is at pos0 + r */
    uint32_t kv_len; /* tokens 0 .. kv_len-1 are there */
    float scale;     /* softmax scale */
    float softcap;   /* 0: none; else c * tanh(s / c) */
    uint32_t window; /* 0: none; else t > p - window (and t < p + window without causal) */
    bool causal;     /* t <= p */

    oct_attn_cache cache;
    /* all but rows: the cache of this layer, moved to this kv head (base + kv_head *
     * oct_kern_kv_head_bytes()) */
    const void *kv;
    size_t block_bytes;
    size_t sub_bytes;      /* from one sub-block to the next: n_kv_heads * head_bytes */
    const int32_t *blocks; /* block of tokens [i * block_tokens, (i + 1) * block_tokens) */
    uint32_t block_tokens;
    /* One scale a channel (int8, E4M3): of this kv head, [head_dim] each. The K offset cancels in
     * the softmax and is not needed. v_offset may be NULL, and is for E4M3. */
    const float *k_scale, *v_scale, *v_offset;
    /* rows: token t of this kv head at k_rows + t * kv_stride, t = 0 .. kv_len-1 */
    const float *k_rows, *v_rows;
    size_t kv_stride; /* floats */

    /* row r, head g at out + r * out_stride + g * head_dim. A row that sees no token gives zeros,
     * one whose q is not finite NaN. */
    float *out;
    size_t out_stride; /* floats */
} oct_attn_args;

/* Bytes of scratch for the two functions that take it, 64-byte aligned. */
size_t oct_kern_attn_scratch_bytes(uint32_t group, uint32_t head_dim);

/* The whole operation. */
void oct_kern_attn(const oct_kern *k, const oct_attn_args *a, void *scratch);

/*
 * The same bits in two steps, so that threads can share one long sequence: any span range may be
 * computed by any thread, then one call combines them.
 *
 *     oct_kern_attn_span_range(&a, &begin, &end);
 *     oct_kern_attn_spans(k, &a, s0, s1, partials + (s0 - begin) * per_span, scratch);  (each)
 *     oct_kern_attn_combine(k, &a, partials);                                          (once)
 *
 * with per_span = oct_kern_attn_partial_floats(&a).
 */
void oct_kern_attn_span_range(const oct_attn_args *a, uint32_t *begin, uint32_t *end);
size_t oct_kern_attn_partial_floats(const oct_attn_args *a);
void oct_kern_attn_spans(const oct_kern *k, const oct_attn_args *a, uint32_t span_begin,
                         uint32_t span_end, float *partials, void *scratch);
/* partials: of all spans of oct_kern_attn_span_range. */
void oct_kern_attn_combine(const oct_kern *k, const oct_attn_args *a, const float *partials);

#endif
