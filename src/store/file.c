/*
 * store/file.c - open without waiting, fstat once, pread in bounded pieces.
 *
 * O_NONBLOCK keeps open from waiting on a FIFO that has no writer; for a regular file it has no
 * effect. Rejected: mmap with a SIGBUS handler (a process-wide handler in a library room).
 */
#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"

/* One pread moves at most this much; Linux caps at 2 GiB anyway. */
enum { PIECE_BYTES = 1 << 30 };

static int64_t mtime_ns(const struct stat *st) {
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static oct_status open_fd(oct_file *f, const char *path, oct_err *err) {
    struct stat st;
    do f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (f->fd < 0 && errno == EINTR);
    if (f->fd < 0 || fstat(f->fd, &st) != 0)
        return OCT_FAIL(err, OCT_E_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return OCT_FAIL(err, OCT_E_IO, "%s: not a regular file", path);
    f->size = (uint64_t)st.st_size;
    f->mtime_ns = mtime_ns(&st);
    return OCT_OK;
}

oct_status oct_file_open(oct_file *f, const oct_allocator *mem, const char *path, oct_err *err) {
    *f = (oct_file){.mem = mem, .fd = -1};
    f->path = oct_strndup(mem, path, strlen(path));
    if (!f->path) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", path);
    const oct_status status = open_fd(f, path, err);
    if (status != OCT_OK) oct_file_close(f);
    return status;
}

void oct_file_close(oct_file *f) {
    if (!f->mem) return;
    if (f->fd >= 0) close(f->fd);
    oct_path_free(f->mem, f->path);
    *f = (oct_file){.fd = -1};
}

oct_status oct_file_read(const oct_file *f, uint64_t offset, void *dst, uint64_t bytes,
                         oct_err *err) {
    unsigned char *p = dst;
    uint64_t end;
    if (!oct_add_u64(offset, bytes, &end) || end > f->size)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: read past the end", oct_path_base(f->path));
    while (bytes > 0) {
        const size_t want = oct_min_size((size_t)bytes, PIECE_BYTES);
        const ssize_t got = pread(f->fd, p, want, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return OCT_FAIL(err, OCT_E_IO, "%s: %s at byte %" PRIu64, oct_path_base(f->path),
                            strerror(errno), offset);
        if (got == 0)
            return OCT_FAIL(err, OCT_E_CORRUPT,
                            "%s: changed while it was read (ends at byte %" PRIu64 ", had %" PRIu64
                            ")",
                            oct_path_base(f->path), offset, f->size);
        p += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return OCT_OK;
}

oct_status oct_file_check_unchanged(const oct_file *f, oct_err *err) {
    struct stat st;
    if (fstat(f->fd, &st) != 0)
        return OCT_FAIL(err, OCT_E_IO, "%s: %s", oct_path_base(f->path), strerror(errno));
    if ((uint64_t)st.st_size != f->size || mtime_ns(&st) != f->mtime_ns)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: changed while it was read",
                        oct_path_base(f->path));
    return OCT_OK;
}

oct_status oct_file_read_small(const oct_allocator *mem, const char *path, uint64_t limit,
                               oct_buf *out, oct_err *err) {
    oct_file f;
    oct_buf_clear(out);
    OCT_TRY(oct_file_open(&f, mem, path, err));
    oct_status status = OCT_OK;
    if (f.size > limit)
        status = OCT_FAIL(err, OCT_E_CORRUPT,
                          "%s: too large (got %" PRIu64 " bytes, want at most %" PRIu64 ")",
                          oct_path_base(path), f.size, limit);
    else if (!oct_buf_reserve(out, (size_t)f.size))
        status = OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", oct_path_base(path));
    else if (f.size > 0) {
        status = oct_file_read(&f, 0, out->data, f.size, err);
        if (status == OCT_OK) {
            out->len = (size_t)f.size;
            out->data[out->len] = '\0';
        }
    }
    oct_file_close(&f);
    return status;
}

bool oct_file_name_is_plain(oct_str name) {
    if (name.len == 0 || name.len > 255) return false;
    if (oct_str_is(name, ".") || oct_str_is(name, "..")) return false;
    for (size_t i = 0; i < name.len; i++) {
        const unsigned char c = (unsigned char)name.ptr[i];
        if (c < 0x20 || c == 0x7F || c == '/' || c == '\\') return false;
    }
    return true;
}

char *oct_path_join(const oct_allocator *mem, const char *folder, oct_str name) {
    const size_t n = strlen(folder), slash = n > 0 && folder[n - 1] != '/';
    char *p = oct_alloc(mem, n + slash + name.len + 1, 1);
    if (!p) return NULL;
    memcpy(p, folder, n);
    if (slash) p[n] = '/';
    memcpy(p + n + slash, name.ptr, name.len);
    p[n + slash + name.len] = '\0';
    return p;
}

void oct_path_free(const oct_allocator *mem, char *path) {
    if (path) oct_free(mem, path, strlen(path) + 1, 1);
}

const char *oct_path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}
