/*
 * test_experts.c - a dense model rewritten as a mixture of copies of its MLP gives the dense
 * model's logits; what a mixture's files may lack is named.
 *
 * With `--real` the same is done with SmolLM2-135M from the folder of downloaded models, where it
 * is (about a gigabyte is written and removed); without the file that is a visible skip.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "support/tiny_model.h"

#include "support/mixture.h"

enum { REAL_TOKENS = 24 };

static const oct_model_options small = {.max_rows = 64, .max_seqs = 4, .quiet = true};

static void take(void *ctx, uint32_t first, uint32_t n_rows, const float *logits) {
    float **at = ctx;
    (void)first;
    const size_t n = (size_t)n_rows * (size_t)(uintptr_t)at[1];
    memcpy(at[0], logits, n * sizeof *logits);
    at[0] += n;
}

/* Logits of a fixed sequence; the caller frees them. */
static float *logits_of(const char *path, uint32_t n_tokens, oct_model_quant quant,
                        uint32_t *n_vocab) {
    oct_model_options o = small;
    int32_t tokens[64];
    oct_err err = {0};
    oct_runner *r;
    tiny t;
    o.quant = quant;
    o.max_model_len = 128;
    need(tiny_try_open(&t, path, 2, &o, &err), &err);
    *n_vocab = oct_model_get_info(t.model)->n_vocab;
    float *out = malloc((size_t)n_tokens * *n_vocab * sizeof *out);
    float *at[2] = {out, (float *)(uintptr_t)*n_vocab};
    for (uint32_t i = 0; i < n_tokens; i++) tokens[i] = tiny_token((int)i);
    need(oct_runner_create(oct_system_allocator(), t.model, &r, &err), &err);
    need(oct_runner_logits(r, tokens, n_tokens, take, at, &err), &err);
    oct_runner_destroy(r);
    tiny_close(&t);
    return out;
}

static void write_mixture(const char *from, const mixture_options *o) {
    oct_checkpoint *ckpt;
    oct_err err = {0};
    need(oct_checkpoint_open(oct_system_allocator(), from, &ckpt, &err), &err);
    mixture_write(ckpt, tiny_folder, o);
    oct_checkpoint_close(ckpt);
}

static void same_logits(const char *dense, uint32_t n_tokens, oct_model_quant quant) {
    uint32_t n_vocab, n_vocab_too;
    float *want = logits_of(dense, n_tokens, quant, &n_vocab);
    float *got = logits_of(tiny_folder, n_tokens, quant, &n_vocab_too);
    assert_int_equal(n_vocab, n_vocab_too);
    const double rms = relative_rms(got, want, (size_t)n_tokens * n_vocab);
    print_message("%s%s: relative RMS %.2e\n", dense, quant == OCT_QUANT_INT8 ? ", int8" : "", rms);
    /* int8: the residual's last bit may turn a rounding of the next layer's input. */
    assert_true(rms < (quant == OCT_QUANT_INT8 ? 2e-2 : 3e-6));
    free(want);
    free(got);
}

static void copies_of_an_mlp_give_its_logits(void **state) {
    (void)state;
    write_mixture(TINY_FLOAT, NULL);
    same_logits(TINY_FLOAT, TINY_TOKENS, OCT_QUANT_AS_STORED);
    same_logits(TINY_FLOAT, TINY_TOKENS, OCT_QUANT_INT8);
}

static void facts_of_a_mixture(void **state) {
    (void)state;
    oct_err err = {0};
    tiny t;
    write_mixture(TINY_FLOAT, NULL);
    need(tiny_try_open(&t, tiny_folder, 1, &small, &err), &err);
    const oct_model_info *i = oct_model_get_info(t.model);
    assert_string_equal(i->family, "mixtral");
    /* two layers of q, o 64 x 64, k, v 32 x 64, a router of 4 rows and two experts of three */
    assert_int_equal(i->linear_macs, 2 * (192 * 64 + 4 * 64 + 2 * 3 * 160 * 64));
    tiny_close(&t);
}

static void refuse(const mixture_options *o, oct_status want, const char *words) {
    oct_err err = {0};
    tiny t;
    write_mixture(TINY_FLOAT, o);
    const oct_status st = tiny_try_open(&t, tiny_folder, 1, &small, &err);
    tiny_close(&t);
    assert_int_equal(st, want);
    expect_words(&err, words);
}

static void ST10_a_missing_expert_or_router_is_named(void **state) {
    (void)state;
    static const char *const names[] = {"model.layers.1.block_sparse_moe.experts.3.w2.weight",
                                        "model.layers.0.block_sparse_moe.experts.0.w1.weight",
                                        "model.layers.1.block_sparse_moe.gate.weight"};
    for (size_t i = 0; i < OCT_COUNT(names); i++)
        refuse(&(mixture_options){.left_out = names[i]}, OCT_E_CORRUPT, names[i]);
    refuse(&(mixture_options){.more_json = ",\"num_local_experts\":5"}, OCT_E_CORRUPT,
           "block_sparse_moe.gate.weight");
}

static void experts_stored_differently_are_refused_by_name(void **state) {
    (void)state;
    const char *odd = "model.layers.1.block_sparse_moe.experts.2.w3.weight";
    refuse(&(mixture_options){.narrow = odd}, OCT_E_UNSUPPORTED, odd);
    refuse(&(mixture_options){.narrow = odd}, OCT_E_UNSUPPORTED, "stored differently");
}

static const char *real_model(void) {
    static char path[2048];
    struct stat st;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    snprintf(path, sizeof path, "%s%s/octet/SmolLM2-135M-Instruct.Q4_1.gguf",
             cache  ? cache
             : home ? home
                    : "",
             cache ? "" : "/.cache");
    if (stat(path, &st) == 0) return path;
    printf("SKIPPED: no %s\n", path);
    return NULL;
}

static void smollm2_as_a_mixture_gives_its_logits(void **state) {
    (void)state;
    const char *path = real_model();
    if (!path) skip();
    write_mixture(path, NULL);
    same_logits(path, REAL_TOKENS, OCT_QUANT_AS_STORED);
}

int main(int argc, char **argv) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, tiny_make_folder, tiny_remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(copies_of_an_mlp_give_its_logits),
        TEST(facts_of_a_mixture),
        TEST(ST10_a_missing_expert_or_router_is_named),
        TEST(experts_stored_differently_are_refused_by_name),
    };
    const struct CMUnitTest real[] = {TEST(smollm2_as_a_mixture_gives_its_logits)};
    if (argc > 1 && strcmp(argv[1], "--real") == 0)
        return cmocka_run_group_tests_name("a real mixture", real, NULL, NULL);
    return cmocka_run_group_tests_name("experts", tests, NULL, NULL);
}
