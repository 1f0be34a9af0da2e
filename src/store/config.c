/* store/config.c - families, and the rules that hold whatever file the numbers came from. */
#include "store/config.h"

#include <math.h>

#include "store/config_parts.h"

const oct_family_row oct_families[OCT_FAMILY_COUNT] = {
    {.family = OCT_FAMILY_LLAMA,
     .name = "llama",
     .architecture = "LlamaForCausalLM",
     .default_theta = 10000,
     .o_bias_follows = true,
     .has_mlp_bias = true,
     .gguf_interleaved = true},
    {.family = OCT_FAMILY_QWEN2,
     .name = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .default_theta = 10000,
     .always_qkv_bias = true,
     .has_window = true},
    {.family = OCT_FAMILY_QWEN3,
     .name = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .default_theta = 10000,
     .o_bias_follows = true,
     .qk_norm = true,
     .has_window = true},
};

const char *oct_family_name(oct_family f) { return oct_families[f].name; }

const oct_family_row *oct_family_find(oct_str architecture, oct_str name) {
    for (int i = 0; i < OCT_FAMILY_COUNT; i++)
        if (architecture.len ? oct_str_is(architecture, oct_families[i].architecture)
                             : oct_str_is(name, oct_families[i].name))
            return &oct_families[i];
    return NULL;
}

oct_status oct_family_unknown(const char *where, oct_str got, oct_err *err) {
    char known[256] = "";
    size_t at = 0;
    for (int i = 0; i < OCT_FAMILY_COUNT && at < sizeof known - 1; i++) {
        const int n = snprintf(known + at, sizeof known - at, "%s%s (%s)", i ? ", " : "",
                               oct_families[i].architecture, oct_families[i].name);
        if (n > 0) at += (size_t)n;
    }
    return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                    "%s: architecture is not supported (got \"%.64s\", want one of %s)", where,
                    got.len ? got.ptr : "", known);
}

double oct_yarn_mscale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
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
    if (c->rope.rotary_dim < 2 || c->rope.rotary_dim % 2 != 0 || c->rope.rotary_dim > c->head_dim)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: rotary size must be even, from 2 to head_dim (got %u, head_dim %u)",
                        where, c->rope.rotary_dim, c->head_dim);
    return OCT_OK;
}

/* The limits keep every product of two sizes below 2^41: no later one can overflow 64 bits. */
_Static_assert((uint64_t)OCT_MAX_VOCAB *OCT_MAX_WIDTH < (uint64_t)1 << 42, "sizes multiply safely");
_Static_assert((uint64_t)OCT_MAX_HEADS *OCT_MAX_HEAD_DIM < UINT32_MAX, "head products fit uint32");

static oct_status check_rope(const oct_rope_config *r, const char *where, oct_err *err) {
    if (!(isfinite(r->theta) && r->theta > 0))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: rope_theta must be above 0 (got %g)", where,
                        r->theta);
    if (r->type == OCT_ROPE_YARN && !(r->theta > 1))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: rope_theta must be above 1 with yarn (got %g)",
                        where, r->theta);
    if (r->type == OCT_ROPE_LLAMA3 && !(r->high_freq_factor > r->low_freq_factor))
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "%s: high_freq_factor must be above low_freq_factor (got %g and %g)", where,
                        r->high_freq_factor, r->low_freq_factor);
    if (!(isfinite(r->attention_factor) && r->attention_factor > 0))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: attention_factor must be above 0 (got %g)", where,
                        r->attention_factor);
    for (uint32_t i = 0; r->type == OCT_ROPE_FACTORS && i < r->rotary_dim / 2; i++)
        if (!(isfinite(r->factors[i]) && r->factors[i] > 0))
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: rope factor %u must be above 0 (got %g)",
                            where, i, (double)r->factors[i]);
    return OCT_OK;
}

static oct_status check_id(const char *where, const char *what, int32_t id, uint32_t vocab,
                           oct_err *err) {
    if (id >= 0 && (uint32_t)id < vocab) return OCT_OK;
    return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %s is outside the vocabulary (got %d, want below %u)",
                    where, what, id, vocab);
}

oct_status oct_model_config_check(const oct_model_config *c, const char *where, oct_err *err) {
    OCT_TRY(check_sizes(c, where, err));
    OCT_TRY(check_rope(&c->rope, where, err));
    if (c->bos_id != -1) OCT_TRY(check_id(where, "bos_token_id", c->bos_id, c->vocab, err));
    for (uint32_t i = 0; i < c->n_eos; i++)
        OCT_TRY(check_id(where, "eos_token_id", c->eos_ids[i], c->vocab, err));
    return OCT_OK;
}

void oct_model_config_fini(oct_model_config *c) {
    json_decref(c->quantization_config);
    c->quantization_config = NULL;
}
