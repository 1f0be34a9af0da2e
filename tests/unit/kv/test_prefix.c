/* test_prefix.c - the prefix index finds what was entered, nothing else, and forgets in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kv/prefix_index.h"

enum { BLOCK = 4, N = 12, MOST = 8 };

static const oct_allocator *mem;
static oct_kv_pool *pool;
static oct_kv_prefix *prefix;

static void begin(uint32_t n_blocks, uint32_t hash_bits) {
    const oct_kv_prefix_options o = {.block_tokens = BLOCK, .seed = 7, .hash_bits = hash_bits};
    mem = oct_system_allocator();
    assert_int_equal(oct_kv_pool_create(mem, n_blocks, &pool, NULL), OCT_OK);
    assert_int_equal(oct_kv_prefix_create(mem, pool, &o, &prefix, NULL), OCT_OK);
}
static void end(void) {
    oct_kv_prefix_check(prefix);
    oct_kv_pool_check(pool);
    oct_kv_prefix_destroy(prefix);
    oct_kv_pool_check(pool);
    oct_kv_pool_destroy(pool);
}

/* Text number k: the first n_same tokens are those of text 0. */
static const int32_t *text(int k, uint32_t n_same) {
    static int32_t ids[MOST * BLOCK];
    for (uint32_t i = 0; i < MOST * BLOCK; i++)
        ids[i] = (int32_t)(i < n_same ? i : (uint32_t)k * 100 + i);
    return ids;
}

/* A sequence of n blocks comes, computes what is not known, and goes on holding its blocks. */
typedef struct holder {
    oct_kv_block blocks[MOST];
    uint32_t n, n_found;
    oct_kv_chain chain;
} holder;

static holder come(uint64_t root, const int32_t *ids, uint32_t n) {
    holder h = {.n = n};
    h.n_found = oct_kv_prefix_find(prefix, root, ids, n, h.blocks, &h.chain);
    for (uint32_t i = 0; i < h.n_found; i++) oct_kv_pool_take(pool, h.blocks[i]);
    assert_int_equal(oct_kv_pool_acquire(pool, n - h.n_found, h.blocks + h.n_found), OCT_OK);
    oct_kv_prefix_enter(prefix, &h.chain, ids, h.blocks, n);
    oct_kv_prefix_check(prefix);
    oct_kv_pool_check(pool);
    return h;
}
static void go(holder *h) {
    while (h->n > 0) oct_kv_pool_release(pool, h->blocks[--h->n]);
    oct_kv_pool_check(pool);
}
static uint32_t known(uint64_t root, const int32_t *ids) {
    oct_kv_block b[MOST];
    oct_kv_chain c;
    return oct_kv_prefix_find(prefix, root, ids, MOST, b, &c);
}

static void hits_of_every_length(void **s) {
    (void)s;
    begin(32, 0);
    holder a = come(0, text(0, 0), MOST);
    assert_int_equal(a.n_found, 0);
    for (uint32_t same = 0; same <= MOST * BLOCK; same++)
        assert_int_equal(known(0, text(1, same)), same / BLOCK);
    go(&a); /* and when nobody holds them */
    for (uint32_t same = 0; same <= MOST * BLOCK; same++)
        assert_int_equal(known(0, text(1, same)), same / BLOCK);
    holder b = come(0, text(2, 3 * BLOCK), MOST);
    assert_int_equal(b.n_found, 3);
    holder c = come(0, text(3, 3 * BLOCK), MOST);
    assert_int_equal(c.n_found, 3);
    for (int i = 0; i < 3; i++) assert_int_equal(oct_kv_pool_n_refs(pool, c.blocks[i]), 2);
    go(&b);
    go(&c);
    end();
}

static void the_same_block_elsewhere_in_a_text_is_another(void **s) {
    (void)s;
    int32_t ids[MOST * BLOCK];
    begin(32, 0);
    memset(ids, 0, sizeof ids); /* all blocks have the same ids */
    holder a = come(0, ids, 3);
    assert_int_equal(known(0, ids), 3);
    ids[0] = 1; /* another first block: the rest is not found behind it */
    assert_int_equal(known(0, ids), 0);
    go(&a);
    end();
}

static void KV4_colliding_hashes_serve_nothing_foreign(void **s) {
    (void)s;
    begin(400, 1); /* every entry hashes to 0 or 1 */
    holder h[40];
    uint32_t of_common[2] = {0}; /* blocks of text 0 that are known, without and with salt */
    for (int i = 0; i < 40; i++) {
        h[i] = come(i % 2 ? oct_kv_prefix_root(prefix, OCT_STR("salt")) : 0,
                    text(i, (uint32_t)i % 3 * BLOCK), MOST);
        uint32_t *most = &of_common[i % 2], same = (uint32_t)i % 3;
        assert_int_equal(h[i].n_found, same < *most ? same : *most);
        if (i == 0) same = MOST; /* it is the common text */
        if (same > *most) *most = same;
    }
    for (int i = 0; i < 40; i++) go(&h[i]);
    end();
}

static void KV5_salts_share_nothing(void **s) {
    (void)s;
    begin(64, 0);
    const uint64_t one = oct_kv_prefix_root(prefix, OCT_STR("one"));
    const uint64_t two = oct_kv_prefix_root(prefix, OCT_STR("two"));
    assert_true(one != 0 && two != 0 && one != two);
    assert_int_equal(oct_kv_prefix_root(prefix, OCT_STR("one")), one);
    assert_int_equal(oct_kv_prefix_root(prefix, OCT_STR("")), 0);
    holder a = come(one, text(0, 0), MOST);
    assert_int_equal(known(one, text(0, 0)), MOST);
    assert_int_equal(known(two, text(0, 0)), 0);
    assert_int_equal(known(0, text(0, 0)), 0);
    go(&a);
    /* A flood of salts: the oldest are forgotten, and their numbers are not given to others. */
    for (int i = 0; i < OCT_KV_N_SALTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "flood %d", i);
        const uint64_t root = oct_kv_prefix_root(prefix, oct_str_of(name));
        assert_true(root > two);
        assert_int_equal(known(root, text(0, 0)), 0);
    }
    assert_true(oct_kv_prefix_root(prefix, OCT_STR("one")) != one);
    end();
}

static void the_longest_unused_goes_first_and_ends_before_beginnings(void **s) {
    (void)s;
    begin(N, 0);
    holder a = come(0, text(1, 0), 4), b = come(0, text(2, 0), 4), c = come(0, text(3, 0), 4);
    go(&b);
    go(&a);
    go(&c);
    holder again = come(0, text(2, 0), 4); /* found, and younger than the others now */
    assert_int_equal(again.n_found, 4);
    go(&again);
    const int order[] = {1, 3, 2};
    for (int k = 0; k < 3; k++)
        for (uint32_t left = 4; left-- > 0;) {
            oct_kv_block one;
            assert_int_equal(oct_kv_pool_acquire(pool, 1, &one), OCT_OK);
            assert_int_equal(known(0, text(order[k], 0)), left);
            oct_kv_prefix_check(prefix);
        }
    oct_kv_prefix_stats st;
    oct_kv_prefix_get_stats(prefix, &st);
    assert_int_equal(st.n_entries, 0);
    assert_int_equal(st.n_evicted, 12);
    for (oct_kv_block i = 0; i < N; i++) oct_kv_pool_release(pool, i);
    end();
}

static void blocks_without_content_go_before_all_others(void **s) {
    (void)s;
    begin(N, 0);
    holder a = come(0, text(1, 0), 4);
    go(&a);
    for (int i = 0; i < 100; i++) { /* short requests that fill no block */
        oct_kv_block b[3];
        assert_int_equal(oct_kv_pool_acquire(pool, 3, b), OCT_OK);
        for (int k = 0; k < 3; k++) oct_kv_pool_release(pool, b[k]);
    }
    assert_int_equal(known(0, text(1, 0)), 4);
    end();
}

/* Two compute the same text at once: one entry, and what comes behind is found by both ways. */
static void a_duplicate_stays_without_entry(void **s) {
    (void)s;
    oct_kv_block b[2][2];
    oct_kv_chain c[2];
    const int32_t *ids = text(0, 0);
    begin(N, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(oct_kv_prefix_find(prefix, 0, ids, 2, b[i], &c[i]), 0);
        assert_int_equal(oct_kv_pool_acquire(pool, 2, b[i]), OCT_OK);
    }
    for (int i = 0; i < 2; i++) oct_kv_prefix_enter(prefix, &c[i], ids, b[i], 1);
    assert_true(oct_kv_pool_is_kept(pool, b[0][0]));
    assert_false(oct_kv_pool_is_kept(pool, b[1][0]));
    assert_int_equal(c[0].serial, c[1].serial);
    oct_kv_prefix_enter(prefix, &c[1], ids, b[1], 2); /* the second one is further */
    assert_int_equal(known(0, ids), 2);
    /* The first one's copy of block 1 comes while that of the second is free: the entry moves. */
    for (int k = 2; k-- > 0;) oct_kv_pool_release(pool, b[1][k]);
    oct_kv_prefix_enter(prefix, &c[0], ids, b[0], 2);
    assert_true(oct_kv_pool_is_kept(pool, b[0][1]));
    assert_false(oct_kv_pool_is_kept(pool, b[1][1]));
    assert_int_equal(known(0, ids), 2);
    oct_kv_prefix_stats st;
    oct_kv_prefix_get_stats(prefix, &st);
    assert_int_equal(st.n_entered, 2);
    assert_int_equal(st.n_duplicates, 1);
    assert_int_equal(st.n_moved, 1);
    for (int k = 2; k-- > 0;) oct_kv_pool_release(pool, b[0][k]);
    end();
}

static void RL6_reset_forgets_all_and_old_chains_enter_nothing(void **s) {
    (void)s;
    begin(32, 0);
    const uint64_t root = oct_kv_prefix_root(prefix, OCT_STR("tenant"));
    holder a = come(root, text(1, 0), 4);
    holder b = come(0, text(2, 0), 4);
    oct_kv_block block;
    oct_kv_chain old;
    oct_kv_prefix_find(prefix, 0, text(3, 0), 0, &block, &old); /* began before, is done after */
    assert_int_equal(oct_kv_pool_acquire(pool, 1, &block), OCT_OK);
    go(&a);
    oct_kv_prefix_reset(prefix);
    oct_kv_prefix_check(prefix);
    oct_kv_pool_check(pool);
    assert_int_equal(oct_kv_prefix_epoch(prefix), 1);
    assert_int_equal(known(root, text(1, 0)), 0);
    assert_int_equal(known(0, text(2, 0)), 0);
    oct_kv_prefix_enter(prefix, &old, text(3, 0), &block, 1);
    assert_int_equal(known(0, text(3, 0)), 0);
    oct_kv_pool_release(pool, block);
    holder c = come(0, text(2, 0), 4);
    assert_int_equal(c.n_found, 0);
    assert_int_equal(known(0, text(2, 0)), 4);
    go(&b);
    go(&c);
    end();
}

static void KV9_no_memory_for_the_index(void **s) {
    (void)s;
    const oct_kv_prefix_options o = {.block_tokens = BLOCK};
    assert_int_equal(oct_kv_pool_create(oct_system_allocator(), N, &pool, NULL), OCT_OK);
    for (size_t at = 0;; at++) {
        oct_fault_alloc f;
        oct_err err = {0};
        oct_fault_alloc_init(&f, at, 1);
        const oct_status st = oct_kv_prefix_create(&f.allocator, pool, &o, &prefix, &err);
        if (st == OCT_OK) {
            oct_kv_prefix_destroy(prefix);
            assert_int_equal(f.live_blocks, 0);
            break;
        }
        assert_int_equal(st, OCT_E_NOMEM);
        assert_null(prefix);
        assert_int_equal(f.live_blocks, 0);
        assert_true(at < 20);
    }
    oct_kv_prefix_destroy(NULL);
    oct_kv_pool_destroy(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_of_every_length),
        cmocka_unit_test(the_same_block_elsewhere_in_a_text_is_another),
        cmocka_unit_test(KV4_colliding_hashes_serve_nothing_foreign),
        cmocka_unit_test(KV5_salts_share_nothing),
        cmocka_unit_test(the_longest_unused_goes_first_and_ends_before_beginnings),
        cmocka_unit_test(blocks_without_content_go_before_all_others),
        cmocka_unit_test(a_duplicate_stays_without_entry),
        cmocka_unit_test(RL6_reset_forgets_all_and_old_chains_enter_nothing),
        cmocka_unit_test(KV9_no_memory_for_the_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
