/*
 * model/capture.c - steps recorded once and replayed.
 *
 * A recorded step is a list of operations with all their numbers; what differs from step to step
 * (tokens, positions, block tables, sampling) lies in the batch buffer. So two steps may share a
 * recording when everything that is a number in an operation, or decides where an array lies in the
 * batch buffer, is equal: that is a shape. To make shapes meet again, block tables are laid out for
 * a power of two of blocks, and batches are padded up to the sizes that were asked for. Rows of
 * padding belong to no sequence and write nothing.
 *
 * A shape is computed by calls the first time (or more: n_warmups), then recorded. When there are
 * too many, the one that was not used for longest goes.
 */
#include <string.h>

#include "base/assert.h"
#include "base/fault.h"
#include "model/parts.h"

enum { MIN_STRIDE = 8 }; /* blocks */

static bool can_capture(const oct_model *m, const oct_model_batch *b) {
    const oct_capture_options *o = &m->options.capture;
    if (o->mode == OCT_CAPTURE_NONE || m->tap || !oct_device_can_capture(m->device)) return false;
    /* Lists are as long as their requests want; there are few such steps alike. */
    if (b->n_seen > 0 || b->n_bias > 0 || b->n_masks > 0 || (b->n_logits > 0 && !b->sample))
        return false;
    const bool decode = b->max_seq_rows == 1 && b->n_logits == b->n_rows;
    if (decode) return o->max_size == 0 || b->n_rows <= o->max_size;
    return o->mode == OCT_CAPTURE_ALL;
}

/* The next size that is recorded; n itself without a list, or beyond its end. */
static uint32_t padded(const oct_model *m, uint32_t n) {
    const oct_capture_options *o = &m->options.capture;
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < o->n_sizes; i++)
        if (o->sizes[i] >= n && o->sizes[i] < best) best = o->sizes[i];
    return best <= m->info.max_seqs && best <= m->info.max_logits ? best : n;
}

bool oct_capture_shape(const oct_model *m, const oct_model_batch *b, oct_model_batch *shape) {
    *shape = *b;
    if (!can_capture(m, b)) return false;
    const uint32_t most = (m->info.max_model_len - 1) / m->info.block_tokens + 1;
    uint32_t stride = MIN_STRIDE;
    while (stride < b->table_stride) stride *= 2;
    shape->table_stride = stride < most ? stride : most;
    shape->max_kv_len = shape->table_stride * m->info.block_tokens;
    if (b->max_seq_rows == 1 && b->n_logits == b->n_rows)
        shape->n_rows = shape->n_seqs = shape->n_logits = padded(m, b->n_rows);
    return true;
}

static oct_recording key_of(const oct_model_batch *shape) {
    return (oct_recording){.n_rows = shape->n_rows,
                           .n_seqs = shape->n_seqs,
                           .n_logits = shape->n_logits,
                           .max_seq_rows = shape->max_seq_rows,
                           .table_stride = shape->table_stride,
                           .max_top = shape->max_top,
                           .feed = shape->token_from != NULL};
}

static bool same_key(const oct_recording *a, const oct_recording *b) {
    return a->n_rows == b->n_rows && a->n_seqs == b->n_seqs && a->n_logits == b->n_logits &&
           a->max_seq_rows == b->max_seq_rows && a->table_stride == b->table_stride &&
           a->max_top == b->max_top && a->feed == b->feed;
}

/* The entry of the shape; a new one takes the place of the one that was not used for longest. */
static oct_recording *find(oct_model *m, const oct_recording *key) {
    oct_recording *oldest = &m->recordings[0];
    for (int i = 0; i < OCT_MODEL_RECORDINGS; i++) {
        oct_recording *r = &m->recordings[i];
        if (r->last_used > 0 && same_key(r, key)) return r;
        if (r->last_used < oldest->last_used) oldest = r;
    }
    if (oldest->graph) m->device->ops->graph_destroy(oldest->graph);
    *oldest = *key;
    return oldest;
}

oct_status oct_capture_run(oct_model *m, const oct_model_batch *shape, const oct_step *step,
                           oct_err *err) {
    const octet_device_ops *ops = m->device->ops;
    const oct_recording key = key_of(shape);
    oct_recording *r = find(m, &key);
    r->last_used = ++m->n_recorded_steps;
    if (!r->graph && r->n_seen++ < m->options.capture.n_warmups)
        return oct_model_forward(m, step, err);
    if (!r->graph) {
        const int32_t begun =
            OCT_FAULT(RECORDING, 0) ? OCTET_E_DEVICE : ops->capture_begin(m->stream);
        OCT_TRY(oct_device_check(m->device, begun, "capture_begin", err));
        const oct_status st = oct_model_forward(m, step, err);
        const int32_t code = ops->capture_end(m->stream, &r->graph);
        if (st == OCT_OK) OCT_TRY(oct_device_check(m->device, code, "capture_end", err));
        if (st != OCT_OK) {
            if (code == 0) ops->graph_destroy(r->graph);
            r->graph = NULL;
            return st;
        }
    }
    m->n_replays++;
    return oct_device_check(m->device, ops->replay(m->stream, r->graph), "replay", err);
}

void oct_capture_forget(oct_model *m) {
    for (int i = 0; i < OCT_MODEL_RECORDINGS; i++) {
        if (m->recordings[i].graph) m->device->ops->graph_destroy(m->recordings[i].graph);
        m->recordings[i] = (oct_recording){0};
    }
}
