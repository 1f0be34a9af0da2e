/*
 * text/pretok.h - the pre-tokenizer: where a text is cut into pieces before BPE.
 *
 * A pipeline is a row of stages; each cuts the pieces of the one before it, on their own. Matches
 * become pieces and so do the gaps between them ("Isolated"). The known patterns are scanners
 * written by hand (pretok_scan.c), linear in the text; others go to PCRE2 under limits
 * (pretok_regex.c).
 *
 * Internal to text. A pipeline is immutable after its building; a cursor belongs to one thread.
 */
#ifndef OCT_TEXT_PRETOK_H
#define OCT_TEXT_PRETOK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"

enum { OCT_PRETOK_MAX_STAGES = 16, OCT_PATTERN_MAX_BYTES = 8192 };

/* The end of the match that begins at i (i < end), or i when none begins there. */
typedef size_t (*oct_scan_fn)(const uint8_t *s, size_t i, size_t end);

typedef struct oct_regex oct_regex;

typedef struct oct_pretok_stage {
    oct_scan_fn scan; /* exactly one of scan and regex */
    oct_regex *regex;
    oct_str pattern; /* what a tokenizer.json says for it */
} oct_pretok_stage;

typedef struct oct_pretok {
    oct_pretok_stage stages[OCT_PRETOK_MAX_STAGES];
    uint32_t n_stages;
} oct_pretok;

/* Adds a Split on pattern. OCT_E_UNSUPPORTED names what is refused in it. */
OCT_MUST_CHECK oct_status oct_pretok_add_pattern(oct_pretok *p, oct_arena *arena, oct_str pattern,
                                                 oct_err *err);
OCT_MUST_CHECK oct_status oct_pretok_add_scan(oct_pretok *p, oct_scan_fn scan, oct_str pattern,
                                              oct_err *err);
void oct_pretok_fini(oct_pretok *p);

/* A walk over the pieces of one text. */
typedef struct oct_pretok_level {
    size_t begin, pos, end;  /* the piece of the stage before, and how far it is cut */
    size_t hit_from, hit_to; /* regex: the next match, if hit */
    bool hit;
} oct_pretok_level;

typedef struct oct_pretok_cursor {
    const oct_pretok *pretok;
    const uint8_t *s;
    size_t len, done;
    uint32_t level;
    uint64_t budget; /* steps left for regexes */
    oct_pretok_level levels[OCT_PRETOK_MAX_STAGES];
    struct oct_regex_match *match; /* made when the first regex runs */
} oct_pretok_cursor;

/* text is valid UTF-8 and outlives the cursor. */
void oct_pretok_begin(oct_pretok_cursor *c, const oct_pretok *p, oct_str text);
/* The next piece; *more is false after the last. OCT_E_FULL: a regex went over its limits. */
OCT_MUST_CHECK oct_status oct_pretok_next(oct_pretok_cursor *c, oct_str *piece, bool *more,
                                          oct_err *err);
void oct_pretok_end(oct_pretok_cursor *c);

/* The scanner of a known pattern, or NULL. */
oct_scan_fn oct_scan_find(oct_str pattern);
/* Single scanners that have no pattern in a file. */
size_t oct_scan_gpt2(const uint8_t *s, size_t i, size_t end);
size_t oct_scan_digit(const uint8_t *s, size_t i, size_t end);
size_t oct_scan_digits(const uint8_t *s, size_t i, size_t end);
/* "▁" and what follows it up to the next "▁". */
size_t oct_scan_mark(const uint8_t *s, size_t i, size_t end);
/* The same, but a run of "▁" is not cut. */
size_t oct_scan_mark_run(const uint8_t *s, size_t i, size_t end);

/* The patterns by family, as tokenizer.json spells them. */
extern const char oct_pattern_gpt2[], oct_pattern_qwen2[], oct_pattern_llama3[],
    oct_pattern_qwen35[], oct_pattern_digit[], oct_pattern_digits3[], oct_pattern_cjk[],
    oct_pattern_deepseek3[], oct_pattern_o200k[], oct_pattern_tekken[];

/* Internal to the pre-tokenizer: regexes. */
typedef struct oct_regex_match oct_regex_match;
OCT_MUST_CHECK oct_status oct_regex_create(const oct_allocator *mem, oct_str pattern,
                                           oct_regex **out, oct_err *err);
void oct_regex_destroy(oct_regex *re);
/* For the pieces of one text of text_len bytes: 3 seconds and one more for every megabyte. */
OCT_MUST_CHECK oct_status oct_regex_match_create(const oct_regex *re, size_t text_len,
                                                 oct_regex_match **out, oct_err *err);
void oct_regex_match_destroy(oct_regex_match *m);
/* The first match in s[pos, len) that begins at pos or later; *hit says whether there is one. */
OCT_MUST_CHECK oct_status oct_regex_find(const oct_regex *re, oct_regex_match *m, oct_str s,
                                         size_t pos, uint64_t *budget, bool *hit, size_t *from,
                                         size_t *to, oct_err *err);

#endif
