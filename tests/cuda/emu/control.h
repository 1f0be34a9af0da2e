/*
 * control.h - what a test tells the stand-in for the CUDA driver and asks of it. In C; found in
 * libcuda.so.1 with dlsym. The environment says the same for programs that know nothing of it:
 *
 *   OCT_EMU_DEVICES=N    devices (default 1; 0: cuInit answers CUDA_ERROR_NO_DEVICE)
 *   OCT_EMU_DRIVER=N     version of the driver (default 13000)
 *   OCT_EMU_SM=N         compute capability, times ten (default 89)
 *   OCT_EMU_MEMORY=N     bytes of the device (default 2^33)
 *   OCT_EMU_FAIL_CALL=N  the N-th call from the start fails (cuInit is the first)
 *   OCT_EMU_FAIL_CODE=N  with this CUresult (default 999). A code that loses the context stays.
 *   OCT_EMU_FAIL_NAME=F  only calls of the function F count
 */
#ifndef OCT_EMU_CONTROL_H
#define OCT_EMU_CONTROL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The n-th call from now fails with `code`; n 0: none. Also forgets a lost context. */
typedef void emu_fail_after_fn(uint64_t n, int code);
/* Calls so far. */
typedef uint64_t emu_calls_fn(void);
/* What was made and not given back: memory, host memory, streams, events, graphs, modules. */
typedef uint64_t emu_live_fn(void);
/* Bytes of the device from now on. */
typedef void emu_set_memory_fn(uint64_t bytes);
/* Name of the call that failed last on request. */
typedef const char *emu_failed_fn(void);

#define EMU_FAIL_AFTER "emu_fail_after"
#define EMU_CALLS "emu_calls"
#define EMU_LIVE "emu_live"
#define EMU_SET_MEMORY "emu_set_memory"
#define EMU_FAILED "emu_failed"

#ifdef __cplusplus
}
#endif
#endif
