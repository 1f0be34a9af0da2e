/*
 * kernels/linear_sm90.cu - int8 products of many rows on Hopper: persistent blocks of one warp that
 * copies and two warpgroups that multiply (wgmma m64n256k32).
 *
 * A tile of the result is 128 rows x 256 outputs, a step 128 bytes of k: the rows come through a
 * tensor map (which swizzles them and fills what is outside with zeros), or one box a row where an
 * expert's rows are picked from the batch; the weights are two tiles as they lie in memory. Four
 * steps are on their way. Each warpgroup has 64 rows and all 256 outputs, 128 sums a thread; while
 * it turns them into results the copies of the next tile's first steps go on.
 *
 * Block b computes the tiles b, b + gridDim, ...: those that run together are neighbours in the
 * order of linear_walk.cuh and share weights and rows in the second level cache. Sums are exact, so
 * this product and that of linear_body.cuh give the same bits; the tests compare them.
 *
 * Rejected: 256 x 128 tiles (as many bytes, twice as many instructions); results through shared
 * memory (four lanes trade their pairs instead and store 16 bytes each).
 */
#include "linear_sm90.h"

#include "simt.cuh"

#if !OCT_EMU && defined(__CUDA_ARCH_FEAT_SM90_ALL)

#include "dtype.cuh"
#include "linear_walk.cuh"
#include "rows.cuh"
#include "sm90.cuh"

enum { CONSUMERS = 2, SUMS = OCT_SM90_OUTPUTS / 2, ROW_BYTES = OCT_SM90_ROWS * OCT_TILE_K_BYTES };

/* Shared memory: stages, barriers, groups. */
struct room {
    unsigned char *stages;
    oct_smem full, empty; /* [OCT_SM90_STAGES] of 8 bytes each */
};

struct position {
    uint32_t stage, parity;
};

OCT_DEVICE void advance(position *at) {
    if (++at->stage == OCT_SM90_STAGES) {
        at->stage = 0;
        at->parity ^= 1;
    }
}

/* ---- copying -----------------------------------------------------------------------------------
 */

/* The weights of a step: one or two tiles, whichever there are. */
OCT_DEVICE void load_weights(const oct_linear_params &p, const oct_walk_tile &t, uint32_t k_tile,
                             oct_smem stage, oct_smem full) {
    const uint64_t block = 2 * t.block;
    const oct_addr from = p.weight.tiles + t.expert * p.weight.expert_bytes +
                          (block * p.weight.k_tiles + k_tile) * OCT_TILE_BYTES;
    oct_bulk_load(stage + ROW_BYTES, oct_ptr<const void>(from), OCT_TILE_BYTES, full);
    if ((block + 1) * OCT_TILE_OUTPUTS < p.weight.n)
        oct_bulk_load(stage + ROW_BYTES + OCT_TILE_BYTES,
                      oct_ptr<const void>(from + (uint64_t)p.weight.k_tiles * OCT_TILE_BYTES),
                      OCT_TILE_BYTES, full);
}

/* What a lane knows of the rows of a tile: of every 32nd where they are picked. */
struct picked {
    int32_t row[OCT_SM90_ROWS / 32]; /* -1: none */
    uint32_t n;                      /* of the tile */
};

OCT_DEVICE picked pick(const oct_linear_params &p, const oct_walk_tile &t) {
    picked k;
    k.n = 0;
    OCT_UNROLL
    for (int i = 0; i < OCT_SM90_ROWS / 32; i++) {
        const uint32_t row = t.row + i * 32 + threadIdx.x % 32;
        k.row[i] = row < t.row_end ? oct_ptr<const int32_t>(p.map)[row] : -1;
        if (row < t.row_end && (uint32_t)k.row[i] >= p.n_in) {
            oct_raise(p.fault, OCT_FAULT_GROUPED_ROW, k.row[i]);
            k.row[i] = -1;
        }
        k.n += __popc(__ballot_sync(0xffffffffu, k.row[i] >= 0));
    }
    return k;
}

/* By one warp. Weights do not wait for the kernel before: those of the first steps are asked for
 * before its results are there, except where it says which experts have rows. */
OCT_DEVICE void copy_steps(const oct_linear_sm90_params &all, const oct_walk &walk,
                           const room &room) {
    const oct_linear_params &p = all.linear;
    const uint32_t lane = threadIdx.x % 32;
    position at = {0, 0};
    uint32_t expert = 0;
    bool waited = false;
    if (lane == 0) oct_tensor_prefetch(all.x_map);
    for (uint32_t tile = blockIdx.x; tile < walk.n_tiles; tile += gridDim.x) {
        const oct_walk_tile t = oct_walk_find<OCT_SM90_ROWS>(p, walk, tile, &expert);
        const uint32_t n_weights =
            (2 * t.block + 1) * OCT_TILE_OUTPUTS < p.weight.n ? 2 * OCT_TILE_BYTES : OCT_TILE_BYTES;
        picked rows = {{0}, 0};
        if (p.map) rows = pick(p, t);
        const uint32_t n_bytes = n_weights + (p.map ? rows.n * OCT_TILE_K_BYTES : ROW_BYTES);
        uint32_t ahead = 0; /* steps whose weights were asked for already */
        if (!waited) {
            ahead = p.weight.k_tiles < OCT_SM90_STAGES ? p.weight.k_tiles : OCT_SM90_STAGES;
            for (uint32_t k = 0; k < ahead && lane == 0; k++) {
                oct_bar_expect(room.full + k * 8, n_bytes);
                load_weights(p, t, k, oct_smem_at(room.stages) + k * OCT_SM90_STAGE_BYTES,
                             room.full + k * 8);
            }
            oct_grid_wait();
            waited = true;
        }
        for (uint32_t k = 0; k < p.weight.k_tiles; k++) {
            const oct_smem stage = oct_smem_at(room.stages) + at.stage * OCT_SM90_STAGE_BYTES;
            const oct_smem full = room.full + at.stage * 8;
            if (k >= ahead) {
                oct_bar_wait(room.empty + at.stage * 8, at.parity ^ 1);
                if (lane == 0) {
                    oct_bar_expect(full, n_bytes);
                    load_weights(p, t, k, stage, full);
                }
            }
            __syncwarp();
            const int32_t column = (int32_t)(k * OCT_TILE_K_BYTES);
            if (!p.map) {
                if (lane == 0) oct_tensor_load(stage, all.x_map, column, (int32_t)t.row, full);
            } else {
                OCT_UNROLL
                for (int i = 0; i < OCT_SM90_ROWS / 32; i++)
                    if (rows.row[i] >= 0)
                        oct_tensor_load(stage + (i * 32 + lane) * OCT_TILE_K_BYTES, all.x_map,
                                        column, rows.row[i], full);
            }
            advance(&at);
        }
    }
    if (!waited) oct_grid_wait();
}

/* ---- results -----------------------------------------------------------------------------------
 */

/* Lane t of four holds a pair of columns in each of four blocks of eight; afterwards it holds the
 * four pairs of block t. */
OCT_DEVICE void trade(uint32_t u[4]) {
    const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
    OCT_UNROLL
    for (int b = 0; b < 4; b += 2) {
        const uint32_t got = __shfl_xor_sync(0xffffffffu, odd ? u[b] : u[b + 1], 1);
        if (odd)
            u[b] = got;
        else
            u[b + 1] = got;
    }
    OCT_UNROLL
    for (int b = 0; b < 2; b++) {
        const uint32_t got = __shfl_xor_sync(0xffffffffu, high ? u[b] : u[b + 2], 2);
        if (high)
            u[b] = got;
        else
            u[b + 2] = got;
    }
}

/* The numbers of two adjacent outputs; of outputs that are not there any. */
struct columns {
    float scale[2], bias[2];
    int32_t int_bias[2];
};

OCT_DEVICE columns columns_of(const oct_linear_params &p, uint32_t expert, uint32_t n) {
    columns c;
    OCT_UNROLL
    for (int e = 0; e < 2; e++) {
        const bool there = n + e < p.weight.n;
        const uint64_t at = (uint64_t)expert * p.weight.n + n + e;
        c.scale[e] = there ? __ldg(oct_ptr<const float>(p.weight.col_scale) + at) : 0;
        c.int_bias[e] =
            there && p.weight.int_bias ? __ldg(oct_ptr<const int32_t>(p.weight.int_bias) + at) : 0;
        c.bias[e] = there && p.weight.bias ? __ldg(oct_ptr<const float>(p.weight.bias) + at) : 0;
    }
    return c;
}

OCT_DEVICE float result(const oct_linear_params &p, int32_t sum, const columns &c, int e,
                        float row_scale) {
    const float y = (float)(sum + c.int_bias[e]) * row_scale * c.scale[e];
    return p.weight.bias ? y + c.bias[e] : y;
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

/* The sums of 64 rows and 256 outputs. wide: rows of the result begin at multiples of 16 bytes and
 * hold bf16. */
OCT_DEVICE void store_tile(const oct_linear_params &p, const oct_walk_tile &t, uint32_t first_row,
                           const int32_t (&d)[SUMS], bool wide) {
    const uint32_t lane = threadIdx.x % 32, quad = lane % 4;
    uint32_t row[2];
    float row_scale[2];
    bool there[2];
    OCT_UNROLL
    for (int h = 0; h < 2; h++) {
        row[h] = first_row + lane / 4 + 8 * h;
        there[h] = row[h] < t.row_end;
        uint32_t from = row[h];
        if (there[h] && p.map) from = (uint32_t)oct_ptr<const int32_t>(p.map)[row[h]];
        row_scale[h] = there[h] && from < p.n_in ? oct_ptr<const float>(p.row_scale)[from] : 0;
    }
    OCT_UNROLL
    for (int group = 0; group < SUMS / 16; group++) { /* 32 outputs each */
        const uint32_t n0 = t.block * OCT_SM90_OUTPUTS + group * 32;
        if (n0 >= p.weight.n) break;
        const bool whole = wide && n0 + 32 <= p.weight.n;
        uint32_t pair[2][4];
        OCT_UNROLL
        for (int b = 0; b < 4; b++) {
            const uint32_t n = n0 + b * 8 + 2 * quad;
            const columns c = columns_of(p, t.expert, n);
            OCT_UNROLL
            for (int h = 0; h < 2; h++) {
                const int i = (group * 4 + b) * 4 + 2 * h;
                const uint64_t at = row[h] * p.out_stride + n;
                float y0 = result(p, d[i], c, 0, row_scale[h]);
                float y1 = result(p, d[i + 1], c, 1, row_scale[h]);
                if (!whole) {
                    if (there[h] && n < p.weight.n) store_one(p, at, y0);
                    if (there[h] && n + 1 < p.weight.n) store_one(p, at + 1, y1);
                    continue;
                }
                if (p.flags & OCT_LINEAR_ACCUMULATE && there[h]) {
                    const uint32_t old =
                        *reinterpret_cast<const uint32_t *>(oct_ptr<const uint16_t>(p.out) + at);
                    y0 = oct_bf16_low(old) + y0;
                    y1 = oct_bf16_high(old) + y1;
                }
                pair[h][b] = oct_f32_bf16x2(y0, y1);
            }
        }
        if (!whole) continue;
        OCT_UNROLL
        for (int h = 0; h < 2; h++) {
            trade(pair[h]);
            if (there[h])
                *reinterpret_cast<uint4 *>(oct_ptr<uint16_t>(p.out) + row[h] * p.out_stride + n0 +
                                           8 * quad) =
                    make_uint4(pair[h][0], pair[h][1], pair[h][2], pair[h][3]);
        }
    }
}

/* ---- multiplying -------------------------------------------------------------------------------
 */

/* By one of the two warpgroups. */
OCT_DEVICE void multiply(const oct_linear_params &p, const oct_walk &walk, const room &room,
                         uint32_t group) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const bool wide = !(p.flags & OCT_LINEAR_OUT_F32) && p.out % 16 == 0 && p.out_stride % 8 == 0;
    position at = {0, 0};
    uint32_t expert = 0;
    int32_t d[SUMS];
    for (uint32_t tile = blockIdx.x; tile < walk.n_tiles; tile += gridDim.x) {
        const oct_walk_tile t = oct_walk_find<OCT_SM90_ROWS>(p, walk, tile, &expert);
        uint32_t before = 0;
        for (uint32_t k = 0; k < p.weight.k_tiles; k++) {
            const oct_smem stage = oct_smem_at(room.stages) + at.stage * OCT_SM90_STAGE_BYTES;
            oct_bar_wait(room.full + at.stage * 8, at.parity);
            const uint64_t a = oct_wgmma_operand(stage + group * (ROW_BYTES / CONSUMERS));
            const uint64_t b = oct_wgmma_operand(stage + ROW_BYTES);
            oct_wgmma_fence();
            OCT_UNROLL
            for (uint32_t i = 0; i < 4; i++)
                oct_wgmma_s8_256(d, a + 2 * i, b + 2 * i, k > 0 || i > 0);
            oct_wgmma_commit();
            if (k > 0) { /* the step before is done with its stage */
                oct_wgmma_wait<1>();
                if (lane == 0) oct_bar_arrive(room.empty + before * 8);
            }
            before = at.stage;
            advance(&at);
        }
        oct_wgmma_wait<0>();
        if (lane == 0) oct_bar_arrive(room.empty + before * 8);
        store_tile(p, t, t.row + group * 64 + warp * 16, d, wide);
    }
}

#endif

/* Empty on other chips: ops_linear.c does not start it there. */
OCT_KERNEL(linear_sm90, oct_linear_sm90_params, OCT_SM90_THREADS) {
#if !OCT_EMU && defined(__CUDA_ARCH_FEAT_SM90_ALL)
    OCT_SHARED_DYNAMIC(shared);
    unsigned char *const behind = shared + OCT_SM90_STAGES * OCT_SM90_STAGE_BYTES;
    room room;
    room.stages = shared;
    room.full = oct_smem_at(behind);
    room.empty = room.full + OCT_SM90_STAGES * 8;
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < OCT_SM90_STAGES; i++) {
            oct_bar_init(room.full + i * 8, 1);
            oct_bar_init(room.empty + i * 8, CONSUMERS * 4);
        }
        oct_bar_publish();
    }
    oct_grid_launch_next();
    if (p.linear.first) oct_grid_wait();
    const oct_walk walk = oct_walk_open<OCT_SM90_ROWS>(
        p.linear, reinterpret_cast<uint32_t *>(behind + OCT_SM90_STAGES * 16), OCT_SM90_OUTPUTS);
    __syncthreads();
    if (threadIdx.x < 128) {
        oct_registers_less<40>();
        if (threadIdx.x < 32) copy_steps(p, walk, room);
    } else {
        oct_registers_more<232>();
        oct_grid_wait();
        multiply(p.linear, walk, room, threadIdx.x / 128 - 1);
    }
#else
    (void)p;
#endif
}
