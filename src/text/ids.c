/* text/ids.c - growth by half, so that a long prompt is copied a few times only. */
#include "text/ids.h"

#include "base/checked.h"

void oct_ids_init(oct_ids *v, const oct_allocator *mem) { *v = (oct_ids){.mem = mem}; }

void oct_ids_fini(oct_ids *v) {
    oct_free(v->mem, v->data, v->cap, sizeof *v->data);
    *v = (oct_ids){.mem = v->mem};
}

void oct_ids_clear(oct_ids *v) {
    v->len = 0;
    v->failed = false;
}

bool oct_ids_reserve(oct_ids *v, size_t n) {
    if (v->failed) return false;
    if (n <= v->cap - v->len) return true;
    size_t want;
    if (!oct_add_size(v->len, n, &want)) want = SIZE_MAX; /* is refused */
    want = oct_max_size(want, oct_max_size(64, v->cap + v->cap / 2));
    int32_t *data = oct_grow(v->mem, v->data, v->cap, want, sizeof *data);
    if (!data) {
        v->failed = true;
        return false;
    }
    v->data = data;
    v->cap = want;
    return true;
}
