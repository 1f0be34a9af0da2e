/*
 * model/model.c - life of a model: buffers sized once from the limits, batches uploaded in one
 * transfer, results downloaded in one.
 *
 * Invariants
 *   I1  Device buffers keep their address from load to destroy.
 *   I2  Nothing is allocated by submit and collect (taps excepted).
 *   I3  Between submit and collect the host staging memory of the step is not touched.
 *   I4  A slot that is not pending is not in the stream either: whoever gives up a step waits.
 */
#include "model/model.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/log.h"
#include "model/parts.h"
#include "model/rope.h"

enum {
    DEFAULT_ROWS = 2048,
    DEFAULT_SEQS = 256,
    MAX_TOP = OCT_MODEL_MAX_TOP,
    ROPE_ROWS_AT_ONCE = 1024,
    LIST_PER_ROW = 64, /* room for penalty and bias entries, on average; more is a bigger buffer */
};

/* A bump allocator over a buffer that is being measured or laid out. */
typedef struct layout {
    octet_buffer buffer;
    uint64_t used;
} layout;

static octet_ref lay(layout *l, uint64_t bytes) {
    const octet_ref at = {l->buffer, l->used};
    l->used += (bytes + 63) / 64 * 64;
    return at;
}

static octet_rows lay_rows(layout *l, uint64_t n, uint64_t width, uint64_t element) {
    const uint64_t stride = (width + 15) / 16 * 16;
    return (octet_rows){lay(l, n * stride * element), stride};
}

static void lay_experts(const oct_model *m, layout *l, oct_scratch *s) {
    const oct_model_config *c = &m->config;
    const uint64_t act = m->device->info.act_dtype == OCTET_F32 ? 4 : 2;
    const uint64_t rows = m->info.max_rows, grouped = rows * c->n_experts_used;
    const uint64_t inner = c->moe_intermediate;
    s->router = lay_rows(l, rows, c->n_experts, 4);
    s->expert = lay(l, grouped * 4);
    s->place = lay(l, grouped * 4);
    s->weight = lay(l, grouped * 4);
    s->row = lay(l, grouped * 4);
    s->first = lay(l, (c->n_experts + 1) * 4ull);
    s->wide = lay_rows(l, grouped, oct_max_size(2 * inner, c->hidden), act);
    s->inner = lay_rows(l, grouped, inner, act);
    s->grouped_q.stride = (oct_max_size(inner, c->hidden) + 63) / 64 * 64;
    s->grouped_q.data = lay(l, grouped * s->grouped_q.stride);
    s->grouped_q.scale = lay(l, grouped * 4);
    if (c->shared_intermediate) s->shared = lay_rows(l, rows, c->hidden, act);
    s->shared_gate = (octet_rows){lay(l, rows * 4), 1};
}

static void lay_scratch(const oct_model *m, layout *l, oct_scratch *s) {
    const oct_model_config *c = &m->config;
    const uint64_t act = m->device->info.act_dtype == OCTET_F32 ? 4 : 2;
    const uint64_t rows = m->info.max_rows, picks = m->info.max_logits;
    const uint64_t q = (uint64_t)c->n_heads * c->head_dim,
                   kv = (uint64_t)c->n_kv_heads * c->head_dim;
    uint64_t inner = 0;
    bool post = m->arch->attn_post_norm || m->arch->mlp_post_norm, experts = false;
    for (uint32_t i = 0; i < c->n_layers; i++) {
        inner = oct_max_size(inner, oct_arch_mlp_width(c, i));
        experts |= c->layer_is_moe[i];
    }
    const uint64_t widest = oct_max_size(oct_max_size(c->hidden, inner), q);

    s->x = lay_rows(l, rows, c->hidden, act);
    s->h = lay_rows(l, rows, widest, act);
    s->qkv = lay_rows(l, rows, q + 2 * kv, act);
    s->gate_up = lay_rows(l, rows, 2 * inner, act);
    if (post) s->y = lay_rows(l, rows, c->hidden, act);
    if (post) s->post = lay_rows(l, rows, c->hidden, act);
    s->picked = lay_rows(l, picks, c->hidden, act);
    s->picked_h = lay_rows(l, picks, c->hidden, act);
    s->logits = lay_rows(l, picks, c->vocab, 4);
    s->q.stride = (widest + 63) / 64 * 64;
    s->q.data = lay(l, (rows > picks ? rows : picks) * s->q.stride);
    s->q.scale = lay(l, (rows > picks ? rows : picks) * 4);
    if (experts) lay_experts(m, l, s);
}

static oct_status make_buffer(oct_model *m, uint64_t bytes, const char *what, octet_buffer *out,
                              oct_err *err) {
    const int32_t code = m->device->ops->buffer_create(m->device->dev, bytes, out);
    return oct_device_check_memory(m->device, code, what, bytes, err);
}

/* Where each array of a batch lies in batch_buffer. */
typedef struct batch_places {
    octet_ref tokens, token_from, row_pos, row_slot, seq_row, seq_kv_len, block_table, logits_row;
    octet_ref sample, seen, bias, masks;
    uint64_t bytes;
} batch_places;

static batch_places lay_batch(const oct_model *m, const oct_model_batch *b) {
    layout l = {m->batch_buffer, 0};
    batch_places p;
    p.tokens = lay(&l, 4ull * b->n_rows);
    p.token_from = lay(&l, b->token_from ? 4ull * b->n_rows : 0);
    p.row_pos = lay(&l, 4ull * b->n_rows);
    p.row_slot = lay(&l, 4ull * b->n_rows);
    p.seq_row = lay(&l, 4ull * (b->n_seqs + 1));
    p.seq_kv_len = lay(&l, 4ull * b->n_seqs);
    p.block_table = lay(&l, 4ull * b->n_seqs * b->table_stride);
    p.logits_row = lay(&l, 4ull * b->n_logits);
    p.sample = lay(&l, sizeof(octet_sample_row) * (uint64_t)b->n_logits);
    p.seen = lay(&l, sizeof(octet_seen_token) * (uint64_t)b->n_seen);
    p.bias = lay(&l, sizeof(octet_bias) * (uint64_t)b->n_bias);
    p.masks = lay(&l, 4ull * b->n_masks * ((m->info.n_vocab + 31) / 32));
    p.bytes = l.used;
    return p;
}

/* Waits for all that is queued. What fails there is also the pending steps' failure. */
static int32_t settle_stream(oct_model *m) {
    const int32_t code = m->device->ops->stream_wait(m->stream);
    for (uint32_t i = 0; i < m->n_pending && code != 0; i++) {
        oct_slot *slot = &m->slots[(m->newest + OCT_MODEL_SLOTS - i) % OCT_MODEL_SLOTS];
        if (slot->late == 0) slot->late = code;
    }
    return code;
}

static void free_batch_slots(oct_model *m) {
    for (int i = 0; i < OCT_MODEL_SLOTS; i++) {
        oct_device_host_free(m->device, m->slots[i].batch, m->batch_bytes, m->slots[i].batch_fast);
        m->slots[i].batch = NULL;
    }
}

/* Room for a batch of the largest size; grown when lists or masks need more. */
static oct_status ensure_batch(oct_model *m, uint64_t bytes, oct_err *err) {
    if (bytes <= m->batch_bytes) return OCT_OK;
    const octet_device_ops *ops = m->device->ops;
    const uint64_t want = bytes + bytes / 4;
    unsigned char *host[OCT_MODEL_SLOTS];
    bool fast[OCT_MODEL_SLOTS];
    octet_buffer buffer;
    if (m->n_pending > 0)
        OCT_TRY(oct_device_check(m->device, settle_stream(m), "stream_wait", err));
    /* Not make_buffer: this happens in a step, whose requests alone it ends. */
    const int32_t code = ops->buffer_create(m->device->dev, want, &buffer);
    OCT_TRY(oct_device_check(m->device, code, "buffer_create for a batch", err));
    for (int i = 0; i < OCT_MODEL_SLOTS; i++) {
        host[i] = oct_device_host_alloc(m->device, want, &fast[i]);
        if (host[i]) continue;
        while (i-- > 0) oct_device_host_free(m->device, host[i], want, fast[i]);
        ops->buffer_destroy(m->device->dev, buffer);
        return OCT_FAIL(err, OCT_E_NOMEM, "model: no host memory for a batch of %llu bytes",
                        (unsigned long long)want);
    }
    oct_capture_forget(m);
    ops->buffer_destroy(m->device->dev, m->batch_buffer);
    free_batch_slots(m);
    for (int i = 0; i < OCT_MODEL_SLOTS; i++) {
        m->slots[i].batch = host[i];
        m->slots[i].batch_fast = fast[i];
    }
    m->batch_buffer = buffer;
    m->batch_bytes = want;
    return OCT_OK;
}

static oct_status make_rope(oct_model *m, oct_rope_table *t, oct_err *err) {
    const uint32_t half = t->config.rotary_dim / 2;
    t->frequencies = oct_calloc(m->mem, half + 1, sizeof *t->frequencies);
    if (!t->frequencies) return OCT_FAIL(err, OCT_E_NOMEM, "model: no memory");
    oct_rope_frequencies(&t->config, t->frequencies);
    return make_buffer(m, (uint64_t)m->info.max_model_len * (half * 2 + 2) * sizeof(float),
                       "rotary table", &t->buffer, err);
}

static oct_status make_step_buffers(oct_model *m, oct_err *err) {
    layout l = {0};
    lay_scratch(m, &l, &m->s);
    m->scratch_bytes = l.used;
    OCT_TRY(make_buffer(m, l.used, "step buffers", &m->scratch_buffer, err));
    l = (layout){m->scratch_buffer, 0};
    lay_scratch(m, &l, &m->s);

    const uint32_t most_blocks = (m->info.max_model_len - 1) / m->info.block_tokens + 1;
    const uint32_t masks = 0;
    const int32_t from = -1;
    const oct_model_batch largest = {.n_rows = m->info.max_rows,
                                     .token_from = &from, /* there is such a list */
                                     .n_seqs = m->info.max_seqs,
                                     .table_stride = most_blocks,
                                     .n_logits = m->info.max_logits,
                                     .n_seen = m->info.max_logits * LIST_PER_ROW,
                                     .n_bias = m->info.max_logits * LIST_PER_ROW,
                                     .n_masks = masks};
    OCT_TRY(ensure_batch(m, lay_batch(m, &largest).bytes, err));

    m->result_bytes =
        (uint64_t)m->info.max_logits * (sizeof(octet_sample_out) + MAX_TOP * 8ull + 64);
    OCT_TRY(make_buffer(m, m->result_bytes, "result buffer", &m->result_buffer, err));
    for (int i = 0; i < OCT_MODEL_SLOTS; i++) {
        oct_slot *slot = &m->slots[i];
        slot->result = oct_device_host_alloc(m->device, m->result_bytes, &slot->result_fast);
        if (!slot->result) return OCT_FAIL(err, OCT_E_NOMEM, "model: no host memory for results");
        OCT_TRY(oct_device_check(
            m->device, m->device->ops->event_create(m->device->dev, &slot->done), "event", err));
    }

    for (int i = 0; i < 2; i++)
        if (i == 0 || m->config.has_local_rope) OCT_TRY(make_rope(m, &m->rope[i], err));
    return OCT_OK;
}

/* Makes rows begin .. end - 1 of a rotary table. */
static oct_status fill_rope(oct_model *m, const oct_rope_table *t, uint32_t begin, uint32_t end,
                            oct_err *err) {
    const uint32_t dim = t->config.rotary_dim;
    const size_t count = (size_t)(end - begin) * dim;
    float *rows = oct_alloc(m->mem, count, sizeof *rows);
    if (!rows) return OCT_FAIL(err, OCT_E_NOMEM, "model: no memory for %zu rotary values", count);
    for (uint32_t p = begin; p < end; p++)
        oct_rope_row(&t->config, t->frequencies, p, rows + (size_t)(p - begin) * dim);
    const octet_ref at = {t->buffer, (uint64_t)begin * dim * sizeof(float)};
    int32_t code = m->device->ops->write(m->stream, at, rows, count * sizeof *rows);
    const int32_t late = settle_stream(m);
    if (code == 0) code = late;
    oct_free(m->mem, rows, count, sizeof *rows);
    return oct_device_check(m->device, code, "write", err);
}

/* Makes the rows of the rotary tables below position n. */
static oct_status ensure_rope(oct_model *m, uint32_t n, oct_err *err) {
    if (n <= m->n_rope_rows) return OCT_OK;
    uint32_t end = (n + ROPE_ROWS_AT_ONCE - 1) / ROPE_ROWS_AT_ONCE * ROPE_ROWS_AT_ONCE;
    if (end > m->info.max_model_len) end = m->info.max_model_len;
    for (int i = 0; i < 2; i++)
        if (m->rope[i].buffer) OCT_TRY(fill_rope(m, &m->rope[i], m->n_rope_rows, end, err));
    m->n_rope_rows = end;
    return OCT_OK;
}

static oct_status upload_constants(oct_model *m, oct_err *err) {
    OCT_TRY(make_buffer(m, m->staged_len + 64, "constants", &m->constants, err));
    int32_t code =
        m->device->ops->write(m->stream, (octet_ref){m->constants, 0}, m->staged, m->staged_len);
    if (code == 0) code = m->device->ops->stream_wait(m->stream);
    oct_free(m->mem, m->staged, m->staged_cap, 1);
    m->staged = NULL;
    return oct_device_check(m->device, code, "write", err);
}

/* The factors of longrope and the base of dynamic NTK are those of the longest context that is
 * served, for all lengths alike, so that what a cache holds stays true when a sequence grows. Those
 * of the original length are better where they suffice: unless a length is asked for, the context
 * is theirs. */
static void settle_rope(oct_model *m) {
    const uint32_t original = m->config.rope.original_max_position;
    const bool is_long = m->config.rope.type == OCT_ROPE_LONG;
    if ((is_long || m->config.rope.type == OCT_ROPE_DYNAMIC) && !m->options.max_model_len &&
        m->info.max_model_len > original) {
        m->info.max_model_len = original;
        if (!m->options.quiet)
            oct_info("%s: contexts of %u tokens, %s; more, up to %u, with --max-model-len",
                     is_long ? "longrope" : "dynamic rope", original,
                     is_long ? "with the short factors" : "with the base as it is",
                     m->config.max_position);
    }
    m->rope[0].config = m->config.rope;
    m->rope[1].config = m->config.local_rope;
    oct_rope_settle(&m->rope[0].config, m->info.max_model_len);
}

/* What a device may lack. */
static oct_status check_device(const oct_model *m, oct_err *err) {
    if (m->config.n_experts && !oct_device_has_experts(m->device))
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "device %s has no operations for experts, which family %s needs",
                        m->device->info.name, oct_family_name(m->config.family));
    if (m->config.final_softcap != 0 && !OCTET_HAS(m->device->ops, softcap))
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "device %s has no softcap, which final_logit_softcapping needs",
                        m->device->info.name);
    return OCT_OK;
}

static oct_status settle_limits(oct_model *m, oct_err *err) {
    const oct_model_config *c = &m->config;
    const oct_model_options *o = &m->options;
    oct_model_info *i = &m->info;

    if (o->max_model_len > c->max_position)
        return OCT_FAIL(
            err, OCT_E_INVALID,
            "--max-model-len: more than the model's own length (got %u, want at most %u)",
            o->max_model_len, c->max_position);
    i->config = c;
    i->family = oct_family_name(c->family);
    i->max_model_len = o->max_model_len ? o->max_model_len : c->max_position;
    settle_rope(m);
    i->n_vocab = c->vocab;
    i->block_tokens = o->block_tokens ? o->block_tokens : OCT_MODEL_BLOCK_TOKENS;
    if (i->block_tokens % 32 != 0)
        return OCT_FAIL(err, OCT_E_INVALID, "--block-size: not a multiple of 32 (got %u)",
                        i->block_tokens);
    i->max_seqs = o->max_seqs ? o->max_seqs : DEFAULT_SEQS;
    i->max_rows = o->max_rows ? o->max_rows : DEFAULT_ROWS;
    if (i->max_rows < i->max_seqs) i->max_rows = i->max_seqs;
    i->max_logits = o->max_logits ? o->max_logits : i->max_seqs;
    return OCT_OK;
}

/* Multiply-adds of one row; of one expert's matrices. */
static uint64_t group_macs(const oct_group *g) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < g->n_mats; i++) sum += (uint64_t)g->mat[i].n * g->mat[i].k;
    return sum;
}

oct_status oct_model_load(const oct_allocator *mem, oct_device *device, oct_checkpoint *ckpt,
                          const oct_model_options *options, oct_model **out, oct_err *err) {
    *out = NULL;
    oct_model *m = oct_calloc(mem, 1, sizeof *m);
    if (!m) return OCT_FAIL(err, OCT_E_NOMEM, "model: no memory");
    m->mem = mem;
    m->device = device;
    m->config = *oct_checkpoint_config(ckpt);
    m->config.quantization_config = NULL; /* belongs to the checkpoint */
    if (options) m->options = *options;
    m->arch = oct_arch_of(m->config.family);
    m->embed_scale = (float)(m->config.embed_scale / m->config.residual_scale);
    m->eps = (float)(m->config.rms_eps / (m->config.residual_scale * m->config.residual_scale));
    m->layers = oct_calloc(mem, m->config.n_layers, sizeof *m->layers);

    oct_status st =
        m->layers ? settle_limits(m, err) : OCT_FAIL(err, OCT_E_NOMEM, "model: no memory");
    if (st == OCT_OK) st = check_device(m, err);
    if (st == OCT_OK)
        st = oct_device_check(device, device->ops->stream_create(device->dev, &m->stream), "stream",
                              err);
    if (st == OCT_OK) st = oct_model_bind(m, ckpt, err);
    if (st == OCT_OK) st = upload_constants(m, err);
    if (st == OCT_OK) st = make_step_buffers(m, err);
    if (st != OCT_OK) {
        oct_model_destroy(m);
        return st;
    }
    for (uint32_t l = 0; l < m->config.n_layers; l++) {
        const oct_layer *layer = &m->layers[l];
        const oct_experts *x = &layer->experts;
        const uint64_t used = m->config.n_experts_used;
        m->info.linear_macs += group_macs(&layer->qkv) + group_macs(&layer->o) +
                               group_macs(&layer->gate_up) + group_macs(&layer->down) +
                               group_macs(&x->router) + group_macs(&x->shared_gate) +
                               used * (group_macs(&x->gate_up) + group_macs(&x->down));
        m->info.kv_bytes_per_block += layer->kv.block_bytes;
    }
    m->info.kv_kind = oct_kv_most_layers(m);
    *out = m;
    return OCT_OK;
}

static void destroy_group(oct_model *m, const oct_group *g) {
    for (uint32_t i = 0; i < g->n_mats; i++)
        m->device->ops->weight_destroy(m->device->dev, g->mat[i].weight);
}

void oct_model_destroy(oct_model *m) {
    if (!m) return;
    const octet_device_ops *ops = m->device->ops;
    octet_device *dev = m->device->dev;
    oct_capture_forget(m);
    if (m->stream) ops->stream_destroy(m->stream);
    for (uint32_t l = 0; m->layers && l < m->config.n_layers; l++) {
        const oct_layer *layer = &m->layers[l];
        const oct_group *groups[] = {&layer->qkv,
                                     &layer->o,
                                     &layer->gate_up,
                                     &layer->down,
                                     &layer->experts.router,
                                     &layer->experts.gate_up,
                                     &layer->experts.down,
                                     &layer->experts.shared_gate};
        for (size_t g = 0; g < OCT_COUNT(groups); g++) destroy_group(m, groups[g]);
    }
    if (!m->head_is_embed) destroy_group(m, &m->head);
    ops->weight_destroy(dev, m->embed);
    const octet_buffer buffers[] = {m->constants,     m->scratch_buffer, m->kv_buffer,
                                    m->batch_buffer,  m->result_buffer,  m->rope[0].buffer,
                                    m->rope[1].buffer};
    for (size_t i = 0; i < OCT_COUNT(buffers); i++) ops->buffer_destroy(dev, buffers[i]);
    oct_shelves_fini(m);
    free_batch_slots(m);
    for (int i = 0; i < OCT_MODEL_SLOTS; i++) {
        ops->event_destroy(m->slots[i].done);
        oct_device_host_free(m->device, m->slots[i].result, m->result_bytes,
                             m->slots[i].result_fast);
    }
    oct_free(m->mem, m->staged, m->staged_cap, 1);
    oct_free(m->mem, m->tap_rows, m->tap_cap, sizeof *m->tap_rows);
    for (size_t i = 0; i < OCT_COUNT(m->rope); i++)
        oct_free(m->mem, m->rope[i].frequencies, m->rope[i].config.rotary_dim / 2 + 1,
                 sizeof *m->rope[i].frequencies);
    oct_free(m->mem, m->layers, m->config.n_layers, sizeof *m->layers);
    oct_free(m->mem, m, 1, sizeof *m);
}

const oct_model_info *oct_model_get_info(const oct_model *m) { return &m->info; }

oct_status oct_model_kv_create(oct_model *m, uint32_t n_blocks, oct_err *err) {
    uint64_t bytes;
    OCT_ASSERT(!m->kv_buffer && n_blocks > 0);
    if (n_blocks > INT32_MAX / m->info.block_tokens ||
        !oct_mul_u64(n_blocks, m->info.kv_bytes_per_block, &bytes))
        return OCT_FAIL(err, OCT_E_INVALID, "KV cache: %u blocks cannot be addressed", n_blocks);
    OCT_TRY(make_buffer(m, bytes, "KV cache", &m->kv_buffer, err));
    m->n_blocks = n_blocks;
    uint64_t at = 0;
    for (uint32_t l = 0; l < m->config.n_layers; l++) {
        oct_layer *layer = &m->layers[l];
        layer->kv.base = (octet_ref){m->kv_buffer, at};
        layer->kv.k_scale = oct_const_ref(m, layer->k_scale);
        layer->kv.k_offset = oct_const_ref(m, layer->k_offset);
        layer->kv.v_scale = oct_const_ref(m, layer->v_scale);
        layer->kv.v_offset = oct_const_ref(m, layer->v_offset);
        at += layer->kv.block_bytes * n_blocks;
    }
    return OCT_OK;
}

bool oct_model_has_kv(const oct_model *m) { return m->kv_buffer != 0; }

/* Everything the device will index with, checked once here. */
static oct_status check_batch(const oct_model *m, const oct_model_batch *b, uint32_t *end_pos,
                              oct_err *err) {
    const oct_model_info *i = &m->info;
    const int64_t n_slots = (int64_t)m->n_blocks * i->block_tokens;
    const oct_slot *before = &m->slots[m->newest];
    if (b->n_rows == 0 || b->n_rows > i->max_rows || b->n_seqs == 0 || b->n_seqs > i->max_seqs ||
        b->n_logits > i->max_logits || b->max_top > MAX_TOP || m->n_pending == OCT_MODEL_SLOTS ||
        !m->kv_buffer)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "step: %u rows of %u sequences, %u logits: out of limits", b->n_rows,
                        b->n_seqs, b->n_logits);
    *end_pos = 0;
    for (uint32_t r = 0; r < b->n_rows; r++) {
        const int32_t from = b->token_from ? b->token_from[r] : -1;
        if (from >= 0 && (!before->sampled || (uint32_t)from >= before->n_logits))
            return OCT_FAIL(err, OCT_E_INVALID, "step: no token of row %d of the step before",
                            from);
        if (from < 0 && (b->tokens[r] < 0 || (uint32_t)b->tokens[r] >= m->config.vocab))
            return OCT_FAIL(err, OCT_E_INVALID, "step: token id %d is not below %u", b->tokens[r],
                            m->config.vocab);
        if (b->row_pos[r] < 0 || (uint32_t)b->row_pos[r] >= i->max_model_len ||
            b->row_slot[r] >= n_slots)
            return OCT_FAIL(err, OCT_E_INVALID, "step: position %d, slot %d: out of limits",
                            b->row_pos[r], b->row_slot[r]);
        if ((uint32_t)b->row_pos[r] >= *end_pos) *end_pos = (uint32_t)b->row_pos[r] + 1;
    }
    for (uint32_t k = 0; k < b->n_logits; k++)
        if (b->logits_row[k] < 0 || (uint32_t)b->logits_row[k] >= b->n_rows)
            return OCT_FAIL(err, OCT_E_INVALID, "step: no row %d for logits", b->logits_row[k]);
    return OCT_OK;
}

static void put(unsigned char *host, octet_ref at, const void *src, uint64_t bytes) {
    if (bytes) memcpy(host + at.offset, src, bytes);
}

/* Rows of padding: they belong to no sequence, write nothing, and whatever is drawn from them is
 * not looked at. */
static void fill_padding(const oct_model_batch *b, const oct_model_batch *shape,
                         const batch_places *p, unsigned char *host) {
    int32_t *tokens = (int32_t *)(void *)(host + p->tokens.offset);
    int32_t *from = (int32_t *)(void *)(host + p->token_from.offset);
    int32_t *pos = (int32_t *)(void *)(host + p->row_pos.offset);
    int32_t *slot = (int32_t *)(void *)(host + p->row_slot.offset);
    int32_t *logits_row = (int32_t *)(void *)(host + p->logits_row.offset);
    octet_sample_row *sample = (octet_sample_row *)(void *)(host + p->sample.offset);
    for (uint32_t r = b->n_rows; r < shape->n_rows; r++) {
        tokens[r] = pos[r] = 0;
        slot[r] = -1;
        if (shape->token_from) from[r] = -1;
        logits_row[r] = (int32_t)r; /* as many rows as logits: only decodes are padded */
        sample[r] = (octet_sample_row){.temperature = 1,
                                       .top_p = 1,
                                       .repetition_penalty = 1,
                                       .flags = OCTET_SAMPLE_GREEDY,
                                       .mask = -1};
    }
    for (uint32_t s = b->n_seqs; s < shape->n_seqs; s++) {
        ((int32_t *)(void *)(host + p->seq_row.offset))[s + 1] = (int32_t)b->n_rows;
        ((int32_t *)(void *)(host + p->seq_kv_len.offset))[s] = 0;
    }
}

/* The batch as the device will find it, laid out for the counts of shape. */
static void fill_batch(const oct_model *m, const oct_model_batch *b, const oct_model_batch *shape,
                       const batch_places *p, unsigned char *host) {
    const uint64_t mask_words = (m->info.n_vocab + 31) / 32;
    put(host, p->tokens, b->tokens, 4ull * b->n_rows);
    if (b->token_from) put(host, p->token_from, b->token_from, 4ull * b->n_rows);
    put(host, p->row_pos, b->row_pos, 4ull * b->n_rows);
    put(host, p->row_slot, b->row_slot, 4ull * b->n_rows);
    put(host, p->seq_row, b->seq_row, 4ull * (b->n_seqs + 1));
    put(host, p->seq_kv_len, b->seq_kv_len, 4ull * b->n_seqs);
    octet_ref table = p->block_table;
    for (uint32_t s = 0; s < b->n_seqs; s++, table.offset += 4ull * shape->table_stride) {
        put(host, table, b->block_table + (size_t)s * b->table_stride, 4ull * b->table_stride);
        memset(host + table.offset + 4ull * b->table_stride, 0,
               4ull * (shape->table_stride - b->table_stride));
    }
    put(host, p->logits_row, b->logits_row, 4ull * b->n_logits);
    if (b->sample) put(host, p->sample, b->sample, sizeof *b->sample * (uint64_t)b->n_logits);
    put(host, p->seen, b->seen, sizeof *b->seen * (uint64_t)b->n_seen);
    put(host, p->bias, b->bias, sizeof *b->bias * (uint64_t)b->n_bias);
    put(host, p->masks, b->masks, 4ull * b->n_masks * mask_words);
    if (shape->n_rows > b->n_rows) fill_padding(b, shape, p, host);
}

/* What is drawn comes first, at the same place in every step: the next one may read it there. */
static uint64_t lay_result(octet_buffer buffer, uint64_t n, uint64_t max_top, octet_ref *out,
                           octet_ref *top_id, octet_ref *top_logprob) {
    layout r = {buffer, 0};
    *out = lay(&r, sizeof(octet_sample_out) * n);
    *top_id = lay(&r, 4 * n * max_top);
    *top_logprob = lay(&r, 4 * n * max_top);
    return r.used;
}

static oct_step step_of(const oct_model *m, const oct_model_batch *b, const batch_places *p,
                        uint64_t *result_bytes) {
    oct_step step = {.batch = {.struct_bytes = sizeof step.batch,
                               .n_seqs = b->n_seqs,
                               .n_rows = b->n_rows,
                               .max_seq_rows = b->max_seq_rows,
                               .max_kv_len = b->max_kv_len,
                               .table_stride = b->table_stride,
                               .row_pos = p->row_pos,
                               .row_slot = p->row_slot,
                               .seq_row = p->seq_row,
                               .seq_kv_len = p->seq_kv_len,
                               .block_table = p->block_table},
                     .tokens = p->tokens,
                     .logits_row = p->logits_row,
                     .n_rows = b->n_rows,
                     .n_logits = b->n_logits,
                     .feed = b->token_from != NULL,
                     .feed_op = {.struct_bytes = sizeof step.feed_op,
                                 .n_rows = b->n_rows,
                                 .n_drawn = m->info.max_logits,
                                 .n_vocab = m->info.n_vocab,
                                 .ids = p->tokens,
                                 .from = p->token_from,
                                 .drawn = {m->result_buffer, 0}},
                     .sample = b->sample && b->n_logits,
                     .sample_op = {.struct_bytes = sizeof step.sample_op,
                                   .n_rows = b->n_logits,
                                   .n_vocab = m->info.n_vocab,
                                   .max_top = b->max_top,
                                   .logits = m->s.logits,
                                   .rows = p->sample,
                                   .seen = b->n_seen ? p->seen : (octet_ref){0},
                                   .bias = b->n_bias ? p->bias : (octet_ref){0},
                                   .masks = b->n_masks ? p->masks : (octet_ref){0}}};
    *result_bytes = lay_result(m->result_buffer, b->n_logits, b->max_top, &step.sample_op.out,
                               &step.sample_op.top_id, &step.sample_op.top_logprob);
    return step;
}

/* All of a step, from the host's memory and back to it. */
static oct_status queue_step(oct_model *m, const oct_model_batch *b, const oct_model_batch *shape,
                             bool record, oct_slot *slot, oct_err *err) {
    const octet_device_ops *ops = m->device->ops;
    const batch_places p = lay_batch(m, shape);
    uint64_t result_bytes = 0;
    const oct_step step = step_of(m, shape, &p, &result_bytes);
    fill_batch(m, b, shape, &p, slot->batch);
    OCT_TRY(oct_device_check(
        m->device, ops->write(m->stream, (octet_ref){m->batch_buffer, 0}, slot->batch, p.bytes),
        "write", err));
    OCT_TRY(record ? oct_capture_run(m, shape, &step, err) : oct_model_forward(m, &step, err));
    if (step.sample)
        OCT_TRY(oct_device_check(
            m->device,
            ops->read(m->stream, slot->result, (octet_ref){m->result_buffer, 0}, result_bytes),
            "read", err));
    return oct_device_check(m->device, ops->event_record(m->stream, slot->done), "event_record",
                            err);
}

oct_status oct_model_submit(oct_model *m, const oct_model_batch *b, oct_err *err) {
    const uint32_t at = (m->newest + 1) % OCT_MODEL_SLOTS;
    oct_slot *slot = &m->slots[at];
    uint32_t end_pos = 0;
    OCT_TRY(check_batch(m, b, &end_pos, err));
    OCT_TRY(ensure_rope(m, end_pos, err));
    oct_model_batch shape;
    const bool record = oct_capture_shape(m, b, &shape);
    OCT_TRY(ensure_batch(m, lay_batch(m, &shape).bytes, err));
    const oct_status st = queue_step(m, b, &shape, record, slot, err);
    if (st != OCT_OK) { /* what was queued reads the slot's memory, and errors may wait */
        (void)settle_stream(m);
        return st;
    }
    slot->n_logits = b->n_logits;
    slot->n_laid = shape.n_logits;
    slot->max_top = b->max_top;
    slot->sampled = b->sample && b->n_logits;
    slot->late = 0;
    m->newest = at;
    m->n_pending++;
    return OCT_OK;
}

oct_status oct_model_collect(oct_model *m, oct_model_result *result, oct_err *err) {
    OCT_ASSERT(m->n_pending > 0);
    const octet_device_ops *ops = m->device->ops;
    oct_slot *slot = &m->slots[(m->newest + OCT_MODEL_SLOTS + 1 - m->n_pending) % OCT_MODEL_SLOTS];
    *result = (oct_model_result){0};
    int32_t code = slot->late;
    if (code == 0)
        code = m->n_pending > 1 ? ops->event_wait(slot->done) : ops->stream_wait(m->stream);
    m->n_pending--;
    OCT_TRY(oct_device_check(m->device, code, "step", err));
    if (!slot->sampled) return OCT_OK;
    octet_ref out, top_id, top_logprob;
    (void)lay_result(0, slot->n_laid, slot->max_top, &out, &top_id, &top_logprob);
    result->n = slot->n_logits;
    result->max_top = slot->max_top;
    result->out = (const void *)(slot->result + out.offset);
    result->top_id = (const void *)(slot->result + top_id.offset);
    result->top_logprob = (const void *)(slot->result + top_logprob.offset);
    return OCT_OK;
}

uint64_t oct_model_n_replays(const oct_model *m) { return m->n_replays; }

bool oct_model_can_overlap(const oct_model *m) {
    return oct_device_can_overlap(m->device) && !m->tap;
}

oct_status oct_model_probe(oct_model *m, oct_err *err) {
    const octet_device_ops *ops = m->device->ops;
    const octet_ref at = {m->batch_buffer ? m->batch_buffer : m->constants, 0};
    float word;
    OCT_TRY(oct_device_check(m->device, ops->read(m->stream, &word, at, sizeof word), "read", err));
    return oct_device_check(m->device, ops->stream_wait(m->stream), "stream_wait", err);
}

oct_status oct_model_read_logits(oct_model *m, float *out, oct_err *err) {
    const uint64_t row_bytes = (uint64_t)m->info.n_vocab * sizeof(float);
    for (uint32_t r = 0; r < m->slots[m->newest].n_logits; r++) {
        octet_ref at = m->s.logits.data;
        at.offset += r * m->s.logits.stride * sizeof(float);
        OCT_TRY(oct_device_check(
            m->device,
            m->device->ops->read(m->stream, out + (size_t)r * m->info.n_vocab, at, row_bytes),
            "read", err));
    }
    return oct_device_check(m->device, m->device->ops->stream_wait(m->stream), "read", err);
}

void oct_model_set_tap(oct_model *m, oct_tap_fn *tap, void *ctx) {
    m->tap = tap;
    m->tap_ctx = ctx;
}
