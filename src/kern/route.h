/*
 * kern/route.h - which experts a row goes to: docs/numerics.md, "Mixture of experts".
 *
 * Portable code over the table's exp and maximum, for a row of logits is as short as a layer has
 * experts; the choice itself is a scan for each of the few that are taken.
 *
 * Threads: any.
 */
#ifndef OCT_KERN_ROUTE_H
#define OCT_KERN_ROUTE_H

#include "kern/kern.h"

/* Added to the sum that weights are divided by: all scores zero then give zero, not NaN. It changes
 * no sum above 1e-12. */
#define OCT_ROUTE_TINY 1e-20f

typedef enum oct_route_kind {
    OCT_ROUTE_SOFTMAX, /* score = softmax over all experts */
    OCT_ROUTE_SIGMOID, /* score = 1 / (1 + exp(-logit)) */
} oct_route_kind;

typedef struct oct_route_rule {
    oct_route_kind kind;
    uint32_t n_experts, top_k; /* 1 <= top_k <= n_experts */
    int renormalise;           /* weights divided by their sum */
    float scale;               /* of the weights, last */
    const float *bias;         /* [n_experts] added for the choice alone, or NULL */
} oct_route_rule;

/* expert[top_k] best first, weight[top_k]. scratch: 2 * n_experts floats. A row with a NaN among
 * its scores gets experts 0, 1, ... and weights NaN. */
void oct_kern_route_row(const oct_kern *k, const oct_route_rule *rule, const float *logits,
                        float *scratch, int32_t *expert, float *weight);

#endif
