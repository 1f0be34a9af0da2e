/*
 * store/gguf.h - one GGUF file, version 2 or 3: typed metadata, tensor table, aligned data.
 *
 * Everything is checked in open: counts and lengths against the bytes that are left before any
 * memory is taken, dimensions with checked products, ranges against the file.
 *
 * Tensors keep the file's own names here; dimensions are turned into row-major order. The usual
 * names and row order come from store/checkpoint.h.
 *
 * Ownership  The object owns file, metadata and table; strings live as long.
 * Threads    After open, everything const may be called from any thread.
 */
#ifndef OCT_STORE_GGUF_H
#define OCT_STORE_GGUF_H

#include "base/alloc.h"
#include "base/status.h"
#include "store/file.h"
#include "store/tensor.h"

typedef struct oct_gguf oct_gguf;

/* Kinds of metadata values, as numbered in the file. */
typedef enum oct_gguf_type {
    OCT_GGUF_U8 = 0,
    OCT_GGUF_I8 = 1,
    OCT_GGUF_U16 = 2,
    OCT_GGUF_I16 = 3,
    OCT_GGUF_U32 = 4,
    OCT_GGUF_I32 = 5,
    OCT_GGUF_F32 = 6,
    OCT_GGUF_BOOL = 7,
    OCT_GGUF_STRING = 8,
    OCT_GGUF_ARRAY = 9,
    OCT_GGUF_U64 = 10,
    OCT_GGUF_I64 = 11,
    OCT_GGUF_F64 = 12,
} oct_gguf_type;

typedef struct oct_gguf_value {
    oct_str key;
    oct_gguf_type type; /* of the value, or of the elements when is_array */
    bool is_array;
    uint64_t n;       /* elements; 1 for a scalar */
    const void *data; /* oct_str [n] for strings, else n numbers of the type in host order */
} oct_gguf_value;

/* path may be any regular file; OCT_E_CORRUPT when it is no GGUF. */
OCT_MUST_CHECK oct_status oct_gguf_open(const oct_allocator *mem, const char *path, oct_gguf **out,
                                        oct_err *err);
void oct_gguf_close(oct_gguf *g); /* accepts NULL */
/* True when the file's first four bytes say "GGUF". */
bool oct_gguf_is(const char *path);

size_t oct_gguf_n_values(const oct_gguf *g);
const oct_gguf_value *oct_gguf_value_at(const oct_gguf *g, size_t i);
/* NULL when absent. */
const oct_gguf_value *oct_gguf_find(const oct_gguf *g, const char *key);

/* Scalars: false when absent or of another kind. Integers of any width are read by u64 and i64 when
 * they fit; f64 reads floats and integers. */
bool oct_gguf_u64(const oct_gguf *g, const char *key, uint64_t *out);
bool oct_gguf_i64(const oct_gguf *g, const char *key, int64_t *out);
bool oct_gguf_f64(const oct_gguf *g, const char *key, double *out);
bool oct_gguf_bool(const oct_gguf *g, const char *key, bool *out);
bool oct_gguf_str(const oct_gguf *g, const char *key, oct_str *out);

/* Arrays: NULL when absent or of another element kind. *n_out is the length. */
const oct_str *oct_gguf_str_array(const oct_gguf *g, const char *key, uint64_t *n_out);
const float *oct_gguf_f32_array(const oct_gguf *g, const char *key, uint64_t *n_out);
const int32_t *oct_gguf_i32_array(const oct_gguf *g, const char *key, uint64_t *n_out);
/* Element i of an array or scalar of any integer kind or bool. */
bool oct_gguf_value_i64(const oct_gguf_value *v, uint64_t i, int64_t *out);
bool oct_gguf_value_f64(const oct_gguf_value *v, uint64_t i, double *out);

size_t oct_gguf_n_tensors(const oct_gguf *g);
/* In the order of their bytes. */
const oct_tensor *oct_gguf_tensor_at(const oct_gguf *g, size_t i);
const oct_tensor *oct_gguf_tensor(const oct_gguf *g, oct_str name); /* NULL when absent */
const oct_file *oct_gguf_file(const oct_gguf *g);

#endif
