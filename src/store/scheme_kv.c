/*
 * store/scheme_kv.c - static scales of a quantised cache, under the names of every writer.
 *
 *   A.k_scale, A.v_scale                           compressed-tensors
 *   A.k_proj.k_scale, A.v_proj.v_scale             ModelOpt
 *   A.qkv_proj.k_scale, A.qkv_proj.v_scale         exporters that fuse
 *   A.k_proj.output_scale, A.v_proj.output_scale   Quark, older FP8 writers
 *   A.kv_scale                                     one for both
 *
 * One value, one a head ([heads, 1, 1]) or one a channel; always expanded to channels. Scales of
 * the query and of the probabilities are known and not needed: these stay float.
 */
#include "store/scheme_parts.h"

typedef struct kv_names {
    const char *k, *v, *k_zero, *v_zero;
} kv_names;

static const kv_names spellings[] = {
    {".k_scale", ".v_scale", ".k_zero_point", ".v_zero_point"},
    {".k_proj.k_scale", ".v_proj.v_scale", ".k_proj.k_zero_point", ".v_proj.v_zero_point"},
    {".qkv_proj.k_scale", ".qkv_proj.v_scale", ".qkv_proj.k_zero_point", ".qkv_proj.v_zero_point"},
    {".k_proj.output_scale", ".v_proj.output_scale", ".k_proj.output_zero_point",
     ".v_proj.output_zero_point"},
    {".kv_scale", ".kv_scale", ".kv_zero_point", ".kv_zero_point"},
};

bool oct_scheme_any_kv_scale(const oct_scheme *s) {
    for (size_t i = 0; i < s->ckpt->table.n; i++)
        for (size_t k = 0; k < OCT_COUNT(spellings); k++)
            if (oct_str_ends(s->ckpt->table.v[i].name, oct_str_of(spellings[k].k))) return true;
    return false;
}

static const kv_names *find_names(const oct_scheme *s, const char *attn) {
    for (size_t i = 0; i < OCT_COUNT(spellings); i++)
        if (oct_scheme_find(s, attn, spellings[i].k) || oct_scheme_find(s, attn, spellings[i].v))
            return &spellings[i];
    return NULL;
}

/* Values of one operand as one a channel. *grain is made finer if need be. */
static oct_status read_channels(oct_scheme *s, oct_arena *arena, const char *attn, const char *tail,
                                const oct_kv_rule *rule, uint32_t n_heads, uint32_t head_dim,
                                oct_kv_grain *grain, const float **out, oct_err *err) {
    const uint32_t n = n_heads * head_dim;
    const oct_tensor *t = oct_scheme_find(s, attn, tail);
    const uint64_t count = t ? t->n_rows * t->row_elems : 0;
    oct_kv_grain is = count == 1         ? OCT_KV_GRAIN_TENSOR
                      : count == n_heads ? OCT_KV_GRAIN_HEAD
                      : count == n       ? OCT_KV_GRAIN_CHANNEL
                                         : rule->grain;
    if (!rule->any_grain && is > rule->grain) is = rule->grain; /* finer than declared: noted */
    const uint32_t want[] = {1, n_heads, n};
    OCT_TRY(oct_scheme_values(s, arena, attn, tail, want[is], OCT_VALUE_SCALE, false, out, err));
    if (!*out) return OCT_OK;
    if (is > *grain) *grain = is;
    if (is == OCT_KV_GRAIN_CHANNEL) return OCT_OK;
    float *v = oct_arena_alloc(arena, n, sizeof *v);
    if (!v) return OCT_FAIL(err, OCT_E_NOMEM, "%s%s: no memory", attn, tail);
    for (uint32_t i = 0; i < n; i++) v[i] = (*out)[is == OCT_KV_GRAIN_TENSOR ? 0 : i / head_dim];
    *out = v;
    return OCT_OK;
}

static void consume_others(oct_scheme *s, const char *attn) {
    static const char *const tails[] = {".q_scale",
                                        ".q_zero_point",
                                        ".q_proj.q_scale",
                                        ".q_proj.output_scale",
                                        ".q_proj.output_zero_point",
                                        ".prob_scale",
                                        ".prob_output_scale"};
    for (size_t i = 0; i < OCT_COUNT(tails); i++)
        oct_checkpoint_consume(s->ckpt, oct_scheme_find(s, attn, tails[i]));
}

void oct_scheme_kv_leave(oct_scheme *s, const char *attn) {
    static const char *const modelslim[] = {".k_proj.kv_cache_scale", ".k_proj.kv_cache_offset",
                                            ".v_proj.kv_cache_scale", ".v_proj.kv_cache_offset"};
    for (size_t i = 0; i < OCT_COUNT(modelslim); i++)
        oct_checkpoint_consume(s->ckpt, oct_scheme_find(s, attn, modelslim[i]));
    for (size_t i = 0; i < OCT_COUNT(spellings); i++) {
        const kv_names *n = &spellings[i];
        const char *const tails[] = {n->k, n->v, n->k_zero, n->v_zero};
        for (size_t t = 0; t < OCT_COUNT(tails); t++)
            oct_checkpoint_consume(s->ckpt, oct_scheme_find(s, attn, tails[t]));
    }
    consume_others(s, attn);
}

oct_status oct_scheme_kv_scales(oct_scheme *s, oct_arena *arena, const char *attn,
                                const oct_kv_rule *rule, uint32_t n_kv_heads, uint32_t head_dim,
                                oct_kv_source *out, oct_err *err) {
    const kv_names *names = find_names(s, attn);
    if (!names && !rule->need) return OCT_OK;
    if (!names) names = &spellings[0];
    out->grain = OCT_KV_GRAIN_TENSOR;
    OCT_TRY(read_channels(s, arena, attn, names->k, rule, n_kv_heads, head_dim, &out->grain,
                          &out->k_scale, err));
    OCT_TRY(read_channels(s, arena, attn, names->v, rule, n_kv_heads, head_dim, &out->grain,
                          &out->v_scale, err));
    OCT_TRY(oct_scheme_check_zero(s, attn, names->k_zero, err));
    OCT_TRY(oct_scheme_check_zero(s, attn, names->v_zero, err));
    consume_others(s, attn);
    if (!out->k_scale || !out->v_scale) {
        *out = (oct_kv_source){0}; /* noted */
        return OCT_OK;
    }
    out->offered = rule->kind;
    out->kind = rule->offer_only ? OCT_KV_KIND_FLOAT : rule->kind;
    return OCT_OK;
}
