/* codec/utf8.h against the definition: every code point, every pair of bytes, and known bad runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/utf8.h"

static void every_code_point(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp <= 0x110010; cp++) {
        char text[4];
        uint32_t back;
        size_t len;
        const size_t n = oct_utf8_encode(cp, text);
        const bool legal = cp <= 0x10FFFF && !(cp >= 0xD800 && cp <= 0xDFFF);
        assert_int_equal(n > 0, legal);
        if (!legal) continue;
        assert_int_equal(oct_utf8_next((oct_str){text, n}, &back, &len), OCT_UTF8_OK);
        assert_true(back == cp && len == n);
        for (size_t cut = 1; cut < n; cut++) {
            assert_int_equal(oct_utf8_next((oct_str){text, cut}, &back, &len), OCT_UTF8_CUT);
            assert_int_equal(len, cut);
            assert_int_equal(oct_utf8_complete_len((oct_str){text, cut}), 0);
        }
        assert_int_equal(oct_utf8_complete_len((oct_str){text, n}), n);
    }
}

static void repaired(oct_str in, const char *want, size_t count) {
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_utf8_repair(&b, in);
    assert_string_equal(oct_buf_cs(&b), want);
    assert_true(oct_utf8_valid(oct_buf_view(&b), NULL));
    assert_int_equal(oct_utf8_count(in), count);
    oct_buf_fini(&b);
}

#define R "\xEF\xBF\xBD"

static void invalid_runs(void **state) {
    (void)state;
    repaired(OCT_STR("a\xF1\x80\x80\xE1\x80\xC2"
                     "b\x80"
                     "c\x80\xBF"
                     "d"),
             "a" R R R "b" R "c" R R "d", 10);
    repaired(OCT_STR("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
                     "A"),
             R R R R R R R R "A", 9);
    repaired(OCT_STR("\xED\xA0\x80"), R R R, 3);
    repaired(OCT_STR("\xF4\x91\x92\x93\xFF"
                     "A\x80\xBF"
                     "B"),
             R R R R R "A" R R "B", 9);
    repaired(OCT_STR("ok \xE2\x82"), "ok " R, 4);
    repaired(OCT_STR(""), "", 0);
    size_t bad = 99;
    assert_false(oct_utf8_valid(OCT_STR("ab\xC3"), &bad));
    assert_int_equal(bad, 2);
}

static void complete_prefix(void **state) {
    (void)state;
    static const struct {
        oct_str text;
        size_t want;
    } rows[] = {
        {{"", 0}, 0},
        {{"abc", 3}, 3},
        {{"abc\xC3", 4}, 3},
        {{"abc\xE2\x82", 5}, 3},
        {{"abc\xF0\x9F\x98", 6}, 3},
        {{"abc\xF0\x9F\x98\x80", 7}, 7},
        {{"abc\x80\x80\x80\x80", 7}, 7}, /* no first byte: cannot become valid */
        {{"abc\xE2\x41", 5}, 5},
        {{"abc\xED\xA0", 5}, 5}, /* start of a surrogate: bad, not cut */
        {{"abc\xFF", 4}, 4},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        assert_int_equal(oct_utf8_complete_len(rows[i].text), rows[i].want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point),
        cmocka_unit_test(invalid_runs),
        cmocka_unit_test(complete_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
