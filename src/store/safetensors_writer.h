/*
 * store/safetensors_writer.h - writes one .safetensors file: declare all tensors, begin, give each
 * its bytes in any order, finish. The file appears under its name only when it is complete (a
 * temporary file beside it is renamed), so a reader never sees half of it.
 *
 * Layout as the reference writer makes it: header padded to 8 bytes with spaces, tensors by
 * descending element size, then name; so every tensor is aligned.
 *
 * Threads    One at a time.
 */
#ifndef OCT_STORE_SAFETENSORS_WRITER_H
#define OCT_STORE_SAFETENSORS_WRITER_H

#include "base/alloc.h"
#include "base/status.h"
#include "store/tensor.h"

typedef struct oct_safetensors_writer oct_safetensors_writer;

OCT_MUST_CHECK oct_status oct_safetensors_writer_create(const oct_allocator *mem,
                                                        oct_safetensors_writer **out, oct_err *err);
/* Removes the temporary file unless finish succeeded. Accepts NULL. */
void oct_safetensors_writer_destroy(oct_safetensors_writer *w);

/* Before begin. The name is copied. OCT_E_INVALID: a name twice, a bad shape, a block type. */
OCT_MUST_CHECK oct_status oct_safetensors_writer_add(oct_safetensors_writer *w, oct_str name,
                                                     oct_dtype dtype, uint32_t rank,
                                                     const uint64_t *shape, oct_err *err);
/* Before begin: one entry of "__metadata__". */
OCT_MUST_CHECK oct_status oct_safetensors_writer_meta(oct_safetensors_writer *w, oct_str key,
                                                      oct_str value, oct_err *err);
/* Creates the temporary file and writes the header. */
OCT_MUST_CHECK oct_status oct_safetensors_writer_begin(oct_safetensors_writer *w, const char *path,
                                                       oct_err *err);
/* bytes of the tensor from offset (bytes within it). Pieces must not overlap. */
OCT_MUST_CHECK oct_status oct_safetensors_writer_write(oct_safetensors_writer *w, oct_str name,
                                                       uint64_t offset, const void *data,
                                                       uint64_t bytes, oct_err *err);
/* OCT_E_INVALID names a tensor that did not get all its bytes. Else flush and rename. */
OCT_MUST_CHECK oct_status oct_safetensors_writer_finish(oct_safetensors_writer *w, oct_err *err);
/* Bytes of the finished file; 0 before begin. */
uint64_t oct_safetensors_writer_file_bytes(const oct_safetensors_writer *w);

#endif
