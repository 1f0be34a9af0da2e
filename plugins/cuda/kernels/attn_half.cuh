/*
 * kernels/attn_half.cuh - the span of up to 8 queries by one warp, over 16-bit and E4M3 caches and
 * the rows of this step (attn_mma.cuh).
 */
#ifndef OCT_CUDA_ATTN_HALF_CUH
#define OCT_CUDA_ATTN_HALF_CUH

#include "attn_mma.cuh"

template <class T, int PAD_> struct attn_span_half {
    enum {
        PAD = PAD_,
        SUB_BYTES = 32 * PAD * T::BYTES, /* of K, and of V */
        STAGES = PAD * T::BYTES <= 128   ? 4
                 : PAD * T::BYTES <= 256 ? 2
                                         : 1,
        SPAN_BYTES = STAGES * SUB_BYTES,
        ROOM_STRIDE = PAD + 8
    };
    static_assert(SPAN_BYTES >= 8 * ROOM_STRIDE * 4, "results take the place of the ring");
    static_assert(ATTN_WARPS * SPAN_BYTES == OCT_ATTN_HALF_SHARED(PAD, T::BYTES),
                  "what the host gives");

    uint32_t q[1][T::Q][PAD / 16][2];
    float factor;
    attn_range seen; /* by this lane's query */
    attn_warp_range warp;
    int kv_len;
    uint32_t sub0, n_subs; /* of the span that the tile sees */
    uint64_t sub_at;       /* lane s: address of sub-block s */

    /* Copy number i of the span: K of its sub-blocks, then V. Nothing beyond the last. */
    OCT_MEMBER void issue(const oct_attn_params &p, unsigned char *room, uint32_t i, int start) {
        if (i < 2 * n_subs) {
            const bool v = i >= n_subs;
            const uint32_t s = sub0 + (v ? i - n_subs : i);
            attn_copy_sub<T, PAD>(p, room + i % STAGES * SUB_BYTES, attn_shfl(sub_at, s), v,
                                  kv_len - start - 32 * static_cast<int>(s));
        }
        oct_cp_commit();
    }

    OCT_MEMBER void prefetch(const oct_attn_params &p, const attn_tile &t, uint32_t start,
                             unsigned char *room) {
        const uint32_t lane = threadIdx.x % 32;
        const uint32_t lo = static_cast<uint32_t>(t.seen.lo), hi = static_cast<uint32_t>(t.seen.hi);
        const uint32_t from = lo > start ? lo : start;
        const uint32_t to = hi < start + OCT_ATTN_SPAN ? hi : start + OCT_ATTN_SPAN;
        sub0 = n_subs = 0;
        kv_len = t.kv_len;
        if (from >= to) return;
        sub0 = (from - start) / OCT_ATTN_SUB;
        n_subs = (to - 1 - start) / OCT_ATTN_SUB + 1 - sub0;
        sub_at = 0;
        if (lane >= sub0 && lane < sub0 + n_subs) {
            const uint32_t token = start + lane * OCT_ATTN_SUB;
            const int block = p.seq_tiles ? t.block : T::ROWS ? 0 : attn_block_of(p, t.seq, token);
            sub_at = attn_source<T>(p, t, block, token);
        }
#pragma unroll
        for (int i = 0; i < STAGES; i++) issue(p, room, i, static_cast<int>(start));
    }

    OCT_MEMBER void begin(const oct_attn_params &p, const attn_tile &t, unsigned char *) {
        const uint32_t v = threadIdx.x % 32 / 4;
        const bool there = v < t.n_vec;
        const uint32_t row = there ? v / t.n_heads : 0;
        const uint32_t head = t.head0 + (there ? v - row * t.n_heads : 0);
        seen = {0, 0};
        if (there) seen = attn_row_range(p, t, row);
        warp = attn_warp_sees(p, t, 0, t.n_vec - 1);
        factor = attn_query<T, PAD>(p, t.kv_head, there, t.row0 + row, head, q[0]);
    }

    OCT_MEMBER void run(const oct_attn_params &p, const attn_tile &, uint32_t start,
                        unsigned char *room, attn_part *parts) {
        const uint32_t lane = threadIdx.x % 32, v = lane / 4, quad = lane % 4;
        const int first = static_cast<int>(start), end = first + static_cast<int>(OCT_ATTN_SPAN);
        attn_part part = {0.0f, 0.0f, 1.0f};
        if (n_subs > 0) {
            float s[32] = {0.0f}, o[PAD / 8][4];
            uint32_t w[1][T::P][16], i = 0, strange = 0, any = 0;
            const uint32_t visible[1] = {attn_seen_bits(seen, first)};
            /* Sub-blocks pass through the same registers: a quarter of the instructions. */
#pragma unroll 1
            for (uint32_t sub = 0; sub < 4; sub++) {
                float c[4][4] = {{0.0f}};
                if (sub >= sub0 && sub < sub0 + n_subs) {
                    oct_cp_wait<STAGES - 1>();
                    __syncwarp();
                    attn_scores<T, PAD, 1>(room + i % STAGES * SUB_BYTES, p.kv.head_dim, q, c);
                    __syncwarp();
                    issue(p, room, i + STAGES, first);
                    i++;
                }
#pragma unroll
                for (int k = 0; k < 24; k++) s[k] = s[k + 8];
#pragma unroll
                for (int k = 0; k < 8; k++) s[24 + k] = c[k / 2][k % 2];
            }
            part = attn_weights_half<T>(p, s, visible[0], factor, w[0]);
            if (seen.lo >= end || seen.hi <= first || seen.lo >= seen.hi) part.l = 0.0f;
#pragma unroll
            for (int n = 0; n < PAD / 8; n++)
                for (int k = 0; k < 4; k++) o[n][k] = 0.0f;
#pragma unroll 1
            for (uint32_t sub = 0; sub < 4; sub++) {
                if (sub >= sub0 && sub < sub0 + n_subs) {
                    unsigned char *const stage = room + i % STAGES * SUB_BYTES;
                    oct_cp_wait<STAGES - 1>();
                    __syncwarp();
                    if (warp.edge(first + 32 * static_cast<int>(sub), 32)) {
                        const uint32_t found = attn_take_strange<T, PAD>(stage);
                        if (lane == sub) strange = found;
                        any |= found;
                        __syncwarp();
                    }
#pragma unroll
                    for (int n = 0; n < PAD / 8; n++) attn_values<T, PAD, 1>(stage, 0, n, w, o[n]);
                    __syncwarp();
                    issue(p, room, i + STAGES, first);
                    i++;
                }
                attn_turn<T>(w[0]);
            }
            if (any) {
                const float one[1] = {1.0f};
                attn_strange<T, PAD, 1>(p, sub_at, strange, visible, w, one, o);
            }
            float *to = reinterpret_cast<float *>(room) + v * ROOM_STRIDE + 2 * quad;
#pragma unroll
            for (int n = 0; n < PAD / 8; n++)
                *reinterpret_cast<float2 *>(to + 8 * n) = make_float2(o[n][0], o[n][1]);
        }
        if (quad == 0) parts[v] = part;
    }
};

#endif
