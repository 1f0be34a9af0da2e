/*
 * device/device.c - loads plug-ins and refuses those that cannot serve.
 *
 * The order of the checks (each failure names what was wanted and what was found): the file is
 * there and loads with local visibility; it has the entry symbol; it does not decline; its table is
 * at least that of version 1.0; its numerics are ours; the required members are filled; open
 * succeeds; info makes sense. A name without a slash is looked for only in the installation folder
 * and a path must be absolute, so that neither the working directory nor LD_LIBRARY_PATH can put
 * foreign code here.
 *
 * A plug-in is never unmapped: threads or exit handlers of its libraries may outlive the device.
 */
#include "device/device.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/num.h"
#include "device/cpu/pool.h"

#ifndef OCT_PLUGIN_DIR
#define OCT_PLUGIN_DIR "/usr/local/lib/octet"
#endif

/* The table as version 1.0 had it. Later members are optional for ever. */
#define OPS_V1_BYTES (offsetof(octet_device_ops, sample) + sizeof(((octet_device_ops *)0)->sample))

/* ---- what the host lends: a log -------------------------------------------------------------- */

/* The last line a plug-in logged: when it declines, that is its reason. */
static pthread_mutex_t last_lock = PTHREAD_MUTEX_INITIALIZER;
static char last_text[256];

static void host_log(void *ctx, int32_t level, const char *text) {
    (void)ctx;
    if (!text) return;
    const oct_log_level ours = level <= OCTET_LOG_DEBUG  ? OCT_LOG_DEBUG
                               : level == OCTET_LOG_INFO ? OCT_LOG_INFO
                               : level == OCTET_LOG_WARN ? OCT_LOG_WARN
                                                         : OCT_LOG_ERROR;
    pthread_mutex_lock(&last_lock);
    snprintf(last_text, sizeof last_text, "%s", text);
    pthread_mutex_unlock(&last_lock);
    oct_log(ours, "device: %s", text);
}

static void last_take(char *out, size_t cap) {
    pthread_mutex_lock(&last_lock);
    snprintf(out, cap, "%s", last_text[0] ? last_text : "it gave no reason");
    last_text[0] = 0;
    pthread_mutex_unlock(&last_lock);
}

static const octet_host the_host = {sizeof(octet_host), OCTET_NUMERICS_REV, NULL, host_log};

/* ---- names ----------------------------------------------------------------------------------- */

typedef struct wanted {
    char path[PATH_MAX]; /* empty: the built-in CPU device */
    uint32_t ordinal;
} wanted;

static oct_status path_fits(int n, const char *name, oct_err *err) {
    if (n > 0 && n < PATH_MAX) return OCT_OK;
    return OCT_FAIL(err, OCT_E_DEVICE, "device \"%.80s\": path too long (got %d bytes, want < %d)",
                    name, n, PATH_MAX);
}

/* Splits "x:N" at its last colon; without one the ordinal is 0. */
static oct_status split_ordinal(const char *name, size_t *len, uint32_t *ordinal, oct_err *err) {
    const char *colon = strrchr(name, ':');
    uint64_t n = 0;
    *ordinal = 0;
    *len = strlen(name);
    if (!colon) return OCT_OK;
    if (!oct_parse_u64(oct_str_of(colon + 1), &n) || n > 1023)
        return OCT_FAIL(err, OCT_E_INVALID, "device \"%s\": bad number after ':' (want 0..1023)",
                        name);
    *ordinal = (uint32_t)n;
    *len = (size_t)(colon - name);
    return OCT_OK;
}

static bool plain_name(const char *s, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", s[i])) return false;
    return len > 0;
}

/* The plug-in `name` in the installation folder: beside the program (../lib/octet), so that a tree
 * can be moved, or below it (lib/octet), where a build has it; else where it was configured to be.
 */
static oct_status find_installed(const char *name, size_t len, const char *dir, wanted *w,
                                 oct_err *err) {
    if (dir)
        return path_fits(snprintf(w->path, sizeof w->path, "%s/octet_%.*s.so", dir, (int)len, name),
                         name, err);
    char exe[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n > 0) {
        exe[n] = 0;
        char *slash = strrchr(exe, '/');
        if (slash) *slash = 0;
        static const char *const folders[] = {"../lib/octet", "lib/octet"};
        for (size_t i = 0; i < OCT_COUNT(folders); i++) {
            OCT_TRY(path_fits(snprintf(w->path, sizeof w->path, "%s/%s/octet_%.*s.so", exe,
                                       folders[i], (int)len, name),
                              name, err));
            if (access(w->path, F_OK) == 0) return OCT_OK;
        }
    }
    return path_fits(
        snprintf(w->path, sizeof w->path, "%s/octet_%.*s.so", OCT_PLUGIN_DIR, (int)len, name), name,
        err);
}

static oct_status parse_name(const char *name, const char *dir, wanted *w, oct_err *err) {
    memset(w, 0, sizeof *w);
    if (!strcmp(name, "cpu")) return OCT_OK;
    size_t len = 0;
    OCT_TRY(split_ordinal(name, &len, &w->ordinal, err));
    if (name[0] == '/')
        return path_fits(snprintf(w->path, sizeof w->path, "%.*s", (int)len, name), name, err);
    if (memchr(name, '/', len))
        return OCT_FAIL(err, OCT_E_DEVICE,
                        "device \"%s\": relative path refused (want an absolute path or a name)",
                        name);
    if (!plain_name(name, len))
        return OCT_FAIL(err, OCT_E_INVALID,
                        "device \"%s\": not a device name (want auto, cpu, cuda[:N] or "
                        "/absolute/plugin.so[:N])",
                        name);
    return find_installed(name, len, dir, w, err);
}

/* ---- the table ------------------------------------------------------------------------------- */

/* Members every plug-in fills. Those that stand for an ability (capture, fast host memory) may be
 * absent; octet/device.h marks them. */
/* clang-format off */
#define REQUIRED(X)                                                                      \
    X(open) X(close) X(info) X(error_text) X(buffer_create) X(buffer_destroy)            \
    X(stream_create) X(stream_destroy) X(stream_wait) X(event_create) X(event_destroy)   \
    X(event_record) X(event_wait) X(stream_wait_event) X(write) X(read) X(copy) X(fill)  \
    X(weight_create) X(weight_write) X(weight_destroy) X(weight_bytes) X(kv_block_bytes) \
    X(embed) X(norm) X(quantize) X(linear) X(attn_input) X(attention) X(act) X(gather)   \
    X(sample)
/* clang-format on */

static const char *missing_member(const octet_device_ops *ops) {
#define MISSING(member) \
    if (!ops->member) return #member;
    REQUIRED(MISSING)
#undef MISSING
    /* Abilities come whole. */
    if (!ops->host_alloc != !ops->host_free) return ops->host_alloc ? "host_free" : "host_alloc";
    if (ops->capture_begin && !(ops->capture_end && ops->replay && ops->graph_destroy))
        return "capture_end, replay or graph_destroy";
    if (OCTET_HAS(ops, route) && !(OCTET_HAS(ops, permute) && OCTET_HAS(ops, quantize_grouped) &&
                                   OCTET_HAS(ops, linear_grouped) && OCTET_HAS(ops, combine)))
        return "permute, quantize_grouped, linear_grouped or combine";
    return NULL;
}

static oct_status check_table(const octet_device_ops *ops, const char *path, oct_err *err) {
    if (ops->struct_bytes < OPS_V1_BYTES)
        return OCT_FAIL(err, OCT_E_DEVICE, "%s: table too small (got %u bytes, want at least %zu)",
                        path, ops->struct_bytes, OPS_V1_BYTES);
    if (ops->numerics_rev != OCTET_NUMERICS_REV)
        return OCT_FAIL(err, OCT_E_DEVICE, "%s: other arithmetic (got revision %u, want %u)", path,
                        ops->numerics_rev, OCTET_NUMERICS_REV);
    const char *missing = missing_member(ops);
    if (missing)
        return OCT_FAIL(err, OCT_E_DEVICE, "%s: member missing from its table (got NULL, want %s)",
                        path, missing);
    return OCT_OK;
}

static oct_status load_table(const char *path, const octet_device_ops **out, oct_err *err) {
    if (access(path, F_OK) != 0)
        return OCT_FAIL(err, OCT_E_DEVICE, "%s: no such plug-in (want a shared object there)",
                        path);
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!lib) {
        const char *why = dlerror();
        return OCT_FAIL(err, OCT_E_DEVICE, "%s: does not load as a plug-in (got: %s)", path,
                        why ? why : "no reason");
    }
    octet_device_plugin_fn *entry = NULL;
    void *symbol = dlsym(lib, OCTET_DEVICE_PLUGIN_SYMBOL);
    if (!symbol)
        return OCT_FAIL(err, OCT_E_DEVICE, "%s: not an octet plug-in (got no symbol %s)", path,
                        OCTET_DEVICE_PLUGIN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from void * to function */
    char why[sizeof last_text];
    last_take(why, sizeof why);
    const octet_device_ops *ops = entry(&the_host);
    if (!ops) {
        last_take(why, sizeof why);
        return OCT_FAIL(err, OCT_E_DEVICE, "%s: the plug-in declines (it says: %s)", path, why);
    }
    OCT_TRY(check_table(ops, path, err));
    *out = ops;
    return OCT_OK;
}

/* ---- open ------------------------------------------------------------------------------------ */

static oct_status status_of(int32_t code) {
    return code > OCT_OK && code <= OCT_E_CANCELLED ? (oct_status)code : OCT_E_DEVICE;
}

static const char *text_of(const octet_device_ops *ops, octet_device *dev) {
    const char *text = ops->error_text(dev);
    return text && text[0] ? text : "no reason given";
}

static oct_status read_info(oct_device *d, oct_err *err) {
    memset(&d->info, 0, sizeof d->info);
    d->info.struct_bytes = sizeof d->info;
    OCT_TRY(oct_device_check(d, d->ops->info(d->dev, &d->info), "info", err));
    d->info.name[sizeof d->info.name - 1] = 0;
    if (d->info.act_dtype != OCTET_F32 && d->info.act_dtype != OCTET_BF16)
        return OCT_FAIL(err, OCT_E_DEVICE, "%s: unknown type of float rows (got %u, want %u or %u)",
                        d->source, d->info.act_dtype, OCTET_F32, OCTET_BF16);
    return OCT_OK;
}

static oct_status open_table(oct_device *d, const wanted *w, const oct_device_options *o,
                             oct_err *err) {
    const octet_open_options options = {.struct_bytes = sizeof options,
                                        .ordinal = w->ordinal,
                                        .n_threads = o->n_threads,
                                        .bind_threads = o->bind_threads,
                                        .overlap = d->overlap,
                                        .settings = o->settings};
    octet_device *dev = NULL;
    const int32_t code = d->ops->open(&the_host, &options, &dev);
    const oct_status st = status_of(code);
    const bool host_memory = st == OCT_E_NOMEM && d->ops == oct_cpu_device_ops();
    if (code != OCTET_OK)
        return OCT_FAIL(err, st == OCT_E_INVALID || host_memory ? st : OCT_E_DEVICE,
                        "%s: device %u does not open (code %d: %s)", d->source, w->ordinal, code,
                        text_of(d->ops, NULL));
    if (!dev)
        return OCT_FAIL(err, OCT_E_DEVICE, "%s: open answered success but no device", d->source);
    d->dev = dev;
    return read_info(d, err);
}

static oct_status open_wanted(const oct_allocator *mem, const wanted *w,
                              const oct_device_options *o, oct_device **out, oct_err *err) {
    const octet_device_ops *ops = oct_cpu_device_ops();
    if (w->path[0]) OCT_TRY(load_table(w->path, &ops, err));
    oct_device *d = oct_calloc(mem, 1, sizeof *d);
    if (!d) return OCT_FAIL(err, OCT_E_NOMEM, "device: no memory");
    d->mem = mem;
    d->ops = ops;
    d->overlap = o->overlap == OCT_OVERLAP_YES ||
                 (o->overlap == OCT_OVERLAP_AUTO &&
                  (w->path[0] || oct_pool_count(o->n_threads) < oct_pool_count(0)));
    snprintf(d->source, sizeof d->source, "%.255s", w->path[0] ? w->path : "cpu (built in)");
    const oct_status st = open_table(d, w, o, err);
    if (st != OCT_OK) {
        oct_device_close(d);
        return st;
    }
    *out = d;
    return OCT_OK;
}

oct_status oct_device_open(const oct_allocator *mem, const char *name,
                           const oct_device_options *options, oct_device **out, oct_err *err) {
    static const oct_device_options defaults;
    const oct_device_options *o = options ? options : &defaults;
    wanted w;
    *out = NULL;
    if (strcmp(name, "auto") != 0) {
        OCT_TRY(parse_name(name, o->plugin_dir, &w, err));
        return open_wanted(mem, &w, o, out, err);
    }
    oct_err why = {.code = OCT_OK};
    if (parse_name("cuda", o->plugin_dir, &w, &why) == OCT_OK && access(w.path, F_OK) == 0) {
        /* Settings are the CPU's or the plug-in's; with "auto" they are the winner's. */
        if (open_wanted(mem, &w, o, out, &why) == OCT_OK) return OCT_OK;
        /* No more than a remark: most machines that have the plug-in and no GPU are well so. */
        oct_info("device auto: using the CPU, because %s", why.text);
    }
    OCT_TRY(parse_name("cpu", NULL, &w, err));
    return open_wanted(mem, &w, o, out, err);
}

void oct_device_close(oct_device *d) {
    if (!d) return;
    if (d->dev) d->ops->close(d->dev);
    oct_free(d->mem, d, 1, sizeof *d);
}

oct_status oct_device_check(const oct_device *d, int32_t code, const char *operation,
                            oct_err *err) {
    if (OCT_FAULT_CALL(operation)) code = OCTET_E_DEVICE;
    if (OCT_LIKELY(code == OCTET_OK)) return OCT_OK;
    return OCT_FAIL(err, status_of(code), "%s: %s failed (code %d: %s)",
                    d->info.name[0] ? d->info.name : d->source, operation, code,
                    text_of(d->ops, d->dev));
}

oct_status oct_device_check_memory(oct_device *d, int32_t code, const char *what, uint64_t bytes,
                                   oct_err *err) {
    if (status_of(code) != OCT_E_NOMEM) return oct_device_check(d, code, what, err);
    const oct_status st = oct_device_has_memory(d) ? OCT_E_DEVICE : OCT_E_NOMEM;
    char said[256], name[256]; /* asking for what is free may write others */
    snprintf(said, sizeof said, "%s", text_of(d->ops, d->dev));
    snprintf(name, sizeof name, "%s", d->info.name[0] ? d->info.name : d->source);
    if (read_info(d, NULL) != OCT_OK)
        return OCT_FAIL(err, st, "%s: no memory for %s (want %llu bytes): %s", name, what,
                        (unsigned long long)bytes, said);
    return OCT_FAIL(err, st, "%s: no memory for %s (got %llu bytes free, want %llu): %s", name,
                    what, (unsigned long long)d->info.mem_free_bytes, (unsigned long long)bytes,
                    said);
}

bool oct_device_has_memory(const oct_device *d) { return d->ops != oct_cpu_device_ops(); }

oct_status oct_device_refresh(oct_device *d, oct_err *err) { return read_info(d, err); }

bool oct_device_can_capture(const oct_device *d) {
    return OCTET_HAS(d->ops, capture_begin) && OCTET_HAS(d->ops, graph_destroy);
}

bool oct_device_can_overlap(const oct_device *d) { return d->overlap && OCTET_HAS(d->ops, feed); }

bool oct_device_has_experts(const oct_device *d) { return OCTET_HAS(d->ops, route); }

void *oct_device_host_alloc(oct_device *d, size_t bytes, bool *fast_out) {
    void *p = d->ops->host_alloc ? d->ops->host_alloc(d->dev, bytes) : NULL;
    *fast_out = p != NULL;
    return p ? p : oct_calloc(d->mem, bytes, 1);
}

void oct_device_host_free(oct_device *d, void *ptr, size_t bytes, bool fast) {
    if (!ptr) return;
    if (fast)
        d->ops->host_free(d->dev, ptr);
    else
        oct_free(d->mem, ptr, bytes, 1);
}
