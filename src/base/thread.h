/* base/thread.h - a named thread with a 1 MiB stack. */
#ifndef OCT_BASE_THREAD_H
#define OCT_BASE_THREAD_H

#include <pthread.h>

#include "base/status.h"

typedef struct oct_thread {
    pthread_t id;
    int running;
} oct_thread;

/* name: at most 15 bytes, shown by the system's tools. All signals are blocked in the new thread.
 */
OCT_MUST_CHECK oct_status oct_thread_start(oct_thread *t, const char *name, void *(*run)(void *),
                                           void *arg, oct_err *err);
void oct_thread_join(oct_thread *t); /* accepts one that never started; may be called twice */

#endif
