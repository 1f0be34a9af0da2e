/*
 * tests/fault/plugin_fault.c - the null plug-in with a call that fails when a test says so.
 *
 * OCTET_FAULT_FILE names a file of four int32 that test and plug-in share:
 *
 *     [0] what happens: 0 nothing, 1 the call fails, 2 it and every later call fail (a lost
 *         context), 3 it never returns, 4 it is refused memory, 5 the next call that makes a buffer
 * or a weight is refused memory [1] how many calls until then; counted down here [2] calls so far
 *     [3] 1 once the fault has happened
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define octet_device_plugin_v1 good_entry
#include "plugin_null.c"
#undef octet_device_plugin_v1

enum { NOTHING_FAILS, FAILS_ONCE, FAILS_EVER, NEVER_RETURNS, NO_MEMORY, NO_ROOM };

static volatile int32_t *shared;
static octet_device_ops real;
static char sentence[64];

/* 0, or the code that the call named answers instead of being made. */
static int32_t fault(const char *name) {
    if (!shared) return 0;
    shared[2]++;
    if (shared[0] == FAILS_EVER && shared[3]) return OCTET_E_DEVICE;
    if (shared[0] == NOTHING_FAILS || shared[3] || --shared[1] > 0) return 0;
    if (shared[0] == NO_ROOM && strcmp(name, "buffer_create") != 0 &&
        strcmp(name, "weight_create") != 0)
        return 0;
    shared[3] = 1;
    if (shared[0] == NEVER_RETURNS)
        for (;;) pause();
    snprintf(sentence, sizeof sentence, "fault in %s", name);
    return shared[0] >= NO_MEMORY ? OCTET_E_NOMEM : OCTET_E_DEVICE;
}

static const char *fault_error_text(octet_device *dev) {
    return shared && shared[3] ? sentence : real.error_text(dev);
}

#define CALL(name, params, args)             \
    static int32_t fault_##name params {     \
        const int32_t code = fault(#name);   \
        return code ? code : real.name args; \
    }

CALL(open, (const octet_host *h, const octet_open_options *o, octet_device **out), (h, o, out))
CALL(info, (octet_device * d, octet_device_info *info), (d, info))
CALL(buffer_create, (octet_device * d, uint64_t bytes, octet_buffer *out), (d, bytes, out))
CALL(stream_create, (octet_device * d, octet_stream **out), (d, out))
CALL(stream_wait, (octet_stream * s), (s))
CALL(write, (octet_stream * s, octet_ref dst, const void *src, uint64_t n), (s, dst, src, n))
CALL(read, (octet_stream * s, void *dst, octet_ref src, uint64_t n), (s, dst, src, n))
CALL(copy, (octet_stream * s, octet_ref dst, octet_ref src, uint64_t n), (s, dst, src, n))
CALL(fill, (octet_stream * s, octet_ref dst, uint8_t v, uint64_t n), (s, dst, v, n))
CALL(weight_create, (octet_device * d, const octet_weight_desc *w, octet_weight *out), (d, w, out))
CALL(weight_write, (octet_device * d, octet_weight w, const octet_weight_rows *r), (d, w, r))
CALL(embed, (octet_stream * s, const octet_embed_op *op), (s, op))
CALL(norm, (octet_stream * s, const octet_norm_op *op), (s, op))
CALL(quantize, (octet_stream * s, const octet_quantize_op *op), (s, op))
CALL(linear, (octet_stream * s, const octet_linear_op *op), (s, op))
CALL(attn_input, (octet_stream * s, const octet_attn_input_op *op), (s, op))
CALL(attention, (octet_stream * s, const octet_attention_op *op), (s, op))
CALL(act, (octet_stream * s, const octet_act_op *op), (s, op))
CALL(gather, (octet_stream * s, const octet_gather_op *op), (s, op))
CALL(sample, (octet_stream * s, const octet_sample_op *op), (s, op))
CALL(feed, (octet_stream * s, const octet_feed_op *op), (s, op))
CALL(event_create, (octet_device * d, octet_event **out), (d, out))
CALL(event_record, (octet_stream * s, octet_event *e), (s, e))
CALL(event_wait, (octet_event * e), (e))

static void share(void) {
    const char *path = getenv("OCTET_FAULT_FILE");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) shared = at;
    close(fd);
}

EXPORT octet_device_plugin_fn octet_device_plugin_v1;

EXPORT const octet_device_ops *octet_device_plugin_v1(const octet_host *host) {
    static octet_device_ops ops;
    real = ops = *good_entry(host);
    share();
    ops.error_text = fault_error_text;
    ops.open = fault_open;
    ops.info = fault_info;
    ops.buffer_create = fault_buffer_create;
    ops.stream_create = fault_stream_create;
    ops.stream_wait = fault_stream_wait;
    ops.write = fault_write;
    ops.read = fault_read;
    ops.copy = fault_copy;
    ops.fill = fault_fill;
    ops.weight_create = fault_weight_create;
    ops.weight_write = fault_weight_write;
    ops.embed = fault_embed;
    ops.norm = fault_norm;
    ops.quantize = fault_quantize;
    ops.linear = fault_linear;
    ops.attn_input = fault_attn_input;
    ops.attention = fault_attention;
    ops.act = fault_act;
    ops.gather = fault_gather;
    ops.sample = fault_sample;
    ops.feed = fault_feed;
    ops.event_create = fault_event_create;
    ops.event_record = fault_event_record;
    ops.event_wait = fault_event_wait;
    return &ops;
}
