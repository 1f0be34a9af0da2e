/* model/runner.c - batches of one sequence; its block table counts up from block 0. */
#include "model/runner.h"

#include <string.h>

struct oct_runner {
    const oct_allocator *mem;
    oct_model *model;
    uint32_t max_rows;   /* rows of a step */
    uint32_t max_logits; /* of them with logits */
    uint32_t n_blocks;
    uint32_t position;
    int32_t *ints;            /* pos, slot and row index: [3][max_rows], then table [n_blocks] */
    octet_sample_row *sample; /* [max_logits] */
    float *logits;            /* [max_logits][n_vocab], made when first needed */
};

oct_status oct_runner_create(const oct_allocator *mem, oct_model *model, oct_runner **out,
                             oct_err *err) {
    const oct_model_info *info = oct_model_get_info(model);
    const uint32_t n_blocks = (info->max_model_len - 1) / info->block_tokens + 1;
    *out = NULL;
    if (!oct_model_has_kv(model)) OCT_TRY(oct_model_kv_create(model, n_blocks, err));

    oct_runner *r = oct_calloc(mem, 1, sizeof *r);
    if (!r) return OCT_FAIL(err, OCT_E_NOMEM, "runner: no memory");
    *r = (oct_runner){.mem = mem,
                      .model = model,
                      .max_rows = info->max_rows,
                      .max_logits =
                          info->max_logits < info->max_rows ? info->max_logits : info->max_rows,
                      .n_blocks = n_blocks};
    r->ints = oct_calloc(mem, 3 * (size_t)r->max_rows + n_blocks, sizeof *r->ints);
    r->sample = oct_calloc(mem, r->max_logits, sizeof *r->sample);
    if (!r->ints || !r->sample) {
        oct_runner_destroy(r);
        return OCT_FAIL(err, OCT_E_NOMEM, "runner: no memory");
    }
    for (uint32_t b = 0; b < n_blocks; b++) r->ints[3 * (size_t)r->max_rows + b] = (int32_t)b;
    *out = r;
    return OCT_OK;
}

void oct_runner_destroy(oct_runner *r) {
    if (!r) return;
    const size_t n_vocab = oct_model_get_info(r->model)->n_vocab;
    oct_free(r->mem, r->logits, r->max_logits, n_vocab * sizeof *r->logits);
    oct_free(r->mem, r->sample, r->max_logits, sizeof *r->sample);
    oct_free(r->mem, r->ints, 3 * (size_t)r->max_rows + r->n_blocks, sizeof *r->ints);
    oct_free(r->mem, r, 1, sizeof *r);
}

void oct_runner_reset(oct_runner *r) { r->position = 0; }

/* One step over tokens[n] that asks for the logits of the last n_logits rows. */
static oct_status step(oct_runner *r, const int32_t *tokens, uint32_t n, uint32_t n_logits,
                       const octet_sample_row *sample, oct_model_result *result, oct_err *err) {
    const oct_model_info *info = oct_model_get_info(r->model);
    int32_t *pos = r->ints, *slot = pos + r->max_rows, *row = slot + r->max_rows;
    const int32_t seq_row[2] = {0, (int32_t)n}, kv_len = (int32_t)(r->position + n);

    if (n > info->max_model_len - r->position)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "sequence: longer than the model takes (got %u, want at most %u)",
                        r->position + n, info->max_model_len);
    for (uint32_t i = 0; i < n; i++) pos[i] = slot[i] = (int32_t)(r->position + i);
    for (uint32_t i = 0; i < n_logits; i++) row[i] = (int32_t)(n - n_logits + i);

    const oct_model_batch batch = {.n_seqs = 1,
                                   .n_rows = n,
                                   .max_seq_rows = n,
                                   .max_kv_len = (uint32_t)kv_len,
                                   .table_stride = r->n_blocks,
                                   .tokens = tokens,
                                   .row_pos = pos,
                                   .row_slot = slot,
                                   .seq_row = seq_row,
                                   .seq_kv_len = &kv_len,
                                   .block_table = r->ints + 3 * (size_t)r->max_rows,
                                   .n_logits = n_logits,
                                   .logits_row = row,
                                   .sample = sample};
    OCT_TRY(oct_model_submit(r->model, &batch, err));
    OCT_TRY(oct_model_collect(r->model, result, err));
    r->position += n;
    return OCT_OK;
}

oct_status oct_runner_feed(oct_runner *r, const int32_t *tokens, uint32_t n, oct_err *err) {
    oct_model_result result;
    for (uint32_t at = 0; at < n;) {
        const uint32_t m = n - at < r->max_rows ? n - at : r->max_rows;
        OCT_TRY(step(r, tokens + at, m, 0, NULL, &result, err));
        at += m;
    }
    return OCT_OK;
}

oct_status oct_runner_logits(oct_runner *r, const int32_t *tokens, uint32_t n,
                             oct_runner_logits_fn *fn, void *ctx, oct_err *err) {
    const size_t n_vocab = oct_model_get_info(r->model)->n_vocab;
    oct_model_result result;
    if (!r->logits) r->logits = oct_alloc(r->mem, r->max_logits, n_vocab * sizeof *r->logits);
    if (!r->logits) return OCT_FAIL(err, OCT_E_NOMEM, "runner: no memory for logits");
    for (uint32_t at = 0; at < n;) {
        const uint32_t m = n - at < r->max_logits ? n - at : r->max_logits;
        OCT_TRY(step(r, tokens + at, m, m, NULL, &result, err));
        OCT_TRY(oct_model_read_logits(r->model, r->logits, err));
        fn(ctx, at, m, r->logits);
        at += m;
    }
    return OCT_OK;
}

oct_status oct_runner_score(oct_runner *r, const int32_t *tokens, uint32_t n, float *logprob,
                            oct_err *err) {
    oct_model_result result;
    for (uint32_t at = 0; at < n;) {
        const uint32_t m = n - at < r->max_logits ? n - at : r->max_logits;
        for (uint32_t i = 0; i < m; i++)
            r->sample[i] =
                (octet_sample_row){.temperature = 1,
                                   .top_p = 1,
                                   .repetition_penalty = 1,
                                   .flags = OCTET_SAMPLE_FORCED,
                                   .mask = -1,
                                   .forced = tokens[at + i + 1 < n ? at + i + 1 : n - 1]};
        OCT_TRY(step(r, tokens + at, m, m, r->sample, &result, err));
        for (uint32_t i = 0; i < m && at + i + 1 < n; i++) {
            if (result.out[i].status != OCTET_SAMPLED)
                return OCT_FAIL(err, OCT_E_CORRUPT, "logits of position %u are not finite",
                                r->position - m + i);
            logprob[at + i] = result.out[i].logprob;
        }
        at += m;
    }
    return OCT_OK;
}

oct_status oct_runner_greedy(oct_runner *r, const int32_t *tokens, uint32_t n, int32_t *out,
                             uint32_t n_new, oct_err *err) {
    const octet_sample_row greedy = {.temperature = 1,
                                     .top_p = 1,
                                     .repetition_penalty = 1,
                                     .flags = OCTET_SAMPLE_GREEDY,
                                     .mask = -1};
    oct_model_result result;
    if (n == 0 || n_new == 0) return OCT_OK;
    OCT_TRY(oct_runner_feed(r, tokens, n - 1, err));
    int32_t last = tokens[n - 1];
    for (uint32_t i = 0; i < n_new; i++) {
        OCT_TRY(step(r, &last, 1, 1, &greedy, &result, err));
        if (result.out[0].status != OCTET_SAMPLED)
            return OCT_FAIL(err, OCT_E_CORRUPT, "logits of position %u are not finite",
                            r->position - 1);
        last = out[i] = result.out[0].token;
    }
    return OCT_OK;
}
