/* codec/json.h: rows CF1, CF2, HT8, TK6 and SM7 of the bad-input table, and the helpers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "codec/json.h"

/* Parses; when it is refused, the sentence goes to err and must name the place. */
static json_t *parse(oct_str text, const oct_json_limits *limits, oct_err *err) {
    json_t *v = NULL;
    *err = (oct_err){0};
    const oct_status status = oct_json_parse(text, "x.json", limits, &v, err);
    assert_int_equal(status == OCT_OK, v != NULL);
    if (!v) {
        assert_int_equal(status, OCT_E_INVALID);
        assert_int_equal(strncmp(err->text, "x.json: ", 8), 0);
        assert_non_null(strstr(err->text, "(at byte "));
    }
    return v;
}

static void refused(oct_str text, const oct_json_limits *limits, const char *word, long at) {
    oct_err err;
    char place[32];
    assert_null(parse(text, limits, &err));
    if (!strstr(err.text, word)) print_error("got: %s\n", err.text);
    assert_non_null(strstr(err.text, word));
    snprintf(place, sizeof place, "(at byte %ld", at);
    if (at >= 0 && !strstr(err.text, place)) print_error("got: %s, want %ld\n", err.text, at);
    if (at >= 0) assert_non_null(strstr(err.text, place));
}

static const oct_json_limits *const both[] = {&oct_json_file_limits, &oct_json_request_limits};

static void CF1_HT8_malformed(void **state) {
    (void)state;
    static const struct {
        oct_str text;
        const char *word;
        long at; /* -1: anywhere */
    } rows[] = {
        {{"", 0}, "empty", 0},
        {{"   ", 3}, "", -1},
        {{"{\"a\":1", 6}, "", 6},
        {{"{\"a\":1}x", 8}, "", -1},
        {{"{\"a\":1} {}", 10}, "", -1},
        {{"{\"a\":1,}", 8}, "", -1},
        {{"[1,]", 4}, "", -1},
        {{"{a:1}", 5}, "", -1},
        {{"{'a':1}", 7}, "", -1},
        {{"[01]", 4}, "", -1},
        {{"[1.]", 4}, "", -1},
        {{"[.5]", 4}, "", -1},
        {{"[+1]", 4}, "", -1},
        {{"nul", 3}, "", -1},
        {{"]", 1}, "", -1},
        {{"[}", 2}, "", -1},
        {{"\"abc", 4}, "", -1},
        {{"\"a\nb\"", 5}, "", -1},
        {{"\"a\0b\"", 5}, "", -1},
        {{"{}\0", 3}, "", -1},
        {{"[\"\\x\"]", 6}, "bad escape", 2},
        {{"[\"\\u12g4\"]", 10}, "bad escape", 2},
        {{"[\"\\u12", 6}, "", -1},
        {{"[\"\\", 3}, "", -1},
        {{"[1e400]", 7}, "overflow", -1},
        {{"[-1e400]", 8}, "overflow", -1},
        {{"\xEF\xBB\xBF{}", 5}, "byte-order mark", 0},
        {{"[\"\xFF\"]", 5}, "invalid UTF-8", 2},
        {{"[\"\xC0\x80\"]", 6}, "invalid UTF-8", 2},
        {{"[\"\xED\xA0\x80\"]", 7}, "invalid UTF-8", 2},
        {{"{\"a\\u0000b\":1}", 14}, "NUL byte in object key", -1},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        for (size_t k = 0; k < 2; k++) refused(rows[i].text, both[k], rows[i].word, rows[i].at);
    refused(OCT_STR("{\"a\":1,\"b\":2,\"a\":3}"), &oct_json_request_limits, "duplicate", 16);
    refused(OCT_STR("[NaN]"), &oct_json_request_limits, "", 4);
    refused(OCT_STR("[18446744073709551616,NaN]"), &oct_json_request_limits, "", 25);
}

/* Beyond int64 a request's integer is a real: its field says by name what it may be. */
static void HT8_wide_integers(void **state) {
    (void)state;
    oct_err err;
    oct_buf b;
    json_t *v = parse(OCT_STR("{\"max_tokens\":9223372036854775808,\"n\":-1}"),
                      &oct_json_request_limits, &err);
    assert_non_null(v);
    assert_true(json_real_value(json_object_get(v, "max_tokens")) == 0x1p63);
    assert_int_equal(json_integer_value(json_object_get(v, "n")), -1);
    json_decref(v);
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_buf_cstr(&b, "{\"n\":1");
    for (int i = 0; i < 1000000; i++) oct_buf_char(&b, '0');
    oct_buf_char(&b, '}');
    for (size_t k = 0; k < 2; k++) refused(oct_buf_view(&b), both[k], "overflow", -1);
    oct_buf_fini(&b);
}

/* What costs more memory than text is counted before any is taken. */
static void HT8_many_parts(void **state) {
    (void)state;
    static const char *const units[] = {"[],", "{},", "\"\","};
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    for (size_t u = 0; u < OCT_COUNT(units); u++) {
        oct_buf_clear(&b);
        oct_buf_char(&b, '[');
        for (uint32_t i = 0; i < oct_json_request_limits.max_parts; i++) oct_buf_cstr(&b, units[u]);
        oct_buf_cstr(&b, "1]");
        refused(oct_buf_view(&b), &oct_json_request_limits, "too many strings", -1);
    }
    oct_buf_fini(&b);
}

static void TK6_lone_surrogates(void **state) {
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        refused(OCT_STR("{\"p\":\"\\ud800\"}"), both[k], "lone surrogate \\ud800", 6);
        refused(OCT_STR("{\"p\":\"a\\uDC00\"}"), both[k], "lone surrogate \\udc00", 7);
        refused(OCT_STR("[\"\\ud800\\ud800\\udc00\"]"), both[k], "lone surrogate", 2);
        refused(OCT_STR("[\"\\ud800x\\udc00\"]"), both[k], "lone surrogate", 2);
    }
    oct_err err;
    json_t *v = parse(OCT_STR("[\"\\ud83d\\ude00 \\u0000 \\ufeff \\uFFFE \\\\ud800\"]"),
                      &oct_json_request_limits, &err);
    const oct_str s = oct_json_str(json_array_get(v, 0));
    static const char want[] = "\xF0\x9F\x98\x80 \0 \xEF\xBB\xBF \xEF\xBF\xBE \\ud800";
    assert_true(oct_str_eq(s, (oct_str){want, sizeof want - 1}));
    json_decref(v);
}

static void CF1_files_are_read_wider(void **state) {
    (void)state;
    oct_err err;
    json_t *v = parse(OCT_STR("{\"a\":NaN,\"b\":[-Infinity,Infinity],\"s\":\"NaN \\\" "
                              "18446744073709551616\","
                              "\"n\":1000000000000000019884624838656,\"m\":-9223372036854775808,"
                              "\"a2\":1,\"a\":7}"),
                      &oct_json_file_limits, &err);
    assert_non_null(v);
    assert_int_equal(json_integer_value(json_object_get(v, "a")), 7);
    assert_string_equal(json_string_value(json_array_get(json_object_get(v, "b"), 0)), "-Infinity");
    assert_string_equal(json_string_value(json_object_get(v, "s")), "NaN \" 18446744073709551616");
    assert_true(json_is_real(json_object_get(v, "n")));
    assert_true(json_real_value(json_object_get(v, "n")) == 1000000000000000019884624838656.0);
    assert_true(json_integer_value(json_object_get(v, "m")) == INT64_MIN);
    /* refused in a field that is used */
    double d = 1;
    json_t *nan = parse(OCT_STR("{\"eps\":NaN}"), &oct_json_file_limits, &err);
    assert_int_equal(oct_json_get_f64(nan, "eps", "c.json", 0, 1, &d, &err), OCT_E_INVALID);
    assert_string_equal(err.text, "c.json: eps must be a number (got \"NaN\")");
    json_decref(nan);
    json_decref(v);
    /* the place is that of the file, not of what was rewritten */
    refused(OCT_STR("[NaN,18446744073709551616,Infinity,\"\"x]"), &oct_json_file_limits, "", 38);
}

static char *repeat(const char *unit, size_t n, oct_buf *b) {
    for (size_t i = 0; i < n; i++) oct_buf_cstr(b, unit);
    return b->data;
}

static void CF2_bombs(void **state) {
    (void)state;
    oct_buf b;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    for (size_t k = 0; k < 2; k++) {
        oct_buf_clear(&b);
        repeat("[", 1000000, &b);
        refused(oct_buf_view(&b), both[k], "nested too deeply", 64);
        oct_buf_clear(&b);
        repeat("{\"a\":", 1000000, &b);
        refused(oct_buf_view(&b), both[k], "nested too deeply", 64 * 5);
        oct_buf_clear(&b);
        repeat("9", 1000000, &b);
        refused(oct_buf_view(&b), both[k], "", -1);
        oct_buf_clear(&b);
        repeat("[", 64, &b);
        repeat("]", 64, &b);
        json_t *v = parse(oct_buf_view(&b), both[k], &err);
        assert_non_null(v);
        json_decref(v);
    }
    oct_buf_clear(&b);
    oct_buf_char(&b, '"');
    repeat("0123456789abcdef", 1 << 20, &b);
    oct_buf_char(&b, '"');
    refused(oct_buf_view(&b), &oct_json_file_limits, "too large", 16 << 20);
    oct_buf_fini(&b);
}

static void deep_key_is(const char *text, const char *want) {
    const oct_str key = oct_json_deep_key(oct_str_of(text), 3);
    if (!want)
        assert_null(key.ptr);
    else
        assert_true(oct_str_is(key, want));
}

static void the_key_over_what_is_too_deep(void **state) {
    (void)state;
    deep_key_is("{\"a\":1,\"b\":[[[", "b");
    deep_key_is("{\"a\":{\"c\":{\"d\":[", "a");
    deep_key_is("{\"a\":[[]],\"x\\\"y\" : [{\"z\":{", "x\\\"y");
    deep_key_is("{\"a\":[[]],\"b\":[[\"[[[\"]]}", NULL);
    deep_key_is("[\"a\",[[[", NULL);
    deep_key_is("{{{{", NULL);
    deep_key_is("{\"a\":\"\\x\",\"b\":[[[", NULL); /* a bad escape is the fault */
    deep_key_is("{\"a", NULL);
    deep_key_is("", NULL);
}

static void SM7_quote(void **state) {
    (void)state;
    oct_buf b;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    static const char text[] =
        "a\"\\/\b\f\n\r\t\x01\x7F\xC3\xA9\xE2\x80\xA8\xE2\x80\xA9\xF0\x9F\x98\x80\xFFz\0!";
    oct_json_quote(&b, (oct_str){text, sizeof text - 1});
    assert_string_equal(oct_buf_cs(&b),
                        "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u007f\xC3\xA9\\u2028\\u2029"
                        "\xF0\x9F\x98\x80\xEF\xBF\xBDz\\u0000!\"");
    json_t *v = parse(oct_buf_view(&b), &oct_json_request_limits, &err);
    assert_int_equal(oct_json_str(v).len, sizeof text - 1 + 2); /* FF became EF BF BD */
    json_decref(v);
    oct_buf_clear(&b);
    oct_json_f64(&b, 0.1);
    oct_buf_char(&b, ' ');
    oct_json_f64(&b, 1e-7);
    oct_buf_char(&b, ' ');
    oct_json_f64(&b, NAN);
    assert_string_equal(oct_buf_cs(&b), "0.1 1e-07 null");
    oct_buf_fini(&b);
}

static void typed_fields(void **state) {
    (void)state;
    oct_err err;
    json_t *v =
        parse(OCT_STR("{\"i\":3,\"f\":2.5,\"b\":true,\"s\":\"x\",\"z\":null,\"big\":1e308}"),
              &oct_json_request_limits, &err);
    int64_t i = 7;
    double f = 7;
    bool flag = false;
    oct_str s = {NULL, 0};
    assert_int_equal(oct_json_get_i64(v, "i", "r", 0, 3, &i, &err), OCT_OK);
    assert_int_equal(i, 3);
    assert_int_equal(oct_json_get_i64(v, "z", "r", 0, 1, &i, &err), OCT_OK);
    assert_int_equal(oct_json_get_i64(v, "absent", "r", 0, 1, &i, &err), OCT_OK);
    assert_int_equal(i, 3);
    assert_int_equal(oct_json_get_i64(v, "i", "r", 0, 2, &i, &err), OCT_E_INVALID);
    assert_string_equal(err.text, "r: i must be from 0 to 2 (got 3)");
    static const char *const not_integers[] = {"f", "b", "s", "big"};
    for (size_t k = 0; k < OCT_COUNT(not_integers); k++)
        assert_int_equal(oct_json_get_i64(v, not_integers[k], "r", 0, 9, &i, NULL), OCT_E_INVALID);
    assert_int_equal(oct_json_get_f64(v, "i", "r", 0, 9, &f, NULL), OCT_OK);
    assert_true(f == 3.0);
    assert_int_equal(oct_json_get_f64(v, "big", "r", 0, 9, &f, NULL), OCT_E_INVALID);
    assert_int_equal(oct_json_get_f64(v, "b", "r", 0, 9, &f, NULL), OCT_E_INVALID);
    assert_int_equal(oct_json_get_bool(v, "b", "r", &flag, NULL), OCT_OK);
    assert_true(flag);
    assert_int_equal(oct_json_get_bool(v, "i", "r", &flag, NULL), OCT_E_INVALID);
    assert_int_equal(oct_json_get_str(v, "s", "r", &s, NULL), OCT_OK);
    assert_true(oct_str_is(s, "x"));
    assert_int_equal(oct_json_get_str(v, "i", "r", &s, NULL), OCT_E_INVALID);
    json_decref(v);
    /* values are shown cut, at a character border */
    char text[256], shown[OCT_JSON_SHOWN];
    memset(text, 'a', 62);
    memcpy(text + 62, "\xE2\x82\xAC\xE2\x82\xAC", 7);
    v = json_string(text);
    oct_json_show(v, shown);
    assert_int_equal(strlen(shown), 63 + 3);
    assert_string_equal(shown + 63, "...");
    json_decref(v);
    assert_string_equal(oct_json_show(NULL, shown), "nothing");
}

/* What could not be built is nothing, whatever comes later. */
static void what_is_built_is_whole_or_nothing(void **state) {
    (void)state;
    json_t *list = json_array(), *obj = json_object();
    oct_json_push(&list, json_integer(1));
    oct_json_push(&list, json_true());
    oct_json_put(&obj, "list", list);
    oct_json_put(&obj, "name", json_string("x"));
    char shown[OCT_JSON_SHOWN];
    assert_string_equal(oct_json_show(obj, shown), "{\"list\":[1,true],\"name\":\"x\"}");
    oct_json_put(&obj, "other", NULL);
    assert_null(obj);
    oct_json_put(&obj, "more", json_integer(2));
    assert_null(obj);
    list = json_array();
    oct_json_push(&list, NULL);
    assert_null(list);
    oct_json_push(&list, json_string("y"));
    assert_null(list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(CF1_HT8_malformed),
        cmocka_unit_test(HT8_wide_integers),
        cmocka_unit_test(HT8_many_parts),
        cmocka_unit_test(TK6_lone_surrogates),
        cmocka_unit_test(CF1_files_are_read_wider),
        cmocka_unit_test(CF2_bombs),
        cmocka_unit_test(the_key_over_what_is_too_deep),
        cmocka_unit_test(SM7_quote),
        cmocka_unit_test(typed_fields),
        cmocka_unit_test(what_is_built_is_whole_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
