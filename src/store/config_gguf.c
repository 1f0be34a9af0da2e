/*
 * store/config_gguf.c - hyperparameters from GGUF metadata. Keys begin with the architecture's
 * name; what a key does not say (tied head, biases, rotary factors) is read off the tensor table.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "store/config.h"
#include "store/config_parts.h"

typedef struct source {
    const oct_gguf *g;
    const char *where;
    const oct_family_row *row;
    oct_err *err;
    char key[128]; /* the last one that was looked up */
} source;

static const char *key_of(source *s, const char *tail) {
    snprintf(s->key, sizeof s->key, "%s.%s", s->row->gguf, tail);
    return s->key;
}

enum { SHOWN = 64 };

/* The value of a key, for a message. Returns out. */
static const char *show(const source *s, const char *key, char out[SHOWN]) {
    int64_t whole;
    double number;
    oct_str text;
    bool on;
    if (oct_gguf_i64(s->g, key, &whole))
        snprintf(out, SHOWN, "%" PRId64, whole);
    else if (oct_gguf_f64(s->g, key, &number))
        snprintf(out, SHOWN, "%g", number);
    else if (oct_gguf_str(s->g, key, &text))
        snprintf(out, SHOWN, "\"%.*s\"", text.len < 32 ? (int)text.len : 32, text.ptr);
    else if (oct_gguf_bool(s->g, key, &on))
        snprintf(out, SHOWN, "%s", on ? "true" : "false");
    else
        snprintf(out, SHOWN, "an array, or beyond 64 bits");
    return out;
}

/* A whole number in 1..hi; absent leaves *out alone. */
static oct_status get_size(source *s, const char *tail, uint64_t hi, uint32_t *out) {
    uint64_t v;
    char shown[SHOWN];
    if (!oct_gguf_find(s->g, key_of(s, tail))) return OCT_OK;
    if (!oct_gguf_u64(s->g, s->key, &v) || v < 1 || v > hi)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: %s must be a whole number from 1 to %" PRIu64 " (got %s)", s->where,
                        s->key, hi, show(s, s->key, shown));
    *out = (uint32_t)v;
    return OCT_OK;
}

static oct_status need_size(source *s, const char *tail, uint64_t hi, uint32_t *out) {
    if (!oct_gguf_find(s->g, key_of(s, tail)))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s is missing", s->where, s->key);
    return get_size(s, tail, hi, out);
}

static oct_status get_factor(source *s, const char *tail, double *out) {
    double v;
    char shown[SHOWN];
    if (!oct_gguf_find(s->g, key_of(s, tail))) return OCT_OK;
    if (!oct_gguf_f64(s->g, s->key, &v) || !(v >= 1e-30 && v <= 1e9))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s must be a number from 1e-30 to 1e9 (got %s)",
                        s->where, s->key, show(s, s->key, shown));
    *out = v;
    return OCT_OK;
}

static bool has_tensor(const source *s, const char *name) {
    return oct_gguf_tensor(s->g, oct_str_of(name)) != NULL;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Rows of the embedding where there is one; a file that holds only a vocabulary has none. */
static oct_status read_vocab(source *s, oct_model_config *c) {
    uint64_t n_tokens;
    oct_gguf_str_array(s->g, "tokenizer.ggml.tokens", &n_tokens);
    const oct_tensor *t = oct_gguf_tensor(s->g, OCT_STR("token_embd.weight"));
    const uint64_t rows = t && t->rank == 2 ? t->shape[0] : n_tokens;
    if (!t && rows == 0)
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: token_embd.weight is missing", s->where);
    if (rows < 1 || rows > OCT_MAX_VOCAB)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: vocabulary of %" PRIu64 " tokens (want 1 to %d)", s->where, rows,
                        OCT_MAX_VOCAB);
    if (n_tokens > rows)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: tokenizer.ggml.tokens has more entries than token_embd.weight has "
                        "rows (got %" PRIu64 " and %" PRIu64 ")",
                        s->where, n_tokens, rows);
    c->vocab = (uint32_t)rows;
    return OCT_OK;
}

/* Blocks that predict further tokens are counted among the others. */
static oct_status refuse_further_blocks(source *s) {
    uint64_t n;
    if (!oct_gguf_u64(s->g, key_of(s, "nextn_predict_layers"), &n) || n == 0) return OCT_OK;
    return OCT_FAIL(s->err, OCT_E_UNSUPPORTED, "%s: %s is not supported (got %" PRIu64 ", want 0)",
                    s->where, s->key, n);
}

static oct_status read_sizes(source *s, oct_model_config *c) {
    uint32_t value_dim;
    OCT_TRY(refuse_further_blocks(s));
    OCT_TRY(need_size(s, "block_count", OCT_MAX_LAYERS, &c->n_layers));
    OCT_TRY(need_size(s, "embedding_length", OCT_MAX_WIDTH, &c->hidden));
    OCT_TRY(need_size(s, "feed_forward_length", OCT_MAX_WIDTH, &c->intermediate));
    OCT_TRY(need_size(s, "attention.head_count", OCT_MAX_HEADS, &c->n_heads));
    OCT_TRY(need_size(s, "context_length", OCT_MAX_POSITIONS, &c->max_position));
    c->n_kv_heads = c->n_heads;
    OCT_TRY(get_size(s, "attention.head_count_kv", OCT_MAX_HEADS, &c->n_kv_heads));
    if (!oct_gguf_find(s->g, key_of(s, "attention.key_length")) && c->hidden % c->n_heads != 0)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: embedding_length is not a multiple of attention.head_count (got %u "
                        "and %u)",
                        s->where, c->hidden, c->n_heads);
    c->head_dim = c->hidden / c->n_heads;
    OCT_TRY(get_size(s, "attention.key_length", OCT_MAX_HEAD_DIM, &c->head_dim));
    value_dim = c->head_dim;
    OCT_TRY(get_size(s, "attention.value_length", OCT_MAX_HEAD_DIM, &value_dim));
    if (c->head_dim > OCT_MAX_HEAD_DIM || value_dim != c->head_dim)
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                        "%s: heads of %u keys and %u values (want equal, 1 to %d)", s->where,
                        c->head_dim, value_dim, OCT_MAX_HEAD_DIM);
    c->rms_eps = s->row->default_eps != 0 ? s->row->default_eps : 1e-6;
    OCT_TRY(get_factor(s, "attention.layer_norm_rms_epsilon", &c->rms_eps));
    return read_vocab(s, c);
}

static void read_flags(const source *s, oct_model_config *c) {
    c->tie_word_embeddings = !has_tensor(s, "output.weight");
    c->qkv_bias = s->row->always_qkv_bias || has_tensor(s, "blk.0.attn_q.bias");
    c->o_bias = has_tensor(s, "blk.0.attn_output.bias");
    c->mlp_bias = has_tensor(s, "blk.0.ffn_gate.bias");
    c->qk_norm = s->row->qk_norm;
}

/* ---- factors, caps, windows, experts --------------------------------------------------------- */

/* What a query is divided by the root of: its head's size, but for the largest model of each of
 * two families, which GGUF tells only by its number of layers. */
static double query_scalar(const source *s, const oct_model_config *c) {
    const bool by_hidden = (s->row->family == OCT_FAMILY_GEMMA2 && c->n_layers == 46) ||
                           (s->row->family == OCT_FAMILY_GEMMA3 && c->n_layers == 62);
    return by_hidden ? (double)c->hidden / c->n_heads : (double)c->head_dim;
}

static oct_status read_scales(source *s, oct_model_config *c) {
    double logits = 1;
    c->attention_scale = 1 / sqrt(query_scalar(s, c));
    if (s->row->embed_sqrt) c->embed_scale = sqrt((double)c->hidden);
    if (s->row->has_softcaps) {
        c->attention_softcap = s->row->softcaps[0];
        c->final_softcap = s->row->softcaps[1];
        OCT_TRY(get_factor(s, "attn_logit_softcapping", &c->attention_softcap));
        OCT_TRY(get_factor(s, "final_logit_softcapping", &c->final_softcap));
    }
    if (!s->row->has_multipliers) return OCT_OK;
    OCT_TRY(get_factor(s, "embedding_scale", &c->embed_scale));
    OCT_TRY(get_factor(s, "attention.scale", &c->attention_scale));
    OCT_TRY(get_factor(s, "residual_scale", &c->residual_scale));
    OCT_TRY(get_factor(s, "logit_scale", &logits));
    c->logits_scale = 1 / logits;
    return OCT_OK;
}

/* The window itself; 0 is how writers say that there is none. */
static oct_status read_window_size(source *s, uint32_t *out) {
    uint64_t v;
    if (oct_gguf_u64(s->g, key_of(s, "attention.sliding_window"), &v) && v == 0) return OCT_OK;
    return get_size(s, "attention.sliding_window", OCT_MAX_POSITIONS, out);
}

/* attention.sliding_window_pattern: each n-th layer has no window, or a flag for each layer. */
static oct_status read_pattern(source *s, oct_model_config *c) {
    const oct_gguf_value *v = oct_gguf_find(s->g, key_of(s, "attention.sliding_window_pattern"));
    uint32_t period = 6;
    if (!v || !v->is_array) {
        OCT_TRY(get_size(s, "attention.sliding_window_pattern", OCT_MAX_LAYERS, &period));
        oct_config_apply_window(s->row, 0, period, c);
        return OCT_OK;
    }
    if (v->n != c->n_layers)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: %s must have a value for each layer (got %" PRIu64 ", want %u)",
                        s->where, s->key, v->n, c->n_layers);
    for (uint32_t l = 0; l < c->n_layers; l++) {
        int64_t slides;
        if (!oct_gguf_value_i64(v, l, &slides) || slides < 0 || slides > 1)
            return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s[%u] is neither true nor false", s->where,
                            s->key, l);
        c->layer_slides[l] = slides != 0;
    }
    return OCT_OK;
}

static oct_status read_window(source *s, oct_model_config *c) {
    const oct_window_rule rule = s->row->window;
    uint32_t window = 0;
    OCT_TRY(read_window_size(s, &window));
    if (window == 0) return OCT_OK;
    /* OLMo 3 goes by the name of OLMo 2. */
    if (rule == OCT_WINDOW_NONE && s->row->family == OCT_FAMILY_OLMO2)
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                        "%s: olmo2.attention.sliding_window is not supported (got %u, want none: "
                        "OLMo 3 is no family of these)",
                        s->where, window);
    /* Qwen's files carry no window: none of the models that were converted uses one. */
    if (rule != OCT_WINDOW_ALL && rule != OCT_WINDOW_EVEN && rule != OCT_WINDOW_PATTERN)
        return OCT_OK;
    c->sliding_window = window;
    return read_pattern(s, c);
}

/* What files say of routing must be what the family does: it is not chosen by metadata. */
static oct_status read_routing(source *s, oct_model_config *c) {
    uint64_t gating;
    double scale = 1;
    bool norm;
    char shown[SHOWN];
    const uint64_t want = s->row->moe.sigmoid ? 2 : 1;
    if (oct_gguf_find(s->g, key_of(s, "expert_gating_func")) &&
        (!oct_gguf_u64(s->g, s->key, &gating) || (gating != want && gating != 0)))
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                        "%s: %s is not supported (got %s, want %" PRIu64 ")", s->where, s->key,
                        show(s, s->key, shown), want);
    if (oct_gguf_bool(s->g, key_of(s, "expert_weights_norm"), &norm)) c->norm_topk_prob = norm;
    if (oct_gguf_f64(s->g, key_of(s, "expert_weights_scale"), &scale) && scale != 1 && scale != 0)
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED, "%s: %s is not supported (got %g, want 1)",
                        s->where, s->key, scale);
    return OCT_OK;
}

static oct_status read_experts(source *s, oct_model_config *c) {
    const oct_moe_row *moe = &s->row->moe;
    uint32_t shared = 0;
    if (oct_gguf_find(s->g, key_of(s, "expert_count")) && !moe->n_experts) {
        uint64_t n = 0;
        if (oct_gguf_u64(s->g, s->key, &n) && n == 0) return OCT_OK;
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                        "%s: mixture of experts (%" PRIu64 " experts) in architecture %s is not "
                        "supported",
                        s->where, n, s->row->gguf);
    }
    if (!moe->n_experts) return OCT_OK;
    OCT_TRY(need_size(s, "expert_count", OCT_MAX_EXPERTS, &c->n_experts));
    OCT_TRY(need_size(s, "expert_used_count", OCT_MAX_EXPERTS, &c->n_experts_used));
    c->moe_intermediate = c->intermediate;
    OCT_TRY(get_size(s, "expert_feed_forward_length", OCT_MAX_WIDTH, &c->moe_intermediate));
    OCT_TRY(get_size(s, "expert_shared_feed_forward_length", OCT_MAX_WIDTH, &shared));
    c->norm_topk_prob = moe->gguf_norm;
    c->router_sigmoid = c->router_bias = moe->sigmoid;
    OCT_TRY(read_routing(s, c));
    if (moe->has_shared) {
        const oct_tensor *up = oct_gguf_tensor(s->g, OCT_STR("blk.0.ffn_up_shexp.weight"));
        if (!shared && up && up->rank == 2 && up->shape[0] <= OCT_MAX_WIDTH)
            shared = (uint32_t)up->shape[0];
        c->shared_intermediate = shared;
        c->shared_gate = shared != 0;
    }
    for (uint32_t l = 0; l < c->n_layers; l++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.ffn_gate_inp.weight", l);
        c->layer_is_moe[l] = has_tensor(s, name);
    }
    return OCT_OK;
}

/* ---- rotary embedding ------------------------------------------------------------------------ */

/* A tensor of divisors, one a pair of rotated dimensions; *there false without it. */
static oct_status read_divisors(source *s, const oct_rope_config *r, const char *name, float *out,
                                bool *there) {
    const oct_tensor *t = oct_gguf_tensor(s->g, oct_str_of(name));
    *there = t != NULL;
    if (!t) return OCT_OK;
    if (t->dtype != OCT_DTYPE_F32 || t->rank != 1 || t->shape[0] * 2 != r->rotary_dim)
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s must be F32 [%u] (got %s [%" PRIu64 "])",
                        s->where, name, r->rotary_dim / 2, oct_dtype_name(t->dtype), t->shape[0]);
    return oct_file_read(oct_gguf_file(s->g), t->offset, out, t->bytes, s->err);
}

/* rope_freqs.weight: divisors that its writer computed (Llama 3). */
static oct_status read_factors(source *s, oct_rope_config *r) {
    bool there;
    if (has_tensor(s, "rope_freqs.weight") && r->type != OCT_ROPE_DEFAULT)
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                        "%s: rope_freqs.weight together with rope.scaling.type", s->where);
    OCT_TRY(read_divisors(s, r, "rope_freqs.weight", r->factors, &there));
    if (there) r->type = OCT_ROPE_FACTORS;
    return OCT_OK;
}

/* rope_factors_short.weight and rope_factors_long.weight: longrope (Phi-3). */
static oct_status read_longrope(source *s, oct_model_config *c) {
    static const char *const names[] = {"rope_factors_short.weight", "rope_factors_long.weight"};
    oct_rope_config *r = &c->rope;
    bool has_short, has_long;
    if (!has_tensor(s, names[0]) && !has_tensor(s, names[1])) return OCT_OK;
    if (r->type != OCT_ROPE_DEFAULT)
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED, "%s: %s together with other scaling", s->where,
                        names[0]);
    OCT_TRY(read_divisors(s, r, names[0], r->factors, &has_short));
    OCT_TRY(read_divisors(s, r, names[1], r->long_factors, &has_long));
    if (!has_short || !has_long)
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s is missing", s->where,
                        has_short ? names[1] : names[0]);
    r->type = OCT_ROPE_LONG;
    r->original_max_position = c->max_position;
    OCT_TRY(get_size(s, "rope.scaling.original_context_length", OCT_MAX_POSITIONS,
                     &r->original_max_position));
    r->attention_factor = oct_longrope_mscale((double)c->max_position / r->original_max_position,
                                              r->original_max_position);
    return get_factor(s, "rope.scaling.attn_factor", &r->attention_factor);
}

static oct_status read_yarn(source *s, oct_model_config *c) {
    oct_rope_config *r = &c->rope;
    double attn = 1, yarn_attn = 1;
    r->type = OCT_ROPE_YARN;
    r->truncate = true;
    r->beta_fast = 32;
    r->beta_slow = 1;
    OCT_TRY(get_factor(s, "rope.scaling.yarn_beta_fast", &r->beta_fast));
    OCT_TRY(get_factor(s, "rope.scaling.yarn_beta_slow", &r->beta_slow));
    OCT_TRY(get_factor(s, "rope.scaling.attn_factor", &attn));
    OCT_TRY(get_factor(s, "rope.scaling.yarn_attn_factor", &yarn_attn));
    r->attention_factor = attn * yarn_attn * oct_yarn_mscale(r->factor, 1);
    r->original_max_position = c->max_position;
    return get_size(s, "rope.scaling.original_context_length", OCT_MAX_POSITIONS,
                    &r->original_max_position);
}

static oct_status read_scaling(source *s, oct_model_config *c) {
    oct_rope_config *r = &c->rope;
    oct_str type = OCT_STR("none");
    r->factor = 1;
    oct_gguf_str(s->g, key_of(s, "rope.scaling.type"), &type);
    OCT_TRY(get_factor(s, "rope.scale_linear", &r->factor)); /* the older spelling of linear */
    const bool old_linear = r->factor != 1;
    OCT_TRY(get_factor(s, "rope.scaling.factor", &r->factor));
    if (oct_str_is(type, "yarn")) return read_yarn(s, c);
    if (oct_str_is(type, "linear") || (oct_str_is(type, "none") && old_linear)) {
        r->type = OCT_ROPE_LINEAR;
        return OCT_OK;
    }
    r->factor = 0;
    const bool has_long = has_tensor(s, "rope_factors_long.weight");
    if (oct_str_is(type, "none") || type.len == 0) return OCT_OK;
    if (oct_str_is(type, "longrope") && has_long) return OCT_OK; /* read_longrope */
    return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                    "%s: %s.rope.scaling.type is not supported (got \"%.64s\", want none, linear, "
                    "yarn, or longrope with its tensors)",
                    s->where, s->row->gguf, type.ptr);
}

static oct_status read_rope(source *s, oct_model_config *c) {
    oct_rope_config *r = &c->rope;
    r->theta = s->row->default_theta;
    r->attention_factor = 1;
    r->rotary_dim = c->head_dim;
    OCT_TRY(get_factor(s, "rope.freq_base", &r->theta));
    OCT_TRY(get_size(s, "rope.dimension_count", OCT_MAX_HEAD_DIM, &r->rotary_dim));
    OCT_TRY(read_scaling(s, c));
    OCT_TRY(read_factors(s, r));
    OCT_TRY(read_longrope(s, c));
    if (s->row->local_theta == 0) return OCT_OK;
    c->has_local_rope = true;
    c->local_rope = (oct_rope_config){
        .rotary_dim = r->rotary_dim, .theta = s->row->local_theta, .attention_factor = 1};
    return get_factor(s, "rope.freq_base_swa", &c->local_rope.theta);
}

/* ---- ids ------------------------------------------------------------------------------------- */

static oct_status get_id(source *s, const char *key, int32_t *out) {
    uint64_t v;
    char shown[SHOWN];
    if (!oct_gguf_find(s->g, key)) return OCT_OK;
    if (!oct_gguf_u64(s->g, key, &v) || v > INT32_MAX)
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s must be a token id (got %s)", s->where, key,
                        show(s, key, shown));
    *out = (int32_t)v;
    return OCT_OK;
}

static oct_status read_ids(source *s, oct_model_config *c) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    c->bos_id = -1;
    OCT_TRY(get_id(s, "tokenizer.ggml.bos_token_id", &c->bos_id));
    for (size_t i = 0; i < OCT_COUNT(keys); i++) {
        int32_t id = -1;
        bool known = false;
        OCT_TRY(get_id(s, keys[i], &id));
        for (uint32_t k = 0; k < c->n_eos; k++) known |= c->eos_ids[k] == id;
        if (id >= 0 && !known) c->eos_ids[c->n_eos++] = id;
    }
    return OCT_OK;
}

oct_status oct_model_config_from_gguf(const oct_gguf *g, oct_model_config *out, oct_err *err) {
    source s = {.g = g, .where = oct_path_base(oct_gguf_file(g)->path), .err = err};
    oct_str arch = {0};
    oct_model_config_init(out);
    oct_gguf_str(g, "general.architecture", &arch);
    uint64_t n_experts = 0;
    s.row = oct_family_find_gguf(arch, false);
    if (s.row && oct_gguf_u64(g, key_of(&s, "expert_count"), &n_experts) && n_experts)
        s.row = oct_family_find_gguf(arch, true);
    if (!s.row) return oct_family_unknown(s.where, arch, err);
    out->family = s.row->family;
    OCT_TRY(read_sizes(&s, out));
    read_flags(&s, out);
    OCT_TRY(read_scales(&s, out));
    OCT_TRY(read_experts(&s, out));
    OCT_TRY(read_rope(&s, out));
    OCT_TRY(read_window(&s, out));
    OCT_TRY(read_ids(&s, out));
    return oct_model_config_check(out, s.where, err);
}
