/*
 * store/generation_config.h - the model's own sampling defaults. What is malformed or out of range
 * is ignored field by field with a warning; the server starts all the same (bad-input CF6).
 */
#ifndef OCT_STORE_GENERATION_CONFIG_H
#define OCT_STORE_GENERATION_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "store/config.h"

/* A has_* of false: the file says nothing usable. */
typedef struct oct_generation_config {
    bool has_temperature, has_top_p, has_top_k, has_min_p, has_repetition_penalty, has_max_new;
    double temperature;        /* 0..100; 0 when the file says "do_sample": false, whatever it says
                                  of the temperature: such a model is meant to be greedy */
    double top_p;              /* (0, 1] */
    int32_t top_k;             /* 0: all */
    double min_p;              /* [0, 1] */
    double repetition_penalty; /* (0, 100] */
    uint32_t max_new_tokens;
    uint32_t n_eos;
    int32_t eos_ids[OCT_MAX_EOS];
    uint32_t n_warnings; /* how many fields were ignored */
} oct_generation_config;

/* Never fails. where: the file's name for the log. vocab bounds the ids. */
void oct_generation_config_parse(oct_str text, const char *where, uint32_t vocab,
                                 oct_generation_config *out);

#endif
