/*
 * base/buf.h - a growable run of bytes, always NUL-terminated behind its length.
 *
 * A failed append (refused memory, or past limit_bytes) sets `failed` and leaves the content as it
 * was; later appends do nothing. So a writer appends freely and asks once at the end.
 *
 * Ownership  The buffer owns data. Threads: one at a time.
 */
#ifndef OCT_BASE_BUF_H
#define OCT_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "base/str.h"

typedef struct oct_buf {
    const oct_allocator *mem;
    char *data; /* NULL until the first append */
    size_t len, cap;
    size_t limit_bytes; /* 0: none */
    bool failed;
} oct_buf;

void oct_buf_init(oct_buf *b, const oct_allocator *mem, size_t limit_bytes);
void oct_buf_fini(oct_buf *b);  /* accepts a zeroed buffer */
void oct_buf_clear(oct_buf *b); /* keeps the memory; clears failed */

void oct_buf_add(oct_buf *b, const void *data, size_t len);
void oct_buf_str(oct_buf *b, oct_str s);
void oct_buf_cstr(oct_buf *b, const char *s);
void oct_buf_char(oct_buf *b, char c);
void oct_buf_printf(oct_buf *b, const char *fmt, ...) OCT_PRINTF(2, 3);
/* Drops the first n bytes. */
void oct_buf_consume(oct_buf *b, size_t n);
/* Room for n more bytes without a later refusal; false when refused. */
bool oct_buf_reserve(oct_buf *b, size_t n);

/* The content as a C string ("" when empty). Valid until the next append. */
const char *oct_buf_cs(const oct_buf *b);
static inline oct_str oct_buf_view(const oct_buf *b) { return (oct_str){oct_buf_cs(b), b->len}; }

#endif
