/*
 * tests/support/refused_memory.h - what must hold of anything that asks for memory: whichever
 * request is refused, the failure is told as such and nothing stays behind.
 */
#ifndef OCT_TESTS_REFUSED_MEMORY_H
#define OCT_TESTS_REFUSED_MEMORY_H

#include "base/alloc.h"
#include "base/status.h"

/* Calls run again and again, refusing request 0, 1, 2, ... for memory until it makes no more than
 * were allowed and succeeds. Each call gives back all that it took, and returns OCT_OK (a refusal
 * that it could do without) or OCT_E_NOMEM. Include <cmocka.h> before. */
static inline void refuse_each_request(oct_status (*run)(void *ctx, const oct_allocator *mem),
                                       void *ctx) {
    for (size_t k = 0;; k++) {
        oct_fault_alloc f;
        oct_fault_alloc_init(&f, k, 0);
        const oct_status status = run(ctx, &f.allocator);
        assert_int_equal(f.live_blocks, 0);
        assert_true(status == OCT_OK || status == OCT_E_NOMEM);
        if (status == OCT_OK && f.n_requests <= k) return;
        assert_true(k < 100000);
    }
}

#endif
