/*
 * kvstore/block_file.c - see the header. Numbers are this machine's: a file of another byte order
 * has another version.
 *
 * No fsync: what a power failure tears has a wrong checksum or length, and is ignored like any
 * other damage. Losing a block costs computing it again.
 */
#include "kvstore/block_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/fault.h"

enum { VERSION = 1 };

typedef struct head {
    char magic[8];
    uint32_t version, head_bytes;
    uint64_t fingerprint[2];
    uint64_t block_bytes;
    uint32_t block_tokens, n_blocks;
    uint32_t salt_len, reserved;
    uint64_t sum[2]; /* of everything, these two being 0 */
} head;

static const char magic[8] = "octetkv";

static size_t ids_bytes(const oct_kvstore_shape *s, const oct_kvstore_text *t) {
    return (size_t)t->n_blocks * s->block_tokens * sizeof *t->ids;
}
static size_t salt_room(const oct_kvstore_text *t) { return (t->salt.len + 7) / 8 * 8; }

uint64_t oct_kvstore_file_bytes(const oct_kvstore_shape *s, const oct_kvstore_text *t) {
    return sizeof(head) + salt_room(t) + ids_bytes(s, t) + s->block_bytes;
}

static head head_of(const oct_kvstore_shape *s, const oct_kvstore_text *t) {
    head h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, magic, sizeof h.magic);
    h.version = VERSION;
    h.head_bytes = sizeof h;
    memcpy(h.fingerprint, s->fingerprint, sizeof h.fingerprint);
    h.block_bytes = s->block_bytes;
    h.block_tokens = s->block_tokens;
    h.n_blocks = t->n_blocks;
    h.salt_len = (uint32_t)t->salt.len;
    return h;
}

static void sum_of(const head *unsummed, const oct_kvstore_shape *s, const oct_kvstore_text *t,
                   const void *bytes, uint64_t out[2]) {
    struct {
        head h;
        char salt[OCT_KVSTORE_SALT_BYTES];
        XXH128_hash_t ids, bytes;
    } all;
    OCT_ASSERT(t->salt.len <= sizeof all.salt);
    memset(&all, 0, sizeof all);
    all.h = *unsummed;
    if (t->salt.len > 0) memcpy(all.salt, t->salt.ptr, t->salt.len);
    all.ids = XXH3_128bits(t->ids, ids_bytes(s, t));
    all.bytes = XXH3_128bits(bytes, (size_t)s->block_bytes);
    const XXH128_hash_t sum = XXH3_128bits(&all, sizeof all);
    out[0] = sum.low64;
    out[1] = sum.high64;
}

/* ---- reading ---- */

static bool read_all(int fd, void *dst, size_t n, uint64_t at) {
    for (char *p = dst; n > 0;) {
        const ssize_t got = pread(fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0 || OCT_FAULT(STORE_READ, 0)) return false;
        p += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return true;
}

/* GOOD: the n bytes at `at` of the file are want's. */
static oct_kvstore_found compare(int fd, const void *want, size_t n, uint64_t at) {
    char piece[4096];
    for (const char *p = want; n > 0;) {
        const size_t k = n < sizeof piece ? n : sizeof piece;
        if (!read_all(fd, piece, k, at)) return OCT_KVSTORE_DAMAGED;
        if (memcmp(piece, p, k) != 0) return OCT_KVSTORE_FOREIGN;
        p += k;
        n -= k;
        at += k;
    }
    return OCT_KVSTORE_GOOD;
}

static oct_kvstore_found read_open(int fd, const oct_kvstore_shape *s, const oct_kvstore_text *t,
                                   void *bytes) {
    static const char zeros[8];
    const size_t n_salt = t->salt.len, n_pad = salt_room(t) - n_salt, n_ids = ids_bytes(s, t);
    head h, want = head_of(s, t);
    struct stat st;
    uint64_t at = sizeof h, sum[2];
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return OCT_KVSTORE_FOREIGN;
    if (!read_all(fd, &h, sizeof h, 0)) return OCT_KVSTORE_DAMAGED;
    memcpy(sum, h.sum, sizeof sum);
    memset(h.sum, 0, sizeof h.sum);
    if (memcmp(&h, &want, sizeof h) != 0) return OCT_KVSTORE_FOREIGN;
    if ((uint64_t)st.st_size != oct_kvstore_file_bytes(s, t)) return OCT_KVSTORE_DAMAGED;
    oct_kvstore_found f = compare(fd, t->salt.ptr, n_salt, at);
    if (f == OCT_KVSTORE_GOOD) f = compare(fd, zeros, n_pad, at + n_salt);
    at += n_salt + n_pad;
    if (f == OCT_KVSTORE_GOOD) f = compare(fd, t->ids, n_ids, at);
    at += n_ids;
    if (f != OCT_KVSTORE_GOOD) return f;
    if (!read_all(fd, bytes, (size_t)s->block_bytes, at)) return OCT_KVSTORE_DAMAGED;
    sum_of(&want, s, t, bytes, want.sum);
    return memcmp(want.sum, sum, sizeof sum) == 0 ? OCT_KVSTORE_GOOD : OCT_KVSTORE_DAMAGED;
}

oct_kvstore_found oct_kvstore_file_read(int folder, const char *name, const oct_kvstore_shape *s,
                                        const oct_kvstore_text *t, void *bytes) {
    const int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || OCT_FAULT(STORE_OPEN, 0)) {
        if (fd >= 0) close(fd);
        return OCT_KVSTORE_ABSENT;
    }
    const oct_kvstore_found f = read_open(fd, s, t, bytes);
    /* When it was used last: what was not used for the longest time is deleted first. */
    if (f == OCT_KVSTORE_GOOD) (void)futimens(fd, NULL);
    close(fd);
    return f;
}

/* ---- writing ---- */

static int write_all(int fd, struct iovec *v, int n) {
    while (n > 0) {
        const ssize_t put = writev(fd, v, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0 || OCT_FAULT(STORE_WRITE, 0)) return put < 0 ? errno : ENOSPC;
        size_t left = (size_t)put;
        while (n > 0 && left >= v->iov_len) {
            left -= v->iov_len;
            v++;
            n--;
        }
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + left;
            v->iov_len -= left;
        }
        if (put == 0 && n > 0) return ENOSPC;
    }
    return 0;
}

int oct_kvstore_file_write(int folder, const char *name, const oct_kvstore_shape *s,
                           const oct_kvstore_text *t, const void *bytes) {
    static atomic_uint n_written;
    char zeros[8] = {0}, temp[64];
    head h = head_of(s, t);
    sum_of(&h, s, t, bytes, h.sum);
    snprintf(temp, sizeof temp, OCT_KVSTORE_TEMP "%ld-%u", (long)getpid(),
             atomic_fetch_add(&n_written, 1));
    const int fd = openat(folder, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return errno;
    struct iovec v[] = {{&h, sizeof h},
                        {(void *)(uintptr_t)t->salt.ptr, t->salt.len},
                        {zeros, salt_room(t) - t->salt.len},
                        {(void *)(uintptr_t)t->ids, ids_bytes(s, t)},
                        {(void *)(uintptr_t)bytes, (size_t)s->block_bytes}};
    int code = write_all(fd, v, sizeof v / sizeof *v);
    if (close(fd) != 0 && code == 0) code = errno;
    if (code == 0 && OCT_FAULT(STORE_RENAME, 0)) code = EIO;
    if (code == 0 && renameat(folder, temp, folder, name) != 0) code = errno;
    if (code != 0) (void)unlinkat(folder, temp, 0);
    return code;
}
