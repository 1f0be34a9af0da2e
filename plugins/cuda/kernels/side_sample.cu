/*
 * kernels/side_sample.cu - one look at the logits, by slices. Arguments: side.h.
 *
 * sample_look reads every logit once, applies mask, biases and penalties, and leaves for each slice
 * its largest and the sum of its exponentials. A greedy row needs no more. For the others
 * sample_weigh, which knows the largest of the row by then, adds up the probabilities and, where
 * top-k or top-p ask, counts how many logits lie how far below it. side_choose.cu takes the token.
 */
#include "side_sample.cuh"

enum { LOOK_THREADS = 256, LOOK_PIECES = OCT_SAMPLE_SLICE / (4 * LOOK_THREADS) };

/* Where piece c of this thread begins, in the row. */
OCT_DEVICE uint32_t piece_at(uint32_t slice, uint32_t c) {
    return slice * OCT_SAMPLE_SLICE + (c * LOOK_THREADS + threadIdx.x) * 4;
}

/* ---- what is done to the logits ----------------------------------------------------------------
 */

OCT_DEVICE void mask4(float v[4], const uint32_t *mask, uint32_t at, uint32_t n) {
    if (at >= n) return;
    const uint32_t word = mask[at / 32] >> (at % 32);
    for (uint32_t i = 0; i < 4; i++)
        if (!(word >> i & 1u)) v[i] = minus_infinity();
}

/* Biases of ids begin .. end. An id may come twice: who has it first adds all of them in order. */
OCT_DEVICE void add_bias(float *x, const octet_bias *bias, uint32_t n, uint32_t begin,
                         uint32_t end) {
    for (uint32_t j = threadIdx.x; j < n; j += blockDim.x) {
        const int32_t id = bias[j].id;
        if (id < 0 || static_cast<uint32_t>(id) < begin || static_cast<uint32_t>(id) >= end)
            continue;
        uint32_t i = 0;
        while (bias[i].id != id) i++;
        if (i != j) continue;
        float v = x[static_cast<uint32_t>(id) - begin];
        for (; i < n; i++)
            if (bias[i].id == id) v += bias[i].value;
        x[static_cast<uint32_t>(id) - begin] = v;
    }
}

/* Penalties of ids begin .. end; seen ascends. */
OCT_DEVICE void penalise(float *x, const octet_seen_token *seen, uint32_t n, uint32_t begin,
                         uint32_t end, const octet_sample_row &r) {
    uint32_t low = 0, high = n; /* the first entry of the slice */
    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;
        if (seen[mid].id < static_cast<int32_t>(begin))
            low = mid + 1;
        else
            high = mid;
    }
    for (uint32_t j = low + threadIdx.x; j < n; j += blockDim.x) {
        const octet_seen_token s = seen[j];
        if (s.id < 0 || static_cast<uint32_t>(s.id) >= end) break;
        float v = x[static_cast<uint32_t>(s.id) - begin];
        if (r.repetition_penalty != 1.0f && (s.n_output || s.in_prompt))
            v = v > 0.0f ? v / r.repetition_penalty : v * r.repetition_penalty;
        if (s.n_output) {
            v = v - r.frequency_penalty * static_cast<float>(s.n_output);
            v = v - r.presence_penalty;
        }
        x[static_cast<uint32_t>(s.id) - begin] = v;
    }
}

/* The slice in v becomes what is drawn from, and is stored for those who come later. */
OCT_DEVICE void change(const oct_sample_params &p, const sample_wish &w, uint32_t row,
                       uint32_t slice, float v[LOOK_PIECES][4], float *room) {
    const uint32_t begin = slice * OCT_SAMPLE_SLICE;
    const uint32_t end = min(begin + OCT_SAMPLE_SLICE, p.n_vocab);
    if (w.r.mask >= 0) {
        const uint32_t words = (p.n_vocab + 31) / 32;
        const uint32_t *mask =
            oct_ptr<const uint32_t>(p.masks) + static_cast<uint64_t>(w.r.mask) * words;
        for (uint32_t c = 0; c < LOOK_PIECES; c++) mask4(v[c], mask, piece_at(slice, c), p.n_vocab);
    }
    for (uint32_t c = 0; c < LOOK_PIECES; c++)
        *reinterpret_cast<float4 *>(room + piece_at(slice, c) - begin) =
            make_float4(v[c][0], v[c][1], v[c][2], v[c][3]);
    __syncthreads();
    if (w.r.bias_end > w.r.bias_begin)
        add_bias(room, oct_ptr<const octet_bias>(p.bias) + w.r.bias_begin,
                 w.r.bias_end - w.r.bias_begin, begin, end);
    __syncthreads();
    if (w.r.seen_end > w.r.seen_begin)
        penalise(room, oct_ptr<const octet_seen_token>(p.seen) + w.r.seen_begin,
                 w.r.seen_end - w.r.seen_begin, begin, end, w.r);
    __syncthreads();
    float *to = changed_of(p, row);
    for (uint32_t c = 0; c < LOOK_PIECES; c++) {
        const uint32_t at = piece_at(slice, c);
        const float4 f = *reinterpret_cast<const float4 *>(room + at - begin);
        v[c][0] = f.x, v[c][1] = f.y, v[c][2] = f.z, v[c][3] = f.w;
        if (at < p.n_vocab) *reinterpret_cast<float4 *>(to + at) = f;
    }
}

/* ---- the look -----------------------------------------------------------------------------------
 */

struct slice_most {
    uint64_t best; /* rank key of the largest */
    bool lost;
};

OCT_DEVICE slice_most most_of(const float v[LOOK_PIECES][4], uint32_t slice) {
    slice_most m = {0, false};
    for (uint32_t c = 0; c < LOOK_PIECES; c++)
        for (uint32_t i = 0; i < 4; i++) {
            const float x = v[c][i];
            if (!(x < oct_float(0x7f800000u))) /* NaN or +infinity: no order, told apart */
                m.lost = true;
            else
                m.best = max(m.best, oct_rank_key(x, piece_at(slice, c) + i));
        }
    return m;
}

OCT_KERNEL(sample_look, oct_sample_params, 256) {
    OCT_SHARED_DYNAMIC(dynamic);
    OCT_SHARED(uint64_t, room, 32);
    OCT_SHARED(double, sums, 32);
    const uint32_t slice = blockIdx.x, row = blockIdx.y;
    float v[LOOK_PIECES][4];
    oct_grid_launch_next();
    oct_grid_wait();
    const sample_wish w = sample_wish_of(p, row);
    const float *x = logits_of(p, row);
    OCT_UNROLL
    for (uint32_t c = 0; c < LOOK_PIECES; c++)
        load4(v[c], x, piece_at(slice, c), p.n_vocab, p.logits.vec != 0);
    if (slice == 0)
        for (uint32_t b = threadIdx.x; b < OCT_SAMPLE_BINS; b += LOOK_THREADS)
            oct_ptr<uint32_t>(p.bins)[static_cast<uint64_t>(row) * OCT_SAMPLE_BINS + b] = 0;

    const slice_most came = most_of(v, slice);
    const uint64_t came_best = block_most(came.best, room);
    const float max_came =
        came_best ? oct_order_value(static_cast<uint32_t>(came_best >> 32)) : minus_infinity();
    double sum = 0.0;
    if (max_came > minus_infinity())
        for (uint32_t c = 0; c < LOOK_PIECES; c++)
            for (uint32_t i = 0; i < 4; i++)
                sum += static_cast<double>(oct_exp(v[c][i] - max_came));
    sum = block_sum(sum, sums);

    slice_most now = came;
    uint64_t best = came_best;
    if (w.changed) {
        change(p, w, row, slice, v, reinterpret_cast<float *>(dynamic));
        now = most_of(v, slice);
        best = block_most(now.best, room);
    }
    const bool lost = __syncthreads_or(came.lost || now.lost);
    if (threadIdx.x != 0) return;
    oct_sample_slice *s = slices_of(p, row) + slice;
    s->sum_came = sum;
    s->max_came = max_came;
    s->max = best ? oct_order_value(static_cast<uint32_t>(best >> 32)) : minus_infinity();
    s->best = static_cast<int32_t>(oct_rank_id(best));
    s->lost = lost;
}

/* ---- how likely everything is -------------------------------------------------------------------
 */

OCT_KERNEL(sample_weigh, oct_sample_params, 256) {
    OCT_SHARED(uint32_t, bins, OCT_SAMPLE_BINS);
    OCT_SHARED(uint64_t, room, 32);
    OCT_SHARED(double, sums, 32);
    const uint32_t slice = blockIdx.x, row = blockIdx.y;
    oct_grid_launch_next();
    oct_grid_wait();
    const sample_wish w = sample_wish_of(p, row);
    if (!sample_draws(w)) return;

    oct_sample_slice *slices = slices_of(p, row);
    uint64_t most = 0;
    bool lost = false;
    for (uint32_t s = threadIdx.x; s < p.n_slices; s += LOOK_THREADS) {
        most = max(most, oct_rank_key(slices[s].max, 0));
        lost |= slices[s].lost != 0;
    }
    const float row_max = oct_order_value(static_cast<uint32_t>(block_most(most, room) >> 32));
    const bool none = row_max == minus_infinity();
    if (__syncthreads_or(lost || none)) return;

    const bool count = w.by_rank || w.by_mass;
    for (uint32_t b = threadIdx.x; b < OCT_SAMPLE_BINS; b += LOOK_THREADS) bins[b] = 0;
    __syncthreads();
    const float *x = w.changed ? changed_of(p, row) : logits_of(p, row);
    const bool vec = w.changed || p.logits.vec;
    double sum = 0.0;
    uint64_t weight = 0;
    for (uint32_t c = 0; c < LOOK_PIECES; c++) {
        const uint32_t at = piece_at(slice, c);
        float v[4];
        load4(v, x, at, p.n_vocab, vec);
        for (uint32_t i = 0; i < 4 && at + i < p.n_vocab; i++) {
            const float t = (v[i] - row_max) * w.inv_t, e = oct_exp(t);
            const bool left = !(e < w.r.min_p);
            sum += static_cast<double>(e);
            if (left) weight += sample_weight(e);
            if (count && (w.by_rank || left)) atomicAdd(&bins[sample_bin(t)], 1u);
        }
    }
    sum = block_sum(sum, sums);
    weight = block_sum(weight, room);
    if (threadIdx.x == 0) slices[slice].sum_p = sum, slices[slice].weight = weight;
    uint32_t *to = oct_ptr<uint32_t>(p.bins) + static_cast<uint64_t>(row) * OCT_SAMPLE_BINS;
    for (uint32_t b = threadIdx.x; count && b < OCT_SAMPLE_BINS; b += LOOK_THREADS)
        if (bins[b]) atomicAdd(&to[b], bins[b]);
}
