/*
 * kernels/attn_math.cuh - pieces that the kernels of attention share: what a row sees, places in
 * the cache, queries as whole numbers, and the combination of results.
 */
#ifndef OCT_CUDA_ATTN_MATH_CUH
#define OCT_CUDA_ATTN_MATH_CUH

#include "attn.h"
#include "math.cuh"
#include "rows.cuh"

/* Before every function of a struct. */
#if OCT_EMU
#define OCT_MEMBER inline
#else
#define OCT_MEMBER __device__ __forceinline__
#endif

/* ---- which tokens ---------------------------------------------------------------------------- */

struct attn_range {
    int lo, hi; /* tokens lo .. hi - 1; none: lo >= hi */
};

OCT_DEVICE attn_range attn_visible(const oct_attn_params &p, int pos, int kv_len) {
    attn_range r = {0, kv_len};
    const int window = p.window > INT32_MAX ? INT32_MAX : (int)p.window;
    const bool causal = p.mask == OCTET_MASK_CAUSAL;
    if (causal && pos < kv_len) r.hi = pos + 1;
    if (window) {
        if (pos >= window) r.lo = pos - window + 1;
        if (!causal && pos < kv_len - window) r.hi = pos + window;
    }
    return r;
}

/* ---- the cache ------------------------------------------------------------------------------- */

/* Where token t (of 32) of V stands among the 32 of a row, one-byte kinds. */
OCT_DEVICE uint32_t oct_kv_place(uint32_t t) {
    return (t & 16) | (t & 6) << 1 | (t & 8) >> 2 | (t & 1);
}

/* The token at a place. */
OCT_DEVICE uint32_t oct_kv_token(uint32_t p) {
    return (p & 16) | (p & 12) >> 1 | (p & 2) << 2 | (p & 1);
}

/* What the block table says of a token; 0 beyond its end. */
OCT_DEVICE int attn_block_of(const oct_attn_params &p, uint32_t seq, uint32_t token) {
    const uint32_t entry = token / p.kv.block_tokens, stride = p.batch.table_stride;
    return entry < stride ? oct_ptr<const int32_t>(
                                p.batch.block_table)[static_cast<uint64_t>(seq) * stride + entry]
                          : 0;
}

/* The sub-block that begins with a token, in the block that attn_block_of found. */
OCT_DEVICE const uint8_t *attn_sub_of(const oct_attn_params &p, int block, uint32_t kv_head,
                                      uint32_t token) {
    const oct_p_kv &kv = p.kv;
    const uint32_t entry = token / kv.block_tokens, place = token - entry * kv.block_tokens;
    if (entry >= p.batch.table_stride) oct_raise(p.fault, OCT_FAULT_KV_LEN, (int)token);
    if (static_cast<uint32_t>(block) >= kv.n_blocks) {
        oct_raise(p.fault, OCT_FAULT_BLOCK_ID, block);
        block = 0;
    }
    return oct_ptr<const uint8_t>(kv.base) + static_cast<uint64_t>(block) * kv.block_bytes +
           static_cast<uint64_t>(kv_head * (kv.block_tokens / OCT_ATTN_SUB) +
                                 place / OCT_ATTN_SUB) *
               kv.sub_bytes;
}

OCT_DEVICE const uint8_t *attn_sub(const oct_attn_params &p, uint32_t seq, uint32_t kv_head,
                                   uint32_t token) {
    return attn_sub_of(p, attn_block_of(p, seq, token), kv_head, token);
}

/* ---- numbers --------------------------------------------------------------------------------- */

#define ATTN_Q16_MAX 32512.0f /* 127 * 256: two int8 parts */
#define ATTN_P16_ONE 65535.0f /* two uint8 parts */

OCT_DEVICE bool attn_finite(float x) { return oct_abs_bits(x) < 0x7f800000u; }

/* oct_exp of what is not above 0. */
OCT_DEVICE float attn_exp(float x) {
    const float t = fmaf(x, 0x1.715476p+0f, 0x1.8p+23f);
    const float n = t - 0x1.8p+23f;
    const float r = fmaf(n, -0x1.7f7d1cp-20f, fmaf(n, -0x1.62e4p-1f, x));
    float q = 0x1.6a2444p-10f;
    q = fmaf(q, r, 0x1.1239d8p-7f);
    q = fmaf(q, r, 0x1.5558f2p-5f);
    q = fmaf(q, r, 0x1.555492p-3f);
    q = fmaf(q, r, 0x1.fffffcp-2f);
    const float p = fmaf(q, r * r, r) + 1.0f;
    return x < -0x1.5d589ep+6f ? 0.0f : oct_float(oct_bits(p) + (oct_bits(t) << 23));
}

/* A score from its product; raw is the sum times the scale of the query. */
OCT_DEVICE float attn_score(const oct_attn_params &p, float raw) {
    return p.softcap != 0.0f ? oct_softcapped(raw, p.softcap, p.inv_cap) : raw;
}

/* The largest, or the sum, over the lanes that differ in the bits of `mask` (a fixed tree). */
template <int BITS> OCT_DEVICE float attn_max_over(float x) {
#pragma unroll
    for (int b = 1; b < 1 << BITS; b *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, b));
    return x;
}

/* The same; a NaN wins. */
template <int BITS> OCT_DEVICE float attn_max_or_nan(float x) {
#pragma unroll
    for (int b = 1; b < 1 << BITS; b *= 2) x = oct_max_nan(x, __shfl_xor_sync(~0u, x, b));
    return x;
}

template <int BITS> OCT_DEVICE uint32_t attn_max_over(uint32_t x) {
#pragma unroll
    for (int b = 1; b < 1 << BITS; b *= 2) {
        const uint32_t y = __shfl_xor_sync(~0u, x, b);
        x = x > y ? x : y;
    }
    return x;
}

template <int BITS, class T> OCT_DEVICE T attn_sum_over(T x) {
#pragma unroll
    for (int b = 1; b < 1 << BITS; b *= 2) x += __shfl_xor_sync(~0u, x, b);
    return x;
}

OCT_DEVICE uint64_t attn_shfl(uint64_t x, uint32_t lane) {
    const uint32_t low = __shfl_sync(~0u, static_cast<uint32_t>(x), static_cast<int>(lane));
    const uint32_t high = __shfl_sync(~0u, static_cast<uint32_t>(x >> 32), static_cast<int>(lane));
    return static_cast<uint64_t>(high) << 32 | low;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Elements col .. col + 3 of a row (col a multiple of 4). */
OCT_DEVICE void attn_load4(const oct_p_rows &rows, uint64_t row, uint32_t col, float x[4]) {
    const uint16_t *at = oct_ptr<const uint16_t>(rows.data) + row * rows.stride + col;
    if (rows.vec) {
        const uint2 v = *reinterpret_cast<const uint2 *>(at);
        x[0] = oct_bf16_low(v.x), x[1] = oct_bf16_high(v.x);
        x[2] = oct_bf16_low(v.y), x[3] = oct_bf16_high(v.y);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) x[i] = oct_bf16_f32(at[i]);
    }
}

OCT_DEVICE void attn_store4(const oct_p_rows &rows, uint64_t row, uint32_t col, const float x[4]) {
    uint16_t *at = oct_ptr<uint16_t>(rows.data) + row * rows.stride + col;
    if (rows.vec) {
        *reinterpret_cast<uint2 *>(at) =
            make_uint2(oct_f32_bf16x2(x[0], x[1]), oct_f32_bf16x2(x[2], x[3]));
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) at[i] = oct_f32_bf16(x[i]);
    }
}

/* ---- results --------------------------------------------------------------------------------- */

/* Of one query over some tokens: o = sum p v, l = sum p, both in units of exp(m). l 0: no token;
 * NaN: the row is lost. */
struct attn_part {
    float m, l, w; /* w: o is to be multiplied by it; 1 but for a scale a token */
};

/* How a part is put behind total (section 9): every value becomes fmaf(acc, wa, o * wo). The first
 * part meets zeros; one of no token changes nothing. */
OCT_DEVICE void attn_weigh(attn_part *total, const attn_part &part, float *wa, float *wo) {
    const bool first = total->l == 0.0f, nothing = part.l == 0.0f;
    const bool higher = part.m > total->m;
    const float d = higher ? total->m - part.m : part.m - total->m;
    const float e = d != d ? d : attn_exp(d); /* the other factor is exp(0), which is 1 */
    const float a = nothing ? 1.0f : first ? 0.0f : higher ? e : 1.0f;
    const float b = nothing ? 0.0f : first ? 1.0f : higher ? 1.0f : e;
    total->m = nothing ? total->m : first || higher ? part.m : total->m;
    total->l = fmaf(total->l, a, part.l * b);
    *wa = a;
    *wo = b * part.w;
}

template <int N>
OCT_DEVICE void attn_merge(attn_part *total, float (&acc)[N], const attn_part &part,
                           const float (&o)[N]) {
    float wa, wo;
    attn_weigh(total, part, &wa, &wo);
#pragma unroll
    for (int i = 0; i < N; i++) acc[i] = fmaf(acc[i], wa, o[i] * wo);
}

/* The values of channels d .. d + N - 1 of one query, from all it saw; r is 1 / total.l. */
template <int N>
OCT_DEVICE void attn_finish(const oct_attn_params &p, uint32_t kv_head, const attn_part &total,
                            float r, uint32_t d, const float *o, float *out) {
    const bool scaled = p.kv.v_scale && p.which != OCT_ATTN_FRESH_ONLY;
    const uint32_t at = kv_head * p.kv.head_dim + d;
#pragma unroll
    for (int i = 0; i < N; i++) {
        float x = o[i] * r;
        if (scaled) {
            if (p.kv.v_offset) x = x - oct_ptr<const float>(p.kv.v_offset)[at + i];
            x = x * oct_ptr<const float>(p.kv.v_scale)[at + i];
        }
        out[i] = total.l == 0.0f ? 0.0f : x;
    }
}

#endif
