/*
 * quantize/quantize.c - plan, declare every tensor, then write them one projection at a time. How
 * they are called and stored is the layout's (layout.c); what stays float is here.
 */
#include "quantize/quantize.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "codec/json.h"
#include "model/arch.h"
#include "quant/float_types.h"
#include "quantize/calib_text.h"
#include "quantize/folder.h"
#include "quantize/plan.h"
#include "quantize/rows.h"

enum { STEP_ROWS = 256, EMBED_ROWS = 1024 };

const oct_quantize_options oct_quantize_defaults = {
    .layout = &oct_layout_modelslim,
    .scheme = OCT_QUANTIZE_W8A8_DYNAMIC,
    .kv = OCT_QUANTIZE_KV_AUTO,
    .max_shard_bytes = 5000000000u,
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
    oct_projection_list list;
    oct_plan plan;
    oct_layout_out out;
    bool own_head, has_kv;
    uint64_t done, total; /* bytes, for the progress */
    float *w;             /* the float rows at hand */
    size_t w_cap;
    float *bias, *scale;
    size_t rows_cap;
    int8_t *q;
    oct_quantize_report *report;
} job;

static oct_status no_memory(oct_err *err) {
    return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
}

/* ---- what is what ---------------------------------------------------------------------------- */

/* A tensor's name without ".weight". */
static void prefix_of(const oct_tensor *t, char out[OCT_TENSOR_MAX_NAME]) {
    snprintf(out, OCT_TENSOR_MAX_NAME, "%s", t->name.ptr);
    char *dot = strrchr(out, '.');
    if (dot) *dot = '\0';
}

/* The attention of a layer, to which its first projection, q, belongs. */
static void attention_of(const job *j, uint32_t l, char out[OCT_TENSOR_MAX_NAME]) {
    prefix_of(j->list.v[j->list.first[l]].weight, out);
    *strrchr(out, '.') = '\0';
}

/* Cache scales of K, or of V, in one layer. */
static uint64_t n_kv_scales(const job *j) {
    const oct_model_config *c = j->config;
    const uint64_t n[] = {[OCT_KV_GRAIN_TENSOR] = 1,
                          [OCT_KV_GRAIN_HEAD] = c->n_kv_heads,
                          [OCT_KV_GRAIN_CHANNEL] = (uint64_t)c->n_kv_heads * c->head_dim};
    return n[j->out.inv.kv];
}

static oct_layout_linear linear_of(const job *j, const oct_projection *pr, const char *prefix) {
    const oct_input_plan *in;
    oct_layout_linear p = {.prefix = prefix,
                           .n = pr->n,
                           .k = pr->k,
                           .is_static = oct_plan_is_static(&j->plan, pr, &in),
                           .has_bias = pr->bias != NULL,
                           .is_expert = pr->is_expert,
                           .w = j->q,
                           .scale = j->scale,
                           .bias = j->bias};
    if (p.is_static) {
        p.input_scale = in->scale;
        p.input_offset = in->offset;
    }
    return p;
}

/* The source of the head, or NULL. */
static const oct_tensor *head_of(const job *j) {
    const oct_tensor *t = oct_checkpoint_find(j->ckpt, "lm_head.weight");
    return t ? t : oct_checkpoint_find(j->ckpt, "model.embed_tokens.weight");
}

static oct_layout_linear head_linear(const job *j, const float *scale) {
    return (oct_layout_linear){
        .prefix = "lm_head", .n = j->config->vocab, .k = j->config->hidden, .scale = scale};
}

/* Whether a tensor stays float. Divisors of rotary embedding go to config.json. */
static bool is_rest(const job *j, const oct_tensor *t) {
    if (oct_checkpoint_gguf(j->ckpt) && oct_str_starts(t->name, OCT_STR("rope_f"))) return false;
    return !oct_projections_own(&j->list, t) &&
           !(j->own_head && t == oct_checkpoint_find(j->ckpt, "lm_head.weight"));
}

/* Matrices keep their 16-bit type, or become BF16 where the source is a GGUF block type. Vectors
 * are F32, because smoothing changes them, unless the layout keeps them too. */
static oct_dtype float_dtype(const job *j, const oct_tensor *t) {
    if (t->rank < 2 && !j->out.layout->keeps_vectors) return OCT_DTYPE_F32;
    return t->dtype == OCT_DTYPE_F16 || t->dtype == OCT_DTYPE_F32 ? t->dtype : OCT_DTYPE_BF16;
}

/* A matrix that engines know as a projection: not an embedding. */
static bool is_module(const job *j, const oct_tensor *t) {
    return t->rank == 2 && oct_str_ends(t->name, OCT_STR(".weight")) &&
           t != oct_checkpoint_find(j->ckpt, "model.embed_tokens.weight") &&
           t != oct_checkpoint_find(j->ckpt, "lm_head.weight");
}

/* ---- declaring ------------------------------------------------------------------------------- */

static oct_status declare_layer(job *j, uint32_t l, oct_err *err) {
    char prefix[OCT_TENSOR_MAX_NAME];
    for (size_t i = j->list.first[l]; i < j->list.first[l + 1]; i++) {
        const oct_projection *pr = &j->list.v[i];
        prefix_of(pr->weight, prefix);
        const oct_layout_linear p = linear_of(j, pr, prefix);
        OCT_TRY(oct_layout_declare_linear(&j->out, &p, err));
        *(p.is_static ? &j->report->n_static : &j->report->n_dynamic) += 1;
        j->report->int8_bytes += p.n * p.k;
        if (p.is_static) j->report->static_bytes += p.n * p.k;
    }
    if (!j->has_kv) return OCT_OK;
    attention_of(j, l, prefix);
    return oct_layout_declare_kv(&j->out, prefix, n_kv_scales(j), err);
}

static oct_status declare_rest(job *j, oct_err *err) {
    for (size_t i = 0; i < oct_checkpoint_n_tensors(j->ckpt); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(j->ckpt, i);
        if (!is_rest(j, t)) continue;
        if (!oct_dtype_is_real(t->dtype))
            return OCT_FAIL(err, OCT_E_UNSUPPORTED, "tensor %s: not float (got %s)", t->name.ptr,
                            oct_dtype_name(t->dtype));
        OCT_TRY(oct_layout_declare_float(&j->out, t, float_dtype(j, t), is_module(j, t), err));
        j->report->n_float++;
    }
    /* Named also where it is the embedding: engines make a module of it. */
    if (!j->own_head) {
        oct_json_push(&j->out.inv.floats, json_string("lm_head"));
        return OCT_OK;
    }
    const oct_layout_linear p = head_linear(j, NULL);
    return oct_layout_declare_linear(&j->out, &p, err);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void advance(job *j, uint64_t bytes) {
    j->done += bytes;
    if (j->o->progress) j->o->progress(j->o->ctx, "writing", j->done, j->total);
}

/* Rows of q or k, k values each, from the order in which they were read to that of the file: where
 * the family keeps dimensions that rotate together side by side. */
static oct_status to_file_order(const job *j, float *v, uint64_t n_heads, uint64_t k,
                                oct_err *err) {
    const uint64_t dim = j->config->head_dim, half = j->config->rope.rotary_dim / 2;
    const uint64_t bytes = k * sizeof *v;
    if (!oct_family_keeps_pairs(j->config->family)) return OCT_OK;
    float *head = oct_alloc(j->mem, 2 * half, bytes);
    if (!head) return no_memory(err);
    for (uint64_t h = 0; h < n_heads; h++) {
        float *rows = v + h * dim * k;
        memcpy(head, rows, 2 * half * bytes);
        for (uint64_t i = 0; i < 2 * half; i++)
            memcpy(rows + (i % half * 2 + i / half) * k, head + i * k, bytes);
    }
    oct_free(j->mem, head, 2 * half, bytes);
    return OCT_OK;
}

static oct_status write_projection(job *j, const oct_projection *pr, oct_err *err) {
    const oct_layout *layout = j->out.layout;
    const bool is_q = pr->p == OCT_P_Q, is_k = pr->p == OCT_P_K;
    const uint64_t n_heads = is_q ? j->config->n_heads : is_k ? j->config->n_kv_heads : 0;
    char prefix[OCT_TENSOR_MAX_NAME];
    prefix_of(pr->weight, prefix);
    const oct_layout_linear p = linear_of(j, pr, prefix);
    OCT_TRY(oct_plan_weight(&j->plan, j->ckpt, pr, j->w, j->bias, err));
    OCT_TRY(to_file_order(j, j->w, n_heads, p.k, err));
    if (pr->bias) OCT_TRY(to_file_order(j, j->bias, n_heads, 1, err));
    OCT_TRY(oct_quantize_rows(j->w, p.n, p.k, oct_layout_scale_type(&j->out, p.is_static),
                              p.is_static && layout->tensor_scale, j->q, j->scale, prefix, err));
    OCT_TRY(oct_layout_put_linear(&j->out, &p, err));
    advance(j, p.n * p.k);
    return OCT_OK;
}

/* Largest magnitudes of channels as scales of the grain; v's shrink with its smoothing factor. */
static void kv_scales(const job *j, uint32_t l, bool is_k, float *out) {
    const oct_model_config *c = j->config;
    const uint32_t kv = c->n_kv_heads * c->head_dim;
    const uint32_t share = kv / (uint32_t)n_kv_scales(j); /* channels that share a scale */
    const oct_layer_stats *s = &j->cal->layers[l];
    for (uint32_t i = 0; i < kv / share; i++) {
        float most = 0;
        for (uint32_t ch = i * share; ch < (i + 1) * share; ch++)
            most = fmaxf(most, is_k ? s->k_absmax[ch]
                                    : s->v_absmax[ch] / oct_plan_v_factor(&j->plan, l, ch));
        out[i] = fmaxf(oct_quantize_round_up(most / 127.0f, j->out.kv_type), FLT_EPSILON);
    }
}

static oct_status write_kv(job *j, uint32_t l, oct_err *err) {
    const uint64_t n = n_kv_scales(j);
    char prefix[OCT_TENSOR_MAX_NAME];
    float *v = oct_alloc(j->mem, 2 * n, sizeof *v);
    if (!v) return no_memory(err);
    kv_scales(j, l, true, v);
    kv_scales(j, l, false, v + n);
    attention_of(j, l, prefix);
    oct_status st = OCT_OK;
    if (j->out.inv.kv == OCT_KV_GRAIN_CHANNEL)
        st = to_file_order(j, v, j->config->n_kv_heads, 1, err);
    if (st == OCT_OK) st = oct_layout_put_kv(&j->out, prefix, n, v, v + n, err);
    oct_free(j->mem, v, 2 * n, sizeof *v);
    return st;
}

/* The smoothing factors that a norm's weight and bias are divided by, or NULL. */
static const float *norm_factors(const job *j, const oct_tensor *t) {
    const oct_arch *arch = oct_arch_of(j->config->family);
    const struct {
        const char *norm;
        int in;
    } norms[] = {{arch->attn_norm, OCT_IN_QKV}, {arch->mlp_norm, OCT_IN_MLP}};
    char *part, name[256];
    const char *at = strstr(t->name.ptr, "layers.");
    if (!at || !j->plan.layers) return NULL;
    const unsigned long l = strtoul(at + 7, &part, 10);
    if (*part != '.' || l >= j->config->n_layers) return NULL;
    part++;
    for (size_t i = 0; i < OCT_COUNT(norms); i++) {
        if (!norms[i].norm) continue;
        const size_t n = strlen(norms[i].norm);
        if (strncmp(part, norms[i].norm, n) != 0 || part[n] != '.') continue;
        /* A norm of this name may also lie in another part of the file. */
        snprintf(name, sizeof name, "model.layers.%lu.%.100s", l, part);
        if (oct_checkpoint_find(j->ckpt, name) == t)
            return j->plan.layers[l].in[norms[i].in].smooth;
    }
    return NULL;
}

/* In place: element i lies before its source. */
static void narrow(float *v, uint64_t n, oct_dtype to) {
    unsigned char *out = (unsigned char *)v;
    for (uint64_t i = 0; to != OCT_DTYPE_F32 && i < n; i++) {
        const uint16_t h = to == OCT_DTYPE_BF16 ? oct_f32_to_bf16(v[i]) : oct_f32_to_f16(v[i]);
        memcpy(out + 2 * i, &h, sizeof h);
    }
}

/* What is added to a norm's stored weight before it multiplies: in the source and in the result. */
static void norm_shifts(const job *j, const oct_tensor *t, float *in, float *out) {
    const bool norm = oct_str_ends(t->name, OCT_STR("norm.weight"));
    *in = norm && j->config->norm_plus_one ? 1.0f : 0.0f;
    *out = norm && oct_family_norm_plus_one(j->config->family) ? 1.0f : 0.0f;
}

static oct_status write_float(job *j, const oct_tensor *t, oct_err *err) {
    const oct_dtype dtype = float_dtype(j, t);
    const uint64_t element = dtype == OCT_DTYPE_F32 ? 4 : 2, step = j->w_cap / t->row_elems;
    const float *by = norm_factors(j, t);
    float in, out;
    norm_shifts(j, t, &in, &out);

    for (uint64_t row = 0; row < t->n_rows; row += step) {
        const uint64_t n = t->n_rows - row < step ? t->n_rows - row : step,
                       count = n * t->row_elems;
        if (dtype == t->dtype && !by && in == out) {
            OCT_TRY(oct_checkpoint_read_raw_rows(j->ckpt, t, row, n, j->w, err));
        } else {
            OCT_TRY(oct_checkpoint_read_rows(j->ckpt, t, row, n, j->w, err));
            for (uint64_t i = 0; (by || in != out) && i < count; i++)
                j->w[i] = (j->w[i] + in) / (by ? by[i] : 1.0f) - out;
            narrow(j->w, count, dtype);
        }
        OCT_TRY(oct_layout_put_float(&j->out, t, row * t->row_elems * element, j->w,
                                     count * element, err));
        advance(j, count);
    }
    return OCT_OK;
}

static oct_status write_head(job *j, oct_err *err) {
    const uint64_t n = j->config->vocab, k = j->config->hidden;
    const oct_tensor *t = head_of(j);
    if (!t) return OCT_FAIL(err, OCT_E_CORRUPT, "tensor lm_head.weight: missing");
    if (!oct_tensor_has_shape(t, 2, (const uint64_t[]){n, k}) || !oct_dtype_is_real(t->dtype))
        return oct_projection_misfit(j->mem, t, n, k, err);
    float *scale = oct_alloc(j->mem, n, sizeof *scale);
    oct_status st = scale ? OCT_OK : no_memory(err);
    for (uint64_t row = 0; st == OCT_OK && row < n; row += EMBED_ROWS) {
        const uint64_t m = n - row < EMBED_ROWS ? n - row : EMBED_ROWS;
        st = oct_checkpoint_read_rows(j->ckpt, t, row, m, j->w, err);
        if (st == OCT_OK)
            st = oct_quantize_rows(j->w, m, k, oct_layout_scale_type(&j->out, false), false, j->q,
                                   scale + row, "lm_head", err);
        if (st == OCT_OK) st = oct_layout_put_rows(&j->out, "lm_head", row, m, k, j->q, err);
        advance(j, m * k);
    }
    const oct_layout_linear p = head_linear(j, scale);
    if (st == OCT_OK) st = oct_layout_put_linear(&j->out, &p, err);
    oct_free(j->mem, scale, n, sizeof *scale);
    return st;
}

static oct_status write_all(job *j, oct_err *err) {
    for (size_t i = 0; i < oct_checkpoint_n_tensors(j->ckpt); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(j->ckpt, i);
        if (is_rest(j, t)) OCT_TRY(write_float(j, t, err));
    }
    for (uint32_t l = 0; l < j->config->n_layers; l++) {
        for (size_t i = j->list.first[l]; i < j->list.first[l + 1]; i++)
            OCT_TRY(write_projection(j, &j->list.v[i], err));
        if (j->has_kv) OCT_TRY(write_kv(j, l, err));
    }
    if (j->own_head) OCT_TRY(write_head(j, err));
    return oct_shards_finish(j->out.shards, err);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static oct_status make_room(job *j, oct_err *err) {
    uint64_t most = (uint64_t)EMBED_ROWS * j->config->hidden, rows = 1;
    for (size_t i = 0; i < j->list.n; i++) {
        const oct_projection *pr = &j->list.v[i];
        if (pr->n * pr->k > most) most = pr->n * pr->k;
        if (pr->n > rows) rows = pr->n;
        j->total += pr->n * pr->k;
    }
    for (size_t i = 0; i < oct_checkpoint_n_tensors(j->ckpt); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(j->ckpt, i);
        if (!is_rest(j, t)) continue;
        if (t->row_elems > most) most = t->row_elems;
        j->total += t->n_rows * t->row_elems;
    }
    if (j->own_head) j->total += (uint64_t)j->config->vocab * j->config->hidden;
    j->w_cap = most;
    j->rows_cap = rows;
    j->w = oct_alloc(j->mem, most, sizeof *j->w);
    j->q = oct_alloc(j->mem, most, 1);
    j->bias = oct_alloc(j->mem, rows, sizeof *j->bias);
    j->scale = oct_alloc(j->mem, rows, sizeof *j->scale);
    return j->w && j->q && j->bias && j->scale ? OCT_OK : no_memory(err);
}

/* The type that most of the model has. */
static oct_dtype model_type(const job *j) {
    const oct_dtype t = j->list.v[0].weight->dtype;
    return t == OCT_DTYPE_F32 || t == OCT_DTYPE_F16 || t == OCT_DTYPE_F64 ? OCT_DTYPE_F32
                                                                          : OCT_DTYPE_BF16;
}

static oct_status run_job(job *j, const oct_tokenizer *tokenizer, const char *folder,
                          oct_err *err) {
    const oct_layout *layout = j->out.layout;
    OCT_TRY(oct_plan_make(&j->plan, j->mem, j->ckpt, &j->list, j->cal, layout, j->o, err));
    OCT_TRY(make_room(j, err));
    OCT_TRY(oct_shards_create(j->mem, j->o->max_shard_bytes, &j->out.shards, err));
    for (uint32_t l = 0; l < j->config->n_layers; l++) OCT_TRY(declare_layer(j, l, err));
    OCT_TRY(declare_rest(j, err));
    OCT_TRY(oct_shards_begin(j->out.shards, folder, layout->stem, err));
    const oct_inventory *inv = &j->out.inv;
    const bool whole = inv->tensors && inv->floats && inv->static_modules && inv->dynamic_modules;
    json_t *said = whole ? layout->describe(inv) : NULL;
    if (!said) return no_memory(err);
    oct_status st = oct_folder_write(j->mem, j->ckpt, tokenizer, folder, j->own_head,
                                     layout->description ? NULL : said, err);
    if (st == OCT_OK) st = write_all(j, err);
    if (st == OCT_OK && layout->description)
        st = oct_folder_write_json(j->mem, said, folder, layout->description, err);
    json_decref(said);
    j->report->total_bytes = oct_shards_bytes(j->out.shards);
    j->report->n_files = oct_shards_count(j->out.shards);
    return st;
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
    oct_status st = text.failed ? no_memory(err)
                                : oct_tokenizer_encode(tokenizer, oct_buf_view(&text),
                                                       OCT_ENCODE_PARSE_SPECIAL, &ids, err);
    oct_buf_fini(&text);
    if (st == OCT_OK) st = oct_model_load(mem, device, ckpt, &mo, model, err);
    if (st == OCT_OK)
        st = oct_calibrate(cal, mem, *model, ids.data,
                           ids.len < o->calib_tokens ? ids.len : o->calib_tokens,
                           calibration_progress, (void *)(uintptr_t)o, err);
    oct_ids_fini(&ids);
    return st;
}

/* Whether the layout has a spelling for the cache scales that are wanted. */
static oct_status choose_kv(job *j, oct_err *err) {
    static const oct_kv_grain grains[] = {[OCT_QUANTIZE_KV_AUTO] = OCT_KV_GRAIN_CHANNEL,
                                          [OCT_QUANTIZE_KV_CHANNEL] = OCT_KV_GRAIN_CHANNEL,
                                          [OCT_QUANTIZE_KV_HEAD] = OCT_KV_GRAIN_HEAD,
                                          [OCT_QUANTIZE_KV_TENSOR] = OCT_KV_GRAIN_TENSOR};
    static const char *const flags[] = {[OCT_KV_GRAIN_TENSOR] = "tensor",
                                        [OCT_KV_GRAIN_HEAD] = "head",
                                        [OCT_KV_GRAIN_CHANNEL] = "c8"};
    const oct_layout *layout = j->out.layout;
    char known[64] = "";
    size_t n = 0;
    j->has_kv =
        j->o->kv == OCT_QUANTIZE_KV_AUTO ? layout->default_kv : j->o->kv != OCT_QUANTIZE_KV_NONE;
    if (!j->has_kv) return OCT_OK;
    j->out.inv.kv = grains[j->o->kv];
    const oct_layout_tensor *table = layout->kv[j->out.inv.kv];
    if (table) {
        j->out.kv_type = table->dtype == OCT_LAYOUT_MODEL_TYPE ? j->out.model_type : table->dtype;
        return OCT_OK;
    }
    for (size_t i = 0; i < OCT_COUNT(flags); i++)
        if (layout->kv[i]) n += (size_t)snprintf(known + n, sizeof known - n, "%s, ", flags[i]);
    return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                    "--kv: --format %s has no spelling for these scales of a cache (got %s, want "
                    "%sor none; --format compressed-tensors has all of them)",
                    layout->name, flags[j->out.inv.kv], known);
}

static oct_status prepare(job *j, const char *folder, oct_err *err) {
    const oct_model_config *c = j->config;
    if (oct_checkpoint_description(j->ckpt) || c->quantization_config)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: quantised already; want a float checkpoint",
                        oct_checkpoint_path(j->ckpt));
    if (!oct_folder_can_say_rope(&c->rope))
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "%s: rope_freqs.weight: config.json cannot say these divisors (want those "
                        "of Llama 3)",
                        oct_checkpoint_path(j->ckpt));
    OCT_TRY(oct_projections_find(&j->list, j->mem, j->ckpt, err));
    j->out.family = c->family;
    j->out.model_type = model_type(j);
    OCT_TRY(choose_kv(j, err));
    return oct_folder_make(folder, oct_checkpoint_path(j->ckpt), j->out.layout->description, err);
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
             .own_head = options->head_int8};

    *report = (oct_quantize_report){0};
    oct_layout_out_init(&j.out, options->layout ? options->layout : &oct_layout_modelslim, mem);
    oct_status st = prepare(&j, out_folder, err);
    if (st == OCT_OK &&
        (options->scheme == OCT_QUANTIZE_W8A8 || j.has_kv || options->smooth_alpha > 0)) {
        st = calibrate(mem, device, ckpt, tokenizer, options, &model, &cal, err);
        j.cal = &cal;
    }
    if (st == OCT_OK) st = run_job(&j, tokenizer, out_folder, err);
    oct_layout_out_fini(&j.out);
    oct_plan_fini(&j.plan);
    oct_projections_fini(&j.list);
    oct_calibration_fini(&cal);
    oct_model_destroy(model);
    oct_free(mem, j.w, j.w_cap, sizeof *j.w);
    oct_free(mem, j.q, j.w_cap, 1);
    oct_free(mem, j.bias, j.rows_cap, sizeof *j.bias);
    oct_free(mem, j.scale, j.rows_cap, sizeof *j.scale);
    report->seconds = (double)(oct_now_ns() - start) / 1e9;
    return st;
}
