/*
 * apps/inspect/compare.c - how two checkpoints differ: hyperparameters, storage of projections,
 * tensors, and on demand their values.
 *
 * Everything is collected as JSON first; the text is made from that, so both say the same.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "codec/json.h"
#include "inspect.h"
#include "quant/float_types.h"

enum { SHOWN = 20, PIECE_ELEMS = 1 << 18 };

/* ---- hyperparameters and schemes ------------------------------------------------------------- */

static json_t *pair(const char *key, const char *name, json_t *a, json_t *b) {
    return json_pack("{s:s, s:o, s:o}", key, name, "a", a, "b", b);
}

static json_t *compare_fields(const oct_model_config *a, const oct_model_config *b) {
    json_t *list = json_array(), *va, *vb;
    const char *name;
    for (size_t i = 0; inspect_field(a, i, &name, &va); i++) {
        inspect_field(b, i, &name, &vb);
        if (json_equal(va, vb)) {
            json_decref(va);
            json_decref(vb);
        } else {
            oct_json_push(&list, pair("field", name, va, vb));
        }
    }
    return list;
}

/* Joins a difference to the last one when it goes on in the next layer. */
static void add_scheme(json_t **list, uint32_t layer, const char *name, const char *a,
                       const char *b) {
    for (size_t i = json_array_size(*list); i > 0; i--) {
        json_t *d = json_array_get(*list, i - 1);
        if (json_integer_value(json_object_get(d, "last")) + 1 != layer ||
            strcmp(json_string_value(json_object_get(d, "name")), name) != 0 ||
            strcmp(json_string_value(json_object_get(d, "a")), a) != 0 ||
            strcmp(json_string_value(json_object_get(d, "b")), b) != 0)
            continue;
        json_integer_set(json_object_get(d, "last"), layer);
        return;
    }
    oct_json_push(list, json_pack("{s:s, s:i, s:i, s:s, s:s}", "name", name, "first", (int)layer,
                                  "last", (int)layer, "a", a, "b", b));
}

static const char *label_in(const oct_survey_layer *layer, const char *name) {
    for (uint32_t i = 0; i < layer->n_parts; i++)
        if (strcmp(layer->part[i].name, name) == 0) return layer->part[i].label;
    return "absent";
}

static void compare_layer(json_t **list, uint32_t at, const oct_survey_layer *a,
                          const oct_survey_layer *b) {
    for (uint32_t i = 0; i < a->n_parts; i++) {
        const char *other = label_in(b, a->part[i].name);
        if (strcmp(a->part[i].label, other) != 0)
            add_scheme(list, at, a->part[i].name, a->part[i].label, other);
    }
    for (uint32_t i = 0; i < b->n_parts; i++)
        if (strcmp(label_in(a, b->part[i].name), "absent") == 0)
            add_scheme(list, at, b->part[i].name, "absent", b->part[i].label);
    if (strcmp(a->kv, b->kv) != 0) add_scheme(list, at, "KV cache", a->kv, b->kv);
}

static json_t *compare_schemes(const oct_survey *a, const oct_survey *b) {
    const uint32_t n = a->n_layers < b->n_layers ? a->n_layers : b->n_layers;
    json_t *list = json_array();
    for (uint32_t l = 0; l < n; l++) compare_layer(&list, l, &a->layers[l], &b->layers[l]);
    compare_layer(&list, n, &a->layers[a->n_layers], &b->layers[b->n_layers]);
    return list;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static bool same_shape(const oct_tensor *a, const oct_tensor *b) {
    return oct_tensor_has_shape(a, b->rank, b->shape);
}

static json_t *only_in(const oct_checkpoint *a, const oct_checkpoint *b) {
    json_t *list = json_array();
    for (size_t i = 0; i < oct_checkpoint_n_tensors(a); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(a, i);
        if (!oct_checkpoint_find(b, t->name.ptr))
            oct_json_push(&list, inspect_tensor_to_json(a, t));
    }
    return list;
}

static json_t *changed(const oct_checkpoint *a, const oct_checkpoint *b) {
    json_t *list = json_array();
    char sa[256], sb[256], da[320], db[320];
    for (size_t i = 0; i < oct_checkpoint_n_tensors(a); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(a, i);
        const oct_tensor *u = oct_checkpoint_find(b, t->name.ptr);
        if (!u || (t->dtype == u->dtype && same_shape(t, u))) continue;
        snprintf(da, sizeof da, "%s %s", oct_dtype_name(t->dtype), inspect_shape(t, sa));
        snprintf(db, sizeof db, "%s %s", oct_dtype_name(u->dtype), inspect_shape(u, sb));
        oct_json_push(&list, pair("name", t->name.ptr, json_string(da), json_string(db)));
    }
    return list;
}

/* ---- values ---------------------------------------------------------------------------------- */

typedef struct difference {
    uint64_t n;      /* elements that differ */
    double largest;  /* of them; infinite for NaN against a number */
    uint64_t at;     /* its place, rows one after the other */
    bool comparable; /* both types can be read as numbers */
} difference;

static bool is_number(oct_dtype t) {
    switch (t) {
    case OCT_DTYPE_I8:
    case OCT_DTYPE_U8:
    case OCT_DTYPE_BOOL:
    case OCT_DTYPE_I32:
    case OCT_DTYPE_I64:
    case OCT_DTYPE_F8_E4M3:
        return true;
    default:
        return oct_dtype_is_real(t);
    }
}

static double number_at(oct_dtype dtype, const unsigned char *raw, uint64_t i) {
    int32_t w;
    int64_t d;
    switch (dtype) {
    case OCT_DTYPE_I8:
        return (int8_t)raw[i];
    case OCT_DTYPE_I32:
        memcpy(&w, raw + 4 * i, sizeof w);
        return w;
    case OCT_DTYPE_I64:
        memcpy(&d, raw + 8 * i, sizeof d);
        return (double)d;
    case OCT_DTYPE_F8_E4M3:
        return (double)oct_e4m3_to_f32(raw[i]);
    default:
        return raw[i];
    }
}

/* n rows as numbers; raw has room for 8 bytes an element. */
static oct_status read_numbers(const oct_checkpoint *c, const oct_tensor *t, uint64_t row,
                               uint64_t n, unsigned char *raw, double *out, oct_err *err) {
    const uint64_t elems = n * t->row_elems;
    if (oct_dtype_is_real(t->dtype)) {
        OCT_TRY(oct_checkpoint_read_rows(c, t, row, n, (float *)(void *)raw, err));
        for (uint64_t i = 0; i < elems; i++) out[i] = (double)((const float *)(void *)raw)[i];
        return OCT_OK;
    }
    OCT_TRY(oct_checkpoint_read_raw_rows(c, t, row, n, raw, err));
    for (uint64_t i = 0; i < elems; i++) out[i] = number_at(t->dtype, raw, i);
    return OCT_OK;
}

static void note(difference *d, double a, double b, uint64_t at) {
    if (a == b || (isnan(a) && isnan(b))) return;
    const double size = isnan(a) || isnan(b) ? INFINITY : fabs(a - b);
    if (d->n++ > 0 && size <= d->largest) return;
    d->largest = size;
    d->at = at;
}

static oct_status compare_tensor(const oct_checkpoint *ca, const oct_tensor *a,
                                 const oct_checkpoint *cb, const oct_tensor *b, difference *d,
                                 oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    *d = (difference){.comparable = is_number(a->dtype) && is_number(b->dtype)};
    if (!d->comparable || a->row_elems == 0) return OCT_OK;
    const uint64_t step = a->row_elems < PIECE_ELEMS ? PIECE_ELEMS / a->row_elems : 1;
    const size_t room = (size_t)(step * a->row_elems);
    unsigned char *raw = oct_alloc(mem, room, 8);
    double *va = oct_alloc(mem, room, sizeof *va), *vb = oct_alloc(mem, room, sizeof *vb);
    oct_status st =
        raw && va && vb ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", a->name.ptr);
    for (uint64_t row = 0; st == OCT_OK && row < a->n_rows; row += step) {
        const uint64_t n = a->n_rows - row < step ? a->n_rows - row : step;
        st = read_numbers(ca, a, row, n, raw, va, err);
        if (st == OCT_OK) st = read_numbers(cb, b, row, n, raw, vb, err);
        for (uint64_t i = 0; st == OCT_OK && i < n * a->row_elems; i++)
            note(d, va[i], vb[i], row * a->row_elems + i);
    }
    oct_free(mem, raw, room, 8);
    oct_free(mem, va, room, sizeof *va);
    oct_free(mem, vb, room, sizeof *vb);
    return st;
}

static oct_status compare_values(const oct_checkpoint *a, const oct_checkpoint *b, json_t **list,
                                 oct_err *err) {
    for (size_t i = 0; i < oct_checkpoint_n_tensors(a); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(a, i);
        const oct_tensor *u = oct_checkpoint_find(b, t->name.ptr);
        difference d;
        if (!u || !same_shape(t, u)) continue;
        OCT_TRY(compare_tensor(a, t, b, u, &d, err));
        if (d.comparable && d.n == 0) continue;
        json_t *largest = isfinite(d.largest) && d.comparable ? json_real(d.largest) : json_null();
        oct_json_push(list,
                      json_pack("{s:s, s:I, s:o, s:I}", "name", t->name.ptr, "different",
                                (json_int_t)d.n, "largest", largest, "index", (json_int_t)d.at));
    }
    return OCT_OK;
}

/* ---- text ------------------------------------------------------------------------------------ */

static const char *word(const json_t *obj, const char *key) {
    const char *s = json_string_value(json_object_get(obj, key));
    return s ? s : "?";
}

static char *shown(const json_t *obj, const char *key) {
    return json_dumps(json_object_get(obj, key), JSON_ENCODE_ANY);
}

static void print_fields(const json_t *list) {
    size_t i;
    json_t *d;
    json_array_foreach((json_t *)list, i, d) {
        char *a = shown(d, "a"), *b = shown(d, "b");
        printf("  config %s: %s | %s\n", word(d, "field"), a ? a : "?", b ? b : "?");
        free(a);
        free(b);
    }
}

static void print_schemes(const json_t *list, uint32_t n_layers) {
    size_t i;
    json_t *d;
    json_array_foreach((json_t *)list, i, d) {
        const long long first = json_integer_value(json_object_get(d, "first")),
                        last = json_integer_value(json_object_get(d, "last"));
        if (first == (long long)n_layers)
            printf("  %s", word(d, "name"));
        else if (first == last)
            printf("  layer %lld %s", first, word(d, "name"));
        else
            printf("  layers %lld-%lld %s", first, last, word(d, "name"));
        printf(": %s | %s\n", word(d, "a"), word(d, "b"));
    }
}

static void print_names(const json_t *list, const char *what, bool both) {
    size_t i;
    json_t *d;
    json_array_foreach((json_t *)list, i, d) {
        if (i == SHOWN) {
            printf("  ... and %zu more %s\n", json_array_size(list) - SHOWN, what);
            break;
        }
        if (both)
            printf("  %s: %s: %s | %s\n", what, word(d, "name"), word(d, "a"), word(d, "b"));
        else
            printf("  %s: %s\n", what, word(d, "name"));
    }
}

static void print_values(const json_t *list) {
    size_t i;
    json_t *d;
    json_array_foreach((json_t *)list, i, d) {
        const json_t *largest = json_object_get(d, "largest");
        if (i == SHOWN) {
            printf("  ... and %zu more with other values\n", json_array_size(list) - SHOWN);
            break;
        }
        printf("  values: %s: %lld differ", word(d, "name"),
               (long long)json_integer_value(json_object_get(d, "different")));
        if (json_is_number(largest))
            printf(", by up to %g (element %lld)", json_number_value(largest),
                   (long long)json_integer_value(json_object_get(d, "index")));
        printf("\n");
    }
}

static void print_all(const json_t *root, uint32_t n_layers) {
    printf("%s | %s\n", word(root, "a"), word(root, "b"));
    print_fields(json_object_get(root, "config"));
    print_schemes(json_object_get(root, "schemes"), n_layers);
    print_names(json_object_get(root, "missing"), "only in the first", false);
    print_names(json_object_get(root, "added"), "only in the second", false);
    print_names(json_object_get(root, "changed"), "other type or shape", true);
    print_values(json_object_get(root, "values"));
    if (json_is_true(json_object_get(root, "same")))
        printf(json_is_null(json_object_get(root, "values"))
                   ? "  no difference but, perhaps, of values (--values)\n"
                   : "  no difference\n");
}

/* ---- all ------------------------------------------------------------------------------------- */

int inspect_compare(const inspected *a, const inspected *b, const inspect_options *o) {
    static const char *const lists[] = {"config", "schemes", "missing",
                                        "added",  "changed", "values"};
    json_t *root = json_object(), *values = o->values ? json_array() : json_null();
    const oct_checkpoint *ca = a->m.ckpt, *cb = b->m.ckpt;
    oct_err err = {0};
    oct_json_put(&root, "a", inspect_text(a->path));
    oct_json_put(&root, "b", inspect_text(b->path));
    oct_json_put(&root, "config",
                 compare_fields(oct_checkpoint_config(ca), oct_checkpoint_config(cb)));
    oct_json_put(&root, "schemes", compare_schemes(a->survey, b->survey));
    oct_json_put(&root, "missing", only_in(ca, cb));
    oct_json_put(&root, "added", only_in(cb, ca));
    oct_json_put(&root, "changed", changed(ca, cb));
    const oct_status st = o->values ? compare_values(ca, cb, &values, &err) : OCT_OK;
    oct_json_put(&root, "values", values);
    if (st != OCT_OK) {
        json_decref(root);
        return cli_fail(cli_status_of(st), "%s", err.text);
    }
    bool same = true;
    for (size_t i = 0; i < OCT_COUNT(lists); i++)
        same &= json_array_size(json_object_get(root, lists[i])) == 0;
    oct_json_put(&root, "same", json_boolean(same));
    if (o->json || !root) return inspect_dump(root);
    const uint32_t na = a->survey->n_layers, nb = b->survey->n_layers;
    print_all(root, na < nb ? na : nb);
    json_decref(root);
    return EXIT_CLEAN;
}
