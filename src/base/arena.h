/*
 * base/arena.h - memory freed whole: a chain of chunks that only grows. For things that live and
 * die together (a parsed file, a request, a step).
 *
 * Ownership  The arena owns every byte it gave. Threads: one at a time.
 */
#ifndef OCT_BASE_ARENA_H
#define OCT_BASE_ARENA_H

#include "base/alloc.h"

typedef struct oct_arena_chunk oct_arena_chunk;

typedef struct oct_arena {
    const oct_allocator *mem;
    oct_arena_chunk *top;
    size_t used_bytes;  /* what was handed out since init or reset */
    size_t limit_bytes; /* 0: none; else requests beyond it are refused */
} oct_arena;

void oct_arena_init(oct_arena *a, const oct_allocator *mem, size_t limit_bytes);
/* Frees everything; accepts a zeroed arena. */
void oct_arena_fini(oct_arena *a);
/* Forgets everything but keeps the largest chunk for reuse. */
void oct_arena_reset(oct_arena *a);

/* n * size bytes, zeroed, aligned to 16; NULL when refused. */
OCT_MUST_CHECK void *oct_arena_alloc(oct_arena *a, size_t n, size_t size);
/* A NUL-terminated copy. */
OCT_MUST_CHECK char *oct_arena_strndup(oct_arena *a, const char *s, size_t len);

#endif
