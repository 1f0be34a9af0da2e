/*
 * store/scheme_quark.c - AMD Quark: a specification for weights and inputs, found for a module in
 * this order: exclude (float), layer_quant_config (a name, then wildcards in their order),
 * layer_type_quant_config (its class), global_quant_config.
 *
 * Quark spells "per token" as per_channel along axis 1 and dynamic. Dynamic inputs with one scale
 * for a whole tensor are quantised by row: finer, and a row's result then does not depend on
 * others.
 */
#include <stdio.h>

#include "base/log.h"
#include "codec/json.h"
#include "store/scheme_parts.h"

static const char where[] = "config.json: quantization_config";

typedef struct quark_state {
    const json_t *config;
    oct_name_list *exclude;
    const char **globs; /* keys of layer_quant_config with wildcards, borrowed; [n_globs] */
    size_t n_globs;
    json_t *kv_names;        /* owned: what kv_group is made of */
    oct_name_list *kv_group; /* which projections feed the cache */
    oct_kv_rule kv;
    bool is_fake; /* weights were stored as float */
    bool warned_tensor;
} quark_state;

/* ---- one specification ----------------------------------------------------------------------- */

typedef enum quark_type { QUARK_INT8, QUARK_FP8 } quark_type;
typedef enum quark_scheme { QUARK_TENSOR, QUARK_CHANNEL } quark_scheme;

typedef struct quark_spec {
    bool given, dynamic, symmetric;
    quark_type type;
    quark_scheme scheme;
    int64_t axis; /* -1: none */
} quark_spec;

static oct_status refuse(const char *key, const char *field, const json_t *v, const char *want,
                         oct_err *err) {
    char shown[OCT_JSON_SHOWN];
    return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s.%s%s%s is not supported (got %s, want %s)", where,
                    key, field[0] ? "." : "", field, v ? oct_json_show(v, shown) : "nothing", want);
}

static oct_status read_spec(const json_t *v, const char *key, quark_spec *out, oct_err *err) {
    const json_t *dtype = json_object_get(v, "dtype"), *scheme = json_object_get(v, "qscheme");
    *out = (quark_spec){.symmetric = true, .axis = -1};
    if (!v || json_is_null(v)) return OCT_OK;
    if (json_is_array(v)) return refuse(key, "", v, "one specification, not several levels", err);
    if (!json_is_object(v)) return refuse(key, "", v, "an object or null", err);
    out->given = true;
    if (oct_str_is(oct_json_str(dtype), "int8"))
        out->type = QUARK_INT8;
    else if (oct_str_is(oct_json_str(dtype), "fp8_e4m3"))
        out->type = QUARK_FP8;
    else
        return refuse(key, "dtype", dtype, "int8 or fp8_e4m3", err);
    if (oct_str_is(oct_json_str(scheme), "per_channel"))
        out->scheme = QUARK_CHANNEL;
    else if (!oct_str_is(oct_json_str(scheme), "per_tensor"))
        return refuse(key, "qscheme", scheme, "per_tensor or per_channel", err);
    oct_status st = oct_json_get_bool(v, "is_dynamic", key, &out->dynamic, err);
    if (st == OCT_OK) st = oct_json_get_bool(v, "symmetric", key, &out->symmetric, err);
    if (st == OCT_OK) st = oct_json_get_i64(v, "ch_axis", key, -8, 8, &out->axis, err);
    return st == OCT_E_INVALID ? OCT_E_CORRUPT : st;
}

static oct_status weight_rule(const json_t *layer, const char *key, quark_spec *w,
                              oct_linear_rule *r, oct_err *err) {
    char name[160];
    const json_t *v = json_object_get(layer, "weight");
    snprintf(name, sizeof name, "%s.weight", key);
    OCT_TRY(read_spec(v, name, w, err));
    if (!w->given) return OCT_OK;
    if (w->dynamic)
        return refuse(name, "is_dynamic", json_object_get(v, "is_dynamic"), "false", err);
    if (!w->symmetric)
        return refuse(name, "symmetric", json_object_get(v, "symmetric"), "true", err);
    if (w->scheme == QUARK_CHANNEL && w->axis > 0)
        return refuse(name, "ch_axis", json_object_get(v, "ch_axis"), "0", err);
    r->grain = w->scheme == QUARK_CHANNEL ? OCT_GRAIN_CHANNEL : OCT_GRAIN_TENSOR;
    r->scale_tail = ".weight_scale";
    return OCT_OK;
}

static oct_status input_rule(oct_scheme *s, const json_t *layer, const char *key,
                             const quark_spec *w, oct_linear_rule *r, oct_err *err) {
    quark_state *state = s->state;
    char name[160];
    quark_spec in;
    const json_t *v = json_object_get(layer, "input_tensors");
    snprintf(name, sizeof name, "%s.input_tensors", key);
    OCT_TRY(read_spec(v, name, &in, err));
    if (!in.given) return OCT_OK;
    if (!w->given || in.type != w->type)
        return refuse(name, "dtype", json_object_get(v, "dtype"), "the weights' type", err);
    if (!in.dynamic && in.scheme != QUARK_TENSOR)
        return refuse(name, "qscheme", json_object_get(v, "qscheme"), "per_tensor", err);
    if (in.dynamic && !in.symmetric)
        return refuse(name, "symmetric", json_object_get(v, "symmetric"), "true", err);
    r->input = in.dynamic ? OCT_INPUT_TOKEN : OCT_INPUT_STATIC;
    r->input_offset = !in.symmetric;
    if (in.dynamic && in.scheme == QUARK_TENSOR && !state->warned_tensor) {
        oct_warn("%s.%s: one scale for all rows at run time: each row has its own here", where,
                 name);
        state->warned_tensor = true;
    }
    return OCT_OK;
}

/* outputs: the layer feeds the cache, so that output_tensors is no matter of the projection. */
static oct_status layer_rule(oct_scheme *s, const json_t *layer, const char *key, bool outputs,
                             oct_linear_rule *r, oct_err *err) {
    quark_spec w;
    char shown[OCT_JSON_SHOWN];
    const json_t *out = json_object_get(layer, "output_tensors"),
                 *bias = json_object_get(layer, "bias");
    *r =
        (oct_linear_rule){.kind = OCT_LINEAR_FLOAT, .label = "FLOAT", .why = "quantization_config"};
    if (!layer || json_is_null(layer)) return OCT_OK;
    if (!json_is_object(layer))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s.%s is no object (got %s)", where, key,
                        oct_json_show(layer, shown));
    if (out && !json_is_null(out) && !outputs)
        return refuse(key, "output_tensors", out, "null", err);
    if (bias && !json_is_null(bias)) return refuse(key, "bias", bias, "null", err);
    OCT_TRY(weight_rule(layer, key, &w, r, err));
    OCT_TRY(input_rule(s, layer, key, &w, r, err));
    if (!w.given) return OCT_OK;
    oct_scheme_name_rule(r, w.type == QUARK_FP8);
    return OCT_OK;
}

/* ---- a projection's rule --------------------------------------------------------------------- */

/* The entry of layer_quant_config for a name, or NULL. *key is its name. */
static const json_t *layer_entry(const quark_state *st, const char *own, const char **key) {
    const json_t *map = json_object_get(st->config, "layer_quant_config");
    const json_t *v = json_object_get(map, own);
    *key = own;
    for (size_t i = 0; !v && i < st->n_globs; i++)
        if (oct_glob_matches(st->globs[i], own)) {
            *key = st->globs[i];
            v = json_object_get(map, st->globs[i]);
        }
    return v;
}

static oct_status quark_rule(oct_scheme *s, const char *own, oct_linear_rule *out, oct_err *err) {
    const quark_state *st = s->state;
    bool excluded, outputs;
    const char *name;
    char key[128] = "global_quant_config";
    *out = (oct_linear_rule){.kind = OCT_LINEAR_FLOAT,
                             .label = "FLOAT",
                             .why = st->is_fake ? "quantization_config.export.weight_format"
                                                : "quantization_config.exclude"};
    OCT_TRY(oct_name_list_has(st->exclude, own, &excluded, err));
    if (excluded || st->is_fake) return OCT_OK;
    OCT_TRY(oct_name_list_has(st->kv_group, own, &outputs, err));
    const json_t *layer = layer_entry(st, own, &name);
    if (layer) snprintf(key, sizeof key, "layer_quant_config.%.96s", name);
    if (!layer) {
        layer = json_object_get(json_object_get(st->config, "layer_type_quant_config"), "Linear");
        if (layer) snprintf(key, sizeof key, "layer_type_quant_config.Linear");
    }
    if (!layer) layer = json_object_get(st->config, "global_quant_config");
    return layer_rule(s, layer, key, outputs, out, err);
}

/* ---- the cache ------------------------------------------------------------------------------- */

/* What K's and V's entries say of their outputs: the same thing, or it is refused. */
static oct_status kv_entry(quark_state *st, const char *key, const json_t *layer, oct_err *err) {
    char name[160];
    quark_spec out;
    const json_t *v = json_object_get(layer, "output_tensors");
    if (!v || json_is_null(v)) return OCT_OK;
    snprintf(name, sizeof name, "kv_cache_quant_config.%.96s.output_tensors", key);
    OCT_TRY(read_spec(v, name, &out, err));
    if (out.dynamic)
        return refuse(name, "is_dynamic", json_object_get(v, "is_dynamic"), "false", err);
    if (!out.symmetric)
        return refuse(name, "symmetric", json_object_get(v, "symmetric"), "true", err);
    if (out.type == QUARK_FP8 && out.scheme != QUARK_TENSOR)
        return refuse(name, "qscheme", json_object_get(v, "qscheme"), "per_tensor", err);
    const oct_kv_rule rule = {.kind = out.type == QUARK_FP8 ? OCT_KV_KIND_FP8 : OCT_KV_KIND_I8,
                              .grain = out.scheme == QUARK_TENSOR ? OCT_KV_GRAIN_TENSOR
                                                                  : OCT_KV_GRAIN_CHANNEL,
                              .need = true};
    if (st->kv.kind != OCT_KV_KIND_FLOAT &&
        (st->kv.kind != rule.kind || st->kv.grain != rule.grain))
        return refuse(name, "", v, "the same for K and V", err);
    st->kv = rule;
    return OCT_OK;
}

/* Entries for the cache stand in kv_cache_quant_config; older files have them only among the
 * layers, and export.kv_cache_group says which. */
static oct_status read_kv(oct_scheme *s, quark_state *st, oct_err *err) {
    json_t *map = json_object_get(st->config, "kv_cache_quant_config");
    json_t *group = json_object_get(json_object_get(st->config, "export"), "kv_cache_group");
    const char *key;
    json_t *v;
    size_t i;
    st->kv_names = json_array();
    if (json_is_array(group)) json_array_extend(st->kv_names, group);
    if (json_is_object(map)) json_object_foreach(map, key, v) {
            json_array_append_new(st->kv_names, json_string(key));
        }
    OCT_TRY(oct_name_list_create(s->mem, st->kv_names, OCT_NAMES_GLOB | OCT_NAMES_RE,
                                 "config.json: quantization_config.export.kv_cache_group",
                                 &st->kv_group, err));
    if (json_is_object(map)) json_object_foreach(map, key, v) {
            OCT_TRY(kv_entry(st, key, v, err));
        }
    json_t *layers = json_object_get(st->config, "layer_quant_config");
    if (st->kv.kind == OCT_KV_KIND_FLOAT && json_is_array(group)) json_array_foreach(group, i, v) {
            const json_t *layer = json_object_get(layers, json_string_value(v));
            if (layer) OCT_TRY(kv_entry(st, json_string_value(v), layer, err));
        }
    s->has_kv = st->kv.kind != OCT_KV_KIND_FLOAT;
    if (s->has_kv || !oct_scheme_any_kv_scale(s)) return OCT_OK;
    st->kv = (oct_kv_rule){.kind = OCT_KV_KIND_FP8, .any_grain = true, .offer_only = true};
    s->has_kv = true;
    return OCT_OK;
}

static oct_status quark_kv(oct_scheme *s, oct_arena *arena, const char *attn, uint32_t n_kv_heads,
                           uint32_t head_dim, oct_kv_source *out, oct_err *err) {
    const quark_state *st = s->state;
    return oct_scheme_kv_scales(s, arena, attn, &st->kv, n_kv_heads, head_dim, out, err);
}

/* ---- open ------------------------------------------------------------------------------------ */

static oct_status read_globs(oct_scheme *s, quark_state *st, oct_err *err) {
    json_t *map = json_object_get(st->config, "layer_quant_config");
    const char *key;
    json_t *v;
    if (!map || json_is_null(map)) return OCT_OK;
    char shown[OCT_JSON_SHOWN];
    if (!json_is_object(map))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s.layer_quant_config is no object (got %s)", where,
                        oct_json_show(map, shown));
    enum { MOST = 4096, LONGEST = 1024 };
    st->globs = oct_calloc(s->mem, MOST, sizeof *st->globs);
    if (!st->globs) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", where);
    json_object_foreach(map, key, v) {
        if (!strpbrk(key, "*?[")) continue;
        if (st->n_globs == MOST || strlen(key) > LONGEST)
            return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                            "%s.layer_quant_config: too many or too long patterns (want at most %d "
                            "of %d bytes)",
                            where, MOST, LONGEST);
        st->globs[st->n_globs++] = key;
    }
    return OCT_OK;
}

static oct_status check_export(quark_state *st, oct_err *err) {
    const json_t *format = json_object_get(json_object_get(st->config, "export"), "weight_format");
    if (!format || json_is_null(format)) return OCT_OK;
    st->is_fake = oct_str_is(oct_json_str(format), "fake_quantized");
    if (st->is_fake || oct_str_is(oct_json_str(format), "real_quantized")) return OCT_OK;
    return refuse("export", "weight_format", format, "real_quantized", err);
}

/* Rotations before a projection or after rotary embedding, which the engine would have to do. Those
 * that are folded into weights (r1, r2) need nothing. */
static oct_status check_rotations(const quark_state *st, oct_err *err) {
    static const char *const keys[] = {"r3", "r4", "online_r1_rotation", "online_had"};
    const json_t *list = json_object_get(st->config, "algo_config");
    char key[64];
    for (size_t i = 0; i < json_array_size(list); i++)
        for (size_t k = 0; k < OCT_COUNT(keys); k++) {
            const json_t *v = json_object_get(json_array_get(list, i), keys[k]);
            if (!json_is_true(v)) continue;
            snprintf(key, sizeof key, "algo_config[%zu]", i);
            return refuse(key, keys[k], v, "false: rotation at run time is not supported", err);
        }
    return OCT_OK;
}

static oct_status quark_open(oct_scheme *s, oct_err *err) {
    quark_state *st = oct_calloc(s->mem, 1, sizeof *st);
    if (!st) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", where);
    s->state = st;
    st->config = s->ckpt->config.quantization_config;
    OCT_TRY(check_export(st, err));
    OCT_TRY(check_rotations(st, err));
    const json_t *softmax = json_object_get(st->config, "softmax_quant_spec");
    if (softmax && !json_is_null(softmax))
        oct_warn("%s.softmax_quant_spec: probabilities stay float here", where);
    OCT_TRY(oct_name_list_create(s->mem, json_object_get(st->config, "exclude"),
                                 OCT_NAMES_RE | OCT_NAMES_GLOB,
                                 "config.json: quantization_config.exclude", &st->exclude, err));
    OCT_TRY(read_globs(s, st, err));
    OCT_TRY(read_kv(s, st, err));
    /* A specification that no projection has is told here, not at the first layer that has it. */
    oct_linear_rule rule;
    return layer_rule(s, json_object_get(st->config, "global_quant_config"), "global_quant_config",
                      false, &rule, err);
}

static void quark_close(oct_scheme *s) {
    quark_state *st = s->state;
    if (!st) return;
    oct_name_list_destroy(st->exclude);
    oct_name_list_destroy(st->kv_group);
    json_decref(st->kv_names);
    if (st->globs) oct_free(s->mem, st->globs, 4096, sizeof *st->globs);
    oct_free(s->mem, st, 1, sizeof *st);
}

const oct_scheme_ops oct_scheme_quark = {
    .name = "quark", .open = quark_open, .close = quark_close, .rule = quark_rule, .kv = quark_kv};
