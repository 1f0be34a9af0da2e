/*
 * model/experts.c - a layer of experts as device operations.
 *
 *   scores = router(h);  which experts a row takes, and their weights
 *   rows in the order of experts
 *   wide  = gate_up of each grouped row by its expert;  inner = act(gate) * up
 *   wide  = down(inner)
 *   out  += weighted sum of a row's experts + [sigmoid(shared_gate(h)) *] shared expert(h)
 *
 * With one rule of quantising for all experts the rows of the batch are quantised once, by the norm
 * before, and the product picks them; only static scales or factors of their own need grouped
 * copies. The result of act is grouped already.
 */
#include "model/parts.h"

#define DEV(m, call, what) \
    OCT_TRY(oct_device_check((m)->device, (m)->device->ops->call, (what), err))

static const octet_rows no_rows;
static const octet_qrows no_qrows;

/* One rule for all experts. */
static bool is_uniform(const oct_mat *mat) {
    return mat->quant == OCTET_QUANT_DYNAMIC && !mat->mul;
}

/* Where grouped products read: rows of the batch through s.row, or rows that are grouped already.
 */
typedef struct grouped_input {
    octet_rows x;
    octet_qrows q;  /* of the rule in q_of */
    bool q_grouped; /* q is in the order of experts, whatever x is */
    bool x_grouped;
    const oct_mat *q_of;
    uint32_t n_in; /* rows of x when it is not grouped */
} grouped_input;

/* Quantised rows for this matrix, made unless they are there. */
static oct_status grouped_rows(oct_model *m, const oct_mat *mat, uint32_t n_grouped,
                               grouped_input *in, oct_err *err) {
    if (mat->quant == OCTET_QUANT_NONE) return OCT_OK;
    if (in->q_of && oct_model_same_quant(in->q_of, mat)) return OCT_OK;
    in->q = m->s.grouped_q;
    in->q_grouped = true;
    in->q_of = mat;
    const octet_quantize_grouped_op op = {
        .struct_bytes = sizeof op,
        .n_rows = n_grouped,
        .n_in = in->x_grouped ? n_grouped : in->n_in,
        .width = mat->k,
        .n_experts = m->config.n_experts,
        .first = m->s.first,
        .row = in->x_grouped ? (octet_ref){0} : m->s.row,
        .x = in->x,
        .mul = oct_const_ref(m, mat->mul),
        .quant = {.mode = mat->quant, .param = oct_const_ref(m, mat->param), .out = in->q}};
    DEV(m, quantize_grouped(m->stream, &op), "quantize_grouped");
    return OCT_OK;
}

static oct_status grouped_group(oct_model *m, const oct_group *g, grouped_input in,
                                uint32_t n_grouped, octet_rows out, oct_err *err) {
    const uint64_t element = m->device->info.act_dtype == OCTET_F32 ? 4 : 2;
    for (uint32_t i = 0; i < g->n_mats; i++) {
        const oct_mat *mat = &g->mat[i];
        OCT_TRY(grouped_rows(m, mat, n_grouped, &in, err));
        const bool float_in = mat->quant == OCTET_QUANT_NONE;
        const bool grouped = float_in ? in.x_grouped : in.q_grouped;
        octet_rows cols = out;
        cols.data.offset += mat->col * element;
        const octet_linear_grouped_op op = {.struct_bytes = sizeof op,
                                            .n_rows = n_grouped,
                                            .n_in = grouped ? n_grouped : in.n_in,
                                            .weight = mat->weight,
                                            .first = m->s.first,
                                            .row = grouped ? (octet_ref){0} : m->s.row,
                                            .x = float_in ? in.x : no_rows,
                                            .qx = float_in ? no_qrows : in.q,
                                            .out = cols};
        DEV(m, linear_grouped(m->stream, &op), "linear_grouped");
    }
    return OCT_OK;
}

/* Which experts each row takes. */
static oct_status choose(oct_model *m, const oct_experts *x, octet_rows h, uint32_t n_rows,
                         oct_err *err) {
    const oct_model_config *c = &m->config;
    const oct_input in = {h, NULL};
    OCT_TRY(oct_model_group(m, &x->router, in, m->s.router, n_rows, false, OCTET_F32, err));
    const octet_route_op route = {.struct_bytes = sizeof route,
                                  .kind =
                                      c->router_sigmoid ? OCTET_ROUTE_SIGMOID : OCTET_ROUTE_SOFTMAX,
                                  .n_rows = n_rows,
                                  .n_experts = c->n_experts,
                                  .top_k = c->n_experts_used,
                                  .renormalise = c->norm_topk_prob,
                                  .scale = (float)c->routed_scaling,
                                  .logits = m->s.router,
                                  .bias = oct_const_ref(m, x->bias),
                                  .expert = m->s.expert,
                                  .weight = m->s.weight};
    DEV(m, route(m->stream, &route), "route");
    const octet_permute_op permute = {.struct_bytes = sizeof permute,
                                      .n_rows = n_rows,
                                      .n_experts = c->n_experts,
                                      .top_k = c->n_experts_used,
                                      .expert = m->s.expert,
                                      .first = m->s.first,
                                      .row = m->s.row,
                                      .place = m->s.place};
    DEV(m, permute(m->stream, &permute), "permute");
    return OCT_OK;
}

/* s.wide = down(act(gate) * up) of each grouped row by its expert. */
static oct_status run_experts(oct_model *m, const oct_experts *x, oct_input in, uint32_t n_rows,
                              oct_err *err) {
    const uint32_t n_grouped = n_rows * m->config.n_experts_used;
    const oct_mat *down = &x->down.mat[0];
    const grouped_input rows = {.x = in.rows, .q = m->s.q, .q_of = in.in_q, .n_in = n_rows};
    OCT_TRY(grouped_group(m, &x->gate_up, rows, n_grouped, m->s.wide, err));

    const bool at_once = is_uniform(down);
    octet_act_op act = {.struct_bytes = sizeof act,
                        .kind = m->arch->act,
                        .gated = 1,
                        .n_rows = n_grouped,
                        .width = m->config.moe_intermediate,
                        .x = m->s.wide,
                        .out = at_once ? no_rows : m->s.inner};
    if (at_once) act.quant = (octet_quant){.mode = down->quant, .out = m->s.grouped_q};
    DEV(m, act(m->stream, &act), "act");
    const grouped_input inner = {.x = m->s.inner,
                                 .x_grouped = true,
                                 .q = m->s.grouped_q,
                                 .q_grouped = true,
                                 .q_of = at_once ? down : NULL};
    return grouped_group(m, &x->down, inner, n_grouped, m->s.wide, err);
}

oct_status oct_model_experts(oct_model *m, uint32_t l, oct_input in, octet_rows out,
                             uint32_t n_rows, bool accumulate, oct_err *err) {
    const oct_layer *layer = &m->layers[l];
    const oct_experts *x = &layer->experts;
    const bool shared = layer->down.n_mats != 0, gated = x->shared_gate.n_mats != 0;
    OCT_TRY(choose(m, x, in.rows, n_rows, err));
    if (x->router.mat[0].quant != OCTET_QUANT_NONE) in.in_q = NULL; /* s.q is spent */
    OCT_TRY(run_experts(m, x, in, n_rows, err));
    if (shared && gated) {
        const oct_input h = {in.rows, NULL};
        OCT_TRY(oct_model_group(m, &x->shared_gate, h, m->s.shared_gate, n_rows, false, OCTET_F32,
                                err));
        if (x->shared_gate.mat[0].quant != OCTET_QUANT_NONE) in.in_q = NULL;
    }
    /* Last, because it may use up the rows of the input. */
    if (shared) OCT_TRY(oct_model_mlp(m, l, in, m->s.shared, n_rows, false, err));

    const octet_combine_op combine = {.struct_bytes = sizeof combine,
                                      .n_rows = n_rows,
                                      .width = m->config.hidden,
                                      .top_k = m->config.n_experts_used,
                                      .accumulate = accumulate,
                                      .x = m->s.wide,
                                      .place = m->s.place,
                                      .weight = m->s.weight,
                                      .shared = shared ? m->s.shared : no_rows,
                                      .shared_gate =
                                          shared && gated ? m->s.shared_gate.data : (octet_ref){0},
                                      .out = out};
    DEV(m, combine(m->stream, &combine), "combine");
    return OCT_OK;
}
