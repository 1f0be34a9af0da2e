/*
 * weights.c - packed matrices: their sizes and handles. How they are filled: weights_write.c.
 */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/linear.h"

/* Sums of more products of two int8 could leave int32; floats keep to the same bound. */
enum { MAX_K = 131071 };

uint32_t oct_cuda_weight_element(uint32_t dtype) {
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
    uint32_t n_experts, n_planes;
    uint64_t k_tiles, plane_bytes, expert_bytes, col_scale, int_bias, bias, planes, total;
} plan;

/* The struct as version 1.0 had it: without experts. */
#define DESC_V1_BYTES (offsetof(octet_weight_desc, k) + sizeof(uint64_t))

static int32_t check_desc(octet_device *dev, const octet_weight_desc *d, uint32_t n_experts) {
    if (!oct_cuda_weight_element(d->dtype))
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "weight: unknown storage (got type %u)",
                             d->dtype);
    if (d->n == 0 || d->n > INT32_MAX - OCT_TILE_OUTPUTS || d->k == 0 || d->k > MAX_K)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED,
                             "weight: shape out of range (got %llu x %llu, want 1..%d x 1..%d)",
                             (unsigned long long)d->n, (unsigned long long)d->k,
                             INT32_MAX - OCT_TILE_OUTPUTS, (int)MAX_K);
    if (n_experts > OCT_LINEAR_MAX_EXPERTS)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED,
                             "weight: too many experts (got %u, want <= %u)", n_experts,
                             OCT_LINEAR_MAX_EXPERTS);
    return OCTET_OK;
}

static int32_t plan_of(octet_device *dev, const octet_weight_desc *d, plan *out) {
    if (d->struct_bytes < DESC_V1_BYTES)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "weight: struct too small (got %u bytes)",
                             d->struct_bytes);
    const int knows_experts =
        d->struct_bytes >= offsetof(octet_weight_desc, n_experts) + sizeof d->n_experts;
    out->n_experts = knows_experts ? d->n_experts : 0;
    CUDA_TRY(check_desc(dev, d, out->n_experts));
    const uint64_t n_matrices = out->n_experts ? out->n_experts : 1;
    const uint64_t element = d->dtype == OCTET_I8 ? 1 : 2; /* in a tile */
    const uint64_t n_blocks = (d->n + OCT_TILE_OUTPUTS - 1) / OCT_TILE_OUTPUTS;
    const uint64_t numbers = (n_matrices * d->n * 4 + 255) / 256 * 256;
    out->n_planes = d->dtype == OCTET_F32 ? 3 : d->dtype == OCTET_F16 ? 2 : 1;
    out->k_tiles = (d->k * element + OCT_TILE_K_BYTES - 1) / OCT_TILE_K_BYTES;
    out->plane_bytes = n_blocks * out->k_tiles * OCT_TILE_BYTES; /* below 2^50 */
    out->expert_bytes = out->plane_bytes * out->n_planes;
    out->col_scale = out->expert_bytes * n_matrices; /* below 2^62 */
    if (out->col_scale > PTRDIFF_MAX / 2)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "weight: too large");
    out->int_bias = out->col_scale + (d->dtype == OCTET_I8 ? numbers : 0);
    out->bias = out->int_bias + (d->dtype == OCTET_I8 ? numbers : 0);
    out->planes = out->bias + numbers;
    out->total = out->planes + (out->n_planes > 1 ? 256 : 0);
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
    if (w && w->data) (void)oct_cu.cuMemFree(w->data); /* waits for what reads it */
    free(w);
}

static int32_t make(octet_device *dev, const octet_weight_desc *desc, const plan *p,
                    oct_cuda_weight *w) {
    const int i8 = desc->dtype == OCTET_I8;
    w->desc = (octet_weight_desc){.struct_bytes = sizeof w->desc,
                                  .dtype = desc->dtype,
                                  .n = desc->n,
                                  .k = desc->k,
                                  .n_experts = p->n_experts};
    w->bytes = p->total;
    CU_TRY(dev, cuMemAlloc, &w->data, p->total);
    CU_TRY(dev, cuMemsetD8Async, w->data, 0, p->total, CU_STREAM_PER_THREAD);
    CU_TRY(dev, cuStreamSynchronize, CU_STREAM_PER_THREAD);
    w->all = (oct_p_weight){.tiles = w->data,
                            .col_scale = i8 ? w->data + p->col_scale : 0,
                            .int_bias = i8 ? w->data + p->int_bias : 0,
                            .bias = w->data + p->bias,
                            .planes = p->n_planes > 1 ? w->data + p->planes : 0,
                            .expert_bytes = p->expert_bytes,
                            .plane_bytes = p->plane_bytes,
                            .n = (uint32_t)desc->n,
                            .k = (uint32_t)desc->k,
                            .k_tiles = (uint32_t)p->k_tiles,
                            .dtype = desc->dtype};
    w->params = w->all;
    w->params.int_bias = w->params.bias = 0;
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
    oct_cuda_stages_destroy(dev);
    for (size_t i = 0; i < dev->n_weights; i++) weight_free(dev->weights[i]);
    free(dev->weights);
}
