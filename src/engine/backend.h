/*
 * engine/backend.h - what the engine asks of whoever computes a step. In the product that is a
 * model (oct_engine_create, backend_model.c); tests put a scripted one here, so that the engine is
 * tested without weights.
 *
 * Threads    The engine thread, one call after the other; shelf: any.
 */
#ifndef OCT_ENGINE_BACKEND_H
#define OCT_ENGINE_BACKEND_H

#include "engine/engine.h"
#include "model/model.h"

typedef struct oct_engine_backend {
    void *ctx;
    uint32_t max_model_len, n_vocab, block_tokens;
    uint32_t max_rows, max_seqs, max_logits; /* of one step */
    uint32_t max_top;                        /* most likely tokens that a row can report */
    bool
        can_overlap; /* as oct_model_can_overlap: a second step can be submitted beside the first */
    /* As oct_model_submit and oct_model_collect. A step that failed in either is over. */
    oct_status (*submit)(void *ctx, const oct_model_batch *batch, oct_err *err);
    oct_status (*collect)(void *ctx, oct_model_result *result, oct_err *err);
    /* As oct_model_probe; NULL: a step that fails is never the end. */
    oct_status (*probe)(void *ctx, oct_err *err);
    /* As oct_model_move, oct_model_moves_wait and oct_model_shelf; NULL: there are no shelves. */
    oct_status (*move)(void *ctx, uint32_t block, uint32_t shelf, bool to_shelf, oct_err *err);
    oct_status (*moves_wait)(void *ctx, oct_err *err);
    void *(*shelf)(void *ctx, uint32_t shelf);
    uint64_t shelf_bytes;
} oct_engine_backend;

/* The model as one; for tests that look at what passes. */
oct_engine_backend oct_engine_backend_of(oct_model *model);

/* oct_engine_create over any backend. Copies *backend; its ctx must outlive the engine. */
OCT_MUST_CHECK oct_status oct_engine_create_on(const oct_allocator *mem,
                                               const oct_engine_backend *backend,
                                               const oct_tokenizer *tokenizer,
                                               const oct_engine_options *options, oct_engine **out,
                                               oct_err *err);

/* One turn of the engine thread's loop, for tests that want to be that thread: takes messages
 * (waiting at most wait_ns for one when there is nothing to do), and runs one step. False: the
 * engine was stopped and nothing is left. */
bool oct_engine_turn(oct_engine *e, uint64_t wait_ns);

#endif
