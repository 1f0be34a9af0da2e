/*
 * kernels/linear_few_sm90.cu - int8 products of few rows on Hopper, as fast as weights come from
 * memory.
 *
 * A block has a tile of 128 outputs and ROWS rows of the result, or a part of its k: blocks of a
 * cluster share a tile. One warp copies (a tile of weights, 16 KiB, as it lies in memory, and the
 * same 128 bytes of the rows through a tensor map), two warpgroups multiply: weights are operand A
 * (64 outputs each), rows operand B, so that few rows cost few columns. Up to 128 rows two
 * blocks fit on a multiprocessor.
 *
 * Weights do not wait for the kernel before: a block asks for those of all its stages at once,
 * while that kernel still runs; rows come when it is done. At the end each block leaves its sums in
 * its own shared memory, and each of a cluster adds up and stores a part of the outputs. Sums are
 * exact: the bits are those of linear_body.cuh.
 *
 * Rejected: even pieces of all steps, as in linear_body.cuh (a slot in the second cache, a counter
 * and its fences take longer than few steps do); a block that computes several tiles (what is left
 * idle at the end of a tile, the other block of the multiprocessor uses); more weights asked for
 * early, into the second cache (what runs meanwhile waits for memory: steps took 9 % longer).
 */
#include "linear_sm90.h"

#include "simt.cuh"

#if !OCT_EMU && defined(__CUDA_ARCH_FEAT_SM90_ALL)

#include "dtype.cuh"
#include "linear_walk.cuh"
#include "rows.cuh"
#include "wgmma_s8.cuh"

enum { CONSUMERS = 256, SUM_STRIDE = OCT_TILE_OUTPUTS + 4, OUTPUTS_A_THREAD = 4 };

/* Shared memory of a block: stages; in their place, at the end, the sums. */
struct room {
    unsigned char *stages;
    uint32_t n_stages, stage_bytes;
    oct_smem full, empty; /* [n_stages] of 8 bytes each */
};

/* Steps first .. end - 1 of tile `block` of outputs, rows row .. */
struct part {
    uint32_t block, row, first, end;
};

/* ---- copying -----------------------------------------------------------------------------------
 */

OCT_DEVICE oct_addr weights_at(const oct_linear_params &p, const part &t, uint32_t k_tile) {
    return p.weight.tiles + ((uint64_t)t.block * p.weight.k_tiles + k_tile) * OCT_TILE_BYTES;
}

/* By one thread. */
OCT_DEVICE void copy_steps(const oct_linear_few_params &all, const part &t, const room &room) {
    const oct_linear_params &p = all.linear;
    const oct_smem stages = oct_smem_at(room.stages);
    const uint32_t n = t.end - t.first, ahead = n < room.n_stages ? n : room.n_stages;
    oct_tensor_prefetch(all.x_map);
    for (uint32_t i = 0; i < ahead; i++) {
        oct_bar_expect(room.full + i * 8, room.stage_bytes);
        oct_bulk_load(stages + i * room.stage_bytes,
                      oct_ptr<const void>(weights_at(p, t, t.first + i)), OCT_TILE_BYTES,
                      room.full + i * 8);
    }
    oct_grid_wait();
    uint32_t stage = 0, parity = 1;
    for (uint32_t i = 0; i < n; i++) {
        const oct_smem to = stages + stage * room.stage_bytes, full = room.full + stage * 8;
        const uint32_t k_tile = t.first + i;
        if (i >= ahead) {
            oct_bar_wait(room.empty + stage * 8, parity);
            oct_bar_expect(full, room.stage_bytes);
            oct_bulk_load(to, oct_ptr<const void>(weights_at(p, t, k_tile)), OCT_TILE_BYTES, full);
        }
        oct_tensor_load(to + OCT_TILE_BYTES, all.x_map, (int32_t)(k_tile * OCT_TILE_K_BYTES),
                        (int32_t)t.row, full);
        if (++stage == room.n_stages) {
            stage = 0;
            parity ^= 1;
        }
    }
}

/* ---- multiplying -------------------------------------------------------------------------------
 */

/* Leaves the sums of a warpgroup's 64 outputs in shared memory, [ROWS][SUM_STRIDE]. */
template <int ROWS> OCT_DEVICE void multiply(const part &t, const room &room, int32_t *sums) {
    const uint32_t lane = threadIdx.x % 32, group = threadIdx.x / 128, n = t.end - t.first;
    uint32_t stage = 0, parity = 0, before = 0;
    int32_t d[ROWS / 2];
    OCT_UNROLL
    for (int i = 0; i < ROWS / 2; i++) d[i] = 0;
    for (uint32_t i = 0; i < n; i++) {
        const oct_smem at = oct_smem_at(room.stages) + stage * room.stage_bytes;
        oct_bar_wait(room.full + stage * 8, parity);
        const uint64_t a = oct_wgmma_operand(at + group * (OCT_TILE_BYTES / 2));
        const uint64_t b = oct_wgmma_operand(at + OCT_TILE_BYTES);
        oct_wgmma_fence();
        OCT_UNROLL
        for (uint32_t k = 0; k < 4; k++) oct_wgmma_s8(d, a + 2 * k, b + 2 * k, 1);
        oct_wgmma_commit();
        if (i > 0) { /* the step before is done with its stage */
            oct_wgmma_wait<1>();
            if (lane == 0) oct_bar_arrive(room.empty + before * 8);
        }
        before = stage;
        if (++stage == room.n_stages) {
            stage = 0;
            parity ^= 1;
        }
    }
    oct_wgmma_wait<0>();
    oct_bar_named(1, CONSUMERS); /* nobody reads the stages any more */
    int32_t *to = sums + lane % 4 * 2 * SUM_STRIDE + threadIdx.x / 32 * 16 + lane / 4;
    OCT_UNROLL
    for (int i = 0; i < ROWS / 2; i++) to[(i / 4 * 8 + i % 2) * SUM_STRIDE + i / 2 % 2 * 8] = d[i];
}

/* ---- results -----------------------------------------------------------------------------------
 */

/* The numbers of the outputs of a thread; of outputs that are not there any. */
struct columns {
    float scale[OUTPUTS_A_THREAD], bias[OUTPUTS_A_THREAD];
    int32_t int_bias[OUTPUTS_A_THREAD];
};

OCT_DEVICE columns columns_of(const oct_linear_params &p, uint32_t n) {
    columns c;
    OCT_UNROLL
    for (int e = 0; e < OUTPUTS_A_THREAD; e++) {
        const bool there = n + e < p.weight.n;
        c.scale[e] = there ? __ldg(oct_ptr<const float>(p.weight.col_scale) + n + e) : 0;
        c.int_bias[e] = there && p.weight.int_bias
                            ? __ldg(oct_ptr<const int32_t>(p.weight.int_bias) + n + e)
                            : 0;
        c.bias[e] = there && p.weight.bias ? __ldg(oct_ptr<const float>(p.weight.bias) + n + e) : 0;
    }
    return c;
}

/* One at a time, for any place and type. */
OCT_DEVICE void store_one(const oct_linear_params &p, uint64_t at, float y) {
    if (p.flags & OCT_LINEAR_OUT_F32) {
        float *out = oct_ptr<float>(p.out) + at;
        *out = p.flags & OCT_LINEAR_ACCUMULATE ? *out + y : y;
        return;
    }
    uint16_t *out = oct_ptr<uint16_t>(p.out) + at;
    *out = oct_f32_bf16(p.flags & OCT_LINEAR_ACCUMULATE ? oct_bf16_f32(*out) + y : y);
}

/* Four outputs of a row from their sums. old: what was there, of wide rows that are added to. */
OCT_DEVICE void store_four(const oct_linear_params &p, uint64_t row, uint32_t n, const int4 &sum,
                           const columns &c, float row_scale, uint2 old, bool wide) {
    const uint64_t at = row * p.out_stride + n;
    const int32_t s[4] = {sum.x, sum.y, sum.z, sum.w};
    float y[4];
    OCT_UNROLL
    for (int e = 0; e < 4; e++) {
        y[e] = (float)(s[e] + c.int_bias[e]) * row_scale * c.scale[e];
        if (p.weight.bias) y[e] = y[e] + c.bias[e];
    }
    if (!wide || n + 4 > p.weight.n) {
        OCT_UNROLL
        for (int e = 0; e < 4; e++)
            if (n + e < p.weight.n) store_one(p, at + e, y[e]);
        return;
    }
    if (p.flags & OCT_LINEAR_ACCUMULATE) {
        y[0] = oct_bf16_low(old.x) + y[0];
        y[1] = oct_bf16_high(old.x) + y[1];
        y[2] = oct_bf16_low(old.y) + y[2];
        y[3] = oct_bf16_high(old.y) + y[3];
    }
    *reinterpret_cast<uint2 *>(oct_ptr<uint16_t>(p.out) + at) =
        make_uint2(oct_f32_bf16x2(y[0], y[1]), oct_f32_bf16x2(y[2], y[3]));
}

/* A block's part of the outputs: thread i has 4 of them, and of the rows every ..th. */
template <int ROWS>
OCT_DEVICE void results(const oct_linear_params &p, const part &t, const int32_t *sums,
                        const columns &c, uint32_t n_ranks, uint32_t rank) {
    const uint32_t fours = OCT_TILE_OUTPUTS / OUTPUTS_A_THREAD / n_ranks;
    const uint32_t in = (rank * fours + threadIdx.x % fours) * OUTPUTS_A_THREAD;
    const uint32_t n = t.block * OCT_TILE_OUTPUTS + in, each = CONSUMERS / fours;
    const bool wide = !(p.flags & OCT_LINEAR_OUT_F32) && p.out % 8 == 0 && p.out_stride % 4 == 0;
    uint32_t row = threadIdx.x / fours;
    uint2 old = make_uint2(0, 0);
    float row_scale = 0;
    bool there = row < ROWS && t.row + row < p.n_rows && n < p.weight.n;
    const bool add = (p.flags & OCT_LINEAR_ACCUMULATE) && wide && n + 4 <= p.weight.n;
    for (bool first = true;; first = false) {
        if (there) { /* asked for before the others' sums are waited for */
            row_scale = oct_ptr<const float>(p.row_scale)[t.row + row];
            if (add)
                old = *reinterpret_cast<const uint2 *>(oct_ptr<const uint16_t>(p.out) +
                                                       (t.row + row) * p.out_stride + n);
        }
        if (first) {
            if (n_ranks > 1)
                oct_cluster_wait();
            else
                oct_bar_named(1, CONSUMERS);
        }
        if (!there) break;
        int4 sum = *reinterpret_cast<const int4 *>(sums + row * SUM_STRIDE + in);
        for (uint32_t i = 1; i < n_ranks; i++) {
            const int4 more =
                oct_cluster_load4(oct_smem_at(sums + row * SUM_STRIDE + in), (rank + i) % n_ranks);
            sum = make_int4(sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w);
        }
        store_four(p, t.row + row, n, sum, c, row_scale, old, wide);
        row += each;
        there = row < ROWS && t.row + row < p.n_rows;
    }
}

template <int ROWS> OCT_DEVICE void run(const oct_linear_few_params &all, unsigned char *shared) {
    const oct_linear_params &p = all.linear;
    const uint32_t n_ranks = all.n_ranks, rank = blockIdx.x % n_ranks;
    const uint32_t k_tiles = p.weight.k_tiles;
    room room;
    room.stages = shared;
    room.n_stages = p.n_stages;
    room.stage_bytes = OCT_TILE_BYTES + ROWS * OCT_TILE_K_BYTES;
    room.full = oct_smem_at(shared) + oct_linear_few_stages(ROWS, p.n_stages);
    room.empty = room.full + p.n_stages * 8;
    oct_grid_launch_next();
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < p.n_stages; i++) {
            oct_bar_init(room.full + i * 8, 1);
            oct_bar_init(room.empty + i * 8, CONSUMERS / 32);
        }
        oct_bar_publish();
    }
    const part t = {blockIdx.x / n_ranks, blockIdx.y * ROWS, k_tiles * rank / n_ranks,
                    k_tiles * (rank + 1) / n_ranks};
    int32_t *sums = reinterpret_cast<int32_t *>(shared);
    __syncthreads();
    if (threadIdx.x >= CONSUMERS) {
        if (threadIdx.x == CONSUMERS) copy_steps(all, t, room);
        if (n_ranks == 1) return;
        __syncwarp();
        oct_cluster_arrive();
        oct_cluster_wait();
        oct_cluster_arrive();
        oct_cluster_wait();
        return;
    }
    const uint32_t fours = OCT_TILE_OUTPUTS / OUTPUTS_A_THREAD / n_ranks;
    const columns c = columns_of(p, t.block * OCT_TILE_OUTPUTS +
                                        (rank * fours + threadIdx.x % fours) * OUTPUTS_A_THREAD);
    oct_grid_wait();
    multiply<ROWS>(t, room, sums);
    if (n_ranks > 1) oct_cluster_arrive();
    results<ROWS>(p, t, sums, c, n_ranks, rank);
    if (n_ranks == 1) return;
    oct_cluster_arrive(); /* nobody leaves while others read its sums */
    oct_cluster_wait();
}

#endif

/* Empty on other chips: ops_linear.c does not start them there. blocks: of a multiprocessor. */
#if !OCT_EMU && defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FEW(rows, blocks)                                                        \
    extern "C" __global__ void __launch_bounds__(OCT_LINEAR_FEW_THREADS, blocks) \
        oct_linear_few_##rows(const __grid_constant__ oct_linear_few_params p) { \
        OCT_SHARED_DYNAMIC(shared);                                              \
        run<rows>(p, shared);                                                    \
    }
#else
#define FEW(rows, blocks) \
    OCT_KERNEL(linear_few_##rows, oct_linear_few_params, OCT_LINEAR_FEW_THREADS) { (void)p; }
#endif

FEW(8, 2)
FEW(16, 2)
FEW(32, 2)
FEW(64, 2)
FEW(128, 2)
FEW(192, 1)
FEW(256, 1)
