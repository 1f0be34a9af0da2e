/* fake_backend.c - see the header. Everything that the engine hands over is checked on the way. */
#include "fake_backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

/* The engine thread cannot report to cmocka: a broken batch ends the program, loudly. */
#define NEED(cond)                                                                     \
    do {                                                                               \
        if (!(cond)) {                                                                 \
            fprintf(stderr, "%s:%d: batch is wrong: %s\n", __FILE__, __LINE__, #cond); \
            abort();                                                                   \
        }                                                                              \
    } while (0)

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    return h ^ (h >> 32);
}

static uint64_t mix_float(uint64_t h, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return mix(h, bits);
}

uint64_t fake_hash(const int32_t *tokens, uint32_t n) {
    uint64_t h = 1;
    for (uint32_t i = 0; i < n; i++) h = mix(h, (uint64_t)tokens[i]);
    return h;
}

float fake_logprob(uint64_t hash, int32_t id) {
    return -(float)(mix(hash, (uint64_t)id) % 1000) / 100.0f;
}

/* ---- the cache ---- */

/* The step before is still there: the new one is counted when it is complete. */
static int32_t token_of(fake_backend *f, const oct_model_batch *b, uint32_t row) {
    const int32_t from = b->token_from ? b->token_from[row] : -1;
    const fake_result *before = &f->steps[f->n_steps % 2];
    if (from < 0) return b->tokens[row];
    NEED((uint32_t)from < before->n_out && f->n_steps > 0);
    f->n_unknown++;
    return before->out[from].token < 0 ? 0 : before->out[from].token;
}

static void note_written(fake_backend *f, int32_t slot, int32_t pos) {
    fake_result *now = &f->steps[(f->n_steps + 1) % 2];
    const fake_result *before = &f->steps[f->n_steps % 2];
    const int32_t place = pos / FAKE_BLOCK;
    for (uint32_t i = 0; f->n_pending > 0 && i < before->n_written; i++) {
        NEED(before->written_slot[i] != slot);
        if (before->written_slot[i] / FAKE_BLOCK == slot / FAKE_BLOCK)
            NEED(f->cache_pos[before->written_slot[i]] / FAKE_BLOCK == place);
    }
    NEED(now->n_written < 2048);
    now->written_slot[now->n_written++] = slot;
}

static void write_cache(fake_backend *f, const oct_model_batch *b, uint32_t seq, uint32_t row) {
    const int32_t pos = b->row_pos[row], slot = b->row_slot[row];
    const int32_t block =
        b->block_table[(size_t)seq * b->table_stride + (uint32_t)pos / FAKE_BLOCK];
    NEED(slot == block * FAKE_BLOCK + pos % FAKE_BLOCK);
    NEED(slot >= 0 && (uint32_t)slot < f->n_blocks * FAKE_BLOCK);
    const int32_t token = token_of(f, b, row);
    NEED(token >= 0 && token < FAKE_VOCAB);
    note_written(f, slot, pos);
    f->cache_token[slot] = token;
    f->cache_pos[slot] = pos;
}

/* Hash of what attention of a row at pos finds; *poisoned when FAKE_POISON is among it. */
static uint64_t attend(const fake_backend *f, const oct_model_batch *b, uint32_t seq, int32_t pos,
                       bool *poisoned) {
    uint64_t h = 1;
    *poisoned = false;
    for (int32_t t = 0; t <= pos; t++) {
        const int32_t block =
            b->block_table[(size_t)seq * b->table_stride + (uint32_t)t / FAKE_BLOCK];
        const int32_t slot = block * FAKE_BLOCK + t % FAKE_BLOCK;
        NEED(f->cache_pos[slot] == t);
        *poisoned = *poisoned || f->cache_token[slot] == FAKE_POISON;
        h = mix(h, (uint64_t)f->cache_token[slot]);
    }
    return h;
}

/* ---- sampling ---- */

static uint64_t mix_row(uint64_t h, const octet_sample_row *row) {
    if (!(row->flags & OCTET_SAMPLE_GREEDY)) {
        h = mix(mix(mix(h, row->seed), row->choice), row->position);
        h = mix(mix_float(mix_float(h, row->temperature), row->top_p), (uint64_t)row->top_k);
        h = mix_float(h, row->min_p);
    }
    h = mix_float(mix_float(h, row->repetition_penalty), row->frequency_penalty);
    return mix_float(h, row->presence_penalty);
}

static uint64_t mix_seen(uint64_t h, int32_t id, uint32_t n_output, uint32_t in_prompt) {
    return mix(mix(mix(h, (uint64_t)id), n_output), in_prompt);
}

static const octet_bias *bias_of(const oct_model_batch *b, const octet_sample_row *row,
                                 int32_t id) {
    for (uint32_t i = row->bias_begin; i < row->bias_end; i++)
        if (b->bias[i].id == id) return &b->bias[i];
    return NULL;
}

static void check_lists(const oct_model_batch *b, const octet_sample_row *row) {
    NEED(row->seen_begin <= row->seen_end && row->seen_end <= b->n_seen);
    NEED(row->bias_begin <= row->bias_end && row->bias_end <= b->n_bias);
    NEED(row->mask >= -1 && row->mask < (int32_t)b->n_masks);
    for (uint32_t i = row->seen_begin + 1; i < row->seen_end; i++)
        NEED(b->seen[i - 1].id < b->seen[i].id);
    for (uint32_t i = row->bias_begin + 1; i < row->bias_end; i++)
        NEED(b->bias[i - 1].id < b->bias[i].id);
    NEED(row->temperature >= 0.01f && row->top_p > 0 && row->top_k >= 0);
}

static bool is_allowed(const oct_model_batch *b, const octet_sample_row *row, int32_t id) {
    const uint32_t *mask =
        row->mask < 0 ? NULL : b->masks + (size_t)row->mask * ((FAKE_VOCAB + 31) / 32);
    const octet_bias *bias = bias_of(b, row, id);
    return (!mask || (mask[id / 32] >> (id % 32) & 1)) && !(bias && bias->value == -INFINITY);
}

/* A finite bias moves the draw; the poison is never drawn by itself. */
static int32_t pick(uint64_t h, bool (*allowed)(const void *, int32_t), const void *arg) {
    for (int32_t k = 0; k < FAKE_VOCAB; k++) {
        const int32_t id = (int32_t)((h + (uint64_t)k) % FAKE_VOCAB);
        if (id != FAKE_POISON && allowed(arg, id)) return id;
    }
    return -1;
}

typedef struct row_of_batch {
    const oct_model_batch *b;
    const octet_sample_row *row;
} row_of_batch;

static bool row_allows(const void *arg, int32_t id) {
    const row_of_batch *r = arg;
    return is_allowed(r->b, r->row, id);
}

static int32_t scripted(const fake_backend *f, uint64_t seed, uint32_t position) {
    const uint64_t k = seed - FAKE_SCRIPT_SEED;
    if (k >= 8 || f->scripts[k].n == 0) return -1;
    const uint32_t i = position - f->scripts[k].n_prompt;
    return i < f->scripts[k].n ? f->scripts[k].ids[i] : FAKE_WORD_0;
}

static void draw(fake_backend *f, const oct_model_batch *b, uint32_t i, uint64_t h, bool poisoned) {
    const octet_sample_row *row = &b->sample[i];
    fake_result *now = &f->steps[(f->n_steps + 1) % 2];
    octet_sample_out *out = &now->out[i];
    check_lists(b, row);
    *out = (octet_sample_out){.token = -1, .status = OCTET_SAMPLED};
    if (row->flags & OCTET_SAMPLE_FORCED) {
        out->token = row->forced;
    } else {
        uint64_t d = mix_row(h, row);
        for (uint32_t k = row->seen_begin; k < row->seen_end; k++)
            d = mix_seen(d, b->seen[k].id, b->seen[k].n_output, b->seen[k].in_prompt);
        for (uint32_t k = row->bias_begin; k < row->bias_end; k++)
            if (b->bias[k].value != -INFINITY)
                d = mix_float(mix(d, (uint64_t)b->bias[k].id), b->bias[k].value);
        const row_of_batch r = {b, row};
        out->token = scripted(f, row->seed, row->position);
        if (out->token < 0 || !row_allows(&r, out->token)) out->token = pick(d, row_allows, &r);
        if (out->token < 0) out->status = OCTET_SAMPLE_NONE_ALLOWED;
    }
    if (poisoned) out->status = OCTET_SAMPLE_NOT_FINITE;
    out->logprob = fake_logprob(h, out->token);
    out->rank = 1 + (uint32_t)(h % 7);
    NEED(row->n_top <= b->max_top);
    for (uint32_t k = 0; k < row->n_top; k++) {
        now->top_id[i * b->max_top + k] = (int32_t)((h + k) % FAKE_VOCAB);
        now->top_logprob[i * b->max_top + k] = fake_logprob(h, now->top_id[i * b->max_top + k]);
    }
}

/* ---- the step ---- */

static void check_shape(const fake_backend *f, const oct_model_batch *b) {
    NEED(b->n_seqs > 0 && b->n_seqs <= f->backend.max_seqs && b->n_rows <= f->backend.max_rows);
    NEED(b->n_logits <= f->backend.max_logits && b->max_top <= 8);
    NEED(b->seq_row[0] == 0 && b->seq_row[b->n_seqs] == (int32_t)b->n_rows);
    for (uint32_t s = 0; s < b->n_seqs; s++) {
        const int32_t begin = b->seq_row[s], end = b->seq_row[s + 1];
        NEED(begin < end && (uint32_t)(end - begin) <= b->max_seq_rows);
        NEED(b->seq_kv_len[s] == b->row_pos[end - 1] + 1);
        NEED((uint32_t)b->seq_kv_len[s] <= b->max_kv_len);
        NEED((b->max_kv_len + FAKE_BLOCK - 1) / FAKE_BLOCK <= b->table_stride);
        for (int32_t r = begin + 1; r < end; r++) NEED(b->row_pos[r] == b->row_pos[r - 1] + 1);
    }
}

static uint32_t seq_of(const oct_model_batch *b, int32_t row) {
    uint32_t s = 0;
    while (b->seq_row[s + 1] <= row) s++;
    return s;
}

static oct_status fake_submit(void *ctx, const oct_model_batch *b, oct_err *err) {
    fake_backend *f = ctx;
    if (atomic_load(&f->fail_steps) > 0) {
        atomic_fetch_sub(&f->fail_steps, 1);
        return OCT_FAIL(err, OCT_E_DEVICE, "fake: the device refused");
    }
    NEED(f->n_pending < 2);
    fake_result *now = &f->steps[(f->n_steps + 1) % 2];
    now->n_written = 0;
    check_shape(f, b);
    for (uint32_t s = 0; s < b->n_seqs; s++)
        for (int32_t r = b->seq_row[s]; r < b->seq_row[s + 1]; r++)
            write_cache(f, b, s, (uint32_t)r);
    for (uint32_t i = 0; i < b->n_logits; i++) {
        const int32_t row = b->logits_row[i];
        bool poisoned;
        NEED(row >= 0 && row < (int32_t)b->n_rows);
        const uint64_t h = attend(f, b, seq_of(b, row), b->row_pos[row], &poisoned);
        draw(f, b, i, h, poisoned);
    }
    now->n_out = b->n_logits;
    now->max_top = b->max_top;
    f->n_steps++;
    f->n_mixed += b->n_seqs > 1;
    f->n_beside += f->n_pending > 0;
    f->n_pending++;
    return OCT_OK;
}

static oct_status fake_collect(void *ctx, oct_model_result *res, oct_err *err) {
    fake_backend *f = ctx;
    NEED(f->n_pending > 0);
    const fake_result *r = &f->steps[(f->n_steps + 1 - f->n_pending) % 2];
    f->n_pending--;
    while (atomic_load(&f->blocked)) oct_sleep_ns(1000000);
    if (f->hook) f->hook(f->hook_arg);
    if (atomic_load(&f->fail_collects) > 0) {
        atomic_fetch_sub(&f->fail_collects, 1);
        return OCT_FAIL(err, OCT_E_DEVICE, "fake: the device failed");
    }
    *res = (oct_model_result){.n = r->n_out,
                              .max_top = r->max_top,
                              .out = r->out,
                              .top_id = r->top_id,
                              .top_logprob = r->top_logprob};
    return OCT_OK;
}

static oct_status fake_probe(void *ctx, oct_err *err) {
    const fake_backend *f = ctx;
    NEED(f->n_pending == 0);
    return f->lost ? OCT_FAIL(err, OCT_E_DEVICE, "fake: the device is gone") : OCT_OK;
}

/* ---- shelves ---- */

static oct_status fake_move(void *ctx, uint32_t block, uint32_t shelf, bool to_shelf,
                            oct_err *err) {
    fake_backend *f = ctx;
    NEED(block < f->n_blocks && shelf < FAKE_SHELVES);
    int32_t *at[2] = {f->cache_token + (size_t)block * FAKE_BLOCK,
                      f->cache_pos + (size_t)block * FAKE_BLOCK};
    if (atomic_load(&f->fail_moves) > 0) {
        atomic_fetch_sub(&f->fail_moves, 1);
        return OCT_FAIL(err, OCT_E_DEVICE, "fake: refused to copy");
    }
    for (int i = 0; i < 2; i++)
        if (to_shelf)
            memcpy(f->shelf[shelf][i], at[i], sizeof f->shelf[shelf][i]);
        else
            memcpy(at[i], f->shelf[shelf][i], sizeof f->shelf[shelf][i]);
    f->n_stores += to_shelf;
    f->n_loads += !to_shelf;
    return OCT_OK;
}

static oct_status fake_moves_wait(void *ctx, oct_err *err) {
    (void)ctx;
    (void)err;
    return OCT_OK;
}

static void *fake_shelf(void *ctx, uint32_t shelf) { return ((fake_backend *)ctx)->shelf[shelf]; }

void fake_init(fake_backend *f, uint32_t n_blocks, uint32_t max_rows, uint32_t max_seqs) {
    memset(f, 0, sizeof *f);
    f->n_blocks = n_blocks;
    f->cache_token = calloc(n_blocks * FAKE_BLOCK, sizeof(int32_t));
    f->cache_pos = malloc(n_blocks * FAKE_BLOCK * sizeof(int32_t));
    for (uint32_t i = 0; i < n_blocks * FAKE_BLOCK; i++) f->cache_pos[i] = -1;
    f->backend = (oct_engine_backend){.ctx = f,
                                      .max_model_len = FAKE_MAX_LEN,
                                      .n_vocab = FAKE_VOCAB,
                                      .block_tokens = FAKE_BLOCK,
                                      .max_rows = max_rows,
                                      .max_seqs = max_seqs,
                                      .max_logits = max_seqs,
                                      .max_top = 8,
                                      .can_overlap = true,
                                      .submit = fake_submit,
                                      .collect = fake_collect,
                                      .probe = fake_probe,
                                      .move = fake_move,
                                      .moves_wait = fake_moves_wait,
                                      .shelf = fake_shelf,
                                      .shelf_bytes = sizeof f->shelf[0]};
}

void fake_fini(fake_backend *f) {
    free(f->cache_token);
    free(f->cache_pos);
}

/* ---- the same by a second way ---- */

typedef struct lonely {
    const oct_request_spec *s;
    const int32_t *eos, *tokens;
    uint32_t n_eos, n; /* n tokens known */
} lonely;

static bool in_list(const int32_t *ids, uint32_t n, int32_t id) {
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

static bool is_banned(const lonely *l, int32_t id) {
    const oct_request_spec *s = l->s;
    const uint32_t n_drawn = l->n - s->n_prompt;
    if (n_drawn < s->min_tokens) {
        if (in_list(s->stop_ids, s->n_stop_ids, id)) return true;
        if (in_list(l->eos, s->ignore_eos ? l->n_eos > 0 : l->n_eos, id)) return true;
    }
    for (uint32_t w = 0; w < s->n_bad_words; w++) {
        const oct_token_seq *b = &s->bad_words[w];
        bool same = b->n - 1 <= n_drawn && b->ids[b->n - 1] == id;
        for (uint32_t k = 0; same && k + 1 < b->n; k++)
            same = l->tokens[l->n - (b->n - 1) + k] == b->ids[k];
        if (same) return true;
    }
    for (uint32_t i = s->n_logit_bias; i > 0; i--)
        if (s->logit_bias[i - 1].id == id) return s->logit_bias[i - 1].value == -INFINITY;
    return false;
}

static bool lonely_allows(const void *arg, int32_t id) {
    const lonely *l = arg;
    const oct_request_spec *s = l->s;
    return !is_banned(l, id) &&
           (s->n_allowed_ids == 0 || in_list(s->allowed_ids, s->n_allowed_ids, id));
}

static uint64_t lonely_penalties(const lonely *l, uint64_t h) {
    const oct_sampling *p = &l->s->sampling;
    if (p->repetition_penalty == 1.0f && p->frequency_penalty == 0.0f &&
        p->presence_penalty == 0.0f)
        return h;
    for (int32_t id = 0; id < FAKE_VOCAB; id++) {
        uint32_t n_output = 0;
        const bool in_prompt =
            p->repetition_penalty != 1.0f && in_list(l->s->prompt, l->s->n_prompt, id);
        for (uint32_t i = l->s->n_prompt; i < l->n; i++) n_output += l->tokens[i] == id;
        if (n_output > 0 || in_prompt) h = mix_seen(h, id, n_output, in_prompt);
    }
    return h;
}

static uint64_t lonely_bias(const lonely *l, uint64_t h) {
    for (int32_t id = 0; id < FAKE_VOCAB; id++) {
        if (is_banned(l, id)) continue;
        for (uint32_t i = l->s->n_logit_bias; i > 0; i--)
            if (l->s->logit_bias[i - 1].id == id) {
                h = mix_float(mix(h, (uint64_t)id), l->s->logit_bias[i - 1].value);
                break;
            }
    }
    return h;
}

uint32_t fake_expect(const fake_backend *f, const oct_request_spec *s, uint64_t seed,
                     const int32_t *eos, uint32_t n_eos, int32_t *out) {
    int32_t tokens[FAKE_MAX_LEN];
    const oct_sampling *p = &s->sampling;
    const bool greedy = p->temperature < 1e-5f;
    lonely l = {s, eos, tokens, n_eos, s->n_prompt};
    memcpy(tokens, s->prompt, s->n_prompt * sizeof *tokens);
    for (;;) {
        const octet_sample_row row = {.temperature =
                                          p->temperature < 0.01f ? 0.01f : p->temperature,
                                      .top_p = p->top_p,
                                      .min_p = p->min_p,
                                      .top_k = p->top_k < 0 ? 0 : p->top_k,
                                      .repetition_penalty = p->repetition_penalty,
                                      .frequency_penalty = p->frequency_penalty,
                                      .presence_penalty = p->presence_penalty,
                                      .flags = greedy ? OCTET_SAMPLE_GREEDY : 0,
                                      .seed = seed,
                                      .choice = p->choice,
                                      .position = l.n};
        uint64_t h = lonely_penalties(&l, mix_row(fake_hash(tokens, l.n), &row));
        h = lonely_bias(&l, h);
        int32_t id = scripted(f, seed, l.n);
        if (id < 0 || !lonely_allows(&l, id)) id = pick(h, lonely_allows, &l);
        if (id < 0) return l.n - s->n_prompt;
        tokens[l.n++] = id;
        const uint32_t n_drawn = l.n - s->n_prompt;
        out[n_drawn - 1] = id;
        const bool stops =
            (!s->ignore_eos && in_list(eos, n_eos, id)) || in_list(s->stop_ids, s->n_stop_ids, id);
        if (n_drawn == s->max_tokens || (stops && n_drawn >= s->min_tokens)) return n_drawn;
    }
}
