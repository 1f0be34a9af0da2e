/* engine/backend_model.c - a model as the engine's backend. */
#include "engine/backend.h"

static oct_status model_submit(void *ctx, const oct_model_batch *batch, oct_err *err) {
    return oct_model_submit(ctx, batch, err);
}

static oct_status model_collect(void *ctx, oct_model_result *result, oct_err *err) {
    return oct_model_collect(ctx, result, err);
}

static oct_status model_probe(void *ctx, oct_err *err) { return oct_model_probe(ctx, err); }

static oct_status model_move(void *ctx, uint32_t block, uint32_t shelf, bool to_shelf,
                             oct_err *err) {
    return oct_model_move(ctx, block, shelf, to_shelf, err);
}

static oct_status model_moves_wait(void *ctx, oct_err *err) {
    return oct_model_moves_wait(ctx, err);
}

static void *model_shelf(void *ctx, uint32_t shelf) { return oct_model_shelf(ctx, shelf); }

oct_engine_backend oct_engine_backend_of(oct_model *model) {
    const oct_model_info *info = oct_model_get_info(model);
    return (oct_engine_backend){
        .ctx = model,
        .max_model_len = info->max_model_len,
        .n_vocab = info->n_vocab,
        .block_tokens = info->block_tokens,
        .max_rows = info->max_rows,
        .max_seqs = info->max_seqs,
        .max_logits = info->max_logits,
        .max_top = OCT_MODEL_MAX_TOP,
        .can_overlap = oct_model_can_overlap(model),
        .submit = model_submit,
        .collect = model_collect,
        .probe = model_probe,
        .move = model_move,
        .moves_wait = model_moves_wait,
        .shelf = model_shelf,
        .shelf_bytes = info->kv_bytes_per_block,
    };
}

oct_status oct_engine_create(const oct_allocator *mem, oct_model *model,
                             const oct_tokenizer *tokenizer, const oct_engine_options *options,
                             oct_engine **out, oct_err *err) {
    const oct_engine_backend backend = oct_engine_backend_of(model);
    return oct_engine_create_on(mem, &backend, tokenizer, options, out, err);
}
