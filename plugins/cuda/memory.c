/*
 * memory.c - buffers, places in them, pinned host memory, scratch.
 *
 * A handle is (generation << 32 | slot + 1): one kept past its destroy is refused instead of
 * reading what came after. Sizes and offsets are 64 bits wide everywhere.
 */
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

/* ---- buffers --------------------------------------------------------------------------------- */

static oct_cuda_buffer *buffer_get(const octet_device *dev, octet_buffer buf) {
    const uint64_t slot = (buf & UINT32_MAX) - 1; /* 0 becomes huge */
    if (buf == 0 || slot >= dev->n_buffers) return NULL;
    oct_cuda_buffer *b = &dev->buffers[slot];
    return b->data && b->generation == buf >> 32 ? b : NULL;
}

static oct_cuda_buffer *free_slot(octet_device *dev) {
    for (size_t i = 0; i < dev->n_buffers; i++)
        if (!dev->buffers[i].data) return &dev->buffers[i];
    const size_t n = dev->n_buffers ? 2 * dev->n_buffers : 64;
    oct_cuda_buffer *more = n < UINT32_MAX ? realloc(dev->buffers, n * sizeof *more) : NULL;
    if (!more) return NULL;
    memset(more + dev->n_buffers, 0, (n - dev->n_buffers) * sizeof *more);
    oct_cuda_buffer *b = more + dev->n_buffers;
    dev->buffers = more;
    dev->n_buffers = n;
    return b;
}

/* Zeroes new memory and waits: no stream may find what was there before. */
static int32_t clear(octet_device *dev, CUdeviceptr at, uint64_t bytes) {
    CU_TRY(dev, cuMemsetD8Async, at, 0, bytes, CU_STREAM_PER_THREAD);
    CU_TRY(dev, cuStreamSynchronize, CU_STREAM_PER_THREAD);
    return OCTET_OK;
}

/* Rounded up, so that the 16 bytes around a buffer's last are there: cp.async names 16 and takes
 * those that exist. */
static int32_t take(octet_device *dev, uint64_t bytes, CUdeviceptr *out) {
    bytes = (bytes + 15) / 16 * 16;
    CU_TRY(dev, cuMemAlloc, out, bytes);
    const int32_t code = clear(dev, *out, bytes);
    if (code == OCTET_OK) return code;
    (void)oct_cu.cuMemFree(*out);
    *out = 0;
    return code;
}

int32_t oct_cuda_buffer_create(octet_device *dev, uint64_t bytes, octet_buffer *out) {
    *out = 0;
    CUDA_TRY(oct_cuda_enter(dev));
    if (bytes == 0 || bytes > PTRDIFF_MAX)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "buffer: bad size (got %llu bytes)",
                             (unsigned long long)bytes);
    oct_cuda_buffer *b = free_slot(dev);
    if (!b) return oct_cuda_fail(dev, OCTET_E_NOMEM, "buffer: no memory for its handle");
    CUdeviceptr data = 0;
    CUDA_TRY(take(dev, bytes, &data));
    b->data = data;
    b->bytes = bytes;
    *out = (uint64_t)b->generation << 32 | (uint64_t)(b - dev->buffers + 1);
    return OCTET_OK;
}

static void buffer_free(oct_cuda_buffer *b) {
    (void)oct_cu.cuMemFree(b->data); /* waits for what uses it */
    b->data = 0;
    b->generation++;
}

void oct_cuda_buffer_destroy(octet_device *dev, octet_buffer buf) {
    oct_cuda_buffer *b = buffer_get(dev, buf);
    if (!b) return;
    (void)oct_cuda_enter(dev);
    buffer_free(b);
}

void *oct_cuda_host_alloc(octet_device *dev, uint64_t bytes) {
    void *p = NULL;
    if (bytes == 0 || oct_cuda_enter(dev) != OCTET_OK) return NULL;
    if (oct_cuda_check(dev, oct_cu.cuMemHostAlloc(&p, bytes, CU_MEMHOSTALLOC_PORTABLE),
                       "cuMemHostAlloc") != OCTET_OK)
        return NULL;
    memset(p, 0, bytes);
    return p;
}

void oct_cuda_host_free(octet_device *dev, void *ptr) {
    if (!ptr) return;
    (void)oct_cuda_enter(dev);
    (void)oct_cu.cuMemFreeHost(ptr);
}

void oct_cuda_memory_fini(octet_device *dev) {
    for (size_t i = 0; i < dev->n_buffers; i++)
        if (dev->buffers[i].data) buffer_free(&dev->buffers[i]);
    free(dev->buffers);
    for (size_t i = 0; i < dev->n_retired; i++) (void)oct_cu.cuMemFree(dev->retired[i]);
    free(dev->retired);
}

/* ---- places ---------------------------------------------------------------------------------- */

int32_t oct_cuda_at(octet_device *dev, octet_ref ref, uint64_t bytes, uint64_t align,
                    const char *what, oct_addr *out) {
    const oct_cuda_buffer *b = buffer_get(dev, ref.buffer);
    *out = 0;
    if (!b) return oct_cuda_fail(dev, OCTET_E_INVALID, "%s: not a buffer of this device", what);
    if (ref.offset > b->bytes || bytes > b->bytes - ref.offset)
        return oct_cuda_fail(
            dev, OCTET_E_INVALID,
            "%s: outside its buffer (got offset %llu and %llu bytes, want within %llu)", what,
            (unsigned long long)ref.offset, (unsigned long long)bytes,
            (unsigned long long)b->bytes);
    if (ref.offset % align)
        return oct_cuda_fail(dev, OCTET_E_INVALID,
                             "%s: misaligned (got offset %llu, want multiple of %llu)", what,
                             (unsigned long long)ref.offset, (unsigned long long)align);
    *out = b->data + ref.offset;
    return OCTET_OK;
}

int32_t oct_cuda_at_optional(octet_device *dev, octet_ref ref, uint64_t bytes, uint64_t align,
                             const char *what, oct_addr *out) {
    *out = 0;
    return ref.buffer ? oct_cuda_at(dev, ref, bytes, align, what, out) : OCTET_OK;
}

uint64_t oct_cuda_bytes_behind(octet_device *dev, octet_ref ref) {
    const oct_cuda_buffer *b = buffer_get(dev, ref.buffer);
    return b && ref.offset <= b->bytes ? b->bytes - ref.offset : 0;
}

/* Bytes from the first element of row 0 to the last of row n_rows - 1. */
static int32_t span_bytes(octet_device *dev, uint64_t n_rows, uint64_t stride, uint64_t width,
                          uint64_t size, const char *what, uint64_t *out) {
    uint64_t elements = 0;
    if (n_rows > 1 && stride < width)
        return oct_cuda_fail(dev, OCTET_E_INVALID,
                             "%s: rows overlap (got stride %llu, want >= %llu)", what,
                             (unsigned long long)stride, (unsigned long long)width);
    if (__builtin_mul_overflow(n_rows - 1, stride, &elements) ||
        __builtin_add_overflow(elements, width, &elements) ||
        __builtin_mul_overflow(elements, size, out))
        return oct_cuda_fail(dev, OCTET_E_INVALID, "%s: too large", what);
    return OCTET_OK;
}

int32_t oct_cuda_rows(octet_device *dev, octet_rows rows, uint64_t n_rows, uint64_t width,
                      uint64_t size, const char *what, oct_p_rows *out) {
    uint64_t bytes = 0;
    *out = (oct_p_rows){.stride = rows.stride};
    if (n_rows == 0) return OCTET_OK;
    CUDA_TRY(span_bytes(dev, n_rows, rows.stride, width, size, what, &bytes));
    CUDA_TRY(oct_cuda_at(dev, rows.data, bytes, size, what, &out->data));
    out->vec = out->data % 16 == 0 && (n_rows == 1 || rows.stride * size % 16 == 0);
    return OCTET_OK;
}

int32_t oct_cuda_rows_optional(octet_device *dev, octet_rows rows, uint64_t n_rows, uint64_t width,
                               uint64_t size, const char *what, oct_p_rows *out) {
    *out = (oct_p_rows){0};
    return rows.data.buffer ? oct_cuda_rows(dev, rows, n_rows, width, size, what, out) : OCTET_OK;
}

int32_t oct_cuda_qrows(octet_device *dev, octet_qrows rows, uint64_t n_rows, uint64_t width,
                       const char *what, oct_p_rows *out, oct_addr *scale) {
    const octet_rows plain = {rows.data, rows.stride};
    *scale = 0;
    CUDA_TRY(oct_cuda_rows(dev, plain, n_rows, width, 1, what, out));
    if (n_rows == 0) return OCTET_OK;
    return oct_cuda_at(dev, rows.scale, n_rows * sizeof(float), sizeof(float), what, scale);
}

int32_t oct_cuda_quant(octet_device *dev, const octet_quant *q, uint64_t n_rows, uint64_t width,
                       uint64_t n_params, const char *what, oct_p_quant *out) {
    oct_p_rows rows;
    *out = (oct_p_quant){0};
    if (q->mode == OCTET_QUANT_NONE || n_rows == 0) return OCTET_OK;
    if (q->mode > OCTET_QUANT_STATIC_AFTER)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED, "%s: unknown quantisation (got %u)", what,
                             q->mode);
    CUDA_TRY(oct_cuda_qrows(dev, q->out, n_rows, width, what, &rows, &out->scale));
    if (q->mode != OCTET_QUANT_DYNAMIC)
        CUDA_TRY(oct_cuda_at(dev, q->param, n_params * 2 * sizeof(float), sizeof(float), what,
                             &out->param));
    out->q = rows.data;
    out->stride = rows.stride;
    out->mode = q->mode;
    out->vec = rows.data % 8 == 0 && (n_rows == 1 || rows.stride % 8 == 0);
    return OCTET_OK;
}

/* ---- scratch --------------------------------------------------------------------------------- */

static int32_t retire(octet_device *dev, CUdeviceptr at) {
    if (!at) return OCTET_OK;
    CUdeviceptr *more = realloc(dev->retired, (dev->n_retired + 1) * sizeof *more);
    if (!more) return oct_cuda_fail(dev, OCTET_E_NOMEM, "scratch: no memory on the host");
    dev->retired = more;
    dev->retired[dev->n_retired++] = at;
    return OCTET_OK;
}

int32_t oct_cuda_scratch(octet_stream *s, oct_cuda_scratch_id id, uint64_t bytes, oct_addr *out) {
    oct_cuda_scratch_room *room = &s->scratch[id];
    *out = 0;
    if (room->bytes < bytes) {
        /* At least twice what was there, so that what is left behind stays below what is used. */
        const uint64_t want = bytes > 2 * room->bytes ? bytes : 2 * room->bytes;
        const uint64_t whole = (want + 65535) / 65536 * 65536;
        CUdeviceptr data = 0;
        if (bytes > PTRDIFF_MAX / 4)
            return oct_cuda_fail(s->dev, OCTET_E_INVALID, "scratch: too large (want %llu bytes)",
                                 (unsigned long long)bytes);
        CUDA_TRY(take(s->dev, whole, &data));
        const int32_t code = retire(s->dev, room->data);
        if (code != OCTET_OK) {
            (void)oct_cu.cuMemFree(data);
            return code;
        }
        *room = (oct_cuda_scratch_room){data, whole};
    }
    *out = room->data;
    return OCTET_OK;
}

void oct_cuda_scratch_fini(octet_stream *s) {
    for (int i = 0; i < OCT_CUDA_N_SCRATCH; i++)
        if (s->scratch[i].data && retire(s->dev, s->scratch[i].data) != OCTET_OK)
            (void)oct_cu.cuMemFree(s->scratch[i].data);
}
