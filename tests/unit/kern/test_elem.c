/*
 * test_elem.c - the functions behind the row operations against double precision, and the edges of
 * the quantiser. That variants agree with the reference is kcheck's business.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kern/elem_math.h"
#include "tables.h"

static tables all;

/* Distance in units of the last place of the exact value. */
static double ulps(float got, double want) {
    const float near = (float)want;
    const double unit = (double)nextafterf(fabsf(near), INFINITY) - (double)fabsf(near);
    return fabs((double)got - want) / unit;
}

static void exp_within_one_and_a_bit_ulp(void **s) {
    (void)s;
    double worst = 0.0;
    float at = 0.0f;
    for (uint32_t u = 0; u < 0x42b17218u; u += 151) {
        for (int negative = 0; negative < 2; negative++) {
            const float x = oct_f32_from_bits(u | (negative ? 0x80000000u : 0));
            if (x < OCT_EXP_MIN || x > OCT_EXP_MAX) continue;
            const double e = ulps(oct_exp_f32(x), exp((double)x));
            if (e > worst) {
                worst = e;
                at = x;
            }
        }
    }
    printf("exp: worst %.3f ulp at %a\n", worst, (double)at);
    assert_true(worst < 1.1);
}

static void exp_ends(void **s) {
    (void)s;
    assert_true(oct_exp_f32(0.0f) == 1.0f);
    assert_true(oct_exp_f32(-0.0f) == 1.0f);
    assert_true(oct_exp_f32(-INFINITY) == 0.0f);
    assert_true(isinf(oct_exp_f32(INFINITY)));
    assert_true(isnan(oct_exp_f32(NAN)));
    assert_true(isfinite(oct_exp_f32(OCT_EXP_MAX)));
    assert_true(isinf(oct_exp_f32(nextafterf(OCT_EXP_MAX, INFINITY))));
    assert_true(oct_exp_f32(OCT_EXP_MIN) >= 0x1p-126f);
    assert_true(oct_exp_f32(nextafterf(OCT_EXP_MIN, -INFINITY)) == 0.0f);
    /* The softmax relies on this: weights never grow when the score falls. */
    float before = 1.0f;
    for (float x = 0.0f; x > -90.0f; x -= 0x1p-9f) {
        const float now = oct_exp_f32(x);
        assert_true(now <= before);
        before = now;
    }
}

static void activations_against_double(void **s) {
    (void)s;
    double silu = 0, gelu = 0, tanh_ = 0, cap = 0;
    for (float x = -30.0f; x < 30.0f; x += 0x1p-8f) {
        const double d = (double)x, scale = fabs(d) + 1e-3;
        const double u = sqrt(2.0 / 3.14159265358979323846) * (d + 0.044715 * d * d * d);
        silu = fmax(silu, fabs((double)oct_silu_f32(x) - d / (1.0 + exp(-d))) / scale);
        gelu = fmax(gelu, fabs((double)oct_gelu_f32(x) - d * 0.5 * erfc(-d * sqrt(0.5))) / scale);
        tanh_ = fmax(tanh_, fabs((double)oct_gelu_tanh_f32(x) - 0.5 * d * (1.0 + tanh(u))) / scale);
        cap = fmax(cap, fabs((double)oct_softcap_f32(x, 7.0f, 1.0f / 7.0f) - 7.0 * tanh(d / 7.0)));
    }
    printf("silu %.2e gelu %.2e gelu_tanh %.2e softcap %.2e\n", silu, gelu, tanh_, cap);
    /* A few roundings of the factor that multiplies x; 7 * a few roundings for the cap. */
    assert_true(silu < 3e-7 && gelu < 3e-7 && tanh_ < 3e-7);
    assert_true(cap < 7 * 3e-7);
    assert_true(isnan(oct_silu_f32(NAN)) && isnan(oct_gelu_f32(NAN)));
    assert_true(isnan(oct_gelu_tanh_f32(NAN)) && isnan(oct_relu_f32(NAN)));
    assert_true(isnan(oct_softcap_f32(NAN, 7.0f, 1.0f / 7.0f)));
}

static void norms_against_double(void **s) {
    (void)s;
    uint64_t seed = 11;
    enum { N = 577 };
    float x[N], add[N], w[N], b[N], y[N], z[N];
    for (int t = 0; t < all.n; t++) {
        double sum = 0, square = 0, variance = 0, want[N];
        for (int i = 0; i < N; i++) {
            x[i] = next_uniform(&seed) * 3.0f + 0.25f;
            add[i] = next_uniform(&seed);
            w[i] = next_uniform(&seed);
            b[i] = next_uniform(&seed);
            want[i] = (double)(x[i] + add[i]);
            sum += want[i];
            square += want[i] * want[i];
        }
        for (int i = 0; i < N; i++) variance += (want[i] - sum / N) * (want[i] - sum / N);
        memcpy(z, x, sizeof x);
        all.k[t].elem.rms_norm(y, z, add, w, b, N, 1e-6f);
        for (int i = 0; i < N; i++) {
            assert_true(z[i] == x[i] + add[i]);
            const double v = want[i] / sqrt(square / N + 1e-6) * (double)w[i] + (double)b[i];
            assert_true(fabs(v - (double)y[i]) < 1e-6 * (fabs(v) + 2));
        }
        all.k[t].elem.layer_norm(y, z, NULL, w, b, N, 1e-6f);
        for (int i = 0; i < N; i++) {
            const double v = (want[i] - sum / N) / sqrt(variance / N + 1e-6) * (double)w[i];
            assert_true(fabs(v + (double)b[i] - (double)y[i]) < 1e-6 * (fabs(v) + 2));
        }
    }
}

static void quantiser_edges(void **s) {
    (void)s;
    for (int t = 0; t < all.n; t++) {
        const oct_quant_row_fn quant = all.k[t].elem.quant_row;
        const oct_row_quant dynamic = {.mode = OCT_ROW_QUANT_DYNAMIC};
        int8_t q[6];

        const float ties[6] = {127.0f, -127.0f, 0.5f, 1.5f, 2.5f, -0.5f};
        assert_true(quant(q, ties, NULL, 6, &dynamic) == 1.0f);
        assert_memory_equal(q, ((int8_t[]){127, -127, 0, 2, 2, 0}), 6);

        const float zero[6] = {0.0f, -0.0f, 1e-31f, 0, 0, 0};
        assert_true(quant(q, zero, NULL, 6, &dynamic) == 0.0f);
        assert_memory_equal(q, ((int8_t[]){0, 0, 0, 0, 0, 0}), 6);

        const float infinite[6] = {1.0f, INFINITY, 2.0f, 0, 0, 0};
        assert_true(isnan(quant(q, infinite, NULL, 6, &dynamic)));
        assert_memory_equal(q, ((int8_t[]){0, 0, 0, 0, 0, 0}), 6);

        /* scale 2, offset 1.25: 0.5 + 1.25 rounds as one number before, 0 + 1 after. */
        const float x[6] = {1.0f, 1e9f, -1e9f, INFINITY, -256.0f, 3.0f};
        const oct_row_quant before = {OCT_ROW_QUANT_STATIC_BEFORE, 0.5f, 1.25f};
        const oct_row_quant after = {OCT_ROW_QUANT_STATIC_AFTER, 0.5f, 1.0f};
        assert_true(quant(q, x, NULL, 6, &before) == 1.0f);
        assert_memory_equal(q, ((int8_t[]){2, 127, -128, 127, -127, 3}), 6);
        assert_true(quant(q, x, NULL, 6, &after) == 1.0f);
        assert_memory_equal(q, ((int8_t[]){1, 127, -128, 127, -127, 3}), 6);

        const float lost[6] = {1.0f, NAN, 2.0f, 3.0f, 4.0f, 5.0f};
        assert_true(isnan(quant(q, lost, NULL, 6, &before)));
        assert_memory_equal(q, ((int8_t[]){0, 0, 0, 0, 0, 0}), 6);
        assert_true(isnan(quant(q, lost, NULL, 6, &dynamic)));
    }
}

/* The sums of a row are lanes of 16 folded in halves, and nothing else. */
static void row_sum_is_the_documented_tree(void **s) {
    (void)s;
    enum { N = 53 };
    uint64_t seed = 5;
    float x[N], lane[16] = {0}, w[N], y[N];
    for (int i = 0; i < N; i++) {
        x[i] = next_uniform(&seed) * 100.0f;
        w[i] = 1.0f;
        lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    }
    for (int l = 0; l < 8; l++) lane[l] += lane[l + 8];
    for (int l = 0; l < 4; l++) lane[l] += lane[l + 4];
    for (int l = 0; l < 2; l++) lane[l] += lane[l + 2];
    const float r = 1.0f / sqrtf((lane[0] + lane[1]) / (float)N + 1e-5f);
    for (int t = 0; t < all.n; t++) {
        all.k[t].elem.rms_norm(y, x, NULL, w, NULL, N, 1e-5f);
        for (int i = 0; i < N; i++) assert_true(y[i] == x[i] * r);
    }
}

static void rope_keeps_length(void **s) {
    (void)s;
    uint64_t seed = 3;
    for (int t = 0; t < all.n; t++) {
        float x[64], o[64], c[32], sn[32];
        for (int i = 0; i < 64; i++) x[i] = next_uniform(&seed);
        for (int i = 0; i < 32; i++) {
            const double angle = 1000.0 * pow(10000.0, -(double)i / 32.0);
            c[i] = (float)cos(angle);
            sn[i] = (float)sin(angle);
        }
        all.k[t].elem.rope(o, x, c, sn, 32);
        for (int i = 0; i < 32; i++) {
            const double a = hypot((double)x[i], (double)x[i + 32]);
            assert_true(fabs(a - hypot((double)o[i], (double)o[i + 32])) < 3e-7);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_within_one_and_a_bit_ulp),
        cmocka_unit_test(exp_ends),
        cmocka_unit_test(activations_against_double),
        cmocka_unit_test(norms_against_double),
        cmocka_unit_test(quantiser_edges),
        cmocka_unit_test(row_sum_is_the_documented_tree),
        cmocka_unit_test(rope_keeps_length),
    };
    tables_init(&all);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
