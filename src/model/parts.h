/*
 * model/parts.h - what a bound model is made of; private to the room.
 *
 * Small float vectors (norm weights, scales, rotary table) live together in one device buffer, the
 * constants; a part names its vector by its byte offset there, an oct_const. 0 means absent: the
 * first 64 bytes are never given out.
 */
#ifndef OCT_MODEL_PARTS_H
#define OCT_MODEL_PARTS_H

#include "model/arch.h"
#include "model/model.h"
#include "store/scheme.h"

typedef uint64_t oct_const;

/* One packed matrix: a projection, or adjacent projections that read the same quantised rows. */
typedef struct oct_mat {
    octet_weight weight;
    uint32_t n, k;
    uint32_t col;    /* its first column in the group's result */
    uint32_t quant;  /* OCTET_QUANT_...: how its input rows are made; NONE: a float matrix */
    oct_const param; /* static: {scale, offset} */
    oct_const mul;   /* [k] factors on the input before quantising, or absent */
} oct_mat;

enum { OCT_GROUP_MATS = 3 };

/* Projections with one input: q, k, v; or gate, up; or one alone. */
typedef struct oct_group {
    oct_mat mat[OCT_GROUP_MATS];
    uint32_t n_mats;
    uint32_t width; /* columns of the result */
} oct_group;

typedef struct oct_norm {
    oct_const weight, bias; /* weight absent: there is no such norm */
} oct_norm;

/* The experts of a layer. Matrices of gate_up and down hold all experts; their n and k are those of
 * one, param is float32 [n_experts][2], mul [n_experts][k]. */
typedef struct oct_experts {
    oct_group router;
    oct_const bias; /* on the scores, for the choice */
    oct_group gate_up, down;
    oct_group shared_gate; /* one column; n_mats 0: the shared expert's result is taken as it is */
} oct_experts;

typedef struct oct_layer {
    oct_norm attn_norm, attn_post_norm, mlp_norm, mlp_post_norm, q_norm, k_norm;
    oct_const k_scale, k_offset, v_scale, v_offset;
    oct_group qkv, o;
    oct_group gate_up, down; /* of a dense layer, or of the shared expert; n_mats 0: none */
    oct_experts experts;     /* router.n_mats 0: a dense layer */
    octet_kv_desc kv;        /* base and scale refs are filled by oct_model_kv_create */
} oct_layer;

/* Rows of one kind of intermediate, float and quantised, sized for max_rows. */
typedef struct oct_scratch {
    octet_rows x;       /* residual stream [max_rows][hidden] */
    octet_rows h;       /* normed rows, attention output or MLP inner rows: [max_rows][widest] */
    octet_rows qkv;     /* [max_rows][(n_heads + 2 n_kv_heads) * head_dim] */
    octet_rows gate_up; /* [max_rows][2 * widest inner] */
    octet_rows y;       /* what attention or MLP gave, before its norm: [max_rows][hidden] */
    octet_rows post;    /* the same after it, until the next norm adds it to x */
    octet_rows picked;  /* [max_logits][hidden] */
    octet_rows picked_h;
    octet_rows logits; /* float32 [max_logits][vocab columns of the head] */
    octet_qrows q;     /* quantised input of the next projection: [max_rows][widest] */

    /* Layers with experts; grouped rows: max_rows * n_experts_used. */
    octet_rows router;       /* float32 [max_rows][n_experts] */
    octet_rows shared_gate;  /* float32 [max_rows][1] */
    octet_rows shared;       /* [max_rows][hidden] */
    octet_ref expert, place; /* int32 [max_rows][n_experts_used] */
    octet_ref weight;        /* float32 [max_rows][n_experts_used] */
    octet_ref first;         /* int32 [n_experts + 1] */
    octet_ref row;           /* int32 [grouped rows] */
    octet_rows wide;         /* [grouped rows][2 * inner], then [hidden] */
    octet_rows inner;        /* [grouped rows][moe_intermediate] */
    octet_qrows grouped_q;   /* [grouped rows][hidden or inner] */
} oct_scratch;

/* Rotary table, float32 [max_model_len][rotary_dim]; rows are made when a position first needs
 * them, so that a long context costs nothing at start. */
typedef struct oct_rope_table {
    oct_rope_config config;
    double *frequencies; /* [rotary_dim / 2] */
    octet_buffer buffer; /* 0: there is no such table */
} oct_rope_table;

enum { OCT_MODEL_SLOTS = 2 }; /* steps that can be pending */

/* The host's side of one step. */
typedef struct oct_slot {
    unsigned char *batch, *result;
    bool batch_fast, result_fast; /* it is the device's own memory */
    octet_event *done;            /* behind the transfer of the result */
    int32_t late;                 /* an error of its that was noticed before collect */
    uint32_t n_logits, max_top;
    uint32_t n_laid; /* rows that the result is laid out for: n_logits and padding */
    bool sampled;
} oct_slot;

enum { OCT_MODEL_RECORDINGS = 64 };

/* A step that was recorded, and what must be equal in another one to be computed by it. */
typedef struct oct_recording {
    uint32_t n_rows, n_seqs, n_logits, max_seq_rows, table_stride, max_top;
    bool feed;
    octet_graph *graph; /* NULL: not recorded yet */
    uint32_t n_seen;
    uint64_t last_used; /* 0: a free entry */
} oct_recording;

struct oct_model {
    const oct_allocator *mem;
    oct_device *device;
    octet_stream *stream;
    oct_model_config config;
    oct_model_info info;
    oct_model_options options;
    const oct_arch *arch;
    char scheme_text[96];

    octet_weight embed;
    oct_group head;
    bool head_is_embed;
    oct_norm final_norm;
    /* The residual stream is held divided by the factor on what is added to it: then nothing is
     * multiplied on the way, the embedding is scaled so, and norms take eps over its square. */
    float embed_scale, eps;

    oct_rope_table rope[2]; /* [1]: of layers that slide, where they have their own */
    uint32_t n_rope_rows;   /* made so far, of each */

    oct_layer *layers; /* [config.n_layers] */

    /* Constants: staged on the host while weights are bound, then in one device buffer. */
    unsigned char *staged;
    size_t staged_len, staged_cap;
    octet_buffer constants;

    octet_buffer scratch_buffer;
    uint64_t scratch_bytes;
    oct_scratch s;

    octet_buffer kv_buffer;
    uint32_t n_blocks;
    unsigned char *shelves; /* [n_shelves][info.kv_bytes_per_block], layer by layer */
    uint32_t n_shelves;
    bool shelves_fast; /* it is the device's own memory */

    /* Batch metadata and results: one buffer each on the device, whose stream is in order, and one
     * for each of two steps on the host, which fills the next while the last is on its way. */
    octet_buffer batch_buffer, result_buffer;
    uint64_t batch_bytes, result_bytes;
    oct_slot slots[OCT_MODEL_SLOTS];
    uint32_t n_pending; /* submitted, not collected */
    uint32_t newest;    /* slot of the step that was submitted last */

    oct_recording recordings[OCT_MODEL_RECORDINGS];
    uint64_t n_recorded_steps, n_replays;

    oct_tap_fn *tap;
    void *tap_ctx;
    float *tap_rows;
    size_t tap_cap;
};

static inline octet_ref oct_const_ref(const oct_model *m, oct_const c) {
    return (octet_ref){c ? m->constants : 0, c};
}

/* bind.c: fills layers, embed, head and the staged constants from the checkpoint. */
OCT_MUST_CHECK oct_status oct_model_bind(oct_model *m, oct_checkpoint *ckpt, oct_err *err);

/* kv_choice.c: marks the layers that the list names, skip[n_layers]. */
OCT_MUST_CHECK oct_status oct_kv_skip_parse(const char *list, const oct_model_config *c,
                                            uint8_t *skip, oct_err *err);
/* kv_choice.c: the cache of the layer whose attention is called attn: *out without base and scales;
 * *src the scales that its kind needs. */
OCT_MUST_CHECK oct_status oct_kv_layer_choose(const oct_model *m, oct_scheme *scheme,
                                              oct_arena *arena, const char *attn, bool skip,
                                              oct_kv_source *src, octet_kv_desc *out, oct_err *err);
/* kv_choice.c, of a bound model: the kind of most layers; " + C8" and the like, "" for float. */
uint32_t oct_kv_most_layers(const oct_model *m);
void oct_kv_describe(const oct_model *m, char *out, size_t size);

/* forward.c: queues all operations of a step whose metadata is in batch_buffer. */
typedef struct oct_step {
    octet_batch batch;
    octet_ref tokens, logits_row;
    uint32_t n_rows, n_logits;
    bool feed, sample;
    octet_feed_op feed_op; /* refs filled by the caller, here and below */
    octet_sample_op sample_op;
} oct_step;
OCT_MUST_CHECK oct_status oct_model_forward(oct_model *m, const oct_step *step, oct_err *err);

/* capture.c. Whether the step may be recorded, and the counts that it then has: b's, padded. */
bool oct_capture_shape(const oct_model *m, const oct_model_batch *b, oct_model_batch *shape);
/* Queues the step of that shape by its recording, or records it, or calls oct_model_forward. */
OCT_MUST_CHECK oct_status oct_capture_run(oct_model *m, const oct_model_batch *shape,
                                          const oct_step *step, oct_err *err);
/* Buffers have moved: what was recorded is worth nothing. */
void oct_capture_forget(oct_model *m);

/* shelves.c */
void oct_shelves_fini(oct_model *m);

/* The input of a group: float rows where somebody reads them, and whose quantised rows are in s.q
 * (NULL: nobody's). */
typedef struct oct_input {
    octet_rows rows;
    const oct_mat *in_q;
} oct_input;
/* Whether the input rows of two matrices are quantised alike. */
bool oct_model_same_quant(const oct_mat *a, const oct_mat *b);
/* out = the group's projections of `in`; out_dtype 0: the device's act_dtype. */
OCT_MUST_CHECK oct_status oct_model_group(oct_model *m, const oct_group *g, oct_input in,
                                          octet_rows out, uint32_t n_rows, bool accumulate,
                                          uint32_t out_dtype, oct_err *err);
/* The layer's own MLP (a dense layer's, or the shared expert): out (+)= down(act(gate) * up). */
OCT_MUST_CHECK oct_status oct_model_mlp(oct_model *m, uint32_t l, oct_input in, octet_rows out,
                                        uint32_t n_rows, bool accumulate, oct_err *err);

/* experts.c: out (+)= the layer's experts, and its shared one, of `in`, whose float rows are there;
 * in.in_q is the first matrix of the experts' gate_up, if its producer quantised them. */
OCT_MUST_CHECK oct_status oct_model_experts(oct_model *m, uint32_t l, oct_input in, octet_rows out,
                                            uint32_t n_rows, bool accumulate, oct_err *err);

#endif
