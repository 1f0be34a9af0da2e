/*
 * store/config_parts.h - what the readers of hyperparameters share: the table of families and the
 * rules between fields. Internal to the room.
 */
#ifndef OCT_STORE_CONFIG_PARTS_H
#define OCT_STORE_CONFIG_PARTS_H

#include "store/config.h"

/* Which layers slide when layer_types does not say so. */
typedef enum oct_window_rule {
    OCT_WINDOW_NONE,       /* the family has no window */
    OCT_WINDOW_ALL,        /* sliding_window, if given, holds in all layers */
    OCT_WINDOW_FROM,       /* if use_sliding_window: layers from max_window_layers on */
    OCT_WINDOW_IF_USED,    /* if use_sliding_window: all layers */
    OCT_WINDOW_EVEN_BELOW, /* if use_sliding_window: even layers below max_window_layers */
    OCT_WINDOW_EVEN,       /* even layers */
    OCT_WINDOW_PATTERN,    /* all but each sliding_window_pattern-th layer */
} oct_window_rule;

/* How a family's experts are described; n_experts NULL: a dense family. */
typedef struct oct_moe_row {
    const char *n_experts;    /* keys of config.json */
    const char *intermediate; /* of one expert */
    bool has_dense_layers;    /* decoder_sparse_step and mlp_only_layers are read */
    bool has_shared;          /* shared_expert_intermediate_size is read */
    bool always_norm;         /* else as norm_topk_prob says */
    bool gguf_norm;           /* what GGUF, which does not say, means */
    bool sigmoid;             /* scoring by sigmoid, with a bias for the choice */
} oct_moe_row;

/* One row a family: how it is called and what holds for all its models. A new family is a row here,
 * a row of the model room's table, and code only where its mathematics is new. */
typedef struct oct_family_row {
    oct_family family;
    const char *name;         /* model_type of config.json; what people see */
    const char *architecture; /* architectures[0] of config.json */
    const char *gguf;         /* general.architecture */

    /* Values of keys that a file leaves out; 0: as the code says. */
    double default_theta, default_eps, default_partial;
    uint32_t default_heads, default_kv_heads, default_head_dim, default_vocab;
    uint32_t default_positions, default_window;
    bool default_tied;

    const char *act_key, *act; /* key and only value of the activation */

    bool always_qkv_bias;  /* else as attention_bias says */
    bool o_bias_follows;   /* attention_bias means o_proj too */
    bool has_mlp_bias;     /* mlp_bias is read */
    bool qk_norm;          /* unless use_qk_norm says no */
    bool norm_plus_one;    /* in config.json's files; GGUF has the sum */
    bool embed_sqrt;       /* the embedding is times sqrt(hidden) */
    bool has_query_scalar; /* query_pre_attn_scalar is read */
    bool has_softcaps;     /* attn_logit_softcapping, final_logit_softcapping */
    bool has_multipliers;  /* embedding, attention, residual, logits */
    bool pairs;            /* rotates dimensions 2i, 2i + 1 in every container */
    bool gguf_pairs;       /* GGUF keeps rows of q and k in pair order */
    double local_theta;    /* of layers that slide, where rope_local_base_freq is read; else 0 */
    double softcaps[2];    /* default attention and final cap */
    oct_window_rule window;
    oct_moe_row moe;
} oct_family_row;

extern const oct_family_row oct_families[OCT_FAMILY_COUNT];

/* By architecture, or by model_type where that is empty; NULL when neither is known. */
const oct_family_row *oct_family_find(oct_str architecture, oct_str name);
/* By GGUF's name; a mixture among the names that dense models share it with. */
const oct_family_row *oct_family_find_gguf(oct_str name, bool has_experts);

/* OCT_E_UNSUPPORTED listing the known ones. */
oct_status oct_family_unknown(const char *where, oct_str got, oct_err *err);

/* Values that mean nothing is done: factors of 1. Called before a file is read. */
void oct_model_config_init(oct_model_config *c);
/* Limits and relations; after it no product of sizes overflows. */
OCT_MUST_CHECK oct_status oct_model_config_check(const oct_model_config *c, const char *where,
                                                 oct_err *err);

/* 0.1 * mscale * ln(factor) + 1, or 1 for a factor up to 1: the default attention factor of yarn.
 */
double oct_yarn_mscale(double factor, double mscale);
/* sqrt(1 + ln(reach) / ln(original)), 1 for a reach up to 1: that of longrope, reach being the
 * longest context over the original one. */
double oct_longrope_mscale(double reach, uint32_t original);

/* ---- reading config.json --------------------------------------------------------------------- */

/* The object that is read and what messages need. */
typedef struct oct_config_source {
    const json_t *top; /* the whole file */
    json_t *obj;       /* text_config where there is one, else top */
    const char *where;
    oct_err *err;
} oct_config_source;

/* True when the key is there and not null. */
bool oct_config_given(const json_t *obj, const char *key);
/* These leave *out alone when the key is absent. A whole number in lo..hi; ... */
OCT_MUST_CHECK oct_status oct_config_int(const oct_config_source *s, const json_t *obj,
                                         const char *key, int64_t lo, int64_t hi, uint32_t *out);
/* ... a factor: finite, above 0, at most 10^9; */
OCT_MUST_CHECK oct_status oct_config_factor(const oct_config_source *s, const json_t *obj,
                                            const char *key, double *out);
OCT_MUST_CHECK oct_status oct_config_bool(const oct_config_source *s, const char *key, bool *out);
/* OCT_E_INVALID of codec, which is right for requests, as OCT_E_CORRUPT: a file contradicts what it
 * should be. */
oct_status oct_config_as_file(oct_status status);

/* config_rope.c: rotary embedding, windows. Sizes of *c are there. */
OCT_MUST_CHECK oct_status oct_config_read_rope(const oct_config_source *s,
                                               const oct_family_row *row, oct_model_config *c);
OCT_MUST_CHECK oct_status oct_config_read_window(const oct_config_source *s,
                                                 const oct_family_row *row, oct_model_config *c);
/* Layers that slide by the family's rule: pattern is sliding_window_pattern, from is
 * max_window_layers. */
void oct_config_apply_window(const oct_family_row *row, uint32_t from, uint32_t pattern,
                             oct_model_config *c);

#endif
