/*
 * quantize/quantize.c - plan, declare every tensor, then write them one projection at a time.
 *
 * Names, dtypes and shapes of the layout: the table in docs/quantize.md. Formulas of a static
 * projection, all in float32:
 *
 *     deq_scale[n]  = input_scale * weight_scale[n]
 *     quant_bias[n] = rne(bias[n] / deq_scale[n] - input_offset * sum_k W[n][k])
 */
#include "quantize/quantize.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "codec/json.h"
#include "quant/contract.h"
#include "quant/float_types.h"
#include "quant/weights.h"
#include "quantize/calib_text.h"
#include "quantize/layout.h"
#include "quantize/plan.h"
#include "store/safetensors_writer.h"

enum { STEP_ROWS = 256, EMBED_ROWS = 1024 };

const oct_quantize_options oct_quantize_defaults = {
    .scheme = OCT_QUANTIZE_W8A8_DYNAMIC,
    .kv_c8 = true,
    .head_int8 = false, /* int8 costs 0.7 % of perplexity on SmolLM2-135M; smoothing its input too
                           gained nothing */
    .calib_tokens = 8192,
    .smooth_alpha = 0.5f,
    .dynamic_error = 0.002f,
    .min_static = 0.755f,
};

typedef struct job {
    const oct_allocator *mem;
    oct_checkpoint *ckpt;
    const oct_model_config *config;
    const oct_quantize_options *o;
    const oct_calibration *cal; /* NULL: none was needed */
    oct_plan plan;
    oct_safetensors_writer *writer;
    json_t *description;
    bool own_head;
    uint64_t done, total; /* bytes, for the progress */
    float *w;             /* the float rows at hand */
    size_t w_cap;
    float *bias;
    size_t bias_cap;
    int8_t *q;
    oct_quantize_report *report;
} job;

static oct_str name_of(char out[192], const char *prefix, const char *suffix) {
    return (oct_str){out, (size_t)snprintf(out, 192, "%s.%s", prefix, suffix)};
}

/* ---- declaring ------------------------------------------------------------------------------ */

static oct_status declare(job *j, oct_str name, oct_dtype dtype, uint32_t rank, uint64_t d0,
                          uint64_t d1, const char *scheme, oct_err *err) {
    const uint64_t shape[2] = {d0, d1};
    json_object_set_new(j->description, name.ptr, json_string(scheme));
    return oct_safetensors_writer_add(j->writer, name, dtype, rank, shape, err);
}

/* Tensors beside the weight of an int8 projection. */
static oct_status declare_int8(job *j, const char *prefix, uint64_t n, uint64_t k, bool is_static,
                               bool has_bias, oct_err *err) {
    const char *scheme = is_static ? "W8A8" : "W8A8_DYNAMIC";
    char name[192];
    OCT_TRY(declare(j, name_of(name, prefix, "weight"), OCT_DTYPE_I8, 2, n, k, scheme, err));
    if (is_static) {
        OCT_TRY(
            declare(j, name_of(name, prefix, "input_scale"), OCT_DTYPE_F32, 1, 1, 0, scheme, err));
        OCT_TRY(
            declare(j, name_of(name, prefix, "input_offset"), OCT_DTYPE_F32, 1, 1, 0, scheme, err));
        OCT_TRY(
            declare(j, name_of(name, prefix, "deq_scale"), OCT_DTYPE_F32, 1, n, 0, scheme, err));
        OCT_TRY(
            declare(j, name_of(name, prefix, "quant_bias"), OCT_DTYPE_I32, 1, n, 0, scheme, err));
    } else {
        OCT_TRY(
            declare(j, name_of(name, prefix, "weight_scale"), OCT_DTYPE_F32, 2, n, 1, scheme, err));
        OCT_TRY(declare(j, name_of(name, prefix, "weight_offset"), OCT_DTYPE_F32, 2, n, 1, scheme,
                        err));
    }
    if (has_bias)
        OCT_TRY(declare(j, name_of(name, prefix, "bias"), OCT_DTYPE_F32, 1, n, 0, "FLOAT", err));
    return OCT_OK;
}

static bool projection_has_bias(const job *j, uint32_t l, int p) {
    char name[192];
    snprintf(name, sizeof name, "model.layers.%u.%s.bias", l, oct_projections[p].suffix);
    return oct_checkpoint_find(j->ckpt, name) != NULL;
}

static oct_status declare_layer(job *j, uint32_t l, oct_err *err) {
    const uint64_t kv = (uint64_t)j->config->n_kv_heads * j->config->head_dim;
    char prefix[128], name[192];
    for (int p = 0; p < OCT_N_PROJECTIONS; p++) {
        const bool is_static = j->plan.layers[l].in[oct_projections[p].in].is_static;
        uint64_t n, k;
        oct_projection_shape(j->config, p, &n, &k);
        snprintf(prefix, sizeof prefix, "model.layers.%u.%s", l, oct_projections[p].suffix);
        OCT_TRY(declare_int8(j, prefix, n, k, is_static, projection_has_bias(j, l, p), err));
        *(is_static ? &j->report->n_static : &j->report->n_dynamic) += 1;
        j->report->int8_bytes += n * k;
        if (is_static) j->report->static_bytes += n * k;
    }
    for (int p = OCT_P_K; j->o->kv_c8 && p <= OCT_P_V; p++) {
        snprintf(prefix, sizeof prefix, "model.layers.%u.%s", l, oct_projections[p].suffix);
        OCT_TRY(declare(j, name_of(name, prefix, "kv_cache_scale"), OCT_DTYPE_F32, 1, kv, 0, "C8",
                        err));
        OCT_TRY(declare(j, name_of(name, prefix, "kv_cache_offset"), OCT_DTYPE_F32, 1, kv, 0, "C8",
                        err));
    }
    return OCT_OK;
}

static bool is_projection(const char *name) {
    const char *p = strncmp(name, "model.layers.", 13) == 0 ? strchr(name + 13, '.') : NULL;
    for (int i = 0; p && i < OCT_N_PROJECTIONS; i++)
        if (strncmp(p + 1, oct_projections[i].suffix, strlen(oct_projections[i].suffix)) == 0)
            return true;
    return false;
}

static bool is_head(const job *j, const char *name) {
    return j->own_head && strncmp(name, "lm_head.", 8) == 0;
}

/* Everything else stays float: vectors as F32 (smoothing changes norm weights), matrices in the
 * model's own 16-bit type, or BF16 where the source is a GGUF block type. */
static oct_dtype float_dtype(const oct_tensor *t) {
    if (t->rank < 2) return OCT_DTYPE_F32;
    return t->dtype == OCT_DTYPE_F16 || t->dtype == OCT_DTYPE_F32 ? t->dtype : OCT_DTYPE_BF16;
}

static oct_status declare_rest(job *j, oct_err *err) {
    for (size_t i = 0; i < oct_checkpoint_n_tensors(j->ckpt); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(j->ckpt, i);
        if (is_projection(t->name.ptr) || is_head(j, t->name.ptr)) continue;
        if (!oct_dtype_is_real(t->dtype))
            return OCT_FAIL(err, OCT_E_UNSUPPORTED, "tensor %s: not float (got %s)", t->name.ptr,
                            oct_dtype_name(t->dtype));
        json_object_set_new(j->description, t->name.ptr, json_string("FLOAT"));
        OCT_TRY(
            oct_safetensors_writer_add(j->writer, t->name, float_dtype(t), t->rank, t->shape, err));
        j->report->n_float++;
    }
    if (!j->own_head) return OCT_OK;
    return declare_int8(j, "lm_head", j->config->vocab, j->config->hidden, false, false, err);
}

/* ---- writing -------------------------------------------------------------------------------- */

static oct_status put(job *j, const char *prefix, const char *suffix, const void *data,
                      uint64_t bytes, oct_err *err) {
    char name[192];
    return oct_safetensors_writer_write(j->writer, name_of(name, prefix, suffix), 0, data, bytes,
                                        err);
}

static void advance(job *j, uint64_t bytes) {
    j->done += bytes;
    if (j->o->progress) j->o->progress(j->o->ctx, "writing", j->done, j->total);
}

static oct_status put_static(job *j, const char *prefix, uint64_t n, uint64_t k,
                             const oct_input_plan *in, const float *scale, const float *bias,
                             oct_err *err) {
    float *deq = oct_alloc(j->mem, n, sizeof *deq);
    int32_t *qb = oct_alloc(j->mem, n, sizeof *qb);
    oct_status st = deq && qb ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    for (uint64_t r = 0; st == OCT_OK && r < n; r++) {
        int64_t sum = 0;
        for (uint64_t i = 0; i < k; i++) sum += j->q[r * k + i];
        deq[r] = in->scale * scale[r];
        const double b =
            nearbyint((bias ? (double)(bias[r] / deq[r]) : 0.0) - (double)in->offset * (double)sum);
        if (!(fabs(b) <= (double)oct_ibias_limit((uint32_t)k)))
            st = OCT_FAIL(err, OCT_E_UNSUPPORTED,
                          "tensor %s.quant_bias: row %llu does not fit int32", prefix,
                          (unsigned long long)r);
        else
            qb[r] = (int32_t)b;
    }
    if (st == OCT_OK) st = put(j, prefix, "input_scale", &in->scale, sizeof in->scale, err);
    if (st == OCT_OK) st = put(j, prefix, "input_offset", &in->offset, sizeof in->offset, err);
    if (st == OCT_OK) st = put(j, prefix, "deq_scale", deq, n * sizeof *deq, err);
    if (st == OCT_OK) st = put(j, prefix, "quant_bias", qb, n * sizeof *qb, err);
    oct_free(j->mem, deq, n, sizeof *deq);
    oct_free(j->mem, qb, n, sizeof *qb);
    return st;
}

static oct_status put_zeros(job *j, const char *prefix, const char *suffix, uint64_t n,
                            oct_err *err) {
    float *zeros = oct_calloc(j->mem, n, sizeof *zeros);
    if (!zeros) return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    const oct_status st = put(j, prefix, suffix, zeros, n * sizeof *zeros, err);
    oct_free(j->mem, zeros, n, sizeof *zeros);
    return st;
}

/* Quantises rows of j->w into j->q; a zero row gets the smallest scale instead of 0, which other
 * engines refuse. */
static oct_status quantise_rows(job *j, const char *prefix, uint64_t n, uint64_t k, float *scale,
                                oct_err *err) {
    for (uint64_t r = 0; r < n; r++) {
        scale[r] = oct_quant_row(j->w + r * k, k, j->q + r * k);
        if (!isfinite(scale[r]))
            return OCT_FAIL(err, OCT_E_CORRUPT, "tensor %s.weight: row %llu is not finite", prefix,
                            (unsigned long long)r);
        if (scale[r] == 0) scale[r] = FLT_EPSILON;
    }
    return OCT_OK;
}

static oct_status write_projection(job *j, uint32_t l, int p, oct_err *err) {
    const oct_input_plan *in = &j->plan.layers[l].in[oct_projections[p].in];
    char prefix[128];
    uint64_t n, k;
    bool has_bias;

    oct_projection_shape(j->config, p, &n, &k);
    snprintf(prefix, sizeof prefix, "model.layers.%u.%s", l, oct_projections[p].suffix);
    OCT_TRY(oct_plan_weight(&j->plan, j->ckpt, l, p, j->w, j->bias, &has_bias, err));
    float *scale = oct_alloc(j->mem, n, sizeof *scale);
    if (!scale) return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    oct_status st = quantise_rows(j, prefix, n, k, scale, err);
    if (st == OCT_OK) st = put(j, prefix, "weight", j->q, n * k, err);
    if (st == OCT_OK && in->is_static)
        st = put_static(j, prefix, n, k, in, scale, has_bias ? j->bias : NULL, err);
    if (st == OCT_OK && !in->is_static)
        st = put(j, prefix, "weight_scale", scale, n * sizeof *scale, err);
    if (st == OCT_OK && !in->is_static) st = put_zeros(j, prefix, "weight_offset", n, err);
    if (st == OCT_OK && has_bias) st = put(j, prefix, "bias", j->bias, n * sizeof *j->bias, err);
    oct_free(j->mem, scale, n, sizeof *scale);
    if (st == OCT_OK) advance(j, n * k);
    return st;
}

/* Per-channel scales; v's shrink with its smoothing factor. */
static oct_status write_kv(job *j, uint32_t l, oct_err *err) {
    const uint32_t kv = j->config->n_kv_heads * j->config->head_dim;
    float *scale = oct_alloc(j->mem, kv, sizeof *scale);
    oct_status st = scale ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    for (int p = OCT_P_K; st == OCT_OK && p <= OCT_P_V; p++) {
        const oct_layer_stats *s = &j->cal->layers[l];
        char prefix[128];
        for (uint32_t c = 0; c < kv; c++) {
            float most =
                p == OCT_P_K ? s->k_absmax[c] : s->v_absmax[c] / oct_plan_v_factor(&j->plan, l, c);
            scale[c] = fmaxf(most / 127.0f, FLT_EPSILON);
        }
        snprintf(prefix, sizeof prefix, "model.layers.%u.%s", l, oct_projections[p].suffix);
        st = put(j, prefix, "kv_cache_scale", scale, kv * sizeof *scale, err);
        if (st == OCT_OK) st = put_zeros(j, prefix, "kv_cache_offset", kv, err);
    }
    oct_free(j->mem, scale, kv, sizeof *scale);
    return st;
}

/* The smoothing factors that a norm's weight and bias are divided by, or NULL. */
static const float *norm_factors(const job *j, const char *name) {
    char *part;
    if (strncmp(name, "model.layers.", 13) != 0) return NULL;
    const unsigned long l = strtoul(name + 13, &part, 10);
    if (*part != '.' || l >= j->config->n_layers) return NULL;
    part++;
    if (strncmp(part, "input_layernorm.", 16) == 0) return j->plan.layers[l].in[OCT_IN_QKV].smooth;
    if (strncmp(part, "post_attention_layernorm.", 25) == 0)
        return j->plan.layers[l].in[OCT_IN_MLP].smooth;
    return NULL;
}

static oct_status write_float(job *j, const oct_tensor *t, oct_err *err) {
    const oct_dtype dtype = float_dtype(t);
    const uint64_t element = dtype == OCT_DTYPE_F32 ? 4 : 2, step = j->w_cap / t->row_elems;
    const float *by = norm_factors(j, t->name.ptr);

    for (uint64_t row = 0; row < t->n_rows; row += step) {
        const uint64_t n = t->n_rows - row < step ? t->n_rows - row : step,
                       count = n * t->row_elems;
        if (dtype == t->dtype && !by) {
            OCT_TRY(oct_checkpoint_read_raw_rows(j->ckpt, t, row, n, j->w, err));
        } else {
            OCT_TRY(oct_checkpoint_read_rows(j->ckpt, t, row, n, j->w, err));
            for (uint64_t i = 0; by && i < count; i++) j->w[i] /= by[i];
            uint16_t *half =
                (uint16_t *)j->w; /* narrows in place: element i lies before its source */
            for (uint64_t i = 0; dtype == OCT_DTYPE_BF16 && i < count; i++) {
                const uint16_t h = oct_f32_to_bf16(j->w[i]);
                memcpy(half + i, &h, sizeof h);
            }
        }
        OCT_TRY(oct_safetensors_writer_write(j->writer, t->name, row * t->row_elems * element, j->w,
                                             count * element, err));
        advance(j, count);
    }
    return OCT_OK;
}

static oct_status write_head(job *j, oct_err *err) {
    const uint64_t n = j->config->vocab, k = j->config->hidden;
    const oct_tensor *t = oct_checkpoint_find(j->ckpt, "lm_head.weight");
    if (!t) t = oct_checkpoint_find(j->ckpt, "model.embed_tokens.weight");
    if (!t || !oct_tensor_has_shape(t, 2, (const uint64_t[]){n, k}) || !oct_dtype_is_real(t->dtype))
        return OCT_FAIL(err, OCT_E_CORRUPT, "tensor lm_head.weight: missing or misshapen");
    float *scale = oct_alloc(j->mem, n, sizeof *scale);
    oct_status st = scale ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    for (uint64_t row = 0; st == OCT_OK && row < n; row += EMBED_ROWS) {
        const uint64_t m = n - row < EMBED_ROWS ? n - row : EMBED_ROWS;
        st = oct_checkpoint_read_rows(j->ckpt, t, row, m, j->w, err);
        if (st == OCT_OK) st = quantise_rows(j, "lm_head", m, k, scale + row, err);
        if (st == OCT_OK)
            st = oct_safetensors_writer_write(j->writer, OCT_STR("lm_head.weight"), row * k, j->q,
                                              m * k, err);
        advance(j, m * k);
    }
    if (st == OCT_OK) st = put(j, "lm_head", "weight_scale", scale, n * sizeof *scale, err);
    if (st == OCT_OK) st = put_zeros(j, "lm_head", "weight_offset", n, err);
    oct_free(j->mem, scale, n, sizeof *scale);
    return st;
}

static oct_status write_all(job *j, const char *out, oct_err *err) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/" OCT_LAYOUT_WEIGHTS, out) >= (int)sizeof path)
        return OCT_FAIL(err, OCT_E_INVALID, "%s: path too long", out);
    OCT_TRY(oct_safetensors_writer_begin(j->writer, path, err));
    for (size_t i = 0; i < oct_checkpoint_n_tensors(j->ckpt); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(j->ckpt, i);
        if (!is_projection(t->name.ptr) && !is_head(j, t->name.ptr))
            OCT_TRY(write_float(j, t, err));
    }
    for (uint32_t l = 0; l < j->config->n_layers; l++) {
        for (int p = 0; p < OCT_N_PROJECTIONS; p++) OCT_TRY(write_projection(j, l, p, err));
        if (j->o->kv_c8) OCT_TRY(write_kv(j, l, err));
    }
    if (j->own_head) OCT_TRY(write_head(j, err));
    OCT_TRY(oct_safetensors_writer_finish(j->writer, err));
    return oct_layout_write_json(j->mem, j->description, out, OCT_LAYOUT_DESCRIPTION, err);
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void describe_model(job *j) {
    const bool any_static = j->report->n_static > 0;
    json_object_set_new(j->description, "model_quant_type",
                        json_string(any_static ? "W8A8" : "W8A8_DYNAMIC"));
    json_object_set_new(j->description, "version", json_string("1.0.0"));
    json_object_set_new(j->description, "group_size", json_integer(0));
    if (!j->o->kv_c8) return;
    json_object_set_new(j->description, "kv_cache_type", json_string("C8"));
    json_object_set_new(j->description, "kv_quant_type", json_string("C8"));
}

static oct_status make_room(job *j, oct_err *err) {
    uint64_t most = (uint64_t)EMBED_ROWS * j->config->hidden, rows = 0;
    for (int p = 0; p < OCT_N_PROJECTIONS; p++) {
        uint64_t n, k;
        oct_projection_shape(j->config, p, &n, &k);
        if (n * k > most) most = n * k;
        if (n > rows) rows = n;
        j->total += n * k * j->config->n_layers;
    }
    for (size_t i = 0; i < oct_checkpoint_n_tensors(j->ckpt); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(j->ckpt, i);
        if (!is_projection(t->name.ptr) && !is_head(j, t->name.ptr))
            j->total += t->n_rows * t->row_elems;
    }
    if (j->own_head) j->total += (uint64_t)j->config->vocab * j->config->hidden;
    j->w_cap = most;
    j->bias_cap = rows;
    j->w = oct_alloc(j->mem, most, sizeof *j->w);
    j->q = oct_alloc(j->mem, most, 1);
    j->bias = oct_alloc(j->mem, rows, sizeof *j->bias);
    return j->w && j->q && j->bias ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
}

static oct_status run_job(job *j, const oct_tokenizer *tokenizer, const char *out, oct_err *err) {
    OCT_TRY(oct_plan_make(&j->plan, j->mem, j->ckpt, j->cal, j->o, err));
    OCT_TRY(make_room(j, err));
    OCT_TRY(oct_safetensors_writer_create(j->mem, &j->writer, err));
    OCT_TRY(oct_safetensors_writer_meta(j->writer, OCT_STR("format"), OCT_STR("pt"), err));
    for (uint32_t l = 0; l < j->config->n_layers; l++) OCT_TRY(declare_layer(j, l, err));
    describe_model(j);
    OCT_TRY(declare_rest(j, err));
    OCT_TRY(oct_layout_write(j->mem, j->ckpt, tokenizer, out, j->own_head, err));
    OCT_TRY(write_all(j, out, err));
    j->report->total_bytes = oct_safetensors_writer_file_bytes(j->writer);
    return OCT_OK;
}

static void calibration_progress(void *ctx, uint64_t done, uint64_t total) {
    const oct_quantize_options *o = ctx;
    if (o->progress) o->progress(o->ctx, "calibrating", done, total);
}

static oct_status calibrate(const oct_allocator *mem, oct_device *device, oct_checkpoint *ckpt,
                            const oct_tokenizer *tokenizer, const oct_quantize_options *o,
                            oct_model **model, oct_calibration *cal, oct_err *err) {
    const oct_model_options mo = {
        .max_rows = STEP_ROWS, .max_seqs = 1, .max_logits = 1, .max_model_len = 0};
    oct_buf text;
    oct_ids ids;

    if (!tokenizer)
        return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer.json: missing; calibration needs it");
    oct_ids_init(&ids, mem);
    oct_buf_init(&text, mem, 0);
    if (o->calib_text.ptr)
        oct_buf_str(&text, o->calib_text);
    else
        oct_calib_text(&text);
    oct_status st =
        oct_tokenizer_encode(tokenizer, oct_buf_view(&text), OCT_ENCODE_PARSE_SPECIAL, &ids, err);
    oct_buf_fini(&text);
    if (st == OCT_OK) st = oct_model_load(mem, device, ckpt, &mo, model, err);
    if (st == OCT_OK)
        st = oct_calibrate(cal, mem, *model, ids.data,
                           ids.len < o->calib_tokens ? ids.len : o->calib_tokens,
                           calibration_progress, (void *)(uintptr_t)o, err);
    oct_ids_fini(&ids);
    return st;
}

/* Families whose norms and projections are where plan.c looks for them. */
static oct_status check_family(const oct_model_config *c, oct_err *err) {
    switch (c->family) {
    case OCT_FAMILY_LLAMA:
    case OCT_FAMILY_QWEN2:
    case OCT_FAMILY_QWEN3:
    case OCT_FAMILY_MISTRAL:
        break;
    default:
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "quantize: family %s is not supported (want llama, qwen2, qwen3 or "
                        "mistral); --quantization int8 of serve and run quantises it on load",
                        oct_family_name(c->family));
    }
    if (c->rope.type == OCT_ROPE_FACTORS)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "rope_freqs.weight: config.json cannot say this");
    return OCT_OK;
}

oct_status oct_quantize(const oct_allocator *mem, oct_device *device, oct_checkpoint *ckpt,
                        const oct_tokenizer *tokenizer, const char *out_folder,
                        const oct_quantize_options *options, oct_quantize_report *report,
                        oct_err *err) {
    const uint64_t start = oct_now_ns();
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    oct_calibration cal = {0};
    oct_model *model = NULL;
    job j = {.mem = mem,
             .ckpt = ckpt,
             .config = c,
             .o = options,
             .report = report,
             .own_head = options->head_int8,
             .description = json_object()};

    *report = (oct_quantize_report){0};
    if (oct_checkpoint_description(ckpt) || c->quantization_config) {
        json_decref(j.description);
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: quantised already; want a float checkpoint",
                        oct_checkpoint_path(ckpt));
    }
    oct_status st = check_family(c, err);
    if (st == OCT_OK) st = oct_layout_make_folder(out_folder, oct_checkpoint_path(ckpt), err);
    if (st == OCT_OK &&
        (options->scheme == OCT_QUANTIZE_W8A8 || options->kv_c8 || options->smooth_alpha > 0)) {
        st = calibrate(mem, device, ckpt, tokenizer, options, &model, &cal, err);
        j.cal = &cal;
        j.plan.config = c;
    }
    if (st == OCT_OK) st = run_job(&j, tokenizer, out_folder, err);
    oct_safetensors_writer_destroy(j.writer);
    oct_plan_fini(&j.plan);
    oct_calibration_fini(&cal);
    oct_model_destroy(model);
    json_decref(j.description);
    oct_free(mem, j.w, j.w_cap, sizeof *j.w);
    oct_free(mem, j.q, j.w_cap, 1);
    oct_free(mem, j.bias, j.bias_cap, sizeof *j.bias);
    report->seconds = (double)(oct_now_ns() - start) / 1e9;
    return st;
}
