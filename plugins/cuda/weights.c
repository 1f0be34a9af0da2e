/*
 * weights.c - packed matrices: sizes, handles, writing.
 *
 * Rows come as they lie in a checkpoint. They are copied to the device in pieces and put into tiles
 * there, because the device is quicker at both. All of it is done when the call returns.
 */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

#include "launch.h"

enum { STAGE_BYTES = 8 << 20 };

static uint32_t element_bytes(uint32_t dtype) {
    switch (dtype) {
    case OCTET_I8:
        return 1;
    case OCTET_BF16:
    case OCTET_F16:
        return 2;
    case OCTET_F32:
        return 4;
    default:
        return 0;
    }
}

/* Places in a matrix's memory, from its start. */
typedef struct plan {
    uint64_t k_tiles, expert_bytes, col_scale, int_bias, bias, total;
} plan;

static int32_t plan_of(octet_device *dev, const octet_weight_desc *d, plan *out) {
    const uint32_t element = element_bytes(d->dtype);
    const uint64_t n_experts = d->n_experts ? d->n_experts : 1;
    if (d->struct_bytes < sizeof *d || !element)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "weight: unknown type (got %u)", d->dtype);
    if (d->n == 0 || d->k == 0 || d->n > INT32_MAX || d->k > INT32_MAX / 4 || n_experts > 65535 ||
        (d->dtype == OCTET_I8 && d->k > 131071))
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "weight: bad shape (got %llu x %llu)",
                             (unsigned long long)d->n, (unsigned long long)d->k);
    const uint64_t n_tiles = (d->n + OCT_TILE_OUTPUTS - 1) / OCT_TILE_OUTPUTS;
    const uint64_t vector = (n_experts * d->n * 4 + 255) / 256 * 256;
    out->k_tiles = (d->k * element + OCT_TILE_K_BYTES - 1) / OCT_TILE_K_BYTES;
    out->expert_bytes = n_tiles * out->k_tiles * OCT_TILE_BYTES;
    if (__builtin_mul_overflow(out->expert_bytes, n_experts, &out->col_scale) ||
        out->col_scale > PTRDIFF_MAX / 2)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "weight: too large");
    out->int_bias = out->col_scale + (d->dtype == OCTET_I8 ? vector : 0);
    out->bias = out->int_bias + (d->dtype == OCTET_I8 ? vector : 0);
    out->total = out->bias + vector;
    return OCTET_OK;
}

uint64_t oct_cuda_weight_bytes(octet_device *dev, const octet_weight_desc *desc) {
    plan p;
    return plan_of(dev, desc, &p) == OCTET_OK ? p.total : 0;
}

/* ---- handles --------------------------------------------------------------------------------- */

oct_cuda_weight *oct_cuda_weight_get(octet_device *dev, octet_weight w, const char *what) {
    if (w != 0 && w <= dev->n_weights && dev->weights[w - 1]) return dev->weights[w - 1];
    (void)oct_cuda_fail(dev, OCTET_E_INVALID, "%s: not a weight of this device", what);
    return NULL;
}

static int32_t free_slot(octet_device *dev, size_t *out) {
    for (*out = 0; *out < dev->n_weights; (*out)++)
        if (!dev->weights[*out]) return OCTET_OK;
    const size_t n = dev->n_weights ? 2 * dev->n_weights : 64;
    oct_cuda_weight **more = realloc(dev->weights, n * sizeof *more);
    if (!more) return oct_cuda_fail(dev, OCTET_E_NOMEM, "weight: no memory for its handle");
    memset(more + dev->n_weights, 0, (n - dev->n_weights) * sizeof *more);
    dev->weights = more;
    dev->n_weights = n;
    return OCTET_OK;
}

static void weight_free(oct_cuda_weight *w) {
    if (w && w->data) (void)oct_cu.cuMemFree(w->data);
    free(w);
}

static int32_t make(octet_device *dev, const octet_weight_desc *desc, const plan *p,
                    oct_cuda_weight *w) {
    w->desc = *desc;
    w->bytes = p->total;
    CU_TRY(dev, cuMemAlloc, &w->data, p->total);
    CU_TRY(dev, cuMemsetD8Async, w->data, 0, p->total, CU_STREAM_PER_THREAD);
    CU_TRY(dev, cuStreamSynchronize, CU_STREAM_PER_THREAD);
    const int i8 = desc->dtype == OCTET_I8;
    w->params = (oct_p_weight){.tiles = w->data,
                               .col_scale = i8 ? w->data + p->col_scale : 0,
                               .int_bias = i8 ? w->data + p->int_bias : 0,
                               .expert_bytes = p->expert_bytes,
                               .n = (uint32_t)desc->n,
                               .k = (uint32_t)desc->k,
                               .k_tiles = (uint32_t)p->k_tiles,
                               .dtype = desc->dtype};
    w->bias = w->data + p->bias;
    return OCTET_OK;
}

int32_t oct_cuda_weight_create(octet_device *dev, const octet_weight_desc *desc,
                               octet_weight *out) {
    plan p;
    size_t slot = 0;
    *out = 0;
    CUDA_TRY(oct_cuda_enter(dev));
    CUDA_TRY(plan_of(dev, desc, &p));
    CUDA_TRY(free_slot(dev, &slot));
    oct_cuda_weight *w = calloc(1, sizeof *w);
    if (!w) return oct_cuda_fail(dev, OCTET_E_NOMEM, "weight: no memory");
    const int32_t code = make(dev, desc, &p, w);
    if (code != OCTET_OK) {
        weight_free(w);
        return code;
    }
    dev->weights[slot] = w;
    *out = slot + 1;
    return OCTET_OK;
}

void oct_cuda_weight_destroy(octet_device *dev, octet_weight w) {
    if (w == 0 || w > dev->n_weights) return;
    (void)oct_cuda_enter(dev);
    weight_free(dev->weights[w - 1]);
    dev->weights[w - 1] = NULL;
}

void oct_cuda_weights_fini(octet_device *dev) {
    for (size_t i = 0; i < dev->n_weights; i++) weight_free(dev->weights[i]);
    free(dev->weights);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Copies rows to the device and packs them there, a stage at a time. */
static int32_t pack_rows(octet_stream *s, oct_cuda_weight *w, const octet_weight_rows *rows,
                         oct_addr stage) {
    const uint64_t row_bytes = w->desc.k * element_bytes(w->desc.dtype);
    const uint64_t at_once = STAGE_BYTES / row_bytes;
    for (uint64_t done = 0; done < rows->n_rows; done += at_once) {
        const uint64_t n = rows->n_rows - done < at_once ? rows->n_rows - done : at_once;
        const oct_weight_pack_params p = {.fault = oct_cuda_fault_word(s),
                                          .rows = stage,
                                          .tiles = w->params.tiles,
                                          .first = rows->row + done,
                                          .n_rows = n,
                                          .row_bytes = row_bytes,
                                          .expert_bytes = w->params.expert_bytes,
                                          .n = w->params.n,
                                          .k_tiles = w->params.k_tiles};
        CU_TRY(s->dev, cuMemcpyHtoDAsync, stage, (const char *)rows->data + done * row_bytes,
               n * row_bytes, s->stream);
        const uint64_t pieces = n * w->params.k_tiles * (OCT_TILE_K_BYTES / 16);
        CUDA_TRY(
            OCT_LAUNCH(s, weight_pack, ((oct_grid){oct_blocks_of(pieces, 256), 1, 1}), 256, 0, &p));
    }
    return OCTET_OK;
}

static int32_t write_vector(octet_stream *s, oct_addr to, const void *from, uint64_t row,
                            uint64_t n) {
    if (to && from) CU_TRY(s->dev, cuMemcpyHtoDAsync, to + row * 4, from, n * 4, s->stream);
    return OCTET_OK;
}

static int32_t write_rows(octet_stream *s, oct_cuda_weight *w, const octet_weight_rows *rows) {
    oct_addr stage = 0;
    CUDA_TRY(oct_cuda_scratch(s, OCT_CUDA_SCRATCH_ROWS, STAGE_BYTES, &stage));
    CUDA_TRY(pack_rows(s, w, rows, stage));
    CUDA_TRY(write_vector(s, w->params.col_scale, rows->col_scale, rows->row, rows->n_rows));
    CUDA_TRY(write_vector(s, w->params.int_bias, rows->int_bias, rows->row, rows->n_rows));
    CUDA_TRY(write_vector(s, w->bias, rows->bias, rows->row, rows->n_rows));
    CUDA_TRY(oct_cuda_stream_wait(s));
    if (rows->bias) w->params.bias = w->bias;
    return OCTET_OK;
}

/* |int_bias| may not push a sum of k products out of int32 (docs/numerics.md, section 5). */
static int32_t check_int_bias(octet_device *dev, const oct_cuda_weight *w,
                              const octet_weight_rows *rows) {
    const int64_t limit = (int64_t)INT32_MAX - (int64_t)w->desc.k * 16384;
    for (uint64_t i = 0; rows->int_bias && i < rows->n_rows; i++)
        if (rows->int_bias[i] > limit || rows->int_bias[i] < -limit)
            return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED,
                                 "weight: integer bias of row %llu overflows the sum (got %d, want "
                                 "within %lld)",
                                 (unsigned long long)(rows->row + i), rows->int_bias[i],
                                 (long long)limit);
    return OCTET_OK;
}

int32_t oct_cuda_weight_write(octet_device *dev, octet_weight handle,
                              const octet_weight_rows *rows) {
    CUDA_TRY(oct_cuda_enter(dev));
    oct_cuda_weight *w = oct_cuda_weight_get(dev, handle, "weight_write");
    if (!w) return OCTET_E_INVALID;
    const uint64_t n_all = w->desc.n * (w->desc.n_experts ? w->desc.n_experts : 1);
    if (rows->row > n_all || rows->n_rows > n_all - rows->row)
        return oct_cuda_fail(
            dev, OCTET_E_INVALID,
            "weight_write: rows outside the matrix (got %llu + %llu, want <= %llu)",
            (unsigned long long)rows->row, (unsigned long long)rows->n_rows,
            (unsigned long long)n_all);
    if (!rows->data || (w->desc.dtype == OCTET_I8 && !rows->col_scale))
        return oct_cuda_fail(dev, OCTET_E_INVALID, "weight_write: data or column scales missing");
    CUDA_TRY(check_int_bias(dev, w, rows));
    octet_stream *s = NULL;
    CUDA_TRY(oct_cuda_side_stream(dev, &s));
    return write_rows(s, w, rows);
}
