/*
 * Any text as quantization_config of a small model that has, under one roof, the tensors of every
 * method: int8, FP8 and packed projections with all kinds of scales, two experts, a cache.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "codec/json.h"
#include "store/safetensors_writer.h"
#include "store/scheme.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];

static const struct {
    const char *name;
    oct_dtype dtype;
    uint32_t rank;
    uint64_t shape[2];
} rows[] = {{"m.q_proj.weight", OCT_DTYPE_I8, 2, {2, 4}},
            {"m.q_proj.weight_scale", OCT_DTYPE_F32, 2, {2, 1}},
            {"m.q_proj.weight_zero_point", OCT_DTYPE_I8, 2, {2, 1}},
            {"m.q_proj.input_scale", OCT_DTYPE_F32, 1, {1}},
            {"m.q_proj.input_zero_point", OCT_DTYPE_I8, 1, {1}},
            {"m.k_proj.weight", OCT_DTYPE_F8_E4M3, 2, {2, 4}},
            {"m.k_proj.weight_scale", OCT_DTYPE_F32, 1, {1}},
            {"m.k_proj.weight_scale_inv", OCT_DTYPE_F32, 2, {1, 2}},
            {"m.v_proj.weight_packed", OCT_DTYPE_I32, 2, {2, 1}},
            {"m.v_proj.weight_scale", OCT_DTYPE_F32, 2, {2, 2}},
            {"m.o_proj.weight", OCT_DTYPE_F32, 2, {2, 4}},
            {"m.mlp.experts.0.up_proj.weight", OCT_DTYPE_I8, 2, {2, 4}},
            {"m.mlp.experts.0.up_proj.weight_scale", OCT_DTYPE_F32, 1, {1}},
            {"m.mlp.experts.0.up_proj.input_scale", OCT_DTYPE_F32, 1, {1}},
            {"m.mlp.experts.1.up_proj.weight", OCT_DTYPE_I8, 2, {2, 4}},
            {"m.mlp.experts.1.up_proj.weight_scale", OCT_DTYPE_F32, 1, {1}},
            {"m.mlp.experts.1.up_proj.input_scale", OCT_DTYPE_F32, 1, {1}},
            {"m.k_scale", OCT_DTYPE_F32, 2, {1, 1}},
            {"m.v_scale", OCT_DTYPE_F32, 2, {1, 1}},
            {"m.k_proj.output_scale", OCT_DTYPE_F32, 1, {2}},
            {"m.v_proj.output_scale", OCT_DTYPE_F32, 1, {2}}};

static const char *const asked[] = {"m.q_proj",
                                    "m.k_proj",
                                    "m.v_proj",
                                    "m.o_proj",
                                    "m.mlp.experts.1.up_proj",
                                    "m.block_sparse_moe.experts.0.w3"};

static void path_of(char path[128], const char *name) {
    snprintf(path, 128, "%s/%s", folder, name);
}

static void put_model(void) {
    const float values[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    const unsigned char zeros[8] = {0};
    char path[128];
    oct_safetensors_writer *w;
    if (oct_safetensors_writer_create(oct_system_allocator(), &w, NULL) != OCT_OK) abort();
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        if (oct_safetensors_writer_add(w, oct_str_of(rows[i].name), rows[i].dtype, rows[i].rank,
                                       rows[i].shape, NULL) != OCT_OK)
            abort();
    path_of(path, "model.safetensors");
    if (oct_safetensors_writer_begin(w, path, NULL) != OCT_OK) abort();
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        oct_tensor t = {.dtype = rows[i].dtype, .rank = rows[i].rank};
        memcpy(t.shape, rows[i].shape, sizeof rows[i].shape);
        const void *data = rows[i].dtype == OCT_DTYPE_F32 ? (const void *)values : zeros;
        if (!oct_tensor_measure(&t) || oct_safetensors_writer_write(w, oct_str_of(rows[i].name), 0,
                                                                    data, t.bytes, NULL) != OCT_OK)
            abort();
    }
    if (oct_safetensors_writer_finish(w, NULL) != OCT_OK) abort();
    oct_safetensors_writer_destroy(w);
}

static void remove_folder(void) {
    static const char *const names[] = {"config.json", "model.safetensors"};
    char path[128];
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        path_of(path, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void start(void) {
    oct_log_set_level(OCT_LOG_OFF);
    snprintf(folder, sizeof folder, "%s/octet-fuzz-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder)) abort();
    atexit(remove_folder);
    put_model();
}

static void put_config(const uint8_t *data, size_t size) {
    static const char head[] =
        "{\"model_type\":\"llama\",\"hidden_size\":4,\"intermediate_size\":8,"
        "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"vocab_size\":3,"
        "\"quantization_config\":";
    char path[128];
    path_of(path, "config.json");
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(head, 1, sizeof head - 1, f) != sizeof head - 1 ||
        fwrite(data, 1, size, f) != size || fputc('}', f) == EOF || fclose(f) != 0)
        abort();
}

/* A source that is there has all that its kind needs. */
static void check(const oct_checkpoint *c, const oct_linear_source *s) {
    float values[8];
    int8_t bytes[8];
    oct_err err = {0};
    if (s->kind == OCT_LINEAR_ABSENT) return;
    if (!s->weight) abort();
    if (s->kind == OCT_LINEAR_INT8) {
        if (!s->col_scale || s->act == OCT_ACT_NONE) abort();
        if (oct_scheme_read_i8(c, s, 0, 2, bytes, &err) != OCT_OK) abort();
        return;
    }
    if (s->kind != OCT_LINEAR_FLOAT && !s->col_scale && !s->block_scale) abort();
    if (oct_scheme_read_rows(c, s, 0, 2, values, &err) != OCT_OK) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const oct_allocator *mem = oct_system_allocator();
    oct_checkpoint *c;
    oct_scheme *s = NULL;
    oct_arena arena;
    oct_linear_source lin;
    oct_kv_source kv;
    oct_err err = {0};
    if (!folder[0]) start();
    put_config(data, size);
    if (oct_checkpoint_open(mem, folder, &c, &err) != OCT_OK) {
        if (err.text[0] == '\0') abort();
        return 0;
    }
    oct_arena_init(&arena, mem, 0);
    if (oct_scheme_open(mem, c, NULL, &s, &err) == OCT_OK) {
        for (size_t i = 0; i < OCT_COUNT(asked); i++)
            if (oct_scheme_linear(s, &arena, asked[i], 2, 4, false, &lin, &err) == OCT_OK)
                check(c, &lin);
        if (oct_scheme_kv(s, &arena, "m", 1, 2, &kv, &err) == OCT_OK &&
            (kv.offered == OCT_KV_KIND_I8 || kv.offered == OCT_KV_KIND_FP8) &&
            !(kv.k_scale[1] > 0 && kv.v_scale[1] > 0))
            abort();
    } else if (err.text[0] == '\0') {
        abort();
    }
    oct_scheme_close(s);
    oct_checkpoint_close(c);
    oct_arena_fini(&arena);
    return 0;
}
