/*
 * ops_rows.c - operations on rows that know nothing of each other.
 *
 * How many threads hold a row and how much each of them follows from the width alone: what a row
 * becomes must not depend on how many there are.
 */
#include "launch.h"
#include "weights.h"

/* ---- threads for a row ----------------------------------------------------------------------- */

typedef oct_row_shape shape;

enum { WARPS_A_BLOCK = 4, MAX_WIDTH = 131072, FLAT = 256 /* threads of a block without groups */ };

int32_t oct_cuda_row_shape(octet_device *dev, uint32_t width, const char *what, shape *out) {
    static const struct {
        uint32_t width, group, variant;
    } table[] = {{256, 32, 0},    {512, 32, 1},     {1024, 128, 0},  {2048, 256, 0},
                 {4096, 256, 1},  {8192, 256, 2},   {16384, 512, 2}, {32768, 1024, 2},
                 {65536, 512, 3}, {131072, 1024, 3}};
    if (width > MAX_WIDTH)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "%s: row too wide (got %u, want <= %d)",
                             what, width, MAX_WIDTH);
    unsigned i = 0;
    while (table[i].width < width) i++;
    *out = (shape){table[i].group, table[i].variant,
                   table[i].group == 32 ? 32 * WARPS_A_BLOCK : table[i].group};
    return OCTET_OK;
}

/* A row that keeps one multiprocessor busy for long, among few, is shared by RANKS of them. */
enum { RANKS = 8, SHARED_WIDTH = 2048, SHARED_ROWS = 256 };

int32_t oct_cuda_launch_row(octet_stream *s, oct_cuda_kernel first, oct_row_shape h,
                            uint32_t n_rows, uint32_t width, uint32_t *group, const void *params) {
    const uint32_t pieces = (width + 8 * RANKS - 1) / (8 * RANKS);
    uint32_t each = 1, variant = 0;
    while (pieces > 256 * each) each *= 2, variant++;
    *group = h.group;
    if (s->dev->sm < 90 || width <= SHARED_WIDTH || n_rows > SHARED_ROWS || each > 4)
        return oct_cuda_launch(s, (oct_cuda_kernel)(first + h.variant), oct_row_grid(&h, n_rows),
                               h.threads, 0, params);
    const uint32_t threads = ((pieces + each - 1) / each + 31) / 32 * 32;
    *group = RANKS * threads;
    return oct_cuda_launch_clusters(s, (oct_cuda_kernel)(first + variant),
                                    (oct_grid){(uint64_t)n_rows * RANKS, 1, 1}, threads, 0, RANKS,
                                    params);
}

static oct_grid flat_grid(uint64_t n) { return (oct_grid){oct_blocks_of(n, FLAT), 1, 1}; }

/* ---- embed ----------------------------------------------------------------------------------- */

int32_t oct_cuda_embed(octet_stream *s, const octet_embed_op *op) {
    octet_device *dev = s->dev;
    CUDA_BEGIN(s, op, "embed");
    const oct_cuda_weight *w = oct_cuda_weight_get(dev, op->table, "embed");
    if (!w) return OCTET_E_INVALID;
    if (w->desc.dtype == OCTET_I8)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "embed: int8 table (want float storage)");
    oct_embed_params p = {.fault = oct_cuda_fault_word(s),
                          .table = w->params,
                          .n_rows = op->n_rows,
                          .scale = op->scale};
    CUDA_TRY(oct_cuda_at(dev, op->ids, (uint64_t)op->n_rows * 4, 4, "embed: ids", &p.ids));
    CUDA_TRY(oct_cuda_rows(dev, op->out, op->n_rows, w->desc.k, 2, "embed: out", &p.out));
    const uint64_t pieces = oct_blocks_of(w->desc.k, 8);
    return OCT_LAUNCH(s, embed, flat_grid(op->n_rows * pieces), FLAT, 0, &p);
}

/* ---- norm, quantize, act --------------------------------------------------------------------- */

int32_t oct_cuda_norm(octet_stream *s, const octet_norm_op *op) {
    octet_device *dev = s->dev;
    const uint32_t n = op->n_rows, width = op->width;
    shape h = {32, 0, 128};
    oct_norm_params p = {.n_rows = n, .width = width, .kind = op->kind, .eps = op->eps};
    CUDA_BEGIN(s, op, "norm");
    if (op->kind != OCTET_NORM_RMS && op->kind != OCTET_NORM_LAYER)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "norm: unknown kind (got %u)", op->kind);
    if (width == 0) return oct_cuda_fail(dev, OCTET_E_INVALID, "norm: width 0");
    CUDA_TRY(oct_cuda_row_shape(dev, width, "norm", &h));
    CUDA_TRY(oct_cuda_rows(dev, op->x, n, width, 2, "norm: x", &p.x));
    CUDA_TRY(oct_cuda_rows_optional(dev, op->add, n, width, 2, "norm: add", &p.add));
    CUDA_TRY(oct_cuda_at(dev, op->weight, (uint64_t)width * 4, 4, "norm: weight", &p.weight));
    CUDA_TRY(oct_cuda_at_optional(dev, op->bias, (uint64_t)width * 4, 4, "norm: bias", &p.bias));
    CUDA_TRY(oct_cuda_rows_optional(dev, op->out, n, width, 2, "norm: out", &p.out));
    CUDA_TRY(oct_cuda_quant(dev, &op->quant, n, width, 1, "norm: quant", &p.quant));
    p.fault = oct_cuda_fault_word(s);
    p.group = h.group;
    return oct_cuda_launch(s, OCT_K_norm_1 + h.variant, oct_row_grid(&h, n), h.threads, 0, &p);
}

int32_t oct_cuda_quantize(octet_stream *s, const octet_quantize_op *op) {
    octet_device *dev = s->dev;
    const uint32_t n = op->n_rows, width = op->width;
    shape h = {32, 0, 128};
    oct_quantize_params p = {.n_rows = n, .width = width};
    CUDA_BEGIN(s, op, "quantize");
    if (op->quant.mode == OCTET_QUANT_NONE)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "quantize: no quantisation named");
    CUDA_TRY(oct_cuda_row_shape(dev, width, "quantize", &h));
    CUDA_TRY(oct_cuda_rows(dev, op->x, n, width, 2, "quantize: x", &p.x));
    CUDA_TRY(oct_cuda_at_optional(dev, op->mul, (uint64_t)width * 4, 4, "quantize: mul", &p.mul));
    CUDA_TRY(oct_cuda_quant(dev, &op->quant, n, width, 1, "quantize: out", &p.quant));
    p.fault = oct_cuda_fault_word(s);
    return oct_cuda_launch_row(s, OCT_K_quantize_1, h, n, width, &p.group, &p);
}

int32_t oct_cuda_act(octet_stream *s, const octet_act_op *op) {
    octet_device *dev = s->dev;
    const uint32_t n = op->n_rows, width = op->width;
    shape h = {32, 0, 128};
    oct_act_params p = {.n_rows = n, .width = width, .kind = op->kind, .gated = op->gated != 0};
    CUDA_BEGIN(s, op, "act");
    if (op->kind < OCTET_ACT_SILU || op->kind > OCTET_ACT_RELU)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "act: unknown kind (got %u)", op->kind);
    CUDA_TRY(oct_cuda_row_shape(dev, width, "act", &h));
    CUDA_TRY(oct_cuda_rows(dev, op->x, n, (uint64_t)width * (1 + p.gated), 2, "act: x", &p.x));
    CUDA_TRY(oct_cuda_rows_optional(dev, op->out, n, width, 2, "act: out", &p.out));
    CUDA_TRY(oct_cuda_quant(dev, &op->quant, n, width, 1, "act: quant", &p.quant));
    p.fault = oct_cuda_fault_word(s);
    return oct_cuda_launch_row(s, OCT_K_act_1, h, n, width, &p.group, &p);
}

/* ---- gather, softcap, feed --------------------------------------------------------------------
 */

int32_t oct_cuda_gather(octet_stream *s, const octet_gather_op *op) {
    octet_device *dev = s->dev;
    oct_gather_params p = {
        .fault = oct_cuda_fault_word(s), .n_rows = op->n_rows, .width = op->width};
    CUDA_BEGIN(s, op, "gather");
    CUDA_TRY(oct_cuda_at(dev, op->index, (uint64_t)op->n_rows * 4, 4, "gather: index", &p.index));
    CUDA_TRY(oct_cuda_rows(dev, op->out, op->n_rows, op->width, 2, "gather: out", &p.out));
    /* How many rows there are is not said: as many as the buffer has room for. */
    const uint64_t elements = oct_cuda_bytes_behind(dev, op->x.data) / 2;
    if (op->x.stride < op->width || elements < op->width || op->width == 0)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "gather: x holds no row (got stride %llu)",
                             (unsigned long long)op->x.stride);
    p.n_there = (elements - op->width) / op->x.stride + 1;
    CUDA_TRY(oct_cuda_rows(dev, op->x, p.n_there, op->width, 2, "gather: x", &p.x));
    const uint64_t pieces = oct_blocks_of(op->width, 8);
    return OCT_LAUNCH(s, gather, flat_grid(op->n_rows * pieces), FLAT, 0, &p);
}

int32_t oct_cuda_softcap(octet_stream *s, const octet_softcap_op *op) {
    octet_device *dev = s->dev;
    oct_softcap_params p = {.fault = oct_cuda_fault_word(s),
                            .n_rows = op->n_rows,
                            .width = op->width,
                            .cap = op->cap,
                            .inv_cap = 1.0f / op->cap};
    CUDA_BEGIN(s, op, "softcap");
    if (!(op->cap > 0) || op->cap > 3.4e38f)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "softcap: bad cap (got %g, want > 0 and finite)",
                             (double)op->cap);
    CUDA_TRY(oct_cuda_rows(dev, op->x, op->n_rows, op->width, 4, "softcap: x", &p.x));
    const uint64_t pieces = oct_blocks_of(op->width, 4);
    return OCT_LAUNCH(s, softcap, flat_grid(op->n_rows * pieces), FLAT, 0, &p);
}

int32_t oct_cuda_feed(octet_stream *s, const octet_feed_op *op) {
    octet_device *dev = s->dev;
    const uint64_t bytes = (uint64_t)op->n_rows * 4;
    oct_feed_params p = {.fault = oct_cuda_fault_word(s),
                         .n_rows = op->n_rows,
                         .n_drawn = op->n_drawn,
                         .n_vocab = op->n_vocab};
    CUDA_BEGIN(s, op, "feed");
    CUDA_TRY(oct_cuda_at(dev, op->ids, bytes, 4, "feed: ids", &p.ids));
    CUDA_TRY(oct_cuda_at(dev, op->from, bytes, 4, "feed: from", &p.from));
    CUDA_TRY(oct_cuda_at(dev, op->drawn, (uint64_t)op->n_drawn * sizeof(octet_sample_out), 4,
                         "feed: drawn", &p.drawn));
    return OCT_LAUNCH(s, feed, flat_grid(op->n_rows), FLAT, 0, &p);
}
