/*
 * kernels/math.cuh - exp and what is made of it, docs/numerics.md section 6: the same operations in
 * the same order as on the CPU, so the same bits.
 */
#ifndef OCT_CUDA_MATH_CUH
#define OCT_CUDA_MATH_CUH

#include <octet/device.h>

#include "dtype.cuh"

OCT_DEVICE float oct_exp(float x) {
    if (x != x) return x;
    if (x > 0x1.62e42ep+6f) return oct_float(0x7f800000u);
    if (x < -0x1.5d589ep+6f) return 0.0f;
    const float t = fmaf(x, 0x1.715476p+0f, 0x1.8p+23f);
    const float n = t - 0x1.8p+23f;
    const float r = fmaf(n, -0x1.7f7d1cp-20f, fmaf(n, -0x1.62e4p-1f, x));
    float q = 0x1.6a2444p-10f;
    q = fmaf(q, r, 0x1.1239d8p-7f);
    q = fmaf(q, r, 0x1.5558f2p-5f);
    q = fmaf(q, r, 0x1.555492p-3f);
    q = fmaf(q, r, 0x1.fffffcp-2f);
    const float p = fmaf(q, r * r, r) + 1.0f;
    return oct_float(oct_bits(p) + (oct_bits(t) << 23));
}

OCT_DEVICE float oct_sigmoid(float x) { return 1.0f / (1.0f + oct_exp(-x)); }

OCT_DEVICE float oct_silu(float x) { return x / (1.0f + oct_exp(-x)); }

OCT_DEVICE float oct_gelu_tanh(float x) {
    return x / (1.0f + oct_exp(-(x * fmaf(0x1.2444f2p-4f, x * x, 0x1.988454p+0f))));
}

OCT_DEVICE float oct_gelu(float x) {
    const float z = oct_float(oct_abs_bits(x)) * 0x1.6a09e6p-1f;
    const float t = 1.0f / fmaf(0.4f, z, 1.0f);
    float g = 0x1.51f3b6p-5f;
    g = fmaf(g, t, -0x1.1f61dcp-3f);
    g = fmaf(g, t, 0x1.580bd6p-4f);
    g = fmaf(g, t, 0x1.684380p-4f);
    g = fmaf(g, t, 0x1.46b550p-4f);
    g = fmaf(g, t, 0x1.8c1064p-3f);
    g = fmaf(g, t, 0x1.9d7792p-3f);
    g = fmaf(g, t, 0x1.cfc15cp-3f);
    g = fmaf(g, t, 0x1.ce1952p-3f);
    const float h = 0.5f * ((g * t) * oct_exp(-(z * z)));
    return x * (x < 0.0f ? h : 1.0f - h);
}

/* c * tanh(s / c), inv_c = 1 / c. */
OCT_DEVICE float oct_softcapped(float s, float c, float inv_c) {
    const float x = s * inv_c;
    const float e = oct_exp(-2.0f * oct_float(oct_abs_bits(x)));
    const float t = (1.0f - e) / (1.0f + e);
    return c * oct_float(oct_bits(t) | (oct_bits(x) & 0x80000000u));
}

OCT_DEVICE float oct_activation(uint32_t kind, float x) {
    switch (kind) {
    case OCTET_ACT_SILU:
        return oct_silu(x);
    case OCTET_ACT_GELU:
        return oct_gelu(x);
    case OCTET_ACT_GELU_TANH:
        return oct_gelu_tanh(x);
    default:
        return x < 0.0f ? 0.0f : x;
    }
}

#endif
