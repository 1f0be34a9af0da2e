/*
 * tests/support/refused_json.h - refused_memory.h for what builds JSON values: the requests of the
 * JSON library are counted and refused among those of the allocator.
 */
#ifndef OCT_TESTS_REFUSED_JSON_H
#define OCT_TESTS_REFUSED_JSON_H

#include <stddef.h>
#include <stdlib.h>

#include <jansson.h>

#include "support/refused_memory.h"

/* The library says no size when it gives a block back. */
typedef union json_block {
    size_t bytes;
    max_align_t aligned;
} json_block;

static const oct_allocator *json_mem;

static inline void *json_take(size_t bytes) {
    json_block *b = oct_alloc(json_mem, 1, sizeof *b + bytes);
    if (!b) return NULL;
    b->bytes = bytes;
    return b + 1;
}

static inline void json_give(void *p) {
    if (!p) return;
    json_block *b = (json_block *)p - 1;
    oct_free(json_mem, b, 1, sizeof *b + b->bytes);
}

/* As refuse_each_request. Values that were made outside may be read and counted up and down in a
 * call, and none may be kept beyond it. */
static inline void
refuse_each_request_and_json(oct_status (*run)(void *ctx, const oct_allocator *mem), void *ctx) {
    for (size_t k = 0;; k++) {
        oct_fault_alloc f;
        oct_fault_alloc_init(&f, k, 0);
        json_mem = &f.allocator;
        json_set_alloc_funcs(json_take, json_give);
        const oct_status status = run(ctx, &f.allocator);
        json_set_alloc_funcs(malloc, free);
        assert_int_equal(f.live_blocks, 0);
        assert_true(status == OCT_OK || status == OCT_E_NOMEM);
        if (status == OCT_OK && f.n_requests <= k) return;
        assert_true(k < 100000);
    }
}

#endif
