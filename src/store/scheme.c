/* store/scheme.c - which scheme a checkpoint has, and the reading of small vectors with their
 * rules. */
#include "store/scheme.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "codec/json.h"
#include "quant/float_types.h"
#include "store/scheme_parts.h"

/* ---- choosing -------------------------------------------------------------------------------- */

/* What was asked, which file is missing, what was found. */
static oct_status no_description(const oct_checkpoint *c, oct_err *err) {
    return OCT_FAIL(err, OCT_E_CORRUPT,
                    "%s: --quantization ascend was asked for, but quant_model_description.json is "
                    "missing (%s%s)",
                    c->path,
                    c->gguf             ? "the model is a GGUF file, not a folder"
                    : c->json_files.len ? "JSON files found: "
                                        : "no JSON file was found",
                    oct_buf_cs(&c->json_files));
}

static oct_status refuse_method(const json_t *config, oct_err *err) {
    char shown[OCT_JSON_SHOWN];
    const json_t *method = json_object_get(config, "quant_method");
    return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                    "config.json: quantization_config.quant_method is not supported (got %s; this "
                    "build reads float checkpoints, GGUF, and ModelSlim ones with "
                    "quant_model_description.json)",
                    method ? oct_json_show(method, shown) : "none");
}

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

static oct_status choose(const oct_checkpoint *c, const char *forced, const oct_scheme_ops **out,
                         oct_err *err) {
    const json_t *config = c->config.quantization_config;
    const oct_str want = oct_str_of(forced);
    *out = c->description ? &oct_scheme_modelslim : &oct_scheme_float;
    if (want.len == 0 || oct_str_is(want, "auto")) {
        if (c->description && config)
            oct_warn("config.json: quantization_config is ignored: quant_model_description.json "
                     "decides");
        return c->description || !config ? OCT_OK : refuse_method(config, err);
    }
    if (oct_str_is(want, "ascend")) return c->description ? OCT_OK : no_description(c, err);
    if (oct_str_is(want, "none")) {
        *out = &oct_scheme_float;
        return OCT_OK;
    }
    return OCT_FAIL(err, OCT_E_INVALID,
                    "--quantization: not known (got \"%.64s\", want auto, ascend or none)", forced);
}

oct_status oct_scheme_open(const oct_allocator *mem, oct_checkpoint *ckpt,
                           const oct_scheme_options *opts, oct_scheme **out, oct_err *err) {
    const oct_scheme_ops *ops;
    *out = NULL;
    OCT_TRY(choose(ckpt, opts ? opts->forced : NULL, &ops, err));
    OCT_TRY(check_online(ckpt, err));
    oct_scheme *s = oct_calloc(mem, 1, sizeof *s);
    if (!s) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", ckpt->path);
    *s = (oct_scheme){.mem = mem, .ops = ops, .ckpt = ckpt, .mix_static = opts && opts->mix_static};
    const oct_status status = ops->open(s, err);
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
    oct_free(s->mem, s, 1, sizeof *s);
}

const char *oct_scheme_name(const oct_scheme *s) { return s->ops->name; }
bool oct_scheme_has_kv(const oct_scheme *s) { return s->has_kv; }

oct_status oct_scheme_linear(oct_scheme *s, oct_arena *arena, const char *prefix, uint64_t n,
                             uint64_t k, bool need_bias, oct_linear_source *out, oct_err *err) {
    *out = (oct_linear_source){.n = n, .k = k, .label = ""};
    return s->ops->linear(s, arena, prefix, need_bias, out, err);
}

oct_status oct_scheme_kv(oct_scheme *s, oct_arena *arena, const char *attn, uint32_t n_kv_heads,
                         uint32_t head_dim, oct_kv_source *out, oct_err *err) {
    *out = (oct_kv_source){0};
    return s->has_kv ? s->ops->kv(s, arena, attn, n_kv_heads * head_dim, out, err) : OCT_OK;
}

const char *oct_kv_source_text(const oct_kv_source *kv) {
    static const char *const texts[4][3] = {
        [OCT_KV_KIND_FLOAT] = {"float", "float", "float"},
        [OCT_KV_KIND_I8] = {"INT8 per tensor", "INT8 per head", "INT8 per channel"},
        [OCT_KV_KIND_I8_HEAD] = {"INT8 per token and head", "INT8 per token and head",
                                 "INT8 per token and head"},
        [OCT_KV_KIND_FP8] = {"FP8 per tensor", "FP8 per head", "FP8 per channel"},
    };
    return texts[kv->kind][kv->grain];
}

/* ---- values ---------------------------------------------------------------------------------- */

bool oct_scheme_join(char out[OCT_SCHEME_NAME], const char *prefix, const char *tail) {
    const int n = snprintf(out, OCT_SCHEME_NAME, "%s%s", prefix, tail);
    return n > 0 && n < OCT_SCHEME_NAME;
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

/* The first value that breaks the rule, or n. */
static uint64_t find_bad(oct_scheme *s, const float *v, uint64_t n, oct_value_rule rule) {
    for (uint64_t i = 0; i < n; i++) {
        bool ok = isfinite(v[i]);
        if (rule == OCT_VALUE_SCALE) ok = ok && v[i] > 0;
        if (rule == OCT_VALUE_COLUMN) ok = ok && v[i] >= 0;
        if (rule == OCT_VALUE_OFFSET) ok = ok && v[i] >= -128 && v[i] <= 127 && v[i] == rintf(v[i]);
        if (!ok) return i;
        s->n_zero_scales += rule == OCT_VALUE_COLUMN && v[i] == 0;
    }
    return n;
}

static bool is_offset_int(oct_dtype d) {
    return d == OCT_DTYPE_I8 || d == OCT_DTYPE_I16 || d == OCT_DTYPE_I32 || d == OCT_DTYPE_I64;
}

static float int_at(oct_dtype d, const unsigned char *p, uint64_t i) {
    int64_t v = 0;
    const uint64_t size = oct_dtype_block_bytes(d);
    memcpy(&v, p + i * size, size);
    const unsigned unused = 64 - 8 * (unsigned)size;
    return (float)((int64_t)((uint64_t)v << unused) >> unused);
}

static oct_status read_ints(const oct_scheme *s, const oct_tensor *t, uint64_t n, float *out,
                            oct_err *err) {
    unsigned char *raw = oct_alloc(s->mem, t->bytes, 1);
    if (!raw) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", t->name.ptr);
    const oct_status status = oct_checkpoint_read_raw(s->ckpt, t, raw, err);
    for (uint64_t i = 0; status == OCT_OK && i < n; i++) out[i] = int_at(t->dtype, raw, i);
    oct_free(s->mem, raw, t->bytes, 1);
    return status;
}

oct_status oct_scheme_values(oct_scheme *s, oct_arena *arena, const char *prefix, const char *tail,
                             uint64_t n, oct_value_rule rule, bool optional, const float **out,
                             oct_err *err) {
    static const char *const wanted[] = {
        [OCT_VALUE_FINITE] = "a finite number",
        [OCT_VALUE_SCALE] = "a finite scale above 0",
        [OCT_VALUE_COLUMN] = "a finite scale, not negative",
        [OCT_VALUE_OFFSET] = "a whole number from -128 to 127",
    };
    char name[OCT_SCHEME_NAME];
    const oct_tensor *t =
        oct_scheme_join(name, prefix, tail) ? oct_checkpoint_find(s->ckpt, name) : NULL;
    *out = NULL;
    if (!t) {
        if (!optional) oct_checkpoint_note(s->ckpt, "%s is missing", name);
        return OCT_OK;
    }
    oct_checkpoint_consume(s->ckpt, t);
    const bool ints = rule == OCT_VALUE_OFFSET && is_offset_int(t->dtype);
    if ((!oct_dtype_is_real(t->dtype) && !ints) || t->n_rows * t->row_elems != n) {
        oct_buf b;
        oct_buf_init(&b, s->mem, 0);
        oct_tensor_describe(t, &b);
        oct_checkpoint_note(s->ckpt, "%s: got %s, want %" PRIu64 " floats", name, oct_buf_cs(&b),
                            n);
        oct_buf_fini(&b);
        return OCT_OK;
    }
    float *v = oct_arena_alloc(arena, n, sizeof *v);
    if (!v) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", name);
    OCT_TRY(ints ? read_ints(s, t, n, v, err)
                 : oct_checkpoint_read_rows(s->ckpt, t, 0, t->n_rows, v, err));
    const uint64_t bad = find_bad(s, v, n, rule);
    if (bad < n)
        return oct_scheme_fail(s, t, OCT_E_CORRUPT, err, "index %" PRIu64 " (got %g, want %s)", bad,
                               (double)v[bad], wanted[rule]);
    *out = v;
    return OCT_OK;
}
