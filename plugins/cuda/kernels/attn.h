/*
 * kernels/attn.h - the layout of the KV cache and the arguments of the kernels of attention.
 *
 * A block of one layer holds every kv head in turn, a head its sub-blocks of 32 tokens, a sub-block
 * K, then V, then (a scale a token) 32 float32 scales of K and 32 of V. The head is padded to D, a
 * multiple of 64; nobody reads the padding of V, and that of K meets zeros of the query or is not
 * read. K and V are cut into cells of 8 rows x 16 bytes, 128 bytes without a gap, E elements wide:
 *
 *     K  [t / 8][d / E] cells of tokens by channels
 *     V  [d / 8][t / E] cells of channels by tokens: transposed, so that both products run along a
 *        row of a cell
 *
 * A cell is what ldmatrix gives a warp at once and wgmma calls a core matrix; a sub-block is one
 * linear copy, and 8 lanes that read 16 bytes each read 128 in a row. In the one-byte kinds token t
 * of V stands at place oct_kv_place(t): where the accumulators of a product with K hold t is then
 * where the next product wants its weight.
 *
 * The arithmetic is docs/numerics.md, sections 9 and 10, with queries and probabilities of 16 bits
 * (rows are bfloat16) and one level more: the spans of an absolute chunk of 512 tokens are combined
 * ascending, then the chunks. Who computes a chunk does not show.
 */
#ifndef OCT_CUDA_ATTN_H
#define OCT_CUDA_ATTN_H

#include "params.h"

#define OCT_ATTN_SUB 32u
#define OCT_ATTN_SPAN 128u
#define OCT_ATTN_CHUNK 512u
#define OCT_ATTN_MAX_HEAD 256u
#define OCT_ATTN_VECTORS                                                     \
    8u /* queries (row, head) that a block of the span kernels takes at once \
        */
#define OCT_ATTN_PROMPT_VECTORS 64u /* of those for prompts */
#define OCT_ATTN_FEW_ROWS 8u /* sequences with at most so many rows are split along the cache */

/* Dynamic shared memory of the span kernels, a head padded to `pad`. */
#define OCT_ATTN_I8_SHARED(pad) ((pad) <= 128 ? 512u * (pad) : 256u * (pad))
#define OCT_ATTN_FLOAT_ROOM(pad) ((pad) <= 64 ? 4096u : 32u * ((pad) + 8))
#define OCT_ATTN_FLOAT_SHARED(pad) (4 * OCT_ATTN_FLOAT_ROOM(pad) + 32u * (pad))
#define OCT_ATTN_PROMPT_SHARED(pad) (512u * (pad))
/* Of kinds of 1 or 2 bytes an element that are no int8. */
#define OCT_ATTN_HALF_SHARED(pad, bytes) ((pad) * (bytes) < 128 ? 512u * (pad) * (bytes) : 65536u)
#define OCT_ATTN_HALF_PROMPT_SHARED(pad, bytes) (256u * (pad) * ((bytes) + 1))
/* Float numbers of the result of one chunk. */
#define OCT_ATTN_PART_FLOATS(pad) (8u * (pad) + 16)

/* D: what a head is padded to. */
static inline uint32_t oct_kv_pad(uint32_t head_dim) {
    return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256;
}

/* Where the results of attention go, and the numbers that say when a row is complete. */
typedef struct oct_p_attn_out {
    oct_p_rows rows;   /* bf16; absent from the operation: scratch */
    oct_p_quant quant; /* q 0: none */
    oct_addr counters; /* [tiles]: heads that are done */
} oct_p_attn_out;

/* One layer's cache. */
typedef struct oct_p_kv {
    oct_addr base;
    oct_addr k_scale, v_scale, k_offset, v_offset; /* float [n_kv_heads * head_dim], or absent */
    uint64_t block_bytes;
    uint64_t sub_bytes; /* of a sub-block of one head */
    uint32_t kind, n_kv_heads, head_dim, pad;
    uint32_t block_tokens, n_blocks;
} oct_p_kv;

typedef struct oct_p_batch {
    oct_addr row_pos, row_slot, seq_row, seq_kv_len, block_table;
    uint32_t n_seqs, n_rows, table_stride, reserved;
} oct_p_batch;

/* FULL norms: the sums of squares of q's and k's heads, a block a row. */
typedef struct oct_attn_sums_params {
    oct_addr fault;
    oct_p_rows qkv;
    oct_addr sums; /* out: float [n_rows][2] */
    uint32_t n_heads, n_kv_heads, head_dim, reserved;
} oct_attn_sums_params;

/* attn_input: a warp a head of a row. */
typedef struct oct_attn_input_params {
    oct_addr fault;
    oct_p_rows qkv;
    oct_p_kv kv;
    oct_addr row_pos, row_slot;
    oct_addr q_norm, k_norm, q_norm_bias, k_norm_bias, rope;
    oct_addr sums; /* FULL: of oct_attn_sums */
    float norm_eps;
    uint32_t qk_norm, rotary_dim, n_rope_rows;
    uint32_t n_heads, reserved;
} oct_attn_input_params;

/* Which sequences a launch of attention computes; the others belong to another launch. */
#define OCT_ATTN_FRESH_NO 1u   /* not those that read the rows of this step */
#define OCT_ATTN_FRESH_ONLY 2u /* only those */

typedef struct oct_attn_params {
    oct_addr fault;
    oct_p_rows q;     /* the qkv rows */
    oct_p_rows fresh; /* the qkv rows whose K and V are read, or absent */
    oct_p_kv kv;
    oct_p_batch batch;
    oct_p_attn_out out;
    oct_addr partials;  /* split: float results of chunks, attn_tile.cuh to attn_join.cu */
    oct_addr next_item; /* attn_prompt_sm90: [2], tiles taken, blocks done; zero between launches */
    uint32_t n_heads, group;
    uint32_t tile_heads; /* heads of the group in a tile: group, or 8 where it is wider */
    uint32_t head_tiles; /* tiles of a group */
    uint32_t tile_rows;  /* rows of a tile */
    uint32_t seq_tiles;  /* split: tiles that a sequence may have; 0: tiles are searched for */
    uint32_t max_chunks; /* split: of any sequence */
    uint32_t min_rows, max_rows; /* sequences with fewer or more rows are not of this launch */
    uint32_t which;              /* OCT_ATTN_FRESH_..., or 0 */
    float scale, softcap, inv_cap;
    uint32_t window, mask;
    uint32_t join_threads; /* attn_join: of a row */
    uint32_t join_rows;    /* attn_join: that a sequence may have */
    uint32_t reserved;
} oct_attn_params;

#endif
