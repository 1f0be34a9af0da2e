/*
 * store/checkpoint.c - the table of tensors, reading them, and keeping count of what was asked for.
 *
 * Pair order: where the usual order keeps dimension i and i + r/2 of a head's r rotated ones as a
 * pair, GGUF's "llama" and GLM-4 store them side by side. Usual row a * r/2 + b of a head is stored
 * row 2b + a; rows from r on stay. Heads are read whole and their rows copied to their places. The
 * products of queries and keys do not change by it, and rotation has one form.
 */
#include "store/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "quant/float_types.h"
#include "store/checkpoint_parts.h"
#include "store/config_parts.h"
#include "store/gguf_quants.h"

enum { PIECE_BYTES = 1 << 20, SHOWN_PROBLEMS = 5, SHOWN_UNUSED = 5 };

/* ---- open and close -------------------------------------------------------------------------- */

/* Everything that has a number for each row of q or k: weights, biases, scales, scales of the
 * cache. What has another size is refused when it is asked for. */
static void mark_pairs(oct_checkpoint *c) {
    const oct_family_row *row = &oct_families[c->config.family];
    if (!row->pairs && !(c->gguf && row->gguf_pairs)) return;
    for (size_t i = 0; i < c->table.n; i++) {
        oct_tensor *t = &c->table.v[i];
        const uint32_t heads = strstr(t->name.ptr, ".self_attn.q_proj.")   ? c->config.n_heads
                               : strstr(t->name.ptr, ".self_attn.k_proj.") ? c->config.n_kv_heads
                                                                           : 0;
        if (!heads || t->rank < 1 || t->shape[0] != (uint64_t)heads * c->config.head_dim ||
            (t->rank == 1 && oct_dtype_block_elems(t->dtype) != 1))
            continue;
        t->n_pair_heads = heads;
        t->pair_dims = c->config.rope.rotary_dim;
    }
}

static oct_status load(oct_checkpoint *c, oct_err *err) {
    struct stat st;
    if (stat(c->path, &st) != 0) return OCT_FAIL(err, OCT_E_IO, "%s: %s", c->path, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        OCT_TRY(oct_checkpoint_open_folder(c, err));
        OCT_TRY(oct_checkpoint_split_experts(c, err));
        oct_checkpoint_find_wrapper(c);
    } else if (!oct_gguf_is(c->path) && !oct_str_ends(oct_str_of(c->path), OCT_STR(".gguf"))) {
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: neither a folder with config.json nor a GGUF file",
                        c->path);
    } else {
        const oct_tensor *twice;
        if (c->overrides)
            return OCT_FAIL(err, OCT_E_INVALID,
                            "%s: overrides are for config.json, and this is a GGUF file", c->path);
        OCT_TRY(oct_checkpoint_open_gguf(c, err));
        if (!oct_tensor_table_index(&c->table, &twice))
            return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
        if (twice)
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %s is there under two names", c->path,
                            twice->name.ptr);
    }
    mark_pairs(c);
    c->used = oct_calloc(c->mem, c->table.n, 1);
    if (!c->used) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
    /* Read with the configuration, or computed from it. */
    for (size_t i = 0; i < c->table.n; i++)
        if (oct_str_is(c->table.v[i].name, "rope_freqs.weight") ||
            oct_str_starts(c->table.v[i].name, OCT_STR("rope_factors_")) ||
            oct_str_ends(c->table.v[i].name, OCT_STR(".rotary_emb.inv_freq")))
            oct_checkpoint_consume(c, &c->table.v[i]);
    return OCT_OK;
}

oct_status oct_checkpoint_create(const oct_allocator *mem, const char *path, oct_checkpoint **out,
                                 oct_err *err) {
    *out = NULL;
    oct_checkpoint *c = oct_calloc(mem, 1, sizeof *c);
    if (!c) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", path);
    c->mem = mem;
    oct_arena_init(&c->arena, mem, 0);
    oct_tensor_table_init(&c->table, mem);
    oct_buf_init(&c->problems, mem, 0);
    oct_buf_init(&c->json_files, mem, 1024); /* what does not fit is not listed */
    c->path = oct_strndup(mem, path, strlen(path));
    if (c->path) {
        *out = c;
        return OCT_OK;
    }
    oct_checkpoint_close(c);
    return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", path);
}

oct_status oct_checkpoint_open_with(const oct_allocator *mem, const char *path,
                                    const char *overrides, oct_checkpoint **out, oct_err *err) {
    oct_checkpoint *c;
    *out = NULL;
    OCT_TRY(oct_checkpoint_create(mem, path, &c, err));
    c->overrides = overrides;
    const oct_status status = load(c, err);
    c->overrides = NULL;
    if (status == OCT_OK)
        *out = c;
    else
        oct_checkpoint_close(c);
    return status;
}

oct_status oct_checkpoint_open(const oct_allocator *mem, const char *path, oct_checkpoint **out,
                               oct_err *err) {
    return oct_checkpoint_open_with(mem, path, NULL, out, err);
}

void oct_checkpoint_close(oct_checkpoint *c) {
    if (!c) return;
    oct_buf_fini(&c->problems);
    oct_buf_fini(&c->json_files);
    oct_free(c->mem, c->used, c->table.n, 1);
    oct_tensor_table_fini(&c->table);
    for (size_t i = 0; i < c->n_shards; i++) oct_safetensors_close(c->shards[i].st);
    oct_free(c->mem, c->shards, c->cap_shards, sizeof *c->shards);
    oct_gguf_close(c->gguf);
    oct_synthetic_free(c);
    json_decref(c->description);
    oct_model_config_fini(&c->config);
    oct_arena_fini(&c->arena);
    oct_path_free(c->mem, c->path);
    oct_free(c->mem, c, 1, sizeof *c);
}

const char *oct_checkpoint_path(const oct_checkpoint *c) { return c->path; }
const oct_model_config *oct_checkpoint_config(const oct_checkpoint *c) { return &c->config; }
const oct_generation_config *oct_checkpoint_generation(const oct_checkpoint *c) {
    return &c->generation;
}
const oct_gguf *oct_checkpoint_gguf(const oct_checkpoint *c) { return c->gguf; }
json_t *oct_checkpoint_description(const oct_checkpoint *c) { return c->description; }

size_t oct_checkpoint_n_tensors(const oct_checkpoint *c) { return c->table.n; }
const oct_tensor *oct_checkpoint_tensor_at(const oct_checkpoint *c, size_t i) {
    return &c->table.v[i];
}

uint64_t oct_checkpoint_weight_bytes(const oct_checkpoint *c) {
    uint64_t sum = 0;
    for (size_t i = 0; i < c->table.n; i++) sum += c->table.v[i].bytes;
    return sum;
}

const oct_file *oct_checkpoint_file_of(const oct_checkpoint *c, const oct_tensor *t) {
    if (c->synthetic) return oct_synthetic_file(c);
    return c->gguf ? oct_gguf_file(c->gguf) : oct_safetensors_file(c->shards[t->file].st);
}

const char *oct_checkpoint_file_name(const oct_checkpoint *c, const oct_tensor *t) {
    return oct_path_base(oct_checkpoint_file_of(c, t)->path);
}

size_t oct_checkpoint_n_files(const oct_checkpoint *c) { return c->gguf ? 1 : c->n_shards; }
const oct_file *oct_checkpoint_file_at(const oct_checkpoint *c, size_t i) {
    return c->gguf ? oct_gguf_file(c->gguf) : oct_safetensors_file(c->shards[i].st);
}

oct_status oct_checkpoint_check_unchanged(const oct_checkpoint *c, oct_err *err) {
    if (c->gguf) return oct_file_check_unchanged(oct_gguf_file(c->gguf), err);
    for (size_t i = 0; i < c->n_shards; i++)
        OCT_TRY(oct_file_check_unchanged(oct_safetensors_file(c->shards[i].st), err));
    return OCT_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Stored units of one head: its rows, or the elements of a bias. */
typedef struct head_shape {
    uint64_t n_units, n_pairs, unit_bytes;
} head_shape;

static head_shape head_of(const oct_tensor *t) {
    const uint64_t n = t->shape[0] / t->n_pair_heads;
    OCT_ASSERT(t->pair_dims <= n);
    OCT_ASSERT(t->pair_dims % 2 == 0);
    return (head_shape){n, t->pair_dims / 2, t->bytes / t->shape[0]};
}

/* Units first .. first + n - 1 of the usual order, from one stored head. */
static void copy_head(const unsigned char *head, head_shape h, uint64_t first, uint64_t n,
                      unsigned char *dst) {
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t usual = first + i;
        const uint64_t stored = usual < h.n_pairs       ? 2 * usual
                                : usual < 2 * h.n_pairs ? 2 * (usual - h.n_pairs) + 1
                                                        : usual;
        memcpy(dst + i * h.unit_bytes, head + stored * h.unit_bytes, h.unit_bytes);
    }
}

static oct_status read_pairs(const oct_checkpoint *c, const oct_tensor *t, uint64_t first,
                             uint64_t n, unsigned char *dst, oct_err *err) {
    const head_shape h = head_of(t);
    const uint64_t head_bytes = h.n_units * h.unit_bytes;
    unsigned char *head = oct_alloc(c->mem, head_bytes, 1);
    if (!head) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", t->name.ptr);
    oct_status status = OCT_OK;
    while (status == OCT_OK && n > 0) {
        const uint64_t which = first / h.n_units, at = first % h.n_units;
        const uint64_t here = n < h.n_units - at ? n : h.n_units - at;
        status = oct_file_read(oct_checkpoint_file_of(c, t), t->offset + which * head_bytes, head,
                               head_bytes, err);
        if (status == OCT_OK) copy_head(head, h, at, here, dst);
        dst += here * h.unit_bytes;
        first += here;
        n -= here;
    }
    oct_free(c->mem, head, head_bytes, 1);
    return status;
}

oct_status oct_checkpoint_read_raw_rows(const oct_checkpoint *c, const oct_tensor *t, uint64_t row0,
                                        uint64_t n_rows, void *dst, oct_err *err) {
    OCT_ASSERT(row0 <= t->n_rows);
    OCT_ASSERT(n_rows <= t->n_rows - row0);
    oct_status status = OCT_OK;
    if (c->synthetic)
        oct_synthetic_read(c, t, row0, n_rows, dst);
    else if (t->n_pair_heads && t->rank == 1)
        status = read_pairs(c, t, 0, n_rows * t->shape[0], dst, err); /* one row or none */
    else if (t->n_pair_heads)
        status = read_pairs(c, t, row0, n_rows, dst, err);
    else
        status = oct_file_read(oct_checkpoint_file_of(c, t), t->offset + row0 * t->row_bytes, dst,
                               n_rows * t->row_bytes, err);
    return status;
}

oct_status oct_checkpoint_read_raw(const oct_checkpoint *c, const oct_tensor *t, void *dst,
                                   oct_err *err) {
    return oct_checkpoint_read_raw_rows(c, t, 0, t->n_rows, dst, err);
}

/* Of any real type but float32, which is read in place. */
static void to_f32(oct_dtype dtype, const unsigned char *src, size_t n, float *dst) {
    switch (dtype) {
    case OCT_DTYPE_F16:
        oct_f16_row_to_f32(src, n, dst);
        break;
    case OCT_DTYPE_BF16:
        oct_bf16_row_to_f32(src, n, dst);
        break;
    case OCT_DTYPE_F64:
        for (size_t i = 0; i < n; i++) {
            double v;
            memcpy(&v, src + 8 * i, sizeof v);
            dst[i] = (float)v;
        }
        break;
    default:
        oct_gguf_dequantize(dtype, src, n, dst);
        break;
    }
}

oct_status oct_checkpoint_read_rows(const oct_checkpoint *c, const oct_tensor *t, uint64_t row0,
                                    uint64_t n_rows, float *dst, oct_err *err) {
    OCT_ASSERT(oct_dtype_is_real(t->dtype));
    if (t->row_bytes == 0 || n_rows == 0) return OCT_OK;
    if (t->dtype == OCT_DTYPE_F32)
        return oct_checkpoint_read_raw_rows(c, t, row0, n_rows, dst, err);
    uint64_t piece = PIECE_BYTES / t->row_bytes;
    piece = piece == 0 ? 1 : piece < n_rows ? piece : n_rows;
    const uint64_t bytes = piece * t->row_bytes;
    unsigned char *raw = oct_alloc(c->mem, bytes, 1);
    if (!raw) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", t->name.ptr);
    oct_status status = OCT_OK;
    while (status == OCT_OK && n_rows > 0) {
        const uint64_t n = piece < n_rows ? piece : n_rows;
        status = oct_checkpoint_read_raw_rows(c, t, row0, n, raw, err);
        if (status == OCT_OK) to_f32(t->dtype, raw, n * t->row_elems, dst);
        dst += n * t->row_elems;
        row0 += n;
        n_rows -= n;
    }
    oct_free(c->mem, raw, bytes, 1);
    return status;
}

/* ---- needs ----------------------------------------------------------------------------------- */

void oct_checkpoint_note(oct_checkpoint *c, const char *fmt, ...) {
    char text[OCT_ERR_TEXT / 4];
    if (c->n_problems++ >= SHOWN_PROBLEMS) return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    oct_buf_printf(&c->problems, "%s%s", c->n_problems > 1 ? "; " : "", text);
}

oct_status oct_checkpoint_check_needs(const oct_checkpoint *c, oct_err *err) {
    if (c->n_problems == 0) return OCT_OK;
    return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %zu tensors are missing or wrong: %s%s",
                    oct_path_base(c->path), c->n_problems, oct_buf_cs(&c->problems),
                    c->n_problems > SHOWN_PROBLEMS ? "; ..." : "");
}

static void note_shape(oct_checkpoint *c, const oct_tensor *t, const char *want_type, uint32_t rank,
                       const uint64_t *shape) {
    oct_buf b;
    oct_buf_init(&b, c->mem, 0);
    oct_tensor_describe(t, &b);
    oct_buf_printf(&b, ", want %s [", want_type);
    for (uint32_t d = 0; d < rank; d++) oct_buf_printf(&b, "%s%" PRIu64, d ? ", " : "", shape[d]);
    oct_checkpoint_note(c, "%s: got %s]", t->name.ptr, oct_buf_cs(&b));
    oct_buf_fini(&b);
}

const oct_tensor *oct_checkpoint_need(oct_checkpoint *c, const char *name, uint32_t rank,
                                      const uint64_t *shape) {
    const oct_tensor *t = oct_checkpoint_find(c, name);
    if (!t) {
        oct_checkpoint_note(c, "%s is missing", name);
        return NULL;
    }
    oct_checkpoint_consume(c, t);
    if (oct_dtype_is_real(t->dtype) && oct_tensor_has_shape(t, rank, shape)) return t;
    note_shape(c, t, "a float type", rank, shape);
    return NULL;
}

const oct_tensor *oct_checkpoint_need_as(oct_checkpoint *c, const char *name, oct_dtype dtype,
                                         uint32_t rank, const uint64_t *shape) {
    const oct_tensor *t = oct_checkpoint_find(c, name);
    if (!t) {
        oct_checkpoint_note(c, "%s is missing", name);
        return NULL;
    }
    oct_checkpoint_consume(c, t);
    if (t->dtype == dtype && oct_tensor_has_shape(t, rank, shape)) return t;
    note_shape(c, t, oct_dtype_name(dtype), rank, shape);
    return NULL;
}

void oct_checkpoint_consume(oct_checkpoint *c, const oct_tensor *t) {
    if (t) c->used[t - c->table.v] = 1;
}

size_t oct_checkpoint_unused(const oct_checkpoint *c, oct_buf *out) {
    size_t n = 0;
    for (size_t i = 0; i < c->table.n; i++) {
        if (c->used[i]) continue;
        if (out && n < SHOWN_UNUSED)
            oct_buf_printf(out, "%s%s", n ? ", " : "", c->table.v[i].name.ptr);
        n++;
    }
    if (out && n > SHOWN_UNUSED) oct_buf_cstr(out, ", ...");
    return n;
}

/* ---- vectors --------------------------------------------------------------------------------- */

/* "a.b.weight" as "a.b.module.weight", which old writers used for norms. */
static const oct_tensor *find_vector(const oct_checkpoint *c, const char *name) {
    const oct_tensor *t = oct_checkpoint_find(c, name);
    const char *dot = strrchr(name, '.');
    char alias[OCT_ERR_TEXT];
    if (t || !dot) return t;
    const int n = snprintf(alias, sizeof alias, "%.*s.module%s", (int)(dot - name), name, dot);
    return (size_t)n < sizeof alias ? oct_checkpoint_find(c, alias) : NULL;
}

oct_status oct_checkpoint_vector(oct_checkpoint *c, oct_arena *arena, const char *name, uint64_t n,
                                 bool optional, const float **out, oct_err *err) {
    const oct_tensor *t = find_vector(c, name);
    *out = NULL;
    if (!t && optional) return OCT_OK;
    t = oct_checkpoint_need(c, t ? t->name.ptr : name, 1, &n);
    if (!t) return OCT_OK;
    float *v = oct_arena_alloc(arena, n, sizeof *v);
    if (!v) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", name);
    OCT_TRY(oct_checkpoint_read_rows(c, t, 0, 1, v, err));
    for (uint64_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %s: not finite at index %" PRIu64,
                            oct_path_base(oct_checkpoint_file_of(c, t)->path), t->name.ptr, i);
    *out = v;
    return OCT_OK;
}
