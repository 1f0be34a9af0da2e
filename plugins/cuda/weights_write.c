/*
 * weights_write.c - filling a packed matrix: rows go over in parts, and the device puts them into
 * tiles (kernels/pack.cu), because it is quicker at that.
 *
 * A part passes through a stage: pinned host memory, as much device memory, and an event behind
 * what reads them. There are N_STAGES, so while one is being filled others are on the bus or being
 * packed. weight_load fills them with as many threads, each in a stage of its own, for reading a
 * file takes longer than the way over the bus; weight_write goes through them in turn.
 *
 * Checked on the way, in host memory: scales and biases are finite, the integer bias cannot push a
 * sum out of int32.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch.h"
#include "weights.h"

enum { N_STAGES = 4, STAGE_BYTES = 8 << 20 };

typedef struct stage {
    unsigned char *host;
    CUdeviceptr data;
    CUevent done; /* behind the last use */
} stage;

struct oct_cuda_stages {
    stage at[N_STAGES];
    unsigned next; /* of weight_write */
};

/* ---- stages ---------------------------------------------------------------------------------- */

static int32_t make_stage(octet_device *dev, stage *g) {
    void *host = NULL;
    CU_TRY(dev, cuMemHostAlloc, &host, STAGE_BYTES, CU_MEMHOSTALLOC_PORTABLE);
    g->host = host;
    CU_TRY(dev, cuMemAlloc, &g->data, STAGE_BYTES);
    CU_TRY(dev, cuEventCreate, &g->done, CU_EVENT_DISABLE_TIMING);
    return OCTET_OK;
}

static int32_t stages_of(octet_device *dev, oct_cuda_stages **out) {
    *out = dev->stages;
    if (*out) return OCTET_OK;
    dev->stages = calloc(1, sizeof *dev->stages);
    if (!dev->stages) return oct_cuda_fail(dev, OCTET_E_NOMEM, "weight: no memory");
    for (unsigned i = 0; i < N_STAGES; i++) {
        const int32_t code = make_stage(dev, &dev->stages->at[i]);
        if (code == OCTET_OK) continue;
        oct_cuda_stages_destroy(dev);
        return code;
    }
    *out = dev->stages;
    return OCTET_OK;
}

void oct_cuda_stages_destroy(octet_device *dev) {
    for (unsigned i = 0; dev->stages && i < N_STAGES; i++) {
        stage *g = &dev->stages->at[i];
        if (g->done) (void)oct_cu.cuEventDestroy(g->done);
        if (g->data) (void)oct_cu.cuMemFree(g->data);
        if (g->host) (void)oct_cu.cuMemFreeHost(g->host);
    }
    free(dev->stages);
    dev->stages = NULL;
}

/* Rows of a part, and where its numbers are in a stage, behind the data. */
typedef struct cut {
    uint64_t most, scale, int_bias, bias, bytes;
} cut;

static cut cut_of(const oct_cuda_weight *w, uint64_t n_stages_used) {
    const uint64_t row = w->desc.k * oct_cuda_weight_element(w->desc.dtype); /* at most 512 KiB */
    const uint64_t fit = (STAGE_BYTES - 64) / (row + 12);
    /* Small matrices are shared out too. */
    const uint64_t even = (oct_cuda_weight_rows(w) + n_stages_used - 1) / n_stages_used;
    const uint64_t least = (256 << 10) / row + 1;
    cut c = {.most = even < fit ? even : fit};
    if (c.most < least) c.most = least < fit ? least : fit;
    if (c.most > oct_cuda_weight_rows(w)) c.most = oct_cuda_weight_rows(w);
    c.scale = (c.most * row + 15) / 16 * 16;
    c.int_bias = c.scale + c.most * 4;
    c.bias = c.int_bias + c.most * 4;
    c.bytes = c.bias + c.most * 4;
    return c;
}

/* ---- a part ---------------------------------------------------------------------------------- */

static int32_t check_numbers(octet_device *dev, const oct_cuda_weight *w, const cut *c,
                             const stage *g, uint64_t row, uint64_t n) {
    const float *scale = (const float *)(const void *)(g->host + c->scale);
    const float *bias = (const float *)(const void *)(g->host + c->bias);
    const int32_t *int_bias = (const int32_t *)(const void *)(g->host + c->int_bias);
    const int64_t limit = (int64_t)INT32_MAX - (int64_t)w->desc.k * 16384;
    const int i8 = w->desc.dtype == OCTET_I8;
    for (uint64_t i = 0; i < n; i++) {
        const unsigned long long at = row + i;
        if (i8 && !isfinite(scale[i]))
            return oct_cuda_fail(dev, OCTET_E_INVALID, "weight: scale of row %llu is not finite",
                                 at);
        if (!isfinite(bias[i]))
            return oct_cuda_fail(dev, OCTET_E_INVALID, "weight: bias of row %llu is not finite",
                                 at);
        if (i8 && (int_bias[i] > limit || int_bias[i] < -limit))
            return oct_cuda_fail(dev, OCTET_E_INVALID,
                                 "weight: integer bias of row %llu may overflow (got %d, want "
                                 "within +-%lld for k %u)",
                                 at, int_bias[i], (long long)limit, w->params.k);
    }
    return OCTET_OK;
}

/* Queues a stage that holds rows row .. row + n - 1. */
static int32_t send(octet_stream *s, const oct_cuda_weight *w, const cut *c, stage *g, uint64_t row,
                    uint64_t n) {
    CUDA_TRY(check_numbers(s->dev, w, c, g, row, n));
    const oct_pack_params p = {.fault = oct_cuda_fault_word(s),
                               .weight = w->all,
                               .rows = g->data,
                               .scale = g->data + c->scale,
                               .int_bias = g->data + c->int_bias,
                               .bias = g->data + c->bias,
                               .row = row,
                               .n_rows = n};
    const uint64_t pieces = n * w->params.k_tiles * (OCT_TILE_K_BYTES / 16);
    CU_TRY(s->dev, cuMemcpyHtoDAsync, g->data, g->host, c->bytes, s->stream);
    CUDA_TRY(OCT_LAUNCH(s, pack, ((oct_grid){oct_blocks_of(pieces, 256), 1, 1}), 256, 0, &p));
    CU_TRY(s->dev, cuEventRecord, g->done, s->stream);
    return OCTET_OK;
}

/* From now on products read what was given. */
static void note_given(oct_cuda_weight *w, uint32_t given) {
    if (given & OCTET_GIVEN_INT_BIAS) w->params.int_bias = w->all.int_bias;
    if (given & OCTET_GIVEN_BIAS) w->params.bias = w->all.bias;
}

/* ---- weight_write ---------------------------------------------------------------------------- */

static int32_t check_rows(octet_device *dev, const oct_cuda_weight *w, const octet_weight_rows *r) {
    const uint64_t n_all = oct_cuda_weight_rows(w);
    if (r->struct_bytes < sizeof *r)
        return oct_cuda_fail(dev, OCTET_E_INVALID,
                             "weight: struct too small (got %u bytes, want %zu)", r->struct_bytes,
                             sizeof *r);
    if (r->row > n_all || r->n_rows > n_all - r->row)
        return oct_cuda_fail(
            dev, OCTET_E_INVALID,
            "weight: rows outside the matrix (got %llu from %llu, want within %llu)",
            (unsigned long long)r->n_rows, (unsigned long long)r->row, (unsigned long long)n_all);
    if (!r->data || (w->desc.dtype == OCTET_I8 && !r->col_scale))
        return oct_cuda_fail(dev, OCTET_E_INVALID, "weight: data or scales missing");
    if (w->desc.dtype != OCTET_I8 && (r->col_scale || r->int_bias))
        return oct_cuda_fail(dev, OCTET_E_INVALID,
                             "weight: scales and integer bias are for int8 only");
    return OCTET_OK;
}

static void copy_or_zero(unsigned char *to, const void *from, uint64_t at, uint64_t n) {
    if (from)
        memcpy(to, (const unsigned char *)from + at * 4, n * 4);
    else
        memset(to, 0, n * 4);
}

static int32_t write_parts(octet_stream *s, const oct_cuda_weight *w, oct_cuda_stages *stages,
                           const octet_weight_rows *r) {
    const uint64_t row_bytes = w->desc.k * oct_cuda_weight_element(w->desc.dtype);
    const cut c = cut_of(w, N_STAGES);
    for (uint64_t done = 0; done < r->n_rows; done += c.most) {
        const uint64_t n = r->n_rows - done < c.most ? r->n_rows - done : c.most;
        stage *g = &stages->at[stages->next++ % N_STAGES];
        CU_TRY(s->dev, cuEventSynchronize, g->done);
        memcpy(g->host, (const unsigned char *)r->data + done * row_bytes, n * row_bytes);
        copy_or_zero(g->host + c.scale, r->col_scale, done, n);
        copy_or_zero(g->host + c.int_bias, r->int_bias, done, n);
        copy_or_zero(g->host + c.bias, r->bias, done, n);
        CUDA_TRY(send(s, w, &c, g, r->row + done, n));
    }
    return OCTET_OK;
}

int32_t oct_cuda_weight_write(octet_device *dev, octet_weight handle,
                              const octet_weight_rows *rows) {
    octet_stream *s = NULL;
    oct_cuda_stages *stages = NULL;
    CUDA_TRY(oct_cuda_enter(dev));
    oct_cuda_weight *w = oct_cuda_weight_get(dev, handle, "weight_write");
    if (!w) return OCTET_E_INVALID;
    CUDA_TRY(check_rows(dev, w, rows));
    CUDA_TRY(oct_cuda_side_stream(dev, &s));
    CUDA_TRY(stages_of(dev, &stages));
    const int32_t code = write_parts(s, w, stages, rows);
    const int32_t waited = oct_cuda_stream_wait(s);
    if (code != OCTET_OK) return code;
    note_given(w,
               (rows->int_bias ? OCTET_GIVEN_INT_BIAS : 0) | (rows->bias ? OCTET_GIVEN_BIAS : 0));
    return waited;
}

/* ---- weight_load ----------------------------------------------------------------------------- */

typedef struct load {
    octet_stream *s;
    const oct_cuda_weight *w;
    const octet_weight_reader *reader;
    cut c;
    pthread_mutex_t lock; /* of the device's calls and what follows */
    uint64_t next;        /* row that nobody took */
    uint32_t given;
    int32_t code; /* the first that was not 0 */
} load;

typedef struct loader {
    load *job;
    stage *stage;
    pthread_t thread;
    int runs;
} loader;

/* Takes rows; false when there are none left or something failed. */
static int take_rows(load *j, uint64_t *row, uint64_t *n) {
    const uint64_t n_all = oct_cuda_weight_rows(j->w);
    (void)pthread_mutex_lock(&j->lock);
    const int any = j->code == OCTET_OK && j->next < n_all;
    *row = j->next;
    *n = n_all - j->next < j->c.most ? n_all - j->next : j->c.most;
    if (any) j->next += *n;
    (void)pthread_mutex_unlock(&j->lock);
    return any;
}

static int32_t read_rows(load *j, stage *g, uint64_t row, uint64_t n, uint32_t *given) {
    const int i8 = j->w->desc.dtype == OCTET_I8;
    octet_weight_part part = {.struct_bytes = sizeof part,
                              .row = row,
                              .n_rows = n,
                              .data = g->host,
                              .col_scale = i8 ? (float *)(void *)(g->host + j->c.scale) : NULL,
                              .int_bias = i8 ? (int32_t *)(void *)(g->host + j->c.int_bias) : NULL,
                              .bias = (float *)(void *)(g->host + j->c.bias)};
    memset(g->host + j->c.int_bias, 0, 2 * j->c.most * 4); /* both biases */
    const int32_t code = j->reader->read(j->reader->ctx, &part);
    *given = part.given;
    return code;
}

/* Keeps the first failure. A sentence that is there (said) is not written over. */
static void keep(load *j, int32_t code, int said) {
    if (code == OCTET_OK || j->code != OCTET_OK) return;
    j->code =
        said ? code : oct_cuda_fail(j->s->dev, code, "weight: a part of it could not be read");
}

static void load_part(load *j, stage *g, uint64_t row, uint64_t n) {
    octet_device *dev = j->s->dev;
    uint32_t given = 0;
    /* Events may be waited for by any thread; a failure shows again under the lock. */
    (void)oct_cu.cuEventSynchronize(g->done);
    const int32_t code = read_rows(j, g, row, n, &given);
    (void)pthread_mutex_lock(&j->lock);
    keep(j, code, 0);
    if (j->code == OCTET_OK) keep(j, oct_cuda_enter(dev), 1);
    if (j->code == OCTET_OK) keep(j, send(j->s, j->w, &j->c, g, row, n), 1);
    j->given |= given;
    (void)pthread_mutex_unlock(&j->lock);
}

static void *load_thread(void *ctx) {
    const loader *l = ctx;
    uint64_t row = 0, n = 0;
    (void)pthread_mutex_lock(&l->job->lock);
    keep(l->job, oct_cuda_enter(l->job->s->dev), 1);
    (void)pthread_mutex_unlock(&l->job->lock);
    while (take_rows(l->job, &row, &n)) load_part(l->job, l->stage, row, n);
    return NULL;
}

/* One thread each stage, fewer on a small machine or for few parts; this one is one of them. */
static void run_loaders(load *j, oct_cuda_stages *stages) {
    const uint64_t n_parts = oct_blocks_of(oct_cuda_weight_rows(j->w), j->c.most);
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    loader l[N_STAGES] = {{0}};
    for (unsigned i = 0; i < N_STAGES; i++) {
        l[i].job = j;
        l[i].stage = &stages->at[i];
        if (i > 0 && i < n_parts && (long)i < cores)
            l[i].runs = pthread_create(&l[i].thread, NULL, load_thread, &l[i]) == 0;
    }
    (void)load_thread(&l[0]);
    for (unsigned i = 1; i < N_STAGES; i++)
        if (l[i].runs) (void)pthread_join(l[i].thread, NULL);
}

int32_t oct_cuda_weight_load(octet_device *dev, octet_weight handle,
                             const octet_weight_reader *reader) {
    octet_stream *s = NULL;
    oct_cuda_stages *stages = NULL;
    CUDA_TRY(oct_cuda_enter(dev));
    oct_cuda_weight *w = oct_cuda_weight_get(dev, handle, "weight_load");
    if (!w) return OCTET_E_INVALID;
    if (reader->struct_bytes < sizeof *reader || !reader->read)
        return oct_cuda_fail(dev, OCTET_E_INVALID, "weight: no reader, or one that is too small");
    CUDA_TRY(oct_cuda_side_stream(dev, &s));
    CUDA_TRY(stages_of(dev, &stages));
    /* All rows come: which planes hold anything is found anew. */
    if (w->all.planes) CU_TRY(dev, cuMemsetD8Async, w->all.planes, 0, 4, s->stream);
    load j = {.s = s,
              .w = w,
              .reader = reader,
              .c = cut_of(w, N_STAGES),
              .lock = PTHREAD_MUTEX_INITIALIZER};
    run_loaders(&j, stages);
    (void)pthread_mutex_destroy(&j.lock);
    const int32_t waited = oct_cuda_stream_wait(s);
    if (j.code != OCTET_OK) return j.code;
    note_given(w, j.given);
    return waited;
}
