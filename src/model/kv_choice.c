/*
 * model/kv_choice.c - which type each layer's cache has: the flag, the layers left out of it, what
 * the checkpoint asks for and offers, and what the device can keep.
 */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/str.h"
#include "model/parts.h"

/* ---- names ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    oct_kv_choice choice;
} names[] = {
    {"auto", OCT_KV_AUTO},
    {"int8", OCT_KV_C8},
    {"int8_per_channel", OCT_KV_C8},
    {"c8", OCT_KV_C8},
    {"int8_per_token_head", OCT_KV_INT8_HEAD},
    {"fp8", OCT_KV_FP8},
    {"fp8_e4m3", OCT_KV_FP8},
    {"float16", OCT_KV_FLOAT16},
    {"half", OCT_KV_FLOAT16},
    {"bfloat16", OCT_KV_BFLOAT16},
    {"float32", OCT_KV_FLOAT32},
    {"float", OCT_KV_FLOAT32},
};

/* Known elsewhere and not made here. */
static const struct {
    const char *name, *why;
} refused[] = {
    {"fp8_e5m2", "its two bits of mantissa keep less than fp8 (E4M3) or int8 in as many bytes"},
    {"fp8_inc", "a form of another accelerator; fp8 (E4M3) is the one with scales"},
    {"fp8_ds_mla", "a layout of latent attention, which no family here has"},
    {"fp8_per_token_head", "int8_per_token_head keeps more in as many bytes"},
    {"nvfp4", "caches of 4 bits are not made"},
};

oct_status oct_kv_choice_parse(const char *name, oct_kv_choice *out, oct_err *err) {
    for (size_t i = 0; i < OCT_COUNT(names); i++)
        if (strcmp(name, names[i].name) == 0) {
            *out = names[i].choice;
            return OCT_OK;
        }
    for (size_t i = 0; i < OCT_COUNT(refused); i++)
        if (strcmp(name, refused[i].name) == 0)
            return OCT_FAIL(err, OCT_E_UNSUPPORTED, "--kv-cache-dtype %s: not made: %s", name,
                            refused[i].why);
    return OCT_FAIL(err, OCT_E_INVALID,
                    "--kv-cache-dtype: unknown type (got \"%.64s\", want auto, int8, "
                    "int8_per_channel, int8_per_token_head, fp8, float16, bfloat16 or float32)",
                    name);
}

const char *oct_kv_kind_name(uint32_t kind) {
    switch (kind) {
    case OCTET_KV_F32:
        return "float32";
    case OCTET_KV_BF16:
        return "bfloat16";
    case OCTET_KV_F16:
        return "float16";
    case OCTET_KV_I8_CHANNEL:
        return "int8_per_channel";
    case OCTET_KV_I8_TOKEN:
        return "int8_per_token_head";
    case OCTET_KV_FP8_CHANNEL:
        return "fp8_e4m3";
    default:
        return "unknown";
    }
}

/* ---- layers left out ------------------------------------------------------------------------- */

static oct_status bad_item(const char *item, size_t len, uint32_t n_layers, oct_err *err) {
    return OCT_FAIL(
        err, OCT_E_INVALID,
        "--kv-cache-dtype-skip-layers: not a layer (got \"%.*s\", want 0 to %u, a range "
        "like 2-5, or sliding_window)",
        (int)(len < 64 ? len : 64), item, n_layers - 1);
}

static bool read_layer(const char *at, const char *end, uint32_t n_layers, uint32_t *out) {
    uint64_t v;
    if (!oct_parse_u64((oct_str){at, (size_t)(end - at)}, &v) || v >= n_layers) return false;
    *out = (uint32_t)v;
    return true;
}

oct_status oct_kv_skip_parse(const char *list, const oct_model_config *c, uint8_t *skip,
                             oct_err *err) {
    const oct_str window = OCT_STR("sliding_window");
    for (const char *at = list; at;) {
        const char *comma = strchr(at, ','), *end = comma ? comma : at + strlen(at);
        while (at < end && *at == ' ') at++;
        while (end > at && end[-1] == ' ') end--;
        const size_t len = (size_t)(end - at);
        const char *dash = memchr(at, '-', len);
        uint32_t first = 0, last = 0;
        if (oct_str_eq((oct_str){at, len}, window)) {
            for (uint32_t l = 0; l < c->n_layers; l++) skip[l] |= oct_arch_window(c, l) != 0;
        } else {
            if (!read_layer(at, dash ? dash : end, c->n_layers, &first) ||
                (dash && (!read_layer(dash + 1, end, c->n_layers, &last) || last < first)))
                return bad_item(at, len, c->n_layers, err);
            if (!dash) last = first;
            for (uint32_t l = first; l <= last; l++) skip[l] = 1;
        }
        at = comma ? comma + 1 : NULL;
    }
    return OCT_OK;
}

/* ---- one layer ------------------------------------------------------------------------------- */

static uint32_t device_float(const oct_model *m) {
    return m->device->info.act_dtype == OCTET_F32 ? OCTET_KV_F32 : OCTET_KV_BF16;
}

static bool needs_checkpoint(oct_kv_choice choice) {
    return choice == OCT_KV_AUTO || choice == OCT_KV_C8 || choice == OCT_KV_FP8;
}

static oct_status no_scales(const char *attn, const char *flag, const char *want,
                            const oct_kv_source *src, oct_err *err) {
    static const char *const has[] = {[OCT_KV_KIND_FLOAT] = "none",
                                      [OCT_KV_KIND_I8] = "scales of int8",
                                      [OCT_KV_KIND_I8_HEAD] = "none",
                                      [OCT_KV_KIND_FP8] = "scales of FP8"};
    return OCT_FAIL(err, OCT_E_CORRUPT,
                    "%s: --kv-cache-dtype %s needs scales of K and V in the checkpoint (got %s, "
                    "want %s; int8_per_token_head needs none, --kv-cache-dtype-skip-layers leaves "
                    "layers out)",
                    attn, flag, has[src->offered], want);
}

/* The device's kind for a layer. */
static oct_status choose(const oct_model *m, const char *attn, const oct_kv_source *src,
                         uint32_t *kind, oct_err *err) {
    switch (m->options.kv) {
    case OCT_KV_FLOAT32:
        *kind = OCTET_KV_F32;
        return OCT_OK;
    case OCT_KV_BFLOAT16:
        *kind = OCTET_KV_BF16;
        return OCT_OK;
    case OCT_KV_FLOAT16:
        *kind = OCTET_KV_F16;
        return OCT_OK;
    case OCT_KV_INT8_HEAD:
        *kind = OCTET_KV_I8_TOKEN;
        return OCT_OK;
    case OCT_KV_C8:
        *kind = OCTET_KV_I8_CHANNEL;
        return src->offered == OCT_KV_KIND_I8
                   ? OCT_OK
                   : no_scales(attn, "int8_per_channel", "those of int8", src, err);
    case OCT_KV_FP8:
        *kind = OCTET_KV_FP8_CHANNEL;
        return src->offered == OCT_KV_KIND_FP8 ? OCT_OK
                                               : no_scales(attn, "fp8", "those of FP8", src, err);
    case OCT_KV_AUTO:
        break;
    }
    switch (src->kind) {
    case OCT_KV_KIND_I8:
        *kind = OCTET_KV_I8_CHANNEL;
        break;
    case OCT_KV_KIND_I8_HEAD:
        *kind = OCTET_KV_I8_TOKEN;
        break;
    case OCT_KV_KIND_FP8:
        *kind = OCTET_KV_FP8_CHANNEL;
        break;
    case OCT_KV_KIND_FLOAT:
        *kind = device_float(m);
        break;
    }
    return OCT_OK;
}

oct_status oct_kv_layer_choose(const oct_model *m, oct_scheme *scheme, oct_arena *arena,
                               const char *attn, bool skip, oct_kv_source *src, octet_kv_desc *out,
                               oct_err *err) {
    const oct_model_config *c = &m->config;
    uint32_t kind = device_float(m);
    *src = (oct_kv_source){0};
    if (skip || !needs_checkpoint(m->options.kv))
        oct_scheme_kv_leave(scheme, attn);
    else
        OCT_TRY(oct_scheme_kv(scheme, arena, attn, c->n_kv_heads, c->head_dim, src, err));
    if (!skip) OCT_TRY(choose(m, attn, src, &kind, err));

    *out = (octet_kv_desc){
        .struct_bytes = sizeof *out,
        .kind = kind,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .block_tokens = m->info.block_tokens,
    };
    out->block_bytes = m->device->ops->kv_block_bytes(m->device->dev, out);
    if (out->block_bytes == 0)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "%s: device %s keeps no cache of %s for %u heads of %u (another one: "
                        "--kv-cache-dtype)",
                        attn, m->device->info.name, oct_kv_kind_name(kind), c->n_kv_heads,
                        c->head_dim);
    if (kind != OCTET_KV_I8_CHANNEL && kind != OCTET_KV_FP8_CHANNEL) *src = (oct_kv_source){0};
    return OCT_OK;
}

/* ---- in words -------------------------------------------------------------------------------- */

uint32_t oct_kv_most_layers(const oct_model *m) {
    uint32_t count[OCTET_KV_F16 + 1] = {0}, best = OCTET_KV_F32;
    for (uint32_t l = 0; l < m->config.n_layers; l++) count[m->layers[l].kv.kind]++;
    for (uint32_t k = 1; k <= OCTET_KV_F16; k++)
        if (count[k] > count[best]) best = k;
    return best;
}

void oct_kv_describe(const oct_model *m, char *out, size_t size) {
    static const struct {
        uint32_t kind;
        const char *text;
    } said[] = {{OCTET_KV_I8_CHANNEL, "C8"},
                {OCTET_KV_I8_TOKEN, "int8_per_token_head"},
                {OCTET_KV_FP8_CHANNEL, "FP8 KV"}};
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < OCT_COUNT(said); i++) {
        uint32_t n = 0;
        for (uint32_t l = 0; l < m->config.n_layers; l++) n += m->layers[l].kv.kind == said[i].kind;
        if (n == 0 || used >= size) continue;
        const int w = n == m->config.n_layers
                          ? snprintf(out + used, size - used, " + %s", said[i].text)
                          : snprintf(out + used, size - used, " + %s in %u of %u layers",
                                     said[i].text, n, m->config.n_layers);
        if (w > 0) used += (size_t)w;
    }
}
