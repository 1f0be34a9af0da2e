/*
 * sched/sched.c - two lists in order, and who is in them. Plans are made in plan.c.
 *
 * Invariants, true between calls; oct_sched_check walks them in debug builds:
 *   S1  both lists are in order (oct_sched_before).
 *   S2  a waiting sequence holds no blocks and has nothing computed.
 *   S3  a running sequence has n_computed <= n_tokens <= max_tokens and room for n_computed tokens.
 *   S4  every reference to a block is an entry of a running sequence's table, or the hold of a
 *       step on its way.
 *
 * S1 is why preemption needs no search: the victim is the tail of the running list. It is also the
 * argument that nothing starves: the head of the running list can always take the blocks of
 * everybody behind it, and it was added only because it fits alone.
 */
#include "base/assert.h"
#include "sched/parts.h"

/* ---- lists ---- */

void oct_sched_list_remove(oct_sched_list *l, oct_sched_seq *seq) {
    if (seq->prev)
        seq->prev->next = seq->next;
    else
        l->head = seq->next;
    if (seq->next)
        seq->next->prev = seq->prev;
    else
        l->tail = seq->prev;
    seq->prev = seq->next = NULL;
    l->n--;
}

void oct_sched_list_insert(oct_sched_list *l, oct_sched_seq *seq) {
    oct_sched_seq *before = l->tail;
    while (before && oct_sched_before(seq, before)) before = before->prev;
    seq->prev = before;
    seq->next = before ? before->next : l->head;
    if (seq->next)
        seq->next->prev = seq;
    else
        l->tail = seq;
    if (before)
        before->next = seq;
    else
        l->head = seq;
    l->n++;
}

/* ---- life ---- */

static size_t own_bytes(uint32_t max_num_seqs, uint32_t n_blocks) {
    return sizeof(oct_sched) + (size_t)max_num_seqs * (sizeof(oct_sched_item) + sizeof(uint64_t)) +
           (size_t)n_blocks * sizeof(uint32_t);
}

oct_status oct_sched_create(const oct_allocator *mem, const oct_sched_options *options,
                            oct_kv_pool *pool, uint32_t block_tokens, oct_sched **out,
                            oct_err *err) {
    *out = NULL;
    if (options->max_num_seqs == 0 || options->max_num_batched_tokens < options->max_num_seqs)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "sched: %u sequences a step of %u tokens (want at least 1, and a token for "
                        "each)",
                        options->max_num_seqs, options->max_num_batched_tokens);
    if (options->max_logits < options->max_num_seqs)
        return OCT_FAIL(err, OCT_E_INVALID, "sched: logits of %u rows for %u sequences a step",
                        options->max_logits, options->max_num_seqs);
    oct_sched *s = oct_calloc(mem, 1, own_bytes(options->max_num_seqs, oct_kv_pool_n_blocks(pool)));
    if (!s) return OCT_FAIL(err, OCT_E_NOMEM, "sched: no memory");
    s->mem = mem;
    s->opt = *options;
    if (s->opt.max_chunk_tokens == 0) s->opt.max_chunk_tokens = UINT32_MAX;
    if (s->opt.max_partial_prefills == 0) s->opt.max_partial_prefills = UINT32_MAX;
    if (s->opt.max_long_partials == 0) s->opt.max_long_partials = UINT32_MAX;
    s->pool = pool;
    s->block_tokens = block_tokens;
    s->groups = (uint64_t *)(void *)(s->items + options->max_num_seqs);
    s->n_gone = (uint32_t *)(void *)(s->groups + options->max_num_seqs);
    *out = s;
    return OCT_OK;
}

void oct_sched_destroy(oct_sched *s) {
    if (!s) return;
    OCT_ASSERT(s->waiting.n == 0 && s->running.n == 0);
    oct_free(s->mem, s, 1, own_bytes(s->opt.max_num_seqs, oct_kv_pool_n_blocks(s->pool)));
}

bool oct_sched_fits(const oct_sched *s, uint32_t n_tokens) {
    return oct_kv_blocks_for(n_tokens, s->block_tokens) <= oct_kv_pool_n_blocks(s->pool);
}

void oct_sched_add(oct_sched *s, oct_sched_seq *seq) {
    OCT_ASSERT(seq->state == OCT_SCHED_OUT && seq->n_tokens >= 1 && seq->n_prompt >= 1);
    OCT_ASSERT(seq->n_tokens <= seq->max_tokens && oct_sched_fits(s, seq->max_tokens));
    if (!s->opt.by_priority) seq->priority = 0;
    seq->state = OCT_SCHED_WAITING;
    seq->arrival = s->n_arrivals++;
    seq->n_computed = seq->n_cached = seq->n_fetched = 0;
    seq->lost_in = seq->begun_in = 0;
    seq->item = OCT_SCHED_NO_ITEM;
    oct_sched_list_insert(&s->waiting, seq);
}

void oct_sched_remove(oct_sched *s, oct_sched_seq *seq) {
    if (seq->state == OCT_SCHED_OUT) return;
    oct_sched_list_remove(seq->state == OCT_SCHED_RUNNING ? &s->running : &s->waiting, seq);
    oct_kv_table_release(&seq->table, s->pool);
    seq->state = OCT_SCHED_OUT;
}

void oct_sched_hold(oct_sched *s, oct_kv_block block) {
    oct_kv_pool_retain(s->pool, block);
    s->n_lent++;
}

void oct_sched_let_go(oct_sched *s, oct_kv_block block) {
    OCT_ASSERT(s->n_lent > 0);
    s->n_lent--;
    oct_kv_pool_release(s->pool, block);
}

void oct_sched_collected(oct_sched *s, oct_sched_seq *seq, uint32_t n_done) {
    if (!s->opt.prefix || !seq->tokens || seq->state != OCT_SCHED_RUNNING) return;
    if (n_done > seq->n_computed) return;
    oct_kv_prefix_enter(s->opt.prefix, &seq->chain, seq->tokens, seq->table.blocks,
                        n_done / s->block_tokens);
}

void oct_sched_set_cost(oct_sched *s, uint64_t decodes_ns, uint64_t row_ns) {
    s->decodes_ns = decodes_ns;
    s->row_ns = row_ns;
}

uint32_t oct_sched_n_waiting(const oct_sched *s) { return s->waiting.n; }
uint32_t oct_sched_n_running(const oct_sched *s) { return s->running.n; }

/* ---- invariants ---- */

void oct_sched_check(const oct_sched *s) {
#ifdef OCT_DEBUG
    uint64_t n_held = 0, n = 0, n_refs = 0;
    for (const oct_sched_seq *q = s->running.head; q; q = q->next, n++) {
        OCT_ASSERT(q->state == OCT_SCHED_RUNNING);
        OCT_ASSERT(q->prev ? oct_sched_before(q->prev, q) : s->running.head == q);
        OCT_ASSERT(q->n_computed <= q->n_tokens && q->n_tokens <= q->max_tokens);
        OCT_ASSERT(oct_kv_table_cap_tokens(&q->table) >= q->n_computed);
        oct_kv_table_check(&q->table, s->pool);
        n_held += q->table.n_blocks;
    }
    OCT_ASSERT(n == s->running.n && n <= s->opt.max_num_seqs);
    for (const oct_sched_seq *q = s->waiting.head; q; q = q->next, n++) {
        OCT_ASSERT(q->state == OCT_SCHED_WAITING);
        OCT_ASSERT(q->prev ? oct_sched_before(q->prev, q) : s->waiting.head == q);
        OCT_ASSERT(q->n_computed == 0 && q->table.n_blocks == 0);
    }
    OCT_ASSERT(n == (uint64_t)s->running.n + s->waiting.n);
    for (oct_kv_block b = 0; b < oct_kv_pool_n_blocks(s->pool); b++)
        n_refs += oct_kv_pool_n_refs(s->pool, b);
    OCT_ASSERT(n_held + s->n_lent == n_refs);
    oct_kv_pool_check(s->pool);
    if (s->opt.prefix) oct_kv_prefix_check(s->opt.prefix);
#else
    (void)s;
#endif
}
