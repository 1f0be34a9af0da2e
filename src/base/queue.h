/*
 * base/queue.h - a bounded queue of pointers between threads: many may push, many may pop.
 *
 * A full queue refuses (OCT_E_FULL) and never grows; close wakes all waiters and lets what is
 * inside be popped first.
 */
#ifndef OCT_BASE_QUEUE_H
#define OCT_BASE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"

typedef struct oct_queue oct_queue;

OCT_MUST_CHECK oct_status oct_queue_create(const oct_allocator *mem, size_t cap, oct_queue **out);
void oct_queue_destroy(oct_queue *q); /* accepts NULL; must be empty of waiters */
OCT_MUST_CHECK oct_status oct_queue_push(oct_queue *q, void *item); /* FULL or CANCELLED (closed) */
/* The oldest item, or NULL after wait_ns without one (0: at once; UINT64_MAX: for ever) or when
 * closed and empty. */
void *oct_queue_pop(oct_queue *q, uint64_t wait_ns);
/* One pop that waits, now or next, returns NULL as if its time were over. */
void oct_queue_wake(oct_queue *q);
void oct_queue_close(oct_queue *q);
size_t oct_queue_len(oct_queue *q);

#endif
