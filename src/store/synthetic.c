/*
 * store/synthetic.c - see synthetic.h.
 *
 * Element i of a tensor is byte i % 8 of word i / 8 of the tensor's stream; word w is a mixing of
 * key + w, where key comes from seed and name. A byte becomes a value through a table of 256: so
 * all types cost a load a value, and INT8 weights nothing but the mixing.
 */
#include "store/synthetic.h"

#include <stdio.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/log.h"
#include "codec/json.h"
#include "quant/float_types.h"
#include "store/checkpoint_parts.h"

struct oct_synthetic {
    uint64_t seed;
    oct_dtype float_dtype;
    oct_file file;   /* none; its path is what messages name */
    oct_fill *fills; /* [table.n], in the order of adding */
    size_t cap;
};

/* ---- values ---------------------------------------------------------------------------------- */

static inline uint64_t mix(uint64_t x) {
    x *= 0x9E3779B97F4A7C15u;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93u;
    x ^= x >> 29;
    x *= 0xA0761D6478BD642Fu;
    return x ^ x >> 32;
}

/* n bytes of the stream from byte `first`. */
static void make_bytes(uint64_t key, uint64_t first, uint64_t n, unsigned char *out) {
    uint64_t w = first / 8, word;
    const uint64_t skip = first % 8;
    if (skip) {
        const uint64_t here = n < 8 - skip ? n : 8 - skip;
        word = mix(key + w++);
        memcpy(out, (const unsigned char *)&word + skip, here);
        out += here;
        n -= here;
    }
    for (; n >= 8; n -= 8, out += 8) {
        word = mix(key + w++);
        memcpy(out, &word, 8);
    }
    if (n) {
        word = mix(key + w);
        memcpy(out, &word, n);
    }
}

static float value_of(oct_fill fill, unsigned byte) {
    if (fill.kind == OCT_FILL_SPREAD) return fill.value * (0.75f + (float)byte / 510);
    return fill.value * (float)(int8_t)byte / 128;
}

/* Values from bytes that lie at the far end of dst: a value never reaches a byte that is still to
 * be read. */
static void widen(oct_dtype dtype, oct_fill fill, const unsigned char *bytes, uint64_t n,
                  unsigned char *dst) {
    float values[256];
    uint16_t halves[256];
    for (unsigned b = 0; b < 256; b++) {
        values[b] = value_of(fill, b);
        halves[b] =
            dtype == OCT_DTYPE_BF16 ? oct_f32_to_bf16(values[b]) : oct_f32_to_f16(values[b]);
    }
    if (dtype == OCT_DTYPE_F32)
        for (uint64_t i = 0; i < n; i++) memcpy(dst + 4 * i, &values[bytes[i]], 4);
    else
        for (uint64_t i = 0; i < n; i++) memcpy(dst + 2 * i, &halves[bytes[i]], 2);
}

void oct_synthetic_read(const oct_checkpoint *c, const oct_tensor *t, uint64_t row0,
                        uint64_t n_rows, void *dst) {
    const uint64_t key = XXH3_64bits_withSeed(t->name.ptr, t->name.len, c->synthetic->seed);
    const uint64_t n = n_rows * t->row_elems;
    unsigned char *bytes = (unsigned char *)dst + (n_rows * t->row_bytes - n);
    make_bytes(key, row0 * t->row_elems, n, bytes);
    if (t->dtype != OCT_DTYPE_I8) widen(t->dtype, c->synthetic->fills[t->offset], bytes, n, dst);
}

uint64_t oct_synthetic_seed(const oct_checkpoint *c) { return c->synthetic->seed; }
const oct_file *oct_synthetic_file(const oct_checkpoint *c) { return &c->synthetic->file; }

void oct_synthetic_free(oct_checkpoint *c) {
    if (!c->synthetic) return;
    oct_free(c->mem, c->synthetic->fills, c->synthetic->cap, sizeof(oct_fill));
    oct_free(c->mem, c->synthetic, 1, sizeof *c->synthetic);
}

/* ---- making one ------------------------------------------------------------------------------ */

static oct_status read_config(oct_checkpoint *c, const char *source, oct_buf *text,
                              oct_preset_storage *storage, oct_err *err) {
    *storage = OCT_PRESET_BF16;
    if (oct_preset_is(source)) {
        const oct_preset *preset;
        OCT_TRY(oct_preset_find(source, &preset, storage, err));
        oct_buf_cstr(text, preset->config);
        return text->failed ? OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", source) : OCT_OK;
    }
    char *path = oct_path_join(c->mem, source, OCT_STR("config.json"));
    if (!path) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", source);
    const oct_status st = oct_file_read_small(c->mem, path, OCT_CONFIG_MAX_BYTES, text, err);
    oct_path_free(c->mem, path);
    return st;
}

/* torch_dtype, or dtype in newer files; for people it may hold anything else. */
static oct_dtype float_of(oct_str text) {
    json_t *top = NULL;
    oct_dtype dtype = OCT_DTYPE_BF16;
    if (oct_json_parse(text, "config.json", &oct_json_file_limits, &top, NULL) != OCT_OK)
        return dtype;
    oct_str name = oct_json_str(json_object_get(top, "torch_dtype"));
    if (!name.len) name = oct_json_str(json_object_get(top, "dtype"));
    if (oct_str_is(name, "float16")) dtype = OCT_DTYPE_F16;
    if (oct_str_is(name, "float32")) dtype = OCT_DTYPE_F32;
    json_decref(top);
    return dtype;
}

static oct_status configure(oct_checkpoint *c, const char *source, const char *overrides,
                            oct_preset_storage *storage, oct_err *err) {
    oct_buf text;
    oct_buf_init(&text, c->mem, 0);
    oct_status st = read_config(c, source, &text, storage, err);
    if (st == OCT_OK && overrides) st = oct_model_config_override(&text, overrides, err);
    if (st == OCT_OK)
        st = oct_model_config_parse(
            oct_buf_view(&text), oct_preset_is(source) ? source : "config.json", &c->config, err);
    if (st == OCT_OK) c->synthetic->float_dtype = float_of(oct_buf_view(&text));
    oct_buf_fini(&text);
    if (st != OCT_OK || !c->config.quantization_config) return st;
    oct_warn("%s: quantization_config is left out: made-up weights are of a float type", source);
    json_decref(c->config.quantization_config);
    c->config.quantization_config = NULL;
    return OCT_OK;
}

oct_status oct_synthetic_begin(const oct_allocator *mem, const char *source, const char *overrides,
                               uint64_t seed, oct_checkpoint **out, oct_preset_storage *storage,
                               oct_err *err) {
    oct_checkpoint *c;
    *out = NULL;
    OCT_TRY(oct_checkpoint_create(mem, source, &c, err));
    c->synthetic = oct_calloc(mem, 1, sizeof *c->synthetic);
    oct_status st = OCT_OK;
    if (c->synthetic) {
        c->synthetic->seed = seed;
        c->synthetic->file = (oct_file){.path = c->path, .fd = -1};
        st = configure(c, source, overrides, storage, err);
    } else {
        st = OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", source);
    }
    if (st == OCT_OK)
        *out = c;
    else
        oct_checkpoint_close(c);
    return st;
}

oct_dtype oct_synthetic_float(const oct_checkpoint *c) { return c->synthetic->float_dtype; }

oct_status oct_synthetic_add(oct_checkpoint *c, const char *name, oct_dtype dtype, uint32_t rank,
                             const uint64_t *shape, oct_fill fill, oct_err *err) {
    struct oct_synthetic *s = c->synthetic;
    oct_tensor t = {.dtype = dtype, .rank = rank, .offset = c->table.n};
    OCT_ASSERT(rank >= 1 && rank <= OCT_TENSOR_MAX_RANK);
    for (uint32_t d = 0; d < rank; d++) t.shape[d] = shape[d];
    if (!oct_tensor_measure(&t))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %s is too large", c->path, name);
    if (c->table.n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 256;
        oct_fill *p = oct_grow(c->mem, s->fills, s->cap, cap, sizeof *p);
        if (!p) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
        s->fills = p;
        s->cap = cap;
    }
    s->fills[c->table.n] = fill;
    t.name = (oct_str){oct_arena_strndup(&c->arena, name, strlen(name)), strlen(name)};
    if (t.name.ptr && oct_tensor_table_add(&c->table, &t)) return OCT_OK;
    return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
}

oct_status oct_synthetic_describe(oct_checkpoint *c, const char *key, const char *value,
                                  oct_err *err) {
    if (!c->description) c->description = json_object();
    c->description_name = "quant_model_description.json";
    if (c->description && json_object_set_new(c->description, key, json_string(value)) == 0)
        return OCT_OK;
    return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
}

oct_status oct_synthetic_end(oct_checkpoint *c, oct_err *err) {
    const oct_tensor *twice;
    c->used = oct_calloc(c->mem, c->table.n, 1);
    if (!c->used || !oct_tensor_table_index(&c->table, &twice))
        return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
    OCT_ASSERT(!twice);
    return OCT_OK;
}
