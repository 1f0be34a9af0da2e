/* device.c - opening a GPU, what it is, and the sentences of its errors. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch.h"

enum { DRIVER_MIN = CUDA_VERSION / 1000 * 1000 }; /* that of the toolkit which made the kernels */

static _Thread_local CUcontext current;
static char open_error[320];

/* ---- errors ---------------------------------------------------------------------------------- */

int32_t oct_cuda_fail(octet_device *dev, int32_t code, const char *fmt, ...) {
    if (dev && dev->lost) return OCTET_E_DEVICE; /* the first sentence says most */
    va_list args;
    va_start(args, fmt);
    vsnprintf(dev ? dev->error : open_error, sizeof open_error, fmt, args);
    va_end(args);
    return code;
}

/* After these the context answers nothing else, whatever is asked. */
static int loses_context(CUresult result) {
    switch (result) {
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_EXTERNAL_DEVICE:
    case CUDA_ERROR_DEINITIALIZED:
        return 1;
    default:
        return 0;
    }
}

int32_t oct_cuda_check(octet_device *dev, CUresult result, const char *function) {
    if (result == CUDA_SUCCESS) return OCTET_OK;
    char text[200];
    oct_cu_describe(result, text, sizeof text);
    const int lost = loses_context(result);
    const int32_t code = result == CUDA_ERROR_OUT_OF_MEMORY ? OCTET_E_NOMEM : OCTET_E_DEVICE;
    const int32_t said = oct_cuda_fail(dev, code, "%s failed: %s%s", function, text,
                                       lost ? " (the device is lost)" : "");
    if (dev && lost) dev->lost = 1;
    return said;
}

int32_t oct_cuda_enter(octet_device *dev) {
    if (dev->lost) return OCTET_E_DEVICE;
    if (current == dev->context) return OCTET_OK;
    CU_TRY(dev, cuCtxSetCurrent, dev->context);
    current = dev->context;
    return OCTET_OK;
}

int32_t oct_cuda_begin(octet_stream *s, uint32_t got_bytes, uint64_t want_bytes, const char *what) {
    if (got_bytes < want_bytes)
        return oct_cuda_fail(s->dev, OCTET_E_INVALID,
                             "%s: struct too small (got %u bytes, want %llu)", what, got_bytes,
                             (unsigned long long)want_bytes);
    return oct_cuda_enter(s->dev);
}

void oct_cuda_log(const octet_device *dev, int32_t level, const char *fmt, ...) {
    char text[320];
    if (!dev->host.log) return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    dev->host.log(dev->host.ctx, level, text);
}

const char *oct_cuda_error_text(octet_device *dev) { return dev ? dev->error : open_error; }

/* ---- open and close -------------------------------------------------------------------------- */

static int32_t check_driver(octet_device *dev, uint32_t ordinal) {
    char why[256];
    int version = 0, n_devices = 0;
    if (oct_cu_load(why, sizeof why) != 0) return oct_cuda_fail(dev, OCTET_E_DEVICE, "%s", why);
    CU_TRY(dev, cuDriverGetVersion, &version);
    if (version < DRIVER_MIN)
        return oct_cuda_fail(dev, OCTET_E_DEVICE,
                             "the CUDA driver is too old (got %d.%d, want %d.%d)", version / 1000,
                             version % 1000 / 10, DRIVER_MIN / 1000, DRIVER_MIN % 1000 / 10);
    CU_TRY(dev, cuDeviceGetCount, &n_devices);
    if (n_devices <= 0) return oct_cuda_fail(dev, OCTET_E_DEVICE, "no CUDA device here");
    if (ordinal >= (uint32_t)n_devices)
        return oct_cuda_fail(dev, OCTET_E_DEVICE, "no CUDA device %u (got %d, want 0..%d)", ordinal,
                             n_devices, n_devices - 1);
    return OCTET_OK;
}

static int32_t attribute(octet_device *dev, CUdevice_attribute which, int *out) {
    CU_TRY(dev, cuDeviceGetAttribute, out, which, dev->ordinal);
    return OCTET_OK;
}

static int32_t open_device(octet_device *dev, uint32_t ordinal) {
    int major = 0, minor = 0;
    CUDA_TRY(check_driver(dev, ordinal));
    CU_TRY(dev, cuDeviceGet, &dev->ordinal, (int)ordinal);
    CU_TRY(dev, cuDeviceGetName, dev->name, (int)sizeof dev->name, dev->ordinal);
    CUDA_TRY(attribute(dev, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major));
    CUDA_TRY(attribute(dev, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor));
    CUDA_TRY(attribute(dev, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &dev->n_sms));
    CUDA_TRY(
        attribute(dev, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &dev->shared_bytes));
    dev->sm = 10 * major + minor;
    dev->dependent = dev->sm >= 90;
    if (dev->sm < 80)
        return oct_cuda_fail(dev, OCTET_E_DEVICE,
                             "%s has compute capability %d.%d (want 8.0 or newer)", dev->name,
                             major, minor);
    CU_TRY(dev, cuDevicePrimaryCtxRetain, &dev->context, dev->ordinal);
    CUDA_TRY(oct_cuda_enter(dev));
    return oct_cuda_kernels_load(dev);
}

/* "key=0": never, "key=1": wherever it can be; what is not said is for the shape to say. */
static oct_cuda_choice choice_of(const char *settings, const char *key) {
    const char *at = settings ? strstr(settings, key) : NULL;
    if (!at) return OCT_CUDA_BY_SHAPE;
    return at[strlen(key)] == '0' ? OCT_CUDA_NEVER : OCT_CUDA_ALWAYS;
}

/* "key=N"; 0: not said. */
static int number_of(const char *settings, const char *key) {
    const char *at = settings ? strstr(settings, key) : NULL;
    return at ? atoi(at + strlen(key)) : 0;
}

int32_t oct_cuda_open(const octet_host *host, const octet_open_options *options,
                      octet_device **out) {
    *out = NULL;
    octet_device *dev = calloc(1, sizeof *dev);
    if (!dev) return oct_cuda_fail(NULL, OCTET_E_NOMEM, "no memory");
    memcpy(&dev->host, host, host->struct_bytes < sizeof *host ? host->struct_bytes : sizeof *host);
    dev->wgmma = choice_of(options->settings, "wgmma=");
    dev->few_ranks = number_of(options->settings, "ranks=");
    dev->few_room = number_of(options->settings, "room=") << 10;
    const int32_t code = open_device(dev, options->ordinal);
    if (choice_of(options->settings, "overlap=") == OCT_CUDA_NEVER) dev->dependent = 0;
    if (code != OCTET_OK) {
        snprintf(open_error, sizeof open_error, "%s", dev->error);
        oct_cuda_close(dev);
        return code;
    }
    *out = dev;
    return OCTET_OK;
}

void oct_cuda_close(octet_device *dev) {
    if (!dev) return;
    if (dev->context) {
        (void)oct_cu.cuCtxSetCurrent(dev->context);
        oct_cuda_stream_destroy(dev->side);
        oct_cuda_weights_fini(dev);
        oct_cuda_memory_fini(dev);
        oct_cuda_kernels_unload(dev);
        (void)oct_cu.cuDevicePrimaryCtxRelease(dev->ordinal);
    }
    current = NULL;
    free(dev);
}

int32_t oct_cuda_info(octet_device *dev, octet_device_info *info) {
    octet_device_info mine;
    size_t free_bytes = 0, total_bytes = 0;
    CUDA_TRY(oct_cuda_enter(dev));
    CU_TRY(dev, cuMemGetInfo, &free_bytes, &total_bytes);
    memset(&mine, 0, sizeof mine);
    mine.struct_bytes = info->struct_bytes < sizeof mine ? info->struct_bytes : sizeof mine;
    mine.act_dtype = OCTET_BF16;
    mine.n_compute_units = (uint32_t)dev->n_sms;
    mine.mem_total_bytes = total_bytes;
    mine.mem_free_bytes = free_bytes;
    snprintf(mine.name, sizeof mine.name, "cuda:%d %s, sm_%d", (int)dev->ordinal, dev->name,
             dev->sm);
    memcpy(info, &mine, mine.struct_bytes);
    return OCTET_OK;
}
