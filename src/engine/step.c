/*
 * engine/step.c - a plan becomes the arrays of one step, and its results find their requests again.
 *
 * A step that was built knows everything that its results need (parts), so that another can be
 * built while it runs. Then a row may have a token that nobody knows yet: the batch names the row
 * of the step before that draws it, and the device takes it from there.
 */
#include <string.h>

#include "base/assert.h"
#include "base/fault.h"
#include "engine/parts.h"

typedef struct array {
    int32_t **data;
    size_t n;
} array;

enum { N_ARRAYS = 8 };

static void arrays_of(const oct_engine *e, oct_step *s, array out[N_ARRAYS]) {
    const size_t n_rows = e->opt.max_num_batched_tokens, n_seqs = e->opt.max_num_seqs;
    const size_t stride = oct_kv_blocks_for(e->info.max_model_len, e->info.block_tokens);
    const array all[N_ARRAYS] = {
        {&s->tokens, n_rows},
        {&s->token_from, n_rows},
        {&s->row_pos, n_rows},
        {&s->row_slot, n_rows},
        {&s->seq_row, n_seqs + 1},
        {&s->seq_kv_len, n_seqs},
        {&s->block_table, n_seqs * stride},
        {&s->logits_row, e->backend.max_logits},
    };
    memcpy(out, all, sizeof all);
}

oct_status oct_step_init(oct_engine *e, oct_step *s, oct_err *err) {
    array arrays[N_ARRAYS];
    bool ok = true;
    arrays_of(e, s, arrays);
    for (int i = 0; i < N_ARRAYS; i++) {
        *arrays[i].data = oct_alloc(e->mem, arrays[i].n, sizeof(int32_t));
        ok = ok && *arrays[i].data;
    }
    s->sample = oct_calloc(e->mem, e->backend.max_logits, sizeof *s->sample);
    s->parts = oct_calloc(e->mem, e->opt.max_num_seqs, sizeof *s->parts);
    s->lists.mask_words = ((size_t)e->info.n_vocab + 31) / 32;
    if (!ok || !s->sample || !s->parts)
        return OCT_FAIL(err, OCT_E_NOMEM, "engine: no memory for steps of %u tokens",
                        e->opt.max_num_batched_tokens);
    return OCT_OK;
}

void oct_step_fini(oct_engine *e, oct_step *s) {
    array arrays[N_ARRAYS];
    arrays_of(e, s, arrays);
    for (int i = 0; i < N_ARRAYS; i++)
        oct_free(e->mem, *arrays[i].data, arrays[i].n, sizeof(int32_t));
    oct_free(e->mem, s->sample, e->backend.max_logits, sizeof *s->sample);
    oct_free(e->mem, s->parts, e->opt.max_num_seqs, sizeof *s->parts);
    oct_row_lists_fini(&s->lists, e->mem);
}

/* ---- building ---- */

/* The rows of the result that belong to the item: the prompt's, then the one that draws. */
static oct_status add_logits(oct_engine *e, oct_step *s, const oct_sched_item *it,
                             oct_step_part *part) {
    oct_request *r = part->r;
    const uint32_t n_before = s->batch.n_logits, end = it->first + it->n_rows;
    uint32_t pos = it->first, max_top = s->batch.max_top;
    if (pos < it->seq->extra_logits_begin) pos = it->seq->extra_logits_begin;
    part->first_logit = n_before;
    part->extra_pos = pos;
    part->end = end - it->n_draft;
    for (; pos < end && pos < it->seq->extra_logits_end; pos++) {
        octet_sample_row *row = &s->sample[s->batch.n_logits];
        oct_sample_row_force(e, r, r->tokens[pos + 1], row);
        s->logits_row[s->batch.n_logits++] = (int32_t)(s->batch.n_rows + pos - it->first);
        if (row->n_top > max_top) max_top = row->n_top;
        part->n_extra++;
    }
    /* The row that draws, and those that draw what follows if the guesses in front are right. */
    for (uint32_t k = 0; it->samples && k <= it->n_draft; k++) {
        octet_sample_row *row = &s->sample[s->batch.n_logits];
        const oct_status st = oct_sample_row_fill(e, &s->lists, r, k, row);
        if (st != OCT_OK) {
            s->batch.n_logits = n_before;
            return st;
        }
        s->logits_row[s->batch.n_logits++] =
            (int32_t)(s->batch.n_rows + it->n_rows - 1 - it->n_draft + k);
        if (row->n_top > max_top) max_top = row->n_top;
    }
    part->n_draft = it->n_draft;
    part->samples = it->samples;
    s->batch.max_top = max_top;
    return OCT_OK;
}

static void add_rows(oct_step *s, const oct_sched_item *it, const oct_request *r) {
    oct_model_batch *b = &s->batch;
    s->seq_row[b->n_seqs] = (int32_t)b->n_rows;
    s->seq_kv_len[b->n_seqs] = (int32_t)(it->first + it->n_rows);
    for (uint32_t i = 0; i < it->n_rows; i++) {
        const uint32_t pos = it->first + i;
        const bool known = r->n_flying == 0 || pos < oct_request_n_known(r); /* guesses are known */
        s->tokens[b->n_rows] = known ? r->tokens[pos] : -1;
        s->token_from[b->n_rows] = known ? -1 : (int32_t)r->flying_row;
        if (!known) b->token_from = s->token_from;
        s->row_pos[b->n_rows] = (int32_t)pos;
        s->row_slot[b->n_rows] = oct_kv_table_slot(&r->seq.table, pos);
        b->n_rows++;
    }
    b->n_seqs++;
    s->seq_row[b->n_seqs] = (int32_t)b->n_rows;
    if (it->n_rows > b->max_seq_rows) b->max_seq_rows = it->n_rows;
    if (it->first + it->n_rows > b->max_kv_len) b->max_kv_len = it->first + it->n_rows;
}

/* The tables are as wide as the longest one of the step. */
static void add_tables(const oct_engine *e, oct_step *s) {
    const uint32_t stride = oct_kv_blocks_for(s->batch.max_kv_len, e->info.block_tokens);
    for (uint32_t i = 0; i < s->n_parts; i++) {
        const oct_kv_table *t = &s->parts[i].r->seq.table;
        const uint32_t n =
            oct_kv_blocks_for((uint32_t)s->seq_kv_len[i], e->info.block_tokens); /* <= stride */
        int32_t *out = s->block_table + (size_t)i * stride;
        memcpy(out, t->blocks, n * sizeof *out);
        memset(out + n, 0, (stride - n) * sizeof *out);
    }
    s->batch.table_stride = stride;
}

static void point_at_arrays(oct_step *s) {
    oct_model_batch *b = &s->batch;
    b->tokens = s->tokens;
    b->row_pos = s->row_pos;
    b->row_slot = s->row_slot;
    b->seq_row = s->seq_row;
    b->seq_kv_len = s->seq_kv_len;
    b->block_table = s->block_table;
    b->logits_row = s->logits_row;
    b->sample = s->sample;
    b->seen = s->lists.seen;
    b->n_seen = (uint32_t)s->lists.n_seen;
    b->bias = s->lists.bias;
    b->n_bias = (uint32_t)s->lists.n_bias;
    b->masks = s->lists.masks;
    b->n_masks = (uint32_t)s->lists.n_masks;
}

void oct_step_build(oct_engine *e, oct_step *s, const oct_sched_plan *plan) {
    s->batch = (oct_model_batch){0};
    s->lists.n_seen = s->lists.n_bias = s->lists.n_masks = 0;
    s->n_parts = s->n_chunk_rows = s->n_decodes = 0;
    s->open = true;
    for (uint32_t i = 0; i < plan->n_items; i++) {
        const oct_sched_item *it = &plan->items[i];
        oct_step_part *part = &s->parts[s->n_parts];
        *part = (oct_step_part){.r = oct_request_of(it->seq)};
        const oct_status st = add_logits(e, s, it, part);
        if (st == OCT_E_FULL) {
            oct_request_fail(e, part->r, OCT_E_INVALID, "grammar: too many ways at once");
            continue;
        }
        if (st != OCT_OK) {
            oct_request_fail(e, part->r, OCT_E_NOMEM, "engine: no memory for a step");
            continue;
        }
        add_rows(s, it, part->r);
        s->n_parts++;
        s->n_decodes += it->is_decode;
        s->n_chunk_rows += it->is_decode ? 0 : it->n_rows;
    }
    add_tables(e, s);
    point_at_arrays(s);
}

/* ---- on its way ---- */

void oct_step_fly(oct_step *s) {
    for (uint32_t i = 0; i < s->n_parts; i++) {
        const oct_step_part *p = &s->parts[i];
        oct_request *r = p->r;
        if (!p->samples || r->one_by_one) continue;
        if (r->seq.n_tokens + 1 >= r->seq.max_tokens) continue; /* its last one: nothing follows */
        r->seq.n_tokens++;
        r->n_flying++;
        r->flying_row = p->first_logit + p->n_extra;
    }
}

/* fn for each block that the rows of part i write to. */
static void each_written(oct_engine *e, const oct_step *s, uint32_t i,
                         void (*fn)(oct_sched *, oct_kv_block)) {
    oct_kv_block last = UINT32_MAX;
    for (int32_t row = s->seq_row[i]; row < s->seq_row[i + 1]; row++) {
        const oct_kv_block block = (uint32_t)s->row_slot[row] / e->info.block_tokens;
        if (block != last) fn(e->sched, block);
        last = block;
    }
}

void oct_step_forget(oct_engine *e, const oct_request *r) {
    for (int k = 0; k < OCT_ENGINE_STEPS; k++) {
        oct_step *s = &e->steps[k];
        for (uint32_t i = 0; s->open && i < s->n_parts; i++) {
            if (s->parts[i].r != r) continue;
            s->parts[i].r = NULL;
            s->parts[i].holds = true;
            each_written(e, s, i, oct_sched_hold);
            break;
        }
    }
}

/* The device is done with it. */
static void close_step(oct_engine *e, oct_step *s) {
    s->open = false;
    for (uint32_t i = 0; i < s->n_parts; i++)
        if (s->parts[i].holds) each_written(e, s, i, oct_sched_let_go);
}

/* ---- results ---- */

/* What row i of r gave. */
static uint32_t status_of(const oct_request *r, const oct_model_result *res, uint32_t i) {
    const uint64_t who = r->sampling.seed;
    const bool of_prompt = oct_request_n_drawn(r) == 0 && r->prompt_lp;
    if (of_prompt ? OCT_FAULT(PROMPT_NOT_FINITE, who) : OCT_FAULT(ROW_NOT_FINITE, who))
        return OCTET_SAMPLE_NOT_FINITE;
    return OCT_FAULT(ROW_NOTHING, who) ? OCTET_SAMPLE_NONE_ALLOWED : res->out[i].status;
}

/* Ends r if one of the rows i .. i + n - 1 gave nothing. */
static bool failed_on(oct_engine *e, oct_request *r, const oct_model_result *res, uint32_t i,
                      uint32_t n) {
    for (const uint32_t end = i + n; i < end; i++) {
        const uint32_t status = status_of(r, res, i);
        if (status == OCTET_SAMPLED) continue;
        const bool not_finite = status == OCTET_SAMPLE_NOT_FINITE;
        if (!not_finite && oct_constraint_may_end(r)) {
            oct_request_complete(e, r);
            return true;
        }
        if (not_finite) oct_count(&e->count.n_not_finite, 1);
        oct_request_fail(e, r, not_finite ? OCT_E_DEVICE : OCT_E_INVALID,
                         not_finite ? "engine: the model gave a value that is not finite"
                                    : "no token allowed");
        return true;
    }
    return false;
}

/* How many guesses in front of row i and those behind it were right. */
static uint32_t count_right(oct_engine *e, const oct_step_part *p, const oct_model_result *res,
                            uint32_t i) {
    const int32_t *guesses = p->r->tokens + p->r->seq.n_tokens;
    uint32_t n = 0;
    while (n < p->n_draft && res->out[i + n].status == OCTET_SAMPLED &&
           res->out[i + n].token == guesses[n]) {
        oct_count(&e->count.accepted_at[n], 1);
        n++;
    }
    oct_count(&e->count.n_drafts, p->n_draft > 0);
    oct_count(&e->count.n_draft_tokens, p->n_draft);
    oct_count(&e->count.n_accepted_tokens, n);
    return n;
}

/* Rows i .. i + n_draft draw; those behind a wrong guess are worth nothing. */
static void take_tokens(oct_engine *e, const oct_step_part *p, const oct_model_result *res,
                        uint32_t i) {
    oct_request *r = p->r;
    const uint32_t n_right = count_right(e, p, res, i);
    const bool last_is_good = res->out[i + n_right].status == OCTET_SAMPLED;
    r->seq.n_computed += n_right;
    /* Before tokens are told: one may end the request, and then its blocks are gone. */
    oct_sched_collected(e->sched, &r->seq, p->end + n_right - !last_is_good);
    for (uint32_t k = 0; k < n_right + last_is_good; k++)
        if (!oct_request_take_token(e, r, res, i + k)) return;
    if (!last_is_good) (void)failed_on(e, r, res, i + n_right, 1);
}

static void finish_part(oct_engine *e, const oct_step_part *p, const oct_model_result *res) {
    if (failed_on(e, p->r, res, p->first_logit, p->n_extra + p->samples)) return;
    uint32_t i = p->first_logit;
    for (uint32_t k = 0; k < p->n_extra; k++, i++)
        oct_request_take_prompt_logprob(e, p->r, p->extra_pos + k + 1, res, i);
    if (p->samples) take_tokens(e, p, res, i);
}

void oct_step_finish(oct_engine *e, oct_step *s, const oct_model_result *result) {
    OCT_ASSERT(result->n == s->batch.n_logits);
    close_step(e, s);
    for (uint32_t i = 0; i < s->n_parts; i++)
        if (s->parts[i].r) finish_part(e, &s->parts[i], result);
}

void oct_step_fail(oct_engine *e, oct_step *s, const oct_err *err) {
    close_step(e, s);
    for (uint32_t i = 0; i < s->n_parts; i++)
        if (s->parts[i].r) oct_request_fail(e, s->parts[i].r, err->code, err->text);
}
