/*
 * kernels/order.cuh - "the largest, the lowest id among equals" as the order of integers.
 */
#ifndef OCT_CUDA_ORDER_CUH
#define OCT_CUDA_ORDER_CUH

#include "dtype.cuh"

/* Greater floats have greater keys; -0 counts as +0, a NaN has no place. Never 0. */
OCT_DEVICE uint32_t oct_order_key(float x) {
    const uint32_t u = oct_bits(x + 0.0f);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* Greater for greater values, among equal ones for lower ids. Never 0. */
OCT_DEVICE uint64_t oct_rank_key(float x, uint32_t id) {
    return static_cast<uint64_t>(oct_order_key(x)) << 32 | (0xffffffffu - id);
}

OCT_DEVICE uint32_t oct_rank_id(uint64_t key) { return 0xffffffffu - static_cast<uint32_t>(key); }

/* The value behind an order key. */
OCT_DEVICE float oct_order_value(uint32_t key) {
    return oct_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

#endif
