/*
 * octet/device.h - the contract between octet and a device plug-in. Version 1.
 *
 * A plug-in is a shared object that exports one symbol, octet_device_plugin_v1, and includes
 * nothing of octet but the headers in this folder. It may be built by another compiler, in another
 * year, so:
 *
 *   - structs hold fixed-width integers, floats and pointers: no enum, bool, size_t, long,
 * bit-field;
 *   - every struct that may grow begins with struct_bytes, its size as its writer knew it;
 *   - members are appended, never moved, removed or given a new meaning: that takes a v2 symbol;
 *   - nothing is freed by the side that did not allocate it; nothing throws across;
 *   - calls for one device come from one thread at a time; host->log and the reader of weight_load
 *     may be called from any.
 *
 * Grain: one call is one fused operation of a transformer step over all rows of the batch. A row is
 * one token of one sequence. Calls are queued on a stream in order and may return before they ran;
 * what a call reads and writes lies in device buffers, so that a recorded step can be replayed.
 *
 * The arithmetic (rounding, scales, order of float operations) is docs/numerics.md; its revision is
 * OCTET_NUMERICS_REV. `octet conform --device PATH` judges a plug-in operation by operation.
 */
#ifndef OCTET_DEVICE_H
#define OCTET_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include <octet/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which arithmetic this is. It has no compatible neighbours: host and plug-in compile the same. */
#define OCTET_NUMERICS_REV 1u

typedef struct octet_device octet_device; /* the plug-in's own */
typedef struct octet_stream octet_stream; /* an ordered queue of operations */
typedef struct octet_event octet_event;   /* a mark in a stream */
typedef struct octet_graph octet_graph;   /* a recorded step */
typedef uint64_t octet_buffer;            /* device memory; 0 is never a buffer */
typedef uint64_t octet_weight;            /* a packed matrix; 0 is never a weight */

/* A place in device memory. buffer 0: absent, where an operation allows that. */
typedef struct octet_ref {
    octet_buffer buffer;
    uint64_t offset; /* bytes */
} octet_ref;

/* Element types of rows, weights and caches. */
#define OCTET_F32 1u
#define OCTET_BF16 2u
#define OCTET_F16 3u
#define OCTET_I8 4u
#define OCTET_I32 5u
#define OCTET_FP8_E4M3 6u

/* ---- what each side tells the other ------------------------------------------------------- */

#define OCTET_LOG_DEBUG 0
#define OCTET_LOG_INFO 1
#define OCTET_LOG_WARN 2
#define OCTET_LOG_ERROR 3

/* What the host lends. Valid from the entry call until process exit. */
typedef struct octet_host {
    uint32_t struct_bytes;
    uint32_t numerics_rev;
    void *ctx;
    void (*log)(void *ctx, int32_t level, const char *text);
} octet_host;

/* How to open a device. Zero means "choose well". */
typedef struct octet_open_options {
    uint32_t struct_bytes;
    uint32_t ordinal;      /* which of the plug-in's devices */
    uint32_t n_threads;    /* host threads that may compute */
    uint32_t bind_threads; /* 0 default, 1 bind to cores and memory, 2 do not */
    const char *settings;  /* plug-in specific "key=value,..."; NULL: none */
    /* 1: the host will queue a step while another runs, so calls on a stream should return before
     * they ran. 0: they may run at once. A matter of speed alone. */
    uint32_t overlap;
    uint32_t reserved;
} octet_open_options;

typedef struct octet_device_info {
    uint32_t struct_bytes; /* set by the host before the call */
    uint32_t act_dtype;    /* element type of float rows on this device: OCTET_F32 or OCTET_BF16 */
    uint32_t n_compute_units;
    uint32_t reserved;
    uint64_t mem_total_bytes;
    uint64_t mem_free_bytes;
    char name[128]; /* for people: "cpu: 2 threads, avx2" */
} octet_device_info;

/* ---- rows ---------------------------------------------------------------------------------- */

/* Float rows of the device's act_dtype: row r starts at data + r * stride elements. */
typedef struct octet_rows {
    octet_ref data;
    uint64_t stride; /* elements */
} octet_rows;

/* int8 rows, each with one float scale: value = q * scale (dynamic), or the numbers of a static
 * scale, whose row scale is 1 (or NaN for a row that could not be represented). */
typedef struct octet_qrows {
    octet_ref data;  /* int8 [n_rows][stride] */
    octet_ref scale; /* float32 [n_rows] */
    uint64_t stride; /* bytes */
} octet_qrows;

#define OCTET_QUANT_NONE 0u
#define OCTET_QUANT_DYNAMIC 1u /* scale = absmax/127 of the row */
/* rne(x/s + o): the offset is added before rounding (ModelSlim). */
#define OCTET_QUANT_STATIC_BEFORE 2u
/* rne(x/s) + o: added after rounding (Quark, compressed-tensors). */
#define OCTET_QUANT_STATIC_AFTER 3u

/* Where and how an operation leaves a quantised copy of its result. */
typedef struct octet_quant {
    uint32_t mode;
    uint32_t reserved;
    octet_ref param; /* static: float32 [2] = {scale, offset}; lives in memory so that a reload can
                        change it */
    octet_qrows out;
} octet_quant;

/* ---- weights ------------------------------------------------------------------------------- */

/*
 * A matrix W[n][k], row = one output, in the device's own packed layout. Storage: OCTET_I8 with a
 * float32 scale for each row, or OCTET_F32 / OCTET_BF16 / OCTET_F16.
 * Its size depends on n, k and dtype only, so a reload writes in place.
 */
typedef struct octet_weight_desc {
    uint32_t struct_bytes;
    uint32_t dtype;
    uint64_t n, k;
    /* 0: one matrix. Else that many matrices [n][k] under one handle, for linear_grouped; rows
     * e * n .. (e + 1) * n - 1 of weight_write are those of expert e. Ask for it only where the
     * table has linear_grouped: an older plug-in does not see this member. */
    uint32_t n_experts;
    uint32_t reserved;
} octet_weight_desc;

/* Some rows of a matrix, in host memory, borrowed for the call. */
typedef struct octet_weight_rows {
    uint32_t struct_bytes;
    uint32_t reserved;
    uint64_t row, n_rows;
    const void *data;        /* [n_rows][k] in the dtype of the weight */
    const float *col_scale;  /* [n_rows]; int8 only */
    const int32_t *int_bias; /* [n_rows] added to the exact sum, or NULL for 0; int8 only */
    const float *bias;       /* [n_rows] added to the result, or NULL for none */
} octet_weight_rows;

/* Rows that the device asks the host for while it fills a weight. All members but `given` are set
 * by the device, the memory too: only these rows of it are written. */
#define OCTET_GIVEN_INT_BIAS 1u
#define OCTET_GIVEN_BIAS 2u
typedef struct octet_weight_part {
    uint32_t struct_bytes;
    uint32_t given; /* in: 0; out: OCTET_GIVEN_... of the vectors that were written */
    uint64_t row, n_rows;
    void *data;        /* [n_rows][k] in the dtype of the weight */
    float *col_scale;  /* [n_rows]; int8 only, else NULL */
    int32_t *int_bias; /* [n_rows] zeros, written where there is one; int8 only, else NULL */
    float *bias;       /* [n_rows] zeros, written where there is one */
} octet_weight_part;

/* The host's side of weight_load. read: 0 or a code of octet/status.h; any thread, several at once.
 */
typedef struct octet_weight_reader {
    uint32_t struct_bytes;
    uint32_t reserved;
    void *ctx;
    int32_t (*read)(void *ctx, octet_weight_part *part);
} octet_weight_reader;

/* ---- the KV cache --------------------------------------------------------------------------- */

#define OCTET_KV_F32 1u
#define OCTET_KV_BF16 2u
/* One scale (and offset) for each channel of each kv head ("C8"). A scale for each head, or for the
 * whole tensor, is the same number repeated. */
#define OCTET_KV_I8_CHANNEL 3u
/* A scale for each token and kv head, max(absmax / 127, 1e-6), made as the token is written and
 * kept in the block. The scale and offset members are absent. */
#define OCTET_KV_I8_TOKEN 4u
/* E4M3 of x / scale, one scale for each channel as above, no offset. */
#define OCTET_KV_FP8_CHANNEL 5u
#define OCTET_KV_F16 6u
/* A device may lack kinds from 4 on: kv_block_bytes then answers 0. */

/* One layer's cache. The layout inside a block is the device's own; the host only counts bytes. */
typedef struct octet_kv_desc {
    uint32_t struct_bytes;
    uint32_t kind;
    uint32_t n_kv_heads, head_dim;
    uint32_t block_tokens; /* a multiple of 32 */
    uint32_t reserved;
    uint64_t block_bytes; /* what kv_block_bytes answered for the members above */
    octet_ref base;       /* block b starts at base + b * block_bytes */
    /* float32 [n_kv_heads * head_dim], of the kinds that say so; offset absent: 0 */
    octet_ref k_scale, k_offset;
    octet_ref v_scale, v_offset;
} octet_kv_desc;

/* Which rows belong to which sequence. All arrays int32 in device memory. */
typedef struct octet_batch {
    uint32_t struct_bytes;
    uint32_t n_seqs;
    uint32_t n_rows;       /* rows 0..n_rows-1, the rows of a sequence adjacent and in order */
    uint32_t max_seq_rows; /* the most rows any sequence has */
    uint32_t max_kv_len;   /* of any sequence; in a recorded step, of any it may be replayed for */
    uint32_t table_stride; /* entries a sequence has in block_table */
    octet_ref row_pos;     /* [n_rows] absolute position of the row in its sequence */
    octet_ref row_slot; /* [n_rows] block * block_tokens + place: where its K/V go; -1: nowhere */
    octet_ref seq_row;  /* [n_seqs + 1] first row of each sequence */
    octet_ref
        seq_kv_len; /* [n_seqs] tokens in the cache when attention runs, this step's included */
    octet_ref block_table; /* [n_seqs][table_stride] block ids */
} octet_batch;

/* ---- operations ----------------------------------------------------------------------------- */

/* out[r] = float(table row ids[r]) * scale. An id outside the table is an error of the host. */
typedef struct octet_embed_op {
    uint32_t struct_bytes;
    uint32_t n_rows;
    octet_weight table; /* float storage, [vocab][width] */
    octet_ref ids;      /* int32 [n_rows] */
    octet_rows out;
    float scale; /* 1 for most families */
    uint32_t reserved;
} octet_embed_op;

#define OCTET_NORM_RMS 1u
#define OCTET_NORM_LAYER 2u

/* x += add (if present, stored back to x); y = norm(x) * weight (+ bias); y to out and/or quant. */
typedef struct octet_norm_op {
    uint32_t struct_bytes;
    uint32_t kind;
    uint32_t n_rows, width;
    octet_rows x;
    octet_rows add;         /* data.buffer 0: no residual */
    octet_ref weight, bias; /* float32 [width]; bias may be absent */
    float eps;
    uint32_t reserved;
    octet_rows out; /* data.buffer 0: no float result wanted */
    octet_quant quant;
} octet_norm_op;

/* quant.out = quantised x, after multiplying by mul (float32 [width]) if present. */
typedef struct octet_quantize_op {
    uint32_t struct_bytes;
    uint32_t n_rows, width;
    uint32_t reserved;
    octet_rows x;
    octet_ref mul;
    octet_quant quant;
} octet_quantize_op;

/* out = x W^T: exact int32 sums for an int8 weight (rows in qx), float for a float weight (in x).
 * out_dtype 0: the device's act_dtype; OCTET_F32 for logits. accumulate 1: out += result. */
typedef struct octet_linear_op {
    uint32_t struct_bytes;
    uint32_t n_rows;
    octet_weight weight;
    octet_rows x;
    octet_qrows qx;
    octet_rows out;
    uint32_t out_dtype;
    uint32_t accumulate;
} octet_linear_op;

#define OCTET_QK_NORM_NONE 0u
#define OCTET_QK_NORM_HEAD 1u /* RMSNorm over each head, weight [head_dim] */
#define OCTET_QK_NORM_FULL 2u /* RMSNorm over all heads at once, weight [heads * head_dim] */

/*
 * qkv rows hold q [n_heads][head_dim], k and v [n_kv_heads][head_dim] one after the other. In
 * place: QK-norm, rotary embedding of q and k; then k and v are written to the cache (quantised as
 * it says). Afterwards q, k and v of the row hold their float values (k normed and rotated).
 */
typedef struct octet_attn_input_op {
    uint32_t struct_bytes;
    uint32_t n_heads;
    uint32_t qk_norm;
    uint32_t rotary_dim; /* even, <= head_dim; 0: no rotation */
    octet_rows qkv;
    octet_ref q_norm, k_norm; /* float32 */
    float norm_eps;
    uint32_t n_rope_rows;
    octet_ref rope; /* float32 [n_rope_rows][2][rotary_dim/2]: cosines, then sines of a position */
    octet_kv_desc kv;
    octet_batch batch;
    octet_ref q_norm_bias, k_norm_bias; /* float32, shaped as the norms; may be absent */
} octet_attn_input_op;

#define OCTET_MASK_CAUSAL 0u
#define OCTET_MASK_NONE 1u /* bidirectional */

/* out[r] = attention of q[r] over its sequence's cache; also quantised if asked. */
typedef struct octet_attention_op {
    uint32_t struct_bytes;
    uint32_t n_heads;
    octet_rows q;     /* the qkv rows of attn_input */
    octet_rows fresh; /* data.buffer != 0: sequences whose cache holds only this step's rows read
                         K/V in float from these qkv rows instead (`--prefill-kv float`) */
    octet_kv_desc kv;
    octet_batch batch;
    float scale;     /* usually 1/sqrt(head_dim) */
    float softcap;   /* 0: none; else c * tanh(s / c) */
    uint32_t window; /* 0: none; else a row at p sees t > p - window */
    uint32_t mask;
    octet_rows out; /* [n_rows][n_heads * head_dim]; data.buffer 0: no float result wanted */
    octet_quant quant;
} octet_attention_op;

#define OCTET_ACT_SILU 1u
#define OCTET_ACT_GELU 2u /* erf */
#define OCTET_ACT_GELU_TANH 3u
#define OCTET_ACT_RELU 4u

/* y = act(x[0..width)) * x[width..2*width) (gated 1), or act(x[0..width)) (gated 0). */
typedef struct octet_act_op {
    uint32_t struct_bytes;
    uint32_t kind, gated;
    uint32_t n_rows, width;
    uint32_t reserved;
    octet_rows x;
    octet_rows out;
    octet_quant quant;
} octet_act_op;

/* out[i] = x[index[i]]: the rows whose logits are wanted. */
typedef struct octet_gather_op {
    uint32_t struct_bytes;
    uint32_t n_rows, width;
    uint32_t reserved;
    octet_rows x;
    octet_ref index; /* int32 [n_rows] */
    octet_rows out;
} octet_gather_op;

/* x = cap * tanh(x / cap) in place: the soft cap of a model's logits. */
typedef struct octet_softcap_op {
    uint32_t struct_bytes;
    uint32_t n_rows, width;
    float cap;    /* above 0 */
    octet_rows x; /* float32, whatever act_dtype is */
} octet_softcap_op;

/* How to draw one token. Order of the steps: docs/numerics.md, "Sampling". In device memory. */
#define OCTET_SAMPLE_GREEDY 1u /* flag: argmax, lowest id on ties */
#define OCTET_SAMPLE_FORCED 2u /* flag: take `forced`; only its probability is wanted */
#define OCTET_SAMPLE_PROCESSED \
    4u /* flag: log probabilities after penalties, temperature and masks */
#define OCTET_SAMPLE_RAW_LOGITS 8u /* flag: report logits instead of log probabilities */

typedef struct octet_sample_row {
    float temperature, top_p, min_p;
    float repetition_penalty, frequency_penalty, presence_penalty;
    int32_t top_k; /* 0: all */
    uint32_t flags;
    uint64_t seed;
    uint32_t choice, position; /* with seed: the key of the random number */
    uint32_t n_top;            /* how many of the most likely tokens to report */
    int32_t forced;
    uint32_t seen_begin, seen_end; /* entries of `seen` */
    uint32_t bias_begin, bias_end; /* entries of `bias` */
    int32_t mask;                  /* row of `masks`, or -1: every token is allowed */
    uint32_t reserved;
} octet_sample_row;

typedef struct octet_seen_token { /* ascending id within a row */
    int32_t id;
    uint32_t n_output;  /* how often it was generated */
    uint32_t in_prompt; /* 0 or 1 */
} octet_seen_token;

typedef struct octet_bias { /* -INFINITY bans the token */
    int32_t id;
    float value;
} octet_bias;

#define OCTET_SAMPLED 0
#define OCTET_SAMPLE_NOT_FINITE 1 /* a logit is NaN or +infinity */
#define OCTET_SAMPLE_NONE_ALLOWED 2

typedef struct octet_sample_out {
    int32_t token;
    int32_t status;
    float logprob; /* of token */
    uint32_t rank; /* 1: the most likely; ties count as lower ids first */
} octet_sample_out;

typedef struct octet_sample_op {
    uint32_t struct_bytes;
    uint32_t n_rows;
    uint32_t n_vocab;      /* columns that are tokens; later ones are padding and never drawn */
    uint32_t max_top;      /* columns of top_id, top_logprob */
    octet_rows logits;     /* float32; may be overwritten */
    octet_ref rows;        /* octet_sample_row [n_rows] */
    octet_ref seen;        /* octet_seen_token []; may be absent */
    octet_ref bias;        /* octet_bias []; may be absent */
    octet_ref masks;       /* uint32 [][(n_vocab + 31) / 32], bit set: allowed; may be absent */
    octet_ref out;         /* octet_sample_out [n_rows] */
    octet_ref top_id;      /* int32 [n_rows][max_top]; absent if max_top is 0 */
    octet_ref top_logprob; /* float32 [n_rows][max_top] */
} octet_sample_op;

/* The tokens of rows that the host does not know yet, because the step before drew them and nobody
 * waited for it: ids[r] = drawn[from[r]].token where from[r] is not negative. A token outside
 * 0 .. n_vocab-1 (none could be drawn) gives 0; the host drops what comes of it. */
typedef struct octet_feed_op {
    uint32_t struct_bytes;
    uint32_t n_rows;
    uint32_t n_drawn; /* a from of that or more is an error of the host */
    uint32_t n_vocab;
    octet_ref ids;   /* int32 [n_rows] */
    octet_ref from;  /* int32 [n_rows] */
    octet_ref drawn; /* octet_sample_out [n_drawn]: what sample left there */
} octet_feed_op;

/* ---- mixture of experts ---------------------------------------------------------------------- */

/*
 * A layer of experts is: linear (logits of the router, float32), route, permute, then on rows that
 * are grouped by expert: [quantize_grouped,] linear_grouped (gate, up), act, linear_grouped (down),
 * and combine back onto the rows of the batch. All of it stays in device memory: the host knows how
 * many grouped rows there are (n_rows * top_k) but not whose they are, and never waits for that.
 *
 * These five are optional, all or none: a device without them serves dense models.
 */

#define OCTET_MAX_TOP_K 64u

#define OCTET_ROUTE_SOFTMAX 1u /* score = softmax of the row's logits over all experts */
#define OCTET_ROUTE_SIGMOID 2u /* score = 1 / (1 + exp(-logit)) */

/* The top_k experts of each row: the largest score + bias, the lowest id on ties, best first. The
 * weight of an expert is its score without the bias, divided by the sum of the chosen ones if
 * renormalise is 1, then times scale. A row with a NaN among its scores gets the experts 0, 1, ...
 * and weights NaN. */
typedef struct octet_route_op {
    uint32_t struct_bytes;
    uint32_t kind;
    uint32_t n_rows, n_experts;
    uint32_t top_k; /* 1 .. n_experts, at most OCTET_MAX_TOP_K */
    uint32_t renormalise;
    float scale; /* 1 for most families */
    uint32_t reserved;
    octet_rows logits; /* float32 [n_rows][n_experts], whatever act_dtype is */
    octet_ref bias;    /* float32 [n_experts], for the choice alone; may be absent */
    octet_ref expert;  /* out: int32 [n_rows][top_k] */
    octet_ref weight;  /* out: float32 [n_rows][top_k] */
} octet_route_op;

/* Puts the n_rows * top_k (row, slot) pairs in the order of their experts, within an expert in the
 * order of rows and slots. An id outside 0 .. n_experts-1 is an error. */
typedef struct octet_permute_op {
    uint32_t struct_bytes;
    uint32_t n_rows, n_experts, top_k;
    octet_ref expert; /* int32 [n_rows][top_k] */
    octet_ref first;  /* out: int32 [n_experts + 1]: grouped rows of expert e are
                         first[e] .. first[e + 1] - 1 */
    octet_ref row;    /* out: int32 [n_rows * top_k]: the row of the batch behind a grouped row */
    octet_ref place;  /* out: int32 [n_rows][top_k]: the grouped row of a slot */
} octet_permute_op;

/* quantize for grouped rows where each expert has its own static scale or its own factors: grouped
 * row i = quantised x[row[i]] under the rule of its expert. With one dynamic rule for all experts
 * the rows of the batch are quantised once instead, and linear_grouped picks them. */
typedef struct octet_quantize_grouped_op {
    uint32_t struct_bytes;
    uint32_t n_rows; /* grouped rows */
    uint32_t n_in;   /* rows of x */
    uint32_t width, n_experts;
    uint32_t reserved;
    octet_ref first; /* of permute */
    octet_ref row;   /* of permute; absent: x is grouped already (n_in = n_rows) */
    octet_rows x;
    octet_ref mul;     /* float32 [n_experts][width], or absent */
    octet_quant quant; /* static: param is float32 [n_experts][2] */
} octet_quantize_grouped_op;

/* Grouped row i of out = x[row[i]] W[e]^T, e its expert, otherwise as linear. Reads only experts
 * that have rows. */
typedef struct octet_linear_grouped_op {
    uint32_t struct_bytes;
    uint32_t n_rows; /* grouped rows */
    uint32_t n_in;   /* rows of x or qx */
    uint32_t out_dtype;
    uint32_t accumulate;
    uint32_t reserved;
    octet_weight weight; /* made with n_experts */
    octet_ref first;     /* of permute */
    octet_ref row;       /* of permute; absent: x or qx is grouped already (n_in = n_rows) */
    octet_rows x;
    octet_qrows qx;
    octet_rows out;
} octet_linear_grouped_op;

/* out[r] (+)= sum over slots k, ascending, of weight[r][k] * x[place[r][k]]
 *             + shared[r], times 1 / (1 + exp(-shared_gate[r])) where that is present. */
typedef struct octet_combine_op {
    uint32_t struct_bytes;
    uint32_t n_rows, width, top_k;
    uint32_t accumulate; /* 1: added to out, else stored */
    uint32_t reserved;
    octet_rows x;          /* n_rows * top_k grouped rows */
    octet_ref place;       /* of permute */
    octet_ref weight;      /* of route */
    octet_rows shared;     /* data.buffer 0: none */
    octet_ref shared_gate; /* float32 [n_rows], before the sigmoid; may be absent */
    octet_rows out;
} octet_combine_op;

/* ---- the table ------------------------------------------------------------------------------ */

/* Calls return 0 or a code of octet/status.h; error_text then tells why. A member marked optional
 * may be NULL. */
typedef struct octet_device_ops {
    uint32_t struct_bytes;
    uint32_t numerics_rev;
    const char *plugin_name;

    int32_t (*open)(const octet_host *host, const octet_open_options *options, octet_device **out);
    void (*close)(octet_device *dev); /* accepts NULL; everything made from dev is gone by then */
    int32_t (*info)(octet_device *dev, octet_device_info *info);
    /* The sentence of the last call that failed; dev may be NULL after a failed open. */
    const char *(*error_text)(octet_device *dev);

    /* Memory. Buffers keep their address for life. New memory reads as zero. */
    int32_t (*buffer_create)(octet_device *dev, uint64_t bytes, octet_buffer *out);
    void (*buffer_destroy)(octet_device *dev, octet_buffer buf); /* accepts 0 */
    /* Optional, both or neither: host memory that transfers fast. NULL: refused. free accepts NULL.
     */
    void *(*host_alloc)(octet_device *dev, uint64_t bytes);
    void (*host_free)(octet_device *dev, void *ptr);

    /* Order. Operations of one stream run one after the other. An operation may fail after its call
     * returned (a late error): what is behind it in the stream then does not run, or computes
     * something that means nothing, until stream_wait has reported it. */
    int32_t (*stream_create)(octet_device *dev, octet_stream **out);
    void (*stream_destroy)(octet_stream *s); /* accepts NULL; waits first */
    int32_t (*stream_wait)(
        octet_stream *s); /* the host waits until all is done; reports late errors */
    int32_t (*event_create)(octet_device *dev, octet_event **out);
    void (*event_destroy)(octet_event *e); /* accepts NULL */
    int32_t (*event_record)(octet_stream *s, octet_event *e);
    /* The host waits; reports late errors of what was before the mark. */
    int32_t (*event_wait)(octet_event *e);
    int32_t (*stream_wait_event)(octet_stream *s, octet_event *e); /* the stream waits */

    /* Transfers, in stream order. The host memory must stay until the stream got there. */
    int32_t (*write)(octet_stream *s, octet_ref dst, const void *src, uint64_t bytes);
    int32_t (*read)(octet_stream *s, void *dst, octet_ref src, uint64_t bytes);
    int32_t (*copy)(octet_stream *s, octet_ref dst, octet_ref src, uint64_t bytes);
    int32_t (*fill)(octet_stream *s, octet_ref dst, uint8_t value, uint64_t bytes);

    /* Optional, all four or none. Step capture: operations between begin and end are recorded, not
     * run; replay runs them again with whatever the buffers hold by then, on the stream they were
     * recorded on and in order with what is queued there. Numbers of their structs are kept as they
     * were; sequences without rows and rows of no sequence (padding) are usual. Transfers from and
     * to the host and replays are not recorded: they are refused between begin and end.
     * Other streams go on. graph_destroy waits for a replay that is on its way. */
    int32_t (*capture_begin)(octet_stream *s);
    int32_t (*capture_end)(octet_stream *s, octet_graph **out);
    int32_t (*replay)(octet_stream *s, octet_graph *g);
    void (*graph_destroy)(octet_graph *g); /* accepts NULL */

    /* Weights. write may be called in pieces and again at a reload; it is done when it returns. */
    int32_t (*weight_create)(octet_device *dev, const octet_weight_desc *desc, octet_weight *out);
    int32_t (*weight_write)(octet_device *dev, octet_weight w, const octet_weight_rows *rows);
    void (*weight_destroy)(octet_device *dev, octet_weight w); /* accepts 0 */
    uint64_t (*weight_bytes)(octet_device *dev, const octet_weight_desc *desc);

    /* Bytes of one block of one layer; 0 when the kind or shape is not supported. */
    uint64_t (*kv_block_bytes)(octet_device *dev, const octet_kv_desc *desc);

    int32_t (*embed)(octet_stream *s, const octet_embed_op *op);
    int32_t (*norm)(octet_stream *s, const octet_norm_op *op);
    int32_t (*quantize)(octet_stream *s, const octet_quantize_op *op);
    int32_t (*linear)(octet_stream *s, const octet_linear_op *op);
    int32_t (*attn_input)(octet_stream *s, const octet_attn_input_op *op);
    int32_t (*attention)(octet_stream *s, const octet_attention_op *op);
    int32_t (*act)(octet_stream *s, const octet_act_op *op);
    int32_t (*gather)(octet_stream *s, const octet_gather_op *op);
    int32_t (*sample)(octet_stream *s, const octet_sample_op *op);

    /* Optional, all five or none: mixture of experts. */
    int32_t (*route)(octet_stream *s, const octet_route_op *op);
    int32_t (*permute)(octet_stream *s, const octet_permute_op *op);
    int32_t (*quantize_grouped)(octet_stream *s, const octet_quantize_grouped_op *op);
    int32_t (*linear_grouped)(octet_stream *s, const octet_linear_grouped_op *op);
    int32_t (*combine)(octet_stream *s, const octet_combine_op *op);

    /* Optional: without it, models whose logits are capped are refused. */
    int32_t (*softcap)(octet_stream *s, const octet_softcap_op *op);

    /* Optional: writes all rows of a weight, asking the reader for each of them once, in parts and
     * an order of the device's choice. So reading and packing run on many threads and rows pass
     * through small memory. Done when it returns; a read that fails ends it with that answer. The
     * host uses weight_write where this is absent. */
    int32_t (*weight_load)(octet_device *dev, octet_weight w, const octet_weight_reader *reader);

    /* Optional: without it a step is planned only when the one before was collected. */
    int32_t (*feed)(octet_stream *s, const octet_feed_op *op);
} octet_device_ops;

/* True when the plug-in is new enough to have the member and chose to fill it. */
#define OCTET_HAS(ops, member)                                                            \
    ((ops)->struct_bytes >= offsetof(octet_device_ops, member) + sizeof((ops)->member) && \
     (ops)->member)

/* NULL: the plug-in declines this host, having said why through host->log. */
typedef const octet_device_ops *octet_device_plugin_fn(const octet_host *host);
#define OCTET_DEVICE_PLUGIN_SYMBOL "octet_device_plugin_v1"

#ifdef __cplusplus
}
#endif
#endif
