/* store/scheme_values.c - small vectors (scales, offsets, biases), checked value by value. */
#include <inttypes.h>
#include <math.h>

#include "quant/float_types.h"
#include "store/scheme_parts.h"

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
    oct_scheme_name_of(name, prefix, tail);
    const oct_tensor *t = oct_checkpoint_find(s->ckpt, name);
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

oct_status oct_scheme_values_spread(oct_scheme *s, oct_arena *arena, const char *prefix,
                                    const char *tail, uint64_t n, oct_value_rule rule,
                                    bool optional, const float **out, oct_err *err) {
    const oct_tensor *t = oct_scheme_find(s, prefix, tail);
    const bool single = t && t->n_rows * t->row_elems == 1;
    OCT_TRY(oct_scheme_values(s, arena, prefix, tail, single ? 1 : n, rule, optional, out, err));
    if (!single || !*out || n == 1) return OCT_OK;
    float *v = oct_arena_alloc(arena, n, sizeof *v);
    if (!v) return OCT_FAIL(err, OCT_E_NOMEM, "%s%s: no memory", prefix, tail);
    for (uint64_t i = 0; i < n; i++) v[i] = **out;
    *out = v;
    return OCT_OK;
}

const float *oct_scheme_null_if_zero(const float *v, uint64_t n) {
    for (uint64_t i = 0; v && i < n; i++)
        if (v[i] != 0) return v;
    return NULL;
}

/* Integers and floats are 0 when their bits are, but for the sign of a float. */
static uint64_t find_nonzero(const oct_tensor *t, const unsigned char *raw) {
    const uint64_t size = oct_dtype_block_bytes(t->dtype), n = t->bytes / size;
    for (uint64_t i = 0; i < n; i++) {
        unsigned any = 0;
        for (uint64_t b = 0; b < size; b++) {
            const bool sign = oct_dtype_is_real(t->dtype) && b == size - 1;
            any |= raw[i * size + b] & (sign ? 0x7Fu : 0xFFu);
        }
        if (any) return i;
    }
    return n;
}

static float value_at(oct_dtype d, const unsigned char *raw, uint64_t i) {
    uint16_t h;
    float v;
    switch (d) {
    case OCT_DTYPE_F32:
        memcpy(&v, raw + 4 * i, sizeof v);
        return v;
    case OCT_DTYPE_BF16:
        memcpy(&h, raw + 2 * i, sizeof h);
        return oct_bf16_to_f32(h);
    case OCT_DTYPE_F16:
        memcpy(&h, raw + 2 * i, sizeof h);
        return oct_f16_to_f32(h);
    default:
        return is_offset_int(d) ? int_at(d, raw, i) : NAN;
    }
}

oct_status oct_scheme_check_zero(oct_scheme *s, const char *prefix, const char *tail,
                                 oct_err *err) {
    const oct_tensor *t = oct_scheme_find(s, prefix, tail);
    if (!t) return OCT_OK;
    oct_checkpoint_consume(s->ckpt, t);
    if (t->bytes == 0) return OCT_OK;
    if (oct_dtype_block_elems(t->dtype) != 1)
        return oct_scheme_fail(s, t, OCT_E_CORRUPT, err, "want zeros (got %s)",
                               oct_dtype_name(t->dtype));
    unsigned char *raw = oct_alloc(s->mem, t->bytes, 1);
    if (!raw) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", t->name.ptr);
    oct_status st = oct_checkpoint_read_raw(s->ckpt, t, raw, err);
    const uint64_t at = st == OCT_OK ? find_nonzero(t, raw) : 0;
    if (st == OCT_OK && at < t->bytes / oct_dtype_block_bytes(t->dtype))
        st = oct_scheme_fail(s, t, OCT_E_UNSUPPORTED, err,
                             "index %" PRIu64
                             " (got %g, want 0: only symmetric values are supported "
                             "here)",
                             at, (double)value_at(t->dtype, raw, at));
    oct_free(s->mem, raw, t->bytes, 1);
    return st;
}
