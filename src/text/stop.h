/*
 * text/stop.h - stop strings, found while the text streams.
 *
 * A set is an automaton over all strings at once, so a push costs the bytes of its text, however
 * long the strings are and however they overlap themselves. The match that ends first counts; of
 * those that end together the longest. Only the bytes that may still become a match are held back.
 *
 * Ownership  oct_stop_set is shared and immutable; oct_stop is a stream's state in the caller's
 *            memory and borrows the set. Threads: a set any, a stream one at a time.
 */
#ifndef OCT_TEXT_STOP_H
#define OCT_TEXT_STOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"

enum {
    OCT_STOP_MAX_STRINGS = 16, /* bad-input, default limits */
    OCT_STOP_MAX_BYTES = 1024,
};

typedef struct oct_stop_set oct_stop_set;

/* Copies the strings. include: the matched string stays in the text. n may be 0: a set that never
 * matches. OCT_E_INVALID: a string is empty or too long, or there are too many (the sentence names
 * the index). */
OCT_MUST_CHECK oct_status oct_stop_set_create(const oct_allocator *mem, const oct_str *strings,
                                              size_t n, bool include, oct_stop_set **out,
                                              oct_err *err);
void oct_stop_set_destroy(oct_stop_set *set); /* accepts NULL */

typedef struct oct_stop {
    const oct_stop_set *set; /* NULL: no stop strings, everything passes */
    uint32_t state;
    bool done; /* a match was found; later text is dropped */
} oct_stop;

void oct_stop_init(oct_stop *s, const oct_stop_set *set);

/* Takes the next piece of text (whole characters) and appends to *out what may be shown. Returns
 * the index of the string that was found, or -1. armed false (fewer than min_tokens so far): a
 * match that ends in this piece does not count. */
int oct_stop_push(oct_stop *s, oct_str text, bool armed, oct_buf *out);

/* The end of the text: appends what was held back, unless a match was found. */
void oct_stop_flush(oct_stop *s, oct_buf *out);

/* Bytes held back now. */
size_t oct_stop_held(const oct_stop *s);

#endif
