/* base/thread.c */
#include "base/thread.h"

#include <signal.h>
#include <string.h>

enum { STACK_BYTES = 1 << 20 };

oct_status oct_thread_start(oct_thread *t, const char *name, void *(*run)(void *), void *arg,
                            oct_err *err) {
    pthread_attr_t attr;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* inherited: signals stay with the main thread */
    const int e = pthread_create(&t->id, &attr, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    t->running = e == 0;
    if (e != 0) /* memory for its stack, or a limit on threads */
        return OCT_FAIL(err, OCT_E_NOMEM, "thread %s cannot be started: %s", name, strerror(e));
    pthread_setname_np(t->id, name);
    return OCT_OK;
}

void oct_thread_join(oct_thread *t) {
    if (t->running) pthread_join(t->id, NULL);
    t->running = 0;
}
