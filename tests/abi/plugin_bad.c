/*
 * tests/abi/plugin_bad.c - the null plug-in with one thing wrong, chosen by a macro. Each has the
 * sentence that test_abi.c expects.
 */
#define octet_device_plugin_v1 good_entry
#include "plugin_null.c"
#undef octet_device_plugin_v1

#ifndef BAD_NO_SYMBOL

/* A table with members of a later version behind ours. */
typedef struct later_ops {
    octet_device_ops v1;
    int32_t (*invented_later)(octet_device *dev);
} later_ops;

static int32_t info_bad(octet_device *dev, octet_device_info *info) {
    null_info(dev, info);
    info->act_dtype = 99;
    return OCTET_OK;
}

static int32_t open_none(const octet_host *host, const octet_open_options *o, octet_device **out) {
    (void)host;
    (void)o;
    *out = NULL;
    return fail(NULL, OCTET_E_DEVICE, "no device found: driver 3.1, want 4.0");
}

static void change(octet_device_ops *ops) {
    (void)ops;
    (void)info_bad;
    (void)open_none;
#if defined(BAD_SHORT)
    ops->struct_bytes = offsetof(octet_device_ops, sample);
#elif defined(BAD_FUTURE)
    ops->struct_bytes = sizeof(later_ops);
#elif defined(BAD_WRONG_NUMERICS)
    ops->numerics_rev = OCTET_NUMERICS_REV + 1;
#elif defined(BAD_MISSING_MEMBER)
    ops->linear = NULL;
#elif defined(BAD_HALF_CAPTURE)
    ops->capture_begin = stream_wait;
#elif defined(BAD_HALF_EXPERTS)
    ops->combine = NULL;
#elif defined(BAD_OLDEST)
    ops->struct_bytes = offsetof(octet_device_ops, route); /* what is behind is not looked at */
    ops->permute = NULL;
#elif defined(BAD_BAD_INFO)
    ops->info = info_bad;
#elif defined(BAD_NO_DEVICE)
    ops->open = open_none;
#endif
}

EXPORT octet_device_plugin_fn octet_device_plugin_v1;

EXPORT const octet_device_ops *octet_device_plugin_v1(const octet_host *host) {
    static later_ops ops;
#if defined(BAD_DECLINES)
    host->log(host->ctx, OCTET_LOG_ERROR, "this machine is too warm");
    return NULL;
#endif
    ops.v1 = *good_entry(host);
    change(&ops.v1);
    return &ops.v1;
}

#endif
