/*
 * test_sched.c - the scheduler's single rules, each by a small case. Their sum under random
 * traffic: tests/sim.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/attr.h"
#include "sched/sched.h"

enum { MAX_STORAGE = 64 };

static oct_sched_options limits(uint32_t seqs, uint32_t tokens, uint32_t logits) {
    return (oct_sched_options){
        .max_num_seqs = seqs, .max_num_batched_tokens = tokens, .max_logits = logits};
}

typedef struct small {
    oct_kv_pool *pool;
    oct_kv_prefix *prefix;
    oct_sched *sched;
    oct_sched_seq q[8];
    int32_t tokens[8][MAX_STORAGE * 4];
    oct_kv_block storage[8][MAX_STORAGE];
} small;

static void small_init(small *t, uint32_t n_blocks, oct_sched_options opt) {
    const oct_allocator *mem = oct_system_allocator();
    *t = (small){0};
    assert_int_equal(oct_kv_pool_create(mem, n_blocks, &t->pool, NULL), 0);
    assert_int_equal(oct_kv_prefix_create(mem, t->pool, &(oct_kv_prefix_options){.block_tokens = 4},
                                          &t->prefix, NULL),
                     0);
    opt.prefix = t->prefix;
    assert_int_equal(oct_sched_create(oct_system_allocator(), &opt, t->pool, 4, &t->sched, NULL),
                     0);
}
static void small_fini(small *t) {
    for (int i = 0; i < 8; i++) oct_sched_remove(t->sched, &t->q[i]);
    assert_int_equal(oct_kv_pool_n_free(t->pool), oct_kv_pool_n_blocks(t->pool));
    oct_sched_destroy(t->sched);
    oct_kv_prefix_destroy(t->prefix);
    oct_kv_pool_destroy(t->pool);
}
static void small_add_as(small *t, int i, uint32_t n_prompt, uint32_t max_tokens, int64_t priority,
                         uint64_t group) {
    t->q[i] = (oct_sched_seq){.n_prompt = n_prompt,
                              .n_tokens = n_prompt,
                              .max_tokens = max_tokens,
                              .priority = priority,
                              .group = group};
    oct_kv_table_init(&t->q[i].table, t->storage[i], MAX_STORAGE, 4);
    oct_sched_add(t->sched, &t->q[i]);
}
static void small_add(small *t, int i, uint32_t n_prompt, uint32_t max_tokens) {
    small_add_as(t, i, n_prompt, max_tokens, 0, 0);
}
/* A sequence whose tokens are known to the index: they begin with n_same of a common text. */
static void small_text(small *t, int i, uint32_t n_same) {
    for (uint32_t p = 0; p < MAX_STORAGE * 4; p++)
        t->tokens[i][p] = (int32_t)(p < n_same ? p : 1000u * (uint32_t)(i + 1) + p);
    t->q[i].tokens = t->tokens[i];
}
static void draw(const oct_sched_plan *plan) {
    for (uint32_t k = 0; k < plan->n_items; k++)
        if (plan->items[k].samples) plan->items[k].seq->n_tokens++;
}
/* As the engine does with a step that went well. */
static void collect(small *t, const oct_sched_plan *plan) {
    for (uint32_t k = 0; k < plan->n_items; k++) {
        const oct_sched_item *it = &plan->items[k];
        if (it->samples) oct_sched_collected(t->sched, it->seq, it->first + it->n_rows);
    }
    draw(plan);
}

static void decodes_go_first_and_prompts_share_the_rest(void **s) {
    (void)s;
    small t;
    small_init(&t, 64, limits(4, 10, 4));
    small_add(&t, 0, 25, 40);
    small_add(&t, 1, 3, 40);
    const oct_sched_plan *p = oct_sched_next(t.sched); /* the short one passes the long one */
    assert_int_equal(p->n_items, 2);
    assert_int_equal(p->n_rows, 10);
    assert_int_equal(p->items[0].n_rows, 7); /* a half, and what was left of the other */
    assert_false(p->items[0].samples);
    assert_true(p->items[1].samples);
    assert_int_equal(p->items[1].n_rows, 3);
    draw(p);
    small_add(&t, 2, 30, 40);
    p = oct_sched_next(t.sched); /* a decode, then all rows for the first: both are long */
    assert_int_equal(p->n_items, 2);
    assert_int_equal(p->n_decodes, 1);
    assert_true(p->items[0].is_decode);
    assert_int_equal(p->items[1].n_rows, 9);
    assert_ptr_equal(p->items[1].seq, &t.q[0]);
    small_fini(&t);
}

static void KV2_the_newest_is_preempted(void **s) {
    (void)s;
    small t;
    small_init(&t, 4, limits(4, 32, 4));
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
    small_init(&t, 3, limits(4, 32, 4));
    assert_true(oct_sched_fits(t.sched, 12));
    assert_false(oct_sched_fits(t.sched, 13));
    assert_false(oct_sched_fits(t.sched, UINT32_MAX));
    small_fini(&t);
}

static void a_prompt_whose_logits_are_wanted_is_cut_to_the_budget(void **s) {
    (void)s;
    small t;
    small_init(&t, 64, limits(2, 64, 3));
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

/* The first one will need its blocks: letting the other in would only throw it out again. */
static void nobody_is_let_in_on_blocks_that_others_will_need(void **s) {
    (void)s;
    small t;
    small_init(&t, 10, limits(4, 12, 4));
    small_add(&t, 0, 33, 36);
    small_add(&t, 1, 4, 8);
    uint32_t n_preempted = 0;
    for (int i = 0; i < 3; i++) {
        const oct_sched_plan *p = oct_sched_next(t.sched);
        n_preempted += p->n_preempted;
        draw(p);
    }
    assert_int_equal(t.q[1].state, OCT_SCHED_RUNNING); /* nine and one: that fits */
    small_add(&t, 2, 4, 8);
    draw(oct_sched_next(t.sched));
    assert_int_equal(t.q[2].state, OCT_SCHED_WAITING);
    assert_int_equal(n_preempted, 0);
    small_fini(&t);
    small_init(&t, 10, limits(4, 12, 4));
    small_add(&t, 0, 33, 36);
    draw(oct_sched_next(t.sched));
    small_add(&t, 1, 6, 8); /* seven blocks are free, six of them promised, two wanted */
    draw(oct_sched_next(t.sched));
    assert_int_equal(t.q[1].state, OCT_SCHED_WAITING);
    small_fini(&t);
}

static void contradicting_options_are_refused(void **s) {
    (void)s;
    oct_kv_pool *pool;
    oct_sched *sched;
    assert_int_equal(oct_kv_pool_create(oct_system_allocator(), 4, &pool, NULL), 0);
    const oct_sched_options bad[] = {limits(0, 8, 8), limits(8, 7, 8), limits(8, 8, 7)};
    for (size_t i = 0; i < OCT_COUNT(bad); i++) {
        oct_err err = {0};
        assert_int_equal(oct_sched_create(oct_system_allocator(), &bad[i], pool, 4, &sched, &err),
                         OCT_E_INVALID);
        assert_null(sched);
    }
    oct_kv_pool_destroy(pool);
}

/* ---- the prefix index at work ---- */

static void a_known_beginning_is_not_computed_again(void **s) {
    (void)s;
    /* prompt of the second, of a common text of 16: what the first leaves and the second finds */
    const uint32_t n_prompt[] = {1, 3, 4, 5, 8, 9, 13, 16, 17, 20, 30};
    const uint32_t n_found[] = {0, 0, 0, 4, 4, 8, 12, 12, 16, 16, 16};
    for (size_t i = 0; i < OCT_COUNT(n_prompt); i++) {
        small t;
        small_init(&t, 64, limits(4, 64, 4));
        small_add(&t, 0, 18, 40);
        small_text(&t, 0, 16);
        collect(&t, oct_sched_next(t.sched));
        small_add(&t, 1, n_prompt[i], 40);
        small_text(&t, 1, 16);
        const oct_sched_plan *p = oct_sched_next(t.sched);
        assert_int_equal(p->n_items, 2);
        assert_ptr_equal(p->items[1].seq, &t.q[1]);
        assert_int_equal(p->items[1].first, n_found[i]);
        assert_int_equal(p->items[1].n_rows, n_prompt[i] - n_found[i]);
        assert_true(p->items[1].samples && !p->items[1].is_decode);
        assert_int_equal(t.q[1].n_cached, n_found[i]);
        for (uint32_t b = 0; b < n_found[i] / 4; b++) {
            assert_int_equal(t.q[0].table.blocks[b], t.q[1].table.blocks[b]);
            assert_int_equal(oct_kv_pool_n_refs(t.pool, t.q[0].table.blocks[b]), 2);
        }
        small_fini(&t);
    }
}

static void KV7_what_was_not_collected_is_not_found(void **s) {
    (void)s;
    small t;
    small_init(&t, 64, limits(4, 8, 4));
    small_add(&t, 0, 16, 40);
    small_text(&t, 0, 16);
    oct_sched_next(t.sched);
    const oct_sched_plan *p = oct_sched_next(t.sched); /* both halves run, then the step fails */
    assert_true(p->items[0].samples);
    oct_sched_remove(t.sched, &t.q[0]);
    small_add(&t, 1, 17, 40);
    small_text(&t, 1, 16);
    p = oct_sched_next(t.sched);
    assert_int_equal(p->items[0].first, 0);
    small_fini(&t);
}

static void KV2_a_preempted_one_finds_its_own_blocks(void **s) {
    (void)s;
    small t;
    small_init(&t, 6, limits(4, 32, 4));
    small_add(&t, 0, 9, 24);
    small_add(&t, 1, 9, 24);
    small_text(&t, 0, 0);
    small_text(&t, 1, 0);
    for (int i = 0; i < 40 && t.q[1].n_preemptions == 0; i++) {
        if (t.q[0].n_tokens == 20) oct_sched_remove(t.sched, &t.q[0]);
        collect(&t, oct_sched_next(t.sched));
    }
    assert_int_equal(t.q[1].n_preemptions, 1);
    const uint32_t known = t.q[1].n_tokens;
    oct_sched_remove(t.sched, &t.q[0]);
    const oct_sched_plan *p = oct_sched_next(t.sched);
    assert_ptr_equal(p->items[0].seq, &t.q[1]);
    /* The other took one block, the last one it had given back; those before are there. */
    assert_int_equal(p->items[0].first, 8);
    assert_int_equal(p->items[0].n_rows, known - 8);
    assert_int_equal(t.q[1].n_cached, 0); /* not told as found: the client's prompt was computed */
    small_fini(&t);
}

static void RQ_wanted_prompt_logits_are_computed(void **s) {
    (void)s;
    small t;
    small_init(&t, 64, limits(4, 64, 64));
    small_add(&t, 0, 17, 40);
    small_text(&t, 0, 16);
    collect(&t, oct_sched_next(t.sched));
    small_add(&t, 1, 17, 40);
    small_text(&t, 1, 16);
    t.q[1].extra_logits_end = 16;
    const oct_sched_plan *p = oct_sched_next(t.sched);
    assert_int_equal(p->items[1].first, 0);
    assert_int_equal(p->items[1].n_logits, 17);
    small_fini(&t);
}

static void KV7_eviction_leaves_what_is_shared(void **s) {
    (void)s;
    small t;
    small_init(&t, 8, limits(4, 64, 4));
    small_add(&t, 0, 9, 32);
    small_text(&t, 0, 8);
    collect(&t, oct_sched_next(t.sched));
    small_add(&t, 1, 9, 32);
    small_text(&t, 1, 8);
    collect(&t, oct_sched_next(t.sched));
    const oct_kv_block shared = t.q[0].table.blocks[0];
    oct_sched_remove(t.sched, &t.q[0]);
    small_add(&t, 2, 20, 20); /* takes all that is free */
    collect(&t, oct_sched_next(t.sched));
    assert_int_equal(oct_kv_pool_n_free(t.pool), 0);
    assert_int_equal(t.q[1].table.blocks[0], shared);
    assert_int_equal(oct_kv_pool_n_refs(t.pool, shared), 1);
    small_fini(&t);
}

/* ---- order ---- */

static const oct_sched_item *item_of(const oct_sched_plan *p, const oct_sched_seq *q) {
    for (uint32_t k = 0; k < p->n_items; k++)
        if (p->items[k].seq == q) return &p->items[k];
    return NULL;
}

static void lower_priority_numbers_go_first(void **s) {
    (void)s;
    for (int by_priority = 0; by_priority < 2; by_priority++) {
        small t;
        oct_sched_options o = limits(1, 64, 1);
        const int64_t priority[] = {5, 0, -3, 5, INT64_MIN, INT64_MAX};
        const int in_order[2][6] = {{0, 1, 2, 3, 4, 5}, {4, 2, 1, 0, 3, 5}};
        o.by_priority = by_priority;
        small_init(&t, 64, o);
        for (int i = 0; i < 6; i++) {
            small_add_as(&t, i, 4, 8, priority[i], 0);
        }
        for (int k = 0; k < 6; k++) {
            const oct_sched_plan *p = oct_sched_next(t.sched);
            assert_int_equal(p->n_items, 1);
            assert_ptr_equal(p->items[0].seq, &t.q[in_order[by_priority][k]]);
            oct_sched_remove(t.sched, p->items[0].seq);
        }
        small_fini(&t);
    }
}

static void a_better_one_takes_the_place_of_the_last(void **s) {
    (void)s;
    small t;
    oct_sched_options o = limits(2, 64, 2);
    o.by_priority = true;
    small_init(&t, 64, o);
    small_add_as(&t, 0, 4, 40, 1, 0);
    small_add_as(&t, 1, 4, 40, 1, 0);
    draw(oct_sched_next(t.sched));
    small_add_as(&t, 2, 4, 40, 1, 0); /* equal: waits */
    draw(oct_sched_next(t.sched));
    assert_int_equal(t.q[2].state, OCT_SCHED_WAITING);
    small_add_as(&t, 3, 4, 40, 0, 0);
    const oct_sched_plan *p = oct_sched_next(t.sched);
    assert_int_equal(p->n_preempted, 1);
    assert_int_equal(t.q[1].state, OCT_SCHED_WAITING); /* the last of the worst */
    assert_non_null(item_of(p, &t.q[3]));
    assert_non_null(item_of(p, &t.q[0]));
    assert_int_equal(p->n_rows, 5);
    draw(p);
    oct_sched_remove(t.sched, &t.q[3]);
    p = oct_sched_next(t.sched); /* who was thrown out comes before who came later */
    assert_non_null(item_of(p, &t.q[1]));
    assert_null(item_of(p, &t.q[2]));
    small_fini(&t);
}

static void a_better_one_takes_the_blocks_of_the_worst_and_of_no_other(void **s) {
    (void)s;
    small t;
    oct_sched_options o = limits(4, 64, 4);
    o.by_priority = true;
    small_init(&t, 9, o);
    small_add_as(&t, 0, 12, 16, 0, 0); /* 4 blocks with what is reserved */
    small_add_as(&t, 1, 12, 16, 5, 0); /* 4 */
    draw(oct_sched_next(t.sched));
    small_add_as(&t, 2, 12, 16, 2, 0);
    const oct_sched_plan *p = oct_sched_next(t.sched);
    assert_int_equal(p->n_preempted, 1);
    assert_int_equal(t.q[0].state, OCT_SCHED_RUNNING);
    assert_int_equal(t.q[1].state, OCT_SCHED_WAITING);
    assert_non_null(item_of(p, &t.q[2]));
    draw(p);
    small_add_as(&t, 3, 34, 36, 1, 0); /* needs all nine; the first one is better and stays */
    for (int i = 0; i < 2; i++) {
        p = oct_sched_next(t.sched);
        assert_int_equal(t.q[0].state, OCT_SCHED_RUNNING);
        assert_int_equal(t.q[3].state, OCT_SCHED_WAITING);
        draw(p);
    }
    small_fini(&t);
}

/* The step's only logit is the decode's that has to go. */
static void a_better_one_takes_the_only_place(void **s) {
    (void)s;
    small t;
    oct_sched_options o = limits(1, 1, 1);
    o.by_priority = true;
    small_init(&t, 64, o);
    small_add_as(&t, 0, 1, 40, 1, 0);
    draw(oct_sched_next(t.sched));
    small_add_as(&t, 1, 1, 40, 0, 0);
    const oct_sched_plan *p = oct_sched_next_beside(t.sched); /* not while a step is on its way */
    assert_int_equal(p->n_items, 1);
    assert_ptr_equal(p->items[0].seq, &t.q[0]);
    assert_int_equal(p->n_starved, 1);
    draw(p);
    p = oct_sched_next(t.sched);
    assert_int_equal(p->n_items, 1);
    assert_ptr_equal(p->items[0].seq, &t.q[1]);
    small_fini(&t);
}

/* It would wait for a place among the begun prompts, which the best one has. */
static void nobody_goes_for_one_that_waits_for_a_place_among_prompts(void **s) {
    (void)s;
    small t;
    oct_sched_options o = limits(2, 8, 4);
    o.by_priority = true;
    o.max_partial_prefills = 1;
    small_init(&t, 64, o);
    small_add_as(&t, 0, 1, 40, 2, 0);
    draw(oct_sched_next(t.sched));
    small_add_as(&t, 1, 40, 60, 0, 0);
    draw(oct_sched_next(t.sched));
    small_add_as(&t, 2, 40, 60, 1, 0);
    for (int k = 0; k < 4; k++) {
        const oct_sched_plan *p = oct_sched_next(t.sched);
        assert_int_equal(p->n_preempted, 0);
        assert_int_equal(p->n_items, 2);
        assert_int_equal(oct_sched_n_running(t.sched), 2);
        draw(p);
    }
    /* In the plan that ends the first prompt it is worth it. */
    uint32_t n = 0;
    while (t.q[1].n_computed < 40) {
        assert_int_equal(n, 0);
        const oct_sched_plan *p = oct_sched_next(t.sched);
        n += p->n_preempted;
        draw(p);
    }
    assert_int_equal(n, 1);
    assert_int_equal(t.q[0].state, OCT_SCHED_WAITING);
    assert_int_equal(t.q[2].state, OCT_SCHED_RUNNING);
    small_fini(&t);
}

/* All that worse ones hold is not enough. */
static void nobody_goes_for_one_that_does_not_fit_then(void **s) {
    (void)s;
    small t;
    oct_sched_options o = limits(4, 64, 4);
    o.by_priority = true;
    small_init(&t, 10, o);
    small_add_as(&t, 0, 24, 28, 0, 0); /* 7 blocks */
    small_add_as(&t, 1, 3, 8, 2, 0);   /* 1 */
    draw(oct_sched_next(t.sched));
    assert_int_equal(oct_sched_n_running(t.sched), 2);
    small_add_as(&t, 2, 20, 24, 1, 0); /* 5 */
    const oct_sched_plan *p = oct_sched_next(t.sched);
    assert_int_equal(p->n_preempted, 0);
    assert_int_equal(p->n_items, 2);
    small_fini(&t);
}

static void a_plan_taken_back_left_no_trace(void **s) {
    (void)s;
    small t;
    small_init(&t, 64, limits(4, 16, 4));
    small_add(&t, 0, 6, 20);
    draw(oct_sched_next(t.sched));
    small_add(&t, 1, 40, 60);
    const uint32_t n_free = oct_kv_pool_n_free(t.pool);
    const oct_sched_plan *p = oct_sched_next(t.sched);
    assert_int_equal(p->n_items, 2);
    oct_sched_take_back(t.sched);
    assert_int_equal(p->n_items, 0);
    assert_int_equal(t.q[0].n_computed, 6);
    assert_int_equal(t.q[1].state, OCT_SCHED_WAITING);
    assert_int_equal(t.q[1].n_computed, 0);
    assert_int_equal(oct_kv_pool_n_free(t.pool), n_free);
    p = oct_sched_next(t.sched);
    assert_int_equal(p->n_items, 2);
    assert_int_equal(t.q[0].n_computed, 7);
    assert_int_equal(p->n_rows, 16);
    small_fini(&t);
}

/* ---- rows for prompts ---- */

static void decodes_wait_no_longer_than_asked_for(void **s) {
    (void)s;
    small t;
    oct_sched_options o = limits(4, 128, 4);
    o.max_decode_wait_ns = 1000;
    small_init(&t, 64, o);
    oct_sched_set_cost(t.sched, 200, 50);
    small_add(&t, 0, 40, 60);
    const oct_sched_plan *p = oct_sched_next(t.sched); /* nobody decodes, nobody waits */
    assert_int_equal(p->n_rows, 40);
    draw(p);
    small_add(&t, 1, 100, 120);
    p = oct_sched_next(t.sched); /* (1000 - 200) / 50 beside the decode */
    assert_int_equal(item_of(p, &t.q[1])->n_rows, 16);
    draw(p);
    oct_sched_set_cost(t.sched, 1200, 50); /* decodes alone take longer: a block at least */
    p = oct_sched_next(t.sched);
    assert_int_equal(item_of(p, &t.q[1])->n_rows, 4);
    draw(p);
    oct_sched_set_cost(t.sched, 0, 0); /* not known: no limit */
    p = oct_sched_next(t.sched);
    assert_int_equal(item_of(p, &t.q[1])->n_rows, 80);
    small_fini(&t);
}

static void long_prompts_are_begun_one_after_the_other(void **s) {
    (void)s;
    small t;
    oct_sched_options o = limits(8, 64, 8);
    o.max_chunk_tokens = 8;
    o.max_long_partials = 1;
    small_init(&t, 256, o);
    small_add(&t, 0, 30, 40);
    small_add(&t, 1, 30, 40);
    for (int i = 2; i < 5; i++) small_add(&t, i, 8, 40);
    const oct_sched_plan *p = oct_sched_next(t.sched);
    assert_int_equal(p->n_items, 4); /* the second long one is passed by the short ones */
    assert_null(item_of(p, &t.q[1]));
    for (int k = 0; k < 4; k++) assert_int_equal(p->items[k].n_rows, 8);
    draw(p);
    for (int k = 0; k < 2; k++) {
        p = oct_sched_next(t.sched);
        assert_null(item_of(p, &t.q[1]));
        draw(p);
    }
    p = oct_sched_next(t.sched);
    assert_true(item_of(p, &t.q[0])->samples);
    assert_int_equal(item_of(p, &t.q[1])->n_rows, 8);
    small_fini(&t);
}

static void no_more_prompts_are_begun_than_allowed(void **s) {
    (void)s;
    small t;
    oct_sched_options o = limits(8, 64, 8);
    o.max_chunk_tokens = 8;
    o.max_partial_prefills = 2;
    small_init(&t, 256, o);
    for (int i = 0; i < 5; i++) small_add(&t, i, i == 3 ? 8 : 20, 40);
    const oct_sched_plan *p = oct_sched_next(t.sched);
    assert_int_equal(p->n_items, 3); /* two, and one that is done at once */
    assert_true(item_of(p, &t.q[3])->samples);
    assert_null(item_of(p, &t.q[2]));
    small_fini(&t);
}

/* One prompt of ten steps and a stream of short ones: nobody waits for the other's end. */
static void many_small_ones_and_a_huge_one(void **s) {
    (void)s;
    small t;
    small_init(&t, 256, limits(8, 20, 8));
    small_add(&t, 0, 200, 240);
    uint32_t n_done = 0, n_steps = 0, i = 1;
    while (t.q[0].n_tokens == 200) {
        small_add(&t, (int)i, 8, 9);
        const oct_sched_plan *p = oct_sched_next(t.sched);
        const oct_sched_item *huge = item_of(p, &t.q[0]), *little = item_of(p, &t.q[i]);
        assert_true(p->n_rows == 20 || huge->samples);
        assert_true(huge->n_rows >= 10 || huge->samples);
        assert_true(little && little->samples); /* in the step after it came */
        draw(p);
        oct_sched_remove(t.sched, &t.q[i]);
        i = i % 7 + 1;
        n_done++;
        n_steps++;
    }
    assert_true(n_done >= 15 && n_steps <= 20);
    small_fini(&t);
}

/* ---- groups ---- */

static void one_of_a_group_computes_the_prompt(void **s) {
    (void)s;
    small t;
    small_init(&t, 256, limits(8, 28, 8));
    for (int i = 0; i < 4; i++) {
        small_add_as(&t, i, 30, 40, 0, i < 3 ? 7 : 0);
        small_text(&t, i, i < 3 ? 30 : 0);
    }
    small_add(&t, 4, 5, 40);
    const oct_sched_plan *p = oct_sched_next(t.sched);
    assert_non_null(item_of(p, &t.q[0]));
    assert_null(item_of(p, &t.q[1]));
    assert_null(item_of(p, &t.q[2]));
    assert_non_null(item_of(p, &t.q[4])); /* they are passed */
    collect(&t, p);
    p = oct_sched_next(t.sched); /* the rest of the leader's prompt */
    assert_true(item_of(p, &t.q[0])->samples);
    assert_null(item_of(p, &t.q[1]));
    collect(&t, p);
    p = oct_sched_next(t.sched);
    for (int i = 1; i < 3; i++) {
        assert_int_equal(item_of(p, &t.q[i])->first, 28);
        assert_true(item_of(p, &t.q[i])->samples);
        assert_ptr_equal(t.q[i].table.blocks[6], t.q[0].table.blocks[6]);
    }
    small_fini(&t);
}

static void a_group_whose_leader_leaves_goes_on(void **s) {
    (void)s;
    small t;
    small_init(&t, 256, limits(8, 64, 8));
    for (int i = 0; i < 3; i++) {
        small_add_as(&t, i, 30, 40, 0, 7);
        small_text(&t, i, 30);
    }
    oct_sched_next(t.sched);
    oct_sched_remove(t.sched, &t.q[0]); /* before its step was collected */
    const oct_sched_plan *p = oct_sched_next(t.sched);
    assert_int_equal(item_of(p, &t.q[1])->n_rows, 30);
    assert_null(item_of(p, &t.q[2]));
    oct_kv_prefix_reset(t.prefix); /* what the second one computes will never be found */
    p = oct_sched_next(t.sched);
    assert_int_equal(item_of(p, &t.q[2])->first, 0);
    small_fini(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_go_first_and_prompts_share_the_rest),
        cmocka_unit_test(KV2_the_newest_is_preempted),
        cmocka_unit_test(KV1_what_can_never_fit_is_known),
        cmocka_unit_test(a_prompt_whose_logits_are_wanted_is_cut_to_the_budget),
        cmocka_unit_test(nobody_is_let_in_on_blocks_that_others_will_need),
        cmocka_unit_test(contradicting_options_are_refused),
        cmocka_unit_test(a_known_beginning_is_not_computed_again),
        cmocka_unit_test(KV7_what_was_not_collected_is_not_found),
        cmocka_unit_test(KV2_a_preempted_one_finds_its_own_blocks),
        cmocka_unit_test(RQ_wanted_prompt_logits_are_computed),
        cmocka_unit_test(KV7_eviction_leaves_what_is_shared),
        cmocka_unit_test(lower_priority_numbers_go_first),
        cmocka_unit_test(a_better_one_takes_the_place_of_the_last),
        cmocka_unit_test(a_better_one_takes_the_blocks_of_the_worst_and_of_no_other),
        cmocka_unit_test(a_better_one_takes_the_only_place),
        cmocka_unit_test(nobody_goes_for_one_that_waits_for_a_place_among_prompts),
        cmocka_unit_test(nobody_goes_for_one_that_does_not_fit_then),
        cmocka_unit_test(a_plan_taken_back_left_no_trace),
        cmocka_unit_test(decodes_wait_no_longer_than_asked_for),
        cmocka_unit_test(long_prompts_are_begun_one_after_the_other),
        cmocka_unit_test(no_more_prompts_are_begun_than_allowed),
        cmocka_unit_test(many_small_ones_and_a_huge_one),
        cmocka_unit_test(one_of_a_group_computes_the_prompt),
        cmocka_unit_test(a_group_whose_leader_leaves_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
