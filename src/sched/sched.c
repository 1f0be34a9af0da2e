/*
 * sched/sched.c - two lists and three passes over them.
 *
 * Invariants, true between calls; oct_sched_check walks them in debug builds:
 *   S1  both lists are in order of arrival, and whoever runs arrived before whoever waits.
 *   S2  a waiting sequence holds no blocks and has nothing computed.
 *   S3  a running sequence has n_computed <= n_tokens <= max_tokens and room for n_computed tokens.
 *   S4  every reference to a block is an entry of a running sequence's table, or the hold of a
 *       step on its way.
 *
 * S1 is why preemption needs no sorting: the victim is the tail of the running list, and it becomes
 * the head of the waiting list. It is also the argument that nothing starves: the head of the
 * running list can always take the blocks of everybody behind it, and it was added only because it
 * fits alone.
 *
 * Priorities, deadlines and bounds on waiting enter in two places: the order of the lists
 * (list_push_*, victim) and the passes of oct_sched_next.
 */
#include "sched/sched.h"

#include "base/assert.h"

typedef struct seq_list {
    oct_sched_seq *head, *tail;
    uint32_t n;
} seq_list;

struct oct_sched {
    const oct_allocator *mem;
    oct_sched_options opt;
    oct_kv_pool *pool;
    uint32_t block_tokens;
    uint64_t n_arrivals;
    seq_list waiting, running;
    uint32_t budget_rows, budget_logits; /* what is left while a plan is made */
    bool beside;                         /* a step is on its way: nobody is preempted */
    uint32_t n_lent;                     /* holds of steps on their way */
    oct_sched_plan plan;
    oct_sched_item items[]; /* [max_num_seqs] */
};

/* ---- lists ---- */

static void list_remove(seq_list *l, oct_sched_seq *seq) {
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

static void list_push_tail(seq_list *l, oct_sched_seq *seq) {
    seq->prev = l->tail;
    seq->next = NULL;
    if (l->tail)
        l->tail->next = seq;
    else
        l->head = seq;
    l->tail = seq;
    l->n++;
}

static void list_push_head(seq_list *l, oct_sched_seq *seq) {
    seq->next = l->head;
    seq->prev = NULL;
    if (l->head)
        l->head->prev = seq;
    else
        l->tail = seq;
    l->head = seq;
    l->n++;
}

/* ---- life ---- */

static size_t own_bytes(uint32_t max_num_seqs) {
    return sizeof(oct_sched) + (size_t)max_num_seqs * sizeof(oct_sched_item);
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
    oct_sched *s = oct_calloc(mem, 1, own_bytes(options->max_num_seqs));
    if (!s) return OCT_FAIL(err, OCT_E_NOMEM, "sched: no memory");
    s->mem = mem;
    s->opt = *options;
    if (s->opt.max_chunk_tokens == 0) s->opt.max_chunk_tokens = UINT32_MAX;
    s->pool = pool;
    s->block_tokens = block_tokens;
    *out = s;
    return OCT_OK;
}

void oct_sched_destroy(oct_sched *s) {
    if (!s) return;
    OCT_ASSERT(s->waiting.n == 0 && s->running.n == 0);
    oct_free(s->mem, s, 1, own_bytes(s->opt.max_num_seqs));
}

bool oct_sched_fits(const oct_sched *s, uint32_t n_tokens) {
    return oct_kv_blocks_for(n_tokens, s->block_tokens) <= oct_kv_pool_n_blocks(s->pool);
}

void oct_sched_add(oct_sched *s, oct_sched_seq *seq) {
    OCT_ASSERT(seq->state == OCT_SCHED_OUT && seq->n_tokens >= 1 && seq->n_prompt >= 1);
    OCT_ASSERT(seq->n_tokens <= seq->max_tokens && oct_sched_fits(s, seq->max_tokens));
    seq->state = OCT_SCHED_WAITING;
    seq->arrival = s->n_arrivals++;
    seq->n_computed = seq->n_cached = 0;
    seq->item = OCT_SCHED_NO_ITEM;
    list_push_tail(&s->waiting, seq);
}

void oct_sched_remove(oct_sched *s, oct_sched_seq *seq) {
    if (seq->state == OCT_SCHED_OUT) return;
    list_remove(seq->state == OCT_SCHED_RUNNING ? &s->running : &s->waiting, seq);
    oct_kv_table_release(&seq->table, s->pool);
    seq->state = OCT_SCHED_OUT;
}

uint32_t oct_sched_n_waiting(const oct_sched *s) { return s->waiting.n; }
uint32_t oct_sched_n_running(const oct_sched *s) { return s->running.n; }

/* ---- planning ---- */

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }

static uint32_t n_missing(const oct_sched_seq *seq) { return seq->n_tokens - seq->n_computed; }

/* Rows whose logits are wanted among the next n of seq. */
static uint32_t logits_of(const oct_sched_seq *seq, uint32_t n) {
    const uint32_t end = seq->n_computed + n;
    const uint32_t lo = max_u32(seq->n_computed, seq->extra_logits_begin);
    const uint32_t hi = min_u32(end, seq->extra_logits_end);
    return (hi > lo ? hi - lo : 0) + (end == seq->n_tokens);
}

/* The most rows of seq that the budgets allow, blocks aside. */
static uint32_t rows_within_budget(const oct_sched *s, const oct_sched_seq *seq) {
    uint32_t n = min_u32(n_missing(seq), min_u32(s->budget_rows, s->opt.max_chunk_tokens));
    const uint32_t wanted = n > 0 ? logits_of(seq, n) : 0;
    /* Rows before the run of wanted ones are free of charge, each one in it costs a logit. */
    if (wanted > s->budget_logits) {
        const uint32_t plain = max_u32(seq->n_computed, seq->extra_logits_begin) - seq->n_computed;
        n = min_u32(n, plain + s->budget_logits);
        while (n > 0 && logits_of(seq, n) > s->budget_logits) n--;
    }
    return n;
}

static void take(oct_sched *s, oct_sched_seq *seq, uint32_t n) {
    oct_sched_item *it = &s->items[s->plan.n_items];
    *it = (oct_sched_item){.seq = seq,
                           .first = seq->n_computed,
                           .n_rows = n,
                           .n_logits = logits_of(seq, n),
                           .samples = n == n_missing(seq),
                           .is_decode =
                               n == 1 && seq->n_computed >= seq->n_prompt && n == n_missing(seq)};
    OCT_ASSERT(n > 0 && n <= s->budget_rows && it->n_logits <= s->budget_logits);
    OCT_ASSERT(oct_kv_table_cap_tokens(&seq->table) >= it->first + n);
    seq->item = s->plan.n_items++;
    seq->n_computed += n;
    s->budget_rows -= n;
    s->budget_logits -= it->n_logits;
    s->plan.n_decodes += it->is_decode;
}

static void untake(oct_sched *s, oct_sched_seq *seq) {
    const oct_sched_item *it = &s->items[seq->item];
    s->budget_rows += it->n_rows;
    s->budget_logits += it->n_logits;
    s->plan.n_decodes -= it->is_decode;
    s->items[seq->item] = s->items[--s->plan.n_items];
    s->items[seq->item].seq->item = seq->item; /* the one that moved here; or seq itself */
    seq->item = OCT_SCHED_NO_ITEM;
}

static void preempt(oct_sched *s, oct_sched_seq *seq) {
    if (seq->item != OCT_SCHED_NO_ITEM) untake(s, seq);
    list_remove(&s->running, seq);
    oct_kv_table_release(&seq->table, s->pool);
    seq->n_computed = 0;
    seq->n_preemptions++;
    seq->state = OCT_SCHED_WAITING;
    list_push_head(&s->waiting, seq);
    s->plan.n_preempted++;
}

/* Tokens beyond the computed ones that free blocks and the started one have room for. */
static uint32_t room_for(const oct_sched *s, const oct_sched_seq *seq) {
    const uint64_t room = (uint64_t)oct_kv_pool_n_free(s->pool) * s->block_tokens +
                          (oct_kv_table_cap_tokens(&seq->table) - seq->n_computed);
    return room < UINT32_MAX ? (uint32_t)room : UINT32_MAX;
}

/* Takes up to want rows of a running sequence, at the cost of newer ones if there is room for none.
 * The newest itself is preempted when it decodes, and pauses where it is in mid-prompt. */
static void take_running(oct_sched *s, oct_sched_seq *seq, uint32_t want, bool decode) {
    while (room_for(s, seq) == 0) {
        if (s->beside) {
            s->plan.n_starved++;
            return;
        }
        oct_sched_seq *victim = s->running.tail;
        if (!victim || (victim == seq && !decode)) return;
        preempt(s, victim);
        if (victim == seq) return;
    }
    const uint32_t n = min_u32(want, room_for(s, seq));
    const oct_status st = oct_kv_table_grow(&seq->table, s->pool, seq->n_computed + n);
    OCT_ASSERT(st == OCT_OK);
    if (st == OCT_OK) take(s, seq, n);
}

static void plan_decodes(oct_sched *s) {
    for (oct_sched_seq *seq = s->running.head, *next; seq; seq = next) {
        if (n_missing(seq) == 1 && rows_within_budget(s, seq) == 1) take_running(s, seq, 1, true);
        next = seq->state == OCT_SCHED_RUNNING ? seq->next : NULL; /* preempted: it was the last */
    }
}

static void plan_begun_prompts(oct_sched *s) {
    for (oct_sched_seq *seq = s->running.head; seq; seq = seq->next) {
        if (seq->item != OCT_SCHED_NO_ITEM) continue;
        const uint32_t n = rows_within_budget(s, seq);
        if (n > 0) take_running(s, seq, n, false);
    }
}

/* Blocks that running sequences lack for what they know and one token more. */
static uint32_t reserved_blocks(const oct_sched *s) {
    uint64_t n = 0;
    for (const oct_sched_seq *seq = s->running.head; seq; seq = seq->next) {
        const uint32_t ahead = min_u32(seq->n_tokens + 1, seq->max_tokens);
        const uint32_t want = oct_kv_blocks_for(ahead, s->block_tokens);
        n += want > seq->table.n_blocks ? want - seq->table.n_blocks : 0;
    }
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

/* Puts the blocks that the index knows of seq at the beginning of its table's array and counts
 * their tokens as computed, but takes nothing yet. Returns how many there are, and of them *n_free
 * that nobody holds. */
static uint32_t find_hits(const oct_sched *s, oct_sched_seq *seq, uint32_t *n_free) {
    uint32_t most = seq->n_tokens - 1; /* a row must be left whose logits give the next token */
    *n_free = 0;
    if (!s->opt.prefix || !seq->tokens) return 0;
    if (seq->extra_logits_begin < seq->extra_logits_end && seq->extra_logits_begin < most)
        most = seq->extra_logits_begin;
    const uint32_t n = oct_kv_prefix_find(s->opt.prefix, seq->root, seq->tokens,
                                          most / s->block_tokens, seq->table.blocks, &seq->chain);
    for (uint32_t i = 0; i < n; i++)
        *n_free += oct_kv_pool_n_refs(s->pool, seq->table.blocks[i]) == 0;
    seq->n_computed = n * s->block_tokens;
    return n;
}

/* Lets seq in with its next n rows, if the blocks for them are there. */
static bool let_in(oct_sched *s, oct_sched_seq *seq, uint32_t n_hits, uint32_t n_hits_free,
                   uint32_t *reserved) {
    const uint32_t n = rows_within_budget(s, seq);
    if (n == 0) return false;
    /* One that was preempted comes back only when all of it fits: else it could be let in and
     * thrown out again for as long as the older ones grow. */
    const uint32_t ahead = min_u32(seq->n_tokens + 1, seq->max_tokens);
    const uint32_t whole = oct_kv_blocks_for(ahead, s->block_tokens);
    const uint32_t chunk = oct_kv_blocks_for(seq->n_computed + n, s->block_tokens);
    const uint32_t want = (seq->n_preemptions > 0 ? whole : chunk) - n_hits;
    if ((uint64_t)want + n_hits_free + *reserved > oct_kv_pool_n_free(s->pool)) return false;
    /* What was found is taken before anything is acquired, which could hand it out. */
    oct_kv_table_adopt(&seq->table, s->pool, n_hits);
    const oct_status st = oct_kv_table_grow(&seq->table, s->pool, seq->n_computed + n);
    OCT_ASSERT(st == OCT_OK);
    if (st != OCT_OK) {
        oct_kv_table_release(&seq->table, s->pool);
        return false;
    }
    if (seq->n_preemptions == 0) seq->n_cached = min_u32(seq->n_computed, seq->n_prompt);
    list_remove(&s->waiting, seq);
    list_push_tail(&s->running, seq);
    seq->state = OCT_SCHED_RUNNING;
    *reserved += whole - chunk;
    take(s, seq, n);
    s->plan.n_admitted++;
    return true;
}

static bool admit(oct_sched *s, oct_sched_seq *seq, uint32_t *reserved) {
    uint32_t n_hits_free;
    if (s->budget_rows == 0) return false; /* spares the search */
    const uint32_t n_hits = find_hits(s, seq, &n_hits_free);
    if (let_in(s, seq, n_hits, n_hits_free, reserved)) return true;
    seq->n_computed = 0;
    return false;
}

static const oct_sched_plan *make_plan(oct_sched *s) {
    s->plan = (oct_sched_plan){.items = s->items};
    s->budget_rows = s->opt.max_num_batched_tokens;
    s->budget_logits = s->opt.max_logits;
    for (oct_sched_seq *seq = s->running.head; seq; seq = seq->next) seq->item = OCT_SCHED_NO_ITEM;

    plan_decodes(s);
    plan_begun_prompts(s);
    if (s->plan.n_preempted == 0 && s->waiting.n > 0) {
        uint32_t reserved = reserved_blocks(s);
        while (s->waiting.n > 0 && s->running.n < s->opt.max_num_seqs &&
               admit(s, s->waiting.head, &reserved)) {
        }
    }
    s->plan.n_rows = s->opt.max_num_batched_tokens - s->budget_rows;
    s->plan.n_logits = s->opt.max_logits - s->budget_logits;
    OCT_ASSERT(s->plan.n_items > 0 || s->beside || s->running.n + s->waiting.n == 0);
    oct_sched_check(s);
    return &s->plan;
}

const oct_sched_plan *oct_sched_next(oct_sched *s) {
    s->beside = false;
    return make_plan(s);
}

const oct_sched_plan *oct_sched_next_beside(oct_sched *s) {
    s->beside = true;
    return make_plan(s);
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

/* ---- invariants ---- */

void oct_sched_check(const oct_sched *s) {
#ifdef OCT_DEBUG
    uint64_t n_held = 0, n = 0, last = 0;
    for (const oct_sched_seq *q = s->running.head; q; q = q->next, n++) {
        OCT_ASSERT(q->state == OCT_SCHED_RUNNING && (n == 0 || q->arrival > last));
        OCT_ASSERT(q->n_computed <= q->n_tokens && q->n_tokens <= q->max_tokens);
        OCT_ASSERT(oct_kv_table_cap_tokens(&q->table) >= q->n_computed);
        oct_kv_table_check(&q->table, s->pool);
        n_held += q->table.n_blocks;
        last = q->arrival;
    }
    OCT_ASSERT(n == s->running.n && n <= s->opt.max_num_seqs);
    for (const oct_sched_seq *q = s->waiting.head; q; q = q->next, n++) {
        OCT_ASSERT(q->state == OCT_SCHED_WAITING && (n == 0 || q->arrival > last));
        OCT_ASSERT(q->n_computed == 0 && q->table.n_blocks == 0);
        last = q->arrival;
    }
    OCT_ASSERT(n == (uint64_t)s->running.n + s->waiting.n);
    uint64_t n_refs = 0;
    for (oct_kv_block b = 0; b < oct_kv_pool_n_blocks(s->pool); b++)
        n_refs += oct_kv_pool_n_refs(s->pool, b);
    OCT_ASSERT(n_held + s->n_lent == n_refs);
    oct_kv_pool_check(s->pool);
    if (s->opt.prefix) oct_kv_prefix_check(s->opt.prefix);
#else
    (void)s;
#endif
}
