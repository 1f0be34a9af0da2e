/*
 * plugin_null.c - the smallest complete device plug-in for octet.
 *
 * Its handshake is correct, its memory is real, its operations check their arguments and compute
 * nothing: the logits are a function of a seed and the sampler picks from them, so a server can be
 * tried (streaming, cancelling, overload) without a model's arithmetic. Start a plug-in of your own
 * from here and ask `octet conform --device /path/plugin.so` what is still missing.
 *
 * settings: "seed=N" (default 1) and "step_us=N" (what one call of sample takes, default 0).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <octet/device.h>

#if defined(__GNUC__)
#define EXPORT __attribute__((visibility("default")))
#else
#define EXPORT
#endif

enum { MAX_OBJECTS = 65536 };

typedef struct object {
    unsigned char *data; /* a buffer's memory; NULL for a weight */
    uint64_t bytes;      /* 0: a free slot */
    octet_weight_desc desc;
} object;

struct octet_device {
    octet_host host;
    uint64_t seed, step_us;
    object *objects; /* handle h is objects[h - 1] */
    char error[160];
};

/* Everything runs at once, so a stream and an event only remember whose they are. */
struct octet_stream {
    octet_device *dev;
};
struct octet_event {
    octet_device *dev;
};

static char open_error[160];

static int32_t fail(octet_device *dev, int32_t code, const char *text) {
    snprintf(dev ? dev->error : open_error, sizeof open_error, "%s", text);
    return code;
}

/* ---- opening --------------------------------------------------------------------------------- */

static uint64_t setting(const char *settings, const char *key, uint64_t otherwise) {
    const char *at = settings ? strstr(settings, key) : NULL;
    return at ? strtoull(at + strlen(key), NULL, 10) : otherwise;
}

static int32_t null_open(const octet_host *host, const octet_open_options *o, octet_device **out) {
    *out = NULL;
    if (o->ordinal != 0) return fail(NULL, OCTET_E_DEVICE, "there is only device 0");
    octet_device *dev = calloc(1, sizeof *dev);
    if (dev) dev->objects = calloc(MAX_OBJECTS, sizeof *dev->objects);
    if (!dev || !dev->objects) {
        free(dev);
        return fail(NULL, OCTET_E_NOMEM, "no memory");
    }
    memcpy(&dev->host, host, host->struct_bytes < sizeof *host ? host->struct_bytes : sizeof *host);
    dev->seed = setting(o->settings, "seed=", 1);
    dev->step_us = setting(o->settings, "step_us=", 0);
    if (dev->host.log) dev->host.log(dev->host.ctx, OCTET_LOG_DEBUG, "null device opened");
    *out = dev;
    return OCTET_OK;
}

static void null_close(octet_device *dev) {
    if (!dev) return;
    for (size_t i = 0; i < MAX_OBJECTS; i++) free(dev->objects[i].data);
    free(dev->objects);
    free(dev);
}

static int32_t null_info(octet_device *dev, octet_device_info *info) {
    octet_device_info mine;
    (void)dev;
    memset(&mine, 0, sizeof mine);
    /* Write no more than the host has room for. */
    mine.struct_bytes = info->struct_bytes < sizeof mine ? info->struct_bytes : sizeof mine;
    mine.act_dtype = OCTET_F32;
    mine.n_compute_units = 1;
    mine.mem_total_bytes = mine.mem_free_bytes = (uint64_t)4 << 30;
    snprintf(mine.name, sizeof mine.name, "null: computes nothing");
    memcpy(info, &mine, mine.struct_bytes);
    return OCTET_OK;
}

static const char *null_error_text(octet_device *dev) { return dev ? dev->error : open_error; }

/* ---- memory ---------------------------------------------------------------------------------- */

static int32_t object_add(octet_device *dev, uint64_t bytes, int memory, uint64_t *out) {
    *out = 0;
    for (size_t i = 0; i < MAX_OBJECTS; i++) {
        object *o = &dev->objects[i];
        if (o->bytes) continue;
        if (memory && !(o->data = calloc(1, bytes))) return fail(dev, OCTET_E_NOMEM, "no memory");
        o->bytes = bytes;
        *out = i + 1;
        return OCTET_OK;
    }
    return fail(dev, OCTET_E_FULL, "too many buffers and weights");
}

static void object_remove(octet_device *dev, uint64_t handle) {
    if (handle == 0 || handle > MAX_OBJECTS) return;
    free(dev->objects[handle - 1].data);
    memset(&dev->objects[handle - 1], 0, sizeof *dev->objects);
}

static int32_t buffer_create(octet_device *dev, uint64_t bytes, octet_buffer *out) {
    if (bytes == 0 || bytes > SIZE_MAX / 2) return fail(dev, OCTET_E_INVALID, "bad buffer size");
    return object_add(dev, bytes, 1, out);
}

static void buffer_destroy(octet_device *dev, octet_buffer buf) { object_remove(dev, buf); }

/* The memory at ref, if `bytes` lie there; else NULL. */
static void *at(octet_device *dev, octet_ref ref, uint64_t bytes) {
    if (ref.buffer == 0 || ref.buffer > MAX_OBJECTS) return NULL;
    const object *o = &dev->objects[ref.buffer - 1];
    if (!o->data || ref.offset > o->bytes || bytes > o->bytes - ref.offset) return NULL;
    return o->data + ref.offset;
}

/* ---- order ----------------------------------------------------------------------------------- */

static int32_t stream_create(octet_device *dev, octet_stream **out) {
    *out = malloc(sizeof **out);
    if (!*out) return fail(dev, OCTET_E_NOMEM, "no memory");
    (*out)->dev = dev;
    return OCTET_OK;
}
static void stream_destroy(octet_stream *s) { free(s); }
static int32_t stream_wait(octet_stream *s) {
    (void)s;
    return OCTET_OK;
}
static int32_t event_create(octet_device *dev, octet_event **out) {
    *out = malloc(sizeof **out);
    if (!*out) return fail(dev, OCTET_E_NOMEM, "no memory");
    (*out)->dev = dev;
    return OCTET_OK;
}
static void event_destroy(octet_event *e) { free(e); }
static int32_t event_record(octet_stream *s, octet_event *e) {
    (void)s;
    (void)e;
    return OCTET_OK;
}
static int32_t event_wait(octet_event *e) {
    (void)e;
    return OCTET_OK;
}
static int32_t stream_wait_event(octet_stream *s, octet_event *e) { return event_record(s, e); }

/* ---- transfers ------------------------------------------------------------------------------- */

static int32_t transfer_write(octet_stream *s, octet_ref dst, const void *src, uint64_t bytes) {
    void *to = at(s->dev, dst, bytes);
    if (!to) return fail(s->dev, OCTET_E_INVALID, "write outside a buffer");
    if (bytes) memcpy(to, src, bytes);
    return OCTET_OK;
}
static int32_t transfer_read(octet_stream *s, void *dst, octet_ref src, uint64_t bytes) {
    const void *from = at(s->dev, src, bytes);
    if (!from) return fail(s->dev, OCTET_E_INVALID, "read outside a buffer");
    if (bytes) memcpy(dst, from, bytes);
    return OCTET_OK;
}
static int32_t transfer_copy(octet_stream *s, octet_ref dst, octet_ref src, uint64_t bytes) {
    void *to = at(s->dev, dst, bytes);
    const void *from = at(s->dev, src, bytes);
    if (!to || !from) return fail(s->dev, OCTET_E_INVALID, "copy outside a buffer");
    memmove(to, from, bytes);
    return OCTET_OK;
}
static int32_t transfer_fill(octet_stream *s, octet_ref dst, uint8_t value, uint64_t bytes) {
    void *to = at(s->dev, dst, bytes);
    if (!to) return fail(s->dev, OCTET_E_INVALID, "fill outside a buffer");
    memset(to, value, bytes);
    return OCTET_OK;
}

/* ---- weights --------------------------------------------------------------------------------- */

/* A member that was appended: an older host's struct ends before it. */
static uint32_t experts_of(const octet_weight_desc *d) {
    return d->struct_bytes >= offsetof(octet_weight_desc, n_experts) + sizeof d->n_experts
               ? d->n_experts
               : 0;
}

static uint64_t weight_bytes(octet_device *dev, const octet_weight_desc *d) {
    const uint64_t size = d->dtype == OCTET_I8 ? 1 : d->dtype == OCTET_F32 ? 4 : 2;
    const uint64_t n_experts = experts_of(d);
    (void)dev;
    return d->n * d->k * size * (n_experts ? n_experts : 1);
}
static int32_t weight_create(octet_device *dev, const octet_weight_desc *d, octet_weight *out) {
    *out = 0;
    if (d->n == 0 || d->k == 0 || d->n > UINT32_MAX || d->k > UINT32_MAX / 4)
        return fail(dev, OCTET_E_INVALID, "bad shape of a weight");
    if (d->dtype != OCTET_I8 && d->dtype != OCTET_F32 && d->dtype != OCTET_BF16 &&
        d->dtype != OCTET_F16)
        return fail(dev, OCTET_E_UNSUPPORTED, "unknown storage of a weight");
    const int32_t code = object_add(dev, 1, 0, out);
    if (code != OCTET_OK) return code;
    octet_weight_desc *mine = &dev->objects[*out - 1].desc;
    mine->dtype = d->dtype;
    mine->n = d->n;
    mine->k = d->k;
    mine->n_experts = experts_of(d);
    mine->struct_bytes = sizeof *mine;
    return code;
}
static const octet_weight_desc *weight_get(octet_device *dev, octet_weight w) {
    if (w == 0 || w > MAX_OBJECTS || dev->objects[w - 1].desc.n == 0) return NULL;
    return &dev->objects[w - 1].desc;
}
static int32_t weight_write(octet_device *dev, octet_weight w, const octet_weight_rows *rows) {
    const octet_weight_desc *d = weight_get(dev, w);
    const uint64_t n = d ? d->n * (d->n_experts ? d->n_experts : 1) : 0;
    if (!d || rows->row > n || rows->n_rows > n - rows->row)
        return fail(dev, OCTET_E_INVALID, "rows outside the weight");
    return OCTET_OK;
}
static void weight_destroy(octet_device *dev, octet_weight w) { object_remove(dev, w); }

static uint64_t kv_block_bytes(octet_device *dev, const octet_kv_desc *d) {
    const uint64_t tokens = (uint64_t)2 * d->n_kv_heads * d->block_tokens;
    (void)dev;
    switch (d->kind) {
    case OCTET_KV_F32:
        return tokens * d->head_dim * 4;
    case OCTET_KV_BF16:
    case OCTET_KV_F16:
        return tokens * d->head_dim * 2;
    case OCTET_KV_I8_CHANNEL:
    case OCTET_KV_FP8_CHANNEL:
        return tokens * d->head_dim;
    case OCTET_KV_I8_TOKEN:
        return tokens * (d->head_dim + sizeof(float));
    default:
        return 0;
    }
}

/* ---- operations ------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

#define NOTHING(name)                                                         \
    static int32_t name(octet_stream *s, const octet_##name##_op *op) {       \
        if (op->struct_bytes < sizeof *op)                                    \
            return fail(s->dev, OCTET_E_INVALID, #name ": struct too small"); \
        return OCTET_OK;                                                      \
    }

NOTHING(embed)
NOTHING(norm)
NOTHING(quantize)
NOTHING(attn_input)
NOTHING(attention)
NOTHING(act)
NOTHING(gather)
NOTHING(route)
NOTHING(permute)
NOTHING(quantize_grouped)
NOTHING(linear_grouped)
NOTHING(combine)
NOTHING(softcap)

/* Logits (float32 asked for by name) come from the seed, the same for every row. */
static int32_t linear(octet_stream *s, const octet_linear_op *op) {
    octet_device *dev = s->dev;
    const octet_weight_desc *d = weight_get(dev, op->weight);
    if (op->struct_bytes < sizeof *op || !d)
        return fail(dev, OCTET_E_INVALID, "linear: no such weight");
    if (op->out_dtype != OCTET_F32) return OCTET_OK;
    for (uint32_t r = 0; r < op->n_rows; r++) {
        octet_ref ref = op->out.data;
        ref.offset += (uint64_t)r * op->out.stride * sizeof(float);
        float *out = at(dev, ref, d->n * sizeof(float));
        if (!out) return fail(dev, OCTET_E_INVALID, "linear: result outside its buffer");
        for (uint64_t c = 0; c < d->n; c++)
            out[c] = (float)(mix(dev->seed + c * 0x9e3779b97f4a7c15u) >> 40) * 0x1p-21f;
    }
    return OCTET_OK;
}

/* Tokens that the step before drew: it has ended, because every call here ends before it returns.
 */
static int32_t feed(octet_stream *s, const octet_feed_op *op) {
    octet_device *dev = s->dev;
    if (op->struct_bytes < sizeof *op) return fail(dev, OCTET_E_INVALID, "feed: struct too small");
    int32_t *ids = at(dev, op->ids, (uint64_t)op->n_rows * sizeof *ids);
    const int32_t *from = at(dev, op->from, (uint64_t)op->n_rows * sizeof *from);
    const octet_sample_out *drawn = at(dev, op->drawn, (uint64_t)op->n_drawn * sizeof *drawn);
    if (!ids || !from || !drawn) return fail(dev, OCTET_E_INVALID, "feed: outside its buffers");
    for (uint32_t r = 0; r < op->n_rows; r++) {
        if (from[r] < 0) continue;
        if ((uint32_t)from[r] >= op->n_drawn)
            return fail(dev, OCTET_E_INVALID, "feed: nothing is drawn there");
        const int32_t token = drawn[from[r]].token;
        ids[r] = token >= 0 && (uint32_t)token < op->n_vocab ? token : 0;
    }
    return OCTET_OK;
}

typedef struct sampling {
    const octet_sample_op *op;
    const octet_sample_row *row;
    const float *logits;
    const uint32_t *mask; /* NULL: every token */
    const octet_bias *bias;
} sampling;

/* A token's logit: the row's, turned by the position so that tokens differ, plus its bias. */
static float logit(const sampling *p, uint32_t id) {
    const uint64_t turn = mix(p->row->seed * 31 + p->row->position);
    float v = p->logits[(id + turn) % p->op->n_vocab];
    if (p->mask && !(p->mask[id / 32] >> id % 32 & 1)) return -INFINITY;
    for (uint32_t b = p->row->bias_begin; p->bias && b < p->row->bias_end; b++)
        if (p->bias[b].id == (int32_t)id) v += p->bias[b].value;
    return v;
}

static void sample_row(const sampling *p, octet_sample_out *out, int32_t *top_id, float *top_lp) {
    int32_t best = -1;
    float max = -INFINITY;
    double sum = 0;
    for (uint32_t c = 0; c < p->op->n_vocab; c++) {
        const float v = logit(p, c);
        if (v > max) max = v, best = (int32_t)c;
    }
    memset(out, 0, sizeof *out);
    out->token = best;
    out->status = best < 0 ? OCTET_SAMPLE_NONE_ALLOWED : OCTET_SAMPLED;
    if (best < 0) return;
    if (p->row->flags & OCTET_SAMPLE_FORCED) out->token = p->row->forced;
    for (uint32_t c = 0; c < p->op->n_vocab; c++) sum += exp((double)logit(p, c) - max);
    const float own = logit(p, (uint32_t)out->token);
    out->logprob = (float)(own - max - log(sum));
    out->rank = 1;
    for (uint32_t c = 0; c < p->op->n_vocab; c++) out->rank += logit(p, c) > own;
    /* The most likely, one after the other: the next is the largest below the last. */
    float last = INFINITY;
    for (uint32_t t = 0; t < p->row->n_top && t < p->op->max_top; t++) {
        float next = -INFINITY;
        top_id[t] = 0;
        for (uint32_t c = 0; c < p->op->n_vocab; c++)
            if (logit(p, c) < last && logit(p, c) > next) {
                next = logit(p, c);
                top_id[t] = (int32_t)c;
            }
        top_lp[t] = (float)(next - max - log(sum));
        last = next;
    }
}

static int32_t sample(octet_stream *s, const octet_sample_op *op) {
    octet_device *dev = s->dev;
    if (op->struct_bytes < sizeof *op || op->n_vocab == 0)
        return fail(dev, OCTET_E_INVALID, "sample: bad arguments");
    const octet_sample_row *rows = at(dev, op->rows, op->n_rows * sizeof *rows);
    octet_sample_out *out = at(dev, op->out, op->n_rows * sizeof *out);
    const uint64_t top_bytes = (uint64_t)op->n_rows * op->max_top * 4;
    int32_t *top_id = op->max_top ? at(dev, op->top_id, top_bytes) : NULL;
    float *top_lp = op->max_top ? at(dev, op->top_logprob, top_bytes) : NULL;
    if (!rows || !out || (op->max_top && (!top_id || !top_lp)))
        return fail(dev, OCTET_E_INVALID, "sample: outside its buffers");
    for (uint32_t r = 0; r < op->n_rows; r++) {
        octet_ref ref = op->logits.data, mask = op->masks;
        const uint64_t words = ((uint64_t)op->n_vocab + 31) / 32;
        ref.offset += (uint64_t)r * op->logits.stride * sizeof(float);
        mask.offset += rows[r].mask < 0 ? 0 : (uint64_t)rows[r].mask * words * 4;
        const sampling p = {.op = op,
                            .row = &rows[r],
                            .logits = at(dev, ref, op->n_vocab * sizeof(float)),
                            .mask = rows[r].mask < 0 ? NULL : at(dev, mask, words * 4),
                            .bias = at(dev, op->bias, rows[r].bias_end * sizeof(octet_bias))};
        if (!p.logits) return fail(dev, OCTET_E_INVALID, "sample: logits outside their buffer");
        const int forced = (rows[r].flags & OCTET_SAMPLE_FORCED) != 0;
        if (forced && (rows[r].forced < 0 || (uint32_t)rows[r].forced >= op->n_vocab))
            return fail(dev, OCTET_E_INVALID, "sample: forced token outside the vocabulary");
        sample_row(&p, &out[r], top_id ? top_id + (size_t)r * op->max_top : NULL,
                   top_lp ? top_lp + (size_t)r * op->max_top : NULL);
    }
    const struct timespec pause = {(time_t)(dev->step_us / 1000000),
                                   (long)(dev->step_us % 1000000 * 1000)};
    if (dev->step_us) nanosleep(&pause, NULL);
    return OCTET_OK;
}

/* ---- the table ------------------------------------------------------------------------------- */

/* Absent members stay NULL: this plug-in has no fast host memory and records no steps. */
static const octet_device_ops table = {
    .struct_bytes = sizeof(octet_device_ops),
    .numerics_rev = OCTET_NUMERICS_REV,
    .plugin_name = "null",
    .open = null_open,
    .close = null_close,
    .info = null_info,
    .error_text = null_error_text,
    .buffer_create = buffer_create,
    .buffer_destroy = buffer_destroy,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .stream_wait = stream_wait,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_wait = event_wait,
    .stream_wait_event = stream_wait_event,
    .write = transfer_write,
    .read = transfer_read,
    .copy = transfer_copy,
    .fill = transfer_fill,
    .weight_create = weight_create,
    .weight_write = weight_write,
    .weight_destroy = weight_destroy,
    .weight_bytes = weight_bytes,
    .kv_block_bytes = kv_block_bytes,
    .embed = embed,
    .norm = norm,
    .quantize = quantize,
    .linear = linear,
    .attn_input = attn_input,
    .attention = attention,
    .act = act,
    .gather = gather,
    .sample = sample,
    .route = route,
    .permute = permute,
    .quantize_grouped = quantize_grouped,
    .linear_grouped = linear_grouped,
    .combine = combine,
    .softcap = softcap,
    .feed = feed,
};

EXPORT octet_device_plugin_fn octet_device_plugin_v1;

EXPORT const octet_device_ops *octet_device_plugin_v1(const octet_host *host) {
    if (host->numerics_rev == OCTET_NUMERICS_REV) return &table;
    if (host->log) host->log(host->ctx, OCTET_LOG_ERROR, "null: the host's arithmetic is another");
    return NULL;
}
