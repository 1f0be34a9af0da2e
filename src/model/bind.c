/*
 * model/bind.c - from a checkpoint's tensors to packed matrices and constants on the device.
 *
 * Adjacent projections of one input become one matrix when they are stored alike and read the same
 * quantised rows; otherwise each keeps its own. What is missing is collected over the whole model
 * and told at once. What a layer consists of is bind_layer.c; how rows get into a matrix is
 * bind_rows.c.
 */
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "model/bind_parts.h"

/* Appends to the constants; 0 when memory was refused. */
static oct_const append(oct_model *m, const float *values, size_t count) {
    const size_t at = m->staged_len ? m->staged_len : 64;
    const size_t end = at + (count * sizeof *values + 63) / 64 * 64;
    if (end > m->staged_cap) {
        const size_t cap = oct_max_size(end, m->staged_cap * 2 + 65536);
        unsigned char *p = oct_grow(m->mem, m->staged, m->staged_cap, cap, 1);
        if (!p) return 0;
        memset(p + m->staged_cap, 0, cap - m->staged_cap);
        m->staged = p;
        m->staged_cap = cap;
    }
    memcpy(m->staged + at, values, count * sizeof *values);
    m->staged_len = end;
    return at;
}

oct_status oct_bind_open_scheme(oct_binder *b, oct_err *err) {
    const oct_model_options *o = &b->m->options;
    const oct_scheme_options so = {.forced = o->quant == OCT_QUANT_ASCEND ? "ascend" : o->scheme,
                                   .strict = o->strict};
    return oct_scheme_open(b->m->mem, b->ckpt, &so, &b->scheme, err);
}

oct_status oct_bind_stage(oct_binder *b, const float *values, size_t count, oct_const *out,
                          oct_err *err) {
    *out = 0;
    if (!values) return OCT_OK;
    *out = append(b->m, values, count);
    return *out ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "model: no memory for constants");
}

oct_status oct_bind_vector(oct_binder *b, const char *name, uint64_t n, bool optional,
                           oct_const *out, oct_err *err) {
    const float *values;
    OCT_TRY(oct_checkpoint_vector(b->ckpt, &b->arena, name, n, optional, &values, err));
    return oct_bind_stage(b, values, n, out, err);
}

oct_status oct_bind_norm(oct_binder *b, const char *name, uint64_t n, double factor, oct_norm *out,
                         oct_err *err) {
    const double plus = b->m->config.norm_plus_one ? 1 : 0;
    const float *weight, *bias;
    char full[OCT_BIND_NAME];
    snprintf(full, sizeof full, "%s.weight", name);
    OCT_TRY(oct_checkpoint_vector(b->ckpt, &b->arena, full, n, false, &weight, err));
    snprintf(full, sizeof full, "%s.bias", name);
    OCT_TRY(oct_checkpoint_vector(b->ckpt, &b->arena, full, n, true, &bias, err));
    float *w = oct_arena_alloc(&b->arena, 2 * n, sizeof *w);
    if (!w) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", name);
    for (uint64_t i = 0; i < n; i++) {
        w[i] = weight ? (float)(((double)weight[i] + plus) * factor) : 0;
        w[n + i] = bias ? (float)((double)bias[i] * factor) : 0;
    }
    OCT_TRY(oct_bind_stage(b, w, n, &out->weight, err));
    return oct_bind_stage(b, bias ? w + n : NULL, n, &out->bias, err);
}

uint32_t oct_bind_storage(const oct_binder *b, const oct_linear_source *src, oct_bind_wish wish,
                          uint32_t *quant) {
    *quant = (uint32_t)src->act;
    if (src->kind == OCT_LINEAR_INT8) return OCTET_I8;
    if (wish == OCT_BIND_AS_WISHED && b->m->options.quant == OCT_QUANT_INT8) {
        *quant = OCTET_QUANT_DYNAMIC;
        return OCTET_I8;
    }
    *quant = OCTET_QUANT_NONE;
    return oct_bind_is_narrow(src)                ? OCTET_BF16
           : src->weight->dtype == OCT_DTYPE_BF16 ? OCTET_BF16
           : src->weight->dtype == OCT_DTYPE_F16  ? OCTET_F16
                                                  : OCTET_F32;
}

size_t oct_bind_element(uint32_t dtype) {
    return dtype == OCTET_I8 ? 1 : dtype == OCTET_F32 ? 4 : 2;
}

bool oct_bind_alike(const oct_binder *b, const oct_linear_source *x, const oct_linear_source *y,
                    oct_bind_wish wish) {
    uint32_t qx, qy;
    return oct_bind_storage(b, x, wish, &qx) == oct_bind_storage(b, y, wish, &qy) && qx == qy &&
           x->input_scale == y->input_scale && x->input_offset == y->input_offset &&
           !x->input_mul && !y->input_mul;
}

/* Makes one matrix of sources first..last-1, whose result starts at column col. */
static oct_status bind_mat(oct_binder *b, const oct_linear_source *first,
                           const oct_linear_source *last, uint32_t col, oct_bind_wish wish,
                           oct_mat *mat, oct_err *err) {
    oct_bind_rows rows;
    uint32_t quant;
    const uint32_t dtype = oct_bind_storage(b, first, wish, &quant);
    OCT_TRY(oct_bind_rows_init(b, &rows, dtype, first->k, (size_t)(last - first), err));
    for (const oct_linear_source *s = first; s < last; s++) oct_bind_rows_add(&rows, s);
    *mat = (oct_mat){.n = (uint32_t)rows.n, .k = (uint32_t)first->k, .col = col, .quant = quant};
    if (quant == OCTET_QUANT_STATIC_BEFORE || quant == OCTET_QUANT_STATIC_AFTER) {
        const float param[2] = {first->input_scale, first->input_offset};
        OCT_TRY(oct_bind_stage(b, param, 2, &mat->param, err));
    }
    OCT_TRY(oct_bind_stage(b, first->input_mul, first->k, &mat->mul, err));
    return oct_bind_weight(b, &rows, 0, mat, err);
}

void oct_bind_label(oct_binder *b, const char *label) {
    if (!b->first_label)
        b->first_label = label;
    else if (strcmp(b->first_label, label) != 0)
        b->mixed_labels = true;
}

oct_status oct_bind_group(oct_binder *b, const char *prefix, const oct_arch_projection *p,
                          uint32_t n_p, oct_bind_wish wish, oct_group *g, oct_err *err) {
    oct_linear_source src[OCT_GROUP_MATS];
    char name[OCT_BIND_NAME];
    bool all = true;

    *g = (oct_group){0};
    for (uint32_t i = 0; i < n_p; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, p[i].suffix);
        OCT_TRY(oct_scheme_linear(b->scheme, &b->arena, name, p[i].n, p[i].k, p[i].need_bias,
                                  &src[i], err));
        all &= src[i].kind != OCT_LINEAR_ABSENT;
        if (src[i].kind != OCT_LINEAR_ABSENT) oct_bind_label(b, src[i].label);
    }
    if (!all) return OCT_OK; /* noted; told after the whole model was looked at */

    for (uint32_t i = 0; i < n_p;) {
        uint32_t end = i + 1;
        while (end < n_p && oct_bind_alike(b, &src[i], &src[end], wish)) end++;
        OCT_TRY(bind_mat(b, src + i, src + end, g->width, wish, &g->mat[g->n_mats], err));
        g->width += g->mat[g->n_mats++].n;
        i = end;
    }
    return OCT_OK;
}

oct_status oct_bind_kv(oct_binder *b, uint32_t l, const char *prefix, oct_layer *layer,
                       oct_err *err) {
    const oct_model_config *c = &b->m->config;
    const uint32_t width = c->n_kv_heads * c->head_dim;
    oct_kv_source kv;
    char name[OCT_BIND_NAME];

    snprintf(name, sizeof name, "%sself_attn", prefix);
    OCT_TRY(
        oct_kv_layer_choose(b->m, b->scheme, &b->arena, name, b->kv_skip[l], &kv, &layer->kv, err));
    OCT_TRY(oct_bind_stage(b, kv.k_scale, width, &layer->k_scale, err));
    OCT_TRY(oct_bind_stage(b, kv.v_scale, width, &layer->v_scale, err));
    OCT_TRY(oct_bind_stage(b, kv.k_offset, width, &layer->k_offset, err));
    return oct_bind_stage(b, kv.v_offset, width, &layer->v_offset, err);
}

bool oct_bind_own_head(const oct_binder *b) {
    return !b->m->config.tie_word_embeddings || oct_checkpoint_find(b->ckpt, "lm_head.weight");
}

/* The embedding as a float table, and the head: its own matrix, or the embedding once more. */
static oct_status bind_ends(oct_binder *b, oct_err *err) {
    oct_model *m = b->m;
    const oct_model_config *c = &m->config;
    const uint64_t shape[2] = {c->vocab, c->hidden};
    const oct_arch_projection head[] = {{"lm_head", c->vocab, c->hidden, false}};
    const oct_tensor *embed = oct_checkpoint_need(b->ckpt, "model.embed_tokens.weight", 2, shape);
    const bool own_head = oct_bind_own_head(b);

    /* A factor on the logits is one on the head's input. */
    OCT_TRY(oct_bind_norm(b, "model.norm", c->hidden, c->logits_scale, &m->final_norm, err));
    if (own_head) OCT_TRY(oct_bind_group(b, "", head, 1, OCT_BIND_AS_WISHED, &m->head, err));
    if (!embed) return OCT_OK;

    const oct_linear_source src = {
        .kind = OCT_LINEAR_FLOAT, .n = c->vocab, .k = c->hidden, .weight = embed, .label = "FLOAT"};
    const uint64_t step_bytes = m->info.step_weight_bytes;
    oct_mat table = {0};
    const oct_status st = bind_mat(b, &src, &src + 1, 0, OCT_BIND_AS_STORED, &table, err);
    m->embed = table.weight;
    OCT_TRY(st);
    if (own_head) {
        m->info.step_weight_bytes = step_bytes;
        return OCT_OK;
    }
    /* A tied head is the table itself, unless projections are quantised on load: then the head is
     * too, as a matrix of its own. */
    m->head_is_embed = m->options.quant != OCT_QUANT_INT8;
    if (!m->head_is_embed) {
        m->info.step_weight_bytes = step_bytes;
        OCT_TRY(bind_mat(b, &src, &src + 1, 0, OCT_BIND_AS_WISHED, &table, err));
    }
    m->head = (oct_group){.mat = {table}, .n_mats = 1, .width = c->vocab};
    return OCT_OK;
}

static void describe(oct_binder *b) {
    oct_model *m = b->m;
    const bool on_load = m->options.quant == OCT_QUANT_INT8;
    char kv[64];
    oct_kv_describe(m, kv, sizeof kv);
    snprintf(m->scheme_text, sizeof m->scheme_text, "%s%s%s",
             on_load          ? "INT8 on load (W8A8 dynamic)"
             : b->first_label ? b->first_label
                              : "FLOAT",
             !on_load && b->mixed_labels ? " (mixed)" : "", kv);
    m->info.scheme = m->scheme_text;
}

static oct_status bind_all(oct_binder *b, oct_err *err) {
    oct_model *m = b->m;
    for (uint32_t l = 0; l < m->config.n_layers; l++) {
        OCT_TRY(oct_bind_layer(b, l, err));
        oct_arena_reset(&b->arena);
    }
    OCT_TRY(bind_ends(b, err));
    OCT_TRY(oct_checkpoint_check_needs(b->ckpt, err));
    OCT_TRY(oct_checkpoint_check_unchanged(b->ckpt, err));

    OCT_TRY(oct_scheme_check_unused(b->scheme, err));
    describe(b);
    return OCT_OK;
}

oct_status oct_model_bind(oct_model *m, oct_checkpoint *ckpt, oct_err *err) {
    oct_binder b = {.m = m, .ckpt = ckpt, .total = oct_checkpoint_weight_bytes(ckpt)};

    OCT_TRY(oct_kv_skip_parse(m->options.kv_skip_layers, &m->config, b.kv_skip, err));
    oct_arena_init(&b.arena, m->mem, 0);
    oct_status st = oct_bind_open_scheme(&b, err);
    if (st == OCT_OK) st = bind_all(&b, err);
    oct_scheme_close(b.scheme);
    oct_arena_fini(&b.arena);
    oct_free(m->mem, b.piece, b.piece_bytes, 1);
    return st;
}
