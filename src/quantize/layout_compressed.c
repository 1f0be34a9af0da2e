/*
 * quantize/layout_compressed.c - compressed-tensors 0.19, format int-quantized, as llm-compressor
 * writes it: a scale a row; inputs by token, or by one scale and zero point.
 *
 * Where a model has both, each group lists its modules: a class name beside names would be taken
 * first by engines that fuse q, k and v. Experts are reached by one pattern.
 */
#include "codec/json.h"
#include "quantize/layout.h"

static const oct_layout_tensor static_tensors[] = {
    {"weight", OCT_LAYOUT_WEIGHT, OCT_DTYPE_I8, OCT_LAYOUT_NK},
    {"weight_scale", OCT_LAYOUT_WEIGHT_SCALE, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_N1},
    {"input_scale", OCT_LAYOUT_INPUT_SCALE, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_ONE},
    {"input_zero_point", OCT_LAYOUT_INPUT_OFFSET, OCT_DTYPE_I8, OCT_LAYOUT_ONE},
    {"bias", OCT_LAYOUT_BIAS, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_N},
    {0},
};

static const oct_layout_tensor dynamic_tensors[] = {
    {"weight", OCT_LAYOUT_WEIGHT, OCT_DTYPE_I8, OCT_LAYOUT_NK},
    {"weight_scale", OCT_LAYOUT_WEIGHT_SCALE, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_N1},
    {"bias", OCT_LAYOUT_BIAS, OCT_LAYOUT_MODEL_TYPE, OCT_LAYOUT_N},
    {0},
};

#define CACHE(name, shape)                                             \
    static const oct_layout_tensor name[] = {                          \
        {"k_scale", OCT_LAYOUT_K_SCALE, OCT_LAYOUT_MODEL_TYPE, shape}, \
        {"v_scale", OCT_LAYOUT_V_SCALE, OCT_LAYOUT_MODEL_TYPE, shape}, \
        {0},                                                           \
    }
CACHE(cache_tensor, OCT_LAYOUT_ONE);
CACHE(cache_head, OCT_LAYOUT_N11);
CACHE(cache_channel, OCT_LAYOUT_N);

/* observer and zp_dtype may be NULL. */
static json_t *args(const char *strategy, bool dynamic, bool symmetric, const char *observer,
                    const char *zp_dtype) {
    return json_pack("{s:n, s:n, s:b, s:n, s:i, s:s?, s:{}, s:n, s:s, s:b, s:s, s:s?}", "actorder",
                     "block_structure", "dynamic", (int)dynamic, "group_size", "num_bits", 8,
                     "observer", observer, "observer_kwargs", "scale_dtype", "strategy", strategy,
                     "symmetric", (int)symmetric, "type", "int", "zp_dtype", zp_dtype);
}

/* targets: owned. */
static json_t *group(bool is_static, json_t *targets) {
    json_t *in = is_static ? args("tensor", false, false, "minmax", "torch.int8")
                           : args("token", true, true, NULL, NULL);
    return json_pack("{s:s, s:o, s:n, s:o, s:o}", "format", "int-quantized", "input_activations",
                     in, "output_activations", "targets", targets, "weights",
                     args("channel", false, true, "memoryless_minmax", NULL));
}

static json_t *groups(const oct_inventory *inv) {
    const bool is_static = json_array_size(inv->static_modules) > 0,
               is_dynamic = json_array_size(inv->dynamic_modules) > 0 || inv->has_experts;
    if (!is_static || !is_dynamic)
        return json_pack("{s:o}", "group_0", group(is_static, json_pack("[s]", "Linear")));
    json_t *dynamic = json_array(), *name;
    size_t i;
    json_array_foreach(inv->dynamic_modules, i, name) oct_json_push(&dynamic, json_incref(name));
    if (inv->has_experts) oct_json_push(&dynamic, json_string("re:.*\\.experts\\..*"));
    return json_pack("{s:o, s:o}", "group_0", group(true, json_incref(inv->static_modules)),
                     "group_1", group(false, dynamic));
}

static json_t *describe(const oct_inventory *inv) {
    static const char *const strategies[] = {[OCT_KV_GRAIN_TENSOR] = "tensor",
                                             [OCT_KV_GRAIN_HEAD] = "attn_head",
                                             [OCT_KV_GRAIN_CHANNEL] = "channel"};
    return json_pack("{s:o, s:s, s:n, s:O, s:o, s:s, s:s, s:{}, s:{}, s:s}", "config_groups",
                     groups(inv), "format", "int-quantized", "global_compression_ratio", "ignore",
                     inv->floats, "kv_cache_scheme",
                     inv->has_kv ? args(strategies[inv->kv], false, true, NULL, NULL) : json_null(),
                     "quant_method", "compressed-tensors", "quantization_status", "compressed",
                     "sparsity_config", "transform_config", "version", "0.19.0");
}

const oct_layout oct_layout_compressed = {
    .name = "compressed-tensors",
    .stem = "model",
    .static_tensors = static_tensors,
    .dynamic_tensors = dynamic_tensors,
    .kv = {cache_tensor, cache_head, cache_channel},
    .keeps_vectors = true,
    .mixtral = {"block_sparse_moe", "gate_proj", "up_proj", "down_proj"},
    .describe = describe,
};
