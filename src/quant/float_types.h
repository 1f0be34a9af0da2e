/*
 * quant/float_types.h - bfloat16, half and FP8 E4M3 (the finite kind, "FN") from and to float32.
 *
 * Narrowing rounds to nearest, ties to even. bfloat16 and half overflow to infinity; E4M3 has no
 * infinity and saturates at 448 (infinities too). NaN stays NaN, its payload is not kept.
 *
 * The *_row functions read from memory of any alignment. Threads: pure functions.
 */
#ifndef OCT_QUANT_FLOAT_TYPES_H
#define OCT_QUANT_FLOAT_TYPES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t oct_f32_bits(float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static inline float oct_f32_from_bits(uint32_t u) {
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

static inline float oct_bf16_to_f32(uint16_t h) { return oct_f32_from_bits((uint32_t)h << 16); }

static inline uint16_t oct_f32_to_bf16(float v) {
    const uint32_t u = oct_f32_bits(v);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)((u >> 16) | 0x40u); /* quiet NaN */
    return (uint16_t)((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
}

/* The bits of a half, moved to their place in a float, are the value times 2^-112: one exact
 * multiplication also normalises subnormals. */
static inline float oct_f16_to_f32(uint16_t h) {
    const uint32_t magnitude = (uint32_t)(h & 0x7FFFu) << 13;
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t finite = oct_f32_bits(oct_f32_from_bits(magnitude) * 0x1p112f);
    const uint32_t bits = magnitude >= 0x0F800000u ? magnitude | 0x7F800000u : finite;
    return oct_f32_from_bits(bits | sign);
}

uint16_t oct_f32_to_f16(float v);
float oct_e4m3_to_f32(uint8_t b);
uint8_t oct_f32_to_e4m3(float v);

void oct_bf16_row_to_f32(const void *src, size_t n, float *dst);
void oct_f16_row_to_f32(const void *src, size_t n, float *dst);
void oct_e4m3_row_to_f32(const void *src, size_t n, float *dst);

#endif
