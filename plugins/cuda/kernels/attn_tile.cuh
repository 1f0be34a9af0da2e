/*
 * kernels/attn_tile.cuh - the frame of the span kernels of attention: which queries and tokens a
 * block has, how what its warps found is put together, and how results leave.
 *
 * A tile is up to 8 queries: rows of one sequence times heads of one kv head. A block of 4 warps
 * takes a chunk of 512 tokens at a time, each warp one of its spans. Split (decode): one block a
 * chunk, results go to memory and another kernel combines them ascending (attn_join.cu); else one
 * block goes through all chunks. Both perform the same operations in the same order.
 *
 * S, the arithmetic of a span:
 *     S::PAD, S::SPAN_BYTES          what a head is padded to; shared memory of one warp
 *     s.prefetch(p, t, start, room)  starts to read the span at token start (may do nothing)
 *     s.begin(p, t, all)             makes the queries ready; all: the shared memory of the block
 *     s.run(p, t, start, room, part) leaves m, l, w of the 8 queries in part, and o of those with l
 *                                    not 0 in room as float [8][PAD + 8]
 */
#ifndef OCT_CUDA_ATTN_TILE_CUH
#define OCT_CUDA_ATTN_TILE_CUH

#include "attn_math.cuh"

enum { ATTN_WARPS = 4, ATTN_THREADS = 128 };

struct attn_tile {
    uint32_t index; /* of the tile, whatever the head */
    uint32_t seq, row0, n_rows;
    uint32_t kv_head, head0, n_heads, n_vec;
    int kv_len;
    attn_range seen; /* by some row */
    int block; /* split: what the table says of this lane's sub-block of the span (lane < 4) */
};

/* ---- which queries --------------------------------------------------------------------------- */

/* Rows of a sequence, 0 where it is not of this launch. */
OCT_DEVICE uint32_t attn_rows_of(const oct_attn_params &p, uint32_t seq, uint32_t *first,
                                 int *kv_len) {
    const int32_t *seq_row = oct_ptr<const int32_t>(p.batch.seq_row);
    const uint32_t begin = static_cast<uint32_t>(seq_row[seq]);
    const uint32_t n = static_cast<uint32_t>(seq_row[seq + 1]) - begin;
    *first = begin;
    *kv_len = oct_ptr<const int32_t>(p.batch.seq_kv_len)[seq];
    if (n < p.min_rows || n > p.max_rows) return 0;
    const bool fresh = static_cast<uint32_t>(*kv_len) == n;
    if (p.which != 0 && fresh != (p.which == OCT_ATTN_FRESH_ONLY)) return 0;
    return n;
}

/* The sequence that has tile number `rank` of all tiles, and which of its tiles that is; the last
 * of a sequence first, because it sees most. The same answer in all lanes. */
OCT_DEVICE bool attn_search(const oct_attn_params &p, uint32_t rank, uint32_t *seq,
                            uint32_t *tile) {
    const uint32_t lane = threadIdx.x % 32;
    for (uint32_t s0 = 0; s0 < p.batch.n_seqs; s0 += 32) {
        uint32_t n = 0, first;
        int kv_len;
        if (s0 + lane < p.batch.n_seqs)
            n = (attn_rows_of(p, s0 + lane, &first, &kv_len) + p.tile_rows - 1) / p.tile_rows;
        uint32_t upto = n;
#pragma unroll
        for (int b = 1; b < 32; b *= 2) {
            const uint32_t below = __shfl_up_sync(~0u, upto, b);
            if (lane >= static_cast<uint32_t>(b)) upto += below;
        }
        const uint32_t found = __ballot_sync(~0u, upto > rank);
        if (found) {
            const int at = __ffs(static_cast<int>(found)) - 1;
            *seq = s0 + at;
            *tile = __shfl_sync(~0u, upto, at) - 1 - rank;
            return true;
        }
        rank -= __shfl_sync(~0u, upto, 31);
    }
    return false;
}

OCT_DEVICE attn_range attn_row_range(const oct_attn_params &p, const attn_tile &t, uint32_t row) {
    return attn_visible(p, oct_ptr<const int32_t>(p.batch.row_pos)[t.row0 + row], t.kv_len);
}

/* The first token of this lane's sub-block in a chunk. */
OCT_DEVICE uint32_t attn_lane_token() {
    return threadIdx.x / 32 * OCT_ATTN_SPAN + threadIdx.x % 4 * OCT_ATTN_SUB;
}

/* Tile number `tile` of the sequence and heads y of heads_y; false: it has no rows, or nothing from
 * token `from` on (not 0). */
OCT_DEVICE bool attn_open(const oct_attn_params &p, uint32_t tile, uint32_t y, uint32_t from,
                          attn_tile *t) {
    uint32_t first;
    const uint32_t n = attn_rows_of(p, t->seq, &first, &t->kv_len);
    if (tile * p.tile_rows >= n) return false;
    /* Most blocks of a step recorded for longer texts end here. */
    if (from != 0 && static_cast<int>(from) >= t->kv_len) return false;
    t->row0 = first + tile * p.tile_rows;
    t->n_rows = n - tile * p.tile_rows < p.tile_rows ? n - tile * p.tile_rows : p.tile_rows;
    t->kv_head = y / p.head_tiles;
    const uint32_t in_group = y % p.head_tiles * p.tile_heads;
    t->n_heads = p.group - in_group < p.tile_heads ? p.group - in_group : p.tile_heads;
    t->head0 = t->kv_head * p.group + in_group;
    t->n_vec = t->n_rows * t->n_heads;
    t->seen.lo = attn_row_range(p, *t, 0).lo;
    t->seen.hi = attn_row_range(p, *t, t->n_rows - 1).hi;
    return true;
}

/* The tile and, split, the chunk of this block; false: there is none. */
OCT_DEVICE bool attn_take(const oct_attn_params &p, attn_tile *t, uint32_t *chunk) {
    uint32_t tile;
    *chunk = 0;
    if (p.seq_tiles) {
        t->index = blockIdx.x / p.max_chunks;
        *chunk = blockIdx.x - t->index * p.max_chunks;
        t->seq = t->index / p.seq_tiles;
        /* Asked for before it is known whether it is needed: one wait less. */
        t->block = attn_block_of(p, t->seq, *chunk * OCT_ATTN_CHUNK + attn_lane_token());
        tile = t->index - t->seq * p.seq_tiles;
    } else {
        t->index = blockIdx.x;
        if (!attn_search(p, t->index, &t->seq, &tile)) return false;
    }
    return attn_open(p, tile, blockIdx.y, *chunk * OCT_ATTN_CHUNK, t);
}

/* ---- results --------------------------------------------------------------------------------- */

/* True for the last of n blocks that come here; what the others wrote before is then visible. */
OCT_DEVICE bool attn_last(uint32_t *counter, uint32_t n, uint32_t *flag) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        const bool last = atomicAdd(counter, 1u) == n - 1;
        if (last) *counter = 0; /* for the next launch */
        *flag = last;
    }
    __syncthreads();
    const bool last = *flag != 0;
    if (last) __threadfence();
    return last;
}

/* Quantises complete rows; all threads of the block. */
OCT_DEVICE void attn_quantise(const oct_attn_params &p, uint32_t row0, uint32_t n_rows) {
    OCT_SHARED(float, room, 64);
    const oct_group g = {0, threadIdx.x, blockDim.x, room};
    const uint32_t width = p.n_heads * p.kv.head_dim;
    const oct_p_quant &quant = p.out.quant;
    for (uint32_t row = row0; row < row0 + n_rows; row++) {
        const uint16_t *from = oct_ptr<const uint16_t>(p.out.rows.data) + row * p.out.rows.stride;
        uint32_t most = 0;
        float x[8];
        for (uint32_t at = 8 * g.thread; at < width; at += 8 * g.n) {
            oct_load8(x, from, at, width, p.out.rows.vec != 0);
            for (int i = 0; i < 8; i++) most = max(most, oct_abs_bits(x[i]));
        }
        most = oct_group_max(g, most, row & 1);
        const oct_quant_rule rule =
            oct_quant_rule_of(quant.mode, oct_ptr<const float>(quant.param), most, p.fault, row);
        int8_t *const to = oct_ptr<int8_t>(quant.q) + row * quant.stride;
        for (uint32_t at = 8 * g.thread; at < width; at += 8 * g.n) {
            oct_load8(x, from, at, width, p.out.rows.vec != 0);
            oct_quant_store8(to, rule, x, at, width, quant.vec != 0);
        }
        if (g.thread == 0) oct_ptr<float>(quant.scale)[row] = rule.row_scale;
    }
}

/* ---- a block --------------------------------------------------------------------------------- */

/* Thread i of a block holds channels 4 (i % 16) + 64 k of query i / 16. */
template <class S> struct attn_block {
    enum { N = S::PAD / 16, ROOM_STRIDE = S::PAD + 8, PART_FLOATS = OCT_ATTN_PART_FLOATS(S::PAD) };

    /* The four spans of a chunk, from shared memory. */
    OCT_MEMBER void chunk(const unsigned char *room, const attn_part *parts, attn_part *total,
                          float (&acc)[N]) {
        const uint32_t v = threadIdx.x / 16, d = threadIdx.x % 16 * 4;
        *total = {0.0f, 0.0f, 1.0f};
#pragma unroll
        for (int k = 0; k < N; k++) acc[k] = 0.0f;
#pragma unroll
        for (int s = 0; s < ATTN_WARPS; s++) {
            const attn_part part = parts[s * OCT_ATTN_VECTORS + v];
            const float *at =
                reinterpret_cast<const float *>(room + s * S::SPAN_BYTES) + v * ROOM_STRIDE + d;
            if (part.l == 0.0f) continue; /* nothing was left there */
            float o[N];
#pragma unroll
            for (int k = 0; k < N; k += 4) {
                const float4 x = *reinterpret_cast<const float4 *>(at + 16 * k);
                o[k] = x.x, o[k + 1] = x.y, o[k + 2] = x.z, o[k + 3] = x.w;
            }
            attn_merge(total, acc, part, o);
        }
    }

    OCT_MEMBER void store_chunk(float *at, uint32_t n_vec, const attn_part &total,
                                const float (&acc)[N]) {
        const uint32_t v = threadIdx.x / 16, d = threadIdx.x % 16 * 4;
        if (v >= n_vec) return;
        if (threadIdx.x % 16 == 0) {
            at[8 * S::PAD + v] = total.m;
            at[8 * S::PAD + 8 + v] = total.l;
        }
#pragma unroll
        for (int k = 0; k < N; k += 4)
            *reinterpret_cast<float4 *>(at + v * S::PAD + d + 16 * k) =
                make_float4(acc[k], acc[k + 1], acc[k + 2], acc[k + 3]);
    }

    OCT_MEMBER void finish(const oct_attn_params &p, const attn_tile &t, const attn_part &total,
                           const float (&acc)[N], uint32_t *flag) {
        const uint32_t v = threadIdx.x / 16, d = threadIdx.x % 16 * 4;
        if (v < t.n_vec) {
            const uint32_t row = v / t.n_heads, head = t.head0 + v - row * t.n_heads;
            const float r = 1.0f / total.l;
#pragma unroll
            for (int k = 0; k < N; k += 4) {
                float x[4];
                if (d + 16 * k >= p.kv.head_dim) break;
                attn_finish<4>(p, t.kv_head, total, r, d + 16 * k, acc + k, x);
                attn_store4(p.out.rows, t.row0 + row, head * p.kv.head_dim + d + 16 * k, x);
            }
        }
        if (!p.out.quant.q) return;
        if (attn_last(oct_ptr<uint32_t>(p.out.counters) + t.index, gridDim.y, flag))
            attn_quantise(p, t.row0, t.n_rows);
    }

    OCT_MEMBER void run(const oct_attn_params &p, unsigned char *room) {
        OCT_SHARED(attn_part, parts, ATTN_WARPS * OCT_ATTN_VECTORS);
        OCT_SHARED(uint32_t, flag, 1);
        const uint32_t warp = threadIdx.x / 32;
        unsigned char *const mine = room + warp * S::SPAN_BYTES;
        attn_tile t;
        uint32_t c;
        /* The batch is no kernel's result: it is looked at while the one before still runs. */
        const bool taken = attn_take(p, &t, &c);
        oct_grid_wait();
        if (!taken) return;
        const bool split = p.seq_tiles != 0, nothing = t.seen.lo >= t.seen.hi;
        const uint32_t first = nothing ? 0 : t.seen.lo / OCT_ATTN_CHUNK;
        uint32_t end = nothing ? 0 : (t.seen.hi - 1) / OCT_ATTN_CHUNK + 1;
        if (split) {
            if (c < first || c >= end) return;
            end = c + 1;
        } else {
            c = first;
        }
        S span;
        attn_part total = {0.0f, 0.0f, 1.0f};
        float acc[N] = {0};
        if (!nothing) span.prefetch(p, t, c * OCT_ATTN_CHUNK + warp * OCT_ATTN_SPAN, mine);
        span.begin(p, t, room);
        for (; c < end; c++) {
            attn_part of_chunk;
            float o[N];
            span.run(p, t, c * OCT_ATTN_CHUNK + warp * OCT_ATTN_SPAN, mine,
                     parts + warp * OCT_ATTN_VECTORS);
            __syncthreads();
            chunk(room, parts, &of_chunk, o);
            __syncthreads();
            if (c + 1 < end)
                span.prefetch(p, t, (c + 1) * OCT_ATTN_CHUNK + warp * OCT_ATTN_SPAN, mine);
            attn_merge(&total, acc, of_chunk, o);
        }
        if (split) {
            const uint64_t item = static_cast<uint64_t>(t.index) * gridDim.y + blockIdx.y;
            store_chunk(oct_ptr<float>(p.partials) + (item * p.max_chunks + c - 1) * PART_FLOATS,
                        t.n_vec, total, acc);
            return;
        }
        finish(p, t, total, acc, flag);
    }
};

#endif
