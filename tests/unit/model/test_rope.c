/*
 * test_rope.c - inverse frequencies of each kind of rotary embedding, from config.json to the
 * numbers. The expected values were computed apart from octet, from the published formulas
 * (model/rope.h names them), and are good to the precision of a float32.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "model/rope.h"

static oct_rope_config rope_of(unsigned head_dim, const char *theta, unsigned max_position,
                               const char *scaling) {
    char text[1024];
    oct_model_config c;
    oct_err err = {0};
    snprintf(text, sizeof text,
             "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\","
             "\"vocab_size\": 32, \"hidden_size\": 64, \"intermediate_size\": 64,"
             "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
             "\"head_dim\": %u, \"rms_norm_eps\": 1e-6, \"rope_theta\": %s,"
             "\"max_position_embeddings\": %u, \"hidden_act\": \"silu\", \"rope_scaling\": %s}",
             head_dim, theta, max_position, scaling);
    if (oct_model_config_parse(oct_str_of(text), "config.json", &c, &err) != OCT_OK)
        fail_msg("%s", err.text);
    const oct_rope_config rope = c.rope;
    oct_model_config_fini(&c);
    assert_int_equal(rope.rotary_dim, head_dim);
    return rope;
}

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-7 * fabs(want))) fail_msg("got %.12g, want %.12g", got, want);
}

static void check_four(const oct_rope_config *rope, double f0, double f1, double f2, double f3) {
    const double want[4] = {f0, f1, f2, f3};
    double f[4];
    oct_rope_frequencies(rope, f);
    for (int i = 0; i < 4; i++) near(f[i], want[i]);
}

static void default_frequencies(void **s) {
    (void)s;
    const oct_rope_config r = rope_of(8, "10000", 4096, "null");
    check_four(&r, 1, 0.1, 0.01, 0.001);
    near(r.attention_factor, 1);
}

static void linear_divides_all(void **s) {
    (void)s;
    const oct_rope_config r =
        rope_of(8, "10000", 4096, "{\"rope_type\": \"linear\", \"factor\": 4}");
    check_four(&r, 0.25, 0.025, 0.0025, 0.00025);
}

/* Wavelengths 6.283, 62.83, 628.3, 6283: untouched, blended, divided, divided. */
static void llama3_keeps_short_waves(void **s) {
    (void)s;
    const oct_rope_config r =
        rope_of(8, "10000", 512,
                "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1,"
                "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}");
    check_four(&r, 1, 0.0130422562, 0.00125, 0.000125);
}

static void yarn_blends_between_its_corners(void **s) {
    (void)s;
    const oct_rope_config r = rope_of(8, "10000", 16384,
                                      "{\"rope_type\": \"yarn\", \"factor\": 4,"
                                      "\"original_max_position_embeddings\": 4096}");
    check_four(&r, 1, 0.1, 0.00625, 0.00025);
    near(r.attention_factor, 1.1386294361); /* 0.1 ln 4 + 1 */
}

/* The long-context setting that Qwen3's model cards give. */
static void yarn_of_qwen3(void **s) {
    (void)s;
    const oct_rope_config r = rope_of(128, "1000000", 131072,
                                      "{\"rope_type\": \"yarn\", \"factor\": 4.0,"
                                      "\"original_max_position_embeddings\": 32768}");
    double f[64];
    oct_rope_frequencies(&r, f);
    near(f[0], 1);
    near(f[20], 0.013335214);
    near(f[30], 0.00106436096);
    near(f[40], 4.44569851e-05);
    near(f[63], 3.10234441e-07);
}

/* By the longest context that is served, for all positions alike. */
static void longrope_is_settled_by_the_context(void **s) {
    (void)s;
    const char *text = "{\"rope_type\": \"longrope\", \"original_max_position_embeddings\": 64,"
                       "\"short_factor\": [1, 1, 1, 2], \"long_factor\": [4, 4, 4, 8]}";
    oct_rope_config r = rope_of(8, "10000", 512, text);
    near(r.attention_factor, 1.22474487139); /* sqrt(1 + ln 8 / ln 64) */
    oct_rope_settle(&r, 64);
    check_four(&r, 1, 0.1, 0.01, 0.0005);
    r = rope_of(8, "10000", 512, text);
    oct_rope_settle(&r, 65);
    check_four(&r, 0.25, 0.025, 0.0025, 0.000125);
}

/* Dynamic NTK: no other base up to the length of config.json, then one for the longest context. */
static void dynamic_is_settled_by_the_context(void **s) {
    (void)s;
    const char *text = "{\"rope_type\": \"dynamic\", \"factor\": 4}";
    oct_rope_config r = rope_of(8, "10000", 4096, text);
    assert_int_equal(r.original_max_position, 4096);
    near(r.attention_factor, 1);
    oct_rope_settle(&r, 4096);
    check_four(&r, 1, 0.1, 0.01, 0.001);
    r = rope_of(8, "10000", 4096, text);
    oct_rope_settle(&r, 8192);
    check_four(&r, 1, 0.05848035476, 0.003419951893, 0.0002);
    r = rope_of(8, "10000", 4096, text);
    oct_rope_settle(&r, 16384);
    check_four(&r, 1, 0.0425290370283, 0.00180871899055, 7.692307692e-05);
}

/* Cosines first, then sines, both times the attention factor. */
static void a_row_of_the_table(void **s) {
    (void)s;
    const double f[4] = {1, 0.1, 0.01, 0.001};
    const oct_rope_config r = {.rotary_dim = 8, .theta = 10000, .attention_factor = 1.5};
    float row[8];
    oct_rope_row(&r, f, 0, row);
    for (int i = 0; i < 8; i++) assert_true(row[i] == (i < 4 ? 1.5f : 0.0f));
    oct_rope_row(&r, f, 100, row);
    assert_true(row[0] == (float)(1.5 * cos(100.0)) && row[4] == (float)(1.5 * sin(100.0)));
    assert_true(row[3] == (float)(1.5 * cos(0.1)) && row[7] == (float)(1.5 * sin(0.1)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_frequencies),
        cmocka_unit_test(linear_divides_all),
        cmocka_unit_test(llama3_keeps_short_waves),
        cmocka_unit_test(yarn_blends_between_its_corners),
        cmocka_unit_test(yarn_of_qwen3),
        cmocka_unit_test(longrope_is_settled_by_the_context),
        cmocka_unit_test(dynamic_is_settled_by_the_context),
        cmocka_unit_test(a_row_of_the_table),
    };
    oct_log_set_level(OCT_LOG_OFF);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
