/*
 * quantize/layout.h - the folder around the weights, as ModelSlim V1 leaves it: description,
 * configuration, generation defaults, tokenizer files.
 *
 * Threads: one.
 */
#ifndef OCT_QUANTIZE_LAYOUT_H
#define OCT_QUANTIZE_LAYOUT_H

#include <jansson.h>

#include "store/checkpoint.h"
#include "text/tokenizer.h"

#define OCT_LAYOUT_WEIGHTS "quant_model_weights.safetensors"
#define OCT_LAYOUT_DESCRIPTION "quant_model_description.json"

/* Makes the folder if it is not there. OCT_E_INVALID: it is the source itself, or not a folder. */
OCT_MUST_CHECK oct_status oct_layout_make_folder(const char *out, const char *source, oct_err *err);

/* config.json: the source's own without quantization_config, or one made from GGUF metadata;
 * own_head: lm_head.weight is written, so embeddings are not tied any more. generation_config.json
 * and the tokenizer's files likewise. tokenizer may be NULL. */
OCT_MUST_CHECK oct_status oct_layout_write(const oct_allocator *mem, const oct_checkpoint *ckpt,
                                           const oct_tokenizer *tokenizer, const char *out,
                                           bool own_head, oct_err *err);

/* A JSON file, whole or not at all. */
OCT_MUST_CHECK oct_status oct_layout_write_json(const oct_allocator *mem, const json_t *value,
                                                const char *folder, const char *name, oct_err *err);

#endif
