/*
 * kernels/dtype.cuh - number types from and to float32, and the roundings of docs/numerics.md.
 * Narrowing rounds to nearest even; E4M3 saturates at 448 and keeps NaN.
 */
#ifndef OCT_CUDA_DTYPE_CUH
#define OCT_CUDA_DTYPE_CUH

#include "simt.cuh"

OCT_DEVICE uint32_t oct_bits(float v) {
#if OCT_EMU
    return emu_bits(v);
#else
    return __float_as_uint(v);
#endif
}

OCT_DEVICE float oct_float(uint32_t bits) {
#if OCT_EMU
    return emu_float(bits);
#else
    return __uint_as_float(bits);
#endif
}

OCT_DEVICE float oct_nan() { return oct_float(0x7fc00000u); }

/* Magnitude as an ordered integer: NaN above infinity above every number. */
OCT_DEVICE uint32_t oct_abs_bits(float v) { return oct_bits(v) & 0x7fffffffu; }

/* The larger one; NaN if either is. */
OCT_DEVICE float oct_max_nan(float a, float b) {
#if OCT_EMU
    return a != a || b != b ? oct_nan() : a > b ? a : b;
#else
    float c;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
#endif
}

/* ---- bfloat16 -------------------------------------------------------------------------------- */

OCT_DEVICE float oct_bf16_f32(uint16_t h) { return oct_float(static_cast<uint32_t>(h) << 16); }
/* The two of a register: the lower first. */
OCT_DEVICE float oct_bf16_low(uint32_t pair) { return oct_float(pair << 16); }
OCT_DEVICE float oct_bf16_high(uint32_t pair) { return oct_float(pair & 0xffff0000u); }

OCT_DEVICE uint16_t oct_f32_bf16(float v) {
#if OCT_EMU
    const uint32_t u = oct_bits(v);
    if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(0x7fff);
    return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
#else
    uint16_t h;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(v));
    return h;
#endif
}

OCT_DEVICE uint32_t oct_f32_bf16x2(float low, float high) {
#if OCT_EMU
    return oct_f32_bf16(low) | static_cast<uint32_t>(oct_f32_bf16(high)) << 16;
#else
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

/* ---- half ------------------------------------------------------------------------------------ */

OCT_DEVICE float oct_f16_f32(uint16_t h) {
#if OCT_EMU
    return emu_f16_f32(h);
#else
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(h));
    return v;
#endif
}

OCT_DEVICE uint16_t oct_f32_f16(float v) {
#if OCT_EMU
    return emu_f32_f16(v);
#else
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v));
    return h;
#endif
}

OCT_DEVICE uint32_t oct_f32_f16x2(float low, float high) {
#if OCT_EMU
    return emu_f32_f16(low) | static_cast<uint32_t>(emu_f32_f16(high)) << 16;
#else
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

/* The two of a register. */
OCT_DEVICE float oct_f16_low(uint32_t pair) { return oct_f16_f32(static_cast<uint16_t>(pair)); }
OCT_DEVICE float oct_f16_high(uint32_t pair) {
    return oct_f16_f32(static_cast<uint16_t>(pair >> 16));
}

/* ---- E4M3: sign, 4 bits of exponent (bias 7), 3 bits; 0x7f and 0xff are NaN ---------------------
 */

OCT_DEVICE float oct_e4m3_f32(uint8_t b) {
    const uint32_t m = b & 0x7fu, sign = static_cast<uint32_t>(b & 0x80u) << 24;
    /* Moved to a float's place the bits are the value times 2^-120: exact, subnormals included. */
    const float v = m == 0x7f ? oct_nan() : oct_float(m << 20) * 0x1p120f;
    return oct_float(oct_bits(v) | sign);
}

/* Two of them, the lower first, as halves: exact. */
OCT_DEVICE uint32_t oct_e4m3x2_f16x2(uint32_t pair) {
#if !OCT_EMU && __CUDA_ARCH__ >= 890
    uint32_t halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(pair)));
    return halves;
#else
    return oct_f32_f16x2(oct_e4m3_f32(static_cast<uint8_t>(pair)),
                         oct_e4m3_f32(static_cast<uint8_t>(pair >> 8)));
#endif
}

OCT_DEVICE uint8_t oct_f32_e4m3(float v) {
    const uint32_t u = oct_abs_bits(v), sign = (oct_bits(v) >> 24) & 0x80u;
    if (u > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
    if (u >= 0x43e80000u) return static_cast<uint8_t>(sign | 0x7eu); /* 464 and more: 448 */
    if (u < 0x3c800000u) { /* below 2^-6: whole numbers of 2^-9, 8 of them the first normal one */
        const float n = rintf(oct_float(u) * 512.0f);
        return static_cast<uint8_t>(sign | static_cast<uint32_t>(n));
    }
    const uint32_t rounded = u + 0x7ffffu + ((u >> 20) & 1u);
    const uint32_t code = (rounded >> 20) - (120u << 3);
    return static_cast<uint8_t>(sign | (code > 0x7eu ? 0x7eu : code));
}

/* ---- int8 ------------------------------------------------------------------------------------ */

/* Nearest integer, ties to even, then -128 .. 127; NaN gives 0. */
OCT_DEVICE int32_t oct_sat8(float x) {
#if OCT_EMU
    if (x != x) return 0;
    const float r = rintf(x);
    return static_cast<int32_t>(r < -128.0f ? -128.0f : r > 127.0f ? 127.0f : r);
#else
    int32_t r; /* saturates; a NaN gives 0 */
    asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
#endif
}

/* The low bytes of four integers, the first lowest. */
OCT_DEVICE uint32_t oct_pack4(int32_t a, int32_t b, int32_t c, int32_t d) {
    return (static_cast<uint32_t>(a) & 0xffu) | (static_cast<uint32_t>(b) & 0xffu) << 8 |
           (static_cast<uint32_t>(c) & 0xffu) << 16 | (static_cast<uint32_t>(d) & 0xffu) << 24;
}

#endif
