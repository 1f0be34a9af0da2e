/* kernels/weight.cu - rows of a checkpoint into tiles (weight.h). */
#include "weight_pack.h"

#include "simt.cuh"
#include "weight.h"

#include "ptx.cuh"

/* A thread moves 16 bytes of the padded row: a piece that lies together in the tiles as well. */
OCT_KERNEL(weight_pack, oct_weight_pack_params, 256) {
    oct_grid_wait();
    const uint64_t pieces = static_cast<uint64_t>(p.k_tiles) * (OCT_TILE_K_BYTES / 16);
    const uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const uint64_t r = i / pieces, at = i % pieces * 16;
    if (r >= p.n_rows) return;
    const uint8_t *from = oct_ptr<const uint8_t>(p.rows) + r * p.row_bytes;
    const uint64_t all = p.first + r, expert = all / p.n, out = all % p.n;
    uint32_t w[4] = {0, 0, 0, 0};
    for (uint32_t b = 0; b < 16; b++)
        if (at + b < p.row_bytes) w[b / 4] |= static_cast<uint32_t>(from[at + b]) << (8 * (b % 4));
    *oct_ptr<uint4>(p.tiles + expert * p.expert_bytes + oct_tile_offset(p.k_tiles, out, at)) =
        make_uint4(w[0], w[1], w[2], w[3]);
}
