/* base/arena.c - chunks double in size, so that n bytes cost O(log n) requests. */
#include "base/arena.h"

#include <string.h>

#include "base/checked.h"

enum { FIRST_CHUNK = 4096, ALIGN = 16 };

struct oct_arena_chunk {
    oct_arena_chunk *below;
    size_t cap, used;
    _Alignas(ALIGN) unsigned char data[];
};

void oct_arena_init(oct_arena *a, const oct_allocator *mem, size_t limit_bytes) {
    *a = (oct_arena){.mem = mem, .limit_bytes = limit_bytes};
}

static void free_chunks(oct_arena *a, oct_arena_chunk *c) {
    while (c) {
        oct_arena_chunk *below = c->below;
        a->mem->free(a->mem->ctx, c, sizeof *c + c->cap);
        c = below;
    }
}

void oct_arena_fini(oct_arena *a) {
    if (!a->mem) return;
    free_chunks(a, a->top);
    a->top = NULL;
    a->used_bytes = 0;
}

void oct_arena_reset(oct_arena *a) {
    if (a->top) {
        free_chunks(a, a->top->below);
        a->top->below = NULL;
        a->top->used = 0;
    }
    a->used_bytes = 0;
}

void *oct_arena_alloc(oct_arena *a, size_t n, size_t size) {
    size_t bytes;
    if (!oct_mul_size(n, size, &bytes) || !oct_add_size(bytes, ALIGN - 1, &bytes)) return NULL;
    bytes = bytes / ALIGN * ALIGN;
    if (a->limit_bytes && bytes > a->limit_bytes - oct_min_size(a->used_bytes, a->limit_bytes))
        return NULL;

    if (!a->top || bytes > a->top->cap - a->top->used) {
        size_t cap = a->top ? a->top->cap : FIRST_CHUNK / 2, total;
        cap = cap < (size_t)1 << 24 ? cap * 2 : cap;
        cap = oct_max_size(cap, bytes);
        if (!oct_add_size(cap, sizeof(oct_arena_chunk), &total)) return NULL;
        oct_arena_chunk *c = a->mem->alloc(a->mem->ctx, total, ALIGN);
        if (!c) return NULL;
        c->below = a->top;
        c->cap = cap;
        c->used = 0;
        a->top = c;
    }
    void *p = a->top->data + a->top->used;
    a->top->used += bytes;
    a->used_bytes += bytes;
    memset(p, 0, bytes);
    return p;
}

char *oct_arena_strndup(oct_arena *a, const char *s, size_t len) {
    size_t bytes;
    if (!oct_add_size(len, 1, &bytes)) return NULL;
    char *p = oct_arena_alloc(a, bytes, 1);
    if (p && len) memcpy(p, s, len);
    return p;
}
