/*
 * store/scheme_linear.c - one projection by a rule: int8 or FP8 weights with their scales, against
 * what the file really holds.
 *
 *   weight        I8 or F8_E4M3 [n, k]; or weight_packed I32 [n, ceil(k / 4)], bytes + 128
 *   weight_scale  [] or [1]; [n] or [n, 1]; by blocks [ceil(n / block_n), ceil(k / block_k)]
 *   weight_zero_point  zeros
 *   input_scale, input_zero_point  [] or [1], static activations
 *   bias          [n]
 *
 * y = s_x s_w (sum q W - z sum W) + b: the term with the input's zero point z is a whole number and
 * goes to int_bias. |z| and |W| are at most 128 and k at most 131071, so it fits.
 *
 * Experts that share their rows (gate and up of all experts of a layer; down of all) must be
 * quantised once: their static input scales become one, the largest range of all.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/log.h"
#include "store/scheme_parts.h"

enum { SUM_BYTES = 1 << 20 };

/* ---- scales of the weight -------------------------------------------------------------------- */

static bool is_single(const oct_tensor *t) { return t && t->n_rows * t->row_elems == 1; }

static oct_status read_block_scales(oct_scheme *s, oct_arena *arena, const char *own,
                                    const oct_linear_rule *rule, oct_linear_source *io,
                                    oct_err *err) {
    const uint64_t rows = (io->n + rule->block_n - 1) / rule->block_n;
    const uint64_t cols = (io->k + rule->block_k - 1) / rule->block_k;
    const uint64_t shape[2] = {rows, cols};
    const oct_tensor *t = oct_scheme_find(s, own, rule->scale_tail);
    if (t && !oct_tensor_has_shape(t, 2, shape)) {
        oct_buf b;
        oct_buf_init(&b, s->mem, 0);
        oct_tensor_describe(t, &b);
        oct_checkpoint_note(s->ckpt,
                            "%s: got %s, want [%" PRIu64 ", %" PRIu64 "] for blocks of %u x %u",
                            t->name.ptr, oct_buf_cs(&b), rows, cols, rule->block_n, rule->block_k);
        oct_buf_fini(&b);
        oct_checkpoint_consume(s->ckpt, t);
        return OCT_OK;
    }
    io->block_n = rule->block_n;
    io->block_k = rule->block_k;
    return oct_scheme_values(s, arena, own, rule->scale_tail, rows * cols, OCT_VALUE_COLUMN, false,
                             &io->block_scale, err);
}

static oct_status read_scales(oct_scheme *s, oct_arena *arena, const char *own,
                              const oct_linear_rule *rule, oct_linear_source *io, oct_err *err) {
    const oct_tensor *t = oct_scheme_find(s, own, rule->scale_tail);
    if (rule->grain == OCT_GRAIN_BLOCK) return read_block_scales(s, arena, own, rule, io, err);
    if (rule->grain == OCT_GRAIN_TENSOR && is_single(t))
        return oct_scheme_values_spread(s, arena, own, rule->scale_tail, io->n, OCT_VALUE_COLUMN,
                                        false, &io->col_scale, err);
    const uint64_t want = rule->grain == OCT_GRAIN_TENSOR ? 1 : io->n;
    const float *v;
    OCT_TRY(
        oct_scheme_values(s, arena, own, rule->scale_tail, want, OCT_VALUE_COLUMN, false, &v, err));
    io->col_scale = v;
    return OCT_OK;
}

static bool has_scales(const oct_linear_source *io) { return io->col_scale || io->block_scale; }

/* ---- the weight ------------------------------------------------------------------------------ */

static const oct_tensor *need_packed(oct_scheme *s, const char *own, const oct_linear_source *io) {
    char name[OCT_SCHEME_NAME];
    const uint64_t shape[2] = {io->n, (io->k + 3) / 4};
    oct_checkpoint_consume(s->ckpt, oct_scheme_find(s, own, ".weight_shape"));
    oct_scheme_name_of(name, own, ".weight_packed");
    return oct_checkpoint_need_as(s->ckpt, name, OCT_DTYPE_I32, 2, shape);
}

static const oct_tensor *need_weight(oct_scheme *s, const char *own, const oct_linear_rule *rule,
                                     const oct_linear_source *io) {
    char name[OCT_SCHEME_NAME];
    const uint64_t shape[2] = {io->n, io->k};
    const oct_dtype dtype = rule->kind == OCT_LINEAR_FP8 ? OCT_DTYPE_F8_E4M3 : OCT_DTYPE_I8;
    if (rule->packed) return need_packed(s, own, io);
    oct_scheme_name_of(name, own, ".weight");
    return oct_checkpoint_need_as(s->ckpt, name, dtype, 2, shape);
}

/* ---- static inputs --------------------------------------------------------------------------- */

typedef struct input_range {
    float scale, offset;
} input_range;

/* One projection's input scale and zero point; *got is false when something was noted. */
static oct_status read_input(oct_scheme *s, oct_arena *arena, const char *own, bool offset_ok,
                             input_range *out, bool *got, oct_err *err) {
    const float *scale, *zero;
    *got = false;
    OCT_TRY(
        oct_scheme_values(s, arena, own, ".input_scale", 1, OCT_VALUE_SCALE, false, &scale, err));
    OCT_TRY(oct_scheme_values(s, arena, own, ".input_zero_point", 1, OCT_VALUE_OFFSET, true, &zero,
                              err));
    if (!scale) return OCT_OK;
    if (zero && *zero != 0 && !offset_ok)
        return oct_scheme_fail(s, oct_scheme_find(s, own, ".input_zero_point"), OCT_E_CORRUPT, err,
                               "got %g, want 0: the configuration says symmetric", (double)*zero);
    *out = (input_range){*scale, zero ? *zero : 0};
    *got = true;
    return OCT_OK;
}

/* Where the number of the expert begins in "...experts.E.proj", and the projection; or NULL. */
static const char *expert_number(const char *own, const char **proj) {
    static const char mark[] = ".experts.";
    const char *at = strstr(own, mark);
    if (!at) return NULL;
    at += sizeof mark - 1;
    const size_t n = strspn(at, "0123456789");
    OCT_ASSERT(n > 0); /* the model asks for numbers */
    OCT_ASSERT(at[n] == '.');
    *proj = at + n + 1;
    return at;
}

/* The smallest range that holds both. Symmetric ones stay symmetric. */
static input_range widest(input_range a, input_range b) {
    if (a.offset == 0 && b.offset == 0) return a.scale >= b.scale ? a : b;
    const float lo = fminf((-128 - a.offset) * a.scale, (-128 - b.offset) * b.scale);
    const float hi = fmaxf((127 - a.offset) * a.scale, (127 - b.offset) * b.scale);
    const float scale = (hi - lo) / 255;
    return (input_range){scale, rintf(-128 - lo / scale)};
}

/* All experts' inputs of the same rows as one; kept for the next expert of the layer. */
static oct_status merge_experts(oct_scheme *s, oct_arena *arena, const char *own, bool offset_ok,
                                const char *number, const char *proj, input_range *io,
                                oct_err *err) {
    static const char *const names[2][4] = {{"gate_proj", "up_proj", "w1", "w3"},
                                            {"down_proj", "w2", NULL, NULL}};
    const int which = strcmp(proj, "down_proj") == 0 || strcmp(proj, "w2") == 0;
    oct_expert_input *known = &s->experts[which];
    char head[OCT_SCHEME_NAME], name[OCT_SCHEME_NAME + 32];
    snprintf(head, sizeof head, "%.*s", (int)(number - own), own);
    if (strcmp(known->head, head) == 0) {
        *io = (input_range){known->scale, known->offset};
        return OCT_OK;
    }
    input_range all = *io;
    bool differ = false, any = true;
    for (uint32_t e = 0; any; e++) {
        any = false;
        for (size_t p = 0; p < OCT_COUNT(names[0]) && names[which][p]; p++) {
            input_range one;
            bool got;
            snprintf(name, sizeof name, "%s%u.%s", head, e, names[which][p]);
            if (!oct_scheme_find(s, name, ".input_scale")) continue;
            any = true;
            OCT_TRY(read_input(s, arena, name, offset_ok, &one, &got, err));
            if (!got) continue;
            differ |= one.scale != all.scale || one.offset != all.offset;
            all = widest(all, one);
        }
    }
    if (differ && !s->warned_inputs)
        oct_warn("%s*.%s: static input scales of the experts differ; the widest range is used "
                 "(told once)",
                 head, which ? "down" : "gate and up");
    s->warned_inputs |= differ;
    memcpy(known->head, head, sizeof head);
    known->scale = all.scale;
    known->offset = all.offset;
    *io = all;
    return OCT_OK;
}

static oct_status sum_rows(oct_scheme *s, const oct_linear_source *io, float zero, int32_t *out,
                           oct_err *err) {
    OCT_ASSERT(io->k <= SUM_BYTES);
    const uint64_t step = SUM_BYTES / io->k; /* rows */
    const uint64_t bytes = step * io->k;
    int8_t *rows = oct_alloc(s->mem, bytes, 1);
    if (!rows) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", io->weight->name.ptr);
    oct_status st = OCT_OK;
    for (uint64_t row = 0; st == OCT_OK && row < io->n; row += step) {
        const uint64_t n = io->n - row < step ? io->n - row : step;
        st = oct_scheme_read_i8(s->ckpt, io, row, n, rows, err);
        for (uint64_t r = 0; st == OCT_OK && r < n; r++) {
            int32_t sum = 0;
            for (uint64_t i = 0; i < io->k; i++) sum += rows[r * io->k + i];
            out[row + r] = (int32_t)-zero * sum;
        }
    }
    oct_free(s->mem, rows, bytes, 1);
    return st;
}

/* Static activations of an int8 projection whose weight and scales are set. */
static oct_status set_static(oct_scheme *s, oct_arena *arena, const char *own, input_range in,
                             oct_linear_source *io, oct_err *err) {
    float *scale = oct_arena_alloc(arena, io->n, sizeof *scale);
    if (!scale) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", own);
    for (uint64_t i = 0; i < io->n; i++) scale[i] = in.scale * io->col_scale[i];
    io->col_scale = scale;
    io->act = OCT_ACT_STATIC_AFTER;
    io->input_scale = in.scale;
    io->input_offset = in.offset;
    if (in.offset == 0) return OCT_OK;
    int32_t *sums = oct_arena_alloc(arena, io->n, sizeof *sums);
    if (!sums) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", own);
    io->int_bias = sums;
    return sum_rows(s, io, in.offset, sums, err);
}

/* ---- kinds ----------------------------------------------------------------------------------- */

static oct_status int8_inputs(oct_scheme *s, oct_arena *arena, const char *own,
                              const oct_linear_rule *rule, oct_linear_source *io, oct_err *err) {
    input_range in;
    bool got = true;
    if (rule->input == OCT_INPUT_STATIC) {
        const char *proj, *number = expert_number(own, &proj);
        OCT_TRY(read_input(s, arena, own, rule->input_offset, &in, &got, err));
        if (got && number)
            OCT_TRY(merge_experts(s, arena, own, rule->input_offset, number, proj, &in, err));
    }
    if (!io->weight || !has_scales(io) || !got) return OCT_OK;
    io->kind = OCT_LINEAR_INT8;
    io->packed = rule->packed;
    io->act = OCT_ACT_DYNAMIC;
    if (rule->input != OCT_INPUT_STATIC) return OCT_OK;
    return set_static(s, arena, own, in, io, err);
}

static oct_status fp8_inputs(oct_scheme *s, oct_arena *arena, const char *own,
                             const oct_linear_rule *rule, oct_linear_source *io, oct_err *err) {
    const float *scale = NULL;
    if (rule->input == OCT_INPUT_STATIC)
        OCT_TRY(oct_scheme_values(s, arena, own, ".input_scale", 1, OCT_VALUE_SCALE, false, &scale,
                                  err));
    if (!io->weight || !has_scales(io) || (rule->input == OCT_INPUT_STATIC && !scale))
        return OCT_OK;
    io->kind = OCT_LINEAR_FP8;
    io->fp8_act = rule->input == OCT_INPUT_STATIC  ? OCT_FP8_ACT_STATIC
                  : rule->input == OCT_INPUT_FLOAT ? OCT_FP8_ACT_NONE
                  : rule->grain == OCT_GRAIN_BLOCK ? OCT_FP8_ACT_BLOCK
                                                   : OCT_FP8_ACT_TOKEN;
    io->fp8_act_max = rule->act_max;
    if (scale) io->input_scale = *scale;
    return OCT_OK;
}

static oct_status quantised(oct_scheme *s, oct_arena *arena, const char *own,
                            const oct_linear_rule *rule, bool need_bias, oct_linear_source *io,
                            oct_err *err) {
    const oct_tensor *weight = need_weight(s, own, rule, io);
    OCT_TRY(read_scales(s, arena, own, rule, io, err));
    OCT_TRY(oct_scheme_check_zero(s, own, ".weight_zero_point", err));
    OCT_TRY(oct_scheme_values(s, arena, own, ".bias", io->n, OCT_VALUE_FINITE, !need_bias,
                              &io->bias, err));
    io->weight = need_bias && !io->bias ? NULL : weight;
    io->label = rule->label;
    if (rule->kind == OCT_LINEAR_INT8) return int8_inputs(s, arena, own, rule, io, err);
    if (rule->kind == OCT_LINEAR_FP8) return fp8_inputs(s, arena, own, rule, io, err);
    if (!io->weight || !has_scales(io)) return OCT_OK;
    io->kind = OCT_LINEAR_W8A16;
    io->packed = rule->packed;
    return OCT_OK;
}

/* ---- the rule and the file ------------------------------------------------------------------- */

void oct_scheme_name_rule(oct_linear_rule *r, bool is_fp8) {
    if (is_fp8) {
        r->kind = OCT_LINEAR_FP8;
        r->label = r->input == OCT_INPUT_FLOAT ? "FP8 weights" : "FP8";
    } else if (r->input == OCT_INPUT_FLOAT) {
        r->kind = OCT_LINEAR_W8A16;
        r->label = "W8A16";
    } else {
        r->kind = OCT_LINEAR_INT8;
        r->label = r->input == OCT_INPUT_STATIC ? "W8A8" : "W8A8_DYNAMIC";
    }
}

/* Routers and the like are float though no list says so: tools quantise only what they walk. */
static oct_status taken_as_float(oct_scheme *s, oct_arena *arena, const char *own,
                                 const oct_linear_rule *rule, bool need_bias, oct_linear_source *io,
                                 oct_err *err) {
    if (!s->warned_unlisted)
        oct_warn("%s: float in the file though %s makes it %s; it and others like it are read as "
                 "float",
                 own, rule->why, rule->label);
    s->warned_unlisted = true;
    return oct_scheme_float_linear(s, arena, own, need_bias, io, err);
}

oct_status oct_scheme_rule_linear(oct_scheme *s, oct_arena *arena, const char *own,
                                  const oct_linear_rule *rule, bool need_bias,
                                  oct_linear_source *io, oct_err *err) {
    const oct_tensor *t = oct_scheme_weight(s, own);
    const bool is_float = t && oct_dtype_is_real(t->dtype);
    if (rule->kind == OCT_LINEAR_FLOAT) {
        if (t && !is_float)
            return oct_scheme_fail(s, t, OCT_E_CORRUPT, err, "is %s, but %s leaves it float",
                                   oct_dtype_name(t->dtype), rule->why);
        return oct_scheme_float_linear(s, arena, own, need_bias, io, err);
    }
    if (is_float && !oct_scheme_find(s, own, rule->scale_tail))
        return taken_as_float(s, arena, own, rule, need_bias, io, err);
    return quantised(s, arena, own, rule, need_bias, io, err);
}
