/*
 * store/file.h - regular files, read so that nothing they do under our hands can hurt.
 *
 * Nothing is mapped: a mapped file that another process shortens kills its reader by SIGBUS, and
 * one that is rewritten changes values that were already checked. Bytes are copied with pread into
 * memory of ours; EINTR and short reads are retried; an early end is an error (bad-input ST13).
 *
 * Threads    oct_file_read may be called from several threads for one file.
 */
#ifndef OCT_STORE_FILE_H
#define OCT_STORE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/status.h"

typedef struct oct_file {
    const oct_allocator *mem;
    char *path; /* as given; for messages */
    int fd;     /* -1: closed */
    uint64_t size;
    int64_t mtime_ns;
} oct_file;

/* Opens a regular file; links are followed. A folder, FIFO, device or socket is refused without
 * waiting on it. OCT_E_IO: absent, unreadable or no regular file. The struct may be moved. */
OCT_MUST_CHECK oct_status oct_file_open(oct_file *f, const oct_allocator *mem, const char *path,
                                        oct_err *err);
void oct_file_close(oct_file *f); /* accepts a zeroed or closed one */

/* Exactly bytes from offset into dst, or a failure: OCT_E_CORRUPT when the file ends before,
 * OCT_E_IO with strerror. */
OCT_MUST_CHECK oct_status oct_file_read(const oct_file *f, uint64_t offset, void *dst,
                                        uint64_t bytes, oct_err *err);

/* OCT_E_CORRUPT when size or modification time differ from what they were at open. */
OCT_MUST_CHECK oct_status oct_file_check_unchanged(const oct_file *f, oct_err *err);

/* A whole small file into out (initialised by the caller, emptied first); refused above limit
 * bytes before anything is read. */
OCT_MUST_CHECK oct_status oct_file_read_small(const oct_allocator *mem, const char *path,
                                              uint64_t limit, oct_buf *out, oct_err *err);

/* A name that is safe to join to a folder: not empty, no '/', '\\', NUL or control character, not
 * "." or "..", at most 255 bytes (bad-input CF8). */
bool oct_file_name_is_plain(oct_str name);

/* "folder/name", NUL-terminated; free with oct_free(mem, p, strlen(p) + 1, 1). NULL: no memory. */
OCT_MUST_CHECK char *oct_path_join(const oct_allocator *mem, const char *folder, oct_str name);
void oct_path_free(const oct_allocator *mem, char *path); /* accepts NULL */

/* The part behind the last '/': what a message may show. */
const char *oct_path_base(const char *path);

#endif
