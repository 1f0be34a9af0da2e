/* test_kv.c - the pool counts right, the table grows all or nothing, and refused memory is
 * survived. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/attr.h"
#include "kv/block_pool.h"
#include "kv/block_table.h"

static oct_kv_pool *new_pool(uint32_t n) {
    oct_kv_pool *p;
    assert_int_equal(oct_kv_pool_create(oct_system_allocator(), n, &p, NULL), OCT_OK);
    return p;
}

static void every_block_is_dealt_once(void **s) {
    (void)s;
    enum { N = 37 };
    oct_kv_pool *p = new_pool(N);
    oct_kv_block b[N];
    bool seen[N] = {0};
    assert_int_equal(oct_kv_pool_acquire(p, N, b), OCT_OK);
    for (int i = 0; i < N; i++) {
        assert_in_range(b[i], 0, N - 1);
        assert_false(seen[b[i]]);
        seen[b[i]] = true;
    }
    assert_int_equal(oct_kv_pool_n_free(p), 0);
    oct_kv_pool_check(p);
    for (int i = 0; i < N; i++) oct_kv_pool_release(p, b[i]);
    oct_kv_pool_check(p);
    oct_kv_pool_destroy(p);
}

static void too_many_takes_none(void **s) {
    (void)s;
    oct_kv_pool *p = new_pool(4);
    oct_kv_block b[5] = {9, 9, 9, 9, 9};
    assert_int_equal(oct_kv_pool_acquire(p, 5, b), OCT_E_FULL);
    assert_int_equal(oct_kv_pool_n_free(p), 4);
    for (int i = 0; i < 5; i++) assert_int_equal(b[i], 9);
    assert_int_equal(oct_kv_pool_acquire(p, 0, b), OCT_OK);
    oct_kv_pool_destroy(p);
}

static void a_shared_block_stays_until_the_last_release(void **s) {
    (void)s;
    oct_kv_pool *p = new_pool(2);
    oct_kv_block b;
    assert_int_equal(oct_kv_pool_acquire(p, 1, &b), OCT_OK);
    oct_kv_pool_retain(p, b);
    assert_int_equal(oct_kv_pool_n_refs(p, b), 2);
    oct_kv_pool_release(p, b);
    assert_int_equal(oct_kv_pool_n_free(p), 1);
    oct_kv_pool_check(p);
    oct_kv_pool_release(p, b);
    assert_int_equal(oct_kv_pool_n_free(p), 2);
    oct_kv_pool_check(p);
    oct_kv_pool_destroy(p);
}

static void sizes_out_of_range_are_refused(void **s) {
    (void)s;
    const uint32_t sizes[] = {0, OCT_KV_MAX_BLOCKS + 1, UINT32_MAX};
    for (size_t i = 0; i < OCT_COUNT(sizes); i++) {
        oct_kv_pool *p;
        oct_err err = {0};
        assert_int_equal(oct_kv_pool_create(oct_system_allocator(), sizes[i], &p, &err),
                         OCT_E_INVALID);
        assert_null(p);
        assert_true(err.text[0] != 0);
    }
}

static void KV9_no_memory_for_the_pool(void **s) {
    (void)s;
    oct_fault_alloc f;
    oct_fault_alloc_init(&f, 0, 1);
    oct_kv_pool *p;
    oct_err err = {0};
    assert_int_equal(oct_kv_pool_create(&f.allocator, 8, &p, &err), OCT_E_NOMEM);
    assert_null(p);
    assert_int_equal(f.live_blocks, 0);
}

static void a_table_grows_by_whole_blocks(void **s) {
    (void)s;
    oct_kv_pool *p = new_pool(4);
    oct_kv_block storage[8];
    oct_kv_table t;
    oct_kv_table_init(&t, storage, 8, 32);
    const uint32_t tokens[] = {0, 1, 31, 32, 33, 64, 65, 128}, blocks[] = {0, 1, 1, 1, 2, 2, 3, 4};
    for (size_t i = 0; i < OCT_COUNT(tokens); i++) {
        assert_int_equal(oct_kv_table_grow(&t, p, tokens[i]), OCT_OK);
        assert_int_equal(t.n_blocks, blocks[i]);
        oct_kv_table_check(&t, p);
    }
    assert_int_equal(oct_kv_table_grow(&t, p, 5), OCT_OK); /* never shrinks */
    assert_int_equal(t.n_blocks, 4);
    assert_int_equal(oct_kv_table_grow(&t, p, 129), OCT_E_FULL);
    assert_int_equal(t.n_blocks, 4);
    for (uint32_t pos = 0; pos < 128; pos++)
        assert_int_equal(oct_kv_table_slot(&t, pos), t.blocks[pos / 32] * 32 + pos % 32);
    oct_kv_table_release(&t, p);
    oct_kv_table_release(&t, p);
    assert_int_equal(oct_kv_pool_n_free(p), 4);
    oct_kv_pool_check(p);
    oct_kv_pool_destroy(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_is_dealt_once),
        cmocka_unit_test(too_many_takes_none),
        cmocka_unit_test(a_shared_block_stays_until_the_last_release),
        cmocka_unit_test(sizes_out_of_range_are_refused),
        cmocka_unit_test(KV9_no_memory_for_the_pool),
        cmocka_unit_test(a_table_grows_by_whole_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
