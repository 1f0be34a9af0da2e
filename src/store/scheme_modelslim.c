/*
 * store/scheme_modelslim.c - ModelSlim ("ascend"): quant_model_description.json names a scheme for
 * every tensor; the scheme of a projection is that of its .weight (scheme_modelslim_linear.c).
 *
 * INT8 cache ("C8"), in the spellings of several writers:
 *   A.k_proj.kv_cache_scale, A.v_proj...       one a channel, or one for all; F32, F16 or BF16
 *   A.k_proj.kv_cache_offset, ...              the same, or absent
 *   A.QKV.k_proj.kv_cache_scale, ...           models whose q, k and v are one projection
 *   A.fa_k.scale, A.fa_v.scale, A.fa_q.scale   one a head; fa_quant_type says so
 * kv_cache_type (kv_quant_type in older files, null or absent where there is none) says that there
 * is one; only the layers that have scales have it.
 */
#include <stdio.h>

#include "codec/json.h"
#include "store/scheme_parts.h"

/* Keys that describe the file, not a tensor. Unknown keys whose value is no string are ignored. */
static const char *const metadata_keys[] = {
    "model_quant_type",
    "version",
    "group_size",
    "kv_cache_type",
    "kv_quant_type",
    "fa_quant_type",
    "indexer_quant_type",
    "reduce_quant_type",
    "metadata",
    "optional",
    "is_rot_used",
    "ascend_quant_method",
    "max_supported_tp",
    "hc_head_fn",
    "w_bit",
    "a_bit",
    "dev_type",
    "fraction",
    "act_method",
    "co_sparse",
    "anti_method",
    "disable_level",
    "do_smooth",
    "use_sigma",
    "sigma_factor",
    "is_lowbit",
    "mm_tensor",
    "w_sym",
    "open_outlier",
    "is_dynamic",
    "pdmix",
    "quantize",
    "mla_quantize",
    "moe_quantize",
    "mtp_quantize",
};

static bool is_metadata(const char *key) {
    for (size_t i = 0; i < OCT_COUNT(metadata_keys); i++)
        if (strcmp(key, metadata_keys[i]) == 0) return true;
    return false;
}

/* A "*_type" value: null, "" and absent all mean off, an empty span. */
static oct_str type_value(const oct_scheme *s, const char *key) {
    return oct_json_str(json_object_get(s->ckpt->description, key));
}

/* Files of wrapped models call a projection by the wrapper's name, or leave it away. */
const json_t *oct_scheme_described(const oct_scheme *s, const char *own) {
    static const char *const tails[] = {".weight", ".weight_packed"};
    const json_t *d = s->ckpt->description, *v = NULL;
    const oct_str wrapper = oct_str_of(s->ckpt->wrapper ? s->ckpt->wrapper : "");
    char key[OCT_SCHEME_NAME + 32];
    for (size_t t = 0; t < OCT_COUNT(tails); t++) {
        snprintf(key, sizeof key, "%s%s", own, tails[t]);
        v = json_object_get(d, key);
        if (v) return v;
        if (wrapper.len == 0 || !oct_str_starts(oct_str_of(own), wrapper)) continue;
        for (size_t h = 0; h < OCT_COUNT(oct_checkpoint_heads); h++) {
            snprintf(key, sizeof key, "%s%s%s", oct_checkpoint_heads[h], own + wrapper.len,
                     tails[t]);
            v = json_object_get(d, key);
            if (v) return v;
        }
    }
    return NULL;
}

static const char *modelslim_label(oct_scheme *s, const char *own) {
    return json_string_value(oct_scheme_described(s, own));
}

/* ---- open ------------------------------------------------------------------------------------ */

typedef enum slim_cache { SLIM_NONE, SLIM_C8, SLIM_FA } slim_cache;

static oct_status refuse_type(const oct_scheme *s, const char *key, oct_str v, const char *want,
                              oct_err *err) {
    return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: %s is not supported (got \"%.64s\", want %s)",
                    s->ckpt->description_name, key, v.ptr, want);
}

/* What the description says of the cache. */
static oct_status read_types(const oct_scheme *s, slim_cache *cache, oct_err *err) {
    const json_t *config = s->ckpt->config.quantization_config;
    const oct_str indexer = type_value(s, "indexer_quant_type");
    const oct_str fa = type_value(s, "fa_quant_type");
    const char *key = "kv_cache_type";
    oct_str kv = type_value(s, key);
    if (kv.len == 0) kv = type_value(s, key = "kv_quant_type");
    if (kv.len == 0) kv = oct_json_str(json_object_get(config, "kv_quant_type"));
    *cache = SLIM_NONE;
    if (indexer.len) return refuse_type(s, "indexer_quant_type", indexer, "none", err);
    if (kv.len && !oct_str_is(kv, "C8") && !oct_str_is(kv, "KV8"))
        return refuse_type(s, key, kv, "\"C8\"", err);
    if (fa.len && !oct_str_is(fa, "FAQuant") && !oct_str_is(fa, "FAKQuant"))
        return refuse_type(s, "fa_quant_type", fa, "\"FAQuant\" or \"FAKQuant\"", err);
    if (kv.len) *cache = SLIM_C8;
    if (kv.len == 0 && fa.len) *cache = SLIM_FA;
    return OCT_OK;
}

/* Rotations that the engine would have to do. */
static oct_status check_rotations(const oct_scheme *s, oct_err *err) {
    static const char *const keys[] = {"heads_rotation", "kronecker_rotation"};
    const json_t *quarot =
        json_object_get(json_object_get(s->ckpt->description, "metadata"), "quarot");
    for (size_t i = 0; i < OCT_COUNT(keys); i++) {
        const json_t *layers = json_object_get(json_object_get(quarot, keys[i]), "layers");
        if (json_array_size(layers) > 0)
            return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                            "%s: metadata.quarot.%s: rotation at run time is not supported",
                            s->ckpt->description_name, keys[i]);
    }
    return OCT_OK;
}

/* What the description calls quantised must be in the files. *c8: scales of a cache are listed. */
static oct_status check_entries(const oct_scheme *s, bool *c8, oct_err *err) {
    const char *key;
    json_t *value;
    json_object_foreach(s->ckpt->description, key, value) {
        const oct_str scheme = oct_json_str(value), name = oct_str_of(key);
        if (!scheme.ptr || is_metadata(key) || oct_str_is(scheme, "FLOAT")) continue;
        if (oct_str_ends(name, OCT_STR(".quant_type"))) continue;
        const bool cache = oct_str_ends(name, OCT_STR(".kv_cache_scale"));
        const bool counts = cache || oct_str_ends(name, OCT_STR(".weight")) ||
                            oct_str_ends(name, OCT_STR(".weight_packed")) ||
                            oct_str_ends(name, OCT_STR(".kv_cache_offset"));
        if (counts && !oct_checkpoint_find(s->ckpt, key))
            return OCT_FAIL(err, OCT_E_CORRUPT,
                            "%s: tensor %.128s is listed as %.64s but is in no file",
                            s->ckpt->description_name, key, scheme.ptr);
        *c8 |= cache && oct_str_is(scheme, "C8");
    }
    return OCT_OK;
}

/* K and V of a layer have scales together, and at least one layer has them. */
static oct_status check_kv(oct_scheme *s, slim_cache cache, oct_err *err) {
    const char *const k_tail = cache == SLIM_C8 ? ".k_proj.kv_cache_scale" : ".fa_k.scale",
                      *const v_tail = cache == SLIM_C8 ? ".v_proj.kv_cache_scale" : ".fa_v.scale";
    char other[OCT_SCHEME_NAME];
    for (size_t i = 0; i < s->ckpt->table.n; i++) {
        const oct_str name = s->ckpt->table.v[i].name;
        const bool is_k = oct_str_ends(name, oct_str_of(k_tail));
        if (!is_k && !oct_str_ends(name, oct_str_of(v_tail))) continue;
        s->has_kv = true;
        const int n = snprintf(other, sizeof other, "%.*s%s", (int)(name.len - strlen(k_tail)),
                               name.ptr, is_k ? v_tail : k_tail);
        if (n >= OCT_SCHEME_NAME || !oct_checkpoint_find(s->ckpt, other))
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %.128s is missing (%.128s is there)",
                            oct_path_base(s->ckpt->path), other, name.ptr);
    }
    if (s->has_kv) return OCT_OK;
    return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %s, but no layer has %s", s->ckpt->description_name,
                    cache == SLIM_C8 ? "kv_cache_type is C8" : "fa_quant_type is set", k_tail + 1);
}

static oct_status modelslim_open(oct_scheme *s, oct_err *err) {
    slim_cache cache;
    bool listed = false;
    OCT_TRY(read_types(s, &cache, err));
    OCT_TRY(check_rotations(s, err));
    OCT_TRY(check_entries(s, &listed, err));
    if (cache == SLIM_NONE && listed) cache = SLIM_C8;
    return cache == SLIM_NONE ? OCT_OK : check_kv(s, cache, err);
}

/* ---- INT8 cache ------------------------------------------------------------------------------ */

/* "A" or "A.qkv_proj" with k_proj below it. */
static bool cache_owner(const oct_scheme *s, const char *attn, char out[OCT_SCHEME_NAME]) {
    static const char *const below[] = {"", ".qkv_proj", ".W_pack", ".query_key_value"};
    for (size_t i = 0; i < OCT_COUNT(below); i++) {
        oct_scheme_name_of(out, attn, below[i]);
        if (oct_scheme_find(s, out, ".k_proj.kv_cache_scale")) return true;
    }
    return false;
}

static oct_status channel_kv(oct_scheme *s, oct_arena *arena, const char *owner, uint64_t n,
                             oct_kv_source *out, oct_err *err) {
    const float *ko, *vo;
    OCT_TRY(oct_scheme_values_spread(s, arena, owner, ".k_proj.kv_cache_scale", n, OCT_VALUE_SCALE,
                                     false, &out->k_scale, err));
    OCT_TRY(oct_scheme_values_spread(s, arena, owner, ".v_proj.kv_cache_scale", n, OCT_VALUE_SCALE,
                                     false, &out->v_scale, err));
    OCT_TRY(oct_scheme_values_spread(s, arena, owner, ".k_proj.kv_cache_offset", n,
                                     OCT_VALUE_OFFSET, true, &ko, err));
    OCT_TRY(oct_scheme_values_spread(s, arena, owner, ".v_proj.kv_cache_offset", n,
                                     OCT_VALUE_OFFSET, true, &vo, err));
    out->k_offset = oct_scheme_null_if_zero(ko, n);
    out->v_offset = oct_scheme_null_if_zero(vo, n);
    out->grain = OCT_KV_GRAIN_CHANNEL;
    return OCT_OK;
}

/* One value a head as one a channel. Where K was repeated for its query heads before it was
 * measured there is one for each of these; the largest (of scales) covers them all. */
static oct_status spread_heads(oct_scheme *s, oct_arena *arena, const char *attn, const char *tail,
                               oct_value_rule rule, bool optional, uint32_t n_kv, uint32_t head_dim,
                               const float **out, oct_err *err) {
    const oct_tensor *t = oct_scheme_find(s, attn, tail);
    const uint32_t n_heads = s->ckpt->config.n_heads;
    const uint64_t count = t ? t->n_rows * t->row_elems : n_kv;
    const uint32_t given = count == n_heads ? n_heads : n_kv; /* a multiple of n_kv */
    const float *v;
    *out = NULL;
    OCT_TRY(oct_scheme_values(s, arena, attn, tail, given, rule, optional, &v, err));
    if (!v) return OCT_OK;
    float *wide = oct_arena_alloc(arena, (size_t)n_kv * head_dim, sizeof *wide);
    if (!wide) return OCT_FAIL(err, OCT_E_NOMEM, "%s%s: no memory", attn, tail);
    for (uint32_t h = 0; h < n_kv; h++) {
        float most = v[h * (given / n_kv)];
        for (uint32_t g = 1; g < given / n_kv; g++) {
            const float other = v[h * (given / n_kv) + g];
            if (other > most) most = other;
        }
        for (uint32_t d = 0; d < head_dim; d++) wide[h * head_dim + d] = most;
    }
    *out = wide;
    return OCT_OK;
}

static oct_status head_kv(oct_scheme *s, oct_arena *arena, const char *attn, uint32_t n_kv,
                          uint32_t head_dim, oct_kv_source *out, oct_err *err) {
    static const char *const tails[] = {".fa_q.scale", ".fa_q.offset"};
    OCT_TRY(spread_heads(s, arena, attn, ".fa_k.scale", OCT_VALUE_SCALE, false, n_kv, head_dim,
                         &out->k_scale, err));
    OCT_TRY(spread_heads(s, arena, attn, ".fa_v.scale", OCT_VALUE_SCALE, false, n_kv, head_dim,
                         &out->v_scale, err));
    OCT_TRY(oct_scheme_check_zero(s, attn, ".fa_k.offset", err));
    OCT_TRY(oct_scheme_check_zero(s, attn, ".fa_v.offset", err));
    for (size_t i = 0; i < OCT_COUNT(tails); i++)
        oct_checkpoint_consume(s->ckpt, oct_scheme_find(s, attn, tails[i]));
    out->grain = OCT_KV_GRAIN_HEAD;
    return OCT_OK;
}

static oct_status modelslim_kv(oct_scheme *s, oct_arena *arena, const char *attn, uint32_t n_kv,
                               uint32_t head_dim, oct_kv_source *out, oct_err *err) {
    char owner[OCT_SCHEME_NAME];
    if (cache_owner(s, attn, owner)) /* open checked that V has scales too */
        OCT_TRY(channel_kv(s, arena, owner, (uint64_t)n_kv * head_dim, out, err));
    else if (oct_scheme_find(s, attn, ".fa_k.scale"))
        OCT_TRY(head_kv(s, arena, attn, n_kv, head_dim, out, err));
    if (out->k_scale && out->v_scale) out->kind = out->offered = OCT_KV_KIND_I8;
    return OCT_OK;
}

const oct_scheme_ops oct_scheme_modelslim = {.name = "ascend",
                                             .open = modelslim_open,
                                             .linear = oct_scheme_modelslim_linear,
                                             .label = modelslim_label,
                                             .kv = modelslim_kv};
