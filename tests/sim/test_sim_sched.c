/*
 * test_sim_sched.c - the scheduler under a million steps of seeded random traffic, with a ledger of
 * every cache block kept beside it; then its single rules, each by a small case.
 *
 * A failing seed is printed; `test_sim_sched SEED` runs that one alone.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/attr.h"
#include "sched/sched.h"

enum { MAX_SEQS = 64, MAX_BLOCKS = 256, MAX_STORAGE = 64 };

/* splitmix64: small, and the same everywhere. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static uint32_t below(uint64_t *state, uint32_t n) { return (uint32_t)(next_random(state) % n); }

#define CHECK(cond)                                                                     \
    do {                                                                                \
        if (!(cond)) fail_msg("seed %" PRIu64 " step %u: %s", w->seed, w->step, #cond); \
    } while (0)

typedef struct world {
    uint64_t seed, rng;
    uint32_t step, block_tokens, n_blocks;
    oct_sched_options opt;
    oct_kv_pool *pool;
    oct_sched *sched;
    oct_sched_seq seqs[MAX_SEQS];
    bool live[MAX_SEQS];
    uint32_t n_cached[MAX_SEQS]; /* rows that really ran since the blocks were taken */
    uint32_t n_idle[MAX_SEQS];   /* steps in a row that it was running and had no item */
    oct_kv_block storage[MAX_SEQS][MAX_STORAGE];
    uint64_t n_finished, n_preempted, n_mixed, n_aborted;
} world;

static void world_init(world *w, uint64_t seed) {
    *w = (world){.seed = seed, .rng = seed};
    uint64_t *r = &w->rng;
    w->block_tokens = (const uint32_t[]){1, 4, 32, 64}[below(r, 4)];
    w->n_blocks = 2 + below(r, below(r, 2) ? 12 : MAX_BLOCKS - 2);
    w->opt.max_num_seqs = 1 + below(r, 24);
    w->opt.max_num_batched_tokens = w->opt.max_num_seqs + below(r, below(r, 2) ? 4 : 300);
    w->opt.max_logits = w->opt.max_num_seqs + below(r, 8);
    w->opt.max_chunk_tokens = below(r, 3) == 0 ? 1 + below(r, 40) : 0;
    assert_int_equal(oct_kv_pool_create(oct_system_allocator(), w->n_blocks, &w->pool, NULL), 0);
    assert_int_equal(oct_sched_create(oct_system_allocator(), &w->opt, w->pool, w->block_tokens,
                                      &w->sched, NULL),
                     0);
}

static void arrive(world *w) {
    for (uint32_t i = 0; i < MAX_SEQS; i++) {
        if (w->live[i]) continue;
        const uint32_t most =
            (w->n_blocks < MAX_STORAGE ? w->n_blocks : MAX_STORAGE) * w->block_tokens;
        const uint32_t max_tokens = 2 + below(&w->rng, most < 2 ? 1 : most - 1);
        if (!oct_sched_fits(w->sched, max_tokens) || max_tokens > most) return;
        oct_sched_seq *q = &w->seqs[i];
        *q = (oct_sched_seq){.n_prompt = 1 + below(&w->rng, max_tokens - 1),
                             .max_tokens = max_tokens};
        q->n_tokens = q->n_prompt;
        if (below(&w->rng, 6) == 0) q->extra_logits_end = q->n_prompt - 1;
        oct_kv_table_init(&q->table, w->storage[i], MAX_STORAGE, w->block_tokens);
        oct_sched_add(w->sched, q);
        w->live[i] = true;
        w->n_cached[i] = w->n_idle[i] = 0;
        return;
    }
}

/* Every block: free, or in exactly one table and counted once. */
static void check_ledger(world *w) {
    uint8_t holders[MAX_BLOCKS] = {0};
    uint32_t n_held = 0;
    for (uint32_t i = 0; i < MAX_SEQS; i++) {
        const oct_sched_seq *q = &w->seqs[i];
        CHECK(w->live[i] || q->table.n_blocks == 0);
        for (uint32_t b = 0; b < q->table.n_blocks; b++, n_held++) {
            CHECK(q->table.blocks[b] < w->n_blocks);
            CHECK(holders[q->table.blocks[b]]++ == 0);
            CHECK(oct_kv_pool_n_refs(w->pool, q->table.blocks[b]) == 1);
        }
    }
    CHECK(n_held + oct_kv_pool_n_free(w->pool) == w->n_blocks);
}

static uint32_t oldest(const world *w) {
    uint32_t best = MAX_SEQS;
    for (uint32_t i = 0; i < MAX_SEQS; i++)
        if (w->live[i] && (best == MAX_SEQS || w->seqs[i].arrival < w->seqs[best].arrival))
            best = i;
    return best;
}

static uint32_t logits_in(const oct_sched_item *it) {
    uint32_t n = it->samples;
    for (uint32_t p = it->first; p < it->first + it->n_rows; p++)
        n += p >= it->seq->extra_logits_begin && p < it->seq->extra_logits_end;
    return n;
}

static void check_plan(world *w, const oct_sched_plan *plan) {
    uint32_t n_rows = 0, n_logits = 0, n_decodes = 0;
    bool has[MAX_SEQS] = {0};
    for (uint32_t k = 0; k < plan->n_items; k++) {
        const oct_sched_item *it = &plan->items[k];
        const uint32_t i = (uint32_t)(it->seq - w->seqs);
        CHECK(i < MAX_SEQS && w->live[i] && !has[i] && it->seq->item == k);
        has[i] = true;
        if (it->first == 0) w->n_cached[i] = 0;
        CHECK(it->first == w->n_cached[i]); /* computed in order, nothing left out or done twice */
        CHECK(it->n_rows > 0 && it->first + it->n_rows <= it->seq->n_tokens);
        CHECK(it->samples == (it->first + it->n_rows == it->seq->n_tokens));
        CHECK(it->n_logits == logits_in(it));
        CHECK(it->n_rows <= (w->opt.max_chunk_tokens ? w->opt.max_chunk_tokens : UINT32_MAX));
        CHECK(oct_kv_table_cap_tokens(&it->seq->table) >= it->first + it->n_rows);
        n_rows += it->n_rows;
        n_logits += it->n_logits;
        n_decodes += it->is_decode;
    }
    CHECK(plan->n_items <= w->opt.max_num_seqs && n_rows <= w->opt.max_num_batched_tokens);
    CHECK(n_logits <= w->opt.max_logits);
    CHECK(n_rows == plan->n_rows && n_logits == plan->n_logits && n_decodes == plan->n_decodes);
    const uint32_t first = oldest(w);
    CHECK(first == MAX_SEQS || has[first]); /* the oldest always progresses */
    w->n_preempted += plan->n_preempted;
    w->n_mixed += n_decodes > 0 && n_decodes < plan->n_items;
    /* A decode that kept its blocks takes part in every step. */
    for (uint32_t i = 0; i < MAX_SEQS; i++)
        if (w->live[i] && w->seqs[i].state == OCT_SCHED_RUNNING &&
            w->n_cached[i] >= w->seqs[i].n_prompt && w->seqs[i].n_tokens - w->n_cached[i] == 1)
            CHECK(has[i]);
}

static void leave(world *w, uint32_t i) {
    oct_sched_remove(w->sched, &w->seqs[i]);
    w->live[i] = false;
}

static void run_plan(world *w, const oct_sched_plan *plan) {
    for (uint32_t k = 0; k < plan->n_items; k++) {
        const oct_sched_item it = plan->items[k];
        const uint32_t i = (uint32_t)(it.seq - w->seqs);
        w->n_cached[i] = it.first + it.n_rows;
        if (it.first + it.n_rows > it.seq->extra_logits_begin)
            it.seq->extra_logits_begin = it.first + it.n_rows;
        if (!it.samples) continue;
        it.seq->n_tokens++;
        if (it.seq->n_tokens == it.seq->max_tokens || below(&w->rng, 50) == 0) {
            w->n_finished++;
            leave(w, i);
        }
    }
}

static void one_step(world *w, uint32_t rate) {
    while (below(&w->rng, 100) < rate) arrive(w);
    if (below(&w->rng, 40) == 0) { /* a client leaves, in whatever state */
        const uint32_t i = below(&w->rng, MAX_SEQS);
        w->n_aborted += w->live[i];
        leave(w, i);
    }
    const oct_sched_plan *plan = oct_sched_next(w->sched);
    check_plan(w, plan);
    check_ledger(w);
    run_plan(w, plan);
    check_ledger(w);
    oct_sched_check(w->sched);
    w->step++;
}

static void run_seed(world *w, uint64_t seed, uint32_t n_steps) {
    world_init(w, seed);
    const uint32_t rate = (const uint32_t[]){5, 30, 60}[below(&w->rng, 3)];
    for (uint32_t i = 0; i < n_steps; i++) one_step(w, rate);
    uint32_t n_left = 0; /* no more arrivals: all end, in bounded time */
    while (oldest(w) != MAX_SEQS) {
        one_step(w, 0);
        CHECK(n_left++ < MAX_SEQS * MAX_STORAGE * 64u * 2u);
    }
    CHECK(oct_kv_pool_n_free(w->pool) == w->n_blocks);
    oct_sched_destroy(w->sched);
    oct_kv_pool_destroy(w->pool);
}

static const char *only_seed;

static void KV2_a_million_steps(void **s) {
    (void)s;
    static world w;
    if (only_seed) {
        run_seed(&w, strtoull(only_seed, NULL, 10), 4000);
        return;
    }
    uint64_t n_preempted = 0, n_mixed = 0, n_finished = 0, n_aborted = 0, n_steps = 0;
    for (uint64_t seed = 1; n_steps < 1000000; seed++) {
        run_seed(&w, seed, 4000);
        n_preempted += w.n_preempted;
        n_mixed += w.n_mixed;
        n_finished += w.n_finished;
        n_aborted += w.n_aborted;
        n_steps += w.step;
    }
    print_message("%" PRIu64 " steps, %" PRIu64 " mixed, %" PRIu64 " finished, %" PRIu64
                  " aborted, %" PRIu64 " preemptions\n",
                  n_steps, n_mixed, n_finished, n_aborted, n_preempted);
    assert_true(n_preempted > 1000 && n_mixed > 10000 && n_finished > 10000 && n_aborted > 1000);
}

/* ---- single rules ---- */

typedef struct small {
    oct_kv_pool *pool;
    oct_sched *sched;
    oct_sched_seq q[8];
    oct_kv_block storage[8][MAX_STORAGE];
} small;

static void small_init(small *t, uint32_t n_blocks, oct_sched_options opt) {
    *t = (small){0};
    assert_int_equal(oct_kv_pool_create(oct_system_allocator(), n_blocks, &t->pool, NULL), 0);
    assert_int_equal(oct_sched_create(oct_system_allocator(), &opt, t->pool, 4, &t->sched, NULL),
                     0);
}
static void small_fini(small *t) {
    for (int i = 0; i < 8; i++) oct_sched_remove(t->sched, &t->q[i]);
    oct_sched_destroy(t->sched);
    oct_kv_pool_destroy(t->pool);
}
static void small_add(small *t, int i, uint32_t n_prompt, uint32_t max_tokens) {
    t->q[i] = (oct_sched_seq){.n_prompt = n_prompt, .n_tokens = n_prompt, .max_tokens = max_tokens};
    oct_kv_table_init(&t->q[i].table, t->storage[i], MAX_STORAGE, 4);
    oct_sched_add(t->sched, &t->q[i]);
}
static void draw(const oct_sched_plan *plan) {
    for (uint32_t k = 0; k < plan->n_items; k++)
        if (plan->items[k].samples) plan->items[k].seq->n_tokens++;
}

static void decodes_go_first_and_prompts_share_the_rest(void **s) {
    (void)s;
    small t;
    small_init(&t, 64, (oct_sched_options){4, 10, 4, 0});
    small_add(&t, 0, 25, 40);
    small_add(&t, 1, 3, 40);
    const oct_sched_plan *p = oct_sched_next(t.sched); /* 10 of the first prompt's 25 */
    assert_int_equal(p->n_items, 1);
    assert_int_equal(p->items[0].n_rows, 10);
    assert_false(p->items[0].samples);
    oct_sched_next(t.sched);
    p = oct_sched_next(t.sched); /* its last 5, and the whole of the second */
    assert_int_equal(p->n_items, 2);
    assert_int_equal(p->n_rows, 8);
    assert_true(p->items[0].samples && p->items[1].samples);
    draw(p);
    small_add(&t, 2, 30, 40);
    p = oct_sched_next(t.sched); /* two decodes and a chunk of 8 */
    assert_int_equal(p->n_items, 3);
    assert_int_equal(p->n_decodes, 2);
    assert_true(p->items[0].is_decode && p->items[1].is_decode);
    assert_int_equal(p->items[2].n_rows, 8);
    small_fini(&t);
}

static void KV2_the_newest_is_preempted(void **s) {
    (void)s;
    small t;
    small_init(&t, 4, (oct_sched_options){4, 32, 4, 0});
    small_add(&t, 0, 6, 16);
    small_add(&t, 1, 6, 16);
    uint32_t n_preempted = 0;
    for (int i = 0; i < 10; i++) {
        const oct_sched_plan *p = oct_sched_next(t.sched);
        n_preempted += p->n_preempted;
        assert_ptr_equal(p->items[0].seq, &t.q[0]);
        draw(p);
    }
    assert_int_equal(t.q[0].n_preemptions, 0);
    assert_true(n_preempted >= 1 && t.q[1].n_preemptions == n_preempted);
    assert_int_equal(t.q[0].n_tokens, 16);
    oct_sched_remove(t.sched, &t.q[0]);
    const uint32_t known = t.q[1].n_tokens;
    const oct_sched_plan *p = oct_sched_next(t.sched); /* computed again in one go */
    assert_ptr_equal(p->items[0].seq, &t.q[1]);
    assert_int_equal(p->items[0].first, 0);
    assert_int_equal(p->items[0].n_rows, known);
    assert_true(p->items[0].samples);
    assert_false(p->items[0].is_decode);
    small_fini(&t);
}

static void KV1_what_can_never_fit_is_known(void **s) {
    (void)s;
    small t;
    small_init(&t, 3, (oct_sched_options){4, 32, 4, 0});
    assert_true(oct_sched_fits(t.sched, 12));
    assert_false(oct_sched_fits(t.sched, 13));
    assert_false(oct_sched_fits(t.sched, UINT32_MAX));
    small_fini(&t);
}

static void a_prompt_whose_logits_are_wanted_is_cut_to_the_budget(void **s) {
    (void)s;
    small t;
    small_init(&t, 64, (oct_sched_options){2, 64, 3, 0});
    small_add(&t, 0, 8, 16);
    t.q[0].extra_logits_end = 7;
    const uint32_t rows[] = {3, 3, 2}, logits[] = {3, 3, 2};
    for (int i = 0; i < 3; i++) {
        const oct_sched_plan *p = oct_sched_next(t.sched);
        assert_int_equal(p->items[0].n_rows, rows[i]);
        assert_int_equal(p->n_logits, logits[i]);
    }
    small_fini(&t);
}

static void contradicting_options_are_refused(void **s) {
    (void)s;
    oct_kv_pool *pool;
    oct_sched *sched;
    assert_int_equal(oct_kv_pool_create(oct_system_allocator(), 4, &pool, NULL), 0);
    const oct_sched_options bad[] = {{0, 8, 8, 0}, {8, 7, 8, 0}, {8, 8, 7, 0}};
    for (size_t i = 0; i < OCT_COUNT(bad); i++) {
        oct_err err = {0};
        assert_int_equal(oct_sched_create(oct_system_allocator(), &bad[i], pool, 4, &sched, &err),
                         OCT_E_INVALID);
        assert_null(sched);
    }
    oct_kv_pool_destroy(pool);
}

int main(int argc, char **argv) {
    only_seed = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_go_first_and_prompts_share_the_rest),
        cmocka_unit_test(KV2_the_newest_is_preempted),
        cmocka_unit_test(KV1_what_can_never_fit_is_known),
        cmocka_unit_test(a_prompt_whose_logits_are_wanted_is_cut_to_the_budget),
        cmocka_unit_test(contradicting_options_are_refused),
        cmocka_unit_test(KV2_a_million_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
