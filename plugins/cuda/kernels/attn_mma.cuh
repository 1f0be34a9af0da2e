/*
 * kernels/attn_mma.cuh - attention over 16-bit and E4M3 caches and over the rows of this step
 * through products of halves or bfloat16 (docs/numerics.md, section 10): what the kernels for
 * decodes (attn_half.cuh) and prompts (attn_half_prompt.cuh) share.
 *
 * A warp has 16 queries at most, rows of the matrix product; a decode fills 8 of them. Operands:
 *
 *              keys, values    query                               probability
 *     bf16     as they are     as it is: rows are bf16             two parts: 17 bits
 *     f16      as they are     times a power of two: exact         times 2^15: 11 bits
 *     E4M3     as halves       q s_k times a power of two, two     times 2^15: 11 bits
 *                              parts: 22 bits
 *
 * So the largest error on the way is 2^-12 of a probability, an eighth of what rounding the result
 * to bf16 takes, and the sum of probabilities is that of the rounded ones.
 *
 * The order of sums follows from absolute places alone: a product takes 16 channels, or 16 tokens,
 * ascending, parts of one step one after the other, and which row of it a query has does not show.
 * A token that a query does not see has weight 0, and 0 changes no sum unless V is no number there:
 * where some query of the warp does not see all of a sub-block ("edge") what is no number is
 * taken out of V in shared memory and put back for those that see it (attn_strange).
 *
 * Code that seldom runs is kept short and out of the way: what a span needs must fit the cache of
 * instructions (unrolled soft caps and checks of V made prompts take 1.6 times as long).
 */
#ifndef OCT_CUDA_ATTN_MMA_CUH
#define OCT_CUDA_ATTN_MMA_CUH

#include "attn_tile.cuh"

/* ---- kinds ----------------------------------------------------------------------------------- */

/* BYTES of an element in the cache; Q, P parts of a query and a probability. The bits INFINITE are
 * set in what is no number, UNIT is the lowest of them. */
struct attn_bf16 {
    enum { BYTES = 2, Q = 1, P = 2, ROWS = 0, INFINITE = 0x7f80, UNIT = 0x0080 };
    OCT_DEVICE void mma(float *c, const uint32_t *a, const uint32_t *b) { oct_mma_bf16(c, a, b); }
    OCT_DEVICE float value(uint16_t h) { return oct_bf16_f32(h); }
    OCT_DEVICE float one() { return 1.0f; }
    OCT_DEVICE uint32_t pair(float low, float high) { return oct_f32_bf16x2(low, high); }
    OCT_DEVICE float low(uint32_t w) { return oct_bf16_low(w); }
    OCT_DEVICE float high(uint32_t w) { return oct_bf16_high(w); }
};

/* The bf16 rows of this step: token t of the sequence is its row t. */
struct attn_rows : attn_bf16 {
    enum { ROWS = 1 };
};

struct attn_f16 {
    enum { BYTES = 2, Q = 1, P = 1, ROWS = 0, INFINITE = 0x7c00, UNIT = 0x0400 };
    OCT_DEVICE void mma(float *c, const uint32_t *a, const uint32_t *b) { oct_mma_f16(c, a, b); }
    OCT_DEVICE float value(uint16_t h) { return oct_f16_f32(h); }
    OCT_DEVICE float one() { return 0x1p15f; }
    OCT_DEVICE uint32_t pair(float low, float high) { return oct_f32_f16x2(low, high); }
    OCT_DEVICE float low(uint32_t w) { return oct_f16_low(w); }
    OCT_DEVICE float high(uint32_t w) { return oct_f16_high(w); }
};

struct attn_e4m3 : attn_f16 {
    enum { BYTES = 1, Q = 2, P = 1, ROWS = 0 };
};

/* ---- queries --------------------------------------------------------------------------------- */

/* Channel i (of 4) that this lane has of 16: as fragments of K come. */
template <class T> OCT_DEVICE uint32_t attn_channel(uint32_t i) {
    const uint32_t quad = threadIdx.x % 4;
    return T::BYTES == 1 ? 4 * quad + i : 2 * quad + (i & 1) + 8 * (i >> 1);
}

OCT_DEVICE uint32_t attn_pair_at(const uint16_t *at, bool vec) {
    return vec ? *reinterpret_cast<const uint32_t *>(at)
               : at[0] | static_cast<uint32_t>(at[1]) << 16;
}

/* The query of this lane (lane / 4; row and head are of the tile also where it is not there) as
 * parts in the places of fragments. Returns the factor of its
 * scores; NaN: the row is lost. */
template <class T, int PAD>
OCT_DEVICE float attn_query(const oct_attn_params &p, uint32_t kv_head, bool there, uint64_t row,
                            uint32_t head, uint32_t (&q)[T::Q][PAD / 16][2]) {
    const uint32_t dim = p.kv.head_dim;
    const uint16_t *from = oct_ptr<const uint16_t>(p.q.data) + row * p.q.stride + head * dim;
    const float *scale = oct_ptr<const float>(p.kv.k_scale) + kv_head * dim;
    uint32_t pairs[PAD / 16][2], most = 0;
    float x[PAD / 16][4];
    /* Everything is asked for before anything is looked at; beyond the head its beginning. */
#pragma unroll
    for (int j = 0; j < PAD / 16; j++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint32_t d = (16u * j < dim ? 16 * j : 0) + attn_channel<T>(2 * i);
            pairs[j][i] = attn_pair_at(from + d, p.q.vec != 0);
            x[j][2 * i] = T::BYTES == 1 ? scale[d] : 1.0f;
            x[j][2 * i + 1] = T::BYTES == 1 ? scale[d + 1] : 1.0f;
        }
#pragma unroll
    for (int j = 0; j < PAD / 16; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t w = there && 16u * j < dim ? pairs[j][i / 2] : 0;
            const float v = i % 2 ? oct_bf16_high(w) : oct_bf16_low(w);
            x[j][i] = T::BYTES == 1 ? v * x[j][i] : v;
            most = max(most, oct_abs_bits(x[j][i]));
        }
    if (T::P == 2) { /* bf16: nothing to do */
#pragma unroll
        for (int j = 0; j < PAD / 16; j++)
#pragma unroll
            for (int i = 0; i < 2; i++) q[0][j][i] = T::pair(x[j][2 * i], x[j][2 * i + 1]);
        return p.scale;
    }
    most = attn_max_over<2>(most);
    const bool zero = most < 0x0d800000u, lost = most >= 0x7f800000u; /* 2^-100; infinity */
    /* The power of two that brings the largest to 2^14 .. 2^15. */
    const uint32_t e = zero || lost ? 127 : most >> 23;
    const float up = zero || lost ? 0.0f : oct_float((268 - e) << 23);
#pragma unroll
    for (int j = 0; j < PAD / 16; j++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float a = lost ? 0.0f : x[j][2 * i] * up, b = lost ? 0.0f : x[j][2 * i + 1] * up;
            q[0][j][i] = T::pair(a, b);
            if (T::Q == 2)
                q[T::Q - 1][j][i] = T::pair(a - T::low(q[0][j][i]), b - T::high(q[0][j][i]));
        }
    return lost ? oct_nan() : oct_float((e - 14) << 23) * p.scale;
}

/* ---- what a warp sees ------------------------------------------------------------------------ */

struct attn_warp_range {
    attn_range any, all; /* what some row sees, and what each of them does */
    OCT_MEMBER bool sees(int token) const { return token < any.hi && token + 32 > any.lo; }
    OCT_MEMBER bool edge(int token, int n) const { return all.lo > token || all.hi < token + n; }
};

/* Of queries first .. last of a tile: rows ascend, and so does what they see. */
OCT_DEVICE attn_warp_range attn_warp_sees(const oct_attn_params &p, const attn_tile &t,
                                          uint32_t first, uint32_t last) {
    const attn_range a = attn_row_range(p, t, first / t.n_heads);
    const attn_range b = attn_row_range(p, t, last / t.n_heads);
    return {{a.lo, b.hi}, {b.lo, a.hi}};
}

/* Of the 32 tokens that this lane has of a span, ascending: those before `token`. */
OCT_DEVICE uint32_t attn_bits_before(int token, int start) {
    const int y = token - start - static_cast<int>(threadIdx.x % 4) * 2;
    if (y <= 0) return 0;
    const int n = y / 8 * 2 + (y % 8 < 2 ? y % 8 : 2);
    return n >= 32 ? ~0u : (1u << n) - 1;
}

/* Bit k: this lane's token number k, start + k / 2 * 8 + 2 (lane % 4) + k % 2, is seen. */
OCT_DEVICE uint32_t attn_seen_bits(const attn_range &seen, int start) {
    return attn_bits_before(seen.hi, start) & ~attn_bits_before(seen.lo, start);
}

/* ---- scores ---------------------------------------------------------------------------------- */

/* A fragment of 16 queries: those of row 1 are absent where R is 1. */
template <int R, class Q>
OCT_DEVICE void attn_fragment(const Q &q, int part, int j, uint32_t (&a)[4]) {
    a[0] = q[0][part][j][0], a[2] = q[0][part][j][1];
    a[1] = R == 2 ? q[R - 1][part][j][0] : 0, a[3] = R == 2 ? q[R - 1][part][j][1] : 0;
}

/* c[n]: products with tokens 8 n .. of the sub-block whose K is at k. */
template <class T, int PAD, int R>
OCT_DEVICE void attn_scores(const unsigned char *k, uint32_t dim,
                            const uint32_t (&q)[R][T::Q][PAD / 16][2], float (&c)[4][4]) {
    enum { CELLS = PAD * T::BYTES / 16, STEPS = T::BYTES == 1 ? 4 : 2 }; /* of 16 in 4 cells */
    const oct_smem at = oct_smem_at(k + threadIdx.x % 32 * 16);
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) c[n][i] = 0.0f;
#pragma unroll
    for (int cell = 0; cell < CELLS; cell += 4) {
        const int j0 = cell / 4 * STEPS;
        if (16u * j0 >= dim) break;
#pragma unroll
        for (int n = 0; n < 4; n++) {
            uint32_t r[4];
            oct_ldmatrix4(r, at + (n * CELLS + cell) * 128);
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
                uint32_t b[2];
                /* Beyond the head K may be anything. */
                if (16u * (j0 + s) >= dim) break;
                b[0] = T::BYTES == 1 ? oct_e4m3x2_f16x2(r[s]) : r[2 * s % 4];
                b[1] = T::BYTES == 1 ? oct_e4m3x2_f16x2(r[s] >> 16) : r[2 * s % 4 + 1];
#pragma unroll
                for (int part = 0; part < T::Q; part++) {
                    uint32_t a[4];
                    attn_fragment<R>(q, part, j0 + s, a);
                    T::mma(c[n], a, b);
                }
            }
        }
    }
}

/*
 * Of one query, what a lane holds of a span: 32 tokens, s their sums of products. Leaves weights in
 * the places of fragments, w[part][n] tokens 8 n + 2 (lane % 4), + 1, and the numbers of the span.
 * Of a row that is lost w means nothing.
 */
template <class T>
OCT_DEVICE attn_part attn_weights_half(const oct_attn_params &p, float (&s)[32], uint32_t visible,
                                       float factor, uint32_t (&w)[T::P][16]) {
    attn_part part = {-INFINITY, 0.0f, 1.0f};
#pragma unroll
    for (int i = 0; i < 32; i++) s[i] = s[i] * factor;
    if (p.softcap != 0.0f) { /* in a ring of registers */
#pragma unroll 1
        for (int k = 0; k < 8; k++) {
            float x[4];
#pragma unroll
            for (int i = 0; i < 4; i++) x[i] = oct_softcapped(s[i], p.softcap, p.inv_cap);
#pragma unroll
            for (int i = 0; i < 28; i++) s[i] = s[i + 4];
#pragma unroll
            for (int i = 0; i < 4; i++) s[28 + i] = x[i];
        }
    }
    if (visible != ~0u) {
#pragma unroll
        for (int i = 0; i < 32; i++)
            if (!(visible >> i & 1)) s[i] = -INFINITY;
    }
#pragma unroll
    for (int i = 0; i < 32; i++) part.m = oct_max_nan(part.m, s[i]);
    part.m = attn_max_or_nan<2>(part.m);
    const bool bad = !attn_finite(part.m);
    const float m = bad ? 0.0f : part.m + 0.0f;
    float sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < 16; n++) {
        const float a = attn_exp(s[2 * n] - m) * T::one(),
                    b = attn_exp(s[2 * n + 1] - m) * T::one();
        w[0][n] = T::pair(a, b);
        if (T::P == 2) w[T::P - 1][n] = T::pair(a - T::low(w[0][n]), b - T::high(w[0][n]));
        sum[0] += T::P == 2 ? a : T::low(w[0][n]);
        sum[1] += T::P == 2 ? b : T::high(w[0][n]);
    }
    part.l = attn_sum_over<2>(sum[0] + sum[1]);
    if (bad) part = {oct_nan(), oct_nan(), 1.0f};
    return part;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Fragments of channels 8 n .. of the sub-block whose V is at v: b[i] the 16 tokens 16 i .. */
template <class T, int PAD>
OCT_DEVICE void attn_value_cells(const unsigned char *v, int n, uint32_t (&b)[2][2]) {
    const uint32_t lane = threadIdx.x % 32;
    uint32_t r[4];
    if (T::ROWS) /* cells [t / 8][d / 8] of tokens by channels */
        oct_ldmatrix4_trans(r, oct_smem_at(v + (lane / 8 * (PAD / 8) + n) * 128 + lane % 8 * 16));
    else if (T::BYTES == 2)
        oct_ldmatrix4(r, oct_smem_at(v + n * 512 + lane * 16));
    else
        oct_ldmatrix2(r, oct_smem_at(v + n * 256 + lane % 16 * 16));
#pragma unroll
    for (int i = 0; i < 2; i++) {
        b[i][0] = T::BYTES == 1 ? oct_e4m3x2_f16x2(r[i]) : r[2 * i];
        b[i][1] = T::BYTES == 1 ? oct_e4m3x2_f16x2(r[i] >> 16) : r[2 * i + 1];
    }
}

/* c += weights of sub-block `sub` of a span by channels 8 n .. of its V. */
template <class T, int PAD, int R>
OCT_DEVICE void attn_values(const unsigned char *v, int sub, int n,
                            const uint32_t (&w)[R][T::P][16], float *c) {
    uint32_t b[2][2];
    attn_value_cells<T, PAD>(v, n, b);
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int part = 0; part < T::P; part++) {
            const int k = 4 * sub + 2 * i;
            const uint32_t a[4] = {w[0][part][k], R == 2 ? w[R - 1][part][k] : 0, w[0][part][k + 1],
                                   R == 2 ? w[R - 1][part][k + 1] : 0};
            T::mma(c, a, b[i]);
        }
}

/* The weights of the next sub-block come first; after four turns all are where they were. */
template <class T> OCT_DEVICE void attn_turn(uint32_t (&w)[T::P][16]) {
#pragma unroll
    for (int part = 0; part < T::P; part++) {
        uint32_t x[4];
#pragma unroll
        for (int k = 0; k < 4; k++) x[k] = w[part][k];
#pragma unroll
        for (int k = 0; k < 12; k++) w[part][k] = w[part][k + 4];
#pragma unroll
        for (int k = 0; k < 4; k++) w[part][12 + k] = x[k];
    }
}

/* ---- where K and V come from ------------------------------------------------------------------
 */

/* Where the sub-block that begins with a token of the tile's sequence is: of a cache its memory, of
 * rows K of the token. */
template <class T>
OCT_DEVICE uint64_t attn_source(const oct_attn_params &p, const attn_tile &t, int block,
                                uint32_t token) {
    if (!T::ROWS) return reinterpret_cast<uint64_t>(attn_sub_of(p, block, t.kv_head, token));
    const uint64_t first = static_cast<uint32_t>(oct_ptr<const int32_t>(p.batch.seq_row)[t.seq]);
    return p.fresh.data +
           ((first + token) * p.fresh.stride + (p.n_heads + t.kv_head) * p.kv.head_dim) * 2;
}

/* 16 bytes of a row of which the first may stand at any even address. */
OCT_DEVICE void attn_copy_piece(unsigned char *to, const uint8_t *from, bool vec) {
    if (vec) {
        oct_cp_async16(oct_smem_at(to), from);
        return;
    }
    const uint16_t *h = reinterpret_cast<const uint16_t *>(from);
    uint32_t word[4];
    for (int i = 0; i < 4; i++) word[i] = h[2 * i] | static_cast<uint32_t>(h[2 * i + 1]) << 16;
    *reinterpret_cast<uint4 *>(to) = make_uint4(word[0], word[1], word[2], word[3]);
}

/* Copies K, or V, of the sub-block at `at` to shared memory, by a warp; rows: `n` tokens of it are
 * there. */
template <class T, int PAD>
OCT_DEVICE void attn_copy_sub(const oct_attn_params &p, unsigned char *to, uint64_t at, bool v,
                              int n) {
    enum { BYTES = 32 * PAD * T::BYTES };
    const uint32_t lane = threadIdx.x % 32;
    if (!T::ROWS) {
        const uint8_t *from = oct_ptr<const uint8_t>(at) + (v ? BYTES : 0) + 16 * lane;
        const oct_smem into = oct_smem_at(to + 16 * lane);
#pragma unroll
        for (int k = 0; k < BYTES; k += 512) oct_cp_async16(into + k, from + k);
        return;
    }
    const uint32_t dim = p.kv.head_dim;
    /* The last token again where there is none: nobody sees it. */
    for (uint32_t i = lane; i < 32 * (PAD / 8); i += 32) {
        const uint32_t token = i / (PAD / 8), piece = i % (PAD / 8);
        const uint64_t row = token < static_cast<uint32_t>(n) ? token : n - 1;
        if (8 * piece >= dim) continue;
        const uint64_t from =
            at + (row * p.fresh.stride + 8 * piece) * 2 + (v ? 2ull * p.kv.n_kv_heads * dim : 0);
        attn_copy_piece(to + (token / 8 * (PAD / 8) + piece) * 128 + token % 8 * 16,
                        oct_ptr<const uint8_t>(from), p.fresh.vec != 0);
    }
}

/* ---- what is no number ------------------------------------------------------------------------
 */

/* Puts 0 for what is no number in V of the sub-block at v in shared memory, by a warp. Returns, in
 * all lanes, which tokens had any. */
template <class T, int PAD> OCT_DEVICE uint32_t attn_take_strange(unsigned char *v) {
    enum { PIECES = PAD * T::BYTES * 2 };
    const uint32_t all = T::BYTES == 1 ? 0x7f7f7f7fu : T::INFINITE * 0x10001u;
    const uint32_t unit = T::BYTES == 1 ? 0x01010101u : T::UNIT * 0x10001u;
    const uint32_t sign = T::BYTES == 1 ? 0x80808080u : 0x80008000u;
    uint32_t strange = 0;
#pragma unroll 1
    for (uint32_t i = threadIdx.x % 32; i < PIECES; i += 32) {
        uint32_t *const at = reinterpret_cast<uint32_t *>(v + 16 * i);
#pragma unroll 1
        for (uint32_t k = 0; k < 4; k++) {
            const uint32_t w = at[k], bad = ((w & all) + unit) & sign;
            if (!bad) continue;
            at[k] = w & ~((bad >> (8 * T::BYTES - 1)) * (T::BYTES == 1 ? 0xffu : 0xffffu));
            for (uint32_t e = 0; e < 4 / T::BYTES; e++) {
                if (!(bad >> (8 * T::BYTES * (e + 1) - 1) & 1)) continue;
                const uint32_t in_row = 4 / T::BYTES * k + e; /* element of the piece */
                uint32_t token = i / 8 * 8 / PAD * 8 + i % 8; /* rows: cells [t / 8][d / 8] */
                if (!T::ROWS && T::BYTES == 2) token = i / 8 % 4 * 8 + in_row;
                if (T::BYTES == 1) token = oct_kv_token(i / 8 % 2 * 16 + in_row);
                strange |= 1u << token;
            }
        }
    }
    return __reduce_or_sync(~0u, strange);
}

/* V of one token and channel 8 c + e, where it lies in memory. */
template <class T, int PAD>
OCT_DEVICE float attn_value_at(const oct_attn_params &p, uint64_t at, uint32_t token, uint32_t c,
                               uint32_t e) {
    enum { E = 16 / T::BYTES };
    if (T::ROWS)
        return T::value(oct_ptr<const uint16_t>(
            at)[token * p.fresh.stride + p.kv.n_kv_heads * p.kv.head_dim + e + 8 * c]);
    const uint32_t place = T::BYTES == 1 ? oct_kv_place(token) : token;
    const uint8_t *v = oct_ptr<const uint8_t>(at) + 32 * PAD * T::BYTES + place / E * 128 + e * 16 +
                       place % E * T::BYTES + c * (32 / E) * 128;
    return T::BYTES == 1 ? oct_e4m3_f32(*v) : T::value(*reinterpret_cast<const uint16_t *>(v));
}

template <int N> OCT_DEVICE uint32_t attn_pick(const uint32_t (&w)[N], int n) {
    uint32_t x = 0;
#pragma unroll
    for (int i = 0; i < N; i++) x = i == n ? w[i] : x;
    return x;
}

/*
 * Adds what was taken out of V in a span: o[n][2 r + i] is channel 8 n + 2 (lane % 4) + i of query
 * r; lane s has the tokens of sub-block s (strange) and its place (sub_at).
 */
template <class T, int PAD, int R>
OCT_DEVICE void attn_strange(const oct_attn_params &p, uint64_t sub_at, uint32_t strange,
                             const uint32_t (&visible)[R], const uint32_t (&w)[R][T::P][16],
                             const float (&fo)[R], float (&o)[PAD / 8][4]) {
    const uint32_t quad = threadIdx.x % 4;
#pragma unroll 1
    for (int k = 0; k < 128; k++) {
        const int n = k / 8, from = static_cast<int>(threadIdx.x % 32 - quad) + k % 8 / 2;
        const uint64_t at = attn_shfl(sub_at, k / 32);
        if (!(__shfl_sync(~0u, strange, k / 32) >> k % 32 & 1)) continue;
        float a[R][T::P];
        bool sees[R], any = false;
#pragma unroll
        for (int r = 0; r < R; r++) {
            sees[r] = __shfl_sync(~0u, visible[r], from) >> (2 * n + k % 2) & 1;
            any |= sees[r];
#pragma unroll
            for (int part = 0; part < T::P; part++) {
                const uint32_t pair = __shfl_sync(~0u, attn_pick(w[r][part], n), from);
                a[r][part] = k % 2 ? T::high(pair) : T::low(pair);
            }
        }
        if (!any) continue;
#pragma unroll
        for (int c = 0; c < PAD / 8; c++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (8u * c >= p.kv.head_dim) break;
                const float v = attn_value_at<T, PAD>(p, at, k % 32, c, 2 * quad + i);
#pragma unroll
                for (int r = 0; r < R; r++) {
                    float x = a[r][0] * v;
                    if (T::P == 2) x += a[r][T::P - 1] * v;
                    if (sees[r] && !attn_finite(v)) o[c][2 * r + i] += x * fo[r];
                }
            }
    }
}

#endif
