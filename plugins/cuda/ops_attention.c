/*
 * ops_attention.c - what goes into the KV cache and what is read from it.
 *
 * Sequences with few rows (decodes, guesses) are split along the cache, a block a chunk of 512
 * tokens; the others (prompts) get a block for each tile of rows, or on Hopper as many blocks as
 * fit take tiles in turn, and rows are quantised by a launch behind. A batch of both takes two
 * launches. Which sequence is which, and how long it is, only the device knows: grids follow from
 * the largest numbers of the batch, and blocks without work end at once.
 */
#include "kernels/attn_prompt_sm90.h"
#include "kv.h"
#include "launch.h"

enum { THREADS = 128 };

/* ---- attn_input ------------------------------------------------------------------------------ */

static int32_t norms(octet_device *dev, const octet_attn_input_op *op, oct_attn_input_params *p) {
    const uint64_t full = op->qk_norm == OCTET_QK_NORM_FULL;
    const uint64_t q = (full ? op->n_heads : 1) * (uint64_t)op->kv.head_dim * sizeof(float);
    const uint64_t k = (full ? op->kv.n_kv_heads : 1) * (uint64_t)op->kv.head_dim * sizeof(float);
    if (op->qk_norm == OCTET_QK_NORM_NONE) return OCTET_OK;
    if (op->qk_norm > OCTET_QK_NORM_FULL)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "attn_input: unknown norm (got %u)",
                             op->qk_norm);
    CUDA_TRY(oct_cuda_at(dev, op->q_norm, q, 4, "attn_input: q_norm", &p->q_norm));
    CUDA_TRY(oct_cuda_at(dev, op->k_norm, k, 4, "attn_input: k_norm", &p->k_norm));
    CUDA_TRY(oct_cuda_at_optional(dev, op->q_norm_bias, q, 4, "attn_input: q_norm_bias",
                                  &p->q_norm_bias));
    return oct_cuda_at_optional(dev, op->k_norm_bias, k, 4, "attn_input: k_norm_bias",
                                &p->k_norm_bias);
}

static int32_t rotation(octet_device *dev, const octet_attn_input_op *op,
                        oct_attn_input_params *p) {
    if (op->rotary_dim == 0) return OCTET_OK;
    if (op->rotary_dim % 2 || op->rotary_dim > op->kv.head_dim || op->n_rope_rows == 0)
        return oct_cuda_fail(dev, OCTET_E_INVALID,
                             "attn_input: bad rotation (got width %u, %u rows; want even, <= %u)",
                             op->rotary_dim, op->n_rope_rows, op->kv.head_dim);
    return oct_cuda_at(dev, op->rope, (uint64_t)op->n_rope_rows * op->rotary_dim * sizeof(float), 4,
                       "attn_input: rope", &p->rope);
}

int32_t oct_cuda_attn_input(octet_stream *s, const octet_attn_input_op *op) {
    octet_device *dev = s->dev;
    oct_p_batch batch;
    oct_attn_input_params p = {.fault = oct_cuda_fault_word(s),
                               .norm_eps = op->norm_eps,
                               .qk_norm = op->qk_norm,
                               .rotary_dim = op->rotary_dim,
                               .n_rope_rows = op->n_rope_rows,
                               .n_heads = op->n_heads};
    CUDA_BEGIN(s, op, "attn_input");
    const uint64_t n_rows = op->batch.n_rows;
    const uint64_t heads = (uint64_t)op->n_heads + 2ull * op->kv.n_kv_heads;
    CUDA_TRY(oct_cuda_kv(dev, &op->kv, "attn_input: kv", &p.kv));
    CUDA_TRY(oct_cuda_batch(dev, &op->batch, 1, "attn_input: batch", &batch));
    CUDA_TRY(
        oct_cuda_rows(dev, op->qkv, n_rows, heads * op->kv.head_dim, 2, "attn_input: qkv", &p.qkv));
    CUDA_TRY(norms(dev, op, &p));
    CUDA_TRY(rotation(dev, op, &p));
    p.row_pos = batch.row_pos;
    p.row_slot = batch.row_slot;
    if (op->qk_norm == OCTET_QK_NORM_FULL) {
        CUDA_TRY(oct_cuda_scratch(s, OCT_CUDA_SCRATCH_ROWS, n_rows * 2 * sizeof(float), &p.sums));
        const oct_attn_sums_params sums = {.fault = p.fault,
                                           .qkv = p.qkv,
                                           .sums = p.sums,
                                           .n_heads = op->n_heads,
                                           .n_kv_heads = op->kv.n_kv_heads,
                                           .head_dim = op->kv.head_dim};
        CUDA_TRY(OCT_LAUNCH(s, attn_sums, ((oct_grid){n_rows, 1, 1}), 256, 0, &sums));
    }
    return OCT_LAUNCH(s, attn_input, ((oct_grid){n_rows, oct_blocks_of(heads, 4), 1}), THREADS, 0,
                      &p);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* The kernels of a kind of cache: those for heads padded to 64, 128 and 256 stand together. The
 * ones for prompts have no third. */
typedef struct kind_kernels {
    oct_cuda_kernel some, prompt;
    int has_prompt;
} kind_kernels;

static kind_kernels kernels_of(uint32_t kind) {
    switch (kind) {
    case OCTET_KV_I8_CHANNEL:
        return (kind_kernels){OCT_K_attn_i8_64, OCT_K_attn_prompt_64, 1};
    case OCTET_KV_I8_TOKEN:
        return (kind_kernels){OCT_K_attn_i8_token_64, OCT_K_attn_prompt_token_64, 1};
    case OCTET_KV_FP8_CHANNEL:
        return (kind_kernels){OCT_K_attn_fp8_64, OCT_K_attn_prompt_fp8_64, 1};
    case OCTET_KV_BF16:
        return (kind_kernels){OCT_K_attn_bf16_64, OCT_K_attn_prompt_bf16_64, 1};
    case OCTET_KV_F16:
        return (kind_kernels){OCT_K_attn_f16_64, OCT_K_attn_prompt_f16_64, 1};
    default:
        return (kind_kernels){OCT_K_attn_f32_64, OCT_K_attn_f32_64, 0};
    }
}

static oct_cuda_kernel padded(oct_cuda_kernel first, uint32_t pad) {
    return (oct_cuda_kernel)(first + (pad == 64 ? 0 : pad == 128 ? 1 : 2));
}

static uint32_t shared_of(uint32_t kind, uint32_t pad) {
    switch (kind) {
    case OCTET_KV_I8_CHANNEL:
    case OCTET_KV_I8_TOKEN:
        return OCT_ATTN_I8_SHARED(pad);
    case OCTET_KV_FP8_CHANNEL:
        return OCT_ATTN_HALF_SHARED(pad, 1);
    case OCTET_KV_BF16:
    case OCTET_KV_F16:
        return OCT_ATTN_HALF_SHARED(pad, 2);
    default:
        return OCT_ATTN_FLOAT_SHARED(pad);
    }
}

static uint32_t prompt_shared_of(uint32_t kind, uint32_t pad) {
    const int i8 = kind == OCTET_KV_I8_CHANNEL || kind == OCTET_KV_I8_TOKEN;
    if (i8) return OCT_ATTN_PROMPT_SHARED(pad);
    return OCT_ATTN_HALF_PROMPT_SHARED(pad, kind == OCTET_KV_FP8_CHANNEL ? 1 : 2);
}

/* A tile of at most so many queries of a kv head. Returns the blocks that its heads take. */
static uint64_t set_tile(oct_attn_params *p, uint32_t vectors) {
    p->tile_heads = p->group < vectors ? p->group : vectors;
    p->head_tiles = (uint32_t)oct_blocks_of(p->group, vectors);
    p->tile_rows = vectors / p->tile_heads;
    return (uint64_t)p->kv.n_kv_heads * p->head_tiles;
}

/* What the splitting of short sequences may take of memory; beyond it nothing is split. */
#define PARTIALS_MAX (256ull << 20)

/* One launch over some of the sequences; tiles 0: none. */
typedef struct part {
    oct_cuda_kernel kernel;
    uint32_t shared;
    uint64_t tiles, heads_y;
    int sm90; /* blocks take tiles from a counter, and rows are quantised behind all parts */
    oct_attn_params p;
} part;

/* Sequences of at most `most` rows, a block a chunk. Returns 0 where it would take too much
 * memory. */
static int split_part(const octet_batch *b, uint32_t most, part *out) {
    oct_attn_params *p = &out->p;
    const uint32_t rows = b->max_seq_rows < most ? b->max_seq_rows : most;
    p->seq_tiles = (uint32_t)oct_blocks_of(rows, p->tile_rows);
    p->max_chunks = (uint32_t)oct_blocks_of(b->max_kv_len, OCT_ATTN_CHUNK);
    out->tiles = (uint64_t)b->n_seqs * p->seq_tiles;
    const double bytes = (double)out->tiles * (double)out->heads_y * p->max_chunks *
                         OCT_ATTN_PART_FLOATS(p->kv.pad) * sizeof(float);
    if (bytes <= (double)PARTIALS_MAX) {
        p->max_rows = most;
        p->join_rows = rows;
        return 1;
    }
    p->seq_tiles = 0;
    return 0;
}

static uint64_t all_tiles(const octet_batch *b, const oct_attn_params *p) {
    return oct_blocks_of(b->n_rows, p->tile_rows) + b->n_seqs;
}

/* Whether prompts over the cache go through wgmma. */
static int want_sm90(const octet_device *dev, const oct_attn_params *p) {
    return dev->sm == 90 && dev->wgmma != OCT_CUDA_NEVER && p->kv.kind == OCTET_KV_I8_CHANNEL &&
           p->kv.pad <= 128;
}

/* Many rows, a launch of tiles. Sequences that are not split take it too: a batch has one kind of
 * unsplit tile. */
static void prompt_part(const octet_device *dev, const kind_kernels *kernels, part *many) {
    const uint32_t pad = many->p.kv.pad;
    many->sm90 = want_sm90(dev, &many->p);
    many->kernel = padded(many->sm90 ? OCT_K_attn_prompt_sm90_64 : kernels->prompt, pad);
    many->shared = many->sm90 ? OCT_ATTN_SM90_SHARED(pad) : prompt_shared_of(many->p.kv.kind, pad);
    many->heads_y =
        set_tile(&many->p, many->sm90 ? OCT_ATTN_SM90_VECTORS : OCT_ATTN_PROMPT_VECTORS);
}

/* Those that read the cache: few rows, many rows. */
static void cache_parts(const octet_device *dev, const octet_batch *b, const oct_attn_params *all,
                        part *few, part *many) {
    const uint32_t kind = all->kv.kind, pad = all->kv.pad;
    const kind_kernels kernels = kernels_of(kind);
    *few = (part){.kernel = padded(kernels.some, pad), .shared = shared_of(kind, pad), .p = *all};
    few->heads_y = set_tile(&few->p, OCT_ATTN_VECTORS);
    few->p.min_rows = 1;
    *many = *few;
    many->p.max_rows = UINT32_MAX;
    if (split_part(b, OCT_ATTN_FEW_ROWS, few))
        many->p.min_rows = OCT_ATTN_FEW_ROWS + 1;
    else
        few->tiles = 0;
    if (b->max_seq_rows < many->p.min_rows) return;
    if (kernels.has_prompt && pad <= 128 && b->max_seq_rows > OCT_ATTN_FEW_ROWS)
        prompt_part(dev, &kernels, many);
    many->tiles = all_tiles(b, &many->p);
}

static int32_t launch_one(octet_stream *s, const part *l) {
    const uint64_t n_sms = (uint64_t)s->dev->n_sms, items = l->tiles * l->heads_y;
    if (l->sm90)
        return oct_cuda_launch(s, l->kernel, (oct_grid){items < n_sms ? items : n_sms, 1, 1},
                               OCT_ATTN_SM90_THREADS, l->shared, &l->p);
    const uint64_t chunks = l->p.seq_tiles ? l->p.max_chunks : 1;
    return oct_cuda_launch(s, l->kernel, (oct_grid){l->tiles * chunks, l->heads_y, 1}, THREADS,
                           l->shared, &l->p);
}

/* The counters of rows stand before those of items. */
static int32_t give_scratch(octet_stream *s, part *parts, int n) {
    const uint64_t items = parts[0].tiles * parts[0].heads_y;
    const uint64_t bytes =
        items * parts[0].p.max_chunks * OCT_ATTN_PART_FLOATS(parts[0].p.kv.pad) * sizeof(float);
    uint64_t tiles = 0;
    oct_addr counters = 0, partials = 0;
    for (int i = 0; i < n; i++)
        if (parts[i].tiles > tiles) tiles = parts[i].tiles;
    CUDA_TRY(
        oct_cuda_scratch(s, OCT_CUDA_SCRATCH_COUNTERS, (tiles + 2) * sizeof(uint32_t), &counters));
    if (bytes) CUDA_TRY(oct_cuda_scratch(s, OCT_CUDA_SCRATCH_ATTENTION, bytes, &partials));
    for (int i = 0; i < n; i++) {
        parts[i].p.out.counters = counters;
        parts[i].p.next_item = counters + tiles * sizeof(uint32_t);
        parts[i].p.partials = partials;
    }
    return OCTET_OK;
}

/* Behind a split part: its rows from their chunks. Rows that nobody asked for are not stored. */
static int32_t launch_join(octet_stream *s, const part *few, int store) {
    const uint32_t width = few->p.n_heads * few->p.kv.head_dim;
    oct_attn_params p = few->p;
    oct_row_shape h = {32, 0, 128};
    CUDA_TRY(oct_cuda_row_shape(s->dev, width, "attention", &h));
    if (!store) p.out.rows.data = 0;
    return oct_cuda_launch_row(s, OCT_K_attn_join_1, h, p.batch.n_seqs * p.join_rows, width,
                               &p.join_threads, &p);
}

/* Quantises rows that all parts have left. */
static int32_t quantise(octet_stream *s, const oct_attn_params *p, uint32_t n_rows) {
    oct_quantize_params q = {.fault = p->fault,
                             .x = p->out.rows,
                             .quant = p->out.quant,
                             .n_rows = n_rows,
                             .width = p->n_heads * p->kv.head_dim};
    oct_row_shape h = {32, 0, 128};
    CUDA_TRY(oct_cuda_row_shape(s->dev, q.width, "attention", &h));
    q.group = h.group;
    return oct_cuda_launch(s, OCT_K_quantize_1 + h.variant, oct_row_grid(&h, n_rows), h.threads, 0,
                           &q);
}

static int32_t launch_all(octet_stream *s, const octet_attention_op *op, oct_attn_params *p) {
    const octet_batch *b = &op->batch;
    const uint64_t width = ((uint64_t)op->n_heads + 2ull * op->kv.n_kv_heads) * op->kv.head_dim;
    part parts[3]; /* few rows, many rows, rows of this step */
    int n = 2;
    p->which = op->fresh.data.buffer ? OCT_ATTN_FRESH_NO : 0;
    cache_parts(s->dev, b, p, &parts[0], &parts[1]);
    if (op->fresh.data.buffer) {
        const uint32_t pad = p->kv.pad;
        const int wide = pad > 128;
        part *fresh = &parts[n++];
        *fresh = (part){
            .kernel = wide ? OCT_K_attn_rows_256 : padded(OCT_K_attn_prompt_rows_64, pad),
            .shared = wide ? OCT_ATTN_HALF_SHARED(pad, 2) : OCT_ATTN_HALF_PROMPT_SHARED(pad, 2),
            .p = *p};
        CUDA_TRY(oct_cuda_rows(s->dev, op->fresh, b->n_rows, width, 2, "attention: fresh",
                               &fresh->p.fresh));
        fresh->heads_y = set_tile(&fresh->p, wide ? OCT_ATTN_VECTORS : OCT_ATTN_PROMPT_VECTORS);
        fresh->tiles = all_tiles(b, &fresh->p);
        fresh->p.which = OCT_ATTN_FRESH_ONLY;
        fresh->p.min_rows = 1;
        fresh->p.max_rows = UINT32_MAX;
    }
    const int later = parts[1].sm90 && parts[1].tiles && p->out.quant.q;
    CUDA_TRY(give_scratch(s, parts, n));
    for (int i = 0; i < n; i++) {
        if (later && i > 0) parts[i].p.out.quant.q = 0;
        CUDA_TRY(launch_one(s, &parts[i]));
    }
    if (parts[0].tiles) CUDA_TRY(launch_join(s, &parts[0], later || op->out.data.buffer != 0));
    return later ? quantise(s, p, b->n_rows) : OCTET_OK;
}

int32_t oct_cuda_attention(octet_stream *s, const octet_attention_op *op) {
    octet_device *dev = s->dev;
    oct_attn_params p = {.fault = oct_cuda_fault_word(s),
                         .n_heads = op->n_heads,
                         .scale = op->scale,
                         .softcap = op->softcap,
                         .inv_cap = op->softcap != 0 ? 1.0f / op->softcap : 0,
                         .window = op->window,
                         .mask = op->mask};
    CUDA_BEGIN(s, op, "attention");
    const uint64_t n_rows = op->batch.n_rows, width = (uint64_t)op->n_heads * op->kv.head_dim;
    CUDA_TRY(oct_cuda_kv(dev, &op->kv, "attention: kv", &p.kv));
    if (op->n_heads == 0 || op->n_heads % op->kv.n_kv_heads)
        return oct_cuda_fail(dev, OCTET_E_INVALID,
                             "attention: bad number of heads (got %u, want a multiple of %u)",
                             op->n_heads, op->kv.n_kv_heads);
    if (op->mask > OCTET_MASK_NONE)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "attention: unknown mask (got %u)",
                             op->mask);
    p.group = op->n_heads / op->kv.n_kv_heads;
    CUDA_TRY(oct_cuda_batch(dev, &op->batch, 0, "attention: batch", &p.batch));
    CUDA_TRY(oct_cuda_rows(dev, op->q, n_rows, width, 2, "attention: q", &p.q));
    CUDA_TRY(oct_cuda_rows_optional(dev, op->out, n_rows, width, 2, "attention: out", &p.out.rows));
    CUDA_TRY(oct_cuda_quant(dev, &op->quant, n_rows, width, 1, "attention: quant", &p.out.quant));
    if (n_rows == 0 || op->batch.n_seqs == 0 || op->batch.max_seq_rows == 0) return OCTET_OK;
    if (!p.out.rows.data) {
        p.out.rows = (oct_p_rows){.stride = (width + 7) / 8 * 8, .vec = 1};
        CUDA_TRY(oct_cuda_scratch(s, OCT_CUDA_SCRATCH_ROWS, n_rows * p.out.rows.stride * 2,
                                  &p.out.rows.data));
    }
    return launch_all(s, op, &p);
}
