/*
 * kernels/attn_half_prompt.cu - attention of prompts over 16-bit and E4M3 caches and over the rows
 * of this step: 64 queries a block, 16 a warp, all of them over each span that the block brought to
 * shared memory once. Products and what is behind them are those of attn_half.cuh (attn_mma.cuh),
 * so results have the same bits. Results of the chunks so far wait in shared memory.
 */
#include "attn_mma.cuh"

template <class T, int PAD> struct attn_half_prompt {
    enum {
        SUB_BYTES = 32 * PAD * T::BYTES,
        SPAN = 4 * SUB_BYTES, /* of K, and of V */
        TILES = PAD / 8       /* of 8 channels */
    };
    static_assert(2 * SPAN + TILES * 4 * ATTN_THREADS * 4 ==
                      OCT_ATTN_HALF_PROMPT_SHARED(PAD, T::BYTES),
                  "K, V and results");

    uint32_t q[2][T::Q][PAD / 16][2]; /* of queries lane / 4 and + 8 of the warp */
    float factor[2];
    attn_range seen[2];
    uint32_t head[2], row[2];    /* row of the tile */
    attn_warp_range warp, block; /* of the block's all queries too */
    attn_part chunk[2], total[2];
    float acc[TILES][4];
    uint32_t *strange; /* [4], shared: tokens of sub-blocks */

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
            factor[i] = attn_query<T, PAD>(p, t.kv_head, there, t.row0 + row[i], head[i], q[i]);
            chunk[i] = total[i] = {0.0f, 0.0f, 1.0f};
        }
        block = attn_warp_sees(p, t, 0, t.n_vec - 1);
        warp = {{0, 0}, {0, 0}};
        if (first < t.n_vec)
            warp = attn_warp_sees(p, t, first, first + 15 < t.n_vec ? first + 15 : t.n_vec - 1);
    }

    /* ---- a span ---- */

    OCT_MEMBER void scores(const oct_attn_params &p, const unsigned char *k, int start, float *a,
                           float *b) {
#pragma unroll 1
        for (int sub = 0; sub < 4; sub++) { /* through the same registers */
            float c[4][4] = {{0.0f}};
            if (warp.sees(start + 32 * sub))
                attn_scores<T, PAD, 2>(k + sub * SUB_BYTES, p.kv.head_dim, q, c);
#pragma unroll
            for (int i = 0; i < 24; i++) a[i] = a[i + 8], b[i] = b[i + 8];
#pragma unroll
            for (int i = 0; i < 8; i++)
                a[24 + i] = c[i / 2][i % 2], b[24 + i] = c[i / 2][2 + i % 2];
        }
    }

    OCT_MEMBER attn_part weights(const oct_attn_params &p, int i, int start, float (&s)[32],
                                 uint32_t visible, uint32_t (&w)[T::P][16]) {
        const int end = start + static_cast<int>(OCT_ATTN_SPAN);
        attn_part part = attn_weights_half<T>(p, s, visible, factor[i], w);
        if (visible != ~0u &&
            (seen[i].lo >= seen[i].hi || seen[i].hi <= start || seen[i].lo >= end))
            part.l = 0.0f;
        return part;
    }

    OCT_MEMBER void values(const unsigned char *v, int start, const uint32_t (&w)[2][T::P][16],
                           const float (&fa)[2], const float (&fo)[2]) {
#pragma unroll
        for (int n = 0; n < TILES; n += 4) {
            float c[4][4] = {{0.0f}};
#pragma unroll
            for (int sub = 0; sub < 4; sub++) {
                if (!warp.sees(start + 32 * sub)) continue;
#pragma unroll
                for (int j = 0; j < 4; j++)
                    attn_values<T, PAD, 2>(v + sub * SUB_BYTES, sub, n + j, w, c[j]);
            }
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    acc[n + j][i] = fmaf(acc[n + j][i], fa[i / 2], c[j][i] * fo[i / 2]);
        }
    }

    /* What is no number is taken out of V, a sub-block by each warp, and noted. */
    OCT_MEMBER bool take_strange(unsigned char *v, int start) {
        const uint32_t sub = threadIdx.x / 32;
        uint32_t found = 0;
        if (block.sees(start + 32 * static_cast<int>(sub)))
            found = attn_take_strange<T, PAD>(v + sub * SUB_BYTES);
        if (threadIdx.x % 32 == 0) strange[sub] = found;
        __syncthreads();
        return (strange[0] | strange[1] | strange[2] | strange[3]) != 0;
    }

    /* ---- chunks ---- */

    /* Puts the chunk that ends here behind those before it, in shared memory. */
    OCT_MEMBER void end_chunk(float *results) {
        float fa[2], fo[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            attn_weigh(&total[i], chunk[i], fa + i, fo + i);
            chunk[i] = {0.0f, 0.0f, 1.0f};
        }
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

    /* Copies K (0) or V (1) of a span: a sub-block by each warp. Nothing where at is 0. */
    OCT_MEMBER void copy(const oct_attn_params &p, const attn_tile &t, unsigned char *to,
                         uint64_t at, bool v, uint32_t span) {
        const uint32_t warp_at = threadIdx.x / 32;
        const int token = static_cast<int>(span * OCT_ATTN_SPAN + warp_at * OCT_ATTN_SUB);
        if (at) attn_copy_sub<T, PAD>(p, to + warp_at * SUB_BYTES, at, v, t.kv_len - token);
        oct_cp_commit();
    }

    /* Where sub-block `sub` of a span lies; 0: the tile sees nothing of it. */
    OCT_MEMBER uint64_t place_of(const oct_attn_params &p, const attn_tile &t, uint32_t span,
                                 uint32_t sub) {
        const uint32_t token = span * OCT_ATTN_SPAN + sub * OCT_ATTN_SUB;
        if (token >= static_cast<uint32_t>(t.seen.hi) ||
            token + OCT_ATTN_SUB <= static_cast<uint32_t>(t.seen.lo))
            return 0;
        return attn_source<T>(p, t, T::ROWS ? 0 : attn_block_of(p, t.seq, token), token);
    }

    /* Spans `span` .. end - 1, the first of them on its way at `at`. */
    OCT_MEMBER void run_spans(const oct_attn_params &p, const attn_tile &t, unsigned char *room,
                              uint64_t at, uint32_t span, uint32_t end, bool one_chunk) {
        const uint32_t sub = threadIdx.x / 32, per_chunk = OCT_ATTN_CHUNK / OCT_ATTN_SPAN;
        unsigned char *const keys = room, *const vals = room + SPAN;
        if (span >= end) return;
        copy(p, t, keys, at, false, span);
        copy(p, t, vals, at, true, span);
        uint64_t next = span + 1 < end ? place_of(p, t, span + 1, sub) : 0;
        begin(p, t);
        for (; span < end; span++) {
            const int start = static_cast<int>(span * OCT_ATTN_SPAN);
            const bool edge = warp.edge(start, OCT_ATTN_SPAN);
            float a[32] = {0.0f}, b[32] = {0.0f}, fa[2], fo[2];
            uint32_t w[2][T::P][16], visible[2] = {~0u, ~0u};
            oct_cp_wait<1>();
            __syncthreads();
            scores(p, keys, start, a, b);
            __syncthreads();
            copy(p, t, keys, next, false, span + 1);
            if (edge) {
                visible[0] = attn_seen_bits(seen[0], start);
                visible[1] = attn_seen_bits(seen[1], start);
            }
            const attn_part part[2] = {weights(p, 0, start, a, visible[0], w[0]),
                                       weights(p, 1, start, b, visible[1], w[1])};
#pragma unroll
            for (int i = 0; i < 2; i++) attn_weigh(&chunk[i], part[i], fa + i, fo + i);
            oct_cp_wait<1>();
            __syncthreads();
            bool any = false;
            if (block.edge(start, OCT_ATTN_SPAN)) any = take_strange(vals, start);
            values(vals, start, w, fa, fo);
            if (any) {
                attn_strange<T, PAD, 2>(p, place_of(p, t, span, threadIdx.x % 4),
                                        strange[threadIdx.x % 4], visible, w, fo, acc);
            }
            __syncthreads();
            copy(p, t, vals, next, true, span + 1);
            next = span + 2 < end ? place_of(p, t, span + 2, sub) : 0;
            if (one_chunk || (span + 1 < end && (span + 1) % per_chunk != 0)) continue;
            end_chunk(reinterpret_cast<float *>(room + 2 * SPAN));
        }
        oct_cp_wait<0>();
    }

    OCT_MEMBER void run(const oct_attn_params &p, unsigned char *room) {
        OCT_SHARED(uint32_t, flag, 1);
        OCT_SHARED(uint32_t, tokens, 4);
        float *const results = reinterpret_cast<float *>(room + 2 * SPAN) + threadIdx.x;
        attn_tile t;
        uint32_t ignored;
        strange = tokens;
        if (!attn_take(p, &t, &ignored)) return;
        const bool nothing = t.seen.lo >= t.seen.hi;
        const uint32_t first = nothing ? 0 : t.seen.lo / OCT_ATTN_SPAN;
        const uint32_t end = nothing ? 0 : (t.seen.hi - 1) / OCT_ATTN_SPAN + 1;
        const uint32_t per_chunk = OCT_ATTN_CHUNK / OCT_ATTN_SPAN;
        const bool one_chunk = end == 0 || first / per_chunk == (end - 1) / per_chunk;
#pragma unroll
        for (int n = 0; n < TILES; n++)
            for (int i = 0; i < 4; i++) {
                acc[n][i] = 0.0f;
                if (!one_chunk) results[(4 * n + i) * ATTN_THREADS] = 0.0f;
            }
        if (nothing) begin(p, t);
        run_spans(p, t, room, nothing ? 0 : place_of(p, t, first, threadIdx.x / 32), first, end,
                  one_chunk);
        if (one_chunk) {
            total[0] = chunk[0];
            total[1] = chunk[1];
        } else {
#pragma unroll
            for (int n = 0; n < TILES; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) acc[n][i] = results[(4 * n + i) * ATTN_THREADS];
        }
        finish(p, t, flag);
    }
};

template <class T, int PAD> OCT_DEVICE void attend(const oct_attn_params &p) {
    OCT_SHARED_DYNAMIC(room);
    attn_half_prompt<T, PAD> block;
    oct_grid_launch_next();
    oct_grid_wait();
    block.run(p, room);
}

OCT_KERNEL(attn_prompt_bf16_64, oct_attn_params, 128) { attend<attn_bf16, 64>(p); }
OCT_KERNEL(attn_prompt_bf16_128, oct_attn_params, 128) { attend<attn_bf16, 128>(p); }
OCT_KERNEL(attn_prompt_f16_64, oct_attn_params, 128) { attend<attn_f16, 64>(p); }
OCT_KERNEL(attn_prompt_f16_128, oct_attn_params, 128) { attend<attn_f16, 128>(p); }
OCT_KERNEL(attn_prompt_fp8_64, oct_attn_params, 128) { attend<attn_e4m3, 64>(p); }
OCT_KERNEL(attn_prompt_fp8_128, oct_attn_params, 128) { attend<attn_e4m3, 128>(p); }
OCT_KERNEL(attn_prompt_rows_64, oct_attn_params, 128) { attend<attn_rows, 64>(p); }
OCT_KERNEL(attn_prompt_rows_128, oct_attn_params, 128) { attend<attn_rows, 128>(p); }
