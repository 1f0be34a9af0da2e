/*
 * device/cpu/cpu.c - the CPU device: opening, closing, what it says of itself.
 *
 * Float rows are float32. What is computed is fixed by docs/numerics.md and the same on every
 * instruction set and number of threads, bit for bit; who computes it is chosen at open.
 */
#include "device/cpu/cpu.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "quant/contract.h"

_Static_assert(OCT_NUMERICS_REV == OCTET_NUMERICS_REV, "one arithmetic inside and out");

/* Why the last open failed, since there is no device then to ask. */
static _Thread_local char open_error[OCT_ERR_TEXT];

static void no_log(void *ctx, int32_t level, const char *text) {
    (void)ctx;
    (void)level;
    (void)text;
}

/* settings: "mask=HEX", "prefetch=0|1". */
static oct_status read_settings(const char *settings, octet_device *dev, oct_err *err) {
    const oct_str mask = OCT_STR("mask="), prefetch = OCT_STR("prefetch=");
    for (const char *at = settings; at && *at;) {
        const size_t len = strcspn(at, ",");
        const oct_str item = {at, len};
        uint64_t value = 0;
        if (oct_str_starts(item, mask) &&
            oct_parse_hex((oct_str){at + mask.len, len - mask.len}, &value) && value <= UINT32_MAX)
            dev->cpu_mask &= (uint32_t)value;
        else if (oct_str_starts(item, prefetch) &&
                 oct_parse_u64((oct_str){at + prefetch.len, len - prefetch.len}, &value) &&
                 value <= 1)
            dev->prefetch.on = value != 0;
        else
            return OCT_FAIL(err, OCT_E_INVALID,
                            "device cpu: bad setting (got \"%.*s\", want mask=HEX or "
                            "prefetch=0|1)",
                            (int)(len < 31 ? len : 31), at);
        at += len + (at[len] == ',');
    }
    return OCT_OK;
}

static oct_status device_init(octet_device *dev, const octet_open_options *o, oct_err *err) {
    if (o->ordinal != 0)
        return OCT_FAIL(err, OCT_E_DEVICE, "device cpu: no such device (got %u, want 0)",
                        o->ordinal);
    dev->cpu_mask = oct_cpu_mask(); /* what there is, less what the environment forbids */
    OCT_TRY(read_settings(o->settings, dev, err));
    dev->cpu_mask = oct_cpu_mask_normal(dev->cpu_mask);
    oct_kern_init(&dev->kern, dev->cpu_mask);
    OCT_TRY(oct_pool_create(dev->mem, o->n_threads, o->bind_threads, &dev->pool, err));
    const bool asked = o->struct_bytes >= offsetof(octet_open_options, overlap) + sizeof o->overlap;
    return asked && o->overlap ? oct_cpu_queue_open(dev, err) : OCT_OK;
}

void oct_cpu_close(octet_device *dev) {
    if (!dev) return;
    oct_cpu_queue_destroy(dev->queue);
    dev->queue = NULL;
    for (size_t i = 0; i < dev->n_weights; i++)
        if (dev->weights[i].used)
            oct_cpu_weight_destroy(dev, (uint64_t)dev->weights[i].generation << 32 | (i + 1));
    oct_free(dev->mem, dev->weights, dev->n_weights, sizeof *dev->weights);
    oct_cpu_memory_fini(dev);
    oct_pool_destroy(dev->pool);
    oct_free(dev->mem, dev, 1, sizeof *dev);
}

int32_t oct_cpu_open(const octet_host *host, const octet_open_options *options,
                     octet_device **out) {
    const oct_allocator *mem = oct_system_allocator();
    oct_err err = {.code = OCT_OK};
    *out = NULL;
    octet_device *dev = oct_calloc(mem, 1, sizeof *dev);
    if (!dev) {
        snprintf(open_error, sizeof open_error, "no memory");
        return OCTET_E_NOMEM;
    }
    dev->mem = mem;
    dev->host = *host;
    if (!dev->host.log) dev->host.log = no_log;
    const oct_status st = device_init(dev, options, &err);
    if (st != OCT_OK) {
        snprintf(open_error, sizeof open_error, "%s", err.text);
        oct_cpu_close(dev);
        return st;
    }
    *out = dev;
    return OCTET_OK;
}

/* Of a line "MemTotal:   123456 kB". */
static void read_kib(const char *line, const char *key, uint64_t *bytes) {
    const size_t n = strlen(key);
    uint64_t kib;
    if (strncmp(line, key, n) != 0) return;
    const char *at = line + n + strspn(line + n, " ");
    if (oct_parse_u64((oct_str){at, strcspn(at, " ")}, &kib)) *bytes = kib * 1024;
}

/* What the system could give without swapping; its caches count as free. */
static void read_memory(octet_device_info *info) {
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    while (f && fgets(line, sizeof line, f)) {
        read_kib(line, "MemTotal:", &info->mem_total_bytes);
        read_kib(line, "MemAvailable:", &info->mem_free_bytes);
    }
    if (f) fclose(f);
}

int32_t oct_cpu_info(octet_device *dev, octet_device_info *info) {
    octet_device_info now = {.act_dtype = OCTET_F32,
                             .n_compute_units = oct_pool_n_threads(dev->pool)};
    read_memory(&now);
    snprintf(now.name, sizeof now.name, "cpu: %u thread%s, %s", now.n_compute_units,
             now.n_compute_units == 1 ? "" : "s", oct_cpu_mask_name(dev->cpu_mask));
    now.struct_bytes = info->struct_bytes < sizeof now ? info->struct_bytes : (uint32_t)sizeof now;
    memcpy(info, &now, now.struct_bytes);
    return OCTET_OK;
}

const char *oct_cpu_error_text(octet_device *dev) { return dev ? dev->err.text : open_error; }
