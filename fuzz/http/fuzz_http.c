/* A connection's bytes: the outcome does not depend on how they are cut; spans stay inside; the
 * path that comes out of a target is normal already. */
#include <stddef.h>
#include <stdint.h>

#include "net/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static oct_http_progress read_head(oct_str text, size_t step, oct_http_parser *p) {
    oct_http_progress got = OCT_HTTP_MORE;
    oct_http_limits limits = oct_http_limits_default;
    limits.request_line_bytes = 256;
    limits.header_bytes = 512;
    limits.header_fields = 8;
    oct_http_parser_init(p, &limits);
    for (size_t n = step; got == OCT_HTTP_MORE; n += step) {
        if (n > text.len) n = text.len;
        got = oct_http_parser_feed(p, (oct_str){text.ptr, n});
        if (n == text.len) break;
    }
    return got;
}

static void check_target(oct_str target, oct_http_method method) {
    oct_buf path, again;
    oct_str query;
    oct_http_refusal refusal;
    oct_buf_init(&path, oct_system_allocator(), 0);
    oct_buf_init(&again, oct_system_allocator(), 0);
    if (oct_http_target_split(target, method, &path, &query, &refusal)) {
        const oct_str got = oct_buf_view(&path);
        if (memchr(got.ptr, '\0', got.len) || strstr(got.ptr, "//") || strstr(got.ptr, "/../"))
            __builtin_trap();
        if (got.ptr[0] != '/' && !oct_str_is(got, "*")) __builtin_trap();
        if (got.len > 1 && got.ptr[got.len - 1] == '/') __builtin_trap();
        (void)oct_http_query_get(query, "a", &again);
    }
    oct_buf_fini(&path);
    oct_buf_fini(&again);
}

static oct_http_progress read_chunks(oct_str text, size_t step, oct_http_chunked *d, size_t *used,
                                     oct_buf *body) {
    oct_http_progress got = OCT_HTTP_MORE;
    oct_http_chunked_init(d, 4096);
    *used = 0;
    while (*used < text.len && got == OCT_HTTP_MORE) {
        size_t n = text.len - *used < step ? text.len - *used : step;
        got = oct_http_chunked_feed(d, (oct_str){text.ptr + *used, n}, &n, body);
        *used += n;
    }
    if (body->len > 4096) __builtin_trap();
    return got;
}

static void check_chunks(oct_str text) {
    oct_http_chunked d1, d2;
    oct_buf b1, b2;
    size_t used1, used2;
    oct_buf_init(&b1, oct_system_allocator(), 0);
    oct_buf_init(&b2, oct_system_allocator(), 0);
    const oct_http_progress got1 = read_chunks(text, text.len + 1, &d1, &used1, &b1);
    const oct_http_progress got2 = read_chunks(text, 1, &d2, &used2, &b2);
    if (got1 != got2 || used1 != used2 || d1.refusal.status != d2.refusal.status) __builtin_trap();
    if (!oct_str_eq(oct_buf_view(&b1), oct_buf_view(&b2))) __builtin_trap();
    oct_buf_fini(&b1);
    oct_buf_fini(&b2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const oct_str text = {(const char *)data, size};
    static oct_http_parser whole, cut;
    if (size == 0) return 0;
    const oct_http_progress got = read_head(text, size, &whole);
    if (got != read_head(text, 1, &cut)) __builtin_trap();
    if (whole.refusal.status != cut.refusal.status) __builtin_trap();
    if ((got == OCT_HTTP_BAD) != (whole.refusal.status >= 400)) __builtin_trap();
    if (got != OCT_HTTP_WHOLE) {
        check_target(text, OCT_HTTP_OPTIONS);
        check_chunks(text);
        return 0;
    }
    const oct_http_head *h = &whole.head;
    if (h->head_bytes > size || (h->chunked && h->has_length)) __builtin_trap();
    for (uint32_t i = 0; i < h->n_fields; i++) {
        const oct_http_field f = h->fields[i];
        if (f.name.at + f.name.len > h->head_bytes || f.value.at + f.value.len > h->head_bytes)
            __builtin_trap();
        if (memchr(data + f.value.at, '\r', f.value.len)) __builtin_trap();
    }
    check_target((oct_str){text.ptr + h->target.at, h->target.len}, h->method);
    check_chunks((oct_str){text.ptr + h->head_bytes, size - h->head_bytes});
    return 0;
}
