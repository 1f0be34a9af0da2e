/* Any text as config.json and as generation_config.json. What is accepted keeps its promises. */
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "store/config.h"
#include "store/generation_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const oct_model_config *c) {
    if (c->n_layers < 1 || c->n_layers > OCT_MAX_LAYERS || c->n_heads < 1 || c->n_kv_heads < 1 ||
        c->n_heads % c->n_kv_heads != 0 || c->head_dim < 1 || c->hidden < 1 || c->vocab < 1 ||
        c->n_heads * c->head_dim > OCT_MAX_WIDTH || c->rope.rotary_dim > c->head_dim ||
        c->rope.rotary_dim % 2 != 0 || c->n_eos > OCT_MAX_EOS)
        abort();
    if (!(c->rms_eps > 0) || !(c->rope.theta > 0) || !isfinite(c->rope.attention_factor)) abort();
    if (c->has_local_rope &&
        (c->local_rope.rotary_dim != c->rope.rotary_dim || !(c->local_rope.theta > 0) ||
         !isfinite(c->local_rope.attention_factor)))
        abort();
    if (c->n_experts > OCT_MAX_EXPERTS || c->n_experts_used > c->n_experts ||
        (c->n_experts &&
         (c->n_experts_used < 1 || c->moe_intermediate < 1 || c->moe_intermediate > OCT_MAX_WIDTH)))
        abort();
    if (!((float)c->embed_scale > 0) || !((float)c->residual_scale > 0) ||
        !((float)c->logits_scale > 0) || !((float)c->attention_scale > 0) ||
        !(c->attention_softcap >= 0) || !(c->final_softcap >= 0))
        abort();
    for (uint32_t i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] < 0 || (uint32_t)c->eos_ids[i] >= c->vocab) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static oct_model_config config;
    static oct_generation_config generation;
    const oct_str text = {(const char *)data, size};
    oct_err err = {0};
    oct_log_set_level(OCT_LOG_OFF);
    if (oct_model_config_parse(text, "config.json", &config, &err) == OCT_OK) {
        check(&config);
        oct_model_config_fini(&config);
    } else if (err.text[0] == '\0') {
        abort();
    }
    oct_generation_config_parse(text, "generation_config.json", 1000, &generation);
    if (generation.n_eos > OCT_MAX_EOS) abort();
    if (generation.has_top_p && !(generation.top_p > 0 && generation.top_p <= 1)) abort();
    return 0;
}
