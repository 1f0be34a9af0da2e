/*
 * tests/unit/store/store_test.h - files made for one test: a temporary folder, safetensors and GGUF
 * images built field by field so that any field can be made wrong.
 */
#ifndef OCT_STORE_TEST_H
#define OCT_STORE_TEST_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/status.h"
#include "support/gguf_bytes.h"
#include "support/golden.h"
#include "support/refused_memory.h"

/* ---- a folder of its own for each test --------------------------------------------------------
 */

static char test_dir[64];

static inline int make_dir(void **state) {
    (void)state;
    oct_log_set_level(OCT_LOG_OFF);
    snprintf(test_dir, sizeof test_dir, "%s/octet-store-XXXXXX", P_tmpdir);
    return mkdtemp(test_dir) ? 0 : -1;
}

static inline int remove_dir(void **state) {
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", test_dir);
    return system(command);
}

/* Path of a file in the folder; valid until eight more calls. */
static inline const char *in_dir(const char *name) {
    static char paths[8][512];
    static unsigned turn;
    char *p = paths[turn++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", test_dir, name);
    return p;
}

static inline void put_file(const char *name, const void *data, size_t bytes) {
    FILE *f = fopen(in_dir(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static inline void put_text(const char *name, const char *text) {
    put_file(name, text, strlen(text));
}

/* ---- safetensors ------------------------------------------------------------------------------
 */

/* A file of this header text and data; the length field says what the text is long. */
static inline void put_safetensors(const char *name, const char *header, const void *data,
                                   size_t bytes) {
    oct_buf b;
    const uint64_t n = strlen(header);
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_buf_add(&b, &n, 8);
    oct_buf_add(&b, header, n);
    oct_buf_add(&b, data, bytes);
    put_file(name, b.data, b.len);
    oct_buf_fini(&b);
}

/* ---- expectations -----------------------------------------------------------------------------
 */

/* The sentence must hold the word; prints it when it does not. */
static inline void expect_text(const oct_err *err, const char *word) {
    if (!strstr(err->text, word)) {
        print_error("sentence: \"%s\"\nwanted:   \"%s\"\n", err->text, word);
        fail();
    }
}

/* The path of the i-th golden model of a folder that is read here; false behind the last. Ask
 * golden_root() first. */
static inline bool golden_folder(size_t i, char path[2048]) {
    static const char *const names[] = {"llama-mha",
                                        "llama-modelslim-w8a8-v0-i64",
                                        "llama-rope-linear",
                                        "llama-rope-llama3",
                                        "llama-tied",
                                        "qwen2-bias",
                                        "qwen2-modelslim-w8a8-bias",
                                        "qwen3",
                                        "qwen3-modelslim-w8a8",
                                        "qwen3-modelslim-w8a8-dynamic",
                                        "qwen3-modelslim-w8a8c8",
                                        "qwen3-modelslim-w8a8c8-offset",
                                        "qwen3-modelslim-w8a8mix-c8-normbias",
                                        "qwen3-normbias",
                                        "qwen3-rope-yarn"};
    if (i >= OCT_COUNT(names)) return false;
    snprintf(path, 2048, "%.1900s/cases/%s", golden_root(), names[i]);
    return true;
}

#endif
