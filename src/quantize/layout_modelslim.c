/*
 * quantize/layout_modelslim.c - ModelSlim V1: a description beside the weights says the scheme of
 * every tensor, and config.json nothing.
 */
#include "codec/json.h"
#include "quantize/layout.h"

static const oct_layout_tensor static_tensors[] = {
    {"weight", OCT_LAYOUT_WEIGHT, OCT_DTYPE_I8, OCT_LAYOUT_NK},
    {"input_scale", OCT_LAYOUT_INPUT_SCALE, OCT_DTYPE_F32, OCT_LAYOUT_ONE},
    {"input_offset", OCT_LAYOUT_INPUT_OFFSET, OCT_DTYPE_F32, OCT_LAYOUT_ONE},
    {"deq_scale", OCT_LAYOUT_DEQ_SCALE, OCT_DTYPE_F32, OCT_LAYOUT_N},
    {"quant_bias", OCT_LAYOUT_QUANT_BIAS, OCT_DTYPE_I32, OCT_LAYOUT_N},
    {"bias", OCT_LAYOUT_BIAS, OCT_DTYPE_F32, OCT_LAYOUT_N},
    {0},
};

static const oct_layout_tensor dynamic_tensors[] = {
    {"weight", OCT_LAYOUT_WEIGHT, OCT_DTYPE_I8, OCT_LAYOUT_NK},
    {"weight_scale", OCT_LAYOUT_WEIGHT_SCALE, OCT_DTYPE_F32, OCT_LAYOUT_N1},
    {"weight_offset", OCT_LAYOUT_ZERO, OCT_DTYPE_F32, OCT_LAYOUT_N1},
    {"bias", OCT_LAYOUT_BIAS, OCT_DTYPE_F32, OCT_LAYOUT_N},
    {0},
};

static const oct_layout_tensor cache[] = {
    {"k_proj.kv_cache_scale", OCT_LAYOUT_K_SCALE, OCT_DTYPE_F32, OCT_LAYOUT_N},
    {"k_proj.kv_cache_offset", OCT_LAYOUT_ZERO, OCT_DTYPE_F32, OCT_LAYOUT_N},
    {"v_proj.kv_cache_scale", OCT_LAYOUT_V_SCALE, OCT_DTYPE_F32, OCT_LAYOUT_N},
    {"v_proj.kv_cache_offset", OCT_LAYOUT_ZERO, OCT_DTYPE_F32, OCT_LAYOUT_N},
    {0},
};

static json_t *describe(const oct_inventory *inv) {
    json_t *d = json_object(), *label;
    const char *name;
    json_object_foreach(inv->tensors, name, label) oct_json_put(&d, name, json_incref(label));
    const bool any_static = json_array_size(inv->static_modules) > 0;
    oct_json_put(&d, "model_quant_type", json_string(any_static ? "W8A8" : "W8A8_DYNAMIC"));
    oct_json_put(&d, "version", json_string("1.0.0"));
    oct_json_put(&d, "group_size", json_integer(0));
    if (!inv->has_kv) return d;
    oct_json_put(&d, "kv_cache_type", json_string("C8"));
    oct_json_put(&d, "kv_quant_type", json_string("C8"));
    return d;
}

const oct_layout oct_layout_modelslim = {
    .name = "modelslim",
    .stem = "quant_model_weights",
    .description = "quant_model_description.json",
    .static_tensors = static_tensors,
    .dynamic_tensors = dynamic_tensors,
    .kv = {[OCT_KV_GRAIN_CHANNEL] = cache},
    .default_kv = true,
    .describe = describe,
};
