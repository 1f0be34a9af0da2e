/*
 * fuzz/scheme_folder.h - a folder with a small model, of which one file is the bytes at hand; it
 * is removed when the process ends.
 */
#ifndef OCT_FUZZ_SCHEME_FOLDER_H
#define OCT_FUZZ_SCHEME_FOLDER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "store/safetensors_writer.h"
#include "store/scheme.h"

/* config.json but for its last brace. */
#define SCHEME_CONFIG                                                      \
    "{\"model_type\":\"llama\",\"hidden_size\":4,\"intermediate_size\":8," \
    "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"vocab_size\":3"

typedef struct scheme_row {
    const char *name;
    oct_dtype dtype;
    uint32_t rank;
    uint64_t shape[2]; /* at most 8 values: F32 are ones, others zeros */
} scheme_row;

static char scheme_folder[64]; /* "" until it is made */

static void scheme_path(char path[128], const char *name) {
    snprintf(path, 128, "%s/%s", scheme_folder, name);
}

/* A file of this text, these bytes, this text. */
static void scheme_put(const char *name, const char *before, const uint8_t *data, size_t size,
                       const char *after) {
    char path[128];
    scheme_path(path, name);
    FILE *f = fopen(path, "wb");
    if (!f || fputs(before, f) == EOF || fwrite(data, 1, size, f) != size ||
        fputs(after, f) == EOF || fclose(f) != 0)
        abort();
}

static void scheme_put_tensors(const char *name, const scheme_row *rows, size_t n) {
    const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    const unsigned char zeros[8 * 4] = {0};
    char path[128];
    oct_safetensors_writer *w;
    if (oct_safetensors_writer_create(oct_system_allocator(), &w, NULL) != OCT_OK) abort();
    for (size_t i = 0; i < n; i++)
        if (oct_safetensors_writer_add(w, oct_str_of(rows[i].name), rows[i].dtype, rows[i].rank,
                                       rows[i].shape, NULL) != OCT_OK)
            abort();
    scheme_path(path, name);
    if (oct_safetensors_writer_begin(w, path, NULL) != OCT_OK) abort();
    for (size_t i = 0; i < n; i++) {
        oct_tensor t = {.dtype = rows[i].dtype, .rank = rows[i].rank};
        memcpy(t.shape, rows[i].shape, sizeof rows[i].shape);
        const void *data = rows[i].dtype == OCT_DTYPE_F32 ? (const void *)ones : zeros;
        if (!oct_tensor_measure(&t) || t.bytes > sizeof zeros ||
            oct_safetensors_writer_write(w, oct_str_of(rows[i].name), 0, data, t.bytes, NULL) !=
                OCT_OK)
            abort();
    }
    if (oct_safetensors_writer_finish(w, NULL) != OCT_OK) abort();
    oct_safetensors_writer_destroy(w);
}

static void scheme_remove(void) {
    static const char *const names[] = {"config.json",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "m-00001-of-00002.safetensors",
                                        "m-00002-of-00002.safetensors",
                                        "quant_model_description.json"};
    char path[128];
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        scheme_path(path, names[i]);
        unlink(path);
    }
    rmdir(scheme_folder);
}

/* Makes the folder with these tensors in the file of this name. */
static void scheme_start(const char *name, const scheme_row *rows, size_t n) {
    oct_log_set_level(OCT_LOG_OFF);
    snprintf(scheme_folder, sizeof scheme_folder, "%s/octet-fuzz-XXXXXX", P_tmpdir);
    if (!mkdtemp(scheme_folder)) abort();
    atexit(scheme_remove);
    scheme_put_tensors(name, rows, n);
}

/* Opens the folder; what is refused has a sentence, the rest is looked at. */
static void scheme_read(void (*look)(oct_checkpoint *c, oct_scheme *s, oct_arena *arena)) {
    const oct_allocator *mem = oct_system_allocator();
    oct_checkpoint *c;
    oct_scheme *s = NULL;
    oct_arena arena;
    oct_err err = {0};
    if (oct_checkpoint_open(mem, scheme_folder, &c, &err) != OCT_OK) {
        if (err.text[0] == '\0') abort();
        return;
    }
    oct_arena_init(&arena, mem, 0);
    if (oct_scheme_open(mem, c, NULL, &s, &err) == OCT_OK)
        look(c, s, &arena);
    else if (err.text[0] == '\0')
        abort();
    oct_scheme_close(s);
    oct_checkpoint_close(c);
    oct_arena_fini(&arena);
}

#endif
