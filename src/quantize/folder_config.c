/*
 * quantize/folder_config.c - config.json for a model whose metadata is GGUF's: the keys of each
 * family, in the older spelling, which every reader knows.
 *
 * Llama 3's files hold the divisors of its frequencies, not what they were computed from: that is
 * found again by computing them.
 */
#include <math.h>

#include "codec/json.h"
#include "quantize/folder.h"

static void set_int(json_t **j, const char *key, uint32_t v) {
    oct_json_put(j, key, json_integer((json_int_t)v));
}
static void set_real(json_t **j, const char *key, double v) { oct_json_put(j, key, json_real(v)); }
static void set_bool(json_t **j, const char *key, bool v) { oct_json_put(j, key, json_boolean(v)); }
static void set_text(json_t **j, const char *key, const char *v) {
    oct_json_put(j, key, json_string(v));
}
/* null where 0 stands for none. */
static void set_cap(json_t **j, const char *key, double v) {
    oct_json_put(j, key, v != 0 ? json_real(v) : json_null());
}

/* ---- rotary embedding ------------------------------------------------------------------------ */

/* The published settings of Llama 3.1 and 3.2 but for the factor, which is the largest divisor. */
enum { LLAMA3_LOW = 1, LLAMA3_HIGH = 4, LLAMA3_ORIGINAL = 8192 };

static double llama3_divisor(double wave, double factor) {
    const double low = (double)LLAMA3_ORIGINAL / LLAMA3_LOW,
                 high = (double)LLAMA3_ORIGINAL / LLAMA3_HIGH;
    if (wave < high) return 1;
    if (wave > low) return factor;
    const double smooth = (LLAMA3_ORIGINAL / wave - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW);
    return 1 / ((1 - smooth) / factor + smooth);
}

/* The factor of llama3 that gives these divisors, or 0. */
static double llama3_factor(const oct_rope_config *r) {
    static const double turn = 6.283185307179586476925286766559;
    const uint32_t half = r->rotary_dim / 2;
    double factor = 1;
    for (uint32_t i = 0; i < half; i++) factor = fmax(factor, (double)r->factors[i]);
    for (uint32_t i = 0; i < half; i++) {
        const double wave = turn * pow(r->theta, 2.0 * i / r->rotary_dim);
        const double want = llama3_divisor(wave, factor), got = (double)r->factors[i];
        if (!(fabs(got - want) <= 1e-4 * want)) return 0;
    }
    return factor;
}

bool oct_folder_can_say_rope(const oct_rope_config *r) {
    return r->type != OCT_ROPE_FACTORS || llama3_factor(r) != 0;
}

static void set_llama3(json_t **j, double factor, double low, double high, uint32_t original) {
    set_text(j, "rope_type", "llama3");
    set_real(j, "factor", factor);
    set_real(j, "low_freq_factor", low);
    set_real(j, "high_freq_factor", high);
    set_int(j, "original_max_position_embeddings", original);
}

static void set_list(json_t **j, const char *key, const float *v, uint32_t n) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) oct_json_push(&list, json_real((double)v[i]));
    oct_json_put(j, key, list);
}

static json_t *rope_scaling(const oct_rope_config *r) {
    json_t *j = r->type == OCT_ROPE_DEFAULT ? json_null() : json_object();
    switch (r->type) {
    case OCT_ROPE_LINEAR:
        set_text(&j, "rope_type", "linear");
        set_real(&j, "factor", r->factor);
        break;
    case OCT_ROPE_FACTORS:
        set_llama3(&j, llama3_factor(r), LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_ORIGINAL);
        break;
    case OCT_ROPE_LLAMA3:
        set_llama3(&j, r->factor, r->low_freq_factor, r->high_freq_factor,
                   r->original_max_position);
        break;
    case OCT_ROPE_YARN:
        set_text(&j, "rope_type", "yarn");
        set_real(&j, "factor", r->factor);
        set_int(&j, "original_max_position_embeddings", r->original_max_position);
        set_real(&j, "beta_fast", r->beta_fast);
        set_real(&j, "beta_slow", r->beta_slow);
        set_real(&j, "attention_factor", r->attention_factor);
        set_bool(&j, "truncate", r->truncate);
        break;
    case OCT_ROPE_LONG: /* both names of the key are in use */
        set_text(&j, "type", "longrope");
        set_text(&j, "rope_type", "longrope");
        set_list(&j, "short_factor", r->factors, r->rotary_dim / 2);
        set_list(&j, "long_factor", r->long_factors, r->rotary_dim / 2);
        set_real(&j, "attention_factor", r->attention_factor);
        break;
    case OCT_ROPE_DYNAMIC: /* no GGUF file says so */
    case OCT_ROPE_DEFAULT:
        break;
    }
    return j;
}

/* ---- families -------------------------------------------------------------------------------- */

static void add_window(json_t **j, const oct_model_config *c, bool by_layer) {
    oct_json_put(j, "sliding_window",
                 c->sliding_window ? json_integer(c->sliding_window) : json_null());
    if (!by_layer) return;
    json_t *types = json_array();
    for (uint32_t l = 0; l < c->n_layers; l++)
        oct_json_push(&types,
                      json_string(c->layer_slides[l] ? "sliding_attention" : "full_attention"));
    oct_json_put(j, "layer_types", types);
}

static void add_gemma(json_t **j, const oct_model_config *c) {
    set_text(j, "hidden_activation", "gelu_pytorch_tanh");
    set_real(j, "query_pre_attn_scalar", 1 / (c->attention_scale * c->attention_scale));
    set_cap(j, "attn_logit_softcapping", c->attention_softcap);
    set_cap(j, "final_logit_softcapping", c->final_softcap);
    if (c->has_local_rope) set_real(j, "rope_local_base_freq", c->local_rope.theta);
    add_window(j, c, true);
}

static void add_granite(json_t **j, const oct_model_config *c) {
    set_real(j, "embedding_multiplier", c->embed_scale);
    set_real(j, "attention_multiplier", c->attention_scale);
    set_real(j, "residual_multiplier", c->residual_scale);
    set_real(j, "logits_scaling", 1 / c->logits_scale);
}

/* Mixtral and MiniMax-M2: every layer has experts. */
static void add_local_experts(json_t **j, const oct_model_config *c) {
    set_int(j, "num_local_experts", c->n_experts);
    set_int(j, "intermediate_size", c->moe_intermediate);
}

static void add_experts(json_t **j, const oct_model_config *c) {
    json_t *dense = json_array();
    for (uint32_t l = 0; l < c->n_layers; l++)
        if (!c->layer_is_moe[l]) oct_json_push(&dense, json_integer(l));
    set_int(j, "num_experts", c->n_experts);
    set_int(j, "moe_intermediate_size", c->moe_intermediate);
    set_bool(j, "norm_topk_prob", c->norm_topk_prob);
    set_int(j, "decoder_sparse_step", 1);
    oct_json_put(j, "mlp_only_layers", dense);
    if (c->shared_intermediate)
        set_int(j, "shared_expert_intermediate_size", c->shared_intermediate);
}

static void add_minimax(json_t **j, const oct_model_config *c) {
    add_local_experts(j, c);
    set_int(j, "rotary_dim", c->rope.rotary_dim);
    set_bool(j, "use_qk_norm", c->qk_norm);
    set_text(j, "qk_norm_type", "per_layer");
    set_text(j, "scoring_func", "sigmoid");
    set_bool(j, "use_routing_bias", c->router_bias);
}

static void add_family(json_t **j, const oct_model_config *c) {
    switch (c->family) {
    case OCT_FAMILY_GEMMA2:
    case OCT_FAMILY_GEMMA3:
        add_gemma(j, c);
        return;
    case OCT_FAMILY_MIXTRAL:
        add_local_experts(j, c);
        add_window(j, c, false);
        break;
    case OCT_FAMILY_MINIMAX_M2:
        add_minimax(j, c);
        break;
    case OCT_FAMILY_QWEN2_MOE:
    case OCT_FAMILY_QWEN3_MOE:
        add_experts(j, c);
        set_bool(j, "use_sliding_window", false);
        break;
    case OCT_FAMILY_QWEN2:
    case OCT_FAMILY_QWEN3:
        set_bool(j, "use_sliding_window", false);
        break;
    case OCT_FAMILY_PHI3:
        if (c->rope.type == OCT_ROPE_LONG)
            set_int(j, "original_max_position_embeddings", c->rope.original_max_position);
        add_window(j, c, false);
        break;
    case OCT_FAMILY_MISTRAL:
        add_window(j, c, false);
        break;
    case OCT_FAMILY_GRANITE:
        add_granite(j, c);
        set_bool(j, "mlp_bias", c->mlp_bias);
        break;
    case OCT_FAMILY_LLAMA:
        set_bool(j, "mlp_bias", c->mlp_bias);
        break;
    default:
        break;
    }
    set_text(j, "hidden_act", "silu");
}

json_t *oct_folder_eos(const oct_model_config *c) {
    if (c->n_eos == 1) return json_integer(c->eos_ids[0]);
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->n_eos; i++) oct_json_push(&list, json_integer(c->eos_ids[i]));
    return list;
}

json_t *oct_folder_config(const oct_model_config *c, bool own_head) {
    const bool always_bias = c->family == OCT_FAMILY_QWEN2 || c->family == OCT_FAMILY_QWEN2_MOE;
    json_t *j = json_object();
    oct_json_put(&j, "architectures", json_pack("[s]", oct_family_architecture(c->family)));
    set_text(&j, "model_type", oct_family_name(c->family));
    set_int(&j, "hidden_size", c->hidden);
    set_int(&j, "intermediate_size", c->intermediate);
    set_int(&j, "num_hidden_layers", c->n_layers);
    set_int(&j, "num_attention_heads", c->n_heads);
    set_int(&j, "num_key_value_heads", c->n_kv_heads);
    set_int(&j, "head_dim", c->head_dim);
    set_int(&j, "vocab_size", c->vocab);
    set_int(&j, "max_position_embeddings", c->max_position);
    set_real(&j, "rms_norm_eps", c->rms_eps);
    set_real(&j, "rope_theta", c->rope.theta);
    oct_json_put(&j, "rope_scaling", rope_scaling(&c->rope));
    if (c->rope.rotary_dim != c->head_dim)
        set_real(&j, "partial_rotary_factor", (double)c->rope.rotary_dim / c->head_dim);
    set_bool(&j, "tie_word_embeddings", c->tie_word_embeddings && !own_head);
    set_bool(&j, "attention_bias", c->qkv_bias && !always_bias);
    if (c->n_experts) set_int(&j, "num_experts_per_tok", c->n_experts_used);
    set_text(&j, "torch_dtype", "bfloat16");
    set_bool(&j, "use_cache", true);
    add_family(&j, c);
    if (c->bos_id >= 0) oct_json_put(&j, "bos_token_id", json_integer(c->bos_id));
    if (c->n_eos) oct_json_put(&j, "eos_token_id", oct_folder_eos(c));
    return j;
}
