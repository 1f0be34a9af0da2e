/*
 * Any text as quant_model_description.json beside a fixed small model: an INT8 projection "p" with
 * both parameter sets and the scales of an INT8 cache "a".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "store/safetensors_writer.h"
#include "store/scheme.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];

static void put(const char *name, const void *data, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) abort();
}

static void put_model(void) {
    static const struct {
        const char *name;
        oct_dtype dtype;
        uint32_t rank;
        uint64_t shape[2];
    } rows[] = {{"p.weight", OCT_DTYPE_I8, 2, {2, 4}},
                {"p.weight_scale", OCT_DTYPE_F32, 2, {2, 1}},
                {"p.input_scale", OCT_DTYPE_F32, 1, {1}},
                {"p.input_offset", OCT_DTYPE_F32, 1, {1}},
                {"p.deq_scale", OCT_DTYPE_F32, 1, {2}},
                {"p.quant_bias", OCT_DTYPE_I32, 1, {2}},
                {"a.k_proj.kv_cache_scale", OCT_DTYPE_F32, 1, {2}},
                {"a.v_proj.kv_cache_scale", OCT_DTYPE_F32, 1, {2}}};
    const float ones[2] = {1, 1};
    char path[128];
    oct_safetensors_writer *w;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (oct_safetensors_writer_create(oct_system_allocator(), &w, NULL) != OCT_OK) abort();
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        if (oct_safetensors_writer_add(w, oct_str_of(rows[i].name), rows[i].dtype, rows[i].rank,
                                       rows[i].shape, NULL) != OCT_OK)
            abort();
    if (oct_safetensors_writer_begin(w, path, NULL) != OCT_OK) abort();
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        if (oct_safetensors_writer_write(w, oct_str_of(rows[i].name), 0, ones,
                                         rows[i].shape[0] == 1 ? 4 : 8, NULL) != OCT_OK)
            abort();
    if (oct_safetensors_writer_finish(w, NULL) != OCT_OK) abort();
    oct_safetensors_writer_destroy(w);
}

static void remove_folder(void) {
    static const char *const names[] = {"config.json", "model.safetensors",
                                        "quant_model_description.json"};
    char path[128];
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void start(void) {
    static const char config[] = "{\"model_type\":\"llama\",\"hidden_size\":4,"
                                 "\"intermediate_size\":8,\"num_hidden_layers\":1,"
                                 "\"num_attention_heads\":2,\"vocab_size\":3}";
    oct_log_set_level(OCT_LOG_OFF);
    snprintf(folder, sizeof folder, "%s/octet-fuzz-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder)) abort();
    atexit(remove_folder);
    put("config.json", config, sizeof config - 1);
    put_model();
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
    put("quant_model_description.json", data, size);
    if (oct_checkpoint_open(mem, folder, &c, &err) != OCT_OK) {
        if (err.text[0] == '\0') abort();
        return 0;
    }
    oct_arena_init(&arena, mem, 0);
    if (oct_scheme_open(mem, c, NULL, &s, &err) == OCT_OK) {
        if (oct_scheme_linear(s, &arena, "p", 2, 4, false, &lin, &err) == OCT_OK &&
            lin.kind == OCT_LINEAR_INT8 && (!lin.weight || !lin.col_scale))
            abort();
        if (oct_scheme_kv(s, &arena, "a", 1, 2, &kv, &err) == OCT_OK && kv.kind == OCT_KV_KIND_I8 &&
            !(kv.k_scale[1] > 0 && kv.v_scale[1] > 0))
            abort();
    }
    oct_scheme_close(s);
    oct_checkpoint_close(c);
    oct_arena_fini(&arena);
    return 0;
}
