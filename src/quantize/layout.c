/* quantize/layout.c - tables into tensors: names, types, shapes and values. */
#include "quantize/layout.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "quant/contract.h"
#include "quant/float_types.h"

enum { NAME = OCT_TENSOR_MAX_NAME + 64 };

static const oct_layout *const layouts[] = {&oct_layout_modelslim, &oct_layout_quark,
                                            &oct_layout_compressed};

const oct_layout *oct_layout_find(const char *name) {
    for (size_t i = 0; i < OCT_COUNT(layouts); i++)
        if (strcmp(layouts[i]->name, name) == 0) return layouts[i];
    return NULL;
}

void oct_layout_out_init(oct_layout_out *o, const oct_layout *layout, const oct_allocator *mem) {
    *o = (oct_layout_out){.layout = layout, .mem = mem};
    o->inv.tensors = json_object();
    o->inv.floats = json_array();
    o->inv.static_modules = json_array();
    o->inv.dynamic_modules = json_array();
}

void oct_layout_out_fini(oct_layout_out *o) {
    oct_shards_destroy(o->shards);
    json_decref(o->inv.tensors);
    json_decref(o->inv.floats);
    json_decref(o->inv.static_modules);
    json_decref(o->inv.dynamic_modules);
    *o = (oct_layout_out){0};
}

static const oct_layout_tensor *table_of(const oct_layout_out *o, bool is_static) {
    return is_static ? o->layout->static_tensors : o->layout->dynamic_tensors;
}

static oct_dtype type_of(const oct_layout_out *o, const oct_layout_tensor *t) {
    return t->dtype == OCT_LAYOUT_MODEL_TYPE ? o->model_type : t->dtype;
}

oct_dtype oct_layout_scale_type(const oct_layout_out *o, bool is_static) {
    for (const oct_layout_tensor *t = table_of(o, is_static); t->suffix; t++)
        if (t->value == OCT_LAYOUT_WEIGHT_SCALE) return type_of(o, t);
    return OCT_DTYPE_F32;
}

/* ---- names ----------------------------------------------------------------------------------- */

static const char *expert_part(const oct_layout_names *to, const char *part, size_t n) {
    static const char *const names[3][2] = {
        {"gate_proj", "w1"}, {"up_proj", "w3"}, {"down_proj", "w2"}};
    const char *const becomes[] = {to->gate, to->up, to->down};
    for (size_t i = 0; i < OCT_COUNT(names); i++)
        for (size_t k = 0; k < 2; k++)
            if (strlen(names[i][k]) == n && strncmp(names[i][k], part, n) == 0) return becomes[i];
    return NULL;
}

/* A name of the source as the layout has it. Only blocks of experts are ever renamed. */
static oct_str respell(const oct_layout_out *o, const char *name, char out[NAME]) {
    static const char *const blocks[] = {".block_sparse_moe.", ".mlp."};
    const oct_layout_names *to = &o->layout->mixtral;
    const char *at = NULL, *rest = NULL;
    for (size_t i = 0; i < OCT_COUNT(blocks) && !at; i++)
        if ((at = strstr(name, blocks[i]))) rest = at + strlen(blocks[i]);
    if (!at || !to->block || o->family != OCT_FAMILY_MIXTRAL)
        return (oct_str){out, (size_t)snprintf(out, NAME, "%s", name)};
    int n = snprintf(out, NAME, "%.*s.%s.", (int)(at - name), name, to->block);
    if (strncmp(rest, "experts.", 8) == 0) {
        const char *part = rest + 8 + strspn(rest + 8, "0123456789");
        const size_t len = *part == '.' ? strcspn(part + 1, ".") : 0;
        const char *becomes = len ? expert_part(to, part + 1, len) : NULL;
        if (becomes) {
            n += snprintf(out + n, NAME - (size_t)n, "%.*s.%s", (int)(part - rest), rest, becomes);
            rest = part + 1 + len;
        }
    }
    n += snprintf(out + n, NAME - (size_t)n, "%s", rest);
    return (oct_str){out, (size_t)n};
}

static oct_str full_name(const oct_layout_out *o, const char *prefix, const char *suffix,
                         char out[NAME]) {
    const oct_str s = respell(o, prefix, out);
    return (oct_str){out, s.len + (size_t)snprintf(out + s.len, NAME - s.len, ".%s", suffix)};
}

static void list_module(const oct_layout_out *o, json_t **list, const char *prefix) {
    char name[NAME];
    respell(o, prefix, name);
    oct_json_push(list, json_string(name));
}

/* ---- declaring ------------------------------------------------------------------------------- */

static uint32_t shape_of(oct_layout_shape s, uint64_t n, uint64_t k, uint64_t out[3]) {
    out[0] = s == OCT_LAYOUT_ONE ? 1 : n;
    out[1] = s == OCT_LAYOUT_NK ? k : 1;
    out[2] = 1;
    switch (s) {
    case OCT_LAYOUT_SCALAR:
        return 0;
    case OCT_LAYOUT_ONE:
    case OCT_LAYOUT_N:
        return 1;
    case OCT_LAYOUT_N11:
        return 3;
    case OCT_LAYOUT_N1:
    case OCT_LAYOUT_NK:
        break;
    }
    return 2;
}

static oct_status declare(oct_layout_out *o, const char *prefix, const oct_layout_tensor *t,
                          uint64_t n, uint64_t k, const char *label, oct_err *err) {
    char name[NAME];
    uint64_t shape[3];
    const oct_str full = full_name(o, prefix, t->suffix, name);
    const uint32_t rank = shape_of(t->shape, n, k, shape);
    oct_json_put(&o->inv.tensors, full.ptr, json_string(label));
    return oct_shards_add(o->shards, full, type_of(o, t), rank, shape, err);
}

oct_status oct_layout_declare_linear(oct_layout_out *o, const oct_layout_linear *p, oct_err *err) {
    const char *label = p->is_static ? "W8A8" : "W8A8_DYNAMIC";
    for (const oct_layout_tensor *t = table_of(o, p->is_static); t->suffix; t++) {
        const bool is_bias = t->value == OCT_LAYOUT_BIAS;
        if (is_bias && !p->has_bias) continue;
        OCT_TRY(declare(o, p->prefix, t, p->n, p->k, is_bias ? "FLOAT" : label, err));
    }
    o->inv.has_experts |= p->is_expert;
    if (!p->is_expert)
        list_module(o, p->is_static ? &o->inv.static_modules : &o->inv.dynamic_modules, p->prefix);
    return OCT_OK;
}

oct_status oct_layout_declare_kv(oct_layout_out *o, const char *attn, uint64_t n, oct_err *err) {
    for (const oct_layout_tensor *t = o->layout->kv[o->inv.kv]; t->suffix; t++)
        OCT_TRY(declare(o, attn, t, n, 1, "C8", err));
    o->inv.has_kv = true;
    return OCT_OK;
}

oct_status oct_layout_declare_float(oct_layout_out *o, const oct_tensor *t, oct_dtype dtype,
                                    bool is_module, oct_err *err) {
    char name[NAME];
    const oct_str full = respell(o, t->name.ptr, name);
    oct_json_put(&o->inv.tensors, full.ptr, json_string("FLOAT"));
    OCT_TRY(oct_shards_add(o->shards, full, dtype, t->rank, t->shape, err));
    if (!is_module) return OCT_OK;
    *strrchr(name, '.') = '\0';
    oct_json_push(&o->inv.floats, json_string(name));
    return OCT_OK;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* In place from float; element i lies before its source. */
static uint64_t encode(void *v, uint64_t n, oct_dtype dtype) {
    const float *from = v;
    unsigned char *to = v;
    for (uint64_t i = 0; dtype == OCT_DTYPE_BF16 && i < n; i++) {
        const uint16_t h = oct_f32_to_bf16(from[i]);
        memcpy(to + 2 * i, &h, 2);
    }
    for (uint64_t i = 0; dtype == OCT_DTYPE_I8 && i < n; i++) {
        const int8_t b = (int8_t)from[i];
        memcpy(to + i, &b, 1);
    }
    return n * oct_dtype_block_bytes(dtype);
}

static oct_status quant_bias(const oct_layout_linear *p, int32_t *out, oct_err *err) {
    for (uint64_t r = 0; r < p->n; r++) {
        int64_t sum = 0;
        for (uint64_t i = 0; i < p->k; i++) sum += p->w[r * p->k + i];
        const float deq = p->input_scale * p->scale[r];
        const double b = nearbyint((p->has_bias ? (double)(p->bias[r] / deq) : 0.0) -
                                   (double)p->input_offset * (double)sum);
        if (!(fabs(b) <= (double)oct_ibias_limit((uint32_t)p->k)))
            return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                            "tensor %s.quant_bias: row %" PRIu64 " does not fit int32", p->prefix,
                            r);
        out[r] = (int32_t)b;
    }
    return OCT_OK;
}

/* The values of one tensor as floats (or int32), count of them. */
static oct_status fill(const oct_layout_linear *p, const oct_layout_tensor *t, uint64_t count,
                       float *v, oct_err *err) {
    switch (t->value) {
    case OCT_LAYOUT_WEIGHT_SCALE:
        memcpy(v, p->scale, count * sizeof *v);
        return OCT_OK;
    case OCT_LAYOUT_INPUT_SCALE:
        *v = p->input_scale;
        return OCT_OK;
    case OCT_LAYOUT_INPUT_OFFSET:
        *v = p->input_offset;
        return OCT_OK;
    case OCT_LAYOUT_DEQ_SCALE:
        for (uint64_t i = 0; i < count; i++) v[i] = p->input_scale * p->scale[i];
        return OCT_OK;
    case OCT_LAYOUT_QUANT_BIAS:
        return quant_bias(p, (int32_t *)(void *)v, err);
    case OCT_LAYOUT_BIAS:
        memcpy(v, p->bias, count * sizeof *v);
        return OCT_OK;
    case OCT_LAYOUT_ZERO:
    case OCT_LAYOUT_WEIGHT:
    case OCT_LAYOUT_K_SCALE:
    case OCT_LAYOUT_V_SCALE:
        break;
    }
    memset(v, 0, count * sizeof *v);
    return OCT_OK;
}

static uint64_t count_of(const oct_layout_tensor *t, uint64_t n) {
    return t->shape == OCT_LAYOUT_SCALAR || t->shape == OCT_LAYOUT_ONE ? 1 : n;
}

static oct_status put(oct_layout_out *o, const char *prefix, const oct_layout_tensor *t, void *v,
                      uint64_t count, oct_err *err) {
    char name[NAME];
    const oct_str full = full_name(o, prefix, t->suffix, name);
    return oct_shards_write(o->shards, full, 0, v, encode(v, count, type_of(o, t)), err);
}

oct_status oct_layout_put_rows(oct_layout_out *o, const char *prefix, uint64_t row0,
                               uint64_t n_rows, uint64_t k, const int8_t *w, oct_err *err) {
    char name[NAME];
    return oct_shards_write(o->shards, full_name(o, prefix, "weight", name), row0 * k, w,
                            n_rows * k, err);
}

oct_status oct_layout_put_linear(oct_layout_out *o, const oct_layout_linear *p, oct_err *err) {
    float *v = oct_alloc(o->mem, p->n, sizeof *v);
    oct_status st = v ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    for (const oct_layout_tensor *t = table_of(o, p->is_static); st == OCT_OK && t->suffix; t++) {
        const uint64_t count = count_of(t, p->n);
        if (t->value == OCT_LAYOUT_BIAS && !p->has_bias) continue;
        if (t->value == OCT_LAYOUT_WEIGHT) {
            if (p->w) st = oct_layout_put_rows(o, p->prefix, 0, p->n, p->k, p->w, err);
            continue;
        }
        st = fill(p, t, count, v, err);
        if (st == OCT_OK) st = put(o, p->prefix, t, v, count, err);
    }
    oct_free(o->mem, v, p->n, sizeof *v);
    return st;
}

oct_status oct_layout_put_kv(oct_layout_out *o, const char *attn, uint64_t n, const float *k_scale,
                             const float *v_scale, oct_err *err) {
    float *v = oct_alloc(o->mem, n, sizeof *v);
    oct_status st = v ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
    for (const oct_layout_tensor *t = o->layout->kv[o->inv.kv]; st == OCT_OK && t->suffix; t++) {
        const float *from = t->value == OCT_LAYOUT_K_SCALE ? k_scale : v_scale;
        for (uint64_t i = 0; i < n; i++) v[i] = t->value == OCT_LAYOUT_ZERO ? 0.0f : from[i];
        st = put(o, attn, t, v, count_of(t, n), err);
    }
    oct_free(o->mem, v, n, sizeof *v);
    return st;
}

oct_status oct_layout_put_float(oct_layout_out *o, const oct_tensor *t, uint64_t offset,
                                const void *data, uint64_t bytes, oct_err *err) {
    char name[NAME];
    return oct_shards_write(o->shards, respell(o, t->name.ptr, name), offset, data, bytes, err);
}
