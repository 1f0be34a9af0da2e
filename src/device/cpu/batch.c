/* device/cpu/batch.c - checks of batches and caches; attn_input: norm, rotation, the cache's rows.
 */
#include "device/cpu/batch.h"

#include <string.h>

#include "base/checked.h"

/* ---- the cache ------------------------------------------------------------------------------- */

static bool cache_of(uint32_t kind, oct_attn_cache *out) {
    switch (kind) {
    case OCTET_KV_F32:
        *out = OCT_ATTN_F32;
        return true;
    case OCTET_KV_BF16:
        *out = OCT_ATTN_BF16;
        return true;
    case OCTET_KV_I8_CHANNEL:
        *out = OCT_ATTN_I8;
        return true;
    case OCTET_KV_I8_TOKEN:
        *out = OCT_ATTN_I8_TOKEN;
        return true;
    case OCTET_KV_FP8_CHANNEL:
        *out = OCT_ATTN_FP8;
        return true;
    case OCTET_KV_F16:
        *out = OCT_ATTN_F16;
        return true;
    default:
        return false;
    }
}

uint64_t oct_cpu_kv_block_bytes(octet_device *dev, const octet_kv_desc *d) {
    oct_attn_cache cache;
    if (d->struct_bytes < sizeof *d || !cache_of(d->kind, &cache) || d->n_kv_heads == 0 ||
        d->n_kv_heads > UINT16_MAX || d->head_dim == 0 || d->head_dim > OCT_ATTN_MAX_HEAD ||
        d->block_tokens == 0 || d->block_tokens % OCT_ATTN_SUB || d->block_tokens > 65536) {
        (void)CPU_FAIL(dev, OCT_E_UNSUPPORTED,
                       "kv: not a cache this device has (got kind %u, %u heads of %u, blocks of "
                       "%u tokens; want heads up to %d wide, blocks of a multiple of %d)",
                       d->kind, d->n_kv_heads, d->head_dim, d->block_tokens, OCT_ATTN_MAX_HEAD,
                       OCT_ATTN_SUB);
        return 0;
    }
    const uint64_t sub = d->n_kv_heads * oct_kern_kv_head_bytes(cache, d->head_dim);
    return (d->block_tokens / OCT_ATTN_SUB * sub + 63) / 64 * 64;
}

int32_t oct_cpu_kv_open(octet_device *dev, const octet_kv_desc *d, oct_cpu_kv *out) {
    const uint64_t need = oct_cpu_kv_block_bytes(dev, d);
    const uint64_t bytes = (uint64_t)d->n_kv_heads * d->head_dim * sizeof(float);
    if (need == 0) return OCTET_E_UNSUPPORTED;
    *out = (oct_cpu_kv){.n_kv_heads = d->n_kv_heads,
                        .head_dim = d->head_dim,
                        .block_tokens = d->block_tokens,
                        .block_bytes = d->block_bytes};
    cache_of(d->kind, &out->cache);
    out->head_bytes = oct_kern_kv_head_bytes(out->cache, d->head_dim);
    if (d->block_bytes < need || d->block_bytes % 64)
        return CPU_FAIL(dev, OCT_E_INVALID, "kv: bad block size (got %llu bytes, want %llu)",
                        (unsigned long long)d->block_bytes, (unsigned long long)need);
    CPU_TRY(oct_cpu_at(dev, d->base, 0, 64, "kv: base", &out->base));
    out->n_blocks = oct_cpu_bytes_behind(dev, d->base) / d->block_bytes;
    if (out->cache != OCT_ATTN_I8 && out->cache != OCT_ATTN_FP8) return OCTET_OK;
    CPU_TRY(oct_cpu_at(dev, d->k_scale, bytes, 4, "kv: k_scale", &out->k_scale));
    CPU_TRY(oct_cpu_at(dev, d->v_scale, bytes, 4, "kv: v_scale", &out->v_scale));
    if (out->cache != OCT_ATTN_I8) return OCTET_OK;
    CPU_TRY(oct_cpu_at_optional(dev, d->k_offset, bytes, 4, "kv: k_offset", &out->k_offset));
    return oct_cpu_at_optional(dev, d->v_offset, bytes, 4, "kv: v_offset", &out->v_offset);
}

/* ---- the batch ------------------------------------------------------------------------------- */

static int32_t check_sequences(octet_device *dev, const oct_cpu_batch *b) {
    if (b->seq_row[0] != 0 || b->seq_row[b->n_seqs] < 0 ||
        (uint32_t)b->seq_row[b->n_seqs] > b->n_rows)
        return CPU_FAIL(dev, OCT_E_INVALID, "batch: rows %d..%d of sequences, want 0..%u",
                        b->seq_row[0], b->seq_row[b->n_seqs], b->n_rows);
    for (uint32_t s = 0; s < b->n_seqs; s++) {
        const int32_t begin = b->seq_row[s], end = b->seq_row[s + 1];
        if (begin > end || b->seq_kv_len[s] < 0)
            return CPU_FAIL(dev, OCT_E_INVALID,
                            "batch: sequence %u: rows %d..%d, %d tokens in the cache", s, begin,
                            end, b->seq_kv_len[s]);
        for (int32_t r = begin; r < end; r++)
            if (b->row_pos[r] < 0 || b->row_pos[r] != b->row_pos[begin] + (r - begin))
                return CPU_FAIL(dev, OCT_E_INVALID,
                                "batch: row %d: position %d does not follow (sequence %u)", r,
                                b->row_pos[r], s);
    }
    return OCTET_OK;
}

int32_t oct_cpu_batch_open(octet_device *dev, const octet_batch *b, oct_cpu_batch *out) {
    const uint64_t rows = (uint64_t)b->n_rows * 4, seqs = (uint64_t)b->n_seqs * 4;
    uint64_t table = 0;
    if (b->struct_bytes < sizeof *b)
        return CPU_FAIL(dev, OCT_E_INVALID, "batch: struct too small (got %u bytes, want %zu)",
                        b->struct_bytes, sizeof *b);
    if (!oct_mul_u64(seqs, b->table_stride, &table) || b->n_rows > INT32_MAX)
        return CPU_FAIL(dev, OCT_E_INVALID, "batch: too large");
    *out =
        (oct_cpu_batch){.n_seqs = b->n_seqs, .n_rows = b->n_rows, .table_stride = b->table_stride};
    CPU_TRY(oct_cpu_at(dev, b->row_pos, rows, 4, "batch: row_pos", &out->row_pos));
    CPU_TRY(oct_cpu_at(dev, b->row_slot, rows, 4, "batch: row_slot", &out->row_slot));
    CPU_TRY(oct_cpu_at(dev, b->seq_row, seqs + 4, 4, "batch: seq_row", &out->seq_row));
    CPU_TRY(oct_cpu_at(dev, b->seq_kv_len, seqs, 4, "batch: seq_kv_len", &out->seq_kv_len));
    CPU_TRY(oct_cpu_at(dev, b->block_table, table, 4, "batch: block_table", &out->block_table));
    return check_sequences(dev, out);
}

/* ---- attn_input ------------------------------------------------------------------------------ */

typedef struct input_job {
    const octet_device *dev;
    const octet_attn_input_op *op;
    oct_cpu_batch batch;
    oct_cpu_kv kv;
    oct_kv_cache cache;
    float *qkv;
    const float *q_norm, *k_norm, *q_bias, *k_bias, *rope;
} input_job;

/* In place: n_heads heads of one row, normed and rotated. */
static void heads(const input_job *j, float *x, uint32_t n_heads, const float *norm,
                  const float *bias, int32_t pos) {
    const octet_attn_input_op *op = j->op;
    const oct_kern_elem *e = &j->dev->kern.elem;
    const uint32_t dim = j->kv.head_dim, half = op->rotary_dim / 2;
    if (op->qk_norm == OCTET_QK_NORM_FULL)
        e->rms_norm(x, x, NULL, norm, bias, (size_t)n_heads * dim, op->norm_eps);
    for (uint32_t h = 0; h < n_heads; h++, x += dim) {
        if (op->qk_norm == OCTET_QK_NORM_HEAD)
            e->rms_norm(x, x, NULL, norm, bias, dim, op->norm_eps);
        if (half == 0) continue;
        const float *cos = j->rope + (size_t)pos * op->rotary_dim;
        e->rope(x, x, cos, cos + half, half);
    }
}

static void input_share(void *ctx, oct_share share) {
    const input_job *j = ctx;
    const uint32_t dim = j->kv.head_dim, n_kv = j->kv.n_kv_heads;
    size_t begin, end;
    oct_share_of(share, j->batch.n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        float *q = j->qkv + r * j->op->qkv.stride;
        float *k = q + (size_t)j->op->n_heads * dim, *v = k + (size_t)n_kv * dim;
        heads(j, q, j->op->n_heads, j->q_norm, j->q_bias, j->batch.row_pos[r]);
        heads(j, k, n_kv, j->k_norm, j->k_bias, j->batch.row_pos[r]);
        if (j->batch.row_slot[r] >= 0)
            oct_kern_kv_put(&j->dev->kern, &j->cache, (uint64_t)j->batch.row_slot[r], k, v);
    }
}

static int32_t check_rows(octet_device *dev, const input_job *j) {
    for (uint32_t r = 0; r < j->batch.n_rows; r++) {
        const int32_t pos = j->batch.row_pos[r], slot = j->batch.row_slot[r];
        if (j->op->rotary_dim && (pos < 0 || (uint32_t)pos >= j->op->n_rope_rows))
            return CPU_FAIL(dev, OCT_E_INVALID,
                            "attn_input: position without a rotation (got %d, want < %u)", pos,
                            j->op->n_rope_rows);
        if (slot >= 0 && (uint64_t)slot / j->kv.block_tokens >= j->kv.n_blocks)
            return CPU_FAIL(dev, OCT_E_INVALID,
                            "attn_input: slot outside the cache (got %d, want < %llu blocks of %u)",
                            slot, (unsigned long long)j->kv.n_blocks, j->kv.block_tokens);
    }
    return OCTET_OK;
}

/* An int8 cache multiplies: reciprocals of its scales, made once a call. */
static int32_t open_cache(octet_device *dev, input_job *j) {
    const size_t n = (size_t)j->kv.n_kv_heads * j->kv.head_dim;
    j->cache = (oct_kv_cache){.cache = j->kv.cache,
                              .n_kv_heads = j->kv.n_kv_heads,
                              .head_dim = j->kv.head_dim,
                              .block_tokens = j->kv.block_tokens,
                              .base = j->kv.base,
                              .block_bytes = j->kv.block_bytes,
                              .k_offset = j->kv.k_offset,
                              .v_offset = j->kv.v_offset,
                              .k_scale = j->kv.k_scale,
                              .v_scale = j->kv.v_scale};
    if (j->kv.cache != OCT_ATTN_I8) return OCTET_OK;
    float *inv = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_ITEMS, 2 * n * sizeof *inv);
    if (!inv) return OCTET_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        inv[i] = 1.0f / j->kv.k_scale[i];
        inv[n + i] = 1.0f / j->kv.v_scale[i];
    }
    j->cache.k_inv = inv;
    j->cache.v_inv = inv + n;
    return OCTET_OK;
}

int32_t oct_cpu_attn_input(octet_device *dev, const octet_attn_input_op *op) {
    input_job j = {.dev = dev, .op = op};
    CPU_TRY(oct_cpu_kv_open(dev, &op->kv, &j.kv));
    CPU_TRY(oct_cpu_batch_open(dev, &op->batch, &j.batch));
    const uint64_t dim = j.kv.head_dim, n_all = (uint64_t)op->n_heads + 2 * j.kv.n_kv_heads;
    const uint64_t full = op->qk_norm == OCTET_QK_NORM_FULL;
    if (op->rotary_dim % 2 || op->rotary_dim > dim || op->qk_norm > OCTET_QK_NORM_FULL)
        return CPU_FAIL(dev, OCT_E_INVALID,
                        "attn_input: bad rotation or norm (got %u of %llu, kind %u)",
                        op->rotary_dim, (unsigned long long)dim, op->qk_norm);
    CPU_TRY(oct_cpu_rows(dev, op->qkv, j.batch.n_rows, n_all * dim, "attn_input: qkv", &j.qkv));
    if (op->qk_norm) {
        const uint64_t q_bytes = dim * 4 * (full ? op->n_heads : 1);
        const uint64_t k_bytes = dim * 4 * (full ? j.kv.n_kv_heads : 1);
        CPU_TRY(oct_cpu_at(dev, op->q_norm, q_bytes, 4, "attn_input: q_norm", &j.q_norm));
        CPU_TRY(oct_cpu_at(dev, op->k_norm, k_bytes, 4, "attn_input: k_norm", &j.k_norm));
        CPU_TRY(oct_cpu_at_optional(dev, op->q_norm_bias, q_bytes, 4, "attn_input: q_norm_bias",
                                    &j.q_bias));
        CPU_TRY(oct_cpu_at_optional(dev, op->k_norm_bias, k_bytes, 4, "attn_input: k_norm_bias",
                                    &j.k_bias));
    }
    if (op->rotary_dim)
        CPU_TRY(oct_cpu_at(dev, op->rope, (uint64_t)op->n_rope_rows * op->rotary_dim * 4, 4,
                           "attn_input: rope", &j.rope));
    CPU_TRY(check_rows(dev, &j));
    CPU_TRY(open_cache(dev, &j));
    oct_cpu_share_rows(dev, j.batch.n_rows, 2 * n_all * dim, input_share, &j);
    return OCTET_OK;
}
