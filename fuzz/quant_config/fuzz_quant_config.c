/*
 * Any text as quantization_config of a small model that has, under one roof, the tensors of every
 * method: int8, FP8 and packed projections with all kinds of scales, two experts, a cache.
 */
#include "../scheme_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const scheme_row rows[] = {{"m.q_proj.weight", OCT_DTYPE_I8, 2, {2, 4}},
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

static void look(oct_checkpoint *c, oct_scheme *s, oct_arena *arena) {
    oct_linear_source lin;
    oct_kv_source kv;
    oct_err err = {0};
    for (size_t i = 0; i < OCT_COUNT(asked); i++)
        if (oct_scheme_linear(s, arena, asked[i], 2, 4, false, &lin, &err) == OCT_OK)
            check(c, &lin);
    if (oct_scheme_kv(s, arena, "m", 1, 2, &kv, &err) == OCT_OK &&
        (kv.offered == OCT_KV_KIND_I8 || kv.offered == OCT_KV_KIND_FP8) &&
        !(kv.k_scale[1] > 0 && kv.v_scale[1] > 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!scheme_model) scheme_keep(rows, OCT_COUNT(rows));
    scheme_read_with(&scheme_model->config.quantization_config, data, size, look);
    return 0;
}
