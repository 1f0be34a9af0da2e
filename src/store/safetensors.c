/*
 * store/safetensors.c - reads the header once, checks all of it, keeps a table.
 *
 * Order of the checks: the length field against the file before anything is allocated; the number
 * of tensors by counting braces before jansson builds a tree; then each entry; then that the ranges
 * tile the data exactly (sorted by place, each begins where the last one ended).
 */
#include "store/safetensors.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/arena.h"
#include "codec/json.h"
#include "store/tensor_table.h"

enum { LENGTH_BYTES = 8, HEADER_DEPTH = 8, SHOWN_NAME = 128 };

struct oct_safetensors {
    const oct_allocator *mem;
    oct_file file;
    oct_arena arena; /* names */
    oct_tensor_table table;
    uint64_t data_at, data_bytes;
};

#define FAIL_AT(st, name, code, ...) fail_at((st), (name), (code), (err), __VA_ARGS__)

/* "FILE: tensor NAME: REASON". */
static oct_status OCT_PRINTF(5, 6) fail_at(const oct_safetensors *st, const char *name,
                                           oct_status code, oct_err *err, const char *fmt, ...) {
    char reason[OCT_ERR_TEXT / 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(reason, sizeof reason, fmt, args);
    va_end(args);
    return OCT_FAIL(err, code, "%s: tensor %.*s: %s", oct_path_base(st->file.path), SHOWN_NAME,
                    name, reason);
}

/* ---- the length field ------------------------------------------------------------------------ */

static oct_status read_length(oct_safetensors *st, uint64_t *n_out, oct_err *err) {
    static const char lfs[] = "version https://git-lfs";
    const char *base = oct_path_base(st->file.path);
    unsigned char head[sizeof lfs - 1];
    if (st->file.size < LENGTH_BYTES)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: incomplete download: have %" PRIu64 " bytes, need at least 8", base,
                        st->file.size);
    if (st->file.size >= sizeof head) {
        OCT_TRY(oct_file_read(&st->file, 0, head, sizeof head, err));
        if (memcmp(head, lfs, sizeof head) == 0)
            return OCT_FAIL(err, OCT_E_CORRUPT,
                            "%s: a git-lfs pointer, not the weights; fetch them with git lfs pull",
                            base);
    } else {
        OCT_TRY(oct_file_read(&st->file, 0, head, LENGTH_BYTES, err));
    }
    uint64_t n = 0;
    for (unsigned i = 0; i < LENGTH_BYTES; i++) n |= (uint64_t)head[i] << (8 * i);
    if (n < 2 || n > OCT_SAFETENSORS_MAX_HEADER)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: header length (got %" PRIu64 ", want 2 to %d)",
                        base, n, OCT_SAFETENSORS_MAX_HEADER);
    if (n > st->file.size - LENGTH_BYTES)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: incomplete download: have %" PRIu64 " bytes, header needs %" PRIu64,
                        base, st->file.size, n + LENGTH_BYTES);
    *n_out = n;
    return OCT_OK;
}

/* ---- the header text ------------------------------------------------------------------------- */

/* Bounds what jansson will build, before it builds it: objects and values outside strings. */
static oct_status check_counts(const oct_safetensors *st, oct_str text, oct_err *err) {
    const uint64_t max_objects = OCT_TENSOR_MAX_COUNT + 2,
                   max_commas = 14ull * OCT_TENSOR_MAX_COUNT;
    uint64_t n_objects = 0, n_commas = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.ptr[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string)
            n_objects += c == '{', n_commas += c == ',';
    }
    if (n_objects > max_objects || n_commas > max_commas)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: header: more than %d tensors",
                        oct_path_base(st->file.path), OCT_TENSOR_MAX_COUNT);
    return OCT_OK;
}

static oct_status read_header(oct_safetensors *st, uint64_t n, json_t **out, oct_err *err) {
    static const oct_json_limits limits = {.max_bytes = OCT_SAFETENSORS_MAX_HEADER,
                                           .max_depth = HEADER_DEPTH};
    const char *base = oct_path_base(st->file.path);
    *out = NULL;
    char *text = oct_alloc(st->mem, n, 1);
    if (!text) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory for the header", base);
    oct_status status = oct_file_read(&st->file, LENGTH_BYTES, text, n, err);
    if (status == OCT_OK && text[0] != '{')
        status = OCT_FAIL(err, OCT_E_CORRUPT, "%s: header does not begin with '{'", base);
    if (status == OCT_OK) status = check_counts(st, (oct_str){text, n}, err);
    if (status == OCT_OK) {
        status = oct_json_parse((oct_str){text, n}, base, &limits, out, err);
        if (status == OCT_E_INVALID) status = OCT_E_CORRUPT;
    }
    oct_free(st->mem, text, n, 1);
    return status;
}

/* ---- one entry ------------------------------------------------------------------------------- */

static oct_status parse_dtype(const oct_safetensors *st, const char *name, const json_t *entry,
                              oct_dtype *out, oct_err *err) {
    const json_t *v = json_object_get(entry, "dtype");
    const oct_str s = oct_json_str(v);
    if (!s.ptr) return FAIL_AT(st, name, OCT_E_CORRUPT, "dtype missing or not a string");
    for (int d = 0; d < OCT_DTYPE_Q4_0; d++)
        if (oct_str_is(s, oct_dtype_name((oct_dtype)d))) {
            *out = (oct_dtype)d;
            return OCT_OK;
        }
    if (oct_str_is(s, "F4") || oct_str_is(s, "F6_E2M3") || oct_str_is(s, "F6_E3M2"))
        return FAIL_AT(st, name, OCT_E_UNSUPPORTED, "dtype %.*s is not supported", OCT_STR_ARG(s));
    char shown[OCT_JSON_SHOWN];
    return FAIL_AT(st, name, OCT_E_CORRUPT, "unknown dtype %s", oct_json_show(v, shown));
}

static oct_status parse_shape(const oct_safetensors *st, const char *name, const json_t *entry,
                              oct_tensor *t, oct_err *err) {
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) return FAIL_AT(st, name, OCT_E_CORRUPT, "shape missing or no array");
    const size_t rank = json_array_size(shape);
    if (rank > OCT_TENSOR_MAX_RANK)
        return FAIL_AT(st, name, OCT_E_CORRUPT, "too many dimensions (got %zu, want at most %d)",
                       rank, OCT_TENSOR_MAX_RANK);
    t->rank = (uint32_t)rank;
    for (size_t d = 0; d < rank; d++) {
        const json_t *v = json_array_get(shape, d);
        if (!json_is_integer(v) || json_integer_value(v) < 0) {
            char shown[OCT_JSON_SHOWN];
            return FAIL_AT(st, name, OCT_E_CORRUPT,
                           "dimension %zu must be a whole number, not negative (got %s)", d,
                           oct_json_show(v, shown));
        }
        t->shape[d] = (uint64_t)json_integer_value(v);
    }
    return OCT_OK;
}

static oct_status parse_offsets(const oct_safetensors *st, const char *name, const json_t *entry,
                                oct_tensor *t, oct_err *err) {
    const json_t *v = json_object_get(entry, "data_offsets");
    const json_t *b = json_array_get(v, 0), *e = json_array_get(v, 1);
    if (json_array_size(v) != 2 || !json_is_integer(b) || !json_is_integer(e) ||
        json_integer_value(b) < 0 || json_integer_value(e) < 0)
        return FAIL_AT(st, name, OCT_E_CORRUPT,
                       "data_offsets must be two whole numbers, not negative");
    const uint64_t begin = (uint64_t)json_integer_value(b), end = (uint64_t)json_integer_value(e);
    if (begin > end)
        return FAIL_AT(st, name, OCT_E_CORRUPT, "begins after its end (%" PRIu64 " > %" PRIu64 ")",
                       begin, end);
    if (end > st->data_bytes)
        return FAIL_AT(st, name, OCT_E_CORRUPT,
                       "incomplete download: ends at byte %" PRIu64
                       " of the data, which has %" PRIu64,
                       end, st->data_bytes);
    if (end - begin != t->bytes)
        return FAIL_AT(st, name, OCT_E_CORRUPT,
                       "data_offsets and shape differ (got %" PRIu64 " bytes, want %" PRIu64 ")",
                       end - begin, t->bytes);
    t->offset = st->data_at + begin;
    return OCT_OK;
}

static oct_status parse_entry(oct_safetensors *st, const char *name, const json_t *entry,
                              oct_err *err) {
    oct_tensor t = {0};
    const size_t len = strlen(name);
    if (len == 0 || len > OCT_TENSOR_MAX_NAME)
        return FAIL_AT(st, name, OCT_E_CORRUPT, "name of %zu bytes (want 1 to %d)", len,
                       OCT_TENSOR_MAX_NAME);
    if (!json_is_object(entry)) return FAIL_AT(st, name, OCT_E_CORRUPT, "entry is not an object");
    if (st->table.n >= OCT_TENSOR_MAX_COUNT)
        return FAIL_AT(st, name, OCT_E_CORRUPT, "more than %d tensors", OCT_TENSOR_MAX_COUNT);
    OCT_TRY(parse_dtype(st, name, entry, &t.dtype, err));
    OCT_TRY(parse_shape(st, name, entry, &t, err));
    if (!oct_tensor_measure(&t))
        return FAIL_AT(st, name, OCT_E_CORRUPT, "the product of its dimensions overflows");
    OCT_TRY(parse_offsets(st, name, entry, &t, err));
    t.name = (oct_str){oct_arena_strndup(&st->arena, name, len), len};
    if (!t.name.ptr || !oct_tensor_table_add(&st->table, &t))
        return FAIL_AT(st, name, OCT_E_NOMEM, "no memory");
    return OCT_OK;
}

static oct_status check_metadata(const oct_safetensors *st, json_t *meta, oct_err *err) {
    const char *key;
    json_t *value;
    const char *base = oct_path_base(st->file.path);
    if (!json_is_object(meta))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: __metadata__ is not an object", base);
    json_object_foreach(meta, key, value) if (!json_is_string(value)) return OCT_FAIL(
        err, OCT_E_CORRUPT, "%s: __metadata__.%.*s is not a string", base, SHOWN_NAME, key);
    return OCT_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Every byte of the data belongs to exactly one tensor. */
static oct_status check_tiling(const oct_safetensors *st, oct_err *err) {
    uint64_t at = st->data_at;
    for (size_t i = 0; i < st->table.n; i++) {
        const oct_tensor *t = &st->table.v[i];
        if (t->offset != at)
            return FAIL_AT(st, t->name.ptr, OCT_E_CORRUPT,
                           "%s (begins at byte %" PRIu64 " of the data, want %" PRIu64 ")",
                           t->offset > at ? "a hole before it" : "overlaps another tensor",
                           t->offset - st->data_at, at - st->data_at);
        at += t->bytes;
    }
    if (at != st->file.size)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: %" PRIu64 " bytes after the last tensor belong to none",
                        oct_path_base(st->file.path), st->file.size - at);
    return OCT_OK;
}

static oct_status parse_all(oct_safetensors *st, json_t *header, oct_err *err) {
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            OCT_TRY(check_metadata(st, entry, err));
        else
            OCT_TRY(parse_entry(st, name, entry, err));
    }
    oct_tensor_table_sort(&st->table);
    OCT_TRY(check_tiling(st, err));
    if (!oct_tensor_table_index(&st->table, NULL))
        return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", oct_path_base(st->file.path));
    return OCT_OK;
}

static oct_status load(oct_safetensors *st, const char *path, oct_err *err) {
    uint64_t n = 0;
    json_t *header = NULL;
    OCT_TRY(oct_file_open(&st->file, st->mem, path, err));
    OCT_TRY(read_length(st, &n, err));
    st->data_at = LENGTH_BYTES + n;
    st->data_bytes = st->file.size - st->data_at;
    OCT_TRY(read_header(st, n, &header, err));
    const oct_status status = parse_all(st, header, err);
    json_decref(header);
    return status;
}

oct_status oct_safetensors_open(const oct_allocator *mem, const char *path, oct_safetensors **out,
                                oct_err *err) {
    *out = NULL;
    oct_safetensors *st = oct_calloc(mem, 1, sizeof *st);
    if (!st) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", oct_path_base(path));
    st->mem = mem;
    st->file.fd = -1;
    oct_arena_init(&st->arena, mem, 0);
    oct_tensor_table_init(&st->table, mem);
    const oct_status status = load(st, path, err);
    if (status == OCT_OK)
        *out = st;
    else
        oct_safetensors_close(st);
    return status;
}

void oct_safetensors_close(oct_safetensors *st) {
    if (!st) return;
    oct_tensor_table_fini(&st->table);
    oct_arena_fini(&st->arena);
    oct_file_close(&st->file);
    oct_free(st->mem, st, 1, sizeof *st);
}

size_t oct_safetensors_n(const oct_safetensors *st) { return st->table.n; }
const oct_tensor *oct_safetensors_at(const oct_safetensors *st, size_t i) {
    return &st->table.v[i];
}
const oct_tensor *oct_safetensors_find(const oct_safetensors *st, oct_str name) {
    return oct_tensor_table_find(&st->table, name);
}
const oct_file *oct_safetensors_file(const oct_safetensors *st) { return &st->file; }

oct_status oct_safetensors_read(const oct_safetensors *st, const oct_tensor *t, void *dst,
                                oct_err *err) {
    return oct_file_read(&st->file, t->offset, dst, t->bytes, err);
}
