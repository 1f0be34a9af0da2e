/*
 * model/arch.h - what distinguishes one family of decoders from another, as data. What varies from
 * checkpoint to checkpoint of a family is oct_model_config; what is fixed for the family is here. A
 * new family is a row of the table in arch.c, and code only where its mathematics is new.
 *
 * Source of the facts: the published configurations and model definitions of each family (Hugging
 * Face transformers), see docs/numerics.md for the expressions.
 */
#ifndef OCT_MODEL_ARCH_H
#define OCT_MODEL_ARCH_H

#include <stdint.h>

#include "store/config.h"

typedef struct oct_arch {
    oct_family family;
    uint32_t act;     /* OCTET_ACT_... between gate and up */
    uint32_t qk_norm; /* OCTET_QK_NORM_... where the configuration asks for one */
} oct_arch;

/* Never NULL for a family that the configuration reader accepts. */
const oct_arch *oct_arch_of(oct_family family);

/* Factor on q.k before the softmax. */
float oct_arch_attention_scale(const oct_model_config *c);
/* Tokens that a row of this layer sees, itself included; 0: all. */
uint32_t oct_arch_window(const oct_model_config *c, uint32_t layer);

#endif
