/*
 * model/model.h - a decoder bound to a device: its weights, its KV cache and one step of it.
 *
 * A model is made from a checkpoint (store/) and an opened device (device/). Families are data
 * (model/arch.h): one forward pass serves all. A step takes rows (tokens of any mix of sequences,
 * prompt chunks and decodes alike), writes their K/V to the cache blocks that the batch names, and
 * leaves sampled tokens or logits of the rows that were asked for.
 *
 * Ownership  The model owns its device buffers and weights; it borrows device and allocator for
 *            life. The checkpoint is needed during oct_model_load only.
 * Threads    One thread at a time (the engine thread).
 * Elsewhere  Who is in a batch: sched/. Which blocks: kv/. What a step computes, exactly:
 *            docs/numerics.md.
 */
#ifndef OCT_MODEL_MODEL_H
#define OCT_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include <octet/device.h>

#include "base/alloc.h"
#include "base/status.h"
#include "device/device.h"
#include "store/checkpoint.h"
#include "store/config.h"

typedef struct oct_model oct_model;

/* How weights that the checkpoint stores as float are held. */
typedef enum oct_model_quant {
    OCT_QUANT_AS_STORED, /* "auto": what the checkpoint says */
    OCT_QUANT_INT8,      /* float projections become W8A8 dynamic while they are loaded */
    OCT_QUANT_ASCEND,    /* the checkpoint must be a ModelSlim one */
} oct_model_quant;

/* What the cache holds. */
typedef enum oct_kv_choice {
    OCT_KV_AUTO, /* what the checkpoint asks for, layer by layer, else the device's float type */
    OCT_KV_C8,   /* INT8 with the scales of the checkpoint; an error without them */
    OCT_KV_FLOAT32,
    OCT_KV_BFLOAT16,
    OCT_KV_FLOAT16,
    OCT_KV_INT8_HEAD, /* INT8, a scale a token and head made at run time */
    OCT_KV_FP8,       /* E4M3 with the scales of the checkpoint; an error without them */
} oct_kv_choice;

/* The value of --kv-cache-dtype. OCT_E_UNSUPPORTED: a type known elsewhere that is not made here,
 * and why; OCT_E_INVALID: no such type. */
OCT_MUST_CHECK oct_status oct_kv_choice_parse(const char *name, oct_kv_choice *out, oct_err *err);
/* "int8_per_channel" for OCTET_KV_I8_CHANNEL. */
const char *oct_kv_kind_name(uint32_t kind);

enum { OCT_MODEL_BLOCK_TOKENS = 32 }; /* of a cache block */

/* Which steps are recorded and replayed, where the device can. Results never depend on it. */
typedef enum oct_capture_mode {
    OCT_CAPTURE_NONE,
    OCT_CAPTURE_DECODE, /* steps of one row a sequence, all of them sampled */
    OCT_CAPTURE_ALL,    /* others too, once their shape has come again */
} oct_capture_mode;

typedef struct oct_capture_options {
    oct_capture_mode mode;
    /* [n_sizes] Decode steps are padded up to the next of these; none: recorded as they are.
     * Borrowed for the model's life. */
    const uint32_t *sizes;
    uint32_t n_sizes;
    uint32_t max_size;  /* decode steps of more sequences are not recorded; 0: no limit */
    uint32_t n_warmups; /* steps of a shape that are computed by calls before it is recorded */
} oct_capture_options;

typedef struct oct_model_options {
    oct_model_quant quant;
    oct_kv_choice kv;
    /* What the checkpoint must be (oct_scheme_options.forced); NULL: detected. Borrowed during
     * oct_model_load, like the next. */
    const char *scheme;
    bool strict; /* refuse what is otherwise read with a warning: store/scheme.h */
    /* Layers that keep the device's float type whatever kv says: "0,3-5,sliding_window"; NULL:
     * none. Borrowed during oct_model_load. */
    const char *kv_skip_layers;
    uint32_t max_model_len; /* 0: the checkpoint's own */
    uint32_t max_rows;      /* most rows of one step (token budget); 0: 2048 */
    uint32_t max_seqs;      /* most sequences of one step; 0: 256 */
    uint32_t max_logits;    /* most rows of one step whose logits are wanted; 0: max_seqs */
    uint32_t block_tokens;  /* 0: OCT_MODEL_BLOCK_TOKENS */
    bool prefill_kv_float;  /* prompts attend to their own unquantised K/V (promise 1 is then not
                               made) */
    bool quiet;             /* no progress, no summary in the log */
    oct_capture_options capture;
    /* Called while weights are bound: done of total bytes. May be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
} oct_model_options;

/* Fixed after load; valid as long as the model. */
typedef struct oct_model_info {
    const oct_model_config *config;
    const char *family; /* "llama" */
    const char *scheme; /* "W8A8_DYNAMIC + C8": for people */
    uint32_t max_model_len;
    uint32_t n_vocab; /* columns of the logits that are tokens */
    uint32_t block_tokens;
    uint32_t kv_kind;            /* OCTET_KV_... of most layers */
    uint64_t weight_bytes;       /* on the device */
    uint64_t step_weight_bytes;  /* read by one decode step */
    uint64_t step_expert_bytes;  /* of these: of the experts that one row uses */
    uint64_t linear_macs;        /* multiply-adds of one row, logits left out */
    uint64_t kv_bytes_per_block; /* all layers */
    uint32_t max_rows, max_seqs, max_logits;
} oct_model_info;

OCT_MUST_CHECK oct_status oct_model_load(const oct_allocator *mem, oct_device *device,
                                         oct_checkpoint *ckpt, const oct_model_options *options,
                                         oct_model **out, oct_err *err);
void oct_model_destroy(oct_model *m); /* accepts NULL */
const oct_model_info *oct_model_get_info(const oct_model *m);

/* Makes the cache: n_blocks blocks for every layer. Once, before the first step. */
OCT_MUST_CHECK oct_status oct_model_kv_create(oct_model *m, uint32_t n_blocks, oct_err *err);
bool oct_model_has_kv(const oct_model *m);

/* Makes n shelves in host memory, each for what one block holds in all layers. Once, before the
 * first move. OCT_E_NOMEM. */
OCT_MUST_CHECK oct_status oct_model_shelves_create(oct_model *m, uint32_t n, oct_err *err);
/* Queues a copy of a block to a shelf, or back, in order with the steps: what was submitted before
 * has run by then, what is submitted later finds it done. Errors may come late, with a step. */
OCT_MUST_CHECK oct_status oct_model_move(oct_model *m, uint32_t block, uint32_t shelf,
                                         bool to_shelf, oct_err *err);
/* Waits for all moves that were queued, with no step pending; reports their late errors. */
OCT_MUST_CHECK oct_status oct_model_moves_wait(oct_model *m, oct_err *err);
/* The shelf's bytes, [info.kv_bytes_per_block]; valid as long as the model. */
void *oct_model_shelf(const oct_model *m, uint32_t shelf);

enum { OCT_MODEL_MAX_TOP = 32 }; /* most likely tokens that a row can report */

/* One step, in host memory, borrowed until collect. Meanings as octet_batch of octet/device.h. */
typedef struct oct_model_batch {
    uint32_t n_seqs, n_rows, max_seq_rows, max_kv_len;
    uint32_t table_stride;
    const int32_t *tokens; /* [n_rows] */
    /* [n_rows], or NULL: none. Not negative: the row's token is the one that this row of the step
     * submitted before drew; tokens[r] is not read then. Only where oct_model_can_overlap. */
    const int32_t *token_from;
    const int32_t *row_pos;     /* [n_rows] */
    const int32_t *row_slot;    /* [n_rows] */
    const int32_t *seq_row;     /* [n_seqs + 1] */
    const int32_t *seq_kv_len;  /* [n_seqs] */
    const int32_t *block_table; /* [n_seqs][table_stride] */

    uint32_t n_logits;         /* rows whose logits are wanted */
    const int32_t *logits_row; /* [n_logits] index of the row */

    /* Sampling of those rows; sample NULL: none, the logits are wanted themselves. */
    const octet_sample_row *sample; /* [n_logits] */
    uint32_t max_top;               /* room for most likely tokens a row, <= OCT_MODEL_MAX_TOP */
    const octet_seen_token *seen;
    uint32_t n_seen;
    const octet_bias *bias;
    uint32_t n_bias;
    const uint32_t *masks; /* [n_masks][(n_vocab + 31) / 32] */
    uint32_t n_masks;
} oct_model_batch;

/* What a step gave; points into the model's host memory, valid until the next collect. */
typedef struct oct_model_result {
    uint32_t n;
    uint32_t max_top;
    const octet_sample_out *out; /* [n] */
    const int32_t *top_id;       /* [n][max_top] */
    const float *top_logprob;    /* [n][max_top] */
} oct_model_result;

/* Queues the step on the device. One more may be submitted before it is collected. OCT_E_INVALID
 * for a batch beyond the limits or an id beyond the embedding; OCT_E_DEVICE when the device
 * refused. A step that was not taken is over; one that is pending can still be collected. */
OCT_MUST_CHECK oct_status oct_model_submit(oct_model *m, const oct_model_batch *batch,
                                           oct_err *err);
/* Waits for the oldest step that was submitted and not collected. When it fails, the one behind it
 * is worth nothing either, though it must be collected. */
OCT_MUST_CHECK oct_status oct_model_collect(oct_model *m, oct_model_result *result, oct_err *err);
/* True when the device can take a row's token from the step before: tokens that were drawn need not
 * pass through the host. */
bool oct_model_can_overlap(const oct_model *m);
/* How many steps were replayed so far. */
uint64_t oct_model_n_replays(const oct_model *m);
/* After a step that failed, with nothing pending: whether the device still takes work, told by a
 * small transfer. OCT_E_DEVICE: it is lost. */
OCT_MUST_CHECK oct_status oct_model_probe(oct_model *m, oct_err *err);
/* After collect of a step without sampling: copies its logits, [n_logits][n_vocab], to out. */
OCT_MUST_CHECK oct_status oct_model_read_logits(oct_model *m, float *out, oct_err *err);

/*
 * A tap sees the float values of every step, for calibration. width values for each of n_rows rows,
 * borrowed for the call. Costs a transfer each; set before the first step.
 */
typedef enum oct_tap_point {
    OCT_TAP_QKV_IN, /* input of q, k and v projections */
    OCT_TAP_O_IN,
    OCT_TAP_MLP_IN, /* input of gate and up */
    OCT_TAP_DOWN_IN,
    OCT_TAP_K, /* [n_kv_heads * head_dim], normed and rotated: what enters the cache */
    OCT_TAP_V,
    OCT_TAP_HEAD_IN, /* input of lm_head; layer is n_layers; only rows whose logits are wanted */
} oct_tap_point;

typedef void oct_tap_fn(void *ctx, uint32_t layer, oct_tap_point point, const float *rows,
                        uint32_t n_rows, uint32_t width);
void oct_model_set_tap(oct_model *m, oct_tap_fn *tap, void *ctx);

#endif
