/*
 * base/alloc.h - where memory comes from. An oct_allocator is passed in, so that a test can count,
 * cap or refuse; nothing outside base/ calls malloc.
 *
 * Blocks are freed with the size they were asked with. Zero bytes may be asked; the answer is
 * non-NULL. Allocators of this header may be used from any thread.
 */
#ifndef OCT_BASE_ALLOC_H
#define OCT_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

typedef struct oct_allocator {
    void *ctx;
    void *(*alloc)(void *ctx, size_t bytes, size_t align); /* NULL when refused; not zeroed */
    void (*free)(void *ctx, void *ptr, size_t bytes);      /* accepts NULL */
} oct_allocator;

/* The system's memory. */
const oct_allocator *oct_system_allocator(void);
/* Gives free memory back to the system, which the C library otherwise keeps after many small blocks
 * came and went (a large JSON body). Costs milliseconds; any thread. */
void oct_memory_trim(void);
/* Has all threads take small blocks from one place, for a process that serves for long; before
 * there are threads. The C library else gives several of them a heap each, which stays as large as
 * it ever had to be: resident memory then creeps up for hours, by a burst here and a burst there.
 */
void oct_memory_one_heap(void);

/* Memory for a library that takes a malloc and a free of its user's and does not say itself, or not
 * every time, that it was refused some. Any thread; what one allocated another may free. */
void *oct_library_alloc(size_t bytes);
void oct_library_free(void *ptr);
/* Whether this thread was refused such memory since it asked last. */
bool oct_library_was_refused(void);
/* With on, a refusal is not the last one of this thread: until it has asked, or on is false, every
 * later request is refused as well. For a library that goes on with half a thing in its hands. */
void oct_library_stay_refused(bool on);

/* n * size bytes, zeroed, aligned for any type (64 bytes for 64 and more); NULL on overflow or
 * refusal. */
OCT_MUST_CHECK void *oct_calloc(const oct_allocator *mem, size_t n, size_t size);
/* The same without zeroing. */
OCT_MUST_CHECK void *oct_alloc(const oct_allocator *mem, size_t n, size_t size);
/* Gives back what oct_calloc/oct_alloc/oct_grow gave for (n, size). Accepts NULL. */
void oct_free(const oct_allocator *mem, void *ptr, size_t n, size_t size);
/* A block of new_n elements with the first min(old_n, new_n) kept; the old one is freed. On NULL
 * the old one is untouched. ptr may be NULL with old_n 0. */
OCT_MUST_CHECK void *oct_grow(const oct_allocator *mem, void *ptr, size_t old_n, size_t new_n,
                              size_t size);
/* A NUL-terminated copy of len bytes; free with oct_free(mem, p, len + 1, 1). */
OCT_MUST_CHECK char *oct_strndup(const oct_allocator *mem, const char *s, size_t len);

/*
 * An allocator for tests: refuses request number fail_at (0 is the first; SIZE_MAX: none), and with
 * for_ever every later one. live_bytes and live_blocks are what is out at the moment.
 */
typedef struct oct_fault_alloc {
    oct_allocator allocator; /* pass &fault.allocator; the struct must not move */
    size_t n_requests, fail_at;
    size_t live_bytes, live_blocks;
    int for_ever;
} oct_fault_alloc;

void oct_fault_alloc_init(oct_fault_alloc *f, size_t fail_at, int for_ever);

#endif
