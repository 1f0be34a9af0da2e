/*
 * text/ids.h - a growable run of token ids.
 *
 * A failed append (refused memory) sets `failed` and leaves the content as it was; what is appended
 * later may be missing too, so a writer appends freely and asks once at the end.
 *
 * Ownership  The vector owns data. Threads: one at a time.
 */
#ifndef OCT_TEXT_IDS_H
#define OCT_TEXT_IDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"

typedef struct oct_ids {
    const oct_allocator *mem;
    int32_t *data; /* [len], NULL until the first append */
    size_t len, cap;
    bool failed;
} oct_ids;

void oct_ids_init(oct_ids *v, const oct_allocator *mem);
void oct_ids_fini(oct_ids *v);  /* accepts a zeroed vector */
void oct_ids_clear(oct_ids *v); /* keeps the memory; clears failed */
/* The slow half of oct_ids_push: makes room for n more. False when refused. */
bool oct_ids_reserve(oct_ids *v, size_t n);

static inline void oct_ids_push(oct_ids *v, int32_t id) {
    if (v->len == v->cap && !oct_ids_reserve(v, 1)) return;
    v->data[v->len++] = id;
}

#endif
