/* Unit tests of net/http.h: heads, targets and chunks, whole and cut at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "net/http.h"

#define HOST "Host: x\r\n"

/* The status that text ends with, fed whole and then byte by byte; both must agree. 0: whole head;
 * -1: more is wanted. */
static int status_of(const oct_http_limits *limits, oct_str text, oct_http_head *head) {
    int got[2];
    for (int by_byte = 0; by_byte < 2; by_byte++) {
        oct_http_parser p;
        oct_http_progress progress = OCT_HTTP_MORE;
        oct_http_parser_init(&p, limits);
        for (size_t n = by_byte ? 1 : text.len; n <= text.len && progress == OCT_HTTP_MORE; n++)
            progress = oct_http_parser_feed(&p, (oct_str){text.ptr, n});
        got[by_byte] = progress == OCT_HTTP_MORE ? -1 : p.refusal.status;
        assert_true(progress == OCT_HTTP_BAD ? p.refusal.status >= 400 && p.refusal.reason != NULL
                                             : p.refusal.status == 0);
        if (head) *head = p.head;
    }
    assert_int_equal(got[0], got[1]);
    return got[0];
}

static int status_cs(const char *text) {
    return status_of(&oct_http_limits_default, oct_str_of(text), NULL);
}

static void a_good_head(void **state) {
    (void)state;
    static const char text[] =
        "\r\nPOST /v1/chat?x=1 HTTP/1.1\r\nhost: [::1]:80\r\nA:\t b c \t\r\n"
        "Content-Length: 007\r\nconnection: foo, Close\r\nEmpty:\r\n\r\nbody";
    const oct_str bytes = {text, sizeof text - 1};
    oct_http_head head;
    assert_int_equal(status_of(&oct_http_limits_default, bytes, &head), 0);
    assert_int_equal(head.method, OCT_HTTP_POST);
    assert_int_equal(head.minor, 1);
    assert_int_equal(head.length, 7);
    assert_false(head.keep_alive);
    assert_int_equal(head.head_bytes, sizeof text - 1 - 4);
    assert_int_equal(head.n_fields, 5);
    assert_true(oct_str_is(oct_http_head_field(&head, bytes, "a"), "b c"));
    assert_true(oct_str_is(oct_http_head_field(&head, bytes, "HOST"), "[::1]:80"));
    assert_int_equal(oct_http_head_field(&head, bytes, "empty").len, 0);
    assert_non_null(oct_http_head_field(&head, bytes, "empty").ptr);
    assert_null(oct_http_head_field(&head, bytes, "absent").ptr);
    assert_int_equal(status_cs("GET / HTTP/1.0\r\n\r\n"), 0);
    assert_int_equal(status_cs("POST / HTTP/1.0\r\nExpect: tea\r\n\r\n"), 0);
    assert_string_equal(oct_http_reason(200), "OK");
    assert_string_equal(oct_http_reason(299), "Status");
    assert_int_equal(status_cs("GET / HTTP/1.1\r\n" HOST), -1);
}

static void who_keeps_the_connection(void **state) {
    (void)state;
    static const struct {
        const char *minor, *value;
        bool kept;
    } rows[] = {
        {"1", "keep-alive", true},       {"1", "close", false},
        {"1", "a,\tClose \t, b", false}, {"1", " , ,", true},
        {"1", "closed", true},           {"0", "foo", false},
        {"0", "foo , Keep-Alive", true}, {"0", "keep-alive, close", false},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        char text[128];
        oct_http_head head;
        snprintf(text, sizeof text, "GET / HTTP/1.%s\r\n" HOST "Connection: %s\r\n\r\n",
                 rows[i].minor, rows[i].value);
        assert_int_equal(status_of(&oct_http_limits_default, oct_str_of(text), &head), 0);
        if (head.keep_alive != rows[i].kept) print_error("row %zu\n", i);
        assert_int_equal(head.keep_alive, rows[i].kept);
    }
}

static void HT1_request_lines(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int want;
    } rows[] = {
        {"GET /\r\n", 400},
        {"GET  / HTTP/1.1\r\n", 400},
        {"GET / HTTP/1.1 \r\n", 400},
        {"GET / http/1.1\r\n", 400},
        {"GET / HTTP/1,1\r\n", 400},
        {"GET / HTTP/11\r\n", 400},
        {"GET /a b HTTP/1.1\r\n", 400},
        {"GET /\t HTTP/1.1\r\n", 400},
        {"GET /\xC3\xA4 HTTP/1.1\r\n", 400},
        {" GET / HTTP/1.1\r\n", 400},
        {"G(T / HTTP/1.1\r\n", 400},
        {"GET / HTTP/1.1\n", 400},
        {"\r\n\r\nGET / HTTP/1.1\r\n", 400},
        {"\x16\x03\x01", 400},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\n", 505},
        {"GET / HTTP/0.9\r\n", 505},
        {"BREW / HTTP/1.1\r\n", 501},
        {"get / HTTP/1.1\r\n", 501},
        {"CONNECT x:1 HTTP/1.1\r\n", 501},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        if (status_cs(rows[i].text) != rows[i].want) print_error("row %zu\n", i);
        assert_int_equal(status_cs(rows[i].text), rows[i].want);
    }
}

static void HT1_HT2_sizes(void **state) {
    (void)state;
    oct_http_limits limits = oct_http_limits_default;
    limits.request_line_bytes = 20;
    limits.header_bytes = 40;
    limits.header_fields = 3;
    const struct {
        const char *text;
        int want;
    } rows[] = {
        {"GET /23456 HTTP/1.1\r\nHost: x\r\n\r\n", 0}, /* 19 bytes */
        {"GET /234567 HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"GET /2345678 HTTP/1.1\r\n", 414},
        {"GET /23456789012345678901234567890", 414},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\nC: 3\r\n", 431},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: 12345678901234567890123456", 0 - 1},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: 1234567890123456789012345678901", 431},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        const int got = status_of(&limits, oct_str_of(rows[i].text), NULL);
        if (got != rows[i].want) print_error("row %zu\n", i);
        assert_int_equal(got, rows[i].want);
    }
}

static void HT3_fields(void **state) {
    (void)state;
    static const struct {
        const char *fields;
        int want;
    } rows[] = {
        {HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400},
        {HOST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400},
        {HOST "Content-Length: 3\r\nContent-Length: 4\r\n", 400},
        {HOST "Content-Length: 3\r\nContent-Length: 3\r\n", 400},
        {HOST "Content-Length: +5\r\n", 400},
        {HOST "Content-Length: -5\r\n", 400},
        {HOST "Content-Length: 5,5\r\n", 400},
        {HOST "Content-Length: 0x5\r\n", 400},
        {HOST "Content-Length: 5 5\r\n", 400},
        {HOST "Content-Length:\r\n", 400},
        {HOST "Content-Length: 18446744073709551616\r\n", 400},
        {HOST "Content-Length: 18446744073709551615\r\n", 0},
        {HOST "Content-Length : 5\r\n", 400},
        {HOST "A b: 5\r\n", 400},
        {HOST ": 5\r\n", 400},
        {HOST "no colon\r\n", 400},
        {HOST "A: b\r\n c\r\n", 400},
        {HOST "A: b\r\n\tc\r\n", 400},
        {" A: b\r\n" HOST, 400},
        {HOST "A: b\rc\r\n", 400},
        {HOST "A: b\nB: c\r\n", 400},
        {HOST "A: b\x01\r\n", 400},
        {HOST "A: b\x7F\r\n", 400},
        {HOST "A: \xE4\t ok\r\n", 0},
        {HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400},
        {HOST "Transfer-Encoding: chunked, chunked\r\n", 501},
        {HOST "Transfer-Encoding: gzip, chunked\r\n", 501},
        {HOST "Transfer-Encoding: identity\r\n", 501},
        {HOST "Transfer-Encoding: CHUNKED\r\n", 0},
        {HOST "Content-Encoding: gzip\r\n", 415},
        {HOST "Content-Encoding: Identity\r\n", 0},
        {HOST "Content-Encoding:\r\n", 0},
        {HOST "Expect: tea\r\n", 417},
        {HOST "Expect: 100-Continue\r\n", 0},
        {HOST HOST, 400},
        {"", 400},
        {"Host: a/b\r\n", 400},
        {"Host: a{b\r\n", 400},
        {"A{: b\r\n" HOST, 400},
        {"Host: user@x\r\n", 400},
        {"Host: a, b\r\n", 400},
        {"Host:\r\n", 0},
        {HOST "Authorization: a\r\nauthorization: a\r\n", 400},
        {HOST "Content-Type: a\r\nContent-Type: a\r\n", 400},
        {HOST "Accept: a\r\nAccept: b\r\n", 0},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        char text[512];
        snprintf(text, sizeof text, "POST / HTTP/1.1\r\n%s\r\n", rows[i].fields);
        if (status_cs(text) != rows[i].want) print_error("row %zu\n", i);
        assert_int_equal(status_cs(text), rows[i].want);
    }
    static const char nul[] = "GET / HTTP/1.1\r\nA: b\0c\r\n";
    assert_int_equal(status_of(&oct_http_limits_default, (oct_str){nul, sizeof nul - 1}, NULL),
                     400);
    assert_int_equal(status_cs("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

/* --- targets --- */

static void HT14_targets(void **state) {
    (void)state;
    static const struct {
        const char *target, *path, *query; /* path NULL: refused */
    } rows[] = {
        {"/", "/", ""},
        {"/v1/models", "/v1/models", ""},
        {"//v1///models", "/v1/models", ""},
        {"/v1/models/", "/v1/models", ""},
        {"/./v1/./models/.", "/v1/models", ""},
        {"/v1%2Fmodels?a=b&c", "/v1/models", "a=b&c"},
        {"/%76%31/models?x?y", "/v1/models", "x?y"},
        {"/V1/Models", "/V1/Models", ""},
        {"/health;x", "/health;x", ""},
        {"/a...b/..c", "/a...b/..c", ""},
        {"/%C3%A4", "/\xC3\xA4", ""},
        {"/%c3%A4%E2%82%aC%f0%9f%99%82", "/\xC3\xA4\xE2\x82\xAC\xF0\x9F\x99\x82", ""},
        {"/%E0%A0%80%ED%9F%BF%F0%90%80%80%F4%8F%BF%BF",
         "/\xE0\xA0\x80\xED\x9F\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", ""},
        {"/a+b", "/a+b", ""},
        {"http://h:80/v1/models?q", "/v1/models", "q"},
        {"HTTPS://h", "/", ""},
        {"http://h?q", "/", "q"},
        {"*", "*", ""},
        {"http:///x", NULL, NULL},
        {"/v1/../health", NULL, NULL},
        {"/%2e%2e/health", NULL, NULL},
        {"/v1/.%2E", NULL, NULL},
        {"/..%2fhealth", NULL, NULL},
        {"/a%00b", NULL, NULL},
        {"/a%0Ab", NULL, NULL},
        {"/a%7f", NULL, NULL},
        {"/a%", NULL, NULL},
        {"/a%4", NULL, NULL},
        {"/a%zz", NULL, NULL},
        {"/%ff", NULL, NULL},
        {"/%c0%ae%c0%ae/x", NULL, NULL},
        {"/%ed%a0%80", NULL, NULL},
        {"/%e0%9f%bf", NULL, NULL},
        {"/%f0%8f%bf%bf", NULL, NULL},
        {"/%f4%90%80%80", NULL, NULL},
        {"/%f5%80%80%80", NULL, NULL},
        {"/%e2%82", NULL, NULL},
        {"/%e2%82/", NULL, NULL},
        {"/a%4g", NULL, NULL},
        {"/a%:0", NULL, NULL},
        {"/a%@0", NULL, NULL},
        {"/a%/0", NULL, NULL},
        {"", NULL, NULL},
        {"/a#b", NULL, NULL},
        {"v1", NULL, NULL},
        {"ftp://x/", NULL, NULL},
        {"http://h/../x", NULL, NULL},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        oct_buf path;
        oct_str query;
        oct_http_refusal refusal = {0};
        oct_buf_init(&path, oct_system_allocator(), 0);
        const bool ok = oct_http_target_split(oct_str_of(rows[i].target), OCT_HTTP_OPTIONS, &path,
                                              &query, &refusal);
        if (ok != (rows[i].path != NULL)) print_error("row %zu\n", i);
        assert_int_equal(ok, rows[i].path != NULL);
        if (ok) assert_string_equal(oct_buf_cs(&path), rows[i].path);
        if (ok) assert_true(oct_str_is(query, rows[i].query));
        if (!ok) assert_int_equal(refusal.status, 400);
        oct_buf_fini(&path);
    }
    oct_buf path;
    oct_str query;
    oct_http_refusal refusal;
    oct_buf_init(&path, oct_system_allocator(), 0);
    assert_false(oct_http_target_split(OCT_STR("*"), OCT_HTTP_GET, &path, &query, &refusal));
    oct_buf_fini(&path);
}

static void queries(void **state) {
    (void)state;
    oct_buf out;
    oct_buf_init(&out, oct_system_allocator(), 0);
    const oct_str q = OCT_STR("level=1&mode=a+b%26c&&empty=&bare&bad=%4&level=2");
    assert_true(oct_http_query_get(q, "level", &out) && oct_str_is(oct_buf_view(&out), "1"));
    oct_buf_clear(&out);
    assert_true(oct_http_query_get(q, "mode", &out) && oct_str_is(oct_buf_view(&out), "a b&c"));
    oct_buf_clear(&out);
    assert_true(oct_http_query_get(q, "empty", &out) && oct_http_query_get(q, "bare", &out));
    assert_int_equal(out.len, 0);
    assert_false(oct_http_query_get(q, "bad", &out) || oct_http_query_get(q, "leve", &out));
    assert_false(oct_http_query_get(q, "", &out));
    oct_buf_fini(&out);
}

/* --- chunks --- */

/* Decodes text whole or byte by byte. Returns the refusal's status, 0 when complete, -1 when more
 * is wanted; *rest: bytes behind the end. */
static int decode(oct_str text, size_t step, size_t max_body, oct_buf *body, size_t *rest) {
    oct_http_chunked d;
    oct_http_chunked_init(&d, max_body);
    size_t at = 0;
    while (at < text.len) {
        size_t used = 0;
        const size_t n = text.len - at < step ? text.len - at : step;
        const oct_http_progress got =
            oct_http_chunked_feed(&d, (oct_str){text.ptr + at, n}, &used, body);
        at += used;
        *rest = text.len - at;
        if (got == OCT_HTTP_BAD) return d.refusal.status;
        if (got == OCT_HTTP_WHOLE) return 0;
        assert_int_equal(used, n);
    }
    return -1;
}

static void HT4_chunks(void **state) {
    (void)state;
    static const struct {
        const char *text, *body; /* body NULL: any */
        int want;
    } rows[] = {
        {"5\r\nhello\r\n0\r\n\r\nGET", "hello", 0},
        {"2;a=b\r\nhe\r\n00003;x\r\nllo\r\n0;end\r\nT: x\r\nU: y\r\n\r\nGET", "hello", 0},
        {"0\r\n\r\nGET", "", 0},
        {"A\r\n0123456789\r\n0\r\n\r\nGET", "0123456789", 0},
        {"5\r\nhello\r\n", "hello", -1},
        {"5g\r\n", NULL, 400},
        {"\r\n", NULL, 400},
        {";x\r\n", NULL, 400},
        {"+5\r\nhello", NULL, 400},
        {"0x5\r\nhello", NULL, 400},
        {" 5\r\nhello", NULL, 400},
        {"5 \r\nhello", NULL, 400},
        {"5\nhello", NULL, 400},
        {"5\rhello", NULL, 400},
        {"5;a\nb\r\nhello", NULL, 400},
        {"5\r\nhelloX", NULL, 400},
        {"5\r\nhello\rX", NULL, 400},
        {"5\r\nhello\n", NULL, 400},
        {"fffffffffffffffff\r\n", NULL, 400},
        {"ffffffffffffffff\r\n", NULL, 413},
        {"65\r\n", NULL, 413},
        {"3c\r\n012345678901234567890123456789012345678901234567890123456789\r\n29\r\n", NULL, 413},
        {"0\r\n: x\r\n", NULL, 400},
        {"0\r\n x\r\n", NULL, 400},
        {"0\r\nA: \x01\r\n", NULL, 400},
        {"0\r\nA: \x7F\r\n", NULL, 400},
        {"0\r\nA:\tb\r\n\r\nGET", "", 0},
        {"1;a\x7F\r\nh\r\n", NULL, 400},
        {"1;\ta\r\nh\r\n0\r\n\r\nGET", "h", 0},
        {"0\r\nA: b\rX", NULL, 400},
        {"0\r\n\rX", NULL, 400},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        for (size_t step = 1; step < 100; step += 98) {
            oct_buf body;
            size_t rest = 0;
            oct_buf_init(&body, oct_system_allocator(), 0);
            const int got = decode(oct_str_of(rows[i].text), step, 100, &body, &rest);
            if (got != rows[i].want) print_error("row %zu\n", i);
            assert_int_equal(got, rows[i].want);
            if (rows[i].body) assert_string_equal(oct_buf_cs(&body), rows[i].body);
            if (got == 0) assert_int_equal(rest, 3);
            oct_buf_fini(&body);
        }
    }
}

static int decode_repeated(const char *head, const char *unit, size_t n) {
    oct_buf text, body;
    size_t rest;
    oct_buf_init(&text, oct_system_allocator(), 0);
    oct_buf_init(&body, oct_system_allocator(), 0);
    oct_buf_cstr(&text, head);
    for (size_t i = 0; i < n; i++) oct_buf_cstr(&text, unit);
    const int got = decode(oct_buf_view(&text), 4096, 32u << 20, &body, &rest);
    assert_true(body.cap < 1u << 20); /* what was kept is bounded by content, not by framing */
    oct_buf_fini(&text);
    oct_buf_fini(&body);
    return got;
}

static void HT4_bombs(void **state) {
    (void)state;
    assert_int_equal(decode_repeated("5;", "a", 1000000), 400);
    assert_int_equal(decode_repeated("0\r\n", "A: b\r\n", 100000), 400);
    assert_int_equal(decode_repeated("", "1\r\nx\r\n", 1000000), 400);
    assert_int_equal(decode_repeated("", "0000000000000001;aaaaaaaaaaaaaaa\r\nx\r\n", 100000), 400);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_head),
        cmocka_unit_test(HT1_request_lines),
        cmocka_unit_test(HT1_HT2_sizes),
        cmocka_unit_test(HT3_fields),
        cmocka_unit_test(who_keeps_the_connection),
        cmocka_unit_test(HT14_targets),
        cmocka_unit_test(queries),
        cmocka_unit_test(HT4_chunks),
        cmocka_unit_test(HT4_bombs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
