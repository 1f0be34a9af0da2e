/*
 * apps/serve/signals.c - one thread takes all signals, so that the process ends within a moment
 * whatever the others are stuck in.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "base/thread.h"
#include "serve.h"

static sem_t stop;
static atomic_bool ready;
static atomic_int caught;

static void die(int sig) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, sig);
    signal(sig, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(sig);
    _exit(128 + sig);
}

static void wanted(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
}

static void *take(void *arg) {
    sigset_t set;
    (void)arg;
    wanted(&set);
    for (int sig; sigwait(&set, &sig) == 0;) {
        if (sig == SIGHUP) continue; /* the log is stderr: there is nothing to reopen */
        if (!atomic_load(&ready) || atomic_exchange(&caught, sig) != 0) die(sig);
        sem_post(&stop);
    }
    return NULL;
}

int serve_signals_start(void) {
    static oct_thread thread;
    oct_err err = {0};
    sigset_t set;
    wanted(&set);
    sem_init(&stop, 0, 0);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (oct_thread_start(&thread, "oct-signals", take, NULL, &err) == OCT_OK) return -1;
    return cli_fail(EXIT_SYSTEM, "%s", err.text);
}

void serve_signals_ready(void) { atomic_store(&ready, true); }

int serve_signals_wait(uint32_t ms) {
    struct timespec until; /* monotonic: the wall clock may jump */
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    while (sem_clockwait(&stop, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR) continue;
    return atomic_load(&caught);
}

void serve_signals_wake(void) { sem_post(&stop); }
