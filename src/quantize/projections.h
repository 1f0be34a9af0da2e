/*
 * quantize/projections.h - the matrices of a checkpoint that become int8: attention, dense MLPs,
 * and of layers with experts every expert and the shared one. The router stays float.
 *
 * Ownership  fini frees what find allocated; tensors are the checkpoint's. Threads: one.
 */
#ifndef OCT_QUANTIZE_PROJECTIONS_H
#define OCT_QUANTIZE_PROJECTIONS_H

#include "quantize/calibrate.h"
#include "store/checkpoint.h"

/* Projections of a layer, whatever their names. */
enum { OCT_P_Q, OCT_P_K, OCT_P_V, OCT_P_O, OCT_P_GATE, OCT_P_UP, OCT_P_DOWN, OCT_N_PROJECTIONS };

typedef struct oct_projection {
    uint32_t layer;
    int p; /* OCT_P_... */
    /* OCT_IN_...: what it reads. -1: rows that only the experts of a layer see; they are not
     * watched, so that these keep a scale for each row and are not smoothed. */
    int in;
    bool is_expert;
    const oct_tensor *weight; /* float [n, k] */
    const oct_tensor *bias;   /* float [n] or NULL */
    uint64_t n, k;
} oct_projection;

typedef struct oct_projection_list {
    const oct_allocator *mem;
    oct_projection *v; /* by layer; q, k, v, o first */
    size_t n, cap;
    size_t *first; /* [n_layers + 1] the first one of a layer */
    uint32_t n_layers;
    const oct_tensor **owned; /* all their tensors, by address */
    size_t n_owned;
} oct_projection_list;

/* OCT_E_CORRUPT names a projection that is missing, misshapen or not float. */
OCT_MUST_CHECK oct_status oct_projections_find(oct_projection_list *l, const oct_allocator *mem,
                                               const oct_checkpoint *ckpt, oct_err *err);
void oct_projections_fini(oct_projection_list *l); /* accepts a zeroed one */

/* "tensor NAME: got ..., want float [n, k]"; k 0: a vector. */
oct_status oct_projection_misfit(const oct_allocator *mem, const oct_tensor *t, uint64_t n,
                                 uint64_t k, oct_err *err);

/* Whether t is the weight or bias of a projection. */
bool oct_projections_own(const oct_projection_list *l, const oct_tensor *t);

#endif
