/* tests/same/spy.c - see spy.h. */
#include "spy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/float_types.h"

enum { MAX_LAYERS = 8, MAX_LAYOUTS = 64, PROBE_WIDTH = 4096, NOT_A_PLACE = 0xff };

/* Which token of a block each of its bytes belongs to. */
typedef struct layout {
    uint32_t kind, n_kv_heads, head_dim, block_tokens;
    uint64_t block_bytes;
    uint8_t *place; /* [block_bytes], NOT_A_PLACE: padding */
} layout;

/* What a step said of the request. */
typedef struct sight {
    bool there;
    uint32_t kv_len;
    int32_t blocks[SAME_MAX_LEN / 32];
} sight;

static struct {
    oct_device *device;
    spy_plant plant;
    const octet_device_ops *real;
    octet_device_ops table;
    octet_stream *stream;
    octet_kv_desc layers[MAX_LAYERS];
    uint32_t n_layers;
    oct_model *model;
    uint64_t seed;
    uint32_t choice, block_tokens;
    sight sights[4]; /* of steps submitted and the one collected last */
    uint64_t n_submitted, n_collected;
} spy;

static void need_ok(int32_t code, const char *what) {
    if (code == OCTET_OK) return;
    fprintf(stderr, "spy: %s: %s\n", what, spy.real->error_text(spy.device->dev));
    exit(1);
}

/* ---- where the cache lies -------------------------------------------------------------------- */

static int32_t spy_attn_input(octet_stream *s, const octet_attn_input_op *op) {
    uint32_t i = 0;
    while (i < spy.n_layers && (spy.layers[i].base.buffer != op->kv.base.buffer ||
                                spy.layers[i].base.offset != op->kv.base.offset))
        i++;
    if (i == spy.n_layers && i < MAX_LAYERS) spy.layers[spy.n_layers++] = op->kv;
    return spy.real->attn_input(s, op);
}

void spy_attach(oct_device *d, spy_plant plant) {
    memset(&spy, 0, sizeof spy);
    spy.device = d;
    spy.plant = plant;
    spy.real = d->ops;
    spy.table = *d->ops;
    spy.table.attn_input = spy_attn_input;
    plant_install(&spy.table, d->dev, plant);
    d->ops = &spy.table;
    need_ok(spy.real->stream_create(d->dev, &spy.stream), "stream_create");
}

void spy_detach(void) {
    spy.real->stream_destroy(spy.stream);
    spy.device->ops = spy.real;
}

/* ---- how a block is laid out ----------------------------------------------------------------- */

static void read_bytes(void *dst, octet_ref src, uint64_t bytes) {
    need_ok(spy.real->read(spy.stream, dst, src, bytes), "read");
    need_ok(spy.real->stream_wait(spy.stream), "stream_wait");
}

static octet_buffer buffer_with(const void *data, uint64_t bytes) {
    octet_buffer b = 0;
    need_ok(spy.real->buffer_create(spy.device->dev, bytes, &b), "buffer_create");
    if (data) need_ok(spy.real->write(spy.stream, (octet_ref){b, 0}, data, bytes), "write");
    need_ok(spy.real->stream_wait(spy.stream), "stream_wait");
    return b;
}

/* One token at a place of block 0 of `cache`, which was filled with `with` before. */
static void write_token(const octet_kv_desc *kv, octet_buffer cache, uint8_t with, int32_t place,
                        uint8_t *out) {
    static float floats[PROBE_WIDTH];
    static uint16_t halves[PROBE_WIDTH];
    const bool bf16 = spy.device->info.act_dtype == OCTET_BF16;
    const int32_t batch[] = {0, place, 0, 1, 1, 0}; /* pos, slot, seq_row[2], kv_len, block */
    for (uint32_t i = 0; i < PROBE_WIDTH; i++) {
        floats[i] = 0.25f + (float)(i % 7);
        halves[i] = oct_f32_to_bf16(floats[i]);
    }
    octet_attn_input_op op = {.struct_bytes = sizeof op, .n_heads = kv->n_kv_heads, .kv = *kv};
    const uint64_t width = 3ull * kv->n_kv_heads * kv->head_dim;
    if (width > PROBE_WIDTH) need_ok(OCTET_E_INVALID, "more heads than the probe has room for");
    const octet_buffer qkv = bf16 ? buffer_with(halves, width * sizeof *halves)
                                  : buffer_with(floats, width * sizeof *floats);
    const octet_buffer ints = buffer_with(batch, sizeof batch);
    op.qkv = (octet_rows){{qkv, 0}, width};
    op.kv.base = (octet_ref){cache, 0};
    op.batch = (octet_batch){.struct_bytes = sizeof op.batch,
                             .n_seqs = 1,
                             .n_rows = 1,
                             .max_seq_rows = 1,
                             .max_kv_len = 1,
                             .table_stride = 1,
                             .row_pos = {ints, 0},
                             .row_slot = {ints, 4},
                             .seq_row = {ints, 8},
                             .seq_kv_len = {ints, 16},
                             .block_table = {ints, 20}};
    need_ok(spy.real->fill(spy.stream, op.kv.base, with, kv->block_bytes), "fill");
    need_ok(spy.real->attn_input(spy.stream, &op), "attn_input");
    read_bytes(out, op.kv.base, kv->block_bytes);
    spy.real->buffer_destroy(spy.device->dev, qkv);
    spy.real->buffer_destroy(spy.device->dev, ints);
}

static void probe(const octet_kv_desc *kv, layout *l) {
    uint8_t *zeros = malloc(kv->block_bytes), *ones = malloc(kv->block_bytes);
    const octet_buffer cache = buffer_with(NULL, kv->block_bytes);
    *l = (layout){kv->kind,         kv->n_kv_heads,  kv->head_dim,
                  kv->block_tokens, kv->block_bytes, malloc(kv->block_bytes)};
    if (!zeros || !ones || !l->place) need_ok(OCTET_E_NOMEM, "no memory");
    memset(l->place, NOT_A_PLACE, l->block_bytes);
    for (uint32_t p = 0; p < kv->block_tokens; p++) {
        uint64_t n = 0;
        write_token(kv, cache, 0x00, (int32_t)p, zeros);
        write_token(kv, cache, 0xff, (int32_t)p, ones);
        for (uint64_t i = 0; i < l->block_bytes; i++) {
            if (zeros[i] != ones[i]) continue;
            if (l->place[i] != NOT_A_PLACE) need_ok(OCTET_E_INVALID, "a byte of two tokens");
            l->place[i] = (uint8_t)p;
            n++;
        }
        /* At least a byte for each number. */
        if (n < 2ull * kv->n_kv_heads * kv->head_dim) need_ok(OCTET_E_INVALID, "a token too small");
    }
    spy.real->buffer_destroy(spy.device->dev, cache);
    free(zeros);
    free(ones);
}

static const layout *layout_of(const octet_kv_desc *kv) {
    static layout known[MAX_LAYOUTS];
    static uint32_t n_known;
    for (uint32_t i = 0; i < n_known; i++) {
        const layout *l = &known[i];
        if (l->kind == kv->kind && l->n_kv_heads == kv->n_kv_heads && l->head_dim == kv->head_dim &&
            l->block_tokens == kv->block_tokens && l->block_bytes == kv->block_bytes)
            return l;
    }
    if (n_known == MAX_LAYOUTS) need_ok(OCTET_E_INVALID, "more layouts than expected");
    probe(kv, &known[n_known]);
    return &known[n_known++];
}

/* ---- following one request ------------------------------------------------------------------- */

static void look(const oct_model_batch *b, sight *s) {
    *s = (sight){0};
    for (uint32_t i = 0; b->sample && i < b->n_logits; i++) {
        const octet_sample_row *row = &b->sample[i];
        if (row->seed != spy.seed || row->choice != spy.choice || row->flags & OCTET_SAMPLE_FORCED)
            continue;
        uint32_t seq = 0;
        while (b->seq_row[seq + 1] <= b->logits_row[i]) seq++;
        s->there = true;
        s->kv_len = (uint32_t)b->seq_kv_len[seq];
        const uint32_t n = (s->kv_len + spy.block_tokens - 1) / spy.block_tokens;
        for (uint32_t k = 0; k < n && k < OCT_COUNT(s->blocks); k++)
            s->blocks[k] = b->block_table[seq * b->table_stride + k];
    }
}

static oct_status spy_submit(void *ctx, const oct_model_batch *batch, oct_err *err) {
    sight s;
    look(batch, &s);
    const oct_status st = oct_model_submit(ctx, batch, err);
    if (st == OCT_OK) spy.sights[spy.n_submitted++ % OCT_COUNT(spy.sights)] = s;
    return st;
}

static oct_status spy_collect(void *ctx, oct_model_result *result, oct_err *err) {
    spy.n_collected++;
    return oct_model_collect(ctx, result, err);
}

oct_engine_backend spy_backend(oct_model *m, uint64_t seed, uint32_t choice) {
    oct_engine_backend backend = oct_engine_backend_of(m);
    spy.model = m;
    spy.seed = seed;
    spy.choice = choice;
    spy.block_tokens = backend.block_tokens;
    backend.submit = spy_submit;
    backend.collect = spy_collect;
    return backend;
}

/* Turns a bit of the token at a place of a block over. */
static void flip_bit(const octet_kv_desc *kv, int32_t block, uint32_t place) {
    const layout *l = layout_of(kv);
    octet_ref at = {kv->base.buffer, kv->base.offset + (uint64_t)block * kv->block_bytes};
    uint64_t i = 0;
    uint8_t byte;
    while (l->place[i] != place) i++;
    at.offset += i;
    read_bytes(&byte, at, 1);
    byte ^= 1;
    need_ok(spy.real->write(spy.stream, at, &byte, 1), "write");
    need_ok(spy.real->stream_wait(spy.stream), "stream_wait");
}

static void hash_block(const octet_kv_desc *kv, int32_t block, uint32_t n_tokens, uint64_t *out) {
    const layout *l = layout_of(kv);
    const octet_ref at = {kv->base.buffer, kv->base.offset + (uint64_t)block * kv->block_bytes};
    uint8_t *bytes = malloc(kv->block_bytes);
    if (!bytes) need_ok(OCTET_E_NOMEM, "no memory");
    read_bytes(bytes, at, kv->block_bytes);
    for (uint64_t i = 0; i < kv->block_bytes; i++)
        if (l->place[i] < n_tokens)
            out[l->place[i]] = (out[l->place[i]] ^ bytes[i]) * 0x100000001b3u;
    free(bytes);
}

bool spy_read_kv(uint32_t n, uint64_t out[SAME_MAX_LEN]) {
    const sight *s = &spy.sights[(spy.n_collected - 1) % OCT_COUNT(spy.sights)];
    if (spy.n_collected == 0 || !s->there || s->kv_len < n || n > SAME_MAX_LEN) return false;
    if (spy.n_layers == 0) return false;
    if (spy.plant == PLANT_KV_BIT)
        flip_bit(&spy.layers[spy.n_layers - 1], s->blocks[(n - 1) / spy.block_tokens],
                 (n - 1) % spy.block_tokens);
    for (uint32_t t = 0; t < n; t++) out[t] = 0xcbf29ce484222325u;
    for (uint32_t layer = 0; layer < spy.n_layers; layer++)
        for (uint32_t t = 0; t < n; t += spy.block_tokens) {
            const uint32_t here = n - t < spy.block_tokens ? n - t : spy.block_tokens;
            hash_block(&spy.layers[layer], s->blocks[t / spy.block_tokens], here, out + t);
        }
    return true;
}
