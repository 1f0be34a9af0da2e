/* store/config.c - families, and the rules that hold whatever file the numbers came from. */
#include "store/config.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "store/config_parts.h"

#define SILU .act_key = "hidden_act", .act = "silu"
#define GELU .act_key = "hidden_activation", .act = "gelu_pytorch_tanh"

const oct_family_row oct_families[OCT_FAMILY_COUNT] = {
    {.family = OCT_FAMILY_LLAMA,
     .name = "llama",
     .architecture = "LlamaForCausalLM",
     .gguf = "llama",
     SILU,
     .default_theta = 10000,
     .o_bias_follows = true,
     .has_mlp_bias = true,
     .gguf_pairs = true},
    {.family = OCT_FAMILY_QWEN2,
     .name = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .gguf = "qwen2",
     SILU,
     .default_theta = 10000,
     .always_qkv_bias = true,
     .window = OCT_WINDOW_FROM},
    {.family = OCT_FAMILY_QWEN3,
     .name = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .gguf = "qwen3",
     SILU,
     .default_theta = 10000,
     .o_bias_follows = true,
     .qk_norm = true,
     .window = OCT_WINDOW_FROM},
    {.family = OCT_FAMILY_MISTRAL,
     .name = "mistral",
     .architecture = "MistralForCausalLM",
     .gguf = "mistral",
     SILU,
     .default_theta = 10000,
     .default_window = 4096,
     .gguf_pairs = true,
     .window = OCT_WINDOW_ALL},
    {.family = OCT_FAMILY_PHI3,
     .name = "phi3",
     .architecture = "Phi3ForCausalLM",
     .gguf = "phi3",
     SILU,
     .default_theta = 10000,
     .default_eps = 1e-5,
     .window = OCT_WINDOW_ALL},
    {.family = OCT_FAMILY_GEMMA2,
     .name = "gemma2",
     .architecture = "Gemma2ForCausalLM",
     .gguf = "gemma2",
     GELU,
     .default_theta = 10000,
     .default_head_dim = 256,
     .default_window = 4096,
     .default_tied = true,
     .o_bias_follows = true,
     .norm_plus_one = true,
     .embed_sqrt = true,
     .has_query_scalar = true,
     .has_softcaps = true,
     .softcaps = {50, 30},
     .window = OCT_WINDOW_EVEN},
    {.family = OCT_FAMILY_GEMMA3,
     .name = "gemma3_text",
     .architecture = "Gemma3ForCausalLM",
     .gguf = "gemma3",
     GELU,
     .default_theta = 1000000,
     .default_heads = 8,
     .default_kv_heads = 4,
     .default_head_dim = 256,
     .default_vocab = 262208,
     .default_positions = 131072,
     .default_window = 4096,
     .default_tied = true,
     .o_bias_follows = true,
     .qk_norm = true,
     .norm_plus_one = true,
     .embed_sqrt = true,
     .has_query_scalar = true,
     .has_softcaps = true,
     .local_theta = 10000,
     .window = OCT_WINDOW_PATTERN},
    {.family = OCT_FAMILY_GLM4,
     .name = "glm4",
     .architecture = "Glm4ForCausalLM",
     .gguf = "glm4",
     SILU,
     .default_theta = 10000,
     .default_eps = 1.5625e-7,
     .default_partial = 0.5,
     .default_head_dim = 128,
     .pairs = true},
    {.family = OCT_FAMILY_OLMO2,
     .name = "olmo2",
     .architecture = "Olmo2ForCausalLM",
     .gguf = "olmo2",
     SILU,
     .default_theta = 10000,
     .default_eps = 1e-5,
     .o_bias_follows = true,
     .qk_norm = true},
    {.family = OCT_FAMILY_GRANITE,
     .name = "granite",
     .architecture = "GraniteForCausalLM",
     .gguf = "granite",
     SILU,
     .default_theta = 10000,
     .o_bias_follows = true,
     .has_mlp_bias = true,
     .has_multipliers = true,
     .gguf_pairs = true},
    {.family = OCT_FAMILY_MIXTRAL,
     .name = "mixtral",
     .architecture = "MixtralForCausalLM",
     .gguf = "llama",
     SILU,
     .default_theta = 1000000,
     .default_eps = 1e-5,
     .gguf_pairs = true,
     .window = OCT_WINDOW_ALL,
     .moe = {.n_experts = "num_local_experts",
             .intermediate = "intermediate_size",
             .always_norm = true,
             .gguf_norm = true}},
    {.family = OCT_FAMILY_QWEN2_MOE,
     .name = "qwen2_moe",
     .architecture = "Qwen2MoeForCausalLM",
     .gguf = "qwen2moe",
     SILU,
     .default_theta = 10000,
     .always_qkv_bias = true,
     .window = OCT_WINDOW_EVEN_BELOW,
     .moe = {.n_experts = "num_experts",
             .intermediate = "moe_intermediate_size",
             .has_dense_layers = true,
             .has_shared = true}},
    {.family = OCT_FAMILY_QWEN3_MOE,
     .name = "qwen3_moe",
     .architecture = "Qwen3MoeForCausalLM",
     .gguf = "qwen3moe",
     SILU,
     .default_theta = 10000,
     .o_bias_follows = true,
     .qk_norm = true,
     .window = OCT_WINDOW_IF_USED,
     .moe = {.n_experts = "num_experts",
             .intermediate = "moe_intermediate_size",
             .has_dense_layers = true,
             .gguf_norm = true}},
    {.family = OCT_FAMILY_MINIMAX_M2,
     .name = "minimax_m2",
     .architecture = "MiniMaxM2ForCausalLM",
     .gguf = "minimax-m2",
     SILU,
     .default_theta = 5000000,
     .qk_norm = true,
     .moe = {.n_experts = "num_local_experts",
             .intermediate = "intermediate_size",
             .always_norm = true,
             .gguf_norm = true,
             .sigmoid = true}},
};

const char *oct_family_name(oct_family f) { return oct_families[f].name; }
const char *oct_family_architecture(oct_family f) { return oct_families[f].architecture; }

bool oct_family_keeps_pairs(oct_family f) { return oct_families[f].pairs; }
bool oct_family_norm_plus_one(oct_family f) { return oct_families[f].norm_plus_one; }

const oct_family_row *oct_family_find(oct_str architecture, oct_str name) {
    for (int i = 0; i < OCT_FAMILY_COUNT; i++)
        if (architecture.len ? oct_str_is(architecture, oct_families[i].architecture)
                             : oct_str_is(name, oct_families[i].name))
            return &oct_families[i];
    return NULL;
}

const oct_family_row *oct_family_find_gguf(oct_str name, bool has_experts) {
    const oct_family_row *found = NULL;
    for (int i = 0; i < OCT_FAMILY_COUNT; i++) {
        if (!oct_str_is(name, oct_families[i].gguf)) continue;
        if (!found || (oct_families[i].moe.n_experts != NULL) == has_experts)
            found = &oct_families[i];
    }
    return found;
}

oct_status oct_family_unknown(const char *where, oct_str got, oct_err *err) {
    char known[384] = "";
    size_t at = 0;
    for (int i = 0; i < OCT_FAMILY_COUNT; i++) {
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "",
                               oct_families[i].architecture);
        OCT_ASSERT(at < sizeof known);
    }
    return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                    "%s: architecture is not supported (got \"%.64s\", want one of %s)", where,
                    got.len ? got.ptr : "", known);
}

double oct_yarn_mscale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

double oct_longrope_mscale(double reach, uint32_t original) {
    return reach <= 1 || original < 2 ? 1 : sqrt(1 + log(reach) / log((double)original));
}

void oct_model_config_init(oct_model_config *c) {
    memset(c, 0, sizeof *c);
    c->embed_scale = c->residual_scale = c->logits_scale = c->routed_scaling = 1;
}

/* ---- relations ------------------------------------------------------------------------------- */

static oct_status check_rotary(const oct_rope_config *r, uint32_t head_dim, const char *where,
                               oct_err *err) {
    if (r->rotary_dim < 2 || r->rotary_dim % 2 != 0 || r->rotary_dim > head_dim)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: rotary size must be even, from 2 to head_dim (got %u, head_dim %u)",
                        where, r->rotary_dim, head_dim);
    return OCT_OK;
}

static oct_status check_sizes(const oct_model_config *c, const char *where, oct_err *err) {
    if (c->n_heads % c->n_kv_heads != 0)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: num_attention_heads is not a multiple of num_key_value_heads (got %u "
                        "and %u)",
                        where, c->n_heads, c->n_kv_heads);
    if (c->n_heads * c->head_dim > OCT_MAX_WIDTH)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: num_attention_heads * head_dim is too large (got %u * %u, want at "
                        "most %d)",
                        where, c->n_heads, c->head_dim, OCT_MAX_WIDTH);
    return check_rotary(&c->rope, c->head_dim, where, err);
}

/* The limits keep every product of two sizes below 2^41: no later one can overflow 64 bits. */
_Static_assert((uint64_t)OCT_MAX_VOCAB *OCT_MAX_WIDTH < (uint64_t)1 << 42, "sizes multiply safely");
_Static_assert((uint64_t)OCT_MAX_HEADS *OCT_MAX_HEAD_DIM < UINT32_MAX, "head products fit uint32");
_Static_assert((uint64_t)OCT_MAX_EXPERTS *OCT_MAX_WIDTH < (uint64_t)1 << 30, "expert rows fit");

static oct_status check_factors(const float *factors, uint32_t n, const char *where, oct_err *err) {
    for (uint32_t i = 0; i < n; i++)
        if (!(isfinite(factors[i]) && factors[i] > 0))
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: rope factor %u must be above 0 (got %g)",
                            where, i, (double)factors[i]);
    return OCT_OK;
}

static oct_status check_rope(const oct_rope_config *r, const char *where, oct_err *err) {
    const uint32_t half = r->rotary_dim / 2;
    OCT_ASSERT(r->theta > 0); /* as read: a factor from 1e-30 to 1e9 */
    OCT_ASSERT(r->theta <= 1e9);
    if (r->type == OCT_ROPE_YARN && !(r->theta > 1))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: rope_theta must be above 1 with yarn (got %g)",
                        where, r->theta);
    if (r->type == OCT_ROPE_LLAMA3 && !(r->high_freq_factor > r->low_freq_factor))
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: high_freq_factor must be above low_freq_factor (got %g and %g)", where,
                        r->high_freq_factor, r->low_freq_factor);
    OCT_ASSERT(r->attention_factor > 0);
    OCT_ASSERT(isfinite(r->attention_factor));
    if (r->type == OCT_ROPE_FACTORS || r->type == OCT_ROPE_LONG)
        OCT_TRY(check_factors(r->factors, half, where, err));
    return r->type == OCT_ROPE_LONG ? check_factors(r->long_factors, half, where, err) : OCT_OK;
}

static oct_status check_scales(const oct_model_config *c, const char *where, oct_err *err) {
    const struct {
        const char *name;
        double v;
    } scales[] = {{"embedding scale", c->embed_scale},
                  {"residual_multiplier", c->residual_scale},
                  {"logits_scaling", c->logits_scale},
                  {"attention scale", c->attention_scale},
                  {"routed_scaling_factor", c->routed_scaling}};
    for (size_t i = 0; i < OCT_COUNT(scales); i++)
        if (!((float)scales[i].v > 0 && isfinite(scales[i].v)))
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %s must be above 0 (got %g)", where,
                            scales[i].name, scales[i].v);
    /* Folded into eps by model/: neither may vanish nor swallow it. */
    const double eps = c->rms_eps / (c->residual_scale * c->residual_scale);
    if (!(eps > 1e-30 && eps < 1e6))
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: residual_multiplier and rms_norm_eps do not fit (got %g and %g)",
                        where, c->residual_scale, c->rms_eps);
    return OCT_OK;
}

static oct_status check_experts(const oct_model_config *c, const char *where, oct_err *err) {
    if (c->n_experts == 0) return OCT_OK;
    OCT_ASSERT(c->n_experts_used >= 1);
    if (c->n_experts_used > c->n_experts)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: num_experts_per_tok must be from 1 to the number of experts (got %u "
                        "of %u)",
                        where, c->n_experts_used, c->n_experts);
    if (c->n_experts_used > OCT_MAX_EXPERTS_USED)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "%s: num_experts_per_tok is too large (got %u, want at most %d)", where,
                        c->n_experts_used, OCT_MAX_EXPERTS_USED);
    return OCT_OK;
}

static oct_status check_id(const char *where, const char *what, int32_t id, uint32_t vocab,
                           oct_err *err) {
    OCT_ASSERT(id >= 0);
    if ((uint32_t)id < vocab) return OCT_OK;
    return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %s is outside the vocabulary (got %d, want below %u)",
                    where, what, id, vocab);
}

oct_status oct_model_config_check(const oct_model_config *c, const char *where, oct_err *err) {
    OCT_TRY(check_sizes(c, where, err));
    OCT_TRY(check_rope(&c->rope, where, err));
    if (c->has_local_rope) {
        OCT_TRY(check_rotary(&c->local_rope, c->head_dim, where, err));
        OCT_TRY(check_rope(&c->local_rope, where, err));
    }
    OCT_TRY(check_scales(c, where, err));
    OCT_TRY(check_experts(c, where, err));
    if (c->bos_id != -1) OCT_TRY(check_id(where, "bos_token_id", c->bos_id, c->vocab, err));
    for (uint32_t i = 0; i < c->n_eos; i++)
        OCT_TRY(check_id(where, "eos_token_id", c->eos_ids[i], c->vocab, err));
    return OCT_OK;
}

void oct_model_config_fini(oct_model_config *c) {
    json_decref(c->quantization_config);
    c->quantization_config = NULL;
}
