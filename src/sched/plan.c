/*
 * sched/plan.c - one plan: decodes, begun prompts, new ones, and what is left to the long ones.
 *
 * Who is let in is decided against blocks and not against hope: a sequence that would be thrown out
 * again by those that run is not let in (reserved), and one that was preempted comes back only
 * when all of it fits.
 *
 * A long prompt takes half of the rows in the first round, so that short prompts pass it, and in
 * the last round whatever is left. Rejected: equal shares for all begun prompts, which makes every
 * one of several long prompts as late as the last.
 */
#include "base/assert.h"
#include "base/fault.h"
#include "sched/parts.h"

/* Waiting sequences that a plan looks at: passing over those that may not be let in ends. */
enum { MAX_LOOKS = 256 };

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }

static uint32_t n_missing(const oct_sched_seq *seq) { return seq->n_tokens - seq->n_computed; }

/* ---- rows and logits ---- */

/* Rows whose logits are wanted among the next n of seq. */
static uint32_t logits_of(const oct_sched_seq *seq, uint32_t n) {
    const uint32_t end = seq->n_computed + n;
    const uint32_t lo = max_u32(seq->n_computed, seq->extra_logits_begin);
    const uint32_t hi = min_u32(end, seq->extra_logits_end);
    return (hi > lo ? hi - lo : 0) + (end == seq->n_tokens);
}

/* The most rows of seq, of at most `most`, that the budgets allow, blocks aside. */
static uint32_t rows_within_budget(const oct_sched *s, const oct_sched_seq *seq, uint32_t most) {
    uint32_t n = min_u32(n_missing(seq), min_u32(s->budget_rows, s->opt.max_chunk_tokens));
    n = min_u32(n, most);
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
    seq->n_long_rows = 0;
    seq->n_computed += n;
    s->budget_rows -= n;
    s->budget_logits -= it->n_logits;
    s->plan.n_rows += n;
    s->plan.n_logits += it->n_logits;
    s->plan.n_decodes += it->is_decode;
}

static void untake(oct_sched *s, oct_sched_seq *seq) {
    const oct_sched_item *it = &s->items[seq->item];
    seq->n_computed = it->first;
    s->budget_long_rows += seq->n_long_rows;
    s->budget_rows += it->n_rows;
    s->budget_logits += it->n_logits;
    s->plan.n_rows -= it->n_rows;
    s->plan.n_logits -= it->n_logits;
    s->plan.n_decodes -= it->is_decode;
    s->items[seq->item] = s->items[--s->plan.n_items];
    s->items[seq->item].seq->item = seq->item; /* the one that moved here; or seq itself */
    seq->item = OCT_SCHED_NO_ITEM;
}

/* More rows for one that has some: its item grows in its place. */
static void take_more(oct_sched *s, oct_sched_seq *seq, uint32_t n) {
    oct_sched_item *it = &s->items[seq->item];
    const uint32_t n_logits = logits_of(seq, n);
    OCT_ASSERT(n > 0 && n <= s->budget_rows && n_logits <= s->budget_logits);
    it->samples = n == n_missing(seq);
    it->n_rows += n;
    it->n_logits += n_logits;
    seq->n_computed += n;
    s->budget_rows -= n;
    s->budget_logits -= n_logits;
    s->plan.n_rows += n;
    s->plan.n_logits += n_logits;
}

/* ---- blocks ---- */

static void preempt(oct_sched *s, oct_sched_seq *seq) {
    if (seq->item != OCT_SCHED_NO_ITEM) untake(s, seq);
    oct_sched_list_remove(&s->running, seq);
    oct_kv_table_release(&seq->table, s->pool);
    seq->n_computed = 0;
    seq->n_preemptions++;
    seq->lost_in = s->n_plans;
    seq->state = OCT_SCHED_WAITING;
    oct_sched_list_insert(&s->waiting, seq);
    s->plan.n_preempted++;
}

/* Tokens beyond the computed ones that free blocks and the started one have room for. */
static uint32_t room_for(const oct_sched *s, const oct_sched_seq *seq) {
    const uint64_t room = (uint64_t)oct_kv_pool_n_free(s->pool) * s->block_tokens +
                          (oct_kv_table_cap_tokens(&seq->table) - seq->n_computed);
    return room < UINT32_MAX ? (uint32_t)room : UINT32_MAX;
}

/* Takes up to want rows of a running sequence, at the cost of those behind it if there is room for
 * none. The last one itself is preempted when it decodes, and pauses where it is in mid-prompt. */
static void take_running(oct_sched *s, oct_sched_seq *seq, uint32_t want, bool decode) {
    while (room_for(s, seq) == 0 || (s->running.n > 1 && OCT_FAULT(BLOCKS_RUNNING, 0))) {
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

/* Blocks that seq, which runs, lacks for what it knows and one token more. */
static uint32_t lacks(const oct_sched *s, const oct_sched_seq *seq) {
    const uint32_t ahead = min_u32(seq->n_tokens + 1, seq->max_tokens);
    const uint32_t want = oct_kv_blocks_for(ahead, s->block_tokens);
    return want > seq->table.n_blocks ? want - seq->table.n_blocks : 0;
}

/* What the running sequences before `end` will want; NULL: all. */
static uint32_t reserved_until(const oct_sched *s, const oct_sched_seq *end) {
    uint64_t n = 0;
    for (const oct_sched_seq *seq = s->running.head; seq != end; seq = seq->next)
        n += lacks(s, seq);
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static uint32_t reserved_blocks(const oct_sched *s) { return reserved_until(s, NULL); }

/* ---- running sequences ---- */

static void plan_decodes(oct_sched *s) {
    for (oct_sched_seq *seq = s->running.head, *next; seq; seq = next) {
        if (n_missing(seq) == 1 && rows_within_budget(s, seq, 1) == 1)
            take_running(s, seq, 1, true);
        next = seq->state == OCT_SCHED_RUNNING ? seq->next : NULL; /* preempted: it was the last */
    }
}

/* Rows of guessed tokens, as far as budgets go and blocks that nobody else will want. */
static void plan_drafts(oct_sched *s) {
    for (uint32_t i = 0; i < s->plan.n_items; i++) {
        oct_sched_item *it = &s->items[i];
        oct_sched_seq *seq = it->seq;
        uint32_t n = min_u32(seq->n_draft, min_u32(s->budget_rows, s->budget_logits));
        if (n == 0 || !it->is_decode) continue;
        const uint32_t free = oct_kv_pool_n_free(s->pool), kept = reserved_blocks(s);
        const uint64_t room = (uint64_t)(free > kept ? free - kept : 0) * s->block_tokens +
                              (oct_kv_table_cap_tokens(&seq->table) - seq->n_computed);
        n = room < n ? (uint32_t)room : n;
        if (n == 0 || OCT_FAULT(BLOCKS_GUESS, 0) ||
            oct_kv_table_grow(&seq->table, s->pool, seq->n_computed + n) != OCT_OK)
            continue;
        it->n_draft = n;
        it->n_rows += n;
        it->n_logits += n;
        s->budget_rows -= n;
        s->budget_logits -= n;
        s->plan.n_rows += n;
        s->plan.n_logits += n;
    }
}

/* A half of what is left is for long prompts; again when somebody had to go. */
static void share_rows(oct_sched *s) {
    const uint32_t half = max_u32(s->budget_rows / 2, s->budget_rows > 0);
    s->budget_long_rows = max_u32(s->budget_long_rows, half);
    s->long_above = max_u32(s->long_above, min_u32(half, s->opt.max_chunk_tokens));
}

/* From here on the budget is that of prompts. */
static void limit_prompts(oct_sched *s) {
    if (s->opt.max_decode_wait_ns > 0 && s->row_ns > 0 && s->plan.n_decodes > 0) {
        const uint64_t wait = s->opt.max_decode_wait_ns;
        const uint64_t rows = wait > s->decodes_ns ? (wait - s->decodes_ns) / s->row_ns : 0;
        const uint32_t n = rows < UINT32_MAX ? (uint32_t)rows : UINT32_MAX;
        s->budget_rows = min_u32(s->budget_rows, max_u32(n, s->block_tokens));
    }
    s->budget_long_rows = s->long_above = 0;
    share_rows(s);
}

static bool is_long(const oct_sched *s, const oct_sched_seq *seq) {
    return n_missing(seq) > s->long_above;
}

/* Rows that seq may take in the first round. */
static uint32_t first_share(const oct_sched *s, const oct_sched_seq *seq) {
    if (!is_long(s, seq)) return UINT32_MAX;
    const oct_sched_seq *other = s->waiting.head; /* nobody waits whom it ought to let pass */
    if (s->opt.by_priority && (!other || other->priority > seq->priority)) return UINT32_MAX;
    return s->budget_long_rows;
}

static void count_long_rows(oct_sched *s, oct_sched_seq *seq, bool was_long, uint32_t n) {
    seq->n_long_rows = was_long ? min_u32(n, s->budget_long_rows) : 0;
    s->budget_long_rows -= seq->n_long_rows;
}

static void plan_begun_prompts(oct_sched *s) {
    for (oct_sched_seq *seq = s->running.head; seq; seq = seq->next) {
        if (seq->item != OCT_SCHED_NO_ITEM) continue;
        const bool was_long = is_long(s, seq);
        const uint32_t n = rows_within_budget(s, seq, first_share(s, seq));
        const uint32_t before = seq->n_computed;
        if (n > 0) take_running(s, seq, n, false);
        if (seq->item != OCT_SCHED_NO_ITEM)
            count_long_rows(s, seq, was_long, seq->n_computed - before);
    }
}

/* What nobody wanted goes to the long ones, first the first; nobody is preempted for it. */
static void plan_rest(oct_sched *s) {
    for (oct_sched_seq *seq = s->running.head; seq && s->budget_rows > 0; seq = seq->next) {
        if (n_missing(seq) == 0) continue;
        const uint32_t has = seq->item == OCT_SCHED_NO_ITEM ? 0 : s->items[seq->item].n_rows;
        const uint32_t most = min_u32(s->opt.max_chunk_tokens - has, room_for(s, seq));
        const uint32_t n = rows_within_budget(s, seq, most);
        if (n == 0 || oct_kv_table_grow(&seq->table, s->pool, seq->n_computed + n) != OCT_OK)
            continue;
        if (has > 0)
            take_more(s, seq, n);
        else
            take(s, seq, n);
    }
}

/* ---- new sequences ---- */

typedef enum outcome {
    LET_IN,
    PASS,      /* not this one now; look at those behind it */
    NO_ROWS,   /* this step is full */
    NO_BLOCKS, /* and nobody behind it gets them */
} outcome;

/* Its prompt is being computed and cannot be found yet. */
static bool is_leading(const oct_sched *s, const oct_sched_seq *seq) {
    return seq->group != 0 && seq->tokens &&
           seq->chain.epoch == oct_kv_prefix_epoch(s->opt.prefix) &&
           seq->chain.n_blocks < (seq->n_prompt - 1) / s->block_tokens;
}

static void note_groups(oct_sched *s) {
    s->n_groups = 0;
    if (!s->opt.prefix) return;
    for (const oct_sched_seq *seq = s->running.head; seq; seq = seq->next)
        if (is_leading(s, seq)) s->groups[s->n_groups++] = seq->group;
}

static bool waits_for_its_group(const oct_sched *s, const oct_sched_seq *seq) {
    if (seq->group == 0 || !seq->tokens || seq->extra_logits_begin < seq->extra_logits_end)
        return false;
    for (uint32_t i = 0; i < s->n_groups; i++)
        if (s->groups[i] == seq->group) return true;
    return false;
}

/* What the index knows of a sequence. */
typedef struct hits {
    uint32_t n;
    uint32_t n_free; /* of these: lie in blocks that nobody holds, */
    uint32_t n_away; /* or on shelves: a block is acquired for each */
} hits;

/* Puts the blocks that the index knows of seq at the beginning of its table's array and counts
 * their tokens as computed, but takes nothing yet. */
static hits find_hits(const oct_sched *s, oct_sched_seq *seq) {
    uint32_t most = seq->n_tokens - 1; /* a row must be left whose logits give the next token */
    hits h = {0};
    if (!s->opt.prefix || !seq->tokens) return h;
    if (seq->extra_logits_begin < seq->extra_logits_end && seq->extra_logits_begin < most)
        most = seq->extra_logits_begin;
    h.n = oct_kv_prefix_find(s->opt.prefix, seq->root, seq->tokens, most / s->block_tokens,
                             seq->table.blocks, &seq->chain);
    for (uint32_t i = 0; i < h.n; i++)
        if (seq->table.blocks[i] & OCT_KV_ON_SHELF)
            h.n_away++;
        else
            h.n_free += oct_kv_pool_n_refs(s->pool, seq->table.blocks[i]) == 0;
    seq->n_computed = h.n * s->block_tokens;
    return h;
}

/* What a sequence that wants to be let in finds. */
typedef struct ground {
    const oct_sched_seq *end; /* the running ones from here on count as gone; NULL: none does */
    uint32_t n_free;          /* blocks */
    uint32_t reserved;        /* of these, for those that run */
} ground;

/* What it would get. */
typedef struct share {
    uint32_t n_rows;
    uint32_t whole, chunk; /* blocks of all that it knows and a token more, and of these rows */
    bool was_long;
} share;

/* Whether one more prompt that this step leaves undone may be begun. */
static bool may_stay_undone(const oct_sched *s, const ground *g, bool seq_is_long) {
    uint32_t n_partial = 0, n_long = 0;
    for (const oct_sched_seq *seq = s->running.head; seq != g->end; seq = seq->next) {
        n_partial += n_missing(seq) > 0;
        n_long += n_missing(seq) > 0 && seq->is_long;
    }
    return n_partial < s->opt.max_partial_prefills &&
           (!seq_is_long || n_long < s->opt.max_long_partials);
}

/* Whether there is room for seq, of which h is known, and for what of it. Touches nothing. */
static outcome judge(const oct_sched *s, const oct_sched_seq *seq, hits h, const ground *g,
                     share *out) {
    const uint32_t most = first_share(s, seq);
    const uint32_t n = rows_within_budget(s, seq, most);
    *out = (share){.n_rows = n, .was_long = is_long(s, seq)};
    if (most == 0) return PASS;
    if (n == 0) return NO_ROWS;
    if (n < n_missing(seq) && !may_stay_undone(s, g, out->was_long)) return PASS;
    /* One that was preempted comes back only when all of it fits: else it could be let in and
     * thrown out again for as long as the others grow. */
    const uint32_t ahead = min_u32(seq->n_tokens + 1, seq->max_tokens);
    out->whole = oct_kv_blocks_for(ahead, s->block_tokens);
    out->chunk = oct_kv_blocks_for(seq->n_computed + n, s->block_tokens);
    const uint32_t want = (seq->n_preemptions > 0 ? out->whole : out->chunk) - (h.n - h.n_away);
    return (uint64_t)want + h.n_free + g->reserved > g->n_free ? NO_BLOCKS : LET_IN;
}

/* Lets seq in with its next rows, if there is room for them. */
static outcome let_in(oct_sched *s, oct_sched_seq *seq, hits h) {
    const ground g = {.n_free = oct_kv_pool_n_free(s->pool), .reserved = s->reserved};
    share a;
    const outcome o = judge(s, seq, h, &g, &a);
    if (o != LET_IN) return o;
    if (s->running.n > 0 && OCT_FAULT(BLOCKS_NEW, 0)) return NO_BLOCKS;
    if (h.n > 0) oct_kv_prefix_take(s->opt.prefix, seq->table.blocks, h.n);
    oct_kv_table_adopt(&seq->table, h.n);
    const oct_status st = oct_kv_table_grow(&seq->table, s->pool, seq->n_computed + a.n_rows);
    OCT_ASSERT(st == OCT_OK);
    if (st != OCT_OK) {
        oct_kv_table_release(&seq->table, s->pool);
        return NO_BLOCKS;
    }
    if (seq->n_preemptions == 0) {
        seq->n_cached = min_u32(seq->n_computed, seq->n_prompt);
        seq->n_fetched = min_u32(h.n_away * s->block_tokens, seq->n_cached);
    }
    oct_sched_list_remove(&s->waiting, seq);
    oct_sched_list_insert(&s->running, seq);
    seq->state = OCT_SCHED_RUNNING;
    seq->is_long = a.was_long;
    seq->begun_in = s->n_plans;
    s->reserved += a.whole - a.chunk;
    take(s, seq, a.n_rows);
    count_long_rows(s, seq, a.was_long, a.n_rows);
    if (s->opt.prefix && is_leading(s, seq)) s->groups[s->n_groups++] = seq->group;
    s->plan.n_admitted++;
    return LET_IN;
}

static outcome admit(oct_sched *s, oct_sched_seq *seq) {
    if (s->budget_rows == 0) return NO_ROWS; /* spares the search */
    const outcome o = let_in(s, seq, find_hits(s, seq));
    if (o != LET_IN) seq->n_computed = 0;
    return o;
}

static bool outranks_last(const oct_sched *s, const oct_sched_seq *seq) {
    return s->running.tail && s->running.tail->priority > seq->priority;
}

/* seq leaves the pool's blocks in thought; those that nobody else holds are free then. */
static uint32_t mark_gone(oct_sched *s, const oct_sched_seq *seq) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < seq->table.n_blocks; i++) {
        const oct_kv_block b = seq->table.blocks[i];
        n += ++s->n_gone[b] == oct_kv_pool_n_refs(s->pool, b);
    }
    return n;
}

static void unmark_gone(oct_sched *s, const oct_sched_seq *from) {
    for (; from; from = from->next)
        for (uint32_t i = 0; i < from->table.n_blocks; i++) s->n_gone[from->table.blocks[i]] = 0;
}

/* Hits that nobody would hold. */
static uint32_t n_free_hits(const oct_sched *s, const oct_sched_seq *seq, hits h) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < h.n; i++) {
        const oct_kv_block b = seq->table.blocks[i];
        if (!(b & OCT_KV_ON_SHELF)) n += oct_kv_pool_n_refs(s->pool, b) == s->n_gone[b];
    }
    return n;
}

static void give_back_rows(oct_sched *s, const oct_sched_seq *seq) {
    if (seq->item == OCT_SCHED_NO_ITEM) return;
    s->budget_rows += s->items[seq->item].n_rows;
    s->budget_logits += s->items[seq->item].n_logits;
    s->budget_long_rows += seq->n_long_rows;
}

/* How many of the last ones, all of worse priority, must go for seq to be let in: *n_out with
 * LET_IN. Anything else: nobody has to go, it would be in vain. */
static outcome look_without(oct_sched *s, oct_sched_seq *seq, uint32_t *n_out) {
    const uint32_t rows = s->budget_rows, logits = s->budget_logits;
    const uint32_t long_rows = s->budget_long_rows, long_above = s->long_above;
    const uint32_t least = s->running.n - min_u32(s->running.n, s->opt.max_num_seqs - 1);
    hits h = find_hits(s, seq);
    ground g = {.n_free = oct_kv_pool_n_free(s->pool)};
    outcome o = NO_BLOCKS;
    share a;
    *n_out = 0;
    for (const oct_sched_seq *q = s->running.tail; q && q->priority > seq->priority; q = q->prev) {
        give_back_rows(s, q);
        share_rows(s);
        g.end = q;
        g.n_free += mark_gone(s, q);
        g.reserved = reserved_until(s, q);
        h.n_free = n_free_hits(s, seq, h);
        if (++*n_out < least) continue;
        o = judge(s, seq, h, &g, &a);
        if (o == LET_IN || o == PASS) break; /* a place among the begun prompts: it waits for it */
    }
    unmark_gone(s, g.end);
    seq->n_computed = 0;
    s->budget_rows = rows;
    s->budget_logits = logits;
    s->budget_long_rows = long_rows;
    s->long_above = long_above;
    return o;
}

/* Tries seq, and if need be without those of worse priority that have to go for it. */
static outcome admit_by_rank(oct_sched *s, oct_sched_seq *seq) {
    /* Whoever lacked blocks in this plan comes before all that wait, except better ones. */
    const bool may = s->plan.n_preempted == 0 && s->running.n < s->opt.max_num_seqs;
    outcome o = may ? admit(s, seq) : NO_BLOCKS;
    uint32_t n;
    if (o != NO_BLOCKS || !outranks_last(s, seq)) return o;
    o = look_without(s, seq, &n);
    if (o != LET_IN) return o;
    if (s->beside) {
        s->plan.n_starved++;
        return NO_BLOCKS;
    }
    while (n-- > 0) {
        preempt(s, s->running.tail);
        share_rows(s);
    }
    s->reserved = reserved_blocks(s);
    return admit(s, seq);
}

static void plan_new(oct_sched *s) {
    oct_sched_seq *seq = s->waiting.head;
    if (!seq || (s->plan.n_preempted > 0 && !s->opt.by_priority)) return;
    if (s->running.n >= s->opt.max_num_seqs && !outranks_last(s, seq)) return;
    note_groups(s);
    s->reserved = reserved_blocks(s);
    for (uint32_t n = 0; seq && n < MAX_LOOKS && seq->lost_in != s->n_plans; n++) {
        oct_sched_seq *before = seq->prev;
        const outcome o = waits_for_its_group(s, seq) ? PASS : admit_by_rank(s, seq);
        if (o == NO_ROWS || o == NO_BLOCKS) return;
        if (o == PASS)
            seq = seq->next;
        else
            seq = before ? before->next : s->waiting.head;
    }
}

static const oct_sched_plan *make_plan(oct_sched *s, bool beside) {
    s->beside = beside;
    s->n_plans++;
    s->plan = (oct_sched_plan){.items = s->items};
    s->budget_rows = s->opt.max_num_batched_tokens;
    s->budget_logits = s->opt.max_logits;
    for (oct_sched_seq *seq = s->running.head; seq; seq = seq->next) seq->item = OCT_SCHED_NO_ITEM;

    plan_decodes(s);
    plan_drafts(s);
    limit_prompts(s);
    plan_begun_prompts(s);
    plan_new(s);
    plan_rest(s);
    OCT_ASSERT(s->plan.n_items > 0 || s->beside || s->running.n + s->waiting.n == 0);
    oct_sched_check(s);
    return &s->plan;
}

void oct_sched_take_back(oct_sched *s) {
    while (s->plan.n_items > 0) {
        const oct_sched_item *it = &s->items[--s->plan.n_items];
        oct_sched_seq *seq = it->seq;
        seq->n_computed = it->first;
        seq->item = OCT_SCHED_NO_ITEM;
        if (seq->begun_in != s->n_plans) continue;
        oct_sched_list_remove(&s->running, seq);
        oct_kv_table_release(&seq->table, s->pool);
        seq->n_computed = 0;
        seq->state = OCT_SCHED_WAITING;
        oct_sched_list_insert(&s->waiting, seq);
    }
    s->plan = (oct_sched_plan){.items = s->items};
    oct_sched_check(s);
}

const oct_sched_plan *oct_sched_next(oct_sched *s) { return make_plan(s, false); }
const oct_sched_plan *oct_sched_next_beside(oct_sched *s) { return make_plan(s, true); }
