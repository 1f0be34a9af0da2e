/*
 * store/gguf_quants.c - one function a block type.
 *
 * Blocks of 32 keep the low nibbles of elements 0..15 and the high nibbles of 16..31 in the same
 * byte. Blocks of 256 ("K") keep 6-bit sub-scales: eight scales and eight minima packed into twelve
 * bytes, see k4_scale.
 */
#include "store/gguf_quants.h"

#include <string.h>

#include "base/assert.h"
#include "quant/float_types.h"

static float half_at(const unsigned char *p) {
    return oct_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

static uint32_t u32_at(const unsigned char *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* half d; 16 bytes of nibbles */
static void q4_0(const unsigned char *b, float *y) {
    const float d = half_at(b);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)((b[2 + i] & 15) - 8) * d;
        y[i + 16] = (float)((b[2 + i] >> 4) - 8) * d;
    }
}

/* half d, half m; 16 bytes of nibbles */
static void q4_1(const unsigned char *b, float *y) {
    const float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)(b[4 + i] & 15) * d + m;
        y[i + 16] = (float)(b[4 + i] >> 4) * d + m;
    }
}

/* half d; 32 fifth bits; 16 bytes of nibbles */
static void q5_0(const unsigned char *b, float *y) {
    const float d = half_at(b);
    const uint32_t high = u32_at(b + 2);
    for (int i = 0; i < 16; i++) {
        const int lo = (b[6 + i] & 15) | (int)(high >> i & 1) << 4;
        const int hi = (b[6 + i] >> 4) | (int)(high >> (i + 16) & 1) << 4;
        y[i] = (float)(lo - 16) * d;
        y[i + 16] = (float)(hi - 16) * d;
    }
}

/* half d, half m; 32 fifth bits; 16 bytes of nibbles */
static void q5_1(const unsigned char *b, float *y) {
    const float d = half_at(b), m = half_at(b + 2);
    const uint32_t high = u32_at(b + 4);
    for (int i = 0; i < 16; i++) {
        const int lo = (b[8 + i] & 15) | (int)(high >> i & 1) << 4;
        const int hi = (b[8 + i] >> 4) | (int)(high >> (i + 16) & 1) << 4;
        y[i] = (float)lo * d + m;
        y[i + 16] = (float)hi * d + m;
    }
}

/* half d; 32 signed bytes */
static void q8_0(const unsigned char *b, float *y) {
    const float d = half_at(b);
    for (int i = 0; i < 32; i++) y[i] = (float)(signed char)b[2 + i] * d;
}

/* Scale and minimum j of eight: the first four lie in the low six bits of bytes j and j + 4; the
 * others have their low nibbles in bytes 8..11 and their upper two bits on top of the first. */
static void k4_scale(const unsigned char *s, int j, float *scale, float *min) {
    if (j < 4) {
        *scale = (float)(s[j] & 63);
        *min = (float)(s[j + 4] & 63);
    } else {
        *scale = (float)((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        *min = (float)((s[j + 4] >> 4) | (s[j] >> 6) << 4);
    }
}

/* half d, half dmin; 12 bytes of sub-scales; 128 bytes of nibbles: 32 low then 32 high, four times
 */
static void q4_k(const unsigned char *b, float *y) {
    const float d = half_at(b), dmin = half_at(b + 2);
    const unsigned char *q = b + 16;
    for (int j = 0; j < 8; j += 2, q += 32, y += 64) {
        float scale[2], min[2];
        for (int h = 0; h < 2; h++) {
            k4_scale(b + 4, j + h, &scale[h], &min[h]);
            scale[h] *= d;
            min[h] *= dmin;
        }
        for (int i = 0; i < 32; i++) y[i] = scale[0] * (float)(q[i] & 15) - min[0];
        for (int i = 0; i < 32; i++) y[i + 32] = scale[1] * (float)(q[i] >> 4) - min[1];
    }
}

/* As q4_k with a fifth bit: bit j of byte i of 32 belongs to element i of group j. */
static void q5_k(const unsigned char *b, float *y) {
    const float d = half_at(b), dmin = half_at(b + 2);
    const unsigned char *high = b + 16, *q = b + 48;
    for (int j = 0; j < 8; j += 2, q += 32, y += 64) {
        float scale[2], min[2];
        for (int h = 0; h < 2; h++) {
            k4_scale(b + 4, j + h, &scale[h], &min[h]);
            scale[h] *= d;
            min[h] *= dmin;
        }
        for (int i = 0; i < 32; i++) {
            const int lo = (q[i] & 15) + ((high[i] >> j & 1) << 4);
            const int hi = (q[i] >> 4) + ((high[i] >> (j + 1) & 1) << 4);
            y[i] = scale[0] * (float)lo - min[0];
            y[i + 32] = scale[1] * (float)hi - min[1];
        }
    }
}

/* 128 bytes of nibbles, 64 bytes of upper bit pairs, 16 signed sub-scales, half d. Each half of the
 * block is four runs of 32, a sub-scale for every 16. */
static void q6_k(const unsigned char *b, float *y) {
    const float d = half_at(b + 208);
    for (int half = 0; half < 2; half++, y += 128) {
        const unsigned char *q = b + 64 * half, *high = b + 128 + 32 * half;
        const signed char *s = (const signed char *)b + 192 + 8 * half;
        for (int run = 0; run < 4; run++) {
            const float scale[2] = {d * (float)s[2 * run], d * (float)s[2 * run + 1]};
            for (int i = 0; i < 32; i++) {
                const int low = q[i + 32 * (run & 1)] >> (run >= 2 ? 4 : 0) & 15;
                const int value = (low | (high[i] >> (2 * run) & 3) << 4) - 32;
                y[32 * run + i] = scale[i / 16] * (float)value;
            }
        }
    }
}

void oct_gguf_dequantize(oct_dtype dtype, const void *src, size_t n, float *dst) {
    void (*block)(const unsigned char *, float *) = NULL;
    switch (dtype) {
    case OCT_DTYPE_Q4_0:
        block = q4_0;
        break;
    case OCT_DTYPE_Q4_1:
        block = q4_1;
        break;
    case OCT_DTYPE_Q5_0:
        block = q5_0;
        break;
    case OCT_DTYPE_Q5_1:
        block = q5_1;
        break;
    case OCT_DTYPE_Q8_0:
        block = q8_0;
        break;
    case OCT_DTYPE_Q4_K:
        block = q4_k;
        break;
    case OCT_DTYPE_Q5_K:
        block = q5_k;
        break;
    case OCT_DTYPE_Q6_K:
        block = q6_k;
        break;
    default:
        break;
    }
    OCT_ASSERT(block);
    const size_t elems = oct_dtype_block_elems(dtype), bytes = oct_dtype_block_bytes(dtype);
    const unsigned char *p = src;
    for (size_t i = 0; block && i < n; i += elems, p += bytes) block(p, dst + i);
}
