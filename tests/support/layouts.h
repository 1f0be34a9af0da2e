/*
 * tests/support/layouts.h - small checkpoints in the layouts that quantisation tools write:
 * tests/data/layouts/NAME.json keeps the quantization_config of a real export and the tensors of
 * its first layer, with letters for sizes; a folder of thirty narrow layers is made of it.
 *
 *   H hidden, I inner, K heads of K and V times their size, V vocabulary, D size of a head,
 *   N heads, G heads of K and V, E experts
 *
 * A projection that the config leaves out by name is written as BF16 without scales, as the tools
 * do. Values come from a fixed generator: scales are small and positive, zero points of weights 0.
 */
#ifndef OCT_TESTS_LAYOUTS_H
#define OCT_TESTS_LAYOUTS_H

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "quant/float_types.h"
#include "store/safetensors_writer.h"

enum {
    LAYOUT_LAYERS = 30,
    LAYOUT_H = 64,
    LAYOUT_I = 96,
    LAYOUT_K = 32,
    LAYOUT_V = 128,
    LAYOUT_D = 16,
    LAYOUT_N = 4,
    LAYOUT_G = 2,
    LAYOUT_E = 4
};

/* Files in tests/data/layouts. */
static const char *const layout_names[] = {"ct-fp8-dynamic",
                                           "ct-mixed-asym",
                                           "ct-static",
                                           "ct-w8a8",
                                           "ct-w8a8-gptq",
                                           "ct-w8a8-kvfp8",
                                           "ct-w8a8-kvint8",
                                           "ct-w8a8-kvint8-head",
                                           "mixtral-ct-w8a8",
                                           "mixtral-quark-int8",
                                           "mixtral-quark-ptpc-int8",
                                           "quark-int8",
                                           "quark-ptpc-int8",
                                           "quark-ptpc-int8-kvfp8",
                                           "qwen2-ct-w8a8"};
enum { LAYOUT_COUNT = sizeof layout_names / sizeof *layout_names };

typedef struct layout_tensor {
    char name[160];
    oct_tensor t; /* dtype, rank, shape, bytes */
} layout_tensor;

typedef struct layout {
    json_t *root;
    layout_tensor *v;
    size_t n, cap;
    uint32_t seed;
} layout;

static inline uint32_t layout_random(layout *l) {
    l->seed = l->seed * 1664525u + 1013904223u;
    return l->seed >> 8;
}

static inline uint64_t layout_size(const char *text) {
    static const struct {
        char letter;
        uint64_t size;
    } sizes[] = {{'H', LAYOUT_H}, {'I', LAYOUT_I}, {'K', LAYOUT_K}, {'V', LAYOUT_V},
                 {'D', LAYOUT_D}, {'N', LAYOUT_N}, {'G', LAYOUT_G}, {'E', LAYOUT_E}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (text[0] == sizes[i].letter) return sizes[i].size;
    assert_int_equal(text[0], '1');
    return 1;
}

static inline oct_dtype layout_dtype(const char *name) {
    for (int d = 0; d < OCT_DTYPE_COUNT; d++)
        if (strcmp(oct_dtype_name((oct_dtype)d), name) == 0) return (oct_dtype)d;
    fail_msg("no element type %s", name);
    return OCT_DTYPE_F32;
}

/* "NAME DTYPE [A, B]" */
static inline void layout_parse(const char *line, layout_tensor *out) {
    char dtype[16];
    int at = 0;
    memset(out, 0, sizeof *out);
    assert_int_equal(sscanf(line, "%159s %15s [%n", out->name, dtype, &at), 2);
    out->t.dtype = layout_dtype(dtype);
    for (const char *p = line + at; *p && *p != ']'; p++)
        if (*p != ' ' && *p != ',') out->t.shape[out->t.rank++] = layout_size(p);
    assert_true(oct_tensor_measure(&out->t));
}

static inline bool layout_leaves_out(const layout *l, const char *name) {
    const json_t *config = json_object_get(l->root, "quantization_config");
    const json_t *list = json_object_get(config, "ignore");
    char own[160];
    size_t i;
    json_t *v;
    snprintf(own, sizeof own, "%s", name);
    *strrchr(own, '.') = '\0';
    if (!list) list = json_object_get(config, "exclude");
    json_array_foreach(list, i, v) if (strcmp(json_string_value(v), own) == 0) return true;
    return false;
}

static inline void layout_add(layout *l, const layout_tensor *t) {
    layout_tensor one = *t;
    const char *tail = strrchr(one.name, '.');
    if (layout_leaves_out(l, one.name)) {
        if (strcmp(tail, ".weight") != 0 && strcmp(tail, ".bias") != 0) return;
        one.t.dtype = OCT_DTYPE_BF16;
        assert_true(oct_tensor_measure(&one.t));
    }
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 256;
        l->v = realloc(l->v, l->cap * sizeof *l->v);
        assert_non_null(l->v);
    }
    l->v[l->n++] = one;
}

/* A line of layer 0 (and expert 0) for all layers and experts. */
static inline void layout_spread(layout *l, const char *line) {
    static const char layer0[] = "model.layers.0.", expert0[] = ".experts.0.";
    layout_tensor t;
    layout_parse(line, &t);
    if (strncmp(t.name, layer0, sizeof layer0 - 1) != 0) {
        layout_add(l, &t);
        return;
    }
    char rest[160];
    memcpy(rest, t.name + sizeof layer0 - 1, sizeof rest - sizeof layer0);
    rest[sizeof rest - sizeof layer0] = '\0';
    char *expert = strstr(rest, expert0);
    const char *behind = expert ? expert + sizeof expert0 - 1 : "";
    if (expert) *expert = '\0';
    for (int layer = 0; layer < LAYOUT_LAYERS; layer++)
        for (int e = 0; e < (expert ? LAYOUT_E : 1); e++) {
            if (expert)
                snprintf(t.name, sizeof t.name, "model.layers.%d.%.60s.experts.%d.%.60s", layer,
                         rest, e, behind);
            else
                snprintf(t.name, sizeof t.name, "model.layers.%d.%.120s", layer, rest);
            layout_add(l, &t);
        }
}

/* One element of a tensor, by the role that its name tells. */
static inline float layout_value(layout *l, const char *name) {
    const float unit = (float)(layout_random(l) % 2001) / 1000 - 1; /* -1..1 */
    if (strstr(name, "norm")) return 1;
    if (strstr(name, "input_scale")) return 0.02f + 0.005f * unit;
    if (strstr(name, "weight_scale")) return 0.001f + 0.0005f * unit;
    if (strstr(name, "_scale")) return 0.05f + 0.01f * unit; /* of a cache */
    return unit / 8;
}

static inline void layout_fill(layout *l, const layout_tensor *t, unsigned char *out) {
    const uint64_t n = t->t.n_rows * t->t.row_elems;
    for (uint64_t i = 0; i < n; i++) {
        const float v = layout_value(l, t->name);
        const uint16_t h = oct_f32_to_bf16(v);
        switch (t->t.dtype) {
        case OCT_DTYPE_I8:
            out[i] = strstr(t->name, "weight_zero_point") ? 0 : (unsigned char)layout_random(l);
            if (strstr(t->name, "input_zero_point")) out[i] = t->t.rank ? 0xFB : 0; /* -5 */
            break;
        case OCT_DTYPE_F8_E4M3:
            out[i] = oct_f32_to_e4m3(v * 64);
            break;
        case OCT_DTYPE_BF16:
            memcpy(out + 2 * i, &h, 2);
            break;
        default:
            assert_int_equal(t->t.dtype, OCT_DTYPE_F32);
            memcpy(out + 4 * i, &v, 4);
            break;
        }
    }
}

static inline void layout_write_config(const layout *l, const char *folder) {
    static const char keys[] =
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:b, s:O}";
    const char *type = json_string_value(json_object_get(l->root, "model_type"));
    char path[512];
    json_t *c =
        json_pack(keys, "model_type", type, "hidden_size", LAYOUT_H, "intermediate_size", LAYOUT_I,
                  "num_hidden_layers", LAYOUT_LAYERS, "num_attention_heads", LAYOUT_N,
                  "num_key_value_heads", LAYOUT_G, "head_dim", LAYOUT_D, "vocab_size", LAYOUT_V,
                  "max_position_embeddings", 64, "num_local_experts", LAYOUT_E,
                  "num_experts_per_tok", 2, "hidden_act", "silu", "tie_word_embeddings", 1,
                  "quantization_config", json_object_get(l->root, "quantization_config"));
    assert_non_null(c);
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(json_dump_file(c, path, 0), 0);
    json_decref(c);
}

static inline void layout_write_tensors(layout *l, const char *folder) {
    const oct_allocator *mem = oct_system_allocator();
    oct_safetensors_writer *w;
    char path[512];
    uint64_t most = 1;
    assert_int_equal(oct_safetensors_writer_create(mem, &w, NULL), OCT_OK);
    for (size_t i = 0; i < l->n; i++) {
        const oct_tensor *t = &l->v[i].t;
        if (t->bytes > most) most = t->bytes;
        assert_int_equal(oct_safetensors_writer_add(w, oct_str_of(l->v[i].name), t->dtype, t->rank,
                                                    t->shape, NULL),
                         OCT_OK);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(oct_safetensors_writer_begin(w, path, NULL), OCT_OK);
    unsigned char *data = malloc(most);
    assert_non_null(data);
    for (size_t i = 0; i < l->n; i++) {
        layout_fill(l, &l->v[i], data);
        assert_int_equal(oct_safetensors_writer_write(w, oct_str_of(l->v[i].name), 0, data,
                                                      l->v[i].t.bytes, NULL),
                         OCT_OK);
    }
    free(data);
    assert_int_equal(oct_safetensors_writer_finish(w, NULL), OCT_OK);
    oct_safetensors_writer_destroy(w);
}

/* Writes the checkpoint into an existing folder. */
static inline void layout_make(const char *name, const char *folder) {
    layout l = {.seed = 12345};
    char path[512];
    size_t i;
    json_t *line;
    snprintf(path, sizeof path, OCT_TEST_DATA "/layouts/%s.json", name);
    l.root = json_load_file(path, 0, NULL);
    if (!l.root) fail_msg("%s: cannot be read", path);
    json_array_foreach(json_object_get(l.root, "tensors"), i, line)
        layout_spread(&l, json_string_value(line));
    layout_write_config(&l, folder);
    layout_write_tensors(&l, folder);
    free(l.v);
    json_decref(l.root);
}

#endif
