/*
 * device/conform_model.c - operations in a row: a transformer of a few layers with random weights,
 * as a prompt, in chunks, as decodes, recorded and replayed.
 *
 * What must hold on one device whatever its arithmetic is compared with zero tolerance on the
 * device itself and enters the outputs as a number that is 1 when it held: chunks give the bits of
 * the whole prompt, neighbours in the batch do not show, replay gives the bits of the calls.
 */
#include <math.h>
#include <string.h>

#include "device/conform_side.h"

enum {
    VOCAB = 97,
    WIDTH = 64,
    HEADS = 4,
    KV_HEADS = 2,
    DIM = 16,
    FF = 96,
    LAYERS = 3,
    QKV = (HEADS + 2 * KV_HEADS) * DIM,
    BLOCK = 32,
    N_SEQ = 2,
    SEQ_BLOCKS = 4,
    MAX_ROWS = 64,
    N_ROPE = SEQ_BLOCKS * BLOCK,
};

/* Blocks of the two sequences: no order, no neighbours. */
static const int32_t table[N_SEQ * SEQ_BLOCKS] = {5, 0, 7, 2, 1, 6, 3, 4};

typedef struct layer {
    octet_ref norm_in, norm_mid;
    octet_weight qkv, o, gate_up, down;
    octet_kv_desc kv;
} layer;

typedef struct model {
    uint32_t kv_kind, quant_mode; /* of the rows before each product */
    octet_weight embed, head;
    octet_ref norm_out, rope;
    layer layers[LAYERS];
    /* rows of a step */
    octet_rows x, add, qkv, gate_up, last;
    octet_quant q_width, q_heads, q_ff; /* int8 rows by width */
    octet_ref logits;
    /* the step's tables, written before each step: one buffer each, so that a recorded step sees
     * the next one's */
    octet_ref ids, row_pos, row_slot, seq_row, seq_kv_len, block_table, wanted;
} model;

static octet_weight matrix(oct_cf_side *s, uint32_t n, uint32_t k, float in) {
    const oct_cf_matrix m = {
        .dtype = OCTET_I8, .n = n, .k = k, .size = in / (74 * sqrtf((float)k))};
    return oct_cf_weight(s, &m);
}

static octet_ref ones(oct_cf_side *s, size_t n) {
    float *w = oct_cf_mem(s, n, sizeof *w);
    for (size_t i = 0; i < n; i++) w[i] = oct_cf_uniform(s, 0.5f, 1.5f);
    return oct_cf_put(s, w, n * sizeof *w);
}

static octet_kv_desc cache(oct_cf_side *s, uint32_t kind) {
    octet_kv_desc kv = {.struct_bytes = sizeof kv,
                        .kind = kind,
                        .n_kv_heads = KV_HEADS,
                        .head_dim = DIM,
                        .block_tokens = BLOCK};
    float scale[KV_HEADS * DIM];
    for (int i = 0; i < KV_HEADS * DIM; i++) scale[i] = 0.02f + 0.001f * (float)(i % 7);
    if (!oct_cf_kv_bytes(s, &kv)) return kv;
    kv.base = oct_cf_room(s, N_SEQ * SEQ_BLOCKS * kv.block_bytes);
    if (kind != OCTET_KV_I8_CHANNEL && kind != OCTET_KV_FP8_CHANNEL) return kv;
    kv.k_scale = oct_cf_put(s, scale, sizeof scale);
    kv.v_scale = oct_cf_put(s, scale, sizeof scale);
    return kv;
}

static model make_model(oct_cf_side *s, uint32_t kv_kind, uint32_t quant_mode) {
    const oct_cf_matrix embed = {.dtype = OCTET_BF16, .n = VOCAB, .k = WIDTH, .size = 1};
    /* What a step of an int8 row is worth: static rows have a row scale of 1, so it goes into the
     * columns, and what products make is about 1 wide in every mode. */
    const bool dynamic = quant_mode == OCTET_QUANT_DYNAMIC;
    const float wide = 0.03f, heads = 0.02f, ff = 0.02f;
    model m = {.kv_kind = kv_kind, .quant_mode = quant_mode};
    m.embed = oct_cf_weight(s, &embed);
    m.head = oct_cf_weight(s, &embed);
    m.norm_out = ones(s, WIDTH);
    m.rope = oct_cf_put_rope(s, N_ROPE, DIM);
    for (int l = 0; l < LAYERS; l++)
        m.layers[l] = (layer){.norm_in = ones(s, WIDTH),
                              .norm_mid = ones(s, WIDTH),
                              .qkv = matrix(s, QKV, WIDTH, dynamic ? 1 : wide),
                              .o = matrix(s, WIDTH, HEADS * DIM, dynamic ? 1 : heads),
                              .gate_up = matrix(s, 2 * FF, WIDTH, dynamic ? 1 : wide),
                              .down = matrix(s, WIDTH, FF, dynamic ? 1 : ff),
                              .kv = cache(s, kv_kind)};
    m.x = oct_cf_rows_room(s, MAX_ROWS, WIDTH);
    m.add = oct_cf_rows_room(s, MAX_ROWS, WIDTH);
    m.qkv = oct_cf_rows_room(s, MAX_ROWS, QKV);
    m.gate_up = oct_cf_rows_room(s, MAX_ROWS, 2 * FF);
    m.last = oct_cf_rows_room(s, MAX_ROWS, WIDTH);
    m.q_width = oct_cf_quant_room(s, quant_mode, MAX_ROWS, WIDTH, wide, 1);
    m.q_heads = oct_cf_quant_room(s, quant_mode, MAX_ROWS, HEADS * DIM, heads, 1);
    m.q_ff = oct_cf_quant_room(s, quant_mode, MAX_ROWS, FF, ff, 1);
    m.logits = oct_cf_room(s, MAX_ROWS * VOCAB * 4);
    m.ids = oct_cf_room(s, MAX_ROWS * 4);
    m.row_pos = oct_cf_room(s, MAX_ROWS * 4);
    m.row_slot = oct_cf_room(s, MAX_ROWS * 4);
    m.seq_row = oct_cf_room(s, (N_SEQ + 1) * 4);
    m.seq_kv_len = oct_cf_room(s, N_SEQ * 4);
    m.block_table = oct_cf_put(s, table, sizeof table);
    m.wanted = oct_cf_room(s, MAX_ROWS * 4);
    return m;
}

/* ---- a step ---------------------------------------------------------------------------------- */

/* rows[i] tokens of sequence i behind its first before[i]; ids of tokens come from `text`. */
typedef struct step {
    uint32_t before[N_SEQ], rows[N_SEQ];
} step;

static uint32_t n_rows_of(const step *st) {
    uint32_t n = 0;
    for (int i = 0; i < N_SEQ; i++) n += st->rows[i];
    return n;
}

static void write_ref(oct_cf_side *s, octet_ref to, const void *data, size_t bytes) {
    if (s->failed[0] || bytes == 0) return;
    oct_cf_check(s, s->d->ops->write(s->stream, to, data, bytes), "write");
    oct_cf_check(s, s->d->ops->stream_wait(s->stream), "write wait");
}

static void write_step(oct_cf_side *s, const model *m, const step *st) {
    int32_t ids[MAX_ROWS], pos[MAX_ROWS], slot[MAX_ROWS], wanted[MAX_ROWS];
    int32_t seq_row[N_SEQ + 1] = {0}, kv_len[N_SEQ];
    uint32_t n = 0;
    for (uint32_t i = 0; i < N_SEQ; i++) {
        for (uint32_t t = 0; t < st->rows[i]; t++, n++) {
            const uint32_t at = st->before[i] + t;
            ids[n] = (int32_t)((at * 31 + i * 17 + at * at) % VOCAB);
            pos[n] = (int32_t)at;
            slot[n] = table[i * SEQ_BLOCKS + at / BLOCK] * BLOCK + (int32_t)(at % BLOCK);
            wanted[n] = (int32_t)n;
        }
        seq_row[i + 1] = (int32_t)n;
        kv_len[i] = (int32_t)(st->before[i] + st->rows[i]);
    }
    write_ref(s, m->ids, ids, n * 4);
    write_ref(s, m->row_pos, pos, n * 4);
    write_ref(s, m->row_slot, slot, n * 4);
    write_ref(s, m->wanted, wanted, n * 4);
    write_ref(s, m->seq_row, seq_row, sizeof seq_row);
    write_ref(s, m->seq_kv_len, kv_len, sizeof kv_len);
}

static void product(oct_cf_side *s, octet_weight w, const octet_quant *q, octet_rows out,
                    uint32_t n) {
    const octet_linear_op op = {
        .struct_bytes = sizeof op, .n_rows = n, .weight = w, .qx = q->out, .out = out};
    OCT_CF_OP(s, linear, &op);
}

static void run_layer(oct_cf_side *s, const model *m, const layer *l, uint32_t n, bool first) {
    const octet_batch batch = {.struct_bytes = sizeof batch,
                               .n_seqs = N_SEQ,
                               .n_rows = n,
                               .max_seq_rows = n,
                               .max_kv_len = SEQ_BLOCKS * BLOCK,
                               .table_stride = SEQ_BLOCKS,
                               .row_pos = m->row_pos,
                               .row_slot = m->row_slot,
                               .seq_row = m->seq_row,
                               .seq_kv_len = m->seq_kv_len,
                               .block_table = m->block_table};
    octet_norm_op norm = {.struct_bytes = sizeof norm,
                          .kind = OCTET_NORM_RMS,
                          .n_rows = n,
                          .width = WIDTH,
                          .x = m->x,
                          .weight = l->norm_in,
                          .eps = 1e-5f,
                          .quant = m->q_width};
    if (!first) norm.add = m->add;
    OCT_CF_OP(s, norm, &norm);
    product(s, l->qkv, &m->q_width, m->qkv, n);
    const octet_attn_input_op input = {.struct_bytes = sizeof input,
                                       .n_heads = HEADS,
                                       .rotary_dim = DIM,
                                       .qkv = m->qkv,
                                       .n_rope_rows = N_ROPE,
                                       .rope = m->rope,
                                       .kv = l->kv,
                                       .batch = batch};
    OCT_CF_OP(s, attn_input, &input);
    const octet_attention_op attention = {.struct_bytes = sizeof attention,
                                          .n_heads = HEADS,
                                          .q = m->qkv,
                                          .kv = l->kv,
                                          .batch = batch,
                                          .scale = 0.25f,
                                          .quant = m->q_heads};
    OCT_CF_OP(s, attention, &attention);
    product(s, l->o, &m->q_heads, m->add, n);
    norm.add = m->add;
    norm.weight = l->norm_mid;
    OCT_CF_OP(s, norm, &norm);
    product(s, l->gate_up, &m->q_width, m->gate_up, n);
    const octet_act_op act = {.struct_bytes = sizeof act,
                              .kind = OCTET_ACT_SILU,
                              .gated = 1,
                              .n_rows = n,
                              .width = FF,
                              .x = m->gate_up,
                              .quant = m->q_ff};
    OCT_CF_OP(s, act, &act);
    product(s, l->down, &m->q_ff, m->add, n);
}

/* Logits of all n rows. */
static void run_model(oct_cf_side *s, const model *m, uint32_t n, int n_layers) {
    const octet_embed_op embed = {.struct_bytes = sizeof embed,
                                  .n_rows = n,
                                  .table = m->embed,
                                  .ids = m->ids,
                                  .out = m->x,
                                  .scale = 1};
    OCT_CF_OP(s, embed, &embed);
    for (int l = 0; l < n_layers; l++) run_layer(s, m, &m->layers[l], n, l == 0);
    const octet_norm_op norm = {.struct_bytes = sizeof norm,
                                .kind = OCTET_NORM_RMS,
                                .n_rows = n,
                                .width = WIDTH,
                                .x = m->x,
                                .add = m->add,
                                .weight = m->norm_out,
                                .eps = 1e-5f,
                                .out = m->x};
    octet_norm_op last = norm;
    last.out = m->last;
    OCT_CF_OP(s, norm, &last);
    const octet_linear_op head = {.struct_bytes = sizeof head,
                                  .n_rows = n,
                                  .weight = m->head,
                                  .x = m->last,
                                  .out = {m->logits, VOCAB},
                                  .out_dtype = OCTET_F32};
    OCT_CF_OP(s, linear, &head);
}

static float *logits_of(oct_cf_side *s, const model *m, const step *st, int n_layers) {
    const uint32_t n = n_rows_of(st);
    float *logits = oct_cf_mem(s, (size_t)n * VOCAB, sizeof *logits);
    write_step(s, m, st);
    run_model(s, m, n, n_layers);
    if (s->failed[0]) return logits;
    oct_cf_check(s, s->d->ops->read(s->stream, logits, m->logits, (size_t)n * VOCAB * 4), "read");
    oct_cf_check(s, s->d->ops->stream_wait(s->stream), "read wait");
    return logits;
}

/* Each int8 copy of a row may flip by a step of 1/127 of the row's largest value where a rounding
 * before it fell on the other side: with rows of 3 deviations 1/42 of a deviation, for the share of
 * values that lie within the tolerance of a half, u * 127 * 8 of them. Such flips spread over all
 * outputs of a product and add up as their root over operations; logits are 8 wide (64 products of
 * 1 by 1). A bfloat16 device also rounds every row on its way, 2^-9 each. */
static oct_tolerance chain_tolerance(uint32_t act, int n_layers) {
    const double u = oct_row_unit(act);
    const double flips = sqrt(u * 127 * 8) / 42;
    const double one = flips + 4 * u;
    return (oct_tolerance){4 * 8 * one * sqrt(6.0 * n_layers + 2), 0};
}

static void out_logits(oct_cf_side *s, const char *name, const float *v, uint32_t n, int n_layers) {
    oct_cf_out_f32(s, name, oct_cf_put(s, v, (size_t)n * VOCAB * 4), (size_t)n * VOCAB, VOCAB,
                   chain_tolerance(s->d->info.act_dtype, n_layers));
}

static void out_held(oct_cf_side *s, const char *name, bool held) {
    const int32_t v = held;
    oct_cf_out_i32(s, name, oct_cf_put(s, &v, sizeof v), 1, 1);
}

/* ---- cases ----------------------------------------------------------------------------------- */

/* The last three a device may lack; they are the cases behind those of the others. */
static const uint32_t kinds[] = {OCTET_KV_I8_CHANNEL, OCTET_KV_BF16,        OCTET_KV_F32,
                                 OCTET_KV_I8_TOKEN,   OCTET_KV_FP8_CHANNEL, OCTET_KV_F16};

static uint32_t kind_of(unsigned index, unsigned n_needed) {
    return kinds[index % 3 + (index < n_needed ? 0 : 3)];
}

static void case_block(oct_cf_side *s, unsigned index) {
    const step st = {{0, 0}, {index % 2 ? 1 : 19, 11}};
    const model m = make_model(s, kind_of(index, 9), 1 + index % 3);
    oct_cf_case(s, "cache %u, rows quantised as %u", m.kv_kind, m.quant_mode);
    out_logits(s, "logits", logits_of(s, &m, &st, 1), n_rows_of(&st), 1);
}

static void case_model(oct_cf_side *s, unsigned index) {
    const model m = make_model(s, kind_of(index, 3), OCTET_QUANT_DYNAMIC);
    oct_cf_case(s, "cache %u: prompts, then decodes", m.kv_kind);
    const step prompt = {{0, 0}, {30, 21}};
    out_logits(s, "prompt logits", logits_of(s, &m, &prompt, LAYERS), 51, LAYERS);
    for (uint32_t i = 0; i < 6; i++) {
        const step decode = {{30 + i, 21 + i}, {1, 1}};
        out_logits(s, "decode logits", logits_of(s, &m, &decode, LAYERS), 2, LAYERS);
    }
}

/* Not as numbers: -0 is not 0 here, and a NaN equals itself. */
static bool same_bits(const void *a, const void *b, size_t bytes) {
    return memcmp(a, b, bytes) == 0;
}

/* The whole prompt at once; in chunks beside another sequence; token by token. */
static void case_chunks(oct_cf_side *s, unsigned index) {
    static const uint32_t cuts[] = {0, 1, 13, 14, 29, 30};
    const model m = make_model(s, kind_of(index, 9), 1 + index / 3 % 3);
    const size_t row = VOCAB * sizeof(float);
    oct_cf_case(s, "cache %u, rows quantised as %u", m.kv_kind, m.quant_mode);
    const step whole = {{0, 0}, {30, 0}};
    const float *want = logits_of(s, &m, &whole, LAYERS);
    bool same = true;
    for (int c = 0; c < 5 && !s->failed[0]; c++) {
        const step part = {{cuts[c], cuts[c] * 2},
                           {cuts[c + 1] - cuts[c], 2 * (cuts[c + 1] - cuts[c])}};
        const float *got = logits_of(s, &m, &part, LAYERS);
        same &= same_bits(got, want + cuts[c] * VOCAB, part.rows[0] * row);
    }
    out_held(s, "chunks beside others give the bits of the whole", same);
    same = true;
    for (uint32_t t = 0; t < 30 && !s->failed[0]; t += 7) {
        const step one = {{t, 0}, {1, 0}};
        const float *got = logits_of(s, &m, &one, LAYERS);
        same &= same_bits(got, want + t * VOCAB, row);
    }
    out_held(s, "a decode gives the bits of the prompt", same);
}

/* A step recorded once and replayed for the next ones equals the calls. */
static void case_replay(oct_cf_side *s, unsigned index) {
    const model m = make_model(s, kind_of(index, 3), OCTET_QUANT_DYNAMIC);
    const bool capture = oct_device_can_capture(s->d);
    const step prompt = {{0, 0}, {20, 30}}, decode = {{20, 30}, {1, 1}};
    octet_graph *graph = NULL;
    float replayed[2 * VOCAB];
    bool same = true;
    oct_cf_case(s, "cache %u%s", m.kv_kind, capture ? "" : " (no capture: calls)");
    logits_of(s, &m, &prompt, LAYERS);
    if (capture && !s->failed[0]) {
        write_step(s, &m, &decode);
        oct_cf_check(s, s->d->ops->capture_begin(s->stream), "capture_begin");
        s->recording = true;
        run_model(s, &m, 2, LAYERS);
        s->recording = false;
        oct_cf_check(s, s->d->ops->capture_end(s->stream, &graph), "capture_end");
    }
    for (uint32_t i = 0; i < 4 && graph && !s->failed[0]; i++) {
        const step next = {{20 + i, 30 + i}, {1, 1}};
        write_step(s, &m, &next);
        oct_cf_check(s, s->d->ops->replay(s->stream, graph), "replay");
        oct_cf_check(s, s->d->ops->read(s->stream, replayed, m.logits, sizeof replayed), "read");
        oct_cf_check(s, s->d->ops->stream_wait(s->stream), "replay wait");
        const float *called = logits_of(s, &m, &next, LAYERS);
        same &= same_bits(replayed, called, sizeof replayed);
        if (i == 3) out_logits(s, "replayed logits", replayed, 2, LAYERS);
    }
    if (!graph) {
        const step next = {{23, 33}, {1, 1}};
        for (uint32_t i = 0; i < 3; i++) {
            const step before = {{20 + i, 30 + i}, {1, 1}};
            logits_of(s, &m, &before, LAYERS);
        }
        out_logits(s, "replayed logits", logits_of(s, &m, &next, LAYERS), 2, LAYERS);
    }
    if (capture && graph) s->d->ops->graph_destroy(graph);
    out_held(s, "replay gives the bits of the calls", same);
}

/* New numbers written over a matrix take effect, in the same place. */
static void case_reload(oct_cf_side *s, unsigned index) {
    const oct_cf_matrix shape = {
        .dtype = index ? OCTET_BF16 : OCTET_I8, .n = 37, .k = 50, .size = 1};
    oct_cf_case(s, "type %u", shape.dtype);
    const octet_weight w = oct_cf_weight(s, &shape);
    int8_t *bytes = oct_cf_bytes(s, 37 * 50 * 2, 0);
    float scale[37];
    for (int i = 0; i < 37; i++) scale[i] = oct_cf_uniform(s, 0.1f, 1);
    uint16_t *half = oct_cf_mem(s, 37 * 50, 2);
    for (size_t i = 0; i < 37 * 50; i++) half[i] = (uint16_t)(0x3f80 | (oct_cf_u32(s) & 0x807f));
    octet_weight_rows rows = {.struct_bytes = sizeof rows,
                              .data = index ? (const void *)half : bytes,
                              .col_scale = index ? NULL : scale,
                              .n_rows = 20};
    if (s->failed[0]) return;
    oct_cf_check(s, s->d->ops->weight_write(s->d->dev, w, &rows), "weight_write");
    rows.row = 20; /* the rest, from inside a panel */
    rows.n_rows = 17;
    rows.data = index ? (const void *)(half + 20 * 50) : bytes + 20 * 50;
    rows.col_scale = index ? NULL : scale + 20;
    oct_cf_check(s, s->d->ops->weight_write(s->d->dev, w, &rows), "weight_write");
    float row_scale[3] = {1, 0.5f, 2};
    const octet_linear_op op = {
        .struct_bytes = sizeof op,
        .n_rows = 3,
        .weight = w,
        .x = oct_cf_put_rows(s, oct_cf_floats(s, 150, 1), 3, 50, 50),
        .qx = {oct_cf_put(s, oct_cf_bytes(s, 192, 0), 192), oct_cf_put(s, row_scale, 12), 64},
        .out = {oct_cf_room(s, 3 * 37 * 4), 37},
        .out_dtype = OCTET_F32};
    OCT_CF_OP(s, linear, &op);
    oct_tolerance tol = oct_tolerance_f32();
    if (index)
        tol = oct_tolerance_operand(oct_tolerance_sum(tol, 50, 4), s->d->info.act_dtype, 50, 4);
    oct_cf_out_f32(s, "out", op.out.data, 3 * 37, 37, tol);
}

const oct_cf_group oct_cf_model_groups[] = {
    {"reload", 2, case_reload},  {"fused block", 12, case_block}, {"small model", 6, case_model},
    {"chunks", 18, case_chunks}, {"capture", 6, case_replay},     {NULL, 0, NULL},
};
