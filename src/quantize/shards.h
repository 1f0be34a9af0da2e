/*
 * quantize/shards.h - tensors into one .safetensors file, or into several of bounded size with an
 * index beside them: NAME.safetensors, or NAME-00001-of-00003.safetensors and so on with
 * NAME.safetensors.index.json, which appears last.
 *
 * Declare all, begin, give each its bytes in any order, finish. Tensors go to files in the order
 * in which they are declared, so that what is declared together lies together.
 *
 * Threads: one.
 */
#ifndef OCT_QUANTIZE_SHARDS_H
#define OCT_QUANTIZE_SHARDS_H

#include "base/alloc.h"
#include "base/status.h"
#include "store/tensor.h"

typedef struct oct_shards oct_shards;

/* most: bytes of tensors in one file; 0: no bound. A tensor larger than that has its own file. */
OCT_MUST_CHECK oct_status oct_shards_create(const oct_allocator *mem, uint64_t most,
                                            oct_shards **out, oct_err *err);
/* Removes what is not finished. Accepts NULL. */
void oct_shards_destroy(oct_shards *s);

OCT_MUST_CHECK oct_status oct_shards_add(oct_shards *s, oct_str name, oct_dtype dtype,
                                         uint32_t rank, const uint64_t *shape, oct_err *err);
/* stem: the name of the files without its tail. OCT_E_INVALID: the folder holds weights that are
 * not replaced by these files, so that a reader might take them instead. */
OCT_MUST_CHECK oct_status oct_shards_begin(oct_shards *s, const char *folder, const char *stem,
                                           oct_err *err);
OCT_MUST_CHECK oct_status oct_shards_write(oct_shards *s, oct_str name, uint64_t offset,
                                           const void *data, uint64_t bytes, oct_err *err);
OCT_MUST_CHECK oct_status oct_shards_finish(oct_shards *s, oct_err *err);

uint32_t oct_shards_count(const oct_shards *s);
uint64_t oct_shards_bytes(const oct_shards *s); /* of all files; after begin */

#endif
