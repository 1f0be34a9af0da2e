/*
 * embed/keep.h - what keeps blocks beyond the KV cache: shelves in host memory, and a folder that
 * outlives the process (kvstore/). The commands of octet and the library set them up through here.
 *
 * Ownership  Strings are borrowed for the call. The shelves are the model's; the store belongs to
 *            the caller, who closes it when the engine that uses it is destroyed.
 * Threads    One, and before an engine runs on the model.
 */
#ifndef OCT_EMBED_KEEP_H
#define OCT_EMBED_KEEP_H

#include "device/device.h"
#include "kvstore/kvstore.h"
#include "model/model.h"
#include "store/checkpoint.h"

typedef struct oct_keep_options {
    uint64_t offload_bytes; /* of host memory; 0: none, or with a folder as much as that needs */
    const char *store;      /* the folder; NULL: none */
    uint64_t store_bytes;   /* most of all its files */
} oct_keep_options;

/* Chooses how many shelves there are and makes them; *n_out 0: none are wanted. The model has its
 * cache, of n_blocks. OCT_E_INVALID: less than a block. */
OCT_MUST_CHECK oct_status oct_keep_shelves(oct_model *m, const oct_keep_options *o,
                                           uint32_t n_blocks, uint32_t *n_out, oct_err *err);
/* Opens the folder, if there is one, behind the shelves; *out NULL and OCT_OK without. Computes a
 * block of text to know whose blocks these are. OCT_E_INVALID: it is no folder. */
OCT_MUST_CHECK oct_status oct_keep_open(oct_model *m, const oct_checkpoint *ckpt,
                                        const oct_device *device, const oct_keep_options *o,
                                        uint32_t n_blocks, oct_kvstore **out, oct_err *err);

#endif
