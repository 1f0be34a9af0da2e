/*
 * kernels/side_moe.cu - the way of rows to experts and back. Arguments: side.h.
 *
 * Which expert, in what order and how much of each is decided here and never seen by the host.
 * Counting is done in integers, sums of floats by one thread each, so nothing depends on who comes
 * first.
 */
#include "side.h"

#include "math.cuh"
#include "order.cuh"
#include "rows.cuh"

/* ---- route ----------------------------------------------------------------------------------- */

enum { NUMERICS_LANES = 16 };

OCT_DEVICE float warp_max(float v) {
    for (int d = 16; d > 0; d /= 2) {
        const float o = __shfl_xor_sync(0xffffffffu, v, d);
        v = o > v ? o : v;
    }
    return v;
}

OCT_DEVICE uint64_t warp_max64(uint64_t v) {
    for (int d = 16; d > 0; d /= 2) {
        const uint64_t o = __shfl_xor_sync(0xffffffffu, v, d);
        v = o > v ? o : v;
    }
    return v;
}

/* Scores of a row into shared memory; the sum is that of section 2: its lanes are ours. */
OCT_DEVICE void softmax_row(const float *x, float *score, uint32_t n, uint32_t lane) {
    float most = oct_float(0xff800000u), s = 0.0f;
    for (uint32_t i = lane; i < n; i += 32) most = x[i] > most ? x[i] : most;
    most = warp_max(most) + 0.0f;
    for (uint32_t i = lane; i < n; i += 32) score[i] = oct_exp(x[i] - most);
    __syncwarp();
    if (lane < NUMERICS_LANES)
        for (uint32_t i = lane; i < n; i += NUMERICS_LANES) s += score[i];
    for (uint32_t d = NUMERICS_LANES / 2; d > 0; d /= 2) s += __shfl_down_sync(0xffffffffu, s, d);
    s = __shfl_sync(0xffffffffu, s, 0);
    __syncwarp();
    for (uint32_t i = lane; i < n; i += 32) score[i] = score[i] / s;
}

/* The best of this lane's experts behind `last`; 0: none. Keys: order.cuh. */
OCT_DEVICE uint64_t best_behind(const float *choice, uint32_t n, uint32_t lane, uint64_t last) {
    uint64_t best = 0;
    for (uint32_t i = lane; i < n; i += 32) {
        const uint64_t key = oct_rank_key(choice[i], i);
        if (key < last && key > best) best = key;
    }
    return best;
}

OCT_KERNEL(route, oct_route_params, 128) {
    OCT_SHARED_DYNAMIC(room);
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, n = p.n_experts;
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * (blockDim.x / 32) + warp;
    float *const score = reinterpret_cast<float *>(room) + 2 * warp * n, *const choice = score + n;
    oct_grid_launch_next();
    oct_grid_wait();
    if (row >= p.n_rows) return;
    const float *x = oct_ptr<const float>(p.logits.data) + row * p.logits.stride;
    if (p.kind == OCTET_ROUTE_SIGMOID)
        for (uint32_t i = lane; i < n; i += 32) score[i] = oct_sigmoid(x[i]);
    else
        softmax_row(x, score, n, lane);

    bool lost = false;
    for (uint32_t i = lane; i < n; i += 32) {
        choice[i] = p.bias ? score[i] + oct_ptr<const float>(p.bias)[i] : score[i];
        lost |= choice[i] != choice[i];
    }
    lost = __any_sync(0xffffffffu, lost);
    __syncwarp();

    /* Slot t is kept by lane t % 32. */
    float kept[2] = {0, 0}, sum = 0.0f;
    int32_t id[2] = {0, 0};
    uint64_t mine = best_behind(choice, n, lane, ~0ull);
    for (uint32_t t = 0; t < p.top_k; t++) {
        const uint64_t best = warp_max64(mine);
        const uint32_t e = lost ? t : oct_rank_id(best);
        const float w = lost ? oct_nan() : score[e];
        if (mine == best) mine = best_behind(choice, n, lane, best);
        sum += w;
        if (lane == t % 32) kept[t / 32] = w, id[t / 32] = static_cast<int32_t>(e);
    }
    for (uint32_t h = 0; h < 2; h++) {
        const uint32_t t = lane + 32 * h;
        if (t >= p.top_k) continue;
        const float w = p.renormalise ? kept[h] / (sum + 1e-20f) : kept[h];
        oct_ptr<int32_t>(p.expert)[row * p.top_k + t] = id[h];
        oct_ptr<float>(p.weight)[row * p.top_k + t] = w * p.scale;
    }
}

/* ---- permute --------------------------------------------------------------------------------- */

/* The expert of a pair; one that is not there is told and taken for the first. */
OCT_DEVICE uint32_t expert_of(const oct_permute_params &p, uint32_t pair) {
    const int32_t e = oct_ptr<const int32_t>(p.expert)[pair];
    if (e >= 0 && static_cast<uint32_t>(e) < p.n_experts) return static_cast<uint32_t>(e);
    oct_raise(p.fault, OCT_FAULT_EXPERT_ID, e);
    return 0;
}

OCT_DEVICE void count_segment(const oct_permute_params &p, uint32_t segment, int32_t *count) {
    const uint32_t lane = threadIdx.x % 32, begin = segment * p.segment;
    for (uint32_t e = lane; e < p.n_experts; e += 32) count[e] = 0;
    __syncwarp();
    for (uint32_t i = begin + lane; i < begin + p.segment && i < p.n_pairs; i += 32)
        atomicAdd(&count[expert_of(p, i)], 1);
    __syncwarp();
}

/* next: the grouped row of the segment's next pair, by expert. */
OCT_DEVICE void place_segment(const oct_permute_params &p, uint32_t segment, int32_t *next) {
    const uint32_t lane = threadIdx.x % 32, begin = segment * p.segment;
    for (uint32_t at = begin; at < begin + p.segment && at < p.n_pairs; at += 32) {
        const uint32_t i = at + lane;
        const bool there = i < p.n_pairs;
        const uint32_t e = there ? expert_of(p, i) : ~0u;
        const uint32_t same = __match_any_sync(0xffffffffu, e);
        const uint32_t before = same & ((1u << lane) - 1u);
        const int32_t base = there ? next[e] : 0;
        __syncwarp();
        if (there) {
            const int32_t to = base + __popc(before);
            oct_ptr<int32_t>(p.row)[to] = static_cast<int32_t>(i / p.top_k);
            oct_ptr<int32_t>(p.place)[i] = to;
            if (before == 0) next[e] = base + __popc(same);
        }
        __syncwarp();
    }
}

/* counts[s][e] becomes how many the segments before s have of e. The total is returned. */
OCT_DEVICE int32_t add_segments(int32_t *counts, uint32_t n_segments, uint32_t n_experts,
                                uint32_t e) {
    int32_t sum = 0;
    for (uint32_t s = 0; s < n_segments; s += 8) {
        int32_t c[8];
        OCT_UNROLL
        for (uint32_t i = 0; i < 8; i++)
            c[i] = s + i < n_segments ? counts[static_cast<uint64_t>(s + i) * n_experts + e] : 0;
        OCT_UNROLL
        for (uint32_t i = 0; i < 8; i++) {
            if (s + i < n_segments) counts[static_cast<uint64_t>(s + i) * n_experts + e] = sum;
            sum += c[i];
        }
    }
    return sum;
}

/* All threads of the block: the sum of v of the threads before this one; room: int32 [33]. */
OCT_DEVICE int32_t block_before(int32_t v, int32_t *room, int32_t *all) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    int32_t upto = v;
    for (uint32_t d = 1; d < 32; d *= 2) {
        const int32_t o = __shfl_up_sync(0xffffffffu, upto, d);
        if (lane >= d) upto += o;
    }
    if (lane == 31) room[warp] = upto;
    __syncthreads();
    int32_t before = 0, total = 0;
    for (uint32_t w = 0; w < n_warps; w++) {
        if (w < warp) before += room[w];
        total += room[w];
    }
    __syncthreads();
    *all = total;
    return before + upto - v;
}

/* first from the segments' counts, which become sums of those before. */
OCT_DEVICE void find_first(const oct_permute_params &p, int32_t *counts) {
    OCT_SHARED(int32_t, room, 33);
    int32_t base = 0, all;
    for (uint32_t from = 0; from < p.n_experts; from += blockDim.x) {
        const uint32_t e = from + threadIdx.x;
        const int32_t n = e < p.n_experts ? add_segments(counts, p.n_segments, p.n_experts, e) : 0;
        const int32_t before = block_before(n, room, &all);
        if (e < p.n_experts) oct_ptr<int32_t>(p.first)[e] = base + before;
        base += all;
    }
    if (threadIdx.x == 0) oct_ptr<int32_t>(p.first)[p.n_experts] = base;
}

OCT_KERNEL(permute_one, oct_permute_params, 1024) {
    OCT_SHARED_DYNAMIC(room);
    int32_t *const counts = reinterpret_cast<int32_t *>(room);
    const uint32_t warp = threadIdx.x / 32;
    int32_t *const next = counts + warp * p.n_experts;
    oct_grid_launch_next();
    oct_grid_wait();
    count_segment(p, warp, next);
    __syncthreads();
    find_first(p, counts);
    __syncthreads();
    for (uint32_t e = threadIdx.x % 32; e < p.n_experts; e += 32)
        next[e] += oct_ptr<const int32_t>(p.first)[e];
    __syncwarp();
    place_segment(p, warp, next);
}

OCT_DEVICE uint32_t segment_of_warp() { return blockIdx.x * OCT_PERMUTE_WARPS + threadIdx.x / 32; }

OCT_KERNEL(permute_count, oct_permute_params, 128) {
    OCT_SHARED_DYNAMIC(room);
    int32_t *const count = reinterpret_cast<int32_t *>(room) + threadIdx.x / 32 * p.n_experts;
    const uint32_t segment = segment_of_warp();
    oct_grid_launch_next();
    oct_grid_wait();
    if (segment >= p.n_segments) return;
    count_segment(p, segment, count);
    int32_t *to = oct_ptr<int32_t>(p.counts) + static_cast<uint64_t>(segment) * p.n_experts;
    for (uint32_t e = threadIdx.x % 32; e < p.n_experts; e += 32) to[e] = count[e];
}

OCT_KERNEL(permute_first, oct_permute_params, 1024) {
    oct_grid_launch_next();
    oct_grid_wait();
    find_first(p, oct_ptr<int32_t>(p.counts));
}

OCT_KERNEL(permute_place, oct_permute_params, 128) {
    OCT_SHARED_DYNAMIC(room);
    int32_t *const next = reinterpret_cast<int32_t *>(room) + threadIdx.x / 32 * p.n_experts;
    const uint32_t segment = segment_of_warp();
    oct_grid_launch_next();
    oct_grid_wait();
    if (segment >= p.n_segments) return;
    const int32_t *before =
        oct_ptr<const int32_t>(p.counts) + static_cast<uint64_t>(segment) * p.n_experts;
    for (uint32_t e = threadIdx.x % 32; e < p.n_experts; e += 32)
        next[e] = oct_ptr<const int32_t>(p.first)[e] + before[e];
    __syncwarp();
    place_segment(p, segment, next);
}

/* ---- quantize_grouped ------------------------------------------------------------------------ */

/* The last expert whose rows begin at i or before. */
OCT_DEVICE uint32_t group_of(const int32_t *first, uint32_t n_experts, uint32_t i) {
    uint32_t low = 0, high = n_experts; /* first[low] <= i */
    while (high - low > 1) {
        const uint32_t mid = low + (high - low) / 2;
        if (first[mid] <= static_cast<int32_t>(i))
            low = mid;
        else
            high = mid;
    }
    return low;
}

template <int C> OCT_DEVICE void quantize_grouped(const oct_quantize_grouped_params &p) {
    OCT_SHARED(float, room, 64);
    const oct_group g = oct_group_of(p.group, room);
    float v[C][8];
    oct_grid_launch_next();
    oct_grid_wait();
    if (g.row >= p.n_rows) return;
    const uint32_t e = group_of(oct_ptr<const int32_t>(p.first), p.n_experts, g.row);
    int32_t from = p.row ? oct_ptr<const int32_t>(p.row)[g.row] : static_cast<int32_t>(g.row);
    if (from < 0 || static_cast<uint32_t>(from) >= p.n_in) {
        oct_raise(p.fault, OCT_FAULT_GROUPED_ROW, from);
        from = 0;
    }
    const uint16_t *x =
        oct_ptr<const uint16_t>(p.x.data) + static_cast<uint64_t>(from) * p.x.stride;
    const float *mul = oct_ptr<const float>(p.mul) + static_cast<uint64_t>(e) * p.width;
    for (int c = 0; c < C; c++) {
        const uint32_t at = (g.thread + static_cast<uint32_t>(c) * g.n) * 8;
        oct_load8(v[c], x, at, p.width, p.x.vec != 0);
        if (!p.mul) continue;
        float m[8];
        oct_load8_f32(m, mul, at, p.width);
        for (int i = 0; i < 8; i++) v[c][i] = v[c][i] * m[i];
    }
    oct_p_quant own = p.quant; /* with the rule of the expert */
    own.param += static_cast<uint64_t>(e) * 2 * sizeof(float);
    oct_quant_row<C>(own, g, v, p.width, p.fault, 0);
}

OCT_KERNEL(quantize_grouped_1, oct_quantize_grouped_params, 256) { quantize_grouped<1>(p); }
OCT_KERNEL(quantize_grouped_2, oct_quantize_grouped_params, 256) { quantize_grouped<2>(p); }
OCT_KERNEL(quantize_grouped_4, oct_quantize_grouped_params, 1024) { quantize_grouped<4>(p); }
OCT_KERNEL(quantize_grouped_16, oct_quantize_grouped_params, 1024) { quantize_grouped<16>(p); }

/* ---- combine --------------------------------------------------------------------------------- */

OCT_KERNEL(combine, oct_combine_params, 256) {
    const uint64_t pieces = (p.width + 7) / 8;
    const uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    oct_grid_launch_next();
    oct_grid_wait();
    if (i >= p.n_rows * pieces) return;
    const uint64_t row = i / pieces;
    const uint32_t at = static_cast<uint32_t>(i % pieces) * 8;
    const int32_t *place = oct_ptr<const int32_t>(p.place) + row * p.top_k;
    const float *weight = oct_ptr<const float>(p.weight) + row * p.top_k;
    float s[8], y[8];
    for (uint32_t t = 0; t < p.top_k; t++) {
        int32_t from = place[t];
        if (from < 0 || static_cast<uint64_t>(from) >= static_cast<uint64_t>(p.n_rows) * p.top_k) {
            oct_raise(p.fault, OCT_FAULT_GROUPED_ROW, from);
            from = 0;
        }
        const float w = weight[t];
        oct_load8(y, oct_ptr<const uint16_t>(p.x.data) + static_cast<uint64_t>(from) * p.x.stride,
                  at, p.width, p.x.vec != 0);
        for (int e = 0; e < 8; e++) s[e] = t == 0 ? w * y[e] : fmaf(w, y[e], s[e]);
    }
    if (p.shared.data) {
        const float w = p.gate ? oct_sigmoid(oct_ptr<const float>(p.gate)[row]) : 1.0f;
        oct_load8(y, oct_ptr<const uint16_t>(p.shared.data) + row * p.shared.stride, at, p.width,
                  p.shared.vec != 0);
        for (int e = 0; e < 8; e++) s[e] = fmaf(w, y[e], s[e]);
    }
    uint16_t *out = oct_ptr<uint16_t>(p.out.data) + row * p.out.stride;
    if (p.accumulate) {
        oct_load8(y, out, at, p.width, p.out.vec != 0);
        for (int e = 0; e < 8; e++) s[e] = y[e] + s[e];
    }
    oct_store8(out, s, at, p.width, p.out.vec != 0);
}
