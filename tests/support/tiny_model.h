/*
 * tests/support/tiny_model.h - the small checkpoints of tests/data/models, loaded and run on the
 * CPU device; a folder of its own for each test that writes.
 *
 * Include after cmocka.h.
 */
#ifndef OCT_TESTS_TINY_MODEL_H
#define OCT_TESTS_TINY_MODEL_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/runner.h"

#define TINY_FLOAT OCT_TEST_DATA "/models/llama-tied"
#define TINY_QUANTISED OCT_TEST_DATA "/models/qwen3-modelslim-w8a8c8-offset"

enum { TINY_TOKENS = 48, TINY_VOCAB = 256 };

static inline void need(oct_status st, const oct_err *err) {
    if (st != OCT_OK) fail_msg("%s", err->text);
}

/* The sentence must hold the words. */
static inline void expect_words(const oct_err *err, const char *words) {
    if (!strstr(err->text, words)) fail_msg("sentence \"%s\" without \"%s\"", err->text, words);
}

typedef struct tiny {
    oct_device *device;
    oct_checkpoint *ckpt;
    oct_model *model;
} tiny;

static inline oct_status tiny_try_open(tiny *t, const char *folder, uint32_t n_threads,
                                       const oct_model_options *o, oct_err *err) {
    const oct_device_options od = {.n_threads = n_threads, .bind_threads = 2};
    *t = (tiny){0};
    need(oct_device_open(oct_system_allocator(), "cpu", &od, &t->device, err), err);
    need(oct_checkpoint_open(oct_system_allocator(), folder, &t->ckpt, err), err);
    return oct_model_load(oct_system_allocator(), t->device, t->ckpt, o, &t->model, err);
}

static inline void tiny_close(tiny *t) {
    oct_model_destroy(t->model);
    oct_checkpoint_close(t->ckpt);
    oct_device_close(t->device);
}

static inline void tiny_take(void *ctx, uint32_t first, uint32_t n_rows, const float *logits) {
    memcpy((float *)ctx + (size_t)first * TINY_VOCAB, logits,
           (size_t)n_rows * TINY_VOCAB * sizeof *logits);
}

/* A fixed sequence of printable bytes. */
static inline char tiny_token(int i) { return (char)(' ' + (3 + i * 37 + i * i * 5) % 95); }

/* Logits of the first TINY_TOKENS of them; out[TINY_TOKENS][TINY_VOCAB]. */
static inline void tiny_logits(tiny *t, float *out) {
    int32_t tokens[TINY_TOKENS];
    oct_runner *r;
    oct_err err = {0};
    assert_int_equal(oct_model_get_info(t->model)->n_vocab, TINY_VOCAB);
    for (int i = 0; i < TINY_TOKENS; i++) tokens[i] = tiny_token(i);
    need(oct_runner_create(oct_system_allocator(), t->model, &r, &err), &err);
    need(oct_runner_logits(r, tokens, TINY_TOKENS, tiny_take, out, &err), &err);
    oct_runner_destroy(r);
}

/* Root of the squared difference over that of the squared wanted values. */
static inline double relative_rms(const float *got, const float *want, size_t n) {
    double diff = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)got[i] - (double)want[i];
        diff += d * d;
        sum += (double)want[i] * (double)want[i];
    }
    return sqrt(diff / sum);
}

/* ---- files ---------------------------------------------------------------------------------- */

static char tiny_folder[64];

static inline int tiny_make_folder(void **state) {
    (void)state;
    oct_log_set_level(OCT_LOG_ERROR);
    snprintf(tiny_folder, sizeof tiny_folder, "%s/octet-tiny-XXXXXX", P_tmpdir);
    return mkdtemp(tiny_folder) ? 0 : -1;
}

static inline int tiny_remove_folder(void **state) {
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", tiny_folder);
    return system(command);
}

static inline void tiny_copy_file(const char *from_folder, const char *to_folder,
                                  const char *name) {
    char path[4096], *data = NULL;
    size_t n = 0, cap = 0, got;
    snprintf(path, sizeof path, "%s/%s", from_folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot be read", path);
    do {
        if (cap - n < 4096) data = realloc(data, cap = cap * 2 + 65536);
        got = fread(data + n, 1, cap - n, f);
        n += got;
    } while (got);
    fclose(f);
    snprintf(path, sizeof path, "%s/%s", to_folder, name);
    f = fopen(path, "wb");
    assert_true(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
    free(data);
}

#endif
