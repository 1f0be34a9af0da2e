/*
 * quantize/folder.h - the folder around the weights: configuration, generation defaults, tokenizer
 * files.
 *
 * Threads: one.
 */
#ifndef OCT_QUANTIZE_FOLDER_H
#define OCT_QUANTIZE_FOLDER_H

#include <jansson.h>

#include "store/checkpoint.h"
#include "text/tokenizer.h"

/* Makes the folder if it is not there. OCT_E_INVALID: it is the source itself, or not a folder, or
 * holds a description that would be taken for one of the result. OCT_E_IO: it cannot be written to.
 * description: the name of the one that will be written, or NULL. */
OCT_MUST_CHECK oct_status oct_folder_make(const char *out, const char *source,
                                          const char *description, oct_err *err);

/* config.json: the source's own, or one made from GGUF metadata, with this quantization_config
 * (NULL: none); own_head: lm_head.weight is written, so embeddings are not tied any more.
 * generation_config.json and the tokenizer's files likewise. tokenizer may be NULL. */
OCT_MUST_CHECK oct_status oct_folder_write(const oct_allocator *mem, const oct_checkpoint *ckpt,
                                           const oct_tokenizer *tokenizer, const char *out,
                                           bool own_head, json_t *quantization_config,
                                           oct_err *err);

/* A JSON file, whole or not at all. value NULL: there was no memory for it, which is the status. */
OCT_MUST_CHECK oct_status oct_folder_write_json(const oct_allocator *mem, const json_t *value,
                                                const char *folder, const char *name, oct_err *err);

/* folder_config.c: config.json of a model whose metadata is GGUF's; own_head: not tied, whatever
 * the source says. NULL: no memory. */
json_t *oct_folder_config(const oct_model_config *c, bool own_head);
/* eos_token_id: a number, or a list of several. */
json_t *oct_folder_eos(const oct_model_config *c);
/* Whether config.json has a way to say this rotary embedding. */
bool oct_folder_can_say_rope(const oct_rope_config *r);

#endif
