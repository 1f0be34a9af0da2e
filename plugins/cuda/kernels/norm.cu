/*
 * kernels/norm.cu - norms with residual and quantised copy (docs/numerics.md, section 3).
 *
 * What is normed is the sum in float32, not the bf16 of it that goes back to x. Sums: a thread's
 * elements in order with fmaf, then the tree of oct_group_sum.
 */
#include "rows.h"

#include "rows.cuh"

template <int C>
OCT_DEVICE void load_sum(const oct_norm_params &p, const oct_group &g, float v[C][8]) {
    uint16_t *x = oct_ptr<uint16_t>(p.x.data) + g.row * p.x.stride;
    const uint16_t *add =
        p.add.data ? oct_ptr<const uint16_t>(p.add.data) + g.row * p.add.stride : nullptr;
#pragma unroll(C > 4 ? 1 : C)
    for (int c = 0; c < C; c++) {
        const uint32_t at = (g.thread + static_cast<uint32_t>(c) * g.n) * 8;
        oct_load8(v[c], x, at, p.width, p.x.vec != 0);
        if (!add || at >= p.width) continue;
        float a[8];
        oct_load8(a, add, at, p.width, p.add.vec != 0);
        for (int i = 0; i < 8; i++) v[c][i] = v[c][i] + a[i];
        oct_store8(x, v[c], at, p.width, p.x.vec != 0);
    }
}

/* Takes the mean off; what lies beyond the row stays 0. */
template <int C>
OCT_DEVICE void centre(const oct_norm_params &p, const oct_group &g, float v[C][8]) {
    float sum = 0.0f;
#pragma unroll(C > 4 ? 1 : C)
    for (int c = 0; c < C; c++)
        for (int i = 0; i < 8; i++) sum = sum + v[c][i];
    const float mean = oct_group_sum(g, sum, 1) / static_cast<float>(p.width);
#pragma unroll(C > 4 ? 1 : C)
    for (int c = 0; c < C; c++) {
        const uint32_t at = (g.thread + static_cast<uint32_t>(c) * g.n) * 8;
        for (uint32_t i = 0; i < 8; i++) v[c][i] = at + i < p.width ? v[c][i] - mean : 0.0f;
    }
}

template <int C> OCT_DEVICE void norm(const oct_norm_params &p) {
    OCT_SHARED(float, room, 64);
    const oct_group g = oct_group_of(p.group, room);
    /* Weights do not wait for the kernel before; where they fit beside the row. */
    constexpr bool EARLY = C <= 2;
    float v[C][8], early[EARLY ? C : 1][8];
#pragma unroll
    for (int c = 0; EARLY && c < C; c++)
        oct_load8_f32(early[EARLY ? c : 0], oct_ptr<const float>(p.weight),
                      (g.thread + static_cast<uint32_t>(c) * g.n) * 8, p.width);
    oct_grid_wait();
    /* Not before: a product asks for its first weights when it begins, and while the one before
     * this norm still reads its own, that only makes it late (steps took 9 % longer). */
    oct_grid_launch_next();
    if (g.row >= p.n_rows) return;
    load_sum<C>(p, g, v);
    if (p.kind == OCTET_NORM_LAYER) centre<C>(p, g, v);
    float sum = 0.0f;
#pragma unroll(C > 4 ? 1 : C)
    for (int c = 0; c < C; c++)
        for (int i = 0; i < 8; i++) sum = fmaf(v[c][i], v[c][i], sum);
    sum = oct_group_sum(g, sum, 0);
    const float r = 1.0f / sqrtf(sum / static_cast<float>(p.width) + p.eps);
    uint16_t *out = oct_ptr<uint16_t>(p.out.data) + g.row * p.out.stride;
#pragma unroll(C > 4 ? 1 : C)
    for (int c = 0; c < C; c++) {
        const uint32_t at = (g.thread + static_cast<uint32_t>(c) * g.n) * 8;
        if (at >= p.width) continue;
        float w[8], b[8];
        if (!EARLY) oct_load8_f32(w, oct_ptr<const float>(p.weight), at, p.width);
        if (p.bias) oct_load8_f32(b, oct_ptr<const float>(p.bias), at, p.width);
        for (int i = 0; i < 8; i++) {
            v[c][i] = (v[c][i] * r) * (EARLY ? early[EARLY ? c : 0][i] : w[i]);
            if (p.bias) v[c][i] = v[c][i] + b[i];
        }
        if (p.out.data) oct_store8(out, v[c], at, p.width, p.out.vec != 0);
    }
    if (p.quant.mode) oct_quant_row<C>(p.quant, g, v, p.width, p.fault, 1);
}

OCT_KERNEL(norm_1, oct_norm_params, 256) { norm<1>(p); }
OCT_KERNEL(norm_2, oct_norm_params, 256) { norm<2>(p); }
OCT_KERNEL(norm_4, oct_norm_params, 1024) { norm<4>(p); }
OCT_KERNEL(norm_16, oct_norm_params, 1024) { norm<16>(p); }
