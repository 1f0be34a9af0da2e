/*
 * base/checked.h - arithmetic on sizes that came from outside: every product, sum and rounding goes
 * through one of these, and a false answer means "refuse".
 */
#ifndef OCT_BASE_CHECKED_H
#define OCT_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool oct_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool oct_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}
static inline bool oct_mul_size(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool oct_add_size(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}
/* a rounded up to a multiple of unit (unit > 0). */
static inline bool oct_round_up_u64(uint64_t a, uint64_t unit, uint64_t *out) {
    return oct_add_u64(a, unit - 1, out) && ((*out = *out / unit * unit), true);
}

static inline size_t oct_min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t oct_max_size(size_t a, size_t b) { return a > b ? a : b; }

#endif
