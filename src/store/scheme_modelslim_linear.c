/*
 * store/scheme_modelslim_linear.c - the projections of a ModelSlim checkpoint.
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
 *   W8A16         weight I8, weight_scale, weight_offset, for each row or group of columns
 *
 *   WFP8AFP8_DYNAMIC, W8A8FP8_DYNAMIC  weight F8_E4M3, weight_scale
 *
 * Weights of eight bits may be called weight_packed instead of weight.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "codec/json.h"
#include "quant/contract.h"
#include "quant/float_types.h"
#include "store/config_parts.h"
#include "store/scheme_parts.h"

/* The int8 matrix; NULL (noted) when it is absent or misshapen. */
static const oct_tensor *need_weight(oct_scheme *s, const char *prefix,
                                     const oct_linear_source *io) {
    char name[OCT_SCHEME_NAME];
    const uint64_t shape[2] = {io->n, io->k};
    const oct_tensor *packed = oct_scheme_find(s, prefix, ".weight_packed");
    const bool is_packed = packed && !oct_scheme_find(s, prefix, ".weight");
    oct_scheme_name_of(name, prefix, is_packed ? ".weight_packed" : ".weight");
    return oct_checkpoint_need_as(s->ckpt, name, OCT_DTYPE_I8, 2, shape);
}

/* Tensors of the other reading of the same projection are known, though not needed. */
static void consume_rest(oct_scheme *s, const char *prefix) {
    static const char *const tails[] = {".input_scale", ".input_offset", ".deq_scale",
                                        ".quant_bias",  ".weight_scale", ".weight_offset",
                                        ".bias"};
    for (size_t i = 0; i < OCT_COUNT(tails); i++)
        oct_checkpoint_consume(s->ckpt, oct_scheme_find(s, prefix, tails[i]));
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
    const oct_tensor *t = oct_scheme_find(s, prefix, ".deq_scale");
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
    oct_scheme_name_of(name, prefix, ".quant_bias");
    const oct_tensor *t = oct_checkpoint_need_as(s->ckpt, name, OCT_DTYPE_I32, 1, &io->n);
    if (!t) return OCT_OK;
    int32_t *v = oct_arena_alloc(arena, io->n, sizeof *v);
    if (!v) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", name);
    io->int_bias = v;
    OCT_TRY(oct_checkpoint_read_raw(s->ckpt, t, v, err));
    const int64_t limit = oct_ibias_limit((uint32_t)io->k);
    for (uint64_t i = 0; i < io->n; i++)
        if (v[i] > limit || v[i] < -limit)
            return oct_scheme_fail(s, t, OCT_E_CORRUPT, err,
                                   "index %" PRIu64
                                   ": the sum of a row could overflow (got %d, want within "
                                   "+-%" PRId64 ")",
                                   i, (int)v[i], limit);
    return OCT_OK;
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
    OCT_TRY(oct_scheme_check_zero(s, prefix, ".weight_offset", err));
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
    OCT_TRY(oct_scheme_check_zero(s, prefix, ".weight_offset", err));
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".bias", io->n, OCT_VALUE_FINITE, !need_bias,
                              &io->bias, err));
    consume_rest(s, prefix);
    if (!weight || !io->col_scale || (need_bias && !io->bias)) return OCT_OK;
    io->kind = OCT_LINEAR_INT8;
    io->act = OCT_ACT_DYNAMIC;
    io->weight = weight;
    return OCT_OK;
}

/* (W - offset) * scale, by rows or by groups of group_size columns. */
static oct_status weight_only_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                     bool need_bias, oct_linear_source *io, oct_err *err) {
    int64_t group = 0;
    const oct_tensor *weight = need_weight(s, prefix, io);
    OCT_TRY(oct_config_as_file(oct_json_get_i64(
        s->ckpt->description, "group_size", s->ckpt->description_name, 0, 1 << 20, &group, err)));
    const uint64_t per_row = group ? (io->k + (uint64_t)group - 1) / (uint64_t)group : 1;
    const float *scale;
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".weight_scale", io->n * per_row, OCT_VALUE_COLUMN,
                              false, &scale, err));
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".weight_offset", io->n * per_row, OCT_VALUE_OFFSET,
                              true, &io->block_offset, err));
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".bias", io->n, OCT_VALUE_FINITE, !need_bias,
                              &io->bias, err));
    if (!weight || !scale || (need_bias && !io->bias)) return OCT_OK;
    if (group) {
        io->block_n = 1;
        io->block_k = (uint32_t)group;
        io->block_scale = scale;
    } else {
        io->col_scale = scale;
    }
    io->kind = OCT_LINEAR_W8A16;
    io->weight = weight;
    return OCT_OK;
}

static oct_status fp8_linear(oct_scheme *s, oct_arena *arena, const char *prefix, bool need_bias,
                             oct_linear_source *io, oct_err *err) {
    static const oct_linear_rule rule = {.kind = OCT_LINEAR_FP8,
                                         .label = "FP8",
                                         .why = "the description",
                                         .scale_tail = ".weight_scale",
                                         .grain = OCT_GRAIN_CHANNEL,
                                         .input = OCT_INPUT_TOKEN};
    OCT_TRY(oct_scheme_check_zero(s, prefix, ".weight_offset", err));
    return oct_scheme_rule_linear(s, arena, prefix, &rule, need_bias, io, err);
}

/* A projection that the description does not name: float weights are taken as they are. */
static oct_status unlisted_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                  bool need_bias, oct_linear_source *io, oct_err *err) {
    const oct_tensor *t = oct_scheme_weight(s, prefix);
    const char *where = s->ckpt->description_name;
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

/* ---- by the name of the scheme --------------------------------------------------------------- */

typedef enum slim_kind {
    SLIM_FLOAT,
    SLIM_STATIC,
    SLIM_DYNAMIC,
    SLIM_MIX,
    SLIM_W8A16,
    SLIM_FP8,
    SLIM_REFUSED
} slim_kind;

/* Every scheme that writers are known to name; why the refused ones are not read. */
static const struct {
    const char *name;
    slim_kind kind;
    const char *why;
} schemes[] = {
    {"FLOAT", SLIM_FLOAT, NULL},
    {"W8A8", SLIM_STATIC, NULL},
    {"W8A8_DYNAMIC", SLIM_DYNAMIC, NULL},
    {"W8A8_MIX", SLIM_MIX, NULL},
    {"W8A16", SLIM_W8A16, NULL},
    {"WFP8AFP8_DYNAMIC", SLIM_FP8, NULL},
    {"W8A8FP8_DYNAMIC", SLIM_FP8, NULL},
    {"C8", SLIM_REFUSED, "it is for the cache, not for a weight"},
    {"FAQuant", SLIM_REFUSED, "it is for attention, not for a weight"},
    {"FAKQuant", SLIM_REFUSED, "it is for attention, not for a weight"},
    {"W4A8_DYNAMIC", SLIM_REFUSED, "4-bit weights"},
    {"W4A16", SLIM_REFUSED, "4-bit weights"},
    {"NF4", SLIM_REFUSED, "4-bit weights"},
    {"W4A4_DYNAMIC", SLIM_REFUSED, "4-bit activations"},
    {"W4A4_FLATQUANT_DYNAMIC", SLIM_REFUSED, "4-bit activations"},
    {"W8A8_FLATQUANT_DYNAMIC", SLIM_REFUSED, "its transforms run before each projection"},
    {"W4A8_FLATQUANT_DYNAMIC", SLIM_REFUSED, "its transforms run before each projection"},
    {"W8A8S", SLIM_REFUSED, "sparse weights"},
    {"W8A8SC", SLIM_REFUSED, "compressed sparse weights"},
    {"W16A16S", SLIM_REFUSED, "sparse weights"},
    {"W16A16SC", SLIM_REFUSED, "compressed sparse weights"},
    {"W8A8_TIMESTEP", SLIM_REFUSED, "its scales change with the step of a diffusion model"},
    {"W8A8_MXFP8", SLIM_REFUSED, "MX formats"},
    {"W4A8_MXFP", SLIM_REFUSED, "MX formats"},
    {"W4A4_MXFP4", SLIM_REFUSED, "MX formats"},
    {"W4A4_MXFP4_DUALSCALE", SLIM_REFUSED, "MX formats"},
    {"W4A4_MXFP4_SVD", SLIM_REFUSED, "MX formats"},
    {"W4A4_MXFP4_FLATQUANT", SLIM_REFUSED, "MX formats"},
    {"W4A16_MXFP4", SLIM_REFUSED, "MX formats"},
    {"UNKNOWN", SLIM_REFUSED, "its writer did not know either"},
};

static oct_status refuse_scheme(const oct_scheme *s, const char *prefix, const json_t *value,
                                const char *why, oct_err *err) {
    char shown[OCT_JSON_SHOWN];
    return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                    "%s: %.128s.weight: scheme is not supported%s%s (got %s, want FLOAT, W8A8, "
                    "W8A8_DYNAMIC, W8A8_MIX, W8A16 or WFP8AFP8_DYNAMIC)",
                    s->ckpt->description_name, prefix, why ? ": " : "", why ? why : "",
                    oct_json_show(value, shown));
}

static oct_status by_scheme(oct_scheme *s, oct_arena *arena, const char *prefix, bool need_bias,
                            oct_linear_source *io, oct_err *err) {
    const json_t *value = oct_scheme_described(s, prefix);
    const oct_str scheme = oct_json_str(value);
    size_t i = 0;
    if (!value) return unlisted_linear(s, arena, prefix, need_bias, io, err);
    while (i < OCT_COUNT(schemes) && !oct_str_is(scheme, schemes[i].name)) i++;
    if (i == OCT_COUNT(schemes)) return refuse_scheme(s, prefix, value, NULL, err);
    io->label = schemes[i].name;
    switch (schemes[i].kind) {
    case SLIM_FLOAT:
        OCT_TRY(oct_scheme_float_linear(s, arena, prefix, need_bias, io, err));
        io->label = schemes[i].name;
        return OCT_OK;
    case SLIM_STATIC:
        if (strstr(prefix, ".experts."))
            return refuse_scheme(s, prefix, value, "routed experts are always dynamic", err);
        return static_linear(s, arena, prefix, io, err);
    case SLIM_MIX:
        if (s->mix_static && !strstr(prefix, ".experts."))
            return static_linear(s, arena, prefix, io, err);
        return dynamic_linear(s, arena, prefix, need_bias, io, err);
    case SLIM_DYNAMIC:
        return dynamic_linear(s, arena, prefix, need_bias, io, err);
    case SLIM_W8A16:
        return weight_only_linear(s, arena, prefix, need_bias, io, err);
    case SLIM_FP8:
        return fp8_linear(s, arena, prefix, need_bias, io, err);
    default:
        return refuse_scheme(s, prefix, value, schemes[i].why, err);
    }
}

/* Smoothing that could not be folded: P.div.mul_scale multiplies the input, P.linear.* is the
 * projection. */
oct_status oct_scheme_modelslim_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                       bool need_bias, oct_linear_source *io, oct_err *err) {
    char inner[OCT_SCHEME_NAME];
    if (!oct_scheme_find(s, prefix, ".div.mul_scale"))
        return by_scheme(s, arena, prefix, need_bias, io, err);
    oct_scheme_name_of(inner, prefix, ".linear");
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".div.mul_scale", io->k, OCT_VALUE_FINITE, false,
                              &io->input_mul, err));
    OCT_TRY(by_scheme(s, arena, inner, need_bias, io, err));
    if (!io->input_mul) io->kind = OCT_LINEAR_ABSENT;
    return OCT_OK;
}
