/*
 * model/forward.c - one step as device operations, the same for every family.
 *
 *   x = embed(tokens)
 *   per layer   q,k,v = qkv(norm(x));  write k,v to the cache;  x += o(attention(q))
 *               g,u   = gate_up(norm(x));                       x += down(act(g) * u)
 *   logits = head(norm(x of the rows that are wanted))
 *
 * The producer of a projection's input (norm, attention, act) also quantises it, so that float rows
 * are written only where somebody reads them: a float matrix, a second quantisation, a tap.
 */
#include "model/parts.h"

#define DEV(m, call, what) \
    OCT_TRY(oct_device_check((m)->device, (m)->device->ops->call, (what), err))

static const octet_rows no_rows;
static const octet_qrows no_qrows;

/* How the input rows of a matrix are quantised. */
static octet_quant quant_of(const oct_model *m, const oct_mat *mat) {
    return (octet_quant){.mode = mat->quant, .param = oct_const_ref(m, mat->param), .out = m->s.q};
}

static bool same_quant(const oct_mat *a, const oct_mat *b) {
    return a->quant == b->quant && a->param == b->param && a->mul == b->mul;
}

/* The quantisation that the producer of the group's input does: that of the first quantised matrix,
 * unless its input is multiplied first, which takes an operation of its own. */
static octet_quant producer_quant(const oct_model *m, const oct_group *g) {
    for (uint32_t i = 0; i < g->n_mats; i++)
        if (g->mat[i].quant != OCTET_QUANT_NONE)
            return g->mat[i].mul ? (octet_quant){0} : quant_of(m, &g->mat[i]);
    return (octet_quant){0};
}

/* Whether somebody reads the group's input as float. */
static bool needs_float(const oct_model *m, const oct_group *g) {
    const oct_mat *first = NULL;
    if (m->tap) return true;
    for (uint32_t i = 0; i < g->n_mats; i++) {
        const oct_mat *mat = &g->mat[i];
        if (mat->quant == OCTET_QUANT_NONE || mat->mul) return true;
        if (first && !same_quant(first, mat)) return true;
        if (!first) first = mat;
    }
    return false;
}

static octet_rows float_rows(const oct_model *m, const oct_group *g, octet_rows rows) {
    return needs_float(m, g) ? rows : no_rows;
}

/* out = the group's projections of the input that its producer left in `in` (float) and s.q. */
static oct_status run_group(oct_model *m, const oct_group *g, octet_rows in, octet_rows out,
                            uint32_t n_rows, bool accumulate, uint32_t out_dtype, oct_err *err) {
    const uint64_t element =
        out_dtype == OCTET_F32 || m->device->info.act_dtype == OCTET_F32 ? 4 : 2;
    const oct_mat *in_q = NULL; /* whose quantised rows are in s.q */

    for (uint32_t i = 0; i < g->n_mats && !in_q; i++)
        if (g->mat[i].quant != OCTET_QUANT_NONE && !g->mat[i].mul)
            in_q = &g->mat[i];
        else if (g->mat[i].mul)
            break;

    for (uint32_t i = 0; i < g->n_mats; i++) {
        const oct_mat *mat = &g->mat[i];
        if (mat->quant != OCTET_QUANT_NONE && !(in_q && same_quant(in_q, mat))) {
            const octet_quantize_op op = {.struct_bytes = sizeof op,
                                          .n_rows = n_rows,
                                          .width = mat->k,
                                          .x = in,
                                          .mul = oct_const_ref(m, mat->mul),
                                          .quant = quant_of(m, mat)};
            DEV(m, quantize(m->stream, &op), "quantize");
            in_q = mat;
        }
        octet_rows cols = out;
        cols.data.offset += mat->col * element;
        const octet_linear_op op = {.struct_bytes = sizeof op,
                                    .n_rows = n_rows,
                                    .weight = mat->weight,
                                    .x = mat->quant == OCTET_QUANT_NONE ? in : no_rows,
                                    .qx = mat->quant == OCTET_QUANT_NONE ? no_qrows : m->s.q,
                                    .out = cols,
                                    .out_dtype = out_dtype,
                                    .accumulate = accumulate};
        DEV(m, linear(m->stream, &op), "linear");
    }
    return OCT_OK;
}

static float bf16_value(uint16_t bits) {
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)bits << 16};
    return v.f;
}

/* Shows rows to the tap, widened to float32. */
static oct_status show(oct_model *m, uint32_t layer, oct_tap_point point, octet_rows rows,
                       uint32_t col, uint32_t n_rows, uint32_t width, oct_err *err) {
    if (!m->tap || n_rows == 0) return OCT_OK;
    const bool wide = m->device->info.act_dtype == OCTET_F32;
    const uint64_t element = wide ? 4 : 2;
    const size_t need = (size_t)n_rows * width;

    if (m->tap_cap < need) {
        float *p = oct_grow(m->mem, m->tap_rows, m->tap_cap, need, sizeof *p);
        if (!p) return OCT_FAIL(err, OCT_E_NOMEM, "tap: no memory for %zu values", need);
        m->tap_rows = p;
        m->tap_cap = need;
    }
    for (uint32_t r = 0; r < n_rows; r++) {
        const octet_ref at = {rows.data.buffer,
                              rows.data.offset + ((uint64_t)r * rows.stride + col) * element};
        DEV(m, read(m->stream, m->tap_rows + (size_t)r * width, at, width * element), "read");
    }
    DEV(m, stream_wait(m->stream), "stream_wait");
    for (uint32_t r = 0; !wide && r < n_rows; r++) {
        float *row = m->tap_rows + (size_t)r * width;
        for (uint32_t i = width; i-- > 0;) row[i] = bf16_value(((const uint16_t *)row)[i]);
    }
    m->tap(m->tap_ctx, layer, point, m->tap_rows, n_rows, width);
    return OCT_OK;
}

static oct_status norm_into(oct_model *m, octet_rows x, oct_const weight, oct_const bias,
                            const oct_group *g, octet_rows h, uint32_t n_rows, oct_err *err) {
    const octet_norm_op op = {.struct_bytes = sizeof op,
                              .kind = OCTET_NORM_RMS,
                              .n_rows = n_rows,
                              .width = m->config.hidden,
                              .x = x,
                              .weight = oct_const_ref(m, weight),
                              .bias = oct_const_ref(m, bias),
                              .eps = (float)m->config.rms_eps,
                              .out = float_rows(m, g, h),
                              .quant = producer_quant(m, g)};
    return oct_device_check(m->device, m->device->ops->norm(m->stream, &op), "norm", err);
}

static oct_status attention_part(oct_model *m, uint32_t l, const oct_step *st, oct_err *err) {
    const oct_model_config *c = &m->config;
    const oct_layer *layer = &m->layers[l];
    const uint32_t kv_width = c->n_kv_heads * c->head_dim, q_width = c->n_heads * c->head_dim;

    OCT_TRY(norm_into(m, m->s.x, layer->attn_norm, layer->attn_norm_bias, &layer->qkv, m->s.h,
                      st->n_rows, err));
    OCT_TRY(show(m, l, OCT_TAP_QKV_IN, m->s.h, 0, st->n_rows, c->hidden, err));
    OCT_TRY(run_group(m, &layer->qkv, m->s.h, m->s.qkv, st->n_rows, false, 0, err));

    const octet_attn_input_op in = {.struct_bytes = sizeof in,
                                    .n_heads = c->n_heads,
                                    .qk_norm =
                                        layer->q_norm ? m->arch->qk_norm : OCTET_QK_NORM_NONE,
                                    .rotary_dim = c->rope.rotary_dim,
                                    .qkv = m->s.qkv,
                                    .q_norm = oct_const_ref(m, layer->q_norm),
                                    .k_norm = oct_const_ref(m, layer->k_norm),
                                    .norm_eps = (float)c->rms_eps,
                                    .n_rope_rows = m->n_rope_rows,
                                    .rope = {m->rope_buffer, 0},
                                    .kv = layer->kv,
                                    .batch = st->batch};
    DEV(m, attn_input(m->stream, &in), "attn_input");
    OCT_TRY(show(m, l, OCT_TAP_K, m->s.qkv, q_width, st->n_rows, kv_width, err));
    OCT_TRY(show(m, l, OCT_TAP_V, m->s.qkv, q_width + kv_width, st->n_rows, kv_width, err));

    const octet_attention_op at = {.struct_bytes = sizeof at,
                                   .n_heads = c->n_heads,
                                   .q = m->s.qkv,
                                   .fresh = m->options.prefill_kv_float ? m->s.qkv : no_rows,
                                   .kv = layer->kv,
                                   .batch = st->batch,
                                   .scale = (float)c->attention_scale,
                                   .window = oct_arch_window(c, l),
                                   .mask = OCTET_MASK_CAUSAL,
                                   .out = float_rows(m, &layer->o, m->s.h),
                                   .quant = producer_quant(m, &layer->o)};
    DEV(m, attention(m->stream, &at), "attention");
    OCT_TRY(show(m, l, OCT_TAP_O_IN, m->s.h, 0, st->n_rows, q_width, err));
    return run_group(m, &layer->o, m->s.h, m->s.x, st->n_rows, true, 0, err);
}

static oct_status mlp_part(oct_model *m, uint32_t l, uint32_t n_rows, oct_err *err) {
    const oct_model_config *c = &m->config;
    const oct_layer *layer = &m->layers[l];

    OCT_TRY(norm_into(m, m->s.x, layer->mlp_norm, layer->mlp_norm_bias, &layer->gate_up, m->s.h,
                      n_rows, err));
    OCT_TRY(show(m, l, OCT_TAP_MLP_IN, m->s.h, 0, n_rows, c->hidden, err));
    OCT_TRY(run_group(m, &layer->gate_up, m->s.h, m->s.gate_up, n_rows, false, 0, err));

    const octet_act_op act = {.struct_bytes = sizeof act,
                              .kind = m->arch->act,
                              .gated = 1,
                              .n_rows = n_rows,
                              .width = c->intermediate,
                              .x = m->s.gate_up,
                              .out = float_rows(m, &layer->down, m->s.h),
                              .quant = producer_quant(m, &layer->down)};
    DEV(m, act(m->stream, &act), "act");
    OCT_TRY(show(m, l, OCT_TAP_DOWN_IN, m->s.h, 0, n_rows, c->intermediate, err));
    return run_group(m, &layer->down, m->s.h, m->s.x, n_rows, true, 0, err);
}

oct_status oct_model_forward(oct_model *m, const oct_step *st, oct_err *err) {
    const oct_model_config *c = &m->config;
    const octet_embed_op embed = {.struct_bytes = sizeof embed,
                                  .n_rows = st->n_rows,
                                  .table = m->embed,
                                  .ids = st->tokens,
                                  .out = m->s.x,
                                  .scale = 1.0f};
    DEV(m, embed(m->stream, &embed), "embed");
    for (uint32_t l = 0; l < c->n_layers; l++) {
        OCT_TRY(attention_part(m, l, st, err));
        OCT_TRY(mlp_part(m, l, st->n_rows, err));
    }
    if (st->n_logits == 0) return OCT_OK;

    const octet_gather_op pick = {.struct_bytes = sizeof pick,
                                  .n_rows = st->n_logits,
                                  .width = c->hidden,
                                  .x = m->s.x,
                                  .index = st->logits_row,
                                  .out = m->s.picked};
    DEV(m, gather(m->stream, &pick), "gather");
    OCT_TRY(norm_into(m, m->s.picked, m->final_norm, m->final_norm_bias, &m->head, m->s.picked_h,
                      st->n_logits, err));
    OCT_TRY(show(m, c->n_layers, OCT_TAP_HEAD_IN, m->s.picked_h, 0, st->n_logits, c->hidden, err));
    OCT_TRY(
        run_group(m, &m->head, m->s.picked_h, m->s.logits, st->n_logits, false, OCTET_F32, err));
    if (st->sample) DEV(m, sample(m->stream, &st->sample_op), "sample");
    return OCT_OK;
}
