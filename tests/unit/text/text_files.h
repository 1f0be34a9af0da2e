/* Small things that the tests of text share: whole files, replaced substrings, encoded ids. */
#ifndef OCT_TEST_TEXT_FILES_H
#define OCT_TEST_TEXT_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

#define MEM oct_system_allocator()

static inline bool file_exists(const char *path) {
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

static inline void read_file(const char *path, oct_buf *out) {
    char block[4096];
    FILE *f = fopen(path, "rb");
    if (!f) print_error("cannot open %s\n", path);
    assert_non_null(f);
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;) oct_buf_add(out, block, n);
    fclose(f);
    assert_false(out->failed);
}

/* The first `from` in b becomes `to`; it must be there. */
static inline void replace_once(oct_buf *b, const char *from, const char *to) {
    oct_buf out;
    oct_buf_init(&out, MEM, 0);
    const char *at = strstr(oct_buf_cs(b), from);
    if (!at) print_error("not in the file: %s\n", from);
    assert_non_null(at);
    oct_buf_add(&out, b->data, (size_t)(at - b->data));
    oct_buf_cstr(&out, to);
    oct_buf_cstr(&out, at + strlen(from));
    oct_buf_fini(b);
    *b = out;
}

static inline oct_tokenizer *open_tokenizer(const char *folder) {
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    if (oct_tokenizer_open(MEM, folder, &tok, &err) != OCT_OK) print_error("%s\n", err.text);
    assert_non_null(tok);
    return tok;
}

static inline void check_ids(const oct_tokenizer *tok, oct_str text, unsigned flags,
                             const int32_t *want, size_t n) {
    oct_ids ids;
    oct_err err = {0};
    oct_ids_init(&ids, MEM);
    if (oct_tokenizer_encode(tok, text, flags, &ids, &err) != OCT_OK) {
        print_error("%s\n", err.text);
        fail();
    }
    bool same = ids.len == n;
    for (size_t i = 0; same && i < n; i++) same = ids.data[i] == want[i];
    if (!same) {
        print_error("text \"%.*s\" gave", (int)(text.len < 80 ? text.len : 80), text.ptr);
        for (size_t i = 0; i < ids.len && i < 40; i++) print_error(" %d", ids.data[i]);
        print_error("\n");
    }
    oct_ids_fini(&ids);
    assert_true(same);
}

#define CHECK_IDS(tok, text, flags, ...)                                     \
    check_ids((tok), OCT_STR(text), (flags), (const int32_t[]){__VA_ARGS__}, \
              sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static inline void check_text(const oct_tokenizer *tok, const int32_t *ids, size_t n, bool skip,
                              oct_str want) {
    oct_buf out;
    oct_buf_init(&out, MEM, 0);
    oct_tokenizer_decode(tok, ids, n, skip, &out);
    const bool same = oct_str_eq(oct_buf_view(&out), want);
    if (!same) print_error("got \"%s\"\n", oct_buf_cs(&out));
    oct_buf_fini(&out);
    assert_true(same);
}

#define CHECK_TEXT(tok, skip, text, ...)              \
    check_text((tok), (const int32_t[]){__VA_ARGS__}, \
               sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t), (skip), OCT_STR(text))

#endif
