/*
 * store/config_parts.h - what the two readers of hyperparameters share: the table of families and
 * the rules between fields. Internal to the room.
 */
#ifndef OCT_STORE_CONFIG_PARTS_H
#define OCT_STORE_CONFIG_PARTS_H

#include "store/config.h"

/* One row a family: how it is called and what holds for all its models. A new family is a row here,
 * a row of the model room's table, and code only where its mathematics is new. */
typedef struct oct_family_row {
    oct_family family;
    const char *name;         /* model_type of config.json and general.architecture of GGUF */
    const char *architecture; /* architectures[0] of config.json */
    double default_theta;
    bool always_qkv_bias; /* else as attention_bias says */
    bool o_bias_follows;  /* attention_bias means o_proj too */
    bool has_mlp_bias;    /* mlp_bias is read */
    bool qk_norm;
    bool has_window;       /* use_sliding_window is read */
    bool gguf_interleaved; /* GGUF keeps rows of q and k in pair order */
} oct_family_row;

extern const oct_family_row oct_families[OCT_FAMILY_COUNT];

/* By model_type or architecture; NULL when neither is known. Either may be empty. */
const oct_family_row *oct_family_find(oct_str architecture, oct_str name);

/* OCT_E_UNSUPPORTED listing the known ones. */
oct_status oct_family_unknown(const char *where, oct_str got, oct_err *err);

/* Limits and relations; after it no product of sizes overflows. */
OCT_MUST_CHECK oct_status oct_model_config_check(const oct_model_config *c, const char *where,
                                                 oct_err *err);

/* 0.1 * mscale * ln(factor) + 1, or 1 for a factor up to 1: the default attention factor of yarn.
 */
double oct_yarn_mscale(double factor, double mscale);

#endif
