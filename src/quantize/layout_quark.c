/*
 * quantize/layout_quark.c - AMD Quark 0.13: its preset ptpc_int8 (a scale a row, a scale a token)
 * where inputs are dynamic, its preset int8 (one scale for a weight, one for an input, no offsets)
 * where they are static. The keys and their values are those that the tool writes.
 *
 * An INT8 cache has scales per tensor or per channel of the outputs of k and v; the tool itself
 * writes such scales for FP8 only. They belong to K behind its rotation: kv_cache_post_rope.
 */
#include "codec/json.h"
#include "quantize/layout.h"

static const oct_layout_tensor static_tensors[] = {
    {"weight", OCT_LAYOUT_WEIGHT, OCT_DTYPE_I8, OCT_LAYOUT_NK},
    {"weight_scale", OCT_LAYOUT_WEIGHT_SCALE, OCT_DTYPE_F32, OCT_LAYOUT_SCALAR},
    {"weight_zero_point", OCT_LAYOUT_ZERO, OCT_DTYPE_I8, OCT_LAYOUT_SCALAR},
    {"input_scale", OCT_LAYOUT_INPUT_SCALE, OCT_DTYPE_F32, OCT_LAYOUT_SCALAR},
    {"input_zero_point", OCT_LAYOUT_INPUT_OFFSET, OCT_DTYPE_I8, OCT_LAYOUT_SCALAR},
    {"bias", OCT_LAYOUT_BIAS, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_N},
    {0},
};

static const oct_layout_tensor dynamic_tensors[] = {
    {"weight", OCT_LAYOUT_WEIGHT, OCT_DTYPE_I8, OCT_LAYOUT_NK},
    {"weight_scale", OCT_LAYOUT_WEIGHT_SCALE, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_N},
    {"weight_zero_point", OCT_LAYOUT_ZERO, OCT_DTYPE_I8, OCT_LAYOUT_N},
    {"bias", OCT_LAYOUT_BIAS, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_N},
    {0},
};

static const oct_layout_tensor cache_tensor[] = {
    {"k_proj.output_scale", OCT_LAYOUT_K_SCALE, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_SCALAR},
    {"v_proj.output_scale", OCT_LAYOUT_V_SCALE, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_SCALAR},
    {0},
};

static const oct_layout_tensor cache_channel[] = {
    {"k_proj.output_scale", OCT_LAYOUT_K_SCALE, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_N},
    {"v_proj.output_scale", OCT_LAYOUT_V_SCALE, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_N},
    {0},
};

enum { NO_AXIS = 99 };

static json_t *tensor_spec(bool dynamic, int axis) {
    const bool channel = axis != NO_AXIS;
    return json_pack(
        "{s:n, s:o, s:s, s:b, s:n, s:b, s:b, s:i, s:n, s:s, s:s, s:s, s:n, s:n, s:s, s:b, s:s}",
        "block_size", "ch_axis", channel ? json_integer(axis) : json_null(), "dtype", "int8",
        "enable_buffer_reuse", 0, "group_size", "is_dynamic", (int)dynamic, "is_scale_quant", 0,
        "max_input_numel", 4194304, "mx_element_dtype", "observer_cls",
        channel ? "PerChannelMinMaxObserver" : "PerTensorMinMaxObserver", "qscheme",
        channel ? "per_channel" : "per_tensor", "round_method", "half_even",
        "scale_calculation_mode", "scale_format", "scale_type", "float", "symmetric", 1,
        "zero_point_type", "int32");
}

/* outputs: owned, or JSON null. */
static json_t *layer_spec(bool is_static, json_t *outputs) {
    return json_pack("{s:n, s:o, s:o, s:n, s:o}", "bias", "input_tensors",
                     is_static ? tensor_spec(false, NO_AXIS) : tensor_spec(true, 1),
                     "output_tensors", outputs, "target_device", "weight",
                     tensor_spec(false, is_static ? NO_AXIS : 0));
}

/* Entries for what is dynamic in a model whose rule is static. */
static json_t *layer_entries(const oct_inventory *inv, bool is_static) {
    json_t *map = json_object(), *name;
    size_t i;
    if (!is_static) return map;
    json_array_foreach(inv->dynamic_modules, i, name)
        oct_json_put(&map, json_string_value(name), layer_spec(false, json_null()));
    if (inv->has_experts) oct_json_put(&map, "*.experts.*", layer_spec(false, json_null()));
    return map;
}

static json_t *describe(const oct_inventory *inv) {
    const bool is_static = json_array_size(inv->static_modules) > 0;
    json_t *layers = layer_entries(inv, is_static), *kv = json_object(), *group = json_array();
    static const char *const names[] = {"*k_proj", "*v_proj"};
    const int axis = inv->kv == OCT_KV_GRAIN_CHANNEL ? -1 : NO_AXIS;
    for (int i = 0; inv->has_kv && i < 2; i++) {
        json_t *spec = layer_spec(is_static, tensor_spec(false, axis));
        oct_json_put(&layers, names[i], json_incref(spec));
        oct_json_put(&kv, names[i], spec);
        oct_json_push(&group, json_string(names[i]));
    }
    return json_pack("{s:n, s:O, s:{s:o, s:f, s:s, s:s, s:n}, s:o, s:b, s:o, s:o, s:{}, s:s, s:s, "
                     "s:n, s:s}",
                     "algo_config", "exclude", inv->floats, "export", "kv_cache_group", group,
                     "min_kv_scale", 0.0, "pack_method", "reorder", "weight_format",
                     "real_quantized", "weight_merge_groups", "global_quant_config",
                     layer_spec(is_static, json_null()), "kv_cache_post_rope", (int)inv->has_kv,
                     "kv_cache_quant_config", kv, "layer_quant_config", layers,
                     "layer_type_quant_config", "quant_method", "quark", "quant_mode", "eager_mode",
                     "softmax_quant_spec", "version", "0.13");
}

const oct_layout oct_layout_quark = {
    .name = "quark",
    .stem = "model",
    .static_tensors = static_tensors,
    .dynamic_tensors = dynamic_tensors,
    .kv = {[OCT_KV_GRAIN_TENSOR] = cache_tensor, [OCT_KV_GRAIN_CHANNEL] = cache_channel},
    .tensor_scale = true,
    .symmetric = true,
    .keeps_vectors = true,
    .mixtral = {"mlp", "gate_proj", "up_proj", "down_proj"},
    .describe = describe,
};
