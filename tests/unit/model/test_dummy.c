/* test_dummy.c - presets and models of made-up weights: shapes, values, and that they run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/dummy.h"
#include "model/survey.h"
#include "store/presets.h"
#include "support/tiny_model.h"

enum { N_LOGITS = TINY_TOKENS * TINY_VOCAB };

static const char tiny_llama[] =
    "{\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":96,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":32,\"vocab_size\":256,\"bos_"
    "token_id\":null,\"eos_token_id\":null}";
static const char tiny_experts[] =
    "{\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":96,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":32,\"vocab_size\":256,\"bos_"
    "token_id\":null,\"eos_token_id\":null,"
    "\"num_experts\":4,\"num_local_experts\":4,\"num_experts_per_tok\":2,"
    "\"moe_intermediate_size\":32,\"rotary_dim\":16}";

static const oct_model_options small = {
    .max_rows = 16, .max_seqs = 4, .quiet = true, .max_model_len = 128};

static void open_made(const char *preset, const char *overrides, uint64_t seed,
                      oct_checkpoint **out) {
    oct_err err = {0};
    need(oct_dummy_open(oct_system_allocator(), preset, overrides, seed, out, &err), &err);
}

static void logits_of(const char *preset, const char *overrides, uint64_t seed, uint32_t threads,
                      float *out) {
    const oct_device_options od = {.n_threads = threads, .bind_threads = 2};
    oct_err err = {0};
    tiny t = {0};
    open_made(preset, overrides, seed, &t.ckpt);
    need(oct_device_open(oct_system_allocator(), "cpu", &od, &t.device, &err), &err);
    need(oct_model_load(oct_system_allocator(), t.device, t.ckpt, &small, &t.model, &err), &err);
    tiny_logits(&t, out);
    tiny_close(&t);
}

/* Total parameters as they are published with each model, in thousands of millions. */
static void presets_have_the_published_sizes(void **s) {
    (void)s;
    static const struct {
        const char *name;
        double total, active; /* 10^9, embedding and head counted; active 0: all */
    } rows[] = {
        {"qwen3-0.6b", 0.596, 0},       {"qwen3-4b", 4.022, 0},
        {"qwen3-8b", 8.191, 0},         {"qwen3-32b", 32.762, 0},
        {"qwen3-30b-a3b", 30.532, 3.3}, {"qwen3-235b-a22b", 235.094, 22},
        {"llama-3.1-8b", 8.030, 0},     {"llama-3.1-70b", 70.554, 0},
        {"minimax-m2", 228.690, 11},
    };
    const oct_device_options od = {.n_threads = 1, .bind_threads = 2};
    const oct_model_options o = {0};
    char name[64];
    oct_err err = {0};
    oct_device *device;
    oct_checkpoint *ckpt;
    oct_survey *survey;
    need(oct_device_open(oct_system_allocator(), "cpu", &od, &device, &err), &err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(name, sizeof name, "preset:%s", rows[i].name);
        assert_true(oct_preset_is(name));
        assert_non_null(strstr(oct_preset_names, rows[i].name));
        open_made(name, "{\"num_hidden_layers\":1}", 0, &ckpt);
        const uint32_t one = oct_checkpoint_config(ckpt)->n_layers;
        assert_int_equal(one, 1);
        oct_checkpoint_close(ckpt);
        open_made(name, NULL, 0, &ckpt);
        need(oct_survey_create(oct_system_allocator(), device, ckpt, &o, &survey, &err), &err);
        assert_int_equal(survey->n_refused, 0);
        assert_int_equal(survey->n_unused, 0);
        const double total = (double)survey->n_parameters / 1e9;
        if (fabs(total - rows[i].total) > 0.001 * rows[i].total + 0.0005)
            fail_msg("%s: %.4f", name, total);
        const double active = (double)survey->n_active / 1e9;
        if (rows[i].active != 0 && fabs(active - rows[i].active) > 0.03 * rows[i].active)
            fail_msg("%s: %.4f active", name, active);
        assert_int_equal(survey->stored_bytes,
                         2 * survey->n_parameters +
                             (strcmp(rows[i].name, "minimax-m2") == 0 ? 2ull * 256 * 62 : 0));
        oct_survey_destroy(survey);
        oct_checkpoint_close(ckpt);
    }
    oct_device_close(device);
}

static void unknown_presets_are_refused_with_a_list(void **s) {
    (void)s;
    oct_err err = {0};
    oct_checkpoint *ckpt;
    assert_int_equal(
        oct_dummy_open(oct_system_allocator(), "preset:qwen9-w8a8", NULL, 0, &ckpt, &err),
        OCT_E_INVALID);
    assert_null(ckpt);
    expect_words(&err, "qwen9");
    expect_words(&err, "minimax-m2");
}

static void bad_overrides_are_refused(void **s) {
    (void)s;
    static const struct {
        const char *json, *words;
        oct_status status;
    } rows[] = {{"[1]", "not a JSON object", OCT_E_INVALID},
                {"{", "--hf-overrides", OCT_E_INVALID},
                {"{\"num_hidden_layers\":0}", "num_hidden_layers", OCT_E_CORRUPT},
                {"{\"hidden_act\":\"tanh\"}", "hidden_act", OCT_E_UNSUPPORTED}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        oct_err err = {0};
        oct_checkpoint *ckpt;
        assert_int_equal(oct_dummy_open(oct_system_allocator(), "preset:qwen3-0.6b", rows[i].json,
                                        0, &ckpt, &err),
                         rows[i].status);
        expect_words(&err, rows[i].words);
    }
}

/* Any cut gives the same bytes, and other seeds and names give others. */
static void values_depend_on_seed_name_and_place_alone(void **s) {
    (void)s;
    static const char *const names[] = {"model.layers.0.mlp.gate_proj.weight",
                                        "model.layers.0.mlp.up_proj.weight",
                                        "model.layers.1.mlp.gate_proj.weight"};
    static unsigned char whole[96 * 64 * 2], cut[96 * 64 * 2], other[96 * 64 * 2];
    const char *storage[] = {"preset:llama-3.1-8b-bf16", "preset:llama-3.1-8b-w8a8"};
    const char odd[] = "{\"num_hidden_layers\":2,\"hidden_size\":60,\"intermediate_size\":96,"
                       "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":16,"
                       "\"vocab_size\":256,\"bos_token_id\":null,\"eos_token_id\":null}";
    oct_err err = {0};
    for (int i = 0; i < 2; i++) {
        oct_checkpoint *a, *b;
        open_made(storage[i], odd, 7, &a);
        open_made(storage[i], odd, 8, &b);
        const oct_tensor *t = oct_checkpoint_find(a, names[0]);
        assert_non_null(t);
        assert_int_equal(t->row_elems, 60);
        need(oct_checkpoint_read_raw(a, t, whole, &err), &err);
        for (uint64_t row = 0; row < t->n_rows;) {
            const uint64_t n = row % 7 + 1 < t->n_rows - row ? row % 7 + 1 : t->n_rows - row;
            need(oct_checkpoint_read_raw_rows(a, t, row, n, cut + row * t->row_bytes, &err), &err);
            row += n;
        }
        assert_memory_equal(whole, cut, t->bytes);
        for (int k = 1; k < 3; k++) {
            need(oct_checkpoint_read_raw(a, oct_checkpoint_find(a, names[k]), other, &err), &err);
            assert_memory_not_equal(whole, other, t->bytes);
        }
        need(oct_checkpoint_read_raw(b, oct_checkpoint_find(b, names[0]), other, &err), &err);
        assert_memory_not_equal(whole, other, t->bytes);
        uint64_t fa, fb;
        need(oct_checkpoint_fingerprint(a, &fa, &err), &err);
        need(oct_checkpoint_fingerprint(b, &fb, &err), &err);
        assert_true(fa != fb);
        oct_checkpoint_close(a);
        oct_checkpoint_close(b);
    }
}

/* Mean square of a matrix is 1 / k, in either storage. */
static void matrices_keep_the_size_of_what_they_multiply(void **s) {
    (void)s;
    enum { N = 96, K = 64 };
    static float rows[N * K], scale[N];
    static int8_t q[N * K];
    oct_checkpoint *ckpt;
    oct_err err = {0};
    double sum = 0;
    open_made("preset:llama-3.1-8b", tiny_llama, 1, &ckpt);
    const oct_tensor *t = oct_checkpoint_find(ckpt, "model.layers.0.mlp.up_proj.weight");
    need(oct_checkpoint_read_rows(ckpt, t, 0, N, rows, &err), &err);
    for (int i = 0; i < N * K; i++) sum += (double)rows[i] * (double)rows[i];
    assert_true(fabs(sum / N - 1) < 0.05);
    oct_checkpoint_close(ckpt);

    open_made("preset:llama-3.1-8b-w8a8c8", tiny_llama, 1, &ckpt);
    t = oct_checkpoint_find(ckpt, "model.layers.0.mlp.up_proj.weight");
    assert_int_equal(t->dtype, OCT_DTYPE_I8);
    need(oct_checkpoint_read_raw(ckpt, t, q, &err), &err);
    t = oct_checkpoint_find(ckpt, "model.layers.0.mlp.up_proj.weight_scale");
    need(oct_checkpoint_read_rows(ckpt, t, 0, N, scale, &err), &err);
    sum = 0;
    for (int i = 0; i < N * K; i++) sum += pow((double)q[i] * (double)scale[i / K], 2);
    assert_true(fabs(sum / N - 1) < 0.1);
    oct_checkpoint_close(ckpt);
}

static void same_seed_same_logits(void **s) {
    (void)s;
    static float one[N_LOGITS], two[N_LOGITS], other[N_LOGITS];
    static const struct {
        const char *preset, *overrides;
    } rows[] = {
        {"preset:llama-3.1-8b-bf16", tiny_llama},  {"preset:llama-3.1-8b-w8a8", tiny_llama},
        {"preset:qwen3-32b-w8a8c8", tiny_llama},   {"preset:qwen3-0.6b-w8a8c8", tiny_llama},
        {"preset:qwen3-30b-a3b", tiny_experts},    {"preset:qwen3-235b-a22b-w8a8c8", tiny_experts},
        {"preset:minimax-m2-w8a8c8", tiny_experts}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        double sum = 0;
        logits_of(rows[r].preset, rows[r].overrides, 5, 1, one);
        logits_of(rows[r].preset, rows[r].overrides, 5, 2, two);
        logits_of(rows[r].preset, rows[r].overrides, 6, 1, other);
        assert_memory_equal(one, two, sizeof one);
        assert_memory_not_equal(one, other, sizeof one);
        for (int i = 0; i < N_LOGITS; i++) {
            assert_true(isfinite(one[i]));
            sum += (double)one[i] * (double)one[i];
        }
        const double size = sqrt(sum / N_LOGITS);
        if (size < 0.2 || size > 5) fail_msg("%s: logits of size %g", rows[r].preset, size);
    }
}

static void folder_needs_config_only(void **s) {
    (void)s;
    static float one[N_LOGITS], two[N_LOGITS];
    char path[128];
    oct_err err = {0};
    oct_checkpoint *ckpt;
    tiny_copy_file(TINY_FLOAT, tiny_folder, "config.json");
    assert_int_equal(oct_checkpoint_open(oct_system_allocator(), tiny_folder, &ckpt, &err),
                     OCT_E_CORRUPT);
    logits_of(tiny_folder, NULL, 3, 1, one);
    logits_of(tiny_folder, NULL, 3, 2, two);
    assert_memory_equal(one, two, sizeof one);
    for (int i = 0; i < N_LOGITS; i++) assert_true(isfinite(one[i]));
    snprintf(path, sizeof path, "%s/config.json", tiny_folder);
    remove(path);
}

/* Refusing any one allocation gives a failure, no leak and no crash. */
static void memory_refused_at_any_point(void **s) {
    (void)s;
    for (size_t at = 0;; at++) {
        oct_fault_alloc f;
        oct_err err = {0};
        oct_checkpoint *ckpt;
        oct_fault_alloc_init(&f, at, 0);
        const oct_status st =
            oct_dummy_open(&f.allocator, "preset:qwen3-0.6b-w8a8c8", tiny_llama, 0, &ckpt, &err);
        if (st == OCT_OK) oct_checkpoint_close(ckpt);
        assert_int_equal(f.live_blocks, 0);
        if (st == OCT_OK && f.n_requests <= at) break;
        assert_true(st == OCT_OK || st == OCT_E_NOMEM);
        assert_true(at < 10000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_have_the_published_sizes),
        cmocka_unit_test(unknown_presets_are_refused_with_a_list),
        cmocka_unit_test(bad_overrides_are_refused),
        cmocka_unit_test(values_depend_on_seed_name_and_place_alone),
        cmocka_unit_test(matrices_keep_the_size_of_what_they_multiply),
        cmocka_unit_test(same_seed_same_logits),
        cmocka_unit_test(folder_needs_config_only),
        cmocka_unit_test(memory_refused_at_any_point),
    };
    return cmocka_run_group_tests(tests, tiny_make_folder, tiny_remove_folder);
}
