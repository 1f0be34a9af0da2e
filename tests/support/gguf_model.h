/*
 * tests/support/gguf_model.h - a folder of safetensors rewritten as one GGUF file, with the names,
 * keys, types and orders of rows that llama.cpp's converter gives each family: what such files hold
 * in the wild, small.
 *
 * Include after cmocka.h and support/tiny_model.h.
 */
#ifndef OCT_TESTS_GGUF_MODEL_H
#define OCT_TESTS_GGUF_MODEL_H

#include <glob.h>

#include "quant/float_types.h"
#include "store/safetensors.h"
#include "support/gguf_bytes.h"

enum { GGUF_F32 = 0, GGUF_BF16 = 30, GGUF_MAX_TENSORS = 256 };

typedef struct gguf_tensor {
    char name[96];
    uint64_t shape[3]; /* outermost first */
    uint32_t rank, type;
    float *v; /* [n]; written as BF16 where the type says so */
    size_t n;
} gguf_tensor;

typedef struct gguf_model {
    const oct_model_config *c;
    const char *arch;
    bool pairs, plus_one, experts_joined;
    oct_buf keys;
    uint64_t n_keys;
    gguf_tensor t[GGUF_MAX_TENSORS];
    size_t n;
} gguf_model;

/* ---- names ----------------------------------------------------------------------------------- */

/* Whether norms lie behind a block, so that post_attention_layernorm is one of them. */
static inline bool gguf_post_norms(oct_family f) {
    return f == OCT_FAMILY_GEMMA2 || f == OCT_FAMILY_GEMMA3 || f == OCT_FAMILY_OLMO2;
}

static inline const char *gguf_part(oct_family f, const char *usual) {
    static const char *const map[][2] = {
        {"input_layernorm", "attn_norm"},
        {"pre_feedforward_layernorm", "ffn_norm"},
        {"post_feedforward_layernorm", "post_ffw_norm"},
        {"post_self_attn_layernorm", "post_attention_norm"},
        {"post_mlp_layernorm", "post_ffw_norm"},
        {"self_attn.q_proj", "attn_q"},
        {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"},
        {"self_attn.qkv_proj", "attn_qkv"},
        {"self_attn.o_proj", "attn_output"},
        {"self_attn.q_norm", "attn_q_norm"},
        {"self_attn.k_norm", "attn_k_norm"},
        {"mlp.gate_proj", "ffn_gate"},
        {"mlp.up_proj", "ffn_up"},
        {"mlp.gate_up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"},
        {"mlp.gate", "ffn_gate_inp"},
        {"block_sparse_moe.gate", "ffn_gate_inp"},
        {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
        {"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
        {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
        {"mlp.shared_expert.down_proj", "ffn_down_shexp"},
        {"gate_proj", "ffn_gate_exps"}, /* of an expert */
        {"up_proj", "ffn_up_exps"},
        {"down_proj", "ffn_down_exps"},
        {"w1", "ffn_gate_exps"},
        {"w3", "ffn_up_exps"},
        {"w2", "ffn_down_exps"},
    };
    if (strcmp(usual, "post_attention_layernorm") == 0)
        return gguf_post_norms(f) ? "post_attention_norm" : "ffn_norm";
    for (size_t i = 0; i < OCT_COUNT(map); i++)
        if (strcmp(usual, map[i][0]) == 0) return map[i][1];
    fail_msg("no name for %s", usual);
    return NULL;
}

/* The name in the file; *expert is -1 for all but those. */
static inline void gguf_name(oct_family f, const char *usual, char out[96], int *expert) {
    char part[96];
    unsigned layer;
    int at = 0;
    *expert = -1;
    if (strcmp(usual, "model.embed_tokens.weight") == 0)
        strcpy(out, "token_embd.weight");
    else if (strcmp(usual, "model.norm.weight") == 0)
        strcpy(out, "output_norm.weight");
    else if (strcmp(usual, "lm_head.weight") == 0)
        strcpy(out, "output.weight");
    else if (sscanf(usual, "model.layers.%u.%n", &layer, &at) != 1 || !at)
        fail_msg("no name for %s", usual);
    else if (strstr(usual, "e_score_correction_bias"))
        snprintf(out, 96, "blk.%u.exp_probs_b.bias", layer);
    else {
        const char *rest = usual + at, *experts = strstr(rest, ".experts.");
        if (experts) {
            int skip = 0;
            assert_int_equal(sscanf(experts, ".experts.%d.%n", expert, &skip), 1);
            rest = experts + skip;
        }
        snprintf(part, sizeof part, "%s", rest);
        char *dot = strrchr(part, '.');
        *dot = '\0';
        snprintf(out, 96, "blk.%u.%s.%s", layer, gguf_part(f, part), dot + 1);
    }
}

/* ---- values ---------------------------------------------------------------------------------- */

static inline float *gguf_floats(const oct_safetensors *st, const oct_tensor *t, size_t *n) {
    oct_err err = {0};
    *n = (size_t)(t->n_rows * t->row_elems);
    float *v = malloc(*n * sizeof *v);
    void *raw = malloc(t->bytes);
    need(oct_safetensors_read(st, t, raw, &err), &err);
    for (size_t i = 0; i < *n; i++) {
        if (t->dtype == OCT_DTYPE_BF16)
            v[i] = oct_bf16_to_f32(((const uint16_t *)raw)[i]);
        else if (t->dtype == OCT_DTYPE_F16)
            v[i] = oct_f16_to_f32(((const uint16_t *)raw)[i]);
        else
            v[i] = ((const float *)raw)[i];
    }
    free(raw);
    return v;
}

/* Row a * d/2 + b of each head of d rows becomes row 2b + a. */
static inline void gguf_pair_rows(gguf_tensor *t, uint32_t heads) {
    const size_t rows = t->shape[0], cols = t->n / rows, d = rows / heads;
    float *v = malloc(t->n * sizeof *v);
    for (size_t r = 0; r < rows; r++) {
        const size_t head = r / d, a = r % d / (d / 2), b = r % (d / 2);
        memcpy(v + (head * d + 2 * b + a) * cols, t->v + r * cols, cols * sizeof *v);
    }
    free(t->v);
    t->v = v;
}

static inline void gguf_take(gguf_model *m, const oct_safetensors *st, const oct_tensor *from) {
    char name[96];
    int expert;
    gguf_name(m->c->family, from->name.ptr, name, &expert);
    gguf_tensor *t = NULL;
    for (size_t i = 0; i < m->n && !t; i++)
        if (strcmp(m->t[i].name, name) == 0) t = &m->t[i];
    size_t n;
    float *v = gguf_floats(st, from, &n);
    if (!t) {
        assert_true(m->n < GGUF_MAX_TENSORS);
        t = &m->t[m->n++];
        *t = (gguf_tensor){.rank = from->rank};
        strcpy(t->name, name);
        memcpy(t->shape, from->shape, sizeof t->shape);
        if (t->rank == 2 && t->shape[0] == 1) { /* the converter squeezes */
            t->rank = 1;
            t->shape[0] = t->shape[1];
        }
        t->n = n;
        if (expert >= 0) {
            t->rank = 3;
            t->shape[2] = t->shape[1], t->shape[1] = t->shape[0], t->shape[0] = m->c->n_experts;
            t->n *= m->c->n_experts;
        }
        t->v = malloc(t->n * sizeof *t->v);
        const bool narrow = t->rank > 1 && from->dtype == OCT_DTYPE_BF16;
        t->type = narrow && !strstr(name, "ffn_gate_inp") ? GGUF_BF16 : GGUF_F32;
    }
    memcpy(t->v + (expert < 0 ? 0 : (size_t)expert * n), v, n * sizeof *v);
    free(v);
    if (m->plus_one && strstr(name, "norm.weight"))
        for (size_t i = 0; i < t->n; i++) t->v[i] += 1;
    if (m->pairs && strstr(name, ".attn_q.")) gguf_pair_rows(t, m->c->n_heads);
    if (m->pairs && strstr(name, ".attn_k.")) gguf_pair_rows(t, m->c->n_kv_heads);
}

static inline void gguf_vector(gguf_model *m, const char *name, const float *v, size_t n) {
    gguf_tensor *t = &m->t[m->n++];
    *t = (gguf_tensor){.rank = 1, .shape = {n}, .type = GGUF_F32, .n = n};
    strcpy(t->name, name);
    t->v = malloc(n * sizeof *t->v);
    memcpy(t->v, v, n * sizeof *t->v);
}

/* Gate and up of all experts in one tensor, as newer converters can write them. */
static inline void gguf_join_experts(gguf_model *m) {
    for (size_t i = 0; i < m->n; i++) {
        char *at = strstr(m->t[i].name, "ffn_gate_exps"), up[96];
        if (!at) continue;
        snprintf(up, sizeof up, "%.*sffn_up_exps.weight", (int)(at - m->t[i].name), m->t[i].name);
        size_t k = 0;
        while (strcmp(m->t[k].name, up) != 0) k++;
        gguf_tensor *g = &m->t[i], *u = &m->t[k];
        const size_t one = g->n / g->shape[0];
        float *v = malloc(2 * g->n * sizeof *v);
        for (size_t e = 0; e < g->shape[0]; e++) {
            memcpy(v + 2 * e * one, g->v + e * one, one * sizeof *v);
            memcpy(v + (2 * e + 1) * one, u->v + e * one, one * sizeof *v);
        }
        free(g->v), free(u->v);
        g->v = v;
        g->n *= 2;
        g->shape[1] *= 2;
        strcpy(at, "ffn_gate_up_exps.weight");
        *u = m->t[--m->n];
    }
}

/* ---- keys ------------------------------------------------------------------------------------ */

static inline const char *gguf_key(gguf_model *m, const char *tail) {
    static char key[96];
    snprintf(key, sizeof key, "%s.%s", m->arch, tail);
    m->n_keys++;
    return key;
}
static inline void gguf_u32(gguf_model *m, const char *tail, uint32_t v) {
    g_key_u32(&m->keys, gguf_key(m, tail), v);
}
static inline void gguf_f32(gguf_model *m, const char *tail, double v) {
    g_key_f32(&m->keys, gguf_key(m, tail), (float)v);
}
static inline void gguf_str(gguf_model *m, const char *tail, const char *v) {
    g_key_str(&m->keys, gguf_key(m, tail), v);
}

static inline void gguf_rope(gguf_model *m) {
    const oct_model_config *c = m->c;
    const oct_rope_config *r = &c->rope;
    float divisors[OCT_MAX_HEAD_DIM / 2];
    const uint32_t half = r->rotary_dim / 2;
    switch (r->type) {
    case OCT_ROPE_LINEAR:
        gguf_str(m, "rope.scaling.type", "linear");
        gguf_f32(m, "rope.scaling.factor", r->factor);
        break;
    case OCT_ROPE_YARN:
        gguf_str(m, "rope.scaling.type", "yarn");
        gguf_f32(m, "rope.scaling.factor", r->factor);
        gguf_u32(m, "rope.scaling.original_context_length", r->original_max_position);
        break;
    case OCT_ROPE_LLAMA3:
        for (uint32_t i = 0; i < half; i++) {
            const double freq = pow(r->theta, -2.0 * i / r->rotary_dim);
            const double length = 2 * 3.14159265358979323846 / freq;
            const double low = r->original_max_position / r->low_freq_factor;
            const double high = r->original_max_position / r->high_freq_factor;
            const double smooth = (r->original_max_position / length - r->low_freq_factor) /
                                  (r->high_freq_factor - r->low_freq_factor);
            divisors[i] = (float)(length < high  ? 1
                                  : length > low ? r->factor
                                                 : 1 / ((1 - smooth) / r->factor + smooth));
        }
        gguf_vector(m, "rope_freqs.weight", divisors, half);
        break;
    case OCT_ROPE_LONG:
        gguf_f32(m, "rope.scaling.attn_factor", r->attention_factor);
        gguf_vector(m, "rope_factors_long.weight", r->long_factors, half);
        gguf_vector(m, "rope_factors_short.weight", r->factors, half);
        break;
    default:
        break;
    }
}

/* What each family's converter adds to, or leaves out of, the common keys. */
static inline void gguf_own_keys(gguf_model *m) {
    const oct_model_config *c = m->c;
    switch (c->family) {
    case OCT_FAMILY_PHI3: /* writes 0 for "no window" */
        gguf_u32(m, "attention.sliding_window", c->sliding_window);
        gguf_u32(m, "rope.scaling.original_context_length",
                 c->rope.original_max_position ? c->rope.original_max_position : 4096);
        break;
    case OCT_FAMILY_GEMMA2:
        gguf_f32(m, "attn_logit_softcapping", c->attention_softcap);
        gguf_f32(m, "final_logit_softcapping", c->final_softcap);
        gguf_u32(m, "attention.sliding_window", c->sliding_window);
        break;
    case OCT_FAMILY_GEMMA3:
        gguf_u32(m, "attention.sliding_window", c->sliding_window);
        break;
    case OCT_FAMILY_GRANITE:
        gguf_f32(m, "attention.scale", c->attention_scale);
        gguf_f32(m, "embedding_scale", c->embed_scale);
        gguf_f32(m, "residual_scale", c->residual_scale);
        gguf_f32(m, "logit_scale", 1 / c->logits_scale);
        break;
    case OCT_FAMILY_MINIMAX_M2:
        gguf_u32(m, "expert_feed_forward_length", c->moe_intermediate);
        gguf_u32(m, "expert_gating_func", 2);
        break;
    case OCT_FAMILY_QWEN2_MOE:
    case OCT_FAMILY_QWEN3_MOE:
        gguf_u32(m, "expert_feed_forward_length", c->moe_intermediate);
        if (c->shared_intermediate)
            gguf_u32(m, "expert_shared_feed_forward_length", c->shared_intermediate);
        break;
    default:
        break;
    }
}

static inline void gguf_keys(gguf_model *m) {
    const oct_model_config *c = m->c;
    g_key_str(&m->keys, "general.architecture", m->arch);
    m->n_keys = 1;
    gguf_u32(m, "block_count", c->n_layers);
    gguf_u32(m, "context_length", c->max_position);
    gguf_u32(m, "embedding_length", c->hidden);
    gguf_u32(m, "feed_forward_length", c->intermediate);
    gguf_u32(m, "attention.head_count", c->n_heads);
    gguf_u32(m, "attention.head_count_kv", c->n_kv_heads);
    gguf_f32(m, "attention.layer_norm_rms_epsilon", c->rms_eps);
    if (c->family != OCT_FAMILY_GEMMA2) gguf_f32(m, "rope.freq_base", c->rope.theta);
    if (c->head_dim * c->n_heads != c->hidden) {
        gguf_u32(m, "attention.key_length", c->head_dim);
        gguf_u32(m, "attention.value_length", c->head_dim);
    }
    if (m->pairs || c->rope.rotary_dim != c->head_dim)
        gguf_u32(m, "rope.dimension_count", c->rope.rotary_dim);
    if (c->n_experts) {
        gguf_u32(m, "expert_count", c->n_experts);
        gguf_u32(m, "expert_used_count", c->n_experts_used);
    }
    gguf_own_keys(m);
    gguf_rope(m);
}

/* ---- the file -------------------------------------------------------------------------------- */

static inline void gguf_put_data(oct_buf *b, const gguf_tensor *t) {
    g_pad(b, 32);
    for (size_t i = 0; i < t->n; i++) {
        const uint16_t half = oct_f32_to_bf16(t->v[i]);
        if (t->type == GGUF_BF16)
            oct_buf_add(b, &half, sizeof half);
        else
            oct_buf_add(b, &t->v[i], sizeof t->v[i]);
    }
}

static inline void gguf_put(const gguf_model *m, const char *path) {
    oct_buf b;
    uint64_t at = 0;
    oct_buf_init(&b, oct_system_allocator(), 0);
    g_head(&b, 3, m->n, m->n_keys);
    oct_buf_add(&b, m->keys.data, m->keys.len);
    for (size_t i = 0; i < m->n; i++) {
        const gguf_tensor *t = &m->t[i];
        g_str(&b, t->name);
        g_u32(&b, t->rank);
        for (uint32_t d = t->rank; d-- > 0;) g_u64(&b, t->shape[d]);
        g_u32(&b, t->type);
        g_u64(&b, at);
        at += (t->n * (t->type == GGUF_BF16 ? 2 : 4) + 31) / 32 * 32;
    }
    for (size_t i = 0; i < m->n; i++) gguf_put_data(&b, &m->t[i]);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b.data, 1, b.len, f), b.len);
    assert_int_equal(fclose(f), 0);
    oct_buf_fini(&b);
}

/* What a test may want otherwise; tensors by their names in the file. */
typedef struct gguf_options {
    bool joined;          /* gate and up of the experts in one tensor */
    const char *left_out; /* is not written */
    const char *spoiled;  /* its last value becomes NaN */
    const char *turned;   /* rows and columns change places */
    const char *added;    /* a vector of one value under this name */
} gguf_options;

static inline void gguf_change(gguf_model *m, const gguf_options *o) {
    static const float one = 1;
    for (size_t i = 0; i < m->n; i++) {
        gguf_tensor *t = &m->t[i];
        if (o->spoiled && strcmp(t->name, o->spoiled) == 0) t->v[t->n - 1] = NAN;
        if (o->turned && strcmp(t->name, o->turned) == 0) {
            const uint64_t rows = t->shape[0];
            t->shape[0] = t->shape[1];
            t->shape[1] = rows;
        }
        if (o->left_out && strcmp(t->name, o->left_out) == 0) {
            free(t->v);
            *t = m->t[--m->n];
        }
    }
    if (o->added) gguf_vector(m, o->added, &one, 1);
}

/* The model of a folder, as configured by c, as the file `path`. */
static inline void gguf_model_write(const char *folder, const oct_model_config *c,
                                    const gguf_options *o, const char *path) {
    static const char *const archs[OCT_FAMILY_COUNT] = {
        [OCT_FAMILY_LLAMA] = "llama",        [OCT_FAMILY_MISTRAL] = "llama",
        [OCT_FAMILY_MIXTRAL] = "llama",      [OCT_FAMILY_QWEN2] = "qwen2",
        [OCT_FAMILY_QWEN3] = "qwen3",        [OCT_FAMILY_PHI3] = "phi3",
        [OCT_FAMILY_GEMMA2] = "gemma2",      [OCT_FAMILY_GEMMA3] = "gemma3",
        [OCT_FAMILY_GLM4] = "glm4",          [OCT_FAMILY_OLMO2] = "olmo2",
        [OCT_FAMILY_GRANITE] = "granite",    [OCT_FAMILY_QWEN2_MOE] = "qwen2moe",
        [OCT_FAMILY_QWEN3_MOE] = "qwen3moe", [OCT_FAMILY_MINIMAX_M2] = "minimax-m2",
    };
    static gguf_model m;
    char pattern[4096];
    glob_t shards;
    oct_err err = {0};
    m = (gguf_model){.c = c, .arch = archs[c->family]};
    m.pairs = strcmp(m.arch, "llama") == 0 || c->family == OCT_FAMILY_GRANITE;
    m.plus_one = c->family == OCT_FAMILY_GEMMA2 || c->family == OCT_FAMILY_GEMMA3;
    oct_buf_init(&m.keys, oct_system_allocator(), 0);
    snprintf(pattern, sizeof pattern, "%s/model*.safetensors", folder);
    assert_int_equal(glob(pattern, 0, NULL, &shards), 0);
    for (size_t k = 0; k < shards.gl_pathc; k++) {
        oct_safetensors *st;
        need(oct_safetensors_open(oct_system_allocator(), shards.gl_pathv[k], &st, &err), &err);
        for (size_t i = 0; i < oct_safetensors_n(st); i++)
            gguf_take(&m, st, oct_safetensors_at(st, i));
        oct_safetensors_close(st);
    }
    globfree(&shards);
    if (o->joined) gguf_join_experts(&m);
    gguf_change(&m, o);
    gguf_keys(&m);
    gguf_put(&m, path);
    for (size_t i = 0; i < m.n; i++) free(m.t[i].v);
    oct_buf_fini(&m.keys);
}

/* The model of a folder as its configuration and `overrides` (--hf-overrides; NULL: none) say. */
static inline void gguf_write_folder(const char *folder, const char *overrides,
                                     const gguf_options *o, const char *path) {
    oct_checkpoint *c;
    oct_err err = {0};
    need(oct_checkpoint_open_with(oct_system_allocator(), folder, overrides, &c, &err), &err);
    gguf_model_write(folder, oct_checkpoint_config(c), o, path);
    oct_checkpoint_close(c);
}

/* What the metadata of such a file cannot say of a golden model; NULL: nothing. */
static inline const char *gguf_overrides(const char *name) {
    if (strstr(name, "-window")) return "{\"sliding_window\":null}";
    return strstr(name, "-nonorm") ? "{\"norm_topk_prob\":true}" : NULL;
}

#endif
