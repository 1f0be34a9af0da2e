/*
 * store/scheme_compressed.c - compressed-tensors: groups of modules, each with what its weights and
 * inputs are. A module belongs to the first group that names it, else to the first that names its
 * class; "ignore" comes before both.
 *
 * Only names that the file has are matched. Where an entry was written for an engine's fused module
 * (qkv_proj, gate_up_proj) it holds for its parts, provided that the entry says that word itself: a
 * loose pattern must not reach a neighbour through a name that is in no file.
 */
#include <stdio.h>

#include "base/log.h"
#include "codec/json.h"
#include "store/config_parts.h"
#include "store/scheme_parts.h"

enum { MAX_NAMED_GROUPS = 1024 };

static const char where[] = "config.json: quantization_config";

typedef struct ct_group {
    char key[96]; /* "quantization_config.config_groups.group_0" */
    oct_name_list *targets;
    oct_linear_rule rule;
} ct_group;

typedef struct ct_state {
    oct_name_list *ignore;
    ct_group *groups; /* [n_groups] */
    size_t n_groups;
    oct_kv_rule kv; /* kind FLOAT: none */
} ct_state;

/* ---- one set of arguments -------------------------------------------------------------------- */

typedef enum ct_strategy {
    CT_TENSOR,
    CT_CHANNEL,
    CT_GROUP,
    CT_BLOCK,
    CT_TOKEN,
    CT_HEAD,
    CT_TENSOR_GROUP
} ct_strategy;

typedef struct ct_args {
    bool is_float, symmetric, dynamic;
    int64_t bits, group_size;
    ct_strategy strategy;
    uint32_t block[2];
} ct_args;

static oct_status refuse(const char *key, const char *field, const json_t *v, const char *want,
                         oct_err *err) {
    char shown[OCT_JSON_SHOWN];
    return OCT_FAIL(err, OCT_E_UNSUPPORTED, "config.json: %s.%s is not supported (got %s, want %s)",
                    key, field, v ? oct_json_show(v, shown) : "nothing", want);
}

static oct_status read_strategy(const json_t *q, const char *key, ct_args *a, oct_err *err) {
    static const char *const names[] = {"tensor", "channel",   "group",       "block",
                                        "token",  "attn_head", "tensor_group"};
    const json_t *v = json_object_get(q, "strategy");
    if (!v || json_is_null(v)) {
        a->strategy = a->dynamic           ? CT_TOKEN
                      : a->group_size == 0 ? CT_TENSOR
                      : a->group_size < 0  ? CT_CHANNEL
                                           : CT_GROUP;
        return OCT_OK;
    }
    for (size_t i = 0; i < OCT_COUNT(names); i++)
        if (oct_str_is(oct_json_str(v), names[i])) {
            a->strategy = (ct_strategy)i;
            return OCT_OK;
        }
    return refuse(key, "strategy", v, "tensor, channel, token, block or attn_head", err);
}

static oct_status read_block(const json_t *q, const char *key, ct_args *a, oct_err *err) {
    const json_t *v = json_object_get(q, "block_structure");
    a->block[0] = a->block[1] = 128;
    if (!v || json_is_null(v)) return OCT_OK;
    for (size_t i = 0; i < 2; i++) {
        const json_t *n = json_array_get(v, i);
        if (json_array_size(v) != 2 || !json_is_integer(n) || json_integer_value(n) < 1 ||
            json_integer_value(n) > 65536)
            return refuse(key, "block_structure", v, "two sizes", err);
        a->block[i] = (uint32_t)json_integer_value(n);
    }
    return OCT_OK;
}

static oct_status read_args(const json_t *q, const char *key, ct_args *a, oct_err *err) {
    char shown[OCT_JSON_SHOWN];
    oct_str type = OCT_STR("int");
    const json_t *dynamic = json_object_get(q, "dynamic");
    *a = (ct_args){.symmetric = true, .bits = 8};
    if (!json_is_object(q))
        return OCT_FAIL(err, OCT_E_CORRUPT, "config.json: %s is no object (got %s)", key,
                        oct_json_show(q, shown));
    if (dynamic && !json_is_null(dynamic) && !json_is_boolean(dynamic))
        return refuse(key, "dynamic", dynamic, "true or false", err);
    a->dynamic = json_is_true(dynamic);
    OCT_TRY(oct_config_as_file(oct_json_get_str(q, "type", key, &type, err)));
    OCT_TRY(oct_config_as_file(oct_json_get_bool(q, "symmetric", key, &a->symmetric, err)));
    OCT_TRY(oct_config_as_file(oct_json_get_i64(q, "num_bits", key, 1, 64, &a->bits, err)));
    OCT_TRY(oct_config_as_file(
        oct_json_get_i64(q, "group_size", key, -1, 1 << 20, &a->group_size, err)));
    a->is_float = oct_str_is(type, "float");
    if (!a->is_float && !oct_str_is(type, "int"))
        return refuse(key, "type", json_object_get(q, "type"), "int or float", err);
    if (a->bits != 8) return refuse(key, "num_bits", json_object_get(q, "num_bits"), "8", err);
    OCT_TRY(read_strategy(q, key, a, err));
    return a->strategy == CT_BLOCK ? read_block(q, key, a, err) : OCT_OK;
}

/* ---- groups ---------------------------------------------------------------------------------- */

static oct_status set_weights(const json_t *q, const char *key, ct_args *a, oct_linear_rule *r,
                              oct_err *err) {
    char name[128];
    snprintf(name, sizeof name, "%s.weights", key);
    OCT_TRY(read_args(q, name, a, err));
    const json_t *strategy = json_object_get(q, "strategy"),
                 *order = json_object_get(q, "actorder");
    if (a->dynamic) return refuse(name, "dynamic", json_object_get(q, "dynamic"), "false", err);
    switch (a->strategy) {
    case CT_TENSOR:
        r->grain = OCT_GRAIN_TENSOR;
        return OCT_OK;
    case CT_CHANNEL:
        r->grain = OCT_GRAIN_CHANNEL;
        return OCT_OK;
    case CT_BLOCK:
        r->grain = OCT_GRAIN_BLOCK;
        r->block_n = a->block[0];
        r->block_k = a->block[1];
        return a->is_float ? OCT_OK : refuse(name, "strategy", strategy, "tensor or channel", err);
    case CT_GROUP:
        if (oct_str_is(oct_json_str(order), "group") || oct_str_is(oct_json_str(order), "dynamic"))
            return refuse(name, "actorder", order, "columns in their own order", err);
        r->grain = OCT_GRAIN_BLOCK;
        r->block_n = 1;
        r->block_k = a->group_size > 0 ? (uint32_t)a->group_size : 128;
        return OCT_OK;
    default:
        return refuse(name, "strategy", strategy, "tensor, channel, group or block", err);
    }
}

static oct_status set_inputs(oct_scheme *s, const json_t *q, const char *key, const ct_args *w,
                             oct_linear_rule *r, oct_err *err) {
    char name[128];
    ct_args a;
    snprintf(name, sizeof name, "%s.input_activations", key);
    if (!q || json_is_null(q)) return OCT_OK; /* weights alone */
    OCT_TRY(read_args(q, name, &a, err));
    if (a.is_float != w->is_float)
        return refuse(name, "type", json_object_get(q, "type"), "the type of the weights", err);
    if (r->grain == OCT_GRAIN_BLOCK && !w->is_float)
        return refuse(key, "weights.strategy", json_object_get(q, "strategy"),
                      "tensor or channel with quantised inputs", err);
    const bool by_row = a.strategy == CT_TOKEN || (w->is_float && a.strategy == CT_GROUP) ||
                        a.strategy == CT_TENSOR;
    if (!by_row || (!a.dynamic && a.strategy != CT_TENSOR))
        return refuse(name, "strategy", json_object_get(q, "strategy"),
                      a.dynamic ? "token" : "tensor", err);
    r->input = a.dynamic ? OCT_INPUT_TOKEN : OCT_INPUT_STATIC;
    r->input_offset = !a.symmetric;
    if (!a.dynamic || a.symmetric) return OCT_OK;
    if (w->is_float || s->strict)
        return refuse(name, "symmetric", json_object_get(q, "symmetric"), "true for dynamic inputs",
                      err);
    if (!s->warned_asym)
        oct_warn("%s: dynamic inputs with a zero point: quantised with symmetric scales here",
                 name);
    s->warned_asym = true;
    return OCT_OK;
}

static oct_status check_format(const json_t *v, const char *key, bool *packed, oct_err *err) {
    static const char *const known[] = {"int-quantized",   "float-quantized", "naive-quantized",
                                        "mixed-precision", "dense",           "pack-quantized"};
    *packed = false;
    if (!v || json_is_null(v)) return OCT_OK;
    for (size_t i = 0; i < OCT_COUNT(known); i++)
        if (oct_str_is(oct_json_str(v), known[i])) {
            *packed = oct_str_is(oct_json_str(v), "pack-quantized");
            return OCT_OK;
        }
    return refuse(key, "format", v,
                  "int-quantized, float-quantized, naive-quantized, pack-quantized or "
                  "mixed-precision",
                  err);
}

static oct_status read_group(oct_scheme *s, const json_t *v, const json_t *global_format,
                             ct_group *g, oct_err *err) {
    const json_t *w = json_object_get(v, "weights"), *in = json_object_get(v, "input_activations"),
                 *out = json_object_get(v, "output_activations"),
                 *format = json_object_get(v, "format");
    ct_args args;
    if (format && !json_is_null(format))
        OCT_TRY(check_format(format, g->key, &g->rule.packed, err));
    else
        OCT_TRY(check_format(global_format, "quantization_config", &g->rule.packed, err));
    if (out && !json_is_null(out)) return refuse(g->key, "output_activations", out, "null", err);
    if (!w || json_is_null(w)) {
        if (in && !json_is_null(in)) return refuse(g->key, "weights", w, "quantised weights", err);
        g->rule.label = "FLOAT";
        g->rule.kind = OCT_LINEAR_FLOAT;
        return OCT_OK;
    }
    OCT_TRY(set_weights(w, g->key, &args, &g->rule, err));
    OCT_TRY(set_inputs(s, in, g->key, &args, &g->rule, err));
    oct_scheme_name_rule(&g->rule, args.is_float);
    g->rule.scale_tail = ".weight_scale";
    if (args.is_float) g->rule.packed = false;
    return OCT_OK;
}

/* "W8A8": [targets] instead of a group. */
static oct_status read_preset(const char *name, ct_group *g, oct_err *err) {
    static const struct {
        const char *name;
        oct_linear_kind kind;
        const char *label;
        oct_grain grain;
        oct_input_rule input;
    } presets[] = {
        {"W8A8", OCT_LINEAR_INT8, "W8A8_DYNAMIC", OCT_GRAIN_CHANNEL, OCT_INPUT_TOKEN},
        {"INT8", OCT_LINEAR_INT8, "W8A8_DYNAMIC", OCT_GRAIN_CHANNEL, OCT_INPUT_TOKEN},
        {"FP8", OCT_LINEAR_FP8, "FP8", OCT_GRAIN_TENSOR, OCT_INPUT_STATIC},
        {"FP8_DYNAMIC", OCT_LINEAR_FP8, "FP8", OCT_GRAIN_CHANNEL, OCT_INPUT_TOKEN},
        {"UNQUANTIZED", OCT_LINEAR_FLOAT, "FLOAT", OCT_GRAIN_TENSOR, OCT_INPUT_FLOAT},
    };
    for (size_t i = 0; i < OCT_COUNT(presets); i++)
        if (strcmp(name, presets[i].name) == 0) {
            g->rule.kind = presets[i].kind;
            g->rule.label = presets[i].label;
            g->rule.grain = presets[i].grain;
            g->rule.input = presets[i].input;
            g->rule.scale_tail = ".weight_scale";
            return OCT_OK;
        }
    return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                    "config.json: quantization_config.config_groups: preset \"%.64s\" is not "
                    "supported (want W8A8, FP8 or FP8_DYNAMIC)",
                    name);
}

static oct_status read_groups(oct_scheme *s, ct_state *st, const json_t *config, oct_err *err) {
    json_t *groups = json_object_get(config, "config_groups");
    const json_t *format = json_object_get(config, "format");
    const char *name;
    json_t *v;
    char shown[OCT_JSON_SHOWN];
    if (!json_is_object(groups))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s.config_groups is no object (got %s)", where,
                        groups ? oct_json_show(groups, shown) : "nothing");
    if (json_object_size(groups) > MAX_NAMED_GROUPS)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s.config_groups: more than %d groups", where,
                        MAX_NAMED_GROUPS);
    st->groups = oct_calloc(s->mem, json_object_size(groups), sizeof *st->groups);
    if (!st->groups) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", where);
    st->n_groups = json_object_size(groups);
    size_t i = 0;
    json_object_foreach(groups, name, v) {
        ct_group *g = &st->groups[i++];
        snprintf(g->key, sizeof g->key, "quantization_config.config_groups.%.40s", name);
        g->rule.why = g->key;
        if (json_is_array(v)) {
            OCT_TRY(read_preset(name, g, err));
        } else if (json_is_object(v)) {
            OCT_TRY(read_group(s, v, format, g, err));
        } else {
            return OCT_FAIL(err, OCT_E_CORRUPT, "config.json: %s is no object (got %s)", g->key,
                            oct_json_show(v, shown));
        }
        OCT_TRY(oct_name_list_create(s->mem, json_is_array(v) ? v : json_object_get(v, "targets"),
                                     OCT_NAMES_RE, g->key, &g->targets, err));
    }
    return OCT_OK;
}

/* ---- the cache ------------------------------------------------------------------------------- */

static oct_status read_kv(const json_t *q, oct_kv_rule *kv, oct_err *err) {
    static const char key[] = "quantization_config.kv_cache_scheme";
    ct_args a;
    if (!q || json_is_null(q)) return OCT_OK;
    OCT_TRY(read_args(q, key, &a, err));
    *kv = (oct_kv_rule){.kind = a.is_float ? OCT_KV_KIND_FP8 : OCT_KV_KIND_I8, .need = true};
    if (a.dynamic) {
        if (a.is_float) return refuse(key, "dynamic", json_object_get(q, "dynamic"), "false", err);
        kv->kind = OCT_KV_KIND_I8_HEAD;
        return OCT_OK;
    }
    switch (a.strategy) {
    case CT_TENSOR:
        kv->grain = OCT_KV_GRAIN_TENSOR;
        return OCT_OK;
    case CT_HEAD:
        kv->grain = OCT_KV_GRAIN_HEAD;
        return OCT_OK;
    case CT_CHANNEL:
        kv->grain = OCT_KV_GRAIN_CHANNEL;
        return OCT_OK;
    default:
        return refuse(key, "strategy", json_object_get(q, "strategy"),
                      "tensor, attn_head or channel", err);
    }
}

static oct_status compressed_kv(oct_scheme *s, oct_arena *arena, const char *attn,
                                uint32_t n_kv_heads, uint32_t head_dim, oct_kv_source *out,
                                oct_err *err) {
    const ct_state *st = s->state;
    if (st->kv.kind == OCT_KV_KIND_I8_HEAD) {
        out->kind = out->offered = OCT_KV_KIND_I8_HEAD;
        out->grain = OCT_KV_GRAIN_HEAD;
        return OCT_OK;
    }
    return oct_scheme_kv_scales(s, arena, attn, &st->kv, n_kv_heads, head_dim, out, err);
}

/* ---- a projection's rule --------------------------------------------------------------------- */

/* "...self_attn.qkv_proj" for q, k and v; "...mlp.gate_up_proj" for gate and up; or false. */
static bool fused_name(const char *own, char out[OCT_SCHEME_NAME], const char **word) {
    static const char *const parts[][2] = {{"q_proj", "qkv_proj"},
                                           {"k_proj", "qkv_proj"},
                                           {"v_proj", "qkv_proj"},
                                           {"gate_proj", "gate_up_proj"},
                                           {"up_proj", "gate_up_proj"}};
    const char *dot = strrchr(own, '.');
    if (!dot) return false;
    for (size_t i = 0; i < OCT_COUNT(parts); i++)
        if (strcmp(dot + 1, parts[i][0]) == 0) {
            *word = parts[i][1];
            return snprintf(out, OCT_SCHEME_NAME, "%.*s%s", (int)(dot + 1 - own), own,
                            parts[i][1]) < OCT_SCHEME_NAME;
        }
    return false;
}

static oct_status named(oct_name_list *l, const char *own, bool *hit, oct_err *err) {
    char fused[OCT_SCHEME_NAME];
    const char *word;
    OCT_TRY(oct_name_list_has(l, own, hit, err));
    if (*hit || !fused_name(own, fused, &word)) return OCT_OK;
    return oct_name_list_has_word(l, fused, word, hit, err);
}

static oct_status compressed_rule(oct_scheme *s, const char *own, oct_linear_rule *out,
                                  oct_err *err) {
    static const char *const classes[] = {"Linear", "ReplicatedLinear", "ColumnParallelLinear",
                                          "RowParallelLinear"};
    const ct_state *st = s->state;
    bool hit;
    *out = (oct_linear_rule){
        .kind = OCT_LINEAR_FLOAT, .label = "FLOAT", .why = "quantization_config.ignore"};
    OCT_TRY(named(st->ignore, own, &hit, err));
    for (size_t g = 0; !hit && g < st->n_groups; g++) {
        OCT_TRY(named(st->groups[g].targets, own, &hit, err));
        if (hit) *out = st->groups[g].rule;
    }
    for (size_t c = 0; !hit && c < OCT_COUNT(classes); c++)
        for (size_t g = 0; !hit && g < st->n_groups; g++) {
            hit = oct_name_list_spells(st->groups[g].targets, classes[c]);
            if (hit) *out = st->groups[g].rule;
        }
    if (!hit) out->why = "no target of quantization_config.config_groups";
    return OCT_OK;
}

/* ---- open ------------------------------------------------------------------------------------ */

/* Sparsity and rotations that octet does not do. Older writers leave a description of dense
 * weights. */
static oct_status check_extras(const json_t *config, oct_err *err) {
    static const char *const keys[] = {"sparsity_config", "transform_config"};
    for (size_t i = 0; i < OCT_COUNT(keys); i++) {
        const json_t *v = json_object_get(config, keys[i]);
        if (!v || json_is_null(v) || (json_is_object(v) && json_object_size(v) == 0)) continue;
        if (i == 0 && oct_str_is(oct_json_str(json_object_get(v, "format")), "dense")) continue;
        const json_t *groups = json_object_get(v, "config_groups");
        if (i == 1 && json_is_object(groups) && json_object_size(groups) == 0) continue;
        return refuse("quantization_config", keys[i], v, "nothing", err);
    }
    return OCT_OK;
}

static oct_status compressed_open(oct_scheme *s, oct_err *err) {
    const json_t *config = s->ckpt->config.quantization_config;
    ct_state *st = oct_calloc(s->mem, 1, sizeof *st);
    bool packed;
    if (!st) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", where);
    s->state = st;
    OCT_TRY(check_extras(config, err));
    OCT_TRY(check_format(json_object_get(config, "format"), "quantization_config", &packed, err));
    OCT_TRY(oct_name_list_create(s->mem, json_object_get(config, "ignore"), OCT_NAMES_RE,
                                 "config.json: quantization_config.ignore", &st->ignore, err));
    OCT_TRY(read_groups(s, st, config, err));
    OCT_TRY(read_kv(json_object_get(config, "kv_cache_scheme"), &st->kv, err));
    s->has_kv = st->kv.kind != OCT_KV_KIND_FLOAT;
    if (!s->has_kv && oct_scheme_any_kv_scale(s)) {
        st->kv = (oct_kv_rule){.kind = OCT_KV_KIND_FP8, .any_grain = true, .offer_only = true};
        s->has_kv = true;
    }
    return OCT_OK;
}

static void compressed_close(oct_scheme *s) {
    ct_state *st = s->state;
    if (!st) return;
    for (size_t i = 0; i < st->n_groups; i++) oct_name_list_destroy(st->groups[i].targets);
    oct_free(s->mem, st->groups, st->n_groups, sizeof *st->groups);
    oct_name_list_destroy(st->ignore);
    oct_free(s->mem, st, 1, sizeof *st);
}

const oct_scheme_ops oct_scheme_compressed = {.name = "compressed-tensors",
                                              .open = compressed_open,
                                              .close = compressed_close,
                                              .rule = compressed_rule,
                                              .kv = compressed_kv};
