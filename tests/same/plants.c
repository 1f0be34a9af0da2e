/*
 * tests/same/plants.c - operations that are nearly right: each is good enough to serve a model, and
 * breaks promise 1. They reach into the CPU device's memory, which is the host's.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/cpu/batch.h"
#include "device/cpu/cpu.h"
#include "kern/attn.h"
#include "spy.h"

static octet_device_ops cpu; /* as it was */
static octet_device *device;

/* ---- one scale for the whole batch ----------------------------------------------------------- */

static int32_t tensor_scale_linear(octet_stream *s, const octet_linear_op *op) {
    const oct_cpu_weight *w = oct_cpu_weight_get(device, op->weight);
    int8_t *q = NULL;
    float *scale = NULL, most = 0;
    if (!w || w->type != OCT_PACK_I8) return cpu.linear(s, op);
    CPU_TRY(cpu.stream_wait(s));
    CPU_TRY(oct_cpu_at(device, op->qx.scale, op->n_rows * sizeof *scale, 4, "plant", &scale));
    CPU_TRY(
        oct_cpu_at(device, op->qx.data, (op->n_rows - 1) * op->qx.stride + w->k, 1, "plant", &q));
    for (uint32_t r = 0; r < op->n_rows; r++) most = fmaxf(most, scale[r]);
    for (uint32_t r = 0; r < op->n_rows; r++) {
        for (uint32_t k = 0; k < w->k; k++) {
            int8_t *v = &q[r * op->qx.stride + k];
            *v = (int8_t)nearbyintf((float)*v * scale[r] / most);
        }
        scale[r] = most;
    }
    return cpu.linear(s, op);
}

/* ---- a fixed number of parts ----------------------------------------------------------------- */

enum { N_PARTS = 4 };

/* Row r of sequence seq, one kv head: the tokens before it in N_PARTS pieces of equal length, whole
 * blocks, each a span of its own. */
static void attend_in_parts(const octet_attention_op *op, const oct_cpu_batch *b,
                            const oct_cpu_kv *kv, const float *q, uint32_t seq, uint32_t r,
                            uint32_t head, float *out, float *partials, void *scratch) {
    const uint32_t group = op->n_heads / kv->n_kv_heads, dim = kv->head_dim;
    const uint32_t kv_len = (uint32_t)b->seq_kv_len[seq], pos = (uint32_t)b->row_pos[r];
    const uint32_t per_part = (kv_len + N_PARTS - 1) / N_PARTS;
    const uint32_t part = (per_part + kv->block_tokens - 1) / kv->block_tokens * kv->block_tokens;
    const size_t channel = (size_t)head * dim;
    oct_attn_args a = {.q = q + r * op->q.stride + head * group * dim,
                       .q_stride = op->q.stride,
                       .n_rows = 1,
                       .group = group,
                       .head_dim = dim,
                       .scale = op->scale,
                       .causal = true,
                       .cache = kv->cache,
                       .kv = kv->base + head * kv->head_bytes,
                       .block_bytes = kv->block_bytes,
                       .sub_bytes = kv->n_kv_heads * kv->head_bytes,
                       .block_tokens = kv->block_tokens,
                       .k_scale = kv->k_scale ? kv->k_scale + channel : NULL,
                       .v_scale = kv->v_scale ? kv->v_scale + channel : NULL,
                       .v_offset = kv->v_offset ? kv->v_offset + channel : NULL,
                       .out = out + head * group * dim,
                       .out_stride = (size_t)op->n_heads * dim};
    uint32_t n = 0;
    for (uint32_t from = 0; from <= pos; from += part, n++) {
        a.pos0 = pos - from;
        a.kv_len = kv_len - from < part ? kv_len - from : part;
        a.blocks = b->block_table + (size_t)seq * b->table_stride + from / kv->block_tokens;
        oct_kern_attn_spans(&device->kern, &a, 0, 1,
                            partials + n * oct_kern_attn_partial_floats(&a), scratch);
    }
    /* Combined as if they were n spans of the usual length. */
    a.kv_len = n * 128;
    a.pos0 = a.kv_len - 1;
    oct_kern_attn_combine(&device->kern, &a, partials);
}

static int32_t split_count_attention(octet_stream *s, const octet_attention_op *op) {
    oct_cpu_batch b;
    oct_cpu_kv kv;
    oct_cpu_quant quant;
    float *q = NULL, *out = NULL;
    CPU_TRY(cpu.stream_wait(s));
    CPU_TRY(oct_cpu_batch_open(device, &op->batch, &b));
    CPU_TRY(oct_cpu_kv_open(device, &op->kv, &kv));
    const uint32_t width = op->n_heads * kv.head_dim, group = op->n_heads / kv.n_kv_heads;
    CPU_TRY(oct_cpu_rows(device, op->q, b.n_rows, width, "plant", &q));
    CPU_TRY(oct_cpu_quant_target(device, &op->quant, b.n_rows, width, "plant", &quant));
    if (op->out.data.buffer) CPU_TRY(oct_cpu_rows(device, op->out, b.n_rows, width, "plant", &out));
    float *row = calloc(width, sizeof *row);
    float *partials = calloc(N_PARTS * 2, sizeof *row * 2 * (group + 1) * (kv.head_dim + 64));
    const size_t bytes = oct_kern_attn_scratch_bytes(group, kv.head_dim);
    void *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!row || !partials || !scratch) abort();
    for (uint32_t seq = 0; seq < b.n_seqs; seq++)
        for (int32_t r = b.seq_row[seq]; r < b.seq_row[seq + 1]; r++) {
            for (uint32_t head = 0; head < kv.n_kv_heads; head++)
                attend_in_parts(op, &b, &kv, q, seq, (uint32_t)r, head, row, partials, scratch);
            if (out) memcpy(out + (size_t)r * op->out.stride, row, width * sizeof *row);
            oct_cpu_quant_row(device, &quant, (size_t)r, row, NULL, width);
        }
    free(row);
    free(partials);
    free(scratch);
    return OCTET_OK;
}

/* ---- a sum for each thread ------------------------------------------------------------------- */

static int32_t thread_sum_norm(octet_stream *s, const octet_norm_op *op) {
    const uint32_t n_threads = oct_pool_n_threads(device->pool), n = op->width;
    float *x = NULL, *add = NULL, *weight = NULL, *out = NULL;
    oct_cpu_quant quant;
    if (op->kind != OCTET_NORM_RMS || op->bias.buffer) return cpu.norm(s, op);
    CPU_TRY(cpu.stream_wait(s));
    CPU_TRY(oct_cpu_rows(device, op->x, op->n_rows, n, "plant", &x));
    if (op->add.data.buffer) CPU_TRY(oct_cpu_rows(device, op->add, op->n_rows, n, "plant", &add));
    if (op->out.data.buffer) CPU_TRY(oct_cpu_rows(device, op->out, op->n_rows, n, "plant", &out));
    CPU_TRY(oct_cpu_at(device, op->weight, n * sizeof *weight, 4, "plant", &weight));
    CPU_TRY(oct_cpu_quant_target(device, &op->quant, op->n_rows, n, "plant", &quant));
    float *y = calloc(n, sizeof *y);
    if (!y) abort();
    for (uint32_t r = 0; r < op->n_rows; r++) {
        float *row = x + r * op->x.stride, sum = 0;
        for (uint32_t i = 0; add && i < n; i++) row[i] += add[r * op->add.stride + i];
        for (uint32_t t = 0; t < n_threads; t++) {
            float part = 0;
            for (uint32_t i = n * t / n_threads; i < n * (t + 1) / n_threads; i++)
                part = fmaf(row[i], row[i], part);
            sum += part;
        }
        const float inv = 1.0f / sqrtf(sum / (float)n + op->eps);
        for (uint32_t i = 0; i < n; i++) y[i] = (row[i] * inv) * weight[i];
        if (out) memcpy(out + r * op->out.stride, y, n * sizeof *y);
        oct_cpu_quant_row(device, &quant, r, y, NULL, n);
    }
    free(y);
    return OCTET_OK;
}

void plant_install(octet_device_ops *table, octet_device *dev, spy_plant plant) {
    cpu = *table;
    device = dev;
    if (plant == PLANT_TENSOR_SCALE) table->linear = tensor_scale_linear;
    if (plant == PLANT_SPLIT_COUNT) table->attention = split_count_attention;
    if (plant == PLANT_THREAD_SUM) table->norm = thread_sum_norm;
}
