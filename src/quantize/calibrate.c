/*
 * quantize/calibrate.c - taps on a float model.
 *
 * Rows are kept by a fixed rule (the first 16 of a window, then each 8th): the first tokens of a
 * text carry the massive activations that decide whether a static scale works, and must be in the
 * sample.
 *
 * K is watched by the amplitude of each rotated pair, sqrt(k_i^2 + k_j^2): at positions beyond the
 * calibration text the pair turns on, and either channel can then reach the whole amplitude.
 */
#include "quantize/calibrate.h"

#include <math.h>
#include <string.h>

#include "model/runner.h"

enum { WINDOW = 512, HEAD_ROWS = 16, EVERY = 8, STEP_ROWS = 256 };

static bool keeps(uint32_t row) { return row < HEAD_ROWS || row % EVERY == 0; }

static void watch_input(oct_calibration *c, oct_input_stats *s, const float *rows, uint32_t n) {
    if (s->width == 0) return;
    for (uint32_t r = 0; r < n; r++) {
        const float *row = rows + (size_t)r * s->width;
        for (uint32_t i = 0; i < s->width; i++) s->absmax[i] = fmaxf(s->absmax[i], fabsf(row[i]));
        if (!keeps(c->row_in_window + r) || s->n_rows == s->cap_rows) continue;
        memcpy(s->sample + (size_t)s->n_rows++ * s->width, row, s->width * sizeof *row);
    }
}

static void watch_k(const oct_model_config *cfg, float *absmax, const float *rows, uint32_t n) {
    const uint32_t hd = cfg->head_dim, half = cfg->rope.rotary_dim / 2;
    for (uint32_t r = 0; r < n * cfg->n_kv_heads; r++) {
        const float *k = rows + (size_t)r * hd;
        float *m = absmax + (size_t)(r % cfg->n_kv_heads) * hd;
        for (uint32_t i = 0; i < half; i++) {
            const float amplitude = sqrtf(k[i] * k[i] + k[i + half] * k[i + half]);
            m[i] = fmaxf(m[i], amplitude);
            m[i + half] = m[i];
        }
        for (uint32_t i = 2 * half; i < hd; i++) m[i] = fmaxf(m[i], fabsf(k[i]));
    }
}

static void tap(void *ctx, uint32_t layer, oct_tap_point point, const float *rows, uint32_t n,
                uint32_t width) {
    oct_calibration *c = ctx;
    if (layer >= c->config->n_layers) return;
    oct_layer_stats *s = &c->layers[layer];
    switch (point) {
    case OCT_TAP_QKV_IN:
        watch_input(c, &s->in[OCT_IN_QKV], rows, n);
        break;
    case OCT_TAP_O_IN:
        watch_input(c, &s->in[OCT_IN_O], rows, n);
        break;
    case OCT_TAP_MLP_IN:
        watch_input(c, &s->in[OCT_IN_MLP], rows, n);
        break;
    case OCT_TAP_DOWN_IN:
        watch_input(c, &s->in[OCT_IN_DOWN], rows, n);
        break;
    case OCT_TAP_K:
        watch_k(c->config, s->k_absmax, rows, n);
        break;
    case OCT_TAP_V:
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t i = 0; i < width; i++)
                s->v_absmax[i] = fmaxf(s->v_absmax[i], fabsf(rows[(size_t)r * width + i]));
        break;
    case OCT_TAP_HEAD_IN:
        break;
    }
}

static oct_status make_stats(oct_calibration *c, size_t n_tokens, uint32_t window, oct_err *err) {
    const oct_model_config *cfg = c->config;
    const uint32_t q = cfg->n_heads * cfg->head_dim, kv = cfg->n_kv_heads * cfg->head_dim;
    const uint32_t widths[OCT_N_IN] = {cfg->hidden, q, cfg->hidden, cfg->intermediate};
    const size_t windows = n_tokens / window + 1;
    const uint32_t cap = (uint32_t)(windows * (HEAD_ROWS + window / EVERY + 1));

    c->layers = oct_calloc(c->mem, cfg->n_layers, sizeof *c->layers);
    bool ok = c->layers;
    for (uint32_t l = 0; ok && l < cfg->n_layers; l++) {
        oct_layer_stats *s = &c->layers[l];
        for (int i = 0; i < OCT_N_IN; i++) {
            const bool of_experts = cfg->layer_is_moe[l] && (i == OCT_IN_MLP || i == OCT_IN_DOWN);
            if (of_experts) continue;
            s->in[i] = (oct_input_stats){.width = widths[i], .cap_rows = cap};
            s->in[i].absmax = oct_calloc(c->mem, widths[i], sizeof(float));
            s->in[i].sample = oct_calloc(c->mem, (size_t)cap * widths[i], sizeof(float));
            ok &= s->in[i].absmax && s->in[i].sample;
        }
        s->k_absmax = oct_calloc(c->mem, kv, sizeof(float));
        s->v_absmax = oct_calloc(c->mem, kv, sizeof(float));
        ok &= s->k_absmax && s->v_absmax;
    }
    return ok ? OCT_OK
              : OCT_FAIL(err, OCT_E_NOMEM, "calibration: no memory for %u rows a projection", cap);
}

oct_status oct_calibrate(oct_calibration *c, const oct_allocator *mem, oct_model *model,
                         const int32_t *ids, size_t n,
                         void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                         oct_err *err) {
    const uint32_t limit = oct_model_get_info(model)->max_model_len;
    const uint32_t longest = limit < WINDOW ? limit : WINDOW;
    oct_runner *r = NULL;
    *c = (oct_calibration){.mem = mem, .config = oct_model_get_info(model)->config};
    if (n == 0) return OCT_FAIL(err, OCT_E_INVALID, "calibration: the text has no tokens");
    oct_status st = make_stats(c, n, longest, err);
    if (st == OCT_OK) st = oct_runner_create(mem, model, &r, err);
    oct_model_set_tap(model, tap, c);
    for (size_t at = 0; st == OCT_OK && at < n; at += longest) {
        const uint32_t window = (uint32_t)(n - at < longest ? n - at : longest);
        oct_runner_reset(r);
        for (uint32_t i = 0; st == OCT_OK && i < window; i += STEP_ROWS) {
            c->row_in_window = i;
            st = oct_runner_feed(r, ids + at + i, window - i < STEP_ROWS ? window - i : STEP_ROWS,
                                 err);
        }
        if (progress) progress(ctx, at + window, n);
    }
    oct_model_set_tap(model, NULL, NULL);
    oct_runner_destroy(r);
    return st;
}

void oct_calibration_fini(oct_calibration *c) {
    if (!c->mem || !c->layers) return;
    const size_t kv = (size_t)c->config->n_kv_heads * c->config->head_dim;
    for (uint32_t l = 0; l < c->config->n_layers; l++) {
        oct_layer_stats *s = &c->layers[l];
        for (int i = 0; i < OCT_N_IN; i++) {
            oct_free(c->mem, s->in[i].absmax, s->in[i].width, sizeof(float));
            oct_free(c->mem, s->in[i].sample, (size_t)s->in[i].cap_rows * s->in[i].width,
                     sizeof(float));
        }
        oct_free(c->mem, s->k_absmax, kv, sizeof(float));
        oct_free(c->mem, s->v_absmax, kv, sizeof(float));
    }
    oct_free(c->mem, c->layers, c->config->n_layers, sizeof *c->layers);
    *c = (oct_calibration){0};
}
