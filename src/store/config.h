/*
 * store/config.h - the hyperparameters of a model as a plain struct, from config.json or from GGUF
 * metadata. Every number is inside its limit and fits the others when parse returns OCT_OK, so
 * that later arithmetic on sizes cannot overflow (bad-input CF3 to CF5).
 *
 * Both spellings of config.json are read: rope_theta/rope_scaling/torch_dtype and the newer
 * rope_parameters/dtype; a nested text_config is used where it exists.
 *
 * Elsewhere  Which tensors a family has: model/. quantization_config is kept for store/scheme.h.
 */
#ifndef OCT_STORE_CONFIG_H
#define OCT_STORE_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/status.h"
#include "store/gguf.h"

enum {
    OCT_MAX_LAYERS = 1024,
    OCT_MAX_WIDTH = 131071, /* hidden, intermediate, heads * head_dim: int8 sums stay in int32 */
    OCT_MAX_HEADS = 1024,
    OCT_MAX_HEAD_DIM = 512,
    OCT_MAX_VOCAB = 1 << 24,
    OCT_MAX_EOS = 1024,
    OCT_MAX_POSITIONS = 1 << 24,
    OCT_MAX_EXPERTS = 4096,
    OCT_MAX_EXPERTS_USED = 64,
    OCT_CONFIG_MAX_BYTES = 16 << 20,
};

typedef enum oct_family {
    OCT_FAMILY_LLAMA,
    OCT_FAMILY_QWEN2,
    OCT_FAMILY_QWEN3,
    OCT_FAMILY_MISTRAL,
    OCT_FAMILY_PHI3,
    OCT_FAMILY_GEMMA2,
    OCT_FAMILY_GEMMA3,
    OCT_FAMILY_GLM4,
    OCT_FAMILY_OLMO2,
    OCT_FAMILY_GRANITE,
    OCT_FAMILY_MIXTRAL,
    OCT_FAMILY_QWEN2_MOE,
    OCT_FAMILY_QWEN3_MOE,
    OCT_FAMILY_MINIMAX_M2,
    OCT_FAMILY_COUNT
} oct_family;

typedef enum oct_rope_type {
    OCT_ROPE_DEFAULT,
    OCT_ROPE_LINEAR,
    OCT_ROPE_LLAMA3,
    OCT_ROPE_YARN,
    OCT_ROPE_FACTORS, /* frequency i is divided by factors[i] (GGUF's rope_freqs.weight) */
    OCT_ROPE_LONG,    /* longrope: by factors[i] up to original_max_position tokens of context, by
                         long_factors[i] beyond; which is settled when a model is loaded */
    OCT_ROPE_DYNAMIC, /* dynamic NTK: a larger base for contexts beyond original_max_position;
                         settled in the same way */
} oct_rope_type;

/* Members that a type does not use are 0. */
typedef struct oct_rope_config {
    oct_rope_type type;
    uint32_t rotary_dim; /* even, 2..head_dim */
    double theta;
    double factor;                       /* linear, llama3, yarn, dynamic */
    double low_freq_factor;              /* llama3 */
    double high_freq_factor;             /* llama3 */
    uint32_t original_max_position;      /* llama3, yarn, longrope, dynamic */
    double beta_fast, beta_slow;         /* yarn */
    bool truncate;                       /* yarn: whole corner indices */
    double attention_factor;             /* multiplies cos and sin; already resolved, 1 if none */
    float factors[OCT_MAX_HEAD_DIM / 2]; /* FACTORS, LONG: [rotary_dim / 2] */
    float long_factors[OCT_MAX_HEAD_DIM / 2]; /* LONG */
} oct_rope_config;

typedef struct oct_model_config {
    oct_family family;
    uint32_t n_layers;
    uint32_t hidden;
    uint32_t intermediate;
    uint32_t n_heads; /* a multiple of n_kv_heads */
    uint32_t n_kv_heads;
    uint32_t head_dim; /* n_heads * head_dim need not equal hidden */
    uint32_t vocab;    /* rows of the embedding, padding included */
    uint32_t max_position;
    double rms_eps;
    oct_rope_config rope;
    bool tie_word_embeddings; /* only where the checkpoint has no lm_head.weight */
    bool qkv_bias;            /* q, k and v must have a bias */
    bool o_bias;              /* o too */
    bool mlp_bias;
    bool qk_norm;            /* RMSNorm of q and k; over what is the family's */
    uint32_t sliding_window; /* tokens; 0: none in any layer */
    uint8_t layer_slides[OCT_MAX_LAYERS];
    int32_t bos_id; /* -1: none */
    uint32_t n_eos;
    int32_t eos_ids[OCT_MAX_EOS];
    json_t *quantization_config; /* NULL: absent; owned */

    /* What only some families have. */
    double embed_scale;         /* factor on the embedding; 1 for most */
    double residual_scale;      /* factor on what attention and MLP add; 1 for most */
    double logits_scale;        /* factor on the logits; 1 for most */
    double attention_scale;     /* factor on q.k; always resolved */
    double attention_softcap;   /* 0: none */
    double final_softcap;       /* of the logits; 0: none */
    bool norm_plus_one;         /* a norm multiplies by 1 + the stored weight */
    bool has_local_rope;        /* layers that slide rotate by local_rope */
    oct_rope_config local_rope; /* rotary_dim as rope's */

    /* Mixture of experts; n_experts 0: a dense model, and the rest is 0. */
    uint32_t n_experts;
    uint32_t n_experts_used;      /* 1..n_experts */
    uint32_t moe_intermediate;    /* of one expert; intermediate is that of dense layers */
    uint32_t shared_intermediate; /* of the shared expert; 0: none */
    bool shared_gate;             /* its result is times the sigmoid of a gate */
    bool norm_topk_prob;          /* weights of the chosen experts are made to sum to 1 */
    bool router_sigmoid;          /* scores are sigmoids, else a softmax over all experts */
    bool router_bias;             /* a bias on the scores for the choice alone */
    double routed_scaling;        /* factor on the weights; 1 for most */
    uint8_t layer_is_moe[OCT_MAX_LAYERS];
} oct_model_config;

/* "llama", "qwen2", "mixtral": also what `inspect` prints. */
const char *oct_family_name(oct_family f);
const char *oct_family_architecture(oct_family f); /* "LlamaForCausalLM", ... */
/* Of config.json's files: rows of q and k lie in the order of rotated pairs (reading puts them
 * right), and norms store their weight less 1. */
bool oct_family_keeps_pairs(oct_family f);
bool oct_family_norm_plus_one(oct_family f);

/* text: the bytes of config.json; where: its name for messages. OCT_E_UNSUPPORTED: unknown
 * architecture, activation or rope type, listing the known ones; OCT_E_CORRUPT: a field and its
 * value. Warnings (remote code, duplicate keys) go to the log. */
OCT_MUST_CHECK oct_status oct_model_config_parse(oct_str text, const char *where,
                                                 oct_model_config *out, oct_err *err);
/* Replaces keys of the config.json in text by those of a JSON object; an object text_config goes
 * into the one that is there. OCT_E_INVALID: overrides is no JSON object. */
OCT_MUST_CHECK oct_status oct_model_config_override(oct_buf *text, const char *overrides,
                                                    oct_err *err);
OCT_MUST_CHECK oct_status oct_model_config_from_gguf(const oct_gguf *g, oct_model_config *out,
                                                     oct_err *err);
void oct_model_config_fini(oct_model_config *c); /* accepts a zeroed one */

#endif
