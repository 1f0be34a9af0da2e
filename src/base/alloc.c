/* base/alloc.c - aligned system memory, and the allocator that refuses on purpose. */
#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/checked.h"

enum { CACHE_LINE = 64 };

static void *system_alloc(void *ctx, size_t bytes, size_t align) {
    (void)ctx;
    void *p = NULL;
    if (align < sizeof(void *)) align = sizeof(void *);
    return posix_memalign(&p, align, bytes ? bytes : 1) == 0 ? p : NULL;
}

static void system_free(void *ctx, void *ptr, size_t bytes) {
    (void)ctx;
    (void)bytes;
    free(ptr);
}

void oct_memory_trim(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

void oct_memory_one_heap(void) {
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
#endif
}

const oct_allocator *oct_system_allocator(void) {
    static const oct_allocator system = {NULL, system_alloc, system_free};
    return &system;
}

void *oct_alloc(const oct_allocator *mem, size_t n, size_t size) {
    size_t bytes;
    if (!oct_mul_size(n, size, &bytes) || bytes > PTRDIFF_MAX) return NULL;
    return mem->alloc(mem->ctx, bytes, bytes >= CACHE_LINE ? CACHE_LINE : _Alignof(max_align_t));
}

static _Thread_local bool library_was_refused, library_stays_refused;

void oct_library_stay_refused(bool on) { library_stays_refused = on; }

void *oct_library_alloc(size_t bytes) {
    void *p = library_was_refused && library_stays_refused ? NULL : malloc(bytes);
    if (!p) library_was_refused = true;
    return p;
}

void oct_library_free(void *ptr) { free(ptr); }

bool oct_library_was_refused(void) {
    const bool was = library_was_refused;
    library_was_refused = false;
    return was;
}

void *oct_calloc(const oct_allocator *mem, size_t n, size_t size) {
    void *p = oct_alloc(mem, n, size);
    if (p) memset(p, 0, n * size);
    return p;
}

void oct_free(const oct_allocator *mem, void *ptr, size_t n, size_t size) {
    if (ptr) mem->free(mem->ctx, ptr, n * size);
}

void *oct_grow(const oct_allocator *mem, void *ptr, size_t old_n, size_t new_n, size_t size) {
    void *p = oct_alloc(mem, new_n, size);
    if (!p) return NULL;
    if (ptr) memcpy(p, ptr, oct_min_size(old_n, new_n) * size);
    oct_free(mem, ptr, old_n, size);
    return p;
}

char *oct_strndup(const oct_allocator *mem, const char *s, size_t len) {
    char *p = oct_alloc(mem, len + 1, 1);
    if (!p) return NULL;
    memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

static void *fault_alloc(void *ctx, size_t bytes, size_t align) {
    oct_fault_alloc *f = ctx;
    const size_t k = __atomic_fetch_add(&f->n_requests, 1, __ATOMIC_RELAXED);
    if (k == f->fail_at || (f->for_ever && k > f->fail_at)) return NULL;
    void *p = system_alloc(NULL, bytes, align);
    if (p) {
        __atomic_fetch_add(&f->live_bytes, bytes, __ATOMIC_RELAXED);
        __atomic_fetch_add(&f->live_blocks, 1, __ATOMIC_RELAXED);
    }
    return p;
}

static void fault_free(void *ctx, void *ptr, size_t bytes) {
    oct_fault_alloc *f = ctx;
    if (!ptr) return;
    __atomic_fetch_sub(&f->live_bytes, bytes, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&f->live_blocks, 1, __ATOMIC_RELAXED);
    free(ptr);
}

void oct_fault_alloc_init(oct_fault_alloc *f, size_t fail_at, int for_ever) {
    *f = (oct_fault_alloc){
        .allocator = {f, fault_alloc, fault_free}, .fail_at = fail_at, .for_ever = for_ever};
}
