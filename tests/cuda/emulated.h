/* emulated.h - the CUDA device over the stand-in for its driver, for tests: open it, make it fail.
 */
#ifndef OCT_TEST_CUDA_EMULATED_H
#define OCT_TEST_CUDA_EMULATED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "device/device.h"
#include "emu/control.h"

/* What control.h declares, found in the library that LD_LIBRARY_PATH names. */
typedef struct emulated {
    emu_fail_after_fn *fail_after;
    emu_calls_fn *calls;
    emu_live_fn *live;
    emu_set_memory_fn *set_memory;
    emu_failed_fn *failed;
} emulated;

static emulated emu;

static int find_emulation(void **state) {
    (void)state;
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!lib) fail_msg("%s", dlerror());
#define FIND(member, name)                             \
    do {                                               \
        void *at = dlsym(lib, name);                   \
        if (!at) fail_msg("not the emulation: " name); \
        memcpy(&emu.member, &at, sizeof at);           \
    } while (0)
    FIND(fail_after, EMU_FAIL_AFTER);
    FIND(calls, EMU_CALLS);
    FIND(live, EMU_LIVE);
    FIND(set_memory, EMU_SET_MEMORY);
    FIND(failed, EMU_FAILED);
#undef FIND
    return 0;
}

static inline oct_status open_emulated(oct_device **out, oct_err *err) {
    return oct_device_open(oct_system_allocator(), CUDA_PLUGIN, NULL, out, err);
}

static inline oct_device *opened(void) {
    oct_err err = {.code = OCT_OK};
    oct_device *d = NULL;
    if (open_emulated(&d, &err) != OCT_OK) fail_msg("%s", err.text);
    return d;
}

/* Open must fail with OCT_E_DEVICE and a sentence that holds `words`. */
static inline void refused(const char *words) {
    oct_err err = {.code = OCT_OK};
    oct_device *d = NULL;
    assert_int_equal(open_emulated(&d, &err), OCT_E_DEVICE);
    if (!strstr(err.text, words)) fail_msg("got \"%s\", want \"%s\" in it", err.text, words);
    assert_null(d);
    assert_int_equal(emu.live(), 0);
}

#endif
