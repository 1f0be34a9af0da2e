/* text/stop.h: rows RQ11 and SM1 of the bad-input table, against a search over the whole text. */
#include "text_files.h"

#include <time.h>

#include "text/stop.h"

static oct_stop_set *set_of(const char *const *strings, size_t n, bool include) {
    oct_str s[OCT_STOP_MAX_STRINGS];
    oct_stop_set *set = NULL;
    for (size_t i = 0; i < n; i++) s[i] = oct_str_of(strings[i]);
    assert_int_equal(oct_stop_set_create(MEM, s, n, include, &set, NULL), OCT_OK);
    return set;
}

static void push_is(oct_stop *s, const char *text, const char *want, int index) {
    oct_buf out;
    oct_buf_init(&out, MEM, 0);
    assert_int_equal(oct_stop_push(s, oct_str_of(text), true, &out), index);
    assert_string_equal(oct_buf_cs(&out), want);
    oct_buf_fini(&out);
}

static void SM1_stop_string_split_over_tokens(void **state) {
    (void)state;
    const char *const strings[] = {"</end>", "STOP"};
    oct_stop_set *set = set_of(strings, 2, false);
    oct_stop s;
    oct_stop_init(&s, set);
    push_is(&s, "ab</", "ab", -1);
    assert_int_equal(oct_stop_held(&s), 2);
    push_is(&s, "b>x<", "</b>x", -1); /* a false start is released */
    push_is(&s, "/en", "", -1);
    push_is(&s, "d>tail", "", 0);
    push_is(&s, "nothing after a match", "", -1);
    oct_stop_init(&s, set);
    push_is(&s, "one ST", "one ", -1);
    oct_buf out;
    oct_buf_init(&out, MEM, 0);
    oct_stop_flush(&s, &out);
    assert_string_equal(oct_buf_cs(&out), "ST"); /* the end releases what was held */
    oct_buf_fini(&out);
    oct_stop_set_destroy(set);
}

/* Without strings all text passes and nothing is held. */
static void no_strings_hold_nothing(void **state) {
    (void)state;
    oct_stop_set *none = set_of(NULL, 0, false);
    oct_stop_set *const sets[] = {NULL, none};
    for (size_t i = 0; i < OCT_COUNT(sets); i++) {
        oct_stop s;
        oct_buf out;
        oct_stop_init(&s, sets[i]);
        push_is(&s, "text", "text", -1);
        assert_int_equal(oct_stop_held(&s), 0);
        oct_buf_init(&out, MEM, 0);
        oct_stop_flush(&s, &out);
        assert_int_equal(out.len, 0);
        oct_buf_fini(&out);
    }
    oct_stop_set_destroy(none);
    oct_stop_set_destroy(NULL);
}

/* Behind a match nothing is held and nothing comes any more. */
static void nothing_is_held_behind_a_match(void **state) {
    (void)state;
    const char *const strings[] = {"ab"};
    oct_stop_set *set = set_of(strings, 1, false);
    oct_stop s;
    oct_buf out;
    oct_stop_init(&s, set);
    push_is(&s, "xab", "x", 0);
    assert_int_equal(oct_stop_held(&s), 0);
    oct_buf_init(&out, MEM, 0);
    oct_stop_flush(&s, &out);
    assert_int_equal(out.len, 0);
    oct_buf_fini(&out);
    oct_stop_set_destroy(set);
}

static void include_keeps_the_string_and_holds_nothing(void **state) {
    (void)state;
    const char *const strings[] = {"\n\n"};
    oct_stop_set *set = set_of(strings, 1, true);
    oct_stop s;
    oct_stop_init(&s, set);
    push_is(&s, "a\n", "a\n", -1);
    push_is(&s, "\nb", "\n", 0);
    push_is(&s, "c", "", -1);
    oct_stop_set_destroy(set);
}

static void first_end_counts_and_then_the_longest(void **state) {
    (void)state;
    const char *const strings[] = {"cd", "abcd", "bcdef", "d"};
    oct_stop_set *set = set_of(strings, 4, false);
    oct_stop s;
    oct_stop_init(&s, set);
    push_is(&s, "xabcdef", "x", 1);
    oct_stop_set_destroy(set);
}

static void not_armed_means_not_yet(void **state) {
    (void)state;
    const char *const strings[] = {"end"};
    oct_stop_set *set = set_of(strings, 1, false);
    oct_stop s;
    oct_buf out;
    oct_stop_init(&s, set);
    oct_buf_init(&out, MEM, 0);
    assert_int_equal(oct_stop_push(&s, OCT_STR("end of en"), false, &out), -1);
    assert_string_equal(oct_buf_cs(&out), "end of ");
    assert_int_equal(oct_stop_push(&s, OCT_STR("d"), true, &out), 0);
    assert_string_equal(oct_buf_cs(&out), "end of ");
    oct_buf_fini(&out);
    oct_stop_set_destroy(set);
}

static void RQ11_bad_strings(void **state) {
    (void)state;
    char longer[1026];
    oct_str many[17];
    oct_stop_set *set = NULL;
    oct_err err = {0};
    memset(longer, 'x', sizeof longer);
    for (size_t i = 0; i < 17; i++) many[i] = OCT_STR("x");
    assert_int_equal(oct_stop_set_create(MEM, many, 17, false, &set, &err), OCT_E_INVALID);
    assert_non_null(strstr(err.text, "17"));
    err = (oct_err){0};
    many[2] = (oct_str){longer, 1025};
    assert_int_equal(oct_stop_set_create(MEM, many, 16, false, &set, &err), OCT_E_INVALID);
    assert_non_null(strstr(err.text, "stop[2]"));
    err = (oct_err){0};
    many[2] = OCT_STR("");
    assert_int_equal(oct_stop_set_create(MEM, many, 16, false, &set, &err), OCT_E_INVALID);
    assert_non_null(strstr(err.text, "empty"));
    many[2] = (oct_str){longer, 1024};
    assert_int_equal(oct_stop_set_create(MEM, many, 16, false, &set, &err), OCT_OK);
    oct_stop_set_destroy(set);
}

static void without_strings_all_passes(void **state) {
    (void)state;
    oct_stop s;
    oct_stop_set *set = NULL;
    assert_int_equal(oct_stop_set_create(MEM, NULL, 0, false, &set, NULL), OCT_OK);
    oct_stop_init(&s, set);
    push_is(&s, "any text", "any text", -1);
    oct_stop_init(&s, NULL);
    push_is(&s, "any text", "any text", -1);
    oct_stop_set_destroy(set);
}

static uint64_t seed = 1234567;
static uint32_t dice(uint32_t n) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed % n);
}

/* Where the first match ends by plain search; SIZE_MAX: nowhere. *from: where the longest that ends
 * there begins. */
static size_t plain_search(const char *text, char strings[][8], size_t n, size_t *from) {
    const size_t len = strlen(text);
    for (size_t end = 1; end <= len; end++) {
        size_t best = 0;
        for (size_t k = 0; k < n; k++) {
            const size_t m = strlen(strings[k]);
            if (m <= end && m > best && memcmp(text + end - m, strings[k], m) == 0) best = m;
        }
        if (best) {
            *from = end - best;
            return end;
        }
    }
    return SIZE_MAX;
}

static void random_texts_agree_with_plain_search(void **state) {
    (void)state;
    for (int round = 0; round < 20000; round++) {
        char strings[4][8] = {"", "", "", ""}, text[64] = "";
        const char *list[4];
        const size_t n = 1 + dice(4), len = dice(60);
        for (size_t k = 0; k < n; k++) {
            const size_t m = 1 + dice(6);
            for (size_t i = 0; i < m; i++) strings[k][i] = (char)('a' + dice(2));
            list[k] = strings[k];
        }
        for (size_t i = 0; i < len; i++) text[i] = (char)('a' + dice(2) + (dice(9) == 0));
        const bool include = dice(2);
        oct_stop_set *set = set_of(list, n, include);
        oct_stop s;
        oct_buf out;
        int index = -1;
        oct_stop_init(&s, set);
        oct_buf_init(&out, MEM, 0);
        for (size_t i = 0; i < len;) {
            const size_t m = 1 + dice(5) < len - i ? 1 : len - i;
            const int got = oct_stop_push(&s, (oct_str){text + i, m}, true, &out);
            if (got >= 0) index = got;
            i += m;
        }
        oct_stop_flush(&s, &out);
        size_t from = 0;
        const size_t end = plain_search(text, strings, n, &from);
        assert_int_equal(index >= 0, end != SIZE_MAX);
        const size_t want = end == SIZE_MAX ? len : include ? end : from;
        assert_int_equal(out.len, want);
        assert_memory_equal(oct_buf_cs(&out), text, want);
        oct_buf_fini(&out);
        oct_stop_set_destroy(set);
    }
}

static double cpu_of(const oct_stop_set *set, size_t n_tokens) {
    oct_stop s;
    oct_buf out;
    const clock_t begin = clock();
    oct_stop_init(&s, set);
    oct_buf_init(&out, MEM, 0);
    for (size_t i = 0; i < n_tokens; i++) {
        oct_buf_clear(&out);
        assert_int_equal(oct_stop_push(&s, OCT_STR("aaaa"), true, &out), -1);
    }
    oct_buf_fini(&out);
    return (double)(clock() - begin) / CLOCKS_PER_SEC;
}

/* 10^5 tokens against 16 strings of 1,024 bytes that nearly match everywhere. */
static void RQ11_matching_stays_linear(void **state) {
    (void)state;
    static char texts[16][1025];
    const char *list[16];
    for (size_t k = 0; k < 16; k++) {
        memset(texts[k], 'a', 1024);
        texts[k][1023 - k] = 'b';
        list[k] = texts[k];
    }
    oct_stop_set *set = set_of(list, 16, false);
    const double one = cpu_of(set, 50000), two = cpu_of(set, 100000);
    print_message("50,000 tokens: %.3f s, 100,000: %.3f s\n", one, two);
    assert_true(two < 2.2 * one + 0.05);
    oct_stop_set_destroy(set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(SM1_stop_string_split_over_tokens),
        cmocka_unit_test(no_strings_hold_nothing),
        cmocka_unit_test(nothing_is_held_behind_a_match),
        cmocka_unit_test(include_keeps_the_string_and_holds_nothing),
        cmocka_unit_test(first_end_counts_and_then_the_longest),
        cmocka_unit_test(not_armed_means_not_yet),
        cmocka_unit_test(RQ11_bad_strings),
        cmocka_unit_test(without_strings_all_passes),
        cmocka_unit_test(random_texts_agree_with_plain_search),
        cmocka_unit_test(RQ11_matching_stays_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
