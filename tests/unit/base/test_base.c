/* Unit tests of the room base: checked against what the headers promise, refusals included. */
#include <malloc.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/checked.h"
#include "base/num.h"
#include "base/queue.h"
#include "base/status.h"
#include "base/thread.h"

static void err_keeps_first(void **state) {
    (void)state;
    oct_err err = {0};
    assert_int_equal(OCT_FAIL(&err, OCT_E_CORRUPT, "a\nb %d", 7), OCT_E_CORRUPT);
    assert_string_equal(err.text, "a?b 7");
    assert_int_equal(OCT_FAIL(&err, OCT_E_IO, "second"), OCT_E_IO);
    assert_string_equal(err.text, "a?b 7");
    oct_err_prefix(&err, "file %s", "x");
    assert_string_equal(err.text, "file x: a?b 7");
    assert_int_equal(OCT_FAIL(NULL, OCT_E_FULL, "nobody listens"), OCT_E_FULL);
}

static void numbers(void **state) {
    (void)state;
    int64_t i;
    uint64_t u;
    double d;
    char text[32];
    assert_true(oct_parse_i64(OCT_STR("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_false(oct_parse_i64(OCT_STR("9223372036854775808"), &i));
    assert_true(oct_parse_hex(OCT_STR("fFff0000ffff000a"), &u) && u == 0xffff0000ffff000a);
    assert_true(oct_parse_hex(OCT_STR("0x1"), &u) && u == 1);
    assert_false(oct_parse_hex(OCT_STR("10000000000000000"), &u) ||
                 oct_parse_hex(OCT_STR(""), &u) || oct_parse_hex(OCT_STR("0x"), &u) ||
                 oct_parse_hex(OCT_STR("-1"), &u) || oct_parse_hex(OCT_STR("g"), &u));
    assert_false(oct_parse_i64(OCT_STR("1x"), &i) || oct_parse_i64(OCT_STR(""), &i) ||
                 oct_parse_i64(OCT_STR("+1"), &i) || oct_parse_i64(OCT_STR("-"), &i));
    assert_true(oct_parse_scaled(OCT_STR("25.6k"), &u) && u == 25600);
    assert_true(oct_parse_scaled(OCT_STR("2K"), &u) && u == 2048);
    assert_true(oct_parse_scaled(OCT_STR("16GiB"), &u) && u == 16ull << 30);
    assert_true(oct_parse_scaled(OCT_STR("1.5GB"), &u) && u == 1500000000);
    assert_false(oct_parse_scaled(OCT_STR("iB"), &u) || oct_parse_scaled(OCT_STR("5iB"), &u) ||
                 oct_parse_scaled(OCT_STR("5B"), &u) || oct_parse_scaled(OCT_STR("GB"), &u));
    assert_false(oct_parse_scaled(OCT_STR("k"), &u) || oct_parse_scaled(OCT_STR("-1k"), &u));
    assert_false(oct_parse_f64(OCT_STR("nan"), &d) || oct_parse_f64(OCT_STR("1e999"), &d));
    assert_true(oct_parse_f64(OCT_STR("1e-3"), &d) && d == 1e-3);
    const struct {
        double v;
        const char *want;
    } rows[] = {{1, "1.0"},           {1e-7, "1e-07"},    {1e16, "1e+16"},
                {0.1, "0.1"},         {-0.0, "-0.0"},     {1e15, "1000000000000000.0"},
                {123.456, "123.456"}, {5e-324, "5e-324"}, {0.0001, "0.0001"},
                {2.5, "2.5"},         {100, "100.0"}};
    for (size_t k = 0; k < OCT_COUNT(rows); k++) {
        oct_format_f64(rows[k].v, text);
        assert_string_equal(text, rows[k].want);
    }
}

static void buffers_stop_at_the_limit(void **state) {
    (void)state;
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 8);
    oct_buf_cstr(&b, "12345");
    oct_buf_printf(&b, "%d", 6789);
    assert_true(b.failed);
    assert_string_equal(oct_buf_cs(&b), "12345");
    oct_buf_clear(&b);
    oct_buf_cstr(&b, "12345678");
    assert_false(b.failed);
    oct_buf_consume(&b, 6);
    assert_string_equal(oct_buf_cs(&b), "78");
    oct_buf_fini(&b);
}

static void arena_limit_and_faults(void **state) {
    (void)state;
    for (size_t k = 0;; k++) {
        oct_fault_alloc f;
        oct_arena a;
        bool refused = false;
        oct_fault_alloc_init(&f, k, 0);
        oct_arena_init(&a, &f.allocator, 1 << 20);
        for (int i = 0; i < 100; i++) {
            unsigned char *p = oct_arena_alloc(&a, 1, 1000);
            if (!p)
                refused = true;
            else
                assert_true(p[0] == 0 && p[999] == 0);
        }
        assert_null(oct_arena_alloc(&a, 1 << 20, 1));
        assert_null(oct_arena_alloc(&a, SIZE_MAX, 2));
        oct_arena_fini(&a);
        assert_int_equal(f.live_blocks, 0);
        assert_int_equal(f.live_bytes, 0);
        if (!refused) break;
    }
}

static void queue_is_bounded(void **state) {
    (void)state;
    oct_queue *q;
    int items[3];
    assert_int_equal(oct_queue_create(oct_system_allocator(), 2, &q), OCT_OK);
    assert_int_equal(oct_queue_push(q, &items[0]), OCT_OK);
    assert_int_equal(oct_queue_push(q, &items[1]), OCT_OK);
    assert_int_equal(oct_queue_push(q, &items[2]), OCT_E_FULL);
    assert_ptr_equal(oct_queue_pop(q, 0), &items[0]);
    oct_queue_wake(q); /* what is there is popped all the same, and the waking is used up */
    assert_ptr_equal(oct_queue_pop(q, UINT64_MAX), &items[1]);
    oct_queue_wake(q);
    assert_null(oct_queue_pop(q, UINT64_MAX));
    assert_null(oct_queue_pop(q, 1000));
    assert_int_equal(oct_queue_push(q, &items[1]), OCT_OK);
    oct_queue_close(q);
    assert_int_equal(oct_queue_push(q, &items[2]), OCT_E_CANCELLED);
    assert_ptr_equal(oct_queue_pop(q, UINT64_MAX), &items[1]);
    assert_null(oct_queue_pop(q, UINT64_MAX));
    oct_queue_destroy(q);
}

static void checked_arithmetic(void **state) {
    (void)state;
    uint64_t u;
    assert_false(oct_mul_u64((uint64_t)1 << 32, (uint64_t)1 << 32, &u));
    assert_false(oct_round_up_u64(UINT64_MAX - 3, 64, &u));
    assert_true(oct_round_up_u64(65, 64, &u) && u == 128);
}

static void *take_some(void *arg) {
    *(void **)arg = oct_alloc(oct_system_allocator(), 1, 1000);
    return NULL;
}

/* The heaps that the C library tells of (a sanitizer's tells of none). */
static size_t n_heaps(void) {
    char *text = NULL;
    size_t len = 0, n = 0;
    FILE *f = open_memstream(&text, &len);
    assert_non_null(f);
    malloc_info(0, f);
    fclose(f);
    for (const char *at = text; at && (at = strstr(at, "<heap nr")); at++) n++;
    free(text);
    return n;
}

static void threads_share_a_heap(void **state) {
    (void)state;
    enum { THREADS = 4 };
    oct_thread t[THREADS] = {0};
    void *p[THREADS] = {NULL};
    oct_memory_one_heap();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(oct_thread_start(&t[i], "heap", take_some, &p[i], NULL), OCT_OK);
    for (int i = 0; i < THREADS; i++) oct_thread_join(&t[i]);
    assert_true(n_heaps() <= 1);
    for (int i = 0; i < THREADS; i++) oct_free(oct_system_allocator(), p[i], 1, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_keeps_first),           cmocka_unit_test(numbers),
        cmocka_unit_test(buffers_stop_at_the_limit), cmocka_unit_test(arena_limit_and_faults),
        cmocka_unit_test(queue_is_bounded),          cmocka_unit_test(checked_arithmetic),
        cmocka_unit_test(threads_share_a_heap),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
