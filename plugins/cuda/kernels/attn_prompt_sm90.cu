/*
 * kernels/attn_prompt_sm90.cu - attention of prompts over int8 caches with a scale a channel, on
 * Hopper: persistent blocks of one warp that copies spans of K and V and three warpgroups that
 * have 32 queries each.
 *
 * Rows of a product (wgmma m64n128k32) are the high parts of 32 queries and the low parts of the
 * same: a warp has 8 queries, and a lane gets both sums of a score, as in attn_i8.cuh. K and V are
 * multiplied as they lie in the cache, sub-blocks of 32 tokens one behind the other; weights go
 * from the sums of one product to the operand of the next in registers. The results are the bits
 * of attn_prompt.cu, which is for other chips and beside which the tests judge this.
 *
 * Blocks take the next tile of any head from a counter, those that see most first, and know it
 * while they work on the one before.
 *
 * Instructions bound it, not products: of a span and warp about 1,070 are issued, 650 of them to
 * turn scores into weights, while products take 512 cycles; with three warps beside each other two
 * of three cycles issue one. Rejected, measured: warpgroups that take turns, be it for products of
 * scores, for weights or for all but weights (1 to 8 % slower; one warp alone issues in less than
 * half of the cycles).
 */
#include "attn_prompt_sm90.h"

#include "simt.cuh"

#if !OCT_EMU && defined(__CUDA_ARCH_FEAT_SM90_ALL)

#include "attn_i8.cuh"
#include "sm90.cuh"

enum {
    GROUPS = OCT_ATTN_SM90_VECTORS / 32, /* warpgroups that multiply */
    STAGES = OCT_ATTN_SM90_STAGES,
    TILES = 4, /* known at a time: the copying warp is one ahead */
    CHUNK_SPANS = OCT_ATTN_CHUNK / OCT_ATTN_SPAN
};

struct room {
    unsigned char *stages;                     /* [STAGES]: K, V of a span */
    float4 *totals;                            /* [GROUPS][PAD / 16][128] */
    uint4 *queries;                            /* [GROUPS][PAD / 32][128] */
    attn_tile *tiles;                          /* [TILES]; n_vec 0: there is no more */
    oct_smem k_full, v_full, k_empty, v_empty; /* [STAGES] of 8 bytes */
    oct_smem tile_full, tile_empty;            /* [TILES] */
};

OCT_DEVICE uint32_t stage_of(uint32_t n) { return n % STAGES; }
OCT_DEVICE uint32_t parity_of(uint32_t n) { return n / STAGES % 2; }

template <int PAD> struct attn_sm90 {
    enum {
        SUB_BYTES = 32 * PAD,
        SPAN_BYTES = 4 * SUB_BYTES, /* of K, and of V */
        SUMS = PAD / 2,             /* a thread's of a product with V */
        VALUES = PAD / 4            /* a thread's of a result */
    };

    /* ---- copying, by one warp ---- */

    /* Takes the next tile and says so to the warpgroups, as number i of this block. */
    static OCT_MEMBER void take(const oct_attn_params &p, const room &room, uint32_t i) {
        const uint32_t heads_y = p.kv.n_kv_heads * p.head_tiles, lane = threadIdx.x % 32;
        uint32_t item = 0, tile;
        attn_tile t;
        if (lane == 0) item = atomicAdd(oct_ptr<uint32_t>(p.next_item), 1u);
        item = __shfl_sync(~0u, item, 0);
        t.index = item / heads_y;
        if (!attn_search(p, t.index, &t.seq, &tile) ||
            !attn_open(p, tile, item - t.index * heads_y, 0, &t))
            t.n_vec = 0;
        oct_bar_wait(room.tile_empty + i % TILES * 8, (i / TILES % 2) ^ 1);
        if (lane == 0) {
            room.tiles[i % TILES] = t;
            oct_bar_arrive(room.tile_full + i % TILES * 8);
        }
        __syncwarp();
        if (!t.n_vec || !p.q.vec) return;
        /* Its queries will be waited for. */
        const uint32_t first = t.head0 * p.kv.head_dim, n = t.n_heads * p.kv.head_dim;
        if (first % 8 || n % 8) return;
        for (uint32_t row = lane; row < t.n_rows; row += 32)
            oct_prefetch(p.q.data + ((t.row0 + row) * p.q.stride + first) * 2, n * 2);
    }

    /* Where this lane's sub-block (lane < 4) of a span lies; 0: the tile sees nothing of it. */
    static OCT_MEMBER uint64_t place_of(const oct_attn_params &p, const attn_tile &t,
                                        uint32_t span) {
        const uint32_t lane = threadIdx.x % 32;
        const uint32_t token = span * OCT_ATTN_SPAN + lane * OCT_ATTN_SUB;
        if (lane >= 4 || token >= static_cast<uint32_t>(t.seen.hi) ||
            token + OCT_ATTN_SUB <= static_cast<uint32_t>(t.seen.lo))
            return 0;
        return reinterpret_cast<uint64_t>(attn_sub(p, t.seq, t.kv_head, token));
    }

    /* One of K and V of a span, once its stage is empty. */
    static OCT_MEMBER void load(oct_smem to, uint64_t from, uint32_t bytes, oct_smem full,
                                oct_smem empty, uint32_t n) {
        const uint32_t lane = threadIdx.x % 32;
        full += stage_of(n) * 8;
        oct_bar_wait(empty + stage_of(n) * 8, parity_of(n) ^ 1);
        if (lane == 0) oct_bar_expect(full, bytes);
        __syncwarp();
        if (from) oct_bulk_load(to + lane * SUB_BYTES, oct_ptr<const void>(from), SUB_BYTES, full);
    }

    static OCT_MEMBER void copy(const oct_attn_params &p, const room &room) {
        const uint32_t lane = threadIdx.x % 32;
        uint32_t n = 0;
        take(p, room, 0);
        for (uint32_t i = 0;; i++) {
            const attn_tile &t = room.tiles[i % TILES];
            if (!t.n_vec) break;
            const bool nothing = t.seen.lo >= t.seen.hi;
            const uint32_t end = nothing ? 0 : (t.seen.hi - 1) / OCT_ATTN_SPAN + 1;
            uint32_t span = nothing ? 0 : t.seen.lo / OCT_ATTN_SPAN;
            const uint32_t first = span;
            uint64_t next = place_of(p, t, span);
            for (; span < end; span++, n++) {
                const uint64_t at = next;
                const uint32_t bytes = __popc(__ballot_sync(~0u, at != 0)) * SUB_BYTES;
                const oct_smem stage = oct_smem_at(room.stages) + stage_of(n) * 2 * SPAN_BYTES;
                if (span + 1 < end) next = place_of(p, t, span + 1);
                load(stage, at, bytes, room.k_full, room.k_empty, n);
                load(stage + SPAN_BYTES, at ? at + SUB_BYTES : 0, bytes, room.v_full, room.v_empty,
                     n);
                if (span == first) take(p, room, i + 1);
            }
            if (nothing) take(p, room, i + 1);
        }
        /* The last block leaves zeros for the next launch. */
        uint32_t *const counters = oct_ptr<uint32_t>(p.next_item);
        if (lane == 0 && atomicAdd(counters + 1, 1u) == gridDim.x - 1)
            counters[0] = counters[1] = 0;
    }

    /* ---- queries ---- */

    float factor;
    attn_range seen;    /* by this lane's query */
    attn_range all_see; /* by all of the warp */
    attn_part part, chunk, total;
    float acc[VALUES];

    /* The query of this thread in the tile. */
    static OCT_MEMBER uint32_t vector() {
        return threadIdx.x / 128 * 32 - 32 + threadIdx.x / 32 % 4 * 8 + threadIdx.x % 32 / 4;
    }

    /* Leaves the query as an operand in shared memory. (ptxas 13.0 lets go of the registers of an
     * operand that stays the same around a loop.) */
    OCT_MEMBER void begin(const oct_attn_params &p, const attn_tile &t, uint4 *queries) {
        const uint32_t v = vector();
        const bool there = v < t.n_vec;
        const uint32_t row = there ? v / t.n_heads : 0;
        const uint32_t head = t.head0 + (there ? v - row * t.n_heads : 0);
        uint32_t high[PAD / 16], low[PAD / 16];
        seen = {0, 0};
        if (there) seen = attn_row_range(p, t, row);
        /* Rows ascend, and so does what they see. */
        all_see = {__shfl_sync(~0u, seen.lo, 31), __shfl_sync(~0u, seen.hi, 0)};
        if ((v | 7) >= t.n_vec) all_see = {0, 0};
        factor = attn_query_parts<PAD>(p, t.kv_head, there, t.row0 + row, head, true, high, low);
#pragma unroll
        for (int k = 0; k < PAD / 32; k++)
            queries[k * 128] = make_uint4(high[2 * k], low[2 * k], high[2 * k + 1], low[2 * k + 1]);
        chunk = total = {0.0f, 0.0f, 1.0f};
#pragma unroll
        for (int i = 0; i < VALUES; i++) acc[i] = 0.0f;
    }

    /* ---- a span ---- */

    /* Weights of tokens that all queries of the warp see, no cap: attn_weights without what that
     * never needs, the largest found among whole numbers because scales are not below 0. */
    OCT_MEMBER void weigh_all(const int32_t (&d)[64], uint32_t (&x)[32]) {
        int32_t most = INT32_MIN, c[32];
        uint32_t sum = 0;
#pragma unroll
        for (int i = 0; i < 32; i++) {
            c[i] = 256 * d[i / 2 * 4 + i % 2] + d[i / 2 * 4 + 2 + i % 2];
            most = max(most, c[i]);
        }
        part.m = attn_max_over<2>(static_cast<float>(most) * factor);
        const bool bad = !attn_finite(part.m) || !attn_finite(factor);
        const float m = bad ? 0.0f : part.m + 0.0f;
#pragma unroll
        for (int i = 0; i < 32; i++) {
            x[i] = attn_whole(attn_exp_whole(static_cast<float>(c[i]) * factor - m), ATTN_P16_ONE);
            sum += x[i];
        }
        part.l = static_cast<float>(attn_sum_over<2>(sum - 32 * ATTN_WHOLE));
        part.w = 1.0f;
        if (bad) part = {oct_nan(), oct_nan(), 1.0f};
    }

    OCT_MEMBER void weigh_some(const oct_attn_params &p, const int32_t (&d)[64], int start,
                               uint32_t (&x)[32]) {
        const int end = start + static_cast<int>(OCT_ATTN_SPAN);
        uint32_t visible = 0;
        float s[32];
#pragma unroll
        for (int i = 0; i < 32; i++) {
            const int t = start + i / 2 * 8 + static_cast<int>(threadIdx.x % 4) * 2 + i % 2;
            visible |= (t >= seen.lo && t < seen.hi ? 1u : 0u) << i;
            s[i] = static_cast<float>(256 * d[i / 2 * 4 + i % 2] + d[i / 2 * 4 + 2 + i % 2]);
        }
        part = attn_weights<32, false>(p, s, visible, factor, nullptr, nullptr, x);
        if (seen.lo >= seen.hi || seen.hi <= start || seen.lo >= end) part.l = 0.0f;
    }

    OCT_MEMBER void start_scores(int32_t (&d)[64], const uint32_t (&q)[PAD / 32][4],
                                 oct_smem keys) {
        const uint64_t k = oct_wgmma_cells(keys, 128, PAD * 8);
        oct_wgmma_fence();
#pragma unroll
        for (int i = 0; i < PAD / 32; i++) oct_wgmma_s8(d, q[i], k + i * (256 >> 4), i > 0);
        oct_wgmma_commit();
    }

    OCT_MEMBER void weigh(const oct_attn_params &p, const int32_t (&d)[64], int start,
                          uint32_t (&w)[4][4]) {
        const int end = start + static_cast<int>(OCT_ATTN_SPAN);
        uint32_t x[32];
        if (all_see.lo <= start && all_see.hi >= end && p.softcap == 0.0f && p.scale >= 0.0f)
            weigh_all(d, x);
        else
            weigh_some(p, d, start, x);
#pragma unroll
        for (int sub = 0; sub < 4; sub++) {
            attn_weight_parts(x + 8 * sub, w[sub], w[sub] + 1);
            attn_weight_parts(x + 8 * sub + 4, w[sub] + 2, w[sub] + 3);
        }
    }

    OCT_MEMBER void add_values(const uint32_t (&w)[4][4], oct_smem values, oct_smem empty) {
        const uint64_t v = oct_wgmma_cells(values, 128, 256);
        int32_t o[SUMS];
        float fa, fo;
        oct_wgmma_fence();
#pragma unroll
        for (int i = 0; i < 4; i++) oct_wgmma_u8s8(o, w[i], v + i * (SUB_BYTES >> 4), i > 0);
        oct_wgmma_commit();
        attn_weigh(&chunk, part, &fa, &fo);
        oct_wgmma_wait<0>();
        if (threadIdx.x % 32 == 0) oct_bar_arrive(empty);
#pragma unroll
        for (int i = 0; i < VALUES; i++) {
            const int32_t sum = 256 * o[i / 2 * 4 + i % 2] + o[i / 2 * 4 + 2 + i % 2];
            acc[i] = fmaf(acc[i], fa, static_cast<float>(sum) * fo);
        }
    }

    /* The spans of a tile, the first of which is number n of this block. */
    OCT_MEMBER void attend(const oct_attn_params &p, const room &room, const uint4 *queries,
                           float4 *totals, uint32_t first, uint32_t end, uint32_t n) {
        const uint32_t lane = threadIdx.x % 32;
        bool none = true; /* no chunk has ended */
        for (uint32_t s = first; s < end; s++, n++) {
            const uint32_t stage = stage_of(n), parity = parity_of(n);
            const oct_smem keys = oct_smem_at(room.stages) + stage * 2 * SPAN_BYTES;
            const int start = static_cast<int>(s * OCT_ATTN_SPAN);
            uint32_t w[4][4], q[PAD / 32][4];
            int32_t d[64];
#pragma unroll
            for (int i = 0; i < PAD / 32; i++) {
                const uint4 y = queries[i * 128];
                q[i][0] = y.x, q[i][1] = y.y, q[i][2] = y.z, q[i][3] = y.w;
            }
            oct_bar_wait(room.k_full + stage * 8, parity);
            start_scores(d, q, keys);
            if (s > first && s % CHUNK_SPANS == 0) {
                end_chunk(totals, none);
                none = false;
            }
            oct_wgmma_wait<0>();
            if (lane == 0) oct_bar_arrive(room.k_empty + stage * 8);
            weigh(p, d, start, w);
            oct_bar_wait(room.v_full + stage * 8, parity);
            add_values(w, keys + SPAN_BYTES, room.v_empty + stage * 8);
        }
        if (none) {
            total = chunk;
        } else {
            end_chunk(totals, false);
#pragma unroll
            for (int k = 0; k < VALUES; k += 4) {
                const float4 y = totals[k / 4 * 128];
                acc[k] = y.x, acc[k + 1] = y.y, acc[k + 2] = y.z, acc[k + 3] = y.w;
            }
        }
    }

    /* ---- chunks ---- */

    /* Puts the chunk that ends here behind those before it, in shared memory. */
    OCT_MEMBER void end_chunk(float4 *totals, bool first) {
        float fa, fo;
        attn_weigh(&total, chunk, &fa, &fo);
        chunk = {0.0f, 0.0f, 1.0f};
#pragma unroll
        for (int i = 0; i < VALUES; i += 4) {
            float4 *const at = totals + i / 4 * 128;
            float4 y = first ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : *at;
            y.x = fmaf(y.x, fa, acc[i] * fo);
            y.y = fmaf(y.y, fa, acc[i + 1] * fo);
            y.z = fmaf(y.z, fa, acc[i + 2] * fo);
            y.w = fmaf(y.w, fa, acc[i + 3] * fo);
            *at = y;
            acc[i] = acc[i + 1] = acc[i + 2] = acc[i + 3] = 0.0f;
        }
    }

    OCT_MEMBER void finish(const oct_attn_params &p, const attn_tile &t) {
        const uint32_t v = vector(), quad = threadIdx.x % 4, dim = p.kv.head_dim;
        if (v >= t.n_vec) return;
        const uint32_t row = v / t.n_heads, head = t.head0 + v - row * t.n_heads;
        const uint32_t at = t.kv_head * dim + 2 * quad;
        const float *scales = oct_ptr<const float>(p.kv.v_scale) + at;
        const float *offsets = oct_ptr<const float>(p.kv.v_offset) + at;
        const float r = 1.0f / total.l;
        uint16_t *const to = oct_ptr<uint16_t>(p.out.rows.data) +
                             (t.row0 + row) * p.out.rows.stride + head * dim + 2 * quad;
#pragma unroll
        for (int n0 = 0; n0 < PAD / 8; n0 += 8) {
            float scale[16], offset[16], x[2]; /* all asked for before any is waited for */
#pragma unroll
            for (int i = 0; i < 16; i++) {
                const uint32_t d = (n0 + i / 2) * 8 + i % 2;
                scale[i] = offset[i] = 0.0f;
                if (d + 2 * quad < dim) scale[i] = scales[d];
                if (d + 2 * quad < dim && p.kv.v_offset) offset[i] = offsets[d];
            }
#pragma unroll
            for (int n = 0; n < 8; n++) {
                const uint32_t d = (n0 + n) * 8;
                if (d + 2 * quad >= dim) break;
#pragma unroll
                for (int i = 0; i < 2; i++) { /* as attn_finish */
                    const float y = acc[2 * (n0 + n) + i] * r - offset[2 * n + i];
                    x[i] = total.l == 0.0f ? 0.0f : y * scale[2 * n + i];
                }
                if (p.out.rows.vec) {
                    *reinterpret_cast<uint32_t *>(to + d) = oct_f32_bf16x2(x[0], x[1]);
                } else {
                    to[d] = oct_f32_bf16(x[0]);
                    to[d + 1] = oct_f32_bf16(x[1]);
                }
            }
        }
    }

    /* ---- a warpgroup ---- */

    OCT_MEMBER void run(const oct_attn_params &p, const room &room) {
        const uint32_t lane = threadIdx.x % 32;
        float4 *const totals =
            room.totals + (threadIdx.x / 128 - 1) * (VALUES / 4) * 128 + threadIdx.x % 128;
        uint4 *const queries =
            room.queries + (threadIdx.x / 128 - 1) * (PAD / 32) * 128 + threadIdx.x % 128;
        uint32_t n = 0;
        for (uint32_t i = 0;; i++) {
            const attn_tile *const t = room.tiles + i % TILES;
            oct_bar_wait(room.tile_full + i % TILES * 8, i / TILES % 2);
            if (t->n_vec == 0) break;
            const bool nothing = t->seen.lo >= t->seen.hi;
            const uint32_t first = nothing ? 0 : t->seen.lo / OCT_ATTN_SPAN;
            const uint32_t end = nothing ? 0 : (t->seen.hi - 1) / OCT_ATTN_SPAN + 1;
            begin(p, *t, queries);
            attend(p, room, queries, totals, first, end, n);
            n += end - first;
            finish(p, *t);
            __syncwarp();
            if (lane == 0) oct_bar_arrive(room.tile_empty + i % TILES * 8);
        }
    }
};

template <int PAD> OCT_DEVICE void attend_sm90(const oct_attn_params &p) {
    OCT_SHARED_DYNAMIC(shared);
    OCT_SHARED(uint64_t, bars, 4 * STAGES + 2 * TILES);
    OCT_SHARED(attn_tile, tiles, TILES);
    room room;
    room.stages = shared;
    room.totals = reinterpret_cast<float4 *>(shared + STAGES * 2 * attn_sm90<PAD>::SPAN_BYTES);
    room.queries = reinterpret_cast<uint4 *>(room.totals + GROUPS * (PAD / 16) * 128);
    room.tiles = tiles;
    room.k_full = oct_smem_at(bars);
    room.v_full = room.k_full + STAGES * 8;
    room.k_empty = room.v_full + STAGES * 8;
    room.v_empty = room.k_empty + STAGES * 8;
    room.tile_full = room.v_empty + STAGES * 8;
    room.tile_empty = room.tile_full + TILES * 8;
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < STAGES; i++) {
            oct_bar_init(room.k_full + i * 8, 1);
            oct_bar_init(room.v_full + i * 8, 1);
            oct_bar_init(room.k_empty + i * 8, GROUPS * 4);
            oct_bar_init(room.v_empty + i * 8, GROUPS * 4);
        }
        for (uint32_t i = 0; i < TILES; i++) {
            oct_bar_init(room.tile_full + i * 8, 1);
            oct_bar_init(room.tile_empty + i * 8, GROUPS * 4);
        }
        oct_bar_publish();
    }
    oct_grid_launch_next();
    oct_grid_wait();
    __syncthreads();
    if (threadIdx.x < 128) {
        oct_registers_less<32>();
        if (threadIdx.x < 32) attn_sm90<PAD>::copy(p, room);
    } else {
        oct_registers_more<160>();
        attn_sm90<PAD> group;
        group.run(p, room);
    }
}

#endif

/* Empty on other chips: ops_attention.c does not start it there. */
OCT_KERNEL(attn_prompt_sm90_64, oct_attn_params, OCT_ATTN_SM90_THREADS) {
#if !OCT_EMU && defined(__CUDA_ARCH_FEAT_SM90_ALL)
    attend_sm90<64>(p);
#else
    (void)p;
#endif
}

OCT_KERNEL(attn_prompt_sm90_128, oct_attn_params, OCT_ATTN_SM90_THREADS) {
#if !OCT_EMU && defined(__CUDA_ARCH_FEAT_SM90_ALL)
    attend_sm90<128>(p);
#else
    (void)p;
#endif
}
