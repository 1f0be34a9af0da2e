/*
 * store/safetensors.h - one .safetensors file: an 8-byte length, a JSON header, then data covered
 * exactly once. Everything is checked in open; there is no way around it (bad-input ST).
 *
 * Ownership  The object owns the open file and the table. Tensors and names live as long.
 * Threads    After open, everything const may be called from any thread.
 * Elsewhere  Several files as one model: store/checkpoint.h. Writing: store/safetensors_writer.h.
 */
#ifndef OCT_STORE_SAFETENSORS_H
#define OCT_STORE_SAFETENSORS_H

#include "base/alloc.h"
#include "base/status.h"
#include "store/file.h"
#include "store/tensor.h"

typedef struct oct_safetensors oct_safetensors;

enum { OCT_SAFETENSORS_MAX_HEADER = 100000000 };

/* OCT_E_CORRUPT or OCT_E_UNSUPPORTED: "FILE: tensor NAME: REASON". OCT_E_IO as oct_file_open. */
OCT_MUST_CHECK oct_status oct_safetensors_open(const oct_allocator *mem, const char *path,
                                               oct_safetensors **out, oct_err *err);
void oct_safetensors_close(oct_safetensors *st); /* accepts NULL */

size_t oct_safetensors_n(const oct_safetensors *st);
/* In the order of their bytes. i < n. */
const oct_tensor *oct_safetensors_at(const oct_safetensors *st, size_t i);
/* NULL when absent. */
const oct_tensor *oct_safetensors_find(const oct_safetensors *st, oct_str name);
const oct_file *oct_safetensors_file(const oct_safetensors *st);

/* The whole tensor as stored, t->bytes into dst. */
OCT_MUST_CHECK oct_status oct_safetensors_read(const oct_safetensors *st, const oct_tensor *t,
                                               void *dst, oct_err *err);

#endif
