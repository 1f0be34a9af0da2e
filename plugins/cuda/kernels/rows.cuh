/*
 * kernels/rows.cuh - one row held by a group of threads: loading, folding, leaving a quantised
 * copy.
 *
 * A group is a warp (then a block holds several rows), a whole block, or a cluster of blocks.
 * Thread t of G holds the pieces t, t + G, ... of 8 elements, C of them. Where the order of a fold
 * shows (a sum) G and C follow from the width alone (ops_rows.c), and every fold is a tree over the
 * threads, so a result depends on its row and nothing else.
 */
#ifndef OCT_CUDA_ROWS_CUH
#define OCT_CUDA_ROWS_CUH

#include <octet/device.h>

#include "dtype.cuh"
#include "fault.h"
#include "ptx.cuh"

/* ---- the group ------------------------------------------------------------------------------- */

struct oct_group {
    uint32_t row;    /* which row of the operation */
    uint32_t thread; /* in the group */
    uint32_t n;      /* threads of the group: 32, all of the block, or of a cluster */
    float *room;     /* float [64], shared by the block */
};

/* n: 32, blockDim.x, or that times the blocks of a cluster (then once a kernel). */
OCT_DEVICE oct_group oct_group_of(uint32_t n, float *room) {
    const uint32_t of = n == 32 ? threadIdx.x / 32 : 0;
    if (n > blockDim.x) {
        const uint32_t n_ranks = n / blockDim.x, row = blockIdx.x / n_ranks;
        oct_cluster_arrive(); /* from here on there is shared memory of the others */
        return {row, (blockIdx.x - row * n_ranks) * blockDim.x + threadIdx.x, n, room};
    }
    return {static_cast<uint32_t>(n == 32 ? blockIdx.x * (blockDim.x / 32) + of : blockIdx.x),
            threadIdx.x - of * n, n, room};
}

/* The sum over the group, in every thread. `which`, 0 or 1, by turns: a fold may begin while
 * others still read the one before. */
OCT_DEVICE float oct_group_sum(const oct_group &g, float v, int which) {
    for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    if (g.n == 32) return v;
    float *part = g.room + 32 * which;
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[0];
    for (uint32_t w = 1; w < g.n / 32; w++) v += part[w];
    return v;
}

/* Of a cluster once a kernel, and every block's warps leave their numbers with every block: at most
 * 64 warps altogether. */
OCT_DEVICE uint32_t oct_group_max(const oct_group &g, uint32_t v, int which) {
    v = __reduce_max_sync(0xffffffffu, v);
    if (g.n == 32) return v;
    if (g.n > blockDim.x) {
        const uint32_t n_ranks = g.n / blockDim.x, lane = threadIdx.x % 32;
        oct_cluster_wait();
        if (lane < n_ranks) oct_cluster_store(oct_smem_at(g.room + g.thread / 32), lane, v);
        oct_cluster_arrive();
        oct_cluster_wait();
        v = lane < g.n / 32 ? oct_bits(g.room[lane]) : 0;
        if (lane + 32 < g.n / 32) v = max(v, oct_bits(g.room[lane + 32]));
        return __reduce_max_sync(0xffffffffu, v);
    }
    float *part = g.room + 32 * which;
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = oct_float(v);
    __syncthreads();
    v = oct_bits(part[0]);
    for (uint32_t w = 1; w < g.n / 32; w++) v = max(v, oct_bits(part[w]));
    return v;
}

/* ---- pieces of 8 ----------------------------------------------------------------------------- */

/* Elements at .. at + 8 of a row of bf16 as floats; what lies at `width` and beyond is 0. */
OCT_DEVICE void oct_load8(float v[8], const uint16_t *row, uint32_t at, uint32_t width, bool vec) {
    if (vec && at + 8 <= width) {
        const uint4 u = *reinterpret_cast<const uint4 *>(row + at);
        v[0] = oct_bf16_low(u.x), v[1] = oct_bf16_high(u.x);
        v[2] = oct_bf16_low(u.y), v[3] = oct_bf16_high(u.y);
        v[4] = oct_bf16_low(u.z), v[5] = oct_bf16_high(u.z);
        v[6] = oct_bf16_low(u.w), v[7] = oct_bf16_high(u.w);
        return;
    }
    for (uint32_t i = 0; i < 8; i++) v[i] = at + i < width ? oct_bf16_f32(row[at + i]) : 0.0f;
}

OCT_DEVICE void oct_store8(uint16_t *row, const float v[8], uint32_t at, uint32_t width, bool vec) {
    if (vec && at + 8 <= width) {
        *reinterpret_cast<uint4 *>(row + at) =
            make_uint4(oct_f32_bf16x2(v[0], v[1]), oct_f32_bf16x2(v[2], v[3]),
                       oct_f32_bf16x2(v[4], v[5]), oct_f32_bf16x2(v[6], v[7]));
        return;
    }
    for (uint32_t i = 0; i < 8; i++)
        if (at + i < width) row[at + i] = oct_f32_bf16(v[i]);
}

/* The same of a vector of floats that all rows share. */
OCT_DEVICE void oct_load8_f32(float v[8], const float *from, uint32_t at, uint32_t width) {
    if (at + 8 <= width && (reinterpret_cast<uintptr_t>(from) & 15) == 0) {
        const float4 a = *reinterpret_cast<const float4 *>(from + at);
        const float4 b = *reinterpret_cast<const float4 *>(from + at + 4);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
        v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
        return;
    }
    for (uint32_t i = 0; i < 8; i++) v[i] = at + i < width ? from[at + i] : 0.0f;
}

/* ---- quantised copies (docs/numerics.md, section 4) ---------------------------------------------
 */

struct oct_quant_rule {
    float inv, offset;
    float row_scale; /* what is stored beside the row */
    uint32_t mode;   /* OCTET_QUANT_..., 0: every q is 0 */
};

OCT_DEVICE void oct_raise(oct_addr fault, oct_cuda_fault what, int32_t number) {
    *oct_ptr<volatile uint64_t>(fault) =
        static_cast<uint64_t>(what) << 32 | static_cast<uint32_t>(number);
}

/* The rule of a row from its largest magnitude (as bits). param: {scale, offset} of a static rule.
 */
OCT_DEVICE oct_quant_rule oct_quant_rule_of(uint32_t mode, const float *param, uint32_t abs_bits,
                                            oct_addr fault, uint32_t row) {
    oct_quant_rule r = {0, 0, oct_nan(), 0};
    if (mode == OCTET_QUANT_DYNAMIC) {
        if (abs_bits >= 0x7f800000u) return r;
        r.row_scale = 0.0f;
        if (abs_bits < 0x0d800000u) return r; /* 2^-100 */
        const float most = oct_float(abs_bits);
        return {127.0f / most, 0.0f, most / 127.0f, mode};
    }
    const float scale = param[0], offset = param[1];
    if (!(scale > 0.0f) || oct_abs_bits(scale) >= 0x7f800000u ||
        oct_abs_bits(offset) >= 0x7f800000u) {
        oct_raise(fault, OCT_FAULT_QUANT_PARAM, static_cast<int32_t>(row));
        return r;
    }
    if (abs_bits > 0x7f800000u) return r;
    return {1.0f / scale, offset, 1.0f, mode};
}

OCT_DEVICE int32_t oct_quant_one(const oct_quant_rule &r, float x) {
    switch (r.mode) {
    case OCTET_QUANT_DYNAMIC:
        return oct_sat8(x * r.inv);
    case OCTET_QUANT_STATIC_BEFORE: {
        const float scaled = x * r.inv;
        return oct_sat8(scaled + r.offset);
    }
    case OCTET_QUANT_STATIC_AFTER:
        return oct_sat8(rintf(x * r.inv) + r.offset);
    default:
        return 0;
    }
}

OCT_DEVICE void oct_quant_store8(int8_t *row, const oct_quant_rule &r, const float v[8],
                                 uint32_t at, uint32_t width, bool vec) {
    int32_t q[8];
    for (int i = 0; i < 8; i++) q[i] = oct_quant_one(r, v[i]);
    if (vec && at + 8 <= width) {
        *reinterpret_cast<uint2 *>(row + at) =
            make_uint2(oct_pack4(q[0], q[1], q[2], q[3]), oct_pack4(q[4], q[5], q[6], q[7]));
        return;
    }
    for (uint32_t i = 0; i < 8; i++)
        if (at + i < width) row[at + i] = static_cast<int8_t>(q[i]);
}

/* The C pieces that a thread of the group holds, quantised to row `row` of q. */
template <int C>
OCT_DEVICE void oct_quant_row(const oct_p_quant &q, const oct_group &g, const float v[C][8],
                              uint32_t width, oct_addr fault, int which) {
    uint32_t most = 0;
#pragma unroll(C > 4 ? 1 : C)
    for (int c = 0; c < C; c++)
        for (int i = 0; i < 8; i++) most = max(most, oct_abs_bits(v[c][i]));
    most = oct_group_max(g, most, which);
    const oct_quant_rule rule =
        oct_quant_rule_of(q.mode, oct_ptr<const float>(q.param), most, fault, g.row);
    int8_t *const to = oct_ptr<int8_t>(q.q) + g.row * q.stride;
#pragma unroll(C > 4 ? 1 : C)
    for (int c = 0; c < C; c++) {
        const uint32_t at = (g.thread + static_cast<uint32_t>(c) * g.n) * 8;
        if (at < width) oct_quant_store8(to, rule, v[c], at, width, q.vec != 0);
    }
    if (g.thread == 0) oct_ptr<float>(q.scale)[g.row] = rule.row_scale;
}

#endif
