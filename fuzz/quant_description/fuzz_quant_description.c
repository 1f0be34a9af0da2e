/*
 * Any text as quant_model_description.json beside a fixed small model: an INT8 projection "p" with
 * both parameter sets and the scales of an INT8 cache "a".
 */
#include "../scheme_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const scheme_row rows[] = {{"p.weight", OCT_DTYPE_I8, 2, {2, 4}},
                                  {"p.weight_scale", OCT_DTYPE_F32, 2, {2, 1}},
                                  {"p.input_scale", OCT_DTYPE_F32, 1, {1}},
                                  {"p.input_offset", OCT_DTYPE_F32, 1, {1}},
                                  {"p.deq_scale", OCT_DTYPE_F32, 1, {2}},
                                  {"p.quant_bias", OCT_DTYPE_I32, 1, {2}},
                                  {"a.k_proj.kv_cache_scale", OCT_DTYPE_F32, 1, {2}},
                                  {"a.v_proj.kv_cache_scale", OCT_DTYPE_F32, 1, {2}}};

static void look(oct_checkpoint *c, oct_scheme *s, oct_arena *arena) {
    oct_linear_source lin;
    oct_kv_source kv;
    oct_err err = {0};
    (void)c;
    if (oct_scheme_linear(s, arena, "p", 2, 4, false, &lin, &err) == OCT_OK &&
        lin.kind == OCT_LINEAR_INT8 && (!lin.weight || !lin.col_scale))
        abort();
    if (oct_scheme_kv(s, arena, "a", 1, 2, &kv, &err) == OCT_OK && kv.kind == OCT_KV_KIND_I8 &&
        !(kv.k_scale[1] > 0 && kv.v_scale[1] > 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!scheme_model) scheme_keep(rows, OCT_COUNT(rows));
    scheme_read_with(&scheme_model->description, data, size, look);
    return 0;
}
