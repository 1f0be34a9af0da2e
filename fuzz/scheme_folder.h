/*
 * fuzz/scheme_folder.h - a small model. What lies in its folder stays as it is: an input is either
 * a file in memory that the folder has a link to, and the folder is opened each time, or it is JSON
 * that is put into the model, which was opened once.
 */
#ifndef OCT_FUZZ_SCHEME_FOLDER_H
#define OCT_FUZZ_SCHEME_FOLDER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "codec/json.h"
#include "memory_file.h"
#include "store/checkpoint_parts.h"
#include "store/safetensors_writer.h"
#include "store/scheme.h"

#define SCHEME_CONFIG                                                      \
    "{\"model_type\":\"llama\",\"hidden_size\":4,\"intermediate_size\":8," \
    "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"vocab_size\":3}"

typedef struct scheme_row {
    const char *name;
    oct_dtype dtype;
    uint32_t rank;
    uint64_t shape[2]; /* at most 8 values: F32 are ones, others zeros */
} scheme_row;

static char scheme_folder[64];       /* "" until it is made */
static oct_checkpoint *scheme_model; /* of scheme_keep */

static void scheme_path(char path[128], const char *name) {
    snprintf(path, 128, "%s/%s", scheme_folder, name);
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
    static const char *const names[] = {
        "config.json", "model.safetensors", "model.safetensors.index.json",
        "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"};
    char path[128];
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        scheme_path(path, names[i]);
        unlink(path);
    }
    rmdir(scheme_folder);
}

/* Makes the folder with these tensors in the file of this name. */
static void scheme_start(const char *name, const scheme_row *rows, size_t n) {
    char path[128];
    oct_log_set_level(OCT_LOG_OFF);
    snprintf(scheme_folder, sizeof scheme_folder, "%s/octet-fuzz-XXXXXX", P_tmpdir);
    if (!mkdtemp(scheme_folder)) abort();
    atexit(scheme_remove);
    scheme_put_tensors(name, rows, n);
    scheme_path(path, "config.json");
    FILE *f = fopen(path, "w");
    if (!f || fputs(SCHEME_CONFIG, f) == EOF || fclose(f) != 0) abort();
}

/* Opens the folder and keeps the model; the files live on as long as it does. */
static inline void scheme_keep(const scheme_row *rows, size_t n) {
    scheme_start("model.safetensors", rows, n);
    if (oct_checkpoint_open(oct_system_allocator(), scheme_folder, &scheme_model, NULL) != OCT_OK)
        abort();
    scheme_remove();
}

/* What was accepted is looked at; what was refused has a sentence. */
typedef void (*scheme_look)(oct_checkpoint *c, oct_scheme *s, oct_arena *arena);

static void scheme_try(oct_checkpoint *c, scheme_look look) {
    const oct_allocator *mem = oct_system_allocator();
    oct_scheme *s = NULL;
    oct_arena arena;
    oct_err err = {0};
    oct_arena_init(&arena, mem, 0);
    if (oct_scheme_open(mem, c, NULL, &s, &err) == OCT_OK)
        look(c, s, &arena);
    else if (err.text[0] == '\0')
        abort();
    oct_scheme_close(s);
    oct_arena_fini(&arena);
}

/* Opens the folder anew. */
static inline void scheme_read(scheme_look look) {
    oct_checkpoint *c;
    oct_err err = {0};
    if (oct_checkpoint_open(oct_system_allocator(), scheme_folder, &c, &err) == OCT_OK) {
        scheme_try(c, look);
        oct_checkpoint_close(c);
    } else if (err.text[0] == '\0') {
        abort();
    }
}

/* The kept model with the text in this place of it: one of its JSON objects. */
static inline void scheme_read_with(json_t **place, const uint8_t *data, size_t size,
                                    scheme_look look) {
    oct_checkpoint *c = scheme_model;
    oct_err err = {0};
    memset(c->used, 0, c->table.n);
    oct_buf_clear(&c->problems);
    c->n_problems = 0;
    const oct_str text = {(const char *)data, size};
    if (oct_checkpoint_read_object(text, "input", place, &err) == OCT_OK)
        scheme_try(c, look);
    else if (err.text[0] == '\0')
        abort();
    json_decref(*place);
    *place = NULL;
}

#endif
