/*
 * store/scheme_modelslim.c - ModelSlim ("ascend"): quant_model_description.json names a scheme for
 * every tensor; the scheme of a projection is that of its .weight.
 *
 *   FLOAT         weight, bias
 *
 *   W8A8          weight I8, input_scale, input_offset, deq_scale (F32, or I64 holding the bits of
 *                 a float), quant_bias I32; a bias is already inside quant_bias and is not added
 *                 again
 *
 *   W8A8_DYNAMIC  weight I8, weight_scale, weight_offset (zeros), bias
 *
 *   W8A8_MIX      both sets; read as dynamic unless mix_static is set
 *
 * INT8 cache ("C8"): K and V scales and offsets of a layer beside k_proj and v_proj.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "codec/json.h"
#include "quant/float_types.h"
#include "store/scheme_parts.h"

static const char where[] = "quant_model_description.json";

/* Keys that describe the file, not a tensor. Unknown keys whose value is no string are ignored. */
static const char *const metadata_keys[] = {
    "model_quant_type",
    "version",
    "group_size",
    "kv_cache_type",
    "kv_quant_type",
    "fa_quant_type",
    "indexer_quant_type",
    "reduce_quant_type",
    "metadata",
    "optional",
    "is_rot_used",
    "ascend_quant_method",
    "max_supported_tp",
    "hc_head_fn",
    "w_bit",
    "a_bit",
    "dev_type",
    "fraction",
    "act_method",
    "co_sparse",
    "anti_method",
    "disable_level",
    "do_smooth",
    "use_sigma",
    "sigma_factor",
    "is_lowbit",
    "mm_tensor",
    "w_sym",
    "open_outlier",
    "is_dynamic",
    "pdmix",
    "quantize",
    "mla_quantize",
    "moe_quantize",
    "mtp_quantize",
};

static bool is_metadata(const char *key) {
    for (size_t i = 0; i < OCT_COUNT(metadata_keys); i++)
        if (strcmp(key, metadata_keys[i]) == 0) return true;
    return false;
}

/* A "*_type" value: null, "" and absent all mean off, an empty span. */
static oct_str type_value(const oct_scheme *s, const char *key) {
    return oct_json_str(json_object_get(s->ckpt->description, key));
}

/* ---- open ------------------------------------------------------------------------------------ */

static oct_status check_types(const oct_scheme *s, bool *c8, oct_err *err) {
    static const char *const off_only[] = {"fa_quant_type", "indexer_quant_type"};
    const oct_str kv = type_value(s, "kv_cache_type"), alias = type_value(s, "kv_quant_type");
    const oct_str kind = kv.len ? kv : alias;
    for (size_t i = 0; i < OCT_COUNT(off_only); i++) {
        const oct_str v = type_value(s, off_only[i]);
        if (v.len)
            return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: %s is not supported (got \"%.64s\")",
                            where, off_only[i], v.ptr);
    }
    *c8 = oct_str_is(kind, "C8");
    if (kind.len && !*c8)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "%s: %s is not supported (got \"%.64s\", want \"C8\")", where,
                        kv.len ? "kv_cache_type" : "kv_quant_type", kind.ptr);
    return OCT_OK;
}

/* What the description calls quantised must be in the files. */
static oct_status check_entries(const oct_scheme *s, oct_err *err) {
    const char *key;
    json_t *value;
    json_object_foreach(s->ckpt->description, key, value) {
        const oct_str scheme = oct_json_str(value), name = oct_str_of(key);
        if (!scheme.ptr || is_metadata(key) || oct_str_is(scheme, "FLOAT")) continue;
        if (oct_str_ends(name, OCT_STR(".quant_type"))) continue;
        const bool counts = oct_str_ends(name, OCT_STR(".weight")) ||
                            oct_str_ends(name, OCT_STR(".kv_cache_scale")) ||
                            oct_str_ends(name, OCT_STR(".kv_cache_offset"));
        if (counts && !oct_checkpoint_find(s->ckpt, key))
            return OCT_FAIL(err, OCT_E_CORRUPT,
                            "%s: tensor %.128s is listed as %.64s but is in no file", where, key,
                            scheme.ptr);
    }
    return OCT_OK;
}

/* C8: K and V of a layer have scales together, and at least one layer has them. */
static oct_status check_kv(oct_scheme *s, oct_err *err) {
    static const char k_tail[] = ".k_proj.kv_cache_scale", v_tail[] = ".v_proj.kv_cache_scale";
    char other[OCT_SCHEME_NAME];
    for (size_t i = 0; i < s->ckpt->table.n; i++) {
        const oct_str name = s->ckpt->table.v[i].name;
        const bool is_k = oct_str_ends(name, OCT_STR(k_tail));
        if (!is_k && !oct_str_ends(name, OCT_STR(v_tail))) continue;
        s->has_kv = true;
        const int n = snprintf(other, sizeof other, "%.*s%s", (int)(name.len - (sizeof k_tail - 1)),
                               name.ptr, is_k ? v_tail : k_tail);
        if (n < 0 || n >= OCT_SCHEME_NAME || !oct_checkpoint_find(s->ckpt, other))
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %.128s is missing (%.128s is there)",
                            oct_path_base(s->ckpt->path), other, name.ptr);
    }
    if (!s->has_kv)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: kv_cache_type is C8, but no layer has k_proj.kv_cache_scale", where);
    return OCT_OK;
}

static oct_status modelslim_open(oct_scheme *s, oct_err *err) {
    bool c8 = false;
    OCT_TRY(check_types(s, &c8, err));
    OCT_TRY(check_entries(s, err));
    return c8 ? check_kv(s, err) : OCT_OK;
}

/* ---- one projection -------------------------------------------------------------------------- */

/* The int8 matrix; NULL (noted) when it is absent or misshapen. */
static const oct_tensor *need_weight(oct_scheme *s, const char *prefix,
                                     const oct_linear_source *io) {
    char name[OCT_SCHEME_NAME];
    const uint64_t shape[2] = {io->n, io->k};
    return oct_scheme_join(name, prefix, ".weight")
               ? oct_checkpoint_need_as(s->ckpt, name, OCT_DTYPE_I8, 2, shape)
               : NULL;
}

static const oct_tensor *find(const oct_scheme *s, const char *prefix, const char *tail) {
    char name[OCT_SCHEME_NAME];
    return oct_scheme_join(name, prefix, tail) ? oct_checkpoint_find(s->ckpt, name) : NULL;
}

/* Tensors of the other reading of the same projection are known, though not needed. */
static void consume_rest(oct_scheme *s, const char *prefix) {
    static const char *const tails[] = {".input_scale", ".input_offset", ".deq_scale",
                                        ".quant_bias",  ".weight_scale", ".weight_offset",
                                        ".bias"};
    for (size_t i = 0; i < OCT_COUNT(tails); i++)
        oct_checkpoint_consume(s->ckpt, find(s, prefix, tails[i]));
}

/* Symmetric weights only: an offset would have to be subtracted from every weight. */
static oct_status check_weight_offset(oct_scheme *s, oct_arena *arena, const char *prefix,
                                      uint64_t n, oct_err *err) {
    const float *offset;
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".weight_offset", n, OCT_VALUE_OFFSET, true,
                              &offset, err));
    for (uint64_t i = 0; offset && i < n; i++)
        if (offset[i] != 0)
            return oct_scheme_fail(s, find(s, prefix, ".weight_offset"), OCT_E_UNSUPPORTED, err,
                                   "index %" PRIu64 " (got %g; only symmetric weights are "
                                   "supported, want 0)",
                                   i, (double)offset[i]);
    return OCT_OK;
}

/* Bits of a float32, sign-extended to 64. */
static oct_status decode_deq_scale(const oct_scheme *s, const oct_tensor *t, uint64_t n, float *out,
                                   oct_err *err) {
    int64_t *raw = oct_alloc(s->mem, n, sizeof *raw);
    if (!raw) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", t->name.ptr);
    oct_status status = oct_checkpoint_read_raw(s->ckpt, t, raw, err);
    for (uint64_t i = 0; status == OCT_OK && i < n; i++) {
        out[i] = oct_f32_from_bits((uint32_t)(uint64_t)raw[i]);
        if (raw[i] < INT32_MIN || raw[i] > INT32_MAX)
            status = oct_scheme_fail(
                s, t, OCT_E_CORRUPT, err,
                "index %" PRIu64 " is not the bits of a float32 (got %" PRId64 ")", i, raw[i]);
        else if (!(isfinite(out[i]) && out[i] >= 0))
            status = oct_scheme_fail(
                s, t, OCT_E_CORRUPT, err,
                "index %" PRIu64 " (got %g, want a finite scale, not negative)", i, (double)out[i]);
    }
    oct_free(s->mem, raw, n, sizeof *raw);
    return status;
}

static oct_status read_deq_scale(oct_scheme *s, oct_arena *arena, const char *prefix,
                                 oct_linear_source *io, oct_err *err) {
    const oct_tensor *t = find(s, prefix, ".deq_scale");
    if (!t || t->dtype != OCT_DTYPE_I64 || !oct_tensor_has_shape(t, 1, &io->n))
        return oct_scheme_values(s, arena, prefix, ".deq_scale", io->n, OCT_VALUE_COLUMN, false,
                                 &io->col_scale, err);
    oct_checkpoint_consume(s->ckpt, t);
    float *v = oct_arena_alloc(arena, io->n, sizeof *v);
    if (!v) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", t->name.ptr);
    OCT_TRY(decode_deq_scale(s, t, io->n, v, err));
    for (uint64_t i = 0; i < io->n; i++) s->n_zero_scales += v[i] == 0;
    io->col_scale = v;
    return OCT_OK;
}

static oct_status read_quant_bias(oct_scheme *s, oct_arena *arena, const char *prefix,
                                  oct_linear_source *io, oct_err *err) {
    char name[OCT_SCHEME_NAME];
    const oct_tensor *t = oct_scheme_join(name, prefix, ".quant_bias")
                              ? oct_checkpoint_need_as(s->ckpt, name, OCT_DTYPE_I32, 1, &io->n)
                              : NULL;
    if (!t) return OCT_OK;
    int32_t *v = oct_arena_alloc(arena, io->n, sizeof *v);
    if (!v) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", name);
    io->int_bias = v;
    return oct_checkpoint_read_raw(s->ckpt, t, v, err);
}

static oct_status static_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                oct_linear_source *io, oct_err *err) {
    const float *scale, *offset;
    const oct_tensor *weight = need_weight(s, prefix, io);
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".input_scale", 1, OCT_VALUE_SCALE, false, &scale,
                              err));
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".input_offset", 1, OCT_VALUE_OFFSET, false,
                              &offset, err));
    OCT_TRY(read_deq_scale(s, arena, prefix, io, err));
    OCT_TRY(read_quant_bias(s, arena, prefix, io, err));
    OCT_TRY(check_weight_offset(s, arena, prefix, io->n, err));
    consume_rest(s, prefix);
    if (!weight || !scale || !offset || !io->col_scale || !io->int_bias) return OCT_OK;
    io->kind = OCT_LINEAR_INT8;
    io->act = OCT_ACT_STATIC_BEFORE;
    io->weight = weight;
    io->input_scale = *scale;
    io->input_offset = *offset;
    return OCT_OK;
}

static oct_status dynamic_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                 bool need_bias, oct_linear_source *io, oct_err *err) {
    const oct_tensor *weight = need_weight(s, prefix, io);
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".weight_scale", io->n, OCT_VALUE_COLUMN, false,
                              &io->col_scale, err));
    OCT_TRY(check_weight_offset(s, arena, prefix, io->n, err));
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".bias", io->n, OCT_VALUE_FINITE, !need_bias,
                              &io->bias, err));
    consume_rest(s, prefix);
    if (!weight || !io->col_scale || (need_bias && !io->bias)) return OCT_OK;
    io->kind = OCT_LINEAR_INT8;
    io->act = OCT_ACT_DYNAMIC;
    io->weight = weight;
    return OCT_OK;
}

/* A projection that the description does not name: float weights are taken as they are. */
static oct_status unlisted_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                  bool need_bias, oct_linear_source *io, oct_err *err) {
    const oct_tensor *t = find(s, prefix, ".weight");
    if (t && !oct_dtype_is_real(t->dtype))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %.128s is %s but has no scheme", where,
                        t->name.ptr, oct_dtype_name(t->dtype));
    if (t && !s->warned_unlisted) {
        oct_warn("%s: %.128s has no scheme; it and others like it are read as FLOAT", where,
                 t->name.ptr);
        s->warned_unlisted = true;
    }
    return oct_scheme_float_linear(s, arena, prefix, need_bias, io, err);
}

static oct_status by_scheme(oct_scheme *s, oct_arena *arena, const char *prefix, bool need_bias,
                            oct_linear_source *io, oct_err *err) {
    char key[OCT_SCHEME_NAME], shown[OCT_JSON_SHOWN];
    const json_t *value =
        oct_scheme_join(key, prefix, ".weight") ? json_object_get(s->ckpt->description, key) : NULL;
    const oct_str scheme = oct_json_str(value);
    if (!value) return unlisted_linear(s, arena, prefix, need_bias, io, err);
    if (oct_str_is(scheme, "FLOAT")) {
        OCT_TRY(oct_scheme_float_linear(s, arena, prefix, need_bias, io, err));
        io->label = "FLOAT";
        return OCT_OK;
    }
    const bool mix = oct_str_is(scheme, "W8A8_MIX");
    if (oct_str_is(scheme, "W8A8") || (mix && s->mix_static)) {
        io->label = mix ? "W8A8_MIX" : "W8A8";
        return static_linear(s, arena, prefix, io, err);
    }
    if (oct_str_is(scheme, "W8A8_DYNAMIC") || mix) {
        io->label = mix ? "W8A8_MIX" : "W8A8_DYNAMIC";
        return dynamic_linear(s, arena, prefix, need_bias, io, err);
    }
    return OCT_FAIL(
        err, OCT_E_UNSUPPORTED,
        "%s: %.128s: scheme is not supported (got %s, want FLOAT, W8A8, W8A8_DYNAMIC or "
        "W8A8_MIX)",
        where, key, oct_json_show(value, shown));
}

/* Smoothing that could not be folded: P.div.mul_scale multiplies the input, P.linear.* is the
 * projection. */
static oct_status modelslim_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                   bool need_bias, oct_linear_source *io, oct_err *err) {
    char inner[OCT_SCHEME_NAME];
    if (!find(s, prefix, ".div.mul_scale") || !oct_scheme_join(inner, prefix, ".linear"))
        return by_scheme(s, arena, prefix, need_bias, io, err);
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".div.mul_scale", io->k, OCT_VALUE_FINITE, false,
                              &io->input_mul, err));
    OCT_TRY(by_scheme(s, arena, inner, need_bias, io, err));
    if (!io->input_mul) io->kind = OCT_LINEAR_ABSENT;
    return OCT_OK;
}

/* ---- INT8 cache ------------------------------------------------------------------------------ */

/* One value for all channels, or one for each; *out is NULL when absent (optional) or noted. */
static oct_status channel_values(oct_scheme *s, oct_arena *arena, const char *attn,
                                 const char *tail, uint32_t n, oct_value_rule rule, bool optional,
                                 const float **out, oct_err *err) {
    const oct_tensor *t = find(s, attn, tail);
    const bool single = t && t->n_rows * t->row_elems == 1;
    OCT_TRY(oct_scheme_values(s, arena, attn, tail, single ? 1 : n, rule, optional, out, err));
    if (!single || !*out || n == 1) return OCT_OK;
    float *v = oct_arena_alloc(arena, n, sizeof *v);
    if (!v) return OCT_FAIL(err, OCT_E_NOMEM, "%s%s: no memory", attn, tail);
    for (uint32_t i = 0; i < n; i++) v[i] = **out;
    *out = v;
    return OCT_OK;
}

static const float *null_if_zero(const float *v, uint32_t n) {
    for (uint32_t i = 0; v && i < n; i++)
        if (v[i] != 0) return v;
    return NULL;
}

static oct_status modelslim_kv(oct_scheme *s, oct_arena *arena, const char *attn, uint32_t n,
                               oct_kv_source *out, oct_err *err) {
    const float *ko, *vo;
    if (!find(s, attn, ".k_proj.kv_cache_scale")) return OCT_OK; /* open checked V's */
    OCT_TRY(channel_values(s, arena, attn, ".k_proj.kv_cache_scale", n, OCT_VALUE_SCALE, false,
                           &out->k_scale, err));
    OCT_TRY(channel_values(s, arena, attn, ".v_proj.kv_cache_scale", n, OCT_VALUE_SCALE, false,
                           &out->v_scale, err));
    OCT_TRY(channel_values(s, arena, attn, ".k_proj.kv_cache_offset", n, OCT_VALUE_OFFSET, true,
                           &ko, err));
    OCT_TRY(channel_values(s, arena, attn, ".v_proj.kv_cache_offset", n, OCT_VALUE_OFFSET, true,
                           &vo, err));
    out->k_offset = null_if_zero(ko, n);
    out->v_offset = null_if_zero(vo, n);
    if (out->k_scale && out->v_scale) out->kind = out->offered = OCT_KV_KIND_I8;
    out->grain = OCT_KV_GRAIN_CHANNEL;
    return OCT_OK;
}

const oct_scheme_ops oct_scheme_modelslim = {
    .name = "ascend", .open = modelslim_open, .linear = modelslim_linear, .kv = modelslim_kv};
