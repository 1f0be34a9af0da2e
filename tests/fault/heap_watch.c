/*
 * tests/fault/heap_watch.c - preloaded into octet serve: what the C library's heap holds, told to a
 * file ten times a second, for the tests of what stays behind (SM2, the soak).
 *
 * OCTET_HEAP_FILE names the file; a line of fixed length: number of the sample, bytes in use (asked
 * for and not given back, all arenas and mapped pieces), bytes the heap has from the system.
 * Resident memory moves by pages and by where free pieces lie; bytes in use do not, so that one
 * piece of 32 bytes for each of ten thousand requests is seen.
 *
 * Pieces that threads keep for themselves (tcache) count as in use: some kilobytes a thread.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *watch(void *arg) {
    const int fd = (int)(size_t)arg;
    for (unsigned long n = 1;; n++) {
        char line[64];
        const struct mallinfo2 m = mallinfo2();
        const int len = snprintf(line, sizeof line, "%15lu %15zu %15zu\n", n, m.uordblks + m.hblkhd,
                                 m.arena + m.hblkhd);
        if (pwrite(fd, line, (size_t)len, 0) != len) return NULL;
        usleep(100000);
    }
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("OCTET_HEAP_FILE");
    sigset_t all, before;
    pthread_t thread;
    if (!path) return;
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) abort();
    /* Signals are for the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, watch, (void *)(size_t)fd) != 0) abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
