/*
 * kernels/attn_float.cuh - attention over float32 caches (docs/numerics.md, section 10): the span
 * of up to 8 queries by one warp, with fmaf alone. No tensor core takes float32 as it is.
 *
 * Scores: a lane has a token of each sub-block and runs along the channels. Values: a lane has a
 * channel of each 32 and runs along the tokens. Weights of tokens that a query does not see are -1
 * and are not multiplied: what lies there may be no number.
 */
#ifndef OCT_CUDA_ATTN_FLOAT_CUH
#define OCT_CUDA_ATTN_FLOAT_CUH

#include "attn_tile.cuh"

/* ---- where K and V come from ------------------------------------------------------------------
 */

/* A cache: sub-blocks of cells (attn.h). */
template <int PAD> struct attn_from_cache {
    enum { E = 4 };    /* elements of 16 bytes */
    const uint8_t *at; /* of the sub-block */

    OCT_MEMBER void open(const oct_attn_params &p, const attn_tile &t, uint32_t token) {
        at = attn_sub(p, t.seq, t.kv_head, token);
    }
    /* Channels 4 c .. of token `lane`. */
    OCT_MEMBER float4 keys(uint32_t c) const {
        const uint32_t lane = threadIdx.x % 32;
        return *reinterpret_cast<const float4 *>(at + (lane / 8 * (PAD / E) + c) * 128 +
                                                 lane % 8 * 16);
    }
    /* Tokens 4 u .. of channel d. */
    OCT_MEMBER float4 values(uint32_t u, uint32_t d) const {
        return *reinterpret_cast<const float4 *>(at + 32 * PAD * 4 + (d / 8 * (32 / E) + u) * 128 +
                                                 d % 8 * 16);
    }
    OCT_MEMBER float value(uint32_t token, uint32_t d) const {
        return *reinterpret_cast<const float *>(
            at + 32 * PAD * 4 + (d / 8 * (32 / E) + token / E) * 128 + d % 8 * 16 + token % E * 4);
    }
};

/* ---- a span ---------------------------------------------------------------------------------- */

template <int PAD_> struct attn_span_float {
    typedef attn_from_cache<PAD_> FROM;
    enum { PAD = PAD_, E = FROM::E, ROOM_STRIDE = PAD + 8, SPAN_BYTES = OCT_ATTN_FLOAT_ROOM(PAD) };
    static_assert(SPAN_BYTES >= 8 * OCT_ATTN_SPAN * 4 && SPAN_BYTES >= 8 * ROOM_STRIDE * 4,
                  "weights, then results");

    const float *queries; /* [8][PAD], of the block */

    OCT_MEMBER void prefetch(const oct_attn_params &, const attn_tile &, uint32_t,
                             unsigned char *) {}

    OCT_MEMBER void begin(const oct_attn_params &p, const attn_tile &t, unsigned char *all) {
        float *const q = reinterpret_cast<float *>(all + ATTN_WARPS * SPAN_BYTES);
        const uint32_t dim = p.kv.head_dim;
        for (uint32_t i = threadIdx.x; i < 8 * PAD / 4; i += blockDim.x) {
            const uint32_t v = i / (PAD / 4), d = i % (PAD / 4) * 4;
            float x[4] = {0, 0, 0, 0};
            if (v < t.n_vec && d < dim) {
                const uint32_t row = v / t.n_heads, head = t.head0 + v - row * t.n_heads;
                attn_load4(p.q, t.row0 + row, head * dim + d, x);
            }
            *reinterpret_cast<float4 *>(q + 4 * i) = make_float4(x[0], x[1], x[2], x[3]);
        }
        queries = q;
        __syncthreads();
    }

    /* Products of the 8 queries with token `lane` of a sub-block. */
    OCT_MEMBER void scores(const FROM &from, uint32_t dim, float s[8]) {
#pragma unroll
        for (int v = 0; v < 8; v++) s[v] = 0.0f;
        for (uint32_t c = 0; c < dim / E; c++) {
            const float4 k = from.keys(c);
#pragma unroll
            for (int v = 0; v < 8; v++) {
                const float4 q = *reinterpret_cast<const float4 *>(queries + v * PAD + c * E);
                s[v] = fmaf(q.x, k.x, s[v]);
                s[v] = fmaf(q.y, k.y, s[v]);
                s[v] = fmaf(q.z, k.z, s[v]);
                s[v] = fmaf(q.w, k.w, s[v]);
            }
        }
    }

    /* Adds a sub-block that every query sees all of: w [8][SPAN] its weights by place. */
    OCT_MEMBER void values(const FROM &from, uint32_t dim, const float *w,
                           float (&o)[8][PAD / 32]) {
        const uint32_t lane = threadIdx.x % 32;
#pragma unroll 1
        for (uint32_t u = 0; u < 32 / E; u++) {
#pragma unroll
            for (int j = 0; j < PAD / 32; j++) {
                const uint32_t d = lane + 32 * j;
                if (d >= dim) continue;
                const float4 x = from.values(u, d);
#pragma unroll
                for (int v = 0; v < 8; v++) {
                    const float4 p =
                        *reinterpret_cast<const float4 *>(w + v * OCT_ATTN_SPAN + u * E);
                    o[v][j] = fmaf(p.x, x.x, o[v][j]);
                    o[v][j] = fmaf(p.y, x.y, o[v][j]);
                    o[v][j] = fmaf(p.z, x.z, o[v][j]);
                    o[v][j] = fmaf(p.w, x.w, o[v][j]);
                }
            }
        }
    }

    /* The same where some query does not see all of it, token by token: in the order of places. */
    OCT_MEMBER void values_of_some(const FROM &from, uint32_t dim, const float *w,
                                   float (&o)[8][PAD / 32]) {
        const uint32_t lane = threadIdx.x % 32;
#pragma unroll 1
        for (uint32_t place = 0; place < 32; place++)
#pragma unroll
            for (int j = 0; j < PAD / 32; j++) {
                const uint32_t d = lane + 32 * j;
                if (d >= dim) continue;
                const float x = from.value(place, d);
#pragma unroll
                for (int v = 0; v < 8; v++) {
                    const float p = w[v * OCT_ATTN_SPAN + place];
                    if (!(p < 0.0f)) o[v][j] = fmaf(p, x, o[v][j]);
                }
            }
    }

    OCT_MEMBER void run(const oct_attn_params &p, const attn_tile &t, uint32_t start,
                        unsigned char *room, attn_part *parts) {
        const uint32_t lane = threadIdx.x % 32, dim = p.kv.head_dim;
        const int first = static_cast<int>(start), end = first + static_cast<int>(OCT_ATTN_SPAN);
        float *const w = reinterpret_cast<float *>(room);
        float s[4][8], o[8][PAD / 32];
        uint32_t every = 0; /* bit s: all queries see all of sub-block s; 4 + s: some see some */
        FROM from;
#pragma unroll
        for (int sub = 0; sub < 4; sub++) {
            const int token = first + 32 * sub;
#pragma unroll
            for (int v = 0; v < 8; v++) s[sub][v] = 0.0f;
            if (token >= t.seen.hi || token + 32 <= t.seen.lo) continue;
            every |= 17u << sub;
            from.open(p, t, token);
            scores(from, dim, s[sub]);
        }
#pragma unroll
        for (int v = 0; v < 8; v++) {
            attn_part part = {-INFINITY, 0.0f, 1.0f};
            attn_range seen = {0, 0};
            if (v < static_cast<int>(t.n_vec)) seen = attn_row_range(p, t, v / t.n_heads);
#pragma unroll
            for (int sub = 0; sub < 4; sub++) {
                const int token = first + 32 * sub + static_cast<int>(lane);
                s[sub][v] = attn_score(p, s[sub][v] * p.scale);
                if (token >= seen.lo && token < seen.hi) part.m = fmaxf(part.m, s[sub][v]);
                if (v < static_cast<int>(t.n_vec) &&
                    (seen.lo > first + 32 * sub || seen.hi < first + 32 * sub + 32))
                    every &= ~(1u << sub);
            }
            const bool none = seen.lo >= seen.hi || seen.lo >= end || seen.hi <= first;
            bool bad = false;
#pragma unroll
            for (int sub = 0; sub < 4; sub++) {
                const int token = first + 32 * sub + static_cast<int>(lane);
                bad |= token >= seen.lo && token < seen.hi && s[sub][v] != s[sub][v];
            }
            part.m = attn_max_over<5>(part.m);
            bad = __any_sync(~0u, bad) || !attn_finite(part.m);
            float sum = 0.0f;
#pragma unroll
            for (int sub = 0; sub < 4; sub++) {
                const int token = first + 32 * sub + static_cast<int>(lane);
                const uint32_t place = 32 * sub + lane;
                float e = -1.0f;
                if (token >= seen.lo && token < seen.hi) {
                    e = bad ? 0.0f : oct_exp(s[sub][v] - part.m);
                    sum += e;
                }
                w[v * OCT_ATTN_SPAN + place] = e;
            }
            sum = attn_sum_over<5>(sum);
            part.l = none ? 0.0f : bad ? oct_nan() : sum;
            if (bad) part.m = oct_nan();
            if (lane == 0) parts[v] = part;
        }
        __syncwarp();
#pragma unroll
        for (int v = 0; v < 8; v++)
#pragma unroll
            for (int j = 0; j < PAD / 32; j++) o[v][j] = 0.0f;
        for (int sub = 0; sub < 4; sub++) {
            if (!(every >> (4 + sub) & 1)) continue;
            from.open(p, t, start + 32 * sub);
            if (every >> sub & 1)
                values(from, dim, w + 32 * sub, o);
            else
                values_of_some(from, dim, w + 32 * sub, o);
        }
        __syncwarp();
#pragma unroll
        for (int v = 0; v < 8; v++)
#pragma unroll
            for (int j = 0; j < PAD / 32; j++) w[v * ROOM_STRIDE + lane + 32 * j] = o[v][j];
    }
};

#endif
