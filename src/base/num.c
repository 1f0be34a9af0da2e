/* base/num.c */
#include "base/num.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

bool oct_parse_u64(oct_str s, uint64_t *out) {
    uint64_t v = 0;
    if (s.len == 0) return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') return false;
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

bool oct_parse_hex(oct_str s, uint64_t *out) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    uint64_t v = 0;
    const size_t first = oct_str_starts(s, OCT_STR("0x")) ? 2 : 0;
    if (s.len == first) return false;
    for (size_t i = first; i < s.len; i++) {
        const char *at = memchr(digits, s.ptr[i], sizeof digits - 1);
        if (!at || v >> 60 != 0) return false;
        v = v << 4 | (uint64_t)(at - digits) % 16;
    }
    *out = v;
    return true;
}

bool oct_parse_i64(oct_str s, int64_t *out) {
    uint64_t v;
    const bool negative = s.len > 0 && s.ptr[0] == '-';
    if (!oct_parse_u64(negative ? (oct_str){s.ptr + 1, s.len - 1} : s, &v)) return false;
    if (v > (uint64_t)INT64_MAX + negative) return false;
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool oct_parse_f64(oct_str s, double *out) {
    char text[64], *end;
    if (s.len == 0 || s.len >= sizeof text) return false;
    for (size_t i = 0; i < s.len; i++)
        if (!strchr("0123456789+-.eE", s.ptr[i]) || s.ptr[i] == '\0') return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    errno = 0;
    const double v = strtod(text, &end);
    if (*end != '\0' || !isfinite(v)) return false;
    *out = v;
    return true;
}

/* Takes a unit off the end: "k" and "kB" count in thousands, "K" and "KiB" in 1024. 1: none. */
static double take_unit(oct_str *s) {
    static const char letters[] = "kmgtKMGT";
    double unit = 1;
    size_t n = s->len;
    const bool binary = oct_str_ends(*s, OCT_STR("iB"));
    const bool bytes = !binary && oct_str_ends(*s, OCT_STR("B"));
    n -= binary ? 2 : bytes ? 1 : 0;
    if (n < 2) return 1;
    const char *at = memchr(letters, s->ptr[n - 1], sizeof letters - 1);
    if (!at) return 1;
    const int i = (int)(at - letters);
    for (int power = i % 4; power >= 0; power--) unit *= binary || (i >= 4 && !bytes) ? 1024 : 1000;
    s->len = n - 1;
    return unit;
}

bool oct_parse_scaled(oct_str s, uint64_t *out) {
    double v;
    const double unit = take_unit(&s);
    if (unit == 1) return oct_parse_u64(s, out);
    if (s.ptr[0] < '0' || s.ptr[0] > '9' || !oct_parse_f64(s, &v)) return false;
    v = floor(v * unit + 0.5);
    if (!(v >= 0 && v < 9.0e18)) return false;
    *out = (uint64_t)v;
    return true;
}

int oct_format_f64(double v, char out[32]) {
    if (isnan(v)) return snprintf(out, 32, "nan");
    if (isinf(v)) return snprintf(out, 32, v < 0 ? "-inf" : "inf");
    char digits[32];
    int precision = 0; /* digits after the first */
    do snprintf(digits, sizeof digits, "%.*e", precision, v);
    while (strtod(digits, NULL) != v && ++precision < 17);

    const char *tail = strchr(digits, 'e') + 1;
    int64_t exponent = 0;
    const bool read = oct_parse_i64(oct_str_of(tail + (*tail == '+')), &exponent);
    OCT_ASSERT(read);
    if (exponent < -4 || exponent >= 16) { /* d.ddde-07, no trailing ".0" */
        return snprintf(out, 32, "%.*e", precision, v);
    }
    const int decimals = precision - (int)exponent;
    return snprintf(out, 32, "%.*f", decimals > 0 ? decimals : 1, v);
}
