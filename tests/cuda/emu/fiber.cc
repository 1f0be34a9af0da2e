/* fiber.cc - x86-64 context switches. Registers that a call keeps are on the stack, nothing else.
 */
#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define OCT_EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OCT_EMU_ASAN 1
#endif
#endif
#ifdef OCT_EMU_ASAN
#include <sanitizer/common_interface_defs.h>
static const size_t stack_bytes = 256 << 10;
#else
static const size_t stack_bytes = 64 << 10;
#endif

#ifndef __x86_64__
#error "the emulation switches stacks on x86-64 alone"
#endif

extern "C" void emu_switch(void **save, void *to);
__asm__(".text\n"
        ".type emu_switch, @function\n"
        "emu_switch:\n"
        "  endbr64\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size emu_switch, . - emu_switch\n");

static void *outside; /* the stack of who resumes */
static emu_fiber *running;
static emu_fiber_fn *begin_fn;
static void *begin_ctx;

#ifdef OCT_EMU_ASAN
static void *outside_shadow;
static const void *outside_bottom;
static size_t outside_bytes;
#endif

static void leave(emu_fiber *f, bool for_good) {
    (void)for_good;
#ifdef OCT_EMU_ASAN
    __sanitizer_start_switch_fiber(for_good ? nullptr : &f->shadow, outside_bottom, outside_bytes);
#endif
    emu_switch(&f->sp, outside);
#ifdef OCT_EMU_ASAN
    __sanitizer_finish_switch_fiber(f->shadow, &outside_bottom, &outside_bytes);
#endif
}

static void enter() {
#ifdef OCT_EMU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &outside_bottom, &outside_bytes);
#endif
    emu_fiber *f = running;
    begin_fn(begin_ctx);
    f->done = true;
    leave(f, true);
    abort(); /* a fiber that is done is not resumed */
}

void emu_fiber_start(emu_fiber *f, emu_fiber_fn *fn, void *ctx) {
    if (!f->stack) {
        void *p =
            mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p, 4096, PROT_NONE) != 0) {
            fputs("emulation: no memory for the stack of a thread\n", stderr);
            abort();
        }
        f->stack = static_cast<char *>(p);
    }
    begin_fn = fn; /* all fibers of a block begin alike */
    begin_ctx = ctx;
    uintptr_t *top = reinterpret_cast<uintptr_t *>(f->stack + stack_bytes);
    *--top = 0;
    void (*const first)() = enter;
    *--top = reinterpret_cast<uintptr_t>(first);
    for (int i = 0; i < 6; i++) *--top = 0;
    f->sp = top;
    f->done = false;
    f->shadow = nullptr;
}

void emu_fiber_resume(emu_fiber *f) {
    running = f;
#ifdef OCT_EMU_ASAN
    __sanitizer_start_switch_fiber(&outside_shadow, f->stack, stack_bytes);
#endif
    emu_switch(&outside, f->sp);
#ifdef OCT_EMU_ASAN
    __sanitizer_finish_switch_fiber(outside_shadow, nullptr, nullptr);
#endif
}

void emu_fiber_yield() { leave(running, false); }
