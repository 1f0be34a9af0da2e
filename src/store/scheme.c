/* store/scheme.c - which scheme a checkpoint has, and what must agree inside one. */
#include "store/scheme.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/log.h"
#include "codec/json.h"
#include "store/scheme_parts.h"

/* ---- choosing -------------------------------------------------------------------------------- */

/* What was asked, which file is missing, what was found. */
static oct_status no_description(const oct_checkpoint *c, oct_err *err) {
    return OCT_FAIL(err, OCT_E_CORRUPT,
                    "%s: --quantization ascend was asked for, but quant_model_description.json is "
                    "missing (%s%s)",
                    c->path,
                    c->gguf ? "the model is a GGUF file, not a folder" : "JSON files found: ",
                    oct_buf_cs(&c->json_files));
}

/* quant_method of config.json, and who reads it. */
static const struct {
    const char *method;
    const oct_scheme_ops *ops;
} methods[] = {
    {"compressed-tensors", &oct_scheme_compressed},
    {"quark", &oct_scheme_quark},
    {"fp8", &oct_scheme_fp8},
    {"fbgemm_fp8", &oct_scheme_fp8},
    {"w8a8_int8", &oct_scheme_w8a8_int8},
    {"blockwise_int8", &oct_scheme_blockwise_int8},
};

static const oct_scheme_ops *find_method(oct_str name) {
    for (size_t i = 0; i < OCT_COUNT(methods); i++)
        if (oct_str_is(name, methods[i].method)) return methods[i].ops;
    return NULL;
}

/* What config.json says, or an empty span. Old files of compressed-tensors leave the name away. */
static oct_str method_of(const json_t *config) {
    const oct_str method = oct_json_str(json_object_get(config, "quant_method"));
    if (method.len || !json_object_get(config, "config_groups")) return method;
    return OCT_STR("compressed-tensors");
}

static oct_status refuse_method(const json_t *config, oct_err *err) {
    char shown[OCT_JSON_SHOWN];
    const json_t *method = json_object_get(config, "quant_method");
    return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                    "config.json: quantization_config.quant_method is not supported (got %s, want "
                    "compressed-tensors, quark, fp8, fbgemm_fp8, w8a8_int8 or blockwise_int8; "
                    "ModelSlim has quant_model_description.json instead)",
                    method ? oct_json_show(method, shown) : "none");
}

/* Nothing was asked for: the description, else config.json. */
static oct_status detect(const oct_checkpoint *c, const oct_scheme_ops **out, oct_err *err) {
    const json_t *config = c->config.quantization_config;
    *out = c->description ? &oct_scheme_modelslim : &oct_scheme_float;
    if (c->description && config && method_of(config).len)
        oct_warn("config.json: quantization_config is ignored: %s decides", c->description_name);
    if (c->description || !config) return OCT_OK;
    *out = find_method(method_of(config));
    return *out ? OCT_OK : refuse_method(config, err);
}

/* What was asked for wins over what is found, but cannot read what is not there. */
static oct_status choose(const oct_checkpoint *c, const char *forced, const oct_scheme_ops **out,
                         oct_err *err) {
    const oct_str want = oct_str_of(forced), found = method_of(c->config.quantization_config);
    if (want.len == 0 || oct_str_is(want, "auto")) return detect(c, out, err);
    if (oct_str_is(want, "ascend")) {
        *out = &oct_scheme_modelslim;
        return c->description ? OCT_OK : no_description(c, err);
    }
    if (oct_str_is(want, "none")) {
        *out = &oct_scheme_float;
        return OCT_OK;
    }
    *out = find_method(want);
    if (!*out)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "--quantization: not known (got \"%.64s\", want auto, none, ascend, "
                        "compressed-tensors, quark, fp8, fbgemm_fp8, w8a8_int8 or blockwise_int8)",
                        forced);
    if (!oct_str_eq(want, found))
        return OCT_FAIL(err, OCT_E_INVALID,
                        "%s: --quantization %s was asked for, but config.json says %.64s", c->path,
                        forced, found.len ? found.ptr : "nothing of quantisation");
    if (c->description) oct_warn("--quantization %s: %s is ignored", forced, c->description_name);
    return OCT_OK;
}

/* ---- what must agree ------------------------------------------------------------------------- */

/* Tensors that change the input of a layer at run time: ignoring one gives fluent nonsense. */
static oct_status check_online(const oct_checkpoint *c, oct_err *err) {
    static const char *const tails[] = {".heads_rotation", ".kronecker_rotation_m",
                                        ".kronecker_rotation_n", ".input_rotation"};
    for (size_t i = 0; i < c->table.n; i++)
        for (size_t k = 0; k < OCT_COUNT(tails); k++)
            if (oct_str_ends(c->table.v[i].name, oct_str_of(tails[k])))
                return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                                "%s: tensor %s: rotation at run time is not supported",
                                oct_path_base(oct_checkpoint_file_of(c, &c->table.v[i])->path),
                                c->table.v[i].name.ptr);
    return OCT_OK;
}

/* The storage of a projection as it will be read: "FLOAT" where the file holds floats. */
static oct_status label_of(oct_scheme *s, const char *own, const char **out, oct_err *err) {
    const oct_tensor *t = oct_scheme_weight(s, own);
    oct_linear_rule rule;
    *out = "FLOAT";
    if (s->ops->label) {
        const char *label = s->ops->label(s, own);
        if (label) *out = label;
        return OCT_OK;
    }
    OCT_ASSERT(t);
    if (oct_dtype_is_real(t->dtype)) return OCT_OK;
    OCT_TRY(s->ops->rule(s, own, &rule, err));
    *out = rule.label;
    return OCT_OK;
}

static oct_status compare_labels(oct_scheme *s, const char *a, const char *b, const char *what,
                                 oct_err *err) {
    const char *la, *lb;
    OCT_TRY(label_of(s, a, &la, err));
    OCT_TRY(label_of(s, b, &lb, err));
    if (strcmp(la, lb) == 0) return OCT_OK;
    const bool some = strcmp(la, "FLOAT") == 0 || strcmp(lb, "FLOAT") == 0;
    return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %s (got %s for %s and %s for %s)", what,
                    some ? "some but not all are quantised" : "quantised in different ways", la, a,
                    lb, b);
}

/* The name without ".weight" or ".weight_packed"; false for other tensors. */
static bool projection_of(const oct_tensor *t, char own[OCT_SCHEME_NAME]) {
    static const char *const tails[] = {".weight", ".weight_packed"};
    for (size_t i = 0; i < OCT_COUNT(tails); i++) {
        const size_t n = strlen(tails[i]);
        if (!oct_str_ends(t->name, oct_str_of(tails[i])) || t->name.len >= OCT_SCHEME_NAME)
            continue;
        memcpy(own, t->name.ptr, t->name.len - n);
        own[t->name.len - n] = '\0';
        return true;
    }
    return false;
}

/* Expert E as expert 0 of its layer: they go through one grouped product. */
static oct_status check_expert(oct_scheme *s, const char *own, oct_err *err) {
    static const char mark[] = ".experts.";
    char first[OCT_SCHEME_NAME];
    const char *at = strstr(own, mark);
    if (!at) return OCT_OK;
    at += sizeof mark - 1;
    const size_t digits = strspn(at, "0123456789");
    if (digits == 0 || strncmp(at, "0.", 2) == 0) return OCT_OK;
    snprintf(first, sizeof first, "%.*s0%s", (int)(at - own), own, at + digits);
    if (!oct_scheme_weight(s, first)) return OCT_OK;
    return compare_labels(s, first, own, "experts of one layer", err);
}

/* strict: what other engines fuse must be alike. A missing v_proj is told elsewhere. */
static oct_status check_fused(oct_scheme *s, const char *own, oct_err *err) {
    static const char *const shards[][3] = {{"q_proj", "k_proj", "qkv_proj"},
                                            {"q_proj", "v_proj", "qkv_proj"},
                                            {"gate_proj", "up_proj", "gate_up_proj"},
                                            {"w1", "w3", "w13"}};
    char other[OCT_SCHEME_NAME], what[OCT_SCHEME_NAME];
    const char *dot = strrchr(own, '.');
    for (size_t i = 0; dot && i < OCT_COUNT(shards); i++) {
        if (strcmp(dot + 1, shards[i][0]) != 0) continue;
        const int n = (int)(dot + 1 - own);
        snprintf(other, sizeof other, "%.*s%s", n, own, shards[i][1]);
        snprintf(what, sizeof what, "%.*s%s", n, own, shards[i][2]);
        if (oct_scheme_weight(s, other)) OCT_TRY(compare_labels(s, own, other, what, err));
    }
    return OCT_OK;
}

static oct_status check_agreement(oct_scheme *s, oct_err *err) {
    char own[OCT_SCHEME_NAME];
    for (size_t i = 0; i < s->ckpt->table.n; i++) {
        if (!projection_of(&s->ckpt->table.v[i], own)) continue;
        OCT_TRY(check_expert(s, own, err));
        if (s->strict) OCT_TRY(check_fused(s, own, err));
    }
    return OCT_OK;
}

/* ---- open, close, ask ------------------------------------------------------------------------ */

oct_status oct_scheme_open(const oct_allocator *mem, oct_checkpoint *ckpt,
                           const oct_scheme_options *opts, oct_scheme **out, oct_err *err) {
    const oct_scheme_ops *ops;
    *out = NULL;
    OCT_TRY(choose(ckpt, opts ? opts->forced : NULL, &ops, err));
    OCT_TRY(check_online(ckpt, err));
    oct_scheme *s = oct_calloc(mem, 1, sizeof *s);
    if (!s) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", ckpt->path);
    *s = (oct_scheme){.mem = mem,
                      .ops = ops,
                      .ckpt = ckpt,
                      .mix_static = opts && opts->mix_static,
                      .strict = opts && opts->strict};
    oct_status status = ops->open(s, err);
    if (status == OCT_OK && ops != &oct_scheme_float) status = check_agreement(s, err);
    if (status == OCT_OK)
        *out = s;
    else
        oct_scheme_close(s);
    return status;
}

void oct_scheme_close(oct_scheme *s) {
    if (!s) return;
    if (s->n_zero_scales)
        oct_warn("%s: %zu weight scales are 0: those outputs are constant", s->ckpt->path,
                 s->n_zero_scales);
    if (s->ops->close) s->ops->close(s);
    oct_free(s->mem, s, 1, sizeof *s);
}

const char *oct_scheme_name(const oct_scheme *s) { return s->ops->name; }

oct_status oct_scheme_check_unused(const oct_scheme *s, oct_err *err) {
    oct_buf names;
    oct_buf_init(&names, s->mem, 1024);
    const size_t n = oct_checkpoint_unused(s->ckpt, &names);
    oct_status st = OCT_OK;
    if (n && s->strict)
        st = OCT_FAIL(err, OCT_E_CORRUPT, "%s: %zu tensors are not used by this model: %s",
                      s->ckpt->path, n, oct_buf_cs(&names));
    else if (n)
        oct_warn("%zu tensors of the checkpoint are not used: %s", n, oct_buf_cs(&names));
    oct_buf_fini(&names);
    return st;
}

/* The projection as the file spells it. */
static void resolve(const oct_scheme *s, const char *prefix, char own[OCT_SCHEME_NAME]) {
    const oct_tensor *t = oct_scheme_weight(s, prefix);
    if (!t || !projection_of(t, own)) snprintf(own, OCT_SCHEME_NAME, "%s", prefix);
}

oct_status oct_scheme_linear(oct_scheme *s, oct_arena *arena, const char *prefix, uint64_t n,
                             uint64_t k, bool need_bias, oct_linear_source *out, oct_err *err) {
    char own[OCT_SCHEME_NAME];
    oct_linear_rule rule;
    *out = (oct_linear_source){.n = n, .k = k, .label = ""};
    resolve(s, prefix, own);
    if (s->ops->linear) return s->ops->linear(s, arena, own, need_bias, out, err);
    OCT_TRY(s->ops->rule(s, own, &rule, err));
    return oct_scheme_rule_linear(s, arena, own, &rule, need_bias, out, err);
}

oct_status oct_scheme_kv(oct_scheme *s, oct_arena *arena, const char *attn, uint32_t n_kv_heads,
                         uint32_t head_dim, oct_kv_source *out, oct_err *err) {
    *out = (oct_kv_source){0};
    if (!s->has_kv) return OCT_OK;
    return s->ops->kv(s, arena, attn, n_kv_heads, head_dim, out, err);
}

/* ---- names ----------------------------------------------------------------------------------- */

bool oct_scheme_join(char out[OCT_SCHEME_NAME], const char *prefix, const char *tail) {
    const int n = snprintf(out, OCT_SCHEME_NAME, "%s%s", prefix, tail);
    return n < OCT_SCHEME_NAME;
}

void oct_scheme_name_of(char out[OCT_SCHEME_NAME], const char *prefix, const char *tail) {
    const bool fits = oct_scheme_join(out, prefix, tail);
    OCT_ASSERT(fits);
    (void)fits;
}

const oct_tensor *oct_scheme_find(const oct_scheme *s, const char *prefix, const char *tail) {
    char name[OCT_SCHEME_NAME];
    return oct_scheme_join(name, prefix, tail) ? oct_checkpoint_find(s->ckpt, name) : NULL;
}

const oct_tensor *oct_scheme_weight(const oct_scheme *s, const char *prefix) {
    const oct_tensor *t = oct_scheme_find(s, prefix, ".weight");
    return t ? t : oct_scheme_find(s, prefix, ".weight_packed");
}

oct_status oct_scheme_fail(const oct_scheme *s, const oct_tensor *t, oct_status code, oct_err *err,
                           const char *fmt, ...) {
    char reason[OCT_ERR_TEXT / 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(reason, sizeof reason, fmt, args);
    va_end(args);
    return OCT_FAIL(err, code, "%s: tensor %s: %s",
                    oct_path_base(oct_checkpoint_file_of(s->ckpt, t)->path), t->name.ptr, reason);
}
