/*
 * device/device.h - the host's side of the contract in octet/device.h: find a device, check it,
 * open it, and turn its codes into sentences.
 *
 * A device is called straight through its table: d->ops->linear(stream, &op). Each answer goes
 * through oct_device_check, which makes an oct_status and a sentence of it:
 *
 *     OCT_TRY(oct_device_check(d, d->ops->linear(s, &op), "linear", err));
 *
 * Ownership  oct_device_close closes what open opened; everything made from the device is gone by
 *            then. A plug-in's code stays mapped until the process ends.
 * Threads    Calls for one device come from one thread at a time.
 * Elsewhere  The CPU device: device/cpu/. Whether a device computes what it should:
 *            device/conform.h.
 */
#ifndef OCT_DEVICE_DEVICE_H
#define OCT_DEVICE_DEVICE_H

#include <octet/device.h>

#include <stdbool.h>

#include "base/alloc.h"
#include "base/status.h"

typedef struct oct_device {
    const octet_device_ops *ops; /* the required members are all there */
    octet_device *dev;
    octet_device_info info; /* as it was at open */
    char source[256];       /* "cpu (built in)" or the path of the plug-in; for the log */
    bool overlap;           /* asked for at open, or found worth it */
    const oct_allocator *mem;
} oct_device;

/* Whether steps will be queued while others run, so that calls should return early. */
typedef enum oct_overlap {
    OCT_OVERLAP_NO,
    OCT_OVERLAP_YES,
    OCT_OVERLAP_AUTO, /* not on the CPU device when its threads take every core: who prepares the
                         next step would take one from them (docs/decisions/0007) */
} oct_overlap;

/* All zero, or NULL, means "choose well". */
typedef struct oct_device_options {
    uint32_t n_threads;    /* CPU threads that may compute; 0: the cores this process may use */
    uint32_t bind_threads; /* 0 default, 1 bind to cores and memory, 2 do not */
    const char *settings;  /* "key=value,..." of the device; NULL: none */
    oct_overlap overlap;
    const char *plugin_dir; /* where plug-ins are found by name; NULL: the installation folder */
} oct_device_options;

/*
 * name: "cpu"; "cuda" or "cuda:N" (the plug-in of that name in the installation folder, its device
 * N); "/absolute/plugin.so" or "/absolute/plugin.so:N"; "auto": cuda if its plug-in is there and
 * opens, else cpu.
 *
 * A name that cannot be had is OCT_E_DEVICE with a sentence that says what was wanted and what was
 * found; a name that is none of the above is OCT_E_INVALID. *out is NULL on failure.
 */
OCT_MUST_CHECK oct_status oct_device_open(const oct_allocator *mem, const char *name,
                                          const oct_device_options *options, oct_device **out,
                                          oct_err *err);
void oct_device_close(oct_device *d); /* accepts NULL */

/* OCT_OK for 0; else the status of that name (OCT_E_DEVICE for a code this build does not know) and
 * the sentence "NAME: OPERATION failed: what the device says". */
OCT_MUST_CHECK oct_status oct_device_check(const oct_device *d, int32_t code, const char *operation,
                                           oct_err *err);

/* As oct_device_check for memory that is made while a model is loaded. Where it is refused the
 * sentence says how much is free and how much was wanted, and the status is OCT_E_DEVICE; of the
 * CPU, whose memory is the machine's, OCT_E_NOMEM. */
OCT_MUST_CHECK oct_status oct_device_check_memory(oct_device *d, int32_t code, const char *what,
                                                  uint64_t bytes, oct_err *err);

/* True when the device computes in memory of its own and not in the machine's. */
bool oct_device_has_memory(const oct_device *d);

/* Memory and totals as they are now. */
OCT_MUST_CHECK oct_status oct_device_refresh(oct_device *d, oct_err *err);

/* True when steps can be recorded and replayed (optional in the contract). */
bool oct_device_can_capture(const oct_device *d);

/* True when it is worth queueing a step while another runs: overlap was asked for at open, and a
 * step can take its tokens from the one before (optional in the contract). */
bool oct_device_can_overlap(const oct_device *d);

/* True when layers of experts can be run (optional in the contract). */
bool oct_device_has_experts(const oct_device *d);

/* Host memory for transfers: the device's own if it has any to give (*fast_out true), else plain.
 * NULL when refused. Give back with the same bytes and answer; free accepts NULL. */
OCT_MUST_CHECK void *oct_device_host_alloc(oct_device *d, size_t bytes, bool *fast_out);
void oct_device_host_free(oct_device *d, void *ptr, size_t bytes, bool fast);

/* The built-in device's table, for tests. settings it knows: "prefetch=1" (prefetch.c), "mask=HEX"
 * (which instruction sets may be used, 0: the scalar reference; default: all there are). */
const octet_device_ops *oct_cpu_device_ops(void);

#endif
