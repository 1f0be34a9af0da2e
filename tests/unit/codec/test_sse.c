/* codec/sse.h: what is written is read back, cut at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/sse.h"

static oct_status note(void *ctx, oct_str name, oct_str data) {
    oct_buf *b = ctx;
    oct_buf_char(b, '[');
    oct_buf_str(b, name);
    oct_buf_char(b, '|');
    oct_buf_str(b, data);
    oct_buf_char(b, ']');
    return oct_str_is(data, "stop") ? OCT_E_CANCELLED : OCT_OK;
}

/* Feeds text in pieces of step bytes; the events as "[name|data]...". */
static void events(oct_str text, size_t step, oct_status want_status, const char *want) {
    oct_buf seen;
    oct_sse_parser p;
    oct_status status = OCT_OK;
    oct_buf_init(&seen, oct_system_allocator(), 0);
    oct_sse_parser_init(&p, oct_system_allocator(), 64, note, &seen);
    for (size_t at = 0; at < text.len && status == OCT_OK; at += step) {
        const size_t n = text.len - at < step ? text.len - at : step;
        status = oct_sse_parser_feed(&p, (oct_str){text.ptr + at, n}, NULL);
    }
    assert_int_equal(status, want_status);
    assert_string_equal(oct_buf_cs(&seen), want);
    oct_sse_parser_fini(&p);
    oct_buf_fini(&seen);
}

static void streams(void **state) {
    (void)state;
    const struct {
        oct_str text;
        const char *want;
    } rows[] = {
        {OCT_STR("data: a\n\ndata:b\n\n"), "[|a][|b]"},
        {OCT_STR("data: a\r\n\r\ndata: b\r\r"), "[|a][|b]"},
        {OCT_STR("\xEF\xBB\xBF"
                 "data: a\n\n"),
         "[|a]"},
        {OCT_STR("data: a\ndata\ndata:  b\n\n"), "[|a\n\n b]"},
        {OCT_STR(": ping\n\nevent: e\ndata: x\nid: 3\nretry: 9\n\ndata: y\n\n"), "[e|x][|y]"},
        {OCT_STR("event: only\n\ndata:\n\n"), "[|]"},
        {OCT_STR("data: never ended\n"), ""},
        {OCT_STR("DATA: a\ndatax: b\n\n"), ""},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        for (size_t step = 1; step < 40; step++) events(rows[i].text, step, OCT_OK, rows[i].want);
    events(OCT_STR("data: stop\n\ndata: more\n\n"), 100, OCT_E_CANCELLED, "[|stop]");
    events(OCT_STR("data: 0123456789012345678901234567890123456789012345678901234567890123456789"),
           7, OCT_E_INVALID, "");
    events(OCT_STR("data: 012345678901234567890123456789\ndata: 012345678901234567890123456789\n"
                   "data: x\ndata: y\n\n"),
           7, OCT_E_INVALID, "");
}

static void written(void **state) {
    (void)state;
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_sse_write(&b, OCT_STR("{\"a\":1}"));
    oct_sse_write(&b, OCT_STR(""));
    oct_sse_write(&b, OCT_STR("x\n\ny\r\nz\rdata: w"));
    assert_string_equal(oct_buf_cs(&b), "data: {\"a\":1}\n\ndata: \n\n"
                                        "data: x\ndata: \ndata: y\ndata: z\ndata: data: w\n\n");
    events(oct_buf_view(&b), 3, OCT_OK, "[|{\"a\":1}][|][|x\n\ny\nz\ndata: w]");
    oct_buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(streams), cmocka_unit_test(written)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
