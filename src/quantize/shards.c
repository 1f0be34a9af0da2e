/* quantize/shards.c - one writer for each file, all open until the end. */
#include "quantize/shards.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "codec/json.h"
#include "quantize/folder.h"
#include "store/safetensors_writer.h"
#include "store/tensor_table.h"

enum { MAX_SHARDS = 4096, PATH = 4096 };

struct oct_shards {
    const oct_allocator *mem;
    oct_arena arena;        /* names */
    oct_tensor_table table; /* file: which writer */
    oct_safetensors_writer **writers;
    uint32_t n, cap;
    uint64_t most, filled; /* bytes; of the last file */
    uint64_t total;
    const char *folder, *stem; /* from begin */
};

oct_status oct_shards_create(const oct_allocator *mem, uint64_t most, oct_shards **out,
                             oct_err *err) {
    oct_shards *s = oct_calloc(mem, 1, sizeof *s);
    *out = s;
    if (!s) return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    s->mem = mem;
    s->most = most ? most : UINT64_MAX;
    oct_arena_init(&s->arena, mem, 0);
    oct_tensor_table_init(&s->table, mem);
    return OCT_OK;
}

void oct_shards_destroy(oct_shards *s) {
    if (!s) return;
    for (uint32_t i = 0; i < s->n; i++) oct_safetensors_writer_destroy(s->writers[i]);
    oct_free(s->mem, s->writers, s->cap, sizeof(oct_safetensors_writer *));
    oct_tensor_table_fini(&s->table);
    oct_arena_fini(&s->arena);
    oct_free(s->mem, s, 1, sizeof *s);
}

static oct_status open_next(oct_shards *s, oct_err *err) {
    if (s->n == MAX_SHARDS)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "--max-shard-size: more than %d files (want a larger size)", MAX_SHARDS);
    if (s->n == s->cap) {
        const uint32_t cap = s->cap ? 2 * s->cap : 4;
        oct_safetensors_writer **p =
            oct_grow(s->mem, s->writers, s->cap, cap, sizeof(oct_safetensors_writer *));
        if (!p) return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
        s->writers = p;
        s->cap = cap;
    }
    OCT_TRY(oct_safetensors_writer_create(s->mem, &s->writers[s->n], err));
    s->n++;
    s->filled = 0;
    return oct_safetensors_writer_meta(s->writers[s->n - 1], OCT_STR("format"), OCT_STR("pt"), err);
}

oct_status oct_shards_add(oct_shards *s, oct_str name, oct_dtype dtype, uint32_t rank,
                          const uint64_t *shape, oct_err *err) {
    oct_tensor t = {.dtype = dtype, .rank = rank};
    for (uint32_t d = 0; d < rank; d++) t.shape[d] = shape[d];
    if (!oct_tensor_measure(&t))
        return OCT_FAIL(err, OCT_E_INVALID, "tensor %.*s: too large", OCT_STR_ARG(name));
    if (s->n == 0 || (s->filled && t.bytes > s->most - s->filled)) OCT_TRY(open_next(s, err));
    t.name = (oct_str){oct_arena_strndup(&s->arena, name.ptr, name.len), name.len};
    t.file = s->n - 1;
    if (!t.name.ptr || !oct_tensor_table_add(&s->table, &t))
        return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    s->filled = t.bytes > s->most - s->filled ? s->most : s->filled + t.bytes;
    s->total += t.bytes;
    return oct_safetensors_writer_add(s->writers[s->n - 1], name, dtype, rank, shape, err);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void file_name(const oct_shards *s, uint32_t i, char out[PATH]) {
    if (s->n == 1)
        snprintf(out, PATH, "%s.safetensors", s->stem);
    else
        snprintf(out, PATH, "%s-%05u-of-%05u.safetensors", s->stem, i + 1, s->n);
}

static bool is_ours(const oct_shards *s, const char *name) {
    char own[PATH];
    for (uint32_t i = 0; i < s->n; i++) {
        file_name(s, i, own);
        if (strcmp(own, name) == 0) return true;
    }
    snprintf(own, sizeof own, "%s.safetensors.index.json", s->stem);
    return s->n > 1 && strcmp(own, name) == 0;
}

static oct_status check_folder(const oct_shards *s, oct_err *err) {
    oct_status st = OCT_OK;
    DIR *dir = opendir(s->folder);
    if (!dir) return OCT_FAIL(err, OCT_E_IO, "%s: %s", s->folder, strerror(errno));
    for (struct dirent *e; st == OCT_OK && (e = readdir(dir));) {
        const oct_str name = oct_str_of(e->d_name);
        if (!oct_str_ends(name, OCT_STR(".safetensors")) &&
            !oct_str_ends(name, OCT_STR(".safetensors.index.json")))
            continue;
        if (!is_ours(s, e->d_name))
            st = OCT_FAIL(err, OCT_E_INVALID,
                          "%s: %s is there and does not belong to the result; remove it or name "
                          "another folder",
                          s->folder, e->d_name);
    }
    closedir(dir);
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

oct_status oct_shards_begin(oct_shards *s, const char *folder, const char *stem, oct_err *err) {
    char name[PATH], path[2 * PATH];
    const oct_tensor *twice;
    s->folder = folder;
    s->stem = stem;
    if (strlen(folder) + strlen(stem) + 64 > PATH)
        return OCT_FAIL(err, OCT_E_INVALID, "%s: path too long", folder);
    OCT_TRY(check_folder(s, err));
    if (!oct_tensor_table_index(&s->table, &twice))
        return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    if (twice) return OCT_FAIL(err, OCT_E_INVALID, "tensor %s is declared twice", twice->name.ptr);
    for (uint32_t i = 0; i < s->n; i++) {
        file_name(s, i, name);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        OCT_TRY(oct_safetensors_writer_begin(s->writers[i], path, err));
    }
    return OCT_OK;
}

oct_status oct_shards_write(oct_shards *s, oct_str name, uint64_t offset, const void *data,
                            uint64_t bytes, oct_err *err) {
    const oct_tensor *t = oct_tensor_table_find(&s->table, name);
    if (!t) return OCT_FAIL(err, OCT_E_INVALID, "tensor %.*s was not declared", OCT_STR_ARG(name));
    return oct_safetensors_writer_write(s->writers[t->file], name, offset, data, bytes, err);
}

static oct_status write_index(const oct_shards *s, oct_err *err) {
    char name[PATH];
    json_t *map = json_object();
    for (size_t i = 0; i < s->table.n; i++) {
        file_name(s, s->table.v[i].file, name);
        oct_json_put(&map, s->table.v[i].name.ptr, json_string(name));
    }
    json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)s->total,
                              "weight_map", map);
    snprintf(name, sizeof name, "%s.safetensors.index.json", s->stem);
    const oct_status st = oct_folder_write_json(s->mem, index, s->folder, name, err);
    json_decref(index);
    return st;
}

oct_status oct_shards_finish(oct_shards *s, oct_err *err) {
    for (uint32_t i = 0; i < s->n; i++) OCT_TRY(oct_safetensors_writer_finish(s->writers[i], err));
    return s->n > 1 ? write_index(s, err) : OCT_OK;
}

uint32_t oct_shards_count(const oct_shards *s) { return s->n; }

uint64_t oct_shards_bytes(const oct_shards *s) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->n; i++) sum += oct_safetensors_writer_file_bytes(s->writers[i]);
    return sum;
}
