/*
 * store/config_rope.c - what config.json says about rotary embedding and sliding windows.
 *
 * Old files keep rope_theta beside rope_scaling; newer ones put both into rope_parameters, which
 * may hold one object for each kind of layer. Layers that slide may rotate differently from the
 * others: by the object of sliding_attention, or, in old files, by rope_local_base_freq.
 */
#include <math.h>
#include <string.h>

#include "codec/json.h"
#include "store/config_parts.h"

typedef oct_config_source source;

/* ---- kinds of scaling ------------------------------------------------------------------------ */

static oct_status rope_type(const source *s, const json_t *obj, oct_rope_type *out) {
    static const struct {
        const char *name;
        oct_rope_type type;
    } known[] = {{"default", OCT_ROPE_DEFAULT}, {"linear", OCT_ROPE_LINEAR},
                 {"llama3", OCT_ROPE_LLAMA3},   {"yarn", OCT_ROPE_YARN},
                 {"longrope", OCT_ROPE_LONG},   {"su", OCT_ROPE_LONG} /* its first name */,
                 {"dynamic", OCT_ROPE_DYNAMIC}};
    oct_str name = OCT_STR("default");
    OCT_TRY(oct_config_as_file(oct_json_get_str(obj, "type", s->where, &name, s->err)));
    OCT_TRY(oct_config_as_file(oct_json_get_str(obj, "rope_type", s->where, &name, s->err)));
    for (size_t i = 0; i < OCT_COUNT(known); i++)
        if (oct_str_is(name, known[i].name)) {
            *out = known[i].type;
            return OCT_OK;
        }
    return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                    "%s: rope_type is not supported (got \"%.*s\", want default, linear, llama3, "
                    "yarn, longrope or dynamic)",
                    s->where, (int)(name.len < 64 ? name.len : 64), name.ptr);
}

static oct_status need_factor(const source *s, const json_t *obj, const char *key, double *out) {
    if (!oct_config_given(obj, key))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: rope %s is missing", s->where, key);
    return oct_config_factor(s, obj, key, out);
}

static oct_status read_yarn(const source *s, const json_t *obj, oct_rope_config *r) {
    double mscale = 0, mscale_all = 0;
    r->beta_fast = 32;
    r->beta_slow = 1;
    r->truncate = true;
    OCT_TRY(oct_config_factor(s, obj, "beta_fast", &r->beta_fast));
    OCT_TRY(oct_config_factor(s, obj, "beta_slow", &r->beta_slow));
    OCT_TRY(oct_config_as_file(oct_json_get_bool(obj, "truncate", s->where, &r->truncate, s->err)));
    OCT_TRY(oct_config_as_file(oct_json_get_f64(obj, "mscale", s->where, 0, 1e9, &mscale, s->err)));
    OCT_TRY(oct_config_as_file(
        oct_json_get_f64(obj, "mscale_all_dim", s->where, 0, 1e9, &mscale_all, s->err)));
    if (mscale != 0 && mscale_all != 0)
        r->attention_factor =
            oct_yarn_mscale(r->factor, mscale) / oct_yarn_mscale(r->factor, mscale_all);
    else
        r->attention_factor = oct_yarn_mscale(r->factor, 1);
    return oct_config_factor(s, obj, "attention_factor", &r->attention_factor);
}

/* rotary_dim / 2 numbers. */
static oct_status read_factors(const source *s, const json_t *obj, const char *key, uint32_t n,
                               float *out) {
    const json_t *list = json_object_get(obj, key);
    char shown[OCT_JSON_SHOWN];
    if (!json_is_array(list) || json_array_size(list) != n)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: rope %s must have %u numbers, one for each pair of rotated "
                        "dimensions (got %zu)",
                        s->where, key, n, json_array_size(list));
    for (uint32_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        out[i] = (float)json_number_value(v);
        if (!json_is_number(v) || !isfinite(out[i]) || !(out[i] > 0))
            return OCT_FAIL(s->err, OCT_E_CORRUPT,
                            "%s: rope %s[%u] must be a number above 0 (got %s)", s->where, key, i,
                            oct_json_show(v, shown));
    }
    return OCT_OK;
}

static oct_status read_longrope(const source *s, const json_t *obj, const oct_model_config *c,
                                oct_rope_config *r) {
    double reach = (double)c->max_position / r->original_max_position;
    OCT_TRY(read_factors(s, obj, "short_factor", r->rotary_dim / 2, r->factors));
    OCT_TRY(read_factors(s, obj, "long_factor", r->rotary_dim / 2, r->long_factors));
    OCT_TRY(oct_config_factor(s, obj, "factor", &reach));
    r->attention_factor = oct_longrope_mscale(reach, r->original_max_position);
    return oct_config_factor(s, obj, "attention_factor", &r->attention_factor);
}

/* How far the factor reaches, if it is farther than the file's own length. */
static void extend(oct_model_config *c, const oct_rope_config *r) {
    const double reach = r->factor * r->original_max_position;
    if (reach > c->max_position && reach <= OCT_MAX_POSITIONS) c->max_position = (uint32_t)reach;
}

/* Dynamic NTK: the length of config.json is the original one. One writer's variant has alpha, and
 * grows the base by it whatever the length. */
static oct_status read_dynamic(const source *s, const json_t *obj, oct_rope_config *r,
                               oct_model_config *c) {
    char shown[OCT_JSON_SHOWN];
    if (oct_config_given(obj, "alpha"))
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                        "%s: rope alpha is not supported (got %s, want none)", s->where,
                        oct_json_show(json_object_get(obj, "alpha"), shown));
    if (r->rotary_dim < 4)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: dynamic rope of %u rotated dimensions (want at least 4)", s->where,
                        r->rotary_dim);
    OCT_TRY(need_factor(s, obj, "factor", &r->factor));
    if (r->factor < 1)
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: dynamic rope factor is below 1 (got %g)",
                        s->where, r->factor);
    r->original_max_position = c->max_position;
    extend(c, r);
    return OCT_OK;
}

static oct_status read_scaling(const source *s, const json_t *obj, oct_rope_config *r,
                               oct_model_config *c) {
    if (r->type == OCT_ROPE_DEFAULT) return OCT_OK;
    if (r->type == OCT_ROPE_DYNAMIC) return read_dynamic(s, obj, r, c);
    if (r->type != OCT_ROPE_LONG) OCT_TRY(need_factor(s, obj, "factor", &r->factor));
    if (r->type == OCT_ROPE_LINEAR) return OCT_OK;
    r->original_max_position = c->max_position;
    OCT_TRY(oct_config_int(s, s->obj, "original_max_position_embeddings", 1, OCT_MAX_POSITIONS,
                           &r->original_max_position));
    OCT_TRY(oct_config_int(s, obj, "original_max_position_embeddings", 1, OCT_MAX_POSITIONS,
                           &r->original_max_position));
    if (r->type == OCT_ROPE_LONG) return read_longrope(s, obj, c, r);
    if (r->type == OCT_ROPE_YARN) {
        OCT_TRY(read_yarn(s, obj, r));
        extend(c, r);
        return OCT_OK;
    }
    OCT_TRY(need_factor(s, obj, "low_freq_factor", &r->low_freq_factor));
    return need_factor(s, obj, "high_freq_factor", &r->high_freq_factor);
}

/* ---- one kind of layer ----------------------------------------------------------------------- */

static const json_t *object_or_null(const json_t *v) { return json_is_object(v) ? v : NULL; }

/* rope_parameters, else rope_scaling: that of full attention and, where it differs, that of layers
 * that slide; NULL when there is none. */
static oct_status rope_objects(const source *s, const json_t **full, const json_t **slides) {
    const bool newer = oct_config_given(s->obj, "rope_parameters");
    const char *key = newer ? "rope_parameters" : "rope_scaling";
    const json_t *v = json_object_get(s->obj, key);
    *full = *slides = NULL;
    if (!oct_config_given(s->obj, key)) return OCT_OK;
    char shown[OCT_JSON_SHOWN];
    if (!json_is_object(v))
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: %s is not an object (got %s)", s->where, key,
                        oct_json_show(v, shown));
    const json_t *of_full = object_or_null(json_object_get(v, "full_attention"));
    const json_t *of_slides = object_or_null(json_object_get(v, "sliding_attention"));
    *full = of_full ? of_full : of_slides ? of_slides : v;
    if (of_full && of_slides && !json_equal(of_full, of_slides)) *slides = of_slides;
    return OCT_OK;
}

/* theta as the caller set it, or from the object or the top; obj may be NULL. */
static oct_status read_one(const source *s, const oct_family_row *row, const json_t *obj,
                           oct_rope_config *r, oct_model_config *c) {
    double partial = row->default_partial != 0 ? row->default_partial : 1;
    r->attention_factor = 1;
    OCT_TRY(oct_config_factor(s, s->obj, "partial_rotary_factor", &partial));
    if (obj) OCT_TRY(oct_config_factor(s, obj, "rope_theta", &r->theta));
    if (obj) OCT_TRY(oct_config_factor(s, obj, "partial_rotary_factor", &partial));
    if (partial > 1)
        return OCT_FAIL(s->err, OCT_E_CORRUPT, "%s: partial_rotary_factor is above 1 (got %g)",
                        s->where, partial);
    r->rotary_dim = (uint32_t)(c->head_dim * partial);
    OCT_TRY(oct_config_int(s, s->obj, "rotary_dim", 1, OCT_MAX_HEAD_DIM, &r->rotary_dim));
    if (r->rotary_dim > c->head_dim)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: rotary size is above head_dim (got %u, head_dim %u)", s->where,
                        r->rotary_dim, c->head_dim);
    if (!obj) return OCT_OK;
    OCT_TRY(rope_type(s, obj, &r->type));
    return read_scaling(s, obj, r, c);
}

oct_status oct_config_read_rope(const source *s, const oct_family_row *row, oct_model_config *c) {
    const json_t *full, *slides;
    double local = row->local_theta;
    OCT_TRY(rope_objects(s, &full, &slides));
    c->rope.theta = row->default_theta;
    OCT_TRY(oct_config_factor(s, s->obj, "rope_theta", &c->rope.theta));
    OCT_TRY(read_one(s, row, full, &c->rope, c));
    if (local != 0) OCT_TRY(oct_config_factor(s, s->obj, "rope_local_base_freq", &local));

    /* Old files of such families have no object for layers that slide: they are not scaled. */
    c->has_local_rope = slides || (local != 0 && !oct_config_given(s->obj, "rope_parameters"));
    if (!c->has_local_rope) return OCT_OK;
    c->local_rope.theta = local != 0 ? local : row->default_theta;
    OCT_TRY(read_one(s, row, slides, &c->local_rope, c));
    if (c->local_rope.type == OCT_ROPE_LONG || c->local_rope.type == OCT_ROPE_DYNAMIC ||
        c->local_rope.rotary_dim != c->rope.rotary_dim)
        return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                        "%s: rope_parameters of sliding_attention: longrope, dynamic or another "
                        "number of rotated dimensions than full_attention is not supported",
                        s->where);
    return OCT_OK;
}

/* ---- windows --------------------------------------------------------------------------------- */

static oct_status read_layer_types(const source *s, const json_t *types, oct_model_config *c) {
    if (!json_is_array(types) || json_array_size(types) != c->n_layers)
        return OCT_FAIL(s->err, OCT_E_CORRUPT,
                        "%s: layer_types must have num_hidden_layers entries (got %zu, want %u)",
                        s->where, json_array_size(types), c->n_layers);
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const json_t *v = json_array_get(types, i);
        char shown[OCT_JSON_SHOWN];
        c->layer_slides[i] = oct_str_is(oct_json_str(v), "sliding_attention");
        if (!c->layer_slides[i] && !oct_str_is(oct_json_str(v), "full_attention"))
            return OCT_FAIL(s->err, OCT_E_UNSUPPORTED,
                            "%s: layer_types[%u] is not supported (got %s, want "
                            "\"full_attention\" or \"sliding_attention\")",
                            s->where, i, oct_json_show(v, shown));
    }
    return OCT_OK;
}

void oct_config_apply_window(const oct_family_row *row, uint32_t from, uint32_t pattern,
                             oct_model_config *c) {
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const bool even = i % 2 == 0;
        c->layer_slides[i] = row->window == OCT_WINDOW_FROM         ? i >= from
                             : row->window == OCT_WINDOW_EVEN_BELOW ? even && i < from
                             : row->window == OCT_WINDOW_EVEN       ? even
                             : row->window == OCT_WINDOW_PATTERN    ? (i + 1) % pattern != 0
                                                                    : true;
    }
}

oct_status oct_config_read_window(const source *s, const oct_family_row *row, oct_model_config *c) {
    const bool asks = row->window == OCT_WINDOW_FROM || row->window == OCT_WINDOW_IF_USED ||
                      row->window == OCT_WINDOW_EVEN_BELOW;
    bool use = !asks;
    uint32_t window = row->default_window, from = 0, pattern = 6;
    if (row->window == OCT_WINDOW_NONE) return OCT_OK;
    if (asks) OCT_TRY(oct_config_bool(s, "use_sliding_window", &use));
    /* null is a value here: no window, whatever the default. */
    if (json_is_null(json_object_get(s->obj, "sliding_window"))) window = 0;
    OCT_TRY(oct_config_int(s, s->obj, "sliding_window", 0, OCT_MAX_POSITIONS, &window));
    OCT_TRY(oct_config_int(s, s->obj, "max_window_layers", 0, 1 << 20, &from));
    OCT_TRY(oct_config_int(s, s->obj, "_sliding_window_pattern", 1, OCT_MAX_LAYERS, &pattern));
    OCT_TRY(oct_config_int(s, s->obj, "sliding_window_pattern", 1, OCT_MAX_LAYERS, &pattern));
    if (oct_config_given(s->obj, "layer_types"))
        OCT_TRY(read_layer_types(s, json_object_get(s->obj, "layer_types"), c));
    else
        oct_config_apply_window(row, from, pattern, c);
    if (!use || window == 0) {
        memset(c->layer_slides, 0, sizeof c->layer_slides);
        return OCT_OK;
    }
    c->sliding_window = window;
    return OCT_OK;
}
