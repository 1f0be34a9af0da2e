/*
 * store/checkpoint.h - a model as it lies on disk, whatever its container: a folder of safetensors
 * shards or one GGUF file. Opening it checks configuration, index, headers and table completely;
 * the bytes of the tensors are read later, tensor by tensor.
 *
 * Names are those of Hugging Face checkpoints (model.layers.0.self_attn.q_proj.weight); GGUF names
 * are mapped. Some files have the rows of q and k in pair order (GGUF's "llama", GLM-4): the
 * readers below put them into half order.
 *
 * Ownership  The object owns everything it hands out. Threads: find, consume and needs one at a
 *            time; the read functions from any thread.
 * Elsewhere  Which tensors make one projection: store/scheme.h.
 */
#ifndef OCT_STORE_CHECKPOINT_H
#define OCT_STORE_CHECKPOINT_H

#include "base/arena.h"
#include "store/config.h"
#include "store/generation_config.h"
#include "store/gguf.h"
#include "store/tensor.h"

typedef struct oct_checkpoint oct_checkpoint;

/* path: a folder or a GGUF file. OCT_E_IO: absent or unreadable; OCT_E_CORRUPT: a needed file is
 * missing or bad; OCT_E_UNSUPPORTED: only pickle weights, unknown architecture, ... (exit status 3
 * for all of them). */
OCT_MUST_CHECK oct_status oct_checkpoint_open(const oct_allocator *mem, const char *path,
                                              oct_checkpoint **out, oct_err *err);
/* The same with keys of config.json replaced by those of a JSON object; NULL: none. OCT_E_INVALID:
 * the text is no object, or the model has no config.json. */
OCT_MUST_CHECK oct_status oct_checkpoint_open_with(const oct_allocator *mem, const char *path,
                                                   const char *overrides, oct_checkpoint **out,
                                                   oct_err *err);
void oct_checkpoint_close(oct_checkpoint *c); /* accepts NULL */

const char *oct_checkpoint_path(const oct_checkpoint *c);
const oct_model_config *oct_checkpoint_config(const oct_checkpoint *c);
const oct_generation_config *oct_checkpoint_generation(const oct_checkpoint *c);
/* The GGUF file with its metadata, or NULL for a folder. */
const oct_gguf *oct_checkpoint_gguf(const oct_checkpoint *c);
/* The parsed quant_model_description.json, or NULL when there is none. */
json_t *oct_checkpoint_description(const oct_checkpoint *c);

size_t oct_checkpoint_n_tensors(const oct_checkpoint *c);
const oct_tensor *oct_checkpoint_tensor_at(const oct_checkpoint *c, size_t i);
/* NULL when absent. The file's name for it may differ: a wrapper around the text model
 * ("model.language_model."), another spelling of experts (store/checkpoint_names.c); name of the
 * result is the file's. */
const oct_tensor *oct_checkpoint_find(const oct_checkpoint *c, const char *name);
/* The name of the file that it lies in, without folders. */
const char *oct_checkpoint_file_name(const oct_checkpoint *c, const oct_tensor *t);
uint64_t oct_checkpoint_weight_bytes(const oct_checkpoint *c); /* of all tensors, as stored */
/* The opened files that hold the tensors: the shards, or the GGUF file. */
size_t oct_checkpoint_n_files(const oct_checkpoint *c);
const oct_file *oct_checkpoint_file_at(const oct_checkpoint *c, size_t i);

/* The tensor as stored (rows in half order), t->bytes into dst. */
OCT_MUST_CHECK oct_status oct_checkpoint_read_raw(const oct_checkpoint *c, const oct_tensor *t,
                                                  void *dst, oct_err *err);
/* Rows row0 .. row0 + n_rows - 1 as stored, n_rows * row_bytes into dst. */
OCT_MUST_CHECK oct_status oct_checkpoint_read_raw_rows(const oct_checkpoint *c, const oct_tensor *t,
                                                       uint64_t row0, uint64_t n_rows, void *dst,
                                                       oct_err *err);
/* The same converted to float32 [n_rows][row_elems]. dtype must be oct_dtype_is_real. */
OCT_MUST_CHECK oct_status oct_checkpoint_read_rows(const oct_checkpoint *c, const oct_tensor *t,
                                                   uint64_t row0, uint64_t n_rows, float *dst,
                                                   oct_err *err);

/* A number for these weights, the same on every machine and however they are cut into shards. It
 * covers every tensor's name, type and shape, all bytes of tensors of up to 12 KiB, and the first,
 * middle and last 4 KiB of larger ones; not what lies between, nor configuration, tokenizer or
 * template. It is no proof against a forger. */
OCT_MUST_CHECK oct_status oct_checkpoint_fingerprint(const oct_checkpoint *c, uint64_t *out,
                                                     oct_err *err);

/* The same of all bytes, for those who must not take one set of weights for another: reads them
 * all. It depends on the order of tensors in the files. */
OCT_MUST_CHECK oct_status oct_checkpoint_digest(const oct_checkpoint *c, uint64_t out[2],
                                                oct_err *err);

/* OCT_E_CORRUPT when a file was changed since open. Call it when everything was read. */
OCT_MUST_CHECK oct_status oct_checkpoint_check_unchanged(const oct_checkpoint *c, oct_err *err);

/* ---- what the model asks for, so that all that is missing is told at once (bad-input ST10) ----
 */

/* A float tensor of this shape, marked as used. When it is absent, of another shape or no float
 * type, that is noted and NULL is returned. */
const oct_tensor *oct_checkpoint_need(oct_checkpoint *c, const char *name, uint32_t rank,
                                      const uint64_t *shape);
/* The same for one dtype. */
const oct_tensor *oct_checkpoint_need_as(oct_checkpoint *c, const char *name, oct_dtype dtype,
                                         uint32_t rank, const uint64_t *shape);
/* Notes a problem in words: "NAME: REASON". */
void oct_checkpoint_note(oct_checkpoint *c, const char *fmt, ...) OCT_PRINTF(2, 3);
/* OCT_OK when nothing was noted, else OCT_E_CORRUPT with the first five and the total. */
OCT_MUST_CHECK oct_status oct_checkpoint_check_needs(const oct_checkpoint *c, oct_err *err);

/* Marks a tensor as used. */
void oct_checkpoint_consume(oct_checkpoint *c, const oct_tensor *t);
/* How many tensors nobody used; the first few names go to out (may be NULL) as "A, B, ...". */
size_t oct_checkpoint_unused(const oct_checkpoint *c, oct_buf *out);

/* A float vector [n] of finite values into arena memory. *out is NULL when it is absent: that is
 * noted unless optional. The tensor may also be called NAME with ".module." before its last part
 * (old norm tensors). */
OCT_MUST_CHECK oct_status oct_checkpoint_vector(oct_checkpoint *c, oct_arena *arena,
                                                const char *name, uint64_t n, bool optional,
                                                const float **out, oct_err *err);

#endif
