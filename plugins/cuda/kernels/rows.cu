/* kernels/rows.cu - operations on rows that know nothing of each other. Arguments: rows.h. */
#include "rows.h"

#include "math.cuh"
#include "rows.cuh"

/* ---- quantize -------------------------------------------------------------------------------- */

template <int C> OCT_DEVICE void quantize(const oct_quantize_params &p) {
    OCT_SHARED(float, room, 64);
    const oct_group g = oct_group_of(p.group, room);
    float v[C][8];
    oct_grid_launch_next();
    oct_grid_wait();
    if (g.row >= p.n_rows) return;
    const uint16_t *x = oct_ptr<const uint16_t>(p.x.data) + g.row * p.x.stride;
#pragma unroll(C > 4 ? 1 : C)
    for (int c = 0; c < C; c++) {
        const uint32_t at = (g.thread + static_cast<uint32_t>(c) * g.n) * 8;
        oct_load8(v[c], x, at, p.width, p.x.vec != 0);
        if (!p.mul) continue;
        float m[8];
        oct_load8_f32(m, oct_ptr<const float>(p.mul), at, p.width);
        for (int i = 0; i < 8; i++) v[c][i] = v[c][i] * m[i];
    }
    oct_quant_row<C>(p.quant, g, v, p.width, p.fault, 0);
}

OCT_KERNEL(quantize_1, oct_quantize_params, 256) { quantize<1>(p); }
OCT_KERNEL(quantize_2, oct_quantize_params, 256) { quantize<2>(p); }
OCT_KERNEL(quantize_4, oct_quantize_params, 1024) { quantize<4>(p); }
OCT_KERNEL(quantize_16, oct_quantize_params, 1024) { quantize<16>(p); }

/* ---- act ------------------------------------------------------------------------------------- */

template <int C> OCT_DEVICE void act(const oct_act_params &p) {
    OCT_SHARED(float, room, 64);
    const oct_group g = oct_group_of(p.group, room);
    float v[C][8];
    oct_grid_launch_next();
    oct_grid_wait();
    if (g.row >= p.n_rows) return;
    const uint16_t *x = oct_ptr<const uint16_t>(p.x.data) + g.row * p.x.stride;
    const uint16_t *up = x + p.width;
    const bool vec_up = p.x.vec != 0 && p.width % 8 == 0;
    uint16_t *out = oct_ptr<uint16_t>(p.out.data) + g.row * p.out.stride;
#pragma unroll(C > 4 ? 1 : C)
    for (int c = 0; c < C; c++) {
        const uint32_t at = (g.thread + static_cast<uint32_t>(c) * g.n) * 8;
        oct_load8(v[c], x, at, p.width, p.x.vec != 0);
        if (at >= p.width) continue;
        float u[8];
        if (p.gated) oct_load8(u, up, at, p.width, vec_up);
        for (int i = 0; i < 8; i++) {
            v[c][i] = oct_activation(p.kind, v[c][i]);
            if (p.gated) v[c][i] = v[c][i] * u[i];
        }
        if (p.out.data) oct_store8(out, v[c], at, p.width, p.out.vec != 0);
    }
    if (p.quant.mode)
        oct_quant_row<C>(p.quant, g, v, p.width, p.fault, 0);
    else if (g.n > blockDim.x)
        oct_cluster_wait(); /* oct_group_of arrived */
}

OCT_KERNEL(act_1, oct_act_params, 256) { act<1>(p); }
OCT_KERNEL(act_2, oct_act_params, 256) { act<2>(p); }
OCT_KERNEL(act_4, oct_act_params, 1024) { act<4>(p); }
OCT_KERNEL(act_16, oct_act_params, 1024) { act<16>(p); }

/* ---- embed ----------------------------------------------------------------------------------- */

OCT_DEVICE uint64_t flat_index() {
    return static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

/* Elements at .. at + 8 of one output of a float matrix, the sum of its planes, which is exact;
 * beyond k the tiles hold zeros. */
OCT_DEVICE void load_weight8(float v[8], const oct_p_weight &w, uint64_t n, uint64_t at) {
    const char *piece = oct_ptr<const char>(w.tiles) + oct_tile_offset(w.k_tiles, n, at * 2);
    const uint32_t n_planes = w.planes ? oct_weight_planes(*oct_ptr<const uint32_t>(w.planes)) : 1;
    for (uint32_t plane = 0; plane < n_planes; plane++) {
        const uint4 u = *reinterpret_cast<const uint4 *>(piece + plane * w.plane_bytes);
        const uint32_t pairs[4] = {u.x, u.y, u.z, u.w};
        for (int i = 0; i < 8; i += 2) {
            v[i] = plane ? v[i] + oct_bf16_low(pairs[i / 2]) : oct_bf16_low(pairs[i / 2]);
            v[i + 1] = plane ? v[i + 1] + oct_bf16_high(pairs[i / 2]) : oct_bf16_high(pairs[i / 2]);
        }
    }
}

OCT_KERNEL(embed, oct_embed_params, 256) {
    const uint64_t pieces = (p.table.k + 7) / 8, i = flat_index();
    oct_grid_launch_next();
    oct_grid_wait();
    if (i >= p.n_rows * pieces) return;
    const uint64_t row = i / pieces;
    const uint32_t at = static_cast<uint32_t>(i % pieces) * 8;
    const int32_t id = oct_ptr<const int32_t>(p.ids)[row];
    float v[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (id >= 0 && static_cast<uint32_t>(id) < p.table.n)
        load_weight8(v, p.table, static_cast<uint64_t>(id), at);
    else
        oct_raise(p.fault, OCT_FAULT_EMBED_ID, id);
    for (int e = 0; e < 8; e++) v[e] = v[e] * p.scale;
    oct_store8(oct_ptr<uint16_t>(p.out.data) + row * p.out.stride, v, at, p.table.k,
               p.out.vec != 0);
}

/* ---- gather, softcap, feed ---------------------------------------------------------------------
 */

OCT_KERNEL(gather, oct_gather_params, 256) {
    const uint64_t pieces = (p.width + 7) / 8, i = flat_index();
    oct_grid_launch_next();
    oct_grid_wait();
    if (i >= p.n_rows * pieces) return;
    const uint64_t row = i / pieces;
    const uint32_t at = static_cast<uint32_t>(i % pieces) * 8;
    const int32_t from = oct_ptr<const int32_t>(p.index)[row];
    if (from < 0 || static_cast<uint64_t>(from) >= p.n_there) {
        oct_raise(p.fault, OCT_FAULT_GATHER_ROW, from);
        return;
    }
    const uint16_t *x =
        oct_ptr<const uint16_t>(p.x.data) + static_cast<uint64_t>(from) * p.x.stride;
    uint16_t *out = oct_ptr<uint16_t>(p.out.data) + row * p.out.stride;
    if (p.x.vec && p.out.vec && at + 8 <= p.width) {
        *reinterpret_cast<uint4 *>(out + at) = *reinterpret_cast<const uint4 *>(x + at);
        return;
    }
    for (uint32_t e = at; e < at + 8 && e < p.width; e++) out[e] = x[e];
}

OCT_KERNEL(softcap, oct_softcap_params, 256) {
    const uint64_t pieces = (p.width + 3) / 4, i = flat_index();
    oct_grid_launch_next();
    oct_grid_wait();
    if (i >= p.n_rows * pieces) return;
    const uint32_t at = static_cast<uint32_t>(i % pieces) * 4;
    float *x = oct_ptr<float>(p.x.data) + i / pieces * p.x.stride + at;
    if (p.x.vec && at + 4 <= p.width) {
        float4 f = *reinterpret_cast<const float4 *>(x);
        f.x = oct_softcapped(f.x, p.cap, p.inv_cap);
        f.y = oct_softcapped(f.y, p.cap, p.inv_cap);
        f.z = oct_softcapped(f.z, p.cap, p.inv_cap);
        f.w = oct_softcapped(f.w, p.cap, p.inv_cap);
        *reinterpret_cast<float4 *>(x) = f;
        return;
    }
    for (uint32_t e = 0; e < 4 && at + e < p.width; e++)
        x[e] = oct_softcapped(x[e], p.cap, p.inv_cap);
}

OCT_KERNEL(feed, oct_feed_params, 256) {
    const uint64_t r = flat_index();
    oct_grid_launch_next();
    oct_grid_wait();
    if (r >= p.n_rows) return;
    const int32_t from = oct_ptr<const int32_t>(p.from)[r];
    if (from < 0) return;
    if (static_cast<uint32_t>(from) >= p.n_drawn) {
        oct_raise(p.fault, OCT_FAULT_FEED_FROM, from);
        return;
    }
    const int32_t token = oct_ptr<const octet_sample_out>(p.drawn)[from].token;
    oct_ptr<int32_t>(p.ids)[r] = token >= 0 && static_cast<uint32_t>(token) < p.n_vocab ? token : 0;
}
