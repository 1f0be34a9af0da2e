/*
 * device/cpu/rows.c - operations on rows that know nothing of each other: embed, norm, quantize,
 * act, softcap, gather, feed, copy, fill.
 *
 * Rows are shared out among the threads. Work below ALONE_ELEMENTS stays with the caller: the
 * others would take longer to notice it. A float row that is only wanted quantised lives in a
 * scratch row of its thread, where the quantiser finds it in the nearest cache.
 */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "device/cpu/cpu.h"
#include "quant/float_types.h"

enum { ALONE_ELEMENTS = 8192 };

void oct_cpu_share_rows(octet_device *dev, uint64_t n_rows, uint64_t width, oct_pool_fn *fn,
                        void *job) {
    if (n_rows == 0) return;
    if (n_rows == 1 || n_rows * width < ALONE_ELEMENTS)
        fn(job, (oct_share){0, 1});
    else
        oct_pool_run(dev->pool, fn, job);
}

/* ---- quantised copies ------------------------------------------------------------------------ */

int32_t oct_cpu_quant_rule(octet_device *dev, uint32_t mode, const float param[2], const char *what,
                           oct_row_quant *out) {
    static const oct_row_quant_mode modes[] = {OCT_ROW_QUANT_DYNAMIC, OCT_ROW_QUANT_DYNAMIC,
                                               OCT_ROW_QUANT_STATIC_BEFORE,
                                               OCT_ROW_QUANT_STATIC_AFTER};
    if (mode >= OCT_COUNT(modes))
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED, "%s: unknown quantisation (got %u)", what, mode);
    *out = (oct_row_quant){.mode = modes[mode]};
    if (out->mode == OCT_ROW_QUANT_DYNAMIC) return OCTET_OK;
    if (!(isfinite(param[0]) && param[0] > 0 && isfinite(param[1])))
        return CPU_FAIL(dev, OCT_E_INVALID,
                        "%s: bad static scale or offset (got %g, %g, want > 0 and finite)", what,
                        (double)param[0], (double)param[1]);
    out->inv = 1.0f / param[0];
    out->offset = param[1];
    return OCTET_OK;
}

int32_t oct_cpu_quant_target(octet_device *dev, const octet_quant *q, uint64_t n_rows,
                             uint64_t width, const char *what, oct_cpu_quant *out) {
    const float *param = NULL;
    uint64_t bytes = 0;
    memset(out, 0, sizeof *out);
    if (q->mode == OCTET_QUANT_NONE || n_rows == 0) return OCTET_OK;
    if ((n_rows > 1 && q->out.stride < width) || !oct_mul_u64(n_rows - 1, q->out.stride, &bytes) ||
        !oct_add_u64(bytes, width, &bytes))
        return CPU_FAIL(dev, OCT_E_INVALID, "%s: bad stride of int8 rows (got %llu, want >= %llu)",
                        what, (unsigned long long)q->out.stride, (unsigned long long)width);
    CPU_TRY(oct_cpu_at(dev, q->out.data, bytes, 1, what, &out->q));
    CPU_TRY(
        oct_cpu_at(dev, q->out.scale, n_rows * sizeof(float), sizeof(float), what, &out->scale));
    out->stride = q->out.stride;
    if (q->mode == OCTET_QUANT_STATIC_BEFORE || q->mode == OCTET_QUANT_STATIC_AFTER)
        CPU_TRY(oct_cpu_at(dev, q->param, 2 * sizeof(float), sizeof(float), what, &param));
    return oct_cpu_quant_rule(dev, q->mode, param, what, &out->rule);
}

void oct_cpu_quant_row(const octet_device *dev, const oct_cpu_quant *q, size_t row, const float *x,
                       const float *mul, size_t width) {
    if (q->q)
        q->scale[row] = dev->kern.elem.quant_row(q->q + row * q->stride, x, mul, width, &q->rule);
}

/* ---- embed ----------------------------------------------------------------------------------- */

typedef struct embed_job {
    const oct_cpu_weight *w;
    const int32_t *ids;
    float *out;
    size_t ldo, n_rows;
    float scale;
} embed_job;

/* Row id of a packed matrix: every 16th element of its panel. */
static void embed_row(const embed_job *j, uint32_t id, float *out) {
    const oct_cpu_weight *w = j->w;
    const size_t first =
        (size_t)(id / OCT_PANEL_OUTPUTS) * w->k * OCT_PANEL_OUTPUTS + id % OCT_PANEL_OUTPUTS;
    const float *f32 = (const float *)w->panels + first;
    const uint16_t *half = (const uint16_t *)w->panels + first;
    for (size_t k = 0; k < w->k; k++) {
        const size_t at = k * OCT_PANEL_OUTPUTS;
        const float v = w->type == OCT_PACK_F32    ? f32[at]
                        : w->type == OCT_PACK_BF16 ? oct_bf16_to_f32(half[at])
                                                   : oct_f16_to_f32(half[at]);
        out[k] = v * j->scale;
    }
}

static void embed_share(void *ctx, oct_share share) {
    const embed_job *j = ctx;
    size_t begin, end;
    oct_share_of(share, j->n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++) embed_row(j, (uint32_t)j->ids[r], j->out + r * j->ldo);
}

int32_t oct_cpu_embed(octet_device *dev, const octet_embed_op *op) {
    oct_cpu_prefetch_step(dev);
    embed_job j = {.w = oct_cpu_weight_matrix(dev, op->table, "embed"),
                   .ldo = op->out.stride,
                   .n_rows = op->n_rows,
                   .scale = op->scale};
    if (!j.w) return OCTET_E_INVALID;
    if (j.w->type == OCT_PACK_I8)
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED, "embed: int8 table (want float storage)");
    CPU_TRY(oct_cpu_at(dev, op->ids, (uint64_t)op->n_rows * 4, 4, "embed: ids", &j.ids));
    CPU_TRY(oct_cpu_rows(dev, op->out, op->n_rows, j.w->k, "embed: out", &j.out));
    for (uint32_t r = 0; r < op->n_rows; r++)
        if (j.ids[r] < 0 || (uint32_t)j.ids[r] >= j.w->n)
            return CPU_FAIL(dev, OCT_E_INVALID, "embed: id outside the table (got %d, want < %u)",
                            j.ids[r], j.w->n);
    oct_cpu_share_rows(dev, op->n_rows, j.w->k, embed_share, &j);
    return OCTET_OK;
}

/* ---- norm, quantize, act --------------------------------------------------------------------- */

/* One shape serves the three: a float row is made (or is there) and then perhaps quantised. */
typedef struct row_job {
    const octet_device *dev;
    size_t n_rows, width;
    float *x;
    size_t ldx;
    const float *add; /* norm: NULL without residual */
    size_t ld_add;
    const float *weight, *bias, *mul;
    float eps;
    oct_norm_fn norm;
    oct_act_fn act;
    bool gated;
    float *out; /* NULL: into the thread's scratch row */
    size_t ldo;
    float *scratch; /* [n_threads][width] */
    oct_cpu_quant quant;
} row_job;

static int32_t row_scratch(octet_device *dev, row_job *j) {
    if (j->out) return OCTET_OK;
    uint64_t bytes = 0;
    if (!oct_mul_u64(j->width * sizeof(float), oct_pool_n_threads(dev->pool), &bytes))
        return CPU_FAIL(dev, OCT_E_INVALID, "rows: too wide (got %zu)", j->width);
    j->scratch = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_THREADS, bytes);
    return j->scratch ? OCTET_OK : OCTET_E_NOMEM;
}

static float *row_place(const row_job *j, size_t row, oct_share share) {
    return j->out ? j->out + row * j->ldo : j->scratch + share.index * j->width;
}

static void norm_share(void *ctx, oct_share share) {
    const row_job *j = ctx;
    size_t begin, end;
    oct_share_of(share, j->n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        float *y = row_place(j, r, share);
        j->norm(y, j->x + r * j->ldx, j->add ? j->add + r * j->ld_add : NULL, j->weight, j->bias,
                j->width, j->eps);
        oct_cpu_quant_row(j->dev, &j->quant, r, y, NULL, j->width);
    }
}

int32_t oct_cpu_norm(octet_device *dev, const octet_norm_op *op) {
    row_job j = {.dev = dev,
                 .n_rows = op->n_rows,
                 .width = op->width,
                 .ldx = op->x.stride,
                 .ld_add = op->add.stride,
                 .eps = op->eps,
                 .ldo = op->out.stride};
    float *add = NULL;
    const uint64_t row_bytes = (uint64_t)op->width * sizeof(float);
    if (op->kind != OCTET_NORM_RMS && op->kind != OCTET_NORM_LAYER)
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED, "norm: unknown kind (got %u)", op->kind);
    if (op->width == 0) return CPU_FAIL(dev, OCT_E_INVALID, "norm: width 0");
    j.norm = op->kind == OCTET_NORM_RMS ? dev->kern.elem.rms_norm : dev->kern.elem.layer_norm;
    CPU_TRY(oct_cpu_rows(dev, op->x, op->n_rows, op->width, "norm: x", &j.x));
    if (op->add.data.buffer)
        CPU_TRY(oct_cpu_rows(dev, op->add, op->n_rows, op->width, "norm: add", &add));
    j.add = add;
    CPU_TRY(oct_cpu_at(dev, op->weight, row_bytes, 4, "norm: weight", &j.weight));
    CPU_TRY(oct_cpu_at_optional(dev, op->bias, row_bytes, 4, "norm: bias", &j.bias));
    if (op->out.data.buffer)
        CPU_TRY(oct_cpu_rows(dev, op->out, op->n_rows, op->width, "norm: out", &j.out));
    CPU_TRY(oct_cpu_quant_target(dev, &op->quant, op->n_rows, op->width, "norm: quant", &j.quant));
    CPU_TRY(row_scratch(dev, &j));
    oct_cpu_share_rows(dev, op->n_rows, op->width, norm_share, &j);
    return OCTET_OK;
}

static void quantize_share(void *ctx, oct_share share) {
    const row_job *j = ctx;
    size_t begin, end;
    oct_share_of(share, j->n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++)
        oct_cpu_quant_row(j->dev, &j->quant, r, j->x + r * j->ldx, j->mul, j->width);
}

int32_t oct_cpu_quantize(octet_device *dev, const octet_quantize_op *op) {
    row_job j = {.dev = dev, .n_rows = op->n_rows, .width = op->width, .ldx = op->x.stride};
    if (op->quant.mode == OCTET_QUANT_NONE)
        return CPU_FAIL(dev, OCT_E_INVALID, "quantize: no quantisation named");
    CPU_TRY(oct_cpu_rows(dev, op->x, op->n_rows, op->width, "quantize: x", &j.x));
    CPU_TRY(oct_cpu_at_optional(dev, op->mul, (uint64_t)op->width * 4, 4, "quantize: mul", &j.mul));
    CPU_TRY(
        oct_cpu_quant_target(dev, &op->quant, op->n_rows, op->width, "quantize: out", &j.quant));
    oct_cpu_share_rows(dev, op->n_rows, op->width, quantize_share, &j);
    return OCTET_OK;
}

static void act_share(void *ctx, oct_share share) {
    const row_job *j = ctx;
    size_t begin, end;
    oct_share_of(share, j->n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        float *y = row_place(j, r, share);
        const float *x = j->x + r * j->ldx;
        j->act(y, x, j->gated ? x + j->width : NULL, j->width);
        oct_cpu_quant_row(j->dev, &j->quant, r, y, NULL, j->width);
    }
}

static oct_act_fn act_of(const octet_device *dev, uint32_t kind) {
    switch (kind) {
    case OCTET_ACT_SILU:
        return dev->kern.elem.act_silu;
    case OCTET_ACT_GELU:
        return dev->kern.elem.act_gelu;
    case OCTET_ACT_GELU_TANH:
        return dev->kern.elem.act_gelu_tanh;
    case OCTET_ACT_RELU:
        return dev->kern.elem.act_relu;
    default:
        return NULL;
    }
}

int32_t oct_cpu_act(octet_device *dev, const octet_act_op *op) {
    row_job j = {.dev = dev,
                 .n_rows = op->n_rows,
                 .width = op->width,
                 .ldx = op->x.stride,
                 .act = act_of(dev, op->kind),
                 .gated = op->gated != 0,
                 .ldo = op->out.stride};
    const uint64_t in_width = (uint64_t)op->width * (j.gated ? 2 : 1);
    if (!j.act) return CPU_FAIL(dev, OCT_E_UNSUPPORTED, "act: unknown kind (got %u)", op->kind);
    CPU_TRY(oct_cpu_rows(dev, op->x, op->n_rows, in_width, "act: x", &j.x));
    if (op->out.data.buffer)
        CPU_TRY(oct_cpu_rows(dev, op->out, op->n_rows, op->width, "act: out", &j.out));
    CPU_TRY(oct_cpu_quant_target(dev, &op->quant, op->n_rows, op->width, "act: quant", &j.quant));
    CPU_TRY(row_scratch(dev, &j));
    /* An exponential for each element: worth sharing sooner. */
    oct_cpu_share_rows(dev, op->n_rows, 2 * (uint64_t)op->width, act_share, &j);
    return OCTET_OK;
}

/* ---- softcap -----------------------------------------------------------------------------------
 */

typedef struct cap_job {
    const octet_device *dev;
    float *x;
    size_t n_rows, width, ldx;
    float cap;
} cap_job;

/* Columns are shared out, in whole cache lines: a step has few rows of logits, but wide ones. */
static void cap_share(void *ctx, oct_share share) {
    const cap_job *j = ctx;
    size_t begin, end;
    oct_share_of(share, j->width, 16, &begin, &end);
    for (size_t r = 0; r < j->n_rows && begin < end; r++)
        j->dev->kern.elem.softcap(j->x + r * j->ldx + begin, end - begin, j->cap);
}

int32_t oct_cpu_softcap(octet_device *dev, const octet_softcap_op *op) {
    cap_job j = {
        .dev = dev, .n_rows = op->n_rows, .width = op->width, .ldx = op->x.stride, .cap = op->cap};
    if (!(isfinite(op->cap) && op->cap > 0))
        return CPU_FAIL(dev, OCT_E_INVALID, "softcap: bad cap (got %g, want > 0 and finite)",
                        (double)op->cap);
    CPU_TRY(oct_cpu_rows(dev, op->x, op->n_rows, op->width, "softcap: x", &j.x));
    oct_pool_run(dev->pool, cap_share, &j);
    return OCTET_OK;
}

/* ---- gather, feed, copy, fill ---------------------------------------------------------------- */

int32_t oct_cpu_gather(octet_device *dev, const octet_gather_op *op) {
    const int32_t *index = NULL;
    const float *from = NULL;
    float *out = NULL, *x = NULL;
    uint64_t n_there = 0;
    CPU_TRY(oct_cpu_at(dev, op->index, (uint64_t)op->n_rows * 4, 4, "gather: index", &index));
    CPU_TRY(oct_cpu_rows(dev, op->out, op->n_rows, op->width, "gather: out", &out));
    for (uint32_t r = 0; r < op->n_rows; r++) {
        if (index[r] < 0)
            return CPU_FAIL(dev, OCT_E_INVALID, "gather: negative row (got %d)", index[r]);
        if ((uint64_t)index[r] + 1 > n_there) n_there = (uint64_t)index[r] + 1;
    }
    CPU_TRY(oct_cpu_rows(dev, op->x, n_there, op->width, "gather: x", &x));
    for (uint32_t r = 0; r < op->n_rows; r++) {
        from = x + (size_t)index[r] * op->x.stride;
        memcpy(out + r * op->out.stride, from, op->width * sizeof(float));
    }
    return OCTET_OK;
}

int32_t oct_cpu_feed(octet_device *dev, const octet_feed_op *op) {
    const uint64_t bytes = (uint64_t)op->n_rows * 4;
    const octet_sample_out *drawn = NULL;
    const int32_t *from = NULL;
    int32_t *ids = NULL;
    CPU_TRY(oct_cpu_at(dev, op->ids, bytes, 4, "feed: ids", &ids));
    CPU_TRY(oct_cpu_at(dev, op->from, bytes, 4, "feed: from", &from));
    CPU_TRY(oct_cpu_at(dev, op->drawn, (uint64_t)op->n_drawn * sizeof *drawn, 4, "feed: drawn",
                       &drawn));
    for (uint32_t r = 0; r < op->n_rows; r++) {
        if (from[r] < 0) continue;
        if ((uint32_t)from[r] >= op->n_drawn)
            return CPU_FAIL(dev, OCT_E_INVALID, "feed: row %u: nothing drawn at %d (want < %u)", r,
                            from[r], op->n_drawn);
        const int32_t token = drawn[from[r]].token;
        ids[r] = token >= 0 && (uint32_t)token < op->n_vocab ? token : 0;
    }
    return OCTET_OK;
}

int32_t oct_cpu_copy(octet_device *dev, octet_ref dst, octet_ref src, uint64_t bytes) {
    char *to = NULL;
    const char *from = NULL;
    CPU_TRY(oct_cpu_at(dev, dst, bytes, 1, "copy: destination", &to));
    CPU_TRY(oct_cpu_at(dev, src, bytes, 1, "copy: source", &from));
    memmove(to, from, bytes);
    return OCTET_OK;
}

int32_t oct_cpu_fill(octet_device *dev, octet_ref dst, uint8_t value, uint64_t bytes) {
    char *to = NULL;
    CPU_TRY(oct_cpu_at(dev, dst, bytes, 1, "fill", &to));
    memset(to, value, bytes);
    return OCTET_OK;
}
