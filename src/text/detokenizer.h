/*
 * text/detokenizer.h - ids in, complete UTF-8 out, one token at a time.
 *
 * Bytes of an unfinished character are held back until the next tokens complete it; bytes that can
 * never become a character turn into U+FFFD at once. However the ids are cut into pushes, the texts
 * joined (flush included) are the same, and equal oct_tokenizer_decode of all ids.
 *
 * Ownership  The caller's memory; a detokenizer borrows the tokenizer. Threads: one at a time.
 */
#ifndef OCT_TEXT_DETOKENIZER_H
#define OCT_TEXT_DETOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "text/tokenizer.h"

typedef struct oct_detokenizer {
    const oct_tokenizer *tok;
    bool skip_special;
    uint8_t n_strip;   /* leading blanks that the decoder still has to drop */
    uint8_t n_pending; /* bytes of an unfinished character */
    uint8_t pending[4];
} oct_detokenizer;

/* skip_special: special tokens give no text. */
void oct_detokenizer_init(oct_detokenizer *d, const oct_tokenizer *tok, bool skip_special);

/* Says that text came before (a prompt): the first token's blank is then kept. A SentencePiece
 * vocabulary drops the blank only at the very start of a text; others are not changed by it. */
void oct_detokenizer_prime(oct_detokenizer *d);

/* Appends what became complete. An id without text gives nothing. */
void oct_detokenizer_push(oct_detokenizer *d, int32_t id, oct_buf *out);

/* The end of the text: held bytes become U+FFFD. The detokenizer may then be used again. */
void oct_detokenizer_flush(oct_detokenizer *d, oct_buf *out);

#endif
