/*
 * quantize/plan.c - smoothing and static parameters.
 *
 * Smoothing: s_j = a_j^alpha / w_j^(1 - alpha), a_j the largest activation of channel j, w_j the
 * largest weight of column j over the projections that read it (SmoothQuant, eq. 4), both clamped
 * at 1e-5; then divided by its own median and kept at 1 or above: half of the channels stay as
 * they are, the larger ones shrink. Without that floor, channels that were quiet in the calibration
 * text are amplified, and a text in which one of them speaks up loses the steps of its whole row:
 * Qwen2.5-Coder-1.5B on licences +3.8 % of perplexity through the input of down alone, with the
 * floor +0.9 %.
 *
 * It is folded where the input comes from: norm weights for q, k, v, gate and up; rows of v for o
 * (one factor for all query heads of a kv head); rows of up for down.
 *
 * Static parameters: the range is shrunk step by step and the step with the least error taken; the
 * error of channel j counts with the squared length of weight column j, which is what it does to
 * the output when errors are independent. Two relative errors are added: of all rows together,
 * which the few rows with massive activations decide, and the mean over rows, in which each
 * ordinary row counts as much.
 */
#include "quantize/plan.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "model/arch.h"
#include "quant/contract.h"
#include "quant/float_types.h"
#include "quantize/rows.h"

static const char *const input_names[OCT_N_IN] = {"q, k, v", "o", "gate, up", "down"};

static uint32_t input_width(const oct_model_config *c, int in) {
    const uint32_t widths[OCT_N_IN] = {c->hidden, c->n_heads * c->head_dim, c->hidden,
                                       c->intermediate};
    return widths[in];
}

/* Whether what makes an input can be divided: a norm in front of it, or rows of another projection.
 */
static bool can_smooth(const oct_model_config *c, int in) {
    const oct_arch *arch = oct_arch_of(c->family);
    if (in == OCT_IN_QKV) return arch->attn_norm != NULL;
    if (in == OCT_IN_MLP) return arch->mlp_norm != NULL;
    return true;
}

float oct_plan_v_factor(const oct_plan *p, uint32_t layer, uint32_t channel) {
    const oct_model_config *c = p->config;
    const float *s = p->layers[layer].in[OCT_IN_O].smooth;
    const uint32_t group = c->n_heads / c->n_kv_heads;
    if (!s) return 1.0f;
    return s[channel / c->head_dim * group * c->head_dim + channel % c->head_dim];
}

bool oct_plan_is_static(const oct_plan *p, const oct_projection *pr, const oct_input_plan **in) {
    const oct_input_plan *plan = pr->in < 0 ? NULL : &p->layers[pr->layer].in[pr->in];
    if (in) *in = plan;
    return plan && plan->is_static;
}

/* What row r of a projection is divided by, because it is a channel of another's smoothed input. */
static float row_factor(const oct_plan *p, const oct_projection *pr, uint64_t r) {
    const oct_model_config *c = p->config;
    const oct_arch *arch = oct_arch_of(c->family);
    const float *down = pr->in < 0 ? NULL : p->layers[pr->layer].in[OCT_IN_DOWN].smooth;
    const uint64_t not_v = pr->n - (uint64_t)c->n_kv_heads * c->head_dim; /* of fused q, k, v */
    if (pr->p == OCT_P_V) return oct_plan_v_factor(p, pr->layer, (uint32_t)r);
    if (pr->p == OCT_P_Q && arch->fused_qkv && r >= not_v)
        return oct_plan_v_factor(p, pr->layer, (uint32_t)(r - not_v));
    if (pr->p == OCT_P_UP && down) return down[r];
    if (pr->p == OCT_P_GATE && arch->fused_gate_up && down && r >= pr->n / 2)
        return down[r - pr->n / 2];
    return 1.0f;
}

static oct_status read_bias(const oct_plan *p, oct_checkpoint *ckpt, const oct_projection *pr,
                            float *bias, oct_err *err) {
    const float *values = NULL;
    oct_arena arena;
    oct_arena_init(&arena, p->mem, 0);
    oct_status st =
        oct_checkpoint_vector(ckpt, &arena, pr->bias->name.ptr, pr->n, true, &values, err);
    if (st == OCT_OK && !values) st = oct_projection_misfit(p->mem, pr->bias, pr->n, 0, err);
    if (st == OCT_OK) memcpy(bias, values, pr->n * sizeof *bias);
    oct_arena_fini(&arena);
    return st;
}

oct_status oct_plan_weight(const oct_plan *p, oct_checkpoint *ckpt, const oct_projection *pr,
                           float *w, float *bias, oct_err *err) {
    const float *in = pr->in < 0 ? NULL : p->layers[pr->layer].in[pr->in].smooth;
    OCT_TRY(oct_checkpoint_read_rows(ckpt, pr->weight, 0, pr->n, w, err));
    if (pr->bias) OCT_TRY(read_bias(p, ckpt, pr, bias, err));
    for (uint64_t r = 0; r < pr->n; r++) {
        float *row = w + r * pr->k;
        for (uint64_t j = 0; in && j < pr->k; j++) row[j] *= in[j];
        const float by = row_factor(p, pr, r);
        if (by == 1.0f) continue;
        for (uint64_t j = 0; j < pr->k; j++) row[j] /= by;
        if (pr->bias) bias[r] /= by;
    }
    return OCT_OK;
}

/* ---- one layer ------------------------------------------------------------------------------ */

typedef struct columns {
    float *absmax; /* [width] largest weight of a column */
    double *norm2; /* [width] squared length of a column */
} columns;

static oct_status look_at_columns(const oct_plan *p, oct_checkpoint *ckpt, uint32_t layer, int in,
                                  float *w, columns *col, oct_err *err) {
    const uint32_t width = input_width(p->config, in);
    memset(col->absmax, 0, width * sizeof *col->absmax);
    memset(col->norm2, 0, width * sizeof *col->norm2);
    for (size_t i = p->list->first[layer]; i < p->list->first[layer + 1]; i++) {
        const oct_projection *pr = &p->list->v[i];
        if (pr->in != in) continue;
        OCT_TRY(oct_checkpoint_read_rows(ckpt, pr->weight, 0, pr->n, w, err));
        for (uint64_t r = 0; r < pr->n; r++)
            for (uint64_t j = 0; j < pr->k; j++) {
                const float v = w[r * pr->k + j];
                col->absmax[j] = fmaxf(col->absmax[j], fabsf(v));
                col->norm2[j] += (double)v * (double)v;
            }
    }
    return OCT_OK;
}

static int by_value(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Leaves only the factors above their median, relative to it. scratch: [width]. */
static void keep_large(float *smooth, uint32_t width, float *scratch) {
    memcpy(scratch, smooth, width * sizeof *scratch);
    qsort(scratch, width, sizeof *scratch, by_value);
    const float usual = scratch[width / 2];
    for (uint32_t j = 0; j < width; j++) smooth[j] = fmaxf(smooth[j] / usual, 1.0f);
}

static void choose_smoothing(const oct_plan *p, int in, const oct_input_stats *s,
                             const columns *col, float alpha, float *smooth, float *scratch) {
    const oct_model_config *c = p->config;
    for (uint32_t j = 0; j < s->width; j++) {
        const double a = fmax((double)s->absmax[j], 1e-5), w = fmax((double)col->absmax[j], 1e-5);
        smooth[j] = (float)(pow(a, (double)alpha) / pow(w, 1.0 - (double)alpha));
    }
    if (in == OCT_IN_O) {
        /* Query heads of one kv head share v's channels: the largest factor serves them all. */
        const uint32_t group = c->n_heads / c->n_kv_heads, hd = c->head_dim;
        for (uint32_t h = 0; h < c->n_heads; h += group)
            for (uint32_t d = 0; d < hd; d++) {
                float most = 0;
                for (uint32_t g = 0; g < group; g++) most = fmaxf(most, smooth[(h + g) * hd + d]);
                for (uint32_t g = 0; g < group; g++) smooth[(h + g) * hd + d] = most;
            }
    }
    keep_large(smooth, s->width, scratch);
}

/* Squared length of each sample row, as the projections weigh its channels; returns their sum. */
static double row_energies(const oct_input_stats *s, const double *weight, double *energy) {
    double sum = 0;
    for (uint32_t r = 0; r < s->n_rows; r++) {
        const float *x = s->sample + (size_t)r * s->width;
        energy[r] = 0;
        for (uint32_t j = 0; j < s->width; j++)
            energy[r] += (double)x[j] * (double)x[j] * weight[j];
        sum += energy[r];
    }
    return sum;
}

/* Relative squared error under one (scale, offset): of all rows together plus the mean of rows. */
static double static_error(const oct_input_stats *s, const double *weight, const double *energy,
                           double all_energy, float scale, float offset) {
    const float inv = 1.0f / scale;
    double sum = 0, relative = 0;
    for (uint32_t r = 0; r < s->n_rows; r++) {
        const float *x = s->sample + (size_t)r * s->width;
        double row = 0;
        for (uint32_t j = 0; j < s->width; j++) {
            const float q = (float)oct_quant_static_before(x[j], inv, offset);
            const double e = (double)x[j] - (double)((q - offset) * scale);
            row += e * e * weight[j];
        }
        sum += row;
        if (energy[r] > 0) relative += row / energy[r];
    }
    return (all_energy > 0 ? sum / all_energy : 0) + relative / s->n_rows;
}

/* Shrinks the range while that lowers the error. The scale is a bfloat16 value, because some
 * engines keep it as one. */
static oct_status choose_static(const oct_allocator *mem, const oct_input_stats *s,
                                const double *weight, bool symmetric, oct_input_plan *out,
                                oct_err *err) {
    static const float shrink[] = {1.0f, 0.9f, 0.8f, 0.7f,  0.6f, 0.5f,
                                   0.4f, 0.3f, 0.2f, 0.12f, 0.07f};
    float lo = 0, hi = 0;
    double best = INFINITY;
    double *energy = oct_alloc(mem, s->n_rows, sizeof *energy);
    if (!energy) return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    const double all_energy = row_energies(s, weight, energy);
    for (size_t i = 0; i < (size_t)s->n_rows * s->width; i++) {
        lo = fminf(lo, s->sample[i]);
        hi = fmaxf(hi, s->sample[i]);
    }
    const float step = symmetric ? fmaxf(hi, -lo) / 127.0f : (hi - lo) / 255.0f;
    for (unsigned i = 0; i < OCT_COUNT(shrink); i++) {
        const float scale =
            oct_quantize_round_up(fmaxf(step * shrink[i], FLT_EPSILON), OCT_DTYPE_BF16);
        const float offset =
            symmetric ? 0.0f : (float)oct_sat8_rne(-128.0f - lo * shrink[i] / scale);
        const double e = static_error(s, weight, energy, all_energy, scale, offset);
        if (e >= best) continue;
        best = e;
        out->scale = scale;
        out->offset = offset;
    }
    oct_free(mem, energy, s->n_rows, sizeof *energy);
    out->error = (float)best;
    out->is_static = true;
    return OCT_OK;
}

static void smooth_sample(const oct_input_stats *s, const float *smooth) {
    for (uint32_t r = 0; r < s->n_rows; r++)
        for (uint32_t j = 0; j < s->width; j++) s->sample[(size_t)r * s->width + j] /= smooth[j];
}

/* A norm's weight that stays a 16-bit float is rounded when its factors are folded in: the factors
 * become what makes up for that, so that nothing is lost. */
static oct_status fit_to_norm(const oct_plan *p, oct_checkpoint *ckpt, uint32_t l, int in,
                              float *smooth, oct_err *err) {
    const oct_arch *arch = oct_arch_of(p->config->family);
    const float *g, plus = p->config->norm_plus_one ? 1.0f : 0.0f;
    char name[160];
    oct_arena arena;
    snprintf(name, sizeof name, "model.layers.%u.%s.weight", l,
             in == OCT_IN_QKV ? arch->attn_norm : arch->mlp_norm);
    const oct_tensor *t = oct_checkpoint_find(ckpt, name);
    if (!t || (t->dtype != OCT_DTYPE_BF16 && t->dtype != OCT_DTYPE_F16)) return OCT_OK;
    oct_arena_init(&arena, p->mem, 0);
    const oct_status st =
        oct_checkpoint_vector(ckpt, &arena, name, p->config->hidden, true, &g, err);
    for (uint32_t j = 0; st == OCT_OK && g && j < p->config->hidden; j++) {
        const float whole = g[j] + plus, v = whole / smooth[j] - plus;
        const float stored = t->dtype == OCT_DTYPE_BF16 ? oct_bf16_to_f32(oct_f32_to_bf16(v))
                                                        : oct_f16_to_f32(oct_f32_to_f16(v));
        if (stored + plus != 0 && isfinite(stored)) smooth[j] = whole / (stored + plus);
    }
    oct_arena_fini(&arena);
    return st;
}

static oct_status plan_input(oct_plan *p, oct_checkpoint *ckpt, const oct_calibration *cal,
                             const oct_layout *layout, uint32_t l, int in,
                             const oct_quantize_options *o, float *w, columns *col, oct_err *err) {
    oct_input_plan *plan = &p->layers[l].in[in];
    const oct_input_stats *s = &cal->layers[l].in[in];

    if (s->width == 0) return OCT_OK; /* experts' */
    OCT_TRY(look_at_columns(p, ckpt, l, in, w, col, err));
    if (o->smooth_alpha > 0 && can_smooth(p->config, in)) {
        plan->smooth = oct_alloc(p->mem, s->width, sizeof *plan->smooth);
        if (!plan->smooth) return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
        /* w has done its work and is wider than any input. */
        choose_smoothing(p, in, s, col, o->smooth_alpha, plan->smooth, w);
        if (layout->keeps_vectors && (in == OCT_IN_QKV || in == OCT_IN_MLP))
            OCT_TRY(fit_to_norm(p, ckpt, l, in, plan->smooth, err));
        smooth_sample(s, plan->smooth);
        for (uint32_t j = 0; j < s->width; j++)
            col->norm2[j] *= (double)plan->smooth[j] * (double)plan->smooth[j];
    }
    if (o->scheme != OCT_QUANTIZE_W8A8) return OCT_OK;
    return choose_static(p->mem, s, col->norm2, layout->symmetric, plan, err);
}

/* ---- the whole model ------------------------------------------------------------------------ */

typedef struct ranked {
    uint32_t layer;
    int in;
    const oct_input_plan *plan;
} ranked;

static int by_error(const void *a, const void *b) {
    const float x = ((const ranked *)a)->plan->error, y = ((const ranked *)b)->plan->error;
    return (x < y) - (x > y);
}

/* Whether an input lost too much for a static scale and has come out static, or not. */
static bool came_out(const oct_input_plan *in, const oct_quantize_options *o, bool is_static) {
    return in->error > o->dynamic_error && in->is_static == is_static;
}

/* " down 0-3,5" for the layers whose input came out so; nothing for none. Returns how many. */
static unsigned list_layers(const oct_plan *p, const oct_quantize_options *o, int in,
                            bool is_static, oct_buf *out) {
    const uint32_t n_layers = p->config->n_layers;
    unsigned n = 0;
    for (uint32_t first = 0, end; first < n_layers; first = end + 1) {
        for (end = first; end < n_layers && came_out(&p->layers[end].in[in], o, is_static);) end++;
        if (end == first) continue;
        if (n == 0)
            oct_buf_printf(out, "%s %s %u", out->len ? ";" : "", input_names[in], first);
        else
            oct_buf_printf(out, ",%u", first);
        if (end - first > 1) oct_buf_printf(out, "-%u", end - 1);
        n += end - first;
    }
    return n;
}

/* One line for people about all inputs that came out so. */
static oct_status tell(const oct_plan *p, const oct_quantize_options *o, bool is_static,
                       oct_err *err) {
    unsigned n = 0;
    float worst = 0;
    oct_buf where, line;
    if (!o->note) return OCT_OK;
    oct_buf_init(&where, p->mem, 0);
    oct_buf_init(&line, p->mem, 0);
    for (int in = 0; in < OCT_N_IN; in++) {
        n += list_layers(p, o, in, is_static, &where);
        for (uint32_t l = 0; l < p->config->n_layers; l++)
            if (came_out(&p->layers[l].in[in], o, is_static))
                worst = fmaxf(worst, p->layers[l].in[in].error);
    }
    oct_buf_printf(&line, "%u input%s of static error up to %.3f %% of the output ", n,
                   n == 1 ? "" : "s", (double)worst * 100);
    if (is_static)
        oct_buf_printf(&line, "stay static, because %.1f %% of the bytes must, in layers:",
                       (double)o->min_static * 100);
    else
        oct_buf_cstr(&line, "keep a dynamic scale, in layers:");
    oct_buf_str(&line, oct_buf_view(&where));
    const bool failed = where.failed || line.failed;
    if (n && !failed) o->note(o->ctx, oct_buf_cs(&line));
    oct_buf_fini(&where);
    oct_buf_fini(&line);
    return failed ? OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory") : OCT_OK;
}

/* The worst inputs keep a dynamic scale, as far as the share of static bytes allows. */
static oct_status choose_dynamic(oct_plan *p, const oct_quantize_options *o, oct_err *err) {
    const size_t most = (size_t)p->config->n_layers * OCT_N_IN;
    ranked *rank = oct_alloc(p->mem, most, sizeof *rank);
    size_t n = 0;
    uint64_t total = 0, left;

    if (!rank) return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    for (size_t i = 0; i < most; i++) {
        const oct_input_plan *in = &p->layers[i / OCT_N_IN].in[i % OCT_N_IN];
        if (!in->is_static) continue; /* experts' */
        rank[n++] = (ranked){(uint32_t)(i / OCT_N_IN), (int)(i % OCT_N_IN), in};
        total += in->bytes;
    }
    qsort(rank, n, sizeof *rank, by_error);
    left = total;
    for (size_t i = 0; i < n && rank[i].plan->error > o->dynamic_error; i++) {
        const uint64_t bytes = rank[i].plan->bytes;
        const bool fits = (double)(left - bytes) >= (double)o->min_static * (double)total;
        oct_debug("layer %u %s: static error %.3f %% of the output: %s", rank[i].layer,
                  input_names[rank[i].in], (double)rank[i].plan->error * 100,
                  fits ? "kept W8A8_DYNAMIC" : "stays static");
        if (!fits) continue;
        p->layers[rank[i].layer].in[rank[i].in].is_static = false;
        left -= bytes;
    }
    oct_free(p->mem, rank, most, sizeof *rank);
    OCT_TRY(tell(p, o, false, err));
    return tell(p, o, true, err);
}

oct_status oct_plan_make(oct_plan *p, const oct_allocator *mem, oct_checkpoint *ckpt,
                         const oct_projection_list *list, const oct_calibration *cal,
                         const oct_layout *layout, const oct_quantize_options *o, oct_err *err) {
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    uint64_t widest = 0, largest = 0;
    *p = (oct_plan){.mem = mem, .config = c, .list = list};
    p->layers = oct_calloc(mem, c->n_layers, sizeof *p->layers);
    if (!p->layers) return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    for (size_t i = 0; i < list->n; i++) {
        const oct_projection *pr = &list->v[i];
        if (pr->in < 0) continue;
        if (pr->k > widest) widest = pr->k;
        if (pr->n * pr->k > largest) largest = pr->n * pr->k;
        p->layers[pr->layer].in[pr->in].bytes += pr->n * pr->k;
    }
    if (!cal) return OCT_OK;

    float *w = oct_alloc(mem, largest, sizeof *w);
    columns col = {oct_alloc(mem, widest, sizeof(float)), oct_alloc(mem, widest, sizeof(double))};
    oct_status st =
        w && col.absmax && col.norm2 ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    for (uint32_t l = 0; l < c->n_layers && st == OCT_OK; l++) {
        for (int in = 0; in < OCT_N_IN && st == OCT_OK; in++)
            st = plan_input(p, ckpt, cal, layout, l, in, o, w, &col, err);
        if (o->progress) o->progress(o->ctx, "choosing scales", l + 1, c->n_layers);
    }
    oct_free(mem, w, largest, sizeof *w);
    oct_free(mem, col.absmax, widest, sizeof(float));
    oct_free(mem, col.norm2, widest, sizeof(double));
    if (st == OCT_OK && o->scheme == OCT_QUANTIZE_W8A8) st = choose_dynamic(p, o, err);
    return st;
}

void oct_plan_fini(oct_plan *p) {
    if (!p->mem || !p->layers) return;
    for (uint32_t l = 0; l < p->config->n_layers; l++)
        for (int in = 0; in < OCT_N_IN; in++)
            oct_free(p->mem, p->layers[l].in[in].smooth, input_width(p->config, in), sizeof(float));
    oct_free(p->mem, p->layers, p->config->n_layers, sizeof *p->layers);
    *p = (oct_plan){0};
}
