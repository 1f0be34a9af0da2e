/*
 * kernels/side_sample.cuh - what the kernels of the sampler share: a row's wishes, folds over a
 * block, the random number, and which tokens are left (docs/numerics.md, section 11).
 *
 * Every fold has a shape that follows from the size of the vocabulary: a token depends on its row
 * alone.
 */
#ifndef OCT_CUDA_SIDE_SAMPLE_CUH
#define OCT_CUDA_SIDE_SAMPLE_CUH

#include "side.h"

#include <octet/device.h>

#include "math.cuh"
#include "order.cuh"
#include "rows.cuh"

OCT_DEVICE float minus_infinity() { return oct_float(0xff800000u); }

/* ---- what a row wants ------------------------------------------------------------------------ */

struct sample_wish {
    octet_sample_row r;
    bool bad;     /* it named what is not there: that was taken out */
    bool changed; /* its logits are not drawn from as they came */
    bool greedy, forced, processed;
    bool by_rank, by_mass; /* top-k, top-p are in force */
    float inv_t;
};

OCT_DEVICE bool range_bad(uint32_t begin, uint32_t end, uint32_t n) {
    return begin > end || (end > begin && end > n);
}

OCT_DEVICE sample_wish sample_wish_of(const oct_sample_params &p, uint32_t row) {
    sample_wish w;
    w.r = oct_ptr<const octet_sample_row>(p.rows)[row];
    w.bad = false;
    if (range_bad(w.r.seen_begin, w.r.seen_end, p.n_seen)) w.bad = true, w.r.seen_end = 0;
    if (range_bad(w.r.bias_begin, w.r.bias_end, p.n_bias)) w.bad = true, w.r.bias_end = 0;
    if (w.r.mask >= 0 && static_cast<uint32_t>(w.r.mask) >= p.n_masks) w.bad = true, w.r.mask = -1;
    w.forced = (w.r.flags & OCTET_SAMPLE_FORCED) != 0;
    if (w.forced && (w.r.forced < 0 || static_cast<uint32_t>(w.r.forced) >= p.n_vocab))
        w.bad = true, w.forced = false;
    if (w.r.n_top > p.max_top) w.bad = true, w.r.n_top = 0;
    w.changed = w.r.mask >= 0 || w.r.bias_end > w.r.bias_begin || w.r.seen_end > w.r.seen_begin;
    w.greedy = (w.r.flags & OCTET_SAMPLE_GREEDY) || w.r.temperature < 1e-5f;
    w.processed = (w.r.flags & OCTET_SAMPLE_PROCESSED) != 0;
    w.by_rank = w.r.top_k > 0 && static_cast<uint32_t>(w.r.top_k) < p.n_vocab;
    w.by_mass = w.r.top_p < 1.0f;
    w.inv_t = 1.0f / w.r.temperature;
    return w;
}

/* Whether it matters which tokens are left and how likely they are. */
OCT_DEVICE bool sample_draws(const sample_wish &w) {
    return !w.greedy && (!w.forced || w.processed);
}

OCT_DEVICE const float *logits_of(const oct_sample_params &p, uint32_t row) {
    return oct_ptr<const float>(p.logits.data) + row * p.logits.stride;
}

OCT_DEVICE float *changed_of(const oct_sample_params &p, uint32_t row) {
    return oct_ptr<float>(p.changed) + row * p.changed_stride;
}

OCT_DEVICE oct_sample_slice *slices_of(const oct_sample_params &p, uint32_t row) {
    return oct_ptr<oct_sample_slice>(p.slices) + static_cast<uint64_t>(row) * p.n_slices;
}

/* Logits at .. at + 4, at a multiple of 4; minus infinity from n on. */
OCT_DEVICE void load4(float v[4], const float *x, uint32_t at, uint32_t n, bool vec) {
    if (vec && at + 4 <= n) {
        const float4 f = *reinterpret_cast<const float4 *>(x + at);
        v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
        return;
    }
    for (uint32_t i = 0; i < 4; i++) v[i] = at + i < n ? x[at + i] : minus_infinity();
}

/* ---- folds over a block, the result in every thread
 * ----------------------------------------------
 *
 * room: 32 numbers of the type; a barrier stands before and behind its use.
 */

OCT_DEVICE uint64_t warp_most(uint64_t v) {
    for (int d = 16; d > 0; d /= 2) v = max(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}

OCT_DEVICE uint64_t block_most(uint64_t v, uint64_t *room) {
    v = warp_most(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    const uint32_t lane = threadIdx.x % 32;
    return warp_most(lane < blockDim.x / 32 ? room[lane] : 0);
}

template <typename T> OCT_DEVICE T warp_sum(T v) {
    for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

template <typename T> OCT_DEVICE T block_sum(T v, T *room) {
    v = warp_sum(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    const uint32_t lane = threadIdx.x % 32;
    return warp_sum(lane < blockDim.x / 32 ? room[lane] : static_cast<T>(0));
}

/* How many threads before this one say yes; all: how many do. */
OCT_DEVICE uint32_t block_before(bool yes, uint32_t *room, uint32_t *all) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t votes = __ballot_sync(0xffffffffu, yes);
    __syncthreads();
    if (lane == 0) room[warp] = static_cast<uint32_t>(__popc(votes));
    __syncthreads();
    const uint32_t of = lane < blockDim.x / 32 ? room[lane] : 0;
    *all = __reduce_add_sync(0xffffffffu, of);
    return __reduce_add_sync(0xffffffffu, lane < warp ? of : 0u) +
           static_cast<uint32_t>(__popc(votes & ((1u << lane) - 1u)));
}

/* ---- the random number ----------------------------------------------------------------------- */

/* Philox4x32-10, the upper 24 bits of its first word in [0, 1). */
OCT_DEVICE float sample_uniform(const octet_sample_row &r) {
    uint32_t c[4] = {r.position, 0, r.choice, 0};
    uint32_t k0 = static_cast<uint32_t>(r.seed), k1 = static_cast<uint32_t>(r.seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
        const uint32_t c1 = c[1], c3 = c[3];
        c[0] = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
        c[1] = static_cast<uint32_t>(p1);
        c[2] = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c[3] = static_cast<uint32_t>(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return static_cast<float>(c[0] >> 8) * 0x1p-24f;
}

/* ---- which tokens are left ------------------------------------------------------------------- */

/* What top-p adds up. */
OCT_DEVICE uint64_t sample_weight(float p) {
    return static_cast<uint64_t>(static_cast<int64_t>(static_cast<double>(p) * 0x1p40));
}

/* How far below the largest, t = (x - max) / T, as a bin; the last one takes the rest. */
OCT_DEVICE uint32_t sample_bin(float t) {
    const float far = static_cast<float>(OCT_SAMPLE_BINS - 1);
    const float b = t * -static_cast<float>(OCT_SAMPLE_BINS_A_UNIT);
    return b < far ? static_cast<uint32_t>(b) : OCT_SAMPLE_BINS - 1;
}

/* Above the key, or at it with an id up to `id`. Starts as everything. */
struct sample_bound {
    uint32_t key, id;
};

OCT_DEVICE bool within(sample_bound b, uint32_t key, uint32_t id) {
    return key > b.key || (key == b.key && id <= b.id);
}

/* The rule of a row, complete once both bounds are found. */
struct sample_rule {
    float max, inv_t, min_p;
    sample_bound rank, mass; /* on keys of logits, of p */
};

OCT_DEVICE float sample_p(const sample_rule &r, float x) { return oct_exp((x - r.max) * r.inv_t); }

/* p of a token that is left, else 0. */
OCT_DEVICE float sample_left(const sample_rule &r, float x, uint32_t id) {
    if (!within(r.rank, oct_order_key(x), id)) return 0.0f;
    const float p = sample_p(r, x);
    return p >= r.min_p && within(r.mass, oct_order_key(p), id) ? p : 0.0f;
}

/* Whether it is left, even if too unlikely for a number. */
OCT_DEVICE bool sample_is_left(const sample_rule &r, float x, uint32_t id) {
    if (!within(r.rank, oct_order_key(x), id)) return false;
    const float p = sample_p(r, x);
    return !(p < r.min_p) && within(r.mass, oct_order_key(p), id);
}

#endif
