/* apps/inspect/fields.c - hyperparameters as a list: what --json shows and what is compared. */
#include <stddef.h>

#include "codec/json.h"
#include "inspect.h"

typedef enum field_type { U32, BOOL, F64, BYTES, FAMILY, ROPE_TYPE, EOS, ID } field_type;

typedef struct field {
    const char *name;
    field_type type;
    size_t at;
} field;

#define FIELD(type, member) \
    { #member, type, offsetof(oct_model_config, member) }

/* Names are ours, not those of config.json, which differ from family to family. */
static const field fields[] = {
    FIELD(FAMILY, family),
    FIELD(U32, n_layers),
    FIELD(U32, hidden),
    FIELD(U32, intermediate),
    FIELD(U32, n_heads),
    FIELD(U32, n_kv_heads),
    FIELD(U32, head_dim),
    FIELD(U32, vocab),
    FIELD(U32, max_position),
    FIELD(F64, rms_eps),
    FIELD(BOOL, tie_word_embeddings),
    FIELD(BOOL, qkv_bias),
    FIELD(BOOL, o_bias),
    FIELD(BOOL, mlp_bias),
    FIELD(BOOL, qk_norm),
    FIELD(U32, sliding_window),
    FIELD(BYTES, layer_slides),
    FIELD(ID, bos_id),
    FIELD(EOS, eos_ids),
    {"rope_type", ROPE_TYPE, offsetof(oct_model_config, rope.type)},
    {"rope_rotary_dim", U32, offsetof(oct_model_config, rope.rotary_dim)},
    {"rope_theta", F64, offsetof(oct_model_config, rope.theta)},
    {"rope_factor", F64, offsetof(oct_model_config, rope.factor)},
    {"rope_low_freq_factor", F64, offsetof(oct_model_config, rope.low_freq_factor)},
    {"rope_high_freq_factor", F64, offsetof(oct_model_config, rope.high_freq_factor)},
    {"rope_original_max_position", U32, offsetof(oct_model_config, rope.original_max_position)},
    {"rope_attention_factor", F64, offsetof(oct_model_config, rope.attention_factor)},
    {"local_rope_theta", F64, offsetof(oct_model_config, local_rope.theta)},
    FIELD(F64, embed_scale),
    FIELD(F64, residual_scale),
    FIELD(F64, logits_scale),
    FIELD(F64, attention_scale),
    FIELD(F64, attention_softcap),
    FIELD(F64, final_softcap),
    FIELD(BOOL, norm_plus_one),
    FIELD(U32, n_experts),
    FIELD(U32, n_experts_used),
    FIELD(U32, moe_intermediate),
    FIELD(U32, shared_intermediate),
    FIELD(BOOL, shared_gate),
    FIELD(BOOL, norm_topk_prob),
    FIELD(BOOL, router_sigmoid),
    FIELD(BOOL, router_bias),
    FIELD(F64, routed_scaling),
    FIELD(BYTES, layer_is_moe),
};

static const char *rope_name(oct_rope_type type) {
    static const char *const names[] = {
        [OCT_ROPE_DEFAULT] = "default", [OCT_ROPE_LINEAR] = "linear",
        [OCT_ROPE_LLAMA3] = "llama3",   [OCT_ROPE_YARN] = "yarn",
        [OCT_ROPE_FACTORS] = "factors", [OCT_ROPE_LONG] = "longrope",
        [OCT_ROPE_DYNAMIC] = "dynamic",
    };
    return (size_t)type < OCT_COUNT(names) ? names[type] : "unknown";
}

/* The layers that are marked: [0, 2, 5]. */
static json_t *marked(const uint8_t *marks, uint32_t n) {
    json_t *list = json_array();
    for (uint32_t l = 0; l < n; l++)
        if (marks[l]) oct_json_push(&list, json_integer(l));
    return list;
}

static json_t *ids(const oct_model_config *c) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->n_eos; i++) oct_json_push(&list, json_integer(c->eos_ids[i]));
    return list;
}

bool inspect_field(const oct_model_config *c, size_t i, const char **name, json_t **value) {
    if (i >= OCT_COUNT(fields)) return false;
    const void *at = (const char *)c + fields[i].at;
    *name = fields[i].name;
    switch (fields[i].type) {
    case U32:
        *value = json_integer(*(const uint32_t *)at);
        break;
    case BOOL:
        *value = json_boolean(*(const bool *)at);
        break;
    case F64:
        *value = json_real(*(const double *)at);
        break;
    case BYTES:
        *value = marked(at, c->n_layers);
        break;
    case FAMILY:
        *value = json_string(oct_family_name(c->family));
        break;
    case ROPE_TYPE:
        *value = json_string(rope_name(*(const oct_rope_type *)at));
        break;
    case EOS:
        *value = ids(c);
        break;
    case ID:
        *value = c->bos_id < 0 ? json_null() : json_integer(c->bos_id);
        break;
    }
    return true;
}
