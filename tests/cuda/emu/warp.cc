/* warp.cc - what lanes of a warp do together: exchanges, votes, fragments of matrices. */
#include "emu.h"

[[noreturn]] void emu_fatal(const char *what);

namespace {

template <typename T> T take(const unsigned char *slot, size_t at = 0) {
    T v;
    memcpy(&v, slot + at, sizeof v);
    return v;
}

template <typename T> void give(unsigned char *slot, T v, size_t at = 0) {
    memcpy(slot + at, &v, sizeof v);
}

bool in(uint32_t mask, int lane) { return mask >> lane & 1u; }

template <typename T> void give_all(uint32_t mask, emu_slots out, T v) {
    for (int l = 0; l < 32; l++)
        if (in(mask, l)) give(out[l], v);
}

void ballot(uint32_t mask, const emu_slots from, emu_slots out) {
    uint32_t votes = 0;
    for (int l = 0; l < 32; l++)
        if (in(mask, l) && take<uint32_t>(from[l])) votes |= 1u << l;
    give_all(mask, out, votes);
}

void match_any(uint32_t mask, const emu_slots from, emu_slots out) {
    for (int l = 0; l < 32; l++) {
        uint32_t alike = 0;
        for (int o = 0; o < 32; o++)
            if (in(mask, o) && take<uint32_t>(from[o]) == take<uint32_t>(from[l])) alike |= 1u << o;
        if (in(mask, l)) give(out[l], alike);
    }
}

struct op_add {
    template <typename T> static T of(T a, T b) {
        return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
    }
};
struct op_max {
    template <typename T> static T of(T a, T b) { return a < b ? b : a; }
};
struct op_min {
    template <typename T> static T of(T a, T b) { return b < a ? b : a; }
};
struct op_or {
    template <typename T> static T of(T a, T b) { return a | b; }
};

template <typename T, typename OP> void fold(uint32_t mask, const emu_slots from, emu_slots out) {
    bool first = true;
    T all = 0;
    for (int l = 0; l < 32; l++) {
        if (!in(mask, l)) continue;
        const T v = take<T>(from[l]);
        all = first ? v : OP::of(all, v);
        first = false;
    }
    give_all(mask, out, all);
}

template <typename T, typename OP> T reduce(uint32_t mask, T v) {
    T out = 0;
    emu_warp_meet(mask, &v, sizeof v, &out, sizeof out, fold<T, OP>);
    return out;
}

/* ---- fragments --------------------------------------------------------------------------------
 */

template <bool TRANSPOSED, int N> void ldmatrix(uint32_t, const emu_slots from, emu_slots out) {
    for (int m = 0; m < N; m++) {
        uint16_t e[8][8];
        for (int r = 0; r < 8; r++) {
            const char *row = take<const char *>(from[8 * m + r]);
            if (reinterpret_cast<uintptr_t>(row) % 16) emu_fatal("ldmatrix: row not at 16 bytes");
            memcpy(e[r], row, 16);
        }
        for (int l = 0; l < 32; l++) {
            const int g = l / 4, t = 2 * (l % 4);
            const uint32_t low = TRANSPOSED ? e[t][g] : e[g][t];
            const uint32_t high = TRANSPOSED ? e[t + 1][g] : e[g][t + 1];
            give(out[l], low | high << 16, 4 * static_cast<size_t>(m));
        }
    }
}

struct fragments {
    uint32_t a[4], b[2], c[4];
};

/* Element k of row r of A (E elements in a register). */
template <int E> uint32_t of_a(const fragments f[32], int r, int k, int *element) {
    const int within = k % (4 * E), lane = r % 8 * 4 + within / E;
    *element = within % E;
    return f[lane].a[r / 8 + 2 * (k / (4 * E))];
}

template <int E> uint32_t of_b(const fragments f[32], int k, int n, int *element) {
    const int within = k % (4 * E), lane = n * 4 + within / E;
    *element = within % E;
    return f[lane].b[k / (4 * E)];
}

template <typename A> void mma_int(uint32_t, const emu_slots from, emu_slots out) {
    fragments f[32];
    A a[16][32];
    int8_t b[32][8];
    for (int l = 0; l < 32; l++) memcpy(&f[l], from[l], sizeof f[l]);
    for (int k = 0; k < 32; k++) {
        int e = 0;
        for (int r = 0; r < 16; r++) {
            const uint32_t w = of_a<4>(f, r, k, &e);
            a[r][k] = static_cast<A>(w >> (8 * e) & 0xff);
        }
        for (int n = 0; n < 8; n++) {
            const uint32_t w = of_b<4>(f, k, n, &e);
            b[k][n] = static_cast<int8_t>(w >> (8 * e) & 0xff);
        }
    }
    for (int r = 0; r < 16; r++)
        for (int n = 0; n < 8; n++) {
            const int lane = r % 8 * 4 + n / 2, reg = r / 8 * 2 + n % 2;
            uint32_t sum = f[lane].c[reg];
            for (int k = 0; k < 32; k++) sum += static_cast<uint32_t>(a[r][k] * b[k][n]);
            give(out[lane], sum, 4 * static_cast<size_t>(reg));
        }
}

float half_of(uint32_t w, int e, bool bf16) {
    const uint16_t h = static_cast<uint16_t>(w >> (16 * e));
    return bf16 ? emu_float(static_cast<uint32_t>(h) << 16) : emu_f16_f32(h);
}

/* A chip adds the products in some order of its own with some guard bits; here in double. */
template <bool BF16> void mma_float(uint32_t, const emu_slots from, emu_slots out) {
    fragments f[32];
    float a[16][16], b[16][8];
    for (int l = 0; l < 32; l++) memcpy(&f[l], from[l], sizeof f[l]);
    for (int k = 0; k < 16; k++) {
        int e = 0;
        for (int r = 0; r < 16; r++) {
            const uint32_t w = of_a<2>(f, r, k, &e);
            a[r][k] = half_of(w, e, BF16);
        }
        for (int n = 0; n < 8; n++) {
            const uint32_t w = of_b<2>(f, k, n, &e);
            b[k][n] = half_of(w, e, BF16);
        }
    }
    for (int r = 0; r < 16; r++)
        for (int n = 0; n < 8; n++) {
            const int lane = r % 8 * 4 + n / 2, reg = r / 8 * 2 + n % 2;
            double sum = static_cast<double>(emu_float(f[lane].c[reg]));
            for (int k = 0; k < 16; k++)
                sum += static_cast<double>(a[r][k]) * static_cast<double>(b[k][n]);
            give(out[lane], static_cast<float>(sum), 4 * static_cast<size_t>(reg));
        }
}

void product(void *c, const uint32_t a[4], const uint32_t b[2], emu_warp_fn *fn) {
    fragments f;
    memcpy(f.a, a, sizeof f.a);
    memcpy(f.b, b, sizeof f.b);
    memcpy(f.c, c, sizeof f.c);
    emu_warp_meet(0xffffffffu, &f, sizeof f, c, sizeof f.c, fn);
}

} // namespace

void emu_shuffle_all(uint32_t mask, const emu_slots from, emu_slots out) {
    for (int l = 0; l < 32; l++) {
        if (!in(mask, l)) continue;
        const emu_shuffled s = take<emu_shuffled>(from[l]);
        if (s.from < 0 || s.from > 31 || !in(mask, s.from))
            emu_fatal("shuffle: from a lane that is not of the mask");
        give(out[l], take<emu_shuffled>(from[s.from]).bits);
    }
}

uint32_t emu_ballot(uint32_t mask, bool v) {
    const uint32_t mine = v;
    uint32_t out = 0;
    emu_warp_meet(mask, &mine, sizeof mine, &out, sizeof out, ballot);
    return out;
}

uint32_t __match_any_sync(uint32_t mask, uint32_t v) {
    uint32_t out = 0;
    emu_warp_meet(mask, &v, sizeof v, &out, sizeof out, match_any);
    return out;
}

uint32_t __reduce_add_sync(uint32_t m, uint32_t v) { return reduce<uint32_t, op_add>(m, v); }
int32_t __reduce_add_sync(uint32_t m, int32_t v) { return reduce<int32_t, op_add>(m, v); }
uint32_t __reduce_max_sync(uint32_t m, uint32_t v) { return reduce<uint32_t, op_max>(m, v); }
int32_t __reduce_max_sync(uint32_t m, int32_t v) { return reduce<int32_t, op_max>(m, v); }
uint32_t __reduce_min_sync(uint32_t m, uint32_t v) { return reduce<uint32_t, op_min>(m, v); }
int32_t __reduce_min_sync(uint32_t m, int32_t v) { return reduce<int32_t, op_min>(m, v); }
uint32_t __reduce_or_sync(uint32_t m, uint32_t v) { return reduce<uint32_t, op_or>(m, v); }

void emu_ldmatrix(uint32_t *r, const char *row, int n, bool transposed) {
    emu_warp_fn *const fn = n == 4 ? (transposed ? ldmatrix<true, 4> : ldmatrix<false, 4>)
                                   : (transposed ? ldmatrix<true, 2> : ldmatrix<false, 2>);
    emu_warp_meet(0xffffffffu, &row, sizeof row, r, 4 * static_cast<size_t>(n), fn);
}

void emu_mma_s8(int32_t c[4], const uint32_t a[4], const uint32_t b[2]) {
    product(c, a, b, mma_int<int8_t>);
}
void emu_mma_u8s8(int32_t c[4], const uint32_t a[4], const uint32_t b[2]) {
    product(c, a, b, mma_int<uint8_t>);
}
void emu_mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    product(c, a, b, mma_float<true>);
}
void emu_mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    product(c, a, b, mma_float<false>);
}

/* ---- half -------------------------------------------------------------------------------------
 */

float emu_f16_f32(uint16_t h) {
    const uint32_t magnitude = (h & 0x7fffu) << 13, sign = (h & 0x8000u) << 16;
    const uint32_t finite = emu_bits(emu_float(magnitude) * 0x1p112f);
    return emu_float((magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite) | sign);
}

uint16_t emu_f32_f16(float v) {
    const uint32_t u = emu_bits(v) & 0x7fffffffu, sign = emu_bits(v) >> 16 & 0x8000u;
    if (u > 0x7f800000u) return 0x7fff;
    if (u >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u); /* 65520 and more */
    if (u < 0x38800000u) { /* below 2^-14: whole numbers of 2^-24 */
        const float n = rintf(emu_float(u) * 0x1p24f);
        return static_cast<uint16_t>(sign | static_cast<uint32_t>(n));
    }
    const uint32_t rounded = u + 0xfffu + (u >> 13 & 1u);
    return static_cast<uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}
