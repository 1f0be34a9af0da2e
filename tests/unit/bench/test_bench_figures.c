/* apps/bench: the generator against numbers of numpy 2 (default_rng), and the figures of a run
 * whose times are known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/figures.h"
#include "bench/random.h"

/* ---- the generator ---- */

static const struct {
    uint64_t seed, raw[4];
    int64_t lengths[5], ids[3]; /* integers(100, 1125, 5), integers(0, 49000, 3) */
} recorded[] = {
    {0,
     {11749869230777074271u, 4976686463289251617u, 755828109848996024u, 304881062738325533u},
     {971, 752, 623, 376, 415},
     {2007, 3686, 809}},
    {42,
     {14276969152011380360u, 8095878257575067585u, 15838336090824644132u, 12864169557245331597u},
     {191, 893, 770, 549, 543},
     {42071, 4211, 34171}},
    {123456789012345u,
     {9776902893865078502u, 819811936507288463u, 13970844376539046492u, 8708752497242287627u},
     {837, 643, 973, 145, 692},
     {37110, 17403, 23133}},
};

static void test_numbers_are_numpys(void **state) {
    (void)state;
    for (size_t k = 0; k < OCT_COUNT(recorded); k++) {
        bench_random r;
        bench_random_seed(&r, recorded[k].seed);
        for (int i = 0; i < 4; i++) assert_true(bench_random_u64(&r) == recorded[k].raw[i]);
        bench_random_seed(&r, recorded[k].seed);
        for (int i = 0; i < 5; i++)
            assert_int_equal(bench_random_in(&r, 100, 1124), recorded[k].lengths[i]);
        for (int i = 0; i < 3; i++)
            assert_int_equal(bench_random_in(&r, 0, 48999), recorded[k].ids[i]);
    }
}

/* Mean k s and variance k s^2: 200,000 draws lie within five standard errors. */
static void test_gamma_has_its_moments(void **state) {
    (void)state;
    const double shapes[] = {0.25, 1, 7.5}, scale = 0.4;
    enum { N = 200000 };
    bench_random r;
    bench_random_seed(&r, 1);
    for (size_t k = 0; k < OCT_COUNT(shapes); k++) {
        double sum = 0, squares = 0;
        const double mean = shapes[k] * scale, variance = shapes[k] * scale * scale;
        for (int i = 0; i < N; i++) {
            const double x = bench_random_gamma(&r, shapes[k], scale);
            assert_true(x > 0);
            sum += x;
            squares += (x - mean) * (x - mean);
        }
        /* The fourth central moment of a gamma is 3 v^2 (1 + 2 / shape). */
        const double spread = variance * sqrt(2 + 6 / shapes[k]);
        assert_true(fabs(sum / N - mean) < 5 * sqrt(variance / N));
        assert_true(fabs(squares / N - variance) < 5 * spread / sqrt(N));
    }
}

/* ---- figures ---- */

/* Two answers of five and of one token, and a failure. */
static void make_run(client_result r[3], double gaps[4]) {
    memset(r, 0, 3 * sizeof *r);
    for (int i = 0; i < 4; i++) gaps[i] = 0.01 * (i + 1);
    r[0] = (client_result){.ok = true,
                           .sent = 0.5,
                           .first = 0.7,
                           .last = 0.8,
                           .gaps = gaps,
                           .n_gaps = 4,
                           .n_prompt = 11,
                           .n_output = 5};
    r[1] = (client_result){
        .ok = true, .sent = 1.5, .first = 1.9, .last = 1.9, .n_prompt = -1, .n_output = 1};
    r[2] = (client_result){.sent = 1.6, .n_prompt = -1, .n_output = -1};
    strcpy(r[2].error, "HTTP 503");
}

static void test_figures_of_a_known_run(void **state) {
    (void)state;
    client_result r[3];
    double gaps[4];
    dataset_item items[3] = {{.n_prompt = 9}, {.n_prompt = 20}, {.n_prompt = 30}};
    const dataset d = {.items = items, .n = 3};
    figures_options o = {.goodput_ms = {[FIGURES_TTFT] = 300}, .goodput = true};
    figures f;
    oct_err err = {0};
    make_run(r, gaps);
    assert_int_equal(figures_make(&o, &d, r, 3, 2.0, NULL, &f, &err), OCT_OK);
    assert_int_equal(f.n_ok, 2);
    assert_int_equal(f.n_failed, 1);
    assert_int_equal(f.n_good, 1);
    assert_int_equal(f.n_input, 11 + 20); /* the server's count, else ours */
    assert_int_equal(f.n_output, 6);
    assert_int_equal(f.values[FIGURES_TPOT].n, 1); /* an answer of one token has none */
    assert_true(fabs(f.values[FIGURES_TPOT].at[0] - 25) < 1e-9);
    assert_int_equal(f.values[FIGURES_ITL].n, 4);
    assert_true(fabs(figures_percentile(&f.values[FIGURES_TTFT], 50) - 300) < 1e-9);
    assert_true(fabs(figures_percentile(&f.values[FIGURES_ITL], 50) - 25) < 1e-9);
    assert_true(fabs(figures_percentile(&f.values[FIGURES_ITL], 99) - 39.7) < 1e-9);
    assert_true(fabs(figures_percentile(&f.values[FIGURES_E2EL], 100) - 400) < 1e-9);
    /* Seconds count from the first request: five tokens in the first, one in the second. */
    assert_int_equal(f.peak_tokens, 5);
    assert_int_equal(f.peak_requests, 1);
    figures_free(&f);
}

static void test_percentiles_interpolate(void **state) {
    (void)state;
    double v[] = {1, 2, 4, 8};
    const figures_values some = {v, 4, 4}, one = {v, 1, 1}, none = {0};
    assert_true(figures_percentile(&some, 0) == 1);
    assert_true(figures_percentile(&some, 50) == 3);
    assert_true(fabs(figures_percentile(&some, 90) - 6.8) < 1e-12);
    assert_true(figures_percentile(&some, 100) == 8);
    assert_true(figures_percentile(&one, 99) == 1);
    assert_true(figures_percentile(&none, 99) == 0);
}

static void test_lists_are_read_whole(void **state) {
    (void)state;
    figures_options o = {0};
    assert_int_equal(figures_read_metrics("ttft,e2el", &o), -1);
    assert_true(o.shown[FIGURES_TTFT] && o.shown[FIGURES_E2EL] && !o.shown[FIGURES_ITL]);
    assert_int_equal(figures_read_metrics("ttft,nope", &o), EXIT_USAGE);
    assert_int_equal(figures_read_percentiles("50,99.9", &o), -1);
    assert_int_equal(o.n_percentiles, 2);
    assert_int_equal(figures_read_percentiles("101", &o), EXIT_USAGE);
    assert_int_equal(figures_read_percentiles("5x", &o), EXIT_USAGE);
    assert_int_equal(figures_read_goodput("tpot:50", &o), -1);
    assert_int_equal(figures_read_goodput("itl:50", &o), EXIT_USAGE);
    assert_int_equal(figures_read_goodput("tpot", &o), EXIT_USAGE);
    assert_int_equal(figures_read_goodput("tpot:-1", &o), EXIT_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_numpys),
        cmocka_unit_test(test_gamma_has_its_moments),
        cmocka_unit_test(test_figures_of_a_known_run),
        cmocka_unit_test(test_percentiles_interpolate),
        cmocka_unit_test(test_lists_are_read_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
