/*
 * tests/fault/preload.c - what octet asks of the C library, refused: rows ST13, SM4 and OS7.
 *
 * OCTET_SEND_FAULT=1: every send takes one byte, or is interrupted, or says that the socket is
 * full.
 *
 * OCTET_RANDOM_FAULT=1: the system has no random bytes (OS7).
 * OCTET_THREAD_FAULT=N: the N-th thread cannot be started (OS7).
 *
 * OCTET_READ_FAULT=WHAT:N, counted over reads of *.safetensors only:
 *     error:N      the N-th read fails with EIO
 *     shorten:N    the file is cut in half before the N-th read
 *     write:N      one of its bytes is written before the N-th read
 *     interrupt:N  every N-th read is interrupted by a signal
 *     short:N      every N-th read gives one byte
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef ssize_t send_fn(int fd, const void *buf, size_t n, int flags);
typedef ssize_t pread_fn(int fd, void *buf, size_t n, off_t at);

/* The path behind fd when its file is one of weights, else NULL. */
static const char *weights(int fd, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, 4095);
    if (n < 12) return NULL;
    path[n] = '\0';
    return strcmp(path + n - 12, ".safetensors") == 0 ? path : NULL;
}

static void shorten(const char *path) {
    struct stat st;
    if (stat(path, &st) == 0 && truncate(path, st.st_size / 2) != 0) abort();
}

static void write_a_byte(const char *path) {
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    usleep(20000); /* the clock of the file system has ticks */
    if (fd < 0 || pwrite(fd, "x", 1, 4000) != 1) abort();
    close(fd);
}

EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags) {
    static atomic_uint calls;
    send_fn *next = (send_fn *)dlsym(RTLD_NEXT, "send");
    if (!getenv("OCTET_SEND_FAULT")) return next(fd, buf, n, flags);
    const unsigned call = ++calls;
    if (call % 7 == 0) return errno = EINTR, -1;
    if (call % 5 == 0) return errno = EAGAIN, -1;
    return next(fd, buf, n > 1 ? 1 : n, flags);
}

EXPORT ssize_t getrandom(void *buf, size_t n, unsigned flags) {
    typedef ssize_t getrandom_fn(void *buf, size_t n, unsigned flags);
    getrandom_fn *next = (getrandom_fn *)dlsym(RTLD_NEXT, "getrandom");
    return getenv("OCTET_RANDOM_FAULT") ? (errno = ENOSYS, -1) : next(buf, n, flags);
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg) {
    typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    static atomic_uint calls;
    create_fn *next = (create_fn *)dlsym(RTLD_NEXT, "pthread_create");
    const char *nth = getenv("OCTET_THREAD_FAULT");
    if (nth && ++calls == (unsigned)strtoul(nth, NULL, 10)) return EAGAIN;
    return next(thread, attr, run, arg);
}

EXPORT ssize_t pread(int fd, void *buf, size_t n, off_t at) {
    static atomic_uint calls;
    char path[4096], what[16] = "";
    unsigned nth = 0;
    pread_fn *next = (pread_fn *)dlsym(RTLD_NEXT, "pread");
    const char *fault = getenv("OCTET_READ_FAULT");
    if (!fault || !weights(fd, path) || sscanf(fault, "%15[a-z]:%u", what, &nth) != 2 || nth == 0)
        return next(fd, buf, n, at);
    const unsigned call = ++calls;
    if (call == nth && strcmp(what, "error") == 0) return errno = EIO, -1;
    if (call == nth && strcmp(what, "shorten") == 0) shorten(path);
    if (call == nth && strcmp(what, "write") == 0) write_a_byte(path);
    if (call % nth == 0 && strcmp(what, "interrupt") == 0) return errno = EINTR, -1;
    if (call % nth == 0 && strcmp(what, "short") == 0 && n > 1) n = 1;
    return next(fd, buf, n, at);
}
