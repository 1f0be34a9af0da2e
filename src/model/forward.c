/*
 * model/forward.c - one step as device operations, the same for every family.
 *
 *   x = embed(tokens)
 *   per layer   q,k,v = qkv(norm(x));  write k,v to the cache;  x += [norm] o(attention(q))
 *               g,u   = gate_up(norm(x));                       x += [norm] down(act(g) * u)
 *   logits = [cap] head(norm(x of the rows that are wanted))
 *
 * The producer of a projection's input (norm, attention, act) also quantises it, so that float rows
 * are written only where somebody reads them: a float matrix, a second quantisation, a router, a
 * tap.
 *
 * Where a family has a norm behind attention or MLP, what it gives is left in s.post and added to x
 * by the next norm, which reads x anyway. A family without a norm before them lets a norm add that
 * writes no result.
 */
#include "model/parts.h"

#include "quant/float_types.h"

#define DEV(m, call, what) \
    OCT_TRY(oct_device_check((m)->device, (m)->device->ops->call, (what), err))

static const octet_rows no_rows;
static const octet_qrows no_qrows;

/* What lies between two parts of a layer. */
typedef struct pass {
    const oct_step *st;
    const oct_norm *post; /* the norm that left s.post to be added to x; NULL: nothing is left */
} pass;

/* How the input rows of a matrix are quantised. */
static octet_quant quant_of(const oct_model *m, const oct_mat *mat) {
    return (octet_quant){.mode = mat->quant, .param = oct_const_ref(m, mat->param), .out = m->s.q};
}

bool oct_model_same_quant(const oct_mat *a, const oct_mat *b) {
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
        if (first && !oct_model_same_quant(first, mat)) return true;
        if (!first) first = mat;
    }
    return false;
}

static octet_rows float_rows(const oct_model *m, const oct_group *g, octet_rows rows) {
    return needs_float(m, g) ? rows : no_rows;
}

/* An input whose producer did as the two above say. */
static oct_input input_of(const oct_group *g, octet_rows rows) {
    for (uint32_t i = 0; i < g->n_mats; i++)
        if (g->mat[i].quant != OCTET_QUANT_NONE)
            return (oct_input){rows, g->mat[i].mul ? NULL : &g->mat[i]};
    return (oct_input){rows, NULL};
}

oct_status oct_model_group(oct_model *m, const oct_group *g, oct_input in, octet_rows out,
                           uint32_t n_rows, bool accumulate, uint32_t out_dtype, oct_err *err) {
    const uint64_t element =
        out_dtype == OCTET_F32 || m->device->info.act_dtype == OCTET_F32 ? 4 : 2;
    const oct_mat *in_q = in.in_q;

    for (uint32_t i = 0; i < g->n_mats; i++) {
        const oct_mat *mat = &g->mat[i];
        if (mat->quant != OCTET_QUANT_NONE && !(in_q && oct_model_same_quant(in_q, mat))) {
            const octet_quantize_op op = {.struct_bytes = sizeof op,
                                          .n_rows = n_rows,
                                          .width = mat->k,
                                          .x = in.rows,
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
                                    .x = mat->quant == OCTET_QUANT_NONE ? in.rows : no_rows,
                                    .qx = mat->quant == OCTET_QUANT_NONE ? no_qrows : m->s.q,
                                    .out = cols,
                                    .out_dtype = out_dtype,
                                    .accumulate = accumulate};
        DEV(m, linear(m->stream, &op), "linear");
    }
    return OCT_OK;
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
        for (uint32_t i = width; i-- > 0;) row[i] = oct_bf16_to_f32(((const uint16_t *)row)[i]);
    }
    m->tap(m->tap_ctx, layer, point, m->tap_rows, n_rows, width);
    return OCT_OK;
}

/* x += s.post, if something is left there; then h and s.q = the norm of x, as the group wants it.
 */
static oct_status norm_into(oct_model *m, octet_rows x, const oct_norm *norm, pass *p, octet_rows h,
                            octet_quant quant, uint32_t n_rows, oct_err *err) {
    const octet_norm_op op = {.struct_bytes = sizeof op,
                              .kind = OCTET_NORM_RMS,
                              .n_rows = n_rows,
                              .width = m->config.hidden,
                              .x = x,
                              .add = p->post ? m->s.post : no_rows,
                              .weight = oct_const_ref(m, norm->weight),
                              .bias = oct_const_ref(m, norm->bias),
                              .eps = m->eps,
                              .out = h,
                              .quant = quant};
    p->post = NULL;
    return oct_device_check(m->device, m->device->ops->norm(m->stream, &op), "norm", err);
}

/* x += s.post, if something is left there, and nothing else. */
static oct_status settle(oct_model *m, pass *p, oct_err *err) {
    if (!p->post) return OCT_OK;
    return norm_into(m, m->s.x, p->post, p, no_rows, (octet_quant){0}, p->st->n_rows, err);
}

/* The input of attention or of an MLP. router: float rows are wanted in any case. */
static oct_status prepare(oct_model *m, const oct_norm *norm, const oct_group *g, bool router,
                          pass *p, oct_input *out, oct_err *err) {
    const uint32_t n_rows = p->st->n_rows;
    if (!norm->weight) {
        *out = (oct_input){m->s.x, NULL};
        return settle(m, p, err);
    }
    *out = input_of(g, m->s.h);
    return norm_into(m, m->s.x, norm, p, router ? m->s.h : float_rows(m, g, m->s.h),
                     producer_quant(m, g), n_rows, err);
}

/* Behind attention or an MLP that left its result in s.y. */
static oct_status leave(oct_model *m, const oct_norm *post, pass *p, oct_err *err) {
    const octet_norm_op op = {.struct_bytes = sizeof op,
                              .kind = OCTET_NORM_RMS,
                              .n_rows = p->st->n_rows,
                              .width = m->config.hidden,
                              .x = m->s.y,
                              .weight = oct_const_ref(m, post->weight),
                              .bias = oct_const_ref(m, post->bias),
                              .eps = m->eps,
                              .out = m->s.post};
    p->post = post;
    return oct_device_check(m->device, m->device->ops->norm(m->stream, &op), "norm", err);
}

static oct_status attention_part(oct_model *m, uint32_t l, pass *p, oct_err *err) {
    const oct_step *st = p->st;
    const oct_model_config *c = &m->config;
    const oct_layer *layer = &m->layers[l];
    const oct_norm *post = &layer->attn_post_norm;
    const uint32_t kv_width = c->n_kv_heads * c->head_dim, q_width = c->n_heads * c->head_dim;
    const oct_rope_table *rope = &m->rope[m->rope[1].buffer && c->layer_slides[l] ? 1 : 0];
    oct_input x;

    OCT_TRY(prepare(m, &layer->attn_norm, &layer->qkv, false, p, &x, err));
    OCT_TRY(show(m, l, OCT_TAP_QKV_IN, x.rows, 0, st->n_rows, c->hidden, err));
    OCT_TRY(oct_model_group(m, &layer->qkv, x, m->s.qkv, st->n_rows, false, 0, err));

    const octet_attn_input_op in = {.struct_bytes = sizeof in,
                                    .n_heads = c->n_heads,
                                    .qk_norm = layer->q_norm.weight ? m->arch->qk_norm
                                                                    : OCTET_QK_NORM_NONE,
                                    .rotary_dim = rope->config.rotary_dim,
                                    .qkv = m->s.qkv,
                                    .q_norm = oct_const_ref(m, layer->q_norm.weight),
                                    .k_norm = oct_const_ref(m, layer->k_norm.weight),
                                    .norm_eps = (float)c->rms_eps,
                                    .n_rope_rows = m->info.max_model_len, /* made as needed */
                                    .rope = {rope->buffer, 0},
                                    .kv = layer->kv,
                                    .batch = st->batch,
                                    .q_norm_bias = oct_const_ref(m, layer->q_norm.bias),
                                    .k_norm_bias = oct_const_ref(m, layer->k_norm.bias)};
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
                                   .softcap = (float)c->attention_softcap,
                                   .window = oct_arch_window(c, l),
                                   .mask = OCTET_MASK_CAUSAL,
                                   .out = float_rows(m, &layer->o, m->s.h),
                                   .quant = producer_quant(m, &layer->o)};
    DEV(m, attention(m->stream, &at), "attention");
    OCT_TRY(show(m, l, OCT_TAP_O_IN, m->s.h, 0, st->n_rows, q_width, err));
    x = input_of(&layer->o, m->s.h);
    OCT_TRY(oct_model_group(m, &layer->o, x, post->weight ? m->s.y : m->s.x, st->n_rows,
                            !post->weight, 0, err));
    return post->weight ? leave(m, post, p, err) : OCT_OK;
}

oct_status oct_model_mlp(oct_model *m, uint32_t l, oct_input in, octet_rows out, uint32_t n_rows,
                         bool accumulate, oct_err *err) {
    const oct_layer *layer = &m->layers[l];
    const uint32_t inner = oct_arch_mlp_width(&m->config, l);
    OCT_TRY(oct_model_group(m, &layer->gate_up, in, m->s.gate_up, n_rows, false, 0, err));
    const octet_act_op act = {.struct_bytes = sizeof act,
                              .kind = m->arch->act,
                              .gated = 1,
                              .n_rows = n_rows,
                              .width = inner,
                              .x = m->s.gate_up,
                              .out = float_rows(m, &layer->down, m->s.h),
                              .quant = producer_quant(m, &layer->down)};
    DEV(m, act(m->stream, &act), "act");
    OCT_TRY(show(m, l, OCT_TAP_DOWN_IN, m->s.h, 0, n_rows, inner, err));
    return oct_model_group(m, &layer->down, input_of(&layer->down, m->s.h), out, n_rows, accumulate,
                           0, err);
}

/* The group whose quantised rows the norm before it can make: none where experts have scales of
 * their own. */
static const oct_group *quantised_by_norm(const oct_layer *layer) {
    static const oct_group nobody;
    const oct_group *g = &layer->experts.gate_up;
    if (layer->experts.router.n_mats == 0) return &layer->gate_up;
    for (uint32_t i = 0; i < g->n_mats; i++)
        if (g->mat[i].param) return &nobody;
    return g;
}

static oct_status mlp_part(oct_model *m, uint32_t l, pass *p, oct_err *err) {
    const oct_layer *layer = &m->layers[l];
    const oct_norm *post = &layer->mlp_post_norm;
    const bool sparse = layer->experts.router.n_mats != 0;
    const octet_rows out = post->weight ? m->s.y : m->s.x;
    const uint32_t n_rows = p->st->n_rows;
    oct_input x;

    OCT_TRY(prepare(m, &layer->mlp_norm, quantised_by_norm(layer), sparse, p, &x, err));
    OCT_TRY(show(m, l, OCT_TAP_MLP_IN, x.rows, 0, n_rows, m->config.hidden, err));
    if (sparse)
        OCT_TRY(oct_model_experts(m, l, x, out, n_rows, !post->weight, err));
    else
        OCT_TRY(oct_model_mlp(m, l, x, out, n_rows, !post->weight, err));
    return post->weight ? leave(m, post, p, err) : OCT_OK;
}

/* Logits of the rows that are wanted, capped where the family caps them. */
static oct_status head_part(oct_model *m, pass *p, oct_err *err) {
    const oct_step *st = p->st;
    const oct_model_config *c = &m->config;
    OCT_TRY(settle(m, p, err));
    const octet_gather_op pick = {.struct_bytes = sizeof pick,
                                  .n_rows = st->n_logits,
                                  .width = c->hidden,
                                  .x = m->s.x,
                                  .index = st->logits_row,
                                  .out = m->s.picked};
    DEV(m, gather(m->stream, &pick), "gather");
    OCT_TRY(norm_into(m, m->s.picked, &m->final_norm, p, float_rows(m, &m->head, m->s.picked_h),
                      producer_quant(m, &m->head), st->n_logits, err));
    OCT_TRY(show(m, c->n_layers, OCT_TAP_HEAD_IN, m->s.picked_h, 0, st->n_logits, c->hidden, err));
    OCT_TRY(oct_model_group(m, &m->head, input_of(&m->head, m->s.picked_h), m->s.logits,
                            st->n_logits, false, OCTET_F32, err));
    if (c->final_softcap == 0) return OCT_OK;
    const octet_softcap_op cap = {.struct_bytes = sizeof cap,
                                  .n_rows = st->n_logits,
                                  .width = c->vocab,
                                  .cap = (float)c->final_softcap,
                                  .x = m->s.logits};
    DEV(m, softcap(m->stream, &cap), "softcap");
    return OCT_OK;
}

oct_status oct_model_forward(oct_model *m, const oct_step *st, oct_err *err) {
    pass p = {.st = st};
    const octet_embed_op embed = {.struct_bytes = sizeof embed,
                                  .n_rows = st->n_rows,
                                  .table = m->embed,
                                  .ids = st->tokens,
                                  .out = m->s.x,
                                  .scale = m->embed_scale};
    if (st->feed) DEV(m, feed(m->stream, &st->feed_op), "feed");
    DEV(m, embed(m->stream, &embed), "embed");
    for (uint32_t l = 0; l < m->config.n_layers; l++) {
        OCT_TRY(attention_part(m, l, &p, err));
        OCT_TRY(mlp_part(m, l, &p, err));
    }
    if (st->n_logits == 0) return OCT_OK;
    OCT_TRY(head_part(m, &p, err));
    if (st->sample) DEV(m, sample(m->stream, &st->sample_op), "sample");
    return OCT_OK;
}
