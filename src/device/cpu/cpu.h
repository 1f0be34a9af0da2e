/*
 * device/cpu/cpu.h - inside the CPU device: what its files share.
 *
 * Every operation is a function oct_cpu_OP(dev, op) that checks the struct against the buffers it
 * names (the other side of the contract is not ours, so also in release), then computes. It is
 * done when it returns. Streams add order, recording and a thread of their own on top (stream.c).
 *
 * Ownership  The device owns its buffers, weights, threads and scratch.
 * Threads    One caller at a time: the host's, or the queue's thread where there is one; stream.c
 *            sees to that. The pool's threads only inside a job.
 * Memory     A step allocates nothing once the scratch has grown to the largest shapes.
 */
#ifndef OCT_DEVICE_CPU_CPU_H
#define OCT_DEVICE_CPU_CPU_H

#include <octet/device.h>

#include <stdbool.h>

#include "base/alloc.h"
#include "base/status.h"
#include "device/cpu/pool.h"
#include "device/cpu/queue.h"
#include "kern/kern.h"
#include "kern/linear.h"
#include "kern/pack.h"

typedef struct oct_cpu_buffer {
    void *data; /* NULL: a free slot */
    uint64_t bytes;
    uint32_t generation; /* moves when the slot is given up, so that an old handle is noticed */
    bool mapped;         /* in a run, else from the allocator */
    uint32_t run;        /* which one */
} oct_cpu_buffer;

/* Pages of the system that buffers share (memory.c). */
typedef struct oct_cpu_run {
    char *data; /* NULL: a free slot */
    uint64_t bytes, taken;
    uint32_t n_buffers;
} oct_cpu_run;

/* A matrix in the packed layout of kern/pack.h, or the matrices of a layer's experts, the arrays of
 * one behind those of the other. */
typedef struct oct_cpu_weight {
    uint32_t n, k;
    uint32_t n_experts;   /* 0: one matrix */
    uint32_t n_pad;       /* outputs of one matrix, padded: numbers an expert has in each array */
    uint64_t panel_bytes; /* panels of one matrix */
    oct_pack_type type;
    uint32_t generation;
    octet_buffer store; /* one buffer: panels, then the numbers of each output */
    void *panels;
    float *bias;                 /* [n_pad], 0 where there is none */
    float *col_scale;            /* [n_pad], int8 only */
    int32_t *int_bias;           /* [n_pad], int8 only */
    int32_t *col_sum;            /* [n_pad], int8 only */
    bool has_bias, has_int_bias; /* some row was written with one */
    bool used;
} oct_cpu_weight;

/* Working memory by purpose; each grows at first use and stays. */
typedef enum oct_cpu_scratch_id {
    OCT_CPU_SCRATCH_OPERAND, /* rows prepared for an int8 product */
    OCT_CPU_SCRATCH_ITEMS,   /* what attention has to do */
    OCT_CPU_SCRATCH_THREADS, /* a piece for each thread */
    OCT_CPU_SCRATCH_ROWS,    /* float rows on their way to be quantised */
    OCT_CPU_N_SCRATCH
} oct_cpu_scratch_id;

/* Which matrix is read behind each attention of a step, learnt from the step before. */
enum { OCT_CPU_MAX_PREFETCH = 512 }; /* attentions of a step; later ones are not prefetched for */
typedef struct oct_cpu_prefetch {
    bool on;
    uint32_t at;          /* attentions of this step so far */
    bool wanted;          /* the next product is the one to remember */
    const void *panels;   /* of the product behind the attention that runs; NULL: not known */
    uint64_t panel_bytes; /* of one panel */
    uint32_t n_panels;
    octet_weight next[OCT_CPU_MAX_PREFETCH]; /* 0: not known */
} oct_cpu_prefetch;

struct octet_device {
    octet_host host; /* log is there, perhaps doing nothing */
    const oct_allocator *mem;
    oct_kern kern;
    uint32_t cpu_mask;
    oct_pool *pool;
    oct_cpu_queue *queue; /* NULL: operations run inside their calls */
    oct_err err;          /* of the last call that failed */
    oct_cpu_prefetch prefetch;

    oct_cpu_buffer *buffers;
    size_t n_buffers;
    oct_cpu_run *runs;
    size_t n_runs;
    oct_cpu_weight *weights;
    size_t n_weights;
    struct {
        void *data;
        size_t bytes;
    } scratch[OCT_CPU_N_SCRATCH];
};

/* Forgets the last failure and answers with this one: return CPU_FAIL(dev, OCT_E_..., "...", ...).
 */
#define CPU_FAIL(dev, status, ...) \
    ((dev)->err.code = OCT_OK, (int32_t)OCT_FAIL(&(dev)->err, status, __VA_ARGS__))

#define CPU_TRY(expr)                      \
    do {                                   \
        const int32_t try_ = (expr);       \
        if (try_ != OCTET_OK) return try_; \
    } while (0)

/* ---- cpu.c ----------------------------------------------------------------------------------- */

int32_t oct_cpu_open(const octet_host *host, const octet_open_options *options, octet_device **out);
void oct_cpu_close(octet_device *dev);
int32_t oct_cpu_info(octet_device *dev, octet_device_info *info);
const char *oct_cpu_error_text(octet_device *dev);

/* ---- stream.c -------------------------------------------------------------------------------- */

/* Makes the queue whose thread runs what is called from then on. */
OCT_MUST_CHECK oct_status oct_cpu_queue_open(octet_device *dev, oct_err *err);

/* ---- memory.c -------------------------------------------------------------------------------- */

int32_t oct_cpu_buffer_create(octet_device *dev, uint64_t bytes, octet_buffer *out);
void oct_cpu_buffer_destroy(octet_device *dev, octet_buffer buf);
void *oct_cpu_host_alloc(octet_device *dev, uint64_t bytes);
void oct_cpu_host_free(octet_device *dev, void *ptr);
void oct_cpu_memory_fini(octet_device *dev);

/* The place of ref if `bytes` lie behind it inside its buffer and it is a multiple of `align`; what
 * names it in the sentence. An absent ref (buffer 0) is refused. */
int32_t oct_cpu_at(octet_device *dev, octet_ref ref, uint64_t bytes, uint64_t align,
                   const char *what, void *out);
/* The same, but an absent ref gives NULL. */
int32_t oct_cpu_at_optional(octet_device *dev, octet_ref ref, uint64_t bytes, uint64_t align,
                            const char *what, void *out);
/* Float rows of this device: n_rows of width elements. */
int32_t oct_cpu_rows(octet_device *dev, octet_rows rows, uint64_t n_rows, uint64_t width,
                     const char *what, float **out);
/* Quantised rows: n_rows, at least 1, of width bytes, and a scale for each. */
int32_t oct_cpu_qrows(octet_device *dev, octet_qrows rows, uint64_t n_rows, uint64_t width,
                      const char *what, const char *what_scale, const int8_t **q,
                      const float **scale);
/* Bytes of the buffer of ref from its offset on; 0 when there is no such buffer. */
uint64_t oct_cpu_bytes_behind(octet_device *dev, octet_ref ref);

/* At least `bytes`, aligned to 64, content undefined; NULL with the sentence set when refused. */
void *oct_cpu_scratch(octet_device *dev, oct_cpu_scratch_id id, uint64_t bytes);

/* ---- weight.c -------------------------------------------------------------------------------- */

int32_t oct_cpu_weight_create(octet_device *dev, const octet_weight_desc *desc, octet_weight *out);
int32_t oct_cpu_weight_write(octet_device *dev, octet_weight w, const octet_weight_rows *rows);
int32_t oct_cpu_weight_load(octet_device *dev, octet_weight w, const octet_weight_reader *reader);
void oct_cpu_weight_destroy(octet_device *dev, octet_weight w);
uint64_t oct_cpu_weight_bytes(octet_device *dev, const octet_weight_desc *desc);
/* NULL with the sentence set when w is no weight of this device. */
oct_cpu_weight *oct_cpu_weight_get(octet_device *dev, octet_weight w);
/* The same, and it must be one matrix, not the experts of a layer. */
oct_cpu_weight *oct_cpu_weight_matrix(octet_device *dev, octet_weight w, const char *what);
/* One expert's matrix of w; expert < n_experts (0 for a weight that is one matrix). */
oct_cpu_weight oct_cpu_weight_expert(const oct_cpu_weight *w, uint32_t expert);

/* What the kernels take of one matrix, int8 or float; the arrays stay w's. */
oct_linear_i8_weight oct_cpu_weight_i8(const oct_cpu_weight *w);
oct_linear_float_weight oct_cpu_weight_float(const oct_cpu_weight *w);

/* ---- rows.c: what other operations use ---------------------------------------------------------
 */

/* Where quantised rows go; q NULL: nowhere. */
typedef struct oct_cpu_quant {
    oct_row_quant rule;
    int8_t *q;
    float *scale;
    size_t stride;
} oct_cpu_quant;

/* The rule of a mode with the numbers of its param (static). */
int32_t oct_cpu_quant_rule(octet_device *dev, uint32_t mode, const float param[2], const char *what,
                           oct_row_quant *out);
int32_t oct_cpu_quant_target(octet_device *dev, const octet_quant *q, uint64_t n_rows,
                             uint64_t width, const char *what, oct_cpu_quant *out);
/* x (times mul, unless NULL) as row `row` of q, if q goes anywhere. */
void oct_cpu_quant_row(const octet_device *dev, const oct_cpu_quant *q, size_t row, const float *x,
                       const float *mul, size_t width);
/* Runs fn on all threads, or on the caller alone when there is little to do. */
void oct_cpu_share_rows(octet_device *dev, uint64_t n_rows, uint64_t width, oct_pool_fn *fn,
                        void *job);

/* ---- prefetch.c ------------------------------------------------------------------------------ */

/* A step begins; an attention begins; a product of w begins. */
void oct_cpu_prefetch_step(octet_device *dev);
void oct_cpu_prefetch_attention(octet_device *dev);
void oct_cpu_prefetch_product(octet_device *dev, octet_weight w);
/* A thread has no more of the attention to do: asks for the beginning of what it will read. */
void oct_cpu_prefetch_share(const octet_device *dev, oct_share share);

/* ---- operations ------------------------------------------------------------------------------ */

uint64_t oct_cpu_kv_block_bytes(octet_device *dev, const octet_kv_desc *desc);

int32_t oct_cpu_copy(octet_device *dev, octet_ref dst, octet_ref src, uint64_t bytes);
int32_t oct_cpu_fill(octet_device *dev, octet_ref dst, uint8_t value, uint64_t bytes);
int32_t oct_cpu_embed(octet_device *dev, const octet_embed_op *op);
int32_t oct_cpu_norm(octet_device *dev, const octet_norm_op *op);
int32_t oct_cpu_quantize(octet_device *dev, const octet_quantize_op *op);
int32_t oct_cpu_linear(octet_device *dev, const octet_linear_op *op);
int32_t oct_cpu_attn_input(octet_device *dev, const octet_attn_input_op *op);
int32_t oct_cpu_attention(octet_device *dev, const octet_attention_op *op);
int32_t oct_cpu_act(octet_device *dev, const octet_act_op *op);
int32_t oct_cpu_gather(octet_device *dev, const octet_gather_op *op);
int32_t oct_cpu_feed(octet_device *dev, const octet_feed_op *op);
int32_t oct_cpu_sample(octet_device *dev, const octet_sample_op *op);
int32_t oct_cpu_route(octet_device *dev, const octet_route_op *op);
int32_t oct_cpu_permute(octet_device *dev, const octet_permute_op *op);
int32_t oct_cpu_quantize_grouped(octet_device *dev, const octet_quantize_grouped_op *op);
int32_t oct_cpu_linear_grouped(octet_device *dev, const octet_linear_grouped_op *op);
int32_t oct_cpu_combine(octet_device *dev, const octet_combine_op *op);
int32_t oct_cpu_softcap(octet_device *dev, const octet_softcap_op *op);

#endif
