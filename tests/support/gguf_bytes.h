/*
 * tests/support/gguf_bytes.h - a GGUF file field by field, so that any field can be made wrong.
 */
#ifndef OCT_TESTS_GGUF_BYTES_H
#define OCT_TESTS_GGUF_BYTES_H

#include <string.h>

#include "base/buf.h"

static inline void g_u32(oct_buf *b, uint32_t v) { oct_buf_add(b, &v, 4); }
static inline void g_u64(oct_buf *b, uint64_t v) { oct_buf_add(b, &v, 8); }
static inline void g_str(oct_buf *b, const char *s) {
    g_u64(b, strlen(s));
    oct_buf_cstr(b, s);
}
static inline void g_head(oct_buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_values) {
    oct_buf_add(b, "GGUF", 4);
    g_u32(b, version);
    g_u64(b, n_tensors);
    g_u64(b, n_values);
}
static inline void g_key_u32(oct_buf *b, const char *key, uint32_t v) {
    g_str(b, key);
    g_u32(b, 4);
    g_u32(b, v);
}
static inline void g_key_f32(oct_buf *b, const char *key, float v) {
    g_str(b, key);
    g_u32(b, 6);
    oct_buf_add(b, &v, 4);
}
static inline void g_key_str(oct_buf *b, const char *key, const char *v) {
    g_str(b, key);
    g_u32(b, 8);
    g_str(b, v);
}
/* dims innermost first, as in the file; 0 ends them. */
static inline void g_tensor(oct_buf *b, const char *name, uint64_t d0, uint64_t d1, uint32_t type,
                            uint64_t offset) {
    g_str(b, name);
    g_u32(b, d1 ? 2 : 1);
    g_u64(b, d0);
    if (d1) g_u64(b, d1);
    g_u32(b, type);
    g_u64(b, offset);
}
static inline void g_pad(oct_buf *b, size_t to) {
    while (b->len % to) oct_buf_char(b, '\0');
}

#endif
