/*
 * test_quantize_families.c - every family becomes int8, from a folder and from the GGUF file made
 * of it: the result computes nearly what the source did, and the same from both.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "quantize/quantize.h"
#include "support/byte_tokenizer.h"
#include "support/golden.h"
#include "support/tiny_model.h"

#include "support/gguf_model.h"

enum { N_LOGITS = TINY_TOKENS * TINY_VOCAB };

static void quantise(const char *source, const char *overrides, const oct_quantize_options *o,
                     const char *result) {
    const oct_device_options od = {.n_threads = 1, .bind_threads = 1};
    const oct_allocator *mem = oct_system_allocator();
    oct_quantize_report report;
    oct_device *device;
    oct_checkpoint *ckpt;
    oct_err err = {0};
    oct_tokenizer *tok = byte_tokenizer();
    need(oct_device_open(mem, "cpu", &od, &device, &err), &err);
    need(oct_checkpoint_open_with(mem, source, overrides, &ckpt, &err), &err);
    need(oct_quantize(mem, device, ckpt, tok, result, o, &report, &err), &err);
    oct_tokenizer_destroy(tok);
    oct_checkpoint_close(ckpt);
    oct_device_close(device);
}

/* strict: what is written must all be used. */
static void logits_of(const char *path, const char *overrides, float *out) {
    const oct_model_options o = {.max_rows = 64, .max_seqs = 1, .strict = true, .quiet = true};
    const oct_device_options od = {.n_threads = 1, .bind_threads = 1};
    const oct_allocator *mem = oct_system_allocator();
    oct_err err = {0};
    tiny t = {0};
    need(oct_device_open(mem, "cpu", &od, &t.device, &err), &err);
    need(oct_checkpoint_open_with(mem, path, overrides, &t.ckpt, &err), &err);
    need(oct_model_load(mem, t.device, t.ckpt, &o, &t.model, &err), &err);
    tiny_logits(&t, out);
    tiny_close(&t);
}

/* overrides: what a GGUF file cannot say. far: the largest distance from the float model. */
static void check(const char *folder, const char *overrides, const oct_quantize_options *o,
                  double far) {
    static float want[N_LOGITS], one[N_LOGITS], two[N_LOGITS];
    char file[128], from_folder[128], from_file[128], command[320];
    snprintf(file, sizeof file, "%s/m.gguf", tiny_folder);
    snprintf(from_folder, sizeof from_folder, "%s/one", tiny_folder);
    snprintf(from_file, sizeof from_file, "%s/two", tiny_folder);
    snprintf(command, sizeof command, "rm -rf '%s' '%s'", from_folder, from_file);
    assert_int_equal(system(command), 0);
    gguf_write_folder(folder, overrides, &(gguf_options){0}, file);
    logits_of(folder, overrides, want);
    quantise(folder, overrides, o, from_folder);
    logits_of(from_folder, overrides, one);
    quantise(file, NULL, o, from_file);
    logits_of(from_file, NULL, two);
    const double rms = relative_rms(one, want, N_LOGITS), apart = relative_rms(two, one, N_LOGITS);
    print_message("  %-28s %-20s relative RMS %.4f, from GGUF %.1e apart\n",
                  strrchr(folder, '/') + 1, o->layout->name, rms, apart);
    assert_true(rms > 1e-4 && rms < far);
    /* 0, but for factors of rotation that are float32 in the file, which may turn a rounding; and
     * where a layout keeps the type of norms, which is another in the file, so are the factors of
     * smoothing. */
    assert_true(apart < (o->layout->keeps_vectors ? far : 2e-2));
}

static oct_quantize_options options_of(const oct_layout *layout, oct_quantize_scheme scheme) {
    static char text[512];
    oct_quantize_options o = oct_quantize_defaults;
    for (size_t i = 0; i < sizeof text; i++) text[i] = tiny_token((int)i);
    o.layout = layout;
    o.scheme = scheme;
    o.calib_text = (oct_str){text, sizeof text};
    return o;
}

static void the_model_of_our_own_tree(void **state) {
    const oct_quantize_options o = options_of(&oct_layout_modelslim, OCT_QUANTIZE_W8A8_DYNAMIC);
    (void)state;
    check(TINY_FLOAT, NULL, &o, 0.1);
}

/* The only settings that divisors can be told from. */
#define LLAMA3                                                                                    \
    "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_" \
    "factor\":4,\"original_max_position_embeddings\":8192}}"

static void every_family(void **state) {
    static const char *const names[] = {
        "families/mistral-window", "families/phi3",
        "families/phi3-longrope",  "families/gemma2",
        "families/gemma3-text",    "families/glm4",
        "families/olmo2",          "families/granite",
        "families/qwen2-moe",      "families/mixtral-window",
        "cases/llama-rope-llama3", "cases/qwen2-bias",
        "cases/qwen3-rope-yarn",   "cases/qwen3-moe-nonorm-dense1",
        "cases/minimax-m2",
    };
    const oct_quantize_options slim = options_of(&oct_layout_modelslim, OCT_QUANTIZE_W8A8_DYNAMIC),
                               fixed = options_of(&oct_layout_modelslim, OCT_QUANTIZE_W8A8),
                               other =
                                   options_of(&oct_layout_compressed, OCT_QUANTIZE_W8A8_DYNAMIC);
    char folder[4096];
    const char *root = golden_root();
    (void)state;
    if (!root) skip();
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        const char *overrides = strstr(names[i], "-llama3") ? LLAMA3 : gguf_overrides(names[i]);
        snprintf(folder, sizeof folder, "%s/%s", root, names[i]);
        check(folder, overrides, &slim, 0.3);
        check(folder, overrides, &fixed, 0.4);
        check(folder, overrides, &other, 0.3);
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, tiny_make_folder, tiny_remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(the_model_of_our_own_tree),
        TEST(every_family),
    };
    return cmocka_run_group_tests_name("families", tests, NULL, NULL);
}
