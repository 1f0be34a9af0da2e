/*
 * store/scheme_fp8.c - the plain methods of config.json: one rule for all projections but the
 * listed ones.
 *
 *   fp8             weight F8_E4M3; weight_scale, or by blocks weight_scale_inv (which is
 *                   multiplied, whatever its name); input_scale when activation_scheme is static
 *   fbgemm_fp8      a scale a row, inputs by token with absmax bounded by activation_scale_ub
 *   w8a8_int8       int8, a scale a row, dynamic inputs
 *   blockwise_int8  int8, a scale a block; inputs would be quantised by groups of columns, which no
 *                   device of ours does: the weights are used with float inputs
 */
#include <stdio.h>

#include "base/log.h"
#include "codec/json.h"
#include "store/config_parts.h"
#include "store/scheme_parts.h"

static const char where[] = "config.json: quantization_config";

typedef struct plain_state {
    oct_name_list *lists[3];
    oct_linear_rule rule;
    oct_kv_rule kv;
} plain_state;

static const char *const list_keys[] = {"ignored_layers", "modules_to_not_convert", "ignore"};

static oct_status refuse(const char *field, const json_t *v, const char *want, oct_err *err) {
    char shown[OCT_JSON_SHOWN];
    return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s.%s is not supported (got %s, want %s)", where,
                    field, v ? oct_json_show(v, shown) : "nothing", want);
}

static oct_status start(oct_scheme *s, plain_state **out, oct_err *err) {
    static const char *const names[] = {"config.json: quantization_config.ignored_layers",
                                        "config.json: quantization_config.modules_to_not_convert",
                                        "config.json: quantization_config.ignore"};
    const json_t *config = s->ckpt->config.quantization_config;
    plain_state *st = oct_calloc(s->mem, 1, sizeof *st);
    *out = st;
    if (!st) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", where);
    s->state = st;
    for (size_t i = 0; i < OCT_COUNT(list_keys); i++)
        OCT_TRY(oct_name_list_create(s->mem, json_object_get(config, list_keys[i]),
                                     OCT_NAMES_RE | OCT_NAMES_PART, names[i], &st->lists[i], err));
    if (!oct_scheme_any_kv_scale(s)) return OCT_OK;
    st->kv = (oct_kv_rule){.kind = OCT_KV_KIND_FP8, .any_grain = true, .offer_only = true};
    s->has_kv = true;
    return OCT_OK;
}

static void plain_close(oct_scheme *s) {
    plain_state *st = s->state;
    if (!st) return;
    for (size_t i = 0; i < OCT_COUNT(st->lists); i++) oct_name_list_destroy(st->lists[i]);
    oct_free(s->mem, st, 1, sizeof *st);
}

/* A list says "gate" of a router, or "layers.0" of a whole layer: where the file holds 8-bit
 * weights in spite of a loose entry, the file is right. */
static oct_status plain_rule(oct_scheme *s, const char *own, oct_linear_rule *out, oct_err *err) {
    const plain_state *st = s->state;
    bool hit = false;
    *out = st->rule;
    for (size_t i = 0; !hit && i < OCT_COUNT(st->lists); i++)
        OCT_TRY(oct_name_list_has(st->lists[i], own, &hit, err));
    const oct_tensor *t = oct_scheme_weight(s, own);
    if (hit && !(t && !oct_dtype_is_real(t->dtype)))
        *out = (oct_linear_rule){
            .kind = OCT_LINEAR_FLOAT, .label = "FLOAT", .why = "a list of quantization_config"};
    return OCT_OK;
}

static oct_status plain_kv(oct_scheme *s, oct_arena *arena, const char *attn, uint32_t n_kv_heads,
                           uint32_t head_dim, oct_kv_source *out, oct_err *err) {
    const plain_state *st = s->state;
    return oct_scheme_kv_scales(s, arena, attn, &st->kv, n_kv_heads, head_dim, out, err);
}

/* ---- methods --------------------------------------------------------------------------------- */

/* weight_block_size: two sizes; *given is false when there is none. */
static oct_status read_blocks(const json_t *config, oct_linear_rule *r, bool *given, oct_err *err) {
    const json_t *v = json_object_get(config, "weight_block_size");
    uint32_t size[2];
    *given = v && !json_is_null(v);
    if (!*given) return OCT_OK;
    for (size_t i = 0; i < 2; i++) {
        const json_t *n = json_array_get(v, i);
        if (json_array_size(v) != 2 || !json_is_integer(n) || json_integer_value(n) < 1 ||
            json_integer_value(n) > 65536)
            return refuse("weight_block_size", v, "two sizes", err);
        size[i] = (uint32_t)json_integer_value(n);
    }
    r->grain = OCT_GRAIN_BLOCK;
    r->block_n = size[0];
    r->block_k = size[1];
    return OCT_OK;
}

/* Whether tensors of the checkpoint end so: writers differ in the name and size of the scale. */
static const oct_tensor *any_ending(const oct_scheme *s, const char *tail) {
    for (size_t i = 0; i < s->ckpt->table.n; i++)
        if (oct_str_ends(s->ckpt->table.v[i].name, oct_str_of(tail))) return &s->ckpt->table.v[i];
    return NULL;
}

static oct_status fp8_input(const json_t *config, oct_linear_rule *r, oct_err *err) {
    const json_t *v = json_object_get(config, "activation_scheme");
    r->input = OCT_INPUT_TOKEN;
    if (!v || json_is_null(v) || oct_str_is(oct_json_str(v), "dynamic")) return OCT_OK;
    r->input = OCT_INPUT_STATIC;
    if (oct_str_is(oct_json_str(v), "static") && r->grain != OCT_GRAIN_BLOCK) return OCT_OK;
    return refuse("activation_scheme", v,
                  r->grain == OCT_GRAIN_BLOCK ? "dynamic" : "dynamic or static", err);
}

static oct_status fp8_open(oct_scheme *s, oct_err *err) {
    const json_t *config = s->ckpt->config.quantization_config,
                 *fmt = json_object_get(config, "fmt");
    const bool fbgemm =
        oct_str_is(oct_json_str(json_object_get(config, "quant_method")), "fbgemm_fp8");
    plain_state *st;
    bool blocks;
    double bound = 0;
    OCT_TRY(start(s, &st, err));
    if (fmt && !json_is_null(fmt) && !oct_str_is(oct_json_str(fmt), "e4m3") &&
        !oct_str_is(oct_json_str(fmt), "float8_e4m3fn"))
        return refuse("fmt", fmt, "e4m3", err);
    oct_linear_rule *r = &st->rule;
    *r = (oct_linear_rule){.kind = OCT_LINEAR_FP8,
                           .label = "FP8",
                           .why = "quantization_config",
                           .scale_tail = ".weight_scale"};
    const oct_tensor *scale = any_ending(s, ".weight_scale");
    r->grain = fbgemm || (scale && scale->n_rows * scale->row_elems > 1) ? OCT_GRAIN_CHANNEL
                                                                         : OCT_GRAIN_TENSOR;
    OCT_TRY(read_blocks(config, r, &blocks, err));
    if (blocks && (!scale || any_ending(s, ".weight_scale_inv")))
        r->scale_tail = ".weight_scale_inv";
    OCT_TRY(fp8_input(config, r, err));
    if (!fbgemm) return OCT_OK;
    OCT_TRY(oct_config_as_file(
        oct_json_get_f64(config, "activation_scale_ub", where, 1e-30, 1e30, &bound, err)));
    r->act_max = (float)bound;
    return OCT_OK;
}

static oct_status w8a8_open(oct_scheme *s, oct_err *err) {
    plain_state *st;
    OCT_TRY(start(s, &st, err));
    st->rule = (oct_linear_rule){.kind = OCT_LINEAR_INT8,
                                 .label = "W8A8_DYNAMIC",
                                 .why = "quantization_config",
                                 .scale_tail = ".weight_scale",
                                 .grain = OCT_GRAIN_CHANNEL,
                                 .input = OCT_INPUT_TOKEN};
    return OCT_OK;
}

static oct_status blockwise_open(oct_scheme *s, oct_err *err) {
    const json_t *config = s->ckpt->config.quantization_config,
                 *scheme = json_object_get(config, "activation_scheme");
    plain_state *st;
    bool blocks;
    OCT_TRY(start(s, &st, err));
    st->rule = (oct_linear_rule){.kind = OCT_LINEAR_W8A16,
                                 .label = "INT8 by blocks",
                                 .why = "quantization_config",
                                 .scale_tail = ".weight_scale_inv"};
    OCT_TRY(read_blocks(config, &st->rule, &blocks, err));
    if (!blocks)
        return refuse("weight_block_size", json_object_get(config, "weight_block_size"),
                      "two sizes", err);
    if (scheme && !json_is_null(scheme) && !oct_str_is(oct_json_str(scheme), "dynamic"))
        return refuse("activation_scheme", scheme, "dynamic", err);
    if (!any_ending(s, ".weight_scale_inv") && any_ending(s, ".weight_scale"))
        st->rule.scale_tail = ".weight_scale";
    oct_warn("%s: blockwise_int8: weights are used with float activations", where);
    return OCT_OK;
}

const oct_scheme_ops oct_scheme_fp8 = {
    .name = "fp8", .open = fp8_open, .close = plain_close, .rule = plain_rule, .kv = plain_kv};
const oct_scheme_ops oct_scheme_w8a8_int8 = {.name = "w8a8_int8",
                                             .open = w8a8_open,
                                             .close = plain_close,
                                             .rule = plain_rule,
                                             .kv = plain_kv};
const oct_scheme_ops oct_scheme_blockwise_int8 = {.name = "blockwise_int8",
                                                  .open = blockwise_open,
                                                  .close = plain_close,
                                                  .rule = plain_rule,
                                                  .kv = plain_kv};
