/*
 * plugin.h - what the files of the CUDA device share: the device, its streams, errors, places in
 * device memory, scratch, and the operations of the contract by group.
 *
 * Ownership  Buffers, weights, streams, events and graphs belong to their device and are gone
 *            before it closes. Scratch lives as long as the device.
 * Threads    Calls for one device come from one thread at a time, not always the same one: each
 *            entry of the table makes the device's context current (oct_cuda_enter).
 * Elsewhere  The driver's functions: driver.h. Starting kernels: launch.h. Weights: weights.h.
 *            Arguments of kernels: kernels/NAME.h.
 */
#ifndef OCT_CUDA_PLUGIN_H
#define OCT_CUDA_PLUGIN_H

#include <octet/device.h>

#include "driver.h"
#include "kernels/params.h"

/* ---- errors ---------------------------------------------------------------------------------- */

/* Returns the code of an expression that is not 0. */
#define CUDA_TRY(expr)                 \
    do {                               \
        const int32_t c_ = (expr);     \
        if (c_ != OCTET_OK) return c_; \
    } while (0)

/* Calls a function of the driver; what it refuses becomes "NAME failed: ..." and OCTET_E_DEVICE
 * (memory: OCTET_E_NOMEM). After an error that loses the context every later call fails with the
 * sentence of the first. */
#define CU_TRY(dev, function, ...) \
    CUDA_TRY(oct_cuda_check(dev, oct_cu.function(__VA_ARGS__), #function))

/* ---- the device ------------------------------------------------------------------------------ */

typedef struct oct_cuda_buffer {
    CUdeviceptr data; /* 0: the slot is free */
    uint64_t bytes;
    uint32_t generation;
} oct_cuda_buffer;

typedef struct oct_cuda_weight oct_cuda_weight; /* weights.h */
typedef struct oct_cuda_stages oct_cuda_stages; /* weights_write.c */

/* Memory that kernels of one stream share; what a stream's operations do not use at a time. */
typedef enum oct_cuda_scratch_id {
    OCT_CUDA_SCRATCH_LINEAR,    /* partial sums of split products */
    OCT_CUDA_SCRATCH_ATTENTION, /* partial results of spans */
    OCT_CUDA_SCRATCH_ROWS,      /* rows between two kernels of one operation */
    OCT_CUDA_SCRATCH_SAMPLE,
    OCT_CUDA_SCRATCH_COUNTERS, /* zero when made; who counts leaves zeros behind */
    OCT_CUDA_N_SCRATCH
} oct_cuda_scratch_id;

typedef struct oct_cuda_scratch_room {
    CUdeviceptr data;
    uint64_t bytes;
} oct_cuda_scratch_room;

enum { OCT_CUDA_MAX_KERNELS = 192, OCT_CUDA_MAX_FILES = 32 };

/* Whether a kernel is taken that has a twin for other chips. */
typedef enum oct_cuda_choice { OCT_CUDA_BY_SHAPE, OCT_CUDA_NEVER, OCT_CUDA_ALWAYS } oct_cuda_choice;

struct octet_device {
    octet_host host;
    CUdevice ordinal;
    CUcontext context;
    CUmodule modules[OCT_CUDA_MAX_FILES];
    CUfunction kernels[OCT_CUDA_MAX_KERNELS]; /* by oct_cuda_kernel of launch.h */
    int sm;                  /* 80, 86, 89, 90, 100, 120: which kernels are chosen */
    int n_sms;               /* multiprocessors */
    int shared_bytes;        /* dynamic shared memory a block may have */
    oct_cuda_choice wgmma;   /* for tests: settings "wgmma=0" and "wgmma=1" */
    int few_ranks, few_room; /* for tuning: settings "ranks=N", "room=KiB"; 0: by shape */
    int dependent;           /* 1: kernels may begin while the one before drains ("overlap=0") */
    char name[96];

    oct_cuda_buffer *buffers; /* handle: generation << 32 | slot + 1 */
    size_t n_buffers;
    oct_cuda_weight **weights;
    size_t n_weights;
    octet_stream *side;      /* for work on weights, made at first use */
    oct_cuda_stages *stages; /* what rows of weights pass through, made at first use */
    CUdeviceptr *retired;    /* scratch that was outgrown: recorded steps still use it */
    size_t n_retired;

    int lost; /* the context is gone; error says by what */
    char error[320];
};

struct octet_stream {
    octet_device *dev;
    CUstream stream;
    uint64_t *fault; /* one word of host memory that kernels can write: kernels/fault.h */
    oct_cuda_scratch_room scratch[OCT_CUDA_N_SCRATCH];
    int recording;
};

/* device.c: leaves a sentence (kept as it is once the context is lost) and returns code. dev NULL:
 * for a failed open. */
int32_t oct_cuda_fail(octet_device *dev, int32_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int32_t oct_cuda_check(octet_device *dev, CUresult result, const char *function);
/* Refuses a lost device; makes the context current on this thread. */
int32_t oct_cuda_enter(octet_device *dev);
void oct_cuda_log(const octet_device *dev, int32_t level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

int32_t oct_cuda_open(const octet_host *host, const octet_open_options *options,
                      octet_device **out);
void oct_cuda_close(octet_device *dev);
int32_t oct_cuda_info(octet_device *dev, octet_device_info *info);
const char *oct_cuda_error_text(octet_device *dev);

/* ---- memory.c -------------------------------------------------------------------------------- */

int32_t oct_cuda_buffer_create(octet_device *dev, uint64_t bytes, octet_buffer *out);
void oct_cuda_buffer_destroy(octet_device *dev, octet_buffer buf);
void *oct_cuda_host_alloc(octet_device *dev, uint64_t bytes);
void oct_cuda_host_free(octet_device *dev, void *ptr);
void oct_cuda_memory_fini(octet_device *dev);

/* The address of a place that must hold `bytes` and lie at a multiple of align; `what` names it in
 * the sentence ("norm: x"). optional: an absent place gives 0. */
int32_t oct_cuda_at(octet_device *dev, octet_ref ref, uint64_t bytes, uint64_t align,
                    const char *what, oct_addr *out);
int32_t oct_cuda_at_optional(octet_device *dev, octet_ref ref, uint64_t bytes, uint64_t align,
                             const char *what, oct_addr *out);
/* Bytes from the place to the end of its buffer; 0 for no buffer. */
uint64_t oct_cuda_bytes_behind(octet_device *dev, octet_ref ref);

/* Rows of elements of `size` bytes. out->vec as kernels/params.h says. */
int32_t oct_cuda_rows(octet_device *dev, octet_rows rows, uint64_t n_rows, uint64_t width,
                      uint64_t size, const char *what, oct_p_rows *out);
/* As oct_cuda_rows; absent rows (buffer 0) give data 0. */
int32_t oct_cuda_rows_optional(octet_device *dev, octet_rows rows, uint64_t n_rows, uint64_t width,
                               uint64_t size, const char *what, oct_p_rows *out);
/* int8 rows with their scales, as an operation reads them. */
int32_t oct_cuda_qrows(octet_device *dev, octet_qrows rows, uint64_t n_rows, uint64_t width,
                       const char *what, oct_p_rows *out, oct_addr *scale);
/* Where a quantised copy goes; mode 0 gives q 0. n_params: static rules in param, usually 1. */
int32_t oct_cuda_quant(octet_device *dev, const octet_quant *q, uint64_t n_rows, uint64_t width,
                       uint64_t n_params, const char *what, oct_p_quant *out);

/* Room for the kernels of a stream, `bytes` of it at a multiple of 256. It grows at first use and
 * never moves from under a recorded step: what was outgrown lives until the device closes. */
int32_t oct_cuda_scratch(octet_stream *s, oct_cuda_scratch_id id, uint64_t bytes, oct_addr *out);
void oct_cuda_scratch_fini(octet_stream *s);

/* ---- stream.c, capture.c --------------------------------------------------------------------- */

int32_t oct_cuda_stream_create(octet_device *dev, octet_stream **out);
void oct_cuda_stream_destroy(octet_stream *s);
int32_t oct_cuda_stream_wait(octet_stream *s);
/* The device's own stream for what the host asks outside any: weights. */
int32_t oct_cuda_side_stream(octet_device *dev, octet_stream **out);
int32_t oct_cuda_event_create(octet_device *dev, octet_event **out);
void oct_cuda_event_destroy(octet_event *e);
int32_t oct_cuda_event_record(octet_stream *s, octet_event *e);
int32_t oct_cuda_event_wait(octet_event *e);
int32_t oct_cuda_stream_wait_event(octet_stream *s, octet_event *e);
int32_t oct_cuda_write(octet_stream *s, octet_ref dst, const void *src, uint64_t bytes);
int32_t oct_cuda_read(octet_stream *s, void *dst, octet_ref src, uint64_t bytes);
int32_t oct_cuda_copy(octet_stream *s, octet_ref dst, octet_ref src, uint64_t bytes);
int32_t oct_cuda_fill(octet_stream *s, octet_ref dst, uint8_t value, uint64_t bytes);
int32_t oct_cuda_capture_begin(octet_stream *s);
int32_t oct_cuda_capture_end(octet_stream *s, octet_graph **out);
int32_t oct_cuda_replay(octet_stream *s, octet_graph *g);
void oct_cuda_graph_destroy(octet_graph *g);

/* ---- operations: ops_rows.c, ops_linear.c, ops_attention.c, ops_side.c ------------------------
 */

/* The entry of every operation: the device is there, and the struct is as long as we know it (a
 * shorter one comes from an older host and is refused: numerics revision 1 has no such host). */
int32_t oct_cuda_begin(octet_stream *s, uint32_t got_bytes, uint64_t want_bytes, const char *what);
#define CUDA_BEGIN(s, op, what) CUDA_TRY(oct_cuda_begin(s, (op)->struct_bytes, sizeof *(op), what))

/* weights.c */
int32_t oct_cuda_weight_create(octet_device *dev, const octet_weight_desc *desc, octet_weight *out);
int32_t oct_cuda_weight_write(octet_device *dev, octet_weight w, const octet_weight_rows *rows);
int32_t oct_cuda_weight_load(octet_device *dev, octet_weight w, const octet_weight_reader *reader);
void oct_cuda_weight_destroy(octet_device *dev, octet_weight w);
uint64_t oct_cuda_weight_bytes(octet_device *dev, const octet_weight_desc *desc);
void oct_cuda_weights_fini(octet_device *dev);

int32_t oct_cuda_embed(octet_stream *s, const octet_embed_op *op);
int32_t oct_cuda_norm(octet_stream *s, const octet_norm_op *op);
int32_t oct_cuda_quantize(octet_stream *s, const octet_quantize_op *op);
int32_t oct_cuda_act(octet_stream *s, const octet_act_op *op);
int32_t oct_cuda_gather(octet_stream *s, const octet_gather_op *op);
int32_t oct_cuda_softcap(octet_stream *s, const octet_softcap_op *op);
int32_t oct_cuda_feed(octet_stream *s, const octet_feed_op *op);

int32_t oct_cuda_linear(octet_stream *s, const octet_linear_op *op);
int32_t oct_cuda_linear_grouped(octet_stream *s, const octet_linear_grouped_op *op);

uint64_t oct_cuda_kv_block_bytes(octet_device *dev, const octet_kv_desc *desc);
int32_t oct_cuda_attn_input(octet_stream *s, const octet_attn_input_op *op);
int32_t oct_cuda_attention(octet_stream *s, const octet_attention_op *op);

int32_t oct_cuda_sample(octet_stream *s, const octet_sample_op *op);
int32_t oct_cuda_route(octet_stream *s, const octet_route_op *op);
int32_t oct_cuda_permute(octet_stream *s, const octet_permute_op *op);
int32_t oct_cuda_quantize_grouped(octet_stream *s, const octet_quantize_grouped_op *op);
int32_t oct_cuda_combine(octet_stream *s, const octet_combine_op *op);

#endif
