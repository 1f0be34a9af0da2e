/*
 * store/gguf.c - one pass over the head of the file through a window, so that a length is compared
 * with the bytes that are left before anything of that size is allocated.
 *
 * Layout: "GGUF", u32 version, u64 tensors, u64 values; values (string key, u32 type, payload);
 * tensors (string name, u32 rank, u64 dimension, innermost first, u32 type, u64 offset); padding to
 * the alignment; data. Strings are a u64 length and bytes. All little-endian.
 */
#include "store/gguf.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "codec/utf8.h"
#include "store/tensor_table.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie");

enum {
    WINDOW_BYTES = 1 << 18,
    MAX_VALUES = 8192,
    MAX_ARRAY = 1 << 22,  /* most merges of a tokenizer that is accepted */
    MAX_STRING = 4 << 20, /* a chat template is at most 256 KiB */
    MAX_KEY = 1024,
    MAX_METADATA = 512 << 20,
    MAX_RANK = 4,
    MAX_ALIGNMENT = 1 << 16,
    DEFAULT_ALIGNMENT = 32,
};

struct oct_gguf {
    const oct_allocator *mem;
    oct_file file;
    oct_arena arena; /* keys, strings, numbers, names */
    oct_gguf_value *values;
    size_t n_values, cap_values;
    oct_tensor_table table;
};

/* A moving window over the head of the file. */
typedef struct reader {
    oct_gguf *g;
    unsigned char *window;
    uint64_t window_bytes;
    uint64_t at; /* next byte of the file */
    uint64_t have_from, have_to;
    const char *base;
} reader;

static uint64_t left(const reader *r) { return r->g->file.size - r->at; }

static oct_status take(reader *r, void *dst, uint64_t n, oct_err *err) {
    unsigned char *p = dst;
    if (n > left(r))
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: incomplete download: ends inside its header (at byte %" PRIu64
                        ", %" PRIu64 " more wanted)",
                        r->base, r->at, n - left(r));
    while (n > 0) {
        if (r->at < r->have_from || r->at >= r->have_to) {
            const uint64_t want = left(r) < r->window_bytes ? left(r) : r->window_bytes;
            OCT_TRY(oct_file_read(&r->g->file, r->at, r->window, want, err));
            r->have_from = r->at;
            r->have_to = r->at + want;
        }
        const uint64_t here = r->have_to - r->at, step = n < here ? n : here;
        memcpy(p, r->window + (r->at - r->have_from), step);
        p += step;
        r->at += step;
        n -= step;
    }
    return OCT_OK;
}

static oct_status take_u32(reader *r, uint32_t *out, oct_err *err) {
    return take(r, out, sizeof *out, err);
}
static oct_status take_u64(reader *r, uint64_t *out, oct_err *err) {
    return take(r, out, sizeof *out, err);
}

static oct_status no_memory(const reader *r, oct_err *err) {
    return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory for its header (limit %d MiB)", r->base,
                    MAX_METADATA >> 20);
}

static oct_status take_string(reader *r, uint64_t max, const char *what, oct_str *out,
                              oct_err *err) {
    uint64_t n;
    OCT_TRY(take_u64(r, &n, err));
    if (n > left(r) || n > max)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: %s of %" PRIu64 " bytes (at byte %" PRIu64 ", want at most %" PRIu64
                        ")",
                        r->base, what, n, r->at, n > left(r) ? left(r) : max);
    char *p = oct_arena_alloc(&r->g->arena, n + 1, 1);
    if (!p) return no_memory(r, err);
    OCT_TRY(take(r, p, n, err));
    *out = (oct_str){p, n};
    return OCT_OK;
}

/* Keys and tensor names: text, not empty, no control characters. */
static oct_status take_name(reader *r, const char *what, oct_str *out, oct_err *err) {
    OCT_TRY(take_string(r, MAX_KEY, what, out, err));
    if (out->len == 0) return OCT_FAIL(err, OCT_E_CORRUPT, "%s: empty %s", r->base, what);
    if (!oct_utf8_valid(*out, NULL))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %s (ending at byte %" PRIu64 ") is not UTF-8",
                        r->base, what, r->at);
    for (size_t i = 0; i < out->len; i++)
        if ((unsigned char)out->ptr[i] < 0x20)
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %s %s holds a control character", r->base,
                            what, out->ptr);
    return OCT_OK;
}

/* ---- metadata -------------------------------------------------------------------------------- */

/* 0 for strings, arrays and unknown types. */
static uint32_t type_bytes(uint32_t type) {
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < OCT_COUNT(bytes) ? bytes[type] : 0;
}

static oct_status take_payload(reader *r, oct_gguf_value *v, oct_err *err) {
    const uint64_t unit = v->type == OCT_GGUF_STRING ? sizeof(uint64_t) : type_bytes(v->type);
    if (v->n > MAX_ARRAY || v->n > left(r) / unit)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: %s: %" PRIu64 " elements (want at most %" PRIu64 ")", r->base,
                        v->key.ptr, v->n, v->n > MAX_ARRAY ? (uint64_t)MAX_ARRAY : left(r) / unit);
    if (v->type == OCT_GGUF_STRING) {
        oct_str *s = oct_arena_alloc(&r->g->arena, v->n, sizeof *s);
        if (!s) return no_memory(r, err);
        for (uint64_t i = 0; i < v->n; i++)
            OCT_TRY(take_string(r, MAX_STRING, v->key.ptr, &s[i], err));
        v->data = s;
        return OCT_OK;
    }
    unsigned char *p = oct_arena_alloc(&r->g->arena, v->n, unit);
    if (!p) return no_memory(r, err);
    OCT_TRY(take(r, p, v->n * unit, err));
    for (uint64_t i = 0; v->type == OCT_GGUF_BOOL && i < v->n; i++)
        if (p[i] > 1)
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %s: a bool of %d", r->base, v->key.ptr, p[i]);
    v->data = p;
    return OCT_OK;
}

static oct_status take_value(reader *r, oct_err *err) {
    oct_gguf *g = r->g;
    oct_gguf_value v = {.n = 1};
    uint32_t type = 0;
    OCT_TRY(take_name(r, "key", &v.key, err));
    OCT_TRY(take_u32(r, &type, err));
    if (type == OCT_GGUF_ARRAY) {
        v.is_array = true;
        OCT_TRY(take_u32(r, &type, err));
        OCT_TRY(take_u64(r, &v.n, err));
    }
    if (type_bytes(type) == 0 && type != OCT_GGUF_STRING)
        return OCT_FAIL(err, type == OCT_GGUF_ARRAY ? OCT_E_UNSUPPORTED : OCT_E_CORRUPT,
                        "%s: %s: value of type %u is not known", r->base, v.key.ptr, type);
    v.type = (oct_gguf_type)type;
    OCT_TRY(take_payload(r, &v, err));
    for (size_t i = 0; i < g->n_values; i++)
        if (oct_str_eq(g->values[i].key, v.key))
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: key %s appears twice", r->base, v.key.ptr);
    if (g->n_values == g->cap_values) {
        const size_t cap = g->cap_values ? 2 * g->cap_values : 64;
        oct_gguf_value *p = oct_grow(g->mem, g->values, g->cap_values, cap, sizeof *p);
        if (!p) return no_memory(r, err);
        g->values = p;
        g->cap_values = cap;
    }
    g->values[g->n_values++] = v;
    return OCT_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

typedef struct type_row {
    const char *name;
    uint32_t id;
    int dtype; /* -1: known to the format, not read here */
} type_row;

static const type_row types[] = {
    {"F32", 0, OCT_DTYPE_F32},
    {"F16", 1, OCT_DTYPE_F16},
    {"Q4_0", 2, OCT_DTYPE_Q4_0},
    {"Q4_1", 3, OCT_DTYPE_Q4_1},
    {"Q5_0", 6, OCT_DTYPE_Q5_0},
    {"Q5_1", 7, OCT_DTYPE_Q5_1},
    {"Q8_0", 8, OCT_DTYPE_Q8_0},
    {"Q8_1", 9, -1},
    {"Q2_K", 10, -1},
    {"Q3_K", 11, -1},
    {"Q4_K", 12, OCT_DTYPE_Q4_K},
    {"Q5_K", 13, OCT_DTYPE_Q5_K},
    {"Q6_K", 14, OCT_DTYPE_Q6_K},
    {"Q8_K", 15, -1},
    {"IQ2_XXS", 16, -1},
    {"IQ2_XS", 17, -1},
    {"IQ3_XXS", 18, -1},
    {"IQ1_S", 19, -1},
    {"IQ4_NL", 20, -1},
    {"IQ3_S", 21, -1},
    {"IQ2_S", 22, -1},
    {"IQ4_XS", 23, -1},
    {"I8", 24, OCT_DTYPE_I8},
    {"I16", 25, OCT_DTYPE_I16},
    {"I32", 26, OCT_DTYPE_I32},
    {"I64", 27, OCT_DTYPE_I64},
    {"F64", 28, OCT_DTYPE_F64},
    {"IQ1_M", 29, -1},
    {"BF16", 30, OCT_DTYPE_BF16},
    {"TQ1_0", 34, -1},
    {"TQ2_0", 35, -1},
    {"MXFP4", 39, -1},
};

static oct_status find_type(const reader *r, const char *name, uint32_t id, oct_dtype *out,
                            oct_err *err) {
    for (size_t i = 0; i < OCT_COUNT(types); i++) {
        if (types[i].id != id) continue;
        if (types[i].dtype < 0)
            return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                            "%s: tensor %s: type %s is not supported (want F32, F16, BF16, Q8_0, "
                            "Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K)",
                            r->base, name, types[i].name);
        *out = (oct_dtype)types[i].dtype;
        return OCT_OK;
    }
    return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %s: unknown type %u", r->base, name, id);
}

/* Dimensions lie innermost first; ours are outermost first. offset is still relative to the data.
 */
static oct_status take_tensor(reader *r, uint64_t alignment, oct_err *err) {
    oct_tensor t = {0};
    uint32_t type;
    OCT_TRY(take_name(r, "tensor name", &t.name, err));
    OCT_TRY(take_u32(r, &t.rank, err));
    if (t.rank < 1 || t.rank > MAX_RANK)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %s: %u dimensions (want 1 to %d)", r->base,
                        t.name.ptr, t.rank, MAX_RANK);
    for (uint32_t d = 0; d < t.rank; d++) {
        uint64_t *dim = &t.shape[t.rank - 1 - d];
        OCT_TRY(take_u64(r, dim, err));
        if (*dim < 1 || *dim > INT64_MAX)
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %s: dimension %u is %" PRIu64, r->base,
                            t.name.ptr, d, *dim);
    }
    OCT_TRY(take_u32(r, &type, err));
    OCT_TRY(take_u64(r, &t.offset, err));
    OCT_TRY(find_type(r, t.name.ptr, type, &t.dtype, err));
    if (!oct_tensor_measure(&t))
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: tensor %s: its dimensions overflow or are no whole blocks of %s",
                        r->base, t.name.ptr, oct_dtype_name(t.dtype));
    if (t.offset % alignment != 0)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: tensor %s: offset %" PRIu64 " is not a multiple of %" PRIu64, r->base,
                        t.name.ptr, t.offset, alignment);
    return oct_tensor_table_add(&r->g->table, &t) ? OCT_OK : no_memory(r, err);
}

/* Ranges lie inside the file, do not overlap and leave no hole beyond padding. */
static oct_status place_tensors(reader *r, uint64_t alignment, oct_err *err) {
    oct_tensor_table *table = &r->g->table;
    uint64_t data_at, at = 0;
    if (!oct_round_up_u64(r->at, alignment, &data_at)) return OCT_E_CORRUPT; /* at <= file size */
    const uint64_t data_bytes = data_at <= r->g->file.size ? r->g->file.size - data_at : 0;
    oct_tensor_table_sort(table);
    for (size_t i = 0; i < table->n; i++) {
        oct_tensor *t = &table->v[i];
        uint64_t end;
        if (!oct_add_u64(t->offset, t->bytes, &end) || end > data_bytes)
            return OCT_FAIL(err, OCT_E_CORRUPT,
                            "%s: tensor %s: incomplete download: ends at byte %" PRIu64
                            " of the data, which has %" PRIu64,
                            r->base, t->name.ptr, end, data_bytes);
        if (t->offset < at || t->offset - at >= alignment)
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %s: %s", r->base, t->name.ptr,
                            t->offset < at ? "overlaps another tensor" : "a hole before it");
        at = end;
        t->offset += data_at;
    }
    if (table->n > 0 && data_bytes - at >= alignment)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %" PRIu64 " bytes after the last tensor", r->base,
                        data_bytes - at);
    return OCT_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static oct_status take_counts(reader *r, uint64_t *n_tensors, uint64_t *n_values, oct_err *err) {
    unsigned char magic[4] = {0};
    uint32_t version = 0;
    if (r->g->file.size < sizeof magic)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: not a GGUF file (%" PRIu64 " bytes)", r->base,
                        r->g->file.size);
    OCT_TRY(take(r, magic, sizeof magic, err));
    if (memcmp(magic, "GGUF", sizeof magic) != 0)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: not a GGUF file", r->base);
    OCT_TRY(take_u32(r, &version, err));
    if (version == 1 || (version & 0xFFFF) == 0)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "%s: GGUF %s is not supported (want version 2 or 3)", r->base,
                        version == 1 ? "version 1" : "of a big-endian machine");
    if (version != 2 && version != 3)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: GGUF version %u (want 2 or 3)", r->base,
                        version);
    OCT_TRY(take_u64(r, n_tensors, err));
    OCT_TRY(take_u64(r, n_values, err));
    /* The smallest value and tensor take 14 and 33 bytes. */
    if (*n_tensors > OCT_TENSOR_MAX_COUNT || *n_tensors > left(r) / 33)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %" PRIu64 " tensors in %" PRIu64 " bytes", r->base,
                        *n_tensors, r->g->file.size);
    if (*n_values > MAX_VALUES || *n_values > left(r) / 14)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %" PRIu64 " metadata values in %" PRIu64 " bytes",
                        r->base, *n_values, r->g->file.size);
    return OCT_OK;
}

static oct_status check_settings(const reader *r, uint64_t *alignment, oct_err *err) {
    uint64_t n_parts;
    *alignment = DEFAULT_ALIGNMENT;
    if (oct_gguf_find(r->g, "general.alignment") &&
        (!oct_gguf_u64(r->g, "general.alignment", alignment) || *alignment < 1 ||
         *alignment > MAX_ALIGNMENT || (*alignment & (*alignment - 1)) != 0))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: general.alignment must be a power of two up to %d",
                        r->base, MAX_ALIGNMENT);
    if (oct_gguf_u64(r->g, "split.count", &n_parts) && n_parts > 1)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "%s: one of %" PRIu64 " parts of a split file; merge them first", r->base,
                        n_parts);
    return OCT_OK;
}

static oct_status parse(reader *r, oct_err *err) {
    uint64_t n_tensors = 0, n_values = 0, alignment = 0;
    const oct_tensor *twice;
    OCT_TRY(take_counts(r, &n_tensors, &n_values, err));
    for (uint64_t i = 0; i < n_values; i++) OCT_TRY(take_value(r, err));
    OCT_TRY(check_settings(r, &alignment, err));
    for (uint64_t i = 0; i < n_tensors; i++) OCT_TRY(take_tensor(r, alignment, err));
    OCT_TRY(place_tensors(r, alignment, err));
    if (!oct_tensor_table_index(&r->g->table, &twice)) return no_memory(r, err);
    if (twice)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %s appears twice", r->base,
                        twice->name.ptr);
    return OCT_OK;
}

static oct_status load(oct_gguf *g, const char *path, oct_err *err) {
    reader r = {.g = g, .base = oct_path_base(path)};
    OCT_TRY(oct_file_open(&g->file, g->mem, path, err));
    r.window_bytes = g->file.size < WINDOW_BYTES ? g->file.size : WINDOW_BYTES;
    r.window = oct_alloc(g->mem, r.window_bytes, 1);
    if (!r.window) return no_memory(&r, err);
    const oct_status status = parse(&r, err);
    oct_free(g->mem, r.window, r.window_bytes, 1);
    return status;
}

oct_status oct_gguf_open(const oct_allocator *mem, const char *path, oct_gguf **out, oct_err *err) {
    *out = NULL;
    oct_gguf *g = oct_calloc(mem, 1, sizeof *g);
    if (!g) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", path);
    g->mem = mem;
    g->file.fd = -1;
    oct_arena_init(&g->arena, mem, MAX_METADATA);
    oct_tensor_table_init(&g->table, mem);
    const oct_status status = load(g, path, err);
    if (status == OCT_OK)
        *out = g;
    else
        oct_gguf_close(g);
    return status;
}

void oct_gguf_close(oct_gguf *g) {
    if (!g) return;
    oct_free(g->mem, g->values, g->cap_values, sizeof *g->values);
    oct_tensor_table_fini(&g->table);
    oct_arena_fini(&g->arena);
    oct_file_close(&g->file);
    oct_free(g->mem, g, 1, sizeof *g);
}

bool oct_gguf_is(const char *path) {
    char magic[4] = {0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return false;
    const ssize_t n = pread(fd, magic, sizeof magic, 0);
    close(fd);
    return n == (ssize_t)sizeof magic && memcmp(magic, "GGUF", sizeof magic) == 0;
}

/* ---- typed access ---------------------------------------------------------------------------- */

size_t oct_gguf_n_values(const oct_gguf *g) { return g->n_values; }
const oct_gguf_value *oct_gguf_value_at(const oct_gguf *g, size_t i) { return &g->values[i]; }

const oct_gguf_value *oct_gguf_find(const oct_gguf *g, const char *key) {
    for (size_t i = 0; i < g->n_values; i++)
        if (oct_str_is(g->values[i].key, key)) return &g->values[i];
    return NULL;
}

bool oct_gguf_value_i64(const oct_gguf_value *v, uint64_t i, int64_t *out) {
    if (i >= v->n) return false;
    switch (v->type) {
    case OCT_GGUF_U8:
    case OCT_GGUF_BOOL:
        *out = ((const uint8_t *)v->data)[i];
        return true;
    case OCT_GGUF_I8: /* by hand: a char's sign is easily lost on the way to 64 bits */
        *out = (int64_t)(((const uint8_t *)v->data)[i] ^ 0x80u) - 0x80;
        return true;
    case OCT_GGUF_U16:
        *out = ((const uint16_t *)v->data)[i];
        return true;
    case OCT_GGUF_I16:
        *out = ((const int16_t *)v->data)[i];
        return true;
    case OCT_GGUF_U32:
        *out = ((const uint32_t *)v->data)[i];
        return true;
    case OCT_GGUF_I32:
        *out = ((const int32_t *)v->data)[i];
        return true;
    case OCT_GGUF_I64:
        *out = ((const int64_t *)v->data)[i];
        return true;
    case OCT_GGUF_U64:
        *out = ((const int64_t *)v->data)[i];
        return *out >= 0;
    default:
        return false;
    }
}

bool oct_gguf_value_f64(const oct_gguf_value *v, uint64_t i, double *out) {
    int64_t whole;
    if (i >= v->n) return false;
    if (v->type == OCT_GGUF_F32)
        *out = ((const float *)v->data)[i];
    else if (v->type == OCT_GGUF_F64)
        *out = ((const double *)v->data)[i];
    else if (v->type != OCT_GGUF_BOOL && oct_gguf_value_i64(v, i, &whole))
        *out = (double)whole;
    else
        return false;
    return true;
}

static const oct_gguf_value *scalar(const oct_gguf *g, const char *key) {
    const oct_gguf_value *v = oct_gguf_find(g, key);
    return v && !v->is_array ? v : NULL;
}

bool oct_gguf_i64(const oct_gguf *g, const char *key, int64_t *out) {
    const oct_gguf_value *v = scalar(g, key);
    return v && v->type != OCT_GGUF_BOOL && oct_gguf_value_i64(v, 0, out);
}

bool oct_gguf_u64(const oct_gguf *g, const char *key, uint64_t *out) {
    int64_t i;
    if (!oct_gguf_i64(g, key, &i) || i < 0) return false;
    *out = (uint64_t)i;
    return true;
}

bool oct_gguf_f64(const oct_gguf *g, const char *key, double *out) {
    const oct_gguf_value *v = scalar(g, key);
    return v && oct_gguf_value_f64(v, 0, out);
}

bool oct_gguf_bool(const oct_gguf *g, const char *key, bool *out) {
    const oct_gguf_value *v = scalar(g, key);
    if (!v || v->type != OCT_GGUF_BOOL) return false;
    *out = *(const uint8_t *)v->data != 0;
    return true;
}

bool oct_gguf_str(const oct_gguf *g, const char *key, oct_str *out) {
    const oct_gguf_value *v = scalar(g, key);
    if (!v || v->type != OCT_GGUF_STRING) return false;
    *out = *(const oct_str *)v->data;
    return true;
}

static const void *array(const oct_gguf *g, const char *key, oct_gguf_type type, uint64_t *n_out) {
    const oct_gguf_value *v = oct_gguf_find(g, key);
    *n_out = 0;
    if (!v || !v->is_array || v->type != type) return NULL;
    *n_out = v->n;
    return v->data;
}

const oct_str *oct_gguf_str_array(const oct_gguf *g, const char *key, uint64_t *n_out) {
    return array(g, key, OCT_GGUF_STRING, n_out);
}
const float *oct_gguf_f32_array(const oct_gguf *g, const char *key, uint64_t *n_out) {
    return array(g, key, OCT_GGUF_F32, n_out);
}
const int32_t *oct_gguf_i32_array(const oct_gguf *g, const char *key, uint64_t *n_out) {
    return array(g, key, OCT_GGUF_I32, n_out);
}

size_t oct_gguf_n_tensors(const oct_gguf *g) { return g->table.n; }
const oct_tensor *oct_gguf_tensor_at(const oct_gguf *g, size_t i) { return &g->table.v[i]; }
const oct_tensor *oct_gguf_tensor(const oct_gguf *g, oct_str name) {
    return oct_tensor_table_find(&g->table, name);
}
const oct_file *oct_gguf_file(const oct_gguf *g) { return &g->file; }
