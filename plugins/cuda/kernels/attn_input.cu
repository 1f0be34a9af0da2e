/*
 * kernels/attn_input.cu - what comes before attention: norms and rotation of q and k in place, K
 * and V into the cache. A warp has one head of one row; lane l has channels 4 l .. + 3 and
 * 128 + 4 l .. + 3. Arguments and the layout of the cache: attn.h.
 */
#include "attn_math.cuh"

enum { WARPS = 4 };

OCT_DEVICE void load_head(const oct_p_rows &rows, uint64_t row, uint32_t col, uint32_t dim,
                          float x[2][4]) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t k = 0; k < 2; k++) {
        const uint32_t d = 128 * k + 4 * lane;
#pragma unroll
        for (int i = 0; i < 4; i++) x[k][i] = 0.0f;
        if (d < dim) attn_load4(rows, row, col + d, x[k]);
    }
}

OCT_DEVICE float sum_of_squares(const float x[2][4]) {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) sum = fmaf(x[k][i], x[k][i], sum);
    return attn_sum_over<5>(sum);
}

/* ---- norms over all heads: their sums ---------------------------------------------------------
 */

OCT_KERNEL(attn_sums, oct_attn_sums_params, 256) {
    OCT_SHARED(float, room, 64);
    const oct_group g = {blockIdx.x, threadIdx.x, blockDim.x, room};
    const uint32_t q_width = p.n_heads * p.head_dim, k_width = p.n_kv_heads * p.head_dim;
    float sum[2] = {0.0f, 0.0f};
    oct_grid_launch_next();
    oct_grid_wait();
    for (uint32_t c = 4 * threadIdx.x; c < q_width + k_width; c += 4 * blockDim.x) {
        float x[4];
        attn_load4(p.qkv, blockIdx.x, c, x);
        const bool k = c >= q_width;
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (k)
                sum[1] = fmaf(x[i], x[i], sum[1]);
            else
                sum[0] = fmaf(x[i], x[i], sum[0]);
    }
    sum[0] = oct_group_sum(g, sum[0], 0);
    sum[1] = oct_group_sum(g, sum[1], 1);
    if (threadIdx.x < 2) oct_ptr<float>(p.sums)[2 * blockIdx.x + threadIdx.x] = sum[threadIdx.x];
}

/* ---- q and k in place --------------------------------------------------------------------------
 */

/* Of the channels that a lane has: weights of a norm, cosines, ... */
struct lane_numbers {
    float at[2][4];
};

OCT_DEVICE lane_numbers lane_numbers_of(const float *from, uint32_t n) {
    lane_numbers l;
#pragma unroll
    for (uint32_t j = 0; j < 2; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t d = 128 * j + 4 * (threadIdx.x % 32) + i;
            l.at[j][i] = d < n ? from[d] : 0.0f;
        }
    return l;
}

/* Weights do not wait for the kernel before. */
OCT_DEVICE lane_numbers norm_weights(const oct_attn_input_params &p, bool k, uint32_t head) {
    const uint32_t first = p.qk_norm == OCTET_QK_NORM_FULL ? head * p.kv.head_dim : 0;
    return lane_numbers_of(oct_ptr<const float>(k ? p.k_norm : p.q_norm) + first, p.kv.head_dim);
}

OCT_DEVICE void norm_head(const oct_attn_input_params &p, bool k, uint32_t head,
                          const lane_numbers &w, float x[2][4]) {
    const uint32_t lane = threadIdx.x % 32, dim = p.kv.head_dim;
    const bool full = p.qk_norm == OCTET_QK_NORM_FULL;
    const uint32_t n = full ? (k ? p.kv.n_kv_heads : p.n_heads) * dim : dim;
    const float sum =
        full ? oct_ptr<const float>(p.sums)[2 * blockIdx.x + (k ? 1 : 0)] : sum_of_squares(x);
    const float r = 1.0f / sqrtf(sum / static_cast<float>(n) + p.norm_eps);
    const uint32_t first = full ? head * dim : 0;
    const float *bias = oct_ptr<const float>(k ? p.k_norm_bias : p.q_norm_bias);
#pragma unroll
    for (uint32_t j = 0; j < 2; j++) {
        const uint32_t d = 128 * j + 4 * lane;
        if (d >= dim) continue;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[j][i] = (x[j][i] * r) * w.at[j][i];
            if (bias) x[j][i] = x[j][i] + bias[first + d + i];
        }
    }
}

/* Cosines and sines of a position, of the channels that a lane has. */
struct turn {
    float cosine[2][4], sine[2][4];
};

OCT_DEVICE turn turn_of(const oct_attn_input_params &p, int pos) {
    const uint32_t half = p.rotary_dim / 2;
    turn t;
    if (static_cast<uint32_t>(pos) >= p.n_rope_rows) {
        oct_raise(p.fault, OCT_FAULT_ROW_POS, pos);
        pos = 0;
    }
    const float *cosines = oct_ptr<const float>(p.rope) + static_cast<uint64_t>(pos) * p.rotary_dim;
#pragma unroll
    for (uint32_t j = 0; j < 2; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t d = 128 * j + 4 * (threadIdx.x % 32) + i;
            const uint32_t pair = d < half ? d : d - half;
            t.cosine[j][i] = d < p.rotary_dim ? cosines[pair] : 0.0f;
            t.sine[j][i] = d < p.rotary_dim ? cosines[half + pair] : 0.0f;
        }
    return t;
}

/* room: float [256] of this warp. */
OCT_DEVICE void rotate_head(const oct_attn_input_params &p, const turn &t, float *room,
                            float x[2][4]) {
    const uint32_t lane = threadIdx.x % 32, half = p.rotary_dim / 2;
#pragma unroll
    for (uint32_t j = 0; j < 2; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) room[128 * j + 4 * lane + i] = x[j][i];
    __syncwarp();
#pragma unroll
    for (uint32_t j = 0; j < 2; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t d = 128 * j + 4 * lane + i;
            if (d >= p.rotary_dim) continue;
            const uint32_t pair = d < half ? d : d - half;
            const float turned = room[d < half ? d + half : pair] * t.sine[j][i];
            x[j][i] = fmaf(x[j][i], t.cosine[j][i], d < half ? -turned : turned);
        }
}

OCT_DEVICE void store_head(const oct_p_rows &rows, uint64_t row, uint32_t col, uint32_t dim,
                           const float x[2][4]) {
#pragma unroll
    for (uint32_t k = 0; k < 2; k++) {
        const uint32_t d = 128 * k + 4 * (threadIdx.x % 32);
        if (d < dim) attn_store4(rows, row, col + d, x[k]);
    }
}

/* ---- into the cache ---------------------------------------------------------------------------
 */

OCT_DEVICE uint32_t quant_channel4(const float x[4], const float *scale, const float *offset) {
    int32_t q[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float y = x[i] * (1.0f / scale[i]);
        if (offset) y = y + offset[i];
        q[i] = oct_sat8(y);
    }
    return oct_pack4(q[0], q[1], q[2], q[3]);
}

OCT_DEVICE uint32_t narrow_e4m3x4(const float x[4], const float *scale) {
    uint32_t q = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) q |= static_cast<uint32_t>(oct_f32_e4m3(x[i] / scale[i])) << 8 * i;
    return q;
}

/* The scale of a head of one token; inv 0: all of it becomes 0. */
OCT_DEVICE float token_scale(const float x[2][4], float *inv) {
    uint32_t most = 0;
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) most = max(most, oct_abs_bits(x[k][i]));
    most = attn_max_over<5>(most);
    *inv = 0.0f;
    if (most >= 0x7f800000u) return oct_nan();
    const float scale = fmaxf(oct_float(most) / 127.0f, 1e-6f);
    *inv = 1.0f / scale;
    return scale;
}

/* Four one-byte elements, channels d .. d + 3 of token t of a sub-block. */
OCT_DEVICE void put4(uint8_t *sub, bool v, uint32_t pad, uint32_t t, uint32_t d, uint32_t q) {
    if (!v) {
        *reinterpret_cast<uint32_t *>(sub + (t / 8 * (pad / 16) + d / 16) * 128 + t % 8 * 16 +
                                      d % 16) = q;
        return;
    }
    const uint32_t place = oct_kv_place(t);
    uint8_t *at = sub + 32 * pad + (d / 8 * 2 + place / 16) * 128 + d % 8 * 16 + place % 16;
#pragma unroll
    for (int i = 0; i < 4; i++) at[16 * i] = static_cast<uint8_t>(q >> 8 * i);
}

/* Two-byte elements. */
OCT_DEVICE void put4_16(uint8_t *sub, bool v, uint32_t pad, uint32_t t, uint32_t d,
                        const uint16_t h[4]) {
    if (!v) {
        *reinterpret_cast<uint2 *>(sub + (t / 8 * (pad / 8) + d / 8) * 128 + t % 8 * 16 +
                                   d % 8 * 2) =
            make_uint2(h[0] | static_cast<uint32_t>(h[1]) << 16, h[2] | static_cast<uint32_t>(h[3])
                                                                            << 16);
        return;
    }
    uint8_t *at = sub + 64 * pad + (d / 8 * 4 + t / 8) * 128 + d % 8 * 16 + t % 8 * 2;
#pragma unroll
    for (int i = 0; i < 4; i++) *reinterpret_cast<uint16_t *>(at + 16 * i) = h[i];
}

OCT_DEVICE void put4_f32(uint8_t *sub, bool v, uint32_t pad, uint32_t t, uint32_t d,
                         const float x[4]) {
    if (!v) {
        *reinterpret_cast<float4 *>(sub + (t / 8 * (pad / 4) + d / 4) * 128 + t % 8 * 16) =
            make_float4(x[0], x[1], x[2], x[3]);
        return;
    }
    uint8_t *at = sub + 128 * pad + (d / 8 * 8 + t / 4) * 128 + d % 8 * 16 + t % 4 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) *reinterpret_cast<float *>(at + 16 * i) = x[i];
}

OCT_DEVICE void put_head(const oct_attn_input_params &p, bool v, uint32_t head, uint32_t slot,
                         const float x[2][4]) {
    const oct_p_kv &kv = p.kv;
    const uint32_t block = slot / kv.block_tokens, place = slot - block * kv.block_tokens;
    const uint32_t t = place % OCT_ATTN_SUB, lane = threadIdx.x % 32;
    if (block >= kv.n_blocks) {
        oct_raise(p.fault, OCT_FAULT_ROW_SLOT, static_cast<int32_t>(slot));
        return;
    }
    uint8_t *const sub =
        oct_ptr<uint8_t>(kv.base) + static_cast<uint64_t>(block) * kv.block_bytes +
        static_cast<uint64_t>(head * (kv.block_tokens / OCT_ATTN_SUB) + place / OCT_ATTN_SUB) *
            kv.sub_bytes;
    const oct_addr scales = v ? kv.v_scale : kv.k_scale, offsets = v ? kv.v_offset : kv.k_offset;
    float inv = 0.0f;
    if (kv.kind == OCTET_KV_I8_TOKEN) {
        const float scale = token_scale(x, &inv);
        if (lane == 0)
            *reinterpret_cast<float *>(sub + 64 * kv.pad + (v ? 128 : 0) + 4 * t) = scale;
    }
#pragma unroll
    for (uint32_t k = 0; k < 2; k++) {
        const uint32_t d = 128 * k + 4 * lane, at = head * kv.head_dim + d;
        if (d >= kv.head_dim) continue;
        const float *y = x[k];
        uint16_t h[4];
        switch (kv.kind) {
        case OCTET_KV_I8_CHANNEL:
            put4(sub, v, kv.pad, t, d,
                 quant_channel4(y, oct_ptr<const float>(scales) + at,
                                offsets ? oct_ptr<const float>(offsets) + at : nullptr));
            break;
        case OCTET_KV_I8_TOKEN: {
            int32_t q[4];
#pragma unroll
            for (int i = 0; i < 4; i++) q[i] = inv == 0.0f ? 0 : oct_sat8(y[i] * inv);
            put4(sub, v, kv.pad, t, d, oct_pack4(q[0], q[1], q[2], q[3]));
            break;
        }
        case OCTET_KV_FP8_CHANNEL:
            put4(sub, v, kv.pad, t, d, narrow_e4m3x4(y, oct_ptr<const float>(scales) + at));
            break;
        case OCTET_KV_BF16:
        case OCTET_KV_F16:
#pragma unroll
            for (int i = 0; i < 4; i++)
                h[i] = kv.kind == OCTET_KV_BF16 ? oct_f32_bf16(y[i]) : oct_f32_f16(y[i]);
            put4_16(sub, v, kv.pad, t, d, h);
            break;
        default:
            put4_f32(sub, v, kv.pad, t, d, y);
            break;
        }
    }
}

OCT_KERNEL(attn_input, oct_attn_input_params, 128) {
    OCT_SHARED(float, room, WARPS *OCT_ATTN_MAX_HEAD);
    const uint32_t warp = threadIdx.x / 32, row = blockIdx.x, head = blockIdx.y * WARPS + warp;
    const uint32_t q_heads = p.n_heads, kv_heads = p.kv.n_kv_heads, dim = p.kv.head_dim;
    const bool k = head >= q_heads && head < q_heads + kv_heads, v = head >= q_heads + kv_heads;
    const uint32_t of_kind = head - (v ? q_heads + kv_heads : k ? q_heads : 0);
    const bool there = head < q_heads + 2 * kv_heads;
    float x[2][4];
    lane_numbers weights = {};
    turn turn = {};
    oct_grid_launch_next();
    /* What is no kernel's result is read while the one before still runs. */
    const int pos = p.rotary_dim && !v ? oct_ptr<const int32_t>(p.row_pos)[row] : 0;
    const int slot = k || v ? oct_ptr<const int32_t>(p.row_slot)[row] : -1;
    if (there && !v && p.qk_norm) weights = norm_weights(p, k, of_kind);
    if (there && !v && p.rotary_dim) turn = turn_of(p, pos);
    oct_grid_wait();
    if (!there) return;
    load_head(p.qkv, row, head * dim, dim, x);
    if (!v && p.qk_norm) norm_head(p, k, of_kind, weights, x);
    if (!v && p.rotary_dim) rotate_head(p, turn, room + warp * OCT_ATTN_MAX_HEAD, x);
    if (!v && (p.qk_norm || p.rotary_dim)) store_head(p.qkv, row, head * dim, dim, x);
    if (slot >= 0) put_head(p, v, of_kind, static_cast<uint32_t>(slot), x);
}
