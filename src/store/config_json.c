/*
 * store/config_json.c - config.json in its two spellings.
 *
 * Old files keep rope_theta beside rope_scaling; newer ones put both into rope_parameters, which
 * may even hold one object for each kind of layer. Fields that do not change the arithmetic of a
 * supported family are ignored.
 */
#include <math.h>

#include "base/log.h"
#include "codec/json.h"
#include "store/config.h"
#include "store/config_parts.h"

/* The object that is read and what messages need. */
typedef struct source {
    const json_t *top; /* the whole file */
    json_t *obj;       /* text_config where there is one, else top */
    const char *where;
    oct_err *err;
} source;

/* codec says INVALID, which is right for requests; here a file contradicts what it should be. */
static oct_status as_file(oct_status status) {
    return status == OCT_E_INVALID ? OCT_E_CORRUPT : status;
}

static oct_status get_int(const source *s, const json_t *obj, const char *key, int64_t lo,
                          int64_t hi, uint32_t *out) {
    int64_t v = *out;
    OCT_TRY(as_file(oct_json_get_i64(obj, key, s->where, lo, hi, &v, s->err)));
    *out = (uint32_t)v;
    return OCT_OK;
}

static bool is_given(const json_t *obj, const char *key) {
    const json_t *v = json_object_get(obj, key);
    return v && !json_is_null(v);
}

/* A size that must be there, 1..hi. */
static oct_status need_size(const source *s, const char *key, int64_t hi, uint32_t *out) {
    if (!is_given(s->obj, key))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s is missing", s->where, key);
    return get_int(s, s->obj, key, 1, hi, out);
}

/* A factor: finite, above 0, at most 10^9. */
static oct_status get_factor(const source *s, const json_t *obj, const char *key, double *out) {
    return as_file(oct_json_get_f64(obj, key, s->where, 1e-30, 1e9, out, s->err));
}

static oct_status get_bool(const source *s, const char *key, bool *out) {
    return as_file(oct_json_get_bool(s->obj, key, s->where, out, s->err));
}

/* ---- family ---------------------------------------------------------------------------------- */

static oct_status find_family(const source *s, const oct_family_row **out) {
    const oct_str arch = oct_json_str(json_array_get(json_object_get(s->top, "architectures"), 0));
    const oct_str type = oct_json_str(json_object_get(s->obj, "model_type"));
    *out = oct_family_find(arch, type);
    if (!*out && s->obj != s->top) *out = oct_family_find((oct_str){0}, type);
    if (!*out) return oct_family_unknown(s->where, arch.len ? arch : type, s->err);
    if (is_given(s->top, "auto_map") || is_given(s->obj, "auto_map"))
        oct_warn("%s: auto_map is ignored: no code from a model folder is run", s->where);
    return OCT_OK;
}

static oct_status check_act(const source *s) {
    oct_str act = OCT_STR("silu");
    OCT_TRY(as_file(oct_json_get_str(s->obj, "hidden_act", s->where, &act, s->err)));
    if (oct_str_is(act, "silu") || oct_str_is(act, "swish")) return OCT_OK;
    return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                    "%s: hidden_act is not supported (got \"%.*s\", want \"silu\")", s->where,
                    (int)(act.len < 64 ? act.len : 64), act.ptr);
}

static oct_status read_sizes(const source *s, oct_model_config *c) {
    OCT_TRY(need_size(s, "num_hidden_layers", OCT_MAX_LAYERS, &c->n_layers));
    OCT_TRY(need_size(s, "hidden_size", OCT_MAX_WIDTH, &c->hidden));
    OCT_TRY(need_size(s, "intermediate_size", OCT_MAX_WIDTH, &c->intermediate));
    OCT_TRY(need_size(s, "num_attention_heads", OCT_MAX_HEADS, &c->n_heads));
    OCT_TRY(need_size(s, "vocab_size", OCT_MAX_VOCAB, &c->vocab));
    c->n_kv_heads = c->n_heads;
    OCT_TRY(get_int(s, s->obj, "num_key_value_heads", 1, OCT_MAX_HEADS, &c->n_kv_heads));
    if (!is_given(s->obj, "head_dim") && c->hidden % c->n_heads != 0)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: hidden_size is not a multiple of num_attention_heads (got %u and %u)",
                        s->where, c->hidden, c->n_heads);
    c->head_dim = c->hidden / c->n_heads;
    OCT_TRY(get_int(s, s->obj, "head_dim", 1, OCT_MAX_HEAD_DIM, &c->head_dim));
    if (c->head_dim < 1 || c->head_dim > OCT_MAX_HEAD_DIM)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: hidden_size / num_attention_heads is %u (want 1 to %d)", s->where,
                        c->head_dim, OCT_MAX_HEAD_DIM);
    c->max_position = 2048;
    OCT_TRY(get_int(s, s->obj, "max_position_embeddings", 1, OCT_MAX_POSITIONS, &c->max_position));
    c->rms_eps = 1e-6;
    return as_file(
        oct_json_get_f64(s->obj, "rms_norm_eps", s->where, 1e-30, 1, &c->rms_eps, s->err));
}

static oct_status read_flags(const source *s, const oct_family_row *row, oct_model_config *c) {
    bool attention_bias = false;
    OCT_TRY(get_bool(s, "tie_word_embeddings", &c->tie_word_embeddings));
    if (!row->always_qkv_bias) OCT_TRY(get_bool(s, "attention_bias", &attention_bias));
    c->qkv_bias = row->always_qkv_bias || attention_bias;
    c->o_bias = row->o_bias_follows && attention_bias;
    if (row->has_mlp_bias) OCT_TRY(get_bool(s, "mlp_bias", &c->mlp_bias));
    c->qk_norm = row->qk_norm;
    return OCT_OK;
}

/* ---- rotary embedding ------------------------------------------------------------------------ */

/* rope_parameters, else rope_scaling, else NULL; the entry of full attention when nested. */
static oct_status rope_object(const source *s, const json_t **out) {
    const char *key = is_given(s->obj, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    const json_t *v = json_object_get(s->obj, key);
    *out = NULL;
    if (!is_given(s->obj, key)) return OCT_OK;
    if (!json_is_object(v))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s is not an object", s->where, key);
    const json_t *full = json_object_get(v, "full_attention");
    const json_t *slides = json_object_get(v, "sliding_attention");
    if (json_is_object(slides) && !json_equal(full, slides))
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                        "%s: %s differ between layers, which is not supported", s->where, key);
    *out = json_is_object(full) ? full : v;
    return OCT_OK;
}

static oct_status rope_type(const source *s, const json_t *obj, oct_rope_type *out) {
    static const struct {
        const char *name;
        oct_rope_type type;
    } known[] = {{"default", OCT_ROPE_DEFAULT},
                 {"linear", OCT_ROPE_LINEAR},
                 {"llama3", OCT_ROPE_LLAMA3},
                 {"yarn", OCT_ROPE_YARN}};
    oct_str name = OCT_STR("default");
    OCT_TRY(as_file(oct_json_get_str(obj, "type", s->where, &name, s->err)));
    OCT_TRY(as_file(oct_json_get_str(obj, "rope_type", s->where, &name, s->err)));
    for (size_t i = 0; i < OCT_COUNT(known); i++)
        if (oct_str_is(name, known[i].name)) {
            *out = known[i].type;
            return OCT_OK;
        }
    return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                    "%s: rope_type is not supported (got \"%.*s\", want default, linear, llama3 or "
                    "yarn)",
                    s->where, (int)(name.len < 64 ? name.len : 64), name.ptr);
}

static oct_status need_factor(const source *s, const json_t *obj, const char *key, double *out) {
    if (!is_given(obj, key))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: rope %s is missing", s->where, key);
    return get_factor(s, obj, key, out);
}

static oct_status read_yarn(const source *s, const json_t *obj, oct_rope_config *r) {
    double mscale = 0, mscale_all = 0;
    r->beta_fast = 32;
    r->beta_slow = 1;
    r->truncate = true;
    OCT_TRY(get_factor(s, obj, "beta_fast", &r->beta_fast));
    OCT_TRY(get_factor(s, obj, "beta_slow", &r->beta_slow));
    OCT_TRY(as_file(oct_json_get_bool(obj, "truncate", s->where, &r->truncate, s->err)));
    OCT_TRY(as_file(oct_json_get_f64(obj, "mscale", s->where, 0, 1e9, &mscale, s->err)));
    OCT_TRY(
        as_file(oct_json_get_f64(obj, "mscale_all_dim", s->where, 0, 1e9, &mscale_all, s->err)));
    if (mscale != 0 && mscale_all != 0)
        r->attention_factor =
            oct_yarn_mscale(r->factor, mscale) / oct_yarn_mscale(r->factor, mscale_all);
    else
        r->attention_factor = oct_yarn_mscale(r->factor, 1);
    return get_factor(s, obj, "attention_factor", &r->attention_factor);
}

static oct_status read_scaling(const source *s, const json_t *obj, oct_model_config *c) {
    oct_rope_config *r = &c->rope;
    if (r->type == OCT_ROPE_DEFAULT) return OCT_OK;
    OCT_TRY(need_factor(s, obj, "factor", &r->factor));
    if (r->type == OCT_ROPE_LINEAR) return OCT_OK;
    r->original_max_position = c->max_position;
    OCT_TRY(get_int(s, s->obj, "original_max_position_embeddings", 1, OCT_MAX_POSITIONS,
                    &r->original_max_position));
    OCT_TRY(get_int(s, obj, "original_max_position_embeddings", 1, OCT_MAX_POSITIONS,
                    &r->original_max_position));
    if (r->type == OCT_ROPE_YARN) {
        OCT_TRY(read_yarn(s, obj, r));
        const double reach = r->factor * r->original_max_position;
        if (reach > c->max_position && reach <= OCT_MAX_POSITIONS)
            c->max_position = (uint32_t)reach;
        return OCT_OK;
    }
    OCT_TRY(need_factor(s, obj, "low_freq_factor", &r->low_freq_factor));
    return need_factor(s, obj, "high_freq_factor", &r->high_freq_factor);
}

static oct_status read_rope(const source *s, const oct_family_row *row, oct_model_config *c) {
    oct_rope_config *r = &c->rope;
    const json_t *obj;
    json_t *none = NULL;
    double partial = 1;
    r->theta = row->default_theta;
    r->attention_factor = 1;
    OCT_TRY(rope_object(s, &obj));
    if (!obj) obj = none = json_object();
    if (!obj) return OCT_FAIL(s->err, OCT_E_NOMEM, "%s: no memory", s->where);
    oct_status status = get_factor(s, s->obj, "rope_theta", &r->theta);
    if (status == OCT_OK) status = get_factor(s, obj, "rope_theta", &r->theta);
    if (status == OCT_OK) status = get_factor(s, s->obj, "partial_rotary_factor", &partial);
    if (status == OCT_OK) status = get_factor(s, obj, "partial_rotary_factor", &partial);
    if (status == OCT_OK && partial > 1)
        status = OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: partial_rotary_factor is above 1 (got %g)",
                          s->where, partial);
    r->rotary_dim = (uint32_t)(c->head_dim * (partial > 1 ? 1 : partial));
    if (status == OCT_OK)
        status = get_int(s, s->obj, "rotary_dim", 1, OCT_MAX_HEAD_DIM, &r->rotary_dim);
    if (status == OCT_OK) status = rope_type(s, obj, &r->type);
    if (status == OCT_OK) status = read_scaling(s, obj, c);
    json_decref(none);
    return status;
}

/* ---- windows and ids ------------------------------------------------------------------------- */

static oct_status read_layer_types(const source *s, const json_t *types, oct_model_config *c) {
    if (!json_is_array(types) || json_array_size(types) != c->n_layers)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: layer_types must have num_hidden_layers entries (got %zu, want %u)",
                        s->where, json_array_size(types), c->n_layers);
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const json_t *v = json_array_get(types, i);
        char shown[OCT_JSON_SHOWN];
        c->layer_slides[i] = oct_str_is(oct_json_str(v), "sliding_attention");
        if (!c->layer_slides[i] && !oct_str_is(oct_json_str(v), "full_attention"))
            return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                            "%s: layer_types[%u] is not supported (got %s, want "
                            "\"full_attention\" or \"sliding_attention\")",
                            s->where, i, oct_json_show(v, shown));
    }
    return OCT_OK;
}

static oct_status read_window(const source *s, const oct_family_row *row, oct_model_config *c) {
    bool use = false;
    uint32_t window = 0, from = 0;
    if (!row->has_window) return OCT_OK;
    OCT_TRY(get_bool(s, "use_sliding_window", &use));
    OCT_TRY(get_int(s, s->obj, "sliding_window", 0, OCT_MAX_POSITIONS, &window));
    OCT_TRY(get_int(s, s->obj, "max_window_layers", 0, 1 << 20, &from));
    const json_t *types = json_object_get(s->obj, "layer_types");
    if (is_given(s->obj, "layer_types")) {
        OCT_TRY(read_layer_types(s, types, c));
    } else {
        for (uint32_t i = 0; i < c->n_layers; i++) c->layer_slides[i] = i >= from;
    }
    if (!use || window == 0) {
        memset(c->layer_slides, 0, sizeof c->layer_slides);
        return OCT_OK;
    }
    c->sliding_window = window;
    return OCT_OK;
}

/* An id, or null: *out is then left alone. */
static oct_status read_id(const source *s, const char *key, const json_t *v, int32_t *out) {
    char shown[OCT_JSON_SHOWN];
    if (json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= INT32_MAX) {
        *out = (int32_t)json_integer_value(v);
        return OCT_OK;
    }
    return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s must be a token id (got %s)", s->where, key,
                    oct_json_show(v, shown));
}

static oct_status read_ids(const source *s, oct_model_config *c) {
    const json_t *from = is_given(s->obj, "eos_token_id") ? s->obj : s->top;
    const json_t *bos =
        json_object_get(is_given(s->obj, "bos_token_id") ? s->obj : s->top, "bos_token_id");
    const json_t *eos = json_object_get(from, "eos_token_id");
    c->bos_id = -1;
    if (bos && !json_is_null(bos)) OCT_TRY(read_id(s, "bos_token_id", bos, &c->bos_id));
    if (!eos || json_is_null(eos)) return OCT_OK;
    if (!json_is_array(eos)) {
        c->n_eos = 1;
        return read_id(s, "eos_token_id", eos, &c->eos_ids[0]);
    }
    const size_t n = json_array_size(eos);
    if (n > OCT_MAX_EOS)
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: eos_token_id has %zu entries (want at most %d)",
                        s->where, n, OCT_MAX_EOS);
    for (size_t i = 0; i < n; i++)
        OCT_TRY(read_id(s, "eos_token_id", json_array_get(eos, i), &c->eos_ids[i]));
    c->n_eos = (uint32_t)n;
    return OCT_OK;
}

static oct_status keep_quantization(const source *s, oct_model_config *c) {
    const json_t *from = is_given(s->top, "quantization_config") ? s->top : s->obj;
    json_t *q = json_object_get(from, "quantization_config");
    if (!q || json_is_null(q)) return OCT_OK;
    if (!json_is_object(q))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: quantization_config is not an object",
                        s->where);
    c->quantization_config = json_incref(q);
    return OCT_OK;
}

static oct_status read_all(const source *s, oct_model_config *c) {
    const oct_family_row *row;
    OCT_TRY(find_family(s, &row));
    c->family = row->family;
    OCT_TRY(check_act(s));
    OCT_TRY(read_sizes(s, c));
    OCT_TRY(read_flags(s, row, c));
    OCT_TRY(read_rope(s, row, c));
    OCT_TRY(read_window(s, row, c));
    OCT_TRY(read_ids(s, c));
    OCT_TRY(oct_model_config_check(c, s->where, s->err));
    return keep_quantization(s, c);
}

oct_status oct_model_config_parse(oct_str text, const char *where, oct_model_config *out,
                                  oct_err *err) {
    json_t *top = NULL;
    memset(out, 0, sizeof *out);
    OCT_TRY(as_file(oct_json_parse(text, where, &oct_json_file_limits, &top, err)));
    oct_status status;
    if (!json_is_object(top)) {
        status = OCT_FAIL(err, OCT_E_CORRUPT, "%s: not a JSON object", where);
    } else {
        json_t *text_config = json_object_get(top, "text_config");
        const source s = {.top = top,
                          .obj = json_is_object(text_config) ? text_config : top,
                          .where = where,
                          .err = err};
        status = read_all(&s, out);
    }
    json_decref(top);
    if (status != OCT_OK) oct_model_config_fini(out);
    return status;
}
