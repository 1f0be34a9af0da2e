/*
 * ops_side.c - what is neither a row, a product nor attention: drawing tokens, the way of rows to
 * experts and back.
 *
 * Which rows and tokens these are is known on the device alone: kernels check what they read and
 * leave a fault (kernels/fault.h).
 */
#include "kernels/side.h"
#include "launch.h"

enum { FLAT = 256 /* threads of a block where each has a piece of its own */ };

/* ---- experts --------------------------------------------------------------------------------- */

enum {
    MAX_EXPERTS = 4096,
    ROUTE_BYTES = 32 << 10,  /* shared memory of a block that warps of route divide */
    COUNT_BYTES = 64 << 10,  /* the same of permute */
    MAX_WARPS = 32,          /* of permute_one */
    SEGMENT = 1024,          /* pairs a warp counts where one block would take long */
    ONE_BLOCK_PAIRS = 16384, /* below, one launch is quicker than three */
};

static uint32_t less(uint64_t a, uint64_t b) { return (uint32_t)(a < b ? a : b); }

static int32_t check_choice(octet_device *dev, uint32_t n_rows, uint32_t n_experts, uint32_t top_k,
                            const char *what) {
    if (n_experts == 0 || n_experts > MAX_EXPERTS || top_k == 0 || top_k > n_experts ||
        top_k > OCTET_MAX_TOP_K)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED,
                             "%s: bad choice of experts (got %u of %u, want 1..%u of at most %d)",
                             what, top_k, n_experts, OCTET_MAX_TOP_K, MAX_EXPERTS);
    if ((uint64_t)n_rows * top_k > INT32_MAX)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "%s: too many rows (got %u times %u)", what,
                             n_rows, top_k);
    return OCTET_OK;
}

int32_t oct_cuda_route(octet_stream *s, const octet_route_op *op) {
    octet_device *dev = s->dev;
    CUDA_BEGIN(s, op, "route");
    CUDA_TRY(check_choice(dev, op->n_rows, op->n_experts, op->top_k, "route"));
    if (op->kind != OCTET_ROUTE_SOFTMAX && op->kind != OCTET_ROUTE_SIGMOID)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "route: unknown kind (got %u)", op->kind);
    oct_route_params p = {.fault = oct_cuda_fault_word(s),
                          .n_rows = op->n_rows,
                          .n_experts = op->n_experts,
                          .top_k = op->top_k,
                          .kind = op->kind,
                          .scale = op->scale,
                          .renormalise = op->renormalise != 0};
    const uint64_t chosen = (uint64_t)op->n_rows * op->top_k * 4;
    CUDA_TRY(
        oct_cuda_rows(dev, op->logits, op->n_rows, op->n_experts, 4, "route: logits", &p.logits));
    CUDA_TRY(oct_cuda_at_optional(dev, op->bias, op->n_experts * 4ull, 4, "route: bias", &p.bias));
    CUDA_TRY(oct_cuda_at(dev, op->expert, chosen, 4, "route: expert", &p.expert));
    CUDA_TRY(oct_cuda_at(dev, op->weight, chosen, 4, "route: weight", &p.weight));
    const uint32_t bytes = 2 * op->n_experts * 4;
    const uint32_t warps = less(ROUTE_BYTES / bytes, 4);
    return OCT_LAUNCH(s, route, ((oct_grid){oct_blocks_of(op->n_rows, warps), 1, 1}), warps * 32,
                      warps * bytes, &p);
}

static int32_t permute_in_one(octet_stream *s, oct_permute_params *p) {
    const uint32_t bytes = p->n_experts * 4;
    const uint32_t most = less(COUNT_BYTES / bytes, MAX_WARPS);
    const uint64_t warps = oct_blocks_of(p->n_pairs, 32);
    p->n_segments = warps == 0 ? 1 : less(warps, most);
    p->segment = (uint32_t)oct_blocks_of(oct_blocks_of(p->n_pairs, p->n_segments), 32) * 32;
    return OCT_LAUNCH(s, permute_one, ((oct_grid){1, 1, 1}), p->n_segments * 32,
                      p->n_segments * bytes, p);
}

int32_t oct_cuda_permute(octet_stream *s, const octet_permute_op *op) {
    octet_device *dev = s->dev;
    CUDA_BEGIN(s, op, "permute");
    CUDA_TRY(check_choice(dev, op->n_rows, op->n_experts, op->top_k, "permute"));
    oct_permute_params p = {.fault = oct_cuda_fault_word(s),
                            .n_pairs = op->n_rows * op->top_k,
                            .n_experts = op->n_experts,
                            .top_k = op->top_k};
    const uint64_t bytes = p.n_pairs * 4ull;
    CUDA_TRY(oct_cuda_at(dev, op->expert, bytes, 4, "permute: expert", &p.expert));
    CUDA_TRY(
        oct_cuda_at(dev, op->first, (op->n_experts + 1) * 4ull, 4, "permute: first", &p.first));
    CUDA_TRY(oct_cuda_at(dev, op->row, bytes, 4, "permute: row", &p.row));
    CUDA_TRY(oct_cuda_at(dev, op->place, bytes, 4, "permute: place", &p.place));
    if (p.n_pairs <= ONE_BLOCK_PAIRS) return permute_in_one(s, &p);
    p.segment = SEGMENT;
    p.n_segments = (uint32_t)oct_blocks_of(p.n_pairs, SEGMENT);
    CUDA_TRY(oct_cuda_scratch(s, OCT_CUDA_SCRATCH_ROWS, (uint64_t)p.n_segments * op->n_experts * 4,
                              &p.counts));
    const oct_grid grid = {oct_blocks_of(p.n_segments, OCT_PERMUTE_WARPS), 1, 1};
    const uint32_t shared = OCT_PERMUTE_WARPS * op->n_experts * 4;
    CUDA_TRY(OCT_LAUNCH(s, permute_count, grid, OCT_PERMUTE_WARPS * 32, shared, &p));
    CUDA_TRY(OCT_LAUNCH(s, permute_first, ((oct_grid){1, 1, 1}), 1024, 0, &p));
    return OCT_LAUNCH(s, permute_place, grid, OCT_PERMUTE_WARPS * 32, shared, &p);
}

int32_t oct_cuda_quantize_grouped(octet_stream *s, const octet_quantize_grouped_op *op) {
    octet_device *dev = s->dev;
    const uint32_t n = op->n_rows, width = op->width;
    const char *const what = "quantize_grouped";
    oct_row_shape h = {32, 0, 128};
    CUDA_BEGIN(s, op, what);
    oct_quantize_grouped_params p = {.fault = oct_cuda_fault_word(s),
                                     .n_rows = n,
                                     .n_in = op->n_in,
                                     .n_experts = op->n_experts,
                                     .width = width};
    if (op->quant.mode == OCTET_QUANT_NONE)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "%s: no quantisation named", what);
    if (op->n_experts == 0 || op->n_experts > MAX_EXPERTS || n > INT32_MAX)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "%s: bad counts (got %u experts, %u rows)", what,
                             op->n_experts, n);
    if (n == 0) return OCTET_OK;
    if (op->n_in == 0 || (!op->row.buffer && op->n_in != n))
        return oct_cuda_fail(dev, OCTET_E_INVALID, "%s: %u grouped rows of an input of %u", what, n,
                             op->n_in);
    CUDA_TRY(oct_cuda_row_shape(dev, width, what, &h));
    CUDA_TRY(oct_cuda_at(dev, op->first, (op->n_experts + 1) * 4ull, 4, "quantize_grouped: first",
                         &p.first));
    CUDA_TRY(oct_cuda_at_optional(dev, op->row, n * 4ull, 4, "quantize_grouped: row", &p.row));
    CUDA_TRY(oct_cuda_rows(dev, op->x, op->n_in, width, 2, "quantize_grouped: x", &p.x));
    CUDA_TRY(oct_cuda_at_optional(dev, op->mul, (uint64_t)op->n_experts * width * 4, 4,
                                  "quantize_grouped: mul", &p.mul));
    CUDA_TRY(oct_cuda_quant(dev, &op->quant, n, width, op->n_experts, "quantize_grouped: out",
                            &p.quant));
    p.group = h.group;
    return oct_cuda_launch(s, OCT_K_quantize_grouped_1 + h.variant, oct_row_grid(&h, n), h.threads,
                           0, &p);
}

int32_t oct_cuda_combine(octet_stream *s, const octet_combine_op *op) {
    octet_device *dev = s->dev;
    const uint32_t n = op->n_rows, width = op->width;
    CUDA_BEGIN(s, op, "combine");
    CUDA_TRY(check_choice(dev, n, MAX_EXPERTS, op->top_k, "combine"));
    oct_combine_params p = {.fault = oct_cuda_fault_word(s),
                            .n_rows = n,
                            .width = width,
                            .top_k = op->top_k,
                            .accumulate = op->accumulate != 0};
    const uint64_t pairs = (uint64_t)n * op->top_k;
    CUDA_TRY(oct_cuda_rows(dev, op->x, pairs, width, 2, "combine: x", &p.x));
    CUDA_TRY(oct_cuda_at(dev, op->place, pairs * 4, 4, "combine: place", &p.place));
    CUDA_TRY(oct_cuda_at(dev, op->weight, pairs * 4, 4, "combine: weight", &p.weight));
    CUDA_TRY(oct_cuda_rows_optional(dev, op->shared, n, width, 2, "combine: shared", &p.shared));
    CUDA_TRY(
        oct_cuda_at_optional(dev, op->shared_gate, n * 4ull, 4, "combine: shared_gate", &p.gate));
    CUDA_TRY(oct_cuda_rows(dev, op->out, n, width, 2, "combine: out", &p.out));
    const uint64_t pieces = oct_blocks_of(width, 8);
    return OCT_LAUNCH(s, combine, ((oct_grid){oct_blocks_of(n * pieces, FLAT), 1, 1}), FLAT, 0, &p);
}

/* ---- sampling -------------------------------------------------------------------------------- */

/* Tables that rows point into: how many entries there are is what their buffers hold. */
static int32_t open_tables(octet_device *dev, const octet_sample_op *op, oct_sample_params *p) {
    const uint64_t words = oct_blocks_of(op->n_vocab, 32);
    CUDA_TRY(oct_cuda_at_optional(dev, op->seen, 0, 4, "sample: seen", &p->seen));
    CUDA_TRY(oct_cuda_at_optional(dev, op->bias, 0, 4, "sample: bias", &p->bias));
    CUDA_TRY(oct_cuda_at_optional(dev, op->masks, 0, 4, "sample: masks", &p->masks));
    p->n_seen = less(oct_cuda_bytes_behind(dev, op->seen) / sizeof(octet_seen_token), UINT32_MAX);
    p->n_bias = less(oct_cuda_bytes_behind(dev, op->bias) / sizeof(octet_bias), UINT32_MAX);
    p->n_masks = less(oct_cuda_bytes_behind(dev, op->masks) / 4 / words, UINT32_MAX);
    return OCTET_OK;
}

static int32_t open_sample_scratch(octet_stream *s, oct_sample_params *p) {
    const uint64_t n = p->n_rows;
    const uint64_t slices = n * p->n_slices * sizeof(oct_sample_slice);
    const uint64_t bins = n * OCT_SAMPLE_BINS * 4;
    p->changed_stride = oct_blocks_of(p->n_vocab, 4) * 4;
    const uint64_t changed = p->seen || p->bias || p->masks ? n * p->changed_stride * 4 : 0;
    const uint64_t up = oct_blocks_of(slices, 256) * 256; /* bins are of such a size already */
    CUDA_TRY(oct_cuda_scratch(s, OCT_CUDA_SCRATCH_SAMPLE, up + bins + changed, &p->slices));
    p->bins = p->slices + up;
    p->changed = p->bins + bins;
    return OCTET_OK;
}

/* Logits of a part: so many that there are no more parts than a block can hold. */
static uint32_t part_of(uint32_t n_vocab) {
    uint32_t part = 64;
    while ((uint64_t)part * OCT_SAMPLE_PARTS < n_vocab) part *= 2;
    return part;
}

int32_t oct_cuda_sample(octet_stream *s, const octet_sample_op *op) {
    octet_device *dev = s->dev;
    const uint64_t n = op->n_rows, n_top = n * op->max_top;
    CUDA_BEGIN(s, op, "sample");
    if (n == 0) return OCTET_OK;
    if (op->n_vocab == 0 || op->n_vocab > OCT_SAMPLE_SLICE * OCT_SAMPLE_SLICES)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "sample: bad vocabulary (got %u, want 1..%d)",
                             op->n_vocab, OCT_SAMPLE_SLICE * OCT_SAMPLE_SLICES);
    oct_sample_params p = {.fault = oct_cuda_fault_word(s),
                           .n_rows = op->n_rows,
                           .n_vocab = op->n_vocab,
                           .n_slices = (uint32_t)oct_blocks_of(op->n_vocab, OCT_SAMPLE_SLICE),
                           .max_top = op->max_top,
                           .part = part_of(op->n_vocab)};
    CUDA_TRY(oct_cuda_rows(dev, op->logits, n, op->n_vocab, 4, "sample: logits", &p.logits));
    CUDA_TRY(oct_cuda_at(dev, op->rows, n * sizeof(octet_sample_row), 8, "sample: rows", &p.rows));
    CUDA_TRY(open_tables(dev, op, &p));
    CUDA_TRY(oct_cuda_at(dev, op->out, n * sizeof(octet_sample_out), 4, "sample: out", &p.out));
    if (op->max_top) {
        CUDA_TRY(oct_cuda_at(dev, op->top_id, n_top * 4, 4, "sample: top_id", &p.top_id));
        CUDA_TRY(
            oct_cuda_at(dev, op->top_logprob, n_top * 4, 4, "sample: top_logprob", &p.top_logprob));
    }
    CUDA_TRY(open_sample_scratch(s, &p));
    const oct_grid slices = {p.n_slices, n, 1};
    CUDA_TRY(OCT_LAUNCH(s, sample_look, slices, 256, OCT_SAMPLE_LOOK_BYTES, &p));
    CUDA_TRY(OCT_LAUNCH(s, sample_weigh, slices, 256, 0, &p));
    return OCT_LAUNCH(s, sample_choose, ((oct_grid){n, 1, 1}), 1024, OCT_SAMPLE_CHOOSE_BYTES, &p);
}
