/*
 * kernels/attn_join.cu - the chunks of rows whose attention was split (attn_tile.cuh), combined
 * ascending, finished and quantised: a kernel of its own, so that no block waits for others to have
 * written. A group of threads holds a row, a thread pieces of 8 channels (rows.cuh).
 */
#include "attn_tile.cuh"

/* A row, and what its tile saw. */
struct joined {
    uint32_t row, in_tile; /* of the batch; of the tile */
    uint64_t tile;
    uint32_t first, end; /* chunks */
};

OCT_DEVICE bool find_row(const oct_attn_params &p, uint32_t index, joined *j) {
    const uint32_t seq = index / p.join_rows, in = index - seq * p.join_rows;
    uint32_t first = 0;
    int kv_len = 0;
    if (seq >= p.batch.n_seqs) return false;
    const uint32_t n = attn_rows_of(p, seq, &first, &kv_len);
    if (in >= n) return false;
    const uint32_t tile = in / p.tile_rows, row0 = tile * p.tile_rows;
    const uint32_t end = n - row0 < p.tile_rows ? n : row0 + p.tile_rows;
    const int32_t *pos = oct_ptr<const int32_t>(p.batch.row_pos) + first;
    const int lo = attn_visible(p, pos[row0], kv_len).lo;
    const int hi = attn_visible(p, pos[end - 1], kv_len).hi;
    const bool nothing = lo >= hi;
    *j = {first + in, in - row0, static_cast<uint64_t>(seq) * p.seq_tiles + tile,
          nothing ? 0 : static_cast<uint32_t>(lo) / OCT_ATTN_CHUNK,
          nothing ? 0 : static_cast<uint32_t>(hi - 1) / OCT_ATTN_CHUNK + 1};
    return true;
}

/* Channels col .. col + 3 of the row, as they are stored: rounded to bfloat16. */
OCT_DEVICE void join4(const oct_attn_params &p, const joined &j, uint32_t col, float x[4]) {
    const uint32_t head = col / p.kv.head_dim, d = col - head * p.kv.head_dim;
    const uint32_t kv_head = head / p.group, in_group = head - kv_head * p.group;
    const uint32_t part = in_group / p.tile_heads, head0 = part * p.tile_heads;
    const uint32_t n_heads = p.group - head0 < p.tile_heads ? p.group - head0 : p.tile_heads;
    const uint32_t v = j.in_tile * n_heads + in_group - head0, pad = p.kv.pad;
    const uint64_t item = j.tile * (p.kv.n_kv_heads * p.head_tiles) + kv_head * p.head_tiles + part;
    const float *at = oct_ptr<const float>(p.partials) +
                      (item * p.max_chunks + j.first) * OCT_ATTN_PART_FLOATS(pad);
    attn_part total = {0.0f, 0.0f, 1.0f};
    float acc[4] = {0};
#pragma unroll 4
    for (uint32_t c = j.first; c < j.end; c++, at += OCT_ATTN_PART_FLOATS(pad)) {
        const attn_part of_chunk = {at[8 * pad + v], at[8 * pad + 8 + v], 1.0f};
        const float4 f = *reinterpret_cast<const float4 *>(at + v * pad + d);
        const float o[4] = {f.x, f.y, f.z, f.w};
        attn_merge(&total, acc, of_chunk, o);
    }
    attn_finish<4>(p, kv_head, total, 1.0f / total.l, d, acc, x);
    if (p.out.rows.data) attn_store4(p.out.rows, j.row, col, x);
#pragma unroll
    for (int i = 0; i < 4; i++) x[i] = oct_bf16_f32(oct_f32_bf16(x[i]));
}

template <int C> OCT_DEVICE void join(const oct_attn_params &p) {
    OCT_SHARED(float, room, 64);
    oct_group g = oct_group_of(p.join_threads, room);
    const uint32_t width = p.n_heads * p.kv.head_dim;
    const bool clustered = g.n > blockDim.x;
    joined j;
    float v[C][8];
    oct_grid_launch_next();
    const bool found = find_row(p, g.row, &j); /* the batch is no kernel's result */
    oct_grid_wait();
    if (!found) {
        if (clustered) oct_cluster_wait(); /* oct_group_of arrived */
        return;
    }
    g.row = j.row;
#pragma unroll(C > 4 ? 1 : C)
    for (int c = 0; c < C; c++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint32_t at = (g.thread + static_cast<uint32_t>(c) * g.n) * 8 + 4 * half;
            float *x = v[c] + 4 * half;
            x[0] = x[1] = x[2] = x[3] = 0.0f;
            if (at < width) join4(p, j, at, x);
        }
    if (p.out.quant.mode)
        oct_quant_row<C>(p.out.quant, g, v, width, p.fault, 0);
    else if (clustered)
        oct_cluster_wait();
}

OCT_KERNEL(attn_join_1, oct_attn_params, 256) { join<1>(p); }
OCT_KERNEL(attn_join_2, oct_attn_params, 256) { join<2>(p); }
OCT_KERNEL(attn_join_4, oct_attn_params, 1024) { join<4>(p); }
OCT_KERNEL(attn_join_16, oct_attn_params, 1024) { join<16>(p); }
