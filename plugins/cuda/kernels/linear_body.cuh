/*
 * kernels/linear_body.cuh - products through mma.sync, for every architecture, shape and stride.
 *
 * A block of 256 threads streams its piece (linear_walk.cuh) through a ring of stages in shared
 * memory: of each step along k a tile of weights, as it lies in memory (16 KiB), and the same 128
 * bytes of ROWS rows. Weights are the A operand of the tensor cores (16 outputs), rows the B
 * operand (8 rows), so that few rows waste little; ldmatrix brings int8 and bfloat16 the same way,
 * so that the two products differ only in what is done with a step's sums:
 *
 *   int8   sums are exact. A tile that blocks share is added up in the slot of its owner with
 *          atomic additions; who comes last takes the sums, leaves zeros and finishes the tile.
 *   float  a chunk of k (256) is summed from 0, chunks are added ascending, whoever computed them:
 *          a row's result must not depend on the split. Shared tiles leave a sum a chunk in the
 *          owner's slot; who comes last adds them in order.
 *
 * Rows that do not begin at multiples of 16 bytes are fetched byte by byte: right, not fast.
 * Rejected: cutting k by the number of blocks for floats (results would depend on it); rows as the
 * A operand (16 rows at least, and for one row 15/16 of the products for nothing); staging results
 * in shared memory before they are stored (the ring holds what comes next).
 */
#ifndef OCT_CUDA_KERNELS_LINEAR_BODY_CUH
#define OCT_CUDA_KERNELS_LINEAR_BODY_CUH

#include "dtype.cuh"
#include "linear_walk.cuh"
#include "ptx.cuh"
#include "rows.cuh"

/* Tiles that are asked for early: what the second cache can keep for all blocks. */
enum { OCT_LINEAR_ASK = 12 };

/* How the 8 warps share a tile: MS x NS fragments of 16 outputs x 8 rows each. */
template <int ROWS> struct oct_linear_shape {
    static constexpr int WARPS_N = ROWS >= 64 ? 2 : 1;
    static constexpr int WARPS_M = 8 / WARPS_N;
    static constexpr int MS = 8 / WARPS_M, NS = ROWS / 8 / WARPS_N;
    static constexpr int SUMS = MS * NS * 4;
    static constexpr uint32_t STAGE = OCT_TILE_BYTES + ROWS * OCT_TILE_K_BYTES;
    static constexpr int ROW_PIECES = ROWS <= 32 ? 1 : ROWS / 32; /* 16 bytes each, of a thread */
};

/* ---- loading --------------------------------------------------------------------------------- */

/* What the next step to be loaded is. */
template <int ROWS> struct oct_linear_loader {
    uint32_t tile, expert, k_tile, plane, n_planes;
    oct_addr weights;                                 /* plane 0, tile 0 of the block of outputs */
    oct_addr row[oct_linear_shape<ROWS>::ROW_PIECES]; /* 0: no such row */
};

template <int ROWS>
OCT_DEVICE void oct_linear_aim(const oct_linear_params &p, const oct_walk &w,
                               oct_linear_loader<ROWS> *l) {
    if (l->tile >= w.n_tiles) return;
    const oct_walk_tile t = oct_walk_find<ROWS>(p, w, l->tile, &l->expert);
    l->weights = p.weight.tiles + t.expert * p.weight.expert_bytes +
                 (uint64_t)t.block * p.weight.k_tiles * OCT_TILE_BYTES;
    OCT_UNROLL
    for (int j = 0; j < oct_linear_shape<ROWS>::ROW_PIECES; j++) {
        const uint32_t in = threadIdx.x / 8 + 32 * j;
        const uint32_t row = t.row + in;
        l->row[j] = 0;
        if (in >= ROWS || row >= t.row_end) continue;
        uint32_t from = row;
        if (p.map) {
            from = (uint32_t)oct_ptr<const int32_t>(p.map)[row];
            if (from >= p.n_in) {
                oct_raise(p.fault, OCT_FAULT_GROUPED_ROW, (int32_t)from);
                continue;
            }
        }
        l->row[j] = p.rows + (uint64_t)from * p.row_bytes;
    }
}

/* 16 bytes of a row, of which n are there; the others become zero. */
OCT_DEVICE void oct_linear_fetch_bytes(void *dst, oct_addr src, uint32_t n) {
    uint32_t word[4] = {0, 0, 0, 0};
    OCT_UNROLL
    for (uint32_t i = 0; i < 16; i++)
        if (i < n) word[i / 4] |= (uint32_t)((const uint8_t *)(src))[i] << (8 * (i % 4));
    uint32_t *to = (uint32_t *)dst;
    to[0] = word[0];
    to[1] = word[1];
    to[2] = word[2];
    to[3] = word[3];
}

template <int ROWS>
OCT_DEVICE void oct_linear_load(const oct_linear_params &p, const oct_linear_loader<ROWS> &l,
                                unsigned char *stage) {
    const char *from = (const char *)(l.weights + l.plane * p.weight.plane_bytes) +
                       (uint64_t)l.k_tile * OCT_TILE_BYTES + threadIdx.x * 16;
    OCT_UNROLL
    for (uint32_t i = 0; i < OCT_TILE_BYTES; i += OCT_LINEAR_THREADS * 16)
        oct_cp_async16(oct_smem_at(stage + i + threadIdx.x * 16), from + i);
    const uint32_t piece = threadIdx.x % 8, at = l.k_tile * OCT_TILE_K_BYTES + piece * 16;
    const uint32_t left = at < p.k_bytes ? p.k_bytes - at : 0, most = left < 16 ? left : 16;
    OCT_UNROLL
    for (int j = 0; j < oct_linear_shape<ROWS>::ROW_PIECES; j++) {
        const uint32_t in = threadIdx.x / 8 + 32 * j;
        if (in >= ROWS) continue;
        unsigned char *to =
            stage + OCT_TILE_BYTES + in * OCT_TILE_K_BYTES + ((piece ^ (in & 7)) << 4);
        const uint32_t n = l.row[j] ? most : 0;
        if (p.flags & OCT_LINEAR_ALIGNED)
            oct_cp_async16(oct_smem_at(to), (const void *)(n ? l.row[j] + at : p.weight.tiles), n);
        else
            oct_linear_fetch_bytes(to, l.row[j] + at, n);
    }
}

template <int ROWS>
OCT_DEVICE void oct_linear_next(const oct_linear_params &p, const oct_walk &w,
                                oct_linear_loader<ROWS> *l) {
    if (++l->plane < l->n_planes) return;
    l->plane = 0;
    if (++l->k_tile < p.weight.k_tiles) return;
    l->k_tile = 0;
    l->tile++;
    oct_linear_aim<ROWS>(p, w, l);
}

/* Waits until at most n of the newest groups of copies are on their way. */
OCT_DEVICE void oct_linear_wait(uint32_t n) {
    switch (n) {
    case 0:
        oct_cp_wait<0>();
        break;
    case 1:
        oct_cp_wait<1>();
        break;
    case 2:
        oct_cp_wait<2>();
        break;
    case 3:
        oct_cp_wait<3>();
        break;
    case 4:
        oct_cp_wait<4>();
        break;
    case 5:
        oct_cp_wait<5>();
        break;
    case 6:
        oct_cp_wait<6>();
        break;
    case 7:
        oct_cp_wait<7>();
        break;
    case 8:
        oct_cp_wait<8>();
        break;
    default:
        oct_cp_wait<9>();
        break;
    }
}

/* ---- a step ---------------------------------------------------------------------------------- */

struct oct_linear_i8 {
    typedef int32_t sum;
    static constexpr bool FLOAT = false;
    OCT_DEVICE void mma(sum *d, const uint32_t *a, const uint32_t *b) { oct_mma_s8(d, a, b); }
};

struct oct_linear_bf16 {
    typedef float sum;
    static constexpr bool FLOAT = true;
    OCT_DEVICE void mma(sum *d, const uint32_t *a, const uint32_t *b) { oct_mma_bf16(d, a, b); }
};

/* sums[MS][NS][4] += the step in a stage. */
template <int ROWS, class KIND>
OCT_DEVICE void oct_linear_step(const unsigned char *stage, typename KIND::sum *sums) {
    typedef oct_linear_shape<ROWS> S;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t m0 = warp % S::WARPS_M * (S::MS * 16), n0 = warp / S::WARPS_M * (S::NS * 8);
    const unsigned char *rows = stage + OCT_TILE_BYTES;
    uint32_t b[S::NS][4]; /* one row block: two steps of 32 bytes; else b of one step in [0..1] */
    OCT_UNROLL
    for (uint32_t k = 0; k < 4; k++) {
        uint32_t a[S::MS][4];
        OCT_UNROLL
        for (int i = 0; i < S::MS; i++) {
            const uint32_t r = m0 + i * 16 + lane % 16, piece = 2 * k + lane / 16;
            oct_ldmatrix4(a[i],
                          oct_smem_at(stage + r * OCT_TILE_K_BYTES + ((piece ^ (r & 7)) << 4)));
        }
        if (S::NS == 1) {
            const uint32_t r = lane % 8, piece = 2 * k + lane / 8;
            if (k % 2 == 0)
                oct_ldmatrix4(b[0],
                              oct_smem_at(rows + r * OCT_TILE_K_BYTES + ((piece ^ (r & 7)) << 4)));
        } else {
            OCT_UNROLL
            for (int j = 0; j < S::NS; j += 2) {
                const uint32_t r = n0 + j * 8 + lane % 8 + lane / 16 * 8;
                const uint32_t piece = 2 * k + lane / 8 % 2;
                uint32_t two[4];
                oct_ldmatrix4(two,
                              oct_smem_at(rows + r * OCT_TILE_K_BYTES + ((piece ^ (r & 7)) << 4)));
                b[j][0] = two[0];
                b[j][1] = two[1];
                b[(j + 1) % S::NS][0] = two[2];
                b[(j + 1) % S::NS][1] = two[3];
            }
        }
        OCT_UNROLL
        for (int i = 0; i < S::MS; i++) OCT_UNROLL
        for (int j = 0; j < S::NS; j++)
            KIND::mma(sums + (i * S::NS + j) * 4, a[i], S::NS == 1 ? b[0] + k % 2 * 2 : b[j]);
    }
}

/* ---- results --------------------------------------------------------------------------------- */

OCT_DEVICE float oct_linear_value(int32_t sum, int32_t int_bias, float row_scale, float col_scale) {
    return (float)(sum + int_bias) * row_scale * col_scale;
}

OCT_DEVICE void oct_linear_store(const oct_linear_params &p, uint64_t at, float y) {
    if (p.flags & OCT_LINEAR_OUT_F32) {
        float *out = oct_ptr<float>(p.out) + at;
        *out = p.flags & OCT_LINEAR_ACCUMULATE ? *out + y : y;
        return;
    }
    uint16_t *out = oct_ptr<uint16_t>(p.out) + at;
    *out = oct_f32_bf16(p.flags & OCT_LINEAR_ACCUMULATE ? oct_bf16_f32(*out) + y : y);
}

/* The numbers of an output. */
struct oct_linear_column {
    float scale, bias;
    int32_t int_bias;
};

template <bool FLOAT>
OCT_DEVICE oct_linear_column oct_linear_column_of(const oct_linear_params &p, uint64_t at) {
    oct_linear_column c = {1, 0, 0};
    if (!FLOAT) c.scale = oct_ptr<const float>(p.weight.col_scale)[at];
    if (!FLOAT && p.weight.int_bias) c.int_bias = oct_ptr<const int32_t>(p.weight.int_bias)[at];
    if (p.weight.bias) c.bias = oct_ptr<const float>(p.weight.bias)[at];
    return c;
}

OCT_DEVICE float oct_linear_finish(int32_t sum, const oct_linear_column &c, float row_scale) {
    return oct_linear_value(sum, c.int_bias, row_scale, c.scale);
}
OCT_DEVICE float oct_linear_finish(float sum, const oct_linear_column &, float) { return sum; }

template <int ROWS, class KIND>
OCT_DEVICE void oct_linear_results(const oct_linear_params &p, const oct_walk_tile &t,
                                   const typename KIND::sum *sums) {
    typedef oct_linear_shape<ROWS> S;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t m0 = warp % S::WARPS_M * (S::MS * 16), n0 = warp / S::WARPS_M * (S::NS * 8);
    float row_scale[S::NS * 2];
    OCT_UNROLL
    for (int j = 0; j < S::NS * 2; j++) {
        const uint32_t row = t.row + n0 + j / 2 * 8 + lane % 4 * 2 + j % 2;
        uint32_t from = row;
        row_scale[j] = 1;
        if (KIND::FLOAT || row >= t.row_end) continue;
        if (p.map) from = (uint32_t)oct_ptr<const int32_t>(p.map)[row];
        if (from < p.n_in) row_scale[j] = oct_ptr<const float>(p.row_scale)[from];
    }
    OCT_UNROLL
    for (int i = 0; i < S::MS * 2; i++) {
        const uint32_t n = t.block * OCT_TILE_OUTPUTS + m0 + i * 8 + lane / 4;
        if (n >= p.weight.n) continue;
        const oct_linear_column c =
            oct_linear_column_of<KIND::FLOAT>(p, (uint64_t)t.expert * p.weight.n + n);
        OCT_UNROLL
        for (int j = 0; j < S::NS * 2; j++) {
            const uint32_t row = t.row + n0 + j / 2 * 8 + lane % 4 * 2 + j % 2;
            if (row >= t.row_end) continue;
            float y = oct_linear_finish(sums[(i / 2 * S::NS + j / 2) * 4 + i % 2 * 2 + j % 2], c,
                                        row_scale[j]);
            if (p.weight.bias) y = y + c.bias;
            oct_linear_store(p, row * p.out_stride + n, y);
        }
    }
}

/* ---- shared tiles ---------------------------------------------------------------------------- */

/* True, for all threads, when the tile's units are all done with these. What other blocks left is
 * visible then. */
OCT_DEVICE bool oct_linear_arrive(const oct_linear_params &p, uint32_t owner, uint32_t n,
                                  uint32_t units, uint32_t *said) {
    uint32_t *counter = oct_ptr<uint32_t>(p.counters) + owner;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        const bool last = atomicAdd(counter, n) + n == units;
        if (last) *counter = 0;
        *said = last;
    }
    __syncthreads();
    const bool last = *said != 0;
    __threadfence();
    return last;
}

/* The sums of a shared int8 tile, if this block is the last; leaves zeros. */
template <int SUMS>
OCT_DEVICE bool oct_linear_join(const oct_linear_params &p, uint32_t owner, uint32_t n,
                                uint32_t units, int32_t *sums, uint32_t *said) {
    int32_t *slot =
        oct_ptr<int32_t>(p.slots) + (uint64_t)owner * SUMS * OCT_LINEAR_THREADS + threadIdx.x;
    OCT_UNROLL
    for (int i = 0; i < SUMS; i++) atomicAdd(slot + i * OCT_LINEAR_THREADS, sums[i]);
    if (!oct_linear_arrive(p, owner, n, units, said)) return false;
    OCT_UNROLL
    for (int i = 0; i < SUMS; i++) {
        sums[i] = *(volatile const int32_t *)(slot + i * OCT_LINEAR_THREADS);
        slot[i * OCT_LINEAR_THREADS] = 0;
    }
    return true;
}

/* Where the sums of chunk c of a shared float tile are. */
template <int SUMS>
OCT_DEVICE float *oct_linear_chunk(const oct_linear_params &p, uint32_t owner, uint32_t units,
                                   uint32_t c) {
    return oct_ptr<float>(p.slots) + ((uint64_t)owner * units + c) * SUMS * OCT_LINEAR_THREADS +
           threadIdx.x;
}

/* The sums of a shared float tile, if this block is the last. */
template <int SUMS>
OCT_DEVICE bool oct_linear_join(const oct_linear_params &p, uint32_t owner, uint32_t n,
                                uint32_t units, float *sums, uint32_t *said) {
    if (!oct_linear_arrive(p, owner, n, units, said)) return false;
    for (uint32_t c = 0; c < units; c++) {
        const float *chunk = oct_linear_chunk<SUMS>(p, owner, units, c);
        OCT_UNROLL
        for (int i = 0; i < SUMS; i++) {
            const float x = *(volatile const float *)(chunk + i * OCT_LINEAR_THREADS);
            sums[i] = c ? sums[i] + x : x;
        }
    }
    return true;
}

/* ---- the kernel ------------------------------------------------------------------------------ */

/* Steps of a tile, of a unit, and units of a tile. */
struct oct_linear_cut {
    uint32_t steps, unit_steps, units;
};

template <bool FLOAT>
OCT_DEVICE oct_linear_cut oct_linear_cut_of(const oct_linear_params &p, uint32_t n_planes) {
    oct_linear_cut c;
    c.steps = p.weight.k_tiles * n_planes;
    c.unit_steps = FLOAT ? OCT_LINEAR_CHUNK_TILES * n_planes : 1;
    if (!(p.flags & OCT_LINEAR_SPLIT)) c.unit_steps = c.steps;
    c.units = oct_walk_blocks(c.steps, c.unit_steps);
    return c;
}

/* Steps of all tiles before a unit. */
OCT_DEVICE uint64_t oct_linear_steps_before(const oct_linear_cut &c, uint64_t unit) {
    const uint64_t in = unit % c.units * c.unit_steps;
    return unit / c.units * c.steps + in;
}

/* Weights do not wait for the kernel before this one: the first of them are asked for while it
 * drains. Where a row of tiles is all there is, a block's steps are one piece of memory. */
template <int ROWS>
OCT_DEVICE void oct_linear_ask(const oct_linear_params &p, uint32_t n_planes, uint64_t first_step,
                               uint64_t n_steps) {
    if (p.n_rows > ROWS || n_planes > 1 || threadIdx.x >= OCT_LINEAR_ASK) return;
    if (threadIdx.x < n_steps)
        oct_prefetch(p.weight.tiles + (first_step + threadIdx.x) * OCT_TILE_BYTES, OCT_TILE_BYTES);
}

template <int ROWS, class KIND>
OCT_DEVICE void oct_linear_run(const oct_linear_params &p, unsigned char *shared) {
    typedef oct_linear_shape<ROWS> S;
    typedef typename KIND::sum sum;
    const uint32_t n_stages = p.n_stages;
    uint32_t *said = (uint32_t *)(shared + n_stages * S::STAGE);
    oct_grid_launch_next();
    if (p.first) oct_grid_wait(); /* which experts have rows was found out by the kernel before */
    const oct_walk walk = oct_walk_open<ROWS>(p, said + 4, OCT_TILE_OUTPUTS);
    const uint32_t n_planes = KIND::FLOAT && p.weight.planes
                                  ? oct_weight_planes(*oct_ptr<const uint32_t>(p.weight.planes))
                                  : 1;
    const oct_linear_cut cut = oct_linear_cut_of<KIND::FLOAT>(p, n_planes);
    const oct_walk_piece piece = oct_walk_share(walk, cut.units);
    const uint64_t first_step = oct_linear_steps_before(cut, piece.begin);
    const uint64_t n_steps = oct_linear_steps_before(cut, piece.end) - first_step;
    if (!p.first) {
        oct_linear_ask<ROWS>(p, n_planes, first_step, n_steps);
        oct_grid_wait();
    }
    if (n_steps == 0) return;
    const uint32_t chunk_steps = KIND::FLOAT ? OCT_LINEAR_CHUNK_TILES * n_planes : cut.steps;

    uint32_t tile = (uint32_t)(first_step / cut.steps), step = (uint32_t)(first_step % cut.steps);
    oct_linear_loader<ROWS> l;
    l.tile = tile;
    l.n_planes = n_planes;
    l.expert = oct_walk_expert(p, walk, tile);
    l.k_tile = step / n_planes;
    l.plane = step % n_planes;
    oct_linear_aim<ROWS>(p, walk, &l);
    uint32_t expert = l.expert, begun = step; /* at which step this block began the tile */

    uint64_t loaded = 0;
    for (uint32_t i = 0; i + 1 < n_stages; i++) {
        if (loaded < n_steps) {
            oct_linear_load<ROWS>(p, l, shared + i * S::STAGE);
            oct_linear_next<ROWS>(p, walk, &l);
            loaded++;
        }
        oct_cp_commit();
    }
    sum sums[S::SUMS], total[KIND::FLOAT ? S::SUMS : 1];
    OCT_UNROLL
    for (int i = 0; i < S::SUMS; i++) sums[i] = 0;
    uint32_t stage = 0, free_stage = n_stages - 1;
    for (uint64_t done = 0; done < n_steps; done++) {
        oct_linear_wait(n_stages - 2);
        __syncthreads();
        if (loaded < n_steps) {
            oct_linear_load<ROWS>(p, l, shared + free_stage * S::STAGE);
            oct_linear_next<ROWS>(p, walk, &l);
            loaded++;
        }
        oct_cp_commit();
        if (++free_stage == n_stages) free_stage = 0;
        oct_linear_step<ROWS, KIND>(shared + stage * S::STAGE, sums);
        if (++stage == n_stages) stage = 0;
        step++;

        const bool ends = step == cut.steps, stops = ends || done + 1 == n_steps;
        /* Whether this block computes all of the tile: only then are sums kept in registers. */
        const bool whole = begun == 0 && n_steps - done - 1 >= cut.steps - step;
        if (KIND::FLOAT && (ends || step % chunk_steps == 0)) {
            const uint32_t c = (step - 1) / chunk_steps;
            if (whole) {
                OCT_UNROLL
                for (int i = 0; i < S::SUMS; i++) {
                    total[KIND::FLOAT ? i : 0] = c ? total[KIND::FLOAT ? i : 0] + sums[i] : sums[i];
                    sums[i] = 0;
                }
            } else {
                float *slot = oct_linear_chunk<S::SUMS>(p, oct_walk_owner(piece, tile, cut.units),
                                                        cut.units, c);
                OCT_UNROLL
                for (int i = 0; i < S::SUMS; i++) {
                    slot[i * OCT_LINEAR_THREADS] = (float)sums[i];
                    sums[i] = 0;
                }
            }
        }
        if (!stops) continue;
        bool mine = true;
        if (KIND::FLOAT && whole) {
            OCT_UNROLL
            for (int i = 0; i < S::SUMS; i++) sums[i] = total[KIND::FLOAT ? i : 0];
        }
        if (!whole) {
            const uint32_t units = oct_walk_blocks(step, cut.unit_steps) - begun / cut.unit_steps;
            mine = oct_linear_join<S::SUMS>(p, oct_walk_owner(piece, tile, cut.units), units,
                                            cut.units, sums, said);
        }
        if (mine) {
            const oct_walk_tile t = oct_walk_find<ROWS>(p, walk, tile, &expert);
            oct_linear_results<ROWS, KIND>(p, t, sums);
        }
        OCT_UNROLL
        for (int i = 0; i < S::SUMS; i++) sums[i] = 0;
        if (ends) {
            tile++;
            step = 0;
            begun = 0;
        }
    }
}

#endif
