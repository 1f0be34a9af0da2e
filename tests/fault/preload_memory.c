/*
 * tests/fault/preload_memory.c - memory of a whole process that is refused when a test says so
 * (OS5): every allocation of octet, of its libraries and of the C library passes here.
 *
 * OCTET_MEMORY_BOARD names a file of four uint32 that test and process share:
 *
 *     [0] what happens: 0 nothing, 1 one request is refused, 2 it and every later one
 *     [1] how many requests until then; counted down here, 1 is the next
 *     [2] requests so far
 *     [3] how many were refused
 *
 * hwloc is spared, which octet asks for the machine's cores at start: it goes on with pointers that
 * are NULL. So is the loader, which does not give its lock back.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef void *malloc_fn(size_t n);
typedef void *calloc_fn(size_t n, size_t size);
typedef void *realloc_fn(void *p, size_t n);
typedef void free_fn(void *p);
typedef int posix_memalign_fn(void **out, size_t align, size_t n);
typedef void *aligned_alloc_fn(size_t align, size_t n);

static malloc_fn *real_malloc;
static calloc_fn *real_calloc;
static realloc_fn *real_realloc;
static free_fn *real_free;
static posix_memalign_fn *real_posix_memalign;
static aligned_alloc_fn *real_aligned_alloc;
static _Atomic uint32_t *board;

/* What dlsym asks for before the real ones are known; never given back. */
static char early[16384];
static size_t early_used;
static int finding;

static void *from_early(size_t n) {
    const size_t at = (early_used + 15) / 16 * 16;
    if (n > sizeof early - at) return NULL;
    early_used = at + n;
    return early + at;
}

static int is_early(const void *p) {
    return (uintptr_t)p >= (uintptr_t)early && (uintptr_t)p < (uintptr_t)(early + sizeof early);
}

static void share(void) {
    const char *path = getenv("OCTET_MEMORY_BOARD");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) board = at;
}

#define FIND(name) real_##name = (name##_fn *)dlsym(RTLD_NEXT, #name)

/* False: it is being found out, further up on this stack. The first call is made before there are
 * threads. */
static int found(void) {
    if (real_aligned_alloc) return 1;
    if (finding) return 0;
    finding = 1;
    FIND(malloc);
    FIND(calloc);
    FIND(realloc);
    FIND(free);
    FIND(posix_memalign);
    FIND(aligned_alloc);
    return 1;
}

/* The board is looked for when libraries have been set up: what they do before main is theirs. */
__attribute__((constructor)) static void begin(void) {
    if (found()) share();
}

static _Thread_local int spared
    __attribute__((tls_model("initial-exec"))); /* else it takes memory */

static int is_hwloc(const void *caller) {
    Dl_info where;
    return dladdr(caller, &where) && where.dli_fname && strstr(where.dli_fname, "libhwloc");
}

static int refused(const void *caller) {
    if (!board || spared) return 0;
    atomic_fetch_add(&board[2], 1);
    const uint32_t what = atomic_load(&board[0]);
    if (what == 0) return 0;
    if (!(what == 2 && atomic_load(&board[3]) > 0) && atomic_fetch_sub(&board[1], 1) != 1) return 0;
    if (is_hwloc(caller)) { /* whoever asks next, then */
        if (atomic_load(&board[3]) == 0) atomic_store(&board[1], 1);
        return 0;
    }
    atomic_fetch_add(&board[3], 1);
    if (what == 1) atomic_store(&board[0], 0);
    errno = ENOMEM;
    return 1;
}

EXPORT int hwloc_topology_load(void *topology) {
    typedef int load_fn(void *topology);
    load_fn *next = (load_fn *)dlsym(RTLD_NEXT, "hwloc_topology_load");
    spared++;
    const int got = next(topology);
    spared--;
    return got;
}

/* The loader keeps its lock when it is refused memory here (glibc 2.36): what asks for it next
 * waits for ever. */
EXPORT void *dlopen(const char *path, int flags) {
    typedef void *dlopen_fn(const char *path, int flags);
    dlopen_fn *next = (dlopen_fn *)dlsym(RTLD_NEXT, "dlopen");
    spared++;
    void *got = next(path, flags);
    spared--;
    return got;
}

/* Only sanitizers ask for this, when a thread begins, and end the process without an answer. */
EXPORT int pthread_getattr_np(pthread_t thread, pthread_attr_t *attr) {
    typedef int getattr_fn(pthread_t thread, pthread_attr_t * attr);
    getattr_fn *next = (getattr_fn *)dlsym(RTLD_NEXT, "pthread_getattr_np");
    spared++;
    const int got = next(thread, attr);
    spared--;
    return got;
}

EXPORT void *malloc(size_t n) {
    if (!found()) return from_early(n);
    return refused(__builtin_return_address(0)) ? NULL : real_malloc(n);
}

EXPORT void *calloc(size_t n, size_t size) {
    if (!found()) return from_early(n * size); /* zeroed, small */
    return refused(__builtin_return_address(0)) ? NULL : real_calloc(n, size);
}

EXPORT void *realloc(void *p, size_t n) {
    if (is_early(p)) return NULL;
    if (!found()) return from_early(n);
    return refused(__builtin_return_address(0)) ? NULL : real_realloc(p, n);
}

EXPORT void free(void *p) {
    if (p && !is_early(p) && found()) real_free(p);
}

EXPORT int posix_memalign(void **out, size_t align, size_t n) {
    if (!found()) return ENOMEM;
    return refused(__builtin_return_address(0)) ? ENOMEM : real_posix_memalign(out, align, n);
}

EXPORT void *aligned_alloc(size_t align, size_t n) {
    if (!found()) return NULL;
    return refused(__builtin_return_address(0)) ? NULL : real_aligned_alloc(align, n);
}
