/* fuzz/memory_file.h - bytes as a regular file with a path, for parsers that read files. */
#ifndef OCT_FUZZ_MEMORY_FILE_H
#define OCT_FUZZ_MEMORY_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Replaces the file's content; the path stays the same for the life of the process. */
static inline const char *memory_file(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[64];
    static size_t held;
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    if (size < held && ftruncate(fd, (off_t)size) != 0) abort();
    held = size;
    return path;
}

#endif
