/*
 * kernels/pack.cu - rows of a checkpoint into the tiles of weight.h.
 *
 * A thread makes one piece of 16 bytes in each plane; what lies behind k is written as zeros. Reads
 * go element by element: a row may begin anywhere, and the way over the bus is much slower.
 */
#include "dtype.cuh"
#include "simt.cuh"

#include "ptx.cuh"
#include "weight.h"

#include <octet/device.h>

/* Stores 8 values as pieces of bf16 planes; answers which planes got anything. */
OCT_DEVICE uint32_t pack_planes(const float v[8], unsigned char *to, uint64_t plane_bytes,
                                uint32_t n_planes) {
    float left[8];
    uint32_t used = 0;
    for (int i = 0; i < 8; i++) left[i] = v[i];
    for (uint32_t plane = 0; plane < n_planes; plane++) {
        uint32_t word[4];
        for (int i = 0; i < 8; i += 2) {
            /* The leading bits, cut off: what is left is exact. Of NaN and infinity nothing is. */
            const uint32_t low = oct_bits(left[i]) >> 16, high = oct_bits(left[i + 1]) >> 16;
            word[i / 2] = low | high << 16;
            for (int j = 0; j < 2; j++) {
                const uint32_t top = (j ? high : low) << 16;
                const bool is_number = (top & 0x7f800000u) != 0x7f800000u;
                left[i + j] = is_number ? left[i + j] - oct_float(top) : 0.0f;
            }
            if (word[i / 2] & 0x7fff7fffu) used |= 1u << plane;
        }
        *reinterpret_cast<uint4 *>(to + plane * plane_bytes) =
            make_uint4(word[0], word[1], word[2], word[3]);
    }
    return used;
}

OCT_DEVICE float pack_read(oct_addr rows, uint64_t at, uint32_t dtype) {
    if (dtype == OCTET_F32) return oct_ptr<const float>(rows)[at];
    const uint16_t half = oct_ptr<const uint16_t>(rows)[at];
    return dtype == OCTET_BF16 ? oct_bf16_f32(half) : oct_f16_f32(half);
}

/* A NaN whose payload is all in the low half must stay one when that is cut off. */
OCT_DEVICE float pack_quiet(float v) { return v == v ? v : oct_nan(); }

OCT_KERNEL(pack, oct_pack_params, 256) {
    oct_grid_wait();
    const uint32_t per_row = p.weight.k_tiles * (OCT_TILE_K_BYTES / 16);
    const uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= p.n_rows * per_row) return;
    const uint64_t r = at / per_row, expert = (p.row + r) / p.weight.n,
                   output = (p.row + r) % p.weight.n;
    const uint32_t piece = (uint32_t)(at % per_row), k = p.weight.k;
    unsigned char *to =
        oct_ptr<unsigned char>(p.weight.tiles + expert * p.weight.expert_bytes +
                               oct_tile_offset(p.weight.k_tiles, output, (uint64_t)piece * 16));
    if (p.weight.dtype == OCTET_I8) {
        const uint8_t *from = oct_ptr<const uint8_t>(p.rows) + r * k;
        uint32_t word[4] = {0, 0, 0, 0};
        for (uint32_t i = 0; i < 16; i++)
            if (piece * 16 + i < k) word[i / 4] |= (uint32_t)from[piece * 16 + i] << (i % 4 * 8);
        *reinterpret_cast<uint4 *>(to) = make_uint4(word[0], word[1], word[2], word[3]);
    } else {
        const uint32_t n_planes = p.weight.dtype == OCTET_F32   ? 3
                                  : p.weight.dtype == OCTET_F16 ? 2
                                                                : 1;
        float v[8];
        for (uint32_t i = 0; i < 8; i++)
            v[i] = piece * 8 + i < k
                       ? pack_quiet(pack_read(p.rows, r * k + piece * 8 + i, p.weight.dtype))
                       : 0.0f;
        const uint32_t used = pack_planes(v, to, p.weight.plane_bytes, n_planes);
        if (used & 6) atomicOr(oct_ptr<uint32_t>(p.weight.planes), used);
    }
    if (piece) return;
    const uint64_t number = p.row + r;
    oct_ptr<float>(p.weight.bias)[number] = oct_ptr<const float>(p.bias)[r];
    if (p.weight.dtype != OCTET_I8) return;
    oct_ptr<float>(p.weight.col_scale)[number] = oct_ptr<const float>(p.scale)[r];
    oct_ptr<int32_t>(p.weight.int_bias)[number] = oct_ptr<const int32_t>(p.int_bias)[r];
}
