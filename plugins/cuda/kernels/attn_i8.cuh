/*
 * kernels/attn_i8.cuh - attention over int8 caches: the span of up to 8 queries by one warp.
 *
 * A query is two int8 parts, q = 256 high + low; rows 0 .. 7 of the matrix product hold the high
 * parts of 8 queries, rows 8 .. 15 the low ones, so a lane gets both sums of a score. A probability
 * is two uint8 parts in the same places. All sums are exact integers, so a tile of another shape
 * (attn_prompt.cu) gets the same bits.
 */
#ifndef OCT_CUDA_ATTN_I8_CUH
#define OCT_CUDA_ATTN_I8_CUH

#include "attn_tile.cuh"

/* ---- queries --------------------------------------------------------------------------------- */

/* Channels 16 j + 4 (lane % 4) .. + 3, j < PAD / 16, of the query of this lane (lane / 4), as parts
 * in the places of matrix fragments. Returns the factor of its scores; NaN: the row is lost. */
template <int PAD>
OCT_DEVICE float attn_query_parts(const oct_attn_params &p, uint32_t kv_head, bool there,
                                  uint64_t row, uint32_t head, bool channel, uint32_t *high,
                                  uint32_t *low) {
    const uint32_t quad = threadIdx.x % 4, dim = p.kv.head_dim;
    const uint16_t *from = oct_ptr<const uint16_t>(p.q.data) + row * p.q.stride + head * dim;
    const float *scales = oct_ptr<const float>(p.kv.k_scale) + kv_head * dim;
    uint2 raw[PAD / 16];
    float x[PAD / 16][4];
    uint32_t most = 0;
    /* All is asked for before any of it is waited for. */
#pragma unroll
    for (int j = 0; j < PAD / 16; j++) {
        const uint32_t d = 16 * j + 4 * quad;
        raw[j] = make_uint2(0, 0);
        if (!there || d >= dim) continue;
        if (p.q.vec) {
            raw[j] = *reinterpret_cast<const uint2 *>(from + d);
        } else {
            raw[j].x = from[d] | static_cast<uint32_t>(from[d + 1]) << 16;
            raw[j].y = from[d + 2] | static_cast<uint32_t>(from[d + 3]) << 16;
        }
    }
    if (channel) {
#pragma unroll
        for (int j = 0; j < PAD / 16; j++) {
            const uint32_t d = 16 * j + 4 * quad;
#pragma unroll
            for (int i = 0; i < 4; i++) x[j][i] = there && d < dim ? scales[d + i] : 0.0f;
        }
    }
#pragma unroll
    for (int j = 0; j < PAD / 16; j++) {
        const float q[4] = {oct_bf16_low(raw[j].x), oct_bf16_high(raw[j].x), oct_bf16_low(raw[j].y),
                            oct_bf16_high(raw[j].y)};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[j][i] = channel ? q[i] * x[j][i] : q[i];
            most = max(most, oct_abs_bits(x[j][i]));
        }
    }
    most = attn_max_over<2>(most);
    const bool zero = most < 0x0d800000u, lost = most >= 0x7f800000u; /* 2^-100; infinity */
    const float a = oct_float(most), inv = zero || lost ? 0.0f : ATTN_Q16_MAX / a;
#pragma unroll
    for (int j = 0; j < PAD / 16; j++) {
        int32_t q[4], h[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            q[i] = zero || lost ? 0 : static_cast<int32_t>(rintf(x[j][i] * inv));
            h[i] = (q[i] + 128) >> 8;
        }
        high[j] = oct_pack4(h[0], h[1], h[2], h[3]);
        low[j] = oct_pack4(q[0], q[1], q[2], q[3]); /* q - 256 h: the low bytes */
    }
    const float factor = lost ? oct_nan() : (zero ? 0.0f : a / ATTN_Q16_MAX) * p.scale;
    return attn_finite(factor) ? factor : oct_nan();
}

/* Of 4 weights in the low halves of x the high bytes, and the low ones. */
OCT_DEVICE void attn_weight_parts(const uint32_t *x, uint32_t *high, uint32_t *low) {
    const uint32_t a = __byte_perm(x[0], x[1], 0x5410), b = __byte_perm(x[2], x[3], 0x5410);
    *high = __byte_perm(a, b, 0x7531);
    *low = __byte_perm(a, b, 0x6420);
}

/* ---- scores to weights ------------------------------------------------------------------------
 */

/* attn_exp but for what is below the clamp: of weights of 16 bits it is 0 as well. */
OCT_DEVICE float attn_exp_whole(float x) {
    x = fmaxf(x, -64.0f);
    const float t = fmaf(x, 0x1.715476p+0f, 0x1.8p+23f);
    const float n = t - 0x1.8p+23f;
    const float r = fmaf(n, -0x1.7f7d1cp-20f, fmaf(n, -0x1.62e4p-1f, x));
    float q = 0x1.6a2444p-10f;
    q = fmaf(q, r, 0x1.1239d8p-7f);
    q = fmaf(q, r, 0x1.5558f2p-5f);
    q = fmaf(q, r, 0x1.555492p-3f);
    q = fmaf(q, r, 0x1.fffffcp-2f);
    const float p = fmaf(q, r * r, r) + 1.0f;
    return oct_float(oct_bits(p) + (oct_bits(t) << 23));
}

/* e * ATTN_P16_ONE rounded to a whole number, in the low 16 bits; those above are ATTN_WHOLE's. */
#define ATTN_WHOLE 0x4b000000u
OCT_DEVICE uint32_t attn_whole(float e, float one) { return oct_bits(fmaf(e, one, 0x1p23f)); }

/*
 * Of one query, what a lane holds of a span: N tokens, s their sums of products, 4 lanes together.
 * Leaves whole weights in the low 16 bits of x, 0 where a token is not visible (bit i of visible),
 * and the numbers of the span. ks, vs: the tokens' scales, or not used.
 */
template <int N, bool TOKEN>
OCT_DEVICE attn_part attn_weights(const oct_attn_params &p, float *s, uint32_t visible,
                                  float factor, const float *ks, const float *vs, uint32_t *x) {
    attn_part part = {-INFINITY, 0.0f, 1.0f};
    uint32_t strange = 0; /* tokens whose scales are no numbers */
#pragma unroll
    for (int i = 0; i < N; i++) {
        s[i] = s[i] * factor;
        if (!TOKEN) continue;
        s[i] = s[i] * ks[i];
        strange |= (attn_finite(ks[i]) && attn_finite(vs[i]) ? 0u : 1u) << i;
    }
    if (p.softcap != 0.0f) {
#pragma unroll
        for (int i = 0; i < N; i++) s[i] = oct_softcapped(s[i], p.softcap, p.inv_cap);
    }
    if (visible != ~0u) {
#pragma unroll
        for (int i = 0; i < N; i++)
            if (!(visible >> i & 1)) s[i] = -INFINITY;
    }
#pragma unroll
    for (int i = 0; i < N; i++) part.m = fmaxf(part.m, s[i]);
    part.m = attn_max_over<2>(part.m);
    uint32_t sum = 0, bad = !attn_finite(part.m) || !attn_finite(factor);
    if (TOKEN) bad = attn_max_over<2>(bad | ((strange & visible) != 0 ? 1u : 0u));
    const float m = bad ? 0.0f : part.m + 0.0f;
    float most = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float e = attn_exp(s[i] - m);
        x[i] = attn_whole(e, ATTN_P16_ONE);
        sum += x[i];
        if (!TOKEN) continue;
        s[i] = e > 0.0f ? e * vs[i] : 0.0f;
        most = fmaxf(most, s[i]);
    }
    sum = attn_sum_over<2>(sum - N * ATTN_WHOLE);
    part.l = static_cast<float>(sum);
    if (TOKEN) {
        most = attn_max_over<2>(most);
        const bool small = bad || oct_bits(most) < 0x0d800000u;
        const float inv = small ? 0.0f : ATTN_P16_ONE / most;
        part.w = small ? 0.0f : most;
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = attn_whole(small ? 0.0f : s[i], inv);
    }
    if (bad) part = {oct_nan(), oct_nan(), 1.0f};
    return part;
}

/* ---- a span ---------------------------------------------------------------------------------- */

template <int PAD_, bool TOKEN> struct attn_span_i8 {
    enum {
        PAD = PAD_,
        SUB_BYTES = 32 * PAD, /* of K, and of V */
        STAGES = PAD <= 128 ? 4 : 2,
        SPAN_BYTES = STAGES * SUB_BYTES,
        ROOM_STRIDE = PAD + 8
    };
    static_assert(SPAN_BYTES >= 8 * ROOM_STRIDE * 4, "results take the place of the ring");
    static_assert(ATTN_WARPS * SPAN_BYTES == OCT_ATTN_I8_SHARED(PAD), "what the host gives");

    uint32_t high[PAD / 16], low[PAD / 16];
    float factor;
    attn_range seen; /* of this lane's query */
    bool there;
    uint32_t sub0, n_subs; /* of the span that the tile sees */
    uint64_t sub_at;       /* lane s: address of sub-block s */

    /* Copy number i of the span: K of its sub-blocks, then V. Nothing beyond the last. */
    OCT_MEMBER void issue(unsigned char *room, uint32_t i) {
        if (i < 2 * n_subs) {
            const bool v = i >= n_subs;
            const uint32_t s = sub0 + (v ? i - n_subs : i), lane = threadIdx.x % 32;
            const uint8_t *from =
                oct_ptr<const uint8_t>(attn_shfl(sub_at, s)) + (v ? SUB_BYTES : 0) + 16 * lane;
            const oct_smem to = oct_smem_at(room + i % STAGES * SUB_BYTES + 16 * lane);
#pragma unroll
            for (int k = 0; k < SUB_BYTES; k += 512) oct_cp_async16(to + k, from + k);
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
        if (from >= to) return;
        sub0 = (from - start) / OCT_ATTN_SUB;
        n_subs = (to - 1 - start) / OCT_ATTN_SUB + 1 - sub0;
        sub_at = 0;
        if (lane >= sub0 && lane < sub0 + n_subs) {
            const uint32_t token = start + lane * OCT_ATTN_SUB;
            const int block = p.seq_tiles ? t.block : attn_block_of(p, t.seq, token);
            sub_at = reinterpret_cast<uint64_t>(attn_sub_of(p, block, t.kv_head, token));
        }
#pragma unroll
        for (int i = 0; i < STAGES; i++) issue(room, i);
    }

    OCT_MEMBER void begin(const oct_attn_params &p, const attn_tile &t, unsigned char *) {
        const uint32_t v = threadIdx.x % 32 / 4;
        const uint32_t row = v / t.n_heads, head = t.head0 + v - row * t.n_heads;
        there = v < t.n_vec;
        seen = {0, 0};
        if (there) seen = attn_row_range(p, t, row);
        factor = attn_query_parts<PAD>(p, t.kv_head, there, t.row0 + row, head, !TOKEN, high, low);
    }

    OCT_MEMBER void scores(const unsigned char *stage, float *s) {
        const oct_smem at = oct_smem_at(stage + threadIdx.x % 32 * 16);
#pragma unroll
        for (int n = 0; n < 4; n++) {
            int32_t c[4] = {0, 0, 0, 0};
#pragma unroll
            for (int k = 0; k < PAD / 16; k += 4) {
                uint32_t b[4];
                oct_ldmatrix4(b, at + (n * (PAD / 16) + k) * 128);
#pragma unroll
                for (int i = 0; i < 4; i += 2) {
                    const uint32_t a[4] = {high[k + i], low[k + i], high[k + i + 1],
                                           low[k + i + 1]};
                    oct_mma_s8(c, a, b + i);
                }
            }
            s[2 * n] = static_cast<float>(256 * c[0] + c[2]);
            s[2 * n + 1] = static_cast<float>(256 * c[1] + c[3]);
        }
    }

    OCT_MEMBER void values(const unsigned char *stage, const uint32_t *x, int32_t (*o)[4]) {
        const oct_smem at = oct_smem_at(stage + threadIdx.x % 32 * 16);
        uint32_t a[4];
        attn_weight_parts(x, a, a + 1);
        attn_weight_parts(x + 4, a + 2, a + 3);
#pragma unroll
        for (int n = 0; n < PAD / 8; n += 2) {
            uint32_t b[4];
            oct_ldmatrix4(b, at + n * 256);
            oct_mma_u8s8(o[n], a, b);
            oct_mma_u8s8(o[n + 1], a, b + 2);
        }
    }

    OCT_MEMBER void run(const oct_attn_params &p, const attn_tile &, uint32_t start,
                        unsigned char *room, attn_part *parts) {
        const uint32_t lane = threadIdx.x % 32, v = lane / 4, quad = lane % 4;
        attn_part part = {0.0f, 0.0f, 1.0f};
        if (n_subs > 0) {
            float s[32], ks[TOKEN ? 32 : 1], vs[TOKEN ? 32 : 1];
            uint32_t x[32], i = 0, visible = 0;
            int32_t o[PAD / 8][4];
#pragma unroll
            for (uint32_t sub = 0; sub < 4; sub++) {
#pragma unroll
                for (int k = 0; k < 8; k++) {
                    const int t = static_cast<int>(start + 32 * sub + k / 2 * 8 + 2 * quad + k % 2);
                    visible |= (t >= seen.lo && t < seen.hi ? 1u : 0u) << (8 * sub + k);
                    s[8 * sub + k] = 0.0f;
                    if (TOKEN) ks[8 * sub + k] = vs[8 * sub + k] = 0.0f;
                }
                const uint64_t at = attn_shfl(sub_at, sub);
                if (sub < sub0 || sub >= sub0 + n_subs) continue;
                if (TOKEN) {
                    const float *scale = oct_ptr<const float>(at + 2 * SUB_BYTES) + 2 * quad;
#pragma unroll
                    for (int k = 0; k < 8; k++) {
                        ks[8 * sub + k] = scale[k / 2 * 8 + k % 2];
                        vs[8 * sub + k] = scale[32 + k / 2 * 8 + k % 2];
                    }
                }
                oct_cp_wait<STAGES - 1>();
                __syncwarp();
                scores(room + i % STAGES * SUB_BYTES, s + 8 * sub);
                __syncwarp();
                issue(room, i + STAGES);
                i++;
            }
            part = attn_weights<32, TOKEN>(p, s, visible, factor, ks, vs, x);
            if (seen.lo >= static_cast<int>(start + OCT_ATTN_SPAN) ||
                seen.hi <= static_cast<int>(start) || seen.lo >= seen.hi)
                part.l = 0.0f;
#pragma unroll
            for (int n = 0; n < PAD / 8; n++)
                for (int k = 0; k < 4; k++) o[n][k] = 0;
#pragma unroll
            for (uint32_t sub = 0; sub < 4; sub++) {
                if (sub < sub0 || sub >= sub0 + n_subs) continue;
                oct_cp_wait<STAGES - 1>();
                __syncwarp();
                values(room + i % STAGES * SUB_BYTES, x + 8 * sub, o);
                __syncwarp();
                issue(room, i + STAGES);
                i++;
            }
            float *to = reinterpret_cast<float *>(room) + v * ROOM_STRIDE + 2 * quad;
#pragma unroll
            for (int n = 0; n < PAD / 8; n++)
                *reinterpret_cast<float2 *>(to + 8 * n) =
                    make_float2(static_cast<float>(256 * o[n][0] + o[n][2]),
                                static_cast<float>(256 * o[n][1] + o[n][3]));
        }
        if (quad == 0) parts[v] = part;
    }
};

#endif
