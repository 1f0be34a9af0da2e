/*
 * store/checkpoint_gguf.c - a GGUF file seen as a Hugging Face checkpoint: names, and the row order
 * of q and k where the writer rearranged them.
 */
#include <stdio.h>

#include "store/checkpoint_parts.h"
#include "store/config_parts.h"

/* A part of a layer, or a tensor of the whole model, without ".weight" or ".bias". */
static const struct {
    const char *gguf, *usual;
} layer_parts[] =
    {
        {"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"},
        {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
        {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"},
        {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
        {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
        {"ffn_down", "mlp.down_proj"},
},
  model_parts[] = {
      {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};

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

/* The usual name in out, "" when the tensor has none. */
static void usual_name(oct_str name, char out[OCT_ERR_TEXT]) {
    int layer;
    oct_str part, last;
    out[0] = '\0';
    if (!split(name, &layer, &part, &last)) return;
    for (size_t i = 0; layer >= 0 && i < OCT_COUNT(layer_parts); i++)
        if (oct_str_is(part, layer_parts[i].gguf))
            snprintf(out, OCT_ERR_TEXT, "model.layers.%d.%s.%s", layer, layer_parts[i].usual,
                     last.ptr);
    for (size_t i = 0; layer < 0 && i < OCT_COUNT(model_parts); i++)
        if (oct_str_is(part, model_parts[i].gguf))
            snprintf(out, OCT_ERR_TEXT, "%s.%s", model_parts[i].usual, last.ptr);
}

/* Heads whose rows are in pair order, or 0. */
static uint32_t interleaved(const oct_model_config *c, const oct_tensor *t) {
    int layer;
    oct_str part, last;
    if (!oct_families[c->family].gguf_interleaved || !split(t->name, &layer, &part, &last))
        return 0;
    const uint32_t heads = oct_str_is(part, "attn_q")   ? c->n_heads
                           : oct_str_is(part, "attn_k") ? c->n_kv_heads
                                                        : 0;
    /* A tensor of another size is refused when the model asks for it. */
    return layer >= 0 && heads && t->shape[0] == (uint64_t)heads * c->head_dim &&
                   oct_dtype_block_elems(t->dtype) <= t->row_elems &&
                   (t->rank > 1 || oct_dtype_block_elems(t->dtype) == 1)
               ? heads
               : 0;
}

static oct_status add_tensor(oct_checkpoint *c, const oct_tensor *from, oct_err *err) {
    char name[OCT_ERR_TEXT];
    oct_tensor t = *from;
    usual_name(from->name, name);
    t.n_interleaved_heads = interleaved(&c->config, from);
    if (name[0]) {
        t.name.len = strlen(name);
        t.name.ptr = oct_arena_strndup(&c->arena, name, t.name.len);
    }
    if (!t.name.ptr || !oct_tensor_table_add(&c->table, &t))
        return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
    return OCT_OK;
}

oct_status oct_checkpoint_open_gguf(oct_checkpoint *c, oct_err *err) {
    OCT_TRY(oct_gguf_open(c->mem, c->path, &c->gguf, err));
    OCT_TRY(oct_model_config_from_gguf(c->gguf, &c->config, err));
    for (size_t i = 0; i < oct_gguf_n_tensors(c->gguf); i++)
        OCT_TRY(add_tensor(c, oct_gguf_tensor_at(c->gguf, i), err));
    return OCT_OK;
}
