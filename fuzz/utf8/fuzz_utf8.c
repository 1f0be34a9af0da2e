/* What is repaired is valid; valid text is left alone; encode undoes decode. */
#include <stddef.h>
#include <stdint.h>

#include "codec/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const oct_str text = {(const char *)data, size};
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_utf8_repair(&b, text);
    size_t bad_at = size;
    const bool valid = oct_utf8_valid(text, &bad_at);
    if (!oct_utf8_valid(oct_buf_view(&b), NULL)) __builtin_trap();
    if (valid != oct_str_eq(text, oct_buf_view(&b)) && !memmem(data, size, "\xEF\xBF\xBD", 3))
        __builtin_trap();
    if (oct_utf8_count(text) != oct_utf8_count(oct_buf_view(&b))) __builtin_trap();
    const size_t whole = oct_utf8_complete_len(text);
    if (whole > size || size - whole > 3 || (valid && whole != size)) __builtin_trap();
    for (size_t at = 0; at < size;) {
        uint32_t cp;
        size_t len;
        char out[4];
        const oct_str rest = {text.ptr + at, size - at};
        const oct_utf8_step step = oct_utf8_next(rest, &cp, &len);
        if (len == 0 || len > rest.len) __builtin_trap();
        if (step == OCT_UTF8_OK &&
            (oct_utf8_encode(cp, out) != len || memcmp(out, rest.ptr, len) != 0))
            __builtin_trap();
        if (step != OCT_UTF8_OK && at < bad_at) __builtin_trap();
        at += len;
    }
    oct_buf_fini(&b);
    return 0;
}
