/*
 * text/tokenizer_priv.h - what a tokenizer is made of, for the files that build, use and write one.
 */
#ifndef OCT_TEXT_TOKENIZER_PRIV_H
#define OCT_TEXT_TOKENIZER_PRIV_H

#include <jansson.h>

#include "base/arena.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/normalize.h"
#include "text/pretok.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

enum {
    OCT_TOK_MAX_NORMS = 8,
    OCT_TOK_MAX_AFFIX = 16, /* ids that a post-processor puts on one side */
    OCT_TOK_MAX_REPLACES = 4,
    OCT_TOK_MAX_TEMPLATES = 16,
};

enum {
    OCT_ADDED_SINGLE_WORD = 1,
    OCT_ADDED_LSTRIP = 2,
    OCT_ADDED_RSTRIP = 4,
    OCT_ADDED_NORMALIZED = 8
};

typedef struct oct_added_token {
    int32_t id;
    uint8_t rules; /* OCT_ADDED_... */
} oct_added_token;

typedef enum oct_prepend { OCT_PREPEND_NEVER, OCT_PREPEND_FIRST, OCT_PREPEND_ALWAYS } oct_prepend;

typedef struct oct_special_name {
    int32_t id; /* -1: none, or not in the vocabulary */
    oct_str text;
} oct_special_name;

typedef struct oct_named_template {
    oct_str name, source;
} oct_named_template;

struct oct_tokenizer {
    const oct_allocator *mem;
    oct_arena arena; /* strings of the parts below */
    oct_vocab vocab;
    oct_bpe_model bpe;

    oct_added_token *added; /* [n_added]; the tries' values are indices here */
    size_t n_added, cap_added;
    oct_trie trie_raw, trie_normal;

    oct_norm_step norms[OCT_TOK_MAX_NORMS];
    size_t n_norms;

    /* Before the stages: blanks become space_mark (when not empty), and a mark or blank goes in
     * front of a piece that does not begin with one. */
    oct_str space_mark;
    oct_prepend prepend;
    oct_pretok pretok;

    int32_t prefix[OCT_TOK_MAX_AFFIX], suffix[OCT_TOK_MAX_AFFIX];
    size_t n_prefix, n_suffix;

    oct_norm_step replaces[OCT_TOK_MAX_REPLACES]; /* decoder, a token at a time */
    size_t n_replaces;
    uint8_t n_strip;   /* decoder: blanks dropped at the very start */
    bool strip_token;  /* with n_strip: all blanks that lead the first token, none behind it */
    bool decode_bytes; /* decoder: "<0xNN>" is a byte */
    size_t max_token_bytes;

    oct_special_name bos, eos, pad, unk;
    oct_named_template templates[OCT_TOK_MAX_TEMPLATES];
    size_t n_templates;
    bool from_gguf;
    bool add_bos, add_eos; /* from_gguf: for the files that are written */
};

/* An empty tokenizer. */
OCT_MUST_CHECK oct_status oct_tok_new(const oct_allocator *mem, oct_tokenizer **out, oct_err *err);
/* A copy of s that lives as long as the tokenizer. */
OCT_MUST_CHECK oct_status oct_tok_keep(oct_tokenizer *tok, oct_str s, oct_str *out, oct_err *err);
/* Puts a model token: spell is the file's UTF-8; a byte-level vocabulary keeps its bytes. */
OCT_MUST_CHECK oct_status oct_tok_put_model(oct_tokenizer *tok, int64_t id, oct_str spell,
                                            oct_buf *scratch, oct_err *err);
/* Puts an added token; one with the same id and content may be in the model already. */
OCT_MUST_CHECK oct_status oct_tok_put_added(oct_tokenizer *tok, int64_t id, oct_str content,
                                            bool special, uint8_t rules, oct_err *err);
/* The last step of building: byte tokens, decoded texts, tries, sizes. */
OCT_MUST_CHECK oct_status oct_tok_finish(oct_tokenizer *tok, oct_err *err);
OCT_MUST_CHECK oct_status oct_tok_add_template(oct_tokenizer *tok, oct_str name, oct_str source,
                                               oct_err *err);

/* Parts of tokenizer.json (tokenizer_parts.c); part may be NULL (absent) or a JSON null. */
OCT_MUST_CHECK oct_status oct_tok_read_normalizer(oct_tokenizer *tok, const json_t *part,
                                                  oct_err *err);
OCT_MUST_CHECK oct_status oct_tok_read_pre(oct_tokenizer *tok, const json_t *part, oct_err *err);
OCT_MUST_CHECK oct_status oct_tok_read_decoder(oct_tokenizer *tok, const json_t *part,
                                               oct_err *err);
OCT_MUST_CHECK oct_status oct_tok_read_post(oct_tokenizer *tok, const json_t *part, oct_err *err);
OCT_MUST_CHECK oct_status oct_tok_read_added(oct_tokenizer *tok, const json_t *part, oct_err *err);
/* tokenizer_config.json and special_tokens_map.json; either may be NULL. */
OCT_MUST_CHECK oct_status oct_tok_read_config(oct_tokenizer *tok, const json_t *config,
                                              const json_t *special_map, oct_err *err);

#endif
