/*
 * base/num.h - numbers as text, without the locale and with nothing forgiven: the whole span must
 * be the number. (octet never calls setlocale, so printf and strtod use the C locale; bad-input
 * CL7.)
 */
#ifndef OCT_BASE_NUM_H
#define OCT_BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* Decimal integer with optional '-'. False on junk, overflow or an empty span. */
bool oct_parse_i64(oct_str s, int64_t *out);
bool oct_parse_u64(oct_str s, uint64_t *out);
/* Hexadecimal digits of either case, with or without "0x" before them. */
bool oct_parse_hex(oct_str s, uint64_t *out);
/* Decimal float; "nan", "inf" and what overflows are refused. */
bool oct_parse_f64(oct_str s, double *out);
/* Integer with an optional decimal part and suffix: k m g t are powers of 1000, K M G T of 1024
 * ("25.6k" is 25600); with a B behind it (kB, GB) either case is a power of 1000, with iB (KiB) of
 * 1024. */
bool oct_parse_scaled(oct_str s, uint64_t *out);

/* Shortest decimal that reads back as the same double, in the form Python's repr gives ("1.0",
 * "1e-07", "nan", "inf"). out holds 32 bytes; returns the length. */
int oct_format_f64(double v, char out[32]);

#endif
