/*
 * fiber.h - threads of a block as fibers of one host thread: a stack each, switched by hand.
 * A fiber runs until it yields or its function returns; then the one who resumed it goes on.
 */
#ifndef OCT_EMU_FIBER_H
#define OCT_EMU_FIBER_H

#include <cstddef>

struct emu_fiber {
    void *sp;
    char *stack; /* [stack_bytes], kept for the next block */
    bool done;
    void *shadow; /* AddressSanitizer's, while another stack runs */
};

typedef void emu_fiber_fn(void *ctx);

/* Makes `f` begin with fn(ctx) when it is resumed next. */
void emu_fiber_start(emu_fiber *f, emu_fiber_fn *fn, void *ctx);
/* Runs it until it yields or is done. Not from inside a fiber. */
void emu_fiber_resume(emu_fiber *f);
/* Back to who resumed the fiber that is running. */
void emu_fiber_yield();

#endif
