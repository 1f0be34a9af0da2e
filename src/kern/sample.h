/*
 * kern/sample.h - one token from one row of logits: masks, penalties, temperature, min-p, top-k,
 * top-p, the draw, and the log probabilities that were asked for. docs/numerics.md, "Sampling".
 *
 * Pure: the draw is a function of (seed, choice, position), so it does not depend on the batch or
 * on what was drawn before. The same on every CPU.
 *
 * Ownership  Everything is borrowed for the call. logits are overwritten.
 * Threads    One call a thread; calls on different rows may run side by side.
 */
#ifndef OCT_KERN_SAMPLE_H
#define OCT_KERN_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include <octet/device.h>

#include "kern/kern.h"

typedef struct oct_sample_args {
    float *logits; /* [n_vocab] */
    uint32_t n_vocab;
    const octet_sample_row *row;  /* the ranges and mask index in it are not looked at: */
    const octet_seen_token *seen; /* [n_seen]; ids outside the vocabulary are ignored */
    uint32_t n_seen;
    const octet_bias *bias; /* [n_bias]; likewise */
    uint32_t n_bias;
    const uint32_t *mask; /* bit i % 32 of word i / 32 set: allowed; NULL: all are */
    octet_sample_out *out;
    int32_t *top_id;    /* [max_top]; written up to row->n_top, the rest -1 */
    float *top_logprob; /* [max_top]; the rest -infinity */
    uint32_t max_top;
} oct_sample_args;

/* Bytes of scratch, 64-byte aligned, for a vocabulary. */
size_t oct_kern_sample_scratch_bytes(uint32_t n_vocab);

/* Never fails but in out->status: OCTET_SAMPLE_NOT_FINITE when a logit is NaN or +infinity (token
 * -1), OCTET_SAMPLE_NONE_ALLOWED when every token is masked (token -1). */
void oct_kern_sample(const oct_kern *k, const oct_sample_args *a, void *scratch);

#endif
