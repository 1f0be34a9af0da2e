/*
 * device/cpu/weight.c - matrices in the packed layout of kern/pack.h.
 *
 * One buffer holds the panels and behind them what belongs to each output (scale, integer bias,
 * sum, float bias), so a matrix has one address for life and a reload writes over it. Thread i
 * writes the panels it will read in a product (the same oct_share_of), so their pages lie near it.
 *
 * The matrices of the experts of a layer lie one after the other: their panels, each expert's
 * starting at a panel of its own, then the numbers of all outputs, n_pad an expert.
 *
 * A load runs on all threads: each reads rows into a piece of memory that stays in its second level
 * cache and packs them from there, so a matrix passes through memory once.
 *
 * Checked once here, trusted by every product: the integer bias cannot push a sum out of int32, and
 * scales and biases are finite.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/checked.h"
#include "device/cpu/cpu.h"
#include "kern/pack.h"
#include "quant/contract.h"

enum { MAX_N = INT32_MAX - OCT_PANEL_OUTPUTS };

/* More experts than any model has; a bound for what is added up. */
enum { MAX_EXPERTS = 65536 };

typedef struct layout {
    oct_pack_type type;
    uint32_t n_experts;   /* 0: one matrix */
    uint64_t panel_bytes; /* of one matrix */
    uint64_t numbers_at, n_pad, total_bytes;
} layout;

static bool pack_type_of(uint32_t dtype, oct_pack_type *out) {
    switch (dtype) {
    case OCTET_I8:
        *out = OCT_PACK_I8;
        return true;
    case OCTET_F32:
        *out = OCT_PACK_F32;
        return true;
    case OCTET_BF16:
        *out = OCT_PACK_BF16;
        return true;
    case OCTET_F16:
        *out = OCT_PACK_F16;
        return true;
    default:
        return false;
    }
}

/* What a thread reads at a time: half of a small second level cache, and few calls. */
enum { STAGE_BYTES = 192 << 10 };

/* The struct as version 1.0 had it. */
#define DESC_V1_BYTES (offsetof(octet_weight_desc, k) + sizeof(uint64_t))

static int32_t layout_of(octet_device *dev, const octet_weight_desc *d, layout *out) {
    if (d->struct_bytes < DESC_V1_BYTES)
        return CPU_FAIL(dev, OCT_E_INVALID, "weight: struct too small (got %u bytes, want %zu)",
                        d->struct_bytes, DESC_V1_BYTES);
    out->n_experts = d->struct_bytes >= offsetof(octet_weight_desc, n_experts) + sizeof d->n_experts
                         ? d->n_experts
                         : 0;
    if (out->n_experts > MAX_EXPERTS)
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED, "weight: too many experts (got %u, want <= %d)",
                        out->n_experts, MAX_EXPERTS);
    if (!pack_type_of(d->dtype, &out->type))
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED, "weight: unknown storage (got type %u)", d->dtype);
    if (d->n == 0 || d->n > MAX_N || d->k == 0 || d->k > OCT_KERN_MAX_K)
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED,
                        "weight: shape out of range (got %llu x %llu, want 1..%d x 1..%d)",
                        (unsigned long long)d->n, (unsigned long long)d->k, (int)MAX_N,
                        (int)OCT_KERN_MAX_K);
    const uint32_t n = (uint32_t)d->n, k = (uint32_t)d->k;
    const uint64_t n_matrices = out->n_experts ? out->n_experts : 1;
    const uint64_t numbers = sizeof(float) * (out->type == OCT_PACK_I8 ? 4 : 1);
    out->n_pad = (uint64_t)oct_pack_n_panels(n) * OCT_PANEL_OUTPUTS;
    out->panel_bytes = (oct_pack_bytes(out->type, n, k) + 63) / 64 * 64;
    /* n_pad is a multiple of 16, so each array of 4-byte numbers starts on a multiple of 64. n and
     * k are below 2^31 and 2^17: one matrix cannot overflow, many could. */
    if (!oct_mul_u64(out->panel_bytes, n_matrices, &out->numbers_at) ||
        !oct_add_u64(out->numbers_at, out->n_pad * n_matrices * numbers, &out->total_bytes))
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED, "weight: too large (got %u of %llu x %llu)",
                        out->n_experts, (unsigned long long)d->n, (unsigned long long)d->k);
    return OCTET_OK;
}

uint64_t oct_cpu_weight_bytes(octet_device *dev, const octet_weight_desc *desc) {
    layout l = {0};
    return layout_of(dev, desc, &l) == OCTET_OK ? l.total_bytes : 0;
}

static oct_cpu_weight *free_slot(octet_device *dev) {
    for (size_t i = 0; i < dev->n_weights; i++)
        if (!dev->weights[i].used) return &dev->weights[i];
    const size_t n = dev->n_weights ? 2 * dev->n_weights : 256;
    oct_cpu_weight *more =
        n <= UINT32_MAX ? oct_grow(dev->mem, dev->weights, dev->n_weights, n, sizeof *more) : NULL;
    if (!more) return NULL;
    memset(more + dev->n_weights, 0, (n - dev->n_weights) * sizeof *more);
    oct_cpu_weight *w = more + dev->n_weights;
    dev->weights = more;
    dev->n_weights = n;
    return w;
}

int32_t oct_cpu_weight_create(octet_device *dev, const octet_weight_desc *desc, octet_weight *out) {
    layout l = {0};
    octet_buffer store = 0;
    char *at = NULL;
    *out = 0;
    CPU_TRY(layout_of(dev, desc, &l));
    oct_cpu_weight *w = free_slot(dev);
    if (!w) return CPU_FAIL(dev, OCT_E_NOMEM, "weight: no memory for its handle");
    CPU_TRY(oct_cpu_buffer_create(dev, l.total_bytes, &store));
    CPU_TRY(oct_cpu_at(dev, (octet_ref){store, 0}, l.total_bytes, 1, "weight", &at));
    const uint32_t generation = w->generation;
    *w = (oct_cpu_weight){.n = (uint32_t)desc->n,
                          .k = (uint32_t)desc->k,
                          .n_experts = l.n_experts,
                          .n_pad = (uint32_t)l.n_pad,
                          .panel_bytes = l.panel_bytes,
                          .type = l.type,
                          .store = store,
                          .panels = at,
                          .generation = generation,
                          .used = true};
    at += l.numbers_at;
    w->bias = (float *)(void *)at;
    if (l.type == OCT_PACK_I8) {
        const uint64_t n = l.n_pad * (l.n_experts ? l.n_experts : 1);
        w->col_scale = w->bias + n;
        w->int_bias = (int32_t *)(void *)(w->col_scale + n);
        w->col_sum = w->int_bias + n;
    }
    *out = (uint64_t)generation << 32 | (uint64_t)(w - dev->weights + 1);
    return OCTET_OK;
}

oct_cpu_weight oct_cpu_weight_expert(const oct_cpu_weight *w, uint32_t expert) {
    oct_cpu_weight one = *w;
    const size_t n = (size_t)expert * w->n_pad;
    one.n_experts = 0;
    one.panels = (char *)w->panels + expert * w->panel_bytes;
    one.bias += n;
    if (w->type != OCT_PACK_I8) return one;
    one.col_scale += n;
    one.int_bias += n;
    one.col_sum += n;
    return one;
}

oct_linear_i8_weight oct_cpu_weight_i8(const oct_cpu_weight *w) {
    return (oct_linear_i8_weight){.n = w->n,
                                  .k = w->k,
                                  .panels = w->panels,
                                  .colsum = w->col_sum,
                                  .cs = w->col_scale,
                                  .ibias = w->has_int_bias ? w->int_bias : NULL,
                                  .fbias = w->has_bias ? w->bias : NULL};
}

oct_linear_float_weight oct_cpu_weight_float(const oct_cpu_weight *w) {
    return (oct_linear_float_weight){.n = w->n,
                                     .k = w->k,
                                     .type = w->type,
                                     .panels = w->panels,
                                     .fbias = w->has_bias ? w->bias : NULL};
}

oct_cpu_weight *oct_cpu_weight_get(octet_device *dev, octet_weight w) {
    const uint64_t slot = (w & UINT32_MAX) - 1;
    if (w != 0 && slot < dev->n_weights && dev->weights[slot].used &&
        dev->weights[slot].generation == w >> 32)
        return &dev->weights[slot];
    (void)CPU_FAIL(dev, OCT_E_INVALID, "weight: not a weight of this device");
    return NULL;
}

oct_cpu_weight *oct_cpu_weight_matrix(octet_device *dev, octet_weight handle, const char *what) {
    oct_cpu_weight *w = oct_cpu_weight_get(dev, handle);
    if (!w || !w->n_experts) return w;
    (void)CPU_FAIL(dev, OCT_E_INVALID, "%s: a weight of %u experts (want one matrix)", what,
                   w->n_experts);
    return NULL;
}

void oct_cpu_weight_destroy(octet_device *dev, octet_weight handle) {
    oct_cpu_weight *w = handle ? oct_cpu_weight_get(dev, handle) : NULL;
    if (!w) return;
    oct_cpu_buffer_destroy(dev, w->store);
    w->used = false;
    w->generation++;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int32_t check_numbers(octet_device *dev, const oct_cpu_weight *w,
                             const octet_weight_rows *r) {
    const int64_t limit = oct_ibias_limit(w->k);
    for (uint64_t i = 0; i < r->n_rows; i++) {
        const unsigned long long row = r->row + i;
        if (r->col_scale && !isfinite(r->col_scale[i]))
            return CPU_FAIL(dev, OCT_E_INVALID, "weight: scale of row %llu is not finite", row);
        if (r->bias && !isfinite(r->bias[i]))
            return CPU_FAIL(dev, OCT_E_INVALID, "weight: bias of row %llu is not finite", row);
        if (r->int_bias && (r->int_bias[i] > limit || r->int_bias[i] < -limit))
            return CPU_FAIL(dev, OCT_E_INVALID,
                            "weight: integer bias of row %llu may overflow (got %d, want within "
                            "+-%lld for k %u)",
                            row, r->int_bias[i], (long long)limit, w->k);
    }
    return OCTET_OK;
}

static int32_t check_rows(octet_device *dev, const oct_cpu_weight *w, const octet_weight_rows *r) {
    if (r->struct_bytes < sizeof *r)
        return CPU_FAIL(dev, OCT_E_INVALID, "weight: struct too small (got %u bytes, want %zu)",
                        r->struct_bytes, sizeof *r);
    const uint64_t n_all = (uint64_t)w->n * (w->n_experts ? w->n_experts : 1);
    if (r->row > n_all || r->n_rows > n_all - r->row)
        return CPU_FAIL(dev, OCT_E_INVALID,
                        "weight: rows outside the matrix (got %llu from %llu, want within %llu)",
                        (unsigned long long)r->n_rows, (unsigned long long)r->row,
                        (unsigned long long)n_all);
    if (!r->data || (w->type == OCT_PACK_I8 && !r->col_scale))
        return CPU_FAIL(dev, OCT_E_INVALID, "weight: data or scales missing");
    if (w->type != OCT_PACK_I8 && (r->col_scale || r->int_bias))
        return CPU_FAIL(dev, OCT_E_INVALID, "weight: scales and integer bias are for int8 only");
    return check_numbers(dev, w, r);
}

typedef struct write_job {
    const oct_cpu_weight *w;
    const octet_weight_rows *rows;
    const oct_kern *kern;
} write_job;

/* n rows at src become rows begin .. of one matrix. */
static void pack_rows(const oct_kern *kern, const oct_cpu_weight *w, const void *src, size_t begin,
                      size_t n) {
    if (w->type == OCT_PACK_I8)
        oct_pack_i8(&kern->pack, w->panels, w->col_sum, src, w->k, (uint32_t)n, w->k,
                    (uint32_t)begin);
    else
        oct_pack_float(&kern->pack, w->panels, w->type, src, w->k, (uint32_t)n, w->k,
                       (uint32_t)begin);
}

/* Rows begin .. end-1 of one matrix, whose first row is row `first` of the handle. */
static void write_rows(const oct_kern *kern, const oct_cpu_weight *w, const octet_weight_rows *r,
                       uint64_t first, size_t begin, size_t end) {
    const size_t from = first + begin - r->row, n = end - begin;
    const char *src = (const char *)r->data + from * w->k * oct_pack_elem_bytes(w->type);
    pack_rows(kern, w, src, begin, n);
    for (size_t i = 0; i < n; i++) {
        w->bias[begin + i] = r->bias ? r->bias[from + i] : 0.0f;
        if (w->type != OCT_PACK_I8) continue;
        w->col_scale[begin + i] = r->col_scale[from + i];
        w->int_bias[begin + i] = r->int_bias ? r->int_bias[from + i] : 0;
    }
}

static void write_share(void *ctx, oct_share share) {
    const write_job *job = ctx;
    const oct_cpu_weight *w = job->w;
    const octet_weight_rows *r = job->rows;
    const uint64_t last = r->row + r->n_rows;
    size_t begin, end;
    oct_share_of(share, w->n, OCT_PANEL_OUTPUTS, &begin, &end);
    for (uint64_t e = r->row / w->n; e * w->n < last; e++) {
        const uint64_t first = e * w->n;
        const oct_cpu_weight one = oct_cpu_weight_expert(w, (uint32_t)e);
        const size_t b = oct_max_size(begin, r->row > first ? r->row - first : 0);
        const size_t z = oct_min_size(end, last - first);
        if (b < z) write_rows(job->kern, &one, r, first, b, z);
    }
}

int32_t oct_cpu_weight_write(octet_device *dev, octet_weight handle,
                             const octet_weight_rows *rows) {
    oct_cpu_weight *w = oct_cpu_weight_get(dev, handle);
    if (!w) return OCTET_E_INVALID;
    CPU_TRY(check_rows(dev, w, rows));
    if (rows->bias) w->has_bias = true;
    if (rows->int_bias) w->has_int_bias = true;
    write_job job = {w, rows, &dev->kern};
    oct_pool_run(dev->pool, write_share, &job);
    return OCTET_OK;
}

/* ---- loading --------------------------------------------------------------------------------- */

typedef struct load_job {
    const oct_kern *kern;
    const oct_cpu_weight *w;
    const octet_weight_reader *reader;
    char *stage; /* rows_at_once rows for each thread */
    size_t stage_bytes, rows_at_once;
    atomic_int code; /* of the first read that failed */
    atomic_uint given;
} load_job;

/* Rows begin .. begin + n - 1 of one matrix, whose first row is row `first` of the handle. */
static int32_t load_rows(load_job *job, const oct_cpu_weight *w, uint64_t first, size_t begin,
                         size_t n, char *stage) {
    const bool i8 = w->type == OCT_PACK_I8;
    octet_weight_part part = {.struct_bytes = sizeof part,
                              .row = first + begin,
                              .n_rows = n,
                              .data = stage,
                              .col_scale = i8 ? w->col_scale + begin : NULL,
                              .int_bias = i8 ? w->int_bias + begin : NULL,
                              .bias = w->bias + begin};
    memset(part.bias, 0, n * sizeof *part.bias);
    if (i8) memset(part.int_bias, 0, n * sizeof *part.int_bias);
    CPU_TRY(job->reader->read(job->reader->ctx, &part));
    atomic_fetch_or_explicit(&job->given, part.given, memory_order_relaxed);
    pack_rows(job->kern, w, stage, begin, n);
    return OCTET_OK;
}

static void load_share(void *ctx, oct_share share) {
    load_job *job = ctx;
    const oct_cpu_weight *w = job->w;
    char *stage = job->stage + share.index * job->stage_bytes;
    size_t begin, end;
    oct_share_of(share, w->n, OCT_PANEL_OUTPUTS, &begin, &end);
    for (uint32_t e = 0; e < (w->n_experts ? w->n_experts : 1); e++) {
        const oct_cpu_weight one = oct_cpu_weight_expert(w, e);
        for (size_t at = begin; at < end; at += job->rows_at_once) {
            if (atomic_load_explicit(&job->code, memory_order_relaxed) != OCTET_OK) return;
            const int32_t code = load_rows(job, &one, (uint64_t)e * w->n, at,
                                           oct_min_size(job->rows_at_once, end - at), stage);
            int none = OCTET_OK;
            if (code != OCTET_OK) atomic_compare_exchange_strong(&job->code, &none, code);
        }
    }
}

static int32_t check_loaded(octet_device *dev, const oct_cpu_weight *w) {
    for (uint32_t e = 0; e < (w->n_experts ? w->n_experts : 1); e++) {
        const oct_cpu_weight one = oct_cpu_weight_expert(w, e);
        const octet_weight_rows rows = {.row = (uint64_t)e * w->n,
                                        .n_rows = w->n,
                                        .col_scale = one.col_scale,
                                        .int_bias = one.int_bias,
                                        .bias = one.bias};
        CPU_TRY(check_numbers(dev, w, &rows));
    }
    return OCTET_OK;
}

int32_t oct_cpu_weight_load(octet_device *dev, octet_weight handle,
                            const octet_weight_reader *reader) {
    oct_cpu_weight *w = oct_cpu_weight_get(dev, handle);
    if (!w) return OCTET_E_INVALID;
    if (reader->struct_bytes < sizeof *reader || !reader->read)
        return CPU_FAIL(dev, OCT_E_INVALID, "weight: no reader, or one that is too small");
    const size_t row_bytes = (size_t)w->k * oct_pack_elem_bytes(w->type);
    const size_t panels = STAGE_BYTES / (row_bytes * OCT_PANEL_OUTPUTS);
    load_job job = {.kern = &dev->kern,
                    .w = w,
                    .reader = reader,
                    .rows_at_once = oct_max_size(panels, 1) * OCT_PANEL_OUTPUTS};
    job.stage_bytes = (job.rows_at_once * row_bytes + 4095) / 4096 * 4096;
    job.stage = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_THREADS,
                                oct_pool_n_threads(dev->pool) * job.stage_bytes);
    if (!job.stage) return OCTET_E_NOMEM;
    oct_pool_run(dev->pool, load_share, &job);
    const int32_t code = atomic_load(&job.code);
    if (code != OCTET_OK)
        return CPU_FAIL(dev, (oct_status)code, "weight: a part of it could not be read");
    const unsigned given = atomic_load(&job.given);
    if (given & OCTET_GIVEN_BIAS) w->has_bias = true;
    if (given & OCTET_GIVEN_INT_BIAS) w->has_int_bias = true;
    return check_loaded(dev, w);
}
