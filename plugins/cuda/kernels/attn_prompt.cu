/*
 * kernels/attn_prompt.cu - attention of prompts over int8 caches: 64 queries a block, 16 a warp,
 * all of them over each span that the block brought to shared memory once.
 *
 * Rows of the matrix product are 16 queries; the product of the high parts is moved up by 8 bits
 * and the one of the low parts added to it, so a score and a value are the exact integers that
 * attn_i8.cuh makes of two sums, and everything behind them is the same function. Results of the
 * chunks so far wait in shared memory.
 */
#include "attn_i8.cuh"

template <int PAD, bool TOKEN> struct attn_prompt {
    enum {
        SUB_BYTES = 32 * PAD,
        SPAN = 4 * SUB_BYTES, /* of K, and of V */
        TILES = PAD / 8       /* of 8 channels */
    };
    static_assert(4 * SPAN == OCT_ATTN_PROMPT_SHARED(PAD), "K, V and twice that of results");

    uint32_t high[2][PAD / 16], low[2][PAD / 16]; /* of queries lane / 4 and + 8 of the warp */
    float factor[2];
    attn_range seen[2];
    uint32_t head[2], row[2]; /* row of the tile */
    attn_range warp_seen, all_see;
    attn_part part[2], total[2];
    float acc[TILES][4];

    /* ---- queries ---- */

    OCT_MEMBER void begin(const oct_attn_params &p, const attn_tile &t) {
        const uint32_t lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint32_t v = first + lane / 4 + 8 * i;
            const bool there = v < t.n_vec;
            row[i] = there ? v / t.n_heads : 0;
            head[i] = t.head0 + (there ? v - row[i] * t.n_heads : 0);
            seen[i] = {0, 0};
            if (there) seen[i] = attn_row_range(p, t, row[i]);
            factor[i] = attn_query_parts<PAD>(p, t.kv_head, there, t.row0 + row[i], head[i], !TOKEN,
                                              high[i], low[i]);
            total[i] = {0.0f, 0.0f, 1.0f};
        }
        /* Rows ascend within the warp, and so does what they see. */
        warp_seen = all_see = {0, 0};
        if (first >= t.n_vec) return;
        const uint32_t last = (first + 15 < t.n_vec ? first + 15 : t.n_vec - 1) / t.n_heads;
        const attn_range a = attn_row_range(p, t, first / t.n_heads);
        const attn_range b = attn_row_range(p, t, last);
        warp_seen = {a.lo, b.hi};
        if (first + 16 <= t.n_vec) all_see = {b.lo, a.hi};
    }

    /* ---- a span ---- */

    OCT_MEMBER bool sees(int token) const {
        return token < warp_seen.hi && token + 32 > warp_seen.lo;
    }

    OCT_MEMBER void scores(const unsigned char *k, int start, float *a, float *b) {
        const oct_smem at = oct_smem_at(k + threadIdx.x % 32 * 16);
#pragma unroll
        for (int sub = 0; sub < 4; sub++) {
            int32_t c[4][4] = {{0}};
            if (sees(start + 32 * sub)) {
                uint32_t keys[4][PAD / 16];
#pragma unroll
                for (int n = 0; n < 4; n++)
#pragma unroll
                    for (int i = 0; i < PAD / 16; i += 4)
                        oct_ldmatrix4(keys[n] + i,
                                      at + sub * SUB_BYTES + (n * (PAD / 16) + i) * 128);
#pragma unroll
                for (int i = 0; i < PAD / 16; i += 2) {
                    const uint32_t q[4] = {high[0][i], high[1][i], high[0][i + 1], high[1][i + 1]};
#pragma unroll
                    for (int n = 0; n < 4; n++) oct_mma_s8(c[n], q, keys[n] + i);
                }
#pragma unroll
                for (int n = 0; n < 4; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) c[n][i] *= 256;
#pragma unroll
                for (int i = 0; i < PAD / 16; i += 2) {
                    const uint32_t q[4] = {low[0][i], low[1][i], low[0][i + 1], low[1][i + 1]};
#pragma unroll
                    for (int n = 0; n < 4; n++) oct_mma_s8(c[n], q, keys[n] + i);
                }
            }
#pragma unroll
            for (int n = 0; n < 4; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    a[8 * sub + 2 * n + i] = static_cast<float>(c[n][i]);
                    b[8 * sub + 2 * n + i] = static_cast<float>(c[n][2 + i]);
                }
        }
    }

    /* The scales of this lane's tokens, from the sub-blocks at sub_at (lane s: that of number s).
     */
    OCT_MEMBER void scales(uint64_t sub_at, int start, float *ks, float *vs) {
#pragma unroll
        for (uint32_t sub = 0; sub < 4; sub++) {
            const uint64_t at = attn_shfl(sub_at, sub);
            const float *from = oct_ptr<const float>(at + 2 * SUB_BYTES) + threadIdx.x % 4 * 2;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const bool there = sees(start + 32 * static_cast<int>(sub));
                ks[8 * sub + i] = there ? from[i / 2 * 8 + i % 2] : 0.0f;
                vs[8 * sub + i] = there ? from[32 + i / 2 * 8 + i % 2] : 0.0f;
            }
        }
    }

    OCT_MEMBER void weights_of(const oct_attn_params &p, int i, int start, float *s,
                               const float *ks, const float *vs, uint32_t (*parts)[4]) {
        uint32_t x[32], visible = ~0u;
        const int end = start + static_cast<int>(OCT_ATTN_SPAN);
        if (all_see.lo > start || all_see.hi < end) {
            visible = 0;
#pragma unroll
            for (int k = 0; k < 32; k++) {
                const int t = start + k / 2 * 8 + static_cast<int>(threadIdx.x % 4) * 2 + k % 2;
                visible |= (t >= seen[i].lo && t < seen[i].hi ? 1u : 0u) << k;
            }
        }
        part[i] = attn_weights<32, TOKEN>(p, s, visible, factor[i], ks, vs, x);
        if (visible != ~0u &&
            (seen[i].lo >= seen[i].hi || seen[i].hi <= start || seen[i].lo >= end))
            part[i].l = 0.0f;
#pragma unroll
        for (int sub = 0; sub < 4; sub++) {
            attn_weight_parts(x + 8 * sub, parts[sub], parts[sub] + 2);
            attn_weight_parts(x + 8 * sub + 4, parts[sub] + 1, parts[sub] + 3);
        }
    }

    /* wa, wb: {high first 16 places, high second, low first, low second} of each sub-block. */
    OCT_MEMBER void values(const unsigned char *v, int start, const uint32_t (*wa)[4],
                           const uint32_t (*wb)[4], const float *fa, const float *fo) {
        const oct_smem at = oct_smem_at(v + threadIdx.x % 32 * 16);
#pragma unroll
        for (int n = 0; n < TILES; n += 4) {
            int32_t c[4][4] = {{0}};
            uint32_t b[2][4][4];
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int sub = 0; sub < 4; sub++) {
                    oct_ldmatrix4(b[half][sub], at + sub * SUB_BYTES + (n + 2 * half) * 256);
                }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (i)
#pragma unroll
                    for (int j = 0; j < 16; j++) c[j / 4][j % 4] *= 256;
#pragma unroll
                for (int sub = 0; sub < 4; sub++) {
                    if (!sees(start + 32 * sub)) continue;
                    const uint32_t w[4] = {wa[sub][2 * i], wb[sub][2 * i], wa[sub][2 * i + 1],
                                           wb[sub][2 * i + 1]};
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        oct_mma_u8s8(c[2 * half], w, b[half][sub]);
                        oct_mma_u8s8(c[2 * half + 1], w, b[half][sub] + 2);
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    acc[n + j][i] =
                        fmaf(acc[n + j][i], fa[i / 2], static_cast<float>(c[j][i]) * fo[i / 2]);
        }
    }

    /* ---- chunks ---- */

    /* Puts the chunk that ends here behind those before it, in shared memory. */
    OCT_MEMBER void end_chunk(float *results, attn_part *chunk) {
        float fa[2], fo[2];
#pragma unroll
        for (int i = 0; i < 2; i++) attn_weigh(&total[i], chunk[i], fa + i, fo + i);
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float *at = results + (4 * n + i) * ATTN_THREADS + threadIdx.x;
                *at = fmaf(*at, fa[i / 2], acc[n][i] * fo[i / 2]);
                acc[n][i] = 0.0f;
            }
    }

    OCT_MEMBER void finish(const oct_attn_params &p, const attn_tile &t, uint32_t *flag) {
        const uint32_t quad = threadIdx.x % 4, dim = p.kv.head_dim;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint32_t v = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * i;
            if (v >= t.n_vec) continue;
            const float r = 1.0f / total[i].l;
            uint16_t *to = oct_ptr<uint16_t>(p.out.rows.data) +
                           (t.row0 + row[i]) * p.out.rows.stride + head[i] * dim;
#pragma unroll
            for (int n = 0; n < TILES; n++) {
                const uint32_t d = 8 * n + 2 * quad;
                float x[2];
                if (d >= dim) break;
                attn_finish<2>(p, t.kv_head, total[i], r, d, acc[n] + 2 * i, x);
                if (p.out.rows.vec) {
                    *reinterpret_cast<uint32_t *>(to + d) = oct_f32_bf16x2(x[0], x[1]);
                } else {
                    to[d] = oct_f32_bf16(x[0]);
                    to[d + 1] = oct_f32_bf16(x[1]);
                }
            }
        }
        if (!p.out.quant.q) return;
        if (attn_last(oct_ptr<uint32_t>(p.out.counters) + t.index, gridDim.y, flag))
            attn_quantise(p, t.row0, t.n_rows);
    }

    /* ---- a block ---- */

    /* Copies K (0) or V (1) of the span: a sub-block by each warp. Nothing where at is 0. */
    OCT_MEMBER void copy(unsigned char *to, uint64_t at, int v) {
        if (at) {
            const uint32_t lane = threadIdx.x % 32;
            const oct_smem into = oct_smem_at(to + threadIdx.x / 32 * SUB_BYTES + 16 * lane);
            const uint8_t *from = oct_ptr<const uint8_t>(at) + v * SUB_BYTES + 16 * lane;
#pragma unroll
            for (int k = 0; k < SUB_BYTES; k += 512) oct_cp_async16(into + k, from + k);
        }
        oct_cp_commit();
    }

    /* Where sub-block `sub` of a span lies; 0: the tile sees nothing of it. */
    OCT_MEMBER uint64_t place_of(const oct_attn_params &p, const attn_tile &t, uint32_t span,
                                 uint32_t sub) {
        const uint32_t token = span * OCT_ATTN_SPAN + sub * OCT_ATTN_SUB;
        if (token >= static_cast<uint32_t>(t.seen.hi) ||
            token + OCT_ATTN_SUB <= static_cast<uint32_t>(t.seen.lo))
            return 0;
        return reinterpret_cast<uint64_t>(attn_sub(p, t.seq, t.kv_head, token));
    }

    OCT_MEMBER void run(const oct_attn_params &p, unsigned char *room) {
        OCT_SHARED(uint32_t, flag, 1);
        const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        unsigned char *const keys = room, *const vals = room + SPAN;
        float *const results = reinterpret_cast<float *>(room + 2 * SPAN);
        attn_tile t;
        uint32_t ignored;
        if (!attn_take(p, &t, &ignored)) return;
        const bool nothing = t.seen.lo >= t.seen.hi;
        const uint32_t first = nothing ? 0 : t.seen.lo / OCT_ATTN_SPAN;
        const uint32_t end = nothing ? 0 : (t.seen.hi - 1) / OCT_ATTN_SPAN + 1;
        const uint32_t per_chunk = OCT_ATTN_CHUNK / OCT_ATTN_SPAN;
        const bool one_chunk = end == 0 || first / per_chunk == (end - 1) / per_chunk;
        uint64_t at = 0, next = 0;
        if (!nothing) {
            at = place_of(p, t, first, warp);
            copy(keys, at, 0);
            copy(vals, at, 1);
            if (first + 1 < end) next = place_of(p, t, first + 1, warp);
        }
        begin(p, t);
        attn_part chunk[2] = {{0.0f, 0.0f, 1.0f}, {0.0f, 0.0f, 1.0f}};
#pragma unroll
        for (int n = 0; n < TILES; n++)
            for (int i = 0; i < 4; i++) {
                acc[n][i] = 0.0f;
                if (!one_chunk) results[(4 * n + i) * ATTN_THREADS + threadIdx.x] = 0.0f;
            }
        for (uint32_t span = first; span < end; span++) {
            const int start = static_cast<int>(span * OCT_ATTN_SPAN);
            float a[32], b[32], ks[TOKEN ? 32 : 1], vs[TOKEN ? 32 : 1], fa[2], fo[2];
            uint32_t wa[4][4], wb[4][4];
            oct_cp_wait<1>();
            __syncthreads();
            scores(keys, start, a, b);
            if (TOKEN) scales(place_of(p, t, span, lane % 4), start, ks, vs);
            __syncthreads();
            copy(keys, next, 0);
            weights_of(p, 0, start, a, ks, vs, wa);
            weights_of(p, 1, start, b, ks, vs, wb);
#pragma unroll
            for (int i = 0; i < 2; i++) attn_weigh(&chunk[i], part[i], fa + i, fo + i);
            oct_cp_wait<1>();
            __syncthreads();
            values(vals, start, wa, wb, fa, fo);
            __syncthreads();
            copy(vals, next, 1);
            next = span + 2 < end ? place_of(p, t, span + 2, warp) : 0;
            if (one_chunk || (span + 1 < end && (span + 1) % per_chunk != 0)) continue;
            end_chunk(results, chunk);
            chunk[0] = chunk[1] = {0.0f, 0.0f, 1.0f};
        }
        oct_cp_wait<0>();
        if (one_chunk) {
            total[0] = chunk[0];
            total[1] = chunk[1];
        } else {
#pragma unroll
            for (int n = 0; n < TILES; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    acc[n][i] = results[(4 * n + i) * ATTN_THREADS + threadIdx.x];
        }
        finish(p, t, flag);
    }
};

template <int PAD, bool TOKEN> OCT_DEVICE void attend_prompt(const oct_attn_params &p) {
    OCT_SHARED_DYNAMIC(room);
    attn_prompt<PAD, TOKEN> block;
    oct_grid_launch_next();
    oct_grid_wait();
    block.run(p, room);
}

OCT_KERNEL(attn_prompt_64, oct_attn_params, 128) { attend_prompt<64, false>(p); }
OCT_KERNEL(attn_prompt_128, oct_attn_params, 128) { attend_prompt<128, false>(p); }
OCT_KERNEL(attn_prompt_token_64, oct_attn_params, 128) { attend_prompt<64, true>(p); }
OCT_KERNEL(attn_prompt_token_128, oct_attn_params, 128) { attend_prompt<128, true>(p); }
