/*
 * model/survey.h - what a checkpoint would be as a model on a device, found out without loading it:
 * how each projection is stored, bytes in the file and on the device, bytes of cache a token, and
 * everything that is refused. Weights are not read; scales and norms are, and checked.
 *
 * Ownership  The survey owns what it points to, but for labels (static or the checkpoint's). It
 *            borrows nothing else once made.
 * Threads    One at a time.
 */
#ifndef OCT_MODEL_SURVEY_H
#define OCT_MODEL_SURVEY_H

#include "model/model.h"

/* One projection, or the same projection of all experts of a layer. */
typedef struct oct_survey_part {
    const char *name;  /* "self_attn.q_proj", "mlp.experts.*.up_proj", "lm_head" */
    const char *label; /* "W8A8_DYNAMIC"; of floats the type: "BF16"; "?" when it cannot be read */
} oct_survey_part;

enum { OCT_SURVEY_PARTS = 16 };

typedef struct oct_survey_layer {
    oct_survey_part part[OCT_SURVEY_PARTS];
    uint32_t n_parts;
    bool has_experts;
    const char *kv;          /* "int8_per_channel"; "" outside of the layers or when refused */
    uint64_t n_parameters;   /* of weights and biases as the family has them */
    uint64_t stored_bytes;   /* of all tensors of the layer, scales and norms too */
    uint64_t device_bytes;   /* of matrices */
    uint64_t kv_block_bytes; /* 0: refused */
} oct_survey_layer;

enum { OCT_SURVEY_REFUSALS = 32 };

typedef struct oct_survey {
    const oct_allocator *mem;
    oct_arena arena;
    const char *scheme; /* "ascend", "float", ...; "refused" when no scheme can be had */
    uint32_t n_layers;
    oct_survey_layer *layers;        /* [n_layers + 1]; the last one: embedding and head */
    uint64_t n_parameters, n_active; /* all, and those that one token uses */
    uint64_t stored_bytes, device_bytes;
    uint32_t block_tokens;
    uint64_t kv_block_bytes; /* all layers */
    bool own_head;
    size_t n_unused;    /* tensors that nobody asked for */
    const char *unused; /* names of the first few */
    /* Why it would not be served, in the order of finding; the first OCT_SURVEY_REFUSALS. */
    struct {
        oct_status status;
        const char *text;
    } refused[OCT_SURVEY_REFUSALS];
    size_t n_refused;
    bool no_memory; /* for one of the above, or to look: what was found is not all */
} oct_survey;

/* options: quant, kv, kv_skip_layers, scheme, strict, block_tokens. What is wrong with the
 * checkpoint is in the result, not a failure; OCT_E_NOMEM is one, and OCT_E_INVALID for a bad
 * option. */
OCT_MUST_CHECK oct_status oct_survey_create(const oct_allocator *mem, oct_device *device,
                                            oct_checkpoint *ckpt, const oct_model_options *options,
                                            oct_survey **out, oct_err *err);
void oct_survey_destroy(oct_survey *s); /* accepts NULL */

/* Notes one more reason, found by the caller; OCT_E_NOMEM is none and sets no_memory. */
void oct_survey_refuse(oct_survey *s, oct_status status, const char *text);

/* "W8A8_DYNAMIC, mlp.down_proj BF16": the most frequent label and what differs; routers in float go
 * without saying. Into out, cut to size. */
void oct_survey_layer_text(const oct_survey_layer *layer, char *out, size_t size);
/* Whether two layers are stored alike, sizes aside. */
bool oct_survey_layer_alike(const oct_survey_layer *a, const oct_survey_layer *b);

/* What weights and cache leave room for in so much memory. */
typedef struct oct_survey_room {
    bool weights_fit;
    uint64_t tokens;    /* of cache beside the weights, in whole blocks */
    uint64_t sequences; /* of seq_tokens each */
} oct_survey_room;
oct_survey_room oct_survey_fit(const oct_survey *s, uint64_t memory_bytes, uint64_t seq_tokens);

#endif
