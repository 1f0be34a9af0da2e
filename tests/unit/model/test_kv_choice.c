/* test_kv_choice.c - the types of the cache: their names, which layers have which, what is refused,
 * and that no type lets a row see how its prompt was cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/tiny_model.h"

enum { N_LOGITS = TINY_TOKENS * TINY_VOCAB };

static const oct_model_options small = {.max_rows = 16, .max_seqs = 4, .quiet = true};

static void refuse(const char *folder, const oct_model_options *o, oct_status code,
                   const char *words) {
    oct_err err = {0};
    tiny t;
    assert_int_equal(tiny_try_open(&t, folder, 1, o, &err), code);
    expect_words(&err, words);
    assert_null(t.model);
    tiny_close(&t);
}

/* ---- names ---------------------------------------------------------------------------------- */

static void every_name_means_one_type(void **s) {
    (void)s;
    static const struct {
        const char *name;
        oct_kv_choice choice;
    } good[] = {{"auto", OCT_KV_AUTO},
                {"int8", OCT_KV_C8},
                {"c8", OCT_KV_C8},
                {"int8_per_channel", OCT_KV_C8},
                {"int8_per_token_head", OCT_KV_INT8_HEAD},
                {"fp8", OCT_KV_FP8},
                {"fp8_e4m3", OCT_KV_FP8},
                {"float16", OCT_KV_FLOAT16},
                {"bfloat16", OCT_KV_BFLOAT16},
                {"float32", OCT_KV_FLOAT32},
                {"float", OCT_KV_FLOAT32}};
    oct_err err = {0};
    for (size_t i = 0; i < OCT_COUNT(good); i++) {
        oct_kv_choice got = OCT_KV_AUTO;
        need(oct_kv_choice_parse(good[i].name, &got, &err), &err);
        assert_int_equal(got, good[i].choice);
    }
}

static void a_type_that_is_not_made_is_refused_with_its_reason(void **s) {
    (void)s;
    oct_kv_choice got;
    oct_err err = {0};
    assert_int_equal(oct_kv_choice_parse("fp8_e5m2", &got, &err), OCT_E_UNSUPPORTED);
    expect_words(&err, "--kv-cache-dtype fp8_e5m2: not made");
    err = (oct_err){0};
    assert_int_equal(oct_kv_choice_parse("nvfp4", &got, &err), OCT_E_UNSUPPORTED);
    err = (oct_err){0};
    assert_int_equal(oct_kv_choice_parse("int9", &got, &err), OCT_E_INVALID);
    expect_words(&err, "got \"int9\"");
    expect_words(&err, "int8_per_token_head");
}

/* ---- scales that are missing ---------------------------------------------------------------- */

static void F4_5_a_missing_scale_is_never_one(void **s) {
    (void)s;
    oct_model_options o = small;
    o.kv = OCT_KV_C8;
    refuse(TINY_FLOAT, &o, OCT_E_CORRUPT, "model.layers.0.self_attn: --kv-cache-dtype int8");
    refuse(TINY_FLOAT, &o, OCT_E_CORRUPT, "got none, want those of int8");
    o.kv = OCT_KV_FP8;
    refuse(TINY_FLOAT, &o, OCT_E_CORRUPT, "got none, want those of FP8");
    refuse(TINY_QUANTISED, &o, OCT_E_CORRUPT, "got scales of int8, want those of FP8");
}

/* ---- layers left out ------------------------------------------------------------------------ */

static void lists_of_layers(void **s) {
    (void)s;
    static const char *const bad[] = {"2",  "x",  "1-0", "",    "0,",
                                      "-1", "0-", "0-2", "0;1", "sliding"};
    oct_model_options o = small;
    for (size_t i = 0; i < OCT_COUNT(bad); i++) {
        o.kv_skip_layers = bad[i];
        refuse(TINY_QUANTISED, &o, OCT_E_INVALID,
               "--kv-cache-dtype-skip-layers: not a layer (got \"");
    }
}

static uint64_t block_bytes(const char *skip, oct_kv_choice kv, const char *scheme_has,
                            const char *scheme_lacks) {
    oct_model_options o = small;
    oct_err err = {0};
    tiny t;
    o.kv = kv;
    o.kv_skip_layers = skip;
    need(tiny_try_open(&t, TINY_QUANTISED, 1, &o, &err), &err);
    const oct_model_info *info = oct_model_get_info(t.model);
    if (scheme_has && !strstr(info->scheme, scheme_has)) fail_msg("%s", info->scheme);
    if (scheme_lacks && strstr(info->scheme, scheme_lacks)) fail_msg("%s", info->scheme);
    const uint64_t bytes = info->kv_bytes_per_block;
    tiny_close(&t);
    return bytes;
}

static void layers_of_one_model_may_differ(void **s) {
    (void)s;
    const uint64_t all = block_bytes(NULL, OCT_KV_AUTO, " + C8", "of 2");
    const uint64_t none = block_bytes("0-1", OCT_KV_AUTO, NULL, "C8");
    assert_int_equal(none, block_bytes(NULL, OCT_KV_FLOAT32, NULL, "C8"));
    assert_int_equal(block_bytes("1", OCT_KV_AUTO, "C8 in 1 of 2 layers", NULL), (all + none) / 2);
    assert_int_equal(block_bytes("sliding_window", OCT_KV_AUTO, " + C8", "of 2"), all);
    assert_int_equal(block_bytes(" 0 , 1 ", OCT_KV_AUTO, NULL, "C8"), none);
    /* 32 tokens, 2 layers of 2 heads: two scales each beside the same bytes. */
    const uint64_t scales = 32 * 2 * 2 * 2 * sizeof(float);
    assert_int_equal(block_bytes(NULL, OCT_KV_INT8_HEAD, "int8_per_token_head", NULL),
                     all + scales);
    assert_int_equal(block_bytes(NULL, OCT_KV_BFLOAT16, NULL, "C8"), none / 2);
    assert_int_equal(block_bytes(NULL, OCT_KV_FLOAT16, NULL, "C8"), none / 2);
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void logits_with(const char *folder, const oct_model_options *o, float *out) {
    oct_err err = {0};
    tiny t;
    need(tiny_try_open(&t, folder, 2, o, &err), &err);
    tiny_logits(&t, out);
    tiny_close(&t);
}

static void each_type_is_near_float_and_blind_to_chunks(void **s) {
    (void)s;
    static const struct {
        oct_kv_choice kv;
        const char *skip;
        double least, most; /* relative RMS to the float cache */
    } types[] = {{OCT_KV_BFLOAT16, NULL, 1e-7, 1e-2},
                 {OCT_KV_FLOAT16, NULL, 1e-7, 2e-3},
                 {OCT_KV_INT8_HEAD, NULL, 1e-6, 3e-2},
                 {OCT_KV_INT8_HEAD, "0", 1e-6, 3e-2}};
    static float want[N_LOGITS], got[N_LOGITS], cut[N_LOGITS];
    oct_model_options o = small;
    o.kv = OCT_KV_FLOAT32;
    logits_with(TINY_FLOAT, &o, want);
    for (size_t i = 0; i < OCT_COUNT(types); i++) {
        o = small;
        o.kv = types[i].kv;
        o.kv_skip_layers = types[i].skip;
        logits_with(TINY_FLOAT, &o, got);
        o.max_rows = 5;
        logits_with(TINY_FLOAT, &o, cut);
        assert_memory_equal(got, cut, sizeof got);
        const double rms = relative_rms(got, want, N_LOGITS);
        print_message("type %d%s: relative RMS %.2e\n", (int)types[i].kv,
                      types[i].skip ? ", a layer left out" : "", rms);
        assert_true(rms > types[i].least && rms < types[i].most);
    }
}

/* A prompt that is one step attends to its own rows: the cache's type does not show. */
static void prefill_kv_float_hides_the_type_from_a_prompt(void **s) {
    (void)s;
    static const oct_kv_choice types[] = {OCT_KV_BFLOAT16, OCT_KV_FLOAT16, OCT_KV_INT8_HEAD};
    static float want[N_LOGITS], got[N_LOGITS];
    oct_model_options o = {.max_rows = TINY_TOKENS,
                           .max_seqs = 1,
                           .max_logits = TINY_TOKENS,
                           .quiet = true,
                           .kv = OCT_KV_FLOAT32};
    logits_with(TINY_FLOAT, &o, want);
    o.prefill_kv_float = true;
    for (size_t i = 0; i < OCT_COUNT(types); i++) {
        o.kv = types[i];
        logits_with(TINY_FLOAT, &o, got);
        assert_memory_equal(want, got, sizeof want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_means_one_type),
        cmocka_unit_test(a_type_that_is_not_made_is_refused_with_its_reason),
        cmocka_unit_test(F4_5_a_missing_scale_is_never_one),
        cmocka_unit_test(lists_of_layers),
        cmocka_unit_test(layers_of_one_model_may_differ),
        cmocka_unit_test(each_type_is_near_float_and_blind_to_chunks),
        cmocka_unit_test(prefill_kv_float_hides_the_type_from_a_prompt),
    };
    oct_log_set_level(OCT_LOG_OFF);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
