/*
 * apps/bench/bench_load.c - three ways through the same bytes, in turns: read into one small buffer
 * a thread, which is what the page cache gives; read into new memory, which is what it gives to
 * somebody who keeps the bytes, since the system must find and clear that memory; and a load, from
 * opening the files to weights that are ready, without KV cache. The best of the rounds is told,
 * because other programs only make a run slower.
 */
#include "bench_load.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/thread.h"
#include "device/cpu/pool.h"

enum { BUFFER_BYTES = 256 << 10, HUGE_BYTES = 2 << 20 };

typedef struct figures {
    uint64_t file_bytes, packed_bytes, peak_bytes;
    double read_s, read_new_s, load_s; /* of the best round */
} figures;

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct reader {
    oct_thread thread;
    const oct_checkpoint *ckpt;
    const cpu_set_t *cpus; /* an open device may have bound the thread that starts this one */
    unsigned char *buffer; /* BUFFER_BYTES */
    unsigned char *keep;   /* room for all files, or NULL */
    uint64_t begin, end;   /* as if the files lay one behind the other */
    oct_status status;
    oct_err err;
} reader;

static void *reader_run(void *arg) {
    reader *r = arg;
    uint64_t first = 0; /* of the file */
    sched_setaffinity(0, sizeof *r->cpus, r->cpus);
    for (size_t i = 0; i < oct_checkpoint_n_files(r->ckpt) && r->status == OCT_OK; i++) {
        const oct_file *f = oct_checkpoint_file_at(r->ckpt, i);
        const uint64_t behind = first + f->size;
        uint64_t at = r->begin > first ? r->begin : first;
        const uint64_t end = r->end < behind ? r->end : behind;
        for (; at < end && r->status == OCT_OK; at += BUFFER_BYTES) {
            const uint64_t n = end - at < BUFFER_BYTES ? end - at : BUFFER_BYTES;
            r->status =
                oct_file_read(f, at - first, r->keep ? r->keep + at : r->buffer, n, &r->err);
        }
        first = behind;
    }
    return NULL;
}

static oct_status read_side_by_side(reader *r, uint32_t n, double *seconds, oct_err *err) {
    oct_status st = OCT_OK;
    const uint64_t began = oct_now_ns();
    for (uint32_t i = 0; i < n && st == OCT_OK; i++)
        st = oct_thread_start(&r[i].thread, "bench-read", reader_run, &r[i], err);
    for (uint32_t i = 0; i < n; i++) oct_thread_join(&r[i].thread);
    *seconds = (double)(oct_now_ns() - began) / 1e9;
    for (uint32_t i = 0; i < n && st == OCT_OK; i++) {
        st = r[i].status;
        if (st != OCT_OK) *err = r[i].err;
    }
    return st;
}

/* New memory as the CPU device has it: huge pages where the system gives them. */
static unsigned char *new_memory(uint64_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes, MADV_HUGEPAGE); /* a wish */
    return p;
}

/* All bytes of all files, shared out over the threads. */
static oct_status read_files(const oct_checkpoint *ckpt, uint32_t n, const cpu_set_t *cpus,
                             bool keep, double *seconds, oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    uint64_t total = 0;
    oct_status st = OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    for (size_t i = 0; i < oct_checkpoint_n_files(ckpt); i++)
        total += oct_checkpoint_file_at(ckpt, i)->size;
    reader *r = oct_calloc(mem, n, sizeof *r);
    unsigned char *buffers = oct_calloc(mem, n, BUFFER_BYTES);
    unsigned char *kept = keep ? new_memory(total) : NULL;
    if (r && buffers && (kept || !keep)) {
        *err = (oct_err){0};
        for (uint32_t i = 0; i < n; i++)
            r[i] =
                (reader){.ckpt = ckpt,
                         .cpus = cpus,
                         .buffer = buffers + (size_t)i * BUFFER_BYTES,
                         .keep = kept,
                         .begin = total / n * i / HUGE_BYTES * HUGE_BYTES,
                         .end = i + 1 == n ? total : total / n * (i + 1) / HUGE_BYTES * HUGE_BYTES};
        st = read_side_by_side(r, n, seconds, err);
    }
    if (kept) munmap(kept, total);
    oct_free(mem, buffers, n, BUFFER_BYTES);
    oct_free(mem, r, n, sizeof *r);
    return st;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* A line of /proc/self/status in bytes ("VmHWM:"); 0: not told. */
static uint64_t process_bytes(const char *line_name) {
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, line_name, strlen(line_name)) == 0 &&
            sscanf(line + strlen(line_name), "%llu", &kib) == 1)
            break;
    fclose(f);
    return kib * 1024;
}

static oct_status load_once(oct_device *d, const oct_model_options *mo, const open_options *open,
                            const char *path, figures *f, double *seconds, oct_err *err) {
    oct_checkpoint *ckpt = NULL;
    oct_model *m = NULL;
    const uint64_t began = oct_now_ns();
    oct_status st = open_weights(open, path, &ckpt, err);
    if (st == OCT_OK) st = oct_model_load(oct_system_allocator(), d, ckpt, mo, &m, err);
    *seconds = (double)(oct_now_ns() - began) / 1e9;
    if (st == OCT_OK) f->packed_bytes = oct_model_get_info(m)->weight_bytes;
    oct_model_destroy(m);
    oct_checkpoint_close(ckpt);
    return st;
}

static oct_status measure(oct_device *d, const oct_model_options *mo, const load_options *l,
                          const open_options *open, const char *path, const oct_checkpoint *ckpt,
                          const cpu_set_t *cpus, uint32_t n_threads, figures *f, oct_err *err) {
    double s;
    const uint64_t before = process_bytes("VmRSS:");
    /* The first round brings the files into the page cache and is not counted, but for its memory:
     * nothing large was touched before. */
    OCT_TRY(load_once(d, mo, open, path, f, &s, err));
    const uint64_t peak = process_bytes("VmHWM:");
    f->peak_bytes = peak > before ? peak - before : 0;
    f->read_s = f->read_new_s = f->load_s = INFINITY;
    for (uint64_t i = 0; i < l->repeats; i++) {
        OCT_TRY(read_files(ckpt, n_threads, cpus, false, &s, err));
        f->read_s = fmin(f->read_s, s);
        OCT_TRY(read_files(ckpt, n_threads, cpus, true, &s, err));
        f->read_new_s = fmin(f->read_new_s, s);
        OCT_TRY(load_once(d, mo, open, path, f, &s, err));
        f->load_s = fmin(f->load_s, s);
    }
    return OCT_OK;
}

static void print(const oct_device *d, uint32_t n_threads, const load_options *o,
                  const figures *f) {
    const double bytes = (double)f->file_bytes, gb = bytes / 1e9;
    const double of_packed = (double)f->peak_bytes / (double)f->packed_bytes;
    if (o->json) {
        printf("{\"device\": \"%s\", \"threads\": %u, \"file_bytes\": %llu, \"packed_bytes\": "
               "%llu, \"peak_bytes\": %llu, \"peak_of_packed\": %.4f, \"read_gb_per_s\": %.3f, "
               "\"read_new_gb_per_s\": %.3f, \"load_s\": %.4f, \"load_gb_per_s\": %.3f, "
               "\"load_of_read\": %.4f, \"load_of_read_new\": %.4f}\n",
               d->info.name, n_threads, (unsigned long long)f->file_bytes,
               (unsigned long long)f->packed_bytes, (unsigned long long)f->peak_bytes, of_packed,
               gb / f->read_s, gb / f->read_new_s, f->load_s, gb / f->load_s, f->read_s / f->load_s,
               f->read_new_s / f->load_s);
        return;
    }
    printf("%s, %u threads, %.1f MB of files\n", d->info.name, n_threads, bytes / 1e6);
    printf("  read into one buffer a thread  %8.3f s  %7.2f GB/s\n", f->read_s, gb / f->read_s);
    printf("  read into new memory           %8.3f s  %7.2f GB/s\n", f->read_new_s,
           gb / f->read_new_s);
    printf("  load                           %8.3f s  %7.2f GB/s, %.1f %% of the first, %.1f %% of "
           "the second\n",
           f->load_s, gb / f->load_s, 100 * f->read_s / f->load_s, 100 * f->read_new_s / f->load_s);
    printf("  peak memory %.1f MB, packed weights %.1f MB: %.1f %%\n", (double)f->peak_bytes / 1e6,
           (double)f->packed_bytes / 1e6, 100 * of_packed);
}

int load_run(const open_options *open, const load_options *o, const char *path) {
    opened m = {0};
    oct_err err = {0};
    figures f = {0};
    cpu_set_t cpus;
    oct_checkpoint *ckpt = NULL;
    const uint32_t n_threads = oct_pool_count((unsigned)open->threads); /* nothing is bound yet */
    CPU_ZERO(&cpus);
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0)
        return cli_fail(EXIT_SYSTEM, "bench: no list of the processors that may be used");
    oct_model_options mo = {0};
    int status = open_model_options(open, &mo);
    if (status < 0) status = open_device(open, &m);
    if (status >= 0) return status;
    mo.quiet = true;
    mo.max_rows = mo.max_seqs = mo.max_logits = 1; /* the buffers of a step are no weights */
    oct_status st = open_weights(open, path, &ckpt, &err);
    if (st == OCT_OK && oct_checkpoint_n_files(ckpt) == 0)
        st = OCT_FAIL(&err, OCT_E_INVALID, "bench load: %s has no files to read", path);
    for (size_t i = 0; st == OCT_OK && i < oct_checkpoint_n_files(ckpt); i++)
        f.file_bytes += oct_checkpoint_file_at(ckpt, i)->size;
    if (st == OCT_OK) st = measure(m.device, &mo, o, open, path, ckpt, &cpus, n_threads, &f, &err);
    if (st == OCT_OK) print(m.device, n_threads, o, &f);
    oct_checkpoint_close(ckpt);
    opened_close(&m);
    return st == OCT_OK ? EXIT_CLEAN : cli_fail(cli_status_of(st), "%s", err.text);
}
