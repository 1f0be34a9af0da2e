/*
 * device/cpu/stream.c - order, recording, and the table of the CPU device.
 *
 * Without a queue an operation is done when its call returns, a stream is only a name and an event
 * is always past. With one (octet_open_options.overlap) all streams of the device are one queue of
 * commands, run in the order of their calls by its thread; an event is a place in that order. Calls
 * that are no commands wait until the queue is empty, so that nothing ever runs beside them.
 *
 * While a stream records, an operation's struct is kept instead of run; replay runs the kept
 * structs one after the other, checked as if they had come from a call.
 *
 * The structs of the contract may grow: a shorter one (an older caller) is filled up with zeros,
 * what is behind our last member is ignored.
 */
#include <string.h>

#include "device/cpu/cpu.h"
#include "device/device.h"

typedef enum command_kind {
    CMD_EMBED,
    CMD_NORM,
    CMD_QUANTIZE,
    CMD_LINEAR,
    CMD_ATTN_INPUT,
    CMD_ATTENTION,
    CMD_ACT,
    CMD_GATHER,
    CMD_FEED,
    CMD_SAMPLE,
    CMD_ROUTE,
    CMD_PERMUTE,
    CMD_QUANTIZE_GROUPED,
    CMD_LINEAR_GROUPED,
    CMD_COMBINE,
    CMD_SOFTCAP,
    CMD_COPY,
    CMD_FILL,
    CMD_WRITE,
    CMD_READ,
    CMD_REPLAY,
    CMD_WEIGHT_WRITE,
    CMD_WEIGHT_LOAD,
} command_kind;

typedef struct transfer {
    octet_ref dst, src;
    uint64_t bytes;
    uint8_t value;
    void *to; /* host memory */
    const void *from;
} transfer;

/* Work on a weight that must be done on the thread that owns the pool. */
typedef struct weight_work {
    octet_weight weight;
    const octet_weight_rows *rows;
    const octet_weight_reader *reader;
} weight_work;

typedef struct command {
    command_kind kind;
    union {
        octet_embed_op embed;
        octet_norm_op norm;
        octet_quantize_op quantize;
        octet_linear_op linear;
        octet_attn_input_op attn_input;
        octet_attention_op attention;
        octet_act_op act;
        octet_gather_op gather;
        octet_feed_op feed;
        octet_sample_op sample;
        octet_route_op route;
        octet_permute_op permute;
        octet_quantize_grouped_op quantize_grouped;
        octet_linear_grouped_op linear_grouped;
        octet_combine_op combine;
        octet_softcap_op softcap;
        transfer transfer;
        octet_graph *replay;
        weight_work weight;
    } u;
} command;

struct octet_graph {
    octet_device *dev;
    command *commands;
    size_t n, cap;
};

struct octet_stream {
    octet_device *dev;
    octet_graph *recording; /* NULL: operations run at once */
};

struct octet_event {
    octet_device *dev;
    uint64_t mark; /* commands before it; without a queue, nothing */
};

/* ---- running --------------------------------------------------------------------------------- */

static int32_t write_now(octet_device *dev, const transfer *t) {
    char *to = NULL;
    CPU_TRY(oct_cpu_at(dev, t->dst, t->bytes, 1, "write", &to));
    if (t->bytes) memcpy(to, t->from, t->bytes);
    return OCTET_OK;
}

static int32_t read_now(octet_device *dev, const transfer *t) {
    const char *from = NULL;
    CPU_TRY(oct_cpu_at(dev, t->src, t->bytes, 1, "read", &from));
    if (t->bytes) memcpy(t->to, from, t->bytes);
    return OCTET_OK;
}

static int32_t run_operation(octet_device *dev, const command *c) {
    switch (c->kind) {
    case CMD_EMBED:
        return oct_cpu_embed(dev, &c->u.embed);
    case CMD_NORM:
        return oct_cpu_norm(dev, &c->u.norm);
    case CMD_QUANTIZE:
        return oct_cpu_quantize(dev, &c->u.quantize);
    case CMD_LINEAR:
        return oct_cpu_linear(dev, &c->u.linear);
    case CMD_ATTN_INPUT:
        return oct_cpu_attn_input(dev, &c->u.attn_input);
    case CMD_ATTENTION:
        return oct_cpu_attention(dev, &c->u.attention);
    case CMD_ACT:
        return oct_cpu_act(dev, &c->u.act);
    case CMD_GATHER:
        return oct_cpu_gather(dev, &c->u.gather);
    case CMD_FEED:
        return oct_cpu_feed(dev, &c->u.feed);
    case CMD_SAMPLE:
        return oct_cpu_sample(dev, &c->u.sample);
    case CMD_ROUTE:
        return oct_cpu_route(dev, &c->u.route);
    case CMD_PERMUTE:
        return oct_cpu_permute(dev, &c->u.permute);
    case CMD_QUANTIZE_GROUPED:
        return oct_cpu_quantize_grouped(dev, &c->u.quantize_grouped);
    case CMD_LINEAR_GROUPED:
        return oct_cpu_linear_grouped(dev, &c->u.linear_grouped);
    case CMD_COMBINE:
        return oct_cpu_combine(dev, &c->u.combine);
    case CMD_SOFTCAP:
        return oct_cpu_softcap(dev, &c->u.softcap);
    case CMD_COPY:
        return oct_cpu_copy(dev, c->u.transfer.dst, c->u.transfer.src, c->u.transfer.bytes);
    case CMD_FILL:
        return oct_cpu_fill(dev, c->u.transfer.dst, c->u.transfer.value, c->u.transfer.bytes);
    case CMD_WRITE:
        return write_now(dev, &c->u.transfer);
    case CMD_READ:
        return read_now(dev, &c->u.transfer);
    case CMD_WEIGHT_WRITE:
        return oct_cpu_weight_write(dev, c->u.weight.weight, c->u.weight.rows);
    case CMD_WEIGHT_LOAD:
        return oct_cpu_weight_load(dev, c->u.weight.weight, c->u.weight.reader);
    case CMD_REPLAY:
        break;
    }
    return OCTET_E_INVALID;
}

static int32_t run(octet_device *dev, const command *c) {
    if (c->kind != CMD_REPLAY) return run_operation(dev, c);
    const octet_graph *g = c->u.replay;
    for (size_t i = 0; i < g->n; i++) CPU_TRY(run_operation(dev, &g->commands[i]));
    return OCTET_OK;
}

/* ---- the queue ------------------------------------------------------------------------------- */

static int32_t run_queued(void *ctx, const void *c) { return run(ctx, c); }

static void begin_queue(void *ctx) { oct_pool_adopt(((octet_device *)ctx)->pool); }

oct_status oct_cpu_queue_open(octet_device *dev, oct_err *err) {
    return oct_cpu_queue_create(dev->mem, sizeof(command), run_queued, begin_queue, dev,
                                &dev->queue, err);
}

/* Waits until nothing runs, so that the caller may touch the device. What failed stays for
 * stream_wait to report. */
static void quiet(octet_device *dev) {
    if (dev->queue) (void)oct_cpu_queue_wait(dev->queue, oct_cpu_queue_n_pushed(dev->queue));
}

/* Runs c, or has it run. */
static int32_t issue(octet_device *dev, const command *c) {
    if (!dev->queue) return run(dev, c);
    (void)oct_cpu_queue_push(dev->queue, c);
    return OCTET_OK;
}

/* Has c run and waits for it; a failure is the call's own. While an older one waits to be reported
 * nothing runs. */
static int32_t issue_and_wait(octet_device *dev, const command *c) {
    oct_cpu_queue *q = dev->queue;
    if (!q) return run(dev, c);
    CPU_TRY(oct_cpu_queue_wait(q, oct_cpu_queue_n_pushed(q)));
    const int32_t code = oct_cpu_queue_wait(q, oct_cpu_queue_push(q, c));
    oct_cpu_queue_clear(q);
    return code;
}

static int32_t submit(octet_stream *s, const command *c) {
    octet_graph *g = s->recording;
    if (!g) return issue(s->dev, c);
    if (g->n == g->cap) {
        const size_t cap = g->cap ? 2 * g->cap : 512;
        command *more = oct_grow(s->dev->mem, g->commands, g->cap, cap, sizeof *more);
        if (!more) {
            quiet(s->dev);
            return CPU_FAIL(s->dev, OCT_E_NOMEM, "capture: no memory for %zu operations", cap);
        }
        g->commands = more;
        g->cap = cap;
    }
    g->commands[g->n++] = *c;
    return OCTET_OK;
}

/* Copies what both sides know of an operation's struct; min_bytes: its size in version 1.0. */
static int32_t take(octet_stream *s, void *to, size_t bytes, const void *from, const char *name) {
    uint32_t got = 0;
    memcpy(&got, from, sizeof got);
    if (got < bytes) { /* all structs are still those of 1.0 */
        quiet(s->dev);
        return CPU_FAIL(s->dev, OCT_E_INVALID, "%s: struct too small (got %u bytes, want %zu)",
                        name, got, bytes);
    }
    memcpy(to, from, bytes);
    return OCTET_OK;
}

#define OPERATION(name, NAME)                                                \
    static int32_t op_##name(octet_stream *s, const octet_##name##_op *op) { \
        command c = {.kind = CMD_##NAME};                                    \
        CPU_TRY(take(s, &c.u.name, sizeof c.u.name, op, #name));             \
        return submit(s, &c);                                                \
    }

OPERATION(embed, EMBED)
OPERATION(norm, NORM)
OPERATION(quantize, QUANTIZE)
OPERATION(linear, LINEAR)
OPERATION(attn_input, ATTN_INPUT)
OPERATION(attention, ATTENTION)
OPERATION(act, ACT)
OPERATION(gather, GATHER)
OPERATION(feed, FEED)
OPERATION(sample, SAMPLE)
OPERATION(route, ROUTE)
OPERATION(permute, PERMUTE)
OPERATION(quantize_grouped, QUANTIZE_GROUPED)
OPERATION(linear_grouped, LINEAR_GROUPED)
OPERATION(combine, COMBINE)
OPERATION(softcap, SOFTCAP)

/* ---- streams and events ---------------------------------------------------------------------- */

static int32_t stream_create(octet_device *dev, octet_stream **out) {
    *out = oct_calloc(dev->mem, 1, sizeof **out);
    quiet(dev);
    if (!*out) return CPU_FAIL(dev, OCT_E_NOMEM, "stream: no memory");
    (*out)->dev = dev;
    return OCTET_OK;
}

static void graph_destroy(octet_graph *g) {
    if (!g) return;
    quiet(g->dev); /* it may be running */
    oct_free(g->dev->mem, g->commands, g->cap, sizeof *g->commands);
    oct_free(g->dev->mem, g, 1, sizeof *g);
}

static void stream_destroy(octet_stream *s) {
    if (!s) return;
    quiet(s->dev);
    graph_destroy(s->recording);
    oct_free(s->dev->mem, s, 1, sizeof *s);
}

static int32_t stream_wait(octet_stream *s) {
    oct_cpu_queue *q = s->dev->queue;
    if (!q) return OCTET_OK;
    const int32_t code = oct_cpu_queue_wait(q, oct_cpu_queue_n_pushed(q));
    oct_cpu_queue_clear(q);
    return code;
}

static int32_t event_create(octet_device *dev, octet_event **out) {
    *out = oct_calloc(dev->mem, 1, sizeof **out);
    quiet(dev);
    if (!*out) return CPU_FAIL(dev, OCT_E_NOMEM, "event: no memory");
    (*out)->dev = dev;
    return OCTET_OK;
}

static void event_destroy(octet_event *e) {
    if (e) oct_free(e->dev->mem, e, 1, sizeof *e);
}

static int32_t event_record(octet_stream *s, octet_event *e) {
    oct_cpu_queue *q = s->dev->queue;
    if (!q) return OCTET_OK;
    e->mark = oct_cpu_queue_n_pushed(q);
    oct_cpu_queue_flush(q);
    return OCTET_OK;
}

static int32_t event_wait(octet_event *e) {
    return e->dev->queue ? oct_cpu_queue_wait(e->dev->queue, e->mark) : OCTET_OK;
}

/* All streams are one order, and what was recorded lies in it already. */
static int32_t stream_wait_event(octet_stream *s, octet_event *e) {
    (void)s;
    (void)e;
    return OCTET_OK;
}

/* ---- transfers ------------------------------------------------------------------------------- */

static int32_t refuse_in_capture(octet_stream *s, const char *what) {
    if (!s->recording) return OCTET_OK;
    quiet(s->dev);
    return CPU_FAIL(s->dev, OCT_E_INVALID, "%s: not possible while recording", what);
}

static int32_t host_write(octet_stream *s, octet_ref dst, const void *src, uint64_t bytes) {
    const command c = {.kind = CMD_WRITE, .u.transfer = {.dst = dst, .from = src, .bytes = bytes}};
    CPU_TRY(refuse_in_capture(s, "write"));
    return issue(s->dev, &c);
}

static int32_t host_read(octet_stream *s, void *dst, octet_ref src, uint64_t bytes) {
    const command c = {.kind = CMD_READ, .u.transfer = {.src = src, .to = dst, .bytes = bytes}};
    CPU_TRY(refuse_in_capture(s, "read"));
    return issue(s->dev, &c);
}

static int32_t op_copy(octet_stream *s, octet_ref dst, octet_ref src, uint64_t bytes) {
    const command c = {.kind = CMD_COPY, .u.transfer = {.dst = dst, .src = src, .bytes = bytes}};
    return submit(s, &c);
}

static int32_t op_fill(octet_stream *s, octet_ref dst, uint8_t value, uint64_t bytes) {
    const command c = {.kind = CMD_FILL,
                       .u.transfer = {.dst = dst, .value = value, .bytes = bytes}};
    return submit(s, &c);
}

/* ---- capture --------------------------------------------------------------------------------- */

static int32_t capture_begin(octet_stream *s) {
    if (s->recording) {
        quiet(s->dev);
        return CPU_FAIL(s->dev, OCT_E_INVALID, "capture: already begun");
    }
    s->recording = oct_calloc(s->dev->mem, 1, sizeof *s->recording);
    if (!s->recording) {
        quiet(s->dev);
        return CPU_FAIL(s->dev, OCT_E_NOMEM, "capture: no memory");
    }
    s->recording->dev = s->dev;
    return OCTET_OK;
}

/* Room for what it holds and no more: dozens are kept for as long as the device, and each that was
 * too large would be one more place of the heap with untouched pages. */
static void shrink(octet_graph *g) {
    const oct_allocator *mem = g->dev->mem;
    command *exact = g->n > 0 && g->n < g->cap ? oct_alloc(mem, g->n, sizeof *exact) : NULL;
    if (!exact) return; /* without memory it stays as it is */
    memcpy(exact, g->commands, g->n * sizeof *exact);
    oct_free(mem, g->commands, g->cap, sizeof *exact);
    g->commands = exact;
    g->cap = g->n;
}

static int32_t capture_end(octet_stream *s, octet_graph **out) {
    *out = s->recording;
    s->recording = NULL;
    if (*out) {
        shrink(*out);
        return OCTET_OK;
    }
    quiet(s->dev);
    return CPU_FAIL(s->dev, OCT_E_INVALID, "capture: not begun");
}

static int32_t replay(octet_stream *s, octet_graph *g) {
    const command c = {.kind = CMD_REPLAY, .u.replay = g};
    CPU_TRY(refuse_in_capture(s, "replay"));
    return issue(s->dev, &c);
}

/* ---- calls that are no commands -------------------------------------------------------------- */

static int32_t buffer_create(octet_device *dev, uint64_t bytes, octet_buffer *out) {
    quiet(dev);
    return oct_cpu_buffer_create(dev, bytes, out);
}

static void buffer_destroy(octet_device *dev, octet_buffer buf) {
    quiet(dev);
    oct_cpu_buffer_destroy(dev, buf);
}

static int32_t weight_create(octet_device *dev, const octet_weight_desc *desc, octet_weight *out) {
    quiet(dev);
    return oct_cpu_weight_create(dev, desc, out);
}

static int32_t weight_write(octet_device *dev, octet_weight w, const octet_weight_rows *rows) {
    const command c = {.kind = CMD_WEIGHT_WRITE, .u.weight = {.weight = w, .rows = rows}};
    return issue_and_wait(dev, &c);
}

static int32_t weight_load(octet_device *dev, octet_weight w, const octet_weight_reader *reader) {
    const command c = {.kind = CMD_WEIGHT_LOAD, .u.weight = {.weight = w, .reader = reader}};
    return issue_and_wait(dev, &c);
}

static void weight_destroy(octet_device *dev, octet_weight w) {
    quiet(dev);
    oct_cpu_weight_destroy(dev, w);
}

static uint64_t weight_bytes(octet_device *dev, const octet_weight_desc *desc) {
    quiet(dev); /* it may have something to say */
    return oct_cpu_weight_bytes(dev, desc);
}

static uint64_t kv_block_bytes(octet_device *dev, const octet_kv_desc *desc) {
    quiet(dev);
    return oct_cpu_kv_block_bytes(dev, desc);
}

/* ---- the table ------------------------------------------------------------------------------- */

const octet_device_ops *oct_cpu_device_ops(void) {
    static const octet_device_ops table = {
        .struct_bytes = sizeof table,
        .numerics_rev = OCTET_NUMERICS_REV,
        .plugin_name = "cpu",
        .open = oct_cpu_open,
        .close = oct_cpu_close,
        .info = oct_cpu_info,
        .error_text = oct_cpu_error_text,
        .buffer_create = buffer_create,
        .buffer_destroy = buffer_destroy,
        .host_alloc = oct_cpu_host_alloc,
        .host_free = oct_cpu_host_free,
        .stream_create = stream_create,
        .stream_destroy = stream_destroy,
        .stream_wait = stream_wait,
        .event_create = event_create,
        .event_destroy = event_destroy,
        .event_record = event_record,
        .event_wait = event_wait,
        .stream_wait_event = stream_wait_event,
        .write = host_write,
        .read = host_read,
        .copy = op_copy,
        .fill = op_fill,
        .capture_begin = capture_begin,
        .capture_end = capture_end,
        .replay = replay,
        .graph_destroy = graph_destroy,
        .weight_create = weight_create,
        .weight_write = weight_write,
        .weight_destroy = weight_destroy,
        .weight_bytes = weight_bytes,
        .kv_block_bytes = kv_block_bytes,
        .embed = op_embed,
        .norm = op_norm,
        .quantize = op_quantize,
        .linear = op_linear,
        .attn_input = op_attn_input,
        .attention = op_attention,
        .act = op_act,
        .gather = op_gather,
        .sample = op_sample,
        .route = op_route,
        .permute = op_permute,
        .quantize_grouped = op_quantize_grouped,
        .linear_grouped = op_linear_grouped,
        .combine = op_combine,
        .softcap = op_softcap,
        .weight_load = weight_load,
        .feed = op_feed,
    };
    return &table;
}
