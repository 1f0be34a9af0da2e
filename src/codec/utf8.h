/*
 * codec/utf8.h - UTF-8 read strictly: no overlong forms, no surrogates, nothing above U+10FFFF.
 *
 * An invalid run is what Unicode calls a maximal subpart (the longest start of a well-formed
 * sequence, at least one byte); each becomes one U+FFFD, as most decoders in "replace" mode do.
 *
 * Threads: pure functions. Elsewhere: normalisation and categories are in text/.
 */
#ifndef OCT_CODEC_UTF8_H
#define OCT_CODEC_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

typedef enum oct_utf8_step {
    OCT_UTF8_OK,  /* a whole code point */
    OCT_UTF8_BAD, /* bytes that no continuation can repair */
    OCT_UTF8_CUT, /* the span ends inside a sequence that is well formed so far (or is empty) */
} oct_utf8_step;

/* Looks at the start of s. *len: the bytes of the code point (1-4), of the invalid run (1-3), or of
 * the cut sequence (0-3, the whole of s). *cp is set for OK and is U+FFFD otherwise. */
oct_utf8_step oct_utf8_next(oct_str s, uint32_t *cp, size_t *len);

/* True when the whole of s is well formed; else *bad_at (may be NULL) is the byte where it stops
 * being so. */
bool oct_utf8_valid(oct_str s, size_t *bad_at);

/* Writes 1-4 bytes and returns how many; 0 for a surrogate or a value above U+10FFFF. */
size_t oct_utf8_encode(uint32_t cp, char out[4]);

/* Code points in s, each invalid run or cut end counted as one. */
size_t oct_utf8_count(oct_str s);

/* s.len without an incomplete sequence at its end: what may be sent now when more bytes may follow.
 * Invalid bytes before the end are counted in; they cannot become valid. */
size_t oct_utf8_complete_len(oct_str s);

/* Appends s with every invalid run, and a cut end, replaced by U+FFFD. */
void oct_utf8_repair(oct_buf *b, oct_str s);

#endif
