/*
 * kernels/linear_walk.cuh - which block of threads computes which part of a product.
 *
 * The result is cut into tiles of 128 (or 256) outputs x ROWS rows, the rows of an expert starting
 * a tile of their own. Tiles are numbered expert by expert; within one, GROUP blocks of rows share
 * a block of outputs before the next block follows, so that tiles computed at the same time need
 * few different weights and rows and find them in the second level cache.
 *
 * The work of a tile is `units` equal parts along k (one, if a tile is not to be shared). All units
 * in a row, tile after tile, are cut into as many even pieces as there are blocks of threads: piece
 * b is units b * U / B .. (b + 1) * U / B - 1. So the work is even whatever the shape and however
 * rows fell on experts, nobody waits for the host to know, and a block shares at most its first and
 * its last tile. A shared tile belongs to the block that has its first unit, which can have no
 * other that it does not finish itself: one slot for partial sums a block is enough.
 */
#ifndef OCT_CUDA_KERNELS_LINEAR_WALK_CUH
#define OCT_CUDA_KERNELS_LINEAR_WALK_CUH

#include "simt.cuh"

#include "linear.h"

#define OCT_WALK_GROUP 16u

typedef struct oct_walk {
    const int32_t *first;  /* shared; NULL: one matrix */
    const uint32_t *tiles; /* shared: tiles before an expert */
    uint32_t n_blocks;     /* of outputs */
    uint32_t n_tiles;
} oct_walk;

/* Rows row .. row_end - 1 (the end of the expert's) and outputs block * 128 .. of an expert. */
typedef struct oct_walk_tile {
    uint32_t expert, block, row, row_end;
} oct_walk_tile;

OCT_DEVICE uint32_t oct_walk_blocks(uint32_t n, uint32_t size) { return (n + size - 1) / size; }

/* The rows of expert e, within the rows that there are. */
OCT_DEVICE int32_t oct_walk_first(const oct_linear_params &p, uint32_t e) {
    const int32_t at = oct_ptr<const int32_t>(p.first)[e];
    return at < 0 ? 0 : at > (int32_t)p.n_rows ? (int32_t)p.n_rows : at;
}

/* By all threads of a block; shared: oct_linear_group_bytes. Ends with a barrier if there are
 * experts. */
template <int ROWS>
OCT_DEVICE oct_walk oct_walk_open(const oct_linear_params &p, uint32_t *shared, uint32_t outputs) {
    oct_walk w;
    w.n_blocks = oct_walk_blocks(p.weight.n, outputs);
    w.first = NULL;
    w.tiles = NULL;
    w.n_tiles = w.n_blocks * oct_walk_blocks(p.n_rows, ROWS);
    if (!p.first) return w;
    int32_t *first = (int32_t *)shared;
    uint32_t *tiles = shared + p.n_experts + 1, *sums = tiles + p.n_experts + 1;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    uint32_t before = 0;
    for (uint32_t from = 0; from < p.n_experts; from += blockDim.x) {
        const uint32_t e = from + threadIdx.x;
        const int32_t begin = e < p.n_experts ? oct_walk_first(p, e) : 0;
        const int32_t end = e < p.n_experts ? oct_walk_first(p, e + 1) : 0;
        const uint32_t n =
            end > begin ? w.n_blocks * oct_walk_blocks((uint32_t)(end - begin), ROWS) : 0;
        uint32_t sum = n; /* of the warp's experts up to this one */
        for (uint32_t d = 1; d < 32; d *= 2) {
            const uint32_t other = __shfl_up_sync(0xffffffffu, sum, d);
            if (lane >= d) sum += other;
        }
        if (lane == 31) sums[warp] = sum;
        __syncthreads();
        uint32_t all = 0;
        for (uint32_t i = 0; i < n_warps; i++) {
            if (i == warp) sum += all;
            all += sums[i];
        }
        if (e < p.n_experts) {
            tiles[e] = before + sum - n;
            first[e] = begin;
            first[e + 1] = end; /* what its own thread writes too */
        }
        before += all;
        __syncthreads();
    }
    if (threadIdx.x == 0) tiles[p.n_experts] = before;
    __syncthreads();
    w.first = first;
    w.tiles = tiles;
    w.n_tiles = before;
    return w;
}

/* *expert: a hint, not behind the tile's; moves on. */
template <int ROWS>
OCT_DEVICE oct_walk_tile oct_walk_find(const oct_linear_params &p, const oct_walk &w, uint32_t tile,
                                       uint32_t *expert) {
    oct_walk_tile t;
    uint32_t row = 0, row_end = p.n_rows, e = 0;
    if (w.first) {
        e = *expert;
        while (tile >= w.tiles[e + 1]) e++;
        *expert = e;
        tile -= w.tiles[e];
        row = (uint32_t)w.first[e];
        row_end = (uint32_t)w.first[e + 1];
    }
    const uint32_t n_row_blocks = oct_walk_blocks(row_end - row, ROWS);
    const uint32_t full = OCT_WALK_GROUP * w.n_blocks, group = tile / full;
    const uint32_t left = n_row_blocks - group * OCT_WALK_GROUP;
    const uint32_t high = left < OCT_WALK_GROUP ? left : OCT_WALK_GROUP;
    const uint32_t in = tile - group * full;
    t.expert = e;
    t.block = in / high;
    t.row = row + (group * OCT_WALK_GROUP + in % high) * ROWS;
    t.row_end = row_end;
    return t;
}

/* The expert whose tiles begin at or before this one: where a hint starts. */
OCT_DEVICE uint32_t oct_walk_expert(const oct_linear_params &p, const oct_walk &w, uint32_t tile) {
    uint32_t low = 0, high = p.n_experts;
    if (!w.first) return 0;
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (w.tiles[middle] <= tile)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Units begin .. end - 1 of all: the piece of this block. */
typedef struct oct_walk_piece {
    uint64_t n_units, begin, end;
} oct_walk_piece;

OCT_DEVICE oct_walk_piece oct_walk_share(const oct_walk &w, uint32_t units) {
    oct_walk_piece piece;
    piece.n_units = (uint64_t)w.n_tiles * units;
    piece.begin = piece.n_units * blockIdx.x / gridDim.x;
    piece.end = piece.n_units * (blockIdx.x + 1) / gridDim.x;
    return piece;
}

/* The block that has the first unit of a tile. */
OCT_DEVICE uint32_t oct_walk_owner(const oct_walk_piece &piece, uint32_t tile, uint32_t units) {
    const uint64_t unit = (uint64_t)tile * units;
    return (uint32_t)(((unit + 1) * gridDim.x - 1) / piece.n_units);
}

#endif
