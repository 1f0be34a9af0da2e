/* The events of a stream do not depend on how it is cut, and a written payload comes back. */
#include <stddef.h>
#include <stdint.h>

#include "codec/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static oct_status note(void *ctx, oct_str name, oct_str data) {
    oct_buf *b = ctx;
    oct_buf_str(b, name);
    oct_buf_char(b, '\0');
    oct_buf_str(b, data);
    oct_buf_char(b, '\0');
    return OCT_OK;
}

static void parse(oct_str text, size_t step, oct_buf *seen) {
    oct_sse_parser p;
    oct_sse_parser_init(&p, oct_system_allocator(), 4096, note, seen);
    for (size_t at = 0; at < text.len; at += step) {
        const size_t n = text.len - at < step ? text.len - at : step;
        if (oct_sse_parser_feed(&p, (oct_str){text.ptr + at, n}, NULL) != OCT_OK) break;
    }
    oct_sse_parser_fini(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const oct_str text = {(const char *)data, size};
    oct_buf whole, cut, written;
    oct_buf_init(&whole, oct_system_allocator(), 0);
    oct_buf_init(&cut, oct_system_allocator(), 0);
    oct_buf_init(&written, oct_system_allocator(), 0);
    parse(text, size + 1, &whole);
    parse(text, 1, &cut);
    if (!oct_str_eq(oct_buf_view(&whole), oct_buf_view(&cut))) __builtin_trap();
    oct_buf_clear(&whole);
    oct_sse_write(&written, text);
    parse(oct_buf_view(&written), 3, &whole);
    size_t ends = 0;
    for (size_t i = 0; i < whole.len && size < 512; i++)
        if (whole.data[i] == '\0' && (i == 0 || i + 1 == whole.len)) ends++;
    if (size < 512 && ends != 2) __builtin_trap(); /* exactly one event */
    oct_buf_fini(&whole);
    oct_buf_fini(&cut);
    oct_buf_fini(&written);
    return 0;
}
