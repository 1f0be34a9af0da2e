/*
 * test_details.c - small tensors and settings of a checkpoint that change what a model computes, by
 * the section of the format notes: a model of the data folder with some tensors written otherwise.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/tiny_model.h"

#include "store/safetensors.h"
#include "store/safetensors_writer.h"

enum { N_LOGITS = TINY_TOKENS * TINY_VOCAB, MAX_CHANGES = 8 };

/* A vector that replaces one of the file, or comes to it. */
typedef struct change {
    const char *name;
    oct_dtype dtype; /* F32 or I32 */
    uint64_t n;
    const void *data;
} change;

static const change *find_change(const change *c, size_t n, oct_str name) {
    for (size_t i = 0; i < n; i++)
        if (oct_str_is(name, c[i].name)) return &c[i];
    return NULL;
}

static void write_all(const oct_safetensors *in, const change *c, size_t n, bool *done,
                      oct_safetensors_writer *out, bool writing) {
    oct_err err = {0};
    for (size_t i = 0; i < oct_safetensors_n(in) + n; i++) {
        const oct_tensor *t = i < oct_safetensors_n(in) ? oct_safetensors_at(in, i) : NULL;
        const change *by = t ? find_change(c, n, t->name) : &c[i - oct_safetensors_n(in)];
        if (!t && done[by - c]) continue; /* replaced one that was there */
        const oct_str name = t ? t->name : oct_str_of(by->name);
        if (t && by) done[by - c] = true;
        if (!writing) {
            need(oct_safetensors_writer_add(out, name, by ? by->dtype : t->dtype, by ? 1 : t->rank,
                                            by ? &by->n : t->shape, &err),
                 &err);
            continue;
        }
        void *data = by ? NULL : malloc(t->bytes);
        if (!by) need(oct_safetensors_read(in, t, data, &err), &err);
        need(oct_safetensors_writer_write(out, name, 0, by ? by->data : data,
                                          by ? 4 * by->n : t->bytes, &err),
             &err);
        free(data);
    }
}

/* The folder's model with these changes, in the test's folder. */
static void write_changed(const char *folder, const char *file, const change *c, size_t n) {
    const oct_allocator *mem = oct_system_allocator();
    bool done[MAX_CHANGES] = {false};
    char path[4096];
    oct_safetensors *in;
    oct_safetensors_writer *out;
    oct_err err = {0};
    assert_true(n <= MAX_CHANGES);
    tiny_copy_file(folder, tiny_folder, "config.json");
    snprintf(path, sizeof path, "%s/%s", folder, file);
    need(oct_safetensors_open(mem, path, &in, &err), &err);
    need(oct_safetensors_writer_create(mem, &out, &err), &err);
    snprintf(path, sizeof path, "%s/%s", tiny_folder, file);
    write_all(in, c, n, done, out, false);
    need(oct_safetensors_writer_begin(out, path, &err), &err);
    write_all(in, c, n, done, out, true);
    need(oct_safetensors_writer_finish(out, &err), &err);
    oct_safetensors_writer_destroy(out);
    oct_safetensors_close(in);
}

static void write_quantised(const change *c, size_t n) {
    tiny_copy_file(TINY_QUANTISED, tiny_folder, "quant_model_description.json");
    write_changed(TINY_QUANTISED, "quant_model_weights.safetensors", c, n);
}

static oct_status try_open(tiny *t, const char *overrides, oct_err *err) {
    const oct_model_options o = {.max_rows = 16, .max_seqs = 4, .strict = true, .quiet = true};
    const oct_device_options od = {.n_threads = 1, .bind_threads = 1};
    *err = (oct_err){0};
    *t = (tiny){0};
    need(oct_device_open(oct_system_allocator(), "cpu", &od, &t->device, err), err);
    need(oct_checkpoint_open_with(oct_system_allocator(), tiny_folder, overrides, &t->ckpt, err),
         err);
    return oct_model_load(oct_system_allocator(), t->device, t->ckpt, &o, &t->model, err);
}

/* strict: every tensor must have been used. */
static void logits_of(const char *overrides, float *out) {
    oct_err err;
    tiny t;
    need(try_open(&t, overrides, &err), &err);
    tiny_logits(&t, out);
    tiny_close(&t);
}

/* Anti-outlier recipes leave biases at any norm, those of q and k among them. */
static void F1_10_biases_of_every_norm(void **s) {
    static const char *const norms[] = {"model.layers.0.input_layernorm.bias",
                                        "model.layers.1.post_attention_layernorm.bias",
                                        "model.layers.0.self_attn.q_norm.bias",
                                        "model.layers.1.self_attn.k_norm.bias", "model.norm.bias"};
    static float want[N_LOGITS], got[N_LOGITS];
    float zeros[64] = {0}, values[64];
    (void)s;
    for (int i = 0; i < 64; i++) values[i] = (float)(i % 7 - 3) / 8;
    write_quantised(NULL, 0);
    logits_of(NULL, want);
    for (size_t i = 0; i < OCT_COUNT(norms); i++) {
        change c = {norms[i], OCT_DTYPE_F32, strstr(norms[i], "self_attn") ? 32 : 64, zeros};
        write_quantised(&c, 1);
        logits_of(NULL, got);
        assert_memory_equal(got, want, sizeof want);
        c.data = values;
        write_quantised(&c, 1);
        logits_of(NULL, got);
        if (relative_rms(got, want, N_LOGITS) < 1e-2) fail_msg("%s changes nothing", norms[i]);
        c.n = 16;
        write_quantised(&c, 1);
        oct_err err;
        tiny t;
        assert_int_equal(try_open(&t, NULL, &err), OCT_E_CORRUPT);
        tiny_close(&t);
        expect_words(&err, norms[i]);
    }
}

/* What is added to queries that match no key does nothing: k is 0 for all, with q's bias or not. */
static void F1_10_a_bias_of_q_reaches_only_the_scores(void **s) {
    static float want[N_LOGITS], got[N_LOGITS];
    float zeros[32] = {0}, values[32];
    (void)s;
    for (int i = 0; i < 32; i++) values[i] = (float)(i - 16);
    const change c[] = {{"model.layers.0.self_attn.k_norm.weight", OCT_DTYPE_F32, 32, zeros},
                        {"model.layers.1.self_attn.k_norm.weight", OCT_DTYPE_F32, 32, zeros},
                        {"model.layers.0.self_attn.q_norm.bias", OCT_DTYPE_F32, 32, values},
                        {"model.layers.1.self_attn.q_norm.bias", OCT_DTYPE_F32, 32, values}};
    write_quantised(c, 2);
    logits_of(NULL, want);
    write_quantised(c, 4);
    logits_of(NULL, got);
    assert_true(relative_rms(got, want, N_LOGITS) < 1e-5);
}

static void F0_1_a_bias_that_may_overflow(void **s) {
    static int32_t bias[128];
    oct_err err;
    tiny t;
    (void)s;
    bias[7] = INT32_MAX;
    const change c = {"model.layers.0.self_attn.q_proj.quant_bias", OCT_DTYPE_I32, 128, bias};
    write_quantised(&c, 1);
    const oct_status st = try_open(&t, NULL, &err);
    tiny_close(&t);
    assert_int_equal(st, OCT_E_CORRUPT);
    expect_words(&err,
                 "q_proj.quant_bias: index 7: the sum of a row could overflow (got 2147483647");
}

/* Rotated files say that the head is tied and have both: the head is what counts. */
static void F2_3_the_head_that_is_there_is_used(void **s) {
    static float head[TINY_VOCAB * 64], want[N_LOGITS], got[N_LOGITS];
    (void)s;
    write_changed(TINY_FLOAT, "model.safetensors", NULL, 0);
    logits_of(NULL, want);
    oct_checkpoint *ckpt;
    oct_err err = {0};
    need(oct_checkpoint_open(oct_system_allocator(), TINY_FLOAT, &ckpt, &err), &err);
    const oct_tensor *e = oct_checkpoint_find(ckpt, "model.embed_tokens.weight");
    need(oct_checkpoint_read_rows(ckpt, e, 0, TINY_VOCAB, head, &err), &err);
    assert_true(oct_checkpoint_config(ckpt)->tie_word_embeddings);
    oct_checkpoint_close(ckpt);
    for (size_t i = 0; i < OCT_COUNT(head); i++) head[i] *= -2;
    /* One long vector would not do: the head is a matrix. */
    char path[4096];
    oct_safetensors *in;
    oct_safetensors_writer *out;
    snprintf(path, sizeof path, "%s/model.safetensors", tiny_folder);
    need(oct_safetensors_open(oct_system_allocator(), TINY_FLOAT "/model.safetensors", &in, &err),
         &err);
    need(oct_safetensors_writer_create(oct_system_allocator(), &out, &err), &err);
    write_all(in, NULL, 0, NULL, out, false);
    need(oct_safetensors_writer_add(out, OCT_STR("lm_head.weight"), OCT_DTYPE_F32, 2,
                                    (const uint64_t[]){TINY_VOCAB, 64}, &err),
         &err);
    need(oct_safetensors_writer_begin(out, path, &err), &err);
    write_all(in, NULL, 0, NULL, out, true);
    need(oct_safetensors_writer_write(out, OCT_STR("lm_head.weight"), 0, head, sizeof head, &err),
         &err);
    need(oct_safetensors_writer_finish(out, &err), &err);
    oct_safetensors_writer_destroy(out);
    oct_safetensors_close(in);
    logits_of(NULL, got);
    for (size_t i = 0; i < N_LOGITS; i++) got[i] /= -2;
    assert_true(relative_rms(got, want, N_LOGITS) < 1e-6);
}

/* Up to the length of config.json nothing is scaled, and that is the context unless more is asked
 * for. */
static void dynamic_rope_starts_beyond_the_original_length(void **s) {
    static float want[N_LOGITS], got[N_LOGITS];
    static const char dynamic[] = "{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4}}";
    oct_err err;
    tiny t;
    (void)s;
    write_changed(TINY_FLOAT, "model.safetensors", NULL, 0);
    logits_of(NULL, want);
    logits_of(dynamic, got);
    assert_memory_equal(got, want, sizeof want);
    need(try_open(&t, dynamic, &err), &err);
    assert_int_equal(oct_model_get_info(t.model)->max_model_len, 256);
    oct_model_destroy(t.model);
    t.model = NULL;
    const oct_model_options o = {.max_rows = 16, .max_seqs = 4, .max_model_len = 1024};
    need(oct_model_load(oct_system_allocator(), t.device, t.ckpt, &o, &t.model, &err), &err);
    tiny_logits(&t, got);
    tiny_close(&t);
    assert_true(relative_rms(got, want, N_LOGITS) > 1e-3);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, tiny_make_folder, tiny_remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(F0_1_a_bias_that_may_overflow),
        TEST(F1_10_biases_of_every_norm),
        TEST(F1_10_a_bias_of_q_reaches_only_the_scores),
        TEST(F2_3_the_head_that_is_there_is_used),
        TEST(dynamic_rope_starts_beyond_the_original_length),
    };
    return cmocka_run_group_tests_name("details", tests, NULL, NULL);
}
