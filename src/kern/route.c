/*
 * kern/route.c - scores, the choice, the weights.
 *
 * The choice takes the largest value after the last one taken, in the order (value down, id up):
 * nothing is marked, so minus infinity (an expert that a bias rules out) needs no special case.
 */
#include "kern/route.h"

#include "base/assert.h"
#include "kern/elem_math.h"

enum { LANES = OCT_NUMERICS_LANES };

static void softmax(const oct_kern *k, const float *x, float *p, uint32_t n) {
    const oct_row_max m = k->elem.row_max(x, n);
    float lane[LANES] = {0};
    for (uint32_t i = 0; i < n; i++) p[i] = x[i] - m.max;
    k->elem.exp(p, p, n);
    for (uint32_t i = 0; i < n; i++) lane[i % LANES] += p[i];
    const float sum = oct_fold16_f32(lane);
    for (uint32_t i = 0; i < n; i++) p[i] = p[i] / sum;
}

static void sigmoid(const oct_kern *k, const float *x, float *p, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) p[i] = -x[i];
    k->elem.exp(p, p, n);
    for (uint32_t i = 0; i < n; i++) p[i] = 1.0f / (1.0f + p[i]);
}

/* The first id in the order (value down, id up) behind (value, id). */
static int32_t next_best(const float *v, uint32_t n, float value, int32_t id) {
    int32_t best = -1;
    for (uint32_t i = 0; i < n; i++) {
        const int32_t at = (int32_t)i;
        const int behind = v[i] < value || (v[i] == value && at > id);
        if (behind && (best < 0 || v[i] > v[best])) best = at;
    }
    return best;
}

void oct_kern_route_row(const oct_kern *k, const oct_route_rule *rule, const float *logits,
                        float *scratch, int32_t *expert, float *weight) {
    const uint32_t n = rule->n_experts;
    float *score = scratch, *choice = scratch + n;
    OCT_ASSERT(rule->top_k >= 1 && rule->top_k <= n);
    if (rule->kind == OCT_ROUTE_SIGMOID)
        sigmoid(k, logits, score, n);
    else
        softmax(k, logits, score, n);
    int lost = 0;
    for (uint32_t i = 0; i < n; i++) {
        choice[i] = rule->bias ? score[i] + rule->bias[i] : score[i];
        lost |= choice[i] != choice[i];
    }
    float value = INFINITY, sum = 0.0f;
    int32_t id = -1;
    for (uint32_t t = 0; t < rule->top_k; t++) {
        id = lost ? (int32_t)t : next_best(choice, n, value, id);
        value = choice[id];
        expert[t] = id;
        weight[t] = lost ? NAN : score[id];
        sum += weight[t];
    }
    for (uint32_t t = 0; t < rule->top_k; t++) {
        const float w = rule->renormalise ? weight[t] / (sum + OCT_ROUTE_TINY) : weight[t];
        weight[t] = w * rule->scale;
    }
}
