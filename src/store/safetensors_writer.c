/*
 * store/safetensors_writer.c - the header is made at begin, when all tensors are known; data then
 * go straight to their final place with pwrite.
 */
#include "store/safetensors_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/checked.h"
#include "codec/json.h"
#include "store/file.h"
#include "store/safetensors.h"
#include "store/tensor_table.h"

struct oct_safetensors_writer {
    const oct_allocator *mem;
    oct_arena arena; /* names */
    oct_tensor_table table;
    uint64_t *written; /* [table.n] bytes received */
    oct_buf meta;      /* entries of __metadata__, joined by commas */
    char *path, *temp_path;
    int fd;
    uint64_t file_bytes;
};

oct_status oct_safetensors_writer_create(const oct_allocator *mem, oct_safetensors_writer **out,
                                         oct_err *err) {
    oct_safetensors_writer *w = oct_calloc(mem, 1, sizeof *w);
    *out = w;
    if (!w) return OCT_FAIL(err, OCT_E_NOMEM, "safetensors writer: no memory");
    w->mem = mem;
    w->fd = -1;
    oct_arena_init(&w->arena, mem, 0);
    oct_tensor_table_init(&w->table, mem);
    oct_buf_init(&w->meta, mem, 0);
    return OCT_OK;
}

void oct_safetensors_writer_destroy(oct_safetensors_writer *w) {
    if (!w) return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->temp_path);
    }
    oct_free(w->mem, w->written, w->table.n, sizeof *w->written);
    oct_tensor_table_fini(&w->table);
    oct_arena_fini(&w->arena);
    oct_buf_fini(&w->meta);
    oct_path_free(w->mem, w->path);
    oct_path_free(w->mem, w->temp_path);
    oct_free(w->mem, w, 1, sizeof *w);
}

oct_status oct_safetensors_writer_add(oct_safetensors_writer *w, oct_str name, oct_dtype dtype,
                                      uint32_t rank, const uint64_t *shape, oct_err *err) {
    oct_tensor t = {.dtype = dtype, .rank = rank};
    OCT_ASSERT(w->fd < 0);
    if (rank > OCT_TENSOR_MAX_RANK || name.len == 0 || name.len > OCT_TENSOR_MAX_NAME ||
        w->table.n >= OCT_TENSOR_MAX_COUNT || dtype >= OCT_DTYPE_Q4_0)
        return OCT_FAIL(err, OCT_E_INVALID, "tensor %.*s: cannot be written", OCT_STR_ARG(name));
    for (uint32_t d = 0; d < rank; d++) t.shape[d] = shape[d];
    if (!oct_tensor_measure(&t))
        return OCT_FAIL(err, OCT_E_INVALID, "tensor %.*s: too large", OCT_STR_ARG(name));
    t.name = (oct_str){oct_arena_strndup(&w->arena, name.ptr, name.len), name.len};
    if (!t.name.ptr || !oct_tensor_table_add(&w->table, &t))
        return OCT_FAIL(err, OCT_E_NOMEM, "safetensors writer: no memory");
    return OCT_OK;
}

oct_status oct_safetensors_writer_meta(oct_safetensors_writer *w, oct_str key, oct_str value,
                                       oct_err *err) {
    if (w->meta.len) oct_buf_char(&w->meta, ',');
    oct_json_quote(&w->meta, key);
    oct_buf_char(&w->meta, ':');
    oct_json_quote(&w->meta, value);
    return w->meta.failed ? OCT_FAIL(err, OCT_E_NOMEM, "safetensors writer: no memory") : OCT_OK;
}

/* Descending element size keeps every tensor aligned; then name, so that the file is reproducible.
 */
static int by_layout(const void *left, const void *right) {
    const oct_tensor *a = left, *b = right;
    const uint32_t x = oct_dtype_block_bytes(a->dtype), y = oct_dtype_block_bytes(b->dtype);
    if (x != y) return x > y ? -1 : 1;
    return strcmp(a->name.ptr, b->name.ptr);
}

/* Gives every tensor its place behind the header; *data_out is the sum. False: overflow. */
static bool lay_out(oct_safetensors_writer *w, uint64_t *data_out) {
    uint64_t at = 0;
    if (w->table.n > 1) qsort(w->table.v, w->table.n, sizeof *w->table.v, by_layout);
    for (size_t i = 0; i < w->table.n; i++) {
        w->table.v[i].offset = at;
        if (!oct_add_u64(at, w->table.v[i].bytes, &at) || at > INT64_MAX / 2) return false;
    }
    *data_out = at;
    return true;
}

static void write_header(const oct_safetensors_writer *w, oct_buf *b) {
    const char *comma = "";
    oct_buf_char(b, '{');
    if (w->meta.len) {
        oct_buf_printf(b, "\"__metadata__\":{%s}", oct_buf_cs(&w->meta));
        comma = ",";
    }
    for (size_t i = 0; i < w->table.n; i++) {
        const oct_tensor *t = &w->table.v[i];
        oct_buf_cstr(b, comma);
        oct_json_quote(b, t->name);
        oct_buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", oct_dtype_name(t->dtype));
        for (uint32_t d = 0; d < t->rank; d++)
            oct_buf_printf(b, "%s%" PRIu64, d ? "," : "", t->shape[d]);
        oct_buf_printf(b, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", t->offset,
                       t->offset + t->bytes);
        comma = ",";
    }
    oct_buf_char(b, '}');
    while (b->len % 8 && !b->failed) oct_buf_char(b, ' ');
}

static oct_status write_at(oct_safetensors_writer *w, uint64_t offset, const void *data,
                           uint64_t bytes, oct_err *err) {
    const unsigned char *p = data;
    while (bytes > 0) {
        const size_t want = bytes < (1u << 30) ? (size_t)bytes : 1u << 30;
        const ssize_t n = pwrite(w->fd, p, want, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return OCT_FAIL(err, OCT_E_IO, "%s: %s", w->temp_path,
                            n < 0 ? strerror(errno) : "nothing written");
        p += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return OCT_OK;
}

static oct_status create_temp(oct_safetensors_writer *w, const char *path, oct_err *err) {
    oct_buf name;
    struct stat there;
    /* The rename at the end would put a plain file in the place of a device such as /dev/null. */
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))
        return OCT_FAIL(err, OCT_E_IO, "%s: not a regular file", path);
    oct_buf_init(&name, w->mem, 0);
    oct_buf_printf(&name, "%s.%ld.tmp", path, (long)getpid());
    w->path = oct_strndup(w->mem, path, strlen(path));
    w->temp_path = name.failed ? NULL : oct_strndup(w->mem, name.data, name.len);
    oct_buf_fini(&name);
    if (!w->path || !w->temp_path) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", path);
    unlink(w->temp_path); /* left by a process of the same number that was killed */
    w->fd = open(w->temp_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (w->fd < 0) return OCT_FAIL(err, OCT_E_IO, "%s: %s", path, strerror(errno));
    return OCT_OK;
}

/* Sorts, lays out, and moves the offsets behind the header text in b. */
static oct_status prepare(oct_safetensors_writer *w, const char *path, oct_buf *b, oct_err *err) {
    const oct_tensor *twice;
    uint64_t data_bytes;
    if (!lay_out(w, &data_bytes)) return OCT_FAIL(err, OCT_E_INVALID, "%s: too large", path);
    w->written = oct_calloc(w->mem, w->table.n, sizeof *w->written);
    if (!w->written || !oct_tensor_table_index(&w->table, &twice))
        return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", path);
    if (twice)
        return OCT_FAIL(err, OCT_E_INVALID, "%s: tensor %s is declared twice", path,
                        twice->name.ptr);
    write_header(w, b);
    if (b->failed) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", path);
    if (b->len > OCT_SAFETENSORS_MAX_HEADER)
        return OCT_FAIL(err, OCT_E_INVALID, "%s: header too large", path);
    for (size_t i = 0; i < w->table.n; i++) w->table.v[i].offset += 8 + b->len;
    w->file_bytes = 8 + b->len + data_bytes;
    return OCT_OK;
}

oct_status oct_safetensors_writer_begin(oct_safetensors_writer *w, const char *path, oct_err *err) {
    OCT_ASSERT(w->fd < 0 && !w->path);
    oct_buf b;
    unsigned char length[8];
    oct_buf_init(&b, w->mem, 0);
    oct_status status = prepare(w, path, &b, err);
    if (status == OCT_OK) status = create_temp(w, path, err);
    for (unsigned i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)b.len >> (8 * i));
    if (status == OCT_OK) status = write_at(w, 0, length, sizeof length, err);
    if (status == OCT_OK) status = write_at(w, 8, b.data, b.len, err);
    if (status == OCT_OK && ftruncate(w->fd, (off_t)w->file_bytes) != 0)
        status = OCT_FAIL(err, OCT_E_IO, "%s: %s", path, strerror(errno));
    oct_buf_fini(&b);
    return status;
}

oct_status oct_safetensors_writer_write(oct_safetensors_writer *w, oct_str name, uint64_t offset,
                                        const void *data, uint64_t bytes, oct_err *err) {
    OCT_ASSERT(w->fd >= 0);
    uint64_t end;
    const oct_tensor *t = oct_tensor_table_find(&w->table, name);
    if (!t) return OCT_FAIL(err, OCT_E_INVALID, "tensor %.*s was not declared", OCT_STR_ARG(name));
    if (!oct_add_u64(offset, bytes, &end) || end > t->bytes)
        return OCT_FAIL(err, OCT_E_INVALID, "tensor %s: written past its end", t->name.ptr);
    OCT_TRY(write_at(w, t->offset + offset, data, bytes, err));
    w->written[t - w->table.v] += bytes;
    return OCT_OK;
}

oct_status oct_safetensors_writer_finish(oct_safetensors_writer *w, oct_err *err) {
    OCT_ASSERT(w->fd >= 0);
    for (size_t i = 0; i < w->table.n; i++)
        if (w->written[i] != w->table.v[i].bytes)
            return OCT_FAIL(err, OCT_E_INVALID,
                            "tensor %s: %" PRIu64 " bytes were written (want %" PRIu64 ")",
                            w->table.v[i].name.ptr, w->written[i], w->table.v[i].bytes);
    if (fsync(w->fd) != 0 || rename(w->temp_path, w->path) != 0)
        return OCT_FAIL(err, OCT_E_IO, "%s: %s", w->path, strerror(errno));
    close(w->fd);
    w->fd = -1;
    return OCT_OK;
}

uint64_t oct_safetensors_writer_file_bytes(const oct_safetensors_writer *w) {
    return w->file_bytes;
}
