/*
 * test_gguf.c - every family as llama.cpp's converter writes it: the logits of the GGUF file are
 * those of the folder that it was made from.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/golden.h"
#include "support/tiny_model.h"

#include "support/gguf_model.h"

/* Runs what lies at path; out[TINY_TOKENS][TINY_VOCAB]. */
static void logits_of(const char *path, const char *overrides, float *out) {
    const oct_model_options o = {.max_rows = 64, .max_seqs = 1, .quiet = true};
    const oct_device_options od = {.n_threads = 1, .bind_threads = 1};
    oct_err err = {0};
    tiny t = {0};
    need(oct_device_open(oct_system_allocator(), "cpu", &od, &t.device, &err), &err);
    need(oct_checkpoint_open_with(oct_system_allocator(), path, overrides, &t.ckpt, &err), &err);
    need(oct_model_load(oct_system_allocator(), t.device, t.ckpt, &o, &t.model, &err), &err);
    if (oct_checkpoint_unused(t.ckpt, NULL)) fail_msg("%s: tensors that nothing used", path);
    tiny_logits(&t, out);
    tiny_close(&t);
}

static char file[128];

static void write_file(const char *folder, const char *overrides, const gguf_options *o) {
    snprintf(file, sizeof file, "%s/m.gguf", tiny_folder);
    gguf_write_folder(folder, overrides, o, file);
}

static void same_as_folder(const char *folder, const char *overrides, bool joined) {
    static float want[TINY_TOKENS * TINY_VOCAB], got[TINY_TOKENS * TINY_VOCAB];
    write_file(folder, overrides, &(gguf_options){.joined = joined});
    logits_of(folder, overrides, want);
    logits_of(file, NULL, got);
    const double rms = relative_rms(got, want, TINY_TOKENS * TINY_VOCAB);
    print_message("  %-60s relative RMS %.2e%s\n", strrchr(folder, '/') + 1, rms,
                  joined ? ", gate and up joined" : "");
    assert_true(rms < 3e-6); /* factors of longrope are float32 in such a file; else 0 */
}

static void the_model_of_our_own_tree(void **state) {
    (void)state;
    same_as_folder(TINY_FLOAT, NULL, false);
}

static void every_family(void **state) {
    static const char *const names[] = {
        "families/mistral-window",
        "families/phi3",
        "families/phi3-longrope",
        "families/gemma2",
        "families/gemma3-text",
        "families/glm4",
        "families/olmo2",
        "families/granite",
        "families/qwen2-moe",
        "families/mixtral-window",
        "cases/llama-mha",
        "cases/llama-rope-llama3",
        "cases/llama-rope-linear",
        "cases/qwen2-bias",
        "cases/qwen3",
        "cases/qwen3-rope-yarn",
        "cases/mixtral",
        "cases/qwen3-moe",
        "cases/qwen3-moe-nonorm-dense1",
        "cases/minimax-m2",
    };
    char folder[4096];
    const char *root = golden_root();
    (void)state;
    if (!root) skip();
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        snprintf(folder, sizeof folder, "%s/%s", root, names[i]);
        same_as_folder(folder, gguf_overrides(names[i]), false);
        if (strcmp(names[i], "cases/qwen3-moe") == 0) same_as_folder(folder, NULL, true);
    }
}

/* ---- what such a file may be wrong in ---------------------------------------------------------
 */

static oct_status try_load(tiny *t, oct_err *err) {
    const oct_model_options o = {.max_rows = 16, .max_seqs = 1, .quiet = true};
    *err = (oct_err){0};
    return tiny_try_open(t, file, 1, &o, err);
}

static void refuse(const gguf_options *o, const char *words) {
    oct_err err;
    tiny t;
    write_file(TINY_FLOAT, NULL, o);
    const oct_status st = try_load(&t, &err);
    tiny_close(&t);
    assert_int_equal(st, OCT_E_CORRUPT);
    expect_words(&err, words);
}

/* Tensors are called as in folders, whatever the file calls them. */
static void ST10_missing_misshapen_and_unused(void **state) {
    (void)state;
    refuse(&(gguf_options){.left_out = "blk.1.ffn_down.weight"},
           "model.layers.1.mlp.down_proj.weight is missing");
    refuse(&(gguf_options){.left_out = "output_norm.weight"}, "model.norm.weight is missing");
    refuse(&(gguf_options){.turned = "blk.0.attn_k.weight"},
           "model.layers.0.self_attn.k_proj.weight: got BF16 [64, 32], want");
    oct_err err;
    tiny t;
    write_file(TINY_FLOAT, NULL, &(gguf_options){.added = "blk.0.odd.weight"});
    need(try_load(&t, &err), &err);
    oct_buf names;
    oct_buf_init(&names, oct_system_allocator(), 0);
    assert_int_equal(oct_checkpoint_unused(t.ckpt, &names), 1);
    assert_string_equal(oct_buf_cs(&names), "blk.0.odd.weight");
    oct_buf_fini(&names);
    tiny_close(&t);
    oct_checkpoint *c;
    write_file(TINY_FLOAT, NULL, &(gguf_options){.left_out = "token_embd.weight"});
    assert_int_equal(oct_checkpoint_open(oct_system_allocator(), file, &c, &err), OCT_E_CORRUPT);
    expect_words(&err, "m.gguf: token_embd.weight is missing");
}

static void ST11_norm_that_is_not_finite(void **state) {
    (void)state;
    refuse(&(gguf_options){.spoiled = "blk.1.ffn_norm.weight"},
           "m.gguf: tensor model.layers.1.post_attention_layernorm.weight: not finite at index 63");
    refuse(&(gguf_options){.spoiled = "output_norm.weight"},
           "tensor model.norm.weight: not finite at index 63");
}

/* Consistent in itself, but far from what the metadata says: refused before anything is made. */
static void ST9_rows_beyond_the_configuration(void **state) {
    (void)state;
    oct_checkpoint *c;
    oct_err err = {0};
    tiny t;
    snprintf(file, sizeof file, "%s/m.gguf", tiny_folder);
    need(oct_checkpoint_open(oct_system_allocator(), TINY_FLOAT, &c, &err), &err);
    oct_model_config wide = *oct_checkpoint_config(c);
    wide.intermediate = OCT_MAX_WIDTH;
    wide.n_layers = OCT_MAX_LAYERS;
    gguf_model_write(TINY_FLOAT, &wide, &(gguf_options){0}, file);
    oct_checkpoint_close(c);
    assert_int_equal(try_load(&t, &err), OCT_E_CORRUPT);
    tiny_close(&t);
    expect_words(&err, "model.layers.0.mlp.gate_proj.weight: got BF16 [160, 64], want");
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, tiny_make_folder, tiny_remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(the_model_of_our_own_tree),         TEST(every_family),
        TEST(ST9_rows_beyond_the_configuration), TEST(ST10_missing_misshapen_and_unused),
        TEST(ST11_norm_that_is_not_finite),
    };
    return cmocka_run_group_tests_name("gguf models", tests, NULL, NULL);
}
