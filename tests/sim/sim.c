/* sim.c - see the header. Every check names itself; the first one that fails ends the run. */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A broken promise is remembered, not jumped out of: the world is left as it is, and leaks. */
#define CHECK(cond)                                                                        \
    do {                                                                                   \
        if (!(cond)) {                                                                     \
            snprintf(w->failed, sizeof w->failed, "seed %" PRIu64 " step %" PRIu32 ": %s", \
                     w->seed, w->step, #cond);                                             \
            return false;                                                                  \
        }                                                                                  \
    } while (0)
#define TRY(call)                  \
    do {                           \
        if (!(call)) return false; \
    } while (0)

/* splitmix64: small, and the same everywhere. */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static uint32_t below(sim_world *w, uint32_t n) {
    return (uint32_t)(mix(w->rng += 0x9e3779b97f4a7c15u) % n);
}
static bool one_in(sim_world *w, uint32_t n) { return below(w, n) == 0; }

/* ---- making ---- */

static bool world_init(sim_world *w, uint64_t seed) {
    const oct_allocator *mem = oct_system_allocator();
    memset(w, 0, sizeof *w);
    w->seed = w->rng = seed;
    w->block_tokens = (const uint32_t[]){1, 2, 4, 8}[below(w, 4)];
    w->n_blocks = 2 + below(w, one_in(w, 2) ? 12 : SIM_BLOCKS - 2);
    w->n_families = 1 + below(w, 6);
    w->n_salts = one_in(w, 2) ? 1 : 1 + below(w, 4);
    w->overlap = one_in(w, 2);
    w->opt.max_num_seqs = 1 + below(w, 24);
    w->opt.max_num_batched_tokens = w->opt.max_num_seqs + below(w, one_in(w, 2) ? 4 : 100);
    w->opt.max_logits = w->opt.max_num_seqs + below(w, 8);
    w->opt.max_chunk_tokens = one_in(w, 3) ? 1 + below(w, 40) : 0;
    w->opt.max_partial_prefills = one_in(w, 4) ? 1 + below(w, 4) : 0;
    w->opt.max_long_partials = one_in(w, 3) ? 1 + below(w, 2) : 0;
    w->opt.by_priority = one_in(w, 3);
    w->opt.max_decode_wait_ns = one_in(w, 3) ? 1000 : 0;
    CHECK(oct_kv_pool_create(mem, w->n_blocks, &w->pool, NULL) == OCT_OK);
    if (!one_in(w, 8)) {
        /* Sometimes so few bits of the hashes count that most entries collide. */
        w->n_shelves = one_in(w, 2) ? 1 + below(w, one_in(w, 2) ? 8 : SIM_SHELVES) : 0;
        const oct_kv_prefix_options po = {.block_tokens = w->block_tokens,
                                          .seed = seed,
                                          .hash_bits = one_in(w, 3) ? 1 : 0,
                                          .n_shelves = w->n_shelves};
        CHECK(oct_kv_prefix_create(mem, w->pool, &po, &w->prefix, NULL) == OCT_OK);
        w->opt.prefix = w->prefix;
    }
    CHECK(oct_sched_create(mem, &w->opt, w->pool, w->block_tokens, &w->sched, NULL) == OCT_OK);
    return true;
}

static void world_fini(sim_world *w) {
    oct_sched_destroy(w->sched);
    oct_kv_prefix_destroy(w->prefix);
    oct_kv_pool_destroy(w->pool);
}

/* ---- texts ---- */

/* Appends the next token of a text; the alphabet is small, so that texts meet by chance too. */
static void add_token(sim_world *w, sim_seq *s, uint32_t pos) {
    const bool common = pos < s->n_common;
    const uint64_t from = common ? mix(s->family * 1000003u + pos) : mix(w->rng += 77);
    s->tokens[pos] = s->drawn[pos] = (int32_t)(from % (common ? 1000 : 3));
    const uint64_t before = pos > 0 ? s->text[pos - 1] : s->salt;
    s->text[pos] = mix(before * 31 + (uint64_t)s->tokens[pos] + 1);
}

static uint64_t root_of(sim_world *w, uint32_t salt) {
    char name[32];
    snprintf(name, sizeof name, "salt %u", salt);
    return salt > 0 && w->prefix ? oct_kv_prefix_root(w->prefix, oct_str_of(name)) : 0;
}

/* Becomes another choice of a prompt that somebody else brought. */
static void copy_prompt(sim_world *w, sim_seq *s) {
    sim_seq *o = &w->seqs[below(w, SIM_SEQS)];
    if (!o->live || o == s || o->q.n_prompt >= s->q.max_tokens) return;
    if (o->q.group == 0) o->q.group = ++w->n_groups;
    s->q.group = o->q.group;
    s->q.priority = o->q.priority;
    s->q.n_prompt = s->q.n_tokens = o->q.n_prompt;
    s->q.extra_logits_end = 0;
    s->salt = o->salt;
    for (uint32_t p = 0; p < o->q.n_prompt; p++) {
        s->tokens[p] = s->drawn[p] = o->tokens[p];
        s->text[p] = o->text[p];
    }
}

static void arrive(sim_world *w) {
    const uint32_t most = (w->n_blocks < SIM_TABLE ? w->n_blocks : SIM_TABLE) * w->block_tokens;
    for (uint32_t i = 0; i < SIM_SEQS; i++) {
        sim_seq *s = &w->seqs[i];
        if (s->live) continue;
        const uint32_t max_tokens = 2 + below(w, most < 3 ? 1 : most - 2);
        if (!oct_sched_fits(w->sched, max_tokens) || max_tokens > most) return;
        memset(&s->q, 0, sizeof s->q);
        s->q.n_prompt = s->q.n_tokens = 1 + below(w, max_tokens - 1);
        s->q.max_tokens = max_tokens;
        if (one_in(w, 6)) s->q.extra_logits_end = s->q.n_prompt - 1;
        s->salt = below(w, w->n_salts);
        s->family = below(w, w->n_families);
        s->n_common = below(w, s->q.n_prompt + 4);
        for (uint32_t p = 0; p < s->q.n_prompt; p++) add_token(w, s, p);
        s->q.priority = (int64_t)below(w, 4) - 2;
        if (one_in(w, 8)) copy_prompt(w, s);
        s->q.tokens = one_in(w, 20) ? NULL : s->tokens;
        s->q.root = root_of(w, s->salt);
        oct_kv_table_init(&s->q.table, s->storage, SIM_TABLE, w->block_tokens);
        oct_sched_add(w->sched, &s->q);
        s->live = true;
        s->ran = false;
        s->n_lost = s->n_flying = 0;
        s->one_by_one = one_in(w, 4);
        s->n_cached = 0;
        return;
    }
}

/* What steps on their way write to stays held until they are collected. */
static void hold(sim_world *w, struct sim_part *p) {
    const sim_seq *s = p->s;
    for (uint32_t b = p->first / w->block_tokens; b <= (p->first + p->n_rows - 1) / w->block_tokens;
         b++) {
        p->held[p->n_held++] = s->storage[b];
        w->held[s->storage[b]]++;
        oct_sched_hold(w->sched, s->storage[b]);
    }
    p->s = NULL;
}

static void leave(sim_world *w, sim_seq *s) {
    for (uint32_t f = 0; s->live && f < w->n_flights; f++)
        for (uint32_t k = 0; k < w->flights[f].n; k++)
            if (w->flights[f].parts[k].s == s) hold(w, &w->flights[f].parts[k]);
    oct_sched_remove(w->sched, &s->q);
    s->live = false;
}

/* ---- the ledger ---- */

/* Blocks first, then shelves. */
static uint32_t place(const sim_world *w, uint32_t i) {
    return i < w->n_blocks ? i : OCT_KV_ON_SHELF | (i - w->n_blocks);
}
static sim_block *ledger_of(sim_world *w, uint32_t i) {
    return i < w->n_blocks ? &w->blocks[i] : &w->shelves[i - w->n_blocks];
}

/* The entry at place i says what lies there, for everybody who may find it. */
static bool check_entry(sim_world *w, uint32_t i_place, uint64_t serial, uint64_t before,
                        const int32_t *ids) {
    const sim_block *k = ledger_of(w, i_place);
    const sim_place *end = &k->at[w->block_tokens - 1];
    CHECK(k->good); /* only what a finite value was drawn from */
    for (uint32_t i = 0; i < w->block_tokens; i++) {
        CHECK(ids[i] == k->at[i].token);
        CHECK(k->at[i].weights == w->weights); /* nothing older than the last reload */
    }
    for (uint32_t o = 0; w->step % 16 == 0 && o < w->n_blocks + w->n_shelves; o++) {
        uint64_t os, ob;
        const int32_t *oi;
        if (o == i_place || !oct_kv_prefix_entry(w->prefix, place(w, o), &os, &ob, &oi)) continue;
        const uint64_t text = ledger_of(w, o)->at[w->block_tokens - 1].text;
        CHECK(os != serial);
        /* One entry a text that can be found; one behind a forgotten entry cannot. */
        CHECK(ob != before || text != end->text);
        if (os != before) continue;
        CHECK(k->at[0].text == mix(text * 31 + (uint64_t)ids[0] + 1));
    }
    return true;
}

static bool check_entries(sim_world *w) {
    for (uint32_t i = 0; i < w->n_blocks + w->n_shelves; i++) {
        uint64_t serial = 0, before;
        const int32_t *ids;
        const bool has =
            w->prefix && oct_kv_prefix_entry(w->prefix, place(w, i), &serial, &before, &ids);
        if (i < w->n_blocks) CHECK(has == oct_kv_pool_is_kept(w->pool, i));
        if (has) TRY(check_entry(w, i, serial, before, ids));
    }
    return true;
}

/* What runs has in its blocks what it computed or was given, whatever was copied where. */
static bool check_texts(sim_world *w) {
    for (uint32_t i = 0; w->step % 16 == 0 && i < SIM_SEQS; i++) {
        const sim_seq *s = &w->seqs[i];
        if (!s->live || s->q.state != OCT_SCHED_RUNNING) continue;
        for (uint32_t p = 0; p < s->n_cached; p++) {
            const sim_block *k = &w->blocks[s->storage[p / w->block_tokens]];
            CHECK(k->at[p % w->block_tokens].text == s->text[p]);
        }
    }
    return true;
}

/* Who holds what: every table entry is a reference, and there are no others. */
static bool check_refs(sim_world *w) {
    uint8_t holders[SIM_BLOCKS] = {0};
    uint32_t n_held = 0;
    for (uint32_t i = 0; i < SIM_SEQS; i++) {
        const sim_seq *s = &w->seqs[i];
        CHECK(s->live || s->q.table.n_blocks == 0);
        for (uint32_t b = 0; b < s->q.table.n_blocks; b++) {
            CHECK(s->q.table.blocks[b] < w->n_blocks);
            n_held += holders[s->q.table.blocks[b]]++ == 0;
        }
    }
    for (oct_kv_block b = 0; b < w->n_blocks; b++)
        CHECK(oct_kv_pool_n_refs(w->pool, b) == (uint32_t)holders[b] + w->held[b]);
    for (oct_kv_block b = 0; b < w->n_blocks; b++) n_held += holders[b] == 0 && w->held[b] > 0;
    CHECK(n_held + oct_kv_pool_n_free(w->pool) == w->n_blocks);
    return true;
}

/* The queue of free blocks: those without content, then by the time they became free. */
static bool check_queue(sim_world *w) {
    uint32_t n = 0, last = 0;
    bool kept = false;
    for (oct_kv_block b = 0; b < w->n_blocks; b++) {
        sim_block *k = &w->blocks[b];
        const bool is_free = oct_kv_pool_n_refs(w->pool, b) == 0;
        if (is_free && !k->was_free) k->freed = w->step;
        k->was_free = is_free;
    }
    for (oct_kv_block b = oct_kv_pool_next_free(w->pool, OCT_KV_NO_BLOCK); b != OCT_KV_NO_BLOCK;
         b = oct_kv_pool_next_free(w->pool, b)) {
        CHECK(n++ < w->n_blocks && oct_kv_pool_n_refs(w->pool, b) == 0);
        if (!oct_kv_pool_is_kept(w->pool, b)) {
            CHECK(!kept);
            continue;
        }
        CHECK(!kept || w->blocks[b].freed >= last);
        kept = true;
        last = w->blocks[b].freed;
    }
    CHECK(n == oct_kv_pool_n_free(w->pool));
    return true;
}

/* A free block that lost its entry was the one that had been free the longest. */
static bool check_evictions(sim_world *w) {
    uint32_t newest_lost = 0, oldest_left = UINT32_MAX;
    for (oct_kv_block b = 0; w->prefix && b < w->n_blocks; b++) {
        sim_block *k = &w->blocks[b];
        uint64_t serial = 0, before;
        const int32_t *ids;
        const bool has = oct_kv_prefix_entry(w->prefix, b, &serial, &before, &ids);
        if (!has) serial = 0;
        if (k->was_free && k->serial && serial != k->serial && k->freed > newest_lost &&
            oct_kv_pool_n_refs(w->pool, b) > 0) {
            newest_lost = k->freed;
            w->n.n_evicted++;
        }
        if (k->was_free && k->serial && serial == k->serial &&
            oct_kv_pool_n_refs(w->pool, b) == 0 && k->freed < oldest_left)
            oldest_left = k->freed;
        k->serial = serial;
    }
    CHECK(newest_lost <= oldest_left);
    return true;
}

static bool check_ledger(sim_world *w) {
    TRY(check_refs(w));
    TRY(check_evictions(w));
    TRY(check_queue(w));
    TRY(check_texts(w));
    return check_entries(w);
}

/* ---- a plan ---- */

static sim_seq *oldest(sim_world *w) {
    sim_seq *best = NULL;
    for (uint32_t i = 0; i < SIM_SEQS; i++)
        if (w->seqs[i].live && (!best || w->seqs[i].q.arrival < best->q.arrival))
            best = &w->seqs[i];
    return best;
}

static uint32_t logits_in(const oct_sched_item *it) {
    uint32_t n = it->samples;
    for (uint32_t p = it->first; p < it->first + it->n_rows; p++)
        n += p >= it->seq->extra_logits_begin && p < it->seq->extra_logits_end;
    return n;
}

/* What a sequence that was let in now is given: whole blocks of its own text, under these weights,
 * and a row to compute. */
static bool check_hits(sim_world *w, const sim_seq *s, uint32_t first) {
    CHECK(first % w->block_tokens == 0 && first < s->q.n_tokens);
    CHECK(first == 0 || (w->prefix && s->q.tokens));
    CHECK(s->q.extra_logits_begin >= s->q.extra_logits_end || first <= s->q.extra_logits_begin);
    for (uint32_t p = 0; p < first; p++) {
        const sim_block *k = &w->blocks[s->storage[p / w->block_tokens]];
        CHECK(k->at[p % w->block_tokens].text == s->text[p]);
        CHECK(k->at[p % w->block_tokens].weights == w->weights && k->good);
    }
    w->n.n_hits += first > 0;
    w->n.n_hit_blocks += first / w->block_tokens;
    return true;
}

static bool check_item(sim_world *w, const oct_sched_item *it, uint32_t k) {
    sim_seq *s = (sim_seq *)it->seq;
    CHECK(s >= w->seqs && s < w->seqs + SIM_SEQS && s->live && s->q.item == k);
    if (s->n_cached == 0) {
        TRY(check_hits(w, s, it->first));
        s->n_cached = it->first;
    }
    CHECK(it->first == s->n_cached); /* computed in order, nothing left out or done twice */
    CHECK(it->n_rows > 0 && it->first + it->n_rows <= it->seq->n_tokens);
    CHECK(it->samples == (it->first + it->n_rows == it->seq->n_tokens));
    CHECK(it->n_logits == logits_in(it));
    CHECK(w->opt.max_chunk_tokens == 0 || it->n_rows <= w->opt.max_chunk_tokens);
    CHECK(oct_kv_table_cap_tokens(&it->seq->table) >= it->first + it->n_rows);
    return true;
}

static bool before(const sim_seq *a, const sim_seq *b) {
    return a->q.priority != b->q.priority ? a->q.priority < b->q.priority
                                          : a->q.arrival < b->q.arrival;
}

/* Why s may be passed by others: it is long, it would be left undone, or one of its group is
 * computing its prompt. */
static bool may_be_passed(const sim_world *w, const sim_seq *s, const oct_sched_plan *plan) {
    if (w->opt.max_partial_prefills > 0 || plan->n_starved > 0) return true;
    uint32_t n_single = 0; /* rows that went before all prompts */
    for (uint32_t k = 0; k < plan->n_items; k++)
        n_single += plan->items[k].n_rows == 1 && plan->items[k].samples;
    n_single += plan->n_preempted; /* those may have had one before they lost it */
    uint32_t rows = w->opt.max_num_batched_tokens;
    rows -= n_single < rows ? n_single : rows;
    if (w->opt.max_decode_wait_ns > 0 && n_single > 0 && rows > w->block_tokens)
        rows = w->block_tokens;
    if (s->q.n_tokens > rows / 2) return true;
    if (w->opt.max_chunk_tokens > 0 && s->q.n_tokens > w->opt.max_chunk_tokens) return true;
    for (uint32_t i = 0; s->q.group != 0 && i < SIM_SEQS; i++)
        if (w->seqs[i].live && &w->seqs[i] != s && w->seqs[i].q.group == s->q.group &&
            w->seqs[i].q.state == OCT_SCHED_RUNNING)
            return true;
    return false;
}

static bool check_order(sim_world *w, const oct_sched_plan *plan) {
    const sim_seq *first = NULL; /* of those that run */
    bool alive = false;
    for (uint32_t i = 0; i < SIM_SEQS; i++) {
        const sim_seq *s = &w->seqs[i];
        alive = alive || s->live;
        if (s->live && s->q.state == OCT_SCHED_RUNNING && (!first || before(s, first))) first = s;
    }
    if (w->n_flights == 0) { /* beside another step it may have nothing to compute yet */
        CHECK(!alive || plan->n_items > 0);
        CHECK(!first || first->q.item != OCT_SCHED_NO_ITEM); /* the first always progresses */
        CHECK(plan->n_starved == 0);
    }
    CHECK(w->n_flights == 0 || plan->n_preempted == 0);
    for (uint32_t i = 0; i < SIM_SEQS; i++) {
        sim_seq *s = &w->seqs[i];
        const bool runs = s->live && s->q.state == OCT_SCHED_RUNNING;
        if (!runs || s->ran) continue;
        s->ran = true; /* let in now: whom did it pass? */
        for (uint32_t k = 0; k < SIM_SEQS; k++) {
            const sim_seq *o = &w->seqs[k];
            if (!o->live || o->q.state != OCT_SCHED_WAITING || !before(o, s)) continue;
            CHECK(may_be_passed(w, o, plan));
            w->n.n_passed++;
        }
    }
    return true;
}

static void note_before(sim_world *w) {
    for (uint32_t i = 0; i < SIM_SEQS; i++) {
        sim_seq *s = &w->seqs[i];
        s->n_had = s->q.table.n_blocks;
        s->lacked = s->live && s->q.n_tokens > s->q.n_computed &&
                    oct_kv_table_cap_tokens(&s->q.table) == s->q.n_computed;
    }
}

/* Nobody loses blocks to somebody of worse rank, or to nobody. */
static bool check_victims(sim_world *w, uint64_t n_plan_preempted) {
    uint64_t n = 0;
    bool of_use = false;
    const sim_seq *first = NULL; /* of those that lost */
    for (uint32_t i = 0; i < SIM_SEQS; i++) {
        sim_seq *s = &w->seqs[i];
        of_use = of_use || (s->live && s->q.table.n_blocks > s->n_had);
        if (!s->live || s->q.n_preemptions == s->n_lost) continue;
        of_use = of_use || s->lacked; /* the last one could not go on itself */
        s->n_lost = s->q.n_preemptions;
        s->ran = false;
        n++;
        if (!first || before(s, first)) first = s;
    }
    CHECK(n == n_plan_preempted);
    CHECK(n == 0 || of_use);
    for (uint32_t i = 0; first && i < SIM_SEQS; i++) {
        const sim_seq *s = &w->seqs[i];
        if (s->live && s->q.state == OCT_SCHED_RUNNING) CHECK(before(s, first));
    }
    return true;
}

static bool check_plan(sim_world *w, const oct_sched_plan *plan) {
    uint32_t n_rows = 0, n_logits = 0, n_decodes = 0;
    TRY(check_victims(w, plan->n_preempted));
    /* Who was preempted while this was planned has lost what it had. */
    for (uint32_t i = 0; i < SIM_SEQS; i++)
        if (w->seqs[i].q.table.n_blocks == 0) w->seqs[i].n_cached = 0;
    for (uint32_t k = 0; k < plan->n_items; k++) {
        const oct_sched_item *it = &plan->items[k];
        TRY(check_item(w, it, k));
        n_rows += it->n_rows;
        n_logits += it->n_logits;
        n_decodes += it->is_decode;
    }
    CHECK(plan->n_items <= w->opt.max_num_seqs && n_rows <= w->opt.max_num_batched_tokens);
    CHECK(n_logits <= w->opt.max_logits);
    CHECK(n_rows == plan->n_rows && n_logits == plan->n_logits && n_decodes == plan->n_decodes);
    TRY(check_order(w, plan));
    w->n.n_preempted += plan->n_preempted;
    w->n.n_mixed += n_decodes > 0 && n_decodes < plan->n_items;
    /* A decode that kept its blocks takes part in every step. */
    for (uint32_t i = 0; i < SIM_SEQS; i++) {
        const sim_seq *s = &w->seqs[i];
        if (s->live && s->q.state == OCT_SCHED_RUNNING && s->n_cached >= s->q.n_prompt &&
            s->q.n_tokens - s->n_cached == 1 && plan->n_starved == 0)
            CHECK(s->q.item != OCT_SCHED_NO_ITEM);
    }
    return true;
}

/* ---- copies ---- */

/* Makes the copies that the plan asked for, in their order; f remembers them. */
static bool move_blocks(sim_world *w, sim_flight *f) {
    uint32_t n = 0;
    const oct_kv_move *moves = w->prefix ? oct_kv_prefix_moves(w->prefix, &n) : NULL;
    CHECK(n <= 2 * w->n_blocks);
    f->n_moves = 0;
    for (uint32_t i = 0; i < n; i++) {
        const oct_kv_move *m = &moves[i];
        CHECK(m->block < w->n_blocks && m->shelf < w->n_shelves);
        sim_block *block = &w->blocks[m->block], *shelf = &w->shelves[m->shelf];
        memcpy(m->to_shelf ? shelf->at : block->at, m->to_shelf ? block->at : shelf->at,
               sizeof block->at);
        *(m->to_shelf ? &shelf->good : &block->good) = m->to_shelf ? block->good : shelf->good;
        w->n.n_shelved += m->to_shelf;
        w->n.n_fetched += !m->to_shelf;
        f->moves[f->n_moves++] = *m;
    }
    if (w->prefix) oct_kv_prefix_moves_made(w->prefix);
    return true;
}

/* Copies from the n-th on were not made, or nobody knows which. The engine forgets everything. */
static void unmake_moves(sim_world *w, const sim_flight *f, uint32_t n) {
    const sim_block nothing = {0};
    for (uint32_t i = n; i < f->n_moves; i++) {
        const oct_kv_move *m = &f->moves[i];
        sim_block *k = m->to_shelf ? &w->shelves[m->shelf] : &w->blocks[m->block];
        memcpy(k->at, nothing.at, sizeof k->at);
        k->good = false;
    }
    if (w->n_shelves > 0) oct_kv_prefix_reset(w->prefix);
}

/* ---- a step ---- */

/* The rows are written: nobody else may see these places. */
static bool write_rows(sim_world *w, const oct_sched_item *it) {
    sim_seq *s = (sim_seq *)it->seq;
    for (uint32_t p = it->first; p < it->first + it->n_rows; p++) {
        const oct_kv_block b = s->storage[p / w->block_tokens];
        CHECK(oct_kv_pool_n_refs(w->pool, b) == 1 && !oct_kv_pool_is_kept(w->pool, b));
        w->blocks[b].at[p % w->block_tokens] = (sim_place){s->text[p], s->drawn[p], w->weights};
        w->blocks[b].good = false;
    }
    s->n_cached = it->first + it->n_rows;
    return true;
}

/* The token behind row `end` was drawn. */
static void collect_part(sim_world *w, sim_seq *s, uint32_t end, bool samples) {
    if (end > s->q.extra_logits_begin) s->q.extra_logits_begin = end;
    if (!samples) return;
    if (one_in(w, 60)) { /* and is not finite */
        w->n.n_failed++;
        leave(w, s);
        return;
    }
    for (uint32_t b = 0; b < end / w->block_tokens; b++) w->blocks[s->storage[b]].good = true;
    oct_sched_collected(w->sched, &s->q, end);
    if (s->n_flying > 0) {
        s->tokens[end] = s->drawn[end];
        s->n_flying--;
    } else {
        add_token(w, s, s->q.n_tokens++);
    }
    if (s->q.n_tokens - s->n_flying == s->q.max_tokens || one_in(w, 50)) {
        w->n.n_finished++;
        leave(w, s);
    }
}

/* The oldest step is done; when it failed, what is behind it failed with it. */
static void collect(sim_world *w) {
    static sim_flight f; /* out of the list first, so that nobody who leaves is held for it */
    f = w->flights[0];
    w->flights[0] = w->flights[1];
    w->n_flights--;
    for (uint32_t k = 0; k < f.n; k++)
        for (uint32_t i = 0; i < f.parts[k].n_held; i++) {
            w->held[f.parts[k].held[i]]--;
            oct_sched_let_go(w->sched, f.parts[k].held[i]);
        }
    for (uint32_t k = 0; k < f.n; k++) {
        const struct sim_part *p = &f.parts[k];
        if (!p->s) continue;
        if (f.fails) {
            leave(w, p->s);
            w->n.n_failed++;
        } else {
            collect_part(w, p->s, p->first + p->n_rows, p->samples);
        }
    }
    if (f.fails) unmake_moves(w, &f, 0);
    if (f.fails && w->n_flights > 0) {
        w->flights[0].fails = true;
        collect(w);
    }
}

/* Tokens that the step will draw count as there, unknown, where the row behind them may be planned.
 */
static void fly(sim_world *w, const sim_flight *f) {
    for (uint32_t k = 0; k < f->n; k++) {
        sim_seq *s = f->parts[k].s;
        if (!s || !f->parts[k].samples || s->one_by_one) continue;
        if (s->q.n_tokens + 1 >= s->q.max_tokens) continue;
        add_token(w, s, s->q.n_tokens);
        s->tokens[s->q.n_tokens++] = -1;
        s->n_flying++;
    }
}

static bool submit(sim_world *w, const oct_sched_plan *plan) {
    sim_flight *f = &w->flights[w->n_flights];
    oct_sched_item items[SIM_SEQS];
    const uint32_t n = plan->n_items;
    memcpy(items, plan->items, n * sizeof *items);
    f->fails = one_in(w, 100); /* the device refuses the step */
    f->n = 0;
    for (uint32_t k = 0; k < n; k++) {
        if (one_in(w, 300)) { /* memory for its rows was refused: planned, and never run */
            leave(w, (sim_seq *)items[k].seq);
            w->n.n_failed++;
            continue;
        }
        TRY(write_rows(w, &items[k]));
        f->parts[f->n++] = (struct sim_part){.s = (sim_seq *)items[k].seq,
                                             .first = items[k].first,
                                             .n_rows = items[k].n_rows,
                                             .samples = items[k].samples};
    }
    if (f->n == 0) return true;
    w->n_flights++;
    if (w->overlap) fly(w, f);
    return true;
}

/* New weights: nothing that was computed before may be found. Sequences that run go on. */
static void reload(sim_world *w) {
    if (!w->prefix) return;
    oct_kv_prefix_reset(w->prefix);
    w->weights++;
    w->n.n_resets++;
}

/* A copy was refused before the step was submitted. */
static bool take_back(sim_world *w, const sim_flight *f) {
    w->n.n_taken_back++;
    oct_sched_take_back(w->sched);
    unmake_moves(w, f, below(w, f->n_moves));
    for (uint32_t i = 0; i < SIM_SEQS; i++) {
        sim_seq *s = &w->seqs[i];
        if (!s->live) continue;
        if (s->q.state == OCT_SCHED_WAITING) s->ran = false;
        if (s->q.state == OCT_SCHED_WAITING) s->n_cached = 0;
        CHECK(s->n_cached == s->q.n_computed);
    }
    return true;
}

static bool one_step(sim_world *w, uint32_t rate) {
    while (below(w, 100) < rate) arrive(w);
    if (one_in(w, 40)) { /* a client leaves, in whatever state */
        sim_seq *s = &w->seqs[below(w, SIM_SEQS)];
        w->n.n_aborted += s->live;
        leave(w, s);
    }
    if (one_in(w, 200)) reload(w);
    if (one_in(w, 10)) oct_sched_set_cost(w->sched, below(w, 1200), below(w, 100));
    TRY(check_ledger(w));
    const bool beside = w->n_flights > 0;
    w->n.n_beside += beside;
    note_before(w);
    const oct_sched_plan *plan =
        beside ? oct_sched_next_beside(w->sched) : oct_sched_next(w->sched);
    const bool starved = plan->n_starved > 0;
    TRY(move_blocks(w, &w->flights[w->n_flights]));
    TRY(check_plan(w, plan));
    TRY(check_ledger(w));
    const sim_flight *f = &w->flights[w->n_flights];
    if (f->n_moves > 0 && one_in(w, 20)) TRY(take_back(w, f));
    if (plan->n_items > 0) TRY(submit(w, plan));
    if (beside && w->n_flights > 0) collect(w);
    while (w->n_flights > 0 && (starved || !w->overlap)) collect(w);
    TRY(check_ledger(w));
    oct_sched_check(w->sched);
    w->step++;
    return true;
}

bool sim_run(sim_world *w, uint64_t seed, uint32_t n_steps) {
    TRY(world_init(w, seed));
    const uint32_t rate = (const uint32_t[]){5, 30, 60}[below(w, 3)];
    for (uint32_t i = 0; i < n_steps; i++) TRY(one_step(w, rate));
    uint32_t n_left = 0; /* no more arrivals: all end, in bounded time */
    while (oldest(w) || w->n_flights > 0) {
        TRY(one_step(w, 0));
        CHECK(n_left++ < SIM_SEQS * SIM_TABLE * SIM_BLOCK_TOKENS * 2u);
    }
    w->n.n_steps = w->step;
    CHECK(oct_kv_pool_n_free(w->pool) == w->n_blocks);
    world_fini(w);
    return true;
}
