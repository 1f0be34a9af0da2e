/* store/tensor_table.c - the index is a permutation sorted by name; lookups bisect it. */
#include "store/tensor_table.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/checked.h"

void oct_tensor_table_init(oct_tensor_table *t, const oct_allocator *mem) {
    *t = (oct_tensor_table){.mem = mem};
}

void oct_tensor_table_fini(oct_tensor_table *t) {
    if (!t->mem) return;
    oct_free(t->mem, t->by_name, t->n, sizeof *t->by_name);
    oct_free(t->mem, t->v, t->cap, sizeof *t->v);
    *t = (oct_tensor_table){.mem = t->mem};
}

bool oct_tensor_table_add(oct_tensor_table *t, const oct_tensor *tensor) {
    OCT_ASSERT(!t->by_name);
    if (t->n == t->cap) {
        const size_t cap = t->cap ? 2 * t->cap : 64;
        oct_tensor *v = oct_grow(t->mem, t->v, t->cap, cap, sizeof *v);
        if (!v) return false;
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = *tensor;
    return true;
}

static int by_place(const void *left, const void *right) {
    const oct_tensor *a = left, *b = right;
    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

void oct_tensor_table_sort(oct_tensor_table *t) {
    OCT_ASSERT(!t->by_name);
    if (t->n > 1) qsort(t->v, t->n, sizeof *t->v, by_place);
}

static int compare(oct_str a, oct_str b) {
    const size_t n = oct_min_size(a.len, b.len);
    const int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return c ? c : a.len < b.len ? -1 : a.len > b.len;
}

static int by_name(const void *left, const void *right, void *table) {
    const oct_tensor *v = table;
    return compare(v[*(const uint32_t *)left].name, v[*(const uint32_t *)right].name);
}

bool oct_tensor_table_index(oct_tensor_table *t, const oct_tensor **twice) {
    if (twice) *twice = NULL;
    t->by_name = oct_alloc(t->mem, t->n, sizeof *t->by_name);
    if (!t->by_name) return false;
    for (size_t i = 0; i < t->n; i++) t->by_name[i] = (uint32_t)i;
    if (t->n > 1) qsort_r(t->by_name, t->n, sizeof *t->by_name, by_name, t->v);
    for (size_t i = 1; twice && i < t->n; i++)
        if (compare(t->v[t->by_name[i - 1]].name, t->v[t->by_name[i]].name) == 0) {
            *twice = &t->v[t->by_name[i]];
            break;
        }
    return true;
}

void oct_tensor_table_unindex(oct_tensor_table *t) {
    oct_free(t->mem, t->by_name, t->n, sizeof *t->by_name);
    t->by_name = NULL;
}

const oct_tensor *oct_tensor_table_find(const oct_tensor_table *t, oct_str name) {
    size_t lo = 0, hi = t->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const oct_tensor *at = &t->v[t->by_name[mid]];
        const int c = compare(name, at->name);
        if (c == 0) return at;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}
