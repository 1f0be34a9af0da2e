/* device/conform_side.c - inputs, device memory and outputs of a case. */
#include "device/conform_side.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quant/float_types.h"

oct_status oct_cf_open(oct_cf_side *s, oct_device *d, oct_err *err) {
    memset(s, 0, sizeof *s);
    s->d = d;
    oct_arena_init(&s->arena, d->mem, 0);
    return oct_device_check(d, d->ops->stream_create(d->dev, &s->stream), "stream_create", err);
}

void oct_cf_close(oct_cf_side *s) {
    if (!s->d) return;
    oct_cf_reset(s, 0);
    s->d->ops->stream_destroy(s->stream);
    oct_arena_fini(&s->arena);
}

void oct_cf_reset(oct_cf_side *s, uint64_t seed) {
    for (unsigned i = 0; i < s->n_weights; i++) s->d->ops->weight_destroy(s->d->dev, s->weights[i]);
    for (unsigned i = 0; i < s->n_buffers; i++) s->d->ops->buffer_destroy(s->d->dev, s->buffers[i]);
    s->n_weights = s->n_buffers = s->n_outs = 0;
    s->what[0] = s->failed[0] = 0;
    s->absent = false;
    s->rng = seed;
    s->op_ns = 0;
    oct_arena_reset(&s->arena);
}

void oct_cf_case(oct_cf_side *s, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(s->what, sizeof s->what, fmt, args);
    va_end(args);
}

static void give_up(oct_cf_side *s, const char *why) {
    if (!s->failed[0]) snprintf(s->failed, sizeof s->failed, "%.255s", why);
}

bool oct_cf_check(oct_cf_side *s, int32_t code, const char *operation) {
    oct_err err = {.code = OCT_OK};
    if (oct_device_check(s->d, code, operation, &err) != OCT_OK) give_up(s, err.text);
    return s->failed[0] == 0;
}

/* The device lacks what the case is about and may: the rest of it does nothing. */
static void not_there(oct_cf_side *s) {
    give_up(s, "absent");
    s->absent = true;
}

bool oct_cf_kv_bytes(oct_cf_side *s, octet_kv_desc *kv) {
    if (s->failed[0]) return false;
    kv->block_bytes = s->d->ops->kv_block_bytes(s->d->dev, kv);
    if (kv->block_bytes) return true;
    if (kv->kind > OCTET_KV_I8_CHANNEL)
        not_there(s);
    else
        oct_cf_check(s, OCTET_E_UNSUPPORTED, "kv_block_bytes");
    return false;
}

/* ---- random numbers -------------------------------------------------------------------------- */

static uint64_t next(oct_cf_side *s) {
    uint64_t x = s->rng += 0x9e3779b97f4a7c15u; /* a Weyl sequence, mixed */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint32_t oct_cf_u32(oct_cf_side *s) { return (uint32_t)(next(s) >> 32); }

uint32_t oct_cf_below(oct_cf_side *s, uint32_t n) {
    return (uint32_t)((uint64_t)oct_cf_u32(s) * n >> 32);
}

float oct_cf_uniform(oct_cf_side *s, float low, float high) {
    return low + (high - low) * ((float)(next(s) >> 40) * 0x1p-24f);
}

void *oct_cf_mem(oct_cf_side *s, size_t n, size_t size) {
    void *p = oct_arena_alloc(&s->arena, n ? n : 1, size);
    static char nothing[1 << 20]; /* cases of this size go on and fail at their end */
    if (p) return p;
    give_up(s, "no memory on the host");
    return n * size <= sizeof nothing ? nothing : NULL;
}

float *oct_cf_floats(oct_cf_side *s, size_t n, float size) {
    float *v = oct_cf_mem(s, n, sizeof *v);
    for (size_t i = 0; v && i < n; i++) {
        /* Four uniforms: bell shaped, without a library's functions. */
        const float sum = oct_cf_uniform(s, -1, 1) + oct_cf_uniform(s, -1, 1) +
                          oct_cf_uniform(s, -1, 1) + oct_cf_uniform(s, -1, 1);
        v[i] = oct_bf16_to_f32(oct_f32_to_bf16(sum * size));
    }
    return v;
}

int8_t *oct_cf_bytes(oct_cf_side *s, size_t n, unsigned fill) {
    int8_t *v = oct_cf_mem(s, n, 1);
    for (size_t i = 0; v && i < n; i++) {
        switch (fill) {
        case 0:
            v[i] = (int8_t)(oct_cf_u32(s) & 0xff);
            break;
        case 1:
            v[i] = -128;
            break;
        case 2:
            v[i] = 127;
            break;
        case 3:
            v[i] = i % 2 ? 127 : -128;
            break;
        default:
            v[i] = 0;
        }
    }
    return v;
}

/* ---- device memory --------------------------------------------------------------------------- */

static octet_ref buffer(oct_cf_side *s, size_t bytes) {
    octet_buffer b = 0;
    if (s->failed[0]) return (octet_ref){0, 0};
    if (s->n_buffers == OCT_CF_MAX_OBJECTS) {
        give_up(s, "the case has too many buffers");
        return (octet_ref){0, 0};
    }
    if (oct_cf_check(s, s->d->ops->buffer_create(s->d->dev, bytes ? bytes : 1, &b),
                     "buffer_create"))
        s->buffers[s->n_buffers++] = b;
    return (octet_ref){b, 0};
}

octet_ref oct_cf_put(oct_cf_side *s, const void *data, size_t bytes) {
    const octet_ref ref = buffer(s, bytes);
    if (s->failed[0] || !data) return ref;
    oct_cf_check(s, s->d->ops->write(s->stream, ref, data, bytes), "write");
    oct_cf_check(s, s->d->ops->stream_wait(s->stream), "write wait");
    return ref;
}

octet_ref oct_cf_room(oct_cf_side *s, size_t bytes) {
    const octet_ref ref = buffer(s, bytes);
    if (!s->failed[0])
        oct_cf_check(s, s->d->ops->fill(s->stream, ref, 0xff, bytes ? bytes : 1), "fill");
    return ref;
}

static size_t row_bytes(const oct_cf_side *s) { return s->d->info.act_dtype == OCTET_BF16 ? 2 : 4; }

octet_rows oct_cf_put_rows(oct_cf_side *s, const float *rows, size_t n_rows, size_t width,
                           size_t stride) {
    const size_t n = n_rows * stride;
    octet_rows out = {.stride = stride};
    float *wide = oct_cf_mem(s, n, sizeof *wide);
    uint16_t *narrow = oct_cf_mem(s, n, sizeof *narrow);
    if (s->failed[0]) return out;
    for (size_t i = 0; i < n; i++) {
        const size_t c = i % stride;
        wide[i] = c < width ? rows[i / stride * width + c] : NAN; /* nobody may read the gap */
        narrow[i] = oct_f32_to_bf16(wide[i]);
    }
    const bool half = row_bytes(s) == 2;
    out.data = oct_cf_put(s, half ? (const void *)narrow : wide, n * row_bytes(s));
    return out;
}

octet_ref oct_cf_put_rope(oct_cf_side *s, uint32_t n_pos, uint32_t rotary_dim) {
    const uint32_t half = rotary_dim / 2;
    const size_t n = (size_t)n_pos * rotary_dim;
    float *t = oct_cf_mem(s, n, sizeof *t);
    for (uint32_t p = 0; p < n_pos; p++)
        for (uint32_t i = 0; i < half; i++) {
            const double angle = p * pow(10000.0, -2.0 * i / rotary_dim);
            t[p * rotary_dim + i] = (float)cos(angle);
            t[p * rotary_dim + half + i] = (float)sin(angle);
        }
    return oct_cf_put(s, t, n * sizeof *t);
}

octet_rows oct_cf_rows_room(oct_cf_side *s, size_t n_rows, size_t stride) {
    return (octet_rows){oct_cf_room(s, n_rows * stride * row_bytes(s)), stride};
}

octet_quant oct_cf_quant_room(oct_cf_side *s, uint32_t mode, size_t n_rows, size_t width,
                              float scale, float offset) {
    const float param[2] = {scale, offset};
    octet_quant q = {.mode = mode};
    if (mode == OCTET_QUANT_NONE) return q;
    q.param = oct_cf_put(s, param, sizeof param);
    q.out.stride = (width + 15) / 16 * 16;
    q.out.data = oct_cf_room(s, n_rows * q.out.stride);
    q.out.scale = oct_cf_room(s, n_rows * sizeof(float));
    return q;
}

/* The storage type's bytes of n floats. */
static const void *narrow_to(oct_cf_side *s, const float *v, size_t n, uint32_t dtype) {
    if (dtype == OCTET_F32) return v;
    uint16_t *h = oct_cf_mem(s, n, sizeof *h);
    for (size_t i = 0; h && i < n; i++)
        h[i] = dtype == OCTET_BF16 ? oct_f32_to_bf16(v[i]) : oct_f32_to_f16(v[i]);
    return h;
}

/* The other way to write all rows, for a device that asks for them. */
typedef struct whole {
    const octet_weight_rows *rows;
    size_t row_bytes;
} whole;

static int32_t give_part(void *ctx, octet_weight_part *part) {
    const whole *all = ctx;
    const octet_weight_rows *r = all->rows;
    const size_t n = part->n_rows;
    if (part->row > r->n_rows || n > r->n_rows - part->row) return OCTET_E_INVALID;
    memcpy(part->data, (const char *)r->data + part->row * all->row_bytes, n * all->row_bytes);
    if (r->col_scale) memcpy(part->col_scale, r->col_scale + part->row, n * sizeof *r->col_scale);
    if (r->int_bias) {
        memcpy(part->int_bias, r->int_bias + part->row, n * sizeof *r->int_bias);
        part->given |= OCTET_GIVEN_INT_BIAS;
    }
    if (r->bias) {
        memcpy(part->bias, r->bias + part->row, n * sizeof *r->bias);
        part->given |= OCTET_GIVEN_BIAS;
    }
    return OCTET_OK;
}

/* In turns by the one and the other way, where the device has both. */
static void write_weight(oct_cf_side *s, octet_weight w, const octet_weight_rows *rows,
                         size_t row_bytes) {
    whole all = {rows, row_bytes};
    const octet_weight_reader reader = {
        .struct_bytes = sizeof reader, .ctx = &all, .read = give_part};
    if (s->n_weights % 2 || !OCTET_HAS(s->d->ops, weight_load))
        oct_cf_check(s, s->d->ops->weight_write(s->d->dev, w, rows), "weight_write");
    else
        oct_cf_check(s, s->d->ops->weight_load(s->d->dev, w, &reader), "weight_load");
}

octet_weight oct_cf_weight(oct_cf_side *s, const oct_cf_matrix *m) {
    const octet_weight_desc desc = {.struct_bytes = sizeof desc,
                                    .dtype = m->dtype,
                                    .n = m->n,
                                    .k = m->k,
                                    .n_experts = m->n_experts};
    const uint32_t n_rows = m->n * (m->n_experts ? m->n_experts : 1);
    const size_t n = (size_t)n_rows * m->k;
    octet_weight w = 0;
    octet_weight_rows rows = {.struct_bytes = sizeof rows, .n_rows = n_rows};
    float *scale = oct_cf_mem(s, n_rows, sizeof *scale);
    int32_t *int_bias = oct_cf_mem(s, n_rows, sizeof *int_bias);
    rows.data = m->dtype == OCTET_I8 ? (const void *)oct_cf_bytes(s, n, m->fill)
                                     : narrow_to(s, oct_cf_floats(s, n, m->size), n, m->dtype);
    if (m->bias) rows.bias = oct_cf_floats(s, n_rows, 1);
    for (uint32_t i = 0; scale && int_bias && i < n_rows; i++) {
        scale[i] = oct_cf_uniform(s, 0.5f, 1.5f) * m->size;
        int_bias[i] = (int32_t)oct_cf_below(s, 30000) - 15000;
    }
    if (m->dtype == OCTET_I8) {
        rows.col_scale = scale;
        rows.int_bias = m->int_bias ? int_bias : NULL;
    }
    if (s->failed[0] || s->n_weights == OCT_CF_MAX_OBJECTS) return 0;
    if (!oct_cf_check(s, s->d->ops->weight_create(s->d->dev, &desc, &w), "weight_create")) return 0;
    write_weight(s, w, &rows,
                 n / n_rows *
                     (m->dtype == OCTET_I8    ? 1
                      : m->dtype == OCTET_F32 ? 4
                                              : 2));
    s->weights[s->n_weights++] = w;
    return w;
}

/* ---- results --------------------------------------------------------------------------------- */

static void *fetch(oct_cf_side *s, octet_ref ref, size_t bytes) {
    void *data = oct_cf_mem(s, bytes, 1);
    if (s->failed[0]) return NULL;
    oct_cf_check(s, s->d->ops->read(s->stream, data, ref, bytes), "read");
    oct_cf_check(s, s->d->ops->stream_wait(s->stream), "read wait");
    return data;
}

static void add(oct_cf_side *s, oct_cf_out out) {
    if (s->failed[0]) return;
    if (s->n_outs == OCT_CF_MAX_OUTS)
        give_up(s, "the case has too many outputs");
    else
        s->outs[s->n_outs++] = out;
}

void oct_cf_out_f32(oct_cf_side *s, const char *name, octet_ref ref, size_t n, size_t width,
                    oct_tolerance tol) {
    add(s, (oct_cf_out){name, 'f', fetch(s, ref, n * sizeof(float)), n, width, tol});
}

void oct_cf_out_i32(oct_cf_side *s, const char *name, octet_ref ref, size_t n, size_t width) {
    add(s, (oct_cf_out){name, 'i', fetch(s, ref, n * sizeof(int32_t)), n, width, {0, 0}});
}

void oct_cf_out_rows(oct_cf_side *s, const char *name, octet_rows rows, size_t n_rows, size_t width,
                     oct_tolerance tol) {
    const size_t n = n_rows * width;
    float *got = oct_cf_mem(s, n, sizeof *got);
    const void *raw = fetch(s, rows.data, n_rows * rows.stride * row_bytes(s));
    if (s->failed[0]) return;
    for (size_t i = 0; i < n; i++) {
        const size_t at = i / width * rows.stride + i % width;
        got[i] = row_bytes(s) == 2 ? oct_bf16_to_f32(((const uint16_t *)raw)[at])
                                   : ((const float *)raw)[at];
    }
    add(s, (oct_cf_out){name, 'f', got, n, width, tol});
}

void oct_cf_out_quant(oct_cf_side *s, const octet_quant *q, size_t n_rows, size_t width,
                      double q_slack, oct_tolerance tol) {
    if (q->mode == OCTET_QUANT_NONE) return;
    int8_t *got = oct_cf_mem(s, n_rows, width);
    const int8_t *raw = fetch(s, q->out.data, n_rows * q->out.stride);
    if (s->failed[0]) return;
    for (size_t r = 0; r < n_rows; r++) memcpy(got + r * width, raw + r * q->out.stride, width);
    add(s, (oct_cf_out){"q", 'c', got, n_rows * width, width, {q_slack, 0}});
    oct_cf_out_f32(s, "scale", q->out.scale, n_rows, 1, tol);
}
