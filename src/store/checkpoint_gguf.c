/*
 * store/checkpoint_gguf.c - a GGUF file seen as a Hugging Face checkpoint: its names, and one
 * tensor for each expert where a layer's experts are stacked.
 */
#include <stdio.h>

#include "store/checkpoint_parts.h"
#include "store/config_parts.h"

/* A part of a layer, or a tensor of the whole model, without ".weight" or ".bias". */
typedef struct part_name {
    const char *gguf, *usual;
} part_name;

static const part_name layer_parts[] = {
    {"attn_norm", "input_layernorm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_qkv", "self_attn.qkv_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
    {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
    {"ffn_down_shexp", "mlp.shared_expert.down_proj"},
    {"post_attention_norm", "post_attention_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
};

static const part_name model_parts[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};

/* Where a family calls a part otherwise; looked up first. */
static const struct {
    oct_family family;
    part_name part;
} family_parts[] = {
    {OCT_FAMILY_PHI3, {"ffn_up", "mlp.gate_up_proj"}},
    {OCT_FAMILY_GEMMA2, {"ffn_norm", "pre_feedforward_layernorm"}},
    {OCT_FAMILY_GEMMA3, {"ffn_norm", "pre_feedforward_layernorm"}},
    {OCT_FAMILY_GLM4, {"ffn_up", "mlp.gate_up_proj"}},
    {OCT_FAMILY_GLM4, {"post_attention_norm", "post_self_attn_layernorm"}},
    {OCT_FAMILY_GLM4, {"post_ffw_norm", "post_mlp_layernorm"}},
    {OCT_FAMILY_MIXTRAL, {"ffn_gate_inp", "block_sparse_moe.gate"}},
    {OCT_FAMILY_MINIMAX_M2, {"ffn_gate_inp", "block_sparse_moe.gate"}},
};

/* The experts of a layer, stacked in one tensor [experts][rows][columns]; or gate and up of each
 * one under the other. numbered: of block_sparse_moe. */
static const struct {
    const char *gguf, *usual, *numbered;
    uint32_t n_parts, part; /* rows of an expert fall into n_parts; this is one of them */
} expert_parts[] = {{"ffn_gate_exps", "gate_proj", "w1", 1, 0},
                    {"ffn_up_exps", "up_proj", "w3", 1, 0},
                    {"ffn_down_exps", "down_proj", "w2", 1, 0},
                    {"ffn_gate_up_exps", "gate_proj", "w1", 2, 0},
                    {"ffn_gate_up_exps", "up_proj", "w3", 2, 1}};

/* Splits "blk.12.attn_q.weight" into layer 12, "attn_q", "weight"; layer -1 without "blk.". */
static bool split(oct_str name, int *layer, oct_str *part, oct_str *last) {
    *layer = -1;
    if (oct_str_starts(name, OCT_STR("blk."))) {
        size_t i = 4;
        int n = 0;
        while (i < name.len && name.ptr[i] >= '0' && name.ptr[i] <= '9' && n < OCT_MAX_LAYERS)
            n = 10 * n + (name.ptr[i++] - '0');
        if (i == 4 || i >= name.len || name.ptr[i] != '.') return false;
        *layer = n;
        name = (oct_str){name.ptr + i + 1, name.len - i - 1};
    }
    *last = oct_str_ends(name, OCT_STR(".weight")) ? OCT_STR("weight")
            : oct_str_ends(name, OCT_STR(".bias")) ? OCT_STR("bias")
                                                   : OCT_STR("");
    if (last->len == 0) return false;
    *part = (oct_str){name.ptr, name.len - last->len - 1};
    return true;
}

static const char *layer_part(oct_family family, oct_str part) {
    for (size_t i = 0; i < OCT_COUNT(family_parts); i++)
        if (family_parts[i].family == family && oct_str_is(part, family_parts[i].part.gguf))
            return family_parts[i].part.usual;
    for (size_t i = 0; i < OCT_COUNT(layer_parts); i++)
        if (oct_str_is(part, layer_parts[i].gguf)) return layer_parts[i].usual;
    return NULL;
}

static bool is_numbered(oct_family family) {
    return family == OCT_FAMILY_MIXTRAL || family == OCT_FAMILY_MINIMAX_M2;
}

static void expert_name(oct_family family, int layer, uint32_t expert, size_t row, oct_str last,
                        char out[OCT_ERR_TEXT]) {
    const bool numbered = is_numbered(family);
    snprintf(out, OCT_ERR_TEXT, "model.layers.%d.%s.experts.%u.%s.%s", layer,
             numbered ? "block_sparse_moe" : "mlp", expert,
             numbered ? expert_parts[row].numbered : expert_parts[row].usual, last.ptr);
}

/* "ffn_gate.3": files of before experts were stacked. */
static bool single_expert(oct_family family, int layer, oct_str part, oct_str last,
                          char out[OCT_ERR_TEXT]) {
    static const char *const heads[] = {"ffn_gate.", "ffn_up.", "ffn_down."}; /* as expert_parts */
    for (size_t i = 0; i < OCT_COUNT(heads); i++) {
        const size_t n = strlen(heads[i]);
        uint32_t expert = 0;
        if (!oct_str_starts(part, oct_str_of(heads[i])) || part.len == n) continue;
        for (size_t k = n; k < part.len; k++) {
            if (part.ptr[k] < '0' || part.ptr[k] > '9' || expert > OCT_MAX_EXPERTS) return false;
            expert = 10 * expert + (uint32_t)(part.ptr[k] - '0');
        }
        expert_name(family, layer, expert, i, last, out);
        return true;
    }
    return false;
}

/* The usual name in out, "" when the tensor has none. */
static void usual_name(oct_family family, oct_str name, char out[OCT_ERR_TEXT]) {
    int layer;
    oct_str part, last;
    out[0] = '\0';
    if (!split(name, &layer, &part, &last)) return;
    const char *usual = layer >= 0 ? layer_part(family, part) : NULL;
    if (layer >= 0 && single_expert(family, layer, part, last, out)) return;
    if (usual)
        snprintf(out, OCT_ERR_TEXT, "model.layers.%d.%s.%s", layer, usual, last.ptr);
    else if (layer >= 0 && oct_str_is(part, "exp_probs_b"))
        snprintf(out, OCT_ERR_TEXT, "model.layers.%d.block_sparse_moe.e_score_correction_bias",
                 layer);
    for (size_t i = 0; layer < 0 && i < OCT_COUNT(model_parts); i++)
        if (oct_str_is(part, model_parts[i].gguf))
            snprintf(out, OCT_ERR_TEXT, "%s.%s", model_parts[i].usual, last.ptr);
}

static oct_status add_named(oct_checkpoint *c, oct_tensor *t, const char *name, oct_err *err) {
    if (name[0]) {
        t->name.len = strlen(name);
        t->name.ptr = oct_arena_strndup(&c->arena, name, t->name.len);
    }
    if (!t->name.ptr || !oct_tensor_table_add(&c->table, t))
        return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
    return OCT_OK;
}

static oct_status bad_shape(const oct_checkpoint *c, const oct_tensor *t, oct_err *err) {
    oct_buf got;
    oct_buf_init(&got, c->mem, 0);
    oct_tensor_describe(t, &got);
    const oct_status st = OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %s: bad shape (got %s)", c->path,
                                   t->name.ptr, oct_buf_cs(&got));
    oct_buf_fini(&got);
    return st;
}

/* One part of one expert. */
static oct_status add_expert(oct_checkpoint *c, const oct_tensor *from, size_t row, int layer,
                             uint32_t e, oct_str last, oct_err *err) {
    const uint32_t n_parts = expert_parts[row].n_parts;
    char name[OCT_ERR_TEXT];
    oct_tensor t = *from;
    t.rank = 2;
    t.shape[0] = from->shape[1] / n_parts;
    t.shape[1] = from->shape[2];
    if (from->shape[1] % n_parts != 0) return bad_shape(c, from, err);
    oct_tensor_measure_part(&t);
    t.offset = from->offset + ((uint64_t)e * n_parts + expert_parts[row].part) * t.bytes;
    expert_name(c->config.family, layer, e, row, last, name);
    return add_named(c, &t, name, err);
}

/* A stack of experts as one tensor for each; *done false when `from` is none. */
static oct_status add_experts(oct_checkpoint *c, const oct_tensor *from, bool *done, oct_err *err) {
    int layer;
    oct_str part, last;
    *done = false;
    if (!c->config.n_experts || from->rank != 3 || from->shape[0] != c->config.n_experts ||
        !split(from->name, &layer, &part, &last) || layer < 0)
        return OCT_OK;
    for (size_t i = 0; i < OCT_COUNT(expert_parts); i++) {
        if (!oct_str_is(part, expert_parts[i].gguf)) continue;
        *done = true;
        for (uint32_t e = 0; e < c->config.n_experts; e++)
            OCT_TRY(add_expert(c, from, i, layer, e, last, err));
    }
    return OCT_OK;
}

static oct_status add_tensor(oct_checkpoint *c, const oct_tensor *from, oct_err *err) {
    char name[OCT_ERR_TEXT];
    oct_tensor t = *from;
    bool done;
    OCT_TRY(add_experts(c, from, &done, err));
    if (done) return OCT_OK;
    usual_name(c->config.family, from->name, name);
    if (t.rank == 1 && oct_str_ends(from->name, OCT_STR(".ffn_gate_inp_shexp.weight"))) {
        t.rank = 2; /* a matrix of one row */
        t.shape[1] = t.shape[0];
        t.shape[0] = 1;
        oct_tensor_measure_part(&t);
    }
    return add_named(c, &t, name, err);
}

oct_status oct_checkpoint_open_gguf(oct_checkpoint *c, oct_err *err) {
    OCT_TRY(oct_gguf_open(c->mem, c->path, &c->gguf, err));
    OCT_TRY(oct_model_config_from_gguf(c->gguf, &c->config, err));
    for (size_t i = 0; i < oct_gguf_n_tensors(c->gguf); i++)
        OCT_TRY(add_tensor(c, oct_gguf_tensor_at(c->gguf, i), err));
    return OCT_OK;
}
