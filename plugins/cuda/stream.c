/*
 * stream.c - streams, events, transfers, and how what a kernel found wrong reaches the host.
 *
 * A stream has one word of host memory that its kernels can write (kernels/fault.h). Whoever waits
 * looks at it afterwards: that is a late error. stream_wait takes it away, event_wait leaves it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/fault.h"
#include "plugin.h"

struct octet_event {
    octet_device *dev;
    CUevent event;
    octet_stream *of; /* where it was recorded last */
};

/* ---- late errors ----------------------------------------------------------------------------- */

static int32_t fault_of(octet_stream *s, int take) {
    static const char *const sentences[] = {
#define SENTENCE(name, text) [OCT_FAULT_##name] = (text),
        OCT_CUDA_FAULTS(SENTENCE)
#undef SENTENCE
    };
    const uint64_t word = *(volatile uint64_t *)s->fault;
    const uint64_t what = word >> 32;
    if (word == 0) return OCTET_OK;
    if (take) *(volatile uint64_t *)s->fault = 0;
    if (what >= sizeof sentences / sizeof *sentences || !sentences[what])
        return oct_cuda_fail(s->dev, OCTET_E_DEVICE, "a kernel left an unknown mark (got %llx)",
                             (unsigned long long)word);
    char text[200];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* ours, each with one %d */
    snprintf(text, sizeof text, sentences[what], (int)(int32_t)(uint32_t)word);
#pragma GCC diagnostic pop
    return oct_cuda_fail(s->dev, OCTET_E_INVALID, "%s", text);
}

/* ---- streams --------------------------------------------------------------------------------- */

static int32_t make_stream(octet_stream *s) {
    void *word = NULL;
    CU_TRY(s->dev, cuMemHostAlloc, &word, 64, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    s->fault = word;
    *s->fault = 0;
    CU_TRY(s->dev, cuStreamCreate, &s->stream, CU_STREAM_NON_BLOCKING);
    return OCTET_OK;
}

int32_t oct_cuda_stream_create(octet_device *dev, octet_stream **out) {
    *out = NULL;
    CUDA_TRY(oct_cuda_enter(dev));
    octet_stream *s = calloc(1, sizeof *s);
    if (!s) return oct_cuda_fail(dev, OCTET_E_NOMEM, "stream: no memory");
    s->dev = dev;
    const int32_t code = make_stream(s);
    if (code != OCTET_OK) {
        oct_cuda_stream_destroy(s);
        return code;
    }
    *out = s;
    return OCTET_OK;
}

void oct_cuda_stream_destroy(octet_stream *s) {
    if (!s) return;
    (void)oct_cuda_enter(s->dev);
    if (s->stream) {
        (void)oct_cu.cuStreamSynchronize(s->stream);
        (void)oct_cu.cuStreamDestroy(s->stream);
    }
    oct_cuda_scratch_fini(s);
    if (s->fault) (void)oct_cu.cuMemFreeHost(s->fault);
    free(s);
}

int32_t oct_cuda_side_stream(octet_device *dev, octet_stream **out) {
    if (!dev->side) CUDA_TRY(oct_cuda_stream_create(dev, &dev->side));
    *out = dev->side;
    return OCTET_OK;
}

int32_t oct_cuda_stream_wait(octet_stream *s) {
    CUDA_TRY(oct_cuda_enter(s->dev));
    CU_TRY(s->dev, cuStreamSynchronize, s->stream);
    return fault_of(s, 1);
}

/* ---- events ---------------------------------------------------------------------------------- */

int32_t oct_cuda_event_create(octet_device *dev, octet_event **out) {
    *out = NULL;
    CUDA_TRY(oct_cuda_enter(dev));
    octet_event *e = calloc(1, sizeof *e);
    if (!e) return oct_cuda_fail(dev, OCTET_E_NOMEM, "event: no memory");
    e->dev = dev;
    const int32_t code = oct_cuda_check(
        dev, oct_cu.cuEventCreate(&e->event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
    if (code != OCTET_OK) {
        free(e);
        return code;
    }
    *out = e;
    return OCTET_OK;
}

void oct_cuda_event_destroy(octet_event *e) {
    if (!e) return;
    (void)oct_cuda_enter(e->dev);
    (void)oct_cu.cuEventDestroy(e->event);
    free(e);
}

int32_t oct_cuda_event_record(octet_stream *s, octet_event *e) {
    CUDA_TRY(oct_cuda_enter(s->dev));
    CU_TRY(s->dev, cuEventRecord, e->event, s->stream);
    e->of = s;
    return OCTET_OK;
}

int32_t oct_cuda_event_wait(octet_event *e) {
    CUDA_TRY(oct_cuda_enter(e->dev));
    CU_TRY(e->dev, cuEventSynchronize, e->event);
    return e->of ? fault_of(e->of, 0) : OCTET_OK;
}

int32_t oct_cuda_stream_wait_event(octet_stream *s, octet_event *e) {
    CUDA_TRY(oct_cuda_enter(s->dev));
    CU_TRY(s->dev, cuStreamWaitEvent, s->stream, e->event, 0);
    return OCTET_OK;
}

/* ---- transfers ------------------------------------------------------------------------------- */

static int32_t not_recording(octet_stream *s, const char *what) {
    CUDA_TRY(oct_cuda_enter(s->dev));
    if (!s->recording) return OCTET_OK;
    return oct_cuda_fail(s->dev, OCTET_E_INVALID, "%s: not between capture_begin and capture_end",
                         what);
}

int32_t oct_cuda_write(octet_stream *s, octet_ref dst, const void *src, uint64_t bytes) {
    oct_addr to = 0;
    CUDA_TRY(not_recording(s, "write"));
    CUDA_TRY(oct_cuda_at(s->dev, dst, bytes, 1, "write", &to));
    if (bytes) CU_TRY(s->dev, cuMemcpyHtoDAsync, to, src, bytes, s->stream);
    return OCTET_OK;
}

int32_t oct_cuda_read(octet_stream *s, void *dst, octet_ref src, uint64_t bytes) {
    oct_addr from = 0;
    CUDA_TRY(not_recording(s, "read"));
    CUDA_TRY(oct_cuda_at(s->dev, src, bytes, 1, "read", &from));
    if (bytes) CU_TRY(s->dev, cuMemcpyDtoHAsync, dst, from, bytes, s->stream);
    return OCTET_OK;
}

int32_t oct_cuda_copy(octet_stream *s, octet_ref dst, octet_ref src, uint64_t bytes) {
    oct_addr to = 0, from = 0;
    CUDA_TRY(oct_cuda_enter(s->dev));
    CUDA_TRY(oct_cuda_at(s->dev, dst, bytes, 1, "copy: destination", &to));
    CUDA_TRY(oct_cuda_at(s->dev, src, bytes, 1, "copy: source", &from));
    if (bytes) CU_TRY(s->dev, cuMemcpyDtoDAsync, to, from, bytes, s->stream);
    return OCTET_OK;
}

int32_t oct_cuda_fill(octet_stream *s, octet_ref dst, uint8_t value, uint64_t bytes) {
    oct_addr to = 0;
    CUDA_TRY(oct_cuda_enter(s->dev));
    CUDA_TRY(oct_cuda_at(s->dev, dst, bytes, 1, "fill", &to));
    if (bytes) CU_TRY(s->dev, cuMemsetD8Async, to, value, bytes, s->stream);
    return OCTET_OK;
}
