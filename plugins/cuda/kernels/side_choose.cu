/*
 * kernels/side_choose.cu - the token of a row and what is reported of it, a block a row. Arguments:
 * side.h; what came before: side_sample.cu.
 *
 * Nothing is sorted. Top-k and top-p each need one number, the least value that stays, and the id
 * of the last that stays among those that equal it: a search over the bits of the value, three at a
 * time, adds up counts or integer weights, whose order does not matter. It runs over a short list
 * of those that can be left; the bins tell how short. The running sums of the draw are made by
 * levels (slices, warps, threads, logits), each ascending from the sum before it.
 */
#include "side_sample.cuh"

enum {
    THREADS = 1024,
    WARPS = THREADS / 32,
    LIST_BYTES = OCT_SAMPLE_LIST * 8, /* then a double for each slice */
};
static_assert(static_cast<int>(THREADS) == static_cast<int>(OCT_SAMPLE_BINS), "a bin a thread");
static_assert(static_cast<int>(THREADS) == static_cast<int>(OCT_SAMPLE_SLICES), "a slice a thread");

/* What is looked at: a list, ids ascending, or (ids null) all logits of the row. */
struct pool {
    const float *x;
    const uint32_t *ids;
    uint32_t n;
};

OCT_DEVICE uint32_t id_of(const pool &c, uint32_t j) { return c.ids ? c.ids[j] : j; }

/* Shared memory of a block by purpose. */
struct chooser {
    uint64_t *wide;   /* [32] */
    double *sums;     /* [32] */
    uint32_t *narrow; /* [32] */
    uint64_t *digits; /* [32 * 8] */
    double *answer;   /* [2] */
    uint32_t *found;  /* [2] */
    uint32_t *list;   /* ids, then values [OCT_SAMPLE_LIST] each */
    double *parts;    /* [THREADS] */
};

/* ---- a bound by counts or weights
 * ----------------------------------------------------------------
 */

/* A token's place in the order that is searched, and what it counts; nothing if it is not left. */
struct measure {
    uint32_t key;
    uint64_t n;
};

OCT_DEVICE measure measure_of(const sample_rule &r, bool by_mass, float x, uint32_t id) {
    if (!by_mass) return {oct_order_key(x), 1};
    const float e = sample_left(r, x, id);
    return {oct_order_key(e), sample_weight(e)};
}

/* The sums of eight numbers over the block, one for each digit, into shared memory. */
OCT_DEVICE const uint64_t *digit_sums(const chooser &m, uint64_t v[8]) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    /* Halving: a lane gives away the half of its digits that are not its own. */
    OCT_UNROLL
    for (uint32_t half = 4; half > 0; half /= 2) {
        const uint32_t bit = half * 4;
        OCT_UNROLL
        for (uint32_t i = 0; i < half; i++) {
            const bool upper = (lane & bit) != 0;
            const uint64_t give = upper ? v[i] : v[i + half];
            const uint64_t keep = upper ? v[i + half] : v[i];
            v[i] = keep + __shfl_xor_sync(0xffffffffu, give, static_cast<int>(bit));
        }
    }
    v[0] += __shfl_xor_sync(0xffffffffu, v[0], 2);
    v[0] += __shfl_xor_sync(0xffffffffu, v[0], 1);
    __syncthreads();
    if (lane % 4 == 0) m.digits[warp * 8 + lane / 4] = v[0];
    __syncthreads();
    if (warp < 8) { /* warp d folds digit d; its sum takes the place of one of its own terms */
        const uint64_t all = warp_sum(m.digits[lane * 8 + warp]);
        if (lane == 0) m.wide[warp] = all;
    }
    __syncthreads();
    return m.wide;
}

/* The id of the n-th (from 1) token at the key. */
OCT_DEVICE uint32_t nth_at(const chooser &m, const sample_rule &r, bool by_mass, const pool &c,
                           uint32_t key, uint64_t n) {
    for (uint32_t from = 0; from < c.n; from += THREADS) {
        const uint32_t j = from + threadIdx.x;
        bool at = false;
        if (j < c.n) {
            const measure o = measure_of(r, by_mass, c.x[j], id_of(c, j));
            at = o.key == key && o.n > 0;
        }
        uint32_t all;
        const uint32_t before = block_before(at, m.narrow, &all);
        if (n <= all) {
            if (at && before + 1 == n) m.found[0] = id_of(c, j);
            __syncthreads();
            return m.found[0];
        }
        n -= all;
    }
    return 0xffffffffu;
}

/* The bound at which what is left reaches target (1 .. the sum of all). */
OCT_DEVICE sample_bound find_bound(const chooser &m, const sample_rule &r, bool by_mass,
                                   const pool &c, uint64_t target) {
    uint32_t key = 0;
    for (int shift = 30; shift >= 0; shift -= 3) {
        const uint32_t known = shift == 30 ? 0 : ~0u << (shift + 3);
        uint64_t v[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        for (uint32_t j = threadIdx.x; j < c.n; j += THREADS) {
            const measure o = measure_of(r, by_mass, c.x[j], id_of(c, j));
            const uint32_t digit = o.key >> shift & 7u;
            OCT_UNROLL
            for (uint32_t d = 0; d < 8; d++) v[d] += (o.key & known) == key && digit == d ? o.n : 0;
        }
        const uint64_t *sums = digit_sums(m, v);
        uint32_t d = 7;
        for (; d > 0 && sums[d] < target; d--) target -= sums[d];
        key |= d << shift;
    }
    /* target is what is missing at the key; every one there counts the same. */
    uint64_t each = 1;
    if (by_mass) each = sample_weight(oct_order_value(key));
    if (each > 1) target = (target + each - 1) / each;
    return {key, nth_at(m, r, by_mass, c, key, target)};
}

/* ---- who can be left ----------------------------------------------------------------------------
 */

/* The bin below which nothing can be left, from how many lie in each; n: how many that are. */
OCT_DEVICE uint32_t last_bin(const chooser &m, const uint32_t *bins, const sample_wish &w,
                             uint64_t target, uint32_t *n) {
    /* One bin a thread: what it counts at least, then the first whose running sum is enough. */
    const uint32_t b = threadIdx.x;
    const uint32_t count = bins[b];
    uint64_t least = count;
    if (!w.by_rank && w.by_mass) {
        const float edge = -static_cast<float>(b + 1) / static_cast<float>(OCT_SAMPLE_BINS_A_UNIT);
        least *= b + 1 < OCT_SAMPLE_BINS ? sample_weight(oct_exp(edge)) : 0;
    }
    const uint32_t lane = b % 32, warp = b / 32;
    uint64_t upto = least;
    uint32_t n_upto = count;
    for (uint32_t d = 1; d < 32; d *= 2) {
        const uint64_t o = __shfl_up_sync(0xffffffffu, upto, d);
        const uint32_t k = __shfl_up_sync(0xffffffffu, n_upto, d);
        if (lane >= d) upto += o, n_upto += k;
    }
    __syncthreads();
    if (lane == 31) m.wide[warp] = upto, m.narrow[warp] = n_upto;
    if (b == 0) m.found[0] = OCT_SAMPLE_BINS - 1, m.found[1] = 0xffffffffu;
    __syncthreads();
    for (uint32_t i = 0; i < warp; i++) upto += m.wide[i], n_upto += m.narrow[i];
    const bool enough = upto >= target && upto - least < target;
    if (enough) m.found[0] = b, m.found[1] = n_upto;
    __syncthreads();
    *n = m.found[1];
    return m.found[0];
}

/* The logits of the row up to a bin, ids ascending, if they are few; else all. */
OCT_DEVICE pool gather_pool(const oct_sample_params &p, const chooser &m, const sample_wish &w,
                            const sample_rule &r, const float *x, const oct_sample_slice *slices,
                            uint32_t bin, uint32_t n) {
    if (n > OCT_SAMPLE_LIST) return {x, nullptr, p.n_vocab};
    uint32_t *const ids = m.list;
    float *const values = reinterpret_cast<float *>(m.list + OCT_SAMPLE_LIST);
    uint32_t have = 0;
    for (uint32_t s = 0; s < p.n_slices && have < n; s++) {
        if (sample_bin((slices[s].max - r.max) * r.inv_t) > bin) continue;
        for (uint32_t c = 0; c < OCT_SAMPLE_SLICE / THREADS; c++) {
            const uint32_t i = s * OCT_SAMPLE_SLICE + c * THREADS + threadIdx.x;
            bool in = false;
            float v = 0;
            if (i < p.n_vocab) {
                v = x[i];
                const float t = (v - r.max) * r.inv_t;
                in = sample_bin(t) <= bin && (w.by_rank || !(oct_exp(t) < r.min_p));
            }
            uint32_t all;
            const uint32_t at = have + block_before(in, m.narrow, &all);
            if (in && at < OCT_SAMPLE_LIST) ids[at] = i, values[at] = v;
            have += all;
        }
    }
    __syncthreads();
    return {values, ids, have};
}

/* What the rule leaves, as integers. */
OCT_DEVICE uint64_t weight_left(const chooser &m, const sample_rule &r, const pool &c) {
    uint64_t sum = 0;
    for (uint32_t j = threadIdx.x; j < c.n; j += THREADS)
        sum += sample_weight(sample_left(r, c.x[j], id_of(c, j)));
    return block_sum(sum, m.wide);
}

/* ceil(top_p * total), at least 1 and at most total. */
OCT_DEVICE uint64_t mass_wanted(float top_p, uint64_t total) {
    const double want = ceil(static_cast<double>(top_p) * static_cast<double>(total));
    const uint64_t target = want < 1.0 ? 1 : static_cast<uint64_t>(want);
    return target > total ? total : target;
}

/* Completes the rule; the pool holds at least all that are left. */
OCT_DEVICE pool restrict_row(const oct_sample_params &p, const chooser &m, const sample_wish &w,
                             uint32_t row, const oct_sample_slice *slices, const float *x,
                             sample_rule *r) {
    pool c = {x, nullptr, p.n_vocab};
    if (!w.by_rank && !w.by_mass) return c;
    uint64_t weight = 0;
    for (uint32_t s = threadIdx.x; s < p.n_slices; s += THREADS) weight += slices[s].weight;
    weight = block_sum(weight, m.wide);
    const uint64_t target =
        w.by_rank ? static_cast<uint64_t>(w.r.top_k) : mass_wanted(w.r.top_p, weight);
    const uint32_t *bins =
        oct_ptr<const uint32_t>(p.bins) + static_cast<uint64_t>(row) * OCT_SAMPLE_BINS;
    uint32_t n;
    const uint32_t bin = last_bin(m, bins, w, target, &n);
    c = gather_pool(p, m, w, *r, x, slices, bin, n);
    if (w.by_rank) r->rank = find_bound(m, *r, false, c, target);
    if (!w.by_mass) return c;
    if (w.by_rank) weight = weight_left(m, *r, c);
    r->mass = find_bound(m, *r, true, c, mass_wanted(w.r.top_p, weight));
    return c;
}

/* ---- the draw
 * ------------------------------------------------------------------------------------ */

/* p of four of the pool. */
OCT_DEVICE double four_of(const sample_rule &r, const pool &c, uint32_t at, float e[4]) {
    double sum = 0.0;
    for (uint32_t i = 0; i < 4; i++) {
        e[i] = at + i < c.n ? sample_left(r, c.x[at + i], id_of(c, at + i)) : 0.0f;
        sum += static_cast<double>(e[i]);
    }
    return sum;
}

/* The first of n ascending steps whose running sum from `base` exceeds the mark, base then the sum
 * before it; the last that is not 0 if none does. */
template <typename F> OCT_DEVICE uint32_t step_over(F term, uint32_t n, double mark, double *base) {
    uint32_t last = 0;
    double sum = *base, before = *base;
    for (uint32_t i = 0; i < n; i++) {
        const double v = term(i);
        if (v > 0.0) last = i, before = sum;
        sum += v;
        if (sum > mark) break;
    }
    *base = before;
    return last;
}

/* parts: p of each slice of the pool added up. */
OCT_DEVICE uint32_t draw(const chooser &m, const sample_rule &r, const pool &c, float u) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t n_parts = (c.n + OCT_SAMPLE_SLICE - 1) / OCT_SAMPLE_SLICE;
    const double *parts = m.parts;
    __syncthreads();
    if (threadIdx.x == 0) {
        double total = 0.0, base = 0.0;
        for (uint32_t i = 0; i < n_parts; i++) total += parts[i];
        const double mark = static_cast<double>(u) * total;
        m.found[0] = step_over([parts](uint32_t i) { return parts[i]; }, n_parts, mark, &base);
        m.answer[0] = mark, m.answer[1] = base;
    }
    __syncthreads();
    const double mark = m.answer[0];
    double base = m.answer[1];
    const uint32_t at = m.found[0] * OCT_SAMPLE_SLICE + threadIdx.x * 4;
    float e[4];
    const double own = four_of(r, c, at, e), of_warp = warp_sum(own);
    if (lane == 0) m.sums[warp] = of_warp;
    __syncthreads();
    const double *sums = m.sums;
    const uint32_t in = step_over([sums](uint32_t i) { return sums[i]; }, WARPS, mark, &base);
    if (warp == in) { /* a value above 0 in one of its lanes, unless all of the slice are 0 */
        m.parts[lane] = own;
        __syncwarp();
        const uint32_t by = step_over([parts](uint32_t i) { return parts[i]; }, 32, mark, &base);
        const uint32_t which =
            step_over([&e](uint32_t i) { return static_cast<double>(e[i]); }, 4, mark, &base);
        if (lane == by) m.found[1] = id_of(c, at + which);
    }
    __syncthreads();
    return m.found[1];
}

/* Sums for the draw: those of sample_weigh, unless tokens were dropped. */
OCT_DEVICE void sum_parts(const oct_sample_params &p, const chooser &m, const sample_rule &r,
                          const oct_sample_slice *slices, const pool &c, bool dropped) {
    __syncthreads();
    if (!dropped) {
        if (threadIdx.x < p.n_slices) m.parts[threadIdx.x] = slices[threadIdx.x].sum_p;
        return;
    }
    for (uint32_t from = 0; from < c.n; from += OCT_SAMPLE_SLICE) {
        float e[4];
        const double sum = block_sum(four_of(r, c, from + threadIdx.x * 4, e), m.sums);
        if (threadIdx.x == 0) m.parts[from / OCT_SAMPLE_SLICE] = sum;
    }
}

/* ---- the report
 * ---------------------------------------------------------------------------------- */

enum view_kind { VIEW_CAME, VIEW_CHANGED, VIEW_LEFT };

/* The logits that log probabilities are told of. */
struct view {
    view_kind kind;
    const float *x;
    sample_rule rule; /* VIEW_LEFT */
};

OCT_DEVICE float viewed(const view &v, uint32_t i) {
    const float x = v.x[i];
    if (v.kind != VIEW_LEFT) return x;
    return sample_is_left(v.rule, x, i) ? x * v.rule.inv_t : minus_infinity();
}

/* At least every value of a slice. */
OCT_DEVICE float most_viewed(const view &v, const oct_sample_slice &s) {
    if (v.kind == VIEW_CAME) return s.max_came;
    return v.kind == VIEW_LEFT ? s.max * v.rule.inv_t : s.max;
}

/* max + log(sum exp(x - max)). */
OCT_DEVICE double log_total(const oct_sample_params &p, const chooser &m, const view &v,
                            const oct_sample_slice *slices) {
    uint64_t most = 0;
    for (uint32_t s = threadIdx.x; s < p.n_slices; s += THREADS)
        most = max(most, oct_rank_key(most_viewed(v, slices[s]), 0));
    const float top = oct_order_value(static_cast<uint32_t>(block_most(most, m.wide) >> 32));
    if (top == minus_infinity()) return 0.0;
    double sum = 0.0;
    if (v.kind == VIEW_CAME) {
        for (uint32_t s = threadIdx.x; s < p.n_slices; s += THREADS)
            sum += slices[s].sum_came * static_cast<double>(oct_exp(slices[s].max_came - top));
    } else {
        for (uint32_t i = threadIdx.x; i < p.n_vocab; i += THREADS)
            sum += static_cast<double>(oct_exp(viewed(v, i) - top));
    }
    return static_cast<double>(top) + log(block_sum(sum, m.sums));
}

OCT_DEVICE uint32_t rank_of(const oct_sample_params &p, const chooser &m, const view &v,
                            const oct_sample_slice *slices, uint32_t id) {
    const float x = viewed(v, id);
    uint32_t before = 0;
    for (uint32_t s = 0; s < p.n_slices; s++) {
        if (most_viewed(v, slices[s]) < x) continue;
        const uint32_t begin = s * OCT_SAMPLE_SLICE;
        const uint32_t end = min(begin + OCT_SAMPLE_SLICE, p.n_vocab);
        for (uint32_t i = begin + threadIdx.x; i < end; i += THREADS) {
            const float o = viewed(v, i);
            before += o > x || (o == x && i < id);
        }
    }
    before = __reduce_add_sync(0xffffffffu, before);
    __syncthreads();
    if (threadIdx.x % 32 == 0) m.narrow[threadIdx.x / 32] = before;
    __syncthreads();
    return 1 + __reduce_add_sync(0xffffffffu, m.narrow[threadIdx.x % 32]);
}

/* The best of a part of the row behind `last`, sought by a warp. */
OCT_DEVICE uint64_t best_of_part(const oct_sample_params &p, const view &v, uint32_t part,
                                 uint64_t last) {
    const uint32_t begin = part * p.part, end = min(begin + p.part, p.n_vocab);
    uint64_t best = 0;
    for (uint32_t i = begin + threadIdx.x % 32; i < end; i += 32) {
        const uint64_t key = oct_rank_key(viewed(v, i), i);
        if (key < last) best = max(best, key);
    }
    return warp_most(best);
}

/* A bit for each slice: whether one of the n largest may lie there. Not where n others have a
 * larger one; of what was dropped nothing is known. */
OCT_DEVICE const uint32_t *slices_worth(const oct_sample_params &p, const chooser &m, const view &v,
                                        const oct_sample_slice *slices, uint32_t n) {
    const uint32_t s = threadIdx.x;
    uint32_t ahead = 0;
    if (s < p.n_slices && v.kind != VIEW_LEFT) {
        const uint64_t own = oct_rank_key(most_viewed(v, slices[s]), s);
        for (uint32_t o = 0; o < p.n_slices; o++)
            ahead += oct_rank_key(most_viewed(v, slices[o]), o) > own;
    }
    const uint32_t worth = __ballot_sync(0xffffffffu, ahead < n);
    __syncthreads();
    if (s % 32 == 0) m.narrow[s / 32] = worth;
    __syncthreads();
    return m.narrow;
}

/* The n likeliest, one after the other: the best of all parts, then the next best of its part. A
 * part's best is held by the thread of that number, modulo the block. */
OCT_DEVICE void report_top(const oct_sample_params &p, const chooser &m, const view &v,
                           const oct_sample_slice *slices, uint32_t row, uint32_t n, double shift) {
    const uint32_t *worth = slices_worth(p, m, v, slices, n);
    enum { HELD = OCT_SAMPLE_PARTS / THREADS };
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t n_parts = (p.n_vocab + p.part - 1) / p.part;
    uint64_t best[HELD];
    OCT_UNROLL
    for (uint32_t h = 0; h < HELD; h++) {
        best[h] = 0;
        for (uint32_t l = 0; l < 32; l++) {
            const uint32_t part = h * THREADS + warp * 32 + l;
            if (part >= n_parts) break;
            const uint32_t slice = part * p.part / OCT_SAMPLE_SLICE;
            if (!(worth[slice / 32] >> (slice % 32) & 1u)) continue;
            const uint64_t of = best_of_part(p, v, part, ~0ull);
            if (lane == l) best[h] = of;
        }
    }
    const uint64_t to = static_cast<uint64_t>(row) * p.max_top;
    for (uint32_t k = 0; k < n; k++) {
        uint64_t mine = 0;
        OCT_UNROLL
        for (uint32_t h = 0; h < HELD; h++) mine = max(mine, best[h]);
        const uint64_t next = block_most(mine, m.wide);
        const uint32_t part = oct_rank_id(next) / p.part;
        if (threadIdx.x == 0) {
            const float x = oct_order_value(static_cast<uint32_t>(next >> 32));
            oct_ptr<int32_t>(p.top_id)[to + k] = static_cast<int32_t>(oct_rank_id(next));
            oct_ptr<float>(p.top_logprob)[to + k] =
                static_cast<float>(static_cast<double>(x) - shift);
        }
        if (part % THREADS / 32 != warp) continue;
        const uint64_t then = best_of_part(p, v, part, next);
        OCT_UNROLL
        for (uint32_t h = 0; h < HELD; h++)
            if (part / THREADS == h && part % 32 == lane) best[h] = then;
    }
}

/* ---- the operation
 * ------------------------------------------------------------------------------- */

OCT_DEVICE void clear_out(const oct_sample_params &p, uint32_t row, int32_t status) {
    const uint64_t top = static_cast<uint64_t>(row) * p.max_top;
    for (uint32_t i = threadIdx.x; i < p.max_top; i += THREADS) {
        oct_ptr<int32_t>(p.top_id)[top + i] = -1;
        oct_ptr<float>(p.top_logprob)[top + i] = minus_infinity();
    }
    if (threadIdx.x == 0) oct_ptr<octet_sample_out>(p.out)[row] = {-1, status, minus_infinity(), 0};
    __syncthreads();
}

OCT_KERNEL(sample_choose, oct_sample_params, 1024) {
    OCT_SHARED_DYNAMIC(dynamic);
    OCT_SHARED(uint64_t, wide, 32);
    OCT_SHARED(double, sums, 32);
    OCT_SHARED(uint32_t, narrow, 32);
    OCT_SHARED(uint64_t, digits, 256);
    OCT_SHARED(double, answer, 2);
    OCT_SHARED(uint32_t, found, 2);
    const chooser m = {wide,
                       sums,
                       narrow,
                       digits,
                       answer,
                       found,
                       reinterpret_cast<uint32_t *>(dynamic),
                       reinterpret_cast<double *>(dynamic + LIST_BYTES)};
    const uint32_t row = blockIdx.x;
    oct_grid_launch_next();
    oct_grid_wait();
    const sample_wish w = sample_wish_of(p, row);
    const oct_sample_slice *slices = slices_of(p, row);
    if (w.bad && threadIdx.x == 0)
        oct_raise(p.fault, OCT_FAULT_SAMPLE_ROW, static_cast<int32_t>(row));

    uint64_t most = 0;
    bool is_lost = false;
    for (uint32_t s = threadIdx.x; s < p.n_slices; s += THREADS) {
        is_lost |= slices[s].lost != 0;
        if (!slices[s].lost)
            most = max(most, oct_rank_key(slices[s].max, static_cast<uint32_t>(slices[s].best)));
    }
    most = block_most(most, m.wide);
    if (__syncthreads_or(is_lost)) return clear_out(p, row, OCTET_SAMPLE_NOT_FINITE);
    const float row_max = oct_order_value(static_cast<uint32_t>(most >> 32));
    if (row_max == minus_infinity()) return clear_out(p, row, OCTET_SAMPLE_NONE_ALLOWED);
    clear_out(p, row, OCTET_SAMPLED);

    const float *x = w.changed ? changed_of(p, row) : logits_of(p, row);
    uint32_t token = w.forced ? static_cast<uint32_t>(w.r.forced) : oct_rank_id(most);
    view seen = {VIEW_CAME, logits_of(p, row), {row_max, w.inv_t, w.r.min_p, {0, 0}, {0, 0}}};
    if (sample_draws(w)) {
        sample_rule *r = &seen.rule;
        if (!(r->min_p > 0.0f)) r->min_p = 0.0f;
        const pool c = restrict_row(p, m, w, row, slices, x, r);
        const bool dropped = w.by_rank || w.by_mass || r->min_p > 0.0f;
        if (!w.forced) {
            sum_parts(p, m, *r, slices, c, dropped);
            token = draw(m, *r, c, sample_uniform(w.r));
        }
    }
    if (w.processed && (w.changed || !w.greedy)) {
        seen.kind = w.greedy ? VIEW_CHANGED : VIEW_LEFT;
        seen.x = x;
    }
    const double shift = w.r.flags & OCTET_SAMPLE_RAW_LOGITS ? 0.0 : log_total(p, m, seen, slices);
    const uint32_t rank = rank_of(p, m, seen, slices, token);
    if (threadIdx.x == 0) {
        const double of = static_cast<double>(viewed(seen, token)) - shift;
        oct_ptr<octet_sample_out>(p.out)[row] = {static_cast<int32_t>(token), OCTET_SAMPLED,
                                                 static_cast<float>(of), rank};
    }
    if (w.r.n_top) report_top(p, m, seen, slices, row, min(w.r.n_top, p.n_vocab), shift);
}
