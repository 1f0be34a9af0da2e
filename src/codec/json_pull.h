/*
 * codec/json_pull.h - large JSON files read value by value, without building a tree.
 *
 * A vocabulary of 150,000 tokens with its merges takes a tree reader half a second, most of a
 * server's start, and a file of conversations several times its size in memory; here they are a
 * walk over the bytes. What is small goes through codec/json.h, a value at a time.
 *
 * The input has been checked to be UTF-8. Errors are OCT_E_CORRUPT with the byte's place.
 */
#ifndef OCT_CODEC_JSON_PULL_H
#define OCT_CODEC_JSON_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct oct_pull {
    const char *begin, *p, *end;
    const char *where; /* the file's name, for messages */
    oct_buf text;      /* a string that has escapes */
    oct_err *err;
} oct_pull;

void oct_pull_init(oct_pull *j, oct_str json, const char *where, const oct_allocator *mem,
                   oct_err *err);
void oct_pull_fini(oct_pull *j);

OCT_MUST_CHECK oct_status oct_pull_fail(const oct_pull *j, const char *what);

/* Takes the character (blanks before it are skipped), or fails. */
OCT_MUST_CHECK oct_status oct_pull_expect(oct_pull *j, char c);
/* The next character that is not blank, not taken; '\0' at the end. */
char oct_pull_peek(oct_pull *j);
/* After the opening bracket or an item: *more tells whether another item follows; takes the comma
 * or the closing bracket. first: no item was read yet. */
OCT_MUST_CHECK oct_status oct_pull_more(oct_pull *j, char close, bool first, bool *more);
/* A string; *out lives until the next string. Lone surrogates are refused. */
OCT_MUST_CHECK oct_status oct_pull_string(oct_pull *j, oct_str *out);
/* A key and its colon. */
OCT_MUST_CHECK oct_status oct_pull_key(oct_pull *j, oct_str *out);
OCT_MUST_CHECK oct_status oct_pull_integer(oct_pull *j, int64_t *out);
/* Any value, by its extent only: brackets and strings are followed, the rest is left to the reader
 * of *span. At most 64 levels deep. */
OCT_MUST_CHECK oct_status oct_pull_skip(oct_pull *j, oct_str *span);

#endif
