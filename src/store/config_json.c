/*
 * store/config_json.c - config.json in its two spellings: sizes, flags, experts, ids. Rotary
 * embedding and windows are config_rope.c.
 *
 * Fields that do not change the arithmetic of a supported family are ignored.
 */
#include <math.h>

#include "base/log.h"
#include "codec/json.h"
#include "store/config.h"
#include "store/config_parts.h"

typedef oct_config_source source;

oct_status oct_config_as_file(oct_status status) {
    return status == OCT_E_INVALID ? OCT_E_CORRUPT : status;
}

oct_status oct_config_int(const source *s, const json_t *obj, const char *key, int64_t lo,
                          int64_t hi, uint32_t *out) {
    int64_t v = *out;
    OCT_TRY(oct_config_as_file(oct_json_get_i64(obj, key, s->where, lo, hi, &v, s->err)));
    *out = (uint32_t)v;
    return OCT_OK;
}

bool oct_config_given(const json_t *obj, const char *key) {
    const json_t *v = json_object_get(obj, key);
    return v && !json_is_null(v);
}

/* A size, 1..hi, that must be there unless *out has a default. */
static oct_status need_size(const source *s, const char *key, int64_t hi, uint32_t *out) {
    if (!*out && !oct_config_given(s->obj, key))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s is missing", s->where, key);
    return oct_config_int(s, s->obj, key, 1, hi, out);
}

oct_status oct_config_factor(const source *s, const json_t *obj, const char *key, double *out) {
    return oct_config_as_file(oct_json_get_f64(obj, key, s->where, 1e-30, 1e9, out, s->err));
}

oct_status oct_config_bool(const source *s, const char *key, bool *out) {
    return oct_config_as_file(oct_json_get_bool(s->obj, key, s->where, out, s->err));
}

/* ---- family ---------------------------------------------------------------------------------- */

static oct_status find_family(const source *s, const oct_family_row **out) {
    const oct_str arch = oct_json_str(json_array_get(json_object_get(s->top, "architectures"), 0));
    const oct_str type = oct_json_str(json_object_get(s->obj, "model_type"));
    *out = oct_family_find(arch, type);
    if (!*out && s->obj != s->top) *out = oct_family_find((oct_str){0}, type);
    if (!*out) return oct_family_unknown(s->where, arch.len ? arch : type, s->err);
    if (oct_config_given(s->top, "auto_map") || oct_config_given(s->obj, "auto_map"))
        oct_warn("%s: auto_map is ignored: no code from a model folder is run", s->where);
    return OCT_OK;
}

static oct_status check_act(const source *s, const oct_family_row *row) {
    oct_str act = oct_str_of(row->act);
    OCT_TRY(oct_config_as_file(oct_json_get_str(s->obj, row->act_key, s->where, &act, s->err)));
    if (oct_str_is(act, row->act)) return OCT_OK;
    if (oct_str_is(act, "swish") && oct_str_is(OCT_STR("silu"), row->act)) return OCT_OK;
    return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                    "%s: %s is not supported (got \"%.*s\", want \"%s\")", s->where, row->act_key,
                    (int)(act.len < 64 ? act.len : 64), act.ptr, row->act);
}

static oct_status read_sizes(const source *s, const oct_family_row *row, oct_model_config *c) {
    c->n_heads = row->default_heads;
    c->vocab = row->default_vocab;
    OCT_TRY(need_size(s, "num_hidden_layers", OCT_MAX_LAYERS, &c->n_layers));
    OCT_TRY(need_size(s, "hidden_size", OCT_MAX_WIDTH, &c->hidden));
    OCT_TRY(need_size(s, "intermediate_size", OCT_MAX_WIDTH, &c->intermediate));
    OCT_TRY(need_size(s, "num_attention_heads", OCT_MAX_HEADS, &c->n_heads));
    OCT_TRY(need_size(s, "vocab_size", OCT_MAX_VOCAB, &c->vocab));
    c->n_kv_heads = row->default_kv_heads ? row->default_kv_heads : c->n_heads;
    OCT_TRY(oct_config_int(s, s->obj, "num_key_value_heads", 1, OCT_MAX_HEADS, &c->n_kv_heads));
    const bool told = row->default_head_dim || oct_config_given(s->obj, "head_dim");
    if (!told && c->hidden % c->n_heads != 0)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: hidden_size is not a multiple of num_attention_heads (got %u and %u)",
                        s->where, c->hidden, c->n_heads);
    c->head_dim = row->default_head_dim ? row->default_head_dim : c->hidden / c->n_heads;
    OCT_TRY(oct_config_int(s, s->obj, "head_dim", 1, OCT_MAX_HEAD_DIM, &c->head_dim));
    if (c->head_dim > OCT_MAX_HEAD_DIM)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: hidden_size / num_attention_heads is %u (want 1 to %d)", s->where,
                        c->head_dim, OCT_MAX_HEAD_DIM);
    c->max_position = row->default_positions ? row->default_positions : 2048;
    OCT_TRY(oct_config_int(s, s->obj, "max_position_embeddings", 1, OCT_MAX_POSITIONS,
                           &c->max_position));
    c->rms_eps = row->default_eps != 0 ? row->default_eps : 1e-6;
    return oct_config_as_file(
        oct_json_get_f64(s->obj, "rms_norm_eps", s->where, 1e-30, 1, &c->rms_eps, s->err));
}

static oct_status read_flags(const source *s, const oct_family_row *row, oct_model_config *c) {
    bool attention_bias = false;
    c->tie_word_embeddings = row->default_tied;
    OCT_TRY(oct_config_bool(s, "tie_word_embeddings", &c->tie_word_embeddings));
    if (!row->always_qkv_bias) OCT_TRY(oct_config_bool(s, "attention_bias", &attention_bias));
    c->qkv_bias = row->always_qkv_bias || attention_bias;
    if (row->always_qkv_bias) OCT_TRY(oct_config_bool(s, "qkv_bias", &c->qkv_bias));
    c->o_bias = row->o_bias_follows && attention_bias;
    if (row->has_mlp_bias) OCT_TRY(oct_config_bool(s, "mlp_bias", &c->mlp_bias));
    c->qk_norm = row->qk_norm;
    if (row->qk_norm) OCT_TRY(oct_config_bool(s, "use_qk_norm", &c->qk_norm));
    c->norm_plus_one = row->norm_plus_one;
    return OCT_OK;
}

/* ---- factors and caps ------------------------------------------------------------------------ */

/* A cap: above 0, or null for none. */
static oct_status read_cap(const source *s, const char *key, double *out) {
    if (json_is_null(json_object_get(s->obj, key))) *out = 0;
    return oct_config_factor(s, s->obj, key, out);
}

static oct_status read_scales(const source *s, const oct_family_row *row, oct_model_config *c) {
    double query = c->head_dim, logits = 1;
    if (row->has_query_scalar)
        OCT_TRY(oct_config_factor(s, s->obj, "query_pre_attn_scalar", &query));
    c->attention_scale = 1 / sqrt(query);
    if (row->embed_sqrt) c->embed_scale = sqrt((double)c->hidden);
    if (row->has_softcaps) {
        c->attention_softcap = row->softcaps[0];
        c->final_softcap = row->softcaps[1];
        OCT_TRY(read_cap(s, "attn_logit_softcapping", &c->attention_softcap));
        OCT_TRY(read_cap(s, "final_logit_softcapping", &c->final_softcap));
    }
    if (!row->has_multipliers) return OCT_OK;
    c->attention_scale = 1;
    OCT_TRY(oct_config_factor(s, s->obj, "embedding_multiplier", &c->embed_scale));
    OCT_TRY(oct_config_factor(s, s->obj, "attention_multiplier", &c->attention_scale));
    OCT_TRY(oct_config_factor(s, s->obj, "residual_multiplier", &c->residual_scale));
    OCT_TRY(oct_config_factor(s, s->obj, "logits_scaling", &logits));
    c->logits_scale = 1 / logits;
    return OCT_OK;
}

/* ---- experts --------------------------------------------------------------------------------- */

/* Layer l has experts when (l + 1) is a multiple of decoder_sparse_step, unless listed. */
static oct_status read_sparse_layers(const source *s, oct_model_config *c) {
    const json_t *dense = json_object_get(s->obj, "mlp_only_layers");
    char shown[OCT_JSON_SHOWN];
    uint32_t step = 1;
    OCT_TRY(oct_config_int(s, s->obj, "decoder_sparse_step", 1, OCT_MAX_LAYERS, &step));
    for (uint32_t i = 0; i < c->n_layers; i++) c->layer_is_moe[i] = (i + 1) % step == 0;
    if (!oct_config_given(s->obj, "mlp_only_layers")) return OCT_OK;
    if (!json_is_array(dense))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: mlp_only_layers is not a list (got %s)",
                        s->where, oct_json_show(dense, shown));
    for (size_t i = 0; i < json_array_size(dense); i++) {
        const json_t *v = json_array_get(dense, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 ||
            json_integer_value(v) >= c->n_layers)
            return OCT_FAIL(s->err, OCT_E_CORRUPT,
                            "%s: mlp_only_layers[%zu] must be a layer (got %s, want 0 to %u)",
                            s->where, i, oct_json_show(v, shown), c->n_layers - 1);
        c->layer_is_moe[json_integer_value(v)] = 0;
    }
    return OCT_OK;
}

/* A key whose only value here is `want`; refused by name otherwise. */
static oct_status want_word(const source *s, const char *key, const char *want) {
    oct_str got = oct_str_of(want);
    OCT_TRY(oct_config_as_file(oct_json_get_str(s->obj, key, s->where, &got, s->err)));
    if (oct_str_is(got, want)) return OCT_OK;
    return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                    "%s: %s is not supported (got \"%.*s\", want \"%s\")", s->where, key,
                    (int)(got.len < 64 ? got.len : 64), got.ptr, want);
}

static oct_status read_sigmoid(const source *s, oct_model_config *c) {
    uint32_t shared = 0;
    c->router_sigmoid = c->router_bias = true;
    OCT_TRY(want_word(s, "scoring_func", "sigmoid"));
    OCT_TRY(want_word(s, "qk_norm_type", "per_layer"));
    OCT_TRY(oct_config_bool(s, "use_routing_bias", &c->router_bias));
    OCT_TRY(oct_config_factor(s, s->obj, "routed_scaling_factor", &c->routed_scaling));
    OCT_TRY(oct_config_int(s, s->obj, "shared_intermediate_size", 0, OCT_MAX_WIDTH, &shared));
    if (shared)
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                        "%s: shared_intermediate_size is not supported (got %u, want 0)", s->where,
                        shared);
    return OCT_OK;
}

static oct_status read_experts(const source *s, const oct_family_row *row, oct_model_config *c) {
    const oct_moe_row *moe = &row->moe;
    bool norm = moe->always_norm;
    if (!moe->n_experts) return OCT_OK;
    OCT_TRY(need_size(s, moe->n_experts, OCT_MAX_EXPERTS, &c->n_experts));
    OCT_TRY(need_size(s, "num_experts_per_tok", OCT_MAX_EXPERTS, &c->n_experts_used));
    OCT_TRY(need_size(s, moe->intermediate, OCT_MAX_WIDTH, &c->moe_intermediate));
    if (!moe->always_norm) OCT_TRY(oct_config_bool(s, "norm_topk_prob", &norm));
    c->norm_topk_prob = norm;
    if (moe->has_shared) {
        OCT_TRY(need_size(s, "shared_expert_intermediate_size", OCT_MAX_WIDTH,
                          &c->shared_intermediate));
        c->shared_gate = true;
    }
    if (moe->sigmoid) OCT_TRY(read_sigmoid(s, c));
    if (moe->has_dense_layers) return read_sparse_layers(s, c);
    for (uint32_t i = 0; i < c->n_layers; i++) c->layer_is_moe[i] = 1;
    return OCT_OK;
}

/* ---- ids ------------------------------------------------------------------------------------- */

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
    const json_t *from = oct_config_given(s->obj, "eos_token_id") ? s->obj : s->top;
    const json_t *bos =
        json_object_get(oct_config_given(s->obj, "bos_token_id") ? s->obj : s->top, "bos_token_id");
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
    const json_t *from = oct_config_given(s->top, "quantization_config") ? s->top : s->obj;
    json_t *q = json_object_get(from, "quantization_config");
    if (!q || json_is_null(q)) q = json_object_get(s->top, "compression_config"); /* older */
    if (!q || json_is_null(q)) return OCT_OK;
    char shown[OCT_JSON_SHOWN];
    if (!json_is_object(q))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: quantization_config is not an object (got %s)",
                        s->where, oct_json_show(q, shown));
    c->quantization_config = json_incref(q);
    return OCT_OK;
}

static oct_status read_all(const source *s, oct_model_config *c) {
    const oct_family_row *row;
    OCT_TRY(find_family(s, &row));
    c->family = row->family;
    OCT_TRY(check_act(s, row));
    OCT_TRY(read_sizes(s, row, c));
    OCT_TRY(read_flags(s, row, c));
    OCT_TRY(read_scales(s, row, c));
    OCT_TRY(read_experts(s, row, c));
    OCT_TRY(oct_config_read_rope(s, row, c));
    OCT_TRY(oct_config_read_window(s, row, c));
    OCT_TRY(read_ids(s, c));
    OCT_TRY(oct_model_config_check(c, s->where, s->err));
    return keep_quantization(s, c);
}

oct_status oct_model_config_parse(oct_str text, const char *where, oct_model_config *out,
                                  oct_err *err) {
    json_t *top = NULL;
    oct_model_config_init(out);
    OCT_TRY(oct_config_as_file(oct_json_parse(text, where, &oct_json_file_limits, &top, err)));
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

/* ---- overrides ------------------------------------------------------------------------------- */

static oct_status merge(json_t *top, json_t *with, oct_err *err) {
    static const char nested[] = "text_config";
    json_t *mine = json_object_get(top, nested), *theirs = json_object_get(with, nested);
    bool ok = true;
    if (json_is_object(mine) && json_is_object(theirs)) {
        ok = json_object_update(mine, theirs) == 0;
        json_object_del(with, nested);
    }
    ok = ok && json_object_update(top, with) == 0;
    return ok ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "config.json: no memory");
}

oct_status oct_model_config_override(oct_buf *text, const char *overrides, oct_err *err) {
    json_t *top = NULL, *with = NULL;
    oct_status st =
        oct_json_parse(oct_str_of(overrides), "--hf-overrides", &oct_json_file_limits, &with, err);
    if (st == OCT_OK && !json_is_object(with))
        st = OCT_FAIL(err, OCT_E_INVALID, "--hf-overrides: not a JSON object (got %.64s)",
                      overrides);
    if (st == OCT_OK)
        st = oct_config_as_file(
            oct_json_parse(oct_buf_view(text), "config.json", &oct_json_file_limits, &top, err));
    if (st == OCT_OK && !json_is_object(top))
        st = OCT_FAIL(err, OCT_E_CORRUPT, "config.json: not a JSON object");
    if (st == OCT_OK) st = merge(top, with, err);
    if (st == OCT_OK) {
        oct_buf_clear(text);
        oct_json_dump(text, top, 0);
        if (text->failed) st = OCT_FAIL(err, OCT_E_NOMEM, "config.json: no memory");
    }
    json_decref(top);
    json_decref(with);
    return st;
}
