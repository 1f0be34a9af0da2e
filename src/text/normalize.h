/*
 * text/normalize.h - the normalizer part of a tokenizer: Unicode normal forms, Prepend, Replace.
 * Internal to text.
 */
#ifndef OCT_TEXT_NORMALIZE_H
#define OCT_TEXT_NORMALIZE_H

#include "base/buf.h"
#include "base/status.h"

typedef enum oct_norm_kind {
    OCT_NORM_NFC,
    OCT_NORM_NFD,
    OCT_NORM_NFKC,
    OCT_NORM_NFKD,
    OCT_NORM_PREPEND, /* content before a text that is not empty */
    OCT_NORM_REPLACE, /* every occurrence of pattern by content */
} oct_norm_kind;

typedef struct oct_norm_step {
    oct_norm_kind kind;
    oct_str pattern, content;
} oct_norm_step;

/* Two buffers that the steps write in turn; zeroed and given mem before the first use. */
typedef struct oct_norm_scratch {
    oct_buf a, b;
} oct_norm_scratch;

/* *out is in itself when nothing changed, else a view of the scratch that lives until the next
 * call. in is valid UTF-8. OCT_E_NOMEM is the only failure. */
OCT_MUST_CHECK oct_status oct_normalize(const oct_norm_step *steps, size_t n, oct_str in,
                                        oct_norm_scratch *scratch, oct_str *out, oct_err *err);

/* Appends in with every pattern (not empty) replaced by content. */
void oct_replace_all(oct_str in, oct_str pattern, oct_str content, oct_buf *out);

#endif
