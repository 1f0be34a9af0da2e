/*
 * quant/float_types.c - narrowing by integer arithmetic on the bit patterns, so that no rounding
 * mode or compiler flag has a say.
 */
#include "quant/float_types.h"

/* mantissa (with its hidden bit) shifted right by n, rounded to nearest even. n in 1..31. */
static uint32_t shift_rne(uint32_t mantissa, uint32_t n) {
    const uint32_t half = 1u << (n - 1), rest = mantissa & ((1u << n) - 1u);
    const uint32_t kept = mantissa >> n;
    return kept + (rest > half || (rest == half && (kept & 1u)));
}

uint16_t oct_f32_to_f16(float v) {
    const uint32_t u = oct_f32_bits(v), abs = u & 0x7FFFFFFFu;
    const uint32_t sign = (u >> 16) & 0x8000u;
    if (abs > 0x7F800000u) return (uint16_t)(sign | 0x7E00u);
    if (abs >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u); /* 65520 and more: infinity */
    if (abs >= 0x38800000u)                                    /* 2^-14 and more: normal */
        return (uint16_t)(sign | shift_rne(abs - 0x38000000u, 13));
    if (abs < 0x33000000u) return (uint16_t)sign; /* below half of the least subnormal, 2^-25 */
    const uint32_t mantissa = (abs & 0x7FFFFFu) | 0x800000u;
    return (uint16_t)(sign | shift_rne(mantissa, 126u - (abs >> 23)));
}

float oct_e4m3_to_f32(uint8_t b) {
    const uint32_t sign = (uint32_t)(b & 0x80u) << 24, exponent = (b >> 3) & 0xFu, m = b & 7u;
    if (exponent == 15 && m == 7) return oct_f32_from_bits(sign | 0x7FC00000u);
    if (exponent == 0) {
        const float v = (float)m * 0x1p-9f;
        return sign ? -v : v;
    }
    return oct_f32_from_bits(sign | (exponent + 120u) << 23 | m << 20);
}

uint8_t oct_f32_to_e4m3(float v) {
    const uint32_t u = oct_f32_bits(v), abs = u & 0x7FFFFFFFu;
    const uint32_t sign = (u >> 24) & 0x80u;
    if (abs > 0x7F800000u) return (uint8_t)(sign | 0x7Fu);
    if (abs >= 0x43E00000u) return (uint8_t)(sign | 0x7Eu); /* 448 and more */
    if (abs >= 0x3C800000u) {                               /* 2^-6 and more: normal */
        const uint32_t code = shift_rne(abs - 0x3C000000u, 20);
        return (uint8_t)(sign | (code > 0x7Eu ? 0x7Eu : code));
    }
    if (abs < 0x3A800000u) return (uint8_t)sign; /* below 2^-10 */
    const uint32_t mantissa = (abs & 0x7FFFFFu) | 0x800000u;
    return (uint8_t)(sign | shift_rne(mantissa, 141u - (abs >> 23)));
}

void oct_bf16_row_to_f32(const void *src, size_t n, float *dst) {
    const unsigned char *p = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof h);
        dst[i] = oct_bf16_to_f32(h);
    }
}

void oct_f16_row_to_f32(const void *src, size_t n, float *dst) {
    const unsigned char *p = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof h);
        dst[i] = oct_f16_to_f32(h);
    }
}

void oct_e4m3_row_to_f32(const void *src, size_t n, float *dst) {
    const unsigned char *p = src;
    for (size_t i = 0; i < n; i++) dst[i] = oct_e4m3_to_f32(p[i]);
}
