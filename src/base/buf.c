/* base/buf.c - doubling growth; one byte more than cap is held for the terminating NUL. */
#include "base/buf.h"

#include <stdio.h>
#include <string.h>

#include "base/checked.h"

void oct_buf_init(oct_buf *b, const oct_allocator *mem, size_t limit_bytes) {
    *b = (oct_buf){.mem = mem, .limit_bytes = limit_bytes};
}

void oct_buf_fini(oct_buf *b) {
    if (b->data) oct_free(b->mem, b->data, b->cap + 1, 1);
    b->data = NULL;
    b->len = b->cap = 0;
}

void oct_buf_clear(oct_buf *b) {
    b->len = 0;
    b->failed = false;
    if (b->data) b->data[0] = '\0';
}

bool oct_buf_reserve(oct_buf *b, size_t n) {
    size_t want;
    if (b->failed) return false;
    if (!oct_add_size(b->len, n, &want) || (b->limit_bytes && want > b->limit_bytes) ||
        want == SIZE_MAX) {
        b->failed = true;
        return false;
    }
    if (want <= b->cap && b->data) return true;
    size_t cap = b->cap ? b->cap : 120;
    while (cap < want) cap = cap > SIZE_MAX / 4 ? want : cap * 2;
    char *p = oct_grow(b->mem, b->data, b->data ? b->cap + 1 : 0, cap + 1, 1);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->cap = cap;
    b->data[b->len] = '\0';
    return true;
}

void oct_buf_add(oct_buf *b, const void *data, size_t len) {
    if (len == 0 || !oct_buf_reserve(b, len)) return;
    memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void oct_buf_str(oct_buf *b, oct_str s) { oct_buf_add(b, s.ptr, s.len); }
void oct_buf_cstr(oct_buf *b, const char *s) { oct_buf_add(b, s, strlen(s)); }
void oct_buf_char(oct_buf *b, char c) { oct_buf_add(b, &c, 1); }

void oct_buf_printf(oct_buf *b, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n > 0 && oct_buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void oct_buf_consume(oct_buf *b, size_t n) {
    if (n == 0) return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    b->data[b->len] = '\0';
}

const char *oct_buf_cs(const oct_buf *b) { return b->data ? b->data : ""; }
