/*
 * model/runner.h - one sequence at a time through a model, without queue or scheduler: what
 * evaluation, calibration and measurements need.
 *
 * Ownership  Borrows the model; the runner's sequence uses cache blocks 0, 1, 2, ... in order.
 * Threads    One at a time, and nobody else steps the model meanwhile.
 */
#ifndef OCT_MODEL_RUNNER_H
#define OCT_MODEL_RUNNER_H

#include "model/model.h"

typedef struct oct_runner oct_runner;

/* Makes the model's cache, large enough for one sequence of max_model_len, unless it has one. */
OCT_MUST_CHECK oct_status oct_runner_create(const oct_allocator *mem, oct_model *model,
                                            oct_runner **out, oct_err *err);
void oct_runner_destroy(oct_runner *r); /* accepts NULL */

/* Forgets the sequence; the next token is at position 0. */
void oct_runner_reset(oct_runner *r);

/* Appends tokens[n], in chunks of at most the model's max_rows, without asking for logits. */
OCT_MUST_CHECK oct_status oct_runner_feed(oct_runner *r, const int32_t *tokens, uint32_t n,
                                          oct_err *err);

/* Appends tokens[n] and gives each row's logits: fn is called with rows first..first+n_rows-1 of
 * them, float [n_rows][n_vocab], borrowed. */
typedef void oct_runner_logits_fn(void *ctx, uint32_t first, uint32_t n_rows, const float *logits);
OCT_MUST_CHECK oct_status oct_runner_logits(oct_runner *r, const int32_t *tokens, uint32_t n,
                                            oct_runner_logits_fn *fn, void *ctx, oct_err *err);

/* Appends tokens[n]; logprob[i] is the log probability of tokens[i + 1] after tokens[0..i],
 * i < n - 1. */
OCT_MUST_CHECK oct_status oct_runner_score(oct_runner *r, const int32_t *tokens, uint32_t n,
                                           float *logprob, oct_err *err);

/* Appends tokens[n], then n_new tokens drawn greedily; their ids go to out. The last one is not
 * appended. */
OCT_MUST_CHECK oct_status oct_runner_greedy(oct_runner *r, const int32_t *tokens, uint32_t n,
                                            int32_t *out, uint32_t n_new, oct_err *err);

#endif
