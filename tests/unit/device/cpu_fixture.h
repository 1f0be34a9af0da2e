/*
 * tests/unit/device/cpu_fixture.h - an open CPU device with a stream: its calls judged, bytes to it
 * and from it, numbers that look random and are the same in each run.
 */
#ifndef OCT_CPU_FIXTURE_H
#define OCT_CPU_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "device/device.h"

typedef struct fixture {
    oct_device *d;
    octet_stream *s;
} fixture;

static inline fixture open_with(unsigned n_threads) {
    fixture f = {NULL, NULL};
    oct_err err = {.code = OCT_OK};
    const oct_device_options o = {.n_threads = n_threads, .bind_threads = 2};
    if (oct_device_open(oct_system_allocator(), "cpu", &o, &f.d, &err) != OCT_OK)
        fail_msg("%s", err.text);
    assert_int_equal(f.d->ops->stream_create(f.d->dev, &f.s), 0);
    return f;
}

static inline void finish(fixture *f) {
    f->d->ops->stream_destroy(f->s);
    oct_device_close(f->d);
}

static inline void good(const fixture *f, int32_t code) {
    oct_err err = {.code = OCT_OK};
    if (oct_device_check(f->d, code, "call", &err) != OCT_OK) fail_msg("%s", err.text);
}

/* The call must have failed with this status and words. */
static inline void bad(const fixture *f, int32_t code, oct_status want, const char *sentence) {
    oct_err err = {.code = OCT_OK};
    assert_int_equal(oct_device_check(f->d, code, "call", &err), want);
    if (!strstr(err.text, sentence)) fail_msg("got \"%s\", want \"%s\" in it", err.text, sentence);
}

/* A new buffer with these bytes; data NULL: zeros. */
static inline octet_ref put(const fixture *f, const void *data, size_t bytes) {
    octet_ref ref = {0, 0};
    good(f, f->d->ops->buffer_create(f->d->dev, bytes, &ref.buffer));
    if (data) good(f, f->d->ops->write(f->s, ref, data, bytes));
    return ref;
}

static inline void get(const fixture *f, void *to, octet_ref ref, size_t bytes) {
    good(f, f->d->ops->read(f->s, to, ref, bytes));
}

static uint32_t rng_state = 1;
static inline uint32_t rnd(void) {
    rng_state = rng_state * 1664525u + 1013904223u;
    return rng_state >> 8;
}
static inline float rndf(void) { return (float)rnd() / (float)(1 << 23) - 1.0f; }

#endif
