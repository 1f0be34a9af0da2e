/* kv.c - the layout of the KV cache (kernels/attn.h) in bytes, and the places of a batch. */
#include "kv.h"

/* Bytes of an element; 0: no such kind. */
static uint32_t element_bytes(uint32_t kind) {
    switch (kind) {
    case OCTET_KV_F32:
        return 4;
    case OCTET_KV_BF16:
    case OCTET_KV_F16:
        return 2;
    case OCTET_KV_I8_CHANNEL:
    case OCTET_KV_I8_TOKEN:
    case OCTET_KV_FP8_CHANNEL:
        return 1;
    default:
        return 0;
    }
}

static uint64_t sub_bytes(const octet_kv_desc *kv) {
    const uint64_t values =
        2ull * OCT_ATTN_SUB * oct_kv_pad(kv->head_dim) * element_bytes(kv->kind);
    return values + (kv->kind == OCTET_KV_I8_TOKEN ? 2 * OCT_ATTN_SUB * sizeof(float) : 0);
}

static int supported(const octet_kv_desc *kv) {
    return element_bytes(kv->kind) && kv->n_kv_heads && kv->n_kv_heads <= UINT16_MAX &&
           kv->head_dim && kv->head_dim % 16 == 0 && kv->head_dim <= OCT_ATTN_MAX_HEAD &&
           kv->block_tokens && kv->block_tokens % OCT_ATTN_SUB == 0 &&
           kv->block_tokens <= INT32_MAX;
}

uint64_t oct_cuda_kv_block_bytes(octet_device *dev, const octet_kv_desc *desc) {
    uint64_t bytes = 0;
    (void)dev;
    if (!supported(desc) ||
        __builtin_mul_overflow(sub_bytes(desc),
                               (uint64_t)desc->n_kv_heads * (desc->block_tokens / OCT_ATTN_SUB),
                               &bytes))
        return 0;
    return bytes;
}

/* Numbers of all channels. */
static int32_t channels(octet_device *dev, const octet_kv_desc *kv, octet_ref ref, int needed,
                        const char *what, oct_addr *out) {
    const uint64_t bytes = (uint64_t)kv->n_kv_heads * kv->head_dim * sizeof(float);
    return needed ? oct_cuda_at(dev, ref, bytes, sizeof(float), what, out)
                  : oct_cuda_at_optional(dev, ref, bytes, sizeof(float), what, out);
}

int32_t oct_cuda_kv(octet_device *dev, const octet_kv_desc *kv, const char *what, oct_p_kv *out) {
    const uint64_t bytes = oct_cuda_kv_block_bytes(dev, kv);
    *out = (oct_p_kv){.block_bytes = kv->block_bytes,
                      .kind = kv->kind,
                      .n_kv_heads = kv->n_kv_heads,
                      .head_dim = kv->head_dim,
                      .block_tokens = kv->block_tokens};
    if (!bytes)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED,
                             "%s: no such cache (got kind %u, %u heads of %u, blocks of %u)", what,
                             kv->kind, kv->n_kv_heads, kv->head_dim, kv->block_tokens);
    if (kv->block_bytes < bytes || kv->block_bytes % 16)
        return oct_cuda_fail(dev, OCTET_E_INVALID,
                             "%s: blocks too small (got %llu bytes, want %llu)", what,
                             (unsigned long long)kv->block_bytes, (unsigned long long)bytes);
    out->pad = oct_kv_pad(kv->head_dim);
    out->sub_bytes = sub_bytes(kv);
    CUDA_TRY(oct_cuda_at(dev, kv->base, kv->block_bytes, 16, what, &out->base));
    const uint64_t n_blocks = oct_cuda_bytes_behind(dev, kv->base) / kv->block_bytes;
    out->n_blocks = n_blocks > INT32_MAX ? INT32_MAX : (uint32_t)n_blocks;
    const int i8 = kv->kind == OCTET_KV_I8_CHANNEL, scaled = i8 || kv->kind == OCTET_KV_FP8_CHANNEL;
    if (!scaled) return OCTET_OK;
    CUDA_TRY(channels(dev, kv, kv->k_scale, 1, what, &out->k_scale));
    CUDA_TRY(channels(dev, kv, kv->v_scale, 1, what, &out->v_scale));
    if (!i8) return OCTET_OK;
    CUDA_TRY(channels(dev, kv, kv->k_offset, 0, what, &out->k_offset));
    return channels(dev, kv, kv->v_offset, 0, what, &out->v_offset);
}

int32_t oct_cuda_batch(octet_device *dev, const octet_batch *batch, int slots, const char *what,
                       oct_p_batch *out) {
    const uint64_t rows = (uint64_t)batch->n_rows * 4, seqs = (uint64_t)batch->n_seqs * 4;
    *out = (oct_p_batch){
        .n_seqs = batch->n_seqs, .n_rows = batch->n_rows, .table_stride = batch->table_stride};
    if (batch->struct_bytes < sizeof *batch)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "%s: batch too small (got %u bytes, want %zu)",
                             what, batch->struct_bytes, sizeof *batch);
    if (batch->n_rows == 0) return OCTET_OK;
    CUDA_TRY(oct_cuda_at(dev, batch->row_pos, rows, 4, what, &out->row_pos));
    if (slots) return oct_cuda_at(dev, batch->row_slot, rows, 4, what, &out->row_slot);
    if (batch->n_seqs == 0) return OCTET_OK;
    CUDA_TRY(oct_cuda_at(dev, batch->seq_row, seqs + 4, 4, what, &out->seq_row));
    CUDA_TRY(oct_cuda_at(dev, batch->seq_kv_len, seqs, 4, what, &out->seq_kv_len));
    return oct_cuda_at(dev, batch->block_table, seqs * batch->table_stride, 4, what,
                       &out->block_table);
}
