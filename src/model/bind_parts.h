/*
 * model/bind_parts.h - what the files that bind a checkpoint share; private to them.
 *
 * bind.c: vectors, matrices, groups, the cache, both ends of the model. bind_layer.c: a layer of
 * any family, and its experts. bind_rows.c: rows from the checkpoint into a matrix.
 */
#ifndef OCT_MODEL_BIND_PARTS_H
#define OCT_MODEL_BIND_PARTS_H

#include "base/arena.h"
#include "model/parts.h"
#include "store/scheme.h"

enum { OCT_BIND_NAME = 192 }; /* room for a tensor's name */

typedef struct oct_binder {
    oct_model *m;
    oct_checkpoint *ckpt;
    oct_scheme *scheme;
    oct_arena arena;      /* vectors of the projections at hand */
    unsigned char *piece; /* rows on their way to a device that does not ask for them */
    size_t piece_bytes;
    uint64_t done, total;
    const char *first_label;
    bool mixed_labels;
    uint8_t kv_skip[OCT_MAX_LAYERS]; /* layers whose cache stays float */
} oct_binder;

/* b->scheme as the options want it. */
OCT_MUST_CHECK oct_status oct_bind_open_scheme(oct_binder *b, oct_err *err);
/* Whether the head is a matrix of its own in the checkpoint, not the embedding once more. */
bool oct_bind_own_head(const oct_binder *b);

/* Values to the constants; absent for NULL. */
OCT_MUST_CHECK oct_status oct_bind_stage(oct_binder *b, const float *values, size_t count,
                                         oct_const *out, oct_err *err);
/* A small vector by its whole name. */
OCT_MUST_CHECK oct_status oct_bind_vector(oct_binder *b, const char *name, uint64_t n,
                                          bool optional, oct_const *out, oct_err *err);
/* name.weight, which must be there, and name.bias if there is one; the family's 1 added to the
 * weight, both times factor. */
OCT_MUST_CHECK oct_status oct_bind_norm(oct_binder *b, const char *name, uint64_t n, double factor,
                                        oct_norm *out, oct_err *err);

/* What follows the user's wish to quantise on load, and what stays as it is stored whatever that
 * says: what is looked up, and what is small and decisive. */
typedef enum oct_bind_wish { OCT_BIND_AS_WISHED, OCT_BIND_AS_STORED } oct_bind_wish;

/* OCTET_... storage on the device of a source; *quant: OCTET_QUANT_..., how its input is made. */
uint32_t oct_bind_storage(const oct_binder *b, const oct_linear_source *src, oct_bind_wish wish,
                          uint32_t *quant);
size_t oct_bind_element(uint32_t dtype); /* bytes */
/* Whether two sources can share a matrix. */
bool oct_bind_alike(const oct_binder *b, const oct_linear_source *x, const oct_linear_source *y,
                    oct_bind_wish wish);
/* Keeps in mind how projections are stored, for people. */
void oct_bind_label(oct_binder *b, const char *label);

/* Adjacent projections of one input. When one is missing, that is noted and the group is empty. */
OCT_MUST_CHECK oct_status oct_bind_group(oct_binder *b, const char *prefix,
                                         const oct_arch_projection *p, uint32_t n_p,
                                         oct_bind_wish wish, oct_group *g, oct_err *err);
OCT_MUST_CHECK oct_status oct_bind_kv(oct_binder *b, uint32_t l, const char *prefix,
                                      oct_layer *layer, oct_err *err);

/* bind_rows.c: the sources of one weight, one under the other in the order in which they are added.
 * Memory of the arena. */
typedef struct oct_bind_rows {
    uint32_t dtype; /* OCTET_... of the weight */
    uint64_t n, k;  /* rows of all sources */
    size_t n_sources;
    const oct_linear_source **source; /* [n_sources] */
    uint64_t *first;                  /* [n_sources] its first row */
} oct_bind_rows;
OCT_MUST_CHECK oct_status oct_bind_rows_init(oct_binder *b, oct_bind_rows *rows, uint32_t dtype,
                                             uint64_t k, size_t max_sources, oct_err *err);
void oct_bind_rows_add(oct_bind_rows *rows, const oct_linear_source *source);
/* mat->weight, made on the device and filled. n_experts: 0, or those of the layer. */
OCT_MUST_CHECK oct_status oct_bind_weight(oct_binder *b, const oct_bind_rows *rows,
                                          uint32_t n_experts, oct_mat *mat, oct_err *err);
/* Stored in eight bits, but meant for float activations here: FP8, and INT8 weights alone. */
bool oct_bind_is_narrow(const oct_linear_source *src);

/* bind_layer.c */
OCT_MUST_CHECK oct_status oct_bind_layer(oct_binder *b, uint32_t l, oct_err *err);

#endif
