/*
 * device/cpu/memory.c - buffers, handles and scratch.
 *
 * A handle is (generation << 32 | slot + 1): a handle kept past its destroy names a generation that
 * is gone and is refused, instead of reading what came after.
 *
 * Large buffers come from the system, untouched: they read as zero and each page lands near the
 * thread that writes it first. Huge pages are asked for, because a matrix is read front to back in
 * every step and small pages would cost a walk each 4 KiB; as most matrices are smaller than a huge
 * page or end inside one, buffers lie side by side in runs of pages, and a run goes back to the
 * system with the last buffer in it. Small buffers come from the allocator, where the tools that
 * watch memory see their ends.
 */
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "device/cpu/cpu.h"

enum {
    SMALL_BYTES = 64 << 10, /* less comes from the allocator */
    RUN_BYTES = 64 << 20,   /* a run that buffers share; a buffer of half of that has its own */
    PAGE_BYTES = 4096,      /* no page of any machine we run on is smaller */
    HUGE_BYTES = 2 << 20,
    HOST_HEAD = 64, /* before what host_alloc gives: its size */
};

static oct_cpu_buffer *buffer_get(const octet_device *dev, octet_buffer buf) {
    const uint64_t slot = (buf & UINT32_MAX) - 1; /* 0 becomes huge */
    if (buf == 0 || slot >= dev->n_buffers) return NULL;
    oct_cpu_buffer *b = &dev->buffers[slot];
    return b->data && b->generation == buf >> 32 ? b : NULL;
}

static oct_cpu_buffer *free_slot(octet_device *dev) {
    for (size_t i = 0; i < dev->n_buffers; i++)
        if (!dev->buffers[i].data) return &dev->buffers[i];
    const size_t n = dev->n_buffers ? 2 * dev->n_buffers : 64;
    oct_cpu_buffer *more =
        n <= UINT32_MAX ? oct_grow(dev->mem, dev->buffers, dev->n_buffers, n, sizeof *more) : NULL;
    if (!more) return NULL;
    memset(more + dev->n_buffers, 0, (n - dev->n_buffers) * sizeof *more);
    oct_cpu_buffer *b = more + dev->n_buffers;
    dev->buffers = more;
    dev->n_buffers = n;
    return b;
}

/* Pages that start where a huge one may. A last piece that is no whole huge page stays small pages,
 * so that nothing is taken that was not asked for. */
static char *map_pages(uint64_t pages) {
    const uint64_t room = pages + HUGE_BYTES;
    char *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    const uint64_t before = (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
    if (before) munmap(p, before);
    munmap(p + before + pages, room - before - pages); /* at least a page of it */
    if (pages >= HUGE_BYTES)
        madvise(p + before, pages / HUGE_BYTES * HUGE_BYTES, MADV_HUGEPAGE); /* a wish */
    return p + before;
}

static oct_cpu_run *free_run(octet_device *dev) {
    for (size_t i = 0; i < dev->n_runs; i++)
        if (!dev->runs[i].data) return &dev->runs[i];
    const size_t n = dev->n_runs ? 2 * dev->n_runs : 16;
    oct_cpu_run *more =
        n <= UINT32_MAX ? oct_grow(dev->mem, dev->runs, dev->n_runs, n, sizeof *more) : NULL;
    if (!more) return NULL;
    memset(more + dev->n_runs, 0, (n - dev->n_runs) * sizeof *more);
    oct_cpu_run *r = more + dev->n_runs;
    dev->runs = more;
    dev->n_runs = n;
    return r;
}

/* Room behind what is taken in a run, or in a new one. Room is used once, so it reads as zero. */
static void *take_pages(octet_device *dev, uint64_t bytes, uint32_t *run) {
    const uint64_t lines = (bytes + 63) / 64 * 64;
    for (size_t i = 0; i < dev->n_runs; i++) {
        oct_cpu_run *r = &dev->runs[i];
        if (!r->data || r->bytes - r->taken < lines) continue;
        *run = (uint32_t)i;
        r->n_buffers++;
        r->taken += lines;
        return r->data + (r->taken - lines);
    }
    oct_cpu_run *r = free_run(dev);
    const uint64_t pages = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    const uint64_t size = bytes < RUN_BYTES / 2 ? RUN_BYTES : pages;
    char *data = r ? map_pages(size) : NULL;
    if (!data) return NULL;
    *r = (oct_cpu_run){.data = data, .bytes = size, .taken = lines, .n_buffers = 1};
    *run = (uint32_t)(r - dev->runs);
    return data;
}

static void give_pages(octet_device *dev, uint32_t run) {
    oct_cpu_run *r = &dev->runs[run];
    if (--r->n_buffers) return;
    munmap(r->data, r->bytes);
    r->data = NULL;
}

int32_t oct_cpu_buffer_create(octet_device *dev, uint64_t bytes, octet_buffer *out) {
    *out = 0;
    if (bytes == 0 || bytes > PTRDIFF_MAX)
        return CPU_FAIL(dev, OCT_E_INVALID, "buffer: bad size (got %llu bytes)",
                        (unsigned long long)bytes);
    oct_cpu_buffer *b = free_slot(dev);
    if (!b) return CPU_FAIL(dev, OCT_E_NOMEM, "buffer: no memory for its handle");
    const bool mapped = bytes >= SMALL_BYTES;
    uint32_t run = 0;
    void *data =
        mapped ? take_pages(dev, bytes, &run) : oct_calloc(dev->mem, (bytes + 63) / 64, 64);
    if (!data)
        return CPU_FAIL(dev, OCT_E_NOMEM, "buffer: no memory (want %llu bytes)",
                        (unsigned long long)bytes);
    b->data = data;
    b->bytes = bytes;
    b->mapped = mapped;
    b->run = run;
    *out = (uint64_t)b->generation << 32 | (uint64_t)(b - dev->buffers + 1);
    return OCTET_OK;
}

static void buffer_free(octet_device *dev, oct_cpu_buffer *b) {
    if (b->mapped)
        give_pages(dev, b->run);
    else
        oct_free(dev->mem, b->data, (b->bytes + 63) / 64, 64);
    b->data = NULL;
    b->generation++;
}

void oct_cpu_buffer_destroy(octet_device *dev, octet_buffer buf) {
    oct_cpu_buffer *b = buffer_get(dev, buf);
    if (b) buffer_free(dev, b);
}

void *oct_cpu_host_alloc(octet_device *dev, uint64_t bytes) {
    uint64_t whole = 0;
    if (!oct_add_u64(bytes, HOST_HEAD, &whole) || whole > PTRDIFF_MAX) return NULL;
    uint64_t *head = oct_calloc(dev->mem, whole, 1);
    if (!head) return NULL;
    *head = whole;
    return (char *)head + HOST_HEAD;
}

void oct_cpu_host_free(octet_device *dev, void *ptr) {
    if (!ptr) return;
    uint64_t *head = (uint64_t *)(void *)((char *)ptr - HOST_HEAD);
    oct_free(dev->mem, head, *head, 1);
}

void oct_cpu_memory_fini(octet_device *dev) {
    for (size_t i = 0; i < dev->n_buffers; i++)
        if (dev->buffers[i].data) buffer_free(dev, &dev->buffers[i]);
    oct_free(dev->mem, dev->buffers, dev->n_buffers, sizeof *dev->buffers);
    oct_free(dev->mem, dev->runs, dev->n_runs, sizeof *dev->runs);
    for (int i = 0; i < OCT_CPU_N_SCRATCH; i++)
        oct_free(dev->mem, dev->scratch[i].data, dev->scratch[i].bytes, 1);
}

/* ---- places ---------------------------------------------------------------------------------- */

int32_t oct_cpu_at(octet_device *dev, octet_ref ref, uint64_t bytes, uint64_t align,
                   const char *what, void *out) {
    const oct_cpu_buffer *b = buffer_get(dev, ref.buffer);
    if (!b) return CPU_FAIL(dev, OCT_E_INVALID, "%s: not a buffer of this device", what);
    if (ref.offset > b->bytes || bytes > b->bytes - ref.offset)
        return CPU_FAIL(dev, OCT_E_INVALID,
                        "%s: outside its buffer (got offset %llu and %llu bytes, want within %llu)",
                        what, (unsigned long long)ref.offset, (unsigned long long)bytes,
                        (unsigned long long)b->bytes);
    if (ref.offset % align)
        return CPU_FAIL(dev, OCT_E_INVALID,
                        "%s: misaligned (got offset %llu, want multiple of %llu)", what,
                        (unsigned long long)ref.offset, (unsigned long long)align);
    void *place = (char *)b->data + ref.offset;
    memcpy(out, &place, sizeof place); /* out is a pointer to some pointer */
    return OCTET_OK;
}

int32_t oct_cpu_at_optional(octet_device *dev, octet_ref ref, uint64_t bytes, uint64_t align,
                            const char *what, void *out) {
    void *none = NULL;
    memcpy(out, &none, sizeof none);
    return ref.buffer ? oct_cpu_at(dev, ref, bytes, align, what, out) : OCTET_OK;
}

int32_t oct_cpu_rows(octet_device *dev, octet_rows rows, uint64_t n_rows, uint64_t width,
                     const char *what, float **out) {
    uint64_t elements = 0, bytes = 0;
    *out = NULL;
    if (n_rows == 0) return OCTET_OK;
    if (n_rows > 1 && rows.stride < width)
        return CPU_FAIL(dev, OCT_E_INVALID, "%s: rows overlap (got stride %llu, want >= %llu)",
                        what, (unsigned long long)rows.stride, (unsigned long long)width);
    if (!oct_mul_u64(n_rows - 1, rows.stride, &elements) ||
        !oct_add_u64(elements, width, &elements) || !oct_mul_u64(elements, sizeof(float), &bytes))
        return CPU_FAIL(dev, OCT_E_INVALID, "%s: too large", what);
    return oct_cpu_at(dev, rows.data, bytes, sizeof(float), what, out);
}

int32_t oct_cpu_qrows(octet_device *dev, octet_qrows rows, uint64_t n_rows, uint64_t width,
                      const char *what, const char *what_scale, const int8_t **q,
                      const float **scale) {
    uint64_t bytes = 0;
    if ((n_rows > 1 && rows.stride < width) || !oct_mul_u64(n_rows - 1, rows.stride, &bytes) ||
        !oct_add_u64(bytes, width, &bytes))
        return CPU_FAIL(dev, OCT_E_INVALID, "%s: bad stride (got %llu, want >= %llu)", what,
                        (unsigned long long)rows.stride, (unsigned long long)width);
    CPU_TRY(oct_cpu_at(dev, rows.data, bytes, 1, what, q));
    return oct_cpu_at(dev, rows.scale, n_rows * sizeof(float), sizeof(float), what_scale, scale);
}

uint64_t oct_cpu_bytes_behind(octet_device *dev, octet_ref ref) {
    const oct_cpu_buffer *b = buffer_get(dev, ref.buffer);
    return b && ref.offset <= b->bytes ? b->bytes - ref.offset : 0;
}

/* ---- scratch --------------------------------------------------------------------------------- */

void *oct_cpu_scratch(octet_device *dev, oct_cpu_scratch_id id, uint64_t bytes) {
    if (bytes < 64) bytes = 64;
    if (dev->scratch[id].bytes < bytes) {
        oct_free(dev->mem, dev->scratch[id].data, dev->scratch[id].bytes, 1);
        dev->scratch[id].bytes = 0;
        dev->scratch[id].data = bytes <= PTRDIFF_MAX ? oct_alloc(dev->mem, bytes, 1) : NULL;
        if (!dev->scratch[id].data) {
            (void)CPU_FAIL(dev, OCT_E_NOMEM, "scratch: no memory (want %llu bytes)",
                           (unsigned long long)bytes);
            return NULL;
        }
        dev->scratch[id].bytes = bytes;
    }
#ifdef OCT_DEBUG
    memset(dev->scratch[id].data, 0xff, bytes); /* NaN: a value nobody wrote shows */
#endif
    return dev->scratch[id].data;
}
