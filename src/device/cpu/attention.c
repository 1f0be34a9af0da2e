/*
 * device/cpu/attention.c - attention over a whole batch: which thread does what.
 *
 * The work is cut into items of (sequence, kv head, tile of rows). Threads take items from a shared
 * counter, because items differ: a late tile of a prompt sees more than an early one, and is begun
 * first, so that the last to be done is a small one. When there are too few items for the threads
 * (one user, a long text) items of few rows are cut again, into ranges of spans, whose partial
 * results a second job combines in ascending order. By the contract the bits depend on neither cut.
 *
 * Three jobs at most: items, combinations, quantised copies of the rows.
 */
#include <stdatomic.h>
#include <string.h>

#include "device/cpu/batch.h"

enum {
    TILE_ROWS = 32,
    SPLIT_VECTORS = 64, /* row x head pairs of an item above which it is not cut into spans */
    SPLIT_MIN_SPANS = 4 /* 512 tokens: below, cutting costs more than it gives */
};

typedef struct item {
    uint32_t seq, kv_head, row, n_rows;
    uint32_t span_begin, span_end; /* equal: the whole item in one piece */
    size_t partial;                /* where its first partial lies, in floats */
    uint32_t whole;                /* index of the combination it belongs to */
} item;

/* Combinations are items again, of the whole range. */

typedef struct attention_job {
    const octet_device *dev;
    const octet_attention_op *op;
    oct_cpu_batch batch;
    oct_cpu_kv kv;
    const float *q;
    const float *fresh; /* NULL: everybody reads the cache */
    float *out;
    size_t ldo, width;
    uint32_t group;
    item *items, *wholes;
    uint32_t n_items, n_wholes;
    float *partials;
    char *scratch;
    size_t scratch_bytes; /* a thread */
    oct_cpu_quant quant;
    atomic_uint next;
} attention_job;

/* ---- one item -------------------------------------------------------------------------------- */

static bool reads_fresh(const attention_job *j, uint32_t seq) {
    const int32_t rows = j->batch.seq_row[seq + 1] - j->batch.seq_row[seq];
    return j->fresh && j->batch.seq_kv_len[seq] == rows;
}

static oct_attn_args args_of(const attention_job *j, const item *it) {
    const uint32_t dim = j->kv.head_dim;
    const size_t head = (size_t)it->kv_head * j->group * dim;
    oct_attn_args a = {.q = j->q + it->row * j->op->q.stride + head,
                       .q_stride = j->op->q.stride,
                       .n_rows = it->n_rows,
                       .group = j->group,
                       .head_dim = dim,
                       .pos0 = (uint32_t)j->batch.row_pos[it->row],
                       .kv_len = (uint32_t)j->batch.seq_kv_len[it->seq],
                       .scale = j->op->scale,
                       .softcap = j->op->softcap,
                       .window = j->op->window,
                       .causal = j->op->mask == OCTET_MASK_CAUSAL,
                       .out = j->out + it->row * j->ldo + head,
                       .out_stride = j->ldo};
    if (reads_fresh(j, it->seq)) {
        const float *first = j->fresh + (size_t)j->batch.seq_row[it->seq] * j->op->fresh.stride;
        a.cache = OCT_ATTN_ROWS;
        a.k_rows = first + ((size_t)j->op->n_heads + it->kv_head) * dim;
        a.v_rows = a.k_rows + (size_t)j->kv.n_kv_heads * dim;
        a.kv_stride = j->op->fresh.stride;
        return a;
    }
    const size_t channel = (size_t)it->kv_head * dim;
    a.cache = j->kv.cache;
    a.kv = j->kv.base + it->kv_head * j->kv.head_bytes;
    a.block_bytes = j->kv.block_bytes;
    a.sub_bytes = j->kv.n_kv_heads * j->kv.head_bytes;
    a.blocks = j->batch.block_table + (size_t)it->seq * j->batch.table_stride;
    a.block_tokens = j->kv.block_tokens;
    if (!j->kv.k_scale) return a;
    a.k_scale = j->kv.k_scale + channel;
    a.v_scale = j->kv.v_scale + channel;
    a.v_offset = j->kv.v_offset ? j->kv.v_offset + channel : NULL;
    return a;
}

static void items_share(void *ctx, oct_share share) {
    attention_job *j = ctx;
    void *scratch = j->scratch + share.index * j->scratch_bytes;
    for (;;) {
        const unsigned i = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
        if (i >= j->n_items) {
            oct_cpu_prefetch_share(j->dev, share);
            return;
        }
        const item *it = &j->items[j->n_items - 1 - i];
        const oct_attn_args a = args_of(j, it);
        if (it->span_begin == it->span_end)
            oct_kern_attn(&j->dev->kern, &a, scratch);
        else
            oct_kern_attn_spans(&j->dev->kern, &a, it->span_begin, it->span_end,
                                j->partials + it->partial, scratch);
    }
}

static void wholes_share(void *ctx, oct_share share) {
    attention_job *j = ctx;
    size_t begin, end;
    oct_share_of(share, j->n_wholes, 1, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const oct_attn_args a = args_of(j, &j->wholes[i]);
        oct_kern_attn_combine(&j->dev->kern, &a, j->partials + j->wholes[i].partial);
    }
}

static void quant_share(void *ctx, oct_share share) {
    const attention_job *j = ctx;
    size_t begin, end;
    oct_share_of(share, j->batch.n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++)
        oct_cpu_quant_row(j->dev, &j->quant, r, j->out + r * j->ldo, NULL, j->width);
}

/* ---- the plan -------------------------------------------------------------------------------- */

typedef struct plan {
    uint64_t n_items, n_wholes, n_partials; /* partials in floats */
    uint64_t piece;                         /* spans a piece, 0: nothing is cut */
} plan;

static uint32_t n_spans(const oct_attn_args *a, uint32_t *begin) {
    uint32_t end = 0;
    oct_kern_attn_span_range(a, begin, &end);
    return end > *begin ? end - *begin : 0;
}

/* Blocks that the spans of this tile lie in are blocks of the cache. */
static int32_t check_blocks(octet_device *dev, const attention_job *j, const item *it) {
    const oct_attn_args a = args_of(j, it);
    uint32_t begin = 0;
    const uint64_t spans = n_spans(&a, &begin), last = (uint64_t)a.kv_len;
    if (spans == 0 || a.cache == OCT_ATTN_ROWS) return OCTET_OK;
    const uint64_t first_block = (uint64_t)begin * OCT_ATTN_SPAN / a.block_tokens;
    uint64_t token_end = ((uint64_t)begin + spans) * OCT_ATTN_SPAN;
    if (token_end > last) token_end = last;
    const uint64_t end_block = (token_end + a.block_tokens - 1) / a.block_tokens;
    if (end_block > j->batch.table_stride)
        return CPU_FAIL(dev, OCT_E_INVALID,
                        "attention: sequence %u has more tokens than blocks (got %u, want <= %llu)",
                        it->seq, a.kv_len,
                        (unsigned long long)j->batch.table_stride * a.block_tokens);
    for (uint64_t b = first_block; b < end_block; b++)
        if (a.blocks[b] < 0 || (uint64_t)a.blocks[b] >= j->kv.n_blocks)
            return CPU_FAIL(dev, OCT_E_INVALID,
                            "attention: sequence %u: block outside the cache (got %d, want < %llu)",
                            it->seq, a.blocks[b], (unsigned long long)j->kv.n_blocks);
    return OCTET_OK;
}

/* Walks all tiles of all sequences; with p->piece set it cuts, with j->items set it writes. */
static int32_t walk(octet_device *dev, attention_job *j, plan *p, uint64_t *spans_out) {
    plan at = {.piece = p->piece};
    uint64_t total = 0;
    for (uint32_t s = 0; s < j->batch.n_seqs; s++) {
        const uint32_t end = (uint32_t)j->batch.seq_row[s + 1];
        for (uint32_t row = (uint32_t)j->batch.seq_row[s]; row < end; row += TILE_ROWS) {
            item it = {.seq = s, .row = row};
            it.n_rows = end - row < TILE_ROWS ? end - row : TILE_ROWS;
            if (!j->items) CPU_TRY(check_blocks(dev, j, &it));
            const oct_attn_args a = args_of(j, &it);
            uint32_t begin = 0;
            const uint32_t spans = n_spans(&a, &begin);
            total += (uint64_t)spans * j->kv.n_kv_heads;
            const bool cut = at.piece && spans > at.piece && it.n_rows * j->group <= SPLIT_VECTORS;
            const size_t per_span = cut ? oct_kern_attn_partial_floats(&a) : 0;
            for (it.kv_head = 0; it.kv_head < j->kv.n_kv_heads; it.kv_head++) {
                if (!cut) {
                    if (j->items) j->items[at.n_items] = it;
                    at.n_items++;
                    continue;
                }
                item whole = it;
                whole.partial = at.n_partials;
                if (j->items) j->wholes[at.n_wholes] = whole;
                for (uint64_t done = 0; done < spans; done += at.piece) {
                    item piece = it;
                    piece.span_begin = begin + (uint32_t)done;
                    piece.span_end =
                        begin + (uint32_t)(done + at.piece < spans ? done + at.piece : spans);
                    piece.partial = whole.partial + done * per_span;
                    if (j->items) j->items[at.n_items] = piece;
                    at.n_items++;
                }
                at.n_wholes++;
                at.n_partials += spans * per_span;
            }
        }
    }
    *p = at;
    if (spans_out) *spans_out = total;
    return OCTET_OK;
}

/* Counts, decides whether to cut, and writes the items. */
static int32_t make_plan(octet_device *dev, attention_job *j) {
    const uint64_t n_threads = oct_pool_n_threads(dev->pool);
    uint64_t spans = 0;
    plan p = {.piece = 0};
    CPU_TRY(walk(dev, j, &p, &spans));
    if (n_threads > 1 && p.n_items < 4 * n_threads) {
        const uint64_t fair = spans / (4 * n_threads);
        p.piece = fair < SPLIT_MIN_SPANS ? SPLIT_MIN_SPANS : fair;
        CPU_TRY(walk(dev, j, &p, NULL));
    }
    if (p.n_items > UINT32_MAX || p.n_partials > SIZE_MAX / 8)
        return CPU_FAIL(dev, OCT_E_INVALID, "attention: batch too large");
    const uint64_t bytes = (p.n_items + p.n_wholes) * sizeof(item);
    item *items = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_ITEMS, bytes);
    if (!items) return OCTET_E_NOMEM;
    if (p.n_wholes) {
        j->partials = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_OPERAND, p.n_partials * sizeof(float));
        if (!j->partials) return OCTET_E_NOMEM;
    }
    j->items = items;
    j->wholes = items + p.n_items;
    j->n_items = (uint32_t)p.n_items;
    j->n_wholes = (uint32_t)p.n_wholes;
    return walk(dev, j, &p, NULL);
}

/* ---- the operation --------------------------------------------------------------------------- */

static int32_t open_job(octet_device *dev, const octet_attention_op *op, attention_job *j) {
    float *q = NULL, *fresh = NULL;
    CPU_TRY(oct_cpu_kv_open(dev, &op->kv, &j->kv));
    CPU_TRY(oct_cpu_batch_open(dev, &op->batch, &j->batch));
    if (op->n_heads == 0 || op->n_heads % j->kv.n_kv_heads || op->mask > OCTET_MASK_NONE)
        return CPU_FAIL(dev, OCT_E_INVALID,
                        "attention: bad heads or mask (got %u heads over %u, mask %u)", op->n_heads,
                        j->kv.n_kv_heads, op->mask);
    const uint64_t n = j->batch.n_rows, dim = j->kv.head_dim;
    const uint64_t qkv = ((uint64_t)op->n_heads + 2 * j->kv.n_kv_heads) * dim;
    j->group = op->n_heads / j->kv.n_kv_heads;
    j->width = op->n_heads * dim;
    CPU_TRY(oct_cpu_rows(dev, op->q, n, j->width, "attention: q", &q));
    if (op->fresh.data.buffer)
        CPU_TRY(oct_cpu_rows(dev, op->fresh, n, qkv, "attention: fresh", &fresh));
    j->q = q;
    j->fresh = fresh;
    CPU_TRY(oct_cpu_quant_target(dev, &op->quant, n, j->width, "attention: quant", &j->quant));
    j->ldo = op->out.stride;
    if (op->out.data.buffer)
        return oct_cpu_rows(dev, op->out, n, j->width, "attention: out", &j->out);
    j->ldo = j->width;
    j->out = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_ROWS, n * j->width * sizeof(float));
    return j->out ? OCTET_OK : OCTET_E_NOMEM;
}

int32_t oct_cpu_attention(octet_device *dev, const octet_attention_op *op) {
    attention_job j = {.dev = dev, .op = op};
    CPU_TRY(open_job(dev, op, &j));
    if (j.batch.n_rows == 0) return OCTET_OK;
    CPU_TRY(make_plan(dev, &j));
    j.scratch_bytes = (oct_kern_attn_scratch_bytes(j.group, j.kv.head_dim) + 63) / 64 * 64;
    j.scratch = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_THREADS,
                                oct_pool_n_threads(dev->pool) * (uint64_t)j.scratch_bytes);
    if (!j.scratch) return OCTET_E_NOMEM;
    /* Rows of no sequence: zeros. */
    for (uint32_t r = (uint32_t)j.batch.seq_row[j.batch.n_seqs]; r < j.batch.n_rows; r++)
        memset(j.out + r * j.ldo, 0, j.width * sizeof(float));

    oct_cpu_prefetch_attention(dev);
    if (j.n_items == 1)
        items_share(&j, (oct_share){0, 1});
    else if (j.n_items > 1)
        oct_pool_run(dev->pool, items_share, &j);
    if (j.n_wholes) oct_pool_run(dev->pool, wholes_share, &j);
    if (j.quant.q) oct_cpu_share_rows(dev, j.batch.n_rows, j.width, quant_share, &j);
    return OCTET_OK;
}
