/*
 * model/bind_rows.c - rows from the checkpoint into a matrix on the device.
 *
 * A device that can (weight_load) asks for rows from its own threads, into memory of its own: rows
 * that are stored as it wants them are read there and nowhere else. Others are made of floats a few
 * at a time. For a device that cannot, the same reader fills one piece after the other.
 *
 * Threads    read_part runs on any thread, several at once; it changes nothing but its part and the
 *            first failure.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "model/bind_parts.h"
#include "quant/float_types.h"
#include "quant/weights.h"

enum {
    PIECE_BYTES = 8 << 20,
    FLOAT_BYTES = 64 << 10, /* floats on their way to something smaller; at least one row */
};

oct_status oct_bind_rows_init(oct_binder *b, oct_bind_rows *rows, uint32_t dtype, uint64_t k,
                              size_t max_sources, oct_err *err) {
    *rows = (oct_bind_rows){.dtype = dtype, .k = k};
    rows->source = oct_arena_alloc(&b->arena, max_sources, sizeof *rows->source);
    rows->first = oct_arena_alloc(&b->arena, max_sources, sizeof *rows->first);
    return rows->source && rows->first ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "model: no memory");
}

void oct_bind_rows_add(oct_bind_rows *rows, const oct_linear_source *source) {
    OCT_ASSERT(source->k == rows->k && source->k > 0);
    rows->source[rows->n_sources] = source;
    rows->first[rows->n_sources++] = rows->n;
    rows->n += source->n;
}

bool oct_bind_is_narrow(const oct_linear_source *src) {
    return src->kind == OCT_LINEAR_FP8 || src->kind == OCT_LINEAR_W8A16;
}

/* ---- rows of one source ---------------------------------------------------------------------- */

typedef struct loading {
    const oct_binder *b;
    const oct_bind_rows *rows;
    atomic_flag failed;
    oct_status status; /* of the first failure, and its sentence */
    oct_err err;
} loading;

/* Where rows of one source go. */
typedef struct target {
    unsigned char *data;
    float *col_scale;
} target;

static oct_status convert(const oct_binder *b, const oct_linear_source *src, uint32_t dtype,
                          uint64_t row, uint64_t n, float *floats, target to, oct_err *err) {
    OCT_TRY(oct_scheme_read_rows(b->ckpt, src, row, n, floats, err));
    if (dtype == OCTET_I8) {
        for (uint64_t r = 0; r < n; r++)
            to.col_scale[r] =
                oct_quant_row(floats + r * src->k, src->k, (int8_t *)to.data + r * src->k);
        return OCT_OK;
    }
    for (uint64_t i = 0; i < n * src->k; i++) {
        const uint16_t h = oct_f32_to_bf16(floats[i]);
        memcpy(to.data + 2 * i, &h, sizeof h);
    }
    return OCT_OK;
}

static oct_status convert_rows(const oct_binder *b, const oct_linear_source *src, uint32_t dtype,
                               uint64_t row, uint64_t n, target to, oct_err *err) {
    const oct_allocator *mem = b->m->mem;
    const uint64_t most = oct_max_size(FLOAT_BYTES / sizeof(float) / src->k, 1);
    float *floats = oct_alloc(mem, most * src->k, sizeof *floats);
    if (!floats) return OCT_FAIL(err, OCT_E_NOMEM, "model: no memory");
    oct_status st = OCT_OK;
    for (uint64_t at = 0; at < n && st == OCT_OK; at += most) {
        const target here = {to.data + at * src->k * oct_bind_element(dtype),
                             to.col_scale ? to.col_scale + at : NULL};
        st = convert(b, src, dtype, row + at, oct_min_size(most, n - at), floats, here, err);
    }
    oct_free(mem, floats, most * src->k, sizeof *floats);
    return st;
}

static oct_status read_rows(const oct_binder *b, const oct_linear_source *src, uint32_t dtype,
                            uint64_t row, uint64_t n, target to, oct_err *err) {
    if (src->kind == OCT_LINEAR_INT8) {
        memcpy(to.col_scale, src->col_scale + row, n * sizeof *to.col_scale);
        return oct_scheme_read_i8(b->ckpt, src, row, n, (int8_t *)to.data, err);
    }
    const bool as_stored = !oct_bind_is_narrow(src) && (dtype == OCTET_BF16 || dtype == OCTET_F16);
    if (as_stored) return oct_checkpoint_read_raw_rows(b->ckpt, src->weight, row, n, to.data, err);
    if (dtype == OCTET_F32)
        return oct_scheme_read_rows(b->ckpt, src, row, n, (float *)(void *)to.data, err);
    return convert_rows(b, src, dtype, row, n, to, err);
}

/* ---- rows of a weight ------------------------------------------------------------------------ */

/* Rows of one source at place `at` of the part. */
static oct_status read_source(const loading *l, const oct_linear_source *src, uint64_t row,
                              uint64_t n, uint64_t at, octet_weight_part *part, oct_err *err) {
    const oct_bind_rows *rows = l->rows;
    const size_t row_bytes = rows->k * oct_bind_element(rows->dtype);
    const target to = {(unsigned char *)part->data + at * row_bytes,
                       part->col_scale ? part->col_scale + at : NULL};
    if (src->int_bias && part->int_bias) {
        memcpy(part->int_bias + at, src->int_bias + row, n * sizeof *part->int_bias);
        part->given |= OCTET_GIVEN_INT_BIAS;
    }
    if (src->bias) {
        memcpy(part->bias + at, src->bias + row, n * sizeof *part->bias);
        part->given |= OCTET_GIVEN_BIAS;
    }
    return read_rows(l->b, src, rows->dtype, row, n, to, err);
}

/* The source in which a row lies. */
static size_t source_of(const oct_bind_rows *rows, uint64_t row) {
    size_t low = 0, high = rows->n_sources;
    while (high - low > 1) {
        const size_t mid = low + (high - low) / 2;
        if (rows->first[mid] <= row)
            low = mid;
        else
            high = mid;
    }
    return low;
}

static oct_status read_all(const loading *l, octet_weight_part *part, oct_err *err) {
    const oct_bind_rows *rows = l->rows;
    uint64_t done = 0;
    if (part->row > rows->n || part->n_rows > rows->n - part->row)
        return OCT_FAIL(err, OCT_E_DEVICE, "model: the device asks for rows that are not there");
    for (size_t i = source_of(rows, part->row); done < part->n_rows; i++) {
        const oct_linear_source *src = rows->source[i];
        const uint64_t row = part->row + done - rows->first[i];
        const uint64_t n = oct_min_size(src->n - row, part->n_rows - done);
        OCT_TRY(read_source(l, src, row, n, done, part, err));
        done += n;
    }
    return OCT_OK;
}

static int32_t read_part(void *ctx, octet_weight_part *part) {
    loading *l = ctx;
    oct_err err = {0};
    const oct_status st = read_all(l, part, &err);
    if (st != OCT_OK && !atomic_flag_test_and_set(&l->failed)) {
        l->status = st;
        l->err = err;
    }
    return (int32_t)st;
}

/* ---- into the device ------------------------------------------------------------------------- */

/* A piece is rows, and behind them their scales and biases. */
static oct_status ensure_piece(oct_binder *b, size_t bytes, oct_err *err) {
    if (b->piece_bytes >= bytes) return OCT_OK;
    oct_free(b->m->mem, b->piece, b->piece_bytes, 1);
    b->piece_bytes = 0;
    b->piece = oct_alloc(b->m->mem, bytes, 1);
    if (!b->piece)
        return OCT_FAIL(err, OCT_E_NOMEM, "model: no memory to load a piece of %zu bytes", bytes);
    b->piece_bytes = bytes;
    return OCT_OK;
}

/* For a device without weight_load. *code: the device's answer. */
static oct_status write_pieces(oct_binder *b, octet_weight w, loading *l, int32_t *code,
                               oct_err *err) {
    const oct_bind_rows *rows = l->rows;
    const bool i8 = rows->dtype == OCTET_I8;
    const size_t row_bytes = rows->k * oct_bind_element(rows->dtype);
    const uint64_t most = oct_min_size(oct_max_size(PIECE_BYTES / row_bytes, 1), rows->n);
    const size_t data_bytes = (most * row_bytes + 63) / 64 * 64;
    OCT_TRY(ensure_piece(b, data_bytes + most * 3 * sizeof(float), err));
    float *col_scale = (float *)(void *)(b->piece + data_bytes), *bias = col_scale + most;
    int32_t *int_bias = (int32_t *)(void *)(bias + most);

    for (uint64_t at = 0; at < rows->n && *code == OCTET_OK; at += most) {
        octet_weight_part part = {.struct_bytes = sizeof part,
                                  .row = at,
                                  .n_rows = oct_min_size(most, rows->n - at),
                                  .data = b->piece,
                                  .col_scale = i8 ? col_scale : NULL,
                                  .int_bias = i8 ? int_bias : NULL,
                                  .bias = bias};
        memset(bias, 0, most * 2 * sizeof *bias); /* both biases */
        *code = read_part(l, &part);
        if (*code != OCTET_OK) return OCT_OK;
        const octet_weight_rows piece = {.struct_bytes = sizeof piece,
                                         .row = at,
                                         .n_rows = part.n_rows,
                                         .data = part.data,
                                         .col_scale = part.col_scale,
                                         .int_bias =
                                             part.given & OCTET_GIVEN_INT_BIAS ? int_bias : NULL,
                                         .bias = part.given & OCTET_GIVEN_BIAS ? bias : NULL};
        *code = b->m->device->ops->weight_write(b->m->device->dev, w, &piece);
    }
    return OCT_OK;
}

static void progress(oct_binder *b, const oct_bind_rows *rows) {
    for (size_t i = 0; i < rows->n_sources; i++)
        b->done += rows->source[i]->n * rows->source[i]->weight->row_bytes;
    if (b->m->options.progress)
        b->m->options.progress(b->m->options.progress_ctx, b->done < b->total ? b->done : b->total,
                               b->total);
}

/* Writes all of them into the weight. */
static oct_status load(oct_binder *b, octet_weight w, const oct_bind_rows *rows, oct_err *err) {
    const oct_device *d = b->m->device;
    loading l = {.b = b, .rows = rows, .failed = ATOMIC_FLAG_INIT};
    int32_t code = OCTET_OK;
    const bool asks = OCTET_HAS(d->ops, weight_load);
    if (asks) {
        const octet_weight_reader reader = {
            .struct_bytes = sizeof reader, .ctx = &l, .read = read_part};
        code = d->ops->weight_load(d->dev, w, &reader);
    } else {
        OCT_TRY(write_pieces(b, w, &l, &code, err));
    }
    if (l.status != OCT_OK) { /* ours: the device only passed it on */
        *err = l.err;
        return l.status;
    }
    const oct_status st = oct_device_check(d, code, asks ? "weight_load" : "weight_write", err);
    if (st == OCT_OK)
        progress(b, rows);
    else
        oct_err_prefix(err, "%.*s", OCT_STR_ARG(rows->source[0]->weight->name));
    return st;
}

oct_status oct_bind_weight(oct_binder *b, const oct_bind_rows *rows, uint32_t n_experts,
                           oct_mat *mat, oct_err *err) {
    oct_model *m = b->m;
    const octet_device_ops *ops = m->device->ops;
    const octet_weight_desc desc = {.struct_bytes = sizeof desc,
                                    .dtype = rows->dtype,
                                    .n = mat->n,
                                    .k = mat->k,
                                    .n_experts = n_experts};
    const int32_t code = ops->weight_create(m->device->dev, &desc, &mat->weight);
    const uint64_t bytes = ops->weight_bytes(m->device->dev, &desc);
    OCT_TRY(oct_device_check_memory(m->device, code, "weights", bytes, err));
    m->info.weight_bytes += bytes;
    OCT_TRY(load(b, mat->weight, rows, err));
    const uint64_t read =
        desc.n * desc.k * oct_bind_element(desc.dtype) * (n_experts ? m->config.n_experts_used : 1);
    m->info.step_weight_bytes += read;
    if (n_experts) m->info.step_expert_bytes += read;
    return OCT_OK;
}
