/*
 * text/tokenizer.h - text to token ids and back, as a model's own files describe it.
 *
 * Two kinds of vocabulary: byte-level BPE (GPT-2, Llama-3, Qwen, SmolLM2, DeepSeek, Tekken, ...)
 * and SentencePiece-style BPE with byte fallback (Llama-2, Mistral v0.1 to v0.3). A part that is
 * not known (model, normalizer, pre-tokenizer, decoder) is refused by name with OCT_E_UNSUPPORTED;
 * a file that contradicts itself is OCT_E_CORRUPT. Time and memory are linear in the text, apart
 * from a logarithm in very long words.
 *
 * Ownership  All strings that are returned live as long as the tokenizer.
 * Threads    Immutable: any number of threads may use one at a time.
 * Elsewhere  Streaming text: text/detokenizer.h. Stop strings: text/stop.h. Chat templates are kept
 *            here as source text only and compiled by text/template.h.
 */
#ifndef OCT_TEXT_TOKENIZER_H
#define OCT_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"
#include "text/ids.h"

enum {
    OCT_TOKENIZER_MAX_VOCAB = 1 << 22,  /* ids are below this; real ones end below 300,000 */
    OCT_TOKENIZER_MAX_MERGES = 1 << 22, /* bad-input, default limits */
    OCT_TOKENIZER_MAX_ADDED = 65536,
    OCT_TOKENIZER_MAX_TOKEN_BYTES = 4096,
};

typedef struct oct_tokenizer oct_tokenizer;

/* Flags of oct_tokenizer_encode. */
enum {
    OCT_ENCODE_ADD_SPECIAL = 1,   /* what the post-processor adds: a BOS, for instance */
    OCT_ENCODE_PARSE_SPECIAL = 2, /* text that spells a special token becomes that token; without
                                     it such text is ordinary text */
};

/* A vocabulary as a GGUF file holds it; all pointers are borrowed for the call. */
typedef struct oct_vocab_desc {
    oct_str model; /* tokenizer.ggml.model: "gpt2" (byte-level) or "llama" (SentencePiece) */
    oct_str pre;   /* tokenizer.ggml.pre, empty when absent; only used with "gpt2" */
    const oct_str *tokens; /* [n_tokens], the id is the index */
    size_t n_tokens;
    const oct_str *merges; /* [n_merges] "left right"; "gpt2" only */
    size_t n_merges;
    const int32_t *types; /* [n_tokens] 1 normal 2 unknown 3 control 4 user-defined 5 unused 6 byte;
                             NULL: all normal */
    const float *scores;  /* [n_tokens]; needed by "llama", else NULL */
    int64_t bos_id, eos_id, unk_id, pad_id; /* -1: absent */
    int add_bos, add_eos, add_space_prefix; /* 0, 1, or -1: absent (the format's default) */
    oct_str chat_template;                  /* .ptr NULL: absent */
} oct_vocab_desc;

/* Reads FOLDER/tokenizer.json, and when present tokenizer_config.json, special_tokens_map.json and
 * chat_template.jinja. On failure *out is NULL. OCT_E_IO, CORRUPT, UNSUPPORTED, NOMEM. */
OCT_MUST_CHECK oct_status oct_tokenizer_open(const oct_allocator *mem, const char *folder,
                                             oct_tokenizer **out, oct_err *err);

/* The same from bytes in memory. config and chat_template may have .ptr NULL. */
OCT_MUST_CHECK oct_status oct_tokenizer_parse(const oct_allocator *mem, oct_str tokenizer_json,
                                              oct_str config_json, oct_str chat_template,
                                              oct_tokenizer **out, oct_err *err);

/* From a GGUF vocabulary. An unknown model or pre name is refused by name. */
OCT_MUST_CHECK oct_status oct_tokenizer_create(const oct_allocator *mem, const oct_vocab_desc *desc,
                                               oct_tokenizer **out, oct_err *err);

void oct_tokenizer_destroy(oct_tokenizer *tok); /* accepts NULL */

/* Appends the ids of text to *out. OCT_E_INVALID: not UTF-8, or 2 GiB and more; OCT_E_FULL: a
 * pattern of the model's own went over its match limit; OCT_E_NOMEM. After a failure *out may hold
 * a part. NUL, BOM and unassigned code points are ordinary text. */
OCT_MUST_CHECK oct_status oct_tokenizer_encode(const oct_tokenizer *tok, oct_str text,
                                               unsigned flags, oct_ids *out, oct_err *err);

/* Appends the text of n ids: valid UTF-8, broken sequences as U+FFFD. Ids without text (gaps,
 * padding rows, negative ones) give nothing. The only failure is memory (out->failed). */
void oct_tokenizer_decode(const oct_tokenizer *tok, const int32_t *ids, size_t n, bool skip_special,
                          oct_buf *out);

/* The bytes that a token stands for; not necessarily UTF-8. Empty for an id without text. For a
 * SentencePiece vocabulary the blank mark is a blank here. */
oct_str oct_tokenizer_token_bytes(const oct_tokenizer *tok, int32_t id);
/* Appends the token as the vocabulary spells it ("Ġthe", "▁the", "<0x0A>"). */
void oct_tokenizer_token_spelling(const oct_tokenizer *tok, int32_t id, oct_buf *out);
/* The id of a token spelled as in the vocabulary or the added tokens, or -1. */
int32_t oct_tokenizer_find(const oct_tokenizer *tok, oct_str spelling);

int32_t oct_tokenizer_n_vocab(const oct_tokenizer *tok); /* largest id + 1 */
bool oct_tokenizer_is_special(const oct_tokenizer *tok, int32_t id);
/* True for ids that have an entry; false for gaps and beyond n_vocab. */
bool oct_tokenizer_has(const oct_tokenizer *tok, int32_t id);
/* Bytes of the longest token: no text of n tokens is longer than n times this (bad-input TK10). */
size_t oct_tokenizer_max_token_bytes(const oct_tokenizer *tok);
/* OCT_E_CORRUPT when a token has an id that n_rows embedding rows do not hold. */
OCT_MUST_CHECK oct_status oct_tokenizer_check_rows(const oct_tokenizer *tok, uint64_t n_rows,
                                                   oct_err *err);

/* -1 and "" when the model has none. */
int32_t oct_tokenizer_eos(const oct_tokenizer *tok);
oct_str oct_tokenizer_bos_text(const oct_tokenizer *tok);
oct_str oct_tokenizer_eos_text(const oct_tokenizer *tok);
oct_str oct_tokenizer_pad_text(const oct_tokenizer *tok);
oct_str oct_tokenizer_unk_text(const oct_tokenizer *tok);

/* Chat template sources. A model may have several, by name ("default", "tool_use", "rag"). name
 * NULL means "default". .ptr is NULL when there is none. chat_template.jinja wins over the config.
 */
oct_str oct_tokenizer_chat_template(const oct_tokenizer *tok, const char *name);

/* Writes FOLDER/tokenizer.json and FOLDER/tokenizer_config.json in the layout that other engines
 * read, with the same ids. For a tokenizer that was created from a GGUF vocabulary; one that was
 * opened from a folder has its files to copy (OCT_E_INVALID). Each file appears whole or not. */
OCT_MUST_CHECK oct_status oct_tokenizer_write_json(const oct_tokenizer *tok, const char *folder,
                                                   oct_err *err);

#endif
