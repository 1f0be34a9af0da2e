/*
 * embed/open.h - from the words of options (a device's name, a type of cache, a path) to an opened
 * device, checkpoint, tokenizer and model: what a program does before it can compute anything. The
 * commands of octet and the library open models through here.
 *
 * Ownership  Strings are borrowed for the call; what is opened belongs to the caller.
 * Threads    Any, each call on its own.
 */
#ifndef OCT_EMBED_OPEN_H
#define OCT_EMBED_OPEN_H

#include "device/device.h"
#include "model/model.h"
#include "store/checkpoint.h"
#include "text/tokenizer.h"

/* As the flags of these names; NULL and 0 mean their defaults. */
typedef struct oct_open_options {
    const char *device, *settings; /* settings of the device: "KEY=VALUE,..." */
    const char *quantization, *kv_cache_dtype, *kv_skip_layers;
    const char *load_format, *hf_overrides, *tokenizer;
    uint64_t seed;
    uint32_t n_threads, max_model_len, block_size;
    bool unbound, strict;
    oct_overlap overlap;
} oct_open_options;

/* The checkpoint: files, or what load format "dummy" makes up. OCT_E_INVALID: the options do not
 * fit what is there. */
OCT_MUST_CHECK oct_status oct_open_weights(const oct_open_options *o, const char *path,
                                           oct_checkpoint **out, oct_err *err);
/* The tokenizer of a folder or a GGUF file. */
OCT_MUST_CHECK oct_status oct_open_tokenizer(const char *path, oct_tokenizer **out, oct_err *err);
/* The one that belongs to a checkpoint; *out NULL and OCT_OK when its folder has none. */
OCT_MUST_CHECK oct_status oct_open_own_tokenizer(const oct_open_options *o,
                                                 const oct_checkpoint *ckpt, oct_tokenizer **out,
                                                 oct_err *err);
OCT_MUST_CHECK oct_status oct_open_device(const oct_open_options *o, oct_device **out,
                                          oct_err *err);
/* What the options say of a model, into *mo; what they leave open stays. The strings of *mo are
 * those of *o. */
OCT_MUST_CHECK oct_status oct_open_model_options(const oct_open_options *o, oct_model_options *mo,
                                                 oct_err *err);
enum { OCT_OPEN_MAX_EOS = 2 * OCT_MAX_EOS };
/* The ids that end an answer, the model's own first; returns how many. tokenizer may be NULL. */
uint32_t oct_open_eos(const oct_checkpoint *ckpt, const oct_tokenizer *tokenizer,
                      int32_t out[OCT_OPEN_MAX_EOS]);

#endif
