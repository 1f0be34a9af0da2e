/*
 * device/cpu/queue.h - commands for a thread that runs them one after the other, so that a call on
 * a stream returns before its operation ran (octet_open_options.overlap).
 *
 * Both sides sleep while they wait: the compute threads may be as many as there are cores, and a
 * thread that spins would take one of them away.
 *
 * Ownership  Commands are copied; what they point to stays the caller's until they are done.
 * Threads    push, flush, wait and clear from one thread; run is called on the queue's own.
 */
#ifndef OCT_DEVICE_CPU_QUEUE_H
#define OCT_DEVICE_CPU_QUEUE_H

#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"

typedef struct oct_cpu_queue oct_cpu_queue;

/* 0, or the code that all waits for the command or one behind it report. */
typedef int32_t oct_cpu_run_fn(void *ctx, const void *command);

/* begin(ctx) is called once on the new thread. */
OCT_MUST_CHECK oct_status oct_cpu_queue_create(const oct_allocator *mem, size_t command_bytes,
                                               oct_cpu_run_fn *run, void (*begin)(void *ctx),
                                               void *ctx, oct_cpu_queue **out, oct_err *err);
void oct_cpu_queue_destroy(oct_cpu_queue *q); /* accepts NULL; runs what is queued first */

/* Puts a command at the end; waits while the queue is full. It may begin at once, and does so
 * after flush at the latest. Returns how many there have been, this one included: what wait takes.
 */
uint64_t oct_cpu_queue_push(oct_cpu_queue *q, const void *command);
void oct_cpu_queue_flush(oct_cpu_queue *q);
uint64_t oct_cpu_queue_n_pushed(const oct_cpu_queue *q);

/* Waits until the first n commands are done. 0, or the code of the one among them that failed. What
 * is behind a command that failed is dropped, until clear. */
int32_t oct_cpu_queue_wait(oct_cpu_queue *q, uint64_t n);
/* Forgets the failure. Everything pushed must have been waited for. */
void oct_cpu_queue_clear(oct_cpu_queue *q);

#endif
